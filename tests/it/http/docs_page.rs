//! The page at `/docs` in a real browser: its forms work under its own policy, and what comes back is text. `FLUX_CHROMIUM` tells a browser.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{self, WebSocket};

use super::Door;
use crate::process::{has, until};

/// How long the browser may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fills in the form of a route, sends it, and waits until this text is shown.
const TRY: &str = r#"async (method, path, fields, text, expected) => {
  const form = document.querySelector(`form[data-method="${method}"][data-path="${path}"]`);
  for (const [name, value] of Object.entries(fields)) form.querySelector(`[name="${name}"]`).value = value;
  if (text !== null) form.querySelector("textarea").value = text;
  const shown = form.querySelector("pre");
  const isShown = new Promise((done) => new MutationObserver(() => {
    if (shown.textContent.includes(expected)) done(shown.textContent);
  }).observe(shown, { childList: true, characterData: true, subtree: true }));
  form.closest("details").open = true;
  form.querySelector("button").click();
  const text_shown = await isShown;
  return { shown: text_shown, children: shown.childElementCount };
}"#;

/// A browser that does what it is told over its own protocol, until it is dropped.
struct Browser {
    child: Child,
    line: WebSocket<MaybeTlsStream<TcpStream>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(chromium: &str, url: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("DevTools listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let line = tungstenite::connect(address).unwrap().0;
        let MaybeTlsStream::Plain(socket) = line.get_ref() else { panic!("the browser is asked without TLS") };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Browser { child, line, _profile: profile }
    }

    /// Asks the browser, or one of its pages, and waits for the answer.
    fn ask(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let told = self.told(session, method, params);
        assert!(told["error"].is_null() && told["result"]["exceptionDetails"].is_null(), "{told}");
        told["result"].clone()
    }

    fn told(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let mut asked = json!({ "id": 1, "method": method, "params": params });
        if let Some(session) = session {
            asked["sessionId"] = session.into();
        }
        self.line.send(Message::text(asked.to_string())).unwrap();
        loop {
            let told: Value = serde_json::from_str(self.line.read().unwrap().to_text().unwrap()).unwrap();
            if told["id"] == 1 {
                return told;
            }
        }
    }

    /// The name of the session with the page at this address, once it is there.
    fn page(&mut self, url: &str) -> String {
        let mut found = None;
        until("the page is there", || {
            let targets = self.ask(None, "Target.getTargets", &json!({}));
            found = targets["targetInfos"].as_array().unwrap().iter().find(|target| target["url"] == url).cloned();
            found.is_some()
        });
        let target = &found.unwrap()["targetId"];
        let attached = self.ask(None, "Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let state =
            json!({ "expression": "document.readyState === 'complete' && document.forms.length > 0", "returnByValue": true });
        // Before it is there, there is nothing that could run the question, or another page that is empty.
        until("the page is loaded", || {
            self.told(Some(&session), "Runtime.evaluate", &state)["result"]["result"]["value"] == true
        });
        session
    }

    /// Runs a script in a page, and waits for what comes of it.
    fn run(&mut self, page: &str, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        self.ask(Some(page), "Runtime.evaluate", &params)["result"]["value"].clone()
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
fn the_forms_of_the_docs_work_in_a_browser_and_show_answers_as_text() {
    let chromium = std::env::var("FLUX_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    if !has("chromium (Debian: chromium)", Command::new(&chromium).arg("--version")) {
        return;
    }
    let door = Door::open(&[("requirepass", "secret")]);
    let url = format!("http://{}/docs", door.address);
    let mut browser = Browser::open(&chromium, &url);
    let page = browser.page(&url);
    let path = "/workspaces/{workspace}/ctx/{key}";
    let fields = json!({ "workspace": "alpha", "key": "a/<b>.md", "ttl": "60000" });
    let script = |method: &str, fields: &Value, text: Option<&str>, expected: &str| {
        format!("({TRY})({})", json!([method, path, fields, text, expected]).to_string().trim_matches(['[', ']']))
    };
    let markup = "<img src=x onerror=alert(1)>";
    let refused = browser.run(&page, &script("PUT", &fields, Some(markup), "NOAUTH"));
    assert!(refused["shown"].as_str().unwrap().starts_with("401"), "{refused}");
    browser.run(&page, "document.getElementById('password').value = 'secret'");
    let put = browser.run(&page, &script("PUT", &fields, Some(markup), "version"));
    assert!(put["shown"].as_str().unwrap().starts_with("200"), "{put}");
    let got = browser.run(&page, &script("GET", &json!({ "workspace": "alpha", "key": "a/<b>.md" }), None, markup));
    assert_eq!(got["children"], 0, "it is text: {got}");
    let bearer = [("Authorization", "Bearer secret")];
    assert_eq!(door.ask("GET", "/workspaces/alpha/ctx/a%2F%3Cb%3E.md", &bearer, "").body, markup);
    // Its policy lets nothing else run.
    let inline = "const script = document.createElement('script'); script.textContent = 'window.ran = true'; document.body.append(script); \
                  window.ran === undefined";
    assert_eq!(browser.run(&page, inline), true);
}
