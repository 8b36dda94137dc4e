//! The command line of `collodi timeline` (chapter 30 §8.5).

use clap::{Arg, ArgAction, Command};

use super::env_name;

pub(super) fn command() -> Command {
    Command::new("timeline")
        .about("Looks into the timelines of a chat database; the server may be running")
        .defer(parts)
}

fn parts(command: Command) -> Command {
    let prefix = || word("conv-id-prefix", "Only conversations whose id begins so");
    let conv_id = || word("conv-id", "The conversation");
    let rows = || count("limit", "200", "Most rows; 0 is all");
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(part("list", "Timelines, one row a conversation").args([prefix(), rows()]))
        .subcommand(part("stats", "Timelines with their entities by kind").args([prefix(), rows()]))
        .subcommand(
            part("snapshot", "The timeline of a conversation, as the server answers it").args([
                conv_id(),
                count("since-version", "0", "Entities above this version"),
                count("limit", "5000", "Most entities"),
                flag("include-entities", "Adds the entities"),
                flag("raw-json", "Adds the answer of the server"),
            ]),
        )
        .subcommand(part("entities", "Entities of a conversation").args(of_entities()))
        .subcommand(part("entity", "One entity").args([
            conv_id(),
            word("entity-id", "The entity"),
            switch("include-json", "true", "Adds the entity as it is stored"),
            switch("include-summary", "true", "Adds a line for people"),
        ]))
        .subcommand(
            part("verify", "Looks for what does not fit together; then the exit code is 1").args([
                prefix(),
                count("limit", "200", "Most issues; 0 is all"),
                flag("check-json", "Also reads every entity"),
            ]),
        )
}

fn of_entities() -> Vec<Arg> {
    let bounds = [
        "version-min",
        "version-max",
        "created-after-ms",
        "created-before-ms",
        "updated-after-ms",
        "updated-before-ms",
    ];
    let order = word("order", "version, created or updated; a leading - turns it around");
    let mut options = vec![
        word("conv-id", "The conversation"),
        word("kind", "Only this kind"),
        word("entity-id", "Only this entity"),
        count("limit", "5000", "Most rows; 0 is all"),
        order.default_value("version").allow_hyphen_values(true),
        switch("include-json", "false", "Adds the entity as it is stored"),
        switch("include-summary", "true", "Adds a line for people"),
    ];
    options.extend(bounds.map(|name| count(name, "0", "Inclusive bound; 0 is none")));
    options
}

/// One command with the options that all of them have.
fn part(name: &'static str, about: &'static str) -> Command {
    let shared = [
        ("timeline-db", "FILE", "Chat database file"),
        ("timeline-dsn", "DSN", "The same as a DSN (file:PATH)"),
        ("data-dir", "DIR", "Folder of the databases"),
    ];
    let shared = shared.map(|(name, value, help)| {
        Arg::new(name).long(name).value_name(value).env(env_name(name)).help(help)
    });
    Command::new(name).about(about).args(shared).arg(crate::output::arg())
}

fn word(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TEXT").default_value("").help(help)
}

fn count(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name("N").default_value(default).help(help);
    arg.value_parser(clap::value_parser!(i64)).allow_negative_numbers(true)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn switch(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_value(default)
        .default_missing_value("true")
        .value_parser(clap::value_parser!(bool))
        .help(help)
}
