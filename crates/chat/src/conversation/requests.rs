//! Idempotency (chapter 30 §1.2, decision 43): a key runs once, and says where it stands from then on.

use std::collections::{HashMap, VecDeque};

use collodi_profiles::json::sha256_hex;

use super::{
    Conversation, Kept, MAX_QUEUE, Prompt, Refused, RuntimeSummary, Status, Submitted, TurnIds,
};
use crate::store::{RequestRecord, Write};

/// Most records that a conversation holds in memory.
const MAX_RECORDS: usize = 1_000;
/// How long a client's key is kept in the store, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Clone)]
pub(super) struct Record {
    prompt_sha256: String,
    client_key: bool,
    runtime: RuntimeSummary,
    status: State,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    Queued,
    Running(TurnIds),
    Completed(TurnIds),
    Failed(Option<TurnIds>, String),
}

#[derive(Default)]
pub(super) struct Requests {
    records: HashMap<String, Record>,
    order: VecDeque<String>,
}

impl Requests {
    fn insert(&mut self, key: String, record: Record) {
        if self.records.insert(key.clone(), record).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_RECORDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.records.remove(key);
        self.order.retain(|known| known != key);
    }

    /// Keeps what runs or waits; the rest is in the store if it was a client's.
    pub(super) fn forget_finished(&mut self) {
        self.records.retain(|_, r| matches!(r.status, State::Queued | State::Running(_)));
        let records = &self.records;
        self.order.retain(|key| records.contains_key(key));
    }
}

impl Conversation {
    pub(super) async fn submit(&mut self, prompt: Prompt) -> Result<Submitted, Refused> {
        let sha256 = sha256_hex(&prompt.text);
        if let Some(record) = self.find(&prompt).await? {
            if record.prompt_sha256 != sha256 {
                return Err(Refused::KeyReused);
            }
            return Ok(self.replay(&prompt.idempotency_key, &record));
        }
        if self.shared.drain.is_cancelled() || self.kept == Kept::Deleted {
            return Err(Refused::Unavailable);
        }
        let key = prompt.idempotency_key.clone();
        let record = Record {
            prompt_sha256: sha256,
            client_key: prompt.client_key,
            runtime: RuntimeSummary::of(&prompt.runtime),
            status: State::Queued,
        };
        if let Some(retried) = &prompt.retry_turn_id
            && (self.running.is_some()
                || self.head.as_ref().is_none_or(|head| head.turn_id != *retried))
        {
            return Err(Refused::NotNewest);
        }
        if self.running.is_some() {
            if self.queue.len() >= MAX_QUEUE {
                return Err(Refused::QueueFull);
            }
            self.requests.insert(key.clone(), record);
            self.keep_request(&key);
            if let Err(refused) = self.commit().await {
                self.requests.forget(&key);
                return Err(refused);
            }
            self.queue.push_back(prompt);
        } else {
            self.requests.insert(key.clone(), record);
            if let Err(refused) = self.start(prompt).await {
                self.requests.forget(&key);
                return Err(refused);
            }
        }
        let record = self.requests.records.get(&key).cloned();
        record.map(|record| self.replay(&key, &record)).ok_or(Refused::Unavailable)
    }

    /// What is known of the key: in memory, or for a client's key in the store.
    async fn find(&self, prompt: &Prompt) -> Result<Option<Record>, Refused> {
        let key = &prompt.idempotency_key;
        if let Some(record) = self.requests.records.get(key) {
            return Ok(Some(record.clone()));
        }
        if !prompt.client_key || self.kept != Kept::Stored {
            return Ok(None);
        }
        let (store, row, key) = (self.shared.outside.store.clone(), self.row, key.clone());
        let read = tokio::task::spawn_blocking(move || store.request(row, &key)).await;
        let found = match read {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(conv_id = %self.record.conv_id, %error, "failed to look up an idempotency key");
                return Err(Refused::Storage);
            }
            Err(_) => return Err(Refused::Unavailable),
        };
        Ok(found.filter(|found| self.now() - found.at_ms < KEPT_MS).map(restored))
    }

    fn replay(&self, key: &str, record: &Record) -> Submitted {
        let status = match record.status.clone() {
            State::Queued => {
                let at = self.queue.iter().position(|p| p.idempotency_key == key);
                Status::Queued { position: at.map_or(0, |at| at + 1), depth: self.queue.len() }
            }
            State::Running(ids) => Status::Started(ids),
            State::Completed(ids) => Status::Completed(ids),
            State::Failed(ids, reason) => Status::Failed(ids, reason),
        };
        Submitted {
            session_id: self.record.session_id.clone(),
            runtime: record.runtime.clone(),
            status,
        }
    }

    pub(super) fn mark(&mut self, key: &str, status: State) {
        if let Some(record) = self.requests.records.get_mut(key) {
            record.status = status;
            self.keep_request(key);
        }
    }

    /// Adds a client's key to the batch.
    fn keep_request(&mut self, key: &str) {
        let Some(record) = self.requests.records.get(key).filter(|r| r.client_key) else { return };
        let (status, ids, error) = match &record.status {
            State::Queued => ("queued", None, ""),
            State::Running(ids) => ("started", Some(ids), ""),
            State::Completed(ids) => ("completed", Some(ids), ""),
            State::Failed(ids, error) => ("error", ids.as_ref(), error.as_str()),
        };
        let record = RequestRecord {
            key: key.to_owned(),
            prompt_sha256: record.prompt_sha256.clone(),
            status: status.into(),
            turn_id: ids.map(|ids| ids.turn_id.clone()).unwrap_or_default(),
            inference_id: ids.map(|ids| ids.inference_id.clone()).unwrap_or_default(),
            error: error.to_owned(),
            runtime: record.runtime.0.clone(),
            at_ms: self.now(),
        };
        self.batch.push(Write::Request(Box::new(record)));
    }
}

/// A record of an earlier life. What had not ended then never will: the process stopped before it did.
fn restored(found: RequestRecord) -> Record {
    let ids = TurnIds { turn_id: found.turn_id, inference_id: found.inference_id };
    let ids = (!ids.turn_id.is_empty()).then_some(ids);
    let interrupted = || State::Failed(ids.clone(), crate::recover::INTERRUPTED.into());
    let status = match (found.status.as_str(), ids.clone()) {
        ("completed", Some(ids)) => State::Completed(ids),
        ("error", ids) => State::Failed(ids, found.error),
        _ => interrupted(),
    };
    Record {
        prompt_sha256: found.prompt_sha256,
        client_key: true,
        runtime: RuntimeSummary(found.runtime),
        status,
    }
}
