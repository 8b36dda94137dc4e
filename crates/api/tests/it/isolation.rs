//! A defect of a model, a middleware or a tool is the failure of one run: the server lives on, the run says so, and what
//! waits behind it is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collodi_chat::middleware::{Around, Middleware, Toolbox, Working};
use collodi_chat::model::{Call, Event, Model, ModelError, Models};
use collodi_chat::tool::{Tool, ToolContext, ToolSpec};
use collodi_chat::turn::{Block, Kind};
use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};

/// The newest prompt of a context.
fn asked(blocks: &[Arc<Block>]) -> &str {
    blocks.iter().rfind(|block| block.kind == Kind::User).map_or("", |block| block.as_text())
}

/// Panics where the prompt says, else calls a tool once, if it has one, and answers.
struct Fragile;

impl Models for Fragile {
    fn model(&self, runtime: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
        assert!(runtime.system_prompt != "no model", "a defect in a factory");
        Ok(Arc::new(Self))
    }
}

impl Model for Fragile {
    fn name(&self) -> String {
        "fragile".into()
    }

    fn provider(&self) -> &'static str {
        "test"
    }

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let prompt = asked(&call.blocks).to_owned();
        assert!(prompt != "panic before the stream", "a defect in a model");
        let has_result = call.blocks.iter().any(|block| block.kind == Kind::ToolUse);
        let mut events = vec![Event::Text("said ".into())];
        if prompt == "panic in the tool" && !has_result {
            events.push(Event::Block(Block::tool_call("call_1", "calc", "{}")));
        }
        events.push(Event::Done { stop_reason: Some("stop".into()) });
        let events = stream::iter(events).map(move |event| {
            let is_end = matches!(event, Event::Done { .. });
            assert!(!(is_end && prompt == "panic in the stream"), "a defect in a stream");
            Ok(event)
        });
        events.boxed()
    }
}

struct FragileParts;

impl Toolbox for FragileParts {
    fn middleware(&self, _: &str, _: &Object) -> Result<Box<dyn Middleware>, String> {
        Ok(Box::new(Self))
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let parameters = json!({"type": "object"});
        let name = "calc".to_owned();
        vec![Arc::new(Broken(ToolSpec { name, description: String::new(), parameters }))]
    }

    fn clean(&self, _: &mut Working, _: &[&str]) {}
}

impl Middleware for FragileParts {
    fn before(&self, turn: &mut Working, _: &mut Around<'_>) -> Result<(), String> {
        assert!(asked(&turn.blocks) != "panic in the middleware", "a defect in a middleware");
        Ok(())
    }
}

/// Panics when it is called.
pub(crate) struct Broken(pub(crate) ToolSpec);

impl Tool for Broken {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn call(&self, _: Object, _: ToolContext) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { panic!("a defect in a tool") })
    }
}

/// Sends the prompt again until it has ended.
pub(crate) async fn ended(app: &TestApp, body: &Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let answer = app.post("/chat", body.clone()).await;
        let answer: Value = serde_json::from_str(&answer.text()).unwrap();
        if ["completed", "error"].contains(&answer["status"].as_str().unwrap()) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it hangs: {answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn prompt(text: &str, key: &str, profile: &str) -> Value {
    json!({"conv_id": "c", "prompt": text, "idempotency_key": key, "profile": profile})
}

#[tokio::test]
async fn c30_d52_inf_11_a_panic_is_one_failed_run_and_the_prompt_behind_it_is_answered() {
    let app = Setup::default().models(Fragile).toolbox(FragileParts).start().await;
    app.create(json!({"slug": "broken", "runtime": {"system_prompt": "no model"}})).await;
    for (n, (text, profile, outcome)) in [
        ("panic before the stream", "agent", "error"),
        ("panic in the stream", "agent", "error"),
        ("panic in the middleware", "agent", "error"),
        ("panic in the tool", "agent", "completed"),
        ("anything", "broken", "error"),
    ]
    .into_iter()
    .enumerate()
    {
        let (first, behind) = (format!("first-{n}"), format!("behind-{n}"));
        let first = prompt(text, &first, profile);
        let behind = prompt("hello", &behind, "default");
        app.post("/chat", first.clone()).await;
        app.post("/chat", behind.clone()).await;
        let end = ended(&app, &first).await;
        assert_eq!(end["status"], outcome, "{text}: {end}");
        if outcome == "error" {
            let reason = "the run failed because of a defect in this program";
            assert_eq!(end["error"], reason, "{text}");
        }
        assert_eq!(ended(&app, &behind).await["status"], "completed", "behind: {text}");
    }
    let snapshot = app.get("/api/timeline?conv_id=c").await.expect_json(200);
    let entities = snapshot["entities"].as_array().unwrap();
    assert!(entities.iter().all(|entity| entity["props"]["streaming"] != true), "{snapshot}");
    let failures = entities.iter().filter(|e| e["props"]["level"] == "error").count();
    assert_eq!(failures, 4, "each failed run says so");
    let card = entities.iter().find(|e| e["kind"] == "tool_call").unwrap();
    assert_eq!(card["props"]["status"], "error");
    assert!(entities.iter().any(|e| e["props"]["content"] == "said "), "partial text is kept");
}
