//! The provider settings that a profile may patch: sections, fields, types (chapter 40 §13, decisions 15, 38, 47).

use serde_json::{Map, Value};

use crate::error::Problem;
use crate::json::Object;
use url::check_provider_url;

pub mod redact;
pub mod url;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A 64-bit integer.
    Int,
    /// A finite double.
    Float,
    /// A boolean.
    Bool,
    /// Any text.
    Text,
    /// A provider's base URL.
    Url,
    /// A key; never part of a profile.
    Secret,
    /// One of these, compared exactly.
    Choice(&'static [&'static str]),
    /// One of these, compared ignoring case.
    ChoiceAnyCase(&'static [&'static str]),
    /// A list of text.
    List,
    /// Text by text.
    Pairs,
}

/// One field of a section. The first of its values in this order counts: profile, operator, default.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, which is also the name of the operator's flag.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The value when nobody sets it, as text; `None` is "unset".
    pub default: Option<&'static str>,
    /// Whether it has a meaning in this program. Others are accepted, and warned about at start (chapter 40 §13.3).
    pub effective: bool,
}

const fn field(name: &'static str, kind: Kind, default: Option<&'static str>) -> Field {
    Field { name, kind, default, effective: true }
}

const fn idle(name: &'static str, kind: Kind, default: Option<&'static str>) -> Field {
    Field { name, kind, default, effective: false }
}

use Kind::{Bool, Choice, ChoiceAnyCase, Float, Int, List, Pairs, Secret, Text, Url};

/// The values of `ai-api-type` that a profile may name; `demo` is the operator's alone.
pub const API_TYPES: &[&str] = &["openai", "openai-responses", "claude", "gemini"];
const EFFORTS: &[&str] = &["low", "medium", "high"];

/// Every section with its fields.
pub const SECTIONS: &[(&str, &[Field])] = &[
    (
        "ai-chat",
        &[
            field("ai-engine", Text, Some("gpt-4")),
            field("ai-api-type", Choice(API_TYPES), Some("openai")),
            field("ai-max-response-tokens", Int, None),
            field("ai-top-p", Float, Some("1")),
            field("ai-temperature", Float, Some("0.7")),
            field("ai-stop", List, None),
            idle("ai-cache-type", Choice(&["none", "memory", "disk"]), Some("none")),
            idle("ai-cache-max-size", Int, Some("1073741824")),
            idle("ai-cache-max-entries", Int, Some("1000")),
            idle("ai-cache-directory", Text, Some("")),
            field("ai-structured-output-mode", ChoiceAnyCase(&["off", "json_schema"]), Some("off")),
            field("ai-structured-output-name", Text, Some("")),
            field("ai-structured-output-description", Text, Some("")),
            field("ai-structured-output-schema", Text, Some("")),
            field("ai-structured-output-strict", Bool, Some("true")),
            field("ai-structured-output-require-valid", Bool, Some("false")),
        ],
    ),
    (
        "ai-client",
        &[
            field("timeout", Int, Some("60")),
            field("organization", Text, Some("")),
            field("user-agent", Text, None),
        ],
    ),
    (
        "openai-chat",
        &[
            field("openai-base-url", Url, Some("https://api.openai.com/v1")),
            field("openai-api-key", Secret, Some("")),
            field("openai-responses-api-key", Secret, Some("")),
            field("openai-n", Int, Some("1")),
            field("openai-presence-penalty", Float, Some("0")),
            field("openai-frequency-penalty", Float, Some("0")),
            field("openai-logit-bias", Pairs, None),
            field("openai-reasoning-effort", Choice(EFFORTS), Some("medium")),
            field("openai-reasoning-summary", Choice(&["", "auto"]), Some("auto")),
            idle("openai-parallel-tool-calls", Bool, Some("false")),
            idle("openai-include-reasoning-encrypted", Bool, Some("false")),
            idle("openai-stream-include-usage", Bool, Some("true")),
        ],
    ),
    (
        "claude-chat",
        &[
            field("claude-base-url", Url, Some("https://api.anthropic.com")),
            field("claude-api-key", Secret, Some("")),
            field("claude-top-k", Int, Some("1")),
            field("claude-user-id", Text, Some("")),
        ],
    ),
    (
        "gemini-chat",
        &[
            field("gemini-base-url", Url, Some("https://generativelanguage.googleapis.com/")),
            field("gemini-api-key", Secret, Some("")),
        ],
    ),
    (
        "ai-inference",
        &[
            field("inference-thinking-budget", Int, None),
            field("inference-reasoning-effort", Choice(EFFORTS), None),
            field("inference-reasoning-summary", Choice(&["auto", "concise", "detailed"]), None),
            field("inference-temperature", Float, None),
            field("inference-top-p", Float, None),
            field("inference-max-response-tokens", Int, None),
            field("inference-seed", Int, None),
            field("inference-stop", List, None),
        ],
    ),
    (
        "embeddings",
        &[
            idle("embeddings-engine", Text, Some("text-embedding-3-small")),
            idle("embeddings-type", Choice(&["openai", "ollama"]), Some("openai")),
            idle("embeddings-dimensions", Int, Some("1536")),
            idle("embeddings-cache-type", Choice(&["none", "memory", "file"]), Some("none")),
            idle("embeddings-cache-max-size", Int, Some("1073741824")),
            idle("embeddings-cache-max-entries", Int, Some("1000")),
            idle("embeddings-cache-directory", Text, Some("")),
        ],
    ),
];

