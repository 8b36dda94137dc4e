//! What exists in this process for profiles to name: middlewares, tools, extension schemas and codecs. There is one
//! catalog, shared by the API and by what composes runtimes (H17); a definition that does not compile stops the start.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::Problem;
use crate::ids::ExtensionKey;
use crate::schema::Schema;

/// A middleware: its name and the schema of its configuration.
#[derive(Debug)]
pub struct MiddlewareDefinition {
    /// Its name, case-sensitive.
    pub name: String,
    /// At least 1.
    pub version: u16,
    /// A name for people; the schema's title, then the name, when empty.
    pub display_name: String,
    /// A sentence for people; the schema's when empty.
    pub description: String,
    /// Of one configuration.
    pub schema: Schema,
    /// Tools that it offers whenever it is in use (decision 10).
    pub tools: Vec<String>,
    /// Members of the configuration that only the operator may write (decision 46).
    pub operator_only: Vec<&'static str>,
    /// Where profiles keep its configuration.
    pub key: ExtensionKey,
}

impl MiddlewareDefinition {
    /// A definition; an empty schema is published as `{}`.
    ///
    /// # Errors
    /// A name that cannot be part of an extension key.
    pub fn new(name: &str, schema: Schema) -> Result<Self, String> {
        let name = name.trim();
        if name.is_empty() {
            return Err("middleware definition name is empty".into());
        }
        let key = ExtensionKey::for_middleware(name).map_err(|e| e.to_string())?;
        let word = |member: &str| {
            schema.document().get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let title = word("title");
        Ok(Self {
            name: name.to_owned(),
            version: 1,
            display_name: if title.is_empty() { name.to_owned() } else { title },
            description: word("description"),
            schema,
            tools: Vec::new(),
            operator_only: Vec::new(),
            key,
        })
    }
}

/// Any JSON in, normalised JSON out.
pub type Decode = Box<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// Brings the payloads of one extension key to a normal form.
pub struct Codec {
    /// The key.
    pub key: ExtensionKey,
    /// Any JSON in, normalised JSON out, or what is wrong with it.
    pub decode: Decode,
    /// Published when present.
    pub schema: Option<Value>,
}

/// Everything that profiles may name.
#[derive(Default)]
pub struct Catalog {
    middlewares: BTreeMap<String, MiddlewareDefinition>,
    by_key: BTreeMap<ExtensionKey, String>,
    tools: BTreeSet<String>,
    extensions: BTreeMap<ExtensionKey, Schema>,
    codecs: BTreeMap<ExtensionKey, Codec>,
    local_providers: bool,
}

impl Catalog {
    /// Adds a middleware and the tools that it brings.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn add_middleware(&mut self, definition: MiddlewareDefinition) -> Result<(), String> {
        let name = definition.name.clone();
        if self.middlewares.contains_key(&name) || self.by_key.contains_key(&definition.key) {
            return Err(format!("middleware definition already registered: {name}"));
        }
        self.tools.extend(definition.tools.iter().cloned());
        self.by_key.insert(definition.key.clone(), name.clone());
        self.middlewares.insert(name, definition);
        Ok(())
    }

    /// Adds the name of a tool.
    pub fn add_tool(&mut self, name: &str) {
        self.tools.insert(name.to_owned());
    }

    /// Adds the schema of an extension; the last one for a key counts.
    ///
    /// # Errors
    /// A broken key.
    pub fn add_extension(&mut self, key: &str, schema: Schema) -> Result<(), String> {
        let key = ExtensionKey::parse(key).map_err(|e| e.to_string())?;
        self.extensions.insert(key, schema);
        Ok(())
    }

    /// Adds a codec.
    ///
    /// # Errors
    /// A key that has one.
    pub fn add_codec(&mut self, codec: Codec) -> Result<(), Problem> {
        if self.codecs.contains_key(&codec.key) {
            let field = format!("extensions.codecs[{}]", codec.key);
            return Err(Problem::new(field, "duplicate codec key"));
        }
        self.codecs.insert(codec.key.clone(), codec);
        Ok(())
    }

    /// Lets profiles name providers on this machine or in its network (decision 38).
    pub fn allow_local_providers(&mut self) {
        self.local_providers = true;
    }

    pub(crate) fn allows_local_providers(&self) -> bool {
        self.local_providers
    }

    /// The middleware of that name.
    #[must_use]
    pub fn middleware(&self, name: &str) -> Option<&MiddlewareDefinition> {
        self.middlewares.get(name)
    }

    /// All middlewares, by name.
    pub fn middlewares(&self) -> impl Iterator<Item = &MiddlewareDefinition> {
        self.middlewares.values()
    }

