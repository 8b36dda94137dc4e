//! Defects of chapter 40 §16 that show in whole runs: failures, modes, sockets, steps.

use serde_json::{Value, json};

use crate::c30_tools::{call, with_tools};
use crate::provider::{Provider, saying};
use crate::requests::{prompt, replayed, start};
use crate::server::Server;
use crate::socket::Socket;

const ADD: &str = r#"{"a": 1, "b": 2}"#;

/// The messages of a request, from the first call of a tool on: role, and text or result.
fn since_call(provider: &Provider, at: usize) -> Vec<(String, String)> {
    let body = provider.received.lock().unwrap()[at].body.clone();
    let messages = body["messages"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    messages
        .iter()
        .skip_while(|message| message["tool_calls"].is_null())
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

#[tokio::test]
async fn inf_9_inf_29_a_run_that_is_cancelled_in_a_pause_runs_no_tool_then_or_later() {
    let script = vec![call("call_1", "calc", ADD), saying(&["ok"])];
    let (server, provider) = with_tools(script, &json!(["calculator"])).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    let mut body = prompt("p", "k");
    body["overrides"] = json!({"step_mode": true});
    server.post("/chat", &body).await;
    socket.until("debugger.pause", 1).await;
    let cancelled = server.post("/api/chat/conversations/c/cancel", &json!({})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    assert_eq!(replayed(&server, &body, "error").await["error"], "cancelled");
    let pause = json!({"pause_id": socket.of("debugger.pause")[0]["data"]["pauseId"]});
    let late = server.post("/api/debug/continue", &pause).await;
    assert_eq!(late.status, 404, "the pause went with its run: {}", late.body);

    let mut next = prompt("p2", "k2");
    next["overrides"] = json!({"step_mode": false});
    server.post("/chat", &next).await;
    socket.until("llm.final", 2).await;
    assert!(socket.of("tool.delta").is_empty(), "a tool ran: {:?}", socket.of("tool.delta"));
    assert_eq!(socket.of("tool.result")[0]["data"]["result"], "Error: cancelled");
    let told = since_call(&provider, 1);
    let roles: Vec<&str> = told.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["assistant", "tool", "user"], "the call has a result: {told:?}");
    assert!(told[1].1.contains("cancelled"), "{told:?}");
}

/// A Messages answer names a whole call before it breaks off.
#[tokio::test]
async fn inf_9_a_call_of_an_answer_that_broke_off_is_closed_and_never_run() {
    let event = |data: Value| json!({"event": data["type"], "data": data});
    let start = json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "model": "x", "content": [], "usage": {"input_tokens": 1}}});
    let call = json!({"type": "tool_use", "id": "call_1", "name": "calc", "input": {}});
    let cut = json!([
        event(start.clone()),
        event(json!({"type": "content_block_start", "index": 0, "content_block": call})),
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ADD}})),
        event(json!({"type": "content_block_stop", "index": 0})),
        {"cut": true},
    ]);
    let text = json!({"type": "text", "text": ""});
    let whole = json!([
        event(start),
        event(json!({"type": "content_block_start", "index": 0, "content_block": text})),
        event(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}})
        ),
        event(json!({"type": "content_block_stop", "index": 0})),
        event(
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}})
        ),
        event(json!({"type": "message_stop"})),
    ]);
    let provider = Provider::start(vec![cut, whole]).await;
    let root = provider.url.trim_end_matches("/v1").to_owned();
    let server = Server::start(&[
        "--ai-api-type",
        "claude",
        "--ai-engine",
        "test-model",
        "--claude-base-url",
        &root,
        "--claude-api-key",
        "sk-c",
    ]);
    let mut socket = Socket::open(&server, "conv_id=c").await;
    server.post("/chat", &prompt("p", "k")).await;
    replayed(&server, &prompt("p", "k"), "error").await;
    server.post("/chat", &prompt("p2", "k2")).await;
    replayed(&server, &prompt("p2", "k2"), "completed").await;
    socket.until("llm.final", 2).await;
    assert_eq!(socket.of("tool.start").len(), 1, "the call was seen");
    assert!(socket.of("tool.delta").is_empty(), "a tool ran: {:?}", socket.of("tool.delta"));
    let told = provider.received.lock().unwrap()[1].body["messages"].clone();
    let parts: Vec<&Value> = told
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|message| message["content"].as_array().into_iter().flatten())
        .collect();
    let of = |kind: &str| parts.iter().filter(|part| part["type"] == kind).count();
    assert_eq!((of("tool_use"), of("tool_result")), (1, 1), "{told}");
    let result = parts.iter().find(|part| part["type"] == "tool_result").unwrap();
    assert_eq!(result["tool_use_id"], "call_1");
    assert!(result["content"].to_string().contains("not run"), "{result}");
}

