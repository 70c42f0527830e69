//! A page of strangers in a real browser tries what pages can, on the port for Redis and on the one for HTTP. `FLUX_CHROMIUM` tells a browser.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::{ask, line};
use crate::process::{Process, Reply, has};

/// How long the browser may take for all of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The page: it tries everything, and tells its own server what came of each. `RESP`, `HTTP` and `BACKUP` are filled in.
const PAGE: &str = r#"<!doctype html><body><script>
const resp = "127.0.0.1:RESP", http = "127.0.0.1:HTTP";
const stolen = "SET stolen 1\r\nFLUSHALL\r\nCONFIG SET http-origins http://evil.example\r\nFLUX BACKUP BACKUP\r\nSHUTDOWN NOSAVE\r\n";
const form = (to, kind, fields) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.name = "frame" + Math.random();
  document.body.append(frame);
  const form = document.createElement("form");
  Object.assign(form, { action: to, method: "POST", enctype: kind, target: frame.name });
  for (const [name, value] of fields) {
    const area = document.createElement("textarea");
    Object.assign(area, { name, value });
    form.append(area);
  }
  document.body.append(form);
  frame.onload = () => done("loaded");
  form.submit();
});
const image = (to) => new Promise((done) => {
  const image = new Image();
  image.onload = image.onerror = (event) => done(event.type);
  image.src = to;
});
const script = (to) => new Promise((done) => {
  const script = document.createElement("script");
  script.onload = script.onerror = (event) => done(event.type);
  script.src = to;
  document.body.append(script);
});
const socket = (to, protocols) => new Promise((done) => {
  const socket = new WebSocket(to, protocols);
  socket.onopen = () => { socket.send(stolen); done("open"); };
  socket.onerror = () => done("error");
});
const events = (to) => new Promise((done) => {
  const events = new EventSource(to);
  events.onopen = () => done("open");
  events.onerror = () => { events.close(); done("error"); };
});
const read = async (to, options) => `${(await fetch(to, options)).status}`;
const blind = (to, options) => read(to, { mode: "no-cors", ...options });
const json = { "content-type": "application/json" };
const tries = {
  "resp no-cors": () => blind(`http://${resp}/`, { method: "POST", body: stolen }),
  "resp cors": () => read(`http://${resp}/`, { method: "POST", body: stolen }),
  "resp typed": () => read(`http://${resp}/`, { method: "POST", headers: json, body: stolen }),
  "resp put": () => read(`http://${resp}/`, { method: "PUT", body: stolen }),
  "resp other": () => read(`http://${resp}/${encodeURIComponent(stolen)}`, { method: "FLUSHALL" }),
  "resp get": () => blind(`http://${resp}/\r\n${stolen}`),
  "resp query": () => blind(`http://${resp}/?\r\n${stolen}`, { headers: { accept: "SET stolen 1" } }),
  "resp blob": () => blind(`http://${resp}/`, { method: "POST", body: new Blob(["\r\n" + stolen]) }),
  "resp parts": () => { const data = new FormData(); data.append("a", "\r\n" + stolen); return blind(`http://${resp}/`, { method: "POST", body: data }); },
  "resp beacon": async () => `${navigator.sendBeacon(`http://${resp}/`, stolen)}`,
  "resp form": () => form(`http://${resp}/`, "text/plain", [["\r\n" + stolen, stolen]]),
  "resp multipart": () => form(`http://${resp}/`, "multipart/form-data", [["a\r\n" + stolen, "\r\n" + stolen]]),
  "resp image": () => image(`http://${resp}/%0d%0aSET%20stolen%201%0d%0a`),
  "resp script": () => script(`http://${resp}/`),
  "resp tls": () => blind(`https://${resp}/`, { method: "POST", body: stolen }),
  "resp socket": () => socket(`ws://${resp}/`, ["FLUSHALL"]),
  "resp secure socket": () => socket(`wss://${resp}/`),
  "resp events": () => events(`http://${resp}/`),
  "http call": () => blind(`http://${http}/call/stolen`, { method: "POST", body: '{"a":1}' }),
  "http call form": () => form(`http://${http}/call/stolen`, "text/plain", [['{"a', '":1}']]),
  "http call typed": () => read(`http://${http}/call/stolen`, { method: "POST", headers: json, body: "{}" }),
  "http put": () => read(`http://${http}/workspaces/w/ctx/stolen`, { method: "PUT", body: "1" }),
  "http delete": () => read(`http://${http}/workspaces/w/ctx/kept`, { method: "DELETE" }),
  "http override": () => blind(`http://${http}/workspaces/w/ctx/kept?_method=DELETE`, { method: "POST", body: "_method=DELETE" }),
  "http mcp": () => blind(`http://${http}/mcp`, { method: "POST", body: '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}' }),
  "http mcp typed": () => read(`http://${http}/mcp`, { method: "POST", headers: { ...json, accept: "application/json, text/event-stream" }, body: "{}" }),
  "http socket": () => socket(`ws://${http}/resp`),
  "http events": () => events(`http://${http}/workspaces/w/events`),
  "http metrics": () => read(`http://${http}/metrics`),
  "http index": () => read(`http://${http}/`),
  "http health": () => read(`http://${http}/health`),
  "http ready": () => read(`http://${http}/ready`),
  "http peers": () => read(`http://${http}/peers`),
  "http other name": () => read(`http://rebound.example:HTTP/metrics`),
  "http blind name": () => script(`http://rebound.example:HTTP/metrics`),
  "http sandbox": () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>fetch("http://${http}/peers").then((it) => it.status, () => "error").then((it) => parent.postMessage(it, "*"))<\/script>`;
    onmessage = (event) => done(`${event.data}`);
    document.body.append(frame);
  }),
};
// A relay for calls of a browser is asked with bytes of its own protocol; what comes of it may take long.
const call = new RTCPeerConnection({ iceServers: [{ urls: `turn:${resp}?transport=tcp`, username: stolen, credential: stolen }] });
call.createDataChannel("a");
call.createOffer().then((offer) => call.setLocalDescription(offer)).catch(() => {});
(async () => {
  const came = {};
  for (const [name, run] of Object.entries(tries)) came[name] = await Promise.resolve().then(run).catch(() => "error");
  await fetch("/done", { method: "POST", body: Object.entries(came).map((pair) => pair.join(": ")).join("\n") });
})();
</script>"#;

/// A web server of one page, which hands over what is posted to it.
fn site(page: String) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, tells) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (page, told) = (page.clone(), told.clone());
            thread::spawn(move || drop(answer(stream.unwrap(), &page, &told)));
        }
    });
    (port, tells)
}

fn answer(stream: TcpStream, page: &str, told: &std::sync::mpsc::Sender<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        if let Some(text) = head[before..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    )?;
    if head.starts_with("POST /done") {
        let _ = told.send(String::from_utf8_lossy(&body).into_owned());
    }
    Ok(())
}

/// A browser with a page open, until it is dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(chromium: &str, url: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // Names of strangers, made to point here; and no help of the browser's against pages that ask this machine.
            .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
            .arg("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Browser { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With all its processes, which would go on writing to its profile.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn a_page_of_strangers_in_a_real_browser_gets_nowhere() {
    let chromium = std::env::var("FLUX_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    if !has("chromium (Debian: chromium)", Command::new(&chromium).arg("--version")) {
        return;
    }
    let server = Process::flux(&[]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("stolen.backup");
    for command in ["SET kept 1", "FLUX.CTX.SET w kept 1"] {
        let reply = ask(&server, command);
        assert!(!matches!(&reply, Reply::Line(text) if text.starts_with('-')), "{command}: {reply:?}");
    }
    let before = ask(&server, "DBSIZE");
    let page = PAGE
        .replace("FLUX BACKUP BACKUP", &format!("FLUX BACKUP {}", backup.display()))
        .replace(":RESP\"", &format!(":{}\"", server.port()))
        .replace(":HTTP", &format!(":{}", server.http_port()));
    let (port, tells) = site(page);
    let browser = Browser::open(&chromium, &format!("http://evil.example:{port}/"));
    let told = tells.recv_timeout(PATIENCE).expect("the page has tried all it can");
    drop(browser);
    let came: BTreeMap<&str, &str> = told.lines().filter_map(|line| line.split_once(": ")).collect();
    assert!(came.len() > 30, "{told}");
    // Nothing of it can be read by the page; what it may only send without seeing an answer ends as any answer does.
    let readable = ["resp cors", "resp typed", "resp put", "resp other", "resp socket", "resp secure socket", "resp events"];
    let http = came.keys().filter(|name| name.starts_with("http") && !name.contains("form")).copied();
    for name in readable.into_iter().chain(http) {
        assert!(["error", "0"].contains(&came[name]), "{name}: {}\n{told}", came[name]);
    }
    assert_eq!(ask(&server, "DBSIZE"), before);
    assert_eq!(ask(&server, "GET kept"), Reply::Bulk('$', b"1".into()));
    assert_eq!(ask(&server, "EXISTS stolen"), line(":0"));
    assert_eq!(
        ask(&server, "CONFIG GET http-origins"),
        Reply::Many('*', vec![Reply::Bulk('$', b"http-origins".into()), Reply::Bulk('$', Vec::new())])
    );
    assert_eq!(ask(&server, "FLUX.CTX.KEYS w"), Reply::Many('*', vec![Reply::Bulk('$', b"kept".into())]));
    assert!(!backup.exists());
    // They did come: this would show nothing otherwise.
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains("SECURITY ATTACK")).count(), 1, "{log}");
}
