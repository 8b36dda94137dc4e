//! `collodi ops rollout`: preflight, snapshot, deploy, checks, and on no-go the way back (lines 1 to 19).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ArgMatches;
use serde_json::Value;

use super::candidate::PREVIOUS;
use super::check::{Options, check, targets};
use super::checks::profiles::{Listed, current};
use super::database::{self, Place, RESTORED};
use super::preflight::{self, Plan};
use super::session::Session;
use super::shell::{self, quoted};
use super::verdict::{Check, Finding, Report};
use crate::redact::Redactor;
use crate::target::Target;

mod report;

use report::{Step, outcome};

/// Between two rounds of checks.
const EVERY: Duration = Duration::from_secs(1);

pub(super) const DEPLOYED: Check = Check {
    code: "rollout.deploy",
    line: 5,
    proves: "The deploy command succeeded",
    how: "sh -c, exit code 0",
    hint: "See what the command said in the report.",
};
pub(super) const ROLLED_BACK: Check = Check {
    code: "rollout.rollback",
    line: 17,
    proves: "The rollback command succeeded",
    how: "sh -c, exit code 0",
    hint: "The rollback is not finished: go on by hand, with what the command said in the report.",
};

/// A rollout under way.
struct Rollout<'a> {
    place: &'a Place,
    targets: Vec<Target>,
    deadline: Duration,
    /// How long a command may take.
    command_deadline: Duration,
    redactor: Redactor,
    /// This program, where no deploy replaces it.
    program: PathBuf,
    folder: PathBuf,
    expected: Option<Listed>,
    steps: Vec<Step>,
}

/// Runs the command; says whether the new release serves.
///
/// # Errors
/// A wrong command line, or a folder for reports that cannot be made.
pub(crate) async fn run(matches: &ArgMatches, session: Session) -> Result<bool> {
    let place = Place::of(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let backup = PathBuf::from(text("backup-dir"));
    ensure!(backup.is_dir(), "--backup-dir {}: no such folder", backup.display());
    let backup = std::path::absolute(&backup)?;
    let (deadline, command_deadline) =
        (span(matches, "deadline")?, span(matches, "command-deadline")?);
    let targets = targets(matches)?;
    let mut plan = Plan::of(matches, &place)?;
    let folder = backup.join(format!("rollout-{}", crate::assemble::now_ms()));
    let reports = match text("report") {
        "" => folder.with_extension("report"),
        given => std::path::absolute(given)?,
    };
    std::fs::create_dir_all(&reports).with_context(|| format!("make {}", reports.display()))?;
    let mut rollout = Rollout {
        place: &place,
        targets,
        deadline,
        command_deadline,
        redactor: Redactor::of_environment(matches.get_one::<String>("token").cloned()),
        program: kept_program(&reports)?,
        folder,
        expected: None,
        steps: Vec::new(),
    };
    plan.wants_snapshot = false;
    plan.backup = Some(backup);
    let ending =
        rollout.carry_out(&mut plan, text("deploy"), text("rollback"), &reports, &session).await?;
    let _ = std::fs::remove_file(&rollout.program);
    let document = rollout.json(ending);
    // How it ended is worth more than the files that say so: a full disk may be why a deploy failed.
    rollout.print(matches, ending, &document, &reports);
    for (name, text) in
        [("report.json", format!("{document:#}\n")), ("report.md", rollout.markdown(ending))]
    {
        let path = reports.join(name);
        if let Err(error) = collodi_store::file::replace(&path, text.as_bytes()) {
            tell(&format!("{}: not written: {error}", path.display()));
        }
    }
    Ok(ending == Ending::Deployed)
}

/// `120s`, `2m`, or seconds.
fn span(matches: &ArgMatches, name: &str) -> Result<Duration> {
    let text = matches.get_one::<String>(name).map_or("", String::as_str);
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 =
        number.parse().with_context(|| format!("--{name} {text}: expected 120s or 2m"))?;
    let span = number.checked_mul(unit).map(Duration::from_secs);
    span.with_context(|| format!("--{name} {text}: that is too long"))
}

/// A second name of this program, or a copy: a deploy may replace the first one, and the way back needs it.
fn kept_program(reports: &Path) -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    let kept = reports.join("collodi-ops");
    let _ = std::fs::remove_file(&kept);
    std::fs::hard_link(&program, &kept)
        .or_else(|_| std::fs::copy(&program, &kept).map(|_| ()))
        .with_context(|| format!("keep a copy of this program as {}", kept.display()))?;
    Ok(kept)
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The new release serves, verified.
    Deployed,
    /// Nothing was changed.
    NotStarted,
    /// The previous release serves again, verified.
    RolledBack,
    /// Neither could be verified.
    Unknown,
}

impl Ending {
    fn words(self) -> &'static str {
        match self {
            Self::Deployed => "GO: the new release serves, every check holds",
            Self::NotStarted => "NO-GO: nothing was changed",
            Self::RolledBack => {
                "NO-GO: rolled back; the previous release serves the restored databases, every check holds"
            }
            Self::Unknown => {
                "NO-GO: the way back could not be verified; act now, the steps below say where it stands"
            }
        }
    }
}

