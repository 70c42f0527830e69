//! Ways to a server: over a socket, or within this process.

use std::convert::Infallible;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::io::DuplexStream;

use crate::lifecycle;
use crate::peers::peer::Error;
use crate::peers::peer::pushes::Pushes;

/// Where a peer's server is.
#[derive(Clone)]
pub struct Target(Way);

#[derive(Clone)]
enum Way {
    Url(redis::Client),
    Within(Arc<dyn Fn() -> DuplexStream + Send + Sync>),
}

impl Target {
    /// A server by its URL, `redis://`, `lux://` or `unix://`.
    pub fn url(url: &str) -> Result<Target, Error> {
        let plain = url.strip_prefix("lux://").map_or_else(|| url.to_owned(), |rest| format!("redis://{rest}"));
        let info = plain.into_connection_info().map_err(Error::Connection)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = redis::Client::open(info.set_redis_settings(settings)).map_err(Error::Connection)?;
        Ok(Target(Way::Url(client)))
    }

    /// The server within this process; `dial` makes one more connection to it.
    pub fn within(dial: impl Fn() -> DuplexStream + Send + Sync + 'static) -> Target {
        Target(Way::Within(Arc::new(dial)))
    }

    /// A new connection; messages and its end are told to `pushes`.
    pub(super) async fn connect(&self, pushes: Option<Pushes>) -> Result<MultiplexedConnection, Error> {
        // Waiting for work may take for ever; calls have deadlines of their own.
        let mut config = AsyncConnectionConfig::new().set_response_timeout(None);
        if let Some(pushes) = pushes {
            config = config.set_push_sender(move |push| {
                pushes.send(push);
                Ok::<_, Infallible>(())
            });
        }
        match &self.0 {
            Way::Url(client) => client.get_multiplexed_async_connection_with_config(&config).await.map_err(Error::Connection),
            Way::Within(dial) => {
                let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
                let (connection, driver) =
                    MultiplexedConnection::new_with_config(&info, dial(), config).await.map_err(Error::Connection)?;
                // Ends with the connection.
                lifecycle::of_connection(driver);
                Ok(connection)
            }
        }
    }
}
