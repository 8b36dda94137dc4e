//! Defects of chapter 30 about who may do what, and about what the command line says and leaves alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use collodi_profiles::json::sha256_hex;
use serde_json::json;

use crate::requests::{prompt, replayed};
use crate::server::Server;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

fn collodi(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_collodi")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn c30_d46_pages_of_other_sites_neither_open_sockets_nor_spend_tokens() {
    let server = Server::start(&[]);
    let evil = "Origin: http://evil.test\r\n";
    let same = format!("Origin: http://{}\r\n", server.address);
    let refused = server.request("GET", "/ws?conv_id=c", &format!("{UPGRADE}{evil}"), "").await;
    assert_eq!((refused.status, refused.body.trim()), (403, "origin not allowed"));
    let body = prompt("hi", "k").to_string();
    for (headers, status) in [
        (format!("Content-Type: application/json\r\n{evil}"), 403),
        (format!("Content-Type: text/plain\r\n{same}"), 415),
        (format!("Content-Type: application/x-www-form-urlencoded\r\n{same}"), 415),
        (format!("Content-Type: application/json\r\n{same}"), 200),
    ] {
        let answer = server.request("POST", "/chat", &headers, &body).await;
        assert_eq!(answer.status, status, "{headers}: {}", answer.body);
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        let started = server.post("/chat", &json!({"prompt": "x"})).await.json();
        ids.push(started["conv_id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.len() == 36 && &id[14..15] == "4"), "random ids: {ids:?}");
}

#[tokio::test]
async fn c30_d46_the_debug_api_is_off_unless_asked_for_and_steps_nobody() {
    let server = Server::start(&[]);
    let body = prompt("hi", "k");
    let session = replayed(&server, &body, "completed").await["session_id"].clone();
    for (method, path, body) in [
        ("GET", "/api/debug/conversations", json!({})),
        ("GET", "/api/debug/turns?conv_id=c", json!({})),
        ("GET", "/api/debug/events/c", json!({})),
        ("POST", "/api/debug/step/enable", json!({"session_id": session, "conv_id": "c"})),
        ("POST", "/api/debug/continue", json!({"pause_id": "x"})),
    ] {
        let headers = "Content-Type: application/json\r\n";
        let answer = server.request(method, path, headers, &body.to_string()).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
}

#[tokio::test]
async fn c30_d46_inf_29_with_tokens_strangers_do_nothing_and_only_operators_debug_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let line = |name: &str, role: &str| format!("{name}:{role}:{}\n", sha256_hex(name));
    std::fs::write(&file, [line("ann", "user"), line("oona", "operator")].concat()).unwrap();
    let server = Server::start(&["--debug-api", "--auth-tokens", file.to_str().unwrap()]);
    let json = "Content-Type: application/json\r\n";
    let chat = prompt("hi", "k").to_string();
    let step = r#"{"conv_id":"c"}"#;
    for (method, path, body, stranger, user) in [
        ("POST", "/chat", chat.as_str(), 401, 200),
        ("GET", "/api/timeline?conv_id=c", "", 401, 200),
        ("GET", "/api/chat/conversations", "", 401, 200),
        ("GET", "/api/debug/turns?conv_id=c", "", 401, 403),
        ("POST", "/api/debug/step/enable", step, 401, 403),
        ("POST", "/api/debug/continue", r#"{"pause_id":"x"}"#, 401, 403),
    ] {
        let as_ann = format!("{json}Authorization: Bearer ann\r\n");
        let answer = server.request(method, path, json, body).await;
        assert_eq!(answer.status, stranger, "{method} {path}: {}", answer.body);
        let answer = server.request(method, path, &as_ann, body).await;
        assert_eq!(answer.status, user, "{method} {path}: {}", answer.body);
        let as_oona = format!("{json}Authorization: Bearer oona\r\n");
        let answer = server.request(method, path, &as_oona, body).await;
        assert!(![401, 403].contains(&answer.status), "{method} {path}: {}", answer.body);
    }
    let refused = server.request("GET", "/ws?conv_id=c", UPGRADE, "").await;
    assert_eq!(refused.status, 401);
}

#[test]
fn c30_d58_flags_stand_where_the_help_shows_them_and_it_names_no_path_that_is_not_served() {
    let (code, serve, _) = collodi(&["serve", "--help"]);
    let (alias, web_chat, _) = collodi(&["web-chat", "--help"]);
    assert_eq!((code, alias), (Some(0), Some(0)));
    assert_eq!(serve, web_chat, "the old name is the same command");
    for line in serve.lines().filter(|line| line.contains("collodi ") && line.contains("--addr")) {
        assert!(line.contains("collodi serve --"), "an example without its command: {line}");
    }
    let (code, _, error) = collodi(&["--addr", "127.0.0.1:0"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--addr"), "{error}");
    let (_, timeline, _) = collodi(&["timeline", "--help"]);
    for help in [&serve, &timeline] {
        let words = help.split(|c: char| c.is_whitespace() || "`,.;()".contains(c));
        let gone: Vec<&str> = words.filter(|w| ["/timeline", "/turns"].contains(w)).collect();
        assert_eq!(gone, [""; 0], "paths of the reference's help that nobody serves");
    }
}

/// The files of a folder and what is in them.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn c30_d51_looking_into_a_timeline_changes_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples");
    let data = folder.path().join("data");
    let (source, dir) = (samples.join("timeline.db"), data.to_str().unwrap());
    let copy = folder.path().join("timeline.db");
    std::fs::copy(source, &copy).unwrap();
    let (code, _, error) =
        collodi(&["import", "--timeline-db", copy.to_str().unwrap(), "--data-dir", dir]);
    assert_eq!(code, Some(0), "{error}");
    let before = contents(&data);
    let commands: [&[&str]; 5] = [
        &["list"],
        &["stats"],
        &["verify"],
        &["entities", "--conv-id", "c-1"],
        &["snapshot", "--conv-id", "c-1"],
    ];
    for command in commands {
        let (code, out, error) = collodi(&[&["timeline"], command, &["--data-dir", dir]].concat());
        assert_eq!(code, Some(0), "{command:?}: {out}{error}");
        let after = contents(&data);
        assert!(after.keys().eq(before.keys()), "{command:?} left {:?}", after.keys());
        assert!(after == before, "{command:?} changed a file");
    }
    let nowhere = folder.path().join("nowhere");
    let missing = ["timeline", "list", "--data-dir", nowhere.to_str().unwrap()];
    assert_eq!(collodi(&missing).0, Some(1));
    assert!(!nowhere.exists(), "looking makes no folder");
}
