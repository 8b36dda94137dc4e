//! `collodi timeline ...`: looks into the timelines of a chat database (chapter 30 §8.5). Read-only (D51).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::ArgMatches;
use collodi_chat::store::TimelineRange;
use collodi_store::SqliteChats;
use collodi_store::sqlite::chats::{ChatReader, EntityFilter, EntityRow};
use serde_json::{Value, json};

use crate::output::print;
use crate::output::{self, Row};

/// Characters of a message in a summary, and of an error.
const SUMMARY: usize = 160;
const SUMMARY_ERROR: usize = 120;

/// Runs one of the commands; `verify` ends with 1 when something does not fit together.
///
/// # Errors
/// A database that cannot be read, and options that name nothing.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((command, matches)) = matches.subcommand() else { bail!("no command given") };
    let mut code = ExitCode::SUCCESS;
    let rows = match command {
        "list" | "stats" => timelines(matches, command == "stats")?,
        "snapshot" => vec![snapshot(matches)?],
        "entities" => entities(matches)?,
        "entity" => vec![entity(matches)?],
        _ => {
            let (rows, fits) = verify(matches)?;
            if !fits {
                code = ExitCode::FAILURE;
            }
            rows
        }
    };
    print(&output::render(matches, &rows)?)?;
    Ok(code)
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn number(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one::<i64>(name).copied().unwrap_or(0)
}

fn required<'a>(matches: &'a ArgMatches, name: &'static str) -> Result<&'a str> {
    match text(matches, name).trim() {
        "" => Err(anyhow!("{name} is required")),
        given => Ok(given),
    }
}

fn reader(matches: &ArgMatches) -> Result<ChatReader> {
    let dsn = text(matches, "timeline-dsn");
    let file = dsn.strip_prefix("file:").unwrap_or(dsn).split('?').next().unwrap_or_default();
    let path = match (file, text(matches, "timeline-db"), text(matches, "data-dir")) {
        ("", "", "") => {
            bail!("timeline store not configured (set --timeline-dsn or --timeline-db)")
        }
        ("", "", folder) => PathBuf::from(folder).join("chat.db"),
        ("", file, _) | (file, _, _) => PathBuf::from(file),
    };
    Ok(SqliteChats::open_existing(&path)?)
}

fn timelines(matches: &ArgMatches, with_kinds: bool) -> Result<Vec<Row>> {
    let prefix = text(matches, "conv-id-prefix");
    let found = reader(matches)?.timelines(prefix, number(matches, "limit"))?;
    Ok(found
        .into_iter()
        .map(|timeline| {
            let mut row = vec![
                ("conv_id", json!(timeline.conv_id)),
                ("version", json!(timeline.version)),
                ("entity_count", json!(timeline.entity_count)),
                ("min_created_at_ms", json!(timeline.min_created_at_ms)),
                ("max_updated_at_ms", json!(timeline.max_updated_at_ms)),
            ];
            if with_kinds {
                row.push(("kind_counts", json!(timeline.kinds)));
            }
            row
        })
        .collect())
}

fn snapshot(matches: &ArgMatches) -> Result<Row> {
    let conv_id = required(matches, "conv-id")?;
    let since = u64::try_from(number(matches, "since-version")).unwrap_or(0);
    let limit = usize::try_from(number(matches, "limit")).unwrap_or(usize::MAX);
    let page = reader(matches)?.page(conv_id, TimelineRange { since, before: None, limit })?;
    let entities: Vec<Value> = page
        .entities
        .iter()
        .map(|text| serde_json::from_str(text))
        .collect::<Result<_, _>>()
        .context("read an entity")?;
    let now = crate::assemble::now_ms();
    let mut row = vec![
        ("conv_id", json!(conv_id)),
        ("version", json!(page.version)),
        ("server_time_ms", json!(now)),
        ("entity_count", json!(entities.len())),
    ];
    if matches.get_flag("include-entities") {
        row.push(("entities", entities.into()));
    }
    if matches.get_flag("raw-json") {
        let raw = collodi_chat::timeline::snapshot(conv_id, &page, now);
        row.push(("snapshot_json", raw.trim_end().into()));
    }
    Ok(row)
}

