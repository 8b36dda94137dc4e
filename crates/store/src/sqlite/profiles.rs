//! The registry on SQLite: an append-only table of changes, slim heads, one row per registry (design, section 4).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use collodi_profiles::json::sha256_hex;
use collodi_profiles::profile::Profile;
use collodi_profiles::profile::history::{Change, Operation, RegistryHead, Stamp};
use collodi_profiles::store::{
    Contents, ProfileStore, StoreError, StoreErrorKind, StoredRegistry, WriteSession,
};
use collodi_profiles::{Catalog, ProfileSlug, RegistrySlug};
use rusqlite::{Connection, Row, params};

use super::changes::{append_change, signed, unsigned, write_head};
use super::companion::{Companion, lock_folder};
use super::migrate::{self, Migration, Schema};
use super::{Access, Found, Look, adopt, check_library, connect, failed, inspect};
use crate::restore::refuse_unfinished;

/// "colp": a profile registry of this program.
pub(crate) const APPLICATION_ID: i32 = 0x636f_6c70;

/// The schema version that this program writes.
pub(crate) fn newest_schema() -> i64 {
    i64::try_from(SCHEMA.migrations.len()).unwrap_or(i64::MAX)
}

const SCHEMA: Schema = Schema {
    application_id: APPLICATION_ID,
    look: Look::Every,
    migrations: &[Migration {
        name: "0001_registry",
        sql: include_str!("../../migrations/profiles/0001_registry.sql"),
    }],
};

const CHANGE_COLUMNS: &str = "c.id, c.registry, c.operation, c.slug, c.version, c.registry_version, \
    c.default_profile, c.document, c.content_hash, c.actor, c.source, c.note, c.request_id, c.at_ms";

/// How many changes a registry database of ours has seen.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn revision_of(path: &Path) -> Result<u64, StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("read {}", path.display()), &e);
    let connection = super::open_untouched(path).map_err(fail)?;
    let sql = "SELECT coalesce(max(id), 0) FROM changes";
    let revision = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(fail)?;
    Ok(unsigned(revision))
}

/// A registry database file.
pub struct SqliteProfiles {
    path: PathBuf,
    /// Opened by the first who reads while there is no [`Self::opener`].
    reader: Mutex<Option<Connection>>,
    /// The connection that opened the database: lent to the first who writes, closed with everything else.
    opener: Arc<Mutex<Option<Connection>>>,
    /// Absent when the database was opened for reading only.
    companion: Option<Companion>,
}

