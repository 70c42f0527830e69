//! Scripts as users see them: what they answer and leave behind, that each is seen whole or not at all, and what becomes of those that take long.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use flux::Flux;
use flux::resp::request::split_words;
use flux::store::Blocking;

use crate::process::{Connection, Process, Reply, until};
use crate::script::check;
use crate::workload::Seeded;

const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const FOR_EVER: &str = "while true do end";
/// Some tenths of a second.
const LASTS: &str = "for i = 1, 3000000 do local x = {} end";
const WRITES_FOR_EVER: &str = "redis.call('SET', KEYS[1], 'half') while true do end";

#[test]
fn a_script_answers_and_keeps_what_it_wrote() {
    check(
        r##"
        EVAL "return 1" 0 => 1
        EVAL "return {KEYS[1], KEYS[2], ARGV[1]}" 2 a b c => [a, b, c]
        EVAL "return redis.call('SET', KEYS[1], ARGV[1])" 1 key value => OK
        GET key => value
        EVAL "redis.call('SET', KEYS[1], 'new') error('no')" 1 key => ERR …no…
        GET key => new
        EVAL "return redis.call('GET', 'undeclared')" 0 => (nil)
        EVAL "return redis.pcall('INCR', KEYS[1]).err" 1 key => "ERR value is not an integer or out of range"
        EVAL "return 1" -1 => ERR Number of keys can't be negative
        EVAL "return 1" 2 a => ERR Number of keys can't be greater than number of args
        EVAL "return 1" x => ERR value is not an integer or out of range
        EVAL "return {" 0 => ERR Error compiling script…
        EVAL "redis.call('SELECT', 5) redis.call('SET', 'there', 1)" 0 => (nil)
        EXISTS there => 0
        SELECT 5
        EXISTS there => 1
        "##,
    );
}

#[test]
fn scripts_are_known_by_their_digest_until_they_are_flushed() {
    check(
        r##"
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => NOSCRIPT No matching script. Please use EVAL.
        SCRIPT LOAD "return 1" => e0e1f9fabfc9d4800c877a703b823ac0578ff8db
        EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0 => 1
        EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => 1
        EVAL "return 2" 0 => 2
        SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db 7f923f79fe76194c868d7e1d0820de36700eb649 unknown => [1, 1, 0]
        SCRIPT FLUSH later => ERR SCRIPT FLUSH only support SYNC|ASYNC option
        SCRIPT FLUSH ASYNC => OK
        SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db => [0]
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => NOSCRIPT No matching script. Please use EVAL.
        EVALSHA short 0 => NOSCRIPT No matching script. Please use EVAL.
        SCRIPT LOAD "return (" => ERR Error compiling script…
        SCRIPT KILL => NOTBUSY No scripts in execution right now.
        "##,
    );
}

#[test]
fn a_script_keeps_to_its_rules() {
    check(
        r##"
        EVAL_RO "return redis.call('SET', 'a', 1)" 0 => ERR Write commands are not allowed from read-only scripts…
        EVAL "#!lua flags=no-writes\nreturn redis.call('SET', 'a', 1)" 0 => ERR Write commands are not allowed from read-only scripts…
        EVAL_RO "#!lua\nreturn 1" 0 => ERR Can not execute a script with write flag using *_ro command.
        EVAL_RO "#!lua flags=no-writes\nreturn 1" 0 => 1
        EVAL "#!lua flags=what\nreturn 1" 0 => ERR Unexpected flag in script shebang: what
        EVAL "#!js\nreturn 1" 0 => ERR Unexpected engine in script shebang: #!js
        EXISTS a => 0
        EVAL "return redis.call('SUBSCRIBE', 'c')" 0 => ERR This Redis command is not allowed from script…
        EVAL "return redis.call('EVAL', 'return 1', 0)" 0 => ERR This Redis command is not allowed from script…
        EVAL "return redis.call('nothing')" 0 => ERR Unknown Redis command called from script…
        EVAL "return redis.call('GET')" 0 => ERR Wrong number of args calling Redis command from script…
        EVAL "return redis.call('BLPOP', 'list', 0)" 0 => (nil)
        RPUSH list x
        EVAL "return redis.call('BLPOP', 'list', 0)" 0 => [list, x]
        CONFIG SET maxmemory 1
        EVAL "return redis.call('SET', 'a', 1)" 0 => OOM command not allowed when used memory > 'maxmemory'.…
        EVAL "#!lua\nreturn 1" 0 => OOM command not allowed when used memory > 'maxmemory'.
        EVAL "#!lua flags=allow-oom\nreturn redis.call('SET', 'a', 1)" 0 => OK
        EVAL "redis.call('DEL', 'a') return redis.call('SET', 'a', 2)" 0 => OK
        EVAL "return redis.call('GET', 'a')" 0 => 2
        "##,
    );
}

