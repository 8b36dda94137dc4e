//! Chapter 20 §4 and §5.1 to §5.6: the profile endpoints, their payloads and the order of their checks.

use serde_json::json;

use crate::app::{NOW, Setup, TestApp, bare, built_in, metadata};

const PROFILES: &str = "/api/chat/profiles";

fn agent_extensions() -> serde_json::Value {
    let config = json!({"default_mode": "financial_analyst"});
    json!({"middleware.agentmode_config@v1": {"instances": {"id:default": config}}})
}

#[tokio::test]
async fn the_list_has_the_built_in_profiles_in_order_of_slug() {
    let app = TestApp::start().await;
    let answer = app.get(PROFILES).await;
    let expected = json!([
        {"slug": "agent", "default_prompt": "You are a helpful assistant. Be concise.",
         "extensions": agent_extensions(), "version": 1},
        {"slug": "default", "default_prompt": "You are an assistant", "is_default": true, "version": 1},
    ]);
    assert_eq!(answer.expect_json(200), expected);
    answer.expect_versions("\"r1\"", "1");
}

#[tokio::test]
async fn documents_of_built_in_profiles_have_no_inline_config() {
    let app = TestApp::start().await;
    let answer = app.get("/api/chat/profiles/agent").await;
    let expected = json!({
        "registry": "default", "slug": "agent",
        "runtime": {"system_prompt": "You are a helpful assistant. Be concise.",
                    "middlewares": [{"name": "agentmode", "id": "default"}]},
        "policy": {"allow_overrides": true, "read_only": false},
        "metadata": built_in(), "extensions": agent_extensions(), "is_default": false,
    });
    assert_eq!(answer.expect_json(200), expected);
    answer.expect_versions("\"1\"", "1");
    let answer = app.get("/api/chat/profiles/default").await;
    let expected = json!({
        "registry": "default", "slug": "default", "runtime": {"system_prompt": "You are an assistant"},
        "policy": {"allow_overrides": false, "read_only": false},
        "metadata": built_in(), "is_default": true,
    });
    assert_eq!(answer.expect_json(200), expected);
    answer.expect_versions("\"1.d\"", "1");
}

#[tokio::test]
async fn a_created_profile_is_answered_as_it_is_stored() {
    let app = TestApp::start().await;
    let answer = app.post(PROFILES, json!({"slug": "x1"})).await;
    assert_eq!(answer.expect_json(201), bare("x1", 1, false));
    answer.expect_versions("\"1\"", "2");
    assert_eq!(answer.header("location"), None);
    let stored = app.get("/api/chat/profiles/x1").await;
    assert_eq!((stored.body, stored.headers.len()), (answer.body, answer.headers.len()));
}

#[tokio::test]
async fn a_full_profile_has_the_keys_of_the_contract_and_no_others() {
    let app = TestApp::start().await;
    let answer = app.post(PROFILES, json!({
        "slug": " Analyst ", "display_name": " Analyst ", "description": " Reads the weekly numbers ",
        "runtime": {
            "step_settings_patch": {"ai-chat": {"ai-engine": "some-model"}},
            "system_prompt": "You summarise sales data.",
            "middlewares": [
                {"name": " agentmode ", "id": " primary ", "config": {"default_mode": "financial_analyst"}},
                {"name": "sqlite", "enabled": false, "config": {"max_rows": 50}},
            ],
            "tools": ["calculator"],
        },
        "policy": {"allow_overrides": true, "allowed_override_keys": ["system_prompt"],
                   "denied_override_keys": ["tools"], "read_only": false},
        "metadata": {"tags": ["finance"]},
        "extensions": {"Vendor.Custom@V1": {"flags": [{"enabled": true}], "empty": {}},
                       "webchat.starter_suggestions@v1": {"items": ["Show low stock"]}},
        "set_default": true, "unknown": [1], "slug2": "ignored",
    })).await;
    let mut with_tags = metadata(1);
    with_tags["tags"] = json!(["finance"]);
    let extensions = json!({
        "middleware.agentmode_config@v1": {"instances": {"id:primary": {"default_mode": "financial_analyst"}}},
        "middleware.sqlite_config@v1": {"instances": {"index:1": {"max_rows": 50}}},
        "vendor.custom@v1": {"flags": [{"enabled": true}], "empty": {}},
        "webchat.starter_suggestions@v1": {"items": ["Show low stock"]},
    });
    let expected = json!({
        "registry": "default", "slug": "analyst", "display_name": "Analyst",
        "description": "Reads the weekly numbers",
        "runtime": {
            "step_settings_patch": {"ai-chat": {"ai-engine": "some-model"}},
            "system_prompt": "You summarise sales data.",
            "middlewares": [{"name": "agentmode", "id": "primary"}, {"name": "sqlite", "enabled": false}],
            "tools": ["calculator"],
        },
        "policy": {"allow_overrides": true, "allowed_override_keys": ["system_prompt"],
                   "denied_override_keys": ["tools"], "read_only": false},
        "metadata": with_tags, "extensions": extensions, "is_default": true,
    });
    assert_eq!(answer.expect_json(201), expected);
    answer.expect_versions("\"1.d\"", "2");
    let list = app.get(PROFILES).await.expect_json(200);
    let item = json!({
        "slug": "analyst", "display_name": "Analyst", "description": "Reads the weekly numbers",
        "default_prompt": "You summarise sales data.", "extensions": expected["extensions"],
        "is_default": true, "version": 1,
    });
    assert_eq!(list[1], item);
    assert_eq!(list[2]["is_default"], json!(null), "only the default says so");
}

