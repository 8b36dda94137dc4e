//! The program's own commands, run for an operator of the page. They are those that one can type, so that both prove the
//! same, and they run as processes of their own: what goes wrong in one cannot hurt the server.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::problem::Failure;

/// Lines of a command that wait for a slow reader.
const WAITING_LINES: usize = 256;

/// How long a command may take; a disk that hangs must not keep others waiting for ever.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a command may take to end with the server.
const GOODBYE: Duration = Duration::from_secs(10);

/// How the program reaches what it works on.
#[derive(Debug)]
pub struct Program {
    /// The program itself.
    pub path: PathBuf,
    /// This server, with its prefix.
    pub target: String,
    /// Flags that name the databases, one list for each snapshot that is needed; none if they cannot be named.
    pub places: Vec<Vec<String>>,
    /// Folder of the snapshots.
    pub snapshots: PathBuf,
    /// One command at a time: they would be in each other's way.
    place: Arc<Semaphore>,
    /// Set when the server stops.
    stop: CancellationToken,
}

/// What a command said, and whether it was a go.
pub(crate) struct Said {
    pub(crate) is_go: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// The program at `path` that reaches its server at `target` and keeps its snapshots, one for each of `places`, in
    /// `snapshots`.
    #[must_use]
    pub fn new(
        path: PathBuf,
        target: String,
        places: Vec<Vec<String>>,
        snapshots: PathBuf,
    ) -> Self {
        let place = Arc::new(Semaphore::new(1));
        Self { path, target, places, snapshots, place, stop: CancellationToken::new() }
    }

    /// Runs commands one after the other to their end, whoever still listens, until one is no go. What they make in `scratch`
    /// goes when nobody waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        commands: &[Vec<&str>],
        token: &str,
        scratch: T,
    ) -> Result<(Vec<Said>, T), Failure> {
        let permit = self.permit()?;
        let commands: Vec<Command> =
            commands.iter().map(|arguments| self.command(arguments, token)).collect();
        let stop = self.stop.clone();
        let running = tokio::spawn(async move {
            let _permit = permit;
            let mut said = Vec::new();
            for mut command in commands {
                let child = command.spawn().map_err(|e| failed(&e))?;
                let id = child.id();
                let output = end_of(id, child.wait_with_output(), &stop).await.ok_or_else(late)?;
                let output = output.map_err(|e| failed(&e))?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                let (out, err) = (text(&output.stdout), text(&output.stderr));
                said.push(Said { is_go: output.status.success(), out, err });
                if !output.status.success() {
                    break;
                }
            }
            Ok((said, scratch))
        });
        running.await.map_err(|_| Failure::internal())?
    }

    /// Runs a command whose lines are handed on as they come. It goes on to its end when nobody listens any more, so that it
    /// takes away what it made.
    pub(crate) fn stream(
        &self,
        arguments: &[&str],
        token: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, std::io::Error>> + use<>, Failure> {
        let permit = self.permit()?;
        let mut command = self.command(arguments, token);
        // Progress is for terminals; nobody would read it here, and a full pipe stops whoever writes.
        let mut child = command.stderr(Stdio::null()).spawn().map_err(|e| failed(&e))?;
        let out = child.stdout.take().ok_or_else(Failure::internal)?;
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let id = child.id();
            let ended = async {
                let mut lines = BufReader::new(out).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let _ = sender.send(Ok(Bytes::from(line + "\n"))).await;
                }
                child.wait().await
            };
            match end_of(id, ended, &stop).await {
                // 1 is a no-go, which its lines have said.
                Some(Ok(status)) if matches!(status.code(), Some(0 | 1)) => {}
                ended => tracing::error!(?ended, "a command of an operator did not end well"),
            }
        });
        let next = async |mut receiver: mpsc::Receiver<_>| Some((receiver.recv().await?, receiver));
        Ok(futures_util::stream::unfold(receiver, next))
    }

    /// Asks what runs to end, waits until it has taken away what it made, and starts nothing any more. The server has to
    /// answer meanwhile.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        if tokio::time::timeout(GOODBYE, self.place.acquire()).await.is_err() {
            tracing::warn!("a command of an operator did not end with the server");
        }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if self.stop.is_cancelled() {
            let text = "the server is stopping";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", text));
        }
        let busy = "another command of an operator is running";
        let busy = |_| Failure::new(StatusCode::CONFLICT, "busy", busy);
        self.place.clone().try_acquire_owned().map_err(busy)
    }

    fn command(&self, arguments: &[&str], token: &str) -> Command {
        let mut command = Command::new(&self.path);
        // A group of its own: an interrupt at the server's terminal is for the server, which then ends what it runs.
        command.args(arguments).env_remove("COLLODI_TOKEN").kill_on_drop(true).process_group(0);
        if !token.is_empty() {
            command.env("COLLODI_TOKEN", token);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Waits for a command; none if it takes too long. When the server stops it is asked to end in good order.
async fn end_of<T>(
    id: Option<u32>,
    ended: impl Future<Output = T>,
    stop: &CancellationToken,
) -> Option<T> {
    let id = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let ask = async {
        stop.cancelled().await;
        // Its id is its own until somebody has waited for it, which is what `ended` does.
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        std::future::pending().await
    };
    let either = async {
        tokio::select! {
            ended = ended => ended,
            never = ask => never,
        }
    };
    tokio::time::timeout(LONGEST, either).await.ok()
}

fn late() -> Failure {
    let text = "the command did not end in time and was stopped";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "program", text)
}

fn failed(error: &std::io::Error) -> Failure {
    tracing::error!(%error, "failed to run a command of the program");
    let text = "the program of this server cannot be started; it may have been replaced since";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "program", text)
}
