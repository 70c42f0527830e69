//! A panic ends the server, which says where and why; what it acknowledged is there after the next start, and no half of a change is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use flux::Flux;
use flux::store::Store;
use tempfile::TempDir;

use crate::process::{Process, Reply};

/// Says to this test's own process that it is the one that panics, on the folder it names.
const WITHIN: &str = "FLUX_TEST_PANICS_WITHIN";
const CAUSE: &str = "DEBUG PANIC was called";

/// Panics in a transaction that has already changed a key.
const HALF: &[&str] = &["MULTI", "SET half 1", "DEBUG PANIC", "SET other 1", "EXEC"];

fn call(store: &mut Store, command: &str) -> Vec<u8> {
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
    let name = "panics::a_panic_of_flux_within_another_program_ends_that_where_a_folder_is_open";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", "--nocapture", name]).env(WITHIN, data.path()).output().unwrap();
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && told.contains(CAUSE), "{told}");
    let flux = Flux::open(data.path()).unwrap();
    assert_eq!(call(&mut flux.store(), "MGET acknowledged half other"), b"*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n");
}

fn panic_within(folder: &Path) -> ! {
    let flux = Flux::open(folder).unwrap();
    let mut store = flux.store();
    for command in ["CONFIG SET appendfsync always", "SET acknowledged 1"] {
        assert_eq!(call(&mut store, command), b"+OK\r\n");
    }
    let _ = catch_unwind(AssertUnwindSafe(|| HALF.iter().for_each(|command| drop(call(&mut store, command)))));
    // Has all that was changed written.
    flux.close().unwrap();
    std::process::exit(0)
}

#[test]
fn a_panic_in_a_keyspace_in_memory_unwinds_to_its_caller_alone() {
    let flux = Flux::in_memory();
    let (mut store, mut other) = (flux.store(), flux.store());
    assert!(catch_unwind(AssertUnwindSafe(|| call(&mut store, "DEBUG PANIC"))).is_err());
    drop(store);
    assert_eq!(call(&mut other, "DEBUG PANIC ELSEWHERE"), b"-ERR failed by a fault of the server; its log tells where\r\n");
    let clients = String::from_utf8(call(&mut other, "CLIENT LIST")).unwrap();
    assert_eq!(clients.matches("id=").count(), 1, "{clients}");
}
