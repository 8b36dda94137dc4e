//! What happens around every request: its id, the mount prefix, the gate, containment of panics, problem documents,
//! metrics and one log line.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode};
use tower::Service;
use uuid::Uuid;

use crate::App;
use crate::access::Principal;
use crate::context::{Context, X_REQUEST_ID};
use crate::problem::{self, Failure};

/// The application as one service.
#[derive(Clone)]
pub struct Pipeline {
    app: Arc<App>,
    router: Router,
}

impl Pipeline {
    /// Wraps the routes of `app`.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let router = crate::router::routes(app.clone());
        Self { app, router }
    }

    /// Answers a request. A panic in a handler is a 500 for its caller alone.
    ///
    /// # Errors
    /// Never: hyper wants the type.
    pub async fn answer(self, request: Request) -> Result<Response, Infallible> {
        let started = Instant::now();
        let request_id = request_id(&request);
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let accepts_problem = problem::accepts_problem(request.headers());
        let app = self.app.clone();

        let admitted = AssertUnwindSafe(self.admit_and_route(request, request_id.clone()))
            .catch_unwind()
            .await;
        let response = admitted.unwrap_or_else(|_| {
            tracing::error!(%request_id, %method, path, "a handler panicked");
            Failure::internal().into_response()
        });
        let mut response = problem::negotiate(response, accepts_problem, &request_id);
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            headers.insert(X_REQUEST_ID, value);
        }
        let (status, took) = (response.status(), started.elapsed());
        app.metrics.request(&method, status.as_u16(), took);
        log(&request_id, &method, &path, status, took.as_micros());
        Ok(response)
    }

    async fn admit_and_route(mut self, request: Request, request_id: Arc<str>) -> Response {
        let (mut parts, body) = request.into_parts();
        match unprefixed(&self.app.mount.root, &parts.uri) {
            Prefix::Inside(uri) => parts.uri = uri,
            Prefix::Same => {}
            Prefix::Bare => return redirect(&format!("{}/", self.app.mount.root)),
            Prefix::Outside => return Failure::no_page().into_response(),
        }
        let path = parts.uri.path();
        let principal = if matches!(path, "/healthz" | "/readyz") {
            Principal { name: String::new(), role: crate::access::Role::User }
        } else {
            match self.app.access.admit(&parts, path) {
                Ok(principal) => principal,
                Err(failure) => return failure.into_response(),
            }
        };
        parts.extensions.insert(Context { request_id, principal });
        let request = Request::from_parts(parts, body);
        match self.router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The caller's own id if it is a plain word, else a new one.
fn request_id(request: &Request<Body>) -> Arc<str> {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let given =
        request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| Uuid::now_v7().to_string().into(), Into::into)
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

/// Reads are logged at `debug`: at full rate the log would cost more than the answer.
fn log(request_id: &str, method: &Method, path: &str, status: StatusCode, us: u128) {
    let status = status.as_u16();
    if status >= 500 {
        tracing::error!(request_id, %method, path, status, us, "request");
    } else if *method == Method::GET {
        tracing::debug!(request_id, %method, path, status, us, "request");
    } else {
        tracing::info!(request_id, %method, path, status, us, "request");
    }
}
