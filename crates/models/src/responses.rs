//! OpenAI Responses (chapter 40 §14.3).

use std::collections::HashMap;

use collodi_chat::model::{Call, Event, ModelError, Thinking, Usage};
use collodi_chat::turn::{Block, Blocks, Kind, keys};
use serde_json::{Map, Value, json};

use crate::format::{
    Decoder, Format, cut, either, is_reasoning_model, parse, reported, structured_output, tokens,
};
use crate::sse::Message;

/// The body of the request.
///
/// # Errors
/// Settings that do not hold.
pub fn encode(call: &Call) -> Result<Value, ModelError> {
    let settings = &call.runtime.settings;
    let model = settings.text("ai-engine").unwrap_or_default();
    let mut body = json!({"model": model, "input": input(&call.blocks), "stream": true});
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    let max_tokens = either(settings, "inference-max-response-tokens", "ai-max-response-tokens");
    put("max_output_tokens", max_tokens);
    let asked = ["inference-reasoning-effort", "inference-reasoning-summary"]
        .iter()
        .any(|name| settings.is_set(name));
    if is_reasoning_model(&model) || asked {
        // Others refuse it (INF-12).
        put("reasoning", Some(reasoning(call)));
        put("include", Some(json!(["reasoning.encrypted_content"])));
    } else {
        put("temperature", either(settings, "inference-temperature", "ai-temperature"));
        put("top_p", either(settings, "inference-top-p", "ai-top-p"));
    }
    if let Some(mut format) = structured_output(settings)? {
        format.insert("type".into(), "json_schema".into());
        put("text", Some(json!({ "format": format })));
    }
    if !call.tools.is_empty() {
        let tool = |spec: &collodi_chat::tool::ToolSpec| {
            json!({"type": "function", "name": spec.name, "description": spec.description,
                "parameters": spec.parameters})
        };
        put("tools", Some(call.tools.iter().map(tool).collect()));
        put("parallel_tool_calls", Some(call.parallel_tools.into()));
    }
    Ok(body)
}

fn reasoning(call: &Call) -> Value {
    let settings = &call.runtime.settings;
    let effort = either(settings, "inference-reasoning-effort", "openai-reasoning-effort");
    let effort = effort.as_ref().and_then(Value::as_str);
    let effort = effort.filter(|effort| matches!(*effort, "low" | "high")).unwrap_or("medium");
    let mut reasoning = json!({ "effort": effort });
    let summary = either(settings, "inference-reasoning-summary", "openai-reasoning-summary");
    if let Some(summary) = summary.filter(|summary| summary != "") {
        reasoning["summary"] = summary;
    }
    reasoning
}

/// Items in the order of the blocks. Reasoning goes back to the provider that made it, and only together with what it
/// led to.
fn input(blocks: &Blocks) -> Vec<Value> {
    let mut items = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let text = block.as_text();
        match block.kind {
            Kind::Reasoning => {
                let next = blocks[at..].iter().find(|next| reasoning_item(next).is_none());
                let led_to = next.is_some_and(|next| {
                    next.kind == Kind::ToolCall
                        || (next.kind == Kind::LlmText && !next.as_text().trim().is_empty())
                });
                items.extend(reasoning_item(block).filter(|_| led_to));
            }
            Kind::ToolCall => {
                let mut item = json!({"type": "function_call", "call_id": block.get("id"),
                    "name": block.get("name"), "arguments": block.arguments_text()});
                if !block.get("item_id").is_empty() {
                    item["id"] = block.get("item_id").into();
                }
                items.push(item);
            }
            Kind::ToolUse => items.push(json!({"type": "function_call_output",
                "call_id": block.get("id"), "output": block.result_text()})),
            _ if text.trim().is_empty() => {}
            Kind::LlmText | Kind::Other => {
                let content = json!([{"type": "output_text", "text": text}]);
                let follows = at.checked_sub(1).and_then(|before| blocks.get(before));
                let reasoned = follows.is_some_and(|b| reasoning_item(b).is_some());
                let id = block.get("item_id");
                items.push(if reasoned && !id.is_empty() {
                    json!({"type": "message", "role": "assistant", "id": id, "content": content})
                } else {
                    json!({"role": "assistant", "content": content})
                });
            }
            kind => items.push(json!({"role": kind.role(),
                "content": [{"type": "input_text", "text": text}]})),
        }
    }
    items
}

