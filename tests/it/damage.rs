//! A folder that a disk, a copy or a hand has changed: a start, `flux check` and `flux backup --data` say so, or what they show is
//! exactly what was written. Nothing is lost in silence.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use flux::engine::Engine;
use flux::engine::persist::{self, Fsync, Options, Persistence};
use flux::storage::Disk;
use flux::storage::opening::OnDamage;

use crate::disk::{Hooked, Hooks};
use crate::persist::{self as kept, Contents, run, store_kept};
use crate::process::{Connection, Process, Reply};
use crate::workload::{self, Seeded};

/// Steps of the workload, a checkpoint among them.
const STEPS: usize = 900;
const PROBLEMS_MAX: usize = 10;

fn options() -> Options {
    Options { fsync: Fsync::Always, segment_bytes: 40_000, ..Options::default() }
}

/// What an engine holds that time does not take away.
fn contents(engine: &Engine) -> Contents {
    kept::contents(engine).into_iter().filter(|(_, (_, expire_at, _))| expire_at.is_none()).collect()
}

/// Files and their bytes.
type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let named = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    named.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn lay(files: &Files, dir: &Path) {
    fs::remove_dir_all(dir).unwrap();
    fs::create_dir(dir).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}

/// A folder with values of every type, some in the tables and some in several files of the journal, as a kill leaves it; and what it holds.
fn folder() -> (Files, Contents) {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Seeded::new(7);
    let (engine, persistence) = Persistence::open(dir.path(), options()).unwrap();
    // Every value that gets another key goes there in a parcel.
    engine.set_parcel_bytes_min(0);
    let mut store = store_kept(&engine, &persistence);
    let now = flux::clock::now_ms();
    for step in 0..STEPS {
        run(&mut store, &workload::command(&mut chance, step as u64, now + 1_000_000));
        if step == STEPS / 2 {
            run(&mut store, &["SET".into(), "large".into(), "x".repeat(20_000)]);
            persistence.checkpoint().blocking_recv().unwrap().unwrap();
        }
    }
    // The first key was in the tables, and is not any more.
    run(&mut store, &["RENAME".into(), "large".into(), "renamed".into()]);
    let held = contents(&engine);
    // Closed, and so known to be on disk to its last byte.
    persistence.close(false).unwrap();
    (files(dir.path()), held)
}

/// Changes something; tells what.
fn harm(files: &mut Files, chance: &mut Seeded) -> String {
    let names: Vec<String> = files.keys().filter(|name| *name != "lock").cloned().collect();
    let pick = |chance: &mut Seeded| names[chance.below(names.len() as u64) as usize].clone();
    let name = pick(chance);
    let len = files[&name].len();
    let at = chance.below(len as u64) as usize;
    match chance.below(10) {
        0 => {
            files.remove(&name);
            format!("{name} is missing")
        }
        1 => {
            files.get_mut(&name).unwrap().truncate(at);
            format!("{name} is cut at {at} of {len}")
        }
        2 => {
            let end = len.min(at + 512);
            files.get_mut(&name).unwrap()[at..end].fill(0);
            format!("{name} is zeros from {at} on")
        }
        3 => {
            let other = pick(chance);
            let (one, two) = (files[&name].clone(), files[&other].clone());
            files.insert(name.clone(), two);
            files.insert(other.clone(), one);
            format!("{name} and {other} are swapped")
        }
        4 => {
            let bytes = files.remove(&name).unwrap();
            files.insert(format!("journal-{at:016x}"), bytes);
            format!("{name} has the name of batch {at}")
        }
        _ => {
            let bit = 1 << chance.below(8);
            files.get_mut(&name).unwrap()[at] ^= bit;
            format!("{name} has another bit at {at} of {len}")
        }
    }
}

/// What a start makes of a folder: what is then held, or nothing where it is refused; and whether it said anything.
fn started(dir: &Path, on_damage: OnDamage) -> (Option<Contents>, bool) {
    match Persistence::open(dir, Options { on_damage, ..options() }) {
        Ok((engine, persistence)) => {
            let held = contents(&engine);
            let is_told = !persistence.loaded().notes.is_empty();
            persistence.close(false).unwrap();
            (Some(held), is_told)
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() > 30, "{text}");
            (None, true)
        }
    }
}

