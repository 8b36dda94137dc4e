//! What a profile is (chapter 10 §2). The keys and omissions are those of the wire; YAML has its own in [`yaml`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ExtensionKey, ProfileSlug};
use crate::json::{Members, Object};

pub mod adopt;
pub mod document;
pub mod draft;
pub mod extensions;
pub mod history;
pub mod middlewares;
pub mod overrides;
pub mod patch;
pub mod provenance;
pub mod resolve;
pub mod validate;
pub mod yaml;

pub use document::{Content, Rendered, authored};
pub use draft::Draft;
pub use patch::ProfilePatch;

/// Typed extensions by canonical key.
pub type Extensions = BTreeMap<ExtensionKey, Value>;

/// A named, versioned runtime preset. Values of this type have passed validation when they come from a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name in the registry.
    pub slug: ProfileSlug,
    /// A name for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// A sentence for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What a conversation runs under.
    #[serde(default)]
    pub runtime: Runtime,
    /// Who may change what.
    #[serde(default)]
    pub policy: Policy,
    /// Version, times and authors.
    #[serde(default)]
    pub metadata: Metadata,
    /// Typed extensions, middleware configurations among them.
    #[serde(default, skip_serializing_if = "Extensions::is_empty")]
    pub extensions: Extensions,
}

impl Profile {
    /// The content that its author owns: everything but the server-owned metadata.
    #[must_use]
    pub fn content(&self) -> Content {
        Content::of(self)
    }

    /// The JSON text that is stored.
    #[must_use]
    pub fn document(&self) -> String {
        self.content().document(&self.metadata)
    }
}

/// What a conversation runs under.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// Provider settings by section and field, laid over the operator's (chapter 40 §13).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Object::is_empty")]
    pub step_settings_patch: Object,
    /// The system prompt; empty means the server's own default.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub system_prompt: String,
    /// Middlewares in the order in which they run.
    #[serde(default, deserialize_with = "uses", skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<MiddlewareUse>,
    /// Names of tools: absent means all, empty means none (decision 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
}

/// One use of a middleware.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MiddlewareUse {
    /// The definition's name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// The instance, unique in the profile; empty when there is none.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Absent means enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Inline configuration. Stored profiles have none: writing moves it into an extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

impl MiddlewareUse {
    /// Whether it runs.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled != Some(false)
    }
}

/// Who may change what (chapter 10 §6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether a request may override parts of the runtime at all.
    #[serde(default, deserialize_with = "or_default")]
    pub allow_overrides: bool,
    /// Keys that may be overridden; empty means no such list.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub allowed_override_keys: Vec<String>,
    /// Keys that may not; it wins over the allow list.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub denied_override_keys: Vec<String>,
    /// Whether update and delete are refused.
    #[serde(default, deserialize_with = "or_default")]
    pub read_only: bool,
}

/// Version, times and authors of a profile or a registry. All but the tags belong to the server (decision 11).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Where the last write came from.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Rises by one with each change; at least 1 once stored.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub version: u64,
    /// Unix milliseconds.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero_time")]
    pub created_at_ms: i64,
    /// Unix milliseconds; never decreases.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero_time")]
    pub updated_at_ms: i64,
    /// Who created it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who changed it last.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub updated_by: String,
    /// Words to find it by; the author's.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Where versions stop rising: databases keep them as signed 64-bit integers.
pub const MAX_VERSION: u64 = i64::MAX as u64;

impl Metadata {
    /// Makes it the metadata of the next version (chapter 10 §5). Time never runs backwards for one resource, and a
    /// version that could not rise any more stays, so that it never wraps (D7). An empty name keeps the one before.
    pub fn touch(&mut self, now_ms: i64, actor: &str, source: &str) {
        let put = |new: &str, place: &mut String| {
            if !new.is_empty() && new != place {
                new.clone_into(place);
            }
        };
        self.version = self.version.saturating_add(1).min(MAX_VERSION);
        self.updated_at_ms = now_ms.max(self.updated_at_ms);
        if self.created_at_ms == 0 {
            self.created_at_ms = self.updated_at_ms;
        }
        if self.created_by.is_empty() {
            put(actor, &mut self.created_by);
        }
        put(actor, &mut self.updated_by);
        put(source, &mut self.source);
    }
}

/// `null` is the same as absent (chapter 20 §3.4).
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn uses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<MiddlewareUse>, D::Error> {
    let uses: Vec<Members<MiddlewareUse>> = or_default(deserializer)?;
    Ok(uses.into_iter().map(|Members(used)| used).collect())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_time(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_follows_the_rules_of_chapter_10_section_5() {
        let mut first = Metadata::default();
        first.touch(100, "ann", "http-api");
        assert_eq!((first.version, first.created_at_ms, first.updated_at_ms), (1, 100, 100));
        let mut later = first.clone();
        later.touch(90, "", "");
        assert_eq!((later.version, later.created_at_ms, later.updated_at_ms), (2, 100, 100));
        assert_eq!((later.created_by.as_str(), later.updated_by.as_str()), ("ann", "ann"));
        assert_eq!(later.source, "http-api");
    }

    #[test]
    fn c10_d7_a_version_never_wraps() {
        let mut full = Metadata { version: u64::MAX, ..Metadata::default() };
        full.touch(1, "a", "b");
        assert_eq!(full.version, MAX_VERSION);
    }

    #[test]
    fn c10_d19_absent_tools_and_no_tools_differ() {
        let all: Runtime = serde_json::from_str("{}").unwrap();
        let none: Runtime = serde_json::from_str(r#"{"tools":[]}"#).unwrap();
        assert_eq!((all.tools.as_deref(), none.tools.as_deref()), (None, Some(&[][..])));
        assert_eq!(serde_json::to_string(&none).unwrap(), r#"{"tools":[]}"#);
    }
}