/// A client of a server that holds nothing.
fn emptied(server: &Process, protocol: &str) -> Connection {
    let mut client = server.connect();
    client.call(&["HELLO", protocol]).unwrap();
    client.call(&["FLUSHALL"]).unwrap();
    client
}

/// Every kind of value, conversion, error and library function, for clients of both protocols. Left out, since they differ: where an error is
/// that `table.sort` raises itself, how deep coroutines may be nested, random numbers, and errors whose `err` a metatable gives.
#[test]
fn hundreds_of_snippets_are_answered_as_redis_answers_them() {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&[]);
    for protocol in ["2", "3"] {
        let [mut ours, mut theirs] = [&flux, &redis].map(|server| emptied(server, protocol));
        for snippet in include_str!("lua/snippets.txt").lines() {
            let call = ["EVAL", &snippet.replace('\u{21b5}', "\n"), "2", "key", "other", "first", "second"];
            assert_eq!(ours.call(&call).unwrap(), theirs.call(&call).unwrap(), "RESP{protocol}: {snippet}");
        }
    }
}

/// Replies and errors, byte for byte, one after another.
#[test]
fn scripts_are_answered_as_redis_answers_them() {
    const LINES: &[&str] = &[
        r#"EVAL "return 1" 0"#,
        r#"EVAL "return {1, 2.9, 'x', true, false, {ok='fine'}, {1, nil, 3}}" 0"#,
        r#"EVAL "return {err='MINE of mine'}" 0"#,
        r#"EVAL "return redis.error_reply('no')" 0"#,
        r#"EVAL "return redis.call('SET', KEYS[1], 1.5)" 1 key"#,
        r#"EVAL "return redis.call('INCR', KEYS[1])" 1 key"#,
        r#"EVAL "return redis.pcall('INCR', KEYS[1])" 1 key"#,
        r#"EVAL "local ok, e = pcall(redis.call, 'INCR', KEYS[1]) return e.err" 1 key"#,
        r#"EVAL "redis.call('SET', KEYS[1], 'half') error('stop')" 1 key"#,
        r#"EVAL "redis.call('SET', KEYS[1], 'half') error({err='MINE stop'})" 1 key"#,
        r#"GET key"#,
        r#"EVAL "return redis.call('nothing')" 0"#,
        r#"EVAL "return redis.call('GET')" 0"#,
        r#"EVAL "return redis.call('MULTI')" 0"#,
        r#"EVAL "return redis.call('EVAL', 'return 1', 0)" 0"#,
        r#"EVAL "return redis.call()" 0"#,
        r#"EVAL "return redis.call({})" 0"#,
        r#"EVAL "return x" 0"#,
        r#"EVAL "x = 1" 0"#,
        r#"EVAL "return {" 0"#,
        r#"EVAL_RO "return redis.call('SET', 'a', 1)" 0"#,
        r#"EVAL_RO "return redis.call('GET', 'a')" 0"#,
        "EVAL \"#!lua flags=no-writes\\nreturn redis.call('SET', 'a', 1)\" 0",
        "EVAL \"#!lua flags=nothing\\nreturn 1\" 0",
        "EVAL \"#!lua what=nothing\\nreturn 1\" 0",
        "EVAL \"#!lua\" 0",
        "EVAL \"#! lua\\nreturn 1\" 0",
        "EVAL \"#!lua flags=\\nreturn 1\" 0",
        "EVAL \"#!lua flags=no-writes,\\nreturn 1\" 0",
        "EVAL \"#!lua flags=\\\"no-writes\\\"\\nreturn 1\" 0",
        "EVAL \"#!lua \\\"\\nreturn 1\" 0",
        "EVAL \"#!lua flags=no-writes\\nreturn redis.call('PUBLISH', 'channel', 'x')\" 0",
        "EVAL \"#!lua flags=no-writes\\nreturn redis.call('PFCOUNT', 'none')\" 0",
        r#"EVAL_RO "return redis.call('SPUBLISH', 'channel', 'x')" 0"#,
        r#"EVAL "return redis.call('CONFIG')" 0"#,
        r#"EVAL "return redis.call('OBJECT')" 0"#,
        r#"EVAL "return redis.acl_check_cmd('OBJECT')" 0"#,
        "EVAL \"#!js\\nreturn 1\" 0",
        "EVAL_RO \"#!lua\\nreturn 1\" 0",
        "EVAL \"#!lua\\nerror('line two')\" 0",
        r#"EVAL "return 1" x"#,
        r#"EVAL "return 1" -1"#,
        r#"EVAL "return 1" 2 a"#,
        r#"EVALSHA short 0"#,
        r#"EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0"#,
        r#"SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db short"#,
        r#"SCRIPT LOAD "return {""#,
        r#"SCRIPT LOAD "return redis.call('PING')""#,
        r#"SCRIPT FLUSH never"#,
        r#"SCRIPT FLUSH SYNC"#,
        r#"SCRIPT KILL"#,
        r#"EVAL "redis.setresp(3) return redis.call('HGETALL', KEYS[1])" 1 hash"#,
        r#"EVAL "return cjson.encode({a=1})" 0"#,
        r#"EVAL "return redis.sha1hex('x')" 0"#,
        r#"EVAL "redis.call('SELECT', 3) return redis.call('SET', 'there', 1)" 0"#,
        r#"EXISTS there"#,
        r#"MULTI"#,
        r#"EVAL "return redis.call('INCR', 'n')" 0"#,
        r#"EVAL "return redis.call('INCR', 'key')" 0"#,
        r#"EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0"#,
        r#"EXEC"#,
    ];
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&[]);
    for protocol in ["2", "3"] {
        let [mut ours, mut theirs] = [&flux, &redis].map(|server| emptied(server, protocol));
        let differing: Vec<String> = LINES
            .iter()
            .filter_map(|line| {
                let words = split_words(line.as_bytes()).unwrap();
                let (mine, other) = (ours.call(&words).unwrap(), theirs.call(&words).unwrap());
                (mine != other).then(|| format!("{line}\n  flux:  {mine:?}\n  redis: {other:?}"))
            })
            .collect();
        assert!(differing.is_empty(), "RESP{protocol}:\n{}", differing.join("\n"));
    }
}

