//! How a long job shares a machine with the servers on it: it ends its turns of the processor itself, and what it writes
//! goes to the disk in small pieces with rests between them. Otherwise a commit waits for a tick of the scheduler, or
//! behind the whole copy.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::{Advice, fadvise};

/// How long a turn is; a server that woke up meanwhile comes next.
const TURN: Duration = Duration::from_micros(100);
/// Instructions of SQLite between looks at the clock, some microseconds.
const INSTRUCTIONS: i32 = 400;
/// Bytes that go to the disk at once.
const PIECE: u64 = 256 * 1024;
/// How long the disk is left to others after that; a bound of 1 GB/s for whoever writes.
const REST: Duration = Duration::from_micros(250);

/// The turns of a thread.
#[derive(Debug)]
pub(crate) struct Turns(Instant);

impl Turns {
    /// The first begins.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Lets others run if the turn is over, and says whether it was.
    pub(crate) fn pass(&mut self) -> bool {
        let is_over = self.0.elapsed() >= TURN;
        if is_over {
            thread::yield_now();
            self.0 = Instant::now();
            #[cfg(test)]
            PASSED.set(PASSED.get() + 1);
        }
        is_over
    }
}

#[cfg(test)]
thread_local! {
    /// Turns that ended on this thread.
    pub(crate) static PASSED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Lets statements of this connection take turns.
///
/// # Errors
/// A connection that is closed.
pub(crate) fn take_turns(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut turns = Turns::begin();
    connection.progress_handler(
        INSTRUCTIONS,
        Some(move || {
            turns.pass();
            false
        }),
    )
}

/// Starts to put a growing file on the disk, piece by piece. It promises nothing: whoever wrote the file still syncs it.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    path: PathBuf,
    file: Option<File>,
    /// Bytes from the start that were seen to.
    done: u64,
}

impl WriteBehind {
    /// Nothing of the file at `path`, which may come later.
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { path, file: None, done: 0 }
    }

    /// The pieces that the file has grown by, but for the last two: its end may be written once more.
    pub(crate) fn go_on(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &self.file else { return };
        let size = file.metadata().map_or(0, |meta| meta.len());
        while size >= self.done + 2 * PIECE {
            // "Not needed" starts to write what was not written, and keeps it at hand until it is (posix_fadvise(2)). A file
            // system that knows nothing of it leaves all to the sync at the end.
            let _ = fadvise(file, self.done, NonZeroU64::new(PIECE), Advice::DontNeed);
            self.done += PIECE;
            thread::sleep(REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_growing_file_is_put_on_the_disk_behind_its_end_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let mut behind = WriteBehind::of(path.clone());
        behind.go_on();
        assert_eq!(behind.done, 0, "there is no file yet");
        let size = usize::try_from(3 * PIECE).unwrap() + 1;
        let content: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(&path, &content[..size / 3]).unwrap();
        behind.go_on();
        assert_eq!(behind.done, 0, "its end may change");
        fs::write(&path, &content).unwrap();
        for _ in 0..2 {
            behind.go_on();
            assert_eq!(behind.done, 2 * PIECE);
        }
        assert_eq!(fs::read(&path).unwrap(), content);
    }

    #[test]
    fn statements_that_take_long_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("a.db")).unwrap();
        let fill = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
            CREATE INDEX i ON t (b);
            WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 20000)
            INSERT INTO t SELECT v, hex(randomblob(20)) FROM n";
        connection.execute_batch(fill).unwrap();
        take_turns(&mut connection).unwrap();
        PASSED.set(0);
        let said = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        assert_eq!(connection.query_row("PRAGMA integrity_check", [], said).unwrap(), "ok");
        assert!(PASSED.get() > 1);
    }
}
