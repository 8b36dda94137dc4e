//! Taking over a registry that the Go reference wrote (chapter 10 §10.4, decision 6): nothing is lost, what its defects
//! left broken is repaired, and every repair is said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::draft::Draft;
use super::history::RegistryHead;
use super::middlewares::{Writer, loose_slots, place_configs, read_instances};
use super::{Extensions, Metadata, Policy, Profile, Runtime, extensions, validate};
use crate::catalog::Catalog;
use crate::ids::{ExtensionKey, ProfileSlug, RegistrySlug};
use crate::json::Object;
use crate::quote::quote;
use crate::settings;

/// Clients of the reference could forge versions; above this they start here, with room to rise (D7).
const ADOPTED_VERSION: u64 = 1 << 53;

/// A registry as it is kept.
#[derive(Debug)]
pub struct Adopted {
    /// Its name.
    pub slug: RegistrySlug,
    /// What is true beside the profiles; its version goes on where the reference's was.
    pub head: RegistryHead,
    /// The profiles with what was repaired in each, in words.
    pub profiles: Vec<(Profile, Vec<String>)>,
    /// What was repaired in the registry.
    pub repairs: Vec<String>,
}

/// Reads one row of the reference's table: `row_slug` and its `payload_json`.
///
/// # Errors
/// A payload that is no registry at all; such a database is refused.
pub fn adopt(row_slug: &str, payload: &str, catalog: &Catalog) -> Result<Adopted, String> {
    let slug = RegistrySlug::parse(row_slug).map_err(|e| e.to_string())?;
    let payload: Object =
        serde_json::from_str(payload).map_err(|e| format!("registry {slug}: {e}"))?;
    let mut repairs = Vec::new();
    let own_slug = payload.get("slug").and_then(Value::as_str).unwrap_or_default();
    if !own_slug.trim().is_empty() && RegistrySlug::parse(own_slug).ok().as_ref() != Some(&slug) {
        repairs.push(format!("payload said slug {}, the row's slug counts", quote(own_slug)));
    }
    let mut profiles: BTreeMap<ProfileSlug, (Profile, Vec<String>)> = BTreeMap::new();
    let entries = match payload.get("profiles") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(entries)) => entries.clone(),
        Some(_) => return Err(format!("registry {slug}: profiles must be an object")),
    };
    for (key, raw) in entries {
        let Value::Object(raw) = raw else {
            repairs.push(format!("profile {} was null and is left out", quote(&key)));
            continue;
        };
        let wanted = ProfileSlug::parse(&key).map_err(|e| format!("registry {slug}: {e}"))?;
        let free = free_slug(&wanted, &profiles);
        if free != wanted {
            repairs.push(format!("profile {} is kept as {free}: its slug was taken", quote(&key)));
        }
        let adopted = adopt_profile(free.clone(), &raw, catalog)
            .map_err(|e| format!("registry {slug}: profile {}: {e}", quote(&key)))?;
        profiles.insert(free, adopted);
    }
    let head = adopt_head(&payload, &profiles, &mut repairs);
    Ok(Adopted { slug, head, profiles: profiles.into_values().collect(), repairs })
}

fn adopt_head(
    payload: &Object,
    profiles: &BTreeMap<ProfileSlug, (Profile, Vec<String>)>,
    repairs: &mut Vec<String>,
) -> RegistryHead {
    let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut head = RegistryHead {
        display_name: text("display_name"),
        description: text("description"),
        default_profile: ProfileSlug::parse(&text("default_profile_slug")).ok(),
        metadata: adopt_metadata(payload.get("metadata")),
    };
    repairs.extend(head.repair_default(profiles.keys()));
    head
}

/// Version 0 means "never edited" in the reference; here every stored thing has a version (D6).
fn adopt_metadata(raw: Option<&Value>) -> Metadata {
    let mut metadata: Metadata =
        raw.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default();
    metadata.version = metadata.version.clamp(1, ADOPTED_VERSION);
    metadata
}

fn free_slug(
    wanted: &ProfileSlug,
    taken: &BTreeMap<ProfileSlug, (Profile, Vec<String>)>,
) -> ProfileSlug {
    // Cut where the name has no room for a number, so that there always is a next candidate.
    let stem: String = wanted.as_str().chars().take(100).collect();
    let variants = (2..).filter_map(|n| ProfileSlug::parse(&format!("{stem}-{n}")).ok());
    let mut candidates = std::iter::once(wanted.clone()).chain(variants);
    candidates.find(|slug| !taken.contains_key(slug)).unwrap_or_else(|| wanted.clone())
}

fn adopt_profile(
    slug: ProfileSlug,
    raw: &Object,
    catalog: &Catalog,
) -> Result<(Profile, Vec<String>), String> {
    let part =
        |name: &str| raw.get(name).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| json!({}));
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut repairs = Vec::new();
    let mut runtime: Runtime =
        serde_json::from_value(part("runtime")).map_err(|e| e.to_string())?;
    let policy: Policy = serde_json::from_value(part("policy")).map_err(|e| e.to_string())?;
    let raw_extensions: Object =
        serde_json::from_value(part("extensions")).map_err(|e| e.to_string())?;
    let mut extensions = adopt_extensions(raw_extensions, catalog, &mut repairs);
    name_repeated_uses(&mut runtime, &mut extensions, catalog, &mut repairs);

    let mut problems = Vec::new();
    for (definition, slot, config) in loose_slots(&runtime, &extensions, catalog) {
        let (slot, config) = (quote(&slot), Value::Object(config));
        let key = &definition.key;
        repairs.push(format!("dropped {slot} of {key}, which no middleware reads: {config}"));
    }
    let none = Extensions::new();
    place_configs(&mut runtime, &mut extensions, &none, catalog, Writer::Operator, &mut problems);
    let metadata = adopt_metadata(raw.get("metadata"));
    let (display_name, description) = (text("display_name"), text("description"));
    if settings::redact::redact(&mut runtime.step_settings_patch) {
        repairs.push("a provider key was redacted; set it with the server's own flags".into());
    }
    let profile =
        Profile { slug, display_name, description, runtime, policy, metadata, extensions };
    // What breaks newer rules is kept and said (decision 6).
    validate::check(&profile, &mut problems);
    validate::check_runtime(&profile.runtime, catalog, &mut problems);
    validate::check_limits(&profile, profile.content().size(), &mut problems);
    let _ = extensions::normalise(Draft::of(&profile).extensions, catalog, &mut problems);
    let seen: BTreeSet<String> = problems
        .iter()
        .filter(|problem| problem.keyword != "secret")
        .map(|problem| format!("kept although: {problem}"))
        .collect();
    repairs.extend(seen);
    Ok((profile, repairs))
}

