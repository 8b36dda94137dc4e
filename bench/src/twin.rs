//! The twin: our own transcription of the reference's algorithm, from its description alone. A read clones the whole
//! registry three times; a write clones it, encodes all of it and rewrites one row.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use collodi_profiles::Profile;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use rusqlite::{Connection, params};
use serde_json::Value;
use tokio::net::TcpListener;

struct Twin {
    profiles: Mutex<Vec<Profile>>,
    row: Mutex<Connection>,
}

/// Serves `n` profiles until it is killed; the row is kept beside `database`.
pub(crate) async fn serve(listener: TcpListener, n: usize, database: PathBuf) -> Result<()> {
    let connection = Connection::open(database.with_extension("twin"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full; \
         CREATE TABLE IF NOT EXISTS registry (slug TEXT PRIMARY KEY, payload TEXT)",
    )?;
    let profiles = crate::sample::profiles(n, &*crate::sample::catalog()?)?;
    let twin = Arc::new(Twin { profiles: Mutex::new(profiles), row: Mutex::new(connection) });
    let router = Router::new().route("/api/chat/profiles/{*target}", any(answer)).with_state(twin);
    crate::limits::converse_with(router, listener).await
}

async fn answer(State(twin): State<Arc<Twin>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let slug = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let found = if parts.method == Method::PATCH {
        let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
        twin.patch(&slug, &body.to_bytes())
    } else {
        Ok(twin.get(&slug))
    };
    match found {
        Ok(Some(document)) => {
            let mut response = Response::new(Body::from(document));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert("content-type", kind);
            response
        }
        Ok(None) => status(StatusCode::NOT_FOUND),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl Twin {
    fn cloned(&self) -> Vec<Profile> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for the registry, the profile and the default: a deep copy each.
    fn get(&self, slug: &str) -> Option<Vec<u8>> {
        let registry = std::hint::black_box(self.cloned());
        let default = std::hint::black_box(self.cloned()).into_iter().next()?;
        let profile = self.cloned().into_iter().find(|p| p.slug.as_str() == slug)?;
        let mut document = serde_json::to_value(&profile).ok()?;
        document["is_default"] = Value::Bool(default.slug == profile.slug && !registry.is_empty());
        serde_json::to_vec(&document).ok()
    }

    fn patch(&self, slug: &str, body: &[u8]) -> Result<Option<Vec<u8>>> {
        let body: Value = serde_json::from_slice(body)?;
        let row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        let mut registry = self.cloned();
        let Some(profile) = registry.iter_mut().find(|p| p.slug.as_str() == slug) else {
            return Ok(None);
        };
        body["description"].as_str().unwrap_or_default().clone_into(&mut profile.description);
        profile.metadata.touch(1, "bench", "bench");
        let document = serde_json::to_vec(profile)?;
        let payload = serde_json::to_string(&registry)?;
        row.prepare_cached("INSERT INTO registry VALUES ('default', ?1) ON CONFLICT (slug) DO UPDATE SET payload = excluded.payload")?
            .execute(params![payload])?;
        *self.profiles.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Ok(Some(document))
    }
}
