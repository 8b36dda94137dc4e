//! The log: standard error or a file, text or JSON, and the newest lines in memory for operators. Secrets that the server
//! was given are taken out of all of them.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use collodi_api::logs::{Line, Ring};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::Config;
use crate::redact::Redactor;

/// Starts the log; its newest lines are in the ring from then on.
///
/// # Errors
/// An unknown level, or a file that cannot be opened.
pub(crate) fn start(config: &Config) -> Result<Arc<Ring>> {
    let v = &config.values;
    let level = match v.log_level.trim().to_ascii_lowercase().as_str() {
        "fatal" => "error".to_owned(),
        level @ ("trace" | "debug" | "info" | "warn" | "error") => level.to_owned(),
        other => {
            return Err(anyhow!(
                "--log-level {other}: expected trace, debug, info, warn, error or fatal"
            ));
        }
    };
    let filter = EnvFilter::new(format!(
        "warn,collodi={level},collodi_api={level},collodi_chat={level},collodi_models={level},collodi_profiles={level},collodi_store={level}"
    ));
    let redactor = Arc::new(Redactor::new(config.secrets()));
    let writer = match v.log_file.as_str() {
        "" => BoxMakeWriter::new(io::stderr),
        path => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            BoxMakeWriter::new(Mutex::new(file.with_context(|| format!("open {path}"))?))
        }
    };
    let writer = Redacting { to: writer, redactor: redactor.clone() };
    let colour = v.log_file.is_empty() && io::stderr().is_terminal();
    let ring = Arc::new(Ring::default());
    let keep = Keep { ring: ring.clone(), redactor };
    let log = fmt::layer().with_writer(writer).with_ansi(colour);
    let base = tracing_subscriber::registry().with(filter).with(keep);
    if v.log_format == "json" {
        base.with(log.json().flatten_event(true)).init();
    } else {
        base.with(log).init();
    }
    Ok(ring)
}

/// A writer of lines without secrets. A line is written in one piece.
struct Redacting {
    to: BoxMakeWriter,
    redactor: Arc<Redactor>,
}

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Clean<'a>;

    fn make_writer(&'a self) -> Clean<'a> {
        Clean { to: self.to.make_writer(), redactor: &self.redactor }
    }
}

struct Clean<'a> {
    to: Box<dyn Write + 'a>,
    redactor: &'a Redactor,
}

impl Write for Clean<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.to.write_all(self.redactor.known(text).as_bytes())?,
            Err(_) => self.to.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Puts every line into the ring.
struct Keep {
    ring: Arc<Ring>,
    redactor: Arc<Redactor>,
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen { redactor: &self.redactor, fields: Map::new(), bytes: 64 };
        event.record(&mut seen);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        let at_ms = crate::assemble::now_ms();
        let target = metadata.target().to_owned();
        self.ring.push(seen.bytes, Line { at_ms, level, target, fields: seen.fields });
    }
}

/// The fields of an event.
struct Seen<'a> {
    redactor: &'a Redactor,
    fields: Map<String, Value>,
    bytes: usize,
}

impl Seen<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.bytes += 32 + field.name().len() + value.as_str().map_or(8, str::len);
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Seen<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let clean = self.redactor.known(value).into_owned();
        self.put(field, clean.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
