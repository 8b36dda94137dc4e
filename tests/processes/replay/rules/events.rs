//! Puts into a recording what we show and the reference does not.

use serde_json::{Value, json};

use super::super::tokens::ANY;
use super::super::trace::Trace;

/// An event; its number is for the order of the stream to say.
pub(super) fn event(kind: &str, id: &str, data: impl Into<Value>) -> Value {
    let data: Value = data.into();
    json!({"type": kind, "id": id, "seq": ANY, "data": data})
}

/// The upsert of an entity.
pub(super) fn upsert(id: &str, kind: &str, props: impl Into<Value>) -> Value {
    let props: Value = props.into();
    let entity = json!({"id": id, "kind": kind, "createdAtMs": "<ms>", "updatedAtMs": "<ms>", "props": props});
    event("timeline.upsert", id, json!({"convId": "c-1", "version": ANY, "entity": entity}))
}

/// The upsert of a message.
pub(super) fn message(id: &str, role: &str, content: &str, streaming: bool) -> Value {
    let props = json!({"schemaVersion": 1, "role": role, "content": content, "streaming": streaming, "metadata": {}});
    upsert(id, "message", props)
}

/// Puts events behind a place of every socket that saw it, and their entities into the timelines read since.
pub(super) fn insert(recorded: &mut Trace, behind: &Value, events: &[Value]) {
    let at = behind["at"].clone();
    for socket in &mut recorded.sockets {
        let Some(place) = socket.iter().position(|event| event == behind) else { continue };
        let mut events = events.to_vec();
        for event in &mut events {
            event["at"] = at.clone();
        }
        socket.splice(place + 1..=place, events);
    }
    for event in events.iter().filter(|event| event["type"] == "timeline.upsert") {
        show(recorded, &event["data"]["entity"], at.as_u64().unwrap());
    }
}

/// Puts an entity into the timelines that were read after a place.
fn show(recorded: &mut Trace, entity: &Value, at: u64) {
    let first = |id: &Value| {
        recorded.sockets[0].iter().position(|e| e["type"] == "timeline.upsert" && e["id"] == *id)
    };
    let place = first(&entity["id"]);
    let earlier = |shown: &Value| first(&shown["id"]) < place;
    for (answer, before) in recorded.answers.iter_mut().zip(&recorded.before) {
        let list = answer["body"].get_mut("entities").and_then(Value::as_array_mut);
        let Some(list) = list.filter(|_| *before > at) else { continue };
        if let Some(shown) = list.iter_mut().find(|shown| shown["id"] == entity["id"]) {
            *shown = entity.clone();
        } else {
            let place = list.iter().rposition(earlier).map_or(0, |last| last + 1);
            list.insert(place, entity.clone());
        }
    }
}

/// What is shown live is there after a reload.
pub(super) fn projected(recorded: &mut Trace) -> bool {
    let shown: Vec<Value> = recorded.sockets[0]
        .iter()
        .filter(|e| {
            e["type"] == "log" || e["type"] == "agent.mode" || e["type"] == "debugger.pause"
        })
        .cloned()
        .collect();
    for source in &shown {
        let (id, mut props) = (source["id"].as_str().unwrap(), source["data"].clone());
        props.as_object_mut().unwrap().remove("id");
        let kind = source["type"].as_str().unwrap().replace('.', "_");
        insert(recorded, source, &[upsert(id, &kind, props)]);
    }
    !shown.is_empty()
}
