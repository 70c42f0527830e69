//! Commands as templates, from which random ones are made that are mostly right and now and then odd.
//!
//! In a template `[x]` may be left out, `(x|y)` is one of them, `{x}+` is one or more. Single letters are filled in:
//! `k` a key, `v` a value, `i` an integer, `n` a small count, `f` a float, `m` a member or field, `s` a bound of scores,
//! `l` a bound of names, `d` a stream's id, `g` a group, `c` a consumer, `p` a pattern, `t` a time in seconds far away,
//! `o` a bit offset. `!` at the end: arguments are left as they are, since an odd one could wait for ever.

use crate::random::Random;

/// The templates by Redis' groups.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("string", STRING),
    ("bitmap", BITMAP),
    ("generic", GENERIC),
    ("list", LIST),
    ("hash", HASH),
    ("set", SET),
    ("sorted set", ZSET),
    ("stream", STREAM),
    ("geo", GEO),
    ("hyperloglog", HYPERLOGLOG),
    ("transactions", TRANSACTIONS),
];

const STRING: &[&str] = &[
    "SET k v [(NX|XX)] [GET] [(EX t|PX t|KEEPTTL|EXAT i)]",
    "SET k v",
    "SET k i",
    "GET k",
    "GETSET k v",
    "GETDEL k",
    "GETEX k [(EX t|PERSIST|PX t)]",
    "APPEND k v",
    "STRLEN k",
    "INCR k",
    "DECR k",
    "INCRBY k i",
    "DECRBY k i",
    "INCRBYFLOAT k f",
    "GETRANGE k i i",
    "SUBSTR k i i",
    "SETRANGE k n v",
    "SETEX k t v",
    "PSETEX k t v",
    "SETNX k v",
    "MSET {k v}+",
    "MSETNX {k v}+",
    "MGET {k}+",
    "LCS k k [(LEN|IDX)] [MINMATCHLEN n] [WITHMATCHLEN]",
];

const BITMAP: &[&str] = &[
    "SETBIT k o (0|1)",
    "GETBIT k o",
    "BITCOUNT k [i i [(BIT|BYTE)]]",
    "BITPOS k (0|1) [i [i [(BIT|BYTE)]]]",
    "BITOP (AND|OR|XOR) k {k}+",
    "BITOP NOT k k",
    "BITFIELD k {(GET u8 o|SET i5 #n i|INCRBY u16 o i|OVERFLOW (WRAP|SAT|FAIL) INCRBY i8 o i|GET i64 o)}+",
    "BITFIELD_RO k {GET (u8|i16|u63) o}+",
];

const GENERIC: &[&str] = &[
    "DEL {k}+",
    "UNLINK {k}+",
    "EXISTS {k}+",
    "TOUCH {k}+",
    "TYPE k",
    "EXPIRE k t [(NX|XX|GT|LT)]",
    "PEXPIRE k t [(NX|XX|GT|LT)]",
    "EXPIREAT k i [(NX|XX|GT|LT)]",
    "PERSIST k",
    "EXPIRETIME k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k [DB n] [REPLACE]",
    "MOVE k n",
    "KEYS p",
    "DBSIZE",
    "SCAN 0 COUNT 100000 [MATCH p] [TYPE (string|list|hash|set|zset|stream)]",
    "SORT k ALPHA [DESC] [LIMIT n n] [GET #] [STORE k]",
    "SORT k [LIMIT i i] [ASC]",
    "SORT k BY nosort",
    "SORT k BY p->m [GET p] [ALPHA]",
    "SORT_RO k ALPHA [DESC]",
    "SELECT n",
    "SWAPDB n n",
];

const LIST: &[&str] = &[
    "LPUSH k {v}+",
    "RPUSH k {v}+",
    "LPUSHX k {v}+",
    "RPUSHX k {v}+",
    "LPOP k [n]",
    "RPOP k [n]",
    "LLEN k",
    "LINDEX k i",
    "LSET k i v",
    "LINSERT k (BEFORE|AFTER) v v",
    "LRANGE k i i",
    "LRANGE k 0 -1",
    "LREM k i v",
    "LTRIM k i i",
    "LPOS k v [RANK i] [COUNT n] [MAXLEN n]",
    "LMOVE k k (LEFT|RIGHT) (LEFT|RIGHT)",
    "RPOPLPUSH k k",
    "LMPOP n k k (LEFT|RIGHT) [COUNT n]",
    "LMPOP 1 k (LEFT|RIGHT) [COUNT n]",
    "BLPOP k k 0.001 !",
    "BRPOP k 0.001 !",
    "BLMOVE k k LEFT RIGHT 0.001 !",
    "BRPOPLPUSH k k 0.001 !",
    "BLMPOP 0.001 1 k LEFT COUNT n !",
];

