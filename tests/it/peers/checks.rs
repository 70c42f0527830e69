//! Payloads whose check takes long: on no thread that serves clients, in turns, and no longer than someone waits.

use serde_json::{Value, json};

use crate::peers::client::{Client, error, text};
use crate::process::{Process, Reply, until};
use crate::random::Random;

/// Callers that send payloads whose check takes all steps that a check may.
const HOSTILE: usize = 8;

fn capabilities() -> Value {
    json!([
        { "name": "trap", "schema": { "pattern": "1[01]{1500}x" } },
        { "name": "store", "schema": { "type": "object", "properties": { "text": { "pattern": "^[ab]*$" } } } },
        { "name": "plain" },
    ])
}

/// Each of its bytes leads the pattern's automaton to a new state.
fn bits() -> String {
    let mut random = Random::new(3);
    format!("\"{}\"", (0..2_000_000).map(|_| if random.below(2) == 0 { '0' } else { '1' }).collect::<String>())
}

/// Clients on their own connections, whose checks wait or are under way.
fn trapped(server: &Process) -> Vec<Client> {
    let bits = bits();
    let mut clients: Vec<Client> = (0..HOSTILE).map(|_| Client::new(server)).collect();
    clients.iter_mut().for_each(|client| client.send(&["FLUX.CALL", "trap", &bits, "TIMEOUT", "60000"]));
    clients
}

fn blocked(client: &mut Client) -> usize {
    let info = client.text(&["INFO", "clients"]);
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_long_check_holds_up_nobody_and_ends_with_an_error_that_says_what_to_do() {
    let server = Process::flux(&[]);
    let _worker = Client::peer(&server, "worker", capabilities(), &[]);
    let mut clients = trapped(&server);
    // A check that was done within its command would keep nobody waiting: there would be its answer, or nothing yet.
    let mut other = Client::new(&server);
    until("a check to wait", || blocked(&mut other) > 0);
    for client in &mut clients {
        assert_eq!(
            error(&client.read()),
            "INVALID payload of \"trap\": checking it against the schema would take more than 10000000 steps: send less at once, or \
             have the schema's patterns, alternatives and references simplified"
        );
    }
    assert_eq!(blocked(&mut other), 0);
}

#[test]
fn a_call_whose_check_took_long_is_made_like_any_other() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) =
        (Client::peer(&server, "worker", capabilities(), &[]), Client::peer(&server, "c", json!([]), &[]));
    let long = json!({ "text": "ab".repeat(1_000_000) }).to_string();
    client.send(&["FLUX.CALL", "store", &long]);
    let job = worker.next(&[]).remove(0);
    assert!(job[1..3] == ["store".to_owned(), long.clone()]);
    worker.ok(&["FLUX.REPLY", &job[0], "OK", "1"]);
    assert_eq!(text(&client.read()), "1");
    // Without waiting for its result.
    let id = client.text(&["FLUX.CALL", "store", &long, "ASYNC"]);
    let job = worker.next(&[]).remove(0);
    assert_eq!(job[0], id);
    worker.ok(&["FLUX.REPLY", &id, "OK", "2"]);
    assert!(client.text(&["FLUX.RESULT", &id]).contains("\"data\":2"));
    // What is wrong far behind is found, in what has no schema as well.
    let wrong = json!({ "text": "ab".repeat(1_000_000) + "c" }).to_string();
    assert_eq!(
        client.error(&["FLUX.CALL", "store", &wrong]),
        "INVALID payload of \"store\": at /text: must match the pattern ^[ab]*$"
    );
    assert!(client.error(&["FLUX.CALL", "plain", &long[..long.len() - 1]]).starts_with("INVALID payload is not JSON: EOF"));
    assert!(client.error(&["FLUX.CALL", "none", &long]).starts_with("NOPEER no peer handles \"none\""));
}

#[test]
fn whoever_waits_for_a_check_hears_of_the_deadline_and_may_leave() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", capabilities(), &[]);
    let clients = trapped(&server);
    let long = json!({ "text": "ab".repeat(1_000_000) }).to_string();
    let mut hasty = Client::new(&server);
    assert_eq!(hasty.error(&["FLUX.CALL", "store", &long, "TIMEOUT", "1"]), "TIMEOUT timeout after 1 ms");
    drop(clients);
    let clients = trapped(&server);
    let (mut unblocked, mut other) = (Client::new(&server), Client::new(&server));
    let id = unblocked.text(&["CLIENT", "ID"]);
    unblocked.send(&["FLUX.CALL", "store", &long]);
    until("a wait to end", || other.text(&["CLIENT", "UNBLOCK", &id]) == "1");
    assert!(error(&unblocked.read()).starts_with("CANCELLED "));
    drop(clients);
    until("all to have left", || blocked(&mut other) == 0);
    // Neither was made a call of.
    other.send(&["FLUX.CALL", "store", "{}"]);
    assert_eq!(worker.next(&[]).remove(0)[2], "{}");
}

/// Capabilities whose schemas together take longer to compile than a command may.
fn heavy(count: usize) -> Value {
    (0..count)
        .map(|number| json!({ "name": format!("c{number}"), "schema": { "pattern": format!("^a{number}[^x]{{9}}$") } }))
        .collect()
}

#[test]
fn schemas_that_take_long_to_compile_wait_their_turn_and_hold_up_nobody() {
    let server = Process::flux(&[]);
    let _worker = Client::peer(&server, "worker", capabilities(), &[]);
    let (mut peer, mut other) = (Client::new(&server), Client::new(&server));
    let id = peer.text(&["CLIENT", "ID"]);
    let clients = trapped(&server);
    until("the checks to wait", || blocked(&mut other) > 0);
    // Compiled within the command they would keep nobody waiting.
    let json = json!({ "id": "p", "name": "p", "capabilities": heavy(20) }).to_string();
    peer.send(&["FLUX.REGISTER", &json, "SECRET", "s"]);
    until("the registration to wait", || other.text(&["CLIENT", "LIST", "ID", &id]).contains("flags=b "));
    drop(clients);
    assert!(!matches!(peer.read(), Reply::Line(_)));
    other.send(&["FLUX.CALL", "c19", "\"a19bbbbbbbbb\""]);
    assert_eq!(peer.serve("1")[1], "c19");
    assert_eq!(text(&other.read()), "1");
    // What is wrong is told, too, and what fits at once is not kept waiting by what did not.
    let why = peer.error(&["FLUX.REGISTER", &json.replace("^a19", "("), "SECRET", "s"]);
    assert!(why.starts_with("ERR invalid schema of \"c19\": the pattern "), "{why}");
    peer.ok(&["FLUX.REGISTER", r#"{"id":"p","name":"p","capabilities":[]}"#, "SECRET", "s"]);
    assert!(other.error(&["FLUX.CALL", "c19", "1"]).starts_with("NOPEER "));
}
