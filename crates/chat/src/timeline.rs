//! The timeline: the UI-shaped view of a conversation, projected from its frames (chapter 30 §3). Pure.

use std::fmt::Write as _;

use collodi_profiles::json::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One entity, in the protobuf JSON shape that clients read (64-bit integers are strings).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    /// Unique in the conversation.
    pub id: String,
    /// `message`, `tool_call`, `tool_result`, `log`, `agent_mode`, `debugger_pause`, ...
    pub kind: String,
    /// Unix milliseconds of its first version.
    #[serde(with = "as_text")]
    pub created_at_ms: i64,
    /// Unix milliseconds of this version.
    #[serde(with = "as_text")]
    pub updated_at_ms: i64,
    /// What clients show.
    pub props: Value,
    /// The number of the frame that announced it.
    #[serde(skip)]
    pub version: u64,
    /// Its place among the others: the number of the frame that first announced it (D23).
    #[serde(skip)]
    pub place: u64,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ms)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The props of a message.
#[must_use]
pub fn message_props(role: &str, content: &str, streaming: bool, metadata: &Object) -> Value {
    json!({"schemaVersion": 1, "role": role, "content": content, "streaming": streaming, "metadata": metadata})
}

/// The props of a call of a tool; `outcome` is absent while it runs.
#[must_use]
pub fn tool_call_props(name: &str, input: &Value, outcome: Option<Result<(), &str>>) -> Value {
    let (status, progress, done) = match outcome {
        None => ("running", 0, false),
        Some(Ok(())) => ("completed", 1, true),
        Some(Err(_)) => ("error", 1, true),
    };
    let mut props = json!({"schemaVersion": 1, "name": name, "input": input, "status": status,
        "progress": progress, "done": done});
    if let Some(Err(error)) = outcome {
        props["error"] = error.into();
    }
    props
}

/// The props of a result of a tool: `raw` is its text.
#[must_use]
pub fn tool_result_props(call_id: &str, raw: &str, error: &str, custom_kind: &str) -> Value {
    let parsed = serde_json::from_str::<Value>(raw).ok().filter(Value::is_object);
    json!({"schemaVersion": 1, "toolCallId": call_id, "result": parsed.unwrap_or_else(|| json!({"raw": raw})),
        "error": error, "resultRaw": raw, "customKind": custom_kind})
}

/// The snapshot of `/api/timeline`: protobuf JSON, zero values left out.
#[must_use]
pub fn snapshot(conv_id: &str, page: &crate::store::TimelinePage, now_ms: i64) -> String {
    let mut out = String::with_capacity(128 + page.entities.iter().map(String::len).sum::<usize>());
    out.push_str("{\"convId\":");
    out.push_str(&Value::from(conv_id).to_string());
    // Writing to a String does not fail.
    if page.version > 0 {
        let _ = write!(out, ",\"version\":\"{}\"", page.version);
    }
    let _ = write!(out, ",\"serverTimeMs\":\"{now_ms}\"");
    if !page.entities.is_empty() {
        out.push_str(",\"entities\":[");
        for (n, entity) in page.entities.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(entity);
        }
        out.push(']');
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TimelinePage;

    #[test]
    fn snapshots_are_protobuf_json() {
        let entity = Entity {
            id: "b".into(),
            kind: "message".into(),
            created_at_ms: 100,
            updated_at_ms: 150,
            props: json!({"x": 1}),
            version: 6,
            place: 2,
        };
        let text = serde_json::to_string(&entity).unwrap();
        let page = TimelinePage { version: 6, older: None, entities: vec![text.clone()] };
        let read: Value = serde_json::from_str(&snapshot("c\"", &page, 200)).unwrap();
        assert_eq!(
            read,
            json!({"convId": "c\"", "version": "6", "serverTimeMs": "200", "entities": [
                {"id": "b", "kind": "message", "createdAtMs": "100", "updatedAtMs": "150", "props": {"x": 1}}]})
        );
        let back: Entity = serde_json::from_str(&text).unwrap();
        assert_eq!((back.created_at_ms, back.props), (100, json!({"x": 1})));
        assert_eq!(
            snapshot("c", &TimelinePage::default(), 1),
            "{\"convId\":\"c\",\"serverTimeMs\":\"1\"}\n"
        );
    }

    #[test]
    fn c30_d33_failed_tools_say_so() {
        let props = tool_call_props("calc", &json!({"a": 1}), Some(Err("division by zero")));
        assert_eq!((&props["status"], &props["done"]), (&json!("error"), &json!(true)));
        assert_eq!(props["error"], "division by zero");
        let ok = tool_call_props("calc", &Value::Null, Some(Ok(())));
        assert_eq!((&ok["status"], ok.get("error")), (&json!("completed"), None));
    }

    #[test]
    fn results_show_objects_as_objects_and_the_rest_raw() {
        let result = |raw| tool_result_props("c", raw, "", "")["result"].clone();
        assert_eq!(result("{\"result\":5}"), json!({"result": 5}));
        assert_eq!(result("5"), json!({"raw": "5"}));
    }
}
