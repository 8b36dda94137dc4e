//! The service: reads are a pointer to an immutable [`Snapshot`], writes go through the one writer thread, which loads,
//! decides, commits and only then publishes and answers (D2, D4, D5).

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, oneshot};

use crate::catalog::Catalog;
use crate::error::Error;
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::Metadata;
use crate::profile::draft::{self, Draft};
use crate::profile::history::Stamp;
use crate::profile::middlewares::Writer;
use crate::profile::overrides::Overrides;
use crate::profile::patch::{self, ProfilePatch};
use crate::profile::resolve::{Context, EffectiveProfile, Refusal, effective};
use crate::settings::Settings;
use crate::store::{ProfileStore, StoreError, StoreErrorKind};

mod answers;
mod bundle;
mod by_slug;
mod decide;
mod history;
mod snapshot;
mod writer;

use answers::Waiting;
pub use bundle::{Applied, ApplyBundle, SOURCE, Step};
pub use decide::{CreateProfile, Guard, IfMatch, MakeDefault, RestoreProfile, UpdateProfile};
pub use history::Comparison;
pub use snapshot::{Filter, Page, RegistryState, Snapshot, Stored};
use writer::{Command, Message};

/// Unix milliseconds, now; passed in so that tests replay.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Commands that may wait for the writer at once; further callers wait for a place.
const WAITING_COMMANDS: usize = 1024;

/// Who writes, and why.
#[derive(Debug, Clone, Default)]
pub struct Author {
    /// The name of the token or program.
    pub actor: String,
    /// The door, for example `http-api`.
    pub source: String,
    /// In the author's words, at most 500 bytes; may be empty.
    pub note: String,
    /// The request; may be empty.
    pub request_id: String,
}

/// What a write left behind: the state that this command committed, not what others made of it since (H3).
#[derive(Debug, Clone)]
pub struct Written {
    /// The registry.
    pub registry: RegistrySlug,
    /// The profile, absent after a delete.
    pub stored: Option<Arc<Stored>>,
    /// Whether the profile is the default.
    pub is_default: bool,
    /// The registry's version.
    pub registry_version: u64,
}

/// What a registry starts with when it is new (chapter 20 §7).
#[derive(Debug, Clone)]
pub struct Seed {
    /// The registry.
    pub registry: RegistrySlug,
    /// Its first profiles.
    pub profiles: Vec<(ProfileSlug, Draft)>,
    /// Which of them is the default; the lowest slug if it is none of them.
    pub default_profile: ProfileSlug,
}

/// The registry service. Cheap to share; dropping the last handle stops the writer thread after the queued commands.
pub struct Registry {
    published: Arc<ArcSwap<Snapshot>>,
    catalog: Arc<Catalog>,
    settings: Settings,
    fallback: RegistrySlug,
    clock: Clock,
    store: Arc<dyn ProfileStore>,
    queue: mpsc::Sender<Message>,
    places: Arc<Semaphore>,
    thread: std::sync::Mutex<Option<thread::JoinHandle<()>>>,
}

/// What a registry is opened with.
pub struct Options {
    /// What profiles may name.
    pub catalog: Arc<Catalog>,
    /// The operator's provider settings.
    pub settings: Settings,
    /// The registry that requests mean when they name none.
    pub default_registry: RegistrySlug,
    /// The time.
    pub clock: Clock,
}

impl Registry {
    /// Loads everything and starts the writer thread. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read or opened for writing.
    pub fn open(store: Arc<dyn ProfileStore>, options: Options) -> Result<Self, StoreError> {
        let mut registry = Self::open_for_reading(store, options)?;
        let session = registry.store.writer()?;
        let (queue, commands) = mpsc::channel();
        let writer = writer::Worker::new(session, registry.published.clone());
        let thread = thread::Builder::new()
            .name("registry-writer".into())
            .spawn(move || writer.run(&commands))
            .map_err(|e| {
                StoreError::new(StoreErrorKind::Other, format!("start the writer thread: {e}"))
            })?;
        registry.queue = queue;
        registry.thread = std::sync::Mutex::new(Some(thread));
        Ok(registry)
    }

