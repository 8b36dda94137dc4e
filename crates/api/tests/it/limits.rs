//! Decisions 8, 14, 40 and 47: limits, media types, problem documents, rehearsals and notes.

use serde_json::{Value, json};

use crate::app::{Setup, TestApp, bare};
use crate::client::Answer;

const PROFILES: &str = "/api/chat/profiles";

async fn post(app: &TestApp, body: &Value) -> Answer {
    app.call("POST", PROFILES).json(body).send().await
}

fn middlewares(count: usize) -> Value {
    (0..count).map(|i| json!({"name": "sqlite", "id": format!("i{i}")})).collect()
}

fn extensions(count: usize) -> Value {
    let pairs = (0..count).map(|i| (format!("a.x{i}@v1"), json!(i)));
    Value::Object(pairs.collect())
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test]
async fn limits_hold_to_the_byte_and_the_item() {
    let app = TestApp::start().await;
    let text = |n: usize| json!("x".repeat(n));
    let list = |n: usize, item: &str| json!(vec![item; n]);
    let cases: [(&str, Value, Value, String); 8] = [
        ("display_name", text(256), text(257), "(display_name): must be at most 256 bytes".into()),
        (
            "description",
            text(16384),
            text(16385),
            "(description): must be at most 16384 bytes".into(),
        ),
        (
            "runtime",
            json!({"system_prompt": text(262_144)}),
            json!({"system_prompt": text(262_145)}),
            "(runtime.system_prompt): must be at most 262144 bytes".into(),
        ),
        (
            "runtime",
            json!({"middlewares": middlewares(64)}),
            json!({"middlewares": middlewares(65)}),
            "(runtime.middlewares): must be at most 64 items".into(),
        ),
        (
            "runtime",
            json!({"tools": list(128, "calc")}),
            json!({"tools": list(129, "calc")}),
            "(runtime.tools): must be at most 128 items".into(),
        ),
        (
            "metadata",
            json!({"tags": list(64, "t")}),
            json!({"tags": list(65, "t")}),
            "(metadata.tags): must be at most 64 items".into(),
        ),
        (
            "extensions",
            extensions(64),
            extensions(65),
            "(extensions): must be at most 64 items".into(),
        ),
        (
            "extensions",
            json!({"a.b@v1": nested(64)}),
            json!({"a.b@v1": nested(65)}),
            "(profile.extensions[a.b@v1]): must be at most 64 levels deep".into(),
        ),
    ];
    for (i, (key, good, bad, text)) in cases.into_iter().enumerate() {
        let refusal = format!("validation error {text}");
        let slug = format!("p{i}");
        post(&app, &json!({"slug": slug, key: bad})).await.expect_text(400, &refusal);
        post(&app, &json!({"slug": slug, key: good})).await.expect_json(201);
        app.patch(&format!("{PROFILES}/{slug}"), json!({key: bad}))
            .await
            .expect_text(400, &refusal);
    }
}

#[tokio::test]
async fn multi_byte_names_are_measured_in_bytes_after_trimming() {
    let app = TestApp::start().await;
    let name = format!("  {}  ", "é".repeat(128));
    post(&app, &json!({"slug": "a", "display_name": name})).await.expect_json(201);
    let name = "é".repeat(129);
    let answer = post(&app, &json!({"slug": "b", "display_name": name})).await;
    answer.expect_text(400, "validation error (display_name): must be at most 256 bytes");
}

#[tokio::test]
async fn a_stored_document_is_at_most_512_kib() {
    let app = TestApp::start().await;
    let body = |size: usize| json!({"slug": "big", "extensions": {"a.b@v1": "x".repeat(size)}});
    let answer = post(&app, &body(600 * 1024)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().ends_with("): must be at most 524288 bytes\n"), "{}", answer.text());
    post(&app, &body(500 * 1024)).await.expect_json(201);
}

#[tokio::test]
async fn c20_h9_bodies_beyond_1_mib_are_413_on_every_endpoint() {
    let app = TestApp::start().await;
    for (method, target) in [
        ("POST", PROFILES),
        ("PATCH", "/api/chat/profiles/agent"),
        ("POST", "/api/chat/profiles/agent/default"),
        ("POST", "/api/chat/profile"),
    ] {
        for size in [1024 * 1024 + 1, 20_000_000] {
            let body = format!("{{{}}}", " ".repeat(size - 2));
            let answer = app.call(method, target).raw(&body).send().await;
            answer.expect_text(413, "request body too large");
        }
        let chunks = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2_000_000, " ".repeat(2_000_000));
        let call = app.call(method, target).header("Transfer-Encoding", "chunked").raw(chunks);
        call.send().await.expect_text(413, "request body too large");
    }
    let exact = format!("{{\"slug\":\"fits\"{}}}", " ".repeat(1024 * 1024 - 15));
    assert_eq!(exact.len(), 1024 * 1024);
    app.call("POST", PROFILES).raw(exact).send().await.expect_json(201);
}

