//! `collodi ops preflight`: lines 1 to 4, and both ways of the deploy rehearsed on copies.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ArgMatches;
use collodi_store::snapshot::{self, Kind, Manifest};
use collodi_store::sqlite;

use super::candidate::{self, CANDIDATE, PREVIOUS};
use super::check::{Options, matching};
use super::checks::profiles::Listed;
use super::database::Place;
use super::legacy;
use super::session::Session;
use super::verdict::{Check, Finding, Report};

pub(super) const READABLE: Check = Check {
    code: "db.readable",
    line: 4,
    proves: "The databases are sound and known to this program",
    how: "Identity, log, schema version and every page of the registry",
    hint: "Restore a snapshot, or use the program that the text names.",
};
pub(super) const WRITABLE: Check = Check {
    code: "db.writable",
    line: 4,
    proves: "This account can write the databases",
    how: "A write transaction that is rolled back; a file made and removed beside the database",
    hint: "Run this as the service account; give it the file and its folder.",
};
pub(super) const BACKUP: Check = Check {
    code: "backup.writable",
    line: 4,
    proves: "This account can write the backup folder",
    how: "A file made and removed",
    hint: "Make the folder and give it to the account that takes snapshots.",
};
pub(super) const PRESENT: Check = Check {
    code: "snapshot.present",
    line: 3,
    proves: "There is a sound snapshot that holds every change",
    how: "The newest snapshot in --backup-dir, verified, compared with the registry",
    hint: "Take one: collodi ops snapshot --data-dir DIR --to BACKUP/NAME.",
};

/// What is asked of a preflight.
pub(crate) struct Plan<'a> {
    pub(crate) place: &'a Place,
    pub(crate) backup: Option<PathBuf>,
    pub(crate) scan: Vec<PathBuf>,
    pub(crate) candidates: Vec<String>,
    pub(crate) previous: Vec<String>,
    /// Whether a snapshot must be there already.
    pub(crate) wants_snapshot: bool,
    /// What the way back leads to; the newest one of the folder unless it is named.
    pub(crate) snapshot: Option<PathBuf>,
    pub(crate) expected: Option<Listed>,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// A command for a binary that says neither where it listens nor what it serves.
    pub(crate) fn of(matches: &ArgMatches, place: &'a Place) -> Result<Self> {
        let all = |name: &str| -> Vec<String> {
            matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
        };
        for (flag, command) in ["candidate", "previous"]
            .iter()
            .flat_map(|flag| all(flag).into_iter().map(move |c| (flag, c)))
        {
            let is_whole = command.contains("{addr}") && command.contains("{profiles_db}");
            ensure!(is_whole, "--{flag}: the command needs {{addr}} and {{profiles_db}} in it");
        }
        Ok(Self {
            place,
            backup: matches.get_one::<String>("backup-dir").map(PathBuf::from),
            scan: all("scan").into_iter().map(PathBuf::from).collect(),
            candidates: all("candidate"),
            previous: all("previous"),
            wants_snapshot: true,
            snapshot: None,
            expected: None,
        })
    }
}

/// Carries it out. The databases are not changed.
///
/// # Errors
/// A folder for copies that cannot be made.
pub(crate) async fn run(plan: &Plan<'_>, session: &Session) -> Result<Report> {
    let mut report = Report::default();
    report.add(legacy::check(&plan.scan).of("this machine"));
    let subject = plan.place.shown();
    for finding in databases(plan.place) {
        report.add(finding.of(&subject));
    }
    if let Some(backup) = &plan.backup {
        report.add(writable_folder(BACKUP, backup).of(backup.display().to_string()));
        if plan.wants_snapshot {
            report.add(present(plan.place, backup).of(backup.display().to_string()));
        }
    }
    if !report.is_go() || session.cancel.is_cancelled() {
        return Ok(report);
    }
    for (of, commands) in [(CANDIDATE, &plan.candidates), (PREVIOUS, &plan.previous)] {
        report.extend(rehearse(plan, of, commands, session).await?);
    }
    Ok(report)
}

