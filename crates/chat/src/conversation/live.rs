//! A run as its conversation sees it: what it reports becomes frames, entities and stored blocks, in that order (D43).

use std::collections::HashMap;
use std::sync::Arc;

use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cards::Card;
use super::mail::attribution;
use super::requests::State;
use super::stream::Stream;
use super::{Conversation, Kept, Pause, Prompt, Refused, TurnIds};
use crate::feed::Frame;
use crate::frame::{self, Event, Voice};
use crate::middleware::{Notice, Working};
use crate::model::Usage;
use crate::recover::close_calls;
use crate::run::{self, Job, PAUSE, Phase, Progress};
use crate::store::{TurnRecord, TurnState, Write};
use crate::timeline::{Entity, message_props};
use crate::tool::{Execution, OnError, ToolLimits, go_duration};
use crate::turn::{Block, Blocks, Kind, Layout, keys};

pub(super) struct Running {
    pub(super) ids: TurnIds,
    pub(super) key: String,
    pub(super) request_id: String,
    /// Whether anything of its answer was said.
    pub(super) has_spoken: bool,
    pub(super) runtime: Arc<EffectiveProfile>,
    /// Whether it pauses; the debug API can turn that off meanwhile.
    pub(super) step_mode: bool,
    pub(super) progress: mpsc::Receiver<Progress>,
    pub(super) cancel: CancellationToken,
    pub(super) turn: TurnRecord,
    /// The turn as the run last reported it.
    pub(super) blocks: Blocks,
    pub(super) data: Object,
    /// Calls that the model made and results that tools gave since then.
    pub(super) announced: Blocks,
    pub(super) results: Blocks,
    /// Cards of the calls that have no result yet, by call id, which is also that of their entity.
    pub(super) cards: HashMap<String, Card>,
    /// What frames of the model say about where they come from; empty until it was called.
    pub(super) metadata: Map<String, Value>,
    pub(super) answer: Option<Stream>,
    pub(super) thinking: Option<Stream>,
    /// Text of an answer that is complete, until the run reports it as a block.
    pub(super) unplaced: String,
    pub(super) called_ms: i64,
    notices: usize,
    pub(super) usage: Option<Usage>,
    pub(super) stop_reason: Option<String>,
}

impl Running {
    fn new(
        ids: TurnIds,
        prompt: Prompt,
        turn: TurnRecord,
        blocks: Blocks,
        progress: mpsc::Receiver<Progress>,
        cancel: CancellationToken,
        step_mode: bool,
    ) -> Self {
        Self {
            called_ms: turn.started_at_ms,
            data: turn.data.clone(),
            ids,
            key: prompt.idempotency_key,
            has_spoken: false,
            request_id: prompt.request_id,
            runtime: prompt.runtime,
            step_mode,
            progress,
            cancel,
            turn,
            blocks,
            announced: Vec::new(),
            results: Vec::new(),
            cards: HashMap::new(),
            metadata: Map::new(),
            answer: None,
            thinking: None,
            unplaced: String::new(),
            notices: 0,
            usage: None,
            stop_reason: None,
        }
    }

    /// The message that grows in a voice.
    pub(super) fn stream(&mut self, voice: Voice) -> Option<&mut Stream> {
        match voice {
            Voice::Assistant => self.answer.as_mut(),
            Voice::Thinking => self.thinking.as_mut(),
        }
    }

    /// When text that is held back goes out.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        let streams = self.answer.iter().chain(&self.thinking);
        streams.filter(|stream| stream.held > 0).map(|stream| stream.next_delta).min()
    }
}

/// Who hears of an entity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The store and every socket.
    All,
    /// Contract sockets alone: the others have it by their deltas, the store by what is appended to it.
    Contract,
}

