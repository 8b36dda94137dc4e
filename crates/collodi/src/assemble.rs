//! Puts the parts together and serves: the only place that names every crate.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use collodi_api::access::Access;
use collodi_api::logs::Ring;
use collodi_api::program::Program;
use collodi_api::ui::{Facts, Ui};
use collodi_api::{App, Mount, Operations, Release};
use collodi_chat::conversation::Patience;
use collodi_chat::{Conversations, Outside};
use collodi_models::Providers;
use collodi_profiles::registry::{Clock, Options};
use collodi_profiles::{Author, Registry, RegistrySlug};
use collodi_store::lock::Lock;
use collodi_store::{SqliteChats, SqliteProfiles};
use tokio::net::TcpListener;

use crate::config::Config;

// The files of `ui/dist`, by build.rs.
include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// Opens everything, serves until a signal, and stops gracefully.
///
/// # Errors
/// The named cause of a start that fails.
pub(crate) async fn serve(mut config: Config, logs: Arc<Ring>) -> Result<()> {
    let clock: Clock = Arc::new(now_ms);
    let chat_path = config.chat_path()?;
    std::fs::create_dir_all(&config.values.data_dir)
        .with_context(|| format!("create {}", config.values.data_dir.display()))?;
    let _lock = Lock::acquire(&chat_path)?;
    finish_restore(&config)?;
    // The two databases are opened side by side, because most of it is waiting for the disk; but a start that is refused
    // makes no files. The runtime has nothing else to do yet, so that its threads may wait.
    let open_chats = |path: PathBuf| tokio::spawn(async move { SqliteChats::open(&path) });
    let early = chat_path.exists().then(|| open_chats(chat_path.clone()));
    let registry = open_registry(&config, clock.clone());
    let early = match early {
        // Whatever became of the other, this one is closed properly.
        Some(opening) => Some(opening.await?),
        None => None,
    };
    let registry = Arc::new(registry?);
    bootstrap(&registry).await?;
    let store = match early {
        Some(opened) => opened,
        None => open_chats(chat_path.clone()).await?,
    };
    let store = Arc::new(store?);

    let pace = Duration::from_millis(config.values.demo_pace_ms);
    let local = config.values.allow_local_providers;
    let address = config.address()?;
    let access = access(&config, address)?;
    let keys = std::mem::take(&mut config.keys);
    let providers = Providers::new(config.settings.clone(), keys, local, pace);
    let model = providers.describe();
    let facts = Facts { debug_api: config.values.debug_api, is_demo: providers.is_demo() };
    let outside = Outside {
        clock,
        new_id: Arc::new(new_id),
        models: Arc::new(providers),
        toolbox: Arc::new(toolbox(&config)?),
        store,
    };
    let mount = Mount {
        root: config.root(),
        insecure_cookies: config.values.insecure_cookies,
        ..Mount::default()
    };
    // While the disk takes what became of interrupted turns, the rest is made.
    let (conversations, rest) =
        tokio::join!(Conversations::open(outside, patience(&config)), async {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            anyhow::Ok((listener, ui(&config, facts)?))
        });
    let (conversations, (listener, ui)) = (conversations?, rest?);
    let app = App::new(registry.clone(), Arc::new(conversations), access, mount, release());
    let program = program(&config, &chat_path, listener.local_addr()?);
    let operations =
        Operations { logs, config: config.described.clone(), program: program.map(Arc::new) };
    let app = app.with_debug_api(config.values.debug_api).with_operations(operations).with_ui(ui);
    let app = Arc::new(app);

    let stop = stop_signal()?;
    banner(&config, &chat_path, listener.local_addr()?, &registry, &model);
    let patience = Duration::from_secs(config.values.shutdown_seconds);
    collodi_api::serve::serve(app, listener, stop, patience).await;
    Ok(())
}

/// The web application that was compiled in, or that of `--ui-dir`.
fn ui(config: &Config, facts: Facts) -> Result<Ui> {
    match config.values.ui_dir.as_str() {
        "" => Ok(Ui::embedded(FILES, &config.root(), facts)),
        folder => Ui::of_folder(Path::new(folder)).with_context(|| format!("--ui-dir {folder}")),
    }
}

