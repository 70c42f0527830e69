//! Random sequences of commands, against a real redis-server and against a simple model: flux must answer the same,
//! byte for byte. Twenty sequences, always the same; `FLUX_MODEL_ROUNDS` runs so many new ones, `FLUX_MODEL_SEED` repeats one.

mod grammar;
mod reference;

use std::fmt::Write as _;
use std::io;

use grammar::{GROUPS, NEWER, NEWER_IN_VALKEY};

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

/// Commands in a sequence.
const LENGTH: usize = 300;

#[test]
fn replies_are_those_of_redis_in_resp2() {
    compare_with_redis("2");
}

#[test]
fn replies_are_those_of_redis_in_resp3() {
    compare_with_redis("3");
}

#[test]
fn replies_are_those_of_redis_whatever_is_dropped_from_memory_meanwhile() {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    compare(&flux, &redis, Way { spills: Some(4), ..Way::usual("3") });
}

#[test]
fn what_redis_8_added_is_as_there() {
    let Some(redis) = Process::newer("redis-server") else { return };
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    for (protocol, spills) in [("2", None), ("3", None), ("3", Some(4))] {
        compare(&flux, &redis, Way { spills, templates: Some(NEWER), ..Way::usual(protocol) });
    }
}

#[test]
fn what_valkey_added_is_as_there() {
    let Some(valkey) = Process::newer("valkey-server") else { return };
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    for (protocol, spills) in [("2", None), ("3", None), ("3", Some(4))] {
        compare(&flux, &valkey, Way { spills, templates: Some(NEWER_IN_VALKEY), ..Way::usual(protocol) });
    }
}

fn compare_with_redis(protocol: &str) {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&[]);
    compare(&flux, &redis, Way::usual(protocol));
}

/// How two servers are compared.
#[derive(Clone, Copy)]
struct Way<'a> {
    protocol: &'a str,
    /// After so many commands, again and again, all values that can be are dropped from the memory of flux.
    spills: Option<usize>,
    /// The commands, where they are not of every group.
    templates: Option<&'static [&'static str]>,
}

impl Way<'_> {
    fn usual(protocol: &str) -> Way<'_> {
        Way { protocol, spills: None, templates: None }
    }
}

