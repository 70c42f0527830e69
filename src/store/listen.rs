//! What is published and what happens to keys, as streams. A reader that is slow holds up nobody: only so many bytes wait for it, and what comes
//! beyond is dropped and counted, which it is told in its place.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::lifecycle;
use crate::resp::{Args, Limits, OwnedArgs, Parser};
use crate::store::far::Far;
use crate::store::within::Within;

/// Bytes of messages that wait for a reader where nothing else is said.
const MAILBOX_BYTES: usize = 4 << 20;
/// How often it is looked whether a cluster has other masters.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two rounds of tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// The setting that says which events at keys are published, and what it must have in it.
const EVENTS: &str = "notify-keyspace-events";
const ALL_EVENTS: &str = "AK";
/// What is read was written in this process.
const LIMITS: Limits = Limits { bulk_bytes_max: u32::MAX as u64, is_authenticated: true };

/// What a stream yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// Something that happened.
    Item(T),
    /// At this place some are missing: so many, as the reader was slow; None if the connection failed meanwhile, and nobody knows.
    Lost(Option<u64>),
}

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub channel: Vec<u8>,
    /// What was published.
    pub payload: Vec<u8>,
}

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// The key.
    pub key: Vec<u8>,
    /// What happened, in Redis' words: `set`, `del`, `expired`.
    pub event: String,
}

/// What to listen to.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    channels: Vec<Vec<u8>>,
    patterns: Vec<Vec<u8>>,
    bytes_max: Option<usize>,
    /// Whether they are events at keys, which each server publishes for itself.
    pub(super) are_of_keys: bool,
}

impl Topics {
    /// These channels.
    pub fn channels<C: AsRef<[u8]>>(names: impl IntoIterator<Item = C>) -> Topics {
        Topics { channels: names.into_iter().map(|name| name.as_ref().to_vec()).collect(), ..Topics::default() }
    }

    /// Channels whose names fit these patterns, as `PSUBSCRIBE` has them.
    pub fn patterns<C: AsRef<[u8]>>(patterns: impl IntoIterator<Item = C>) -> Topics {
        Topics { patterns: patterns.into_iter().map(|name| name.as_ref().to_vec()).collect(), ..Topics::default() }
    }

    /// Bytes of messages that may wait: 4 MiB where nothing is said.
    pub fn mailbox(mut self, bytes: usize) -> Topics {
        self.bytes_max = Some(bytes);
        self
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max.unwrap_or(MAILBOX_BYTES)
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &[Vec<u8>])> {
        let each = [("SUBSCRIBE", &self.channels[..]), ("PSUBSCRIBE", &self.patterns[..])];
        each.into_iter().filter(|(_, names)| !names.is_empty())
    }
}

/// Messages as they come. Dropping it stops listening.
pub struct Messages(Source);

enum Source {
    Within(Near),
    Far { queue: Arc<Queue>, keeper: AbortHandle },
}

impl Messages {
    /// The next message; None once a server within this process has ended.
    pub async fn next(&mut self) -> Option<Heard<Message>> {
        StreamExt::next(self).await
    }
}

impl Stream for Messages {
    type Item = Heard<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard<Message>>> {
        match &mut self.0 {
            Source::Within(near) => near.poll_next(cx),
            Source::Far { queue, .. } => queue.poll_next(cx).map(Some),
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if let Source::Far { keeper, .. } = &self.0 {
            keeper.abort();
        }
    }
}

/// Events at keys as they come. Dropping it stops listening.
pub struct KeyEvents {
    messages: Messages,
    /// How the channels of keys begin.
    prefix: usize,
}

impl KeyEvents {
    pub(super) fn new(messages: Messages, prefix: usize) -> KeyEvents {
        KeyEvents { messages, prefix }
    }

