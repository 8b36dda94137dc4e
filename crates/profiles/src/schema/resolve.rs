//! The middleware config resolver: layers of configuration, coerced and merged per leaf, with the history of every
//! value (chapter 10 §13).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Schema;
use super::coerce::{BROKEN_SCHEMA, Member, Type, coerce, member, type_of};
use crate::json::{Object, escape_pointer};
use crate::profile::MiddlewareUse;
use crate::quote::quote;

/// Where a configuration comes from, lowest precedence first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Defaults of the schema.
    SchemaDefaults,
    /// The profile.
    Profile,
    /// A file of the operator.
    ConfigFile,
    /// The environment.
    Environment,
    /// The command line.
    Flags,
    /// The request.
    Request,
}

impl Layer {
    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SchemaDefaults => "schema-defaults",
            Self::Profile => "profile",
            Self::ConfigFile => "config-file",
            Self::Environment => "environment",
            Self::Flags => "flags",
            Self::Request => "request",
        }
    }
}

/// One configuration; no payload and an empty object contribute nothing.
#[derive(Debug, Clone)]
pub struct Source {
    /// Names it in errors and traces.
    pub name: Cow<'static, str>,
    /// Its precedence.
    pub layer: Layer,
    /// An object, or nothing.
    pub payload: Option<Value>,
}

/// A configuration that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ResolveError {
    text: String,
    /// Where in the configuration, as a JSON pointer.
    pub pointer: String,
    /// The keyword of JSON Schema, or `invalid`.
    pub keyword: &'static str,
}

/// A contributing source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// The source's name.
    pub name: String,
    /// Its layer.
    pub layer: Layer,
}

/// One write to one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The source's name.
    pub source: String,
    /// Its layer.
    pub layer: Layer,
    /// JSON pointer into the configuration.
    pub path: String,
    /// The value before coercion.
    pub raw: Value,
    /// The value after coercion.
    pub value: Value,
    /// `{"schema_type": "<type or empty>"}`.
    pub metadata: Value,
}

/// A path's latest value and how it came to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathTrace {
    /// JSON pointer into the configuration.
    pub path: String,
    /// The latest value.
    pub value: Value,
    /// In order of application.
    pub steps: Vec<Step>,
}

/// The outcome; serialised it is the debug payload, the same bytes each time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolved {
    /// The merged configuration.
    pub config: Object,
    /// Who contributed, in order.
    pub sources: Vec<Contribution>,
    /// Every path in sorted order.
    #[serde(serialize_with = "values_only")]
    pub paths: BTreeMap<String, PathTrace>,
}

fn values_only<S: serde::Serializer>(
    paths: &BTreeMap<String, PathTrace>,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.collect_seq(paths.values())
}

/// Resolves the configuration of one use of the middleware `name`.
///
/// # Errors
/// Names that do not match, and configurations that do not fit the schema, with the contract's texts.
pub fn resolve(
    name: &str,
    schema: &Schema,
    middleware: &MiddlewareUse,
    sources: Vec<Source>,
) -> Result<Resolved, ResolveError> {
    let mut provenance = Provenance::default();
    let config = merge(name, schema, middleware, sources, Some(&mut provenance))?;
    Ok(Resolved { config, sources: provenance.sources, paths: provenance.paths })
}

/// The configuration alone, as [`resolve`] makes it: most callers ask for no history.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_config(
    name: &str,
    schema: &Schema,
    middleware: &MiddlewareUse,
    sources: Vec<Source>,
) -> Result<Object, ResolveError> {
    if let [source] = &sources[..]
        && middleware.name.trim() == name.trim()
        && let Some(config) = merge_fitting(schema, source)
    {
        return Ok(config);
    }
    merge(name, schema, middleware, sources, None)
}

/// The configuration that one source makes, if all of it fits: most do, and need no words about where they do not.
fn merge_fitting(schema: &Schema, source: &Source) -> Option<Object> {
    let document = schema.document();
    let payload = match &source.payload {
        None => &Object::new(),
        Some(payload) => payload.as_object()?,
    };
    let mut config = Object::new();
    let defaults = schema.defaults.as_ref().and_then(Value::as_object);
    for layer in defaults.into_iter().chain([payload]) {
        put_fitting(document, layer, &mut config)?;
    }
    match coerce(document, &Value::Object(config)).ok()? {
        config if !schema.is_valid(&config) => None,
        Value::Object(config) => Some(config),
        _ => None,
    }
}

