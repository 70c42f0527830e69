//! Whatever ends a wait, bytes keep their order: a client that pipelines, reads in odd pieces and waits in every way there is, while others
//! push, publish, unblock, pause, spill and kill, gets a whole reply for each request, in the order it asked, and messages only between them.
//!
//! `FLUX_ORDER_ROUNDS` plays so many sequences of each kind, `FLUX_ORDER_SEED` repeats one.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tempfile::TempDir;

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

/// Batches of requests in a sequence.
const BATCHES: usize = 12;
/// Sizes of the values that are read: some are more than the sockets hold.
const SIZES: [usize; 4] = [3, 5_000, 400_000, 4_000_000];
/// A client that hears nothing for so long was forgotten.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn an_answer_never_lands_inside_an_earlier_reply() {
    let server = Process::flux(&[]);
    let mut other = server.connect();
    let big = vec![b'v'; 30 << 20];
    other.call(&[&b"SET"[..], b"big", &big]).unwrap();
    for _ in 0..3 {
        let mut client = Slow::new(Box::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()), Random::new(1));
        client.send(&["BLPOP", "nokey", "0.01"]);
        assert_eq!(client.reply().unwrap(), Reply::Line("*-1".into()));
        client.send(&["GET", "big"]);
        client.send(&["XREAD", "BLOCK", "0", "STREAMS", "st", "$"]);
        client.read_ahead(4 << 20);
        while !text(&other.call(&["CLIENT", "LIST"]).unwrap()).contains("cmd=xread") {
            thread::yield_now();
        }
        other.call(&["XADD", "st", "*", "field", "value"]).unwrap();
        assert_eq!(client.reply().unwrap(), Reply::Bulk('$', big.clone()));
        assert!(matches!(client.reply().unwrap(), Reply::Many('*', _)));
    }
}

#[test]
fn bytes_keep_their_order_over_tcp() {
    play(&[], false);
}

#[test]
fn bytes_keep_their_order_where_replies_wait_for_the_disk() {
    play(&["--appendfsync", "always"], false);
}

#[test]
fn bytes_keep_their_order_over_a_unix_socket() {
    play(&[], true);
}

fn play(args: &[&str], is_unix: bool) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let path = path.to_str().unwrap();
    let usual = ["--enable-debug-command", "yes", "--unixsocket", path];
    let server = Process::flux(&[&usual, args].concat());
    let mut other = server.connect();
    for size in SIZES {
        other.call(&[&b"SET"[..], value_name(size).as_bytes(), &value(size)]).unwrap();
    }
    let _callee = Callee::start(&server);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, rounds) = match (number("FLUX_ORDER_SEED"), number("FLUX_ORDER_ROUNDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(rounds)) => (u64::from(std::process::id()) << 16, rounds),
        (None, None) => (1, 12),
    };
    for seed in first..first + rounds {
        let stream: Box<dyn Stream> = match is_unix {
            true => Box::new(UnixStream::connect(path).unwrap()),
            false => Box::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()),
        };
        sequence(&server, Slow::new(stream, Random::new(seed)), seed);
    }
}

/// One client's life, while another does to it what it can.
fn sequence(server: &Process, mut client: Slow, seed: u64) {
    let mut random = Random::new(seed ^ 0x5eed);
    client.send(&["HELLO", "3"]);
    client.send(&["CLIENT", "ID"]);
    client.send(&["SUBSCRIBE", "news"]);
    client.reply().unwrap();
    let Reply::Line(id) = client.reply().unwrap() else { panic!("an id") };
    let stage = Arc::new(Stage { id: id[1..].to_owned(), seed, ..Stage::default() });
    let troubles = {
        let (mut connection, stage) = (server.connect(), Arc::clone(&stage));
        thread::spawn(move || trouble(&mut connection, &stage))
    };
    let is_killed_at_last = random.below(3) == 0;
    let mut number = 0;
    let mut is_alive = true;
    for batch in 0..BATCHES {
        if is_killed_at_last && batch == BATCHES - 1 {
            stage.kills.store(true, SeqCst);
        }
        let requests: Vec<Request> = (0..1 + random.below(5)).map(|_| Request::any(&mut random, &mut number, seed)).collect();
        stage.waiting.lock().unwrap().extend(requests.iter().filter_map(Request::key));
        let mut sent = requests.iter();
        // Some are sent together, others while the client reads.
        for request in sent.by_ref().take(1 + random.below(requests.len())) {
            client.send(&request.words);
        }
        for (at, request) in requests.iter().enumerate() {
            let reply = loop {
                match client.reply() {
                    Ok(Reply::Many('>', message)) => stage.heard(&message),
                    Ok(reply) => break Some(reply),
                    Err(_) if stage.kills.load(SeqCst) => break None,
                    Err(error) => panic!("FLUX_ORDER_SEED={seed}, batch {batch}: {:?} is not answered: {error}", request.words),
                }
            };
            let Some(reply) = reply else {
                is_alive = false;
                break;
            };
            assert!(
                request.may_get(&reply, &stage),
                "FLUX_ORDER_SEED={seed}, batch {batch}: {:?} is answered with {}",
                request.words,
                short(&reply)
            );
            if at + 1 < requests.len()
                && let Some(next) = sent.next()
            {
                client.send(&next.words);
            }
        }
        stage.waiting.lock().unwrap().clear();
        if !is_alive {
            break;
        }
    }
    stage.is_over.store(true, SeqCst);
    troubles.join().unwrap();
    if is_alive && !is_killed_at_last {
        stage.account_for(&mut server.connect());
    }
}

