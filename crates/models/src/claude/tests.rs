use super::*;
use crate::fixture::{
    assert_any_type_is_survived, assert_cut_before, beginnings, called, opaque, recorded, runnable,
};

mod requests;

fn decode(events: &[Value]) -> Vec<Value> {
    crate::fixture::decode(Format::Claude, events)
}

fn start(index: u64, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn end(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 6}}),
        json!({"type": "message_stop"}),
    ]
}

fn part(index: u64, block: &Value, deltas: &[Value]) -> Vec<Value> {
    let deltas = deltas.iter().map(|more| delta(index, more));
    [start(index, block)].into_iter().chain(deltas).chain([stop(index)]).collect()
}

fn text(index: u64, said: &str) -> Vec<Value> {
    part(
        index,
        &json!({"type": "text", "text": ""}),
        &[json!({"type": "text_delta", "text": said})],
    )
}

fn thinking(index: u64, thought: &str, signature: &str) -> Vec<Value> {
    let deltas = [
        json!({"type": "thinking_delta", "thinking": thought}),
        json!({"type": "signature_delta", "signature": signature}),
    ];
    part(index, &json!({"type": "thinking", "thinking": "", "signature": ""}), &deltas)
}

fn tool_use(index: u64, id: &str, arguments: &[&str]) -> Vec<Value> {
    let json_delta = |more: &&str| json!({"type": "input_json_delta", "partial_json": more});
    let deltas: Vec<Value> = arguments.iter().map(json_delta).collect();
    part(index, &json!({"type": "tool_use", "id": id, "name": "calc", "input": {}}), &deltas)
}

/// A thought as [`decode`] shows it.
fn thought(text: &str, signature: &str) -> Value {
    let value = json!({"type": "thinking", "thinking": text, "signature": signature});
    json!({"reasoning": {}, "metadata": opaque("claude", &value)})
}

fn answer(parts: &[Vec<Value>], reason: &str) -> Vec<Value> {
    let mut events = parts.concat();
    events.extend(end(reason));
    events
}

#[test]
fn recorded_answers_come_out_whole_and_in_order() {
    let usage = json!({"usage": {"inputTokens": 13, "outputTokens": 6,
        "cacheCreationInputTokens": 2, "cacheReadInputTokens": 3}});
    let cut =
        json!({"error": "cut", "message": "the provider's answer was cut off", "retryable": true});
    let busy =
        json!({"error": "provider", "message": "the provider reported: busy", "retryable": true});
    let args = json!({"a": 2, "b": 3, "op": "add"});
    for (transcript, request, expected) in [
        (
            "claude-tool",
            0,
            json!([{"says": "Let me"}, {"says": " see."},
            {"llm_text": {"text": "Let me see."}}, called("toolu_1", "calc", &args), usage,
            {"done": "tool_use"}]),
        ),
        (
            "claude-tool",
            1,
            json!([{"says": "It is"}, {"says": " 5."}, {"llm_text": {"text": "It is 5."}},
            usage, {"done": "end_turn"}]),
        ),
        (
            "claude-thinking",
            0,
            json!(["thinking", {"thinks": "hm"}, {"thinks": " ok"}, "thought",
            thought("hm ok", "sig-1"), {"says": "Yes"}, {"llm_text": {"text": "Yes"}}, usage,
            {"done": "end_turn"}]),
        ),
        (
            "claude-max-tokens",
            0,
            json!([{"says": "Hel"}, {"llm_text": {"text": "Hel"}}, usage,
            {"done": "max_tokens"}]),
        ),
        ("claude-error-in-stream", 0, json!([{"says": "Hel"}, {"says": "lo"}, busy])),
        ("claude-cut", 0, json!([{"says": "Hel"}, {"says": "lo"}, cut])),
    ] {
        let answered = &recorded(transcript)[request].answered;
        assert_eq!(json!(decode(answered)), expected, "{transcript} {request}");
    }
}

#[test]
fn inf_8_only_the_provider_s_own_end_mark_completes_an_answer() {
    for transcript in ["claude-tool", "claude-thinking", "claude-max-tokens"] {
        let answered = &recorded(transcript)[0].answered;
        assert_cut_before(Format::Claude, answered, answered.len());
    }
}

#[test]
fn inf_13_thoughts_texts_and_calls_keep_their_order() {
    let redacted = json!({"type": "redacted_thinking", "data": "xyz"});
    let parts = [
        thinking(0, "a", "s1"),
        tool_use(1, "t1", &["{\"x\":", "1}"]),
        part(2, &redacted, &[]),
        text(3, "so"),
        thinking(4, "b", "s2"),
        tool_use(5, "t2", &[""]),
    ];
    let expected = json!(["thinking", {"thinks": "a"}, "thought", thought("a", "s1"),
        called("t1", "calc", &json!({"x": 1})),
        {"reasoning": {}, "metadata": opaque("claude", &redacted)},
        {"says": "so"}, {"llm_text": {"text": "so"}},
        "thinking", {"thinks": "b"}, "thought", thought("b", "s2"),
        called("t2", "calc", &json!({})), {"usage": {"outputTokens": 6}}, {"done": "tool_use"}]);
    assert_eq!(json!(decode(&answer(&parts, "tool_use"))), expected);
}

