//! `/api/chat/profiles` and below (chapter 20 §5.1 to §5.6).

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use collodi_profiles::json::{Members, Object};
use collodi_profiles::profile::{Draft, ProfilePatch};
use collodi_profiles::registry::{CreateProfile, Filter, MakeDefault, UpdateProfile};
use collodi_profiles::{Author, Error, Policy, ProfileSlug, Runtime};
use http::header::{HeaderValue, LINK};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::write::{about, answer, author, empty, guard, mark, stamped};
use super::{X_REGISTRY_VERSION, json_value, tries, versions};
use crate::App;
use crate::access::Role;
use crate::context::Incoming;
use crate::extract::{self, MAX_BODY, Query};
use crate::problem::Failure;

const PREFIX: &str = "/api/chat/profiles/";

#[derive(Deserialize)]
struct CreateBody {
    registry: Option<String>,
    slug: Option<String>,
    display_name: Option<String>,
    description: Option<String>,
    runtime: Option<Members<Runtime>>,
    policy: Option<Members<Policy>>,
    metadata: Option<Members<MetadataBody>>,
    extensions: Option<Object>,
    set_default: Option<bool>,
    expected_version: Option<u64>,
    note: Option<String>,
}

/// What a patch says.
#[derive(Deserialize)]
pub(crate) struct PatchBody {
    registry: Option<String>,
    display_name: Option<String>,
    description: Option<String>,
    runtime: Option<Members<Runtime>>,
    policy: Option<Members<PolicyBody>>,
    metadata: Option<Members<MetadataBody>>,
    extensions: Option<Object>,
    set_default: Option<bool>,
    expected_version: Option<u64>,
    note: Option<String>,
}

impl PatchBody {
    /// The registry, as it is named.
    pub(crate) fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }
}

impl From<PatchBody> for ProfilePatch {
    fn from(body: PatchBody) -> Self {
        Self {
            display_name: body.display_name,
            description: body.description,
            runtime: body.runtime.map(|m| m.0),
            says_writable: body.policy.as_ref().is_some_and(|p| p.0.read_only == Some(false)),
            policy: body.policy.map(|m| m.0.into()),
            tags: body.metadata.and_then(|m| m.0.tags),
            extensions: body.extensions,
        }
    }
}

/// A policy that tells `read_only: false` from not saying so.
#[derive(Deserialize)]
struct PolicyBody {
    allow_overrides: Option<bool>,
    allowed_override_keys: Option<Vec<String>>,
    denied_override_keys: Option<Vec<String>>,
    read_only: Option<bool>,
}

impl From<PolicyBody> for Policy {
    fn from(body: PolicyBody) -> Self {
        Self {
            allow_overrides: body.allow_overrides.unwrap_or(false),
            allowed_override_keys: body.allowed_override_keys.unwrap_or_default(),
            denied_override_keys: body.denied_override_keys.unwrap_or_default(),
            read_only: body.read_only.unwrap_or(false),
        }
    }
}

/// Tags are the client's; the rest is the server's, but must have the right types (D7).
#[derive(Deserialize)]
struct MetadataBody {
    tags: Option<Vec<String>>,
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(rename = "version")]
    _version: Option<u64>,
    #[serde(rename = "created_at_ms")]
    _created_at_ms: Option<i64>,
    #[serde(rename = "updated_at_ms")]
    _updated_at_ms: Option<i64>,
    #[serde(rename = "created_by")]
    _created_by: Option<String>,
    #[serde(rename = "updated_by")]
    _updated_by: Option<String>,
}

#[derive(Default, Deserialize)]
struct DefaultBody {
    registry: Option<String>,
    expected_version: Option<u64>,
    note: Option<String>,
}

