//! Opening SQLite files: the version of the library, connections with structured options, what a file is, migrations.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use collodi_profiles::store::{StoreError, StoreErrorKind};
use companion::Left;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub mod adopt;
mod changes;
pub mod chats;
pub(crate) mod companion;
pub(crate) mod copy;
mod heads;
pub mod import;
pub mod migrate;
pub mod profiles;
mod registries;
mod row;

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);

/// The oldest SQLite without the WAL-reset bug, and the release that was withdrawn.
const OLDEST: i32 = 3_051_003;
const WITHDRAWN: i32 = 3_052_000;

/// Checks the SQLite that is linked in.
///
/// # Errors
/// A version that can lose committed writes.
pub fn check_library() -> Result<(), StoreError> {
    let linked = rusqlite::version_number();
    if linked < OLDEST || (WITHDRAWN..WITHDRAWN + 1000).contains(&linked) {
        let text = format!(
            "SQLite {} can lose committed writes: 3.51.3 or 3.53 is needed",
            rusqlite::version()
        );
        return Err(StoreError::new(StoreErrorKind::Other, text));
    }
    Ok(())
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

/// Opens a database file by its path, never as a URI: `?`, `#` and `%` in names mean themselves (D22).
pub(crate) fn connect(path: &Path, access: Access) -> Result<Connection, StoreError> {
    if access == Access::Write {
        creatable(path)?;
    }
    let fail = |e: rusqlite::Error| failed(&format!("open {}", path.display()), &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if access == Access::Write { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    configure(&connection, access).map_err(fail)?;
    Ok(connection)
}

/// Makes a connection for writing of one that only looked.
pub(crate) fn to_writer(connection: Connection) -> rusqlite::Result<Connection> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.pragma_update(None, "query_only", false)?;
    configure(&connection, Access::Write)?;
    Ok(connection)
}

fn configure(connection: &Connection, access: Access) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement that a partial index might serve is prepared anew for every value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    if access == Access::Read {
        return connection.pragma_update(None, "query_only", true);
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)
}

/// SQLite does not wait for others when the journal mode changes, so this does: servers that start at once on a new file
/// would refuse each other.
pub(crate) fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let text = format!("journal mode is {mode}, not wal");
                return Err(rusqlite::Error::InvalidParameterName(text));
            }
            Err(error) => {
                let busy = matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                );
                if !busy || Instant::now() >= deadline {
                    return Err(error);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a path holds before anything of ours touches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No file, or an empty one without a log.
    Nothing,
    /// A database of this program at this schema version.
    Ours(i64),
    /// A registry database of the Go reference.
    Reference,
}

/// How closely a file is looked at before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every page: for what must never be served damaged, and is small.
    Every,
    /// What the file says of itself: for what grows without bound, so that a start does not grow with it.
    Head,
}

/// Looks at a file without changing it: a damaged, foreign or orphaned one is refused and left as it is (decision 6).
///
/// # Errors
/// The named cause, and what to do.
pub fn inspect(path: &Path, application_id: i32, look_at: Look) -> Result<Found, StoreError> {
    examine(path, application_id, look_at).map(|(found, _)| found)
}

/// As [`inspect`], with the connection that looked, if there is a file.
pub(crate) fn examine(
    path: &Path,
    application_id: i32,
    look_at: Look,
) -> Result<(Found, Option<Connection>), StoreError> {
    let refuse = |text: String| Err(StoreError::new(StoreErrorKind::Corrupt, text));
    let shown = path.display();
    let log = with_suffix(path, "-wal");
    let log_size = std::fs::metadata(&log).map_or(0, |m| m.len());
    let size = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return refuse(format!("{shown} is a folder, not a database file"));
        }
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(StoreError::new(StoreErrorKind::Other, format!("read {shown}: {e}"))),
    };
    if size == 0 && log_size > 0 {
        return refuse(format!(
            "{shown} is missing or empty but {} holds data: the database was lost or moved without its log; put it \
             back, or move the log away to start anew",
            log.display()
        ));
    }
    let left = Left::read(path)?;
    if size == 0 {
        return match left {
            Some(left) => left.check(None).map(|()| (Found::Nothing, None)),
            None => Ok((Found::Nothing, None)),
        };
    }
    // SQLite falls back to reading when it may not write, and says little when it may do neither.
    OpenOptions::new().read(true).write(true).open(path).map_err(|e| {
        let text = format!("open {shown} for reading and writing: {e}");
        StoreError::new(StoreErrorKind::Other, text)
    })?;
    let connection = open_untouched(path).map_err(|e| failed(&format!("open {shown}"), &e))?;
    let seen = look(&connection, look_at, application_id)
        .map_err(|e| failed(&format!("read {shown}: is it damaged or not a database?"), &e))?;
    if seen.verdict != ["ok"] {
        let verdict = seen.verdict.join("; ");
        return refuse(format!(
            "{shown} is damaged: {verdict}. It was left untouched; restore it from a snapshot"
        ));
    }
    if let Some(left) = left {
        left.check(seen.identity.as_deref())?;
    }
    let found = match (seen.owner, seen.user_version, &seen.tables[..]) {
        (owner, version, _) if owner == i64::from(application_id) => Found::Ours(version),
        (0, 0, []) => Found::Nothing,
        (0, 0, [table]) if table == "profile_registries" => Found::Reference,
        _ => {
            return refuse(format!(
                "{shown} is another program's database (tables: {}). It was left untouched",
                seen.tables.join(", ")
            ));
        }
    };
    Ok((found, Some(connection)))
}

