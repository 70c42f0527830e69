//! Disks that fail: errors, torn writes, no space, and power cuts that keep any part of what was not synced. Whatever
//! happens, what was acknowledged is there after a restart, and it is a prefix of what was written.
//!
//! `FLUX_FAULTS_EVERY=1` has each operation fail where otherwise one of many does; `FLUX_FAULTS_FROM=n` begins with a later one, so that
//! several runs can share the work.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flux::clock;
use flux::commands::instance::Instance;
use flux::config::Config;
use flux::engine::durability::{Durability, Stage};
use flux::engine::keys::Expiry;
use flux::engine::persist::{self, Fsync, Options, Persistence, load};
use flux::engine::types::string::Str;
use flux::engine::{Engine, Scope};
use flux::storage::{Disk, Tables};
use flux::store::Blocking;
use redb::StorageBackend;
use tokio::sync::watch;

use crate::persist::{contents, store_kept, store_on};
use crate::workload::{Seeded, Words};

/// Working files whose syncs take longer than the committer waits between two cuts.
#[derive(Debug)]
struct Slow(Arc<Memory>);

#[derive(Debug)]
struct SlowHandle(Box<dyn StorageBackend>);

impl Disk for Slow {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(SlowHandle(Shared(self.0.clone()).open(path)?)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Shared(self.0.clone()).list(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Shared(self.0.clone()).exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Shared(self.0.clone()).remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Shared(self.0.clone()).rename(from, to)
    }
}

impl StorageBackend for SlowHandle {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(20));
        self.0.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// With an I/O error, once.
    Error,
    /// Half of it is done, or all of a rename, then an I/O error, once.
    Torn,
    /// No space is left, until [`Memory::heal`].
    Full,
    /// With an I/O error, and so does everything after it.
    Dead,
    /// The same, and everything after it fails.
    Dying,
}

/// What a disk does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The next sync of a file of the journal, once.
    JournalSync,
    /// Another file of the journal: there is no space.
    JournalFile,
    /// Removing a file of the journal.
    Removal,
}

/// A disk in memory that fails after a number of operations.
#[derive(Debug)]
struct Memory {
    files: Mutex<HashMap<PathBuf, Arc<Mutex<Image>>>>,
    left: AtomicI64,
    fault: Fault,
    is_healed: AtomicBool,
    /// Bytes that all files together may have.
    room: AtomicUsize,
    /// Whether what only looks fails too, and removing: reading, opening, listing.
    fails_looks: bool,
    refused: Mutex<Option<Refused>>,
    /// How often something was refused, or there was no room.
    refusals: AtomicUsize,
    /// Bytes of the journal that were read.
    journal_read: AtomicUsize,
    /// Files that were made and removed since the folder was synced: after a power cut each may be there or not.
    unsure: Mutex<HashMap<PathBuf, Option<Arc<Mutex<Image>>>>>,
}

fn is_journal(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-"))
}

fn is_new(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new")
}

