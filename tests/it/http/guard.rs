//! Who may ask over HTTP: with a password, from which pages, by which names.

use std::io::{Read, Write};

use flux::clock;

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
fn all_routes_are_guarded_alike() {
    let door = Door::open(&[]);
    let (port, bare) = (door.address.port(), format!("{}", door.address));
    let paths = [
        "/",
        "/docs",
        "/docs/docs.js",
        "/openapi.json",
        "/health",
        "/ready",
        "/metrics",
        "/sdk/",
        "/sdk/js/flux.js",
        "/peers",
        "/nothing",
        "/mcp",
        "/resp",
        "/call/x",
    ];
    let refused = |path: &str, head: &str| {
        let head = head.replace("PORT", &port.to_string());
        let mut text = String::new();
        let asked = format!("{head}Connection: close\r\n\r\n").replace("PATH", path);
        door.send(asked.as_bytes()).read_to_string(&mut text).unwrap();
        text.starts_with("HTTP/1.1 403") || text.starts_with("HTTP/1.0 403") || text.starts_with("HTTP/1.1 400")
    };
    for path in paths {
        for head in [
            "GET PATH HTTP/1.1\r\nHost: evil.example:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:80.evil.example\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost@evil.example\r\n",
            "GET PATH HTTP/1.1\r\nHost:\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
            "GET http://evil.example:PORTPATH HTTP/1.1\r\nHost: localhost:PORT\r\n",
            "GET http://localhost:PORTPATH HTTP/1.1\r\nHost: evil.example:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: evil.example:PORT\r\nOrigin: http://evil.example:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://evil.example\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://localhost:3000@evil.com\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: chrome-extension://localhost\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: null\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin:\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
            "POST PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n",
            "OPTIONS PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://evil.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ] {
            // The modules are the same everywhere, and pages of any origin may import them: what they may do then is guarded.
            let is_public =
                path.starts_with("/sdk/js/") && head.contains(": localhost:PORT") && !head.contains("evil.example:PORT");
            assert!(is_public || refused(path, head), "{path}: {head}");
        }
        for head in [
            &format!("GET PATH HTTP/1.1\r\nHost: {bare}\r\n"),
            "GET PATH HTTP/1.1\r\nHost: LOCALHOST:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost.:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: [::1]:PORT\r\n",
            "GET PATH HTTP/1.0\r\n",
            "GET http://localhost:PORTPATH HTTP/1.1\r\nHost: localhost:PORT\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://localhost:5173\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
            "GET PATH HTTP/1.1\r\nHost: localhost:PORT\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n",
        ] {
            assert!(!refused(path, head), "{path}: {head}");
        }
    }
}

#[test]
fn a_name_made_to_point_here_needs_the_password_also_for_what_is_open() {
    let door = Door::open(&[("requirepass", "secret")]);
    for path in OPEN {
        assert_eq!(door.ask("GET", path, &[("Host", "evil.example")], "").status, 403, "{path}");
        assert_eq!(
            door.ask("GET", path, &[("Host", "evil.example"), ("Authorization", "Bearer wrong")], "").status,
            403,
            "{path}"
        );
        assert_eq!(
            door.ask("GET", path, &[("Host", "evil.example"), ("Authorization", "Bearer secret")], "").status,
            200,
            "{path}"
        );
    }
}

#[test]
fn guesses_over_http_wait_and_the_right_password_gets_in() {
    let door = Door::open(&[("requirepass", "secret")]);
    let ask = |password| door.ask("GET", "/peers", &[("Authorization", password)], "").status;
    for _ in 0..22 {
        assert_eq!(ask("Bearer wrong"), 401);
    }
    assert!(door.instance.guesses.owed_ms(Some(door.address.ip()), clock::monotonic_ms()) > 0, "there is a debt");
    assert_eq!(ask("Bearer secret"), 200);
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
fn more_connections_than_maxclients_are_told_so_and_closed() {
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
    let mut text = Vec::new();
    let _ = third.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("\"MAXCLIENTS\"}"), "{text}");
    drop(kept);
}
