//! What is different in the scenarios of tools, modes and other formats.

use serde_json::{Value, json};

use super::super::tokens::ANY;
use super::super::trace::Trace;
use super::events::{event, insert, message, upsert};

/// Ids of modes are made of the turn and a count.
pub(super) fn mode_ids(recorded: &mut Trace) -> bool {
    let mut found = false;
    let rename = |id: &mut Value| {
        let text = id.as_str().unwrap_or_default();
        if let Some(turn) = text.strip_prefix("agentmode-<").and_then(|rest| rest.split('>').next())
        {
            *id = format!("agentmode-<{turn}>-<wording free>").into();
        }
    };
    for event in recorded.events() {
        found |= event["type"] == "agent.mode";
        rename(&mut event["id"]);
        if let Some(id) = event["data"].get_mut("id") {
            rename(id);
        }
    }
    recorded.entities().for_each(|entity| rename(&mut entity["id"]));
    found
}

/// A snapshot before a model call holds what the model is sent: what the one after it holds, without the answer.
pub(super) fn prepared(recorded: &mut Trace, _: &mut Trace) -> bool {
    let mut found = false;
    for list in recorded.turn_lists() {
        for place in 1..list.len() {
            let (newer, item) = (list[place - 1].clone(), &mut list[place]);
            if item["phase"] != "pre_inference" || newer["turn_id"] != item["turn_id"] {
                continue;
            }
            let mut blocks = newer["payload"]["blocks"].as_array().unwrap().clone();
            let answer = ["llm_text", "tool_call", "reasoning", "system"];
            while blocks.len() > 1
                && answer.iter().any(|kind| blocks.last().unwrap()["kind"] == *kind)
            {
                blocks.pop();
            }
            found |= item["payload"]["blocks"] != Value::from(blocks.clone());
            item["payload"]["blocks"] = blocks.into();
        }
    }
    found
}

/// A provider that names a second to wait is asked again while nothing was said yet.
pub(super) fn retried(_: &mut Trace, played: &mut Trace) -> bool {
    let before = played.requests.len();
    played.requests.dedup();
    before == played.requests.len() + 2
}

/// Parallel calls go on in any order: what is said of each is put together by its id.
pub(super) fn any_order(recorded: &mut Trace, played: &mut Trace) -> bool {
    fn call(event: &Value) -> Option<String> {
        let id = event["id"].as_str().unwrap_or_default();
        let tool = event["type"].as_str().is_some_and(|kind| kind.starts_with("tool."))
            || ["tool_result", "tool_call"].iter().any(|k| event["data"]["entity"]["kind"] == *k);
        tool.then(|| id.split(':').next().unwrap_or_default().to_owned())
    }
    for trace in [recorded, played] {
        for events in &mut trace.sockets {
            for part in events.split_mut(|event| event["type"] == "llm.final") {
                for run in part.chunk_by_mut(|a, b| call(a).is_some() && call(b).is_some()) {
                    run.sort_by_key(call);
                }
            }
            events.iter_mut().filter(|e| call(e).is_some()).for_each(|e| e["seq"] = ANY.into());
        }
        for list in trace.shown() {
            for run in
                list.chunk_by_mut(|a, b| a["kind"] == b["kind"] && a["kind"] == "tool_result")
            {
                run.sort_by_key(|entity| entity["id"].as_str().unwrap().to_owned());
            }
        }
    }
    true
}

/// A frame that adds no text is not sent.
pub(super) fn no_empty_deltas(recorded: &mut Trace) -> bool {
    let mut found = false;
    for events in &mut recorded.sockets {
        let before = events.len();
        events.retain(|e| e["type"] != "llm.delta" || e["data"].get("delta").is_some());
        found |= before != events.len();
    }
    found
}

