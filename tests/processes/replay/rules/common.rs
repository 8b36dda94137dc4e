//! The differences that most scenarios share.

use serde_json::{Value, json};

use super::super::trace::Trace;

fn is_blank(entity: &Value) -> bool {
    let props = &entity["props"];
    entity["kind"] == "message" && props["role"] != "user" && props["content"] == ""
}

pub(super) fn no_blank(recorded: &mut Trace) -> bool {
    let mut dropped = false;
    for list in &mut recorded.sockets {
        list.retain(|event| {
            let blank = is_blank(&event["data"]["entity"]);
            dropped |= blank;
            !blank
        });
    }
    recorded.shown().for_each(|list| list.retain(|entity| !is_blank(entity)));
    dropped
}

/// An upsert's number is its version, and a snapshot's version is the highest of what it holds.
pub(super) fn numbers(recorded: &mut Trace, played: &mut Trace) -> bool {
    let number = |event: &Value| event["seq"].as_u64().unwrap();
    let upserts: Vec<u64> = played
        .events()
        .filter(|event| event["type"] == "timeline.upsert")
        .map(|event| {
            assert_eq!(event["data"]["version"], number(event).to_string());
            number(event)
        })
        .collect();
    for answer in played.answers.iter().filter(|a| a["body"].get("version").is_some()) {
        let version = answer["body"]["version"].as_str().unwrap().parse().unwrap();
        assert!(upserts.contains(&version), "{answer}");
    }
    for trace in [&mut *recorded, played] {
        for event in trace.events() {
            if event["type"] == "timeline.upsert" {
                event["data"]["version"] = json!("own");
            }
            if event["type"] == "timeline.upsert" || event["type"] == "tool.done" {
                event["seq"] = json!("own");
            }
        }
        for answer in trace.answers.iter_mut().filter(|a| a["body"].get("version").is_some()) {
            answer["body"]["version"] = json!("own");
        }
    }
    true
}

/// Frames and entities say what they came from; otherwise they say what the reference says.
pub(super) fn attribution(recorded: &mut Trace, played: &mut Trace) -> bool {
    const KEYS: [&str; 4] = ["runtimeKey", "registry", "profileVersion", "runtimeFingerprint"];
    let _ = recorded;
    let mut found = false;
    for event in played.events().filter(|event| event.get("metadata").is_some()) {
        let metadata = event["metadata"].as_object_mut().unwrap();
        found |= KEYS.iter().all(|key| metadata.remove(*key).is_some());
    }
    for item in played.held_lists().flatten() {
        if let Some(metadata) = item["frame"]["event"].get_mut("metadata") {
            metadata.as_object_mut().unwrap().retain(|key, _| !KEYS.contains(&key.as_str()));
        }
    }
    for entity in played.entities().filter(|entity| entity["kind"] == "message") {
        if entity["props"]["metadata"]["runtimeKey"].is_string() {
            entity["props"]["metadata"] = json!({});
        }
    }
    found
}

pub(super) fn turn_ids(_: &mut Trace, played: &mut Trace) -> bool {
    let mut found = false;
    for entity in played.entities().filter(|entity| entity["props"]["role"] == "user") {
        let turn = entity["props"]["metadata"].as_object_mut().unwrap().remove("turnId").unwrap();
        assert_eq!(entity["id"], format!("user-{}", turn.as_str().unwrap()));
        found = true;
    }
    found
}

pub(super) fn json_answers(recorded: &mut Trace) -> bool {
    let mut found = false;
    for answer in &mut recorded.answers {
        if answer["body"].is_object()
            && answer["headers"]["content-type"] == "text/plain; charset=utf-8"
        {
            answer["headers"]["content-type"] = json!("application/json");
            found = true;
        }
    }
    found
}

/// Started, queued and replayed answers name one runtime, and the frames of the turn name the same.
pub(super) fn answers(_: &mut Trace, played: &mut Trace) -> bool {
    let mut found = false;
    for answer in played.answers.iter_mut().filter(|a| a["body"].get("idempotency_key").is_some()) {
        let body = answer["body"].as_object_mut().unwrap();
        let [key, fingerprint, profile] =
            ["runtime_key", "runtime_fingerprint", "profile_metadata"]
                .map(|key| body.remove(key).unwrap_or_else(|| panic!("no {key}: {body:?}")));
        assert_eq!(profile["profile.slug"], key);
        assert!(fingerprint.as_str().unwrap().starts_with("sha256:"));
        found = true;
    }
    found
}

