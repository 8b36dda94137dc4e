//! Conversations: what turns a prompt and a resolved profile into an ordered stream of frames, a timeline and stored
//! turns.
//!
//! - [`conversation`] is the owner of one conversation: queue, idempotency, one run at a time.
//! - [`conversations`] finds or starts the owner of a conversation.
//! - [`run`] is the tool loop: what comes next is decided without I/O. [`runtime`] composes what it needs.
//! - [`frame`] and [`feed`] make and deliver what sockets see; [`timeline`] is the pure projection.
//! - [`turn`] is what models are told; [`recover`] closes what a dead process left open.
//! - [`counts`] is what operators count.
//! - Ports: [`model`], [`tool`], [`middleware`], [`store`].
//!
//! This crate knows no HTTP and no SQL.

pub mod conversation;
pub mod conversations;
pub mod counts;
pub mod feed;
pub mod frame;
pub mod middleware;
pub mod model;
pub mod recover;
pub mod run;
pub mod runtime;
pub mod store;
pub mod timeline;
pub mod tool;
pub mod turn;

use std::sync::Arc;

pub use conversations::Conversations;

/// What conversations take from outside, so that tests replay.
#[derive(Clone)]
pub struct Outside {
    /// Unix milliseconds, now.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// A new id, a UUID in the product.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Where models come from.
    pub models: Arc<dyn model::Models>,
    /// Middlewares and tools.
    pub toolbox: Arc<dyn middleware::Toolbox>,
    /// Where everything is kept.
    pub store: Arc<dyn store::ChatStore>,
}
