//! The server that a command asks: how it is named, and connections to it.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgMatches};
use redis::{IntoConnectionInfo, RedisError};

use crate::cli::failure::unreached;

/// The server that is asked unless another is named.
const USUAL: &str = "redis://127.0.0.1:6379";

/// Between two looks whether a server is back.
const AWAY: Duration = Duration::from_millis(300);

/// The option that names the server. Its variable and its default are [`url`]'s, so that only what is on the command line conflicts with
/// other options.
pub fn option() -> Arg {
    Arg::new("url").long("url").value_name("URL").help(format!("The server to ask [env: FLUX_URL] [default: {USUAL}]"))
}

/// The server that a command line names, else the environment. An empty variable is none.
pub fn url(matches: &ArgMatches) -> String {
    let named = matches.get_one::<String>("url").cloned();
    let variable = || std::env::var("FLUX_URL").ok().filter(|url| !url.is_empty());
    named.or_else(variable).unwrap_or_else(|| USUAL.to_owned())
}

/// A connection to a server named as clients name it.
pub fn connect(url: &str) -> anyhow::Result<redis::Connection> {
    client(url)?.get_connection().map_err(unreached)
}

/// Whether a connection is gone, and a new one may do.
pub fn is_away(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() || error.code() == Some("LOADING")
}

/// A new connection, as soon as there is a server again.
pub fn reconnect(url: &str) -> anyhow::Result<redis::Connection> {
    loop {
        match client(url)?.get_connection() {
            Err(error) if is_away(&error) => thread::sleep(AWAY),
            connected => return connected.map_err(unreached),
        }
    }
}

/// A client for connections in which messages come between replies.
pub fn client_that_hears(url: &str) -> anyhow::Result<redis::Client> {
    let server = client(url)?.get_connection_info().clone();
    let settings = server.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
    redis::Client::open(server.set_redis_settings(settings)).context("failed to read the server's address")
}

/// A client of the server that a URL names; `lux://` is another word for `redis://`. Where it holds no password, that of the
/// environment counts.
fn client(url: &str) -> anyhow::Result<redis::Client> {
    let plain = url.strip_prefix("lux://").map_or_else(|| url.to_owned(), |rest| format!("redis://{rest}"));
    let hint = "failed to read the server's address; it looks like redis://HOST:PORT";
    let mut server = plain.into_connection_info().context(hint)?;
    if server.redis_settings().password().is_none()
        && let Ok(password) = std::env::var("FLUX_REQUIREPASS")
    {
        let settings = server.redis_settings().clone().set_password(password);
        server = server.set_redis_settings(settings);
    }
    redis::Client::open(server).context(hint)
}
