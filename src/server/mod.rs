//! The RESP door: listens on TCP and a unix socket, and carries bytes between clients and their sessions.
//!
//! Each worker is a thread with a runtime of its own, and a connection stays with the worker it was given to; commands
//! run inline on it. One thread accepts and hands connections out in turn, so that workers have equal shares.

mod socket;

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::commands::admit;
use crate::commands::identity::Origin;
use crate::commands::instance::Instance;
use crate::commands::script::own_stack;
use crate::commands::sockets::Permit;
use crate::commands::stats::WorkerStats;
use crate::config::Name;
use crate::connection;
use crate::engine::gate::Gate;
use crate::lifecycle::{self, Phase, Plan};
use crate::machine;
use crate::memory;
use crate::storage;

/// How often a worker looks whether it has come to rest.
const REST: Duration = Duration::from_secs(1);
/// A worker to which so little was sent between two looks, and that freed so little of what it was to send, is at rest.
const REST_BYTES_MAX: u64 = 64 * 1024;

/// With how many workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Threads that carry out commands.
    pub workers: usize,
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen on {0}: {1}; {hint}", hint = machine::listen_hint(.1, "--port", "--bind"))]
    Address(SocketAddr, io::Error),
    /// The socket's path cannot be used.
    #[error(
        "listen on `{path}`: {1}; its folder must be there, and nothing else under this name: choose another with --unixsocket",
        path = .0.display()
    )]
    Socket(PathBuf, io::Error),
    /// A thread could not be started.
    #[error("start a worker: {0}")]
    Worker(io::Error),
}

/// A running door.
pub(crate) struct Handle {
    /// Where it listens, ports resolved.
    pub addresses: Vec<SocketAddr>,
    _unix_socket: Option<SocketFile>,
}

enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A connection there is room for.
type Admitted = (Accepted, Permit);

/// Addresses and a unix socket that are ours, though nobody accepts there yet.
pub(crate) struct Taken {
    tcp: Vec<StdTcpListener>,
    unix: Option<(SocketFile, std::os::unix::net::UnixListener)>,
}

/// The file of a unix socket that is ours, as long as this lives.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes the addresses (port 0 is any free one), with room for so many connections that wait: so whoever has not made or loaded anything
/// yet knows that they can be had. They are listened at, since the system lets two processes take an address where neither listens.
pub(crate) fn take(addresses: &[SocketAddr], backlog: i32) -> Result<Taken, Error> {
    let taken = |address: &SocketAddr| Ok(listen(*address, backlog).map_err(|error| Error::Address(*address, error))?.into());
    let tcp = addresses.iter().map(taken).collect::<Result<_, _>>()?;
    Ok(Taken { tcp, unix: None })
}

impl Taken {
    /// Takes a unix socket as well, whose permissions may be named, such as 0o700.
    pub(crate) fn add_unix(&mut self, path: &Path, mode: Option<u32>) -> Result<(), Error> {
        self.unix = Some(listen_unix(path, mode).map_err(|error| Error::Socket(path.to_owned(), error))?);
        Ok(())
    }
}

/// Starts the workers, and accepts at the addresses.
pub(crate) fn start(instance: &Arc<Instance>, taken: Taken, options: &Options) -> Result<Handle, Error> {
    let listeners = taken.tcp;
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let (unix_socket, unix) = taken.unix.unzip();
    let mut senders = Vec::new();
    for number in 0..options.workers.max(1) {
        let (sender, receiver) = mpsc::unbounded_channel();
        senders.push(sender);
        let works = Arc::clone(instance);
        let plan = Plan::new(format!("worker-{number}"), Phase::Finish);
        instance.lifecycle().start(plan, move |_| work(&works, receiver)).map_err(Error::Worker)?;
    }
    let accepts = Arc::clone(instance);
    let accept = move |_: &_| accept_all(&accepts, listeners, unix, &senders);
    instance.lifecycle().start(Plan::new("acceptor", Phase::Accept), accept).map_err(Error::Worker)?;
    Ok(Handle { addresses, _unix_socket: unix_socket })
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while old connections linger; a second server is still refused.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog.max(1))?;
    Ok(socket)
}

