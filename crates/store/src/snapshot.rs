//! Snapshots: a folder with a copy of each database and a manifest that says what they are (decision 32).
//!
//! A copy is taken while servers write: each is one consistent cut, and profiles are taken after chats, so that every
//! profile that a stored turn names is in it. A snapshot is good only once it has been read back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use collodi_profiles::json::hex;
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file;
use crate::pace::{Turns, take_turns};
use crate::sqlite::{
    Found, Look, chats, copy, failed, identity_in, inspect, open_untouched, profiles,
};
use crate::step::step;

/// Describes a snapshot.
pub const MANIFEST: &str = "manifest.json";
/// The form of the manifest.
const FORMAT: u32 = 1;

/// What a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Conversations of this program.
    Chats,
    /// A profile registry of this program.
    Profiles,
    /// A profile registry of the Go reference.
    ReferenceProfiles,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this document.
    pub format: u32,
    /// The program that took it, with its version.
    pub program: String,
    /// Unix milliseconds.
    pub taken_at_ms: i64,
    /// In the order in which they were taken.
    pub databases: Vec<Described>,
}

/// One database of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Name of the file, here and where it came from.
    pub file: String,
    /// What it holds.
    pub kind: Kind,
    /// Where it came from.
    pub source: String,
    /// `user_version`; 0 for the reference.
    pub schema_version: i64,
    /// Names this database among others; empty for the reference.
    pub identity: String,
    /// Changes of the registry; 0 where there is no such count.
    pub revision: u64,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// A database to take along.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether it holds conversations; a registry otherwise.
    pub is_chats: bool,
}

/// The databases of a data folder that exist.
pub(crate) fn sources(data_dir: &Path) -> Vec<Source> {
    let of = |name: &str, is_chats| Source { path: data_dir.join(name), is_chats };
    let all = [of("chat.db", true), of("profiles.db", false)];
    all.into_iter().filter(|source| source.path.exists()).collect()
}

fn other(text: String) -> StoreError {
    StoreError::new(StoreErrorKind::Other, text)
}

/// What a file is, seen without changing it; all of its pages are looked at.
///
/// # Errors
/// A damaged, foreign or orphaned file; a newer one.
pub fn kind_of(source: &Source) -> Result<(Kind, i64), StoreError> {
    kind_as(source, Look::Every)
}

fn kind_as(source: &Source, look: Look) -> Result<(Kind, i64), StoreError> {
    let path = &source.path;
    let (application, newest) = if source.is_chats {
        (chats::APPLICATION_ID, chats::newest_schema())
    } else {
        (profiles::APPLICATION_ID, profiles::newest_schema())
    };
    let refuse = |text: &str| Err(other(format!("{} {text}", path.display())));
    match inspect(path, application, look)? {
        Found::Ours(version) if version > newest => Err(newer(path, version, newest)),
        Found::Ours(version) if source.is_chats => Ok((Kind::Chats, version)),
        Found::Ours(version) => Ok((Kind::Profiles, version)),
        Found::Reference if !source.is_chats => Ok((Kind::ReferenceProfiles, 0)),
        Found::Reference => refuse("is a profile registry, not a chat database"),
        Found::Nothing => refuse("is missing or empty"),
    }
}

/// Takes a snapshot into the folder `to`, which must not exist, and reads it back. Blocks. A failure leaves nothing.
///
/// # Errors
/// A source that is refused, a folder that exists or cannot be written, a full disk.
pub fn take(
    sources: &[Source],
    to: &Path,
    program: &str,
    now_ms: i64,
) -> Result<Manifest, StoreError> {
    // Without a slash at the end, which would make a name inside of the folder.
    let to = &to.components().collect::<PathBuf>();
    if to.exists() {
        return Err(other(format!("{} exists: a snapshot never replaces another", to.display())));
    }
    if sources.is_empty() {
        return Err(other("there is no database to take a snapshot of".into()));
    }
    let partial = crate::sqlite::with_suffix(to, ".partial");
    let fail = |e: std::io::Error| other(format!("write {}: {e}", partial.display()));
    // Left by one that was killed.
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(fail)?;
    }
    // Profiles and chats are nobody else's to read.
    let make = || fs::DirBuilder::new().recursive(true).mode(0o700).create(&partial);
    step().and_then(|()| make()).map_err(fail)?;
    let taken = fill(sources, &partial, program, now_ms).and_then(|manifest| {
        step().and_then(|()| fs::rename(&partial, to)).map_err(fail)?;
        sync(file::folder_of(to)).map_err(fail)?;
        Ok(manifest)
    });
    if taken.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    taken
}

