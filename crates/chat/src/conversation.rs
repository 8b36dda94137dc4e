//! The owner of one conversation: a task with a mailbox. It holds history, queue, idempotency records, the current run,
//! numbering and timeline; nobody else touches them, and no lock is held over I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use collodi_profiles::profile::resolve::EffectiveProfile;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Outside;
use crate::feed::{Dialect, Feed};
use crate::frame::{self, Event};
use crate::model::ModelError;
use crate::run::{self, Outcome, Progress};
use crate::timeline::{Timeline, message_props};
use crate::turn::Block;

/// Most prompts that wait (decision 25).
pub const MAX_QUEUE: usize = 64;
/// Most idempotency records of a conversation (decision 43).
const MAX_RECORDS: usize = 1_000;
/// Deltas are sent at once, then at most this often (decision 24).
const COALESCE: Duration = Duration::from_millis(25);
/// How long a conversation that was never used outlives its last socket, about.
const UNUSED: Duration = Duration::from_secs(30);
/// A growing message is stored, and announced to contract clients, at most this often (chapter 30 §3.3).
const STORE_EVERY_MS: i64 = 250;

/// A prompt with everything that it runs under, resolved when it was submitted (decision 19).
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Trimmed, not empty.
    pub text: String,
    /// The client's, or one of ours.
    pub idempotency_key: String,
    /// Immutable from here on.
    pub runtime: Arc<EffectiveProfile>,
}

/// Where a submitted prompt stands.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The session of the conversation.
    pub session_id: String,
    /// What it runs, will run or ran under.
    pub runtime: Arc<EffectiveProfile>,
    /// Its state.
    pub status: Status,
}

/// The state of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Waiting; both numbers count waiting prompts from 1.
    Queued {
        /// Its place.
        position: usize,
        /// How many wait.
        depth: usize,
    },
    /// Running.
    Started(TurnIds),
    /// Answered to the end.
    Completed(TurnIds),
    /// Failed, with the reason as the user sees it.
    Failed(TurnIds, String),
}

/// Names one prompt and its answer, and the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnIds {
    /// The turn.
    pub turn_id: String,
    /// The run.
    pub inference_id: String,
}

/// Why a prompt is not taken. The texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 64 prompts wait already.
    #[error("queue is full")]
    QueueFull,
    /// The key belongs to another prompt (decision 43).
    #[error("idempotency key was used with another prompt")]
    KeyReused,
    /// The server stops, or holds as many conversations as it can.
    #[error("chat service not initialized")]
    Unavailable,
}

/// A new socket.
#[derive(Debug)]
pub struct Attach {
    /// How it wants deltas.
    pub dialect: Dialect,
    /// The profile that the socket's own request resolved to: what hello says of a conversation that never ran.
    pub runtime_key: String,
    /// Replay frames after this one.
    pub since_seq: Option<u64>,
}

/// Letters to the owner.
pub(crate) enum Mail {
    Submit(Prompt, oneshot::Sender<Result<Submitted, Refused>>),
    Attach(Attach, oneshot::Sender<mpsc::Receiver<Bytes>>),
    Timeline { since: u64, limit: usize, answer: oneshot::Sender<Value> },
}

struct Record {
    prompt: String,
    runtime: Arc<EffectiveProfile>,
    status: RecordStatus,
}

enum RecordStatus {
    Queued,
    Running(TurnIds),
    Completed(TurnIds),
    Failed(TurnIds, String),
}

struct Running {
    ids: TurnIds,
    key: String,
    message_id: String,
    runtime: Arc<EffectiveProfile>,
    progress: mpsc::Receiver<Progress>,
    model: Option<String>,
    started_ms: i64,
    text: String,
    /// Text of deltas that are held back, and when they go out.
    held: String,
    next_delta: Instant,
    stored_ms: Option<i64>,
}

