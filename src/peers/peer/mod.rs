//! A peer in Rust: a program that can be called by others, calls them, and shares workspaces with them. The same whether
//! the server is in this process or far away.
//!
//! It speaks the commands `FLUX.*` over two connections: one for commands and messages, one that waits for work.
//! [`life`] keeps them up, [`serve`] runs the calls that come.

mod call;
mod job;
mod life;
mod pushes;
mod serve;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use crate::lifecycle;
use crate::peers::names;
pub use crate::peers::peer::call::{Answer, Call};
pub use crate::peers::peer::job::{Capability, Job};
pub use crate::peers::peer::stream::{Chunk, StreamReader, StreamWriter};
pub use crate::peers::wire::{Event, Peer as PeerRecord};
use crate::store::{Link, Store};

/// How long a call may take where nothing else is said, as in the first version of the protocol.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first connection may take where nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls that one peer runs at once where nothing else is said.
const CONCURRENCY: usize = 64;
/// How long [`Peer::stop`] waits for calls under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Events that a slow listener may be behind before it misses some, which it is then told.
const EVENTS_MAX: usize = 4096;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no, or the call failed: a code such as `NOPEER`, `TIMEOUT` or `FAILED`, and why.
    #[error("{message}")]
    Refused {
        /// One word, in capitals.
        code: String,
        /// For people.
        message: String,
    },
    /// There was no answer in time, not even the server's that there is none.
    #[error("timeout after {} ms", .0.as_millis())]
    Timeout(Duration),
    /// There was no server for as long as [`Builder::connect_timeout`] allows.
    #[error("no server after {} ms: failed to {why}", .waited.as_millis())]
    NoServer {
        /// For how long it was tried.
        waited: Duration,
        /// What went wrong the last time.
        why: String,
    },
    /// The server was started anew, or forgot the call: whether it ran is not known.
    #[error("the call was lost with the server; whether it ran is not known")]
    Lost,
    /// This peer was stopped.
    #[error("the peer was stopped")]
    Stopped,
    /// The connection failed.
    #[error("reach the server: {0}")]
    Connection(redis::RedisError),
    /// What came is not JSON, or not of the type asked for.
    #[error("read what came: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Error {
        match (error.code(), error.detail()) {
            // It will be there in a moment, as one that is being restarted.
            (Some("LOADING"), _) => Error::Connection(error),
            (Some(code), Some(detail)) => Error::Refused { code: code.to_owned(), message: detail.to_owned() },
            _ => Error::Connection(error),
        }
    }
}

/// A peer to be: what it is called and what it can do.
pub struct Builder {
    store: Store,
    name: String,
    timeout: Duration,
    connect_timeout: Option<Duration>,
    concurrency: usize,
    capabilities: BTreeMap<String, Capability>,
}

impl Builder {
    /// What people call it. Without, the first letters of its id.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = name.into();
        self
    }

    /// How long its calls may take where they do not say.
    pub fn call_timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// How long [`Builder::start`] waits for a server that is not there yet: 30 seconds unless said. None waits without an end.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Builder {
        self.connect_timeout = timeout.into();
        self
    }

    /// How many calls it runs at once.
    pub fn concurrency(mut self, count: usize) -> Builder {
        self.concurrency = count.max(1);
        self
    }

    /// Offers a capability.
    pub fn expose(mut self, capability: Capability) -> Builder {
        self.capabilities.insert(capability.name.clone(), capability);
        self
    }

    /// Connects and registers. Waits for a server that is not there yet, for as long as [`Builder::connect_timeout`] says, and
    /// logs meanwhile what is wrong. Fails if the server refuses the peer.
    pub async fn start(self) -> Result<Peer, Error> {
        let id = crate::id::uuid();
        let name = if self.name.is_empty() { id[..8].to_owned() } else { self.name };
        let shared = Arc::new(Shared {
            id,
            name,
            store: self.store,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            concurrency: self.concurrency,
            capabilities: self.capabilities,
            workspaces: Mutex::default(),
            moving: tokio::sync::Mutex::default(),
            secret: crate::id::secret(),
            told: AtomicU64::new(0),
            link: watch::channel(None).0,
            calls: Mutex::default(),
            running: Mutex::default(),
            events: broadcast::channel(EVENTS_MAX).0,
            stops: watch::channel(false).0,
        });
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let life = lifecycle::of_connection(life::live(Arc::clone(&shared), ready));
        is_ready.await.map_err(|_| Error::Stopped)??;
        Ok(Peer { shared, life: Mutex::new(Some(life)) })
    }
}

/// What the parts of a peer share.
struct Shared {
    id: String,
    name: String,
    store: Store,
    timeout: Duration,
    connect_timeout: Option<Duration>,
    concurrency: usize,
    capabilities: BTreeMap<String, Capability>,
    workspaces: Mutex<BTreeSet<String>>,
    /// Joining and leaving are done one after the other, so that the server hears of them in the order of `workspaces`.
    moving: tokio::sync::Mutex<()>,
    /// Proves over each of its connections that it is the same peer.
    secret: String,
    /// How often it told the server what it is, so that the server knows what it reads too late.
    told: AtomicU64,
    /// The connection for commands, while there is one, and the number of the registration with which it began.
    link: watch::Sender<Option<(Link, u64)>>,
    /// Calls it made that have not ended.
    calls: Mutex<HashMap<String, call::Pending>>,
    /// Calls it runs.
    running: Mutex<HashMap<String, tokio::task::AbortHandle>>,
    events: broadcast::Sender<Event>,
    stops: watch::Sender<bool>,
}