/// What a backup of a folder holds, or nothing where it is refused; and whether it said anything.
fn copied(dir: &Path, place: &Path) -> Option<(Contents, bool)> {
    let [backup, restored] = ["backup", "restored"].map(|name| place.join(name));
    let notes = persist::backup_folder(dir, &backup).ok()?.1;
    persist::restore(&backup, &restored).unwrap();
    let (held, is_told) = started(&restored, OnDamage::Refuse);
    assert!(!is_told, "a backup is whole");
    fs::remove_file(&backup).unwrap();
    fs::remove_dir_all(&restored).unwrap();
    Some((held?, !notes.is_empty()))
}

#[test]
fn nothing_that_is_wrong_with_a_folder_is_lost_in_silence() {
    let rounds = std::env::var("FLUX_DAMAGE_ROUNDS").map_or(150, |rounds| rounds.parse().expect("a number"));
    let (whole, held) = folder();
    assert!(whole.len() >= 5, "{:?}", whole.keys());
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    fs::create_dir(&dir).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..rounds {
        let mut harmed = whole.clone();
        let what = harm(&mut harmed, &mut Seeded::new(round));
        lay(&harmed, &dir);
        let checked = persist::check(&dir, PROBLEMS_MAX);
        let is_found = checked.as_ref().map_or(true, |checked| !checked.problems.is_empty() || !checked.notes.is_empty());
        let copied = copied(&dir, place.path());
        assert!(files(&dir) == harmed, "{what}: a look changed it");
        let (found, is_told) = started(&dir, OnDamage::Refuse);
        refused += u32::from(found.is_none());
        assert!(found.is_some() || files(&dir) == harmed, "round {round}: {what}: a refused start changed it");
        let is_same = found.as_ref() == Some(&held);
        harmless += u32::from(is_same);
        assert!(is_same || is_told, "round {round}: {what}: a start lost something in silence");
        assert!(is_same || is_found, "round {round}: {what}: a check found nothing: {checked:?}");
        if let Some((copy, is_told)) = copied {
            assert!(copy == held || is_told, "round {round}: {what}: a backup lost something in silence");
        }
        if found.is_none() {
            // What was accepted is said and kept aside, and then it is whole.
            let (accepted, is_told) = started(&dir, OnDamage::AcceptLoss);
            assert!(accepted.is_some() && is_told, "round {round}: {what}");
            assert!(started(&dir, OnDamage::Refuse) == (accepted, false), "round {round}: {what}");
        }
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless of {rounds}");
}

#[test]
fn a_folder_that_was_moved_is_gone_on_with_where_it_is_now() {
    let place = tempfile::tempdir().unwrap();
    let (dir, moved) = (place.path().join("state"), place.path().join("moved"));
    let (engine, persistence) = Persistence::open(&dir, options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    run(&mut store, &["SET".into(), "before".into(), "1".into()]);
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir(&dir).unwrap();
    files(&moved).iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
    let copied = files(&dir);
    for number in 0..200 {
        run(&mut store, &["SET".into(), format!("key{number}"), "x".repeat(1000)]);
    }
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
    let held = contents(&engine);
    persistence.close(true).unwrap();
    assert!(files(&dir) == copied, "the copy was written to");
    assert_eq!(started(&moved, OnDamage::Refuse).0, Some(held));
}

/// What a server holds after some writes, a checkpoint among them where one is wanted, and a kill.
fn grown(dir: &Path, from: usize, to: usize, with_checkpoint: bool) -> Files {
    let (engine, persistence) = Persistence::open(dir, options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    for number in from..to {
        run(&mut store, &["SET".into(), format!("key{number}"), "x".repeat(100)]);
    }
    if with_checkpoint {
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
    }
    persistence.close(false).unwrap();
    files(dir)
}

#[test]
fn an_older_copy_of_the_journal_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let older = grown(&dir, 0, 10, false);
    let mut newer = grown(&dir, 10, 20, true);
    let journal = older.keys().find(|name| name.starts_with("journal-")).unwrap();
    newer.retain(|name, _| !name.starts_with("journal-"));
    newer.insert(journal.clone(), older[journal].clone());
    lay(&newer, &dir);
    let error = Persistence::open(&dir, options()).err().expect("it is older").to_string();
    assert!(error.contains("older copy"), "{error}");
    let (accepted, is_told) = started(&dir, OnDamage::AcceptLoss);
    assert!(is_told && accepted.as_ref().is_some_and(|held| held.len() == 20));
    assert_eq!(started(&dir, OnDamage::Refuse), (accepted, false));
}

#[test]
fn nothing_is_acknowledged_behind_damage_that_a_checkpoint_found() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, persistence) = Persistence::open(dir.path(), options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    run(&mut store, &["SET".into(), "key".into(), "x".repeat(1000)]);
    let journal = files(dir.path()).into_keys().find(|name| name.starts_with("journal-")).unwrap();
    let mut bytes = fs::read(dir.path().join(&journal)).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(dir.path().join(&journal), bytes).unwrap();
    assert!(persistence.is_writable());
    persistence.checkpoint().blocking_recv().unwrap().unwrap_err();
    assert!(!persistence.is_writable());
    let refusal = persistence.refusal().to_string();
    assert!(refusal.contains(&journal) && refusal.contains("damaged at byte"), "{refusal}");
    assert!(persistence.close(false).is_err());
}

#[test]
fn a_row_that_rotted_keeps_the_journal_within_its_bound_and_no_other_value_from_being_read() {
    const CHECKPOINT_BYTES: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    // Nothing is kept of what the file held.
    let options = Options { checkpoint_bytes: CHECKPOINT_BYTES, tables_cache_bytes: 0, ..options() };
    let (engine, persistence) = Persistence::open(dir.path(), options.clone()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    let value = |number: usize| format!("{number:1000}");
    for number in 0..100 {
        run(&mut store, &["SET".into(), format!("key{number}"), value(number)]);
    }
    run(&mut store, &["SET".into(), "rotten".into(), "rot".repeat(100)]);
    assert_eq!(persistence.spill().unwrap(), 101);
    rot(dir.path(), b"rotrotrot");

    run(&mut store, &["SET".into(), "rotten".into(), "fresh".into()]);
    let is_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Once at least, however soon all is read.
            loop {
                assert!(persistence.checkpoint().blocking_recv().unwrap().is_err());
                if is_read.load(SeqCst) {
                    break;
                }
            }
        });
        let read: Vec<_> = (0..100).map(|number| store.call(&[b"GET", format!("key{number}").as_bytes()])).collect();
        // Before anything is claimed of it: the other thread must end.
        is_read.store(true, SeqCst);
        let expected: Vec<_> = (0..100).map(|number| resp_bulk(&value(number))).collect();
        assert_eq!(read, expected);
    });
    assert!(persistence.checkpoint_error().is_some_and(|error| error.contains("rotten")));
    assert!(persistence.is_writable());
    let mut reply = Vec::new();
    let refused = (0..1000).find(|number| {
        reply = store.call(&[b"SET", format!("more{number}").as_bytes(), &[b'x'; 5000]]);
        reply != b"+OK\r\n"
    });
    let text = String::from_utf8(reply).unwrap();
    assert!(
        refused.is_some() && ["MISCONF", "bound", "rotten", "--accept-loss"].iter().all(|part| text.contains(part)),
        "{text}"
    );
    assert!((CHECKPOINT_BYTES..CHECKPOINT_BYTES * 3).contains(&persistence.stats().journal_bytes));
    persistence.close(false).unwrap();

    // The journal has the key anew, so that nothing is lost.
    assert!(Persistence::open(dir.path(), options.clone()).is_err());
    let (engine, persistence) = Persistence::open(dir.path(), Options { on_damage: OnDamage::AcceptLoss, ..options }).unwrap();
    let mut store = store_kept(&engine, &persistence);
    assert_eq!(store.call(&[b"GET", b"rotten"]), resp_bulk("fresh"));
    assert_eq!(store.call(&[b"DBSIZE"]), format!(":{}\r\n", 101 + refused.unwrap()).into_bytes());
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
    persistence.close(false).unwrap();
}

