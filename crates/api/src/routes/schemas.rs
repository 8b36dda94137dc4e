//! `/api/chat/schemas/*` (chapter 20 §5.9 and §5.10), and tools beside them. Rendered once at start: discovery cannot fail later.

use axum::response::Response;
use bytes::Bytes;
use collodi_profiles::Catalog;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::json as respond;
use crate::App;
use crate::problem::Failure;

pub(crate) fn middlewares(app: &App, method: &Method) -> Result<Response, Failure> {
    get(method, &app.middleware_schemas)
}

pub(crate) fn extensions(app: &App, method: &Method) -> Result<Response, Failure> {
    get(method, &app.extension_schemas)
}

/// The tools that profiles may list; those that middlewares bring are theirs.
pub(crate) fn tools(app: &App, method: &Method) -> Result<Response, Failure> {
    let tools = app.conversations.tools();
    let items: Vec<Value> = tools
        .iter()
        .map(|tool| {
            let spec = tool.spec();
            json!({"name": tool.listed_as(), "description": spec.description, "schema": spec.parameters})
        })
        .collect();
    get(method, &format!("{}\n", json!(items)).into())
}

fn get(method: &Method, body: &Bytes) -> Result<Response, Failure> {
    if method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    Ok(respond(StatusCode::OK, body.clone()))
}

/// The bodies of both endpoints.
#[must_use]
pub fn render(catalog: &Catalog) -> (Bytes, Bytes) {
    let middlewares: Vec<Value> = catalog
        .middlewares()
        .map(|definition| {
            let mut item = json!({
                "name": definition.name,
                "version": definition.version.max(1),
                "schema": definition.schema.document(),
            });
            for (key, text) in [
                ("display_name", &definition.display_name),
                ("description", &definition.description),
            ] {
                if !text.is_empty() {
                    item[key] = text.as_str().into();
                }
            }
            item
        })
        .collect();
    let extensions: Vec<Value> = catalog
        .extension_schemas()
        .into_iter()
        .map(|(key, schema)| json!({"key": key, "schema": schema}))
        .collect();
    (format!("{}\n", json!(middlewares)).into(), format!("{}\n", json!(extensions)).into())
}
