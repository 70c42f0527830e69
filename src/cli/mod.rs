//! The command line: what can be asked of the binary, its help, and the exit codes. Settings become flags from their table.
//!
//! Exit codes: 0 when all went well, 1 when it did not, 2 when the command line was wrong, 3 when a peer's handler failed.

mod advice;
mod data;
mod failure;
mod log;
mod mcp;
mod out;
mod papers;
mod peers;
mod pieces;
mod progress;
mod reach;
mod serve;
mod show;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::config::{Config, Kind, Setting};
use crate::jobs::runtime::shim;
use crate::lifecycle::child;
use crate::node;
use crate::settings::{self, Sources};
use crate::storage::opening::OnDamage;

/// Settings that `-h` shows; `--help` shows all that have an effect.
const COMMON: [&str; 11] = [
    "data",
    "port",
    "bind",
    "http-port",
    "requirepass",
    "unixsocket",
    "appendfsync",
    "maxmemory",
    "maxmemory-policy",
    "memory-limit",
    "loglevel",
];

const ABOUT: &str = "One binary: a durable, drop-in Redis.

Examples:
  flux serve --data ./state            start on 127.0.0.1:6379, keep the data in ./state
  redis-cli SET hello world            use it with any Redis client
  flux config --json                   see every setting, its value and where it comes from
  flux backup today.backup             a consistent copy while the server runs
  flux check --data ./state            verify a data folder
  flux peers                           who is there; also: status, capabilities, describe, workspaces
  flux call summarize '{\"text\": \"…\"}'  call what some peer can do
  flux watch project-alpha             see a workspace live
  flux top                             see what the server does, live

Every setting can be a flag (--maxmemory 1gb), a variable (FLUX_MAXMEMORY=1gb) or a line of a TOML file
(maxmemory = \"1gb\"); flags win over variables, variables over the file.";

const SERVE: &str = "Starts the server and serves until SIGTERM or SIGINT.

Examples:
  flux serve --data ./state                            the usual way
  flux serve --data ./state --port 7000 --http-port off
  flux serve --data ./state --bind 0.0.0.0 --requirepass SECRET
  flux serve --data off --maxmemory 1gb --maxmemory-policy allkeys-lru    a pure cache, nothing on disk
  FLUX_REQUIREPASS=SECRET flux serve --config /etc/flux.toml

Settings are read from --config FILE, or from flux.toml in the data folder if it is there. CONFIG SET changes most of
them while the server runs, and CONFIG REWRITE writes them to that file.";

const CONFIG: &str = "Prints the settings `flux serve` would start with, and where each comes from.

Takes the same flags, variables and file as `flux serve`. The output is TOML and can be used as the file.

Examples:
  flux config
  flux config --config /etc/flux.toml --json
  flux config --all                                    also those only kept for Redis' tools";

const BACKUP: &str = "Writes a consistent copy of the data to a file, also while the server is serving.

Examples:
  flux backup today.backup                             asks the server on 127.0.0.1:6379
  flux backup today.backup --url redis://:SECRET@127.0.0.1:7000
  flux backup today.backup --data ./state              of a folder no server is using

A running server writes the file itself, so the path means a place on its machine, and only clients on that machine may
ask. An existing file is not overwritten.";

const RESTORE: &str = "Makes a data folder from a backup. The folder must be missing or empty.

Example:
  flux restore today.backup --data ./state2 && flux serve --data ./state2";

const CHECK: &str = "Verifies every structure of a data folder that no server is using.

Prints each problem with its place and its cause. Exits with 0 if there is none, else with 1.

Example:
  flux check --data ./state";

const COMPLETIONS: &str = "Prints what a shell needs to complete flux' commands and flags.

Examples:
  flux completions bash > ~/.local/share/bash-completion/completions/flux
  flux completions zsh > ~/.zfunc/_flux                with ~/.zfunc in $fpath
  flux completions fish > ~/.config/fish/completions/flux.fish";

const MAN: &str = "Writes manual pages, flux.1 and one for each command, into a folder, which is made if it is missing.

Example:
  flux man ~/.local/share/man/man1 && man ~/.local/share/man/man1/flux-serve.1";

const MCP: &str =
    "Offers every capability that has a schema as a tool, over standard input and output, to a program that speaks the
Model Context Protocol: an editor, an assistant, an agent.

Such a program starts it itself, by settings like these:
  { \"mcpServers\": { \"flux\": { \"command\": \"flux\", \"args\": [\"mcp\", \"--url\", \"redis://127.0.0.1:6379\"] } } }

A password is part of the URL (redis://:SECRET@HOST:PORT) or in the variable FLUX_REQUIREPASS. Programs that speak MCP over
HTTP need no command: the server itself answers at /mcp on its HTTP port.";

/// Does what the command line asks; returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|name| name == "child") {
        return child::run(&args[2..]);
    }
    if args.get(1).is_some_and(|name| name == "shim") {
        return shim::run();
    }
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let error = advice::with_advice(error);
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(&matches) {
        Ok(code) => code,
        Err(error) => failure::tell(&error),
    }
}

fn dispatch(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("serve", matches)) => {
            let is_loss_accepted = matches.get_flag("accept-loss");
            let (config, warnings) = chosen(matches)?;
            serve::serve(config, &warnings, if is_loss_accepted { OnDamage::AcceptLoss } else { OnDamage::Refuse })
        }
        Some(("config", matches)) => {
            let (config, warnings) = chosen(matches)?;
            warnings.iter().for_each(|warning| eprintln!("flux: warning: {warning}"));
            print!("{}", show::show(&config, matches.get_flag("all"), matches.get_flag("json")));
            Ok(ExitCode::SUCCESS)
        }
        Some(("backup", matches)) => {
            let file = path(matches, "file");
            match matches.get_one::<PathBuf>("data") {
                Some(folder) => data::backup_folder(folder, &file),
                None => data::backup_server(&reach::Target::named(matches)?, &file),
            }
        }
        Some(("restore", matches)) => data::restore(&path(matches, "file"), &path(matches, "data")),
        Some(("check", matches)) => data::check(&path(matches, "data")),
        Some(("mcp", matches)) => mcp::serve(reach::Target::named(matches)?),
        Some(("top", matches)) => top::run(matches),
        Some(("completions", matches)) => {
            papers::completions(command(), *matches.get_one::<Shell>("shell").expect("clap asks for it"))
        }
        Some(("man", matches)) => papers::man(command(), &path(matches, "folder")),
        Some((name, matches)) => peers::run(name, matches).expect("clap knows only the commands above and these"),
        None => unreachable!("clap asks for a subcommand"),
    }
}

