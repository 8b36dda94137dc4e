//! Defects of chapter 30 about frames and sockets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::provider::{delta, end};
use crate::requests::{prompt, replayed, start};
use crate::server::Server;
use crate::socket::Socket;

/// An answer of so many words, slowly.
fn slow(words: usize) -> Value {
    let said = (0..words).flat_map(|n| [delta("content", &format!("w{n} ")), json!({"sleep": 5})]);
    said.chain(end("stop")).collect()
}

#[tokio::test]
async fn c30_d1_c30_d2_c30_d29_sockets_come_and_go_in_mid_answer_and_nothing_stops() {
    let (server, _provider) = start(vec![slow(200)], &[]).await;
    let mut watcher = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    watcher.until("llm.delta", 1).await;
    let churn = async {
        for n in 0..60 {
            let mut socket = Socket::open(&server, "conv_id=c").await;
            let first = socket.next().await.unwrap();
            assert_eq!(first["type"], "ws.hello", "{first}");
            if n % 2 == 0 {
                socket.next().await;
            }
            drop(socket);
            assert_eq!(server.get(&format!("/api/timeline?conv_id=other{n}")).await.status, 200);
        }
    };
    tokio::join!(churn, watcher.until("llm.final", 1));
    let entities =
        server.timeline_when("c", |e| e.len() == 2 && e[1]["props"]["streaming"] == false).await;
    watcher.next().await;
    watcher.check_stream(&entities);
}

#[tokio::test]
async fn c30_d16_every_frame_comes_once_however_often_sockets_come_back() {
    let (server, _provider) =
        start(vec![slow(60), slow(5)], &["--idle-timeout-seconds", "1"]).await;
    let mut watcher = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    watcher.until("llm.delta", 1).await;
    let mut all = watcher.seen.clone();
    for _ in 0..5 {
        let last = all.iter().filter_map(|event| event["seq"].as_u64()).max().unwrap();
        watcher = Socket::open(&server, &format!("conv_id=c&since_seq={last}")).await;
        watcher.until("llm.delta", 2).await;
        all.append(&mut watcher.seen);
    }
    watcher.until("llm.final", 1).await;
    watcher.next().await;
    all.append(&mut watcher.seen);
    let numbers: Vec<u64> = all.iter().filter_map(|event| event["seq"].as_u64()).collect();
    let once: Vec<u64> = (numbers[0]..numbers[0] + numbers.len() as u64).collect();
    assert_eq!(numbers, once);
}

#[tokio::test]
async fn c30_d35_upserts_carry_their_times() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    socket.until("timeline.upsert", 3).await;
    for upsert in socket.of("timeline.upsert") {
        let entity = &upsert["data"]["entity"];
        for key in ["createdAtMs", "updatedAtMs"] {
            assert!(
                entity[key].as_str().unwrap().parse::<u64>().unwrap() > 1_600_000_000_000,
                "{upsert}"
            );
        }
        assert_eq!(upsert["data"]["version"], upsert["seq"].to_string());
    }
}