#[derive(Debug, Default, Clone)]
struct Image {
    /// What reads see.
    current: Vec<u8>,
    /// What is there for certain after a power cut.
    durable: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Pending {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Pending::Len(len) => to.resize(*len, 0),
            Pending::Write(offset, bytes) => {
                if to.len() < offset + bytes.len() {
                    to.resize(offset + bytes.len(), 0);
                }
                to[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl Memory {
    fn new(fault: Fault, after: i64) -> Arc<Memory> {
        Memory::of(fault, after, false)
    }

    /// One on which every operation counts and fails, not only what writes.
    fn failing(fault: Fault, after: i64) -> Arc<Memory> {
        Memory::of(fault, after, true)
    }

    fn of(fault: Fault, after: i64, fails_looks: bool) -> Arc<Memory> {
        let (files, left, is_healed) = (Mutex::default(), AtomicI64::new(after), AtomicBool::new(false));
        Arc::new(Memory {
            files,
            left,
            fault,
            is_healed,
            fails_looks,
            room: AtomicUsize::new(usize::MAX),
            refused: Mutex::default(),
            refusals: AtomicUsize::default(),
            journal_read: AtomicUsize::default(),
            unsure: Mutex::default(),
        })
    }

    fn refuse(&self, refused: impl Into<Option<Refused>>) {
        *self.refused.lock().unwrap() = refused.into();
    }

    fn refuses(&self, what: Refused) -> bool {
        let is_refused = *self.refused.lock().unwrap() == Some(what);
        self.refusals.fetch_add(is_refused.into(), SeqCst);
        is_refused
    }

    fn refusals(&self) -> usize {
        self.refusals.load(SeqCst)
    }

    /// The journal's files, as they are read.
    fn journal(&self) -> Vec<Vec<u8>> {
        let files = self.files.lock().unwrap();
        let named = files.iter().filter(|(path, _)| is_journal(path) && !is_new(path));
        named.map(|(_, image)| image.lock().unwrap().current.clone()).collect()
    }

    /// Changes a bit of what is there and was written as this, wherever it stands in the journal.
    fn rot(&self, bytes: &[u8]) {
        let mut rotten = 0;
        for (_, image) in self.files.lock().unwrap().iter().filter(|(path, _)| is_journal(path)) {
            let mut image = image.lock().unwrap();
            let at = image.durable.windows(bytes.len()).position(|found| found == bytes);
            if let Some(at) = at {
                (image.current[at], image.durable[at]) = (bytes[0] ^ 1, bytes[0] ^ 1);
                rotten += 1;
            }
        }
        assert_eq!(rotten, 1);
    }

    fn healthy() -> Arc<Memory> {
        Memory::new(Fault::Error, i64::MAX)
    }

    fn heal(&self) {
        self.is_healed.store(true, SeqCst);
    }

    /// Has it fail again, after a number of operations.
    fn fail_after(&self, after: i64) {
        self.left.store(after, SeqCst);
        self.is_healed.store(false, SeqCst);
    }

    /// The disk as a power cut leaves it: of what was not synced, any part is there, sectors being whole.
    fn after_power_cut(&self, chance: &mut Seeded) -> Arc<Memory> {
        let disk = Memory::healthy();
        let mut files = self.files.lock().unwrap().clone();
        for (path, image) in &*self.unsure.lock().unwrap() {
            match image {
                _ if chance.below(2) == 0 => {}
                Some(image) => drop(files.insert(path.clone(), image.clone())),
                None => drop(files.remove(path)),
            }
        }
        for (path, image) in &files {
            let image = image.lock().unwrap();
            let mut survivor = image.durable.clone();
            for pending in &image.pending {
                match pending {
                    Pending::Len(_) => pending.apply(&mut survivor),
                    Pending::Write(offset, bytes) => {
                        for (number, sector) in bytes.chunks(512).enumerate() {
                            if chance.below(3) > 0 {
                                Pending::Write(offset + number * 512, sector.to_vec()).apply(&mut survivor);
                            }
                        }
                    }
                }
            }
            let image = Image { current: survivor.clone(), durable: survivor, pending: Vec::new() };
            disk.files.lock().unwrap().insert(path.clone(), Arc::new(Mutex::new(image)));
        }
        disk
    }

    /// The same disk, working again, as a restart of the process finds it.
    fn after_restart(&self) -> Arc<Memory> {
        let disk = Memory::healthy();
        *disk.files.lock().unwrap() = self.files.lock().unwrap().clone();
        disk
    }

    /// Bytes that all files together have, but for one.
    fn bytes_but(&self, file: &Arc<Mutex<Image>>) -> usize {
        let files = self.files.lock().unwrap();
        files.values().filter(|other| !Arc::ptr_eq(other, file)).map(|image| image.lock().unwrap().current.len()).sum()
    }

    /// Whether there is room for a file to have so many bytes.
    fn make_room(&self, file: &Arc<Mutex<Image>>, len: usize) -> io::Result<()> {
        let room = self.room.load(SeqCst);
        let is_full = room != usize::MAX && len > file.lock().unwrap().current.len() && self.bytes_but(file) + len > room;
        self.refusals.fetch_add(is_full.into(), SeqCst);
        if is_full { Err(broken(Fault::Full)) } else { Ok(()) }
    }

    /// What is done instead of the operation, if it fails.
    fn fault(&self) -> Option<Fault> {
        if self.is_healed.load(SeqCst) {
            return None;
        }
        let left = self.left.fetch_sub(1, SeqCst);
        let fails = match self.fault {
            Fault::Error | Fault::Torn => left == 0,
            Fault::Full | Fault::Dead | Fault::Dying => left <= 0,
        };
        let fault = if self.fault == Fault::Dying && left < 0 { Fault::Dead } else { self.fault };
        fails.then_some(fault)
    }

    /// The same for what only looks, and for removing.
    fn look_fault(&self) -> io::Result<()> {
        match self.fails_looks.then(|| self.fault()).flatten() {
            // None of that needs space.
            None | Some(Fault::Full) => Ok(()),
            Some(fault) => Err(broken(fault)),
        }
    }

    /// Whether it has failed at least once.
    fn has_failed(&self) -> bool {
        self.left.load(SeqCst) < 0
    }
}

/// An open file of such a disk.
#[derive(Debug)]
struct Handle(Arc<Memory>, Arc<Mutex<Image>>, PathBuf);

/// Hands out files of a disk.
#[derive(Debug, Clone)]
struct Shared(Arc<Memory>);

impl Disk for Shared {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        self.0.look_fault()?;
        let mut files = self.0.files.lock().unwrap();
        if !files.contains_key(path) {
            self.0.unsure.lock().unwrap().entry(path.to_owned()).or_default();
        }
        let image = files.entry(path.to_owned()).or_default().clone();
        Ok(Box::new(Handle(self.0.clone(), image, path.to_owned())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.look_fault()?;
        Ok(self.0.files.lock().unwrap().keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.look_fault()?;
        Ok(self.0.files.lock().unwrap().contains_key(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.look_fault()?;
        if is_journal(path) && !is_new(path) && self.0.refuses(Refused::Removal) {
            return Err(broken(Fault::Error));
        }
        if let Some(image) = self.0.files.lock().unwrap().remove(path) {
            self.0.unsure.lock().unwrap().entry(path.to_owned()).or_insert(Some(image));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let fault = self.0.fault();
        if let Some(fault) = fault.filter(|fault| !matches!(fault, Fault::Torn | Fault::Dying)) {
            return Err(broken(fault));
        }
        let mut files = self.0.files.lock().unwrap();
        let image = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), image);
        match fault {
            // It is done, and only the folder could not be synced.
            Some(fault) => Err(broken(fault)),
            None => {
                self.0.unsure.lock().unwrap().clear();
                Ok(())
            }
        }
    }
}

fn broken(fault: Fault) -> io::Error {
    io::Error::from_raw_os_error(if fault == Fault::Full { 28 } else { 5 })
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.1.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.look_fault()?;
        let image = self.1.lock().unwrap();
        let bytes = image.current.get(offset as usize..offset as usize + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        if is_journal(&self.2) {
            self.0.journal_read.fetch_add(out.len(), SeqCst);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if is_journal(&self.2) && is_new(&self.2) && self.0.refuses(Refused::JournalFile) {
            return Err(broken(Fault::Full));
        }
        if let Some(fault) = self.0.fault() {
            return Err(broken(fault));
        }
        self.0.make_room(&self.1, len as usize)?;
        let mut image = self.1.lock().unwrap();
        image.current.resize(len as usize, 0);
        image.pending.push(Pending::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let is_refused = is_journal(&self.2) && self.0.refuses(Refused::JournalSync);
        if is_refused {
            self.0.refuse(None);
        }
        match self.0.fault().or(is_refused.then_some(Fault::Error)) {
            // What is written is written; a sync needs no space.
            None | Some(Fault::Full) => {}
            Some(fault) => {
                // As systems do: what could not be written is still shown, and never written.
                self.1.lock().unwrap().pending.clear();
                return Err(broken(fault));
            }
        }
        let mut image = self.1.lock().unwrap();
        let image = &mut *image;
        image.pending.drain(..).for_each(|pending| pending.apply(&mut image.durable));
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.make_room(&self.1, offset as usize + bytes.len())?;
        let fault = self.0.fault();
        let done = match fault {
            None => bytes,
            Some(Fault::Torn | Fault::Dying) => &bytes[..bytes.len() / 2],
            Some(fault) => return Err(broken(fault)),
        };
        let mut image = self.1.lock().unwrap();
        let write = Pending::Write(offset as usize, done.to_vec());
        write.apply(&mut image.current);
        image.pending.push(write);
        fault.map_or(Ok(()), |fault| Err(broken(fault)))
    }
}

const WRITES: usize = 12;
const LARGE: usize = 3000;

fn options() -> Options {
    Options { fsync: Fsync::Always, write_retry: Duration::from_millis(1), segment_bytes: 16_000, ..Options::default() }
}

fn put(engine: &Engine, number: usize) {
    let key = format!("key{number:02}");
    let bytes = vec![b'a' + number as u8; if number.is_multiple_of(3) { LARGE } else { 10 }];
    engine.write(0, clock::now_ms(), Scope::Keys(&[key.as_bytes()]), |keys| {
        keys.put(key.as_bytes(), Str::from(bytes), Expiry::Never);
    });
}

/// Whether everything written so far became durable before writing failed.
fn is_acknowledged(engine: &Engine, persistence: &Persistence) -> bool {
    let epoch = engine.epoch();
    persistence.poke();
    let start = Instant::now();
    while *persistence.reached(Stage::Durable).borrow() < epoch {
        if !persistence.is_writable() || start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Writes until writing fails; tells how many writes were acknowledged. A checkpoint comes in between.
fn write(dir: &Path, disk: &Arc<Memory>) -> usize {
    let Ok((engine, persistence)) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir, options()) else { return 0 };
    let mut acknowledged = 0;
    for number in 0..WRITES {
        put(&engine, number);
        if !is_acknowledged(&engine, &persistence) {
            break;
        }
        acknowledged = number + 1;
        if number % 5 == 4 {
            let mut ended = persistence.checkpoint();
            while ended.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                std::thread::yield_now();
            }
        }
    }
    let _ = persistence.close(false);
    acknowledged
}

/// How many writes are there, from the first on; none of them may be missing or torn.
fn found(dir: &Path, disk: &Arc<Memory>) -> usize {
    let (engine, persistence) =
        Persistence::open_on(Arc::new(Shared(disk.clone())), dir, options()).expect("a working disk opens");
    let mut keys = Vec::new();
    engine.each_shard(|_, shard| {
        for entry in shard.database(0).keys().iter() {
            let mut len = 0;
            entry.value().rows().unwrap().each_row(&mut |_, bytes| len = bytes.len());
            keys.push((entry.key().to_vec(), len));
        }
    });
    persistence.close(true).unwrap();
    keys.sort();
    for (number, (key, len)) in keys.iter().enumerate() {
        assert_eq!(key, format!("key{number:02}").as_bytes(), "{keys:?}");
        assert_eq!(*len, if number.is_multiple_of(3) { LARGE } else { 10 });
    }
    keys.len()
}

/// Operations the writes take on a disk that works.
fn operations() -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::new(Fault::Error, i64::MAX);
    assert_eq!(write(dir.path(), &disk), WRITES);
    i64::MAX - disk.left.load(SeqCst)
}

#[test]
fn whatever_operation_a_disk_dies_at_what_was_acknowledged_lasts() {
    let operations = operations();
    assert!(operations > 50);
    for n in 0..operations {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::new(Fault::Dead, n);
        let acknowledged = write(dir.path(), &disk);
        let restarted = found(dir.path(), &disk.after_restart());
        assert!(restarted >= acknowledged, "operation {n}: {acknowledged} acknowledged, {restarted} found");
    }
}

#[test]
fn whatever_a_power_cut_leaves_of_unsynced_writes_what_was_acknowledged_lasts() {
    let operations = operations();
    for n in 0..operations {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::new(Fault::Dead, n);
        let acknowledged = write(dir.path(), &disk);
        let survivor = disk.after_power_cut(&mut Seeded::new(n as u64));
        let found = found(dir.path(), &survivor);
        assert!(found >= acknowledged, "operation {n}: {acknowledged} acknowledged, {found} found");
    }
}

#[test]
fn after_an_error_or_a_torn_write_writing_goes_on() {
    let operations = operations();
    for (n, fault) in (0..operations).step_by(3).zip([Fault::Error, Fault::Torn].into_iter().cycle()) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::new(fault, n);
        let Ok((engine, persistence)) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options()) else {
            continue;
        };
        for number in 0..WRITES {
            put(&engine, number);
            if number == 5 {
                drop(persistence.checkpoint());
            }
            recovers(&engine, &persistence);
        }
        persistence.close(false).unwrap();
        let survivor = disk.after_power_cut(&mut Seeded::new(n as u64));
        assert_eq!(found(dir.path(), &survivor), WRITES, "operation {n}, {fault:?}");
    }
}

fn recovers(engine: &Engine, persistence: &Persistence) {
    let start = Instant::now();
    while !is_acknowledged(engine, persistence) {
        assert!(start.elapsed() < Duration::from_secs(10), "writing does not recover: {:?}", persistence.last_error());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A keyspace with writes of these numbers, all acknowledged.
fn written(disk: &Arc<Memory>, dir: &Path, segment_bytes: u64, writes: usize) -> (Arc<Engine>, Persistence) {
    let options = Options { segment_bytes, ..options() };
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir, options).unwrap();
    write_on(&engine, &persistence, 0..writes);
    (engine, persistence)
}

fn write_on(engine: &Engine, persistence: &Persistence, numbers: std::ops::Range<usize>) {
    for number in numbers {
        put(engine, number);
        assert!(is_acknowledged(engine, persistence), "{number}: {:?}", persistence.last_error());
    }
}

fn checkpoint(persistence: &Persistence) {
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
}

/// What [`put`] writes where it is much.
fn large(number: usize) -> [u8; LARGE] {
    [b'a' + number as u8; LARGE]
}

#[test]
fn a_disk_that_fails_behind_rot_in_what_the_tables_hold_loses_nothing_of_what_they_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = written(&disk, dir.path(), 1 << 20, 4);
    checkpoint(&persistence);
    disk.rot(&large(0));
    write_on(&engine, &persistence, 4..8);
    disk.refuse(Refused::JournalSync);
    put(&engine, 8);
    recovers(&engine, &persistence);
    assert_eq!(disk.refusals(), 1);
    persistence.close(false).unwrap();
    assert_eq!(found(dir.path(), &disk.after_power_cut(&mut Seeded::new(1))), 9);
}

#[test]
fn a_disk_that_fails_behind_rot_in_what_only_the_journal_holds_leaves_it_to_be_told() {
    // In the only file, and in one that others follow.
    for segment_bytes in [1 << 20, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::healthy();
        let (engine, persistence) = written(&disk, dir.path(), segment_bytes, 9);
        disk.rot(&large(3));
        write_on(&engine, &persistence, 9..11);
        let before = disk.journal();
        disk.refuse(Refused::JournalSync);
        put(&engine, 11);
        until(|| !persistence.is_writable() || is_acknowledged(&engine, &persistence));
        let _ = persistence.close(false);
        let after = disk.journal();
        let is_there = |bytes: &[u8]| after.iter().any(|file| file.len() >= bytes.len());
        assert!(before.iter().all(|bytes| is_there(bytes)), "the journal was cut off");
        let shared = Arc::new(Shared(disk.after_restart()));
        let error = Persistence::open_on(shared, dir.path(), options()).err().expect("it is damaged").to_string();
        assert!(error.contains("damaged at byte"), "{error}");
    }
}

#[test]
fn files_of_the_journal_that_are_done_with_go_though_there_is_no_room_for_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = written(&disk, dir.path(), 40_000, 60);
    assert!(disk.journal().len() > 1);
    disk.refuse(Refused::JournalFile);
    checkpoint(&persistence);
    until(|| disk.refusals() > 0 && disk.journal().len() == 1);
    write_on(&engine, &persistence, 60..62);
    assert!(persistence.is_writable());
    disk.refuse(None);
    checkpoint(&persistence);
    until(|| disk.journal().concat().len() < 20_000);
    persistence.close(false).unwrap();
    assert_eq!(found(dir.path(), &disk.after_power_cut(&mut Seeded::new(1))), 62);
}

#[test]
fn a_file_that_cannot_be_removed_holds_up_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = written(&disk, dir.path(), 40_000, 60);
    disk.refuse(Refused::Removal);
    checkpoint(&persistence);
    until(|| disk.refusals() > 0);
    write_on(&engine, &persistence, 60..62);
    assert!(disk.journal().len() > 1);
    disk.refuse(None);
    until(|| disk.journal().len() == 1);
    persistence.close(false).unwrap();
    assert_eq!(found(dir.path(), &disk.after_restart()), 62);
}

#[test]
fn a_full_disk_gets_room_from_what_the_tables_hold() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = written(&disk, dir.path(), 40_000, 60);
    disk.refuse(Refused::Removal);
    checkpoint(&persistence);
    until(|| disk.refusals() > 0);
    disk.room.store(disk.bytes_but(&Arc::default()), SeqCst);
    put(&engine, 60);
    assert!(!is_acknowledged(&engine, &persistence));
    disk.refuse(None);
    recovers(&engine, &persistence);
    persistence.close(false).unwrap();
    assert_eq!(found(dir.path(), &disk.after_restart()), 61);
}

#[test]
fn a_torn_end_is_kept_before_it_is_cut_off_whatever_a_power_cut_leaves() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::healthy();
        written(&disk, dir.path(), 1 << 20, 3).1.close(false).unwrap();
        let torn = [7; 100];
        for (_, image) in disk.files.lock().unwrap().iter().filter(|(path, _)| is_journal(path)) {
            let mut image = image.lock().unwrap();
            image.current.extend(torn);
            image.durable = image.current.clone();
        }
        written(&disk, dir.path(), 1 << 20, 0).1.close(false).unwrap();
        let left = disk.after_power_cut(&mut Seeded::new(seed));
        let left = left.files.lock().unwrap();
        let ends =
            |path: &Path, image: &Image| (is_journal(path) || path.ends_with("lost-torn-end")) && image.current.ends_with(&torn);
        assert!(left.iter().any(|(path, image)| ends(path, &image.lock().unwrap())), "seed {seed}: {:?}", left.keys());
    }
}

#[test]
fn a_full_disk_is_not_read_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = written(&disk, dir.path(), 1 << 20, 60);
    let len = disk.journal().concat().len();
    disk.room.store(disk.bytes_but(&Arc::default()), SeqCst);
    put(&engine, 60);
    until(|| disk.refusals() > 0);
    let before = disk.journal_read.load(SeqCst);
    until(|| disk.refusals() > 10);
    let read = disk.journal_read.load(SeqCst) - before;
    assert!(read < len, "{read} bytes read of {len}");
    disk.room.store(usize::MAX, SeqCst);
    recovers(&engine, &persistence);
    persistence.close(false).unwrap();
    assert_eq!(found(dir.path(), &disk.after_restart()), 61);
}

