//! The walk in docs/peers.md, as it stands there.
//!
//! `ann> COMMAND` is sent by the client of that name, and the next line is its reply, `...` if it waits; then `ann: REPLY` tells later
//! what came. `eve hears MESSAGE` is the next message of a channel she subscribed to. `…` is anything, `$name` remembers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use flux::Flux;
use flux::resp::request::split_words;

use crate::script::{is_like, plain, show};

/// How long a reply may take before the page is taken to be wrong.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_walk_through_peers_is_as_the_page_tells() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/peers.md")).unwrap();
    let flux = Flux::in_memory();
    let mut clients: HashMap<String, Client> = HashMap::new();
    let mut remembered: Vec<(String, String)> = Vec::new();
    let mut lines = walk(&page);
    assert!(lines.len() > 20, "the page has a walk");
    lines.reverse();
    while let Some(line) = lines.pop() {
        let line = remembered.iter().fold(line, |line, (name, value)| line.replace(name.as_str(), value));
        let (client, expected) = if let Some((name, command)) = line.split_once("> ") {
            let client = clients.entry(name.to_owned()).or_insert_with(|| Client::new(&flux));
            client.commands.send(split_words(command.as_bytes()).unwrap()).unwrap();
            (name.to_owned(), lines.pop().expect("a command has a reply"))
        } else if let Some((name, message)) = line.split_once(" hears ") {
            let shown = clients.get_mut(name).expect("she said something before").heard();
            assert!(shown.iter().any(|shown| is_like(&plain(shown), &plain(message))), "{line}\nheard: {shown:#?}");
            continue;
        } else {
            let (name, reply) = line.split_once(": ").expect("a line is a command, a message or a reply");
            (name.to_owned(), reply.to_owned())
        };
        if expected == "..." {
            continue;
        }
        let reply = clients[&client].replies.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{line}: no reply"));
        let expected = remembered.iter().fold(expected, |expected, (name, value)| expected.replace(name.as_str(), value));
        let (pattern, name) = without_name(&plain(&expected));
        assert!(is_like(&plain(&reply), &pattern), "{line}\nexpected: {expected}\nreply: {reply}");
        remembered.extend(name.map(|(name, before, after)| {
            let reply = plain(&reply);
            let rest = reply.strip_prefix(before.as_str()).unwrap();
            let end = after.chars().next().map_or(rest.len(), |end| rest.find(end).unwrap());
            (name, rest[..end].to_owned())
        }));
    }
}

/// The lines of the blocks that are to be tried.
fn walk(page: &str) -> Vec<String> {
    let blocks = page.split("```peers\n").skip(1);
    blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines().map(str::to_owned)).collect()
}

/// The first `$name` of a line as `…`, and what stands before and after it.
fn without_name(line: &str) -> (String, Option<(String, String, String)>) {
    let Some((before, rest)) = line.split_once('$') else { return (line.to_owned(), None) };
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    (format!("{before}…{after}"), Some((format!("${name}"), before.to_owned(), after.to_owned())))
}

/// A client on a thread of its own, so that it can wait while others go on.
struct Client {
    commands: Sender<Vec<Vec<u8>>>,
    replies: Receiver<String>,
    heard: Vec<String>,
}

impl Client {
    fn new(flux: &Flux) -> Client {
        let mut store = flux.blocking();
        let (commands, received) = channel::<Vec<Vec<u8>>>();
        let (answer, replies) = channel();
        thread::spawn(move || {
            for command in received {
                let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                if answer.send(show(&store.call(&words))).is_err() {
                    return;
                }
            }
        });
        Client { commands, replies, heard: Vec::new() }
    }

    /// What it heard on its channels so far.
    fn heard(&mut self) -> &[String] {
        self.commands.send(vec![b"PING".to_vec()]).unwrap();
        let new = self.replies.recv_timeout(PATIENCE).unwrap();
        let new = new.rsplit_once("[\"pong\"").map_or("", |(messages, _)| messages);
        let texts = new.split("[\"message\", ").filter_map(|message| message.trim_end().strip_suffix(']')?.split_once(", "));
        self.heard.extend(texts.map(|(_, text)| text.to_owned()));
        &self.heard
    }
}
