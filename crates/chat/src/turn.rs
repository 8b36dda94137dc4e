//! Turns and blocks: what a model is told and what it answered (chapter 30 §4.1, chapter 40 §1.1).
//!
//! A conversation appends each block once to its log, under a number; a turn refers to blocks by [`Layout`].

use std::sync::{Arc, OnceLock};

use collodi_profiles::json::{self, Object};
use serde_json::{Value, json};

/// Keys of the open maps (chapter 40 §1.2).
pub mod keys {
    /// The session of the conversation.
    pub const SESSION: &str = "geppetto.session_id@v1";
    /// The run that produced a turn.
    pub const INFERENCE: &str = "geppetto.inference_id@v1";
    /// What a turn ran under; written by us so that a payload describes itself (chapter 30 §4.4).
    pub const RUNTIME: &str = "geppetto.runtime@v1";
    /// The provider's format.
    pub const PROVIDER: &str = "geppetto.provider@v1";
    /// The model.
    pub const MODEL: &str = "geppetto.model@v1";
    /// Tokens.
    pub const USAGE: &str = "geppetto.usage@v1";
    /// Why the answer ended.
    pub const STOP_REASON: &str = "geppetto.stop_reason@v1";
    /// How tools are run.
    pub const TOOL_CONFIG: &str = "geppetto.tool_config@v1";
    /// The current agent mode.
    pub const AGENT_MODE: &str = "geppetto.agent_mode@v1";
    /// The only tools that the mode offers; missing where it offers all.
    pub const AGENT_MODE_TOOLS: &str = "geppetto.agent_mode_allowed_tools@v1";
    /// On a block: the middleware that wrote it.
    pub const MIDDLEWARE: &str = "geppetto.middleware@v1";
    /// On a block: what only its provider can read, `{"provider", "value"}` (decision 34).
    pub const OPAQUE: &str = "collodi.opaque@v1";
    /// On a tool call: the arguments as the model wrote them, when they are no JSON object.
    pub const RAW_ARGUMENTS: &str = "collodi.arguments@v1";
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the user said.
    User,
    /// What a model answered.
    LlmText,
    /// A model asks for a tool.
    ToolCall,
    /// What the tool gave.
    ToolUse,
    /// Instructions.
    System,
    /// What a model thought; only its provider can read most of it.
    Reasoning,
    /// Anything else.
    Other,
}

impl Kind {
    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::LlmText => "llm_text",
            Self::ToolCall => "tool_call",
            Self::ToolUse => "tool_use",
            Self::System => "system",
            Self::Reasoning => "reasoning",
            Self::Other => "other",
        }
    }

    /// Reads the word; unknown ones are `other`.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        let all = [
            Self::User,
            Self::LlmText,
            Self::ToolCall,
            Self::ToolUse,
            Self::System,
            Self::Reasoning,
        ];
        all.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Other)
    }

    /// The role that blocks of this kind have; empty for none.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::LlmText => "assistant",
            Self::System => "system",
            _ => "",
        }
    }
}

/// One block. Immutable once it is in a turn.
#[derive(Debug, Clone)]
pub struct Block {
    /// A UUID; of a tool call the provider's call id, of reasoning the provider's item id.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The contract's keys.
    pub payload: Object,
    /// Open.
    pub metadata: Object,
    /// Its number in the conversation's log, once it has been appended there.
    pub place: OnceLock<u64>,
}