#[test]
fn a_transaction_may_hold_scripts() {
    check(
        r##"
        SCRIPT LOAD "return redis.call('INCR', KEYS[1])" => $sha
        MULTI
        SET n 5 => QUEUED
        EVALSHA $sha 1 n => QUEUED
        EVAL "return redis.call('GET', KEYS[1])" 1 n => QUEUED
        SCRIPT EXISTS $sha => QUEUED
        EVAL "error('no')" 0 => QUEUED
        INCR n => QUEUED
        EXEC => [OK, 6, 6, [1], ERR …no…, 7]
        WATCH n
        b: EVALSHA $sha 1 n => 8
        MULTI
        EVALSHA $sha 1 n
        EXEC => (nil)
        GET n => 8
        "##,
    );
}

#[test]
fn who_waits_for_a_key_is_served_after_the_script() {
    let server = Process::flux(&[]);
    let (mut waits, mut other) = (server.connect(), server.connect());
    waits.send(&["BLPOP", "list", "0"]).unwrap();
    until("BLPOP waits", || text(&mut other, &["INFO", "clients"]).contains("blocked_clients:1"));
    let script = "redis.call('RPUSH', KEYS[1], 'a') redis.call('RPUSH', KEYS[1], 'b') return redis.call('LLEN', KEYS[1])";
    assert_eq!(other.call(&["EVAL", script, "1", "list"]).unwrap(), Reply::Line(":2".into()));
    assert_eq!(waits.read().unwrap(), many(&["list", "a"]));
}

/// With one thread that carries clients, as with several.
#[test]
fn a_script_that_takes_too_long_is_told_of_and_can_be_killed() {
    for threads in ["1", "2"] {
        let server = Process::flux(&["--threads", threads, "--busy-reply-threshold", "100"]);
        let mut runs = server.connect();
        for (killed, script) in [("loop", FOR_EVER), ("pcall", "while true do pcall(function() while true do end end) end")] {
            runs.send(&["EVAL", script, "0"]).unwrap();
            let mut others: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
            for other in &mut others {
                until("BUSY", || other.call(&["GET", "key"]).unwrap() == line(BUSY));
                for words in
                    [&["PING"][..], &["EVAL", "return 1", "0"], &["SCRIPT", "LOAD", "return 1"], &["INFO"], &["SHUTDOWN"]]
                {
                    assert_eq!(other.call(words).unwrap(), line(BUSY), "{words:?}");
                }
                assert_eq!(other.call(&["MULTI"]).unwrap(), line("+OK"));
                assert_eq!(other.call(&["SET", "key", "value"]).unwrap(), line(BUSY));
                assert!(shown(&other.call(&["EXEC"]).unwrap()).starts_with("-EXECABORT"));
            }
            let before = Instant::now();
            assert_eq!(others[0].call(&["SCRIPT", "KILL"]).unwrap(), line("+OK"));
            let answer = shown(&runs.read().unwrap());
            assert!(before.elapsed() < Duration::from_millis(500), "{killed}: it took {:?}", before.elapsed());
            assert!(answer.starts_with("-ERR") && answer.contains("killed by user with SCRIPT KILL"), "{answer}");
            for other in &mut others {
                assert_eq!(other.call(&["EVAL", "return 1", "0"]).unwrap(), line(":1"));
            }
        }
    }
}

