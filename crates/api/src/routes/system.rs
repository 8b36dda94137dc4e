//! Health, metrics, release, the description of the API, and the configuration of the page.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use collodi_profiles::store::{StoreError, StoreErrorKind};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use super::{json, json_value};
use crate::problem::Failure;
use crate::{App, metrics};

/// A database that takes longer to answer is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process answers.
pub(crate) fn healthz() -> Response {
    json_value(StatusCode::OK, &json!({"status": "ok"}))
}

/// Both databases answer and the server is not stopping.
pub(crate) async fn readyz(app: &App) -> Response {
    let chats = app.conversations.store().ping();
    let ended = |_| StoreError::new(StoreErrorKind::Closed, "whoever writes the chats has ended");
    let chats = chats.map(|answered| answered.map_err(ended).flatten());
    let (registry, chat) = tokio::join!(reached(app.registry.ping()), reached(chats));
    let draining = app.is_draining();
    let ready = registry == "ok" && chat == "ok" && !draining;
    let word = if draining {
        "stopping"
    } else if ready {
        "ready"
    } else {
        "not ready"
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_value(status, &json!({"status": word, "registry": registry, "chat": chat}))
}

async fn reached(ping: impl Future<Output = Result<(), StoreError>>) -> &'static str {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(Ok(())) => return "ok",
        Ok(Err(error)) => tracing::error!(%error, "not ready"),
        Err(_) => tracing::error!("not ready: no answer in time"),
    }
    "failed"
}

pub(crate) fn metrics(app: &App) -> Response {
    let snapshot = app.registry.snapshot();
    let profiles = snapshot.registries().map(|state| state.len()).sum();
    let text = app.metrics.render(profiles, snapshot.revision(), app.conversations.len());
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

pub(crate) fn release(app: &App, method: &Method) -> Result<Response, Failure> {
    only_get(method)?;
    let release = serde_json::to_value(&app.release).map_err(|_| Failure::internal())?;
    Ok(json_value(StatusCode::OK, &release))
}

pub(crate) fn openapi(method: &Method) -> Result<Response, Failure> {
    only_get(method)?;
    Ok(json(StatusCode::OK, crate::openapi::document().to_string()))
}

pub(super) fn only_get(method: &Method) -> Result<(), Failure> {
    if method == Method::GET { Ok(()) } else { Err(Failure::method_not_allowed()) }
}

/// What the contract's front end reads before anything else (chapter 30 §8.1).
pub(crate) fn app_config(app: &App, method: &Method) -> Result<Response, Failure> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed());
    }
    let config = json!({"basePrefix": app.mount.root, "debugApiEnabled": app.debug_api});
    let script = format!("window.__PINOCCHIO_WEBCHAT_CONFIG__ = {config};\n");
    let kind = HeaderValue::from_static("application/javascript; charset=utf-8");
    let mut response = script.into_response();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
