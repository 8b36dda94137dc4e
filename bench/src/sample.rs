//! The profiles that everything is measured with: a document of about 1.2 KB with a middleware, its configuration, an
//! extension and tags, so that a write runs through every rule.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use collodi_profiles::profile::{Draft, draft, middlewares::Writer};
use collodi_profiles::registry::{Clock, Options, Seed};
use collodi_profiles::settings::Settings as ProviderSettings;
use collodi_profiles::{Author, Catalog, Profile, ProfileSlug, Registry, RegistrySlug, Runtime};
use collodi_store::SqliteProfiles;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The digits of a body that change from write to write.
const SERIAL: &str = "0000000000";

/// The name of profile `i`.
pub(crate) fn slug(i: usize) -> String {
    format!("profile-{i:05}")
}

/// What a client writes, as the body of a PATCH and, with a slug, of a POST.
fn body() -> Value {
    let sentence = "Answer briefly, name your sources, and say so when you do not know. ";
    json!({
        "display_name": "Analyst for quarterly numbers",
        "description": format!("Reads the tables of the finance team and explains them; serial {SERIAL}."),
        "runtime": {
            "system_prompt": sentence.repeat(6).trim(),
            "middlewares": [{"name": "agentmode", "id": "main", "config": {"default_mode": "financial_analyst"}}],
            "tools": ["calculator"],
        },
        "policy": {"allow_overrides": true, "denied_override_keys": ["tools"]},
        "metadata": {"tags": ["finance", "quarterly"]},
        "extensions": {collodi_tools::STARTER_SUGGESTIONS: {"items": [
            "Which product grew most?", "Compare this quarter with the last one.", "Draw up a summary.",
        ]}},
    })
}

/// A request body whose serial is filled in at each use, without building JSON anew.
pub(crate) struct Template {
    text: String,
    at: usize,
}

impl Template {
    /// The body of a PATCH.
    pub(crate) fn patch() -> Result<Self> {
        Self::new(&body())
    }

    /// The body of a POST; the serial is in the slug too.
    pub(crate) fn create() -> Result<Self> {
        let mut body = body();
        body["description"] = json!("Reads the tables of the finance team and explains them.");
        body["slug"] = json!(format!("new-{SERIAL}"));
        Self::new(&body)
    }

    fn new(body: &Value) -> Result<Self> {
        let text = body.to_string();
        let at = text.find(SERIAL).ok_or_else(|| anyhow!("a template has a serial"))?;
        Ok(Self { text, at })
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Appends the body with serial `n`.
    pub(crate) fn write(&self, n: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.at;
        out.extend_from_slice(self.text.as_bytes());
        let digits = format!("{n:010}");
        out[start..start + SERIAL.len()].copy_from_slice(&digits.as_bytes()[..SERIAL.len()]);
    }
}

/// The draft behind every sample.
pub(crate) fn sample_draft() -> Result<Draft> {
    let body = body();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let runtime: Runtime = serde_json::from_value(body["runtime"].clone())?;
    Ok(Draft {
        display_name: text("display_name"),
        description: text("description"),
        runtime,
        policy: serde_json::from_value(body["policy"].clone())?,
        tags: serde_json::from_value(body["metadata"]["tags"].clone())?,
        extensions: body["extensions"].as_object().cloned().unwrap_or_default(),
    })
}

/// `n` profiles as a snapshot holds them.
pub(crate) fn profiles(n: usize, catalog: &Catalog) -> Result<Vec<Profile>> {
    let checked = draft::check(parse(&slug(0))?, sample_draft()?, catalog, Writer::Client);
    ensure!(checked.problems().is_none(), "the sample is valid: {:?}", checked.problems());
    let mut first = checked.profile;
    first.metadata.touch(1, "bench", "bench");
    (0..n).map(|i| Ok(Profile { slug: parse(&slug(i))?, ..first.clone() })).collect()
}

pub(crate) fn parse(text: &str) -> Result<ProfileSlug> {
    Ok(ProfileSlug::parse(text)?)
}

pub(crate) fn catalog() -> Result<Arc<Catalog>> {
    Ok(Arc::new(collodi_tools::catalog().map_err(|e| anyhow!(e))?))
}

/// What a registry of ours is opened with.
pub(crate) fn options(catalog: Arc<Catalog>) -> Result<Options> {
    let clock: Clock = Arc::new(|| 1_750_000_000_000);
    let default_registry = RegistrySlug::parse("default")?;
    Ok(Options { catalog, settings: ProviderSettings::default(), default_registry, clock })
}

/// Opens a database as the server does.
pub(crate) fn open(database: &Path) -> Result<Registry> {
    let catalog = catalog()?;
    let store = SqliteProfiles::open(database, &catalog, 1)?;
    Ok(Registry::open(Arc::new(store), options(catalog)?)?)
}

/// Databases with so many profiles, made once per run; measurements work on copies.
pub(crate) struct Seeds {
    folder: TempDir,
}

impl Seeds {
    pub(crate) fn new(out: &Path) -> Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("seeds-").tempdir_in(out)? })
    }

    /// A folder with a fresh copy of a database of `n` profiles, named `profiles.db`.
    pub(crate) fn copy(&self, n: usize) -> Result<TempDir> {
        let source = self.folder.path().join(format!("{n}.db"));
        if !source.is_file() {
            make(&source, n)?;
        }
        let parent = self.folder.path();
        let copy = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
        let target = database_in(copy.path());
        std::fs::copy(&source, &target)?;
        // What is measured must not wait for the copy's own pages.
        std::fs::File::open(&target)?.sync_all()?;
        Ok(copy)
    }
}

pub(crate) fn database_in(folder: &Path) -> PathBuf {
    folder.join("profiles.db")
}

fn make(path: &Path, n: usize) -> Result<()> {
    let registry = open(path)?;
    let draft = sample_draft()?;
    let profiles = (0..n).map(|i| Ok((parse(&slug(i))?, draft.clone())));
    let seed = Seed {
        registry: registry.default_registry().clone(),
        profiles: profiles.collect::<Result<_>>()?,
        default_profile: parse(&slug(0))?,
    };
    let author = Author { actor: "bench".into(), source: "bench".into(), ..Author::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(registry.bootstrap(seed, author))?;
    drop(registry);
    let log = path.with_extension("db-wal");
    ensure!(!log.exists(), "{} was not folded into its database", log.display());
    Ok(())
}
