//! Changing a stored profile (chapter 20 §5.4): a patch names what it changes, and replaces it whole.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

use super::draft::{Checked, Named, check_patched};
use super::{Extensions, Metadata, MiddlewareUse, Policy, Profile, Runtime};
use crate::catalog::Catalog;
use crate::ids::{ExtensionKey, ProfileSlug};
use crate::json::Object;

/// How the keys of configurations of middlewares begin ([`ExtensionKey::for_middleware`]).
const MIDDLEWARES: &str = "middleware.";

/// What a patch changes; `None` keeps the stored value.
#[derive(Debug, Clone, Default)]
pub struct ProfilePatch {
    /// Trimmed; empty clears.
    pub display_name: Option<String>,
    /// Trimmed; empty clears.
    pub description: Option<String>,
    /// Replaces the runtime.
    pub runtime: Option<Runtime>,
    /// Replaces the policy.
    pub policy: Option<Policy>,
    /// The policy says `read_only: false` in so many words; leaving it out unlocks nothing (decision 13).
    pub says_writable: bool,
    /// Replaces the tags, the only metadata that is the author's.
    pub tags: Option<Vec<String>>,
    /// Replaces the extensions, except configurations of middlewares that the new map does not mention (decision 9).
    pub extensions: Option<Object>,
}

impl ProfilePatch {
    /// Whether nothing is named; such a patch changes nothing, not even the version (decision 8).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.display_name.is_none()
            && self.description.is_none()
            && self.runtime.is_none()
            && self.tags.is_none()
            && self.policy.is_none()
            && self.extensions.is_none()
    }

    /// Whether this is the one patch that a read-only profile takes: `policy` alone, with `read_only: false`
    /// (decision 13).
    #[must_use]
    pub fn unlocks(&self) -> bool {
        let others = self.display_name.is_some()
            || self.description.is_some()
            || self.runtime.is_some()
            || self.tags.is_some()
            || self.extensions.is_some();
        !others && self.says_writable && self.policy.is_some()
    }

    /// Whether parts that pass through the middlewares' rules are named.
    #[must_use]
    pub fn named(&self) -> Named {
        Named { runtime: self.runtime.is_some(), extensions: self.extensions.is_some() }
    }
}

/// Reads what [`apply`] looks at of the stored profile `slug`, whose text is `document`. What the patch replaces is empty,
/// but for the uses of middlewares, their configurations and the lock, which rules compare: most of a profile is not worth
/// reading when most of it is written anew.
///
/// # Errors
/// Never, if the text is that of a profile.
pub fn read_before(
    slug: &ProfileSlug,
    document: &str,
    patch: &ProfilePatch,
) -> Result<Profile, serde_json::Error> {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        display_name: Option<&'a RawValue>,
        #[serde(borrow)]
        description: Option<&'a RawValue>,
        #[serde(borrow)]
        runtime: &'a RawValue,
        #[serde(borrow)]
        policy: &'a RawValue,
        metadata: Metadata,
        #[serde(borrow, default)]
        extensions: BTreeMap<&'a str, &'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Uses {
        #[serde(default)]
        middlewares: Vec<MiddlewareUse>,
    }
    #[derive(Deserialize)]
    struct Lock {
        read_only: bool,
    }
    let text = |raw: Option<&RawValue>, replaced: bool| match raw {
        Some(raw) if !replaced => serde_json::from_str(raw.get()),
        _ => Ok(String::new()),
    };
    let Named { runtime: replaces_runtime, extensions: replaces_extensions } = patch.named();
    let parts: Parts<'_> = serde_json::from_str(document)?;
    let (runtime, policy) = (parts.runtime.get(), parts.policy.get());
    let runtime = if replaces_runtime {
        let Uses { middlewares } = serde_json::from_str(runtime)?;
        Runtime { middlewares, ..Runtime::default() }
    } else {
        serde_json::from_str(runtime)?
    };
    let policy = if patch.policy.is_some() && !patch.unlocks() {
        let Lock { read_only } = serde_json::from_str(policy)?;
        Policy { read_only, ..Policy::default() }
    } else {
        serde_json::from_str(policy)?
    };
    let mut extensions = Extensions::new();
    for (key, payload) in parts.extensions {
        if !replaces_extensions || key.starts_with(MIDDLEWARES) {
            let key = ExtensionKey::parse(key).map_err(serde_json::Error::custom)?;
            extensions.insert(key, serde_json::from_str(payload.get())?);
        }
    }
    Ok(Profile {
        slug: slug.clone(),
        display_name: text(parts.display_name, patch.display_name.is_some())?,
        description: text(parts.description, patch.description.is_some())?,
        runtime,
        policy,
        metadata: parts.metadata,
        extensions,
    })
}

