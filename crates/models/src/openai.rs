//! OpenAI Chat Completions (chapter 40 §14.2), as Ollama, vLLM and many others speak it too.

use collodi_chat::model::{Call, Event, ModelError, Thinking, Usage};
use collodi_chat::tool::ToolSpec;
use collodi_chat::turn::{Block, Kind};
use serde_json::{Map, Number, Value, json};

use crate::format::{
    Decoder, cut, either, is_reasoning_model, parse, reported, structured_output, tokens,
};
use crate::sse::Message;

/// The body of the request.
///
/// # Errors
/// Settings that do not hold.
pub fn encode(call: &Call) -> Result<Value, ModelError> {
    let settings = &call.runtime.settings;
    let model = settings.text("ai-engine").unwrap_or_default();
    let mut body = json!({"model": model, "messages": messages(call), "stream": true});
    if !model.contains("mistral") {
        body["stream_options"] = json!({"include_usage": true});
    }
    let reasoning = is_reasoning_model(&model);
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    let max_tokens = either(settings, "inference-max-response-tokens", "ai-max-response-tokens");
    put(if reasoning { "max_completion_tokens" } else { "max_tokens" }, max_tokens);
    put("stop", either(settings, "inference-stop", "ai-stop").filter(|stop| stop != &json!([])));
    put("seed", settings.get("inference-seed"));
    put("logit_bias", settings.get("openai-logit-bias").map(biases));
    let format = structured_output(settings)?;
    put("response_format", format.map(|f| json!({"type": "json_schema", "json_schema": f})));
    if reasoning {
        put("reasoning_effort", settings.get("inference-reasoning-effort"));
    } else {
        put("temperature", either(settings, "inference-temperature", "ai-temperature"));
        put("top_p", either(settings, "inference-top-p", "ai-top-p"));
        put("n", settings.get("openai-n"));
        // Sent when somebody set them, zero included: unset and 0 are not the same (INF-14).
        for (key, name) in [
            ("presence_penalty", "openai-presence-penalty"),
            ("frequency_penalty", "openai-frequency-penalty"),
        ] {
            put(key, settings.is_set(name).then(|| settings.get(name)).flatten());
        }
    }
    if !call.tools.is_empty() {
        put("tools", Some(call.tools.iter().map(tool).collect()));
        put("tool_choice", Some("auto".into()));
        put("parallel_tool_calls", Some(call.parallel_tools.into()));
    }
    Ok(body)
}

/// Settings hold texts; the provider wants numbers.
fn biases(biases: Value) -> Value {
    let Value::Object(biases) = biases else { return biases };
    let number = |value: Value| match value.as_str().map(str::parse::<Number>) {
        Some(Ok(number)) => number.into(),
        _ => value,
    };
    biases.into_iter().map(|(token, bias)| (token, number(bias))).collect::<Map<_, _>>().into()
}

fn tool(spec: &ToolSpec) -> Value {
    json!({"type": "function", "function": {
        "name": spec.name, "description": spec.description, "parameters": spec.parameters}})
}

/// Messages in the order of the blocks. Calls that follow each other are one message, and their results follow it
/// directly, as the provider wants them; the chain has put the blocks in that order (INF-28).
fn messages(call: &Call) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    let mut calls: Vec<Value> = Vec::new();
    for block in &call.blocks {
        if block.kind == Kind::ToolCall {
            calls.push(json!({"id": block.get("id"), "type": "function",
                "function": {"name": block.get("name"), "arguments": block.arguments_text()}}));
            continue;
        }
        if !calls.is_empty() {
            let calls = std::mem::take(&mut calls);
            messages.push(json!({"role": "assistant", "tool_calls": calls}));
        }
        messages.extend(message(block));
    }
    if !calls.is_empty() {
        messages.push(json!({"role": "assistant", "tool_calls": calls}));
    }
    messages
}

fn message(block: &Block) -> Option<Value> {
    let text = block.as_text().trim();
    match block.kind {
        Kind::ToolUse => {
            let content = block.result_text();
            Some(json!({"role": "tool", "tool_call_id": block.get("id"), "content": content}))
        }
        Kind::Reasoning | Kind::ToolCall => None,
        _ if text.is_empty() => None,
        Kind::Other => Some(json!({"role": "assistant", "content": text})),
        kind => Some(json!({"role": kind.role(), "content": text})),
    }
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Answer {
    text: String,
    thinking: bool,
    calls: Vec<PartialCall>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
    done: bool,
}

/// A call as far as it has come.
#[derive(Debug, Default)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl PartialCall {
    fn is_whole(&self) -> bool {
        serde_json::from_str::<Value>(&self.arguments).is_ok_and(|value| value.is_object())
    }
}

