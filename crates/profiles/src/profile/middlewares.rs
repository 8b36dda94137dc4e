//! Configuration of middlewares lives in extensions, one key per middleware and one slot per use (chapter 10 §8,
//! chapter 20 §6, decision 9). This module moves it there, keeps it with its use, and drops what no use needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashSet;

use serde_json::Value;

use super::{Extensions, MiddlewareUse, Runtime};
use crate::catalog::{Catalog, MiddlewareDefinition};
use crate::error::Problem;
use crate::ids::ExtensionKey;
use crate::json::Object;
use crate::quote::quote;
use crate::schema::resolve::{Layer, Source, resolve_config};

/// Slot to configuration, as a payload holds them: all of them are objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Instances<'a>(Option<&'a Object>);

impl<'a> Instances<'a> {
    fn get(self, slot: &str) -> Option<&'a Object> {
        self.0?.get(slot)?.as_object()
    }

    fn has(self, slot: &str) -> bool {
        self.0.is_some_and(|slots| slots.contains_key(slot))
    }

    /// In order of the slots.
    pub fn iter(self) -> impl Iterator<Item = (&'a String, &'a Object)> {
        let slots = self.0.into_iter().flatten();
        slots.filter_map(|(slot, config)| Some((slot, config.as_object()?)))
    }

    fn owned(self) -> Object {
        self.0.cloned().unwrap_or_default()
    }
}

/// The slot of the use at `index`.
#[must_use]
pub fn slot(index: usize, middleware: &MiddlewareUse) -> String {
    let id = middleware.id.trim();
    if id.is_empty() { format!("index:{index}") } else { format!("id:{id}") }
}

/// The configuration of the use at `index`: inline, else its slot, else for a use without id the slot `default`.
///
/// # Errors
/// A name that has no key, or a payload that holds no instances.
pub fn config_of(
    index: usize,
    middleware: &MiddlewareUse,
    extensions: &Extensions,
) -> Result<Option<Value>, String> {
    if let Some(inline) = middleware.config.as_ref().filter(|config| !config.is_null()) {
        return Ok(Some(inline.clone()));
    }
    let key = ExtensionKey::for_middleware(&middleware.name).map_err(|e| e.to_string())?;
    let Some(payload) = extensions.get(&key) else { return Ok(None) };
    let instances = read_instances(payload)?;
    let found = instances.get(&slot(index, middleware));
    let fallback = || instances.get("default").filter(|_| middleware.id.trim().is_empty());
    Ok(found.or_else(fallback).map(|config| Value::Object(config.clone())))
}

/// Reads the payload of a middleware's extension key; members other than `instances` are ignored.
///
/// # Errors
/// A payload or an instance that is not an object.
pub fn read_instances(payload: &Value) -> Result<Instances<'_>, String> {
    let object = match payload {
        Value::Object(object) => object,
        Value::Null => return Ok(Instances::default()),
        _ => return Err("payload must be an object".into()),
    };
    match object.get("instances") {
        None | Some(Value::Null) => Ok(Instances::default()),
        Some(Value::Object(slots)) => match slots.iter().find(|(_, config)| !config.is_object()) {
            Some((slot, _)) => Err(format!("instances[{}] must be an object", quote(slot))),
            None => Ok(Instances(Some(slots))),
        },
        Some(_) => Err("instances must be an object".into()),
    }
}

fn write_instances(extensions: &mut Extensions, key: &ExtensionKey, instances: Object) {
    if instances.is_empty() {
        extensions.remove(key);
    } else {
        let payload = Object::from_iter([("instances".to_owned(), instances.into())]);
        extensions.insert(key.clone(), payload.into());
    }
}

/// Who wrote the configuration, which decides what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A client of the API.
    Client,
    /// The operator: bootstrap, files, adopted databases.
    Operator,
}

