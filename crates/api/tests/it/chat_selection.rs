//! Chapter 20 §8, decisions 18 to 21 and 47: which profile `/chat` and `/ws` run under, and the order of their checks.

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::app::TestApp;
use crate::client::Answer;

async fn with_profiles() -> TestApp {
    let app = TestApp::start().await;
    for slug in ["path", "body", "query", "old", "cookie", "newer"] {
        app.create(json!({"slug": slug})).await;
    }
    app.create(json!({"slug": "open", "policy": {"allow_overrides": true}})).await;
    app
}

async fn chat(app: &TestApp, target: &str, cookie: &str, body: Value) -> Answer {
    let call = app.call("POST", target).header("Cookie", cookie);
    call.json(&body).send().await
}

#[tokio::test]
async fn the_first_source_that_is_not_blank_names_the_profile() {
    let app = with_profiles().await;
    let cookie = "chat_profile=cookie";
    for (target, cookie, body, expected) in [
        ("/chat/path?profile=query", cookie, json!({"profile": "body"}), "path"),
        ("/chat/path/body/query", "", json!({}), "path"),
        ("/chat/%20PATH%20", "", json!({}), "path"),
        ("/chat/", "", json!({"profile": "body"}), "body"),
        ("/chat/%20", "", json!({"profile": "body"}), "body"),
        ("/chat?profile=query", cookie, json!({"profile": " Body "}), "body"),
        (
            "/chat?runtime_key=query",
            cookie,
            json!({"runtime_key": "newer", "profile": "body"}),
            "newer",
        ),
        ("/chat?runtime_key=query", cookie, json!({"runtime_key": " ", "profile": "body"}), "body"),
        ("/chat?profile=query&runtime=old", cookie, json!({"profile": " "}), "query"),
        ("/chat?runtime_key=newer&profile=query&runtime=old", cookie, json!({}), "newer"),
        ("/chat?profile=%20&runtime=old", cookie, json!({}), "old"),
        ("/chat", cookie, json!({}), "cookie"),
        ("/chat", "chat_profile=COOKIE", json!({}), "cookie"),
        ("/chat", "", json!({}), "default"),
        ("/chat?registry=default", cookie, json!({"registry": "DEFAULT"}), "cookie"),
        ("/chat", "", json!({"registry_slug": "default", "registry": "team"}), "default"),
    ] {
        let mut body = body;
        body["prompt"] = json!("hello");
        let answer = chat(&app, target, cookie, body).await.expect_json(200);
        assert_eq!(answer["runtime_key"], expected, "{target} {cookie}");
        assert_eq!(answer["profile_metadata"]["profile.slug"], expected, "{target} {cookie}");
    }
}

#[tokio::test]
async fn explicit_sources_are_strict_and_an_error_names_the_value_used() {
    let app = with_profiles().await;
    for (target, body, status, text) in [
        ("/chat", json!({"profile": " nobody "}), 404, "profile not found: nobody"),
        ("/chat", json!({"profile": "bad slug!"}), 400, "invalid profile: bad slug!"),
        (
            "/chat",
            json!({"runtime_key": "Nobody", "profile": "body"}),
            404,
            "profile not found: Nobody",
        ),
        ("/chat?profile=no-body", json!({}), 404, "profile not found: no-body"),
        ("/chat?runtime_key=a%20b&profile=body", json!({}), 400, "invalid profile: a b"),
        ("/chat?runtime=nobody", json!({}), 404, "profile not found: nobody"),
        ("/chat/nobody", json!({"profile": "body"}), 404, "profile not found: nobody"),
        ("/chat/b%2Fd", json!({}), 400, "invalid profile: b/d"),
        ("/chat", json!({"registry": "bad one"}), 400, "invalid registry: bad one"),
        ("/chat?registry=bad%20one", json!({}), 400, "invalid registry: bad one"),
        ("/chat", json!({"registry": "team"}), 404, "registry not found"),
        ("/chat", json!({"registry": "team", "profile": "body"}), 404, "registry not found"),
        (
            "/chat",
            json!({"registry": "bad one", "profile": "bad slug"}),
            400,
            "invalid registry: bad one",
        ),
        (
            "/chat",
            json!({"registry": "team", "profile": "bad slug"}),
            400,
            "invalid profile: bad slug",
        ),
    ] {
        let mut body = body;
        body["prompt"] = json!("hello");
        chat(&app, target, "chat_profile=cookie", body).await.expect_text(status, text);
    }
}

