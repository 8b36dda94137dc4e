//! What is secret among settings, and what stands in its place (decision 15).

use serde_json::Value;

use super::{Kind, SECTIONS, url};
use crate::json::Object;

/// Replaces every secret in a patch by `***`, and takes user and password out of addresses, wherever they lie; says
/// whether there was one (decision 15, adopted databases, whose patches may have any shape).
pub fn redact(patch: &mut Object) -> bool {
    let mut found = false;
    for (name, value) in patch.iter_mut() {
        if !name.trim().to_ascii_lowercase().ends_with("-api-key") {
            found |= redact_value(value);
        } else if !value.is_null() && value.as_str().is_none_or(|text| !["", "***"].contains(&text))
        {
            found = true;
            *value = "***".into();
        }
    }
    found
}

fn redact_value(value: &mut Value) -> bool {
    match value {
        Value::Object(object) => redact(object),
        Value::Array(items) => {
            items.iter_mut().fold(false, |found, item| redact_value(item) | found)
        }
        Value::String(text) => match url::without_credentials(text) {
            Some(address) => {
                *text = address;
                true
            }
            None => false,
        },
        _ => false,
    }
}

/// Whether a field of any section holds a key. Fields that are unknown here count by their names: a key of a program
/// that this one does not know is no less secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let mut known = SECTIONS.iter().flat_map(|(_, fields)| fields.iter());
    known.find(|field| field.name == name).map_or_else(
        || name.ends_with("-api-key") || name.ends_with("-token"),
        |field| field.kind == Kind::Secret,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_redacted_once() {
        let mut patch = json!({
            "openai-chat": {"openai-api-key": "sk", "openai-base-url": "https://u:p@h.example/v1?x=a@b"},
            "x": {"foo-api-key": "k", "mail": "a@b.example"},
        })
            .as_object()
            .unwrap()
            .clone();
        assert!(redact(&mut patch));
        assert_eq!(
            Value::Object(patch.clone()),
            json!({
                "openai-chat": {"openai-api-key": "***", "openai-base-url": "https://h.example/v1?x=a@b"},
                "x": {"foo-api-key": "***", "mail": "a@b.example"},
            })
        );
        assert!(!redact(&mut patch));
    }
}
