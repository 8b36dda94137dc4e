//! The three YAML formats of profile files: bundle, single registry, legacy map (chapter 10 §9). Reading makes drafts;
//! the rules run over them as over everything else (D11). Writing always makes a bundle.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::history::RegistryHead;
use super::{Draft, Profile};
use crate::error::Error;
use crate::ids::{ProfileSlug, RegistrySlug};
use crate::json::Object;
use crate::quote::quote;

/// A registry as a file describes it.
#[derive(Debug, Clone)]
pub struct RegistryDraft {
    /// Its name.
    pub slug: RegistrySlug,
    /// A name for people.
    pub display_name: String,
    /// A sentence for people.
    pub description: String,
    /// The default profile; always one of `profiles` when there are any.
    pub default_profile: Option<ProfileSlug>,
    /// The profiles, their server-owned metadata left behind.
    pub profiles: BTreeMap<ProfileSlug, Draft>,
}

/// Reads the first document of `text`. `fallback` names the registry of a legacy map.
///
/// # Errors
/// YAML errors with their place, and the contract's texts.
pub fn decode(text: &str, fallback: &RegistrySlug) -> Result<Vec<RegistryDraft>, Error> {
    let root = match parse(text)? {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(root)) => root,
        Some(_) => return Err(Error::invalid("", "the document must be a mapping")),
    };
    match Format::of_root(&root) {
        Format::Empty | Format::Invalid => Ok(Vec::new()),
        Format::Bundle => decode_bundle(root.get("registries").unwrap_or(&Value::Null)),
        Format::Single => Ok(vec![decode_registry(&root, None)?]),
        Format::Legacy => decode_legacy(&root, fallback).map(|registry| vec![registry]),
    }
}

fn parse(text: &str) -> Result<Option<Value>, Error> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| Error::invalid("", format!("yaml: {e}")))?;
    Ok(documents.into_iter().next())
}

fn decode_bundle(registries: &Value) -> Result<Vec<RegistryDraft>, Error> {
    let Value::Object(registries) = registries else {
        return Err(Error::invalid("", "registries must be a mapping"));
    };
    let mut decoded: Vec<RegistryDraft> = Vec::new();
    for (key, entry) in registries {
        let Value::Object(entry) = entry else {
            return Err(Error::invalid("", format!("registry {} must be a mapping", quote(key))));
        };
        let registry = decode_registry(entry, Some(key))?;
        // Two spellings of one slug, or a key that says another slug, would lose one of them (D21).
        if decoded.iter().any(|r| r.slug == registry.slug) {
            return Err(Error::invalid(
                "registry.slug",
                format!("duplicate registry {}", quote(key)),
            ));
        }
        decoded.push(registry);
    }
    Ok(decoded)
}

fn decode_registry(raw: &Object, key: Option<&String>) -> Result<RegistryDraft, Error> {
    let slug = match (text(raw.get("slug")), key) {
        (own, key) if own.trim().is_empty() => {
            let Some(key) = key else {
                return Err(Error::invalid("registry.slug", "must not be empty"));
            };
            RegistrySlug::parse(key)
        }
        (own, Some(key)) if RegistrySlug::parse(key).ok() != RegistrySlug::parse(&own).ok() => {
            let reason =
                format!("map key {} and registry slug {} must match", quote(key), quote(&own));
            return Err(Error::invalid("registry.slug", reason));
        }
        (own, _) => RegistrySlug::parse(&own),
    }
    .map_err(|e| Error::invalid("registry.slug", e.to_string()))?;
    let profiles = decode_profiles(raw.get("profiles"))?;
    let default_profile = ProfileSlug::parse_optional(&text(raw.get("default_profile_slug")))
        .map_err(|e| Error::invalid("profile.slug", e.to_string()))?;
    const FIELD: &str = "registry.default_profile_slug";
    match &default_profile {
        None if !profiles.is_empty() => {
            return Err(Error::invalid(FIELD, "must be set when profiles are present"));
        }
        Some(slug) if !profiles.is_empty() && !profiles.contains_key(slug) => {
            return Err(Error::invalid(FIELD, "default profile does not exist in registry"));
        }
        _ => {}
    }
    Ok(RegistryDraft {
        slug,
        display_name: text(raw.get("display_name")),
        description: text(raw.get("description")),
        default_profile,
        profiles,
    })
}

