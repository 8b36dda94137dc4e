//! The owner of one conversation: a task with a mailbox. It holds queue, idempotency records, the current run, numbering
//! and ring; nobody else touches them, and no lock is held over I/O. History is in the store, not in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collodi_profiles::store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Outside;
use crate::counts::Counts;
use crate::feed::{Feed, Frame, Inbox};
use crate::frame::Event;
use crate::model::ModelError;
use crate::run::Progress;
use crate::store::{ConversationRecord, Loaded, Receipt, Row, TurnRecord, Write};
use crate::turn::Blocks;

mod cards;
mod ending;
mod live;
mod mail;
mod requests;
mod stream;

use live::Running;
pub(crate) use mail::Mail;
pub use mail::{
    Active, Attach, Glance, Line, Pause, Prompt, Refused, RuntimeSummary, Status, Submitted,
    TurnIds, Waiting,
};
use requests::Requests;

/// Most prompts that wait (decision 25).
pub const MAX_QUEUE: usize = 64;
/// How many frame numbers are set aside in the store at once, so that none is given twice after a crash.
const NUMBERS: u64 = 10_000;

/// A conversation that nobody watches and nothing happens to leaves memory after so long.
const SLEEP: Duration = Duration::from_secs(10);
/// When so many batches wait for the store, owners wait too.
const BACKLOG: usize = 4096;

/// What every owner of a process shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) outside: Outside,
    pub(crate) tasks: TaskTracker,
    /// No new turns: the server is about to stop.
    pub(crate) drain: CancellationToken,
    /// Ends runs that are still going at the end of a graceful stop.
    pub(crate) stop: CancellationToken,
    pub(crate) patience: Patience,
    /// Which conversation an open pause belongs to.
    pub(crate) pauses: Arc<Mutex<HashMap<String, String>>>,
    pub(crate) counts: Arc<Counts>,
}

/// When conversations that nobody uses give back what they hold (chapter 30 §5).
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Then the history of a conversation that somebody watches leaves memory; zero is never.
    pub idle: Duration,
    /// Then a conversation that nobody watches is not listed as live any more; zero is never.
    pub evict: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: Duration::from_mins(1), evict: Duration::from_mins(5) }
    }
}

pub(crate) struct Conversation {
    shared: Shared,
    row: Row,
    record: ConversationRecord,
    kept: Kept,
    head: Option<TurnRecord>,
    next_place: u64,
    /// The context after the newest turn, while it is likely to be needed soon.
    context: Option<Blocks>,
    queue: VecDeque<Prompt>,
    requests: Requests,
    /// Boxed: most conversations run nothing most of the time.
    running: Option<Box<Running>>,
    step_mode: bool,
    /// What a socket would run under, while nothing has run.
    watched_as: String,
    pauses: HashMap<String, (Pause, oneshot::Sender<()>)>,
    /// Creation time and place of the entities of the newest turn.
    entities: HashMap<String, (i64, u64)>,
    feed: Feed,
    /// Frames that wait for what they say to be durable.
    staged: Option<Vec<Frame>>,
    /// Writes of what is being handled.
    batch: Vec<Write>,
    /// Whether something was handed in that is not known to be durable.
    unsettled: bool,
    glance: Arc<Mutex<Glance>>,
    used: Instant,
}

/// Whether a conversation is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Looking at a conversation does not make one (D56).
    NotYet,
    Stored,
    Deleted,
}

enum Next {
    Mail(Option<Mail>),
    Quiet,
    Drained,
    Progress(Option<Progress>),
    Flush,
}

/// Loads a conversation, or begins a new one.
pub(crate) async fn load(
    conv_id: String,
    shared: Shared,
    glance: Arc<Mutex<Glance>>,
) -> Result<Conversation, StoreError> {
    let store = shared.outside.store.clone();
    let id = conv_id.clone();
    let loaded = tokio::task::spawn_blocking(move || store.load(&id)).await;
    let loaded = loaded.map_err(|e| {
        StoreError::new(collodi_profiles::store::StoreErrorKind::Other, e.to_string())
    })??;
    Ok(Conversation::new(conv_id, shared, glance, loaded))
}

