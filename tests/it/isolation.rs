//! Transactions under many threads: nobody sees half of one, and nothing comes between its commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use flux::commands::instance::Instance;
use flux::config::{Config, Source};
use flux::engine::Engine;
use flux::engine::effect::{self, Effect, Row};
use flux::store::Blocking;
use flux::{Flux, clock};

const THREADS: usize = 8;
const TRANSFERS: usize = 2000;
const ACCOUNTS: usize = 7;
const START: i64 = 1000;

/// Each thread moves money between accounts in transactions; whoever looks, by MGET or in a transaction, finds the same
/// sum.
#[test]
fn a_transaction_is_seen_whole_or_not_at_all() {
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for account in 0..ACCOUNTS {
        assert_eq!(call(&mut store, &["SET", &key(account), &START.to_string()]), "+OK\r\n");
    }
    let (flux, is_over) = (&flux, &AtomicBool::new(false));
    thread::scope(|scope| {
        let movers: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || transfer(flux.blocking(), number * 31 + 7))).collect();
        for look in [look_at_once as fn(&mut Blocking) -> i64, look_in_a_transaction] {
            scope.spawn(move || {
                let mut store = flux.blocking();
                while !is_over.load(Relaxed) {
                    assert_eq!(look(&mut store), START * ACCOUNTS as i64, "money is missing, or there is too much");
                }
            });
        }
        let moved: usize = movers.into_iter().map(|mover| mover.join().unwrap()).sum();
        is_over.store(true, Relaxed);
        assert_eq!(moved, THREADS * TRANSFERS);
    });
    assert_eq!(look_at_once(&mut store), START * ACCOUNTS as i64);
}

/// With WATCH, a sum read before the transaction is still true in it.
#[test]
fn a_watched_counter_loses_no_increment() {
    let flux = Flux::in_memory();
    let retries: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| increment(flux.blocking(), 300))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{retries} transactions were tried again");
    let expected = (THREADS * 300).to_string();
    assert_eq!(call(&mut flux.blocking(), &["GET", "counter"]), format!("${}\r\n{expected}\r\n", expected.len()));
}

/// Commands of one transaction stand next to each other in a list that all write to.
#[test]
fn nothing_comes_between_the_commands_of_a_transaction() {
    let flux = Flux::in_memory();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let mut store = flux.blocking();
            scope.spawn(move || {
                for round in 0..300 {
                    // More keys, of other shards, so that the transaction needs more than one lock.
                    call(&mut store, &["MULTI"]);
                    for part in 0..3 {
                        call(&mut store, &["RPUSH", "list", &format!("{number}:{round}:{part}")]);
                        call(&mut store, &["INCR", &format!("other:{}", (number + part) % 5)]);
                    }
                    assert!(call(&mut store, &["EXEC"]).starts_with("*6\r\n"));
                }
            });
        }
    });
    let list = call(&mut flux.blocking(), &["LRANGE", "list", "0", "-1"]);
    let values: Vec<&str> = list.lines().filter(|line| line.contains(':')).collect();
    assert_eq!(values.len(), THREADS * 300 * 3);
    for together in values.chunks(3) {
        let (first, _) = together[0].rsplit_once(':').unwrap();
        for (part, value) in together.iter().enumerate() {
            assert_eq!(*value, format!("{first}:{part}"), "something came in between");
        }
    }
}

fn transfer(mut store: Blocking, seed: usize) -> usize {
    for round in 0..TRANSFERS {
        let (from, to) = ((seed + round) % ACCOUNTS, (seed + round * 5 + 1) % ACCOUNTS);
        let amount = (round % 17 + 1).to_string();
        call(&mut store, &["MULTI"]);
        call(&mut store, &["DECRBY", &key(from), &amount]);
        call(&mut store, &["INCRBY", &key(to), &amount]);
        assert!(call(&mut store, &["EXEC"]).starts_with("*2\r\n"));
    }
    TRANSFERS
}

fn look_at_once(store: &mut Blocking) -> i64 {
    let keys: Vec<String> = (0..ACCOUNTS).map(key).collect();
    let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    sum(&call(store, &words))
}

fn look_in_a_transaction(store: &mut Blocking) -> i64 {
    call(store, &["MULTI"]);
    for account in 0..ACCOUNTS {
        call(store, &["GET", &key(account)]);
    }
    sum(&call(store, &["EXEC"]))
}

