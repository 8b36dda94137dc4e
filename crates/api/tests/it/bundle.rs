//! Profiles as code: `/api/chat/bundle` (docs/decisions/0021).

use collodi_profiles::ids::RegistrySlug;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};

const BUNDLE: &str = "/api/chat/bundle";
const DRY: &str = "/api/chat/bundle?dry_run=1";

const TEAM: &str = "slug: default\ndefault_profile_slug: analyst\nprofiles:\n  analyst:\n    display_name: Analyst\n    runtime:\n      system_prompt: |\n        Be brief.\n        Be right.\n      middlewares: [{name: sqlite, config: {max_rows: 5}}]\n  writer: {metadata: {tags: [text]}}\n";

fn file(text: &str) -> Value {
    json!({"bundle": text})
}

fn steps(answer: &Value) -> Vec<String> {
    let word = |step: &Value, key: &str| step[key].as_str().unwrap_or("-").to_owned();
    let steps = answer["steps"].as_array().unwrap();
    steps.iter().map(|s| format!("{} {}", word(s, "operation"), word(s, "slug"))).collect()
}

#[tokio::test]
async fn a_plan_says_what_an_apply_does_and_afterwards_there_is_nothing_to_do() {
    let app = TestApp::start().await;
    let planned = app.post(DRY, file(TEAM)).await;
    assert_eq!(planned.header("x-dry-run"), Some("1"));
    let planned = planned.expect_json(200);
    assert_eq!(steps(&planned), ["create analyst", "create writer", "set_default analyst"]);
    app.get("/api/chat/profiles/writer").await.expect_text(404, "profile not found");

    let mut body = file(TEAM);
    body["expected_revision"] = planned["revision"].clone();
    let applied = app.post(BUNDLE, body).await.expect_json(200);
    assert_eq!(applied["steps"], planned["steps"]);
    let profile = app.get("/api/chat/profiles/analyst").await.expect_json(200);
    assert_eq!(profile["is_default"], true);
    assert_eq!(profile["metadata"]["source"], "file");
    assert_eq!(profile["runtime"]["system_prompt"], "Be brief.\nBe right.\n");
    assert_eq!(
        app.get("/api/chat/profiles/writer").await.expect_json(200)["metadata"]["tags"],
        json!(["text"])
    );
    // The profiles of before are left alone.
    app.get("/api/chat/profiles/agent").await.expect_json(200);

    let again = app.post(DRY, file(TEAM)).await.expect_json(200);
    assert_eq!((&again["steps"], &again["revision"]), (&json!([]), &applied["revision"]));
    let idle = app.post(BUNDLE, file(TEAM)).await.expect_json(200);
    assert_eq!(idle, again, "applying what is true writes nothing");
}

#[tokio::test]
async fn an_edit_by_hand_is_drift_told_by_field_and_an_apply_takes_it_back() {
    let app = TestApp::start().await;
    app.post(BUNDLE, file(TEAM)).await.expect_json(200);
    let edit = json!({"runtime": {"system_prompt": "Be brief.\nBe quick.\n", "middlewares": [{"name": "sqlite", "config": {"max_rows": 7}}]}});
    app.patch("/api/chat/profiles/analyst", edit).await.expect_json(200);
    let drift = app.post(DRY, file(TEAM)).await.expect_json(200);
    assert_eq!(steps(&drift), ["update analyst"]);
    let changes = drift["steps"][0]["changes"].as_array().unwrap();
    let paths: Vec<&str> = changes.iter().filter_map(|c| c["path"].as_str()).collect();
    assert_eq!(
        paths,
        [
            "extensions.middleware.sqlite_config@v1.instances.index:0.max_rows",
            "runtime.system_prompt"
        ]
    );
    assert_eq!((&changes[0]["before"], &changes[0]["after"]), (&json!(7), &json!(5)));
    assert_eq!(changes[1]["lines"][2]["parts"][0]["text"], "Be ");
    let applied = app.post(BUNDLE, file(TEAM)).await.expect_json(200);
    assert_eq!(applied["steps"][0]["version"], 3);
    assert_eq!(steps(&app.post(DRY, file(TEAM)).await.expect_json(200)), Vec::<String>::new());
}

