//! Chapter 10 §15 from D9 on: what a client sees of the rules for extensions, middlewares, settings and overrides.

use serde_json::{Value, json};

use crate::app::{TestApp, listed, slug};

const AGENT: &str = "/api/chat/profiles/agent";
const PROFILES: &str = "/api/chat/profiles";

#[tokio::test]
async fn c10_d9_junk_under_a_published_key_is_refused_in_all_slots() {
    let app = TestApp::start().await;
    let junk = json!({"max_rows": 0});
    for slots in [
        json!({"index:0": {"max_rows": 1}, "index:9": junk}),
        json!({"index:0": {"max_rows": 1}, "id:gone": junk}),
        json!({"index:0": {"max_rows": 1}, "default": junk}),
        json!({"index:0": {"max_rows": 1}, "anything": {"zz": 1}}),
    ] {
        let extensions = json!({"middleware.sqlite_config@v1": {"instances": slots}});
        let body = json!({"slug": "p", "runtime": {"middlewares": [{"name": "sqlite"}]}, "extensions": extensions});
        let answer = app.post(PROFILES, body).await;
        assert_eq!(answer.status, 400, "{slots}: {}", answer.text());
    }
    let slots = json!({"id:a": {"max_rows": 1}, "default": junk});
    let extensions = json!({"middleware.sqlite_config@v1": {"instances": slots}});
    let body = json!({"slug": "p", "runtime": {"middlewares": [{"name": "sqlite", "id": "a"}]}, "extensions": extensions});
    assert_eq!(
        app.post(PROFILES, body).await.status,
        400,
        "no use reads it, it is junk all the same"
    );
}

#[tokio::test]
async fn c10_d10_keys_that_differ_by_case_are_one_key_or_a_collision() {
    let app = TestApp::start().await;
    let good = json!({"instances": {"index:0": {"max_rows": 1}}});
    let bad = json!({"instances": {"index:0": {"max_rows": 0}}});
    let runtime = json!({"middlewares": [{"name": "sqlite"}]});
    let both = json!({"middleware.sqlite_config@v1": good, "Middleware.SQLite_config@v1": bad});
    let answer =
        app.post(PROFILES, json!({"slug": "p", "runtime": runtime, "extensions": both})).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let alone = json!({"Middleware.SQLite_config@v1": bad});
    let answer =
        app.post(PROFILES, json!({"slug": "p", "runtime": runtime, "extensions": alone})).await;
    let prefix = "validation error (runtime.middlewares[0].config): ";
    assert!(answer.status == 400 && answer.text().starts_with(prefix), "{}", answer.text());
}

#[tokio::test]
async fn c10_d12_values_come_back_as_they_were_sent() {
    let app = TestApp::start().await;
    let payload = r#"{"empty":{},"deep":{"list":[{},[]],"null":null},"i":-9223372036854775808,"u":18446744073709551615,"p53":9007199254740993,"tiny":5e-324,"third":0.1,"big":1.7976931348623157e308,"one":1.0}"#;
    let body = format!("{{\"slug\":\"n\",\"extensions\":{{\"a.b@v1\":{payload}}}}}");
    let created = app.call("POST", PROFILES).raw(body).send().await.expect_json(201);
    let sent: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(created["extensions"]["a.b@v1"], sent);
    app.patch("/api/chat/profiles/n", json!({"display_name": "x"})).await.expect_json(200);
    assert_eq!(
        app.document("n").await["extensions"]["a.b@v1"],
        sent,
        "an unrelated edit changes nothing"
    );
    assert_eq!(listed(&app.reopened())[2]["extensions"]["a.b@v1"], sent, "nor does a restart");
    for number in ["18446744073709551616", "-9223372036854775809", "1e400"] {
        let body = format!("{{\"slug\":\"o\",\"extensions\":{{\"a.b@v1\":{number}}}}}");
        app.call("POST", PROFILES).raw(body).send().await.expect_text(400, "bad request");
    }
}

#[tokio::test]
async fn c10_d13_the_same_middleware_twice_needs_ids() {
    let app = TestApp::start().await;
    let runtime = json!({"middlewares": [{"name": "sqlite"}, {"name": "sqlite"}]});
    let text = "validation error (runtime.middlewares[1].id): must be set when a middleware is used more than once";
    let answer = app.post(PROFILES, json!({"slug": "p", "runtime": runtime})).await;
    answer.expect_text(400, text);
    app.patch(AGENT, json!({"runtime": runtime})).await.expect_text(400, text);
}

#[tokio::test]
async fn c10_d14_settings_are_checked_on_write_and_never_fail_later() {
    let app = TestApp::start().await;
    let at = |path: &str, reason: &str| {
        format!("validation error (runtime.step_settings_patch{path}): {reason}")
    };
    for (patch, text) in [
        (json!({"nope": {}}), at(".nope", "unknown section")),
        (json!({"ai-chat": {"nope": 1}}), at(".ai-chat.nope", "unknown field")),
        (json!({"ai-chat": 5}), at(".ai-chat", "section patch must be an object")),
        (json!({" ": {}}), at("", "section slug cannot be empty")),
        (json!({"ai-chat": {" ": 1}}), at(".ai-chat", "field name cannot be empty")),
    ] {
        let body = json!({"slug": "p", "runtime": {"step_settings_patch": patch}});
        app.post(PROFILES, body).await.expect_text(400, &text);
    }
    let patch = json!({"ai-chat": {"ai-temperature": "warm"}});
    let body = json!({"slug": "p", "runtime": {"step_settings_patch": patch}});
    let answer = app.post(PROFILES, body).await;
    let prefix = at(".ai-chat.ai-temperature", "Invalid value for field ai-temperature: ");
    assert!(answer.status == 400 && answer.text().starts_with(&prefix), "{}", answer.text());
    let patch = json!({"ai-chat": {"ai-temperature": "0.5", "ai-engine": "m"}, "ai-client": {}});
    app.create(json!({"slug": "p", "runtime": {"step_settings_patch": patch}})).await;
    app.post("/chat", json!({"prompt": "x", "profile": "p"})).await.expect_json(200);
}

