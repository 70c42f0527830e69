//! What is written lasts: folded and loaded, replayed, spilled and read back, backed up and restored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use flux::clock;
use flux::commands::instance::Instance;
use flux::config::Config;
use flux::engine::durability::LineShare;
use flux::engine::persist::{self, Fsync, Options, Persistence, apply, batch, fold, load, replay};
use flux::engine::shard::DATABASES;
use flux::engine::value::{Kind, Value};
use flux::engine::{Engine, SHARDS};
use flux::memory;
use flux::storage::tables::Meta;
use flux::storage::{Disk, Files, Journal, Tables, journal};
use flux::store::Blocking;

use crate::disk::{Hooked, Hooks};
use crate::process::{self, Connection, Process, Reply};
use crate::workload::{self, Seeded, ask, difference, dump};

/// The first byte of the rows of a stream's consumers.
const CONSUMER: u8 = 3;

/// A key with its stored database, to kind, expiry and rows.
pub type Contents = BTreeMap<(usize, Vec<u8>), (String, Option<u64>, Vec<(Vec<u8>, Vec<u8>)>)>;

/// What an engine holds.
pub fn contents(engine: &Engine) -> Contents {
    let mut all = BTreeMap::new();
    engine.each_shard(|_, shard| {
        for db in 0..DATABASES {
            let database = shard.database(db as u8);
            for entry in database.keys().iter() {
                let mut rows = Vec::new();
                let value = entry.value().rows().expect("it is in memory");
                value.each_row(&mut |element, bytes| rows.push((element.to_vec(), bytes.to_vec())));
                rows.sort();
                if entry.value().kind() == Kind::Stream {
                    // When a consumer was last seen is not worth a write, in Redis neither.
                    rows.iter_mut().filter(|(element, _)| element[0] == CONSUMER).for_each(|(_, bytes)| bytes[..8].fill(0));
                }
                let kind = entry.value().kind().name().to_owned();
                all.insert((db, entry.key().to_vec()), (kind, database.expire_at(entry), rows));
            }
        }
    });
    all
}

pub fn store_on(engine: &Arc<Engine>) -> Blocking {
    Blocking::new(&Instance::new(engine.clone(), Arc::new(Config::default()), clock::now_ms()))
}

pub fn store_kept(engine: &Arc<Engine>, persistence: &Persistence) -> Blocking {
    let instance = Instance::new(engine.clone(), Arc::new(Config::default()), clock::now_ms());
    instance.set_durability(Arc::new(persistence.clone()));
    Blocking::new(&instance)
}

pub fn run(store: &mut Blocking, words: &[String]) {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    store.call(&words);
}

/// The batch a cut makes, in a run of the program where keys happen to live in other shards.
pub fn batch_of(engine: &Engine, run: u8) -> Vec<u8> {
    let mut cut = engine.cut();
    cut.shards.iter_mut().for_each(|(shard, _)| *shard = (*shard + 13 * run) % SHARDS as u8);
    cut.shards.sort_by_key(|(shard, _)| *shard);
    batch::Heads::new(&cut, run.into()).pieces(&cut).concat()
}

#[test]
fn folded_and_loaded_equals_replayed_equals_what_happened() {
    let rounds = std::env::var("FLUX_FOLD_ROUNDS").map_or(12, |rounds| rounds.parse().expect("a number"));
    // To find the step that goes wrong.
    let looks = std::env::var("FLUX_FOLD_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in looks.unwrap_or(0)..looks.map_or(rounds, |seed| seed + 1) {
        let looks = looks.is_some();
        let mut chance = Seeded::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
        let mut tables = Tables::create(&Files::default(), &dir.path().join("tables.redb"), 1 << 20, meta).unwrap();
        let (live, replayed) = (Arc::new(Engine::new(true)), Engine::new(false));
        // Every other time even the smallest value goes from one key to another in a parcel.
        if seed % 2 == 0 {
            live.set_parcel_bytes_min(0);
        }
        let mut store = store_on(&live);
        let (mut batches, mut unreplayed, mut run_number) = (Vec::new(), Vec::new(), 0);
        let now = clock::now_ms();
        for step in 0..600 {
            let words = workload::command(&mut chance, step, now + 1_000_000);
            run(&mut store, &words);
            if chance.below(8) == 0 || looks {
                let bytes = batch_of(&live, run_number);
                let told = || format!("seed {seed}, step {step}: {words:?}: {}", bytes.escape_ascii());
                let fits = fold::Fold::default().add_batches(&[&bytes]);
                fits.unwrap_or_else(|error| panic!("fold: {error}: {}", told()));
                unreplayed.push(bytes.clone());
                if looks || unreplayed.len() == 5 {
                    let done = replay::replay(&replayed, &(), std::mem::take(&mut unreplayed).iter().map(Vec::as_slice), now);
                    done.unwrap_or_else(|error| panic!("replay: {error}: {}", told()));
                }
                if looks {
                    same(seed, &told(), &contents(&live), &contents(&replayed));
                }
                batches.push(bytes);
                run_number = (run_number + u8::from(chance.below(20) == 0)) % 4;
            }
            if chance.below(60) == 0 {
                tables = applied(tables, std::mem::take(&mut batches), step, &mut chance);
            }
        }
        batches.push(batch_of(&live, run_number));
        unreplayed.extend(batches.last().cloned());
        replay::replay(&replayed, &(), unreplayed.iter().map(Vec::as_slice), now).unwrap();
        let tables = applied(tables, batches, 1000, &mut chance);
        assert_eq!(tables.meta().unwrap().covered, 1000);
        // However they were written, they take what they would take if written at once.
        let again = apply::rebuild(&tables, &Files::default(), 1 << 20, 1000, || Ok(None::<fold::Fold>)).unwrap();
        assert_eq!(again.bytes().unwrap(), tables.bytes().unwrap(), "seed {seed}");
        let tables = again;
        let loaded = Engine::new(false);
        load::load(&loaded, &tables, now, 0, &Default::default()).unwrap();
        let expected = contents(&live);
        assert!(!expected.is_empty(), "seed {seed} does nothing");
        same(seed, "replayed", &expected, &contents(&replayed));
        same(seed, "loaded", &expected, &contents(&loaded));
    }
}

