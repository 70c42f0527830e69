//! Commands of Redis' `server` group.

use flux::Flux;

use crate::process::{Process, Reply};
use crate::script::{check, show};

#[test]
fn keys_are_counted_and_removed_by_database() {
    check(
        "
        SET a 1
        SELECT 1
        SET b 1
        SET c 1
        DBSIZE => 2
        FLUSHDB => OK
        DBSIZE => 0
        SELECT 0
        DBSIZE => 1
        FLUSHDB LATER => ERR syntax error
        FLUSHALL ASYNC => OK
        FLUSHALL SYNC => OK
        DBSIZE => 0
    ",
    );
}

#[test]
fn databases_trade_places_for_everyone() {
    check(
        "
        a: SET key zero
        b: SELECT 1
        b: SET key one
        a: SWAPDB 0 1 => OK
        a: GET key => one
        b: GET key => zero
        a: SWAPDB x 1 => ERR invalid first DB index
        a: SWAPDB 0 x => ERR invalid second DB index
        a: SWAPDB 0 16 => ERR DB index is out of range
    ",
    );
}

#[test]
fn server_commands_work_within_transactions() {
    check(
        "
        MULTI => OK
        SET a 1 => QUEUED
        FLUSHALL => QUEUED
        SET b 2 => QUEUED
        DBSIZE => QUEUED
        DEBUG SLEEP 0 => QUEUED
        CONFIG SET hz 20 => QUEUED
        EXEC => [OK, OK, OK, 1, OK, OK]
        MULTI => OK
        SAVE => ERR Command not allowed inside a transaction
        EXEC => EXECABORT Transaction discarded because of previous errors.
    ",
    );
}

#[test]
fn saving_is_accepted_without_a_data_folder() {
    check(
        "
        SAVE => OK
        BGSAVE => Background saving started
        BGSAVE NOW => ERR syntax error
        BGREWRITEAOF => Background append only file rewriting started
        SHUTDOWN ABORT => ERR No shutdown in progress.
        SHUTDOWN SAVE NOSAVE => ERR syntax error
        FLUX BACKUP relative => ERR the path must be absolute, since client and server may work in different folders
    ",
    );
}

#[test]
fn replication_and_users_are_those_of_a_single_server() {
    check(
        "
        ROLE => [master, 0, []]
        REPLICAOF NO ONE => OK
        SLAVEOF no one => OK
        REPLICAOF localhost 1 => ERR replication is not available in this version of flux
        SCRIPT DEBUG yes => ERR the debugging of scripts is not available in this version of flux
        FUNCTION DUMP => ERR the use of serialized values is not available in this version of flux
        DUMP key => ERR the use of serialized values is not available in this version of flux
        ACL SETUSER me on => ERR the management of users (ACL) is not available in this version of flux
        COMMAND INFO dump => [(nil)]
        ACL WHOAMI => default
        ACL CAT nope => ERR Unknown category 'nope'
        MODULE LIST => []
        FUNCTION FLUSH => OK
        FUNCTION FLUSH LATER => ERR FUNCTION FLUSH only supports SYNC|ASYNC option
        SCRIPT FLUSH SYNC => OK
        SCRIPT EXISTS a b => [0, 0]
        CLUSTER INFO => ERR This instance has cluster support disabled
    ",
    );
}

#[test]
fn debug_shows_values_of_every_type_of_the_protocol() {
    check(
        "
        DEBUG PROTOCOL integer => 12345
        DEBUG PROTOCOL double => 3.141
        DEBUG PROTOCOL null => (nil)
        DEBUG PROTOCOL map => [0, 0, 1, 1, 2, 0]
        DEBUG PROTOCOL push => ERR RESP2 is not supported by this command
        DEBUG PROTOCOL nope => ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false
        HELLO 3 => *
        DEBUG PROTOCOL map => {0: f, 1: t, 2: f}
        DEBUG NOPE => ERR unknown subcommand or wrong number of arguments for 'NOPE'. Try DEBUG HELP.
        DEBUG ERROR MINE of my own => ERR unknown subcommand or wrong number of arguments for 'ERROR'. Try DEBUG HELP.
        DEBUG OBJECT nokey => ERR no such key
        DEBUG STRINGMATCH-LEN 3 a*a => 1
        DEBUG SDSLEN nokey => ERR no such key
    ",
    );
}