/// GET lists, POST creates.
pub(crate) async fn collection(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, Failure> {
    match incoming.parts.method {
        Method::GET => list_profiles(app, &incoming.parts),
        Method::POST => Box::pin(create_profile(app, incoming, body)).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

/// Whether a path is below the collection.
pub(crate) fn is_item(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// GET reads, PATCH changes, DELETE deletes one profile; POST on its `default` makes it the default; below are its versions.
pub(crate) async fn item(app: &App, incoming: &Incoming, body: Body) -> Result<Response, Failure> {
    let (slug, action) = target(incoming.parts.uri.path())?;
    match (action, &incoming.parts.method) {
        (Action::Profile, &Method::GET) => get_profile(app, &incoming.parts, &slug),
        // Boxed, so that the future of a read stays small: it is moved for every request.
        (Action::Profile, &Method::PATCH) => {
            Box::pin(update_profile(app, incoming, body, slug)).await
        }
        (Action::Profile, &Method::DELETE) => Box::pin(delete_profile(app, incoming, slug)).await,
        (Action::Default, &Method::POST) => Box::pin(set_default(app, incoming, body, slug)).await,
        (Action::Versions, &Method::GET) => {
            Box::pin(versions::list(app, &incoming.parts, slug)).await
        }
        (Action::Version(at), &Method::GET) => {
            Box::pin(versions::one(app, &incoming.parts, slug, at)).await
        }
        (Action::Diff, &Method::GET) => {
            Box::pin(versions::compare(app, &incoming.parts, slug)).await
        }
        (Action::Diff, &Method::POST) => Box::pin(preview_profile(app, incoming, body, slug)).await,
        (Action::Restore, &Method::POST) => {
            Box::pin(versions::restore(app, incoming, body, slug)).await
        }
        (Action::Try, &Method::POST) => Box::pin(tries::submit(app, incoming, body, slug)).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

enum Action {
    Profile,
    Default,
    Versions,
    Version(u64),
    Diff,
    Restore,
    Try,
}

/// Splits the path as it was sent, then decodes each segment once (chapter 20 §3.1, H10).
fn target(path: &str) -> Result<(ProfileSlug, Action), Failure> {
    let rest = path.strip_prefix(PREFIX).ok_or_else(Failure::no_page)?;
    let mut segments = rest.split('/');
    let (first, second) =
        (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let third = segments.next();
    if segments.next().is_some() || (third.is_some() && second != "versions") {
        return Err(Failure::no_page());
    }
    let raw = extract::percent_decode(first);
    if raw.as_ref().is_some_and(|raw| raw.trim().is_empty()) {
        return Err(Failure::no_page());
    }
    let slug = raw
        .and_then(|raw| ProfileSlug::parse(&raw).ok())
        .ok_or_else(|| Error::InvalidSlug(first.to_owned()))?;
    let action = match (extract::percent_decode(second).as_ref().map(|action| action.trim()), third)
    {
        (Some(""), _) => Action::Profile,
        (Some("default"), _) => Action::Default,
        (Some("versions"), None) => Action::Versions,
        (Some("versions"), Some(number)) => {
            Action::Version(number.parse().map_err(|_| Failure::no_page())?)
        }
        (Some("diff"), _) => Action::Diff,
        (Some("restore"), _) => Action::Restore,
        (Some("try"), _) => Action::Try,
        _ => return Err(Failure::no_page()),
    };
    Ok((slug, action))
}

fn list_profiles(app: &App, parts: &Parts) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let registry = query.registry(None, app.registry.default_registry())?;
    let snapshot = app.registry.snapshot();
    let state = snapshot.registry(&registry).ok_or(Error::RegistryNotFound)?;
    let etag = Bytes::from(format!("\"r{}\"", state.version()));
    if extract::has_current(&parts.headers, &etag) {
        return Ok(stamped(StatusCode::NOT_MODIFIED, None, etag, state.version()));
    }
    let after = query.get("after").map(ProfileSlug::parse).transpose();
    let filter = Filter {
        limit: query.number("limit").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
        after: after.map_err(|_| Failure::bad_request())?,
        prefix: query.get("q").map(str::to_lowercase),
        tag: query.get("tag").map(str::to_owned),
        details: query.is_on("details"),
    };
    let page = state.list(&filter);
    let mut response = stamped(StatusCode::OK, Some(page.body), etag, state.version());
    if let Some(next) = page.next
        && let Ok(link) = HeaderValue::from_str(&next_link(app, parts, next.as_str()))
    {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

fn next_link(app: &App, parts: &Parts, after: &str) -> String {
    let query = parts.uri.query().unwrap_or_default();
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
    let query: Vec<&str> = kept.collect();
    format!(
        "<{}/api/chat/profiles?{}&after={after}>; rel=\"next\"",
        app.mount.root,
        query.join("&")
    )
}

fn get_profile(app: &App, parts: &Parts, slug: &ProfileSlug) -> Result<Response, Failure> {
    let query = Query::of(parts)?;
    let registry = query.registry(None, app.registry.default_registry())?;
    let snapshot = app.registry.snapshot();
    let state = snapshot.registry(&registry).ok_or(Error::RegistryNotFound)?;
    let stored = state.get(slug).ok_or(Error::ProfileNotFound)?;
    let rendered = stored.rendered(state.is_default(slug));
    let etag = rendered.etag();
    if extract::has_current(&parts.headers, &etag) {
        return Ok(stamped(StatusCode::NOT_MODIFIED, None, etag, state.version()));
    }
    Ok(stamped(StatusCode::OK, Some(rendered.document()), etag, state.version()))
}

async fn create_profile(app: &App, incoming: &Incoming, body: Body) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let body: CreateBody = extract::parse(&bytes)?;
    let query = Query::of(parts)?;
    let author = author(app, incoming, body.note)?;
    let from_query = || query.get("registry").unwrap_or_default().to_owned();
    let request = CreateProfile {
        registry: body.registry.filter(|raw| !raw.trim().is_empty()).unwrap_or_else(from_query),
        slug: body.slug.unwrap_or_default(),
        draft: Draft {
            display_name: body.display_name.unwrap_or_default(),
            description: body.description.unwrap_or_default(),
            runtime: body.runtime.unwrap_or_default().0,
            policy: body.policy.unwrap_or_default().0,
            tags: body.metadata.and_then(|m| m.0.tags).unwrap_or_default(),
            extensions: body.extensions.unwrap_or_default(),
        },
        set_default: body.set_default.unwrap_or(false),
        guard: guard(parts, body.expected_version),
    };
    let dry_run = query.is_on("dry_run");
    let written = app.registry.create_profile(request, author, dry_run).await?;
    answer(StatusCode::CREATED, &written, dry_run)
}

async fn update_profile(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let (request, author) = read_patch(app, incoming, body, slug).await?;
    let role = incoming.principal.role;
    let dry_run = Query::of(&incoming.parts)?.is_on("dry_run");
    match app.registry.update_profile(request, author, dry_run).await {
        Ok(written) => answer(StatusCode::OK, &written, dry_run),
        Err(Error::UnlockForbidden) => Err(Failure::role(role.as_str())),
        Err(error) => Err(error.into()),
    }
}

/// What a patch would change, by field; nothing is written.
async fn preview_profile(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let (request, author) = read_patch(app, incoming, body, slug).await?;
    let preview = app.registry.preview_profile(request, author).await?;
    Ok(json_value(StatusCode::OK, &serde_json::json!(preview)))
}

async fn read_patch(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<(UpdateProfile, Author), Failure> {
    let parts = &incoming.parts;
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let mut body: PatchBody = extract::parse(&bytes)?;
    let query = Query::of(parts)?;
    let registry = query.registry(body.registry.as_deref(), app.registry.default_registry())?;
    let author = author(app, incoming, body.note.take())?;
    let request = UpdateProfile {
        registry,
        slug,
        set_default: body.set_default.unwrap_or(false),
        guard: guard(parts, body.expected_version),
        may_unlock: incoming.principal.role == Role::Operator,
        patch: body.into(),
    };
    Ok((request, author))
}

async fn delete_profile(
    app: &App,
    incoming: &Incoming,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    let query = Query::of(parts)?;
    let registry = query.registry(None, app.registry.default_registry())?;
    let guard = guard(parts, Some(query.expected_version()?));
    let dry_run = query.is_on("dry_run");
    let author = author(app, incoming, query.get("note").map(str::to_owned))?;
    let deleted = app.registry.delete_profile(registry, slug.clone(), guard, author, dry_run);
    let written = deleted.await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    response.extensions_mut().insert(about(&written, &slug, dry_run));
    response.headers_mut().insert(X_REGISTRY_VERSION, written.registry_version.into());
    Ok(mark(response, dry_run))
}

async fn set_default(
    app: &App,
    incoming: &Incoming,
    body: Body,
    slug: ProfileSlug,
) -> Result<Response, Failure> {
    let parts = &incoming.parts;
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let body = if bytes.is_empty() { DefaultBody::default() } else { extract::parse(&bytes)? };
    let query = Query::of(parts)?;
    let registry = query.registry(body.registry.as_deref(), app.registry.default_registry())?;
    let expected = match body.expected_version.unwrap_or(0) {
        0 => query.expected_version()?,
        expected => expected,
    };
    let note = body.note.or_else(|| query.get("note").map(str::to_owned));
    let author = author(app, incoming, note)?;
    let request = MakeDefault { registry, slug, guard: guard(parts, Some(expected)) };
    let dry_run = query.is_on("dry_run");
    let written = app.registry.set_default(request, author, dry_run).await?;
    answer(StatusCode::OK, &written, dry_run)
}
