//! Who gets in, and as what: no page of strangers through the port for Redis, nobody to `DEBUG` who was not let, nobody's secrets in
//! `MONITOR`, no guessing of passwords, and no crowd at the door that keeps those within from writing.

mod crowd;
mod foreign;
mod guessing;
mod page;
mod secrets;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::process::{Process, Reply};

/// How long anything may take before it is taken to have failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that has sent these bytes.
fn send(server: &Process, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    socket
}

/// All that is answered until the server closes the connection, which it must do.
fn until_closed(mut socket: impl Read) -> String {
    let mut text = Vec::new();
    if let Err(error) = socket.read_to_end(&mut text) {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "it is still open after {}",
            String::from_utf8_lossy(&text)
        );
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A line's reply on a connection of its own.
fn ask(server: &Process, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    server.connect().call(&words).unwrap()
}

fn line(text: &str) -> Reply {
    Reply::Line(text.into())
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}
