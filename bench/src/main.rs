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

const USAGE: &str = "usage: collodi-bench all|b1|b2|b3|b4|b6|b7|b8|b10|b12|counts|check
  all     every row, about an hour at the default length
  b1..b12 one row
  counts  instructions and bytes of whole requests, under valgrind
  check   the cheap counts, without any timing: fails when growth exceeds its bound";

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
    let all = command == "all";
    let mut known = all;
    let mut is = |name: &str| {
        known |= command == name;
        all || command == name
    };
    if is("b1") {
        rows::get::run(&settings, &seeds, &mut report)?;
    }
    if is("b2") {
        rows::list::run(&settings, &seeds, &mut report)?;
    }
    if is("b3") {
        rows::write::run(&settings, &seeds, &mut report)?;
    }
    if is("b4") {
        rows::resolve::run(&settings, &seeds, &mut report)?;
    }
    if is("b6") {
        rows::fanout::run(&settings, &seeds, &mut report)?;
    }
    if is("b7") {
        rows::message::run(&settings, &seeds, &mut report)?;
    }
    if is("b8") {
        rows::idle::run(&settings, &seeds, &mut report)?;
    }
    if is("b10") {
        rows::hydrate::run(&settings, &seeds, &mut report)?;
    }
    if is("b12") {
        rows::recovery::run(&settings, &seeds, &mut report)?;
    }
    if is("check") {
        counts::check(&settings, &seeds, &mut report)?;
    }
    if is("counts") {
        counts::whole(&settings, &seeds, &mut report)?;
    }
    if !known {
        bail!(USAGE);
    }
    report.finish(&settings, command)
}
