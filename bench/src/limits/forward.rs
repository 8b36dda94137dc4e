//! B5 and B11: the smallest program that forwards a stream. `POST /chat` stores one row in a group commit, answers, and
//! then sends every event of the provider to the socket of the conversation, unread; with `rounds=N` in the prompt it
//! asks N times more, as somebody would who runs tools that take no time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use rusqlite::{Connection, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Most rows of one transaction, as in the server.
const GROUP: usize = 128;

/// A row and who waits for it.
type Entry = (Bytes, oneshot::Sender<()>);

#[derive(Clone)]
struct Forwarder {
    provider: String,
    sockets: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>,
    idle: Arc<Mutex<Vec<TcpStream>>>,
    rows: Sender<Entry>,
}

/// Serves until it is killed.
pub(crate) async fn serve(
    listener: TcpListener,
    provider: String,
    database: PathBuf,
) -> Result<()> {
    let (rows, entries) = channel();
    let connection = open(&database)?;
    std::thread::Builder::new().name("forward-writer".into()).spawn(move || {
        if let Err(error) = write(&connection, &entries) {
            eprintln!("the limit's writer failed: {error:#}");
        }
    })?;
    let state = Forwarder { provider, sockets: Arc::default(), idle: Arc::default(), rows };
    let router =
        Router::new().route("/ws", get(join)).route("/chat", post(submit)).with_state(state);
    super::converse_with(router, listener).await
}

fn open(database: &Path) -> Result<Connection> {
    let connection = Connection::open(database.with_file_name("forward.db"))?;
    connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = full; CREATE TABLE IF NOT EXISTS prompts (id INTEGER PRIMARY KEY, body TEXT) STRICT",
    )?;
    Ok(connection)
}

fn write(connection: &Connection, entries: &Receiver<Entry>) -> Result<()> {
    while let Ok(first) = entries.recv() {
        let mut group = vec![first];
        group.extend(entries.try_iter().take(GROUP - 1));
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for (body, _) in &group {
            let text = std::str::from_utf8(body)?;
            connection
                .prepare_cached("INSERT INTO prompts (body) VALUES (?1)")?
                .execute(params![text])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        for (_, stored) in group {
            let _ = stored.send(());
        }
    }
    Ok(())
}

async fn join(
    State(state): State<Forwarder>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (sender, mut frames) = mpsc::unbounded_channel::<String>();
    let conv_id = query.unwrap_or_default();
    let conv_id = conv_id.split('&').find_map(|pair| pair.strip_prefix("conv_id="));
    let mut sockets = state.sockets.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.insert(conv_id.unwrap_or_default().to_owned(), sender);
    drop(sockets);
    upgrade.read_buffer_size(4 * 1024).write_buffer_size(0).on_upgrade(|mut socket| async move {
        while let Some(frame) = frames.recv().await {
            if socket.send(Message::Text(frame.into())).await.is_err() {
                return;
            }
        }
    })
}

async fn submit(State(state): State<Forwarder>, body: Bytes) -> (StatusCode, String) {
    let (stored, wait) = oneshot::channel();
    let sent = state.rows.send((body.clone(), stored)).is_ok();
    if !sent || wait.await.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, String::new());
    }
    let Ok(prompt) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return (StatusCode::BAD_REQUEST, String::new());
    };
    tokio::spawn(async move {
        let conv_id = prompt["conv_id"].as_str().unwrap_or_default();
        let socket = {
            let sockets = state.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            sockets.get(conv_id).cloned()
        };
        let text = prompt["prompt"].as_str().unwrap_or_default();
        let rounds = text.split(' ').find_map(|word| word.strip_prefix("rounds=")?.parse().ok());
        for round in 0..=rounds.unwrap_or(0) {
            if let Err(error) = forward(&state, text, round, socket.as_ref()).await {
                eprintln!("the limit could not forward: {error:#}");
            }
        }
    });
    (StatusCode::OK, "{\"status\":\"started\"}".into())
}

/// Asks the provider once and hands its events on.
async fn forward(
    state: &Forwarder,
    text: &str,
    answered: usize,
    socket: Option<&mpsc::UnboundedSender<String>>,
) -> Result<()> {
    let results = ",{\"content\":\"1\",\"role\":\"tool\"}".repeat(answered);
    let body = format!(
        "{{\"messages\":[{{\"content\":\"{text}\",\"role\":\"user\"}}{results}],\"stream\":true}}"
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        state.provider,
        body.len()
    );
    let kept = state.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut stream = if let Some(stream) = kept {
        stream
    } else {
        let stream = TcpStream::connect(&state.provider).await.context("no provider")?;
        stream.set_nodelay(true)?;
        stream
    };
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "the provider went away");
        let mut at = 0;
        while let Some(end) = find(&buffer[at..], b"\n\n") {
            let event = String::from_utf8_lossy(&buffer[at..at + end]).into_owned();
            at += end + 2;
            let is_last = event.ends_with("[DONE]");
            let kind = if is_last { "llm.final" } else { "llm.delta" };
            if let Some(socket) = socket {
                let data = event.rsplit("data: ").next().unwrap_or_default();
                let _ = socket.send(format!("{{\"type\":\"{kind}\",\"data\":{data}}}"));
            }
            if is_last {
                // The end of the body, so that the connection can be used again.
                while find(&buffer[at..], b"0\r\n\r\n").is_none() {
                    anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "no end");
                }
                state.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
                return Ok(());
            }
        }
        buffer.drain(..at);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
