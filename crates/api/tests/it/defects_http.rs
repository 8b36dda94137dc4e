//! Chapter 20 §9: what the reference does wrong over HTTP and we must not. H2 is tested where the snapshot is taken
//! under load, H17 also where the catalog is built.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};

const AGENT: &str = "/api/chat/profiles/agent";
const PROFILES: &str = "/api/chat/profiles";

#[tokio::test]
async fn c20_h1_validation_and_write_see_the_same_profile() {
    // One patch drops the middleware, the other writes a slot for it: whichever comes second must see the first.
    for round in 0..20 {
        let app = TestApp::start().await;
        let slot = json!({"middleware.agentmode_config@v1": {"instances": {"id:default": {"default_mode": "x"}}}});
        let drop = app.patch(AGENT, json!({"runtime": {"middlewares": []}}));
        let write = app.patch(AGENT, json!({"extensions": slot}));
        let (dropped, written) = tokio::join!(drop, write);
        assert_eq!((dropped.status, written.status), (200, 200), "round {round}");
        let document = app.document("agent").await;
        assert_eq!(document["metadata"]["version"], 3);
        assert_eq!(document["runtime"], json!({}));
        assert_eq!(document.get("extensions"), None, "no slot of a middleware that is not used");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c20_h2_one_answer_shows_one_state() {
    let app = Arc::new(TestApp::start().await);
    let writer = {
        let app = app.clone();
        tokio::spawn(async move {
            for i in 0..60 {
                let slug = if i % 2 == 0 { "agent" } else { "default" };
                let target = format!("{PROFILES}/{slug}/default");
                assert_eq!(app.call("POST", &target).send().await.status, 200);
            }
        })
    };
    let mut versions = BTreeSet::new();
    while !writer.is_finished() {
        let answer = app.get(PROFILES).await;
        let list = answer.expect_json(200);
        let defaults: Vec<&Value> =
            list.as_array().unwrap().iter().filter(|item| item["is_default"] == true).collect();
        assert_eq!(defaults.len(), 1, "exactly one default: {list}");
        let version: u64 = answer.header("x-registry-version").unwrap().parse().unwrap();
        let expected = if version.is_multiple_of(2) { "agent" } else { "default" };
        assert_eq!(defaults[0]["slug"], expected, "the header is of the same state");
        versions.insert(version);
        let answer = app.get(AGENT).await;
        let version: u64 = answer.header("x-registry-version").unwrap().parse().unwrap();
        assert_eq!(answer.expect_json(200)["is_default"], version.is_multiple_of(2));
    }
    writer.await.unwrap();
    assert!(!versions.is_empty());
}

#[tokio::test]
async fn c20_h3_an_answer_is_the_state_that_its_own_request_committed() {
    let app = TestApp::start().await;
    let patches = (0..16).map(|i| app.patch(AGENT, json!({"display_name": format!("n{i}")})));
    let mut versions = BTreeSet::new();
    for (i, answer) in join_all(patches).await.into_iter().enumerate() {
        let document = answer.expect_json(200);
        assert_eq!(document["display_name"], format!("n{i}"));
        let version = document["metadata"]["version"].as_u64().unwrap();
        answer.expect_versions(&format!("\"{version}\""), &version.to_string());
        versions.insert(version);
    }
    assert_eq!(versions, (2..=17).collect(), "every write has a version of its own");
    let create = app.post(PROFILES, json!({"slug": "brief"}));
    let delete = app.delete("/api/chat/profiles/brief");
    let (created, deleted) = tokio::join!(create, delete);
    assert_eq!(created.expect_json(201)["slug"], "brief");
    assert!(matches!(deleted.status, 204 | 404));
}

#[tokio::test]
async fn c20_h4_set_default_is_part_of_the_write_both_or_neither() {
    let app = TestApp::start().await;
    let body = json!({"slug": "p", "set_default": true, "runtime": {"tools": ["nope"]}});
    assert_eq!(app.post(PROFILES, body).await.status, 400);
    app.get("/api/chat/profiles/p").await.expect_text(404, "profile not found");
    let body = json!({"display_name": "A", "set_default": true, "expected_version": 7});
    assert_eq!(app.patch(AGENT, body).await.status, 409);
    assert_eq!(app.document("default").await["is_default"], true);
    let answer = app.post(PROFILES, json!({"slug": "p", "set_default": true})).await;
    assert_eq!(answer.expect_json(201)["is_default"], true);
    let reopened = app.reopened();
    let snapshot = reopened.snapshot();
    let state = snapshot.registry(reopened.default_registry()).unwrap();
    assert_eq!(state.default_profile().unwrap().profile().slug.as_str(), "p");
    assert_eq!(state.version(), 2, "one change, one version");
}

#[tokio::test]
async fn c20_h5_the_registry_version_is_told_with_every_answer_and_checked_when_sent() {
    let app = TestApp::start().await;
    let told = app.get(AGENT).await.header("x-registry-version").unwrap().to_owned();
    let target = format!("/api/chat/profiles/agent/default?expected_version={told}");
    let answer = app.call("POST", &target).send().await;
    answer.expect_json(200);
    answer.expect_versions("\"1.d\"", "2");
    let answer = app.call("POST", &target).send().await;
    answer.expect_text(409, "registry \"default\" version conflict: expected=1 actual=2");
    app.call("POST", "/api/chat/profiles/default/default").send().await.expect_json(200);
}

#[tokio::test]
async fn c20_h6_an_unusable_cookie_means_the_default_everywhere() {
    let app = TestApp::start().await;
    for cookie in
        ["chat_profile=gone", "chat_profile=bad slug", "chat_profile=", "chat_profile=\"\""]
    {
        let selected = app.call("GET", "/api/chat/profile").header("Cookie", cookie).send().await;
        assert_eq!(selected.expect_json(200), json!({"slug": "default"}), "{cookie}");
        let chat = app.call("POST", "/chat").header("Cookie", cookie).json(&json!({"prompt": "x"}));
        assert_eq!(chat.send().await.expect_json(200)["runtime_key"], "default", "{cookie}");
        let socket = app.call("GET", "/ws?conv_id=c").header("Cookie", cookie).send().await;
        socket.expect_text(400, "Bad Request");
    }
}

#[tokio::test]
async fn c20_h7_the_selection_is_a_profile_that_exists() {
    let app = TestApp::start().await;
    app.delete("/api/chat/profiles/default").await.expect_empty(204);
    let selected = app.get("/api/chat/profile").await;
    assert_eq!(selected.expect_json(200), json!({"slug": "agent"}));
    app.delete(AGENT).await.expect_empty(204);
    app.get("/api/chat/profile").await.expect_text(404, "profile not found");
    let chat = app.post("/chat", json!({"prompt": "x"})).await;
    assert_eq!(chat.status, 404);
}

#[tokio::test]
async fn c20_h8_the_cookie_path_is_the_mount_prefix_and_secure_is_the_operators_choice() {
    for (setup, host, expected) in [
        (Setup::default(), "h.test", "chat_profile=agent; Path=/; HttpOnly; Secure; SameSite=Lax"),
        (
            Setup::default().root("/a"),
            "h.test",
            "chat_profile=agent; Path=/a; HttpOnly; Secure; SameSite=Lax",
        ),
        (
            Setup::default().insecure_cookies(),
            "h.test",
            "chat_profile=agent; Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            Setup::default().insecure_cookies(),
            "localhost",
            "chat_profile=agent; Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
    ] {
        let in_root = expected.contains("Path=/a");
        let app = setup.any_host().start().await;
        let target = if in_root { "/a/api/chat/profile" } else { "/api/chat/profile" };
        let call = app.call("POST", target).header("Host", host).json(&json!({"slug": "agent"}));
        assert_eq!(call.send().await.header("set-cookie"), Some(expected), "{host}");
    }
}

#[tokio::test]
async fn c20_h10_an_encoded_slash_is_part_of_a_slug_and_never_an_action() {
    let app = TestApp::start().await;
    for path in ["agent%2Fdefault", "agent%2fdefault", "%2Fagent", "agent%2F"] {
        let answer = app.call("POST", &format!("{PROFILES}/{path}")).send().await;
        answer.expect_text(400, "invalid profile slug");
    }
    assert_eq!(app.document("default").await["is_default"], true);
    let delete = app.delete(&format!("{AGENT}?registry=%zz")).await;
    delete.expect_text(400, "bad request");
    app.document("agent").await;
}

#[tokio::test]
async fn c20_h11_make_default_takes_an_empty_body_and_no_malformed_one() {
    let app = TestApp::start().await;
    let target = "/api/chat/profiles/agent/default";
    for body in ["{\"registry\":\"team\"", "x", "[]", "null", "{} x", " ", "\"\""] {
        app.call("POST", target).raw(body).send().await.expect_text(400, "bad request");
    }
    assert_eq!(app.document("default").await["is_default"], true, "nothing was written");
    app.call("POST", target).raw("").send().await.expect_json(200);
    app.call("POST", target).send().await.expect_json(200);
    app.call("POST", target).raw("{}").send().await.expect_json(200);
}

#[tokio::test]
async fn c20_h12_a_page_of_another_site_can_neither_post_a_form_nor_send_json() {
    let app = TestApp::start().await;
    let form = app.call("POST", PROFILES).header("Content-Type", "text/plain");
    form.raw("{\"slug\":\"evil\"}").send().await.expect_text(415, "unsupported media type");
    let fetch = app.call("POST", PROFILES).header("Origin", "http://evil.test");
    fetch.json(&json!({"slug": "evil"})).send().await.expect_text(403, "origin not allowed");
    let bodiless = app.call("POST", "/api/chat/profiles/agent/default").header("Origin", "null");
    bodiless.send().await.expect_text(403, "origin not allowed");
    assert_eq!(app.registry_version().await, 1);
}

#[tokio::test]
async fn c20_h13_the_conflict_of_a_taken_slug_names_the_stored_version() {
    let app = TestApp::start().await;
    app.patch(AGENT, json!({"display_name": "A"})).await.expect_json(200);
    let body = json!({"slug": "AGENT", "metadata": {"version": 77}});
    let answer = app.post(PROFILES, body).await;
    answer.expect_text(409, "profile \"agent\" version conflict: expected=0 actual=2");
}

#[tokio::test]
async fn c20_h14_null_and_trailing_data_are_refused_and_an_empty_patch_bumps_nothing() {
    let app = TestApp::start().await;
    for body in ["null", "{}{}", "{} garbage", "{\"display_name\":\"x\"} ]"] {
        app.call("PATCH", AGENT).raw(body).send().await.expect_text(400, "bad request");
    }
    let answer = app.call("PATCH", AGENT).raw(" {} \r\n").send().await;
    answer.expect_json(200);
    answer.expect_versions("\"1\"", "1");
}

#[tokio::test]
async fn c20_h15_read_only_is_undone_by_the_one_patch_that_says_so_alone() {
    let app = TestApp::start().await;
    let policy =
        json!({"read_only": true, "allow_overrides": true, "denied_override_keys": ["tools"]});
    app.create(json!({"slug": "p", "policy": policy})).await;
    let refusal = "policy violation for profile \"p\": profile is read-only";
    let target = "/api/chat/profiles/p";
    for body in [
        json!({}),
        json!({"display_name": "x"}),
        json!({"policy": {"read_only": true}}),
        json!({"policy": {"read_only": false}, "display_name": "x"}),
        json!({"policy": {"read_only": false}, "set_default": true}),
        json!({"policy": {"read_only": false}, "metadata": {"tags": []}}),
        json!({"set_default": true}),
        json!({"metadata": {"tags": ["x"]}}),
    ] {
        app.patch(target, body).await.expect_text(403, refusal);
    }
    app.delete(target).await.expect_text(403, refusal);
    app.call("POST", "/api/chat/profiles/p/default").send().await.expect_json(200);
    let stale = json!({"policy": {"read_only": false}, "expected_version": 9});
    assert_eq!(app.patch(target, stale).await.status, 409);
    let unlock =
        json!({"policy": {"read_only": false, "allow_overrides": false}, "expected_version": 1});
    let document = app.patch(target, unlock).await.expect_json(200);
    let expected =
        json!({"read_only": false, "allow_overrides": true, "denied_override_keys": ["tools"]});
    assert_eq!(document["policy"], expected, "this one field changes");
    app.patch(target, json!({"display_name": "x"})).await.expect_json(200);
}

#[tokio::test]
async fn c20_h15_a_patch_that_does_not_say_read_only_false_unlocks_nothing() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "p", "policy": {"read_only": true}})).await;
    for policy in [json!({}), json!({"allow_overrides": true}), json!({"read_only": null})] {
        let answer = app.patch("/api/chat/profiles/p", json!({"policy": policy})).await;
        answer.expect_text(403, "policy violation for profile \"p\": profile is read-only");
    }
}

