//! `MEMORY`: what memory is used for.

use std::fmt::Write;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::commands::server::info::human;
use crate::commands::server::snapshot::{Snapshot, maxmemory};
use crate::commands::session::Session;
use crate::commands::shards::Shards;
use crate::engine::error;
use crate::engine::keys::Read;
use crate::engine::shard::Entry;
use crate::memory;
use crate::resp::{Args, Reply};

/// `MEMORY USAGE`
pub(crate) fn usage(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut options = Rest::of(args, 3);
    while let Some(samples) = options.value("samples") {
        if parse_int(samples)? < 0 {
            return Err(error::SYNTAX);
        }
    }
    options.end()?;
    match keys.peek(args.at(2)) {
        Some(entry) => reply.count(bytes_of(entry)),
        None => reply.null(),
    }
    Ok(())
}

/// Bytes a key takes with what it holds, and its place in the table of keys.
pub(crate) fn bytes_of(entry: &Entry) -> usize {
    // A place in the table is 8 bytes at half to full load.
    let place = 12;
    place + size_of::<Entry>() + entry.key().heap_bytes() + entry.value().rows().map_or(0, |rows| rows.memory_bytes())
}

/// `MEMORY STATS`
pub(crate) fn stats(session: &mut Session, shards: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let snapshot = Snapshot::take_of(&session.instance, shards, session.now());
    let used = snapshot.used_bytes;
    let startup = session.instance.startup_bytes;
    let overhead = snapshot.overhead_bytes();
    let dataset = used - overhead;
    let (active, resident) = (snapshot.committed_bytes, snapshot.anonymous_bytes);
    let keys = snapshot.keys() as u64;
    let databases: Vec<_> = snapshot.databases.iter().enumerate().filter(|(_, counts)| counts.keys > 0).collect();
    let share = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    let numbers = [
        ("peak.allocated", snapshot.peak_bytes),
        ("total.allocated", used),
        ("startup.allocated", startup),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", snapshot.sums.buffer_bytes),
        ("cluster.links", 0),
        ("aof.buffer", memory::aside_bytes_of(memory::Aside::Journal)),
        ("lua.caches", 0),
        ("functions.caches", 0),
    ];
    let counts = [
        ("overhead.total", overhead),
        ("keys.count", keys),
        ("keys.bytes-per-key", dataset / keys.max(1)),
        ("dataset.bytes", dataset),
    ];
    let sizes = [("allocator.allocated", used), ("allocator.active", active), ("allocator.resident", resident)];
    let excesses = [
        ("allocator-fragmentation", active, used),
        ("allocator-rss", resident, active),
        ("rss-overhead", snapshot.resident_bytes, resident),
    ];
    let shares = [
        ("dataset.percentage", share(dataset, used.saturating_sub(startup))),
        ("peak.percentage", share(used, snapshot.peak_bytes)),
    ];
    reply.map(numbers.len() + databases.len() + counts.len() + shares.len() + sizes.len() + 2 * (excesses.len() + 1));
    put_all(reply, &numbers);
    for (db, counts) in databases {
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(3);
        put_all(
            reply,
            &[
                ("overhead.hashtable.main", (counts.keys * (size_of::<Entry>() + 12)) as u64),
                ("overhead.hashtable.expires", (counts.expiring * 16) as u64),
                // There is no cluster.
                ("overhead.hashtable.slot-to-keys", 0),
            ],
        );
    }
    put_all(reply, &counts);
    for (name, share) in shares {
        reply.bulk(name.as_bytes());
        reply.double(share);
    }
    put_all(reply, &sizes);
    for (name, larger, smaller) in excesses {
        put_excess(reply, &format!("{name}.ratio"), &format!("{name}.bytes"), larger, smaller);
    }
    put_excess(reply, "fragmentation", "fragmentation.bytes", snapshot.resident_bytes, used);
    Ok(())
}

/// How much larger one number is than another, as their ratio and their difference.
fn put_excess(reply: &mut Reply, ratio: &str, bytes: &str, larger: u64, smaller: u64) {
    reply.bulk(ratio.as_bytes());
    reply.double(larger as f64 / smaller.max(1) as f64);
    reply.bulk(bytes.as_bytes());
    reply.int(larger as i64 - smaller as i64);
}

fn put_all(reply: &mut Reply, fields: &[(&str, u64)]) {
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.int(*value as i64);
    }
}

/// `MEMORY DOCTOR`
pub(crate) fn doctor(session: &mut Session, shards: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let snapshot = Snapshot::take_of(&session.instance, shards, session.now());
    let limit = maxmemory(&session.instance);
    let used = snapshot.used_bytes;
    let mut text = String::new();
    if limit > 0 && used > limit / 10 * 9 {
        let _ = writeln!(
            text,
            "{} of maxmemory's {} are used: raise it, or expect keys to be evicted or writes refused.",
            human(used),
            human(limit)
        );
    }
    if snapshot.peak_bytes > used * 3 / 2 && snapshot.peak_bytes > 64 << 20 {
        let _ = writeln!(
            text,
            "At its peak {} were used, now {}; the system gets the rest back over time.",
            human(snapshot.peak_bytes),
            human(used)
        );
    }
    if snapshot.fragmentation() > 1.6 && snapshot.resident_bytes > 256 << 20 {
        let _ = writeln!(text, "{} are in physical memory for {} in use.", human(snapshot.resident_bytes), human(used));
    }
    if snapshot.sums.buffer_bytes > 64 << 20 {
        let _ =
            writeln!(text, "Clients' buffers take {}: CLIENT LIST shows whose (omem, qbuf).", human(snapshot.sums.buffer_bytes));
    }
    if text.is_empty() {
        let _ = writeln!(text, "{} are used for {} keys, and nothing looks wrong.", human(used), snapshot.keys());
    }
    reply.verbatim("txt", &text);
    Ok(())
}

/// `MEMORY MALLOC-STATS`
pub(crate) fn malloc_stats(session: &mut Session, shards: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let snapshot = Snapshot::take_of(&session.instance, shards, session.now());
    let text = format!(
        "allocator: mimalloc\nallocated: {}\npeak: {}\nresident: {}\n",
        snapshot.used_bytes, snapshot.peak_bytes, snapshot.resident_bytes
    );
    reply.verbatim("txt", &text);
    Ok(())
}

/// `MEMORY PURGE`
pub(crate) fn purge(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    // What other threads have freed they give back by themselves, when they come to rest.
    memory::hand_back();
    reply.ok();
    Ok(())
}
