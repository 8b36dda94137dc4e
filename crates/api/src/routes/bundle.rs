//! `/api/chat/bundle`: all profiles as one YAML text, and a text made true.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use collodi_profiles::profile::middlewares::Writer;
use collodi_profiles::registry::{ApplyBundle, SOURCE};
use collodi_profiles::{Author, Error};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::write::{author, mark};
use super::{json, json_value};
use crate::App;
use crate::access::Role;
use crate::context::Incoming;
use crate::extract::{self, Query};
use crate::problem::Failure;

/// Largest body of a bundle, in bytes.
pub(crate) const MAX_BUNDLE: usize = 32 * 1024 * 1024;
const X_REVISION: HeaderName = HeaderName::from_static("x-revision");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

#[derive(Deserialize)]
struct ApplyBody {
    bundle: Option<String>,
    registry: Option<String>,
    only_add: Option<bool>,
    prune: Option<bool>,
    expected_revision: Option<u64>,
    note: Option<String>,
}

/// GET writes all profiles down, POST makes them what a text says.
pub(crate) async fn answer(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, Failure> {
    match incoming.parts.method {
        Method::GET => export(app, incoming).await,
        Method::POST => apply(app, incoming, body).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

/// All registries, or the one that is asked for.
async fn export(app: &App, incoming: &Incoming) -> Result<Response, Failure> {
    let query = Query::of(&incoming.parts)?;
    let only = match query.get("registry") {
        Some(_) => Some(query.registry(None, app.registry.default_registry())?),
        None => None,
    };
    let snapshot = app.registry.snapshot();
    let revision = snapshot.revision();
    let export = move || snapshot.export(only.as_ref());
    let text = tokio::task::spawn_blocking(export).await.map_err(|_| Failure::internal())??;
    let mut response = json(StatusCode::OK, Bytes::from(text));
    response.headers_mut().insert(CONTENT_TYPE, YAML);
    response.headers_mut().insert(X_REVISION, revision.into());
    Ok(response)
}

/// One transaction; with `?dry_run=1` the same answer and no write.
async fn apply(app: &App, incoming: &Incoming, body: Body) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    let bytes = extract::read_body(&parts.headers, body, MAX_BUNDLE).await?;
    let body: ApplyBody = extract::parse(&bytes)?;
    let query = Query::of(parts)?;
    let registry = query.registry(body.registry.as_deref(), app.registry.default_registry())?;
    let author = Author { source: SOURCE.into(), ..author(app, incoming, body.note)? };
    let text = body.bundle.ok_or_else(|| Error::invalid("bundle", "is required"))?;
    let is_operator = incoming.principal.role == Role::Operator;
    let request = ApplyBundle {
        text,
        registry,
        only_add: body.only_add.unwrap_or(false),
        prune: body.prune.unwrap_or(false),
        expected_revision: body.expected_revision,
        writer: if is_operator { Writer::Operator } else { Writer::Client },
    };
    let dry_run = query.is_on("dry_run");
    let applied = app.registry.apply_bundle(request, author, dry_run).await?;
    let outcome = if dry_run { "rehearsed" } else { "committed" };
    tracing::info!(
        request_id = %incoming.request_id, steps = applied.steps.len(), revision = applied.to, outcome, "bundle"
    );
    let revision = if dry_run { applied.from } else { applied.to };
    let tell = move || json!({"revision": revision, "steps": applied.steps});
    let told = tokio::task::spawn_blocking(tell).await.map_err(|_| Failure::internal())?;
    Ok(mark(json_value(StatusCode::OK, &told), dry_run))
}
