//! What can be typed. The flags are read off `config.default.toml`, so that a setting has one home: its key, its default
//! and its sentence; provider settings come from the table that profiles are validated with.

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use collodi_profiles::settings::{Kind, SECTIONS};
use toml::Value;

mod ops;
mod profiles;
mod timeline;

/// The lowest layer, compiled in.
pub(crate) const DEFAULTS: &str = include_str!("../../../config.default.toml");

/// One setting of the default file.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) default: Value,
}

/// The settings in the order of the file, with the comment above each as its help.
pub(crate) fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(read_settings);
    &SETTINGS
}

fn read_settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut help = String::new();
    let mut defaults: toml::Table = DEFAULTS.parse().unwrap_or_default();
    for line in DEFAULTS.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            comment.trim().clone_into(&mut help);
        } else if let Some((name, _)) = line.split_once(" = ")
            && let Some(default) = defaults.remove(name)
        {
            let help = std::mem::take(&mut help);
            settings.push(Setting { name: name.to_owned(), help, default });
        }
    }
    settings
}

/// What was typed, or the end of the program with what is wrong about it. A start makes only the flags that were typed or
/// set, because a hundred of them take time that every start would pay. Who asks for help, or types what there is not, meets
/// them all.
pub(crate) fn matches() -> ArgMatches {
    let typed = std::env::args_os().collect::<Vec<_>>();
    matches_of(&typed).unwrap_or_else(|_| command().get_matches())
}

fn matches_of(typed: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let is_typed = |name: &str| {
        let words = typed.iter().filter_map(|word| word.to_str()?.strip_prefix("--"));
        let mut rests = words.filter_map(|word| word.strip_prefix(name));
        rests.any(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let is_given = |name: &str| is_typed(name) || std::env::var_os(env_name(name)).is_some();
    command_with(&is_given).try_get_matches_from(typed)
}

/// Where the value of a flag comes from; nowhere, if it was not made.
pub(crate) fn source_of(matches: &ArgMatches, flag: &str) -> Option<ValueSource> {
    matches.try_contains_id(flag).ok()?;
    matches.value_source(flag)
}

/// The whole command line. What stands below a command is made when that command was typed.
pub(crate) fn command() -> Command {
    command_with(&|_| true)
}

/// The same with those flags of `serve` that `is_made` names.
fn command_with(is_made: &dyn Fn(&str) -> bool) -> Command {
    Command::new("collodi")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted chat backend with a profile registry at its heart")
        .after_help("Start with `collodi serve`, then open the address that it prints. `collodi serve --help` has examples.")
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(serve(is_made))
        .subcommand(profiles::command())
        .subcommand(timeline::command())
        .subcommand(import())
        .subcommand(ops::command())
        .subcommand(
            Command::new("completions")
                .about("Prints the completions of a shell: collodi completions bash > /etc/bash_completion.d/collodi")
                .arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell))),
        )
        .subcommand(
            Command::new("man")
                .about("Prints the manual page, or writes the pages of all commands into a folder")
                .arg(Arg::new("to").long("to").value_name("DIR").help("Folder for the pages")),
        )
}

fn import() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("import")
        .about("Takes conversations over from databases of the Go reference; the server must be stopped")
        .arg(option("timeline-db", "FILE", "Its timeline database; it is not changed"))
        .arg(option("turns-db", "FILE", "Its turn database; it is not changed"))
        .arg(
            option("data-dir", "DIR", "Folder of our databases [default: ./data]")
                .env("COLLODI_DATA_DIR"),
        )
        .arg(
            option("chat-db", "FILE", "Chat database file [default: chat.db in the folder]")
                .env("COLLODI_CHAT_DB"),
        )
        .arg(crate::output::arg())
}

