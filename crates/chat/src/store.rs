//! The port to the database of conversations. A store keeps what owners hand it, in their order; it decides nothing.
//!
//! Reads block and belong on a thread for blocking work. Writes are handed in as batches: each is one unit, batches of one
//! conversation are applied in the order in which they came, and the receipt says when they are durable.

use std::sync::Arc;

use collodi_profiles::json::Object;
use collodi_profiles::store::StoreError;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::run::Phase;
use crate::timeline::Entity;
use crate::turn::{Block, Layout};

/// Names a conversation inside a store.
pub type Row = i64;

/// A conversation as it is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversationRecord {
    /// The client's or our id.
    pub conv_id: String,
    /// Stays the same over evictions and restarts (decision 23).
    pub session_id: String,
    /// A name for people; may be empty.
    pub title: String,
    /// `active`, `failed`, `interrupted`: how the newest turn ended, or that it runs (D57).
    pub status: String,
    /// Why the newest turn failed; empty when it did not.
    pub last_error: String,
    /// The profile of the newest turn.
    pub runtime_key: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub last_activity_ms: i64,
    /// Every frame of the conversation so far has a number below this one.
    pub seq: u64,
}

/// What a conversation goes on from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name in the store.
    pub row: Row,
    /// What is known of it.
    pub record: ConversationRecord,
    /// The newest turn.
    pub head: Option<TurnRecord>,
    /// The number of the next block.
    pub next_place: u64,
}

/// How a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnState {
    /// It runs, or the process died while it did.
    Running,
    /// Answered to the end.
    Completed,
    /// Failed.
    Failed,
    /// Cancelled by somebody.
    Cancelled,
    /// Cut off by the end of the process.
    Interrupted,
}

impl TurnState {
    /// The word that is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all =
            [Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Interrupted];
        all.into_iter().find(|state| state.as_str() == word)
    }
}

/// What a turn ran under: the truth about it, never changed afterwards (chapter 30 §4.4, decision 19).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// The registry.
    pub registry: String,
    /// The profile.
    pub profile: String,
    /// Its version.
    pub version: u64,
    /// What the answer is attributed to.
    pub runtime_key: String,
    /// Of everything that it ran under.
    pub fingerprint: String,
}

/// A turn without its blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRecord {
    /// Counts the turns of a conversation from 1.
    pub ordinal: u64,
    /// Its id.
    pub turn_id: String,
    /// The run that made it.
    pub inference_id: String,
    /// The session that it belongs to.
    pub session_id: String,
    /// How it stands.
    pub state: TurnState,
    /// What it ran under.
    pub attribution: Attribution,
    /// A later turn tries the same prompt again (decision 26).
    pub superseded: bool,
    /// The context before its prompt.
    pub base: Layout,
    /// The context after it: what the next turn goes on from.
    pub layout: Layout,
    /// What it carries to the next turn.
    pub data: Object,
    /// Model, tokens, end: what is known of how it was made.
    pub metadata: Object,
    /// Unix milliseconds.
    pub started_at_ms: i64,
    /// Unix milliseconds; 0 while it runs.
    pub ended_at_ms: i64,
}

/// A client's idempotency key (decision 43).
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// The key.
    pub key: String,
    /// SHA-256 of the trimmed prompt, in hex.
    pub prompt_sha256: String,
    /// `queued`, `started`, `completed`, `error`.
    pub status: String,
    /// The turn, once it has started.
    pub turn_id: String,
    /// The run.
    pub inference_id: String,
    /// Why it failed; empty when it did not.
    pub error: String,
    /// The keys of the answer that tell what it runs under.
    pub runtime: Object,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// One write of one conversation.
#[derive(Debug, Clone)]
pub enum Write {
    /// The conversation itself.
    Conversation(Box<ConversationRecord>),
    /// A new title alone.
    Title(String),
    /// A block is appended to the log at its place.
    Block(Arc<Block>),
    /// A turn began or changed.
    Turn(Box<TurnRecord>),
    /// A snapshot of a turn.
    Snapshot {
        ordinal: u64,
        phase: Phase,
        at_ms: i64,
        layout: Layout,
        data: Object,
        metadata: Object,
    },
    /// An entity as it is now; text that was appended to it before is part of it.
    Entity(Arc<Entity>),
    /// More text of a message that grows.
    EntityText { id: String, version: u64, updated_at_ms: i64, text: String },
    /// A client's key.
    Request(Box<RequestRecord>),
    /// A client's key is free again.
    ForgetRequest(String),
    /// Everything of the conversation goes.
    Delete,
}

/// Says when a batch is durable, or why it is not.
pub type Receipt = oneshot::Receiver<Result<(), StoreError>>;

/// Which entities of a timeline are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineRange {
    /// What changed after this version; 0 is everything.
    pub since: u64,
    /// Of everything, what stands before this place; for the pages behind the newest one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl TimelineRange {
    /// The newest entities.
    #[must_use]
    pub fn newest(limit: usize) -> Self {
        Self { since: 0, before: None, limit }
    }
}

