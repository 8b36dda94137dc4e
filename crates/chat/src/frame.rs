//! Frames: what a socket is sent (chapter 30 §2.2 to §2.4). One JSON object in a text message each.

use collodi_profiles::profile::resolve::EffectiveProfile;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::Usage;
use crate::timeline::Entity;

/// An event before it has a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The type, for example `llm.delta`.
    pub kind: &'static str,
    /// Of the entity that it is about.
    pub id: String,
    /// The payload.
    pub data: Value,
    /// Attribution and usage, on the frames of a model.
    pub metadata: Option<Value>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    sem: bool,
    event: Numbered<'a>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    data: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl Event {
    /// The text message, with its number if it has one.
    #[must_use]
    pub fn encode(&self, seq: Option<u64>) -> String {
        let event = Numbered {
            kind: self.kind,
            id: &self.id,
            data: &self.data,
            metadata: self.metadata.as_ref(),
            seq,
        };
        // Values of our own making always encode.
        serde_json::to_string(&Envelope { sem: true, event }).unwrap_or_default()
    }

    /// The user's prompt.
    #[must_use]
    pub fn chat_message(turn_id: &str, prompt: &str) -> Self {
        let data = json!({"schemaVersion": 1, "role": "user", "content": prompt});
        Self { kind: "chat.message", id: user_entity_id(turn_id), data, metadata: None }
    }

    /// A model begins to answer, or to think.
    #[must_use]
    pub fn llm_start(id: &str, voice: Voice, metadata: Value) -> Self {
        let data = json!({"id": id, "role": voice.role()});
        Self {
            kind: voice.pick("llm.start", "llm.thinking.start"),
            id: id.into(),
            data,
            metadata: Some(metadata),
        }
    }

    /// More text. `cumulative` is the whole text so far, for contract clients.
    #[must_use]
    pub fn llm_delta(
        id: &str,
        voice: Voice,
        delta: &str,
        cumulative: Option<&str>,
        metadata: Value,
    ) -> Self {
        let mut data = json!({"id": id, "delta": delta});
        if let Some(text) = cumulative {
            data["cumulative"] = text.into();
        }
        Self {
            kind: voice.pick("llm.delta", "llm.thinking.delta"),
            id: id.into(),
            data,
            metadata: Some(metadata),
        }
    }

    /// The message is complete, or will not be.
    #[must_use]
    pub fn llm_final(id: &str, text: &str, metadata: Value) -> Self {
        let mut data = json!({"id": id});
        if !text.is_empty() {
            data["text"] = text.into();
        }
        Self { kind: "llm.final", id: id.into(), data, metadata: Some(metadata) }
    }

    /// The thought is over.
    #[must_use]
    pub fn thinking_final(id: &str) -> Self {
        Self { kind: "llm.thinking.final", id: id.into(), data: json!({"id": id}), metadata: None }
    }

    /// What was thought, in short.
    #[must_use]
    pub fn thinking_summary(id: &str, text: &str, metadata: Value) -> Self {
        let data = json!({"id": id, "text": text});
        Self { kind: "llm.thinking.summary", id: id.into(), data, metadata: Some(metadata) }
    }

    /// The model asks for a tool.
    #[must_use]
    pub fn tool_start(id: &str, name: &str, input: &Value) -> Self {
        let mut data = json!({"id": id, "name": name});
        if input.as_object().is_some_and(|input| !input.is_empty()) {
            data["input"] = input.clone();
        }
        Self { kind: "tool.start", id: id.into(), data, metadata: None }
    }

    /// The tool runs.
    #[must_use]
    pub fn tool_delta(id: &str, input: &Value) -> Self {
        let input = if input.is_object() { input.clone() } else { json!({}) };
        let data = json!({"id": id, "patch": {"exec": true, "input": input}});
        Self { kind: "tool.delta", id: id.into(), data, metadata: None }
    }

    /// What the tool gave, as text that may hold JSON.
    #[must_use]
    pub fn tool_result(id: &str, result: &str, custom_kind: &str) -> Self {
        let mut data = json!({"id": id, "result": result});
        if !custom_kind.is_empty() {
            data["customKind"] = custom_kind.into();
        }
        Self { kind: "tool.result", id: id.into(), data, metadata: None }
    }

    /// The tool is done, well or not.
    #[must_use]
    pub fn tool_done(id: &str) -> Self {
        Self { kind: "tool.done", id: id.into(), data: json!({"id": id}), metadata: None }
    }

    /// The agent mode was looked at, and perhaps changed.
    #[must_use]
    pub fn agent_mode(id: &str, props: &Value) -> Self {
        let data = json!({"id": id, "title": props["title"], "data": props["data"]});
        Self { kind: "agent.mode", id: id.into(), data, metadata: None }
    }

    /// Step mode waits.
    #[must_use]
    pub fn debugger_pause(id: &str, props: &Value) -> Self {
        let mut data = props.clone();
        data["id"] = id.into();
        Self { kind: "debugger.pause", id: id.into(), data, metadata: None }
    }

    /// A failure that the user sees (decision 26), or a remark (decision 33).
    #[must_use]
    pub fn log(id: &str, level: &str, message: &str, fields: &Value) -> Self {
        let data = json!({"id": id, "level": level, "message": message, "fields": fields});
        Self { kind: "log", id: id.into(), data, metadata: None }
    }

    /// The stored form of an entity changed. `version` is the frame's own number.
    #[must_use]
    pub fn timeline_upsert(conv_id: &str, entity: &Entity, version: u64) -> Self {
        let data = json!({"convId": conv_id, "entity": entity, "version": version.to_string()});
        Self { kind: "timeline.upsert", id: entity.id.clone(), data, metadata: None }
    }

    /// The first frame of a socket.
    #[must_use]
    pub fn hello(conv_id: &str, runtime_key: &str, now_ms: i64) -> Self {
        let data =
            json!({"convId": conv_id, "runtimeKey": runtime_key, "serverTime": now_ms.to_string()});
        Self { kind: "ws.hello", id: format!("ws.hello:{conv_id}:{now_ms}"), data, metadata: None }
    }

    /// The answer to a ping.
    #[must_use]
    pub fn pong(conv_id: &str, now_ms: i64) -> Self {
        let data = json!({"convId": conv_id, "serverTime": now_ms.to_string()});
        Self { kind: "ws.pong", id: format!("ws.pong:{conv_id}:{now_ms}"), data, metadata: None }
    }

    /// Frames after the asked number are gone: the client hydrates (decision 24).
    #[must_use]
    pub fn resync(conv_id: &str, version: u64, now_ms: i64) -> Self {
        let data = json!({"convId": conv_id, "version": version.to_string()});
        Self {
            kind: "ws.resync",
            id: format!("ws.resync:{conv_id}:{now_ms}"),
            data,
            metadata: None,
        }
    }
}

