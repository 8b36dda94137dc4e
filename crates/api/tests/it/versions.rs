//! Chapter 20 §3.3, decisions 8, 11 and 12, fault F14: versions and conditions of writes.

use proptest::prelude::*;
use serde_json::json;

use crate::app::TestApp;

const AGENT: &str = "/api/chat/profiles/agent";

#[tokio::test]
async fn f14_versions_in_bodies_are_unsigned_integers_or_the_body_is_refused() {
    let app = TestApp::start().await;
    let conflict =
        |version: &str| format!("profile \"agent\" version conflict: expected={version} actual=1");
    for (version, status, text) in [
        ("-1", 400, "bad request".into()),
        ("1.0", 400, "bad request".into()),
        ("1.5", 400, "bad request".into()),
        ("1e0", 400, "bad request".into()),
        ("\"1\"", 400, "bad request".into()),
        ("true", 400, "bad request".into()),
        ("[1]", 400, "bad request".into()),
        ("18446744073709551616", 400, "bad request".into()),
        ("1e400", 400, "bad request".into()),
        ("-1e400", 400, "bad request".into()),
        ("NaN", 400, "bad request".into()),
        ("01", 400, "bad request".into()),
        ("2", 409, conflict("2")),
        ("18446744073709551615", 409, conflict("18446744073709551615")),
    ] {
        let body = format!("{{\"display_name\":\"x\",\"expected_version\":{version}}}");
        let answer = app.call("PATCH", AGENT).raw(body).send().await;
        assert_eq!((answer.status, answer.text()), (status, format!("{text}\n")), "{version}");
        let body = format!("{{\"expected_version\":{version}}}");
        let answer = app.call("POST", "/api/chat/profiles/agent/default").raw(body).send().await;
        assert_eq!(answer.status, status, "make default {version}");
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
    for (version, stored) in [("0", 2), ("null", 3), ("3", 4)] {
        let body = format!("{{\"display_name\":\"x{version}\",\"expected_version\":{version}}}");
        let answer = app.call("PATCH", AGENT).raw(body).send().await;
        assert_eq!(answer.expect_json(200)["metadata"]["version"], stored, "{version}");
    }
}

#[tokio::test]
async fn f14_versions_in_queries_are_decimal_digits_or_refused() {
    let app = TestApp::start().await;
    for version in
        ["-1", "%2B1", "0x1", "abc", "1.0", "1e0", "18446744073709551616", "1%201", "%D9%A1"]
    {
        for (method, target) in [("DELETE", AGENT), ("POST", "/api/chat/profiles/agent/default")] {
            let target = format!("{target}?expected_version={version}");
            let answer = app.call(method, &target).send().await;
            answer.expect_text(400, "invalid expected_version");
        }
    }
    let answer = app.delete(&format!("{AGENT}?expected_version=18446744073709551615")).await;
    answer.expect_text(
        409,
        "profile \"agent\" version conflict: expected=18446744073709551615 actual=1",
    );
    for (slug, version) in [("a", ""), ("b", "%20"), ("c", "0"), ("d", "%201%20"), ("e", "001")] {
        app.create(json!({"slug": slug})).await;
        let target = format!("/api/chat/profiles/{slug}?expected_version={version}");
        app.delete(&target).await.expect_empty(204);
    }
    app.create(json!({"slug": "f"})).await;
    let answer = app.delete("/api/chat/profiles/f?expected_version=1&expected_version=9").await;
    answer.expect_empty(204);
}

#[tokio::test]
async fn make_default_compares_with_the_registry_version_that_headers_reveal() {
    let app = TestApp::start().await;
    let version = app.registry_version().await;
    let body = json!({"expected_version": version});
    let answer = app.post("/api/chat/profiles/agent/default", body.clone()).await;
    answer.expect_json(200);
    let answer = app.post("/api/chat/profiles/agent/default?expected_version=2", body).await;
    answer.expect_text(409, "registry \"default\" version conflict: expected=1 actual=2");
    let target = "/api/chat/profiles/agent/default?expected_version=2";
    app.call("POST", target).send().await.expect_json(200);
    // A version in the body is enough: the query is not even parsed.
    let target = "/api/chat/profiles/agent/default?expected_version=junk";
    app.post(target, json!({"expected_version": 3})).await.expect_json(200);
}

#[tokio::test]
async fn conflicts_carry_the_current_tag() {
    let app = TestApp::start().await;
    let body = json!({"display_name": "x", "expected_version": 7});
    let answer = app.patch(AGENT, body.clone()).await;
    answer.expect_text(409, "profile \"agent\" version conflict: expected=7 actual=1");
    assert_eq!(answer.header("etag"), Some("\"1\""));
    let answer = app.patch("/api/chat/profiles/default", body.clone()).await;
    assert_eq!((answer.status, answer.header("etag")), (409, Some("\"1.d\"")));
    let answer = app.post("/api/chat/profiles", json!({"slug": "agent"})).await;
    assert_eq!((answer.status, answer.header("etag")), (409, Some("\"1\"")));
    let answer = app.delete(&format!("{AGENT}?expected_version=7")).await;
    assert_eq!((answer.status, answer.header("etag")), (409, Some("\"1\"")));
}

#[tokio::test]
async fn f14_if_match_compares_with_the_version_of_the_profile() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "p"})).await;
    app.create(json!({"slug": "q"})).await;
    for tag in
        ["\"2\"", "W/\"1\"", "1", "\"\"", "\"r3\"", "junk", "\"18446744073709551616\"", "\"01x\""]
    {
        for (method, target) in [
            ("PATCH", "/api/chat/profiles/p"),
            ("DELETE", "/api/chat/profiles/p"),
            ("POST", "/api/chat/profiles/p/default"),
        ] {
            let call = app.call(method, target).header("If-Match", tag);
            let answer = call.json(&json!({"display_name": "x"})).send().await;
            answer.expect_text(412, "precondition failed");
            assert_eq!(answer.header("etag"), Some("\"1\""), "{method} {tag}");
        }
    }
    assert_eq!(app.registry_version().await, 3, "nothing was written");
    for (version, tag) in [(2, "\"1\""), (3, "\"2.d\""), (4, "\"9\", \"3\""), (5, "*")] {
        let call = app.call("PATCH", "/api/chat/profiles/p").header("If-Match", tag);
        let answer = call.json(&json!({"display_name": tag})).send().await;
        assert_eq!(answer.expect_json(200)["metadata"]["version"], version, "{tag}");
    }
    let call = app.call("POST", "/api/chat/profiles/p/default").header("If-Match", "\"5\"");
    call.send().await.expect_json(200);
    let call = app.call("DELETE", "/api/chat/profiles/p").header("If-Match", "\"5.d\"");
    call.send().await.expect_empty(204);
}

