use super::*;
use crate::fixture::{
    assert_any_type_is_survived, assert_cut_before, beginnings, called, opaque, recorded, runnable,
};

fn encode(call: &Call) -> Value {
    super::encode(call).unwrap()
}

mod requests;

fn decode(events: &[Value]) -> Vec<Value> {
    crate::fixture::decode(Format::Responses, events)
}

fn said(item: &str, delta: &str) -> Value {
    json!({"type": "response.output_text.delta", "item_id": item, "delta": delta})
}

fn done(item: &Value) -> Value {
    json!({"type": "response.output_item.done", "item": item})
}

fn message(id: &str, text: &str) -> Value {
    done(&json!({"type": "message", "id": id, "content": [{"type": "output_text", "text": text}]}))
}

fn function_call(id: &str, arguments: &str, status: &str) -> Value {
    done(&json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "calc",
        "arguments": arguments, "status": status}))
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"status": "completed"}})
}

fn incomplete() -> Value {
    json!({"type": "response.incomplete",
        "response": {"incomplete_details": {"reason": "max_output_tokens"}}})
}

/// A call as [`decode`] shows it, with the provider's own name for it.
fn called_as(id: &str, args: &Value) -> Value {
    let mut call = called(id, "calc", args);
    call["tool_call"]["item_id"] = format!("fc_{id}").into();
    call
}

fn llm_text(id: &str, text: &str) -> Value {
    json!({"llm_text": {"text": text, "item_id": id}})
}

#[test]
fn recorded_answers_come_out_whole_and_in_order() {
    let recorded = recorded("responses-reasoning-tool");
    let usage = json!({"usage": {"inputTokens": 11, "outputTokens": 5, "cachedTokens": 1}});
    let broke = json!({"error": "provider", "message": "responses failed (server_error): it broke",
        "retryable": true});
    for (at, expected) in [
        json!(["thinking", {"thinks": "I "}, {"thinks": "think."}, "thought",
            {"reasoning": {"encrypted_content": "enc-1"}, "id": "rs_1",
                "metadata": opaque("openai-responses", &Value::Null)},
            called_as("call_1", &json!({"a": 2, "b": 3, "op": "add"})),
            usage, {"summary": "I think."}, {"done": null}]),
        json!([{"says": "It "}, {"says": "is 5."}, llm_text("msg_1", "It is 5."), usage, {"done": null}]),
        json!([broke]),
        json!([{"says": "Back."}, llm_text("msg_1", "Back."), usage, {"done": null}]),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(json!(decode(&recorded[at].answered)), *expected, "{at}");
        let unnamed: Vec<Value> =
            recorded[at].answered.iter().map(|event| json!({"data": event["data"]})).collect();
        assert_eq!(json!(decode(&unnamed)), *expected, "by the type in the data");
    }
}

#[test]
fn inf_8_only_the_provider_s_own_end_mark_completes_an_answer() {
    for at in [0, 1, 3] {
        let answered = &recorded("responses-reasoning-tool")[at].answered;
        assert_cut_before(Format::Responses, answered, answered.len());
    }
    assert_cut_before(Format::Responses, &[said("m", "x"), json!("[DONE]"), incomplete()], 3);
}

#[test]
fn an_incomplete_answer_is_an_answer_with_its_reason() {
    let expected = json!([{"says": "Hel"}, llm_text("m", "Hel"), {"done": "max_output_tokens"}]);
    assert_eq!(json!(decode(&[said("m", "Hel"), message("m", "Hel"), incomplete()])), expected);
}

#[test]
fn text_without_the_end_of_its_item_is_kept() {
    let expected = json!([{"says": "Hel"}, {"says": "lo"}, llm_text("m", "Hello"), {"done": null}]);
    assert_eq!(json!(decode(&[said("m", "Hel"), said("m", "lo"), completed()])), expected);
}

#[test]
fn text_that_was_not_streamed_is_added_once() {
    for (deltas, whole, says) in [
        (vec![], "Hello", vec!["Hello"]),
        (vec!["Hel"], "Hello", vec!["Hel", "lo"]),
        (vec!["Hel", "", "lo"], "Hello", vec!["Hel", "lo"]),
        (vec![" ", "\n"], " \n", vec![" ", "\n"]),
        (vec!["Hello"], "", vec!["Hello"]),
        (vec!["caf\u{e9}"], "caf\u{e9} \u{1f600}", vec!["caf\u{e9}", " \u{1f600}"]),
    ] {
        let mut events: Vec<Value> = deltas.iter().map(|delta| said("m", delta)).collect();
        events.extend([message("m", whole), completed()]);
        let mut expected: Vec<Value> = says.iter().map(|text| json!({ "says": text })).collect();
        expected.extend([llm_text("m", &says.concat()), json!({"done": null})]);
        assert_eq!(decode(&events), expected, "{deltas:?} {whole}");
    }
}

#[test]
fn text_is_not_said_twice_when_its_item_changes_its_name() {
    for name in ["", "other"] {
        let events = [said(name, "Hel"), said(name, "lo"), message("m", "Hello"), completed()];
        let expected =
            json!([{"says": "Hel"}, {"says": "lo"}, llm_text("m", "Hello"), {"done": null}]);
        assert_eq!(json!(decode(&events)), expected, "{name:?}");
    }
}