const HASH: &[&str] = &[
    "HSET k {m v}+",
    "HMSET k {m v}+",
    "HSETNX k m v",
    "HGET k m",
    "HMGET k {m}+",
    "HGETALL k",
    "HKEYS k",
    "HVALS k",
    "HLEN k",
    "HSTRLEN k m",
    "HEXISTS k m",
    "HDEL k {m}+",
    "HINCRBY k m i",
    "HINCRBYFLOAT k m f",
    "HSCAN k 0 COUNT 100000 [MATCH p]",
    "HRANDFIELD k -0",
];

const SET: &[&str] = &[
    "SADD k {m}+",
    "SREM k {m}+",
    "SISMEMBER k m",
    "SMISMEMBER k {m}+",
    "SCARD k",
    "SMEMBERS k",
    "SMOVE k k m",
    "SINTER {k}+",
    "SUNION {k}+",
    "SDIFF {k}+",
    "SINTERSTORE k {k}+",
    "SUNIONSTORE k {k}+",
    "SDIFFSTORE k {k}+",
    "SINTERCARD 2 k k [LIMIT n]",
    "SSCAN k 0 COUNT 100000 [MATCH p]",
    "SPOP k 100000",
    "SRANDMEMBER k 100000",
];

const ZSET: &[&str] = &[
    "ZADD k [(NX|XX)] [CH] {f m}+",
    "ZADD k [XX] [(GT|LT)] [CH] {f m}+",
    "ZADD k [(NX|XX|GT|LT)] INCR f m",
    "ZINCRBY k f m",
    "ZREM k {m}+",
    "ZCARD k",
    "ZSCORE k m",
    "ZMSCORE k {m}+",
    "ZRANK k m",
    "ZREVRANK k m",
    "ZCOUNT k s s",
    "ZLEXCOUNT k l l",
    "ZRANGE k i i [REV] [WITHSCORES]",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZRANGE k s s BYSCORE [REV] [LIMIT i i] [WITHSCORES]",
    "ZRANGE k l l BYLEX [REV] [LIMIT i i]",
    "ZREVRANGE k i i [WITHSCORES]",
    "ZRANGEBYSCORE k s s [WITHSCORES] [LIMIT i i]",
    "ZREVRANGEBYSCORE k s s [WITHSCORES] [LIMIT i i]",
    "ZRANGEBYLEX k l l [LIMIT i i]",
    "ZREVRANGEBYLEX k l l [LIMIT i i]",
    "ZRANGESTORE k k i i [REV]",
    "ZRANGESTORE k k s s BYSCORE [LIMIT n n]",
    "ZREMRANGEBYRANK k i i",
    "ZREMRANGEBYSCORE k s s",
    "ZREMRANGEBYLEX k l l",
    "ZPOPMIN k [n]",
    "ZPOPMAX k [n]",
    "ZMPOP 2 k k (MIN|MAX) [COUNT n]",
    "ZUNION 2 k k [WEIGHTS f f] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]",
    "ZINTER 2 k k [WEIGHTS f f] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]",
    "ZDIFF 2 k k [WITHSCORES]",
    "ZUNIONSTORE k 2 k k [WEIGHTS f f] [AGGREGATE (SUM|MIN|MAX)]",
    "ZINTERSTORE k 2 k k [WEIGHTS f f] [AGGREGATE (SUM|MIN|MAX)]",
    "ZDIFFSTORE k 2 k k",
    "ZINTERCARD 2 k k [LIMIT n]",
    "ZSCAN k 0 COUNT 100000 [MATCH p]",
    "BZPOPMIN k k 0.001 !",
    "BZPOPMAX k 0.001 !",
    "BZMPOP 0.001 1 k MIN COUNT n !",
];

