//! The profile registry: what a profile is, which changes to it are allowed, and what a conversation runs under.
//!
//! - [`ids`], [`profile`] and its children are values and pure rules: patch, validate, extensions, resolve, YAML.
//! - [`schema`] coerces and validates configuration against JSON Schema, with provenance.
//! - [`settings`] is the table of provider settings a profile may patch.
//! - [`catalog`] says which middlewares, tools and extension schemas exist in this process.
//! - [`registry`] is the service: reads are a pointer to an immutable snapshot, writes go through one command path.
//! - [`store`] is the port to a database.
//!
//! This crate knows no HTTP, no SQL and no provider client.

pub mod catalog;
pub mod diff;
pub mod error;
pub mod ids;
pub mod json;
pub mod profile;
mod quote;
pub mod registry;
pub mod schema;
pub mod settings;
pub mod store;

pub use catalog::Catalog;
pub use error::{Error, Problem, Resource};
pub use ids::{ExtensionKey, ProfileSlug, RegistrySlug, RuntimeKey};
pub use profile::{Metadata, MiddlewareUse, Policy, Profile, Runtime};
pub use registry::{Author, Registry, Snapshot};
