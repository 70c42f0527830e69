//! One workspace, three languages: a peer in JavaScript, one in Python and one in Rust call each other and share what they have.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use flux::peers::{Capability, Job, Peer};
use serde_json::{Value, json};

use crate::process::{Process, has};
use crate::sdk_python;

/// A peer in a process of its own that does what lines of JSON ask.
struct Speaker {
    child: Child,
    asks: ChildStdin,
    lines: mpsc::Receiver<Value>,
    number: u64,
    /// Its id among peers.
    id: String,
    /// Lines that were no answers.
    told: Vec<Value>,
}

impl Speaker {
    fn start(mut command: Command, script: &str, url: &str) -> Arc<Mutex<Speaker>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        command.arg(script).args([url, "tower"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Ends with the process, or with whoever reads.
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(serde_json::from_str(&line).unwrap()))
        });
        let asks = child.stdin.take().unwrap();
        let mut speaker = Speaker { child, asks, lines, number: 0, id: String::new(), told: Vec::new() };
        speaker.id = speaker.wait(|line| line["ready"].as_str().map(str::to_owned));
        Arc::new(Mutex::new(speaker))
    }

    /// Reads lines until there is what is looked for.
    fn wait<T>(&mut self, find: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            let line = self.lines.recv().expect("the process ended");
            if let Some(found) = find(&line) {
                return found;
            }
            self.told.push(line);
        }
    }

    fn ask(&mut self, mut what: Value) -> Value {
        self.number += 1;
        let number = self.number;
        what["id"] = number.into();
        writeln!(self.asks, "{what}").unwrap();
        self.wait(|line| (line["id"] == number).then(|| line.clone()))
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks without holding up the peer of this process.
async fn ask(speaker: &Arc<Mutex<Speaker>>, what: Value) -> Value {
    let speaker = Arc::clone(speaker);
    tokio::task::spawn_blocking(move || speaker.lock().unwrap().ask(what)).await.unwrap()
}

fn node() -> Option<Command> {
    has("node", Command::new("node").arg("--version")).then(|| Command::new("node"))
}

#[test]
fn peers_of_three_languages_understand_each_other() {
    let (Some(node), Some(python)) = (node(), sdk_python::python()) else { return };
    let server = Process::flux(&[]);
    let url = format!("redis://127.0.0.1:{}", server.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let js = Speaker::start(node, "sdk/js/test/interop-peer.mjs", &url);
        let python = Speaker::start(python, "sdk/python/tests/interop_peer.py", &url);
        let echo = Capability::new("rust.echo", |payload: Value, _: Job| async move { Ok::<_, Infallible>(payload) });
        let rust = Peer::connect(&url).unwrap().name("rust").expose(echo).start().await.unwrap();
        let mut names: Vec<String> = rust.join("tower").await.unwrap().into_iter().map(|peer| peer.name).collect();
        names.sort();
        assert_eq!(names, ["js", "python", "rust"]);

        let payload = json!({ "text": "tür ✓", "list": [1, 2.5, null, true] });
        for to in ["js.echo", "python.echo", "rust.echo"] {
            assert_eq!(rust.call(to, &payload).await.unwrap(), payload, "rust calls {to}");
            for speaker in [&js, &python] {
                let answer = ask(speaker, json!({ "do": "send", "fn": to, "payload": payload })).await;
                assert_eq!(answer["ok"]["data"], payload, "a call of {to}: {answer}");
            }
        }
        let failed = ask(&js, json!({ "do": "send", "fn": "python.fail", "payload": { "text": "no ink" } })).await;
        assert_eq!((&failed["code"], &failed["error"]), (&json!("FAILED"), &json!("no ink")));
        let failed = ask(&python, json!({ "do": "send", "fn": "js.fail", "payload": { "text": "no ink" } })).await;
        assert_eq!((&failed["code"], &failed["error"]), (&json!("FAILED"), &json!("no ink")));
        let counted = ask(&python, json!({ "do": "send", "fn": "js.count", "payload": { "to": 3 } })).await;
        assert_eq!(counted["ok"], json!({ "data": 3, "chunks": [1, 2, 3] }));

        rust.context("tower").set("plan", &payload).await.unwrap();
        for speaker in [&js, &python] {
            assert_eq!(ask(speaker, json!({ "do": "get", "key": "plan" })).await["ok"], payload);
        }
        ask(&python, json!({ "do": "set", "key": "plan", "value": "climb" })).await;
        assert_eq!(rust.context("tower").get("plan").await.unwrap(), Some(json!("climb")));

        ask(&js, json!({ "do": "stream", "key": "poem", "chunks": ["one", "two"] })).await;
        let js_id = js.lock().unwrap().id.clone();
        let mut poem = rust.read_stream("tower", &js_id, "poem");
        assert_eq!(poem.next().await.unwrap().unwrap().text, "one");
        assert_eq!(poem.next().await.unwrap().unwrap().text, "two");
        assert_eq!(poem.next().await.unwrap(), None);

        rust.stop().await;
        // Both saw it come and go.
        for speaker in [&js, &python] {
            let speaker = Arc::clone(speaker);
            let is_told = tokio::task::spawn_blocking(move || {
                let mut speaker = speaker.lock().unwrap();
                let is = |line: &Value, kind: &str| line["event"]["type"] == kind && line["event"]["peerName"] == "rust";
                if !speaker.told.iter().any(|line| is(line, "peer:left")) {
                    speaker.wait(|line| is(line, "peer:left").then_some(()));
                }
                speaker.told.iter().any(|line| is(line, "peer:joined"))
            });
            assert!(is_told.await.unwrap());
        }
    });
}
