//! Keyspaces of other processes: connections to them, made anew when they fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::id;
use crate::store::address::{Address, Place};
use crate::store::line::{Kind, Line};
use crate::store::link::Hear;

/// The first pause before it is tried again to connect; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Lines kept for the next command that waits; more are closed when their command is over.
const IDLE_MAX: usize = 8;

/// A keyspace elsewhere.
pub(super) struct Far {
    pub address: Address,
    /// For how long it is tried to connect before a command fails.
    pub patience: Duration,
    /// How long each try may take.
    pub connect_max: Duration,
    client: Way,
    /// The connection that all commands share which do not wait.
    common: tokio::sync::Mutex<Shared>,
    idle: Mutex<Vec<Line>>,
}

enum Way {
    One(Client),
    Cluster(ClusterClient, Vec<ConnectionInfo>),
}

/// The shared connection, or why there is none.
#[derive(Default)]
struct Shared {
    connection: Option<Common>,
    /// Why the last try failed, and when.
    failed: Option<(Instant, RedisError)>,
}

/// A connection, perhaps one that all share.
#[derive(Clone)]
pub(super) struct Common {
    pub wire: Wire,
    /// Set when it has ended, or failed.
    is_gone: Arc<AtomicBool>,
}

impl Common {
    /// It failed: whoever asks next has another made. This waits for nobody, also not for who makes one already.
    pub(super) fn lost(&self) {
        self.is_gone.store(true, Relaxed);
    }
}