/// Changes the tables wherever these bytes stand in them.
fn rot(dir: &Path, bytes: &[u8]) {
    let path = dir.join("tables.redb");
    let mut tables = fs::read(&path).unwrap();
    let rotten: Vec<usize> = (0..tables.len()).filter(|at| tables[*at..].starts_with(bytes)).collect();
    assert!(!rotten.is_empty());
    rotten.into_iter().for_each(|at| tables[at] ^= 1);
    fs::write(path, tables).unwrap();
}

#[test]
fn a_value_that_rotted_is_told_and_given_up_where_there_is_no_room_for_it_in_memory_too() {
    let since: [&[&str]; 5] = [
        &["PING"],
        &["APPEND", "rotten", "x"],
        &["RENAME", "rotten", "to"],
        &["COPY", "rotten", "to"],
        &["EXPIRE", "rotten", "900"],
    ];
    for since in since {
        let dir = tempfile::tempdir().unwrap();
        let (engine, persistence) = Persistence::open(dir.path(), options()).unwrap();
        let mut store = store_kept(&engine, &persistence);
        let whole = "whole".repeat(5000);
        run(&mut store, &["SET".into(), "rotten".into(), "rot".repeat(10_000)]);
        run(&mut store, &["SET".into(), "whole".into(), whole.clone()]);
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        run(&mut store, &since.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        persistence.close(false).unwrap();
        rot(dir.path(), b"rotrotrot");

        // There is no room for anything but keys.
        let short = |on_damage| Options { memory_limit: 1, on_damage, ..options() };
        let error = Persistence::open(dir.path(), short(OnDamage::Refuse)).err().expect("it is damaged").to_string();
        assert!(error.contains("tables.redb") && error.contains("`rotten`"), "{since:?}: {error}");
        let (engine, persistence) = Persistence::open(dir.path(), short(OnDamage::AcceptLoss)).unwrap();
        let notes = persistence.loaded().notes;
        assert!(notes.iter().any(|note| note.contains("1 keys are gone")), "{since:?}: {notes:?}");
        assert_eq!(store_kept(&engine, &persistence).call(&[b"GET", b"whole"]), resp_bulk(&whole));
        persistence.checkpoint().blocking_recv().unwrap().unwrap();
        persistence.close(false).unwrap();
        Persistence::open(dir.path(), short(OnDamage::Refuse)).unwrap().1.close(false).unwrap();
    }
}

#[test]
fn a_refused_start_changes_nothing_and_an_accepted_one_removes_what_a_kill_left_unfinished() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let (engine, persistence) = Persistence::open(&dir, options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    run(&mut store, &["SET".into(), "rotten".into(), "rot".repeat(100)]);
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
    run(&mut store, &["SET".into(), "more".into(), "1".into()]);
    // As a kill leaves it, with an end that is half written.
    let mut left = files(&dir);
    persistence.close(false).unwrap();
    let journal = left.keys().rfind(|name| name.starts_with("journal-")).unwrap().clone();
    left.get_mut(&journal).unwrap().extend([7; 100]);
    let unfinished = ["tables.new".to_owned(), format!("{journal}.new"), "lost-tables.redb.part".to_owned()];
    unfinished.iter().for_each(|name| drop(left.insert(name.clone(), vec![1; 5000])));
    lay(&left, &dir);
    rot(&dir, b"rotrotrot");
    let before = files(&dir);
    assert!(Persistence::open(&dir, options()).is_err());
    assert!(files(&dir) == before, "{:?}", files(&dir).keys());
    let (accepted, _) = started(&dir, OnDamage::AcceptLoss);
    assert_eq!(accepted.unwrap().len(), 1);
    assert!(files(&dir).keys().all(|name| !unfinished.contains(name)), "{:?}", files(&dir).keys());
}

#[test]
fn keys_of_a_database_that_is_gone_are_counted_as_lost() {
    const KEYS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("keys:0");
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path(), 0, 20, true);
    let tables = redb::Database::open(dir.path().join("tables.redb")).unwrap();
    let change = tables.begin_write().unwrap();
    assert!(change.delete_table(KEYS).unwrap());
    change.commit().unwrap();
    drop(tables);
    let (_, persistence) = Persistence::open(dir.path(), Options { on_damage: OnDamage::AcceptLoss, ..options() }).unwrap();
    let notes = persistence.loaded().notes;
    assert!(notes.iter().any(|note| note.contains(": 20 keys are gone")), "{notes:?}");
    persistence.close(false).unwrap();
}

