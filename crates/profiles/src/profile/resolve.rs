//! The effective profile: what one request runs under (chapter 10 §12 and §14, decisions 10, 16, 19, 20).
//!
//! Resolved once per request, immutable, fingerprinted. Without overrides it depends on the stored version alone and is
//! shared by all requests.

use serde_json::{Map, Value, json};

use super::middlewares::config_of;
use super::overrides::Overrides;
use super::{Extensions, MiddlewareUse, Profile};
use crate::catalog::Catalog;
use crate::ids::{ProfileSlug, RegistrySlug, RuntimeKey};
use crate::json::{self, Object};
use crate::quote::quote;
use crate::schema::Schema;
use crate::schema::resolve::{Layer, ResolveError, Source, resolve_config};
use crate::settings::Settings;

/// The prompt of a profile that has none.
pub const DEFAULT_PROMPT: &str = "You are an assistant";

/// A middleware as it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveMiddleware {
    /// The definition's name.
    pub name: String,
    /// The instance; may be empty.
    pub id: String,
    /// Whether it runs; one that does not is resolved all the same.
    pub enabled: bool,
    /// The whole configuration, defaults included.
    pub config: Object,
}

/// What one request runs under.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveProfile {
    /// The registry it came from.
    pub registry: RegistrySlug,
    /// The profile.
    pub slug: ProfileSlug,
    /// The profile's version.
    pub version: u64,
    /// Where the profile's last write came from, else the registry's.
    pub source: String,
    /// What the answer is attributed to.
    pub runtime_key: RuntimeKey,
    /// Never blank.
    pub system_prompt: String,
    /// In the order in which they run.
    pub middlewares: Vec<ActiveMiddleware>,
    /// The registry's own tools that are offered: `None` is all, empty is none.
    pub tools: Option<Vec<String>>,
    /// The operator's settings with the profile's patch over them.
    pub settings: Settings,
    /// Fields of the settings whose value the profile gave.
    pub patched_settings: Object,
    /// `sha256:<hex>` over all of the above, secrets apart.
    pub fingerprint: String,
}

impl EffectiveProfile {
    /// The metadata map of the contract (chapter 10 §12, step 6).
    #[must_use]
    pub fn metadata(&self) -> Map<String, Value> {
        let Value::Object(map) = json!({
            "profile.registry": self.registry,
            "profile.slug": self.slug,
            "profile.version": self.version,
            "profile.source": self.source,
        }) else {
            return Map::new();
        };
        map
    }
}

/// What a profile is resolved against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The registry.
    pub registry: &'a RegistrySlug,
    /// The source of the registry's last write.
    pub registry_source: &'a str,
    /// The operator's settings.
    pub settings: &'a Settings,
}

/// Why a request cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request's own fault, with the contract's text (400).
    #[error("{0}")]
    Override(String),
    /// A stored profile that this process cannot run, for the log (500).
    #[error("{0}")]
    Profile(String),
}

/// Resolves `profile` with `overrides`.
///
/// # Errors
/// Overrides that do not fit, or a stored profile with a middleware that this process does not have.
pub fn effective(
    profile: &Profile,
    overrides: &Overrides,
    context: Context<'_>,
    catalog: &Catalog,
) -> Result<EffectiveProfile, Refusal> {
    let prompt = match &overrides.system_prompt {
        Some(prompt) if !prompt.trim().is_empty() => prompt.clone(),
        _ => profile.runtime.system_prompt.trim().to_owned(),
    };
    let source = if profile.metadata.source.trim().is_empty() {
        context.registry_source.trim()
    } else {
        profile.metadata.source.trim()
    };
    let mut resolved = EffectiveProfile {
        registry: context.registry.clone(),
        slug: profile.slug.clone(),
        version: profile.metadata.version,
        source: source.to_owned(),
        runtime_key: RuntimeKey::from(&profile.slug),
        system_prompt: if prompt.is_empty() { DEFAULT_PROMPT.to_owned() } else { prompt },
        middlewares: active_middlewares(profile, &overrides.middlewares, catalog)?,
        tools: overrides.tools.clone().or_else(|| profile.runtime.tools.clone()),
        settings: context.settings.patched(&profile.runtime.step_settings_patch),
        patched_settings: profile.runtime.step_settings_patch.clone(),
        fingerprint: String::new(),
    };
    resolved.fingerprint = fingerprint(&resolved);
    Ok(resolved)
}

/// One use with the layers of its configuration.
pub(super) struct Layered {
    pub(super) used: MiddlewareUse,
    profile: Option<Value>,
    request: Option<Value>,
    overridden: bool,
}

