//! `collodi profiles`: profiles as code, against a server or a database.

mod edit;
mod legacy;
pub(crate) mod place;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::ArgMatches;
use collodi_profiles::diff::{self, Difference};
use collodi_profiles::profile::validate::MAX_NOTE;
use collodi_profiles::profile::yaml;
use collodi_profiles::{Error, ProfileSlug, Registry};
use serde_json::{Value, json};

use crate::output;
use crate::output::print;
use place::{Apply, Place, registry, version_of};

/// Runs a command. Plans and differences end with 1 when there are any, and with 2 when they could not be made.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((name, matches)) = matches.subcommand() else { return ExitCode::from(crate::USAGE) };
    let compares = ["plan", "diff", "validate"].contains(&name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .context("start")
        .and_then(|runtime| runtime.block_on(async { command(name, matches).await }));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let code = crate::fail(if compares { 2 } else { 1 }, &error);
            for problem in further_problems(&error) {
                say(&problem);
            }
            code
        }
    }
}

async fn command(name: &str, matches: &ArgMatches) -> Result<ExitCode> {
    match name {
        "list" => list(matches).await,
        "show" => show(matches).await,
        "history" => history(matches).await,
        "diff" => compare(matches).await,
        "restore" => restore(matches).await,
        "export" => export(matches).await,
        "validate" => validate(matches),
        "plan" => plan(matches).await,
        "apply" => apply(matches, false).await,
        "import" => apply(matches, true).await,
        "edit" => edit::run(matches).await,
        _ => legacy::run(matches),
    }
}

fn slug(matches: &ArgMatches) -> Result<ProfileSlug> {
    let raw = matches.get_one::<String>("slug").context("give the slug of a profile")?;
    Ok(ProfileSlug::parse(raw)?)
}

fn note(matches: &ArgMatches) -> Result<String> {
    let note = matches.get_one::<String>("note").cloned().unwrap_or_default();
    ensure!(note.len() <= MAX_NOTE, "--note: must be at most {MAX_NOTE} bytes");
    Ok(note)
}

fn number(matches: &ArgMatches, name: &str) -> Option<u64> {
    matches.get_one::<u64>(name).copied()
}

fn format(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("output").map_or("table", String::as_str)
}

/// A file, or standard input as `-`.
fn read(matches: &ArgMatches) -> Result<String> {
    let file = matches.get_one::<String>("file").context("give a file")?;
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("read {file}"))
}

