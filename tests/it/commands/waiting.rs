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

/// Lets time pass, as a client that waits for nothing does.
fn pass(server: &Process, seconds: &str) {
    assert_eq!(server.connect().call(&["BLPOP", "never", seconds]).unwrap(), Reply::Line("*-1".into()));
}

#[test]
fn a_wait_for_replicas_ends_when_its_time_is_over() {
    let mut waiting = Waiting::new();
    assert_eq!(waiting.call("WAIT 1 20"), Reply::Line(":0".into()));
    let here = Reply::Many('*', vec![Reply::Line(":1".into()), Reply::Line(":0".into())]);
    waiting.call("SET key value");
    assert_eq!([waiting.call("WAITAOF 1 1 20"), waiting.call("WAITAOF 1 0 0")], [here.clone(), here]);
}

#[test]
fn a_client_is_not_idle_while_it_is_answered() {
    let server = Process::flux(&["--timeout", "4"]);
    // Long enough that a busy machine makes nobody idle.
    let (mut served, mut slow) = (server.connect(), server.connect());
    slow.call(&[&b"SET"[..], b"large", &vec![b'v'; 40 << 20]]).unwrap();
    served.send(&["BLPOP", "queue", "0"]).unwrap();
    pass(&server, "4.3");
    server.connect().call(&["RPUSH", "queue", "element"]).unwrap();
    assert!(matches!(served.read().unwrap(), Reply::Many('*', _)));
    pass(&server, "0.3");
    assert_eq!(served.call(&["PING"]).unwrap(), Reply::Line("+PONG".into()));
    let mut slow = server.connect();
    slow.send(&["GET", "large"]).unwrap();
    for _ in 0..8 {
        pass(&server, "0.6");
        slow.fill_up(2 << 20).unwrap();
    }
    assert!(matches!(slow.read().unwrap(), Reply::Bulk('$', value) if value.len() == 40 << 20));
}

#[test]
fn what_unblocks_a_client_is_answered_once_and_never_ends_the_next_wait() {
    let mut waiting = Waiting::new();
    let mut client = waiting.wait("BLPOP queue 0");
    let Reply::Bulk(_, list) = waiting.call("CLIENT LIST") else { panic!("a list") };
    let list = String::from_utf8(list).unwrap();
    let line = list.lines().find(|line| line.contains("cmd=blpop")).unwrap();
    let unblock = format!("CLIENT UNBLOCK {}", line.split(' ').next().unwrap().trim_start_matches("id="));
    // Pushed and unblocked at the same moment, whichever comes first counts.
    assert_eq!(waiting.call("MULTI"), Reply::Line("+OK".into()));
    waiting.call("RPUSH queue element");
    waiting.call(&unblock);
    let Reply::Many(_, done) = waiting.call("EXEC") else { panic!("both were done") };
    let was_unblocked = done[1] == Reply::Line(":1".into());
    assert_eq!(client.read().unwrap() == Reply::Line("*-1".into()), was_unblocked);
    assert_eq!(waiting.call(&unblock), Reply::Line(":0".into()));
    client.send(&["BLPOP", "other", "0"]).unwrap();
    waiting.call("RPUSH other element");
    assert!(matches!(client.read().unwrap(), Reply::Many('*', _)));
}

#[test]
fn clients_are_served_in_the_order_their_keys_were_touched_in() {
    for round in 0..20 {
        let mut waiting = Waiting::new();
        let [one, other] = ["one", "other"].map(|name| format!("{name}:{round}"));
        let first = waiting.wait(&format!("BLPOP {one} {other} 0"));
        let second = waiting.wait(&format!("BLPOP {other} {one} 0"));
        waiting.call("MULTI");
        waiting.call(&format!("RPUSH {other} a"));
        waiting.call(&format!("RPUSH {one} b"));
        waiting.call("EXEC");
        let pair = |key: &str, element: &str| Reply::Many('*', vec![bulk(key), bulk(element)]);
        assert_eq!(waiting.answer(first), pair(&other, "a"));
        assert_eq!(waiting.answer(second), pair(&one, "b"));
    }
}
