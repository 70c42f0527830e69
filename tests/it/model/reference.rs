//! The types as anyone would write them in an afternoon, without thought for speed, and flux against them. Needs no
//! server: it runs on an embedded keyspace.

use std::collections::{BTreeMap, BTreeSet};

use flux::Flux;

use crate::random::Random;
use crate::script::show;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// What a key holds.
#[derive(Debug, Clone)]
enum Value {
    String(String),
    List(Vec<String>),
    Hash(BTreeMap<String, String>),
    Set(BTreeSet<String>),
    /// Scores are whole numbers here; how fractions are written is compared with Redis.
    Zset(BTreeMap<String, i64>),
}

/// All keys, and the rules they follow.
#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<String, Value>,
}

/// An answer as text, or an error's text.
type Answer = Result<String, &'static str>;

/// A key's value of this kind, made empty where there is none; the answer to give where it is of another kind.
macro_rules! value {
    ($model:expr, $key:expr, $kind:ident) => {
        match $model.keys.entry(String::from(&$key[..])).or_insert_with(|| Value::$kind(Default::default())) {
            Value::$kind(value) => value,
            _ => return Err(WRONG_TYPE),
        }
    };
}

impl Model {
    fn call(&mut self, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = self.answer(&words);
        // A key with nothing in it is not there.
        self.keys.retain(|_, value| match value {
            Value::String(_) => true,
            Value::List(list) => !list.is_empty(),
            Value::Hash(hash) => !hash.is_empty(),
            Value::Set(set) => !set.is_empty(),
            Value::Zset(zset) => !zset.is_empty(),
        });
        answer.unwrap_or_else(str::to_owned)
    }

    fn answer(&mut self, words: &[&str]) -> Answer {
        let Some(key) = words.get(1) else { return Err("no key") };
        match words[0] {
            "DEL" => Ok(int(self.keys.remove(*key).is_some())),
            "TYPE" => Ok(match self.keys.get(*key) {
                None => "none",
                Some(Value::String(_)) => "string",
                Some(Value::List(_)) => "list",
                Some(Value::Hash(_)) => "hash",
                Some(Value::Set(_)) => "set",
                Some(Value::Zset(_)) => "zset",
            }
            .into()),
            "SET" => {
                self.keys.insert((*key).into(), Value::String(words[2].into()));
                Ok("OK".into())
            }
            "GET" | "STRLEN" | "GETRANGE" => self.read_string(words),
            "APPEND" | "INCRBY" => self.write_string(words),
            "LPUSH" | "RPUSH" | "LPOP" | "RPOP" | "LLEN" | "LRANGE" | "LINDEX" | "LREM" | "LTRIM" | "LINSERT" => {
                list(value!(self, key, List), words)
            }
            "HSET" | "HGET" | "HDEL" | "HLEN" | "HGETALL" => hash(value!(self, key, Hash), words),
            "SADD" | "SREM" | "SISMEMBER" | "SCARD" | "SMEMBERS" => set(value!(self, key, Set), words),
            "SUNIONSTORE" | "SINTERSTORE" | "SDIFFSTORE" => self.combine(words),
            "ZADD" | "ZREM" | "ZSCORE" | "ZINCRBY" | "ZRANK" | "ZCARD" | "ZRANGE" | "ZCOUNT" => {
                zset(value!(self, key, Zset), words)
            }
            other => panic!("the model does not know {other}"),
        }
    }

    fn read_string(&self, words: &[&str]) -> Answer {
        let found = match self.keys.get(words[1]) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err(WRONG_TYPE),
        };
        Ok(match words[0] {
            "GET" => bulk(found),
            "STRLEN" => int(found.map_or(0, String::len)),
            _ => {
                let text = found.map_or("", String::as_str);
                // Unlike in a list, an end before the beginning is the beginning.
                let end = number(words[3]).max(-(text.len() as i64)).to_string();
                let is_backwards = number(words[2]) < 0 && number(words[3]) < number(words[2]);
                let range = range(&["", "", words[2], &end], 2, text.len());
                quoted(if is_backwards { "" } else { &text[range] })
            }
        })
    }

    fn write_string(&mut self, words: &[&str]) -> Answer {
        let is_new = !self.keys.contains_key(words[1]);
        let text = value!(self, words[1], String);
        if words[0] == "APPEND" {
            text.push_str(words[2]);
            return Ok(int(text.len()));
        }
        if is_new {
            *text = "0".into();
        }
        let (Ok(before), by) = (text.parse::<i64>(), number(words[2])) else {
            return Err("ERR value is not an integer or out of range");
        };
        // As strict as Redis: `+5` and `05` are text.
        if before.to_string() != *text {
            return Err("ERR value is not an integer or out of range");
        }
        let after = before.checked_add(by).ok_or("ERR increment or decrement would overflow")?;
        *text = after.to_string();
        Ok(int(after))
    }

    fn combine(&mut self, words: &[&str]) -> Answer {
        let mut sets = Vec::new();
        for key in &words[2..] {
            sets.push(match self.keys.get(*key) {
                None => BTreeSet::new(),
                Some(Value::Set(set)) => set.clone(),
                Some(_) => return Err(WRONG_TYPE),
            });
        }
        let combined = sets.into_iter().reduce(|all, next| match words[0] {
            "SUNIONSTORE" => &all | &next,
            "SINTERSTORE" => &all & &next,
            _ => &all - &next,
        });
        let combined = combined.unwrap_or_default();
        let count = combined.len();
        self.keys.insert(words[1].into(), Value::Set(combined));
        Ok(int(count))
    }
}

