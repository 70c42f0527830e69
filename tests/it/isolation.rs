//! Transactions under many threads: nobody sees half of one, and nothing comes between its commands.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use flux::Flux;
use flux::store::Store;

const THREADS: usize = 8;
const TRANSFERS: usize = 2000;
const ACCOUNTS: usize = 7;
const START: i64 = 1000;

/// Each thread moves money between accounts in transactions; whoever looks, by MGET or in a transaction, finds the same
/// sum.
#[test]
fn a_transaction_is_seen_whole_or_not_at_all() {
    let flux = Flux::in_memory();
    let mut store = flux.store();
    for account in 0..ACCOUNTS {
        assert_eq!(call(&mut store, &["SET", &key(account), &START.to_string()]), "+OK\r\n");
    }
    let (flux, is_over) = (&flux, &AtomicBool::new(false));
    thread::scope(|scope| {
        let movers: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || transfer(flux.store(), number * 31 + 7))).collect();
        for look in [look_at_once as fn(&mut Store) -> i64, look_in_a_transaction] {
            scope.spawn(move || {
                let mut store = flux.store();
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
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| increment(flux.store(), 300))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{retries} transactions were tried again");
    let expected = (THREADS * 300).to_string();
    assert_eq!(call(&mut flux.store(), &["GET", "counter"]), format!("${}\r\n{expected}\r\n", expected.len()));
}

/// Commands of one transaction stand next to each other in a list that all write to.
#[test]
fn nothing_comes_between_the_commands_of_a_transaction() {
    let flux = Flux::in_memory();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let mut store = flux.store();
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
    let list = call(&mut flux.store(), &["LRANGE", "list", "0", "-1"]);
    let values: Vec<&str> = list.lines().filter(|line| line.contains(':')).collect();
    assert_eq!(values.len(), THREADS * 300 * 3);
    for together in values.chunks(3) {
        let (first, _) = together[0].rsplit_once(':').unwrap();
        for (part, value) in together.iter().enumerate() {
            assert_eq!(*value, format!("{first}:{part}"), "something came in between");
        }
    }
}

fn transfer(mut store: Store, seed: usize) -> usize {
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

fn look_at_once(store: &mut Store) -> i64 {
    let keys: Vec<String> = (0..ACCOUNTS).map(key).collect();
    let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    sum(&call(store, &words))
}

fn look_in_a_transaction(store: &mut Store) -> i64 {
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

fn increment(mut store: Store, times: usize) -> usize {
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

fn call(store: &mut Store, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    String::from_utf8_lossy(&store.call(&words)).into_owned()
}
