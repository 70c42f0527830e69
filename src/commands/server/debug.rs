//! `DEBUG`: what test suites and tools call to look inside and to provoke what is rare. Who may use it is the setting
//! `enable-debug-command`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::commands::args::{int, wrong_subcommand};
use crate::commands::elsewhere::elsewhere;
use crate::commands::generic::object::encoding_of;
use crate::commands::server::digest::Digest;
use crate::commands::session::Session;
use crate::commands::shards::Shards;
use crate::commands::{Command, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Expiry, Write};
use crate::engine::shard::DATABASES;
use crate::engine::value::Value;
use crate::engine::{Engine, SHARDS, evict};
use crate::resp::{Args, Reply};

/// Keys that `DEBUG POPULATE` makes before it lets others have the locks for a moment.
const POPULATE_STEP: u64 = 1000;
/// Bytes of a value that `DEBUG POPULATE` makes at most.
const POPULATE_BYTES_MAX: usize = 512 << 20;

/// A subcommand: how many arguments it takes (itself counted, two numbers: least and most), how it is written, what it does.
struct Sub {
    name: &'static str,
    args: (usize, usize),
    syntax: &'static str,
    help: &'static str,
    run: fn(&mut Session, &mut Shards<'_, '_>, Args<'_>, &mut Reply) -> Outcome,
}

/// The double Redis shows here.
#[expect(clippy::approx_constant, reason = "the number is what clients' tests expect, not a constant of nature")]
const DOUBLE: f64 = 3.141;

const MANY: usize = usize::MAX;

const SUBCOMMANDS: &[Sub] = &[
    Sub { name: "change-repl-id", args: (1, 1), syntax: "", help: "Accepted; there is no replication.", run: accept },
    Sub { name: "config-rewrite-force-all", args: (1, 1), syntax: "", help: "Like CONFIG REWRITE.", run: rewrite },
    Sub { name: "digest", args: (1, 1), syntax: "", help: "Digest of all data, whatever the order of keys.", run: digest },
    Sub { name: "digest-value", args: (1, MANY), syntax: "[key ...]", help: "Digests of the values of keys.", run: digest_value },
    Sub { name: "error", args: (2, 2), syntax: "text", help: "Answers with an error of this text.", run: fail },
    Sub { name: "htstats", args: (2, 2), syntax: "db", help: "Describes the tables of a database's keys.", run: htstats },
    Sub { name: "htstats-key", args: (2, 3), syntax: "key", help: "Describes how a value is kept.", run: htstats_key },
    Sub { name: "jmap", args: (1, MANY), syntax: "", help: "Accepted.", run: accept },
    Sub { name: "listpack", args: (2, 2), syntax: "key", help: "Accepted where the key is there.", run: listpack },
    Sub { name: "loadaof", args: (1, 1), syntax: "", help: "Like DEBUG RELOAD.", run: reload },
    Sub { name: "log", args: (2, 2), syntax: "text", help: "Logs a text.", run: log },
    Sub { name: "object", args: (2, 3), syntax: "key", help: "Describes a key and its value.", run: object },
    Sub {
        name: "panic",
        args: (1, 2),
        syntax: "[ELSEWHERE]",
        help: "Panics, as by a fault in a command, or in the thread of one that takes long.",
        run: panic,
    },
    Sub { name: "populate", args: (2, 4), syntax: "count [prefix] [size]", help: "Makes keys.", run: populate },
    Sub {
        name: "protocol",
        args: (2, 2),
        syntax: "type",
        help: "Answers with a value of a type of the protocol.",
        run: protocol,
    },
    Sub { name: "quicklist", args: (2, 3), syntax: "key", help: "Accepted where the key is there.", run: listpack },
    Sub {
        name: "quicklist-packed-threshold",
        args: (2, 2),
        syntax: "size",
        help: "Accepted; nodes are packed by other rules.",
        run: threshold,
    },
    Sub {
        name: "reload",
        args: (1, MANY),
        syntax: "[option ...]",
        help: "Takes every value apart into rows and makes it anew of these.",
        run: reload,
    },
    Sub { name: "replicate", args: (2, MANY), syntax: "...", help: "Accepted; there is no replication.", run: accept },
    Sub { name: "replybuffer", args: (3, 3), syntax: "...", help: "Accepted.", run: accept },
    Sub { name: "sdslen", args: (2, 2), syntax: "key", help: "Describes the lengths of a key and its string.", run: sdslen },
    Sub { name: "segfault", args: (1, 1), syntax: "", help: "Ends the process at once, as a crash would.", run: crash },
    Sub {
        name: "set-active-expire",
        args: (2, 2),
        syntax: "<0|1>",
        help: "Turns the search for keys whose time is over off and on.",
        run: set_active_expire,
    },
    Sub { name: "set-disable-deny-scripts", args: (2, 2), syntax: "<0|1>", help: "Accepted.", run: accept },
    Sub { name: "set-skip-checksum-validation", args: (2, 2), syntax: "<0|1>", help: "Accepted.", run: accept },
    Sub { name: "aof-flush-sleep", args: (2, 2), syntax: "microseconds", help: "Accepted.", run: accept },
    Sub { name: "dict-resizing", args: (2, 2), syntax: "<0|1>", help: "Accepted.", run: accept },
    Sub { name: "drop-cluster-packet-filter", args: (2, 2), syntax: "type", help: "Accepted; there is no cluster.", run: accept },
    Sub { name: "pause-cron", args: (2, 2), syntax: "<0|1>", help: "Accepted.", run: accept },
    Sub {
        name: "shift-clock",
        args: (2, 2),
        syntax: "milliseconds",
        help: "Sets the server's wall clock off by so much, as if someone had set the machine's.",
        run: shift_clock,
    },
    Sub { name: "sleep", args: (2, 2), syntax: "seconds", help: "Holds up every command on keys for so long.", run: sleep },
    Sub {
        name: "stringmatch-len",
        args: (3, 3),
        syntax: "length pattern",
        help: "Matches a pattern against a text of this length.",
        run: stringmatch,
    },
    Sub {
        name: "spill",
        args: (1, 1),
        syntax: "",
        help: "Makes a checkpoint and drops all values from memory that may be, as under --memory-limit.",
        run: spill,
    },
    Sub { name: "structsize", args: (1, 1), syntax: "", help: "Tells the sizes of structures.", run: structsize },
];

/// `DEBUG`
pub(crate) fn debug(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.is(1, "help") && args.len() == 2 {
        help(reply);
        return Ok(());
    }
    // Most of what it does looks at keys, or makes some.
    if session.instance.loading.is_on() {
        return Err(error::LOADING);
    }
    let count = args.len() - 1;
    let sub = SUBCOMMANDS.iter().find(|sub| args.is(1, sub.name) && (sub.args.0..=sub.args.1).contains(&count));
    (sub.ok_or_else(|| wrong_subcommand(args))?.run)(session, shards, args, reply)
}

fn help(reply: &mut Reply) {
    reply.array(1 + 2 * SUBCOMMANDS.len());
    reply.simple("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for sub in SUBCOMMANDS {
        reply.simple(format!("{} {}", sub.name.to_uppercase(), sub.syntax).trim_end());
        reply.simple(&format!("    {}", sub.help));
    }
}

fn accept(_: &mut Session, _: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.ok();
    Ok(())
}

fn rewrite(session: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    super::config::rewrite(session, args, reply)
}

fn fail(session: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    // Written as it is, with a code of the caller's choice, and counted as any error.
    let text = String::from_utf8_lossy(args.at(2)).into_owned();
    session.instance.stats.error(&text);
    reply.error(&text);
    Ok(())
}

fn log(_: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(2)));
    reply.ok();
    Ok(())
}

