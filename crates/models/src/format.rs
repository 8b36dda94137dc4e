//! The wire formats behind one face: a request out, events in. No socket in here.

use collodi_chat::model::{Call, Event, ModelError};
use collodi_profiles::settings::Settings;
use serde_json::{Map, Value};

use crate::sse::Message;
use crate::{claude, gemini, openai, responses};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI Chat Completions, and everything that speaks it.
    OpenAi,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Claude,
    /// Google Gemini.
    Gemini,
}

impl Format {
    /// By its `ai-api-type` (chapter 40 §2.1, INF-17).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "" | "openai" | "anyscale" | "fireworks" => Some(Self::OpenAi),
            "openai-responses" => Some(Self::Responses),
            "claude" | "anthropic" => Some(Self::Claude),
            "gemini" => Some(Self::Gemini),
            _ => None,
        }
    }

    /// Its `ai-api-type`, as it is stored with turns.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Responses => "openai-responses",
            Self::Claude => "claude",
            Self::Gemini => "gemini",
        }
    }

    /// The setting that holds its base URL.
    #[must_use]
    pub fn url_setting(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Responses => "openai-base-url",
            Self::Claude => "claude-base-url",
            Self::Gemini => "gemini-base-url",
        }
    }

    /// The name of its key.
    #[must_use]
    pub fn key_name(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Responses => "openai-api-key",
            Self::Claude => "claude-api-key",
            Self::Gemini => "gemini-api-key",
        }
    }

    /// Where a call goes.
    #[must_use]
    pub fn url(self, base: &str, model: &str) -> String {
        match self {
            Self::OpenAi => format!("{base}/chat/completions"),
            Self::Responses => format!("{base}/responses"),
            Self::Claude => format!("{base}/v1/messages"),
            Self::Gemini => gemini::url(base, model),
        }
    }

    /// What goes with a call beside its body.
    #[must_use]
    pub fn headers(self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self == Self::Claude {
            headers.push(("anthropic-version", "2023-06-01".to_owned()));
        }
        if let Some(key) = key {
            headers.push(match self {
                Self::OpenAi | Self::Responses => ("Authorization", format!("Bearer {key}")),
                Self::Claude => ("x-api-key", key.to_owned()),
                Self::Gemini => ("x-goog-api-key", key.to_owned()),
            });
        }
        headers
    }

    /// The body of a call.
    ///
    /// # Errors
    /// Settings that the provider cannot take together.
    pub fn encode(self, call: &Call) -> Result<Value, ModelError> {
        match self {
            Self::OpenAi => openai::encode(call),
            Self::Responses => responses::encode(call),
            Self::Claude => claude::encode(call),
            Self::Gemini => gemini::encode(call),
        }
    }

    /// The parameters of a call as frames say them (chapter 30 §2.4).
    #[must_use]
    pub fn sent(self, settings: &Settings) -> Map<String, Value> {
        let mut sent = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                sent.insert(name.into(), value);
            }
        };
        let is_one = |value: &Value| value.as_f64().is_some_and(|n| (n - 1.0).abs() < f64::EPSILON);
        let temperature = either(settings, "inference-temperature", "ai-temperature");
        let top_p = either(settings, "inference-top-p", "ai-top-p");
        let most = either(settings, "inference-max-response-tokens", "ai-max-response-tokens");
        match self {
            Self::Responses => {}
            Self::Claude => {
                put("temperature", temperature.filter(|n| !is_one(n)));
                put("topP", top_p.filter(|n| !is_one(n)));
                put("maxTokens", most.or_else(|| Some(claude::max_tokens(settings).into())));
            }
            Self::OpenAi | Self::Gemini => {
                put("temperature", temperature);
                put("topP", top_p);
                put("maxTokens", most);
            }
        }
        sent
    }

    /// Reads one answer.
    #[must_use]
    pub fn decoder(self) -> Box<dyn Decoder> {
        match self {
            Self::OpenAi => Box::<openai::Answer>::default(),
            Self::Responses => Box::<responses::Answer>::default(),
            Self::Claude => Box::<claude::Answer>::default(),
            Self::Gemini => Box::<gemini::Answer>::default(),
        }
    }
}

/// Reads the events of one answer. Unknown types and fields are ignored; known ones that do not parse break the run.
pub trait Decoder: Send {
    /// Takes one server-sent event.
    ///
    /// # Errors
    /// The provider's own error, or data that is not of this format.
    fn event(&mut self, message: &Message) -> Result<Vec<Event>, ModelError>;

