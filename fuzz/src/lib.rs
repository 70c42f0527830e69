//! What is fuzzed: plain functions of arbitrary bytes that panic when a law is broken. `cargo fuzz run <target>` drives
//! them with libFuzzer; `tests/it/fuzz.rs` includes this file and drives them with seeded random bytes on stable Rust.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use flux::clock;
use flux::commands::GROUPS;
use flux::commands::instance::Instance;
use flux::config::Config;
use flux::engine::effect::{self, Effect, Row};
use flux::engine::persist::fold::Fold;
use flux::engine::persist::record::{self, Body, Large, Record};
use flux::engine::persist::{batch, replay};
use flux::engine::value::{BadRow, Kind, Value};
use flux::engine::{Cut, Engine};
use flux::memory;
use flux::resp::request::{Limits, Parser};
use flux::storage::Sum;
use flux::store::Blocking;

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
    Target { name: "batches", run: batches, seeds: batch_seeds },
    Target { name: "records", run: records, seeds: record_seeds },
    Target { name: "commands", run: commands, seeds: command_seeds },
    Target { name: "script", run: script, seeds: script_seeds },
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
                Err(error) => return (requests, Some(error.to_string())),
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
        Effect::Give { db, key, parcel } => effect::push_give(&mut out, db, key, parcel),
        Effect::Copy { db, key, parcel } => effect::push_copy(&mut out, db, key, parcel),
        Effect::Take { db, key, kind, expire_at, parcel } => effect::push_take(&mut out, db, key, kind, expire_at, parcel),
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
    effect::push_give(&mut all, 2, b"from", 300);
    effect::push_copy(&mut all, 2, b"other", 301);
    effect::push_take(&mut all, 3, b"to", Kind::Zset, 1_700_000_000_000, 300);
    effect::push_take(&mut all, 3, b"copy", Kind::List, 0, 301);
    vec![all]
}

/// A value takes any bytes as a row or refuses them, and takes every row that it shows itself. Rows that contradict each
/// other (a stream's last id before one of its entries) may be put right, but only once. The input is the kind's number,
/// then rows: a length byte each for the element and the bytes, 255 for a removal.
pub fn rows(bytes: &[u8]) {
    let Some((number, mut rest)) = bytes.split_first() else { return };
    let Ok(kind) = Kind::from_number(number % 6 + 1) else { return };
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

/// A batch of the journal is refused or folded, whatever it holds; replaying it is refused or works as well.
pub fn batches(bytes: &[u8]) {
    let Ok(batch) = batch::read(bytes) else { return };
    let is_far = |effect: &Effect<'_>| matches!(effect, Effect::WriteAt { offset, .. } if *offset > 1 << 20);
    let mut writes_far = false;
    for (_, effects) in &batch.sections {
        let _ = batch::each_effect(effects, |effect| {
            writes_far |= is_far(&effect);
            Ok::<_, BadRow>(())
        });
    }
    // A write far into a string makes a string that long: so it should.
    if writes_far {
        return;
    }
    let before = memory::used_bytes();
    let mut fold = Fold::default();
    let _ = fold.add_batches(&[bytes, bytes]);
    let engine = Engine::new(false);
    let _ = replay::replay(&engine, &(), [bytes], 1);
    assert!(memory::used_bytes() < before + MEMORY_BYTES_MAX, "memory was taken for what is not there");
}

fn batch_seeds() -> Vec<Vec<u8>> {
    let effects = effect_seeds().concat();
    let cut = Cut { epoch: 1, shards: vec![(0, effects.clone().into()), (63, effects.into())] };
    vec![batch::Heads::new(&cut, 300).pieces(&cut).concat()]
}

/// A record of the tables is refused or written again as it was, and its value is refused or built.
pub fn records(bytes: &[u8]) {
    let Ok(record) = Record::read(bytes) else { return };
    let mut again = Vec::new();
    record.write(&mut again);
    assert_eq!(Record::read(&again).ok(), Some(record), "a record reads as it was written");
    if let Body::Small(bytes) = record.body {
        let before = memory::used_bytes();
        let _ = record::small_value(record.kind, bytes);
        assert!(memory::used_bytes() < before + MEMORY_BYTES_MAX, "memory was taken for what is not there");
    }
}

fn record_seeds() -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    record::push_packed(&mut rows, b"field", b"value");
    record::push_packed(&mut rows, b"number", b"7");
    let large = Large { id: 7, count: 70_000, sum: Sum { rows: 40, digest: 9 } };
    let bodies = [Body::Small(b"a string"), Body::Small(&rows), Body::Large(large)];
    let kinds = [Kind::String, Kind::Hash, Kind::List];
    bodies
        .into_iter()
        .zip(kinds)
        .map(|(body, kind)| {
            let mut bytes = Vec::new();
            Record { kind, expire_at: 1_700_000_000_000, body }.write(&mut bytes);
            bytes
        })
        .collect()
}