pub(crate) struct Conversation {
    id: String,
    session_id: String,
    outside: Outside,
    tasks: TaskTracker,
    stop: CancellationToken,
    history: Vec<Block>,
    queue: VecDeque<Prompt>,
    records: HashMap<String, Record>,
    record_order: VecDeque<String>,
    running: Option<Running>,
    runtime_key: Option<String>,
    feed: Feed,
    timeline: Timeline,
}

enum Next {
    Mail(Option<Mail>),
    Quiet,
    Progress(Option<Progress>),
    Flush,
}

impl Conversation {
    pub(crate) fn new(
        id: String,
        outside: Outside,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            session_id: (outside.new_id)(),
            id,
            outside,
            tasks,
            stop,
            history: Vec::new(),
            queue: VecDeque::new(),
            records: HashMap::new(),
            record_order: VecDeque::new(),
            running: None,
            runtime_key: None,
            feed: Feed::default(),
            timeline: Timeline::default(),
        }
    }

    /// Serves the mailbox until everybody has gone and nothing runs.
    pub(crate) async fn serve(mut self, mut mailbox: mpsc::Receiver<Mail>) {
        loop {
            match self.next(&mut mailbox).await {
                Next::Mail(Some(mail)) => self.receive(mail),
                Next::Mail(None) if self.running.is_none() => return,
                Next::Mail(None) => mailbox.close(),
                Next::Progress(progress) => {
                    // A run that vanished without a word has failed all the same.
                    let lost =
                        || Progress::Finished(Err(ModelError::new("panic", "the run was lost")));
                    self.progress(progress.unwrap_or_else(lost));
                }
                Next::Flush => self.flush(),
                // Looking at a conversation does not make one: without a prompt and without sockets it goes away.
                Next::Quiet if self.is_unused() => mailbox.close(),
                Next::Quiet => {}
            }
        }
    }

    fn is_unused(&mut self) -> bool {
        self.records.is_empty() && self.feed.watchers() == 0
    }

    async fn next(&mut self, mailbox: &mut mpsc::Receiver<Mail>) -> Next {
        let Some(running) = &mut self.running else {
            let letter = tokio::time::timeout(UNUSED, mailbox.recv()).await;
            return letter.map_or(Next::Quiet, Next::Mail);
        };
        let holds = !running.held.is_empty();
        tokio::select! {
            biased;
            progress = running.progress.recv() => Next::Progress(progress),
            () = tokio::time::sleep_until(running.next_delta), if holds => Next::Flush,
            mail = mailbox.recv(), if !mailbox.is_closed() => Next::Mail(mail),
        }
    }

    fn receive(&mut self, mail: Mail) {
        // Nobody waiting for an answer is no failure of the conversation.
        match mail {
            Mail::Submit(prompt, answer) => {
                let submitted = self.submit(prompt);
                let _ = answer.send(submitted);
            }
            Mail::Attach(attach, answer) => {
                let now = (self.outside.clock)();
                let runtime_key = self.runtime_key.clone().unwrap_or(attach.runtime_key);
                let hello = Event::hello(&self.id, &runtime_key, now);
                let resync = Event::resync(&self.id, self.timeline.version(), now);
                let _ = answer.send(self.feed.attach(
                    attach.dialect,
                    &hello,
                    attach.since_seq,
                    &resync,
                ));
            }
            Mail::Timeline { since, limit, answer } => {
                let now = (self.outside.clock)();
                let _ = answer.send(self.timeline.snapshot(&self.id, since, limit, now));
            }
        }
    }

    fn submit(&mut self, prompt: Prompt) -> Result<Submitted, Refused> {
        if let Some(record) = self.records.get(&prompt.idempotency_key) {
            if record.prompt != prompt.text {
                return Err(Refused::KeyReused);
            }
            return Ok(self.replay(&prompt.idempotency_key, record));
        }
        if self.stop.is_cancelled() {
            return Err(Refused::Unavailable);
        }
        let key = prompt.idempotency_key.clone();
        if self.running.is_some() {
            if self.queue.len() >= MAX_QUEUE {
                return Err(Refused::QueueFull);
            }
            self.remember(&prompt);
            self.queue.push_back(prompt);
        } else {
            self.remember(&prompt);
            self.start(prompt);
        }
        self.records.get(&key).map(|record| self.replay(&key, record)).ok_or(Refused::Unavailable)
    }

    fn replay(&self, key: &str, record: &Record) -> Submitted {
        let status = match &record.status {
            RecordStatus::Queued => Status::Queued {
                position: self
                    .queue
                    .iter()
                    .position(|p| p.idempotency_key == key)
                    .map_or(0, |i| i + 1),
                depth: self.queue.len(),
            },
            RecordStatus::Running(ids) => Status::Started(ids.clone()),
            RecordStatus::Completed(ids) => Status::Completed(ids.clone()),
            RecordStatus::Failed(ids, reason) => Status::Failed(ids.clone(), reason.clone()),
        };
        Submitted { session_id: self.session_id.clone(), runtime: record.runtime.clone(), status }
    }

    fn remember(&mut self, prompt: &Prompt) {
        let record = Record {
            prompt: prompt.text.clone(),
            runtime: prompt.runtime.clone(),
            status: RecordStatus::Queued,
        };
        self.records.insert(prompt.idempotency_key.clone(), record);
        self.record_order.push_back(prompt.idempotency_key.clone());
        if self.record_order.len() > MAX_RECORDS
            && let Some(oldest) = self.record_order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    fn mark(&mut self, key: &str, status: RecordStatus) {
        if let Some(record) = self.records.get_mut(key) {
            record.status = status;
        }
    }

    fn start(&mut self, prompt: Prompt) {
        let new_id = &self.outside.new_id;
        let ids = TurnIds { turn_id: new_id(), inference_id: new_id() };
        let message_id = new_id();
        let Prompt { text, idempotency_key: key, runtime } = prompt;

        self.runtime_key = Some(runtime.runtime_key.to_string());
        self.feed.publish(&Event::chat_message(&ids.turn_id, &text));
        let entity = frame::user_entity_id(&ids.turn_id);
        self.store(&entity, "message", message_props("user", &text, false, &Map::new()));
        self.history.push(Block::User(text));
        self.mark(&key, RecordStatus::Running(ids.clone()));

        let mut blocks = vec![Block::System(runtime.system_prompt.clone())];
        blocks.extend(self.history.iter().cloned());
        let (sender, progress) = mpsc::channel(256);
        let models = self.outside.models.clone();
        self.tasks.spawn(run::drive(
            models,
            runtime.clone(),
            blocks,
            sender,
            self.stop.child_token(),
        ));
        self.running = Some(Running {
            ids,
            key,
            message_id,
            runtime,
            progress,
            model: None,
            started_ms: (self.outside.clock)(),
            text: String::new(),
            held: String::new(),
            next_delta: Instant::now(),
            stored_ms: None,
        });
    }

    fn progress(&mut self, progress: Progress) {
        let Some(running) = &mut self.running else { return };
        match progress {
            Progress::Started(model) => {
                let metadata = frame::attribution(&running.runtime, &model);
                running.model = Some(model);
                let event = Event::llm_start(&running.message_id, metadata.into());
                self.feed.publish(&event);
            }
            Progress::Text(text) => {
                running.text.push_str(&text);
                running.held.push_str(&text);
                if Instant::now() >= running.next_delta {
                    self.flush();
                }
            }
            Progress::Finished(outcome) => {
                self.flush();
                self.finish(outcome);
            }
        }
    }

    /// Sends the held-back text as one delta, and stores the message if it is time.
    fn flush(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.held.is_empty() {
            return;
        }
        running.next_delta = Instant::now() + COALESCE;
        let held = std::mem::take(&mut running.held);
        let model = running.model.as_deref().unwrap_or_default();
        let attribution = frame::attribution(&running.runtime, model);
        let id = running.message_id.clone();
        let metadata = Value::Object(attribution.clone());
        let incremental = Event::llm_delta(&id, &held, None, metadata.clone());
        let cumulative = Event::llm_delta(&id, &held, Some(&running.text), metadata);
        let now = (self.outside.clock)();
        let due = running.stored_ms.is_none_or(|stored| now - stored >= STORE_EVERY_MS);
        let props = due.then(|| {
            running.stored_ms = Some(now);
            message_props("assistant", &running.text, true, &attribution)
        });
        self.feed.publish_both(&cumulative, &incremental);
        if let Some(props) = props {
            self.store(&id, "message", props);
        }
    }

    fn finish(&mut self, outcome: Result<Outcome, ModelError>) {
        let Some(running) = self.running.take() else { return };
        let Running { ids, key, message_id, runtime, model, started_ms, text, .. } = running;
        let duration = (self.outside.clock)() - started_ms;
        let mut metadata = frame::attribution(&runtime, model.as_deref().unwrap_or_default());
        let (stop_reason, usage) = match &outcome {
            Ok(outcome) => (outcome.stop_reason.as_deref(), outcome.usage.as_ref()),
            Err(_) => (None, None),
        };
        frame::add_outcome(&mut metadata, stop_reason, usage, duration);
        if model.is_some() {
            self.feed.publish(&Event::llm_final(&message_id, &text, metadata.clone().into()));
        }
        if !text.is_empty() {
            self.store(&message_id, "message", message_props("assistant", &text, false, &metadata));
            // The next context is what the user saw, also of an answer that failed (decision 26).
            self.history.push(Block::Assistant(text));
        }
        match outcome {
            Ok(outcome) => {
                self.warn_if_short(&ids, outcome.stop_reason.as_deref());
                self.mark(&key, RecordStatus::Completed(ids));
            }
            Err(error) => {
                self.report(&ids, &error);
                self.mark(&key, RecordStatus::Failed(ids, error.message));
            }
        }
        if self.stop.is_cancelled() {
            self.queue.clear();
        }
        if let Some(next) = self.queue.pop_front() {
            self.start(next);
        }
    }

    /// `length` and `content_filter` are complete answers that say less than the user may think (decision 33).
    fn warn_if_short(&mut self, ids: &TurnIds, stop_reason: Option<&str>) {
        let message = match stop_reason {
            Some("length" | "max_tokens") => {
                "the answer stops here because it reached the token limit"
            }
            Some("content_filter") => "the provider's content filter stopped the answer",
            _ => return,
        };
        let fields = json!({"stop_reason": stop_reason, "inference_id": ids.inference_id});
        self.publish_log(&format!("warn-{}", ids.turn_id), "warn", message, &fields);
    }

    /// A failed run reaches the user (decision 26).
    fn report(&mut self, ids: &TurnIds, error: &ModelError) {
        tracing::warn!(
            conv_id = %self.id, turn_id = %ids.turn_id, inference_id = %ids.inference_id,
            code = error.code, %error, "run failed"
        );
        let fields = json!({"code": error.code, "retryable": error.retryable, "inference_id": ids.inference_id});
        self.publish_log(&format!("error-{}", ids.turn_id), "error", &error.message, &fields);
    }

    fn publish_log(&mut self, id: &str, level: &str, message: &str, fields: &Value) {
        self.feed.publish(&Event::log(id, level, message, fields));
        self.store(id, "log", json!({"level": level, "message": message, "fields": fields}));
    }

    /// Projects an entity and announces it. The announcement has a number of its own, which is the entity's version.
    fn store(&mut self, id: &str, kind: &'static str, props: Value) {
        let version = self.feed.next_seq();
        let entity = self.timeline.upsert(id, kind, props, version, (self.outside.clock)());
        let event = Event::timeline_upsert(&self.id, entity, version);
        self.feed.publish(&event);
    }
}
