//! Numbered SQL files, one transaction each, checksummed, with a snapshot of the file before the first one. A newer or
//! altered schema is refused. Two processes may start at once: one migrates, the other finds it done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collodi_profiles::json::sha256_hex;
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{Access, Found, Look, connect, examine, failed, to_writer, use_wal, with_suffix};
use crate::step::step;

/// One step of a schema.
#[derive(Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// A kind of database of ours.
pub(crate) struct Schema {
    /// Marks the file as ours.
    pub(crate) application_id: i32,
    /// How closely it is looked at when it is opened.
    pub(crate) look: Look,
    /// Step n brings the schema to version n (1, 2, ...).
    pub(crate) migrations: &'static [Migration],
}

const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL)";

/// Opens `path` for writing at the newest schema. When the file is a database of the Go reference, `check` looks at it
/// before anything is touched, and `adopt` runs inside the first transaction.
pub(crate) fn open(
    path: &Path,
    schema: &Schema,
    check: impl FnOnce(&Connection) -> Result<(), StoreError>,
    adopt: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let newest = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
    let fail = |e: rusqlite::Error| failed(&format!("open {}", path.display()), &e);
    let (found, looking) = examine(path, schema.application_id, schema.look)?;
    match (found, looking) {
        (Found::Ours(version), _) if version > newest => {
            let text = format!(
                "{} has schema version {version}, this program knows up to {newest}: use a newer collodi, or restore \
                 the snapshot that was taken before the upgrade ({}.before-*)",
                path.display(),
                path.display()
            );
            return Err(StoreError::new(StoreErrorKind::Corrupt, text));
        }
        (Found::Ours(version), Some(looking)) => {
            check_recorded(&looking, path, schema, version)?;
            if version == newest {
                let connection = to_writer(looking).map_err(fail)?;
                use_wal(&connection).map_err(fail)?;
                return Ok(connection);
            }
        }
        (Found::Reference, Some(looking)) => check(&looking)?,
        _ => {}
    }
    let mut connection = connect(path, Access::Write)?;
    if found != Found::Nothing {
        let kept = snapshot_beside(&connection, path, found)?;
        survive(path)?;
        tracing::info!(snapshot = %kept.display(), "kept a snapshot of the database before changing its schema");
    }
    migrate(&mut connection, path, schema, found == Found::Reference, adopt)?;
    // Only now, so that a migration that fails leaves every byte of the file as it was.
    use_wal(&connection).map_err(fail)?;
    // The schema is in the file itself from the start, and what an adoption overwrote is gone from it. Others that read
    // meanwhile only put that off.
    // A connection that has renamed a table reads the schema anew, and cannot fold while it does.
    let fold = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    fold.map_err(|e| failed(&format!("fold the log of {}", path.display()), &e))?;
    Ok(connection)
}

/// The migrations that the file has seen must be those that this program knows.
fn check_recorded(
    connection: &Connection,
    path: &Path,
    schema: &Schema,
    version: i64,
) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("read {}", path.display()), &e);
    let recorded = connection
        .prepare("SELECT version, sha256 FROM migrations")
        .and_then(|mut migrations| {
            let rows = migrations.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<BTreeMap<i64, String>>>()
        })
        .map_err(fail)?;
    for (number, migration) in (1..=version).zip(schema.migrations) {
        let wrong = match recorded.get(&number) {
            Some(sha256) if sha256_hex(migration.sql) == *sha256 => continue,
            Some(_) => "is not the one this program knows",
            None => "was never recorded",
        };
        let text = format!("{}: migration {number} {wrong}. It was left untouched", path.display());
        return Err(StoreError::new(StoreErrorKind::Corrupt, text));
    }
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    schema: &Schema,
    reference: bool,
    adopt: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let doing = format!("migrate {}", path.display());
    let fail = |e: rusqlite::Error| failed(&doing, &e);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let version: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    if version == 0 {
        transaction.pragma_update(None, "application_id", schema.application_id).map_err(fail)?;
    }
    transaction.execute_batch(JOURNAL).map_err(fail)?;
    for (number, migration) in (1_i64..).zip(schema.migrations) {
        if number <= version {
            continue; // compared before
        }
        let checksum = sha256_hex(migration.sql);
        transaction.execute_batch(migration.sql).map_err(fail)?;
        transaction
            .execute(
                "INSERT INTO migrations VALUES (?1, ?2, ?3)",
                params![number, migration.name, checksum],
            )
            .map_err(fail)?;
        survive(path)?;
        transaction.pragma_update(None, "user_version", number).map_err(fail)?;
        survive(path)?;
    }
    if version == 0 {
        transaction
            .execute("INSERT INTO identity SELECT lower(hex(randomblob(16)))", [])
            .map_err(fail)?;
    }
    // Another process may have adopted it between the look and the lock.
    if reference && version == 0 {
        adopt(&transaction)?;
    }
    survive(path)?;
    transaction.commit().map_err(fail)?;
    survive(path)
}

/// A place where a test lets the process die or the disk fail (F10).
fn survive(path: &Path) -> Result<(), StoreError> {
    let failed =
        |e| StoreError::new(StoreErrorKind::Io, format!("migrate {}: {e}", path.display()));
    step().map_err(failed)
}

/// `profiles.db.before-adoption-1` stands beside the file; an existing snapshot is never overwritten.
fn snapshot_beside(
    connection: &Connection,
    path: &Path,
    found: Found,
) -> Result<PathBuf, StoreError> {
    let label = match found {
        Found::Ours(version) => format!("v{version}"),
        _ => "adoption".to_owned(),
    };
    let doing = format!("take a snapshot of {}", path.display());
    let fail = |e: std::io::Error| StoreError::new(StoreErrorKind::Other, format!("{doing}: {e}"));
    // Processes in containers share their ids, so the name is drawn.
    let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), path);
    let partial = with_suffix(path, &format!(".snapshot-{drawn:016x}.tmp"));
    let taken = connection
        .execute("VACUUM INTO ?1", [partial.to_string_lossy().as_ref()])
        .map_err(|e| failed(&doing, &e))
        .and_then(|_| std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(fail))
        .and_then(|()| name_snapshot(&partial, path, &label).map_err(fail));
    // Linked under its name by now, or not wanted.
    let _ = std::fs::remove_file(&partial);
    taken
}

/// Links the snapshot under the first name that is free; linking never replaces a file.
fn name_snapshot(partial: &Path, path: &Path, label: &str) -> std::io::Result<PathBuf> {
    for number in 1..10_000 {
        let target = with_suffix(path, &format!(".before-{label}-{number}"));
        match std::fs::hard_link(partial, &target) {
            Ok(()) => return Ok(target),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(std::io::Error::other("too many snapshots beside it"))
}

#[cfg(test)]
mod tests;
