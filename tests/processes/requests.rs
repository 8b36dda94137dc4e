//! Prompts as requests: a key runs once (F15), the queue is bounded, cancelling and trying again (decisions 25, 26, 43).

use serde_json::{Value, json};

use crate::provider::{Provider, delta, end, saying};
use crate::server::{Answer, Server};
use crate::socket::Socket;

pub(crate) fn prompt(text: &str, key: &str) -> Value {
    json!({"conv_id": "c", "prompt": text, "idempotency_key": key})
}

/// Says some words, then nothing until it is let go.
fn held(text: &str) -> Value {
    let waiting = [json!({"wait": true})];
    let said = (!text.is_empty()).then(|| delta("content", text));
    said.into_iter().chain(waiting).chain(end("stop")).collect()
}

pub(crate) async fn start(script: Vec<Value>, args: &[&str]) -> (Server, Provider) {
    let provider = Provider::start(script).await;
    let base = ["--debug-api", "--openai-base-url", &provider.url];
    let args: Vec<&str> = base.into_iter().chain(args.iter().copied()).collect();
    (Server::start(&args), provider)
}

/// The roles and texts that the request at `at` told the provider, without the system prompt.
pub(crate) fn told(provider: &Provider, at: usize) -> Vec<(String, String)> {
    let received = provider.received.lock().unwrap();
    let messages = received[at].body["messages"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = messages.map(|message| (text(&message["role"]), text(&message["content"])));
    told.filter(|(role, _)| role != "system").collect()
}

pub(crate) fn said(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

/// Sends the prompt again and again until it stands like that.
pub(crate) async fn replayed(server: &Server, body: &Value, status: &str) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        let answer = server.post("/chat", body).await.json();
        if answer["status"] == status {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not {status}: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The provider has been asked so often.
async fn asked(provider: &Provider, count: usize) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(15);
    while provider.received.lock().unwrap().len() < count {
        assert!(tokio::time::Instant::now() < deadline, "not asked {count} times");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn plain(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.trim())
}

#[tokio::test]
async fn f15_a_key_runs_once_however_often_and_whenever_it_comes() {
    let (mut server, provider) = start(vec![saying(&["Hello"]), saying(&["Bye"])], &[]).await;
    let body = prompt("hi", "k");
    let many = (0..20).map(|_| server.post("/chat", &body));
    let answers = futures_util::future::join_all(many).await;
    let ids: Vec<Value> = answers.iter().map(|answer| answer.json()["turn_id"].clone()).collect();
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(answers.iter().all(|answer| answer.status == 200));
    let completed = replayed(&server, &body, "completed").await;
    assert_eq!(completed["turn_id"], ids[0]);
    assert_eq!(server.post("/chat", &prompt("  hi\n", "k")).await.json(), completed, "trimmed");
    let other = server.post("/chat", &prompt("ho", "k")).await;
    assert_eq!(plain(&other), (422, "idempotency key was used with another prompt"));

    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let again =
        Server::start(&["--data-dir", data.to_str().unwrap(), "--openai-base-url", &provider.url]);
    assert_eq!(again.post("/chat", &body).await.json(), completed, "after a restart");
    let other = again.post("/chat", &prompt("ho", "k")).await;
    assert_eq!(plain(&other), (422, "idempotency key was used with another prompt"));
    assert_eq!(provider.received.lock().unwrap().len(), 1);
    // Another conversation has keys of its own.
    let elsewhere = json!({"conv_id": "d", "prompt": "ho", "idempotency_key": "k"});
    assert_eq!(again.post("/chat", &elsewhere).await.json()["status"], "started");
}

#[tokio::test]
async fn keys_may_come_in_headers_and_the_body_wins() {
    let server = Server::start(&[]);
    for (header, body, key) in [
        ("Idempotency-Key: a\r\n", json!({"prompt": "x"}), "a"),
        ("X-Idempotency-Key: b\r\n", json!({"prompt": "x"}), "b"),
        ("Idempotency-Key: a\r\n", json!({"prompt": "x", "idempotency_key": "c"}), "c"),
    ] {
        let headers = format!("Content-Type: application/json\r\n{header}");
        let answer = server.request("POST", "/chat", &headers, &body.to_string()).await;
        assert_eq!(answer.json()["idempotency_key"], key);
    }
}

#[tokio::test]
async fn c30_d31_the_queue_holds_64_in_order_and_a_waiting_prompt_can_be_taken_out() {
    let script = std::iter::once(held("")).chain((0..66).map(|_| saying(&["x"]))).collect();
    let (server, provider) = start(script, &[]).await;
    assert_eq!(server.post("/chat", &prompt("first", "first")).await.json()["status"], "started");
    for n in 1..=64 {
        let answer = server.post("/chat", &prompt(&format!("p{n}"), &format!("k/{n}"))).await;
        assert_eq!(answer.status, 202);
        let answer = answer.json();
        assert_eq!((&answer["queue_position"], &answer["queue_depth"]), (&json!(n), &json!(n)));
    }
    let refused = server.post("/chat", &prompt("p65", "k65")).await;
    assert_eq!(plain(&refused), (429, "queue is full"));
    assert_eq!(
        server.post("/chat", &prompt("p1", "k/1")).await.status,
        202,
        "a replay is no prompt"
    );
    let queue = "/api/chat/conversations/c/queue";
    let waiting = server.get(queue).await.json();
    assert_eq!(waiting["items"].as_array().unwrap().len(), 64);
    assert_eq!(
        waiting["items"][1],
        json!({"idempotency_key": "k/2", "prompt": "p2", "runtime_key": "default", "queue_position": 2})
    );
    for (key, status) in [("k%2F2", 204), ("k%2F2", 404), ("first", 404), ("nobody", 404)] {
        let answer = server.request("DELETE", &format!("{queue}/{key}"), "", "").await;
        assert_eq!(answer.status, status, "{key}");
    }
    assert_eq!(
        server.request("DELETE", "/api/chat/conversations/no/queue/k", "", "").await.status,
        404
    );
    assert_eq!(server.get("/api/chat/conversations/no/queue").await.status, 404);
    let again = server.post("/chat", &prompt("other", "k65")).await.json();
    assert_eq!((&again["status"], &again["queue_position"]), (&json!("queued"), &json!(64)));
    provider.release.notify_one();
    replayed(&server, &prompt("other", "k65"), "completed").await;
    let prompts: Vec<String> = (0..65).map(|at| told(&provider, at).pop().unwrap().1).collect();
    let expected: Vec<String> = std::iter::once("first".into())
        .chain((1..=64).filter(|n| *n != 2).map(|n| format!("p{n}")))
        .chain(["other".into()])
        .collect();
    assert_eq!(prompts, expected);
}

#[tokio::test]
async fn c30_d42_cancelling_works_before_the_first_token_and_keeps_partial_text() {
    let script = vec![held(""), held("Partial "), saying(&["ok"])];
    let (server, provider) = start(script, &[]).await;
    let cancel = "/api/chat/conversations/c/cancel";
    let nobody = server.post(cancel, &json!({})).await;
    assert_eq!(plain(&nobody), (404, "conversation not found"));
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let mut ids = Vec::new();
    for (turn, kind) in [(1, "llm.start"), (2, "llm.delta")] {
        let body = prompt(&format!("p{turn}"), &format!("k{turn}"));
        let started = server.post("/chat", &body).await.json();
        socket.until(kind, 1).await;
        asked(&provider, turn).await;
        let cancelled = server.post(cancel, &json!({})).await;
        assert_eq!(cancelled.status, 200);
        let id = &started["turn_id"];
        assert_eq!(cancelled.json(), json!({"conv_id": "c", "turn_id": id, "status": "cancelled"}));
        let replay = replayed(&server, &body, "error").await;
        assert_eq!((&replay["error"], &replay["turn_id"]), (&json!("cancelled"), id));
        let idle = server.post(cancel, &json!({})).await;
        assert_eq!(plain(&idle), (409, "no active run"));
        socket.until("log", turn).await;
        ids.push(id.clone());
        provider.release.notify_one();
    }
    server.post("/chat", &prompt("p3", "k3")).await;
    socket.until("llm.final", 3).await;
    let done = |entities: &[Value]| entities.iter().any(|e| e["props"]["content"] == "ok");
    let entities = server.timeline_when("c", done).await;
    socket.check_stream(&entities);
    let partial = entities.iter().find(|e| e["props"]["content"] == "Partial ").unwrap();
    assert_eq!(partial["props"]["streaming"], false);
    let expected = [("user", "p1"), ("user", "p2"), ("assistant", "Partial"), ("user", "p3")];
    let told: Vec<_> =
        told(&provider, 2).into_iter().map(|(role, text)| (role, text.trim().to_owned())).collect();
    assert_eq!(told, said(&expected));
    let turns = server.get("/api/debug/turns?conv_id=c&phase=final").await.json();
    let stored =
        turns["items"].as_array().unwrap().iter().find(|t| t["turn_id"] == ids[1]).unwrap();
    let payload = stored["payload"].as_str().unwrap();
    assert!(payload.contains("geppetto.stop_reason@v1: interrupted"), "{payload}");
}

#[tokio::test]
async fn c30_d11_the_newest_turn_can_be_tried_again_from_the_context_before_it() {
    let cut =
        json!([{"data": {"choices": [{"index": 0, "delta": {"content": "Hal"}}]}}, {"cut": true}]);
    let script = vec![saying(&["one"]), cut, saying(&["two"]), saying(&["three"])];
    let (server, provider) = start(script, &[]).await;
    let first = server.post("/chat", &prompt("p1", "k1")).await.json();
    replayed(&server, &prompt("p1", "k1"), "completed").await;
    let failed = server.post("/chat", &prompt("p2", "k2")).await.json();
    replayed(&server, &prompt("p2", "k2"), "error").await;
    let mut again = prompt("p2", "k3");
    for wrong in [first["turn_id"].clone(), json!("nobody")] {
        again["retry_turn_id"] = wrong;
        let refused = server.post("/chat", &again).await;
        assert_eq!(
            plain(&refused),
            (409, "retry_turn_id is not the newest turn of the conversation")
        );
    }
    again["retry_turn_id"] = failed["turn_id"].clone();
    assert_eq!(server.post("/chat", &again).await.json()["status"], "started");
    replayed(&server, &again, "completed").await;
    server.post("/chat", &prompt("p3", "k4")).await;
    replayed(&server, &prompt("p3", "k4"), "completed").await;
    let before = [("user", "p1"), ("assistant", "one"), ("user", "p2")];
    assert_eq!(told(&provider, 2), said(&before));
    let after = [&before[..], &[("assistant", "two"), ("user", "p3")]].concat();
    assert_eq!(told(&provider, 3), said(&after));
    let turns = server.get("/api/debug/turns?conv_id=c&phase=final").await.json();
    assert_eq!(turns["items"].as_array().unwrap().len(), 4, "the failed one stays stored");
}

#[tokio::test]
async fn a_retry_while_something_runs_is_refused() {
    let (server, provider) = start(vec![held("x")], &[]).await;
    let running = server.post("/chat", &prompt("p1", "k1")).await.json();
    let mut again = prompt("p1", "k2");
    again["retry_turn_id"] = running["turn_id"].clone();
    assert_eq!(server.post("/chat", &again).await.status, 409);
    provider.release.notify_one();
    replayed(&server, &prompt("p1", "k1"), "completed").await;
}

#[tokio::test]
async fn a_graceful_stop_in_mid_answer_ends_the_turn_once_and_waiting_prompts_say_so() {
    let (mut server, provider) = start(vec![held("Part")], &["--shutdown-seconds", "1"]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p1", "k1")).await;
    assert_eq!(server.post("/chat", &prompt("p2", "k2")).await.status, 202);
    socket.until("llm.delta", 1).await;
    server.terminate();
    assert_eq!(server.wait().await, Some(0));
    let data = server.folder.path().join("data");
    let again = Server::start(&[
        "--data-dir",
        data.to_str().unwrap(),
        "--debug-api",
        "--openai-base-url",
        &provider.url,
    ]);
    let first = again.post("/chat", &prompt("p1", "k1")).await.json();
    assert_eq!(
        (&first["status"], &first["error"]),
        (&json!("error"), &json!("the server is stopping"))
    );
    let second = again.post("/chat", &prompt("p2", "k2")).await.json();
    assert_eq!(
        (&second["status"], &second["error"]),
        (&json!("error"), &json!("the server is stopping"))
    );
    let entities = again.timeline_when("c", |_| true).await;
    assert_eq!(entities[1]["props"]["content"], "Part");
    assert_eq!(entities[1]["props"]["streaming"], false);
    assert_eq!(entities.iter().filter(|e| e["kind"] == "log").count(), 1);
    let ends = again.get("/api/debug/turns?conv_id=c&phase=final").await.json();
    assert_eq!(ends["items"].as_array().unwrap().len(), 1);
    assert_eq!(provider.received.lock().unwrap().len(), 1);
}

/// Prompts and cancellations at once, from many sides: each turn ends once, and the conversation goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancellations_ends_every_turn_once() {
    let server = Server::start(&["--debug-api", "--demo-pace-ms", "1"]);
    let send = async |n: u32| {
        let body = prompt(&format!("p{n}"), &format!("k{n}"));
        let answer = server.post("/chat", &body).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.body);
    };
    let cancel = async |_: u32| {
        let answer = server.post("/api/chat/conversations/c/cancel", &json!({})).await;
        assert!([200, 404, 409].contains(&answer.status), "{}", answer.body);
    };
    let sends = futures_util::future::join_all((0..60).map(send));
    let cancels = futures_util::future::join_all((0..300).map(cancel));
    tokio::join!(sends, cancels);
    let after = prompt("after", "after");
    server.post("/chat", &after).await;
    replayed(&server, &after, "completed").await;
    let turns = server.get("/api/debug/turns?conv_id=c&phase=final&limit=1000").await.json();
    let ids: std::collections::BTreeSet<String> =
        turns["items"].as_array().unwrap().iter().map(|t| t["turn_id"].to_string()).collect();
    assert_eq!((ids.len(), turns["items"].as_array().unwrap().len()), (61, 61));
    let entities = server.timeline_when("c", |_| true).await;
    assert!(entities.iter().all(|e| e["props"]["streaming"] != true));
    let users = entities.iter().filter(|e| e["props"]["role"] == "user").count();
    assert_eq!(users, 61);
}

#[tokio::test]
async fn a_key_that_was_taken_out_of_the_queue_is_free_at_once() {
    let (server, provider) = start(vec![held("")], &[]).await;
    server.post("/chat", &prompt("first", "first")).await;
    for n in 0..200 {
        let answer = server.post("/chat", &prompt(&format!("p{n}"), "k")).await;
        assert_eq!(answer.status, 202, "round {n}: {}", answer.body);
        let path = "/api/chat/conversations/c/queue/k";
        assert_eq!(server.request("DELETE", path, "", "").await.status, 204);
    }
    provider.release.notify_one();
}
