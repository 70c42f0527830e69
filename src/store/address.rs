//! Where a keyspace is, in words: what a [`Store`](super::Store) is opened by.

use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError, RedisResult};

/// Nodes of a cluster that may be named; a client finds the others by itself.
const NODES_MAX: usize = 64;
/// Bytes of an address. The longest that anyone needs names many nodes.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// What an address looks like.
const HINT: &str = "an address looks like redis://HOST:PORT, rediss://HOST:PORT (TLS), redis+cluster://HOST:PORT,HOST:PORT or \
                    redis+unix:///PATH";

/// How long a connection may be quiet until it is looked whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a cluster may take to answer. Those who give up earlier say so themselves, and some wait for hours.
const ANSWER_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An address that was read.
#[derive(Clone)]
pub struct Address {
    pub(super) place: Place,
    /// For people: without the password.
    shown: Arc<str>,
}

#[derive(Clone)]
pub(super) enum Place {
    /// One server.
    One(ConnectionInfo),
    /// A cluster, by some of its nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl Address {
    /// Reads an address: `redis://`, `rediss://`, `redis+unix://` or `unix://` as the `redis` crate has them (`[user:password@]host[:port][/db]`),
    /// and `redis+cluster://` or `rediss+cluster://` with several hosts; `lux://` is another word for `redis://`. What it answers to anything
    /// else does not repeat it, since that may hold a password.
    pub fn parse(text: &str) -> RedisResult<Address> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(wrong(format!("it is longer than {ADDRESS_BYTES_MAX} bytes")));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        match scheme {
            "redis+cluster" | "rediss+cluster" => cluster(scheme, rest),
            "lux" => one("redis", rest),
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "unix" => one(scheme, rest),
            _ => Err(wrong("its scheme is none of these")),
        }
    }

    /// The same with a password, where it has none.
    pub fn with_password(mut self, password: &str) -> Address {
        let add = |info: &ConnectionInfo| match info.redis_settings().password() {
            Some(_) => info.clone(),
            None => {
                let settings = info.redis_settings().clone().set_password(password);
                info.clone().set_redis_settings(settings)
            }
        };
        self.place = match &self.place {
            Place::One(info) => Place::One(add(info)),
            Place::Cluster(nodes) => Place::Cluster(nodes.iter().map(add).collect()),
        };
        self
    }

    pub(super) fn shown(&self) -> &Arc<str> {
        &self.shown
    }

    pub(super) fn cluster_client(nodes: &[ConnectionInfo], connect_max: Duration) -> RedisResult<ClusterClient> {
        ClusterClient::builder(nodes.iter().cloned())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(connect_max)
            .response_timeout(ANSWER_MAX)
            .tcp_settings(tcp())
            .build()
    }
}

/// Shown without what is secret.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

fn one(scheme: &str, rest: &str) -> RedisResult<Address> {
    let info = server(&format!("{scheme}://{rest}"))?;
    let shown = shown(scheme, &[&info]);
    Ok(Address { place: Place::One(info), shown })
}

fn cluster(scheme: &str, rest: &str) -> RedisResult<Address> {
    let each = scheme.trim_end_matches("+cluster");
    let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
    if hosts.contains(['/', '?', '#']) && !hosts.ends_with("/0") {
        return Err(wrong("a cluster has one database, and no options"));
    }
    let hosts: Vec<&str> = hosts.trim_end_matches("/0").split(',').collect();
    if hosts.len() > NODES_MAX {
        return Err(wrong(format!("it names more than {NODES_MAX} nodes; a few are enough")));
    }
    let at = if user.is_empty() { "" } else { "@" };
    let nodes: Vec<ConnectionInfo> =
        hosts.iter().map(|host| server(&format!("{each}://{user}{at}{host}"))).collect::<RedisResult<_>>()?;
    let shown = shown(scheme, &nodes.iter().collect::<Vec<_>>());
    Ok(Address { place: Place::Cluster(nodes), shown })
}

fn server(url: &str) -> RedisResult<ConnectionInfo> {
    // The parser passes over these.
    if url.contains(|letter: char| letter.is_control() || letter == ',') {
        return Err(wrong("it has a comma or a control character; several nodes are a redis+cluster://"));
    }
    let info = url.into_connection_info().map_err(|error| wrong(error.detail().map_or(error.to_string(), str::to_owned)))?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_keepalive(socket2::TcpKeepalive::new().with_time(KEEPALIVE))
}

fn shown(scheme: &str, nodes: &[&ConnectionInfo]) -> Arc<str> {
    let nodes: Vec<String> = nodes.iter().map(|info| info.addr().to_string()).collect();
    format!("{scheme}://{}", nodes.join(",")).into()
}

fn wrong(why: impl std::fmt::Display) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "failed to read the address", format!("{why}; {HINT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Address::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        for (text, expected) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("lux://localhost:7", "redis://localhost:7"),
            ("rediss://me:secret@example.com:6380/3", "rediss://example.com:6380"),
            ("redis://[::1]:6390", "redis://::1:6390"),
            ("redis+unix:///run/a.sock?db=2&pass=secret", "redis+unix:///run/a.sock"),
            ("unix:///run/a.sock", "unix:///run/a.sock"),
            ("redis+cluster://me:se%40cret@a:1,b:2,c", "redis+cluster://a:1,b:2,c:6379"),
            ("rediss+cluster://a/0", "rediss+cluster://a:6379"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.to_string(), expected);
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn strange_addresses_are_refused_in_words_that_tell_no_secret() {
        let long = format!("redis://{}", "a".repeat(ADDRESS_BYTES_MAX));
        let many = format!("redis+cluster://{}", vec!["a:1"; NODES_MAX + 1].join(","));
        for text in [
            "",
            "redis",
            "://",
            "redis://",
            "redis:///",
            "http://secret@host",
            "file:///secret",
            "REDIS+CLUSTER",
            "redis://host:99999",
            "redis://host:port",
            "redis://a,b",
            "redis://secret@a,b:1",
            "redis+cluster://",
            "redis+cluster://a,,b",
            "redis+cluster://a,b/1",
            "redis+cluster://:secret@a?x=y",
            "redis+cluster://a,b:x",
            "redis://host/secret",
            "redis://0.0.0.0",
            "redis://[::",
            "redis://a\nb",
            "redis://a\0b",
            "redis+unix://",
            "redis://user:secret@",
            "redis://:secret@host:1:2",
            "rediss://host/#nothing",
            &long,
            &many,
        ] {
            let said = refusal(text);
            assert!(said.contains("an address looks like"), "{text}: {said}");
            assert!(!said.contains("secret") && said.len() < 400, "{said}");
        }
    }

    #[test]
    fn a_password_is_added_where_there_is_none() {
        let password = |text: &str| {
            let Place::Cluster(nodes) = Address::parse(text).expect(text).with_password("p").place else {
                panic!("it is a cluster")
            };
            nodes.iter().map(|node| node.redis_settings().password().map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(password("redis+cluster://a,b"), [Some("p".to_owned()), Some("p".to_owned())]);
        assert_eq!(password("redis+cluster://:own@a"), [Some("own".to_owned())]);
    }
}
