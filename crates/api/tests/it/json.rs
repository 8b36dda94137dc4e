//! Fault F27: bodies, paths and heads that are meant to break something. Always a 4xx, in time, never a 5xx.

use serde_json::json;

use crate::app::TestApp;
use crate::client::{converse, exchange};

/// Every endpoint that reads a body; `{}` alone is fine for none of the first three.
const READERS: [(&str, &str); 5] = [
    ("POST", "/api/chat/profiles"),
    ("PATCH", "/api/chat/profiles/agent"),
    ("POST", "/api/chat/profile"),
    ("POST", "/api/chat/profiles/agent/default"),
    ("POST", "/chat"),
];

#[tokio::test]
async fn f27_bodies_that_are_no_json_object_are_bad_requests_everywhere() {
    let app = TestApp::start().await;
    let number = "9".repeat(1_000_000);
    let deep = "[".repeat(100_000);
    let deep_pairs = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = "{\"a\":".repeat(100_000);
    let big = format!("{{\"slug\":\"n\",\"x\":{number}}}");
    let fraction = format!("{{\"slug\":\"n\",\"x\":1e{}}}", "9".repeat(1000));
    let bodies: [&[u8]; 32] = [
        b"null",
        b"true",
        b"5",
        b"\"text\"",
        b"[]",
        b"[{}]",
        b"{",
        b"}",
        b"{]",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":01}",
        b"{\"a\":+1}",
        b"{\"a\":.5}",
        b"{\"a\":NaN}",
        b"{} {}",
        b"{} x",
        b"{}\0",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        b"{\"\xc0\x80\":1}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"line\nbreak\"}",
        b"{\"a\":1,\"a\":1}",
        number.as_bytes(),
        deep.as_bytes(),
        deep_pairs.as_bytes(),
        objects.as_bytes(),
        big.as_bytes(),
    ];
    for (method, target) in READERS {
        for body in bodies.iter().copied().chain([fraction.as_bytes()]) {
            let answer = app.call(method, target).raw(body).send().await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(30)]).into_owned();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (400, "bad request\n"),
                "{method} {target} {shown}"
            );
        }
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
}

#[tokio::test]
async fn f27_duplicate_keys_are_refused_at_every_depth() {
    let app = TestApp::start().await;
    for body in [
        r#"{"slug":"a","slug":"b"}"#,
        r#"{"slug":"a","runtime":{"system_prompt":"x","system_prompt":"y"}}"#,
        r#"{"slug":"a","extensions":{"a.b@v1":{"k":1,"k":2}}}"#,
        r#"{"slug":"a","slu\u0067":"b"}"#,
        r#"{"slug":"a","unknown":[{"k":1,"k":1}]}"#,
    ] {
        let answer = app.call("POST", "/api/chat/profiles").raw(body).send().await;
        answer.expect_text(400, "bad request");
    }
}

#[tokio::test]
async fn f27_a_hundred_thousand_keys_are_answered_in_time() {
    let app = TestApp::start().await;
    let keys: Vec<String> = (0..100_000).map(|i| format!("\"k{i:05}\":0")).collect();
    let unknown = format!("{{\"slug\":\"many\",{}}}", keys.join(","));
    assert!(unknown.len() < 1_300_000);
    let answer = app.call("POST", "/api/chat/profiles").raw(&unknown).send().await;
    assert_eq!(answer.status, 413, "beyond 1 MiB");
    let keys: Vec<String> = (0..100_000).map(|i| format!("\"{i:x}\":0")).collect();
    let unknown = format!("{{\"slug\":\"many\",{}}}", keys.join(","));
    let answer = app.call("POST", "/api/chat/profiles").raw(&unknown).send().await;
    assert_eq!(answer.expect_json(201)["slug"], "many", "unknown keys are ignored");
    let inside = format!("{{\"slug\":\"m2\",\"extensions\":{{{}}}}}", keys.join(","));
    let answer = app.call("POST", "/api/chat/profiles").raw(&inside).send().await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.len() < 1000, "the refusal is short: {} bytes", answer.body.len());
}

