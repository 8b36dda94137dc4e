//! The limits: the smallest programs that do the same physical work with the same libraries. Each is a child process of
//! its own (`collodi-bench limit ...`), started and pinned like the server.

use std::convert::Infallible;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

pub(crate) mod bytes_only;
pub(crate) mod forward;
pub(crate) mod hydrate;
pub(crate) mod rows;
pub(crate) mod sockets;

/// Runs `limit <arguments>` until it is killed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["raw", answer] => {
            serve(|listener| bytes_only::raw(listener, Canned::read(answer.as_ref())))
        }
        ["axum", answer] => {
            serve(|listener| bytes_only::axum(listener, Canned::read(answer.as_ref())))
        }
        ["sockets"] => serve(sockets::serve),
        ["floor", database] => serve(|listener| floor(listener, database.into())),
        ["forward", provider, database] => {
            serve(|listener| forward::serve(listener, provider.to_owned(), database.into()))
        }
        ["hydrate", database] => serve(|listener| hydrate::serve(listener, database.into())),
        ["writer", database] => serve(|listener| rows::handler(listener, database.into())),
        ["twin", profiles, database] => {
            let n = profiles.parse().context("a number of profiles")?;
            serve(|listener| crate::twin::serve(listener, n, database.into()))
        }
        _ => {
            bail!(
                "limit: raw|axum ANSWER, sockets, floor|hydrate|writer DATABASE, forward PROVIDER DATABASE, twin N DATABASE"
            )
        }
    }
}

/// B9 and B12: opens both databases, asks for unfinished turns, and listens.
async fn floor(listener: TcpListener, database: std::path::PathBuf) -> Result<()> {
    let profiles = rusqlite::Connection::open(&database)?;
    let _: i64 = profiles.query_row("SELECT count(*) FROM changes", [], |row| row.get(0))?;
    let chat = rusqlite::Connection::open(database.with_file_name("chat.db"))?;
    let sql = "SELECT count(*) FROM turns WHERE state = 'running'";
    let _: i64 = chat.query_row(sql, [], |row| row.get(0)).unwrap_or(0);
    let router = axum::Router::new().route("/readyz", axum::routing::get(|| async { "ok" }));
    converse_with(router, listener).await
}

/// The runtime of the server: multi-threaded, with as many workers as the environment says.
fn serve<F: Future<Output = Result<()>>>(program: impl FnOnce(TcpListener) -> F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("limit serves http://{}/", listener.local_addr()?);
        program(listener).await
    })
}

/// Serves one connection with the settings of the server (`collodi_api::serve`).
pub(crate) async fn converse<B, F>(
    stream: TcpStream,
    answer: impl Fn(Request<hyper::body::Incoming>) -> F,
) where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(15))
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades();
    let _ = connection.await;
}

/// Serves an axum router.
pub(crate) async fn converse_with(router: axum::Router, listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let router = router.clone();
        tokio::spawn(converse(stream, move |request| {
            let mut router = router.clone();
            async move { axum_call(&mut router, request.map(Body::new)).await }
        }));
    }
}

async fn axum_call(
    router: &mut axum::Router,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    use hyper::service::Service as _;
    hyper_util::service::TowerToHyperService::new(router.clone()).call(request).await
}

/// An answer of the server, to be sent again byte by byte.
#[derive(Clone)]
pub(crate) struct Canned {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Canned {
    /// Reads a head and a body as they came over the wire. `date` and `content-length` are hyper's own.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&bytes)
    }

    /// The same from memory.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
        let head = std::str::from_utf8(&bytes[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").context("a broken header")?;
            if !["date", "content-length"].contains(&name) {
                let value = HeaderValue::from_maybe_shared(Bytes::from(value.to_owned()))?;
                headers.insert(HeaderName::try_from(name)?, value);
            }
        }
        let body = Bytes::copy_from_slice(&bytes[end + 4..]);
        Ok(Self { status: status.parse()?, headers, body })
    }

    /// A new response with these bytes.
    pub(crate) fn response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}
