//! While it loads: clients are let in and told so, and nothing is lost whatever ends it. Keys are made to take their time, which a test ends
//! when it has seen enough.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use flux::peers::Peer;
use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Connection, Process, Reply, free_port, until};

const KEYS: usize = 2000;
const LOADING: &str = "-LOADING Redis is loading the dataset in memory";
/// Microseconds for each key: minutes for all of them.
const SLOWLY: &str = "100000";

/// A folder whose tables have keys.
fn filled(keys: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut server = Process::flux_in(&dir.path().join("data"), &[]);
    let mut client = server.connect();
    for number in 0..keys {
        client.send(&["SET", &format!("key:{number:04}"), &format!("value:{number:04}:{}", "x".repeat(50))]).unwrap();
    }
    (0..keys).for_each(|_| assert_eq!(client.read().unwrap(), Reply::Line("+OK".into())));
    client.send(&["SHUTDOWN"]).unwrap();
    assert_eq!(server.ended().code(), Some(0));
    dir
}

/// A server that loads it, and goes on doing so.
fn loading(dir: &TempDir, args: &[&str]) -> Process {
    let args = [&["--key-load-delay", SLOWLY, "--enable-debug-command", "yes"], args].concat();
    Process::flux_loading(&dir.path().join("data"), free_port(), &args)
}

fn line(client: &mut Connection, words: &[&str]) -> String {
    match client.call(words).unwrap() {
        Reply::Line(line) => line,
        Reply::Bulk(_, bytes) => String::from_utf8(bytes).unwrap(),
        many => format!("{many:?}"),
    }
}

/// A field of `INFO`.
fn info(client: &mut Connection, field: &str) -> Option<f64> {
    let text = line(client, &["INFO", "everything"]);
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

fn get(server: &Process, path: &str) -> (u16, Value) {
    let answer = http::ask(([127, 0, 0, 1], server.http_port()).into(), "GET", path, &[], "");
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

fn release(client: &mut Connection) {
    assert_eq!(line(client, &["CONFIG", "SET", "key-load-delay", "0"]), "+OK");
}

#[test]
fn clients_are_told_while_it_loads_and_served_on_the_same_connection_afterwards() {
    let dir = filled(KEYS);
    let mut server = loading(&dir, &["--appendfsync", "always"]);
    let mut client = server.connect();
    for words in [
        &["PING"][..],
        &["GET", "key:0000"],
        &["SET", "key:0000", "other"],
        &["FLUSHALL"],
        &["DBSIZE"],
        &["SAVE"],
        &["FLUX.PEERS"],
        &["DEBUG", "RELOAD"],
    ] {
        assert_eq!(line(&mut client, words), LOADING, "{words:?}");
    }
    // What Redis allows, on this connection and on others.
    assert_eq!(line(&mut client, &["MULTI"]), "+OK");
    assert_eq!(line(&mut client, &["SET", "key:0000", "other"]), LOADING);
    assert!(line(&mut client, &["EXEC"]).starts_with("-EXECABORT"));
    assert_eq!(line(&mut client, &["ECHO", "hello"]), "hello");
    assert!(matches!(client.call(&["CONFIG", "GET", "port"]).unwrap(), Reply::Many('*', pair) if pair.len() == 2));
    let mut listener = server.connect();
    assert!(matches!(listener.call(&["SUBSCRIBE", "news"]).unwrap(), Reply::Many('*', _)));
    assert_eq!(line(&mut client, &["PUBLISH", "news", "hello"]), ":1");
    assert!(matches!(listener.read().unwrap(), Reply::Many('*', _)));

    until("a key is loaded", || info(&mut client, "loading_loaded_bytes") > Some(0.0));
    let fields =
        ["loading", "async_loading", "loading_start_time", "loading_total_bytes", "loading_loaded_perc", "loading_eta_seconds"];
    let [is_on, is_async, start, total, percent, left] = fields.map(|field| info(&mut client, field).unwrap());
    assert!((is_on, is_async) == (1.0, 0.0) && start > 1e9 && total > (KEYS * 50) as f64);
    assert!(percent > 0.0 && percent < 90.0 && left >= 1.0, "{percent} {left}");

    assert_eq!(get(&server, "/health").0, 200);
    assert_eq!(get(&server, "/metrics").0, 200);
    let mcp = http::ask(([127, 0, 0, 1], server.http_port()).into(), "POST", "/mcp", &[], "{}");
    assert!(mcp.status == 503 && mcp.body.contains("LOADING"), "{mcp:?}");
    let (code, ready) = get(&server, "/ready");
    let progress = &ready["loading"];
    assert!(code == 503 && ready["reason"] == "the keyspace is being loaded", "{ready}");
    for field in ["percent", "bytes", "total_bytes", "keys", "seconds_left"] {
        assert!(progress[field].is_number(), "{ready}");
    }
    assert!(progress["bytes"].as_u64() < progress["total_bytes"].as_u64(), "{ready}");
    for path in ["/peers", "/status", "/workspaces/w/ctx/key"] {
        let (code, refusal) = get(&server, path);
        assert!(code == 503 && refusal["code"] == "LOADING", "{path}: {code} {refusal}");
    }

    release(&mut client);
    server.waits_until(|server| server.log().contains(" ready on "));
    assert!(server.log().contains(&format!("{KEYS} keys loaded")), "{}", server.log());
    assert_eq!(line(&mut client, &["DBSIZE"]), format!(":{KEYS}"));
    // Its reply waits for the disk, of which this worker heard only now.
    assert_eq!(line(&mut client, &["SET", "key:0000", "other"]), "+OK");
    assert_eq!(line(&mut client, &["GET", "key:0000"]), "other");
    assert_eq!((info(&mut client, "loading"), info(&mut client, "loading_total_bytes")), (Some(0.0), None));
    assert_eq!((get(&server, "/ready").0, get(&server, "/peers").0), (200, 200));
}

#[test]
fn what_ends_it_while_it_loads_does_so_at_once_and_harms_nothing() {
    let dir = filled(KEYS);
    let socket = dir.path().join("flux.sock");
    let by_signal = |server: &Process, signal| {
        let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    let ends: [&dyn Fn(&Process); 3] = [
        &|server| by_signal(server, rustix::process::Signal::TERM),
        &|server| by_signal(server, rustix::process::Signal::INT),
        &|server| server.connect().send(&["SHUTDOWN"]).unwrap(),
    ];
    for end in ends {
        let mut server = loading(&dir, &["--unixsocket", socket.to_str().unwrap()]);
        assert_eq!(line(&mut server.connect(), &["PING"]), LOADING);
        assert!(socket.exists());
        end(&server);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        assert!(!server.log().contains(" ready on ") && !socket.exists(), "{}", server.log());
    }
    let server = Process::flux_in(&dir.path().join("data"), &[]);
    assert_eq!(line(&mut server.connect(), &["DBSIZE"]), format!(":{KEYS}"));
}

/// Changes a byte in every place of a file where this text stands.
fn damage(path: &Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, at)| *at == text.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_folder_is_refused_and_clients_who_came_are_told_of_loading_and_sent_away() {
    let dir = filled(KEYS);
    damage(&dir.path().join("data/tables.redb"), &format!("value:{:04}", KEYS - 1));
    let mut server = loading(&dir, &[]);
    let mut client = server.connect();
    let mut waiting = server.connect();
    assert_eq!(line(&mut waiting, &["GET", "key:0000"]), LOADING);
    release(&mut client);
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("failed to start") && server.log().contains("flux check"), "{}", server.log());
    assert!(waiting.read().is_err(), "the connection is closed without another word");
}

#[test]
fn a_loss_that_was_accepted_leaves_of_a_damaged_folder_what_is_whole_however_far_it_was_loaded() {
    const MANY: usize = 40_000;
    let dir = filled(MANY);
    // Many were put into the keyspace by then.
    damage(&dir.path().join("data/tables.redb"), &format!("value:{}", MANY - 1));
    let server = Process::flux_in(&dir.path().join("data"), &["--accept-loss"]);
    assert_eq!(line(&mut server.connect(), &["DBSIZE"]), format!(":{}", MANY - 1));
}

#[test]
fn a_peer_that_comes_while_it_loads_is_let_in_when_that_is_over() {
    let dir = filled(KEYS);
    let server = loading(&dir, &[]);
    let mut client = server.connect();
    let url = format!("lux://127.0.0.1:{}", server.port());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let peer = Peer::connect(&url).unwrap().start().await;
                is_over.store(true, Relaxed);
                peer.expect("it waits").stop().await;
            });
        });
        until("the peer is told that it loads", || {
            line(&mut client, &["INFO", "errorstats"]).contains("errorstat_LOADING") || is_over.load(Relaxed)
        });
        assert!(!is_over.load(Relaxed));
        release(&mut client);
        started.join().unwrap();
    });
}

