//! The libraries of scripts against a redis-server's: random values, texts, formats and patterns, valid and broken, through the same snippets.
//! Always the same ones; `FLUX_MODEL_ROUNDS` runs so many new ones, `FLUX_MODEL_SEED` repeats one.

mod cases;

use flux::lua::{Host, Kind, Options, Verdict, Vm};

use crate::lua::encode;
use crate::process::Process;
use crate::random::Random;

/// Snippets of each kind in the usual run.
const ROUNDS: u64 = 400;

/// A host for scripts that call nothing.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _: &[&[u8]], _: u8, reply: &mut Vec<u8>) {
        reply.extend(b"-ERR there are no commands here\r\n");
    }

    fn pause(&mut self) -> Verdict {
        Verdict::GoOn
    }

    fn log(&mut self, _: u8, _: &[u8]) {}

    fn may_call(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
}

#[test]
fn json_is_written_as_by_redis() {
    compare(cases::json_to_write);
}

#[test]
fn json_is_read_as_by_redis() {
    compare(cases::json_to_read);
}

#[test]
fn message_pack_is_written_and_read_as_by_redis() {
    compare(cases::message_pack);
}

#[test]
fn structs_are_packed_and_unpacked_as_by_redis() {
    compare(cases::structs);
}

#[test]
fn bits_are_those_of_redis() {
    compare(cases::bits);
}

#[test]
fn patterns_match_as_in_redis() {
    compare(cases::patterns);
}

#[test]
fn what_is_nested_too_deep_is_refused_where_redis_does() {
    let deep = "local c = cjson.new() c.decode_max_depth(2^31 - 1) c.encode_max_depth(2^31 - 1)";
    let snippets = [
        format!("{deep} return try(c.decode, ('['):rep(100000))"),
        format!("{deep} return try(c.decode, ('{{\"a\":'):rep(100000))"),
        format!("{deep} local t = {{}} for i = 1, 100000 do t = {{t}} end return try(c.encode, t)"),
        format!("{deep} local t = {{}} for i = 1, 100000 do t = {{a = t}} end return try(c.encode, t)"),
        "return try(cjson.decode, ('['):rep(1000)) .. try(cjson.decode, ('['):rep(1001))".to_owned(),
        "return try(cmsgpack.unpack, ('\\145'):rep(100000))".to_owned(),
        "return try(cmsgpack.unpack, ('\\129'):rep(100000))".to_owned(),
        "return try(cmsgpack.unpack, ('\\1'):rep(100000))".to_owned(),
        "local t = {} t[1] = t return try(cmsgpack.pack, t)".to_owned(),
        "local t = {} for i = 1, 7000 do t[i] = i end return try(cmsgpack.pack, unpack(t))".to_owned(),
        "return try(struct.unpack, ('b'):rep(10000), ('x'):rep(10000))".to_owned(),
        "return try(string.find, ('a'):rep(1000), ('(a)'):rep(33))".to_owned(),
        "return try(string.find, ('a'):rep(1000), ('a?'):rep(900))".to_owned(),
    ];
    compare_all(snippets.into_iter());
}

/// Compares what snippets of this kind return; each begins with its seed.
fn compare(make: impl Fn(&mut Random) -> String) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, rounds) = match (number("FLUX_MODEL_SEED"), number("FLUX_MODEL_ROUNDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(rounds)) => (u64::from(std::process::id()) << 32, rounds),
        (None, None) => (1, ROUNDS),
    };
    compare_all((first..first + rounds).map(|seed| format!("--[[{seed}]] {}", make(&mut Random::new(seed)))));
}

fn compare_all(snippets: impl Iterator<Item = String>) {
    let Some(redis) = Process::redis(&[]) else { return };
    let mut theirs = redis.connect();
    let mut vm = Vm::new(&Options { kind: Kind::Scripts, limit: 64 << 20, version: "7.0.15".to_owned() });
    let mut wrong = Vec::new();
    for snippet in snippets {
        let script = format!("{} {snippet}", cases::PRELUDE);
        let mut there = Vec::new();
        encode(&theirs.call(&["EVAL", &script, "0"]).unwrap(), &mut there);
        let here = run(&mut vm, &script);
        if without_names(&here) != without_names(&there) {
            wrong.push(format!("{snippet}\n   here:  {}\n   Redis: {}", show(&here), show(&there)));
        }
    }
    let shown: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} snippets differ:\n{}", wrong.len(), shown.join("\n"));
}

fn run(vm: &mut Vm, script: &str) -> Vec<u8> {
    let mut reply = Vec::new();
    match vm.compile("SHA", script.as_bytes()) {
        Ok(chunk) => {
            vm.run(&chunk, &[], &[], 2, &mut Nobody, &mut reply);
            vm.forget(chunk);
        }
        Err(why) => reply = why,
    }
    reply
}

/// A reply without the script's name, which is only in errors that the script does not catch.
fn without_names(reply: &[u8]) -> String {
    let text = show(reply);
    text.split(" script: ").next().unwrap_or_default().to_owned()
}

fn show(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}