#[tokio::test]
async fn create_reports_the_first_of_its_checks() {
    let app = TestApp::start().await;
    let nope = json!({"middlewares": [{"name": "nope"}]});
    let bad_key = json!({"bad key": 1});
    for (body, status, text) in [
        (json!({"slug": 5, "runtime": nope}), 400, "bad request"),
        (
            json!({"runtime": nope, "registry": "bad one"}),
            400,
            "validation error (runtime.middlewares[0].name): unknown middleware \"nope\"",
        ),
        (json!({"registry": "bad one", "slug": "Bad Slug"}), 400, "invalid registry"),
        (json!({"registry": "team"}), 400, "invalid profile slug"),
        (json!({"registry": "team", "slug": "Bad Slug"}), 400, "invalid profile slug"),
        (
            json!({"registry": "team", "slug": "m", "extensions": bad_key}),
            404,
            "registry not found",
        ),
        (
            json!({"slug": "agent", "extensions": bad_key, "runtime": {"tools": [""]}}),
            400,
            "validation error (profile.extensions[bad key]): extension key \"bad key\" is invalid (expected namespace.feature@vN)",
        ),
        (
            json!({"slug": "agent", "runtime": {"tools": [""]}, "expected_version": 5}),
            400,
            "validation error (runtime.tools[0]): must not be empty",
        ),
        (
            json!({"slug": "agent", "expected_version": 5}),
            409,
            "profile \"agent\" version conflict: expected=0 actual=1",
        ),
        (
            json!({"slug": "fresh", "expected_version": 5}),
            409,
            "profile \"fresh\" version conflict: expected=5 actual=0",
        ),
        (json!({}), 400, "invalid profile slug"),
        (json!({"slug": "  "}), 400, "invalid profile slug"),
        (json!({"slug": null}), 400, "invalid profile slug"),
    ] {
        app.post(PROFILES, body).await.expect_text(status, text);
    }
    assert_eq!(app.registry_version().await, 1, "nothing was written");
}

#[tokio::test]
async fn create_checks_extensions_after_the_slug_and_the_registry() {
    let app = TestApp::start().await;
    let junk = json!({"middleware.sqlite_config@v1": {"instances": {"index:7": {"max_rows": 0}}}});
    let post = async |body| app.post(PROFILES, body).await;
    post(json!({"slug": "a b", "extensions": junk})).await.expect_text(400, "invalid profile slug");
    post(json!({"slug": "m", "registry": "team", "extensions": junk}))
        .await
        .expect_text(404, "registry not found");
}

#[tokio::test]
async fn reads_report_the_first_of_their_checks() {
    let app = TestApp::start().await;
    for (target, status, text) in [
        ("/api/chat/profiles/", 404, "404 page not found"),
        ("/api/chat/profiles/bad%20slug?registry=bad%20one", 400, "invalid profile slug"),
        ("/api/chat/profiles/nobody?registry=bad%20one", 400, "invalid registry"),
        ("/api/chat/profiles/nobody?registry=team", 404, "registry not found"),
        ("/api/chat/profiles/nobody", 404, "profile not found"),
        ("/api/chat/profiles?registry=bad%20one", 400, "invalid registry"),
        ("/api/chat/profiles?registry=team", 404, "registry not found"),
    ] {
        app.get(target).await.expect_text(status, text);
    }
    let answer = app.get("/api/chat/profiles/agent?registry=%20DEFAULT%20").await;
    assert_eq!(answer.expect_json(200)["slug"], "agent");
}

