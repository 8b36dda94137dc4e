//! Bringing values to the types of a schema (chapter 10 §13, "Type of a schema"; D16).

use serde_json::{Number, Value};

use crate::json::{self, Object};
use crate::quote::quote;

/// The type that counts for coercion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An object.
    Object,
    /// An array.
    Array,
    /// A string.
    String,
    /// A boolean.
    Boolean,
    /// A 64-bit signed integer.
    Integer,
    /// A finite double, or any integer.
    Number,
    /// Anything.
    Untyped,
}

impl Type {
    const NAMED: [Self; 6] =
        [Self::Object, Self::Array, Self::String, Self::Boolean, Self::Integer, Self::Number];

    /// The word of the schema, empty for untyped.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Untyped => "",
        }
    }
}

/// The type of a schema: `type`, or the first entry of a list of types that is not null, or what its members imply.
#[must_use]
pub fn type_of(schema: &Value) -> Type {
    let word = match schema.get("type") {
        Some(Value::String(word)) => Some(word.trim()),
        Some(Value::Array(words)) => {
            let mut words = words.iter().filter_map(Value::as_str).map(str::trim);
            words.find(|word| !word.eq_ignore_ascii_case("null"))
        }
        _ => None,
    };
    match word {
        Some(word) => {
            let mut types = Type::NAMED.into_iter();
            types.find(|t| t.as_str().eq_ignore_ascii_case(word)).unwrap_or(Type::Untyped)
        }
        None if schema.get("properties").is_some_and(Value::is_object) => Type::Object,
        None if schema.get("items").is_some_and(Value::is_object) => Type::Array,
        None => Type::Untyped,
    }
}

/// What may stand under a key of an object.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// Its schema.
    Schema(&'a Value),
    /// Anything.
    Any,
    /// Nothing.
    Forbidden,
    /// The schema itself is broken.
    Broken,
}

/// Looks up a member. An absent `additionalProperties` forbids: stricter than JSON Schema, as the contract is.
#[must_use]
pub fn member<'a>(schema: &'a Value, key: &str) -> Member<'a> {
    if let Some(property) =
        schema.get("properties").and_then(|p| p.get(key)).filter(|p| p.is_object())
    {
        return Member::Schema(property);
    }
    match schema.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Member::Forbidden,
        Some(Value::Bool(true)) => Member::Any,
        Some(schema @ Value::Object(_)) => Member::Schema(schema),
        Some(_) => Member::Broken,
    }
}

pub(super) const BROKEN_SCHEMA: &str = "additionalProperties schema must be an object or boolean";

/// Coerces `value` to `schema`, checks `enum` and `required`, and fills defaults of required members.
///
/// # Errors
/// The contract's text; the place is named by nesting (`field "k": items[2]: must be ...`).
pub fn coerce(schema: &Value, value: &Value) -> Result<Value, String> {
    let coerced = match type_of(schema) {
        Type::Object => Value::Object(coerce_object(schema, value)?),
        Type::Array => coerce_array(schema, value)?,
        Type::String => coerce_string(value)?,
        Type::Boolean => match value {
            Value::Bool(_) => value.clone(),
            Value::String(text) => parse_bool(text).map(Value::Bool).ok_or("must be a boolean")?,
            _ => return Err("must be a boolean".into()),
        },
        Type::Integer => coerce_integer(value).map(Value::from).ok_or("must be an integer")?,
        Type::Number => coerce_number(value).ok_or("must be a number")?,
        Type::Untyped => value.clone(),
    };
    check_enum(schema, &coerced)?;
    Ok(coerced)
}

fn coerce_object(schema: &Value, value: &Value) -> Result<Object, String> {
    let Value::Object(object) = value else { return Err("must be an object".into()) };
    let mut coerced = Object::new();
    for (key, value) in object {
        let value = match member(schema, key) {
            Member::Schema(schema) => {
                coerce(schema, value).map_err(|e| format!("field {}: {e}", quote(key)))?
            }
            Member::Any => value.clone(),
            Member::Forbidden => return Err(format!("field {} is not allowed", quote(key))),
            Member::Broken => return Err(BROKEN_SCHEMA.into()),
        };
        coerced.insert(key.clone(), value);
    }
    let mut required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::trim).collect())
        .unwrap_or_default();
    required.sort_unstable();
    for name in required.into_iter().filter(|name| !name.is_empty()) {
        if coerced.contains_key(name) {
            continue;
        }
        let default =
            schema.get("properties").and_then(|p| p.get(name)).and_then(|p| p.get("default"));
        match default {
            Some(default) => coerced.insert(name.to_owned(), default.clone()),
            None => return Err(format!("missing required field {}", quote(name))),
        };
    }
    Ok(coerced)
}