/// Any command with any arguments is answered, and what it changed is in its effects: applied to nothing, they give the
/// same keyspace. The input is decoded by [`read_command`].
pub fn commands(bytes: &[u8]) {
    let engine = Arc::new(Engine::new(true));
    let instance = Instance::new(Arc::clone(&engine), Arc::new(Config::default()), clock::now_ms());
    let mut store = Blocking::new(&instance);
    store.call(&[b"CONFIG", b"SET", b"proto-max-bulk-len", b"1mb"]);
    let names: Vec<&str> =
        GROUPS.iter().copied().flatten().map(|command| command.name).filter(|name| !LEFT_OUT.contains(name)).collect();
    if bytes.len().is_multiple_of(2) {
        engine.set_parcel_bytes_min(0);
    }
    let (mut rest, mut journal, mut parcels) = (bytes, BTreeMap::new(), BTreeMap::new());
    while let Some(args) = read_command(&mut rest, &names) {
        let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        // In a transaction nothing waits.
        let waits = WAITING.contains(&&*String::from_utf8_lossy(words[0]));
        if waits {
            store.call(&[b"MULTI"]);
        }
        let reply = store.call(&words);
        assert!(reply.ends_with(b"\r\n") || reply.is_empty(), "a reply ends with a line end: {reply:?}");
        if waits {
            store.call(&[b"EXEC"]);
        }
        let cut = engine.cut();
        let sections: Vec<(u8, &[u8])> = cut.shards.iter().map(|(shard, effects)| (*shard, &effects[..])).collect();
        let done = batch::each_in_order(&sections, |effect| {
            apply(effect, &mut journal, &mut parcels);
            Ok::<_, BadRow>(())
        });
        done.expect("effects can be read, in an order");
    }
    assert_eq!(describe_engine(&engine), describe_journal(&journal), "the effects do not give the same keyspace");
}

/// Commands that would end, stop or reconfigure what runs them.
const LEFT_OUT: &[&str] =
    &["shutdown", "debug", "wait", "waitaof", "client", "config", "monitor", "quit", "multi", "exec", "save", "bgsave"];

/// Commands that may wait for keys.
const WAITING: &[&str] =
    &["blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "xread", "xreadgroup"];

/// Words that commands know, keys that collide, and numbers at the borders of types.
const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "{t}d",
    "",
    "0",
    "1",
    "2",
    "-1",
    "-2",
    "3.5",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "4294967296",
    "-",
    "+",
    "(1",
    "[a",
    "*",
    "$",
    ">",
    "=",
    "~",
    "NX",
    "XX",
    "GT",
    "LT",
    "CH",
    "INCR",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "KEEPTTL",
    "PERSIST",
    "GET",
    "SET",
    "COUNT",
    "MATCH",
    "TYPE",
    "LIMIT",
    "WITHSCORES",
    "WITHVALUES",
    "BYSCORE",
    "BYLEX",
    "REV",
    "LEFT",
    "RIGHT",
    "BEFORE",
    "AFTER",
    "RANK",
    "MAXLEN",
    "MINID",
    "NOMKSTREAM",
    "STREAMS",
    "GROUP",
    "CREATE",
    "MKSTREAM",
    "CREATECONSUMER",
    "SETID",
    "DESTROY",
    "FORCE",
    "JUSTID",
    "IDLE",
    "RETRYCOUNT",
    "LASTID",
    "ENTRIESREAD",
    "FULL",
    "STREAM",
    "GROUPS",
    "CONSUMERS",
    "STORE",
    "BY",
    "ALPHA",
    "DESC",
    "#",
    "a*",
    "b->f",
    "WEIGHTS",
    "AGGREGATE",
    "SUM",
    "MIN",
    "MAX",
    "FROMMEMBER",
    "FROMLONLAT",
    "BYRADIUS",
    "BYBOX",
    "m",
    "km",
    "ASC",
    "ANY",
    "WITHCOORD",
    "WITHDIST",
    "STOREDIST",
    "13.361389",
    "38.115556",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "BIT",
    "BYTE",
    "u8",
    "i64",
    "#1",
    "OVERFLOW",
    "SAT",
    "FAIL",
    "INCRBY",
    "FIELDS",
    "FNX",
    "REPLACE",
    "DB",
    "ENCODING",
    "FREQ",
    "USAGE",
    "f",
    "value",
    "1-1",
    "5-*",
    "hello world",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "ABSTTL",
];

