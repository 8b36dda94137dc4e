//! `GET /api/timeline` (chapter 30 §3.5).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{Method, StatusCode};

use super::json_value;
use crate::App;
use crate::extract::Query;
use crate::problem::Failure;

/// Entities of a snapshot when the client does not say.
const DEFAULT_LIMIT: u64 = 5_000;

pub(crate) async fn snapshot(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let query = Query::of(&parts)?;
    let Some(conv_id) = query.get("conv_id") else {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "missing_conv_id", "missing conv_id"));
    };
    let since = query.number("since_version").unwrap_or(0);
    let limit = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(json_value(StatusCode::OK, &app.conversations.timeline(conv_id, since, limit).await))
}