#[test]
fn values_that_got_other_keys_are_found_in_however_many_passes_a_checkpoint_takes() {
    [false, true].into_iter().for_each(values_that_got_other_keys_are_found);
}

/// Where much else changes too, the tables are written anew.
fn values_that_got_other_keys_are_found(is_much: bool) {
    const BALLAST: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let (engine, persistence) = Persistence::open(dir.path(), Options::default()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    let mut run = |words: &[&str]| run(&mut store, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let text = |letter: &str| letter.repeat(700_000);
    let checkpoint = || persistence.checkpoint().blocking_recv().unwrap().unwrap();
    let push = |run: &mut dyn FnMut(&[&str]), key: &str| {
        (0..14).for_each(|number| run(&["RPUSH", key, &format!("{key}{number}").repeat(10_000)]));
    };
    for key in ["old:1", "old:2", "old:3"] {
        run(&["SET", key, &text(&key[4..])]);
    }
    push(&mut run, "list:1");
    (0..BALLAST).for_each(|number| run(&["SET", &format!("ballast:{number}"), &text("b")]));
    checkpoint();
    // In the tables and before any other, in the tables and behind all others, in the journal, there and back, a copy, and one key for many.
    run(&["RENAME", "old:1", "a:1"]);
    run(&["RENAME", "old:2", "z:2"]);
    run(&["APPEND", "z:2", "and more"]);
    run(&["COPY", "old:3", "b:3"]);
    run(&["MOVE", "old:3", "1"]);
    run(&["RENAME", "list:1", "c:1"]);
    run(&["RPUSH", "c:1", "one more"]);
    run(&["RENAME", "c:1", "list:1"]);
    for number in 0..4 {
        push(&mut run, "zz");
        run(&["PEXPIRE", "zz", "100000000"]);
        run(&["RENAME", "zz", &format!("{}:{number}", ["d", "y", "e", "x"][number])]);
    }
    run(&["SET", "old:1", "another"]);
    // What a checkpoint knows of so many takes three passes.
    let others = if is_much { 40_000 } else { 0 };
    (0..others).for_each(|number| run(&["SET", &format!("m:{number}"), "other"]));
    let file = || std::fs::metadata(dir.path().join("tables.redb")).unwrap().ino();
    let before = file();
    let journaled = persistence.stats().journal_bytes;
    assert!(journaled < 6 << 20, "{journaled} bytes are journaled");
    let held = contents(&engine);
    assert_eq!(held.len(), 10 + BALLAST + others);
    // A checkpoint has an eighth of this for its work.
    persistence.set_memory_limit(16 << 20);
    checkpoint();
    assert_eq!(file() != before, is_much, "whether the tables were written anew");
    persistence.close(false).unwrap();
    let (engine, persistence) = Persistence::open(dir.path(), Options::default()).unwrap();
    assert_eq!(persistence.loaded().batches, 0);
    assert!(held == contents(&engine), "{:?}", contents(&engine).keys());
    persistence.close(false).unwrap();
    assert_eq!(persist::check(dir.path(), 10).unwrap().problems, []);
}

#[test]
fn rows_of_a_large_value_stay_where_they_are_in_the_tables_when_it_gets_another_key() {
    let (live, now) = (Arc::new(Engine::new(true)), clock::now_ms());
    live.set_parcel_bytes_min(0);
    let mut store = store_on(&live);
    let mut run = |words: &[&str]| run(&mut store, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
    let tables = Tables::create(&Files::default(), &dir.path().join("tables.redb"), 1 << 20, meta).unwrap();
    let changed = |covered: u64| {
        let mut fold = fold::Fold::default();
        fold.add_batches(&[&batch_of(&live, 0)]).unwrap();
        apply::apply(&tables, &fold, covered).unwrap();
        let loaded = Engine::new(false);
        load::load(&loaded, &tables, now, 0, &Default::default()).unwrap();
        same(covered, "loaded", &contents(&live), &contents(&loaded));
        tables.meta().unwrap().next_id
    };
    for key in ["a", "y"] {
        (0..1000).for_each(|number| run(&["RPUSH", key, &format!("{key}{number}")]));
    }
    let next_id = changed(1);
    run(&["RENAME", "a", "z"]);
    run(&["RENAME", "y", "b"]);
    assert_eq!(changed(2), next_id);
    // Each gets the other's key, and is changed.
    run(&["RENAME", "z", "other"]);
    run(&["RENAME", "b", "z"]);
    run(&["RENAME", "other", "b"]);
    run(&["LSET", "b", "500", "changed"]);
    assert_eq!(changed(3), next_id);
    // A copy, and another database, have rows of their own.
    run(&["COPY", "b", "c"]);
    run(&["MOVE", "z", "1"]);
    assert_eq!(changed(4), next_id + 2);
    // Where the two keys are written in different passes, its rows are copied, whichever comes first, and those it had go.
    run(&["RENAME", "b", "x"]);
    run(&["RENAME", "c", "a"]);
    run(&["LSET", "a", "7", "changed"]);
    let batch = batch_of(&live, 0);
    let mut all = fold::Fold::default();
    all.add_batches(&[&batch]).unwrap();
    let moves = all.take_moves();
    let middle = || Some((0, b"b~".to_vec()));
    let mut passes = [(None, middle()), (middle(), None)].into_iter();
    apply::change(&tables, 5, || {
        let Some((from, below)) = passes.next() else { return Ok(None) };
        let mut fold = fold::Fold::between(from, below, &moves);
        fold.add_batches(&[&batch]).unwrap();
        fold.forget_others();
        assert_eq!(fold.key_count(), 2);
        Ok(Some(fold))
    })
    .unwrap();
    let loaded = Engine::new(false);
    load::load(&loaded, &tables, now, 0, &Default::default()).unwrap();
    same(5, "loaded", &contents(&live), &contents(&loaded));
    assert_eq!(tables.meta().unwrap().next_id, next_id + 4);
    let again = apply::rebuild(&tables, &Files::default(), 1 << 20, 5, || Ok(None::<fold::Fold>)).unwrap();
    assert_eq!(again.bytes().unwrap(), tables.bytes().unwrap(), "rows that belong to no key are left");
}

#[test]
fn what_was_lost_before_it_got_another_key_is_lost_there_too_and_told() {
    let (live, replayed, now) = (Arc::new(Engine::new(true)), Engine::new(false), clock::now_ms());
    live.set_parcel_bytes_min(0);
    let mut store = store_on(&live);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    ["SET a 1", "SET b 2", "SET c 3"].into_iter().for_each(|line| run(&mut store, &words(line)));
    drop(batch_of(&live, 0));
    let lines = ["SET a:to x", "RENAME a a:to", "RENAME b b:to", "APPEND b:to 4", "COPY c c:to", "SET d 5", "RENAME d d:to"];
    lines.into_iter().for_each(|line| run(&mut store, &words(line)));
    let batch = batch_of(&live, 0);
    assert_eq!(replay::replay(&replayed, &(), [&batch[..]], now), Ok(3));
    let left = contents(&replayed);
    assert_eq!(left.keys().map(|(_, key)| &key[..]).collect::<Vec<_>>(), [b"b:to", b"d:to"]);
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
    let tables = Tables::create(&Files::default(), &dir.path().join("tables.redb"), 1 << 20, meta).unwrap();
    let tables = applied(tables, vec![batch], 1, &mut Seeded::new(1));
    let loaded = Engine::new(false);
    load::load(&loaded, &tables, now, 0, &Default::default()).unwrap();
    same(0, "loaded", &left, &contents(&loaded));
}

/// Brings batches into tables: at once or in passes, where they are or into new ones.
fn applied(tables: Tables, batches: Vec<Vec<u8>>, covered: u64, chance: &mut Seeded) -> Tables {
    let is_rebuilt = chance.below(2) == 0;
    let halves = [0, 4, 40][chance.below(3) as usize];
    let all: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
    let mut first = fold::Fold::default();
    first.add_batches(&all).unwrap();
    let moves = first.take_moves();
    // Some of what they put is left in the journal, or all of it.
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Files::default());
    let journal = Journal::create(&disk, dir.path(), 1, 0, 10_000).unwrap();
    for (seq, batch) in (1..).zip(&batches) {
        journal.append(&[journal::Batch { seq, pieces: vec![batch] }]).unwrap();
    }
    let (reading, left_from) = (Arc::new(journal.reading()), [0, 20, usize::MAX][chance.below(3) as usize]);
    let mut next = Some(None);
    let folds = || {
        let Some(from) = next.take() else { return Ok(None) };
        let journaled = fold::Journaled::of(Arc::clone(&reading)).leaving(left_from);
        let mut fold = fold::Fold::between(from, None, &moves).from_journal(journaled);
        let (mut stretch, mut is_end) = (journal::Stretch::after(0), false);
        while !is_end {
            is_end = reading.read_stretch(u64::MAX, 3000, &mut stretch)?;
            fold.add(stretch.batches())?;
            while fold.key_count() > 3 && chance.below(100) < halves && fold.halve() {}
        }
        fold.forget_others();
        next = fold.below().cloned().map(Some);
        Ok(Some(fold))
    };
    if is_rebuilt {
        apply::rebuild(&tables, &Files::default(), 1 << 20, covered, folds).unwrap()
    } else {
        apply::change(&tables, covered, folds).unwrap();
        tables
    }
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    seed: u64,
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) {
    for (key, value) in expected {
        let other = found.get(key);
        assert!(
            other == Some(value),
            "seed {seed}: {what} {key:?}: {}",
            difference(&format!("{:?}", Some(value)), &format!("{other:?}"))
        );
    }
    for key in found.keys() {
        assert!(expected.contains_key(key), "seed {seed}: {what} has {key:?} too many");
    }
}

fn quick() -> Options {
    Options { fsync: Fsync::Everysec, ..Options::default() }
}

/// Runs commands on a folder and closes it.
fn with_folder(dir: &Path, options: Options, with_checkpoint: bool, act: impl FnOnce(&mut Blocking, &Persistence)) {
    let (engine, persistence) = Persistence::open(dir, options).unwrap();
    act(&mut store_kept(&engine, &persistence), &persistence);
    persistence.close(with_checkpoint).unwrap();
}

#[test]
fn everything_is_there_after_a_restart_with_and_without_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = BTreeMap::new();
    let now = clock::now_ms();
    let mut chance = Seeded::new(7);
    for round in 0..6 {
        with_folder(dir.path(), quick(), round % 2 == 0, |store, persistence| {
            same(round, "restarted", &expected, &dump(store, now));
            for step in 0..300 {
                run(store, &workload::command(&mut chance, round * 1000 + step, now));
                if step == 150 {
                    drop(persistence.checkpoint());
                }
            }
            expected = dump(store, now);
        });
        let checked = persist::check(dir.path(), 10).unwrap();
        assert_eq!(checked.problems, [], "round {round}");
    }
    assert!(expected.len() > 10);
}

#[test]
fn changes_that_do_not_fit_into_memory_are_written_in_passes() {
    let dir = tempfile::tempdir().unwrap();
    // A pass holds two megabytes of changes under this limit.
    let options = || Options { memory_limit: 1 << 20, checkpoint_bytes: 1 << 30, ..quick() };
    let mut expected = BTreeMap::new();
    for round in 0..2 {
        with_folder(dir.path(), options(), true, |store, _| {
            for number in (0..20_000).filter(|number| round == 0 || number % 3 == 0) {
                let (key, value) = (format!("key:{number}"), format!("{round}{number}").repeat(20));
                ask(store, &["SET", &key, &value]);
                expected.insert(key, value);
            }
        });
    }
    assert_eq!(persist::check(dir.path(), 1).unwrap().problems, []);
    with_folder(dir.path(), quick(), false, |store, persistence| {
        assert_eq!((persistence.loaded().keys, persistence.loaded().batches), (20_000, 0));
        for (key, value) in &expected {
            assert_eq!(&workload::text(ask(store, &["GET", key])), value);
        }
    });
}

#[test]
fn however_often_values_go_from_key_to_key_a_checkpoint_takes_little_memory() {
    if !process::is_alone("persist::however_often_values_go_from_key_to_key_a_checkpoint_takes_little_memory") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_bytes: 1 << 30, ..quick() };
    let (engine, persistence) = Persistence::open(dir.path(), options).unwrap();
    engine.set_parcel_bytes_min(0);
    let mut store = store_kept(&engine, &persistence);
    let key = |number: usize| format!("key:{}", number % 1000);
    ask(&mut store, &["SET", &key(0), "value"]);
    let moves = 100_000;
    for number in 0..moves {
        store.call(&[b"RENAME", key(number).as_bytes(), key(number + 1).as_bytes()]);
    }
    // A checkpoint has a megabyte for what it keeps in mind.
    persistence.set_memory_limit(1);
    let before = memory::used_bytes();
    let mut most = 0;
    let mut checkpoint = persistence.checkpoint();
    while checkpoint.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
        most = most.max(memory::used_bytes().saturating_sub(before));
        std::thread::yield_now();
    }
    assert!(persistence.stats().last_checkpoint_ok && persistence.stats().journal_bytes == 0);
    assert!(most < 6 << 20, "a checkpoint of {moves} moves takes {most} bytes");
    persistence.close(false).unwrap();
    with_folder(dir.path(), quick(), false, |store, persistence| {
        assert_eq!((persistence.loaded().keys, persistence.loaded().batches), (1, 0));
        assert_eq!(workload::text(ask(store, &["GET", &key(moves)])), "value");
    });
}