impl Conversation {
    fn new(
        conv_id: String,
        shared: Shared,
        glance: Arc<Mutex<Glance>>,
        loaded: Option<Loaded>,
    ) -> Self {
        let kept = if loaded.is_some() { Kept::Stored } else { Kept::NotYet };
        let loaded = loaded.unwrap_or_else(|| {
            let now = (shared.outside.clock)();
            let record = ConversationRecord {
                conv_id,
                session_id: (shared.outside.new_id)(),
                created_at_ms: now,
                last_activity_ms: now,
                ..ConversationRecord::default()
            };
            let row = shared.outside.store.new_row();
            Loaded { row, record, head: None, next_place: 1 }
        });
        Self {
            shared,
            row: loaded.row,
            feed: Feed::after(loaded.record.seq),
            record: loaded.record,
            kept,
            head: loaded.head,
            next_place: loaded.next_place,
            context: None,
            queue: VecDeque::new(),
            requests: Requests::default(),
            running: None,
            step_mode: false,
            watched_as: String::new(),
            pauses: HashMap::new(),
            entities: HashMap::new(),
            staged: None,
            batch: Vec::new(),
            unsettled: false,
            glance,
            used: Instant::now(),
        }
    }

    fn now(&self) -> i64 {
        (self.shared.outside.clock)()
    }

    fn new_id(&self) -> String {
        (self.shared.outside.new_id)()
    }

    /// Serves the mailbox until everybody has gone, or nobody has used it for long, and nothing runs.
    pub(crate) async fn serve(mut self: Box<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        loop {
            self.show();
            match self.next(&mut mailbox).await {
                // Boxed, so that a conversation that waits holds nothing for what it may do later.
                Next::Mail(Some(mail)) => Box::pin(self.receive(mail)).await,
                Next::Mail(None) => break,
                Next::Progress(progress) => {
                    // A run that vanished without a word has failed all the same.
                    let lost =
                        || Progress::Finished(Err(ModelError::new("panic", "the run was lost")));
                    self.progress(progress.unwrap_or_else(lost)).await;
                }
                Next::Flush => self.flush(),
                Next::Drained => mailbox.close(),
                Next::Quiet => {
                    if self.relax() {
                        // What was sent before this is still served.
                        mailbox.close();
                    }
                }
            }
            self.hand_in();
            if self.shared.outside.store.backlog() > BACKLOG {
                let _ = self.shared.outside.store.settled().await;
            }
            let useless = match self.kept {
                Kept::Stored => false,
                Kept::NotYet => self.feed.watchers() == 0,
                Kept::Deleted => true,
            };
            let over = self.shared.drain.is_cancelled() || useless;
            if over && self.running.is_none() {
                mailbox.close();
            }
        }
        self.leave();
        if self.unsettled {
            // The next owner loads what this one wrote.
            let _ = self.shared.outside.store.settled().await;
        }
    }

    async fn next(&mut self, mailbox: &mut mpsc::Receiver<Mail>) -> Next {
        let Some(running) = &mut self.running else {
            let quiet = tokio::time::sleep(self.shared.patience.shortest());
            return tokio::select! {
                biased;
                letter = mailbox.recv() => Next::Mail(letter),
                () = quiet => Next::Quiet,
                () = self.shared.drain.cancelled(), if !mailbox.is_closed() => Next::Drained,
            };
        };
        let due = running.flush_at();
        tokio::select! {
            biased;
            progress = running.progress.recv() => Next::Progress(progress),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Next::Flush,
            Some(mail) = mailbox.recv() => Next::Mail(Some(mail)),
        }
    }

    /// Gives back what is not needed by inactivity alone (D14); says whether the conversation goes to sleep. Everything is
    /// in the store by then, but for frames that somebody who was just here may come back for.
    fn relax(&mut self) -> bool {
        let quiet = self.used.elapsed();
        let idle = self.shared.patience.idle;
        if !idle.is_zero() && quiet >= idle {
            self.context = None;
            self.requests.forget_finished();
        }
        self.feed.watchers() == 0 && !self.step_mode && quiet >= SLEEP
    }