/// What the client and its troubles know of each other.
#[derive(Default)]
struct Stage {
    id: String,
    seed: u64,
    /// Keys that the client may wait at.
    waiting: Mutex<Vec<String>>,
    /// Elements that were pushed, and those that reached the client.
    pushed: Mutex<HashSet<String>>,
    received: Mutex<Vec<String>>,
    last_news: AtomicU64,
    kills: AtomicBool,
    is_over: AtomicBool,
}

impl Stage {
    /// Messages come in the order they were published in.
    fn heard(&self, message: &[Reply]) {
        let Some(Reply::Bulk(_, news)) = message.last() else { return };
        let Some(number) = String::from_utf8_lossy(news).strip_prefix("news:").and_then(|number| number.parse().ok()) else {
            return;
        };
        let before = self.last_news.swap(number, Relaxed);
        assert!(number > before, "FLUX_ORDER_SEED={}: news {number} after {before}", self.seed);
    }

    fn received(&self, element: &str) {
        self.received.lock().unwrap().push(element.to_owned());
    }

    /// Every element was received once, or is still where it was pushed to.
    fn account_for(&self, connection: &mut Connection) {
        let received = self.received.lock().unwrap();
        let once: HashSet<&String> = received.iter().collect();
        assert_eq!(once.len(), received.len(), "FLUX_ORDER_SEED={}: an element came twice", self.seed);
        for element in self.pushed.lock().unwrap().iter() {
            let key = element.rsplit_once('#').unwrap().0;
            let is_left = !matches!(connection.call(&["EXISTS", key]).unwrap(), Reply::Line(line) if line == ":0");
            assert!(once.contains(element) || is_left, "FLUX_ORDER_SEED={}: {element} is lost", self.seed);
        }
    }
}

/// Does to the client whatever others can do.
fn trouble(connection: &mut Connection, stage: &Stage) {
    let mut random = Random::new(stage.seed ^ 0xbad);
    let mut call = |words: &[&str]| connection.call(words).unwrap();
    let mut pushes = 0;
    let mut news = 0;
    while !stage.is_over.load(SeqCst) {
        if stage.kills.load(SeqCst) && random.below(4) == 0 {
            call(&["CLIENT", "KILL", "ID", &stage.id]);
        }
        let key = {
            let waiting = stage.waiting.lock().unwrap();
            if waiting.is_empty() { None } else { Some(waiting[random.below(waiting.len())].clone()) }
        };
        match (random.below(12), key) {
            (0..=5, Some(key)) => {
                pushes += 1;
                let element = format!("{key}#{pushes}");
                let words: Vec<&str> = match key.as_bytes()[0] {
                    b'l' => vec!["RPUSH", &key, &element],
                    b'z' => vec!["ZADD", &key, "1", &element],
                    _ => vec!["XADD", &key, "*", "element", &element],
                };
                if key.starts_with('l') || key.starts_with('z') {
                    stage.pushed.lock().unwrap().insert(element.clone());
                }
                call(&words);
            }
            (6, _) => drop(call(&["CLIENT", "UNBLOCK", &stage.id, "TIMEOUT"])),
            (7, _) => drop(call(&["CLIENT", "UNBLOCK", &stage.id, "ERROR"])),
            (8, _) => {
                news += 1;
                call(&["PUBLISH", "news", &format!("news:{news}")]);
            }
            (9, _) if random.below(4) == 0 => {
                call(&["CLIENT", "PAUSE", "20", if random.below(2) == 0 { "WRITE" } else { "ALL" }]);
                if random.below(2) == 0 {
                    call(&["CLIENT", "UNPAUSE"]);
                }
            }
            (10, _) if random.below(4) == 0 => drop(call(&["DEBUG", "SPILL"])),
            _ => thread::yield_now(),
        }
    }
}

