//! The server that a command asks: how it is named, and connections to it.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgMatches};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::runtime::Runtime;

use crate::cli::failure::unreached;
use crate::store::{Address, Line, Store};

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

/// A server that is asked one thing after another by a thread that waits.
pub struct Server {
    runtime: Runtime,
    line: Line,
}

impl Server {
    /// Asks, and waits for the answer.
    pub fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        self.runtime.block_on(command.query_async(&mut self.line))
    }
}

/// A connection to a server named as clients name it.
pub fn connect(url: &str) -> anyhow::Result<Server> {
    let (runtime, store) = (runtime()?, store(url)?);
    let line = runtime.block_on(store.line()).map_err(unreached)?;
    Ok(Server { runtime, line })
}

/// What waits for a server's answers.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")
}

/// Whether a connection is gone, and a new one may do.
pub fn is_away(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() || error.code() == Some("LOADING")
}

/// A new connection, as soon as there is a server again.
pub fn reconnect(url: &str) -> anyhow::Result<Server> {
    let (runtime, store) = (runtime()?, store(url)?);
    loop {
        match runtime.block_on(store.line()) {
            Err(error) if is_away(&error) => thread::sleep(AWAY),
            connected => return Ok(Server { line: connected.map_err(unreached)?, runtime }),
        }
    }
}

/// The keyspace that a URL names, which must be there at once. Where it holds no password, that of the environment counts.
pub fn store(url: &str) -> anyhow::Result<Store> {
    let mut address = Address::parse(url)?;
    if let Ok(password) = std::env::var("FLUX_REQUIREPASS") {
        address = address.with_password(&password);
    }
    Ok(Store::at(address)?.patience(Duration::ZERO)?)
}
