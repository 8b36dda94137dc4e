//! `/api/chat/conversations` and below: list, name, delete, cancel, queue (decisions 25 and 44).

use axum::body::Body;
use axum::response::Response;
use collodi_chat::store::{ConversationFilter, ListPlace};
use http::header::{HeaderValue, LINK};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat::refused;
use super::{json, json_value};
use crate::App;
use crate::extract::{self, MAX_BODY, Query, percent_encode};
use crate::problem::Failure;

const PREFIX: &str = "/api/chat/conversations";
/// Conversations of a page when the client does not say, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;
/// Longest title, in bytes.
const MAX_TITLE: usize = 256;

#[derive(Deserialize)]
struct TitleBody {
    title: Option<String>,
}

/// Whether a path is about conversations.
pub(crate) fn is_conversations(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) async fn answer(app: &App, parts: &Parts, body: Body) -> Result<Response, Failure> {
    let rest = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let decoded: Option<Vec<String>> = rest
        .split('/')
        .skip(1)
        .map(|segment| extract::percent_decode(segment).map(std::borrow::Cow::into_owned))
        .collect();
    let segments = decoded.ok_or_else(Failure::bad_request)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&segments[..], &parts.method) {
        ([], &Method::GET) => list(app, parts).await,
        ([id], &Method::PATCH) => rename(app, parts, id, body).await,
        ([id], &Method::DELETE) => {
            app.conversations.delete(id).await.map_err(refused)?;
            Ok(empty())
        }
        ([id, "cancel"], &Method::POST) => cancel(app, id).await,
        ([id, "queue"], &Method::GET) => queue(app, id).await,
        ([id, "queue", key], &Method::DELETE) => {
            app.conversations.dequeue(id, key).await.map_err(refused)?;
            Ok(empty())
        }
        ([] | [_] | [_, "cancel" | "queue"] | [_, "queue", _], _) => {
            Err(Failure::method_not_allowed())
        }
        _ => Err(Failure::no_page()),
    }
}

fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

async fn list(app: &App, parts: &Parts) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let limit = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let filter = ConversationFilter {
        text: query.get("q").unwrap_or_default().to_owned(),
        after: query.get("after").map(place).transpose()?.unwrap_or_default(),
        limit: limit + 1,
    };
    let mut found = app.conversations.list(filter).await.map_err(|error| {
        tracing::error!(%error, "failed to list conversations");
        let text = "conversation list failed";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", text)
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    let items: Vec<Value> = found
        .iter()
        .map(|record| {
            json!({"conv_id": record.conv_id, "title": record.title, "runtime_key": record.runtime_key,
                "status": record.status, "last_error": record.last_error,
                "created_at_ms": record.created_at_ms, "last_activity_ms": record.last_activity_ms})
        })
        .collect();
    let mut response = json_value(StatusCode::OK, &items.into());
    if let Some(last) = found.last().filter(|_| more) {
        let place = format!("{}.{}", last.last_activity_ms, last.conv_id);
        let link = format!(
            "<{}{PREFIX}?limit={limit}&q={}&after={}>; rel=\"next\"",
            app.mount.root,
            percent_encode(query.get("q").unwrap_or_default()),
            percent_encode(&place)
        );
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// The time of its last activity, a dot, and the id of a conversation, as the link to the next page has them.
fn place(text: &str) -> Result<ListPlace, Failure> {
    let (time, conv_id) = text.split_once('.').ok_or_else(Failure::bad_request)?;
    let last_activity_ms = time.parse().map_err(|_| Failure::bad_request())?;
    Ok(ListPlace { conv_id: conv_id.to_owned(), last_activity_ms })
}

async fn rename(app: &App, parts: &Parts, id: &str, body: Body) -> Result<Response, Failure> {
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let body: TitleBody = extract::parse(&bytes)?;
    let title = body.title.ok_or_else(Failure::bad_request)?.trim().to_owned();
    if title.len() > MAX_TITLE {
        let problem = collodi_profiles::profile::validate::too_much("title", MAX_TITLE, "bytes");
        return Err(collodi_profiles::Error::Validation(vec![problem]).into());
    }
    app.conversations.rename(id, title.clone()).await.map_err(refused)?;
    Ok(json_value(StatusCode::OK, &json!({"conv_id": id, "title": title})))
}

async fn cancel(app: &App, id: &str) -> Result<Response, Failure> {
    let ids = app.conversations.cancel(id).await.map_err(refused)?;
    let body = json!({"conv_id": id, "turn_id": ids.turn_id, "status": "cancelled"});
    Ok(json(StatusCode::OK, format!("{body}\n")))
}

async fn queue(app: &App, id: &str) -> Result<Response, Failure> {
    let line = app.conversations.queue(id).await.map_err(refused)?;
    let active = line.active.map(|active| {
        json!({"idempotency_key": active.idempotency_key, "turn_id": active.turn_id,
            "runtime_key": active.runtime_key})
    });
    let items: Vec<Value> = line
        .waiting
        .iter()
        .enumerate()
        .map(|(at, prompt)| {
            json!({"idempotency_key": prompt.idempotency_key, "prompt": prompt.text,
                "runtime_key": prompt.runtime_key, "queue_position": at + 1})
        })
        .collect();
    Ok(json_value(StatusCode::OK, &json!({"conv_id": id, "active": active, "items": items})))
}
