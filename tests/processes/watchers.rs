//! Watchers come and go in mid-answer: whoever hydrates at any moment, or comes back with the last number, misses nothing
//! and sees nothing twice. The turn belongs to the server (F24).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::provider::{Provider, delta, end, saying};
use crate::server::Server;
use crate::socket::Socket;

fn ended(count: usize) -> impl Fn(&[Value]) -> bool {
    move |entities| {
        let answers = entities.iter().filter(|e| e["props"]["role"] == "assistant");
        answers.filter(|e| e["props"]["streaming"] == false).count() == count
    }
}

/// Hydrates until told to stop.
async fn hydrate(server: &Server, conv_id: &str, stop: &AtomicBool) -> Vec<Value> {
    let mut snapshots = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        snapshots.push(server.get(&format!("/api/timeline?conv_id={conv_id}")).await.json());
        tokio::time::sleep(Duration::from_millis(snapshots.len() as u64 % 7)).await;
    }
    snapshots
}

/// Watches an answer with both dialects and hydrates all the while; then checks every stream from every snapshot.
async fn watch(server: &Server, body: &Value, finals: usize) -> usize {
    let mut plain = Socket::open(server, "conv_id=c").await;
    let mut lean = Socket::open(server, "conv_id=c&deltas=incremental").await;
    lean.until("ws.hello", 1).await;
    plain.until("ws.hello", 1).await;
    let stop = AtomicBool::new(false);
    let answer = server.post("/chat", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let watching = async {
        tokio::join!(plain.until("llm.final", finals), lean.until("llm.final", finals));
        let is_end = |e: &Value| {
            e["type"] == "timeline.upsert" && e["data"]["entity"]["props"]["streaming"] == false
        };
        for socket in [&mut plain, &mut lean] {
            while !socket.seen.last().is_some_and(is_end) {
                socket.next().await.expect("the end of the last message");
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (snapshots, ()) = tokio::join!(hydrate(server, "c", &stop), watching);
    let entities = server.timeline_when("c", ended(finals)).await;
    for socket in [&plain, &lean] {
        socket.check_stream(&entities);
        for snapshot in &snapshots {
            socket.check_hydrated(snapshot, &entities);
        }
    }
    let numbers = plain.numbers();
    let range: Vec<u64> = (numbers[0]..=numbers[numbers.len() - 1]).collect();
    assert_eq!(numbers, range, "contract sockets get every number");
    snapshots.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_of_the_demo_model_is_the_same_from_any_moment_on() {
    let server = Server::start(&["--demo-pace-ms", "1"]);
    let prompt = (0..1_500).map(|n| format!("word{n} ")).collect::<Vec<_>>().concat();
    let profile = json!({"slug": "long", "runtime": {"system_prompt": prompt}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let body = json!({"conv_id": "c", "prompt": "hi", "profile": "long"});
    let hydrated = watch(&server, &body, 1).await;
    assert!(hydrated > 20, "hydrated {hydrated} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_small_deltas_around_a_tool_are_the_same_from_any_moment_on() {
    let mut first: Vec<Value> =
        (0..500).map(|n| delta("reasoning_content", &format!("t{n} "))).collect();
    first.extend((0..1_000).map(|n| delta("content", &format!("a{n}\u{e9} "))));
    let first: Vec<Value> =
        first.chunks(10).flat_map(|ten| ten.iter().cloned().chain([json!({"sleep": 5})])).collect();
    let arguments = json!({"a": 1, "b": 2}).to_string();
    let call = json!({"data": {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_1",
        "type": "function", "function": {"name": "calc", "arguments": arguments}}]}}]}});
    let first: Value = first.into_iter().chain([call]).chain(end("tool_calls")).collect();
    let second: Vec<Value> =
        (0..500).flat_map(|n| [delta("content", &format!("b{n} ")), json!({"sleep": 1})]).collect();
    let second: Value = second.into_iter().chain(end("stop")).collect();
    let provider = Provider::start(vec![first, second]).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let profile = json!({"slug": "tools", "runtime": {"tools": ["calculator"]}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let body = json!({"conv_id": "c", "prompt": "hi", "profile": "tools"});
    let hydrated = watch(&server, &body, 2).await;
    assert!(hydrated > 20, "hydrated {hydrated} times");
    let entities = server.timeline_when("c", ended(2)).await;
    let roles: Vec<&Value> =
        entities.iter().filter(|e| e["kind"] == "message").map(|e| &e["props"]["role"]).collect();
    assert_eq!(roles, ["user", "thinking", "assistant", "assistant"]);
}

#[tokio::test]
async fn c30_d13_a_turn_that_nobody_watches_any_more_finishes_and_a_watcher_that_returns_misses_nothing()
 {
    let texts: Vec<String> = (0..40).map(|n| format!("w{n} ")).collect();
    let mut script: Vec<Value> =
        texts.iter().flat_map(|t| [delta("content", t), json!({"sleep": 5})]).collect();
    script.insert(20, json!({"wait": true}));
    let script: Value = script.into_iter().chain(end("stop")).collect();
    let provider = Provider::start(vec![script]).await;
    let server = Server::start(&[
        "--openai-base-url",
        &provider.url,
        "--evict-idle-seconds",
        "1",
        "--idle-timeout-seconds",
        "1",
    ]);
    let mut first = Socket::open(&server, "conv_id=c").await;
    let mut lean = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    first.until("llm.delta", 2).await;
    lean.until("llm.delta", 1).await;
    let last = *first.numbers().last().unwrap();
    let last_lean = *lean.numbers().last().unwrap();
    let (before, before_lean) = (first.seen.clone(), lean.seen.clone());
    drop((first, lean));
    // Longer than the patience of a conversation that nobody uses: a run is use.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    provider.release.notify_one();
    let entities = server.timeline_when("c", ended(1)).await;
    assert_eq!(entities.last().unwrap()["props"]["content"], texts.concat());

    for (query, last, before) in
        [("", last, before), ("&deltas=incremental", last_lean, before_lean)]
    {
        let mut back = Socket::open(&server, &format!("conv_id=c&since_seq={last}{query}")).await;
        back.until("llm.final", 1).await;
        back.next().await.expect("the end of the message");
        assert!(back.numbers()[0] > last);
        back.seen.retain(|event| event["type"] != "ws.hello");
        back.seen.splice(0..0, before);
        back.check_stream(&entities);
    }
}

#[tokio::test]
async fn who_was_away_for_longer_than_frames_are_held_is_told_so_and_hydrates() {
    let script: Vec<Value> = (0..1_200).map(|_| saying(&["x"])).collect();
    let provider = Provider::start(script).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let mut away = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    away.until("llm.final", 1).await;
    let last = *away.numbers().last().unwrap();
    drop(away);
    let mut newest = Socket::open(&server, "conv_id=c").await;
    for turn in 1..=200 {
        server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
        newest.until("llm.final", turn).await;
    }
    let mut back = Socket::open(&server, &format!("conv_id=c&since_seq={last}")).await;
    back.until("ws.resync", 1).await;
    let version: u64 =
        back.of("ws.resync")[0]["data"]["version"].as_str().unwrap().parse().unwrap();
    let snapshot = server.get("/api/timeline?conv_id=c").await.json();
    assert!(snapshot["version"].as_str().unwrap().parse::<u64>().unwrap() <= version);
    server.post("/chat", &json!({"conv_id": "c", "prompt": "last"})).await;
    back.until("llm.final", 1).await;
    back.next().await.expect("the end of the message");
    back.check_hydrated(&snapshot, &server.timeline_when("c", ended(202)).await);
}