fn fill(
    sources: &[Source],
    folder: &Path,
    program: &str,
    taken_at_ms: i64,
) -> Result<Manifest, StoreError> {
    // Chats first: a turn that is in must not name a profile that is not.
    let (chats, profiles): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(|s| s.is_chats);
    // While one is copied, the one before is read back.
    let databases = thread::scope(|scope| {
        let mut reading = Vec::new();
        for source in chats.into_iter().chain(profiles) {
            let (copy, kind) = copy_into(folder, source)?;
            let from = real(&source.path).display().to_string();
            reading.push(scope.spawn(move || {
                let named = |e: StoreError| StoreError::new(e.kind, format!("{from}: {}", e.text));
                describe(&copy, kind, &from).map_err(named)
            }));
        }
        reading.into_iter().map(joined).collect::<Result<_, _>>()
    })?;
    let manifest = Manifest { format: FORMAT, program: program.to_owned(), taken_at_ms, databases };
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|e| other(format!("describe the snapshot: {e}")))?;
    file::swap(&folder.join(MANIFEST), format!("{text}\n").as_bytes())
        .map_err(|e| other(format!("write {}: {e}", folder.display())))?;
    Ok(manifest)
}

/// What a thread of this module found.
fn joined<T>(thread: ScopedJoinHandle<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    thread.join().unwrap_or_else(|_| Err(other("reading a copy back panicked".into())))
}

/// Where a database is, whatever links lead to it.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn copy_into(folder: &Path, source: &Source) -> Result<(PathBuf, Kind), StoreError> {
    let path = &real(&source.path);
    // Every page of the copy is looked through after that, and it is what the source's are.
    let (kind, _) = kind_as(source, Look::Head)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| other(format!("{}: a name that is no text", path.display())))?;
    let target = folder.join(name);
    let doing = format!("copy {} to {}", path.display(), target.display());
    copy::copy(path, &target).map_err(|e| failed(&doing, &e))?;
    let kept = step().and_then(|()| File::open(&target)?.sync_all());
    kept.map_err(|e| other(format!("{doing}: {e}")))?;
    Ok((target, kind))
}

/// Reads a copy back: its pages, its rows, its bytes.
fn describe(path: &Path, kind: Kind, source: &str) -> Result<Described, StoreError> {
    let doing = format!("read {}", path.display());
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut described = Described {
        file,
        kind,
        source: source.to_owned(),
        schema_version: 0,
        identity: String::new(),
        revision: 0,
        rows: BTreeMap::new(),
        bytes: 0,
        sha256: String::new(),
    };
    let (hashed, verdict) = thread::scope(|scope| {
        let hashing = scope.spawn(|| digest(path).map_err(|e| other(format!("{doing}: {e}"))));
        let verdict = read_into(&mut described, path).map_err(|e| failed(&doing, &e));
        (joined(hashing), verdict)
    });
    (described.bytes, described.sha256) = hashed?;
    let verdict = verdict?;
    if verdict != "ok" {
        let text = format!("{} is damaged: {verdict}", path.display());
        return Err(StoreError::new(StoreErrorKind::Corrupt, text));
    }
    Ok(described)
}

/// What the database says of itself, and what its pages say.
fn read_into(described: &mut Described, path: &Path) -> rusqlite::Result<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    take_turns(&mut connection)?;
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    let verdict = text("PRAGMA integrity_check(1)")?;
    described.schema_version =
        connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if described.kind != Kind::ReferenceProfiles {
        described.identity = text("SELECT id FROM identity")?;
    }
    if described.kind == Kind::Profiles {
        let sql = "SELECT coalesce(max(id), 0) FROM changes";
        described.revision =
            connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    }
    described.rows = rows(&connection)?;
    Ok(verdict)
}

fn rows(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(tables)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            let name = name?;
            let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            let count = connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
            Ok((name, count.unsigned_abs()))
        })
        .collect()
}

/// Size and SHA-256 of a file.
fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut size) = (File::open(path)?, Sha256::new(), 0);
    let (mut buffer, mut turns) = (vec![0; 128 * 1024], Turns::begin());
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
        turns.pass();
    }
}

