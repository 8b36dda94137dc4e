//! Lines 2 and 17: a binary is proven before it is deployed, on a copy of the registry, on a free port.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::check::{Options, check};
use super::shell::{Group, quoted};
use super::verdict::{Check, Report};
use crate::target::Target;

/// How long a binary may take until it answers.
const START: Duration = Duration::from_secs(30);
/// Of what it said, so much is shown.
const SAID: usize = 2_000;

pub(crate) const CANDIDATE: Check = Check {
    code: "binary.candidate",
    line: 2,
    proves: "The binary to be deployed serves the contract on a copy of the registry",
    how: "Started on a free loopback port with a copy of the registry; lines 6 to 16; stopped",
    hint: "Do not deploy it: the named lines would fail in production.",
};
pub(crate) const PREVIOUS: Check = Check {
    code: "binary.previous",
    line: 17,
    proves: "The binary that one would go back to serves the snapshot that one would restore",
    how: "Started on a free loopback port with a copy of the snapshot; lines 6 to 16; stopped",
    hint: "There is no way back with it: choose another binary for the rollback.",
};

/// A binary that runs on a copy.
struct Candidate {
    child: Child,
    /// Until it was stopped; what the shell started may go on when that has ended.
    group: Option<Group>,
    address: String,
    said: std::path::PathBuf,
}

impl Candidate {
    /// Starts `command` with `{addr}`, `{profiles_db}` and `{dir}` filled in.
    fn start(command: &str, profiles: &Path, folder: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let dir = folder.join("work");
        std::fs::create_dir_all(&dir)?;
        let filled = command
            .replace("{addr}", &address)
            .replace("{profiles_db}", &quoted(profiles))
            .replace("{dir}", &quoted(&dir));
        let said = folder.join("output.txt");
        let output = File::create(&said)?;
        let child = Command::new("sh")
            .args(["-c", &filled])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {filled}"))?;
        let group = child.id().and_then(Group::of);
        Ok(Self { child, group, address, said })
    }

    /// Waits until it answers anything.
    async fn answer(&mut self, target: &Target, cancel: &CancellationToken) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} before it answered: {}", self.last_words());
            }
            if target.get("/api/chat/profiles").await.is_ok() {
                target.exchanges();
                return Ok(());
            }
            ensure!(!cancel.is_cancelled(), "interrupted before it answered");
            if begun.elapsed() > START {
                bail!("no answer within {} s: {}", START.as_secs(), self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.said).unwrap_or_default();
        let from = text.ceil_char_boundary(text.len().saturating_sub(SAID));
        text[from..].trim().to_owned()
    }

    async fn stop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = tokio::join!(group.end(), self.child.wait());
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            group.signal(Signal::KILL);
        }
    }
}

/// Proves one binary on `profiles`, a copy that is its own. Says what its release is.
pub(crate) async fn prove(
    of: Check,
    command: &str,
    profiles: &Path,
    options: &Options,
) -> (Report, Option<Value>) {
    let subject = format!("{}: {command}", if of == CANDIDATE { "candidate" } else { "previous" });
    let (mut report, mut release) = (Report::default(), None);
    let begun = Instant::now();
    let proven = async {
        let folder = profiles.parent().context("a copy in a folder")?;
        let mut candidate = Candidate::start(command, profiles, folder)?;
        let target = Target::new(&format!("http://{}", candidate.address), None)?;
        let outcome = async {
            candidate.answer(&target, &options.session.cancel).await?;
            let asked = target.get("/api/chat/release").await?;
            release = Some(asked.json()).filter(|json| json["release"].is_string());
            target.exchanges();
            Ok::<_, anyhow::Error>(check(std::slice::from_ref(&target), options).await)
        };
        let outcome = outcome.await;
        candidate.stop().await;
        outcome
    };
    let mut finding = match proven.await {
        Ok(found) => {
            let finding = if found.is_go() {
                of.pass("lines 6 to 16 hold")
            } else {
                of.fail(found.reasons().join(", "))
            };
            report.extend(found);
            finding
        }
        Err(error) => of.fail(format!("{error:#}")),
    };
    finding.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.findings.insert(0, finding);
    for finding in &mut report.findings {
        finding.subject.clone_from(&subject);
    }
    (report, release)
}
