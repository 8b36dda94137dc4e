//! The writer thread: one transaction for all commands that wait (group commit), each command with its own outcome.
//!
//! The order is always: lock the database, take over what other processes committed, decide, append, commit, publish,
//! answer. A command that fails appends nothing; a commit that fails fails them all, and nothing was published.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::Written;
use super::answers::{Outcome, Waiting, tell_all};
use super::decide::{Decide, Decision};
use super::snapshot::Snapshot;
use crate::error::Error;
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::history::{Change, Stamp};
use crate::store::{StoreError, StoreErrorKind, WriteSession};

/// Most commands of one transaction.
const GROUP: usize = 128;
/// Snapshots that are kept after their successor was published.
const RECENT: usize = 2;
/// How long another process's commit may stay unseen while nothing is written here (decision 5: 500 ms).
const POLL: Duration = Duration::from_millis(200);

pub(super) enum Message {
    Execute(Command, Waiting),
    Ping(oneshot::Sender<Result<(), StoreError>>),
    Close,
}

/// A command with who and when.
pub(super) struct Command {
    registry: RegistrySlug,
    slug: Option<ProfileSlug>,
    decide: Decide,
    stamp: Stamp,
}

impl Command {
    pub(super) fn new(decision: Decision, stamp: Stamp) -> Self {
        let Decision { registry, slug, decide } = decision;
        Self { registry, slug, decide, stamp }
    }

    /// Decides and applies to a copy: what the write would answer (decision 14, `dry_run`).
    pub(super) fn rehearse(self, snapshot: &Snapshot) -> Outcome {
        let mut copy = snapshot.clone();
        let (registry, slug) = (self.registry.clone(), self.slug.clone());
        for change in self.decide(&copy)? {
            copy.apply(&change);
        }
        written(&copy, &registry, slug.as_ref())
    }

    /// The changes, numbered. A panic in a rule is this command's failure alone.
    fn decide(self, snapshot: &Snapshot) -> Result<Vec<Change>, Error> {
        let mut changes = catch_unwind(AssertUnwindSafe(|| (self.decide)(snapshot, self.stamp)))
            .unwrap_or_else(|_| Err(Error::Internal("a rule panicked".into())))?;
        for (change, id) in changes.iter_mut().zip(snapshot.revision() + 1..) {
            change.id = id;
        }
        Ok(changes)
    }
}

fn written(snapshot: &Snapshot, registry: &RegistrySlug, slug: Option<&ProfileSlug>) -> Outcome {
    let state = snapshot.registry(registry).ok_or(Error::RegistryNotFound)?;
    let stored = slug.and_then(|slug| state.get(slug)).cloned();
    Ok(Written {
        registry: registry.clone(),
        is_default: slug.is_some_and(|slug| state.is_default(slug)),
        stored,
        registry_version: state.version(),
    })
}

pub(super) struct Worker {
    session: Box<dyn WriteSession>,
    published: Arc<ArcSwap<Snapshot>>,
    /// Set when the device failed: what is on it is unknown, so nothing is written until the next start.
    fenced: Option<StoreError>,
    /// Snapshots of just before: kept so that the last to let go of one, and to pay for it, is this thread, not a read.
    recent: VecDeque<Arc<Snapshot>>,
}

impl Worker {
    pub(super) fn new(session: Box<dyn WriteSession>, published: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { session, published, fenced: None, recent: VecDeque::new() }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut open = true;
        while open {
            let mut group = Vec::new();
            let mut next = match messages.recv_timeout(POLL) {
                Ok(message) => {
                    // Who is about to write too does so first: a group costs little more than a single command.
                    thread::yield_now();
                    Some(message)
                }
                Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
                Err(RecvTimeoutError::Timeout) => {
                    self.poll();
                    None
                }
            };
            while let Some(message) = next {
                match message {
                    Message::Execute(command, waiting) => group.push((command, waiting)),
                    Message::Ping(answer) => {
                        let _ = answer.send(self.session.ping());
                    }
                    Message::Close => open = false,
                }
                let more = open && group.len() < GROUP;
                next = if more { messages.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.turn(group);
            }
        }
        while let Ok(message) = messages.try_recv() {
            if let Message::Execute(_, waiting) = message {
                let closed = StoreError::new(StoreErrorKind::Closed, "the registry is closed");
                waiting.tell(Err(closed.into()));
            }
        }
    }

    /// Publishes what other processes committed.
    fn poll(&mut self) {
        let mut working = Snapshot::clone(&self.published.load());
        let before = working.revision();
        match self.catch_up(&mut working) {
            Ok(()) if working.revision() > before => self.publish(working),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "failed to look for changes of other processes"),
        }
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.recent.push_back(self.published.swap(Arc::new(snapshot)));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn catch_up(&mut self, working: &mut Snapshot) -> Result<(), StoreError> {
        if self.session.changed_elsewhere()? {
            for change in self.session.changes_after(working.revision())? {
                working.apply(&change);
            }
        }
        Ok(())
    }

    fn turn(&mut self, group: Vec<(Command, Waiting)>) {
        let (commands, callers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = match self.transact(commands) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(%error, kind = ?error.kind, "failed to write a group of changes");
                if error.kind == StoreErrorKind::Io {
                    self.fenced = Some(error.clone());
                }
                callers.iter().map(|_| Err(Error::Store(error.clone()))).collect()
            }
        };
        tell_all(callers.into_iter().zip(outcomes).collect());
    }

    /// Runs the commands in one transaction. An error means that nothing of it is there.
    fn transact(&mut self, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
        if let Some(error) = &self.fenced {
            return Err(error.clone());
        }
        self.session.begin()?;
        let mut working = Snapshot::clone(&self.published.load());
        let known = working.revision();
        if let Err(error) = self.catch_up(&mut working) {
            self.session.rollback();
            return Err(error);
        }
        let theirs = working.revision();
        let outcomes: Vec<_> =
            commands.into_iter().map(|command| self.execute(command, &mut working)).collect();
        if working.revision() == theirs {
            self.session.rollback();
        } else {
            self.session.commit()?;
        }
        if working.revision() > known {
            self.publish(working);
        }
        Ok(outcomes)
    }

    fn execute(&mut self, command: Command, working: &mut Snapshot) -> Outcome {
        let (registry, slug) = (command.registry.clone(), command.slug.clone());
        let changes = command.decide(working)?;
        if !changes.is_empty() {
            self.session.append(&changes)?;
        }
        for change in &changes {
            working.apply(change);
        }
        written(working, &registry, slug.as_ref())
    }
}

#[cfg(test)]
mod tests;
