//! Which profile a request runs under: the cookie endpoints (chapter 20 §5.7 and §5.8) and the selection of `/chat` and
//! `/ws` (chapter 20 §8). One rule for the cookie everywhere: one that cannot be used counts as absent (decision 21).

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use collodi_profiles::registry::{RegistryState, Stored};
use collodi_profiles::{Error, ProfileSlug, RegistrySlug};
use http::header::{HOST, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::json_value;
use crate::App;
use crate::access::is_loopback_name;
use crate::extract::{self, MAX_BODY, Query};
use crate::problem::Failure;

#[derive(Deserialize)]
struct SelectBody {
    slug: Option<String>,
}

/// GET says which profile is selected, POST selects one.
pub(crate) async fn current(app: &App, parts: &Parts, body: Body) -> Result<Response, Failure> {
    match parts.method {
        Method::GET => get_selection(app, &parts.headers),
        Method::POST => {
            let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
            select(app, &parts.headers, &extract::parse(&bytes)?)
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

fn get_selection(app: &App, headers: &HeaderMap) -> Result<Response, Failure> {
    let snapshot = app.registry.snapshot();
    let state = snapshot.registry(app.registry.default_registry());
    let state = state.ok_or_else(|| unavailable("the default registry is missing"))?;
    let chosen = from_cookie(app, headers, state).or_else(|| state.default_profile().cloned());
    let chosen = chosen.ok_or(Error::ProfileNotFound)?;
    Ok(json_value(StatusCode::OK, &json!({"slug": chosen.slug()})))
}

fn select(app: &App, headers: &HeaderMap, body: &SelectBody) -> Result<Response, Failure> {
    let raw = body.slug.as_deref().unwrap_or_default();
    let slug = ProfileSlug::parse(raw).map_err(|_| Failure::bad_request())?;
    let snapshot = app.registry.snapshot();
    let state = snapshot.registry(app.registry.default_registry());
    let state = state.ok_or_else(|| unavailable("the default registry is missing"))?;
    state.get(&slug).ok_or(Error::ProfileNotFound)?;
    let mut response = json_value(StatusCode::OK, &json!({ "slug": slug }));
    if let Ok(cookie) = HeaderValue::from_str(&set_cookie(app, headers, &slug)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

fn unavailable(cause: &str) -> Error {
    Error::Internal(cause.to_owned())
}

/// `Secure`, except over plain http to another host when the operator allowed it (decision 21, H8).
fn set_cookie(app: &App, headers: &HeaderMap, slug: &ProfileSlug) -> String {
    let name = app.mount.cookie.as_deref().unwrap_or_default();
    let path = if app.mount.root.is_empty() { "/" } else { &app.mount.root };
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let plain = !text("x-forwarded-proto").eq_ignore_ascii_case("https");
    let secure = if app.mount.insecure_cookies && plain && !is_loopback_name(host) {
        ""
    } else {
        " Secure;"
    };
    format!("{name}={slug}; Path={path}; HttpOnly;{secure} SameSite=Lax")
}

fn from_cookie(app: &App, headers: &HeaderMap, state: &RegistryState) -> Option<Arc<Stored>> {
    let raw = extract::cookie(headers, app.mount.cookie.as_deref()?)?;
    state.get(&ProfileSlug::parse(&raw).ok()?).cloned()
}

/// What a request names, before anything is looked up.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// `/chat/{slug}`.
    pub(crate) path: Option<&'a str>,
    /// The body's profile.
    pub(crate) profile: Option<&'a str>,
    /// The body's registry.
    pub(crate) registry: Option<&'a str>,
}

/// The profile of a request, found in one snapshot.
pub(crate) struct Selected {
    pub(crate) state: Arc<RegistryState>,
    pub(crate) stored: Arc<Stored>,
}

/// Path, body, query, cookie, default: the first that is not blank counts, and explicit ones are strict.
pub(crate) fn select_profile(
    app: &App,
    parts: &Parts,
    wanted: &Wanted<'_>,
) -> Result<Selected, Failure> {
    let query = Query::of(parts)?;
    let given =
        |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let raw_registry = given(wanted.registry).or_else(|| given(query.get("registry")));
    let default = app.registry.default_registry();
    let registry = match &raw_registry {
        None => default.clone(),
        Some(raw) => RegistrySlug::parse(raw).map_err(|_| {
            let text = format!("invalid registry: {raw}");
            Failure::new(StatusCode::BAD_REQUEST, "invalid_registry", text)
        })?,
    };
    let explicit = given(wanted.path).or_else(|| given(wanted.profile)).or_else(|| {
        ["runtime_key", "profile", "runtime"].iter().find_map(|key| given(query.get(key)))
    });
    let slug = explicit.as_deref().map(|raw| {
        ProfileSlug::parse(raw).map_err(|_| {
            Failure::new(
                StatusCode::BAD_REQUEST,
                "invalid_profile",
                format!("invalid profile: {raw}"),
            )
        })
    });
    let snapshot = app.registry.snapshot();
    // An unknown registry is reported before a bad slug only when no slug is given (chapter 20 §8).
    let slug = slug.transpose()?;
    let state = snapshot.registry(&registry).cloned().ok_or(Error::RegistryNotFound)?;
    let stored = match slug {
        Some(slug) => state.get(&slug).cloned().ok_or_else(|| {
            let raw = explicit.unwrap_or_default();
            let text = format!("profile not found: {raw}");
            Failure::new(StatusCode::NOT_FOUND, "profile_not_found", text)
        })?,
        None => (registry == *default)
            .then(|| from_cookie(app, &parts.headers, &state))
            .flatten()
            .or_else(|| state.default_profile().cloned())
            .ok_or(Error::ProfileNotFound)?,
    };
    Ok(Selected { state, stored })
}