fn compare(flux: &Process, redis: &Process, way: Way<'_>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // The usual run is the same every time; whoever asks for a number of rounds gets new ones.
    let (first, rounds) = match (number("FLUX_MODEL_SEED"), number("FLUX_MODEL_ROUNDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(rounds)) => (u64::from(std::process::id()) << 16, rounds),
        (None, None) => (1, 20),
    };
    // More sequences run after one that differs, so that one failure does not hide another.
    let mut differences = Vec::new();
    for seed in first..first + rounds {
        match sequence(flux, redis, way, seed) {
            Ok(()) => {}
            Err(Difference::Reply(text)) => differences.push(text),
            Err(Difference::Silence(text)) => {
                differences.push(text);
                break;
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {rounds} sequences differ from Redis:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Where a sequence went apart.
enum Difference {
    /// A reply, or a key in the end.
    Reply(String),
    /// flux does not answer any more.
    Silence(String),
}

/// Runs a sequence on both, up to the first reply that differs.
fn sequence(flux: &Process, redis: &Process, way: Way<'_>, seed: u64) -> Result<(), Difference> {
    let Way { protocol, spills, templates } = way;
    let mut random = Random::new(seed);
    let mut spiller = spills.map(|_| flux.connect());
    let (mut flux, mut redis) = (flux.connect(), redis.connect());
    for connection in [&mut flux, &mut redis] {
        begin(connection, protocol).expect("a server answers at the beginning");
    }
    let groups = templates.map_or_else(|| favoured_groups(&mut random), |templates| vec![templates]);
    let (mut said, mut queued) = (Vec::new(), Vec::new());
    for step in 0..LENGTH {
        let templates = groups[random.below(groups.len())];
        let words = grammar::make(templates[random.below(templates.len())], &mut random);
        if let Some(spiller) = spiller.as_mut().filter(|_| spills.is_some_and(|steps| step % steps == 0)) {
            let dropped = spiller.call(&["DEBUG", "SPILL"]).unwrap();
            assert!(matches!(&dropped, Reply::Line(line) if line.starts_with(':')), "{dropped:?}");
        }
        let theirs = redis.call(&words).unwrap();
        let ours = match flux.call(&words) {
            Ok(reply) => reply,
            Err(error) => {
                let text = format!(
                    "FLUX_MODEL_SEED={seed}, RESP{protocol}, step {step}: {} is not answered: {error}\n",
                    show_words(&words)
                );
                return Err(Difference::Silence(text + &story(&said, &words)));
            }
        };
        let (ours_compared, theirs_compared) = (comparable(&words, &queued, &ours), comparable(&words, &queued, &theirs));
        if ours_compared != theirs_compared {
            if is_of_a_later_version(&words, &queued, &ours, &theirs) || is_unspecified(&mut redis, &words, &said) {
                return Ok(());
            }
            let mut text = format!("FLUX_MODEL_SEED={seed}, RESP{protocol}, step {step}: {}\n", show_words(&words));
            let _ = match first_different_part(&queued, &ours, &theirs) {
                Some((words, ours, theirs)) => {
                    writeln!(text, "   in it: {}\n   flux:  {}\n   Redis: {}", show_words(words), show(ours), show(theirs))
                }
                None => writeln!(text, "   flux:  {}\n   Redis: {}", show(&ours_compared), show(&theirs_compared)),
            };
            return Err(Difference::Reply(text + &story(&said, &words)));
        }
        match &theirs {
            Reply::Line(line) if line == "+QUEUED" => queued.push(words.clone()),
            Reply::Line(line) if line.starts_with('-') && !line.starts_with("-EXECABORT") => {}
            _ if words[0] == b"MULTI" || words[0] == b"EXEC" || words[0] == b"DISCARD" => queued.clear(),
            _ => {}
        }
        said.push((words, theirs));
    }
    compare_keys(&mut flux, &mut redis).map_err(|text| Difference::Reply(format!("FLUX_MODEL_SEED={seed}, at the end\n{text}")))
}

fn begin(connection: &mut Connection, protocol: &str) -> io::Result<()> {
    connection.call(&["HELLO", protocol])?;
    let flushed = connection.call(&["FLUSHALL"])?;
    assert_eq!(flushed, Reply::Line("+OK".into()));
    Ok(())
}

/// One or two groups of commands and the generic ones, so that keys are often of the right type.
fn favoured_groups(random: &mut Random) -> Vec<&'static [&'static str]> {
    let named = |name| GROUPS.iter().find(|(group, _)| *group == name).expect("there is such a group").1;
    let mut groups = vec![GROUPS[random.below(GROUPS.len())].1; 6];
    groups.extend([GROUPS[random.below(GROUPS.len())].1; 3]);
    groups.extend([named("generic"), named("transactions")]);
    groups
}

/// Whether a difference is one between Redis 7.0, which is compared with, and 7.4, which flux follows. Keys may differ from
/// here on, so the sequence ends.
fn is_of_a_later_version(words: &[Vec<u8>], queued: &[Vec<Vec<u8>>], ours: &Reply, theirs: &Reply) -> bool {
    let starts = |reply: &Reply, text: &str| matches!(reply, Reply::Line(line) if line.starts_with(text));
    match String::from_utf8_lossy(&words[0]).to_ascii_lowercase().as_str() {
        // An optional WITHSCORE came with 7.2.
        "zrank" | "zrevrank" => starts(theirs, "-ERR wrong number of arguments"),
        // Since 7.2 arguments are checked first, also where there is no key.
        "bitcount" | "bitpos" => starts(ours, "-ERR"),
        // Valkey's conditions on the hash are taken too.
        "hsetex" => starts(theirs, "-ERR unknown argument: NX"),
        "xsetid" => starts(ours, "-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"),
        "lrem" => starts(ours, "-ERR value is out of range"),
        // The text is another since 7.2.
        "xread" | "xreadgroup" => starts(ours, "-ERR Unbalanced") && starts(theirs, "-ERR Unbalanced"),
        // Since 7.2 a consumer that finds nothing to read or claim is made all the same.
        "xgroup" => words[1] == b"CREATECONSUMER",
        "xinfo" => words[1] == b"GROUPS",
        "exec" => first_different_part(queued, ours, theirs)
            .is_some_and(|(words, ours, theirs)| is_of_a_later_version(words, &[], ours, theirs)),
        _ => false,
    }
}

/// Whether Redis promises nothing for these arguments, with the keys as they are.
fn is_unspecified(redis: &mut Connection, words: &[Vec<u8>], said: &[(Vec<Vec<u8>>, Reply)]) -> bool {
    let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
    // In Redis a change of a stream's groups goes unseen by those who watch the stream. Here it is seen.
    if name == "exec" {
        let is_of_groups =
            |name: &[u8]| [&b"XSETID"[..], b"XGROUP", b"XACK", b"XREADGROUP", b"XCLAIM", b"XAUTOCLAIM"].contains(&name);
        return said.iter().any(|(before, _)| before[0] == b"WATCH") && said.iter().any(|(before, _)| is_of_groups(&before[0]));
    }
    // Where another than the first walk goes on is each server's own.
    if name.ends_with("scan") {
        return !words.iter().any(|word| word == b"0");
    }
    // Ranges of names are of members that all have one score.
    if name.contains("lex") || words.iter().any(|word| word.eq_ignore_ascii_case(b"bylex")) {
        let Ok(Reply::Many(_, parts)) = redis.call(&[b"ZRANGE", &words[1][..], b"0", b"-1", b"WITHSCORES"]) else { return false };
        // RESP3 has the pairs in arrays of their own.
        let flat: Vec<Reply> =
            parts.into_iter().flat_map(|part| if let Reply::Many(_, pair) = part { pair } else { vec![part] }).collect();
        let scores: Vec<String> = flat.iter().map(show).skip(1).step_by(2).collect();
        return scores.windows(2).any(|pair| pair[0] != pair[1]);
    }
    // How registers are packed is each server's own; what is counted is compared.
    words[1..]
        .iter()
        .any(|word| matches!(redis.call(&[b"GETRANGE", &word[..], b"0", b"3"]), Ok(Reply::Bulk(_, head)) if head == b"HYLL"))
}

/// The first command of a transaction that was answered differently.
fn first_different_part<'a>(
    queued: &'a [Vec<Vec<u8>>],
    ours: &'a Reply,
    theirs: &'a Reply,
) -> Option<(&'a [Vec<u8>], &'a Reply, &'a Reply)> {
    let (Reply::Many(_, ours), Reply::Many(_, theirs)) = (ours, theirs) else { return None };
    let parts = queued.iter().zip(ours.iter().zip(theirs));
    parts
        .map(|(words, (ours, theirs))| (&words[..], ours, theirs))
        .find(|(words, ours, theirs)| comparable(words, &[], ours) != comparable(words, &[], theirs))
}

/// What must be equal: the reply, what has no order put in order, and scores as numbers: 7.0 writes them with 17 digits in
/// RESP2, later versions and flux with as few as tell them apart.
fn comparable(words: &[Vec<u8>], queued: &[Vec<Vec<u8>>], reply: &Reply) -> Reply {
    let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
    match (name.as_str(), reply) {
        ("keys" | "smembers" | "sinter" | "sunion" | "sdiff" | "spop" | "srandmember" | "hkeys" | "hvals", _) => sorted(reply, 1),
        ("hgetall", _) => sorted(reply, 2),
        // What is sorted by keys that are not there has no order.
        ("sort" | "sort_ro", _) if words.iter().any(|word| word.eq_ignore_ascii_case(b"by")) => sorted(reply, 1),
        ("scan" | "sscan", _) => sorted_inside(reply, 1),
        ("hscan" | "zscan", _) if words.iter().any(|word| word == b"NOVALUES" || word == b"NOSCORES") => sorted_inside(reply, 1),
        ("hscan", _) => sorted_inside(reply, 2),
        // A set that is not sorted comes in any order.
        ("sort" | "sort_ro", _) if words.iter().any(|word| word.eq_ignore_ascii_case(b"nosort")) => sorted(reply, 1),
        // Since 7.2 the arguments are looked at before the key, so a wrong one is an error also where 7.0 says what a missing
        // key gives, or that the key is of another kind.
        ("bitcount" | "bitpos", Reply::Line(line)) if line.starts_with('-') || line == ":0" || line == ":-1" => {
            Reply::Line(":0 or an error".into())
        }
        ("zscan", _) => shortened(&sorted_inside(reply, 2)),
        ("exec", Reply::Many(kind, parts)) if parts.len() == queued.len() => {
            Reply::Many(*kind, queued.iter().zip(parts).map(|(words, part)| comparable(words, &[], part)).collect())
        }
        (name, _) if name.starts_with(['z', 'g']) || name.starts_with("bz") => shortened(reply),
        _ => reply.clone(),
    }
}

fn shortened(reply: &Reply) -> Reply {
    match reply {
        Reply::Many(kind, parts) => Reply::Many(*kind, parts.iter().map(shortened).collect()),
        Reply::Bulk(kind, bytes) if bytes.contains(&b'.') => {
            let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok());
            Reply::Bulk(*kind, number.map_or(bytes.clone(), |number| number.to_string().into_bytes()))
        }
        Reply::Line(line) if line.starts_with(',') => {
            Reply::Line(line[1..].parse::<f64>().map_or(line.clone(), |number| format!(",{number}")))
        }
        other => other.clone(),
    }
}

/// The cursor, then the elements.
fn sorted_inside(reply: &Reply, step: usize) -> Reply {
    match reply {
        Reply::Many(kind, parts) if parts.len() == 2 => Reply::Many(*kind, vec![parts[0].clone(), sorted(&parts[1], step)]),
        other => other.clone(),
    }
}

/// Puts the elements in order, `step` at a time.
fn sorted(reply: &Reply, step: usize) -> Reply {
    match reply {
        Reply::Many(kind, parts) => {
            let mut chunks: Vec<&[Reply]> = parts.chunks(step).collect();
            chunks.sort_unstable();
            Reply::Many(*kind, chunks.concat())
        }
        other => other.clone(),
    }
}

/// The keys as they are in the end, in all databases.
fn compare_keys(flux: &mut Connection, redis: &mut Connection) -> Result<(), String> {
    let mut views = [flux, redis].map(|connection| {
        let _ = connection.call(&["DISCARD"]);
        let mut view = String::new();
        for db in 0..5 {
            connection.call(&["SELECT", &db.to_string()]).unwrap();
            for key in (0..6).map(|number| format!("k{number}")) {
                let _ = writeln!(view, "{db} {key}: {}", show_key(connection, &key));
            }
        }
        view
    });
    let theirs = views[1].split_off(0);
    match views[0].lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs) {
        None => Ok(()),
        Some((ours, theirs)) => Err(format!("   flux:  {ours}\n   Redis: {theirs}\n")),
    }
}

fn show_key(connection: &mut Connection, key: &str) -> String {
    let kind = show(&connection.call(&["TYPE", key]).unwrap());
    let (words, step) = match kind.trim_start_matches('+') {
        "string" => (vec!["GET", key], 0),
        "list" => (vec!["LRANGE", key, "0", "-1"], 0),
        "hash" => (vec!["HGETALL", key], 2),
        "set" => (vec!["SMEMBERS", key], 1),
        "zset" => (vec!["ZRANGE", key, "0", "-1", "WITHSCORES"], 0),
        "stream" => (vec!["XRANGE", key, "-", "+"], 0),
        _ => return "none".into(),
    };
    let value = connection.call(&words).unwrap();
    let value = if step > 0 { sorted(&value, step) } else { shortened(&value) };
    // To the thousand seconds: how long the sequence took must not matter.
    let ttl = match connection.call(&["TTL", key]).unwrap() {
        Reply::Line(line) => (line[1..].parse::<i64>().unwrap_or_default() + 500) / 1000,
        other => panic!("TTL answered {other:?}"),
    };
    format!("{kind} {} expires in {ttl} thousand seconds", show(&value))
}

/// The last commands that had to do with the same keys; for EXEC, all since the transaction before.
fn story(said: &[(Vec<Vec<u8>>, Reply)], words: &[Vec<u8>]) -> String {
    let is_key = |word: &&Vec<u8>| word.len() == 2 && word[0] == b'k';
    let keys: Vec<_> = words.iter().filter(is_key).collect();
    let is_related = |before: &[Vec<u8>]| before.len() == 1 || before.iter().any(|word| keys.contains(&word));
    let related: Vec<_> = if words[0] == b"EXEC" {
        let ended = |(before, reply): &&(Vec<Vec<u8>>, Reply)| before[0] == b"EXEC" && !matches!(reply, Reply::Line(_));
        said.iter().rev().take_while(|said| !ended(said)).collect()
    } else {
        said.iter().rev().filter(|(before, _)| is_related(before)).take(8).collect()
    };
    related.into_iter().rev().map(|(before, reply)| format!("   after: {} -> {}\n", show_words(before), show(reply))).collect()
}

fn show_words(words: &[Vec<u8>]) -> String {
    words
        .iter()
        .map(|word| if word.is_empty() { "''".into() } else { word.escape_ascii().to_string() })
        .collect::<Vec<_>>()
        .join(" ")
}

fn show(reply: &Reply) -> String {
    match reply {
        Reply::Line(line) => line.clone(),
        Reply::Bulk(kind, bytes) => format!("{kind}\"{}\"", bytes.escape_ascii()),
        Reply::Many(kind, parts) => format!("{kind}[{}]", parts.iter().map(show).collect::<Vec<_>>().join(", ")),
    }
}
