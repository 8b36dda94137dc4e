//! F15: one key, whoever sends it, with whatever prompt, and whenever the process dies: one turn, one story.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Answer;
use crate::provider::{Part, Provider, say};
use crate::seed::{Seed, size};
use crate::server::until;
use crate::turns::{ask, check_closed, said, start, timeline, turns};

const PATIENCE: Duration = Duration::from_secs(15);

fn body(prompt: &str, key: &str) -> Value {
    json!({"conv_id": "c", "prompt": prompt, "idempotency_key": key})
}

#[test]
fn f15_of_two_prompts_that_come_with_one_key_at_once_one_runs_and_the_other_is_refused() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let server = start(data.path(), &provider);
    for round in 0..size(10, 200) {
        let key = format!("k{round}");
        let together = Barrier::new(8);
        let answers: Vec<(bool, u16, Value)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let (key, together, mut client) = (&key, &together, server.client());
                    scope.spawn(move || {
                        together.wait();
                        let prompt = if n % 2 == 0 { "heads" } else { "tails" };
                        let sent = body(&format!("{prompt} {key}"), key);
                        let answer = client.send("POST", "/chat", Some(&sent)).unwrap();
                        let turn = answer.is_success().then(|| answer.json()["turn_id"].clone());
                        (n % 2 == 0, answer.status, turn.unwrap_or_default())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let taken: BTreeSet<bool> =
            answers.iter().filter(|a| a.1 != 422).map(|(heads, ..)| *heads).collect();
        assert_eq!(taken.len(), 1, "{answers:?}");
        let refused = answers.iter().filter(|(_, status, _)| *status == 422).count();
        assert_eq!(refused, 4, "{answers:?}");
        until(PATIENCE, "the end of the turn", || {
            let ends = turns(&mut server.client(), "c");
            (ends.iter().filter(|s| s["phase"] == "final").count() == round + 1).then_some(())
        });
    }
    assert_eq!(provider.received().len(), size(10, 200));
}

#[test]
fn f15_keys_of_running_and_waiting_prompts_say_after_a_kill_that_they_ended_and_run_no_more() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    provider.will(vec![say("Part"), Part::Hang]);
    let server = start(data.path(), &provider);
    let mut client = server.client();
    let running = ask(&mut client, "c", "one");
    until(PATIENCE, "the first word", || (timeline(&mut client, "c").len() == 2).then_some(()));
    for waiting in ["two", "three"] {
        assert_eq!(ask(&mut client, "c", waiting)["status"], "queued");
    }
    server.kill();
    for _ in 0..2 {
        let server = start(data.path(), &provider);
        let mut client = server.client();
        let replay = ask(&mut client, "c", "one");
        assert_eq!((&replay["status"], &replay["turn_id"]), (&json!("error"), &running["turn_id"]));
        for waiting in ["two", "three"] {
            let replay = ask(&mut client, "c", waiting);
            assert_eq!(replay["status"], "error", "it waits for nobody: {replay}");
            assert!(!replay["error"].as_str().unwrap().is_empty());
            let other = client.send("POST", "/chat", Some(&body("other", waiting))).unwrap();
            assert_eq!(other.status, 422);
        }
        check_closed(&mut client, "c");
        server.kill();
    }
    assert_eq!(provider.received().len(), 1);
}

/// The client does what clients do: it sends again until it is told how it ended.
#[test]
fn f15_a_key_that_is_sent_again_and_again_over_kills_is_one_turn() {
    let mut seed = Seed::of("f15_a_key_that_is_sent_again");
    let mut rng = seed.fork();
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let rounds = size(8, 100);
    for round in 0..rounds {
        let prompt = format!("p{round}");
        let mut ids = BTreeSet::new();
        let server = start(data.path(), &provider);
        let pause = Duration::from_micros(rng.below(20_000));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (mut client, prompt) = (server.client(), &prompt);
                    scope.spawn(move || {
                        let sent = client.send("POST", "/chat", Some(&body(prompt, prompt)));
                        sent.ok().filter(Answer::is_success).map(|a| a.json()["turn_id"].clone())
                    })
                })
                .collect();
            thread::sleep(pause);
            server.kill();
            for told in threads.into_iter().filter_map(|thread| thread.join().unwrap()) {
                ids.insert(told.to_string());
            }
        });
        let server = start(data.path(), &provider);
        let mut client = server.client();
        let ended = until(PATIENCE, "how it ended", || {
            let replay = ask(&mut client, "c", &prompt);
            ["completed", "error"].iter().any(|s| replay["status"] == *s).then_some(replay)
        });
        ids.insert(ended["turn_id"].to_string());
        assert_eq!(ids.len(), 1, "round {round}: {ids:?}");
        check_closed(&mut client, "c");
        let users: Vec<Value> =
            said(&timeline(&mut client, "c")).into_iter().filter(|m| m["role"] == "user").collect();
        assert_eq!(users.len(), round + 1, "{users:?}");
        server.kill();
    }
    assert!(provider.received().len() <= rounds, "no prompt was sent to the provider twice");
}
