//! A whole application over a temporary database, on a port of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use collodi_api::access::Access;
use collodi_api::ui::{Embedded, Facts, Ui};
use collodi_api::{App, Mount, Release};
use collodi_chat::conversation::Patience;
use collodi_chat::middleware::Toolbox;
use collodi_chat::model::Models;
use collodi_chat::{Conversations, Outside};
use collodi_models::{Keys, Providers};
use collodi_profiles::registry::{Filter, Options};
use collodi_profiles::settings::Settings;
use collodi_profiles::{Author, ProfileSlug, Registry, RegistrySlug};
use collodi_store::{SqliteChats, SqliteProfiles};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Answer, Call};

/// The time of every test, until it sets another.
pub(crate) const NOW: i64 = 1_771_977_600_000;

/// What an application is started with.
pub(crate) struct Setup {
    mount: Mount,
    tokens: Option<String>,
    origins: Vec<String>,
    loopback_only: bool,
    with_profiles: bool,
    adopted: Option<Value>,
    models: Option<Arc<dyn Models>>,
    toolbox: Arc<dyn Toolbox>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mount: Mount::default(),
            tokens: None,
            origins: Vec::new(),
            loopback_only: true,
            with_profiles: true,
            adopted: None,
            models: None,
            toolbox: Arc::new(collodi_tools::Shipped::default()),
        }
    }
}

impl Setup {
    pub(crate) fn root(mut self, root: &str) -> Self {
        self.mount.root = root.into();
        self
    }

    pub(crate) fn no_cookie(mut self) -> Self {
        self.mount.cookie = None;
        self
    }

    pub(crate) fn cookie(mut self, name: &str) -> Self {
        self.mount.cookie = Some(name.into());
        self
    }

    pub(crate) fn writes_as(mut self, actor: &str, source: &str) -> Self {
        (self.mount.actor, self.mount.source) = (actor.into(), source.into());
        self
    }

    pub(crate) fn insecure_cookies(mut self) -> Self {
        self.mount.insecure_cookies = true;
        self
    }

    /// Reachable under any host name, as when bound to an address of the network.
    pub(crate) fn any_host(mut self) -> Self {
        self.loopback_only = false;
        self
    }

    pub(crate) fn origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Tokens `u`, `e` and `o` of the roles user, editor and operator.
    pub(crate) fn tokens(mut self) -> Self {
        use collodi_profiles::json::sha256_hex;
        let line =
            |name: &str, role: &str, token: &str| format!("{name}:{role}:{}\n", sha256_hex(token));
        let lines = [
            line("ann", "user", "u"),
            line("bob", "editor", "e"),
            line("eve", "editor", "e2"),
            line("oona", "operator", "o"),
        ];
        self.tokens = Some(lines.concat());
        self
    }

    /// A registry database without any registry.
    pub(crate) fn no_profiles(mut self) -> Self {
        self.with_profiles = false;
        self
    }

    /// Starts on a database file of the reference that holds this registry.
    pub(crate) fn adopting(mut self, registry: Value) -> Self {
        self.adopted = Some(registry);
        self
    }

    /// Answers come from these, not from the demo model.
    pub(crate) fn models(mut self, models: impl Models + 'static) -> Self {
        self.models = Some(Arc::new(models));
        self
    }

    /// Other makers of middlewares and tools than those that ship.
    pub(crate) fn toolbox(mut self, toolbox: impl Toolbox + 'static) -> Self {
        self.toolbox = Arc::new(toolbox);
        self
    }

    pub(crate) async fn start(self) -> TestApp {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(NOW));
        let path = folder.path().join("profiles.db");
        if let Some(registry) = &self.adopted {
            write_reference(&path, registry);
        }
        let registry = Arc::new(open_registry(&path, clock.clone()));
        if self.with_profiles {
            bootstrap(&registry).await;
        }
        let settings = Settings::default();
        let demo = || Arc::new(Providers::new(settings, Keys::default(), false, Duration::ZERO));
        let models = self.models.unwrap_or_else(|| demo());
        let ids = AtomicU64::new(0);
        let now = clock.clone();
        let chats = SqliteChats::open(&folder.path().join("chat.db")).unwrap();
        let outside = Outside {
            clock: Arc::new(move || now.load(Ordering::Relaxed)),
            new_id: Arc::new(move || format!("id-{}", ids.fetch_add(1, Ordering::Relaxed))),
            models,
            toolbox: self.toolbox,
            store: Arc::new(chats),
        };
        let conversations = Conversations::open(outside, Patience::default()).await.unwrap();
        let conversations = Arc::new(conversations);
        let access = Access::open(self.loopback_only, self.origins);
        let access = match self.tokens {
            Some(tokens) => access.with_tokens(&tokens).unwrap(),
            None => access,
        };
        let release = Release {
            product: "collodi",
            release: "0.0.0-test",
            revision: "",
            contract: "web-chat/2026-02",
            schema_version: 1,
            apps: &["web-chat"],
        };
        let page = Embedded { name: "index.html", plain: b"<!doctype html>", gzip: &[] };
        let ui = Ui::embedded(&[page], &self.mount.root, Facts::default());
        let app = App::new(registry.clone(), conversations, access, self.mount, release);
        let app = Arc::new(app.with_ui(ui));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let patience = Duration::from_secs(20);
        let server = tokio::spawn(collodi_api::serve::serve(app, listener, stopped, patience));
        TestApp { address, registry, clock, path, stop, server, folder }
    }
}