/// Takes a command off the front: its number among `names`, how many arguments, and for each a byte: a word, or of 240
/// and more as many raw bytes as it is above.
fn read_command(from: &mut &[u8], names: &[&str]) -> Option<Vec<Vec<u8>>> {
    let (head, mut rest) = from.split_first_chunk::<3>()?;
    let name = names[usize::from(u16::from_le_bytes([head[0], head[1]])) % names.len()];
    let mut args = vec![name.as_bytes().to_vec()];
    for _ in 0..head[2] % 9 {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte < 240 {
            args.push(WORDS[usize::from(byte) % WORDS.len()].into());
        } else {
            let (raw, after) = rest.split_at_checked(usize::from(byte - 240))?;
            rest = after;
            args.push(raw.to_vec());
        }
    }
    *from = rest;
    Some(args)
}

type Journal = BTreeMap<(u8, Vec<u8>), (Value, u64)>;

/// Applies an effect as a start from the journal does.
fn apply(effect: Effect<'_>, to: &mut Journal, parcels: &mut BTreeMap<u64, Value>) {
    match effect {
        Effect::Put { db, key, kind, expire_at, rows } => {
            let mut value = Value::empty(kind);
            apply_rows(rows, &mut value);
            to.insert((db, key.to_vec()), (value, expire_at));
        }
        Effect::Change { db, key, kind, rows } => {
            let (value, _) = to.entry((db, key.to_vec())).or_insert_with(|| (Value::empty(kind), 0));
            assert_eq!(value.kind(), kind, "a change of {key:?} is of another kind than the key");
            apply_rows(rows, value);
        }
        Effect::WriteAt { db, key, offset, bytes } => {
            let (value, _) = to.entry((db, key.to_vec())).or_insert_with(|| (Value::empty(Kind::String), 0));
            let (mut string, offset) = (show(value).pop().map_or(Vec::new(), |(_, bytes)| bytes), offset as usize);
            string.resize(string.len().max(offset + bytes.len()), 0);
            string[offset..offset + bytes.len()].copy_from_slice(bytes);
            value.rows_mut().expect("it is in memory").put_row(b"", &string).expect("a string takes any bytes");
        }
        Effect::Remove { db, key } => drop(to.remove(&(db, key.to_vec()))),
        Effect::Expire { db, key, expire_at } => {
            to.get_mut(&(db, key.to_vec())).expect("a key that expires is there").1 = expire_at
        }
        Effect::Flush { db } => to.retain(|(of, _), _| *of != db),
        Effect::Map { .. } => {}
        Effect::Give { db, key, parcel } => {
            let (value, _) = to.remove(&(db, key.to_vec())).expect("a key that gives its value is there");
            parcels.insert(parcel, value);
        }
        Effect::Copy { db, key, parcel } => {
            let (value, _) = to.get(&(db, key.to_vec())).expect("a key that is copied is there");
            parcels.insert(parcel, rebuild(value));
        }
        Effect::Take { db, key, kind, expire_at, parcel } => {
            let value = parcels.remove(&parcel).expect("it was given");
            assert_eq!(value.kind(), kind, "{key:?} takes a value of another kind");
            to.insert((db, key.to_vec()), (value, expire_at));
        }
    }
}

fn apply_rows(rows: effect::Rows<'_>, value: &mut Value) {
    let value = value.rows_mut().expect("it is in memory");
    for row in rows {
        match row {
            Row::Put(element, bytes) => value.put_row(element, bytes),
            Row::Remove(element) => value.remove_row(element),
        }
        .expect("effects hold rows of their kind");
    }
}

