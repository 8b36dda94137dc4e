//! The end of a run: everything that was shown is closed and stored, then it is said, then the next prompt runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::live::Running;
use super::requests::State;
use super::{Conversation, Refused};
use crate::model::ModelError;
use crate::run::Phase;
use crate::store::{TurnState, Write};
use crate::turn::{Block, Kind, Layout, keys, open_calls};

/// How often the end of a turn is handed to a store that fails, and the pause before each further try.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

impl Conversation {
    pub(super) async fn finish(&mut self, outcome: Result<(), ModelError>) {
        self.release_pauses();
        self.end_thinking();
        self.flush();
        let outcome = outcome.map_err(|error| self.explain(error));
        self.staged.get_or_insert_default();
        if let Err(error) = &outcome {
            self.close_failed(error);
        }
        let Some(mut running) = self.running.take() else { return };
        let now = self.now();
        let state = outcome.as_ref().map_or_else(state_of, |()| TurnState::Completed);
        self.close_turn(&mut running, &outcome, state, now);
        let ids = running.ids.clone();
        self.used = tokio::time::Instant::now();
        self.record.last_activity_ms = now.max(self.record.last_activity_ms);
        let word = match &outcome {
            Ok(()) => {
                self.warn_if_short(&running);
                self.record.status = "active".into();
                self.mark(&running.key, State::Completed(ids));
                "completed"
            }
            Err(error) => {
                self.report(&running, error);
                self.record.status = state.as_str().into();
                self.record.last_error.clone_from(&error.message);
                let reason = error.message.clone();
                self.mark(&running.key, State::Failed(Some(ids), reason));
                state.as_str()
            }
        };
        self.log(&running, word);
        self.shared.counts.turns_ended.get_or_create(&[("outcome", word)]).inc();
        self.push_record();
        self.context = Some(std::mem::take(&mut running.blocks));
        self.head = Some(running.turn);
        if self.settle().await.is_err() {
            self.say_not_stored(&running.ids.turn_id);
        }
        self.unstage();
        self.next_prompt().await;
    }

    /// The turn as it stays, and its last snapshot.
    fn close_turn(
        &mut self,
        running: &mut Running,
        outcome: &Result<(), ModelError>,
        state: TurnState,
        now: i64,
    ) {
        let stop_reason = match outcome {
            Err(error) if state != TurnState::Failed => Some(stop_word(error)),
            _ => running.stop_reason.as_deref(),
        };
        let turn = &mut running.turn;
        turn.state = state;
        // The clock may have gone back.
        turn.ended_at_ms = now.max(turn.started_at_ms);
        turn.layout = Layout::of(&running.blocks);
        turn.data.clone_from(&running.data);
        if let Some(reason) = stop_reason {
            turn.metadata.insert(keys::STOP_REASON.into(), reason.into());
        }
        if let Some(usage) = &running.usage {
            turn.metadata.insert(keys::USAGE.into(), json!(usage));
        }
        self.batch.push(Write::Turn(Box::new(turn.clone())));
        self.batch.push(Write::Snapshot {
            ordinal: turn.ordinal,
            phase: Phase::Final,
            at_ms: now,
            layout: turn.layout.clone(),
            data: turn.data.clone(),
            metadata: turn.metadata.clone(),
        });
    }

    /// A run that ended because of the token: by whom.
    fn explain(&self, error: ModelError) -> ModelError {
        if error.code == "cancelled" && self.shared.stop.is_cancelled() {
            return ModelError::new("interrupted", "the server is stopping").retryable();
        }
        error
    }

    /// Brings what was shown of a failed run into a form that the next context can hold: partial text, calls that were
    /// made, results that came, and a reason for every call without one (decision 26).
    fn close_failed(&mut self, error: &ModelError) {
        let reason = stop_word(error);
        let new_id = self.shared.outside.new_id.clone();
        let Some(running) = &mut self.running else { return };
        let partial = running.answer.as_ref().map(|answer| answer.text.clone());
        let partial = partial.unwrap_or_else(|| std::mem::take(&mut running.unplaced));
        if !partial.is_empty() {
            running.blocks.push(Arc::new(Block::text(new_id(), Kind::LlmText, &partial)));
        }
        let announced = std::mem::take(&mut running.announced);
        running.blocks.extend(announced);
        let results = std::mem::take(&mut running.results);
        running.blocks.extend(results);
        let open = open_calls(&running.blocks);
        let why = match error.code {
            "cancelled" => "cancelled".to_owned(),
            _ => format!("not run: {}", error.message),
        };
        let mut closed = Vec::new();
        for call in open {
            let result = Arc::new(Block::tool_use(new_id(), call.get("id"), Err(&why)));
            running.blocks.push(result.clone());
            closed.push((call, result));
        }
        let blocks = running.blocks.clone();
        let was_called = !running.metadata.is_empty();
        self.append(&blocks);
        if was_called {
            self.close_answer(Some(reason), None);
        }
        for (call, result) in closed {
            self.close_card(call.get("id"), &result);
        }
    }

