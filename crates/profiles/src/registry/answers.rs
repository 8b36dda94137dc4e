//! Callers that wait for the writer, and how they are told.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Written;
use crate::error::Error;

pub(super) type Outcome = Result<Written, Error>;

/// A caller.
pub(super) struct Waiting {
    answer: oneshot::Sender<Outcome>,
    _place: OwnedSemaphorePermit,
    /// The runtime that it waits in, if threads of its own drive it: what is handed to it is done whatever callers do.
    runtime: Option<Handle>,
}

impl Waiting {
    /// A caller that waits in the current runtime, with its place in the queue.
    pub(super) fn new(place: OwnedSemaphorePermit) -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        let runtime = runtime.filter(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        (Self { answer, _place: place, runtime }, answered)
    }

    /// Tells it. One that went away does not change what was committed.
    pub(super) fn tell(self, outcome: Outcome) {
        let _ = self.answer.send(outcome);
    }
}

/// Tells a whole group inside of the runtime, which wakes it once: the writer would lose its processor to the first
/// caller that it wakes, and again to the next.
pub(super) fn tell_all(group: Vec<(Waiting, Outcome)>) {
    let runtime = group.first().and_then(|(waiting, _)| waiting.runtime.clone());
    let answers = Answers(group);
    match runtime {
        Some(runtime) => drop(runtime.spawn(async move { drop(answers) })),
        None => drop(answers),
    }
}

/// Tells its callers when it is dropped, also by a runtime that ends and runs nothing any more.
struct Answers(Vec<(Waiting, Outcome)>);

impl Drop for Answers {
    fn drop(&mut self) {
        for (waiting, outcome) in self.0.drain(..) {
            waiting.tell(outcome);
        }
    }
}
