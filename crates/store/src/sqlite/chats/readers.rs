//! Connections for reading, a few: SQLite keeps the descriptor of a closed connection as long as another one of the
//! process has the file open, so that many at once would cost descriptors for good.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use collodi_profiles::store::StoreError;
use rusqlite::Connection;

use crate::sqlite::{Access, connect};

/// At most so many at once; who comes later waits.
const MOST: usize = 4;

#[derive(Default)]
pub(super) struct Readers {
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    /// Free, lent, or being opened.
    open: usize,
}

/// One of the places; given back when this is dropped, whatever happened meanwhile.
struct Place<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Readers {
    /// Reads with a connection that is free, a new one, or the next one that is given back.
    pub(super) fn with<T>(
        &self,
        path: &Path,
        read: impl FnOnce(&Connection) -> T,
    ) -> Result<T, StoreError> {
        let mut place = self.place();
        let connection = match place.connection.take() {
            Some(connection) => connection,
            None => connect(path, Access::Read)?,
        };
        let outcome = read(&connection);
        place.connection = Some(connection);
        Ok(outcome)
    }

    /// Reads with a connection that is free, or not at all.
    pub(super) fn try_with<T>(&self, read: impl FnOnce(&Connection) -> T) -> Option<T> {
        let free = self.lock().free.pop()?;
        let place = Place { readers: self, connection: Some(free) };
        place.connection.as_ref().map(read)
    }

    fn place(&self) -> Place<'_> {
        let mut pool = self.lock();
        loop {
            if let Some(connection) = pool.free.pop() {
                return Place { readers: self, connection: Some(connection) };
            }
            if pool.open < MOST {
                pool.open += 1;
                return Place { readers: self, connection: None };
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes all; nobody reads any more.
    pub(super) fn close(&self) {
        *self.lock() = Pool::default();
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.lock();
        match self.connection.take() {
            Some(connection) => pool.free.push(connection),
            None => pool.open = pool.open.saturating_sub(1),
        }
        drop(pool);
        self.readers.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteChats;

    #[test]
    fn f25_any_number_of_readers_share_a_few_connections_and_a_panic_costs_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        let _store = SqliteChats::open(&path).unwrap();
        let readers = Readers::default();
        let read =
            || readers.with(&path, |c| c.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
        std::thread::scope(|scope| {
            for n in 0..64 {
                let (readers, path) = (&readers, &path);
                scope.spawn(move || {
                    let reading =
                        || readers.with(path, |_| assert!(n % 4 != 0, "a defect in a read"));
                    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(reading));
                    assert_eq!(panics.is_err(), n % 4 == 0);
                    assert!(readers.lock().open <= MOST);
                });
            }
        });
        assert_eq!(read().unwrap().unwrap(), 1);
        let missing = readers.with(&folder.path().join("none/chat.db"), |_| ());
        drop(missing);
        assert_eq!(read().unwrap().unwrap(), 1);
        let pool = readers.lock();
        assert_eq!(pool.open, pool.free.len(), "all are back");
    }
}
