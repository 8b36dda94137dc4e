//! Where profiles are: a server, over its API, or a database, which servers may be using at the same time. Both answer
//! in the words of the API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
use collodi_profiles::diff::Difference;
use collodi_profiles::profile::history::Change;
use collodi_profiles::profile::middlewares::Writer;
use collodi_profiles::profile::{Draft, ProfilePatch};
use collodi_profiles::registry::{
    ApplyBundle, Comparison, Filter, Guard, Options, RestoreProfile, SOURCE, Stored, UpdateProfile,
    Written,
};
use collodi_profiles::settings::Settings;
use collodi_profiles::{Author, Catalog, Error, ProfileSlug, Registry, RegistrySlug};
use collodi_store::SqliteProfiles;
use collodi_store::snapshot::{self, Kind, Source};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::target::{Answer, Target};

/// A server, or a database.
pub(crate) enum Place {
    Server(Target),
    Database {
        registry: Registry,
        /// The folder of a copy, which goes when this does.
        _copy: Option<TempDir>,
    },
}

/// A file to be made true, or to be compared.
pub(crate) struct Apply {
    pub(crate) text: String,
    pub(crate) only_add: bool,
    pub(crate) prune: bool,
    pub(crate) expected_revision: Option<u64>,
    pub(crate) note: String,
    pub(crate) dry_run: bool,
}

/// The catalog that files and databases are judged by.
pub(crate) fn catalog(matches: &ArgMatches) -> Result<Arc<Catalog>> {
    let mut catalog = collodi_tools::catalog().map_err(|e| anyhow!("build the catalog: {e}"))?;
    if matches.get_flag("allow-local-providers") {
        catalog.allow_local_providers();
    }
    Ok(Arc::new(catalog))
}

/// The file of `--profile-registry-db`, or the one in `--data-dir`. What was typed counts before the environment.
///
/// # Errors
/// Both typed.
pub(crate) fn database_path(matches: &ArgMatches) -> Result<Option<PathBuf>> {
    let given = |name: &str| matches.get_one::<String>(name).map(PathBuf::from);
    let typed = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    let of_folder = given("data-dir").map(|folder| folder.join("profiles.db"));
    Ok(match (typed("profile-registry-db"), typed("data-dir")) {
        (true, true) => bail!("give --data-dir or --profile-registry-db, not both"),
        (false, true) => of_folder,
        _ => given("profile-registry-db").or(of_folder),
    })
}

/// The registry of `--registry`.
pub(crate) fn registry(matches: &ArgMatches) -> Result<RegistrySlug> {
    let slug = matches.get_one::<String>("registry").map_or("default", String::as_str);
    RegistrySlug::parse(slug).map_err(|e| anyhow!("--registry {slug}: {e}"))
}