fn crash(_: &mut Session, _: &mut Shards<'_, '_>, _: Args<'_>, _: &mut Reply) -> Outcome {
    tracing::error!("ending at once, as DEBUG was told to");
    std::process::abort()
}

fn panic(session: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match args.get(2) {
        None => panic!("DEBUG PANIC was called"),
        Some(_) if args.is(2, "elsewhere") => elsewhere(session, args, reply, "panic", |_, _| panic!("DEBUG PANIC was called")),
        Some(_) => Err(error::SYNTAX),
    }
}

fn set_active_expire(session: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.engine.set_sweeps(args.at(2) != b"0");
    reply.ok();
    Ok(())
}

fn shift_clock(_: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let ms = std::str::from_utf8(args.at(2)).ok().and_then(|text| text.parse().ok()).ok_or(error::NOT_INTEGER)?;
    clock::shift(ms);
    reply.ok();
    Ok(())
}

fn sleep(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let seconds = std::str::from_utf8(args.at(2)).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let time = Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| error::OUT_OF_RANGE)?;
    shards.together(session, |_| thread::sleep(time));
    reply.ok();
    Ok(())
}

fn threshold(_: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = String::from_utf8_lossy(args.at(2)).to_lowercase();
    if !text.starts_with(|letter: char| letter.is_ascii_digit()) {
        return Err(Error::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb"));
    }
    reply.ok();
    Ok(())
}

fn stringmatch(_: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let len = usize::try_from(int(args, 2)?).ok().filter(|len| *len <= 1 << 20).ok_or(error::OUT_OF_RANGE)?;
    reply.int(i64::from(crate::engine::glob::matches(args.at(3), &vec![b'a'; len], false)));
    Ok(())
}

fn structsize(_: &mut Session, _: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = format!(
        "bits:{} entry:{} value:{} command:{}",
        usize::BITS,
        size_of::<crate::engine::shard::Entry>(),
        size_of::<Value>(),
        size_of::<Command>()
    );
    reply.simple(&text);
    Ok(())
}

fn digest(session: &mut Session, shards: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = session.now();
    let digest = shards.together(session, |keys| {
        let mut all = Digest::default();
        for db in 0..DATABASES as u8 {
            keys.select(db);
            for key in names(keys) {
                all.mix(digest_of_key(keys, db, &key, now)?);
            }
        }
        Ok::<_, Error>(all)
    })?;
    reply.simple(&digest.text());
    Ok(())
}

fn digest_of_key(keys: &mut Write<'_>, db: u8, key: &[u8], now: u64) -> Result<Digest, Error> {
    let value = keys.inspect(key)?.and_then(|value| Digest::of_value(value, now)).unwrap_or_default();
    let expires = keys.peek(key).is_some_and(|entry| entry.expires());
    Ok(Digest::of(&[&[db, u8::from(expires)], key, value.text().as_bytes()]))
}

/// The names of all keys of the database in use whose time is not over.
fn names(keys: &mut Write<'_>) -> Vec<Vec<u8>> {
    let now = keys.now();
    let names = |database: &crate::engine::shard::Database| {
        let live = database.keys().iter().filter(|entry| !entry.is_expired(now));
        live.map(|entry| entry.key().to_vec()).collect::<Vec<_>>()
    };
    (0..SHARDS).flat_map(|number| names(keys.database_in(number))).collect()
}

fn digest_value(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = session.now();
    reply.array(args.len() - 2);
    shards.together(session, |keys| {
        for key in args.from(2).iter() {
            let digest = keys.inspect(key)?.and_then(|value| Digest::of_value(value, now)).unwrap_or_default();
            reply.simple(&digest.text());
        }
        Ok(())
    })
}

fn reload(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    for at in 2..args.len() {
        if !["merge", "noflush", "nosave"].iter().any(|option| args.is(at, option)) {
            return Err(Error::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
        }
    }
    if shards.is_held() {
        let engine = Arc::clone(&session.instance.engine);
        rebuild_all(&engine, shards)?;
        reply.ok();
        return Ok(());
    }
    elsewhere(session, args, reply, "reload", |instance, reply| {
        rebuild_all(&instance.engine, &mut Shards::Free)?;
        reply.ok();
        Ok(())
    })
}

fn rebuild_all(engine: &Engine, shards: &mut Shards<'_, '_>) -> Outcome {
    let mut outcome = Ok(());
    shards.each(engine, |shard| {
        let mut entries = shard.databases.iter_mut().flat_map(|database| database.keys.iter_mut());
        outcome = std::mem::replace(&mut outcome, Ok(())).and_then(|()| entries.try_for_each(|entry| rebuild(&mut entry.value)));
    });
    outcome
}

fn spill(session: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    elsewhere(session, args, reply, "spill", |instance, reply| {
        let persistence = instance.persistence().ok_or(Error::new("ERR there is no data folder"))?;
        let dropped = persistence.spill().map_err(|cause| Error::new(format!("ERR {cause}")))?;
        reply.int(dropped as i64);
        Ok(())
    })
}

/// Takes a value apart into its rows and makes it anew of these, as a restart would.
fn rebuild(value: &mut Value) -> Result<(), Error> {
    let mut again = Value::empty(value.kind());
    let (Some(rows), Some(into)) = (value.rows(), again.rows_mut()) else { return Ok(()) };
    let mut outcome = Ok(());
    rows.each_row(&mut |element, bytes| outcome = outcome.and_then(|()| into.put_row(element, bytes)));
    outcome.map_err(|_| Error::new("ERR Error trying to load the RDB dump, check server logs."))?;
    *value = again;
    Ok(())
}

fn populate(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = u64::try_from(int(args, 2)?).map_err(|_| error::NOT_POSITIVE)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = match args.get(4) {
        Some(_) => usize::try_from(int(args, 4)?).ok().filter(|size| *size <= POPULATE_BYTES_MAX).ok_or(error::NOT_POSITIVE)?,
        None => 0,
    };
    let mut next = 0;
    while next < count {
        let end = (next + POPULATE_STEP).min(count);
        shards.together(session, |keys| {
            for number in next..end {
                populate_one(keys, prefix, number, size);
            }
        });
        next = end;
    }
    reply.ok();
    Ok(())
}

fn populate_one(keys: &mut Write<'_>, prefix: &[u8], number: u64, size: usize) {
    let key = [prefix, b":", number.to_string().as_bytes()].concat();
    if keys.peek(&key).is_some() {
        return;
    }
    let mut value = format!("value:{number}").into_bytes();
    if size > 0 {
        value.resize(size, 0);
    }
    keys.put_string(&key, &value, Expiry::Never);
}

fn object(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = shards.together(session, |keys| {
        let (engine, now) = (keys.engine(), keys.now());
        let value = keys.inspect(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
        let mut text = format!(
            "Value at:0x7f0000000000 refcount:1 encoding:{} serializedlength:{}",
            encoding_of(value),
            serialized_bytes(value)
        );
        let list = if let Value::List(list) = value { Some(list.len()) } else { None };
        let access = keys.peek(args.at(2)).map_or(0, |entry| entry.access());
        let idle = evict::idle_seconds(engine, now, access).unwrap_or(0);
        text.push_str(&format!(" lru:{} lru_seconds_idle:{idle}", access & 0xff_ffff));
        if let Some(len) = list {
            text.push_str(&format!(
                " ql_nodes:{} ql_avg_node:{len} ql_listpack_max:-2 ql_compressed:0 ql_uncompressed_size:{len}",
                1
            ));
        }
        Ok::<_, Error>(text)
    })?;
    reply.simple(&text);
    Ok(())
}

/// Bytes of a value's rows, which is what a checkpoint writes.
fn serialized_bytes(value: &Value) -> usize {
    let mut bytes = 0;
    if let Some(rows) = value.rows() {
        rows.each_row(&mut |element, row| bytes += element.len() + row.len() + 1);
    }
    bytes
}

fn sdslen(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = shards.together(session, |keys| match keys.inspect(args.at(2))?.ok_or(error::NO_SUCH_KEY)? {
        Value::String(string) if string.int().is_none() => Ok(format!(
            "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{}, val_sds_avail:0, val_zmalloc: {}",
            args.at(2).len(),
            args.at(2).len(),
            string.len(),
            string.len()
        )),
        _ => Err(Error::new("ERR Not an sds encoded string.")),
    })?;
    reply.simple(&text);
    Ok(())
}

fn listpack(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    shards.together(session, |keys| keys.inspect(args.at(2))?.map(drop).ok_or(error::NO_SUCH_KEY))?;
    reply.simple("Listpack structure printed on stdout");
    Ok(())
}

fn htstats(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let db = int(args, 2)?;
    let db = u8::try_from(db).ok().filter(|db| usize::from(*db) < DATABASES).ok_or(Error::new("ERR Out of range database"))?;
    let text = shards.together(session, |keys| {
        keys.select(db);
        let (mut count, mut expiring, mut bytes) = (0, 0, 0);
        for number in 0..SHARDS {
            let database = keys.database_in(number);
            count += database.keys().len();
            expiring += database.expiring();
            bytes += database.keys().table_bytes();
        }
        format!(
            "[Dictionary HT]\nshards: {SHARDS}\nnumber of elements: {count}\ntable bytes: {bytes}\n[Expires HT]\nnumber of elements: {expiring}\n"
        )
    });
    reply.verbatim("txt", &text);
    Ok(())
}

fn htstats_key(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = shards.together(session, |keys| {
        let value = keys.inspect(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
        match encoding_of(value) {
            "hashtable" | "skiplist" => Ok(format!(
                "[Value]\nencoding: {}\nnumber of elements: {}\n",
                encoding_of(value),
                value.rows().map_or(0, |rows| rows.row_count())
            )),
            _ => Err(Error::new("ERR The value stored at the specified key is not represented using an hash table")),
        }
    })?;
    reply.verbatim("txt", &text);
    Ok(())
}

fn protocol(_: &mut Session, _: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let is_resp3 = reply.is_resp3();
    match String::from_utf8_lossy(args.at(2)).to_lowercase().as_str() {
        "string" => reply.bulk(b"Hello World"),
        "integer" => reply.int(12345),
        "double" => reply.double(DOUBLE),
        "bignum" if is_resp3 => reply.raw(b"(1234567999999999999999999999999999999\r\n"),
        "bignum" => reply.bulk(b"1234567999999999999999999999999999999"),
        "null" => reply.null(),
        "array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        "set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        "map" => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.boolean(number == 1);
            }
        }
        "attrib" => {
            if is_resp3 {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        "push" if is_resp3 => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        "push" => return Err(Error::new("ERR RESP2 is not supported by this command")),
        "verbatim" => reply.verbatim("txt", "This is a verbatim\nstring"),
        "true" => reply.boolean(true),
        "false" => reply.boolean(false),
        _ => {
            return Err(Error::new(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}