/// Moves, resolves and stores the configuration of every use; `stored` is what these uses had before, empty for a new
/// profile. On return no use has inline configuration, `extensions` holds the resolved one, schema defaults included, and
/// no slot is left that belongs to no use of a known middleware.
///
/// Unknown middlewares are a problem, and are left as they are.
pub fn place_configs(
    runtime: &mut Runtime,
    extensions: &mut Extensions,
    stored: &Extensions,
    catalog: &Catalog,
    writer: Writer,
    problems: &mut Vec<Problem>,
) {
    for middleware in &mut runtime.middlewares {
        trim(&mut middleware.name);
        trim(&mut middleware.id);
    }
    check_inline(&runtime.middlewares, problems);
    check_repeats(&runtime.middlewares, problems);

    let mut placed: BTreeMap<ExtensionKey, Object> = BTreeMap::new();
    for (index, middleware) in runtime.middlewares.iter_mut().enumerate() {
        if middleware.name.is_empty() {
            continue; // said by profile validation, in its own order
        }
        let Some(definition) = catalog.middleware(&middleware.name) else {
            let reason = format!("unknown middleware {}", quote(&middleware.name));
            let field = format!("runtime.middlewares[{index}].name");
            problems.push(Problem::new(field, reason).keyword("unknown"));
            continue;
        };
        let config = match raw_config(index, middleware, extensions) {
            Ok(config) => config,
            Err(problem) => {
                problems.extend(problem);
                continue;
            }
        };
        if writer == Writer::Client
            && let Some(name) = reserved(index, middleware, config.as_ref(), stored, definition)
        {
            let field = format!("runtime.middlewares[{index}].config");
            let reason = format!("{name} may only be set by the operator");
            let problem = Problem::new(field, reason).keyword("operator");
            problems.push(problem.below(&format!("/{name}")));
            continue;
        }
        let source = Source {
            name: "profile_write".into(),
            layer: Layer::Profile,
            payload: config.clone().map(Value::Object),
        };
        let config =
            match resolve_config(&definition.name, &definition.schema, middleware, vec![source]) {
                Ok(resolved) => Some(resolved).filter(|config| !config.is_empty()),
                Err(error) => {
                    let field = format!("runtime.middlewares[{index}].config");
                    let problem = Problem::new(field, error.to_string());
                    problems.push(problem.keyword(error.keyword).below(&error.pointer));
                    // Kept as it is: the operator's old data is reported, never thrown away (decision 6).
                    config
                }
            };
        middleware.config = None;
        if let Some(config) = config {
            let slot = slot(index, middleware);
            placed.entry(definition.key.clone()).or_default().insert(slot, config.into());
        }
    }
    for key in catalog.middleware_keys() {
        write_instances(extensions, key, placed.remove(key).unwrap_or_default());
    }
}

/// Inline configurations must be objects. The whole list is looked at before any name is, and the field of such a
/// problem is the list's; the use is named in the reason (chapter 20 §6).
fn check_inline(uses: &[MiddlewareUse], problems: &mut Vec<Problem>) {
    for (index, middleware) in uses.iter().enumerate() {
        match &middleware.config {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => {
                let field = format!("runtime.middlewares[{index}].config");
                let reason = format!("{field}: must be an object: got {}", kind_of(other));
                let problem = Problem::new("runtime.middlewares.config", reason).keyword("type");
                problems.push(Problem { pointer: Problem::new(field, "").pointer, ..problem });
            }
        }
    }
}

/// The configuration of one use as it was written, if it is an object; `Err(None)` if what is wrong was said already.
fn raw_config(
    index: usize,
    middleware: &MiddlewareUse,
    extensions: &Extensions,
) -> Result<Option<Object>, Option<Problem>> {
    let config = config_of(index, middleware, extensions).map_err(|reason| {
        let field = format!("runtime.middlewares[{index}].config");
        Some(Problem::new(field, reason).keyword("type"))
    })?;
    match config {
        None => Ok(None),
        Some(Value::Object(config)) => Ok(Some(config)),
        Some(_) => Err(None), // said by `check_inline`
    }
}

/// A member that only the operator may write and that is not as it is stored: what the operator wrote stays while a
/// client leaves it alone (decision 46).
fn reserved(
    index: usize,
    middleware: &MiddlewareUse,
    config: Option<&Object>,
    stored: &Extensions,
    definition: &MiddlewareDefinition,
) -> Option<&'static str> {
    let config = config?;
    let mut set = definition.operator_only.iter().filter(|name| config.contains_key(**name));
    let first = set.next()?;
    let before = stored.get(&definition.key).and_then(|payload| read_instances(payload).ok());
    let before = before.and_then(|slots| slots.get(&slot(index, middleware)));
    let same = |name: &str| config.get(name) == before.and_then(|before| before.get(name));
    [first].into_iter().chain(set).copied().find(|name| !same(name))
}

/// The same middleware more than once needs ids, or its configurations could not be told apart (decision 9).
fn check_repeats(uses: &[MiddlewareUse], problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for (index, middleware) in uses.iter().enumerate() {
        // Thousands may be sent before anybody counts them.
        let repeated = middleware.id.is_empty() && !seen.insert(middleware.name.as_str());
        if !middleware.name.is_empty() && repeated {
            problems.push(
                Problem::new(
                    format!("runtime.middlewares[{index}].id"),
                    "must be set when a middleware is used more than once",
                )
                .keyword("required"),
            );
        }
    }
}

