//! F1 and F16 for turns: `kill -9` in the middle of an answer, of a tool call, of anything.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::http::Client;
use crate::provider::{Part, Provider, say};
use crate::seed::{Seed, size};
use crate::server::{Launch, Server, until};

const PATIENCE: Duration = Duration::from_secs(15);

/// The tool's database has one empty table.
pub(crate) fn start(data: &Path, provider: &Provider) -> Server {
    let connection = Connection::open(data.join("sql.db")).unwrap();
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
    drop(connection);
    let launch = Launch::on(data).arg("--debug-api").arg("--openai-base-url").arg(&provider.url);
    launch.arg("--sql-tool-db").arg(data.join("sql.db").to_str().unwrap()).start().unwrap()
}

pub(crate) fn ask(client: &mut Client, conv_id: &str, prompt: &str) -> Value {
    let body = json!({"conv_id": conv_id, "prompt": prompt, "idempotency_key": prompt});
    let answer = client.send("POST", "/chat", Some(&body)).unwrap();
    assert!(answer.is_success(), "{}: {}", answer.status, answer.text());
    answer.json()
}

fn snapshot(client: &mut Client, conv_id: &str) -> Value {
    client.get(&format!("/api/timeline?conv_id={conv_id}")).unwrap().json()
}

pub(crate) fn timeline(client: &mut Client, conv_id: &str) -> Vec<Value> {
    snapshot(client, conv_id)["entities"].as_array().cloned().unwrap_or_default()
}

pub(crate) fn version(client: &mut Client, conv_id: &str) -> u64 {
    snapshot(client, conv_id)["version"].as_str().unwrap_or("0").parse().unwrap()
}

/// Every frame number that the debug API still holds.
pub(crate) fn numbers(client: &mut Client, conv_id: &str) -> Vec<u64> {
    let held = client.get(&format!("/api/debug/events/{conv_id}?limit=5000")).unwrap().json();
    let items = held["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}

pub(crate) fn turns(client: &mut Client, conv_id: &str) -> Vec<Value> {
    let found = client.get(&format!("/api/debug/turns?conv_id={conv_id}&limit=5000")).unwrap();
    found.json()["items"].as_array().cloned().unwrap_or_default()
}

/// What the user sees said, as a provider is told it: without white space at its ends.
pub(crate) fn said(entities: &[Value]) -> Vec<Value> {
    let messages = entities.iter().filter(|e| e["kind"] == "message");
    let text = |e: &Value| e["props"]["content"].as_str().unwrap().trim().to_owned();
    messages.map(|e| json!({"role": e["props"]["role"], "content": text(e)})).collect()
}

fn answer_with<'a>(entities: &'a [Value], text: &str) -> Option<&'a Value> {
    entities.iter().find(|e| e["props"]["role"] == "assistant" && e["props"]["content"] == text)
}

/// Nothing says that it grows, and each turn ended exactly once.
pub(crate) fn check_closed(client: &mut Client, conv_id: &str) {
    for entity in timeline(client, conv_id) {
        assert_ne!(entity["props"]["streaming"], true, "{entity}");
        assert_ne!(entity["props"]["done"], false, "{entity}");
    }
    let snapshots = turns(client, conv_id);
    let mut ids: Vec<&Value> = snapshots.iter().map(|s| &s["turn_id"]).collect();
    ids.dedup();
    for id in ids {
        let ends = snapshots.iter().filter(|s| s["turn_id"] == *id && s["phase"] == "final");
        assert_eq!(ends.count(), 1, "the end of turn {id}");
    }
}

/// The newest answer is complete.
pub(crate) fn answered(client: &mut Client, conv_id: &str, text: &str) {
    until(PATIENCE, text, || {
        let entities = timeline(client, conv_id);
        answer_with(&entities, text).filter(|e| e["props"]["streaming"] == false).map(|_| ())
    });
    until_idle(client, conv_id);
}

/// Nothing runs.
pub(crate) fn until_idle(client: &mut Client, conv_id: &str) {
    until(PATIENCE, "the end of the turn", || {
        let body = client.get(&format!("/api/debug/conversations/{conv_id}")).unwrap().json();
        (body["active_request_key"] == "").then_some(())
    });
}