#[test]
fn what_a_failed_sync_has_written_again_counts_once() {
    let counted = |fails: bool| {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::healthy();
        let (engine, persistence) = written(&disk, dir.path(), 1 << 20, 3);
        disk.refuse(fails.then_some(Refused::JournalSync));
        put(&engine, 3);
        recovers(&engine, &persistence);
        assert_eq!(disk.refusals(), usize::from(fails));
        let bytes = persistence.stats().journal_bytes;
        persistence.close(false).unwrap();
        bytes
    };
    assert_eq!(counted(true), counted(false));
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::new(Fault::Full, operations() / 2);
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options()).unwrap();
    let mut number = 0;
    while {
        put(&engine, number);
        number += 1;
        is_acknowledged(&engine, &persistence)
    } {}
    assert!(!persistence.is_writable());
    let refusal = persistence.refusal().to_string();
    assert!(refusal.starts_with("MISCONF Errors writing to the journal:") && refusal.contains("No space left"), "{refusal}");
    // Nobody is let wait for it.
    until(|| persistence.gives_up().is_some_and(|cause| cause.contains("No space left")));
    disk.heal();
    recovers(&engine, &persistence);
    assert_eq!(persistence.gives_up(), None);
    assert!(persistence.is_writable() && persistence.last_error().is_none());
    persistence.close(true).unwrap();
    assert_eq!(found(dir.path(), &disk.after_restart()), number);
}

