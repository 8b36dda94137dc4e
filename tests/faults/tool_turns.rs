//! F16: a kill around a tool call. What ran is never run again, and what was seen of it stays.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Client;
use crate::log::PROFILES;
use crate::provider::{Part, Provider, say};
use crate::server::until;
use crate::turns::{ask, start, timeline, turns};

const PATIENCE: Duration = Duration::from_secs(15);
/// Runs until its time is over.
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

fn call(id: &str, name: &str, arguments: Value) -> (String, String, Value) {
    (id.into(), name.into(), arguments)
}

fn calc(id: &str) -> (String, String, Value) {
    call(id, "calc", json!({"a": 20, "b": 22, "op": "add"}))
}

/// A database for the tool, and a profile that has both tools.
fn prepare(data: &Path, provider: &Provider) {
    let server = start(data, provider);
    let profile = json!({"slug": "tools", "set_default": true, "runtime": {
        "middlewares": [{"name": "sqlite"}], "tools": ["calculator", "sql_query"]}});
    let answer = server.client().send("POST", PROFILES, Some(&profile)).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    server.stop();
}

fn of_kind(client: &mut Client, kind: &str) -> Vec<Value> {
    timeline(client, "c").into_iter().filter(|e| e["kind"] == kind).collect()
}

fn roles(told: &[Value]) -> Vec<&str> {
    told.iter().map(|message| message["role"].as_str().unwrap()).collect()
}

#[test]
fn f16_a_kill_while_a_tool_runs_closes_the_call_and_never_runs_it_again() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    prepare(data.path(), &provider);
    provider.will(vec![
        say("Let me see."),
        Part::Call(vec![call("call_a", "sql_query", json!({"sql": ENDLESS}))]),
    ]);
    let server = start(data.path(), &provider);
    let mut client = server.client();
    ask(&mut client, "c", "count");
    until(PATIENCE, "the tool to run", || {
        let held = client.get("/api/debug/events/c?type=tool.delta").unwrap().json();
        let phases = turns(&mut client, "c");
        let stored = phases.iter().any(|snapshot| snapshot["phase"] == "post_inference");
        (stored && held["items"].as_array().unwrap().len() == 1).then_some(())
    });
    server.kill();

    let server = start(data.path(), &provider);
    let mut client = server.client();
    let cards = of_kind(&mut client, "tool_call");
    assert_eq!(
        (&cards[0]["props"]["status"], &cards[0]["props"]["done"]),
        (&json!("error"), &json!(true))
    );
    assert_eq!(provider.received().len(), 1, "nothing goes on by itself");
    ask(&mut client, "c", "go on");
    until(PATIENCE, "the answer", || {
        timeline(&mut client, "c").iter().any(|e| e["props"]["content"] == "done").then_some(())
    });
    let told = provider.told();
    assert_eq!(roles(&told), ["user", "assistant", "assistant", "tool", "user"], "{told:?}");
    assert!(told[3]["content"].as_str().unwrap().contains("unknown outcome"), "{told:?}");
    assert_eq!(of_kind(&mut client, "tool_call").len(), 1);
    assert_eq!(of_kind(&mut client, "tool_result").len(), 0, "it was not run again");
}

#[test]
fn f16_results_that_were_seen_before_a_kill_stay_in_the_context() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    prepare(data.path(), &provider);
    let slow = call("call_b", "sql_query", json!({"sql": ENDLESS}));
    provider.will(vec![Part::Call(vec![calc("call_a"), slow])]);
    let server = start(data.path(), &provider);
    let mut client = server.client();
    ask(&mut client, "c", "both");
    until(PATIENCE, "the first result", || {
        (of_kind(&mut client, "tool_result").len() == 1).then_some(())
    });
    server.kill();

    let server = start(data.path(), &provider);
    let mut client = server.client();
    assert_eq!(of_kind(&mut client, "tool_result")[0]["props"]["result"]["result"], 42);
    ask(&mut client, "c", "go on");
    until(PATIENCE, "the request", || (provider.received().len() == 2).then_some(()));
    let told = provider.told();
    assert_eq!(roles(&told), ["user", "assistant", "tool", "tool", "user"], "{told:?}");
    assert!(told[2]["content"].as_str().unwrap().contains("42"), "what the user saw: {told:?}");
    assert!(told[3]["content"].as_str().unwrap().contains("unknown outcome"), "{told:?}");
}

#[test]
fn f16_a_kill_after_a_tool_ran_keeps_its_result_and_does_not_run_it_again() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    prepare(data.path(), &provider);
    provider.will(vec![Part::Call(vec![calc("call_a")])]);
    provider.will(vec![Part::Hang]);
    let server = start(data.path(), &provider);
    let mut client = server.client();
    ask(&mut client, "c", "add");
    until(PATIENCE, "the second call", || (provider.received().len() == 2).then_some(()));
    until(PATIENCE, "the stored result", || {
        turns(&mut client, "c").iter().any(|s| s["phase"] == "post_tools").then_some(())
    });
    server.kill();

    let server = start(data.path(), &provider);
    let mut client = server.client();
    let cards = of_kind(&mut client, "tool_call");
    assert_eq!(cards[0]["props"]["status"], "completed");
    ask(&mut client, "c", "go on");
    until(PATIENCE, "the request", || (provider.received().len() == 3).then_some(()));
    let told = provider.told();
    assert_eq!(roles(&told), ["user", "assistant", "tool", "user"], "{told:?}");
    assert!(told[2]["content"].as_str().unwrap().contains("42"), "{told:?}");
    assert_eq!(of_kind(&mut client, "tool_result").len(), 1, "it was not run again");
}

/// Ollama, vLLM and others number calls from 0 in every answer.
#[test]
fn c30_d32_a_call_id_that_comes_again_is_another_call_and_runs() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    prepare(data.path(), &provider);
    for _ in 0..2 {
        provider.will(vec![Part::Call(vec![calc("call_0")])]);
        provider.will(vec![say("42")]);
    }
    let server = start(data.path(), &provider);
    let mut client = server.client();
    for turn in 1..=2 {
        ask(&mut client, "c", &format!("add {turn}"));
        until(PATIENCE, "the end", || {
            let ends = turns(&mut client, "c");
            (ends.iter().filter(|s| s["phase"] == "final").count() == turn).then_some(())
        });
        let cards = of_kind(&mut client, "tool_call");
        assert_eq!(cards.len(), turn, "{cards:?}");
        assert!(cards.iter().all(|card| card["props"]["done"] == true), "{cards:?}");
        assert_eq!(of_kind(&mut client, "tool_result").len(), turn);
        assert_eq!(provider.received().len(), 2 * turn);
    }
}
