//! Defects of chapter 30 about runs and what they run under.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::provider::{delta, saying};
use crate::requests::{prompt, replayed, start, told};
use crate::server::Server;
use crate::socket::Socket;

fn held(text: &str) -> Value {
    let mut parts = saying(&[text]).as_array().unwrap().clone();
    parts.insert(1, json!({"wait": true}));
    parts.into()
}

fn cut(text: &str) -> Value {
    json!([delta("content", text), {"cut": true}])
}

#[tokio::test]
async fn c30_d3_the_first_answer_says_started_however_fast_the_run_is() {
    let server = Server::start(&[]);
    for n in 0..40 {
        let answer =
            server.post("/chat", &json!({"conv_id": format!("c{n}"), "prompt": "x"})).await;
        assert_eq!(answer.json()["status"], "started");
    }
}

#[tokio::test]
async fn c30_d5_prompts_behind_a_failed_run_are_answered() {
    let mut first = held("Hal");
    first[2] = json!({"cut": true});
    let (server, provider) = start(vec![first, cut("x"), saying(&["yes"])], &[]).await;
    server.post("/chat", &prompt("p1", "k1")).await;
    for n in 2..=3 {
        let answer = server.post("/chat", &prompt(&format!("p{n}"), &format!("k{n}"))).await;
        assert_eq!(answer.status, 202);
    }
    provider.release.notify_one();
    replayed(&server, &prompt("p3", "k3"), "completed").await;
    replayed(&server, &prompt("p2", "k2"), "error").await;
}

#[tokio::test]
async fn c30_d6_c30_d7_c30_d9_a_prompt_runs_and_is_kept_under_the_profile_it_was_sent_with() {
    let (server, provider) = start(vec![held("a"), saying(&["b"])], &[]).await;
    let profile = json!({"slug": "pirate", "runtime": {"system_prompt": "Arr"}});
    server.post("/api/chat/profiles", &profile).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat/pirate", &prompt("p1", "k1")).await;
    let queued = server.post("/chat/pirate", &prompt("p2", "k2")).await.json();
    socket.until("llm.delta", 1).await;
    let body = json!({"runtime": {"system_prompt": "Changed"}}).to_string();
    let headers = "Content-Type: application/json\r\n";
    let changed = server.request("PATCH", "/api/chat/profiles/pirate", headers, &body).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    Socket::open(&server, "conv_id=c&profile=agent").await.until("ws.hello", 1).await;
    provider.release.notify_one();
    socket.until("llm.final", 2).await;
    for end in socket.of("llm.final") {
        assert_eq!(end["metadata"]["profileVersion"], 1);
        assert_eq!(end["metadata"]["runtimeFingerprint"], queued["runtime_fingerprint"]);
    }
    replayed(&server, &prompt("p2", "k2"), "completed").await;
    let systems: Vec<Value> = provider
        .received
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.body["messages"][0]["content"].clone())
        .collect();
    assert_eq!(systems, ["Arr", "Arr"]);
    let turns = server.get("/api/debug/turns?conv_id=c").await.json();
    for turn in turns["items"].as_array().unwrap() {
        assert!(turn["payload"].as_str().unwrap().contains("profile_version: 1"), "{turn}");
    }
}

#[tokio::test]
async fn c30_d12_c30_d57_a_failure_is_seen_after_a_reload_and_in_the_list() {
    let (server, _provider) = start(vec![cut("Hal"), saying(&["x"])], &[]).await;
    let failed = server.post("/chat", &prompt("p1", "k1")).await.json();
    let replay = replayed(&server, &prompt("p1", "k1"), "error").await;
    let entities = server.timeline_when("c", |entities| entities.len() == 3).await;
    assert_eq!(
        (&entities[1]["props"]["content"], &entities[1]["props"]["streaming"]),
        (&json!("Hal"), &json!(false))
    );
    assert_eq!(entities[2]["id"], format!("error-{}", failed["turn_id"].as_str().unwrap()));
    assert_eq!(
        (&entities[2]["props"]["level"], &entities[2]["props"]["message"]),
        (&json!("error"), &replay["error"])
    );
    let listed = server.get("/api/chat/conversations").await.json();
    assert_eq!(
        (&listed[0]["status"], &listed[0]["last_error"]),
        (&json!("failed"), &replay["error"])
    );
    server.post("/chat", &prompt("p2", "k2")).await;
    replayed(&server, &prompt("p2", "k2"), "completed").await;
    let listed = server.get("/api/chat/conversations").await.json();
    assert_eq!((&listed[0]["status"], &listed[0]["last_error"]), (&json!("active"), &json!("")));
}