#[test]
fn tables_that_find_no_room_to_be_written_anew_leave_all_as_it_was_and_the_room_to_the_journal() {
    const KEYS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options()).unwrap();
    let new = dir.path().join("tables.new");
    let fill = |byte: u8| {
        for number in 0..KEYS {
            let key = format!("key{number:03}");
            engine.write(0, clock::now_ms(), Scope::Keys(&[key.as_bytes()]), |keys| {
                keys.put(key.as_bytes(), Str::from(vec![byte; LARGE]), Expiry::Never);
            });
        }
        assert!(is_acknowledged(&engine, &persistence));
    };
    let is_all = |byte: u8| {
        let mut found = 0;
        engine.each_shard(|_, shard| {
            for entry in shard.database(0).keys().iter() {
                let mut is_it = false;
                entry.value().rows().unwrap().each_row(&mut |_, bytes| is_it = bytes == vec![byte; LARGE]);
                found += usize::from(is_it);
            }
        });
        found == KEYS
    };
    fill(b'a');
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
    let mut failures = 0;
    // From a little room to as much as it takes.
    for share in 0.. {
        fill(b'b' + share as u8 % 20);
        let before = disk.bytes_but(&Arc::default());
        disk.room.store(before + share * KEYS * LARGE / 5, SeqCst);
        let written = persistence.checkpoint().blocking_recv().unwrap();
        let is_there = disk.files.lock().unwrap().contains_key(&new);
        assert!(!is_there, "what is half written takes room");
        let Err(error) = written else { break };
        failures += 1;
        assert!(error.contains("tables.new") && error.contains("No space left"), "{error}");
        assert_eq!(disk.bytes_but(&Arc::default()), before);
        // The journal grows on in what room there is.
        disk.room.store(before + KEYS * LARGE * 2, SeqCst);
        fill(b'A');
        assert!(is_all(b'A') && persistence.is_writable());
        disk.room.store(usize::MAX, SeqCst);
    }
    assert!(failures >= 3, "only {failures} found no room");
    assert!(persistence.checkpoint_error().is_none());
    fill(b'z');
    persistence.close(false).unwrap();
    drop((engine, persistence));
    let (engine, persistence) =
        Persistence::open_on(Arc::new(Shared(disk.after_restart())), dir.path(), options()).expect("a working disk opens");
    let mut found = 0;
    engine.each_shard(|_, shard| found += shard.database(0).keys().len());
    assert_eq!(found, KEYS);
    persistence.close(true).unwrap();
}

