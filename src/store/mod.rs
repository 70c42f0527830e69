//! One door to the keyspace: the same commands, whether it is in this process or elsewhere.
//!
//! A [`Store`] is opened by an address, or within this process. It is a connection of the `redis` crate that keeps nothing from one command to the
//! next, so any number of tasks use clones of one:
//! - **Within this process** commands run at once, on the thread of whoever awaits them; one that waits (`BLPOP`) is a session that is in
//!   its keys' queues, and holds no thread.
//! - **One server elsewhere** is asked over one connection that all share; a command that may wait has one of its own meanwhile.
//! - **A cluster** likewise, by the `redis` crate's own client, which follows `MOVED` and `ASK`.
//!
//! What must last from one command to the next (`WATCH`, `SELECT`) has a [`Line`]; messages and events at keys are streams
//! ([`Store::listen`], [`Store::key_events`]); callers that are no tasks have [`Blocking`].
//!
//! Several keys change together only within one hash tag (`{…}`), since a cluster can do no more: [`Store::transaction`], a [`Script`] or an
//! atomic pipeline on other keys is refused everywhere.
//!
//! Given up, a command that waits leaves nothing behind and takes nothing. What had been taken for it at that moment is gone with it, as over any
//! connection: queues whose elements must not be lost are streams with consumer groups.

mod address;
mod blocking;
mod far;
mod line;
mod link;
mod listen;
mod parked;
mod script;
mod within;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, ToRedisArgs, Value};

use crate::commands::cluster::slot_of;
use crate::commands::identity::Identity;
use crate::commands::instance::Instance;
use crate::commands::session::leaf_unchecked;
use crate::commands::table::{Run, Table, flag};
use crate::resp::Protocol;
use far::{Far, Wire, is_broken};
use line::{Kind, args, argument, is_named, not_here, refuse_strange};
use within::{Guest, Timer, Within};

pub use address::Address;
pub use blocking::Blocking;
pub use line::Line;
pub use link::{Hear, Link};
pub use listen::{Heard, KeyEvent, KeyEvents, Message, Messages, Topics};
pub use script::Script;

/// For how long it is tried to connect where nothing else is said: a server that is started anew is back by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a try to connect may take where nothing else is said.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Sessions of this process that are kept for the next commands.
const IDLE_MAX: usize = 64;
/// How often a transaction is tried whose watched keys change meanwhile. Each time someone else's was done.
const TRIES_MAX: usize = 1000;

/// Commands that change what later ones mean, and have a [`Line`].
const LASTING: [&[u8]; 9] = [b"auth", b"select", b"multi", b"exec", b"discard", b"watch", b"unwatch", b"readonly", b"asking"];
/// What may be asked with `CLIENT` of a connection that is not the asker's own.
const OF_OTHERS: [&[u8]; 6] = [b"list", b"kill", b"pause", b"unpause", b"unblock", b"help"];

/// A keyspace. Clones are cheap, and are the same door.
#[derive(Clone)]
pub struct Store(Way);

#[derive(Clone)]
enum Way {
    Within(Arc<Near>),
    Far(Arc<Far>),
}

/// The keyspace of this process, as someone sees it.
struct Near {
    instance: Arc<Instance>,
    identity: Identity,
    guest: Option<Guest>,
    /// Sessions whose commands are over.
    idle: Mutex<Vec<Within>>,
}

impl Store {
    /// Opens the keyspace at an address: see [`Address::parse`]. Nothing is asked yet, so a server that is not there is found out by the first
    /// command. Needs a tokio runtime with time and I/O when it is used.
    ///
    /// Errors: what was given is no address.
    pub fn open(address: &str) -> RedisResult<Store> {
        Store::at(Address::parse(address)?)
    }

    /// The same, for an address that was read.
    pub fn at(address: Address) -> RedisResult<Store> {
        Ok(Store(Way::Far(Arc::new(Far::open(address, PATIENCE, CONNECT_MAX)?))))
    }

