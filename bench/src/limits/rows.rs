//! B3: the raw body of a request, through the same statements in the same groups on the same kind of thread, without
//! reading or checking it. The bare thread does the same from memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Most writes of one transaction, as in the server.
const GROUP: usize = 128;

/// One write and who waits for it.
type Message = (String, Bytes, oneshot::Sender<u64>);

/// Serves writes until it is killed.
pub(crate) async fn handler(listener: TcpListener, database: PathBuf) -> Result<()> {
    let (queue, messages) = channel();
    let mut writer = Writer::open(&database)?;
    std::thread::Builder::new().name("limit-writer".into()).spawn(move || {
        if let Err(error) = writer.run(&messages) {
            eprintln!("the limit's writer failed: {error:#}");
        }
    })?;
    let router = Router::new()
        .route("/api/chat/profiles", any(write))
        .route("/api/chat/profiles/{*target}", any(write))
        .with_state(queue);
    super::converse_with(router, listener).await
}

async fn write(State(queue): State<Sender<Message>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let failed = || {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    };
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return failed();
    };
    let slug = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let (answer, answered) = oneshot::channel();
    if queue.send((slug, body.clone(), answer)).is_err() {
        return failed();
    }
    let Ok(revision) = answered.await else { return failed() };
    let mut response = Response::new(Body::from(body));
    if parts.method == Method::POST {
        *response.status_mut() = StatusCode::CREATED;
    }
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("etag", HeaderValue::from_static("\"2\""));
    headers.insert("x-registry-version", revision.into());
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    let id = HeaderValue::from_static("019b0000-0000-7000-8000-000000000000");
    headers.insert("x-request-id", id);
    response
}

/// Writes groups of `clients` from memory for a while; rows per second.
pub(crate) fn bare(database: &Path, clients: usize, time: Duration) -> Result<f64> {
    let mut writer = Writer::open(database)?;
    let body = Bytes::from(vec![b'x'; 1100]);
    let (begun, mut rows) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        let group = (0..clients).map(|i| (crate::sample::slug((rows + i) % 10), body.clone()));
        let group: Vec<_> = group.collect();
        writer.transact(&group)?;
        rows += clients;
    }
    Ok(rows as f64 / begun.elapsed().as_secs_f64())
}

struct Writer {
    connection: Connection,
    revision: i64,
    versions: HashMap<String, i64>,
}

impl Writer {
    fn open(database: &Path) -> Result<Self> {
        let connection = Connection::open(database).context("open the limit's database")?;
        connection.set_prepared_statement_cache_capacity(64);
        for (name, value) in
            [("journal_mode", "wal"), ("synchronous", "full"), ("foreign_keys", "1")]
        {
            connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(
                |e| match e {
                    rusqlite::Error::QueryReturnedNoRows => Ok(()),
                    other => Err(other),
                },
            )?;
        }
        connection.pragma_update(None, "cell_size_check", true)?;
        let revision = connection.query_row("SELECT max(id) FROM changes", [], |row| row.get(0))?;
        Ok(Self { connection, revision, versions: HashMap::new() })
    }

    fn run(&mut self, messages: &Receiver<Message>) -> Result<()> {
        while let Ok(first) = messages.recv() {
            std::thread::yield_now();
            let mut answers = vec![first.2];
            let mut group = vec![(first.0, first.1)];
            while group.len() < GROUP {
                let Ok((slug, body, answer)) = messages.try_recv() else { break };
                group.push((slug, body));
                answers.push(answer);
            }
            self.transact(&group)?;
            for answer in answers {
                let _ = answer.send(u64::try_from(self.revision).unwrap_or(0));
            }
        }
        Ok(())
    }

    fn transact(&mut self, group: &[(String, Bytes)]) -> Result<()> {
        self.statement("BEGIN IMMEDIATE")?;
        self.connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get::<_, i64>(0))?;
        for (slug, body) in group {
            self.append(slug, body)?;
        }
        self.connection
            .prepare_cached(
                "INSERT INTO registries VALUES ('default', '', '', ?1, ?2) ON CONFLICT (slug) DO UPDATE SET \
                 display_name = excluded.display_name, description = excluded.description, \
                 default_profile = excluded.default_profile, metadata = excluded.metadata",
            )?
            .execute(params!["profile-00000", METADATA])?;
        self.statement("COMMIT")?;
        Ok(())
    }

    fn append(&mut self, slug: &str, body: &[u8]) -> rusqlite::Result<()> {
        self.revision += 1;
        // A create names no profile in its path: its slug is new.
        let slug = match slug {
            "profiles" => format!("new-{:010}", self.revision),
            slug => slug.to_owned(),
        };
        let version = self.versions.entry(slug.clone()).or_insert(1);
        *version += 1;
        self.connection
            .prepare_cached("INSERT INTO changes VALUES (?1, ?1 - 1, ?3, 'default', 'update', ?2, ?3, ?1, 'profile-00000', ?4, ?5, 'bench', 'http-api', '', ?6, ?7)")?
            .execute(params![
                self.revision,
                slug,
                *version,
                ToSqlOutput::Borrowed(ValueRef::Text(body)),
                HASH,
                "019b0000-0000-7000-8000-000000000000",
                1_750_000_000_000_i64,
            ])?;
        Ok(())
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

const HASH: [u8; 32] = [0xE3; 32];
const METADATA: &str = r#"{"source":"http-api","version":12345,"created_at_ms":1750000000000,"updated_at_ms":1750000000000,"created_by":"bench","updated_by":"bench"}"#;