/// A keyspace on such a disk, and a field of its INFO.
fn told(disk: Arc<dyn Disk>, dir: &Path) -> (Arc<Instance>, impl Fn(&str) -> String) {
    let (engine, persistence) = Persistence::open_on(disk, dir, options()).unwrap();
    let instance = Instance::new(engine, Arc::new(Config::default()), clock::now_ms());
    instance.set_persistence(persistence);
    let told = Arc::clone(&instance);
    let field = move |name: &str| {
        let text = String::from_utf8(Blocking::new(&told).call(&[b"INFO", b"persistence"])).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("there is no {name} in {text}")).to_owned()
    };
    (instance, field)
}

fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn info_tells_of_a_disk_that_fails_or_is_slow() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::new(Fault::Full, 1000);
    let (instance, field) = told(Arc::new(Shared(disk.clone())), dir.path());
    let statuses = ["aof_last_write_status", "aof_last_bgrewrite_status", "checkpoint_last_status"];
    assert_eq!(statuses.map(&field), ["ok"; 3]);
    // From here on there is no space.
    disk.left.store(0, SeqCst);
    put(&instance.engine, 0);
    instance.persistence().unwrap().poke();
    until(|| field("aof_last_write_status") == "err");
    // It fails, again and again, and each time is counted.
    for failures in ["1", "2"] {
        let asked = instance.persistence().unwrap().checkpoint();
        assert!(asked.blocking_recv().unwrap().is_err());
        assert_eq!(field("aof_rewrites_consecutive_failures"), failures);
    }
    assert_eq!([field("aof_last_bgrewrite_status"), field("checkpoint_last_status")], ["err", "err"]);
    assert!(field("checkpoint_last_error").contains("No space left"));
    disk.heal();
    until(|| field("aof_last_write_status") == "ok");
    let asked = instance.persistence().unwrap().checkpoint();
    asked.blocking_recv().unwrap().unwrap();
    assert_eq!(statuses.map(&field), ["ok"; 3]);
    assert_eq!(field("aof_rewrites_consecutive_failures"), "0");
    assert_eq!(field("checkpoint_last_error"), "");
    instance.persistence().unwrap().close(false).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let (instance, field) = told(Arc::new(Slow(Memory::healthy())), dir.path());
    let before = field("aof_delayed_fsync");
    put(&instance.engine, 0);
    instance.persistence().unwrap().poke();
    until(|| field("aof_delayed_fsync") != before);
    instance.persistence().unwrap().close(false).unwrap();
}