#[tokio::test]
async fn f27_wrong_types_are_bad_requests() {
    let app = TestApp::start().await;
    for (key, values) in [
        ("slug", vec![json!(5), json!([]), json!({})]),
        ("registry", vec![json!(5), json!(false)]),
        ("display_name", vec![json!(5), json!(["x"])]),
        ("description", vec![json!({}), json!(1.5)]),
        ("runtime", vec![json!([]), json!("x"), json!(5), json!([{}, "p", [], []])]),
        ("policy", vec![json!([]), json!(true), json!([true])]),
        ("metadata", vec![json!([]), json!("x"), json!([["t"]])]),
        ("extensions", vec![json!([]), json!("x")]),
        ("set_default", vec![json!("true"), json!(1)]),
        ("note", vec![json!(5)]),
    ] {
        for value in values {
            for (method, target) in &READERS[..2] {
                if *method == "PATCH" && key == "slug" {
                    continue; // not a member of a patch, so it is ignored
                }
                let mut body = json!({"slug": "x"});
                body[key] = value.clone();
                let answer = app.call(method, target).json(&body).send().await;
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (400, "bad request\n"),
                    "{method} {key}: {value}"
                );
            }
        }
    }
    for (part, value) in [
        ("runtime", json!({"system_prompt": 5})),
        ("runtime", json!({"tools": "calc"})),
        ("runtime", json!({"tools": [5]})),
        ("runtime", json!({"middlewares": {}})),
        ("runtime", json!({"middlewares": ["agentmode"]})),
        ("runtime", json!({"middlewares": [["agentmode"]]})),
        ("runtime", json!({"middlewares": [{"name": 5}]})),
        ("runtime", json!({"middlewares": [{"name": "agentmode", "enabled": "yes"}]})),
        ("runtime", json!({"step_settings_patch": []})),
        ("policy", json!({"allow_overrides": "yes"})),
        ("policy", json!({"allowed_override_keys": "x"})),
        ("policy", json!({"read_only": 1})),
        ("metadata", json!({"tags": "x"})),
        ("metadata", json!({"tags": [1]})),
        ("metadata", json!({"version": -1})),
        ("metadata", json!({"version": 1.5})),
        ("metadata", json!({"created_at_ms": "now"})),
    ] {
        let body = json!({"slug": "x", part: value});
        app.post("/api/chat/profiles", body).await.expect_text(400, "bad request");
    }
}

#[tokio::test]
async fn members_that_are_null_count_as_absent() {
    let app = TestApp::start().await;
    let null = json!(null);
    let document = app.create(json!({
        "slug": "n", "registry": null, "display_name": null, "description": null, "policy": null,
        "metadata": null, "extensions": null, "set_default": null, "expected_version": null, "note": null,
        "runtime": {"system_prompt": null, "middlewares": null, "tools": null, "step_settings_patch": null},
    }))
    .await;
    assert_eq!(document, crate::app::bare("n", 1, false));
    let document = app.create(json!({
        "slug": "m", "runtime": {"middlewares": [{"name": "sqlite", "id": null, "enabled": null, "config": null}]},
        "policy": {"allow_overrides": null, "allowed_override_keys": null, "read_only": null},
        "metadata": {"tags": null, "version": null}, "extensions": {"a.b@v1": null},
    }))
    .await;
    assert_eq!(document["runtime"], json!({"middlewares": [{"name": "sqlite"}]}));
    assert_eq!(document["extensions"], json!({"a.b@v1": null}), "a null payload is a payload");
    assert_eq!(document["policy"]["allowed_override_keys"], null);
}

#[tokio::test]
async fn c20_3_4_text_survives_as_it_was_sent() {
    let app = TestApp::start().await;
    let text = "<b>&\u{2028}\u{1F600}\u{0}\u{7f}\"\\é";
    let body = json!({"slug": "t", "description": text, "runtime": {"system_prompt": text},
        "extensions": {"a.b@v1": {text: text}}});
    let document = app.create(body.clone()).await;
    assert_eq!(document["description"], body["description"]);
    assert_eq!(document["runtime"], body["runtime"]);
    assert_eq!(document["extensions"], body["extensions"]);
}

