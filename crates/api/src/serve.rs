//! Accepting connections: deadlines against slow clients, no Nagle, a bound on their number, and a graceful stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::Pipeline;
use crate::{App, samples};
use patient::Patient;

mod patient;

/// How long a request's head may take, also between two requests of a connection (hyper has no separate idle limit).
const HEAD: Duration = Duration::from_secs(15);
/// Largest head, request line and headers, give or take what is read at once.
const HEAD_BYTES: usize = 64 * 1024;
/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 10_000;
/// How long sockets may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves `app` on `listener` until `stop` is done, then stops gracefully: no new connections, no new prompts, runs may
/// finish within `patience`, sockets are closed with 1001.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    patience: Duration,
) {
    let pipeline = Pipeline::new(app.clone());
    tokio::spawn(samples::run(app.clone()));
    let (connections, drain) = (TaskTracker::new(), CancellationToken::new());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let stop = async {
        stop.await;
        app.draining.store(true, Ordering::Relaxed);
        // What an operator had started asks this server to take away what it made.
        if let Some(program) = &app.operations.program {
            program.close().await;
        }
    };
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (pipeline, drain) = (pipeline.clone(), drain.clone());
                    connections.spawn(async move {
                        converse(stream, pipeline, drain).await;
                        drop(place);
                    });
                }
                // Out of descriptors, most likely: those in use come back.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    tracing::info!(seconds = patience.as_secs(), "stopping: running answers may finish");
    let started = Instant::now();
    drain.cancel();
    connections.close();
    let _ = tokio::time::timeout(patience, connections.wait()).await;
    app.conversations.close(patience.saturating_sub(started.elapsed())).await;
    app.stop.cancel();
    app.sockets.close();
    let _ = tokio::time::timeout(GOODBYE, app.sockets.wait()).await;
    let registry = app.registry.clone();
    let _ = tokio::task::spawn_blocking(move || registry.close()).await;
}

/// Serves one connection until its end; once `drain` is set, until the request that it is at is answered.
async fn converse(stream: TcpStream, pipeline: Pipeline, drain: CancellationToken) {
    // A delayed first token costs more than the packets saved.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        pipeline.clone().answer(request.map(axum::body::Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
        .with_upgrades();
    tokio::pin!(connection);
    // A client that breaks off or is too slow is no event of ours.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