#[test]
fn rows_of_a_text_that_was_replaced_before_it_got_another_key_are_gone_from_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    with_folder(dir.path(), quick(), true, |store, persistence| {
        // So much that little is changed, and it is changed in place.
        ask(store, &["SET", "much", &"x".repeat(200_000)]);
        let add = |store: &mut Blocking, from: u32, to: u32| {
            (from..to).for_each(|number| drop(ask(store, &["PFADD", "guess", &number.to_string()])));
        };
        // Sparse yet, but too large for a record.
        let len = |store: &mut Blocking| workload::text(ask(store, &["STRLEN", "guess"])).parse::<u64>().unwrap();
        let large = (0..).step_by(10).find(|from| {
            add(store, *from, from + 10);
            len(store) > 2000
        });
        assert!(len(store) < 4000, "it is dense, and written into");
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        let large = large.unwrap();
        add(store, large, large + 4000);
        ask(store, &["APPEND", "guess", &"x".repeat(10_000)]);
        ask(store, &["COPY", "guess", "copy"]);
        ask(store, &["RENAME", "guess", "other"]);
    });
    assert_eq!(persist::check(dir.path(), 10).unwrap().problems, []);
}

#[test]
fn writers_are_held_back_while_the_journal_nears_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    with_folder(dir.path(), Options { checkpoint_bytes: 100, ..quick() }, false, |store, persistence| {
        let line_up = || persistence.line_up(1 << 20, &mut LineShare::default());
        assert_eq!(line_up(), None);
        let value = "x".repeat(100_000);
        let start = Instant::now();
        let place = loop {
            if let Some(place) = line_up() {
                break place;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the journal grew and nobody was held back");
            ask(store, &["SET", "key", &value]);
            persistence.poke();
        };
        assert!(persistence.stats().pauses > 0);
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        assert!(!persistence.is_pressed() && line_up().is_none());
        assert_eq!(persistence.pause(place), None, "who stood in the line waits on");
    });
}

