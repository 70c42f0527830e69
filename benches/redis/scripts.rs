//! What scripts cost: one that does nothing, some that call commands, and one that is busy in Lua.

use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::driver::{Load, Random, timed, write_request};
use crate::report::{Goal, Report, ratio};
use crate::sections::{AOF, FLUX, in_turn, medians, start};
use crate::server::{Kind, Server};

/// One script, and what it is called with.
struct Case {
    name: &'static str,
    source: &'static str,
    goal: Goal,
    /// Where it calls a function instead, of a library of this name.
    function: Option<&'static str>,
    argument: fn(&mut Random) -> Vec<u8>,
}

/// A window of a second in a sorted set, which takes a hundred: the time comes from the caller, so that all servers do the same.
const LIMITER: &str = "local now = tonumber(ARGV[1]) \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - 1000) \
    local count = redis.call('ZCARD', KEYS[1]) \
    if count < 100 then redis.call('ZADD', KEYS[1], now, ARGV[1]) end \
    redis.call('PEXPIRE', KEYS[1], 60000) \
    return redis.call('ZCARD', KEYS[1])";

const CASES: &[Case] = &[
    Case { name: "return 1", source: "return 1", goal: Goal::None, function: None, argument: |_| Vec::new() },
    Case {
        name: "GET",
        source: "return redis.call('GET', KEYS[1])",
        goal: Goal::AtMost(0.8),
        function: None,
        argument: |_| Vec::new(),
    },
    Case {
        name: "five GETs",
        source: "local v for i = 1, 5 do v = redis.call('GET', KEYS[1]) end return v",
        goal: Goal::None,
        function: None,
        argument: |_| Vec::new(),
    },
    Case {
        name: "sliding window, five commands",
        source: LIMITER,
        goal: Goal::AtMost(0.8),
        function: None,
        argument: |random| (random.next() % 1_000_000).to_string().into_bytes(),
    },
    Case {
        name: "cjson, 1 KB both ways",
        source: "return cjson.encode(cjson.decode(ARGV[1]))",
        goal: Goal::AtMost(1.0),
        function: None,
        argument: |_| json(),
    },
    Case {
        name: "GET by FCALL",
        source: "#!lua name=bench\nredis.register_function('bench_get', function(keys) return redis.call('GET', keys[1]) end)",
        goal: Goal::AtMost(0.8),
        function: Some("bench_get"),
        argument: |_| Vec::new(),
    },
];

/// All of them.
pub fn scripts(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let kinds: Vec<Kind> = [FLUX, AOF].into_iter().chain(options.valkey.is_some().then_some(Kind::ValkeyAof)).collect();
    let servers = start(&kinds, options)?;
    let names: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
    report.table(
        "Scripts",
        &format!(
            "EVALSHA with one key, 50 connections, -P 16, {rounds} rounds of a second. CPU of the server for a call in microseconds, of the \
             threads that carried it; the goal is held against the better peer."
        ),
        &[&["script"][..], &names.iter().map(String::as_str).collect::<Vec<_>>(), &["flux/better"]].concat(),
    );
    for case in CASES {
        let Some(results) = measured(&servers, case, rounds)? else {
            report.line(&format!("| {} | flux does not know FUNCTION LOAD: skipped |", case.name));
            continue;
        };
        let cpu = medians(&results, |us| *us);
        let better = cpu[1..].iter().copied().fold(f64::INFINITY, f64::min);
        let mut cells = vec![case.name.to_owned()];
        cells.extend(cpu.iter().map(|us| format!("{us:.2}")));
        cells.push(ratio(cpu[0], better, case.goal));
        report.row(&cells);
    }
    Ok(())
}

/// Rounds of microseconds for each server; None where one of them doesn't have what is needed.
fn measured(servers: &[Server], case: &Case, rounds: usize) -> Result<Option<Vec<Vec<f64>>>> {
    let mut names = Vec::new();
    for server in servers {
        server.resume();
        let name = learned(server, case);
        server.pause();
        match name? {
            Some(name) => names.push(name),
            None => return Ok(None),
        }
    }
    let run = |server: &Server| {
        let at = servers.iter().position(|other| other.port() == server.port()).unwrap_or_default();
        cost(server, case, &names[at])
    };
    (0..rounds).map(|round| in_turn(servers, round, run)).collect::<Result<Vec<_>>>().map(Some)
}

/// By which name it is called, once the server knows it.
fn learned(server: &Server, case: &Case) -> Result<Option<Vec<u8>>> {
    let mut client = server.connect()?;
    redis::cmd("SET").arg("key").arg("value").exec(&mut client)?;
    let Some(function) = case.function else {
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(case.source).query(&mut client)?;
        return Ok(Some(sha.into_bytes()));
    };
    let loaded = redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(case.source).exec(&mut client);
    Ok(loaded.is_ok().then(|| function.as_bytes().to_vec()))
}

fn cost(server: &Server, case: &Case, name: &[u8]) -> Result<f64> {
    let load = Load { clients: 50, pipeline: 16, seconds: 1.0, rate: 0.0 };
    let word: &[u8] = if case.function.is_some() { b"FCALL" } else { b"EVALSHA" };
    let key: &[u8] = if case.source == LIMITER { b"limiter" } else { b"key" };
    let (name, argument) = (name.to_vec(), case.argument);
    let before = server.threads_cpu()?;
    let times = timed(server, load, 1, None, move |number, out| {
        write_request(out, &[word, &name, b"1", key, &argument(&mut Random(number))]);
        0
    })?;
    let cpu: Duration = server.threads_cpu()? - before;
    Ok(cpu.as_secs_f64() * 1e6 / times[0].len() as f64)
}

/// A document as programs send them.
fn json() -> Vec<u8> {
    let items: Vec<String> =
        (0..20).map(|number| format!(r#"{{"id":{number},"name":"item {number}","ok":true,"price":{number}.5}}"#)).collect();
    format!(r#"{{"items":[{}]}}"#, items.join(",")).into_bytes()
}
