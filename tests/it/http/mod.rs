//! The HTTP door: a door of its own for each test, and a client that shows answers as they are on the wire.

mod guard;
mod health;
mod resp;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use flux::commands::instance::Instance;
use flux::config::Config;
use flux::engine::Engine;
use flux::store::Store;
use flux::{clock, http};

/// A keyspace in memory with an HTTP door.
pub struct Door {
    pub instance: Arc<Instance>,
    door: Option<http::Handle>,
    pub address: SocketAddr,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// With its status line.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Door {
    /// With these settings.
    pub fn open(settings: &[(&str, &str)]) -> Door {
        let config = Config::default();
        for (name, value) in settings {
            config.choose(name, value, flux::config::Source::Flag).unwrap();
        }
        let instance = Instance::new(Arc::new(Engine::new(false)), Arc::new(config), clock::now_ms());
        let door = http::start(&instance, &["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = door.addresses[0];
        Door { instance, door: Some(door), address }
    }

    /// A session on the keyspace behind it.
    pub fn store(&self) -> Store {
        Store::new(&self.instance)
    }

    /// A connection that has sent these bytes.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    }

    /// Asks, with these headers more; `Host` is this door's address unless they say another.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut socket = self.send(format!("{head}\r\n{body}").as_bytes());
        let mut text = Vec::new();
        socket.read_to_end(&mut text).unwrap();
        answer(&String::from_utf8(text).unwrap())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, &[], "");
        (answer.status, answer.body)
    }
}

/// Takes an answer apart, chunks joined.
pub fn answer(text: &str) -> Answer {
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { joined(rest) } else { rest.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&after[..length]);
        rest = after.get(length + 2..).unwrap_or_default();
    }
    body
}

impl Drop for Door {
    fn drop(&mut self) {
        self.instance.end();
        let door = self.door.take().unwrap();
        door.drain();
        door.close();
    }
}