#[tokio::test]
async fn f14_a_condition_that_cannot_be_read_never_counts_as_none() {
    let app = TestApp::start().await;
    for tag in [&b"\"\xff\""[..], b"\xe9"] {
        let call = app.call("PATCH", AGENT).header("If-Match", tag);
        let answer = call.json(&json!({"display_name": "x"})).send().await;
        let shown = String::from_utf8_lossy(tag).into_owned();
        assert!(
            matches!(answer.status, 400 | 412),
            "{shown:?}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[tokio::test]
async fn if_match_is_decided_where_the_conflict_is() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "locked", "policy": {"read_only": true}})).await;
    for (method, target, body, status) in [
        ("PATCH", "/api/chat/profiles/nobody", json!({"display_name": "x"}), 404),
        ("PATCH", "/api/chat/profiles/locked", json!({"display_name": "x"}), 403),
        ("PATCH", AGENT, json!({"runtime": {"tools": [""]}}), 400),
        ("PATCH", AGENT, json!({"runtime": {"tools": ["calc"]}}), 412),
        ("PATCH", AGENT, json!({}), 412),
        ("DELETE", "/api/chat/profiles/nobody", json!({}), 404),
        ("DELETE", "/api/chat/profiles/locked", json!({}), 403),
        ("POST", "/api/chat/profiles", json!({"slug": "fresh"}), 412),
        ("POST", "/api/chat/profiles/nobody/default", json!({}), 404),
    ] {
        let call = app.call(method, target).header("If-Match", "\"77\"").json(&body);
        assert_eq!(call.send().await.status, status, "{method} {target} {body}");
    }
}

#[tokio::test]
async fn an_empty_patch_answers_the_current_document_and_bumps_nothing() {
    let app = TestApp::start().await;
    let before = app.get(AGENT).await;
    for body in
        [json!({}), json!({"unknown": 1}), json!({"display_name": null, "expected_version": 1})]
    {
        let answer = app.patch(AGENT, body).await;
        answer.expect_json(200);
        answer.expect_versions("\"1\"", "1");
        assert_eq!(answer.body, before.body);
    }
    let answer = app.patch(AGENT, json!({"expected_version": 2})).await;
    assert_eq!(answer.status, 409, "but a version that was given is checked");
}

#[tokio::test]
async fn set_default_with_a_write_bumps_the_registry_once() {
    let app = TestApp::start().await;
    let answer = app.post("/api/chat/profiles", json!({"slug": "p", "set_default": true})).await;
    answer.expect_versions("\"1.d\"", "2");
    let answer = app.patch(AGENT, json!({"display_name": "A", "set_default": true})).await;
    answer.expect_versions("\"2.d\"", "3");
    let answer = app.patch("/api/chat/profiles/p", json!({"set_default": true})).await;
    answer.expect_versions("\"1.d\"", "4");
    assert_eq!(answer.expect_json(200)["is_default"], true);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However the expected version is chosen, a patch is written exactly when it is absent or the stored one.
    #[test]
    fn f14_no_expected_version_is_ever_ignored(versions in prop::collection::vec(
        prop_oneof![Just(0), Just(u64::MAX), 1_u64..6, any::<u64>()], 1..8,
    )) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = TestApp::start().await;
            let mut stored = 1;
            for (n, expected) in versions.into_iter().enumerate() {
                let body = json!({"display_name": format!("n{n}"), "expected_version": expected});
                let answer = app.patch(AGENT, body).await;
                if expected == 0 || expected == stored {
                    stored += 1;
                    assert_eq!(answer.expect_json(200)["metadata"]["version"], stored);
                } else {
                    let text = format!("profile \"agent\" version conflict: expected={expected} actual={stored}");
                    answer.expect_text(409, &text);
                }
            }
        });
    }
}
