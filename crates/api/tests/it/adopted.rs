//! Decision 6 over HTTP: a database of the reference is served with its secrets hidden, its defects repaired, and what
//! breaks newer rules kept as long as nobody touches it.

use serde_json::{Map, Value, json};

use crate::app::{Setup, TestApp};

fn old_profile(slug: &str, rest: &Value) -> Value {
    let mut profile = json!({"slug": slug, "runtime": {}, "metadata": {},
        "policy": {"allow_overrides": false, "read_only": false}});
    for (key, value) in rest.as_object().unwrap() {
        profile[key] = value.clone();
    }
    profile
}

fn old_registry(profiles: &[(&str, Value)]) -> Value {
    let profiles: Map<String, Value> =
        profiles.iter().map(|(slug, rest)| ((*slug).to_owned(), old_profile(slug, rest))).collect();
    json!({"slug": "default", "default_profile_slug": "default", "profiles": profiles,
        "metadata": {"version": 41, "source": "bootstrap"}})
}

async fn adopt(profiles: &[(&str, Value)]) -> TestApp {
    Setup::default().no_profiles().adopting(old_registry(profiles)).start().await
}

#[tokio::test]
async fn c20_h19_secrets_of_an_adopted_database_are_redacted_on_every_read() {
    let patch =
        json!({"openai-chat": {"openai-api-key": "sk-canary"}, "ai-chat": {"ai-engine": "m"}});
    let app = adopt(&[
        ("default", json!({})),
        ("keyed", json!({"runtime": {"step_settings_patch": patch}, "metadata": {"version": 7}})),
    ])
    .await;
    let document = app.document("keyed").await;
    let expected = json!({"openai-chat": {"openai-api-key": "***"}, "ai-chat": {"ai-engine": "m"}});
    assert_eq!(document["runtime"]["step_settings_patch"], expected);
    let chat = app.post("/chat", json!({"prompt": "x", "profile": "keyed"})).await;
    let patched = app.patch("/api/chat/profiles/keyed", json!({"display_name": "K"})).await;
    patched.expect_json(200);
    for answer in [app.get("/api/chat/profiles").await, chat, patched] {
        assert!(!answer.text().contains("sk-canary"), "{}", answer.text());
    }
}

#[tokio::test]
async fn c10_d6_adopted_versions_go_on_from_where_they_were_and_are_at_least_1() {
    let app = adopt(&[
        ("default", json!({})),
        ("seven", json!({"metadata": {"version": 7, "created_by": "ann", "created_at_ms": 5}})),
    ])
    .await;
    assert!(app.registry_version().await >= 41);
    let of = |document: &Value| document["metadata"]["version"].as_u64().unwrap();
    assert!(of(&app.document("default").await) >= 1);
    let version = of(&app.document("seven").await);
    assert!(version >= 7, "{version}");
    let body = json!({"description": "d", "expected_version": version});
    let document = app.patch("/api/chat/profiles/seven", body).await.expect_json(200);
    assert_eq!(of(&document), version + 1);
    assert_eq!(document["metadata"]["created_by"], "ann");
    assert_eq!(document["metadata"]["created_at_ms"], 5);
}

#[tokio::test]
async fn c10_d1_a_database_that_the_reference_bricked_is_repaired() {
    let mut registry = old_registry(&[("b", json!({})), ("a", json!({}))]);
    for broken in [Value::Null, json!("gone")] {
        registry["default_profile_slug"] = broken;
        let setup = Setup::default().no_profiles().adopting(registry.clone());
        let app = setup.start().await;
        assert_eq!(app.get("/api/chat/profile").await.expect_json(200), json!({"slug": "a"}));
        assert_eq!(app.document("a").await["is_default"], true);
    }
}

#[tokio::test]
async fn c10_d11_adopted_keys_are_canonical_and_inline_config_has_moved() {
    let runtime = json!({"middlewares": [{"name": "agentmode", "config": {"default_mode": "x"}}]});
    let extensions = json!({"Vendor.Thing@V1": {"a": {}}});
    let app = adopt(&[("default", json!({"runtime": runtime, "extensions": extensions}))]).await;
    let document = app.document("default").await;
    let expected = json!({
        "middleware.agentmode_config@v1": {"instances": {"index:0": {"default_mode": "x"}}},
        "vendor.thing@v1": {"a": {}},
    });
    assert_eq!(document["extensions"], expected);
    assert_eq!(document["runtime"], json!({"middlewares": [{"name": "agentmode"}]}));
}