fn list(list: &mut Vec<String>, words: &[&str]) -> Answer {
    Ok(match words[0] {
        "LPUSH" => {
            words[2..].iter().for_each(|value| list.insert(0, (*value).into()));
            int(list.len())
        }
        "RPUSH" => {
            list.extend(words[2..].iter().map(|value| (*value).into()));
            int(list.len())
        }
        "LPOP" => bulk((!list.is_empty()).then(|| list.remove(0)).as_ref()),
        "RPOP" => bulk(list.pop().as_ref()),
        "LLEN" => int(list.len()),
        "LRANGE" => many(list[range(words, 2, list.len())].iter().map(|value| quoted(value))),
        "LINDEX" => bulk(place(number(words[2]), list.len()).map(|at| &list[at])),
        "LTRIM" => {
            let kept = list[range(words, 2, list.len())].to_vec();
            *list = kept;
            "OK".into()
        }
        "LREM" => {
            let (count, value) = (number(words[2]), words[3]);
            let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
            let mut places: Vec<usize> = (0..list.len()).filter(|at| list[*at] == value).collect();
            if count < 0 {
                places.reverse();
            }
            places.truncate(most);
            let mut at = 0;
            list.retain(|_| {
                at += 1;
                !places.contains(&(at - 1))
            });
            int(places.len())
        }
        _ => match list.iter().position(|value| value == words[3]) {
            None if list.is_empty() => int(false),
            None => "-1".into(),
            Some(at) => {
                list.insert(at + usize::from(words[2] == "AFTER"), words[4].into());
                int(list.len())
            }
        },
    })
}

fn hash(hash: &mut BTreeMap<String, String>, words: &[&str]) -> Answer {
    Ok(match words[0] {
        "HSET" => int(words[2..].chunks(2).filter(|pair| hash.insert(pair[0].into(), pair[1].into()).is_none()).count()),
        "HGET" => bulk(hash.get(words[2])),
        "HDEL" => int(words[2..].iter().filter(|field| hash.remove(**field).is_some()).count()),
        "HLEN" => int(hash.len()),
        _ => unordered(hash.iter().map(|(field, value)| format!("{} {}", quoted(field), quoted(value)))),
    })
}

fn set(set: &mut BTreeSet<String>, words: &[&str]) -> Answer {
    Ok(match words[0] {
        "SADD" => int(words[2..].iter().filter(|member| set.insert((**member).into())).count()),
        "SREM" => int(words[2..].iter().filter(|member| set.remove(**member)).count()),
        "SISMEMBER" => int(set.contains(words[2])),
        "SCARD" => int(set.len()),
        _ => unordered(set.iter().map(|member| quoted(member))),
    })
}

fn zset(zset: &mut BTreeMap<String, i64>, words: &[&str]) -> Answer {
    let ranked = |zset: &BTreeMap<String, i64>| {
        let mut ranked: Vec<(i64, String)> = zset.iter().map(|(member, score)| (*score, member.clone())).collect();
        ranked.sort();
        ranked
    };
    Ok(match words[0] {
        "ZADD" => int(words[2..].chunks(2).filter(|pair| zset.insert(pair[1].into(), number(pair[0])).is_none()).count()),
        "ZREM" => int(words[2..].iter().filter(|member| zset.remove(**member).is_some()).count()),
        "ZSCORE" => bulk(zset.get(words[2]).map(i64::to_string).as_ref()),
        "ZINCRBY" => {
            let score = zset.entry(words[3].into()).or_default();
            *score += number(words[2]);
            quoted(&score.to_string())
        }
        "ZRANK" => match ranked(zset).iter().position(|(_, member)| member == words[2]) {
            Some(rank) => int(rank),
            None => "(nil)".into(),
        },
        "ZCARD" => int(zset.len()),
        "ZCOUNT" => int(zset.values().filter(|score| (number(words[2])..=number(words[3])).contains(score)).count()),
        _ => {
            let ranked = ranked(zset);
            many(ranked[range(words, 2, ranked.len())].iter().map(|(_, member)| quoted(member)))
        }
    })
}