#[test]
fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    with_folder(dir.path(), quick(), true, |_, _| {
        let error = Persistence::open(dir.path(), quick()).err().expect("it is in use").to_string();
        assert!(error.contains("another process") && error.contains(dir.path().to_str().unwrap()), "{error}");
    });
    with_folder(dir.path(), quick(), true, |_, _| {});
}

#[test]
fn keys_whose_time_came_while_nobody_looked_are_gone_from_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    with_folder(dir.path(), quick(), true, |store, _| {
        // Long enough that a slow machine saves the one key in time.
        ask(store, &["SET", "short", "x", "PX", "500"]);
        ask(store, &["SET", "saved", "x", "PX", "500"]);
        ask(store, &["SET", "long", "x", "EX", "1000"]);
        ask(store, &["PERSIST", "saved"]);
    });
    // Nothing can be waited for here: time itself has to pass.
    std::thread::sleep(Duration::from_millis(520));
    with_folder(dir.path(), quick(), true, |store, persistence| {
        assert_eq!(persistence.loaded().keys, 2);
        assert_eq!(workload::text(ask(store, &["EXISTS", "saved", "long", "short"])), "2");
    });
    assert_eq!(persist::check(dir.path(), 1).unwrap().keys, 2);
}

#[test]
fn what_is_no_backup_is_not_restored_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (other, new) = (dir.path().join("other"), dir.path().join("new"));
    std::fs::write(&other, b"something else").unwrap();
    let (_engine, persistence) = Persistence::open(&dir.path().join("state"), quick()).unwrap();
    persistence.close(true).unwrap();
    for file in [other, dir.path().join("state/tables.redb")] {
        let error = persist::restore(&file, &new).unwrap_err().to_string();
        assert!(error.contains("not a whole backup") && error.contains("flux backup FILE"), "{error}");
        assert_eq!(std::fs::read_dir(&new).unwrap().count(), 0);
    }
}

