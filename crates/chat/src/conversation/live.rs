//! A run as its conversation sees it: what it reports becomes frames, entities and stored blocks, in that order (D43).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use collodi_profiles::json::Object;
use collodi_profiles::profile::resolve::EffectiveProfile;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::mail::attribution;
use super::requests::State;
use super::{Conversation, Kept, Pause, Prompt, Refused, TurnIds};
use crate::feed::Frame;
use crate::frame::{self, Event, Voice};
use crate::middleware::{Notice, Working};
use crate::model::{Thinking, Usage};
use crate::recover::close_calls;
use crate::run::{self, Job, PAUSE, Phase, Progress};
use crate::store::{TurnRecord, TurnState, Write};
use crate::timeline::{Entity, message_props, tool_call_props, tool_result_props};
use crate::tool::{Execution, OnError, ToolLimits, go_duration};
use crate::turn::{Block, Blocks, Kind, Layout, keys};

/// Deltas are sent at once, then at most this often (decision 24).
const COALESCE: Duration = Duration::from_millis(25);
/// A growing message is announced to contract clients at most this often (chapter 30 §3.3).
const ANNOUNCE: Duration = Duration::from_millis(250);
/// Text of a growing message is stored at most this often, unless so many bytes have gathered: what is lost when the
/// process dies, against what is written for it.
const STORE: Duration = Duration::from_secs(2);
const STORE_BYTES: usize = 64 * 1024;

/// A message that grows.
pub(super) struct Stream {
    id: String,
    pub(super) text: String,
    /// Bytes at the end of `text` that no delta has carried yet.
    held: usize,
    next_delta: Instant,
    announced: Instant,
    /// Bytes of `text` that are stored, and when they were.
    stored: usize,
    stored_at: Instant,
    /// Thinking that ended stays, in case a summary follows.
    ended: bool,
}

impl Stream {
    fn new(id: String) -> Self {
        let now = Instant::now();
        Self {
            id,
            text: String::new(),
            held: 0,
            next_delta: now,
            announced: now,
            stored: 0,
            stored_at: now,
            ended: false,
        }
    }
}

/// A call of a tool as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Card {
    name: String,
    input: Value,
}