/// Who speaks in a message of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The answer.
    Assistant,
    /// What it thinks on the way.
    Thinking,
}

impl Voice {
    /// The role of its message.
    #[must_use]
    pub fn role(self) -> &'static str {
        self.pick("assistant", "thinking")
    }

    fn pick(self, assistant: &'static str, thinking: &'static str) -> &'static str {
        match self {
            Self::Assistant => assistant,
            Self::Thinking => thinking,
        }
    }
}

/// The id of the entity that shows a prompt.
#[must_use]
pub fn user_entity_id(turn_id: &str) -> String {
    format!("user-{turn_id}")
}

/// Whether a message of a client is a ping (chapter 30 §2.3).
#[must_use]
pub fn is_ping(text: &str) -> bool {
    let text = text.trim();
    if text.eq_ignore_ascii_case("ping") {
        return true;
    }
    let Ok(Value::Object(message)) = serde_json::from_str(text) else { return false };
    let is = |value: Option<&Value>| {
        value.and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("ws.ping"))
    };
    let wrapped = message.get("sem") == Some(&Value::Bool(true))
        && is(message.get("event").and_then(|event| event.get("type")));
    is(message.get("type")) || wrapped
}

/// What frames of a model say about where they come from (decision 42); `sent` are the parameters of the call.
#[must_use]
pub fn attribution(
    runtime: &EffectiveProfile,
    model: &str,
    sent: Map<String, Value>,
) -> Map<String, Value> {
    let mut metadata = sent;
    metadata.insert("model".into(), model.into());
    metadata.insert("runtimeKey".into(), runtime.runtime_key.as_str().into());
    metadata.insert("registry".into(), runtime.registry.as_str().into());
    metadata.insert("profileVersion".into(), runtime.version.into());
    metadata.insert("runtimeFingerprint".into(), runtime.fingerprint.as_str().into());
    metadata
}

/// Adds what is known at the end of an answer.
pub fn add_outcome(
    metadata: &mut Map<String, Value>,
    stop_reason: Option<&str>,
    usage: Option<&Usage>,
    duration_ms: i64,
) {
    if let Some(reason) = stop_reason {
        metadata.insert("stopReason".into(), reason.into());
    }
    if let Some(usage) = usage {
        metadata.insert("usage".into(), json!(usage));
    }
    metadata.insert("durationMs".into(), duration_ms.max(0).to_string().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_contract_s_envelope() {
        let event = Event::hello("c-1", "default", 1_771_939_205_123);
        let value: Value = serde_json::from_str(&event.encode(None)).unwrap();
        assert_eq!(
            value,
            json!({"event": {"data": {"convId": "c-1", "runtimeKey": "default", "serverTime": "1771939205123"},
                "id": "ws.hello:c-1:1771939205123", "type": "ws.hello"}, "sem": true})
        );
        let value: Value =
            serde_json::from_str(&Event::chat_message("t", "hi").encode(Some(7))).unwrap();
        assert_eq!(value["event"]["seq"], json!(7));
        assert_eq!(value["event"]["id"], "user-t");
    }

    #[test]
    fn pings_come_in_three_forms() {
        for text in
            [" PING ", r#"{"type":"WS.ping"}"#, r#"{"sem":true,"event":{"type":"ws.ping"}}"#]
        {
            assert!(is_ping(text), "{text}");
        }
        for text in ["pong", "{}", r#"{"event":{"type":"ws.ping"}}"#, "{", r#"{"type":5}"#] {
            assert!(!is_ping(text), "{text}");
        }
    }
}
