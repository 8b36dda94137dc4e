//! Many conversations, and one long one: nothing is lost, memory and storage are bounded.

use std::path::Path;

use serde_json::{Value, json};

use crate::provider::{delta, end};
use crate::requests::{replayed, start};
use crate::server::Server;
use crate::socket::Socket;

/// Resident memory of the server in KiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One turn, watched; the socket is gone the moment the answer ends.
async fn one(server: &Server, name: &str) {
    let mut socket = Socket::open(server, &format!("conv_id={name}")).await;
    let body = json!({"conv_id": name, "prompt": format!("I am {name}")});
    assert_eq!(server.post("/chat", &body).await.status, 200);
    socket.until("llm.final", 1).await;
    drop(socket);
}

async fn round(server: &Server, names: &[String]) {
    for eight in names.chunks(8) {
        futures_util::future::join_all(eight.iter().map(|name| one(server, name))).await;
    }
}

#[tokio::test]
async fn c30_d18_six_hundred_conversations_are_all_kept_and_memory_is_bounded() {
    let server =
        Server::start(&["--debug-api", "--evict-idle-seconds", "1", "--idle-timeout-seconds", "1"]);
    let names: Vec<String> = (0..600).map(|n| format!("c-{n}")).collect();
    let (warm, rest) = names.split_at(100);
    round(&server, warm).await;
    let before = resident(&server);
    round(&server, rest).await;
    let after = resident(&server);
    for name in &names {
        let entities = server.timeline_when(name, |entities| entities.len() == 2).await;
        assert_eq!(entities[0]["props"]["content"], format!("I am {name}"));
        let answer = entities[1]["props"]["content"].as_str().unwrap();
        assert!(answer.contains(&format!("you said \"I am {name}\"")), "{answer}");
        assert_eq!(entities[1]["props"]["streaming"], false);
    }
    let listed = server.get("/api/chat/conversations?limit=1000").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 600);
    assert!(after < before + 30 * 1024, "{before} KiB after 100, {after} KiB after 600");
}

/// Bytes of the database and of its log.
fn stored(folder: &Path) -> u64 {
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
    size("chat.db") + size("chat.db-wal")
}

/// Bytes after so many turns of one conversation and a graceful stop, which checkpoints: of the file alone.
async fn after(turns: usize) -> u64 {
    let mut server = Server::start(&[]);
    for turn in 0..turns {
        let body = json!({"conv_id": "c", "prompt": "hi", "idempotency_key": format!("k{turn}")});
        assert_eq!(server.post("/chat", &body).await.status, 200);
        replayed(&server, &body, "completed").await;
    }
    let entities = server.timeline_when("c", |_| true).await;
    assert_eq!(entities.len(), 2 * turns);
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    stored(&server.folder.path().join("data"))
}

#[tokio::test]
async fn c30_d37_storage_grows_with_what_is_said_and_not_with_its_square() {
    let (empty, two, some, many) = tokio::join!(after(0), after(2), after(60), after(120));
    let sizes = format!("{empty} bytes of nothing, {two} of 2 turns, {some} of 60, {many} of 120");
    assert!(many <= 60 * two, "{sizes}");
    assert!(many - some <= (some - empty) * 3 / 2, "{sizes}");
}

#[tokio::test]
async fn c30_d26_an_incremental_socket_gets_bytes_in_proportion_to_the_text() {
    let server = Server::start(&["--demo-pace-ms", "1"]);
    let long = (0..3_000).map(|n| format!("word{n} ")).collect::<Vec<_>>().concat();
    let profile = json!({"slug": "long", "runtime": {"system_prompt": long}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let mut socket = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    let body = json!({"conv_id": "c", "prompt": "hi", "profile": "long"});
    server.post("/chat", &body).await;
    socket.until("llm.final", 1).await;
    let bytes: usize = socket.seen.iter().map(|event: &Value| event.to_string().len()).sum();
    let deltas = socket.of("llm.delta").len();
    assert!(bytes < 4 * long.len() + 600 * deltas, "{bytes} bytes, {deltas} deltas");
    assert!(deltas < 600, "3,000 words in {deltas} deltas");
}

/// Contract sockets get the whole text again and again: those that do not read must not make the server keep it all.
#[tokio::test]
async fn c30_d28_what_waits_for_a_socket_that_does_not_read_is_bounded_in_bytes() {
    let part = "x".repeat(2_500);
    let said = (0..400).flat_map(|_| [delta("content", &part), json!({"sleep": 26})]);
    let (server, _provider) = start(vec![said.chain(end("stop")).collect()], &[]).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut socket = Socket::open(&server, "conv_id=c").await;
        socket.until("ws.hello", 1).await;
        stuck.push(socket);
    }
    let before = resident(&server);
    let mut other = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "p"})).await;
    other.until("llm.final", 1).await;
    let after = resident(&server);
    assert!(after < before + 128 * 1024, "{before} KiB before, {after} KiB after 1 MB of answer");
}