    /// Stores the end of a turn, patiently: whoever watches has waited for minutes, a second more is nothing.
    async fn settle(&mut self) -> Result<(), Refused> {
        let mut tried = 0;
        loop {
            // A failed batch is kept by the store and comes before the next one.
            let batch = std::mem::take(&mut self.batch);
            let receipt = self.shared.outside.store.write(self.row, batch);
            match self.durable(receipt).await {
                Ok(()) => return Ok(()),
                Err(Refused::Storage) if tried + 1 < TRIES => {
                    tried += 1;
                    tokio::time::sleep(PAUSE).await;
                    self.push_record();
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    fn say_not_stored(&mut self, turn_id: &str) {
        let fields = json!({"code": "storage", "retryable": false});
        let message = "this answer could not be stored and will be gone after a restart";
        self.publish_log(&format!("storage-{turn_id}"), "error", message, &fields);
    }

    /// `length` and `content_filter` are complete answers that say less than the user may think (decision 33).
    fn warn_if_short(&mut self, running: &Running) {
        let message = match running.stop_reason.as_deref() {
            Some("length" | "max_tokens" | "max_output_tokens") => {
                "the answer stops here because it reached the token limit"
            }
            Some("content_filter" | "refusal") => {
                "the provider's content filter stopped the answer"
            }
            _ => return,
        };
        let fields =
            json!({"stop_reason": running.stop_reason, "inference_id": running.ids.inference_id});
        self.publish_log(&format!("warn-{}", running.ids.turn_id), "warn", message, &fields);
    }

    /// One line for each run, with what it ran under.
    fn log(&self, running: &Running, outcome: &str) {
        let Running { ids, runtime, request_id, turn, .. } = running;
        tracing::info!(
            request_id, conv_id = %self.record.conv_id, turn_id = %ids.turn_id, inference_id = %ids.inference_id,
            registry = %runtime.registry, slug = %runtime.slug, version = runtime.version,
            fingerprint = runtime.fingerprint, outcome, took_ms = turn.ended_at_ms - turn.started_at_ms, "run ended"
        );
    }

    /// A failed run reaches the user (decision 26).
    fn report(&mut self, running: &Running, error: &ModelError) {
        let Running { ids, request_id, .. } = running;
        tracing::warn!(
            request_id, conv_id = %self.record.conv_id, turn_id = %ids.turn_id, inference_id = %ids.inference_id,
            code = error.code, %error, "run failed"
        );
        let fields = json!({"code": error.code, "retryable": error.retryable, "inference_id": ids.inference_id});
        self.publish_log(&format!("error-{}", ids.turn_id), "error", &error.message, &fields);
    }

    /// Starts the next prompt that can be started (D5).
    async fn next_prompt(&mut self) {
        while let Some(prompt) = self.queue.pop_front() {
            let key = prompt.idempotency_key.clone();
            if self.shared.drain.is_cancelled() {
                self.mark(&key, State::Failed(None, "the server is stopping".into()));
                continue;
            }
            match self.start(prompt).await {
                Ok(()) => return,
                Err(refused) => self.mark(&key, State::Failed(None, refused.to_string())),
            }
        }
    }
}

fn state_of(error: &ModelError) -> TurnState {
    match error.code {
        "cancelled" => TurnState::Cancelled,
        "interrupted" => TurnState::Interrupted,
        _ => TurnState::Failed,
    }
}

/// What the turn and the message say of why they ended (decision 25).
fn stop_word(error: &ModelError) -> &'static str {
    match state_of(error) {
        TurnState::Cancelled | TurnState::Interrupted => "interrupted",
        _ => "error",
    }
}
