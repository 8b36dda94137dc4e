//! Conversations over time: list, name, delete, eviction, many sockets (decisions 19, 23, 44).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::provider::saying;
use crate::requests::{prompt, replayed, said, start, told};
use crate::server::{Answer, Server};
use crate::socket::Socket;

const LIST: &str = "/api/chat/conversations";

async fn listed(server: &Server, query: &str) -> Vec<String> {
    let answer = server.get(&format!("{LIST}{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ids = answer.json();
    ids.as_array().unwrap().iter().map(|c| c["conv_id"].as_str().unwrap().to_owned()).collect()
}

/// One finished turn in a conversation.
async fn talk(server: &Server, conv_id: &str) {
    let body = json!({"conv_id": conv_id, "prompt": "hi", "idempotency_key": "k"});
    assert_eq!(server.post("/chat", &body).await.status, 200);
    replayed(server, &body, "completed").await;
}

#[tokio::test]
async fn c30_d22_a_long_timeline_comes_by_pages_and_none_is_left_out() {
    let server = Server::start(&[]);
    for n in 0..3 {
        let body = json!({"conv_id": "c &", "prompt": "hi", "idempotency_key": n.to_string()});
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
    }
    let all = server.get("/api/timeline?conv_id=c%20%26").await.json()["entities"].take();
    let mut paged: Vec<Value> = Vec::new();
    let mut next = Some("/api/timeline?conv_id=c%20%26&limit=4".to_owned());
    while let Some(path) = next {
        let answer = server.get(&path).await;
        paged.splice(0..0, answer.json()["entities"].as_array().unwrap().clone());
        next = link(&answer, "prev");
    }
    assert_eq!((all.as_array().unwrap().len(), &Value::from(paged)), (6, &all));
}

/// Where a link of an answer leads. The head is in lower case here; only escapes change by that, and they mean the same.
fn link(answer: &Answer, rel: &str) -> Option<String> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("link: <"))?;
    assert!(line.ends_with(&format!("rel=\"{rel}\"")), "{line}");
    line.split('>').next().map(str::to_owned)
}

async fn rename(server: &Server, conv_id: &str, title: &str) -> u16 {
    let body = json!({ "title": title }).to_string();
    let headers = "Content-Type: application/json\r\n";
    server.request("PATCH", &format!("{LIST}/{conv_id}"), headers, &body).await.status
}

#[tokio::test]
async fn conversations_are_listed_newest_first_by_pages_and_by_title() {
    let server = Server::start(&[]);
    let ids = ["a", "b", "c d/\u{e9}", "e"];
    for id in ids {
        talk(&server, id).await;
    }
    let newest: Vec<&str> = ids.into_iter().rev().collect();
    assert_eq!(listed(&server, "").await, newest);
    let mut paged = Vec::new();
    let mut next = format!("{LIST}?limit=1");
    loop {
        let answer = server.get(&next).await;
        paged.push(answer.json()[0]["conv_id"].as_str().unwrap().to_owned());
        let Some(more) = link(&answer, "next") else { break };
        next = more;
    }
    assert_eq!(paged, newest);
    assert_eq!(rename(&server, "b", "  Tea for two ").await, 200);
    assert_eq!(rename(&server, "nobody", "x").await, 404);
    assert_eq!(rename(&server, "b", &"x".repeat(257)).await, 400);
    assert_eq!(listed(&server, "?q=TEA").await, ["b"]);
    let found = server.get(&format!("{LIST}?q=tea")).await.json();
    assert_eq!(
        (&found[0]["title"], &found[0]["runtime_key"]),
        (&json!("Tea for two"), &json!("default"))
    );
    assert_eq!(listed(&server, "?q=nothing").await, [""; 0]);
}

#[tokio::test]
async fn titles_are_found_in_every_language() {
    let server = Server::start(&[]);
    talk(&server, "a").await;
    assert_eq!(rename(&server, "a", "\u{c4}rger").await, 200);
    assert_eq!(listed(&server, "?q=%C3%84rger").await, ["a"]);
}

#[tokio::test]
async fn a_page_behind_a_conversation_that_was_deleted_goes_on() {
    let server = Server::start(&[]);
    for id in ["a", "b", "c"] {
        talk(&server, id).await;
    }
    let first = server.get(&format!("{LIST}?limit=1")).await;
    assert_eq!(first.json()[0]["conv_id"], "c");
    let link = first.head.lines().find_map(|line| line.strip_prefix("link: <")?.split('>').next());
    let behind = link.unwrap().strip_prefix(LIST).unwrap().to_owned();
    assert_eq!(server.request("DELETE", &format!("{LIST}/c"), "", "").await.status, 204);
    assert_eq!(listed(&server, &behind).await, ["b"]);
}

