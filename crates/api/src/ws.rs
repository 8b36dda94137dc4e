//! `GET /ws`: one socket that watches one conversation (chapter 30 §2). Refusals come before the upgrade, as statuses;
//! opening a socket never changes what a conversation runs under (decision 19).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use collodi_chat::conversation::Attach;
use collodi_chat::feed::{Dialect, Inbox};
use collodi_chat::frame::{Event, is_ping};
use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout};

use crate::App;
use crate::extract::Query;
use crate::problem::Failure;
use crate::routes::chat::{MAX_ID, refused};
use crate::routes::selection::{Wanted, select_profile};

/// The library's own buffer is 128 KiB a socket.
const READ_BUFFER: usize = 4 * 1024;
/// Clients send pings and nothing else.
const MAX_MESSAGE: usize = 16 * 1024;
/// Often enough for proxies to keep the socket.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// A socket that takes longer for a batch of frames is gone.
const WRITE: Duration = Duration::from_secs(10);
/// Bytes after which a flush is due.
const BATCH: usize = 64 * 1024;
/// A socket that was not heard of for so long, not even a pong, is gone (D30).
const SILENCE: Duration = Duration::from_secs(70);

pub(crate) async fn upgrade(app: Arc<App>, mut parts: Parts) -> Result<Response, Failure> {
    if parts.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let query = Query::of(&parts)?;
    let conv_id = query.get("conv_id").unwrap_or_default().to_owned();
    if conv_id.is_empty() || conv_id.len() > MAX_ID {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "missing_conv_id", "missing conv_id"));
    }
    let selected = select_profile(&app, &parts, &Wanted::default())?;
    let attach = Attach {
        dialect: match query.get("deltas") {
            Some("incremental") => Dialect::Incremental,
            _ => Dialect::Cumulative,
        },
        runtime_key: selected.stored.slug().to_string(),
        since_seq: query.number("since_seq"),
    };
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|_| {
        let version = HeaderName::from_static("sec-websocket-version");
        Failure::new(StatusCode::BAD_REQUEST, "no_websocket", "Bad Request")
            .header(version, HeaderValue::from_static("13"))
    })?;
    let frames = app.conversations.attach(&conv_id, attach).await.map_err(refused)?;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| {
            app.sockets.clone().track_future(watch(app, conv_id, socket, frames))
        }))
}

/// Why a socket ends.
enum End {
    Gone,
    Close(u16, &'static str),
}

async fn watch(app: Arc<App>, conv_id: String, mut socket: WebSocket, mut frames: Inbox) {
    let mut keepalive = tokio::time::interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
    let stop = app.stop.clone();
    let mut heard = Instant::now();
    let end = loop {
        tokio::select! {
            biased;
            frame = frames.recv() => match frame {
                Some(frame) => {
                    if !send(&mut socket, frame, &mut frames).await {
                        break End::Gone;
                    }
                }
                None if app.is_draining() => break End::Close(close_code::AWAY, "the server is stopping"),
                // The feed let go of a socket that fell behind: the client hydrates and comes back.
                None => break End::Close(close_code::AGAIN, "too far behind"),
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) if is_ping(&text) => {
                    heard = Instant::now();
                    let pong = Event::pong(&conv_id, app.conversations.now_ms()).encode(None);
                    if !say(&mut socket, Message::Text(pong.into())).await {
                        break End::Gone;
                    }
                }
                Some(Ok(Message::Close(_))) => {
                    // The library has made the answer, and sends it with the next message that there is not.
                    let _ = timeout(WRITE, socket.flush()).await;
                    break End::Gone;
                }
                None => break End::Gone,
                Some(Err(error)) => break broken(&error.to_string()),
                Some(Ok(_)) => heard = Instant::now(),
            },
            _ = keepalive.tick() => {
                if heard.elapsed() > SILENCE {
                    break End::Gone;
                }
                if !say(&mut socket, Message::Ping(Bytes::new())).await {
                    break End::Gone;
                }
            }
            () = stop.cancelled() => break End::Close(close_code::AWAY, "the server is stopping"),
        }
    };
    if let End::Close(code, reason) = end {
        let close = CloseFrame { code, reason: reason.into() };
        say(&mut socket, Message::Close(Some(close))).await;
    }
}

/// What a client did that it may not, by the words of the library (RFC 6455 §7.4.1); one that is gone hears none of it.
fn broken(error: &str) -> End {
    if error.contains("too long") {
        End::Close(close_code::SIZE, "message too large")
    } else if error.contains("UTF-8") {
        End::Close(close_code::INVALID, "text is not UTF-8")
    } else {
        End::Close(close_code::PROTOCOL, "protocol error")
    }
}

/// Sends a message; one that asks and never reads must not hold the socket for ever.
async fn say(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(WRITE, socket.send(message)).await, Ok(Ok(())))
}

/// Sends a frame and whatever waits behind it in one flush.
async fn send(socket: &mut WebSocket, first: Bytes, frames: &mut Inbox) -> bool {
    let batch = async {
        let (mut next, mut left) = (Some(first), BATCH);
        while let Some(frame) = next {
            left = left.saturating_sub(frame.len());
            // Frames are JSON of our own making, so they are UTF-8.
            if let Ok(text) = Utf8Bytes::try_from(frame) {
                socket.feed(Message::Text(text)).await?;
            }
            // What waits here is copied for this socket alone; what waits in the feed is shared.
            next = if left > 0 { frames.try_recv() } else { None };
        }
        socket.flush().await
    };
    matches!(timeout(WRITE, batch).await, Ok(Ok(())))
}
