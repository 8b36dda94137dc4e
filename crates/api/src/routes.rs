//! Handlers: a file per noun. Each one reads the request, makes one call, and wraps the answer.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

pub mod bundle;
pub mod chat;
pub mod conversations;
pub mod debug;
pub mod operations;
pub mod profiles;
pub mod schemas;
pub mod selection;
pub mod system;
pub mod timeline;
mod tries;
pub mod versions;
mod write;

/// The revision of a registry, on every answer about its profiles (decision 12).
pub const X_REGISTRY_VERSION: HeaderName = HeaderName::from_static("x-registry-version");

pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    // What the pipeline adds fits too, so that the map never grows.
    *response.headers_mut() = HeaderMap::with_capacity(8);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn json_value(status: StatusCode, value: &serde_json::Value) -> Response {
    json(status, format!("{value}\n"))
}
