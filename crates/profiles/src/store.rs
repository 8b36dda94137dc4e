//! The port to a database. A store keeps the log of changes and the heads; it decides nothing and invents nothing.
//!
//! One [`WriteSession`] belongs to the registry's writer thread. Its calls block and always come as
//! `begin`, (`changes_after`, `append`)*, `commit` or `rollback`. What one [`WriteSession::append`] writes is there
//! whole or not at all, also when another append of the same transaction fails.

use std::collections::BTreeMap;

use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::Profile;
use crate::profile::history::{Change, RegistryHead};

/// Why a store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No space left; writes may succeed again later.
    Full,
    /// Another process held the database for too long.
    Busy,
    /// The device failed. What was written last is unknown, so the writer stops until the next start.
    Io,
    /// The database is damaged, or holds what this program never wrote.
    Corrupt,
    /// The registry has been shut down.
    Closed,
    /// Anything else.
    Other,
}

/// A failure of a store; the text is for the operator, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct StoreError {
    /// What kind.
    pub kind: StoreErrorKind,
    /// What happened, reads after "failed to".
    pub text: String,
}

impl StoreError {
    /// A failure of that kind.
    #[must_use]
    pub fn new(kind: StoreErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// A registry as it is loaded.
#[derive(Debug, Default)]
pub struct StoredRegistry {
    /// What is true beside the profiles.
    pub head: RegistryHead,
    /// The profiles that exist.
    pub profiles: Vec<Profile>,
    /// Last versions of profiles that were deleted: a namesake continues above them (decision 11).
    pub deleted: BTreeMap<ProfileSlug, u64>,
}

/// Everything that is stored, as one consistent read.
#[derive(Debug, Default)]
pub struct Contents {
    /// The id of the newest change, 0 in an empty database.
    pub revision: u64,
    /// By slug.
    pub registries: BTreeMap<RegistrySlug, StoredRegistry>,
}

/// A database with profiles in it.
pub trait ProfileStore: Send + Sync {
    /// Reads everything.
    ///
    /// # Errors
    /// When the database cannot be read or holds what this program never wrote.
    fn load(&self) -> Result<Contents, StoreError>;

    /// Opens the one session that writes.
    ///
    /// # Errors
    /// When the database cannot be opened for writing.
    fn writer(&self) -> Result<Box<dyn WriteSession>, StoreError>;

    /// Changes of one profile, newest first, at most `limit`, with ids below `before` (0: from the newest). Pages go by
    /// id, because becoming the default is a change that keeps the version.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn history(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError>;

    /// The change that gave a profile this version, with the profile; none for a version that it never had, or that
    /// deleted it.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn version(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
    ) -> Result<Option<Change>, StoreError>;

    /// Changes of the whole database with ids above `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn audit(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError>;
}

/// The connection of the writer thread.
pub trait WriteSession: Send {
    /// Whether somebody else may have committed since the last call; cheap, may say yes too often.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError>;

    /// Takes the database's write lock; changes read from here on are the newest.
    ///
    /// # Errors
    /// When the lock cannot be had in time.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Committed changes with ids above `revision`, oldest first; inside or outside a transaction.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn changes_after(&mut self, revision: u64) -> Result<Vec<Change>, StoreError>;

    /// Appends changes and moves the heads: all of them or none.
    ///
    /// # Errors
    /// When the database cannot be written. The transaction goes on without them, or is lost as a whole (a full disk may
    /// do that); then every later append and the commit fail too.
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Makes everything since `begin` durable.
    ///
    /// # Errors
    /// When it cannot; then nothing since `begin` was written, except after [`StoreErrorKind::Io`].
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Drops everything since `begin`.
    fn rollback(&mut self);

    /// Whether the database answers, for readiness.
    ///
    /// # Errors
    /// When it does not.
    fn ping(&mut self) -> Result<(), StoreError>;
}
