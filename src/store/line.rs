//! One connection, to whatever keyspace: its database, watched keys and transaction last from one command to the next.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use crate::resp::OwnedArgs;
use crate::store::within::Within;

/// A connection of its own, made by [`Store::line`](super::Store::line), for what lasts from one command to the next: `WATCH`, `SELECT`, or a
/// wait that ends when the line is dropped. It is a connection of the `redis` crate, so commands, typed commands and pipelines work on it.
///
/// Giving up a call in this process closes the line, as nobody knows how far it had come. Messages of channels have a way of their own,
/// [`Store::listen`](super::Store::listen).
pub struct Line(pub(super) Kind);

pub(super) enum Kind {
    Within(Within),
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Line {
    /// Whether a line of this process runs no commands any more. One to a server far away finds out by asking.
    pub fn is_closed(&self) -> bool {
        matches!(&self.0, Kind::Within(within) if within.is_closed())
    }

    pub(super) async fn one(&mut self, command: &Cmd) -> RedisResult<Value> {
        match &mut self.0 {
            Kind::Within(within) => {
                let args = args(command);
                within.check_open()?;
                within.run([args.args()]).await;
                within.values()?.pop().ok_or_else(no_command)
            }
            Kind::One(wire) => wire.req_packed_command(command).await,
            Kind::Cluster(wire) => wire.req_packed_command(command).await,
        }
    }

    pub(super) async fn many(&mut self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        match &mut self.0 {
            Kind::Within(within) => {
                let each = each(pipeline);
                within.check_open()?;
                within.run(each.iter().map(OwnedArgs::args)).await;
                let mut values = within.values()?;
                values.drain(..offset.min(values.len()));
                values.truncate(count);
                Ok(values)
            }
            Kind::One(wire) => wire.req_packed_commands(pipeline, offset, count).await,
            Kind::Cluster(wire) => wire.req_packed_commands(pipeline, offset, count).await,
        }
    }
}

impl Within {
    fn check_open(&self) -> RedisResult<()> {
        if !self.is_closed() {
            return Ok(());
        }
        let why = "it was killed, the server ends, or a call over it was given up";
        Err(RedisError::from((ErrorKind::Io, "the line is closed", why.to_owned())))
    }
}

fn no_command() -> RedisError {
    RedisError::from((ErrorKind::Client, "no command was given"))
}

/// The commands of a pipeline, and those around a transaction.
pub(super) fn each(pipeline: &Pipeline) -> Vec<OwnedArgs> {
    let around = |name: &'static str| pipeline.is_transaction().then(|| OwnedArgs::new([name.as_bytes()]));
    around("MULTI").into_iter().chain(pipeline.cmd_iter().map(args)).chain(around("EXEC")).collect()
}

pub(super) fn args(command: &Cmd) -> OwnedArgs {
    OwnedArgs::new(command.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes,
        // Where a scan begins, the only other kind.
        _ => b"0",
    }))
}

/// Commands after which a connection answers in other ways than one that sends replies to commands.
const OTHERWISE: [&[u8]; 10] = [
    b"subscribe",
    b"psubscribe",
    b"ssubscribe",
    b"unsubscribe",
    b"punsubscribe",
    b"sunsubscribe",
    b"monitor",
    b"hello",
    b"reset",
    b"quit",
];

/// Refuses what would make replies of a line something else.
pub(super) fn refuse_strange<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> RedisResult<()> {
    for command in commands {
        let is = |name: &[u8]| is_named(command, name);
        let is_mute = is(b"client") && argument(command, 1).is_some_and(|word| word.eq_ignore_ascii_case(b"reply"));
        if is_mute || OTHERWISE.iter().any(|name| is(name)) {
            return Err(not_here(command, "it changes what a connection answers; Store::listen is there for messages"));
        }
    }
    Ok(())
}

pub(super) fn not_here(command: &Cmd, why: &str) -> RedisError {
    let name = String::from_utf8_lossy(argument(command, 0).unwrap_or_default()).to_uppercase();
    RedisError::from((ErrorKind::Client, "this command is not for here", format!("{name}: {why}")))
}

pub(super) fn is_named(command: &Cmd, name: &[u8]) -> bool {
    argument(command, 0).is_some_and(|given| given.eq_ignore_ascii_case(name))
}

pub(super) fn argument(command: &Cmd, at: usize) -> Option<&[u8]> {
    match command.args_iter().nth(at) {
        Some(Arg::Simple(bytes)) => Some(bytes),
        _ => None,
    }
}

impl ConnectionLike for Line {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            refuse_strange([command])?;
            self.one(command).await
        })
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            refuse_strange(pipeline.cmd_iter())?;
            self.many(pipeline, offset, count).await
        })
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Kind::Within(within) => i64::from(within.session.db),
            Kind::One(wire) => wire.get_db(),
            Kind::Cluster(wire) => wire.get_db(),
        }
    }
}