const STREAM: &[&str] = &[
    "XADD k [NOMKSTREAM] [(MAXLEN n|MINID d|MAXLEN = n|MAXLEN ~ n LIMIT n)] d {m v}+",
    "XADD k d m v",
    "XLEN k",
    "XRANGE k (-|d) (+|d) [COUNT n]",
    "XREVRANGE k (+|d) (-|d) [COUNT n]",
    "XDEL k {d}+",
    "XTRIM k (MAXLEN|MINID) [=] n",
    "XREAD [COUNT n] STREAMS k d",
    "XREAD [COUNT n] STREAMS k k d d",
    "XGROUP CREATE k g (d|$) [MKSTREAM] [ENTRIESREAD n]",
    "XGROUP SETID k g (d|$) [ENTRIESREAD n]",
    "XGROUP DESTROY k g",
    "XGROUP CREATECONSUMER k g c",
    "XGROUP DELCONSUMER k g c",
    "XREADGROUP GROUP g c [COUNT n] [NOACK] STREAMS k (>|d)",
    "XACK k g {d}+",
    "XPENDING k g",
    "XCLAIM k g c 0 {d}+ [JUSTID] [FORCE] [RETRYCOUNT n]",
    "XAUTOCLAIM k g c 0 d [COUNT n] JUSTID",
    "XINFO GROUPS k",
    "XSETID k d [ENTRIESADDED n MAXDELETEDID d]",
];

const GEO: &[&str] = &[
    "GEOADD k [(NX|XX)] [CH] {x x m}+",
    "GEOPOS k {m}+",
    "GEOHASH k {m}+",
    "GEODIST k m m [(M|km|mi|ft)]",
    "GEOSEARCH k FROMMEMBER m BYRADIUS f (M|km|mi|ft) [(ASC|DESC)] [WITHCOORD] [WITHDIST] [WITHHASH]",
    "GEOSEARCH k FROMLONLAT x x BYBOX f f km ASC [COUNT n [ANY]] [WITHDIST]",
    "GEOSEARCHSTORE k k FROMLONLAT x x BYRADIUS f km [ASC] [STOREDIST]",
    "GEORADIUS k x x f km ASC [WITHDIST] [COUNT n]",
    "GEORADIUSBYMEMBER k m f km DESC [WITHCOORD]",
];

const HYPERLOGLOG: &[&str] = &["PFADD k {v}+", "PFCOUNT {k}+", "PFMERGE k {k}+", "PFADD k"];

const TRANSACTIONS: &[&str] = &["MULTI", "EXEC", "EXEC", "DISCARD", "WATCH {k}+", "UNWATCH"];

/// What Redis 8 and Valkey 9 have and Redis 7 has not, with commands that show what these did.
pub const NEWER: &[&str] = &[
    "HGETEX k [(EX t|PX t|PERSIST|EXAT 1|PXAT 50000000000000)] FIELDS 1 m",
    "HGETEX k [(EX t|PX t|PERSIST|EX 0)] FIELDS 3 m m m",
    "HSETEX k [(FNX|FXX)] [(EX t|PX t|KEEPTTL|PXAT 1)] FIELDS 1 m v",
    "HSETEX k [(EX t|PX t|KEEPTTL|EX 0)] [(FNX|FXX)] FIELDS 2 m v m v",
    "HGETDEL k FIELDS 1 m",
    "HGETDEL k FIELDS 2 m m",
    "HSET k {m v}+",
    "HPERSIST k FIELDS 1 m",
    "HPERSIST k FIELDS 3 m m m",
    "HEXPIRE k t [(NX|XX|GT|LT)] FIELDS 2 m m",
    "HINCRBY k m i",
    "HGETALL k",
    "HSCAN k 0 COUNT 100000 NOVALUES",
    "DEL k",
    "SET k v",
    "EXISTS k",
];

/// What only Valkey 9 has. It takes odd arguments where flux follows Redis, so there are none.
pub const NEWER_IN_VALKEY: &[&str] = &[
    "SET k v IFEQ v [GET] [(EX t|PX t|KEEPTTL|EXAT 1)] !",
    "SET k v [GET] [(EX t|KEEPTTL)] IFEQ v !",
    "DELIFEQ k v !",
    "HSETEX k [(NX|XX)] [(EX t|PX t|KEEPTTL|PXAT 1)] FIELDS 1 m v !",
    "HSETEX k [(FNX|FXX)] [(NX|XX)] FIELDS 2 m v m v !",
    "MSETEX 1 k v [(NX|XX)] [(EX t|PX t|KEEPTTL)] !",
    "MSETEX 2 k v k v [(EX t|PX t|KEEPTTL|EXAT 1)] [(NX|XX)] !",
    "SET k v",
    "SET k v",
    "GET k",
    "HGETALL k",
    "DEL k",
    "ZADD k {f m}+",
    "ZSCAN k 0 COUNT 100000 [MATCH p] NOSCORES !",
];