/// The reference shows users a dump of the calls behind the text.
pub(super) fn no_dump(recorded: &mut Trace) -> bool {
    let mut found = false;
    let mut cut = |text: Option<&mut Value>| {
        let Some(text) = text else { return };
        if let Some((said, _)) = text.as_str().unwrap_or_default().split_once("Tool Call:") {
            *text = said.to_owned().into();
            found = true;
        }
    };
    recorded.events().for_each(|event| cut(event["data"].get_mut("text")));
    recorded.entities().for_each(|entity| cut(entity["props"].get_mut("content")));
    found
}

/// Neighbouring messages of one role are one message.
pub(super) fn merged(recorded: &mut Trace) -> bool {
    let mut found = false;
    for request in &mut recorded.requests {
        request["body"]["messages"].as_array_mut().unwrap().dedup_by(|next, last| {
            let same = next["role"] == last["role"];
            if same {
                let more = next["content"].as_array_mut().unwrap();
                last["content"].as_array_mut().unwrap().append(more);
            }
            found |= same;
            same
        });
    }
    found
}

/// Reasoning text is shown before the answer.
pub(super) fn thought(recorded: &mut Trace) -> bool {
    thought_in(recorded, ["hm ", "ok"]);
    true
}

/// The same in the two parts in which it came.
pub(super) fn thought_in(recorded: &mut Trace, [first, second]: [&str; 2]) {
    let start = recorded.sockets[0].iter().find(|e| e["type"] == "llm.start").unwrap().clone();
    let id = format!("{}:thinking", start["id"].as_str().unwrap());
    let mut begin = event("llm.thinking.start", &id, json!({"id": id, "role": "thinking"}));
    let mut delta =
        event("llm.thinking.delta", &id, json!({"id": id, "delta": first, "cumulative": first}));
    let mut more =
        event("llm.thinking.delta", &id, json!({"id": id, "delta": second, "cumulative": "hm ok"}));
    for event in [&mut begin, &mut delta, &mut more] {
        event["metadata"] = start["metadata"].clone();
        event["metadata"].as_object_mut().unwrap().remove("usage");
    }
    let end = event("llm.thinking.final", &id, json!({"id": id}));
    let events = [
        begin,
        delta,
        message(&id, "thinking", first, true),
        more,
        end,
        message(&id, "thinking", "hm ok", false),
    ];
    insert(recorded, &start, &events);
}

/// The queued prompt runs under the agent profile that it was submitted with, and is shown under it.
pub(super) fn own_profile(recorded: &mut Trace) -> bool {
    const PROMPT: &str = "You are a helpful assistant. Be concise.";
    let mode = json!({"id": ANY, "kind": "user", "role": "user", "payload": {"text": "<currentMode><wording free>"},
        "metadata": {"geppetto.agentmode@v1": "financial_analyst", "geppetto.agentmode_tag@v1": "agentmode_user_prompt"}});
    for turn in recorded.turns().filter(|turn| turn["runtime_key"] == "default") {
        turn["runtime_key"] = "agent".into();
        turn["payload"]["data"]["geppetto.agent_mode@v1"] = "financial_analyst".into();
        let blocks = turn["payload"]["blocks"].as_array_mut().unwrap();
        blocks[0]["payload"]["text"] = PROMPT.into();
        blocks.insert(3, mode.clone());
    }
    let messages = recorded.requests[1]["body"]["messages"].as_array_mut().unwrap();
    messages[0]["content"] = PROMPT.into();
    messages.insert(3, json!({"role": "user", "content": "<currentMode><wording free>"}));
    let prompt = recorded.sockets[0].iter().rfind(|e| {
        e["type"] == "timeline.upsert" && e["data"]["entity"]["props"]["content"] == "b"
    });
    let prompt = prompt.unwrap().clone();
    let props = json!({"level": "info", "message": "agentmode: user prompt inserted", "fields": {"mode": "financial_analyst"}});
    let mut data = props.clone();
    data["id"] = "<uuid-log>".into();
    let shown = [event("log", "<uuid-log>", data), upsert("<uuid-log>", "log", props)];
    let second = recorded.sockets[1]
        .iter()
        .find(|e| e["id"] == prompt["id"] && e["type"] == prompt["type"])
        .unwrap()
        .clone();
    insert(recorded, &prompt, &shown);
    if second != prompt {
        let place = recorded.sockets[1].iter().position(|e| *e == second).unwrap();
        let mut shown = shown.to_vec();
        for event in &mut shown {
            event["at"] = second["at"].clone();
        }
        recorded.sockets[1].splice(place + 1..=place, shown);
    }
    true
}