pub(super) fn snake_case(recorded: &mut Trace, _: &mut Trace) -> bool {
    const WORDS: [&str; 7] =
        ["allowed", "execution", "max", "parallel", "retry", "backoff", "error"];
    fn spell(value: &Value) -> Value {
        let Value::Object(entries) = value else { return value.clone() };
        let key = |key: &str| {
            let apart = key.replace("tool", "_tool_").replace("__", "_");
            let apart = WORDS.iter().fold(apart, |k, w| k.replace(w, &format!("_{w}_")));
            apart.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
        };
        entries
            .iter()
            .map(|(k, v)| (key(k).replace("tool_s", "tools"), spell(v)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
    let mut found = false;
    for turn in recorded.turns() {
        if let Some(config) = turn["payload"]["data"].get_mut("geppetto.tool_config@v1") {
            *config = spell(config);
            found = true;
        }
    }
    found
}

/// The attribution inside a payload is the one beside it.
pub(super) fn self_described(_: &mut Trace, played: &mut Trace) -> bool {
    for turn in played.turns() {
        let key = turn["runtime_key"].clone();
        let metadata = turn["payload"]["metadata"].as_object_mut().unwrap();
        let runtime = metadata.remove("geppetto.runtime@v1").unwrap();
        assert_eq!((&runtime["runtime_key"], &runtime["profile"]), (&key, &key));
        assert!(runtime["profile_version"].as_u64() > Some(0) && runtime["registry"] == "default");
    }
    played.turns().next().is_some()
}

pub(super) fn said_by_provider(_: &mut Trace, played: &mut Trace) -> bool {
    let mut found = false;
    for turn in played.turns() {
        let metadata = turn["payload"]["metadata"].as_object_mut().unwrap();
        for key in ["provider", "model", "usage", "stop_reason"] {
            found |= metadata.remove(&format!("geppetto.{key}@v1")).is_some();
        }
    }
    found
}

pub(super) fn optional_arguments(recorded: &mut Trace) -> bool {
    let mut found = false;
    let tools =
        recorded.requests.iter_mut().filter_map(|r| r["body"].get_mut("tools")?.as_array_mut());
    for tool in tools.flatten() {
        for schema in ["/function/parameters", "/parameters", "/input_schema"] {
            if let Some(required) = tool.pointer_mut(&format!("{schema}/required")) {
                found |= *required == json!(["a", "b", "op"]);
                required.as_array_mut().unwrap().retain(|name| name != "op");
            }
        }
    }
    found
}

/// Newest first: within a turn by what the context holds, then by what a loop does last.
pub(super) fn ordered(recorded: &mut Trace) -> bool {
    const PHASES: [&str; 4] = ["final", "post_inference", "pre_inference", "post_tools"];
    let mut found = false;
    for list in recorded.turn_lists() {
        let before = list.clone();
        for turn in list.chunk_by_mut(|a, b| a["turn_id"] == b["turn_id"]) {
            turn.sort_by_key(|item| {
                let blocks = item["payload"]["blocks"].as_array().unwrap().len();
                let phase = PHASES.iter().position(|phase| item["phase"] == *phase);
                (std::cmp::Reverse(blocks), phase)
            });
        }
        found |= before != *list;
    }
    found
}

/// How many deltas a text comes in, and how often it is stored while it grows, is for the clock to say: the first of each
/// counts, and the deltas together.
pub(super) fn coalesced(recorded: &mut Trace, played: &mut Trace) -> bool {
    for trace in [recorded, played] {
        for events in &mut trace.sockets {
            let mut kept: Vec<Value> = Vec::new();
            for event in events.drain(..) {
                let grows = event["data"]["entity"]["props"]["streaming"] == true;
                let id = event["id"].clone();
                let begun = kept.iter().any(|e| e["id"] == id && e["type"] != "timeline.upsert");
                let shown = kept.iter().any(|e| e["id"] == id && e["type"] == "timeline.upsert");
                let from_start = kept.iter().any(|e| e["id"] == id && is_start(e));
                if grows && begun && (shown || !from_start) {
                    continue;
                }
                match kept.last_mut() {
                    Some(last) if is_delta(&event) && is_delta(last) && last["id"] == id => {
                        join(last, &event);
                    }
                    _ => kept.push(event),
                }
            }
            kept.iter_mut().filter(|e| is_delta(e)).for_each(|e| e["seq"] = json!("own"));
            *events = kept;
        }
        for list in trace.held_lists() {
            list.dedup_by(|event, last| {
                let (event, last) = (&event["frame"]["event"], &mut last["frame"]["event"]);
                let same = is_delta(event) && is_delta(last) && last["id"] == event["id"];
                if same {
                    join(last, event);
                }
                same
            });
            for event in list.iter_mut().map(|item| &mut item["frame"]["event"]) {
                if is_delta(event) {
                    event["seq"] = json!("own");
                }
            }
        }
    }
    true
}

fn is_start(event: &Value) -> bool {
    event["type"] == "llm.start" || event["type"] == "llm.thinking.start"
}

fn is_delta(event: &Value) -> bool {
    event["type"] == "llm.delta" || event["type"] == "llm.thinking.delta"
}

fn join(last: &mut Value, event: &Value) {
    let text = |event: &Value| event["data"]["delta"].as_str().unwrap_or_default().to_owned();
    last["data"]["delta"] = (text(last) + &text(event)).into();
    last["data"]["cumulative"] = event["data"]["cumulative"].clone();
    for key in ["seq", "metadata"] {
        last[key] = event[key].clone();
    }
}