#[tokio::test]
async fn prompts_may_have_1_mib() {
    let app = TestApp::start().await;
    let chat = async |size: usize| {
        let body = json!({"prompt": "x".repeat(size)});
        app.call("POST", "/chat").json(&body).send().await
    };
    chat(1024 * 1024).await.expect_json(200);
    let answer = chat(1024 * 1024 + 1).await;
    answer.expect_text(400, "validation error (prompt): must be at most 1048576 bytes");
}

#[tokio::test]
async fn c20_h12_bodies_of_other_media_types_are_415() {
    let app = TestApp::start().await;
    for (method, target) in [
        ("POST", PROFILES),
        ("PATCH", "/api/chat/profiles/agent"),
        ("POST", "/api/chat/profiles/agent/default"),
        ("POST", "/api/chat/profile"),
    ] {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain; application/json",
            "application/jsonx",
            "json",
        ] {
            let call =
                app.call(method, target).header("Content-Type", kind).raw("{\"slug\":\"x\"}");
            call.send().await.expect_text(415, "unsupported media type");
        }
    }
    for (i, kind) in
        ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json", ""]
            .iter()
            .enumerate()
    {
        let call = app.call("POST", PROFILES).header("Content-Type", kind);
        call.raw(json!({"slug": format!("x{i}")}).to_string()).send().await.expect_json(201);
    }
    let call =
        app.call("POST", "/api/chat/profiles/agent/default").header("Content-Type", "text/plain");
    call.raw("").send().await.expect_json(200);
}

/// Chapter 30 D46: forms of other sites can neither pass for JSON nor hide where they come from.
#[tokio::test]
async fn prompts_are_json_from_here() {
    let app = TestApp::start().await;
    for (kind, origin, status) in [
        ("application/json", None, 200),
        ("", None, 200),
        ("text/plain", None, 415),
        ("application/x-www-form-urlencoded", None, 415),
        ("application/json", Some("http://evil.test"), 403),
    ] {
        let mut call = app.call("POST", "/chat").header("Content-Type", kind);
        if let Some(origin) = origin {
            call = call.header("Origin", origin);
        }
        let answer = call.raw("{\"prompt\":\"x\"}").send().await;
        assert_eq!(answer.status, status, "{kind} {origin:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn problem_documents_have_all_problems_in_order() {
    let app = TestApp::start().await;
    let body = json!({
        "slug": "x", "display_name": "n".repeat(300),
        "runtime": {"middlewares": [{"name": "sqlite", "config": {"max_rows": 0}}, {"name": "nope"}], "tools": ["", "nope"],
                    "step_settings_patch": {"openai-chat": {"openai-api-key": "k"}}},
        "policy": {"allowed_override_keys": ["a"], "denied_override_keys": ["a"]},
        "extensions": {"bad key": 1, "webchat.starter_suggestions@v1": {"items": [1]}},
    });
    let call =
        app.call("POST", PROFILES).header("Accept", "text/html, application/problem+json;q=0.9");
    let answer = call.header("X-Request-Id", "req-1").json(&body).send().await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (400, Some("application/problem+json"))
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&document["status"], &document["request_id"]), (&json!(400), &json!("req-1")));
    let plain = post(&app, &body).await;
    assert_eq!(document["detail"], plain.text().trim_end(), "the text is the first problem's");
    let problems = document["problems"].as_array().unwrap();
    let found: Vec<(&str, &str)> = problems
        .iter()
        .map(|p| (p["pointer"].as_str().unwrap(), p["keyword"].as_str().unwrap()))
        .collect();
    let expected = [
        ("/runtime/middlewares/0/config/max_rows", "minimum"),
        ("/runtime/middlewares/1/name", "unknown"),
        ("/extensions/bad key", "propertyNames"),
        ("/extensions/webchat.starter_suggestions@v1/items/0", "type"),
        ("/runtime/tools/0", "minLength"),
        ("/policy/override_keys", "conflict"),
        ("/runtime/tools/1", "unknown"),
        ("/runtime/step_settings_patch/openai-chat/openai-api-key", "secret"),
        ("/display_name", "limit"),
    ];
    assert_eq!(found, expected);
    assert!(problems.iter().all(|p| p["message"].as_str().is_some_and(|m| !m.is_empty())));
}