    /// Loads everything, for a look: writes fail, what others commit is not seen. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_for_reading(
        store: Arc<dyn ProfileStore>,
        options: Options,
    ) -> Result<Self, StoreError> {
        let snapshot = Snapshot::from_contents(store.load()?);
        let (queue, _) = mpsc::channel();
        Ok(Self {
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            catalog: options.catalog,
            settings: options.settings,
            fallback: options.default_registry,
            clock: options.clock,
            store,
            queue,
            places: Arc::new(Semaphore::new(WAITING_COMMANDS)),
            thread: std::sync::Mutex::default(),
        })
    }

    /// The committed state, at no cost. Use one snapshot for one answer (H2).
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// The registry that requests mean when they name none.
    #[must_use]
    pub fn default_registry(&self) -> &RegistrySlug {
        &self.fallback
    }

    /// What profiles may name.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The operator's provider settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The database behind, for history, audit and readiness.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ProfileStore> {
        &self.store
    }

    /// Reads the log, off the threads that serve.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn ProfileStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        aside(move || Ok(read(&*store)?)).await
    }

    /// Whether the database and whoever writes it answer, for readiness. Waits behind the writes under way.
    ///
    /// # Errors
    /// When they do not; a registry that is closed or was opened for reading has nobody who writes.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let closed = || StoreError::new(StoreErrorKind::Closed, "the registry is closed");
        let (answer, answered) = oneshot::channel();
        self.queue.send(Message::Ping(answer)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Resolves a stored profile. Without overrides the result is computed once per version and shared.
    ///
    /// # Errors
    /// Overrides that do not fit, and profiles that this process cannot run.
    pub fn resolve(
        &self,
        state: &RegistryState,
        stored: &Stored,
        overrides: &Overrides,
    ) -> Result<Arc<EffectiveProfile>, Refusal> {
        let context = Context {
            registry: state.slug(),
            registry_source: &state.head().metadata.source,
            settings: &self.settings,
        };
        if overrides.keeps_profile() {
            return stored.effective(|profile| {
                effective(profile, overrides, context, &self.catalog).map(Arc::new)
            });
        }
        effective(&stored.profile(), overrides, context, &self.catalog).map(Arc::new)
    }

    /// What a profile would run under after `patch`, or a new one that says this; nothing is written. Its version is 0.
    /// Takes a while for large ones. A locked profile is tried by whoever may unlock it: what an operator set there would
    /// otherwise run under rules that an operator did not.
    ///
    /// # Errors
    /// Registry, a locked profile, broken rules, and what this process cannot run.
    pub fn resolve_draft(
        &self,
        registry: &RegistrySlug,
        slug: ProfileSlug,
        patch: ProfilePatch,
        may_unlock: bool,
    ) -> Result<Arc<EffectiveProfile>, Error> {
        let snapshot = self.snapshot();
        let state = snapshot.registry(registry).ok_or(Error::RegistryNotFound)?;
        let blank = |slug| draft::check(slug, Draft::default(), &self.catalog, Writer::Client);
        let before = state.get(&slug).map(|stored| stored.profile());
        let before = before.unwrap_or_else(|| blank(slug).profile);
        if before.policy.read_only && !may_unlock {
            return Err(decide::read_only(&before.slug));
        }
        let checked = patch::apply(&before, patch, &self.catalog);
        if let Some(problems) = checked.problems() {
            return Err(Error::Validation(problems));
        }
        let mut profile = checked.profile;
        profile.metadata = Metadata { source: "draft".into(), ..Metadata::default() };
        let context = Context {
            registry,
            registry_source: &state.head().metadata.source,
            settings: &self.settings,
        };
        let resolved = effective(&profile, &Overrides::default(), context, &self.catalog);
        resolved.map(Arc::new).map_err(|refusal| Error::invalid("runtime", refusal.to_string()))
    }

    /// Creates a profile (chapter 20 §5.2).
    ///
    /// # Errors
    /// In the contract's order: configuration of middlewares, registry, slug, rules, taken slug, versions, store.
    pub async fn create_profile(
        &self,
        request: CreateProfile,
        author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        let command = decide::create_profile(request, &self.catalog, &self.fallback)?;
        self.execute(command, author, dry_run).await
    }

    /// Changes a profile (chapter 20 §5.4). An empty patch changes nothing and answers the stored state.
    ///
    /// # Errors
    /// In the contract's order: registry, profile, configuration, read-only, rules, versions, store.
    pub async fn update_profile(
        &self,
        request: UpdateProfile,
        author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        let command = decide::update_profile(request, self.catalog.clone());
        self.execute(command, author, dry_run).await
    }

    /// Deletes a profile; if it was the default, another takes its place (D1, decision 7).
    ///
    /// # Errors
    /// Registry, profile, read-only, versions, store.
    pub async fn delete_profile(
        &self,
        registry: RegistrySlug,
        slug: ProfileSlug,
        guard: Guard,
        author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        self.execute(decide::delete_profile(registry, slug, guard), author, dry_run).await
    }

    /// Makes a profile the default of its registry (chapter 20 §5.6).
    ///
    /// # Errors
    /// Registry, profile, versions, store.
    pub async fn set_default(
        &self,
        request: MakeDefault,
        author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        self.execute(decide::set_default(request), author, dry_run).await
    }

    /// Makes a profile again what it was: a new version, marked as restored. A deleted profile comes back.
    ///
    /// # Errors
    /// As [`Self::update_profile`]; a version that it never had; no expected version.
    pub async fn restore_profile(
        &self,
        request: RestoreProfile,
        mut author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        let version = request.version;
        let change = self.version(&request.registry, &request.slug, version).await?;
        let earlier = change.profile.ok_or(Error::VersionNotFound)?;
        let words = format!("restored from version {version}");
        author.note =
            if author.note.is_empty() { words } else { format!("{words}: {}", author.note) };
        let command = decide::restore_profile(request, &earlier, &self.catalog)?;
        self.execute(command, author, dry_run).await
    }

    /// Fills a registry that is missing or has no profiles; says whether it did.
    ///
    /// # Errors
    /// Seeds that break a rule, and the store's failures.
    pub async fn bootstrap(&self, seed: Seed, author: Author) -> Result<bool, Error> {
        if self.snapshot().registry(&seed.registry).is_some_and(|state| !state.is_empty()) {
            return Ok(false);
        }
        let mut profiles = Vec::new();
        for (slug, draft) in seed.profiles {
            let checked = draft::check(slug, draft, &self.catalog, Writer::Operator);
            if let Some(problems) = checked.problems() {
                return Err(Error::Validation(problems));
            }
            profiles.push(checked.profile);
        }
        // Another server may have been faster; then nothing happens.
        let command = decide::bootstrap(seed.registry, profiles, seed.default_profile);
        self.execute(command, author, false).await?;
        Ok(true)
    }

    async fn execute(
        &self,
        decision: decide::Decision,
        author: Author,
        dry_run: bool,
    ) -> Result<Written, Error> {
        let command = Command::new(decision, author.stamp((self.clock)()));
        if dry_run {
            return command.rehearse(&self.snapshot());
        }
        let closed =
            || Error::Store(StoreError::new(StoreErrorKind::Closed, "the registry is closed"));
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        let (waiting, answered) = Waiting::new(place);
        // Once queued the command runs to its end, whether or not the caller still waits (D2).
        self.queue.send(Message::Execute(command, waiting)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Stops the writer after the queued commands. Reads go on from the last snapshot; writes fail. Blocks; idempotent.
    pub fn close(&self) {
        let thread = self.thread.lock().ok().and_then(|mut slot| slot.take());
        if let Some(thread) = thread {
            self.places.close();
            let _ = self.queue.send(Message::Close);
            if thread.join().is_err() {
                tracing::error!("registry writer ended in a panic");
            }
        }
    }
}

/// Work that waits or computes, off the threads that serve.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(e.to_string()))?
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.close();
    }
}

impl Author {
    fn stamp(self, at_ms: i64) -> Stamp {
        Stamp {
            actor: self.actor,
            source: self.source,
            note: self.note,
            request_id: self.request_id,
            at_ms,
        }
    }
}
