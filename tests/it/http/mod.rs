//! The HTTP door: a door of its own for each test, and a client that shows answers as they are on the wire.

mod call;
mod context;
mod docs;
mod docs_page;
mod events;
mod guard;
mod health;
mod mcp;
mod openapi;
mod resp;
mod sdk;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use flux::commands::instance::Instance;
use flux::commands::room::OpenRooms;
use flux::config::Config;
use flux::engine::Engine;
use flux::lifecycle::{Deadline, Phase};
use flux::store::Blocking;
use flux::{clock, http};

/// A keyspace in memory with an HTTP door.
pub struct Door {
    pub instance: Arc<Instance>,
    _rooms: OpenRooms,
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
        let config = Config::of(flux::node::settings());
        for (name, value) in settings {
            config.choose(name, value, flux::config::Source::Flag).unwrap();
        }
        let instance = Instance::with(flux::node::ROOMS, Arc::new(Engine::new(false)), Arc::new(config), clock::now_ms());
        let rooms = instance.open_rooms();
        let door = http::start(&instance, http::take(&["127.0.0.1:0".parse().unwrap()]).unwrap()).unwrap();
        let address = door.addresses[0];
        Door { instance, _rooms: rooms, door: Some(door), address }
    }

    /// A session on the keyspace behind it.
    pub fn store(&self) -> Blocking {
        Blocking::new(&self.instance)
    }

    /// A connection that has sent these bytes.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        send(self.address, bytes)
    }

    /// See [`ask`].
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.address, method, path, headers, body)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, &[], "");
        (answer.status, answer.body)
    }
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes).unwrap();
    socket
}

/// Asks, with these headers more; `Host` is the door's address unless they say another.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut text = Vec::new();
    send(address, format!("{head}\r\n{body}").as_bytes()).read_to_end(&mut text).unwrap();
    answer(&String::from_utf8(text).unwrap())
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
        // As a node does, which waits for as long as it takes here.
        door.drain(&Deadline::new(Duration::MAX, Duration::MAX, || ()));
        self.instance.lifecycle().stop(Phase::Last);
    }
}

/// Events as they come.
pub struct Events(BufReader<TcpStream>);

/// One of them; what it lacks is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub text: String,
}

impl Events {
    /// Of a request that asks for them; `method` may be a POST with a body.
    pub fn ask(door: &Door, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Events {
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let socket = door.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let mut events = Events(BufReader::new(socket));
        assert_eq!(events.line().split(' ').nth(1), Some("200"));
        while !events.line().is_empty() {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Reads until it is said that the stream is connected.
    pub fn connected(mut self) -> Events {
        while self.line() != ": connected" {}
        self
    }

    /// The next event. Without one, the stream has ended.
    pub fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", name)) => event.name = name.into(),
                Some(("id", id)) => event.id = id.into(),
                Some(("data", text)) => event.text.push_str(text),
                None if event != Event::default() => return Some(event),
                _ => {}
            }
        }
    }
}

/// A peer that answers calls on a thread until it is dropped.
pub struct Worker {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a peer does with a call: what follows its id in `FLUX.REPLY`, once for each reply.
pub type Handler = fn(payload: &str) -> Vec<[String; 2]>;

impl Worker {
    /// With the capabilities (JSON) of a peer of this name, in a workspace of the same name.
    pub fn start(door: &Door, name: &str, capabilities: &str, handler: Handler) -> Worker {
        let mut store = door.store();
        let peer = format!(r#"{{"name":"{name}","capabilities":{capabilities},"workspaces":["{name}"]}}"#);
        let answer = store.call(&[b"FLUX.REGISTER", peer.as_bytes()]);
        assert!(!answer.starts_with(b"-"), "{}", String::from_utf8_lossy(&answer));
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !ends.load(Relaxed) {
                store.call(&[b"FLUX.HEARTBEAT"]);
                let answer = store.call(&[b"FLUX.NEXT", b"TIMEOUT", b"100"]);
                let jobs: Option<Vec<(String, String, String, Option<String>, u64, u64)>> =
                    redis::from_redis_value(redis::parse_redis_value(&answer).unwrap()).unwrap();
                for (id, _, payload, ..) in jobs.unwrap_or_default() {
                    for [kind, text] in handler(&payload) {
                        store.call(&[b"FLUX.REPLY", id.as_bytes(), kind.as_bytes(), text.as_bytes()]);
                    }
                }
            }
        });
        Worker { is_over, thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
