//! Every history is linearizable: what clients saw, under many threads, transactions and `WATCH`, can be explained by commands that
//! happened one after another, each at one moment between its request and its reply. And with `appendfsync always` that order is the
//! disk's: what anyone saw before a kill -9 is there after it.
//!
//! The checker searches for such an order, as Wing and Gong describe it (Testing and Verifying Concurrent Objects, 1993), and never looks
//! twice at the same set of done operations with the same state (Lowe, Testing for Linearizability, 2017).

use std::collections::HashSet;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::thread;

use tempfile::TempDir;

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

const CLIENTS: usize = 8;
const KEYS: usize = 5;
/// Operations of each client: few enough that the search ends soon.
const LENGTH: usize = 60;

/// The values of all keys.
type State = [Option<i64>; KEYS];

/// What a client did.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Get(usize),
    Set(usize, i64),
    Incr(usize),
    GetDel(usize),
    /// Two keys get a value in one transaction.
    SetBoth(usize, usize, i64),
    /// Of all keys at once.
    GetAll,
    /// Adds one to the sum of two watched keys, in the first, if neither changed meanwhile.
    WatchedSum(usize, usize),
}

/// What it was told.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Done,
    Value(Option<i64>),
    All(State),
    /// A watched transaction that came to nothing; it did nothing.
    Refused,
    /// Nothing came: it may have been done or not, at any time from then on.
    Unknown,
}

#[derive(Debug, Clone)]
struct Event {
    op: Op,
    answer: Answer,
    began: u64,
    /// `u64::MAX` where no answer came.
    ended: u64,
}

/// What an operation does to a state, and whether its answer is what it would say. None if it cannot have happened here.
fn apply(event: &Event, state: &State) -> Option<State> {
    let mut next = *state;
    let says = match event.op {
        Op::Get(key) => Answer::Value(state[key]),
        Op::Set(key, value) => {
            next[key] = Some(value);
            Answer::Done
        }
        Op::Incr(key) => {
            next[key] = Some(state[key].unwrap_or(0) + 1);
            Answer::Value(next[key])
        }
        Op::GetDel(key) => {
            next[key] = None;
            Answer::Value(state[key])
        }
        Op::SetBoth(one, other, value) => {
            (next[one], next[other]) = (Some(value), Some(value));
            Answer::Done
        }
        Op::GetAll => Answer::All(*state),
        Op::WatchedSum(one, other) => {
            next[one] = Some(state[one].unwrap_or(0) + state[other].unwrap_or(0) + 1);
            Answer::Value(next[one])
        }
    };
    match event.answer {
        Answer::Refused => Some(*state),
        Answer::Unknown => Some(next),
        _ => (says == event.answer).then_some(next),
    }
}

/// Whether a history can be put in an order that explains it, ending in one of these states if they are known.
fn is_linearizable(events: &[Event], first: State, last: Option<State>) -> bool {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.began);
    let mut seen: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut stack = vec![(vec![0u64; events.len().div_ceil(64)], 0, first)];
    while let Some((done, least, state)) = stack.pop() {
        let is_done = |done: &[u64], at: usize| done[at / 64] >> (at % 64) & 1 == 1;
        let mut least = least;
        while least < events.len() && is_done(&done, least) {
            least += 1;
        }
        let is_whole = (least..events.len()).all(|at| is_done(&done, at) || events[at].ended == u64::MAX);
        if is_whole && last.is_none_or(|last| last == state) {
            return true;
        }
        // Only what began before anything open has ended can be next.
        let mut bound = u64::MAX;
        for at in least..events.len() {
            if events[at].began > bound {
                break;
            }
            if is_done(&done, at) {
                continue;
            }
            bound = bound.min(events[at].ended);
            let Some(next) = apply(events[at], &state) else { continue };
            let mut with = done.clone();
            with[at / 64] |= 1 << (at % 64);
            if seen.insert((with.clone(), next)) {
                stack.push((with, least, next));
            }
        }
    }
    false
}

fn name(key: usize) -> String {
    format!("key:{key}")
}

