//! Google Gemini (chapter 40 §14.5), over its REST interface.

use std::collections::HashMap;

use collodi_chat::model::{Call, Event, ModelError, Thinking, Usage};
use collodi_chat::turn::{Block, Kind};
use serde_json::{Map, Value, json};

use crate::format::{Decoder, Format, cut, either, parse, reported, structured_output, tokens};
use crate::sse::Message;

/// Where a call goes.
#[must_use]
pub fn url(base: &str, model: &str) -> String {
    let model = model.strip_prefix("models/").unwrap_or(model);
    format!("{base}/v1beta/models/{model}:streamGenerateContent?alt=sse")
}

/// The body of the request.
///
/// # Errors
/// Settings that do not hold.
pub fn encode(call: &Call) -> Result<Value, ModelError> {
    let settings = &call.runtime.settings;
    let mut config = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(key.into(), value);
        }
    };
    put("temperature", either(settings, "inference-temperature", "ai-temperature"));
    put("topP", either(settings, "inference-top-p", "ai-top-p"));
    let most = either(settings, "inference-max-response-tokens", "ai-max-response-tokens");
    put(
        "maxOutputTokens",
        most.and_then(|n| n.as_i64()).map(|n| n.clamp(0, i64::from(i32::MAX)).into()),
    );
    let stop = either(settings, "inference-stop", "ai-stop").filter(|stop| stop != &json!([]));
    put("stopSequences", stop);
    put("seed", settings.get("inference-seed"));
    let budget = settings.get("inference-thinking-budget");
    put("thinkingConfig", budget.map(|b| json!({"thinkingBudget": b, "includeThoughts": true})));
    if let Some(format) = structured_output(settings)? {
        put("responseMimeType", Some("application/json".into()));
        put("responseSchema", format.get("schema").map(supported));
    }
    let (system, contents) = contents(call);
    let mut body = json!({"contents": contents, "generationConfig": config});
    if !system.is_empty() {
        body["systemInstruction"] = json!({ "parts": system });
    }
    if !call.tools.is_empty() {
        let declaration = |spec: &collodi_chat::tool::ToolSpec| json!({"name": spec.name, "description": spec.description, "parameters": supported(&spec.parameters)});
        let declarations: Vec<Value> = call.tools.iter().map(declaration).collect();
        body["tools"] = json!([{ "functionDeclarations": declarations }]);
    }
    Ok(body)
}

