//! Passwords are shown to nobody: not by `MONITOR`, the slow log, errors, logs or files.

use super::{ask, mode, send};
use crate::process::{Connection, Process, Reply};

/// Commands with `hunter2` wherever a password may stand, refused or not.
const SECRETIVE: &[&str] = &[
    "AUTH hunter2",
    "AUTH default hunter2",
    "HELLO 3 AUTH default hunter2",
    "HELLO 2 SETNAME me AUTH default hunter2",
    "HELLO 2 AUTH hunter2",
    "CONFIG SET requirepass hunter2",
    "CONFIG SET hz 10 masterauth hunter2 timeout 0",
    "CONFIG SET REQUIREPASS hunter2",
    "CONFIG SET requirepas hunter2",
    "CONFIG SET tls-key-file-pass hunter2",
    "FLUX.REGISTER {\"name\":\"a\"} SECRET hunter2",
    "FLUX.REGISTER {\"name\":\"a\"} TTL 60000 secret hunter2",
    "FLUX.REGISTER {\"name\":\"a\",\"secret\":\"hunter2\"}",
    "FLUX.REGISTER {\"name\":\"a\",\"\\u0073ECRET\":\"hunter2\"} TTL 60000",
    "MIGRATE h 1 k 0 10 AUTH hunter2",
    "MIGRATE h 1 k 0 10 AUTH2 default hunter2",
    "ACL SETUSER bob >hunter2",
];

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Line(text) => text.clone(),
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Many(_, replies) => replies.iter().map(text).collect::<Vec<_>>().join(" "),
    }
}

/// All that a monitor is shown of these lines.
fn monitored(server: &Process, lines: &[&str]) -> Vec<String> {
    let mut monitor = server.connect();
    assert_eq!(monitor.call(&["MONITOR"]).unwrap(), Reply::Line("+OK".into()));
    let mut client = server.connect();
    for line in lines {
        let _ = call(&mut client, line);
    }
    client.call(&["PING", "enough"]).unwrap();
    let mut shown = Vec::new();
    loop {
        let line = text(&monitor.read().unwrap());
        if line.ends_with("\"PING\" \"enough\"") {
            return shown;
        }
        shown.push(line.split_once("] ").map_or(line.clone(), |(_, command)| command.to_owned()));
    }
}

fn call(client: &mut Connection, line: &str) -> Reply {
    client.call(&line.split(' ').collect::<Vec<_>>()).unwrap()
}

#[test]
fn no_monitor_slow_log_or_log_shows_a_password() {
    let server = Process::flux(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000", "--loglevel", "debug"]);
    let shown = monitored(&server, SECRETIVE);
    assert!(shown.iter().any(|line| line == "\"AUTH\" \"(redacted)\""), "{shown:#?}");
    assert!(shown.iter().any(|line| line.ends_with("\"SECRET\" \"(redacted)\"")), "{shown:#?}");
    assert!(shown.iter().any(|line| line == "\"FLUX.REGISTER\" \"(redacted)\""), "{shown:#?}");
    assert!(shown.iter().all(|line| !line.contains("hunter2")), "{shown:#?}");
    // Also where they are queued.
    let queued: Vec<&str> = ["MULTI"].iter().chain(SECRETIVE).chain(&["EXEC"]).copied().collect();
    let mut client = server.connect();
    call(&mut client, "AUTH hunter2");
    for line in &queued {
        let reply = text(&call(&mut client, line));
        assert!(!reply.contains("hunter2"), "{line}: {reply}");
    }
    for line in ["SLOWLOG GET -1", "CLIENT LIST", "INFO everything", "CLIENT INFO", "COMMAND DOCS auth"] {
        let reply = text(&call(&mut client, line));
        assert!(!reply.contains("hunter2") && reply.len() > 1, "{line}: {reply}");
    }
    let slow = text(&call(&mut client, "SLOWLOG GET -1"));
    for command in ["CONFIG SET requirepass (redacted)", "masterauth (redacted) timeout 0", "SECRET (redacted)"] {
        assert!(slow.contains(command), "{command}: {slow}");
    }
    assert!(!server.log().contains("hunter2"), "{}", server.log());
}

#[test]
fn what_monitors_see_is_what_monitors_of_redis_see() {
    let Some(redis) = Process::redis(&[]) else { return };
    let lines = [
        "SET a b",
        "CONFIG SET hz 10",
        "CONFIG GET hz",
        "CONFIG RESETSTAT",
        "CLIENT LIST",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "CLIENT ID",
        "CLIENT NO-EVICT off",
        "CLIENT UNPAUSE",
        "CLIENT INFO",
        "DEBUG JMAP",
        "SLOWLOG GET",
        "SLOWLOG RESET",
        "LATENCY RESET",
        "LATENCY LATEST",
        "AUTH a b",
        "HELLO 2",
        "HELLO 2 AUTH default x",
        "SELECT 0",
        "COMMAND COUNT",
        "MEMORY DOCTOR",
        "OBJECT ENCODING a",
        "LASTSAVE",
        "INFO server",
        "ROLE",
        "PFADD h a",
        "PFDEBUG ENCODING h",
        "PUBLISH a b",
        "PUBSUB CHANNELS",
        "WATCH a",
        "UNWATCH",
        "MULTI",
        "DISCARD",
        "RESET",
        "ECHO a",
        "TIME",
        "WAIT 0 0",
        "GET",
        "NOSUCH a",
        "CONFIG",
        "CONFIG NOPE",
        "DBSIZE",
        "SWAPDB 0 0",
        "BGREWRITEAOF",
        "MODULE LIST",
        "ACL WHOAMI",
    ];
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    // Of what is not here yet, nothing is shown.
    let known = |line: &String| !line.starts_with("\"ACL") && !line.starts_with("\"MODULE");
    let theirs: Vec<String> = monitored(&redis, &lines).into_iter().filter(known).collect();
    let ours: Vec<String> = monitored(&flux, &lines).into_iter().filter(known).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn files_are_for_nobody_else_to_read() {
    let server = Process::flux(&[]);
    ask(&server, "SET a b");
    ask(&server, "SAVE");
    assert_eq!(ask(&server, "CONFIG SET requirepass hunter2"), Reply::Line("+OK".into()));
    let mut client = server.connect();
    call(&mut client, "AUTH hunter2");
    assert_eq!(call(&mut client, "CONFIG REWRITE"), Reply::Line("+OK".into()));
    assert_eq!(text(&call(&mut client, "CONFIG GET requirepass")), "requirepass hunter2");
    let data = server.data();
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{file:?}");
    }
    assert!(std::fs::read_to_string(data.join("flux.toml")).unwrap().contains("hunter2"));
}

#[test]
fn a_settings_file_that_others_may_read_is_told_of_and_one_that_is_wrong_is_not_repeated() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flux.toml");
    for (permissions, is_told) in [(0o644, true), (0o640, true), (0o600, false)] {
        std::fs::write(&path, "requirepass = \"hunter2\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(permissions)).unwrap();
        let server = Process::flux(&["--config", &path.display().to_string()]);
        drop(send(&server, b"PING\r\n"));
        assert_eq!(server.log().contains("chmod 600"), is_told, "{permissions:o}: {}", server.log());
        let mut client = server.connect();
        call(&mut client, "AUTH hunter2");
        // Writing it anew leaves the permissions as they are.
        call(&mut client, "CONFIG REWRITE");
        assert_eq!(mode(&path), permissions);
    }
    std::fs::write(&path, "port = 1\n\nrequirepass = \"hunter2\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_flux")).args(["serve", "--config"]).arg(&path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("line 3") && !told.contains("hunter2"), "{told}");
}
