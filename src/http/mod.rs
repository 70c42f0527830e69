//! The HTTP door: whether the server lives and is ready, and its metrics. One table of routes; a thread of its own, so that
//! whoever asks here never delays a Redis client.

mod metrics;

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::clock;
use crate::commands::instance::Instance;
use crate::version::VERSION;

/// Connections the system may hold until they are accepted.
const BACKLOG: i32 = 128;

/// A listener or its thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen for HTTP on {0}: {1}; is another server running there? Choose another with --http-port, or --http-port off")]
    Address(SocketAddr, io::Error),
    /// The thread could not be started.
    #[error("start the thread for HTTP: {0}")]
    Thread(io::Error),
}

/// A path and what answers there. `GET /` lists them.
struct Route {
    path: &'static str,
    help: &'static str,
    answer: fn(&Instance) -> Response,
}

const ROUTES: &[Route] = &[
    Route { path: "/", help: "What can be asked here.", answer: index },
    Route { path: "/health", help: "200 while the process answers at all: restart it otherwise.", answer: health },
    Route {
        path: "/ready",
        help: "200 while commands are served and changes reach the disk, else 503 and why: send clients elsewhere.",
        answer: ready,
    },
    Route { path: "/metrics", help: "Counts and times in the text format of Prometheus.", answer: metrics },
];

/// A running door.
pub struct Handle {
    /// Where it listens, ports resolved.
    pub addresses: Vec<SocketAddr>,
    thread: thread::JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Handle {
    /// Closes it. To be done last, so that `/ready` says that the server ends for as long as that takes.
    pub fn close(self) {
        // Both fail only if the thread panicked, and then it has said so.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Opens the listeners and serves until it is closed.
pub fn start(instance: &Arc<Instance>, addresses: &[SocketAddr]) -> Result<Handle, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(listen(*address).map_err(|error| Error::Address(*address, error))?);
    }
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let instance = Arc::clone(instance);
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("http".into());
    let thread = thread.spawn(move || serve(&instance, listeners, stopped)).map_err(Error::Thread)?;
    Ok(Handle { addresses, thread, stop })
}

fn listen(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(instance: &Arc<Instance>, listeners: Vec<StdTcpListener>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs only what the process already has");
    runtime.block_on(async {
        for listener in listeners.into_iter().filter_map(|listener| TcpListener::from_std(listener).ok()) {
            let router = router(instance);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        // Answers are short and made at once, so none is cut by ending here.
        let _ = stopped.await;
    });
}

fn router(instance: &Arc<Instance>) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| {
        let instance = Arc::clone(instance);
        router.route(route.path, get(move || async move { (route.answer)(&instance) }))
    });
    router.fallback(|| async { (StatusCode::NOT_FOUND, "There is nothing here; GET / lists what there is.\n") })
}

fn index(_: &Instance) -> Response {
    let lines: Vec<String> = ROUTES.iter().map(|route| format!("GET {:<10} {}\n", route.path, route.help)).collect();
    format!("flux {VERSION}\n\n{}", lines.concat()).into_response()
}

fn health(instance: &Instance) -> Response {
    let uptime_s = clock::now_ms().saturating_sub(instance.started_at) / 1000;
    axum::Json(json!({ "status": "ok", "version": VERSION, "uptime_s": uptime_s })).into_response()
}

fn ready(instance: &Instance) -> Response {
    let trouble = if instance.is_ending.load(Relaxed) {
        Some("the server is ending".to_owned())
    } else {
        instance
            .durability()
            .and_then(|durability| durability.write_error())
            .map(|cause| format!("the journal cannot be written: {cause}"))
    };
    match trouble {
        None => axum::Json(json!({ "status": "ready" })).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "not ready", "reason": reason }))).into_response()
        }
    }
}

fn metrics(instance: &Instance) -> Response {
    let mut response = metrics::text(instance, clock::now_ms()).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
