//! All conversations of a process: finds the owner of one, or starts it. What nobody uses is in the store alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collodi_profiles::store::{StoreError, StoreErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Outside;
use crate::conversation::{
    self, Attach, Glance, Line, Mail, Patience, Pause, Prompt, Refused, Shared, Submitted, TurnIds,
};
use crate::counts::Counts;
use crate::feed::{Held, Inbox};
use crate::recover::close_interrupted;
use crate::store::{
    ChatStore, ConversationFilter, ConversationRecord, TimelineRange, TurnFilter, TurnSnapshot,
};
use crate::timeline;
use crate::tool::Tool;

/// Most conversations that a process holds in memory at once.
pub const MAX_CONVERSATIONS: usize = 10_000;
/// Those that were not used for long are forgotten when so many more have come.
const SWEEP: usize = 256;

/// A timeline as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The JSON text.
    pub text: String,
    /// Where the page before this one ends, if there is one.
    pub older: Option<u64>,
}

#[derive(Clone)]
struct Owner {
    /// Absent while the conversation sleeps.
    mail: Option<mpsc::Sender<Mail>>,
    /// Cancelled when its task has ended: only then may another own the conversation (D15).
    gone: CancellationToken,
    glance: Arc<Mutex<Glance>>,
}

impl Owner {
    /// Its mailbox, unless it sleeps or is about to.
    fn awake(&self) -> Option<&mpsc::Sender<Mail>> {
        self.mail.as_ref().filter(|mail| !mail.is_closed())
    }

    fn glance(&self) -> Glance {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Owners = Arc<Mutex<HashMap<String, Owner>>>;

/// The conversations of this process.
pub struct Conversations {
    shared: Shared,
    /// Those that were used of late; an owner whose mailbox is closed sleeps, and what is known of it stays for a while.
    owners: Owners,
    /// How many do not sleep.
    awake: Arc<AtomicUsize>,
}

impl Conversations {
    /// Opens the conversations of a store: turns that a dead process left running are closed as interrupted, exactly
    /// once (decision 23).
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn open(outside: Outside, patience: Patience) -> Result<Self, StoreError> {
        let store = outside.store.clone();
        let closed = |_| StoreError::new(StoreErrorKind::Closed, "the store is closed");
        let unfinished = store.unfinished().await.map_err(closed)??;
        if !unfinished.is_empty() {
            let turns = unfinished.len();
            tracing::warn!(turns, "closed turns that were running when the process ended");
        }
        let mut batches = Vec::new();
        for turn in unfinished {
            tracing::info!(
                conv_id = %turn.record.conv_id, turn_id = %turn.turn.turn_id,
                "closed a turn that was running when the process ended"
            );
            let row = turn.row;
            let writes = close_interrupted(turn, (outside.clock)(), &*outside.new_id);
            batches.push((row, writes));
        }
        // The last one is answered last: whoever waits for that is woken once.
        for receipt in store.write_together(batches).into_iter().rev() {
            receipt.await.map_err(closed)??;
        }
        Ok(Self::new(outside, patience))
    }

    /// The conversations of a store in which no turn was left running; [`Self::open`] makes sure of that.
    #[must_use]
    pub fn new(outside: Outside, patience: Patience) -> Self {
        Self {
            shared: Shared {
                outside,
                tasks: TaskTracker::new(),
                drain: CancellationToken::new(),
                stop: CancellationToken::new(),
                patience,
                pauses: Arc::default(),
                counts: Arc::default(),
            },
            owners: Owners::default(),
            awake: Arc::default(),
        }
    }

    /// A new id, for conversations and keys that the client did not name.
    #[must_use]
    pub fn new_id(&self) -> String {
        (self.shared.outside.new_id)()
    }

    /// The registry's own tools, by the names under which profiles list them.
    #[must_use]
    pub fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.shared.outside.toolbox.tools()
    }

    /// Unix milliseconds, now.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.shared.outside.clock)()
    }

