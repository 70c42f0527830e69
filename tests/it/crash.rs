//! The binary is killed at random points, also during checkpoints, and started again: what it then holds must be what
//! was there after some whole command or transaction, none of it torn, and nothing lost that was promised to last. What that is
//! is told by a keyspace in memory that runs the same again, and, for more than it can tell, by a real redis-server.
//!
//! `FLUX_CRASH_ROUNDS` says how often, `FLUX_CRASH_SEED` where the chance begins.

mod like_redis;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use flux::clock;
use flux::engine::persist;
use flux::{Flux, store::Blocking};

use crate::workload::{self, Seeded, Words, ask, dump, text};

/// Rounds that share a folder; then a new one is begun, so that the reference has little to run again.
const ROUNDS_PER_FOLDER: u64 = 10;
/// With `everysec`, what was answered this long before the kill must be there. A mere kill loses milliseconds; a busy
/// machine that does not let the process run takes longer.
const MAY_LOSE: Duration = Duration::from_millis(1000);
/// Units on their way at once.
const PIPELINE: usize = 8;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn a_killed_server_comes_back_with_all_it_promised() {
    rounds(100, || Again);
}

/// What the server's state after a crash is compared with.
trait Reference {
    /// The next thing a client does.
    fn unit(&self, chance: &mut Seeded, number: usize) -> Unit;

    /// After how many units it has the state that is found, which must be after those that were promised; else why not.
    fn lasted(&mut self, found: &mut redis::Connection, history: &History, promised: usize) -> Result<usize, String>;
}

/// So many of each hundred rounds that were asked for, with a new reference for each folder.
fn rounds<R: Reference>(per_hundred: u64, new: impl Fn() -> R) {
    let rounds = (number("FLUX_CRASH_ROUNDS", 10) * per_hundred).div_ceil(100);
    let first = number("FLUX_CRASH_SEED", clock::now_ms());
    for folder in 0..rounds.div_ceil(ROUNDS_PER_FOLDER) {
        let dir = tempfile::tempdir().unwrap();
        let (mut reference, mut history) = (new(), History::default());
        for round in folder * ROUNDS_PER_FOLDER..rounds.min((folder + 1) * ROUNDS_PER_FOLDER) {
            let seed = first.wrapping_add(round);
            println!("round {round}, FLUX_CRASH_SEED={seed}");
            crash(dir.path(), seed, &mut reference, &mut history);
        }
        let checked = persist::check(dir.path(), 10).unwrap();
        assert_eq!(checked.problems, [], "folder {folder} of FLUX_CRASH_SEED={first}");
    }
}

/// A command, or several as a transaction.
type Unit = Vec<Words>;

/// All that was sent and is known to have lasted.
#[derive(Default)]
struct History {
    units: Vec<Unit>,
    /// How many of them were there after the last crash.
    lasted: usize,
    /// When each was answered; before this round's, None.
    answered: Vec<Option<Instant>>,
}

/// The number of a unit, kept where the random commands do not come.
fn mark(number: usize) -> Unit {
    vec![
        vec!["SELECT".into(), "9".into()],
        vec!["SET".into(), "mark".into(), number.to_string()],
        vec!["SELECT".into(), "0".into()],
    ]
}

/// A unit as it is sent.
fn packed(unit: &Unit) -> Vec<u8> {
    let is_transaction = unit.len() > 1;
    let mut packed = Vec::new();
    if is_transaction {
        packed.extend(redis::cmd("MULTI").get_packed_command());
    }
    unit.iter().for_each(|words| packed.extend(redis::cmd(&words[0]).arg(&words[1..]).get_packed_command()));
    if is_transaction {
        packed.extend(redis::cmd("EXEC").get_packed_command());
    }
    packed
}

