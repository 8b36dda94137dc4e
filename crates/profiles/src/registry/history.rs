//! What profiles were: versions out of the log, and what changed between two of them (chapter 10 §16).

use serde::Serialize;

use super::{Author, Registry, Stored, UpdateProfile, aside};
use crate::diff::{Difference, diff};
use crate::error::Error;
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::profile::authored;
use crate::profile::history::Change;
use crate::profile::overrides::Overrides;
use crate::profile::provenance::{Origin, provenance};
use crate::profile::resolve::{Context, EffectiveProfile, Refusal, effective};

/// What changed between two versions of a profile.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The profile.
    pub slug: ProfileSlug,
    /// The earlier version.
    pub from: u64,
    /// The later version.
    pub to: u64,
    /// By field.
    pub changes: Vec<Difference>,
}

impl Registry {
    /// The change that gave a profile this version.
    ///
    /// # Errors
    /// A version that it never had; the store's failures.
    pub async fn version(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
    ) -> Result<Change, Error> {
        let (registry, slug) = (registry.clone(), slug.clone());
        let found = self.read(move |store| store.version(&registry, &slug, version)).await?;
        found.ok_or(Error::VersionNotFound)
    }

    /// What changed between two versions of a profile: from the one before `to`, to the newest, unless asked otherwise.
    ///
    /// # Errors
    /// Registry, profile, versions that it never had; the store's failures.
    pub async fn compare(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Comparison, Error> {
        let newest = || {
            let snapshot = self.snapshot();
            let state = snapshot.registry(registry).ok_or(Error::RegistryNotFound)?;
            let stored = state.get(slug).ok_or(Error::ProfileNotFound)?;
            Ok::<u64, Error>(stored.version())
        };
        let to = match to {
            Some(to) => to,
            None => newest()?,
        };
        let from = from.unwrap_or_else(|| to.saturating_sub(1));
        let before = self.version(registry, slug, from).await?;
        let after = self.version(registry, slug, to).await?;
        let content = |change: &Change| -> Result<serde_json::Value, Error> {
            let document = serde_json::from_str(&change.document);
            Ok(authored(document.map_err(|e| Error::Internal(e.to_string()))?))
        };
        // Long prompts take a while to compare.
        let changes = aside(move || Ok(diff(&content(&before)?, &content(&after)?))).await?;
        Ok(Comparison { slug: slug.clone(), from, to, changes })
    }

    /// What a version of a profile runs under without overrides, and where every field of that comes from.
    ///
    /// # Errors
    /// Registry, a version that it never had, one that this process cannot run; the store's failures.
    pub async fn provenance(
        &self,
        registry: &RegistrySlug,
        slug: &ProfileSlug,
        version: u64,
    ) -> Result<(EffectiveProfile, Vec<Origin>), Error> {
        let change = self.version(registry, slug, version).await?;
        let profile = change.profile.ok_or(Error::VersionNotFound)?;
        let source = &change.head.metadata.source;
        let context = Context { registry, registry_source: source, settings: self.settings() };
        let of = || {
            let runtime = effective(&profile, &Overrides::default(), context, self.catalog())?;
            Ok((runtime, provenance(&profile, context, self.catalog())?))
        };
        of().map_err(|refusal: Refusal| Error::invalid("runtime", refusal.to_string()))
    }

    /// What a patch would change, by field.
    ///
    /// # Errors
    /// As [`Self::update_profile`].
    pub async fn preview_profile(
        &self,
        request: UpdateProfile,
        author: Author,
    ) -> Result<Comparison, Error> {
        let (registry, slug) = (request.registry.clone(), request.slug.clone());
        let snapshot = self.snapshot();
        let written = self.update_profile(request, author, true).await?;
        let state = snapshot.registry(&registry).ok_or(Error::RegistryNotFound)?;
        let before = state.get(&slug).ok_or(Error::ProfileNotFound)?.clone();
        let after = written.stored.ok_or(Error::ProfileNotFound)?;
        let versions = [&before, &after].map(|stored| stored.version());
        let changes = aside(move || {
            let content = |stored: &Stored| authored(serde_json::json!(stored.profile()));
            Ok(diff(&content(&before), &content(&after)))
        });
        Ok(Comparison { slug, from: versions[0], to: versions[1], changes: changes.await? })
    }
}
