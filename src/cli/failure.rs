//! What went wrong, as people read it: each cause once, what to do, and the exit code.

use std::io;
use std::process::ExitCode;

/// The exit code for handlers that failed: the call got there, so nothing is wrong with the server or the command line.
const HANDLER_FAILED: u8 = 3;

/// A peer's handler failed, with its message.
#[derive(Debug, thiserror::Error)]
#[error("the handler of `{capability}` failed: {message}")]
pub(crate) struct HandlerFailed {
    /// What was called.
    pub capability: String,
    /// In the handler's words.
    pub message: String,
}

/// All peers were asked for an answer, and none gave one.
#[derive(Debug, thiserror::Error)]
#[error("nobody answered `{capability}`: all that were asked ({count}) failed; the first, {peer}: {message}")]
pub(crate) struct AllFailed {
    /// What was called.
    pub capability: String,
    /// How many were asked.
    pub count: usize,
    /// The one whose failure stands for all.
    pub peer: String,
    /// Its failure.
    pub message: String,
    /// Whether some handler failed: else the call never got to one that could.
    pub is_of_handlers: bool,
}

/// Says what went wrong, to standard error.
pub(crate) fn tell(error: &anyhow::Error) -> ExitCode {
    eprintln!("flux: {}", chain(error));
    let is_of_handlers = error.is::<HandlerFailed>() || error.downcast_ref().is_some_and(|all: &AllFailed| all.is_of_handlers);
    if is_of_handlers { ExitCode::from(HANDLER_FAILED) } else { ExitCode::FAILURE }
}

/// An error with what led to it, each once: many a text holds that of its cause, and some causes say the same and more. Then what to do,
/// where the system's word for it does not say so.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hint = "";
    for cause in error.chain() {
        let said = cause.to_string();
        if let Some(less) = parts.iter().position(|part| said.starts_with(part.as_str())) {
            parts.truncate(less);
            parts.push(said);
        } else if !parts.iter().any(|part| part.contains(&said)) {
            parts.push(said);
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => {
                hint = "; run it as the user that owns what it names, or choose another place";
            }
            Some(io::ErrorKind::ReadOnlyFilesystem) => hint = "; nothing can be written there: choose another place",
            Some(io::ErrorKind::StorageFull) => hint = "; make room, or choose another place",
            _ => {}
        }
    }
    parts.join(": ") + hint
}

/// What the server said, without the code that is there for programs.
pub(crate) fn told(error: redis::RedisError) -> anyhow::Error {
    match (error.code(), error.detail()) {
        (Some("ERR"), Some(detail)) if detail.starts_with("unknown command") => {
            anyhow::anyhow!("the server does not know this command; is it a flux of this version?")
        }
        (Some("NOAUTH"), _) => anyhow::anyhow!("the server wants a password: {PASSWORD}"),
        (Some("LOADING"), _) => anyhow::anyhow!("the server is loading its data; ask again in a moment"),
        (Some("WRONGPASS"), _) => anyhow::anyhow!("the server refuses this password: {PASSWORD}"),
        (Some(_), Some(detail)) => anyhow::anyhow!("{detail}"),
        _ => anyhow::Error::new(error).context("failed to ask the server"),
    }
}

/// Why there is no connection.
pub(crate) fn unreached(error: redis::RedisError) -> anyhow::Error {
    // Not the URL itself, which may hold a password.
    const HINT: &str =
        "failed to reach the server; start one with `flux serve --data ./state`, or name it with --url redis://HOST:PORT";
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => anyhow::anyhow!("the server refuses this password: {PASSWORD}"),
        redis::ErrorKind::Parse => {
            anyhow::anyhow!("what answers there does not speak Redis' protocol; name the port for Redis clients (6379, not 3000)")
        }
        _ if error.code().is_some() => told(error),
        _ => anyhow::Error::new(error).context(HINT),
    }
}

/// Where a password is looked for.
const PASSWORD: &str = "put the right one into the URL (redis://:PASSWORD@HOST:PORT) or the variable FLUX_REQUIREPASS";

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_led_to_an_error_is_told_once_and_so_is_what_to_do() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let library = crate::storage::Error::Io { what: "open", path: "./a/lock".into(), source: denied() };
        let error = anyhow::Error::new(library).context("failed to check");
        assert_eq!(
            chain(&error),
            "failed to check: open `./a/lock`: permission denied; run it as the user that owns what it names, or choose another place"
        );
    }

    #[test]
    fn texts_that_hold_each_other_are_told_as_the_longest_of_them() {
        let inner = || anyhow::anyhow!("\"NOAUTH\": Authentication required.");
        assert_eq!(chain(&inner().context("\"NOAUTH\": Authentication required.")), "\"NOAUTH\": Authentication required.");
        let error = anyhow::anyhow!("read it: line 3").context("read it").context("failed");
        assert_eq!(chain(&error), "failed: read it: line 3");
        let error = anyhow::anyhow!("refused").context("reach it: refused; start it").context("other").context("failed: refused");
        assert_eq!(chain(&error), "failed: refused: other: reach it: refused; start it");
        let json = serde_json::from_str::<u8>("x").map_err(crate::peers::Error::from).context("failed");
        assert_eq!(chain(&json.expect_err("it is no number")), "failed: read what came: expected value at line 1 column 1");
    }

    #[test]
    fn what_the_server_says_is_told_with_what_to_do() {
        let said = |text: &str| {
            let reply = redis::parse_redis_value(text.as_bytes()).and_then(redis::Value::extract_error);
            told(reply.expect_err("it is an error")).to_string()
        };
        assert!(said("-NOAUTH Authentication required.\r\n").starts_with("the server wants a password: put"));
        assert!(said("-WRONGPASS invalid\r\n").starts_with("the server refuses this password: put"));
        assert!(said("-LOADING Redis is loading the dataset in memory\r\n").ends_with("ask again in a moment"));
        assert_eq!(said("-FAILED because\r\n"), "because");
    }
}
