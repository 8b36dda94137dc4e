//! All conversations of a process: finds the owner of one, or starts it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Outside;
use crate::conversation::{Attach, Conversation, Mail, Prompt, Refused, Submitted};

/// Most conversations that a process holds.
pub const MAX_CONVERSATIONS: usize = 10_000;

/// The conversations of this process. They live in memory, as long as the process does.
pub struct Conversations {
    outside: Outside,
    owners: Mutex<HashMap<String, mpsc::Sender<Mail>>>,
    tasks: TaskTracker,
    /// Ends runs that are still going at the end of a graceful stop, and refuses new ones.
    stop: CancellationToken,
}

impl Conversations {
    /// None yet.
    #[must_use]
    pub fn new(outside: Outside) -> Self {
        Self {
            outside,
            owners: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// A new id, for conversations and keys that the client did not name.
    #[must_use]
    pub fn new_id(&self) -> String {
        (self.outside.new_id)()
    }

    /// Unix milliseconds, now.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.outside.clock)()
    }

    /// Hands in a prompt; the answer says where it stands, the stream follows on the sockets.
    ///
    /// # Errors
    /// A full queue, a key of another prompt, a server that stops.
    pub async fn submit(&self, conv_id: &str, prompt: Prompt) -> Result<Submitted, Refused> {
        let (answer, answered) = oneshot::channel();
        self.post(conv_id, Mail::Submit(prompt, answer)).await?;
        answered.await.map_err(|_| Refused::Unavailable)?
    }

    /// Adds a socket and returns its frames, hello first. The channel closes when the socket falls too far behind.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub async fn attach(
        &self,
        conv_id: &str,
        attach: Attach,
    ) -> Result<mpsc::Receiver<Bytes>, Refused> {
        let (answer, answered) = oneshot::channel();
        self.post(conv_id, Mail::Attach(attach, answer)).await?;
        answered.await.map_err(|_| Refused::Unavailable)
    }

    /// Brings a letter to the owner, or to the next one if that is just leaving.
    async fn post(&self, conv_id: &str, mut mail: Mail) -> Result<(), Refused> {
        loop {
            let owner = self.owner(conv_id).ok_or(Refused::Unavailable)?;
            match owner.send(mail).await {
                Ok(()) => return Ok(()),
                Err(returned) => mail = returned.0,
            }
        }
    }

    /// The snapshot of a timeline; asking for one never creates a conversation.
    pub async fn timeline(&self, conv_id: &str, since: u64, limit: usize) -> Value {
        let unknown = || {
            let now = (self.outside.clock)();
            crate::timeline::Timeline::default().snapshot(conv_id, since, limit, now)
        };
        let owner = self.owners().get(conv_id).cloned();
        let Some(owner) = owner else { return unknown() };
        let (answer, answered) = oneshot::channel();
        if owner.send(Mail::Timeline { since, limit, answer }).await.is_err() {
            return unknown();
        }
        answered.await.unwrap_or_else(|_| unknown())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners().is_empty()
    }

    /// Refuses new prompts and waits for running answers, at most `patience`; those still running then are interrupted
    /// and say so.
    pub async fn close(&self, patience: Duration) {
        self.owners().clear();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.stop.cancel();
            self.tasks.wait().await;
        }
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Mail>>> {
        self.owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn owner(&self, conv_id: &str) -> Option<mpsc::Sender<Mail>> {
        let mut owners = self.owners();
        if let Some(owner) = owners.get(conv_id).filter(|owner| !owner.is_closed()) {
            return Some(owner.clone());
        }
        if self.tasks.is_closed() {
            return None;
        }
        if owners.len() >= MAX_CONVERSATIONS {
            owners.retain(|_, owner| !owner.is_closed());
            if owners.len() >= MAX_CONVERSATIONS {
                return None;
            }
        }
        let (owner, mailbox) = mpsc::channel(64);
        let conversation = Conversation::new(
            conv_id.to_owned(),
            self.outside.clone(),
            self.tasks.clone(),
            self.stop.clone(),
        );
        self.tasks.spawn(conversation.serve(mailbox));
        owners.insert(conv_id.to_owned(), owner.clone());
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use collodi_profiles::profile::resolve::EffectiveProfile;

    use crate::feed::Dialect;
    use crate::model::{Model, ModelError, Models};

    struct NoModels;

    impl Models for NoModels {
        fn model(&self, _: &EffectiveProfile) -> Result<Arc<dyn Model>, ModelError> {
            Err(ModelError::new("none", "no models here"))
        }
    }

    fn conversations() -> Conversations {
        Conversations::new(Outside {
            clock: Arc::new(|| 1),
            new_id: Arc::new(|| "id".into()),
            models: Arc::new(NoModels),
        })
    }

    fn look() -> Attach {
        Attach { dialect: Dialect::Cumulative, runtime_key: "default".into(), since_seq: None }
    }

    #[tokio::test(start_paused = true)]
    async fn looking_at_a_conversation_does_not_make_one() {
        let conversations = conversations();
        let inbox = conversations.attach("c", look()).await.unwrap();
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert!(!conversations.owners()["c"].is_closed(), "a socket is there");
        drop(inbox);
        let owner = conversations.owners()["c"].clone();
        owner.closed().await;
        assert!(conversations.attach("c", look()).await.is_ok(), "it may come back");
    }

    #[tokio::test]
    async fn there_is_a_bound_and_what_is_gone_makes_room() {
        let conversations = conversations();
        let mut inboxes = Vec::new();
        for n in 0..MAX_CONVERSATIONS {
            inboxes.push(conversations.attach(&n.to_string(), look()).await.unwrap());
        }
        assert_eq!(
            conversations.attach("one more", look()).await.unwrap_err(),
            Refused::Unavailable
        );
        let (owner, mailbox) = mpsc::channel(1);
        drop(mailbox);
        conversations.owners().insert("0".into(), owner);
        assert!(conversations.attach("one more", look()).await.is_ok());
    }
}