    /// The keyspace of this process, for a part of the program. It keeps the instance; so a room, which the instance keeps, makes one when it needs
    /// it.
    pub fn within(instance: &Arc<Instance>) -> Store {
        Store::of(instance, Identity::program())
    }

    /// The same, for someone else, who may do what they may do.
    pub fn of(instance: &Arc<Instance>, identity: Identity) -> Store {
        Store::near(instance, identity, None)
    }

    /// The same, whose sessions keep a guest for as long as they are there.
    pub(crate) fn keeping(instance: &Arc<Instance>, identity: Identity, guest: Guest) -> Store {
        Store::near(instance, identity, Some(guest))
    }

    fn near(instance: &Arc<Instance>, identity: Identity, guest: Option<Guest>) -> Store {
        Store(Way::Within(Arc::new(Near { instance: Arc::clone(instance), identity, guest, idle: Mutex::default() })))
    }

    /// For how long it is tried to connect to a keyspace elsewhere before a command fails: 10 seconds where nothing is said.
    pub fn patience(self, patience: Duration) -> RedisResult<Store> {
        match &self.0 {
            Way::Within(_) => Ok(self),
            Way::Far(far) => Ok(Store(Way::Far(Arc::new(Far::open(far.address.clone(), patience, far.connect_max)?)))),
        }
    }

    /// How long each try to connect to a keyspace elsewhere may take: 5 seconds where nothing is said.
    pub fn connect_max(self, longest: Duration) -> RedisResult<Store> {
        match &self.0 {
            Way::Within(_) => Ok(self),
            Way::Far(far) => Ok(Store(Way::Far(Arc::new(Far::open(far.address.clone(), far.patience, longest)?)))),
        }
    }

    /// Where it is, without a password.
    pub fn address(&self) -> Arc<str> {
        match &self.0 {
            Way::Within(_) => "this process".into(),
            Way::Far(far) => Arc::clone(far.address.shown()),
        }
    }

    /// A connection of its own.
    pub async fn line(&self) -> RedisResult<Line> {
        match &self.0 {
            Way::Within(near) => Ok(Line(Kind::Within(near.session(Protocol::Resp3)))),
            Way::Far(far) => far.line().await,
        }
    }

    /// A connection that tasks share and that hears messages between its replies, such as those of a peer. There is none to a cluster.
    pub async fn link(&self, hear: Hear) -> RedisResult<Link> {
        match &self.0 {
            Way::Within(near) => {
                let within = near.session(Protocol::Resp3);
                // Messages as requests are written, so that one parser reads both.
                within.session.client.mailbox.set_protocol(Protocol::Resp2);
                Ok(Link::within(within, hear))
            }
            Way::Far(far) => far.link(hear).await.map(Link::one),
        }
    }

    /// Messages, from when this is answered on.
    pub async fn listen(&self, topics: Topics) -> RedisResult<Messages> {
        match &self.0 {
            Way::Within(near) => listen::within(near.session(Protocol::Resp2), &topics).await,
            Way::Far(far) => listen::far(far, topics).await,
        }
    }

    /// What happens to keys whose names fit a pattern, from when this is answered on. Has every server publish such events that does not yet
    /// (`notify-keyspace-events`), which costs each write there a little.
    pub async fn key_events(&self, pattern: &str) -> RedisResult<KeyEvents> {
        let db = match &self.0 {
            Way::Within(_) => {
                listen::turn_events_on(&mut self.clone()).await?;
                0
            }
            Way::Far(far) => far.db(),
        };
        let prefix = format!("__keyspace@{db}__:");
        let mut topics = Topics::patterns([format!("{prefix}{pattern}")]);
        topics.are_of_keys = true;
        Ok(KeyEvents::new(self.listen(topics).await?, prefix.len()))
    }

