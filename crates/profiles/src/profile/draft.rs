//! A profile as somebody wrote it, before the rules have seen it, and the one way from there to a valid profile. The
//! API, bootstrap, YAML files and adopted databases all pass through here (D11).

use serde_json::Value;

use super::middlewares::{Writer, check_loose_slots, follow_uses, keep_unmentioned, place_configs};
use super::{Content, Extensions, Metadata, Policy, Profile, Runtime, extensions, validate};
use crate::catalog::Catalog;
use crate::error::Problem;
use crate::ids::ProfileSlug;
use crate::json::Object;

/// What an author writes.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Trimmed on the way in.
    pub display_name: String,
    /// Trimmed on the way in.
    pub description: String,
    /// Prompt, middlewares, tools, settings; absent means all defaults.
    pub runtime: Runtime,
    /// Who may change what.
    pub policy: Policy,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Extensions under keys as written.
    pub extensions: Object,
}

/// A draft after the rules have run: the profile it makes, and what is wrong with it.
///
/// The two lists are apart because the contract reports them at different places: `configs` before anything is known
/// about the registry, `rules` after (chapter 20 §5.2 and §5.4).
#[derive(Debug)]
pub struct Checked {
    /// The profile, canonical; meaningful only when both lists are empty.
    pub profile: Profile,
    /// Its content, hashed and measured once.
    pub content: Content,
    /// Problems with middlewares and their configuration (chapter 20 §6).
    pub configs: Vec<Problem>,
    /// Problems with extensions and the profile's own rules (chapter 10 §4 and §7), limits and settings.
    pub rules: Vec<Problem>,
}

impl Checked {
    /// All problems in the order of the contract, when `configs` has any.
    #[must_use]
    pub fn config_problems(&self) -> Option<Vec<Problem>> {
        (!self.configs.is_empty()).then(|| self.all())
    }

    /// All problems in the order of the contract, when there are any.
    #[must_use]
    pub fn problems(&self) -> Option<Vec<Problem>> {
        let all = self.all();
        (!all.is_empty()).then_some(all)
    }

    fn all(&self) -> Vec<Problem> {
        self.configs.iter().chain(&self.rules).cloned().collect()
    }
}

/// Which parts the author wrote in this request; the newer rules look at these only, so that an adopted profile that
/// breaks them can still be edited elsewhere (decision 6).
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// `runtime` was given.
    pub runtime: bool,
    /// `extensions` was given.
    pub extensions: bool,
}

impl Named {
    /// Everything, as in a new profile.
    pub const ALL: Self = Self { runtime: true, extensions: true };

    /// Whether configurations have to be looked at.
    #[must_use]
    pub fn any(self) -> bool {
        self.runtime || self.extensions
    }
}

/// Checks a new profile.
#[must_use]
pub fn check(slug: ProfileSlug, draft: Draft, catalog: &Catalog, writer: Writer) -> Checked {
    let mut rules = Vec::new();
    let extensions = extensions::normalise(draft.extensions, catalog, &mut rules);
    let metadata = Metadata { tags: draft.tags, ..Metadata::default() };
    check_loose_slots(&draft.runtime, &extensions, catalog, &mut rules);
    let profile = Profile {
        slug,
        display_name: draft.display_name.trim().to_owned(),
        description: draft.description.trim().to_owned(),
        runtime: draft.runtime,
        policy: draft.policy,
        metadata,
        extensions,
    };
    finish(profile, &Extensions::new(), Named::ALL, catalog, writer, rules)
}

/// Checks the profile that a patch makes of `stored`: `profile` has the patched fields already, all but the extensions,
/// which are given as written, when they are.
#[must_use]
pub fn check_patched(
    stored: &Profile,
    mut profile: Profile,
    written: Option<Object>,
    named: Named,
    catalog: &Catalog,
) -> Checked {
    let mut rules = Vec::new();
    let (old, new) = (&stored.runtime.middlewares, &profile.runtime.middlewares);
    let kept = follow_uses(old, new, &stored.extensions, catalog);
    profile.extensions = match written {
        Some(written) => {
            let mut extensions = extensions::normalise(written, catalog, &mut rules);
            check_loose_slots(&profile.runtime, &extensions, catalog, &mut rules);
            keep_unmentioned(new, &mut extensions, &kept, catalog);
            extensions
        }
        None => kept.as_ref().clone(),
    };
    finish(profile, &kept, named, catalog, Writer::Client, rules)
}

fn finish(
    mut profile: Profile,
    stored: &Extensions,
    named: Named,
    catalog: &Catalog,
    writer: Writer,
    mut rules: Vec<Problem>,
) -> Checked {
    let mut configs = Vec::new();
    if named.any() {
        let (runtime, extensions) = (&mut profile.runtime, &mut profile.extensions);
        place_configs(runtime, extensions, stored, catalog, writer, &mut configs);
    }
    if named.runtime {
        for tool in profile.runtime.tools.iter_mut().flatten() {
            *tool = tool.trim().to_owned();
        }
    }
    validate::check(&profile, &mut rules);
    if named.runtime {
        validate::check_runtime(&profile.runtime, catalog, &mut rules);
    }
    let content = profile.content();
    validate::check_limits(&profile, content.size(), &mut rules);
    Checked { profile, content, configs, rules }
}

impl Draft {
    /// The draft that would make `profile` again: what an export writes and an import reads.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        Self {
            display_name: profile.display_name.clone(),
            description: profile.description.clone(),
            runtime: profile.runtime.clone(),
            policy: profile.policy.clone(),
            tags: profile.metadata.tags.clone(),
            extensions: profile
                .extensions
                .iter()
                .map(|(key, payload)| (key.as_str().to_owned(), payload.clone()))
                .collect::<serde_json::Map<String, Value>>(),
        }
    }
}
