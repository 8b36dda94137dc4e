//! `collodi ops`: the operator's checklist as commands with evidence.
//!
//! - [`verdict`] is what a check is and what comes out of it; [`print`] shows it; [`target`] is a server under check.
//! - [`check`] asks running servers; its parts are in [`checks`].

mod check;
mod checks;
mod print;
mod target;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio_util::sync::CancellationToken;

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
            _ => anyhow::bail!("no command given"),
        };
        Ok(if is_go { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
