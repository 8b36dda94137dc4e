//! Defects of chapter 30 that show after a reload, to a slow reader, or when the database is slow.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::provider::{delta, end, saying};
use crate::requests::{prompt, replayed, start};
use crate::server::Server;
use crate::socket::Socket;

const SWITCH: &str =
    "```yaml\nmode_switch:\n  analysis: stay here\n  new_mode: category_regexp_designer\n```";

/// An answer that thinks, switches the mode, counts tokens and is cut at its limit: everything that is shown beside text.
fn talkative() -> Value {
    let usage =
        json!({"data": {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}});
    let [last, done] = end("length");
    json!([delta("reasoning_content", "hm"), delta("content", SWITCH), last, usage, done])
}

/// What a client builds from the live frames of logs and modes: id, kind, props.
fn built(socket: &Socket) -> Vec<(Value, &'static str, Value)> {
    let mut built = Vec::new();
    for (frame, kind, keys) in [
        ("log", "log", &["level", "message", "fields"][..]),
        ("agent.mode", "agent_mode", &["title", "data"]),
    ] {
        for event in socket.of(frame) {
            let props = keys.iter().map(|key| ((*key).to_owned(), event["data"][*key].clone()));
            built.push((event["id"].clone(), kind, Value::Object(props.collect())));
        }
    }
    built
}

#[tokio::test]
async fn c30_d25_what_was_shown_beside_text_is_there_after_a_reload_and_a_restart() {
    let (mut server, _provider) = start(vec![talkative()], &[]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let mut body = prompt("p", "k");
    body["profile"] = "agent".into();
    server.post("/chat", &body).await;
    replayed(&server, &body, "completed").await;
    socket.until("log", 2).await;
    let built = built(&socket);
    let kinds: Vec<&str> = built.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["log", "log", "agent_mode"], "a remark, a warning, a switch");
    let live = server.timeline_when("c", |_| true).await;
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let again = Server::start(&["--data-dir", data.to_str().unwrap()]);
    let stored = again.timeline_when("c", |_| true).await;
    assert_eq!(stored, live);
    for (id, kind, props) in &built {
        let same: Vec<&Value> = stored.iter().filter(|e| e["id"] == *id).collect();
        assert_eq!(same.len(), 1, "{id}");
        assert_eq!((same[0]["kind"].as_str(), &same[0]["props"]), (Some(*kind), props));
    }
    let of = |role: &str| stored.iter().find(|e| e["props"]["role"] == role).unwrap();
    assert_eq!(of("thinking")["props"]["content"], "hm");
    let metadata = &of("assistant")["props"]["metadata"];
    assert_eq!(metadata["usage"], json!({"inputTokens": 7, "outputTokens": 3}));
    assert_eq!(metadata["stopReason"], "length");
}

#[tokio::test]
async fn c30_d60_frames_that_are_delivered_again_have_the_ids_that_they_had() {
    let (server, _provider) = start(vec![talkative(), json!([{"cut": true}])], &[]).await;
    let mut first = Socket::open(&server, "conv_id=c").await;
    let mut turns = Vec::new();
    for (n, status) in [(1, "completed"), (2, "error")] {
        let mut body = prompt(&format!("p{n}"), &format!("k{n}"));
        body["profile"] = "agent".into();
        let started = server.post("/chat", &body).await.json();
        turns.push(started["turn_id"].as_str().unwrap().to_owned());
        replayed(&server, &body, status).await;
    }
    // The end of the failed run, and the announcement of its log entry, which is the last frame of all.
    let is_end = |event: &Value| {
        event["type"] == "timeline.upsert" && event["id"] == format!("error-{}", turns[1])
    };
    while !first.seen.last().is_some_and(is_end) {
        first.next().await.unwrap();
    }
    let from = first.numbers()[0];
    let mut again = Socket::open(&server, &format!("conv_id=c&since_seq={from}")).await;
    while !again.seen.last().is_some_and(is_end) {
        again.next().await.unwrap();
    }
    assert_eq!(again.seen[1..], first.seen[2..], "all but the hello and the first frame");
    let entities = server.timeline_when("c", |_| true).await;
    let noted: Vec<&Value> =
        first.of("log").into_iter().chain(first.of("agent.mode")).map(|e| &e["id"]).collect();
    assert_eq!(noted.len(), 5, "{noted:?}");
    for id in noted {
        let text = id.as_str().unwrap();
        assert!(turns.iter().any(|turn| text.contains(turn)), "{id} follows from its turn");
        assert_eq!(entities.iter().filter(|e| e["id"] == *id).count(), 1, "{id}");
    }
}