    /// Whether the end mark was seen and nothing more is to come.
    fn is_done(&self) -> bool;

    /// The stream ended, by its mark or without one (decision 33).
    ///
    /// # Errors
    /// An answer that is not complete.
    fn end(self: Box<Self>) -> Result<Vec<Event>, ModelError>;
}

/// The data of an event as JSON.
///
/// # Errors
/// Anything else, which goes to the log and not to the user.
pub fn parse(data: &str) -> Result<Value, ModelError> {
    serde_json::from_str(data).map_err(|error| {
        let shown: String = data.chars().take(500).collect();
        tracing::warn!(%error, data = shown, "the provider sent no JSON");
        ModelError::new("protocol", "the provider sent an event that cannot be read").retryable()
    })
}

/// An answer that ended without its end mark.
#[must_use]
pub fn cut() -> ModelError {
    ModelError::new("cut", "the provider's answer was cut off").retryable()
}

/// The provider's own words, from an error object or text.
#[must_use]
pub fn error_text(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).or_else(|| error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned).chars().take(500).collect()
}

/// An error that the provider reported in the stream.
#[must_use]
pub fn reported(error: &Value) -> ModelError {
    const BUSY: [&str; 6] = [
        "overloaded",
        "rate_limit",
        "server_error",
        "unavailable",
        "resource_exhausted",
        "api_error",
    ];
    let said = ["type", "code", "status"].iter().filter_map(|key| error.get(*key));
    let busy = said.clone().filter_map(Value::as_str).any(|word| {
        let word = word.to_ascii_lowercase();
        BUSY.iter().any(|busy| word.contains(busy))
    }) || said.filter_map(Value::as_u64).any(|code| code == 429 || code >= 500);
    let text = format!("the provider reported: {}", error_text(error));
    let error = ModelError::new("provider", text);
    if busy { error.retryable() } else { error }
}

/// The setting `first` if somebody set it, else `second`: run settings over chat settings (chapter 40 §14.1).
#[must_use]
pub fn either(settings: &Settings, first: &str, second: &str) -> Option<Value> {
    let set = settings.is_set(first).then(|| settings.get(first)).flatten();
    set.or_else(|| settings.get(second))
}

/// Whether the provider takes this model for one that reasons (chapter 40 §2.1).
#[must_use]
pub fn is_reasoning_model(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    ["o1", "o3", "o4", "gpt-5"].iter().any(|prefix| model.starts_with(prefix))
}

/// Structured output as the settings ask for it: name, description, schema, strict (chapter 40 §14.1).
///
/// # Errors
/// Settings that do not hold, when they are required to; else those are left out, and the log says so.
pub fn structured_output(settings: &Settings) -> Result<Option<Map<String, Value>>, ModelError> {
    let required = settings.get("ai-structured-output-require-valid") == Some(Value::Bool(true));
    match read_structured_output(settings) {
        Ok(format) => Ok(format),
        Err(reason) if required => Err(ModelError::new("settings", reason)),
        Err(reason) => {
            tracing::warn!(reason, "structured output is left out");
            Ok(None)
        }
    }
}

fn read_structured_output(settings: &Settings) -> Result<Option<Map<String, Value>>, String> {
    let text = |name: &str| settings.text(name).unwrap_or_default();
    let mode = text("ai-structured-output-mode");
    if !mode.eq_ignore_ascii_case("json_schema") {
        return Ok(None);
    }
    let name = text("ai-structured-output-name");
    if name.trim().is_empty() {
        return Err(format!("structured output mode \"{mode}\" requires a non-empty schema name"));
    }
    let schema = text("ai-structured-output-schema");
    if schema.trim().is_empty() {
        return Err(format!("structured output mode \"{mode}\" requires a non-empty JSON schema"));
    }
    let schema: Value = serde_json::from_str(&schema)
        .map_err(|e| format!("invalid ai-structured-output-schema JSON: {e}"))?;
    let mut format = Map::new();
    format.insert("name".into(), name.into());
    let description = text("ai-structured-output-description");
    if !description.is_empty() {
        format.insert("description".into(), description.into());
    }
    format.insert("schema".into(), schema);
    format.insert(
        "strict".into(),
        settings.get("ai-structured-output-strict").unwrap_or(Value::Bool(true)),
    );
    Ok(Some(format))
}

/// A count of tokens.
#[must_use]
pub fn tokens(value: Option<&Value>) -> u32 {
    value.and_then(Value::as_u64).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
}
