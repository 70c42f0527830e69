//! Tables that are damaged: whatever became of their file, what is loaded is right, or an error says what is wrong and
//! what can be done.
//!
//! `FLUX_DAMAGE_ROUNDS` says how often, `FLUX_DAMAGE_SEED` where the chance begins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flux::clock;
use flux::engine::Engine;
use flux::engine::persist::{apply, fold, load};
use flux::storage::tables::Meta;
use flux::storage::{Error, Files, Tables};

use crate::persist::{Contents, batch_of, contents, store_on};
use crate::workload::{Seeded, ask};

const PAGE: usize = 4096;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn open(path: &Path) -> Result<Tables, Error> {
    Tables::open(&Files::default(), path, 1 << 20)
}

/// What a start would load, and up to where the journal need not be replayed.
fn loaded(path: &Path) -> Result<(u64, Contents), String> {
    let tables = open(path).map_err(|error| error.to_string())?;
    let covered = tables.meta().map_err(|error| error.to_string())?.covered;
    let engine = Engine::new(false);
    load::load(&engine, &tables, 0, 0, &Default::default()).map_err(|error| error.to_string())?;
    Ok((covered, contents(&engine)))
}

/// Tables with values of every kind, small and large, that were written in several transactions.
fn written(path: &Path) -> Arc<Engine> {
    let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
    let tables = Tables::create(&Files::default(), path, 1 << 20, meta).unwrap();
    let engine = Arc::new(Engine::new(true));
    let mut store = store_on(&engine);
    for round in 0..4 {
        for db in ["0", "5"] {
            ask(&mut store, &["SELECT", db]);
            ask(&mut store, &["SET", "text", "short"]);
            ask(&mut store, &["SET", "long", &"long".repeat(12_000 + round)]);
            ask(&mut store, &["SETRANGE", "holes", "90000", "after the holes"]);
            ask(&mut store, &["SETBIT", "bits", "70000", "1"]);
            ask(&mut store, &["PFADD", "guess", &round.to_string()]);
            ask(&mut store, &["SET", "expires", "x", "PXAT", "99999999999999"]);
            for number in 0..120 {
                let number = &(number * 4 + round).to_string();
                ask(&mut store, &["SET", &format!("small:{number}"), "value"]);
                ask(&mut store, &["RPUSH", "list", &format!("element {number}")]);
                ask(&mut store, &["SADD", "set", number, &format!("member {number}")]);
                ask(&mut store, &["ZADD", "zset", number, &format!("member {number}")]);
                ask(&mut store, &["HSET", "hash", &format!("field {number}"), number]);
                ask(&mut store, &["HPEXPIREAT", "hash", "99999999999999", "FIELDS", "1", &format!("field {number}")]);
                ask(&mut store, &["XADD", "stream", &format!("1-{}{number}", round + 1), "field", number]);
            }
            for key in ["few", "fewer"] {
                ask(&mut store, &["RPUSH", &format!("{key} list"), "a", "b"]);
                ask(&mut store, &["SADD", &format!("{key} set"), "1", "2"]);
                ask(&mut store, &["ZADD", &format!("{key} zset"), "1.5", "a"]);
                ask(&mut store, &["HSET", &format!("{key} hash"), "a", "1"]);
                ask(&mut store, &["XADD", &format!("{key} stream"), "*", "a", "1"]);
                ask(&mut store, &["DEL", "fewer set"]);
            }
            if round == 0 {
                ask(&mut store, &["XGROUP", "CREATE", "stream", "group", "0"]);
            }
            ask(&mut store, &["XREADGROUP", "GROUP", "group", "someone", "COUNT", "3", "STREAMS", "stream", ">"]);
        }
        let mut folded = fold::Fold::default();
        folded.add_batches(&[&batch_of(&engine, 0)]).unwrap();
        apply::apply(&tables, &folded, round as u64 + 1).unwrap();
    }
    drop(store);
    engine
}