#[tokio::test]
async fn inf_18_without_a_key_sockets_come_up_and_a_run_says_which_one_is_missing() {
    for (flags, key) in [
        (&["--ai-engine", "m"][..], "openai-api-key"),
        (&["--ai-engine", "m", "--openai-api-key", ""], "openai-api-key"),
        (&["--ai-engine", "m", "--ai-api-type", "openai-responses"], "openai-api-key"),
        (&["--ai-engine", "m", "--ai-api-type", "claude"], "claude-api-key"),
        (&["--ai-engine", "m", "--ai-api-type", "gemini"], "gemini-api-key"),
    ] {
        let server = Server::start(flags);
        let mut socket = Socket::open(&server, "conv_id=c").await;
        socket.until("ws.hello", 1).await;
        assert_eq!(server.post("/chat", &prompt("p", "k")).await.json()["status"], "started");
        socket.until("log", 1).await;
        let kinds: Vec<&Value> = socket.seen.iter().map(|event| &event["type"]).collect();
        let at = |kind: &str| kinds.iter().position(|seen| *seen == kind);
        assert!(at("llm.start").is_some() && at("llm.start") < at("llm.final"), "{kinds:?}");
        assert!(at("llm.final") < at("log"), "{kinds:?}");
        let log = &socket.of("log")[0]["data"];
        assert_eq!(log["message"], format!("missing API key {key}"), "{flags:?}");
        assert_eq!(log["fields"]["code"], "missing_key", "nobody was asked");
    }
}

#[tokio::test]
async fn inf_21_no_turn_is_without_its_mode_nor_has_that_of_another_profile() {
    let nowhere = "```yaml\nmode_switch:\n  analysis: try it\n  new_mode: nowhere\n```";
    let script = vec![saying(&[nowhere]), saying(&["b"]), saying(&["c"]), saying(&["d"])];
    let (server, provider) = start(script, &[]).await;
    let mut socket = Socket::open(&server, "conv_id=c").await;
    for (n, profile) in ["agent", "agent", "default", "agent"].iter().enumerate() {
        let mut body = prompt(&format!("p{n}"), &format!("k{n}"));
        body["profile"] = (*profile).into();
        server.post("/chat", &body).await;
        replayed(&server, &body, "completed").await;
    }
    socket.until("llm.final", 4).await;
    let data = &socket.of("agent.mode")[0]["data"]["data"];
    let analyst = json!("financial_analyst");
    assert_eq!((&data["from"], &data["to"]), (&analyst, &analyst), "there is no such mode");
    let told: Vec<usize> = provider
        .received
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.body["messages"].to_string().matches("Current mode: financial_analyst").count())
        .collect();
    assert_eq!(told, [1, 1, 0, 1]);
}

