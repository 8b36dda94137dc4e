//! `sqlite` (chapter 40 §11): offers `sql_query`, read-only and sandboxed on a connection of its own (INF-4, INF-5).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collodi_chat::middleware::{Around, Middleware, Working};
use collodi_chat::tool::{Tool, ToolContext, ToolSpec};
use collodi_profiles::json::Object;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::Shipped;

mod linear;

/// Queries at once in this process: each takes a core for as long as it may, and answers need some too.
static PLACES: Semaphore = Semaphore::const_new(4);

/// Bytes of one value, row or text that is computed.
const MAX_VALUE: usize = 1024 * 1024;

const REFUSED: &str = "error: read-only mode: statement not allowed";
/// Pragmas that only read.
const PRAGMAS: [&str; 9] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "database_list",
    "user_version",
];

/// What a query may cost.
#[derive(Debug, Clone, Copy)]
struct Limits {
    rows: usize,
    time: Duration,
    lines: usize,
    bytes: usize,
}

/// One use of the middleware.
#[derive(Debug)]
pub struct SqlTool {
    query: Option<Query>,
}

impl SqlTool {
    /// Finds the database: the server's own, else the one that an operator wrote into the profile.
    ///
    /// # Errors
    /// A database outside the operator's folder.
    pub fn new(config: &Object, shipped: &Shipped) -> Result<Self, String> {
        let number = |name: &str, or: u64| {
            let set = config.get(name).and_then(Value::as_u64).filter(|n| *n > 0);
            set.unwrap_or(or)
        };
        let size = |name: &str, or: u64| usize::try_from(number(name, or)).unwrap_or(usize::MAX);
        let limits = Limits {
            rows: size("max_rows", 200),
            time: Duration::from_millis(number("execution_timeout_ms", 20_000)),
            lines: size("max_output_lines", 50),
            bytes: size("max_output_bytes", 1024),
        };
        let dsn = config.get("dsn").and_then(Value::as_str).unwrap_or_default().trim();
        let path = match (&shipped.sql_db, dsn) {
            (Some(path), _) => Some(path.clone()),
            (None, "") => None,
            (None, dsn) => Some(inside(dsn, shipped.sql_dir.as_deref())?),
        };
        Ok(Self { query: path.map(|path| Query::new(path, limits)) })
    }
}

/// The file that a DSN names, which must lie in the operator's folder (decision 46).
fn inside(dsn: &str, folder: Option<&Path>) -> Result<PathBuf, String> {
    let folder = folder.ok_or("sqlite: no folder for databases is configured (--sql-tool-dir)")?;
    let path = dsn.strip_prefix("file:").unwrap_or(dsn);
    let path = path.split('?').next().unwrap_or_default();
    let real =
        |path: &Path| path.canonicalize().map_err(|e| format!("sqlite: {}: {e}", path.display()));
    let (folder, path) = (real(folder)?, real(&folder.join(path))?);
    if path.starts_with(&folder) {
        Ok(path)
    } else {
        Err(format!("sqlite: {} is outside of {}", path.display(), folder.display()))
    }
}

impl Middleware for SqlTool {
    fn before(&self, _: &mut Working, around: &mut Around<'_>) -> Result<(), String> {
        match &self.query {
            Some(query) => around.tools.add(Arc::new(query.clone())),
            None => Ok(()),
        }
    }
}

/// The tool.
#[derive(Debug, Clone)]
struct Query {
    spec: ToolSpec,
    path: PathBuf,
    limits: Limits,
}

impl Query {
    fn new(path: PathBuf, limits: Limits) -> Self {
        let parameters = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"sql": {"type": "string"}},
            "additionalProperties": false,
            "required": ["sql"],
        });
        let description = describe(&path);
        let spec = ToolSpec { name: "sql_query".into(), description, parameters };
        Self { spec, path, limits }
    }
}

impl Tool for Query {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(
        &self,
        arguments: Object,
        context: ToolContext,
    ) -> BoxFuture<'static, Result<Value, String>> {
        let (path, limits) = (self.path.clone(), self.limits);
        let sql = arguments.get("sql").and_then(Value::as_str).unwrap_or_default().to_owned();
        async move {
            let place = PLACES.acquire().await.map_err(|e| e.to_string())?;
            // The place is taken until the query is over, also when nobody waits for it any more.
            let run = move || {
                let _place = place;
                query(&path, &sql, limits, &context)
            };
            let text = tokio::task::spawn_blocking(run).await.map_err(|e| e.to_string())?;
            Ok(Value::String(text))
        }
        .boxed()
    }
}

/// What the model is told: the schema and the prompts that the database holds. What cannot be read is left out.
fn describe(path: &Path) -> String {
    let base = "Runs one read-only SQL query on the attached SQLite database and returns the rows as text.";
    let mut parts = vec![base.to_owned()];
    let Ok(connection) = sandboxed(path) else { return base.to_owned() };
    let list = |sql: &str| -> Vec<String> {
        let Ok(mut statement) = connection.prepare(sql) else { return Vec::new() };
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        rows.map(|rows| rows.filter_map(Result::ok).collect()).unwrap_or_default()
    };
    let tables = list(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name <> '_prompts' AND sql IS NOT NULL ORDER BY name",
    );
    if !tables.is_empty() {
        parts.push("Schema:".into());
        parts.extend(tables.iter().map(|sql| format!("{};", sql.trim_end_matches(';'))));
    }
    let prompts = list("SELECT prompt FROM _prompts");
    let prompts: Vec<String> = prompts
        .iter()
        .map(|prompt| prompt.trim())
        .filter(|prompt| !prompt.is_empty())
        .map(|prompt| format!("- {prompt}"))
        .collect();
    if !prompts.is_empty() {
        parts.push("Prompts:".into());
        parts.push(format!("{}\n", prompts.join("\n")));
    }
    parts.join("\n\n")
}

