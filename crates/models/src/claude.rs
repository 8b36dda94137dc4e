//! Anthropic Messages (chapter 40 §14.4).

use std::collections::BTreeMap;

use collodi_chat::model::{Call, Event, ModelError, Thinking, Usage};
use collodi_chat::turn::{Block, Kind};
use collodi_profiles::settings::Settings;
use serde_json::{Value, json};

use crate::format::{Decoder, Format, cut, either, parse, reported, structured_output, tokens};
use crate::sse::Message;

/// Tokens of an answer when nobody says.
const MAX_TOKENS: u64 = 1024;

/// The body of the request.
///
/// # Errors
/// Settings that these models refuse together.
pub fn encode(call: &Call) -> Result<Value, ModelError> {
    let settings = &call.runtime.settings;
    let (system, messages) = messages(call);
    let mut body = json!({
        "model": settings.text("ai-engine").unwrap_or_default(),
        "messages": messages,
        "max_tokens": max_tokens(settings),
        "stream": true,
    });
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    put("system", system.map(Value::from));
    put("max_tokens", either(settings, "inference-max-response-tokens", "ai-max-response-tokens"));
    let stop = either(settings, "inference-stop", "ai-stop").filter(|stop| stop != &json!([]));
    put("stop_sequences", stop);

    let budget = thinking_budget(settings);
    let (temperature, top_p) = sampling(settings, budget.is_some())?;
    put("temperature", temperature);
    put("top_p", top_p);
    put("thinking", budget.map(|b| json!({"type": "enabled", "budget_tokens": b})));
    let top_k = settings.is_set("claude-top-k").then(|| settings.get("claude-top-k")).flatten();
    put("top_k", top_k);
    let user = settings.text("claude-user-id").filter(|user| !user.is_empty());
    put("metadata", user.map(|user| json!({"user_id": user})));
    put(
        "output_format",
        structured_output(settings)?.map(|format| {
            json!({"type": "json_schema", "name": format.get("name"), "schema": format.get("schema")})
        }),
    );
    if !call.tools.is_empty() {
        let tool = |spec: &collodi_chat::tool::ToolSpec| json!({"name": spec.name, "description": spec.description, "input_schema": spec.parameters});
        put("tools", Some(call.tools.iter().map(tool).collect()));
    }
    Ok(body)
}

/// Temperature and top-p as far as they are sent: 1.0 is what the provider does anyway.
fn sampling(
    settings: &Settings,
    thinks: bool,
) -> Result<(Option<Value>, Option<Value>), ModelError> {
    let asked = |first: &str, second: &str| {
        let set = settings.is_set(first) || settings.is_set(second);
        // Thinking wants 1.0; a default that nobody chose is no reason to refuse it.
        either(settings, first, second).filter(|_| !thinks || set)
    };
    let other_than_one = |value: Option<Value>| {
        value.filter(|value| value.as_f64().is_some_and(|v| (v - 1.0).abs() > f64::EPSILON))
    };
    let temperature = other_than_one(asked("inference-temperature", "ai-temperature"));
    let top_p = other_than_one(asked("inference-top-p", "ai-top-p"));
    if temperature.is_some() && top_p.is_some() {
        let overridden =
            settings.is_set("inference-temperature") || settings.is_set("inference-top-p");
        let how = if overridden { "(after inference overrides)" } else { "to non-default values" };
        let text = format!(
            "both temperature and top_p are set {how}; Claude models require only one to be specified"
        );
        return Err(ModelError::new("settings", text));
    }
    if let (Some(temperature), true) = (&temperature, thinks) {
        let text = format!(
            "thinking is enabled but temperature is {:.2}; Claude requires temperature=1.0 (or unset) when thinking is \
             active",
            temperature.as_f64().unwrap_or_default()
        );
        return Err(ModelError::new("settings", text));
    }
    Ok((temperature, top_p))
}

/// Tokens of an answer when nobody says: thinking has to fit in, too.
pub(crate) fn max_tokens(settings: &Settings) -> u64 {
    MAX_TOKENS + thinking_budget(settings).unwrap_or(0)
}

