//! What operators count of conversations.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Counts {
    pub(crate) turns_started: Counter,
    /// By outcome: completed, failed, cancelled, interrupted.
    pub(crate) turns_ended: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) write_failures: Counter,
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
    }
}