#[tokio::test]
async fn c20_h16_texts_are_stable_and_name_nothing_of_the_program() {
    let app = TestApp::start().await;
    let body = json!({"slug": "m", "runtime": {"middlewares": [
        {"name": "sqlite", "config": {"zz": 1, "aa": 1, "max_rows": "x"}}, {"name": "nope"},
    ]}});
    let first = app.post(PROFILES, body.clone()).await.text();
    let expected = "validation error (runtime.middlewares[0].config): project middleware sqlite payload for source profile_write[profile]: path /aa is not allowed by schema\n";
    assert_eq!(first, expected);
    for _ in 0..5 {
        assert_eq!(app.post(PROFILES, body.clone()).await.text(), first);
    }
    for config in [json!("x"), json!(5), json!([{}])] {
        let body = json!({"slug": "m", "runtime": {"middlewares": [{"name": "sqlite", "config": config}]}});
        let text = app.post(PROFILES, body).await.text();
        for word in ["serde", "invalid type", "Value", "struct", "Object("] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[tokio::test]
async fn c20_h17_what_is_published_is_what_can_be_written_and_run() {
    let app = TestApp::start().await;
    let published = app.get("/api/chat/schemas/middlewares").await.expect_json(200);
    let names: Vec<&str> =
        published.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert!(!names.is_empty());
    for name in names {
        let body = json!({"slug": name, "runtime": {"middlewares": [{"name": name}]}});
        app.create(body).await;
        let body = json!({"prompt": "x", "profile": name});
        app.post("/chat", body).await.expect_json(200);
    }
}

#[tokio::test]
async fn c20_h18_answers_are_encoded_before_their_status_is_sent() {
    let app = TestApp::start().await;
    let payload = json!({"empty": {}, "list": [[], {}], "text": "\u{0}\u{1f}<>&", "n": -0.5e-300});
    app.create(json!({"slug": "p", "extensions": {"a.b@v1": payload}})).await;
    for target in ["/api/chat/profiles/p", PROFILES, "/api/chat/schemas/extensions"] {
        let answer = app.get(target).await;
        answer.expect_json(200);
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length, answer.body.len(), "{target}: nothing can break off unseen");
    }
    assert_eq!(app.document("p").await["extensions"], json!({"a.b@v1": payload}));
}

#[tokio::test]
async fn c20_h19_secrets_and_database_names_are_refused_on_write() {
    let app = TestApp::start().await;
    for (section, field) in [
        ("openai-chat", "openai-api-key"),
        ("claude-chat", "claude-api-key"),
        ("gemini-chat", "gemini-api-key"),
        (" openai-chat ", " openai-api-key "),
    ] {
        let runtime = json!({"step_settings_patch": {section: {field: "sk-canary"}}});
        let text = format!(
            "validation error (runtime.step_settings_patch.{}.{}): secrets do not belong in profiles",
            section.trim(),
            field.trim()
        );
        let create = app.post(PROFILES, json!({"slug": "s", "runtime": runtime})).await;
        create.expect_text(400, &text);
        let patch = app.patch(AGENT, json!({"runtime": runtime})).await;
        patch.expect_text(400, &text);
        assert!(!patch.text().contains("sk-canary"));
    }
    let text =
        "validation error (runtime.middlewares[0].config): dsn may only be set by the operator";
    let config = json!({"dsn": "/etc/passwd"});
    for (uses, extensions) in [
        (json!([{"name": "sqlite", "config": config}]), json!({})),
        (json!([{"name": "sqlite", "enabled": false, "config": config}]), json!({})),
        (
            json!([{"name": "sqlite"}]),
            json!({"middleware.sqlite_config@v1": {"instances": {"index:0": config}}}),
        ),
        (
            json!([{"name": "sqlite"}]),
            json!({"Middleware.Sqlite_Config@V1": {"instances": {"default": config}}}),
        ),
        (
            json!([{"name": "sqlite", "id": "a"}]),
            json!({"middleware.sqlite_config@v1": {"instances": {"id:a": config}}}),
        ),
    ] {
        let body = json!({"slug": "s", "runtime": {"middlewares": uses}, "extensions": extensions});
        app.post(PROFILES, body).await.expect_text(400, text);
    }
    for url in [
        "http://example.com/v1",
        "https://127.0.0.1/v1",
        "https://localhost/v1",
        "https://[::1]/v1",
        "https://169.254.169.254/",
    ] {
        let runtime = json!({"step_settings_patch": {"openai-chat": {"openai-base-url": url}}});
        let answer = app.post(PROFILES, json!({"slug": "s", "runtime": runtime})).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text());
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
}

#[tokio::test]
async fn c20_h19_a_database_name_in_a_slot_that_no_use_reads_is_not_kept() {
    let app = TestApp::start().await;
    let slots = json!({"index:7": {"dsn": "/canary"}, "id:gone": {"dsn": "/canary"}});
    let extensions = json!({"middleware.sqlite_config@v1": {"instances": slots}});
    for uses in [json!([]), json!([{"name": "sqlite", "id": "a"}])] {
        let body = json!({"slug": "s", "runtime": {"middlewares": uses}, "extensions": extensions});
        let answer = app.post(PROFILES, body).await;
        assert!(matches!(answer.status, 201 | 400), "{}", answer.text());
        assert!(!app.get(PROFILES).await.text().contains("/canary"));
        // The slot must not come to life when the use appears.
        let later = json!({"runtime": {"middlewares": [{"name": "sqlite", "id": "gone"}]}});
        let patched = app.patch("/api/chat/profiles/s", later).await;
        assert!(!patched.text().contains("/canary"), "{}", patched.text());
        app.delete("/api/chat/profiles/s").await;
    }
}

#[tokio::test]
async fn c20_h20_reads_are_conditional_and_never_sniffed() {
    let app = TestApp::start().await;
    for target in [PROFILES, AGENT] {
        let answer = app.get(target).await;
        answer.expect_json(200);
        let etag = answer.header("etag").unwrap().to_owned();
        let again = app.call("GET", target).header("If-None-Match", &etag).send().await;
        again.expect_empty(304);
        app.patch(AGENT, json!({"display_name": target})).await.expect_json(200);
        let again = app.call("GET", target).header("If-None-Match", &etag).send().await;
        again.expect_json(200);
        assert_ne!(again.header("etag"), Some(etag.as_str()));
    }
    for target in
        ["/api/chat/profile", "/api/chat/schemas/middlewares", "/api/chat/schemas/extensions"]
    {
        app.get(target).await.expect_json(200);
    }
}
