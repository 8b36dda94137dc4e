//! Middlewares: what happens around every call of a model (chapter 40 §5).
//!
//! The chain runs inside the tool loop: profile middlewares in their order, then the system prompt, then, as the very
//! last step, results go next to their calls (INF-28).

use std::collections::HashMap;
use std::sync::Arc;

use collodi_profiles::json::Object;
use serde_json::Value;

use crate::tool::{Tool, ToolSet};
use crate::turn::{Block, Blocks, Kind, keys};

/// A turn while it runs.
#[derive(Debug, Clone, Default)]
pub struct Working {
    /// The context, the newest block last.
    pub blocks: Blocks,
    /// What the turn carries to the next one, for example the agent mode.
    pub data: Object,
}

/// What a middleware may use and cause.
pub struct Around<'a> {
    /// The tools of this model call; the loop executes with the same set.
    pub tools: &'a mut ToolSet,
    /// The only tools of this call, by one of their names, once every middleware has added its own (INF-22); none is all.
    pub allowed: Option<Vec<String>>,
    /// A new id.
    pub new_id: &'a (dyn Fn() -> String + Send + Sync),
    /// What the user is shown, in order.
    pub notices: Vec<Notice>,
}

/// Something that a middleware did and a user may see.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A remark.
    Log {
        /// `info`, `warn`, ...
        level: &'static str,
        /// In words.
        message: String,
        /// Details.
        fields: Value,
    },
    /// The agent mode was looked at, and perhaps changed.
    AgentMode {
        /// Before.
        from: String,
        /// After; the same when nothing changed.
        to: String,
        /// The model's reasons.
        analysis: String,
    },
}

/// A middleware of one run. Errors end the run.
pub trait Middleware: Send + Sync {
    /// Before a model is called.
    ///
    /// # Errors
    /// In words for the user.
    fn before(&self, turn: &mut Working, around: &mut Around<'_>) -> Result<(), String>;

    /// After it answered; `new` are the blocks of the answer.
    ///
    /// # Errors
    /// In words for the user.
    fn after(
        &self,
        turn: &mut Working,
        new: &[Arc<Block>],
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let _ = (turn, new, around);
        Ok(())
    }
}

/// What ships with a server: makes middlewares of their configuration, and the tools of the registry.
pub trait Toolbox: Send + Sync {
    /// Makes the middleware of one use.
    ///
    /// # Errors
    /// A configuration that cannot be run, in words for the log.
    fn middleware(&self, name: &str, config: &Object) -> Result<Box<dyn Middleware>, String>;

    /// The registry's own tools.
    fn tools(&self) -> Vec<Arc<dyn Tool>>;

    /// Takes out what middlewares left in earlier turns that are not in use now (INF-21).
    fn clean(&self, turn: &mut Working, active: &[&str]);
}

/// Sets the system prompt: the text of the first system block, or a new one in front.
pub fn set_system_prompt(blocks: &mut Blocks, prompt: &str, new_id: &dyn Fn() -> String) {
    if prompt.is_empty() {
        return;
    }
    let make = |id: String, metadata: Object| {
        let mut block = Block::text(id, Kind::System, prompt);
        block.metadata = metadata;
        Arc::new(block.with_metadata(keys::MIDDLEWARE, "systemprompt"))
    };
    match blocks.iter_mut().find(|block| block.kind == Kind::System) {
        Some(first) if first.as_text() == prompt => {}
        Some(first) => *first = make(first.id.clone(), first.metadata.clone()),
        None => blocks.insert(0, make(new_id(), Object::new())),
    }
}

/// Moves results directly behind the run of calls that they belong to, in the order of the calls.
pub fn reorder_results(blocks: &mut Blocks) {
    let mut results: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, block) in blocks.iter().enumerate().filter(|(_, b)| b.kind == Kind::ToolUse) {
        results.entry(block.get("id")).or_default().push(at);
    }
    let mut taken = vec![false; blocks.len()];
    let mut ordered: Blocks = Vec::with_capacity(blocks.len());
    let mut at = 0;
    while at < blocks.len() {
        let run = blocks[at..].iter().take_while(|block| block.kind == Kind::ToolCall).count();
        if run == 0 {
            if !taken[at] {
                ordered.push(blocks[at].clone());
            }
            at += 1;
            continue;
        }
        let calls = &blocks[at..at + run];
        at += run;
        ordered.extend(calls.iter().cloned());
        for call in calls {
            for &result in results.get(call.get("id")).into_iter().flatten() {
                if result >= at && !std::mem::replace(&mut taken[result], true) {
                    ordered.push(blocks[result].clone());
                }
            }
        }
    }
    *blocks = ordered;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(blocks: &Blocks) -> Vec<&str> {
        blocks.iter().map(|block| block.id.as_str()).collect()
    }

    #[test]
    fn the_system_prompt_is_set_once_and_replaced() {
        let mut blocks = vec![Arc::new(Block::text("u", Kind::User, "hi"))];
        let new_id = || "s".to_owned();
        set_system_prompt(&mut blocks, "one", &new_id);
        let first = blocks[0].clone();
        set_system_prompt(&mut blocks, "one", &new_id);
        assert!(Arc::ptr_eq(&first, &blocks[0]), "untouched if equal");
        set_system_prompt(&mut blocks, "two", &new_id);
        assert_eq!((ids(&blocks), blocks[0].as_text()), (vec!["s", "u"], "two"));
        assert_eq!(blocks[0].metadata[keys::MIDDLEWARE], "systemprompt");
    }

    #[test]
    fn inf_28_results_stand_next_to_their_calls() {
        let call = |id: &str| Arc::new(Block::tool_call(id, "calc", "{}"));
        let done = |id: &str, call: &str| Arc::new(Block::tool_use(id, call, Ok("1")));
        let text = |id: &str| Arc::new(Block::text(id, Kind::User, "x"));
        let mut blocks = vec![
            done("early", "z"),
            call("a"),
            call("b"),
            text("t"),
            done("rb", "b"),
            done("ra", "a"),
            call("c"),
            done("ra2", "a"),
            done("rc", "c"),
        ];
        reorder_results(&mut blocks);
        assert_eq!(ids(&blocks), ["early", "a", "b", "ra", "ra2", "rb", "t", "c", "rc"]);
    }
}