#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Far {
    pub(super) fn open(address: Address, patience: Duration, connect_max: Duration) -> RedisResult<Far> {
        let client = match &address.place {
            Place::One(info) => Way::One(Client::open(info.clone())?),
            Place::Cluster(nodes) => Way::Cluster(Address::cluster_client(nodes, connect_max)?, nodes.clone()),
        };
        Ok(Far { address, patience, connect_max, client, common: tokio::sync::Mutex::default(), idle: Mutex::default() })
    }

    /// The database it works in.
    pub(super) fn db(&self) -> i64 {
        match &self.address.place {
            Place::One(info) => info.redis_settings().db(),
            Place::Cluster(_) => 0,
        }
    }

    /// The shared connection.
    pub(super) async fn common(&self) -> RedisResult<Common> {
        let asked = Instant::now();
        let mut common = self.common.lock().await;
        if let Some(found) = common.connection.as_ref().filter(|found| !found.is_gone.load(Relaxed)) {
            return Ok(found.clone());
        }
        // Whoever waited here while another tried has waited as long as patience lasts: all of them fail together.
        if let Some((_, error)) = common.failed.as_ref().filter(|(failed, _)| *failed >= asked) {
            return Err(error.clone());
        }
        match self.reach(|| self.connect()).await {
            Ok(made) => {
                *common = Shared { connection: Some(made.clone()), failed: None };
                Ok(made)
            }
            Err(error) => {
                common.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> RedisResult<Common> {
        let is_gone = Arc::<AtomicBool>::default();
        let wire = match &self.client {
            Way::One(client) => {
                let gone = Arc::clone(&is_gone);
                let config = self.config().set_push_sender(move |push: PushInfo| {
                    gone.fetch_or(push.kind == PushKind::Disconnection, Relaxed);
                    Ok::<_, std::convert::Infallible>(())
                });
                Wire::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            // Its client knows by itself which of its connections have ended.
            Way::Cluster(client, _) => Wire::Cluster(client.get_async_connection().await?),
        };
        Ok(Common { wire, is_gone })
    }

    /// A connection of its own.
    pub(super) async fn line(&self) -> RedisResult<Line> {
        let common = self.reach(|| self.connect()).await?;
        Ok(Line(match common.wire {
            Wire::One(wire) => Kind::One(wire),
            Wire::Cluster(wire) => Kind::Cluster(wire),
        }))
    }

    /// A connection of its own that hears messages.
    pub(super) async fn link(&self, hear: Hear) -> RedisResult<MultiplexedConnection> {
        let Way::One(client) = &self.client else {
            let text = format!("{}: peers belong to one server", self.address);
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "no such connection to a cluster", text)));
        };
        let config = self.config().set_push_sender(move |push| {
            hear(push);
            Ok::<_, std::convert::Infallible>(())
        });
        self.reach(|| client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// The same, perhaps one that another command used.
    pub(super) async fn idle_line(&self) -> RedisResult<Line> {
        let idle = self.idle.lock().pop();
        // It may have ended while nobody used it, and a command that is lost is not asked again.
        if let Some(mut line) = idle
            && redis::cmd("PING").exec_async(&mut line).await.is_ok()
        {
            return Ok(line);
        }
        self.line().await
    }

    /// Keeps a line whose command is over.
    pub(super) fn keep(&self, line: Line) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(line);
        }
    }

    /// Clients of the servers that tell of events at keys: of each master of a cluster, since none tells of another's.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Client>> {
        let (Way::Cluster(_, nodes), Wire::Cluster(mut cluster)) = (&self.client, self.common().await?.wire) else {
            return Ok(vec![self.any()?]);
        };
        let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut cluster).await?;
        let found = masters(&slots);
        found.iter().map(|(host, port)| Client::open(at(&nodes[0], host, *port))).collect()
    }

    /// A client of any server that takes part: messages published at one of a cluster are heard at all.
    pub(super) fn any(&self) -> RedisResult<Client> {
        match &self.client {
            Way::One(client) => Ok(client.clone()),
            Way::Cluster(_, nodes) => Client::open(nodes[id::random_below(nodes.len())].clone()),
        }
    }

    /// Connects, and tries again for as long as patience lasts where it may help. Errors tell the address.
    pub(super) async fn reach<T, F: Future<Output = RedisResult<T>>>(&self, connect: impl Fn() -> F) -> RedisResult<T> {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match timeout(self.connect_max, connect()).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => error,
                Err(_) => RedisError::from((ErrorKind::Io, "nothing came back", format!("within {:?}", self.connect_max))),
            };
            if !is_passing(&error) || begun.elapsed() + pause > self.patience {
                return Err(self.named(error));
            }
            // Somewhat at random, so that all who wait for a server do not knock at once.
            sleep(pause.mul_f64(0.5 + id::random_below(1000) as f64 / 1000.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Calls take as long as they take: whoever waits for them gives them up.
    pub(super) fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(self.connect_max))
    }

    /// An error of a connection with the address; what the server says itself stays as it is.
    pub(super) fn named(&self, error: RedisError) -> RedisError {
        if matches!(
            error.kind(),
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::Client | ErrorKind::UnexpectedReturnType
        ) {
            return error;
        }
        let text = format!("{}: {error}", self.address);
        RedisError::from((error.kind(), "failed to ask the server at", text))
    }
}

/// Whether the connection that answered with this error is of no more use.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Whether it may be different in a moment.
fn is_passing(error: &RedisError) -> bool {
    error.is_io_error() || error.code() == Some("LOADING") || error.kind() == ErrorKind::ClusterConnectionNotFound
}

/// A node at another address than one that is known.
fn at(known: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    use redis::ConnectionAddr::{Tcp, TcpTls, Unix};
    let addr = match known.addr().clone() {
        TcpTls { insecure, tls_params, .. } => TcpTls { host: host.to_owned(), port, insecure, tls_params },
        Tcp(..) | Unix(_) => Tcp(host.to_owned(), port),
        // The crate may have more kinds one day.
        other => other,
    };
    known.clone().set_addr(addr)
}

/// The masters in an answer to `CLUSTER SLOTS`: each range of slots, from which to which, and where the master is.
fn masters(slots: &Value) -> BTreeSet<(String, u16)> {
    let list = |value: &Value| if let Value::Array(values) = value { values.clone() } else { Vec::new() };
    let of_range = |range: &Value| {
        let master = list(list(range).get(2)?);
        let host = redis::from_redis_value(master.first()?.clone()).ok()?;
        let port = redis::from_redis_value(master.get(1)?.clone()).ok()?;
        Some((host, port))
    };
    list(slots).iter().filter_map(of_range).collect()
}
