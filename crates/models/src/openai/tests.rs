use super::*;
use crate::fixture::{
    assert_any_type_is_survived, assert_cut_before, assistant, call, called, decode_chunks,
    numbers, recorded, result, system, tool, user, wire,
};
use crate::format::Format;

fn encode(call: &Call) -> Value {
    super::encode(call).unwrap()
}

mod calls;

fn decode(events: &[Value]) -> Vec<Value> {
    crate::fixture::decode(Format::OpenAi, events)
}

fn chunk(delta: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn usage() -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 2}}})
}

/// The call that the recorded request was made of, its tools and all.
fn as_recorded(body: &Value, mut blocks: Vec<Block>) -> Call {
    blocks.insert(0, system("You are an assistant"));
    let mut call = call(&[("ai-engine", json!("test-model"))], blocks);
    for tool in body["tools"].as_array().unwrap() {
        let text = |key: &str| tool["function"][key].as_str().unwrap().to_owned();
        let parameters = tool["function"]["parameters"].clone();
        call.tools.push(ToolSpec {
            name: text("name"),
            description: text("description"),
            parameters,
        });
    }
    call
}

#[test]
fn recorded_answers_come_out_whole_and_in_order() {
    let args = json!({"a": 2, "b": 3, "op": "add"});
    let tokens = json!({"usage": {"inputTokens": 7, "outputTokens": 3}});
    let cut =
        json!({"error": "cut", "message": "the provider's answer was cut off", "retryable": true});
    let overloaded = json!({"error": "provider", "message": "the provider reported: overloaded", "retryable": true});
    for (transcript, expected) in [
        (
            "tool-call",
            json!([{"says": "Let me see."}, {"llm_text": {"text": "Let me see."}},
                called("call_1", "calc", &args), tokens, {"done": "tool_calls"}]),
        ),
        (
            "tool-calls-parallel",
            json!([called("call_a", "calc", &json!({"a": 1, "b": 2})),
                called("call_b", "calc", &json!({"a": 1, "b": 0, "op": "div"})),
                called("call_c", "nope", &json!({})),
                called("call_d", "calc", &json!({"unfit": "{\"a\":"})), tokens, {"done": "tool_calls"}]),
        ),
        (
            "provider-reasoning-content",
            json!(["thinking", {"thinks": "hm "}, {"thinks": "ok"}, "thought", {"says": "Yes"},
                {"llm_text": {"text": "Yes"}}, tokens, {"done": "stop"}]),
        ),
        (
            "provider-length",
            json!([{"says": "Hel"}, {"says": "lo"}, {"llm_text": {"text": "Hello"}}, tokens,
                {"done": "length"}]),
        ),
        ("provider-filter", json!([tokens, {"done": "content_filter"}])),
        ("provider-error-in-stream", json!([{"says": "Hel"}, overloaded])),
        ("provider-cut", json!([{"says": "Hel"}, {"says": "lo"}, cut])),
        ("provider-no-finish", json!([{"says": "Hel"}, {"says": "lo"}, cut])),
    ] {
        assert_eq!(json!(decode(&recorded(transcript)[0].answered)), expected, "{transcript}");
    }
}

#[test]
fn requests_are_what_the_reference_sent() {
    let tool_call = || {
        let call = Block::tool_call("call_1", "calc", "{\"a\":2,\"b\":3, \"op\":\"add\"}");
        let result = result("call_1", Ok("{\"result\":5}"));
        vec![user("2+3?"), assistant("Let me see."), call, result]
    };
    let parallel = || {
        let arguments = ["{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":0,\"op\":\"div\"}", "{}", "{\"a\":"];
        let (ids, names) =
            (["call_a", "call_b", "call_c", "call_d"], ["calc", "calc", "nope", "calc"]);
        let errors = ["unknown op: ", "division by zero", "tool not found: nope", "unknown op: "];
        let mut blocks = vec![user("go")];
        blocks.extend((0..4).map(|n| Block::tool_call(ids[n], names[n], arguments[n])));
        blocks.extend((0..4).map(|n| result(ids[n], Err(errors[n]))));
        blocks
    };
    for (transcript, request, blocks) in [
        ("tool-call", 0, vec![user("2+3?")]),
        ("tool-call", 1, tool_call()),
        ("tool-calls-parallel", 1, parallel()),
        ("provider-reasoning-content", 1, vec![user("hi"), assistant("Yes"), user("again")]),
        ("provider-error-in-stream", 1, vec![user("hi"), user("again")]),
    ] {
        let sent = &recorded(transcript)[request].body;
        assert_eq!(numbers(&encode(&as_recorded(sent, blocks))), *sent, "{transcript} {request}");
    }
}

