//! Chapter 20 §3.2 with more than one registry: every request stays in the one that it names.

use collodi_profiles::profile::Draft;
use collodi_profiles::registry::Seed;
use collodi_profiles::{Author, ProfileSlug, RegistrySlug};
use serde_json::{Value, json};

use crate::app::TestApp;

/// A second registry `team` with the profiles `agent` and `crew`, which is its default.
async fn with_team() -> TestApp {
    let app = TestApp::start().await;
    let slug = |raw: &str| ProfileSlug::parse(raw).unwrap();
    let seed = Seed {
        registry: RegistrySlug::parse("team").unwrap(),
        profiles: vec![(slug("agent"), Draft::default()), (slug("crew"), Draft::default())],
        default_profile: slug("crew"),
    };
    let author = Author { actor: "op".into(), source: "bootstrap".into(), ..Author::default() };
    assert!(app.registry.bootstrap(seed.clone(), author.clone()).await.unwrap());
    assert!(!app.registry.bootstrap(seed, author).await.unwrap(), "only a new one is filled");
    app
}

fn slugs(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_and_documents_are_those_of_the_registry_that_was_asked_for() {
    let app = with_team().await;
    let list = app.get("/api/chat/profiles").await.expect_json(200);
    assert_eq!(slugs(&list), ["agent", "default"]);
    let answer = app.get("/api/chat/profiles?registry=team").await;
    assert_eq!(slugs(&answer.expect_json(200)), ["agent", "crew"]);
    answer.expect_versions("\"r1\"", "1");
    let document = app.get("/api/chat/profiles/agent?registry=TEAM").await.expect_json(200);
    assert_eq!((&document["registry"], &document["runtime"]), (&json!("team"), &json!({})));
    let foreign = app.get("/api/chat/profiles/default?registry=team").await;
    foreign.expect_text(404, "profile not found");
}

#[tokio::test]
async fn writes_change_the_registry_that_they_name_and_no_other() {
    let app = with_team().await;
    let before = app.get("/api/chat/profiles").await.body;
    let created = app.post("/api/chat/profiles", json!({"slug": "new", "registry": "team"})).await;
    created.expect_versions("\"1\"", "2");
    assert_eq!(created.expect_json(201)["registry"], "team");
    let body = json!({"display_name": "A", "registry": "team", "set_default": true});
    let patched = app.patch("/api/chat/profiles/agent", body).await;
    patched.expect_versions("\"2.d\"", "3");
    let target = "/api/chat/profiles/crew/default?registry=team&expected_version=9";
    let conflict = app.call("POST", target).send().await;
    conflict.expect_text(409, "registry \"team\" version conflict: expected=9 actual=3");
    let target = "/api/chat/profiles/crew/default?registry=team&expected_version=3";
    app.call("POST", target).send().await.expect_versions("\"1.d\"", "4");
    app.delete("/api/chat/profiles/crew?registry=team").await.expect_empty(204);
    let list = app.get("/api/chat/profiles?registry=team").await.expect_json(200);
    assert_eq!(slugs(&list), ["agent", "new"]);
    assert_eq!(list[0]["is_default"], true, "the lowest slug takes over");
    let after = app.get("/api/chat/profiles").await;
    assert_eq!(after.body, before);
    after.expect_versions("\"r1\"", "1");
}

#[tokio::test]
async fn c20_h6_the_cookie_counts_in_its_own_registry_only() {
    let app = with_team().await;
    let cookie = "chat_profile=agent";
    let chat = async |registry: &str, cookie: &str| {
        let body = json!({"prompt": "x", "registry": registry});
        let call = app.call("POST", "/chat").header("Cookie", cookie).json(&body);
        let answer = call.send().await.expect_json(200);
        let metadata = &answer["profile_metadata"];
        format!("{}/{}", metadata["profile.registry"], metadata["profile.slug"]).replace('"', "")
    };
    assert_eq!(chat("team", cookie).await, "team/crew", "though there is an agent in it");
    assert_eq!(chat("default", cookie).await, "default/agent");
    assert_eq!(chat("", cookie).await, "default/agent");
    assert_eq!(chat("team", "").await, "team/crew");
    let selected = app.call("GET", "/api/chat/profile?registry=team").header("Cookie", cookie);
    assert_eq!(selected.send().await.expect_json(200), json!({"slug": "agent"}));
    let foreign = app.post("/api/chat/profile", json!({"slug": "crew", "registry": "team"})).await;
    foreign.expect_text(404, "profile not found");
}
