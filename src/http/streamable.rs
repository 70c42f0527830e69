//! `/mcp`: MCP over streamable HTTP, with sessions for hosts that want to be told of changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::answer::Refusal;
use super::mcp::{Open, Server};
use super::{Caller, Door, line};

/// Sessions of hosts at a time.
const SESSIONS_MAX: usize = 1000;
/// How long a session may do nothing. A host that comes back later begins a new one.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// The header that names a session.
const SESSION: &str = "mcp-session-id";

/// What all hosts share.
pub struct Hosts {
    sessions: Arc<LocalSessionManager>,
    service: StreamableHttpService<Server, LocalSessionManager>,
}

impl Hosts {
    pub fn new(door: &Weak<Door>, body_bytes_max: usize) -> Hosts {
        let open = open(door.clone());
        let mut sessions = LocalSessionManager::default();
        sessions.session_config = SessionConfig::default();
        sessions.session_config.keep_alive = Some(IDLE_MAX);
        let sessions = Arc::new(sessions);
        // The guard has looked at hosts and origins before.
        let config = StreamableHttpServerConfig::default().disable_allowed_hosts().with_max_request_body_bytes(body_bytes_max);
        let service = StreamableHttpService::new(move || Ok(Server::new(Arc::clone(&open))), Arc::clone(&sessions), config);
        Hosts { sessions, service }
    }
}

/// Sessions within this process.
fn open(door: Weak<Door>) -> Open {
    Arc::new(move |hear| {
        let door = door.upgrade();
        Box::pin(async move {
            let door = door.ok_or_else(Refusal::ending)?;
            let here = ([127, 0, 0, 1], 0).into();
            line::open_for(&door, Caller { address: here, local_address: here }, hear).await
        })
    })
}

pub async fn serve(State(door): State<Arc<Door>>, request: Request) -> Response {
    if !request.headers().contains_key(SESSION) && door.hosts.sessions.sessions.read().await.len() >= SESSIONS_MAX {
        return Refusal::new("BUSY", format!("there are {SESSIONS_MAX} MCP sessions: end some first")).into_response();
    }
    door.hosts.service.handle(request).await.map(Body::new)
}
