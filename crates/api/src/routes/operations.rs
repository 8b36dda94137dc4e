//! `/api/ops/...`: what only operators see of a server, for the escalation packet and the page.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::response::Response;
use collodi_profiles::{Error, ProfileSlug};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::system::only_get;
use super::{json, json_value};
use crate::App;
use crate::access::presented_token;
use crate::extract::{self, MAX_BODY, Query};
use crate::logs::{MAX_LINES, Wanted};
use crate::problem::Failure;
use crate::program::Program;

/// Lines when the client does not say how many.
const DEFAULT_LINES: u64 = 1_000;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The last hour in figures, the oldest first.
pub(crate) fn samples(app: &App, parts: &Parts) -> Result<Response, Failure> {
    only_get(&parts.method)?;
    Ok(json_value(StatusCode::OK, &json!(app.samples.list())))
}

/// Lines 5 to 16 of the checklist against this server: a finding a line as they come, then the verdict.
pub(crate) fn check(app: &App, parts: &Parts) -> Result<Response, Failure> {
    let program = program(app, &parts.method)?;
    let arguments = ["ops", "check", "--target", &program.target, "--output", "jsonl"];
    let lines = program.stream(&arguments, &token(app, parts))?;
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, NDJSON);
    Ok(response)
}

#[derive(Deserialize)]
struct PacketBody {
    profile: Option<String>,
    registry: Option<String>,
}

/// The escalation packet of a profile (line 20), without checks of its own: those have their own button.
pub(crate) async fn packet(app: &App, parts: &Parts, body: Body) -> Result<Response, Failure> {
    let program = program(app, &parts.method)?;
    let bytes = extract::read_body(&parts.headers, body, MAX_BODY).await?;
    let body: PacketBody = extract::parse(&bytes)?;
    let slug = body.profile.ok_or_else(|| Error::invalid("profile", "is required"))?;
    let slug = ProfileSlug::parse(&slug).map_err(|_| Error::InvalidSlug(slug.clone()))?;
    let query = Query::of(parts)?;
    let registry = query.registry(body.registry.as_deref(), app.registry.default_registry())?;
    let name = format!("{}.tar.gz", app.conversations.new_id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let path = scratch.0.to_string_lossy().into_owned();
    let of = ["--profile", slug.as_str(), "--registry", registry.as_str(), "--to", &path];
    let how = ["ops", "packet", "--target", &program.target, "--no-check"];
    let command = [&how[..], &of].concat();
    let (said, scratch) = program.run(&[command], &token(app, parts), scratch).await?;
    let read = tokio::task::spawn_blocking(move || std::fs::read(&scratch.0));
    // That something is missing stands in the packet itself.
    let Ok(bytes) = read.await.map_err(|_| Failure::internal())? else {
        return Err(failed(&said[0].err));
    };
    let mut response = json(StatusCode::OK, bytes);
    let name = format!("attachment; filename=\"collodi-packet-{slug}.tar.gz\"");
    let name = HeaderValue::from_str(&name).map_err(|_| Failure::internal())?;
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    Ok(response)
}

/// GET lists the snapshots of the folder, the newest first; POST takes one.
pub(crate) async fn snapshots(app: &App, parts: &Parts) -> Result<Response, Failure> {
    if parts.method == Method::GET {
        let folder = app.operations.program.as_ref().map(|program| program.snapshots.clone());
        let Some(folder) = folder else { return Ok(json_value(StatusCode::OK, &json!([]))) };
        let listed = tokio::task::spawn_blocking(move || list(&folder)).await;
        let listed = listed.map_err(|_| Failure::internal())?;
        return Ok(json_value(StatusCode::OK, &json!(listed)));
    }
    let program = program(app, &parts.method)?;
    if program.places.is_empty() {
        return Err(refused("the chat database does not lie in the data folder"));
    }
    let folder = program.snapshots.clone();
    let made = tokio::task::spawn_blocking(move || {
        let mut private = std::fs::DirBuilder::new();
        private
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|e| format!("make {}: {e}", folder.display()))
    });
    made.await.map_err(|_| Failure::internal())?.map_err(|text| failed(&text))?;
    let name = format!("snapshot-{}", app.conversations.now_ms());
    let names = [name.clone(), format!("{name}-registry")];
    let paths = names.each_ref().map(|name| program.snapshots.join(name).display().to_string());
    let mut commands = Vec::new();
    for (place, to) in program.places.iter().zip(&paths) {
        let how = ["ops", "snapshot", "--output", "json", "--to", to];
        commands.push(how.into_iter().chain(place.iter().map(String::as_str)).collect());
    }
    let (said, ()) = program.run(&commands, &token(app, parts), ()).await?;
    let names = &names[..said.len()];
    if let Some((last, taken)) = said.split_last().filter(|(last, _)| !last.is_go) {
        let report: Value = serde_json::from_str(&last.out).unwrap_or_default();
        let text = report["findings"][0]["evidence"].as_str().unwrap_or(&last.err);
        return Err(match &names[..taken.len()] {
            [] => failed(text),
            taken => failed(&format!("{text}; {} was taken", taken.join(", "))),
        });
    }
    Ok(json_value(StatusCode::CREATED, &json!({ "names": names })))
}