#[test]
fn debug_populate_makes_keys_that_are_not_there_yet() {
    check(
        "
        SET key:1 mine
        DEBUG POPULATE 3 => OK
        DBSIZE => 3
        GET key:1 => mine
        GET key:2 => value:2
        DEBUG POPULATE 1 other 10 => OK
        STRLEN other:0 => 10
        DEBUG POPULATE -1 => ERR value is out of range, must be positive
    ",
    );
}

/// Commands that make a value of each kind, some of them large enough for its second form.
fn filled() -> Flux {
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    let mut call = |line: &str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = store.call(&words);
        assert!(!reply.starts_with(b"-"), "{line}: {}", show(&reply));
    };
    call("SET string some");
    call("SET number 42");
    call("PFADD hll a b c");
    call("SET expiring soon EX 1000");
    for number in 0..300 {
        call(&format!("RPUSH list element{number}"));
        call(&format!("HSET hash field{number} value{number}"));
        call(&format!("SADD set member{number}"));
        call(&format!("ZADD zset {number}.5 member{number}"));
        call(&format!("XADD stream {number}-1 field value{number}"));
    }
    call("LPOP list");
    call("SADD ints 1 2 3");
    call("HSET small a 1");
    call("XGROUP CREATE stream group 0");
    call("XREADGROUP GROUP group consumer COUNT 5 STREAMS stream >");
    call("SELECT 3");
    call("SET elsewhere 1");
    flux
}

#[test]
fn data_is_the_same_after_it_was_taken_apart_and_made_anew() {
    let flux = filled();
    let mut store = flux.blocking();
    let before = store.call(&[b"DEBUG", b"DIGEST"]);
    assert_eq!(before.len(), 43);
    assert_ne!(show(&before), "0".repeat(40));
    assert_eq!(show(&store.call(&[b"DEBUG", b"RELOAD"])), "OK");
    assert_eq!(store.call(&[b"DEBUG", b"DIGEST"]), before);
    store.call(&[b"HSET", b"small", b"a", b"2"]);
    assert_ne!(store.call(&[b"DEBUG", b"DIGEST"]), before);
}

#[test]
fn digests_of_values_tell_equal_from_different() {
    check(
        "
        RPUSH one a b c
        RPUSH other x a b c
        LPOP other
        COPY one copy
        DEBUG DIGEST-VALUE => []
    ",
    );
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for line in ["RPUSH one a b", "RPUSH other x a b", "LPOP other", "RPUSH third b a"] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        store.call(&words);
    }
    let mut digest = |key: &str| show(&store.call(&[b"DEBUG", b"DIGEST-VALUE", key.as_bytes()]));
    assert_eq!(digest("one"), digest("other"));
    assert_ne!(digest("one"), digest("third"));
    assert_eq!(digest("missing"), format!("[{}]", "0".repeat(40)));
}