impl SqliteProfiles {
    /// Opens or creates the file, migrates it, and adopts it if the Go reference wrote it. Blocks.
    ///
    /// # Errors
    /// The named cause: damaged, foreign, newer or orphaned files, which are left untouched; missing rights; an SQLite
    /// that can lose writes.
    pub fn open(path: &Path, catalog: &Catalog, now_ms: i64) -> Result<Self, StoreError> {
        check_library()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| {
                StoreError::new(StoreErrorKind::Other, format!("create {}: {e}", folder.display()))
            })?;
        }
        let _alone = lock_folder(path);
        let adopt = |connection: &Connection| adopt::adopt(connection, path, catalog, now_ms);
        let check = |connection: &Connection| adopt::check(connection, path, catalog);
        let opener = migrate::open(path, &SCHEMA, check, adopt)?;
        let identity = opener
            .query_row("SELECT id FROM identity", [], |row| row.get::<_, String>(0))
            .map_err(|e| failed(&format!("read {}", path.display()), &e))?;
        let (reader, opener) = (Mutex::default(), Arc::new(Mutex::new(Some(opener))));
        let companion = Some(Companion::open(path, &identity)?);
        Ok(Self { path: path.to_owned(), reader, opener, companion })
    }

    /// Opens a database of ours for reading; nothing is created, migrated or adopted.
    ///
    /// # Errors
    /// As [`Self::open`], and a file that is missing or not at this program's schema.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        check_library()?;
        refuse_unfinished(path)?;
        if inspect(path, APPLICATION_ID, SCHEMA.look)? != Found::Ours(newest_schema()) {
            let text = format!(
                "{} is not a registry of this version; start a server on it first",
                path.display()
            );
            return Err(StoreError::new(StoreErrorKind::Other, text));
        }
        let reader = Mutex::new(Some(connect(path, Access::Read)?));
        let opener = Arc::default();
        Ok(Self { path: path.to_owned(), reader, opener, companion: None })
    }

    fn read<T>(
        &self,
        doing: &str,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, StoreError> {
        let at = |error: ReadError| error.at(&format!("{doing} {}", self.path.display()));
        // At a start, before anybody writes, one connection does.
        if let Some(opener) = &*self.opener.lock().unwrap_or_else(PoisonError::into_inner) {
            return read(opener).map_err(at);
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *reader {
            Some(connection) => connection,
            none => none.insert(connect(&self.path, Access::Read)?),
        };
        read(connection).map_err(at)
    }
}

impl Drop for SqliteProfiles {
    fn drop(&mut self) {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(companion) = &self.companion {
            companion.close(|| drop((opener.take(), reader.take())));
        }
    }
}

/// What can go wrong with a row.
enum ReadError {
    Sql(rusqlite::Error),
    Row(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl ReadError {
    fn row(table: &str, row: impl std::fmt::Display, detail: impl std::fmt::Display) -> Self {
        Self::Row(format!("table {table}, row {row}: {detail}"))
    }

    fn at(self, doing: &str) -> StoreError {
        match self {
            Self::Sql(error) => failed(doing, &error),
            Self::Row(text) => StoreError::new(StoreErrorKind::Corrupt, format!("{doing}: {text}")),
        }
    }
}

impl ProfileStore for SqliteProfiles {
    fn load(&self) -> Result<Contents, StoreError> {
        self.read("load the registry", |connection| {
            let transaction = connection.unchecked_transaction()?;
            load(&transaction)
        })
    }

    fn writer(&self) -> Result<Box<dyn WriteSession>, StoreError> {
        let opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connection = match opener {
            Some(connection) => Lent { connection: Some(connection), to: self.opener.clone() },
            None => {
                Lent { connection: Some(connect(&self.path, Access::Write)?), to: Arc::default() }
            }
        };
        let path = self.path.display().to_string();
        Ok(Box::new(Session { connection, path, seen: None, touched: BTreeMap::new(), lost: None }))
    }

    fn history(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let before = if before == 0 { i64::MAX } else { signed(before) };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read("read the history", |connection| {
            let sql = format!(
                "SELECT {CHANGE_COLUMNS} FROM changes c WHERE c.registry = ?1 AND c.slug = ?2 AND c.id < ?3 \
                 ORDER BY c.id DESC LIMIT ?4"
            );
            read_changes(connection, &sql, params![registry.as_str(), slug.as_str(), before, limit])
        })
    }

    fn version(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
    ) -> Result<Option<Change>, StoreError> {
        self.read("read a version", |connection| {
            let sql = format!(
                "SELECT {CHANGE_COLUMNS} FROM changes c WHERE c.registry = ?1 AND c.slug = ?2 AND c.version = ?3 \
                 AND c.document IS NOT NULL ORDER BY c.id LIMIT 1"
            );
            let of = params![registry.as_str(), slug.as_str(), signed(version)];
            Ok(read_changes(connection, &sql, of)?.pop())
        })
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read("read the audit log", |connection| {
            let sql = format!(
                "SELECT {CHANGE_COLUMNS} FROM changes c WHERE c.id > ?1 ORDER BY c.id LIMIT ?2"
            );
            read_changes(connection, &sql, params![signed(after), limit])
        })
    }
}

fn load(connection: &Connection) -> Result<Contents, ReadError> {
    let mut contents = Contents {
        revision: connection
            .query_row("SELECT coalesce(max(id), 0) FROM changes", [], |row| row.get::<_, i64>(0))
            .map(unsigned)?,
        registries: BTreeMap::new(),
    };
    for (slug, head) in read_heads(connection)? {
        contents.registries.insert(slug, StoredRegistry { head, ..StoredRegistry::default() });
    }
    let mut statement = connection.prepare(
        "SELECT h.registry, h.slug, h.version, h.deleted, c.id, c.document, c.document_hash \
         FROM heads h JOIN changes c ON c.id = h.change_id ORDER BY h.registry, h.slug",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(4)?;
        let broken = |detail: String| ReadError::row("changes", id, detail);
        let (registry, slug) = (read_registry(row, 0)?, read_slug(row, 1)?);
        let registry = contents
            .registries
            .get_mut(&registry)
            .ok_or_else(|| ReadError::row("heads", &slug, format!("no registry {registry}")))?;
        let version = unsigned(row.get(2)?);
        if row.get::<_, bool>(3)? {
            registry.deleted.insert(slug, version);
            continue;
        }
        let document = row.get_ref(5)?.as_str().unwrap_or_default();
        if sha256_hex(document) != row.get_ref(6)?.as_str().unwrap_or_default() {
            return Err(broken("the document does not match its hash".into()));
        }
        let profile = parse_document(document).map_err(broken)?;
        if profile.slug != slug || profile.metadata.version != version {
            return Err(broken(format!("the document is not version {version} of {slug}")));
        }
        registry.profiles.push(profile);
    }
    for (slug, registry) in &mut contents.registries {
        let slugs = registry.profiles.iter().map(|profile| &profile.slug);
        if let Some(repair) = registry.head.repair_default(slugs) {
            tracing::warn!(registry = %slug, "{repair}");
        }
    }
    Ok(contents)
}

fn read_heads(connection: &Connection) -> Result<BTreeMap<RegistrySlug, RegistryHead>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT slug, display_name, description, default_profile, metadata FROM registries",
    )?;
    let mut rows = statement.query([])?;
    let mut heads = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let slug = read_registry(row, 0)?;
        let broken = |detail: String| ReadError::row("registries", &slug, detail);
        let head = RegistryHead {
            display_name: row.get(1)?,
            description: row.get(2)?,
            default_profile: ProfileSlug::parse_optional(&row.get::<_, String>(3)?)
                .map_err(|e| broken(e.to_string()))?,
            metadata: serde_json::from_str(&row.get::<_, String>(4)?)
                .map_err(|e| broken(e.to_string()))?,
        };
        heads.insert(slug, head);
    }
    Ok(heads)
}

