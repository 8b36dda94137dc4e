//! `/api/debug/runtime/{slug}/{version}`: what a version of a profile runs under, and who said so, field by field.

use axum::response::Response;
use collodi_profiles::ProfileSlug;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;

use super::super::json_value;
use crate::App;
use crate::extract::Query;
use crate::problem::Failure;

/// The fingerprint is that of a request without overrides: a turn that has another one had some, or ran under other
/// settings of the operator.
pub(super) async fn explain(app: &App, parts: &Parts, path: &str) -> Result<Response, Failure> {
    let (slug, version) = path.split_once('/').ok_or_else(Failure::no_page)?;
    let slug = ProfileSlug::parse(slug).map_err(|_| Failure::no_page())?;
    let version = version.parse().map_err(|_| Failure::no_page())?;
    let query = Query::of(parts)?;
    let registry = query.registry(None, app.registry.default_registry())?;
    let (runtime, origins) = app.registry.provenance(&registry, &slug, version).await?;
    let body = json!({"registry": registry, "slug": slug, "version": version,
        "fingerprint": runtime.fingerprint, "fields": origins});
    Ok(json_value(StatusCode::OK, &body))
}
