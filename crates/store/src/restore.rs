//! Putting a snapshot in the place of databases, and taking that back.
//!
//! Nothing is replaced before the snapshot is verified and copied beside the databases. Then a journal is written: from
//! there on the restore is decided, and whoever comes next, a server that starts or the same command again, finishes it
//! ([`finish`]). So a kill leaves the old state or the new one. What was replaced is kept in a folder, logs included.

use std::fs;
use std::path::{Path, PathBuf};

use collodi_profiles::store::{StoreError, StoreErrorKind};
use serde::{Deserialize, Serialize};

use crate::file;
use crate::snapshot::{Described, Kind, Manifest, sync, verify};
use crate::sqlite::companion::lock_folder;
use crate::sqlite::{identity_in, with_suffix};
use crate::step::step;

/// What belongs to a database, the database itself last.
const PARTS: [&str; 5] = ["-wal", "-shm", "-journal", ".state", ""];

/// What is being exchanged, written before anything is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Journal {
    /// Names of database files in the folder of the journal.
    databases: Vec<String>,
    /// Where the new ones lie, a folder beside them.
    new: String,
    /// Where the old ones go, a folder beside them.
    old: String,
    /// Databases whose old parts are away.
    cleared: Vec<String>,
}

/// What may be restored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// The registry alone, whatever else the snapshot has.
    pub alone: bool,
    /// Also a snapshot of another database.
    pub of_another: bool,
}

/// In a folder of what was replaced: which databases the exchange was about, those that were not there included.
const REPLACED: &str = "databases.json";

/// What was done.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where the replaced databases are.
    pub kept: PathBuf,
    /// What is in place now; none when a restore was taken back.
    pub manifest: Option<Manifest>,
}

fn other(text: String) -> StoreError {
    StoreError::new(StoreErrorKind::Other, text)
}

fn failing(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |e| {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull => StoreErrorKind::Full,
            _ => StoreErrorKind::Other,
        };
        StoreError::new(kind, format!("{}: {e}", path.display()))
    }
}

/// The journal of the databases beside the registry file `profiles`.
fn journal_path(profiles: &Path) -> PathBuf {
    let name = profiles.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder_of(profiles).join(format!(".{name}.restore.json"))
}