fn number(word: &str) -> i64 {
    word.parse().expect("the numbers of this test are numbers")
}

/// A place counted from the end where it is negative.
fn place(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// The places from `words[at]` to `words[at + 1]`, both included, as Redis counts them.
fn range(words: &[&str], at: usize, len: usize) -> std::ops::Range<usize> {
    let from_end = |index: i64| if index < 0 { index + len as i64 } else { index };
    let start = from_end(number(words[at])).max(0) as usize;
    let end = (from_end(number(words[at + 1])) + 1).clamp(0, len as i64) as usize;
    if start < end { start..end } else { 0..0 }
}

fn int(number: impl IntoInt) -> String {
    number.text()
}

/// What is answered as an integer.
trait IntoInt {
    fn text(self) -> String;
}

impl IntoInt for usize {
    fn text(self) -> String {
        self.to_string()
    }
}

impl IntoInt for i64 {
    fn text(self) -> String {
        self.to_string()
    }
}

impl IntoInt for bool {
    fn text(self) -> String {
        i64::from(self).to_string()
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn bulk(text: Option<&String>) -> String {
    text.map_or("(nil)".into(), |text| quoted(text))
}

fn many(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(", "))
}

fn unordered(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.collect();
    parts.sort();
    many(parts.into_iter())
}

#[test]
fn types_behave_as_their_simple_model() {
    let seed = std::env::var("FLUX_MODEL_SEED").ok().and_then(|text| text.parse().ok());
    let first = seed.unwrap_or_else(|| u64::from(std::process::id()) << 16);
    for seed in first..first + if seed.is_some() { 1 } else { 60 } {
        run(seed);
    }
}

fn run(seed: u64) {
    let (mut random, mut model) = (Random::new(seed), Model::default());
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for step in 0..800 {
        let words = command(&mut random);
        let expected = model.call(&words);
        let sent: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let answer = normal(&words[0], &show(&store.call(&sent)));
        assert_eq!(answer, plain(&expected), "FLUX_MODEL_SEED={seed}, step {step}: {}", words.join(" "));
    }
}

/// Quotes make no difference; what comes in any order is put in order.
fn normal(name: &str, answer: &str) -> String {
    let answer = plain(answer);
    let step = match name {
        "SMEMBERS" => 1,
        "HGETALL" => 2,
        _ => return answer,
    };
    let Some(inside) = answer.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return answer };
    let parts: Vec<&str> = inside.split(", ").filter(|part| !part.is_empty()).collect();
    unordered(parts.chunks(step).map(|chunk| chunk.join(" ")))
}

fn plain(text: &str) -> String {
    text.replace('"', "")
}

fn command(random: &mut Random) -> Vec<String> {
    const TEMPLATES: &[&str] = &[
        "DEL k",
        "TYPE k",
        "SET k v",
        "SET k i",
        "GET k",
        "STRLEN k",
        "GETRANGE k i i",
        "APPEND k v",
        "INCRBY k i",
        "LPUSH k v v",
        "RPUSH k v",
        "LPOP k",
        "RPOP k",
        "LLEN k",
        "LRANGE k i i",
        "LINDEX k i",
        "LREM k i v",
        "LTRIM k i i",
        "LINSERT k BEFORE v v",
        "LINSERT k AFTER v v",
        "HSET k v v v v",
        "HGET k v",
        "HDEL k v",
        "HLEN k",
        "HGETALL k",
        "SADD k v v v",
        "SREM k v",
        "SISMEMBER k v",
        "SCARD k",
        "SMEMBERS k",
        "SUNIONSTORE k k k",
        "SINTERSTORE k k k",
        "SDIFFSTORE k k k",
        "ZADD k i v i v",
        "ZREM k v",
        "ZSCORE k v",
        "ZINCRBY k i v",
        "ZRANK k v",
        "ZCARD k",
        "ZRANGE k i i",
        "ZCOUNT k i i",
    ];
    let template = TEMPLATES[random.below(TEMPLATES.len())];
    // A key's first letter is its type's, most of the time, so that most commands do something.
    let kind = template.chars().next().expect("templates are not empty");
    let mut word = |part: &str| match part {
        "k" if random.below(12) == 0 => format!("{}{}", ["L", "H", "S", "Z"][random.below(4)], random.below(3)),
        "k" => format!("{kind}{}", random.below(3)),
        "v" if random.below(50) == 0 => "x".repeat(1 + random.below(200)),
        "v" => format!("v{}", random.below(30)),
        "i" => (random.below(40) as i64 - 20).to_string(),
        literal => literal.into(),
    };
    template.split(' ').map(&mut word).collect()
}