impl Conversation {
    /// Starts a turn. Nothing runs and nobody is told before it is durable.
    pub(super) async fn start(&mut self, prompt: Prompt) -> Result<(), Refused> {
        let base = self.base(&prompt).await?;
        let before = (self.record.clone(), self.next_place, self.head.clone(), self.kept);
        let (turn, blocks) = self.open_turn(&prompt, base);
        let ids =
            TurnIds { turn_id: turn.turn_id.clone(), inference_id: turn.inference_id.clone() };
        self.mark(&prompt.idempotency_key, State::Running(ids.clone()));
        if let Err(refused) = self.commit().await {
            // As if it had never been asked.
            self.staged = None;
            self.context = None;
            (self.record, self.next_place, self.head, self.kept) = before;
            return Err(refused);
        }
        self.unstage();

        let (sender, progress) = mpsc::channel(256);
        let cancel = self.shared.stop.child_token();
        // What a prompt says of steps holds for that prompt (decision 28).
        let step_mode = prompt.step_mode.unwrap_or(self.step_mode);
        let job = Job {
            runtime: prompt.runtime.clone(),
            turn: Working { blocks: blocks.clone(), data: turn.data.clone() },
            limits: ToolLimits::default(),
            step_mode,
        };
        let outside = self.shared.outside.clone();
        self.shared.tasks.spawn(run::drive(outside, job, sender, cancel.clone()));
        let running = Running::new(ids, prompt, turn, blocks, progress, cancel, step_mode);
        self.running = Some(Box::new(running));
        self.shared.counts.turns_started.inc();
        Ok(())
    }

    /// Makes the turn of a prompt: the writes are in the batch, the frames wait for them.
    fn open_turn(&mut self, prompt: &Prompt, base: Blocks) -> (TurnRecord, Blocks) {
        let now = self.now();
        self.entities.clear();
        self.staged = Some(Vec::new());
        self.kept = Kept::Stored;
        self.record.runtime_key = prompt.runtime.runtime_key.to_string();
        self.record.status = "active".into();
        self.record.last_error.clear();
        self.record.last_activity_ms = now.max(self.record.last_activity_ms);
        self.record.seq = self.next_seq() + super::NUMBERS;
        self.push_record();
        if self.head.is_none() && self.record.title.is_empty() {
            // Until somebody names it, it is called what it began with.
            self.record.title = title_of(&prompt.text);
            self.batch.push(Write::Title(self.record.title.clone()));
        }
        let retried = prompt.retry_turn_id.as_deref();
        if let Some(head) = self.head.as_mut().filter(|_| retried.is_some()) {
            head.superseded = true;
            self.batch.push(Write::Turn(Box::new(head.clone())));
        }
        let mut data = self.head.as_ref().map(|head| head.data.clone()).unwrap_or_default();
        let config = tool_config(ToolLimits::default(), prompt.runtime.tools.as_deref());
        data.insert(keys::TOOL_CONFIG.into(), config);
        let base_layout = Layout::of(&base);
        let mut blocks = base;
        blocks.push(Arc::new(Block::text(self.new_id(), Kind::User, &prompt.text)));
        self.append(&blocks);
        let turn = TurnRecord {
            ordinal: self.head.as_ref().map_or(0, |head| head.ordinal) + 1,
            turn_id: self.new_id(),
            inference_id: self.new_id(),
            session_id: self.record.session_id.clone(),
            state: TurnState::Running,
            attribution: attribution(&prompt.runtime),
            superseded: false,
            base: base_layout,
            layout: Layout::of(&blocks),
            data,
            metadata: Object::new(),
            started_at_ms: now,
            ended_at_ms: 0,
        };
        self.batch.push(Write::Turn(Box::new(turn.clone())));
        self.show_prompt(&turn.turn_id, &prompt.text, retried);
        (turn, blocks)
    }

    fn show_prompt(&mut self, turn_id: &str, text: &str, retried: Option<&str>) {
        let mut metadata = Object::new();
        metadata.insert("turnId".into(), turn_id.into());
        if let Some(retried) = retried {
            metadata.insert("retryOf".into(), retried.into());
        }
        self.emit(Frame::Same(Event::chat_message(turn_id, text)));
        let id = frame::user_entity_id(turn_id);
        self.project(&id, "message", message_props("user", text, false, &metadata), To::All);
    }

    /// The context that a prompt goes on from: what the user saw (decision 26).
    async fn base(&mut self, prompt: &Prompt) -> Result<Blocks, Refused> {
        let Some(head) = &self.head else { return Ok(Vec::new()) };
        let layout = if prompt.retry_turn_id.is_some() {
            head.base.clone()
        } else if let Some(context) = self.context.take() {
            return Ok(context);
        } else {
            head.layout.clone()
        };
        let (store, row) = (self.shared.outside.store.clone(), self.row);
        let read = tokio::task::spawn_blocking(move || store.blocks(row, &layout)).await;
        let mut blocks = match read {
            Ok(Ok(blocks)) => blocks,
            Ok(Err(error)) => {
                tracing::error!(conv_id = %self.record.conv_id, %error, "failed to read the history");
                return Err(Refused::Storage);
            }
            Err(_) => return Err(Refused::Unavailable),
        };
        // Only databases of the Go reference have calls that were never closed (INF-9).
        let new_id = self.shared.outside.new_id.clone();
        blocks.extend(close_calls(&blocks, "no result was recorded", &*new_id));
        Ok(blocks)
    }

