//! Capabilities as MCP tools, seen by real clients: that of the Rust SDK over HTTP and over standard input and output, and
//! that of the Python SDK (in `clients.rs`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ProgressNotificationParam};
use rmcp::service::NotificationContext;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Door, Worker};
use crate::process::Process;

/// A host that notes when it is told that the tools changed, and how calls go on.
#[derive(Clone, Default)]
struct Host {
    tools: Arc<Notify>,
    progress: Arc<Mutex<Vec<(f64, Option<String>)>>>,
}

impl Host {
    /// Waits until it is told of a change: at once, not when it is looked for.
    async fn told(&self) {
        timeout(Duration::from_secs(5), self.tools.notified()).await.expect("changes are told at once");
    }
}

impl ClientHandler for Host {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools.notify_one();
    }

    async fn on_progress(&self, told: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push((told.progress, told.message));
    }
}

const MATHS: &str = r#"[
    {"name": "math.add", "description": "Adds one", "schema": {"type": "object", "properties": {"a": {"type": "number"}}}},
    {"name": "shout", "schema": {"type": "string"}},
    {"name": "hidden"}
]"#;

fn maths(payload: &str) -> Vec<[String; 2]> {
    let reply = match serde_json::from_str(payload).unwrap() {
        Value::String(text) => ["OK".into(), json!(text.to_uppercase()).to_string()],
        payload => match payload["a"].as_i64() {
            Some(-1) => ["ERROR".into(), "no negative numbers".into()],
            number => ["OK".into(), json!({ "sum": number.unwrap_or_default() + 1 }).to_string()],
        },
    };
    vec![reply]
}

fn ask(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone())
}

fn text(result: &CallToolResult) -> String {
    serde_json::to_value(result).unwrap()["content"][0]["text"].as_str().unwrap().to_owned()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(60), test).await.expect("it takes seconds at most") });
}

fn transport(door: &Door, password: Option<&str>) -> StreamableHttpClientTransport<reqwest::Client> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(format!("http://{}/mcp", door.address));
    config.auth_header = password.map(str::to_owned);
    StreamableHttpClientTransport::from_config(config)
}

