//! The program's own commands, run for an operator of the page. They are those that one can type, so that both prove the
//! same, and they run as processes of their own: what goes wrong in one cannot hurt the server.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::problem::Failure;

/// Lines of a command that wait for a slow reader.
const WAITING_LINES: usize = 256;

/// How long a command may take; a disk that hangs must not keep others waiting for ever.
const LONGEST: Duration = Duration::from_mins(10);

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
}

/// What a command said, and whether it was a go.
pub(crate) struct Said {
    pub(crate) is_go: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    #[must_use]
    #[expect(missing_docs, reason = "the fields say it")]
    pub fn new(
        path: PathBuf,
        target: String,
        places: Vec<Vec<String>>,
        snapshots: PathBuf,
    ) -> Self {
        Self { path, target, places, snapshots, place: Arc::new(Semaphore::new(1)) }
    }

    /// Runs a command to its end, whoever still listens. What it makes in `scratch` goes when nobody waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        arguments: &[&str],
        token: &str,
        scratch: T,
    ) -> Result<(Said, T), Failure> {
        let permit = self.permit()?;
        let child = self.command(arguments, token).spawn().map_err(|e| failed(&e))?;
        let waiting = tokio::spawn(async move {
            let _permit = permit;
            let output = tokio::time::timeout(LONGEST, child.wait_with_output()).await;
            (output, scratch)
        });
        let (output, scratch) = waiting.await.map_err(|_| Failure::internal())?;
        let output = output.map_err(|_| late())?.map_err(|e| failed(&e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Ok((Said { is_go: output.status.success(), out, err }, scratch))
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
        tokio::spawn(async move {
            let _permit = permit;
            let mut lines = BufReader::new(out).lines();
            let ended = async {
                while let Ok(Some(line)) = lines.next_line().await {
                    let _ = sender.send(Ok(Bytes::from(line + "\n"))).await;
                }
                child.wait().await
            };
            match tokio::time::timeout(LONGEST, ended).await {
                // 1 is a no-go, which its lines have said.
                Ok(Ok(status)) if matches!(status.code(), Some(0 | 1)) => {}
                ended => tracing::error!(?ended, "a command of an operator did not end well"),
            }
        });
        let next = async |mut receiver: mpsc::Receiver<_>| Some((receiver.recv().await?, receiver));
        Ok(futures_util::stream::unfold(receiver, next))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let busy = "another command of an operator is running";
        let busy = |_| Failure::new(StatusCode::CONFLICT, "busy", busy);
        self.place.clone().try_acquire_owned().map_err(busy)
    }

    fn command(&self, arguments: &[&str], token: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).env_remove("COLLODI_TOKEN").kill_on_drop(true);
        if !token.is_empty() {
            command.env("COLLODI_TOKEN", token);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
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
