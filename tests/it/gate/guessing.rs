//! Passwords that are guessed: whoever guesses waits, on that connection only, and the right one gets in.

use super::{ask, line};
use crate::process::{Process, Reply};

/// More than may be tried at once, and few enough to be over soon.
const GUESSES: usize = 40;

#[test]
fn a_pipeline_of_guesses_waits_while_others_are_served() {
    let server = Process::flux(&["--requirepass", "secret"]);
    let mut attacker = server.connect();
    for _ in 0..GUESSES {
        attacker.send(&["AUTH", "wrong"]).unwrap();
    }
    attacker.send(&["HELLO", "3", "AUTH", "default", "secret"]).unwrap();
    // It waits: a client that has the password sees it do so.
    let mut inside = server.connect();
    assert_eq!(inside.call(&["AUTH", "secret"]).unwrap(), line("+OK"));
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while !shown(&mut inside).contains("blocked_clients:1") {
        assert!(std::time::Instant::now() < deadline, "nobody waits");
    }
    for _ in 0..GUESSES {
        assert!(matches!(attacker.read().unwrap(), Reply::Line(text) if text.starts_with("-WRONGPASS")));
    }
    assert!(matches!(attacker.read().unwrap(), Reply::Many('%', _)), "the right one gets in after all");
    assert_eq!(server.log().lines().filter(|line| line.contains("wrong password")).count(), 1);
}

fn shown(inside: &mut crate::process::Connection) -> String {
    match inside.call(&["INFO", "clients"]).unwrap() {
        Reply::Bulk(_, text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_leaves_while_a_guess_waits_leaves_nothing_behind() {
    let server = Process::flux(&["--requirepass", "secret"]);
    let mut attacker = server.connect();
    for _ in 0..GUESSES {
        attacker.send(&["AUTH", "wrong"]).unwrap();
    }
    assert!(matches!(attacker.read().unwrap(), Reply::Line(text) if text.starts_with("-WRONGPASS")));
    drop(attacker);
    let mut inside = server.connect();
    assert_eq!(inside.call(&["AUTH", "secret"]).unwrap(), line("+OK"));
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while !shown(&mut inside).contains("connected_clients:1\r") || !shown(&mut inside).contains("blocked_clients:0") {
        assert!(std::time::Instant::now() < deadline, "{}", shown(&mut inside));
    }
    assert!(matches!(ask(&server, "GET a"), Reply::Line(text) if text.starts_with("-NOAUTH")));
}
