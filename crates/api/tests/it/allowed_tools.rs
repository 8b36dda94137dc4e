//! What a middleware does not allow is neither told to a model nor run.

use std::sync::Arc;

use collodi_chat::middleware::{Around, Middleware, Toolbox, Working};
use collodi_chat::model::{Call, Event, Model, ModelError, Models};
use collodi_chat::tool::{Tool, ToolSpec};
use collodi_chat::turn::{Block, Kind};
use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::json;

use crate::app::Setup;
use crate::isolation::{Broken, ended, prompt};

/// Asks for a tool that it may not have, then says which tools it was told of and what came of the call.
struct Curious;

impl Models for Curious {
    fn model(&self, _: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
        Ok(Arc::new(Self))
    }
}

impl Model for Curious {
    fn name(&self) -> String {
        "curious".into()
    }

    fn provider(&self) -> &'static str {
        "test"
    }

    fn call(&self, call: Call) -> BoxStream<'static, Result<Event, ModelError>> {
        let names: Vec<&str> = call.tools.iter().map(|tool| tool.name.as_str()).collect();
        let result = call.blocks.iter().find(|block| block.kind == Kind::ToolUse);
        let event = match result {
            None => Event::Block(Block::tool_call("call_1", "late", "{}")),
            Some(result) => Event::Text(format!("{names:?} {}", result.get("error"))),
        };
        stream::iter([Ok(event), Ok(Event::Done { stop_reason: Some("stop".into()) })]).boxed()
    }
}

/// Offers two tools; its only middleware adds a third and allows one.
struct Narrow;

fn named(name: &str) -> Arc<dyn Tool> {
    let parameters = json!({"type": "object"});
    Arc::new(Broken(ToolSpec { name: name.into(), description: String::new(), parameters }))
}

impl Toolbox for Narrow {
    fn middleware(&self, _: &str, _: &Object) -> Result<Box<dyn Middleware>, String> {
        Ok(Box::new(Self))
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        vec![named("calc"), named("other")]
    }

    fn clean(&self, _: &mut Working, _: &[&str]) {}
}

impl Middleware for Narrow {
    fn before(&self, _: &mut Working, around: &mut Around<'_>) -> Result<(), String> {
        around.allowed = Some(vec!["calc".into()]);
        around.tools.add(named("late"))
    }
}

#[tokio::test]
async fn inf_22_what_a_middleware_does_not_allow_is_neither_told_nor_run() {
    let app = Setup::default().models(Curious).toolbox(Narrow).start().await;
    assert_eq!(ended(&app, &prompt("hello", "one", "agent")).await["status"], "completed");
    let timeline = app.get("/api/timeline?conv_id=c").await.text();
    assert!(timeline.contains(r#"[\"calc\"] tool not found: late"#), "{timeline}");
}
