//! `/api/ops/...`: what only operators see of a server, for the escalation packet and the page.

use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use serde_json::json;

use super::system::only_get;
use super::{json, json_value};
use crate::App;
use crate::extract::Query;
use crate::logs::{MAX_LINES, Wanted};
use crate::problem::Failure;

/// Lines when the client does not say how many.
const DEFAULT_LINES: u64 = 1_000;

/// The configuration with the origin of every value, keys masked.
pub(crate) fn config(app: &App, parts: &Parts) -> Result<Response, Failure> {
    only_get(&parts.method)?;
    Ok(json_value(StatusCode::OK, &app.operations.config))
}

/// The newest log lines, the oldest first: by request, conversation, profile, level; as JSON or one object a line.
pub(crate) fn logs(app: &App, parts: &Parts) -> Result<Response, Failure> {
    only_get(&parts.method)?;
    let query = Query::of(parts)?;
    let names = ["request_id", "conv_id", "registry", "slug", "level"];
    let given = |name: &'static str| query.get(name).map(|text| (name, text.to_owned()));
    let asked = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LINES);
    let limit = usize::try_from(asked).unwrap_or(MAX_LINES).min(MAX_LINES);
    let wanted =
        Wanted { fields: names.into_iter().filter_map(given).collect(), limit: Some(limit) };
    let lines = app.operations.logs.select(&wanted);
    if query.get("format") != Some("jsonl") {
        return Ok(json_value(StatusCode::OK, &json!(lines)));
    }
    let text: Vec<String> = lines.iter().map(|line| format!("{}\n", json!(line))).collect();
    let mut response = json(StatusCode::OK, text.concat());
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