fn parse_document(text: &str) -> Result<Profile, String> {
    serde_json::from_str(text).map_err(|e| format!("document: {e}"))
}

fn read_registry(row: &Row<'_>, column: usize) -> Result<RegistrySlug, ReadError> {
    let text: String = row.get(column)?;
    RegistrySlug::parse(&text).map_err(|e| ReadError::Row(e.to_string()))
}

fn read_slug(row: &Row<'_>, column: usize) -> Result<ProfileSlug, ReadError> {
    let text: String = row.get(column)?;
    ProfileSlug::parse(&text).map_err(|e| ReadError::Row(e.to_string()))
}

fn read_changes(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<Change>, ReadError> {
    // Heads and changes as of one moment; inside the writer's transaction they are that anyway.
    let reading =
        connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let heads = read_heads(connection)?;
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(read_change(row, &heads)?);
    }
    drop(reading);
    Ok(changes)
}

fn read_change(
    row: &Row<'_>,
    heads: &BTreeMap<RegistrySlug, RegistryHead>,
) -> Result<Change, ReadError> {
    let id: i64 = row.get(0)?;
    let broken = |detail: String| ReadError::row("changes", id, detail);
    let registry = read_registry(row, 1)?;
    let word: String = row.get(2)?;
    let operation =
        Operation::parse(&word).ok_or_else(|| broken(format!("unknown operation {word}")))?;
    let stamp = Stamp {
        actor: row.get(9)?,
        source: row.get(10)?,
        note: row.get(11)?,
        request_id: row.get(12)?,
        at_ms: row.get(13)?,
    };
    // The log keeps what a change did to the registry; names and creation come from the registry's row.
    let mut head = heads.get(&registry).cloned().unwrap_or_default();
    head.default_profile = ProfileSlug::parse_optional(&row.get::<_, String>(6)?)
        .map_err(|e| broken(e.to_string()))?;
    let version = unsigned(row.get(5)?);
    if head.metadata.version != version {
        head.metadata.version = version;
        head.metadata.updated_at_ms = stamp.at_ms;
        head.metadata.updated_by.clone_from(&stamp.actor);
        head.metadata.source.clone_from(&stamp.source);
    }
    let document: Option<String> = row.get(7)?;
    let profile = document.as_deref().map(parse_document).transpose().map_err(broken)?;
    Ok(Change {
        id: unsigned(id),
        registry,
        operation,
        slug: ProfileSlug::parse_optional(&row.get::<_, String>(3)?)
            .map_err(|e| broken(e.to_string()))?,
        version: unsigned(row.get(4)?),
        profile: profile.map(Arc::new),
        document: document.unwrap_or_default(),
        content_hash: row.get(8)?,
        head: Arc::new(head),
        stamp,
    })
}