#[tokio::test]
async fn f27_nasty_paths_are_refused_and_reach_nothing() {
    let app = TestApp::start().await;
    let long = "a".repeat(5000);
    for path in [
        "/api/chat/profiles/%2e%2e",
        "/api/chat/profiles/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/api/chat/profiles/..",
        "/api/chat/profiles/../profiles/agent",
        "/api/chat/./profiles",
        "/api/chat//profiles",
        "/api/chat/profiles//agent",
        "/api/chat/profiles/agent%00",
        "/api/chat/profiles/%00",
        "/api/chat/profiles/agent%0d%0aX:1",
        "/api/chat/profiles/%2561gent",
        "/api/chat/profiles/agent%2f",
        "/api/chat/profiles/agent%5cdefault",
        "/api/chat/profiles/%",
        "/api/chat/profiles/%4",
        "/api/chat/profiles/agent;x=1",
        "/api/chat/profiles/%EF%BC%A1gent",
        "/api/chat/profiles/%D0%B0gent",
        "/api/chat/profiles/agent/default/",
        "/api/chat/profiles/agent/%2e%2e",
        &format!("/api/chat/profiles/{long}"),
        &format!("/api/chat/profiles{}", "/".repeat(5000)),
    ] {
        for method in ["GET", "PATCH", "DELETE", "POST"] {
            let call = app.call(method, path);
            let call =
                if method == "GET" { call } else { call.json(&json!({"display_name": "x"})) };
            let answer = call.send().await;
            // Unclean paths may be redirected to the clean one; that is not part of the contract.
            let refused = matches!(answer.status, 301 | 400 | 404 | 405);
            assert!(refused, "{method} {path}: {} {}", answer.status, answer.text());
        }
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
}

#[tokio::test]
async fn f27_heads_beyond_the_limits_are_refused() {
    let app = TestApp::start().await;
    // The bound is one of the buffer, so it holds within a factor of two.
    let long = "a".repeat(300_000);
    let url = app.get(&format!("/api/chat/profiles?q={long}")).await;
    assert!(matches!(url.status, 414 | 431), "{}", url.status);
    let header = app.call("GET", "/api/chat/profiles").header("X-Long", &long).send().await;
    assert_eq!(header.status, 431);
    let cookie = app.call("GET", "/api/chat/profile").header("Cookie", &long).send().await;
    assert_eq!(cookie.status, 431);
    let mut many = app.call("GET", "/api/chat/profiles");
    for i in 0..500 {
        many = many.header(&format!("X-{i}"), "1");
    }
    assert_eq!(many.send().await.status, 431);
}

#[tokio::test]
async fn f27_broken_requests_are_refused_and_the_server_lives_on() {
    let app = TestApp::start().await;
    let host = format!("Host: {}\r\n", app.address);
    for head in [
        "NONSENSE\r\n\r\n".to_owned(),
        "GET /api/chat/profiles HTTP/9.9\r\n\r\n".into(),
        format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"),
        format!("POST * HTTP/1.1\r\n{host}\r\n"),
        format!("CONNECT example.com:443 HTTP/1.1\r\n{host}\r\n"),
        format!("GET /api/chat/profiles HTTP/1.1\r\n{host}Bad Header: x\r\n\r\n"),
        format!("GET /api/chat/profiles HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
        format!("POST /chat HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
        format!("POST /chat HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"),
        format!("POST /chat HTTP/1.1\r\n{host}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}} "),
        format!("POST /chat HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n{{}}"),
        format!(
            "POST /chat HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"
        ),
        format!(
            "POST /chat HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
        ),
    ] {
        let answer = exchange(app.address, head.as_bytes(), false).await;
        assert!((400..500).contains(&answer.status), "{head:?}: {}", answer.status);
    }
    app.get("/api/chat/profiles").await.expect_json(200);
}

#[tokio::test]
async fn f27_a_body_that_was_not_read_is_never_taken_for_the_next_request() {
    let app = TestApp::start().await;
    let host = format!("Host: {}\r\n", app.address);
    let hidden = format!("DELETE /api/chat/profiles/agent HTTP/1.1\r\n{host}\r\n");
    let last = format!("GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for (method, target) in [
        ("GET", "/api/chat/profiles"),
        ("PUT", "/api/chat/profiles"),
        ("POST", "/api/nothing"),
        ("DELETE", "/api/chat/profiles/nobody"),
        ("POST", "/api/chat/profiles"),
    ] {
        for (head, body) in [
            (format!("Content-Length: {}", hidden.len()), &hidden),
            ("Transfer-Encoding: chunked".into(), &chunked),
        ] {
            let first = format!("{method} {target} HTTP/1.1\r\n{host}{head}\r\n\r\n{body}");
            let answers = converse(app.address, format!("{first}{last}").as_bytes()).await;
            let count = answers.matches("HTTP/1.1 ").count();
            // The second is the one after it, unless the server closed the connection.
            assert!((1..=2).contains(&count), "{method} {target} {head}: {answers}");
            assert_eq!(app.document("agent").await["slug"], "agent");
        }
    }
}

#[tokio::test]
async fn chunked_bodies_are_read_whole() {
    let app = TestApp::start().await;
    let chunks = "9\r\n{\"slug\":\"\r\n4\r\nx1\"}\r\n0\r\n\r\n";
    let call = app.call("POST", "/api/chat/profiles").header("Transfer-Encoding", "chunked");
    let answer = call.raw(chunks).send().await;
    assert_eq!(answer.expect_json(201)["slug"], "x1");
}

#[tokio::test]
async fn a_body_that_breaks_off_writes_nothing() {
    let app = TestApp::start().await;
    let call = app.call("POST", "/api/chat/profiles").header("Content-Length", "100");
    let bytes = call.raw("{\"slug\":\"half\"}").bytes();
    {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // Whatever the server says, it is done with this request when the connection ends.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    app.get("/api/chat/profiles/half").await.expect_text(404, "profile not found");
}