fn resp_bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

#[test]
fn folders_made_from_one_backup_go_ways_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    let [dir, one, two, backup] = ["state", "one", "two", "backup"].map(|name| place.path().join(name));
    grown(&dir, 0, 10, true);
    persist::backup_folder(&dir, &backup).unwrap();
    for to in [&one, &two] {
        persist::restore(&backup, to).unwrap();
    }
    let ones = grown(&one, 10, 20, true);
    let mut twos = grown(&two, 20, 40, false);
    twos.insert("tables.redb".into(), ones["tables.redb"].clone());
    lay(&twos, &two);
    let error = Persistence::open(&two, options()).err().expect("they are of another folder").to_string();
    assert!(error.contains("belongs to another data folder"), "{error}");
    fs::copy(&backup, two.join("tables.redb")).unwrap();
    assert!(Persistence::open(&two, options()).is_err());
}

#[test]
fn a_folder_whose_lock_was_taken_away_is_in_use_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let (_engine, persistence) = Persistence::open(&dir, options()).unwrap();
    fs::remove_file(dir.join("lock")).unwrap();
    for on_damage in [OnDamage::Refuse, OnDamage::AcceptLoss] {
        let error = Persistence::open(&dir, Options { on_damage, ..options() }).err().expect("it is in use").to_string();
        assert!(error.contains("another process is using this folder"), "{error}");
    }
    fs::rename(&dir, place.path().join("moved")).unwrap();
    fs::create_dir(&dir).unwrap();
    let error = persistence.backup(&place.path().join("moved/lock")).unwrap_err().to_string();
    assert!(error.contains("inside the data folder"), "{error}");
    persistence.close(false).unwrap();
}