/// Answers calls until it is dropped.
struct Callee(Option<thread::JoinHandle<()>>, Arc<AtomicBool>);

impl Callee {
    fn start(server: &Process) -> Callee {
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut connection, ends) = (server.connect(), Arc::clone(&is_over));
        let peer = r#"{"id":"callee","name":"callee","capabilities":[{"name":"echo"}]}"#;
        let registered = connection.call(&["FLUX.REGISTER", peer, "SECRET", "s", "TTL", "600000"]).unwrap();
        assert!(!matches!(&registered, Reply::Line(line) if line.starts_with('-')), "{registered:?}");
        let thread = thread::spawn(move || {
            while !ends.load(SeqCst) {
                let Reply::Many(_, jobs) = connection.call(&["FLUX.NEXT", "TIMEOUT", "100"]).unwrap() else { continue };
                for job in jobs {
                    let Reply::Many(_, parts) = job else { panic!("a job") };
                    let (id, payload) = (text(&parts[0]), text(&parts[2]));
                    let _ = connection.call(&["FLUX.REPLY", &id, "OK", &payload]);
                }
            }
        });
        Callee(Some(thread), is_over)
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.1.store(true, SeqCst);
        let joined = self.0.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || !matches!(joined, Some(Err(_))), "the callee failed");
    }
}

/// A request, and what it may be answered with.
struct Request {
    words: Vec<String>,
    kind: Kind,
}

enum Kind {
    Exactly(Reply),
    Value(usize),
    /// An element of this list, or of this sorted set, comes, or nothing.
    Element(String),
    Entries(String),
    Nothing,
    Save,
}

impl Request {
    fn any(random: &mut Random, number: &mut usize, seed: u64) -> Request {
        *number += 1;
        let name = |kind: &str| format!("{kind}:{seed}:{number}");
        let seconds = ["0.002", "0.02", "0.05", "0.2"][random.below(4)];
        let ms = ["2", "20", "50", "200"][random.below(4)];
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let (list, zset, stream) = (name("l"), name("z"), name("x"));
        match random.below(13) {
            0 => Request { words: words(&format!("ECHO {list}")), kind: Kind::Exactly(Reply::Bulk('$', list.into_bytes())) },
            1 | 2 => {
                let size = SIZES[random.below(SIZES.len())];
                Request { words: words(&format!("GET {}", value_name(size))), kind: Kind::Value(size) }
            }
            3 => Request { words: words(&format!("BLPOP none:1 {list} none:2 {seconds}")), kind: Kind::Element(list) },
            4 => Request { words: words(&format!("BRPOP {list} {seconds}")), kind: Kind::Element(list) },
            5 => Request { words: words(&format!("BLMPOP {seconds} 2 none {list} LEFT")), kind: Kind::Element(list) },
            6 => Request { words: words(&format!("BLMOVE {list} taken:{list} LEFT RIGHT {seconds}")), kind: Kind::Element(list) },
            7 => Request { words: words(&format!("BZPOPMIN none {zset} {seconds}")), kind: Kind::Element(zset) },
            8 => Request { words: words(&format!("XREAD BLOCK {ms} STREAMS none {stream} 0 $")), kind: Kind::Entries(stream) },
            9 => Request { words: words(&format!("WAIT 1 {ms}")), kind: Kind::Nothing },
            10 => Request { words: words("SAVE"), kind: Kind::Save },
            11 => Request {
                words: words(&format!("FLUX.CALL echo \"{list}\" TO callee TIMEOUT 60000")),
                kind: Kind::Exactly(Reply::Bulk('$', format!("\"{list}\"").into_bytes())),
            },
            _ => Request { words: words(&format!("BZMPOP {seconds} 1 {zset} MAX")), kind: Kind::Element(zset) },
        }
    }

    /// Where others can push something for it.
    fn key(&self) -> Option<String> {
        match &self.kind {
            Kind::Element(key) | Kind::Entries(key) => Some(key.clone()),
            _ => None,
        }
    }

    fn waits(&self) -> bool {
        !matches!(self.words[0].as_str(), "ECHO" | "GET")
    }

