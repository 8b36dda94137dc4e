//! The person at the terminal: sees what takes its time, and may interrupt it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Between two looks at what is being done.
const TICK: Duration = Duration::from_secs(1);
/// Without a terminal a line is enough for so many seconds.
const QUIET: u64 = 10;
/// Signals within this time of the first mean the same.
const SAME: Duration = Duration::from_secs(1);

/// What a command shares with whoever started it. The default is nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    /// Set by the first signal: what runs ends in good order.
    pub(crate) cancel: CancellationToken,
    /// Whether findings are told as they come, one JSON object a line.
    pub(crate) tells_findings: bool,
    doing: Arc<Mutex<String>>,
}

impl Session {
    /// Listens to signals, of which one that comes later than a second after the first ends the program at once, and tells on standard error what takes longer
    /// than a second.
    ///
    /// # Errors
    /// No signals to be had.
    pub(crate) fn start(doing: &str) -> Result<Self> {
        let session = Self::default();
        session.at(doing);
        session.clone().listen()?;
        tokio::spawn(session.clone().tell());
        Ok(session)
    }

    /// This is what is being done now.
    pub(crate) fn at(&self, doing: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing.into();
    }

    /// The same person, who hears of every finding at once, or not.
    pub(crate) fn telling(self, findings: bool) -> Self {
        Self { tells_findings: findings, ..self }
    }

    /// The same person, who does not interrupt this.
    pub(crate) fn to_the_end(&self) -> Self {
        Self { cancel: CancellationToken::new(), ..self.clone() }
    }

    fn listen(self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let mut signalled = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            signalled().await;
            self.cancel.cancel();
            let first = Instant::now();
            loop {
                signalled().await;
                // A supervisor signals the whole group, and whoever started us passes on what it was told.
                if first.elapsed() > SAME {
                    at_once();
                }
            }
        });
        Ok(())
    }

    async fn tell(self) {
        let (mut said, mut since) = (String::new(), 0);
        loop {
            tokio::time::sleep(TICK).await;
            let doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            since = if doing == said { since + 1 } else { 1 };
            said = doing;
            let mut to = std::io::stderr();
            // Nobody reads it: no reason to stop.
            let _ = if to.is_terminal() {
                write!(to, "\r\x1b[K{said} {since} s\r")
            } else if since % QUIET == 0 {
                writeln!(to, "{said} ({since} s)")
            } else {
                Ok(())
            };
        }
    }
}

/// Takes away what stands there of the progress, before something that stays is said.
pub(crate) fn clear() {
    let mut to = std::io::stderr();
    if to.is_terminal() {
        let _ = write!(to, "\r\x1b[K");
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever asks twice does not want to wait")]
fn at_once() -> ! {
    std::process::exit(130)
}
