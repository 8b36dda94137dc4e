//! Tools: what a model may ask for, and the executor that runs what it asked (chapter 40 §7).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use collodi_profiles::json::Object;
use collodi_profiles::schema::Schema;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::turn::{Block, Blocks};

/// Longest result that a model and a client are shown, in bytes (INF-25).
pub const MAX_RESULT: usize = 64 * 1024;

/// A tool as models are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// What models call it.
    pub name: String,
    /// What it does, in words.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// What a call may use.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// Ends the run; the call is dropped then, and what blocks looks at it.
    pub cancel: CancellationToken,
    /// How long the call may take.
    pub timeout: Duration,
}

/// A tool.
pub trait Tool: Send + Sync {
    /// Its name and arguments.
    fn spec(&self) -> &ToolSpec;

    /// The name under which profiles list it; models may know it by another (decision 10).
    fn listed_as(&self) -> &str {
        &self.spec().name
    }

    /// Whether the tool itself judges this argument: what its schema says of it is for models alone.
    fn is_lenient(&self, argument: &str) -> bool {
        let _ = argument;
        false
    }

    /// Runs it. Arguments follow the schema, defaults included.
    fn call(
        &self,
        arguments: Object,
        context: ToolContext,
    ) -> BoxFuture<'static, Result<Value, String>>;
}

/// The tools of a run by name, so that their order never depends on chance (INF-20).
#[derive(Clone, Default)]
pub struct ToolSet(BTreeMap<String, (Arc<dyn Tool>, Arc<Schema>)>);

impl ToolSet {
    /// Adds a tool; one of the same name is replaced.
    ///
    /// # Errors
    /// A schema that does not compile.
    pub fn add(&mut self, tool: Arc<dyn Tool>) -> Result<(), String> {
        let schema = Arc::new(Schema::compile(tool.spec().parameters.clone())?);
        self.0.insert(tool.spec().name.clone(), (tool, schema));
        Ok(())
    }

    /// Keeps the tools that are listed under one of their names; no list keeps all.
    pub fn allow(&mut self, listed: Option<&[String]>) {
        let Some(listed) = listed else { return };
        self.0.retain(|name, (tool, _)| {
            listed.iter().any(|listed| listed == name || listed == tool.listed_as())
        });
    }

    /// What models are told, in order of name.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.0.values().map(|(tool, _)| tool.spec().clone()).collect()
    }
}

impl std::fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What to do when a tool fails (chapter 40 §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The model is told, and goes on.
    Continue,
    /// The run ends, after recording every finished result (INF-2).
    Abort,
    /// Again, so many times, with growing pauses; then as `Continue`.
    Retry {
        /// After the first attempt.
        times: u32,
        /// Before the second attempt; doubles from then on.
        pause: Duration,
    },
}

/// How tools are run (chapter 40 §7.3 and §3, web chat).
#[derive(Debug, Clone, Copy)]
pub struct ToolLimits {
    /// Of one call.
    pub timeout: Duration,
    /// Calls at once.
    pub parallel: usize,
    /// Model calls of one run.
    pub iterations: usize,
    /// When a tool fails.
    pub on_error: OnError,
}

impl Default for ToolLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(1),
            parallel: 3,
            iterations: 5,
            on_error: OnError::Continue,
        }
    }
}

/// What happens to a call, in the order in which it happens; calls that run at once interleave.
#[derive(Debug, Clone)]
pub enum Execution {
    /// It runs now.
    Started(Arc<Block>),
    /// It ended: the call, and the block that says how.
    Ended(Arc<Block>, Arc<Block>),
}