/// Somebody else holds the database: one prompt waits for it, and nobody waits for the prompt.
#[tokio::test]
async fn c30_d48_a_prompt_that_waits_for_the_disk_holds_up_nothing_that_needs_no_disk() {
    let held: Value = [delta("content", "a"), json!({"wait": true}), delta("content", "b")]
        .into_iter()
        .chain(end("stop"))
        .collect();
    let (server, provider) = start(vec![held, saying(&["x"])], &[]).await;
    let mut other = Socket::open(&server, "conv_id=other").await;
    let body = json!({"conv_id": "other", "prompt": "p", "idempotency_key": "k"});
    server.post("/chat", &body).await;
    other.until("llm.delta", 1).await;
    let blocker = Connection::open(server.folder.path().join("data/chat.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = prompt("p", "k");
    let waiting = server.post("/chat", &waiting);
    tokio::pin!(waiting);
    let others = async {
        for path in [
            "/api/chat/profiles",
            "/api/chat/profile",
            "/api/chat/conversations",
            "/api/debug/conversations",
            "/api/debug/events/other",
            "/api/timeline?conv_id=nobody",
        ] {
            assert_eq!(server.get(path).await.status, 200, "{path}");
        }
        assert_eq!(server.post("/chat", &body).await.json()["status"], "started", "a replay");
        let mut late = Socket::open(&server, "conv_id=other").await;
        late.until("ws.hello", 1).await;
        provider.release.notify_one();
        other.until("llm.delta", 2).await;
    };
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("a prompt was acknowledged that is not stored"),
        done = tokio::time::timeout(Duration::from_secs(4), others) => done.expect("others go on"),
    }
    blocker.execute_batch("ROLLBACK").unwrap();
    let answer = waiting.await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    replayed(&server, &body, "completed").await;
}

/// The deadlines of a request are 15 s; they are for its head and its body, not for the one who reads the answer.
#[tokio::test]
async fn c30_d59_a_large_timeline_reaches_a_reader_that_is_slower_than_any_deadline() {
    let script = (0..8).map(|_| saying(&["x"])).collect();
    let (server, _provider) = start(script, &[]).await;
    let text = "t".repeat(1024 * 1024);
    for n in 0..8 {
        let body = prompt(&text, &format!("k{n}"));
        assert_eq!(server.post("/chat", &body).await.status, 200);
        replayed(&server, &body, "completed").await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(server.address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /api/timeline?conv_id=c HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // The slowness is what is tested; the kernel's buffers hold half of the answer at most.
    tokio::time::sleep(Duration::from_secs(17)).await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    let (_, body) = rest.split_once("\r\n\r\n").unwrap();
    let snapshot: Value = serde_json::from_str(body).expect("the whole answer");
    assert_eq!(snapshot["entities"].as_array().unwrap().len(), 16);
}

/// The same for conversations that nobody has opened yet: their frames and timelines are readable without a write.
#[tokio::test]
async fn c30_d48_a_conversation_is_opened_while_another_one_waits_for_the_disk() {
    let (server, _provider) = start(vec![saying(&["x"])], &[]).await;
    let blocker = Connection::open(server.folder.path().join("data/chat.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = prompt("p", "k");
    let waiting = server.post("/chat", &body);
    tokio::pin!(waiting);
    let others = async {
        while server.get("/api/debug/conversations/c").await.status != 200 {}
        let mut fresh = Socket::open(&server, "conv_id=fresh").await;
        fresh.until("ws.hello", 1).await;
        assert_eq!(server.get("/api/timeline?conv_id=fresh").await.status, 200);
    };
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("a prompt was acknowledged that is not stored"),
        done = tokio::time::timeout(Duration::from_secs(4), others) => done.expect("others go on"),
    }
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(waiting.await.status, 200);
}