#[test]
fn f1_a_kill_in_mid_answer_keeps_the_partial_text_and_says_that_it_was_interrupted() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    provider.will(vec![say("Hello there")]);
    provider.will(vec![say("Par"), say("tial "), say("text"), Part::Hang]);
    let server = start(data.path(), &provider);
    let mut client = server.client();
    let first = ask(&mut client, "c", "one");
    answered(&mut client, "c", "Hello there");
    let cut = ask(&mut client, "c", "two");
    until(PATIENCE, "partial text", || {
        answer_with(&timeline(&mut client, "c"), "Partial text").map(|_| ())
    });
    let seen = numbers(&mut client, "c").into_iter().max().unwrap();
    let known = version(&mut client, "c");
    server.kill();

    for restarts in 1..=2 {
        let server = start(data.path(), &provider);
        let mut client = server.client();
        let entities = timeline(&mut client, "c");
        let partial = answer_with(&entities, "Partial text").expect("the partial text");
        assert_eq!(partial["props"]["streaming"], false);
        assert_eq!(partial["props"]["metadata"]["stopReason"], "interrupted");
        let logs: Vec<&Value> = entities.iter().filter(|e| e["kind"] == "log").collect();
        assert_eq!(logs.len(), 1, "{restarts} restarts: {logs:?}");
        assert_eq!(logs[0]["id"], format!("error-{}", cut["turn_id"].as_str().unwrap()));
        assert_eq!(logs[0]["props"]["fields"]["code"], "interrupted");
        check_closed(&mut client, "c");
        let replay = ask(&mut client, "c", "two");
        assert_eq!((&replay["status"], &replay["turn_id"]), (&json!("error"), &cut["turn_id"]));
        assert!(version(&mut client, "c") > known);
        server.kill();
    }

    let server = start(data.path(), &provider);
    let mut client = server.client();
    let next = ask(&mut client, "c", "three");
    assert_eq!(next["session_id"], first["session_id"]);
    answered(&mut client, "c", "done");
    let mut expected = said(&timeline(&mut client, "c"));
    expected.pop();
    assert_eq!(provider.told(), expected);
    assert_eq!(expected[3], json!({"role": "assistant", "content": "Partial text"}));
    assert!(numbers(&mut client, "c").into_iter().min().unwrap() > seen.max(known));
    check_closed(&mut client, "c");
}

/// `rounds` kills at random moments of slow answers: what the user sees is what the model is told.
#[test]
fn c30_d20_f1_kills_at_any_moment_leave_a_history_that_goes_on() {
    let mut seed = Seed::of("c30_d20_f1_kills_at_any_moment");
    let mut rng = seed.fork();
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let mut seen = 0;
    for round in 0..size(6, 60) {
        let words =
            (0..40).flat_map(|n| [say(&format!("w{n} ")), Part::Rest(Duration::from_millis(4))]);
        provider.will(words.collect());
        let server = start(data.path(), &provider);
        let mut client = server.client();
        check_closed(&mut client, "c");
        let before = said(&timeline(&mut client, "c"));
        let prompt = format!("p{round}");
        ask(&mut client, "c", &prompt);
        until(PATIENCE, "the request", || (provider.received().len() > round).then_some(()));
        let mut told = provider.told();
        assert_eq!(told.pop().unwrap()["content"], prompt);
        assert_eq!(told, before, "round {round}");
        thread::sleep(Duration::from_micros(rng.below(260_000)));
        let now = numbers(&mut client, "c");
        assert!(now.iter().all(|number| *number > seen), "round {round}: {seen} {now:?}");
        seen = now.into_iter().max().unwrap();
        server.kill();
    }
    let server = start(data.path(), &provider);
    check_closed(&mut server.client(), "c");
    let prompts = said(&timeline(&mut server.client(), "c"));
    let prompts = prompts.iter().filter(|message| message["role"] == "user").count();
    assert_eq!(prompts, size(6, 60), "every accepted prompt");
}