#[tokio::test]
async fn patch_reports_the_first_of_its_checks() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "locked", "policy": {"read_only": true}})).await;
    let nope = json!({"middlewares": [{"name": "nope"}]});
    let unknown = "validation error (runtime.middlewares[0].name): unknown middleware \"nope\"";
    let read_only = "policy violation for profile \"locked\": profile is read-only";
    let bad_key = "validation error (profile.extensions[bad key]): extension key \"bad key\" is invalid (expected namespace.feature@vN)";
    for (slug, body, status, text) in [
        ("a%20b", json!("x"), 400, "invalid profile slug"),
        ("nobody", json!({"display_name": 5, "registry": "bad one"}), 400, "bad request"),
        ("nobody", json!({"registry": "bad one"}), 400, "invalid registry"),
        ("nobody", json!({"registry": "team", "runtime": nope}), 404, "registry not found"),
        ("nobody", json!({"runtime": nope}), 404, "profile not found"),
        ("locked", json!({"runtime": nope}), 400, unknown),
        ("locked", json!({"extensions": {"bad key": 1}}), 403, read_only),
        ("locked", json!({"display_name": "x", "expected_version": 9}), 403, read_only),
        ("agent", json!({"extensions": {"bad key": 1}, "runtime": {"tools": [""]}}), 400, bad_key),
        (
            "agent",
            json!({"runtime": {"tools": [""]}, "expected_version": 9}),
            400,
            "validation error (runtime.tools[0]): must not be empty",
        ),
        (
            "agent",
            json!({"display_name": "x", "expected_version": 9}),
            409,
            "profile \"agent\" version conflict: expected=9 actual=1",
        ),
    ] {
        app.patch(&format!("{PROFILES}/{slug}"), body).await.expect_text(status, text);
    }
    assert_eq!(app.registry_version().await, 2, "only the create was written");
}

#[tokio::test]
async fn a_patch_replaces_what_it_names_and_keeps_the_rest() {
    let app = TestApp::start().await;
    app.create(json!({
        "slug": "p", "display_name": "P", "description": "d",
        "runtime": {"system_prompt": "s", "tools": []}, "policy": {"allow_overrides": true},
        "metadata": {"tags": ["t"]}, "extensions": {"a.b@v1": 1},
    }))
    .await;
    app.clock.store(NOW + 5, std::sync::atomic::Ordering::Relaxed);
    let patch = async |body| app.patch("/api/chat/profiles/p", body).await.expect_json(200);
    let document = patch(json!({"display_name": " Q ", "slug": "other", "runtime": null})).await;
    assert_eq!((&document["slug"], &document["display_name"]), (&json!("p"), &json!("Q")));
    assert_eq!(document["runtime"], json!({"system_prompt": "s", "tools": []}));
    let times = (&document["metadata"]["created_at_ms"], &document["metadata"]["updated_at_ms"]);
    assert_eq!(times, (&json!(NOW), &json!(NOW + 5)));
    let document = patch(json!({"runtime": {}, "policy": {}})).await;
    assert_eq!(document["runtime"], json!({}));
    assert_eq!(document["policy"], json!({"allow_overrides": false, "read_only": false}));
    let document = patch(json!({"display_name": "", "description": " ", "extensions": {}})).await;
    for key in ["display_name", "description", "extensions"] {
        assert!(document.get(key).is_none(), "{key} is cleared");
    }
    assert_eq!(document["metadata"]["tags"], json!(["t"]));
    assert_eq!(document["metadata"]["version"], 4);
    let document = patch(json!({"metadata": {"tags": ["n"]}, "set_default": true})).await;
    assert_eq!(
        (&document["metadata"]["tags"], &document["is_default"]),
        (&json!(["n"]), &json!(true))
    );
    assert_eq!(app.document("default").await["is_default"], false);
}

#[tokio::test]
async fn delete_reports_the_first_of_its_checks() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "locked", "policy": {"read_only": true}})).await;
    for (target, status, text) in [
        ("a%20b?registry=bad%20one", 400, "invalid profile slug"),
        ("nobody?registry=bad%20one&expected_version=x", 400, "invalid registry"),
        ("nobody?registry=team&expected_version=x", 400, "invalid expected_version"),
        ("nobody?registry=team&expected_version=5", 404, "registry not found"),
        ("nobody?expected_version=5", 404, "profile not found"),
        (
            "locked?expected_version=5",
            403,
            "policy violation for profile \"locked\": profile is read-only",
        ),
        (
            "agent?expected_version=5",
            409,
            "profile \"agent\" version conflict: expected=5 actual=1",
        ),
    ] {
        app.delete(&format!("{PROFILES}/{target}")).await.expect_text(status, text);
    }
    let target = format!("{PROFILES}/agent?expected_version=1");
    let gone = app.call("DELETE", &target).raw("not read, whatever it is").send().await;
    gone.expect_empty(204);
    assert_eq!(gone.header("x-registry-version"), Some("3"));
    app.delete(&format!("{PROFILES}/agent")).await.expect_text(404, "profile not found");
}

