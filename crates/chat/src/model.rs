//! The port to models: a call goes in, a stream of events comes out.

use std::sync::Arc;

use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use collodi_profiles::settings::Settings;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::tool::ToolSpec;
use crate::turn::{Block, Blocks};

/// One call: the context and what it runs under.
#[derive(Debug, Clone)]
pub struct Call {
    /// The runtime of the turn.
    pub runtime: Arc<EffectiveProfile>,
    /// The context as the middlewares left it.
    pub blocks: Blocks,
    /// The tools that the model may ask for, by name.
    pub tools: Vec<ToolSpec>,
    /// Whether it may ask for several at once.
    pub parallel_tools: bool,
}

/// What a model says while it answers.
#[derive(Debug, Clone)]
pub enum Event {
    /// More of the answer's text.
    Text(String),
    /// It thinks.
    Thinking(Thinking),
    /// A part of the answer is complete, in the provider's order: text, a call of a tool, reasoning.
    Block(Block),
    /// Tokens as far as they are known.
    Usage(Usage),
    /// Complete, by the provider's own end mark (decision 33).
    Done {
        /// `stop`, `length`, ...; absent when the provider gave none.
        stop_reason: Option<String>,
    },
}

/// A phase of thinking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thinking {
    /// It begins; a second beginning goes on with the same message.
    Started,
    /// More of it.
    Text(String),
    /// It ends.
    Ended,
    /// The whole summary, after the fact.
    Summary(String),
}

/// Tokens as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Of the prompt.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_tokens: u32,
    /// Of the answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_tokens: u32,
    /// Of the prompt, read from the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u32,
    /// Of the prompt, written to the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_creation_input_tokens: u32,
    /// Of the prompt, read from the provider's cache, where it is counted apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_read_input_tokens: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Why a model did not answer, or not to the end; also the reason of any other failed run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// A stable word: `missing_key`, `refused`, `rate_limited`, `timeout`, `cut`, `protocol`, `unreachable`, `panic`,
    /// `cancelled`, `interrupted`, `max_iterations`, `tool`, `storage`.
    pub code: &'static str,
    /// For the user: plain, without secrets.
    pub message: String,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl ModelError {
    /// An error that trying again does not mend.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false }
    }

    /// Says that trying again may help.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

/// A model. Dropping the stream stops the call.
pub trait Model: Send + Sync {
    /// Its name, as it is shown and stored.
    fn name(&self) -> String;

    /// The wire format, as it is stored: what one provider wrote is replayed to the same only.
    fn provider(&self) -> &'static str;

    /// What a call under these settings is sent with, as frames say it: `temperature`, `topP`, `maxTokens`.
    fn sent(&self, settings: &Settings) -> Object {
        let _ = settings;
        Object::new()
    }

    /// Calls it. The stream ends after `Done` or the first error; one that just ends is a failed call.
    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>>;
}

/// Finds the model of a runtime.
pub trait Models: Send + Sync {
    /// The model that the runtime's settings name.
    ///
    /// # Errors
    /// A missing key, a URL that is not allowed, a provider that this program does not speak.
    fn model(&self, runtime: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError>;
}
