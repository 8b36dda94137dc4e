//! What the tests of all wire formats share: calls, recorded exchanges, and answers as comparable values.

use std::path::Path;
use std::sync::Arc;

use collodi_chat::model::{Call, Event, ModelError, Thinking};
use collodi_chat::tool::ToolSpec;
use collodi_chat::turn::{Block, Kind, keys};
use collodi_profiles::profile::resolve::EffectiveProfile;
use collodi_profiles::settings::Settings;
use collodi_profiles::{ProfileSlug, RegistrySlug, RuntimeKey};
use serde_json::{Map, Value, json};

use crate::format::Format;
use crate::sse::Splitter;

/// A call under these settings, without tools.
pub(crate) fn call(settings: &[(&str, Value)], blocks: Vec<Block>) -> Call {
    let slug = ProfileSlug::parse("test").unwrap();
    let mut all = Settings::default();
    for (name, value) in settings {
        all.set(name, value).unwrap();
    }
    let runtime = EffectiveProfile {
        registry: RegistrySlug::parse("test").unwrap(),
        runtime_key: RuntimeKey::from(&slug),
        slug,
        version: 1,
        source: String::new(),
        system_prompt: "You are an assistant".into(),
        middlewares: Vec::new(),
        tools: None,
        settings: all,
        patched_settings: Map::new(),
        fingerprint: String::new(),
    };
    let blocks = blocks.into_iter().map(Arc::new).collect();
    Call { runtime: Arc::new(runtime), blocks, tools: Vec::new(), parallel_tools: true }
}

pub(crate) fn system(text: &str) -> Block {
    Block::text("", Kind::System, text)
}

pub(crate) fn user(text: &str) -> Block {
    Block::text("", Kind::User, text)
}

pub(crate) fn assistant(text: &str) -> Block {
    Block::text("", Kind::LlmText, text)
}

pub(crate) fn result(call: &str, outcome: Result<&str, &str>) -> Block {
    Block::tool_use("", call, outcome)
}

pub(crate) fn tool(name: &str, parameters: Value) -> ToolSpec {
    ToolSpec { name: name.into(), description: format!("what {name} does"), parameters }
}

/// One request of the Go reference, and what it got.
pub(crate) struct Exchange {
    pub(crate) body: Value,
    pub(crate) answered: Vec<Value>,
}

pub(crate) fn recorded(transcript: &str) -> Vec<Exchange> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{transcript}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let transcript: Value = serde_json::from_str(&text).unwrap();
    let exchange = |request: &Value| Exchange {
        body: request["body"].clone(),
        answered: request["answered"].as_array().unwrap().clone(),
    };
    transcript["provider_requests"].as_array().unwrap().iter().map(exchange).collect()
}

/// The value with whole floats as integers: `1.0` and `1` are the same to every provider.
pub(crate) fn numbers(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(numbers).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| (k.clone(), numbers(v))).collect::<Map<_, _>>().into()
        }
        Value::Number(n) if n.is_f64() && n.to_string().ends_with(".0") => {
            n.to_string().trim_end_matches(".0").parse::<i64>().unwrap().into()
        }
        other => other.clone(),
    }
}

/// The stream of an answer up to a `cut`. Events are `{"event", "data"}`, or data alone: text as it stands, or an
/// object, whose `type` is the event's name.
pub(crate) fn wire(events: &[Value], line_end: &str) -> String {
    let mut stream = String::new();
    for event in events.iter().take_while(|event| event.get("cut").is_none()) {
        let (name, data) = match event.get("data") {
            Some(data) => (event.get("event"), data),
            None => (event.get("type"), event),
        };
        if let Some(name) = name.and_then(Value::as_str) {
            stream.extend(["event: ", name, line_end]);
        }
        let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
        stream.extend(["data: ", &data, line_end, line_end]);
    }
    stream
}

/// What a decoder makes of an answer: its events, and `{"error"}` last if it is not complete.
pub(crate) fn decode(format: Format, events: &[Value]) -> Vec<Value> {
    decode_chunks(format, [wire(events, "\n").as_bytes()])
}

