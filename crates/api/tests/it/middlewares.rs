//! Chapter 20 §6: what happens to the configuration of middlewares when a profile is written.

use serde_json::{Value, json};

use crate::app::TestApp;

const AGENTMODE: &str = "middleware.agentmode_config@v1";
const SQLITE: &str = "middleware.sqlite_config@v1";

async fn create(app: &TestApp, middlewares: Value, extensions: Value) -> crate::client::Answer {
    let runtime = json!({"middlewares": middlewares});
    app.post(
        "/api/chat/profiles",
        json!({"slug": "m", "runtime": runtime, "extensions": extensions}),
    )
    .await
}

#[tokio::test]
async fn configurations_that_break_a_rule_are_refused_with_the_text_of_the_contract() {
    let app = TestApp::start().await;
    let at = |rest: &str| format!("validation error (runtime.middlewares{rest}");
    for (middlewares, text) in [
        (json!([{"name": "nope"}]), at("[0].name): unknown middleware \"nope\"")),
        (json!([{"name": "AgentMode"}]), at("[0].name): unknown middleware \"AgentMode\"")),
        (json!([{"name": ""}]), at("[0].name): must not be empty")),
        (
            json!([{"name": "agentmode", "config": {"unknown": 1}}]),
            at(
                "[0].config): project middleware agentmode payload for source profile_write[profile]: path /unknown is not allowed by schema",
            ),
        ),
        (
            json!([{"name": "sqlite", "config": {"max_rows": "x"}}]),
            at(
                "[0].config): coerce middleware sqlite payload at /max_rows from source profile_write[profile]: must be an integer",
            ),
        ),
        (
            json!([{"name": "agentmode"}, {"name": "sqlite", "id": "db", "config": {"max_rows": 1.5}}]),
            at(
                "[1].config): coerce middleware sqlite#db payload at /max_rows from source profile_write[profile]: must be an integer",
            ),
        ),
        (
            json!([{"name": "agentmode", "enabled": false, "config": {"default_mode": null}}]),
            at(
                "[0].config): coerce middleware agentmode payload at /default_mode from source profile_write[profile]: must be a string",
            ),
        ),
        (
            json!([{"name": "agentmode", "id": "a"}, {"name": "sqlite", "id": " a "}]),
            at(
                "[1].id): duplicate middleware instance id \"a\" (first seen at runtime.middlewares[0].id)",
            ),
        ),
        (
            json!([{"name": "sqlite"}, {"name": "agentmode"}, {"name": "sqlite"}]),
            at("[2].id): must be set when a middleware is used more than once"),
        ),
        (
            json!([{"name": "sqlite", "config": {"dsn": "/etc/passwd"}}]),
            at("[0].config): dsn may only be set by the operator"),
        ),
    ] {
        create(&app, middlewares, json!({})).await.expect_text(400, &text);
    }
}

#[tokio::test]
async fn inline_configuration_that_is_no_object_is_named_with_its_use() {
    let app = TestApp::start().await;
    for config in [json!(5), json!("x"), json!([1]), json!(true)] {
        let answer =
            create(&app, json!([{"name": "agentmode", "config": config}]), json!({})).await;
        let prefix = "validation error (runtime.middlewares.config): runtime.middlewares[0].config: must be an object: ";
        assert!(answer.status == 400 && answer.text().starts_with(prefix), "{}", answer.text());
    }
}

#[tokio::test]
async fn projection_of_the_whole_list_comes_before_the_first_unknown_middleware() {
    let app = TestApp::start().await;
    let uses = json!([{"name": "nope"}, {"name": "agentmode", "config": 5}]);
    let answer = create(&app, uses, json!({})).await;
    let prefix = "validation error (runtime.middlewares.config): runtime.middlewares[1].config: must be an object: ";
    assert!(answer.status == 400 && answer.text().starts_with(prefix), "{}", answer.text());
}

#[tokio::test]
async fn unknown_middlewares_come_before_what_is_wrong_with_other_extensions() {
    let app = TestApp::start().await;
    let junk = json!({SQLITE: {"instances": {"index:7": {"max_rows": 0}}}});
    let answer = create(&app, json!([{"name": "nope"}]), junk).await;
    answer.expect_text(
        400,
        "validation error (runtime.middlewares[0].name): unknown middleware \"nope\"",
    );
}

