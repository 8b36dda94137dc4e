//! Calls of tools in answers: which fragments belong together, and what may run.

use super::*;
use crate::fixture::{beginnings, runnable};

fn fragment(index: Option<u64>, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
}

fn calls(fragments: &[Value]) -> Vec<Value> {
    let mut events: Vec<Value> =
        fragments.iter().map(|f| chunk(&json!({ "tool_calls": [f] }))).collect();
    events.extend([finish("tool_calls"), json!("[DONE]")]);
    runnable(&decode(&events))
        .iter()
        .map(|call| json!([call["id"], call["name"], call["args"]]))
        .collect()
}

#[test]
fn calls_are_told_apart_by_what_a_server_gives() {
    let (a, b) = (json!(["a", "calc", {"x": 1}]), json!(["b", "calc", {"x": 2}]));
    let (start, x1, x2) = ("{\"x\":", "1}", "2}");
    for (what, fragments) in [
        (
            "from one",
            vec![
                fragment(Some(1), Some("a"), Some("calc"), start),
                fragment(Some(1), None, None, x1),
                fragment(Some(2), Some("b"), Some("calc"), start),
                fragment(Some(2), Some(""), None, x2),
            ],
        ),
        (
            "interleaved",
            vec![
                fragment(Some(0), Some("a"), Some("calc"), start),
                fragment(Some(1), Some("b"), Some("calc"), start),
                fragment(Some(0), None, None, x1),
                fragment(Some(1), None, None, x2),
            ],
        ),
        (
            "always zero",
            vec![
                fragment(Some(0), Some("a"), Some("calc"), start),
                fragment(Some(0), Some(""), None, x1),
                fragment(Some(0), Some("b"), Some("calc"), start),
                fragment(Some(0), Some(""), None, x2),
            ],
        ),
        (
            "always zero, the id with each",
            vec![
                fragment(Some(0), Some("a"), Some("calc"), start),
                fragment(Some(0), Some("b"), Some("calc"), start),
                fragment(Some(0), Some("a"), None, x1),
                fragment(Some(0), Some("b"), None, x2),
            ],
        ),
        (
            "missing",
            vec![
                fragment(None, Some("a"), Some("calc"), start),
                fragment(None, None, None, x1),
                fragment(None, Some("b"), Some("calc"), start),
                fragment(None, None, None, x2),
            ],
        ),
        (
            "the id late",
            vec![
                fragment(Some(0), None, Some("ca"), start),
                fragment(Some(0), Some("a"), Some("lc"), x1),
                fragment(Some(1), Some("b"), Some("calc"), "{\"x\":2}"),
            ],
        ),
    ] {
        assert_eq!(calls(&fragments), [a.clone(), b.clone()], "{what}");
    }
}

fn unnamed(indices: [Option<u64>; 2]) -> Vec<Value> {
    let [a, b] = indices;
    calls(&[fragment(a, None, Some("a"), "{\"x\":1}"), fragment(b, None, Some("b"), "{\"x\":2}")])
}

#[test]
fn calls_without_ids_are_told_apart_by_index() {
    let expected = [json!(["", "a", {"x": 1}]), json!(["", "b", {"x": 2}])];
    assert_eq!(unnamed([Some(0), Some(1)]), expected);
    assert_eq!(unnamed([Some(1), Some(2)]), expected);
}

#[test]
fn calls_without_ids_and_indices_are_told_apart_by_order() {
    let expected = [json!(["", "a", {"x": 1}]), json!(["", "b", {"x": 2}])];
    assert_eq!(unnamed([None, None]), expected);
    assert_eq!(unnamed([Some(0), Some(0)]), expected);
}

#[test]
fn an_id_that_changes_with_every_fragment_is_one_call() {
    let fragments = [
        fragment(Some(0), Some("a"), Some("calc"), "{\"x\":"),
        fragment(Some(0), Some("a2"), None, "1}"),
        fragment(Some(1), Some("b"), Some("calc"), "{\"x\":"),
        fragment(Some(1), Some("b2"), None, "2}"),
    ];
    assert_eq!(calls(&fragments), [json!(["a", "calc", {"x": 1}]), json!(["b", "calc", {"x": 2}])]);
}

fn cut_at(written: &str) -> Vec<Value> {
    let call = json!({"tool_calls": [fragment(Some(0), Some("c"), Some("calc"), written)]});
    runnable(&decode(&[chunk(&call), finish("length"), json!("[DONE]")]))
}

#[test]
fn cut_arguments_never_run() {
    for written in beginnings("{\"a\": {\"b\": [1, \"}\"]}}").skip(1) {
        assert_eq!(cut_at(written), Vec::<Value>::new(), "{written}");
    }
}

#[test]
fn arguments_cut_before_their_first_letter_never_run() {
    assert_eq!(cut_at(""), Vec::<Value>::new());
}

#[test]
fn big_integers_in_arguments_stay_integers() {
    for n in ["9007199254740993", "-9223372036854775808", "18446744073709551615"] {
        let block = Block::tool_call("c", "calc", &format!("{{\"n\":{n}}}"));
        let body = encode(&call(&[], vec![block]));
        let sent = &body["messages"][0]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(*sent, format!("{{\"n\":{n}}}"));
    }
    let block = Block::tool_call("c", "calc", "{\"n\":18446744073709551616}");
    let told = block.arguments().map(|args| args["n"].to_string());
    assert!(told.is_none_or(|n| n == "18446744073709551616"), "it became a float");
}

#[test]
fn inf_20_calls_keep_the_order_in_which_they_began() {
    let names: Vec<String> = (0..20).map(|n| format!("tool_{n}")).collect();
    let begin = |(n, name): (usize, &String)| {
        fragment(Some(n as u64), Some(&format!("call_{n}")), Some(name), "{")
    };
    let mut fragments: Vec<Value> = names.iter().enumerate().map(begin).collect();
    // Their ends come in another order.
    fragments.extend((0..20).rev().map(|n| fragment(Some(n), None, None, "}")));
    let seen: Vec<Value> = calls(&fragments).iter().map(|call| call[1].clone()).collect();
    assert_eq!(seen, names);
}