impl Place {
    /// `--target`, else `--profile-registry-db`, else `--data-dir`.
    ///
    /// # Errors
    /// Several of them; a database that is missing, foreign or in need of a migration.
    pub(crate) fn open(matches: &ArgMatches, writes: bool) -> Result<Self> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let typed = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        if let Some(url) = text("target") {
            if typed("data-dir") || typed("profile-registry-db") {
                bail!("give --target, or a database");
            }
            let token = text("token").filter(|token| !token.is_empty());
            return Ok(Self::Server(Target::new(&url, token)?.with_documents()));
        }
        let path = database_path(matches)?.unwrap_or_else(|| "./data/profiles.db".into());
        Self::database(&path, catalog(matches)?, writes)
    }

    /// A database of ours, or to look at one of the Go reference.
    ///
    /// # Errors
    /// One that is missing, foreign or in need of a migration.
    pub(crate) fn database(path: &Path, catalog: Arc<Catalog>, writes: bool) -> Result<Self> {
        // Servers create, migrate and adopt databases; this only works on what is there.
        let (store, copy) = match SqliteProfiles::open_existing(path) {
            Ok(store) if writes => {
                drop(store);
                (SqliteProfiles::open(path, &catalog, crate::assemble::now_ms())?, None)
            }
            Ok(store) => (store, None),
            Err(_) if !writes && is_of_reference(path) => adopted_copy(path, &catalog)?,
            Err(error) => return Err(error.into()),
        };
        let options = Options {
            catalog,
            settings: Settings::default(),
            default_registry: RegistrySlug::parse("default")?,
            clock: Arc::new(crate::assemble::now_ms),
        };
        let open = if writes { Registry::open } else { Registry::open_for_reading };
        Ok(Self::Database { registry: open(Arc::new(store), options)?, _copy: copy })
    }

    /// The list of the API.
    pub(crate) async fn list(&self, of: &RegistrySlug) -> Result<Value> {
        match self {
            Self::Server(server) => {
                told(server.get(&format!("/api/chat/profiles?registry={of}")).await?)
            }
            Self::Database { registry, .. } => {
                let snapshot = registry.snapshot();
                let state = snapshot.registry(of).ok_or(Error::RegistryNotFound)?;
                Ok(serde_json::from_slice(&state.list(&Filter::default()).body)?)
            }
        }
    }

    /// A profile, now or at one of its versions.
    pub(crate) async fn document(
        &self,
        of: &RegistrySlug,
        slug: &ProfileSlug,
        version: Option<u64>,
    ) -> Result<Value> {
        let registry = match self {
            Self::Server(server) => {
                let at = version.map_or_else(String::new, |n| format!("/versions/{n}"));
                let path = format!("/api/chat/profiles/{slug}{at}?registry={of}");
                return told(server.get(&path).await?);
            }
            Self::Database { registry, .. } => registry,
        };
        if let Some(version) = version {
            let change = registry.version(of, slug, version).await?;
            return Ok(serde_json::from_str(&change.document)?);
        }
        let stored = stored(registry, of, slug)?;
        Ok(serde_json::from_str(&stored.profile().document())?)
    }

    /// Changes of a profile, the newest first.
    pub(crate) async fn history(
        &self,
        of: &RegistrySlug,
        slug: &ProfileSlug,
        limit: usize,
    ) -> Result<Vec<Value>> {
        match self {
            Self::Server(server) => {
                let path =
                    format!("/api/chat/profiles/{slug}/versions?registry={of}&limit={limit}");
                let found = told(server.get(&path).await?)?;
                Ok(found.as_array().cloned().unwrap_or_default())
            }
            Self::Database { registry, .. } => {
                let (of, name) = (of.clone(), slug.clone());
                let read = registry.read(move |store| store.history(&of, &name, 0, limit)).await?;
                if read.is_empty() {
                    return Err(Error::ProfileNotFound.into());
                }
                Ok(read.iter().map(Change::summary).collect())
            }
        }
    }

    /// What changed between two versions.
    pub(crate) async fn diff(
        &self,
        of: &RegistrySlug,
        slug: &ProfileSlug,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Vec<Difference>> {
        match self {
            Self::Server(server) => {
                let mut path = format!("/api/chat/profiles/{slug}/diff?registry={of}");
                for (key, version) in [("from", from), ("to", to)] {
                    if let Some(version) = version {
                        path = format!("{path}&{key}={version}");
                    }
                }
                let mut found = told(server.get(&path).await?)?;
                Ok(serde_json::from_value(found["changes"].take())?)
            }
            Self::Database { registry, .. } => {
                let Comparison { changes, .. } = registry.compare(of, slug, from, to).await?;
                Ok(changes)
            }
        }
    }

    /// Makes a profile again what it was, if it is at the expected version; as it is since.
    pub(crate) async fn restore(
        &self,
        of: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
        expected_version: u64,
        note: String,
    ) -> Result<Value> {
        match self {
            Self::Server(server) => {
                let body = json!({
                    "registry": of, "version": version, "expected_version": expected_version, "note": note,
                });
                let path = format!("/api/chat/profiles/{slug}/restore");
                told(server.post(&path, &body).await?)
            }
            Self::Database { registry, .. } => {
                let guard = Guard { expected_version, if_match: None };
                let (of, slug, writer) = (of.clone(), slug.clone(), Writer::Operator);
                let request = RestoreProfile { registry: of, slug, version, guard, writer };
                committed(registry.restore_profile(request, author("cli", note), false).await?)
            }
        }
    }

    /// Changes a profile, if it is at the expected version; as it is since. A configuration of a middleware that stays is
    /// kept where the draft has none (decision 9).
    pub(crate) async fn update(
        &self,
        of: &RegistrySlug,
        slug: &ProfileSlug,
        draft: Draft,
        expected_version: u64,
        note: String,
    ) -> Result<Value> {
        match self {
            Self::Server(server) => {
                let body = json!({
                    "display_name": draft.display_name, "description": draft.description,
                    "runtime": draft.runtime, "policy": draft.policy, "metadata": {"tags": draft.tags},
                    "extensions": draft.extensions, "expected_version": expected_version, "note": note,
                });
                let path = format!("/api/chat/profiles/{slug}?registry={of}");
                told(server.patch(&path, &body).await?)
            }
            Self::Database { registry, .. } => {
                let patch = ProfilePatch {
                    display_name: Some(draft.display_name),
                    description: Some(draft.description),
                    runtime: Some(draft.runtime),
                    policy: Some(draft.policy),
                    says_writable: false,
                    tags: Some(draft.tags),
                    extensions: Some(draft.extensions),
                };
                let request = UpdateProfile {
                    registry: of.clone(),
                    slug: slug.clone(),
                    patch,
                    set_default: false,
                    guard: Guard { expected_version, if_match: None },
                    may_unlock: true,
                };
                committed(registry.update_profile(request, author("cli", note), false).await?)
            }
        }
    }

    /// Everything, or one registry, as YAML.
    pub(crate) async fn export(&self, only: Option<&RegistrySlug>) -> Result<String> {
        match self {
            Self::Server(server) => {
                let query = only.map_or_else(String::new, |slug| format!("?registry={slug}"));
                Ok(answered(server.get(&format!("/api/chat/bundle{query}")).await?)?.text)
            }
            Self::Database { registry, .. } => Ok(registry.snapshot().export(only)?),
        }
    }

    /// Compares with a file, or makes it true: `{revision, steps}` of the API.
    pub(crate) async fn apply(&self, of: &RegistrySlug, apply: Apply) -> Result<Value> {
        let Apply { text, only_add, prune, expected_revision, note, dry_run } = apply;
        match self {
            Self::Server(server) => {
                let body = json!({
                    "bundle": text, "registry": of, "only_add": only_add, "prune": prune,
                    "expected_revision": expected_revision, "note": note,
                });
                let query = if dry_run { "?dry_run=1" } else { "" };
                told(server.post(&format!("/api/chat/bundle{query}"), &body).await?)
            }
            Self::Database { registry, .. } => {
                let request = ApplyBundle {
                    text,
                    registry: of.clone(),
                    only_add,
                    prune,
                    expected_revision,
                    writer: Writer::Operator,
                };
                let applied = registry.apply_bundle(request, author(SOURCE, note), dry_run).await?;
                let revision = if dry_run { applied.from } else { applied.to };
                Ok(json!({"revision": revision, "steps": applied.steps}))
            }
        }
    }
}