    /// The database behind, for readiness and reads.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ChatStore> {
        &self.shared.outside.store
    }

    /// Hands in a prompt; the answer says where it stands, and is given when that is durable. The stream follows on the
    /// sockets.
    ///
    /// # Errors
    /// A full queue, a key of another prompt, a server that stops, a database that fails.
    pub async fn submit(&self, conv_id: &str, prompt: Prompt) -> Result<Submitted, Refused> {
        self.ask(conv_id, |answer| Mail::Submit(Box::new(prompt), answer)).await?
    }

    /// Adds a socket and returns its frames, hello first. The channel closes when the socket falls too far behind.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub async fn attach(&self, conv_id: &str, attach: Attach) -> Result<Inbox, Refused> {
        self.ask(conv_id, |answer| Mail::Attach(attach, answer)).await
    }

    /// The snapshot of a timeline as JSON text; asking for one never creates a conversation.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn timeline(
        &self,
        conv_id: &str,
        range: TimelineRange,
    ) -> Result<Snapshot, StoreError> {
        // Everything that a socket has seen must be in it. A conversation in which nothing runs is stored.
        if self.is_running(conv_id) || self.store().backlog() > 0 {
            self.ask_present(conv_id, Mail::Settle).await;
        }
        let recent = self.store().recent_timeline(conv_id, range);
        let page = if let Some(page) = recent {
            page
        } else {
            let (id, store) = (conv_id.to_owned(), self.store().clone());
            blocking(store, move |store| store.timeline(&id, range)).await?
        };
        Ok(Snapshot { text: timeline::snapshot(conv_id, &page, self.now_ms()), older: page.older })
    }

    /// Stops the run of a conversation, also before its first token.
    ///
    /// # Errors
    /// Nothing runs, or nobody knows the conversation.
    pub async fn cancel(&self, conv_id: &str) -> Result<TurnIds, Refused> {
        match self.ask_present(conv_id, Mail::Cancel).await {
            Some(cancelled) => cancelled,
            None if self.is_stored(conv_id).await? => Err(Refused::NoActiveRun),
            None => Err(Refused::NotFound),
        }
    }

    /// The prompt that runs, and those that wait.
    ///
    /// # Errors
    /// Nobody knows the conversation.
    pub async fn queue(&self, conv_id: &str) -> Result<Line, Refused> {
        match self.ask_present(conv_id, Mail::Queue).await {
            Some(line) => Ok(line),
            None if self.is_stored(conv_id).await? => Ok(Line::default()),
            None => Err(Refused::NotFound),
        }
    }

    /// Takes a prompt out of the queue; its key is forgotten.
    ///
    /// # Errors
    /// No such prompt waits.
    pub async fn dequeue(&self, conv_id: &str, key: &str) -> Result<(), Refused> {
        let mail = |answer| Mail::Dequeue(key.to_owned(), answer);
        self.ask_present(conv_id, mail).await.unwrap_or(Err(Refused::NotQueued))
    }

    /// Names a conversation.
    ///
    /// # Errors
    /// Nobody knows it, or the database fails.
    pub async fn rename(&self, conv_id: &str, title: String) -> Result<(), Refused> {
        self.ask_known(conv_id, |answer| Mail::Title(title, answer)).await?
    }

    /// Deletes a conversation with everything in it.
    ///
    /// # Errors
    /// A run is active, nobody knows it, or the database fails.
    pub async fn delete(&self, conv_id: &str) -> Result<(), Refused> {
        self.ask_known(conv_id, Mail::Delete).await?
    }

    /// Stored conversations, the latest activity first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(
        &self,
        filter: ConversationFilter,
    ) -> Result<Vec<ConversationRecord>, StoreError> {
        blocking(self.store().clone(), move |store| store.conversations(&filter)).await
    }

    /// Conversations that were used of late, by id.
    #[must_use]
    pub fn glances(&self) -> HashMap<String, Glance> {
        let owners = self.lock();
        let glances = owners.iter().map(|(id, owner)| (id, owner, owner.glance()));
        let kept = glances.filter(|(_, owner, glance)| self.is_kept(owner, glance));
        kept.map(|(id, _, glance)| (id.clone(), glance)).collect()
    }

    /// Whether a conversation counts as live: it is awake, or was used within the time of eviction.
    fn is_kept(&self, owner: &Owner, glance: &Glance) -> bool {
        let evict = self.shared.patience.evict;
        let quiet = self.now_ms().saturating_sub(glance.last_activity_ms);
        let is_recent = evict.is_zero() || u128::try_from(quiet).unwrap_or(0) < evict.as_millis();
        !owner.gone.is_cancelled() || (is_recent && glance.is_stored)
    }

    /// The frames that a conversation in memory still holds.
    pub async fn held(&self, conv_id: &str) -> Option<Vec<Held>> {
        self.ask_present(conv_id, Mail::Held).await
    }

    /// Turns step mode on or off; the session.
    pub async fn step_mode(&self, conv_id: &str, on: bool) -> Option<String> {
        self.ask_present(conv_id, |answer| Mail::StepMode(on, answer)).await
    }

    /// The conversation in memory that has a session.
    #[must_use]
    pub fn of_session(&self, session_id: &str) -> Option<String> {
        let found = self.glances().into_iter().find(|(_, glance)| glance.session_id == session_id);
        found.map(|(conv_id, _)| conv_id)
    }

    /// The conversation that an open pause belongs to.
    #[must_use]
    pub fn of_pause(&self, pause_id: &str) -> Option<String> {
        let pauses = self.shared.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(pause_id).cloned()
    }

    /// Ends a pause of step mode.
    pub async fn go_on(&self, conv_id: &str, pause_id: &str) -> Option<Pause> {
        let mail = |answer| Mail::Continue(pause_id.to_owned(), answer);
        self.ask_present(conv_id, mail).await.flatten()
    }

    /// Snapshots of turns, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn turns(&self, filter: TurnFilter) -> Result<Vec<TurnSnapshot>, StoreError> {
        if self.store().backlog() > 0 {
            self.ask_present(&filter.conv_id, Mail::Settle).await;
        }
        blocking(self.store().clone(), move |store| store.turns(&filter)).await
    }

    fn is_running(&self, conv_id: &str) -> bool {
        let owner = self.lock().get(conv_id).cloned();
        owner.filter(|owner| owner.awake().is_some()).is_some_and(|owner| {
            let glance = owner.glance();
            !glance.active_key.is_empty() || glance.session_id.is_empty()
        })
    }

    async fn is_stored(&self, conv_id: &str) -> Result<bool, Refused> {
        let id = conv_id.to_owned();
        let loaded = blocking(self.store().clone(), move |store| store.load(&id)).await;
        loaded.map(|loaded| loaded.is_some()).map_err(|_| Refused::Storage)
    }

    /// What operators count.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// How many are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.awake.load(Ordering::Relaxed)
    }

    /// Whether none is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses new prompts and waits for running answers, at most `patience`; those still running then are interrupted
    /// and say so. Everything is stored when this returns.
    pub async fn close(&self, patience: Duration) {
        self.shared.drain.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(patience, self.shared.tasks.wait()).await.is_err() {
            self.shared.stop.cancel();
            self.shared.tasks.wait().await;
        }
        let _ = self.store().settled().await;
    }

    /// Asks the owner, or the next one if that is just leaving.
    async fn ask<T>(
        &self,
        conv_id: &str,
        mail: impl FnOnce(oneshot::Sender<T>) -> Mail,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        let mut mail = mail(answer);
        loop {
            let owner = self.owner(conv_id).ok_or(Refused::Unavailable)?;
            match owner.send(mail).await {
                Ok(()) => return answered.await.map_err(|_| Refused::Unavailable),
                Err(returned) => mail = returned.0,
            }
        }
    }

    /// Asks the owner of a conversation that there is; asking for another makes none.
    async fn ask_known<T>(
        &self,
        conv_id: &str,
        mail: impl FnOnce(oneshot::Sender<T>) -> Mail,
    ) -> Result<T, Refused> {
        let is_awake = self.lock().get(conv_id).is_some_and(|owner| owner.awake().is_some());
        if is_awake || self.is_stored(conv_id).await? {
            self.ask(conv_id, mail).await
        } else {
            Err(Refused::NotFound)
        }
    }

    /// Asks the owner if there is one.
    async fn ask_present<T>(
        &self,
        conv_id: &str,
        mail: impl FnOnce(oneshot::Sender<T>) -> Mail,
    ) -> Option<T> {
        let owner = self.lock().get(conv_id)?.awake()?.clone();
        let (answer, answered) = oneshot::channel();
        owner.send(mail(answer)).await.ok()?;
        answered.await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner(&self, conv_id: &str) -> Option<mpsc::Sender<Mail>> {
        let mut owners = self.lock();
        if let Some(mail) = owners.get(conv_id).and_then(Owner::awake) {
            return Some(mail.clone());
        }
        if self.shared.tasks.is_closed() || self.len() >= MAX_CONVERSATIONS {
            return None;
        }
        if owners.len() % SWEEP == SWEEP - 1 {
            owners.retain(|_, owner| self.is_kept(owner, &owner.glance()));
        }
        let (mail, mailbox) = mpsc::channel(64);
        let glance = Arc::new(Mutex::new(Glance::default()));
        let gone = CancellationToken::new();
        let owner = Owner { mail: Some(mail.clone()), gone: gone.clone(), glance: glance.clone() };
        let before = owners.insert(conv_id.to_owned(), owner).map(|owner| owner.gone);
        self.awake.fetch_add(1, Ordering::Relaxed);
        let (id, shared, awake) = (conv_id.to_owned(), self.shared.clone(), self.awake.clone());
        let all = self.owners.clone();
        self.shared.tasks.spawn(async move {
            let _gone = gone.drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
            match conversation::load(id.clone(), shared, glance).await {
                Ok(conversation) => Box::new(conversation).serve(mailbox).await,
                Err(error) => {
                    tracing::error!(conv_id = id, %error, "failed to load a conversation");
                    drop(mailbox);
                }
            }
            awake.fetch_sub(1, Ordering::Relaxed);
            // Unless the next owner has taken the place already; the mailbox is worth kilobytes.
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(owner) = all.get_mut(&id).filter(|owner| owner.awake().is_none()) {
                owner.mail = None;
            }
        });
        Some(mail)
    }
}

/// Reads from the store on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    store: Arc<dyn ChatStore>,
    read: impl FnOnce(&dyn ChatStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let read = tokio::task::spawn_blocking(move || read(&*store)).await;
    read.map_err(|error| StoreError::new(StoreErrorKind::Other, error.to_string()))?
}
