//! What valgrind counts: `collodi-bench count <what> N TIMES` does one thing so many times inside [`measured`], after
//! doing it often enough outside, with the registry in memory. Only instructions below `measured` are collected.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use collodi_api::access::Access;
use collodi_api::pipeline::Pipeline;
use collodi_api::{App, Mount, Release};
use collodi_chat::conversation::Patience;
use collodi_chat::{Conversations, Outside};
use collodi_models::{Keys, Providers};
use collodi_profiles::json::sha256_hex;
use collodi_profiles::profile::history::{Change, RegistryHead};
use collodi_profiles::store::{Contents, ProfileStore, StoreError, StoredRegistry, WriteSession};
use collodi_profiles::{ProfileSlug, Registry, RegistrySlug};
use collodi_store::SqliteChats;
use futures_util::FutureExt;
use http_body_util::BodyExt;

use crate::limits::{Canned, bytes_only};
use crate::requests::path;
use crate::rows::resolve::Subject;
use crate::sample::{self, Template};
use crate::server::TOKEN;

/// Repetitions before anything is counted: what is made at the first use, and the sorting of a fresh heap.
const WARM: usize = 300;

/// The name that valgrind looks for.
#[inline(never)]
fn measured<T>(run: impl FnOnce() -> T) -> T {
    std::hint::black_box(run())
}

/// Runs `count <what> N TIMES`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [what, n, times] = arguments else { bail!("count WHAT N TIMES") };
    let (n, times): (usize, usize) = (n.parse()?, times.parse()?);
    match what.as_str() {
        "get" => requests(n, times, |i| request("GET", &path(i), Body::empty())),
        "list-page" => {
            requests(n, times, |_| request("GET", "/api/chat/profiles?limit=100", Body::empty()))
        }
        // A rehearsal decides, applies and renders in the caller; all of a write but the database.
        "patch" => {
            let template = Template::patch()?;
            requests(n, times, |i| {
                let mut body = Vec::new();
                template.write(i as u64, &mut body);
                request("PATCH", &format!("{}?dry_run=1", path(i)), body.into())
            })
        }
        "axum" => limit(times),
        "resolve" => resolve(n, times, Subject::resolve),
        "overrides" => resolve(n, times, Subject::resolve_overridden),
        _ => bail!("count get|list-page|patch|axum|resolve|overrides N TIMES"),
    }
}

fn request(method: &str, path: &str, body: Body) -> Result<Request<Body>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("accept", "application/json");
    Ok(request.body(body)?)
}

fn resolve(n: usize, times: usize, one: fn(&Subject, usize) -> bool) -> Result<()> {
    let subject = Subject::of(open(n)?, n, None)?;
    // The same number of profiles at every size.
    let places: Vec<usize> = (0..10).map(|i| i * n / 10).collect();
    let warm = (0..WARM).all(|i| one(&subject, places[i % places.len()]));
    ensure!(warm, "a sample does not resolve");
    for i in 0..times {
        let place = places[i % places.len()];
        ensure!(measured(|| one(&subject, place)), "a sample does not resolve");
    }
    Ok(())
}

fn requests(n: usize, times: usize, make: impl Fn(usize) -> Result<Request<Body>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    let folder = tempfile::tempdir()?;
    let pipeline = Pipeline::new(Arc::new(app(open(n)?, folder.path())?));
    let places: Vec<usize> = (0..10).map(|i| i * n / 10).collect();
    let answer = |request| pipeline.clone().answer(request).now_or_never();
    for i in 0..WARM {
        drain(answer(make(places[i % places.len()])?))?;
    }
    for i in 0..times {
        let request = make(places[i % places.len()])?;
        measured(|| drain(answer(request)))?;
    }
    Ok(())
}

/// The axum limit of B1 for the same answer.
fn limit(times: usize) -> Result<()> {
    use hyper::service::Service as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    let body = "x".repeat(1200);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"1\"\r\nx-registry-version: 1\r\n\
         x-content-type-options: nosniff\r\nx-request-id: 019b0000-0000-7000-8000-000000000000\r\n\r\n{body}"
    );
    let router = bytes_only::router(Canned::parse(answer.as_bytes())?);
    let service = hyper_util::service::TowerToHyperService::new(router);
    for _ in 0..times {
        let request = request("GET", &path(0), Body::empty())?;
        measured(|| drain(service.call(request).now_or_never()))?;
    }
    Ok(())
}

/// Takes the body as hyper would.
fn drain(answer: Option<Result<Response, Infallible>>) -> Result<()> {
    let response = answer.context("an answer had to wait")?.map_err(|never| match never {})?;
    ensure!(response.status().is_success(), "unexpected status {}", response.status());
    let body = response.into_body().collect().now_or_never().context("a body had to wait")?;
    ensure!(body.map_err(|e| anyhow!(e))?.to_bytes().len() > 500, "the body is too short");
    Ok(())
}

fn app(registry: Registry, folder: &Path) -> Result<App> {
    let settings = collodi_profiles::settings::Settings::default();
    let providers = Providers::new(settings, Keys::default(), false, Duration::ZERO);
    let outside = Outside {
        clock: Arc::new(|| 1),
        new_id: Arc::new(|| "id".into()),
        models: Arc::new(providers),
        toolbox: Arc::new(collodi_tools::Shipped::default()),
        store: Arc::new(SqliteChats::open(&folder.join("chat.db"))?),
    };
    let tokens = format!("bench:editor:{}", sha256_hex(TOKEN));
    let access = Access::open(true, Vec::new()).with_tokens(&tokens).map_err(|e| anyhow!(e))?;
    let release = Release {
        product: "collodi",
        release: "",
        revision: "",
        contract: "",
        schema_version: 1,
        apps: &[],
    };
    let conversations = Arc::new(Conversations::new(outside, Patience::default()));
    Ok(App::new(Arc::new(registry), conversations, access, Mount::default(), release))
}

/// A registry of `n` profiles without a database.
fn open(n: usize) -> Result<Registry> {
    let catalog = sample::catalog()?;
    let profiles = sample::profiles(n, &catalog)?;
    let mut head = RegistryHead::default();
    head.metadata.version = 1;
    let stored = StoredRegistry { head, profiles, ..StoredRegistry::default() };
    let slug = RegistrySlug::parse("default")?;
    let contents = Contents { revision: n as u64, registries: [(slug, stored)].into() };
    let store = Arc::new(Memory(Mutex::new(contents)));
    Ok(Registry::open(store, sample::options(catalog)?)?)
}

/// A store that holds what it was given and writes nothing.
struct Memory(Mutex<Contents>);

struct Nowhere;

impl ProfileStore for Memory {
    fn load(&self) -> Result<Contents, StoreError> {
        Ok(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn writer(&self) -> Result<Box<dyn WriteSession>, StoreError> {
        Ok(Box::new(Nowhere))
    }

    fn history(
        &self,
        _: &RegistrySlug,
        _: &ProfileSlug,
        _: u64,
        _: usize,
    ) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }

    fn version(
        &self,
        _: &RegistrySlug,
        _: &ProfileSlug,
        _: u64,
    ) -> Result<Option<Change>, StoreError> {
        Ok(None)
    }

    fn audit(&self, _: u64, _: usize) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }
}

impl WriteSession for Nowhere {
    fn ping(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes_after(&mut self, _: u64) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }

    fn append(&mut self, _: &[Change]) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn rollback(&mut self) {}
}
