//! Defects of chapter 30 about HTTP and the process.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::requests::prompt;
use crate::server::Server;
use crate::socket::Socket;

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn c30_d44_a_cookie_of_a_profile_that_is_gone_means_the_default() {
    let server = Server::start(&[]);
    let headers = format!("{JSON}Cookie: chat_profile=gone\r\n");
    let body = prompt("hi", "k").to_string();
    let answer = server.request("POST", "/chat", &headers, &body).await;
    assert_eq!((answer.status, &answer.json()["runtime_key"]), (200, &json!("default")));
    assert_eq!(
        server.request("POST", "/chat/gone", JSON, &body).await.status,
        404,
        "explicit ones are strict"
    );
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: chat_profile=gone\r\n";
    let address = server.address.clone();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /ws?conv_id=c HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
}

#[tokio::test]
async fn c30_d45_c30_d46_c30_d55_mistakes_of_a_caller_are_told_as_such() {
    let server = Server::start(&[]);
    let overrides =
        |value: serde_json::Value| json!({"prompt": "x", "overrides": value}).to_string();
    let large = format!("{{\"prompt\":\"{}\"}}", "x".repeat(9 * 1024 * 1024));
    for (method, path, headers, body, status) in [
        ("POST", "/chat", JSON, overrides(json!({"nonsense": 1})), 400),
        ("POST", "/chat", JSON, overrides(json!({"system_prompt": 5})), 400),
        ("POST", "/chat", JSON, large, 413),
        (
            "POST",
            "/chat",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "prompt=x".into(),
            415,
        ),
        (
            "POST",
            "/chat",
            "Content-Type: application/json\r\nOrigin: http://evil.test\r\n",
            overrides(json!({})),
            403,
        ),
        ("GET", "/chat", "", String::new(), 405),
        ("DELETE", "/api/timeline?conv_id=c", "", String::new(), 405),
        ("GET", "/api/nowhere", "", String::new(), 404),
    ] {
        let answer = server.request(method, path, headers, &body).await;
        assert_eq!(answer.status, status, "{method} {path} {headers}: {}", answer.body);
    }
}

#[tokio::test]
async fn c30_d49_a_port_that_is_taken_ends_the_process_and_a_stop_tells_sockets() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_collodi"))
        .args([
            "serve",
            "--config-file",
            "/dev/null",
            "--addr",
            &taken.local_addr().unwrap().to_string(),
        ])
        .arg("--data-dir")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(started.elapsed() < Duration::from_secs(10));
    let mut server = Server::start(&[]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    socket.until("ws.hello", 1).await;
    server.terminate();
    while socket.next().await.is_some() {}
    assert_eq!(socket.closed, Some(1001));
    assert_eq!(server.wait().await, Some(0));
}

#[tokio::test]
async fn a_flood_of_deletions_of_nothing_leaves_room_for_conversations() {
    let server = Server::start(&[]);
    for batch in 0..101 {
        let paths: Vec<String> =
            (0..100).map(|n| format!("/api/chat/conversations/x{batch}-{n}")).collect();
        let answers = paths.iter().map(|path| server.request("DELETE", path, "", ""));
        futures_util::future::join_all(answers).await;
    }
    let answer = server.post("/chat", &prompt("hi", "k")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
