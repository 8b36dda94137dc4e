//! Prompts under a profile as it is being written, and where its fields come from.

use serde_json::{Value, json};

use crate::provider::saying;
use crate::requests::start;
use crate::server::Server;
use crate::socket::Socket;

/// Hands a prompt in and waits for its answer, whose metadata is given back.
async fn tried(server: &Server, slug: &str, conv_id: &str, profile: Value) -> Value {
    let mut socket = Socket::open(server, &format!("conv_id={conv_id}")).await;
    let body = json!({"conv_id": conv_id, "prompt": "hi", "profile": profile});
    let path = format!("/api/chat/profiles/{slug}/try");
    let answer = server.post(&path, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["profile_metadata"]["profile.version"], 0);
    socket.until("llm.final", 1).await;
    socket.of("llm.final")[0]["metadata"].clone()
}

#[tokio::test]
async fn a_draft_answers_and_is_not_stored() {
    let script = vec![saying(&["one"]), saying(&["two"]), saying(&["three"])];
    let (server, provider) = start(script, &[]).await;
    let before = server.get("/api/chat/profiles").await.body;

    // A stored profile with a change: what the change does not name is the stored one's.
    let draft = json!({"display_name": "Other", "runtime": {"system_prompt": "Be a pirate."}});
    let end = tried(&server, "agent", "a", draft).await;
    assert_eq!((&end["runtimeKey"], &end["profileVersion"]), (&json!("agent"), &json!(0)));
    let system = |at: usize| {
        let received = provider.received.lock().unwrap();
        received[at].body["messages"][0]["content"].clone()
    };
    assert_eq!(system(0), "Be a pirate.");

    // One that nobody stored.
    tried(&server, "brand-new", "b", json!({"runtime": {"system_prompt": "Be new."}})).await;
    assert_eq!(system(1), "Be new.");

    // A locked one may be tried by whoever may unlock it, as everybody may here: nothing of it changes.
    let lock = json!({"policy": {"read_only": true}}).to_string();
    let headers = "Content-Type: application/json\r\n";
    let path = "/api/chat/profiles/default";
    assert_eq!(server.request("PATCH", path, headers, &lock).await.status, 200);
    tried(&server, "default", "c", json!({"runtime": {"system_prompt": "Be locked."}})).await;
    assert_eq!(system(2), "Be locked.");

    let unlocked = json!({"policy": {"read_only": false}}).to_string();
    assert_eq!(server.request("PATCH", path, headers, &unlocked).await.status, 200);
    let after = server.get("/api/chat/profiles").await.json();
    let slugs = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|item| item["slug"].clone()).collect()
    };
    assert_eq!(slugs(&after), slugs(&serde_json::from_str(&before).unwrap()));
}

#[tokio::test]
async fn what_is_wrong_with_a_draft_is_told_at_its_fields_and_nothing_runs() {
    let server = Server::start(&[]);
    let path = "/api/chat/profiles/agent/try";
    let tools = json!({"runtime": {"tools": ["nope"]}});
    for (body, status, text) in [
        (json!({"prompt": "hi"}), 400, "validation error (profile): is required"),
        (json!({"profile": {}, "prompt": " "}), 400, "missing prompt"),
        (json!({"profile": {"registry": "none"}, "prompt": "hi"}), 404, "registry not found"),
        (
            json!({"profile": tools, "prompt": "hi"}),
            400,
            "validation error (runtime.tools[0]): unknown tool \"nope\"",
        ),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!((answer.status, answer.body.trim()), (status, text));
    }
    assert_eq!(server.get("/api/chat/conversations").await.json(), json!([]));
    assert_eq!(server.request("GET", path, "", "").await.status, 405);
}

#[tokio::test]
async fn a_stored_version_says_who_gave_every_field_its_value() {
    let (server, _provider) = start(vec![], &["--ai-engine", "small"]).await;
    let patch = json!({"runtime": {"system_prompt": "Be brief.", "middlewares": [{"name": "sqlite", "config": {"max_rows": 5}}]}});
    let headers = "Content-Type: application/json\r\n";
    let path = "/api/chat/profiles/default";
    let patched = server.request("PATCH", path, headers, &patch.to_string()).await;
    assert_eq!(patched.status, 200, "{}", patched.body);
    let explained = server.get("/api/debug/runtime/default/2").await.json();
    let fields = explained["fields"].as_array().unwrap();
    let by = |field: &str| {
        let found = fields.iter().find(|f| f["field"] == field).unwrap();
        let said = found["said"].as_array().unwrap();
        (found["value"].clone(), said.last().unwrap()["by"].clone())
    };
    assert_eq!(by("system_prompt"), (json!("Be brief."), json!("profile")));
    assert_eq!(by("middlewares[0] sqlite /max_rows"), (json!(5), json!("profile")));
    assert_eq!(by("settings ai-engine"), (json!("small"), json!("operator")));
    // The same as what a prompt runs under.
    let body = json!({"prompt": "hi", "conv_id": "c"});
    let ran = server.post("/chat", &body).await.json();
    assert_eq!(explained["fingerprint"], ran["runtime_fingerprint"]);
    assert_eq!(server.get("/api/debug/runtime/default/1").await.status, 200);
    assert_eq!(server.get("/api/debug/runtime/default/9").await.status, 404);
    assert_eq!(server.get("/api/debug/runtime/nobody/1").await.status, 404);
}
