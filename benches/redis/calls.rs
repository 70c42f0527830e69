//! Peers that call each other in three ways: through flux, through NATS, and by the old protocol of five round trips
//! over plain Redis. Every connection is a blocking one with a thread of its own, in all three alike.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis::{Connection, Value, cmd};

use crate::driver::Times;
use crate::server::{Kind, Server};

/// What is sent and comes back.
const PAYLOAD: &str = r#"{"text":"hello, peers"}"#;
/// The same for the last call, after which the peer that answers ends.
const LAST: &str = r#"{"text":"good bye"}"#;

/// Calls `echo` from so many callers at once for a while, answered by one peer, and takes the time of each call.
pub fn timed(server: &Server, callers: usize, seconds: f64) -> Result<Times> {
    let worker = answer(server)?;
    let start = Instant::now();
    let threads: Vec<_> = (0..callers)
        .map(|number| {
            let mut caller = Caller::connect(server, number)?;
            Ok(thread::spawn(move || -> Result<Vec<u32>> {
                let mut nanos = Vec::new();
                while start.elapsed().as_secs_f64() < seconds {
                    let sent_at = Instant::now();
                    caller.call(PAYLOAD)?;
                    nanos.push(sent_at.elapsed().as_nanos() as u32);
                }
                Ok(nanos)
            }))
        })
        .collect::<Result<_>>()?;
    let mut nanos = Vec::new();
    for thread in threads {
        nanos.extend(thread.join().expect("callers do not panic")?);
    }
    let elapsed = start.elapsed();
    Caller::connect(server, callers)?.call(LAST)?;
    worker.join().expect("the peer does not panic")?;
    Ok(Times::new(nanos, elapsed))
}

/// Sends PING for a while and takes the time of each answer.
pub fn pings(server: &Server, seconds: f64) -> Result<Times> {
    let (mut connection, mut nanos) = (server.connect()?, Vec::new());
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        let sent_at = Instant::now();
        cmd("PING").exec(&mut connection)?;
        nanos.push(sent_at.elapsed().as_nanos() as u32);
    }
    Ok(Times::new(nanos, start.elapsed()))
}

/// One who calls.
enum Caller {
    Flux(Connection),
    Nats { nats: Nats, inbox: String },
    Old { commands: Connection, results: BufReader<TcpStream>, id: String },
}

impl Caller {
    fn connect(server: &Server, number: usize) -> Result<Caller> {
        Ok(match server.kind() {
            Kind::Flux(_) | Kind::FluxBare => Caller::Flux(server.connect()?),
            Kind::Nats => {
                let inbox = format!("_INBOX.{number}");
                let mut nats = Nats::connect(server)?;
                nats.subscribe(&inbox)?;
                Caller::Nats { nats, inbox }
            }
            Kind::RedisAof(_) | Kind::RedisBare | Kind::ValkeyAof => {
                let id = format!("caller-{number}");
                Caller::Old { commands: server.connect()?, results: listen(server, &format!("flux:res:{id}"))?, id }
            }
        })
    }