fn listen_unix(path: &Path, mode: Option<u32>) -> io::Result<(SocketFile, std::os::unix::net::UnixListener)> {
    let is_socket = path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        // Nobody answers: it was left behind by a server that was killed.
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    listener.set_nonblocking(true)?;
    if let Some(mode) = mode {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok((file, listener))
}

fn runtime(wakes: impl Fn() + Send + Sync + 'static) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().on_thread_unpark(wakes).build().expect("a runtime needs only what the process already has")
}

/// Accepts until the server ends, and gives each connection to the next worker.
fn accept_all(
    instance: &Arc<Instance>,
    tcp: Vec<StdTcpListener>,
    unix: Option<std::os::unix::net::UnixListener>,
    workers: &[mpsc::UnboundedSender<Admitted>],
) {
    runtime(|| ()).block_on(async {
        let local = tokio::task::LocalSet::new();
        let next = std::rc::Rc::new(std::cell::Cell::new(0));
        let hand_over = {
            let workers = workers.to_vec();
            let instance = Arc::clone(instance);
            move |accepted: Accepted| {
                // Here and not at the worker, so that no file descriptor waits there.
                let Some(permit) = connection::make_room(&instance, &origin(&accepted).address) else {
                    return refuse(accepted, connection::FULL);
                };
                next.set((next.get() + 1) % workers.len());
                // A worker that is gone means the server ends.
                let _ = workers[next.get()].send((accepted, permit));
            }
        };
        for listener in tcp {
            let Ok(listener) = TcpListener::from_std(listener) else { continue };
            let accept = async move || listener.accept().await?.0.into_std().map(Accepted::Tcp);
            local.spawn_local(accept_from(accept, hand_over.clone()));
        }
        if let Some(listener) = unix.and_then(|listener| UnixListener::from_std(listener).ok()) {
            let accept = async move || listener.accept().await?.0.into_std().map(Accepted::Unix);
            local.spawn_local(accept_from(accept, hand_over));
        }
        local.run_until(instance.ended()).await;
    });
}

/// Accepts from one listener for ever.
async fn accept_from(accept: impl AsyncFn() -> io::Result<Accepted>, hand_over: impl Fn(Accepted)) {
    loop {
        match accept().await {
            Ok(accepted) => hand_over(accepted),
            Err(error) => connection::not_accepted(&error).await,
        }
    }
}

/// A worker's life: carries its connections until the server ends.
fn work(instance: &Arc<Instance>, mut accepted: mpsc::UnboundedReceiver<Admitted>) {
    storage::serve_here();
    let stats = instance.stats.worker();
    stats.is_this_thread();
    let woken = Arc::clone(&stats);
    let wakes = move || {
        woken.woke();
        socket::worker_wakes();
    };
    runtime(wakes).block_on(async {
        let gate = Arc::new(Gate::default());
        connection::keep(&gate, instance);
        drop(lifecycle::of_connection(own_stack::keep()));
        instance.stats.watch(&gate);
        let mut connections = tokio::task::JoinSet::new();
        let mut rest = Rest::default();
        let mut looks = tokio::time::interval(REST);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => rest.look(&stats),
                next = accepted.recv() => match next {
                    Some(next) => drop(connections.spawn(serve(Arc::clone(instance), Arc::clone(&stats), Arc::clone(&gate), next))),
                    None => break,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    });
    own_stack::end_here(instance);
}

/// Sees when a worker that was busy has come to rest, and lets it give its free memory back then.
#[derive(Default)]
struct Rest {
    bytes: u64,
    has_garbage: bool,
}

impl Rest {
    fn look(&mut self, stats: &WorkerStats) {
        let bytes = stats.bytes_in.load(Relaxed).wrapping_add(stats.freed_bytes.load(Relaxed));
        let grown = bytes.wrapping_sub(self.bytes);
        self.bytes = bytes;
        if grown > REST_BYTES_MAX {
            self.has_garbage = true;
        } else if self.has_garbage {
            self.has_garbage = false;
            memory::hand_back();
        }
    }
}

async fn serve(instance: Arc<Instance>, stats: Arc<WorkerStats>, gate: Arc<Gate>, (accepted, _permit): Admitted) {
    let keepalive = instance.config.count(Name::TcpKeepalive);
    let session = match admit::enter(&instance, stats, origin(&accepted)) {
        Ok(session) => session,
        Err(error) => return refuse(accepted, &format!("-{error}\r\n")),
    };
    match accepted {
        Accepted::Tcp(stream) => {
            let _ = stream.set_nodelay(true);
            if keepalive > 0 {
                let every = socket2::TcpKeepalive::new().with_time(Duration::from_secs(keepalive));
                let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&every);
            }
            if let Ok(stream) = TcpStream::from_std(stream) {
                let (socket, outlet) = socket::split(stream, &session);
                connection::run(socket, session, gate, Some(outlet)).await;
            }
        }
        Accepted::Unix(stream) => {
            if let Ok(stream) = UnixStream::from_std(stream) {
                connection::run(stream, session, gate, None).await;
            }
        }
    }
}

fn origin(accepted: &Accepted) -> Origin {
    match accepted {
        Accepted::Tcp(stream) => Origin::tcp(stream.peer_addr(), stream.local_addr()),
        Accepted::Unix(stream) => {
            let address = stream.local_addr().ok();
            Origin::unix(address.as_ref().and_then(|address| address.as_pathname()))
        }
    }
}

fn refuse(accepted: Accepted, text: &str) {
    use std::io::Write;
    let text = text.as_bytes();
    // The socket's buffer is empty, so this does not block; a client that is gone needs no answer.
    let _ = match accepted {
        Accepted::Tcp(mut stream) => stream.write_all(text),
        Accepted::Unix(mut stream) => stream.write_all(text),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_servers_that_start_at_once_one_has_the_address() {
        let first = take(&[([127, 0, 0, 1], 0).into()], 16).expect("some port is free");
        let address = first.tcp[0].local_addr().expect("it is bound");
        assert!(matches!(take(&[address], 16), Err(Error::Address(_, error)) if error.kind() == io::ErrorKind::AddrInUse));
    }
}