#[test]
fn a_checkpoint_that_failed_when_all_was_on_disk_leaves_none_of_it_counted_as_journal() {
    for fault in [Fault::Torn, Fault::Dying] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Memory::new(fault, i64::MAX);
        let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options()).unwrap();
        let checkpoint = || persistence.checkpoint().blocking_recv().unwrap();
        // One that writes all anew, and those that change a little in place; each fails at every operation in turn.
        for keys in [WRITES, 1] {
            let mut n = 0;
            loop {
                (0..keys).for_each(|number| put(&engine, number));
                recovers(&engine, &persistence);
                disk.fail_after(n);
                let failed = checkpoint();
                let has_failed = disk.has_failed();
                disk.heal();
                recovers(&engine, &persistence);
                checkpoint().unwrap();
                assert_eq!(persistence.stats().journal_bytes, 0, "{fault:?}, {keys} keys, operation {n}: {failed:?}");
                if !has_failed {
                    break;
                }
                n += 1;
            }
            assert!(n > 5);
        }
        persistence.close(false).unwrap();
    }
}

#[test]
fn values_on_disk_can_be_read_while_tables_that_must_be_written_anew_find_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::new(Fault::Error, i64::MAX);
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options()).unwrap();
    let mut store = store_on(&engine);
    let large = |number: u8| vec![b'a' + number; LARGE];
    for number in 0..100u8 {
        store.call(&[b"SET", &[number], &large(number)]);
    }
    assert!(persistence.spill().unwrap() >= 100);
    let error = loop {
        put(&engine, 0);
        recovers(&engine, &persistence);
        disk.room.store(disk.bytes_but(&Arc::default()) + 10 * LARGE, SeqCst);
        // The committer may meet it, and then the tables are well.
        disk.fail_after(0);
        match persistence.checkpoint().blocking_recv().unwrap() {
            Err(error) if error.contains("tables") => break error,
            _ => disk.room.store(usize::MAX, SeqCst),
        }
    };
    let read = |store: &mut Blocking, number: u8| {
        let reply = store.call(&[b"GET", &[number]]);
        let expected = [format!("${LARGE}\r\n").as_bytes(), &large(number), b"\r\n"].concat();
        assert!(reply == expected, "after {error}: {}", reply.escape_ascii());
    };
    (0..50).for_each(|number| read(&mut store, number));
    assert!(persistence.checkpoint().blocking_recv().unwrap().unwrap_err().contains("No space left"));
    (50..60).for_each(|number| read(&mut store, number));
    disk.room.store(usize::MAX, SeqCst);
    persistence.checkpoint().blocking_recv().unwrap().unwrap();
    (60..100).for_each(|number| read(&mut store, number));
    persistence.close(false).unwrap();
}

