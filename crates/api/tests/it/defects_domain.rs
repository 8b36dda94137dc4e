//! Chapter 10 §15 up to D7, as far as a client or a second process sees it. The rules behind them have tests of their own where
//! they live.

use std::sync::Arc;
use std::time::Duration;

use collodi_profiles::Author;
use collodi_profiles::profile::ProfilePatch;
use collodi_profiles::registry::{CreateProfile, Guard, UpdateProfile};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::app::{NOW, TestApp, bare, listed, open_registry, slug};

const AGENT: &str = "/api/chat/profiles/agent";
const PROFILES: &str = "/api/chat/profiles";

#[tokio::test]
async fn c10_d1_deleting_the_default_leaves_a_default_and_a_database_that_opens() {
    let app = TestApp::start().await;
    app.create(json!({"slug": "b"})).await;
    app.create(json!({"slug": "z", "set_default": true})).await;
    for (deleted, heir) in
        [("z", Some("default")), ("default", Some("agent")), ("agent", Some("b")), ("b", None)]
    {
        app.delete(&format!("{PROFILES}/{deleted}")).await.expect_empty(204);
        let list = app.get(PROFILES).await.expect_json(200);
        let defaults: Vec<&Value> =
            list.as_array().unwrap().iter().filter(|item| item["is_default"] == true).collect();
        assert_eq!(defaults.len(), usize::from(heir.is_some()), "after {deleted}");
        assert_eq!(defaults.first().map(|item| item["slug"].as_str().unwrap()), heir);
        assert_eq!(listed(&app.reopened()), list, "a restart finds the same");
    }
    let document = app.create(json!({"slug": "first"})).await;
    assert_eq!(document, bare("first", 1, true), "the first profile becomes the default");
    assert_eq!(listed(&app.reopened())[0]["is_default"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c10_d2_clients_that_go_away_while_they_write_tear_nothing() {
    let app = TestApp::start().await;
    let names: Vec<String> = (0..40).map(|i| format!("name-{i}")).collect();
    let attempts = names.iter().enumerate().map(|(i, name)| {
        let body = json!({"display_name": name, "description": name, "set_default": i % 2 == 0});
        let bytes = app.call("PATCH", AGENT).json(&body).bytes();
        let address = app.address;
        async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            // Gone at once: some before the server reads, some while it writes, some before it answers.
            drop(stream);
        }
    });
    join_all(attempts).await;
    let answered = app.patch("/api/chat/profiles/default", json!({"display_name": "D"})).await;
    answered.expect_json(200);
    let document = app.document("agent").await;
    let version = document["metadata"]["version"].as_u64().unwrap();
    if version > 1 {
        assert_eq!(document["display_name"], document["description"], "whole or not at all");
        assert!(names.iter().any(|name| document["display_name"] == name.as_str()));
    }
    let (registry, path, _folder) = app.stop().await;
    let served = listed(&registry);
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
    assert_eq!(listed(&open_registry(&path, clock)), served, "memory and file agree");
}

#[tokio::test]
async fn c10_d2_an_abandoned_command_is_still_published_when_it_was_committed() {
    let app = TestApp::start().await;
    for i in 0..20 {
        let request = CreateProfile { slug: format!("p{i}"), ..CreateProfile::default() };
        let registry = app.registry.clone();
        let task = tokio::spawn(async move {
            let _ = registry.create_profile(request, Author::default(), false).await;
        });
        tokio::task::yield_now().await;
        task.abort();
        let _ = task.await;
    }
    // The writer takes its commands in order, so this one comes after all of them.
    app.create(json!({"slug": "last"})).await;
    let served = app.get(PROFILES).await.expect_json(200);
    assert_eq!(listed(&app.reopened()), served);
}

#[tokio::test]
async fn c10_d2_a_write_that_fails_leaves_no_trace_and_blocks_no_later_one() {
    let app = TestApp::start().await;
    let before = app.get(PROFILES).await;
    let lock = rusqlite::Connection::open(&app.path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The database stays locked for longer than the writer is willing to wait.
    let body = json!({"display_name": "ghost", "set_default": true});
    let patched = app.patch(AGENT, body).await;
    patched.expect_text(500, "profile registry unavailable");
    let after = app.get(PROFILES).await;
    assert_eq!((after.status, &after.body), (200, &before.body), "readers go on, nothing is shown");
    lock.execute_batch("ROLLBACK").unwrap();
    app.patch(AGENT, json!({"description": "real"})).await.expect_json(200);
    let served = app.get(PROFILES).await.expect_json(200);
    assert!(!served.to_string().contains("ghost"));
    assert_eq!(listed(&app.reopened()), served, "nor does it come back");
}

#[tokio::test]
async fn c10_d3_two_servers_on_one_file_see_and_respect_each_other() {
    let app = TestApp::start().await;
    let other = app.reopened();
    let create = |name: &str| CreateProfile { slug: name.into(), ..CreateProfile::default() };
    app.create(json!({"slug": "mine"})).await;
    let theirs = other.create_profile(create("theirs"), Author::default(), false).await.unwrap();
    assert_eq!(theirs.registry_version, 3, "it saw the first server's write");
    let taken = other.create_profile(create("mine"), Author::default(), false).await.unwrap_err();
    assert_eq!(taken.to_string(), "profile \"mine\" version conflict: expected=0 actual=1");
    let answer = app.post(PROFILES, json!({"slug": "theirs"})).await;
    answer.expect_text(409, "profile \"theirs\" version conflict: expected=0 actual=1");
    let patch = UpdateProfile {
        registry: other.default_registry().clone(),
        slug: slug("mine"),
        patch: ProfilePatch { description: Some("from there".into()), ..ProfilePatch::default() },
        set_default: false,
        guard: Guard { expected_version: 1, if_match: None },
        may_unlock: true,
    };
    other.update_profile(patch, Author::default(), false).await.unwrap();
    let stale = json!({"display_name": "from here", "expected_version": 1});
    let answer = app.patch("/api/chat/profiles/mine", stale).await;
    answer.expect_text(409, "profile \"mine\" version conflict: expected=1 actual=2");
    let answer = app.patch("/api/chat/profiles/mine", json!({"display_name": "from here"})).await;
    let document = answer.expect_json(200);
    assert_eq!(
        (&document["display_name"], &document["description"]),
        (&json!("from here"), &json!("from there"))
    );
    let served = app.get(PROFILES).await.expect_json(200);
    assert_eq!(listed(&app.reopened()), served, "nobody erased anything");
}

#[tokio::test]
async fn c10_d3_what_another_server_writes_appears_without_a_write_here() {
    let app = TestApp::start().await;
    let other = app.reopened();
    let request = CreateProfile { slug: "theirs".into(), ..CreateProfile::default() };
    other.create_profile(request, Author::default(), false).await.unwrap();
    let seen = async {
        while app.get("/api/chat/profiles/theirs").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert!(seen.is_ok(), "the other server's profile never appeared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c10_d4_of_concurrent_creates_of_one_slug_exactly_one_succeeds() {
    let app = TestApp::start().await;
    for round in 0..10 {
        let slug = format!("race-{round}");
        let creates = (0..16)
            .map(|i| app.post(PROFILES, json!({"slug": slug, "display_name": format!("by {i}")})));
        let answers = join_all(creates).await;
        let won: Vec<Value> =
            answers.iter().filter(|a| a.status == 201).map(|a| a.expect_json(201)).collect();
        assert_eq!(won.len(), 1, "{slug}");
        for lost in answers.iter().filter(|a| a.status != 201) {
            lost.expect_text(
                409,
                &format!("profile \"{slug}\" version conflict: expected=0 actual=1"),
            );
        }
        assert_eq!(app.document(&slug).await, won[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c10_d4_concurrent_patches_of_different_fields_lose_nothing() {
    let app = TestApp::start().await;
    for round in 0..20 {
        let slug = format!("p{round}");
        app.create(json!({"slug": slug})).await;
        let patches = [
            json!({"display_name": "n"}),
            json!({"description": "d"}),
            json!({"runtime": {"system_prompt": "s"}}),
            json!({"policy": {"allow_overrides": true}}),
            json!({"metadata": {"tags": ["t"]}}),
            json!({"extensions": {"a.b@v1": 1}}),
        ];
        let target = format!("{PROFILES}/{slug}");
        for answer in join_all(patches.map(|body| app.patch(&target, body))).await {
            answer.expect_json(200);
        }
        let document = app.document(&slug).await;
        let fields = json!([
            document["display_name"],
            document["description"],
            document["runtime"]["system_prompt"],
            document["policy"]["allow_overrides"],
            document["metadata"]["tags"],
            document["extensions"]["a.b@v1"],
            document["metadata"]["version"],
        ]);
        assert_eq!(fields, json!(["n", "d", "s", true, ["t"], 1, 7]), "{slug}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c10_d4_one_version_is_changed_once() {
    let app = TestApp::start().await;
    for version in 1..=10 {
        let patches = (0..8).map(|i| {
            app.patch(
                AGENT,
                json!({"display_name": format!("v{version}-{i}"), "expected_version": version}),
            )
        });
        let won = join_all(patches).await.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "version {version}");
    }
}

#[tokio::test]
async fn c10_d5_a_write_shares_everything_that_it_does_not_change() {
    let app = TestApp::start().await;
    let registry = &app.registry;
    let stored = |name: &str| {
        let snapshot = registry.snapshot();
        let state = snapshot.registry(registry.default_registry()).unwrap();
        state.get(&slug(name)).unwrap().clone()
    };
    let (agent, default) = (stored("agent"), stored("default"));
    app.patch(AGENT, json!({"display_name": "A"})).await.expect_json(200);
    assert!(Arc::ptr_eq(&default, &stored("default")), "untouched profiles are not copied");
    assert!(!Arc::ptr_eq(&agent, &stored("agent")));
    assert_eq!(agent.profile().display_name, "", "who holds the old state keeps it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c10_d5_readers_do_not_wait_while_a_write_waits_for_the_disk() {
    let app = TestApp::start().await;
    let lock = rusqlite::Connection::open(&app.path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (address, body) = (app.address, json!({"display_name": "A"}));
    let writing =
        tokio::spawn(crate::client::Call::new(address, "PATCH", AGENT).json(&body).send());
    for _ in 0..50 {
        let document = app.document("agent").await;
        assert_eq!(document.get("display_name"), None, "what is not committed is not shown");
    }
    assert!(!writing.is_finished(), "the write is still waiting");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(writing.await.unwrap().expect_json(200)["display_name"], "A");
}

#[tokio::test]
async fn c10_d6_every_stored_profile_has_a_version_and_versions_only_rise() {
    let app = TestApp::start().await;
    for item in app.get(PROFILES).await.expect_json(200).as_array().unwrap() {
        assert_eq!(item["version"], 1);
    }
    let stale = json!({"display_name": "x", "expected_version": 2});
    assert_eq!(app.patch(AGENT, stale).await.status, 409, "even the first edit is protected");
    let mut last = app.document("agent").await["metadata"]["version"].as_u64().unwrap();
    for round in 0..3 {
        app.delete(AGENT).await.expect_empty(204);
        let created = app.create(json!({"slug": "agent"})).await;
        let version = created["metadata"]["version"].as_u64().unwrap();
        assert!(version > last, "round {round}: {version} after {last}");
        last = version;
        let reopened = app.reopened();
        assert_eq!(listed(&reopened)[0]["version"], version, "also after a restart");
    }
    let (registry, path, _folder) = app.stop().await;
    drop(registry);
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
    let reopened = open_registry(&path, clock);
    let guard = Guard::default();
    let name = reopened.default_registry().clone();
    reopened.delete_profile(name, slug("agent"), guard, Author::default(), false).await.unwrap();
    let request = CreateProfile { slug: "agent".into(), ..CreateProfile::default() };
    let written = reopened.create_profile(request, Author::default(), false).await.unwrap();
    assert!(written.stored.unwrap().profile().metadata.version > last);
}

#[tokio::test]
async fn c10_d7_server_owned_metadata_cannot_be_forged_and_tags_can_be_changed() {
    let app = TestApp::start().await;
    let forged = json!({"version": 18_446_744_073_709_551_615_u64, "created_at_ms": 1, "updated_at_ms": 2,
        "created_by": "mallory", "updated_by": "mallory", "source": "forged", "tags": ["a"]});
    let document = app.create(json!({"slug": "p", "metadata": forged})).await;
    let mut expected = crate::app::metadata(1);
    expected["tags"] = json!(["a"]);
    assert_eq!(document["metadata"], expected);
    let mut patch = forged;
    patch["tags"] = json!(["b", "c"]);
    let answer = app.patch("/api/chat/profiles/p", json!({"metadata": patch})).await;
    expected["tags"] = json!(["b", "c"]);
    expected["version"] = json!(2);
    assert_eq!(answer.expect_json(200)["metadata"], expected);
    let answer = app.patch("/api/chat/profiles/p", json!({"metadata": {"version": 9}})).await;
    answer.expect_json(200);
    answer.expect_versions("\"2\"", "3");
}

#[tokio::test]
async fn c10_d7_time_never_runs_backwards_for_one_profile() {
    let app = TestApp::start().await;
    app.clock.store(NOW - 5000, std::sync::atomic::Ordering::Relaxed);
    let answer = app.patch(AGENT, json!({"display_name": "A"})).await;
    assert_eq!(answer.expect_json(200)["metadata"]["updated_at_ms"], NOW);
}