/// Who comes before a script has taken too long waits for it, and is answered when it is over.
#[test]
fn commands_wait_for_a_script_in_their_order_and_see_all_of_it() {
    let server = Process::flux(&["--threads", "1"]);
    let http = server.http_port();
    let (mut runs, mut other) = (server.connect(), server.connect());
    let script = "redis.call('SET', 'a', 1) local t = redis.call('TIME')[1] + 0 repeat local now = redis.call('TIME') until now[1] - t >= 2 \
                  redis.call('SET', 'b', 1) return 'done'";
    runs.send(&["EVAL", script, "0"]).unwrap();
    runs.send(&["GET", "b"]).unwrap();
    other.send(&["MGET", "a", "b"]).unwrap();
    // Meanwhile the server says that it is well.
    assert!(health(http).starts_with("HTTP/1.1 200"));
    assert_eq!(other.read().unwrap(), many(&["1", "1"]));
    assert_eq!(runs.read().unwrap(), bulk("done"));
    assert_eq!(runs.read().unwrap(), bulk("1"));
}

/// Each of them, once, and then the server answers as before.
#[test]
fn no_script_takes_the_server_with_it() {
    const SCRIPTS: &[&str] = &[
        "local function f(s) return (string.gsub(s, '.', f)) end return f('a')",
        "local function f() return f() + 1 end return f()",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) return t[1]",
        "local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1000) .. i end",
        "return string.rep('x', 1e9)",
        "local s = 'x' while true do s = s .. s end",
        "return {unpack({1, 2, 3}, 0, 2147483647)}",
        "local t = {} for i = 1, 1e6 do t = {t} end return t",
        "local t = {} t[1] = t return t",
        "for i = 1, 100000 do redis.call('RPUSH', 'many', i) end return redis.call('LLEN', 'many')",
        "local t = {} for i = 1, 5000 do t[i] = 'k' .. i end return redis.call('DEL', unpack(t))",
        "return string.dump(function() end) and loadstring('return 1')()",
        "error(setmetatable({}, {__tostring = function() error('again') end}))",
        "collectgarbage('stop') return 1",
        "redis.setresp(3) return redis.call('COMMAND')",
    ];
    let server = Process::flux(&["--script-memory-limit", "32mb"]);
    let mut client = server.connect();
    let run = || {
        for script in SCRIPTS {
            client.call(&["EVAL", script, "0"]).unwrap();
            assert_eq!(client.call(&["EVAL", "return 'well'", "0"]).unwrap(), bulk("well"), "after {script}");
        }
        assert_eq!(client.call(&["LLEN", "many"]).unwrap(), line(":100000"));
    };
    // Answers may be deep, and are read as deep here.
    thread::scope(|scope| thread::Builder::new().stack_size(512 << 20).spawn_scoped(scope, run).unwrap().join().unwrap());
}

/// A transaction lends its locks, too, while a script in it takes long.
#[test]
fn a_transaction_with_a_long_script_is_seen_whole() {
    let server = Process::flux(&["--threads", "1"]);
    let (mut runs, mut other) = (server.connect(), server.connect());
    for words in [&["MULTI"][..], &["INCR", "a"], &["EVAL", LASTS, "0"], &["INCR", "b"], &["EVAL", LASTS, "0"], &["INCR", "c"]] {
        runs.call(words).unwrap();
    }
    runs.send(&["EXEC"]).unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&many(&["1", "1", "1"])) {
        seen.push(other.call(&["MGET", "a", "b", "c"]).unwrap());
        assert!(seen.len() < 1000, "the transaction is not seen: {:?}", seen.last());
    }
    seen.dedup();
    let nothing = Reply::Many('*', vec![line("$-1"); 3]);
    assert!(seen.iter().all(|all| [&nothing, &many(&["1", "1", "1"])].contains(&all)), "{seen:?}");
    assert!(matches!(runs.read().unwrap(), Reply::Many(_, all) if all.len() == 5));
}

/// Many wait for a script; some leave, one of them with the script, and who waits for something else is told in time.
#[test]
fn clients_come_and_go_while_a_script_takes_long() {
    for threads in ["1", "2"] {
        let server = Process::flux(&["--threads", threads, "--busy-reply-threshold", "60000"]);
        let (mut runs, mut late, mut watches) = (server.connect(), server.connect(), server.connect());
        late.send(&["BLPOP", "nothing", "1"]).unwrap();
        until("BLPOP waits", || text(&mut watches, &["INFO", "clients"]).contains("blocked_clients:1"));
        watches.call(&["WATCH", "key"]).unwrap();
        runs.send(&["EVAL", FOR_EVER, "0"]).unwrap();
        // Whoever gets through MULTI while GET waits knows that the script runs for long.
        let mut waiting: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(|one| one.send(&["GET", "key"]).unwrap());
        assert_eq!(late.read().unwrap(), line("*-1"));
        waiting.truncate(100);
        drop((runs, watches));
        let mut killer = server.connect();
        until("SCRIPT KILL", || killer.call(&["SCRIPT", "KILL"]).unwrap() == line("+OK"));
        for one in &mut waiting {
            assert_eq!(one.read().unwrap(), line("$-1"));
        }
        until("all who left are gone", || text(&mut killer, &["INFO", "clients"]).contains("connected_clients:102"));
        assert!(text(&mut killer, &["INFO", "clients"]).contains("blocked_clients:0"));
    }
}