/// What a database says of itself.
struct Seen {
    verdict: Vec<String>,
    owner: i64,
    user_version: i64,
    /// Of databases that are not ours.
    tables: Vec<String>,
    identity: Option<String>,
}

/// Looks in one transaction, so that another process that is just migrating is seen before or after, not in between.
fn look(connection: &Connection, look_at: Look, application_id: i32) -> rusqlite::Result<Seen> {
    let looking = connection.unchecked_transaction()?;
    let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
        looking.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let number =
        |pragma: &str| looking.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let verdict = match look_at {
        Look::Every => texts("PRAGMA quick_check(5)")?,
        Look::Head => vec!["ok".to_owned()],
    };
    let owner = number("application_id")?;
    let ours = owner == i64::from(application_id);
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let tables = if ours { Vec::new() } else { texts(tables)? };
    let identity = if ours || tables.iter().any(|table| table == "identity") {
        texts("SELECT id FROM identity")?.into_iter().next()
    } else {
        None
    };
    Ok(Seen { verdict, owner, user_version: number("user_version")?, tables, identity })
}

/// Says in the system's words why a database cannot be created, before SQLite says it in fewer.
fn creatable(path: &Path) -> Result<(), StoreError> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map(|_| ()).map_err(
        |e| StoreError::new(StoreErrorKind::Other, format!("create {}: {e}", path.display())),
    )
}

/// Opens for looking: closing it neither folds the log in nor removes it.
pub(crate) fn open_untouched(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_unfolded(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// The same for who may write.
fn open_unfolded(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Which database a file of ours says that it is.
pub(crate) fn identity_in(path: &Path) -> Option<String> {
    let connection = open_untouched(path).ok()?;
    connection.query_row("SELECT id FROM identity", [], |row| row.get(0)).ok()
}

/// Whether this process may write a database: a write transaction that changes nothing. Blocks.
///
/// # Errors
/// Why it may not.
pub fn try_write(path: &Path) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| failed(&format!("write {}", path.display()), &e);
    let connection = open_unfolded(path).map_err(fail)?;
    if connection.is_readonly("main").map_err(fail)? {
        let text = format!("{} can only be read", path.display());
        return Err(StoreError::new(StoreErrorKind::Other, text));
    }
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").map_err(fail)
}

/// Whether another process has the database open, as far as SQLite's locks tell: one that uses a log always holds one.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    let ask = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK")
    };
    let busy = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    ask().is_err_and(|e| e.sqlite_error_code().is_some_and(|code| busy.contains(&code)))
}

/// `profiles.db` and `-wal` make `profiles.db-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A failure of SQLite as a failure of the store.
pub(crate) fn failed(doing: &str, error: &rusqlite::Error) -> StoreError {
    const FSYNC: i32 = 1034;
    const DIR_FSYNC: i32 = 1290;
    // The shared-memory file could not grow; there is no other reason for that than space.
    const SHM_SIZE: i32 = 4874;
    const SHM_MAP: i32 = 5386;
    let kind = match error {
        rusqlite::Error::SqliteFailure(e, _) if [FSYNC, DIR_FSYNC].contains(&e.extended_code) => {
            StoreErrorKind::Io
        }
        rusqlite::Error::SqliteFailure(e, _) if [SHM_SIZE, SHM_MAP].contains(&e.extended_code) => {
            let text = format!("{doing}: no space left on device");
            return StoreError::new(StoreErrorKind::Full, text);
        }
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Other,
        },
    };
    StoreError::new(kind, format!("{doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f12_the_linked_sqlite_has_the_fix_of_the_wal_reset_bug() {
        check_library().unwrap();
    }

    #[test]
    fn a_statement_that_a_partial_index_might_serve_is_prepared_once() {
        use rusqlite::StatementStatus::RePrepare;
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("a.db"), Access::Write).unwrap();
        let schema = "CREATE TABLE t (x, state); CREATE INDEX i ON t (x) WHERE state = 'running'";
        connection.execute_batch(schema).unwrap();
        let mut statement =
            connection.prepare("SELECT x FROM t WHERE x = ?1 AND state = ?2").unwrap();
        for n in 0..10 {
            assert!(!statement.exists([n, n]).unwrap());
        }
        assert_eq!(statement.get_status(RePrepare), 0);
    }

    #[test]
    fn c10_d22_signs_in_paths_mean_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a?mode=memory#b%20c.db");
        let connection = connect(&path, Access::Write).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        drop(connection);
        assert!(path.is_file());
        let enforced: i64 = connect(&path, Access::Read)
            .unwrap()
            .pragma_query_value(None, "foreign_keys", |row| row.get(0))
            .unwrap();
        assert_eq!(enforced, 1, "per connection, not once per pool");
    }
}