#[test]
fn a_key_that_came_with_its_value_and_then_got_another_expires_when_it_did() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (engine, persistence) = Persistence::open(dir.path(), quick()).unwrap();
        engine.set_parcel_bytes_min(0);
        let mut store = store_kept(&engine, &persistence);
        ask(&mut store, &["SET", "a", "1", "PXAT", "4102444800000"]);
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        ask(&mut store, &["RENAME", "a", "b"]);
        ask(&mut store, &["INCR", "b"]);
        persistence.close(true).unwrap();
    }
    with_folder(dir.path(), quick(), false, |store, _| {
        let found = [["GET", "b"], ["PEXPIRETIME", "b"]].map(|words| workload::text(ask(store, &words)));
        assert_eq!(found, ["2", "4102444800000"]);
    });
}

/// The steps of a restore, undone one by one: a kill may come before each of them.
#[test]
fn a_restore_that_was_killed_is_no_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, new) = (dir.path().join("backup"), dir.path().join("new"));
    with_folder(&dir.path().join("state"), quick(), false, |store, persistence| {
        ask(store, &["SET", "key", "value"]);
        persistence.backup(&backup).unwrap();
    });
    persist::restore(&backup, &new).unwrap();
    std::fs::rename(new.join("tables.redb"), new.join("tables.redb.part")).unwrap();
    let refusal = || Persistence::open(&new, quick()).err().expect("it is not whole").to_string();
    assert!(refusal().contains("tables.redb"), "{}", refusal());
    let journal = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("journal-");
    for entry in std::fs::read_dir(&new).unwrap().map(Result::unwrap).filter(journal) {
        std::fs::remove_file(entry.path()).unwrap();
    }
    assert!(refusal().contains("a restore into this folder was broken off"), "{}", refusal());
    let problems = persist::check(&new, 1);
    assert!(problems.is_err_and(|error| error.to_string().contains("broken off")));
}