impl Layered {
    /// The use, and what `resolve` makes of its layers.
    pub(super) fn resolve<T>(
        self,
        catalog: &Catalog,
        resolve: fn(&str, &Schema, &MiddlewareUse, Vec<Source>) -> Result<T, ResolveError>,
    ) -> Result<(MiddlewareUse, T), Refusal> {
        let Self { used, profile, request, overridden } = self;
        let label = if used.id.is_empty() {
            used.name.clone()
        } else {
            format!("{}#{}", used.name, used.id)
        };
        let refuse = |text: String| if overridden { invalid(text) } else { Refusal::Profile(text) };
        let definition = catalog.middleware(&used.name).ok_or_else(|| {
            refuse(format!("resolve middleware {label}: unknown middleware {}", quote(&used.name)))
        })?;
        let source =
            |name: &'static str, layer, payload| Source { name: name.into(), layer, payload };
        let sources = vec![
            source("profile", Layer::Profile, profile),
            source("request", Layer::Request, request),
        ];
        let resolved = resolve(&definition.name, &definition.schema, &used, sources)
            .map_err(|e| refuse(format!("resolve middleware {label}: {e}")))?;
        Ok((used, resolved))
    }
}

fn invalid(reason: impl std::fmt::Display) -> Refusal {
    Refusal::Override(format!("invalid override \"middlewares\": {reason}"))
}

fn active_middlewares(
    profile: &Profile,
    overrides: &[Value],
    catalog: &Catalog,
) -> Result<Vec<ActiveMiddleware>, Refusal> {
    let mut uses = layered(&profile.runtime.middlewares, &profile.extensions)?;
    for entry in overrides {
        merge_override(&mut uses, entry, catalog).map_err(invalid)?;
    }
    let activate = |layered: Layered| {
        let (used, config) = layered.resolve(catalog, resolve_config)?;
        Ok(ActiveMiddleware { enabled: used.is_enabled(), name: used.name, id: used.id, config })
    };
    uses.into_iter().map(activate).collect()
}

pub(super) fn layered(
    uses: &[MiddlewareUse],
    extensions: &Extensions,
) -> Result<Vec<Layered>, Refusal> {
    let with_config = |(index, used): (usize, &MiddlewareUse)| {
        let profile = config_of(index, used, extensions)
            .map_err(|e| Refusal::Profile(format!("resolve middleware {}: {e}", used.name)))?;
        let used = MiddlewareUse { config: None, ..used.clone() };
        Ok(Layered { used, profile, request: None, overridden: false })
    };
    uses.iter().enumerate().filter(|(_, u)| !u.name.trim().is_empty()).map(with_config).collect()
}

/// Merges one entry into the list: by name and id, or by name among the uses without id (chapter 40 §9, step 7).
fn merge_override(uses: &mut Vec<Layered>, entry: &Value, catalog: &Catalog) -> Result<(), String> {
    let Value::Object(entry) = entry else { return Err("entries must be objects".into()) };
    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default().trim();
    if name.is_empty() {
        return Err("missing name".into());
    }
    let definition =
        catalog.middleware(name).ok_or_else(|| format!("unknown middleware {}", quote(name)))?;
    let id = match entry.get("id") {
        None | Some(Value::Null) => "",
        Some(Value::String(id)) if !id.is_empty() && id.trim().is_empty() => {
            return Err("id must not be empty".into());
        }
        Some(Value::String(id)) => id.trim(),
        Some(_) => return Err("id must be a string".into()),
    };
    let enabled = match entry.get("enabled") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(enabled)) => Some(*enabled),
        Some(_) => return Err("enabled must be a boolean".into()),
    };
    let request = match entry.get("config") {
        None | Some(Value::Null) => None,
        Some(config @ Value::Object(members)) => {
            if let Some(own) =
                definition.operator_only.iter().find(|name| members.contains_key(**name))
            {
                return Err(format!("{own} may only be set by the operator"));
            }
            Some(config.clone())
        }
        Some(_) => return Err("config must be an object".into()),
    };
    let matches: Vec<usize> =
        (0..uses.len()).filter(|i| uses[*i].used.name == name && uses[*i].used.id == id).collect();
    match matches[..] {
        [] => {
            let used =
                MiddlewareUse { name: name.to_owned(), id: id.to_owned(), enabled, config: None };
            uses.push(Layered { used, profile: None, request, overridden: true });
            Ok(())
        }
        [one] if uses[one].overridden => {
            Err(format!("duplicate middleware override for {name}#{id}"))
        }
        [one] => {
            let found = &mut uses[one];
            found.used.enabled = enabled.or(found.used.enabled);
            found.request = request;
            found.overridden = true;
            Ok(())
        }
        _ => Err(format!("middleware override {} is ambiguous; specify id", quote(name))),
    }
}

