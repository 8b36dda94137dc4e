//! Chapter 20 §5.9, §5.10 and §7: what is published about middlewares and extensions.

use serde_json::{Value, json};

use crate::app::TestApp;

/// Takes out prose that is ours to write, after checking that there is some.
fn without_prose(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(text)) = object.get_mut("description") {
                    assert!(!text.trim().is_empty(), "a description says something");
                    *text = "...".into();
                }
                object.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&mut value);
    value
}

fn agentmode() -> Value {
    json!({"title": "Agent Mode Middleware", "description": "...", "type": "object",
        "properties": {"default_mode": {"type": "string", "default": "default"}},
        "additionalProperties": false})
}

fn sqlite() -> Value {
    let limit = json!({"type": "integer", "minimum": 1});
    json!({"title": "SQLite Tool Middleware", "description": "...", "type": "object",
        "properties": {"dsn": {"type": "string"}, "max_rows": limit, "execution_timeout_ms": limit,
                       "max_output_lines": limit, "max_output_bytes": limit},
        "additionalProperties": false})
}

#[tokio::test]
async fn middlewares_are_published_with_their_schemas_in_order_of_name() {
    let app = TestApp::start().await;
    let answer = app.get("/api/chat/schemas/middlewares").await.expect_json(200);
    let expected = json!([
        {"name": "agentmode", "version": 1, "display_name": "Agent Mode", "description": "...", "schema": agentmode()},
        {"name": "sqlite", "version": 1, "display_name": "SQLite Tool", "description": "...", "schema": sqlite()},
    ]);
    assert_eq!(without_prose(answer), expected);
}

#[tokio::test]
async fn extensions_are_published_in_order_of_key_with_middlewares_wrapped() {
    let app = TestApp::start().await;
    let wrapped = |schema: Value| {
        json!({"type": "object", "required": ["instances"], "additionalProperties": false,
            "properties": {"instances": {"type": "object", "additionalProperties": schema}}})
    };
    let suggestions = json!({"type": "object",
        "properties": {"items": {"type": "array", "items": {"type": "string"}, "default": []}},
        "required": ["items"], "additionalProperties": false});
    let answer = app.get("/api/chat/schemas/extensions").await.expect_json(200);
    let expected = json!([
        {"key": "middleware.agentmode_config@v1", "schema": wrapped(agentmode())},
        {"key": "middleware.sqlite_config@v1", "schema": wrapped(sqlite())},
        {"key": "webchat.starter_suggestions@v1", "schema": suggestions},
    ]);
    assert_eq!(without_prose(answer), expected);
}

#[tokio::test]
async fn everything_published_is_enforced() {
    let app = TestApp::start().await;
    for (config, keyword) in [
        (json!({"max_rows": 0}), "minimum"),
        (json!({"execution_timeout_ms": -1}), "minimum"),
        (json!({"max_output_lines": "0"}), "minimum"),
        (json!({"max_output_bytes": "many"}), "type"),
        (json!({"other": 1}), "additionalProperties"),
    ] {
        let uses = json!([{"name": "sqlite", "config": config}]);
        let body = json!({"slug": "m", "runtime": {"middlewares": uses}});
        let call = app.call("POST", "/api/chat/profiles").json(&body);
        let answer = call.header("Accept", "application/problem+json").send().await;
        assert_eq!(answer.status, 400, "{config}: {}", answer.text());
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        let problem = &document["problems"][0];
        assert_eq!(
            (&problem["field"], &problem["keyword"]),
            (&json!("runtime.middlewares[0].config"), &json!(keyword))
        );
        let member = config.as_object().unwrap().keys().next().unwrap();
        assert_eq!(problem["pointer"], json!(format!("/runtime/middlewares/0/config/{member}")));
    }
    for items in [json!([1]), json!("x"), Value::Null] {
        let body = json!({"slug": "m", "extensions": {"webchat.starter_suggestions@v1": {"items": items}}});
        let answer = app.post("/api/chat/profiles", body).await;
        let prefix = "validation error (profile.extensions[webchat.starter_suggestions@v1]): ";
        assert!(answer.status == 400 && answer.text().starts_with(prefix), "{}", answer.text());
    }
    for payload in [json!({}), json!({"items": [], "more": 1}), json!([])] {
        let body = json!({"slug": "m", "extensions": {"webchat.starter_suggestions@v1": payload}});
        assert_eq!(app.post("/api/chat/profiles", body).await.status, 400, "{payload}");
    }
}
