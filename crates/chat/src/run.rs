//! One run: calls the model and reports to the conversation's owner. A panic in it is a failed run, nothing more.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use collodi_profiles::profile::resolve::EffectiveProfile;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::{Call, Event, ModelError, Models, Usage};
use crate::turn::Block;

/// What the owner hears of a run.
#[derive(Debug)]
pub enum Progress {
    /// The model was found; its name.
    Started(String),
    /// More text.
    Text(String),
    /// The end, exactly once.
    Finished(Result<Outcome, ModelError>),
}

/// A complete answer.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why the model stopped.
    pub stop_reason: Option<String>,
    /// What it cost.
    pub usage: Option<Usage>,
}

/// Runs to the end, whatever happens.
pub async fn drive(
    models: Arc<dyn Models>,
    runtime: Arc<EffectiveProfile>,
    blocks: Vec<Block>,
    progress: mpsc::Sender<Progress>,
    cancel: CancellationToken,
) {
    let run = AssertUnwindSafe(stream(models, runtime, blocks, &progress)).catch_unwind();
    let outcome = tokio::select! {
        outcome = run => outcome.unwrap_or_else(|_| {
            Err(ModelError::new("panic", "the run failed because of a defect in this program"))
        }),
        () = cancel.cancelled() => Err(ModelError::new("interrupted", "the server is stopping").retryable()),
    };
    let _ = progress.send(Progress::Finished(outcome)).await;
}

async fn stream(
    models: Arc<dyn Models>,
    runtime: Arc<EffectiveProfile>,
    blocks: Vec<Block>,
    progress: &mpsc::Sender<Progress>,
) -> Result<Outcome, ModelError> {
    let model = models.model(&runtime)?;
    let _ = progress.send(Progress::Started(model.name())).await;
    let mut events = model.call(Call { runtime, blocks });
    while let Some(event) = events.next().await {
        match event? {
            Event::Text(text) => {
                let _ = progress.send(Progress::Text(text)).await;
            }
            Event::Done { stop_reason, usage } => return Ok(Outcome { stop_reason, usage }),
        }
    }
    Err(ModelError::new("cut", "the model's answer was cut off").retryable())
}
