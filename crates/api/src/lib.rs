//! The HTTP and WebSocket surface: handlers translate, services decide.
//!
//! - [`router`] lists every route; [`routes`] holds a file per noun, [`ws`] the socket.
//! - [`problem`] is the only place that knows statuses, [`extract`] reads what requests carry.
//! - [`access`] says who may do what, [`pipeline`] is what happens around every request.
//! - [`serve`] accepts connections with deadlines and stops gracefully.
//! - [`ui`] serves the web application.
//! - [`openapi`] describes all of it.

pub mod access;
pub mod context;
pub mod extract;
pub mod logs;
pub mod metrics;
pub mod openapi;
pub mod pipeline;
pub mod problem;
pub mod program;
pub mod router;
pub mod routes;
mod samples;
pub mod serve;
pub mod ui;
pub mod ws;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use collodi_chat::Conversations;
use collodi_profiles::Registry;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use access::Access;
use logs::Ring;
use metrics::Metrics;
use program::Program;
use samples::Samples;
use ui::{Facts, Ui};

/// How the application is mounted (chapter 20 §2). Blank options take the defaults in parentheses.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Prefix of every path, without a trailing slash; empty for none.
    pub root: String,
    /// Name of the selection's cookie (`chat_profile`); `None` turns the cookie routes off.
    pub cookie: Option<String>,
    /// Who writes when nobody is authenticated (`web-chat`).
    pub actor: String,
    /// Where writes come from (`http-api`).
    pub source: String,
    /// Sends cookies without `Secure` over plain http to other hosts (decision 21).
    pub insecure_cookies: bool,
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            root: String::new(),
            cookie: Some("chat_profile".into()),
            actor: "web-chat".into(),
            source: "http-api".into(),
            insecure_cookies: false,
        }
    }
}

/// What `GET /api/chat/release` says (decision 30).
#[derive(Debug, Clone, Serialize)]
pub struct Release {
    /// `collodi`.
    pub product: &'static str,
    /// The version of the program.
    pub release: &'static str,
    /// The source revision; empty when it was not told at build time.
    pub revision: &'static str,
    /// The contract that is spoken.
    pub contract: &'static str,
    /// Of the registry database.
    pub schema_version: u32,
    /// The applications of the release set.
    pub apps: &'static [&'static str],
}

/// `[{name, value, origin}]`, secrets masked: worked out when somebody asks for it.
pub type Described = LazyLock<Value, Box<dyn FnOnce() -> Value + Send>>;

/// What operators see of this process.
#[derive(Debug, Clone)]
pub struct Operations {
    /// The newest log lines.
    pub logs: Arc<Ring>,
    /// How it is set.
    pub config: Arc<Described>,
    /// The program, where it is ours: its commands can be started from the page.
    pub program: Option<Arc<Program>>,
}

impl Default for Operations {
    fn default() -> Self {
        let config = Arc::new(Described::new(Box::new(Value::default)));
        Self { logs: Arc::default(), config, program: None }
    }
}

/// Everything that handlers share.
pub struct App {
    /// Profiles.
    pub registry: Arc<Registry>,
    /// Conversations.
    pub conversations: Arc<Conversations>,
    /// Who may do what, from where.
    pub access: Access,
    /// How it is mounted.
    pub mount: Mount,
    /// What it is.
    pub release: Release,
    /// Whether the debug API answers (chapter 30 §6).
    pub debug_api: bool,
    /// What operators see of the process.
    pub operations: Operations,
    ui: Ui,
    metrics: Metrics,
    schemas: Schemas,
    samples: Samples,
    /// Set when the server stops: readiness ends, sockets close with 1001.
    stop: CancellationToken,
    draining: AtomicBool,
    sockets: TaskTracker,
}

/// The published schemas, as they are answered: rendered once, for the first who asks.
#[derive(Default)]
struct Schemas {
    middlewares: OnceLock<Bytes>,
    extensions: OnceLock<Bytes>,
    tools: OnceLock<Bytes>,
}

impl App {
    /// Puts the parts together; the published schemas are rendered here, once.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        conversations: Arc<Conversations>,
        access: Access,
        mount: Mount,
        release: Release,
    ) -> Self {
        let metrics = Metrics::new(conversations.counts());
        Self {
            registry,
            conversations,
            access,
            mount,
            release,
            debug_api: false,
            operations: Operations::default(),
            ui: Ui::embedded(&[], "", Facts::default()),
            metrics,
            schemas: Schemas::default(),
            samples: Samples::default(),
            stop: CancellationToken::new(),
            draining: AtomicBool::new(false),
            sockets: TaskTracker::new(),
        }
    }

    /// Lets the debug API answer.
    #[must_use]
    pub fn with_debug_api(mut self, on: bool) -> Self {
        self.debug_api = on;
        self
    }

    /// Tells operators of the process.
    #[must_use]
    pub fn with_operations(mut self, operations: Operations) -> Self {
        self.operations = operations;
        self
    }

    /// Serves a web application.
    #[must_use]
    pub fn with_ui(mut self, ui: Ui) -> Self {
        self.ui = ui;
        self
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
