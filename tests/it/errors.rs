//! Errors are Redis' bytes: every command of the table with arguments that are mostly wrong, here and in a real redis-server, in both
//! protocols. And every command that is no plain one on keys, within a transaction.

use std::collections::{BTreeMap, BTreeSet};

use flux::commands::Group;

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

/// Argument lists for each command and protocol; `FLUX_ERROR_ROUNDS` makes it more.
const ROUNDS: usize = 40;

/// Keys of every kind, and words that are right for some command and wrong for most.
const WORDS: &[&str] = &[
    "str",
    "int",
    "list",
    "hash",
    "set",
    "zset",
    "stream",
    "nokey",
    "",
    "0",
    "1",
    "-1",
    "abc",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1.5",
    "nan",
    "inf",
    "1e400",
    "nx",
    "xx",
    "gt",
    "lt",
    "ch",
    "incr",
    "ex",
    "px",
    "exat",
    "pxat",
    "persist",
    "count",
    "limit",
    "by",
    "get",
    "store",
    "withscores",
    "left",
    "right",
    "$",
    "-",
    "+",
    "*",
    ">",
    "g",
    "c",
    "(1",
    "[a",
    "fields",
    "before",
    "min",
    "m",
    "km",
    "match",
    "type",
    "block",
    "streams",
    "entriesread",
    "0-0",
    "1-1",
    "keepttl",
    "bit",
    "and",
    "not",
    "maxlen",
    "~",
    "=",
    "id",
    "mkstream",
    "weights",
    "aggregate",
    "sum",
    "on",
    "off",
    "yes",
    "no",
    "addr",
    "normal",
    "error",
    "timeout",
    "write",
    "x y",
    "samples",
    "async",
    "sync",
    "skipme",
    "maxage",
    "schedule",
    "bcast",
    "optin",
    "redirect",
    "len",
    "pattern",
    "aclcat",
    "filterby",
    "libraryname",
    "withcode",
    "setname",
    "auth",
    "replace",
    "db",
];

const SETUP: &[&str] = &[
    "FLUSHALL",
    "SET str abc",
    "SET int 5",
    "RPUSH list a b",
    "HSET hash f 1 g x",
    "SADD set a b",
    "ZADD zset 1 a 2 b",
    "XADD stream 1-1 f v",
    "XGROUP CREATE stream g 0",
];

/// Commands that are left out here, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("client|kill", "closes connections"),
    ("client|list", "no error"),
    ("client|pause", "holds back what follows"),
    ("client|reply", "takes replies away"),
    ("config|rewrite", "one has a file to write, one does not"),
    ("config|set", "settings differ"),
    ("debug", "is for looking inside"),
    ("hello", "changes the protocol"),
    ("info", "no error"),
    ("monitor", "answers for ever"),
    ("psubscribe", "answers several times"),
    ("punsubscribe", "answers several times"),
    ("quit", "closes the connection"),
    ("reset", "changes the protocol"),
    ("save", "takes long in Redis"),
    ("shutdown", "ends the server"),
    ("ssubscribe", "answers several times"),
    ("subscribe", "answers several times"),
    ("sunsubscribe", "answers several times"),
    ("unsubscribe", "answers several times"),
    ("wait", "waits"),
    ("bgsave", "depends on what goes on"),
    ("bgrewriteaof", "depends on what goes on"),
    ("replicaof", "would begin to replicate in Redis"),
    ("slaveof", "would begin to replicate in Redis"),
    ("multi", "is around others"),
    ("exec", "is around others"),
    ("discard", "is around others"),
];

/// Errors that differ from those of Redis 7.0, on purpose: the command, how ours begins, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("bitcount", "-ERR", "since Redis 7.2 arguments are read before the key is looked for"),
    ("bitpos", "-ERR", "since Redis 7.2 arguments are read before the key is looked for"),
    ("client|no-touch", "", "it came with Redis 7.2"),
    ("client|setinfo", "", "it came with Redis 7.2"),
    ("cluster|help", "", "it helps also where there is no cluster"),
    ("zrank", "", "WITHSCORE came with Redis 7.2"),
    ("zrevrank", "", "WITHSCORE came with Redis 7.2"),
];