    pub(crate) fn middleware_keys(&self) -> impl Iterator<Item = &ExtensionKey> {
        self.by_key.keys()
    }

    pub(crate) fn middleware_of_key(&self, key: &ExtensionKey) -> Option<&MiddlewareDefinition> {
        self.by_key.get(key).and_then(|name| self.middlewares.get(name))
    }

    pub(crate) fn codec(&self, key: &ExtensionKey) -> Option<&Codec> {
        self.codecs.get(key)
    }

    pub(crate) fn extension_schema(&self, key: &ExtensionKey) -> Option<&Schema> {
        self.extensions.get(key)
    }

    /// Whether a profile may name the tool.
    #[must_use]
    pub fn knows_tool(&self, name: &str) -> bool {
        self.tools.contains(name)
    }

    /// Every published extension schema by key: explicit ones, then those of middlewares, then of codecs (chapter 20
    /// §5.10).
    #[must_use]
    pub fn extension_schemas(&self) -> BTreeMap<&ExtensionKey, Value> {
        let codecs = self.codecs.values().filter_map(|codec| {
            let schema =
                codec.schema.clone().filter(|s| s.as_object().is_none_or(|o| !o.is_empty()))?;
            Some((&codec.key, schema))
        });
        let middlewares = self.middlewares.values().map(|definition| {
            let config = match definition.schema.document() {
                Value::Object(object) if object.is_empty() => json!({"type": "object"}),
                document => document.clone(),
            };
            let schema = json!({
                "type": "object",
                "properties": {"instances": {"type": "object", "additionalProperties": config}},
                "required": ["instances"],
                "additionalProperties": false,
            });
            (&definition.key, schema)
        });
        let explicit = self.extensions.iter().map(|(key, schema)| (key, schema.document().clone()));
        codecs.chain(middlewares).chain(explicit).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The shape of the shipped catalog, and a codec.
    pub(crate) fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        let agentmode = json!({"type": "object", "additionalProperties": false,
            "properties": {"default_mode": {"type": "string", "default": "default"}}});
        let sqlite = json!({"type": "object", "additionalProperties": false, "properties": {
            "dsn": {"type": "string"}, "max_rows": {"type": "integer", "minimum": 1}}});
        let compiled = |document| Schema::compile(document).unwrap();
        let agentmode = MiddlewareDefinition::new("agentmode", compiled(agentmode)).unwrap();
        catalog.add_middleware(agentmode).unwrap();
        let sqlite = MiddlewareDefinition::new("sqlite", compiled(sqlite)).unwrap();
        let sqlite = MiddlewareDefinition {
            tools: vec!["sql_query".into()],
            operator_only: vec!["dsn"],
            ..sqlite
        };
        catalog.add_middleware(sqlite).unwrap();
        catalog.add_tool("calculator");
        catalog.add_tool("calc");
        let suggestions = json!({"type": "object", "required": ["items"], "additionalProperties": false,
            "properties": {"items": {"type": "array", "items": {"type": "string"}, "default": []}}});
        catalog.add_extension("webchat.starter_suggestions@v1", compiled(suggestions)).unwrap();
        let upper = |value: &Value| {
            value
                .as_str()
                .map(|s| s.to_uppercase().into())
                .ok_or_else(|| "must be a string".to_owned())
        };
        let key = ExtensionKey::parse("test.upper@v1").unwrap();
        catalog
            .add_codec(Codec { key, decode: Box::new(upper), schema: None })
            .map_err(|p| p.to_string())
            .unwrap();
        catalog
    }

    #[test]
    fn names_and_keys_are_taken_once() {
        let mut catalog = catalog();
        let again = MiddlewareDefinition::new("agentmode", Schema::trusted(json!({}))).unwrap();
        assert_eq!(
            catalog.add_middleware(again).unwrap_err(),
            "middleware definition already registered: agentmode"
        );
        let key = ExtensionKey::parse("test.upper@v1").unwrap();
        let again = Codec { key, decode: Box::new(|v| Ok(v.clone())), schema: None };
        assert_eq!(
            catalog.add_codec(again).unwrap_err().to_string(),
            "validation error (extensions.codecs[test.upper@v1]): duplicate codec key"
        );
    }

    #[test]
    fn c20_h17_a_definition_that_does_not_compile_stops_the_start() {
        for broken in [json!({"type": 5}), json!({"$ref": "https://example.com/x.json"})] {
            let told = Schema::compile(broken.clone()).unwrap_err();
            // Trusted by mistake, it lets nothing pass and says why.
            let trusted = Schema::trusted(broken);
            assert!(!trusted.is_valid(&json!({})));
            assert!(trusted.violations(&json!({}))[0].message.ends_with(&told));
        }
    }
}
