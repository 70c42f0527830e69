//! Command scripts: lines of `COMMAND args => reply`, run one after another on a fresh keyspace in memory.
//!
//! Replies are written as a person reads them: `OK`, `3`, `"bytes"` (quotes may be left out for plain words), `(nil)`,
//! `[a, b]`, `{k: v}` for a RESP3 map, `ERR text` for an error. `=> *` takes any reply. A line without `=>` must only
//! not fail. Lines may begin with a client's name and a colon (`a: MULTI`), to act as several clients. `…` within a reply
//! stands for anything, and `=> $name` remembers a reply, for later lines that say `$name`.

use std::collections::HashMap;

use flux::Flux;
use flux::resp::request::split_words;
use flux::store::Blocking;

/// Runs a script.
#[track_caller]
pub fn check(script: &str) {
    let flux = Flux::in_memory();
    let mut clients: HashMap<String, Blocking> = HashMap::new();
    let mut remembered: Vec<(String, String)> = Vec::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = &remembered.iter().fold(line.to_owned(), |line, (name, reply)| line.replace(name, reply));
        let (client, rest) = client_of(line);
        let (command, expected) = match rest.split_once("=>") {
            Some((command, expected)) => (command.trim(), Some(expected.trim())),
            None => (rest, None),
        };
        let words = split_words(command.as_bytes()).expect("quotes balance");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let store = clients.entry(client.to_owned()).or_insert_with(|| flux.blocking());
        let bytes = store.call(&words);
        let shown = show(&bytes);
        match expected {
            Some("*") => {}
            Some(name) if name.starts_with('$') => remembered.push((name.to_owned(), plain(&shown))),
            Some(expected) if is_like(&plain(&shown), &plain(expected)) => {}
            Some(expected) => assert_eq!(plain(&shown), plain(expected), "line {}: {line}", number + 1),
            None => assert!(!bytes.starts_with(b"-"), "line {}: {line}: {shown}", number + 1),
        }
    }
}

fn client_of(line: &str) -> (&str, &str) {
    match line.split_once(": ") {
        Some((name, rest)) if name.len() <= 2 && name.chars().all(char::is_alphanumeric) => (name, rest),
        _ => ("", line),
    }
}

/// Whether a reply is as expected, where `…` stands for anything.
pub fn is_like(shown: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| shown.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        match rest.find(part) {
            _ if parts.peek().is_none() => return rest.ends_with(part),
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// Quotes around plain words make no difference.
pub fn plain(text: &str) -> String {
    text.replace('"', "")
}

/// A reply's bytes as text.
pub fn show(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut shown = Vec::new();
    while !rest.is_empty() {
        shown.push(show_one(&mut rest));
    }
    shown.join(" ")
}

/// Bytes as text; those that are none are written as `\xff`.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) => text.to_owned(),
        _ => bytes
            .iter()
            .map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte).to_string() } else { format!("\\x{byte:02x}") })
            .collect(),
    }
}

fn show_one(rest: &mut &[u8]) -> String {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a reply's line ends");
    let (kind, line) = (rest[0], String::from_utf8_lossy(&rest[1..end]).into_owned());
    *rest = &rest[end + 2..];
    match kind {
        b'$' | b'=' if line != "-1" => {
            let len: usize = line.parse().expect("a length");
            let text = text(&rest[..len]);
            *rest = &rest[len + 2..];
            format!("\"{text}\"")
        }
        b'*' | b'~' | b'>' if line != "-1" => {
            let items: Vec<String> = (0..line.parse().expect("a length")).map(|_| show_one(rest)).collect();
            format!("[{}]", items.join(", "))
        }
        b'%' => {
            let pairs: Vec<String> =
                (0..line.parse().expect("a length")).map(|_| format!("{}: {}", show_one(rest), show_one(rest))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        b'$' | b'*' | b'_' => "(nil)".into(),
        _ => line,
    }
}
