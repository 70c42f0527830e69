//! What is fuzzed: plain functions of arbitrary bytes that panic when a law is broken. `cargo fuzz run <target>` drives
//! them with libFuzzer; `tests/it/fuzz.rs` includes this file and drives them with seeded random bytes on stable Rust.

use flux::engine::effect::{self, Effect, Row};
use flux::engine::value::{Kind, Value};
use flux::memory;
use flux::resp::request::{Limits, Parser};

/// A function that is fuzzed, by its name, with inputs to start from.
pub struct Target {
    /// What `cargo fuzz run` calls it.
    pub name: &'static str,
    /// Panics when a law is broken.
    pub run: fn(&[u8]),
    /// Well-formed inputs, which are mutated.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests, seeds: request_seeds },
    Target { name: "effects", run: effects, seeds: effect_seeds },
    Target { name: "rows", run: rows, seeds: row_seeds },
];

/// More than all that these inputs need; a count that was believed before its bytes arrived needs gigabytes.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

type Requests = Vec<Vec<Vec<u8>>>;

/// Requests come out the same, up to the same error, however the bytes are split on their way; a length or a count that
/// a client only claims costs no memory.
pub fn requests(bytes: &[u8]) {
    let Some((splits, bytes)) = bytes.split_first_chunk::<4>() else { return };
    let before = memory::used_bytes();
    for is_authenticated in [true, false] {
        let limits = Limits { bulk_bytes_max: 512 << 20, is_authenticated };
        let whole = arrive(&[bytes], limits);
        let mut pieces = Vec::new();
        let (mut rest, mut turn) = (bytes, 0);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((usize::from(splits[turn % 4]) % 40 + 1).min(rest.len()));
            pieces.push(piece);
            (rest, turn) = (after, turn + 1);
        }
        assert_eq!(whole, arrive(&pieces, limits), "a split changed what was read");
    }
    assert!(memory::used_bytes() < before + MEMORY_BYTES_MAX, "memory was taken for what had not arrived");
}

/// Feeds pieces as a connection does.
fn arrive(pieces: &[&[u8]], limits: Limits) -> (Requests, Option<String>) {
    let (mut parser, mut buffer, mut requests) = (Parser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&buffer, limits) {
                Ok(Some(args)) => requests.push(args.iter().map(<[u8]>::to_vec).collect()),
                Ok(None) => break,
                Err(error) => return (requests, Some(error.0)),
            }
        }
        let consumed = parser.consumed();
        buffer.drain(..consumed);
    }
    (requests, None)
}

fn request_seeds() -> Vec<Vec<u8>> {
    [
        &b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"[..],
        b"PING\r\nSET key \"a \\x41\\n\" 'b'\r\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n",
        b"*2147483647\r\n$536870912\r\nx",
        b"*1\r\n$12\r\nhello world!\r\n",
        b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$-1\r\n",
    ]
    .iter()
    .map(|bytes| [&[1, 7, 30, 2], *bytes].concat())
    .collect()
}

/// Bytes are effects or they are refused; an effect that is written again reads the same.
pub fn effects(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest.len();
        let Ok(effect) = effect::read(&mut rest) else { return };
        assert!(rest.len() < before, "an effect takes at least a byte");
        let again = write_effect(effect);
        let mut from = &again[..];
        let read = effect::read(&mut from).expect("what was written can be read");
        assert!(from.is_empty(), "an effect ends where it was written to end");
        assert_eq!(describe(effect), describe(read));
    }
}

fn write_effect(effect: Effect<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let push_rows = |out: &mut Vec<u8>, rows: effect::Rows<'_>| {
        for row in rows {
            match row {
                Row::Put(element, bytes) => effect::push_row(out, element, bytes),
                Row::Remove(element) => effect::push_row_removal(out, element),
            }
        }
        effect::push_end(out);
    };
    match effect {
        Effect::Put { db, key, kind, expire_at, rows } => {
            effect::push_put(&mut out, db, key, kind, expire_at);
            push_rows(&mut out, rows);
        }
        Effect::Remove { db, key } => effect::push_remove(&mut out, db, key),
        Effect::Expire { db, key, expire_at } => effect::push_expire(&mut out, db, key, expire_at),
        Effect::Change { db, key, kind, rows } => {
            effect::push_change(&mut out, db, key, kind);
            push_rows(&mut out, rows);
        }
        Effect::WriteAt { db, key, offset, bytes } => effect::push_write_at(&mut out, db, key, offset as usize, bytes),
        Effect::Flush { db } => effect::push_flush(&mut out, db),
        Effect::Map { stored } => effect::push_map(&mut out, stored),
    }
    out
}

