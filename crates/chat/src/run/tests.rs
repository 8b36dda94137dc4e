//! What the loop decides, and what it does when tools fail.

use super::*;
use crate::tool::{Tool, ToolContext, ToolSpec};
use futures_util::future::BoxFuture;

#[test]
fn the_loop_calls_the_model_until_nothing_is_open_or_the_limit_is_reached() {
    let limits = ToolLimits::default();
    let step = |blocks: &[Arc<Block>], last, calls| match next(blocks, last, calls, limits) {
        Step::CallModel => "model",
        Step::CallTools(open) => {
            assert_eq!(open.len(), 1);
            "tools"
        }
        Step::Finish => "finish",
        Step::GiveUp => "give up",
    };
    let user = Arc::new(Block::text("t", Kind::User, "x"));
    let call = Arc::new(Block::tool_call("a", "calc", "{}"));
    let result = Arc::new(Block::tool_use("u", "a", Ok("1")));
    assert_eq!(step(&[call.clone(), user.clone()], Last::Nothing, 0), "model");
    assert_eq!(step(&[user.clone(), call.clone()], Last::Model, 1), "tools");
    let answered = [user.clone(), call, result];
    assert_eq!(step(&answered, Last::Tools, 1), "model");
    assert_eq!(step(&answered, Last::Tools, 5), "give up");
    assert_eq!(step(&answered, Last::Model, 5), "finish");
    assert_eq!(step(&[user], Last::Model, 1), "finish", "an empty answer is an answer");
}

/// Fails where its name says so.
struct Named(ToolSpec);

impl Tool for Named {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn call(&self, _: Object, _: ToolContext) -> BoxFuture<'static, Result<Value, String>> {
        let fails = self.0.name == "bad";
        Box::pin(async move { if fails { Err("out of order".into()) } else { Ok(json!("fine")) } })
    }
}

/// How calls of these tools ended: the outcome, the results in the turn, and the last of what was reported.
async fn called(names: &[&str], on_error: OnError) -> (Result<(), String>, Vec<String>, Progress) {
    let mut tools = ToolSet::default();
    for name in ["good", "bad"] {
        let (name, description) = (name.to_owned(), String::new());
        let spec = ToolSpec { name, description, parameters: json!({"type": "object"}) };
        tools.add(Arc::new(Named(spec))).unwrap();
    }
    let open: Blocks = names
        .iter()
        .enumerate()
        .map(|(n, name)| Arc::new(Block::tool_call(&format!("call_{n}"), name, "{}")))
        .collect();
    let mut turn = Working { blocks: open.clone(), ..Working::default() };
    let limits = ToolLimits { on_error, ..ToolLimits::default() };
    let (sender, mut progress) = mpsc::channel(64);
    let (reporter, cancel) = (Reporter(sender), CancellationToken::new());
    let new_id = || "id".to_owned();
    let outcome = call_tools(&new_id, &open, &tools, &mut turn, limits, &reporter, &cancel).await;
    let results = turn.blocks[open.len()..].iter().map(|block| block.result_text()).collect();
    let mut last = progress.try_recv().unwrap();
    while let Ok(next) = progress.try_recv() {
        last = next;
    }
    (outcome.map_err(|error| error.message), results, last)
}

#[tokio::test]
async fn inf_2_abort_ends_the_run_and_keeps_every_result_also_of_a_single_call() {
    let (good, bad) = (r#""fine""#.to_owned(), r#"{"error":"out of order"}"#.to_owned());
    let aborted = Err("tool execution aborted due to error in bad: out of order".to_owned());
    for (names, results) in [
        (&["bad"][..], vec![bad.clone()]),
        (&["good", "bad", "good"], vec![good.clone(), bad.clone(), good.clone()]),
    ] {
        let (outcome, seen, last) = called(names, OnError::Abort).await;
        assert_eq!((&outcome, &seen), (&aborted, &results), "{names:?}");
        let Progress::Reached { phase: Phase::PostTools, blocks, .. } = last else {
            panic!("the results are recorded before the end: {last:?}")
        };
        assert_eq!(blocks.len(), 2 * names.len());
        let (outcome, seen, _) = called(names, OnError::Continue).await;
        assert_eq!((outcome, seen), (Ok(()), results), "{names:?}");
    }
    assert_eq!(called(&["good"], OnError::Abort).await.0, Ok(()));
}