    fn may_get(&self, reply: &Reply, stage: &Stage) -> bool {
        if let Reply::Line(line) = reply
            && (line.starts_with("-UNBLOCKED") || line.starts_with("-CANCELLED"))
        {
            return self.waits();
        }
        let is_nothing = *reply == Reply::Line("_".into());
        match &self.kind {
            Kind::Exactly(expected) => reply == expected,
            Kind::Value(size) => *reply == Reply::Bulk('$', value(*size)),
            Kind::Element(key) if !is_nothing => {
                let mut strings = Vec::new();
                flatten(reply, &mut strings);
                let elements: Vec<&String> = strings.iter().filter(|text| text.starts_with(&format!("{key}#"))).collect();
                elements.iter().for_each(|element| stage.received(element));
                elements.len() == 1
            }
            Kind::Entries(key) if !is_nothing => {
                let mut strings = Vec::new();
                flatten(reply, &mut strings);
                strings.contains(key)
            }
            Kind::Element(_) | Kind::Entries(_) => is_nothing,
            Kind::Nothing => *reply == Reply::Line(":0".into()),
            // Another sequence's save may be under way, or its client was unblocked and the save goes on.
            Kind::Save => matches!(reply, Reply::Line(line) if line == "+OK" || line.contains("in progress")),
        }
    }
}

fn value_name(size: usize) -> String {
    format!("value:{size}")
}

/// Bytes that would show where something else was put between them.
fn value(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at / 7 % 26) as u8).collect()
}

fn flatten(reply: &Reply, strings: &mut Vec<String>) {
    match reply {
        Reply::Bulk(_, bytes) => strings.push(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Many(_, parts) => parts.iter().for_each(|part| flatten(part, strings)),
        Reply::Line(_) => {}
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {other:?}"),
    }
}

fn short(reply: &Reply) -> String {
    format!("{reply:?}").chars().take(300).collect()
}

trait Stream: Read + Write + Send {
    fn narrow(&self);
    fn patience(&self, time: Option<Duration>);
}

impl Stream for TcpStream {
    fn narrow(&self) {
        SockRef::from(self).set_recv_buffer_size(16 * 1024).unwrap();
    }

    fn patience(&self, time: Option<Duration>) {
        self.set_read_timeout(time).unwrap();
    }
}

impl Stream for UnixStream {
    fn narrow(&self) {
        SockRef::from(self).set_recv_buffer_size(16 * 1024).unwrap();
    }

    fn patience(&self, time: Option<Duration>) {
        self.set_read_timeout(time).unwrap();
    }
}

/// A client that reads in odd pieces and now and then rests.
struct Slow {
    stream: Box<dyn Stream>,
    random: Random,
    buffer: Vec<u8>,
    at: usize,
}

impl Slow {
    fn new(stream: Box<dyn Stream>, random: Random) -> Slow {
        stream.narrow();
        stream.patience(Some(PATIENCE));
        Slow { stream, random, buffer: Vec::new(), at: 0 }
    }

    /// Sends a request; one that is cut off meanwhile sends what it can.
    fn send<W: AsRef<[u8]> + Debug>(&mut self, words: &[W]) {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        let _ = self.stream.write_all(&out);
    }

    fn read_ahead(&mut self, bytes: usize) {
        while self.buffer.len() - self.at < bytes {
            self.fill().unwrap();
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let kind = line.chars().next().ok_or_else(|| io::Error::other("an empty line stands where a reply should"))?;
        let len = || line[1..].parse::<i64>().map_err(|_| io::Error::other(format!("{line:?} is no reply")));
        match kind {
            '$' | '=' | '!' if len()? >= 0 => {
                let bytes = self.take(len()? as usize + 2)?;
                let bytes = bytes.strip_suffix(b"\r\n").ok_or_else(|| io::Error::other("a string ends elsewhere"))?;
                Ok(Reply::Bulk(kind, bytes.to_vec()))
            }
            '*' | '~' | '>' if len()? >= 0 => {
                Ok(Reply::Many(kind, (0..len()?).map(|_| self.reply()).collect::<io::Result<_>>()?))
            }
            '%' => Ok(Reply::Many(kind, (0..2 * len()?).map(|_| self.reply()).collect::<io::Result<_>>()?)),
            '+' | '-' | ':' | '_' | '#' | ',' | '$' | '*' => Ok(Reply::Line(line)),
            _ => Err(io::Error::other(format!("{line:?} is no reply"))),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut from = self.at;
        loop {
            if let Some(end) = self.buffer[from..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[self.at..from + end]).into_owned();
                self.at = from + end + 2;
                return Ok(line);
            }
            from = self.buffer.len().saturating_sub(1).max(self.at);
            let before = self.at;
            self.fill()?;
            from -= before - self.at;
        }
    }

    fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < self.at + len {
            self.fill()?;
        }
        let bytes = self.buffer[self.at..self.at + len].to_vec();
        self.at += len;
        Ok(bytes)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        for _ in 0..self.random.below(4) {
            thread::yield_now();
        }
        let most = [1, 100, 16 * 1024, 256 * 1024][self.random.below(4)];
        let mut piece = vec![0; 1 + self.random.below(most)];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.buffer.extend_from_slice(&piece[..len]);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