impl Block {
    /// A block that is not in a log yet.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: Kind, payload: Value) -> Self {
        let payload = match payload {
            Value::Object(payload) => payload,
            _ => Object::new(),
        };
        Self { id: id.into(), kind, payload, metadata: Object::new(), place: OnceLock::new() }
    }

    /// A block of one text.
    #[must_use]
    pub fn text(id: impl Into<String>, kind: Kind, text: &str) -> Self {
        Self::new(id, kind, json!({ "text": text }))
    }

    /// A call of a tool. Arguments that are no JSON object are kept as they were written.
    #[must_use]
    pub fn tool_call(call_id: &str, name: &str, arguments: &str) -> Self {
        let written = if arguments.trim().is_empty() { "{}" } else { arguments };
        // Strict, because numbers that would be stored as others must not be run with.
        let args = json::parse(written.as_bytes()).ok().filter(Value::is_object);
        match args {
            Some(args) => Self::new(
                call_id,
                Kind::ToolCall,
                json!({"id": call_id, "name": name, "args": args}),
            ),
            None => Self::cut_call(call_id, name, arguments),
        }
    }

    /// A call that the model did not finish: it is shown and kept, and never run.
    #[must_use]
    pub fn cut_call(call_id: &str, name: &str, arguments: &str) -> Self {
        let payload = json!({"id": call_id, "name": name, "args": null});
        Self::new(call_id, Kind::ToolCall, payload).with_metadata(keys::RAW_ARGUMENTS, arguments)
    }

    /// The result of a tool, or why there is none.
    #[must_use]
    pub fn tool_use(id: impl Into<String>, call_id: &str, outcome: Result<&str, &str>) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Value::from(result), ""),
            Err(error) => (Value::Null, error),
        };
        Self::new(id, Kind::ToolUse, json!({"id": call_id, "result": result, "error": error}))
    }

    /// Marks what only `provider` can read.
    #[must_use]
    pub fn with_opaque(mut self, provider: &str, value: Value) -> Self {
        let mut opaque = Object::new();
        opaque.insert("provider".into(), provider.into());
        opaque.insert("value".into(), value);
        self.metadata.insert(keys::OPAQUE.into(), opaque.into());
        self
    }

    /// Adds metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// What only `provider` can read, if this block came from it.
    #[must_use]
    pub fn opaque(&self, provider: &str) -> Option<&Value> {
        let opaque = self.metadata.get(keys::OPAQUE)?;
        (opaque.get("provider")?.as_str()? == provider).then(|| opaque.get("value")).flatten()
    }

    /// A text of the payload; empty when absent.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.payload.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The text of the payload.
    #[must_use]
    pub fn as_text(&self) -> &str {
        self.get("text")
    }

    /// The arguments of a call; `None` when the model wrote no JSON object.
    #[must_use]
    pub fn arguments(&self) -> Option<Object> {
        match self.payload.get("args") {
            Some(Value::Object(args)) => Some(args.clone()),
            // Stored by the Go reference, as text.
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(Value::Null) | None if !self.metadata.contains_key(keys::RAW_ARGUMENTS) => {
                Some(Object::new())
            }
            _ => None,
        }
    }

    /// The arguments of a call as compact JSON text; what is no object counts as none (chapter 40 §14.2).
    #[must_use]
    pub fn arguments_text(&self) -> String {
        Value::Object(self.arguments().unwrap_or_default()).to_string()
    }

    /// What a provider is told of a result (chapter 40 §14.1).
    #[must_use]
    pub fn result_text(&self) -> String {
        let error = self.get("error");
        let result = match self.payload.get("result") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        if error.is_empty() {
            return result.unwrap_or_default();
        }
        let mut told = json!({ "error": error });
        if let Some(result) = result {
            told["result"] = serde_json::from_str(&result).unwrap_or(Value::String(result));
        }
        told.to_string()
    }

    /// As it is stored, without its place.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"id": self.id, "kind": self.kind.as_str(), "role": self.kind.role(),
            "payload": self.payload, "metadata": self.metadata})
    }

    /// Reads what [`Self::to_json`] wrote, or a block of the Go reference.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let object = |key: &str| value.get(key).and_then(Value::as_object).cloned();
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        Self {
            id: text("id").to_owned(),
            kind: Kind::parse(text("kind")),
            payload: object("payload").unwrap_or_default(),
            metadata: object("metadata").unwrap_or_default(),
            place: OnceLock::new(),
        }
    }
}

/// A context: blocks in order, shared with other turns of the conversation.
pub type Blocks = Vec<Arc<Block>>;

/// Calls without a result, wherever they stand (chapter 40 §8.1).
#[must_use]
pub fn open_calls(blocks: &[Arc<Block>]) -> Blocks {
    let answered: std::collections::HashSet<&str> =
        blocks.iter().filter(|b| b.kind == Kind::ToolUse).map(|b| b.get("id")).collect();
    blocks
        .iter()
        .filter(|block| block.kind == Kind::ToolCall && !block.get("id").is_empty())
        .filter(|block| !answered.contains(block.get("id")))
        .cloned()
        .collect()
}

/// Which blocks of a conversation's log make a context, as runs of numbers: `[[1,1],[4,9]]`. Both ends are included.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout(pub Vec<(u64, u64)>);

impl Layout {
    /// The layout of blocks that are all in the log; others are left out.
    #[must_use]
    pub fn of(blocks: &[Arc<Block>]) -> Self {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for place in blocks.iter().filter_map(|block| block.place.get().copied()) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                _ => runs.push((place, place)),
            }
        }
        Self(runs)
    }

    /// The numbers in order.
    pub fn places(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(places: &[u64]) -> Blocks {
        let place = |place: &u64| {
            let block = Block::text("b", Kind::User, "x");
            block.place.set(*place).unwrap();
            Arc::new(block)
        };
        places.iter().map(place).collect()
    }

    #[test]
    fn layouts_are_runs_of_numbers_in_the_order_of_the_context() {
        let layout = Layout::of(&placed(&[9, 1, 2, 3, 7, 4]));
        assert_eq!(layout.0, [(9, 9), (1, 3), (7, 7), (4, 4)]);
        assert_eq!(layout.places().collect::<Vec<_>>(), [9, 1, 2, 3, 7, 4]);
    }

    #[test]
    fn arguments_that_are_no_object_are_kept_as_written_and_never_run() {
        let cut = Block::tool_call("c", "calc", "{\"a\":");
        assert_eq!((cut.arguments(), cut.payload["args"].clone()), (None, Value::Null));
        assert_eq!(cut.metadata[keys::RAW_ARGUMENTS], "{\"a\":");
        assert_eq!(Block::tool_call("c", "calc", "").arguments(), Some(Object::new()));
        assert_eq!(Block::tool_call("c", "calc", "[1]").arguments(), None);
    }

    #[test]
    fn results_are_told_with_their_error() {
        let told = |outcome| Block::tool_use("b", "c", outcome).result_text();
        assert_eq!(told(Ok("{\"x\":1}")), "{\"x\":1}");
        assert_eq!(told(Err("no")), r#"{"error":"no"}"#);
    }

    #[test]
    fn calls_are_open_until_they_have_a_result() {
        let call = |id: &str| Arc::new(Block::tool_call(id, "calc", "{}"));
        let done = Arc::new(Block::tool_use("u", "a", Ok("1")));
        let open = open_calls(&[call("a"), call("b"), done, call("")]);
        assert_eq!(open.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
