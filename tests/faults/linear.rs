//! Whether a history of one profile is linearizable: a version register with create, patch, delete and get.
//!
//! The search is that of Wing and Gong with the memory of Lowe. Two things keep it short: what changes nothing is placed
//! as soon as it fits (placing it later could only lose), and a write names the version that it made.

use std::collections::HashSet;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Create,
    /// With `expected_version`; 0 is no check.
    Patch(u64),
    /// With `expected_version`; 0 is no check.
    Delete(u64),
    Get,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// 2xx with the version since; 0 after a delete, whose answer names none.
    Done(u64),
    /// 409 with the stored version.
    Conflict(u64),
    /// 404.
    Missing,
}

/// One request with the time from its first to its last byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) asked: Asked,
    pub(crate) answered: Answered,
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
}

/// A profile: its last version, and whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct State {
    last: u64,
    there: bool,
}

/// The state after the operation, if the operation could have answered this in `state`.
fn step(state: State, operation: &Operation) -> Option<State> {
    let State { last, there } = state;
    let passes = |expected: u64| expected == 0 || expected == last;
    let fits = match (operation.asked, operation.answered) {
        (Asked::Create, Answered::Done(version)) => {
            return (!there && version == last + 1).then_some(State { last: version, there: true });
        }
        (Asked::Patch(expected), Answered::Done(version)) => {
            let fits = there && passes(expected) && version == last + 1;
            return fits.then_some(State { last: version, there });
        }
        (Asked::Delete(expected), Answered::Done(_)) => {
            let fits = there && passes(expected);
            return fits.then_some(State { last: last + 1, there: false });
        }
        (Asked::Get, Answered::Done(version)) => there && version == last,
        (Asked::Create, Answered::Conflict(actual)) => there && actual == last,
        (Asked::Patch(expected) | Asked::Delete(expected), Answered::Conflict(actual)) => {
            there && actual == last && !passes(expected)
        }
        (Asked::Get, Answered::Conflict(_)) | (Asked::Create, Answered::Missing) => false,
        (_, Answered::Missing) => !there,
    };
    fits.then_some(state)
}

fn changes(operation: &Operation) -> bool {
    operation.asked != Asked::Get && matches!(operation.answered, Answered::Done(_))
}

struct Search<'a> {
    history: &'a [Operation],
    placed: Vec<bool>,
    /// Everything before it is placed.
    first: usize,
    order: Vec<usize>,
    fingerprint: u64,
    state: State,
}

impl Search<'_> {
    /// Operations that may come next: those that began before any other one left over had ended.
    fn candidates(&mut self) -> Vec<usize> {
        while self.first < self.placed.len() && self.placed[self.first] {
            self.first += 1;
        }
        let mut end = u64::MAX;
        let mut found = Vec::new();
        for (index, operation) in self.history.iter().enumerate().skip(self.first) {
            if operation.invoked > end {
                break;
            }
            if !self.placed[index] {
                end = end.min(operation.returned);
                found.push(index);
            }
        }
        found.retain(|index| self.history[*index].invoked <= end);
        found
    }

    fn place(&mut self, index: usize, state: State) {
        self.placed[index] = true;
        self.order.push(index);
        self.fingerprint ^= mixed(index);
        self.state = state;
    }

    fn take_back(&mut self, length: usize, state: State) {
        while self.order.len() > length {
            let Some(index) = self.order.pop() else { break };
            self.placed[index] = false;
            self.fingerprint ^= mixed(index);
            self.first = self.first.min(index);
        }
        self.state = state;
    }

    fn place_what_changes_nothing(&mut self) {
        loop {
            let before = self.order.len();
            for index in self.candidates() {
                let operation = &self.history[index];
                if !changes(operation) && step(self.state, operation).is_some() {
                    self.place(index, self.state);
                }
            }
            if self.order.len() == before {
                return;
            }
        }
    }
}

