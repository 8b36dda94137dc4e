//! The registry on SQLite: an append-only table of changes, slim heads, one row per registry (design, section 4).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use collodi_profiles::profile::history::{Change, Operation, RegistryHead};
use collodi_profiles::store::{
    Contents, ProfileStore, StoreError, StoreErrorKind, StoredRegistry, WriteSession,
};
use collodi_profiles::{Catalog, ProfileSlug, RegistrySlug};
use rusqlite::Connection;

use super::changes::{self, append_change, read_document};
use super::companion::{Companion, lock_folder};
use super::heads::{Head, Newest, Tail, read_heads};
use super::migrate::{self, Migration, Schema};
use super::registries::{read_registries, write_registry};
use super::row::{ReadError, signed, unsigned};
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
    migrations: &[
        Migration {
            name: "0001_registry",
            sql: include_str!("../../migrations/profiles/0001_registry.sql"),
        },
        Migration {
            name: "0002_chains",
            sql: include_str!("../../migrations/profiles/0002_chains.sql"),
        },
        Migration {
            name: "0003_hashes",
            sql: include_str!("../../migrations/profiles/0003_hashes.sql"),
        },
    ],
};

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
        Ok(Box::new(Session {
            connection,
            path,
            seen: None,
            tail: Tail::default(),
            last: 0,
            touched: BTreeMap::new(),
            lost: None,
        }))
    }

    fn history(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        self.read("read the history", |connection| {
            changes::history(connection, (registry, slug), before, limit)
        })
    }

    fn version(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
    ) -> Result<Option<Change>, StoreError> {
        self.read("read a version", |connection| {
            changes::version(connection, (registry, slug), version)
        })
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.read("read the audit log", |connection| {
            changes::changes_after(connection, after, limit)
        })
    }
}

fn load(connection: &Connection) -> Result<Contents, ReadError> {
    let revision = connection
        .query_row("SELECT coalesce(max(id), 0) FROM changes", [], |row| row.get::<_, i64>(0))
        .map(unsigned)?;
    let mut registries: BTreeMap<_, _> = read_registries(connection)?
        .into_iter()
        .map(|(slug, head)| (slug, StoredRegistry { head, ..StoredRegistry::default() }))
        .collect();
    for ((registry, slug), head) in read_heads(connection)? {
        let registry = registries
            .get_mut(&registry)
            .ok_or_else(|| ReadError::row("heads", &slug, format!("no registry {registry}")))?;
        if head.deleted {
            registry.deleted.insert(slug, unsigned(head.version));
        } else {
            let profile = read_document(connection, head.change, &slug, head.version)?;
            registry.profiles.push(profile);
        }
    }
    for (slug, registry) in &mut registries {
        let slugs = registry.profiles.iter().map(|profile| &profile.slug);
        if let Some(repair) = registry.head.repair_default(slugs) {
            tracing::warn!(registry = %slug, "{repair}");
        }
    }
    Ok(Contents { revision, registries })
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
    tail: Tail,
    /// The newest change of this transaction.
    last: i64,
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
        self.run("BEGIN IMMEDIATE").map_err(|e| self.failed("begin a write to", &e))?;
        self.tail.catch_up(&self.connection).map_err(|error| {
            self.rollback();
            error.at(&format!("read the newest changes of {}", self.path))
        })
    }

    fn changes_after(&mut self, revision: u64) -> Result<Vec<Change>, StoreError> {
        let read = changes::changes_after(&self.connection, revision, usize::MAX);
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
        let appended = match changes {
            // One statement is whole or not at all by itself.
            [change] => self.append_one(change),
            changes => self.append_all(changes),
        };
        if let Err(error) = appended {
            let error = self.failed("append a change to", &error);
            if self.take_back(changes.len()).is_err() {
                self.lost = Some(error.clone());
            }
            return Err(error);
        }
        for change in changes {
            self.last = signed(change.id);
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
        self.commit_all(&touched).map_err(|error| {
            self.rollback();
            error.at(&format!("commit to {}", self.path))
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

    fn append_all(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        self.run("SAVEPOINT command")?;
        changes.iter().try_for_each(|change| self.append_one(change))?;
        self.run("RELEASE command")
    }

    /// After an append that failed; fails itself when the transaction is gone, as when the disk is full.
    fn take_back(&mut self, changes: usize) -> Result<(), ReadError> {
        if changes != 1 {
            self.run("ROLLBACK TO command")?;
            self.run("RELEASE command")?;
        } else if self.connection.is_autocommit() {
            return Err(ReadError::Row("the transaction is gone".into()));
        }
        self.tail.read_again(&self.connection)
    }

    fn append_one(&mut self, change: &Change) -> rusqlite::Result<()> {
        let deleted = change.operation == Operation::Delete;
        let (id, version) = (signed(change.id), signed(change.version));
        let before = match &change.slug {
            Some(slug) => {
                let head = (deleted || change.profile.is_some()).then_some(Head {
                    version,
                    change: id,
                    deleted,
                });
                self.tail.add(&self.connection, (&change.registry, slug), id, head)?
            }
            None => Newest::default(),
        };
        append_change(&self.connection, change, before)
    }

    fn commit_all(
        &mut self,
        touched: &BTreeMap<RegistrySlug, Arc<RegistryHead>>,
    ) -> Result<(), ReadError> {
        for (slug, head) in touched {
            write_registry(&self.connection, slug, head)?;
        }
        if !touched.is_empty() {
            self.tail.settle(&self.connection, self.last)?;
        }
        self.run("COMMIT")?;
        self.tail.keep();
        Ok(())
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