impl Decoder for Answer {
    fn event(&mut self, message: &Message) -> Result<Vec<Event>, ModelError> {
        if message.data.trim() == "[DONE]" {
            self.done = true;
            return Ok(Vec::new());
        }
        let chunk = parse(&message.data)?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(reported(error));
        }
        let mut events = Vec::new();
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(read_usage(usage));
        }
        let choices = chunk.get("choices").and_then(Value::as_array);
        let first = choices
            .into_iter()
            .flatten()
            .find(|c| c.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
        let Some(choice) = first else { return Ok(events) };
        let said = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let delta = choice.get("delta").unwrap_or(&Value::Null);
        let thought = said(delta.get("reasoning_content")).or_else(|| said(delta.get("reasoning")));
        if let Some(text) = thought {
            if !std::mem::replace(&mut self.thinking, true) {
                events.push(Event::Thinking(Thinking::Started));
            }
            events.push(Event::Thinking(Thinking::Text(text)));
        }
        let text = said(delta.get("content")).or_else(|| said(delta.get("refusal")));
        if let Some(text) = text {
            if std::mem::take(&mut self.thinking) {
                events.push(Event::Thinking(Thinking::Ended));
            }
            self.text.push_str(&text);
            events.push(Event::Text(text));
        }
        for fragment in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.fragment(fragment);
        }
        if let Some(reason) = said(choice.get("finish_reason")) {
            self.stop_reason = Some(reason);
        }
        Ok(events)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn end(self: Box<Self>) -> Result<Vec<Event>, ModelError> {
        if !self.done && self.stop_reason.is_none() {
            return Err(cut());
        }
        let mut events = Vec::new();
        if self.thinking {
            events.push(Event::Thinking(Thinking::Ended));
        }
        if !self.text.is_empty() {
            events.push(Event::Block(Block::text("", Kind::LlmText, &self.text)));
        }
        // Without a letter of its arguments a call may be one that takes none, unless the answer was cut.
        let is_cut = self.stop_reason.as_deref() == Some("length");
        for PartialCall { id, name, arguments, .. } in &self.calls {
            events.push(Event::Block(if is_cut && arguments.is_empty() {
                Block::cut_call(id, name, arguments)
            } else {
                Block::tool_call(id, name, arguments)
            }));
        }
        events.extend(self.usage.map(Event::Usage));
        events.push(Event::Done { stop_reason: self.stop_reason });
        Ok(events)
    }
}

impl Answer {
    /// Which call a fragment continues: that of the same id, else the last one of its index, or the last one of all where
    /// servers leave indices out, unless the fragment plainly begins another. Some servers repeat indices, some change
    /// ids from fragment to fragment.
    fn fragment(&mut self, fragment: &Value) {
        let id = fragment.get("id").and_then(Value::as_str).unwrap_or_default();
        let index = fragment.get("index").and_then(Value::as_u64);
        let name = fragment.get("function").and_then(|f| f.get("name")).and_then(Value::as_str);
        let is_named = name.is_some_and(|name| !name.is_empty());
        let same_id = || self.calls.iter().position(|call| !id.is_empty() && call.id == id);
        let last = || match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let begins_another = |call: &PartialCall| match index {
            Some(_) => {
                let other_id = !id.is_empty() && !call.id.is_empty();
                is_named && (other_id || (!call.name.is_empty() && call.is_whole()))
            }
            None => (is_named || !id.is_empty()) && !call.name.is_empty(),
        };
        let known = same_id().or_else(|| last().filter(|at| !begins_another(&self.calls[*at])));
        let at = known.unwrap_or_else(|| {
            self.calls.push(PartialCall { index, ..PartialCall::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        let function = fragment.get("function").unwrap_or(&Value::Null);
        let text = |key: &str| function.get(key).and_then(Value::as_str).unwrap_or_default();
        call.name.push_str(text("name"));
        call.arguments.push_str(text("arguments"));
    }
}

fn read_usage(usage: &Value) -> Usage {
    let cached = usage.get("prompt_tokens_details").and_then(|d| d.get("cached_tokens"));
    Usage {
        input_tokens: tokens(usage.get("prompt_tokens")),
        output_tokens: tokens(usage.get("completion_tokens")),
        cached_tokens: tokens(cached),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests;
