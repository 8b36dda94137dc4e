//! `collodi ops snapshot`, `verify`, `restore` and `undo-restore`: lines 3, 4 and 18 of the checklist.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::ArgMatches;
use clap::parser::ValueSource;
use collodi_profiles::store::StoreError;
use collodi_store::lock::Lock;
use collodi_store::restore::Terms;
use collodi_store::snapshot::{self, Manifest, Source};
use collodi_store::{restore, sqlite};

use super::process;
use super::verdict::{Check, Finding, Report, Verdict};

pub(crate) const TAKEN: Check = Check {
    code: "snapshot.taken",
    line: 3,
    proves: "A snapshot of the databases is taken and reads back",
    how: "The pages of one moment copied to a new folder, then integrity check, row counts and SHA-256 of every file",
    hint: "Look at the named file or folder: rights, space, and whether the source is damaged.",
};
pub(crate) const VERIFIED: Check = Check {
    code: "snapshot.verified",
    line: 3,
    proves: "A snapshot is what its manifest says",
    how: "SHA-256, integrity check, row counts and schema version of every file",
    hint: "Do not restore it. Use another snapshot.",
};
pub(crate) const STOPPED: Check = Check {
    code: "restore.stopped",
    line: 18,
    proves: "No server uses the databases that are replaced",
    how: "The lock of the chat database, SQLite's locks, and open files of other processes",
    hint: "Stop the named server first; it would go on writing to the replaced files.",
};
pub(crate) const RESTORED: Check = Check {
    code: "restore.done",
    line: 18,
    proves: "The databases in place are those of the snapshot",
    how: "Verified, copied, exchanged; what was replaced is kept",
    hint: "Nothing was replaced unless the text says so; the same command again goes on.",
};

/// The databases that a command is about.
pub(crate) struct Place {
    /// The registry.
    pub(crate) profiles: PathBuf,
    /// The chat database beside it, unless a single file was named.
    pub(crate) chats: Option<PathBuf>,
}

impl Place {
    /// `--data-dir` or `--profile-registry-db`.
    ///
    /// # Errors
    /// Neither, or a folder that is not there.
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self> {
        if let Some(file) = matches.get_one::<String>("profile-registry-db") {
            let typed = matches.value_source("data-dir") == Some(ValueSource::CommandLine);
            ensure!(
                !typed,
                "give --data-dir or --profile-registry-db: a snapshot is of a folder, or of a registry alone"
            );
            return Ok(Self { profiles: file.into(), chats: None });
        }
        let Some(folder) = matches.get_one::<String>("data-dir").map(Path::new) else {
            bail!("give --data-dir DIR, or --profile-registry-db FILE");
        };
        if !folder.is_dir() {
            bail!("--data-dir {}: no such folder", folder.display());
        }
        Ok(Self { profiles: folder.join("profiles.db"), chats: Some(folder.join("chat.db")) })
    }

    /// Those that exist.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let chats = self.chats.iter().map(|path| Source { path: path.clone(), is_chats: true });
        let profiles = Source { path: self.profiles.clone(), is_chats: false };
        chats.chain([profiles]).filter(|source| source.path.exists()).collect()
    }

    /// How it is named in reports.
    pub(crate) fn shown(&self) -> String {
        match (&self.chats, self.profiles.parent()) {
            (Some(_), Some(folder)) => folder.display().to_string(),
            _ => self.profiles.display().to_string(),
        }
    }

    /// What uses the databases, or nothing.
    pub(crate) fn users(&self) -> Vec<String> {
        let mut users = Vec::new();
        for source in self.sources() {
            let seen = process::users_of(&source.path);
            users.extend(seen.iter().map(|user| format!("{}: {user}", source.path.display())));
            if seen.is_empty() && sqlite::is_in_use(&source.path) {
                users.push(format!("{}: a process that cannot be seen", source.path.display()));
            }
        }
        users
    }
}

/// A finding of something that takes a while.
fn timed(subject: &str, work: impl FnOnce() -> Finding) -> Finding {
    let begun = Instant::now();
    let mut finding = work().of(subject);
    finding.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    finding
}

/// What a snapshot holds, in a line.
fn described(manifest: &Manifest) -> String {
    let parts = manifest.databases.iter().map(|d| {
        let rows: u64 = d.rows.values().sum();
        format!("{} ({} bytes, {rows} rows, sha256 {})", d.file, d.bytes, &d.sha256[..12])
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn outcome(check: Check, result: Result<String, StoreError>) -> Finding {
    match result {
        Ok(text) => check.pass(text),
        Err(error) => check.fail(error.text),
    }
}

/// Takes a snapshot of what lies at `place`.
pub(crate) fn snapshot(place: &Place, to: &Path) -> Finding {
    timed(&place.shown(), || {
        if restore::is_pending(&place.profiles) {
            return TAKEN.fail(
                "a restore was decided and is not finished: start the server, or restore again",
            );
        }
        // The chats of a server whose registry lies elsewhere are a snapshot of their own.
        if place.sources().is_empty() {
            return TAKEN.fail(format!("{}: no database", place.shown()));
        }
        let program = format!("collodi {}", env!("CARGO_PKG_VERSION"));
        let now = crate::assemble::now_ms();
        let taken = snapshot::take(&place.sources(), to, &program, now);
        outcome(TAKEN, taken.map(|m| format!("{}: {}", to.display(), described(&m))))
    })
}

/// Looks whether a snapshot is one.
pub(crate) fn verify(from: &Path) -> Finding {
    timed(&from.display().to_string(), || {
        outcome(VERIFIED, snapshot::verify(from).map(|m| described(&m)))
    })
}

/// Puts a snapshot in place; without one, takes the last restore back.
pub(crate) fn restore(place: &Place, from: Option<&Path>, of_another: bool) -> Report {
    let subject = place.shown();
    let mut report = Report::default();
    let lock = place.chats.as_deref().map(Lock::acquire).transpose();
    let stopped = match (&lock, place.users()) {
        (Err(error), _) => STOPPED.fail(&error.text),
        (Ok(_), users) if users.is_empty() => STOPPED.pass("nothing has them open"),
        (Ok(_), users) => STOPPED.fail(users.join("; ")),
    };
    let is_stopped = stopped.verdict == Verdict::Pass;
    report.add(stopped.of(&subject));
    if !is_stopped {
        return report;
    }
    report.add(timed(&subject, || {
        let now = crate::assemble::now_ms();
        let restored = match from {
            Some(from) => {
                let terms = Terms { alone: place.chats.is_none(), of_another };
                restore::restore(from, &place.profiles, now, terms)
            }
            None => restore::undo(&place.profiles, now, place.chats.is_none()),
        };
        let restored = restored.and_then(|restored| {
            for source in place.sources() {
                snapshot::kind_of(&source)?;
            }
            let now = restored.manifest.as_ref().map_or("what was there before".into(), described);
            Ok(format!("in place: {now}; replaced and kept: {}", restored.kept.display()))
        });
        outcome(RESTORED, restored)
    }));
    report
}
