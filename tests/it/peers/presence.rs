//! Registering, joining, leaving, and being missed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peers::client::{Client, Old, jobs, many, text, texts};
use crate::process::{Process, Reply, until};

fn registered(reply: &Reply) -> Vec<String> {
    texts(reply)
}

#[test]
fn a_registration_that_is_read_elsewhere_is_counted_once() {
    let server = Process::flux(&[]);
    let mut client = Client::new(&server);
    let peer = json!({ "id": "large", "capabilities": [{ "name": "f", "description": "x".repeat(100_000) }] });
    client.ok(&["FLUX.REGISTER", &peer.to_string()]);
    let counted = client.text(&["INFO", "commandstats"]);
    let line = counted.lines().find(|line| line.starts_with("cmdstat_flux.register:")).unwrap();
    assert!(line.starts_with("cmdstat_flux.register:calls=1,"), "{line}");
}

#[test]
fn peers_have_a_section_of_info() {
    let server = Process::flux(&[]);
    let mut client = Client::peer(&server, "ada", json!([{ "name": "sum" }]), &[]);
    let info = client.text(&["INFO", "peers"]);
    assert!(info.starts_with("# Peers\r\nflux_peers:1\r\n") && info.contains("flux_capabilities:1\r\n"), "{info}");
    assert!(client.text(&["INFO", "everything"]).contains("# Peers\r\n"));
}

#[test]
fn a_peer_registers_and_is_seen_by_key_and_by_command() {
    let server = Process::flux(&[]);
    let mut client = Client::new(&server);
    let peer = json!({ "name": "ada", "capabilities": [{ "name": "sum", "description": "Adds." }], "workspaces": ["lab"] });
    let told = registered(&client.ok(&["FLUX.REGISTER", &peer.to_string()]));
    assert_eq!([&*told[0], &*told[2], &*told[4], &*told[5], &*told[6]], ["id", "secret", "ttl", "10000", "server"]);
    let (id, secret) = (&told[1], &told[3]);
    assert!(id.len() == 36 && secret.len() == 32);
    let seen: Value = serde_json::from_str(&client.text(&["GET", &format!("flux:peer:{id}")])).unwrap();
    assert_eq!(
        (&seen["name"], &seen["capabilities"][0]["name"], &seen["workspaces"]),
        (&json!("ada"), &json!("sum"), &json!(["lab"]))
    );
    for (set, member) in
        [("flux:peers", &**id), ("flux:fn:sum", id), ("flux:ws:lab:peers", id), (&format!("flux:peer:{id}:ws"), "lab")]
    {
        assert_eq!(client.text(&["SISMEMBER", set, member]), "1", "{set}");
    }
    for words in [&["FLUX.PEERS"][..], &["FLUX.PEERS", "WORKSPACE", "lab"], &["FLUX.PEERS", "CAPABILITY", "sum"]] {
        let peers = texts(&client.ok(words));
        assert_eq!(peers.len(), 1, "{words:?}");
        assert_eq!(serde_json::from_str::<Value>(&peers[0]).unwrap(), seen);
    }
    assert!(many(&client.ok(&["FLUX.PEERS", "CAPABILITY", "none"])).is_empty());
}

#[test]
fn an_id_in_use_needs_its_secret() {
    let server = Process::flux(&[]);
    let mut owner = Client::peer(&server, "ada", json!([]), &[]);
    let mut thief = Client::new(&server);
    let peer = json!({ "id": "ada" }).to_string();
    for words in [&["FLUX.REGISTER", &peer][..], &["FLUX.REGISTER", &peer, "SECRET", "guess"]] {
        assert_eq!(thief.error(words), "DENIED peer id \"ada\" is in use: give its SECRET or choose another id");
    }
    // A second connection of the same peer.
    let mut second = Client::new(&server);
    second.ok(&["FLUX.REGISTER", &peer, "SECRET", "ada"]);
    drop(owner.ok(&["FLUX.HEARTBEAT"]));
    drop(owner);
    second.ok(&["FLUX.HEARTBEAT"]);
    drop(second);
    until(
        "the id is free",
        || !matches!(thief.0.call(&["FLUX.REGISTER", &peer]).unwrap(), Reply::Line(line) if line.starts_with('-')),
    );
}

