//! Peers from the command line: what `flux peers` and its like print, and how they fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use flux::peers::{Capability, Job, Peer};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::process::Process;

/// A server with a peer that greets, in the workspace `lobby`.
struct Scene {
    server: Process,
    peer: Arc<Peer>,
    /// Drives the peer on a thread of its own, until it is dropped.
    runtime: Handle,
    _ends: oneshot::Sender<()>,
}

impl Scene {
    fn new() -> Scene {
        let server = Process::flux(&[]);
        let greet = Capability::new("greet", |payload: Value, _: Job| async move {
            let name = payload["name"].as_str().ok_or("nobody to greet")?.to_owned();
            Ok::<_, &str>(format!("hello, {name}"))
        });
        let greet = greet.description("Greets.").schema(json!({ "type": "object" }));
        let count = Capability::new("count", |to: u32, job: Job| async move {
            for number in 1..=to {
                job.chunk(format!("{number} of {to}")).await.map_err(|_| "nobody listens")?;
            }
            if to > 2 { Err("too many") } else { Ok(json!({ "counted": to })) }
        });
        let peer = Peer::connect(&url(&server)).unwrap().name("greeter").expose(greet).expose(count);
        let (started, is_started) = mpsc::channel();
        let (ends, is_over) = oneshot::channel::<()>();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let peer = Arc::new(peer.start().await.unwrap());
                peer.join("lobby").await.unwrap();
                started.send((peer, Handle::current())).unwrap();
                // An error is the end as well: the other half is dropped.
                let _ = is_over.await;
            });
        });
        let (peer, runtime) = is_started.recv().unwrap();
        Scene { server, peer, runtime, _ends: ends }
    }

    /// Has the peer do something.
    fn does<T>(&self, what: impl AsyncFnOnce(Arc<Peer>) -> T) -> T {
        self.runtime.block_on(what(Arc::clone(&self.peer)))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flux"));
        command.args(args).env("FLUX_URL", url(&self.server)).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.text(args)).unwrap()
    }

    /// What it says when it fails.
    fn failure(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn url(server: &Process) -> String {
    format!("lux://127.0.0.1:{}", server.port())
}

#[test]
fn tables_show_who_is_there_and_what_they_can_do() {
    let scene = Scene::new();
    let peers = scene.text(&["peers"]);
    assert!(
        peers.starts_with("NAME") && peers.contains("greeter") && peers.contains("greet  ") && peers.contains("lobby"),
        "{peers}"
    );
    assert_eq!(scene.json(&["peers", "--json"])[0]["name"], "greeter");
    assert_eq!(scene.text(&["peers", "--workspace", "elsewhere"]), "no peers\n");
    assert!(scene.text(&["capabilities"]).contains("Greets."));
    assert!(scene.text(&["describe", "greet"]).contains("greeter"));
    assert_eq!(scene.json(&["describe", "greet", "--json"])["schema"], json!({ "type": "object" }));
    assert_eq!(scene.json(&["workspaces", "--json"])[0]["name"], "lobby");
    assert_eq!(scene.json(&["status", "--json"])["peers"], 1);
    assert_eq!(scene.json(&["clean", "--json"]), json!({ "removed": 0 }));
}

#[test]
fn a_call_prints_its_result_and_a_failed_one_says_why() {
    let scene = Scene::new();
    assert_eq!(scene.text(&["call", "greet", r#"{"name":"Ada"}"#]), "hello, Ada\n");
    assert_eq!(scene.json(&["call", "greet", r#"{"name":"Ada"}"#, "--json"]), "hello, Ada");
    let failed = scene.run(&["call", "greet", "{}"]);
    assert_eq!(failed.status.code(), Some(3), "its handler failed");
    assert_eq!(String::from_utf8(failed.stderr).unwrap(), "flux: the handler of `greet` failed: nobody to greet\n");
    assert_eq!(scene.failure(&["call", "nothing", "{}"]), "flux: no peer handles \"nothing\"\n");
    assert!(scene.failure(&["call", "greet", "[]"]).contains("payload of \"greet\""));
    assert!(scene.failure(&["call", "greet", "hello"]).contains("it must be JSON"));
    assert!(scene.failure(&["call", "greet", "{}", "--timeout", "soon"]).contains("say 500ms, 30s, 5m or 1h"));
}

#[test]
fn answers_that_are_all_failures_are_printed_and_then_told_as_one() {
    let scene = Scene::new();
    let answered = scene.json(&["call", "greet", r#"{"name":"Ada"}"#, "--gather", "0", "--json"]);
    assert_eq!(answered[0]["data"], "hello, Ada");
    let failed = scene.run(&["call", "greet", "{}", "--gather", "0", "--json"]);
    assert_eq!(failed.status.code(), Some(3), "no handler did what it was asked");
    let printed: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((&printed[0]["ok"], &printed[0]["error"]), (&json!(false), &json!("nobody to greet")));
    assert_eq!(
        String::from_utf8(failed.stderr).unwrap(),
        "flux: nobody answered `greet`: all that were asked (1) failed; the first, greeter: nobody to greet\n"
    );
}

#[test]
fn pieces_of_a_result_are_printed_before_it() {
    let scene = Scene::new();
    assert_eq!(scene.text(&["call", "count", "2"]), "1 of 2\n2 of 2\n{\n  \"counted\": 2\n}\n");
    let lines = scene.text(&["call", "count", "1", "--json"]);
    assert_eq!(lines, "{\"seq\":1,\"chunk\":\"1 of 1\"}\n{\"counted\":1}\n");
    let failed = scene.run(&["call", "count", "3"]);
    assert_eq!((failed.status.code(), failed.stdout.lines().count()), (Some(3), 3));
}

#[test]
fn watching_goes_on_when_the_server_is_back() {
    let dir = tempfile::TempDir::new().unwrap();
    let first = Process::flux_in(dir.path(), &["--appendfsync", "always"]);
    let set = |server: &Process, key: &str| {
        let mut connection = server.connect();
        connection.call(&["FLUX.REGISTER", r#"{"name":"ann","workspaces":["lobby"]}"#]).unwrap();
        connection.call(&["FLUX.CTX.SET", "lobby", key, "1"]).unwrap();
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_flux"));
    command.args(["watch", "lobby", "--url", &url(&first)]).stdin(Stdio::null());
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut shown = |start: &str| lines.find(|line| line.starts_with(start)).unwrap();
    shown("watching");
    set(&first, "before");
    assert_eq!(shown("ctx:"), "ctx:updated  ann  before  1");
    first.kill();
    assert!(told.next().unwrap().contains("the server is away"));
    let port = first.port();
    drop(first);
    let second = Process::flux_at(dir.path(), port);
    set(&second, "after");
    assert_eq!(shown("ctx:"), "ctx:updated  ann  after  1");
    assert!(told.next().unwrap().contains("the server is back"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn nobody_at_the_url_is_an_error_that_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_flux")).args(["peers", "--url", "redis://127.0.0.1:1"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("flux serve"), "{text}");
}

#[test]
fn a_server_that_never_answers_is_an_error_of_every_command() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Without a scheme, as other tools have it.
    let address = silent.local_addr().unwrap().to_string();
    let dir = tempfile::TempDir::new().unwrap();
    let copy = dir.path().join("copy").display().to_string();
    for words in [
        &["peers"][..],
        &["status"],
        &["capabilities"],
        &["describe", "x"],
        &["workspaces"],
        &["clean"],
        &["watch", "w"],
        &["top"],
        &["backup", &copy],
    ] {
        assert_gives_up(words, &address, "did not answer within 50ms");
    }
    assert_gives_up(&["call", "x"], &address, "did not answer within 1s");
}

/// Has a command wait 50 ms for a server, and expects an error.
#[track_caller]
fn assert_gives_up(words: &[&str], address: &str, error: &str) {
    let flux = env!("CARGO_BIN_EXE_flux");
    let output = Command::new(flux).args(words).args(["--timeout", "50ms", "--url", address]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains(error), "{words:?}: {text}");
}

#[test]
fn a_server_that_falls_silent_is_an_error_that_tells_how_long_was_waited() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    // It greets whoever connects, takes subscriptions, and answers nothing else.
    thread::spawn(move || {
        for wire in silent.incoming() {
            thread::spawn(move || greet_only(wire.unwrap()));
        }
    });
    for words in [&["status"][..], &["watch", "w"], &["top"]] {
        assert_gives_up(words, &address, "did not answer within 50ms");
    }
    assert_gives_up(&["call", "x"], &address, "did not answer within 1.05s, though the call's time is over");
}

fn greet_only(mut wire: std::net::TcpStream) {
    let mut read = [0; 4096];
    while let Ok(count @ 1..) = wire.read(&mut read) {
        let text = String::from_utf8_lossy(&read[..count]).to_uppercase();
        if text.contains("HELLO") {
            wire.write_all(b"%1\r\n+proto\r\n:3\r\n").unwrap();
        } else if text.contains("SUBSCRIBE") {
            wire.write_all(b">3\r\n+subscribe\r\n+channel\r\n:1\r\n").unwrap();
        }
    }
}

#[test]
fn watching_shows_events_as_they_happen() {
    let scene = Scene::new();
    let mut watch = scene.command(&["watch", "lobby"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let here: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("watching")).collect();
    assert!(here.iter().any(|line| line.contains("greeter")), "{here:?}");
    scene.does(async |peer| peer.context("lobby").set("topic", "tea").await).unwrap();
    assert_eq!(lines.next().unwrap(), "ctx:updated  greeter  topic  tea");
    scene.does(async |peer| peer.leave("lobby").await).unwrap();
    assert_eq!(lines.next().unwrap(), "peer:left    greeter");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