#[test]
fn info_has_the_sections_asked_for() {
    let flux = filled();
    let mut store = flux.blocking();
    let mut info = |words: &[&str]| {
        let words: Vec<&[u8]> = std::iter::once("INFO").chain(words.iter().copied()).map(str::as_bytes).collect();
        show(&store.call(&words))
    };
    let default = info(&[]);
    for section in ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Cluster", "Keyspace"]
    {
        assert!(default.contains(&format!("# {section}\r\n")), "{section}");
    }
    assert!(!default.contains("# Commandstats"));
    for field in
        ["redis_version:7.4", "redis_mode:standalone", "arch_bits:64", "role:master", "maxmemory_policy:noeviction", "loading:0"]
    {
        assert!(default.contains(field), "{field}");
    }
    assert!(default.contains("db0:keys=11,expires=1,avg_ttl="), "{default}");
    assert!(default.contains("db3:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n"), "{default}");
    let some = info(&["cpu", "COMMANDSTATS"]);
    assert!(some.contains("# CPU") && some.contains("cmdstat_hset:calls=301,") && !some.contains("# Server"), "{some}");
    assert_eq!(info(&["nothing"]), "\"\"");
    assert!(info(&["everything"]).contains("# Latencystats"));
}

#[test]
fn statistics_begin_anew() {
    check(
        "
        SET key value
        GET key
        LPUSH key x => WRONGTYPE Operation against a key holding the wrong kind of value
        CONFIG RESETSTAT => OK
    ",
    );
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    store.call(&[b"NOPE"]);
    assert!(show(&store.call(&[b"INFO", b"errorstats"])).contains("errorstat_ERR:count=1"));
    store.call(&[b"CONFIG", b"RESETSTAT"]);
    assert_eq!(show(&store.call(&[b"INFO", b"errorstats"])), "\"# Errorstats\r\n\"");
}

#[test]
fn the_slow_log_keeps_what_took_long() {
    check(
        "
        CONFIG SET slowlog-log-slower-than 1000 => OK
        SLOWLOG RESET => OK
        PING
        SLOWLOG LEN => 0
        DEBUG SLEEP 0.01
        SLOWLOG LEN => 1
        SLOWLOG GET -2 => ERR count should be greater than or equal to -1
        SLOWLOG GET 0 => []
        SLOWLOG GET x => ERR count should be greater than or equal to -1
        SLOWLOG RESET => OK
        SLOWLOG GET => []
    ",
    );
}

#[test]
fn the_latency_monitor_notes_what_took_long() {
    check(
        "
        LATENCY LATEST => []
        CONFIG SET latency-monitor-threshold 5
        DEBUG SLEEP 0.01
        LATENCY HISTORY command => *
        LATENCY HISTORY nothing => []
        LATENCY GRAPH nothing => ERR No samples available for event 'nothing'
        LATENCY GRAPH command => *
        LATENCY DOCTOR => *
        LATENCY RESET nothing => 0
        LATENCY RESET => 1
        LATENCY LATEST => []
        LATENCY HISTOGRAM nothing => []
    ",
    );
}

#[test]
fn memory_is_told_for_keys_and_in_all() {
    check(
        "
        MEMORY USAGE nokey => (nil)
        SET key value
        MEMORY USAGE key SAMPLES -1 => ERR syntax error
        MEMORY USAGE key LOOSE 1 => ERR syntax error
        MEMORY DOCTOR => *
        MEMORY PURGE => OK
        MEMORY STATS => *
        MEMORY MALLOC-STATS => *
    ",
    );
    let flux = filled();
    let mut store = flux.blocking();
    let mut usage = |key: &str| show(&store.call(&[b"MEMORY", b"USAGE", key.as_bytes()])).parse::<usize>().unwrap();
    assert!(usage("list") > 2000 && usage("list") > usage("small"));
    assert!(usage("small") > 0);
}

