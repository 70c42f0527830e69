//! The HTTP door: whether the server lives, its metrics, peers and their workspaces, RESP for browsers. One router for
//! the house's routes (`routes`) and those of all rooms, one guard before them (`guard`), pages made of their rows (`docs`, `openapi`); a thread of its own, so that whoever asks here never delays a Redis client.

mod answer;
mod counts;
mod docs;
mod guard;
mod health;
mod line;
pub(crate) mod mcp;
pub mod metrics;
mod openapi;
mod resp;
mod routes;
mod sdk;
mod seats;
mod streamable;
mod websocket;

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Condvar, Mutex};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::clock;
use crate::commands::identity::{Origin, Way};
use crate::commands::instance::Instance;
use crate::commands::route::Ask;
use crate::commands::sockets::Permit;
use crate::commands::stats::WorkerStats;
use crate::connection;
use crate::engine::gate::Gate;
use crate::lifecycle::{self, Deadline, Phase, Plan, Stop};
use crate::machine;
use crate::peers::settings::PAYLOAD_LIMIT;
use crate::storage;

pub use routes::markdown;

/// schemas/openapi.json for an instance's routes.
pub fn openapi(instance: &Instance) -> String {
    format!("{:#}\n", openapi::document(&routes::all(instance)))
}

/// Connections the system may hold until they are accepted.
const BACKLOG: i32 = 128;
/// How long a client may take to send the head of a request, and to send the next one on a connection it keeps.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// What a client is told for which there is no room.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 74\r\nConnection: close\r\n\r\n\
    {\"error\":\"as many are connected as maxclients allows\",\"code\":\"MAXCLIENTS\"}";
/// Bytes that the head of a request may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A listener or its thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen for HTTP on {0}: {1}; {hint}, or leave HTTP out with --http-port off", hint = machine::listen_hint(.1, "--http-port", "--http-bind"))]
    Address(SocketAddr, io::Error),
    /// The thread could not be started.
    #[error("start the thread for HTTP: {0}")]
    Thread(io::Error),
}

/// A running door.
pub struct Handle {
    /// Where it listens, ports resolved.
    pub addresses: Vec<SocketAddr>,
    door: Arc<Door>,
}

impl Handle {
    /// Waits until nothing that came through this door touches the keyspace any more, at most until the deadline; the instance must have
    /// been told to end. Its thread answers on, so that `/ready` says that the server ends for as long as that takes.
    pub fn drain(&self, deadline: &Deadline) {
        let is_idle_by = |until| {
            let mut busy = self.door.busy.lock();
            self.door.idle.wait_while_until(&mut busy, |busy| *busy > 0, until);
            *busy == 0
        };
        if !deadline.bound(|| (), is_idle_by) {
            tracing::error!("requests over HTTP do not end though they were cut; they are left behind");
        }
    }
}

/// What all requests share.
struct Door {
    instance: Arc<Instance>,
    stats: Arc<WorkerStats>,
    gate: Arc<Gate>,
    /// What came of requests.
    counts: counts::Counts,
    pages: docs::Pages,
    /// Hosts that speak MCP.
    hosts: streamable::Hosts,
    /// Requests and sessions that may touch the keyspace.
    busy: Mutex<usize>,
    /// Told when there are none.
    idle: Condvar,
}

impl Door {
    /// The one that carries a request.
    fn of(ask: &Ask) -> &Arc<Door> {
        ask.beside().expect("the router puts the door beside each request")
    }
}

/// One of [`Door::busy`], while it lives.
struct Busy(Arc<Door>);

impl Busy {
    fn begin(door: &Arc<Door>) -> Busy {
        *door.busy.lock() += 1;
        Busy(Arc::clone(door))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.0.busy.lock();
        *busy -= 1;
        if *busy == 0 {
            self.0.idle.notify_all();
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy)]
struct Caller {
    address: SocketAddr,
    local_address: SocketAddr,
}

impl Caller {
    /// Who sent a request.
    fn of(ask: &Ask) -> Caller {
        *ask.beside().expect("the connection puts its ends beside each request")
    }