#[test]
fn bad_peers_are_refused_with_the_reason() {
    let server = Process::flux(&[]);
    let mut client = Client::new(&server);
    for (peer, why) in [
        ("[", "ERR invalid peer: it must be JSON"),
        (r#"{"id":"a b"}"#, "ERR invalid peer id: it must be 1 to 64"),
        (r#"{"name":"\u0001"}"#, "ERR invalid peer name"),
        (r#"{"capabilities":[{"name":"a:b"}]}"#, "ERR invalid capability name: it must not hold `:`"),
        (r#"{"workspaces":["*"]}"#, "ERR invalid workspace name: it must not hold `*`"),
        (r#"{"nmae":"ada"}"#, "unknown field `nmae`, expected one of `id`, `name`, `capabilities`, `workspaces`, `startedAt`"),
        (r#"{"capabilities":[{"name":"f","retries":1}]}"#, "unknown field `retries`"),
    ] {
        let told = client.error(&["FLUX.REGISTER", peer]);
        assert!(told.starts_with("ERR invalid ") && told.contains(why), "{peer}: {told}");
    }
    for wrong in [&["GENERATION"][..], &["GENERATION", "run"], &["GENERATION", "run", "-1"], &["GENERATION", "a b", "1"]] {
        let words: Vec<&str> = ["FLUX.REGISTER", "{}"].iter().chain(wrong).copied().collect();
        assert!(client.error(&words).starts_with("ERR "), "{wrong:?}");
    }
    assert!(client.error(&["FLUX.REGISTER", "{}", "TTL", "10"]).starts_with("ERR invalid TTL"));
    assert!(client.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "));
    assert!(client.error(&["FLUX.JOIN", "lab"]).starts_with("NOPEER "));
}

/// What the server knows of the peer `ada`: its capabilities and workspaces.
fn known(client: &mut Client) -> (Vec<String>, Vec<String>) {
    let peer: Value = serde_json::from_str(&client.text(&["GET", "flux:peer:ada"])).unwrap();
    let name = |of: &Value| of.as_str().unwrap().to_owned();
    let capabilities = peer["capabilities"].as_array().unwrap().iter().map(|of| name(&of["name"])).collect();
    (capabilities, peer["workspaces"].as_array().unwrap().iter().map(name).collect())
}

/// Registers `ada`, as one of the registrations that she counts.
fn tell(client: &mut Client, capabilities: &[&str], workspaces: &[&str], generation: [&str; 2]) {
    let capabilities: Vec<Value> = capabilities.iter().map(|name| json!({ "name": name })).collect();
    let peer = json!({ "id": "ada", "capabilities": capabilities, "workspaces": workspaces }).to_string();
    client.ok(&["FLUX.REGISTER", &peer, "SECRET", "s", "GENERATION", generation[0], generation[1]]);
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_a_peer_told_later_counts_in_whatever_order_the_server_reads_it() {
    let server = Process::flux(&[]);
    let (mut commands, mut work, mut listener) = (Client::new(&server), Client::new(&server), Client::new(&server));
    listener.listen(&["flux:ws:lab:events"]);
    tell(&mut commands, &["a", "b"], &["lab", "den"], ["one", "2"]);
    assert_eq!(listener.heard()["type"], "peer:joined");
    for late in ["0", "1", "2"] {
        tell(&mut work, &["a"], &["lab", "attic"], ["one", late]);
        assert_eq!(known(&mut commands), (names(&["a", "b"]), names(&["lab", "den"])), "{late}");
    }
    work.send(&["FLUX.NEXT"]);
    let mut caller = Client::new(&server);
    caller.send(&["FLUX.CALL", "b", "1"]);
    assert_eq!(jobs(&work.read())[0][1], "b", "it is attached all the same");

    // A newer one is all there is, and tells whom it concerns.
    tell(&mut commands, &["c"], &["den"], ["one", "3"]);
    assert_eq!(known(&mut commands), (names(&["c"]), names(&["den"])));
    let left = listener.heard();
    assert_eq!((&left["type"], &left["left"]), (&json!("peer:left"), &json!("stopped")));
    assert_eq!(commands.text(&["SISMEMBER", "flux:ws:lab:peers", "ada"]), "0");
    assert_eq!(commands.text(&["SISMEMBER", "flux:peer:ada:ws", "lab"]), "0");

    // Another run counts anew, and who does not count is believed, and adds workspaces.
    tell(&mut work, &["d"], &[], ["two", "0"]);
    assert_eq!(known(&mut commands), (names(&["d"]), vec![]));
    let uncounted = json!({ "id": "ada", "capabilities": [{ "name": "e" }], "workspaces": ["lab"] }).to_string();
    commands.ok(&["FLUX.REGISTER", &uncounted, "SECRET", "s"]);
    assert_eq!(known(&mut commands), (names(&["e"]), names(&["lab"])));
}

#[test]
fn joins_and_farewells_of_a_connection_that_a_peer_gave_up_change_nothing() {
    let server = Process::flux(&[]);
    let (mut old, mut new, mut other) = (Client::new(&server), Client::new(&server), Client::new(&server));
    tell(&mut old, &["a"], &["lab"], ["one", "1"]);
    old.ok(&["FLUX.JOIN", "den", "GENERATION", "one", "1"]);
    assert_eq!(known(&mut other).1, names(&["lab", "den"]), "nothing was told since");
    tell(&mut new, &["a"], &["lab"], ["one", "2"]);
    assert_eq!(known(&mut other).1, names(&["lab"]));

    for late in [&["one", "1"], &["none", "7"]] {
        assert!(many(&old.ok(&["FLUX.JOIN", "den", "GENERATION", late[0], late[1]])).is_empty(), "nobody is there");
        old.ok(&["FLUX.LEAVE", "lab", "GENERATION", late[0], late[1]]);
        old.ok(&["FLUX.LEAVE", "GENERATION", late[0], late[1]]);
        assert_eq!(known(&mut other).1, names(&["lab"]));
        old.ok(&["FLUX.HEARTBEAT"]);
    }
    drop(old);
    new.ok(&["FLUX.HEARTBEAT"]);

    // What is told after the last registration counts, and so does what says nothing of any.
    new.ok(&["FLUX.JOIN", "generation", "GENERATION", "one", "2"]);
    new.ok(&["FLUX.JOIN", "attic"]);
    assert_eq!(known(&mut other).1, names(&["lab", "generation", "attic"]));
    new.ok(&["FLUX.LEAVE", "generation"]);
    new.ok(&["FLUX.LEAVE", "attic", "GENERATION", "one", "2"]);
    assert_eq!(known(&mut other).1, names(&["lab"]));
    for wrong in [&["FLUX.JOIN", "lab", "GENERATION", "one"][..], &["FLUX.LEAVE", "lab", "now"], &["FLUX.LEAVE", "a", "b", "c"]] {
        assert!(new.error(wrong).starts_with("ERR syntax error"), "{wrong:?}");
    }
    new.ok(&["FLUX.LEAVE", "GENERATION", "one", "2"]);
    assert!(new.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "));
    assert_eq!(other.text(&["EXISTS", "flux:peer:ada"]), "0");
}

#[test]
fn a_heartbeat_is_refused_at_once_however_the_key_went() {
    let server = Process::flux(&[]);
    let mut other = Client::new(&server);
    let key = "flux:peer:ada";
    for way in [
        &["DEL", key][..],
        &["RENAME", key, "elsewhere"],
        &["MOVE", key, "1"],
        &["PEXPIRE", key, "0"],
        &["FLUSHDB"],
        &["FLUSHALL"],
        &["SWAPDB", "0", "2"],
    ] {
        let mut ada = Client::peer(&server, "ada", json!([]), &[]);
        ada.ok(&["FLUX.HEARTBEAT"]);
        other.ok(way);
        assert!(ada.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "), "{way:?}");
        until("the peer is told as gone", || many(&other.ok(&["FLUX.PEERS"])).is_empty());
    }
}

#[test]
fn a_heartbeat_is_taken_where_the_key_never_expires() {
    let server = Process::flux(&[]);
    let mut ada = Client::peer(&server, "ada", json!([]), &[]);
    Client::new(&server).ok(&["PERSIST", "flux:peer:ada"]);
    ada.ok(&["FLUX.HEARTBEAT"]);
}

#[test]
fn joining_and_leaving_are_told_once_each() {
    let server = Process::flux(&[]);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:ws:lab:events"]);
    let (mut ada, mut bob) = (Client::peer(&server, "ada", json!([]), &["lab"]), Client::peer(&server, "bob", json!([]), &[]));
    assert_eq!(many(&bob.ok(&["FLUX.JOIN", "lab"])).len(), 2);
    assert_eq!(many(&bob.ok(&["FLUX.JOIN", "lab"])).len(), 2);
    bob.ok(&["FLUX.LEAVE", "lab"]);
    ada.ok(&["FLUX.LEAVE"]);
    assert!(ada.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "));
    let told: Vec<(Value, Value)> =
        (0..4).map(|_| ear.heard()).map(|event| (event["type"].clone(), event["peerId"].clone())).collect();
    let expected = [("peer:joined", "ada"), ("peer:joined", "bob"), ("peer:left", "bob"), ("peer:left", "ada")];
    assert_eq!(told, expected.map(|(kind, peer)| (json!(kind), json!(peer))));
}

#[test]
fn a_dropped_connection_is_told_within_a_tenth_of_a_second() {
    let server = Process::flux(&[]);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:ws:lab:events"]);
    let mut took = Vec::new();
    for number in 0..5 {
        let peer = Client::peer(&server, &format!("p{number}"), json!([]), &["lab"]);
        assert_eq!(ear.heard()["type"], "peer:joined");
        let dropped = Instant::now();
        drop(peer);
        let event = ear.heard();
        took.push(dropped.elapsed());
        assert_eq!(
            (&event["type"], &event["left"], &event["peerName"]),
            (&json!("peer:left"), &json!("disconnected"), &json!(format!("p{number}")))
        );
    }
    // The best of five, since tests run beside others.
    assert!(took.iter().min().unwrap() < &Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_peer_without_heartbeats_is_told_as_expired_though_it_is_connected() {
    let server = Process::flux(&[]);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:ws:lab:events"]);
    let mut peer = Client::new(&server);
    peer.ok(&["FLUX.REGISTER", r#"{"id":"ada","workspaces":["lab"]}"#, "TTL", "1000"]);
    ear.heard();
    peer.send(&["FLUX.NEXT"]);
    let event = ear.heard();
    assert_eq!((&event["type"], &event["left"]), (&json!("peer:left"), &json!("expired")));
    assert!(crate::peers::client::error(&peer.read()).starts_with("NOPEER "), "its wait ends");
}

#[test]
fn a_peer_whose_key_is_removed_is_told_as_gone_even_by_flushall() {
    let server = Process::flux(&[]);
    let mut client = Client::new(&server);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:ws:lab:events"]);
    let mut ada = Client::peer(&server, "ada", json!([]), &["lab"]);
    ear.heard();
    client.ok(&["DEL", "flux:peer:ada"]);
    assert_eq!(ear.heard()["left"], "expired");
    assert!(ada.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "));
    let mut bob = Client::peer(&server, "bob", json!([]), &["lab"]);
    ear.heard();
    client.ok(&["FLUSHALL"]);
    assert!(bob.error(&["FLUX.HEARTBEAT"]).starts_with("NOPEER "));
    assert_eq!(ear.heard()["left"], "expired");
}

#[test]
fn nothing_without_an_expiry_is_left_when_all_have_gone() {
    let server = Process::flux(&[]);
    let mut client = Client::new(&server);
    let peers: Vec<Client> = (0..9)
        .map(|number| {
            Client::peer(
                &server,
                &format!("p{number}"),
                json!([{ "name": "f" }, { "name": format!("g{number}") }]),
                &["lab", "den"],
            )
        })
        .collect();
    let mut old = Old::start(&server, "old", &["f"]);
    old.join("lab");
    let mut caller = Client::peer(&server, "caller", json!([]), &["lab"]);
    for number in 0..20 {
        caller.ok(&["FLUX.CALL", "f", &number.to_string(), "ASYNC", "RETRIES", "3"]);
    }
    for number in 0..3 {
        old.call(&format!("job-{number}"), "f", json!(number));
    }
    drop((peers, caller));
    client.ok(&["DEL", "flux:peer:old"]);
    until("all is clean", || lasting(&mut client).is_empty());
    // And it stays so, whatever was still under way.
    client.error(&["FLUX.CALL", "f", "1", "TIMEOUT", "300"]);
    assert_eq!(lasting(&mut client), Vec::<String>::new());
    drop(old);
    assert!(text(&client.ok(&["PING"])) == "PONG");
}

/// Keys of peers that would stay for ever.
fn lasting(client: &mut Client) -> Vec<String> {
    let keys = texts(&client.ok(&["KEYS", "flux:*"]));
    keys.into_iter().filter(|key| client.text(&["PTTL", key]) == "-1").collect()
}

#[test]
fn a_change_of_what_peers_can_do_is_told() {
    let server = Process::flux(&[]);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:capabilities"]);
    let mut ada = Client::peer(&server, "ada", json!([{ "name": "f" }]), &[]);
    assert_eq!(ear.heard(), "ada");
    let register = |client: &mut Client, capability: Value| {
        let peer = json!({ "id": "ada", "name": "ada", "capabilities": [capability] }).to_string();
        client.ok(&["FLUX.REGISTER", &peer, "SECRET", "ada"]);
    };
    register(&mut ada, json!({ "name": "f" }));
    let nobody = Client::peer(&server, "nobody", json!([]), &["lab"]);
    drop(nobody);
    register(&mut ada, json!({ "name": "f", "description": "It says what it does." }));
    assert_eq!(ear.heard(), "ada", "what did not change is not told");
    let mut old = Old::start(&server, "old", &["g"]);
    assert_eq!(ear.heard(), "old");
    old.register(60);
    drop(ada);
    assert_eq!(ear.heard(), "ada");
    old.commands.ok(&["DEL", "flux:peer:old"]);
    assert_eq!(ear.heard(), "old");
}

/// Bytes in use, as INFO tells them, when nothing is on its way to the disk.
fn used(client: &mut Client) -> i64 {
    client.ok(&["SAVE"]);
    let info = client.text(&["INFO", "memory"]);
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

#[test]
fn peers_that_said_goodbye_leave_nothing_in_memory() {
    let server = Process::flux(&[]);
    let (mut peer, mut other) = (Client::new(&server), Client::new(&server));
    let worker = Client::peer(&server, "worker", json!([{ "name": "work" }]), &[]);
    let mut cycles = |from: usize, count: usize| {
        for number in from..from + count {
            let name = json!({ "id": format!("p{number}"), "name": "p", "capabilities": [{ "name": "f" }] }).to_string();
            peer.ok(&["FLUX.REGISTER", &name]);
            peer.ok(&["FLUX.JOIN", "w"]);
            peer.ok(&["FLUX.CALL", "f", "1", "ASYNC"]);
            let job = peer.next(&[]).remove(0);
            peer.ok(&["FLUX.REPLY", &job[0], "OK", "1"]);
            peer.ok(&["FLUX.CALL", "work", "1", "ASYNC"]);
            peer.ok(&["FLUX.LEAVE"]);
        }
    };
    cycles(0, 1500);
    let before = used(&mut other);
    cycles(1500, 1500);
    let each = (used(&mut other) - before) / 1500;
    assert!(each < 100, "{each} bytes are kept for each peer that came and left");
    let status = other.text(&["FLUX.STATUS"]);
    assert!(status.contains("\"callsQueued\":0") && status.contains("\"callsRunning\":0"), "{status}");
    drop(worker);
}

#[test]
fn the_events_of_a_workspace_that_everybody_left_do_not_last_long() {
    let server = Process::flux(&[]);
    let mut peer = Client::peer(&server, "p", json!([]), &["w"]);
    let left = |peer: &mut Client| text(&peer.ok(&["PTTL", "flux:ws:w:log"])).parse::<i64>().unwrap();
    assert!(left(&mut peer) > 90_000);
    peer.ok(&["FLUX.LEAVE"]);
    assert!((60_000..=90_000).contains(&left(&mut peer)));
}