/// Damages a file, and says how.
fn damage(bytes: &mut Vec<u8>, chance: &mut Seeded) -> String {
    if bytes.len() < PAGE {
        return "it is too short for more".into();
    }
    let pages: Vec<usize> = (0..bytes.len() / PAGE).filter(|page| bytes[page * PAGE..][..PAGE] != [0; PAGE]).collect();
    let mut page = || pages[chance.below(pages.len() as u64) as usize] * PAGE;
    let (one, other) = (page(), page());
    // Where something stands, for the most part.
    let at = match chance.below(4) {
        0 => chance.below(bytes.len() as u64) as usize,
        1 => chance.below(512) as usize,
        _ => one + chance.below(PAGE as u64) as usize,
    };
    match chance.below(10) {
        0..4 => {
            bytes[at] ^= 1 << chance.below(8);
            format!("a bit of byte {at} flipped")
        }
        4 => {
            bytes[at] = chance.below(256) as u8;
            format!("byte {at} is {}", bytes[at])
        }
        5 => {
            bytes[one..one + PAGE].fill(0);
            format!("the page at {one} is zero")
        }
        6 => {
            bytes.copy_within(other..other + PAGE, one);
            format!("the page at {one} is that at {other}")
        }
        7 => {
            (one..one + PAGE).for_each(|at| bytes[at] = chance.below(256) as u8);
            format!("the page at {one} is noise")
        }
        8 => {
            let sector = at - at % 512;
            bytes[sector..sector + 512].fill(0);
            format!("the sector at {sector} is zero")
        }
        _ => {
            let len = if chance.below(2) == 0 { at } else { one };
            bytes.truncate(len);
            format!("it is cut off at {len}")
        }
    }
}

#[test]
fn damaged_tables_are_told_or_hold_what_they_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    written(&path("whole"));
    let whole = std::fs::read(path("whole")).unwrap();
    let expected = loaded(&path("whole")).unwrap();
    assert!(expected.1.len() > 900);
    let rounds = number("FLUX_DAMAGE_ROUNDS", 300);
    let first = number("FLUX_DAMAGE_SEED", clock::now_ms());
    let mut told = 0;
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        let mut chance = Seeded::new(seed);
        let mut bytes = whole.clone();
        let how: Vec<String> = (0..1 + chance.below(2)).map(|_| damage(&mut bytes, &mut chance)).collect();
        std::fs::write(path("damaged"), &bytes).unwrap();
        let found = catch_unwind(|| loaded(&path("damaged")));
        match found.unwrap_or_else(|_| panic!("FLUX_DAMAGE_SEED={seed}, {how:?}: it panics")) {
            Err(error) => {
                told += 1;
                assert!(error.contains("damaged`") && error.contains("flux check"), "FLUX_DAMAGE_SEED={seed}, {how:?}: {error}");
            }
            // An older state, which is whole: the journal that goes on from a later one does not fit to it.
            Ok((covered, _)) if covered < expected.0 => {}
            Ok(found) => assert!(found == expected, "FLUX_DAMAGE_SEED={seed}, {how:?}: it is silently other data"),
        }
    }
    assert!(told > rounds / 4, "only {told} of {rounds} were told");
}

/// Its rows are whole, each by itself: they only come twice, or where others belong.
#[test]
fn a_page_that_stands_in_the_place_of_another_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    written(&path("whole"));
    let whole = std::fs::read(path("whole")).unwrap();
    let expected = loaded(&path("whole")).unwrap();
    let used: Vec<usize> = (1..whole.len() / PAGE).filter(|page| whole[page * PAGE..][..PAGE] != [0; PAGE]).collect();
    for (number, page) in used.iter().enumerate() {
        for other in used[number + 1..].iter().take(4) {
            for (from, to) in [(page, other), (other, page)] {
                let mut bytes = whole.clone();
                bytes.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
                std::fs::write(path("damaged"), &bytes).unwrap();
                match loaded(&path("damaged")) {
                    Ok(found) => {
                        assert!(found.0 < expected.0 || found == expected, "page {from} in the place of {to} is not told")
                    }
                    Err(error) => assert!(error.contains("damaged`") && error.contains("flux check"), "{error}"),
                }
            }
        }
    }
}