pub(crate) fn decode_chunks<'a>(
    format: Format,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Value> {
    let (mut splitter, mut messages) = (Splitter::default(), Vec::new());
    for chunk in chunks {
        splitter.feed(chunk, &mut messages).unwrap();
    }
    let (mut decoder, mut seen) = (format.decoder(), Vec::new());
    for message in messages {
        if decoder.is_done() {
            break;
        }
        match decoder.event(&message) {
            Ok(events) => seen.extend(events.into_iter().map(shown)),
            Err(error) => {
                seen.push(failed(&error));
                return seen;
            }
        }
    }
    match decoder.end() {
        Ok(events) => seen.extend(events.into_iter().map(shown)),
        Err(error) => seen.push(failed(&error)),
    }
    seen
}

fn failed(error: &ModelError) -> Value {
    json!({"error": error.code, "message": error.message, "retryable": error.retryable})
}

fn shown(event: Event) -> Value {
    match event {
        Event::Text(text) => json!({"says": text}),
        Event::Thinking(Thinking::Started) => json!("thinking"),
        Event::Thinking(Thinking::Text(text)) => json!({"thinks": text}),
        Event::Thinking(Thinking::Ended) => json!("thought"),
        Event::Thinking(Thinking::Summary(text)) => json!({"summary": text}),
        Event::Block(block) => shown_block(&block),
        Event::Usage(usage) => json!({"usage": usage}),
        Event::Done { stop_reason } => json!({"done": stop_reason}),
    }
}

/// Payload by kind; a call shows its arguments if they may run, else as the model wrote them.
fn shown_block(block: &Block) -> Value {
    let mut payload = block.payload.clone();
    let mut metadata = block.metadata.clone();
    if block.kind == Kind::ToolCall {
        assert_eq!(block.id, block.get("id"));
        let written = metadata.remove(keys::RAW_ARGUMENTS);
        let args = block.arguments().map_or_else(|| json!({ "unfit": written }), Value::Object);
        payload.insert("args".into(), args);
    }
    let mut shown = json!({(block.kind.as_str()): payload});
    if block.kind != Kind::ToolCall && !block.id.is_empty() {
        shown["id"] = block.id.as_str().into();
    }
    if !metadata.is_empty() {
        shown["metadata"] = metadata.into();
    }
    shown
}

/// A call as [`decode`] shows it.
pub(crate) fn called(id: &str, name: &str, args: &Value) -> Value {
    json!({"tool_call": {"id": id, "name": name, "args": args}})
}

/// What only `provider` can read, as [`decode`] shows it.
pub(crate) fn opaque(provider: &str, value: &Value) -> Value {
    json!({(keys::OPAQUE): {"provider": provider, "value": value}})
}

/// The calls of an answer that would run.
pub(crate) fn runnable(seen: &[Value]) -> Vec<Value> {
    let calls = seen.iter().filter_map(|event| event.get("tool_call"));
    calls.filter(|call| call["args"].get("unfit").is_none()).cloned().collect()
}

/// INF-8: an answer that takes `needed` of these events to be complete is cut with fewer.
pub(crate) fn assert_cut_before(format: Format, events: &[Value], needed: usize) {
    for length in 0..needed {
        let seen = decode(format, &events[..length]);
        let last = seen.last().unwrap();
        assert_eq!((&last["error"], &last["retryable"]), (&json!("cut"), &json!(true)), "{length}");
        assert!(seen.iter().all(|event| event.get("done").is_none()));
    }
    for length in needed..=events.len() {
        let seen = decode(format, &events[..length]);
        assert!(seen.last().unwrap().get("done").is_some(), "{length}: {seen:?}");
    }
}

/// Every beginning of the text, the whole apart.
pub(crate) fn beginnings(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, _)| &text[..at])
}

/// INF-30: no value is of a type that breaks more than the answer.
pub(crate) fn assert_any_type_is_survived(format: Format, events: &[Value]) {
    for at in 0..events.len() {
        let mut paths = Vec::new();
        collect_paths(&events[at], &mut String::new(), &mut paths);
        for path in paths {
            for other in [Value::Null, json!(-5), json!(1e300), json!("x"), json!([1]), json!({})] {
                let mut events = events.to_vec();
                *events[at].pointer_mut(&path).unwrap() = other;
                assert!(!decode(format, &events).is_empty());
            }
        }
    }
}

fn collect_paths(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, v)| (key.clone(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let length = path.len();
        path.push('/');
        path.push_str(&key);
        paths.push(path.clone());
        collect_paths(child, path, paths);
        path.truncate(length);
    }
}
