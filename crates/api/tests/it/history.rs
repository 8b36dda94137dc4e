//! What profiles were: versions, differences, restores, the audit log.

use serde_json::{Value, json};

use crate::app::TestApp;

const PROFILES: &str = "/api/chat/profiles";

/// A profile with three versions.
async fn with_history() -> TestApp {
    let app = TestApp::start().await;
    let body = json!({"slug": "p", "runtime": {"system_prompt": "You are brief.\nYou are kind.", "tools": ["calc"]},
        "extensions": {"acme.x@v1": {"deep": {"a": 1}}}, "note": "first"});
    app.create(body).await;
    app.patch(
        &format!("{PROFILES}/p"),
        json!({"runtime": {"system_prompt": "You are brief.\nYou are strict."}}),
    )
    .await
    .expect_json(200);
    app.patch(
        &format!("{PROFILES}/p"),
        json!({"display_name": "P", "metadata": {"tags": ["t"]}, "note": "named"}),
    )
    .await
    .expect_json(200);
    app
}

#[tokio::test]
async fn a_preview_says_by_field_what_a_patch_would_change_and_writes_nothing() {
    let app = with_history().await;
    let path = format!("{PROFILES}/p/diff");
    let patch = json!({"display_name": "Q", "runtime": {"system_prompt": "You are brief.\nYou are calm.", "tools": ["calc"]}});
    let preview = app.post(&path, patch).await.expect_json(200);
    assert_eq!((&preview["from"], &preview["to"]), (&json!(3), &json!(4)));
    assert_eq!(
        column(&preview["changes"], "path"),
        ["display_name", "runtime.system_prompt", "runtime.tools"]
    );
    assert_eq!(app.document("p").await["display_name"], "P");
    let none = app.post(&path, json!({"display_name": "P"})).await.expect_json(200);
    assert_eq!(none["changes"], json!([]));
    let refused = app.post(&path, json!({"runtime": {"tools": ["nope"]}})).await;
    refused.expect_text(400, "validation error (runtime.tools[0]): unknown tool \"nope\"");
    app.post(&format!("{PROFILES}/nobody/diff"), json!({}))
        .await
        .expect_text(404, "profile not found");
}

#[tokio::test]
async fn the_tools_that_profiles_may_list_are_served_with_their_schemas() {
    let app = TestApp::start().await;
    let tools = app.get("/api/chat/schemas/tools").await.expect_json(200);
    assert_eq!(column(&tools, "name"), ["calculator"]);
    assert_eq!(tools[0]["schema"]["type"], "object");
}

fn column(items: &Value, key: &str) -> Vec<Value> {
    items.as_array().unwrap().iter().map(|item| item[key].clone()).collect()
}

#[tokio::test]
async fn versions_are_listed_newest_first_in_pages_and_read_as_they_were() {
    let app = with_history().await;
    let versions = app.get(&format!("{PROFILES}/p/versions")).await.expect_json(200);
    assert_eq!(column(&versions, "version"), [3, 2, 1]);
    assert_eq!(column(&versions, "operation"), ["update", "update", "create"]);
    assert_eq!(column(&versions, "note"), ["named", "", "first"]);
    let page = app.get(&format!("{PROFILES}/p/versions?limit=2")).await;
    assert_eq!(column(&page.expect_json(200), "version"), [3, 2]);
    let link = page.header("link").unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert_eq!(column(&app.get(next).await.expect_json(200), "version"), [1]);
    let first = app.get(&format!("{PROFILES}/p/versions/1")).await.expect_json(200);
    assert_eq!(first["runtime"]["system_prompt"], "You are brief.\nYou are kind.");
    assert_eq!((&first["metadata"]["version"], &first["is_default"]), (&json!(1), &json!(false)));
    let now = app.document("p").await;
    assert_eq!(app.get(&format!("{PROFILES}/p/versions/3")).await.expect_json(200), now);
    for (path, text) in [
        ("p/versions/9", "version not found"),
        ("p/versions/0", "version not found"),
        ("nobody/versions", "profile not found"),
        ("nobody/versions/1", "version not found"),
    ] {
        app.get(&format!("{PROFILES}/{path}")).await.expect_text(404, text);
    }
    app.get(&format!("{PROFILES}/p/versions/x")).await.expect_text(404, "404 page not found");
    app.post(&format!("{PROFILES}/p/versions"), json!({}))
        .await
        .expect_text(405, "method not allowed");
}

#[tokio::test]
async fn a_diff_names_every_field_and_the_lines_of_a_prompt() {
    let app = with_history().await;
    let newest = app.get(&format!("{PROFILES}/p/diff")).await.expect_json(200);
    assert_eq!((&newest["from"], &newest["to"]), (&json!(2), &json!(3)));
    assert_eq!(column(&newest["changes"], "path"), ["display_name", "tags"]);
    let whole = app.get(&format!("{PROFILES}/p/diff?from=1&to=3")).await.expect_json(200);
    assert_eq!(
        column(&whole["changes"], "path"),
        ["display_name", "runtime.system_prompt", "runtime.tools", "tags"]
    );
    assert_eq!(column(&whole["changes"][1]["lines"], "sign"), [" ", "-", "+"]);
    let same = app.get(&format!("{PROFILES}/p/diff?from=2&to=2")).await.expect_json(200);
    assert_eq!(same["changes"], json!([]));
    app.get(&format!("{PROFILES}/p/diff?from=7")).await.expect_text(404, "version not found");
}

