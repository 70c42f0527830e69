//! The server that a command asks: how it is named, how long it may take to answer, and connections to it.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Arg, ArgMatches};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::runtime::Runtime;

use crate::cli::failure::{told, unreached};
use crate::store::{Address, Hear, Line, Link, Store};

/// The server that is asked unless another is named.
const USUAL: &str = "redis://127.0.0.1:6379";
/// How long it may take to answer, unless the command line says: far longer than one that works takes, and bearable for people.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether a server is back.
const AWAY: Duration = Duration::from_millis(300);

/// The option that names the server. Its variable and its default are [`Target::named`]'s, so that only what is on the command line
/// conflicts with other options.
pub(crate) fn option() -> Arg {
    Arg::new("url").long("url").value_name("URL").help(format!("The server to ask [env: FLUX_URL] [default: {USUAL}]"))
}

/// The option that says how long the server may take to answer.
pub(crate) fn patience() -> Arg {
    let seconds = PATIENCE.as_secs();
    Arg::new("patience")
        .long("timeout")
        .value_name("TIME")
        .value_parser(|text: &str| time(text))
        .help(format!("How long the server may take to answer: 500ms, 30s, 5m [default: {seconds}s]"))
}

/// `500ms`, `30s`, `5m`, `1h` or a number of seconds; more than nothing.
fn time(text: &str) -> anyhow::Result<Duration> {
    match milliseconds(text)? {
        0 => bail!("a server needs some time to answer"),
        ms => Ok(Duration::from_millis(ms)),
    }
}

/// `500ms`, `30s`, `5m`, `1h` or a number of seconds.
pub(crate) fn milliseconds(text: &str) -> anyhow::Result<u64> {
    let number_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => bail!("failed to read the time `{text}`: say 500ms, 30s, 5m or 1h"),
    };
    let number: u64 = number.parse().with_context(|| format!("failed to read the time `{text}`: say 500ms, 30s, 5m or 1h"))?;
    number.checked_mul(unit_ms).with_context(|| format!("failed to read the time `{text}`: it is too long"))
}

/// The server that a command asks, and how long it may take to answer.
#[derive(Clone)]
pub(crate) struct Target {
    store: Store,
    patience: Duration,
}

impl Target {
    /// The one that a command line names, else the environment. An empty variable is none.
    pub(crate) fn named(matches: &ArgMatches) -> anyhow::Result<Target> {
        let named = matches.get_one::<String>("url").cloned();
        let variable = || std::env::var("FLUX_URL").ok().filter(|url| !url.is_empty());
        let url = named.or_else(variable).unwrap_or_else(|| USUAL.to_owned());
        // `flux call` has a `--timeout` of its own, which is the call's.
        let patience = matches.try_get_one::<Duration>("patience").ok().flatten().copied().unwrap_or(PATIENCE);
        let mut address = address(&url)?;
        if let Ok(password) = std::env::var("FLUX_REQUIREPASS") {
            address = address.with_password(&password);
        }
        // Whoever waits gives up before a connection does, and says so; where nobody is, that is told at once.
        let store = Store::at(address)?.connect_max(patience.saturating_mul(2))?.patience(Duration::ZERO)?;
        Ok(Target { store, patience })
    }

    /// The same, of which an answer is awaited for this long at most.
    pub(crate) fn within(self, longest: Duration) -> Target {
        Target { store: self.store, patience: self.patience.min(longest) }
    }

    /// How long it may take to answer.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> anyhow::Result<Server> {
        let runtime = runtime()?;
        match runtime.block_on(in_time(self.patience, self.store.line())) {
            Ok(line) => Ok(Server { runtime, line, patience: self.patience }),
            Err(error) => {
                // Looking up a name cannot be broken off.
                runtime.shutdown_background();
                Err(self.unreached(error))
            }
        }
    }

    /// A new connection, as soon as there is a server again.
    pub(crate) fn reconnect(&self) -> anyhow::Result<Server> {
        let runtime = runtime()?;
        loop {
            match runtime.block_on(in_time(self.patience, self.store.line())) {
                Err(error) if is_away(&error) => thread::sleep(AWAY),
                Err(error) => return Err(self.unreached(error)),
                Ok(line) => return Ok(Server { runtime, line, patience: self.patience }),
            }
        }
    }

    /// Asks one thing, over a connection of its own.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> anyhow::Result<T> {
        self.connect()?.ask(command).map_err(|error| self.failed(error))
    }

    /// A connection that hears messages between its replies. What is asked over it may take as long as it likes.
    pub(crate) async fn link(&self, hear: Hear) -> anyhow::Result<Link> {
        in_time(self.patience, self.store.link(hear)).await.map_err(|error| self.unreached(error))
    }

    /// Why something that was asked has no answer.
    pub(crate) fn failed(&self, error: RedisError) -> anyhow::Error {
        if error.is_timeout() { self.silent() } else { told(error) }
    }

    fn unreached(&self, error: RedisError) -> anyhow::Error {
        if error.is_timeout() { self.silent() } else { unreached(error) }
    }

    fn silent(&self) -> anyhow::Error {
        anyhow!(
            "the server did not answer within {:?}; is it one for Redis clients (port 6379, not 3000)? Where it is only slow, say --timeout 1m",
            self.patience
        )
    }
}

/// An address as people write it: where no scheme is said, it is `redis://`.
fn address(url: &str) -> RedisResult<Address> {
    if url.contains("://") { Address::parse(url) } else { Address::parse(&format!("redis://{url}")) }
}

/// A server that is asked one thing after another by a thread that waits.
pub(crate) struct Server {
    runtime: Runtime,
    line: Line,
    patience: Duration,
}

impl Server {
    /// Asks, and waits for the answer until patience ends, which is an error of time.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        self.runtime.block_on(in_time(self.patience, command.query_async(&mut self.line)))
    }

    /// Asks what may take as long as it likes.
    pub(crate) fn wait<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        self.runtime.block_on(command.query_async(&mut self.line))
    }
}

/// An answer, or [`RedisError::is_timeout`] if there is none by then.
pub(crate) async fn in_time<T>(longest: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    tokio::time::timeout(longest, answer).await.unwrap_or_else(late)
}

/// What waits for a server's answers.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")
}

/// Whether a connection is gone, and a new one may do.
pub(crate) fn is_away(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() || error.code() == Some("LOADING")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let read = |text| milliseconds(text).ok();
        assert_eq!(
            [read("500ms"), read("30s"), read("2"), read("5m"), read("1h")],
            [500, 30_000, 2000, 300_000, 3_600_000].map(Some)
        );
        assert_eq!([read(""), read("s"), read("-1s"), read("1d"), read("99999999999999999999s")], [None; 5]);
        assert!(time("0").is_err() && time("1ms").is_ok());
    }

    #[test]
    fn an_address_needs_no_scheme_and_a_strange_one_is_not_repeated() {
        let shown = |url: &str| address(url).map(|address| address.to_string()).map_err(|error| error.to_string());
        for (url, read) in [
            ("localhost", "redis://localhost:6379"),
            ("127.0.0.1:17010", "redis://127.0.0.1:17010"),
            (":secret@[::1]:17", "redis://::1:17"),
            ("lux://h:1", "redis://h:1"),
            ("redis+cluster://a,b:1", "redis+cluster://a:6379,b:1"),
        ] {
            assert_eq!(shown(url).as_deref(), Ok(read), "{url}");
        }
        for url in ["", "redis://h:99999", "h:99999", "http://:secret@h"] {
            let told = shown(url).expect_err("it is none");
            assert!(told.contains("redis://HOST:PORT") && !told.contains("secret"), "{told}");
        }
    }
}
