//! `/resp`: RESP over WebSocket, for browsers. A session runs exactly as over TCP, its own `AUTH` included.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::websocket::{self, WebSocket};
use super::{Busy, Caller, Door};
use crate::commands::admit;
use crate::commands::identity::Way;
use crate::commands::route::{Answer, Ask, Refusal};
use crate::commands::sockets::Permit;
use crate::connection;
use crate::lifecycle;

/// How long a client may take to read the last words.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) async fn upgrade(ask: Ask) -> Answer {
    let Some(accept) = handshake(ask.headers()) else {
        let refusal = Refusal::new("UPGRADE", "this is a WebSocket that carries RESP in binary frames: connect with ws://…/resp");
        return Ok(([(header::UPGRADE, "websocket")], refusal).into_response());
    };
    let (door, caller) = (Arc::clone(Door::of(&ask)), Caller::of(&ask));
    let mut request = ask.into_request();
    let upgraded = hyper::upgrade::on(&mut request);
    // The connection goes on when the request is over.
    let permit = request.extensions_mut().remove::<Arc<Permit>>();
    // From here on its session is the one that has to give the password.
    permit.iter().for_each(|permit| *permit.stranger.lock() = None);
    lifecycle::of_connection(async move {
        let _permit = permit;
        if let Ok(stream) = upgraded.await {
            talk(WebSocket::new(TokioIo::new(stream)), &door, caller).await;
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 fits a header")),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// What to answer a client that asks for a WebSocket as it should.
fn handshake(headers: &HeaderMap) -> Option<String> {
    let has = |name, word: &str| {
        let text = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let is_asked =
        has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket") && has(header::SEC_WEBSOCKET_VERSION, "13");
    if is_asked { websocket::accept(headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes()) } else { None }
}

/// Runs the session; a client that there is no room for is told so, in RESP.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocket<S>, door: &Arc<Door>, caller: Caller) {
    let busy = Busy::begin(door);
    match admit::enter(&door.instance, Arc::clone(&door.stats), caller.origin(Way::WebSocket)) {
        Ok(session) => connection::run(&mut socket, session, Arc::clone(&door.gate), None).await,
        Err(error) => drop(socket.write_all(format!("-{error}\r\n").as_bytes()).await),
    }
    drop(busy);
    // A client that is gone or does not read needs no goodbye.
    let _ = tokio::time::timeout(GOODBYE, socket.close()).await;
}