    /// The next event; None once a server within this process has ended.
    pub async fn next(&mut self) -> Option<Heard<KeyEvent>> {
        StreamExt::next(self).await
    }
}

impl Stream for KeyEvents {
    type Item = Heard<KeyEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard<KeyEvent>>> {
        let prefix = self.prefix;
        Pin::new(&mut self.messages).poll_next(cx).map(|heard| {
            heard.map(|heard| match heard {
                Heard::Item(Message { channel, payload }) => {
                    let key = channel.get(prefix..).unwrap_or_default().to_vec();
                    Heard::Item(KeyEvent { key, event: String::from_utf8_lossy(&payload).into_owned() })
                }
                Heard::Lost(count) => Heard::Lost(count),
            })
        })
    }
}

/// A session of this process that listens.
struct Near {
    within: Within,
    /// Messages that were taken from its mailbox.
    bytes: Vec<u8>,
    parser: Parser,
    /// How many are missing after them.
    lost: u64,
}

/// Listens within this process. The session must speak RESP2, in which a message looks like a request.
pub(super) async fn within(mut within: Within, topics: &Topics) -> RedisResult<Messages> {
    let mailbox = &within.session.client.mailbox;
    mailbox.set_bytes_max(topics.bytes_max());
    mailbox.count_lost();
    let each = topics
        .each()
        .map(|(word, names)| OwnedArgs::new(std::iter::once(word.as_bytes()).chain(names.iter().map(Vec::as_slice))));
    for args in each.collect::<Vec<_>>() {
        within.run([args.args()]).await;
        let reply = within.reply.take();
        if reply.starts_with(b"-") {
            return Err(redis::parse_redis_value(&reply).and_then(Value::extract_error).err().unwrap_or_else(closed));
        }
    }
    Ok(Messages(Source::Within(Near { within, bytes: Vec::new(), parser: Parser::default(), lost: 0 })))
}

fn closed() -> RedisError {
    RedisError::from((ErrorKind::Io, "the server ends"))
}

impl Near {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard<Message>>> {
        loop {
            // What was written here by ourselves is whole.
            if let Ok(Some(args)) = self.parser.next(&self.bytes, LIMITS) {
                return Poll::Ready(Some(Heard::Item(message(args))));
            }
            (self.bytes, self.parser) = (Vec::new(), Parser::default());
            if self.lost > 0 {
                return Poll::Ready(Some(Heard::Lost(Some(std::mem::take(&mut self.lost)))));
            }
            self.within.session.client.mailbox.register(cx.waker());
            match self.within.session.client.mailbox.take() {
                Some(mail) => {
                    (self.bytes, self.lost) = (mail.bytes, mail.lost);
                    self.within.note(mail.close);
                }
                None if self.within.is_closed() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }
}

/// `message channel payload`, or `pmessage pattern channel payload`.
fn message(args: Args<'_>) -> Message {
    let part = |from_end: usize| args.len().checked_sub(from_end).and_then(|at| args.get(at)).unwrap_or_default().to_vec();
    Message { channel: part(2), payload: part(1) }
}

/// Messages of a server elsewhere that wait for their reader.
struct Queue {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
    bytes_max: usize,
}

#[derive(Default)]
struct Waiting {
    heard: VecDeque<Heard<Message>>,
    bytes: usize,
    /// How many came after these and were dropped.
    lost: u64,
}

impl Queue {
    fn add(&self, message: Message) {
        let bytes = size(&message);
        {
            let waiting = &mut *self.waiting.lock();
            if waiting.lost > 0 || waiting.bytes + bytes > self.bytes_max {
                waiting.lost += 1;
            } else {
                waiting.bytes += bytes;
                waiting.heard.push_back(Heard::Item(message));
            }
        }
        self.waker.wake();
    }