#[test]
fn values_on_disk_can_be_read_again_once_a_disk_that_could_not_be_read_works() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::failing(Fault::Error, i64::MAX);
    // No page stays in memory.
    let options = Options { tables_cache_bytes: 0, ..options() };
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk.clone())), dir.path(), options).unwrap();
    let mut store = store_on(&engine);
    let large = vec![b'a'; LARGE];
    for number in 0..100u8 {
        store.call(&[b"SET", &[number], &large]);
    }
    assert!(persistence.spill().unwrap() >= 100);
    let error = (0..100u8).find_map(|number| {
        disk.fail_after(0);
        let reply = store.call(&[b"GET", &[number]]);
        reply.starts_with(b"-").then(|| (number, reply.escape_ascii().to_string()))
    });
    let (number, error) = error.expect("reads come to the disk");
    disk.heal();
    // Nothing is written meanwhile, so that nothing else comes to see the error.
    until(|| store.call(&[b"GET", &[number]]).starts_with(format!("${LARGE}").as_bytes()));
    for number in 0..100u8 {
        let reply = store.call(&[b"GET", &[number]]);
        assert!(reply.starts_with(b"$"), "after {error}: {}", reply.escape_ascii());
    }
    persistence.close(false).unwrap();
}

const STEPS: usize = 56;

