//! What was configured: defaults, then the config file, then the environment, then the command line (decision 3).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ArgMatches;
use clap::parser::ValueSource;
use collodi_api::Described;
use collodi_models::Keys;
use collodi_profiles::settings::{Kind, SECTIONS, Settings};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use toml::{Table, Value};

use crate::cli;
use crate::redact::{MASK, Redactor};

/// The settings that this version acts upon; `config.default.toml` explains each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Values {
    pub(crate) addr: String,
    pub(crate) root: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) profile_registry_db: String,
    pub(crate) profile_registry_dsn: String,
    pub(crate) chat_db: String,
    pub(crate) chat_dsn: String,
    pub(crate) timeline_db: String,
    pub(crate) timeline_dsn: String,
    pub(crate) turns_db: String,
    pub(crate) turns_dsn: String,
    pub(crate) auth_tokens: String,
    pub(crate) allow_unauthenticated: bool,
    pub(crate) allowed_origin: Vec<String>,
    pub(crate) insecure_cookies: bool,
    pub(crate) allow_local_providers: bool,
    pub(crate) demo_pace_ms: u64,
    pub(crate) shutdown_seconds: u64,
    pub(crate) debug_api: bool,
    pub(crate) idle_timeout_seconds: u64,
    pub(crate) evict_idle_seconds: u64,
    pub(crate) evict_interval_seconds: u64,
    pub(crate) sql_tool_db: String,
    pub(crate) sql_tool_dir: String,
    pub(crate) redis_enabled: bool,
    pub(crate) snapshot_dir: String,
    pub(crate) ui_dir: String,
    pub(crate) log_level: String,
    pub(crate) log_format: String,
    pub(crate) log_file: String,
}

/// The configuration of a server, checked.
pub(crate) struct Config {
    pub(crate) values: Values,
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    /// Things the operator should know, said at start.
    pub(crate) warnings: Vec<String>,
    /// `[{name, value, origin}]` of every setting, keys masked.
    pub(crate) described: Arc<Described>,
}

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    /// Files that cannot be read, unknown keys, values of the wrong type, combinations that cannot be served.
    pub(crate) fn load(matches: &ArgMatches) -> Result<Self> {
        let mut layers: Table = cli::DEFAULTS.parse().context("read the default configuration")?;
        let mut file = Table::new();
        if let Some(path) = config_file(matches) {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            file = text.parse().with_context(|| format!("parse {}", path.display()))?;
            overlay(&mut layers, file.clone()).with_context(|| format!("in {}", path.display()))?;
        }
        overlay(&mut layers, typed(matches))?;
        let described = Arc::new(described(matches, &file, &layers));
        let (settings, keys) = provider_settings(&layers)?;
        let warnings = warnings(matches, &settings);
        let values: Values = layers.try_into().context("read the configuration")?;
        let config = Self { values, settings, keys, warnings, described };
        config.check()?;
        Ok(config)
    }

    /// What must never be written down.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let Keys { openai, responses, claude, gemini } = &self.keys;
        let given = [openai, responses, claude, gemini].into_iter().flatten();
        given.map(|key| key.expose_secret().to_owned()).collect()
    }

    fn check(&self) -> Result<()> {
        let v = &self.values;
        ensure!(
            !v.redis_enabled,
            "--redis-enabled is not available yet: run one server, or share profiles.db"
        );
        for (name, value) in [
            ("profile-registry-dsn", &v.profile_registry_dsn),
            ("profile-registry-db", &v.profile_registry_db),
            ("chat-dsn", &v.chat_dsn),
            ("chat-db", &v.chat_db),
            ("timeline-dsn", &v.timeline_dsn),
            ("turns-dsn", &v.turns_dsn),
        ] {
            let postgres =
                ["postgres://", "postgresql://"].iter().any(|p| value.trim().starts_with(p));
            ensure!(!postgres, "--{name}: PostgreSQL is not available yet, use a SQLite file");
        }
        self.chat_path()?;
        let address = self.address()?;
        let open = v.auth_tokens.is_empty() && !v.allow_unauthenticated;
        ensure!(
            address.ip().is_loopback() || !open,
            "{address} can be reached from other machines, and nobody has to authenticate. Either give tokens \
             (--auth-tokens FILE), or say that this is meant (--allow-unauthenticated)"
        );
        ensure!(
            ["text", "json"].contains(&v.log_format.as_str()),
            "--log-format must be text or json"
        );
        Ok(())
    }

    /// Where to listen. `:8080` means all addresses, as it does in Go.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        use std::net::ToSocketAddrs;
        let text = match self.values.addr.trim() {
            port if port.starts_with(':') => format!("0.0.0.0{port}"),
            text => text.to_owned(),
        };
        text.to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .ok_or_else(|| anyhow!("--addr {text}: expected HOST:PORT"))
    }

    /// The mount prefix without a trailing slash; empty for none.
    pub(crate) fn root(&self) -> String {
        match self.values.root.trim().trim_matches('/') {
            "" => String::new(),
            inner => format!("/{inner}"),
        }
    }

    /// The registry's database file.
    pub(crate) fn profiles_path(&self) -> PathBuf {
        let v = &self.values;
        match (path_of_dsn(&v.profile_registry_dsn), v.profile_registry_db.trim()) {
            (Some(path), _) => path,
            (None, "") => v.data_dir.join("profiles.db"),
            (None, path) => path.into(),
        }
    }

    /// The chat database file; its three names must agree (decision 5).
    pub(crate) fn chat_path(&self) -> Result<PathBuf> {
        let v = &self.values;
        let mut chosen: Option<PathBuf> = None;
        let names = [
            ("chat", &v.chat_dsn, &v.chat_db),
            ("timeline", &v.timeline_dsn, &v.timeline_db),
            ("turns", &v.turns_dsn, &v.turns_db),
        ];
        for (name, dsn, db) in names {
            let path = match (path_of_dsn(dsn), db.trim()) {
                (None, "") => continue,
                (Some(path), _) => path,
                (None, path) => PathBuf::from(path),
            };
            match &chosen {
                Some(other) if *other != path => bail!(
                    "--{name}-db names {} but another name of the chat database names {}: conversations, turns and \
                     timeline are one database here",
                    path.display(),
                    other.display()
                ),
                _ => chosen = Some(path),
            }
        }
        Ok(chosen.unwrap_or_else(|| v.data_dir.join("chat.db")))
    }
}

