//! Values that were dropped from memory: whatever a command does with them, it does as if they had never left, and no thread that serves
//! clients waits for the disk meanwhile (in builds with assertions, it would end).

use std::thread;

use crate::process::{Connection, Process, Reply};

/// What is there before each command: values large enough to be dropped, of each kind.
const SETUP: &[&str] = &[
    "SET text aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "SET bits bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "RPUSH list c b a",
    "RPUSH more x y z",
    "HSET hash f 1 g 2",
    "HSET w:a n 3",
    "HSET w:b n 2",
    "HSET w:c n 1",
    "SADD set a b c",
    "SADD other b c d",
    "ZADD zset 1 a 2 b",
    "ZADD ztwo 3 b 4 c",
    "GEOADD geo 13.361389 38.115556 here 15.087269 37.502669 there",
    "PFADD hll a b c",
    "PFADD hll2 c d e",
    "XADD stream 1-1 a 1",
    "XADD stream2 2-1 a 1",
    "XGROUP CREATE stream g 0",
    "XGROUP CREATE stream2 g 0",
];

/// Commands, each run on the keys above, most of them on several keys at once.
const COMMANDS: &[&str] = &[
    "GET text",
    "MGET text bits missing",
    "MGET text",
    "MGET list",
    "APPEND text x",
    "SET text new GET",
    "GETRANGE text 0 3",
    "BITOP AND dest text bits",
    "MSET text 1 bits 2",
    "MSETNX text 1 new 2",
    "LMOVE list more LEFT RIGHT",
    "RPOPLPUSH list list",
    "LMPOP 2 list more LEFT COUNT 2",
    "BLMOVE list more LEFT RIGHT 0",
    "BLPOP missing list 0",
    "BLMPOP 0 2 missing list RIGHT COUNT 5",
    "SORT list BY w:*->n GET # GET w:*->n",
    "SORT list BY w:*->n STORE dest",
    "LINSERT list BEFORE b q",
    "HGETALL hash",
    "HINCRBY hash f 5",
    "SMOVE set other a",
    "SINTER set other",
    "SINTERCARD 2 set other",
    "SUNIONSTORE dest set other",
    "SDIFFSTORE set set other",
    "ZUNIONSTORE dest 2 zset ztwo",
    "ZINTERSTORE zset 2 zset ztwo WEIGHTS 2 3",
    "ZDIFF 2 zset ztwo WITHSCORES",
    "ZRANGESTORE dest zset 0 -1",
    "ZMPOP 2 missing zset MIN",
    "BZPOPMIN missing zset 0",
    "ZUNIONSTORE dest 2 zset set",
    "GEOSEARCHSTORE dest geo FROMMEMBER here BYRADIUS 200 km",
    "PFCOUNT hll hll2",
    "PFMERGE hll hll2",
    "COPY list dest",
    "COPY list dest DB 3",
    "MOVE list 3",
    "RENAME list set",
    "RENAMENX list dest",
    "RENAMENX list set",
    "DEL list set missing",
    "UNLINK zset hash",
    "EXISTS list set missing",
    "TOUCH list set",
    "OBJECT ENCODING list",
    "TYPE zset",
    "STRLEN text",
    "EXPIRE list 1000",
    "DEBUG DIGEST",
    "DEBUG DIGEST-VALUE list set",
    "MEMORY USAGE missing",
    "XREAD COUNT 5 STREAMS stream stream2 0 0",
    "XREADGROUP GROUP g me COUNT 5 STREAMS stream stream2 > >",
    "XADD stream 5-1 b 2",
    "SWAPDB 0 1",
    "RANDOMKEY",
    "LPUSH set wrong",
    "MULTI; LPUSH list n; SMOVE set other a; LMOVE list more LEFT LEFT; EXEC",
    "MULTI; SET x 1; SELECT 3; COPY list dest; SELECT 0; HGETALL hash; EXEC",
    "MULTI; SWAPDB 0 1; SELECT 1; HGETALL hash; LRANGE list 0 -1; EXEC",
    "MULTI; SET x 1; SORT list BY w:*->n GET w:*->n; EXEC",
    "MULTI; SORT list BY w:*->n GET #; SET x 1; EXEC",
    "MULTI; DEBUG DIGEST; SET x 1; EXEC",
    "WATCH list; MULTI; LRANGE list 0 -1; EXEC",
];

