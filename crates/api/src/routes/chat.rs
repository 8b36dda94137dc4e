//! `POST /chat` and `POST /chat/{profile}` (chapter 30 §1, decisions 18 to 20, 43).

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use collodi_chat::conversation::{Prompt, Refused, Status, Submitted};
use collodi_profiles::Error;
use collodi_profiles::json::Object;
use collodi_profiles::profile::overrides::{Overrides, parse_overrides};
use collodi_profiles::profile::resolve::{EffectiveProfile, Refusal};
use collodi_profiles::profile::validate::too_much;
use collodi_profiles::registry::Stored;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::json_value;
use super::selection::{Selected, Wanted, select_profile};
use crate::App;
use crate::context::{About, Incoming};
use crate::extract;
use crate::problem::Failure;

/// Longest prompt, in bytes (decision 40).
pub const MAX_PROMPT: usize = 1024 * 1024;
/// Largest body: a prompt with every character escaped, and room for the rest.
const MAX_CHAT_BODY: usize = 8 * 1024 * 1024;
/// Longest id or key that a client chooses, in bytes.
pub(crate) const MAX_ID: usize = 256;

/// Both generations of keys; the newer wins (decision 18).
#[derive(Deserialize)]
struct ChatBody {
    prompt: Option<String>,
    text: Option<String>,
    conv_id: Option<String>,
    profile: Option<String>,
    runtime_key: Option<String>,
    registry: Option<String>,
    registry_slug: Option<String>,
    overrides: Option<Object>,
    request_overrides: Option<Object>,
    idempotency_key: Option<String>,
    /// The newest turn, to be tried again (decision 26).
    retry_turn_id: Option<String>,
}

/// Whether a path hands in prompts: the endpoint itself, and everything below it.
pub(crate) fn is_chat(path: &str) -> bool {
    path.strip_prefix("/chat").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) async fn submit(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    if parts.method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let bytes = extract::read_body(&parts.headers, body, MAX_CHAT_BODY).await?;
    let body: ChatBody = extract::parse(&bytes)?;
    let path = profile_of_path(parts.uri.path());
    let wanted = Wanted {
        path: path.as_deref(),
        profile: given(body.runtime_key.as_deref()).or(given(body.profile.as_deref())),
        registry: given(body.registry_slug.as_deref()).or(given(body.registry.as_deref())),
    };
    let Selected { state, stored } = select_profile(app, parts, &wanted)?;
    let raw_overrides = body.request_overrides.or(body.overrides).unwrap_or_default();
    let overrides = read_overrides(app, &raw_overrides, &stored)?;
    let runtime = app.registry.resolve(&state, &stored, &overrides).map_err(refused_runtime)?;

    let text = match body.prompt {
        Some(prompt) if !prompt.is_empty() => prompt,
        _ => body.text.unwrap_or_default(),
    };
    let handed = Handed {
        text,
        conv_id: body.conv_id,
        idempotency_key: body.idempotency_key,
        retry_turn_id: body.retry_turn_id,
        step_mode: overrides.step_mode,
        runtime,
    };
    hand_in(app, incoming, handed).await
}

/// A prompt with what it runs under.
pub(super) struct Handed {
    pub(super) text: String,
    pub(super) conv_id: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) retry_turn_id: Option<String>,
    pub(super) step_mode: Option<bool>,
    pub(super) runtime: Arc<EffectiveProfile>,
}

