//! F24: watchers that read a byte at a time or not at all, that stop talking, or that come back ten times a second. Nobody
//! else notices, what waits for them is bounded, and what they rebuild is the text.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::provider::{delta, end};
use crate::requests::{prompt, start};
use crate::server::Server;
use crate::socket::Socket;

/// A watcher with a small receive buffer that has sent its handshake, and whatever it may do next.
async fn watcher(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(server.address.parse().unwrap()).await.unwrap();
    let head = format!(
        "GET /ws?conv_id=c HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

async fn sockets(server: &Server) -> u64 {
    let shown = server.get("/api/debug/conversations/c").await;
    if shown.status == 404 { 0 } else { shown.json()["active_sockets"].as_u64().unwrap() }
}

async fn until_left(server: &Server, left: u64, patience: Duration) {
    let deadline = Instant::now() + patience;
    while sockets(server).await != left {
        assert!(Instant::now() < deadline, "{} sockets are held", sockets(server).await);
        sleep(Duration::from_millis(50)).await;
    }
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn ended(entities: &[Value]) -> bool {
    entities.last().is_some_and(|e| e["props"]["streaming"] == false && e["kind"] == "message")
        && entities.len() == 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_sockets_that_read_slowly_or_never_are_let_go_in_bounded_memory_and_delay_nobody() {
    let part = "x".repeat(4_000);
    let said = (0..150).flat_map(|_| [delta("content", &part), json!({"sleep": 30})]);
    let (server, _provider) = start(vec![said.chain(end("stop")).collect()], &[]).await;
    let mut lean = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    let mut plain = Socket::open(&server, "conv_id=c").await;
    lean.until("ws.hello", 1).await;
    plain.until("ws.hello", 1).await;
    let held = descriptors(&server);
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(watcher(&server).await);
    }
    let never = watcher(&server).await;
    // Its own half of the connection is over, the other is not: it is still there, for all that the server knows.
    let mut deaf = watcher(&server).await;
    deaf.shutdown().await.unwrap();
    let before = resident(&server);
    let reading = slow.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            // A byte a second, as the fault has it, until the server has had enough.
            while stream.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        })
    });
    let reading: Vec<_> = reading.collect();
    let started = Instant::now();
    assert_eq!(server.post("/chat", &prompt("p", "k")).await.status, 200);
    tokio::join!(lean.until("llm.final", 1), plain.until("llm.final", 1));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?} for an answer of 4.5 s");
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB for seven sockets that do not read");
    let entities = server.timeline_when("c", ended).await;
    for socket in [&mut lean, &mut plain] {
        socket.next().await.expect("the end of the message");
        socket.check_stream(&entities);
    }
    until_left(&server, 2, Duration::from_secs(25)).await;
    let deadline = Instant::now() + Duration::from_secs(25);
    while descriptors(&server) > held {
        assert!(Instant::now() < deadline, "their connections are held");
        sleep(Duration::from_millis(50)).await;
    }
    reading.iter().for_each(tokio::task::JoinHandle::abort);
    drop(never);
}

/// Comes back with its last number whenever it was there for a moment, until it has heard the end.
async fn restless(server: &Server, dialect: &str) -> (Socket, usize) {
    let mut all = Vec::new();
    let (mut last, mut visits) = (0, 0);
    loop {
        let mut socket =
            Socket::open(server, &format!("conv_id=c{dialect}&since_seq={last}")).await;
        visits += 1;
        let until = Instant::now() + Duration::from_millis(100);
        let is_over = loop {
            match timeout(until - Instant::now(), socket.next()).await {
                Ok(Some(event)) if is_end(&event) => break true,
                Ok(Some(_)) if Instant::now() < until => {}
                Ok(None) => panic!("closed: {:?}", socket.closed),
                _ => break false,
            }
        };
        assert_eq!(socket.seen.remove(0)["type"], "ws.hello");
        assert!(socket.of("ws.resync").is_empty(), "what it missed is still held");
        last = socket.numbers().last().copied().unwrap_or(last);
        all.append(&mut socket.seen);
        if is_over {
            socket.seen = all;
            return (socket, visits);
        }
    }
}

fn is_end(event: &Value) -> bool {
    let props = &event["data"]["entity"]["props"];
    event["type"] == "timeline.upsert"
        && props["role"] == "assistant"
        && props["streaming"] == false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_who_comes_back_ten_times_a_second_rebuilds_the_text_without_a_gap_or_a_double() {
    let said =
        (0..1_000).flat_map(|n| [delta("content", &format!("w{n}\u{e9} ")), json!({"sleep": 3})]);
    let (server, _provider) = start(vec![said.chain(end("stop")).collect()], &[]).await;
    let mut steady = Socket::open(&server, "conv_id=c").await;
    steady.until("ws.hello", 1).await;
    let hear = async {
        steady.until("llm.final", 1).await;
        while !is_end(&steady.next().await.expect("the end")) {}
    };
    let ask = async {
        assert_eq!(server.post("/chat", &prompt("p", "k")).await.status, 200);
    };
    let ((plain, visits), (lean, lean_visits), (), ()) =
        tokio::join!(restless(&server, ""), restless(&server, "&deltas=incremental"), hear, ask);
    assert!(visits >= 24 && lean_visits >= 24, "{visits} and {lean_visits} visits");
    let entities = server.timeline_when("c", ended).await;
    let words: Vec<String> = (0..1_000).map(|n| format!("w{n}\u{e9} ")).collect();
    assert_eq!(entities[1]["props"]["content"], words.concat());
    steady.check_stream(&entities);
    plain.check_stream(&entities);
    lean.check_stream(&entities);
    let numbers = plain.numbers();
    let range: Vec<u64> = (numbers[0]..=numbers[numbers.len() - 1]).collect();
    assert_eq!(numbers, range, "every number once");
    assert_eq!(plain.seen, steady.seen[1..], "what one heard that never left");
}
