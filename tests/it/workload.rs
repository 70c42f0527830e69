//! Random commands of every type from a seed, and the state they lead to in a form that can be compared. The commands
//! do the same wherever they run: no chance, and no clock but in keys under `t:`, which are only ever set as a whole.

use std::collections::BTreeMap;

use redis::{ConnectionLike, Value};

/// Chance from a seed (xorshift64*).
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    pub fn of<'a>(&mut self, these: &[&'a str]) -> &'a str {
        these[self.below(these.len() as u64) as usize]
    }
}

/// A command and its arguments.
pub type Words = Vec<String>;

/// Every command in which something random is filled in: `K` a key, `L` a list, `H` a hash, `S` a set, `Z` a sorted
/// set, `X` a stream, `B` a string written into, `T` a key that may expire soon, `e` an element, `v` a value long or
/// short, `n` a small number, `o` an offset, `g` a group, `c` a consumer, `id` a stream's entry, `soon` and `late` moments,
/// `far` one that is not to come, `db` a database. Other tests' shapes have also `A` a key of any of these types, `F` a hash
/// whose fields expire, `i` the number of the step.
const SHAPES: &[&str] = &[
    "SET K v",
    "SET K n",
    "APPEND B v",
    "SETRANGE B o v",
    "SETBIT B o 1",
    "BITFIELD B SET u8 o n",
    "INCRBY K n",
    "INCR count",
    "MSET K v K v K v",
    "MSETEX 2 K v K v XX",
    "MSETEX 2 T v T v EXAT late",
    "SET K v IFNE v",
    "DELEX K IFNE v",
    "GETSET K v",
    "DEL K",
    "UNLINK L",
    "RPUSH L e e e",
    "LPUSH L e v",
    "RPUSH L v v v v v v v v",
    "LPOP L",
    "RPOP L n",
    "LSET L n v",
    "LINSERT L BEFORE e v",
    "LREM L n e",
    "LTRIM L 0 n",
    "LTRIM L n -1",
    "LMOVE L L LEFT RIGHT",
    "HSET H e v e v",
    "HSET H e v e v e v e v e v e v e v",
    "HDEL H e e",
    "HINCRBY H count n",
    "HSETEX H FIELDS 2 e v e v",
    "HSETEX H FXX PXAT far FIELDS 1 e v",
    "HSETEX H PXAT 1 FIELDS 2 e v e v",
    "HGETEX H PXAT far FIELDS 2 e e",
    "HGETEX H PXAT 1 FIELDS 1 e",
    "HGETEX H PERSIST FIELDS 1 e",
    "HGETDEL H FIELDS 2 e e",
    "SADD S e e i",
    "SREM S e e",
    "SMOVE S S e",
    "SUNIONSTORE S S S",
    "SDIFFSTORE S S S",
    "ZADD Z n e n e n e",
    "ZINCRBY Z n e",
    "ZREM Z e e",
    "ZPOPMIN Z",
    "ZREMRANGEBYRANK Z n n",
    "ZUNIONSTORE Z 2 Z Z",
    "GEOADD Z 13.n 38.n e",
    "PFADD K e e",
    "PFADD P e e v",
    "PFADD P v v v v v v v v v v v v v v v v v v v v",
    "PFCOUNT P",
    "PFMERGE P P P",
    "BITOP XOR B B B",
    "BITOP ONE B B B B",
    "INCRBYFLOAT K n.n",
    "XADD X 7-* e v e v",
    "XADD X MAXLEN 50 7-* e v",
    "XDEL X id id",
    "XDELEX X DELREF IDS 2 id id",
    "XDELEX X ACKED IDS 3 id id id",
    "XTRIM X MAXLEN n",
    "XGROUP CREATE X g 0 MKSTREAM",
    "XREADGROUP GROUP g c COUNT n STREAMS X >",
    "XREADGROUP GROUP g c COUNT n STREAMS X >",
    "XACK X g id id id id",
    "XACKDEL X g ACKED IDS 2 id id",
    "XCLAIM X g c 0 id id id RETRYCOUNT n",
    "XGROUP DESTROY X g",
    "PERSIST K",
    "EXPIREAT K late",
    "EXPIREAT H late",
    "EXPIREAT L 1",
    "SET T v PXAT soon",
    "SET T v PXAT late",
    // Long enough not to be journaled whole when it gets another key.
    "SETRANGE K 20000 v",
    "RENAME K K",
    "RENAME L L",
    "RENAME H H",
    "RENAME Z Z",
    "RENAME X X",
    "COPY K K REPLACE",
    "COPY L L REPLACE",
    "COPY X X REPLACE",
    "COPY Z Z REPLACE",
    "COPY H H DB db REPLACE",
    "MOVE K db",
    "MOVE S db",
    "SORT L ALPHA STORE L",
];

/// Rarer ones, with large effects.
const RARE: &[&str] = &["FLUSHDB", "SWAPDB db db", "FLUSHALL", "SWAPDB 0 db"];

/// The next command. `now` is in milliseconds.
pub fn command(chance: &mut Seeded, step: u64, now: u64) -> Words {
    let shape = if chance.below(400) == 0 { chance.of(RARE) } else { chance.of(SHAPES) };
    shape.split(' ').map(|word| fill(chance, word, step, now)).collect()
}

