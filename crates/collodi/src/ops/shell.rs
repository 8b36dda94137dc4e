//! Commands of the operator's, run by a shell.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

use super::verdict::{Check, Finding};

/// Of what a command said, so much is kept.
const SAID: usize = 16 * 1024;
/// How long a command may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(10);

/// A path as one word of a shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// How a command ended.
enum End {
    Itself(std::io::Result<ExitStatus>),
    Late,
    Interrupted,
}

/// Runs a command, and says what it said. What takes too long, or is interrupted, is asked to end and then made to.
pub(crate) async fn run(
    check: Check,
    command: &str,
    deadline: Duration,
    cancel: &CancellationToken,
) -> (Finding, String) {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).process_group(0);
    // A server that the command starts keeps its standard streams: a pipe would never end.
    let output = tempfile::NamedTempFile::new().and_then(|file| {
        let (out, err) = (file.reopen()?, file.reopen()?);
        shell.stdout(out).stderr(err);
        Ok(file)
    });
    let started = output.and_then(|output| Ok((shell.spawn()?, output)));
    let (mut child, output) = match started {
        Ok(started) => started,
        Err(error) => {
            return (
                check.error(format!("`{command}`: {error}")).of("this machine"),
                String::new(),
            );
        }
    };
    let end = tokio::select! {
        status = child.wait() => End::Itself(status),
        () = tokio::time::sleep(deadline) => End::Late,
        () = cancel.cancelled() => End::Interrupted,
    };
    if !matches!(end, End::Itself(_)) {
        stop(&mut child).await;
    }
    let said = std::fs::read(output.path()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let said = said[said.ceil_char_boundary(said.len().saturating_sub(SAID))..].trim().to_owned();
    let finding = match end {
        End::Itself(Ok(status)) if status.success() => check.pass(format!("`{command}`: {status}")),
        End::Itself(Ok(status)) => check.fail(format!("`{command}`: {status}")),
        End::Itself(Err(error)) => check.error(format!("`{command}`: {error}")),
        End::Late => {
            check.fail(format!("`{command}`: stopped, no end within {} s", deadline.as_secs()))
        }
        End::Interrupted => check.error(format!("`{command}`: interrupted")),
    };
    (finding.of("this machine"), said)
}

/// The shell and what it started, first with a word.
async fn stop(child: &mut tokio::process::Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    // One that is gone hears nothing.
    let _ = kill_process_group(group, Signal::TERM);
    if tokio::time::timeout(STOP, child.wait()).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}