#[tokio::test]
async fn configurations_are_stored_coerced_with_defaults_in_the_slot_of_their_use() {
    let app = TestApp::start().await;
    for (slug, middlewares, extensions, stored) in [
        (
            "defaults",
            json!([{"name": "agentmode"}]),
            json!({}),
            json!({AGENTMODE: {"instances": {"index:0": {"default_mode": "default"}}}}),
        ),
        ("nothing", json!([{"name": "sqlite"}]), json!({}), Value::Null),
        (
            "coerced",
            json!([{"name": "sqlite", "id": "db", "config": {"max_rows": " 12 ", "max_output_lines": 3.0}}]),
            json!({}),
            json!({SQLITE: {"instances": {"id:db": {"max_rows": 12, "max_output_lines": 3}}}}),
        ),
        (
            "inline-wins",
            json!([{"name": "sqlite", "config": {"max_rows": 1}}]),
            json!({SQLITE: {"instances": {"index:0": {"max_rows": 2, "max_output_lines": 9}}}}),
            json!({SQLITE: {"instances": {"index:0": {"max_rows": 1}}}}),
        ),
        (
            "extension",
            json!([{"name": "sqlite", "enabled": false}]),
            json!({"Middleware.SQLite_Config@V1": {"instances": {"index:0": {"max_rows": "2"}}}}),
            json!({SQLITE: {"instances": {"index:0": {"max_rows": 2}}}}),
        ),
        (
            "fallback",
            json!([{"name": "sqlite"}]),
            json!({SQLITE: {"instances": {"default": {"max_rows": 4}}}}),
            json!({SQLITE: {"instances": {"index:0": {"max_rows": 4}}}}),
        ),
        (
            "orphan",
            json!([{"name": "sqlite", "id": "a"}]),
            json!({SQLITE: {"instances": {"id:b": {"max_rows": 4}}}}),
            Value::Null,
        ),
    ] {
        let runtime = json!({"middlewares": middlewares});
        let body = json!({"slug": slug, "runtime": runtime, "extensions": extensions});
        let document = app.create(body).await;
        let got = document.get("extensions").cloned().unwrap_or_default();
        assert_eq!(got, stored, "{slug}");
        let uses = document["runtime"]["middlewares"].as_array().unwrap();
        assert!(uses.iter().all(|used| used.get("config").is_none()), "{slug}: inline is gone");
    }
}

#[tokio::test]
async fn a_payload_that_holds_no_instances_is_refused() {
    let app = TestApp::start().await;
    for payload in [json!(5), json!([]), json!({"instances": []}), json!({"instances": {"x": 1}})] {
        for uses in [json!([]), json!([{"name": "sqlite"}])] {
            let answer = create(&app, uses.clone(), json!({SQLITE: payload})).await;
            let refused = answer.text().starts_with("validation error (");
            assert!(answer.status == 400 && refused, "{payload} {uses}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_patch_of_the_runtime_keeps_the_configuration_of_uses_that_stay() {
    let app = TestApp::start().await;
    let uses = json!([{"name": "agentmode", "id": "a", "config": {"default_mode": "x"}},
                      {"name": "sqlite", "config": {"max_rows": 3}}]);
    let answer = create(&app, uses, json!({"vendor.x@v1": 1})).await;
    answer.expect_json(201);
    let patch = async |body| {
        let document = app.patch("/api/chat/profiles/m", body).await.expect_json(200);
        document["extensions"].clone()
    };
    let swapped = json!([{"name": "sqlite"}, {"name": "agentmode", "id": "a"}]);
    let extensions = patch(json!({"runtime": {"middlewares": swapped}})).await;
    let expected = json!({
        AGENTMODE: {"instances": {"id:a": {"default_mode": "x"}}},
        SQLITE: {"instances": {"index:0": {"max_rows": 3}}},
        "vendor.x@v1": 1,
    });
    assert_eq!(extensions, expected);
    let extensions = patch(json!({"runtime": {"middlewares": [{"name": "sqlite"}]}})).await;
    assert_eq!(extensions, json!({SQLITE: expected[SQLITE], "vendor.x@v1": 1}));
    let extensions = patch(json!({"display_name": "n"})).await;
    assert_eq!(extensions, json!({SQLITE: expected[SQLITE], "vendor.x@v1": 1}));
}

#[tokio::test]
async fn a_patch_of_the_extensions_changes_the_slots_that_it_names() {
    let app = TestApp::start().await;
    create(&app, json!([{"name": "agentmode"}]), json!({"a.b@v1": 1})).await.expect_json(201);
    let slot = json!({AGENTMODE: {"instances": {"index:0": {"default_mode": "y"}}}});
    let answer = app.patch("/api/chat/profiles/m", json!({"extensions": slot})).await;
    assert_eq!(answer.expect_json(200)["extensions"], slot);
    let body = json!({"extensions": {AGENTMODE: {"instances": {"index:0": {"default_mode": {}}}}}});
    let answer = app.patch("/api/chat/profiles/m", body).await;
    answer.expect_text(400, "validation error (runtime.middlewares[0].config): coerce middleware agentmode payload at /default_mode from source profile_write[profile]: must be a string");
}

#[tokio::test]
async fn built_in_configuration_does_not_shadow_what_is_written_later() {
    let app = TestApp::start().await;
    let slot = json!({AGENTMODE: {"instances": {"id:default": {"default_mode": "mine"}}}});
    let answer = app.patch("/api/chat/profiles/agent", json!({"extensions": slot})).await;
    assert_eq!(answer.expect_json(200)["extensions"], slot);
}
