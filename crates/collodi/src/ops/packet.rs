//! `collodi ops packet`: line 20, one archive for whoever helps. A list of parts, each of which gives a file or says why
//! not; a part that fails never fails the packet. Everything in it has passed the redactor.
//!
//! To add a part: a line in [`live`] or [`offline`], and one in the table of docs/operating.md.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ArgMatches;
use collodi_api::routes::schemas;
use collodi_profiles::{Catalog, ProfileSlug, RegistrySlug};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};

use super::check::{Options, check, targets};
use super::session::Session;
use super::verdict::{Check, Finding, Report};
use crate::profiles::place::{self, Place};
use crate::redact::Redactor;
use crate::target::{Answer, Exchange, Target};

/// Versions of the profile whose documents are in it, the newest.
const VERSIONS: usize = 10;
/// Changes of the profile that are listed.
const CHANGES: usize = 100;
/// Of a log file, so much of its end.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Headers that are not those of a request that is sent again.
const OF_THE_CONNECTION: [&str; 6] =
    ["authorization", "host", "content-length", "content-type", "connection", "transfer-encoding"];

pub(crate) const COMPLETE: Check = Check {
    code: "packet.complete",
    line: 20,
    proves: "One archive holds what an escalation needs, without secrets",
    how: "Exchange, schemas, profile with its history, release, configuration, logs and checks, each redacted",
    hint: "The archive is there; its README says what is missing and why.",
};

/// What has been gathered.
struct Packet {
    redactor: Redactor,
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<(String, String)>,
}

impl Packet {
    fn json(&mut self, name: &str, value: Result<Value>) {
        match value {
            Ok(mut value) => {
                self.redactor.json(&mut value);
                self.files.push((name.to_owned(), format!("{value:#}\n").into_bytes()));
            }
            Err(error) => self.lacks(name, &error),
        }
    }

    fn text(&mut self, name: &str, text: Result<String>) {
        match text {
            Ok(text) => {
                let clean = self.redactor.text(&text).into_owned();
                self.files.push((name.to_owned(), clean.into_bytes()));
            }
            Err(error) => self.lacks(name, &error),
        }
    }

    /// One JSON object a line.
    fn lines(&mut self, name: &str, lines: Result<Value>) {
        let clean = |mut line: Value| {
            self.redactor.json(&mut line);
            format!("{line}\n")
        };
        match lines {
            Ok(Value::Array(lines)) => {
                let text: String = lines.into_iter().map(clean).collect::<Vec<_>>().concat();
                self.files.push((name.to_owned(), text.into_bytes()));
            }
            Ok(_) => self.lacks(name, &anyhow::anyhow!("the answer is no list")),
            Err(error) => self.lacks(name, &error),
        }
    }

    fn lacks(&mut self, name: &str, error: &anyhow::Error) {
        let reason = self.redactor.text(&format!("{error:#}")).into_owned();
        self.missing.push((name.to_owned(), reason));
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|(file, _)| file == name)
    }

    /// What is in it, and what is not.
    fn readme(&self, subject: &str) -> String {
        let row = |(name, text): &(String, String)| format!("- `{name}`: {text}\n");
        let size =
            |(name, bytes): &(String, Vec<u8>)| format!("- `{name}` ({} bytes)\n", bytes.len());
        let files: Vec<String> = self.files.iter().map(size).collect();
        let files = files.concat();
        let missing: Vec<String> = self.missing.iter().map(row).collect();
        let missing = if missing.is_empty() { "Nothing.\n".to_owned() } else { missing.concat() };
        format!(
            "# Escalation packet\n\n{subject}\nMade by collodi {} at {} (Unix milliseconds). Secrets are masked as `***`.\n\n\
             ## What is in it\n\n{files}\n## What is missing\n\n{missing}",
            env!("CARGO_PKG_VERSION"),
            crate::assemble::now_ms(),
        )
    }
}

