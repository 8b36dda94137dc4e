//! The server as a process, and what a test does to it. Nothing outlives its test, also when that panics.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Client;

/// How long a start or a stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// `nobody`: as root no permission would bite.
const NOBODY: u32 = 65_534;

/// Keys of the operator's, given to every server that calls a provider: whatever befalls it, nothing it says may have
/// them (F30).
const CANARIES: [(&str, &str); 2] = [
    ("OPENAI_API_KEY", "canary-openai-key-of-faults"),
    ("GEMINI_API_KEY", "canary-gemini-key-of-faults"),
];

/// Asks until there is an answer; panics when there is none in time.
pub(crate) fn until<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < patience, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// How to start a server.
pub(crate) struct Launch {
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    as_nobody: bool,
}

impl Launch {
    /// On a free port, with its databases in `data`.
    pub(crate) fn on(data: &Path) -> Self {
        let launch = Self {
            program: env!("CARGO_BIN_EXE_collodi").into(),
            args: vec!["serve".into(), "--addr".into(), "127.0.0.1:0".into()],
            envs: Vec::new(),
            as_nobody: false,
        };
        launch.arg("--data-dir").arg(data.to_str().unwrap())
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// As an unprivileged user, from a place that such a user can read.
    pub(crate) fn by_nobody(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self.as_nobody = is_root();
        self
    }

    /// With so many descriptors at most.
    pub(crate) fn with_descriptors(mut self, most: usize) -> Self {
        let program = std::mem::replace(&mut self.program, "/bin/bash".into());
        let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        let program = program.to_str().unwrap().to_owned();
        self.args.splice(0..0, ["-c".into(), limited, program]);
        self
    }

    /// Starts and waits for the banner.
    pub(crate) fn start(self) -> Result<Server, Refused> {
        let mut starting = self.spawn();
        match starting.banner.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Server { starting, address }),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = starting.child.wait().unwrap();
                Err(Refused { status, stderr: starting.stderr() })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("no banner within {PATIENCE:?}: {}", starting.stderr())
            }
        }
    }

    /// Starts and does not wait.
    pub(crate) fn spawn(self) -> Starting {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(self.envs);
        // Without a provider the offline demo model answers, and a key would be one.
        if self.args.iter().any(|arg| arg == "--openai-base-url") {
            command.envs(CANARIES);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, banner) = mpsc::channel();
        let shared = log.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let address = line.split("serves http://").nth(1);
                let address = address.and_then(|rest| rest.split('/').next()?.parse().ok());
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                if let Some(address) = address {
                    let _ = tell.send(address);
                }
            }
        });
        Starting { child, banner, log, reader: Some(reader) }
    }
}

/// A start that failed.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// A process that may not serve yet.
pub(crate) struct Starting {
    child: Child,
    banner: mpsc::Receiver<SocketAddr>,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Starting {
    fn stderr(&mut self) -> String {
        if let Some(reader) = self.reader.take_if(|_| matches!(self.child.try_wait(), Ok(Some(_))))
        {
            reader.join().unwrap();
        }
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let said = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let told = CANARIES.iter().find(|(_, canary)| said.contains(canary));
        assert!(thread::panicking() || told.is_none(), "f30: a key is in the log: {said}");
    }
}

/// A server that serves.
pub(crate) struct Server {
    starting: Starting,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.starting.child.id()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many descriptors are open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// How many of them are connections, or wait for some.
    pub(crate) fn sockets(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let is_socket = |path: PathBuf| {
            std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        all.filter(|entry| entry.as_ref().is_ok_and(|entry| is_socket(entry.path()))).count()
    }

    /// What it said so far.
    pub(crate) fn said(&mut self) -> String {
        self.starting.stderr()
    }

    /// `kill -9`.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Stops the way an operator does, and waits.
    pub(crate) fn stop(self) {
        assert_eq!(self.client().get("/healthz").unwrap().status, 200);
        let (status, stderr) = self.terminate();
        assert!(status.success(), "{status}: {stderr}");
    }

    /// `kill -TERM`, at once; how it ended, and what it said.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let child = &mut self.starting.child;
        let status = until(PATIENCE, "a graceful stop", || child.try_wait().unwrap());
        (status, self.starting.stderr())
    }
}