fn config_file(matches: &ArgMatches) -> Option<PathBuf> {
    if let Some(path) = matches.get_one::<String>("config-file") {
        return Some(path.into());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(folder.join("collodi/config.toml")).filter(|path| path.is_file())
}

/// Lays one table over another; unknown keys are errors, so that a misspelt one is not silently without effect.
fn overlay(below: &mut Table, above: Table) -> Result<()> {
    for (key, value) in above {
        let Some(slot) = below.get_mut(&key) else { bail!("unknown setting {key}") };
        match (slot, value) {
            (Value::Table(below), Value::Table(above)) => below.extend(above),
            (slot, value) if slot.same_type(&value) => *slot = value,
            (slot, value) => {
                bail!("{key} must be a {}, not a {}", slot.type_str(), value.type_str())
            }
        }
    }
    Ok(())
}

/// The layer of command line and environment.
fn typed(matches: &ArgMatches) -> Table {
    let given = |name: &str| {
        matches!(
            cli::source_of(matches, name),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    };
    let mut layer = Table::new();
    for setting in cli::settings().iter().filter(|setting| given(&setting.name)) {
        let name = &setting.name;
        let value = match setting.default {
            Value::Boolean(_) => matches.get_one::<bool>(name).map(|b| Value::Boolean(*b)),
            Value::Integer(_) => matches.get_one::<i64>(name).map(|n| Value::Integer(*n)),
            Value::Array(_) => matches
                .get_many::<String>(name)
                .map(|all| Value::Array(all.cloned().map(Value::String).collect())),
            _ => matches.get_one::<String>(name).map(|text| Value::String(text.clone())),
        };
        layer.extend(value.map(|value| (name.clone(), value)));
    }
    for (section, fields) in SECTIONS {
        let mut table = Table::new();
        for field in *fields {
            let typed =
                if given(field.name) { matches.get_one::<String>(field.name) } else { None };
            let typed = typed.cloned().or_else(|| vendor_key(field.name));
            table.extend(typed.map(|text| (field.name.to_owned(), Value::String(text))));
        }
        layer.insert((*section).to_owned(), Value::Table(table));
    }
    layer
}

/// Keys are also read from the names that the vendors' own tools use.
fn vendor_key(field: &str) -> Option<String> {
    let name = match field {
        "openai-api-key" => "OPENAI_API_KEY",
        "claude-api-key" => "ANTHROPIC_API_KEY",
        "gemini-api-key" => "GEMINI_API_KEY",
        _ => return None,
    };
    std::env::var(name).ok().filter(|key| !key.trim().is_empty())
}

fn provider_settings(layers: &Table) -> Result<(Settings, Keys)> {
    let (mut settings, mut keys) = (Settings::default(), Keys::default());
    for (section, fields) in SECTIONS {
        let Some(Value::Table(table)) = layers.get(*section) else { continue };
        for (name, value) in table {
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                bail!("unknown setting {section}.{name}");
            };
            if field.kind == Kind::Secret {
                let key =
                    value.as_str().ok_or_else(|| anyhow!("{section}.{name} must be a string"))?;
                let key = Some(key.trim()).filter(|key| !key.is_empty()).map(SecretString::from);
                match field.name {
                    "openai-api-key" => keys.openai = key,
                    "openai-responses-api-key" => keys.responses = key,
                    "claude-api-key" => keys.claude = key,
                    _ => keys.gemini = key,
                }
                continue;
            }
            let value = serde_json::to_value(value)?;
            settings.set(name, &value).map_err(|reason| anyhow!("{section}.{name}: {reason}"))?;
        }
    }
    Ok((settings, keys))
}

/// Every setting with where its value comes from.
fn described(matches: &ArgMatches, file: &Table, layers: &Table) -> Described {
    let origin = |name: &str, in_file: bool| match cli::source_of(matches, name) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        _ if vendor_key(name).is_some() => "environment",
        _ if in_file => "file",
        _ => "default",
    };
    let settings = cli::settings().iter().map(|setting| {
        let name = &setting.name;
        let origin = origin(name, file.contains_key(name));
        json!({"name": name, "value": layers.get(name), "origin": origin})
    });
    let provider = SECTIONS.iter().flat_map(|(section, fields)| {
        let of = |table: &Table, name: &str| table.get(*section)?.get(name).cloned();
        fields.iter().map(move |field| {
            let value = of(layers, field.name);
            let shown = match value.as_ref().and_then(Value::as_str) {
                Some(text) if field.kind == Kind::Secret && !text.is_empty() => json!(MASK),
                _ => value.map_or_else(|| json!(field.default), |value| json!(value)),
            };
            let origin = origin(field.name, of(file, field.name).is_some());
            json!({"name": field.name, "section": section, "value": shown, "origin": origin})
        })
    });
    let mut all: serde_json::Value = settings.chain(provider).collect();
    Described::new(Box::new(move || {
        // Addresses of databases and providers may hold a password.
        Redactor::default().json(&mut all);
        all
    }))
}