fn serve(is_made: &dyn Fn(&str) -> bool) -> Command {
    let command = Command::new("serve")
        .visible_alias("web-chat")
        .args_override_self(true)
        .about("Serves profiles and chats")
        .after_long_help(EXAMPLES)
        .arg(
            Arg::new("config-file")
                .long("config-file")
                .value_name("FILE")
                .env("COLLODI_CONFIG_FILE")
                .help("Config file (TOML); without it collodi/config.toml in your configuration folder, if it exists"),
        );
    let settings = settings().iter().filter(|setting| is_made(&setting.name));
    let command = settings.fold(command, |command, setting| command.arg(flag(setting)));
    let provider =
        SECTIONS.iter().flat_map(|(section, fields)| fields.iter().map(move |f| (*section, f)));
    let provider = provider.filter(|(_, field)| is_made(field.name));
    provider.fold(command, |command, (section, field)| {
        let note = if field.effective { "" } else { "; accepted without effect" };
        let secret = field.kind == Kind::Secret;
        let default = field
            .default
            .filter(|text| !text.is_empty())
            .map_or(String::new(), |d| format!(" [default: {d}]"));
        command.arg(
            Arg::new(field.name)
                .long(field.name)
                .env(env_name(field.name))
                .hide_env_values(secret)
                .hide_short_help(true)
                .value_name("VALUE")
                .allow_hyphen_values(true)
                .help_heading(section)
                .help(format!("Provider setting {section}.{}{default}{note}", field.name)),
        )
    })
}

fn flag(setting: &Setting) -> Arg {
    let arg = Arg::new(setting.name.clone())
        .long(setting.name.clone())
        .env(env_name(&setting.name))
        .help(format!("{} [default: {}]", setting.help, shown(&setting.default)));
    match setting.default {
        Value::Boolean(_) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(clap::builder::BoolishValueParser::new())
            .hide_possible_values(true),
        Value::Integer(_) => arg.value_name("N").value_parser(clap::value_parser!(i64)),
        Value::Array(_) => arg.value_name("VALUE").action(ArgAction::Append),
        _ => arg.value_name("VALUE"),
    }
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "none".into(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `addr` is `COLLODI_ADDR`.
pub(crate) fn env_name(flag: &str) -> String {
    format!("COLLODI_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

const EXAMPLES: &str = "Examples:
  collodi serve
      On 127.0.0.1:8080, databases in ./data, offline demo model.
  OPENAI_API_KEY=sk-... collodi serve --ai-engine gpt-4o-mini
      Answers come from OpenAI; keys are never stored, logged or sent anywhere else.
  collodi serve --openai-base-url http://127.0.0.1:11434/v1 --ai-engine llama3.2
      Any server that speaks the OpenAI format: Ollama, vLLM, LiteLLM.
  collodi serve --addr 0.0.0.0:8080 --auth-tokens tokens.txt
      Reachable from other machines, callers authenticate. A line of tokens.txt is
      name:role:sha256, for example from: printf %s \"$TOKEN\" | sha256sum
  collodi serve --profile-registry-db /srv/shared/profiles.db --data-dir /srv/second
      A second server on the same profiles.

Exit codes: 0 stopped, 1 failed, 2 wrong command line or configuration.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_that_nobody_typed_are_not_made_and_the_others_mean_the_same() {
        let line = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();
        let typed = line(
            "collodi serve --addr=127.0.0.1:1 --ai-engine --root --openai-api-key k --debug-api",
        );
        let few = matches_of(&typed).unwrap();
        let all = command().try_get_matches_from(&typed).unwrap();
        let [(_, few), (_, all)] = [&few, &all].map(|matches| matches.subcommand().unwrap());
        let fields = SECTIONS.iter().flat_map(|(_, fields)| fields.iter()).map(|field| field.name);
        for name in settings().iter().map(|setting| &*setting.name).chain(fields) {
            assert_eq!(source_of(few, name), source_of(all, name), "{name}");
            let raw = |matches: &ArgMatches| -> Option<Vec<OsString>> {
                let raw = matches.try_get_raw(name).ok().flatten()?;
                Some(raw.map(OsString::from).collect())
            };
            assert_eq!(raw(few), raw(all), "{name}");
        }
        assert_eq!(few.get_one::<String>("ai-engine").unwrap(), "--root");
        assert!(few.try_contains_id("ai-temperature").is_err());
        for wrong in ["serve --addr", "serve --ad x", "serve --help", "serve x", ""] {
            assert!(matches_of(&line(&format!("collodi {wrong}"))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_setting_of_the_default_file_is_a_flag_with_a_sentence() {
        let table: toml::Table = DEFAULTS.parse().unwrap();
        let keys: Vec<&str> =
            table.iter().filter(|(_, v)| !v.is_table()).map(|(k, _)| k.as_str()).collect();
        let settings = settings();
        assert_eq!(settings.len(), keys.len());
        for setting in settings {
            assert!(setting.help.ends_with('.'), "{}: {}", setting.name, setting.help);
            assert_eq!(table[&setting.name], setting.default);
        }
    }
}
