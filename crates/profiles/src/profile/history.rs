//! The append-only log of changes: version history and audit in one (decision 11, design: history is the truth).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Metadata, Profile};
use crate::ids::{ProfileSlug, RegistrySlug};

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A profile was created.
    Create,
    /// A profile was changed.
    Update,
    /// A profile was deleted; its version rises once more, so that a later namesake continues above it.
    Delete,
    /// A profile became the default; its version stays.
    SetDefault,
    /// A registry came into being.
    CreateRegistry,
    /// A profile of another program's database was taken over.
    Adopt,
    /// A profile became again what it was in an earlier version.
    Restore,
    /// A registry got other names.
    UpdateRegistry,
}

impl Operation {
    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::SetDefault => "set_default",
            Self::CreateRegistry => "create_registry",
            Self::Adopt => "adopt",
            Self::Restore => "restore",
            Self::UpdateRegistry => "update_registry",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Create,
            Self::Update,
            Self::Delete,
            Self::SetDefault,
            Self::CreateRegistry,
            Self::Adopt,
            Self::Restore,
            Self::UpdateRegistry,
        ];
        all.into_iter().find(|operation| operation.as_str() == word)
    }
}

/// Who made a change, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The name of the token or program that wrote.
    pub actor: String,
    /// The door through which it came, for example `http-api`.
    pub source: String,
    /// The author's own words; may be empty.
    pub note: String,
    /// The request that asked for it; may be empty.
    pub request_id: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// One committed change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its place in the log of the whole database: 1, 2, 3 without gaps. The highest is the revision of the database.
    pub id: u64,
    /// The registry.
    pub registry: RegistrySlug,
    /// What was done.
    pub operation: Operation,
    /// The profile, absent for changes of the registry alone.
    pub slug: Option<ProfileSlug>,
    /// The version that the profile has since, 0 without a profile.
    pub version: u64,
    /// The profile as it is since; absent after a delete and where it did not change.
    pub profile: Option<Arc<Profile>>,
    /// The same profile as the JSON text that is stored ([`Profile::document`]); empty without one.
    pub document: String,
    /// The registry as it is since.
    pub head: Arc<RegistryHead>,
    /// Who and why.
    pub stamp: Stamp,
}

impl Change {
    /// The change without its document, as it is listed.
    #[must_use]
    pub fn summary(&self) -> Value {
        let Stamp { actor, source, note, request_id, at_ms } = &self.stamp;
        let content_hash = self.profile.as_ref().map(|profile| profile.content().hash());
        json!({
            "change": self.id, "registry": self.registry, "operation": self.operation, "slug": self.slug,
            "version": self.version, "registry_version": self.head.metadata.version,
            "content_hash": content_hash.unwrap_or_default(), "actor": actor, "source": source, "note": note,
            "request_id": request_id, "at_ms": at_ms,
        })
    }
}

/// `update default/analyst (version 4) by alice`.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.operation.as_str(), self.registry)?;
        if let Some(slug) = &self.slug {
            write!(f, "/{slug} (version {})", self.version)?;
        }
        write!(f, " by {}", self.stamp.actor)
    }
}

/// What is true of a registry beside its profiles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistryHead {
    /// A name for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// A sentence for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Present whenever there are profiles (D1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_profile: Option<ProfileSlug>,
    /// `version` is the registry version of the contract: +1 with each write.
    #[serde(default)]
    pub metadata: Metadata,
}

impl RegistryHead {
    /// Chooses a default among `slugs` if the stated one is none of them (D1); says so.
    pub fn repair_default<'a>(
        &mut self,
        slugs: impl Iterator<Item = &'a ProfileSlug> + Clone,
    ) -> Option<String> {
        let stated = self.default_profile.as_ref();
        if slugs.clone().any(|slug| Some(slug) == stated) {
            return None;
        }
        let chosen = heir(slugs);
        if chosen.as_ref() == stated {
            return None;
        }
        let shown =
            |slug: Option<&ProfileSlug>| slug.map_or("none", ProfileSlug::as_str).to_owned();
        let said = format!("default profile was {}, now {}", shown(stated), shown(chosen.as_ref()));
        self.default_profile = chosen;
        Some(said)
    }
}

/// The profile that becomes the default when none is named: `default`, else the lowest slug (decision 7).
pub fn heir<'a>(slugs: impl Iterator<Item = &'a ProfileSlug>) -> Option<ProfileSlug> {
    slugs.min_by_key(|slug| (slug.as_str() != "default", *slug)).cloned()
}