fn describe_journal(journal: &Journal) -> Vec<String> {
    journal.iter().map(|((db, key), (value, expire_at))| describe_value(*db, key, value, *expire_at)).collect()
}

fn describe_engine(engine: &Engine) -> Vec<String> {
    let mut all = BTreeMap::new();
    engine.each_shard(|_, shard| {
        for db in 0..16 {
            let database = shard.database(db);
            for entry in database.keys().iter() {
                let text = describe_value(db, entry.key(), entry.value(), database.expire_at(entry).unwrap_or(0));
                all.insert((db, entry.key().to_vec()), text);
            }
        }
    });
    all.into_values().collect()
}

/// A key with its rows in order: where order means nothing, values show them as they like.
fn describe_value(db: u8, key: &[u8], value: &Value, expire_at: u64) -> String {
    let mut rows = show(value);
    rows.sort();
    format!("{db} {} {:?} {expire_at} {rows:?}", key.escape_ascii(), value.kind())
}

/// Long random inputs, the same in every run: what a command is made of is spread over all byte values.
fn command_seeds() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..400).map(|_| (0..300).map(|_| byte()).collect()).collect()
}

/// Whatever bytes a script gets, hands to Lua's libraries and to commands, and returns: its answer is one value of RESP, and the next script
/// runs as if it had not been.
pub fn script(bytes: &[u8]) {
    let Some(([choice, protocol, split], rest)) = bytes.split_first_chunk::<3>() else { return };
    let rest = &rest[..rest.len().min(4096)];
    let (first, second) = rest.split_at(usize::from(*split).min(rest.len()));
    // One for all, since scripts have a thread of their own in each. Nobody takes its effects, so it keeps none.
    static STORE: LazyLock<Mutex<Blocking>> = LazyLock::new(|| {
        let engine = Arc::new(Engine::new(false));
        let store = Blocking::new(&Instance::new(engine, Arc::new(Config::default()), clock::now_ms()));
        Mutex::new(store)
    });
    let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
    store.call(&[b"CONFIG", b"SET", b"proto-max-bulk-len", b"1mb", b"script-memory-limit", b"4mb"]);
    store.call(&[b"FLUSHALL"]);
    store.call(&[b"HELLO", if protocol % 2 == 0 { b"2" } else { b"3" }]);
    let source = SCRIPTS[usize::from(*choice) % SCRIPTS.len()];
    let answer = store.call(&[b"EVAL", source.as_bytes(), b"1", b"key", first, second]);
    assert_one_value(&answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("LAW"), "{source}: {text}");
    assert_eq!(store.call(&[b"EVAL", b"return {1, #ARGV}", b"0"]), b"*2\r\n:1\r\n:0\r\n", "after {source}");
}

