//! `collodi ops`: the operator's checklist as commands with evidence.
//!
//! - [`verdict`] is what a check is and what comes out of it; [`print`] shows it; [`target`] is a server under check.
//! - [`check`] asks running servers; its parts are in [`checks`].
//! - [`database`] takes, verifies and restores snapshots; [`process`] sees who uses them.

mod check;
mod checks;
mod database;
mod print;
mod process;
mod target;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio_util::sync::CancellationToken;

use database::Place;

/// `collodi ops` and what stands below it.
pub(crate) fn command() -> Command {
    Command::new("ops")
        .about("The operator's checklist: proves that a server is ready, or says what is not (0 go, 1 no-go, 2 usage)")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Checks running servers: profiles, schemas, refusals, writes, chats")
                .after_long_help(CHECK_EXAMPLES)
                .arg(target_arg().required(true))
                .arg(token_arg())
                .arg(
                    Arg::new("baseline")
                        .long("baseline")
                        .value_name("FILE")
                        .help("What GET /api/chat/profiles should answer, or a JSON list of slugs"),
                )
                .arg(
                    Arg::new("watch")
                        .long("watch")
                        .action(ArgAction::SetTrue)
                        .help("Checks again every 10 seconds, until interrupted"),
                )
                .arg(print::arg()),
        )
        .subcommand(
            Command::new("snapshot")
                .about("Takes a snapshot of the databases, also while servers use them, and reads it back")
                .args(place_args())
                .arg(path_arg("to", "DIR", "New folder for the snapshot").required(true))
                .arg(print::arg()),
        )
        .subcommand(
            Command::new("verify")
                .about("Compares a snapshot with its manifest, and its databases with what they should be")
                .arg(path_arg("from", "DIR", "Folder of the snapshot").required(true))
                .arg(print::arg()),
        )
        .subcommand(
            Command::new("restore")
                .about("Puts a snapshot in the place of the databases; servers must be stopped; what is replaced is kept")
                .args(place_args())
                .arg(path_arg("from", "DIR", "Folder of the snapshot").required(true))
                .arg(
                    Arg::new("of-another-database")
                        .long("of-another-database")
                        .action(ArgAction::SetTrue)
                        .help("Also if the snapshot was taken of another database"),
                )
                .arg(print::arg()),
        )
        .subcommand(
            Command::new("undo-restore")
                .about("Puts back what the last restore replaced; servers must be stopped")
                .args(place_args())
                .arg(print::arg()),
        )
}

/// `--data-dir`, or a registry file alone, which may be one of the Go reference.
fn place_args() -> [Arg; 2] {
    [
        path_arg("data-dir", "DIR", "Folder of the databases").env("COLLODI_DATA_DIR"),
        path_arg(
            "profile-registry-db",
            "FILE",
            "A registry database alone, ours or of the Go reference, in the place of --data-dir",
        ),
    ]
}

fn path_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

const CHECK_EXAMPLES: &str = "Examples:
  collodi ops check --target http://127.0.0.1:8080
  curl -s http://127.0.0.1:8080/api/chat/profiles > expected.json
  collodi ops check --target http://127.0.0.1:8080 --baseline expected.json --output junit

Two profiles and two conversations named ops-check-... are made and deleted again; three short prompts are sent.";

fn target_arg() -> Arg {
    Arg::new("target")
        .long("target")
        .value_name("URL")
        .action(ArgAction::Append)
        .help("Address of a server, with its prefix; several make a release set")
}

fn token_arg() -> Arg {
    Arg::new("token")
        .long("token")
        .value_name("TOKEN")
        .env("COLLODI_TOKEN")
        .hide_env_values(true)
        .help("Sent as a bearer token to every target")
}

/// Runs a command; 0 is go, 1 is no-go.
///
/// # Errors
/// A wrong command line or configuration.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        interrupt(&cancel)?;
        let is_go = match matches.subcommand() {
            Some(("check", matches)) => check::run(matches, cancel).await?,
            Some((name, matches)) => {
                let report = on_databases(name, matches)?;
                print::report(matches, &report);
                report.is_go()
            }
            None => anyhow::bail!("no command given"),
        };
        Ok(if is_go { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// What works on files, and is finished before it looks at signals.
fn on_databases(name: &str, matches: &ArgMatches) -> Result<verdict::Report> {
    let folder = |name: &str| matches.get_one::<String>(name).map(Path::new);
    let given = |name: &str| folder(name).with_context(|| format!("give --{name} DIR"));
    let of_another = || matches.get_flag("of-another-database");
    Ok(match name {
        "snapshot" => database::snapshot(&Place::of(matches)?, given("to")?).into(),
        "verify" => database::verify(given("from")?).into(),
        "restore" => database::restore(&Place::of(matches)?, Some(given("from")?), of_another()),
        "undo-restore" => database::restore(&Place::of(matches)?, None, false),
        other => anyhow::bail!("no command {other}"),
    })
}

/// The first signal ends what runs in good order, the second at once.
fn interrupt(cancel: &CancellationToken) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = cancel.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancel.is_cancelled() {
                at_once();
            }
            cancel.cancel();
        }
    });
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "whoever asks twice does not want to wait")]
fn at_once() -> ! {
    std::process::exit(130)
}