/// What was loaded so far is not all there is of it: a key that seems too much, or whose time seems over, may be changed by what is to come.
#[test]
fn no_key_is_evicted_or_expires_while_others_are_still_loaded() {
    const LARGE: usize = 60;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let server = Process::flux_in(&data, &["--appendfsync", "always"]);
    let mut client = server.connect();
    assert_eq!(line(&mut client, &["SET", "session", "kept", "PX", "1"]), "+OK");
    assert_eq!(line(&mut client, &["SET", "session", "kept"]), "+OK");
    let soon = flux::clock::now_ms() + 1000;
    assert_eq!(line(&mut client, &["PEXPIREAT", "session", &soon.to_string()]), ":1");
    assert_eq!(line(&mut client, &["SAVE"]), "+OK");
    assert_eq!(line(&mut client, &["PERSIST", "session"]), ":1");
    let large = "x".repeat(50_000);
    for number in 0..LARGE {
        assert_eq!(line(&mut client, &["SET", &format!("large:{number}"), &large]), "+OK");
    }
    server.kill();
    drop(server);
    let mut server = loading(&dir, &["--maxmemory", "1mb", "--maxmemory-policy", "allkeys-random"]);
    let mut client = server.connect();
    until("the time of the key as the tables have it is over", || flux::clock::now_ms() > soon);
    until("more is loaded than may stay", || info(&mut client, "used_memory") > Some(1.5e6));
    assert_eq!(line(&mut client, &["SET", "key", "1"]), LOADING);
    assert_eq!(line(&mut client, &["CONFIG", "SET", "maxmemory", "1mb"]), "+OK");
    assert_eq!(line(&mut client, &["WATCH", "session"]), "+OK");
    assert_eq!(info(&mut client, "loading"), Some(1.0), "all of this came before it was over");
    release(&mut client);
    server.waits_until(|server| server.log().contains(" ready on "));
    assert_eq!(info(&mut client, "evicted_keys"), Some(0.0));
    assert_eq!(line(&mut client, &["DBSIZE"]), format!(":{}", LARGE + 1));
    assert_eq!(line(&mut client, &["GET", "session"]), "kept");
    server.kill();
    drop(server);
    let server = Process::flux_in(&data, &[]);
    assert_eq!(line(&mut server.connect(), &["DBSIZE"]), format!(":{}", LARGE + 1));
}