fn decode_profiles(raw: Option<&Value>) -> Result<BTreeMap<ProfileSlug, Draft>, Error> {
    let mut profiles = BTreeMap::new();
    let entries = match raw {
        None | Some(Value::Null) => return Ok(profiles),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Error::invalid("registry.profiles", "must be a mapping")),
    };
    for (key, entry) in entries {
        let slug = if key.trim().is_empty() {
            return Err(Error::invalid("profile.slug", "must not be empty"));
        } else {
            ProfileSlug::parse(key).map_err(|e| Error::invalid("profile.slug", e.to_string()))?
        };
        let Value::Object(entry) = entry else {
            return Err(Error::invalid(format!("registry.profiles[{slug}]"), "must not be nil"));
        };
        let own = ProfileSlug::parse_optional(&text(entry.get("slug")))
            .map_err(|e| Error::invalid("profile.slug", e.to_string()))?;
        if own.is_some_and(|own| own != slug) {
            let field = format!("registry.profiles[{slug}].slug");
            return Err(Error::invalid(field, "map key and profile slug must match"));
        }
        let draft = decode_profile(&slug, entry)?;
        if profiles.insert(slug.clone(), draft).is_some() {
            let reason = format!("duplicate profile slug after normalization: {}", quote(key));
            return Err(Error::invalid(format!("registry.profiles[{slug}]"), reason));
        }
    }
    Ok(profiles)
}

/// Reads one profile by itself, as an editor shows it: tags beside the other fields.
///
/// # Errors
/// What cannot be read, and fields of the wrong type.
pub fn decode_one(slug: &ProfileSlug, text: &str) -> Result<Draft, Error> {
    let Some(Value::Object(mut root)) = parse(text)? else {
        return Err(Error::invalid("", "the document must be a mapping"));
    };
    if let Some(tags) = root.remove("tags") {
        root.insert("metadata".into(), serde_json::json!({ "tags": tags }));
    }
    decode_profile(slug, &root)
}

fn decode_profile(slug: &ProfileSlug, raw: &Object) -> Result<Draft, Error> {
    let invalid =
        |e: serde_json::Error| Error::invalid(format!("registry.profiles[{slug}]"), e.to_string());
    let section = |name: &str| match raw.get(name) {
        None | Some(Value::Null) => Value::Object(Object::new()),
        Some(value) => value.clone(),
    };
    let mut runtime = section("runtime");
    stringify(&mut runtime, &["system_prompt"]);
    for middleware in
        runtime.get_mut("middlewares").and_then(Value::as_array_mut).into_iter().flatten()
    {
        stringify(middleware, &["name", "id"]);
        read_bools(middleware, &["enabled"]);
    }
    let mut policy = section("policy");
    read_bools(&mut policy, &["allow_overrides", "read_only"]);
    let Value::Object(extensions) = section("extensions") else {
        let field = format!("registry.profiles[{slug}].extensions");
        return Err(Error::invalid(field, "must be a mapping"));
    };
    let tags = section("metadata").get("tags").cloned().unwrap_or(Value::Array(Vec::new()));
    Ok(Draft {
        display_name: text(raw.get("display_name")),
        description: text(raw.get("description")),
        runtime: serde_json::from_value(runtime).map_err(invalid)?,
        policy: serde_json::from_value(policy).map_err(invalid)?,
        tags: serde_json::from_value(tags).map_err(invalid)?,
        extensions,
    })
}