/// What is done with two texts.
const SCRIPTS: &[&str] = &[
    "local ok, v = pcall(cjson.decode, ARGV[1]) if not ok then return v end
     local ok, s = pcall(cjson.encode, v) if not ok then return s end
     local ok, e = pcall(cjson.decode, s) if not ok then error('LAW ' .. e) end return v",
    "local ok, v = pcall(cmsgpack.unpack, ARGV[1]) if not ok then return v end
     local ok, e = pcall(cmsgpack.unpack, cmsgpack.pack(v)) if not ok then error('LAW ' .. e) end return v",
    "return {cmsgpack.unpack(ARGV[1])}",
    "return {cmsgpack.unpack_one(ARGV[1], #ARGV[2])}",
    "return {cmsgpack.unpack_limit(ARGV[1], 3, #ARGV[2])}",
    "return {struct.unpack(ARGV[1], ARGV[2])}",
    "return struct.pack(ARGV[1], 1, -2.5, ARGV[2], 1e300, 'x', 0/0, 7)",
    "return struct.size(ARGV[1])",
    "return {string.find(ARGV[1]:sub(1, 60), ARGV[2]:sub(1, 6))}",
    "return (string.gsub(ARGV[1]:sub(1, 60), ARGV[2]:sub(1, 5), ARGV[2]))",
    "local t = {} for a, b in string.gmatch(ARGV[1]:sub(1, 60), ARGV[2]:sub(1, 5)) do t[#t + 1] = a t[#t + 1] = b end return t",
    "return string.format(ARGV[1], 1, ARGV[2], 2.5, 3)",
    "return {loadstring(ARGV[1], ARGV[2])}",
    "local n = 0 return {load(function() n = n + 1 return ARGV[n] end)}",
    "return redis.error_reply(ARGV[1])",
    "return redis.status_reply(ARGV[1])",
    "error(ARGV[1])",
    "error({err = ARGV[1], source = ARGV[2], line = ARGV[2]})",
    "return {double = tonumber(ARGV[1])}",
    "return {{big_number = ARGV[1]}, {verbatim_string = {format = ARGV[1], string = ARGV[2]}}, {ok = ARGV[2]}, {err = ARGV[1]}}",
    "return {map = {[ARGV[1]] = {set = {[ARGV[2]] = true, [1.5] = true}}, [{}] = cmsgpack.unpack(ARGV[1])}}",
    "local t = {} for w in ARGV[1]:gmatch('[^,]+') do t[#t + 1] = w end redis.setresp(#ARGV[2] % 2 + 2)
     return {redis.pcall(unpack(t)), redis.pcall(unpack(t))}",
    "redis.setresp(3) redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('HGETALL', KEYS[1])",
    "return {redis.sha1hex(ARGV[1]), tostring(tonumber(ARGV[1])), tonumber(ARGV[2], 16), ARGV[1] < ARGV[2], ARGV[1] .. ARGV[2]}",
    "local t = {} for i = 1, #ARGV[1] do t[i] = ARGV[1]:sub(i) end table.sort(t) return table.concat(t, ARGV[2]:sub(1, 10)):sub(1, 1000)",
    "return {bit.tobit(ARGV[1]), bit.tohex(ARGV[1], ARGV[2]), bit.lshift(ARGV[1], ARGV[2])}",
];

/// However deep it is nested.
fn assert_one_value(answer: &[u8]) {
    let (mut rest, mut left) = (answer, 1_usize);
    while left > 0 {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a value begins with a line");
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let (kind, head) = line.split_first().expect("a value has a kind");
        assert!(!head.contains(&b'\n') && !head.contains(&b'\r'), "a line within a line");
        let count = || std::str::from_utf8(head).ok().and_then(|text| text.parse::<i64>().ok()).expect("a length is a number");
        left -= 1;
        rest = after;
        match kind {
            b'+' | b'-' | b'_' | b'#' | b',' | b'(' => {}
            b':' => drop(count()),
            b'$' | b'=' => {
                if let Ok(length) = usize::try_from(count()) {
                    rest = rest[length..].strip_prefix(b"\r\n").expect("a string ends where it says");
                }
            }
            b'*' | b'~' => left += usize::try_from(count()).unwrap_or(0),
            b'%' => left += 2 * usize::try_from(count()).unwrap_or(0),
            _ => panic!("no kind of value: {kind}"),
        }
    }
    assert!(rest.is_empty(), "more than one value: {:?}", String::from_utf8_lossy(answer));
}

fn script_seeds() -> Vec<Vec<u8>> {
    let texts: &[(&[u8], &[u8])] = &[
        (b"{\"a\": [1, 2.5, null, true, \"\\u00e9\\n\"], \"b\": {}}", b""),
        (b"\x82\xa1a\x93\x01\xcb\x40\x04\x00\x00\x00\x00\x00\x00\xc0\xa1b\xdc\x00\x01\xd2\xff\xff\xff\xfe", b"x"),
        (b">i4<hBsc3d!8lx", b"\x00\x00\x00\x01\x02\x00\x05text\x00abc01234567"),
        (b"some text (in braces) = 12", b"%w+()-%b()"),
        (b"%d %s %5.2f %q", b"text"),
        (b"return function(a, ...) local b = {...} for i = 1, #b do a[i] = b end end", b"@name"),
        (b"ERR what\r\nfor", b"txt"),
        (b"1.5e3", b"0x1F"),
        (b"ZADD,key,1,a,2.5,b", b"x"),
        (b"HGETALL,key", b""),
    ];
    let mut seeds = Vec::new();
    for choice in 0..SCRIPTS.len() as u8 {
        for (first, second) in texts {
            seeds.push([&[choice, choice / 2, first.len() as u8], *first, *second].concat());
        }
    }
    seeds
}
