//! Every way an operation on the registry can fail (chapter 10 §3), matchable apart from its text.

use std::fmt;

use crate::ids::{ProfileSlug, RegistrySlug};
use crate::quote::quote;
use crate::store::StoreError;

/// What an operation on the registry can fail with. The display texts are the contract's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The registry does not exist.
    #[error("registry not found")]
    RegistryNotFound,
    /// The profile does not exist in its registry.
    #[error("profile not found")]
    ProfileNotFound,
    /// The profile never had such a version.
    #[error("version not found")]
    VersionNotFound,
    /// A registry slug outside the grammar; holds the raw text.
    #[error("invalid registry")]
    InvalidRegistry(String),
    /// A profile slug outside the grammar; holds the raw text.
    #[error("invalid profile slug")]
    InvalidSlug(String),
    /// Rules that the value breaks: never empty, in the fixed order of the rules. The first is the text.
    #[error("{}", first_text(.0))]
    Validation(Vec<Problem>),
    /// The profile's policy forbids the operation.
    #[error("policy violation for profile {}: {reason}", quote(.profile.as_str()))]
    Policy {
        /// The profile whose policy it is.
        profile: ProfileSlug,
        /// Why, in the contract's words.
        reason: String,
    },
    /// The author may not unlock a read-only profile (decision 13).
    #[error("not allowed to unlock a read-only profile")]
    UnlockForbidden,
    /// The caller's expected version is not the stored one.
    #[error("{resource} version conflict: expected={expected} actual={actual}")]
    VersionConflict {
        /// What was to be changed.
        resource: Resource,
        /// The version that the caller expected.
        expected: u64,
        /// The stored version, 0 if there is none.
        actual: u64,
        /// The entity tag of the stored state, for the answer.
        etag: Option<String>,
    },
    /// The database is not at the revision that the caller looked at.
    #[error("revision conflict: expected={expected} actual={actual}{}", listed(.since))]
    RevisionConflict {
        /// The revision that the caller expected.
        expected: u64,
        /// The revision now.
        actual: u64,
        /// What others did since, the first of it, in words.
        since: Vec<String>,
    },
    /// `If-Match` does not name the stored version.
    #[error("precondition failed")]
    PreconditionFailed {
        /// The entity tag of the stored state.
        etag: String,
    },
    /// The database failed or is closed; nothing was written.
    #[error("profile registry unavailable")]
    Store(#[from] StoreError),
    /// A defect of the program, contained.
    #[error("profile registry unavailable")]
    Internal(String),
}

impl Error {
    /// A single broken rule.
    #[must_use]
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Validation(vec![Problem::new(field, reason)])
    }
}

/// The resource of a version conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A profile.
    Profile(ProfileSlug),
    /// A registry.
    Registry(RegistrySlug),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(slug) => write!(f, "profile {}", quote(slug.as_str())),
            Self::Registry(slug) => write!(f, "registry {}", quote(slug.as_str())),
        }
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field in wire style, for example `runtime.middlewares[0].config`; may be empty.
    pub field: String,
    /// Why, in the contract's words.
    pub reason: String,
    /// Where in the request document, as a JSON pointer.
    pub pointer: String,
    /// Which kind of rule: a JSON Schema keyword, or a word of ours (`unknown`, `limit`, `secret`, ...).
    pub keyword: &'static str,
}

impl Problem {
    /// A problem whose pointer follows from its field.
    #[must_use]
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let field = field.into();
        let pointer = pointer_of(&field);
        Self { field, reason: reason.into(), pointer, keyword: "invalid" }
    }

    /// Names the kind of rule.
    #[must_use]
    pub fn keyword(mut self, keyword: &'static str) -> Self {
        self.keyword = keyword;
        self
    }

    /// Extends the pointer by a path inside the field.
    #[must_use]
    pub fn below(mut self, pointer: &str) -> Self {
        self.pointer.push_str(pointer);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "validation error: {}", self.reason)
        } else {
            write!(f, "validation error ({}): {}", self.field, self.reason)
        }
    }
}

fn first_text(problems: &[Problem]) -> String {
    problems.first().map_or_else(|| "validation error".to_owned(), ToString::to_string)
}

fn listed(since: &[String]) -> String {
    if since.is_empty() { String::new() } else { format!("; since then: {}", since.join(", ")) }
}

/// `profile.extensions[a.b@v1]` and `runtime.tools[2]` as pointers into the request document.
fn pointer_of(field: &str) -> String {
    let field = field.strip_prefix("profile.").unwrap_or(field);
    let mut pointer = String::new();
    let mut rest = field;
    while !rest.is_empty() {
        let (segment, tail) = if let Some(inner) = rest.strip_prefix('[') {
            inner.split_once(']').unwrap_or((inner, ""))
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            rest.split_at(end)
        };
        pointer.push('/');
        pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        rest = tail.strip_prefix('.').unwrap_or(tail);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_pointers() {
        for (field, pointer) in [
            ("profile.slug", "/slug"),
            ("runtime.middlewares[0].config", "/runtime/middlewares/0/config"),
            ("profile.extensions[a.b@v1]", "/extensions/a.b@v1"),
            ("", ""),
        ] {
            assert_eq!(pointer_of(field), pointer);
        }
    }

    #[test]
    fn problems_read_as_the_contract_says() {
        let with = Problem::new("runtime.tools[0]", "must not be empty");
        assert_eq!(with.to_string(), "validation error (runtime.tools[0]): must not be empty");
        assert_eq!(Problem::new("", "broken").to_string(), "validation error: broken");
    }
}