    /// Changes keys together, if none of those that are watched changes meanwhile; tries again where one does. `change` reads over the line and
    /// puts commands into the pipeline; where it puts none, nothing is changed and the answer is None.
    ///
    /// Errors: keys of different hash tags (`CROSSSLOT`), and keys that others change a thousand times in between.
    pub async fn transaction<K: ToRedisArgs, T: FromRedisValue>(
        &self,
        watched: &[K],
        mut change: impl AsyncFnMut(&mut Line, &mut Pipeline) -> RedisResult<()>,
    ) -> RedisResult<Option<T>> {
        let mut watch = redis::cmd("WATCH");
        watch.arg(watched);
        check_slot(&[&watch])?;
        let mut line = self.line().await?;
        for _ in 0..TRIES_MAX {
            line.one(&watch).await?.extract_error()?;
            let mut pipeline = redis::pipe();
            pipeline.atomic();
            change(&mut line, &mut pipeline).await?;
            if pipeline.is_empty() {
                return Ok(None);
            }
            check_slot(&std::iter::once(&watch).chain(pipeline.cmd_iter()).collect::<Vec<_>>())?;
            if let Some(done) = pipeline.query_async(&mut line).await? {
                return Ok(Some(done));
            }
        }
        let text = format!("others changed what it watches {TRIES_MAX} times");
        Err(RedisError::from((ErrorKind::Client, "failed to change keys together", text)))
    }

    async fn ask(&self, ask: Ask<'_>) -> RedisResult<Vec<Value>> {
        match &self.0 {
            Way::Within(near) => ask.check(&near.instance.table)?,
            Way::Far(_) => ask.check(Table::keyspace())?,
        }
        match &self.0 {
            Way::Within(near) => {
                let mut line = Line(Kind::Within(near.idle_session()));
                let answer = ask.over(&mut line).await;
                if let Line(Kind::Within(within)) = line {
                    near.keep(within);
                }
                answer
            }
            Way::Far(far) if ask.may_wait() => {
                let mut line = far.idle_line().await?;
                let answer = ask.over(&mut line).await;
                match answer {
                    Err(error) if is_broken(&error) => Err(far.named(error)),
                    // Nobody here knows what it has made of the connection.
                    answer if ask.is_of_a_room() => answer,
                    answer => {
                        far.keep(line);
                        answer
                    }
                }
            }
            Way::Far(far) => match far.ask_common(&ask).await {
                // It may be that it was done; where that makes no difference, it is asked again.
                Err(error) if is_broken(&error) && ask.only_reads() => far.ask_common(&ask).await,
                answer => answer,
            }
            .map_err(|error| far.named(error)),
        }
    }
}

impl Far {
    async fn ask_common(&self, ask: &Ask<'_>) -> RedisResult<Vec<Value>> {
        let common = self.common().await?;
        let mut line = Line(match common.wire.clone() {
            Wire::One(wire) => Kind::One(wire),
            Wire::Cluster(wire) => Kind::Cluster(wire),
        });
        let answer = ask.over(&mut line).await;
        if answer.as_ref().is_err_and(is_broken) {
            common.lost();
        }
        answer
    }
}

