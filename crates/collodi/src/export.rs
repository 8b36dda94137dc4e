//! `collodi profiles export`: the registry as one YAML bundle, on standard output or in a file that is replaced whole.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::ArgMatches;
use collodi_profiles::profile::yaml;
use collodi_profiles::store::ProfileStore as _;
use collodi_store::SqliteProfiles;

/// Writes the bundle and says nothing else.
///
/// # Errors
/// A database that is missing or refused, or a file that cannot be written.
pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let text = |name: &str| matches.get_one::<String>(name).map(PathBuf::from);
    let data_dir = text("data-dir").unwrap_or_else(|| "./data".into());
    let path = text("profile-registry-db").unwrap_or_else(|| data_dir.join("profiles.db"));
    let contents = SqliteProfiles::open_existing(&path)?.load()?;
    let registries = contents
        .registries
        .iter()
        .map(|(slug, stored)| (slug, &stored.head, stored.profiles.iter().collect()));
    let bundle = yaml::encode(registries).map_err(|e| anyhow!("encode the registry: {e}"))?;
    let Some(file) = text("to") else {
        return std::io::stdout().write_all(bundle.as_bytes()).context("write to standard output");
    };
    collodi_store::file::replace(&file, bundle.as_bytes())
        .with_context(|| format!("write {}", file.display()))
}
