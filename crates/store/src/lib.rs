//! The stores: the ports of `collodi-profiles` on SQLite.
//!
//! - [`sqlite`] opens database files: structured options, pragmas, versioned migrations, refusal of what is not ours.
//! - [`sqlite::chats`] keeps conversations, each block once.
//! - [`sqlite::profiles`] keeps the registry; [`sqlite::adopt`] takes over databases of the Go reference.
//! - [`lock`] is the lock of a database that belongs to one server.
//! - [`snapshot`] copies databases that are in use and proves the copies, at a pace that leaves servers theirs ([`pace`]);
//!   [`restore`] puts them back.
//! - [`file`] replaces files so that a reader sees the old or the new content, never half of one.

pub mod file;
pub mod lock;
mod pace;
pub mod restore;
pub mod snapshot;
pub mod sqlite;
mod step;

pub use sqlite::chats::SqliteChats;
pub use sqlite::profiles::SqliteProfiles;