    /// The last look at a conversation that goes to sleep.
    fn leave(&mut self) {
        self.feed = Feed::default();
        self.show();
    }

    fn show(&mut self) {
        let held = self.feed.held_events();
        let glance = Glance {
            session_id: self.record.session_id.clone(),
            runtime_key: self.runtime_key().to_owned(),
            watchers: self.feed.watchers(),
            queue_depth: self.queue.len(),
            held,
            active_key: self.running.as_ref().map(|r| r.key.clone()).unwrap_or_default(),
            last_activity_ms: self.record.last_activity_ms,
            is_stored: self.kept == Kept::Stored,
        };
        *self.glance.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = glance;
    }

    async fn receive(&mut self, mail: Mail) {
        // Nobody waiting for an answer is no failure of the conversation.
        match mail {
            Mail::Submit(prompt, answer) => {
                self.touch();
                let submitted = self.submit(*prompt).await;
                let _ = answer.send(submitted);
            }
            Mail::Attach(attach, answer) => {
                self.touch();
                let _ = answer.send(self.attach(&attach));
            }
            Mail::Settle(answer) => self.settle_for(answer),
            Mail::Cancel(answer) => {
                self.touch();
                let _ = answer.send(self.cancel());
            }
            Mail::Queue(answer) => {
                let _ = answer.send(self.line());
            }
            Mail::Dequeue(key, answer) => {
                let dequeued = self.dequeue(&key).await;
                let _ = answer.send(dequeued);
            }
            Mail::Title(title, answer) => {
                let _ = answer.send(self.rename(title).await);
            }
            Mail::Delete(answer) => {
                let _ = answer.send(self.delete().await);
            }
            Mail::Held(answer) => {
                let _ = answer.send(self.feed.held().collect());
            }
            Mail::StepMode(on, answer) => {
                self.step_mode = on;
                if !on {
                    self.running.iter_mut().for_each(|running| running.step_mode = false);
                    self.release_pauses();
                }
                let _ = answer.send(self.record.session_id.clone());
            }
            Mail::Continue(id, answer) => {
                let pause = self.pauses.remove(&id).map(|(pause, go_on)| {
                    let _ = go_on.send(());
                    pause
                });
                self.shared.forget_pause(&id);
                let _ = answer.send(pause);
            }
        }
    }

    /// Stores what is still held back, and answers when everything of this conversation is durable.
    fn settle_for(&mut self, answer: oneshot::Sender<()>) {
        self.store_streams();
        self.hand_in();
        if !self.unsettled {
            let _ = answer.send(());
            return;
        }
        let receipt = self.shared.outside.store.settled();
        // The owner need not wait for it.
        self.shared.tasks.spawn(async move {
            let _ = receipt.await;
            let _ = answer.send(());
        });
    }

    fn touch(&mut self) {
        self.used = Instant::now();
        self.record.last_activity_ms = self.now().max(self.record.last_activity_ms);
    }

    fn attach(&mut self, attach: &Attach) -> Inbox {
        let now = self.now();
        if self.record.runtime_key.is_empty() {
            self.watched_as.clone_from(&attach.runtime_key);
        }
        let hello = Event::hello(&self.record.conv_id, self.runtime_key(), now);
        let resync = Event::resync(&self.record.conv_id, self.feed.seq(), now);
        self.feed.attach(attach.dialect, &hello, attach.since_seq, &resync)
    }

    /// Of the newest turn, or what the last socket's own request resolved to (decision 19).
    fn runtime_key(&self) -> &str {
        match self.record.runtime_key.as_str() {
            "" => &self.watched_as,
            known => known,
        }
    }

    fn cancel(&mut self) -> Result<TurnIds, Refused> {
        let running = self.running.as_ref().ok_or(Refused::NoActiveRun)?;
        running.cancel.cancel();
        Ok(running.ids.clone())
    }