fn entities(matches: &ArgMatches) -> Result<Vec<Row>> {
    let conv_id = required(matches, "conv-id")?;
    let order = text(matches, "order");
    let (order, descending) = match order.strip_prefix('-') {
        Some(order) => (order, true),
        None => (order, false),
    };
    if !matches!(order, "version" | "created" | "updated") {
        bail!("invalid order \"{order}\" (use version|created|updated)");
    }
    let bounds = [
        ("version-min", "version-max"),
        ("created-after-ms", "created-before-ms"),
        ("updated-after-ms", "updated-before-ms"),
    ];
    let filter = EntityFilter {
        kind: text(matches, "kind").to_owned(),
        entity_id: text(matches, "entity-id").to_owned(),
        bounds: bounds.map(|(low, high)| (number(matches, low), number(matches, high))),
        order: order.to_owned(),
        descending,
        limit: number(matches, "limit"),
    };
    let found = reader(matches)?.entities(conv_id, &filter)?;
    Ok(found.iter().map(|entity| entity_row(matches, conv_id, entity)).collect())
}

fn entity(matches: &ArgMatches) -> Result<Row> {
    let (conv_id, entity_id) = (required(matches, "conv-id")?, required(matches, "entity-id")?);
    let filter = EntityFilter { entity_id: entity_id.to_owned(), ..EntityFilter::default() };
    let found = reader(matches)?.entities(conv_id, &filter)?;
    let entity = found.first().ok_or_else(|| anyhow!("entity not found: {entity_id}"))?;
    Ok(entity_row(matches, conv_id, entity))
}

fn entity_row(matches: &ArgMatches, conv_id: &str, entity: &EntityRow) -> Row {
    let on = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
    let mut row = vec![
        ("conv_id", json!(conv_id)),
        ("entity_id", json!(entity.entity_id)),
        ("kind", json!(entity.kind)),
        ("created_at_ms", json!(entity.created_at_ms)),
        ("updated_at_ms", json!(entity.updated_at_ms)),
        ("version", json!(entity.version)),
    ];
    if on("include-summary") {
        row.push(match serde_json::from_str::<Value>(&entity.body) {
            Ok(body) => ("summary", summary(&entity.kind, &body["props"]).into()),
            Err(error) => ("summary_error", error.to_string().into()),
        });
    }
    if on("include-json") {
        row.push(("entity_json", entity.body.as_str().into()));
    }
    row
}

fn summary(kind: &str, props: &Value) -> String {
    let get = |key: &str| props.get(key).and_then(Value::as_str).unwrap_or_default().trim();
    let cut = |text: &str, most: usize| {
        let short: String = text.chars().take(most).collect();
        if short.len() < text.len() { format!("{short}...") } else { short }
    };
    match kind {
        "message" if get("content").is_empty() => get("role").to_owned(),
        "message" => format!("{}: {}", get("role"), cut(get("content"), SUMMARY)),
        "tool_call" => format!("tool_call {} ({})", get("name"), get("status")),
        "tool_result" => {
            let error = match get("error") {
                "" => String::new(),
                error => format!(" error={}", cut(error, SUMMARY_ERROR)),
            };
            format!("tool_result {}{error}", get("toolCallId"))
        }
        "log" => format!("log {}: {}", get("level"), cut(get("message"), SUMMARY)),
        "" => "entity".into(),
        kind => kind.to_owned(),
    }
}

fn verify(matches: &ArgMatches) -> Result<(Vec<Row>, bool)> {
    let reader = reader(matches)?;
    let issues = reader.verify(text(matches, "conv-id-prefix"), matches.get_flag("check-json"))?;
    if issues.is_empty() {
        let ok = vec![("status", json!("ok")), ("issues", json!(0))];
        return Ok((vec![ok], true));
    }
    let limit = usize::try_from(number(matches, "limit")).ok().filter(|n| *n > 0);
    let rows = issues.iter().take(limit.unwrap_or(usize::MAX)).map(|issue| {
        vec![
            ("conv_id", json!(issue.conv_id)),
            ("entity_id", json!(issue.entity_id)),
            ("issue", json!(issue.issue)),
            ("details", json!(issue.details)),
        ]
    });
    Ok((rows.collect(), false))
}