fn thinking_budget(settings: &Settings) -> Option<u64> {
    let budget = settings.get("inference-thinking-budget").and_then(|budget| budget.as_u64());
    budget.filter(|budget| *budget > 0)
}

/// The system prompt, and messages: what one side says in a row is one message, so that calls are answered together and
/// thoughts stand before what they led to, as the provider wants it.
fn messages(call: &Call) -> (Option<String>, Vec<Value>) {
    let mut system = None;
    let mut messages: Vec<(&str, bool, Vec<Value>)> = Vec::new();
    for block in &call.blocks {
        let text = block.as_text();
        let (role, joins, part) = match block.kind {
            Kind::System if system.is_none() => {
                system = Some(text.to_owned());
                continue;
            }
            Kind::ToolCall => {
                let input = block.arguments().unwrap_or_default();
                let part = json!({"type": "tool_use", "id": block.get("id"), "name": block.get("name"), "input": input});
                ("assistant", true, part)
            }
            Kind::ToolUse => {
                let mut part = json!({"type": "tool_result", "tool_use_id": block.get("id"),
                    "content": block.result_text()});
                if !block.get("error").is_empty() {
                    part["is_error"] = true.into();
                }
                ("user", true, part)
            }
            Kind::Reasoning => match block.opaque(Format::Claude.name()) {
                Some(thought) => ("assistant", true, thought.clone()),
                None => continue,
            },
            _ if text.trim().is_empty() => continue,
            Kind::LlmText | Kind::Other => {
                ("assistant", true, json!({"type": "text", "text": text.trim_end()}))
            }
            Kind::User | Kind::System => ("user", false, json!({"type": "text", "text": text})),
        };
        match messages.last_mut() {
            Some((last, true, parts)) if *last == role && joins => parts.push(part),
            _ => messages.push((role, joins, vec![part])),
        }
    }
    let message =
        |(role, _, content): (&str, bool, Vec<Value>)| json!({"role": role, "content": content});
    (system, messages.into_iter().map(message).collect())
}

/// Events that mean something; others may hold what they like.
const EVENTS: [&str; 7] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
];

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Answer {
    open: BTreeMap<u64, Part>,
    /// Calls without a letter of arguments: whether they take none or were cut shows at the end.
    bare: Vec<(String, String)>,
    usage: Usage,
    stop_reason: Option<String>,
    done: bool,
}

/// A part of the answer as far as it has come.
#[derive(Debug)]
enum Part {
    Text(String),
    Thinking { text: String, signature: String },
    Redacted(Value),
    Tool { id: String, name: String, input: Value, arguments: String },
    Unknown,
}

impl Decoder for Answer {
    fn event(&mut self, message: &Message) -> Result<Vec<Event>, ModelError> {
        if !message.event.is_empty() && !EVENTS.contains(&message.event.as_str()) {
            return Ok(Vec::new());
        }
        let data = parse(&message.data)?;
        let index = data.get("index").and_then(Value::as_u64).unwrap_or(0);
        Ok(match data.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                self.count(data.get("message").and_then(|message| message.get("usage")));
                Vec::new()
            }
            "content_block_start" => self.begin(index, data.get("content_block")),
            "content_block_delta" => self.grow(index, data.get("delta").unwrap_or(&Value::Null)),
            "content_block_stop" => self.complete(index),
            "message_delta" => {
                self.count(data.get("usage"));
                let reason = data.get("delta").and_then(|delta| delta.get("stop_reason"));
                if let Some(reason) = reason.and_then(Value::as_str) {
                    self.stop_reason = Some(reason.to_owned());
                }
                Vec::new()
            }
            "message_stop" => {
                self.done = true;
                Vec::new()
            }
            "error" => return Err(reported(data.get("error").unwrap_or(&data))),
            _ => Vec::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn end(mut self: Box<Self>) -> Result<Vec<Event>, ModelError> {
        if !self.done {
            return Err(cut());
        }
        // What was shown is kept, also of parts that nobody ended.
        let open: Vec<u64> = self.open.keys().copied().collect();
        let mut events: Vec<Event> =
            open.into_iter().flat_map(|index| self.complete(index)).collect();
        let is_cut = self.stop_reason.as_deref() == Some("max_tokens");
        for (id, name) in &self.bare {
            events.push(Event::Block(if is_cut {
                Block::cut_call(id, name, "")
            } else {
                Block::tool_call(id, name, "")
            }));
        }
        events.push(Event::Usage(self.usage));
        events.push(Event::Done { stop_reason: self.stop_reason });
        Ok(events)
    }
}

impl Answer {
    /// Later counts that leave something out do not take it back.
    fn count(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        for (key, known) in [
            ("input_tokens", &mut self.usage.input_tokens),
            ("output_tokens", &mut self.usage.output_tokens),
            ("cache_creation_input_tokens", &mut self.usage.cache_creation_input_tokens),
            ("cache_read_input_tokens", &mut self.usage.cache_read_input_tokens),
        ] {
            let counted = tokens(usage.get(key));
            if counted > 0 {
                *known = counted;
            }
        }
    }