#[tokio::test]
async fn c10_d16_coercion_over_the_wire_loses_nothing_and_invents_nothing() {
    let app = TestApp::start().await;
    for (name, key, value, stored) in [
        ("agentmode", "default_mode", json!(123_456_789), Some(json!("123456789"))),
        ("agentmode", "default_mode", json!(true), Some(json!("true"))),
        ("agentmode", "default_mode", json!(1.5), Some(json!("1.5"))),
        ("agentmode", "default_mode", json!(null), None),
        ("agentmode", "default_mode", json!({"a": 1}), None),
        ("agentmode", "default_mode", json!([1]), None),
        ("sqlite", "max_rows", json!("+7"), Some(json!(7))),
        ("sqlite", "max_rows", json!(7.0), Some(json!(7))),
        ("sqlite", "max_rows", json!(1e300), None),
        ("sqlite", "max_rows", json!("0x10"), None),
        ("sqlite", "max_rows", json!("NaN"), None),
        ("sqlite", "max_rows", json!(true), None),
        ("sqlite", "max_rows", json!(null), None),
        (
            "sqlite",
            "max_rows",
            json!(9_223_372_036_854_775_807_i64),
            Some(json!(9_223_372_036_854_775_807_i64)),
        ),
        ("sqlite", "max_rows", json!(9_223_372_036_854_775_808_u64), None),
    ] {
        let uses = json!([{"name": name, "id": "i", "config": {key: value}}]);
        let target = format!("{PROFILES}?dry_run=1");
        let answer =
            app.post(&target, json!({"slug": "p", "runtime": {"middlewares": uses}})).await;
        if let Some(stored) = stored {
            let document = answer.expect_json(201);
            let extension = &document["extensions"][format!("middleware.{name}_config@v1")];
            assert_eq!(extension["instances"]["id:i"][key], stored, "{key} {value}");
        } else {
            assert_eq!(answer.status, 400, "{key} {value}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn c10_d17_a_change_of_middleware_config_changes_the_fingerprint() {
    let app = TestApp::start().await;
    let fingerprint = async |overrides: Value| {
        let body = json!({"prompt": "x", "profile": "agent", "overrides": overrides});
        let answer = app.post("/chat", body).await.expect_json(200);
        answer["runtime_fingerprint"].as_str().unwrap().to_owned()
    };
    let config = |mode: &str| json!({"middlewares": [{"name": "agentmode", "id": "default", "config": {"default_mode": mode}}]});
    let plain = fingerprint(json!({})).await;
    assert!(plain.starts_with("sha256:") && plain.len() == 71, "{plain}");
    assert_eq!(fingerprint(config("financial_analyst")).await, plain, "equal meaning, equal print");
    assert_ne!(fingerprint(config("other")).await, plain);
}

#[tokio::test]
async fn c10_d18_c30_d55_allow_and_deny_lists_hold_for_chat() {
    let app = TestApp::start().await;
    let policy = json!({"allow_overrides": true, "allowed_override_keys": ["systemPrompt"]});
    app.create(json!({"slug": "p", "policy": policy})).await;
    let chat = async |overrides: Value| {
        app.post("/chat", json!({"prompt": "x", "profile": "p", "overrides": overrides})).await
    };
    chat(json!({"system_prompt": "s"})).await.expect_json(200);
    chat(json!({"tools": []})).await.expect_text(400, "profile does not allow override \"tools\"");
    chat(json!({"nope": []})).await.expect_text(400, "unknown override \"nope\"");
}

#[tokio::test]
async fn c10_d19_inf_23_no_tools_are_stored_returned_and_distinct_from_all_tools() {
    let app = TestApp::start().await;
    let none = app.create(json!({"slug": "none", "runtime": {"tools": []}})).await;
    let all = app.create(json!({"slug": "all", "runtime": {}})).await;
    assert_eq!((&none["runtime"], &all["runtime"]), (&json!({"tools": []}), &json!({})));
    let reopened = app.reopened();
    let snapshot = reopened.snapshot();
    let state = snapshot.registry(reopened.default_registry()).unwrap();
    assert_eq!(state.get(&slug("none")).unwrap().profile().runtime.tools, Some(vec![]));
    assert_eq!(state.get(&slug("all")).unwrap().profile().runtime.tools, None);
    let kept = app.patch("/api/chat/profiles/none", json!({"description": "d"})).await;
    assert_eq!(kept.expect_json(200)["runtime"], json!({"tools": []}));
}

#[tokio::test]
async fn c10_d24_of_several_errors_the_same_one_is_always_the_first() {
    let app = TestApp::start().await;
    let body = json!({"slug": "p",
        "runtime": {"step_settings_patch": {"zz": {}, "aa": {}}},
        "extensions": {"z z": 1, "b b": 1, "a a": 1, "webchat.starter_suggestions@v1": {"zz": 1, "items": [1, 2]}}});
    let text = "validation error (profile.extensions[a a]): extension key \"a a\" is invalid (expected namespace.feature@vN)";
    for _ in 0..10 {
        app.post(PROFILES, body.clone()).await.expect_text(400, text);
    }
}
