//! The failure that this project exists to end: who runs under which profile, while sockets come and go.

use serde_json::{Value, json};

use crate::provider::{Provider, answers_of};
use crate::server::Server;
use crate::socket::Socket;

async fn started() -> (Server, Provider) {
    let provider = Provider::start(answers_of("switch-during-run")).await;
    let flags = ["--debug-api", "--openai-base-url", &provider.url, "--openai-api-key", "sk-x"];
    let server = Server::start(&flags);
    let pirate = json!({"slug": "pirate", "runtime": {"system_prompt": "You are a pirate."}});
    assert_eq!(server.post("/api/chat/profiles", &pirate).await.status, 201);
    (server, provider)
}

async fn submit(server: &Server, prompt: &str, profile: &str) -> Value {
    let body = json!({"conv_id": "c-1", "prompt": prompt, "profile": profile});
    let answer = server.post("/chat", &body).await.json();
    assert_eq!(
        (&answer["runtime_key"], &answer["profile_metadata"]["profile.slug"]),
        (&json!(profile), &json!(profile))
    );
    answer
}

/// Ten sockets with other cookies; none of them changes what the conversation runs under.
async fn bystanders(server: &Server) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for n in 0..10 {
        let profile = ["default", "agent"][n % 2];
        let cookie = format!("chat_profile={profile}");
        let mut socket = Socket::open_with(server, "conv_id=c-1", &cookie).await;
        socket.until("ws.hello", 1).await;
        assert_eq!(socket.seen[0]["data"]["runtimeKey"], "pirate");
        sockets.push(socket);
    }
    sockets
}

fn runtime(source: &Value) -> (Value, Value) {
    (source["runtimeKey"].clone(), source["runtimeFingerprint"].clone())
}

#[tokio::test]
async fn switch_during_run_holds_while_ten_sockets_with_other_cookies_connect() {
    let (server, provider) = started().await;
    let mut socket = Socket::open(&server, "conv_id=c-1&profile=pirate").await;
    let first = submit(&server, "a", "pirate").await;
    socket.until("llm.delta", 1).await;
    let second = submit(&server, "b", "agent").await;
    assert_eq!((&first["status"], &second["status"]), (&json!("started"), &json!("queued")));
    let expected =
        [&first, &second].map(|a| (a["runtime_key"].clone(), a["runtime_fingerprint"].clone()));
    assert_ne!(expected[0], expected[1]);

    let mut sockets = bystanders(&server).await;
    let shown = server.get("/api/debug/conversations/c-1").await.json();
    assert_eq!(
        (&shown["current_runtime_key"], &shown["active_sockets"]),
        (&json!("pirate"), &json!(11))
    );
    provider.release.notify_one();
    sockets.push(socket);
    for socket in &mut sockets {
        socket.until("llm.final", 2).await;
        let ends: Vec<_> = socket.of("llm.final").iter().map(|e| runtime(&e["metadata"])).collect();
        assert_eq!(ends, expected);
    }
    let kept = |entities: &[Value]| {
        let messages = entities.iter().filter(|e| e["props"]["role"] == "assistant");
        messages.map(|e| runtime(&e["props"]["metadata"])).collect::<Vec<_>>()
    };
    let done = |entities: &[Value]| {
        kept(entities).len() == 2 && entities.iter().all(|e| e["props"]["streaming"] != true)
    };
    assert_eq!(kept(&server.timeline_when("c-1", done).await), expected);
    stored(&server, &expected).await;
    told(&provider);
}

/// Each stored turn says what it ran under, beside its payload and in it.
async fn stored(server: &Server, expected: &[(Value, Value); 2]) {
    let turns = server.get("/api/debug/turns?conv_id=c-1").await.json();
    let turns = turns["items"].as_array().unwrap();
    for (key, fingerprint) in expected {
        let own: Vec<&Value> = turns.iter().filter(|turn| turn["runtime_key"] == *key).collect();
        assert!(own.len() >= 2, "{key}: {turns:?}");
        for turn in own {
            let payload = super::yaml::read(turn["payload"].as_str().unwrap());
            let runtime = &payload["metadata"]["geppetto.runtime@v1"];
            assert_eq!((&runtime["runtime_key"], &runtime["fingerprint"]), (key, fingerprint));
        }
    }
}

fn told(provider: &Provider) {
    let received = provider.received.lock().unwrap();
    let prompts: Vec<&Value> = received.iter().map(|r| &r.body["messages"][0]["content"]).collect();
    assert_eq!(prompts, ["You are a pirate.", "You are a helpful assistant. Be concise."]);
}

#[tokio::test]
async fn c30_d36_each_snapshot_has_the_metadata_of_its_moment() {
    let provider = Provider::start(answers_of("tool-call")).await;
    let flags = ["--debug-api", "--openai-base-url", &provider.url, "--openai-api-key", "sk-x"];
    let server = Server::start(&flags);
    let mut socket = Socket::open(&server, "conv_id=c-1").await;
    server.post("/chat", &json!({"conv_id": "c-1", "prompt": "2+3?"})).await;
    socket.until("llm.final", 2).await;
    let turns = server.get("/api/debug/turns?conv_id=c-1&phase=pre_inference").await.json();
    let first = turns["items"].as_array().unwrap().last().unwrap();
    let payload = super::yaml::read(first["payload"].as_str().unwrap());
    for key in ["geppetto.stop_reason@v1", "geppetto.usage@v1"] {
        let said = payload["metadata"].get(key);
        assert_eq!(said, None, "{key} before anything was answered");
    }
}
