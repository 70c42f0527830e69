//! Streams of commands of every type against a real redis-server: after a kill at any moment, a full dump of all databases is
//! that of Redis after exactly a prefix of the stream, with at least all that was promised to last.
//!
//! Redis 7.0 has no expiry of hash fields: there, a hash beside each hash under `f` holds the expiries of its fields, and
//! goes where it goes.

use std::collections::BTreeMap;

use redis::Value;

use crate::crash::{History, Reference, Unit, difference, mark, mark_of, packed, replies_of, rounds};
use crate::process::Process;
use crate::workload::{Seeded, Words, ask, fill, text, texts};

/// Rounds of these for each hundred that were asked for: a dump of all takes its time.
const ROUNDS_PER_HUNDRED: u64 = 40;
/// Commands in the largest transactions.
const LARGE: usize = 10_000;
/// Databases that the commands use.
const DATABASES: u64 = 3;
/// What the hash of expiries adds to the name of the hash whose fields they are.
const EXPIRIES: &str = "!";

#[test]
fn a_killed_server_holds_what_redis_holds_after_a_prefix_of_the_commands() {
    let Some(redis) = Process::redis(&[]) else { return };
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port())).unwrap();
    rounds(ROUNDS_PER_HUNDRED, || {
        let mut connection = client.get_connection().unwrap();
        ask(&mut connection, &["FLUSHALL"]);
        let counts = ask(&mut connection, &["COMMAND", "INFO", "HPEXPIREAT"]) != Value::Array(vec![Value::Nil]);
        LikeRedis { connection, of_a_group: if counts { OF_A_GROUP } else { OF_A_GROUP_BEFORE } }
    });
}

struct LikeRedis {
    connection: redis::Connection,
    /// What is compared of groups.
    of_a_group: &'static [&'static str],
}

const OF_A_GROUP: &[&str] = &["name", "consumers", "pending", "last-delivered-id", "entries-read", "lag"];
/// Before 7.4 the last two were counted in another way.
const OF_A_GROUP_BEFORE: &[&str] = &["name", "consumers", "pending", "last-delivered-id"];

/// What a letter is filled with: see [`fill`].
const SHAPES: &[&str] = &[
    "SET K v",
    "SET K n",
    "SET A v PXAT far",
    "SET A v PXAT 1",
    "SET K v KEEPTTL",
    "SETNX A v",
    "MSET K v A v K v",
    "MSETNX K v K v",
    "GETSET K v",
    "GETDEL K",
    "GETEX K PXAT far",
    "GETEX K PERSIST",
    "APPEND B v",
    "APPEND K v",
    "SETRANGE B o v",
    "SETBIT B o 1",
    "BITFIELD B SET u8 o n INCRBY u16 o n",
    "BITOP XOR B B B",
    "BITOP NOT B B",
    "INCRBY K n",
    "DECR count",
    "INCRBYFLOAT K n.5",
    "DEL A",
    "UNLINK A A",
    "RENAME A A",
    "RENAME A A",
    "RENAMENX A A",
    "COPY A A REPLACE",
    "COPY A A DB db REPLACE",
    "COPY A A",
    "MOVE A db",
    "PEXPIREAT A far",
    "PEXPIREAT A 1",
    "PEXPIREAT A far NX",
    "PERSIST A",
    "RPUSH L e e e",
    "LPUSH L e v",
    "RPUSH L v v v v v v v v",
    "LPUSHX L e",
    "LPOP L",
    "RPOP L n",
    "LSET L n v",
    "LINSERT L BEFORE e v",
    "LREM L n e",
    "LTRIM L 0 n",
    "LTRIM L n -1",
    "LMOVE L L LEFT RIGHT",
    "RPOPLPUSH L L",
    "LMPOP 2 L L LEFT COUNT n",
    "SORT L ALPHA STORE L",
    "HSET H e v e v",
    "HSET H e v e v e v e v e v e v e v",
    "HSETNX H e v",
    "HDEL H e e",
    "HINCRBY H count n",
    "HINCRBYFLOAT H count n.5",
    "HSET F e v e v",
    "HSET F e v",
    "HDEL F e e",
    "HINCRBY F e n",
    "HPEXPIREAT F far FIELDS 1 e",
    "HPEXPIREAT F far FIELDS 1 e",
    "HPEXPIREAT F 1 FIELDS 1 e",
    "HPERSIST F FIELDS 1 e",
    "PEXPIREAT F far",
    "PEXPIREAT F 1",
    "DEL F",
    "RENAME F F",
    "COPY F F REPLACE",
    "COPY F F DB db REPLACE",
    "SADD S e e e",
    "SADD S n n n",
    "SREM S e e",
    "SMOVE S S e",
    "SPOP S 1000000",
    "SUNIONSTORE S S S",
    "SDIFFSTORE S S S",
    "SINTERSTORE S S S",
    "ZADD Z n e n e n e",
    "ZADD Z GT CH n e n e",
    "ZINCRBY Z n e",
    "ZREM Z e e",
    "ZPOPMIN Z",
    "ZPOPMAX Z n",
    "ZMPOP 2 Z Z MAX COUNT n",
    "ZREMRANGEBYRANK Z n n",
    "ZREMRANGEBYSCORE Z n n",
    "ZUNIONSTORE Z 2 Z Z",
    "ZINTERSTORE Z 2 Z Z WEIGHTS 2 3",
    "ZDIFFSTORE Z 2 Z Z",
    "ZRANGESTORE Z Z n n",
    "GEOADD Z 13.n 38.n e",
    "PFADD P e e v",
    "PFADD P v v v v v v v v v v v v v v v v v v v v",
    "PFMERGE P P P",
    "RENAME P P",
    "COPY P P DB db REPLACE",
    "DEL P",
    "XADD X 7-* e v e v",
    "XADD X 7-* e v",
    "XADD X MAXLEN 50 7-* e v",
    "XADD X MINID id 7-* e v",
    "XDEL X id id",
    "XTRIM X MAXLEN n",
    "XTRIM X MINID id",
    "XSETID X id",
    "XGROUP CREATE X g 0 MKSTREAM",
    "XGROUP CREATE X g $",
    "XGROUP SETID X g id",
    "XGROUP DESTROY X g",
    "XGROUP DELCONSUMER X g c",
    "XACK X g id id id id id id",
];