#[tokio::test]
async fn chat_reports_the_first_of_its_checks() {
    let app = with_profiles().await;
    let overrides = json!({"system_prompt": "x"});
    let unknown = json!({"nope": 1});
    for (body, status, text) in [
        (json!({"prompt": 5, "registry": "bad one"}), 400, "bad request"),
        (
            json!({"registry": "bad one", "profile": "bad slug", "overrides": unknown}),
            400,
            "invalid registry: bad one",
        ),
        (json!({"profile": "nobody", "overrides": unknown}), 404, "profile not found: nobody"),
        (json!({"overrides": unknown}), 400, "unknown override \"nope\""),
        (json!({"overrides": overrides}), 400, "profile does not allow engine overrides"),
        (json!({"prompt": "  "}), 400, "missing prompt"),
        (json!({"prompt": "", "text": "\n"}), 400, "missing prompt"),
        (json!({"prompt": null}), 400, "missing prompt"),
        (json!({}), 400, "missing prompt"),
    ] {
        chat(&app, "/chat", "", body).await.expect_text(status, text);
    }
    for raw in ["", "null", "[]", "{", "{}{}", "\"x\"", "{\"prompt\":\"a\",\"prompt\":\"b\"}"] {
        let answer = app.call("POST", "/chat").raw(raw).send().await;
        answer.expect_text(400, "bad request");
    }
}