pub(super) struct Running {
    pub(super) ids: TurnIds,
    pub(super) key: String,
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
    cards: HashMap<String, Card>,
    /// What frames of the model say about where they come from; empty until it was called.
    pub(super) metadata: Map<String, Value>,
    pub(super) answer: Option<Stream>,
    pub(super) thinking: Option<Stream>,
    /// Text of an answer that is complete, until the run reports it as a block.
    pub(super) unplaced: String,
    called_ms: i64,
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
    ) -> Self {
        Self {
            called_ms: turn.started_at_ms,
            data: turn.data.clone(),
            ids,
            key: prompt.idempotency_key,
            runtime: prompt.runtime,
            step_mode: false,
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
        let running = Running::new(ids, prompt, turn, blocks, progress, cancel);
        self.running = Some(Box::new(Running { step_mode, ..running }));
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

    fn said(&mut self, voice: Voice, text: &str) {
        let Some(running) = &mut self.running else { return };
        let stream = match voice {
            Voice::Assistant => running.answer.as_mut(),
            Voice::Thinking => running.thinking.as_mut(),
        };
        let Some(stream) = stream else { return };
        stream.text.push_str(text);
        stream.held += text.len();
        if Instant::now() >= stream.next_delta {
            self.flush_stream(voice);
        }
    }

    fn thought(&mut self, thinking: Thinking) {
        let Some(running) = &mut self.running else { return };
        let Some(id) = running.answer.as_ref().map(|answer| format!("{}:thinking", answer.id))
        else {
            return;
        };
        let mut metadata = Value::Object(running.metadata.clone());
        if let (Thinking::Summary(_), Some(usage)) = (&thinking, &running.usage) {
            metadata["usage"] = json!(usage);
        }
        match thinking {
            Thinking::Started => {
                if let Some(open) = &mut running.thinking {
                    open.ended = false;
                    return;
                }
                running.thinking = Some(Stream::new(id.clone()));
                self.emit(Frame::Same(Event::llm_start(&id, Voice::Thinking, metadata)));
            }
            Thinking::Text(text) => self.said(Voice::Thinking, &text),
            Thinking::Ended => self.end_thinking(),
            Thinking::Summary(text) => {
                self.end_thinking();
                self.emit(Frame::Same(Event::thinking_summary(&id, &text, metadata)));
                let props = self.props(Voice::Thinking, &text, false);
                self.project(&id, "message", props, To::All);
                if let Some(thinking) = self.running.as_mut().and_then(|r| r.thinking.as_mut()) {
                    thinking.text = text;
                }
            }
        }
    }

    /// Closes a thought that is open.
    pub(super) fn end_thinking(&mut self) {
        self.flush_stream(Voice::Thinking);
        let Some(running) = &mut self.running else { return };
        let Some(thinking) = running.thinking.as_mut().filter(|thinking| !thinking.ended) else {
            return;
        };
        thinking.ended = true;
        let (id, text) = (thinking.id.clone(), thinking.text.clone());
        self.emit(Frame::Same(Event::thinking_final(&id)));
        if !text.is_empty() {
            let props = self.props(Voice::Thinking, &text, false);
            self.project(&id, "message", props, To::All);
        }
    }

    /// Sends what is held back.
    pub(super) fn flush(&mut self) {
        self.flush_stream(Voice::Thinking);
        self.flush_stream(Voice::Assistant);
    }

    /// Sends the held-back text as one delta, and stores or announces the message if it is time.
    fn flush_stream(&mut self, voice: Voice) {
        let Some(running) = &mut self.running else { return };
        let stream = match voice {
            Voice::Assistant => running.answer.as_mut(),
            Voice::Thinking => running.thinking.as_mut(),
        };
        let Some(stream) = stream.filter(|stream| stream.held > 0) else { return };
        let now = Instant::now();
        stream.next_delta = now + COALESCE;
        let delta = stream.text[stream.text.len() - stream.held..].to_owned();
        stream.held = 0;
        let metadata = Value::Object(running.metadata.clone());
        let id = stream.id.clone();
        let incremental = Event::llm_delta(&id, voice, &delta, None, metadata.clone());
        let cumulative = Event::llm_delta(&id, voice, &delta, Some(&stream.text), metadata);
        let first = stream.stored == 0;
        let announce = !first && now - stream.announced >= ANNOUNCE;
        let unsaved = stream.text.len() - stream.stored;
        let store = !first && (now - stream.stored_at >= STORE || unsaved >= STORE_BYTES);
        if first || announce {
            stream.announced = now;
        }
        let text = (first || announce).then(|| stream.text.clone());
        if first {
            (stream.stored, stream.stored_at) = (stream.text.len(), now);
        }
        self.emit(Frame::Both { cumulative, incremental });
        if let Some(text) = text {
            let props = self.props(voice, &text, true);
            self.project(&id, "message", props, if first { To::All } else { To::Contract });
        }
        if store {
            self.store_stream(voice);
        }
    }

    /// Appends to the stored message what has grown since, under the number of the newest frame: whoever hydrates at that
    /// number misses nothing before it and sees nothing after it twice.
    fn store_stream(&mut self, voice: Voice) {
        let (version, updated_at_ms) = (self.feed.seq(), self.now());
        let Some(running) = &mut self.running else { return };
        let stream = match voice {
            Voice::Assistant => running.answer.as_mut(),
            Voice::Thinking => running.thinking.as_mut(),
        };
        let Some(stream) = stream.filter(|s| !s.ended && s.stored < s.text.len()) else { return };
        let text = stream.text[stream.stored..].to_owned();
        (stream.stored, stream.stored_at) = (stream.text.len(), Instant::now());
        let id = stream.id.clone();
        self.batch.push(Write::EntityText { id, version, updated_at_ms, text });
    }

    /// Sends and stores all text that there is, for somebody who is about to read the timeline.
    pub(super) fn store_streams(&mut self) {
        if self.staged.is_some() {
            return; // the end is being stored
        }
        self.flush();
        self.store_stream(Voice::Thinking);
        self.store_stream(Voice::Assistant);
    }

    fn props(&self, voice: Voice, text: &str, streaming: bool) -> Value {
        let none = Map::new();
        let (metadata, turn_id) = match &self.running {
            Some(running) => (&running.metadata, running.ids.turn_id.as_str()),
            None => (&none, ""),
        };
        let mut metadata = metadata.clone();
        metadata.insert("turnId".into(), turn_id.into());
        message_props(voice.role(), text, streaming, &metadata)
    }

    fn answered(&mut self, stop_reason: Option<&str>, usage: Option<&Usage>) {
        self.end_thinking();
        self.flush();
        let Some(running) = &mut self.running else { return };
        running.usage = usage.copied().or(running.usage);
        running.stop_reason = stop_reason.map(str::to_owned);
        if running.announced.is_empty() {
            // This may be the end: nobody hears of it before it is stored.
            self.staged.get_or_insert_default();
        }
        self.close_answer(stop_reason, usage);
    }

    /// The message of the model's call is complete, or will not be: `llm.final`, and the entity if it has text (D24).
    pub(super) fn close_answer(&mut self, stop_reason: Option<&str>, usage: Option<&Usage>) {
        let now = self.now();
        let Some(running) = &mut self.running else { return };
        let Some(answer) = running.answer.take() else { return };
        frame::add_outcome(&mut running.metadata, stop_reason, usage, now - running.called_ms);
        running.unplaced.clone_from(&answer.text);
        let metadata = Value::Object(running.metadata.clone());
        self.emit(Frame::Same(Event::llm_final(&answer.id, &answer.text, metadata)));
        if !answer.text.is_empty() {
            let props = self.props(Voice::Assistant, &answer.text, false);
            self.project(&answer.id, "message", props, To::All);
        }
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

    fn tool_called(&mut self, call: Arc<Block>) {
        self.end_thinking();
        self.flush();
        let Some(running) = &mut self.running else { return };
        let entity_id = call.get("id").to_owned();
        let args = call.payload.get("args").and_then(Value::as_object);
        let input = args.filter(|args| !args.is_empty()).cloned().map(Value::Object);
        let card = Card { name: call.get("name").to_owned(), input: input.unwrap_or(Value::Null) };
        let (name, input) = (card.name.clone(), card.input.clone());
        running.cards.insert(entity_id.clone(), card);
        running.announced.push(call);
        self.emit(Frame::Same(Event::tool_start(&entity_id, &name, &input)));
        let props = tool_call_props(&name, &input, None);
        self.project(&entity_id, "tool_call", props, To::All);
    }

    fn tool_started(&mut self, call: &Block) {
        let card = self.running.as_ref().and_then(|running| running.cards.get(call.get("id")));
        if let Some(card) = card.cloned() {
            self.emit(Frame::Same(Event::tool_delta(call.get("id"), &card.input)));
        }
    }

    fn tool_ended(&mut self, call: &Block, result: &Arc<Block>) {
        let Some(running) = &mut self.running else { return };
        // Stored at once: what the user sees of it now must be there after a crash, too.
        running.results.push(result.clone());
        let results = running.results.clone();
        self.append(&results);
        if let Some(running) = &mut self.running {
            running.turn.layout = Layout::of(&[&running.blocks[..], &results].concat());
            self.batch.push(Write::Turn(Box::new(running.turn.clone())));
        }
        self.close_card(call.get("id"), result);
    }

    /// Shows the end of a call, well or not (D33).
    pub(super) fn close_card(&mut self, call_id: &str, result: &Block) {
        let Some(card) = self.running.as_mut().and_then(|r| r.cards.remove(call_id)) else {
            return;
        };
        let Card { name, input } = card;
        let entity_id = call_id;
        let error = result.get("error");
        let text = match (result.get("result"), error) {
            (result, "") => result.to_owned(),
            ("", error) => format!("Error: {error}"),
            (result, error) => format!("{result} | Error: {error}"),
        };
        let (kind, suffix) = match name.as_str() {
            "calc" => ("calc_result", "custom"),
            _ => ("", "result"),
        };
        self.emit(Frame::Same(Event::tool_result(entity_id, &text, kind)));
        let result_id = format!("{entity_id}:{suffix}");
        let props = tool_result_props(entity_id, &text, error, kind);
        self.project(&result_id, "tool_result", props, To::All);
        self.emit(Frame::Same(Event::tool_done(entity_id)));
        let outcome = if error.is_empty() { Ok(()) } else { Err(error) };
        let props = tool_call_props(&name, &input, Some(outcome));
        self.project(entity_id, "tool_call", props, To::All);
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