/// How often it is answered.
fn replies_of(unit: &Unit) -> usize {
    unit.len() + if unit.len() > 1 { 2 } else { 0 }
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path, fsync: &str, memory_limit: &str) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_flux"))
            .args(["serve", "--port", "0", "--http-port", "off", "--checkpoint-bytes", "1mb", "--appendfsync", fsync])
            .args(["--memory-limit", memory_limit, "--enable-debug-command", "yes", "--loglevel", "warning", "--data"])
            .arg(dir)
            .env_remove("FLUX_CRASH_ROUNDS")
            .env_remove("FLUX_CRASH_SEED")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let start = line.find("redis://").unwrap_or_else(|| panic!("the server did not start: {line:?}"));
        let url = line[start..].split([',', ';', ' ', '\n']).next().unwrap().to_owned();
        Server { child, url }
    }

    fn connect(&self) -> redis::Connection {
        redis::Client::open(&*self.url).unwrap().get_connection().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn crash(dir: &Path, seed: u64, reference: &mut impl Reference, history: &mut History) {
    let mut chance = Seeded::new(seed);
    let is_always = chance.below(2) == 0;
    let is_asked_to_end = chance.below(6) == 0;
    // Below what the process takes for itself: what can be dropped from memory is dropped.
    let memory_limit = if chance.below(2) == 0 { "1mb" } else { "0" };
    let before = history.lasted;
    let server = Server::start(dir, if is_always { "always" } else { "everysec" }, memory_limit);
    let is_over = AtomicBool::new(false);
    let life_max = if chance.below(5) == 0 { 1500 } else { 250 };
    let life = Duration::from_millis(5 + chance.below(life_max));
    std::thread::scope(|scope| {
        let pid = server.child.id().to_string();
        let is_over = &is_over;
        // Before anyone may kill it.
        let mut connection = server.connect();
        scope.spawn(move || {
            std::thread::sleep(life);
            if is_asked_to_end {
                is_over.store(true, SeqCst);
                std::thread::sleep(Duration::from_millis(300));
            }
            let signal = if is_asked_to_end { "-TERM" } else { "-KILL" };
            assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
            is_over.store(true, SeqCst);
        });
        drive(&mut connection, &mut chance, reference, history, is_over);
    });
    let killed_at = Instant::now();
    let mut server = server;
    let status = server.child.wait().unwrap();
    assert!(!is_asked_to_end || status.success(), "seed {seed}: it ended with {status}");

    let must_last = |at: &Option<Instant>| match at {
        None => false,
        Some(at) => is_always || is_asked_to_end || killed_at - *at > MAY_LOSE,
    };
    let promised = history.answered.iter().rposition(must_last).map_or(before, |last| (last + 1).max(before));
    let server = Server::start(dir, "everysec", memory_limit);
    let lasted = reference.lasted(&mut server.connect(), history, promised);
    let lasted = lasted.unwrap_or_else(|error| {
        panic!("FLUX_CRASH_SEED={seed}: after {} units of which {promised} were promised to last: {error}", history.units.len())
    });
    println!("  {} sent, {} promised, {} lasted", history.units.len() - before, promised - before, lasted - before);
    history.units.truncate(lasted);
    (history.lasted, history.answered) = (lasted, vec![None; lasted]);
}

/// What is done to the server in between.
const CHORES: &[&[&str]] = &[&["BGSAVE"], &["SAVE"], &["DEBUG", "SPILL"]];

/// Sends units and notes which were answered, until the server is gone.
fn drive(
    connection: &mut redis::Connection,
    chance: &mut Seeded,
    reference: &impl Reference,
    history: &mut History,
    is_over: &AtomicBool,
) {
    while !is_over.load(SeqCst) {
        let start = history.units.len();
        let count = 1 + chance.below(PIPELINE as u64) as usize;
        let mut sent = Vec::new();
        let mut replies = Vec::new();
        if chance.below(60) == 0 {
            let chore = CHORES[chance.below(CHORES.len() as u64) as usize];
            sent.extend(redis::cmd(chore[0]).arg(&chore[1..]).get_packed_command());
            replies.push(1);
        }
        for number in start..start + count {
            let unit = reference.unit(chance, number);
            sent.extend(packed(&unit));
            replies.push(replies_of(&unit));
            history.units.push(unit);
            history.answered.push(None);
        }
        if connection.send_packed_command(&sent).is_err() {
            return;
        }
        let extra = replies.len() - count;
        for (position, replies) in replies.into_iter().enumerate() {
            for _ in 0..replies {
                if connection.recv_response().is_err_and(|error| error.is_io_error() || error.is_connection_dropped()) {
                    return;
                }
            }
            if position >= extra {
                history.answered[start + position - extra] = Some(Instant::now());
            }
        }
    }
}

/// A keyspace in memory that runs all of it again.
struct Again;

impl Reference for Again {
    fn unit(&self, chance: &mut Seeded, number: usize) -> Unit {
        if number % 4 == 3 {
            return mark(number);
        }
        let len = if chance.below(3) == 0 { 2 + chance.below(4) } else { 1 };
        (0..len).map(|part| workload::command(chance, number as u64 * 10 + part, clock::now_ms())).collect()
    }

    /// The latest state that is the same.
    fn lasted(&mut self, found: &mut redis::Connection, history: &History, promised: usize) -> Result<usize, String> {
        let found_mark = mark_of(found);
        let found = dump(found, clock::now_ms());
        let flux = Flux::in_memory();
        let mut store = flux.blocking();
        let mut matching = None;
        let mut nearest = String::new();
        for number in 0..=history.units.len() {
            if number > 0 {
                run(&mut store, &history.units[number - 1]);
            }
            if mark_of(&mut store) != found_mark {
                continue;
            }
            match difference(&dump(&mut store, clock::now_ms()), &found) {
                None => matching = Some(number),
                Some(difference) => nearest += &format!("after {number} units: {difference}\n"),
            }
        }
        match matching {
            None => Err(format!("the state is that of no prefix (mark {found_mark}):\n{nearest}")),
            Some(number) if number < promised => Err(format!("only {number} units did:\n{nearest}")),
            Some(number) => Ok(number),
        }
    }
}

fn mark_of(connection: &mut dyn redis::ConnectionLike) -> String {
    ask(connection, &["SELECT", "9"]);
    let mark = text(ask(connection, &["GET", "mark"]));
    ask(connection, &["SELECT", "0"]);
    mark
}

/// As the server runs it: a transaction with a command that cannot even be queued does nothing.
fn run(store: &mut Blocking, unit: &Unit) {
    let is_transaction = unit.len() > 1;
    if is_transaction {
        store.call(&[b"MULTI"]);
    }
    for words in unit {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        store.call(&words);
    }
    if is_transaction {
        store.call(&[b"EXEC"]);
    }
}

fn difference(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Option<String> {
    let mut keys = expected.keys().chain(found.keys());
    let key = keys.find(|key| expected.get(*key) != found.get(*key))?;
    let show = |state: &BTreeMap<String, String>| format!("{:?}", state.get(key));
    Some(format!("{key}: {}", workload::difference(&show(expected), &show(found))))
}
