//! The middlewares and tools that ship: what profiles may name, with their schemas.

use collodi_profiles::Catalog;
use collodi_profiles::catalog::MiddlewareDefinition;
use serde_json::json;

/// The extension in which a profile keeps suggestions for a first prompt.
pub const STARTER_SUGGESTIONS: &str = "webchat.starter_suggestions@v1";

/// Everything that the web chat offers (chapter 20 §7).
///
/// # Errors
/// A definition that does not compile; the server then does not start (H17).
pub fn catalog() -> Result<Catalog, String> {
    let mut catalog = Catalog::default();
    catalog.add_middleware(agentmode()?)?;
    catalog.add_middleware(sqlite()?)?;
    // The tool is registered as `calculator` and offered to models as `calc` (decision 10).
    catalog.add_tool("calculator");
    catalog.add_tool("calc");
    catalog.add_extension(
        STARTER_SUGGESTIONS,
        json!({
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"type": "string"}, "default": []}},
            "required": ["items"],
            "additionalProperties": false,
        }),
    )?;
    Ok(catalog)
}

fn agentmode() -> Result<MiddlewareDefinition, String> {
    let schema = json!({
        "title": "Agent Mode Middleware",
        "description": "Lets the assistant switch between modes, each with instructions of its own.",
        "type": "object",
        "properties": {"default_mode": {"type": "string", "default": "default"}},
        "additionalProperties": false,
    });
    let definition = MiddlewareDefinition::new("agentmode", schema)?;
    Ok(MiddlewareDefinition { display_name: "Agent Mode".into(), ..definition })
}

fn sqlite() -> Result<MiddlewareDefinition, String> {
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
    let definition = MiddlewareDefinition::new("sqlite", schema)?;
    Ok(MiddlewareDefinition {
        display_name: "SQLite Tool".into(),
        tools: vec!["sql_query".into()],
        operator_only: vec!["dsn"],
        ..definition
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_that_ships_compiles_and_is_known() {
        let catalog = super::catalog().unwrap();
        let names: Vec<_> = catalog.middlewares().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["agentmode", "sqlite"]);
        assert!(["calculator", "calc", "sql_query"].iter().all(|tool| catalog.knows_tool(tool)));
    }
}
