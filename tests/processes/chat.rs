//! Chat turns end to end: the demo model, and the real provider path against a scripted provider.

use serde_json::{Value, json};

use crate::provider::{Provider, answers_of};
use crate::server::Server;
use crate::socket::Socket;

fn answers(entities: &[Value]) -> Vec<&Value> {
    entities.iter().filter(|e| e["props"]["role"] == "assistant").collect()
}

fn finished(count: usize) -> impl Fn(&[Value]) -> bool {
    move |entities| {
        answers(entities).iter().filter(|e| e["props"]["streaming"] == false).count() == count
    }
}

async fn with_provider(script: Vec<Value>) -> (Server, Provider) {
    let provider = Provider::start(script).await;
    let args = [
        "--openai-base-url",
        &provider.url,
        "--ai-engine",
        "test-model",
        "--openai-api-key",
        "sk-canary",
    ];
    (Server::start(&args), provider)
}

#[tokio::test]
async fn a_turn_is_streamed_stored_and_attributed_to_its_profile() {
    let server = Server::start(&[]);
    let profile = json!({"slug": "pirate", "runtime": {"system_prompt": "You are a pirate."}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let mut socket = Socket::open(&server, "conv_id=c-1").await;
    socket.until("ws.hello", 1).await;
    assert_eq!(socket.seen[0]["data"]["runtimeKey"], "default");

    let answer = server.post("/chat/pirate", &json!({"conv_id": "c-1", "prompt": " hi "})).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    let started = answer.json();
    assert_eq!(
        (&started["status"], &started["runtime_key"]),
        (&json!("started"), &json!("pirate"))
    );
    assert!(started["runtime_fingerprint"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(started["profile_metadata"]["profile.version"], 1);

    socket.until("llm.final", 1).await;
    let entities = server.timeline_when("c-1", finished(1)).await;
    socket.check_stream(&entities);
    let upsert = socket.of("timeline.upsert")[0];
    assert_eq!(upsert["data"]["entity"]["props"]["content"], "hi");
    assert_eq!(upsert["data"]["version"], upsert["seq"].to_string());
    let end = socket.of("llm.final")[0];
    assert!(end["data"]["text"].as_str().unwrap().contains("You are a pirate."));
    assert_eq!(end["metadata"]["runtimeKey"], "pirate");
    assert_eq!(end["metadata"]["runtimeFingerprint"], started["runtime_fingerprint"]);
}

#[tokio::test]
async fn a_chat_goes_through_the_real_provider_path() {
    let script = answers_of("chat-one-turn");
    let (server, provider) = with_provider(script).await;
    let mut socket = Socket::open(&server, "conv_id=c-1").await;
    for (turn, prompt) in [(1, "hi"), (2, "again")] {
        let answer = server.post("/chat", &json!({"conv_id": "c-1", "prompt": prompt})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        socket.until("llm.final", turn).await;
    }
    let entities = server.timeline_when("c-1", finished(2)).await;
    socket.check_stream(&entities);
    assert_eq!(socket.of("llm.final")[0]["data"]["text"], "Hello there");
    let metadata = &socket.of("llm.final")[0]["metadata"];
    assert_eq!(metadata["usage"], json!({"inputTokens": 7, "outputTokens": 3}));
    assert_eq!(
        (&metadata["model"], &metadata["stopReason"]),
        (&json!("test-model"), &json!("stop"))
    );

    let received = provider.received.lock().unwrap().clone();
    assert!(received[0].head.starts_with("post /v1/chat/completions "));
    assert!(received[0].head.contains("authorization: bearer sk-canary"));
    let said = |role: &str, text: &str| json!({"role": role, "content": text});
    assert_eq!(
        received[1].body["messages"],
        json!([
            said("system", "You are an assistant"),
            said("user", "hi"),
            said("assistant", "Hello there"),
            said("user", "again"),
        ]),
        "the second call has the history"
    );
    assert_eq!(received[0].body["stream"], true);
}

#[tokio::test]
async fn a_failed_run_reaches_the_user_and_keeps_what_was_said() {
    for (transcript, code, text, retryable) in [
        ("provider-401", "refused", "", false),
        ("provider-429", "rate_limited", "", true),
        ("provider-500", "provider", "", true),
        ("provider-cut", "cut", "Hel", true),
        ("provider-error-in-stream", "provider", "Hel", true),
    ] {
        let mut script = answers_of(transcript);
        if code == "rate_limited" {
            // It names a second to wait, so it is asked again, twice: nothing was said yet.
            script = vec![script[0].clone(); 3];
        }
        let calls = if code == "rate_limited" { 3 } else { 1 };
        let (server, provider) = with_provider(script).await;
        let mut socket = Socket::open(&server, "conv_id=c").await;
        let prompt = json!({"conv_id": "c", "prompt": "hi", "idempotency_key": "k"});
        server.post("/chat", &prompt).await;
        socket.until("log", 1).await;
        let failed = |entities: &[Value]| entities.iter().any(|e| e["kind"] == "log");
        let entities = server.timeline_when("c", failed).await;
        socket.check_stream(&entities);

        assert_eq!(provider.received.lock().unwrap().len(), calls, "{transcript}");
        let log = socket.of("log")[0];
        assert_eq!(log["data"]["level"], "error", "{transcript}");
        assert_eq!(log["data"]["fields"]["code"], code, "{transcript}: {log}");
        assert_eq!(log["data"]["fields"]["retryable"], retryable, "{transcript}");
        assert!(!log.to_string().contains("sk-canary"), "{log}");
        let said: String =
            answers(&entities).iter().filter_map(|e| e["props"]["content"].as_str()).collect();
        assert!(
            said.starts_with(text) && said.is_empty() == text.is_empty(),
            "{transcript}: {said:?}"
        );
        let replay = server.post("/chat", &prompt).await.json();
        assert_eq!(
            (&replay["status"], &replay["error"]),
            (&json!("error"), &log["data"]["message"])
        );
    }
}

#[tokio::test]
async fn an_answer_cut_by_its_limit_is_complete_and_says_so() {
    for (transcript, reason) in
        [("provider-length", "length"), ("provider-filter", "content_filter")]
    {
        let (server, _provider) = with_provider(answers_of(transcript)).await;
        let mut socket = Socket::open(&server, "conv_id=c").await;
        server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
        socket.until("log", 1).await;
        let log = socket.of("log")[0];
        assert_eq!(
            (&log["data"]["level"], &log["data"]["fields"]["stop_reason"]),
            (&json!("warn"), &json!(reason))
        );
    }
}

#[tokio::test]
async fn prompts_wait_in_order_each_under_its_own_profile_and_replays_run_nothing() {
    let mut script = answers_of("chat-one-turn");
    let held = json!([{"wait": true}]).as_array().unwrap().clone();
    let first: Vec<Value> = held.into_iter().chain(script[0].as_array().unwrap().clone()).collect();
    script[0] = first.into();
    let (server, provider) = with_provider(script).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let first = json!({"conv_id": "c", "prompt": "one", "idempotency_key": "k1"});
    let second =
        json!({"conv_id": "c", "prompt": "two", "idempotency_key": "k2", "profile": "agent"});
    assert_eq!(server.post("/chat", &first).await.json()["status"], "started");
    let queued = server.post("/chat", &second).await;
    assert_eq!(queued.status, 202);
    let queued = queued.json();
    assert_eq!(
        (&queued["status"], &queued["queue_position"], &queued["queue_depth"]),
        (&json!("queued"), &json!(1), &json!(1))
    );
    assert_eq!(server.post("/chat", &second).await.status, 202, "a replay of a waiting prompt");
    let other = json!({"conv_id": "c", "prompt": "three", "idempotency_key": "k2"});
    let refused = server.post("/chat", &other).await;
    assert_eq!(
        (refused.status, refused.body.trim()),
        (422, "idempotency key was used with another prompt")
    );

    // A socket that connects meanwhile under another profile changes nothing.
    let mut bystander = Socket::open(&server, "conv_id=c&profile=default").await;
    bystander.until("ws.hello", 1).await;
    provider.release.notify_one();
    socket.until("llm.final", 2).await;
    let keys: Vec<&Value> =
        socket.of("llm.final").iter().map(|end| &end["metadata"]["runtimeKey"]).collect();
    assert_eq!(keys, ["default", "agent"]);
    assert_eq!(server.post("/chat", &second).await.json()["status"], "completed");
    assert_eq!(provider.received.lock().unwrap().len(), 2);
    let systems: Vec<Value> = provider
        .received
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.body["messages"][0]["content"].clone())
        .collect();
    assert_eq!(systems, ["You are an assistant", "You are a helpful assistant. Be concise."]);
}

#[tokio::test]
async fn incremental_sockets_get_increments_and_late_ones_what_they_missed() {
    let server = Server::start(&[]);
    let mut plain = Socket::open(&server, "conv_id=c").await;
    let mut lean = Socket::open(&server, "conv_id=c&deltas=incremental").await;
    lean.until("ws.hello", 1).await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    plain.until("llm.final", 1).await;
    lean.until("llm.final", 1).await;
    assert!(lean.of("llm.delta").iter().all(|d| d["data"].get("cumulative").is_none()));
    assert!(plain.of("llm.delta").iter().all(|d| d["data"].get("cumulative").is_some()));
    let entities = server.timeline_when("c", finished(1)).await;
    lean.check_stream(&entities);
    plain.check_stream(&entities);

    let from = plain.seen[2]["seq"].as_u64().unwrap();
    let mut late = Socket::open(&server, &format!("conv_id=c&since_seq={from}")).await;
    late.until("llm.final", 1).await;
    assert_eq!(late.seen[1..late.seen.len()], plain.seen[3..plain.seen.len()]);
    let mut lost = Socket::open(&server, "conv_id=c&since_seq=999999").await;
    lost.until("ws.resync", 1).await;
    assert!(lost.seen[1].get("seq").is_none());
}

#[tokio::test]
async fn sockets_answer_pings_and_refuse_before_the_upgrade() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    for ping in ["ping", r#"{"type":"ws.ping"}"#, r#"{"sem":true,"event":{"type":"ws.ping"}}"#] {
        socket.send(ping).await;
    }
    socket.until("ws.pong", 3).await;
    for (path, status, text) in [
        ("/ws", 400, "missing conv_id"),
        ("/ws?conv_id=c", 400, "Bad Request"),
        ("/ws?conv_id=c&profile=nobody", 404, "profile not found: nobody"),
        ("/ws?conv_id=c&profile=bad%20one", 400, "invalid profile: bad one"),
        ("/ws?conv_id=c&registry=team", 404, "registry not found"),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.trim()), (status, text), "{path}");
    }
    let evil = "Origin: http://evil.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let answer = server.request("GET", "/ws?conv_id=c", evil, "").await;
    assert_eq!((answer.status, answer.body.trim()), (403, "origin not allowed"));
}

#[tokio::test]
async fn inf_7_an_operator_s_key_never_goes_to_a_profile_s_address() {
    let provider = Provider::start(answers_of("chat-one-turn")).await;
    let args = ["--openai-api-key", "sk-canary", "--allow-local-providers"];
    let server = Server::start(&args);
    let profile = json!({"slug": "own", "runtime": {"step_settings_patch": {"openai-chat": {"openai-base-url": provider.url}}}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    server.post("/chat/own", &json!({"conv_id": "c", "prompt": "hi"})).await;
    server.timeline_when("c", finished(1)).await;
    let received = provider.received.lock().unwrap().clone();
    assert!(!received[0].head.contains("authorization"), "{}", received[0].head);

    let strict = Server::start(&["--openai-api-key", "sk-canary"]);
    let refused = strict.post("/api/chat/profiles", &profile).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("http scheme is not allowed"), "{}", refused.body);
}

#[tokio::test]
async fn responses_are_asked_with_their_own_key_or_else_with_the_other() {
    for (keys, sent) in [
        (vec!["--openai-api-key", "sk-o", "--openai-responses-api-key", "sk-r"], "bearer sk-r"),
        (vec!["--openai-api-key", "sk-o"], "bearer sk-o"),
    ] {
        let provider = Provider::start(answers_of("responses-reasoning-tool")).await;
        let url = ["--openai-base-url", &provider.url, "--ai-api-type", "openai-responses"];
        let server = Server::start(&[&keys[..], &url[..]].concat());
        server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
        server.timeline_when("c", finished(1)).await;
        let head = provider.received.lock().unwrap()[0].head.clone();
        assert!(head.contains(&format!("authorization: {sent}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn inf_6_a_provider_that_goes_silent_is_given_up() {
    let provider = Provider::start(vec![json!([{"wait": true}])]).await;
    let server = Server::start(&["--openai-base-url", &provider.url, "--timeout", "1"]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &json!({"conv_id": "c", "prompt": "hi"})).await;
    socket.until("log", 1).await;
    assert_eq!(socket.of("log")[0]["data"]["fields"]["code"], "timeout");
    assert_eq!(socket.of("log")[0]["data"]["message"], "the provider went silent");
}
