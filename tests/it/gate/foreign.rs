//! What speaks HTTP or TLS to the port for clients of Redis is closed before a command of it runs; and who may have files written.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{PATIENCE, ask, line, mode, send, until_closed};
use crate::process::{Process, Reply};

/// What is sent before, on a connection that has the password.
const BEFORE: [&str; 4] =
    ["", "PING\r\n", "MULTI\r\nSET stolen queued\r\n", "*1\r\n$4\r\nPING\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"];
/// What must close it at any time.
const ALWAYS: [&str; 6] = [
    "POST / HTTP/1.1\r\n",
    "POST /x HTTP/1.1\r\nHost: localhost:6379\r\nContent-Length: 14\r\n\r\n",
    "post\r\n",
    "Host: localhost:6379\r\n",
    "HOST: x\n",
    "*2\r\n$4\r\nPoSt\r\n$1\r\n/\r\n",
];
/// What must close it where it comes first.
const AT_FIRST: [&str; 7] = [
    "GET / HTTP/1.1\r\n",
    "\r\n\r\nPUT /x?y HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.0\r\n",
    "SET / HTTP/1.1\r\n",
    "FLUSHALL /\"unbalanced HTTP/1.1\n",
    "PRI * HTTP/2.0\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\r\n",
];
/// What a page would run.
const STOLEN: &str = "SET stolen 1\r\n*3\r\n$3\r\nSET\r\n$6\r\nstolen\r\n$1\r\n2\r\nEXEC\r\nCONFIG SET http-origins null\r\n";

#[test]
fn nothing_that_follows_http_or_tls_is_run_before_or_after_the_password() {
    for password in ["", "secret"] {
        let server = match password {
            "" => Process::flux(&[]),
            password => Process::flux(&["--requirepass", password]),
        };
        let auth = if password.is_empty() { String::new() } else { format!("AUTH {password}\r\n") };
        let untouched = || {
            let mut client = server.connect();
            if !password.is_empty() {
                client.call(&["AUTH", password]).unwrap();
            }
            assert_eq!(client.call(&["DBSIZE"]).unwrap(), line(":0"));
            let origins = client.call(&["CONFIG", "GET", "http-origins"]).unwrap();
            assert!(matches!(&origins, Reply::Many(_, pair) if pair[1] == Reply::Bulk('$', Vec::new())), "{origins:?}");
        };
        for before in BEFORE {
            for foreign in ALWAYS {
                let text = until_closed(send(&server, format!("{auth}{before}{foreign}{STOLEN}").as_bytes()));
                assert!(text.is_empty() || text.ends_with("neither HTTP nor TLS\r\n"), "{before:?} {foreign:?}: {text}");
                untouched();
            }
        }
        for foreign in AT_FIRST.iter().chain(&ALWAYS) {
            until_closed(send(&server, format!("{foreign}{auth}{STOLEN}").as_bytes()));
            untouched();
        }
        // It is said once, with where it came from, however often it happens.
        let log = server.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains("SECURITY ATTACK")).collect();
        assert!(matches!(&said[..], [said] if said.contains("127.0.0.1:")), "{log}");
    }
}

#[test]
fn what_looks_like_http_only_later_is_a_value_like_any_other() {
    let server = Process::flux(&[]);
    let text = until_closed(send(&server, b"SET a b\r\nSET a HTTP/1.1\r\nGET a\r\nSET b POST\r\nQUIT\r\n"));
    assert_eq!(text, "+OK\r\n+OK\r\n$8\r\nHTTP/1.1\r\n+OK\r\n+OK\r\n");
}

#[test]
fn the_unix_socket_takes_no_http_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Process::flux(&["--unixsocket", &path.display().to_string()]);
    for foreign in AT_FIRST.iter().chain(&ALWAYS) {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(format!("{foreign}{STOLEN}").as_bytes()).unwrap();
        until_closed(socket);
    }
    assert_eq!(ask(&server, "DBSIZE"), line(":0"));
}

#[test]
fn debug_is_for_nobody_unless_the_start_says_for_whom() {
    let server = Process::flux(&[]);
    let refused = ask(&server, "DEBUG JMAP");
    assert!(matches!(&refused, Reply::Line(text) if text.starts_with("-ERR DEBUG command not allowed. If the")), "{refused:?}");
    if let Some(redis) = Process::redis_as_it_comes() {
        assert_eq!(refused, ask(&redis, "DEBUG JMAP"));
    }
    let refused = ask(&server, "CONFIG SET enable-debug-command yes");
    assert!(matches!(&refused, Reply::Line(text) if text.contains("can't set immutable config")), "{refused:?}");
    for who in ["local", "yes"] {
        assert_eq!(ask(&Process::flux(&["--enable-debug-command", who]), "DEBUG JMAP"), line("+OK"));
    }
}

#[test]
fn a_file_is_written_only_where_whoever_asks_may_write() {
    let server = Process::flux(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let backup = |server: &Process, path: &Path| ask(server, &format!("FLUX BACKUP {}", path.display()));
    let is_refused = |reply: Reply| matches!(&reply, Reply::Line(text) if text.starts_with("-ERR"));
    std::fs::write(path("full"), "mine").unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("aim"), "").unwrap();
    std::os::unix::fs::symlink(path("aim"), path("link")).unwrap();
    std::fs::write(path("twice"), "").unwrap();
    std::fs::hard_link(path("twice"), path("again")).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    for name in ["nothing", "full", "link", "twice", "folder", "nowhere/x"] {
        assert!(is_refused(backup(&server, &path(name))), "{name}");
    }
    assert_eq!(backup(&server, &path("empty")), line("+OK"));
    assert_eq!(mode(&path("empty")), 0o600);
    assert_eq!(std::fs::read(path("full")).unwrap(), b"mine");
    assert!(!path("nothing").exists() && path("aim").metadata().unwrap().len() == 0);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // The data folder's lock is an empty file of one name, too.
    let lock = server.data().join("lock");
    assert_eq!(lock.metadata().unwrap().len(), 0);
    std::os::unix::fs::symlink(server.data(), path("way")).unwrap();
    for inside in [lock.clone(), path("way").join("lock")] {
        assert!(is_refused(backup(&server, &inside)), "{}", inside.display());
    }
    assert_eq!(lock.metadata().unwrap().len(), 0, "the lock is what it was");
    let closed = Process::flux(&["--enable-backup-command", "no"]);
    assert!(is_refused(backup(&closed, &path("aim"))));
    // As in Redis, no setting moves the files of a running server.
    for change in ["dir elsewhere", "dbfilename x", "unixsocket elsewhere", "data elsewhere"] {
        assert!(is_refused(ask(&server, &format!("CONFIG SET {change}"))), "{change}");
    }
}
