//! Copies a database page by page while others write to it (decision 0031).

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use super::open_untouched;
use crate::pace::{Turns, WriteBehind};

/// Pages that are copied at once, some tens of microseconds.
const PAGES: i32 = 32;

/// Copies a database as it is now, whatever is written meanwhile, into one file without a log. Blocks. A copy that fails
/// leaves its beginning; nothing of it is certain to be on the disk before it is synced.
///
/// # Errors
/// A source that cannot be read, a file that cannot be written or that exists and is no database.
pub(crate) fn copy(path: &Path, target: &Path) -> rusqlite::Result<()> {
    let (mut turns, mut behind) = (Turns::begin(), WriteBehind::of(target.to_owned()));
    copy_pages(path, target, || {
        // What starts the disk takes a while too: a turn of its own.
        if turns.pass() {
            behind.go_on();
        }
    })?;
    // The pages say how the source is written; the copy is one file.
    open(target)?.pragma_update(None, "journal_mode", "delete")
}

/// The pages as they are, and something to do after some of them.
fn copy_pages(path: &Path, target: &Path, mut after_some: impl FnMut()) -> rusqlite::Result<()> {
    let source = open_untouched(path)?;
    // One look at the source for all pages: a copy that lets go of it between steps begins again after each write.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    let mut copy = open(target)?;
    // A file with larger pages than the source's takes those in as they are, sixteen of the usual ones to a write. A table
    // settles the size. 16 pages at hand, or what is written at the end comes all at once.
    copy.execute_batch(
        "PRAGMA page_size = 65536; PRAGMA cache_size = 16; PRAGMA journal_mode = off; CREATE TABLE t (a)",
    )?;
    let backup = Backup::new(&source, &mut copy)?;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::More => after_some(),
            // Both files are held, so neither is busy; should one be, the copy fails.
            _ => {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_BUSY),
                    None,
                ));
            }
        }
    }
}

/// Opens a file that nobody else uses and that is synced when it is whole.
fn open(target: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(target, flags)?;
    copy.execute_batch("PRAGMA locking_mode = exclusive; PRAGMA synchronous = off")?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pace::PASSED;
    use crate::sqlite::with_suffix;

    const WAL: &str = "PRAGMA journal_mode = wal; PRAGMA synchronous = off";
    /// Everything of the larger table.
    const ALL: &str = "SELECT group_concat(n || x) FROM (SELECT * FROM a ORDER BY n)";

    /// A database of some pages, its connection open.
    fn filled(path: &Path, pragmas: &str, rows: u32) -> Connection {
        let connection = Connection::open(path).unwrap();
        let text = format!(
            "{pragmas}; CREATE TABLE a (n INTEGER PRIMARY KEY, x TEXT); CREATE TABLE b (n INTEGER PRIMARY KEY);
            CREATE INDEX i ON a (x);
            WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {rows})
            INSERT INTO a SELECT v, hex(randomblob(40)) FROM n;
            INSERT INTO b SELECT n FROM a"
        );
        connection.execute_batch(&text).unwrap();
        connection
    }

    fn asked<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_is_the_moment_at_which_it_began_whatever_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        let writer = filled(&path, WAL, 10_000);
        let before: String = asked(&writer, ALL);
        let mut writes = 0;
        copy_pages(&path, &target, || {
            writer
                .execute_batch(
                    "UPDATE a SET x = 'new' WHERE n % 100 = 1; INSERT INTO b DEFAULT VALUES",
                )
                .unwrap();
            writes += 1;
            assert!(writes < 1_000, "it begins again and again");
        })
        .unwrap();
        assert!(writes > 10, "{writes}");
        assert_eq!(asked::<String>(&Connection::open(&target).unwrap(), ALL), before);
    }

    #[test]
    fn a_copy_of_a_database_with_a_log_is_one_file_and_others_had_their_turns() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        let _others = filled(&path, WAL, 20_000);
        PASSED.set(0);
        copy(&path, &target).unwrap();
        assert!(PASSED.get() > 1);
        // 1 and 1: a reader needs no log (file format of SQLite, 1.3.3).
        assert_eq!(fs::read(&target).unwrap()[18..20], [1, 1]);
        for suffix in ["-wal", "-shm", "-journal"] {
            assert!(!with_suffix(&target, suffix).exists(), "{suffix}");
        }
    }

    #[test]
    fn pages_of_every_size_are_copied_as_they_are() {
        for size in [512, 1024, 4096, 16_384, 65_536] {
            for mode in ["delete", "wal"] {
                let folder = tempfile::tempdir().unwrap();
                let (path, target) = (folder.path().join("a.db"), folder.path().join("copy.db"));
                let pragmas = format!("PRAGMA page_size = {size}; PRAGMA journal_mode = {mode}");
                let source = filled(&path, &pragmas, 1_500);
                copy(&path, &target).unwrap();
                let copied = Connection::open(&target).unwrap();
                let of = |sql: &str| [&source, &copied].map(|c| asked::<i64>(c, sql));
                assert_eq!(of("PRAGMA page_size"), [size; 2], "{mode}");
                let [pages, same] = of("PRAGMA page_count");
                assert_eq!(
                    (pages, pages * size),
                    (same, i64::try_from(target.metadata().unwrap().len()).unwrap())
                );
                assert_eq!(
                    asked::<String>(&copied, "PRAGMA integrity_check"),
                    "ok",
                    "{size} {mode}"
                );
                assert_eq!(
                    asked::<String>(&copied, ALL),
                    asked::<String>(&source, ALL),
                    "{size} {mode}"
                );
            }
        }
    }
}
