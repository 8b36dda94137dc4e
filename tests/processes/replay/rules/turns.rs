//! Whole turns that end otherwise than the reference's.

use serde_json::{Value, json};

use super::super::tokens::ANY;
use super::super::trace::Trace;
use super::events::{event, insert, message, upsert};
use super::runs::thought_in;

/// A turn with a thinking block succeeds: it is shown, stored, and given back to the provider with its signature.
pub(super) fn thought_through(recorded: &mut Trace) -> bool {
    thought_in(recorded, ["hm", " ok"]);
    answer(recorded);
    let turn = recorded.answers[0]["body"]["turn_id"].clone();
    recorded.answers[1]["body"]["status"] = "completed".into();
    let said = [
        json!({"id": ANY, "kind": "reasoning", "metadata": ANY}),
        json!({"id": ANY, "kind": "llm_text", "role": "assistant", "payload": {"text": "Yes"}}),
    ];
    for list in recorded.turn_lists() {
        let place = list.iter().position(|item| item["turn_id"] == turn).unwrap();
        let before = list[place].clone();
        for item in &mut list[..place] {
            item["payload"]["blocks"].as_array_mut().unwrap().splice(2..2, said.clone());
        }
        for phase in ["post_inference", "final"] {
            let mut item = before.clone();
            item["phase"] = phase.into();
            item["payload"]["blocks"].as_array_mut().unwrap().extend(said.clone());
            list.insert(place, item);
        }
    }
    let thinking = json!({"type": "thinking", "thinking": "hm ok", "signature": "sig-1"});
    let content = json!([thinking, {"type": "text", "text": "Yes"}]);
    let messages = recorded.requests[1]["body"]["messages"].as_array_mut().unwrap();
    messages.insert(1, json!({"role": "assistant", "content": content}));
    true
}

fn answer(recorded: &mut Trace) {
    let events = &recorded.sockets[0];
    let start = events.iter().find(|e| e["type"] == "llm.start").unwrap();
    let id = start["id"].as_str().unwrap().to_owned();
    let thought = events.iter().rfind(|e| e["id"] == format!("{id}:thinking")).unwrap().clone();
    let mut delta = event("llm.delta", &id, json!({"id": id, "delta": "Yes", "cumulative": "Yes"}));
    let mut end = event("llm.final", &id, json!({"id": id, "text": "Yes"}));
    delta["metadata"] = start["metadata"].clone();
    delta["metadata"].as_object_mut().unwrap().remove("usage");
    end["metadata"] = ANY.into();
    let growing = message(&id, "assistant", "Yes", true);
    insert(recorded, &thought, &[delta, growing, end, message(&id, "assistant", "Yes", false)]);
}

/// Every call has an end, with its error: without `op` it adds, an unknown tool and cut arguments fail.
pub(super) fn every_call_ends(recorded: &mut Trace) -> bool {
    let calls = [
        ("call_a", "calc", json!({"a": 1, "b": 2}), Ok("{\"result\":3}")),
        ("call_b", "calc", json!({"a": 1, "b": 0, "op": "div"}), Err("division by zero")),
        ("call_c", "nope", Value::Null, Err("tool not found: nope")),
        ("call_d", "calc", Value::Null, Err("invalid arguments: not a JSON object")),
    ];
    let end = recorded.sockets[0].iter().find(|e| e["type"] == "llm.final").unwrap().clone();
    let place = recorded.sockets[0].iter().position(|e| *e == end).unwrap();
    let mut nth = 0;
    recorded.sockets[0].retain(|event| {
        nth += 1;
        let id = event["id"].as_str().unwrap();
        nth <= place + 1 || !id.starts_with("call_")
    });
    for (id, name, input, outcome) in calls {
        insert(recorded, &end, &call(id, name, &input, outcome));
    }
    true
}

fn call(id: &str, name: &str, input: &Value, outcome: Result<&str, &str>) -> Vec<Value> {
    let shown = if input.is_null() { json!({}) } else { input.clone() };
    let (text, error) = match outcome {
        Ok(result) => (result.to_owned(), ""),
        Err(error) => (format!("Error: {error}"), error),
    };
    let custom = if name == "calc" { "calc_result" } else { "" };
    let mut result = json!({"id": id, "result": text});
    let mut done = json!({"schemaVersion": 1, "name": name, "input": input, "progress": 1, "done": true, "status": "completed"});
    if !error.is_empty() {
        done["status"] = "error".into();
        done["error"] = error.into();
    }
    if !custom.is_empty() {
        result["customKind"] = custom.into();
    }
    let raw = serde_json::from_str(&text).unwrap_or_else(|_| json!({"raw": text}));
    let props = json!({"schemaVersion": 1, "toolCallId": id, "result": raw, "resultRaw": text, "error": error, "customKind": custom});
    let shown_as = if custom.is_empty() { format!("{id}:result") } else { format!("{id}:custom") };
    vec![
        event("tool.delta", id, json!({"id": id, "patch": {"exec": true, "input": shown}})),
        event("tool.result", id, result),
        upsert(&shown_as, "tool_result", props),
        event("tool.done", id, json!({"id": id})),
        upsert(id, "tool_call", done),
    ]
}

fn refuse(recorded: &mut Trace, step: usize, status: u16, text: &str) {
    let answer = recorded.answers.iter_mut().find(|answer| answer["step"] == step).unwrap();
    answer["status"] = status.into();
    answer["headers"]["content-type"] = "text/plain; charset=utf-8".into();
    answer["body"] = text.into();
}

/// A key that is sent with another prompt is refused.
pub(super) fn other_prompt(recorded: &mut Trace) -> bool {
    refuse(recorded, 5, 422, "idempotency key was used with another prompt\n");
    true
}

/// The prompt that the stale cookie sends runs, in place of the one with the unknown override, which is refused.
pub(super) fn selection(recorded: &mut Trace) -> bool {
    let place = |step: usize| recorded.answers.iter().position(|a| a["step"] == step).unwrap();
    let (stale, unknown) = (place(14), place(16));
    let started = recorded.answers[unknown].clone();
    for key in ["status", "headers", "body"] {
        recorded.answers[stale][key] = started[key].clone();
    }
    refuse(recorded, 16, 400, "unknown override \"unknown\"\n");
    refuse(recorded, 18, 400, "invalid override \"system_prompt\": <wording free>");
    refuse(recorded, 19, 400, "invalid override \"middlewares\": unknown middleware \"nope\"\n");
    true
}

/// The start of a message has no counts of tokens yet.
pub(super) fn uncounted(recorded: &mut Trace) -> bool {
    let mut found = false;
    for event in recorded.events().filter(|event| event["type"] == "llm.start") {
        let metadata = event.get_mut("metadata").and_then(Value::as_object_mut);
        found |= metadata.is_some_and(|metadata| metadata.remove("usage").is_some());
    }
    found
}
