//! The Lua of scripts against a redis-server's: the same snippets, the same replies to the byte, for clients of both protocols.

mod libraries;

use flux::lua::{Host, Kind, Options, Verdict, Vm};

use crate::process::{Connection, Process, Reply};

const SNIPPETS: &str = include_str!("snippets.txt");

/// Snippets whose replies may differ, each with a word of it and the reason.
const DIFFERENT: &[(&str, &str)] = &[];

/// Runs a snippet's commands on the server that it is compared with.
struct OnRedis {
    connections: [Connection; 2],
}

impl Host for OnRedis {
    fn call(&mut self, args: &[&[u8]], protocol: u8, reply: &mut Vec<u8>) {
        encode(&self.connections[usize::from(protocol) - 2].call(args).unwrap(), reply);
        // What a script gets to read instead, since a script called it.
        if reply.starts_with(b"-ERR unknown command") {
            *reply = b"-ERR Unknown Redis command called from script\r\n".to_vec();
        } else if reply.starts_with(b"-ERR wrong number of arguments") {
            *reply = b"-ERR Wrong number of args calling Redis command from script\r\n".to_vec();
        }
    }

    fn pause(&mut self) -> Verdict {
        Verdict::GoOn
    }

    fn log(&mut self, _: u8, _: &[u8]) {}

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        (args[0] != b"nope").then_some(true)
    }
}

fn encode(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Line(line) => out.extend(format!("{line}\r\n").as_bytes()),
        Reply::Bulk(kind, bytes) => {
            out.extend(format!("{kind}{}\r\n", bytes.len()).as_bytes());
            out.extend(bytes);
            out.extend(b"\r\n");
        }
        Reply::Many(kind, parts) => {
            let count = if matches!(kind, '%' | '|') { parts.len() / 2 } else { parts.len() };
            out.extend(format!("{kind}{count}\r\n").as_bytes());
            parts.iter().for_each(|part| encode(part, out));
        }
    }
}

/// Addresses differ from run to run.
fn without_addresses(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).into_owned();
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "0x" + part.trim_start_matches(|letter: char| letter.is_ascii_hexdigit()))
}

#[test]
fn snippets_answer_as_in_redis() {
    let Some(redis) = Process::redis(&["--enable-debug-command", "yes"]) else { return };
    let mut theirs = [redis.connect(), redis.connect()];
    let mut host = OnRedis { connections: [redis.connect(), redis.connect()] };
    for connection in [&mut theirs[1], &mut host.connections[1]] {
        connection.call(&["HELLO", "3"]).unwrap();
    }
    let mut vm = Vm::new(&Options { kind: Kind::Scripts, limit: 64 << 20, version: "7.0.15".to_owned() });
    let (keys, argv): ([&[u8]; 2], [&[u8]; 2]) = ([b"k1", b"k2"], [b"a1", b"12"]);
    let mut wrong = Vec::new();
    for (client, snippet) in [2, 3].into_iter().flat_map(|client| SNIPPETS.lines().map(move |snippet| (client, snippet))) {
        theirs[0].call(&["FLUSHALL"]).unwrap();
        theirs[0].call(&["SET", "str", "x"]).unwrap();
        let mut there = Vec::new();
        encode(&theirs[client - 2].call(&["EVAL", snippet, "2", "k1", "k2", "a1", "12"]).unwrap(), &mut there);
        theirs[0].call(&["FLUSHALL"]).unwrap();
        theirs[0].call(&["SET", "str", "x"]).unwrap();
        let mut here = Vec::new();
        match vm.compile(&sha(&mut theirs[0], snippet), snippet.as_bytes()) {
            Ok(chunk) => {
                vm.run(&chunk, &keys, &argv, client as u8, &mut host, &mut here);
                vm.forget(chunk);
            }
            Err(why) => here = [b"-", why.as_slice(), b"\r\n"].concat(),
        }
        let (here, there) = (without_addresses(&here), without_addresses(&there));
        if here != there && !DIFFERENT.iter().any(|(word, _)| snippet.contains(word)) {
            wrong.push(format!("RESP{client} {snippet}\n   here:  {here:?}\n   Redis: {there:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a script's name is made of.
fn sha(server: &mut Connection, script: &str) -> String {
    let Ok(Reply::Bulk(_, sha)) = server.call(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", script]) else {
        panic!("a digest")
    };
    String::from_utf8(sha).unwrap()
}