/// The sum of the bulk strings in an array.
fn sum(reply: &str) -> i64 {
    reply.lines().filter_map(|line| line.parse::<i64>().ok()).sum()
}

fn increment(mut store: Blocking, times: usize) -> usize {
    let mut retries = 0;
    for _ in 0..times {
        loop {
            call(&mut store, &["WATCH", "counter"]);
            let reply = call(&mut store, &["GET", "counter"]);
            let before: i64 = reply.lines().nth(1).map_or(0, |text| text.parse().unwrap());
            call(&mut store, &["MULTI"]);
            call(&mut store, &["SET", "counter", &(before + 1).to_string()]);
            if call(&mut store, &["EXEC"]).starts_with("*1\r\n") {
                break;
            }
            retries += 1;
        }
    }
    retries
}

fn key(account: usize) -> String {
    format!("account:{account}")
}

fn call(store: &mut Blocking, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    String::from_utf8_lossy(&store.call(&words)).into_owned()
}

/// Commands that look at all shards, by statistics or by digests.
const LOOKS_AT_ALL: &[&[&str]] = &[
    &["INFO"],
    &["INFO", "keyspace"],
    &["MEMORY", "STATS"],
    &["MEMORY", "DOCTOR"],
    &["MEMORY", "MALLOC-STATS"],
    &["CONFIG", "RESETSTAT"],
    &["DBSIZE"],
    &["DEBUG", "DIGEST"],
    &["DEBUG", "HTSTATS", "0"],
    &["DEBUG", "RELOAD"],
    &["DEBUG", "POPULATE", "3"],
];

/// Runs a transaction with such a command in the middle of two changes.
fn change_two(store: &mut Blocking, round: usize) {
    let value = round.to_string();
    call(store, &["MULTI"]);
    call(store, &["SET", "one", &value]);
    call(store, LOOKS_AT_ALL[round % LOOKS_AT_ALL.len()]);
    call(store, &["SET", "other", &value]);
    let reply = call(store, &["EXEC"]);
    assert!(reply.starts_with("*3\r\n+OK\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n+OK\r\n") && !reply.contains("\r\n-"), "{reply}");
}

#[test]
fn a_command_that_looks_at_all_shards_does_not_split_its_transaction() {
    let instance = with_debug(&Arc::new(Engine::new(false)));
    let (instance, is_over) = (&instance, &AtomicBool::new(false));
    change_two(&mut Blocking::new(instance), 0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let mut store = Blocking::new(instance);
                while !is_over.load(Relaxed) {
                    let reply = call(&mut store, &["MGET", "one", "other"]);
                    let values: Vec<&str> = reply.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
                    assert_eq!(values[0], values[1], "half of a transaction is seen");
                }
            });
        }
        let mut store = Blocking::new(instance);
        (1..500).for_each(|round| change_two(&mut store, round));
        is_over.store(true, Relaxed);
    });
}

/// Each cut is what one commit writes: after any of them both keys hold the same.
#[test]
fn a_transaction_is_in_one_epoch_whatever_its_commands() {
    let engine = Arc::new(Engine::new(true));
    let instance = with_debug(&engine);
    let (instance, is_over) = (&instance, &AtomicBool::new(false));
    let mut values: [Vec<u8>; 2] = Default::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut store = Blocking::new(instance);
            (0..500).for_each(|round| change_two(&mut store, round));
            is_over.store(true, Relaxed);
        });
        loop {
            let was_over = is_over.load(Relaxed);
            for (_, effects) in engine.cut().shards {
                let mut rest = &effects[..];
                while !rest.is_empty() {
                    let Effect::Put { key, mut rows, .. } = effect::read(&mut rest).unwrap() else { continue };
                    let Some(Row::Put(_, value)) = rows.next() else { panic!("a string has a row") };
                    match key {
                        b"one" => values[0] = value.to_vec(),
                        b"other" => values[1] = value.to_vec(),
                        _ => {}
                    }
                }
            }
            assert_eq!(values[0], values[1], "a commit holds half of a transaction");
            if was_over {
                break;
            }
        }
    });
    assert_eq!(values[0], b"499");
}

/// A server in memory whose clients may look inside.
fn with_debug(engine: &Arc<Engine>) -> Arc<Instance> {
    let config = Arc::new(Config::default());
    config.choose("enable-debug-command", "yes", Source::Flag).unwrap();
    Instance::new(Arc::clone(engine), config, clock::now_ms())
}