/// Objects merge per leaf, everything else replaces as a whole, as in [`project`].
fn put_fitting(schema: &Value, layer: &Object, config: &mut Object) -> Option<()> {
    for (key, value) in layer {
        let schema = match member(schema, key) {
            Member::Schema(schema) => Some(schema),
            Member::Any => None,
            Member::Forbidden | Member::Broken => return None,
        };
        match (schema, value) {
            (Some(schema), Value::Object(inner))
                if type_of(schema) == Type::Object && !inner.is_empty() =>
            {
                let place = config.entry(key.clone()).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Object::new());
                }
                put_fitting(schema, inner, place.as_object_mut()?)?;
            }
            (schema, value) => {
                let value = coerce(schema.unwrap_or(&Value::Null), value).ok()?;
                config.insert(key.clone(), value);
            }
        }
    }
    Some(())
}

/// How the values came about, when somebody asks.
#[derive(Default)]
struct Provenance {
    sources: Vec<Contribution>,
    paths: BTreeMap<String, PathTrace>,
}

fn merge(
    name: &str,
    schema: &Schema,
    middleware: &MiddlewareUse,
    mut sources: Vec<Source>,
    mut provenance: Option<&mut Provenance>,
) -> Result<Object, ResolveError> {
    let used = middleware.name.trim();
    if name.trim().is_empty() {
        return Err(plain("middleware definition name is empty"));
    }
    if used.is_empty() {
        return Err(plain("middleware use name is empty"));
    }
    if used != name.trim() {
        let (used, name) = (quote(used), quote(name.trim()));
        return Err(plain(format!("middleware use name {used} does not match definition {name}")));
    }
    let label = match middleware.id.trim() {
        "" => used.to_owned(),
        id => format!("{used}#{id}"),
    };
    let empty;
    let document = match schema.document() {
        Value::Object(object) if !object.is_empty() => schema.document(),
        _ => {
            empty = json!({"type": "object"});
            &empty
        }
    };
    sources.sort_by(|a, b| (a.layer, a.name.trim()).cmp(&(b.layer, b.name.trim())));
    let defaults = schema.defaults.clone().map(|payload| Source {
        name: Layer::SchemaDefaults.as_str().into(),
        layer: Layer::SchemaDefaults,
        payload: Some(payload),
    });

    let mut config = Object::new();
    for source in defaults.into_iter().chain(sources) {
        apply_source(&label, document, source, &mut config, provenance.as_deref_mut())?;
    }
    finish(&label, document, schema, config)
}

fn apply_source(
    label: &str,
    schema: &Value,
    source: Source,
    config: &mut Object,
    mut provenance: Option<&mut Provenance>,
) -> Result<(), ResolveError> {
    let Source { name, layer, payload } = source;
    let origin = || format!("{name}[{}]", layer.as_str());
    if name.trim().is_empty() {
        return Err(plain("middleware config source name is empty"));
    }
    let payload = match payload {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(payload)) if payload.is_empty() => return Ok(()),
        Some(Value::Object(payload)) => payload,
        Some(_) => {
            let text = format!("resolve middleware {label} source {}: must be an object", origin());
            return Err(ResolveError { text, pointer: String::new(), keyword: "type" });
        }
    };
    let mut writes = Vec::new();
    project(schema, payload, "", &[], &mut writes).map_err(|(pointer, keyword, detail)| {
        let text = format!("project middleware {label} payload for source {}: {detail}", origin());
        ResolveError { text, pointer, keyword }
    })?;
    writes.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(provenance) = &mut provenance {
        provenance.sources.push(Contribution { name: name.clone().into_owned(), layer });
    }
    for write in writes {
        let value =
            coerce(write.schema.unwrap_or(&Value::Null), &write.value).map_err(|detail| {
                ResolveError {
                    text: format!(
                        "coerce middleware {label} payload at {} from source {}: {detail}",
                        write.path,
                        origin()
                    ),
                    keyword: if detail.starts_with("must be one of") { "enum" } else { "type" },
                    pointer: write.path.clone(),
                }
            })?;
        if let Some(provenance) = &mut provenance {
            provenance.note(&name, layer, &write, &value);
        }
        put(config, &write.keys, value);
    }
    Ok(())
}

