//! Numbered SQL files, one transaction each, checksummed, with a snapshot of the file before the first one. A newer or
//! altered schema is refused. Two processes may start at once: one migrates, the other finds it done.

use std::path::{Path, PathBuf};

use collodi_profiles::json::sha256_hex;
use collodi_profiles::store::{StoreError, StoreErrorKind};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{Access, Found, connect, failed, inspect, with_suffix};

/// One step of a schema.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// A kind of database of ours.
pub(crate) struct Schema {
    /// Marks the file as ours.
    pub(crate) application_id: i32,
    /// Step n brings the schema to version n (1, 2, ...).
    pub(crate) migrations: &'static [Migration],
}

const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL)";

/// Opens `path` for writing at the newest schema. `adopt` runs inside the first transaction when the file is a database
/// of the Go reference.
pub(crate) fn open(
    path: &Path,
    schema: &Schema,
    adopt: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let newest = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
    let found = inspect(path, schema.application_id)?;
    if let Found::Ours(version) = found
        && version > newest
    {
        let text = format!(
            "{} has schema version {version}, this program knows up to {newest}: use a newer collodi, or restore the \
             snapshot that was taken before the upgrade ({}.before-*)",
            path.display(),
            path.display()
        );
        return Err(StoreError::new(StoreErrorKind::Corrupt, text));
    }
    let mut connection = connect(path, Access::Write)?;
    if !matches!(found, Found::Nothing | Found::Ours(_))
        || matches!(found, Found::Ours(v) if v < newest)
    {
        let kept = snapshot_beside(&connection, path, found)?;
        tracing::info!(snapshot = %kept.display(), "kept a snapshot of the database before changing its schema");
    }
    migrate(&mut connection, path, schema, found == Found::Reference, adopt)?;
    Ok(connection)
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
        let checksum = sha256_hex(migration.sql);
        if number <= version {
            let recorded: String = transaction
                .query_row("SELECT sha256 FROM migrations WHERE version = ?1", [number], |row| {
                    row.get(0)
                })
                .map_err(fail)?;
            if recorded != checksum {
                let text = format!(
                    "{}: migration {number} is not the one this program knows",
                    path.display()
                );
                return Err(StoreError::new(StoreErrorKind::Corrupt, text));
            }
            continue;
        }
        transaction.execute_batch(migration.sql).map_err(fail)?;
        transaction
            .execute(
                "INSERT INTO migrations VALUES (?1, ?2, ?3)",
                params![number, migration.name, checksum],
            )
            .map_err(fail)?;
        transaction.pragma_update(None, "user_version", number).map_err(fail)?;
    }
    // Another process may have adopted it between the look and the lock.
    if reference && version == 0 {
        adopt(&transaction)?;
    }
    transaction.commit().map_err(fail)
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
    let names = (1..10_000).map(|n| with_suffix(path, &format!(".before-{label}-{n}")));
    let target = names.into_iter().find(|p| !p.exists()).ok_or_else(|| {
        StoreError::new(
            StoreErrorKind::Other,
            format!("{}: too many snapshots beside it", path.display()),
        )
    })?;
    let partial = with_suffix(&target, &format!(".{}.tmp", std::process::id()));
    let doing = format!("take a snapshot of {}", path.display());
    let taken = connection
        .execute("VACUUM INTO ?1", [partial.to_string_lossy().as_ref()])
        .map_err(|e| failed(&doing, &e))
        .and_then(|_| {
            std::fs::File::open(&partial)
                .and_then(|file| file.sync_all())
                .and_then(|()| std::fs::rename(&partial, &target))
                .map_err(|e| StoreError::new(StoreErrorKind::Other, format!("{doing}: {e}")))
        });
    if taken.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    taken.map(|()| target)
}