    /// As `CLIENT LIST` and protected mode see it.
    fn origin(self, way: Way) -> Origin {
        Origin::tcp(Ok(self.address), Ok(self.local_address)).by(way)
    }
}

/// Addresses that are ours, though nobody accepts there yet.
pub struct Taken(Vec<StdTcpListener>);

/// Takes the addresses (port 0 is any free one), so that whoever has not loaded anything yet knows that they can be had.
pub fn take(addresses: &[SocketAddr]) -> Result<Taken, Error> {
    let taken = |address: &SocketAddr| Ok(listen(*address).map_err(|error| Error::Address(*address, error))?.into());
    addresses.iter().map(taken).collect::<Result<_, _>>().map(Taken)
}

/// Accepts at the addresses and serves until it is closed.
pub fn start(instance: &Arc<Instance>, taken: Taken) -> Result<Handle, Error> {
    let listeners = taken.0;
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let door = Arc::new_cyclic(|door| Door {
        instance: Arc::clone(instance),
        stats: instance.stats.worker(),
        gate: Arc::default(),
        counts: counts::Counts::new(&routes::all(instance)),
        pages: docs::Pages::default(),
        hosts: streamable::Hosts::new(door, instance.config.count_or_default(&PAYLOAD_LIMIT) as usize),
        busy: Mutex::new(0),
        idle: Condvar::new(),
    });
    let served = Arc::clone(&door);
    let serve = move |stop: &Stop| serve(&served, listeners, stop);
    instance.lifecycle().start(Plan::new("http", Phase::Last), serve).map_err(Error::Thread)?;
    Ok(Handle { addresses, door })
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    // Where neither listens, the system lets two processes take an address.
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn serve(door: &Arc<Door>, listeners: Vec<StdTcpListener>, stop: &Stop) {
    storage::serve_here();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs only what the process already has");
    runtime.block_on(async {
        connection::keep(&door.gate, &door.instance);
        door.instance.stats.watch(&door.gate);
        let router = routes::router(door);
        for listener in listeners.into_iter().filter_map(|listener| TcpListener::from_std(listener).ok()) {
            let accepts = accept(Arc::clone(door), router.clone(), listener);
            // It is refused only where the server ends already.
            let _ = door.instance.lifecycle().start_task(Plan::new("http-accept", Phase::Last), |_| accepts);
        }
        // What touches the keyspace has ended before, and the rest may be cut.
        stop.asked().await;
    });
}

/// Accepts connections, as long as there is room.
async fn accept(door: Arc<Door>, router: Router, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                connection::not_accepted(&error).await;
                continue;
            }
        };
        let Some(permit) = connection::make_room(&door.instance, &address) else {
            // The socket's buffer is empty, so this does not wait; a client that is gone needs no answer.
            let _ = stream.try_write(FULL);
            continue;
        };
        let (router, go) = (router.clone(), Arc::new(Notify::new()));
        if door.instance.password().is_some() {
            let goes = Arc::clone(&go);
            let stranger = door.instance.sockets.stranger(clock::monotonic_ms(), move || goes.notify_one());
            *permit.stranger.lock() = Some(stranger);
        }
        lifecycle::of_connection(async move {
            tokio::select! {
                () = carry(stream, address, router, Arc::new(permit)) => {}
                // Others find no room, and it has not given the password.
                () = go.notified() => {}
            }
        });
    }
}

/// Serves one connection until it is closed or becomes a WebSocket.
async fn carry(stream: TcpStream, address: SocketAddr, router: Router, permit: Arc<Permit>) {
    // Events and replies are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let caller = Caller { address, local_address: stream.local_addr().unwrap_or(address) };
    let answers = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Arc::clone(&permit));
        answers.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!("failed to serve {address} over HTTP: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is second is told while it can still go on without HTTP.
    #[test]
    fn of_two_servers_that_start_at_once_one_has_the_address() {
        let first = take(&[([127, 0, 0, 1], 0).into()]).expect("some port is free");
        let address = first.0[0].local_addr().expect("it is bound");
        assert!(matches!(take(&[address]), Err(Error::Address(_, error)) if error.kind() == io::ErrorKind::AddrInUse));
    }
}