#[tokio::test]
async fn a_started_answer_says_what_it_runs_under() {
    let app = with_profiles().await;
    let body =
        json!({"text": " hi ", "conv_id": " c-1 ", "profile": "open", "idempotency_key": "k"});
    let answer = chat(&app, "/chat", "", body.clone()).await;
    let value = answer.expect_json(200);
    let metadata = json!({"profile.registry": "default", "profile.slug": "open",
        "profile.version": 1, "profile.source": "http-api"});
    for (key, expected) in [
        ("conv_id", json!("c-1")),
        ("idempotency_key", json!("k")),
        ("status", json!("started")),
        ("runtime_key", json!("open")),
        ("profile_metadata", metadata),
    ] {
        assert_eq!(value[key], expected, "{key}");
    }
    for key in ["session_id", "turn_id", "inference_id", "runtime_fingerprint"] {
        assert!(value[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {value}");
    }
    let again = chat(&app, "/chat", "", body).await;
    assert_eq!(again.expect_json(200)["turn_id"], value["turn_id"], "a replay is the same turn");
    let body = json!({"prompt": "other", "conv_id": "c-1", "idempotency_key": "k"});
    let answer = chat(&app, "/chat", "", body).await;
    answer.expect_text(422, "idempotency key was used with another prompt");
}

#[tokio::test]
async fn c30_d55_overrides_are_gated_and_checked_in_their_order() {
    let app = with_profiles().await;
    let policy = json!({"allow_overrides": true, "allowed_override_keys": ["system-prompt", "tools"],
        "denied_override_keys": ["Tools"]});
    app.create(json!({"slug": "gated", "policy": policy})).await;
    let invalid = |key: &str, reason: &str| format!("invalid override \"{key}\": {reason}");
    for (profile, overrides, text) in [
        ("default", json!({"System_Prompt": "x"}), "unknown override \"System_Prompt\"".into()),
        ("default", json!({"tools": 5, "zz": 1}), "unknown override \"zz\"".into()),
        ("default", json!({"tools": []}), "profile does not allow engine overrides".into()),
        (
            "gated",
            json!({"middlewares": 5}),
            "profile does not allow override \"middlewares\"".into(),
        ),
        ("gated", json!({"tools": 5}), "profile does not allow override \"tools\"".into()),
        ("gated", json!({"system_prompt": 5}), invalid("system_prompt", "must be a string")),
        ("open", json!({"tools": "x"}), invalid("tools", "must be an array")),
        ("open", json!({"tools": ["nope"]}), invalid("tools", "unknown tool \"nope\"")),
        (
            "open",
            json!({"middlewares": [{"name": "nope"}]}),
            invalid("middlewares", "unknown middleware \"nope\""),
        ),
        (
            "open",
            json!({"middlewares": [{"name": "sqlite", "config": {"dsn": "x"}}]}),
            invalid("middlewares", "dsn may only be set by the operator"),
        ),
        (
            "default",
            json!({"step_mode": true}),
            "step mode is not available: the debug API is off".into(),
        ),
    ] {
        for key in ["overrides", "request_overrides"] {
            let body = json!({"prompt": "", "profile": profile, key: overrides});
            chat(&app, "/chat", "", body).await.expect_text(400, &text);
        }
    }
    for (profile, overrides) in [
        ("gated", json!({"system_prompt": "mine"})),
        ("open", json!({"tools": [], "middlewares": [{"name": "agentmode"}]})),
        ("open", json!({"tools": ["calc", "calculator", "sql_query"]})),
        ("default", json!({"step_mode": false})),
        ("default", json!({})),
        ("default", Value::Null),
    ] {
        let body = json!({"prompt": "x", "profile": profile, "overrides": overrides});
        chat(&app, "/chat", "", body).await.expect_json(200);
    }
    let both = json!({"prompt": "x", "profile": "open", "overrides": {"nope": 1}, "request_overrides": {}});
    chat(&app, "/chat", "", both).await.expect_json(200);
}

/// The runtime key of the first frame, or status and text of the refusal.
async fn hello(app: &TestApp, target: &str, cookie: &str) -> Result<String, (u16, String)> {
    let url = format!("ws://{}{target}", app.address);
    let mut request = url.into_client_request().unwrap();
    if !cookie.is_empty() {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((mut socket, _)) => {
            let Some(Ok(Message::Text(frame))) = socket.next().await else { panic!("no hello") };
            let frame: Value = serde_json::from_str(&frame).unwrap();
            assert_eq!(frame["event"]["type"], "ws.hello");
            Ok(frame["event"]["data"]["runtimeKey"].as_str().unwrap().to_owned())
        }
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn sockets_are_greeted_under_the_profile_that_their_request_names() {
    let app = with_profiles().await;
    let cookie = "chat_profile=cookie";
    for (query, cookie, expected) in [
        ("&runtime_key=newer&profile=query&runtime=old", cookie, "newer"),
        ("&profile=QUERY&runtime=old", cookie, "query"),
        ("&profile=%20&runtime=old", cookie, "old"),
        ("", cookie, "cookie"),
        ("", "chat_profile=gone", "default"),
        ("", "", "default"),
    ] {
        let conv_id = format!("c{}", query.len() + cookie.len());
        let greeted = hello(&app, &format!("/ws?conv_id={conv_id}{query}"), cookie).await;
        assert_eq!(greeted, Ok(expected.to_owned()), "{query} {cookie}");
    }
}

#[tokio::test]
async fn sockets_are_refused_before_the_upgrade_in_the_order_of_the_contract() {
    let app = with_profiles().await;
    for (query, status, text) in [
        ("", 400, "missing conv_id\n"),
        ("conv_id=%20&profile=bad%20slug", 400, "missing conv_id\n"),
        ("conv_id=c&registry=bad%20one&profile=bad%20slug", 400, "invalid registry: bad one\n"),
        ("conv_id=c&registry=team&profile=bad%20slug", 400, "invalid profile: bad slug\n"),
        ("conv_id=c&registry=team", 404, "registry not found\n"),
        ("conv_id=c&profile=nobody", 404, "profile not found: nobody\n"),
    ] {
        let refused = hello(&app, &format!("/ws?{query}"), "").await;
        assert_eq!(refused, Err((status, text.to_owned())), "{query}");
        let plain = app.get(&format!("/ws?{query}")).await;
        assert_eq!((plain.status, plain.text().as_str()), (status, text), "{query}");
    }
    let plain = app.get("/ws?conv_id=c-9").await;
    plain.expect_text(400, "Bad Request");
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn an_edited_profile_runs_in_its_new_version_on_the_next_turn() {
    let app = with_profiles().await;
    let mut seen = Vec::new();
    for version in 1..=3 {
        let body = json!({"prompt": "x", "profile": "body", "conv_id": format!("c-{version}")});
        let answer = chat(&app, "/chat", "", body).await.expect_json(200);
        assert_eq!(answer["profile_metadata"]["profile.version"], version);
        assert!(!seen.contains(&answer["runtime_fingerprint"]), "the fingerprint changes too");
        seen.push(answer["runtime_fingerprint"].clone());
        let body = json!({"runtime": {"system_prompt": format!("v{version}")}});
        app.patch("/api/chat/profiles/body", body).await.expect_json(200);
    }
}