#[test]
fn errors_are_those_of_redis() {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&[]);
    let rounds = std::env::var("FLUX_ERROR_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let known = names(&mut redis.connect());
    let (mut wrong, mut count) = (BTreeMap::new(), 0);
    for protocol in ["2", "3"] {
        let mut servers = [flux.connect(), redis.connect()];
        servers.iter_mut().for_each(|server| drop(server.call(&["HELLO", protocol]).unwrap()));
        for (name, row) in commands().filter(|(name, _)| known.contains(name) && !is_left_out(name)) {
            let mut random = Random::new(name.bytes().map(usize::from).sum::<usize>() as u64);
            servers.iter_mut().for_each(prepare);
            for round in 0..rounds {
                let words = arguments(&name, round, &mut random);
                let blocks = row.flags & flux::commands::table::flag::BLOCKING != 0;
                let [ours, theirs] = servers.each_mut().map(|server| answer(server, &words, blocks));
                count += 1;
                let is_error = [&ours, &theirs].iter().any(|reply| reply.contains("Line(\"-"));
                if ours != theirs && is_error && !is_meant(&name, &ours) {
                    let told = format!("RESP{protocol}: {}\n   flux:  {ours}\n   Redis: {theirs}", words.join(" "));
                    wrong.entry((name.clone(), ours.clone())).or_insert(told);
                }
                if ours != theirs || round % 8 == 7 {
                    servers.iter_mut().for_each(prepare);
                }
            }
        }
    }
    println!("{count} commands were compared");
    assert!(wrong.is_empty(), "{} errors differ:\n{}", wrong.len(), wrong.into_values().collect::<Vec<_>>().join("\n"));
}

/// Commands and subcommands by their full names, without our own and those that only have subcommands.
fn commands() -> impl Iterator<Item = (String, &'static flux::commands::Command)> {
    flux::node::table()
        .rows()
        .collect::<Vec<_>>()
        .into_iter()
        .filter(|row| row.group != Group::Flux && row.name != "flux")
        .flat_map(|row| {
            let subs = row.subcommands.iter().map(|sub| (format!("{}|{}", row.name, sub.name), sub));
            std::iter::once((row.name.to_owned(), row)).chain(subs)
        })
}

/// The full names of a server's commands.
fn names(server: &mut Connection) -> BTreeSet<String> {
    let Reply::Many(_, names) = server.call(&["COMMAND", "LIST"]).unwrap() else { panic!("a list") };
    let subs = |container: &str, server: &mut Connection| match server.call(&["COMMAND", "INFO", container]).unwrap() {
        Reply::Many(_, infos) => infos.iter().flat_map(sub_names).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let names: Vec<String> = names.iter().filter_map(text).collect();
    let all: Vec<String> = names.iter().flat_map(|name| subs(name, server)).collect();
    names.into_iter().chain(all).collect()
}

fn sub_names(info: &Reply) -> Vec<String> {
    let Reply::Many(_, parts) = info else { return Vec::new() };
    let Some(Reply::Many(_, subs)) = parts.get(9) else { return Vec::new() };
    let name = |sub: &Reply| if let Reply::Many(_, parts) = sub { text(&parts[0]) } else { None };
    subs.iter().filter_map(name).collect()
}

fn text(reply: &Reply) -> Option<String> {
    if let Reply::Bulk(_, bytes) = reply { Some(String::from_utf8_lossy(bytes).into_owned()) } else { None }
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) || name.ends_with("|help")
}

fn is_meant(name: &str, ours: &str) -> bool {
    DIFFERENCES.iter().any(|(differs, begins, _)| *differs == name && ours.contains(begins))
}

fn prepare(server: &mut Connection) {
    for line in SETUP {
        server.call(&line.split(' ').collect::<Vec<_>>()).unwrap();
    }
}