/// Gathers, and writes the archive. It is a go when nothing that line 20 names is missing.
///
/// # Errors
/// A wrong command line, a request that cannot be read, an archive that cannot be written.
pub(crate) async fn run(matches: &ArgMatches, session: Session) -> Result<Report> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let mut all = targets(matches)?;
    let (Some(target), true) = (all.pop(), all.is_empty()) else {
        bail!("a packet is of one --target");
    };
    let slug = ProfileSlug::parse(&text("profile").context("give --profile SLUG")?)?;
    let of = RegistrySlug::parse(&text("registry").unwrap_or_else(|| "default".into()))?;
    let name = format!("collodi-packet-{slug}-{}", crate::assemble::now_ms());
    let path = archive_path(&text("to").context("give --to PATH")?, &name)?;
    let request = text("request").map(|file| Given::read(Path::new(&file))).transpose()?;

    let mut packet = Packet {
        redactor: Redactor::of_environment(text("token")),
        files: Vec::new(),
        missing: Vec::new(),
    };
    let url = target.url().to_owned();
    let mut subject = format!("Profile `{of}/{slug}` of {url}.");
    let silent = silence(&target).await;
    let attempts = target.exchanges();
    if let Some(reason) = silent {
        subject = format!("{subject} The server did not answer: {reason}.");
        offline(&mut packet, matches, &of, &slug).await;
        let given = request.map(|request| request.recorded(None));
        packet.json("exchange.json", Ok(given.unwrap_or_else(|| json!(attempts))));
    } else {
        let given = match request {
            Some(request) => Some(request.ask(&target).await),
            None => None,
        };
        let is_checked = !matches.get_flag("no-check");
        let failing =
            if is_checked { checked(&mut packet, &target, session).await } else { Vec::new() };
        packet.json("exchange.json", exchange(given, is_checked, &failing));
        live(&mut packet, target, &of, &slug, matches).await;
    }
    let needed =
        ["exchange.json", "schemas/middlewares.json", "profile/document.json", "logs.jsonl"];
    let lacking: Vec<&str> = needed.into_iter().filter(|name| !packet.has(name)).collect();
    let readme = packet.readme(&packet.redactor.text(&subject));
    packet.files.insert(0, ("README.md".into(), readme.into_bytes()));
    write(&path, &name, &packet.files).with_context(|| format!("write {}", path.display()))?;
    let evidence = format!("{} with {} files", path.display(), packet.files.len());
    let finding = if lacking.is_empty() {
        COMPLETE.pass(evidence)
    } else {
        let why = packet.missing.iter().filter(|(name, _)| lacking.contains(&name.as_str()));
        let why: Vec<String> = why.map(|(name, reason)| format!("{name}: {reason}")).collect();
        COMPLETE.fail(format!("{evidence}, without {}", why.join("; ")))
    };
    Ok(finding.of(url).into())
}

/// A file, or a new one in a folder.
fn archive_path(to: &str, name: &str) -> Result<PathBuf> {
    let path = Path::new(to);
    let path = if path.is_dir() { path.join(format!("{name}.tar.gz")) } else { path.to_owned() };
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let folder = folder_of(&path);
    ensure!(folder.is_dir(), "--to {to}: there is no folder {}", folder.display());
    Ok(path)
}

/// Why the server cannot be asked: nobody is there, or only a front that says so.
async fn silence(target: &Target) -> Option<String> {
    let mut reason = String::new();
    for path in ["/healthz", "/api/chat/profiles?limit=1"] {
        match target.get(path).await {
            Ok(answer) if matches!(answer.status, 200..=299 | 401 | 403) => return None,
            Ok(answer) => reason = answer.shown(),
            Err(error) => reason = format!("{error:#}"),
        }
    }
    Some(reason)
}

/// What failed: the request that was given, else what the checks saw.
fn exchange(given: Option<Value>, is_checked: bool, failing: &[Exchange]) -> Result<Value> {
    match given {
        Some(given) => Ok(given),
        None if !failing.is_empty() => Ok(json!(failing)),
        None if is_checked => Ok(json!({"note": "no --request was given, and no check failed"})),
        None => bail!("no --request was given, and nothing was checked"),
    }
}

/// Lines 6 to 16; the exchanges of those that failed.
async fn checked(packet: &mut Packet, target: &Target, session: Session) -> Vec<Exchange> {
    let options = Options { expected: None, session };
    let report = check(std::slice::from_ref(target), &options).await;
    packet.json("check.json", Ok(report.json()));
    let failed = report.findings.into_iter().filter(Finding::is_no_go);
    failed.flat_map(|finding| finding.exchanges).collect()
}

/// What a running server says.
async fn live(
    packet: &mut Packet,
    target: Target,
    of: &RegistrySlug,
    slug: &ProfileSlug,
    matches: &ArgMatches,
) {
    for (name, path) in [
        ("schemas/middlewares.json", "/api/chat/schemas/middlewares"),
        ("schemas/extensions.json", "/api/chat/schemas/extensions"),
        ("release.json", "/api/chat/release"),
        ("config.json", "/api/ops/config"),
    ] {
        packet.json(name, asked(&target, path).await);
    }
    // One that is not ready says so with 503.
    packet.json("ready.json", target.get("/readyz").await.map(|answer| answer.json()));
    let metrics = target.get("/metrics").await.and_then(ok).map(|answer| answer.text);
    packet.text("metrics.txt", metrics);
    // Late, so that what was asked just now is in it.
    let of_profile = format!("/api/ops/logs?limit=10000&registry={of}&slug={slug}");
    packet.lines("logs-of-profile.jsonl", asked(&target, &of_profile).await);
    let kept = asked(&target, "/api/ops/logs?limit=10000").await;
    match matches.get_one::<String>("log-file") {
        // A server without our additions has its log elsewhere.
        Some(file) if kept.is_err() => packet.text("logs.jsonl", tail(Path::new(file))),
        _ => packet.lines("logs.jsonl", kept),
    }
    profile(packet, &Place::Server(target), of, slug).await;
}

async fn asked(target: &Target, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&ok(target.get(path).await?)?.text)?)
}

