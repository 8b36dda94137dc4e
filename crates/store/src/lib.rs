//! The stores: the ports of `collodi-profiles` on SQLite.
//!
//! - [`sqlite`] opens database files: structured options, pragmas, versioned migrations, refusal of what is not ours.
//! - [`sqlite::profiles`] keeps the registry; [`sqlite::adopt`] takes over databases of the Go reference.
//! - [`file`] replaces files so that a reader sees the old or the new content, never half of one.

pub mod file;
pub mod sqlite;

pub use sqlite::profiles::SqliteProfiles;
