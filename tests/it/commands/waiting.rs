//! Clients that wait, and a server that is known to have them wait.

use std::time::{Duration, Instant};

use crate::process::{Connection, Process, Reply};

/// A server and a connection to it that knows how many clients wait.
pub struct Waiting {
    server: Process,
    client: Connection,
    waiting: usize,
}

impl Waiting {
    /// A fresh server.
    pub fn new() -> Waiting {
        let server = Process::flux(&[]);
        let client = server.connect();
        Waiting { server, client, waiting: 0 }
    }

    /// Runs a command.
    pub fn call(&mut self, command: &str) -> Reply {
        self.client.call(&words(command)).unwrap()
    }

    /// A new client that has begun to wait.
    pub fn wait(&mut self, command: &str) -> Connection {
        let mut connection = self.server.connect();
        connection.send(&words(command)).unwrap();
        self.waiting += 1;
        let wanted = format!("blocked_clients:{}\r", self.waiting);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let Reply::Bulk(_, info) = self.call("INFO clients") else { panic!("INFO answers with text") };
            if String::from_utf8_lossy(&info).contains(&wanted) {
                return connection;
            }
            assert!(Instant::now() < deadline, "{command} does not wait");
            std::thread::yield_now();
        }
    }

    /// What a client that waits is told.
    pub fn answer(&mut self, mut connection: Connection) -> Reply {
        self.waiting -= 1;
        connection.read().unwrap()
    }
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// A text.
pub fn bulk(text: &str) -> Reply {
    Reply::Bulk('$', text.into())
}