/// Rarer ones, with large effects.
const RARE: &[&str] = &["FLUSHDB", "FLUSHALL", "SWAPDB db db", "SWAPDB db db", "SWAPDB db db"];

/// What a consumer of a group does, who is made before: since 7.2 one who finds nothing is made all the same.
const OF_A_CONSUMER: &[&str] = &[
    "XREADGROUP GROUP g c COUNT n STREAMS X >",
    "XREADGROUP GROUP g c COUNT n STREAMS X >",
    "XREADGROUP GROUP g c NOACK COUNT 3 STREAMS X >",
    "XCLAIM X g c 0 id id id id",
    "XCLAIM X g c 0 id id RETRYCOUNT n FORCE JUSTID",
    "XAUTOCLAIM X g c 0 id COUNT n",
];

/// What makes a value large at once, in front of many elements.
const GROWTH: &[(&str, &str)] = &[("RPUSH L", "v"), ("SADD S", "i"), ("HSET H", "i v"), ("HSET F", "i v"), ("ZADD Z", "n i")];

impl Reference for LikeRedis {
    fn unit(&self, chance: &mut Seeded, number: usize) -> Unit {
        if number % 4 == 3 {
            return mark(number);
        }
        let mut unit = match chance.below(120) {
            0 => (0..LARGE).flat_map(|_| commands(chance, number)).take(LARGE).collect(),
            1..4 => vec![growth(chance)],
            4 => vec![filled(chance.of(RARE), chance, number)],
            _ if chance.below(3) == 0 => (0..2 + chance.below(4)).flat_map(|_| commands(chance, number)).collect(),
            _ => commands(chance, number),
        };
        if chance.below(4) == 0 {
            unit.insert(0, vec!["SELECT".into(), chance.below(DATABASES).to_string()]);
            unit.push(vec!["SELECT".into(), "0".into()]);
        }
        unit
    }

    fn lasted(&mut self, flux: &mut redis::Connection, history: &History, promised: usize) -> Result<usize, String> {
        let found_mark = mark_of(flux);
        let of_a_group = self.of_a_group;
        let found = Side { connection: flux, is_redis: false, of_a_group }.dump();
        let mut nearest = String::new();
        for number in history.lasted..=history.units.len() {
            if number > history.lasted {
                self.run(&history.units[number - 1]);
            }
            // Redis has come to this prefix, and cannot go back; where later units change nothing, it is as good as a longer one.
            if number < promised || mark_of(&mut self.connection) != found_mark {
                continue;
            }
            let expected = Side { connection: &mut self.connection, is_redis: true, of_a_group }.dump();
            match difference(&expected, &found) {
                None => return Ok(number),
                Some(difference) => nearest += &format!("after {number} units: {difference}\n"),
            }
        }
        Err(format!("Redis has no such state after {promised} units or more (mark {found_mark}):\n{nearest}"))
    }
}