/// Carries out an operation; an error if the server is gone.
fn carry_out(connection: &mut Connection, op: &Op) -> std::io::Result<Answer> {
    let mut call = |words: &[&str]| connection.call(words);
    match op {
        Op::Get(key) => call(&["GET", &name(*key)]).map(|reply| Answer::Value(number(&reply))),
        Op::Set(key, value) => call(&["SET", &name(*key), &value.to_string()]).map(|_| Answer::Done),
        Op::Incr(key) => call(&["INCR", &name(*key)]).map(|reply| Answer::Value(number(&reply))),
        Op::GetDel(key) => call(&["GETDEL", &name(*key)]).map(|reply| Answer::Value(number(&reply))),
        Op::GetAll => {
            let names: Vec<String> = (0..KEYS).map(name).collect();
            let words: Vec<&str> = ["MGET"].into_iter().chain(names.iter().map(String::as_str)).collect();
            call(&words).map(|reply| Answer::All(all(&reply)))
        }
        Op::SetBoth(one, other, value) => {
            let value = value.to_string();
            call(&["MULTI"])?;
            call(&["SET", &name(*one), &value])?;
            call(&["SET", &name(*other), &value])?;
            call(&["EXEC"]).map(|_| Answer::Done)
        }
        Op::WatchedSum(one, other) => {
            call(&["WATCH", &name(*one), &name(*other)])?;
            let sum = [one, other]
                .into_iter()
                .try_fold(0, |sum, key| call(&["GET", &name(*key)]).map(|reply| sum + number(&reply).unwrap_or(0)))?;
            call(&["MULTI"])?;
            call(&["SET", &name(*one), &(sum + 1).to_string()])?;
            match call(&["EXEC"])? {
                Reply::Many(..) => Ok(Answer::Value(Some(sum + 1))),
                _ => Ok(Answer::Refused),
            }
        }
    }
}

fn number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).parse().ok(),
        Reply::Line(line) => line.strip_prefix(':').and_then(|number| number.parse().ok()),
        Reply::Many(..) => None,
    }
}

fn all(reply: &Reply) -> State {
    let Reply::Many(_, values) = reply else { panic!("MGET answers with an array: {reply:?}") };
    std::array::from_fn(|key| number(&values[key]))
}

fn any(random: &mut Random) -> Op {
    let (one, other) = (random.below(KEYS), random.below(KEYS));
    match random.below(10) {
        0..=2 => Op::Get(one),
        3 => Op::Set(one, random.below(1000) as i64),
        4 => Op::SetBoth(one, other, random.below(1000) as i64),
        5 | 6 => Op::Incr(one),
        7 => Op::GetDel(one),
        8 => Op::GetAll,
        _ => Op::WatchedSum(one, (one + 1 + other % (KEYS - 1)) % KEYS),
    }
}

/// What clients do at once, until each has done so much, or the server is gone. `stop` is called once half of it has been done.
fn play(server: &Process, seed: u64, stop: impl FnOnce() + Send) -> Vec<Event> {
    let (clock, done) = (AtomicU64::new(1), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let players: Vec<_> = (0..CLIENTS as u64)
            .map(|client| {
                let (clock, done, mut connection) = (&clock, &done, server.connect());
                scope.spawn(move || {
                    let mut random = Random::new(seed * 1000 + client);
                    let mut events = Vec::new();
                    for _ in 0..LENGTH {
                        let op = any(&mut random);
                        let began = clock.fetch_add(1, SeqCst);
                        let answer = carry_out(&mut connection, &op);
                        let ended = clock.fetch_add(1, SeqCst);
                        done.fetch_add(1, Relaxed);
                        match answer {
                            Ok(answer) => events.push(Event { op, answer, began, ended }),
                            Err(_) => {
                                events.push(Event { op, answer: Answer::Unknown, began, ended: u64::MAX });
                                break;
                            }
                        }
                    }
                    events
                })
            })
            .collect();
        let (done, is_over) = (&done, &is_over);
        scope.spawn(move || {
            while done.load(Relaxed) < (CLIENTS * LENGTH / 2) as u64 && !is_over.load(SeqCst) {
                thread::yield_now();
            }
            stop();
        });
        let events = players.into_iter().flat_map(|player| player.join().unwrap()).collect();
        is_over.store(true, SeqCst);
        events
    })
}

