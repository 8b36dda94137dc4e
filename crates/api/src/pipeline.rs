//! What happens around every request: its id, the mount prefix, the gate, containment of panics, problem documents,
//! metrics and one log line.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode};

use crate::App;
use crate::access::Principal;
use crate::context::{About, Incoming, RequestId, X_REQUEST_ID};
use crate::problem::{self, Failure};
use crate::router;

/// The application as one service.
#[derive(Clone)]
pub struct Pipeline {
    app: Arc<App>,
}

impl Pipeline {
    /// Wraps the routes of `app`.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Answers a request. A panic in a handler is a 500 for its caller alone.
    ///
    /// # Errors
    /// Never: hyper wants the type.
    pub async fn answer(self, request: Request) -> Result<Response, Infallible> {
        let started = Instant::now();
        let request_id = RequestId::of(request.headers());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let wants_document = problem::wants_document(request.headers());

        let routed =
            AssertUnwindSafe(self.admit_and_route(request, &request_id)).catch_unwind().await;
        let (mut response, code) = match routed {
            Ok(Ok(response)) => (response, ""),
            Ok(Err(failure)) => {
                (problem::respond(&failure, wants_document, &request_id), failure.code)
            }
            Err(_) => {
                tracing::error!(%request_id, %method, path = uri.path(), "a handler panicked");
                (problem::respond(&Failure::internal(), wants_document, &request_id), "panic")
            }
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_REQUEST_ID, request_id.header());
        let (status, took) = (response.status(), started.elapsed());
        self.app.metrics.request(&method, status.as_u16(), took);
        log(&request_id, &method, uri.path(), &response, code, took.as_micros());
        Ok(response)
    }

    async fn admit_and_route(
        &self,
        request: Request,
        request_id: &RequestId,
    ) -> Result<Response, Failure> {
        let (mut parts, body) = request.into_parts();
        match unprefixed(&self.app.mount.root, &parts.uri) {
            Prefix::Inside(uri) => parts.uri = uri,
            Prefix::Same => {}
            Prefix::Bare => return Ok(redirect(&format!("{}/", self.app.mount.root))),
            Prefix::Outside => return Err(Failure::no_page()),
        }
        let path = parts.uri.path();
        let principal = if matches!(path, "/healthz" | "/readyz") {
            Principal::nobody()
        } else {
            self.app.access.admit(&parts, path)?
        };
        let incoming = Incoming { parts, request_id: request_id.clone(), principal };
        router::route(&self.app, incoming, body).await
    }
}

enum Prefix {
    Same,
    Inside(Uri),
    Bare,
    Outside,
}

/// Takes the mount prefix off. Operators' endpoints and `app-config.js` answer outside of it too (decision 47).
fn unprefixed(root: &str, uri: &Uri) -> Prefix {
    const ALSO_OUTSIDE: [&str; 5] =
        ["/app-config.js", "/healthz", "/readyz", "/metrics", "/api/chat/release"];
    if root.is_empty() {
        return Prefix::Same;
    }
    match uri.path().strip_prefix(root) {
        Some("") => Prefix::Bare,
        Some(inner) if inner.starts_with('/') => {
            let path =
                uri.query().map_or_else(|| inner.to_owned(), |query| format!("{inner}?{query}"));
            let mut parts = uri.clone().into_parts();
            parts.path_and_query = PathAndQuery::try_from(path).ok();
            Uri::from_parts(parts).map_or(Prefix::Outside, Prefix::Inside)
        }
        _ if ALSO_OUTSIDE.contains(&uri.path()) => Prefix::Same,
        _ => Prefix::Outside,
    }
}

fn redirect(to: &str) -> Response {
    let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// One line a request. Reads that succeed are logged at `debug`: at full rate the log would cost more than the answer.
/// `code` is why a request was refused; the texts of refusals can hold what the client wrote, so they are not logged.
fn log(id: &RequestId, method: &Method, path: &str, response: &Response, code: &str, us: u128) {
    let us = u64::try_from(us).unwrap_or(u64::MAX);
    let status = response.status().as_u16();
    match response.extensions().get::<About>() {
        Some(About::Profile { registry, slug, version, registry_version, outcome }) => {
            tracing::info!(
                request_id = %id, %method, path, status, us, %registry, %slug, version, registry_version, outcome,
                "profile"
            );
        }
        Some(About::Turn { conv_id, runtime, outcome }) => {
            tracing::info!(
                request_id = %id, %method, path, status, us, %conv_id, registry = %runtime.registry,
                slug = %runtime.slug, version = runtime.version, fingerprint = runtime.fingerprint, outcome, "composed"
            );
        }
        None if status >= 500 => {
            tracing::error!(request_id = %id, %method, path, status, code, us, "request");
        }
        None if status >= 400 => {
            tracing::info!(request_id = %id, %method, path, status, code, us, "request");
        }
        None if *method == Method::GET => {
            tracing::debug!(request_id = %id, %method, path, status, us, "request");
        }
        None => tracing::info!(request_id = %id, %method, path, status, us, "request"),
    }
}