/// Refuses to look at a database while a restore of its folder is not finished: it may be the old one or the new one.
///
/// # Errors
/// The journal is there.
pub(crate) fn refuse_unfinished(database: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(folder_of(database)).into_iter().flatten().filter_map(Result::ok);
    let is_journal = |name: &str| name.starts_with('.') && name.ends_with(".restore.json");
    let journal = entries
        .filter(|entry| is_journal(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .find(|path| {
            let journal =
                fs::read(path).ok().and_then(|t| serde_json::from_slice::<Journal>(&t).ok());
            // One that cannot be read says nothing about whom it spares.
            journal.is_none_or(|journal| journal.databases.contains(&name_of(database)))
        });
    let Some(journal) = journal else { return Ok(()) };
    Err(other(format!(
        "a restore of {} was interrupted ({}): start a server on it, or run the restore again",
        database.display(),
        journal.display()
    )))
}

fn folder_of(path: &Path) -> PathBuf {
    file::folder_of(path).to_owned()
}

/// Puts the snapshot `from` in the place of the registry file `profiles` and, unless the registry is meant `alone`, of
/// `chat.db` beside it, as far as the snapshot has them. No server may run on them. Blocks.
///
/// # Errors
/// A snapshot that is refused, or one of another database unless `of_another`; both before anything is touched. Later
/// ones are finished by [`finish`].
pub fn restore(
    from: &Path,
    profiles: &Path,
    now_ms: i64,
    Terms { alone, of_another }: Terms,
) -> Result<Restored, StoreError> {
    finish(profiles)?;
    let manifest = verify(from)?;
    let folder = folder_of(profiles);
    let mut databases: Vec<(PathBuf, PathBuf)> = Vec::new();
    for described in &manifest.databases {
        let path = match described.kind {
            Kind::Chats if alone => continue,
            Kind::Chats => folder.join("chat.db"),
            Kind::Profiles | Kind::ReferenceProfiles => profiles.to_owned(),
        };
        if path.is_symlink() {
            let text = "is a link, which a restore would cut off; name the file itself with --profile-registry-db";
            return Err(other(format!("{} {text}", path.display())));
        }
        if !of_another && !is_of(described, &path) {
            return Err(other(format!(
                "{} is not the database that this snapshot was taken of; --of-another-database restores it all the same",
                path.display()
            )));
        }
        databases.push((from.join(&described.file), path));
    }
    if databases.is_empty() {
        return Err(other(format!("{} has no registry", from.display())));
    }
    remove_abandoned(&folder);
    let stage = folder.join(format!(".restore-{now_ms}"));
    if let Err(error) = stage_copies(&databases, &stage) {
        let _ = fs::remove_dir_all(&stage);
        return Err(error);
    }
    let names = databases.iter().map(|(_, path)| name_of(path)).collect();
    let kept = exchange(profiles, names, &stage, now_ms)?;
    Ok(Restored { kept, manifest: Some(manifest) })
}

/// Copies of a restore that died before it was decided. What cannot be removed is in nobody's way.
fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(".restore-")) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Puts back what the last restore replaced; what that put in place is kept in turn. `alone` is for a restore of the
/// registry alone. Blocks.
///
/// # Errors
/// Nothing was replaced, more was than the registry alone, or files that cannot be moved; those are finished by [`finish`].
pub fn undo(profiles: &Path, now_ms: i64, alone: bool) -> Result<Restored, StoreError> {
    finish(profiles)?;
    let folder = folder_of(profiles);
    let main = name_of(profiles);
    let about = |kept: &PathBuf| -> Option<Vec<String>> {
        let text = fs::read_to_string(kept.join(REPLACED)).ok()?;
        let names: Vec<String> = serde_json::from_str(&text).ok()?;
        names.contains(&main).then_some(names)
    };
    let newest = replaced(&folder)?.into_iter().rev().find_map(|kept| {
        let names = about(&kept)?;
        Some((kept, names))
    });
    let Some((newest, names)) = newest else {
        return Err(other(format!("{}: no restore has replaced anything", folder.display())));
    };
    if alone && names.len() > 1 {
        // Half of it would leave the other half where nobody looks for it.
        let text = "the last restore was of the whole folder: undo it with --data-dir";
        return Err(other(format!("{}: {text}", folder.display())));
    }
    let kept = exchange(profiles, names, &newest, now_ms)?;
    Ok(Restored { kept, manifest: None })
}

/// Whether an exchange was decided and is not finished.
#[must_use]
pub fn is_pending(profiles: &Path) -> bool {
    journal_path(profiles).exists()
}

/// Folders of replaced databases, the newest last.
fn replaced(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(failing(folder))?;
    let mut found: Vec<(i64, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix("replaced-")?.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Copies what is restored beside what it replaces, and makes it last.
fn stage_copies(databases: &[(PathBuf, PathBuf)], stage: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(stage).map_err(failing(stage))?;
    for (from, to) in databases {
        let target = stage.join(name_of(to));
        step().and_then(|()| fs::copy(from, &target)).map_err(failing(&target))?;
        let copy = fs::OpenOptions::new().write(true).open(&target).map_err(failing(&target))?;
        copy.sync_all().map_err(failing(&target))?;
        // A copy takes the mode of the snapshot, which may be a read-only one; what is replaced had the right one.
        if let Ok(meta) = fs::metadata(to) {
            fs::set_permissions(&target, meta.permissions()).map_err(failing(&target))?;
        }
    }
    sync(stage).map_err(failing(stage))
}

/// Decides the exchange and carries it out; says where the old ones are.
fn exchange(
    profiles: &Path,
    databases: Vec<String>,
    new: &Path,
    now_ms: i64,
) -> Result<PathBuf, StoreError> {
    let folder = folder_of(profiles);
    let old = format!("replaced-{now_ms}");
    let kept = folder.join(&old);
    if kept.exists() {
        return Err(other(format!("{} exists; try again", kept.display())));
    }
    save(profiles, &Journal { databases, new: name_of(new), old, cleared: Vec::new() })?;
    finish(profiles)?;
    Ok(kept)
}

fn save(profiles: &Path, journal: &Journal) -> Result<(), StoreError> {
    let path = journal_path(profiles);
    let text =
        serde_json::to_string(journal).map_err(|e| other(format!("write a journal: {e}")))?;
    file::swap(&path, text.as_bytes()).map_err(failing(&path))
}

/// Finishes an exchange that was decided and not carried out, if there is one. Says whether there was. Blocks.
///
/// # Errors
/// A journal that cannot be read, files that cannot be moved; the next call goes on.
pub fn finish(profiles: &Path) -> Result<bool, StoreError> {
    let path = journal_path(profiles);
    if !path.exists() {
        return Ok(false);
    }
    // Of two servers that start at once, one finishes and the other finds it done.
    let _alone = lock_folder(profiles);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failing(&path)(e)),
    };
    let mut journal: Journal = serde_json::from_str(&text).map_err(|e| {
        StoreError::new(StoreErrorKind::Corrupt, format!("{}: {e}", path.display()))
    })?;
    let folder = folder_of(profiles);
    let (new, old) = (folder.join(&journal.new), folder.join(&journal.old));
    step().and_then(|()| fs::create_dir_all(&old)).map_err(failing(&old))?;
    let about = serde_json::to_string(&journal.databases).unwrap_or_default();
    let about_path = old.join(REPLACED);
    file::swap(&about_path, about.as_bytes()).map_err(failing(&about_path))?;
    for name in journal.databases.clone() {
        if !journal.cleared.contains(&name) {
            move_parts(&folder, &old, &name)?;
            journal.cleared.push(name.clone());
            save(profiles, &journal)?;
        }
        move_parts(&new, &folder, &name)?;
    }
    // What else somebody put there stays; by now it is in nobody's way.
    let _ = fs::remove_file(new.join(REPLACED));
    let _ = fs::remove_dir(&new);
    step().and_then(|()| fs::remove_file(&path)).map_err(failing(&path))?;
    sync(&folder).map_err(failing(&folder))?;
    Ok(true)
}

/// Moves what there is of a database, and makes it last.
fn move_parts(from: &Path, to: &Path, name: &str) -> Result<(), StoreError> {
    for part in PARTS {
        let (source, target) =
            (from.join(format!("{name}{part}")), to.join(format!("{name}{part}")));
        match step().and_then(|()| fs::rename(&source, &target)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failing(&source)(e)),
            _ => {}
        }
    }
    for folder in [to, from] {
        match step().and_then(|()| sync(folder)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failing(folder)(e)),
            _ => {}
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a snapshot was taken of the database at `path`, or there is none. One of the Go reference has no identity: the
/// file that it was taken from counts, also after it was adopted.
fn is_of(described: &Described, path: &Path) -> bool {
    if !path.exists() {
        return true;
    }
    if described.kind == Kind::ReferenceProfiles {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        return described.source == real.display().to_string();
    }
    let companion = fs::read_to_string(with_suffix(path, ".state")).ok();
    let companion = companion.and_then(|text| text.split_whitespace().next().map(str::to_owned));
    // What cannot be told stands in nobody's way: damaged databases are what restores are for.
    companion.or_else(|| identity_in(path)).is_none_or(|identity| identity == described.identity)
}

#[cfg(test)]
mod tests;