    /// Nobody knows what was published meanwhile.
    fn add_gap(&self) {
        {
            let waiting = &mut *self.waiting.lock();
            // However often the connection fails before the reader comes, it is one gap.
            if waiting.heard.back() != Some(&Heard::Lost(None)) {
                waiting.heard.push_back(Heard::Lost(None));
            }
        }
        self.waker.wake();
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Heard<Message>> {
        self.waker.register(cx.waker());
        let waiting = &mut *self.waiting.lock();
        match waiting.heard.pop_front() {
            Some(heard) => {
                if let Heard::Item(message) = &heard {
                    waiting.bytes -= size(message);
                }
                Poll::Ready(heard)
            }
            None if waiting.lost > 0 => Poll::Ready(Heard::Lost(Some(std::mem::take(&mut waiting.lost)))),
            None => Poll::Pending,
        }
    }
}

/// Bytes a message takes, about.
fn size(message: &Message) -> usize {
    size_of::<Heard<Message>>() + message.channel.len() + message.payload.len()
}

/// Connections that listen.
struct Ears {
    _wires: Vec<MultiplexedConnection>,
    /// Rung when one of them ends.
    ended: Arc<Notify>,
    /// Where they are.
    addresses: Vec<String>,
}

/// Listens to a keyspace elsewhere, and goes on when a connection fails, for as long as the stream is there.
pub(super) async fn far(far: &Arc<Far>, topics: Topics) -> RedisResult<Messages> {
    let queue = Arc::new(Queue { waiting: Mutex::default(), waker: AtomicWaker::new(), bytes_max: topics.bytes_max() });
    let ears = far.reach(|| hear(far, &topics, &queue)).await?;
    let keeper = lifecycle::of_connection(keep(Arc::clone(far), topics, Arc::clone(&queue), ears)).abort_handle();
    Ok(Messages(Source::Far { queue, keeper }))
}

async fn keep(far: Arc<Far>, topics: Topics, queue: Arc<Queue>, mut ears: Ears) {
    loop {
        while timeout(LOOK_EVERY, ears.ended.notified()).await.is_err() {
            // Those that cannot be asked now are asked again.
            if topics.are_of_keys && far.masters().await.is_ok_and(|masters| addresses(&masters) != ears.addresses) {
                break;
            }
        }
        drop(ears);
        ears = loop {
            match far.reach(|| hear(&far, &topics, &queue)).await {
                Ok(ears) => break ears,
                // For as long as someone wants to hear.
                Err(error) => tracing::debug!("failed to listen: {error}; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        queue.add_gap();
    }
}

async fn hear(far: &Far, topics: &Topics, queue: &Arc<Queue>) -> RedisResult<Ears> {
    let clients = if topics.are_of_keys { far.masters().await? } else { vec![far.any()?] };
    let ended = Arc::<Notify>::default();
    let mut wires = Vec::new();
    for client in &clients {
        let (queue, ended) = (Arc::clone(queue), Arc::clone(&ended));
        let config = far.config().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                ended.notify_one();
            } else if let Some(message) = pushed(push) {
                queue.add(message);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let mut wire = client.get_multiplexed_async_connection_with_config(&config).await?;
        if topics.are_of_keys {
            turn_events_on(&mut wire).await?;
        }
        for (word, names) in topics.each() {
            match word {
                "SUBSCRIBE" => wire.subscribe(names).await?,
                _ => wire.psubscribe(names).await?,
            }
        }
        wires.push(wire);
    }
    Ok(Ears { _wires: wires, ended, addresses: addresses(&clients) })
}

fn addresses(clients: &[Client]) -> Vec<String> {
    clients.iter().map(|client| client.get_connection_info().addr().to_string()).collect()
}

fn pushed(push: PushInfo) -> Option<Message> {
    if !matches!(push.kind, PushKind::Message | PushKind::PMessage) {
        return None;
    }
    let mut parts = push.data.into_iter().rev();
    match (parts.next()?, parts.next()?) {
        (Value::BulkString(payload), Value::BulkString(channel)) => Some(Message { channel, payload }),
        _ => None,
    }
}

/// Has a server publish what happens to keys, where it does not yet.
pub(super) async fn turn_events_on(wire: &mut impl ConnectionLike) -> RedisResult<()> {
    let mut told: std::collections::HashMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg(EVENTS).query_async(wire).await.map_err(no_events)?;
    let flags = told.remove(EVENTS).unwrap_or_default();
    if ALL_EVENTS.chars().all(|letter| flags.contains(letter)) {
        return Ok(());
    }
    redis::cmd("CONFIG").arg("SET").arg(EVENTS).arg(flags + ALL_EVENTS).exec_async(wire).await.map_err(no_events)
}

fn no_events(error: RedisError) -> RedisError {
    if error.code().is_none() {
        return error;
    }
    let text = format!("{error}; set {EVENTS} to {ALL_EVENTS} there");
    RedisError::from((ErrorKind::Client, "failed to turn on events at keys", text))
}
