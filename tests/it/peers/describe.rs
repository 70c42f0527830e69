//! What there is: capabilities, workspaces, counts, and the broom.

use crate::script::check;

#[test]
fn capabilities_are_described_with_the_peers_that_have_them() {
    check(
        "
        FLUX.CAPABILITIES => []
        FLUX.DESCRIBE sum => NOPEER no peer handles \"sum\"
        a: FLUX.REGISTER '{\"id\":\"p1\",\"name\":\"Ann\",\"capabilities\":[{\"name\":\"sum\",\"description\":\"Adds.\",\"schema\":{\"type\":\"array\"}},{\"name\":\"echo\"}]}'
        b: FLUX.REGISTER '{\"id\":\"p2\",\"name\":\"Bob\",\"capabilities\":[{\"name\":\"sum\"}]}'
        FLUX.CAPABILITIES => [{description:null,name:echo,peers:[{id:p1,name:Ann}],schema:null}, {description:Adds.,name:sum,peers:[{id:p1,name:Ann},{id:p2,name:Bob}],schema:{type:array}}]
        FLUX.DESCRIBE sum => {calls:0,description:Adds.,failed:0,name:sum,peers:[{id:p1,name:Ann,queued:0,running:0},{id:p2,name:Bob,queued:0,running:0}],schema:{type:array}}
        a: FLUX.LEAVE
        FLUX.CAPABILITIES => [{description:null,name:sum,peers:[{id:p2,name:Bob}],schema:null}]
        FLUX.DESCRIBE a:b => ERR invalid capability name: it must not hold `:`
        ",
    );
}

#[test]
fn a_capability_whose_schema_is_none_is_refused_with_the_reason() {
    check(
        "
        FLUX.REGISTER '{\"id\":\"p1\",\"capabilities\":[{\"name\":\"sum\",\"schema\":{\"type\":\"list\"}}]}' => …list is not a type…
        FLUX.PEERS => []
        ",
    );
}

#[test]
fn workspaces_are_listed_with_their_peers_and_contexts() {
    check(
        "
        FLUX.WORKSPACES => []
        a: FLUX.REGISTER '{\"id\":\"p1\",\"workspaces\":[\"both\"]}'
        b: FLUX.REGISTER '{\"id\":\"p2\",\"workspaces\":[\"both\",\"peers\"]}'
        FLUX.CTX.SET both k 1
        FLUX.CTX.SET both l 2
        FLUX.CTX.SET context k 1
        FLUX.WORKSPACES => [{contextKeys:2,name:both,peers:2}, {contextKeys:1,name:context,peers:0}, {contextKeys:0,name:peers,peers:1}]
        b: FLUX.LEAVE
        FLUX.CTX.DEL context k
        FLUX.WORKSPACES => [{contextKeys:2,name:both,peers:1}]
        ",
    );
}

#[test]
fn the_status_counts_what_there_is() {
    check(
        "
        FLUX.STATUS => {calls:0,callsQueued:0,callsRunning:0,capabilities:0,failed:0,oldPeers:0,peers:0,rerouted:0,workspaces:0}
        a: FLUX.REGISTER '{\"id\":\"p1\",\"workspaces\":[\"w\"],\"capabilities\":[{\"name\":\"sum\"}]}'
        SET flux:peer:o1 '{\"id\":\"o1\",\"name\":\"Old\",\"capabilities\":[{\"name\":\"old\"}],\"workspaces\":[\"w\"],\"startedAt\":1}' EX 10
        FLUX.STATUS => {calls:0,callsQueued:0,callsRunning:0,capabilities:2,failed:0,oldPeers:1,peers:2,rerouted:0,workspaces:1}
        ",
    );
}

#[test]
fn the_broom_removes_what_nobody_owns_and_nothing_else() {
    check(
        "
        a: FLUX.REGISTER '{\"id\":\"p1\",\"workspaces\":[\"w\"],\"capabilities\":[{\"name\":\"sum\"}]}'
        FLUX.CTX.SET w k 1
        FLUX.CLEAN => 0
        SADD flux:peers dead
        SADD flux:fn:sum dead
        SADD flux:fn:old dead
        SADD flux:ws:w:peers dead
        SADD flux:peer:dead:ws w
        LPUSH flux:q:dead '{}'
        SADD flux:contexts none
        XADD flux:ws:none:history:k * value 1
        HSET flux:ws:w:ctx gone '1 0'
        SET flux:other x
        FLUX.CLEAN => 9
        FLUX.CLEAN => 0
        SMEMBERS flux:peers => [p1]
        SMEMBERS flux:fn:sum => [p1]
        SMEMBERS flux:ws:w:peers => [p1]
        SMEMBERS flux:contexts => [w]
        EXISTS flux:fn:old flux:peer:dead:ws flux:q:dead flux:ws:none:history:k => 0
        EXISTS flux:other => 1
        FLUX.CTX.KEYS w => [k]
        FLUX.CTX.GET w k => 1
        ",
    );
}

#[test]
fn who_asks_for_counts_reads_no_keys_in_the_statistics() {
    let flux = flux::Flux::in_memory();
    let mut store = flux.blocking();
    let reads = |store: &mut flux::store::Blocking| -> Vec<String> {
        let info = String::from_utf8(store.call(&[b"INFO", b"stats"])).unwrap();
        info.lines().filter(|line| line.starts_with("keyspace_")).map(str::to_owned).collect()
    };
    store.call(&[b"FLUX.CTX.SET", b"alpha", b"goal", b"1"]);
    store.call(&[b"FLUX.REGISTER", br#"{"id":"p","workspaces":["beta"]}"#]);
    let before = reads(&mut store);
    for command in [&b"FLUX.STATUS"[..], b"FLUX.WORKSPACES", b"FLUX.STATUS"] {
        let answer = store.call(&[command]);
        assert!(!answer.starts_with(b"-"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(reads(&mut store), before);
    store.call(&[b"GET", b"nothing"]);
    assert_ne!(reads(&mut store), before, "others count");
}