/// A schema without the keywords that this provider refuses.
fn supported(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| {
                !matches!(
                    key.as_str(),
                    "$schema" | "$id" | "$defs" | "additionalProperties" | "default"
                )
            })
            .map(|(key, value)| match (key.as_str(), value) {
                // Names of properties are no keywords.
                ("properties", Value::Object(properties)) => {
                    let inner =
                        properties.iter().map(|(name, schema)| (name.clone(), supported(schema)));
                    (key.clone(), Value::Object(inner.collect()))
                }
                _ => (key.clone(), supported(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(supported).collect(),
        scalar => scalar.clone(),
    }
}

fn contents(call: &Call) -> (Vec<Value>, Vec<Value>) {
    let mut system = Vec::new();
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for block in &call.blocks {
        let text = block.as_text();
        let (role, part) = match block.kind {
            Kind::System if text.trim().is_empty() => continue,
            Kind::System => {
                system.push(json!({ "text": text }));
                continue;
            }
            Kind::ToolCall => {
                names.insert(block.get("id"), block.get("name"));
                let args = block.arguments().unwrap_or_default();
                let mut part = json!({"functionCall": {"name": block.get("name"), "args": args}});
                if let Some(signature) = block.opaque(Format::Gemini.name()) {
                    part["thoughtSignature"] = signature.clone();
                }
                ("model", part)
            }
            Kind::ToolUse => {
                let name = names.get(block.get("id")).copied().unwrap_or("unknown");
                let told = block.result_text();
                let response = serde_json::from_str::<Value>(&told).ok().filter(Value::is_object);
                let response = response.unwrap_or_else(|| json!({ "result": told }));
                ("user", json!({"functionResponse": {"name": name, "response": response}}))
            }
            Kind::Reasoning => continue,
            _ if text.trim().is_empty() => continue,
            Kind::LlmText | Kind::Other => {
                let mut part = json!({ "text": text });
                if let Some(signature) = block.opaque(Format::Gemini.name()) {
                    part["thoughtSignature"] = signature.clone();
                }
                ("model", part)
            }
            Kind::User => ("user", json!({ "text": text })),
        };
        match contents.last_mut() {
            Some((last, parts)) if *last == role => parts.push(part),
            _ => contents.push((role, vec![part])),
        }
    }
    let content = |(role, parts): (&str, Vec<Value>)| json!({"role": role, "parts": parts});
    (system, contents.into_iter().map(content).collect())
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Answer {
    text: String,
    /// Of the text so far.
    signature: Option<Value>,
    thinking: bool,
    blocks: Vec<Block>,
    usage: Option<Usage>,
    stop_reason: Option<String>,
}

impl Decoder for Answer {
    fn event(&mut self, message: &Message) -> Result<Vec<Event>, ModelError> {
        let chunk = parse(&message.data)?;
        if let Some(error) = chunk.get("error") {
            return Err(reported(error));
        }
        if let Some(reason) = chunk.get("promptFeedback").and_then(|f| f.get("blockReason")) {
            let text =
                format!("the provider refused the prompt: {}", reason.as_str().unwrap_or("?"));
            return Err(ModelError::new("refused", text));
        }
        if let Some(usage) = chunk.get("usageMetadata") {
            self.usage = Some(Usage {
                input_tokens: tokens(usage.get("promptTokenCount")),
                output_tokens: tokens(usage.get("candidatesTokenCount")),
                cached_tokens: tokens(usage.get("cachedContentTokenCount")),
                ..Usage::default()
            });
        }
        let candidate = chunk.get("candidates").and_then(|candidates| candidates.get(0));
        let Some(candidate) = candidate else { return Ok(Vec::new()) };
        if let Some(reason) = candidate.get("finishReason").and_then(Value::as_str) {
            self.stop_reason = Some(stop_reason(reason));
        }
        let parts = candidate.get("content").and_then(|c| c.get("parts")).and_then(Value::as_array);
        Ok(parts.into_iter().flatten().flat_map(|part| self.part(part)).collect())
    }

    fn is_done(&self) -> bool {
        false // counts of tokens may follow the end mark
    }

    fn end(mut self: Box<Self>) -> Result<Vec<Event>, ModelError> {
        if self.stop_reason.is_none() {
            return Err(cut());
        }
        let mut events = Vec::new();
        if self.thinking {
            events.push(Event::Thinking(Thinking::Ended));
        }
        self.close_text();
        events.extend(self.blocks.into_iter().map(Event::Block));
        events.extend(self.usage.map(Event::Usage));
        events.push(Event::Done { stop_reason: self.stop_reason });
        Ok(events)
    }
}

impl Answer {
    fn part(&mut self, part: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
        let is_thought = part.get("thought") == Some(&Value::Bool(true));
        if !is_thought && std::mem::take(&mut self.thinking) {
            events.push(Event::Thinking(Thinking::Ended));
        }
        if is_thought && !text.is_empty() {
            if !std::mem::replace(&mut self.thinking, true) {
                events.push(Event::Thinking(Thinking::Started));
            }
            events.push(Event::Thinking(Thinking::Text(text.to_owned())));
        } else if !text.is_empty() {
            self.text.push_str(text);
            events.push(Event::Text(text.to_owned()));
        }
        if let (false, None, Some(signature)) =
            (is_thought, part.get("functionCall"), part.get("thoughtSignature"))
        {
            self.signature = Some(signature.clone());
        }
        if let Some(call) = part.get("functionCall") {
            self.close_text();
            let named = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default();
            let arguments = call.get("args").map(Value::to_string).unwrap_or_default();
            // Ids are ours when the provider gives none; two calls of one answer must not share one.
            let block = Block::tool_call(named("id"), named("name"), &arguments);
            self.blocks.push(match part.get("thoughtSignature") {
                Some(signature) => block.with_opaque(Format::Gemini.name(), signature.clone()),
                None => block,
            });
        }
        events
    }

    /// Text before a call is a block of its own, so that the order stays.
    fn close_text(&mut self) {
        if !self.text.is_empty() {
            let block = Block::text("", Kind::LlmText, &std::mem::take(&mut self.text));
            self.blocks.push(match self.signature.take() {
                Some(signature) => block.with_opaque(Format::Gemini.name(), signature),
                None => block,
            });
        }
    }
}

/// In the words of the others.
fn stop_reason(reason: &str) -> String {
    match reason {
        "SAFETY" | "PROHIBITED_CONTENT" | "BLOCKLIST" | "RECITATION" | "SPII" => {
            "content_filter".into()
        }
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;