#[tokio::test]
async fn c30_d14_a_conversation_without_sockets_leaves_memory_also_without_an_idle_timeout() {
    let server =
        Server::start(&["--debug-api", "--idle-timeout-seconds", "0", "--evict-idle-seconds", "1"]);
    server.post("/chat", &prompt("p", "k")).await;
    let deadline = Instant::now() + Duration::from_secs(15);
    while server.get("/api/debug/conversations/c").await.json()["source"] != "persisted" {
        assert!(Instant::now() < deadline, "never evicted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prompts and sockets that come just when their conversation leaves memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_d15_what_comes_at_the_moment_of_an_eviction_is_served() {
    let server =
        Server::start(&["--debug-api", "--idle-timeout-seconds", "1", "--evict-idle-seconds", "1"]);
    let one = async |n: u64| {
        let conv_id = format!("c{n}");
        let mut session = Value::Null;
        for turn in 0..4 {
            let key = format!("k{turn}");
            let body = json!({"conv_id": conv_id, "prompt": "hi", "idempotency_key": key});
            let answer = server.post("/chat", &body).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let answer = answer.json();
            assert!(session.is_null() || session == answer["session_id"]);
            session = answer["session_id"].clone();
            replayed(&server, &body, "completed").await;
            tokio::time::sleep(Duration::from_micros(998_000 + n * 53)).await;
        }
        let entities = server.timeline_when(&conv_id, |_| true).await;
        assert_eq!(entities.len(), 8, "{entities:?}");
    };
    futures_util::future::join_all((0..48).map(one)).await;
}

#[tokio::test]
async fn c30_d17_the_run_behind_another_can_be_cancelled_at_once() {
    let (server, provider) = start(vec![held("a"), held("b")], &[]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p1", "k1")).await;
    let second = server.post("/chat", &prompt("p2", "k2")).await;
    assert_eq!(second.status, 202);
    provider.release.notify_one();
    socket.until("llm.start", 2).await;
    let cancelled = server.post("/api/chat/conversations/c/cancel", &json!({})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    let replay = replayed(&server, &prompt("p2", "k2"), "error").await;
    assert_eq!(
        (&replay["error"], &replay["turn_id"]),
        (&json!("cancelled"), &cancelled.json()["turn_id"])
    );
    replayed(&server, &prompt("p1", "k1"), "completed").await;
}

/// Somebody else holds the database: what is said goes on, and is stored afterwards.
#[tokio::test]
async fn c30_d43_a_stream_does_not_wait_for_a_slow_database() {
    let words: Vec<Value> =
        (0..40).flat_map(|n| [delta("content", &format!("w{n} ")), json!({"sleep": 30})]).collect();
    let mut script = words;
    script.extend(crate::provider::end("stop"));
    let (server, _provider) = start(vec![script.into()], &[]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p1", "k1")).await;
    socket.until("llm.delta", 1).await;
    let blocker = Connection::open(server.folder.path().join("data/chat.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    socket.until("llm.delta", 20).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    blocker.execute_batch("ROLLBACK").unwrap();
    socket.until("llm.final", 1).await;
    let entities =
        server.timeline_when("c", |e| e.len() == 2 && e[1]["props"]["streaming"] == false).await;
    socket.check_stream(&entities);
}

#[tokio::test]
async fn a_prompt_that_is_huge_is_taken_up_to_its_limit_and_refused_beyond() {
    let (server, provider) = start(vec![saying(&["ok"]), saying(&["ok"])], &[]).await;
    let most = "\u{1}x".repeat(512 * 1024);
    let answer = server.post("/chat", &prompt(&most, "k1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    server.timeline_when("c", |e| e.len() == 2 && e[1]["props"]["streaming"] == false).await;
    assert_eq!(told(&provider, 0)[0].1.len(), 1024 * 1024);
    let refused = server.post("/chat", &prompt(&format!("{most}x"), "k2")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body.trim(), "validation error (prompt): must be at most 1048576 bytes");
}
