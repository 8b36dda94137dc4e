//! B1 and B2: an answer that is there already, sent by bare hyper and by an axum route.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http_body_util::Full;
use tokio::net::TcpListener;

use super::{Canned, converse, converse_with};

/// Bare hyper.
pub(crate) async fn raw(listener: TcpListener, canned: Result<Canned>) -> Result<()> {
    let canned = Arc::new(canned?);
    loop {
        let (stream, _) = listener.accept().await?;
        let canned = canned.clone();
        tokio::spawn(converse(stream, move |_| {
            let response: Response<Full<Bytes>> = canned.response();
            std::future::ready(Ok::<_, Infallible>(response))
        }));
    }
}

/// One axum route.
pub(crate) async fn axum(listener: TcpListener, canned: Result<Canned>) -> Result<()> {
    converse_with(router(canned?), listener).await
}

/// The router of [`axum`].
pub(crate) fn router(canned: Canned) -> Router {
    Router::new().route("/api/chat/profiles/{*target}", any(send)).with_state(Arc::new(canned))
}

async fn send(State(canned): State<Arc<Canned>>) -> Response {
    canned.response()
}