fn find(section: &str, name: &str) -> Option<&'static Field> {
    let (_, fields) = SECTIONS.iter().find(|(s, _)| *s == section)?;
    fields.iter().find(|field| field.name == name)
}

/// Checks a patch as a profile may write it; problems are appended in the order of sections and fields.
pub fn check_patch(patch: &Object, allow_local: bool, problems: &mut Vec<Problem>) {
    const PREFIX: &str = "runtime.step_settings_patch";
    for (raw_section, fields) in patch {
        let section = raw_section.trim();
        if section.is_empty() {
            problems.push(Problem::new(PREFIX, "section slug cannot be empty"));
            continue;
        }
        let path = format!("{PREFIX}.{section}");
        let Value::Object(fields) = fields else {
            problems.push(Problem::new(path, "section patch must be an object").keyword("type"));
            continue;
        };
        if !SECTIONS.iter().any(|(s, _)| *s == section) {
            problems.push(Problem::new(path, "unknown section").keyword("unknown"));
            continue;
        }
        for (raw_name, value) in fields {
            let name = raw_name.trim();
            if name.is_empty() {
                problems.push(Problem::new(path.as_str(), "field name cannot be empty"));
                continue;
            }
            let path = format!("{path}.{name}");
            let problem = match find(section, name) {
                None => Some(Problem::new(path, "unknown field").keyword("unknown")),
                // What reads of an adopted profile show instead of a key may come back with an edit.
                Some(Field { kind: Secret, .. }) if value.as_str() == Some("***") => None,
                Some(Field { kind: Secret, .. }) => {
                    Some(Problem::new(path, "secrets do not belong in profiles").keyword("secret"))
                }
                Some(Field { kind: Url, .. })
                    if value.as_str().is_some_and(url::has_credentials) =>
                {
                    let reason = "user and password do not belong in profiles";
                    Some(Problem::new(path, reason).keyword("secret"))
                }
                Some(field) => coerce(field, value)
                    .and_then(|value| check_url(field, &value, allow_local))
                    .err()
                    .map(|reason| Problem::new(path, reason).keyword("type")),
            };
            problems.extend(problem);
        }
    }
}

fn check_url(field: &Field, value: &Value, allow_local: bool) -> Result<(), String> {
    match (field.kind, value.as_str()) {
        (Url, Some(url)) if !url.is_empty() && !allow_local => check_provider_url(url),
        _ => Ok(()),
    }
}