#[tokio::test]
async fn pruning_takes_away_what_a_file_made_and_nothing_else() {
    let app = TestApp::start().await;
    app.post(BUNDLE, file(TEAM)).await.expect_json(200);
    app.create(json!({"slug": "by-hand"})).await;
    let less =
        "slug: default\ndefault_profile_slug: analyst\nprofiles: {analyst: {display_name: A}}\n";
    let kept = app.post(DRY, file(less)).await.expect_json(200);
    assert_eq!(steps(&kept), ["update analyst"]);
    let mut body = file(less);
    body["prune"] = true.into();
    let pruned = app.post(BUNDLE, body.clone()).await.expect_json(200);
    assert_eq!(steps(&pruned), ["update analyst", "delete writer"]);
    app.get("/api/chat/profiles/writer").await.expect_text(404, "profile not found");
    for slug in ["by-hand", "agent", "default"] {
        app.get(&format!("/api/chat/profiles/{slug}")).await.expect_json(200);
    }
    assert_eq!(steps(&app.post(BUNDLE, body).await.expect_json(200)), Vec::<String>::new());
}

#[tokio::test]
async fn pruning_the_default_leaves_a_default_that_exists() {
    let app = TestApp::start().await;
    app.post(BUNDLE, file(TEAM)).await.expect_json(200);
    let body = json!({"bundle": "slug: default\nprofiles: {}\n", "prune": true});
    let pruned = app.post(BUNDLE, body).await.expect_json(200);
    assert_eq!(steps(&pruned), ["delete analyst", "delete writer", "set_default default"]);
    assert_eq!(app.get("/api/chat/profiles/default").await.expect_json(200)["is_default"], true);
    let back = app.post(DRY, file(&app.get(BUNDLE).await.text())).await.expect_json(200);
    assert_eq!(back["steps"], json!([]));

    // Where nothing remains there is no default either.
    let team = "registries: {team: {default_profile_slug: a, profiles: {a: {}, b: {}}}}\n";
    app.post(BUNDLE, file(team)).await.expect_json(200);
    let none = json!({"bundle": "registries: {team: {}}\n", "prune": true});
    let pruned = app.post(BUNDLE, none).await.expect_json(200);
    assert_eq!(steps(&pruned), ["delete a", "delete b"]);
    let registry = app.reopened();
    let snapshot = registry.snapshot();
    let head = snapshot.registry(&RegistrySlug::parse("team").unwrap()).unwrap().head();
    assert_eq!(head.default_profile, None);
}

#[tokio::test]
async fn a_default_that_will_not_exist_and_an_import_that_prunes_are_refused() {
    let app = TestApp::start().await;
    let ghost = "slug: default\ndefault_profile_slug: ghost\nprofiles: {}\n";
    let field = "registries[default].default_profile_slug";
    let expected =
        format!("validation error ({field}): default profile does not exist in registry");
    app.post(BUNDLE, file(ghost)).await.expect_text(400, &expected);
    // Without profiles of its own a file may still choose among those that are there.
    let chosen = app.post(BUNDLE, file(&ghost.replace("ghost", "agent"))).await.expect_json(200);
    assert_eq!(steps(&chosen), ["set_default agent"]);
    let both = json!({"bundle": TEAM, "only_add": true, "prune": true});
    let refused = "validation error (prune): a file that only adds prunes nothing";
    app.post(BUNDLE, both).await.expect_text(400, refused);
}

#[tokio::test]
async fn an_import_adds_what_is_missing_and_leaves_the_rest() {
    let app = TestApp::start().await;
    let text = "slug: default\ndisplay_name: Ours\ndefault_profile_slug: extra\nprofiles: {agent: {display_name: Other}, extra: {}}\n";
    let mut body = file(text);
    body["only_add"] = true.into();
    let added = app.post(BUNDLE, body).await.expect_json(200);
    assert_eq!(steps(&added), ["create extra"]);
    let agent = app.get("/api/chat/profiles/agent").await.expect_json(200);
    assert_eq!(agent["metadata"]["version"], 1);
    assert_eq!(app.get("/api/chat/profiles/default").await.expect_json(200)["is_default"], true);
    // A registry that is new gets everything that the file says of it.
    let mut body = file("team:\n  ai-chat: {ai-engine: m}\n");
    (body["only_add"], body["registry"]) = (true.into(), "new".into());
    let added = app.post(BUNDLE, body).await.expect_json(200);
    assert_eq!(steps(&added), ["create_registry -", "create team"]);
    let team = app.get("/api/chat/profiles/team?registry=new").await.expect_json(200);
    assert_eq!(team["is_default"], true);
}