#[test]
fn what_a_killed_backup_left_is_removed_by_the_next_one_to_the_same_place() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str, is_old: bool| {
        let part = File::create(dir.path().join(name)).unwrap();
        let at = if is_old { UNIX_EPOCH } else { UNIX_EPOCH + Duration::from_millis(clock::now_ms()) };
        part.set_modified(at).unwrap();
        part
    };
    part(".copy.17.part", true);
    // These are not its own, or may be under way.
    let others = [".copy.18.part", ".copy.2.19.part", ".other.17.part", ".copy.x.part", "copy.17.part"];
    part(others[0], false);
    others[1..].iter().for_each(|name| drop(part(name, true)));
    let held = part(".copy.20.part", true);
    // A table of redb's, as a backup in another process has it open, too.
    let redb = redb::Database::create(dir.path().join(".copy.21.part")).unwrap();
    File::open(dir.path().join(".copy.21.part")).unwrap().set_modified(UNIX_EPOCH).unwrap();
    held.lock().unwrap();
    with_folder(&dir.path().join("data"), quick(), false, |_, persistence| persistence.backup(&dir.path().join("copy")).unwrap());
    let mut found: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".part"))
        .collect();
    found.sort();
    let mut expected: Vec<&str> = others.into_iter().chain([".copy.20.part", ".copy.21.part"]).collect();
    expected.sort();
    assert_eq!(found, expected);
    drop(redb);
}

#[test]
fn a_backup_made_while_writing_is_whole_and_can_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("copy"), dir.path().join("other"));
    let mut expected = BTreeMap::new();
    let now = clock::now_ms();
    with_folder(&dir.path().join("data"), quick(), false, |store, persistence| {
        let mut chance = Seeded::new(3);
        for step in 0..500 {
            run(store, &workload::command(&mut chance, step, now));
        }
        expected = dump(store, now);
        persistence.backup(&file).unwrap();
        ask(store, &["FLUSHALL"]);
    });
    persist::restore(&file, &other).unwrap();
    assert!(persist::restore(&file, &other).unwrap_err().to_string().contains("not empty"));
    with_folder(&other, quick(), true, |store, _| same(0, "opened", &expected, &dump(store, now)));
    let checked = persist::check(&other, 10).unwrap();
    assert_eq!(checked.problems, []);
    assert!(checked.keys >= expected.len() as u64);
}

#[test]
fn values_dropped_from_memory_are_read_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let now = clock::now_ms();
    let (engine, persistence) = Persistence::open(dir.path(), quick()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    let mut chance = Seeded::new(5);
    for round in 0..5 {
        for step in 0..300 {
            run(&mut store, &workload::command(&mut chance, round * 1000 + step, now));
        }
        // The dump reads everything back, after which all is dropped again, by the limit or at once.
        let expected = dump(&mut store, now);
        persistence.set_memory_limit(u64::from(round % 2 == 0));
        let dropped_at_once = persistence.spill().unwrap();
        assert!(dropped_at_once > 0 || persistence.stats().drops > 0, "nothing is dropped: {:?}", persistence.stats());
        same(round, "read back", &expected, &dump(&mut store, now));
    }
    assert!(persistence.stats().loads > 0);
    let expected = dump(&mut store, now);
    persistence.close(true).unwrap();
    // Started with the limit, values stay on disk and are read when they are asked for.
    let options = Options { memory_limit: 1, ..quick() };
    with_folder(dir.path(), options, true, |store, persistence| {
        same(0, "opened", &expected, &dump(store, now));
        assert!(persistence.stats().loads > 0);
    });
}

#[test]
fn a_start_leaves_room_for_all_keys_under_the_memory_limit() {
    if !process::is_alone("persist::a_start_leaves_room_for_all_keys_under_the_memory_limit") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let keys = 100_000;
    with_folder(dir.path(), quick(), true, |store, _| {
        for number in 0..keys {
            ask(store, &["SET", &format!("key:{number}"), &format!("{number:0100}")]);
        }
    });
    let tables = Tables::open(&Files::default(), &dir.path().join("tables.redb"), 1 << 20).unwrap();
    let engine = Engine::new(true);
    // Keys take seven megabytes, and their values ten.
    let limit = memory::used_bytes() + (10 << 20);
    assert_eq!(load::load(&engine, &tables, clock::now_ms(), limit, &Default::default()).unwrap(), keys);
    let mut dropped = 0;
    engine.each_shard(|_, shard| {
        let keys = shard.database(0).keys();
        dropped += keys.iter().filter(|entry| matches!(entry.value(), Value::OnDisk(_))).count() as u64;
    });
    assert!(dropped > 0 && dropped < keys, "{dropped} of {keys} values stay on disk");
    assert!(memory::used_bytes() < limit + (1 << 20), "{} bytes more than the limit are used", memory::used_bytes() - limit);
}

/// Counts how often a file is read that holds tables, how much is written to it, and how much of the journal is read.
#[derive(Debug, Default)]
struct Counted {
    reads: AtomicU64,
    written: AtomicU64,
    journal_read: AtomicU64,
}

fn is_of_tables(path: &Path) -> bool {
    path.to_string_lossy().contains("tables")
}

