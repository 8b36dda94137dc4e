//! Child processes: the server and the limits, pinned, killed when dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use collodi_profiles::json::sha256_hex;
use tempfile::TempDir;

use crate::sample::database_in;
use crate::settings::{LOAD_CORE, SERVER_CORE, Settings};

/// The token of every request.
pub(crate) const TOKEN: &str = "bench-token-bench-token-bench-token";
/// How long a start may take; under valgrind it takes a while.
const START: Duration = Duration::from_mins(2);

/// Where a child may run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the server's core, with one worker.
    Pinned,
    /// Anywhere, with two workers.
    Free,
}

/// A running child that listens.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Kept open: a child must not fail because nobody reads what it says.
    _said: BufReader<ChildStderr>,
    /// Its database, removed after it has ended.
    folder: Option<TempDir>,
}

/// Starts the server on the database in `folder`.
pub(crate) fn ours(settings: &Settings, folder: TempDir, place: Place) -> Result<Running> {
    ours_under(&[], settings, folder, place)
}

/// The same below another program, for example valgrind.
pub(crate) fn ours_under(
    wrapper: &[String],
    settings: &Settings,
    folder: TempDir,
    place: Place,
) -> Result<Running> {
    ours_with(wrapper, settings, folder, place, &[])
}

/// The same with further options.
pub(crate) fn ours_with(
    wrapper: &[String],
    settings: &Settings,
    folder: TempDir,
    place: Place,
    options: &[&str],
) -> Result<Running> {
    let tokens = folder.path().join("tokens.txt");
    std::fs::write(&tokens, format!("bench:editor:{}\n", sha256_hex(TOKEN)))?;
    let mut command = placed(place, wrapper, settings.server()?);
    command.args(["serve", "--addr", "127.0.0.1:0", "--log-level", "warn", "--data-dir"]);
    command.arg(folder.path()).arg("--auth-tokens").arg(&tokens).args(options);
    // No configuration of the person who runs this.
    command.env("XDG_CONFIG_HOME", folder.path());
    start(command, Some(folder))
}

/// Starts a limit of this program: `limit <arguments>`.
pub(crate) fn limit(arguments: &[&str], folder: Option<TempDir>, place: Place) -> Result<Running> {
    limit_under(&[], arguments, folder, place)
}

/// The same below another program.
pub(crate) fn limit_under(
    wrapper: &[String],
    arguments: &[&str],
    folder: Option<TempDir>,
    place: Place,
) -> Result<Running> {
    let this = std::env::current_exe().context("find this program")?;
    let mut command = placed(place, wrapper, &this);
    command.arg("limit").args(arguments);
    if let Some(folder) = &folder {
        command.arg(database_in(folder.path()));
    }
    start(command, folder)
}

fn placed(place: Place, wrapper: &[String], program: &Path) -> Command {
    let (cores, workers) = match place {
        Place::Pinned => (SERVER_CORE.to_owned(), "1"),
        Place::Free => (format!("{SERVER_CORE},{LOAD_CORE}"), "2"),
    };
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cores).args(wrapper).arg(program);
    command.env("TOKIO_WORKER_THREADS", workers);
    command
}

fn start(mut command: Command, folder: Option<TempDir>) -> Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start a child with taskset (util-linux)")?;
    let mut said = BufReader::new(child.stderr.take().context("a child has a standard error")?);
    let begun = Instant::now();
    let mut heard = String::new();
    let address = loop {
        let mut line = String::new();
        if said.read_line(&mut line)? == 0 || begun.elapsed() > START {
            let _ = child.kill();
            let _ = child.wait();
            bail!("a child did not start:\n{heard}");
        }
        if let Some(address) = address_in(&line) {
            break address;
        }
        heard.push_str(&line);
    };
    Ok(Running { child, address, _said: said, folder })
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split('/').next()?.trim().parse().ok()
}

impl Running {
    /// Processor time of all its threads so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let times = tasks.into_iter().flatten().flatten();
        times.map(|task| scheduled(&task.path().join("schedstat"))).sum()
    }

    /// Its resident memory in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(&path)?;
        let line = text.lines().find(|line| line.starts_with("Rss:")).context("no Rss")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    /// The folder of its databases.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Kills it without a word; its databases stay.
    pub(crate) fn kill(mut self) -> Result<TempDir> {
        self.child.kill()?;
        self.child.wait()?;
        self.folder.take().context("a server has a folder")
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has; its databases stay.
    pub(crate) fn stop(mut self) -> Result<TempDir> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().context("signal a child")?;
        self.child.wait()?;
        self.folder.take().context("a server has a folder")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of the calling thread.
pub(crate) fn own_time() -> Duration {
    scheduled(Path::new("/proc/thread-self/schedstat"))
}

fn scheduled(path: &Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

/// Pins the calling thread and those it starts later.
pub(crate) fn pin_this_thread(core: &str) -> Result<()> {
    let link = std::fs::read_link("/proc/thread-self")?;
    let id = link.file_name().context("a thread has an id")?.to_string_lossy().into_owned();
    pin(&id, core)
}

/// Pins the thread of this process with that name.
pub(crate) fn pin_thread_named(name: &str, core: &str) -> Result<()> {
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        // The kernel keeps 15 bytes of a name.
        if !comm.trim().is_empty() && name.starts_with(comm.trim()) {
            pin(&task.file_name().to_string_lossy(), core)?;
        }
    }
    Ok(())
}

fn pin(thread: &str, core: &str) -> Result<()> {
    let taskset = Command::new("taskset")
        .args(["-cp", core, thread])
        .stdout(Stdio::null())
        .status()
        .context("pin a thread with taskset (util-linux)")?;
    if !taskset.success() {
        bail!("taskset could not pin thread {thread} to core {core}");
    }
    Ok(())
}