impl Shared {
    /// The connection for commands; waits for it.
    async fn connection(&self) -> Result<Link, Error> {
        self.registered().await.map(|(link, _)| link)
    }

    /// The same, and the number of the registration with which it began.
    async fn registered(&self) -> Result<(Link, u64), Error> {
        let mut link = self.link.subscribe();
        let mut stops = self.stops.subscribe();
        tokio::select! {
            link = link.wait_for(Option::is_some) => link.map_err(|_| Error::Stopped)?.clone().ok_or(Error::Stopped),
            _ = stops.wait_for(|stops| *stops) => Err(Error::Stopped),
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        Ok(command.query_async(&mut self.connection().await?).await?)
    }

    /// Says after which of its registrations something is told.
    fn after<'a>(&self, command: &'a mut Cmd, number: u64) -> &'a mut Cmd {
        command.arg("GENERATION").arg(&self.id).arg(number)
    }

    /// What it registers with.
    fn record(&self) -> Value {
        let capabilities: Vec<Value> = self.capabilities.values().map(Capability::record).collect();
        let workspaces = self.workspaces.lock().clone();
        json!({ "id": self.id, "name": self.name, "capabilities": capabilities, "workspaces": workspaces })
    }
}

/// A peer that is there. Dropping it leaves at once; [`Peer::stop`] finishes what it runs first.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use flux::peers::{Capability, Job};
///
/// let flux = flux::Flux::in_memory();
/// let greeter = flux.peer().name("greeter").expose(Capability::new("greet", |name: String, _: Job| async move {
///     Ok::<_, std::convert::Infallible>(format!("hello, {name}"))
/// }));
/// let greeter = greeter.start().await?;
///
/// let other = flux.peer().name("other").start().await?;
/// assert_eq!(other.call("greet", "Ada").await?, "hello, Ada");
/// # greeter.stop().await;
/// # Ok::<(), flux::peers::Error>(())
/// # }).unwrap();
/// ```
pub struct Peer {
    shared: Arc<Shared>,
    life: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Peer {
    /// A peer of the server at `redis://HOST:PORT` (`lux://` is another word for it).
    pub fn connect(url: &str) -> Result<Builder, Error> {
        // It tries again by itself.
        let store = Store::open(url).and_then(|store| store.patience(Duration::ZERO)).map_err(Error::Connection)?;
        Ok(Peer::of(store))
    }

    /// A peer of the server whose keyspace this is.
    pub fn of(store: Store) -> Builder {
        let connect_timeout = Some(CONNECT_TIMEOUT);
        Builder {
            store,
            name: String::new(),
            timeout: CALL_TIMEOUT,
            connect_timeout,
            concurrency: CONCURRENCY,
            capabilities: BTreeMap::new(),
        }
    }

    /// What the server knows it by.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Joins a workspace: its events come from now on. Answers who is there, this peer among them.
    pub async fn join(&self, workspace: &str) -> Result<Vec<PeerRecord>, Error> {
        let _turn = self.shared.moving.lock().await;
        // One that the server refuses would have it refuse each connection that is made from then on.
        names::workspace(workspace.as_bytes()).map_err(|error| {
            let (code, message) = error.0.split_once(' ').unwrap_or(("ERR", &*error.0));
            Error::Refused { code: code.to_owned(), message: message.to_owned() }
        })?;
        // Before it is asked for: a connection that is made meanwhile tells the server of it, too.
        let is_new = self.shared.workspaces.lock().insert(workspace.to_owned());
        let joined = self.ask_to_join(workspace).await;
        if joined.is_err() && is_new {
            self.shared.workspaces.lock().remove(workspace);
        }
        read_all(&joined?)
    }

    async fn ask_to_join(&self, workspace: &str) -> Result<Vec<String>, Error> {
        let (mut connection, number) = self.shared.registered().await?;
        connection.subscribe(life::events_channel(workspace)).await?;
        Ok(self.shared.after(redis::cmd("FLUX.JOIN").arg(workspace), number).query_async(&mut connection).await?)
    }

    /// Leaves a workspace.
    pub async fn leave(&self, workspace: &str) -> Result<(), Error> {
        let _turn = self.shared.moving.lock().await;
        self.shared.workspaces.lock().remove(workspace);
        let (mut connection, number) = self.shared.registered().await?;
        connection.unsubscribe(life::events_channel(workspace)).await?;
        Ok(self.shared.after(redis::cmd("FLUX.LEAVE").arg(workspace), number).exec_async(&mut connection).await?)
    }

    /// Every peer that is there.
    pub async fn peers(&self) -> Result<Vec<PeerRecord>, Error> {
        read_all(&self.shared.ask::<Vec<String>>(&redis::cmd("FLUX.PEERS")).await?)
    }

    /// The peers of a workspace.
    pub async fn peers_in(&self, workspace: &str) -> Result<Vec<PeerRecord>, Error> {
        read_all(&self.shared.ask::<Vec<String>>(redis::cmd("FLUX.PEERS").arg("WORKSPACE").arg(workspace)).await?)
    }

    /// The peers with a capability.
    pub async fn discover(&self, capability: &str) -> Result<Vec<PeerRecord>, Error> {
        read_all(&self.shared.ask::<Vec<String>>(redis::cmd("FLUX.PEERS").arg("CAPABILITY").arg(capability)).await?)
    }

    /// What is known of a capability: its description, the schema of its payload, who has it.
    pub async fn describe(&self, capability: &str) -> Result<Value, Error> {
        let text: String = self.shared.ask(redis::cmd("FLUX.DESCRIBE").arg(capability)).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Calls a capability of whichever peer has it; await it, or say more first.
    pub fn call(&self, capability: &str, payload: impl serde::Serialize) -> Call {
        Call::new(Arc::clone(&self.shared), capability, serde_json::to_string(&payload))
    }

    /// What happens in the workspaces it joined, but for what it did itself. A listener that is too slow is told how many
    /// events it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The shared context of a workspace.
    pub fn context<'a>(&'a self, workspace: &'a str) -> Context<'a> {
        Context { shared: &self.shared, workspace }
    }

    /// A stream of its own in a workspace, to be written to.
    pub fn stream(&self, workspace: &str, key: &str) -> StreamWriter {
        StreamWriter::new(Arc::clone(&self.shared), workspace, key)
    }

    /// Another peer's stream in a workspace that this one has joined, from the oldest chunk that is kept.
    pub fn read_stream(&self, workspace: &str, peer: &str, key: &str) -> StreamReader {
        StreamReader::new(Arc::clone(&self.shared), workspace, peer, key)
    }

    /// Leaves: takes no more calls, finishes those it runs (for five seconds at most), and is gone for the others.
    pub async fn stop(self) {
        self.shared.stops.send_replace(true);
        let life = self.life.lock().take();
        if let Some(life) = life {
            // A life that panicked has said so.
            let _ = life.await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stops.send_replace(true);
        if let Some(life) = self.life.lock().take() {
            life.abort();
        }
        self.shared.link.send_replace(None);
    }
}

/// Shared values of a workspace.
pub struct Context<'a> {
    shared: &'a Shared,
    workspace: &'a str,
}

impl Context<'_> {
    fn command(&self, name: &str, key: Option<&str>) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(self.workspace);
        if let Some(key) = key {
            command.arg(key);
        }
        command
    }