/// A connection on which nothing can be changed, and nothing read but this file.
fn sandboxed(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "query_only", true)?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, i32::try_from(MAX_VALUE).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1024),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_VDBE_OP, 250_000),
    ] {
        connection.set_limit(limit, most)?;
    }
    linear::install(&connection)?;
    Ok(connection)
}

/// Reading tables and calling functions that only compute; everything else is refused before it runs.
fn authorise(action: AuthAction<'_>) -> Authorization {
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => {
            Authorization::Allow
        }
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            let harmful = ["load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"];
            if harmful.contains(&name.as_str()) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }
        AuthAction::Pragma { pragma_name, .. } => {
            let name = pragma_name.to_ascii_lowercase();
            if PRAGMAS.contains(&name.as_str()) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        }
        _ => Authorization::Deny,
    }
}

/// Runs one statement within its limits; what goes wrong is a result like any other.
fn query(path: &Path, sql: &str, limits: Limits, context: &ToolContext) -> String {
    let outcome = sandboxed(path).and_then(|mut connection| {
        connection.authorizer(Some(|context: rusqlite::hooks::AuthContext<'_>| {
            authorise(context.action)
        }))?;
        let deadline = Instant::now() + limits.time.min(context.timeout);
        let cancel = context.cancel.clone();
        let over = move || Instant::now() >= deadline || cancel.is_cancelled();
        connection.progress_handler(1_000, Some(over))?;
        rows(&connection, sql, limits)
    });
    match outcome {
        Ok(text) => text,
        Err(error) => match error.sqlite_error_code() {
            Some(
                rusqlite::ErrorCode::AuthorizationForStatementDenied
                | rusqlite::ErrorCode::ReadOnly,
            ) => REFUSED.into(),
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                format!("error: the query took longer than {} ms", limits.time.as_millis())
            }
            _ => format!("error: {error}"),
        },
    }
}

fn rows(connection: &Connection, sql: &str, limits: Limits) -> rusqlite::Result<String> {
    let mut statements = rusqlite::Batch::new(connection, sql);
    let Some(mut statement) = statements.next()? else { return Ok("error: no statement".into()) };
    let alone = matches!(statements.next(), Ok(None));
    if !alone || !statement.readonly() || !begins_as_a_query(sql) {
        return Ok(REFUSED.into());
    }
    let times: Vec<bool> = statement.columns().map(|c| is_time(c.decl_type())).collect();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut output = Output::new(limits);
    output.line(&columns);
    let mut rows = statement.query([])?;
    let mut taken = 0;
    while let Some(row) = rows.next()? {
        if taken == limits.rows || !output.has_room() {
            output.more_left = true;
            break;
        }
        let mut cells = Vec::with_capacity(times.len());
        for (column, is_time) in times.iter().enumerate() {
            let text = cell(row.get_ref(column)?);
            cells.push(if *is_time { rfc3339(text) } else { text });
        }
        output.line(&cells);
        taken += 1;
    }
    Ok(output.finish())
}

fn begins_as_a_query(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    while let Some(comment) = rest.strip_prefix("--") {
        rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    matches!(
        word.to_ascii_uppercase().as_str(),
        "SELECT" | "WITH" | "EXPLAIN" | "VALUES" | "PRAGMA"
    )
}

fn is_time(declared: Option<&str>) -> bool {
    declared.is_some_and(|kind| {
        ["timestamp", "datetime", "date"].iter().any(|time| kind.eq_ignore_ascii_case(time))
    })
}

/// `2026-01-02 03:04:05` as a point in time; other texts stay as they are.
fn rfc3339(text: String) -> String {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    match shape.as_str() {
        "0000-00-00" => format!("{text}T00:00:00Z"),
        "0000-00-00 00:00:00" | "0000-00-00T00:00:00" => format!("{}Z", text.replace(' ', "T")),
        _ => text,
    }
}

fn cell(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(n) => n.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => format!("<blob {} bytes>", blob.len()),
    }
}

/// Lines within the limits; what does not fit is said, not sent.
struct Output {
    text: String,
    lines: usize,
    limits: Limits,
    more_left: bool,
    full: bool,
}

impl Output {
    fn new(limits: Limits) -> Self {
        Self { text: String::new(), lines: 0, limits, more_left: false, full: false }
    }

    fn has_room(&self) -> bool {
        !self.full && self.lines < self.limits.lines && self.text.len() < self.limits.bytes
    }

    fn line(&mut self, cells: &[String]) {
        if !self.has_room() {
            self.more_left = true;
            return;
        }
        let mut line = cells.join(" | ");
        if self.lines > 0 {
            line.insert(0, '\n');
        }
        let room = self.limits.bytes - self.text.len();
        if line.len() > room {
            let mut end = room;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            (self.more_left, self.full) = (true, true);
        }
        self.text.push_str(&line);
        self.lines += 1;
    }

    fn finish(mut self) -> String {
        if self.more_left {
            let kib = self.text.len().div_ceil(1024).max(1);
            let _ = write!(self.text, "\n... additional data cutoff ({kib} kB)");
        }
        self.text
    }
}

#[cfg(test)]
mod tests;
