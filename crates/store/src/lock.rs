//! The advisory lock of a database that belongs to one server (decision 5). It lies beside the database, so that readers
//! still work, and it is the kernel's: it ends with the process that holds it, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use collodi_profiles::store::{StoreError, StoreErrorKind};

use crate::sqlite::with_suffix;

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `path`.
    ///
    /// # Errors
    /// Another process has it: its id is in the text.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        let lock = with_suffix(path, ".lock");
        let fail = |e: std::io::Error| {
            StoreError::new(StoreErrorKind::Other, format!("lock {}: {e}", path.display()))
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let text = format!(
                    "{} is in use by the server with process id {}: a chat database belongs to one server (use \
                     another --data-dir or --chat-db)",
                    path.display(),
                    holder.trim()
                );
                return Err(StoreError::new(StoreErrorKind::Busy, text));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f12_a_second_holder_is_refused_by_name_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        let first = Lock::acquire(&path).unwrap();
        let refused = Lock::acquire(&path).unwrap_err().text;
        assert!(refused.contains(&format!("process id {}", std::process::id())), "{refused}");
        drop(first);
        Lock::acquire(&path).unwrap();
    }
}
