//! `/api/chat/schemas/*` (chapter 20 §5.9 and §5.10), and tools beside them.

use std::sync::{Arc, OnceLock};

use axum::response::Response;
use bytes::Bytes;
use collodi_chat::tool::Tool;
use collodi_profiles::Catalog;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::json as respond;
use crate::problem::Failure;

/// A list for GET, rendered for the first who asks.
pub(crate) fn answer(
    rendered: &OnceLock<Bytes>,
    method: &Method,
    list: impl FnOnce() -> Value,
) -> Result<Response, Failure> {
    if method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let body = rendered.get_or_init(|| Bytes::from(format!("{}\n", list())));
    Ok(respond(StatusCode::OK, body.clone()))
}

/// What middlewares there are, with the schemas of their configuration.
#[must_use]
pub fn middlewares(catalog: &Catalog) -> Value {
    let items = catalog.middlewares().map(|definition| {
        let mut item = json!({
            "name": definition.name,
            "version": definition.version.max(1),
            "schema": definition.schema.document(),
        });
        for (key, text) in
            [("display_name", &definition.display_name), ("description", &definition.description)]
        {
            if !text.is_empty() {
                item[key] = text.as_str().into();
            }
        }
        item
    });
    items.collect()
}

/// The extensions of profiles that have a schema.
#[must_use]
pub fn extensions(catalog: &Catalog) -> Value {
    let schemas = catalog.extension_schemas().into_iter();
    schemas.map(|(key, schema)| json!({"key": key, "schema": schema})).collect()
}

/// The tools that profiles may list; those that middlewares bring are theirs.
pub(crate) fn tools(tools: &[Arc<dyn Tool>]) -> Value {
    let items = tools.iter().map(|tool| {
        let spec = tool.spec();
        json!({"name": tool.listed_as(), "description": spec.description, "schema": spec.parameters})
    });
    items.collect()
}