impl Provenance {
    fn note(&mut self, source: &str, layer: Layer, write: &Write<'_>, value: &Value) {
        let schema_type = write.schema.map_or(Type::Untyped, type_of).as_str();
        let step = Step {
            source: source.to_owned(),
            layer,
            path: write.path.clone(),
            raw: write.value.clone(),
            value: value.clone(),
            metadata: json!({ "schema_type": schema_type }),
        };
        // What stood below a replaced value is gone from the configuration, so it goes from the trace too (D16).
        let below = format!("{}/", write.path);
        self.paths.retain(|path, _| !path.starts_with(&below));
        let fresh =
            || PathTrace { path: write.path.clone(), value: Value::Null, steps: Vec::new() };
        let trace = self.paths.entry(write.path.clone()).or_insert_with(fresh);
        trace.value = value.clone();
        trace.steps.push(step);
    }
}

fn finish(
    label: &str,
    document: &Value,
    schema: &Schema,
    config: Object,
) -> Result<Object, ResolveError> {
    let invalid = |pointer: String, keyword, detail: String| ResolveError {
        text: format!("final middleware {label} config validation failed: {detail}"),
        pointer,
        keyword,
    };
    let coerced = coerce(document, &Value::Object(config)).map_err(|detail| {
        let keyword = if detail.starts_with("missing required") { "required" } else { "type" };
        invalid(String::new(), keyword, detail)
    })?;
    if !schema.is_valid(&coerced)
        && let Some(violation) = schema.violations(&coerced).into_iter().next()
    {
        let text = violation.to_string();
        return Err(invalid(violation.pointer, violation.keyword, text));
    }
    match coerced {
        Value::Object(config) => Ok(config),
        _ => Err(plain(format!("final middleware {label} config must resolve to object"))),
    }
}

fn plain(text: impl Into<String>) -> ResolveError {
    ResolveError { text: text.into(), pointer: String::new(), keyword: "invalid" }
}

/// One value for one path.
struct Write<'a> {
    path: String,
    keys: Vec<String>,
    value: Value,
    schema: Option<&'a Value>,
}

/// Walks a payload by sorted key; objects merge per leaf, everything else replaces as a whole.
fn project<'a>(
    schema: &'a Value,
    payload: Object,
    prefix: &str,
    above: &[String],
    writes: &mut Vec<Write<'a>>,
) -> Result<(), (String, &'static str, String)> {
    for (key, value) in payload {
        let path = format!("{prefix}/{}", escape_pointer(&key));
        let member = match member(schema, &key) {
            Member::Schema(schema) => Some(schema),
            Member::Any => None,
            Member::Forbidden => {
                let detail = format!("path {path} is not allowed by schema");
                return Err((path, "additionalProperties", detail));
            }
            Member::Broken => return Err((path, "invalid", BROKEN_SCHEMA.into())),
        };
        let keys: Vec<String> = above.iter().cloned().chain([key]).collect();
        match (member, value) {
            (Some(schema), Value::Object(object))
                if type_of(schema) == Type::Object && !object.is_empty() =>
            {
                project(schema, object, &path, &keys, writes)?;
            }
            (schema, value) => writes.push(Write { path, keys, value, schema }),
        }
    }
    Ok(())
}

fn put(object: &mut Object, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [key] => {
            object.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let slot = object.entry(key.clone()).or_insert_with(|| Value::Object(Object::new()));
            if !slot.is_object() {
                *slot = Value::Object(Object::new());
            }
            if let Value::Object(inner) = slot {
                put(inner, rest, value);
            }
        }
    }
}

/// The defaults of a schema: its own `default` hides those inside it.
pub(super) fn defaults(schema: &Value) -> Option<Value> {
    if let Some(default) = schema.get("default") {
        return default
            .as_object()
            .filter(|object| !object.is_empty())
            .map(|object| object.clone().into());
    }
    let collected = collect_defaults(schema);
    (!collected.is_empty()).then(|| collected.into())
}

fn collect_defaults(schema: &Value) -> Object {
    let mut collected = Object::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default") {
            collected.insert(key.clone(), default.clone());
        } else if type_of(property) == Type::Object {
            let inner = collect_defaults(property);
            if !inner.is_empty() {
                collected.insert(key.clone(), inner.into());
            }
        }
    }
    collected
}

#[cfg(test)]
mod tests;