impl LikeRedis {
    fn run(&mut self, unit: &Unit) {
        let unit: Unit = unit.iter().flat_map(as_redis).collect();
        self.connection.send_packed_command(&packed(&unit)).unwrap();
        // Errors are replies like others.
        (0..replies_of(&unit)).for_each(|_| drop(self.connection.recv_response()));
    }
}

fn commands(chance: &mut Seeded, number: usize) -> Vec<Words> {
    if chance.below(12) > 0 {
        return vec![filled(chance.of(SHAPES), chance, number)];
    }
    let [stream, group, consumer] = ["X", "g", "c"].map(|letter| fill(chance, letter, 0, 0));
    let named = |word: &str, chance: &mut Seeded| match word {
        "X" => stream.clone(),
        "g" => group.clone(),
        "c" => consumer.clone(),
        other => fill(chance, other, number as u64, 0),
    };
    let shapes = ["XGROUP CREATECONSUMER X g c", chance.of(OF_A_CONSUMER)];
    shapes.into_iter().map(|shape| shape.split(' ').map(|word| named(word, chance)).collect()).collect()
}

fn filled(shape: &str, chance: &mut Seeded, number: usize) -> Words {
    shape.split(' ').map(|word| fill(chance, word, number as u64, 0)).collect()
}

fn growth(chance: &mut Seeded) -> Words {
    let (front, element) = GROWTH[chance.below(GROWTH.len() as u64) as usize];
    let mut words = filled(front, chance, 0);
    for number in 0..100 + chance.below(900) as usize {
        words.extend(filled(element, chance, number));
    }
    words
}

/// The commands that do in Redis what this one does in flux.
fn as_redis(words: &Words) -> Vec<Words> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let also = |more: &[&str]| vec![owned(&words), owned(more)];
    let expiries = |key: &str| format!("{key}{EXPIRIES}");
    match words[..] {
        ["HSET", key, ref pairs @ ..] if is_expiring(key) => {
            let fields: Vec<&str> = pairs.iter().copied().step_by(2).collect();
            also(&[&["HDEL", &expiries(key)], &fields[..]].concat())
        }
        ["HDEL", key, ref fields @ ..] if is_expiring(key) => also(&[&["HDEL", &expiries(key)], fields].concat()),
        ["HPEXPIREAT", key, "1", _, _, field] => {
            vec![owned(&["HDEL", key, field]), owned(&["HDEL", &expiries(key), field])]
        }
        ["HPEXPIREAT", key, at, _, _, field] => {
            let script = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end";
            vec![owned(&["EVAL", script, "2", key, &expiries(key), field, at])]
        }
        ["HPERSIST", key, _, _, field] => vec![owned(&["HDEL", &expiries(key), field])],
        ["PEXPIREAT", key, "1"] if is_expiring(key) => also(&["DEL", &expiries(key)]),
        ["DEL", key] if is_expiring(key) => also(&["DEL", &expiries(key)]),
        ["RENAME", from, to] if is_expiring(from) => {
            vec![owned(&["EVAL", RENAME, "4", from, to, &expiries(from), &expiries(to)])]
        }
        ["COPY", from, to, ref more @ ..] if is_expiring(from) => {
            let db: &[&str] = if let ["DB", db, ..] = more { &[db] } else { &[] };
            vec![owned(&[&["EVAL", COPY, "4", from, to, &expiries(from), &expiries(to)], db].concat())]
        }
        ["XSETID", key, id] => vec![owned(&["EVAL", XSETID, "1", key, id])],
        _ => vec![owned(&words)],
    }
}

fn is_expiring(key: &str) -> bool {
    key.starts_with('f')
}

fn owned(words: &[&str]) -> Words {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const RENAME: &str = "
    if KEYS[1] == KEYS[2] or redis.call('EXISTS', KEYS[1]) == 0 then return end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('DEL', KEYS[4])
    if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[4]) end";

const COPY: &str = "
    local function copy(from, to)
        if ARGV[1] then return redis.pcall('COPY', from, to, 'DB', ARGV[1], 'REPLACE') end
        return redis.pcall('COPY', from, to, 'REPLACE')
    end
    if copy(KEYS[1], KEYS[2]) ~= 1 then return end
    if copy(KEYS[3], KEYS[4]) ~= 1 then
        if ARGV[1] then redis.call('SELECT', ARGV[1]) end
        redis.call('DEL', KEYS[4])
    end";