/// The first rounds are wrong in the number of arguments, the others in anything.
fn arguments(name: &str, round: usize, random: &mut Random) -> Vec<String> {
    let count = if round < 4 { round } else { random.below(8) };
    let mut words: Vec<String> = name.split('|').map(str::to_owned).collect();
    for at in 0..count {
        let among = if at == 0 && random.below(10) < 7 { 8 } else { WORDS.len() };
        words.push(WORDS[random.below(among)].to_owned());
    }
    words
}

/// What a server answers; one that might wait for ever must answer within a transaction.
fn answer(server: &mut Connection, words: &[String], blocks: bool) -> String {
    if !blocks {
        return format!("{:?}", server.call(words).unwrap());
    }
    server.call(&["MULTI"]).unwrap();
    let queued = server.call(words).unwrap();
    format!("{queued:?} {:?}", server.call(&["EXEC"]).unwrap())
}

/// How replies within a transaction are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Like {
    /// Byte by byte.
    Same,
    /// Whether it is an error.
    Kind,
    /// It differs, on purpose.
    Other(&'static str),
}

use Like::{Kind, Other, Same};

const FILE: &str = "writes a file, and nothing waits for a disk with shards locked; this redis-server has no file";

/// Commands within a transaction that holds shards: between two changes.
const IN_MULTI: &[(&str, Like)] = &[
    ("INFO", Kind),
    ("INFO keyspace", Kind),
    ("MEMORY STATS", Kind),
    ("MEMORY DOCTOR", Kind),
    ("MEMORY MALLOC-STATS", Kind),
    ("MEMORY PURGE", Same),
    ("MEMORY USAGE a", Kind),
    ("CONFIG RESETSTAT", Same),
    ("CONFIG REWRITE", Other(FILE)),
    ("CONFIG GET maxmemory", Same),
    ("CONFIG SET maxmemory 0", Same),
    ("DBSIZE", Same),
    ("SAVE", Same),
    ("BGSAVE", Same),
    ("BGREWRITEAOF", Same),
    ("LASTSAVE", Kind),
    ("SHUTDOWN ABORT", Same),
    ("FLUSHALL", Same),
    ("FLUSHALL ASYNC", Same),
    ("FLUSHDB SYNC", Same),
    ("SWAPDB 0 1", Same),
    ("MOVE a 5", Same),
    ("COPY a z DB 5", Same),
    ("WAIT 1 0", Same),
    ("CLIENT PAUSE 1", Same),
    ("CLIENT UNPAUSE", Same),
    ("CLIENT KILL ID 99999", Same),
    ("CLIENT KILL TYPE pubsub", Same),
    ("CLIENT REPLY ON", Same),
    ("CLIENT REPLY SKIP", Same),
    ("CLIENT REPLY OFF", Other("a client that wants no replies gets nothing of the array, where Redis sends its beginning")),
    ("CLIENT ID", Kind),
    ("CLIENT INFO", Kind),
    ("CLIENT LIST", Kind),
    ("CLIENT GETNAME", Same),
    ("CLIENT SETNAME x", Same),
    ("CLIENT NO-EVICT on", Same),
    ("CLIENT TRACKINGINFO", Same),
    ("CLIENT TRACKING off", Same),
    ("CLIENT GETREDIR", Same),
    ("CLIENT CACHING YES", Same),
    ("CLIENT UNBLOCK 99999", Same),
    ("RESET", Same),
    ("AUTH x", Same),
    ("AUTH default x", Same),
    ("HELLO", Kind),
    ("HELLO 2", Kind),
    ("HELLO 3", Kind),
    ("HELLO 9", Same),
    ("SELECT 3", Same),
    ("SELECT 99", Same),
    ("MULTI", Same),
    ("WATCH a", Same),
    ("UNWATCH", Same),
    ("DISCARD", Same),
    ("SUBSCRIBE c", Same),
    ("SUBSCRIBE c d", Same),
    ("PSUBSCRIBE c*", Same),
    ("SSUBSCRIBE c", Same),
    ("UNSUBSCRIBE", Same),
    ("UNSUBSCRIBE c", Same),
    ("PUNSUBSCRIBE", Same),
    ("SUNSUBSCRIBE", Same),
    ("PUBLISH c m", Same),
    ("SPUBLISH c m", Same),
    ("PUBSUB CHANNELS", Same),
    ("PUBSUB NUMSUB c", Same),
    ("PUBSUB NUMPAT", Same),
    ("PUBSUB SHARDCHANNELS", Same),
    ("PUBSUB SHARDNUMSUB c", Same),
    ("MONITOR", Same),
    ("COMMAND COUNT", Kind),
    ("COMMAND INFO get", Same),
    ("COMMAND INFO config|get nosuch", Same),
    ("COMMAND GETKEYS get a", Same),
    ("COMMAND DOCS nosuch", Same),
    ("ACL WHOAMI", Same),
    ("ACL USERS", Same),
    ("LATENCY LATEST", Same),
    ("LATENCY RESET", Same),
    ("LATENCY HISTORY x", Same),
    ("LATENCY GRAPH x", Same),
    ("LATENCY HISTOGRAM nosuch", Same),
    // How long commands take is each server's own.
    ("SLOWLOG LEN", Kind),
    ("SLOWLOG RESET", Same),
    ("ROLE", Same),
    ("REPLICAOF NO ONE", Same),
    ("SLAVEOF NO ONE", Same),
    ("TIME", Kind),
    ("MODULE LIST", Same),
    ("FUNCTION FLUSH", Same),
    ("FUNCTION LIST", Same),
    ("PING", Same),
    ("ECHO x", Same),
    ("KEYS *", Same),
    ("SCAN 0", Same),
    ("RANDOMKEY", Same),
    ("BLPOP nokey 0", Same),
    ("BLMOVE nokey z LEFT RIGHT 0", Same),
    ("BZPOPMIN nokey 0", Same),
    ("XREAD BLOCK 0 STREAMS nokey $", Same),
    ("CLUSTER INFO", Same),
    ("READONLY", Same),
    ("ASKING", Same),
    ("NOSUCH", Same),
    ("GET", Same),
];