    fn begin(&mut self, index: u64, block: Option<&Value>) -> Vec<Event> {
        let block = block.unwrap_or(&Value::Null);
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        let (part, events) = match text("type") {
            "text" => {
                let said = text("text").to_owned();
                let events = if said.is_empty() { vec![] } else { vec![Event::Text(said.clone())] };
                (Part::Text(said), events)
            }
            "thinking" => {
                let part = Part::Thinking {
                    text: text("thinking").to_owned(),
                    signature: text("signature").to_owned(),
                };
                (part, vec![Event::Thinking(Thinking::Started)])
            }
            "redacted_thinking" => (Part::Redacted(block.clone()), vec![]),
            "tool_use" => {
                let part = Part::Tool {
                    id: text("id").to_owned(),
                    name: text("name").to_owned(),
                    input: block.get("input").cloned().unwrap_or_default(),
                    arguments: String::new(),
                };
                (part, vec![])
            }
            _ => (Part::Unknown, vec![]),
        };
        self.open.insert(index, part);
        events
    }

    fn grow(&mut self, index: u64, delta: &Value) -> Vec<Event> {
        let said = |key: &str| delta.get(key).and_then(Value::as_str).unwrap_or_default();
        match self.open.get_mut(&index) {
            Some(Part::Text(text)) if !said("text").is_empty() => {
                text.push_str(said("text"));
                vec![Event::Text(said("text").to_owned())]
            }
            Some(Part::Thinking { text, signature }) => {
                signature.push_str(said("signature"));
                let more = said("thinking");
                text.push_str(more);
                if more.is_empty() {
                    vec![]
                } else {
                    vec![Event::Thinking(Thinking::Text(more.to_owned()))]
                }
            }
            Some(Part::Tool { arguments, .. }) => {
                arguments.push_str(said("partial_json"));
                vec![]
            }
            _ => vec![],
        }
    }

    fn complete(&mut self, index: u64) -> Vec<Event> {
        let provider = Format::Claude.name();
        match self.open.remove(&index) {
            Some(Part::Text(text)) if !text.is_empty() => {
                vec![Event::Block(Block::text("", Kind::LlmText, &text))]
            }
            Some(Part::Thinking { text, signature }) => {
                let thought = json!({"type": "thinking", "thinking": text, "signature": signature});
                let block =
                    Block::new("", Kind::Reasoning, json!({})).with_opaque(provider, thought);
                vec![Event::Thinking(Thinking::Ended), Event::Block(block)]
            }
            Some(Part::Redacted(thought)) => {
                let block =
                    Block::new("", Kind::Reasoning, json!({})).with_opaque(provider, thought);
                vec![Event::Block(block)]
            }
            Some(Part::Tool { id, name, input, arguments }) if arguments.is_empty() => {
                if input.as_object().is_some_and(|input| !input.is_empty()) {
                    return vec![Event::Block(Block::tool_call(&id, &name, &input.to_string()))];
                }
                self.bare.push((id, name));
                vec![]
            }
            Some(Part::Tool { id, name, arguments, .. }) => {
                vec![Event::Block(Block::tool_call(&id, &name, &arguments))]
            }
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests;