/// This program, so that its commands can be started from the page.
fn program(config: &Config, chats: &Path, address: SocketAddr) -> Option<Program> {
    let data = &config.values.data_dir;
    let folder = data.to_string_lossy().into_owned();
    let of_folder = vec!["--data-dir".into(), folder];
    let profiles = config.profiles_path();
    let places = if chats != data.join("chat.db") {
        Vec::new() // `ops snapshot` knows chats by their folder
    } else if profiles == data.join("profiles.db") {
        vec![of_folder]
    } else {
        let of_registry =
            vec!["--profile-registry-db".into(), profiles.to_string_lossy().into_owned()];
        vec![of_folder, of_registry]
    };
    let snapshots = match config.values.snapshot_dir.as_str() {
        "" => data.join("snapshots"),
        given => PathBuf::from(given),
    };
    let reached = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port())
        }
        ip if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    let target = format!("http://{reached}{}", config.root());
    // The running program, also after a deploy has put another one in its place.
    let running = PathBuf::from("/proc/self/exe");
    let path = if running.exists() { running } else { std::env::current_exe().ok()? };
    Some(Program::new(path, target, places, snapshots))
}

/// How long conversations wait for somebody.
fn patience(config: &Config) -> Patience {
    let v = &config.values;
    let evict = if v.evict_interval_seconds == 0 { 0 } else { v.evict_idle_seconds };
    let idle = Duration::from_secs(v.idle_timeout_seconds);
    Patience { idle, evict: Duration::from_secs(evict) }
}

/// A restore that was decided before its process died (decision 32).
fn finish_restore(config: &Config) -> Result<()> {
    if collodi_store::restore::finish(&config.profiles_path())? {
        tracing::warn!("finished a restore that was interrupted");
    }
    Ok(())
}

fn open_registry(config: &Config, clock: Clock) -> Result<Registry> {
    let mut catalog = collodi_tools::catalog().map_err(|e| anyhow!("build the catalog: {e}"))?;
    if config.values.allow_local_providers {
        catalog.allow_local_providers();
    }
    let catalog = Arc::new(catalog);
    let path = config.profiles_path();
    let store = SqliteProfiles::open(&path, &catalog, clock())?;
    let default_registry = RegistrySlug::parse("default")?;
    let options = Options { catalog, settings: config.settings.clone(), default_registry, clock };
    Ok(Registry::open(Arc::new(store), options)?)
}

/// The profiles that a new registry starts with (chapter 20 §7).
async fn bootstrap(registry: &Registry) -> Result<()> {
    let seed = collodi_tools::seed(registry.default_registry().clone()).map_err(|e| anyhow!(e))?;
    let author =
        Author { actor: "web-chat".into(), source: "bootstrap".into(), ..Author::default() };
    registry.bootstrap(seed, author).await.context("create the first profiles")?;
    Ok(())
}

/// Middlewares and tools as the operator configured them.
fn toolbox(config: &Config) -> Result<collodi_tools::Shipped> {
    let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let v = &config.values;
    let shipped =
        collodi_tools::Shipped { sql_db: path(&v.sql_tool_db), sql_dir: path(&v.sql_tool_dir) };
    if let Some(missing) = shipped.sql_db.iter().chain(&shipped.sql_dir).find(|p| !p.exists()) {
        return Err(anyhow!("{}: no such database or folder for the SQL tool", missing.display()));
    }
    Ok(shipped)
}

fn access(config: &Config, address: SocketAddr) -> Result<Access> {
    let v = &config.values;
    let access = Access::open(address.ip().is_loopback(), v.allowed_origin.clone());
    if v.auth_tokens.is_empty() {
        return Ok(access);
    }
    let text = std::fs::read_to_string(&v.auth_tokens)
        .with_context(|| format!("read {}", v.auth_tokens))?;
    access.with_tokens(&text).map_err(|reason| anyhow!("{}: {reason}", v.auth_tokens))
}

pub(crate) fn release() -> Release {
    Release {
        product: "collodi",
        release: env!("CARGO_PKG_VERSION"),
        revision: option_env!("COLLODI_REVISION").unwrap_or_default(),
        contract: "web-chat/2026-02",
        schema_version: 1,
        apps: &["web-chat"],
    }
}

/// What an operator sees first: where it is, what it keeps, who answers, what to do next.
#[expect(clippy::print_stderr, reason = "the banner is for the person who started the server")]
fn banner(config: &Config, chats: &Path, address: SocketAddr, registry: &Registry, model: &str) {
    let url = format!("http://{address}{}/", config.root());
    let profiles: usize = registry.snapshot().registries().map(|state| state.len()).sum();
    let mut text = format!(
        "collodi {} serves {url}\n  profiles  {} ({profiles} profiles)\n  chats     {}\n  \
         model     {model}\n  next      curl -s {url}api/chat/profiles\n  stop      Ctrl-C\n",
        env!("CARGO_PKG_VERSION"),
        config.profiles_path().display(),
        chats.display(),
    );
    if model.starts_with("offline") {
        text += "  hint      set OPENAI_API_KEY, or --openai-base-url for a server of your own, for real answers\n";
    }
    for warning in &config.warnings {
        text = text + "  warning   " + warning + "\n";
    }
    eprint!("{text}");
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "these are the ids that everything else is given")]
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