/// Compares a snapshot with its manifest, and its databases with what they should be. Changes nothing. Blocks.
///
/// # Errors
/// What is wrong with it; no manifest is no snapshot.
pub fn verify(from: &Path) -> Result<Manifest, StoreError> {
    let manifest = read_manifest(from)?;
    for expected in &manifest.databases {
        let path = from.join(&expected.file);
        let (bytes, sha256) =
            digest(&path).map_err(|e| other(format!("read {}: {e}", path.display())))?;
        if (bytes, &sha256) != (expected.bytes, &expected.sha256) {
            let text = format!(
                "{} is not the file that was taken: {bytes} bytes with SHA-256 {sha256}, expected {} bytes with {}",
                path.display(),
                expected.bytes,
                expected.sha256
            );
            return Err(StoreError::new(StoreErrorKind::Corrupt, text));
        }
        for suffix in ["-wal", "-journal"] {
            let beside = crate::sqlite::with_suffix(&path, suffix);
            if beside.exists() {
                let text = format!("{} does not belong to a snapshot", beside.display());
                return Err(StoreError::new(StoreErrorKind::Corrupt, text));
            }
        }
        let found = describe(&path, expected.kind, &expected.source)?;
        if found != *expected {
            let text = format!("{} is not what the manifest says: {found:?}", path.display());
            return Err(StoreError::new(StoreErrorKind::Corrupt, text));
        }
        let newest = match expected.kind {
            Kind::Chats => chats::newest_schema(),
            Kind::Profiles => profiles::newest_schema(),
            Kind::ReferenceProfiles => 0,
        };
        if found.schema_version > newest {
            return Err(newer(&path, found.schema_version, newest));
        }
    }
    Ok(manifest)
}

/// What the registry at `live` has that a verified snapshot lacks; none if they are the same.
///
/// # Errors
/// When one of them cannot be read.
pub fn lacks(from: &Path, taken: &Described, live: &Path) -> Result<Option<String>, StoreError> {
    match taken.kind {
        Kind::Chats => Ok(None),
        Kind::Profiles if identity_in(live).is_none_or(|identity| identity != taken.identity) => {
            Ok(Some("it is of another database".into()))
        }
        Kind::Profiles => {
            let missing = profiles::revision_of(live)?.abs_diff(taken.revision);
            Ok((missing > 0).then(|| format!("{missing} changes are missing")))
        }
        Kind::ReferenceProfiles => {
            let same = reference_rows(&from.join(&taken.file))? == reference_rows(live)?;
            Ok((!same).then(|| "the registry has changed since".into()))
        }
    }
}

fn reference_rows(path: &Path) -> Result<Vec<(String, String)>, StoreError> {
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        let connection = open_untouched(path)?;
        let sql = "SELECT slug, payload_json FROM profile_registries ORDER BY slug";
        let mut statement = connection.prepare(sql)?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().map_err(|e| failed(&format!("read {}", path.display()), &e))
}

fn newer(path: &Path, version: i64, newest: i64) -> StoreError {
    let text = "has schema version";
    other(format!("{} {text} {version}, this program knows up to {newest}", path.display()))
}

/// What a snapshot says of itself; its files are not looked at.
///
/// # Errors
/// No manifest, or one that cannot be read.
pub fn read_manifest(from: &Path) -> Result<Manifest, StoreError> {
    let path = from.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_snapshot(from)),
        Err(e) => return Err(other(format!("read {}: {e}", path.display()))),
    };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| {
        StoreError::new(StoreErrorKind::Corrupt, format!("{}: {e}", path.display()))
    })?;
    let is_plain = |name: &str| !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    if manifest.format != FORMAT || manifest.databases.is_empty() {
        return Err(other(format!(
            "{}: form {} is not known to this program",
            path.display(),
            manifest.format
        )));
    }
    if let Some(odd) = manifest.databases.iter().find(|d| !is_plain(&d.file)) {
        return Err(other(format!("{}: {:?} is no name of a file", path.display(), odd.file)));
    }
    Ok(manifest)
}

/// A folder without a manifest: a copy by hand, perhaps without the log that held the newest changes.
fn no_snapshot(from: &Path) -> StoreError {
    let shown = from.display();
    for source in sources(from) {
        if let Err(error) = kind_of(&source) {
            return StoreError::new(error.kind, format!("{shown} is no snapshot: {}", error.text));
        }
    }
    other(format!(
        "{shown} is no snapshot: it has no {MANIFEST}. What a copy by hand lacks cannot be told; take one with ops snapshot"
    ))
}

/// Makes what was done in a folder last.
pub(crate) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