/// Redis 7.0 lets an empty stream's last id go below that of an entry it has deleted; since 7.2 it does not. All ids are `7-n` here.
const XSETID: &str = "
    local about = redis.call('XINFO', 'STREAM', KEYS[1])
    for at = 1, #about, 2 do
        local deleted = about[at] == 'max-deleted-entry-id' and string.match(about[at + 1], '^7%-(%d+)')
        if deleted and tonumber(deleted) > tonumber(string.sub(ARGV[1], 3)) then return end
    end
    redis.call('XSETID', KEYS[1], ARGV[1])";

/// A server to be dumped.
struct Side<'c> {
    connection: &'c mut redis::Connection,
    is_redis: bool,
    of_a_group: &'static [&'static str],
}

impl Side<'_> {
    /// Everything in the databases the commands use: a key with its database, to its expiry and all that is known of its value.
    fn dump(mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for db in 0..DATABASES {
            self.ask(&["SELECT", &db.to_string()]);
            for key in texts(self.ask(&["KEYS", "*"])).into_iter().filter(|key| !key.ends_with(EXPIRIES)) {
                let [kind, expiry] = ["TYPE", "PEXPIRETIME"].map(|name| text(self.ask(&[name, &key])));
                all.insert(format!("{db} {key}"), format!("{kind} expires {expiry}: {}", self.value(&key, &kind)));
            }
        }
        self.ask(&["SELECT", "0"]);
        all
    }

    fn ask(&mut self, words: &[&str]) -> Value {
        ask(self.connection, words)
    }

    fn value(&mut self, key: &str, kind: &str) -> String {
        match kind {
            // How its registers are packed is each server's own.
            "string" if key.starts_with('p') => text(self.ask(&["PFCOUNT", key])),
            "string" => text(self.ask(&["GET", key])),
            "list" => texts(self.ask(&["LRANGE", key, "0", "-1"])).join(","),
            "hash" => {
                let fields = pairs(self.ask(&["HGETALL", key]));
                format!("{fields:?} of which expire {:?}", self.expiries(key, &fields))
            }
            "set" => {
                let mut members = texts(self.ask(&["SMEMBERS", key]));
                members.sort();
                members.join(",")
            }
            "zset" => {
                let members = texts(self.ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]));
                // Redis 7.0 writes scores with all their digits.
                let score = |text: &String| text.parse::<f64>().expect("a score is a number");
                members.chunks(2).map(|pair| format!("{}={},", pair[0], score(&pair[1]))).collect()
            }
            "stream" => self.stream(key),
            other => panic!("{key} is a {other}"),
        }
    }

    /// When which fields expire.
    fn expiries(&mut self, key: &str, fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.is_redis {
            return pairs(self.ask(&["HGETALL", &format!("{key}{EXPIRIES}")]));
        }
        let (count, names) = (fields.len().to_string(), fields.keys().map(String::as_str).collect::<Vec<_>>());
        let times = texts(self.ask(&[&["HPEXPIRETIME", key, "FIELDS", &count], &names[..]].concat()));
        assert_eq!(times.len(), fields.len(), "{key}: {times:?}");
        fields.keys().cloned().zip(times).filter(|(_, at)| at != "-1").collect()
    }

    /// Its entries, and what its groups and their consumers have and have not done; not when, which differs wherever it is run.
    fn stream(&mut self, key: &str) -> String {
        let mut all = texts(self.ask(&["XRANGE", key, "-", "+"])).join(",");
        let about = pairs_of(self.ask(&["XINFO", "STREAM", key]));
        for name in ["length", "last-generated-id", "max-deleted-entry-id", "entries-added", "recorded-first-entry-id", "groups"]
        {
            all += &format!(" {name} {}", about[name]);
        }
        for group in lists(self.ask(&["XINFO", "GROUPS", key])).into_iter().map(pairs_of) {
            all += "; a group:";
            self.of_a_group.iter().for_each(|about| all += &format!(" {about} {}", group[*about]));
            let name = &group["name"];
            for consumer in lists(self.ask(&["XINFO", "CONSUMERS", key, name])).into_iter().map(pairs_of) {
                all += &format!(", {} has {}", consumer["name"], consumer["pending"]);
            }
            for pending in lists(self.ask(&["XPENDING", key, name, "-", "+", "1000000"])).into_iter().map(texts) {
                all += &format!(", {} is with {} for the {}. time", pending[0], pending[1], pending[3]);
            }
        }
        all
    }
}

fn lists(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(values) => values,
        other => panic!("{other:?} is no array"),
    }
}

fn pairs(reply: Value) -> BTreeMap<String, String> {
    texts(reply).chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// The same where values may be arrays.
fn pairs_of(reply: Value) -> BTreeMap<String, String> {
    let mut values = lists(reply).into_iter();
    std::iter::from_fn(|| Some((text(values.next()?), text(values.next()?)))).collect()
}
