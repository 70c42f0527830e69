//! `XGROUP`, and what is done with entries a group has delivered: `XACK`, `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.

use crate::commands::args::{Rest, int, parse_int, wrong_subcommand};
use crate::commands::session::Session;
use crate::commands::stream::answer::{no_group, no_group_in_key, show};
use crate::commands::stream::parse;
use crate::commands::{Outcome, help as helps};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::log::Audience;
use crate::engine::notify::Class;
use crate::engine::types::stream::group::{Group, Pending};
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::{Claim, Stream};
use crate::resp::{Args, Reply};

/// Pending entries `XAUTOCLAIM` looks at for each one it may claim.
const ATTEMPTS_PER_COUNT: usize = 10;

/// Where `XGROUP CREATE` and `XGROUP SETID` put a group.
struct Place {
    make_stream: bool,
    entries_read: Option<i64>,
}

impl Place {
    fn parse(args: Args<'_>, is_create: bool) -> Result<Place, Error> {
        let mut place = Place { make_stream: false, entries_read: None };
        let mut rest = Rest::of(args, 5);
        loop {
            if is_create && rest.word("MKSTREAM") {
                place.make_stream = true;
            } else if let Some(read) = rest.value("ENTRIESREAD") {
                let read = parse_int(read)?;
                if read < -1 {
                    return Err(error::XGROUP_ENTRIES_READ);
                }
                place.entries_read = (read != -1).then_some(read);
            } else {
                rest.end().map_err(|_| wrong_subcommand(args))?;
                return Ok(place);
            }
        }
    }
}

pub(crate) fn help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    helps::subcommands(session, "xgroup", reply)
}

pub(crate) fn create(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::parse(args, true)?;
    let (key, name) = (args.at(2), args.at(3));
    let last_id = match keys.edit::<Stream>(key)? {
        Some(edit) => edit.value.sequence().last_id,
        None if place.make_stream => Id::MIN,
        None => return Err(error::XGROUP_KEY),
    };
    if args.len() > 8 {
        return Err(wrong_subcommand(args));
    }
    let id = match args.at(4) {
        b"$" => last_id,
        id => parse::id(id)?,
    };
    let mut edit = keys.edit_or_new::<Stream>(key)?;
    if !edit.is_new {
        edit.log.audience = Audience::Nobody;
    }
    if edit.is_new {
        edit.value.log_new(&mut edit.log);
    }
    if !edit.value.create_group(name, id, place.entries_read, &mut edit.log) {
        return Err(error::BUSY_GROUP);
    }
    drop(edit);
    keys.notify(Class::Stream, "xgroup-create", key);
    reply.ok();
    Ok(())
}

pub(crate) fn set_id(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::parse(args, false)?;
    let (key, name) = (args.at(2), args.at(3));
    let mut edit = keys.edit::<Stream>(key)?.ok_or(error::XGROUP_KEY)?;
    edit.log.audience = Audience::Waiters;
    let mut open = edit.value.open_group(name).ok_or_else(|| no_group_in_key(key, name))?;
    if args.len() > 7 {
        return Err(wrong_subcommand(args));
    }
    let id = match args.at(4) {
        b"$" => open.sequence().last_id,
        id => parse::bound(id, 0)?,
    };
    open.set_id(id, place.entries_read, &mut edit.log);
    drop(edit);
    keys.notify(Class::Stream, "xgroup-setid", key);
    reply.ok();
    Ok(())
}

pub(crate) fn destroy(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(2);
    let mut edit = keys.edit::<Stream>(key)?.ok_or(error::XGROUP_KEY)?;
    edit.log.audience = Audience::Waiters;
    let was_there = edit.value.destroy_group(args.at(3), &mut edit.log);
    drop(edit);
    if was_there {
        keys.notify(Class::Stream, "xgroup-destroy", key);
    }
    reply.int(i64::from(was_there));
    Ok(())
}

pub(crate) fn create_consumer(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, name, now) = (args.at(2), args.at(3), keys.now());
    let mut edit = keys.edit::<Stream>(key)?.ok_or(error::XGROUP_KEY)?;
    edit.log.audience = Audience::Nobody;
    let mut open = edit.value.open_group(name).ok_or_else(|| no_group_in_key(key, name))?;
    let is_new = open.create_consumer(args.at(4), now, &mut edit.log);
    drop(edit);
    if is_new {
        keys.notify(Class::Stream, "xgroup-createconsumer", key);
    }
    reply.int(i64::from(is_new));
    Ok(())
}