/// What is asked at once.
enum Ask<'a> {
    One(&'a Cmd),
    Many { pipeline: &'a Pipeline, offset: usize, count: usize },
}

impl Ask<'_> {
    fn commands(&self) -> Vec<&Cmd> {
        match self {
            Ask::One(command) => vec![command],
            Ask::Many { pipeline, .. } => pipeline.cmd_iter().collect(),
        }
    }

    /// Refuses what must last longer than it would here, and what a cluster could not do.
    fn check(&self, table: &Table) -> RedisResult<()> {
        let commands = self.commands();
        refuse_strange(commands.iter().copied())?;
        for command in &commands {
            let is_of_client = is_named(command, b"client")
                && !argument(command, 1).is_some_and(|word| OF_OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other)));
            let row = argument(command, 0).and_then(|name| table.find(name));
            let lasts = row.is_some_and(|(_, row)| row.flags & flag::LASTS != 0);
            if lasts || is_of_client || LASTING.iter().any(|name| is_named(command, name)) {
                return Err(not_here(command, "it changes what later commands mean; Store::line is a connection of your own"));
            }
        }
        match self {
            Ask::Many { pipeline, .. } if pipeline.is_transaction() => check_slot(&commands),
            _ => Ok(()),
        }
    }

    async fn over(&self, line: &mut Line) -> RedisResult<Vec<Value>> {
        match self {
            Ask::One(command) => Ok(vec![line.one(command).await?]),
            Ask::Many { pipeline, offset, count } => line.many(pipeline, *offset, *count).await,
        }
    }

    /// Whether it changes nothing.
    fn only_reads(&self) -> bool {
        let reads = |command: &Cmd| {
            let row = argument(command, 0).and_then(|name| Table::keyspace().find(name));
            row.is_some_and(|(_, row)| matches!(row.run, Run::Read(_)))
        };
        self.commands().into_iter().all(reads)
    }

    /// Whether others would wait for it on a connection that is shared.
    fn may_wait(&self) -> bool {
        self.commands().into_iter().any(may_wait)
    }

    /// Whether it asks a room of flux, and not the keyspace alone.
    fn is_of_a_room(&self) -> bool {
        self.commands().into_iter().any(is_of_a_room)
    }
}

fn is_of_a_room(command: &Cmd) -> bool {
    argument(command, 0).is_some_and(|name| name.len() > 5 && name[..5].eq_ignore_ascii_case(b"flux."))
}

fn may_wait(command: &Cmd) -> bool {
    let Some(name) = argument(command, 0) else { return false };
    let waits = Table::keyspace().find(name).is_some_and(|(_, row)| row.flags & flag::BLOCKING != 0);
    let reads_stream = name.eq_ignore_ascii_case(b"xread") || name.eq_ignore_ascii_case(b"xreadgroup");
    let says_block =
        || command.args_iter().any(|arg| matches!(arg, redis::Arg::Simple(word) if word.eq_ignore_ascii_case(b"block")));
    is_of_a_room(command) || waits && (!reads_stream || says_block())
}

/// Refuses commands whose keys are of several slots of a cluster.
fn check_slot(commands: &[&Cmd]) -> RedisResult<()> {
    let mut found = None;
    for command in commands {
        let args = args(command);
        let Some((_, row)) = argument(command, 0).and_then(|name| Table::keyspace().find(name)) else { continue };
        for at in leaf_unchecked(row, args.args()).key_positions(args.args()) {
            let slot = args.args().get(at).map(slot_of);
            if found.is_some() && slot != found {
                let text = "all keys that change together must have the same hash tag, as in flux:job:{7}:log".to_owned();
                return Err(RedisError::from((redis::ServerErrorKind::CrossSlot.into(), "keys of several slots", text)));
            }
            found = slot;
        }
    }
    Ok(())
}

impl Near {
    fn session(&self, protocol: Protocol) -> Within {
        let mut within = Within::new(&self.instance, &self.identity, protocol, Timer::Tokio);
        within.guest = self.guest.clone();
        within
    }

    fn idle_session(&self) -> Within {
        let idle = self.idle.lock().pop();
        idle.filter(|within| !within.is_closed()).unwrap_or_else(|| self.session(Protocol::Resp3))
    }

    fn keep(&self, within: Within) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX && !within.is_closed() {
            idle.push(within);
        }
    }
}

impl ConnectionLike for Store {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut answer = self.ask(Ask::One(command)).await?;
            answer.pop().ok_or_else(|| RedisError::from((ErrorKind::Client, "no command was given")))
        })
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move { self.ask(Ask::Many { pipeline, offset, count }).await })
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Way::Within(_) => 0,
            Way::Far(far) => far.db(),
        }
    }
}