#[tokio::test]
async fn every_refusal_has_a_problem_document_on_request() {
    let app = Setup::default().tokens().start().await;
    for (token, method, target, body, status, detail) in [
        ("", "GET", PROFILES, "", 401, "authentication required"),
        ("u", "POST", PROFILES, "{}", 403, "not allowed for role user"),
        ("o", "GET", "/api/x", "", 404, "404 page not found"),
        ("o", "PUT", PROFILES, "", 405, "method not allowed"),
        ("o", "POST", PROFILES, "{", 400, "bad request"),
        ("o", "GET", "/api/chat/profiles/nobody", "", 404, "profile not found"),
        (
            "o",
            "POST",
            PROFILES,
            "{\"slug\":\"agent\"}",
            409,
            "profile \"agent\" version conflict: expected=0 actual=1",
        ),
        ("o", "POST", "/chat", "{}", 400, "missing prompt"),
    ] {
        let call = app.call(method, target).header("Accept", "application/problem+json");
        let call = call.header("Authorization", format!("Bearer {token}")).raw(body);
        let answer = call.send().await;
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{detail}");
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        let got = (answer.status, document["status"].as_u64(), document["detail"].as_str());
        assert_eq!(got, (status, Some(u64::from(status)), Some(detail)));
        assert_eq!(document["problems"], json!([]));
        assert!(document["title"].is_string() && document["code"].is_string());
    }
}

#[tokio::test]
async fn a_rehearsal_answers_as_the_write_would_and_writes_nothing() {
    let app = TestApp::start().await;
    for (method, target, body) in [
        ("POST", "/api/chat/profiles", json!({"slug": "x1", "set_default": true})),
        ("POST", "/api/chat/profiles", json!({"slug": "agent"})),
        ("POST", "/api/chat/profiles", json!({"slug": "a b"})),
        ("PATCH", "/api/chat/profiles/agent", json!({"display_name": "A", "runtime": {}})),
        ("PATCH", "/api/chat/profiles/agent", json!({"display_name": "B", "expected_version": 9})),
        ("PATCH", "/api/chat/profiles/default", json!({})),
    ] {
        let before = app.get(PROFILES).await;
        let rehearsed = app.call(method, &format!("{target}?dry_run=1")).json(&body).send().await;
        let after = app.get(PROFILES).await;
        assert_eq!(
            (&before.body, before.header("etag")),
            (&after.body, after.header("etag")),
            "{body}"
        );
        let written = app.call(method, target).json(&body).send().await;
        assert_eq!(
            (rehearsed.status, rehearsed.text()),
            (written.status, written.text()),
            "{body}"
        );
        for name in ["etag", "x-registry-version", "content-type"] {
            assert_eq!(rehearsed.header(name), written.header(name), "{name} {body}");
        }
        let mark = if written.status < 300 { Some("1") } else { None };
        assert_eq!(
            (rehearsed.header("x-dry-run"), written.header("x-dry-run")),
            (mark, None),
            "{body}"
        );
    }
    let created = app.get("/api/chat/profiles/x1").await;
    assert_eq!(created.expect_json(200), bare("x1", 1, true));
}

#[tokio::test]
async fn notes_have_at_most_500_bytes() {
    let app = TestApp::start().await;
    let (fits, long) = ("n".repeat(500), "n".repeat(501));
    let refusal = "validation error (note): must be at most 500 bytes";
    for (method, target, in_body) in [
        ("POST", "/api/chat/profiles", true),
        ("PATCH", "/api/chat/profiles/p", true),
        ("POST", "/api/chat/profiles/p/default", false),
        ("DELETE", "/api/chat/profiles/p", false),
    ] {
        for (note, good) in [(&long, false), (&fits, true)] {
            let call = if in_body {
                let body = json!({"slug": "p", "display_name": "P", "note": note});
                app.call(method, target).json(&body)
            } else {
                app.call(method, &format!("{target}?note={note}"))
            };
            let answer = call.send().await;
            if good {
                assert!(answer.status < 300, "{method} {target}: {}", answer.text());
            } else {
                answer.expect_text(400, refusal);
            }
        }
    }
}