impl Hooks for Counted {
    fn read(&self, path: &Path, bytes: usize) -> io::Result<()> {
        if is_of_tables(path) {
            self.reads.fetch_add(1, Relaxed);
        } else {
            self.journal_read.fetch_add(bytes as u64, Relaxed);
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: usize) -> io::Result<()> {
        if is_of_tables(path) {
            self.written.fetch_add(bytes as u64, Relaxed);
        }
        Ok(())
    }
}

#[test]
fn a_checkpoint_reads_and_writes_by_what_changed_however_little_memory_it_has() {
    const KEYS: usize = 4000;
    const BYTES: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::<Counted>::default();
    let options = Options { memory_limit: 0, checkpoint_bytes: 1 << 40, ..quick() };
    let (engine, persistence) = Persistence::open_on(Arc::new(Hooked(counted.clone())), dir.path(), options).unwrap();
    let mut store = store_kept(&engine, &persistence);
    let mut changed = |every: usize, round: u8| {
        for number in (0..KEYS).filter(|number| number % every == 0) {
            ask(&mut store, &["SET", &format!("key:{number}"), &char::from(b'a' + round).to_string().repeat(BYTES)]);
        }
        let count = || [&counted.written, &counted.journal_read].map(|count| count.load(Relaxed) as usize);
        let before = count();
        // A pass holds two megabytes of changes under this limit. It is there only now, since it asks for checkpoints of its own.
        persistence.set_memory_limit(16 << 20);
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        persistence.set_memory_limit(0);
        let after = count();
        (after[0] - before[0], after[1] - before[1])
    };
    let (_, read) = changed(1, 0);
    // Once to see what changed, and once to write it, though it is twenty times what a pass may hold.
    assert!(read < KEYS * BYTES * 5 / 2, "{read} bytes of the journal are read for {} that changed", KEYS * BYTES);
    // Where all of it changes, it is written once, each value in a page of 16 KiB; in place it would be twice.
    let (few, _) = changed(16, 1);
    assert!(few < KEYS / 16 * BYTES * 4, "{few} bytes are written where {} changed", KEYS / 16 * BYTES);
    let (many, _) = changed(1, 2);
    assert!(many < KEYS * BYTES * 3, "{many} bytes are written where {} changed", KEYS * BYTES);
    persistence.close(false).unwrap();
    assert_eq!(persist::check(dir.path(), 1).unwrap().problems, []);
}

#[test]
fn values_at_rest_are_read_as_they_are_while_checkpoints_change_the_file() {
    const KEYS: usize = 300;
    const READERS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memory_limit: 1 << 40, tables_cache_bytes: 0, checkpoint_bytes: 1 << 40, ..quick() };
    let (engine, persistence) = Persistence::open(dir.path(), options).unwrap();
    // A value tells whose it is and when it was written; some are large. A key of database 1 that is a multiple of three comes and goes.
    let value = |db: usize, number: usize, round: usize| {
        format!("{db}.{number}.{round}.").repeat(if number % 50 == 7 { 5000 } else { 100 })
    };
    let is_over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (engine, persistence, is_over, reads) = (&engine, &persistence, &is_over, &reads);
            scope.spawn(move || {
                let mut store = store_kept(engine, persistence);
                let mut chance = Seeded::new(reader as u64);
                let mut last = vec![[0; KEYS]; 3];
                while !is_over.load(Relaxed) {
                    let (db, number) = (chance.below(3) as usize, chance.below(KEYS as u64) as usize);
                    ask(&mut store, &["SELECT", &db.to_string()]);
                    let found = workload::text(ask(&mut store, &["GET", &format!("key:{number}")]));
                    let Some(round) = found.split('.').nth(2).map(|round| round.parse().expect("a number")) else { continue };
                    assert!(found == value(db, number, round), "database {db}, key {number}: {}", &found[..found.len().min(60)]);
                    assert!(round >= last[db][number], "database {db}, key {number} is as it was before");
                    last[db][number] = round;
                    reads.fetch_add(1, Relaxed);
                }
            });
        }
        let mut store = store_kept(&engine, &persistence);
        for round in 0..24 {
            // Every fourth time all of them change, and the tables are written anew.
            let every = if round % 4 == 0 { 1 } else { 25 };
            for db in 0..3 {
                ask(&mut store, &["SELECT", &db.to_string()]);
                for number in (0..KEYS).filter(|number| (number + round) % every == 0) {
                    let key = format!("key:{number}");
                    if db == 1 && number % 3 == 0 && round % 2 == 1 {
                        ask(&mut store, &["DEL", &key]);
                    } else {
                        ask(&mut store, &["SET", &key, &value(db, number, round)]);
                    }
                }
            }
            persistence.spill().unwrap();
            let before = reads.load(Relaxed);
            let start = Instant::now();
            while reads.load(Relaxed) < before + 200 && start.elapsed() < Duration::from_secs(30) {
                std::thread::yield_now();
            }
        }
        is_over.store(true, Relaxed);
    });
    assert!(reads.load(Relaxed) > 0 && persistence.stats().loads > 0);
    persistence.close(true).unwrap();
    assert_eq!(persist::check(dir.path(), 1).unwrap().problems, []);
}