fn coerce_array(schema: &Value, value: &Value) -> Result<Value, String> {
    let Value::Array(items) = value else { return Err("must be an array".into()) };
    let Some(schema) = schema.get("items").filter(|s| s.is_object()) else {
        return Ok(value.clone());
    };
    let coerced = items
        .iter()
        .enumerate()
        .map(|(i, item)| coerce(schema, item).map_err(|e| format!("items[{i}]: {e}")));
    coerced.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// Strings, numbers in their shortest decimal form, and booleans; null and containers are errors (D16).
fn coerce_string(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(_) => Ok(value.clone()),
        Value::Number(number) => Ok(match json::as_integer(number) {
            Some(integer) => integer.to_string().into(),
            None => number.to_string().into(),
        }),
        Value::Bool(_) => Ok(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("must be a string".into()),
    }
}

/// The spellings of the contract, trimmed.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn coerce_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => json::as_integer(number).and_then(|n| i64::try_from(n).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn coerce_number(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => {
            let text = text.trim();
            if let Ok(integer) = text.parse::<i64>() {
                return Some(integer.into());
            }
            let finite = text.parse::<f64>().ok().filter(|x| x.is_finite())?;
            Number::from_f64(finite).map(Value::Number)
        }
        _ => None,
    }
}

fn check_enum(schema: &Value, value: &Value) -> Result<(), String> {
    let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return Ok(()) };
    if allowed.iter().any(|candidate| json::equal(candidate, value)) {
        return Ok(());
    }
    let list: Vec<String> = allowed
        .iter()
        .map(|candidate| match candidate {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    Err(format!("must be one of [{}]", list.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_follow_the_rules_of_the_contract() {
        for (schema, expected) in [
            (json!({"type": " Integer "}), Type::Integer),
            (json!({"type": ["null", "string"]}), Type::String),
            (json!({"properties": {}}), Type::Object),
            (json!({"items": {}}), Type::Array),
            (json!({"type": "null"}), Type::Untyped),
            (json!({}), Type::Untyped),
        ] {
            assert_eq!(type_of(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn c10_d16_coercion_table() {
        let string = json!({"type": "string"});
        let boolean = json!({"type": "boolean"});
        let integer = json!({"type": "integer"});
        let number = json!({"type": "number"});
        for (schema, value, expected) in [
            (&string, json!("a"), Ok(json!("a"))),
            (&string, json!(123_456_789), Ok(json!("123456789"))),
            (&string, json!(1.5), Ok(json!("1.5"))),
            (&string, json!(3.0), Ok(json!("3"))),
            (&string, json!(true), Ok(json!("true"))),
            (&string, json!(null), Err("must be a string")),
            (&string, json!({"a": 1}), Err("must be a string")),
            (&boolean, json!(" T "), Ok(json!(true))),
            (&boolean, json!("yes"), Err("must be a boolean")),
            (&boolean, json!(1), Err("must be a boolean")),
            (&integer, json!(" +12 "), Ok(json!(12))),
            (&integer, json!(3.0), Ok(json!(3))),
            (&integer, json!(3.5), Err("must be an integer")),
            (&integer, json!(1e300), Err("must be an integer")),
            (&integer, json!(9_223_372_036_854_775_808_u64), Err("must be an integer")),
            (&integer, json!(null), Err("must be an integer")),
            (&number, json!("1.5"), Ok(json!(1.5))),
            (&number, json!("7"), Ok(json!(7))),
            (&number, json!("NaN"), Err("must be a number")),
            (&number, json!("0x1p3"), Err("must be a number")),
            (&number, json!("inf"), Err("must be a number")),
            (&number, json!("1e999"), Err("must be a number")),
        ] {
            assert_eq!(coerce(schema, &value), expected.map_err(str::to_owned), "{schema} {value}");
        }
    }

    #[test]
    fn c10_d16_inf_3_enums_compare_numbers_by_value() {
        let schema = json!({"type": "integer", "enum": [1, 2.0]});
        assert_eq!(coerce(&schema, &json!("2")), Ok(json!(2)));
        assert_eq!(coerce(&schema, &json!(3)), Err("must be one of [1 2.0]".into()));
        let schema = json!({"enum": ["a", "b"]});
        assert_eq!(coerce(&schema, &json!("c")), Err("must be one of [a b]".into()));
    }

    #[test]
    fn members_are_coerced_and_required_ones_take_their_default() {
        let schema = json!({
            "type": "object",
            "properties": {"n": {"type": "integer"}, "d": {"default": 5}, "list": {"items": {"type": "integer"}}},
            "required": [" d ", "n"],
        });
        assert_eq!(coerce(&schema, &json!({"n": "1"})), Ok(json!({"n": 1, "d": 5})));
        for (value, error) in [
            (json!({}), "missing required field \"n\""),
            (json!({"n": "x"}), "field \"n\": must be an integer"),
            (json!({"n": 1, "q": 1}), "field \"q\" is not allowed"),
            (json!({"n": 1, "list": [1, "x"]}), "field \"list\": items[1]: must be an integer"),
            (json!([]), "must be an object"),
        ] {
            assert_eq!(coerce(&schema, &value), Err(error.to_owned()));
        }
    }
}