fn mixed(index: usize) -> u64 {
    let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// Checks the history of one profile that does not exist at its beginning.
pub(crate) fn check(mut history: Vec<Operation>) -> Result<(), String> {
    history.sort_by_key(|operation| operation.invoked);
    let mut search = Search {
        history: &history,
        placed: vec![false; history.len()],
        first: 0,
        order: Vec::new(),
        fingerprint: 0,
        state: State::default(),
    };
    let mut seen: HashSet<(u64, State)> = HashSet::new();
    let mut open: Vec<(usize, State, Vec<usize>)> = Vec::new();
    let mut deepest: (usize, State, Vec<Operation>) = (0, State::default(), Vec::new());
    loop {
        search.place_what_changes_nothing();
        if search.order.len() == history.len() {
            return Ok(());
        }
        let next = search.candidates();
        if search.order.len() >= deepest.0 {
            let stuck = next.iter().map(|index| history[*index]).collect();
            deepest = (search.order.len(), search.state, stuck);
        }
        let fresh = seen.insert((search.fingerprint, search.state));
        let fits = |index: &usize| {
            changes(&history[*index]) && step(search.state, &history[*index]).is_some()
        };
        let choices = if fresh { next.into_iter().filter(fits).collect() } else { Vec::new() };
        open.push((search.order.len(), search.state, choices));
        loop {
            let Some((length, state, choices)) = open.last_mut() else {
                let (placed, state, stuck) = deepest;
                return Err(format!(
                    "after {placed} of {} operations, in {state:?}, none of these fits: {stuck:#?}",
                    history.len()
                ));
            };
            search.take_back(*length, *state);
            let Some(index) = choices.pop() else {
                open.pop();
                continue;
            };
            if let Some(state) = step(search.state, &history[index]) {
                search.place(index, state);
                break;
            }
        }
    }
}

#[test]
fn the_checker_takes_what_is_linearizable() {
    let good = vec![
        op(Asked::Get, Answered::Missing, 0, 3),
        op(Asked::Create, Answered::Done(1), 1, 9),
        op(Asked::Get, Answered::Done(2), 2, 8),
        op(Asked::Patch(1), Answered::Done(2), 2, 7),
        op(Asked::Patch(1), Answered::Conflict(2), 2, 9),
        op(Asked::Delete(0), Answered::Done(0), 10, 20),
        op(Asked::Create, Answered::Done(4), 11, 19),
        op(Asked::Create, Answered::Conflict(4), 11, 30),
        op(Asked::Get, Answered::Missing, 12, 18),
    ];
    check(good).unwrap();
}

#[test]
fn the_checker_refuses_what_is_not() {
    let created = op(Asked::Create, Answered::Done(1), 0, 1);
    let patched = op(Asked::Patch(1), Answered::Done(2), 2, 3);
    let bad = [
        vec![created, patched, op(Asked::Get, Answered::Done(1), 4, 5)],
        vec![created, patched, op(Asked::Patch(1), Answered::Done(2), 2, 3)],
        vec![created, op(Asked::Create, Answered::Done(1), 0, 1)],
        vec![created, op(Asked::Get, Answered::Missing, 2, 3)],
        vec![created, op(Asked::Patch(0), Answered::Done(3), 2, 3)],
        vec![created, op(Asked::Patch(1), Answered::Conflict(1), 2, 3)],
        vec![created, patched, op(Asked::Patch(1), Answered::Conflict(1), 2, 9)],
        vec![
            created,
            op(Asked::Delete(0), Answered::Done(0), 2, 3),
            op(Asked::Create, Answered::Done(1), 4, 5),
        ],
        vec![
            created,
            op(Asked::Delete(0), Answered::Done(0), 2, 9),
            op(Asked::Delete(0), Answered::Done(0), 2, 9),
        ],
    ];
    for history in bad {
        assert!(check(history.clone()).is_err(), "{history:?}");
    }
}

#[cfg(test)]
fn op(asked: Asked, answered: Answered, invoked: u64, returned: u64) -> Operation {
    Operation { asked, answered, invoked, returned }
}
