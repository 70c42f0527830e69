//! Who may ask over HTTP: with a password, from which pages, by which names.

use std::io::{Read, Write};

use super::Door;

const OPEN: [&str; 4] = ["/", "/health", "/ready", "/metrics"];

#[test]
fn with_a_password_only_those_who_send_it_may_ask() {
    let door = Door::open(&[("requirepass", "s3:cret")]);
    let status = |headers: &[(&str, &str)]| door.ask("GET", "/nothing", headers, "").status;
    for path in OPEN {
        assert_eq!(door.get(path).0, 200, "{path}");
    }
    let answer = door.ask("GET", "/nothing", &[], "");
    assert_eq!(answer.status, 401);
    assert!(answer.header("WWW-Authenticate").is_some_and(|challenge| challenge.starts_with("Basic")), "{answer:?}");
    assert!(answer.body.contains("\"code\":\"NOAUTH\""), "{answer:?}");
    assert_eq!(status(&[("Authorization", "Bearer s3:cre")]), 401);
    assert_eq!(status(&[("Authorization", "Bearer s3:cret ")]), 404);
    assert_eq!(status(&[("Authorization", "Basic YW55b25lOnMzOmNyZXQ=")]), 404);
    assert_eq!(status(&[("Authorization", "Basic YW55b25lOndyb25n")]), 401);
}

#[test]
fn pages_of_strangers_may_not_ask() {
    let door = Door::open(&[("http-origins", "https://app.example.com")]);
    let ask = |method, origin| door.ask(method, "/nothing", &[("Origin", origin)], "");
    for method in ["GET", "POST", "OPTIONS"] {
        let answer = ask(method, "https://evil.example");
        assert!(answer.status == 403 && answer.body.contains("http-origins"), "{answer:?}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        assert_eq!(ask(method, "null").status, 403);
    }
    for origin in ["https://app.example.com", "http://localhost:5173"] {
        let answer = ask("GET", origin);
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (404, Some(origin)));
    }
    let headers = [("Origin", "http://localhost:5173"), ("Access-Control-Request-Headers", "authorization,if-match")];
    let answer = door.ask("OPTIONS", "/resp", &headers, "");
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Headers")), (204, Some("authorization,if-match")));
}

#[test]
fn a_name_made_to_point_here_is_not_ours() {
    let door = Door::open(&[("http-origins", "https://app.example.com")]);
    let ask = |host, origin: &str| door.ask("GET", "/nothing", &[("Host", host), ("Origin", origin)], "").status;
    assert_eq!(ask("evil.example:3000", "http://evil.example:3000"), 403);
    assert_eq!(ask("app.example.com", "https://app.example.com"), 404);
    assert_eq!(ask("localhost:3000", "http://localhost:3000"), 404);
    // Its page does not know the password.
    let door = Door::open(&[("requirepass", "secret")]);
    let headers = |password| [("Host", "flux.example"), ("Authorization", password)];
    assert_eq!(door.ask("GET", "/nothing", &headers("Bearer secret"), "").status, 404);
    assert_eq!(door.ask("GET", "/nothing", &headers("Bearer other"), "").status, 401);
}

#[test]
fn heads_that_are_too_long_or_no_http_are_refused() {
    let door = Door::open(&[]);
    for bytes in [format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)), "\0\u{1}\u{2}\r\n\r\n".to_owned()] {
        let mut socket = std::net::TcpStream::connect(door.address).unwrap();
        // The rest of it may be refused before it is sent.
        let _ = socket.write_all(bytes.as_bytes());
        let mut text = Vec::new();
        let _ = socket.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(door.get("/health").0, 200);
}

#[test]
fn more_connections_than_maxclients_are_closed() {
    let door = Door::open(&[("maxclients", "2")]);
    let kept: Vec<_> = (0..2)
        .map(|_| {
            let mut socket = door.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let mut first = [0; 12];
            socket.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            socket
        })
        .collect();
    let mut third = std::net::TcpStream::connect(door.address).unwrap();
    let _ = third.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut text = Vec::new();
    let _ = third.read_to_end(&mut text);
    assert!(text.is_empty(), "{}", String::from_utf8_lossy(&text));
    drop(kept);
}
