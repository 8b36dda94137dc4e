//! `collodi ops`: the operator's checklist as commands with evidence.
//!
//! - [`verdict`] is what a check is and what comes out of it; [`print`] shows it; `crate::target` is a server under check.
//! - [`check`] asks running servers; its parts are in [`checks`].
//! - [`preflight`] proves binaries ([`candidate`]) on copies and looks for the [`legacy`] switch.
//! - [`rollout`] deploys with a way back.
//! - [`session`] is the person at the terminal, [`shell`] runs that person's commands.
//! - [`packet`] gathers what an escalation needs.
//! - [`database`] takes, verifies and restores snapshots; [`process`] sees who uses them.

mod candidate;
mod check;
mod checks;
mod database;
mod legacy;
mod packet;
mod preflight;
mod print;
mod process;
mod rollout;
mod session;
mod shell;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;

use database::Place;
use session::Session;

/// How far a snapshot steps back behind a server on the same processors (nice(2)): a tenth of one is left to it when servers
/// take all they can get, so that it ends.
const BEHIND_SERVERS: i32 = 10;

/// Runs a command; 0 is go, 1 is no-go.
///
/// # Errors
/// A wrong command line or configuration.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let session = Session::start(matches.subcommand_name().unwrap_or_default())?;
        let is_go = match matches.subcommand() {
            Some(("check", matches)) => check::run(matches, session).await?,
            Some(("rollout", matches)) => rollout::run(matches, session).await?,
            Some(("packet", matches)) => {
                let report = packet::run(matches, session).await?;
                print::report(matches, &report);
                report.is_go()
            }
            Some(("preflight", matches)) => {
                let place = Place::of(matches)?;
                let report =
                    preflight::run(&preflight::Plan::of(matches, &place)?, &session).await?;
                print::report(matches, &report);
                report.is_go()
            }
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
        "snapshot" => {
            // A server beside it comes first. Where that cannot be had, both take their turns as ever.
            let _ = rustix::process::nice(BEHIND_SERVERS);
            database::snapshot(&Place::of(matches)?, given("to")?).into()
        }
        "verify" => database::verify(given("from")?).into(),
        "restore" => database::restore(&Place::of(matches)?, Some(given("from")?), of_another()),
        "undo-restore" => database::restore(&Place::of(matches)?, None, false),
        other => anyhow::bail!("no command {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::verdict::Check;
    use super::{candidate, checks, database, legacy, packet, preflight, rollout};

    const ALL: [Check; 27] = [
        legacy::GONE,
        candidate::CANDIDATE,
        candidate::PREVIOUS,
        database::TAKEN,
        database::VERIFIED,
        database::STOPPED,
        database::RESTORED,
        preflight::READABLE,
        preflight::WRITABLE,
        preflight::BACKUP,
        preflight::PRESENT,
        rollout::DEPLOYED,
        rollout::ROLLED_BACK,
        checks::RELEASE_MATCH,
        checks::API_PROFILES,
        checks::API_SCHEMAS,
        checks::PROFILES_LIST,
        checks::SCHEMAS_MIDDLEWARES,
        checks::SCHEMAS_EXTENSIONS,
        checks::REFUSE_UNKNOWN,
        checks::REFUSE_CONFIG,
        checks::WRITE_PROFILE,
        checks::SELECT_COOKIE,
        checks::CHAT_PROFILE,
        checks::CHAT_SWITCH,
        checks::CLEANED_UP,
        packet::COMPLETE,
    ];

    #[test]
    fn every_check_has_its_paragraph_and_every_paragraph_its_check() {
        let text = include_str!("../../../docs/operating.md");
        let (_, checklist) = text.split_once("\n## The operator's checklist\n").unwrap();
        let mut described: Vec<&str> =
            checklist.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let mut codes: Vec<&str> = ALL.iter().map(|check| check.code).collect();
        described.sort_unstable();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(described, codes);
        for check in ALL {
            let of_line = checklist.split(&format!("### {}\n", check.code)).nth(1).unwrap();
            let expected = match check.line {
                0 => String::new(),
                line => format!("Line {line}."),
            };
            assert!(of_line.starts_with(&expected), "{}", check.code);
        }
    }
}
