//! What the provider is sent.

use super::*;
use crate::fixture::{assistant, call, numbers, result, system, tool, user};

fn thought(id: &str, encrypted: &str) -> Block {
    Block::new(id, Kind::Reasoning, json!({ "encrypted_content": encrypted }))
}

fn own_thought(id: &str, encrypted: &str) -> Block {
    thought(id, encrypted).with_opaque("openai-responses", Value::Null)
}

fn own_text(id: &str, text: &str) -> Block {
    Block::new("", Kind::LlmText, json!({"text": text, "item_id": id}))
}

fn input_of(blocks: Vec<Block>) -> Value {
    encode(&call(&[], blocks))["input"].clone()
}

#[test]
fn inf_12_requests_are_what_the_reference_sent_but_for_reasoning() {
    let mut blocks = vec![system("You are an assistant"), user("2+3?")];
    let contexts = [
        vec![],
        vec![
            own_thought("rs_1", "enc-1"),
            {
                let mut call =
                    Block::tool_call("call_1", "calc", "{\"a\":2,\"b\":3,\"op\":\"add\"}");
                call.payload.insert("item_id".into(), "fc_call_1".into());
                call
            },
            result("call_1", Ok("{\"result\":5}")),
        ],
        vec![own_text("msg_1", "It is 5."), user("more")],
        vec![user("and now")],
    ];
    for (at, (more, exchange)) in
        contexts.into_iter().zip(recorded("responses-reasoning-tool")).enumerate()
    {
        blocks.extend(more);
        let mut sent = exchange.body;
        let spec = &sent["tools"][0];
        let mut call = call(&[("ai-engine", json!("test-model"))], blocks.clone());
        call.tools = vec![tool("calc", spec["parameters"].clone())];
        call.tools[0].description = spec["description"].as_str().unwrap().into();
        for key in ["reasoning", "include"] {
            sent.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(numbers(&encode(&call)), sent, "{at}");
    }
}

#[test]
fn reasoning_is_asked_of_models_that_reason_or_when_somebody_says_so() {
    let base = json!({"stream": true, "input": [], "include": ["reasoning.encrypted_content"]});
    for (model, settings, reasoning) in [
        ("o3-mini", vec![], json!({"effort": "medium", "summary": "auto"})),
        (
            "gpt-5",
            vec![("inference-reasoning-effort", json!("high"))],
            json!({"effort": "high", "summary": "auto"}),
        ),
        (
            "o1",
            vec![
                ("openai-reasoning-effort", json!("low")),
                ("openai-reasoning-summary", json!("")),
            ],
            json!({"effort": "low"}),
        ),
        (
            "test-model",
            vec![("inference-reasoning-summary", json!("concise"))],
            json!({"effort": "medium", "summary": "concise"}),
        ),
    ] {
        let mut expected = base.clone();
        expected["model"] = model.into();
        expected["reasoning"] = reasoning;
        let settings: Vec<_> = settings.into_iter().chain([("ai-engine", json!(model))]).collect();
        assert_eq!(encode(&call(&settings, vec![])), expected, "{model}");
    }
}

#[test]
fn inf_14_zero_is_sent_and_unset_is_not() {
    let expected =
        json!({"model": "gpt-4", "input": [], "stream": true, "temperature": 0.7, "top_p": 1});
    assert_eq!(numbers(&encode(&call(&[], vec![]))), expected);
    let settings = [
        ("ai-temperature", json!(0.5)),
        ("inference-temperature", json!(0)),
        ("inference-top-p", json!(0)),
        ("inference-max-response-tokens", json!(0)),
    ];
    let expected = json!({"model": "gpt-4", "input": [], "stream": true, "temperature": 0, "top_p": 0,
        "max_output_tokens": 0});
    assert_eq!(numbers(&encode(&call(&settings, vec![]))), expected);
}

#[test]
fn structured_output_is_a_format_of_the_text() {
    let settings = [
        ("ai-structured-output-mode", json!("JSON_schema")),
        ("ai-structured-output-name", json!("answer")),
        ("ai-structured-output-description", json!("in short")),
        ("ai-structured-output-schema", json!("{\"type\":\"object\"}")),
        ("ai-structured-output-strict", json!(false)),
    ];
    let expected = json!({"format": {"type": "json_schema", "name": "answer", "description": "in short",
        "schema": {"type": "object"}, "strict": false}});
    assert_eq!(encode(&call(&settings, vec![]))["text"], expected);
}

#[test]
fn reasoning_goes_back_only_with_what_it_led_to() {
    let item =
        |id: &str| json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": "e"});
    let text = |text: &str| json!([{"type": "output_text", "text": text}]);
    let asked = json!({"role": "user", "content": [{"type": "input_text", "text": "u"}]});
    let by_id = json!({"type": "message", "role": "assistant", "id": "m", "content": text("x")});
    let plain = json!({"role": "assistant", "content": text("x")});
    let run = json!({"type": "function_call", "call_id": "c", "name": "calc", "arguments": "{}"});
    let one = || own_thought("r1", "e");
    for (what, blocks, expected) in [
        ("text", vec![one(), own_text("m", "x")], json!([item("r1"), by_id])),
        ("a call", vec![one(), Block::tool_call("c", "calc", "")], json!([item("r1"), run])),
        (
            "two thoughts",
            vec![one(), own_thought("r2", "e"), own_text("m", "x")],
            json!([item("r1"), item("r2"), by_id]),
        ),
        (
            "of the reference",
            vec![thought("r1", "e"), own_text("m", "x")],
            json!([item("r1"), by_id]),
        ),
        ("nothing", vec![one(), user("u"), own_text("m", "x")], json!([asked, plain])),
        ("the end", vec![user("u"), one()], json!([asked])),
        ("text without its thought", vec![own_text("m", "x")], json!([plain])),
    ] {
        assert_eq!(input_of(blocks), expected, "{what}");
    }
}

#[test]
fn thoughts_in_a_row_that_led_to_nothing_stay() {
    let asked = json!([{"role": "user", "content": [{"type": "input_text", "text": "u"}]}]);
    for between in
        [own_thought("r2", "e"), assistant(" "), thought("t", "e").with_opaque("claude", json!({}))]
    {
        let kind = between.kind;
        assert_eq!(input_of(vec![own_thought("r1", "e"), between, user("u")]), asked, "{kind:?}");
    }
}

#[test]
fn what_another_provider_thought_stays_with_it() {
    let claude =
        thought("id-1", "e").with_opaque("claude", json!({"type": "thinking", "signature": "s"}));
    let signed = Block::tool_call("c", "calc", "{}").with_opaque("gemini", json!("sig"));
    let items = input_of(vec![claude, assistant("x"), signed, result("c", Err("no"))]);
    let expected = json!([{"role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"type": "function_call", "call_id": "c", "name": "calc", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "{\"error\":\"no\"}"}]);
    assert_eq!(items, expected);
}

#[test]
fn a_key_is_a_bearer_and_without_one_nothing_is_sent() {
    for (format, path) in [(Format::OpenAi, "chat/completions"), (Format::Responses, "responses")] {
        assert_eq!(format.headers(Some("k")), [("Authorization", "Bearer k".to_owned())]);
        assert_eq!(format.headers(None), []);
        assert_eq!(format.url("http://x/v1", "m"), format!("http://x/v1/{path}"));
    }
}

#[test]
fn inf_17_names_of_formats_are_normalised_once() {
    for (name, format) in [
        ("", Some(Format::OpenAi)),
        ("OpenAI", Some(Format::OpenAi)),
        ("fireworks", Some(Format::OpenAi)),
        ("openai-responses", Some(Format::Responses)),
        ("claude", Some(Format::Claude)),
        ("anthropic", Some(Format::Claude)),
        ("gemini", Some(Format::Gemini)),
        ("cohere", None),
    ] {
        assert_eq!(Format::parse(name), format, "{name}");
    }
}