fn reasoning_item(block: &Block) -> Option<Value> {
    // Blocks of the Go reference carry no mark; only this format wrote reasoning there.
    let ours = block.opaque(Format::Responses.name()).is_some()
        || !block.metadata.contains_key(keys::OPAQUE);
    if block.kind != Kind::Reasoning || !ours || block.id.is_empty() {
        return None;
    }
    let mut item = json!({"type": "reasoning", "id": block.id, "summary": []});
    let encrypted = block.get("encrypted_content");
    if !encrypted.is_empty() {
        item["encrypted_content"] = encrypted.into();
    }
    Some(item)
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Text that was streamed, by item, in the order in which the items began.
    streamed: Vec<(String, String)>,
    /// Arguments that were streamed, by item.
    arguments: HashMap<String, String>,
    summary: String,
    thinking: bool,
    usage: Option<Usage>,
    stop_reason: Option<String>,
    done: bool,
}

impl Decoder for Answer {
    fn event(&mut self, message: &Message) -> Result<Vec<Event>, ModelError> {
        let named = message.event.as_str();
        let is_ours = named.is_empty() || named == "error" || named.starts_with("response.");
        if message.data.trim() == "[DONE]" || !is_ours {
            return Ok(Vec::new());
        }
        let data = parse(&message.data)?;
        let kind = match message.event.as_str() {
            "" => data.get("type").and_then(Value::as_str).unwrap_or_default(),
            kind => kind,
        };
        let delta = || data.get("delta").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(match kind {
            "response.output_item.added" if item_kind(&data) == "reasoning" => self.think(),
            "response.reasoning_summary_text.delta" => {
                let text = delta();
                self.summary.push_str(&text);
                let mut events = self.think();
                events.push(Event::Thinking(Thinking::Text(text)));
                events
            }
            "response.reasoning_text.delta" => {
                let mut events = self.think();
                events.push(Event::Thinking(Thinking::Text(delta())));
                events
            }
            "response.output_text.delta"
            | "response.refusal.delta"
            | "response.output_json.delta" => {
                let text = delta();
                let item = data.get("item_id").and_then(Value::as_str).unwrap_or_default();
                match self.streamed.iter_mut().find(|(known, _)| known == item) {
                    Some((_, streamed)) => streamed.push_str(&text),
                    None => self.streamed.push((item.to_owned(), text.clone())),
                }
                if text.is_empty() { Vec::new() } else { vec![Event::Text(text)] }
            }
            "response.function_call_arguments.delta" | "response.function_call_arguments.done" => {
                self.arguments(&data);
                Vec::new()
            }
            "response.output_item.done" => self.item(&data),
            "response.completed" => self.complete(&data, None),
            "response.incomplete" => {
                let response = data.get("response").unwrap_or(&data);
                let reason = response.get("incomplete_details").and_then(|d| d.get("reason"));
                let reason = reason.and_then(Value::as_str).unwrap_or("incomplete").to_owned();
                self.complete(&data, Some(reason))
            }
            "response.failed" => {
                let error = data.get("response").and_then(|response| response.get("error"));
                return Err(failed("responses failed", error.unwrap_or(&Value::Null)));
            }
            "error" => {
                let error = data.get("error").unwrap_or(&data);
                return Err(failed("responses stream error", error));
            }
            _ => Vec::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn end(self: Box<Self>) -> Result<Vec<Event>, ModelError> {
        if !self.done {
            return Err(cut());
        }
        let mut events = Vec::new();
        if self.thinking {
            events.push(Event::Thinking(Thinking::Ended));
        }
        events.extend(self.usage.map(Event::Usage));
        if !self.summary.is_empty() {
            events.push(Event::Thinking(Thinking::Summary(self.summary)));
        }
        events.push(Event::Done { stop_reason: self.stop_reason });
        Ok(events)
    }
}

fn item_kind(data: &Value) -> &str {
    data.get("item").and_then(|item| item.get("type")).and_then(Value::as_str).unwrap_or_default()
}

impl Answer {
    fn think(&mut self) -> Vec<Event> {
        if std::mem::replace(&mut self.thinking, true) {
            Vec::new()
        } else {
            vec![Event::Thinking(Thinking::Started)]
        }
    }

    /// Arguments of a call, piece by piece and then whole.
    fn arguments(&mut self, data: &Value) {
        let text = |key: &str| data.get(key).and_then(Value::as_str);
        let written = self.arguments.entry(text("item_id").unwrap_or_default().into()).or_default();
        match text("arguments") {
            Some(whole) => whole.clone_into(written),
            None => written.push_str(text("delta").unwrap_or_default()),
        }
    }

    /// A part of the answer is complete.
    fn item(&mut self, data: &Value) -> Vec<Event> {
        let item = data.get("item").unwrap_or(&Value::Null);
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let id = text("id");
        match text("type") {
            "reasoning" => {
                let mut payload = Map::new();
                if !text("encrypted_content").is_empty() {
                    payload.insert("encrypted_content".into(), text("encrypted_content").into());
                }
                let block = Block::new(id, Kind::Reasoning, payload.into());
                let block = block.with_opaque(Format::Responses.name(), Value::Null);
                let mut events = vec![Event::Block(block)];
                if std::mem::take(&mut self.thinking) {
                    events.insert(0, Event::Thinking(Thinking::Ended));
                }
                events
            }
            "message" => {
                let parts = item.get("content").and_then(Value::as_array);
                let said: String = parts
                    .into_iter()
                    .flatten()
                    .filter_map(|part| {
                        part.get("text").or_else(|| part.get("refusal")).and_then(Value::as_str)
                    })
                    .collect();
                // Some servers name the item otherwise in its deltas than at its end.
                let known = self.streamed.iter().position(|(known, _)| known == id);
                let known = known.or_else(|| (!self.streamed.is_empty()).then_some(0));
                let streamed = known.map(|at| self.streamed.remove(at).1).unwrap_or_default();
                let missing = missing(&streamed, &said);
                let whole = format!("{streamed}{missing}");
                let mut events = Vec::new();
                if !missing.is_empty() {
                    events.push(Event::Text(missing.to_owned()));
                }
                if !whole.is_empty() {
                    let payload = json!({"text": whole, "item_id": id});
                    events.push(Event::Block(Block::new("", Kind::LlmText, payload)));
                }
                events
            }
            "function_call" => {
                let streamed = self.arguments.remove(id).unwrap_or_default();
                let written = match text("arguments") {
                    "" => streamed.as_str(),
                    whole => whole,
                };
                let (call_id, name) = (text("call_id"), text("name"));
                let mut block = if text("status") == "incomplete" && written.is_empty() {
                    Block::cut_call(call_id, name, written)
                } else {
                    Block::tool_call(call_id, name, written)
                };
                block.payload.insert("item_id".into(), id.into());
                vec![Event::Block(block)]
            }
            _ => Vec::new(),
        }
    }

    fn complete(&mut self, data: &Value, reason: Option<String>) -> Vec<Event> {
        let response = data.get("response").unwrap_or(data);
        let usage = response.get("usage").or_else(|| data.get("usage"));
        self.usage = usage.filter(|usage| usage.is_object()).map(|usage| {
            let cached = usage.get("input_tokens_details").and_then(|d| d.get("cached_tokens"));
            Usage {
                input_tokens: tokens(usage.get("input_tokens")),
                output_tokens: tokens(usage.get("output_tokens")),
                cached_tokens: tokens(cached.or_else(|| usage.get("cached_tokens"))),
                ..Usage::default()
            }
        });
        let said = response.get("stop_reason").or_else(|| data.get("stop_reason"));
        self.stop_reason = reason.or_else(|| said.and_then(Value::as_str).map(str::to_owned));
        self.done = true;
        // What was shown is kept, also of items that nobody ended.
        let left = std::mem::take(&mut self.streamed).into_iter();
        left.filter(|(_, text)| !text.is_empty())
            .map(|(id, text)| {
                let payload = json!({"text": text, "item_id": id});
                Event::Block(Block::new("", Kind::LlmText, payload))
            })
            .collect()
    }
}

/// What of `whole` was not streamed: what follows the longest end of `streamed` that begins `whole`.
fn missing<'a>(streamed: &str, whole: &'a str) -> &'a str {
    let starts = streamed.char_indices().map(|(at, _)| at);
    for start in starts {
        if let Some(rest) = whole.strip_prefix(&streamed[start..]) {
            return rest;
        }
    }
    if streamed.is_empty() { whole } else { "" }
}

fn failed(prefix: &str, error: &Value) -> ModelError {
    let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
    let said = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let text = match (code, said) {
        ("", "") => prefix.to_owned(),
        ("", said) => said.to_owned(),
        (code, said) => format!("{prefix} ({code}): {said}"),
    };
    ModelError { message: text, ..reported(error) }
}

#[cfg(test)]
mod tests;
