//! The middlewares and tools that ship: what profiles may name, with their schemas, and what runs them.
//!
//! - [`agentmode`] lets the assistant switch between modes, [`sqlite`] offers a sandboxed query tool.
//! - [`calculator`] is the registry's own tool.
//! - [`Shipped`] makes them for a run.

use std::path::PathBuf;
use std::sync::Arc;

use collodi_chat::middleware::{Middleware, Toolbox, Working};
use collodi_chat::tool::Tool;
use collodi_profiles::catalog::MiddlewareDefinition;
use collodi_profiles::json::Object;
use collodi_profiles::profile::Draft;
use collodi_profiles::registry::Seed;
use collodi_profiles::schema::Schema;
use collodi_profiles::{Catalog, MiddlewareUse, Policy, ProfileSlug, RegistrySlug, Runtime};
use serde_json::json;

pub mod agentmode;
pub mod calculator;
pub mod sqlite;

/// The extension in which a profile keeps suggestions for a first prompt.
pub const STARTER_SUGGESTIONS: &str = "webchat.starter_suggestions@v1";

/// Everything that the web chat offers (chapter 20 §7).
///
/// # Errors
/// Names that clash; the server then does not start (H17).
pub fn catalog() -> Result<Catalog, String> {
    let mut catalog = Catalog::default();
    catalog.add_middleware(agentmode_definition()?)?;
    catalog.add_middleware(sqlite_definition()?)?;
    // The tool is registered as `calculator` and offered to models as `calc` (decision 10).
    catalog.add_tool("calculator");
    catalog.add_tool("calc");
    catalog.add_extension(
        STARTER_SUGGESTIONS,
        Schema::trusted(json!({
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"type": "string"}, "default": []}},
            "required": ["items"],
            "additionalProperties": false,
        })),
    )?;
    Ok(catalog)
}

/// The profiles that a new registry starts with (chapter 20 §7).
///
/// # Errors
/// Never for the profiles that ship; the slugs are checked like any other.
pub fn seed(registry: RegistrySlug) -> Result<Seed, String> {
    let slug = |raw: &str| ProfileSlug::parse(raw).map_err(|e| e.to_string());
    let prompt = |text: &str| Runtime { system_prompt: text.into(), ..Runtime::default() };
    let agentmode = MiddlewareUse {
        name: "agentmode".into(),
        id: "default".into(),
        enabled: None,
        config: Some(json!({"default_mode": "financial_analyst"})),
    };
    let agent = Draft {
        runtime: Runtime {
            middlewares: vec![agentmode],
            ..prompt("You are a helpful assistant. Be concise.")
        },
        policy: Policy { allow_overrides: true, ..Policy::default() },
        ..Draft::default()
    };
    let default = Draft { runtime: prompt("You are an assistant"), ..Draft::default() };
    Ok(Seed {
        registry,
        profiles: vec![(slug("agent")?, agent), (slug("default")?, default)],
        default_profile: slug("default")?,
    })
}

/// Makes what ships, as the operator configured it.
#[derive(Debug, Default)]
pub struct Shipped {
    /// The database that the query tool offers, whatever a profile says (decision 46).
    pub sql_db: Option<PathBuf>,
    /// Where databases must lie that operators name in profiles.
    pub sql_dir: Option<PathBuf>,
}

impl Toolbox for Shipped {
    fn middleware(&self, name: &str, config: &Object) -> Result<Box<dyn Middleware>, String> {
        match name {
            "agentmode" => Ok(Box::new(agentmode::AgentMode::new(config))),
            "sqlite" => Ok(Box::new(sqlite::SqlTool::new(config, self)?)),
            other => Err(format!("middleware \"{other}\" has no build function")),
        }
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        vec![Arc::new(calculator::Calculator::default())]
    }

    fn clean(&self, turn: &mut Working, active: &[&str]) {
        if !active.contains(&"agentmode") {
            agentmode::remove_prompts(turn);
        }
    }
}

fn agentmode_definition() -> Result<MiddlewareDefinition, String> {
    let schema = json!({
        "title": "Agent Mode Middleware",
        "description": "Lets the assistant switch between modes, each with instructions of its own.",
        "type": "object",
        "properties": {"default_mode": {"type": "string", "default": "default"}},
        "additionalProperties": false,
    });
    let definition = MiddlewareDefinition::new("agentmode", Schema::trusted(schema))?;
    Ok(MiddlewareDefinition { display_name: "Agent Mode".into(), ..definition })
}

fn sqlite_definition() -> Result<MiddlewareDefinition, String> {
    let limit = json!({"type": "integer", "minimum": 1});
    let schema = json!({
        "title": "SQLite Tool Middleware",
        "description": "Offers a read-only SQL query tool over the operator's SQLite database.",
        "type": "object",
        "properties": {
            "dsn": {"type": "string"},
            "max_rows": limit,
            "execution_timeout_ms": limit,
            "max_output_lines": limit,
            "max_output_bytes": limit,
        },
        "additionalProperties": false,
    });
    let definition = MiddlewareDefinition::new("sqlite", Schema::trusted(schema))?;
    Ok(MiddlewareDefinition {
        display_name: "SQLite Tool".into(),
        tools: vec!["sql_query".into()],
        operator_only: vec!["dsn"],
        ..definition
    })
}

#[cfg(test)]
mod tests {
    use collodi_profiles::schema::Schema;

    #[test]
    fn everything_that_ships_compiles_and_is_known() {
        let catalog = super::catalog().unwrap();
        let names: Vec<_> = catalog.middlewares().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["agentmode", "sqlite"]);
        let documents = catalog.middlewares().map(|m| m.schema.document());
        for document in documents.cloned().chain(catalog.extension_schemas().into_values()) {
            Schema::compile(document).unwrap();
        }
        assert!(["calculator", "calc", "sql_query"].iter().all(|tool| catalog.knows_tool(tool)));
    }
}