#[test]
fn inf_14_zero_is_sent_and_unset_is_not() {
    let body = encode(&call(&[], vec![]));
    let expected = json!({"model": "gpt-4", "messages": [], "stream": true, "n": 1, "top_p": 1,
        "temperature": 0.7, "stream_options": {"include_usage": true}});
    assert_eq!(numbers(&body), expected);
    for (setting, key) in [
        ("ai-temperature", "temperature"),
        ("inference-temperature", "temperature"),
        ("ai-top-p", "top_p"),
        ("inference-top-p", "top_p"),
        ("openai-presence-penalty", "presence_penalty"),
        ("openai-frequency-penalty", "frequency_penalty"),
        ("inference-seed", "seed"),
        ("ai-max-response-tokens", "max_tokens"),
    ] {
        let body = encode(&call(&[(setting, json!(0))], vec![]));
        assert_eq!(numbers(&body[key]), json!(0), "{setting}");
    }
}

#[test]
fn settings_of_a_run_go_before_settings_of_the_chat() {
    let settings = [
        ("ai-engine", json!("open-mistral-7b")),
        ("ai-temperature", json!(0.5)),
        ("inference-temperature", json!(0.25)),
        ("ai-top-p", json!(0.5)),
        ("ai-max-response-tokens", json!(9)),
        ("inference-max-response-tokens", json!(8)),
        ("ai-stop", json!(["a"])),
        ("inference-stop", json!(["b", "c"])),
        ("ai-structured-output-mode", json!("json_schema")),
        ("ai-structured-output-name", json!("answer")),
        ("ai-structured-output-schema", json!("{\"type\":\"object\"}")),
    ];
    let mut call = call(&settings, vec![]);
    call.tools = vec![tool("b", json!({"type": "object"})), tool("a", json!({"type": "object"}))];
    call.parallel_tools = false;
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name,
        "description": format!("what {name} does"), "parameters": {"type": "object"}}})
    };
    let expected = json!({"model": "open-mistral-7b", "messages": [], "stream": true, "n": 1,
        "temperature": 0.25, "top_p": 0.5, "max_tokens": 8, "stop": ["b", "c"],
        "tools": [tool("b"), tool("a")],
        "tool_choice": "auto", "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer",
            "schema": {"type": "object"}, "strict": true}}});
    assert_eq!(numbers(&encode(&call)), expected);
}

#[test]
fn an_empty_list_of_a_run_clears_the_stops_of_the_chat() {
    let settings = [("ai-stop", json!(["a"])), ("inference-stop", json!([]))];
    assert_eq!(encode(&call(&settings, vec![])).get("stop"), None);
}

#[test]
fn structured_output_that_does_not_hold_is_left_out_or_refused() {
    let formats = [Format::OpenAi, Format::Responses, Format::Claude, Format::Gemini];
    for (name, schema, error) in [
        ("", "{}", "structured output mode \"json_schema\" requires a non-empty schema name"),
        ("a", " ", "structured output mode \"json_schema\" requires a non-empty JSON schema"),
        ("a", "{", "invalid ai-structured-output-schema JSON: "),
    ] {
        let mut settings = vec![
            ("ai-structured-output-mode", json!("json_schema")),
            ("ai-structured-output-name", json!(name)),
            ("ai-structured-output-schema", json!(schema)),
        ];
        for format in formats {
            let body = format.encode(&call(&settings, vec![])).unwrap();
            assert_eq!(body, format.encode(&call(&[], vec![])).unwrap(), "{error}");
        }
        settings.push(("ai-structured-output-require-valid", json!(true)));
        for format in formats {
            let refused = format.encode(&call(&settings, vec![])).unwrap_err();
            assert!(refused.message.starts_with(error), "{refused}");
        }
    }
}

#[test]
fn biases_are_numbers() {
    let body = encode(&call(&[("openai-logit-bias", json!({"50256": "-100"}))], vec![]));
    assert_eq!(body["logit_bias"], json!({"50256": -100}));
}

#[test]
fn reasoning_models_take_other_parameters() {
    for model in ["o1", "o3-mini", "O4-mini", "gpt-5.1"] {
        let settings = [
            ("ai-engine", json!(model)),
            ("ai-max-response-tokens", json!(9)),
            ("inference-temperature", json!(0.5)),
            ("openai-presence-penalty", json!(1)),
            ("inference-reasoning-effort", json!("high")),
        ];
        let expected = json!({"model": model, "messages": [], "stream": true,
            "stream_options": {"include_usage": true}, "max_completion_tokens": 9,
            "reasoning_effort": "high"});
        assert_eq!(encode(&call(&settings, vec![])), expected);
    }
}

