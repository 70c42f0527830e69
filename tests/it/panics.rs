//! A panic ends the server, which says where and why; what it acknowledged is there after the next start, and no half of a change is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use flux::Flux;
use flux::clock;
use flux::commands::instance::Instance;
use flux::engine::persist::{Fsync, Options, Persistence};
use flux::storage::Disk;
use flux::store::Blocking;
use redb::StorageBackend;
use tempfile::TempDir;

use crate::process::{Process, Reply};

/// Says to this test's own process that it is the one that panics, on the folder it names.
pub const WITHIN: &str = "FLUX_TEST_PANICS_WITHIN";
const CAUSE: &str = "DEBUG PANIC was called";

/// Panics in a transaction that has already changed a key.
const HALF: &[&str] = &["MULTI", "SET half 1", "DEBUG PANIC", "SET other 1", "EXEC"];

fn call(store: &mut Blocking, command: &str) -> Vec<u8> {
    store.call(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

#[test]
fn a_panic_ends_the_server_which_names_thread_place_and_cause_and_keeps_what_is_whole() {
    for (commands, thread) in [(HALF, "'worker-"), (&["DEBUG PANIC ELSEWHERE"], "'panic'")] {
        let data = TempDir::new().unwrap();
        let start = || Process::flux_in(data.path(), &["--enable-debug-command", "yes", "--appendfsync", "always"]);
        let mut server = start();
        let mut client = server.connect();
        client.call(&["SET", "acknowledged", "1"]).unwrap();
        let mut replies = commands.iter().map(|command| client.call(&command.split(' ').collect::<Vec<_>>()));
        assert!(replies.any(|reply| reply.is_err()), "{commands:?} left the server running");
        assert!(!server.ended().success());
        for told in [thread, "src/commands/server/debug.rs:", CAUSE] {
            assert!(server.log().contains(told), "{told} is not told: {}", server.log());
        }
        drop(server);
        let server = start();
        let mut client = server.connect();
        assert_eq!(client.call(&["GET", "acknowledged"]).unwrap(), Reply::Bulk('$', b"1".to_vec()));
        assert_eq!(client.call(&["DBSIZE"]).unwrap(), Reply::Line(":1".into()), "half of a transaction is there");
    }
}

#[test]
fn a_panic_of_flux_within_another_program_ends_that_where_a_folder_is_open() {
    if let Some(folder) = std::env::var_os(WITHIN) {
        panic_within(Path::new(&folder));
    }
    let data = TempDir::new().unwrap();
    let child = run_within("panics::a_panic_of_flux_within_another_program_ends_that_where_a_folder_is_open", data.path());
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && told.contains(CAUSE), "{told}");
    let flux = Flux::open(data.path()).unwrap();
    assert_eq!(call(&mut flux.blocking(), "MGET acknowledged half other"), b"*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n");
}

/// Runs a test in a process of its own, as the one that panics on a folder.
pub fn run_within(test: &str, folder: &Path) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", test]).env(WITHIN, folder).output().unwrap()
}

fn panic_within(folder: &Path) -> ! {
    let flux = Flux::open(folder).unwrap();
    let mut store = flux.blocking();
    for command in ["CONFIG SET appendfsync always", "SET acknowledged 1"] {
        assert_eq!(call(&mut store, command), b"+OK\r\n");
    }
    let _ = catch_unwind(AssertUnwindSafe(|| HALF.iter().for_each(|command| drop(call(&mut store, command)))));
    // Has all that was changed written.
    flux.close().unwrap();
    std::process::exit(0)
}

/// Real files, which the thread that commits cannot write to without a panic, once it is said.
#[derive(Debug, Clone, Default)]
struct Panicking(Arc<AtomicBool>);

#[derive(Debug)]
struct Handle(File, Panicking);

impl Disk for Panicking {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(Handle(file, self.clone())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let panics = self.1.0.load(SeqCst) && thread::current().name() == Some("flux-journal");
        assert!(!panics, "{CAUSE}");
        self.0.write_all_at(bytes, offset)
    }
}

/// Without the thread that commits nobody's change would ever be on disk, and nobody would be told.
#[test]
fn a_panic_of_the_thread_that_commits_ends_the_process_and_keeps_what_was_acknowledged() {
    if let Some(folder) = std::env::var_os(WITHIN) {
        panic_at_a_commit(Path::new(&folder));
    }
    let data = TempDir::new().unwrap();
    let child =
        run_within("panics::a_panic_of_the_thread_that_commits_ends_the_process_and_keeps_what_was_acknowledged", data.path());
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(told.contains("'flux-journal'") && told.contains(CAUSE) && told.contains("flux: ended at once"), "{told}");
    let flux = Flux::open(data.path()).unwrap();
    assert_eq!(call(&mut flux.blocking(), "MGET acknowledged other"), b"*2\r\n$1\r\n1\r\n$-1\r\n");
}

fn panic_at_a_commit(folder: &Path) -> ! {
    let disk = Panicking::default();
    let options = Options { fsync: Fsync::Always, ..Options::default() };
    let (engine, persistence) = Persistence::open_on(Arc::new(disk.clone()), folder, options).unwrap();
    let instance = Instance::new(engine, Arc::default(), clock::now_ms());
    instance.set_durability(Arc::new(persistence.clone()));
    let mut store = Blocking::new(&instance);
    assert_eq!(call(&mut store, "SET acknowledged 1"), b"+OK\r\n");
    disk.0.store(true, SeqCst);
    thread::spawn(move || call(&mut store, "SET other 1"));
    while instance.changes() < 2 {
        thread::yield_now();
    }
    // Waits for the thread, if nothing ends the process before.
    persistence.close(false).unwrap();
    std::process::exit(0)
}

#[test]
fn a_panic_in_a_keyspace_in_memory_unwinds_to_its_caller_alone() {
    let flux = Flux::in_memory();
    let (mut store, mut other) = (flux.blocking(), flux.blocking());
    assert!(catch_unwind(AssertUnwindSafe(|| call(&mut store, "DEBUG PANIC"))).is_err());
    drop(store);
    assert_eq!(call(&mut other, "DEBUG PANIC ELSEWHERE"), b"-ERR failed by a fault of the server; its log tells where\r\n");
    let clients = String::from_utf8(call(&mut other, "CLIENT LIST")).unwrap();
    assert_eq!(clients.matches("id=").count(), 1, "{clients}");
}
