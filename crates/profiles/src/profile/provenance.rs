//! Where every field of a runtime comes from (chapter 10 §13): for whoever asks why a profile behaves as it does.

use serde::Serialize;
use serde_json::{Value, json};

use super::Profile;
use super::resolve::{Context, DEFAULT_PROMPT, Refusal, layered};
use crate::catalog::Catalog;
use crate::schema::resolve::resolve;
use crate::settings::Settings;
use crate::settings::redact::redact;

/// One field and how it came to its value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Origin {
    /// For example `system_prompt`, `middlewares[0] sqlite /max_rows`, `settings ai-engine`.
    pub field: String,
    /// What counts.
    pub value: Value,
    /// Who said what, the last one counts.
    pub said: Vec<Said>,
}

/// What one source said of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// `server`, `schema-defaults`, `operator`, `profile`.
    pub by: String,
    /// What it said.
    pub value: Value,
}

fn said(by: &str, value: impl Into<Value>) -> Said {
    Said { by: by.into(), value: value.into() }
}

impl Origin {
    fn new(field: impl Into<String>, said: Vec<Said>) -> Self {
        let value = said.last().map(|last| last.value.clone()).unwrap_or_default();
        Self { field: field.into(), value, said }
    }
}

/// Every field of what `profile` runs under without overrides of a request; of the settings, those that somebody set.
/// Secrets are left out.
///
/// # Errors
/// A stored profile that this process cannot run.
pub fn provenance(
    profile: &Profile,
    context: Context<'_>,
    catalog: &Catalog,
) -> Result<Vec<Origin>, Refusal> {
    let mut prompt = vec![said("server", DEFAULT_PROMPT)];
    let own = profile.runtime.system_prompt.trim();
    if !own.is_empty() {
        prompt.push(said("profile", own));
    }
    let mut tools = vec![said("server", "all")];
    tools.extend(profile.runtime.tools.as_ref().map(|names| said("profile", json!(names))));
    let mut origins = vec![Origin::new("system_prompt", prompt), Origin::new("tools", tools)];
    for (at, layered) in
        layered(&profile.runtime.middlewares, &profile.extensions)?.into_iter().enumerate()
    {
        let enabled = layered.used.enabled;
        let (used, resolved) = layered.resolve(catalog, resolve)?;
        let id = if used.id.is_empty() { String::new() } else { format!("#{}", used.id) };
        let place = format!("middlewares[{at}] {}{id}", used.name);
        let mut runs = vec![said("server", true)];
        runs.extend(enabled.map(|enabled| said("profile", enabled)));
        origins.push(Origin::new(format!("{place} enabled"), runs));
        origins.extend(resolved.paths.into_values().map(|path| {
            let steps = path.steps.into_iter().map(|step| said(step.layer.as_str(), step.value));
            Origin::new(format!("{place} {}", path.path), steps.collect())
        }));
    }
    let shown = |settings: &Settings| {
        let mut summary = settings.summary();
        redact(&mut summary); // the operator's addresses may hold a password
        summary
    };
    let operator = shown(context.settings);
    let patched = shown(&context.settings.patched(&profile.runtime.step_settings_patch));
    let own = shown(&Settings::default().patched(&profile.runtime.step_settings_patch));
    for name in patched.keys() {
        let of = [("operator", &operator), ("profile", &own)];
        let of =
            of.into_iter().filter_map(|(by, fields)| Some(said(by, fields.get(name)?.clone())));
        origins.push(Origin::new(format!("settings {name}"), of.collect()));
    }
    Ok(origins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::catalog;
    use crate::ids::{ProfileSlug, RegistrySlug};
    use crate::profile::draft::{self, Draft};
    use crate::profile::middlewares::Writer;

    #[test]
    fn c10_13_every_field_says_who_gave_it_its_value() {
        let catalog = catalog();
        let runtime = json!({
            "system_prompt": " Be brief. ",
            "middlewares": [{"name": "agentmode", "config": {"default_mode": "quick"}}],
            "step_settings_patch": {"ai-chat": {"ai-engine": "large"}},
        });
        // As adopted profiles may hold them: in another section, of another type.
        let odd = json!({"embeddings": {"ai-temperature": 1}, "ai-client": {"timeout": "soon"}});
        let draft = Draft { runtime: serde_json::from_value(runtime).unwrap(), ..Draft::default() };
        let slug = ProfileSlug::parse("p").unwrap();
        let checked = draft::check(slug, draft, &catalog, Writer::Client);
        assert_eq!(checked.problems(), None);
        let mut profile = checked.profile;
        profile.runtime.step_settings_patch.extend(odd.as_object().unwrap().clone());
        let mut settings = Settings::default();
        settings.set("timeout", &json!(5)).unwrap();
        settings.set("openai-base-url", &json!("https://u:pass@h.example/v1")).unwrap();
        settings.set("ai-engine", &json!("small")).unwrap();
        settings.set("ai-temperature", &json!(0.5)).unwrap();
        let registry = RegistrySlug::parse("default").unwrap();
        let context = Context { registry: &registry, registry_source: "", settings: &settings };
        let origins = provenance(&profile, context, &catalog).unwrap();
        let of = |field: &str| {
            let origin = origins.iter().find(|origin| origin.field == field).unwrap();
            let said: Vec<String> =
                origin.said.iter().map(|said| format!("{}: {}", said.by, said.value)).collect();
            assert_eq!(origin.value, origin.said.last().unwrap().value);
            said
        };
        let server = format!("server: {}", json!(DEFAULT_PROMPT));
        assert_eq!(of("system_prompt"), [server.as_str(), "profile: \"Be brief.\""]);
        assert_eq!(of("tools"), ["server: \"all\""]);
        assert_eq!(of("middlewares[0] agentmode enabled"), ["server: true"]);
        let mode = of("middlewares[0] agentmode /default_mode");
        assert_eq!(mode.last().unwrap(), "profile: \"quick\"");
        assert_eq!(of("settings ai-engine"), ["operator: \"small\"", "profile: \"large\""]);
        assert_eq!(of("settings ai-temperature"), ["operator: 0.5"]);
        assert_eq!(of("settings timeout"), ["operator: 5"]);
        assert_eq!(of("settings openai-base-url"), ["operator: \"https://h.example/v1\""]);
    }
}