    /// Appends to the log what is not in it yet.
    pub(super) fn append(&mut self, blocks: &[Arc<Block>]) {
        for block in blocks {
            if block.place.get().is_none() && block.place.set(self.next_place).is_ok() {
                self.next_place += 1;
                self.batch.push(Write::Block(block.clone()));
            }
        }
    }

    pub(super) async fn progress(&mut self, progress: Progress) {
        if self.running.is_none() {
            return;
        }
        match progress {
            Progress::Called { model, provider, sent } => self.called(&model, provider, sent),
            Progress::Text(text) => self.said(Voice::Assistant, &text),
            Progress::Counted(usage) => {
                if let Some(running) = &mut self.running {
                    running.usage = Some(usage);
                }
            }
            Progress::Thinking(thinking) => self.thought(thinking),
            Progress::ToolCalled(call) => self.tool_called(call),
            Progress::Answered { stop_reason, usage } => {
                self.answered(stop_reason.as_deref(), usage.as_ref());
            }
            Progress::Noticed(notice) => self.noticed(notice),
            Progress::Tool(Execution::Started(call)) => self.tool_started(&call),
            Progress::Tool(Execution::Ended(call, result)) => self.tool_ended(&call, &result),
            Progress::Reached { phase, blocks, data } => self.reached(phase, blocks, data),
            Progress::Paused { phase, summary, extra, go_on } => {
                self.paused(phase, summary, extra, go_on);
            }
            Progress::Finished(outcome) => Box::pin(self.finish(outcome)).await,
        }
        self.reserve_numbers();
    }

    fn called(&mut self, model: &str, provider: &'static str, sent: Object) {
        let (id, now) = (self.new_id(), self.now());
        let Some(running) = &mut self.running else { return };
        running.metadata = frame::attribution(&running.runtime, model, sent);
        running.called_ms = now;
        running.turn.metadata.insert(keys::MODEL.into(), model.into());
        if !provider.is_empty() {
            running.turn.metadata.insert(keys::PROVIDER.into(), provider.into());
        }
        let event = Event::llm_start(&id, Voice::Assistant, running.metadata.clone().into());
        running.answer = Some(Stream::new(id));
        running.thinking = None;
        self.emit(Frame::Same(event));
    }

    fn noticed(&mut self, notice: Notice) {
        let Some(running) = &mut self.running else { return };
        running.notices += 1;
        let turn_id = running.ids.turn_id.clone();
        let n = running.notices;
        match notice {
            Notice::Log { level, message, fields } => {
                self.publish_log(&format!("log-{turn_id}-{n}"), level, &message, &fields);
            }
            Notice::AgentMode { from, to, analysis } => {
                let id = format!("agentmode-{turn_id}-{n}");
                let mut data = json!({"from": from, "to": to});
                if !analysis.is_empty() {
                    data["analysis"] = analysis.into();
                }
                let props = json!({"title": "agentmode: mode switched", "data": data});
                self.emit(Frame::Same(Event::agent_mode(&id, &props)));
                self.project(&id, "agent_mode", props, To::All);
            }
        }
    }

    pub(super) fn publish_log(&mut self, id: &str, level: &str, message: &str, fields: &Value) {
        self.emit(Frame::Same(Event::log(id, level, message, fields)));
        let props = json!({"level": level, "message": message, "fields": fields});
        self.project(id, "log", props, To::All);
    }

    fn reached(&mut self, phase: Phase, blocks: Blocks, data: Object) {
        self.append(&blocks);
        let at_ms = self.now();
        let Some(running) = &mut self.running else { return };
        let layout = Layout::of(&blocks);
        running.turn.layout = layout.clone();
        running.turn.data.clone_from(&data);
        match phase {
            Phase::PostInference => {
                running.announced.clear();
                running.unplaced.clear();
            }
            Phase::PostTools => running.results.clear(),
            Phase::PreInference | Phase::Final => {}
        }
        running.blocks = blocks;
        running.data.clone_from(&data);
        let (ordinal, metadata) = (running.turn.ordinal, running.turn.metadata.clone());
        self.batch.push(Write::Turn(Box::new(running.turn.clone())));
        self.batch.push(Write::Snapshot { ordinal, phase, at_ms, layout, data, metadata });
    }

