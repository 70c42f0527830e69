//! `/mcp`: MCP over streamable HTTP, with sessions for hosts that want to be told of changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::mcp::{Open, Server};
use super::seats::{Claim, Seats};
use super::{Caller, Door, line};
use crate::commands::identity::Way;
use crate::commands::route::{Answer, Ask, Refusal};

/// How long a session may do nothing. A host that comes back later begins a new one.
const IDLE_MAX: Duration = Duration::from_secs(1800);
/// The header that names a session.
pub(crate) const SESSION: &str = "Mcp-Session-Id";

/// What all hosts share.
pub(crate) struct Hosts {
    sessions: Arc<LocalSessionManager>,
    seats: Arc<Seats>,
    service: StreamableHttpService<Server, LocalSessionManager>,
}

impl Hosts {
    pub(crate) fn new(door: &Weak<Door>, body_bytes_max: usize) -> Hosts {
        let server = Server::new(open(door.clone()));
        let mut sessions = LocalSessionManager::default();
        sessions.session_config = SessionConfig::default();
        sessions.session_config.keep_alive = Some(IDLE_MAX);
        let sessions = Arc::new(sessions);
        // The guard has looked at hosts and origins before.
        let config = StreamableHttpServerConfig::default().disable_allowed_hosts().with_max_request_body_bytes(body_bytes_max);
        let service = StreamableHttpService::new(move || Ok(server.clone()), Arc::clone(&sessions), config);
        Hosts { sessions, seats: Arc::default(), service }
    }
}

/// Sessions within this process.
fn open(door: Weak<Door>) -> Open {
    Arc::new(move |hear| {
        let door = door.upgrade();
        Box::pin(async move {
            let door = door.ok_or_else(Refusal::ending)?;
            let here = ([127, 0, 0, 1], 0).into();
            line::link(&door, Caller { address: here, local_address: here }, Way::Mcp, hear).await
        })
    })
}

pub(crate) async fn serve(ask: Ask) -> Answer {
    let (door, caller) = (Arc::clone(Door::of(&ask)), Caller::of(&ask));
    let (hosts, named) = (&door.hosts, ask.text(SESSION).map(str::to_owned));
    let request = ask.into_request();
    if let Some(id) = named {
        if !hosts.sessions.has_session(&id.as_str().into()).await.unwrap_or(false) {
            return Err(Refusal::new("NOSESSION", "there is no such session: begin a new one with `initialize`"));
        }
        // The session is busy for as long as its answer is read, which may be as long as the host is there.
        let visit = hosts.seats.visit(&id);
        let is_over = request.method() == Method::DELETE;
        let mut response = hosts.service.handle(request).await;
        if is_over && response.status().is_success() {
            hosts.seats.leave(&id);
            // Hosts know 200 and 204 to say that a session has ended, and complain of the 202 that the service says.
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        return Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &visit;
                frame
            }))
        }));
    }
    let place = loop {
        match hosts.seats.claim(caller.address.ip()) {
            Claim::Free(place) => break place,
            Claim::Evict(id) => {
                // One that has ended by itself is not there any more, which is as good.
                let _ = hosts.sessions.close_session(&id.into()).await;
            }
            Claim::Full(why) => return Err(Refusal::new("BUSY", why)),
        }
    };
    let response = hosts.service.handle(request).await;
    if let Some(id) = response.headers().get(SESSION).and_then(|id| id.to_str().ok()) {
        place.take(id);
    }
    Ok(response.map(Body::new))
}