fn source(path: &Path) -> Source {
    Source { path: path.to_owned(), is_chats: false }
}

fn is_of_reference(path: &Path) -> bool {
    matches!(snapshot::kind_of(&source(path)), Ok((Kind::ReferenceProfiles, _)))
}

/// What our server would make of a database of the Go reference, without touching it.
fn adopted_copy(path: &Path, catalog: &Catalog) -> Result<(SqliteProfiles, Option<TempDir>)> {
    let now = crate::assemble::now_ms();
    let folder = tempfile::tempdir().context("make a folder for a copy")?;
    let taken = folder.path().join("copy");
    let manifest = snapshot::take(&[source(path)], &taken, "look", now)?;
    let file = &manifest.databases.first().context("the copy has no database")?.file;
    let store = SqliteProfiles::open(&taken.join(file), catalog, now)?;
    Ok((store, Some(folder)))
}

fn stored(registry: &Registry, of: &RegistrySlug, slug: &ProfileSlug) -> Result<Arc<Stored>> {
    let snapshot = registry.snapshot();
    let state = snapshot.registry(of).ok_or(Error::RegistryNotFound)?;
    Ok(state.get(slug).ok_or(Error::ProfileNotFound)?.clone())
}

/// Whoever is logged in writes, and the log says so.
fn author(source: &str, note: String) -> Author {
    let actor = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let actor = actor.filter(|name| !name.is_empty()).unwrap_or_else(|| "cli".into());
    Author { actor, source: source.into(), note, request_id: String::new() }
}

/// What a write left.
fn committed(written: Written) -> Result<Value> {
    let stored = written.stored.context("the profile is gone")?;
    Ok(serde_json::from_str(&stored.profile().document())?)
}

/// The version of a profile, or of the answer to a write.
pub(crate) fn version_of(document: &Value) -> Result<u64> {
    document["metadata"]["version"].as_u64().context("the answer has no version")
}

fn answered(answer: Answer) -> Result<Answer> {
    if answer.status == 404 && answer.text.contains("404 page not found") {
        bail!("this server has no such endpoint: it is none of ours, or an older one");
    }
    if !(200..300).contains(&answer.status) {
        bail!("{}", answer.problem());
    }
    Ok(answer)
}

fn told(answer: Answer) -> Result<Value> {
    Ok(serde_json::from_str(&answered(answer)?.text)?)
}