#[test]
fn an_older_backup_in_the_place_of_the_tables_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (dir, backup) = (place.path().join("state"), place.path().join("backup"));
    let (engine, persistence) = Persistence::open(&dir, options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    run(&mut store, &["SET".into(), "a".into(), "1".into()]);
    persistence.backup(&backup).unwrap();
    run(&mut store, &["SET".into(), "b".into(), "1".into()]);
    persistence.close(false).unwrap();
    fs::copy(&backup, dir.join("tables.redb")).unwrap();
    let error = Persistence::open(&dir, options()).err().expect("another history").to_string();
    assert!(error.contains("belongs to another data folder"), "{error}");
}

#[test]
fn a_look_at_a_folder_waits_for_no_other_look_and_refuses_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, persistence) = Persistence::open(dir.path(), options()).unwrap();
    assert!(persist::check(dir.path(), PROBLEMS_MAX).is_err());
    persistence.close(true).unwrap();
    let held = Arc::new(flux::storage::Folder::look(dir.path()).unwrap());
    assert_eq!(persist::check(dir.path(), PROBLEMS_MAX).unwrap().problems, []);
    assert!(Persistence::open(dir.path(), options()).is_err());
    drop(held);
}

#[test]
fn what_is_not_there_is_not_made_by_a_look() {
    let place = tempfile::tempdir().unwrap();
    let dir: PathBuf = place.path().join("state");
    assert!(persist::check(&dir, PROBLEMS_MAX).is_err() && !dir.exists());
}

/// Where giving tables their name fails a few times, as after a kill just before it.
#[derive(Debug)]
struct Killed(AtomicUsize);