    async fn dequeue(&mut self, key: &str) -> Result<(), Refused> {
        let at = self.queue.iter().position(|prompt| prompt.idempotency_key == key);
        let prompt = at.and_then(|at| self.queue.remove(at)).ok_or(Refused::NotQueued)?;
        self.requests.forget(key);
        if prompt.client_key {
            self.batch.push(Write::ForgetRequest(key.to_owned()));
            return self.commit().await;
        }
        Ok(())
    }

    fn line(&self) -> Line {
        let active = self.running.as_ref().map(|running| Active {
            idempotency_key: running.key.clone(),
            turn_id: running.ids.turn_id.clone(),
            runtime_key: running.runtime.runtime_key.to_string(),
        });
        Line { active, waiting: self.queue.iter().map(Prompt::waiting).collect() }
    }

    async fn rename(&mut self, title: String) -> Result<(), Refused> {
        if self.kept != Kept::Stored {
            return Err(Refused::NotFound);
        }
        self.record.title.clone_from(&title);
        self.batch.push(Write::Title(title));
        self.commit().await
    }

    async fn delete(&mut self) -> Result<(), Refused> {
        if self.kept != Kept::Stored {
            return Err(Refused::NotFound);
        }
        if self.running.is_some() {
            return Err(Refused::Busy);
        }
        self.batch = vec![Write::Delete];
        self.commit().await?;
        self.kept = Kept::Deleted;
        Ok(())
    }

    fn release_pauses(&mut self) {
        for (id, (_, go_on)) in self.pauses.drain() {
            let _ = go_on.send(());
            self.shared.forget_pause(&id);
        }
    }

    /// Publishes a frame, or keeps it back until what it says is durable.
    fn emit(&mut self, frame: Frame) {
        if let Some(staged) = &mut self.staged {
            staged.push(frame);
        } else {
            self.feed.publish(&frame);
        }
    }

    /// The number of the next frame.
    fn next_seq(&self) -> u64 {
        self.feed.seq() + self.staged.as_ref().map_or(0, Vec::len) as u64 + 1
    }

    /// Publishes what waited.
    fn unstage(&mut self) {
        for frame in self.staged.take().into_iter().flatten() {
            self.feed.publish(&frame);
        }
    }

    /// Sets frame numbers aside before they are used up.
    fn reserve_numbers(&mut self) {
        if self.next_seq() + NUMBERS / 2 > self.record.seq {
            self.record.seq = self.next_seq() + NUMBERS;
            self.push_record();
        }
    }

    fn push_record(&mut self) {
        self.batch.push(Write::Conversation(Box::new(self.record.clone())));
    }

    /// Hands the batch in without waiting: for what nobody has been promised yet.
    fn hand_in(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.unsettled = true;
            // A failure shows at the next commit, which comes behind it.
            drop(self.shared.outside.store.write(self.row, batch));
        }
    }

    /// Hands the batch in and waits until it is durable; one that fails is as if it had never been.
    async fn commit(&mut self) -> Result<(), Refused> {
        let batch = std::mem::take(&mut self.batch);
        let receipt = self.shared.outside.store.write_or_drop(self.row, batch);
        self.durable(receipt).await
    }

    async fn durable(&mut self, receipt: Receipt) -> Result<(), Refused> {
        match receipt.await {
            Ok(Ok(())) => {
                // The store writes in order.
                self.unsettled = false;
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::error!(conv_id = %self.record.conv_id, %error, "failed to store a conversation");
                self.shared.counts.write_failures.inc();
                Err(Refused::Storage)
            }
            Err(_) => Err(Refused::Unavailable),
        }
    }
}

impl Shared {
    fn forget_pause(&self, id: &str) {
        self.pauses.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }
}

impl Patience {
    /// How often a quiet conversation looks at the clock.
    fn shortest(self) -> Duration {
        if self.idle.is_zero() { SLEEP } else { self.idle.min(SLEEP) }
    }
}