/// The reference's process died of the cut stream; ours answers. What it showed until then is what we show until then.
pub(super) fn alive(recorded: &mut Trace, played: &mut Trace) -> bool {
    let mut found = false;
    for (was, is) in recorded.answers.iter().zip(&mut played.answers) {
        if was["status"] == 0 {
            assert_eq!(is["status"], 200, "{is}");
            *is = was.clone();
            found = true;
        }
    }
    let shown = recorded.sockets[0].len();
    assert!(played.sockets[0].iter().any(|e| e["type"] == "log" && e["data"]["level"] == "error"));
    played.sockets[0].truncate(shown);
    played.requests.truncate(recorded.requests.len());
    found
}

/// A new reader and the old one both published the first message.
pub(super) fn once(recorded: &mut Trace) -> bool {
    let events = &mut recorded.sockets[0];
    let before = events.len();
    let mut kept: Vec<Value> = Vec::new();
    for event in events.drain(..) {
        let twice = |e: &Value| {
            e["id"] == event["id"] && e["type"] == event["type"] && e["seq"] == event["seq"]
        };
        if !kept.iter().any(|e| e["seq"].is_string() && twice(e)) {
            kept.push(event);
        }
    }
    *events = kept;
    before != events.len()
}

/// What the SQL tool prints of no value and of a time.
pub(super) fn printed(recorded: &mut Trace) -> bool {
    fn walk(value: &mut Value) -> bool {
        match value {
            Value::Object(entries) => entries.values_mut().fold(false, |found, v| walk(v) | found),
            Value::Array(items) => items.iter_mut().fold(false, |found, v| walk(v) | found),
            Value::String(text) => {
                let said = text
                    .replace("\\u003cnil\\u003e", "NULL")
                    .replace("2026-01-02 03:04:05 +0000 UTC", "2026-01-02T03:04:05Z")
                    .replace(
                        "2 | NULL | NULL",
                        "2 | NULL | NULL\\n... additional data cutoff (1 kB)",
                    );
                let found = said != *text;
                *text = said;
                found
            }
            _ => false,
        }
    }
    let mut found = recorded.sockets.iter_mut().flatten().fold(false, |found, v| walk(v) | found);
    found |= recorded.answers.iter_mut().fold(false, |found, v| walk(v) | found);
    recorded.requests.iter_mut().fold(found, |found, v| walk(v) | found)
}

/// Tools are offered in the order of their names.
pub(super) fn sorted(recorded: &mut Trace) -> bool {
    let mut found = false;
    let lists =
        recorded.requests.iter_mut().filter_map(|r| r["body"].get_mut("tools")?.as_array_mut());
    for list in lists {
        let before = list.clone();
        list.sort_by_key(|tool| tool["function"]["name"].as_str().unwrap().to_owned());
        found |= before != *list;
    }
    found
}

/// A pause has the same values under `snake_case` keys; its scope is the conversation.
pub(super) fn pauses(recorded: &mut Trace) -> bool {
    let mut found = false;
    let keys = [
        ("PauseID", "pause_id"),
        ("Phase", "phase"),
        ("Summary", "summary"),
        ("DeadlineMs", "deadline_ms"),
        ("SessionID", "session_id"),
        ("InferenceID", "inference_id"),
        ("TurnID", "turn_id"),
        ("Extra", "extra"),
    ];
    for pause in recorded.answers.iter_mut().filter_map(|a| a["body"].get_mut("pause")) {
        let mut said = json!({"conv_id": pause["Scope"]["ConversationID"]});
        for (was, is) in keys {
            said[is] = pause[was].clone();
        }
        *pause = said;
        found = true;
    }
    found
}
