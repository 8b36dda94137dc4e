//! F3 for turns: no space left. What is refused leaves no trace, what was accepted is stored when space is back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::disk_full::Small;
use crate::http::{Answer, Client};
use crate::provider::{Part, Provider, say};
use crate::server::until;
use crate::turns::{answered, ask, check_closed, said, start, timeline, turns};

const PATIENCE: Duration = Duration::from_secs(15);

/// Large enough that it fits nowhere.
fn large(name: &str) -> String {
    name.repeat(200_000 / name.len())
}

fn send(client: &mut Client, prompt: &str) -> Answer {
    let body = json!({"conv_id": "c", "prompt": prompt, "idempotency_key": "k"});
    client.send("POST", "/chat", Some(&body)).unwrap()
}

/// A conversation of one turn whose second prompt was refused because the disk is full.
fn refuse(small: &Small, client: &mut Client) {
    ask(client, "c", "one");
    answered(client, "c", "done");
    small.fill(0);
    let refused = send(client, &large("two "));
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (500, "start session inference failed\n")
    );
    let users = said(&timeline(client, "c"));
    assert_eq!(users.len(), 2, "reads go on");
}

#[test]
fn f3_a_prompt_that_was_refused_for_lack_of_space_leaves_no_trace() {
    let Some(small) = Small::mount() else { return };
    let provider = Provider::start();
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    refuse(&small, &mut client);
    small.free();
    until(PATIENCE, "another conversation", || {
        let body = json!({"conv_id": "other", "prompt": "x"});
        client.send("POST", "/chat", Some(&body)).unwrap().is_success().then_some(())
    });
    assert_eq!(said(&timeline(&mut client, "c")).len(), 2, "the refused prompt is not shown");
    server.kill();
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    let kinds: Vec<Value> = timeline(&mut client, "c").iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(kinds, ["message", "message"], "and does not come back as an interrupted turn");
}

#[test]
fn c30_d4_a_prompt_sent_again_after_a_refusal_runs_once_under_its_own_id() {
    let Some(small) = Small::mount() else { return };
    let provider = Provider::start();
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    refuse(&small, &mut client);
    small.free();
    let prompt = large("two ");
    let started = until(PATIENCE, "space", || {
        let answer = send(&mut client, &prompt);
        answer.is_success().then(|| answer.json())
    });
    assert_eq!(started["status"], "started");
    until(PATIENCE, "the request", || (provider.received().len() == 2).then_some(()));
    let told = provider.told();
    assert_eq!(told.len(), 3, "one, done, two");
    until(PATIENCE, "the end", || {
        let ends = turns(&mut client, "c");
        (ends.iter().filter(|s| s["phase"] == "final").count() == 2).then_some(())
    });
    let shown = said(&timeline(&mut client, "c"));
    let users = shown.iter().filter(|message| message["role"] == "user").count();
    assert_eq!(users, 2, "the prompt is shown once");
    assert_eq!(turns(&mut client, "c")[0]["turn_id"], started["turn_id"]);
}

#[test]
fn f3_the_key_of_a_refused_prompt_is_free_after_a_restart() {
    let Some(small) = Small::mount() else { return };
    let provider = Provider::start();
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    refuse(&small, &mut client);
    small.free();
    until(PATIENCE, "another conversation", || {
        let body = json!({"conv_id": "other", "prompt": "x"});
        client.send("POST", "/chat", Some(&body)).unwrap().is_success().then_some(())
    });
    server.stop();
    let server = start(&small.folder, &provider);
    assert_eq!(send(&mut server.client(), &large("two ")).json()["status"], "started");
}

#[test]
fn c30_d19_an_answer_that_ends_without_space_says_so_and_is_stored_when_space_is_back() {
    let Some(small) = Small::mount() else { return };
    let provider = Provider::start();
    let words = (0..60)
        .flat_map(|_| [say(&large("word ")[..4_000]), Part::Rest(Duration::from_millis(20))]);
    provider.will(words.chain([say("the end")]).collect());
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    ask(&mut client, "c", "one");
    until(PATIENCE, "the first words", || (!timeline(&mut client, "c").is_empty()).then_some(()));
    small.fill(0);
    until(PATIENCE, "the remark that it was not stored", || {
        let held = client.get("/api/debug/events/c?type=log").unwrap().json();
        held.to_string().contains("could not be stored").then_some(())
    });
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    small.free();
    until(PATIENCE, "the whole answer", || {
        let entities = timeline(&mut client, "c");
        let whole =
            said(&entities).iter().any(|m| m["content"].as_str().unwrap().ends_with("the end"));
        whole.then_some(())
    });
    server.kill();
    let server = start(&small.folder, &provider);
    let mut client = server.client();
    check_closed(&mut client, "c");
    ask(&mut client, "c", "two");
    until(PATIENCE, "the request", || (provider.received().len() == 2).then_some(()));
    assert!(provider.told()[1]["content"].as_str().unwrap().ends_with("the end"));
}