/// Proves binaries, each on a copy of its own.
///
/// # Errors
/// A folder for copies that cannot be made.
pub(crate) async fn rehearse(
    plan: &Plan<'_>,
    of: Check,
    commands: &[String],
    session: &Session,
) -> Result<Report> {
    let mut report = Report::default();
    let options = Options { expected: plan.expected.clone(), session: session.clone() };
    let mut releases = Vec::new();
    for (at, command) in (1..).zip(commands) {
        // The command itself may hold a key.
        session.at(format!("{}, {at} of {}, on a copy", of.code, commands.len()));
        let folder = tempfile::tempdir().context("make a folder for copies")?;
        let profiles = match copy(plan, of, folder.path()) {
            Ok(profiles) => profiles,
            Err(text) => {
                report.add(of.error(text).of(command));
                continue;
            }
        };
        let (found, release) = candidate::prove(of, command, &profiles, &options).await;
        report.extend(found);
        releases.push((command.as_str(), release));
    }
    if of == CANDIDATE && releases.len() > 1 {
        report.add(matching(&releases).of("all candidates"));
    }
    Ok(report)
}

/// A copy of the registry for one binary: of the database as it is, or, for the way back, of the newest snapshot.
fn copy(plan: &Plan<'_>, of: Check, folder: &Path) -> Result<PathBuf, String> {
    let data = folder.join("registry");
    let goes_back_to = match &plan.snapshot {
        _ if of != PREVIOUS => None,
        Some(path) => {
            let manifest = snapshot::read_manifest(path).map_err(|error| error.text)?;
            Some((path.clone(), manifest))
        }
        None => plan.backup.as_deref().and_then(newest),
    };
    if let Some((path, manifest)) = &goes_back_to {
        std::fs::create_dir(&data).map_err(|e| e.to_string())?;
        let file = &registry_of(manifest).ok_or("the snapshot has no registry")?.file;
        std::fs::copy(path.join(file), data.join(file)).map_err(|e| e.to_string())?;
        return Ok(data.join(file));
    }
    let mut sources = plan.place.sources();
    sources.retain(|source| !source.is_chats);
    let now = crate::assemble::now_ms();
    let manifest = snapshot::take(&sources, &data, "rehearsal", now).map_err(|error| error.text)?;
    let file = &registry_of(&manifest).ok_or("there is no registry")?.file;
    Ok(data.join(file))
}

fn registry_of(manifest: &Manifest) -> Option<&snapshot::Described> {
    manifest.databases.iter().find(|described| described.kind != Kind::Chats)
}

fn databases(place: &Place) -> Vec<Finding> {
    let sources = place.sources();
    if !sources.iter().any(|source| !source.is_chats) {
        let text = format!("{}: no such file", place.profiles.display());
        return vec![READABLE.fail(text)];
    }
    let mut findings = Vec::new();
    for source in &sources {
        let shown = source.path.display();
        match snapshot::kind_of(source) {
            Ok((kind, version)) => {
                findings.push(READABLE.pass(format!("{shown}: {kind:?}, schema {version}")));
            }
            Err(error) => {
                findings.push(READABLE.fail(error.text));
                continue;
            }
        }
        findings.push(match sqlite::try_write(&source.path) {
            Ok(()) => match source.path.parent() {
                Some(folder) => writable_folder(WRITABLE, folder),
                None => WRITABLE.pass(format!("{shown}")),
            },
            Err(error) => WRITABLE.fail(error.text),
        });
    }
    findings
}

fn writable_folder(check: Check, folder: &Path) -> Finding {
    match tempfile::Builder::new().prefix(".collodi-write-check-").tempfile_in(folder) {
        Ok(_) => check.pass(format!("{}: written and removed", folder.display())),
        Err(error) => check.fail(format!("{}: {error}", folder.display())),
    }
}

/// The newest snapshot in a folder, by its own word.
pub(crate) fn newest(backup: &Path) -> Option<(PathBuf, Manifest)> {
    let entries = std::fs::read_dir(backup).ok()?.filter_map(Result::ok);
    let manifests = entries.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join(snapshot::MANIFEST)).ok()?;
        Some((entry.path(), serde_json::from_str::<Manifest>(&text).ok()?))
    });
    manifests.max_by_key(|(_, manifest)| manifest.taken_at_ms)
}

fn present(place: &Place, backup: &Path) -> Finding {
    let Some((path, _)) = newest(backup) else {
        return PRESENT.fail(format!("{}: no snapshot", backup.display()));
    };
    let shown = path.display();
    let manifest = match snapshot::verify(&path) {
        Ok(manifest) => manifest,
        Err(error) => return PRESENT.fail(error.text),
    };
    let Some(taken) = registry_of(&manifest) else {
        return PRESENT.fail(format!("{shown} has no registry"));
    };
    match snapshot::lacks(&path, taken, &place.profiles) {
        Ok(None) => PRESENT.pass(format!("{shown} holds every change of the registry")),
        Ok(Some(what)) => PRESENT.fail(format!("{shown}: {what}")),
        Err(error) => PRESENT.error(error.text),
    }
}
