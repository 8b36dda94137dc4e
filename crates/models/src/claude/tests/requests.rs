//! What the provider is sent.

use super::*;
use crate::fixture::{assistant, call, numbers, result, system, tool, user};

fn body(settings: &[(&str, Value)], blocks: Vec<Block>) -> Value {
    numbers(&encode(&call(settings, blocks)).unwrap())
}

fn words(role: &str, text: &str) -> Value {
    json!({"role": role, "content": [{"type": "text", "text": text}]})
}

#[test]
fn requests_are_what_the_reference_sent_but_for_grouping() {
    let calling = || {
        vec![
            user("2+3?"),
            assistant("Let me see."),
            Block::tool_call("toolu_1", "calc", "{\"a\":2,\"b\":3,\"op\":\"add\"}"),
            result("toolu_1", Ok("{\"result\":5}")),
        ]
    };
    for (transcript, request, blocks) in [
        ("claude-tool", 0, vec![user("2+3?")]),
        ("claude-tool", 1, calling()),
        ("claude-max-tokens", 1, vec![user("hi"), assistant("Hel"), user("again")]),
        ("claude-error-in-stream", 1, vec![user("hi"), user("again")]),
    ] {
        let mut sent = recorded(transcript)[request].body.clone();
        let messages = sent["messages"].as_array_mut().unwrap();
        if request == 1 && transcript == "claude-tool" {
            let mut calls = messages.remove(2);
            let calls = calls["content"].as_array_mut().unwrap();
            messages[1]["content"].as_array_mut().unwrap().append(calls);
        }
        let spec = &sent["tools"][0];
        let blocks = [system("You are an assistant")].into_iter().chain(blocks).collect();
        let mut call = call(&[("ai-engine", json!("test-model"))], blocks);
        call.tools = vec![tool("calc", spec["input_schema"].clone())];
        call.tools[0].description = spec["description"].as_str().unwrap().into();
        assert_eq!(numbers(&encode(&call).unwrap()), sent, "{transcript} {request}");
    }
}

