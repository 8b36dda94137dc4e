//! `GET /api/timeline` (chapter 30 §3.5).

use axum::response::Response;
use collodi_chat::store::TimelineRange;
use http::header::{HeaderValue, LINK};
use http::request::Parts;
use http::{Method, StatusCode};

use super::json;
use crate::App;
use crate::extract::{Query, percent_encode};
use crate::problem::Failure;

/// Entities of a snapshot when the client does not say.
const DEFAULT_LIMIT: u64 = 5_000;

/// Whether a path asks for a timeline: the endpoint itself, and everything below it.
pub(crate) fn is_timeline(path: &str) -> bool {
    path.strip_prefix("/api/timeline").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) async fn snapshot(app: &App, parts: &Parts) -> Result<Response, Failure> {
    if parts.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let query = Query::of(parts)?;
    let Some(conv_id) = query.get("conv_id") else {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "missing_conv_id", "missing conv_id"));
    };
    let since = query.number("since_version").unwrap_or(0);
    let limit = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let range = TimelineRange { since, before: query.number("before"), limit };
    let read = app.conversations.timeline(conv_id, range).await;
    let snapshot = read.map_err(|error| {
        tracing::error!(conv_id, %error, "failed to read a timeline");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "timeline snapshot failed")
    })?;
    let mut response = json(StatusCode::OK, snapshot.text);
    // The body is the contract's, which has no member for it.
    if let Some(older) = snapshot.older {
        let link = format!(
            "<{}/api/timeline?conv_id={}&limit={limit}&before={older}>; rel=\"prev\"",
            app.mount.root,
            percent_encode(conv_id)
        );
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}