impl Rollout<'_> {
    async fn carry_out(
        &mut self,
        plan: &mut Plan<'_>,
        deploy: &str,
        rollback: &str,
        reports: &Path,
        session: &Session,
    ) -> Result<Ending> {
        self.expected = match self.targets.first() {
            // Nothing may serve yet; then there is nothing to compare with.
            Some(target) => current(target).await,
            None => None,
        };
        plan.expected.clone_from(&self.expected);
        // The way back is rehearsed on the snapshot that would be restored, which is not there yet.
        let previous = std::mem::take(&mut plan.previous);
        let began = Began::now();
        let found = preflight::run(plan, session).await?;
        if !self.step("preflight", &began, found, "") || session.cancel.is_cancelled() {
            return Ok(Ending::NotStarted);
        }
        let began = Began::now();
        session.at("taking a snapshot");
        let taken = database::snapshot(self.place, &self.folder);
        if !self.step("snapshot", &began, taken.into(), "") || session.cancel.is_cancelled() {
            return Ok(Ending::NotStarted);
        }
        if !previous.is_empty() {
            let began = Began::now();
            plan.snapshot = Some(self.folder.clone());
            let found = preflight::rehearse(plan, PREVIOUS, &previous, session).await?;
            let holds = self.step("rehearse the way back", &began, found, "");
            if !holds || session.cancel.is_cancelled() {
                return Ok(Ending::NotStarted);
            }
        }
        let began = Began::now();
        session.at("deploying");
        let (finding, said) =
            shell::run(DEPLOYED, deploy, self.command_deadline, &session.cancel).await;
        let deployed = self.step("deploy", &began, finding.into(), &said);
        if deployed && self.check("check", session).await {
            return Ok(Ending::Deployed);
        }
        // Whoever interrupts a rollout wants the previous state, and to know that it is there.
        Ok(self.back(rollback, reports, &session.to_the_end()).await)
    }

    /// Lines 17 to 19.
    async fn back(&mut self, rollback: &str, reports: &Path, session: &Session) -> Ending {
        let restored = reports.join("restore.json");
        let _ = std::fs::remove_file(&restored);
        let command = rollback
            .replace("{restore}", &self.restore_command(&restored))
            .replace("{snapshot}", &quoted(&self.folder));
        let began = Began::now();
        session.at("rolling back");
        let (finding, said) =
            shell::run(ROLLED_BACK, &command, self.command_deadline, &session.cancel).await;
        let back = self.step("rollback", &began, finding.into(), &said);
        let began = Began::now();
        let said = std::fs::read_to_string(&restored).unwrap_or_default();
        let report = match serde_json::from_str::<Value>(&said) {
            Ok(report) => restore_report(&report).of(self.place.shown()).into(),
            // The command did not come to it; it may have left everything stopped. The snapshot is of this database.
            Err(_) => database::restore(self.place, Some(&self.folder), true),
        };
        let restored = self.step("restore", &began, report, "");
        let verified = self.check("check after rollback", session).await;
        if back && restored && verified { Ending::RolledBack } else { Ending::Unknown }
    }

    /// The command line that restores, for a rollback command that stops and starts servers around it.
    fn restore_command(&self, report: &Path) -> String {
        let whole =
            |path: &Path| quoted(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let place = match (&self.place.chats, self.place.profiles.parent()) {
            (Some(_), Some(folder)) => format!("--data-dir {}", whole(folder)),
            _ => format!("--profile-registry-db {}", whole(&self.place.profiles)),
        };
        format!(
            "{} ops restore {place} --from {} --of-another-database --output json > {}",
            quoted(&self.program),
            quoted(&self.folder),
            quoted(report)
        )
    }

    /// Checks until it is a go or the deadline is over; the last round counts.
    async fn check(&mut self, name: &'static str, session: &Session) -> bool {
        let began = Began::now();
        let options = Options { expected: self.expected.clone(), session: session.clone() };
        let found = loop {
            let found = check(&self.targets, &options).await;
            let left = self.deadline.saturating_sub(began.at.elapsed());
            if found.is_go() || left.is_zero() || session.cancel.is_cancelled() {
                break found;
            }
            tokio::time::sleep(EVERY.min(left)).await;
        };
        self.step(name, &began, found, "")
    }

    fn step(&mut self, name: &'static str, began: &Began, report: Report, said: &str) -> bool {
        let is_go = report.is_go();
        // Commands stand in reports as they were typed.
        let report = report.redacted(&self.redactor);
        let said = self.redactor.text(said).into_owned();
        let took_ms = u64::try_from(began.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        tell(&format!("{name}: {} ({took_ms} ms)", outcome(is_go)));
        self.steps.push(Step { name, began_ms: began.ms, took_ms, is_go, report, said });
        is_go
    }
}

/// When a step began.
struct Began {
    at: Instant,
    ms: i64,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), ms: crate::assemble::now_ms() }
    }
}

/// What `ops restore --output json` said.
fn restore_report(report: &Value) -> Finding {
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let evidence: Vec<&str> = findings.iter().filter_map(|f| f["evidence"].as_str()).collect();
    let evidence = evidence.join("; ");
    if report["verdict"] == "go" { RESTORED.pass(evidence) } else { RESTORED.fail(evidence) }
}

/// How far it is, for whoever watches; the report has the rest.
#[expect(clippy::print_stderr, reason = "progress is for the person at the terminal")]
fn tell(text: &str) {
    super::session::clear();
    eprintln!("{text}");
}