#[test]
fn inf_28_calls_of_one_answer_are_one_message_and_so_are_their_results() {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let blocks = vec![
        system("one"),
        user(" u\n"),
        Block::new("", Kind::Reasoning, json!({})).with_opaque("claude", thought.clone()),
        Block::tool_call("a", "calc", "{\"x\":1}"),
        Block::tool_call("b", "calc", "[1]"),
        result("a", Ok("1")),
        result("b", Err("no")),
        system("two"),
        assistant(" "),
        assistant("done \n"),
    ];
    let sent = body(&[], blocks);
    let expected = json!([
        words("user", " u\n"),
        {"role": "assistant", "content": [thought,
            {"type": "tool_use", "id": "a", "name": "calc", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "calc", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": "b", "content": "{\"error\":\"no\"}", "is_error": true}]},
        words("user", "two"),
        words("assistant", "done"),
    ]);
    assert_eq!((&sent["system"], &sent["messages"]), (&json!("one"), &expected));
}

#[test]
fn what_another_provider_thought_stays_with_it() {
    let responses = Block::new("rs_1", Kind::Reasoning, json!({"encrypted_content": "e"}));
    let marked = responses.clone().with_opaque("openai-responses", Value::Null);
    let signed = Block::tool_call("c", "calc", "{}").with_opaque("gemini", json!("sig"));
    let sent = body(&[], vec![user("u"), responses, marked, signed]);
    let called = json!({"role": "assistant",
        "content": [{"type": "tool_use", "id": "c", "name": "calc", "input": {}}]});
    assert_eq!(sent["messages"], json!([words("user", "u"), called]));
}

#[test]
fn inf_14_zero_is_sent_and_unset_is_not() {
    let expected = json!({"model": "gpt-4", "messages": [], "max_tokens": 1024, "stream": true,
        "temperature": 0.7});
    assert_eq!(body(&[], vec![]), expected);
    let one = ("ai-temperature", json!(1));
    for (settings, key) in [
        (vec![("ai-temperature", json!(0))], "temperature"),
        (vec![("inference-temperature", json!(0))], "temperature"),
        (vec![one.clone(), ("ai-top-p", json!(0))], "top_p"),
        (vec![one.clone(), ("inference-top-p", json!(0))], "top_p"),
        (vec![("claude-top-k", json!(0))], "top_k"),
    ] {
        assert_eq!(body(&settings, vec![])[key], json!(0), "{settings:?}");
    }
    let sent = body(&[one], vec![]);
    assert_eq!((sent.get("temperature"), sent.get("top_p")), (None, None), "1.0 is the default");
}

#[test]
fn settings_of_a_run_go_before_settings_of_the_chat() {
    let settings = [
        ("ai-engine", json!("m")),
        ("ai-temperature", json!(0.5)),
        ("inference-temperature", json!(1)),
        ("ai-max-response-tokens", json!(9)),
        ("inference-max-response-tokens", json!(8)),
        ("ai-stop", json!(["a"])),
        ("inference-stop", json!(["b"])),
        ("claude-top-k", json!(5)),
        ("claude-user-id", json!("someone")),
        ("ai-structured-output-mode", json!("json_schema")),
        ("ai-structured-output-name", json!("answer")),
        ("ai-structured-output-schema", json!("{\"type\":\"object\"}")),
    ];
    let expected = json!({"model": "m", "messages": [], "stream": true, "max_tokens": 8,
        "stop_sequences": ["b"], "top_k": 5, "metadata": {"user_id": "someone"},
        "output_format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}});
    assert_eq!(body(&settings, vec![]), expected);
}

#[test]
fn inf_13_a_thinking_budget_asks_for_thoughts() {
    for (budget, settings) in [
        (2048, vec![]),
        (1, vec![("ai-temperature", json!(1))]),
        (2048, vec![("inference-temperature", json!(1))]),
        (2048, vec![("ai-temperature", json!(0.5)), ("inference-temperature", json!(1))]),
    ] {
        let settings: Vec<_> =
            settings.into_iter().chain([("inference-thinking-budget", json!(budget))]).collect();
        let sent = body(&settings, vec![]);
        assert_eq!(sent["thinking"], json!({"type": "enabled", "budget_tokens": budget}));
        assert_eq!(sent.get("temperature"), None, "{settings:?}");
    }
    for budget in [0, -1] {
        let sent = body(&[("inference-thinking-budget", json!(budget))], vec![]);
        assert_eq!((sent.get("thinking"), &sent["temperature"]), (None, &json!(0.7)), "{budget}");
    }
}

#[test]
fn inf_13_a_thinking_budget_leaves_room_for_the_answer() {
    let sent = body(&[("inference-thinking-budget", json!(2048))], vec![]);
    assert!(sent["max_tokens"].as_u64() > Some(2048), "{}", sent["max_tokens"]);
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let both = "both temperature and top_p are set to non-default values; Claude models require only one to be \
                specified";
    let after = "both temperature and top_p are set (after inference overrides); Claude models require only one \
                 to be specified";
    let thinking = "thinking is enabled but temperature is 0.50; Claude requires temperature=1.0 (or unset) when \
                    thinking is active";
    for (settings, text) in [
        (vec![("ai-temperature", json!(0.5)), ("ai-top-p", json!(0.9))], both),
        (vec![("ai-temperature", json!(0)), ("ai-top-p", json!(0))], both),
        (
            vec![("inference-thinking-budget", json!(1024)), ("ai-temperature", json!(0.5))],
            thinking,
        ),
        (
            vec![("inference-thinking-budget", json!(1024)), ("inference-temperature", json!(0.5))],
            thinking,
        ),
        (vec![("inference-temperature", json!(0.5)), ("inference-top-p", json!(0.9))], after),
    ] {
        let refused = encode(&call(&settings, vec![])).unwrap_err();
        assert_eq!((refused.message.as_str(), refused.retryable), (text, false), "{settings:?}");
    }
}

#[test]
fn a_key_goes_in_its_own_header() {
    let version = ("anthropic-version", "2023-06-01".to_owned());
    let keyed = vec![version.clone(), ("x-api-key", "k".to_owned())];
    assert_eq!(Format::Claude.headers(Some("k")), keyed);
    assert_eq!(Format::Claude.headers(None), [version]);
    assert_eq!(Format::Claude.url("http://x", "m"), "http://x/v1/messages");
}
