//! A session for a request: commands run as if the client had come over TCP, waits and durability included, without a
//! thread that blocks. Lives as long as its handle: when a request is given up, so is what it waits for.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo};

use super::answer::Refusal;
use super::{Busy, Caller, Door};
use crate::commands::clients::Origin;
use crate::connection;
use crate::lifecycle;

/// Bytes that may be on their way in either direction.
const PIPE_BYTES: usize = 64 * 1024;

/// Hears the messages of a session's channels, and its end. It must be short.
pub type Hear = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Opens a session for a caller whom the guard let in.
pub async fn open(door: &Arc<Door>, caller: Caller) -> Result<MultiplexedConnection, Refusal> {
    open_for(door, caller, None).await
}

/// The same, for someone who may hear what is published meanwhile.
pub async fn open_for(door: &Arc<Door>, caller: Caller, hear: Option<Hear>) -> Result<MultiplexedConnection, Refusal> {
    let mut session = connection::admit(&door.instance, Arc::clone(&door.stats), origin(caller)).map_err(refused)?;
    session.is_authenticated = true;
    *session.client.stranger.lock() = None;
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (busy, gate) = (Busy::begin(door), Arc::clone(&door.gate));
    lifecycle::of_connection(async move {
        connection::run(far, session, gate, None).await;
        drop(busy);
    });
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if hear.is_some() {
        info = info.set_protocol(ProtocolVersion::RESP3);
    }
    let (line, driver) = MultiplexedConnection::new_with_config(&info, near, config(hear)).await?;
    lifecycle::of_connection(driver);
    Ok(line)
}

/// How a connection of ours is: calls take as long as they take, whoever waits for them cancels them.
pub fn config(hear: Option<Hear>) -> AsyncConnectionConfig {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    match hear {
        None => config,
        Some(hear) => config.set_push_sender(move |push| {
            hear(push);
            Ok::<_, std::convert::Infallible>(())
        }),
    }
}

/// As `CLIENT LIST` and protected mode see a caller.
pub fn origin(caller: Caller) -> Origin {
    Origin::tcp(Ok(caller.address), Ok(caller.local_address))
}

/// A RESP error as one of HTTP.
fn refused(resp: &str) -> Refusal {
    let text = resp.trim_start_matches('-').trim_end();
    let (code, error) = text.split_once(' ').unwrap_or(("ERR", text));
    Refusal::new(if code == "ERR" { "MAXCLIENTS" } else { code }, error)
}
