//! Letters to the owner of a conversation, what is in them and what is answered.

use std::sync::Arc;

use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use serde_json::json;
use tokio::sync::oneshot;

use crate::feed::{Dialect, Held, Inbox};
use crate::store::Attribution;

/// A prompt with everything that it runs under, resolved when it was submitted (decision 19).
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Trimmed, not empty.
    pub text: String,
    /// The client's, or one of ours.
    pub idempotency_key: String,
    /// Whether the key is the client's: those are kept (decision 43).
    pub client_key: bool,
    /// Immutable from here on.
    pub runtime: Arc<EffectiveProfile>,
    /// Whether this run pauses around tools; nothing said means what the debug API set.
    pub step_mode: Option<bool>,
    /// The newest turn, when this prompt takes its place (decision 26).
    pub retry_turn_id: Option<String>,
    /// The request that brought it, for the log.
    pub request_id: String,
}

/// What an answer says of the runtime (decision 18).
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeSummary(pub Object);

impl RuntimeSummary {
    pub(super) fn of(runtime: &EffectiveProfile) -> Self {
        Self(crate::store::object(json!({
            "runtime_key": runtime.runtime_key,
            "runtime_fingerprint": runtime.fingerprint,
            "profile_metadata": runtime.metadata(),
        })))
    }
}

pub(super) fn attribution(runtime: &EffectiveProfile) -> Attribution {
    Attribution {
        registry: runtime.registry.to_string(),
        profile: runtime.slug.to_string(),
        version: runtime.version,
        runtime_key: runtime.runtime_key.to_string(),
        fingerprint: runtime.fingerprint.clone(),
    }
}

/// Where a submitted prompt stands.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The session of the conversation.
    pub session_id: String,
    /// What it runs, will run or ran under.
    pub runtime: RuntimeSummary,
    /// Its state.
    pub status: Status,
}

/// The state of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Waiting; both numbers count waiting prompts from 1.
    Queued {
        /// Its place.
        position: usize,
        /// How many wait.
        depth: usize,
    },
    /// Running.
    Started(TurnIds),
    /// Answered to the end.
    Completed(TurnIds),
    /// Failed, with the reason as the user sees it.
    Failed(Option<TurnIds>, String),
}

impl Status {
    /// The contract's word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Started(_) => "started",
            Self::Completed(_) => "completed",
            Self::Failed(..) => "error",
        }
    }
}

/// Names one prompt and its answer, and the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnIds {
    /// The turn.
    pub turn_id: String,
    /// The run.
    pub inference_id: String,
}

/// Why something is refused. The texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 64 prompts wait already.
    #[error("queue is full")]
    QueueFull,
    /// The key belongs to another prompt (decision 43).
    #[error("idempotency key was used with another prompt")]
    KeyReused,
    /// Only the newest turn can be tried again (decision 26).
    #[error("retry_turn_id is not the newest turn of the conversation")]
    NotNewest,
    /// Nothing runs (decision 25).
    #[error("no active run")]
    NoActiveRun,
    /// A run is active (decision 44).
    #[error("a run is active")]
    Busy,
    /// No such waiting prompt.
    #[error("no such prompt in the queue")]
    NotQueued,
    /// Nobody knows it.
    #[error("conversation not found")]
    NotFound,
    /// The server stops, or holds as many conversations as it can.
    #[error("chat service not initialized")]
    Unavailable,
    /// The database failed; the cause is in the log.
    #[error("start session inference failed")]
    Storage,
}

/// A new socket.
#[derive(Debug)]
pub struct Attach {
    /// How it wants deltas.
    pub dialect: Dialect,
    /// The profile that the socket's own request resolved to: what hello says of a conversation that never ran.
    pub runtime_key: String,
    /// Replay frames after this one.
    pub since_seq: Option<u64>,
}

/// What runs and what waits.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The prompt that runs.
    pub active: Option<Active>,
    /// The prompts behind it, in their order.
    pub waiting: Vec<Waiting>,
}

/// A prompt that runs.
#[derive(Debug, Clone)]
pub struct Active {
    /// Its key.
    pub idempotency_key: String,
    /// Its turn.
    pub turn_id: String,
    /// What it runs under.
    pub runtime_key: String,
}

/// A prompt that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its key.
    pub idempotency_key: String,
    /// What it says.
    pub text: String,
    /// What it will run under.
    pub runtime_key: String,
}

/// A conversation as the debug API shows it; kept up to date by its owner, readable at no cost to it.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// Empty until the conversation has been loaded.
    pub session_id: String,
    /// Of the newest turn.
    pub runtime_key: String,
    /// Sockets.
    pub watchers: usize,
    /// Waiting prompts.
    pub queue_depth: usize,
    /// Frames that are held, without `timeline.upsert`.
    pub held: usize,
    /// The key of the prompt that runs; empty for none.
    pub active_key: String,
    /// Unix milliseconds.
    pub last_activity_ms: i64,
    /// Whether it has had a prompt.
    pub is_stored: bool,
}

/// An open pause of step mode (chapter 30 §6.6).
#[derive(Debug, Clone)]
pub struct Pause {
    /// Its id.
    pub id: String,
    /// `after_inference` or `after_tools`.
    pub phase: &'static str,
    /// In words.
    pub summary: &'static str,
    /// When it goes on by itself, in Unix milliseconds.
    pub deadline_ms: i64,
    /// Details.
    pub extra: serde_json::Value,
    /// The session.
    pub session_id: String,
    /// The run.
    pub inference_id: String,
    /// The turn.
    pub turn_id: String,
    /// The conversation.
    pub conv_id: String,
}

/// Letters to the owner.
pub(crate) enum Mail {
    Submit(Box<Prompt>, oneshot::Sender<Result<Submitted, Refused>>),
    Attach(Attach, oneshot::Sender<Inbox>),
    /// Stores what is still held back; the answer comes when everything is stored that any socket has seen.
    Settle(oneshot::Sender<()>),
    Cancel(oneshot::Sender<Result<TurnIds, Refused>>),
    Queue(oneshot::Sender<Line>),
    Dequeue(String, oneshot::Sender<Result<(), Refused>>),
    Title(String, oneshot::Sender<Result<(), Refused>>),
    Delete(oneshot::Sender<Result<(), Refused>>),
    Held(oneshot::Sender<Vec<Held>>),
    StepMode(bool, oneshot::Sender<String>),
    Continue(String, oneshot::Sender<Option<Pause>>),
}

impl Prompt {
    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            idempotency_key: self.idempotency_key.clone(),
            text: self.text.clone(),
            runtime_key: self.runtime.runtime_key.to_string(),
        }
    }
}