#[test]
fn messages_are_trimmed_and_what_another_provider_thought_is_left_out() {
    let claude = Block::new("", Kind::Reasoning, json!({"text": "hm"}))
        .with_opaque("claude", json!({"type": "thinking", "thinking": "hm", "signature": "s"}));
    let signed = Block::tool_call("a", "calc", "[1]").with_opaque("gemini", json!("sig"));
    let blocks = vec![
        system(" s "),
        user(" \n"),
        user(" u\n"),
        claude,
        Block::text("", Kind::Other, "o"),
        signed,
        Block::tool_call("b", "calc", ""),
        result("a", Ok("")),
        Block::new("", Kind::ToolUse, json!({"id": "b", "result": "{\"x\":1}", "error": "late"})),
        system("later"),
    ];
    let calls: Vec<Value> = ["a", "b"]
        .iter()
        .map(|id| json!({"id": id, "type": "function", "function": {"name": "calc", "arguments": "{}"}}))
        .collect();
    let expected = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "o"}, {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "tool", "tool_call_id": "b", "content": "{\"error\":\"late\",\"result\":{\"x\":1}}"},
        {"role": "system", "content": "later"}]);
    assert_eq!(encode(&call(&[], blocks))["messages"], expected);
}

#[test]
fn inf_8_only_the_provider_s_own_end_mark_completes_an_answer() {
    for (transcript, request, end) in
        [("tool-call", 0, 4), ("tool-calls-parallel", 0, 5), ("provider-length", 0, 3)]
    {
        assert_cut_before(Format::OpenAi, &recorded(transcript)[request].answered, end);
    }
    let only_done = [chunk(&json!({"content": "Hel"})), json!("[DONE]")];
    assert_cut_before(Format::OpenAi, &only_done, 2);
}

#[test]
fn a_finish_reason_without_done_keeps_usage_and_calls() {
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "calc", "arguments": "{}"}}]});
    let expected = [
        called("c", "calc", &json!({})),
        json!({"usage": {"inputTokens": 7, "outputTokens": 3, "cachedTokens": 2}}),
        json!({"done": "tool_calls"}),
    ];
    assert_eq!(decode(&[chunk(&call), finish("tool_calls"), usage()]), expected);
    assert_eq!(decode(&[chunk(&call), finish("tool_calls"), usage(), json!("[DONE]")]), expected);
}

#[test]
fn refusals_are_said_and_thoughts_stand_where_they_came() {
    let events = [
        chunk(&json!({"reasoning": "a", "content": ""})),
        chunk(&json!({"content": null, "refusal": "I "})),
        chunk(&json!({"reasoning_content": "b", "content": "won't"})),
        finish("stop"),
        json!("[DONE]"),
    ];
    let expected = json!(["thinking", {"thinks": "a"}, "thought", {"says": "I "}, "thinking",
        {"thinks": "b"}, "thought", {"says": "won't"}, {"llm_text": {"text": "I won't"}},
        {"done": "stop"}]);
    assert_eq!(json!(decode(&events)), expected);
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_no_json_breaks_the_run() {
    let other =
        json!({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]});
    let events = [
        json!({"event": "heartbeat", "data": {"object": "ping"}}),
        json!({"choices": [], "error": null, "new": {"x": 1}}),
        other.clone(),
        chunk(&json!({"content": "yes", "annotations": [1], "audio": {}})),
        finish("stop"),
    ];
    let expected = json!([{"says": "yes"}, {"llm_text": {"text": "yes"}}, {"done": "stop"}]);
    assert_eq!(json!(decode(&events)), expected);
    assert_eq!(decode(&[other])[0]["error"], "cut", "another choice ended");
    let broken =
        decode(&[chunk(&json!({"content": "Hel"})), json!("{\"choices\":[{"), finish("stop")]);
    assert_eq!((&broken[1]["error"], broken.len()), (&json!("protocol"), 2));
    assert!(!broken[1]["message"].as_str().unwrap().contains("choices"));
}

#[test]
fn the_provider_s_own_error_ends_the_run() {
    for (error, message, retryable) in [
        (json!({"message": "busy", "type": "server_error"}), "busy", true),
        (json!({"message": "slow", "type": "rate_limit_error"}), "slow", true),
        (json!({"message": "slow", "type": null, "code": "rate_limit_exceeded"}), "slow", true),
        (json!({"message": "no", "type": "invalid_request_error"}), "no", false),
        (json!("in words"), "in words", false),
    ] {
        let expected = json!({"error": "provider", "retryable": retryable,
            "message": format!("the provider reported: {message}")});
        assert_eq!(decode(&[json!({ "error": error }), finish("stop")]), [expected], "{error}");
    }
}

#[test]
fn inf_27_line_ends_and_packets_change_nothing() {
    let answered = &recorded("tool-call")[0].answered;
    for line_end in ["\n", "\r\n", "\r"] {
        let stream = format!(": hello{line_end}{}", wire(answered, line_end));
        assert_eq!(decode_chunks(Format::OpenAi, stream.as_bytes().chunks(1)), decode(answered));
    }
}

#[test]
fn inf_30_any_type_is_survived() {
    for transcript in ["tool-call", "provider-reasoning-content"] {
        assert_any_type_is_survived(Format::OpenAi, &recorded(transcript)[0].answered);
    }
}