#[test]
fn capabilities_with_a_schema_are_tools_over_http() {
    let door = Door::open(&[]);
    let worker = Worker::start(&door, "maths", MATHS, maths);
    run(async {
        let host = Host::default();
        let client = host.clone().serve(transport(&door, None)).await.unwrap();
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["math_add", "shout"]);
        assert_eq!(tools[0].description.as_deref(), Some("Adds one"));
        assert_eq!(tools[0].input_schema["properties"]["a"]["type"], "number");
        let result = client.call_tool(ask("math_add", json!({ "a": 41 }))).await.unwrap();
        assert_eq!((result.structured_content.clone(), text(&result)), (Some(json!({ "sum": 42 })), r#"{"sum":42}"#.into()));
        let result = client.call_tool(ask("shout", json!({ "payload": "hello" }))).await.unwrap();
        assert_eq!(text(&result), "HELLO");
        let result = client.call_tool(ask("math_add", json!({ "a": -1 }))).await.unwrap();
        assert_eq!((result.is_error, text(&result)), (Some(true), "no negative numbers".into()));
        let result = client.call_tool(ask("math_add", json!({ "a": "one" }))).await.unwrap();
        assert!(result.is_error == Some(true) && text(&result).contains("/a"), "{result:?}");
        assert!(client.call_tool(ask("hidden", json!({}))).await.is_err());
    });
    drop(worker);
}

#[test]
fn a_long_list_comes_in_pages() {
    let door = Door::open(&[]);
    let capability = |number: usize| json!({ "name": format!("c{number:02}"), "schema": {}, "description": "x".repeat(60_000) });
    let capabilities = Value::Array((0..40).map(capability).collect()).to_string();
    let _worker = Worker::start(&door, "many", &capabilities, maths);
    run(async {
        let client = Host::default().serve(transport(&door, None)).await.unwrap();
        let first = client.list_tools(None).await.unwrap();
        assert!((2..20).contains(&first.tools.len()) && first.next_cursor.is_some(), "{} tools", first.tools.len());
        let names: Vec<String> = client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect();
        assert_eq!(names, (0..40).map(|number| format!("c{number:02}")).collect::<Vec<_>>());
    });
}

#[test]
fn hosts_are_told_when_tools_come_and_go() {
    let door = Door::open(&[]);
    run(async {
        let host = Host::default();
        let client = host.clone().serve(transport(&door, None)).await.unwrap();
        assert!(client.list_all_tools().await.unwrap().is_empty());
        // Once at the beginning, for what may have changed meanwhile.
        host.told().await;
        let worker = Worker::start(&door, "maths", MATHS, maths);
        host.told().await;
        assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
        tokio::task::spawn_blocking(|| drop(worker)).await.unwrap();
        host.told().await;
        assert!(client.list_all_tools().await.unwrap().is_empty());
    });
}

#[test]
fn pieces_of_a_result_are_told_as_progress() {
    let door = Door::open(&[]);
    let steps = |_: &str| {
        let pieces = [json!("one"), json!({ "n": 2 }), json!("three")];
        let chunks = pieces.map(|piece| ["CHUNK".to_owned(), piece.to_string()]);
        chunks.into_iter().chain([["OK".to_owned(), "\"done\"".to_owned()]]).collect()
    };
    let _worker = Worker::start(&door, "steps", r#"[{"name":"steps","schema":{"type":"object"}}]"#, steps);
    run(async {
        let host = Host::default();
        let client = host.clone().serve(transport(&door, None)).await.unwrap();
        for _ in 0..5 {
            let result = client.call_tool(ask("steps", json!({}))).await.unwrap();
            assert_eq!(text(&result), "done");
            let told = || host.progress.lock().unwrap().len();
            while told() < 3 {
                tokio::task::yield_now().await;
            }
            let expected = [(1.0, "one"), (2.0, r#"{"n":2}"#), (3.0, "three")].map(|(seq, text)| (seq, Some(text.to_owned())));
            assert_eq!(std::mem::take(&mut *host.progress.lock().unwrap()), expected);
        }
    });
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_peer() {
    let door = Door::open(&[]);
    let slow = r#"[{"name":"slow","schema":{"type":"object"}}]"#;
    let _worker = Worker::start(&door, "slow", slow, |_| Vec::new());
    let running = || {
        let (_, body) = door.get("/status");
        serde_json::from_str::<Value>(&body).unwrap()["callsRunning"].as_u64().unwrap()
    };
    run(async {
        let client = Host::default().serve(transport(&door, None)).await.unwrap();
        let call = client.call_tool(ask("slow", json!({})));
        assert!(timeout(Duration::from_millis(500), call).await.is_err(), "nobody answers it");
        while running() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn the_password_is_asked_for() {
    let door = Door::open(&[("requirepass", "secret")]);
    run(async {
        assert!(Host::default().serve(transport(&door, None)).await.is_err());
        let client = Host::default().serve(transport(&door, Some("secret"))).await.unwrap();
        assert!(client.list_all_tools().await.unwrap().is_empty());
    });
}

#[test]
fn pages_of_strangers_get_no_tools() {
    let door = Door::open(&[]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let stranger = [headers[0], headers[1], ("Origin", "https://evil.example")];
    assert_eq!(door.ask("POST", "/mcp", &stranger, body).status, 403);
    assert_ne!(door.ask("POST", "/mcp", &headers, body).status, 403);
}

#[test]
fn the_same_over_standard_input_and_output() {
    let server = Process::flux(&["--requirepass", "secret"]);
    let url = format!("redis://:secret@127.0.0.1:{}", server.port());
    let mut peer = redis::Client::open(url).unwrap().get_connection().unwrap();
    let json = format!(r#"{{"name":"maths","capabilities":{MATHS},"workspaces":[]}}"#);
    redis::cmd("FLUX.REGISTER").arg(json).arg("TTL").arg(60_000).exec(&mut peer).unwrap();
    let worker = std::thread::spawn(move || {
        for _ in 0..2 {
            let jobs: Vec<(String, String, String, Option<String>, u64, u64)> = redis::cmd("FLUX.NEXT").query(&mut peer).unwrap();
            let [kind, text] = maths(&jobs[0].2).remove(0);
            redis::cmd("FLUX.REPLY").arg(&jobs[0].0).arg(kind).arg(text).exec(&mut peer).unwrap();
        }
    });
    run(async {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_flux"));
        command.args(["mcp", "--url", &format!("redis://127.0.0.1:{}", server.port())]).env("FLUX_REQUIREPASS", "secret");
        let host = Host::default();
        let client = host.clone().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
        assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
        host.told().await;
        let result = client.call_tool(ask("math_add", json!({ "a": 1 }))).await.unwrap();
        assert_eq!(result.structured_content, Some(json!({ "sum": 2 })));
        let result = client.call_tool(ask("shout", json!({ "payload": "x" }))).await.unwrap();
        assert_eq!(text(&result), "X");
        // The peer is gone with its connection.
        tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap();
        host.told().await;
        assert!(client.list_all_tools().await.unwrap().is_empty());
        client.cancel().await.unwrap();
    });
}

#[test]
fn sessions_that_nobody_ends_make_way_for_new_ones_of_others() {
    let door = Door::open(&[]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let begin = || door.ask("POST", "/mcp", &headers, body);
    let mut statuses: Vec<u16> = (0..251).map(|_| begin().status).collect();
    assert_eq!(statuses.pop(), Some(503), "an address has its share, and was there just now");
    assert!(statuses.iter().all(|status| *status == 200));
}

#[test]
fn a_session_that_a_host_ends_is_answered_with_204() {
    let door = Door::open(&[]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let begun = door.ask("POST", "/mcp", &headers, body);
    let session = [("Mcp-Session-Id", begun.header("mcp-session-id").unwrap())];
    let ended = door.ask("DELETE", "/mcp", &session, "");
    assert_eq!((ended.status, &*ended.body), (204, ""));
}

#[test]
fn a_session_that_is_not_there_is_told_so_whatever_is_asked_of_it() {
    let door = Door::open(&[]);
    let headers =
        [("Mcp-Session-Id", "nobody"), ("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (method, body) in [("DELETE", ""), ("GET", ""), ("POST", ping)] {
        let answer = door.ask(method, "/mcp", &headers, body);
        assert!(answer.status == 404 && answer.body.contains("NOSESSION"), "{method}: {answer:?}");
    }
}

#[test]
fn a_tool_is_found_by_its_name_however_it_was_made() {
    let door = Door::open(&[]);
    let capabilities = r#"[{"name":"a.b","schema":{}},{"name":"a_b","schema":{}},{"name":"c.d","schema":{}},{"name":"e.f"}]"#;
    let _worker = Worker::start(&door, "names", capabilities, |_| vec![["OK".into(), "1".into()]]);
    run(async {
        let client = Host::default().serve(transport(&door, None)).await.unwrap();
        for tool in client.list_all_tools().await.unwrap() {
            let result = client.call_tool(CallToolRequestParams::new(tool.name.to_string())).await.unwrap();
            assert_eq!(text(&result), "1", "{}", tool.name);
        }
        for missing in ["c.d", "e.f", "e_f"] {
            assert!(client.call_tool(ask(missing, json!({}))).await.is_err(), "{missing}");
        }
    });
}