#[test]
fn thoughts_texts_and_calls_keep_their_order() {
    let thought = |id: &str| {
        let item = json!({"type": "reasoning", "id": id});
        let added = json!({"type": "response.output_item.added", "item": item});
        [added, done(&item)]
    };
    let block = |id: &str| json!({"reasoning": {}, "id": id, "metadata": opaque("openai-responses", &Value::Null)});
    let [r1, r1_done] = thought("r1");
    let [r2, r2_done] = thought("r2");
    let raw = json!({"type": "response.reasoning_text.delta", "delta": "hm"});
    let events = [
        r1,
        raw,
        r1_done,
        function_call("a", "{}", "completed"),
        r2,
        r2_done,
        function_call("b", "{}", "completed"),
        message("m", "x"),
        completed(),
    ];
    let expected = json!(["thinking", {"thinks": "hm"}, "thought", block("r1"),
        called_as("a", &json!({})), "thinking", "thought", block("r2"),
        called_as("b", &json!({})), {"says": "x"}, llm_text("m", "x"), {"done": null}]);
    assert_eq!(json!(decode(&events)), expected);
}

#[test]
fn refusals_are_said() {
    let refusal = json!({"type": "response.refusal.delta", "item_id": "m", "delta": "I wo"});
    let item = done(&json!({"type": "message", "id": "m",
        "content": [{"type": "refusal", "refusal": "I won't"}]}));
    let expected =
        json!([{"says": "I wo"}, {"says": "n't"}, llm_text("m", "I won't"), {"done": null}]);
    assert_eq!(json!(decode(&[refusal, item, completed()])), expected);
}

#[test]
fn cut_arguments_never_run() {
    let written = "{\"a\": {\"b\": [1, \"}\"]}}";
    for written in beginnings(written).skip(1) {
        let seen = decode(&[function_call("c", written, "incomplete"), incomplete()]);
        assert_eq!(seen[0], called_as("c", &json!({ "unfit": written })));
        assert_eq!(runnable(&seen), Vec::<Value>::new());
    }
}

#[test]
fn arguments_cut_before_their_first_letter_never_run() {
    let seen = decode(&[function_call("c", "", "incomplete"), incomplete()]);
    assert_eq!(runnable(&seen), Vec::<Value>::new());
}

#[test]
fn arguments_that_only_streamed_are_not_lost() {
    let item = json!({"type": "function_call", "id": "fc_c", "call_id": "c", "name": "calc"});
    let events = [
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_c", "delta": "{\"a\":"}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_c", "delta": "1}"}),
        done(&item),
        completed(),
    ];
    assert_eq!(decode(&events)[0], called_as("c", &json!({"a": 1})));
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_no_json_breaks_the_run() {
    let events = [
        json!({"type": "response.web_search_call.searching", "item_id": "ws"}),
        done(&json!({"type": "web_search_call", "id": "ws"})),
        json!({"type": "response.new_thing", "delta": {"x": [1]}}),
        json!({"type": "response.completed", "new": 1, "response": {"usage": null}}),
    ];
    assert_eq!(decode(&events), [json!({"done": null})]);
    for event in ["", "response.output_text.delta", "response.completed"] {
        let broken = json!({"event": event, "data": "{\"delta\":\"secret"});
        let seen = decode(&[said("m", "Hel"), broken, completed()]);
        assert_eq!((&seen[1]["error"], seen.len()), (&json!("protocol"), 2), "{event}");
        assert!(!seen[1]["message"].as_str().unwrap().contains("secret"));
    }
}

#[test]
fn an_unknown_event_that_is_no_json_is_ignored() {
    let heartbeat = json!({"event": "keepalive", "data": "still here"});
    assert_eq!(decode(&[heartbeat, completed()]), [json!({"done": null})]);
}

#[test]
fn the_provider_s_own_error_ends_the_run() {
    let failed = |error: Value| json!({"type": "response.failed", "response": {"error": error}});
    let coded = json!({"code": "invalid_prompt", "message": "no"});
    for (event, message, retryable) in [
        (failed(coded.clone()), "responses failed (invalid_prompt): no", false),
        (
            failed(json!({"code": "rate_limit_exceeded", "message": "slow"})),
            "responses failed (rate_limit_exceeded): slow",
            true,
        ),
        (failed(json!({"message": "no"})), "no", false),
        (failed(Value::Null), "responses failed", false),
        (
            json!({"type": "error", "code": "server_error", "message": "no", "param": null}),
            "responses stream error (server_error): no",
            true,
        ),
        (
            json!({"type": "error", "error": coded}),
            "responses stream error (invalid_prompt): no",
            false,
        ),
        (json!({"type": "error", "message": "no"}), "no", false),
        (json!({"type": "error"}), "responses stream error", false),
    ] {
        let expected = json!({"error": "provider", "message": message, "retryable": retryable});
        assert_eq!(decode(&[event.clone(), completed()]), [expected], "{event}");
    }
}

#[test]
fn usage_is_found_at_either_level() {
    let usage = json!({"input_tokens": 3, "output_tokens": 4, "cached_tokens": 2});
    let expected = [
        json!({"usage": {"inputTokens": 3, "outputTokens": 4, "cachedTokens": 2}}),
        json!({"done": "stop"}),
    ];
    let top = json!({"type": "response.completed", "usage": usage, "stop_reason": "stop"});
    let inner =
        json!({"type": "response.completed", "response": {"usage": usage, "stop_reason": "stop"}});
    assert_eq!((decode(&[top]), decode(&[inner])), (expected.to_vec(), expected.to_vec()));
}

#[test]
fn inf_30_any_type_is_survived() {
    for exchange in &recorded("responses-reasoning-tool")[..3] {
        assert_any_type_is_survived(Format::Responses, &exchange.answered);
    }
}