/// Checks what the client chose, and hands the prompt in.
pub(super) async fn hand_in(
    app: &App,
    incoming: &Incoming,
    handed: Handed,
) -> Result<Response, Failure> {
    let Incoming { parts, request_id, .. } = incoming;
    let text = handed.text.trim();
    if text.is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "missing_prompt", "missing prompt"));
    }
    let key = given(handed.idempotency_key.as_deref())
        .or_else(|| header(&parts.headers, "idempotency-key"))
        .or_else(|| header(&parts.headers, "x-idempotency-key"));
    let new_id = || app.conversations.new_id();
    let conv_id = given(handed.conv_id.as_deref()).map_or_else(new_id, str::to_owned);
    let client_key = key.is_some();
    let idempotency_key = key.map_or_else(new_id, str::to_owned);
    for (field, value, most) in [
        ("prompt", text, MAX_PROMPT),
        ("conv_id", conv_id.as_str(), MAX_ID),
        ("idempotency_key", idempotency_key.as_str(), MAX_ID),
    ] {
        if value.len() > most {
            return Err(Error::Validation(vec![too_much(field, most, "bytes")]).into());
        }
    }
    let prompt = Prompt {
        text: text.to_owned(),
        idempotency_key: idempotency_key.clone(),
        client_key,
        runtime: handed.runtime.clone(),
        step_mode: handed.step_mode,
        retry_turn_id: given(handed.retry_turn_id.as_deref()).map(str::to_owned),
        request_id: request_id.as_str().to_owned(),
    };
    let submitted = app.conversations.submit(&conv_id, prompt).await.map_err(refused)?;
    let mut response = answer(&conv_id, &idempotency_key, &submitted);
    let outcome = submitted.status.as_str();
    let runtime = handed.runtime;
    response.extensions_mut().insert(About::Turn { conv_id, runtime, outcome });
    Ok(response)
}

fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    given(headers.get(name).and_then(|value| value.to_str().ok()))
}

/// The segment after `/chat/`; later segments are ignored.
fn profile_of_path(path: &str) -> Option<String> {
    let segment = path.strip_prefix("/chat/")?.split('/').next()?;
    Some(extract::percent_decode(segment).map_or_else(|| segment.to_owned(), Cow::into_owned))
}

fn read_overrides(app: &App, raw: &Object, stored: &Stored) -> Result<Overrides, Failure> {
    if raw.is_empty() {
        return Ok(Overrides::default());
    }
    let policy = stored.profile().policy;
    let overrides =
        parse_overrides(raw, &policy, app.registry.catalog()).map_err(refused_runtime)?;
    if overrides.step_mode == Some(true) && !app.debug_api {
        let text = "step mode is not available: the debug API is off";
        return Err(Failure::new(StatusCode::BAD_REQUEST, "step_mode", text));
    }
    Ok(overrides)
}

fn refused_runtime(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Override(text) => Failure::new(StatusCode::BAD_REQUEST, "override", text),
        Refusal::Profile(cause) => {
            tracing::error!(%cause, "a stored profile cannot be run");
            let text = "start session inference failed";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "runtime", text)
        }
    }
}

pub(crate) fn refused(refused: Refused) -> Failure {
    let (status, code) = match refused {
        Refused::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
        Refused::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused"),
        Refused::NotNewest => (StatusCode::CONFLICT, "not_newest"),
        Refused::NoActiveRun => (StatusCode::CONFLICT, "no_active_run"),
        Refused::Busy => (StatusCode::CONFLICT, "busy"),
        Refused::NotQueued => (StatusCode::NOT_FOUND, "not_queued"),
        Refused::NotFound => (StatusCode::NOT_FOUND, "conversation_not_found"),
        Refused::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Refused::Storage => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
    };
    Failure::new(status, code, refused.to_string())
}

fn answer(conv_id: &str, key: &str, submitted: &Submitted) -> Response {
    let mut body = Value::Object(submitted.runtime.0.clone());
    body["conv_id"] = conv_id.into();
    body["idempotency_key"] = key.into();
    body["session_id"] = submitted.session_id.as_str().into();
    let mut put = |key: &str, value: Value| body[key] = value;
    let mut status = StatusCode::OK;
    let ids = match &submitted.status {
        Status::Queued { position, depth } => {
            status = StatusCode::ACCEPTED;
            put("queue_position", (*position).into());
            put("queue_depth", (*depth).into());
            None
        }
        Status::Started(ids) | Status::Completed(ids) => Some(ids),
        Status::Failed(ids, reason) => {
            put("error", reason.as_str().into());
            ids.as_ref()
        }
    };
    put("status", submitted.status.as_str().into());
    if let Some(ids) = ids {
        put("turn_id", ids.turn_id.as_str().into());
        put("inference_id", ids.inference_id.as_str().into());
    }
    json_value(status, &body)
}