/// Slots that no use reads are dropped, but not unseen: what is sent under a published schema must follow it (D9).
pub fn check_loose_slots(
    runtime: &Runtime,
    extensions: &Extensions,
    catalog: &Catalog,
    problems: &mut Vec<Problem>,
) {
    for (definition, slot_name, config) in loose_slots(runtime, extensions, catalog) {
        let anonymous = MiddlewareUse { name: definition.name.clone(), ..MiddlewareUse::default() };
        let source = Source {
            name: "profile_write".into(),
            layer: Layer::Profile,
            payload: Some(config.into()),
        };
        if let Err(error) =
            resolve_config(&definition.name, &definition.schema, &anonymous, vec![source])
        {
            let field = format!("profile.extensions[{}]", definition.key);
            let reason = format!("instances[{}]: {error}", quote(&slot_name));
            problems.push(Problem::new(field, reason).keyword(error.keyword));
        }
    }
}

/// The slots that no use reads, with the middleware they are for.
#[must_use]
pub fn loose_slots<'a>(
    runtime: &Runtime,
    extensions: &Extensions,
    catalog: &'a Catalog,
) -> Vec<(&'a MiddlewareDefinition, String, Object)> {
    let mut loose = Vec::new();
    for (key, payload) in extensions {
        let Some(definition) = catalog.middleware_of_key(key) else { continue };
        let Ok(instances) = read_instances(payload) else { continue };
        for (slot_name, config) in instances.iter() {
            if !is_read(slot_name, instances, runtime, definition) {
                loose.push((definition, slot_name.clone(), config.clone()));
            }
        }
    }
    loose
}

/// Whether some use takes its configuration from the slot: its own, or `default` when it has neither id nor own slot.
fn is_read(
    slot_name: &str,
    instances: Instances<'_>,
    runtime: &Runtime,
    definition: &MiddlewareDefinition,
) -> bool {
    runtime.middlewares.iter().enumerate().any(|(index, used)| {
        if used.name.trim() != definition.name {
            return false;
        }
        let own = slot(index, used);
        let falls_back = used.id.trim().is_empty() && !instances.has(&own);
        own == slot_name || (falls_back && slot_name == "default")
    })
}

/// Adds what is stored for uses that the written map does not mention (D13, decision 9).
pub fn keep_unmentioned(
    uses: &[MiddlewareUse],
    written: &mut Extensions,
    stored: &Extensions,
    catalog: &Catalog,
) {
    for key in catalog.middleware_keys() {
        let Some(definition) = catalog.middleware_of_key(key) else { continue };
        let Some(Ok(stored)) = stored.get(key).map(read_instances) else { continue };
        let Ok(instances) = written.get(key).map_or(Ok(Instances::default()), read_instances)
        else {
            continue; // said by the extensions' own rules
        };
        let mut kept = Vec::new();
        let of_this = |(_, used): &(usize, &MiddlewareUse)| used.name.trim() == definition.name;
        for (index, used) in uses.iter().enumerate().filter(of_this) {
            let own = slot(index, used);
            let by_default = used.id.trim().is_empty() && instances.has("default");
            if !by_default
                && !instances.has(&own)
                && let Some(config) = stored.get(&own)
            {
                kept.push((own, config));
            }
        }
        if !kept.is_empty() {
            let mut all = instances.owned();
            all.extend(kept.into_iter().map(|(slot, config)| (slot, config.clone().into())));
            write_instances(written, key, all);
        }
    }
}

/// Keeps configurations with their uses when a list of middlewares is replaced: a use without id takes the slot that it
/// had before, if its name is unique among the uses without id on both sides (decision 9).
#[must_use]
pub fn follow_uses<'a>(
    old: &[MiddlewareUse],
    new: &[MiddlewareUse],
    stored: &'a Extensions,
    catalog: &Catalog,
) -> Cow<'a, Extensions> {
    fn named(uses: &[MiddlewareUse]) -> impl Iterator<Item = (&str, &str)> {
        uses.iter().map(|used| (used.name.trim(), used.id.trim()))
    }
    if named(old).eq(named(new)) {
        return Cow::Borrowed(stored);
    }
    let mut extensions = stored.clone();
    for key in catalog.middleware_keys() {
        let Some(payload) = extensions.get(key) else { continue };
        let Ok(mut instances) = read_instances(payload).map(Instances::owned) else {
            continue;
        };
        let Some(definition) = catalog.middleware_of_key(key) else { continue };
        let place = |uses: &[MiddlewareUse]| {
            let mut found = uses
                .iter()
                .enumerate()
                .filter(|(_, u)| u.name.trim() == definition.name && u.id.trim().is_empty());
            let first = found.next().map(|(index, _)| format!("index:{index}"));
            if found.next().is_some() { None } else { first }
        };
        let config = place(old).and_then(|from| instances.remove(&from));
        instances.retain(|slot, _| !slot.starts_with("index:"));
        if let (Some(config), Some(to)) = (config, place(new)) {
            instances.insert(to, config);
        }
        write_instances(&mut extensions, key, instances);
    }
    Cow::Owned(extensions)
}

/// Most names have nothing to take off.
fn trim(text: &mut String) {
    if text.trim().len() < text.len() {
        *text = text.trim().to_owned();
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