#[test]
fn parts_are_told_apart_by_their_index() {
    let json_delta = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
    let start_call = |index: u64, id: &str| {
        start(index, &json!({"type": "tool_use", "id": id, "name": "calc", "input": {}}))
    };
    let events = [
        start_call(1, "a"),
        start_call(2, "b"),
        delta(2, &json_delta("{\"x\":2}")),
        delta(1, &json_delta("{\"x\":1}")),
        stop(1),
        stop(2),
        start_call(2, "c"),
        delta(2, &json_delta("{\"x\":3}")),
        stop(2),
    ];
    let seen = decode(&answer(&[events.to_vec()], "tool_use"));
    let expected =
        [("a", 1), ("b", 2), ("c", 3)].map(|(id, x)| called(id, "calc", &json!({ "x": x })));
    assert_eq!(seen[..3], expected);
}

#[test]
fn text_without_the_end_of_its_part_is_kept() {
    let mut part = text(0, "Hel");
    part.pop();
    let seen = decode(&answer(&[part], "end_turn"));
    assert_eq!(seen[..2], [json!({"says": "Hel"}), json!({"llm_text": {"text": "Hel"}})]);
}

#[test]
fn cut_arguments_never_run() {
    for written in beginnings("{\"a\": {\"b\": [1, \"}\"]}}").skip(1) {
        let seen = decode(&answer(&[tool_use(0, "t", &[written])], "max_tokens"));
        assert_eq!(seen[0], called("t", "calc", &json!({ "unfit": written })));
        assert_eq!(runnable(&seen), Vec::<Value>::new());
    }
}

#[test]
fn arguments_cut_before_their_first_letter_never_run() {
    let seen = decode(&answer(&[tool_use(0, "t", &[""])], "max_tokens"));
    assert_eq!(runnable(&seen), Vec::<Value>::new());
}

#[test]
fn arguments_that_came_with_the_start_of_the_call_are_not_lost() {
    let whole = json!({"type": "tool_use", "id": "t", "name": "calc", "input": {"a": 1}});
    let seen = decode(&answer(&[part(0, &whole, &[])], "tool_use"));
    assert_eq!(seen[0], called("t", "calc", &json!({"a": 1})));
}

#[test]
fn big_integers_in_arguments_stay_integers() {
    for n in ["9007199254740993", "-9223372036854775808", "18446744073709551615"] {
        let seen = decode(&answer(&[tool_use(0, "t", &["{\"n\":", n, "}"])], "tool_use"));
        assert_eq!(seen[0]["tool_call"]["args"]["n"].to_string(), n);
    }
}

#[test]
fn refusals_are_said_and_told_by_their_reason() {
    let seen = decode(&answer(&[text(0, "I won't")], "refusal"));
    let expected = json!([{"says": "I won't"}, {"llm_text": {"text": "I won't"}},
        {"usage": {"outputTokens": 6}}, {"done": "refusal"}]);
    assert_eq!(json!(seen), expected);
}

#[test]
fn counts_that_are_left_out_later_are_kept() {
    let events = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1,
            "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 9, "input_tokens": 0, "cache_read_input_tokens": null}}),
        json!({"type": "message_stop"}),
    ];
    let expected = json!([{"usage": {"inputTokens": 5, "outputTokens": 9,
        "cacheCreationInputTokens": 2, "cacheReadInputTokens": 3}}, {"done": "end_turn"}]);
    assert_eq!(json!(decode(&events)), expected);
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_no_json_breaks_the_run() {
    let search = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let parts = [
        vec![
            json!({"type": "ping"}),
            json!({"type": "new_thing", "index": 0, "delta": {"text": "no"}}),
        ],
        part(0, &search, &[json!({"type": "input_json_delta", "partial_json": "{}"})]),
        part(
            1,
            &json!({"type": "text", "text": "O", "citations": []}),
            &[
                json!({"type": "citations_delta", "citation": {}}),
                json!({"type": "text_delta", "text": "K"}),
            ],
        ),
        vec![delta(7, &json!({"type": "text_delta", "text": "no"})), stop(7)],
    ];
    let expected = json!([{"says": "O"}, {"says": "K"}, {"llm_text": {"text": "OK"}},
        {"usage": {"outputTokens": 6}}, {"done": "end_turn"}]);
    assert_eq!(json!(decode(&answer(&parts, "end_turn"))), expected);

    for event in ["content_block_delta", "message_stop"] {
        let broken = json!({"event": event, "data": "{\"type\":\"secret"});
        let seen = decode(&answer(&[text(0, "Hel"), vec![broken]], "end_turn"));
        assert_eq!((&seen[2]["error"], seen.len()), (&json!("protocol"), 3));
        assert!(!seen[2]["message"].as_str().unwrap().contains("secret"));
    }
}

#[test]
fn an_unknown_event_that_is_no_json_is_ignored() {
    let heartbeat = json!({"event": "keepalive", "data": "still here"});
    let seen = decode(&answer(&[vec![heartbeat], text(0, "OK")], "end_turn"));
    assert_eq!(seen.last(), Some(&json!({"done": "end_turn"})));
}

#[test]
fn the_provider_s_own_error_ends_the_run() {
    for (kind, retryable) in [
        ("overloaded_error", true),
        ("rate_limit_error", true),
        ("api_error", true),
        ("invalid_request_error", false),
        ("authentication_error", false),
    ] {
        let error = json!({"type": "error", "error": {"type": kind, "message": "no"}});
        let expected = json!({"error": "provider", "message": "the provider reported: no", "retryable": retryable});
        assert_eq!(decode(&answer(&[vec![error]], "end_turn")), [expected], "{kind}");
    }
}

#[test]
fn inf_30_any_type_is_survived() {
    for transcript in ["claude-tool", "claude-thinking", "claude-error-in-stream"] {
        assert_any_type_is_survived(Format::Claude, &recorded(transcript)[0].answered);
    }
}