/// Every root key is a profile, its value the profile's settings.
fn decode_legacy(root: &Object, fallback: &RegistrySlug) -> Result<RegistryDraft, Error> {
    let mut profiles = BTreeMap::new();
    let mut first = None;
    for (key, sections) in root {
        let slug =
            ProfileSlug::parse(key).map_err(|e| Error::invalid("profile.slug", e.to_string()))?;
        let Value::Object(sections) = sections else {
            let reason = format!("legacy profile {} must map to section settings", quote(key));
            return Err(Error::invalid("", reason));
        };
        let mut draft = Draft::default();
        draft.runtime.step_settings_patch.clone_from(sections);
        first.get_or_insert_with(|| slug.clone());
        if profiles.insert(slug.clone(), draft).is_some() {
            let reason = format!("duplicate profile slug after normalization: {}", quote(key));
            return Err(Error::invalid(format!("registry.profiles[{slug}]"), reason));
        }
    }
    let named_default = profiles.keys().find(|slug| slug.as_str() == "default").cloned();
    Ok(RegistryDraft {
        slug: fallback.clone(),
        display_name: String::new(),
        description: String::new(),
        default_profile: named_default.or(first),
        profiles,
    })
}

/// The literal text of a scalar; everything else is empty.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar.to_string(),
        _ => String::new(),
    }
}

fn stringify(object: &mut Value, keys: &[&str]) {
    for key in keys {
        if let Some(value @ (Value::Number(_) | Value::Bool(_))) = object.get_mut(*key) {
            *value = Value::String(value.to_string());
        }
    }
}

/// `yes` and `on` are strings in free-form places, but true where a boolean is expected.
fn read_bools(object: &mut Value, keys: &[&str]) {
    for key in keys {
        let Some(value) = object.get_mut(*key) else { continue };
        match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("yes" | "on" | "y" | "true") => *value = true.into(),
            Some("no" | "off" | "n" | "false") => *value = false.into(),
            _ => {}
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|e| Error::Internal(e.to_string()))
}

/// Writes registries as a bundle: sorted, four spaces, empty fields left out, long texts as literal blocks.
///
/// # Errors
/// A registry that breaks its invariant; nothing is written then.
pub fn encode<'a>(
    registries: impl IntoIterator<Item = (&'a RegistrySlug, &'a RegistryHead, Vec<Profile>)>,
) -> Result<String, Error> {
    let mut bundle = Object::new();
    for (slug, head, profiles) in registries {
        let default = head.default_profile.as_ref();
        if !profiles.is_empty() && !profiles.iter().any(|p| Some(&p.slug) == default) {
            let reason = "default profile does not exist in registry";
            return Err(Error::invalid("registry.default_profile_slug", reason));
        }
        bundle.insert(slug.as_str().to_owned(), encode_registry(slug, head, profiles)?);
    }
    if bundle.is_empty() {
        return Ok("{}\n".into());
    }
    write(&serde_json::json!({ "registries": bundle }))
}

/// A value in the form of the bundle: four spaces, long texts as literal blocks.
///
/// # Errors
/// Never for JSON.
pub fn write(value: &Value) -> Result<String, Error> {
    let options = serde_saphyr::ser_options! { indent_step: 4 };
    serde_saphyr::to_string_with_options(value, options).map_err(|e| Error::Internal(e.to_string()))
}

/// What a file is (chapter 50 A7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Nothing in it.
    Empty,
    /// Several registries.
    Bundle,
    /// One registry.
    Single,
    /// Profiles of settings alone, from before there were registries.
    Legacy,
    /// No YAML mapping.
    Invalid,
}

impl Format {
    /// Tells by the keys at the root.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match parse(text) {
            Ok(None | Some(Value::Null)) => Self::Empty,
            Ok(Some(Value::Object(root))) => Self::of_root(&root),
            _ => Self::Invalid,
        }
    }

    fn of_root(root: &Object) -> Self {
        if root.is_empty() {
            Self::Empty
        } else if root.contains_key("registries") {
            Self::Bundle
        } else if ["profiles", "slug", "default_profile_slug"].iter().any(|k| root.contains_key(*k))
        {
            Self::Single
        } else {
            Self::Legacy
        }
    }

    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Bundle => "canonical-registries",
            Self::Single => "single-registry",
            Self::Legacy => "legacy-map",
            Self::Invalid => "invalid",
        }
    }
}

