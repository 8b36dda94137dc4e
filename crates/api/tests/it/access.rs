//! Decisions 37 and 38 over the wire: tokens, roles, origins and hosts.

use serde_json::json;

use crate::app::{Setup, TestApp};

const AGENT: &str = "/api/chat/profiles/agent";

#[tokio::test]
async fn with_tokens_everything_but_health_takes_one() {
    let app = Setup::default().tokens().start().await;
    for (method, path) in [
        ("GET", "/api/chat/profiles"),
        ("GET", "/api/chat/profile"),
        ("POST", "/api/chat/profiles"),
        ("GET", "/api/chat/schemas/middlewares"),
        ("POST", "/chat"),
        ("GET", "/ws?conv_id=c"),
        ("GET", "/metrics"),
        ("GET", "/api/nothing"),
        ("GET", "/"),
        ("HEAD", "/api/chat/profiles"),
    ] {
        let answer = app.call(method, path).send().await;
        assert_eq!(answer.status, 401, "{method} {path}");
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Basic "), "{method} {path}: {challenge:?}");
        if method != "HEAD" {
            answer.expect_text(401, "authentication required");
        }
    }
    for token in ["Bearer", "Bearer ", "Bearer wrong", "Basic dTp4", "Basic !", "Token o", "o"] {
        let answer = app.call("GET", AGENT).header("Authorization", token).send().await;
        answer.expect_text(401, "authentication required");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn roles_may_do_what_they_are_for() {
    let app = Setup::default().tokens().start().await;
    for (token, method, path, status) in [
        ("u", "GET", "/api/chat/profiles", 200),
        ("u", "GET", AGENT, 200),
        ("u", "POST", "/api/chat/profile", 200),
        ("u", "POST", "/chat", 200),
        ("u", "POST", "/api/chat/profiles", 403),
        ("u", "PATCH", AGENT, 403),
        ("u", "DELETE", AGENT, 403),
        ("u", "POST", "/api/chat/profiles/agent/default", 403),
        ("u", "GET", "/metrics", 403),
        ("e", "PATCH", AGENT, 200),
        ("e", "GET", "/metrics", 403),
        ("u", "POST", "/api/chat/bundle", 403),
        ("e", "GET", "/api/ops/logs", 403),
        ("e", "GET", "/api/ops/config", 403),
        ("o", "GET", "/api/ops/logs", 200),
        ("o", "GET", "/api/ops/config", 200),
        ("o", "GET", "/metrics", 200),
        ("o", "DELETE", AGENT, 204),
    ] {
        let call = app.call(method, path).header("Authorization", format!("Bearer {token}"));
        let body = json!({"slug": "agent", "prompt": "x", "display_name": "n"});
        let call = if method == "GET" { call } else { call.json(&body) };
        let answer = call.send().await;
        assert_eq!(answer.status, status, "{token} {method} {path}: {}", answer.text());
        if status == 403 {
            let role = if token == "u" { "user" } else { "editor" };
            answer.expect_text(403, &format!("not allowed for role {role}"));
        }
    }
}

#[tokio::test]
async fn the_actor_of_a_write_is_the_name_of_its_token() {
    let app = Setup::default().tokens().start().await;
    let call = app.call("POST", "/api/chat/profiles").header("Authorization", "Bearer e");
    let metadata =
        call.json(&json!({"slug": "p"})).send().await.expect_json(201)["metadata"].clone();
    assert_eq!((&metadata["created_by"], &metadata["updated_by"]), (&json!("bob"), &json!("bob")));
    // The password of Basic, whatever the user name says: `any:e2`.
    let call = app.call("PATCH", "/api/chat/profiles/p").header("Authorization", "Basic YW55OmUy");
    let answer = call.json(&json!({"display_name": "P"})).send().await;
    let metadata = answer.expect_json(200)["metadata"].clone();
    assert_eq!((&metadata["created_by"], &metadata["updated_by"]), (&json!("bob"), &json!("eve")));
}

#[tokio::test]
async fn only_operators_unlock() {
    let app = Setup::default().tokens().start().await;
    let patch = async |token: &str, body| {
        let call = app.call("PATCH", AGENT).header("Authorization", format!("Bearer {token}"));
        call.json(&body).send().await
    };
    patch("e", json!({"policy": {"read_only": true}})).await.expect_json(200);
    let unlock = json!({"policy": {"read_only": false}});
    patch("e", unlock.clone()).await.expect_text(403, "not allowed for role editor");
    patch("o", unlock).await.expect_json(200);
    patch("e", json!({"display_name": "x"})).await.expect_json(200);
}

#[tokio::test]
async fn foreign_origins_may_neither_write_nor_open_sockets() {
    let app = Setup::default().origin("https://chat.example.com").start().await;
    let own = format!("http://{}", app.address);
    for (method, path, origin, allowed) in [
        ("PATCH", AGENT, own.as_str(), true),
        ("PATCH", AGENT, "https://chat.example.com", true),
        ("PATCH", AGENT, "https://evil.example.com", false),
        ("PATCH", AGENT, "null", false),
        ("PATCH", AGENT, "", false),
        ("DELETE", "/api/chat/profiles/nobody", "http://evil.test", false),
        ("POST", "/api/chat/profile", "http://evil.test", false),
        ("POST", "/chat", "http://evil.test", false),
        ("POST", "/chat", "http://127.0.0.1:1", false),
        ("GET", AGENT, "http://evil.test", true),
    ] {
        let call = app.call(method, path).header("Origin", origin);
        let answer = call.json(&json!({"slug": "agent", "prompt": "x"})).send().await;
        if allowed {
            assert_eq!(answer.status, 200, "{method} {path} {origin}: {}", answer.text());
        } else {
            answer.expect_text(403, "origin not allowed");
        }
    }
    let upgrade = app.call("GET", "/ws?conv_id=c").header("Origin", "http://evil.test");
    let upgrade = upgrade.header("Connection", "Upgrade").header("Upgrade", "websocket");
    upgrade.send().await.expect_text(403, "origin not allowed");
}

#[tokio::test]
async fn bound_to_loopback_other_host_names_are_refused() {
    let app = TestApp::start().await;
    let port = app.address.port();
    for (host, status) in [
        (format!("localhost:{port}"), 200),
        ("[::1]".into(), 200),
        (format!("evil.test:{port}"), 403),
        ("127.0.0.1.evil.test".into(), 403),
        ("localhost@evil.test".into(), 403),
        (String::new(), 403),
    ] {
        let answer = app.call("GET", AGENT).header("Host", &host).send().await;
        assert_eq!(answer.status, status, "{host:?}");
    }
    let open = Setup::default().any_host().start().await;
    let answer = open.call("GET", AGENT).header("Host", "chat.example.com").send().await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn f29_no_spelling_of_a_path_goes_round_the_roles() {
    for root in ["", "/x"] {
        let app = Setup::default().root(root).tokens().start().await;
        for path in [
            "/api/chat/profiles/agent",
            "/api/chat/profiles/agent/",
            "/api/chat/profiles/AGENT",
            "/api/chat/%70rofiles/agent",
            "/api/chat/profiles%2fagent",
            "/api//chat/profiles/agent",
            "//api/chat/profiles/agent",
            "/api/chat/./profiles/agent",
            "/api/chat/x/../profiles/agent",
            "/API/chat/profiles/agent",
            "/api/chat/profile/../profiles/agent",
        ] {
            for target in [format!("{root}{path}"), format!("http://{}{root}{path}", app.address)] {
                let call = app.call("DELETE", &target).header("Authorization", "Bearer u");
                let answer = call.send().await;
                assert!(matches!(answer.status, 400 | 403 | 404), "{target}: {}", answer.status);
            }
        }
        let call = app.call("GET", &format!("{root}{AGENT}")).header("Authorization", "Bearer u");
        call.send().await.expect_json(200);
    }
}