#[test]
fn files_of_the_journal_are_an_eighth_of_what_makes_a_checkpoint_due() {
    const BYTES: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    // Each write is a batch.
    let options = Options { fsync: Fsync::Always, checkpoint_bytes: 16 << 20, ..quick() };
    let (engine, persistence) = Persistence::open(dir.path(), options).unwrap();
    let mut store = store_kept(&engine, &persistence);
    for number in 0..70 {
        ask(&mut store, &["SET", &number.to_string(), &"x".repeat(BYTES)]);
    }
    persistence.close(false).unwrap();
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let journal = files.filter(|file| file.file_name().to_string_lossy().starts_with("journal-"));
    let sizes: Vec<usize> = journal.map(|file| file.metadata().unwrap().len() as usize).collect();
    assert!(sizes.len() == 4 && sizes.iter().all(|size| *size < (2 << 20) + 2 * BYTES), "{sizes:?}");
}

#[test]
fn a_small_value_is_read_back_with_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::<Counted>::default();
    // Nothing is dropped for the limit, and no page is found in redb's cache.
    let options = Options { memory_limit: 1 << 40, tables_cache_bytes: 0, checkpoint_bytes: 1 << 40, ..quick() };
    let (engine, persistence) = Persistence::open_on(Arc::new(Hooked(counted.clone())), dir.path(), options).unwrap();
    let mut store = store_kept(&engine, &persistence);
    let keys = 2000;
    let value = |number: usize, round: usize| format!("{number}.{round}.").repeat(100);
    for round in 0..3 {
        // In the first round all of them change, then a few, in place.
        for number in (0..keys).filter(|number| round == 0 || number % 100 == 0) {
            ask(&mut store, &["SET", &format!("key:{number}"), &value(number, round)]);
        }
        persistence.spill().unwrap();
        // The first look at each brings the pages that lead there near.
        for look in 0..2 {
            persistence.spill().unwrap();
            let before = (counted.reads.load(Relaxed), persistence.stats().loads);
            for number in 0..keys {
                let last = if number % 100 == 0 { round } else { 0 };
                assert_eq!(workload::text(ask(&mut store, &["GET", &format!("key:{number}")])), value(number, last));
            }
            let (reads, loads) = (counted.reads.load(Relaxed) - before.0, persistence.stats().loads - before.1);
            assert_eq!(loads, keys as u64);
            assert!(look == 0 || reads == loads, "{reads} reads for {loads} values");
        }
    }
    persistence.close(true).unwrap();
}

#[test]
fn a_writer_above_the_memory_limit_is_held_up_and_loses_nothing() {
    // An empty server takes more, so that it is above the limit at any time.
    let server = Process::flux(&["--memory-limit", "1mb"]);
    let mut client = server.connect();
    let key = |number: usize| format!("key:{number}");
    let value = |number: usize| format!("{number:016}").repeat(1024);
    let start = Instant::now();
    let mut count = 0;
    while memory_limit_info(&mut client, "delayed_replies") == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "no reply of {count} was held back");
        for number in count..count + 32 {
            client.send(&["SET", &key(number), &value(number)]).unwrap();
        }
        for _ in 0..32 {
            assert_eq!(client.read().unwrap(), Reply::Line("+OK".into()));
        }
        count += 32;
    }
    for number in 0..count {
        assert_eq!(client.call(&["GET", &key(number)]).unwrap(), Reply::Bulk('$', value(number).into_bytes()), "key {number}");
    }
    // What is written can be dropped; then nobody has to wait any more.
    while memory_limit_info(&mut client, "slows_writes") != 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "writers are held up for ever");
    }
}

/// A number of INFO about the memory limit.
fn memory_limit_info(client: &mut Connection, name: &str) -> u64 {
    let Reply::Bulk(_, text) = client.call(&["INFO", "persistence"]).unwrap() else { panic!("INFO is no text") };
    let text = String::from_utf8(text).unwrap();
    let field = format!("memory_limit_{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&field)).expect("the field is there");
    line.parse().unwrap()
}

#[test]
fn a_time_far_away_is_the_same_after_a_restart_and_after_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let times = [(1u64 << 48) - 2, (1 << 48) - 1, 1 << 48, i64::MAX as u64];
    for with_checkpoint in [false, true, false] {
        let (engine, persistence) = Persistence::open(dir.path(), quick()).unwrap();
        let mut store = store_kept(&engine, &persistence);
        for (number, time) in times.iter().enumerate() {
            let key = format!("key:{number}");
            let told = |store: &mut Blocking| String::from_utf8(store.call(&[b"PEXPIRETIME", key.as_bytes()])).unwrap();
            if persistence.loaded().keys > 0 {
                assert_eq!(told(&mut store), format!(":{time}\r\n"));
            }
            store.call(&[b"SET", key.as_bytes(), b"value"]);
            store.call(&[b"PEXPIREAT", key.as_bytes(), time.to_string().as_bytes()]);
            assert_eq!(told(&mut store), format!(":{time}\r\n"));
        }
        drop(store);
        persistence.close(with_checkpoint).unwrap();
    }
}