/// What they were stands in keys, which the script has to itself.
#[test]
fn peers_that_hang_up_while_a_script_takes_long_are_gone_after_it() {
    let server = Process::flux(&["--threads", "1", "--busy-reply-threshold", "10"]);
    let mut peers: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.call(&["FLUX.REGISTER", &format!(r#"{{"id":"peer{number}"}}"#), "TTL", "600000"]).unwrap();
    }
    let (mut runs, mut killer) = (server.connect(), server.connect());
    let count = |killer: &mut Connection| match killer.call(&["FLUX.PEERS"]).unwrap() {
        Reply::Many(_, peers) => Some(peers.len()),
        _ => None,
    };
    assert_eq!(count(&mut killer), Some(200));
    runs.send(&["EVAL", FOR_EVER, "0"]).unwrap();
    until("BUSY", || killer.call(&["GET", "key"]).unwrap() == line(BUSY));
    drop(peers);
    until("SCRIPT KILL", || killer.call(&["SCRIPT", "KILL"]).unwrap() == line("+OK"));
    until("all who hung up are gone", || count(&mut killer) == Some(0));
}

/// Also one that swallows every error, or never comes back to Lua by itself.
#[test]
fn whatever_a_script_does_it_is_stopped_soon_after_a_kill() {
    const SCRIPTS: &[&str] = &[
        "while true do pcall(function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "while true do coroutine.wrap(function() while true do end end)() end",
        "while true do local s = string.rep('x', 1000000) end",
        "return string.find(string.rep('a', 400), string.rep('.-', 5) .. 'b')",
        "table.sort({3, 2, 1}, function(a, b) while true do end end)",
        "string.gsub('aaa', 'a', function() while true do end end)",
        "while true do redis.call('GET', 'key') end",
        "while true do redis.pcall('INCR', 'a', 'b') end",
    ];
    let server = Process::flux(&["--threads", "1", "--busy-reply-threshold", "10"]);
    let (mut runs, mut killer) = (server.connect(), server.connect());
    for script in SCRIPTS {
        runs.send(&["EVAL", script, "0"]).unwrap();
        until("BUSY", || killer.call(&["GET", "key"]).unwrap() == line(BUSY));
        let before = Instant::now();
        assert_eq!(killer.call(&["SCRIPT", "KILL"]).unwrap(), line("+OK"), "{script}");
        let answer = shown(&runs.read().unwrap());
        assert!(answer.contains("killed by user"), "{script}: {answer}");
        assert!(before.elapsed() < Duration::from_secs(1), "{script}: {:?}", before.elapsed());
    }
}

#[test]
fn a_script_that_has_written_is_not_killed_but_the_server_can_be_ended_without_it() {
    let mut server = Process::flux(&["--threads", "1", "--busy-reply-threshold", "50"]);
    let (mut runs, mut other) = (server.connect(), server.connect());
    other.call(&["SET", "key", "whole"]).unwrap();
    runs.send(&["EVAL", WRITES_FOR_EVER, "1", "key"]).unwrap();
    until("BUSY", || other.call(&["GET", "key"]).unwrap() == line(BUSY));
    assert!(
        shown(&other.call(&["SCRIPT", "KILL"]).unwrap())
            .starts_with("-UNKILLABLE Sorry the script already executed write commands")
    );
    other.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert!(server.ended().success());
    let server = Process::flux_in(&server.data(), &[]);
    assert_eq!(server.connect().call(&["GET", "key"]).unwrap(), bulk("whole"));
}

/// Its client hears how it went, and all of it is kept.
#[test]
fn a_server_that_is_asked_to_end_lets_a_script_come_to_its_end() {
    for threads in ["1", "2"] {
        let mut server = Process::flux(&["--threads", threads]);
        let (mut runs, mut other) = (server.connect(), server.connect());
        let script = format!("redis.call('SET', 'a', 1) {LASTS} redis.call('SET', 'b', 1) return 'done'");
        runs.send(&["EVAL", &script, "0"]).unwrap();
        until("it has written", || shown(&other.call(&["SCRIPT", "KILL"]).unwrap()).starts_with("-UNKILLABLE"));
        server.terminate();
        assert_eq!(runs.read().unwrap(), bulk("done"));
        assert!(server.ended().success());
        let server = Process::flux_in(&server.data(), &[]);
        assert_eq!(server.connect().call(&["MGET", "a", "b"]).unwrap(), many(&["1", "1"]));
    }
}

/// Either it takes longer than the threshold, or there is none and it takes longer than clients get.
#[test]
fn a_server_that_is_asked_to_end_ends_a_script_that_takes_too_long_and_keeps_nothing_of_it() {
    for threads in ["1", "2"] {
        for arguments in [["--busy-reply-threshold", "300"], ["--busy-reply-threshold", "0"]] {
            let mut server = Process::flux(&[&["--threads", threads, "--shutdown-timeout", "1"][..], &arguments].concat());
            let (mut runs, mut other) = (server.connect(), server.connect());
            runs.send(&["EVAL", WRITES_FOR_EVER, "1", "key"]).unwrap();
            until("it has written", || shown(&other.call(&["SCRIPT", "KILL"]).unwrap()).starts_with("-UNKILLABLE"));
            // Without a threshold nobody is told BUSY, as in Redis.
            let mut waits = server.connect();
            waits.send(&["GET", "key"]).unwrap();
            assert_eq!(other.call(&["WATCH", "key"]).unwrap(), line("+OK"));
            server.terminate();
            let answers = [&mut runs, &mut waits].map(Connection::read);
            assert!(server.ended().success());
            match answers {
                [Ok(ran), _] if arguments[1] == "300" => {
                    assert!(shown(&ran).starts_with("-ERR Script ended, since the server ends."))
                }
                [_, waited] => assert!(waited.is_err(), "{threads}, {arguments:?}: {waited:?}"),
            }
            let server = Process::flux_in(&server.data(), &[]);
            assert_eq!(server.connect().call(&["EXISTS", "key"]).unwrap(), line(":0"));
        }
    }
}

/// Once each, however long they took, also where they failed.
#[test]
fn scripts_that_take_long_are_counted_once() {
    let server = Process::flux(&["--threads", "1", "--slowlog-log-slower-than", "5000"]);
    let mut client = server.connect();
    for end in ["error('MINE no')", "return redis.call('INCR', 'a', 'b')", "return redis.error_reply('OTHER no')", "return 1"] {
        client.call(&["EVAL", &format!("{LASTS} {end}"), "0"]).unwrap();
    }
    let counts = text(&mut client, &["INFO", "commandstats"]);
    let eval = counts.lines().find(|line| line.starts_with("cmdstat_eval:")).unwrap();
    assert!(eval.contains("calls=4,") && eval.ends_with("failed_calls=3"), "{eval}");
    let errors = text(&mut client, &["INFO", "errorstats"]);
    assert!(errors.contains("errorstat_ERR:count=2\r\n") && errors.contains("errorstat_OTHER:count=1\r\n"), "{errors}");
    assert_eq!(client.call(&["SLOWLOG", "LEN"]).unwrap(), line(":4"));
}

/// What was acknowledged before a script that never ends is on disk all the same, and nothing of the script.
#[test]
fn a_kill_amid_a_script_loses_nothing_of_before_and_keeps_nothing_of_it() {
    let mut server = Process::flux(&["--busy-reply-threshold", "50"]);
    let (mut runs, mut other) = (server.connect(), server.connect());
    for number in 0..100 {
        other.call(&["SET", &format!("before:{number}"), "1"]).unwrap();
    }
    runs.send(&["EVAL", WRITES_FOR_EVER, "1", "key"]).unwrap();
    until("BUSY", || other.call(&["GET", "key"]).unwrap() == line(BUSY));
    until("the journal has what was written before", || is_on_disk(&server.data(), b"before:99"));
    assert!(!is_on_disk(&server.data(), b"half"), "half of a script is in the journal");
    server.restart();
    let mut other = server.connect();
    assert_eq!(other.call(&["DBSIZE"]).unwrap(), line(":100"));
    assert_eq!(other.call(&["EXISTS", "key"]).unwrap(), line(":0"));
}

/// Scripts move money, as transactions and plain commands beside them; some take so long that they lend their locks. Whoever looks finds the same sum.
#[test]
fn a_script_is_seen_whole_or_not_at_all() {
    const ACCOUNTS: u64 = 7;
    const MOVE: &str = "local n = tonumber(ARGV[1]) redis.call('DECRBY', KEYS[1], n) \
                        for i = 1, tonumber(ARGV[2]) do local x = {} end \
                        redis.call('INCRBY', KEYS[2], n) return redis.call('GET', KEYS[1])";
    const SUM: &str = "local sum = 0 for i = 0, 6 do sum = sum + redis.call('GET', 'account:' .. i) end return sum";
    let server = Process::flux(&["--threads", "3"]);
    let mut first = server.connect();
    for account in 0..ACCOUNTS {
        first.call(&["SET", &format!("account:{account}"), "1000"]).unwrap();
    }
    let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let movers: Vec<_> = (0..4)
            .map(|seed| {
                let mut client = server.connect();
                scope.spawn(move || {
                    let mut chance = Seeded::new(seed + 1);
                    for round in 0..300 {
                        let (from, to) =
                            (format!("account:{}", chance.below(ACCOUNTS)), format!("account:{}", chance.below(ACCOUNTS)));
                        let amount = chance.below(20).to_string();
                        if chance.below(3) == 0 {
                            client.call(&["MULTI"]).unwrap();
                            client.call(&["DECRBY", &from, &amount]).unwrap();
                            client.call(&["EVAL", "return redis.call('INCRBY', KEYS[1], ARGV[1])", "1", &to, &amount]).unwrap();
                            assert!(matches!(client.call(&["EXEC"]).unwrap(), Reply::Many(..)));
                        } else {
                            // One in fifty lasts for some 10 ms and more.
                            let turns = if round % 50 == 0 { "1000000" } else { "10" };
                            let moved = client.call(&["EVAL", MOVE, "2", &from, &to, &amount, turns]).unwrap();
                            assert!(matches!(moved, Reply::Bulk(..)), "{moved:?}");
                        }
                    }
                })
            })
            .collect();
        for kind in 0..3 {
            let mut client = server.connect();
            let (is_over, looks) = (&is_over, &looks);
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    assert_eq!(sum(&mut client, kind, SUM), 7000, "money is missing, or there is too much");
                    looks.fetch_add(1, SeqCst);
                }
            });
        }
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        is_over.store(true, SeqCst);
    });
    println!("{} looks", looks.load(SeqCst));
}

