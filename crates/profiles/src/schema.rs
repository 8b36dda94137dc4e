//! JSON Schema as this project enforces it: what is published is what is checked (D8).
//!
//! [`coerce`] brings values to the types of a schema, [`resolve`] layers configurations with provenance (chapter 10
//! §13), and [`Schema`] holds a document together with its compiled validator, so that nothing is compiled per write.

use std::fmt;
use std::sync::OnceLock;

use serde_json::Value;

pub mod coerce;
pub mod resolve;

/// A schema document and its compiled form.
pub struct Schema {
    document: Value,
    defaults: Option<Value>,
    /// Or what is wrong with the document.
    validator: OnceLock<Result<jsonschema::Validator, String>>,
}

/// A value breaks a keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where in the value, as a JSON pointer; empty for the whole.
    pub pointer: String,
    /// The keyword.
    pub keyword: &'static str,
    /// What is wrong, in words.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

impl Schema {
    /// Compiles a document (draft 2020-12). An empty or absent document is `{"type":"object"}` to the resolver.
    ///
    /// # Errors
    /// A document that is no JSON Schema, or that refers to another document.
    pub fn compile(document: Value) -> Result<Self, String> {
        let schema = Self::trusted(document);
        schema.validator().as_ref().map_err(Clone::clone)?;
        Ok(schema)
    }

    /// The same for a document that a test compiles: it waits until it is needed, because a start should not wait for
    /// the meta-schema. Nothing conforms to a broken one.
    #[must_use]
    pub fn trusted(document: Value) -> Self {
        Self { defaults: resolve::defaults(&document), document, validator: OnceLock::new() }
    }

    fn validator(&self) -> &Result<jsonschema::Validator, String> {
        self.validator
            .get_or_init(|| jsonschema::draft202012::new(&self.document).map_err(|e| e.to_string()))
    }

    /// The document as published.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Whether `value` breaks nothing; much cheaper than asking what.
    #[must_use]
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator().as_ref().is_ok_and(|validator| validator.is_valid(value))
    }

    /// Everything that `value` breaks, in the order of the schema.
    #[must_use]
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        match self.validator() {
            Ok(validator) => validator
                .iter_errors(value)
                .map(|error| Violation {
                    pointer: error.instance_path().to_string(),
                    keyword: keyword(&error.schema_path().to_string()),
                    message: error.to_string(),
                })
                .collect(),
            Err(broken) => vec![Violation {
                pointer: String::new(),
                keyword: "invalid",
                message: format!("the schema is broken: {broken}"),
            }],
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.document)
    }
}

/// The last segment of a schema path, as far as it is a keyword that we name to clients.
fn keyword(path: &str) -> &'static str {
    const KEYWORDS: &[&str] = &[
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "dependentRequired",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "patternProperties",
        "propertyNames",
        "required",
        "type",
        "uniqueItems",
    ];
    let last = path.rsplit('/').next().unwrap_or_default();
    KEYWORDS.iter().find(|k| **k == last).copied().unwrap_or("invalid")
}
