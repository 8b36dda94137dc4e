//! Where we differ from the reference, and why. A rule that a scenario names has to make a difference in it.

use super::trace::Trace;

mod common;
mod events;
mod failures;
mod lists;
mod runs;
mod turns;

pub(super) use lists::*;

/// A named difference.
#[derive(Debug)]
pub(super) struct Rule {
    /// The decision, defect or chapter that asks for it.
    pub(super) reason: &'static str,
    pub(super) make: Make,
}

/// What a rule does; a change says whether there was something to change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Make {
    /// Makes of what the reference did what we have to do, before it is played.
    Recorded(fn(&mut Trace) -> bool),
    /// Takes out of both what the rule has checked.
    Both(fn(&mut Trace, &mut Trace) -> bool),
    /// Lets a difference pass at this place (`*` is one part, `**` is any).
    At(&'static str),
}

/// Whether a pattern covers a place.
pub(super) fn covers(pattern: &str, place: &[String]) -> bool {
    fn fits(pattern: &[&str], place: &[String]) -> bool {
        match (pattern, place) {
            ([], place) => place.is_empty(),
            (["**", rest @ ..], place) => {
                (0..=place.len()).any(|skipped| fits(rest, &place[skipped..]))
            }
            ([first, rest @ ..], [part, deeper @ ..]) => {
                (*first == "*" || first == part) && fits(rest, deeper)
            }
            _ => false,
        }
    }
    fits(&pattern.split(' ').collect::<Vec<_>>(), place)
}