#[tokio::test]
async fn inf_24_sockets_that_attach_in_mid_run_leave_its_overrides_in_place() {
    let first: Value = [json!({"wait": true})]
        .into_iter()
        .chain(call("call_1", "calc", ADD).as_array().unwrap().clone())
        .collect();
    let (server, provider) = start(vec![first, saying(&["a"]), saying(&["b"])], &[]).await;
    let profile = json!({"slug": "own", "policy": {"allow_overrides": true},
        "runtime": {"system_prompt": "Of the profile", "tools": ["calculator"]}});
    assert_eq!(server.post("/api/chat/profiles", &profile).await.status, 201);
    let mut watcher = Socket::open(&server, "conv_id=c").await;
    let mut body = prompt("p", "k");
    body["profile"] = "own".into();
    let plain = body.clone();
    body["overrides"] = json!({"system_prompt": "Of the request"});
    let started = server.post("/chat", &body).await.json();
    watcher.until("llm.start", 1).await;
    for query in ["conv_id=c&profile=own", "conv_id=c&profile=default", "conv_id=c"] {
        let mut socket = Socket::open(&server, query).await;
        socket.until("ws.hello", 1).await;
        assert_eq!(socket.seen[0]["data"]["runtimeKey"], "own", "{query}");
    }
    provider.release.notify_one();
    watcher.until("llm.final", 2).await;
    for end in watcher.of("llm.final") {
        assert_eq!(end["metadata"]["runtimeFingerprint"], started["runtime_fingerprint"]);
    }
    replayed(&server, &body, "completed").await;
    let mut after = plain;
    (after["prompt"], after["idempotency_key"]) = ("p2".into(), "k2".into());
    let second = server.post("/chat", &after).await.json();
    assert_ne!(second["runtime_fingerprint"], started["runtime_fingerprint"]);
    replayed(&server, &after, "completed").await;
    let received = provider.received.lock().unwrap();
    let systems: Vec<&Value> = received.iter().map(|r| &r.body["messages"][0]["content"]).collect();
    assert_eq!(systems, ["Of the request", "Of the request", "Of the profile"]);
}

/// Frames of tools carry no session on the wire; what keeps them apart is whose sockets they go to and under which ids.
#[tokio::test]
async fn inf_26_tools_of_two_conversations_never_mix_although_their_calls_have_one_id() {
    // Whichever conversation is faster: a tool first, then words.
    let provider = Provider::choosing(|asked| {
        let messages = asked["messages"].as_array().unwrap();
        if messages.iter().any(|message| message["role"] == "tool") {
            return saying(&["x"]);
        }
        call("call_1", "calc", ADD)
    });
    let provider = provider.await;
    let server = Server::start(&["--openai-base-url", &provider.url]);
    let mut ids = Vec::new();
    let mut sockets = Vec::new();
    for conv_id in ["a", "b"] {
        sockets.push(Socket::open(&server, &format!("conv_id={conv_id}")).await);
    }
    let prompts =
        ["a", "b"].map(|id| json!({"conv_id": id, "prompt": "p", "idempotency_key": "k"}));
    tokio::join!(server.post("/chat", &prompts[0]), server.post("/chat", &prompts[1]));
    for (socket, body) in sockets.iter_mut().zip(&prompts) {
        socket.until("llm.final", 2).await;
        replayed(&server, body, "completed").await;
        for kind in ["tool.start", "tool.delta", "tool.result", "tool.done"] {
            let seen: Vec<&Value> = socket.of(kind).iter().map(|event| &event["id"]).collect();
            assert_eq!(seen, ["call_1"], "{kind}");
        }
        ids.extend(socket.of("llm.start").iter().map(|event| event["id"].to_string()));
    }
    assert!(ids.iter().all(|id| id.bytes().any(|b| !b"0-\"".contains(&b))), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each call of a model has an id of its own");
}

#[tokio::test]
async fn inf_25_no_log_level_writes_down_prompts_arguments_or_results() {
    let arguments = r#"{"a": 77770001, "b": 11, "op": "add"}"#;
    let script = vec![call("call_1", "calc", arguments), saying(&["canary-answer"])];
    let provider = Provider::start(script).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = Server::start(&[
        "--openai-base-url",
        &provider.url,
        "--openai-api-key",
        "sk-canary",
        "--log-level",
        "trace",
        "--log-file",
        log.to_str().unwrap(),
    ]);
    server.post("/chat", &prompt("canary-prompt", "k")).await;
    replayed(&server, &prompt("canary-prompt", "k"), "completed").await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.is_empty(), "requests are logged");
    for secret in ["canary-prompt", "canary-answer", "77770001", "77770012", "sk-canary"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