    fn call(&mut self, payload: &str) -> Result<()> {
        match self {
            Caller::Flux(connection) => {
                let result: String = cmd("FLUX.CALL").arg("echo").arg(payload).query(connection)?;
                ensure!(result == payload, "the answer is {result}");
            }
            Caller::Nats { nats, inbox } => {
                nats.publish("echo", Some(inbox), payload.as_bytes())?;
                ensure!(nats.message()?.1 == payload.as_bytes(), "the answer is another");
            }
            Caller::Old { commands, results, id } => {
                let peers: Vec<String> = cmd("SMEMBERS").arg("flux:fn:echo").query(commands)?;
                let peer = peers.first().context("nobody has the capability")?;
                let lives: bool = cmd("EXISTS").arg(format!("flux:peer:{peer}")).query(commands)?;
                ensure!(lives, "the peer is gone");
                let job = format!(r#"{{"id":"1","fn":"echo","payload":{payload},"sourceHost":"{id}"}}"#);
                let mut send = redis::pipe();
                send.cmd("LPUSH")
                    .arg(format!("flux:q:{peer}"))
                    .arg(job)
                    .cmd("PUBLISH")
                    .arg(format!("flux:notify:{peer}"))
                    .arg("1");
                send.exec(commands)?;
                message(results)?;
            }
        }
        Ok(())
    }
}

/// Starts the peer that answers, up to the last call.
fn answer(server: &Server) -> Result<thread::JoinHandle<Result<()>>> {
    let mut commands = if server.kind() == Kind::Nats { None } else { Some(server.connect()?) };
    let mut nats = if server.kind() == Kind::Nats { Some(Nats::connect(server)?) } else { None };
    let mut notes = None;
    match (server.kind(), &mut commands, &mut nats) {
        (Kind::Flux(_), Some(commands), _) => {
            cmd("FLUX.REGISTER").arg(r#"{"name":"echo","capabilities":[{"name":"echo"}]}"#).exec(commands)?;
        }
        (_, Some(commands), _) => {
            cmd("SADD").arg("flux:fn:echo").arg("callee").exec(commands)?;
            cmd("SET").arg("flux:peer:callee").arg("{}").exec(commands)?;
            notes = Some(listen(server, "flux:notify:callee")?);
        }
        (_, _, Some(nats)) => nats.subscribe("echo")?,
        _ => unreachable!("each kind has its connection"),
    }
    Ok(thread::spawn(move || match (commands, nats, notes) {
        (Some(commands), _, Some(notes)) => answer_old(commands, notes),
        (Some(commands), ..) => answer_flux(commands),
        (_, Some(nats), _) => answer_nats(nats),
        _ => unreachable!("each kind has its connection"),
    }))
}

/// A call as FLUX.NEXT hands it over: id, capability, payload, caller, milliseconds left, attempt.
type Job = (String, String, String, Value, u64, u32);

/// Takes whatever waits, and answers it together with asking for more: one round trip.
fn answer_flux(mut commands: Connection) -> Result<()> {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let mut round = redis::pipe();
        for (id, _, payload, ..) in &jobs {
            round.cmd("FLUX.REPLY").arg(id).arg("OK").arg(payload).ignore();
        }
        if jobs.iter().any(|(_, _, payload, ..)| payload == LAST) {
            return Ok(round.exec(&mut commands)?);
        }
        round.cmd("FLUX.NEXT").arg("COUNT").arg(64);
        (jobs,) = round.query(&mut commands)?;
    }
}

fn answer_nats(mut nats: Nats) -> Result<()> {
    loop {
        let (inbox, payload) = nats.message()?;
        nats.publish(&inbox, None, &payload)?;
        if payload == LAST.as_bytes() {
            return Ok(());
        }
    }
}

fn answer_old(mut commands: Connection, mut notes: BufReader<TcpStream>) -> Result<()> {
    loop {
        message(&mut notes)?;
        while let Some(job) = cmd("RPOP").arg("flux:q:callee").query::<Option<String>>(&mut commands)? {
            let job: serde_json::Value = serde_json::from_str(&job)?;
            let source = job["sourceHost"].as_str().context("a job says where it comes from")?;
            let payload = job["payload"].to_string();
            let result = format!(r#"{{"jobId":"1","ok":true,"data":{payload}}}"#);
            cmd("PUBLISH").arg(format!("flux:res:{source}")).arg(result).exec(&mut commands)?;
            if payload == LAST {
                return Ok(());
            }
        }
    }
}

/// A connection that listens to a channel in RESP2.
pub fn listen(server: &Server, channel: &str) -> Result<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port()))?;
    socket.set_nodelay(true)?;
    let mut out = Vec::new();
    crate::driver::write_request(&mut out, &[b"SUBSCRIBE", channel.as_bytes()]);
    socket.write_all(&out)?;
    let mut reader = BufReader::with_capacity(64 * 1024, socket);
    // The confirmation: an array of two bulk strings and a count.
    (0..6).try_for_each(|_| reader.read_line(&mut String::new()).map(drop))?;
    Ok(reader)
}

/// Reads one message of a channel.
pub fn message(reader: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut line = String::new();
    let mut part = Vec::new();
    reader.read_line(&mut line)?;
    for _ in 0..3 {
        line.clear();
        reader.read_line(&mut line)?;
        let len: usize = line.trim_end().trim_start_matches('$').parse().context("a message's part has a length")?;
        part.resize(len + 2, 0);
        reader.read_exact(&mut part)?;
    }
    part.truncate(part.len() - 2);
    Ok(part)
}

/// A client of NATS: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
pub struct Nats {
    reader: BufReader<TcpStream>,
    line: String,
}

