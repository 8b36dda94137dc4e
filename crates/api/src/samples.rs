//! The last hour in figures, for the plots of the page: what happened in each quarter of a minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collodi_chat::counts::Totals;
use serde::Serialize;

use crate::App;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(15);
/// Samples of an hour.
const KEPT: usize = 240;

/// What happened since the sample before.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Unix milliseconds.
    at_ms: i64,
    /// Turns that began.
    turns: u64,
    /// Turns that failed.
    failed: u64,
    /// Mean time until the first word of an answer, in milliseconds; absent where none was said.
    first_word_ms: Option<u64>,
    /// Prompts that wait, now.
    waiting: usize,
    /// Requests that failed with 5xx.
    errors: u64,
}

/// The newest samples.
#[derive(Default)]
pub(crate) struct Samples {
    kept: Mutex<VecDeque<Sample>>,
}

impl Samples {
    pub(crate) fn list(&self) -> Vec<Sample> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, sample: Sample) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(sample);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

/// Counts until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut before = (app.conversations.counts().totals(), app.metrics.errors());
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.stop.cancelled() => return,
        }
        let now = (app.conversations.counts().totals(), app.metrics.errors());
        let waiting = app.conversations.glances().values().map(|glance| glance.queue_depth).sum();
        let at_ms = app.conversations.now_ms();
        app.samples.push(since(at_ms, (&before.0, before.1), (&now.0, now.1), waiting));
        before = now;
    }
}

fn since(at_ms: i64, before: (&Totals, u64), now: (&Totals, u64), waiting: usize) -> Sample {
    let ((old, old_errors), (new, new_errors)) = (before, now);
    let spoken = new.first_words.saturating_sub(old.first_words);
    Sample {
        at_ms,
        turns: new.turns.saturating_sub(old.turns),
        failed: new.failed.saturating_sub(old.failed),
        first_word_ms: new.first_words_ms.saturating_sub(old.first_words_ms).checked_div(spoken),
        waiting,
        errors: new_errors.saturating_sub(old_errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_happened_since_the_one_before() {
        let before = Totals { turns: 5, failed: 1, first_words: 4, first_words_ms: 400 };
        let now = Totals { turns: 8, failed: 2, first_words: 6, first_words_ms: 1000 };
        let sample = since(7, (&before, 3), (&now, 5), 9);
        let shown =
            (sample.turns, sample.failed, sample.first_word_ms, sample.waiting, sample.errors);
        assert_eq!(shown, (3, 1, Some(300), 9, 2));
        assert_eq!(since(8, (&now, 5), (&now, 5), 0).first_word_ms, None);
    }

    #[test]
    fn an_hour_is_kept() {
        let samples = Samples::default();
        let none = Totals::default();
        for at in 0..300 {
            samples.push(since(at, (&none, 0), (&none, 0), 0));
        }
        let kept = samples.list();
        assert_eq!((kept.len(), kept[0].at_ms), (240, 60));
    }
}