/// A page of a timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelinePage {
    /// The version that a client may go on from.
    pub version: u64,
    /// The place of the first entity, when older ones were left out of a full read.
    pub older: Option<u64>,
    /// Entities as JSON texts, in their order.
    pub entities: Vec<String>,
}

/// Which snapshots of turns are wanted; empty texts are no filter.
#[derive(Debug, Clone, Default)]
pub struct TurnFilter {
    /// Of this conversation.
    pub conv_id: String,
    /// Of this session.
    pub session_id: String,
    /// Of this turn.
    pub turn_id: String,
    /// Of this phase.
    pub phase: String,
    /// Taken at or after.
    pub since_ms: i64,
    /// At most so many.
    pub limit: usize,
}

/// A snapshot with everything that it shows.
#[derive(Debug, Clone)]
pub struct TurnSnapshot {
    /// The conversation.
    pub conv_id: String,
    /// The phase.
    pub phase: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// The turn's data at that moment.
    pub data: Object,
    /// What was known of how it was made at that moment (D36).
    pub metadata: Object,
    /// The turn.
    pub turn: TurnRecord,
}

/// A turn that was running when the process died, with what is known of it.
#[derive(Debug)]
pub struct Unfinished {
    /// The conversation.
    pub row: Row,
    /// What is known of it.
    pub record: ConversationRecord,
    /// The turn.
    pub turn: TurnRecord,
    /// Its blocks.
    pub blocks: Vec<Arc<Block>>,
    /// The number of the next block.
    pub next_place: u64,
    /// Messages that still say streaming, with the text that was stored.
    pub streaming: Vec<(Entity, String)>,
}

/// A place in the list of conversations; it stays a place when its conversation is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPlace {
    /// Of the conversation there.
    pub conv_id: String,
    /// Of the conversation there.
    pub last_activity_ms: i64,
}

/// A page of the list of conversations.
#[derive(Debug, Clone, Default)]
pub struct ConversationFilter {
    /// In title or id, compared in lower case; empty is no filter.
    pub text: String,
    /// Ordered behind this place; the default is from the start.
    pub after: ListPlace,
    /// At most so many.
    pub limit: usize,
}

/// A database with conversations in it.
pub trait ChatStore: Send + Sync {
    /// A name for a conversation that is new.
    fn new_row(&self) -> Row;

    /// Hands in a batch of one conversation. A batch that fails is kept and applied before the next one of the same
    /// conversation, so that nothing is ever there without what it stands on.
    fn write(&self, row: Row, batch: Vec<Write>) -> Receipt;

    /// As [`Self::write`], for several conversations in one transaction.
    fn write_together(&self, batches: Vec<(Row, Vec<Write>)>) -> Vec<Receipt>;

    /// As [`Self::write`], but a batch that fails is gone: for what is refused then.
    fn write_or_drop(&self, row: Row, batch: Vec<Write>) -> Receipt;

    /// How many batches wait.
    fn backlog(&self) -> usize;

    /// Waits until everything that was handed in before has been tried.
    fn settled(&self) -> Receipt;

    /// A conversation; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn load(&self, conv_id: &str) -> Result<Option<Loaded>, StoreError>;

    /// The blocks of a layout, in its order; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn blocks(&self, row: Row, layout: &Layout) -> Result<Vec<Arc<Block>>, StoreError>;

    /// A client's key; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn request(&self, row: Row, key: &str) -> Result<Option<RequestRecord>, StoreError>;

    /// A page of a timeline (decision 22, D22, D23); blocks. A full read keeps the newest entities, a read since a version
    /// the oldest, and its version is that of the last one.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn timeline(&self, conv_id: &str, range: TimelineRange) -> Result<TimelinePage, StoreError>;

    /// The same of a read since a version that finds little, if that can be had without waiting: a look into pages that
    /// are most likely in memory costs less than the way to a thread that may wait, and does not block for longer.
    fn recent_timeline(&self, conv_id: &str, range: TimelineRange) -> Option<TimelinePage>;

    /// Snapshots of turns, newest first; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn turns(&self, filter: &TurnFilter) -> Result<Vec<TurnSnapshot>, StoreError>;

    /// Conversations, the latest activity first; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn conversations(
        &self,
        filter: &ConversationFilter,
    ) -> Result<Vec<ConversationRecord>, StoreError>;

    /// Turns that say they run, read behind what was handed in before.
    fn unfinished(&self) -> oneshot::Receiver<Result<Vec<Unfinished>, StoreError>>;

    /// Whether the database answers whoever writes, for readiness.
    fn ping(&self) -> Receipt;

    /// Ends the writer after the batches that were handed in; blocks.
    fn close(&self);
}

/// An object of an open map, or none.
#[must_use]
pub fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