fn warnings(matches: &ArgMatches, settings: &Settings) -> Vec<String> {
    let typed = |name: &str| cli::source_of(matches, name) == Some(ValueSource::CommandLine);
    let mut warnings = Vec::new();
    for setting in cli::settings() {
        if setting.name.starts_with("logstash-") && typed(&setting.name) {
            warnings.push(format!(
                "--{} has no effect: logs go to standard error or a file",
                setting.name
            ));
        }
    }
    for field in
        SECTIONS.iter().flat_map(|(_, fields)| fields.iter()).filter(|field| !field.effective)
    {
        if settings.is_set(field.name) {
            warnings.push(format!("{} has no effect", field.name));
        }
    }
    warnings
}

/// `file:PATH?options`, or a path as it is. Options of other drivers are not needed and ignored.
fn path_of_dsn(dsn: &str) -> Option<PathBuf> {
    let dsn = dsn.trim();
    if dsn.is_empty() {
        return None;
    }
    match dsn.strip_prefix("file:") {
        Some(rest) => Some(rest.split('?').next().unwrap_or(rest).into()),
        None => Some(dsn.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Config> {
        let line = ["collodi", "serve", "--config-file", "/dev/null"].iter().chain(args);
        let matches = cli::command().try_get_matches_from(line).map_err(|e| anyhow!("{e}"))?;
        let (_, matches) = matches.subcommand().unwrap();
        Config::load(matches)
    }

    fn refusal(args: &[&str]) -> String {
        format!("{:#}", load(args).err().unwrap())
    }

    #[test]
    fn defaults_serve_on_loopback_from_the_data_folder() {
        let config = load(&[]).unwrap();
        assert_eq!(config.address().unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(config.profiles_path(), Path::new("./data/profiles.db"));
        assert_eq!(config.chat_path().unwrap(), Path::new("./data/chat.db"));
        assert_eq!(config.root(), "");
    }

    #[test]
    fn an_address_that_others_reach_needs_tokens_or_a_word() {
        for addr in ["0.0.0.0:1", ":1", "[::]:1"] {
            let text = refusal(&["--addr", addr]);
            assert!(
                text.contains("--auth-tokens FILE") && text.contains("--allow-unauthenticated"),
                "{text}"
            );
            assert!(load(&["--addr", addr, "--allow-unauthenticated"]).is_ok());
        }
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        assert!(refusal(&["--redis-enabled"]).contains("--redis-enabled is not available yet"));
        let dsn = ["--profile-registry-dsn", "postgres://x/y"];
        assert!(refusal(&dsn).contains("PostgreSQL is not available yet"));
    }

    #[test]
    fn the_chat_database_has_one_file_under_all_its_names() {
        let config =
            load(&["--timeline-db", "a.db", "--turns-dsn", "file:a.db?_journal_mode=WAL"]).unwrap();
        assert_eq!(config.chat_path().unwrap(), Path::new("a.db"));
        assert!(
            refusal(&["--timeline-db", "a.db", "--turns-db", "b.db"])
                .contains("are one database here")
        );
    }

    #[test]
    fn provider_settings_are_typed_and_keys_are_kept_apart() {
        let config = load(&["--ai-temperature", "0.5", "--openai-api-key", "sk-canary"]).unwrap();
        assert_eq!(config.settings.get("ai-temperature"), Some(0.5.into()));
        assert!(config.keys.openai.is_some());
        let config = load(&["--openai-responses-api-key", "sk-canary"]).unwrap();
        assert!(config.keys.openai.is_none() && config.keys.responses.is_some());
        assert!(!format!("{:?} {:?}", config.settings, config.keys).contains("sk-canary"));
        assert!(
            refusal(&["--ai-temperature", "warm"])
                .contains("Invalid value for field ai-temperature")
        );
    }

    #[test]
    fn every_setting_is_described_with_its_origin_and_keys_are_masked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "root = \"/x\"\n[ai-chat]\nai-engine = \"m\"\n").unwrap();
        let line = ["collodi", "serve", "--config-file", path.to_str().unwrap()];
        let typed = ["--addr", "127.0.0.1:1", "--openai-api-key", "sk-canary"];
        let matches = cli::command().try_get_matches_from(line.iter().chain(&typed)).unwrap();
        let config = Config::load(matches.subcommand().unwrap().1).unwrap();
        let of = |name: &str| {
            let all = config.described.as_array().unwrap();
            let found = all.iter().find(|item| item["name"] == name).unwrap();
            (found["value"].clone(), found["origin"].as_str().unwrap().to_owned())
        };
        for (name, value, origin) in [
            ("addr", json!("127.0.0.1:1"), "flag"),
            ("root", json!("/x"), "file"),
            ("log-level", json!("info"), "default"),
            ("ai-engine", json!("m"), "file"),
            ("openai-api-key", json!("***"), "flag"),
        ] {
            assert_eq!(of(name), (value, origin.to_owned()), "{name}");
        }
        assert!(!config.described.to_string().contains("sk-canary"));
        assert_eq!(config.secrets(), ["sk-canary"]);
    }

    #[test]
    fn a_file_is_below_the_command_line_and_misspelt_keys_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let file = |text: &str| std::fs::write(&path, text).unwrap();
        let with = |args: &[&str]| {
            let line = ["collodi", "serve", "--config-file", path.to_str().unwrap()];
            let matches = cli::command().try_get_matches_from(line.iter().chain(args)).unwrap();
            Config::load(matches.subcommand().unwrap().1).map_err(|e| format!("{e:#}"))
        };
        file("root = \"/x/\"\ndata-dir = \"d\"\n[ai-chat]\nai-engine = \"m\"\n");
        let config = with(&["--data-dir", "e"]).unwrap();
        assert_eq!((config.root(), config.values.data_dir), ("/x".into(), "e".into()));
        assert_eq!(config.settings.text("ai-engine").as_deref(), Some("m"));
        for (text, part) in [
            ("adr = \"x\"", "unknown setting adr"),
            ("addr = 5", "addr must be a string, not a integer"),
            ("[ai-chat]\nai-engin = \"x\"", "unknown setting ai-chat.ai-engin"),
        ] {
            file(text);
            let error = with(&[]).err().unwrap();
            assert!(error.contains(part), "{error}");
        }
    }
}