fn sum(client: &mut Connection, kind: usize, script: &str) -> i64 {
    let keys: Vec<String> = (0..7).map(|account| format!("account:{account}")).collect();
    let numbers = |reply: Reply| match reply {
        Reply::Many(_, all) => all.iter().map(|one| unbulk(one).parse::<i64>().unwrap()).sum(),
        Reply::Line(line) => line[1..].parse().unwrap(),
        other => panic!("{other:?}"),
    };
    match kind {
        0 => {
            let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            numbers(client.call(&words).unwrap())
        }
        1 => numbers(client.call(&["EVAL", script, "0"]).unwrap()),
        _ => {
            client.call(&["MULTI"]).unwrap();
            keys.iter().for_each(|key| drop(client.call(&["GET", key]).unwrap()));
            numbers(client.call(&["EXEC"]).unwrap())
        }
    }
}

/// Each script adds to many keys of other shards; killed at any moment, the server has all of one or nothing, long ones among them.
#[test]
fn a_killed_server_has_all_of_a_script_or_nothing() {
    const ADD: &str = "for i = 1, 20 do redis.call('INCR', 'n:' .. i) if i == 10 then for j = 1, tonumber(ARGV[1]) do local x = {} end end end \
                       return redis.call('GET', 'n:1')";
    let mut server = Process::flux(&["--appendfsync", "always"]);
    let mut chance = Seeded::new(flux::clock::now_ms());
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut client = server.connect();
        let until_kill = Duration::from_millis(20 + chance.below(100));
        let began = Instant::now();
        thread::scope(|scope| {
            let (server, acknowledged) = (&server, &mut acknowledged);
            scope.spawn(move || {
                let mut number = 0;
                while let Ok(Reply::Bulk(_, count)) =
                    client.call(&["EVAL", ADD, "0", if number % 5 == 4 { "500000" } else { "1" }])
                {
                    *acknowledged = String::from_utf8_lossy(&count).parse::<u64>().unwrap();
                    number += 1;
                }
            });
            while began.elapsed() < until_kill {
                thread::yield_now();
            }
            server.kill();
        });
        server.restart();
        let mut client = server.connect();
        let words: Vec<String> = std::iter::once("MGET".to_owned()).chain((1..=20).map(|i| format!("n:{i}"))).collect();
        let Reply::Many(_, counts) = client.call(&words).unwrap() else { panic!("MGET answers many") };
        assert!(counts.iter().all(|count| *count == counts[0]), "round {round}: half of a script is there: {counts:?}");
        let kept = if counts[0] == line("$-1") { 0 } else { unbulk(&counts[0]).parse::<u64>().unwrap() };
        assert!(kept >= acknowledged, "round {round}: {kept} of {acknowledged} scripts that were acknowledged are there");
    }
}