/// The profile with what it was.
async fn profile(packet: &mut Packet, place: &Place, of: &RegistrySlug, slug: &ProfileSlug) {
    packet.json("profile/document.json", place.document(of, slug, None).await);
    let changes = place.history(of, slug, CHANGES).await.map(Value::Array);
    let newest = changes.as_ref().map(versions).unwrap_or_default();
    packet.json("profile/history.json", changes);
    for version in newest {
        let document = place.document(of, slug, Some(version)).await;
        packet.json(&format!("profile/version-{version}.json"), document);
    }
}

/// What the files of a server say that does not answer.
async fn offline(packet: &mut Packet, matches: &ArgMatches, of: &RegistrySlug, slug: &ProfileSlug) {
    let catalog = collodi_tools::catalog().map_err(|e| anyhow::anyhow!("build the catalog: {e}"));
    let schemas = |list: fn(&Catalog) -> Value| {
        catalog.as_ref().map(list).map_err(|e| anyhow::anyhow!("{e}"))
    };
    packet.json("schemas/middlewares.json", schemas(schemas::middlewares));
    packet.json("schemas/extensions.json", schemas(schemas::extensions));
    let down = || anyhow::anyhow!("the server does not answer");
    for name in ["release.json", "config.json", "ready.json", "check.json", "metrics.txt"] {
        packet.lacks(name, &down());
    }
    let database = match catalog {
        Ok(catalog) => place::database_path(matches)
            .and_then(|path| {
                path.context(
                    "the server does not answer; give --data-dir DIR or --profile-registry-db FILE",
                )
            })
            .and_then(|path| Place::database(&path, catalog.into(), false)),
        Err(error) => Err(error),
    };
    match database {
        Ok(place) => profile(packet, &place, of, slug).await,
        Err(error) => {
            packet.lacks("profile/document.json", &error);
            packet.lacks("profile/history.json", &error);
        }
    }
    let log = matches.get_one::<String>("log-file").map(Path::new);
    let log = log.context("the server does not answer; give --log-file FILE");
    packet.text("logs.jsonl", log.and_then(tail));
}

/// The newest versions that have a document.
fn versions(changes: &Value) -> Vec<u64> {
    let changes = changes.as_array().map(Vec::as_slice).unwrap_or_default();
    let with_document = changes.iter().filter(|change| change["content_hash"] != "");
    with_document.filter_map(|change| change["version"].as_u64()).take(VERSIONS).collect()
}

/// The end of a log, from the beginning of a line: half a key is one that nobody knows.
fn tail(path: &Path) -> Result<String> {
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(LOG_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        let first = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let kept = if from == 0 { 0 } else { first };
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes[kept..]).into_owned())
    };
    read().with_context(|| format!("read {}", path.display()))
}

fn ok(answer: Answer) -> Result<Answer> {
    if !(200..300).contains(&answer.status) {
        bail!("{}", answer.shown());
    }
    Ok(answer)
}

/// `--request FILE`: `{method, path, headers, body}`, which is sent once; with `response` it is taken as it is, and so is
/// anything that is no JSON.
enum Given {
    Request { method: Method, path: String, headers: Vec<(String, String)>, document: Value },
    Recorded(Value),
}

impl Given {
    fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let Ok(document @ Value::Object(_)) = serde_json::from_str(&text) else {
            return Ok(Self::Recorded(json!({"recorded": text})));
        };
        let (Some(path), None) = (document["path"].as_str(), document.get("response")) else {
            return Ok(Self::Recorded(document));
        };
        // Anything else would lead the token to another host.
        ensure!(path.starts_with('/'), "--request: the path {path} does not begin with a slash");
        let path = path.to_owned();
        let method = document["method"].as_str().unwrap_or("GET").to_ascii_uppercase();
        let method = method.parse().context("--request: method")?;
        let headers = document["headers"].as_object().into_iter().flatten();
        // Guards among them are part of what was asked; who asks is the operator now.
        let headers = headers
            .filter(|(name, _)| {
                !OF_THE_CONNECTION.iter().any(|other| name.eq_ignore_ascii_case(other))
            })
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        Ok(Self::Request { method, path, headers, document })
    }

    /// Sends it, and records what comes.
    async fn ask(self, target: &Target) -> Value {
        let Self::Request { method, path, headers, document } = &self else {
            return self.recorded(None);
        };
        let body = Some(&document["body"]).filter(|body| !body.is_null());
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let sent = target.send(method.clone(), path, body, &headers).await;
        let exchange = target.exchanges().pop();
        let response = match sent {
            Ok(_) => json!(exchange),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        self.recorded(Some(response))
    }

    fn recorded(self, response: Option<Value>) -> Value {
        match self {
            Self::Recorded(document) => document,
            Self::Request { document, .. } => json!({
                "request": document,
                "response": response.unwrap_or_else(|| json!({"error": "not sent: the server does not answer"})),
            }),
        }
    }
}

/// A new file that only its owner may read, whole or not at all.
fn write(path: &Path, folder: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let seconds = u64::try_from(crate::assemble::now_ms() / 1000).unwrap_or(0);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        archive.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