fn rounds() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("FLUX_LINEAR_SEED"), number("FLUX_LINEAR_ROUNDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(rounds)) => (u64::from(std::process::id()) << 16, rounds),
        (None, None) => (1, 8),
    }
}

#[test]
fn what_many_clients_see_can_be_explained_by_one_order() {
    let server = Process::flux(&[]);
    let (first, rounds) = rounds();
    for seed in first..first + rounds {
        server.connect().call(&["FLUSHALL"]).unwrap();
        let events = play(&server, seed, || {});
        let last = carry_out(&mut server.connect(), &Op::GetAll).unwrap();
        let Answer::All(last) = last else { unreachable!("it answers with all") };
        assert!(is_linearizable(&events, State::default(), Some(last)), "FLUX_LINEAR_SEED={seed}: {events:#?}");
    }
}

#[test]
fn what_anyone_saw_before_a_kill_is_there_after_it() {
    let (first, rounds) = rounds();
    for seed in first..first + rounds {
        let dir = TempDir::new().unwrap();
        let args = ["--appendfsync", "always"];
        let server = Process::flux_in(dir.path(), &args);
        let events = play(&server, seed, || server.kill());
        drop(server);
        let again = Process::flux_in(dir.path(), &args);
        let Answer::All(last) = carry_out(&mut again.connect(), &Op::GetAll).unwrap() else {
            unreachable!("it answers with all")
        };
        assert!(is_linearizable(&events, State::default(), Some(last)), "FLUX_LINEAR_SEED={seed}: {last:?} after {events:#?}");
    }
}

#[test]
fn the_checker_knows_good_histories_from_bad_ones() {
    let event = |op, answer, began, ended| Event { op, answer, began, ended };
    let check = |events: &[Event], last: Option<State>| is_linearizable(events, State::default(), last);
    let with = |value| {
        let mut state = State::default();
        state[0] = Some(value);
        state
    };
    // A read while a write is under way may see it or not.
    for seen in [None, Some(5)] {
        let read = event(Op::Get(0), Answer::Value(seen), 2, 3);
        assert!(check(&[event(Op::Set(0, 5), Answer::Done, 1, 4), read], None));
    }
    // One after it must, and two readers must not disagree on the order.
    let write = event(Op::Set(0, 5), Answer::Done, 1, 2);
    assert!(!check(&[write.clone(), event(Op::Get(0), Answer::Value(None), 3, 4)], None));
    let long = event(Op::Set(0, 5), Answer::Done, 1, 9);
    let (new, old) = (event(Op::Get(0), Answer::Value(Some(5)), 2, 3), event(Op::Get(0), Answer::Value(None), 4, 5));
    assert!(!check(&[long.clone(), new, old], None));
    // Two counts never come to the same number.
    let counts = [event(Op::Incr(0), Answer::Value(Some(1)), 1, 4), event(Op::Incr(0), Answer::Value(Some(1)), 2, 3)];
    assert!(!check(&counts, None));
    // What was read, and is not there in the end, was lost; what nobody was told of may be.
    let unanswered = event(Op::Set(0, 5), Answer::Unknown, 1, u64::MAX);
    assert!(check(std::slice::from_ref(&unanswered), None) && check(std::slice::from_ref(&unanswered), Some(with(5))));
    assert!(check(std::slice::from_ref(&unanswered), Some(State::default())));
    let read = event(Op::Get(0), Answer::Value(Some(5)), 2, 3);
    assert!(!check(&[unanswered, read], Some(State::default())));
    // A watched transaction that went through saw what it depends on.
    let sum = event(Op::WatchedSum(0, 1), Answer::Value(Some(1)), 3, 4);
    assert!(!check(&[write, sum], None));
}