/// Equal inputs give equal text in every process; a change of version, runtime, resolved configuration or effective
/// setting changes it (decision 16, D17).
fn fingerprint(profile: &EffectiveProfile) -> String {
    let middlewares: Vec<Value> = profile
        .middlewares
        .iter()
        .map(|m| json!({"name": m.name, "id": m.id, "enabled": m.enabled, "config": m.config}))
        .collect();
    let payload = json!({
        "registry_slug": profile.registry,
        "profile_slug": profile.slug,
        "profile_version": profile.version,
        "runtime": {
            "system_prompt": profile.system_prompt,
            "middlewares": middlewares,
            "tools": profile.tools,
        },
        "step_metadata": profile.settings.summary(),
    });
    format!("sha256:{}", json::sha256_hex(&json::canonical(&payload)))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are used")]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;
    use crate::profile::draft::{self, Draft};
    use crate::profile::middlewares::Writer;
    use crate::profile::overrides::parse_overrides;

    fn stored(runtime: Value, policy: Value) -> Profile {
        let draft = Draft {
            runtime: serde_json::from_value(runtime).unwrap(),
            policy: serde_json::from_value(policy).unwrap(),
            ..Draft::default()
        };
        let slug = ProfileSlug::parse("p").unwrap();
        let checked = draft::check(slug, draft, &catalog(), Writer::Client);
        assert_eq!(checked.problems(), None);
        let mut profile = checked.profile;
        profile.metadata.version = 1;
        profile
    }

    fn run_with(
        profile: &Profile,
        overrides: Value,
        settings: &Settings,
    ) -> Result<EffectiveProfile, String> {
        let catalog = catalog();
        let registry = RegistrySlug::parse("default").unwrap();
        let context = Context { registry: &registry, registry_source: "bootstrap", settings };
        let raw = overrides.as_object().unwrap();
        let overrides =
            parse_overrides(raw, &profile.policy, &catalog).map_err(|e| e.to_string())?;
        effective(profile, &overrides, context, &catalog).map_err(|e| e.to_string())
    }

    fn run(profile: &Profile, overrides: Value) -> Result<EffectiveProfile, String> {
        run_with(profile, overrides, &Settings::default())
    }

    #[test]
    fn c10_d18_one_gate_for_all_overrides_in_its_order() {
        let closed = stored(json!({}), json!({}));
        let open = json!({"allow_overrides": true, "allowed_override_keys": ["systemPrompt", "middlewares"], "denied_override_keys": ["Middlewares"]});
        let open = stored(json!({}), open);
        for (profile, overrides, text) in [
            (&closed, json!({"unknown": 1}), "unknown override \"unknown\""),
            (&closed, json!({"systemPrompt": 1}), "unknown override \"systemPrompt\""),
            (&closed, json!({"system_prompt": 5}), "profile does not allow engine overrides"),
            (&open, json!({"tools": 5}), "profile does not allow override \"tools\""),
            (&open, json!({"middlewares": []}), "profile does not allow override \"middlewares\""),
            (
                &open,
                json!({"system_prompt": 5}),
                "invalid override \"system_prompt\": must be a string",
            ),
        ] {
            assert_eq!(run(profile, overrides).unwrap_err(), text);
        }
        assert!(run(&closed, json!({"step_mode": true})).is_ok());
        assert_eq!(run(&open, json!({"system_prompt": "x"})).unwrap().system_prompt, "x");
    }

    #[test]
    fn override_values_are_checked() {
        let p = stored(
            json!({"middlewares": [{"name": "agentmode", "id": "a"}]}),
            json!({"allow_overrides": true}),
        );
        for (overrides, reason) in [
            (json!({"tools": "x"}), "\"tools\": must be an array"),
            (json!({"tools": [1]}), "\"tools\": entries must be strings"),
            (json!({"tools": [" "]}), "\"tools\": contains empty name"),
            (json!({"tools": ["no"]}), "\"tools\": unknown tool \"no\""),
            (json!({"middlewares": {}}), "\"middlewares\": must be an array"),
            (json!({"middlewares": [1]}), "\"middlewares\": entries must be objects"),
            (json!({"middlewares": [{}]}), "\"middlewares\": missing name"),
            (
                json!({"middlewares": [{"name": "nope"}]}),
                "\"middlewares\": unknown middleware \"nope\"",
            ),
            (
                json!({"middlewares": [{"name": "agentmode", "id": 5}]}),
                "\"middlewares\": id must be a string",
            ),
            (
                json!({"middlewares": [{"name": "agentmode", "enabled": 5}]}),
                "\"middlewares\": enabled must be a boolean",
            ),
            (
                json!({"middlewares": [{"name": "sqlite", "config": {"dsn": "x"}}]}),
                "\"middlewares\": dsn may only be set by the operator",
            ),
            (
                json!({"middlewares": [{"name": "sqlite", "config": {"max_rows": 0}}]}),
                "\"middlewares\": resolve middleware sqlite: final middleware sqlite config validation failed: /max_rows: 0 is less than the minimum of 1",
            ),
        ] {
            assert_eq!(run(&p, overrides).unwrap_err(), format!("invalid override {reason}"));
        }
    }

    #[test]
    fn c10_d19_inf_23_no_tools_in_an_override_means_none() {
        let p = stored(json!({"tools": ["calculator"]}), json!({"allow_overrides": true}));
        assert_eq!(run(&p, json!({"tools": []})).unwrap().tools, Some(vec![]));
        assert_eq!(run(&p, json!({})).unwrap().tools, Some(vec!["calculator".into()]));
        assert_eq!(run(&stored(json!({}), json!({})), json!({})).unwrap().tools, None);
    }

    #[test]
    fn override_config_lies_over_the_profile_s() {
        let p = stored(
            json!({"middlewares": [{"name": "sqlite", "id": "db", "config": {"max_rows": 5}}]}),
            json!({"allow_overrides": true}),
        );
        let overrides = json!({"middlewares": [{"name": "sqlite", "id": "db", "enabled": false, "config": {"max_rows": "7"}}, {"name": "agentmode"}]});
        let resolved = run(&p, overrides).unwrap();
        let seen: Vec<_> =
            resolved.middlewares.iter().map(|m| (m.name.as_str(), m.enabled)).collect();
        assert_eq!(seen, [("sqlite", false), ("agentmode", true)]);
        assert_eq!(Value::Object(resolved.middlewares[0].config.clone()), json!({"max_rows": 7}));
    }

    #[test]
    fn c10_d17_the_fingerprint_follows_meaning_and_knows_no_secret() {
        let base = stored(json!({"middlewares": [{"name": "agentmode", "id": "a"}]}), json!({}));
        let print = |p: &Profile| run(p, json!({})).unwrap().fingerprint;
        assert_eq!(print(&base), print(&base.clone()));
        let mut other_config = base.clone();
        let key = crate::ids::ExtensionKey::for_middleware("agentmode").unwrap();
        other_config.extensions.insert(key, json!({"instances": {"id:a": {"default_mode": "x"}}}));
        let mut newer = base.clone();
        newer.metadata.version = 2;
        let mut warmer = base.clone();
        warmer.runtime.step_settings_patch =
            json!({"ai-chat": {"ai-temperature": 1}}).as_object().unwrap().clone();
        let prints = [print(&base), print(&other_config), print(&newer), print(&warmer)];
        let distinct: std::collections::BTreeSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn inf_16_another_provider_address_is_another_runtime() {
        let base = stored(json!({}), json!({}));
        let with = |name: &str, value: &str| {
            let mut settings = Settings::default();
            settings.set(name, &value.into()).unwrap();
            run_with(&base, json!({}), &settings).unwrap().fingerprint
        };
        assert_ne!(with("openai-base-url", "http://a"), with("openai-base-url", "http://b"));
    }

    #[test]
    fn a_blank_prompt_becomes_the_default_one() {
        let p = stored(json!({"system_prompt": "  "}), json!({"allow_overrides": true}));
        assert_eq!(run(&p, json!({"system_prompt": " "})).unwrap().system_prompt, DEFAULT_PROMPT);
    }

    #[test]
    fn a_stored_middleware_that_is_gone_is_the_operator_s_matter() {
        let mut p = stored(json!({}), json!({}));
        p.runtime.middlewares =
            vec![MiddlewareUse { name: "gone".into(), ..MiddlewareUse::default() }];
        assert_eq!(
            run(&p, json!({})).unwrap_err(),
            "resolve middleware gone: unknown middleware \"gone\""
        );
    }

    #[test]
    fn metadata_names_registry_slug_version_and_source() {
        let p = stored(json!({}), json!({}));
        assert_eq!(
            Value::Object(run(&p, json!({})).unwrap().metadata()),
            json!({"profile.registry": "default", "profile.slug": "p", "profile.version": 1, "profile.source": "bootstrap"})
        );
    }
}
