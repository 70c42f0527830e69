//! Disks that fail: errors, torn writes, no space, and power cuts that keep any part of what was not synced. Whatever
//! happens, what was acknowledged is there after a restart, and it is a prefix of what was written.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flux::clock;
use flux::commands::instance::Instance;
use flux::config::Config;
use flux::engine::durability::Stage;
use flux::engine::keys::Expiry;
use flux::engine::persist::{Fsync, Options, Persistence};
use flux::engine::types::string::Str;
use flux::engine::{Engine, Scope};
use flux::storage::Disk;
use flux::store::Store;
use redb::StorageBackend;

use crate::workload::Seeded;

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
    /// Half of it is done, then an I/O error, once.
    Torn,
    /// No space is left, until [`Memory::heal`].
    Full,
    /// With an I/O error, and so does everything after it.
    Dead,
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
        let (files, left, is_healed) = (Mutex::default(), AtomicI64::new(after), AtomicBool::new(false));
        Arc::new(Memory { files, left, fault, is_healed, room: AtomicUsize::new(usize::MAX) })
    }

    fn healthy() -> Arc<Memory> {
        Memory::new(Fault::Error, i64::MAX)
    }

    fn heal(&self) {
        self.is_healed.store(true, SeqCst);
    }

    /// The disk as a power cut leaves it: of what was not synced, any part is there, sectors being whole.
    fn after_power_cut(&self, chance: &mut Seeded) -> Arc<Memory> {
        let disk = Memory::healthy();
        for (path, image) in &*self.files.lock().unwrap() {
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
            Fault::Full | Fault::Dead => left <= 0,
        };
        fails.then_some(self.fault)
    }
}

/// An open file of such a disk.
#[derive(Debug)]
struct Handle(Arc<Memory>, Arc<Mutex<Image>>);

/// Hands out files of a disk.
#[derive(Debug, Clone)]
struct Shared(Arc<Memory>);

impl Disk for Shared {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let image = self.0.files.lock().unwrap().entry(path.to_owned()).or_default().clone();
        Ok(Box::new(Handle(self.0.clone(), image)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.files.lock().unwrap().keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.files.lock().unwrap().contains_key(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.files.lock().unwrap().remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(fault) = self.0.fault() {
            return Err(broken(fault));
        }
        let mut files = self.0.files.lock().unwrap();
        let image = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), image);
        Ok(())
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
        let image = self.1.lock().unwrap();
        let bytes = image.current.get(offset as usize..offset as usize + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
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
        match self.0.fault() {
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
            Some(Fault::Torn) => &bytes[..bytes.len() / 2],
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
    Options { fsync: Fsync::Always, write_retry: Duration::from_millis(1), ..Options::default() }
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
        let text = String::from_utf8(Store::new(&told).call(&[b"INFO", b"persistence"])).unwrap();
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