#[tokio::test]
async fn make_default_reports_the_first_of_its_checks() {
    let app = TestApp::start().await;
    for (target, body, status, text) in [
        ("a%20b", json!("x"), 400, "invalid profile slug"),
        ("nobody", json!({"registry": 5}), 400, "bad request"),
        ("nobody?expected_version=x", json!({"registry": "bad one"}), 400, "invalid registry"),
        ("nobody?expected_version=x", json!({"registry": "team"}), 400, "invalid expected_version"),
        (
            "nobody?expected_version=x",
            json!({"registry": "team", "expected_version": 5}),
            404,
            "registry not found",
        ),
        ("nobody", json!({"expected_version": 5}), 404, "profile not found"),
        (
            "agent",
            json!({"expected_version": 5}),
            409,
            "registry \"default\" version conflict: expected=5 actual=1",
        ),
        (
            "agent?expected_version=7",
            json!({}),
            409,
            "registry \"default\" version conflict: expected=7 actual=1",
        ),
        (
            "agent?expected_version=1",
            json!({"expected_version": 6}),
            409,
            "registry \"default\" version conflict: expected=6 actual=1",
        ),
    ] {
        let (slug, query) = target.split_once('?').unwrap_or((target, ""));
        let target = format!("{PROFILES}/{slug}/default?{query}");
        app.post(&target, body).await.expect_text(status, text);
    }
    assert_eq!(app.document("default").await["is_default"], true, "nothing was written");
}

#[tokio::test]
async fn make_default_bumps_the_registry_and_not_the_profile() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "p", "policy": {"read_only": true}})).await;
    for version in ["3", "4"] {
        let answer = app.call("POST", "/api/chat/profiles/p/default").send().await;
        let mut expected = bare("p", 1, true);
        expected["policy"]["read_only"] = json!(true);
        assert_eq!(answer.expect_json(200), expected);
        answer.expect_versions("\"1.d\"", version);
    }
    let answer = app.get("/api/chat/profiles/default").await;
    answer.expect_versions("\"1\"", "4");
    assert_eq!(answer.expect_json(200)["is_default"], false);
}

#[tokio::test]
async fn methods_that_an_endpoint_does_not_take_are_405() {
    let app = TestApp::start().await;
    for (target, methods) in [
        (PROFILES, &["PUT", "PATCH", "DELETE", "OPTIONS", "BREW"][..]),
        ("/api/chat/profiles/agent", &["PUT", "POST", "OPTIONS"]),
        ("/api/chat/profiles/nobody", &["PUT", "POST"]),
        ("/api/chat/profiles/agent/default", &["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ("/api/chat/profile", &["PUT", "PATCH", "DELETE", "OPTIONS"]),
        ("/api/chat/schemas/middlewares", &["POST", "PUT", "OPTIONS"]),
        ("/api/chat/schemas/extensions", &["POST", "DELETE"]),
        ("/chat", &["GET", "PUT", "OPTIONS"]),
        ("/chat/agent", &["PUT", "DELETE"]),
        ("/ws?conv_id=c", &["POST", "PUT"]),
    ] {
        for method in methods {
            app.call(method, target).send().await.expect_text(405, "method not allowed");
        }
    }
}

#[tokio::test]
async fn head_is_405_where_the_path_is_good_and_what_the_path_deserves_elsewhere() {
    let app = TestApp::start().await;
    for (target, status) in [
        (PROFILES, 405),
        ("/api/chat/profiles/agent", 405),
        ("/api/chat/profiles/agent/default", 405),
        ("/api/chat/profile", 405),
        ("/api/chat/schemas/middlewares", 405),
        ("/api/chat/profiles/bad%20slug", 400),
        ("/api/chat/profiles/agent/other", 404),
        ("/api/chat/nothing", 404),
    ] {
        let answer = app.call("HEAD", target).send().await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{target}");
    }
}

#[tokio::test]
async fn actor_and_source_are_those_of_the_mount() {
    let app = Setup::default().writes_as("stock-app", "stock-api").start().await;
    let document = app.create(json!({"slug": "p"})).await;
    for (key, value) in
        [("created_by", "stock-app"), ("updated_by", "stock-app"), ("source", "stock-api")]
    {
        assert_eq!(document["metadata"][key], value, "{key}");
    }
    let document = app.patch("/api/chat/profiles/agent", json!({"display_name": "A"})).await;
    let document = document.expect_json(200);
    assert_eq!(document["metadata"]["created_by"], "web-chat", "its creator stays");
    assert_eq!(document["metadata"]["updated_by"], "stock-app");
}

#[tokio::test]
async fn without_any_registry_everything_is_not_found() {
    let app = Setup::default().no_profiles().start().await;
    app.get(PROFILES).await.expect_text(404, "registry not found");
    app.get("/api/chat/profiles/agent").await.expect_text(404, "registry not found");
    app.post(PROFILES, json!({"slug": "x"})).await.expect_text(404, "registry not found");
    app.get("/api/chat/profile").await.expect_text(500, "profile registry unavailable");
    let select = app.post("/api/chat/profile", json!({"slug": "x"})).await;
    select.expect_text(500, "profile registry unavailable");
}
