//! B10: the entities of a conversation, concatenated as they are stored.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rusqlite::{Connection, OpenFlags};
use tokio::net::TcpListener;

/// Serves the timeline of conversation 1 until it is killed.
pub(crate) async fn serve(listener: TcpListener, folder: PathBuf) -> Result<()> {
    let path = folder.with_file_name("chat.db");
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("open {}", path.display()))?;
    let state = Arc::new(Mutex::new(connection));
    let router = Router::new().route("/api/timeline", get(send)).with_state(state);
    super::converse_with(router, listener).await
}

async fn send(State(connection): State<Arc<Mutex<Connection>>>) -> Response {
    let read = tokio::task::spawn_blocking(move || concatenated(&connection)).await;
    match read {
        Ok(Ok(text)) => ([("content-type", "application/json")], text).into_response(),
        _ => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn concatenated(connection: &Mutex<Connection>) -> rusqlite::Result<String> {
    let connection = connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut statement = connection
        .prepare_cached("SELECT body FROM entities WHERE conversation = 1 ORDER BY place")?;
    let mut rows = statement.query([])?;
    let mut out = String::from("{\"entities\":[");
    while let Some(row) = rows.next()? {
        out.push_str(row.get_ref(0)?.as_str()?);
        out.push(',');
    }
    out.push_str("]}");
    Ok(out)
}
