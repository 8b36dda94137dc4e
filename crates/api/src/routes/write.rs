//! What every write of a profile has in common: who writes, on what condition, and how the answer looks.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use collodi_profiles::profile::validate::{MAX_NOTE, too_much};
use collodi_profiles::registry::{Guard, Written};
use collodi_profiles::{Author, Error, ProfileSlug};
use http::StatusCode;
use http::header::{ETAG, HeaderName, HeaderValue};
use http::request::Parts;

use super::{X_REGISTRY_VERSION, json};
use crate::App;
use crate::context::{About, Incoming};
use crate::extract;
use crate::problem::Failure;

const X_DRY_RUN: HeaderName = HeaderName::from_static("x-dry-run");

pub(super) fn author(
    app: &App,
    incoming: &Incoming,
    note: Option<String>,
) -> Result<Author, Failure> {
    let note = note.unwrap_or_default();
    if note.len() > MAX_NOTE {
        return Err(Error::Validation(vec![too_much("note", MAX_NOTE, "bytes")]).into());
    }
    let name = &*incoming.principal.name;
    Ok(Author {
        actor: if name.is_empty() { app.mount.actor.clone() } else { name.to_owned() },
        source: app.mount.source.clone(),
        note,
        request_id: incoming.request_id.as_str().to_owned(),
    })
}

pub(super) fn guard(parts: &Parts, expected_version: Option<u64>) -> Guard {
    Guard {
        expected_version: expected_version.unwrap_or(0),
        if_match: extract::if_match(&parts.headers),
    }
}

/// What the log says of a write.
pub(super) fn about(written: &Written, slug: &ProfileSlug, dry_run: bool) -> About {
    let version = written.stored.as_ref().map(|stored| stored.version());
    let outcome = if dry_run { "rehearsed" } else { "committed" };
    About::Profile {
        registry: written.registry.clone(),
        slug: slug.clone(),
        version,
        registry_version: written.registry_version,
        outcome,
    }
}

/// The document that this write committed.
pub(super) fn answer(
    status: StatusCode,
    written: &Written,
    dry_run: bool,
) -> Result<Response, Failure> {
    let stored = written.stored.as_ref().ok_or(Error::ProfileNotFound)?;
    let rendered = stored.rendered(written.is_default);
    let body = Some(rendered.document());
    let mut response = stamped(status, body, rendered.etag(), written.registry_version);
    response.extensions_mut().insert(about(written, stored.slug(), dry_run));
    Ok(mark(response, dry_run))
}

/// Says that nothing was written.
pub(super) fn mark(mut response: Response, dry_run: bool) -> Response {
    if dry_run {
        response.headers_mut().insert(X_DRY_RUN, HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn stamped(
    status: StatusCode,
    body: Option<Bytes>,
    etag: Bytes,
    registry_version: u64,
) -> Response {
    let mut response = body.map_or_else(|| empty(status), |body| json(status, body));
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_maybe_shared(etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(X_REGISTRY_VERSION, registry_version.into());
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
