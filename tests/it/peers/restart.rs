//! What outlives a connection, and the server.

use flux::Flux;
use serde_json::json;
use tempfile::TempDir;

use crate::peers::client::Client;
use crate::process::Process;

#[test]
fn a_result_waits_for_its_caller_to_come_back_and_for_nobody_else() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", json!([{ "name": "f" }]), &[]);
    let mut caller = Client::peer(&server, "caller", json!([]), &[]);
    let id = caller.text(&["FLUX.CALL", "f", "1", "ASYNC"]);
    drop(caller);
    worker.serve("\"kept\"");
    let mut thief = Client::new(&server);
    crate::process::until("the caller has left", || {
        !thief.ok(&["EXISTS", "flux:peer:caller"]).eq(&crate::process::Reply::Line(":1".into()))
    });
    assert!(thief.error(&["FLUX.REGISTER", r#"{"id":"caller"}"#]).starts_with("DENIED "));
    let mut caller = Client::peer(&server, "caller", json!([]), &[]);
    assert_eq!(caller.text(&["FLUX.RESULT", &id]), format!(r#"{{"jobId":"{id}","ok":true,"data":"kept"}}"#));
}

#[test]
fn a_peer_comes_back_after_a_restart_with_its_secret_and_nobody_else_does() {
    let folder = TempDir::new().unwrap();
    let peer = json!({ "id": "ada", "workspaces": ["lab"], "capabilities": [{ "name": "f" }] }).to_string();
    let register = |store: &mut flux::store::Blocking, secret: &str| {
        let reply = store.call(&[b"FLUX.REGISTER", peer.as_bytes(), b"SECRET", secret.as_bytes(), b"TTL", b"60000"]);
        String::from_utf8(reply).unwrap()
    };
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    assert!(register(&mut store, "hers").starts_with("*8"));
    // As when the process is killed: the session does not end.
    let kept = flux.blocking().call(&[b"GET", b"flux:peer:ada"]);
    std::mem::forget(store);
    flux.close().unwrap();
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    assert_eq!(store.call(&[b"GET", b"flux:peer:ada"]), kept);
    let peers = String::from_utf8(store.call(&[b"FLUX.PEERS", b"CAPABILITY", b"f"])).unwrap();
    assert!(peers.starts_with("*1"), "{peers}");
    assert!(register(&mut store, "his").starts_with("-DENIED "));
    assert!(register(&mut store, "hers").starts_with("*8"));
    drop(store);
    let mut store = flux.blocking();
    assert_eq!(store.call(&[b"KEYS", b"flux:*peer*"]), b"*0\r\n", "it has left");
}

#[test]
fn a_peer_that_died_while_the_server_was_down_is_cleaned_up_at_its_start() {
    let folder = TempDir::new().unwrap();
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    let ran: [&[&[u8]]; 5] = [
        &[b"SADD", b"flux:peers", b"ghost"],
        &[b"SADD", b"flux:fn:f", b"ghost"],
        &[b"SADD", b"flux:ws:lab:peers", b"ghost"],
        &[b"SADD", b"flux:peer:ghost:ws", b"lab"],
        &[b"LPUSH", b"flux:q:ghost", br#"{"id":"j","fn":"f","sourceHost":"x"}"#],
    ];
    ran.iter().for_each(|words| drop(store.call(words)));
    drop(store);
    flux.close().unwrap();
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    crate::process::until("the ghost is gone", || {
        store.call(&[b"EXISTS", b"flux:peers", b"flux:fn:f", b"flux:ws:lab:peers", b"flux:peer:ghost:ws", b"flux:q:ghost"])
            == b":0\r\n"
    });
}

#[test]
fn calls_within_the_process_get_pieces_and_an_end() {
    let flux = Flux::in_memory();
    let mut worker = flux.blocking();
    worker.call(&[b"FLUX.REGISTER", br#"{"id":"w","capabilities":[{"name":"f"}]}"#]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut call = runtime.block_on(flux.peers().call(flux::peers::calls::Order::new("f", b"1"))).unwrap();
    assert!(worker.call(&[b"FLUX.NEXT"]).starts_with(b"*1\r\n*6\r\n"));
    let id = call.id().to_owned();
    worker.call(&[b"FLUX.REPLY", id.as_bytes(), b"CHUNK", b"\"piece\""]);
    worker.call(&[b"FLUX.REPLY", id.as_bytes(), b"OK", b"2"]);
    let parts: Vec<String> = runtime.block_on(async {
        let mut parts = Vec::new();
        while let Some(part) = call.next().await {
            parts.push(match part {
                flux::peers::calls::Part::Chunk(data, seq) => format!("{seq} {}", String::from_utf8_lossy(&data)),
                flux::peers::calls::Part::End(outcome) => String::from_utf8_lossy(&outcome.unwrap()).into_owned(),
            });
        }
        parts
    });
    assert_eq!(parts, ["1 \"piece\"", "2"]);
    // One that is dropped is cancelled.
    let call = runtime.block_on(flux.peers().call(flux::peers::calls::Order::new("f", b"1"))).unwrap();
    let id = call.id().to_owned();
    worker.call(&[b"FLUX.NEXT"]);
    drop(call);
    assert!(worker.call(&[b"FLUX.REPLY", id.as_bytes(), b"OK", b"2"]).starts_with(b"-NOCALL "));
}