/// Odd words: what commands read where they expect something else.
const ODD: &[&str] = &[
    "",
    "abc",
    "-1",
    "0",
    "1.5",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e500",
    "nan",
    "inf",
    "+1",
    " 1",
    "01",
    "NX",
    "LIMIT",
    "WITHSCORES",
    "COUNT",
    "*",
    "$",
    "(",
    "[",
    "\r\n",
    "0x10",
    "4294967296",
    "-0",
    "1 ",
];

/// A command made from a template of this text.
pub fn make(template: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let (template, may_be_odd) = match template.strip_suffix(" !") {
        Some(rest) => (rest, false),
        None => (template, true),
    };
    let mut words = Vec::new();
    fill(template, random, &mut words);
    let mut words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
    if may_be_odd && random.below(25) == 0 {
        make_odd(&mut words, random);
    }
    words
}

fn make_odd(words: &mut Vec<Vec<u8>>, random: &mut Random) {
    // Not the command's name, and not where SCAN begins, whose order is each server's own.
    let at = 1 + random.below(words.len());
    let odd = ODD[random.below(ODD.len())].as_bytes().to_vec();
    match random.below(4) {
        0 => words.insert(at, odd),
        1 if at < words.len() => drop(words.remove(at)),
        _ if at < words.len() => words[at] = odd,
        _ => words.push(odd),
    }
}

fn fill(template: &str, random: &mut Random, out: &mut Vec<String>) {
    let mut rest = template.trim_start();
    while !rest.is_empty() {
        let (part, after) = match rest.as_bytes()[0] {
            b'[' => bracketed(rest, '[', ']'),
            b'{' => bracketed(rest, '{', '}'),
            b'(' if rest.as_bytes().get(1) != Some(&b' ') => bracketed(rest, '(', ')'),
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        rest = match rest.as_bytes()[0] {
            b'[' => {
                if random.below(3) == 0 {
                    fill(part, random, out);
                }
                after
            }
            b'{' => {
                for _ in 0..1 + random.below(3) {
                    fill(part, random, out);
                }
                after.strip_prefix('+').expect("what is in braces comes once or more")
            }
            b'(' => {
                let choices = choices(part);
                fill(choices[random.below(choices.len())], random, out);
                after
            }
            _ => {
                out.push(word(part, random));
                after
            }
        }
        .trim_start();
    }
}

/// What is between a bracket and its match, and what comes after.
fn bracketed(text: &str, open: char, close: char) -> (&str, &str) {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        depth += i32::from(letter == open) - i32::from(letter == close);
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("`{text}` has no end");
}

fn choices(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '|' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

fn word(part: &str, random: &mut Random) -> String {
    let pick = |random: &mut Random, words: &[&str]| words[random.below(words.len())].to_owned();
    match part {
        "k" => format!("k{}", random.below(6)),
        "v" if random.below(12) == 0 => "x".repeat(random.below(300)),
        "v" => {
            pick(random, &["", "a", "b", "abc", "10", "-5", "3.25", "hello world", "\u{ff}\u{0}", "k1", "9223372036854775807"])
        }
        "i" => pick(random, &["0", "1", "2", "3", "5", "10", "-1", "-2", "-3", "-100", "100", "7"]),
        "n" => random.below(5).to_string(),
        "#n" => format!("#{}", random.below(5)),
        "f" => pick(random, &["0", "1", "2.5", "-1.5", "3", "1e3", "0.1", "inf", "-inf", "17", "-0", "1000"]),
        "m" if random.below(40) == 0 => format!("{:0100}", random.below(5)),
        "m" => format!("{}{}", pick(random, &["m", "m", "f", "1"]), random.below(8)),
        "s" => pick(random, &["-inf", "+inf", "0", "1", "(1", "(2.5", "3", "1000", "(1000"]),
        "l" => pick(random, &["-", "+", "[m1", "(m3", "[f", "(m", "[m7", "[1"]),
        "d" if random.below(20) == 0 => "0".into(),
        "d" => format!("{}-{}", random.below(9), 1 + random.below(9)),
        "g" => format!("g{}", random.below(3)),
        "c" => format!("c{}", random.below(3)),
        "p" => pick(random, &["*", "k*", "m?", "[km]1", "*[0-3]", "k\\*", "x"]),
        "p->m" => format!("k*->m{}", random.below(4)),
        "t" => pick(random, &["100000", "200000", "300000000", "5000000"]),
        "o" => random.below(200).to_string(),
        "x" => pick(random, &["13.361389", "38.115556", "15.087269", "37.502669", "0", "-20.5", "85", "2.349014"]),
        literal => literal.to_owned(),
    }
}