impl Hooks for Killed {
    fn rename(&self, to: &Path) -> io::Result<()> {
        let is_killed = to.ends_with("tables.redb") && self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_killed { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

#[test]
fn an_accepted_loss_keeps_one_copy_however_often_it_is_killed_and_accepted() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let mut whole = grown(&dir, 0, 100, true);
    let tables = whole.get_mut("tables.redb").unwrap();
    let at = (0..tables.len()).find(|at| tables[*at..].starts_with(b"xxxxxxxx")).unwrap();
    tables[at] ^= 1;
    let rotten = tables[at];
    lay(&whole, &dir);
    let accept = Options { on_damage: OnDamage::AcceptLoss, ..options() };
    let disk: Arc<dyn Disk> = Arc::new(Hooked(Arc::new(Killed(AtomicUsize::new(3)))));
    for _ in 0..3 {
        assert!(Persistence::open_on(disk.clone(), &dir, accept.clone()).is_err());
    }
    for _ in 0..2 {
        let (engine, persistence) = Persistence::open_on(disk.clone(), &dir, accept.clone()).unwrap();
        // The journal may have the key that rotted, or not any more.
        assert!((99..=100).contains(&contents(&engine).len()));
        persistence.close(false).unwrap();
    }
    let left = files(&dir);
    let kept: Vec<&String> = left.keys().filter(|name| name.starts_with("lost-")).collect();
    assert!(kept.len() == 1 && left[kept[0]][at] == rotten, "{kept:?}");
}

#[test]
fn a_start_that_would_lose_all_keys_of_the_tables_says_so() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let mut whole = grown(&dir, 0, 10, true);
    whole.get_mut("tables.redb").unwrap()[..4096].fill(0);
    lay(&whole, &dir);
    let error = Persistence::open(&dir, options()).err().expect("its first page is gone").to_string();
    let checked = persist::check(&dir, PROBLEMS_MAX).unwrap();
    for said in [&error, &checked.problems[0].cause] {
        assert!(said.contains("all of them would be lost") && said.contains("restore a backup"), "{said}");
    }
}

#[test]
fn what_an_emptied_journal_held_is_not_called_nothing() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let mut whole = grown(&dir, 0, 10, false);
    let journal = whole.keys().find(|name| name.starts_with("journal-")).unwrap().clone();
    whole.insert(journal, Vec::new());
    lay(&whole, &dir);
    let error = Persistence::open(&dir, options()).err().expect("its journal is empty").to_string();
    assert!(error.contains("gone already, however much that was"), "{error}");
}

#[test]
fn clients_that_wait_for_the_disk_are_all_refused_where_the_journal_is_stuck_and_keep_what_they_were_told() {
    const CLIENTS: usize = 16;
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("state");
    let arguments = ["--appendfsync", "always", "--checkpoint-bytes", "1mb"];
    let server = Process::flux_in(&dir, &arguments);
    // No checkpoint can be made of much.
    fs::create_dir(dir.join("tables.new")).unwrap();
    let value = "x".repeat(5000);
    let told: Vec<usize> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..CLIENTS)
            .map(|writer| {
                let (mut client, value) = (server.connect(), &value);
                scope.spawn(move || {
                    let mut ok = 0;
                    loop {
                        match client.call(&["SET", &format!("{writer}:{ok}"), value]).unwrap() {
                            Reply::Line(line) if line == "+OK" => ok += 1,
                            Reply::Line(line) => {
                                assert!(["MISCONF", "bound", "tables.new"].iter().all(|part| line.contains(part)), "{line}");
                                return ok;
                            }
                            other => panic!("{other:?}"),
                        }
                        assert!(ok < 1000, "nobody is refused");
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let sizes = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
    let journal = sizes.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal-"));
    let bytes: u64 = journal.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!((1 << 20..3 << 20).contains(&bytes), "the journal has {bytes} bytes");
    let mut client = server.connect();
    let held = |client: &mut Connection| {
        for (writer, ok) in told.iter().enumerate() {
            for number in 0..*ok {
                let found = client.call(&["GET", &format!("{writer}:{number}")]).unwrap();
                assert!(found == Reply::Bulk('$', value.clone().into_bytes()), "{writer}:{number} of {ok} is gone");
            }
        }
    };
    held(&mut client);
    fs::remove_dir(dir.join("tables.new")).unwrap();
    for words in [&["SAVE"][..], &["SET", "more", "1"]] {
        assert_eq!(client.call(words).unwrap(), Reply::Line("+OK".into()));
    }
    server.kill();
    drop(server);
    let server = Process::flux_in(&dir, &arguments);
    let mut client = server.connect();
    held(&mut client);
    assert_eq!(client.call(&["GET", "more"]).unwrap(), Reply::Bulk('$', b"1".to_vec()));
}