/// What a script has done before it rests is in its shards; the journal, which is written meanwhile, must not have it before its end.
#[test]
fn a_killed_server_has_nothing_of_a_script_that_did_not_end() {
    const ADD: &str = "for i = 1, 20 do redis.call('INCR', 'n:' .. i) end while true do end";
    /// The journal is cut at least each second, also where nobody asks for it.
    const UNTIL_CUT: Duration = Duration::from_millis(1500);
    let mut server = Process::flux(&["--busy-reply-threshold", "50"]);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.call(&["SET", "before", "there"]).unwrap();
    client.send(&["EVAL", ADD, "0"]).unwrap();
    until("BUSY", || other.call(&["GET", "n:1"]).unwrap() == line(BUSY));
    let began = Instant::now();
    while began.elapsed() < UNTIL_CUT {
        assert_eq!(other.call(&["GET", "n:1"]).unwrap(), line(BUSY));
    }
    server.kill();
    server.restart();
    let mut client = server.connect();
    for number in 1..=20 {
        assert_eq!(client.call(&["GET", &format!("n:{number}")]).unwrap(), line("$-1"));
    }
    assert_eq!(client.call(&["GET", "before"]).unwrap(), bulk("there"));
}

/// A keyspace within a program has no thread of its own that could leave a script where it stands.
#[test]
fn a_script_that_takes_long_within_a_program_is_told_of_and_can_be_killed() {
    let flux = Flux::in_memory();
    let mut client = flux.blocking();
    assert_eq!(call(&mut client, &["CONFIG", "SET", "busy-reply-threshold", "50"]), "+OK\r\n");
    thread::scope(|scope| {
        let mut runs = flux.blocking();
        let run = scope.spawn(move || call(&mut runs, &["EVAL", FOR_EVER, "0"]));
        until("BUSY", || call(&mut client, &["GET", "key"]).starts_with("-BUSY"));
        assert_eq!(call(&mut client, &["SCRIPT", "KILL"]), "+OK\r\n");
        assert!(run.join().unwrap().contains("killed by user"));
    });
    assert_eq!(call(&mut client, &["GET", "key"]), "$-1\r\n");
}