    /// Sets a value: a text as it is, anything else as JSON. Answers its version.
    pub async fn set(&self, key: &str, value: impl serde::Serialize) -> Result<u64, Error> {
        self.shared.ask(self.command("FLUX.CTX.SET", Some(key)).arg(text(&value)?)).await
    }

    /// Sets a value if nobody did since this version (0: if there is none); else refused with the code `CONFLICT`.
    pub async fn set_if(&self, key: &str, value: impl serde::Serialize, version: u64) -> Result<u64, Error> {
        let mut command = self.command("FLUX.CTX.SET", Some(key));
        self.shared.ask(command.arg(text(&value)?).arg("IFVERSION").arg(version)).await
    }

    /// A value, a text where it is no JSON.
    pub async fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        let found: Option<String> = self.shared.ask(&self.command("FLUX.CTX.GET", Some(key))).await?;
        Ok(found.map(value))
    }

    /// The same with its version.
    pub async fn get_with_version(&self, key: &str) -> Result<Option<(Value, u64)>, Error> {
        let mut command = self.command("FLUX.CTX.GET", Some(key));
        let found: Option<(String, u64)> = self.shared.ask(command.arg("WITHVERSION")).await?;
        Ok(found.map(|(text, version)| (value(text), version)))
    }

    /// Deletes a value; whether there was one.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.shared.ask(&self.command("FLUX.CTX.DEL", Some(key))).await
    }

    /// The keys that have values.
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        self.shared.ask(&self.command("FLUX.CTX.KEYS", None)).await
    }

    /// The last values of a key, the newest first: version, value, and the id of the peer that set it.
    pub async fn history(&self, key: &str) -> Result<Vec<(u64, Value, String)>, Error> {
        let entries: Vec<(u64, String, String)> = self.shared.ask(&self.command("FLUX.CTX.HISTORY", Some(key))).await?;
        Ok(entries.into_iter().map(|(version, text, peer)| (version, value(text), peer)).collect())
    }
}

/// A context value as all clients keep it: a text as it is, anything else as JSON.
fn text(value: &impl serde::Serialize) -> Result<String, Error> {
    Ok(match serde_json::to_value(value)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

fn value(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn read_all(texts: &[String]) -> Result<Vec<PeerRecord>, Error> {
    Ok(texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?)
}
