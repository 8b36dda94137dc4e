//! Step control (chapter 30 §6.6): turn it on and off, go on from a pause.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::super::json_value;
use crate::App;
use crate::extract::{self, MAX_BODY};
use crate::problem::Failure;

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the keys of the contract")]
struct StepBody {
    session_id: Option<String>,
    conv_id: Option<String>,
    pause_id: Option<String>,
}

fn bad(text: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", text)
}

fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

async fn read(parts: &Parts, body: Body) -> Result<StepBody, Failure> {
    if parts.method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    extract::parse(&extract::read_body(&parts.headers, body, MAX_BODY).await?)
}

pub(super) async fn switch(
    app: &App,
    parts: &Parts,
    action: &str,
    body: Body,
) -> Result<Response, Failure> {
    let on = match action {
        "enable" => true,
        "disable" => false,
        _ => return Err(Failure::no_page()),
    };
    let body = read(parts, body).await?;
    let (session_id, conv_id) = (given(body.session_id), given(body.conv_id));
    let of_session = session_id.as_deref().and_then(|id| app.conversations.of_session(id));
    let conv_id = conv_id.or(of_session);
    let switched = match &conv_id {
        Some(conv_id) => app.conversations.step_mode(conv_id, on).await,
        None => None,
    };
    let session_id =
        switched.or(session_id).ok_or_else(|| bad("missing session_id (or unknown conv_id)"))?;
    let body = if on {
        json!({"conv_id": conv_id.unwrap_or_default(), "ok": true, "session_id": session_id})
    } else {
        json!({"ok": true, "session_id": session_id})
    };
    Ok(json_value(StatusCode::OK, &body))
}

pub(super) async fn go_on(app: &App, parts: &Parts, body: Body) -> Result<Response, Failure> {
    let body = read(parts, body).await?;
    let pause_id = given(body.pause_id).ok_or_else(|| bad("missing pause_id"))?;
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "unknown_pause", "unknown pause_id");
    let conv_id = app.conversations.of_pause(&pause_id).ok_or_else(unknown)?;
    if given(body.conv_id).is_some_and(|claimed| claimed != conv_id) {
        let text = "pause does not belong to this conversation";
        return Err(Failure::new(StatusCode::FORBIDDEN, "foreign_pause", text));
    }
    let pause = app.conversations.go_on(&conv_id, &pause_id).await.ok_or_else(unknown)?;
    let pause = json!({"pause_id": pause.id, "phase": pause.phase, "summary": pause.summary,
        "deadline_ms": pause.deadline_ms, "session_id": pause.session_id,
        "inference_id": pause.inference_id, "turn_id": pause.turn_id, "conv_id": pause.conv_id,
        "extra": if pause.extra.is_null() { json!({}) } else { pause.extra }});
    Ok(json_value(StatusCode::OK, &json!({"ok": true, "pause": pause})))
}