#[tokio::test]
async fn a_restore_is_a_new_version_that_says_where_it_comes_from() {
    let app = with_history().await;
    let target = format!("{PROFILES}/p/restore");
    let body = json!({"version": 1, "expected_version": 3, "note": "too strict"});
    let dry = app.post(&format!("{target}?dry_run=1"), body.clone()).await;
    assert_eq!(dry.expect_json(200)["metadata"]["version"], 4);
    assert_eq!(app.document("p").await["metadata"]["version"], 3);
    let restored = app.post(&target, body.clone()).await.expect_json(200);
    assert_eq!(restored["metadata"]["version"], 4);
    let first = app.get(&format!("{PROFILES}/p/versions/1")).await.expect_json(200);
    for member in ["runtime", "extensions", "policy"] {
        assert_eq!(restored[member], first[member], "{member}");
    }
    assert_eq!(restored.get("display_name"), None);
    let newest = app.get(&format!("{PROFILES}/p/versions?limit=1")).await.expect_json(200);
    assert_eq!(
        (&newest[0]["operation"], &newest[0]["note"]),
        (&json!("restore"), &json!("restored from version 1: too strict"))
    );
    assert_eq!(
        newest[0]["content_hash"],
        column(&app.get(&format!("{PROFILES}/p/versions")).await.expect_json(200), "content_hash")
            [3]
    );
    let late = app.post(&target, body).await;
    late.expect_text(409, "profile \"p\" version conflict: expected=3 actual=4");
    assert_eq!(app.reopened().snapshot().registries().map(|state| state.len()).sum::<usize>(), 3);
}

#[tokio::test]
async fn what_cannot_be_restored_is_told_and_changes_nothing() {
    let app = with_history().await;
    let target = format!("{PROFILES}/p/restore");
    let before = app.registry_version().await;
    for (body, status, text) in [
        (json!({"version": 1}), 400, "validation error (expected_version): is required"),
        (json!({"expected_version": 3}), 400, "validation error (version): is required"),
        (json!({"version": 8, "expected_version": 3}), 404, "version not found"),
        (json!({"version": "1"}), 400, "bad request"),
    ] {
        app.post(&target, body).await.expect_text(status, text);
    }
    let nobody = format!("{PROFILES}/nobody/restore");
    let refused = app.post(&nobody, json!({"version": 1, "expected_version": 1})).await;
    refused.expect_text(404, "version not found");
    assert_eq!(app.registry_version().await, before);
    app.patch(&format!("{PROFILES}/p"), json!({"policy": {"read_only": true}}))
        .await
        .expect_json(200);
    let locked = app.post(&target, json!({"version": 1, "expected_version": 4})).await;
    locked.expect_text(403, "policy violation for profile \"p\": profile is read-only");
}

#[tokio::test]
async fn a_deleted_profile_keeps_its_history_and_comes_back_above_it() {
    let app = with_history().await;
    app.delete(&format!("{PROFILES}/p")).await.expect_empty(204);
    let versions = app.get(&format!("{PROFILES}/p/versions")).await.expect_json(200);
    assert_eq!(column(&versions, "operation")[0], "delete");
    let body = json!({"version": 3, "expected_version": 4});
    let back = app.post(&format!("{PROFILES}/p/restore"), body).await.expect_json(200);
    assert_eq!((&back["metadata"]["version"], &back["display_name"]), (&json!(5), &json!("P")));
}

#[tokio::test]
async fn of_restores_at_once_with_one_expectation_one_wins() {
    let app = with_history().await;
    let target = format!("{PROFILES}/p/restore");
    let restores = (0..8).map(|_| app.post(&target, json!({"version": 1, "expected_version": 3})));
    let answers = futures_util::future::join_all(restores).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((won, answers.iter().filter(|answer| answer.status == 409).count()), (1, 7));
}

#[tokio::test]
async fn the_audit_log_is_filtered_paged_and_exported_line_by_line() {
    let app = with_history().await;
    let all = app.get("/api/chat/audit").await.expect_json(200);
    let changes = column(&all, "change");
    assert_eq!(changes, (1..=changes.len()).map(Value::from).collect::<Vec<_>>());
    let of = app.get("/api/chat/audit?slug=p&operation=update").await.expect_json(200);
    assert_eq!(column(&of, "version"), [2, 3]);
    let page = app.get("/api/chat/audit?slug=p&limit=2").await;
    assert_eq!(column(&page.expect_json(200), "version"), [1, 2]);
    let link = page.header("link").unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert_eq!(column(&app.get(next).await.expect_json(200), "version"), [3]);
    let lines = app.get("/api/chat/audit?format=jsonl&actor=web-chat").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let text = String::from_utf8(lines.body.clone()).unwrap();
    let parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(parsed.count(), changes.len());
    assert_eq!(app.get("/api/chat/audit?actor=nobody").await.expect_json(200), json!([]));
    app.get("/api/chat/audit?operation=dance").await.expect_text(400, "bad request");
}