/// An effect as it means, with the rows taken apart: the same rows can stand in different bytes.
fn describe(effect: Effect<'_>) -> String {
    match effect {
        Effect::Put { db, key, kind, expire_at, rows } => {
            format!("put {db} {key:?} {kind:?} {expire_at} {:?}", rows.collect::<Vec<_>>())
        }
        Effect::Change { db, key, kind, rows } => format!("change {db} {key:?} {kind:?} {:?}", rows.collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

fn effect_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    effect::push_put(&mut all, 0, b"key", Kind::Hash, 1_700_000_000_000);
    effect::push_row(&mut all, b"field", b"value");
    effect::push_end(&mut all);
    effect::push_change(&mut all, 3, b"set", Kind::Set);
    effect::push_row(&mut all, b"member", b"");
    effect::push_row_removal(&mut all, b"gone");
    effect::push_end(&mut all);
    effect::push_expire(&mut all, 1, b"key", 5);
    effect::push_write_at(&mut all, 0, b"string", 300, &[7; 200]);
    effect::push_remove(&mut all, 0, b"key");
    effect::push_flush(&mut all, 15);
    effect::push_map(&mut all, 0x0123_4567_89ab_cdef);
    vec![all]
}

/// A value takes any bytes as a row or refuses them, and takes every row that it shows itself. Rows that contradict each
/// other (a stream's last id before one of its entries) may be put right, but only once. The input is the kind's number,
/// then rows: a length byte each for the element and the bytes, 255 for a removal.
pub fn rows(bytes: &[u8]) {
    let Some((number, mut rest)) = bytes.split_first() else { return };
    let Some(kind) = Kind::from_number(number % 6 + 1) else { return };
    let before = memory::used_bytes();
    let mut value = Value::empty(kind);
    let into = value.rows_mut().expect("an empty value is in memory");
    while let Some((element, after)) = take_short(rest) {
        let is_fine = match after.split_first() {
            Some((255, after)) => {
                rest = after;
                into.remove_row(element)
            }
            _ => {
                let Some((bytes, after)) = take_short(after) else { break };
                rest = after;
                into.put_row(element, bytes)
            }
        };
        // What came before a bad row must still be whole.
        if is_fine.is_err() {
            break;
        }
    }
    let put_right = rebuild(&value);
    assert_eq!(show(&put_right), show(&rebuild(&put_right)), "{kind:?} came back different from its rows");
    assert!(memory::used_bytes() < before + MEMORY_BYTES_MAX, "memory was taken for what is not there");
}

fn rebuild(value: &Value) -> Value {
    let shown = show(value);
    assert!(value.rows().is_some_and(|rows| rows.row_count() >= shown.len()), "fewer rows are counted than shown");
    let mut again = Value::empty(value.kind());
    for (element, bytes) in &shown {
        let put = again.rows_mut().expect("an empty value is in memory").put_row(element, bytes);
        assert!(put.is_ok(), "{:?} refused a row it showed: {element:?} {bytes:?}", value.kind());
    }
    again
}

fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

fn show(value: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut shown = Vec::new();
    value.rows().expect("it is in memory").each_row(&mut |element, bytes| shown.push((element.to_vec(), bytes.to_vec())));
    shown
}

fn row_seeds() -> Vec<Vec<u8>> {
    let row = |element: &[u8], bytes: &[u8]| [&[element.len() as u8], element, &[bytes.len() as u8], bytes].concat();
    let at = |index: i64| (index as u64 ^ (1 << 63)).to_be_bytes();
    vec![
        [vec![0], row(b"", b"a string")].concat(),
        [vec![1], row(&at(-1), b"a"), row(&at(0), b"12"), row(&at(1), b"c")].concat(),
        [vec![2], row(b"field", b"value"), row(b"number", b"7"), vec![5], b"field".to_vec(), vec![255]].concat(),
        [vec![3], row(b"member", b""), row(b"12", b""), row(b"13", b"")].concat(),
        [vec![4], row(b"a", &1.5f64.to_le_bytes()), row(b"b", &f64::INFINITY.to_le_bytes())].concat(),
        [vec![5], row(&[0; 17], b"\x01f\x01v"), row(&[1; 16], b"x")].concat(),
    ]
}