pub(crate) fn delete_consumer(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, name) = (args.at(2), args.at(3));
    let mut edit = keys.edit::<Stream>(key)?.ok_or(error::XGROUP_KEY)?;
    edit.log.audience = Audience::Nobody;
    let mut open = edit.value.open_group(name).ok_or_else(|| no_group_in_key(key, name))?;
    let pending = open.delete_consumer(args.at(4), &mut edit.log);
    drop(edit);
    if pending.is_some() {
        keys.notify(Class::Stream, "xgroup-delconsumer", key);
    }
    reply.count(pending.unwrap_or(0));
    Ok(())
}

pub(crate) fn xack(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut acknowledged = 0;
    if let Some(mut edit) = keys.edit::<Stream>(args.at(1))?
        && let Some(mut open) = edit.value.open_group(args.at(2))
    {
        edit.log.audience = Audience::Nobody;
        for id in parse::ids(args, 3)? {
            acknowledged += usize::from(open.acknowledge(id, &mut edit.log));
        }
    }
    reply.count(acknowledged);
    Ok(())
}

/// Which pending entries `XPENDING` lists.
struct Listing<'a> {
    min_idle_ms: i64,
    start: Id,
    end: Id,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listing<'a> {
    fn parse(args: Args<'a>) -> Result<Listing<'a>, Error> {
        let (mut min_idle_ms, mut at) = (0, 3);
        if args.is(at, "IDLE") {
            min_idle_ms = int(args, at + 1)?;
            if args.len() < 8 {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        let count = parse::count(args.at(at + 2))?;
        let (start, end) = (parse::start(args.at(at))?, parse::end(args.at(at + 1))?);
        Ok(Listing { min_idle_ms, start, end, count, consumer: args.get(at + 3) })
    }
}

pub(crate) fn xpending(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let listing = match args.len() {
        3 => None,
        6..=9 => Some(Listing::parse(args)?),
        _ => return Err(error::SYNTAX),
    };
    let now = keys.now();
    let (key, name) = (args.at(1), args.at(2));
    let group = keys.get::<Stream>(key)?.and_then(|stream| stream.group(name)).ok_or_else(|| no_group(key, name, ""))?;
    match listing {
        None => summary(group, reply),
        Some(listing) => list(group, &listing, now, reply),
    }
    Ok(())
}

fn summary(group: &Group, reply: &mut Reply) {
    reply.array(4);
    reply.count(group.pending().len());
    let (Some((first, _)), Some((last, _))) = (group.pending().first_key_value(), group.pending().last_key_value()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply.bulk(&first.text());
    reply.bulk(&last.text());
    let waiting = || group.consumers().filter(|consumer| consumer.pending() > 0);
    reply.array(waiting().count());
    for consumer in waiting() {
        reply.array(2);
        reply.bulk(&consumer.name);
        reply.bulk_int(consumer.pending() as i64);
    }
}

fn list(group: &Group, listing: &Listing<'_>, now: u64, reply: &mut Reply) {
    let (mark, mut listed) = (reply.mark(), 0);
    let mut show = |id: Id, pending: Pending| {
        let idle = now.saturating_sub(pending.delivered_at) as i64;
        if listing.min_idle_ms != 0 && idle < listing.min_idle_ms {
            return true;
        }
        if listed == listing.count {
            return false;
        }
        listed += 1;
        reply.array(4);
        reply.bulk(&id.text());
        reply.bulk(&group.consumer(pending.consumer).name);
        reply.int(idle);
        reply.int(pending.deliveries as i64);
        listed < listing.count
    };
    match listing.consumer.map(|name| group.find_consumer(name)) {
        None => {
            let _ = group.pending_range(listing.start, listing.end).all(|(id, pending)| show(id, pending));
        }
        Some(None) => {}
        Some(Some(number)) => {
            let mut ids = group.consumer(number).pending_ids(listing.start, listing.end);
            let _ = ids.all(|id| show(id, group.pending()[&id]));
        }
    }
    reply.insert_array(mark, listed);
}

/// The options of `XCLAIM`, and where its ids end.
fn parse_claim(args: Args<'_>, now: u64) -> Result<(Claim, Vec<Id>, Id), Error> {
    let min_idle_ms = int(args, 4).map_err(|_| error::XCLAIM_MIN_IDLE)?.max(0) as u64;
    let ids: Vec<Id> = args.iter().skip(5).map_while(|text| Id::parse(text, 0)).collect();
    let mut claim = Claim { min_idle_ms, delivered_at: now, deliveries: None, force: false, just_id: false };
    let (mut last_id, mut delivered_at) = (Id::MIN, None);
    let mut rest = Rest::of(args, 5 + ids.len());
    loop {
        if rest.word("FORCE") {
            claim.force = true;
        } else if rest.word("JUSTID") {
            claim.just_id = true;
        } else if let Some(idle) = rest.value("IDLE") {
            let idle = parse_int(idle).map_err(|_| error::XCLAIM_IDLE)?;
            delivered_at = Some((now as i64).wrapping_sub(idle));
        } else if let Some(time) = rest.value("TIME") {
            delivered_at = Some(parse_int(time).map_err(|_| error::XCLAIM_TIME)?);
        } else if let Some(count) = rest.value("RETRYCOUNT") {
            claim.deliveries = u64::try_from(parse_int(count).map_err(|_| error::XCLAIM_RETRY_COUNT)?).ok();
        } else if let Some(id) = rest.value("LASTID") {
            last_id = parse::id(id)?;
        } else {
            break;
        }
    }
    if let Some(option) = rest.peek() {
        let option = String::from_utf8_lossy(option);
        return Err(Error::new(format!("ERR Unrecognized XCLAIM option '{option}'")));
    }
    // A client's clock may be ahead of ours; Redis takes such a time for now.
    if let Some(time) = delivered_at.and_then(|time| u64::try_from(time).ok()).filter(|time| *time <= now) {
        claim.delivered_at = time;
    }
    Ok((claim, ids, last_id))
}

pub(crate) fn xclaim(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, name, now) = (args.at(1), args.at(2), keys.now());
    let mut edit = keys.edit::<Stream>(key)?.ok_or_else(|| no_group(key, name, ""))?;
    edit.log.audience = Audience::Nobody;
    let log = &mut edit.log;
    let mut open = edit.value.open_group(name).ok_or_else(|| no_group(key, name, ""))?;
    let (claim, ids, last_id) = parse_claim(args, now)?;
    open.raise_last_id(last_id, log);
    let (consumer, is_new) = open.see_consumer(args.at(3), now, log);
    let (mark, mut claimed) = (reply.mark(), 0);
    for id in ids {
        let Some(entry) = open.claim(id, consumer, &claim, now, log) else { continue };
        claimed += 1;
        if claim.just_id { reply.bulk(&id.text()) } else { show(reply, entry) }
    }
    if claimed > 0 {
        open.activate(consumer, now, log);
    }
    reply.insert_array(mark, claimed);
    drop(edit);
    if is_new {
        keys.notify(Class::Stream, "xgroup-createconsumer", key);
    }
    Ok(())
}

pub(crate) fn xautoclaim(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let min_idle_ms = int(args, 4).map_err(|_| error::XAUTOCLAIM_MIN_IDLE)?.max(0) as u64;
    let start = parse::start(args.at(5))?;
    let (mut count, mut just_id, mut rest) = (100, false, Rest::of(args, 6));
    loop {
        if let Some(text) = rest.value("COUNT") {
            // Sixteen bytes for each would have to fit in Redis' memory.
            let max = i64::MAX / 16;
            count = parse_int(text).ok().filter(|count| (1..=max).contains(count)).ok_or(error::XAUTOCLAIM_COUNT)? as usize;
        } else if rest.word("JUSTID") {
            just_id = true;
        } else {
            break rest.end()?;
        }
    }
    let (key, name, now) = (args.at(1), args.at(2), keys.now());
    let mut edit = keys.edit::<Stream>(key)?.ok_or_else(|| no_group(key, name, ""))?;
    edit.log.audience = Audience::Nobody;
    let log = &mut edit.log;
    let mut open = edit.value.open_group(name).ok_or_else(|| no_group(key, name, ""))?;
    let (consumer, is_new) = open.see_consumer(args.at(3), now, log);
    let claim = Claim { min_idle_ms, delivered_at: now, deliveries: None, force: false, just_id };
    let mut attempts = count.saturating_mul(ATTEMPTS_PER_COUNT);
    let (mut next, mut claimed, mut deleted) = (Some(start), 0, Vec::new());
    let mut entries = Reply::new(reply.protocol());
    let cursor = loop {
        let found = next.and_then(|next| open.group.pending_range(next, Id::MAX).next());
        let Some((id, _)) = found else { break Id::MIN };
        if attempts == 0 || claimed + deleted.len() == count {
            break id;
        }
        attempts -= 1;
        next = id.next();
        if let Some(entry) = open.claim(id, consumer, &claim, now, log) {
            claimed += 1;
            if just_id { entries.bulk(&id.text()) } else { show(&mut entries, entry) }
        } else if open.sequence().entries.get(id).is_none() {
            deleted.push(id);
        }
    };
    if claimed > 0 {
        open.activate(consumer, now, log);
    }
    drop(edit);
    if is_new {
        keys.notify(Class::Stream, "xgroup-createconsumer", key);
    }
    reply.array(3);
    reply.bulk(&cursor.text());
    reply.array(claimed);
    reply.append(entries);
    reply.array(deleted.len());
    deleted.iter().for_each(|id| reply.bulk(&id.text()));
    Ok(())
}
