//! One run: the tool loop (chapter 40 §8). What comes next is decided without I/O by [`next`]; [`drive`] does it and
//! reports to the conversation's owner. A panic in it is a failed run, nothing more.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Outside;
use crate::middleware::{Notice, Working};
use crate::model::{Call, Event, ModelError, Thinking, Usage};
use crate::runtime::{Composed, compose};
use crate::tool::{Execution, OnError, ToolLimits, ToolSet, execute};
use crate::turn::{Block, Blocks, Kind, open_calls};

/// How long a pause of step mode lasts when nobody continues (chapter 40 §8.2).
pub const PAUSE: Duration = Duration::from_secs(30);

/// What the owner hears of a run.
#[derive(Debug)]
pub enum Progress {
    /// A model is called; its name, its wire format, and what the call is sent with.
    Called { model: String, provider: &'static str, sent: Object },
    /// More text.
    Text(String),
    /// It thinks.
    Thinking(Thinking),
    /// It asks for a tool.
    ToolCalled(Arc<Block>),
    /// Tokens as far as they are known.
    Counted(Usage),
    /// The call of the model is over, well.
    Answered { stop_reason: Option<String>, usage: Option<Usage> },
    /// A middleware did something.
    Noticed(Notice),
    /// A tool runs, or ended.
    Tool(Execution),
    /// The turn as it is now.
    Reached { phase: Phase, blocks: Blocks, data: Object },
    /// Step mode waits; dropping or using `go_on` continues.
    Paused { phase: &'static str, summary: &'static str, extra: Value, go_on: oneshot::Sender<()> },
    /// The end, exactly once.
    Finished(Result<(), ModelError>),
}

/// Where in a run a snapshot of the turn was taken (chapter 30 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// As the model was sent it: after the middlewares (decision 36).
    PreInference,
    /// With the answer.
    PostInference,
    /// With the results of tools.
    PostTools,
    /// At the end.
    Final,
}

impl Phase {
    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInference => "pre_inference",
            Self::PostInference => "post_inference",
            Self::PostTools => "post_tools",
            Self::Final => "final",
        }
    }
}

/// What a run starts with.
pub struct Job {
    /// What it runs under.
    pub runtime: Arc<EffectiveProfile>,
    /// The context, the prompt last.
    pub turn: Working,
    /// How tools are run.
    pub limits: ToolLimits,
    /// Whether it pauses around tools.
    pub step_mode: bool,
}

/// What a run does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Call the model.
    CallModel,
    /// Run these calls.
    CallTools(Blocks),
    /// Nothing: it is complete.
    Finish,
    /// Nothing: the limit is reached (decision 27).
    GiveUp,
}

/// What a run did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Nothing yet.
    Nothing,
    /// The model answered.
    Model,
    /// Tools ran, and the model has not seen what they gave.
    Tools,
}

/// Decides without I/O. `calls` counts calls of the model so far.
#[must_use]
pub fn next(blocks: &[Arc<Block>], last: Last, calls: usize, limits: ToolLimits) -> Step {
    match last {
        Last::Nothing => Step::CallModel,
        Last::Tools if calls >= limits.iterations => Step::GiveUp,
        Last::Tools => Step::CallModel,
        Last::Model => match open_calls(blocks) {
            open if open.is_empty() => Step::Finish,
            open => Step::CallTools(open),
        },
    }
}

/// Runs to the end, whatever happens.
pub async fn drive(
    outside: Outside,
    job: Job,
    progress: mpsc::Sender<Progress>,
    cancel: CancellationToken,
) {
    let reporter = Reporter(progress);
    let run = AssertUnwindSafe(run(outside, job, &reporter, &cancel)).catch_unwind();
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ModelError::new("cancelled", "cancelled")),
        outcome = run => outcome.unwrap_or_else(|_| {
            Err(ModelError::new("panic", "the run failed because of a defect in this program"))
        }),
    };
    reporter.send(Progress::Finished(outcome)).await;
}

struct Reporter(mpsc::Sender<Progress>);

impl Reporter {
    /// An owner that is gone has no use for it.
    async fn send(&self, progress: Progress) {
        let _ = self.0.send(progress).await;
    }

    async fn reached(&self, phase: Phase, turn: &Working) {
        let (blocks, data) = (turn.blocks.clone(), turn.data.clone());
        self.send(Progress::Reached { phase, blocks, data }).await;
    }

    async fn notices(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.send(Progress::Noticed(notice)).await;
        }
    }

    /// Waits in step mode until somebody continues, or for [`PAUSE`].
    async fn pause(&self, phase: &'static str, summary: &'static str, extra: Value) {
        let (go_on, continued) = oneshot::channel();
        self.send(Progress::Paused { phase, summary, extra, go_on }).await;
        let _ = tokio::time::timeout(PAUSE, continued).await;
    }
}

