//! `collodi completions` and `collodi man`: what shells and `man` know of the command line, made from it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use clap_complete::Shell;

use crate::output::print;

/// Prints the completions of a shell.
///
/// # Errors
/// No shell given.
pub(crate) fn completions(matches: &ArgMatches) -> Result<()> {
    let Some(shell) = matches.get_one::<Shell>("shell") else { bail!("no shell given") };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut crate::cli::command(), "collodi", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(())
}

/// Prints the manual page of the program, or writes the pages of all commands into a folder.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn man(matches: &ArgMatches) -> Result<()> {
    let command = crate::cli::command();
    let Some(folder) = matches.get_one::<String>("to") else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(());
    };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("write to {}", folder.display()))
}
