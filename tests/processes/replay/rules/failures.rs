//! Runs that fail, as decision 26 has them.

use serde_json::{Value, json};

use super::super::tokens::ANY;
use super::super::trace::Trace;
use super::events::{event, insert, message, upsert};

/// A run that failed: what the recording says of it.
struct Failure {
    message: String,
    turn: String,
    text: String,
    /// The last event of the message.
    last: Value,
    ended: bool,
}

/// Closes what the reference left open: the message, the turn, and the context of later turns.
pub(super) fn failed(recorded: &mut Trace) -> bool {
    let failures = failures(recorded);
    for failure in &failures {
        say_so(recorded, failure);
        replays(recorded, failure);
        turns(recorded, failure);
        requests(recorded, failure);
    }
    !failures.is_empty()
}

fn failures(recorded: &Trace) -> Vec<Failure> {
    let events = &recorded.sockets[0];
    let mut turn = String::new();
    let mut found = Vec::new();
    for start in events {
        let id = start["id"].as_str().unwrap();
        if let Some(prompt) = id.strip_prefix("user-") {
            prompt.clone_into(&mut turn);
        }
        if start["type"] != "llm.start" {
            continue;
        }
        let own: Vec<&Value> = events.iter().filter(|e| e["id"] == id).collect();
        let text = own.iter().rev().find_map(|e| e["data"]["cumulative"].as_str());
        let ended = own.iter().any(|e| e["type"] == "llm.final");
        if ended && !ended_badly(recorded, events, start, &turn) {
            continue;
        }
        let later = events.iter().skip_while(|e| *e != start).skip(1);
        let last = later.take_while(|e| ended && e["type"] != "chat.message").last();
        found.push(Failure {
            message: id.to_owned(),
            turn: turn.clone(),
            text: text.unwrap_or_default().to_owned(),
            last: last.or(own.last().copied()).unwrap().clone(),
            ended,
        });
    }
    found
}

/// Whether the last message of a turn ended although its run failed: with the iteration limit, or with a stream that just
/// ended, which counts as a success there (INF-8) and is the last one without `[DONE]`.
fn ended_badly(recorded: &Trace, events: &[Value], start: &Value, turn: &str) -> bool {
    let later = events.iter().skip_while(|e| *e != start).skip(1);
    let mut rest = later.take_while(|e| e["type"] != "chat.message");
    if rest.any(|e| e["type"] == "llm.start") {
        return false;
    }
    let ending = |event: &&Value| event["type"] == "llm.final" && event["id"] == start["id"];
    let end = events.iter().find(ending);
    let of_turn = |a: &&Value| a["body"].get("turn_id").is_some_and(|id| id == turn);
    recorded.answers.iter().filter(of_turn).any(|a| a["body"]["status"] == "error")
        || end.is_some_and(|end| {
            end["metadata"].get("stopReason").is_none() && end["metadata"].get("topP").is_some()
        })
}

fn say_so(recorded: &mut Trace, failure: &Failure) {
    let Failure { message: id, turn, text, .. } = failure;
    let mut events = Vec::new();
    for end in recorded.events().filter(|e| e["type"] == "llm.final" && e["id"] == id.as_str()) {
        if end["metadata"].get("stopReason").is_none() {
            end["metadata"] = ANY.into();
        }
    }
    if !failure.ended {
        let mut data = json!({"id": id});
        if !text.is_empty() {
            data["text"] = text.as_str().into();
        }
        let mut end = event("llm.final", id, data);
        end["metadata"] = ANY.into();
        events.push(end);
        if !text.is_empty() {
            events.push(message(id, "assistant", text, false));
        }
    }
    let error = format!("error-{turn}");
    let props = json!({"level": "error", "message": "<wording free>",
        "fields": {"code": "<wording free>", "retryable": ANY, "inference_id": "<wording free>"}});
    let mut data = props.clone();
    data["id"] = error.as_str().into();
    events.extend([event("log", &error, data), upsert(&error, "log", props)]);
    insert(recorded, &failure.last, &events);
}

fn replays(recorded: &mut Trace, failure: &Failure) {
    for answer in &mut recorded.answers {
        let body = &mut answer["body"];
        let ended = body["status"] == "error" || body["status"] == "completed";
        if body["turn_id"] == failure.turn.as_str() && ended {
            body["status"] = "error".into();
            body["error"] = "<wording free>".into();
        }
    }
}

/// The turn ends with a `final` that holds what was said, and later contexts hold it.
fn turns(recorded: &mut Trace, failure: &Failure) {
    let said = json!({"id": ANY, "kind": "llm_text", "role": "assistant", "payload": {"text": failure.text}});
    for list in recorded.turn_lists() {
        let own = |item: &Value| item["turn_id"] == failure.turn.as_str();
        if list.iter().any(|item| own(item) && item["phase"] == "final") {
            list.retain(|item| !own(item) || item["phase"] == "pre_inference");
        }
        let Some(place) = list.iter().position(own) else { continue };
        let mut end = list[place].clone();
        end["phase"] = "final".into();
        let told = end["payload"]["blocks"].as_array().unwrap().len();
        let later = list[..place].iter_mut().chain([&mut end]);
        for item in later.filter(|_| !failure.text.is_empty()) {
            let blocks = item["payload"]["blocks"].as_array_mut().unwrap();
            if blocks.get(told).is_none_or(|next| next["kind"] != "llm_text") {
                blocks.insert(told, said.clone());
            }
        }
        list.insert(place, end);
    }
}

/// The provider is told what the user saw.
fn requests(recorded: &mut Trace, failure: &Failure) {
    let text = failure.text.as_str();
    for request in recorded.requests.iter_mut().filter(|_| !text.is_empty() && !failure.ended) {
        let path = request["path"].as_str().unwrap().to_owned();
        let messages = request["body"]["messages"].as_array_mut().unwrap();
        let Some(place) =
            messages.windows(2).position(|pair| pair.iter().all(|m| m["role"] == "user"))
        else {
            continue;
        };
        let content = if path == "/v1/messages" {
            json!([{"type": "text", "text": text}])
        } else {
            text.into()
        };
        messages.insert(place + 1, json!({"role": "assistant", "content": content}));
    }
}

/// An answer that was cut by a limit is complete, and the user is told.
pub(super) fn warned(recorded: &mut Trace) -> bool {
    let events = recorded.sockets[0].clone();
    let cut = |e: &&Value| {
        let reason = &e["metadata"]["stopReason"];
        e["type"] == "llm.final"
            && ["length", "content_filter", "max_tokens"].iter().any(|r| reason == r)
    };
    let ends: Vec<&Value> = events.iter().filter(cut).collect();
    for end in &ends {
        let place = events.iter().position(|e| e == *end).unwrap();
        let prompt = events[..place].iter().rfind(|e| e["type"] == "chat.message").unwrap();
        let id = format!("warn-{}", prompt["id"].as_str().unwrap().trim_start_matches("user-"));
        let props = json!({"level": "warn", "message": "<wording free>",
            "fields": {"stop_reason": end["metadata"]["stopReason"], "inference_id": "<wording free>"}});
        let mut data = props.clone();
        data["id"] = id.as_str().into();
        let last = events.iter().rfind(|e| e["id"] == end["id"]).unwrap();
        insert(recorded, last, &[event("log", &id, data), upsert(&id, "log", props)]);
    }
    !ends.is_empty()
}