#[tokio::test]
async fn what_breaks_newer_rules_is_kept_until_somebody_names_it() {
    let runtime = json!({"tools": ["long-gone"], "middlewares": [{"name": "retired"}]});
    let extensions = json!({"webchat.starter_suggestions@v1": {"items": "not a list"}});
    let app = adopt(&[("default", json!({"runtime": runtime, "extensions": extensions}))]).await;
    let target = "/api/chat/profiles/default";
    let document = app.patch(target, json!({"display_name": "D"})).await.expect_json(200);
    assert_eq!(document["runtime"], runtime);
    assert_eq!(document["extensions"], extensions);
    app.patch(target, json!({"policy": {"allow_overrides": true}})).await.expect_json(200);
    let answer = app.patch(target, json!({"runtime": runtime})).await;
    let text = "validation error (runtime.middlewares[0].name): unknown middleware \"retired\"";
    answer.expect_text(400, text);
    let answer = app.patch(target, json!({"extensions": extensions})).await;
    assert_eq!(answer.status, 400);
    let chat = app.post("/chat", json!({"prompt": "x"})).await;
    chat.expect_text(500, "start session inference failed");
    let tried = app.post(&format!("{target}/try"), json!({"prompt": "x", "profile": {}})).await;
    tried.expect_text(
        400,
        "validation error (runtime): resolve middleware retired: unknown middleware \"retired\"",
    );
}

#[tokio::test]
async fn a_bad_adopted_config_can_be_removed_with_its_use() {
    let uses = json!([{"name": "sqlite", "id": "a"}]);
    let bad = json!({"middleware.sqlite_config@v1": {"instances": {"id:a": {"max_rows": 0}}}});
    let app =
        adopt(&[("default", json!({"runtime": {"middlewares": uses}, "extensions": bad}))]).await;
    assert_eq!(app.document("default").await["extensions"], bad, "kept until somebody names it");
    let target = "/api/chat/profiles/default?dry_run=1";
    let good = json!([{"name": "sqlite", "id": "a", "config": {"max_rows": 1}}]);
    let answer = app.patch(target, json!({"runtime": {"middlewares": good}})).await;
    answer.expect_json(200);
    let answer = app.patch(target, json!({"runtime": {"system_prompt": "s"}})).await;
    assert_eq!(answer.expect_json(200).get("extensions"), None);
}

#[tokio::test]
async fn an_operators_database_name_survives_edits_that_do_not_mention_it() {
    let uses = json!([{"name": "sqlite", "id": "a"}]);
    let config = json!({"instances": {"id:a": {"dsn": "/data/shop.db", "max_rows": 5}}});
    let extensions = json!({"middleware.sqlite_config@v1": config});
    let profile = json!({"runtime": {"middlewares": uses}, "extensions": extensions});
    let app = adopt(&[("default", profile)]).await;
    let target = "/api/chat/profiles/default";
    for body in [
        json!({"display_name": "D"}),
        json!({"extensions": {"vendor.x@v1": 1}}),
        json!({"runtime": {"system_prompt": "s", "middlewares": uses}}),
    ] {
        let document = app.patch(target, body).await.expect_json(200);
        assert_eq!(document["extensions"]["middleware.sqlite_config@v1"], config);
    }
    let other =
        json!({"middleware.sqlite_config@v1": {"instances": {"id:a": {"dsn": "/etc/passwd"}}}});
    app.patch(target, json!({"extensions": other})).await.expect_text(
        400,
        "validation error (runtime.middlewares[0].config): dsn may only be set by the operator",
    );
}

#[tokio::test]
async fn uses_of_a_middleware_without_ids_are_told_apart() {
    let uses = json!([{"name": "sqlite", "config": {"max_rows": 1}}, {"name": "sqlite", "config": {"max_rows": 2}}]);
    let app = adopt(&[("default", json!({"runtime": {"middlewares": uses}}))]).await;
    let document = app.document("default").await;
    let ids: Vec<&str> = document["runtime"]["middlewares"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|used| used["id"].as_str())
        .collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| id.starts_with("sqlite-")), "{ids:?}");
    let slots = &document["extensions"]["middleware.sqlite_config@v1"]["instances"];
    assert_eq!(slots[format!("id:{}", ids[0])], json!({"max_rows": 1}));
    assert_eq!(slots[format!("id:{}", ids[1])], json!({"max_rows": 2}));
}

#[tokio::test]
async fn c10_d15_a_registry_holds_20_000_profiles_and_no_more() {
    let slugs: Vec<String> = (0..19_999).map(|i| format!("p{i:05}")).collect();
    let mut profiles: Vec<(&str, Value)> = slugs.iter().map(|s| (s.as_str(), json!({}))).collect();
    profiles.push(("default", json!({})));
    let app = adopt(&profiles).await;
    let answer = app.post("/api/chat/profiles", json!({"slug": "one-more"})).await;
    answer.expect_text(400, "validation error (registry.profiles): must be at most 20000 items");
    let taken = app.post("/api/chat/profiles", json!({"slug": "default"})).await;
    assert_eq!(taken.status, 409, "a taken slug is said first");
    app.delete("/api/chat/profiles/p00000").await.expect_empty(204);
    app.create(json!({"slug": "one-more"})).await;
}