#[test]
fn the_command_table_can_be_asked() {
    check(
        "
        COMMAND INFO nope => [(nil)]
        COMMAND INFO config|get => [[config|get, -3, [admin, noscript, loading, stale], 0, 0, 0, [@admin, @slow, @dangerous], [], [], []]]
        COMMAND LIST FILTERBY PATTERN config|*re* => [config|resetstat, config|rewrite]
        COMMAND LIST FILTERBY MODULE any => []
        COMMAND LIST FILTERBY WHAT x => ERR syntax error
        COMMAND GETKEYS GET key => [key]
        COMMAND GETKEYS MSET a 1 b 2 => [a, b]
        COMMAND GETKEYS PING hello => ERR The command has no key arguments
        COMMAND GETKEYS NOPE a => ERR Invalid command specified
        COMMAND GETKEYS ZUNIONSTORE d 5 a b => ERR Invalid arguments specified for command
        COMMAND GETKEYS GET a b => ERR Invalid number of arguments specified for command
        COMMAND GETKEYSANDFLAGS LMOVE a b LEFT RIGHT => [[a, [RW, access, delete]], [b, [RW, insert]]]
        COMMAND GETKEYSANDFLAGS SET a 1 => [[a, [OW, update]]]
        COMMAND GETKEYSANDFLAGS SET a 1 IFEQ 2 => [[a, [RW, access, update]]]
        COMMAND GETKEYSANDFLAGS DELEX a => [[a, [RM, delete]]]
        COMMAND GETKEYSANDFLAGS DELEX a IFEQ 2 => [[a, [RW, delete]]]
        COMMAND DOCS nope => []
    ",
    );
}

#[test]
fn time_and_art() {
    check(
        "
        TIME => *
        LOLWUT => *
        LOLWUT VERSION 5 1 2 => *
        LOLWUT VERSION x => ERR value is not an integer or out of range
        LASTSAVE => *
    ",
    );
}

#[test]
fn what_is_told_of_commands_has_the_shapes_of_both_protocols() {
    check(
        "
        COMMAND INFO nosuch => [(nil)]
        HELLO 3
        COMMAND INFO nosuch => [(nil)]
        COMMAND DOCS nosuch => {}
    ",
    );
}

#[test]
fn what_a_client_reads_that_touches_nothing_stays_as_old_as_it_was() {
    let server = Process::flux(&[]);
    let mut client = server.connect();
    let mut call = |line: &str| client.call(&line.split(' ').collect::<Vec<_>>()).unwrap();
    // Each use counts, and no time makes it less.
    call("CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0 lfu-decay-time 0");
    let frequency = |number: i64| Reply::Line(format!(":{number}"));
    for line in ["SET k v", "GET k"] {
        call(line);
    }
    assert_eq!(call("OBJECT FREQ k"), frequency(6));
    for line in ["CLIENT NO-TOUCH on", "GET k", "EXISTS k", "APPEND k w", "MULTI", "GET k", "STRLEN k", "EXEC"] {
        call(line);
    }
    assert_eq!(call("OBJECT FREQ k"), frequency(6));
    call("TOUCH k");
    assert_eq!(call("OBJECT FREQ k"), frequency(7));
    for line in ["CLIENT NO-TOUCH off", "GET k"] {
        call(line);
    }
    assert_eq!(call("OBJECT FREQ k"), frequency(8));
}

#[test]
fn another_version_can_be_claimed() {
    check(
        r#"
        HELLO => [server, redis, version, 7.4.0, proto, 2, …
        CONFIG SET claimed-version 8.0.06 => OK
        CONFIG GET claimed-version => [claimed-version, 8.0.6]
        HELLO => [server, redis, version, 8.0.6, proto, 2, …
        INFO server => …redis_version:8.0.6…
        CONFIG SET claimed-version 8 => ERR CONFIG SET failed (possibly related to argument 'claimed-version') - argument must be a version as 7.4.0
        CONFIG SET claimed-version 8.0.x => ERR CONFIG SET failed (possibly related to argument 'claimed-version') - argument must be a version as 7.4.0
        CONFIG SET claimed-version "8.0.0\r\nrole:slave" => ERR CONFIG SET failed (possibly related to argument 'claimed-version') - argument must be a version as 7.4.0
        CONFIG SET claimed-version "" => ERR CONFIG SET failed (possibly related to argument 'claimed-version') - argument must be a version as 7.4.0
        INFO server => …redis_version:8.0.6…
    "#,
    );
}
