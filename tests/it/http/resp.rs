//! RESP over WebSocket: a session as over TCP, and clients that do not keep to the protocol.

use std::io::{Read, Write};
use std::net::TcpStream;

use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, WebSocket, client::IntoClientRequest};

use super::Door;
use crate::process::until;

fn connect(door: &Door) -> WebSocket<TcpStream> {
    let request = format!("ws://{}/resp", door.address).into_client_request().unwrap();
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    tungstenite::client::client_with_config(request, door.send(b""), Some(config)).unwrap().0
}

/// Sends a command in one frame, and reads the answer it must get.
fn say(socket: &mut WebSocket<TcpStream>, line: &str, expected: &str) {
    socket.send(Message::binary(format!("{line}\r\n"))).unwrap();
    hear(socket, expected);
}

/// Reads these bytes, in whatever frames.
fn hear(socket: &mut WebSocket<TcpStream>, expected: &str) {
    let mut found = Vec::new();
    while found.len() < expected.len() {
        match socket.read().unwrap() {
            Message::Binary(bytes) => found.extend_from_slice(&bytes),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&found)),
        }
    }
    assert!(found == expected.as_bytes(), "{:.200}", String::from_utf8_lossy(&found));
}

/// The code the server closes with.
fn closed(socket: &mut WebSocket<TcpStream>) -> u16 {
    loop {
        match socket.read().unwrap() {
            Message::Close(frame) => return frame.unwrap().code.into(),
            Message::Binary(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn commands_transactions_and_messages_work_as_over_tcp() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    say(&mut socket, "SET key value", "+OK\r\n");
    say(&mut socket, "GET key", "$5\r\nvalue\r\n");
    say(&mut socket, "MULTI", "+OK\r\n");
    say(&mut socket, "INCR n", "+QUEUED\r\n");
    say(&mut socket, "EXEC", "*1\r\n:1\r\n");
    say(&mut socket, "SUBSCRIBE news", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    door.store().call(&[b"PUBLISH", b"news", b"hello"]);
    hear(&mut socket, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    say(&mut socket, "QUIT", "+OK\r\n");
    assert_eq!(closed(&mut socket), 1000);
}

#[test]
fn where_frames_begin_and_end_means_nothing() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    for byte in b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r" {
        socket.send(Message::binary(vec![*byte])).unwrap();
    }
    socket.send(Message::Ping("there?".into())).unwrap();
    socket.send(Message::binary("\n")).unwrap();
    hear(&mut socket, "$5\r\nhello\r\n");
    let value = "x".repeat(3 << 20);
    say(&mut socket, &format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n{value}", value.len()), "+OK\r\n");
    say(&mut socket, "GET key", &format!("${}\r\n{value}\r\n", value.len()));
}

#[test]
fn a_client_waits_for_keys_and_leaves_none_behind() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    socket.send(Message::binary(b"BLPOP list 0\r\n".to_vec())).unwrap();
    until("it waits", || door.instance.blocked_clients() == 1);
    door.store().call(&[b"LPUSH", b"list", b"element"]);
    hear(&mut socket, "*2\r\n$4\r\nlist\r\n$7\r\nelement\r\n");
    socket.send(Message::binary(b"BLPOP list 0\r\n".to_vec())).unwrap();
    until("it waits again", || door.instance.blocked_clients() == 1);
    drop(socket);
    until("it is gone", || door.instance.blocked_clients() == 0 && door.instance.clients.count() == 0);
}

#[test]
fn the_password_is_given_within() {
    let door = Door::open(&[("requirepass", "secret")]);
    let mut socket = connect(&door);
    say(&mut socket, "GET key", "-NOAUTH Authentication required.\r\n");
    say(&mut socket, "AUTH secret", "+OK\r\n");
    say(&mut socket, "GET key", "$-1\r\n");
}

#[test]
fn it_is_a_client_like_any_other() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    let address = socket.get_ref().local_addr().unwrap();
    say(&mut socket, "PING", "+PONG\r\n");
    let clients = door.instance.clients.all();
    assert_eq!(clients.iter().map(|client| client.from.address.clone()).collect::<Vec<_>>(), [address.to_string()]);
    clients[0].mailbox.leave(|mail| mail.close = Some(true));
    assert_eq!(closed(&mut socket), 1000);
}

#[test]
fn a_websocket_takes_its_room_for_as_long_as_it_is_open() {
    let door = Door::open(&[("maxclients", "1")]);
    let mut socket = connect(&door);
    say(&mut socket, "PING", "+PONG\r\n");
    let mut text = String::new();
    door.send(b"").read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert_eq!(door.instance.sockets.count(), 1);
    drop(socket);
    until("there is room again", || door.instance.sockets.count() == 0);
    assert_eq!(door.get("/health").0, 200);
}

#[test]
fn a_client_that_does_not_read_is_closed_by_the_limit() {
    let door = Door::open(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    door.store().call(&[b"SET", b"key", &vec![b'x'; 32 << 20]]);
    let mut socket = connect(&door);
    socket.send(Message::binary(b"GET key\r\n".to_vec())).unwrap();
    until("it is closed", || door.instance.clients.count() == 0);
}

#[test]
fn text_and_broken_frames_close_the_connection_and_nothing_else() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    socket.send(Message::text("PING\r\n")).unwrap();
    assert_eq!(closed(&mut socket), 1003);
    for frame in [&[0x82, 0x01, b'x'][..], &[0xf2, 0x81], &[0x89, 0xfe, 0, 200], &[0x80, 0x80, 0, 0, 0, 0]] {
        let mut socket = connect(&door);
        socket.get_mut().write_all(frame).unwrap();
        assert_eq!(closed(&mut socket), 1002, "{frame:?}");
    }
    until("all are gone", || door.instance.clients.count() == 0);
}

#[test]
fn a_frame_that_never_comes_whole_is_no_burden() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    // Half a header, then one that announces an exabyte, then a command that ends in the middle of the frame.
    socket.get_mut().write_all(&[0x82]).unwrap();
    socket.get_mut().write_all(&[0xff, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    socket.get_mut().write_all(b"PING\r\nSET key").unwrap();
    hear(&mut socket, "+PONG\r\n");
    drop(socket);
    until("it is gone", || door.instance.clients.count() == 0);
    assert_eq!(door.store().call(&[b"EXISTS", b"key"]), b":0\r\n");
}

#[test]
fn who_asks_without_a_handshake_is_told_what_it_is() {
    let door = Door::open(&[]);
    let found = door.ask("GET", "/resp", &[], "");
    assert!(found.status == 426 && found.body.contains("WebSocket"), "{found:?}");
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short";
    let request = format!("GET /resp HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    let mut text = [0; 20];
    door.send(request.as_bytes()).read_exact(&mut text).unwrap();
    assert!(text.starts_with(b"HTTP/1.1 426"), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn a_stranger_page_gets_no_session() {
    let door = Door::open(&[]);
    let mut request = format!("ws://{}/resp", door.address).into_client_request().unwrap();
    request.headers_mut().insert("Origin", "https://evil.example".parse().unwrap());
    let error = tungstenite::client::client(request, door.send(b"")).expect_err("it is refused").to_string();
    assert!(error.contains("403"), "{error}");
}

#[test]
fn the_end_of_the_server_ends_sessions() {
    let door = Door::open(&[]);
    let mut socket = connect(&door);
    say(&mut socket, "PING", "+PONG\r\n");
    door.instance.end();
    assert_eq!(closed(&mut socket), 1000);
    assert_eq!(door.ask("GET", "/nothing", &[], "").status, 503);
}

#[test]
fn http_within_a_websocket_is_closed_as_over_tcp() {
    let door = Door::open(&[]);
    for foreign in ["GET / HTTP/1.1", "POST / HTTP/1.1", "Host: localhost", "MULTI\r\nSET stolen 1\r\npost"] {
        let mut socket = connect(&door);
        let _ = socket.send(Message::binary(format!("{foreign}\r\nSET stolen 1\r\nEXEC\r\n")));
        let mut heard = Vec::new();
        while let Ok(message) = socket.read() {
            if let Message::Binary(bytes) = message {
                heard.extend_from_slice(&bytes);
            }
        }
        assert!(heard.ends_with(b"neither HTTP nor TLS\r\n"), "{foreign}: {}", String::from_utf8_lossy(&heard));
        assert_eq!(door.store().call(&[b"EXISTS", b"stolen"]), b":0\r\n");
    }
}