fn encode_registry(
    slug: &RegistrySlug,
    head: &RegistryHead,
    profiles: Vec<Profile>,
) -> Result<Value, Error> {
    let mut registry = Object::new();
    registry.insert("slug".into(), slug.as_str().into());
    let mut put = |key: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        if !empty {
            registry.insert(key.to_owned(), value);
        }
    };
    put("display_name", head.display_name.as_str().into());
    put("description", head.description.as_str().into());
    put("default_profile_slug", head.default_profile.as_ref().map(ProfileSlug::as_str).into());
    put("metadata", to_json(&head.metadata)?);
    let mut encoded = Object::new();
    for profile in profiles {
        let Value::Object(mut object) = to_json(&profile)? else { continue };
        object.retain(|key, value| {
            key == "slug" || !matches!(value, Value::Object(object) if object.is_empty())
        });
        if profile.policy == super::Policy::default() {
            object.remove("policy");
        }
        encoded.insert(profile.slug.as_str().to_owned(), object.into());
    }
    put("profiles", encoded.into());
    Ok(registry.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;
    use crate::profile::draft;
    use crate::profile::middlewares::Writer;
    use serde_json::json;

    fn decode_text(text: &str) -> Result<Vec<RegistryDraft>, String> {
        decode(text, &RegistrySlug::parse("default").unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn blank_documents_are_no_registries() {
        for text in ["", "# only a comment\n", "null", "{}", "registries: {}"] {
            assert_eq!(decode_text(text).unwrap().len(), 0, "{text:?}");
        }
    }

    #[test]
    fn the_format_is_told_by_the_root_keys() {
        let single =
            decode_text("slug: team\nprofiles: {a: {}}\ndefault_profile_slug: a\n").unwrap();
        assert_eq!(single[0].slug.as_str(), "team");
        let bundle = decode_text("registries:\n  b: {}\n  A: {slug: a}\n").unwrap();
        assert_eq!(bundle.iter().map(|r| r.slug.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let legacy = decode_text("Zed: {ai-chat: {ai-engine: x}}\nbeta: {}\n").unwrap();
        assert_eq!(legacy[0].default_profile.as_ref().unwrap().as_str(), "zed");
        let patch = &legacy[0].profiles["zed"].runtime.step_settings_patch;
        assert_eq!(Value::Object(patch.clone()), json!({"ai-chat": {"ai-engine": "x"}}));
    }

    #[test]
    fn errors_have_the_contract_s_texts() {
        for (text, expected) in [
            ("registries: [a]", "validation error: registries must be a mapping"),
            ("registries: null", "validation error: registries must be a mapping"),
            ("registries: {a: 5}", "validation error: registry \"a\" must be a mapping"),
            ("a: 5", "validation error: legacy profile \"a\" must map to section settings"),
            ("profiles: {}", "validation error (registry.slug): must not be empty"),
            (
                "slug: t\nprofiles: {a: {}}",
                "validation error (registry.default_profile_slug): must be set when profiles are present",
            ),
            (
                "slug: t\ndefault_profile_slug: b\nprofiles: {a: {}}",
                "validation error (registry.default_profile_slug): default profile does not exist in registry",
            ),
            (
                "slug: t\ndefault_profile_slug: a\nprofiles: {a: null}",
                "validation error (registry.profiles[a]): must not be nil",
            ),
            (
                "slug: t\ndefault_profile_slug: a\nprofiles: {a: {slug: b}}",
                "validation error (registry.profiles[a].slug): map key and profile slug must match",
            ),
        ] {
            assert_eq!(decode_text(text).unwrap_err(), expected);
        }
        assert!(decode_text("a: 1\na: 2").is_err());
        assert!(decode_text("[1]").is_err());
    }

    #[test]
    fn c10_d21_names_that_collide_after_normalisation_are_refused() {
        let text = "slug: t\ndefault_profile_slug: a\nprofiles: {A: {}, a: {}}";
        assert!(
            decode_text(text)
                .unwrap_err()
                .contains("duplicate profile slug after normalization: \"a\"")
        );
        assert!(
            decode_text("registries: {A: {}, a: {}}")
                .unwrap_err()
                .contains("duplicate registry \"a\"")
        );
        assert!(decode_text("registries: {a: {slug: b}}").unwrap_err().contains("must match"));
    }

    #[test]
    fn scalars_read_as_the_contract_says() {
        let text = "slug: 5\ndefault_profile_slug: a\nprofiles:\n  a:\n    display_name: 7\n    policy: {read_only: yes}\n    runtime: {middlewares: [{name: m, enabled: off}]}\n    extensions:\n      x.y@v1: {a: yes, b: 0x10, c: 010, d: 2026-02-25, e: 1.5}\n";
        let registry = &decode_text(text).unwrap()[0];
        assert_eq!(registry.slug.as_str(), "5");
        let draft = &registry.profiles["a"];
        assert_eq!((draft.display_name.as_str(), draft.policy.read_only), ("7", true));
        assert_eq!(draft.runtime.middlewares[0].enabled, Some(false));
        let payload = &draft.extensions["x.y@v1"];
        assert_eq!(*payload, json!({"a": "yes", "b": 16, "c": 8, "d": "2026-02-25", "e": 1.5}));
        assert!(
            decode_text(
                "slug: a\ndefault_profile_slug: a\nprofiles: {a: {extensions: {x.y@v1: .inf}}}"
            )
            .is_err()
        );
    }

    #[test]
    fn c10_d11_files_pass_through_the_same_rules_and_round_trip() {
        let text = "slug: t\ndefault_profile_slug: a\nprofiles:\n  a:\n    runtime:\n      system_prompt: |\n        one\n        two: \"yes\"\n      middlewares: [{name: sqlite, config: {max_rows: \"5\"}}]\n    extensions: {Vendor.X@V1: {k: \"no\"}}\n";
        let mut registries = decode_text(text).unwrap();
        let drafts = std::mem::take(&mut registries[0].profiles);
        let check = |(slug, draft)| {
            let checked = draft::check(slug, draft, &catalog(), Writer::Operator);
            assert_eq!(checked.problems(), None);
            checked.profile
        };
        let profile = drafts.into_iter().map(check).next().unwrap();
        assert_eq!(
            serde_json::to_value(&profile.extensions).unwrap(),
            json!({"middleware.sqlite_config@v1": {"instances": {"index:0": {"max_rows": 5}}}, "vendor.x@v1": {"k": "no"}})
        );
        let slug = RegistrySlug::parse("t").unwrap();
        let head =
            RegistryHead { default_profile: Some(profile.slug.clone()), ..RegistryHead::default() };
        let encoded = encode([(&slug, &head, vec![profile.clone()])]).unwrap();
        assert!(encoded.starts_with("registries:\n    t:\n"), "{encoded}");
        assert!(encoded.contains("system_prompt: |"), "{encoded}");
        let again = decode_text(&encoded).unwrap().remove(0).profiles.remove("a").unwrap();
        let again = draft::check(profile.slug.clone(), again, &catalog(), Writer::Operator);
        assert_eq!(again.profile, profile);
    }

    #[test]
    fn nothing_encodes_as_an_empty_mapping_and_broken_registries_do_not() {
        assert_eq!(encode([]).unwrap(), "{}\n");
        let slug = RegistrySlug::parse("t").unwrap();
        let profile = crate::profile::validate::tests::profile("a");
        assert!(encode([(&slug, &RegistryHead::default(), vec![profile])]).is_err());
    }
}
