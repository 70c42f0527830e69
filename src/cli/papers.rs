//! `flux completions` and `flux man`: what shells and `man` want to know of the command line, made from it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

use crate::cli::out::print;

/// Prints a shell's completions.
pub(crate) fn completions(mut command: Command, shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "flux", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command into a folder.
pub(crate) fn man(command: Command, folder: &Path) -> anyhow::Result<ExitCode> {
    let failed = || format!("failed to write manual pages into `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(told_whole(command), folder).with_context(failed)?;
    println!("written to {}; read one with: man {}", folder.display(), folder.join("flux.1").display());
    Ok(ExitCode::SUCCESS)
}

/// A page has room for what `-h` leaves out.
fn told_whole(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(told_whole)
}