async fn run(
    outside: Outside,
    job: Job,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<(), ModelError> {
    let Job { runtime, mut turn, limits, step_mode } = job;
    let composed = compose(runtime.clone(), outside.toolbox.clone(), &*outside.models);
    let composed = match composed {
        Ok(composed) => composed,
        Err(error) => {
            // Said like any other failure of the model, so that a client has a message to close (chapter 40 §4.4).
            let model = runtime.settings.text("ai-engine").unwrap_or_default();
            let sent = Object::new();
            reporter.send(Progress::Called { model, provider: "", sent }).await;
            return Err(error);
        }
    };
    let mut tools = ToolSet::default();
    let (mut last, mut calls) = (Last::Nothing, 0);
    loop {
        match next(&turn.blocks, last, calls, limits) {
            Step::CallModel => {
                calls += 1;
                last = Last::Model;
                tools =
                    call_model(&outside, &composed, &runtime, &mut turn, limits, reporter).await?;
            }
            Step::CallTools(open) => {
                last = Last::Tools;
                if step_mode {
                    let extra = json!({"pending_tools": open.len()});
                    reporter.pause("after_inference", "Review next action", extra).await;
                }
                let new_id = &*outside.new_id;
                call_tools(new_id, &open, &tools, &mut turn, limits, reporter, cancel).await?;
                if step_mode {
                    reporter.pause("after_tools", "Review tool results", Value::Null).await;
                }
            }
            Step::Finish => return Ok(()),
            Step::GiveUp => {
                let text = format!("max iterations ({}) reached", limits.iterations);
                return Err(ModelError::new("max_iterations", text));
            }
        }
    }
}

/// Calls the model once; the tools that it was offered.
async fn call_model(
    outside: &Outside,
    composed: &Composed,
    runtime: &Arc<EffectiveProfile>,
    turn: &mut Working,
    limits: ToolLimits,
    reporter: &Reporter,
) -> Result<ToolSet, ModelError> {
    let mut tools = composed.tools.clone();
    let new_id = &*outside.new_id;
    let prepared = composed.before(turn, &mut tools, new_id);
    reporter.reached(Phase::PreInference, turn).await;
    let (model, provider) = (composed.model.name(), composed.model.provider());
    reporter.notices(prepared?).await;
    let sent = composed.model.sent(&runtime.settings);
    reporter.send(Progress::Called { model, provider, sent }).await;

    let call = Call {
        runtime: runtime.clone(),
        blocks: turn.blocks.clone(),
        tools: tools.specs(),
        parallel_tools: limits.parallel > 1,
    };
    let mut events = composed.model.call(call);
    let mut new: Blocks = Vec::new();
    let mut usage = None;
    let stop_reason = loop {
        match events.next().await {
            None => {
                return Err(ModelError::new("cut", "the model's answer was cut off").retryable());
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(Event::Text(text))) => reporter.send(Progress::Text(text)).await,
            Some(Ok(Event::Thinking(thinking))) => {
                reporter.send(Progress::Thinking(thinking)).await;
            }
            Some(Ok(Event::Usage(known))) => {
                usage = Some(known);
                reporter.send(Progress::Counted(known)).await;
            }
            Some(Ok(Event::Block(block))) => {
                let block = Arc::new(named(block, &turn.blocks, &new, new_id));
                if block.kind == Kind::ToolCall {
                    reporter.send(Progress::ToolCalled(block.clone())).await;
                }
                new.push(block);
            }
            Some(Ok(Event::Done { stop_reason })) => break stop_reason,
        }
    };
    turn.blocks.extend(new.iter().cloned());
    let notices = composed.after(turn, &new, &mut tools, new_id)?;
    reporter.send(Progress::Answered { stop_reason, usage }).await;
    reporter.notices(notices).await;
    reporter.reached(Phase::PostInference, turn).await;
    Ok(tools)
}

/// Providers name calls and reasoning; text gets an id of ours, and so do calls of providers that do not name them or give
/// the same names again and again: a call is told from earlier ones by its id alone (D32).
fn named(
    mut block: Block,
    context: &[Arc<Block>],
    new: &[Arc<Block>],
    new_id: &dyn Fn() -> String,
) -> Block {
    let repeats = |other: &Arc<Block>| other.kind == Kind::ToolCall && other.id == block.id;
    let is_repeated = block.kind == Kind::ToolCall && context.iter().chain(new).any(repeats);
    if block.id.is_empty() || is_repeated {
        block.id = new_id();
        if block.kind == Kind::ToolCall {
            block.payload.insert("id".into(), block.id.as_str().into());
        }
    }
    block
}

async fn call_tools(
    new_id: &(dyn Fn() -> String + Send + Sync),
    open: &Blocks,
    tools: &ToolSet,
    turn: &mut Working,
    limits: ToolLimits,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<(), ModelError> {
    let (sender, mut executions) = mpsc::unbounded_channel();
    let report = move |execution| {
        let _ = sender.send(execution);
    };
    let forward = async {
        while let Some(execution) = executions.recv().await {
            reporter.send(Progress::Tool(execution)).await;
        }
    };
    let run = async move {
        // Moved in, so that the channel closes when the last call has ended.
        let report = report;
        execute(open, tools, limits, cancel, new_id, &report).await
    };
    let (results, ()) = tokio::join!(run, forward);
    turn.blocks.extend(results.iter().cloned());
    reporter.reached(Phase::PostTools, turn).await;
    let failed = open.iter().zip(&results).find(|(_, result)| !result.get("error").is_empty());
    match failed {
        Some((call, result)) if limits.on_error == OnError::Abort => {
            let text = format!(
                "tool execution aborted due to error in {}: {}",
                call.get("name"),
                result.get("error")
            );
            Err(ModelError::new("tool", text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
