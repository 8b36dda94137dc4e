//! Chapter 20 §5.7 and §5.8: the cookie endpoints.

use serde_json::json;

use crate::app::{Setup, TestApp};

const SELECTION: &str = "/api/chat/profile";

#[tokio::test]
async fn the_current_selection_is_the_cookie_if_it_is_usable_else_the_default() {
    let app = TestApp::start().await;
    for (cookie, slug) in [
        ("", "default"),
        ("chat_profile=agent", "agent"),
        ("chat_profile=AGENT", "agent"),
        ("chat_profile=\"agent\"", "agent"),
        ("a=1; chat_profile=agent; b=2", "agent"),
        ("chat_profile=agent; chat_profile=default", "agent"),
        ("chat_profile=gone; chat_profile=agent", "default"),
        ("chat_profile=gone", "default"),
        ("chat_profile=bad slug", "default"),
        ("chat_profile=", "default"),
        ("Chat_Profile=agent", "default"),
        ("xchat_profile=agent", "default"),
        ("chat_profile", "default"),
    ] {
        let answer = app.call("GET", SELECTION).header("Cookie", cookie).send().await;
        assert_eq!(answer.expect_json(200), json!({"slug": slug}), "{cookie}");
        assert_eq!(answer.header("set-cookie"), None, "reading never sets a cookie");
    }
    let call = app.call("GET", "/api/chat/profile?registry=team").header("Cookie", b"\xff=\xfe");
    assert_eq!(call.send().await.expect_json(200), json!({"slug": "default"}));
}

#[tokio::test]
async fn selecting_answers_the_slug_and_sets_a_session_cookie() {
    let app = TestApp::start().await;
    let answer = app.post(SELECTION, json!({"slug": " AGENT ", "registry": "team"})).await;
    assert_eq!(answer.expect_json(200), json!({"slug": "agent"}));
    let expected = "chat_profile=agent; Path=/; HttpOnly; Secure; SameSite=Lax";
    assert_eq!(answer.header("set-cookie"), Some(expected));
}

#[tokio::test]
async fn selecting_reports_the_first_of_its_checks_and_sets_no_cookie() {
    let app = TestApp::start().await;
    for (body, status, text) in [
        ("", 400, "bad request"),
        ("null", 400, "bad request"),
        ("[]", 400, "bad request"),
        ("{\"slug\":\"agent\"", 400, "bad request"),
        ("{\"slug\":\"agent\"} x", 400, "bad request"),
        ("{\"slug\":5}", 400, "bad request"),
        ("{}", 400, "bad request"),
        ("{\"profile\":\"agent\"}", 400, "bad request"),
        ("{\"slug\":\"a b\"}", 400, "bad request"),
        ("{\"slug\":\"nobody\"}", 404, "profile not found"),
    ] {
        let answer = app.call("POST", SELECTION).raw(body).send().await;
        assert_eq!((answer.status, answer.text()), (status, format!("{text}\n")), "{body}");
        assert_eq!(answer.expect_text(status, text).header("set-cookie"), None);
    }
}

#[tokio::test]
async fn the_cookie_is_secure_unless_the_operator_allows_plain_http_to_other_hosts() {
    async fn cookie(app: &TestApp, host: &str, proto: &str) -> bool {
        let call = app.call("POST", SELECTION).header("Host", host).json(&json!({"slug": "agent"}));
        let call = if proto.is_empty() { call } else { call.header("X-Forwarded-Proto", proto) };
        let answer = call.send().await;
        answer.expect_json(200);
        answer.header("set-cookie").unwrap().contains("; Secure;")
    }
    let strict = Setup::default().any_host().start().await;
    let lax = Setup::default().any_host().insecure_cookies().start().await;
    for (host, proto, secure_when_lax) in [
        ("chat.example.com", "", false),
        ("chat.example.com:8080", "http", false),
        ("10.0.0.7:8080", "", false),
        ("[fd00::7]:8080", "", false),
        ("chat.example.com", "https", true),
        ("localhost:8080", "", true),
        ("127.0.0.1", "", true),
        ("[::1]:8080", "", true),
    ] {
        assert!(cookie(&strict, host, proto).await, "{host} {proto}");
        assert_eq!(cookie(&lax, host, proto).await, secure_when_lax, "{host} {proto}");
    }
}

#[tokio::test]
async fn the_cookie_has_the_name_of_the_mount() {
    let app = Setup::default().cookie("stock_profile").start().await;
    let answer = app.post(SELECTION, json!({"slug": "agent"})).await;
    assert!(answer.header("set-cookie").unwrap().starts_with("stock_profile=agent; "));
    for (cookie, slug) in [("stock_profile=agent", "agent"), ("chat_profile=agent", "default")] {
        let answer = app.call("GET", SELECTION).header("Cookie", cookie).send().await;
        assert_eq!(answer.expect_json(200), json!({"slug": slug}));
    }
}

#[tokio::test]
async fn without_cookie_routes_the_endpoint_does_not_exist() {
    let app = Setup::default().no_cookie().start().await;
    app.get(SELECTION).await.expect_text(404, "404 page not found");
    let answer = app.post(SELECTION, json!({"slug": "agent"})).await;
    answer.expect_text(404, "404 page not found");
    let chat = app.call("POST", "/chat").header("Cookie", "chat_profile=agent");
    let answer = chat.json(&json!({"prompt": "hi"})).send().await;
    assert_eq!(answer.expect_json(200)["runtime_key"], "default");
}
