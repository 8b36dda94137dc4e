//! What operators count of conversations.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds until the first word of an answer, or of the thinking before it, which is what somebody waits for.
const FIRST_WORD: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Counters of one process.
#[derive(Debug)]
pub struct Counts {
    pub(crate) turns_started: Counter,
    /// By outcome: completed, failed, cancelled, interrupted.
    pub(crate) turns_ended: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) write_failures: Counter,
    first_words: Histogram,
    /// The same as a sum, because a histogram cannot be read.
    first_words_ms: AtomicU64,
    first_words_count: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            turns_started: Counter::default(),
            turns_ended: Family::default(),
            write_failures: Counter::default(),
            first_words: Histogram::new(FIRST_WORD),
            first_words_ms: AtomicU64::new(0),
            first_words_count: AtomicU64::new(0),
        }
    }
}

/// How far the counters are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Turns that began.
    pub turns: u64,
    /// Turns that failed.
    pub failed: u64,
    /// Answers that said their first word.
    pub first_words: u64,
    /// Milliseconds that all of them took for it.
    pub first_words_ms: u64,
}

impl Counts {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let mut show = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        show("turns_started", "Turns that began", &self.turns_started);
        show("chat_write_failures", "Writes of conversations that failed", &self.write_failures);
        registry.register("turns_ended", "Turns that ended", self.turns_ended.clone());
        let help = "Time from a turn's start to the first word of its answer or its thinking";
        registry.register_with_unit("first_word", help, Unit::Seconds, self.first_words.clone());
    }

    /// An answer has said its first word after so many milliseconds.
    pub(crate) fn first_word(&self, after_ms: u64) {
        self.first_words.observe(std::time::Duration::from_millis(after_ms).as_secs_f64());
        self.first_words_ms.fetch_add(after_ms, Ordering::Relaxed);
        self.first_words_count.fetch_add(1, Ordering::Relaxed);
    }

    /// How far they are.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            turns: self.turns_started.get(),
            failed: self.turns_ended.get_or_create(&[("outcome", "failed")]).get(),
            first_words: self.first_words_count.load(Ordering::Relaxed),
            first_words_ms: self.first_words_ms.load(Ordering::Relaxed),
        }
    }
}
