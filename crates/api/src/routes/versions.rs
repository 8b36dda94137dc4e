//! What profiles were: `/api/chat/profiles/{slug}/versions`, `/diff`, `/restore`, and `/api/chat/audit`.

use axum::body::Body;
use axum::response::Response;
use collodi_profiles::profile::Rendered;
use collodi_profiles::profile::history::{Change, Operation};
use collodi_profiles::profile::middlewares::Writer;
use collodi_profiles::registry::RestoreProfile;
use collodi_profiles::store::{ProfileStore, StoreError};
use collodi_profiles::{Error, ProfileSlug, RegistrySlug};
use http::header::{CONTENT_TYPE, HeaderValue, LINK};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::write::{answer, author, guard};
use super::{json, json_value};
use crate::App;
use crate::access::Role;
use crate::context::Incoming;
use crate::extract::{self, MAX_BODY, Query};
use crate::problem::Failure;

/// Changes of a page when the client does not say, and at most.
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 1_000;
const JSONL: &str = "application/x-ndjson";

#[derive(Deserialize)]
struct RestoreBody {
    registry: Option<String>,
    version: Option<u64>,
    expected_version: Option<u64>,
    note: Option<String>,
}

fn limit(query: &Query) -> usize {
    let asked = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LIMIT);
    usize::try_from(asked.min(MAX_LIMIT)).unwrap_or(usize::MAX)
}

fn registry_of(app: &App, parts: &Parts) -> Result<RegistrySlug, Failure> {
    Query::of(parts)?.registry(None, app.registry.default_registry())
}

/// Changes of a profile, the newest first; also of one that is deleted.
pub(super) async fn list(app: &App, parts: &Parts, slug: ProfileSlug) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let registry = registry_of(app, parts)?;
    let (before, limit) = (query.number("before").unwrap_or(0), limit(&query));
    let name = slug.clone();
    let read = move |store: &dyn ProfileStore| store.history(&registry, &slug, before, limit + 1);
    let found = app.registry.read(read).await?;
    if found.is_empty() && before == 0 {
        return Err(Error::ProfileNotFound.into());
    }
    let items: Vec<Value> = found.iter().take(limit).map(Change::summary).collect();
    let mut response = json_value(StatusCode::OK, &items.into());
    if found.len() > limit
        && let Some(last) = found.get(limit - 1)
    {
        let path = format!("/api/chat/profiles/{name}/versions");
        link(&mut response, app, parts, &path, ("before", last.id));
    }
    Ok(response)
}

fn link(response: &mut Response, app: &App, parts: &Parts, path: &str, (key, at): (&str, u64)) {
    let query = parts.uri.query().unwrap_or_default();
    let own = format!("{key}=");
    let kept: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with(&own)).collect();
    let query = [kept.join("&"), format!("{key}={at}")].join("&");
    let query = query.trim_start_matches('&');
    let text = format!("<{}{path}?{query}>; rel=\"next\"", app.mount.root);
    if let Ok(text) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(LINK, text);
    }
}

/// A profile as it was, in the form in which it is read now.
pub(super) async fn one(
    app: &App,
    parts: &Parts,
    slug: ProfileSlug,
    at: u64,
) -> Result<Response, Failure> {
    let registry = registry_of(app, parts)?;
    let change = app.registry.version(&registry, &slug, at).await?;
    let is_default = change.head.default_profile.as_ref() == Some(&slug);
    let profile = change.profile.as_deref().ok_or(Error::VersionNotFound)?;
    let rendered = Rendered::new(&registry, profile, &change.document, is_default);
    Ok(json(StatusCode::OK, rendered.document()))
}

/// What changed between two versions: from the one before `to`, to the newest, unless asked otherwise.
pub(super) async fn compare(
    app: &App,
    parts: &Parts,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let registry = registry_of(app, parts)?;
    let (from, to) = (query.number("from"), query.number("to"));
    let compared = app.registry.compare(&registry, &slug, from, to).await?;
    Ok(json_value(StatusCode::OK, &json!(compared)))
}

/// Makes a profile again what it was.
pub(super) async fn restore(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let body: RestoreBody = extract::parse(&bytes)?;
    let query = Query::of(parts)?;
    let registry = query.registry(body.registry.as_deref(), app.registry.default_registry())?;
    let author = author(app, incoming, body.note)?;
    let writer = match incoming.principal.role {
        Role::Operator => Writer::Operator,
        _ => Writer::Client,
    };
    let version = body.version.filter(|version| *version > 0);
    let version = version.ok_or_else(|| Error::invalid("version", "is required"))?;
    let guard = guard(parts, body.expected_version);
    let request = RestoreProfile { registry, slug, version, guard, writer };
    let dry_run = query.is_on("dry_run");
    let written = app.registry.restore_profile(request, author, dry_run).await?;
    answer(StatusCode::OK, &written, dry_run)
}

/// The log of the whole database, the oldest first: filtered, in pages, as JSON or one JSON object a line.
pub(crate) async fn audit(app: &App, parts: &Parts) -> Result<Response, Failure> {
    if parts.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let query = Query::of(parts)?;
    let wanted = Wanted {
        registry: query.get("registry").map(str::to_owned),
        slug: query.get("slug").map(str::to_owned),
        actor: query.get("actor").map(str::to_owned),
        operation: query.get("operation").map(str::to_owned),
    };
    if let Some(word) = &wanted.operation
        && Operation::parse(word).is_none()
    {
        return Err(Failure::bad_request());
    }
    let (after, limit) = (query.number("after").unwrap_or(0), limit(&query));
    let (found, last) = app.registry.read(move |store| wanted.page(store, after, limit)).await?;
    let by_line = query.get("format") == Some("jsonl");
    let items: Vec<Value> = found.iter().map(Change::summary).collect();
    let mut response = if by_line {
        let lines: Vec<String> = items.iter().map(|item| format!("{item}\n")).collect();
        let mut response = json(StatusCode::OK, lines.concat());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSONL));
        response
    } else {
        json_value(StatusCode::OK, &items.into())
    };
    if let Some(last) = last {
        link(&mut response, app, parts, "/api/chat/audit", ("after", last));
    }
    Ok(response)
}

/// Which changes are asked for.
struct Wanted {
    registry: Option<String>,
    slug: Option<String>,
    actor: Option<String>,
    operation: Option<String>,
}

impl Wanted {
    /// A page, and where the next one begins if there may be one.
    fn page(
        &self,
        store: &dyn ProfileStore,
        mut after: u64,
        limit: usize,
    ) -> Result<(Vec<Change>, Option<u64>), StoreError> {
        let most = usize::try_from(MAX_LIMIT).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        loop {
            let read = store.audit(after, most)?;
            let is_last = read.len() < most;
            for change in read {
                after = change.id;
                if self.has(&change) {
                    found.push(change);
                    if found.len() == limit {
                        return Ok((found, Some(after)));
                    }
                }
            }
            if is_last {
                return Ok((found, None));
            }
        }
    }

    fn has(&self, change: &Change) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|w| w == text);
        is(&self.registry, change.registry.as_str())
            && is(&self.slug, change.slug.as_ref().map_or("", ProfileSlug::as_str))
            && is(&self.actor, &change.stamp.actor)
            && is(&self.operation, change.operation.as_str())
    }
}
