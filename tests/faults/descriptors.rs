//! F25: many connections, more than there are descriptors for, and ones that come, go or take their time.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Client;
use crate::seed::{full, size};
use crate::server::{Launch, Server, until};
use crate::wire::{FIN, PING, PONG, TEXT, Wire, frame};

const PATIENCE: Duration = Duration::from_secs(15);
/// Fewer than the sockets that will come; some more wait in the listener's backlog of 128.
const DESCRIPTORS: usize = 128;

/// Asks for a socket and does not wait for the answer, which does not come while there is no descriptor.
fn knock(server: &Server, conv_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    let head = format!(
        "GET /ws?conv_id={conv_id} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn conversations(client: &mut Client) -> usize {
    let listed = client.get("/api/chat/conversations?limit=1000").unwrap();
    listed.json().as_array().unwrap().len()
}

/// Reads frames up to the end of an answer.
fn hear_answer(wire: &mut Wire) {
    let is_final = |text: Vec<u8>| String::from_utf8(text).unwrap().contains("\"llm.final\"");
    while !is_final(wire.next_of(TEXT).expect("the socket stays")) {}
}

#[test]
fn f25_without_descriptors_who_is_in_is_served_and_who_waits_comes_in_when_others_leave() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::on(data.path()).arg("--debug-api").arg("--demo-pace-ms").arg("0");
    let mut server = launch.with_descriptors(DESCRIPTORS).start().unwrap();
    let mut client = server.client();
    let mut watcher = Wire::open(server.address, "c").unwrap();
    assert_eq!(conversations(&mut client), 0);
    let before = server.descriptors();
    for round in 1..=3 {
        let idle: Vec<TcpStream> =
            (0..DESCRIPTORS + 40).map(|n| knock(&server, &format!("idle-{n}"))).collect();
        until(PATIENCE, "all descriptors in use", || {
            (server.descriptors() >= DESCRIPTORS).then_some(())
        });
        until(PATIENCE, "a word about it", || {
            (server.said().matches("failed to accept").count() >= round).then_some(())
        });
        let body = json!({"conv_id": "c", "prompt": format!("round {round}")});
        let answer = client.send("POST", "/chat", Some(&body)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        hear_answer(&mut watcher);
        assert_eq!(client.get("/healthz").unwrap().status, 200);
        assert_eq!(conversations(&mut client), 1, "looking makes no conversation");
        drop(idle);
        assert_eq!(server.client().get("/healthz").unwrap().status, 200, "one that comes now");
        until(PATIENCE, "the descriptors", || (server.descriptors() <= before + 8).then_some(()));
    }
}

#[test]
fn f25_idle_sockets_cost_little_and_are_no_conversations() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let many = size(500, 5_000);
    let open = |n: usize| Wire::open(server.address, &format!("idle-{n}")).unwrap();
    let mut idle: Vec<Wire> = (0..20).map(open).collect();
    let before = server.resident();
    idle.extend((20..20 + many).map(open));
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 * many as u64, "{grown} KiB for {many} sockets");
    assert_eq!(conversations(&mut server.client()), 0);
    let last = idle.last_mut().unwrap();
    last.send(&frame(FIN | PING, b"x"));
    assert!(last.next_of(PONG).is_some());
}

#[test]
fn f25_connections_that_come_and_go_leave_no_descriptor_behind() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let mut client = server.client();
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    let before = server.descriptors();
    let started = Instant::now();
    for n in 0..size(600, 6_000) {
        match n % 4 {
            0 => drop(TcpStream::connect(server.address).unwrap()),
            1 => {
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
            }
            2 => drop(knock(&server, "c")),
            _ => drop(Wire::open(server.address, "c").unwrap()),
        }
    }
    let took = started.elapsed();
    assert_eq!(client.get("/healthz").unwrap().status, 200, "after {took:?}");
    until(PATIENCE, "the descriptors", || (server.descriptors() <= before + 2).then_some(()));
    assert_eq!(conversations(&mut client), 0);
}

/// Gone without a word: no FIN comes, no pong, and nothing is sent that could fail. Takes 100 s, so the long form alone.
#[test]
fn f24_a_socket_that_answers_no_ping_is_let_go_and_one_that_talks_stays() {
    if !full() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let mut lively = Wire::open(server.address, "c").unwrap();
    let both = server.descriptors() + 1;
    let _silent = Wire::open(server.address, "c").unwrap();
    until(PATIENCE, "both", || (server.descriptors() == both).then_some(()));
    until(Duration::from_secs(110), "the silent one to be let go", || {
        lively.send(&frame(FIN | PING, b"x"));
        lively.next_of(PONG).expect("the other stays");
        (server.descriptors() < both).then_some(())
    });
}

/// Answers that nobody takes: the connection ends as those do whose questions take too long.
#[test]
fn f25_a_client_that_does_not_read_its_answers_is_let_go() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::on(data.path()).start().unwrap();
    let before = server.descriptors();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let asked = format!("GET /openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let asked = asked.repeat(100);
    let mut sent = 0;
    while stream.write_all(asked.as_bytes()).is_ok() {
        sent += asked.len();
        assert!(sent < 64 * 1024 * 1024, "it reads for ever");
    }
    assert!(server.descriptors() > before);
    until(Duration::from_secs(45), "the connection to be let go", || {
        (server.descriptors() <= before).then_some(())
    });
}