fn path(matches: &ArgMatches, name: &str) -> PathBuf {
    matches.get_one::<PathBuf>(name).expect("clap asks for it").clone()
}

/// The settings a command line chooses, and what to warn of.
fn chosen(matches: &ArgMatches) -> anyhow::Result<(Config, Vec<String>)> {
    let flags = node::settings()
        .iter()
        .filter_map(|setting| matches.get_one::<String>(setting.name).map(|value| (setting.name.to_owned(), value.clone())))
        .collect();
    let text = |value: OsString| value.into_string().ok();
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    let sources = Sources { flags, file: matches.get_one("config").cloned(), variables };
    settings::read(&sources).context("failed to read the settings")
}

fn command() -> Command {
    let file =
        |help: &'static str| Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)).help(help);
    let folder = || Arg::new("data").long("data").value_name("DIR").value_parser(value_parser!(PathBuf)).help("The data folder");
    Command::new("flux")
        .version(crate::version::VERSION)
        .long_version(crate::version::BUILD)
        .about("One binary: a durable, drop-in Redis")
        .long_about(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(Command::new("serve").about("Starts the server").long_about(SERVE)).arg(
                Arg::new("accept-loss")
                    .long("accept-loss")
                    .action(ArgAction::SetTrue)
                    .help("Starts with what is sound of a damaged data folder; what is cut off is kept there as lost-…"),
            ),
        )
        .subcommand(
            with_settings(Command::new("config").about("Prints the settings and where they come from").long_about(CONFIG))
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Prints JSON"))
                .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Also prints settings without an effect")),
        )
        .subcommand(
            Command::new("backup")
                .about("Writes a consistent copy of the data to a file")
                .long_about(BACKUP)
                .arg(file("The file to write"))
                .arg(folder().conflicts_with("url").help("A data folder that no server is using"))
                .arg(reach::option())
                .arg(reach::patience()),
        )
        .subcommand(
            Command::new("restore")
                .about("Makes a data folder from a backup")
                .long_about(RESTORE)
                .arg(file("The backup"))
                .arg(folder().required(true)),
        )
        .subcommand(Command::new("check").about("Verifies a data folder").long_about(CHECK).arg(folder().required(true)))
        .subcommand(
            Command::new("mcp")
                .about("Offers what peers can do to a program that speaks MCP")
                .long_about(MCP)
                .arg(reach::option())
                .arg(reach::patience()),
        )
        .subcommand(top::command())
        .subcommand(
            Command::new("completions")
                .about("Prints completions for a shell")
                .long_about(COMPLETIONS)
                .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)).help("The shell")),
        )
        .subcommand(
            Command::new("man").about("Writes manual pages").long_about(MAN).arg(
                Arg::new("folder")
                    .value_name("DIR")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("The folder to write them into"),
            ),
        )
        .subcommands(peers::commands())
}

fn with_settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The TOML file to read settings from [env: FLUX_CONFIG]");
    node::settings().iter().fold(command.arg(file), |command, setting| command.arg(flag(setting)))
}

fn flag(setting: &Setting) -> Arg {
    let default = if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
    let arg = match setting.kind {
        Kind::Choice(words) => {
            Arg::new(setting.name).value_parser(PossibleValuesParser::new(words.iter().copied())).ignore_case(true)
        }
        _ => Arg::new(setting.name),
    };
    arg.long(setting.name)
        .aliases(setting.aliases)
        .value_name("VALUE")
        .allow_negative_numbers(true)
        .help(format!("{}{default}", setting.help))
        .help_heading(setting.section.unwrap_or("Without effect"))
        .hide(!setting.has_effect())
        .hide_short_help(!COMMON.contains(&setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag() {
        let matches = command()
            .try_get_matches_from([
                "flux",
                "serve",
                "--list-max-listpack-size",
                "-3",
                "--dir",
                "off",
                "--hash-max-ziplist-entries",
                "9",
            ])
            .expect("all are settings");
        let (_, matches) = matches.subcommand().expect("there is one");
        assert_eq!(matches.get_one::<String>("data").map(String::as_str), Some("off"));
        assert_eq!(matches.get_one::<String>("hash-max-listpack-entries").map(String::as_str), Some("9"));
    }
}
