//! What comes and goes leaves nothing behind: each kind of thing is made and unmade many times over, and then memory, file descriptors,
//! threads, clients and channels are where they were. What grows is named with its bytes for each time around.
//!
//! `FLUX_CHURN_TIMES=20` goes around so many times more often.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

/// How much more may be allocated after all the times around than before, for each: less than anything that could be forgotten.
const GROWTH_BYTES_MAX: f64 = 24.0;
/// What allocation alone may make of it, whatever happens: each thread counts in steps of 16 KiB, and rooms for the journal come and go.
const NOISE_BYTES: f64 = 128.0 * 1024.0;
/// How long frees in the background may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A kind of thing, how often it comes and goes, and a hundred of it coming and going.
type Kind = (&'static str, usize, fn(&mut House, usize));

const KINDS: &[Kind] = &[
    ("keys of random size", 10, keys),
    ("collections that grow and empty", 5, collections),
    ("keys that expire", 10, expiring),
    ("connections", 10, connections),
    ("clients that wait and time out", 5, timed_out),
    ("clients that wait and are served", 5, served),
    ("clients that wait at ever new keys and drop", 10, dropped),
    ("clients that wait and are unblocked", 5, unblocked),
    ("clients that wait at many keys and drop", 2, dropped_at_many),
    ("commands held back by a pause", 2, paused),
    ("subscriptions", 10, subscriptions),
    ("watched keys", 10, watched),
    ("transactions that are discarded", 10, discarded),
    ("long pipelines", 1, pipelines),
    ("slow readers that are cut", 1, slow_readers),
    ("walks through keys", 2, walks),
    ("values that are dropped and read back", 1, spilled),
    ("databases that are flushed and swapped", 2, databases),
    ("groups and consumers of streams", 5, groups),
    ("WebSockets", 3, websockets),
    ("streams of events over HTTP", 3, events),
    ("requests over HTTP", 5, requests),
];

/// A server, and a connection to look at it with.
struct House {
    server: Process,
    client: Connection,
    random: Random,
    http: u16,
}

impl House {
    fn open() -> House {
        let server = Process::flux(&["--enable-debug-command", "yes", "--client-output-buffer-limit", "pubsub 256kb 0 0"]);
        let mut client = server.connect();
        let Reply::Many(_, found) = client.call(&["CONFIG", "GET", "http-port"]).unwrap() else { panic!("a pair") };
        let http = text(&found[1]).parse().unwrap();
        House { server, client, random: Random::new(7), http }
    }

    fn call(&mut self, words: &[&str]) -> Reply {
        let reply = self.client.call(words).unwrap();
        assert!(!matches!(&reply, Reply::Line(line) if line.starts_with("-ERR")), "{words:?} => {reply:?}");
        reply
    }

    fn field(&mut self, name: &str) -> u64 {
        let info = text(&self.call(&["INFO", "everything"]));
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
        value.unwrap_or_else(|| panic!("there is no field {name}")).trim().parse().unwrap()
    }

    fn until(&mut self, name: &str, wanted: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.field(name) != wanted {
            assert!(Instant::now() < deadline, "{name} does not come to {wanted} but is {}", self.field(name));
            thread::yield_now();
        }
    }

    /// What there is when all has come to rest: bytes, and what can be counted.
    fn at_rest(&mut self) -> (u64, Vec<(&'static str, u64)>) {
        self.call(&["FLUSHALL"]);
        for (name, wanted) in [("connected_clients", 1), ("blocked_clients", 0), ("lazyfree_pending_objects", 0)] {
            self.until(name, wanted);
        }
        let of_process = |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.server.id())).unwrap().map(Result::unwrap);
        // Files of the journal come with what is written, and go with a checkpoint.
        let is_journal =
            |link: &fs::DirEntry| fs::read_link(link.path()).is_ok_and(|file| file.to_string_lossy().contains("/journal-"));
        let files = of_process("fd").filter(|link| !is_journal(link)).count() as u64;
        let counts = vec![("file descriptors", files), ("threads", of_process("task").count() as u64)];
        (self.field("used_memory"), counts)
    }
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let mut house = House::open();
    let more = std::env::var("FLUX_CHURN_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut wrong = Vec::new();
    for (name, times, kind) in KINDS {
        let mut round = 0;
        let mut around = |house: &mut House, times: usize| {
            for _ in 0..times {
                kind(house, round);
                round += 1;
            }
        };
        // What is made once stays: the first times around are not counted.
        around(&mut house, (times / 2).max(1));
        let (before, counts_before) = house.at_rest();
        let times = times * more;
        around(&mut house, times);
        let allowed = NOISE_BYTES + GROWTH_BYTES_MAX * 100.0 * times as f64;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (after, counts) = house.at_rest();
            let growth = after as f64 - before as f64;
            let is_well = growth <= allowed && counts.iter().zip(&counts_before).all(|(after, before)| after.1 <= before.1);
            if is_well {
                println!("{name}: {:.1} bytes each time", growth / (100 * times) as f64);
                break;
            }
            if Instant::now() > deadline {
                let each = growth / (100 * times) as f64;
                wrong.push(format!("{name}: {each:.1} bytes each time, {growth} in all; {counts_before:?} became {counts:?}"));
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(wrong.is_empty(), "left behind:\n{}", wrong.join("\n"));
}

fn keys(house: &mut House, round: usize) {
    for number in 0..100 {
        let size = [1, 20, 300, 5_000, 60_000][house.random.below(5)];
        let value = "v".repeat(1 + house.random.below(size));
        house.call(&["SET", &format!("key:{round}:{number}"), &value]);
    }
    for number in 0..100 {
        house.call(&["DEL", &format!("key:{round}:{number}")]);
    }
}

fn collections(house: &mut House, round: usize) {
    let made = [["RPUSH", "e"], ["SADD", "m"], ["PFADD", "p"]];
    for (at, [command, element]) in made.iter().enumerate() {
        let key = format!("collection:{round}:{at}");
        let elements: Vec<String> = (0..house.random.below(700)).map(|number| format!("{element}:{number}")).collect();
        let words = [*command, &key, "first"].into_iter().chain(elements.iter().map(String::as_str));
        house.call(&words.collect::<Vec<_>>());
        house.call(&["UNLINK", &key]);
    }
    for number in 0..33 {
        let (hash, zset, stream) = (format!("h:{round}"), format!("z:{round}"), format!("x:{round}"));
        house.call(&["HSET", &hash, &format!("field:{number}"), "value"]);
        house.call(&["ZADD", &zset, &number.to_string(), &format!("member:{number}")]);
        house.call(&["XADD", &stream, "MAXLEN", "5", "*", "field", "value"]);
    }
    for number in 0..33 {
        house.call(&["HDEL", &format!("h:{round}"), &format!("field:{number}")]);
        house.call(&["ZREM", &format!("z:{round}"), &format!("member:{number}")]);
    }
}

fn expiring(house: &mut House, round: usize) {
    for number in 0..100 {
        house.call(&["SET", &format!("expiring:{round}:{number}"), "value", "PX", "1"]);
    }
}

fn connections(house: &mut House, round: usize) {
    for number in 0..100 {
        let mut client = house.server.connect();
        client.call(&["CLIENT", "SETNAME", &format!("client:{round}:{number}")]).unwrap();
        client.call(&["HELLO", "3"]).unwrap();
    }
}

/// A hundred clients that wait, one after another or together, as their commands say.
fn waiting(house: &mut House, command: impl Fn(usize) -> Vec<String>) -> Vec<Connection> {
    let clients: Vec<Connection> = (0..100)
        .map(|number| {
            let mut client = house.server.connect();
            client.send(&command(number)).unwrap();
            client
        })
        .collect();
    clients
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn timed_out(house: &mut House, round: usize) {
    let mut clients = waiting(house, |number| words(format!("BLPOP never:{round}:{number} 0.001")));
    clients.iter_mut().for_each(|client| assert_eq!(client.read().unwrap(), Reply::Line("*-1".into())));
}

fn served(house: &mut House, round: usize) {
    let mut clients = waiting(house, |number| words(format!("BLPOP served:{round}:{number} also:{round}:{number} 0")));
    house.until("blocked_clients", 100);
    for number in 0..100 {
        house.call(&["RPUSH", &format!("served:{round}:{number}"), "element"]);
    }
    clients.iter_mut().for_each(|client| assert!(matches!(client.read().unwrap(), Reply::Many('*', _))));
}

fn dropped(house: &mut House, round: usize) {
    drop(waiting(house, |number| words(format!("BLPOP dropped:{round}:{number} 0"))));
}

fn unblocked(house: &mut House, round: usize) {
    let clients = waiting(house, |number| words(format!("XREAD BLOCK 0 STREAMS unblocked:{round}:{number} $")));
    house.until("blocked_clients", 100);
    let list = text(&house.call(&["CLIENT", "LIST"]));
    for line in list.lines().filter(|line| line.contains("cmd=xread")) {
        let id = line.split(' ').next().unwrap().trim_start_matches("id=").to_owned();
        house.call(&["CLIENT", "UNBLOCK", &id]);
    }
    drop(clients);
}

fn dropped_at_many(house: &mut House, round: usize) {
    drop(waiting(house, |number| {
        let names = (0..100).map(|key| format!("many:{round}:{number}:{key}"));
        ["BRPOP".to_owned()].into_iter().chain(names).chain(["0".to_owned()]).collect()
    }));
}

fn paused(house: &mut House, round: usize) {
    house.call(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let mut clients = waiting(house, |number| words(format!("SET paused:{round}:{number} value")));
    house.until("blocked_clients", 100);
    drop(clients.split_off(50));
    house.call(&["CLIENT", "UNPAUSE"]);
    clients.iter_mut().for_each(|client| assert_eq!(client.read().unwrap(), Reply::Line("+OK".into())));
}

fn subscriptions(house: &mut House, round: usize) {
    let mut client = house.server.connect();
    for number in 0..100 {
        client.call(&["SUBSCRIBE", &format!("channel:{round}:{number}")]).unwrap();
        client.call(&["PSUBSCRIBE", &format!("pattern:{round}:{number}:*")]).unwrap();
        client.call(&["SSUBSCRIBE", &format!("shard:{round}:{number}")]).unwrap();
    }
    house.call(&["PUBLISH", &format!("channel:{round}:0"), "message"]);
}

fn watched(house: &mut House, round: usize) {
    let mut client = house.server.connect();
    for number in 0..100 {
        client.call(&["WATCH", &format!("watched:{round}:{number}")]).unwrap();
        if number % 3 == 0 {
            house.call(&["SET", &format!("watched:{round}:{number}"), "value"]);
        }
        if number % 7 == 0 {
            client.call(&["UNWATCH"]).unwrap();
        }
    }
}

fn discarded(house: &mut House, round: usize) {
    let mut client = house.server.connect();
    for number in 0..100 {
        client.call(&["MULTI"]).unwrap();
        client.call(&["SET", &format!("discarded:{round}:{number}"), "value"]).unwrap();
        if number % 2 == 0 {
            client.call(&["DISCARD"]).unwrap();
        } else {
            client.call(&["RESET"]).unwrap();
        }
    }
}

fn pipelines(house: &mut House, _: usize) {
    let mut client = house.server.connect();
    for _ in 0..2000 {
        client.send(&["ECHO", "hello"]).unwrap();
    }
    for _ in 0..2000 {
        client.read().unwrap();
    }
}

fn slow_readers(house: &mut House, _: usize) {
    let mut clients: Vec<Connection> = (0..10).map(|_| house.server.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.call(&["SUBSCRIBE", "news"]).unwrap()));
    let message = "m".repeat(64 << 10);
    while house.field("connected_clients") > 1 {
        house.call(&["PUBLISH", "news", &message]);
    }
}

fn walks(house: &mut House, round: usize) {
    for number in 0..100 {
        house.call(&["SET", &format!("walk:{round}:{number}"), "value"]);
        house.call(&["SCAN", &number.to_string(), "COUNT", "10"]);
        house.call(&["KEYS", &format!("walk:{round}:*")]);
    }
}

fn spilled(house: &mut House, round: usize) {
    for number in 0..100 {
        house.call(&["HSET", &format!("spilled:{round}:{number}"), "field", &"v".repeat(100)]);
    }
    house.call(&["DEBUG", "SPILL"]);
    for number in 0..100 {
        house.call(&["HGETALL", &format!("spilled:{round}:{number}")]);
    }
}

fn databases(house: &mut House, round: usize) {
    for number in 0..100 {
        house.call(&["SET", &format!("swapped:{round}:{number}"), "value"]);
        house.call(&["SWAPDB", "0", "1"]);
        if number % 10 == 0 {
            house.call(&["FLUSHALL", if number % 20 == 0 { "ASYNC" } else { "SYNC" }]);
        }
    }
}

fn groups(house: &mut House, round: usize) {
    let stream = format!("stream:{round}");
    for number in 0..25 {
        let group = format!("group:{number}");
        house.call(&["XGROUP", "CREATE", &stream, &group, "$", "MKSTREAM"]);
        house.call(&["XADD", &stream, "MAXLEN", "10", "*", "field", "value"]);
        house.call(&["XREADGROUP", "GROUP", &group, "me", "STREAMS", &stream, ">"]);
        house.call(&["XGROUP", "DESTROY", &stream, &group]);
    }
}

/// Sends a request over HTTP and reads until `until` is found in what comes.
fn request(house: &House, text: &str, until: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", house.http)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.replace('\n', "\r\n").as_bytes()).unwrap();
    let (mut found, mut piece) = (Vec::new(), [0; 4096]);
    while !found.windows(until.len()).any(|window| window == until) {
        let len = stream.read(&mut piece).unwrap();
        assert!(len > 0, "{text} is answered with {}", String::from_utf8_lossy(&found));
        found.extend_from_slice(&piece[..len]);
    }
    stream
}

fn websockets(house: &mut House, _: usize) {
    for _ in 0..100 {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13";
        let text = format!("GET /resp HTTP/1.1\nHost: localhost\nUpgrade: websocket\nConnection: Upgrade\n{key}\n\n");
        drop(request(house, &text, b" 101 "));
    }
}

fn events(house: &mut House, round: usize) {
    for _ in 0..100 {
        let text = format!("GET /workspaces/churn-{round}/events HTTP/1.1\nHost: localhost\nAccept: text/event-stream\n\n");
        drop(request(house, &text, b"\r\n\r\n"));
    }
}

fn requests(house: &mut House, _: usize) {
    for _ in 0..100 {
        drop(request(house, "GET /health HTTP/1.1\nHost: localhost\nConnection: close\n\n", b"\r\n\r\n"));
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {other:?}"),
    }
}
