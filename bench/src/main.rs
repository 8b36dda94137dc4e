//! The benchmark suite: ratios against limits that run in the same round, and counts that do not depend on the machine.
//! `README.md` says what is measured and how to read it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints results")]
#![expect(clippy::cast_precision_loss, reason = "counts become ratios")]

mod callgrind;
mod counts;
mod histogram;
mod limits;
mod load;
mod provider;
mod report;
mod requests;
mod rounds;
mod rows;
mod sample;
mod server;
mod settings;
mod subject;
mod twin;
mod watch;

use std::process::ExitCode;

use anyhow::{Result, bail};

use report::Report;
use sample::Seeds;
use settings::{LOAD_CORE, Settings};

const USAGE: &str = "usage: collodi-bench all|b1|b2|b3|b4|b5|b6|b7|b8|b9|b10|b11|b12|counts|check
  all     every row, about an hour at the default length
  b1..b12 one row
  counts  instructions and bytes of whole requests, under valgrind
  check   the cheap counts, without any timing: fails when growth exceeds its bound";

type Run = fn(&Settings, &Seeds, &mut Report) -> Result<()>;

/// In the order of `all`.
const ROWS: [(&str, Run); 15] = [
    ("b1", rows::get::run),
    ("b2", rows::list::run),
    ("b3", rows::write::run),
    ("b4", rows::resolve::run),
    ("b5", rows::first_frame::run),
    ("b6", rows::fanout::run),
    ("b7", rows::message::run),
    ("b8", rows::idle::run),
    ("b9", rows::start::run),
    ("b10", rows::hydrate::run),
    ("b11", rows::tool_loop::run),
    ("b12", rows::recovery::run),
    ("b12", rows::snapshot::run),
    ("check", counts::check),
    ("counts", counts::whole),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("collodi-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; says how many gates missed.
fn run(arguments: &[String]) -> Result<usize> {
    let Some((command, rest)) = arguments.split_first() else { bail!(USAGE) };
    match command.as_str() {
        "limit" => return limits::run(rest).map(|()| 0),
        "count" => return subject::run(rest).map(|()| 0),
        _ => {}
    }
    let settings = Settings::read()?;
    let seeds = Seeds::new(&settings.out)?;
    server::pin_this_thread(LOAD_CORE)?;
    let mut report = Report::default();
    let chosen = ROWS.iter().filter(|(name, _)| command == "all" || command == name);
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() {
        bail!(USAGE);
    }
    for (_, run) in chosen {
        run(&settings, &seeds, &mut report)?;
    }
    report.finish(&settings, command)
}
