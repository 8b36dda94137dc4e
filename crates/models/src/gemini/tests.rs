use super::*;
use crate::fixture::{
    assert_any_type_is_survived, assert_cut_before, called, decode_chunks, opaque, wire,
};

fn encode(call: &Call) -> Value {
    super::encode(call).unwrap()
}

mod requests;

fn decode(events: &[Value]) -> Vec<Value> {
    crate::fixture::decode(Format::Gemini, events)
}

fn parts(parts: &Value) -> Value {
    json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]})
}

fn finish(reason: &str) -> Value {
    json!({"candidates": [{"finishReason": reason}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}})
}

fn usage() -> Value {
    json!({"usage": {"inputTokens": 7, "outputTokens": 3}})
}

fn llm_text(text: &str) -> Value {
    json!({"llm_text": {"text": text}})
}

/// A long answer, its end mark last.
fn answer() -> Vec<Value> {
    vec![
        parts(&json!([{"text": "hm ", "thought": true}])),
        parts(&json!([{"text": "ok", "thought": true}, {"text": "Let me"}])),
        parts(&json!([{"text": " see."},
            {"functionCall": {"name": "calc", "args": {"a": 2}}, "thoughtSignature": "sig-1"}])),
        parts(
            &json!([{"text": "And"}, {"functionCall": {"id": "c2", "name": "calc", "args": {"a": 3}}}]),
        ),
        finish("STOP"),
    ]
}

#[test]
fn an_answer_comes_out_whole_and_in_order() {
    let mut signed = called("", "calc", &json!({"a": 2}));
    signed["metadata"] = opaque("gemini", &json!("sig-1"));
    let expected = json!(["thinking", {"thinks": "hm "}, {"thinks": "ok"}, "thought", {"says": "Let me"},
        {"says": " see."}, {"says": "And"}, llm_text("Let me see."), signed, llm_text("And"),
        called("c2", "calc", &json!({"a": 3})), usage(), {"done": "stop"}]);
    assert_eq!(json!(decode(&answer())), expected);
    for line_end in ["\r\n", "\r"] {
        let stream = wire(&answer(), line_end);
        assert_eq!(json!(decode_chunks(Format::Gemini, stream.as_bytes().chunks(1))), expected);
    }
}

