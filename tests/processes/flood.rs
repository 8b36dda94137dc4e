//! F21 and F22: one conversation floods, or a hundred want everything at once. The others are answered meanwhile, and
//! memory is bounded by what was said.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::provider_refusals::watched;
use crate::raw::{Act, DONE, Raw, STREAM, calls, event, finish, says, send, stream};
use crate::requests::replayed;
use crate::server::Server;
use crate::socket::Socket;

/// Runs until its time is over.
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

/// The most memory that the server ever had, in KiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One turn of another conversation, and how long it took.
async fn turn(server: &Server, name: &str) -> Duration {
    let started = Instant::now();
    let mut socket = Socket::open(server, &format!("conv_id={name}")).await;
    let answer = server.post("/chat", &json!({"conv_id": name, "prompt": name})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    socket.until("llm.final", 1).await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_a_flood_of_deltas_holds_up_nobody_and_takes_memory_for_its_text_alone() {
    const DELTAS: usize = 200_000;
    let end = send(format!("{}{DONE}", finish("stop")));
    let flood = vec![
        send(STREAM),
        send(says("begin ")),
        Act::Wait,
        Act::Flood(says("x").into(), DELTAS),
        end,
    ];
    let provider = Raw::start([("flood", vec![flood])]).await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    for n in 0..10 {
        turn(&server, &format!("before-{n}")).await;
    }
    let (mut plain, body) = watched(&server, "flood").await;
    let mut lean = Socket::open(&server, "conv_id=flood&deltas=incremental").await;
    server.post("/chat", &body).await;
    plain.until("llm.delta", 1).await;
    let before = peak(&server);
    provider.release.notify_one();
    let others = async {
        let (mut slowest, mut turns) = (Duration::ZERO, 0);
        while server.post("/chat", &body).await.json()["status"] == "started" {
            slowest = slowest.max(turn(&server, &format!("during-{turns}")).await);
            turns += 1;
        }
        (slowest, turns)
    };
    // One that hears the whole text again and again may be told to come back; increments are heard to the end.
    let hear = async { while plain.of("llm.final").is_empty() && plain.next().await.is_some() {} };
    let ((slowest, turns), (), ()) = tokio::join!(others, lean.until("llm.final", 1), hear);
    // One after the other while the flood goes on: none waits for its end.
    assert!(turns >= 5, "{turns} other turns in the time of the flood, {slowest:?} the slowest");
    replayed(&server, &body, "completed").await;
    let entities = server.timeline_when("flood", |e| e.len() == 2).await;
    let text = entities[1]["props"]["content"].as_str().unwrap();
    assert!(text == format!("begin {}", "x".repeat(DELTAS)), "{} bytes", text.len());
    lean.check_stream(&entities);
    if plain.closed.is_none() {
        plain.check_stream(&entities);
    }
    let grown = peak(&server) - before;
    assert!(grown < 64 * 1024, "{grown} KiB for {DELTAS} deltas");
}

/// A server with both tools, whose queries may take this long.
async fn with_tools(provider: &Raw, millis: u64) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let sql = folder.path().join("sql.db");
    let connection = rusqlite::Connection::open(&sql).unwrap();
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (42)").unwrap();
    let args = ["--openai-base-url", &provider.url, "--sql-tool-db", sql.to_str().unwrap()];
    let server = Server::start(&args);
    let profile = json!({"slug": "tools", "set_default": true,
        "runtime": {"tools": ["calculator"], "middlewares": [{"name": "sqlite", "id": "s"}]},
        "extensions": {"middleware.sqlite_config@v1": {"instances": {"id:s": {"execution_timeout_ms": millis}}}}});
    let made = server.post("/api/chat/profiles", &profile).await;
    assert_eq!(made.status, 201, "{}", made.body);
    (server, folder)
}

/// What the model was told of its calls, in order.
fn results(provider: &Raw, prompt: &str) -> Vec<(String, String)> {
    let told = provider.requests(prompt)[1]["messages"].clone();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let tools = told.as_array().unwrap().iter().filter(|m| m["role"] == "tool");
    tools.map(|m| (text(m, "tool_call_id"), text(m, "content"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_hundred_calls_of_one_answer_run_three_at_a_time_and_keep_their_order() {
    let call = |n: usize| {
        let arguments = json!({"a": n, "b": 1}).to_string();
        let call = json!([{"index": n, "id": format!("call_{n}"), "type": "function",
            "function": {"name": "calc", "arguments": arguments}}]);
        event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": call}}]}))
    };
    let asked: String = (0..100).map(call).collect();
    let asks = stream(&[&asked, &finish("tool_calls"), DONE]);
    let says = stream(&[&says("done"), &finish("stop"), DONE]);
    let provider = Raw::start([("many", vec![asks, says])]).await;
    let (server, _folder) = with_tools(&provider, 1_000).await;
    let (mut socket, body) = watched(&server, "many").await;
    server.post("/chat", &body).await;
    replayed(&server, &body, "completed").await;
    let expected: Vec<(String, String)> =
        (0..100).map(|n| (format!("call_{n}"), json!({"result": n + 1}).to_string())).collect();
    assert_eq!(results(&provider, "many"), expected);
    socket.until("llm.final", 2).await;
    let (mut running, mut most) = (0, 0);
    for event in &socket.seen {
        match event["type"].as_str().unwrap() {
            "tool.delta" => running += 1,
            "tool.done" => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    assert_eq!((running, most), (0, 3), "all ended, and never more at once");
    for kind in ["tool.start", "tool.delta", "tool.result", "tool.done"] {
        assert_eq!(socket.of(kind).len(), 100, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_hundred_conversations_with_endless_queries_end_in_time_and_hold_up_nobody() {
    let names: Vec<&'static str> = (0..100).map(|n| &*format!("c{n}").leak()).collect();
    let query = json!({ "sql": ENDLESS }).to_string();
    let script = names.iter().map(|name| {
        let asks = stream(&[&calls("call_0", "sql_query", &query), &finish("tool_calls"), DONE]);
        (*name, vec![asks, stream(&[&says("done"), &finish("stop"), DONE])])
    });
    let provider = Raw::start(script).await;
    let (server, _folder) = with_tools(&provider, 200).await;
    turn(&server, "before").await;
    let before = peak(&server);
    let body = |name: &str| json!({"conv_id": name, "prompt": name, "idempotency_key": "k"});
    let started = Instant::now();
    join_all(names.iter().map(async |name| {
        assert_eq!(server.post("/chat", &body(name)).await.status, 200);
    }))
    .await;
    let meanwhile = turn(&server, "meanwhile").await;
    // They run a few at a time, in the order in which the provider happened to ask for them.
    let state =
        async |name: &&str| server.post("/chat", &body(name)).await.json()["status"].clone();
    let states = join_all(names.iter().map(state)).await;
    let running = states.iter().filter(|state| **state == "started").count();
    assert!(running > 50, "{running} of the hundred beside a turn that took {meanwhile:?}");
    for name in &names {
        replayed(&server, &body(name), "completed").await;
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    for name in names {
        let told = results(&provider, name);
        assert!(told[0].1.contains("the query took longer than 200 ms"), "{name}: {told:?}");
    }
    let grown = peak(&server) - before;
    assert!(grown < 128 * 1024, "{grown} KiB for a hundred queries at once");
}