async fn list(matches: &ArgMatches) -> Result<ExitCode> {
    let listed = Place::open(matches, false)?.list(&registry(matches)?).await?;
    let rows: Vec<output::Row> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            let of = |key: &'static str| (key, item[key].clone());
            let is_default = item["is_default"] == true;
            let default = ("default", json!(if is_default { "default" } else { "" }));
            vec![of("slug"), of("version"), default, of("display_name"), of("description")]
        })
        .collect();
    print(&output::render(matches, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(matches: &ArgMatches) -> Result<ExitCode> {
    let place = Place::open(matches, false)?;
    let version = number(matches, "version");
    let mut document = place.document(&registry(matches)?, &slug(matches)?, version).await?;
    if let Some(members) = document.as_object_mut() {
        members.remove("registry");
        members.remove("is_default");
    }
    match format(matches) {
        "json" => print(&format!("{document:#}\n"))?,
        _ => print(&yaml::write(&document)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn history(matches: &ArgMatches) -> Result<ExitCode> {
    let place = Place::open(matches, false)?;
    let limit = number(matches, "limit").unwrap_or(50).clamp(1, 1000);
    let limit = usize::try_from(limit)?;
    let found = place.history(&registry(matches)?, &slug(matches)?, limit).await?;
    let columns = ["version", "operation", "at_ms", "actor", "source", "note", "request_id"];
    let row = |change: &Value| columns.map(|key| (key, change[key].clone())).to_vec();
    print(&output::render(matches, &found.iter().map(row).collect::<Vec<_>>())?)?;
    Ok(ExitCode::SUCCESS)
}

async fn compare(matches: &ArgMatches) -> Result<ExitCode> {
    let place = Place::open(matches, false)?;
    let (from, to) = (number(matches, "from"), number(matches, "to"));
    let changes = place.diff(&registry(matches)?, &slug(matches)?, from, to).await?;
    match format(matches) {
        "json" => print(&format!("{:#}\n", json!(changes)))?,
        _ => print(&painted(&diff::text(&changes)))?,
    }
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn restore(matches: &ArgMatches) -> Result<ExitCode> {
    let place = Place::open(matches, true)?;
    let (of, slug) = (registry(matches)?, slug(matches)?);
    let version = number(matches, "version").context("give --version N")?;
    let expected = if let Some(expected) = number(matches, "expect") {
        expected
    } else {
        let newest = place.history(&of, &slug, 1).await?;
        newest.first().and_then(|change| change["version"].as_u64()).unwrap_or(0)
    };
    let now = place.restore(&of, &slug, version, expected, note(matches)?).await?;
    let now = version_of(&now)?;
    print(&format!("{of}/{slug} is what it was in version {version}, as version {now}\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn export(matches: &ArgMatches) -> Result<ExitCode> {
    let only = matches.get_one::<String>("registry").map(|_| registry(matches)).transpose()?;
    let text = Place::open(matches, false)?.export(only.as_ref()).await?;
    match matches.get_one::<String>("to") {
        None => print(&text)?,
        Some(file) => collodi_store::file::replace(Path::new(file), text.as_bytes())
            .with_context(|| format!("write {file}"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(matches: &ArgMatches) -> Result<ExitCode> {
    let catalog = place::catalog(matches)?;
    match Registry::check_bundle(read(matches)?, registry(matches)?, &catalog) {
        Ok(profiles) => {
            print(&format!("valid: {profiles} profiles\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Error::Validation(problems)) => {
            for problem in problems {
                print(&format!("{problem}\n"))?;
            }
            Ok(ExitCode::FAILURE)
        }
        Err(other) => Err(other.into()),
    }
}

async fn plan(matches: &ArgMatches) -> Result<ExitCode> {
    let place = Place::open(matches, false)?;
    let apply = Apply {
        text: read(matches)?,
        only_add: false,
        prune: matches.get_flag("prune"),
        expected_revision: None,
        note: String::new(),
        dry_run: true,
    };
    let planned = place.apply(&registry(matches)?, apply).await?;
    let steps = steps(&planned)?;
    match format(matches) {
        "json" => print(&format!("{planned:#}\n"))?,
        _ if steps.is_empty() => {
            print(&format!("in step with the file at revision {}\n", planned["revision"]))?;
        }
        _ => {
            print(&painted(&told(&steps)))?;
            print(&format!(
                "{} to make; apply with --expect {}\n",
                counted(&steps),
                planned["revision"]
            ))?;
        }
    }
    Ok(if steps.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn apply(matches: &ArgMatches, only_add: bool) -> Result<ExitCode> {
    let place = Place::open(matches, true)?;
    let apply = Apply {
        text: read(matches)?,
        only_add,
        prune: !only_add && matches.get_flag("prune"),
        expected_revision: if only_add { None } else { number(matches, "expect") },
        note: note(matches)?,
        dry_run: false,
    };
    let applied = place.apply(&registry(matches)?, apply).await?;
    let steps = steps(&applied)?;
    if format(matches) == "json" {
        print(&format!("{applied:#}\n"))?;
    } else {
        print(&painted(&told(&steps)))?;
        print(&format!("{} made, now at revision {}\n", counted(&steps), applied["revision"]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A step as the API tells it.
#[derive(serde::Deserialize)]
struct Step {
    registry: String,
    slug: Option<String>,
    operation: String,
    version: u64,
    changes: Vec<Difference>,
}

fn steps(told: &Value) -> Result<Vec<Step>> {
    serde_json::from_value(told["steps"].clone()).context("read the answer")
}

fn counted(steps: &[Step]) -> String {
    match steps.len() {
        1 => "1 change".into(),
        n => format!("{n} changes"),
    }
}

/// Each step with what it changes below it.
fn told(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        let slug = step.slug.as_ref().map_or_else(String::new, |slug| format!("/{slug}"));
        let version = match (&step.slug, step.version) {
            (None, _) | (_, 0) => String::new(),
            (_, version) => format!(" (version {version})"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(out, "{} {}{slug}{version}", step.operation, step.registry);
        for line in diff::text(&step.changes).lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// In the colours of a difference, on a terminal.
fn painted(text: &str) -> String {
    if !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    let paint = |line: &str| match line.trim_start().chars().next() {
        Some('+') => format!("\x1b[32m{line}\x1b[0m\n"),
        Some('-') => format!("\x1b[31m{line}\x1b[0m\n"),
        Some('~' | '>') => format!("\x1b[33m{line}\x1b[0m\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(paint).collect()
}

/// Of several broken rules the first is the error; these are the others.
fn further_problems(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<Error>() {
        Some(Error::Validation(problems)) => {
            problems.iter().skip(1).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    }
}

#[expect(clippy::print_stderr, reason = "what is wrong is for the person at the terminal")]
fn say(text: &str) {
    eprintln!("collodi: {text}");
}
