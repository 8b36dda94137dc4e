//! The companion file of a database: `profiles.db.state`.
//!
//! SQLite takes any log that lies beside a database for that database's own, and none at all for a clean end. So the
//! identity of the database and how it was left are also kept in a file of their own: a log that is gone although the
//! database was not closed, and a log that belongs to another database, are noticed before anything is served. A
//! database without a companion, a copy for example, is taken as it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use collodi_profiles::store::{StoreError, StoreErrorKind};

use super::with_suffix;
use crate::file;

/// Somebody has it open, or ended without closing it: there must be a log.
const OPEN: &str = "open";
/// Somebody is closing it: there may be a log.
const CLOSING: &str = "closing";
/// Everything is in the database itself: there is no log.
const CLOSED: &str = "closed";

/// Held while a database is opened or closed, so that one starting process sees the finished work of the other. It is the
/// lock of the folder: nothing is created for it, and it ends with the process.
pub(crate) fn lock_folder(path: &Path) -> Option<File> {
    let folder = File::open(file::folder_of(path)).ok()?;
    // A file system without locks has servers that start at once only by accident.
    folder.lock().ok().map(|()| folder)
}

/// What the companion said when the database was found.
pub(super) struct Left {
    path: PathBuf,
    identity: String,
}

impl Left {
    /// Reads the companion of `path`, if there is one, and compares it with the log that lies there. Comes before the
    /// database is opened, because opening it makes a log.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let companion = with_suffix(path, ".state");
        let Ok(text) = fs::read_to_string(&companion) else { return Ok(None) };
        let mut words = text.split_whitespace();
        let (identity, state) = (words.next().unwrap_or_default(), words.next());
        let left = Self { path: path.to_owned(), identity: identity.to_owned() };
        let log = with_suffix(path, "-wal");
        let size = fs::metadata(&log).map(|meta| meta.len()).ok();
        match (state, size) {
            (Some(OPEN), None) => Err(left.refused(&format!(
                "was not closed but its log {} is gone: committed changes are missing. Put the log back, or restore a \
                 snapshot",
                log.display()
            ))),
            (Some(CLOSED), Some(1..)) => Err(left.refused(&format!(
                "was closed, so the log {} is not its own",
                log.display()
            ))),
            _ => Ok(Some(left)),
        }
    }

    /// Compares with what the database says of itself, read together with its log.
    pub(super) fn check(&self, identity: Option<&str>) -> Result<(), StoreError> {
        if identity == Some(self.identity.as_str()) {
            return Ok(());
        }
        let other = "is not the database that its companion belongs to; a log of another database has this effect";
        Err(self.refused(other))
    }

    fn refused(&self, what: &str) -> StoreError {
        let (path, companion) = (self.path.display(), with_suffix(&self.path, ".state"));
        let text = format!(
            "{path} {what}. It was left untouched; if it was replaced on purpose, remove {}",
            companion.display()
        );
        StoreError::new(StoreErrorKind::Corrupt, text)
    }
}

/// The companion of an open database.
#[derive(Debug)]
pub(super) struct Companion {
    path: PathBuf,
    identity: String,
}

impl Companion {
    /// Says that the database is open; its log exists by now.
    pub(super) fn open(path: &Path, identity: &str) -> Result<Self, StoreError> {
        let companion = Self { path: path.to_owned(), identity: identity.to_owned() };
        let state = with_suffix(path, ".state");
        // After a crash, and beside another server, it says so already.
        if fs::read_to_string(&state).is_ok_and(|text| text == companion.text(OPEN)) {
            return Ok(companion);
        }
        companion.write(OPEN).map_err(|e| {
            let text = format!("write {}: {e}", state.display());
            StoreError::new(StoreErrorKind::Other, text)
        })?;
        Ok(companion)
    }

    /// Closes the database with `close` and says how it was left: still open if others have it.
    pub(super) fn close(&self, close: impl FnOnce()) {
        let _alone = lock_folder(&self.path);
        // A companion that cannot be written is no reason to keep the database open.
        let _ = self.write(CLOSING);
        close();
        let log = with_suffix(&self.path, "-wal");
        let _ = self.write(if log.exists() { OPEN } else { CLOSED });
    }

    fn text(&self, state: &str) -> String {
        format!("{} {state}\n", self.identity)
    }

    fn write(&self, state: &str) -> std::io::Result<()> {
        file::swap(&with_suffix(&self.path, ".state"), self.text(state).as_bytes())
    }
}