/// Brings a value to the type of its field; texts are parsed (chapter 40 §13).
///
/// # Errors
/// `Invalid value for field <f>: ...`
pub fn coerce(field: &Field, value: &Value) -> Result<Value, String> {
    let name = field.name;
    let invalid = |detail: String| format!("Invalid value for field {name}: {detail}");
    let unparsed = |kind: &str| invalid(format!("Could not parse argument {name} as {kind}"));
    let wrong = |kind: &str| invalid(format!("Value for field {name} is not {kind}: {value}"));
    match (field.kind, value) {
        (_, Value::Null) => Err(invalid("must not be null".into())),
        (Int, Value::String(text)) => {
            text.trim().parse::<i64>().map(Value::from).map_err(|_| unparsed("integer"))
        }
        (Int, Value::Number(number)) => crate::json::as_integer(number)
            .and_then(|n| i64::try_from(n).ok())
            .map(Value::from)
            .ok_or_else(|| wrong("an integer")),
        (Int, _) => Err(wrong("an integer")),
        (Float, Value::String(text)) => {
            let parsed = text.trim().parse::<f64>().ok().filter(|x| x.is_finite());
            parsed.map(Value::from).ok_or_else(|| unparsed("float"))
        }
        (Float, Value::Number(_))
        | (Bool, Value::Bool(_))
        | (Text | Url | Secret, Value::String(_)) => Ok(value.clone()),
        (Float, _) => Err(wrong("a float")),
        (Bool, Value::String(text)) => {
            crate::schema::coerce::parse_bool(text).map(Value::Bool).ok_or_else(|| unparsed("bool"))
        }
        (Bool, _) => Err(wrong("a bool")),
        (Text | Url | Secret, _) => Err(wrong("a string")),
        (Choice(choices) | ChoiceAnyCase(choices), Value::String(text)) => {
            let any_case = matches!(field.kind, ChoiceAnyCase(_));
            let same = |c: &&&str| {
                if any_case { c.eq_ignore_ascii_case(text) } else { **c == text.as_str() }
            };
            let found = choices.iter().find(same);
            found.map(|choice| Value::from(*choice)).ok_or_else(|| {
                let valid = choices.join(" ");
                invalid(format!(
                    "Value {text} is not a valid choice for field {name}. Valid choices are: [{valid}]"
                ))
            })
        }
        (Choice(_) | ChoiceAnyCase(_), _) => Err(wrong("a string")),
        (List, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(value.clone()),
        (List, Value::String(text)) => Ok(Value::Array(vec![text.as_str().into()])),
        (List, _) => Err(wrong("a string list")),
        (Pairs, Value::Object(_)) => Ok(value.clone()),
        (Pairs, _) => Err(wrong("a key value map")),
    }
}

/// Settings by section and field, coerced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Sets one field, as the operator does. Secrets are never part of settings: whoever calls providers keeps them.
    ///
    /// # Errors
    /// Unknown fields, secrets, and values of the wrong type.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        for (section, fields) in SECTIONS {
            if let Some(field) = fields.iter().find(|field| field.name == name) {
                if field.kind == Secret {
                    return Err(format!("{name} is a secret and no setting"));
                }
                let operators_own = field.name == "ai-api-type" && value.as_str() == Some("demo");
                let value = if operators_own { value.clone() } else { coerce(field, value)? };
                self.put(section, name, value);
                return Ok(());
            }
        }
        Err(format!("unknown setting {name}"))
    }

    fn put(&mut self, section: &str, name: &str, value: Value) {
        let section = self.0.entry(section).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(fields) = section {
            fields.insert(name.to_owned(), value);
        }
    }

    /// These settings with a profile's patch over them. What does not fit the table is left out: only adopted profiles
    /// hold such fields, and they are logged when they are adopted (decision 6). Secrets never come from a patch.
    #[must_use]
    pub fn patched(&self, patch: &Object) -> Self {
        let mut settings = self.clone();
        for (section, fields) in patch {
            let section = section.trim();
            for (name, value) in fields.as_object().into_iter().flatten() {
                let Some(field) = find(section, name.trim()) else { continue };
                if field.kind == Secret {
                    continue;
                }
                if let Ok(value) = coerce(field, value) {
                    settings.put(section, field.name, value);
                }
            }
        }
        settings
    }

    /// The value of a field, its default when unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        let (section, fields) =
            SECTIONS.iter().find(|(_, fs)| fs.iter().any(|f| f.name == name))?;
        if let Some(value) = self.explicit(section, name) {
            return Some(value.clone());
        }
        let field = fields.iter().find(|f| f.name == name)?;
        coerce(field, &Value::from(field.default?)).ok()
    }

    /// The text of a field, its default when unset.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| value.as_str().map(str::to_owned))
    }

    /// Whether somebody set the field.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        SECTIONS.iter().any(|(section, _)| self.explicit(section, name).is_some())
    }

    fn explicit(&self, section: &str, name: &str) -> Option<&Value> {
        self.0.get(section)?.get(name)
    }

    /// What the settings mean, without secrets: the flat map that goes into fingerprints (decision 16).
    #[must_use]
    pub fn summary(&self) -> Map<String, Value> {
        let fields = self.0.iter().flat_map(|(section, fields)| {
            fields
                .as_object()
                .into_iter()
                .flatten()
                .map(move |(name, value)| (section, name, value))
        });
        fields
            .filter(|(section, name, _)| find(section, name).is_some_and(|f| f.kind != Secret))
            .map(|(_, name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(patch: Value) -> Vec<String> {
        let Value::Object(patch) = patch else { panic!("an object") };
        let mut problems = Vec::new();
        check_patch(&patch, false, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn c10_d14_inf_19_sections_fields_and_types_are_checked_on_write() {
        for (patch, reason) in [
            (json!({"nope": {}}), "(runtime.step_settings_patch.nope): unknown section"),
            (
                json!({"ai-chat": {"x": 1}}),
                "(runtime.step_settings_patch.ai-chat.x): unknown field",
            ),
            (
                json!({"ai-chat": 5}),
                "(runtime.step_settings_patch.ai-chat): section patch must be an object",
            ),
            (json!({" ": {}}), "(runtime.step_settings_patch): section slug cannot be empty"),
            (
                json!({"ai-chat": {" ": 1}}),
                "(runtime.step_settings_patch.ai-chat): field name cannot be empty",
            ),
            (
                json!({"ai-chat": {"ai-temperature": null}}),
                "(runtime.step_settings_patch.ai-chat.ai-temperature): Invalid value for field ai-temperature: must not be null",
            ),
            (
                json!({"ai-chat": {"ai-api-type": "cohere"}}),
                "(runtime.step_settings_patch.ai-chat.ai-api-type): Invalid value for field ai-api-type: Value cohere is not a valid choice for field ai-api-type. Valid choices are: [openai openai-responses claude gemini]",
            ),
            (
                json!({"openai-chat": {"openai-api-key": "sk"}}),
                "(runtime.step_settings_patch.openai-chat.openai-api-key): secrets do not belong in profiles",
            ),
        ] {
            assert_eq!(problems(patch), [format!("validation error {reason}")]);
        }
        assert!(
            problems(json!({"ai-chat": {"ai-temperature": "0.2", "ai-max-response-tokens": "5"}}))
                .is_empty()
        );
        assert_eq!(
            problems(
                json!({"ai-client": {"timeout": 1.5}, "embeddings": {"embeddings-dimensions": "x"}})
            )
            .len(),
            2
        );
    }

    #[test]
    fn settings_layer_operator_profile_and_default() {
        let mut operator = Settings::default();
        assert!(
            operator.set("openai-api-key", &json!("sk-secret")).is_err(),
            "secrets are kept elsewhere"
        );
        operator.set("ai-temperature", &json!("0.1")).unwrap();
        let patch =
            json!({"ai-chat": {"ai-temperature": 0.9}, "openai-chat": {"openai-api-key": "***"}});
        let patched = operator.patched(patch.as_object().unwrap());
        assert_eq!(patched.get("ai-temperature"), Some(json!(0.9)));
        assert!(!patched.is_set("openai-api-key"));
        assert_eq!(patched.text("ai-engine").as_deref(), Some("gpt-4"));
        assert_eq!(patched.get("inference-seed"), None);
        assert!(!patched.is_set("ai-engine"));
        assert_eq!(Value::Object(patched.summary()), json!({"ai-temperature": 0.9}));
    }

    #[test]
    fn every_default_fits_its_field() {
        for (_, fields) in SECTIONS {
            for field in *fields {
                if let Some(default) = field.default {
                    assert!(coerce(field, &Value::from(default)).is_ok(), "{}", field.name);
                }
            }
        }
    }
}
