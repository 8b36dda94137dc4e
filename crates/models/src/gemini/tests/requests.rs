//! What the provider is sent.

use super::*;
use crate::fixture::{assistant, call, numbers, result, system, tool, user};

fn body(settings: &[(&str, Value)], blocks: Vec<Block>) -> Value {
    numbers(&encode(&call(settings, blocks)))
}

fn content(role: &str, parts: &[Value]) -> Value {
    json!({"role": role, "parts": parts})
}

fn text(text: &str) -> Value {
    json!({ "text": text })
}

fn function_call(name: &str, args: &Value) -> Value {
    json!({"functionCall": {"name": name, "args": args}})
}

fn response(name: &str, response: &Value) -> Value {
    json!({"functionResponse": {"name": name, "response": response}})
}

#[test]
fn each_side_speaks_in_its_own_content() {
    let blocks = vec![
        system("one"),
        user("u"),
        system("two"),
        assistant(" "),
        assistant("Let me see."),
        Block::tool_call("a", "calc", "{\"x\":1}").with_opaque("gemini", json!("sig")),
        Block::tool_call("b", "find", ""),
        result("a", Ok("{\"result\":5}")),
        result("b", Err("no")),
        result("nobody", Ok("plain")),
        user("more"),
        Block::text("", Kind::Other, "o"),
    ];
    let sent = body(&[], blocks);
    let mut signed = function_call("calc", &json!({"x": 1}));
    signed["thoughtSignature"] = "sig".into();
    let expected = json!([
        content("user", &[text("u")]),
        content("model", &[text("Let me see."), signed, function_call("find", &json!({}))]),
        content(
            "user",
            &[
                response("calc", &json!({"result": 5})),
                response("find", &json!({"error": "no"})),
                response("unknown", &json!({"result": "plain"})),
                text("more")
            ]
        ),
        content("model", &[text("o")]),
    ]);
    assert_eq!(sent["contents"], expected);
    assert_eq!(sent["systemInstruction"], json!({"parts": [text("one"), text("two")]}));
    assert_eq!(sent.get("tools"), None);
}

#[test]
fn inf_30_arguments_that_are_no_object_are_sent_as_none() {
    for args in [json!([1]), json!("[1]"), json!("no JSON"), json!(5), json!(true), Value::Null] {
        let block =
            Block::new("c", Kind::ToolCall, json!({"id": "c", "name": "calc", "args": args}));
        let expected = json!([content("model", &[function_call("calc", &json!({}))])]);
        assert_eq!(body(&[], vec![block])["contents"], expected, "{args}");
    }
    let text =
        Block::new("c", Kind::ToolCall, json!({"id": "c", "name": "calc", "args": "{\"x\":1}"}));
    let expected = json!([content("model", &[function_call("calc", &json!({"x": 1}))])]);
    assert_eq!(body(&[], vec![text])["contents"], expected, "as the reference stored them");
}

#[test]
fn what_another_provider_thought_stays_with_it() {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let claude = Block::new("", Kind::Reasoning, json!({})).with_opaque("claude", thought);
    let responses = Block::new("rs_1", Kind::Reasoning, json!({"encrypted_content": "e"}));
    let signed = Block::tool_call("c", "calc", "{}").with_opaque("claude", json!("sig"));
    let sent = body(&[], vec![user("u"), claude, responses, signed]);
    let expected = json!([
        content("user", &[text("u")]),
        content("model", &[function_call("calc", &json!({}))])
    ]);
    assert_eq!(sent["contents"], expected);
}

#[test]
fn a_signature_of_a_text_goes_back_with_it() {
    let sent = body(&[], vec![assistant("Yes").with_opaque("gemini", json!("sig"))]);
    let expected = json!([content("model", &[json!({"text": "Yes", "thoughtSignature": "sig"})])]);
    assert_eq!(sent["contents"], expected);
    let other = body(&[], vec![assistant("Yes").with_opaque("claude", json!("sig"))]);
    assert_eq!(other["contents"], json!([content("model", &[text("Yes")])]));
}

#[test]
fn inf_14_zero_is_sent_and_unset_is_not() {
    let expected = json!({"contents": [], "generationConfig": {"temperature": 0.7, "topP": 1}});
    assert_eq!(body(&[], vec![]), expected);
    for (setting, key) in [
        ("ai-temperature", "temperature"),
        ("inference-temperature", "temperature"),
        ("ai-top-p", "topP"),
        ("inference-top-p", "topP"),
        ("inference-seed", "seed"),
        ("ai-max-response-tokens", "maxOutputTokens"),
    ] {
        let sent = body(&[(setting, json!(0))], vec![]);
        assert_eq!(sent["generationConfig"][key], json!(0), "{setting}");
    }
}

#[test]
fn settings_of_a_run_go_before_settings_of_the_chat() {
    let settings = [
        ("ai-temperature", json!(0.5)),
        ("inference-temperature", json!(0.25)),
        ("ai-max-response-tokens", json!(9)),
        ("inference-max-response-tokens", json!(8)),
        ("ai-stop", json!(["a"])),
        ("inference-stop", json!(["b"])),
        ("inference-thinking-budget", json!(512)),
        ("ai-structured-output-mode", json!("json_schema")),
        ("ai-structured-output-name", json!("answer")),
        (
            "ai-structured-output-schema",
            json!("{\"type\":\"object\",\"additionalProperties\":false}"),
        ),
    ];
    let expected = json!({"temperature": 0.25, "topP": 1, "maxOutputTokens": 8, "stopSequences": ["b"],
        "thinkingConfig": {"thinkingBudget": 512, "includeThoughts": true},
        "responseMimeType": "application/json", "responseSchema": {"type": "object"}});
    assert_eq!(body(&settings, vec![])["generationConfig"], expected);
}

#[test]
fn token_limits_stay_within_32_bits() {
    for (tokens, sent) in [(-5, 0), (5, 5), (1_i64 << 40, i64::from(i32::MAX))] {
        let body = body(&[("ai-max-response-tokens", json!(tokens))], vec![]);
        assert_eq!(body["generationConfig"]["maxOutputTokens"], json!(sent));
    }
}

#[test]
fn schemas_are_sent_without_the_keywords_that_the_provider_refuses() {
    let parameters = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x",
        "type": "object", "additionalProperties": false, "required": ["default"],
        "properties": {
            "default": {"type": "string", "enum": ["a", "default"], "default": "a"},
            "$id": {"type": "array", "items": {"type": "object", "additionalProperties": true}}}});
    let mut call = call(&[], vec![]);
    call.tools = vec![tool("b", parameters), tool("a", json!({"type": "object"}))];
    let expected = json!([{"functionDeclarations": [
        {"name": "b", "description": "what b does", "parameters": {"type": "object", "required": ["default"],
            "properties": {"default": {"type": "string", "enum": ["a", "default"]},
                "$id": {"type": "array", "items": {"type": "object"}}}}},
        {"name": "a", "description": "what a does", "parameters": {"type": "object"}}]}]);
    assert_eq!(encode(&call)["tools"], expected);
}

#[test]
fn the_model_is_in_the_address_and_the_key_is_not() {
    for model in ["gemini-pro", "models/gemini-pro"] {
        let expected = "http://x/v1beta/models/gemini-pro:streamGenerateContent?alt=sse";
        assert_eq!(Format::Gemini.url("http://x", model), expected);
    }
    assert_eq!(Format::Gemini.headers(Some("k")), [("x-goog-api-key", "k".to_owned())]);
    assert_eq!(Format::Gemini.headers(None), []);
}
