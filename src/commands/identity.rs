//! Who asks, how they came, and from where: what `admit` decides by, and what others see of a client.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Name};

/// How far away a client is, as far as is known. What only the server's own machine may ask for hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// In this process: a part of the program.
    Within,
    /// On this machine.
    Near,
    /// On another one, or nobody knows.
    #[default]
    Far,
}

/// The door a client came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// Through none: a part of this program.
    Within,
    /// A unix socket.
    Unix,
    /// RESP over TCP.
    #[default]
    Tcp,
    /// A request over HTTP.
    Http,
    /// RESP over WebSocket.
    WebSocket,
    /// The Model Context Protocol.
    Mcp,
    /// A part of this program, for the peer that called it.
    Call,
}

impl Way {
    /// As `CLIENT LIST` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Within => "within",
            Way::Unix => "unix",
            Way::Tcp => "tcp",
            Way::Http => "http",
            Way::WebSocket => "websocket",
            Way::Mcp => "mcp",
            Way::Call => "call",
        }
    }
}

/// Where a client comes from. Stays as it is for as long as the client is there.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The door it came through.
    pub(crate) way: Way,
    /// As `CLIENT LIST` shows it: `127.0.0.1:50412`, or the socket's path.
    pub address: String,
    /// Where it came to, likewise.
    pub(crate) local_address: String,
    /// The address itself, where it has one.
    pub(crate) ip: Option<IpAddr>,
    /// How far that is.
    pub(crate) reach: Reach,
}

impl Origin {
    /// Of a client in this process.
    pub fn within() -> Origin {
        let address = "in-process:0".to_owned();
        Origin { way: Way::Within, address: address.clone(), local_address: address, ip: None, reach: Reach::Within }
    }

    /// Of a client that came over TCP. One whose address cannot be had is far.
    pub(crate) fn tcp(peer: io::Result<SocketAddr>, local: io::Result<SocketAddr>) -> Origin {
        let text = |address: &io::Result<SocketAddr>| address.as_ref().map_or_else(|_| "?:0".to_owned(), ToString::to_string);
        let is_near = peer.as_ref().is_ok_and(|address| address.ip().is_loopback());
        Origin {
            way: Way::Tcp,
            address: text(&peer),
            local_address: text(&local),
            ip: peer.ok().map(|address| address.ip()),
            reach: if is_near { Reach::Near } else { Reach::Far },
        }
    }

    /// Of a client that came over the unix socket with this path.
    pub(crate) fn unix(path: Option<&Path>) -> Origin {
        let path = format!("{}:0", path.map(|path| path.display().to_string()).unwrap_or_default());
        Origin { way: Way::Unix, address: path.clone(), local_address: path, ip: None, reach: Reach::Near }
    }

    /// The same, where what came over a socket is more than RESP.
    pub(crate) fn by(self, way: Way) -> Origin {
        Origin { way, ..self }
    }
}

/// Who someone is, as far as was proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Who {
    /// Someone who has still to give the password.
    #[default]
    Stranger,
    /// A user, by name.
    User(Cow<'static, str>),
    /// A peer, by its id: a user's session that registered it, or what acts for it.
    Peer(Arc<str>),
    /// This program itself.
    Program,
}

impl Who {
    /// The user that everyone is who has the password, or where there is none.
    pub(crate) const DEFAULT: Who = Who::User(Cow::Borrowed("default"));
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Stranger => f.write_str("stranger"),
            Who::User(name) => write!(f, "user:{name}"),
            Who::Peer(id) => write!(f, "peer:{id}"),
            Who::Program => f.write_str("program"),
        }
    }
}

/// Who asks, how they came, and from where.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Who.
    pub(crate) who: Who,
    /// How, and from where.
    pub(crate) from: Arc<Origin>,
    /// The keys to which its commands are bound, where they are.
    pub(crate) only: Option<Arc<[Only]>>,
}

/// Keys that may be read, and perhaps changed, by who may touch no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    /// What their names begin with.
    pub prefix: Vec<u8>,
    /// Whether they may be changed.
    pub writes: bool,
}

impl Identity {
    /// A part of this program.
    pub(crate) fn program() -> Identity {
        Identity { who: Who::Program, from: Arc::new(Origin::within()), only: None }
    }

    /// A part of this program that acts for a peer, as a function does for whoever called it.
    pub fn acting_for(peer: Arc<str>) -> Identity {
        Identity { who: Who::Peer(peer), from: Arc::new(Origin::within().by(Way::Call)), only: None }
    }

    /// The same, bound to some keys: only commands are carried out that name their keys, and those of the connection itself.
    pub fn bound_to(self, only: impl Into<Arc<[Only]>>) -> Identity {
        Identity { only: Some(only.into()), ..self }
    }

    /// Whether it is known who this is.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.who != Who::Stranger
    }

    /// Whether this one may use what a setting of `no`, `yes` or `local` guards. The program itself always may.
    pub(crate) fn may(&self, config: &Config, setting: Name) -> bool {
        match &*config.text(setting) {
            "yes" => true,
            // Who acts for a peer comes from wherever that is.
            "local" => self.from.reach != Reach::Far && self.from.way != Way::Call,
            _ => self.who == Who::Program,
        }
    }

    /// Who this is once the password was given: a peer stays one.
    pub(super) fn logged_in(&self) -> Who {
        if self.is_known() { self.who.clone() } else { Who::DEFAULT }
    }

    /// Who this is when it is no peer any more.
    pub(super) fn but_no_peer(&self) -> Who {
        match (&self.who, self.from.way) {
            (Who::Stranger, _) => Who::Stranger,
            (_, Way::Within) => Who::Program,
            // It was never one by itself, and still acts for that one.
            (who, Way::Call) => who.clone(),
            _ => Who::DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_address_cannot_be_had_is_far() {
        let address = |text: &str| Ok(text.parse().expect("an address"));
        let gone = || Err(io::ErrorKind::NotConnected.into());
        assert_eq!(Origin::tcp(address("127.0.0.1:1"), gone()).reach, Reach::Near);
        assert_eq!(Origin::tcp(address("[::1]:1"), gone()).reach, Reach::Near);
        assert_eq!(Origin::tcp(address("192.168.0.7:1"), address("127.0.0.1:1")).reach, Reach::Far);
        let unknown = Origin::tcp(gone(), address("127.0.0.1:1"));
        assert_eq!((unknown.reach, unknown.address.as_str()), (Reach::Far, "?:0"));
        assert_eq!(Origin::default().reach, Reach::Far);
        assert!(!Identity::default().is_known());
    }
}