#[test]
fn within_a_transaction_every_command_does_what_it_does_in_redis() {
    let mut wrong = Vec::new();
    for protocol in ["2", "3"] {
        // Anew for each: a save that was scheduled begins some time later.
        let Some(redis) = Process::redis(&[]) else { return };
        let flux = Process::flux(&[]);
        for (line, like) in IN_MULTI {
            let [ours, theirs] = [&flux, &redis].map(|server| in_transaction(server, protocol, line));
            let is_right = match like {
                Same => ours == theirs,
                // The values around it, and that it answers.
                Kind => ours.1 == theirs.1 && ours.0.contains("Line(\"-") == theirs.0.contains("Line(\"-"),
                Other(_) => ours.1 == theirs.1 && ours != theirs,
            };
            if !is_right {
                wrong.push(format!("RESP{protocol}, {like:?}: {line}\n   flux:  {ours:?}\n   Redis: {theirs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// All replies up to the one that ends the test, and what the keys hold then.
fn in_transaction(server: &Process, protocol: &str, line: &str) -> (String, String) {
    let mut other = server.connect();
    other.call(&["FLUSHALL"]).unwrap();
    let mut client = server.connect();
    client.call(&["HELLO", protocol]).unwrap();
    let lines = ["SET a 0", "MULTI", "SET a 1", line, "SET b 2", "EXEC", "CLIENT REPLY ON", "PING mark"];
    for line in lines {
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let mut replies = String::new();
    while !replies.contains(&format!("{:?}", b"mark")) {
        let reply = client.read().unwrap_or_else(|error| panic!("{line}: {error} after {replies}"));
        replies.push_str(&format!("{reply:?} "));
    }
    other.call(&["CLIENT", "UNPAUSE"]).unwrap();
    (replies, format!("{:?}", other.call(&["MGET", "a", "b"]).unwrap()))
}
