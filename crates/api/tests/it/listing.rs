//! Decisions 12 and 41: conditional reads and pages of the list.

use serde_json::{Value, json};

use crate::app::TestApp;

async fn slugs(app: &TestApp, query: &str) -> Vec<String> {
    let list = app.get(&format!("/api/chat/profiles?{query}")).await.expect_json(200);
    let slug = |item: &Value| item["slug"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(slug).collect()
}

async fn with_profiles() -> TestApp {
    let app = TestApp::start().await;
    for (slug, name, tags) in [
        ("b-1", "Analyst", json!(["x", "y"])),
        ("b-2", "analogue", json!(["y"])),
        ("a.b", "Other", json!([])),
        ("a-b", "", json!(["X"])),
    ] {
        app.create(json!({"slug": slug, "display_name": name, "metadata": {"tags": tags}})).await;
    }
    app
}

#[tokio::test]
async fn the_list_is_sorted_by_the_bytes_of_the_slug() {
    let app = with_profiles().await;
    assert_eq!(slugs(&app, "").await, ["a-b", "a.b", "agent", "b-1", "b-2", "default"]);
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let app = with_profiles().await;
    for (query, expected) in [
        ("q=b-", &["b-1", "b-2"][..]),
        ("q=ANAL", &["b-1", "b-2"]),
        ("q=a", &["a-b", "a.b", "agent", "b-1", "b-2"]),
        ("q=nalyst", &[]),
        ("tag=y", &["b-1", "b-2"]),
        ("tag=x", &["b-1"]),
        ("tag=nothing", &[]),
        ("q=b&tag=x", &["b-1"]),
        ("after=agent", &["b-1", "b-2", "default"]),
        ("after=b", &["b-1", "b-2", "default"]),
        ("after=zzz", &[]),
        ("limit=2", &["a-b", "a.b"]),
        ("limit=2&after=A.B", &["agent", "b-1"]),
        ("limit=1000000", &["a-b", "a.b", "agent", "b-1", "b-2", "default"]),
        ("limit=%20&q=%20&tag=&after=", &["a-b", "a.b", "agent", "b-1", "b-2", "default"]),
    ] {
        assert_eq!(slugs(&app, query).await, expected, "{query}");
    }
    let answer = app.get("/api/chat/profiles?after=bad%20slug").await;
    answer.expect_text(400, "bad request");
}

#[tokio::test]
async fn following_the_links_sees_every_profile_once() {
    let app = with_profiles().await;
    for filter in ["", "&tag=y", "&q=a"] {
        let mut target = format!("/api/chat/profiles?limit=1{filter}");
        let mut seen = Vec::new();
        loop {
            let answer = app.get(&target).await;
            let list = answer.expect_json(200);
            seen.extend(
                list.as_array().unwrap().iter().map(|i| i["slug"].as_str().unwrap().to_owned()),
            );
            let Some(link) = answer.header("link") else { break };
            let next = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\""));
            target = next.unwrap_or_else(|| panic!("{link}")).to_owned();
            assert!(seen.len() < 10, "the links go round");
        }
        assert_eq!(seen, slugs(&app, &filter.replacen('&', "", 1)).await, "{filter}");
    }
    assert_eq!(app.get("/api/chat/profiles").await.header("link"), None);
    assert_eq!(app.get("/api/chat/profiles?limit=6").await.header("link"), None, "that was all");
}

#[tokio::test]
async fn an_empty_registry_lists_an_empty_array() {
    let app = TestApp::start().await;
    for slug in ["agent", "default"] {
        app.delete(&format!("/api/chat/profiles/{slug}")).await.expect_empty(204);
    }
    let answer = app.get("/api/chat/profiles").await;
    assert_eq!(answer.expect_json(200), json!([]));
    answer.expect_versions("\"r3\"", "3");
}

#[tokio::test]
async fn readers_who_have_the_current_state_get_304() {
    let app = TestApp::start().await;
    for (target, etag) in [
        ("/api/chat/profiles", "\"r1\""),
        ("/api/chat/profiles/agent", "\"1\""),
        ("/api/chat/profiles/default", "\"1.d\""),
    ] {
        for (header, status) in [
            (etag.to_owned(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".into(), 304),
            ("\"other\"".into(), 200),
            (etag.replace('"', ""), 200),
        ] {
            let call = app.call("GET", target).header("If-None-Match", &header);
            let answer = call.send().await;
            assert_eq!(answer.status, status, "{target} {header}");
            answer.expect_versions(etag, "1");
            if status == 304 {
                answer.expect_empty(304);
            }
        }
    }
    app.get("/api/chat/profiles/nobody").await.expect_text(404, "profile not found");
    let call = app.call("GET", "/api/chat/profiles/nobody").header("If-None-Match", "*");
    call.send().await.expect_text(404, "profile not found");
}

#[tokio::test]
async fn the_tag_of_a_document_changes_when_the_default_changes() {
    let app = TestApp::start().await;
    app.call("POST", "/api/chat/profiles/agent/default").send().await.expect_json(200);
    for (slug, old, new) in [("default", "\"1.d\"", "\"1\""), ("agent", "\"1\"", "\"1.d\"")] {
        let target = format!("/api/chat/profiles/{slug}");
        let answer = app.call("GET", &target).header("If-None-Match", old).send().await;
        answer.expect_json(200);
        answer.expect_versions(new, "2");
    }
}

#[tokio::test]
async fn items_say_tags_and_lock_only_to_whoever_asks() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "t", "metadata": {"tags": ["x"]}, "policy": {"read_only": true}}))
        .await;
    let plain = app.get("/api/chat/profiles?q=t").await.expect_json(200);
    assert_eq!(plain, json!([{"slug": "t", "version": 1}]));
    let detailed = app.get("/api/chat/profiles?q=t&details=1").await.expect_json(200);
    assert_eq!(detailed, json!([{"slug": "t", "version": 1, "tags": ["x"], "read_only": true}]));
}
