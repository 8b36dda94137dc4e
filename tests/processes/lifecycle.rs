//! Starting, stopping, refusing.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::provider::{Provider, answers_of};
use crate::server::Server;
use crate::socket::Socket;

#[tokio::test]
async fn a_stop_lets_the_running_answer_finish_and_closes_sockets_with_1001() {
    let mut script = answers_of("chat-one-turn");
    let mut first = script[0].as_array().unwrap().clone();
    first.insert(1, json!({"wait": true}));
    script[0] = first.into();
    let provider = Provider::start(script).await;
    let mut server =
        Server::start(&["--openai-base-url", &provider.url, "--shutdown-seconds", "15"]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    socket.until("llm.delta", 1).await;
    server.terminate();
    provider.release.notify_one();
    socket.until("llm.final", 1).await;
    assert_eq!(socket.of("llm.final")[0]["data"]["text"], "Hello there");
    while socket.next().await.is_some() {}
    assert_eq!(socket.closed, Some(1001));
    assert_eq!(server.wait().await, Some(0));
}

#[tokio::test]
async fn an_answer_that_outlasts_the_deadline_is_interrupted_and_says_so() {
    let provider = Provider::start(vec![json!([{"wait": true}])]).await;
    let mut server =
        Server::start(&["--openai-base-url", &provider.url, "--shutdown-seconds", "1"]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    socket.until("llm.start", 1).await;
    server.terminate();
    socket.until("log", 1).await;
    assert_eq!(socket.of("log")[0]["data"]["fields"]["code"], "interrupted");
    assert_eq!(server.wait().await, Some(0));
}

#[tokio::test]
async fn profiles_survive_a_restart() {
    let mut server = Server::start(&[]);
    server.post("/api/chat/profiles", &json!({"slug": "kept", "note": "why"})).await;
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let again = Server::start(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(again.get("/api/chat/profiles/kept").await.status, 200);
}

#[tokio::test]
async fn c10_d20_an_export_of_a_running_server_s_registry_is_yaml_and_replaces_its_file() {
    let server = Server::start(&[]);
    let profile = json!({"slug": "x", "runtime": {"system_prompt": "one\ntwo\n"}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let (data, file) = (server.folder.path().join("data"), server.folder.path().join("out/p.yaml"));
    let export = |data: &std::path::Path, to: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collodi"));
        command
            .args(["profiles", "export", "--data-dir"])
            .arg(data)
            .arg("--to")
            .arg(to)
            .output()
            .unwrap()
    };
    for _ in 0..2 {
        let output = export(&data, &file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("default_profile_slug: default"), "{text}");
    assert!(text.contains("system_prompt: |"), "{text}");
    let missing = export(&server.folder.path().join("nowhere"), &file);
    assert_eq!(missing.status.code(), Some(1));
    assert!(!server.folder.path().join("nowhere").exists(), "nothing is created");
}

fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_collodi"))
        .args(["serve", "--config-file", "/dev/null", "--addr", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(folder.path())
        .args(args)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason_and_code_2() {
    for (args, part) in [
        (vec!["--addr", "0.0.0.0:0"], "--allow-unauthenticated"),
        (vec!["--redis-enabled"], "--redis-enabled is not available yet"),
        (vec!["--profile-registry-dsn", "postgres://x"], "PostgreSQL is not available yet"),
        (vec!["--log-level", "loud"], "--log-level loud"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--ai-api-type", "cohere"], "ai-api-type"),
    ] {
        let (code, text) = refusal(&args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_do_not_hold_a_connection_for_ever() {
    let server = Server::start(&[]);
    let head = "POST /chat HTTP/1.1\r\nHost: localhost\r\n";
    let body = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let slow = |text: String| {
        let address = server.address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            tokio::time::timeout(Duration::from_secs(25), read)
                .await
                .expect("closed by its deadline")
                .unwrap();
            answer
        }
    };
    let (no_head, no_body) = tokio::join!(slow(head.to_owned()), slow(format!("{head}{body}")));
    assert!(no_head.is_empty() || no_head.starts_with("HTTP/1.1 408"), "{no_head}");
    assert!(no_body.starts_with("HTTP/1.1 408"), "{no_body}");
}

#[tokio::test]
async fn mounted_under_a_prefix_everything_is_below_it() {
    let server = Server::start(&["--root", "/x/"]);
    for (path, status) in [
        ("/x/api/chat/profiles", 200),
        ("/api/chat/profiles", 404),
        ("/x", 301),
        ("/x/", 200),
        ("/app-config.js", 200),
        ("/x/app-config.js", 200),
        ("/healthz", 200),
        ("/x/healthz", 200),
        ("/api/chat/release", 200),
        ("/xy", 404),
    ] {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
    assert_eq!(
        server.get("/app-config.js").await.body,
        "window.__PINOCCHIO_WEBCHAT_CONFIG__ = {\"basePrefix\":\"/x\",\"debugApiEnabled\":false};\n"
    );
    let selected = server.post("/x/api/chat/profile", &json!({"slug": "agent"})).await;
    assert!(
        selected
            .head
            .contains("set-cookie: chat_profile=agent; path=/x; httponly; secure; samesite=lax")
    );
}

#[tokio::test]
async fn logs_carry_the_request_s_id_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.json");
    let server = Server::start(&[
        "--log-file",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "--openai-api-key",
        "sk-canary",
    ]);
    let id = "X-Request-Id: my-request.1\r\nContent-Type: application/json\r\n";
    let answer = server.request("POST", "/api/chat/profiles", id, r#"{"slug":"a"}"#).await;
    assert!(answer.head.contains("x-request-id: my-request.1"));
    let text = std::fs::read_to_string(&log).unwrap();
    let line =
        text.lines().find(|line| line.contains("my-request.1")).expect("a line about the request");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["method"], &line["status"]), (&json!("POST"), &json!(201)));
    assert!(!text.contains("sk-canary"));
}

#[tokio::test]
async fn another_web_application_can_be_served_in_the_place_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("static")).unwrap();
    std::fs::write(folder.path().join("index.html"), "<script src=\"/app-config.js\"></script>")
        .unwrap();
    std::fs::write(folder.path().join("static/app.js"), "let theirs").unwrap();
    let server = Server::start(&["--ui-dir", folder.path().to_str().unwrap()]);
    for path in ["/", "/some/page"] {
        let page = server.get(path).await;
        assert_eq!((page.status, page.body.contains("app-config.js")), (200, true), "{path}");
        assert!(!page.head.contains("content-security-policy"), "{}", page.head);
    }
    let script = server.get("/static/app.js").await;
    assert_eq!((script.status, script.body.as_str()), (200, "let theirs"));
    assert_eq!(server.get("/static/none.js").await.status, 404);
    assert!(server.get("/app-config.js").await.body.contains("basePrefix"));
    let (code, said) = refusal(&["--ui-dir", "/nowhere"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("--ui-dir /nowhere"), "{said}");
}

#[tokio::test]
async fn our_own_pages_come_with_a_policy() {
    let server = Server::start(&[]);
    let page = server.get("/").await;
    assert!(
        page.head.contains("content-security-policy: default-src 'none'; script-src 'self';"),
        "{}",
        page.head
    );
    assert!(!page.head.contains("unsafe"), "{}", page.head);
}