/// Memory is that of the frames that wait for the one that does not read, for as long as a write may take.
#[tokio::test]
async fn c30_d28_a_socket_that_does_not_read_is_let_go_and_delays_nobody() {
    let part = "x".repeat(4_000);
    let said = (0..150).flat_map(|_| [delta("content", &part), json!({"sleep": 30})]);
    let (server, _provider) = start(vec![said.chain(end("stop")).collect()], &[]).await;
    let mut stuck = Socket::open(&server, "conv_id=c").await;
    let mut other = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    stuck.until("ws.hello", 1).await;
    server.post("/chat", &prompt("p", "k")).await;
    let started = Instant::now();
    other.until("llm.final", 1).await;
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.get("/api/debug/conversations/c").await.json()["active_sockets"] != 1 {
        assert!(Instant::now() < deadline, "it is held for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while stuck.next().await.is_some() {}
    let numbers = stuck.numbers();
    let once: Vec<u64> = (numbers[0]..numbers[0] + numbers.len() as u64).collect();
    assert_eq!(numbers, once, "no frame is left out before the end");
}

#[tokio::test]
async fn c30_d30_a_message_that_is_too_large_closes_its_socket_and_no_other() {
    let server = Server::start(&[]);
    let mut other = Socket::open(&server, "conv_id=c").await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    socket.send(&"x".repeat(20_000)).await;
    while socket.next().await.is_some() {}
    other.send("ping").await;
    other.until("ws.pong", 1).await;
}

#[tokio::test]
async fn a_conversation_that_never_ran_shows_the_profile_of_its_socket() {
    let server = Server::start(&["--debug-api"]);
    let mut socket = Socket::open(&server, "conv_id=c&profile=agent").await;
    socket.until("ws.hello", 1).await;
    assert_eq!(socket.seen[0]["data"]["runtimeKey"], "agent");
    let live = server.get("/api/debug/conversations/c").await.json();
    assert_eq!(live["current_runtime_key"], "agent");
}

#[tokio::test]
async fn c30_d56_looking_at_a_conversation_does_not_make_one() {
    let server =
        Server::start(&["--debug-api", "--idle-timeout-seconds", "1", "--evict-idle-seconds", "1"]);
    let mut socket = Socket::open(&server, "conv_id=c&profile=agent").await;
    socket.until("ws.hello", 1).await;
    let live = server.get("/api/debug/conversations/c").await.json();
    assert_eq!(live["source"], "live");
    assert_eq!(server.get("/api/chat/conversations").await.json(), json!([]));
    drop(socket);
    let deadline = Instant::now() + Duration::from_secs(15);
    while server.get("/api/debug/conversations/c").await.status != 404 {
        assert!(Instant::now() < deadline, "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn c30_d39_c30_d53_held_frames_are_paged_by_their_numbers() {
    let server = Server::start(&["--debug-api"]);
    let conv_id = "a%2Fb";
    let body = json!({"conv_id": conv_id, "prompt": "hi", "idempotency_key": "k"});
    server.post("/chat", &body).await;
    replayed(&server, &body, "completed").await;
    let path = "/api/debug/events/a%252Fb";
    let all = server.get(path).await.json();
    assert_eq!(all["conv_id"], conv_id, "decoded once");
    let all = all["items"].as_array().unwrap();
    let mut paged = Vec::new();
    let mut since = 0;
    loop {
        let page = server.get(&format!("{path}?limit=2&since_seq={since}")).await.json();
        let items = page["items"].as_array().unwrap().clone();
        let Some(last) = items.last() else { break };
        since = last["seq"].as_u64().unwrap();
        paged.extend(items);
    }
    assert_eq!(&paged, all);
    let shown = server.get("/api/debug/conversations/a%252Fb").await.json();
    assert_eq!(shown["buffered_events"], all.len());
}

#[tokio::test]
async fn ids_of_any_kind_name_one_conversation_everywhere() {
    let server = Server::start(&["--debug-api"]);
    let ids = [
        "\u{1f980}\u{e9}\u{65e5}",
        "a/b/../c",
        "..",
        "%2e",
        "a b+c&d=e",
        "x\ny",
        "\u{0}z",
        &"l".repeat(256),
    ];
    for id in ids {
        let encoded = id.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let mut socket = Socket::open(&server, &format!("conv_id={encoded}")).await;
        let body = json!({"conv_id": id, "prompt": "hi", "idempotency_key": "k"});
        let answer = server.post("/chat", &body).await;
        assert_eq!((answer.status, &answer.json()["conv_id"]), (200, &json!(id)));
        socket.until("llm.final", 1).await;
        let entities = server
            .timeline_when(&encoded, |e| e.len() == 2 && e[1]["props"]["streaming"] == false)
            .await;
        socket.next().await;
        socket.check_stream(&entities);
        let path = format!("/api/chat/conversations/{encoded}");
        assert_eq!(server.get(&format!("{path}/queue")).await.status, 200, "{id:?}");
        replayed(&server, &body, "completed").await;
        assert_eq!(server.request("DELETE", &path, "", "").await.status, 204, "{id:?}");
    }
    let long = "l".repeat(257);
    assert_eq!(server.post("/chat", &json!({"conv_id": long, "prompt": "x"})).await.status, 400);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_answered_with_1009() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    socket.send(&"x".repeat(20_000)).await;
    while socket.next().await.is_some() {}
    assert_eq!(socket.closed, Some(1009));
}
