//! Commands of the operator's, run by a shell.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
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
    if !matches!(end, End::Itself(_))
        && let Some(group) = child.id().and_then(Group::of)
    {
        // The shell itself may be gone at once, and what it started goes on.
        // One of another user cannot be stopped by us: then nobody waits for it.
        let ended = async { tokio::join!(group.end(), child.wait()) };
        let _ = tokio::time::timeout(STOP * 2, ended).await;
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

/// A shell and what it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(Pid);

impl Group {
    /// Of the process that leads it.
    pub(crate) fn of(id: u32) -> Option<Self> {
        i32::try_from(id).ok().and_then(Pid::from_raw).map(Self)
    }

    /// To all of them; one that is gone hears nothing.
    pub(crate) fn signal(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }

    /// Asks them to end, and makes them. Whoever started the first one waits for it meanwhile.
    pub(crate) async fn end(self) {
        self.signal(Signal::TERM);
        let begun = tokio::time::Instant::now();
        // What may not be signalled is still there.
        while test_kill_process_group(self.0) != Err(Errno::SRCH) {
            if begun.elapsed() > STOP {
                self.signal(Signal::KILL);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rollout::DEPLOYED;

    #[tokio::test]
    async fn a_command_that_is_late_ends_with_everything_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        // The shell ends at once; what it started needs a second for its last words.
        let command = format!(
            "(trap 'sleep 1; touch {late}; exit' TERM; sleep 60 & wait) & sleep 600",
            late = quoted(&late)
        );
        let cancel = CancellationToken::new();
        let (finding, _) = run(DEPLOYED, &command, Duration::from_millis(500), &cancel).await;
        assert!(finding.evidence.contains("stopped, no end"), "{}", finding.evidence);
        assert!(late.exists(), "nothing of it goes on");
    }
}