/// Runs calls, at most `limits.parallel` at once. Every call gets a start and an end, also one that is refused (chapter
/// 40 §7.4). Results come back in the order of the calls.
pub async fn execute(
    calls: &[Arc<Block>],
    tools: &ToolSet,
    limits: ToolLimits,
    cancel: &CancellationToken,
    new_id: &(dyn Fn() -> String + Send + Sync),
    report: &(dyn Fn(Execution) + Send + Sync),
) -> Blocks {
    let one = |call: Arc<Block>| async move {
        report(Execution::Started(call.clone()));
        let outcome = run(&call, tools, limits, cancel).await;
        let outcome = outcome.as_deref().map_err(String::as_str);
        let ended = Arc::new(Block::tool_use(new_id(), call.get("id"), outcome));
        report(Execution::Ended(call, ended.clone()));
        ended
    };
    stream::iter(calls.iter().cloned().map(one)).buffered(limits.parallel.max(1)).collect().await
}

async fn run(
    call: &Block,
    tools: &ToolSet,
    limits: ToolLimits,
    cancel: &CancellationToken,
) -> Result<String, String> {
    let name = call.get("name");
    let (tool, schema) = tools.0.get(name).ok_or_else(|| format!("tool not found: {name}"))?;
    let arguments = call.arguments().ok_or("invalid arguments: not a JSON object")?;
    let arguments = checked(arguments, schema, &**tool)?;
    let context = ToolContext { cancel: cancel.clone(), timeout: limits.timeout };
    let (times, mut pause) = match limits.on_error {
        OnError::Retry { times, pause } => (times, pause),
        _ => (0, Duration::ZERO),
    };
    let mut attempt = 0;
    loop {
        // In a task of its own, so that a panic is this call's alone, and one that computes blocks no other. The task
        // makes the future too: a tool may fail before it has one.
        let (tool, arguments, context) = (tool.clone(), arguments.clone(), context.clone());
        let task = tokio::spawn(async move { tool.call(arguments, context).await });
        let stop = AbortOnDrop(task.abort_handle());
        let outcome = tokio::select! {
            ended = task => match ended {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("tool {name} failed because of a defect in it")),
            },
            () = tokio::time::sleep(limits.timeout) => {
                Err(format!("tool execution timed out after {}", go_duration(limits.timeout)))
            }
            () = cancel.cancelled() => return Err("execution cancelled".into()),
        };
        drop(stop);
        match outcome {
            Ok(value) => return Ok(capped(value.to_string())),
            Err(error) if attempt == times => return Err(capped(error)),
            Err(_) => {
                attempt += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause *= 2,
                    () = cancel.cancelled() => return Err("context cancelled during retry backoff".into()),
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Fills in defaults, leaves out what the tool does not know, and checks the rest (INF-15).
fn checked(mut arguments: Object, schema: &Schema, tool: &dyn Tool) -> Result<Object, String> {
    if let Some(properties) = schema.document().get("properties").and_then(Value::as_object) {
        arguments.retain(|name, _| properties.contains_key(name));
        for (name, property) in properties {
            if let (false, Some(default)) = (arguments.contains_key(name), property.get("default"))
            {
                arguments.insert(name.clone(), default.clone());
            }
        }
    }
    let arguments = Value::Object(arguments);
    let lenient = |pointer: &str| {
        let name = pointer.strip_prefix('/').and_then(|path| path.split('/').next());
        name.is_some_and(|name| tool.is_lenient(name))
    };
    let violations = schema.violations(&arguments);
    if let Some(violation) = violations.iter().find(|v| !lenient(&v.pointer)) {
        return Err(format!("invalid arguments: {violation}"));
    }
    match arguments {
        Value::Object(arguments) => Ok(arguments),
        _ => Ok(Object::new()),
    }
}

fn capped(mut text: String) -> String {
    if text.len() > MAX_RESULT {
        let left_out = text.len() - MAX_RESULT;
        let mut end = MAX_RESULT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let _ = write!(text, "\n... {left_out} bytes cut off");
    }
    text
}

/// `1m0s`, as durations are written in stored turns.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match millis {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) if seconds == 0 && millis > 0 => format!("{millis}ms"),
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests;
