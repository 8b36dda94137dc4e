//! Conversations: what turns a prompt and a resolved profile into an ordered stream of frames and a timeline.
//!
//! - [`conversation`] is the owner of one conversation: queue, idempotency, one run at a time.
//! - [`conversations`] finds or starts the owner of a conversation.
//! - [`run`] drives one model call and reports to its owner.
//! - [`frame`] and [`feed`] make and deliver what sockets see; [`timeline`] is the pure projection.
//! - [`model`] is the port to models, [`turn`] what they are told.
//!
//! This crate knows no HTTP and no SQL.

pub mod conversation;
pub mod conversations;
pub mod feed;
pub mod frame;
pub mod model;
pub mod run;
pub mod timeline;
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
}