/// A registry database as the Go reference writes it (chapter 10 §10.4).
fn write_reference(path: &Path, registry: &Value) {
    let database = rusqlite::Connection::open(path).unwrap();
    let table = "CREATE TABLE profile_registries (slug TEXT PRIMARY KEY, payload_json TEXT NOT NULL, \
        updated_at_ms INTEGER NOT NULL DEFAULT 0)";
    database.execute_batch(table).unwrap();
    let row = (registry["slug"].as_str().unwrap(), registry.to_string(), NOW);
    database.execute("INSERT INTO profile_registries VALUES (?1, ?2, ?3)", row).unwrap();
}

/// Another registry service over the same file, as a second process would have it.
pub(crate) fn open_registry(path: &Path, clock: Arc<AtomicI64>) -> Registry {
    let catalog = Arc::new(collodi_tools::catalog().unwrap());
    let store = SqliteProfiles::open(path, &catalog, NOW).unwrap();
    let options = Options {
        catalog,
        settings: Settings::default(),
        default_registry: RegistrySlug::parse("default").unwrap(),
        clock: Arc::new(move || clock.load(Ordering::Relaxed)),
    };
    Registry::open(Arc::new(store), options).unwrap()
}

async fn bootstrap(registry: &Registry) {
    let seed = collodi_tools::seed(registry.default_registry().clone()).unwrap();
    let author =
        Author { actor: "web-chat".into(), source: "bootstrap".into(), ..Author::default() };
    registry.bootstrap(seed, author).await.unwrap();
}

/// A running application.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) path: PathBuf,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    /// Goes away with the application.
    folder: TempDir,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    pub(crate) fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.address, method, target)
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.call("GET", target).send().await
    }

    pub(crate) async fn post(&self, target: &str, body: Value) -> Answer {
        self.call("POST", target).json(&body).send().await
    }

    pub(crate) async fn patch(&self, target: &str, body: Value) -> Answer {
        self.call("PATCH", target).json(&body).send().await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.call("DELETE", target).send().await
    }

    /// Creates a profile and returns its document.
    #[track_caller]
    pub(crate) fn create(&self, body: Value) -> impl Future<Output = Value> + '_ {
        let call = self.post("/api/chat/profiles", body);
        async move { call.await.expect_json(201) }
    }

    /// The document of a profile.
    pub(crate) async fn document(&self, slug: &str) -> Value {
        self.get(&format!("/api/chat/profiles/{slug}")).await.expect_json(200)
    }

    pub(crate) async fn registry_version(&self) -> u64 {
        let answer = self.get("/api/chat/profiles").await;
        answer.header("x-registry-version").unwrap().parse().unwrap()
    }

    /// Everything that is stored under this name: what a restart would find.
    pub(crate) fn reopened(&self) -> Registry {
        open_registry(&self.path, self.clock.clone())
    }

    /// Stops gracefully; connections are answered to their end.
    pub(crate) async fn stop(self) -> (Arc<Registry>, PathBuf, TempDir) {
        let _ = self.stop.send(());
        self.server.await.unwrap();
        (self.registry, self.path, self.folder)
    }
}

/// The metadata of a profile that the API wrote at [`NOW`].
pub(crate) fn metadata(version: u64) -> Value {
    json!({
        "source": "http-api", "version": version, "created_at_ms": NOW, "updated_at_ms": NOW,
        "created_by": "web-chat", "updated_by": "web-chat",
    })
}

/// The metadata of a profile that the program brought, before anybody touched it.
pub(crate) fn built_in() -> Value {
    json!({
        "source": "bootstrap", "version": 1, "created_at_ms": NOW, "updated_at_ms": NOW,
        "created_by": "web-chat", "updated_by": "web-chat",
    })
}

/// The document of a profile that says nothing but its name.
pub(crate) fn bare(slug: &str, version: u64, is_default: bool) -> Value {
    json!({
        "registry": "default", "slug": slug, "runtime": {},
        "policy": {"allow_overrides": false, "read_only": false},
        "metadata": metadata(version), "is_default": is_default,
    })
}

pub(crate) fn slug(raw: &str) -> ProfileSlug {
    ProfileSlug::parse(raw).unwrap()
}

/// The list of a registry as it would be sent.
pub(crate) fn listed(registry: &Registry) -> Value {
    let snapshot = registry.snapshot();
    let state = snapshot.registry(registry.default_registry()).unwrap();
    let page = state.list(&Filter::default());
    serde_json::from_slice(&page.body).unwrap()
}
