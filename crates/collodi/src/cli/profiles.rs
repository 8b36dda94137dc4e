//! `collodi profiles` and what stands below it.

use clap::{Arg, ArgAction, Command, value_parser};

pub(super) fn command() -> Command {
    Command::new("profiles")
        .about("Profiles as code: looks at them, compares and applies files, takes changes back")
        .defer(parts)
}

fn parts(command: Command) -> Command {
    command
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([list(), show(), history(), diff(), restore(), edit()])
        .subcommands([export(), validate(), plan(), apply(), import(), migrate_legacy()])
}

const EXAMPLES: &str = "Examples:
  collodi profiles export --to profiles.yaml
  collodi profiles plan profiles.yaml --prune
  collodi profiles apply profiles.yaml --prune --expect 12 --note 'ticket 7'
  collodi profiles history analyst --target http://127.0.0.1:8080
  collodi profiles restore analyst --version 3

Without --target it works on the database in --data-dir, which a server may be using.
Exit codes: 0 done, 1 failed; of plan, diff and validate: 0 nothing found, 1 something found, 2 failed.";

fn list() -> Command {
    Command::new("list")
        .about("Lists the profiles of a registry")
        .args(place())
        .arg(crate::output::arg())
}

fn show() -> Command {
    Command::new("show")
        .about("Prints a profile, as it is or as it was")
        .arg(slug())
        .arg(number("version", "An earlier version"))
        .args(place())
        .arg(form(&["yaml", "json"]))
}

fn history() -> Command {
    Command::new("history")
        .about("Lists the changes of a profile, the newest first, also of a deleted one")
        .arg(slug())
        .arg(number("limit", "Most changes, at most 1000 [default: 50]"))
        .args(place())
        .arg(crate::output::arg())
}

fn diff() -> Command {
    Command::new("diff")
        .about("Shows by field what changed between two versions of a profile")
        .arg(slug())
        .arg(number("from", "The earlier version [default: the one before]"))
        .arg(number("to", "The later version [default: the newest]"))
        .args(place())
        .arg(form(&["table", "json"]))
}

fn restore() -> Command {
    Command::new("restore")
        .about("Makes a profile again what it was: a new version; also brings back a deleted one")
        .arg(slug())
        .arg(number("version", "What it shall be again").required(true))
        .arg(number("expect", "Only if this is its version now [default: the one just read]"))
        .arg(note())
        .args(place())
}

fn edit() -> Command {
    Command::new("edit")
        .about(
            "Opens a profile in $VISUAL or $EDITOR, and stores what was saved if the rules agree",
        )
        .arg(slug())
        .arg(note())
        .args(place())
}

fn export() -> Command {
    Command::new("export")
        .about("Writes all profiles as one YAML bundle; the server may be running")
        .arg(option("to", "FILE", "File to write, replaced as a whole [default: standard output]"))
        .args(place())
}

fn validate() -> Command {
    Command::new("validate")
        .about("Runs every rule over a file, without server or database")
        .arg(file())
        .arg(registry())
        .arg(local())
}

fn plan() -> Command {
    Command::new("plan")
        .about("Says what an apply would change, field by field; ends with 1 if that is anything")
        .arg(file())
        .arg(prune())
        .args(place())
        .arg(form(&["table", "json"]))
}

fn apply() -> Command {
    Command::new("apply")
        .about("Makes registries what a file says, in one transaction")
        .arg(file())
        .arg(prune())
        .arg(number("expect", "Only if the database is at this revision, as plan says it"))
        .arg(note())
        .args(place())
        .arg(form(&["table", "json"]))
}

fn import() -> Command {
    Command::new("import")
        .about(
            "Adds the profiles of a file that are not there yet, and leaves the others as they are",
        )
        .arg(file())
        .arg(note())
        .args(place())
        .arg(form(&["table", "json"]))
}

fn migrate_legacy() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("migrate-legacy")
        .about("Rewrites a file of the Go reference's old form as a bundle of registries")
        .arg(option(
            "input",
            "FILE",
            "The old file [default: pinocchio/profiles.yaml in your configuration folder]",
        ))
        .arg(option("output", "FILE", "The new file [default: the old name with .registry.yaml]"))
        .arg(option("registry", "SLUG", "Registry of the profiles").default_value("default"))
        .arg(switch("in-place", "Replaces the old file"))
        .arg(
            Arg::new("backup-in-place")
                .long("backup-in-place")
                .help("Keeps the replaced file beside itself, as .bak")
                .num_args(0..=1)
                .require_equals(true)
                .default_value("true")
                .default_missing_value("true")
                .value_parser(value_parser!(bool)),
        )
        .arg(switch("force", "Replaces an output that is there"))
        .arg(switch(
            "dry-run",
            "Prints the bundle and writes nothing; keys of providers are masked",
        ))
        .arg(switch("skip-if-not-legacy", "Does nothing to files that have the new form"))
}

/// A server, or a database.
fn place() -> [Arg; 6] {
    [
        option("target", "URL", "Address of a server, with its prefix"),
        option("token", "TOKEN", "Sent as a bearer token to the server")
            .env("COLLODI_TOKEN")
            .hide_env_values(true),
        option("data-dir", "DIR", "Folder of the databases [default: ./data]")
            .env("COLLODI_DATA_DIR"),
        option(
            "profile-registry-db",
            "FILE",
            "Registry database file [default: profiles.db in the folder]",
        )
        .env("COLLODI_PROFILE_REGISTRY_DB"),
        registry(),
        local(),
    ]
}

fn registry() -> Arg {
    option("registry", "SLUG", "Registry [default: default; of an export all]")
}

fn local() -> Arg {
    Arg::new("allow-local-providers")
        .long("allow-local-providers")
        .action(ArgAction::SetTrue)
        .help("Profiles may name providers on this machine, as with serve; for files and databases")
}

fn slug() -> Arg {
    Arg::new("slug").value_name("PROFILE").required(true).help("Slug of the profile")
}

fn file() -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .required(true)
        .help("YAML in any of the three forms; - is standard input")
}

fn prune() -> Arg {
    Arg::new("prune")
        .long("prune")
        .action(ArgAction::SetTrue)
        .help("Deletes the profiles that a file made and this one does not have")
}

fn note() -> Arg {
    option("note", "TEXT", "Why, for the history")
}

fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, "N", help).value_parser(value_parser!(u64))
}

fn form(forms: &[&'static str]) -> Arg {
    option("output", "FORMAT", "Form of the answer")
        .default_value(forms.first().copied().unwrap_or("table"))
        .value_parser(forms.to_vec())
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}