/// Commands on few keys, whose values go from one key to another all the time, and what they reply and lead to.
struct Model {
    commands: Vec<Words>,
    replies: Vec<Vec<u8>>,
    /// What there is before the first command and after each.
    states: Vec<u64>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut chance = Seeded::new(seed);
        let engine = Arc::new(Engine::new(false));
        let mut store = store_on(&engine);
        let mut model = Model { commands: Vec::new(), replies: Vec::new(), states: vec![state(&engine)] };
        for step in 0..STEPS {
            let command = Model::command(&mut chance, step);
            model.replies.push(call(&mut store, &command));
            model.commands.push(command);
            model.states.push(state(&engine));
        }
        model
    }

    fn command(chance: &mut Seeded, step: usize) -> Words {
        let kind = chance.of(&["text", "list"]);
        let mut key = || format!("{kind}:{}", chance.below(4));
        let (key, other, value) = (key(), key(), format!("{step:05}"));
        let line = match (step, kind, chance.below(10)) {
            // More than a pass takes.
            (20 | 21, ..) => format!("SET large:{step} {}", value.repeat(150_000)),
            (40, ..) => "FLUSHDB".to_owned(),
            (_, _, 0..4) => format!("RENAME {key} {other}"),
            (_, _, 4 | 5) => format!("COPY {key} {other} REPLACE"),
            (_, _, 6) => format!("MOVE {key} 1"),
            (_, "text", 7) => format!("SETRANGE {key} 20000 {value}"),
            (_, "text", _) => format!("APPEND {key} {value}"),
            (_, _, 7) => format!("RPUSH {key} {0} {0} {0} {0}", value.repeat(200)),
            _ => format!("RPUSH {key} {value}"),
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

fn call(store: &mut Blocking, words: &Words) -> Vec<u8> {
    store.call(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
}

fn state(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents(engine).hash(&mut hasher);
    hasher.finish()
}

/// Has the commands run on a disk that fails and works again, with a checkpoint every few commands. What a checkpoint that ended well
/// says is in the tables, and what there is at last, is what there should be.
fn lives_through(model: &Model, disk: &Arc<Memory>, options: &Options, told: &str) {
    let dir = tempfile::tempdir().unwrap();
    let shared = || Arc::new(Shared(disk.clone()));
    let heal = |start: Instant, what: &str| {
        disk.heal();
        assert!(start.elapsed() < Duration::from_secs(30), "{told}: {what}");
    };
    let start = Instant::now();
    let (engine, persistence) = loop {
        match Persistence::open_on(shared(), dir.path(), options.clone()) {
            Ok(opened) => break opened,
            Err(error) => heal(start, &format!("it cannot be opened: {error}")),
        }
    };
    engine.set_parcel_bytes_min(0);
    // It refuses nothing for errors of the disk, so each command is done once.
    let mut store = store_on(&engine);
    let checkpoint = || persistence.checkpoint().blocking_recv().unwrap();
    for (step, command) in model.commands.iter().enumerate() {
        let (start, mut ended) = (Instant::now(), Ok(()));
        loop {
            let reply = call(&mut store, command);
            if reply == model.replies[step] {
                break;
            }
            let errors = (ended, persistence.last_error());
            heal(start, &format!("step {step}: {}, though a checkpoint ended before: {errors:?}", reply.escape_ascii()));
            ended = checkpoint();
        }
        while !is_acknowledged(&engine, &persistence) {
            heal(start, &format!("step {step}: writing does not recover: {:?}", persistence.last_error()));
        }
        if step % 7 == 6 {
            match checkpoint() {
                Ok(()) if disk.has_failed() => {
                    let disk = disk.after_power_cut(&mut Seeded::new(step as u64));
                    let tables = Tables::open(&Shared(disk), &dir.path().join("tables.redb"), 1 << 20).unwrap();
                    let engine = Engine::new(false);
                    load::load(&engine, &tables, clock::now_ms(), 0, &Default::default()).unwrap();
                    assert!(state(&engine) == model.states[step + 1], "{told}: step {step} is not in the tables");
                }
                Ok(()) => {}
                Err(_) => disk.heal(),
            }
        }
    }
    disk.heal();
    let start = Instant::now();
    while !is_acknowledged(&engine, &persistence) {
        heal(start, &format!("writing does not recover: {:?}", persistence.last_error()));
    }
    checkpoint().unwrap_or_else(|error| panic!("{told}: no checkpoint is made on a disk that works: {error}"));
    persistence.close(false).unwrap();
    let survivor = disk.after_power_cut(&mut Seeded::new(7));
    for (path, image) in &*survivor.files.lock().unwrap() {
        std::fs::write(path, &image.lock().unwrap().current).unwrap();
    }
    assert_eq!(persist::check(dir.path(), 10).unwrap().problems, [], "{told}");
    let (engine, persistence) = Persistence::open(dir.path(), options_unlimited()).unwrap();
    assert!(state(&engine) == model.states[STEPS], "{told}: {:?}", contents(&engine).keys());
    persistence.close(false).unwrap();
}

fn options_unlimited() -> Options {
    Options { segment_bytes: 16 << 10, ..options() }
}

#[test]
fn who_writes_or_waits_for_the_disk_when_the_journal_is_closed_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Memory::healthy();
    let (engine, persistence) = Persistence::open_on(Arc::new(Shared(disk)), dir.path(), options()).unwrap();
    let mut store = store_kept(&engine, &persistence);
    assert_eq!(store.call(&[b"SET", b"key00", b"kept"]), b"+OK\r\n");
    persistence.close(false).unwrap();
    let refusal = store.call(&[b"SET", b"key00", b"late"]).escape_ascii().to_string();
    assert!(refusal.starts_with("-MISCONF") && refusal.contains("the journal is closed. Commands"), "{refusal}");
    let instance = Instance::new(engine, Arc::new(Config::default()), clock::now_ms());
    instance.set_durability(Arc::new(LetIn(persistence)));
    let unknown = Blocking::new(&instance).call(&[b"SET", b"key00", b"late"]).escape_ascii().to_string();
    assert!(unknown.starts_with("-MISCONF") && unknown.contains("the journal is closed; what was asked"), "{unknown}");
}

/// A journal that refuses nobody at first: whoever writes was let in before its last cut, which came then.
struct LetIn(Persistence);

impl Durability for LetIn {
    fn poke(&self) {}

    fn hurry(&self, _: Stage) {}

    fn awaited(&self) -> Option<Stage> {
        Durability::awaited(&self.0)
    }

    fn is_crowded(&self) -> bool {
        false
    }

    fn crowded(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    fn reached(&self, stage: Stage) -> watch::Receiver<u64> {
        self.0.reached(stage)
    }

    fn write_error(&self) -> Option<String> {
        None
    }

    fn refusal(&self) -> Option<String> {
        self.0.gives_up()
    }
}

#[test]
fn whatever_fails_while_values_go_from_key_to_key_nothing_is_lost_or_done_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<usize>().expect("a number"));
    let (every, from) = (number("FLUX_FAULTS_EVERY").unwrap_or(83), number("FLUX_FAULTS_FROM").unwrap_or(0));
    let faults = [Fault::Dead, Fault::Dying, Fault::Error, Fault::Torn];
    for (memory_limit, seed) in [(0, 1), (1, 2)] {
        let model = Model::new(seed);
        let options = Options { memory_limit, ..options_unlimited() };
        let healthy = Memory::failing(Fault::Error, i64::MAX);
        lives_through(&model, &healthy, &options, "nothing fails");
        let operations = i64::MAX - healthy.left.load(SeqCst);
        for (n, fault) in (from as i64..operations).step_by(every).zip(faults.into_iter().cycle()) {
            let disk = Memory::failing(fault, n);
            lives_through(&model, &disk, &options, &format!("limit {memory_limit}, operation {n}, {fault:?}"));
        }
    }
}