#[tokio::test]
async fn a_conversation_is_deleted_with_everything_in_it_but_not_while_it_runs() {
    let held: Value = json!([{"wait": true}]);
    let (server, provider) = start(vec![held, saying(&["one"]), saying(&["two"])], &[]).await;
    let path = format!("{LIST}/c");
    assert_eq!(server.request("DELETE", &path, "", "").await.status, 404);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let first = server.post("/chat", &prompt("p1", "k")).await.json();
    socket.until("llm.start", 1).await;
    let refused = server.request("DELETE", &path, "", "").await;
    assert_eq!((refused.status, refused.body.trim()), (409, "a run is active"));
    provider.release.notify_one();
    replayed(&server, &prompt("p1", "k"), "error").await;
    assert_eq!(server.request("DELETE", &path, "", "").await.status, 204);
    while socket.next().await.is_some() {}
    assert_eq!(server.request("DELETE", &path, "", "").await.status, 404);
    assert_eq!(listed(&server, "").await, [""; 0]);
    assert!(server.get("/api/timeline?conv_id=c").await.json().get("entities").is_none());
    let turns = server.get("/api/debug/turns?conv_id=c").await.json();
    assert_eq!(turns["items"], json!([]));
    // The same id is a new conversation, the same key a new prompt.
    let again = server.post("/chat", &prompt("p2", "k")).await.json();
    assert_eq!(again["status"], "started");
    assert_ne!(again["session_id"], first["session_id"]);
    replayed(&server, &prompt("p2", "k"), "completed").await;
    assert_eq!(told(&provider, 1), said(&[("user", "p2")]));
}

#[tokio::test]
async fn c30_d10_history_and_session_outlive_eviction_and_restart() {
    let script = vec![saying(&["one"]), saying(&["two"]), saying(&["three"])];
    let (mut server, provider) = start(script, &["--evict-idle-seconds", "1"]).await;
    let first = server.post("/chat", &prompt("p1", "k1")).await.json();
    replayed(&server, &prompt("p1", "k1"), "completed").await;
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let shown = server.get("/api/debug/conversations/c").await.json();
        if shown["source"] == "persisted" {
            break;
        }
        assert!(Instant::now() < deadline, "never evicted: {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = server.post("/chat", &prompt("p2", "k2")).await.json();
    assert_eq!(second["session_id"], first["session_id"]);
    replayed(&server, &prompt("p2", "k2"), "completed").await;
    let before = [("user", "p1"), ("assistant", "one"), ("user", "p2")];
    assert_eq!(told(&provider, 1), said(&before));
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let again =
        Server::start(&["--data-dir", data.to_str().unwrap(), "--openai-base-url", &provider.url]);
    let third = again.post("/chat", &prompt("p3", "k3")).await.json();
    assert_eq!(third["session_id"], first["session_id"]);
    replayed(&again, &prompt("p3", "k3"), "completed").await;
    assert_eq!(
        told(&provider, 2),
        said(&[&before[..], &[("assistant", "two"), ("user", "p3")]].concat())
    );
}

#[tokio::test]
async fn c30_d8_ten_sockets_of_other_profiles_change_no_runtime() {
    let held = json!([{"wait": true}, saying(&["x"])[0], saying(&["x"])[1], saying(&["x"])[2]]);
    let (server, provider) = start(vec![held, saying(&["y"])], &[]).await;
    let mut watcher = Socket::open(&server, "conv_id=c&profile=agent").await;
    watcher.until("ws.hello", 1).await;
    assert_eq!(watcher.seen[0]["data"]["runtimeKey"], "agent", "of one that never ran");
    let mut body = prompt("p1", "k1");
    body["profile"] = "default".into();
    let started = server.post("/chat", &body).await.json();
    watcher.until("llm.start", 1).await;
    for n in 0..10 {
        let mut socket = Socket::open(&server, "conv_id=c&profile=agent").await;
        socket.until("ws.hello", 1).await;
        assert_eq!(socket.seen[0]["data"]["runtimeKey"], "default", "socket {n}");
    }
    provider.release.notify_one();
    watcher.until("llm.final", 1).await;
    let end = watcher.of("llm.final")[0]["metadata"].clone();
    assert_eq!(
        (&end["runtimeKey"], &end["runtimeFingerprint"]),
        (&json!("default"), &started["runtime_fingerprint"])
    );
    let turns = server.get("/api/debug/turns?conv_id=c").await.json();
    for item in turns["items"].as_array().unwrap() {
        assert_eq!(item["runtime_key"], "default");
    }
}
