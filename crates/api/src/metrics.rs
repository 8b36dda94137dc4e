//! Counters and durations of requests, in the text that Prometheus reads. Handles are looked up once, not per request.

use std::time::Duration;

use collodi_chat::counts::Counts;
use http::Method;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What [`Metrics::render`] gives.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const METHODS: [&str; 5] = ["GET", "POST", "PATCH", "DELETE", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The metrics of one application.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Vec<Counter>,
    durations: Vec<Histogram>,
    profiles: Gauge,
    revision: Gauge,
    conversations: Gauge,
}

impl Metrics {
    pub(crate) fn new(turns: &Counts) -> Self {
        let mut registry = Registry::with_prefix("collodi");
        let requests = Family::<[(&str, &str); 2], Counter>::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let requests = METHODS
            .iter()
            .flat_map(|method| STATUSES.iter().map(move |status| (*method, *status)))
            .map(|(method, status)| [("method", method), ("status", status)])
            .map(|labels| requests.get_or_create_owned(&labels))
            .collect();
        let durations = Family::<[(&str, &str); 1], Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS)
        });
        let help = "Time from the head of a request to its answer";
        registry.register_with_unit("http_request", help, Unit::Seconds, durations.clone());
        let durations =
            METHODS.iter().map(|m| durations.get_or_create_owned(&[("method", *m)])).collect();
        turns.register(&mut registry);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let profiles = gauge("profiles", "Profiles of all registries");
        let revision = gauge("registry_revision", "Changes of the registry since it was made");
        let conversations = gauge("conversations", "Conversations in memory");
        Self { registry, requests, durations, profiles, revision, conversations }
    }

    pub(crate) fn request(&self, method: &Method, status: u16, took: Duration) {
        let method =
            METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[method * STATUSES.len() + status].inc();
        self.durations[method].observe(took.as_secs_f64());
    }

    /// Requests that failed with 5xx.
    pub(crate) fn errors(&self) -> u64 {
        self.requests
            .iter()
            .skip(STATUSES.len() - 1)
            .step_by(STATUSES.len())
            .map(Counter::get)
            .sum()
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, profiles: usize, revision: u64, conversations: usize) -> String {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.profiles.set(number(profiles));
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.conversations.set(number(conversations));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
