//! Lines 7, 9, 10 and 12: schemas are served, and a configuration that breaks one is refused.

use anyhow::Result;
use serde_json::{Value, json};

use super::{API_SCHEMAS, SCHEMAS_EXTENSIONS, SCHEMAS_MIDDLEWARES};
use crate::ops::verdict::{Check, Finding};
use crate::target::Target;

const MIDDLEWARES: &str = "/api/chat/schemas/middlewares";
const EXTENSIONS: &str = "/api/chat/schemas/extensions";

/// Line 7.
pub(crate) async fn mounted(target: &Target) -> Result<Finding> {
    for path in [MIDDLEWARES, EXTENSIONS] {
        let answer = target.get(path).await?;
        if answer.status != 200 {
            return Ok(API_SCHEMAS.fail(format!("GET {path}: {}", answer.shown())));
        }
    }
    Ok(API_SCHEMAS.pass("both answer 200"))
}

/// Line 9, and the schemas by middleware.
pub(crate) async fn middlewares(target: &Target) -> Result<(Finding, Vec<(String, Value)>)> {
    let answer = target.get(MIDDLEWARES).await?.json();
    let (finding, found) = described(SCHEMAS_MIDDLEWARES, &answer, "name");
    if finding.is_none() && found.is_empty() {
        return Ok((SCHEMAS_MIDDLEWARES.fail("the list is empty"), found));
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    Ok((finding.unwrap_or_else(|| SCHEMAS_MIDDLEWARES.pass(names.join(", "))), found))
}

/// Line 10.
pub(crate) async fn extensions(target: &Target) -> Result<Finding> {
    let answer = target.get(EXTENSIONS).await?.json();
    let (finding, found) = described(SCHEMAS_EXTENSIONS, &answer, "key");
    if finding.is_none() && found.is_empty() {
        return Ok(SCHEMAS_EXTENSIONS.fail("the list is empty"));
    }
    Ok(finding.unwrap_or_else(|| SCHEMAS_EXTENSIONS.pass(format!("{} schemas", found.len()))))
}

/// The items of a list with their schemas, or what is wrong with it.
fn described(check: Check, answer: &Value, key: &str) -> (Option<Finding>, Vec<(String, Value)>) {
    let Some(items) = answer.as_array() else {
        return (Some(check.fail("the answer is not a JSON array")), Vec::new());
    };
    let mut found = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let name = item[key].as_str().unwrap_or_default();
        if name.is_empty() || !item["schema"].is_object() {
            let text = format!("item {at} has no {key} or no schema: {item}");
            return (Some(check.fail(text.chars().take(300).collect::<String>())), Vec::new());
        }
        found.push((name.to_owned(), item["schema"].clone()));
    }
    (None, found)
}

/// A middleware and a configuration that its schema must refuse.
pub(crate) fn breaking(schemas: &[(String, Value)]) -> Option<(&str, Value)> {
    schemas.iter().find_map(|(name, schema)| Some((name.as_str(), broken_config(schema)?)))
}

/// Servers turn text into numbers and the other way round where a schema says so, but no object into either.
fn broken_config(schema: &Value) -> Option<Value> {
    let properties = schema["properties"].as_object();
    let of_wrong_type = properties.into_iter().flatten().find_map(|(name, property)| {
        let wrong = match property["type"].as_str()? {
            "object" => json!(["not an object"]),
            "array" => json!({"not": "an array"}),
            "string" | "integer" | "number" | "boolean" => json!({"not": "a plain value"}),
            _ => return None,
        };
        Some(json!({ name: wrong }))
    });
    of_wrong_type
        .or_else(|| (schema["additionalProperties"] == false).then(|| json!({"no_such_field": 1})))
        .or_else(|| schema["required"].get(0).is_some().then(|| json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_configuration_is_found_for_every_kind_of_schema() {
        for (schema, expected) in [
            (
                json!({"properties": {"n": {"type": "integer"}}}),
                json!({"n": {"not": "a plain value"}}),
            ),
            (json!({"properties": {"l": {"type": "array"}}}), json!({"l": {"not": "an array"}})),
            (json!({"properties": {"o": {"type": "object"}}}), json!({"o": ["not an object"]})),
            (json!({"additionalProperties": false}), json!({"no_such_field": 1})),
            (json!({"required": ["a"]}), json!({})),
        ] {
            assert_eq!(broken_config(&schema), Some(expected), "{schema}");
        }
        assert_eq!(broken_config(&json!({})), None);
    }

    #[test]
    fn what_is_broken_for_them_is_broken_for_our_own_schemas() {
        let catalog = collodi_tools::catalog().unwrap();
        for definition in catalog.middlewares() {
            let Some(config) = broken_config(definition.schema.document()) else { continue };
            assert!(!definition.schema.is_valid(&config), "{}: {config}", definition.name);
        }
    }
}