/// What the manifests of a folder say.
fn list(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<Value> = entries
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path().join("manifest.json")).ok()?;
            let mut manifest: Value = serde_json::from_str(&text).ok()?;
            // Whatever else lies there under that name is no snapshot.
            manifest.get("databases")?.as_array()?;
            manifest.get("taken_at_ms")?.as_i64()?;
            manifest["name"] = entry.file_name().to_string_lossy().into();
            Some(manifest)
        })
        .collect();
    found.sort_by_key(|manifest| std::cmp::Reverse(manifest["taken_at_ms"].as_i64()));
    found
}

fn program<'a>(app: &'a App, method: &Method) -> Result<&'a Program, Failure> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    app.operations
        .program
        .as_deref()
        .ok_or_else(|| refused("this server is part of another program"))
}

/// What lets the command in where this request was let in.
fn token(app: &App, parts: &Parts) -> String {
    let given = presented_token(&parts.headers).filter(|_| app.access.is_authenticated());
    given.unwrap_or_default().into_owned()
}

/// A file that goes with the last one who knows of it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What this server is not set up for.
fn refused(text: &str) -> Failure {
    Failure::new(StatusCode::CONFLICT, "refused", text.to_owned())
}

/// What a command could not do.
fn failed(text: &str) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "program", text.to_owned())
}

/// The configuration with the origin of every value, keys masked.
pub(crate) fn config(app: &App, parts: &Parts) -> Result<Response, Failure> {
    only_get(&parts.method)?;
    Ok(json_value(StatusCode::OK, &app.operations.config))
}

/// The newest log lines, the oldest first: by request, conversation, profile, level; as JSON or one object a line.
pub(crate) fn logs(app: &App, parts: &Parts) -> Result<Response, Failure> {
    only_get(&parts.method)?;
    let query = Query::of(parts)?;
    let names = ["request_id", "conv_id", "registry", "slug", "level"];
    let given = |name: &'static str| query.get(name).map(|text| (name, text.to_owned()));
    let asked = query.number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT_LINES);
    let limit = usize::try_from(asked).unwrap_or(MAX_LINES).min(MAX_LINES);
    let wanted =
        Wanted { fields: names.into_iter().filter_map(given).collect(), limit: Some(limit) };
    let lines = app.operations.logs.select(&wanted);
    if query.get("format") != Some("jsonl") {
        return Ok(json_value(StatusCode::OK, &json!(lines)));
    }
    let text: Vec<String> = lines.iter().map(|line| format!("{}\n", json!(line))).collect();
    let mut response = json(StatusCode::OK, text.concat());
    response.headers_mut().insert(CONTENT_TYPE, NDJSON);
    Ok(response)
}
