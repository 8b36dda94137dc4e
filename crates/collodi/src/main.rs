//! The program: what was typed ([`cli`]), what it means ([`config`]), how the parts are put together ([`assemble`]).

mod assemble;
mod cli;
mod config;
mod import;
mod logs;
mod manual;
mod ops;
mod output;
mod profiles;
mod redact;
mod target;
mod timeline;

use std::process::ExitCode;

/// Requests are many small allocations that live briefly (docs/decisions/0011).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A wrong command line, configuration or environment; anything else that fails is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = cli::matches();
    let matches = match matches.subcommand() {
        Some(("serve", matches)) => matches,
        Some(("profiles", matches)) => return profiles::run(matches),
        Some(("timeline", matches)) => {
            return timeline::run(matches).unwrap_or_else(|error| fail(1, &error));
        }
        Some(("ops", matches)) => {
            return ops::run(matches).unwrap_or_else(|error| fail(USAGE, &error));
        }
        Some(("completions", matches)) => {
            return manual::completions(matches)
                .map_or_else(|e| fail(USAGE, &e), |()| ExitCode::SUCCESS);
        }
        Some(("man", matches)) => {
            return manual::man(matches).map_or_else(|e| fail(1, &e), |()| ExitCode::SUCCESS);
        }
        Some(("import", matches)) => {
            return import::run(matches).map_or_else(|e| fail(1, &e), |()| ExitCode::SUCCESS);
        }
        _ => return ExitCode::from(USAGE),
    };
    let config = match config::Config::load(matches) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error),
    };
    let logs = match logs::start(&config) {
        Ok(logs) => logs,
        Err(error) => return fail(USAGE, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error.into()),
    };
    match runtime.block_on(assemble::serve(config, logs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of the program are for its user")]
fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("collodi: {error:#}");
    ExitCode::from(code)
}