impl Nats {
    /// Connects and greets.
    pub fn connect(server: &Server) -> Result<Nats> {
        let socket = TcpStream::connect(("127.0.0.1", server.port()))?;
        socket.set_nodelay(true)?;
        let mut nats = Nats { reader: BufReader::with_capacity(64 * 1024, socket), line: String::new() };
        nats.reader.read_line(&mut nats.line)?;
        nats.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        Ok(nats)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    /// Listens to a subject; back once the server knows.
    pub fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes())?;
        self.line.clear();
        self.reader.read_line(&mut self.line)?;
        ensure!(self.line.starts_with("PONG"), "NATS answered {}", self.line);
        Ok(())
    }

    /// Publishes to a subject.
    pub fn publish(&mut self, subject: &str, inbox: Option<&str>, payload: &[u8]) -> Result<()> {
        let mut out =
            format!("PUB {subject} {}{}\r\n", inbox.map(|inbox| format!("{inbox} ")).unwrap_or_default(), payload.len())
                .into_bytes();
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
        self.send(&out)
    }

    /// Reads one message: where its answer goes (empty for none), and what it says.
    pub fn message(&mut self) -> Result<(String, Vec<u8>)> {
        loop {
            self.line.clear();
            ensure!(self.reader.read_line(&mut self.line)? > 0, "NATS closed the connection");
            if self.line.starts_with("PING") {
                self.send(b"PONG\r\n")?;
                continue;
            }
            let words: Vec<&str> = self.line.split_whitespace().collect();
            ensure!(words.first() == Some(&"MSG"), "NATS answered {}", self.line);
            let inbox = if words.len() == 5 { words[3].to_owned() } else { String::new() };
            let mut payload = vec![0; words[words.len() - 1].parse::<usize>()? + 2];
            self.reader.read_exact(&mut payload)?;
            payload.truncate(payload.len() - 2);
            return Ok((inbox, payload));
        }
    }

    /// The connection as it is, for one who only counts bytes.
    pub fn into_inner(self) -> BufReader<TcpStream> {
        self.reader
    }
}

/// Sends this many events to so many members of a workspace; tells how many deliveries there were a second.
pub fn fan_out(server: &Server, members: usize, events: usize) -> Result<f64> {
    let channel = "flux:ws:bench:events";
    let last = b"\"the-last\"";
    let mut readers = Vec::new();
    for _ in 0..members {
        let mut reader = if server.kind() == Kind::Nats {
            let mut nats = Nats::connect(server)?;
            nats.subscribe(channel)?;
            nats.into_inner()
        } else {
            listen(server, channel)?
        };
        // All read alike: until the last event is seen.
        readers.push(thread::spawn(move || -> Result<()> {
            let mut tail = Vec::new();
            loop {
                let arrived = reader.fill_buf()?;
                ensure!(!arrived.is_empty(), "a member was cut off");
                tail.extend_from_slice(arrived);
                let len = arrived.len();
                reader.consume(len);
                if memchr::memmem::find(&tail, last).is_some() {
                    return Ok(());
                }
                tail.drain(..tail.len().saturating_sub(last.len()));
            }
        }));
    }
    let start = Instant::now();
    publish(server, channel, events, "the-last")?;
    for reader in readers {
        reader.join().expect("members do not panic")?;
    }
    Ok((events * members) as f64 / start.elapsed().as_secs_f64())
}

/// Events sent together, as a peer does that streams tokens fast.
const BATCH: usize = 16;

fn publish(server: &Server, channel: &str, events: usize, last: &str) -> Result<()> {
    let event = |at: usize| {
        let data = if at + 1 == events { last } else { "token " };
        format!(r#"{{"type":"stream:data","workspace":"bench","peerId":"p","peerName":"p","key":"k","data":"{data}"}}"#)
    };
    if server.kind() == Kind::Nats {
        let mut nats = Nats::connect(server)?;
        for at in 0..events {
            nats.publish(channel, None, event(at).as_bytes())?;
        }
        return Ok(());
    }
    let mut commands = server.connect()?;
    if matches!(server.kind(), Kind::Flux(_)) {
        cmd("FLUX.REGISTER").arg(r#"{"name":"p","workspaces":["bench"]}"#).exec(&mut commands)?;
    }
    for batch in (0..events).collect::<Vec<_>>().chunks(BATCH) {
        let mut round = redis::pipe();
        for at in batch {
            if matches!(server.kind(), Kind::Flux(_)) {
                round.cmd("FLUX.STREAM.PUSH").arg("bench").arg("k").arg(if at + 1 == events { last } else { "token " });
            } else {
                round.cmd("PUBLISH").arg(channel).arg(event(*at));
            }
        }
        round.exec(&mut commands)?;
    }
    Ok(())
}

/// How long after a peer's end the others are told: when its connection drops, and after its TTL.
pub fn told_after(server: &Server, is_dropped: bool) -> Result<Duration> {
    let ttl = Duration::from_secs(1);
    let mut commands = server.connect()?;
    cmd("FLUX.REGISTER")
        .arg(r#"{"name":"p","workspaces":["bench"]}"#)
        .arg("TTL")
        .arg(ttl.as_millis() as u64)
        .exec(&mut commands)?;
    let mut events = listen(server, "flux:ws:bench:events")?;
    let start = Instant::now();
    let kept = if is_dropped {
        drop(commands);
        None
    } else {
        Some(commands)
    };
    loop {
        let event = message(&mut events)?;
        if memchr::memmem::find(&event, b"peer:left").is_some() {
            break;
        }
    }
    drop(kept);
    Ok(start.elapsed().saturating_sub(if is_dropped { Duration::ZERO } else { ttl }))
}
