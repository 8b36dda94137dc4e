//! `/api/debug/turns` and `/api/debug/turn/{conv}/{session}/{turn}` (chapter 30 §6.5).

use axum::response::Response;
use collodi_chat::store::{TurnFilter, TurnSnapshot};
use collodi_chat::turn::{Block, keys};
use collodi_profiles::json::Object;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::super::json_value;
use crate::App;
use crate::extract::{self, Query};
use crate::problem::Failure;

/// Snapshots of an answer when the client does not say (contract).
const LIMIT: u64 = 200;

fn bad(text: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", text)
}

fn failed(text: &'static str) -> impl Fn(collodi_profiles::store::StoreError) -> Failure {
    move |error| {
        tracing::error!(%error, "failed to read turns");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", text)
    }
}

pub(super) async fn list(app: &App, parts: &Parts) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let text = |key: &str| query.get(key).unwrap_or_default().to_owned();
    let filter = TurnFilter {
        conv_id: text("conv_id"),
        session_id: text("session_id"),
        turn_id: String::new(),
        phase: text("phase"),
        since_ms: query.number("since_ms").and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
        limit: usize::try_from(query.number("limit").filter(|n| *n > 0).unwrap_or(LIMIT))
            .unwrap_or(usize::MAX),
    };
    if filter.conv_id.is_empty() && filter.session_id.is_empty() {
        return Err(bad("missing conv_id or session_id"));
    }
    let mut body = json!({"conv_id": filter.conv_id, "phase": filter.phase,
        "session_id": filter.session_id, "since_ms": filter.since_ms});
    let found = app.conversations.turns(filter).await.map_err(failed("turns query failed"))?;
    let items: Vec<Value> = found
        .iter()
        .map(|snapshot| {
            let turn = &snapshot.turn;
            json!({"conv_id": snapshot.conv_id, "session_id": turn.session_id, "turn_id": turn.turn_id,
                "phase": snapshot.phase, "runtime_key": turn.attribution.runtime_key,
                "inference_id": turn.inference_id, "created_at_ms": snapshot.created_at_ms,
                "payload": payload(snapshot)})
        })
        .collect();
    body["items"] = items.into();
    Ok(json_value(StatusCode::OK, &body))
}

pub(super) async fn detail(app: &App, path: &str) -> Result<Response, Failure> {
    let segments: Vec<&str> = path.split('/').collect();
    let [conv, session, turn] = segments[..] else {
        return Err(bad("expected /api/debug/turn/:convId/:sessionId/:turnId"));
    };
    let decode = |raw: &str, name: &str| {
        let id = extract::percent_decode(raw).filter(|id| !id.trim().is_empty());
        id.map(std::borrow::Cow::into_owned).ok_or_else(|| bad(&format!("invalid {name}")))
    };
    let filter = TurnFilter {
        conv_id: decode(conv, "conv_id")?,
        session_id: decode(session, "session_id")?,
        turn_id: decode(turn, "turn_id")?,
        limit: usize::MAX,
        ..TurnFilter::default()
    };
    let mut body = json!({"conv_id": filter.conv_id, "session_id": filter.session_id,
        "turn_id": filter.turn_id});
    let found = app.conversations.turns(filter).await;
    let found = found.map_err(failed("turn detail query failed"))?;
    if found.is_empty() {
        return Err(Failure::new(StatusCode::NOT_FOUND, "turn_not_found", "turn not found"));
    }
    let items: Vec<Value> = found
        .iter()
        .map(|snapshot| {
            let turn = &snapshot.turn;
            let mut item = json!({"phase": snapshot.phase, "created_at_ms": snapshot.created_at_ms,
                "payload": payload(snapshot), "parsed": document(snapshot)});
            for (key, value) in [
                ("runtime_key", &turn.attribution.runtime_key),
                ("inference_id", &turn.inference_id),
            ] {
                if !value.is_empty() {
                    item[key] = value.as_str().into();
                }
            }
            item
        })
        .collect();
    body["items"] = items.into();
    Ok(json_value(StatusCode::OK, &body))
}

/// The turn as it describes itself; empty maps are left out (chapter 30 §4.2).
fn document(snapshot: &TurnSnapshot) -> Value {
    let turn = &snapshot.turn;
    let made_under = &turn.attribution;
    let mut metadata = snapshot.metadata.clone();
    metadata.insert(keys::SESSION.into(), turn.session_id.as_str().into());
    metadata.insert(keys::INFERENCE.into(), turn.inference_id.as_str().into());
    let mut runtime = json!({"runtime_key": made_under.runtime_key});
    if !made_under.profile.is_empty() {
        runtime = json!({"runtime_key": made_under.runtime_key, "registry": made_under.registry,
            "profile": made_under.profile, "profile_version": made_under.version,
            "fingerprint": made_under.fingerprint});
    }
    metadata.insert(keys::RUNTIME.into(), runtime);
    let blocks: Vec<Value> = snapshot.blocks.iter().map(block).collect();
    let mut document = json!({"id": turn.turn_id, "blocks": blocks, "metadata": metadata});
    if !snapshot.data.is_empty() {
        document["data"] = snapshot.data.clone().into();
    }
    document
}

fn block(block: &Block) -> Value {
    let mut shown = Object::new();
    shown.insert("id".into(), block.id.as_str().into());
    shown.insert("kind".into(), block.kind.as_str().into());
    if !block.kind.role().is_empty() {
        shown.insert("role".into(), block.kind.role().into());
    }
    if !block.payload.is_empty() {
        shown.insert("payload".into(), block.payload.clone().into());
    }
    if !block.metadata.is_empty() {
        shown.insert("metadata".into(), block.metadata.clone().into());
    }
    shown.into()
}

/// The same as YAML: four spaces, keys in alphabetical order, integers as integers (D38).
fn payload(snapshot: &TurnSnapshot) -> String {
    let options = serde_saphyr::ser_options! { indent_step: 4 };
    serde_saphyr::to_string_with_options(&document(snapshot), options).unwrap_or_default()
}
