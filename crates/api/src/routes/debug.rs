//! `/api/debug` (chapter 30 §6): conversations, held frames, turns, step control. It answers only when it is turned on.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use collodi_chat::conversation::Glance;
use collodi_chat::store::{ConversationFilter, ConversationRecord};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{json, json_value, timeline};
use crate::App;
use crate::extract::{self, Query};
use crate::problem::Failure;

mod runtime;
mod step;
mod turns;

const PREFIX: &str = "/api/debug/";
/// Stored conversations that are listed (contract).
const LISTED: usize = 500;
/// Held frames of an answer when the client does not say (contract).
const EVENTS: u64 = 200;

/// Whether a path belongs to the debug API.
pub(crate) fn is_debug(path: &str) -> bool {
    path.starts_with(PREFIX)
}

pub(crate) async fn answer(app: &App, parts: &Parts, body: Body) -> Result<Response, Failure> {
    let rest = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let (noun, argument) = rest.split_once('/').unwrap_or((rest, ""));
    match noun {
        "step" => return step::switch(app, parts, argument, body).await,
        "continue" => return step::go_on(app, parts, body).await,
        _ if parts.method != Method::GET => return Err(Failure::method_not_allowed()),
        _ => {}
    }
    match noun {
        "timeline" => timeline::snapshot(app, parts).await,
        "conversations" if argument.is_empty() => conversations(app).await,
        "conversations" => conversation(app, &id(argument)?).await,
        "events" => events(app, parts, &id(argument)?).await,
        "turns" => turns::list(app, parts).await,
        "turn" => turns::detail(app, argument).await,
        "runtime" => runtime::explain(app, parts, argument).await,
        _ => Err(Failure::no_page()),
    }
}

/// A path segment, decoded once (D39).
fn id(raw: &str) -> Result<String, Failure> {
    let bad = |text: &str| Failure::new(StatusCode::BAD_REQUEST, "bad_request", text);
    let id = extract::percent_decode(raw).ok_or_else(|| bad("invalid conv_id"))?;
    if id.trim().is_empty() { Err(bad("missing conv_id")) } else { Ok(id.into_owned()) }
}

fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "conversation_not_found", "conversation not found")
}

fn storage(error: &collodi_profiles::store::StoreError) -> Failure {
    tracing::error!(%error, "failed to read for the debug API");
    let text = "conversation sources not initialized";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "storage", text)
}

/// Stored and live, merged: the live value wins where both have one.
fn shown(
    conv_id: &str,
    stored: Option<&ConversationRecord>,
    live: Option<&Glance>,
) -> serde_json::Map<String, Value> {
    let pick = |live: Option<&String>, stored: Option<&String>| {
        let known = |text: &&String| !text.is_empty();
        live.filter(known).or(stored).cloned().unwrap_or_default()
    };
    let last = stored.map_or(0, |s| s.last_activity_ms).max(live.map_or(0, |l| l.last_activity_ms));
    let source = match (stored, live) {
        (Some(_), Some(_)) => "merged",
        (None, Some(_)) => "live",
        _ => "persisted",
    };
    let body = json!({
        "conv_id": conv_id,
        "session_id": pick(live.map(|l| &l.session_id), stored.map(|s| &s.session_id)),
        "current_runtime_key": pick(live.map(|l| &l.runtime_key), stored.map(|s| &s.runtime_key)),
        "active_sockets": live.map_or(0, |l| l.watchers),
        "stream_running": live.is_some(),
        "queue_depth": live.map_or(0, |l| l.queue_depth),
        "buffered_events": live.map_or(0, |l| l.held),
        "last_activity_ms": last,
        "has_timeline_source": true,
        "source": source,
    });
    collodi_chat::store::object(body)
}

async fn conversations(app: &App) -> Result<Response, Failure> {
    let filter = ConversationFilter { limit: LISTED, ..ConversationFilter::default() };
    let stored = app.conversations.list(filter).await.map_err(|e| storage(&e))?;
    let live = app.conversations.glances();
    let mut ids: BTreeMap<&str, Option<&ConversationRecord>> =
        live.keys().map(|id| (id.as_str(), None)).collect();
    ids.extend(stored.iter().map(|record| (record.conv_id.as_str(), Some(record))));
    let mut items: Vec<_> =
        ids.into_iter().map(|(id, stored)| shown(id, stored, live.get(id))).collect();
    items.sort_by_key(|item| -item["last_activity_ms"].as_i64().unwrap_or(0));
    Ok(json_value(StatusCode::OK, &json!({ "items": items })))
}

async fn conversation(app: &App, conv_id: &str) -> Result<Response, Failure> {
    let live = app.conversations.glances().remove(conv_id);
    let (store, id) = (app.conversations.store().clone(), conv_id.to_owned());
    let loaded = tokio::task::spawn_blocking(move || store.load(&id)).await;
    let stored = loaded.map_err(|_| Failure::internal())?.map_err(|e| storage(&e))?;
    let stored = stored.map(|loaded| loaded.record);
    if live.is_none() && stored.is_none() {
        return Err(not_found());
    }
    let mut body = shown(conv_id, stored.as_ref(), live.as_ref());
    let key = live.map(|live| live.active_key).unwrap_or_default();
    body.insert("active_request_key".into(), key.into());
    Ok(json_value(StatusCode::OK, &body.into()))
}

/// Held frames by their own numbers, which do not shift (D39).
async fn events(app: &App, parts: &Parts, conv_id: &str) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let since = query.number("since_seq").unwrap_or(0);
    let limit = query.number("limit").filter(|n| *n > 0).unwrap_or(EVENTS);
    let wanted = query.get("type").unwrap_or_default();
    let held = app.conversations.held(conv_id).await.ok_or_else(not_found)?;
    let items: Vec<Value> = held
        .iter()
        .filter(|frame| frame.kind != "timeline.upsert" && frame.seq > since)
        .filter(|frame| wanted.is_empty() || frame.kind == wanted)
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .map(|frame| {
            let decoded: Value = serde_json::from_slice(&frame.text).unwrap_or(Value::Null);
            let id = decoded["event"]["id"].clone();
            json!({"frame": decoded, "id": id, "seq": frame.seq, "type": frame.kind})
        })
        .collect();
    let body = json!({"conv_id": conv_id, "items": items, "limit": limit, "since_seq": since, "type": wanted});
    Ok(json(StatusCode::OK, format!("{body}\n")))
}