#[tokio::test]
async fn names_of_a_registry_change_in_a_step_of_their_own() {
    let app = TestApp::start().await;
    let text = format!("display_name: Ours\ndescription: For all\n{TEAM}");
    let applied = app.post(BUNDLE, file(&text)).await.expect_json(200);
    assert_eq!(steps(&applied)[0], "update_registry -");
    assert_eq!(applied["steps"][0]["changes"][0]["after"], "For all");
    let exported = app.get(BUNDLE).await;
    assert_eq!(exported.header("content-type"), Some("application/yaml"));
    assert_eq!(exported.header("x-revision").unwrap(), applied["revision"].to_string());
    assert!(exported.text().contains("display_name: Ours"), "{}", exported.text());
    let back = app.post(DRY, file(&exported.text())).await.expect_json(200);
    assert_eq!(back["steps"], json!([]), "an export is true of where it came from");
    app.get("/api/chat/bundle?registry=none").await.expect_text(404, "registry not found");
    // Other processes and the next start read the names from the log.
    let registry = app.reopened();
    let snapshot = registry.snapshot();
    let head = snapshot.registry(registry.default_registry()).unwrap().head();
    assert_eq!((&*head.display_name, &*head.description), ("Ours", "For all"));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_with_its_place_and_nothing_is_written() {
    let app = TestApp::start().await;
    let text = "registries:\n  default:\n    default_profile_slug: a\n    profiles:\n      a: {runtime: {tools: [nope]}}\n      b: {runtime: {middlewares: [{name: sqlite, config: {max_rows: x}}]}}\n      good: {}\n";
    let answer = app.call("POST", BUNDLE).header("Accept", "application/problem+json");
    let answer = answer.json(&file(text)).send().await;
    assert_eq!(answer.status, 400);
    let document: Value = serde_json::from_str(&answer.text()).unwrap();
    let fields: Vec<&str> = document["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["field"].as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "registries[default].profiles[a].runtime.tools[0]",
            "registries[default].profiles[b].runtime.middlewares[0].config"
        ]
    );
    app.get("/api/chat/profiles/good").await.expect_text(404, "profile not found");
    for (text, refusal) in [
        ("[1]", "validation error: the document must be a mapping"),
        ("registries: [a]", "validation error: registries must be a mapping"),
        ("{}", "validation error (registries): the file names no registry"),
    ] {
        app.post(BUNDLE, file(text)).await.expect_text(400, refusal);
    }
    app.post(BUNDLE, json!({})).await.expect_text(400, "validation error (bundle): is required");
}

#[tokio::test]
async fn of_two_applies_with_one_expectation_one_wins_and_the_other_hears_what_changed() {
    let app = TestApp::start().await;
    let revision = app.post(DRY, file(TEAM)).await.expect_json(200)["revision"].clone();
    let apply = |n: usize| {
        let text = format!("slug: default\ndefault_profile_slug: p{n}\nprofiles: {{p{n}: {{}}}}\n");
        let mut body = file(&text);
        body["expected_revision"] = revision.clone();
        app.post(BUNDLE, body)
    };
    let all = [apply(0), apply(1), apply(2), apply(3)];
    let answers = futures_util::future::join_all(all).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 3));
    let told: Value = serde_json::from_str(&won[0].text()).unwrap();
    let created = told["steps"][0]["slug"].as_str().unwrap();
    let (from, to) = (&revision, &told["revision"]);
    for answer in lost {
        assert_eq!(answer.status, 409);
        let text = format!(
            "revision conflict: expected={from} actual={to}; since then: create default/{created} (version 1) \
             by web-chat, set_default default/{created} (version 1) by web-chat\n"
        );
        assert_eq!(answer.text(), text);
    }
}

#[tokio::test]
async fn roles_hold_for_files_as_for_single_writes() {
    let app = Setup::default().tokens().start().await;
    let apply = |token: &str, text: &str| {
        app.call("POST", BUNDLE)
            .header("Authorization", format!("Bearer {token}"))
            .json(&file(text))
            .send()
    };
    apply("u", TEAM).await.expect_text(403, "not allowed for role user");
    app.call("GET", BUNDLE).header("Authorization", "Bearer u").send().await;
    let locked = "slug: default\ndefault_profile_slug: agent\nprofiles: {agent: {policy: {read_only: true}}}\n";
    apply("e", locked).await.expect_json(200);
    let other = locked.replace("policy:", "display_name: X, policy:");
    apply("e", &other)
        .await
        .expect_text(403, "policy violation for profile \"agent\": profile is read-only");
    apply("o", &other).await.expect_json(200);
    let agent = app
        .call("GET", "/api/chat/profiles/agent")
        .header("Authorization", "Bearer u")
        .send()
        .await
        .expect_json(200);
    assert_eq!(
        (&agent["display_name"], &agent["metadata"]["updated_by"]),
        (&json!("X"), &json!("oona"))
    );
}
