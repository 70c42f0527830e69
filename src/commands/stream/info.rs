//! `XINFO`: what is to be known of a stream, its groups and their consumers.

use crate::commands::args::{int, wrong_subcommand};
use crate::commands::session::Session;
use crate::commands::stream::answer::{no_group_in_key, show};
use crate::commands::{Outcome, help as helps};
use crate::engine::error::{self, Error};
use crate::engine::keys::Read;
use crate::engine::types::stream::Stream;
use crate::engine::types::stream::group::{Consumer, Group};
use crate::engine::types::stream::id::Id;
use crate::resp::{Args, Reply};

/// Entries of each kind `XINFO STREAM … FULL` shows where the client does not say how many.
const COUNT: usize = 10;

pub(crate) fn help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    helps::subcommands(session, "xinfo", reply)
}

pub(crate) fn stream(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let stream = keys.get::<Stream>(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let full = full_count(args)?;
    reply.map(if full.is_some() { 9 } else { 10 });
    overview(stream, reply);
    match full {
        Some(count) => details(stream, count, reply),
        None => ends(stream, reply),
    }
    Ok(())
}

/// How many entries of each kind are to be shown, if all of them are to be shown.
fn full_count(args: Args<'_>) -> Result<Option<usize>, Error> {
    match args.len() {
        3 => Ok(None),
        4 if args.is(3, "FULL") => Ok(Some(COUNT)),
        6 if args.is(3, "FULL") && args.is(4, "COUNT") => Ok(Some(match int(args, 5)? {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(COUNT),
        })),
        _ => Err(wrong_subcommand(args)),
    }
}

fn overview(stream: &Stream, reply: &mut Reply) {
    let sequence = stream.sequence();
    let blocks = sequence.entries.blocks();
    count(reply, "length", stream.len());
    count(reply, "radix-tree-keys", blocks);
    // Where Redis has a tree of nodes, blocks stand in a row; a tree of one key has two nodes.
    count(reply, "radix-tree-nodes", blocks + 1);
    id(reply, "last-generated-id", sequence.last_id);
    id(reply, "max-deleted-entry-id", sequence.max_deleted_id);
    count(reply, "entries-added", sequence.added as usize);
    id(reply, "recorded-first-entry-id", sequence.entries.first_id());
}

fn ends(stream: &Stream, reply: &mut Reply) {
    let entries = &stream.sequence().entries;
    count(reply, "groups", stream.groups().len());
    for (name, entry) in [("first-entry", entries.first()), ("last-entry", entries.get(entries.last_id()))] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => show(reply, entry),
            None => reply.null(),
        }
    }
}

fn details(stream: &Stream, shown_max: usize, reply: &mut Reply) {
    let entries = &stream.sequence().entries;
    reply.bulk(b"entries");
    reply.array(entries.len().min(shown_max));
    entries.range(Id::MIN, Id::MAX).take(shown_max).for_each(|entry| show(reply, entry));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        progress(stream, group, reply);
        count(reply, "pel-count", group.pending().len());
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(shown_max));
        for (id, pending) in group.pending().iter().take(shown_max) {
            reply.array(4);
            reply.bulk(&id.text());
            reply.bulk(&group.consumer(pending.consumer).name);
            reply.int(pending.delivered_at as i64);
            reply.int(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        group.consumers().for_each(|consumer| consumer_details(group, consumer, shown_max, reply));
    }
}

fn consumer_details(group: &Group, consumer: &Consumer, shown_max: usize, reply: &mut Reply) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(&consumer.name);
    reply.bulk(b"seen-time");
    reply.int(consumer.seen_at as i64);
    reply.bulk(b"active-time");
    reply.int(consumer.active_at.map_or(-1, |at| at as i64));
    count(reply, "pel-count", consumer.pending());
    reply.bulk(b"pending");
    reply.array(consumer.pending().min(shown_max));
    for id in consumer.pending_ids(Id::MIN, Id::MAX).take(shown_max) {
        let pending = &group.pending()[&id];
        reply.array(3);
        reply.bulk(&id.text());
        reply.int(pending.delivered_at as i64);
        reply.int(pending.deliveries as i64);
    }
}

/// How far a group has read.
fn progress(stream: &Stream, group: &Group, reply: &mut Reply) {
    id(reply, "last-delivered-id", group.last_id);
    for (name, number) in [("entries-read", group.entries_read), ("lag", stream.sequence().lag(group))] {
        reply.bulk(name.as_bytes());
        match number {
            Some(number) => reply.int(number),
            None => reply.null(),
        }
    }
}

pub(crate) fn groups(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let stream = keys.get::<Stream>(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        count(reply, "consumers", group.consumer_count());
        count(reply, "pending", group.pending().len());
        progress(stream, group, reply);
    }
    Ok(())
}

pub(crate) fn consumers(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let stream = keys.get::<Stream>(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let group = stream.group(args.at(3)).ok_or_else(|| no_group_in_key(args.at(2), args.at(3)))?;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(&consumer.name);
        count(reply, "pending", consumer.pending());
        reply.bulk(b"idle");
        reply.int(now.saturating_sub(consumer.seen_at) as i64);
        reply.bulk(b"inactive");
        reply.int(consumer.active_at.map_or(-1, |at| now as i64 - at as i64));
    }
    Ok(())
}

fn count(reply: &mut Reply, name: &str, count: usize) {
    reply.bulk(name.as_bytes());
    reply.count(count);
}

fn id(reply: &mut Reply, name: &str, id: Id) {
    reply.bulk(name.as_bytes());
    reply.bulk(&id.text());
}