fn server() -> Process {
    Process::flux(&["--enable-debug-command", "yes"])
}

/// Runs commands that stand between semicolons; the answers without those of random choices.
fn run(connection: &mut Connection, commands: &str) -> Vec<Reply> {
    let run = |command: &str| connection.call(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
    let replies: Vec<Reply> = commands.split("; ").map(run).collect();
    if commands == "RANDOMKEY" { Vec::new() } else { replies }
}

fn spill(connection: &mut Connection) -> i64 {
    match connection.call(&["DEBUG", "SPILL"]).unwrap() {
        Reply::Line(line) => line[1..].parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_find_what_was_dropped_as_it_was() {
    let (kept, dropping) = (server(), server());
    let (mut kept, mut dropping) = (kept.connect(), dropping.connect());
    let mut unnamed = 0;
    for commands in COMMANDS {
        for connection in [&mut kept, &mut dropping] {
            run(connection, "SELECT 0; FLUSHALL");
            SETUP.iter().for_each(|setup| drop(run(connection, setup)));
        }
        assert!(spill(&mut dropping) >= SETUP.len() as i64 - 2, "almost everything is dropped before {commands}");
        assert_eq!(run(&mut dropping, commands), run(&mut kept, commands), "{commands}");
        // Only a transaction that comes to values it does not name, after it has changed others, has them read while it holds locks.
        unnamed += if commands.contains("EXEC") && commands.contains("GET w:*->n") { 3 } else { 0 };
        let field = format!("values_read_while_locked:{unnamed}\r");
        assert!(info(&mut dropping, "persistence").contains(&field), "{commands} waits for a disk while it holds locks");
        if commands.starts_with("XREADGROUP") {
            // The time of delivery is part of the value.
            continue;
        }
        let digests = [&mut dropping, &mut kept].map(|connection| run(connection, "DEBUG DIGEST"));
        assert_eq!(digests[0], digests[1], "the keys after {commands}");
    }
}

#[test]
fn who_waits_at_a_key_is_served_from_what_was_dropped() {
    let server = server();
    let mut other = server.connect();
    run(&mut other, "RPUSH to aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbb");
    let mut client = server.connect();
    client.send(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"]).unwrap();
    while !info(&mut other, "clients").contains("blocked_clients:1\r") {
        thread::yield_now();
    }
    spill(&mut other);
    run(&mut other, "RPUSH from element");
    assert_eq!(client.read().unwrap(), Reply::Bulk('$', b"element".to_vec()));
    let Reply::Many(_, list) = run(&mut other, "LRANGE to 0 -1").remove(0) else { panic!("a list") };
    assert_eq!(list.len(), 3);
}

#[test]
fn a_key_whose_time_is_over_is_passed_over_beside_one_that_was_dropped() {
    let server = server();
    let mut client = server.connect();
    run(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
    let value = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for commands in
        ["MGET over large", "MGET large over", "MULTI; MGET over large; EXEC", "WATCH over; MULTI; MGET large over; EXEC"]
    {
        run(&mut client, &format!("SET large {value}; SET over x PX 1"));
        spill(&mut client);
        // Time passes, and nobody looks at the key.
        run(&mut client, "BLPOP never 0.01");
        let reply = run(&mut client, commands).pop().unwrap();
        assert!(format!("{reply:?}").contains("97, 97, 97"), "{commands}: {reply:?}");
        assert!(format!("{reply:?}").contains("$-1"), "{commands}: {reply:?}");
        assert_eq!(run(&mut client, "PING").pop(), Some(Reply::Line("+PONG".into())));
    }
}

#[test]
fn a_transaction_that_reads_while_it_holds_all_keys_is_not_held_up_by_those_who_wait_for_them() {
    let server = server();
    let mut client = server.connect();
    for round in 0..20 {
        for number in 0..40 {
            run(
                &mut client,
                &format!("HSET w:{number} n {number} pad aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; RPUSH l:{round} {number}"),
            );
        }
        spill(&mut client);
        // More than there are readers want other values at this moment.
        let mut others: Vec<Connection> = (0..16).map(|_| server.connect()).collect();
        for (number, other) in others.iter_mut().enumerate() {
            other.send(&["HGETALL", &format!("w:{}", 39 - number)]).unwrap();
        }
        let replies = run(&mut client, &format!("MULTI; SET x 1; SORT l:{round} BY w:*->n GET w:*->n; EXEC"));
        let Some(Reply::Many(_, done)) = replies.last() else { panic!("{replies:?}") };
        assert!(matches!(&done[1], Reply::Many(_, sorted) if sorted.len() == 40));
        others.iter_mut().for_each(|other| assert!(matches!(other.read().unwrap(), Reply::Many(..))));
    }
}

#[test]
fn more_than_may_be_in_memory_is_read_by_one_command_all_the_same() {
    let server = Process::flux(&["--enable-debug-command", "yes", "--memory-limit", "32mb"]);
    let mut client = server.connect();
    let value = "v".repeat(1 << 20);
    let keys: Vec<String> = (0..64).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        client.call(&["SET", key, &value]).unwrap();
    }
    spill(&mut client);
    for _ in 0..3 {
        let command: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let Reply::Many(_, values) = client.call(&command).unwrap() else { panic!("an array") };
        assert!(values.iter().all(|found| matches!(found, Reply::Bulk('$', bytes) if bytes.len() == value.len())));
    }
}

#[test]
fn many_clients_that_want_the_same_value_have_it_read_together() {
    let server = server();
    let mut client = server.connect();
    let members: Vec<String> = (0..20_000).map(|number| format!("member:{number}")).collect();
    client.call(&["SADD", "set"].into_iter().chain(members.iter().map(String::as_str)).collect::<Vec<_>>()).unwrap();
    spill(&mut client);
    let mut others: Vec<Connection> = (0..50).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|other| other.send(&["SCARD", "set"]).unwrap());
    for other in &mut others {
        assert_eq!(other.read().unwrap(), Reply::Line(":20000".into()));
    }
}

fn info(connection: &mut Connection, section: &str) -> String {
    let Reply::Bulk(_, info) = connection.call(&["INFO", section]).unwrap() else { panic!("INFO answers with text") };
    String::from_utf8(info).unwrap()
}

#[test]
fn a_command_that_has_values_read_is_shown_and_counted_once() {
    let server = server();
    let mut client = server.connect();
    let value = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    run(&mut client, &format!("SET large {value}; SET text x; RPUSH list a b; SET w:a {value}; SET w:b {value}"));
    let mut monitor = server.connect();
    monitor.call(&["MONITOR"]).unwrap();
    spill(&mut client);
    run(&mut client, "CONFIG RESETSTAT");
    // The first command of the transaction has run when the last one comes to values that it does not name.
    let commands = "GET large; MULTI; GET text; SORT list BY nosort GET w:*; EXEC";
    run(&mut client, commands);
    run(&mut client, "ECHO end");
    let mut shown = Vec::new();
    while shown.last().is_none_or(|line: &String| !line.contains("\"ECHO\"")) {
        let Reply::Line(line) = monitor.read().unwrap() else { panic!("a line") };
        shown.push(line);
    }
    shown.retain(|line| !["\"DEBUG\"", "\"CONFIG\"", "\"ECHO\""].iter().any(|name| line.contains(name)));
    let names: Vec<&str> = shown.iter().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(names, ["GET", "MULTI", "GET", "SORT", "EXEC"]);
    let stats = info(&mut client, "commandstats");
    for (name, calls) in [("get", 2), ("sort", 1), ("exec", 1)] {
        assert!(stats.contains(&format!("cmdstat_{name}:calls={calls},")), "{name}: {stats}");
    }
}