/// One thread runs the scripts of all, and what is asked together with a long one is answered after it.
#[test]
fn many_threads_of_a_program_run_scripts_at_once() {
    let flux = Flux::in_memory();
    thread::scope(|scope| {
        for number in 0..32 {
            let mut client = flux.blocking();
            scope.spawn(move || {
                let script = if number == 7 { LASTS } else { "" };
                for _ in 0..20 {
                    let script = format!("{script} return redis.call('INCR', 'n')");
                    assert!(call(&mut client, &["EVAL", &script, "0"]).starts_with(':'));
                }
            });
        }
    });
    assert_eq!(call(&mut flux.blocking(), &["GET", "n"]), "$3\r\n640\r\n");
}

#[test]
fn scripts_of_eval_make_way_and_loaded_ones_stay() {
    let server = Process::flux(&[]);
    let mut client = server.connect();
    let loaded = unbulk(&client.call(&["SCRIPT", "LOAD", "return 'loaded'"]).unwrap());
    for number in 0..510 {
        assert_eq!(client.call(&["EVAL", &format!("return {number}"), "0"]).unwrap(), line(&format!(":{number}")));
    }
    let memory = text(&mut client, &["INFO", "memory"]);
    assert!(memory.contains("number_of_cached_scripts:501"), "{memory}");
    assert!(text(&mut client, &["INFO", "stats"]).contains("evicted_scripts:10"));
    assert_eq!(client.call(&["EVALSHA", &loaded, "0"]).unwrap(), bulk("loaded"));
}

#[test]
fn monitors_and_statistics_tell_of_what_scripts_call() {
    let server = Process::flux(&[]);
    let (mut watches, mut client) = (server.connect(), server.connect());
    assert_eq!(watches.call(&["MONITOR"]).unwrap(), line("+OK"));
    client.call(&["EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", "key"]).unwrap();
    let outer = shown(&watches.read().unwrap());
    assert!(outer.contains("\"EVAL\"") && outer.contains("127.0.0.1"), "{outer}");
    let inner = shown(&watches.read().unwrap());
    assert!(inner.contains("[0 lua] \"SET\" \"key\" \"v\""), "{inner}");
    client.call(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", "key"]).unwrap();
    let stats = text(&mut client, &["INFO", "everything"]);
    for expected in ["cmdstat_set:calls=1,", "cmdstat_eval:calls=2,", "errorstat_ERR:count=1"] {
        assert!(stats.contains(expected), "{expected} is not in {stats}");
    }
    let failed = stats.lines().find(|line| line.starts_with("cmdstat_eval:")).unwrap();
    assert!(failed.contains("failed_calls=1"), "{failed}");
}

fn call(store: &mut Blocking, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    String::from_utf8_lossy(&store.call(&words)).into_owned()
}

/// Whether a file of a folder, or of one in it, has these bytes.
fn is_on_disk(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let has = |content: Vec<u8>| content.windows(bytes.len()).any(|part| part == bytes);
        if path.is_dir() { is_on_disk(&path, bytes) } else { std::fs::read(&path).is_ok_and(has) }
    })
}

/// What HTTP says of health.
fn health(port: u16) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn line(text: &str) -> Reply {
    Reply::Line(text.to_owned())
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk('$', text.as_bytes().to_vec())
}

fn many(texts: &[&str]) -> Reply {
    Reply::Many('*', texts.iter().map(|text| bulk(text)).collect())
}

fn unbulk(reply: &Reply) -> String {
    let Reply::Bulk(_, bytes) = reply else { panic!("{reply:?}") };
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(client: &mut Connection, words: &[&str]) -> String {
    unbulk(&client.call(words).unwrap())
}

fn shown(reply: &Reply) -> String {
    let Reply::Line(line) = reply else { panic!("{reply:?}") };
    line.clone()
}