#[test]
fn inf_8_only_the_provider_s_own_end_mark_completes_an_answer() {
    assert_cut_before(Format::Gemini, &answer(), 5);
    let counts = json!({"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}});
    assert_cut_before(Format::Gemini, &[counts, parts(&json!([{"text": "x"}])), finish("STOP")], 3);
}

#[test]
fn counts_may_follow_the_end_mark() {
    let late = json!({"candidates": [], "usageMetadata": {"promptTokenCount": 7,
        "candidatesTokenCount": 4, "cachedContentTokenCount": 2}});
    let expected = json!([{"usage": {"inputTokens": 7, "outputTokens": 4, "cachedTokens": 2}}, {"done": "stop"}]);
    assert_eq!(json!(decode(&[finish("STOP"), late])), expected);
}

#[test]
fn why_it_ended_is_told_in_the_words_of_the_others() {
    for (reason, told) in [
        ("STOP", "stop"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
    ] {
        assert_eq!(decode(&[finish(reason)]), [usage(), json!({ "done": told })]);
    }
}

#[test]
fn calls_without_ids_are_two_calls() {
    let call = |x: u64| json!({"functionCall": {"name": "calc", "args": {"x": x}}});
    let expected = [1, 2, 3].map(|x: u64| called("", "calc", &json!({ "x": x })));
    let together = decode(&[parts(&json!([call(1), call(2), call(3)])), finish("STOP")]);
    let apart = decode(&[
        parts(&json!([call(1)])),
        parts(&json!([call(2)])),
        parts(&json!([call(3)])),
        finish("STOP"),
    ]);
    assert_eq!((&together[..3], &apart[..3]), (&expected[..], &expected[..]));
}

#[test]
fn arguments_that_are_no_object_never_run() {
    for (args, shown) in [
        (json!([1]), json!({"unfit": "[1]"})),
        (json!("x"), json!({"unfit": "\"x\""})),
        (json!(5), json!({"unfit": "5"})),
        (Value::Null, json!({"unfit": "null"})),
        (json!({}), json!({})),
    ] {
        let call = json!([{"functionCall": {"name": "calc", "args": args}}]);
        assert_eq!(decode(&[parts(&call), finish("STOP")])[0], called("", "calc", &shown));
    }
    let none = parts(&json!([{"functionCall": {"name": "calc"}}]));
    assert_eq!(decode(&[none, finish("STOP")])[0], called("", "calc", &json!({})));
}

#[test]
fn big_integers_in_arguments_stay_integers() {
    for n in ["9007199254740993", "-9223372036854775808", "18446744073709551615"] {
        let event = format!(
            "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"calc\",\"args\":{{\"n\":{n}}}}}}}]}}}}]}}"
        );
        let seen = decode(&[json!(event), finish("STOP")]);
        assert_eq!(seen[0]["tool_call"]["args"]["n"].to_string(), n);
    }
}

#[test]
fn signatures_of_text_are_kept_for_the_provider() {
    for events in [
        vec![parts(&json!([{"text": "Yes", "thoughtSignature": "sig"}])), finish("STOP")],
        vec![
            parts(&json!([{"text": "Yes"}])),
            parts(&json!([{"text": "", "thoughtSignature": "sig"}])),
            finish("STOP"),
        ],
    ] {
        let mut signed = llm_text("Yes");
        signed["metadata"] = opaque("gemini", &json!("sig"));
        assert_eq!(decode(&events)[1], signed);
    }
}

#[test]
fn a_refused_prompt_is_a_failed_run() {
    let refused = json!({"promptFeedback": {"blockReason": "SAFETY"}});
    let expected = json!({"error": "refused", "message": "the provider refused the prompt: SAFETY",
        "retryable": false});
    assert_eq!(decode(&[refused, finish("STOP")]), [expected]);
    let fine = json!({"promptFeedback": {"safetyRatings": []}});
    assert_eq!(decode(&[fine, finish("STOP")]).last(), Some(&json!({"done": "stop"})));
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_no_json_breaks_the_run() {
    let events = [
        json!({"event": "heartbeat", "data": {"responseId": "r"}}),
        parts(
            &json!([{"executableCode": {"code": "1"}}, {"inlineData": {}}, {"text": "OK", "new": 1}]),
        ),
        json!({"candidates": [{"content": {"role": "model"}, "groundingMetadata": {}}]}),
        finish("STOP"),
    ];
    assert_eq!(
        json!(decode(&events)),
        json!([{"says": "OK"}, llm_text("OK"), usage(), {"done": "stop"}])
    );
    let broken =
        decode(&[parts(&json!([{"text": "Hel"}])), json!("{\"candidates\":[{"), finish("STOP")]);
    assert_eq!((&broken[1]["error"], broken.len()), (&json!("protocol"), 2));
    assert!(!broken[1]["message"].as_str().unwrap().contains("candidates"));
}

#[test]
fn the_provider_s_own_error_ends_the_run() {
    for (code, status, retryable) in [
        (503, "UNAVAILABLE", true),
        (429, "RESOURCE_EXHAUSTED", true),
        (400, "INVALID_ARGUMENT", false),
    ] {
        let error = json!({"error": {"code": code, "status": status, "message": "no"}});
        let expected = json!({"error": "provider", "message": "the provider reported: no", "retryable": retryable});
        assert_eq!(decode(&[error, finish("STOP")]), [expected], "{status}");
    }
}

#[test]
fn inf_30_any_type_is_survived() {
    assert_any_type_is_survived(Format::Gemini, &answer());
}
