//! More connections than there is room for: those too many are told so and closed, through whichever door they come, and those within write on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::{PATIENCE, ask, line};
use crate::process::{Process, Reply};

/// Open files that a server of these tests may have: so few that not many connections fill it.
const FILES: u32 = 150;

fn maxclients(server: &Process) -> usize {
    let Reply::Many(_, pair) = ask(server, "CONFIG GET maxclients") else { panic!("it is a setting") };
    let Reply::Bulk(_, number) = &pair[1] else { panic!("it has a value") };
    String::from_utf8_lossy(number).parse().unwrap()
}

#[test]
fn maxclients_is_what_the_system_has_room_for() {
    let server = Process::flux_with_files(&format!("-n {FILES}"), &[]);
    let room = maxclients(&server);
    assert!((10..FILES as usize).contains(&room), "{room}");
    let log = server.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("maxclients is")).collect();
    assert!(matches!(&said[..], [said] if said.contains(&format!("maxclients is {room} now instead of 10000"))), "{log}");
    let refused = ask(&server, "CONFIG SET maxclients 10000");
    let expected = format!(
        "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle the specified \
         number of clients, try with {room}"
    );
    assert_eq!(refused, line(&expected));
    assert_eq!(ask(&server, "CONFIG SET maxclients 20"), line("+OK"));
    assert_eq!(maxclients(&server), 20);
    assert_eq!(ask(&server, &format!("CONFIG SET maxclients {room}")), line("+OK"));
}

#[test]
fn the_soft_limit_is_raised_to_what_maxclients_needs() {
    let server = Process::flux_with_files("-S -n 100", &["--maxclients", "200"]);
    assert_eq!(maxclients(&server), 200);
    assert_eq!(ask(&server, "CONFIG SET maxclients 300"), line("+OK"));
    assert!(!server.log().contains("maxclients is"), "{}", server.log());
    let idle: Vec<TcpStream> = (0..250).map(|_| super::send(&server, b"PING\r\n")).collect();
    for mut socket in &idle {
        let mut answer = [0; 7];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
    }
    assert_eq!(ask(&server, "SET a b"), line("+OK"));
}

#[test]
fn a_crowd_without_the_password_keeps_nobody_from_writing_nor_out_for_ever() {
    // Both doors have one budget: a third of the crowd comes through the other one, or all of it.
    for every in [3, 1] {
        crowd(every);
    }
}

/// A crowd of which `every` so manieth comes over HTTP.
fn crowd(every: usize) {
    let server = Process::flux_with_files(&format!("-n {FILES}"), &["--requirepass", "secret"]);
    let mut inside = server.connect();
    assert_eq!(inside.call(&["AUTH", "secret"]).unwrap(), line("+OK"));
    let Reply::Many(_, pair) = inside.call(&["CONFIG", "GET", "maxclients", "http-port"]).unwrap() else {
        panic!("they are settings")
    };
    let number = |at: usize| match &pair[at] {
        Reply::Bulk(_, text) => String::from_utf8_lossy(text).parse::<usize>().unwrap(),
        other => panic!("{other:?}"),
    };
    let (http, room) = (number(1), number(3));
    let crowd: Vec<TcpStream> = (0..2 * FILES as usize)
        .map(|at| {
            let port = if at % every == 0 { http as u16 } else { server.port() };
            let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
        .collect();
    // Those refused are told so; the others wait for what they never send, or made way for one of those that came later.
    let deadline = Instant::now() + PATIENCE;
    let mut told = vec![(Vec::new(), false); crowd.len()];
    while told.iter().filter(|(_, is_closed)| *is_closed).count() < crowd.len() - room {
        for (mut socket, (text, is_closed)) in crowd.iter().zip(&mut told) {
            socket.set_nonblocking(true).unwrap();
            *is_closed = socket.read_to_end(text).is_ok();
        }
        assert!(Instant::now() < deadline, "{told:?}");
    }
    let closed = told.into_iter().filter(|(_, is_closed)| *is_closed);
    let told: Vec<String> = closed.map(|(text, _)| String::from_utf8(text).unwrap()).collect();
    let is_told = |text: &&String| {
        *text == "-ERR max number of clients reached\r\n" || text.starts_with("HTTP/1.1 503") && text.ends_with("\"MAXCLIENTS\"}")
    };
    assert!(told.iter().any(|text| is_told(&text)), "{told:?}");
    assert!(told.iter().all(|text| text.is_empty() || is_told(&text)), "{told:?}");
    for at in 0..100 {
        assert_eq!(inside.call(&["SET", &format!("key{at}"), &"v".repeat(1000)]).unwrap(), line("+OK"));
    }
    assert_eq!(inside.call(&["SAVE"]).unwrap(), line("+OK"));
    let copy = server.data().with_file_name("copy");
    std::fs::write(&copy, "").unwrap();
    assert_eq!(inside.call(&["FLUX", "BACKUP", &copy.display().to_string()]).unwrap(), line("+OK"));
    // Who has the password gets in while the crowd stays.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.write_all(b"AUTH secret\r\nPING\r\nQUIT\r\n");
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text);
        if text == "+OK\r\n+PONG\r\n+OK\r\n" {
            break;
        }
        assert!(Instant::now() < deadline, "nobody makes way: {text:?}");
    }
    assert_eq!(inside.call(&["PING"]).unwrap(), line("+PONG"), "who has the password stays");
    let log = server.log();
    assert!(log.lines().filter(|line| line.contains("no room for")).count() == 1 && log.lines().count() < 20, "{log}");
    drop(crowd);
}
