//! What a request may change about a profile for itself: parsed and gated in the order of decision 20.

use serde_json::Value;

use super::Policy;
use super::resolve::Refusal;
use crate::catalog::Catalog;
use crate::json::Object;
use crate::quote::quote;

/// A request's overrides after parsing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub(super) system_prompt: Option<String>,
    pub(super) tools: Option<Vec<String>>,
    pub(super) middlewares: Vec<Value>,
    /// Whether the run pauses for the debugger; not subject to policy.
    pub step_mode: Option<bool>,
}

impl Overrides {
    /// Whether the profile runs as it is.
    #[must_use]
    pub fn keeps_profile(&self) -> bool {
        self.system_prompt.is_none() && self.tools.is_none() && self.middlewares.is_empty()
    }
}

/// Reads and gates the overrides of a request, in the order of decision 20.
///
/// # Errors
/// The texts of decision 20.
pub fn parse_overrides(
    raw: &Object,
    policy: &Policy,
    catalog: &Catalog,
) -> Result<Overrides, Refusal> {
    const KNOWN: [&str; 4] = ["system_prompt", "middlewares", "tools", "step_mode"];
    let refuse = |text: String| Err(Refusal::Override(text));
    if let Some(key) = raw.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return refuse(format!("unknown override {}", quote(key)));
    }
    let gated = || raw.keys().filter(|key| *key != "step_mode");
    if gated().next().is_some() && !policy.allow_overrides {
        return refuse("profile does not allow engine overrides".into());
    }
    let lists = |list: &[String], key: &str| list.iter().any(|entry| canonical_key(entry) == key);
    for key in gated() {
        let allowed = &policy.allowed_override_keys;
        if lists(&policy.denied_override_keys, key) || (!allowed.is_empty() && !lists(allowed, key))
        {
            return refuse(format!("profile does not allow override {}", quote(key)));
        }
    }
    let mut overrides = Overrides::default();
    for (key, value) in raw {
        parse_override(key, value, catalog, &mut overrides).map_err(|reason| {
            Refusal::Override(format!("invalid override {}: {reason}", quote(key)))
        })?;
    }
    Ok(overrides)
}

fn parse_override(
    key: &str,
    value: &Value,
    catalog: &Catalog,
    out: &mut Overrides,
) -> Result<(), String> {
    match key {
        "system_prompt" => {
            out.system_prompt = Some(value.as_str().ok_or("must be a string")?.to_owned());
        }
        "step_mode" => out.step_mode = Some(parse_step_mode(value)),
        "tools" => out.tools = Some(parse_tools(value, catalog)?),
        _ => out.middlewares.clone_from(value.as_array().ok_or("must be an array")?),
    }
    Ok(())
}

fn parse_tools(value: &Value, catalog: &Catalog) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or("must be an array")?;
    let parse = |item: &Value| {
        let name = item.as_str().ok_or("entries must be strings")?.trim();
        match name {
            "" => Err("contains empty name".to_owned()),
            name if !catalog.knows_tool(name) => Err(format!("unknown tool {}", quote(name))),
            name => Ok(name.to_owned()),
        }
    };
    items.iter().map(parse).collect()
}

/// `true`, or one of the contract's words (chapter 30 §1.5).
fn parse_step_mode(value: &Value) -> bool {
    match value {
        Value::Bool(on) => *on,
        Value::String(word) => {
            ["1", "true", "yes", "y", "on"].contains(&word.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

/// The canonical form of an entry of an allow or deny list (chapter 10 §12).
fn canonical_key(raw: &str) -> String {
    let mut key = String::new();
    for (i, c) in raw.trim().chars().enumerate() {
        if i > 0 && c.is_ascii_uppercase() {
            key.push('_');
        }
        key.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    key
}