#[test]
fn damaged_tables_are_changed_or_told_and_nothing_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let engine = written(&path("whole"));
    let mut store = store_on(&engine);
    for db in ["0", "5"] {
        ask(&mut store, &["SELECT", db]);
        for number in 0..40 {
            let number = &(number * 12).to_string();
            ask(&mut store, &["SET", &format!("small:{number}"), "another value"]);
            ask(&mut store, &["LSET", "list", number, "another element"]);
            ask(&mut store, &["SREM", "set", number]);
            ask(&mut store, &["ZADD", "zset", "7", &format!("member {number}")]);
        }
        ask(&mut store, &["APPEND", "holes", "more"]);
        ask(&mut store, &["DEL", "hash", "few list", "long"]);
        ask(&mut store, &["RENAME", "stream", "another stream"]);
    }
    let mut folded = fold::Fold::default();
    folded.add_batches(&[&batch_of(&engine, 0)]).unwrap();
    let whole = std::fs::read(path("whole")).unwrap();
    let first = number("FLUX_DAMAGE_SEED", clock::now_ms());
    let rounds = number("FLUX_DAMAGE_ROUNDS", 50);
    let (mut opened, mut told) = (0, 0);
    // The first one once showed a row that says of itself that it reaches beyond its page.
    for seed in [1795802299799].into_iter().chain((0..rounds).map(|round| first.wrapping_add(round))) {
        let mut chance = Seeded::new(seed);
        let mut bytes = whole.clone();
        // Behind the first page, so that most of it can be opened, and often where a page says what it holds.
        for _ in 0..20 {
            let page = 1 + chance.below((bytes.len() / PAGE - 1) as u64);
            let at = page * PAGE as u64 + if chance.below(4) == 0 { chance.below(64) } else { chance.below(PAGE as u64) };
            bytes[at as usize] ^= 1 << chance.below(8);
        }
        for is_rebuilt in [false, true] {
            std::fs::write(path("damaged"), &bytes).unwrap();
            let Ok(tables) = open(&path("damaged")) else { continue };
            opened += 1;
            let mut next = Some(&folded);
            let change = || match is_rebuilt {
                false => apply::apply(&tables, &folded, 100),
                true => apply::rebuild(&tables, &Files::default(), 1 << 20, 100, || Ok(next.take())).map(drop),
            };
            let changed = catch_unwind(AssertUnwindSafe(change));
            if let Err(error) = changed.unwrap_or_else(|_| panic!("FLUX_DAMAGE_SEED={seed}: it panics")) {
                told += 1;
                let error = error.to_string();
                assert!(error.contains("damaged") && error.contains("flux check"), "FLUX_DAMAGE_SEED={seed}: {error}");
            }
        }
    }
    assert!(opened > 0 && told > opened / 4, "only {told} of {opened} were told");
}

#[test]
fn a_panic_of_whoever_changes_the_tables_is_not_told_as_their_damage() {
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
    let tables = Tables::create(&Files::default(), &dir.path().join("tables.redb"), 1 << 20, meta).unwrap();
    let change = || {
        tables.write(|changes| {
            let _stored = changes.database(0)?;
            panic!("not redb's");
            #[expect(unreachable_code, reason = "it gives the closure its type")]
            Ok::<_, Error>(())
        })
    };
    let panic = catch_unwind(AssertUnwindSafe(change)).expect_err("a panic goes on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"not redb's"));
}

#[test]
fn what_is_no_tables_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tables.redb");
    for bytes in [Vec::new(), vec![7; 100], vec![7; 100_000]] {
        std::fs::write(&path, &bytes).unwrap();
        let error = open(&path).expect_err("it holds no tables").to_string();
        assert!(error.contains("tables.redb") && error.contains("restore a backup"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn tables_of_format_1_are_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tables.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(&path).expect_err("no release wrote it").to_string();
    assert!(error.contains("tables.redb") && error.contains("format 1") && error.contains("copy its keys over"), "{error}");
}

#[test]
fn a_kind_of_value_that_only_a_newer_flux_knows_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tables.redb");
    let meta = Meta { covered: 0, next_id: 1, stored: None, history: 1 };
    let tables = Tables::create(&Files::default(), &path, 1 << 20, meta).unwrap();
    tables.write(|changes| changes.database(0)?.put_key(b"some key", b"\x02\x07\xc8its value", |_| ()).map(drop)).unwrap();
    drop(tables);
    let error = loaded(&path).expect_err("there is no such kind");
    for word in ["key `some key`", "number 200", "upgrade flux"] {
        assert!(error.contains(word), "{error}");
    }
}
