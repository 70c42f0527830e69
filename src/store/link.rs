//! One connection that several tasks share and that hears messages of channels between its replies, in the order in which the server sent
//! both.

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::lifecycle;
use crate::resp::{Args, Limits, OwnedArgs, Parser};
use crate::store::line::args;
use crate::store::within::Within;

/// Commands that may wait for those before them; who has more waits to hand them over.
const ORDERS_MAX: usize = 64;
/// What is read was written in this process.
const LIMITS: Limits = Limits { bulk_bytes_max: u32::MAX as u64, is_authenticated: true };

/// Hears the messages of a connection's channels, and its end. It must be short.
pub type Hear = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that tasks share, made by [`Store::link`](super::Store::link). Commands are carried out in the order in which they were handed
/// over, so one that waits holds up those behind it. Dropping all clones closes it, and ends what it waits for.
#[derive(Clone)]
pub struct Link(Kind);

#[derive(Clone)]
enum Kind {
    Within { orders: mpsc::Sender<Order>, _ends: Arc<Ends> },
    One(MultiplexedConnection),
}

/// Ends the task when nobody can order any more.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Order {
    commands: Vec<OwnedArgs>,
    answer: oneshot::Sender<RedisResult<Vec<Value>>>,
}

impl Link {
    /// Over a session of this process, carried by a task of its own.
    pub(super) fn within(within: Within, hear: Hear) -> Link {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let ends = Arc::new(Ends(lifecycle::of_connection(carry(within, taken, hear)).abort_handle()));
        Link(Kind::Within { orders, _ends: ends })
    }

    pub(super) fn one(wire: MultiplexedConnection) -> Link {
        Link(Kind::One(wire))
    }

    /// Hears what is published in a channel from now on.
    pub async fn subscribe(&mut self, channel: impl AsRef<[u8]>) -> RedisResult<()> {
        match &mut self.0 {
            Kind::Within { .. } => {
                let mut command = redis::cmd("SUBSCRIBE");
                command.arg(channel.as_ref());
                self.req_packed_command(&command).await?.extract_error().map(drop)
            }
            Kind::One(wire) => wire.subscribe(channel.as_ref()).await,
        }
    }

    /// Hears it no more.
    pub async fn unsubscribe(&mut self, channel: impl AsRef<[u8]>) -> RedisResult<()> {
        match &mut self.0 {
            Kind::Within { .. } => {
                let mut command = redis::cmd("UNSUBSCRIBE");
                command.arg(channel.as_ref());
                self.req_packed_command(&command).await?.extract_error().map(drop)
            }
            Kind::One(wire) => wire.unsubscribe(channel.as_ref()).await,
        }
    }

    async fn order(&self, commands: Vec<OwnedArgs>) -> RedisResult<Vec<Value>> {
        let Kind::Within { orders, .. } = &self.0 else { unreachable!("others are asked themselves") };
        let (answer, answered) = oneshot::channel();
        let ended = |_| RedisError::from((ErrorKind::Io, "the connection has ended"));
        orders.send(Order { commands, answer }).await.map_err(|_| ended(()))?;
        answered.await.map_err(|_| ended(()))?
    }
}

async fn carry(mut within: Within, mut orders: mpsc::Receiver<Order>, hear: Hear) {
    let heard = Arc::clone(&hear);
    within.hear = Some(Box::new(move |bytes| tell(bytes, &heard)));
    loop {
        tokio::select! {
            biased;
            // Messages first, as they came before what is asked now.
            is_open = within.mailed() => if !is_open { break },
            order = orders.recv() => {
                let Some(Order { commands, answer }) = order else { return };
                within.run(commands.iter().map(OwnedArgs::args)).await;
                within.take_mail();
                // Whoever does not wait any more needs no answer.
                let _ = answer.send(within.values());
            }
        }
    }
    hear(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
}

/// Tells of messages, which are written as requests are.
fn tell(bytes: &[u8], hear: &Hear) {
    let mut parser = Parser::default();
    while let Ok(Some(args)) = parser.next(bytes, LIMITS) {
        hear(push(args));
    }
}

fn push(args: Args<'_>) -> PushInfo {
    let kind = match args.at(0) {
        b"message" => PushKind::Message,
        b"pmessage" => PushKind::PMessage,
        b"smessage" => PushKind::SMessage,
        other => PushKind::Other(String::from_utf8_lossy(other).into_owned()),
    };
    PushInfo { kind, data: args.from(1).iter().map(|part| Value::BulkString(part.to_vec())).collect() }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            match &mut self.0 {
                Kind::Within { .. } => {
                    let mut values = self.order(vec![args(command)]).await?;
                    values.pop().ok_or_else(|| RedisError::from((ErrorKind::Client, "no command was given")))
                }
                Kind::One(wire) => wire.req_packed_command(command).await,
            }
        })
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match &mut self.0 {
                Kind::Within { .. } => {
                    let mut values = self.order(super::line::each(pipeline)).await?;
                    values.drain(..offset.min(values.len()));
                    values.truncate(count);
                    Ok(values)
                }
                Kind::One(wire) => wire.req_packed_commands(pipeline, offset, count).await,
            }
        })
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Kind::Within { .. } => 0,
            Kind::One(wire) => wire.get_db(),
        }
    }
}