/// Canonical keys; of two spellings the canonical one keeps the key, as the reference's look-ups saw it (D10, D11).
fn adopt_extensions(raw: Object, catalog: &Catalog, repairs: &mut Vec<String>) -> Extensions {
    let mut adopted = Extensions::new();
    let (canonical, variants): (Vec<_>, Vec<_>) = raw.into_iter().partition(|(raw_key, _)| {
        ExtensionKey::parse(raw_key).is_ok_and(|key| key.as_str() == raw_key)
    });
    for (raw_key, payload) in canonical.into_iter().chain(variants) {
        let wanted = ExtensionKey::parse(&raw_key).ok();
        // Under a middleware's key only what can be read as its configuration may stay.
        let fits = |key: &ExtensionKey| {
            catalog.middleware_of_key(key).is_none() || read_instances(&payload).is_ok()
        };
        let free = wanted.clone().filter(|key| !adopted.contains_key(key) && fits(key));
        let Some(key) = free.or_else(|| variant_key(wanted.as_ref(), &adopted)) else { continue };
        if Some(&key) != wanted.as_ref() {
            repairs.push(format!("extension {} is kept as {key}", quote(&raw_key)));
        }
        adopted.insert(key, payload);
    }
    adopted
}

/// A free key that says where the payload came from; where the wanted one leaves no room, one of ours.
fn variant_key(wanted: Option<&ExtensionKey>, taken: &Extensions) -> Option<ExtensionKey> {
    let own = ("adopted.key", "v1");
    let (stem, version) = wanted.and_then(|key| key.as_str().split_once('@')).unwrap_or(own);
    let numbered = |(stem, version): (&str, &str)| {
        let key = |n| ExtensionKey::parse(&format!("{stem}_variant{n}@{version}")).ok();
        (2..1_000_000).map_while(key).find(|key| !taken.contains_key(key))
    };
    numbered((stem, version)).or_else(|| numbered(own))
}

/// The same middleware more than once without ids gets `<name>-<n>`, and its configuration goes with it.
fn name_repeated_uses(
    runtime: &mut Runtime,
    extensions: &mut Extensions,
    catalog: &Catalog,
    repairs: &mut Vec<String>,
) {
    let names: Vec<String> = runtime
        .middlewares
        .iter()
        .filter(|u| u.id.trim().is_empty())
        .map(|u| u.name.trim().to_owned())
        .collect();
    let mut ids: BTreeSet<String> =
        runtime.middlewares.iter().map(|u| u.id.trim().to_owned()).collect();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for (index, used) in runtime.middlewares.iter_mut().enumerate() {
        let name = used.name.trim().to_owned();
        let repeated = names.iter().filter(|n| **n == name).count() > 1;
        if !used.id.trim().is_empty() || !repeated || catalog.middleware(&name).is_none() {
            continue;
        }
        let number = numbers.entry(name.clone()).or_insert(0);
        let id = loop {
            *number += 1;
            let id = format!("{name}-{number}");
            if ids.insert(id.clone()) {
                break id;
            }
        };
        if let Ok(key) = ExtensionKey::for_middleware(&name)
            && let Some(Value::Object(slots)) =
                extensions.get_mut(&key).and_then(|p| p.get_mut("instances"))
            && let Some(config) =
                slots.remove(&format!("index:{index}")).or_else(|| slots.get("default").cloned())
        {
            slots.insert(format!("id:{id}"), config);
        }
        repairs.push(format!("middleware {index} ({name}) got the id {id}"));
        used.id = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;

    #[test]
    fn c10_d21_names_without_room_for_a_number_are_told_apart_all_the_same() {
        let long = "a".repeat(128);
        let payload = json!({"profiles": {(long.to_uppercase()): {}, (long.clone()): {}}});
        let adopted = adopt("default", &payload.to_string(), &catalog()).unwrap();
        let slugs: Vec<_> = adopted.profiles.iter().map(|(p, _)| p.slug.as_str().len()).collect();
        assert_eq!(slugs, [102, 128]);
    }

    #[test]
    fn c10_d10_keys_without_room_for_a_number_are_kept_all_the_same() {
        let key = format!("vendor.{}@v1", "x".repeat(64));
        let extensions = json!({(key.to_uppercase()): 1, (key.clone()): 2});
        let payload = json!({"profiles": {"a": {"extensions": extensions}}});
        let adopted = adopt("default", &payload.to_string(), &catalog()).unwrap();
        let (profile, repairs) = &adopted.profiles[0];
        assert_eq!(
            serde_json::to_value(&profile.extensions).unwrap(),
            json!({"adopted.key_variant2@v1": 1, (key): 2})
        );
        assert!(repairs[0].ends_with("is kept as adopted.key_variant2@v1"), "{repairs:?}");
    }
}