/// A connection that goes back when it is not used any more: the last one that is closed folds the log in, which is the
/// companion's to announce.
struct Lent {
    connection: Option<Connection>,
    to: Arc<Mutex<Option<Connection>>>,
}

impl Deref for Lent {
    type Target = Connection;

    #[expect(clippy::unreachable, reason = "taken when this is dropped")]
    fn deref(&self) -> &Connection {
        self.connection.as_ref().unwrap_or_else(|| unreachable!("a connection that is lent"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A transaction ends with whoever began it. A connection that cannot even do that is closed here.
        if connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok() {
            *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
    }
}

struct Session {
    connection: Lent,
    /// For errors.
    path: String,
    /// `data_version` as last seen: it moves when another connection commits.
    seen: Option<i64>,
    /// Registries of this transaction, written once at its end however many changes they saw.
    touched: BTreeMap<RegistrySlug, Arc<RegistryHead>>,
    /// SQLite gave the whole transaction up by itself (a full disk does that): nothing of it may be written any more.
    lost: Option<StoreError>,
}

impl WriteSession for Session {
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        let now = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
            .map_err(|e| self.failed("look for changes in", &e))?;
        let changed = self.seen != Some(now);
        self.seen = Some(now);
        Ok(changed)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.touched.clear();
        self.lost = None;
        self.run("BEGIN IMMEDIATE").map_err(|e| self.failed("begin a write to", &e))
    }

    fn changes_after(&mut self, revision: u64) -> Result<Vec<Change>, StoreError> {
        let sql = format!("SELECT {CHANGE_COLUMNS} FROM changes c WHERE c.id > ?1 ORDER BY c.id");
        let read = read_changes(&self.connection, &sql, params![signed(revision)]);
        if read.is_err() {
            // Ask again next time: what was not read was not taken over.
            self.seen = None;
        }
        read.map_err(|error| error.at(&format!("read changes of {}", self.path)))
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let appended = self.run("SAVEPOINT command").and_then(|()| {
            changes.iter().try_for_each(|change| append_change(&self.connection, change))?;
            self.run("RELEASE command")
        });
        if let Err(error) = appended {
            let error = self.failed("append a change to", &error);
            if self.connection.is_autocommit() {
                self.lost = Some(error.clone());
            } else {
                // What is rolled back is a savepoint of ours, so this can fail only with the transaction itself.
                let _ = self.run("ROLLBACK TO command");
                let _ = self.run("RELEASE command");
            }
            return Err(error);
        }
        for change in changes {
            self.touched.insert(change.registry.clone(), change.head.clone());
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let touched = std::mem::take(&mut self.touched);
        if let Some(lost) = self.lost.take() {
            self.rollback();
            return Err(lost);
        }
        let committed = touched
            .iter()
            .try_for_each(|(slug, head)| write_head(&self.connection, slug, head))
            .and_then(|()| self.run("COMMIT"));
        committed.map_err(|error| {
            let error = self.failed("commit to", &error);
            self.rollback();
            error
        })
    }

    fn rollback(&mut self) {
        self.touched.clear();
        // What this transaction read of others was not published, so it has to be read again.
        self.seen = None;
        if !self.connection.is_autocommit()
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::error!(%error, "failed to roll back");
        }
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("SELECT 1 FROM migrations LIMIT 1")
            .and_then(|mut statement| statement.query_row([], |_| Ok(())))
            .map_err(|e| self.failed("reach", &e))
    }
}

impl Session {
    fn failed(&self, doing: &str, error: &rusqlite::Error) -> StoreError {
        failed(&format!("{doing} {}", self.path), error)
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
