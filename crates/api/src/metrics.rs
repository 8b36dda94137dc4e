//! Counters and durations of requests, in Prometheus text. Handles are looked up once, not per request.

use std::sync::OnceLock;
use std::time::Duration;

use http::Method;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const METHODS: [&str; 5] = ["GET", "POST", "PATCH", "DELETE", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The metrics of this process.
pub struct Metrics {
    handle: PrometheusHandle,
    requests: Vec<Counter>,
    durations: Vec<Histogram>,
}

/// One recorder a process, however many applications it mounts.
fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            let builder =
                builder.set_buckets(&BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics go to another recorder of this process");
            }
            handle
        })
        .clone()
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let handle = recorder();
        let requests = METHODS
            .iter()
            .flat_map(|method| STATUSES.iter().map(move |status| (*method, *status)))
            .map(|(method, status)| counter!("collodi_http_requests_total", "method" => method, "status" => status))
            .collect();
        let durations = METHODS
            .iter()
            .map(|method| histogram!("collodi_http_request_seconds", "method" => *method))
            .collect();
        Self { handle, requests, durations }
    }

    pub(crate) fn request(&self, method: &Method, status: u16, took: Duration) {
        let method =
            METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[method * STATUSES.len() + status].increment(1);
        self.durations[method].record(took.as_secs_f64());
    }

    /// The text of `/metrics`.
    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
    pub(crate) fn render(&self, profiles: usize, revision: u64, conversations: usize) -> String {
        gauge!("collodi_profiles").set(profiles as f64);
        gauge!("collodi_registry_revision").set(revision as f64);
        gauge!("collodi_conversations").set(conversations as f64);
        self.handle.render()
    }

    /// Folds recorded durations into their buckets, so that memory does not grow between two scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}