    fn paused(
        &mut self,
        phase: &'static str,
        summary: &'static str,
        extra: Value,
        go_on: oneshot::Sender<()>,
    ) {
        let (id, now) = (self.new_id(), self.now());
        let Some(running) = self.running.as_ref().filter(|running| running.step_mode) else {
            let _ = go_on.send(());
            return;
        };
        let pause = Pause {
            id: id.clone(),
            phase,
            summary,
            deadline_ms: now + i64::try_from(PAUSE.as_millis()).unwrap_or(0),
            extra,
            session_id: self.record.session_id.clone(),
            inference_id: running.ids.inference_id.clone(),
            turn_id: running.ids.turn_id.clone(),
            conv_id: self.record.conv_id.clone(),
        };
        let mut props = json!({"pauseId": id, "phase": phase, "summary": summary,
            "deadlineMs": pause.deadline_ms.to_string()});
        if !pause.extra.is_null() {
            props["extra"] = pause.extra.clone();
        }
        self.emit(Frame::Same(Event::debugger_pause(&id, &props)));
        self.project(&id, "debugger_pause", props, To::All);
        let open = &self.shared.pauses;
        open.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(id.clone(), pause.conv_id.clone());
        self.pauses.insert(id, (pause, go_on));
    }

    /// Sets an entity and announces it. The announcement has a number of its own, which is the entity's version.
    pub(super) fn project(&mut self, id: &str, kind: &str, props: Value, to: To) {
        if to == To::All && self.staged.is_none() {
            // A timeline of this version has all text that was sent before it.
            self.store_stream(Voice::Thinking);
            self.store_stream(Voice::Assistant);
        }
        let (version, now) = (self.next_seq(), self.now());
        let (created_at_ms, place) = *self.entities.entry(id.to_owned()).or_insert((now, version));
        let entity = Entity {
            id: id.to_owned(),
            kind: kind.to_owned(),
            created_at_ms,
            updated_at_ms: now.max(created_at_ms),
            props,
            version,
            place,
        };
        let event = Event::timeline_upsert(&self.record.conv_id, &entity, version);
        match to {
            To::All => {
                self.emit(Frame::Same(event));
                self.batch.push(Write::Entity(Arc::new(entity)));
            }
            To::Contract => {
                self.emit(Frame::Contract(event));
            }
        }
    }
}

/// How tools are run, as stored turns say it (decision 35).
fn tool_config(limits: ToolLimits, allowed: Option<&[String]>) -> Value {
    let handling = match limits.on_error {
        OnError::Continue => "continue",
        OnError::Abort => "abort",
        OnError::Retry { .. } => "retry",
    };
    json!({
        "enabled": true,
        "tool_choice": "auto",
        "max_iterations": limits.iterations,
        "execution_timeout": go_duration(limits.timeout),
        "max_parallel_tools": limits.parallel,
        "allowed_tools": allowed.unwrap_or_default(),
        "tool_error_handling": handling,
        "retry_config": {"max_retries": 2, "backoff_base": "1s", "backoff_factor": 2},
    })
}

/// The first line of a prompt, cut at a word.
fn title_of(prompt: &str) -> String {
    const LONGEST: usize = 60;
    let line = prompt.lines().next().unwrap_or_default().trim();
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    let cut: String = line.chars().take(LONGEST).collect();
    let words = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    format!("{}...", words.trim_end())
}

#[cfg(test)]
mod tests {
    use super::title_of;

    #[test]
    fn a_title_is_the_first_line_cut_at_a_word() {
        for (prompt, title) in [
            ("Hello", "Hello"),
            ("First\nsecond", "First"),
            (
                "What is the average order value of the second quarter in euros?",
                "What is the average order value of the second quarter in...",
            ),
        ] {
            assert_eq!(title_of(prompt), title);
        }
        let long = "x".repeat(100);
        assert_eq!(title_of(&long), format!("{}...", "x".repeat(60)));
    }
}
