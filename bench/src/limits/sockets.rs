//! B6 and B8: sockets as the smallest program serves them. `GET /ws` joins, `POST /go?frames=N` sends N frames of 216
//! bytes to everybody who joined, one `write` a frame.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

const FRAME: usize = 216;

type Watchers = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

/// Serves until it is killed.
pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    let router = Router::new()
        .route("/ws", get(join))
        .route("/go", post(go))
        .with_state(Watchers::default());
    super::converse_with(router, listener).await
}

async fn join(
    State(watchers): State<Watchers>,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    let (sender, mut frames) = mpsc::channel::<Bytes>(2048);
    watchers.lock().await.push(sender);
    upgrade.read_buffer_size(4 * 1024).write_buffer_size(0).on_upgrade(|mut socket| async move {
        while let Some(frame) = frames.recv().await {
            let Ok(text) = frame.try_into() else { return };
            if socket.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    })
}

async fn go(State(watchers): State<Watchers>, RawQuery(query): RawQuery) -> &'static str {
    let frames = query.as_deref().and_then(|query| query.strip_prefix("frames="));
    let frames: usize = frames.and_then(|frames| frames.parse().ok()).unwrap_or(0);
    let frame = Bytes::from("x".repeat(FRAME));
    let watchers = watchers.lock().await;
    for _ in 0..frames {
        for watcher in watchers.iter() {
            let _ = watcher.send(frame.clone()).await;
        }
    }
    "ok"
}