/// Applies `patch` to `stored` and runs the rules over the result. Metadata other than tags is the stored one.
#[must_use]
pub fn apply(stored: &Profile, patch: ProfilePatch, catalog: &Catalog) -> Checked {
    let named = patch.named();
    // Unlocking changes the one field it is for; the rest of the policy stays (decision 13).
    if stored.policy.read_only && patch.unlocks() {
        let mut profile = stored.clone();
        profile.policy.read_only = false;
        return check_patched(stored, profile, None, named, catalog);
    }
    let text = |new: Option<String>, old: &String| match new {
        Some(text) => text.trim().to_owned(),
        None => old.clone(),
    };
    let before = &stored.metadata;
    let profile = Profile {
        slug: stored.slug.clone(),
        display_name: text(patch.display_name, &stored.display_name),
        description: text(patch.description, &stored.description),
        runtime: patch.runtime.unwrap_or_else(|| stored.runtime.clone()),
        policy: patch.policy.unwrap_or_else(|| stored.policy.clone()),
        metadata: Metadata {
            tags: patch.tags.unwrap_or_else(|| before.tags.clone()),
            source: before.source.clone(),
            created_by: before.created_by.clone(),
            updated_by: before.updated_by.clone(),
            ..*before
        },
        extensions: Extensions::new(),
    };
    check_patched(stored, profile, patch.extensions, named, catalog)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are used")]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;
    use crate::profile::draft::{self, Draft};
    use crate::profile::middlewares::Writer;
    use crate::profile::validate::tests::profile;
    use serde_json::{Value, json};

    /// The profile that a create with this body makes.
    fn created(body: Value) -> Profile {
        let draft = Draft {
            runtime: serde_json::from_value(body.get("runtime").cloned().unwrap_or(json!({})))
                .unwrap(),
            extensions: body
                .get("extensions")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            ..Draft::default()
        };
        let checked = draft::check(profile("a").slug, draft, &catalog(), Writer::Client);
        assert_eq!(checked.problems(), None);
        checked.profile
    }

    fn patch_of(body: &Value) -> ProfilePatch {
        ProfilePatch {
            runtime: body.get("runtime").map(|v| serde_json::from_value(v.clone()).unwrap()),
            extensions: body.get("extensions").and_then(Value::as_object).cloned(),
            display_name: body.get("display_name").and_then(Value::as_str).map(Into::into),
            ..ProfilePatch::default()
        }
    }

    fn patched(stored: &Profile, body: Value) -> Result<Profile, String> {
        let checked = apply(stored, patch_of(&body), &catalog());
        checked.problems().map_or(Ok(checked.profile), |problems| Err(problems[0].to_string()))
    }

    fn extensions(profile: &Profile) -> Value {
        serde_json::to_value(&profile.extensions).unwrap()
    }

    #[test]
    fn inline_config_moves_into_extensions_coerced_and_with_defaults() {
        let p = created(json!({"runtime": {"middlewares": [
            {"name": "agentmode"}, {"name": "sqlite", "id": "db", "config": {"max_rows": "12"}},
        ]}}));
        assert!(p.runtime.middlewares.iter().all(|m| m.config.is_none()));
        assert_eq!(
            extensions(&p),
            json!({
                "middleware.agentmode_config@v1": {"instances": {"index:0": {"default_mode": "default"}}},
                "middleware.sqlite_config@v1": {"instances": {"id:db": {"max_rows": 12}}},
            })
        );
    }

    #[test]
    fn c10_d13_patching_extensions_keeps_configs_it_does_not_mention() {
        let p = created(json!({"runtime": {"middlewares": [
            {"name": "agentmode", "id": "m", "config": {"default_mode": "analyst"}},
        ]}}));
        let p = patched(&p, json!({"extensions": {"vendor.x@v1": 1}})).unwrap();
        assert_eq!(
            extensions(&p),
            json!({
                "middleware.agentmode_config@v1": {"instances": {"id:m": {"default_mode": "analyst"}}},
                "vendor.x@v1": 1,
            })
        );
    }

    #[test]
    fn c10_d13_config_follows_its_use_when_the_order_changes() {
        let p = created(json!({"runtime": {"middlewares": [
            {"name": "agentmode", "config": {"default_mode": "analyst"}},
            {"name": "sqlite", "config": {"max_rows": 5}},
        ]}}));
        let p = patched(
            &p,
            json!({"runtime": {"middlewares": [{"name": "sqlite"}, {"name": "agentmode"}]}}),
        );
        assert_eq!(
            extensions(&p.unwrap()),
            json!({
                "middleware.agentmode_config@v1": {"instances": {"index:1": {"default_mode": "analyst"}}},
                "middleware.sqlite_config@v1": {"instances": {"index:0": {"max_rows": 5}}},
            })
        );
    }

    #[test]
    fn c10_d13_slots_of_removed_uses_are_dropped() {
        let p = created(json!({"runtime": {"middlewares": [
            {"name": "sqlite", "id": "a", "config": {"max_rows": 5}},
            {"name": "sqlite", "id": "b", "config": {"max_rows": 6}},
        ]}}));
        let p = patched(&p, json!({"runtime": {"middlewares": [{"name": "sqlite", "id": "b"}]}}))
            .unwrap();
        assert_eq!(
            extensions(&p),
            json!({"middleware.sqlite_config@v1": {"instances": {"id:b": {"max_rows": 6}}}})
        );
        let p = patched(&p, json!({"runtime": {}})).unwrap();
        assert_eq!(extensions(&p), json!({}));
    }

    #[test]
    fn the_same_middleware_twice_needs_ids() {
        let error = patched(
            &profile("a"),
            json!({"runtime": {"middlewares": [{"name": "agentmode"}, {"name": "sqlite"}, {"name": "agentmode"}]}}),
        );
        assert_eq!(
            error.unwrap_err(),
            "validation error (runtime.middlewares[2].id): must be set when a middleware is used more than once"
        );
    }

    #[test]
    fn c10_d9_junk_in_slots_that_no_use_reads_is_refused_too() {
        let error = patched(
            &profile("a"),
            json!({"extensions": {"middleware.sqlite_config@v1": {"instances": {"id:x": {"max_rows": "many"}}}}}),
        );
        assert!(
            error
                .unwrap_err()
                .starts_with("validation error (profile.extensions[middleware.sqlite_config@v1])")
        );
        let error =
            patched(&profile("a"), json!({"extensions": {"middleware.sqlite_config@v1": 5}}));
        assert!(error.unwrap_err().ends_with("payload must be an object"));
    }

    #[test]
    fn a_use_that_the_new_map_mentions_takes_it() {
        let p = created(
            json!({"runtime": {"middlewares": [{"name": "sqlite", "config": {"max_rows": 5}}]}}),
        );
        let map =
            json!({"Middleware.SQLite_Config@v1": {"instances": {"default": {"max_rows": 9}}}});
        let p = patched(&p, json!({"extensions": map})).unwrap();
        assert_eq!(
            extensions(&p),
            json!({"middleware.sqlite_config@v1": {"instances": {"index:0": {"max_rows": 9}}}})
        );
    }

    #[test]
    fn a_patch_of_other_fields_leaves_a_profile_that_breaks_newer_rules_alone() {
        let mut old = profile("a");
        old.runtime.tools = Some(vec!["no_such_tool".into()]);
        assert!(patched(&old, json!({"display_name": "x"})).is_ok());
        assert!(patched(&old, json!({"runtime": {"tools": ["no_such_tool"]}})).is_err());
    }

    #[test]
    fn a_patch_makes_the_same_of_what_it_looks_at_as_of_the_whole_profile() {
        let mut whole = created(json!({
            "runtime": {
                "system_prompt": "be brief", "tools": [], "step_settings_patch": {"ai-chat": {"ai-engine": "m"}},
                "middlewares": [{"name": "sqlite", "config": {"max_rows": 5}}, {"name": "agentmode", "id": "m"}],
            },
            "extensions": {"vendor.x@v1": {"n": [1, 1.0, -0.5, u64::MAX], "t": "\u{0} 漢字 \"\\"}},
        }));
        whole.display_name = "Ann's \"one\"".into();
        whole.description = "two".into();
        whole.metadata.tags = vec!["three".into()];
        whole.metadata.touch(5, "ann", "here");
        let policy = Policy { allow_overrides: true, ..Policy::default() };
        let bodies = [
            json!({}),
            json!({"display_name": "x"}),
            json!({"runtime": {"middlewares": [{"name": "agentmode", "id": "m"}, {"name": "sqlite"}]}}),
            json!({"extensions": {"vendor.y@v1": 1}}),
            json!({"runtime": {"middlewares": [{"name": "sqlite"}]}, "extensions": {}}),
        ];
        for read_only in [false, true] {
            whole.policy =
                Policy { read_only, denied_override_keys: vec!["tools".into()], ..policy.clone() };
            for (body, replaced) in
                bodies.iter().flat_map(|body| (0..16).map(move |bits| (body, bits)))
            {
                let patch = ProfilePatch {
                    description: (replaced & 1 > 0).then(|| "new".into()),
                    policy: (replaced & 2 > 0).then(|| policy.clone()),
                    tags: (replaced & 4 > 0).then(|| vec!["new".into()]),
                    says_writable: replaced & 8 > 0,
                    ..patch_of(body)
                };
                let before = read_before(&whole.slug, &whole.document(), &patch).unwrap();
                assert_eq!(before.metadata, whole.metadata);
                assert_eq!(before.policy.read_only, read_only);
                let [partly, wholly] =
                    [&before, &whole].map(|it| apply(it, patch.clone(), &catalog()));
                assert_eq!(partly.problems(), wholly.problems(), "{body} {replaced}");
                assert_eq!(partly.profile, wholly.profile, "{body} {replaced}");
            }
        }
    }

    #[test]
    fn unlocking_changes_one_field() {
        let mut locked = profile("a");
        locked.policy = Policy { read_only: true, allow_overrides: true, ..Policy::default() };
        let silent = ProfilePatch { policy: Some(Policy::default()), ..ProfilePatch::default() };
        assert!(!silent.unlocks());
        let unlock = ProfilePatch { says_writable: true, ..silent };
        assert!(unlock.unlocks());
        let policy = apply(&locked, unlock, &catalog()).profile.policy;
        assert_eq!((policy.read_only, policy.allow_overrides), (false, true));
    }
}
