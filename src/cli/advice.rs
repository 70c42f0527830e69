//! What to write instead, where a command line is wrong in a way that other servers' users are used to.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that start other servers.
const STARTS: [&str; 6] = ["start", "run", "server", "up", "daemon", "redis-server"];

/// The same error, with what to write instead if that is known.
pub(crate) fn with_advice(mut error: clap::Error) -> clap::Error {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    let advice = match error.kind() {
        ErrorKind::InvalidSubcommand => of_command(&word(ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => of_argument(&word(ContextKind::InvalidArg), &usage(&error)),
        _ => None,
    };
    if let Some(advice) = advice {
        // What clap guesses is how the word is spelled.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(advice)]));
    }
    error
}

/// How the command is used, which names it.
fn usage(error: &clap::Error) -> String {
    error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default()
}

fn of_command(word: &str) -> Option<String> {
    STARTS.contains(&word).then(|| "`flux serve --data DIR` starts a server".to_owned())
}

fn of_argument(word: &str, usage: &str) -> Option<String> {
    let is_of = |command: &str| usage.split_whitespace().any(|part| part == command);
    let is_setting = is_of("serve") || is_of("config");
    match word {
        "-p" | "--port" | "-h" | "--host" if !is_setting => Some("name the server with --url redis://HOST:PORT".to_owned()),
        "-p" => Some("name the port with --port PORT".to_owned()),
        "-a" | "--password" => Some("a password is part of the URL: --url redis://:PASSWORD@HOST:PORT".to_owned()),
        _ if word.starts_with('-') => None,
        _ if is_setting && word.ends_with(".conf") => Some(
            "a file with settings is TOML and named with --config FILE; most lines of a redis.conf can be flags: --maxmemory 1gb"
                .to_owned(),
        ),
        _ if is_setting && word.ends_with(".toml") => Some(format!("name the file with settings by --config {word}")),
        _ if is_of("serve") || is_of("check") => Some(format!("name the data folder by --data {word}")),
        _ => None,
    }
}