/// What stands for a word of a shape.
pub fn fill(chance: &mut Seeded, word: &str, step: u64, now: u64) -> String {
    match word {
        "K" | "L" | "H" | "S" | "Z" | "X" | "B" | "P" => format!("{}{}", word.to_lowercase(), chance.below(4)),
        "A" => format!("{}{}", chance.of(&["k", "b", "l", "h", "s", "z", "x"]), chance.below(4)),
        "F" => format!("f{}", chance.below(4)),
        "T" => format!("t:{}", chance.below(20)),
        "g" | "c" => format!("{word}{}", chance.below(3)),
        "id" => format!("7-{}", chance.below(100)),
        "i" => format!("i{step}"),
        // Few distinct ones, so that they are met again; many now and then, so that values grow.
        "e" => format!("e{}", if chance.below(4) == 0 { chance.below(1000) } else { chance.below(12) }),
        "v" => match chance.below(60) {
            0 => "large".repeat(chance.below(8000) as usize),
            1..=9 => "middling".repeat(chance.below(80) as usize),
            _ => format!("v{}", chance.below(100_000)),
        },
        "n" => chance.below(30).to_string(),
        "o" => match chance.below(20) {
            0 => chance.below(200_000),
            _ => chance.below(300),
        }
        .to_string(),
        "db" => chance.below(3).to_string(),
        "soon" => (now + chance.below(300)).to_string(),
        "far" => (4_000_000_000_000 + chance.below(1000)).to_string(),
        "late" => (now / 1000 + 100_000 + chance.below(1000)).to_string(),
        _ if word.contains('n') && !word.contains(char::is_uppercase) => word.replace('n', &chance.below(30).to_string()),
        _ => word.to_owned(),
    }
}

/// Everything in the databases the commands use: a key with its database, to its value and expiry as text. Keys under
/// `t:` whose time is near are left out.
pub fn dump(connection: &mut dyn ConnectionLike, now: u64) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for db in 0..3 {
        ask(connection, &["SELECT", &db.to_string()]);
        for key in texts(ask(connection, &["KEYS", "*"])) {
            let expiry = text(ask(connection, &["PEXPIRETIME", &key]));
            // -2: its time came since it was listed.
            let is_near = expiry == "-2" || expiry.parse::<i64>().is_ok_and(|at| at > 0 && at < now as i64 + 10_000);
            if !is_near {
                let value = value(connection, &key);
                all.insert(format!("{db} {key}"), format!("{expiry} {value}"));
            }
        }
    }
    ask(connection, &["SELECT", "0"]);
    all
}

fn value(connection: &mut dyn ConnectionLike, key: &str) -> String {
    let kind = text(ask(connection, &["TYPE", key]));
    let value = match &*kind {
        "string" => text(ask(connection, &["GET", key])),
        "list" => texts(ask(connection, &["LRANGE", key, "0", "-1"])).join(","),
        "hash" => pairs(ask(connection, &["HGETALL", key])),
        "set" => {
            let mut members = texts(ask(connection, &["SMEMBERS", key]));
            members.sort();
            members.join(",")
        }
        "zset" => texts(ask(connection, &["ZRANGE", key, "0", "-1", "WITHSCORES"])).join(","),
        "stream" => {
            // Delivery times differ wherever a command runs.
            let groups = texts(ask(connection, &["XINFO", "GROUPS", key])).join(",");
            let length = text(ask(connection, &["XLEN", key]));
            let pending: Vec<String> = ["g0", "g1", "g2"].map(|group| text(ask(connection, &["XPENDING", key, group]))).into();
            let entries = texts(ask(connection, &["XRANGE", key, "-", "+"])).join(",");
            format!("{length} {entries} {groups} {}", pending.join(","))
        }
        _ => String::new(),
    };
    format!("{kind} {value}")
}

fn pairs(reply: Value) -> String {
    let words = texts(reply);
    let mut pairs: Vec<String> = words.chunks(2).map(|pair| pair.join("=")).collect();
    pairs.sort();
    pairs.join(",")
}

/// A reply; an error as its text.
pub fn ask(connection: &mut dyn ConnectionLike, words: &[&str]) -> Value {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    match connection.req_command(&command) {
        Ok(value) => value,
        Err(error) => Value::SimpleString(format!("error: {error}")),
    }
}

pub fn text(value: Value) -> String {
    texts(value).join(" ")
}

pub fn texts(value: Value) -> Vec<String> {
    match value {
        Value::BulkString(bytes) => vec![bytes.escape_ascii().to_string()],
        Value::SimpleString(text) => vec![text],
        Value::Array(values) | Value::Set(values) => values.into_iter().flat_map(texts).collect(),
        Value::Map(pairs) => pairs.into_iter().flat_map(|(key, value)| [texts(key), texts(value)].concat()).collect(),
        Value::Okay => vec!["OK".into()],
        Value::Int(number) => vec![number.to_string()],
        Value::Double(number) => vec![number.to_string()],
        other => vec![format!("{other:?}")],
    }
}

/// Both texts from a little before they part.
pub fn difference(expected: &str, found: &str) -> String {
    let same = expected.bytes().zip(found.bytes()).take_while(|(a, b)| a == b).count();
    let cut = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(100)..(same + 200).min(text.len())]).into_owned()
    };
    format!("expected …{} found …{}", cut(expected), cut(found))
}
