//! Commands of Redis' `stream` group. What they mean is in `engine::types::stream`; commands that read, that are about
//! groups and that tell of streams have files of their own.

mod answer;
mod group;
mod info;
mod parse;
mod read;
mod removal;

use parse::{NewId, Options};

use crate::commands::args::{Rest, parse_int, wrong_number};
use crate::commands::stream::answer::show;
use crate::commands::table::Group::Stream as GROUP;
use crate::commands::table::flag::{BLOCKING, LOADING, STALE};
use crate::commands::{Command, Keys, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::log::Audience;
use crate::engine::notify::Class;
use crate::engine::types::stream::entries::Entry;
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::{Sequence, Stream};
use crate::resp::{Args, Reply};

/// Bytes of names and values one entry may have, as in Redis.
const ENTRY_BYTES_MAX: usize = 1 << 30;

const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "xack", group::xack)
        .args_min(3)
        .key()
        .fast()
        .since("5.0.0", "O(1) for each ID")
        .doc("key group id [id ...]", "Takes entries off the list of those a group waits for. Returns how many were on it."),
    Command::write(GROUP, "xackdel", removal::xackdel).args_min(5).key().fast().since("8.2.0", "O(1) for each ID, O(N) for N groups").doc(
        "key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
        "Takes entries off the list of those a group waits for and removes them; on request only once no other group waits for them.",
    ),
    Command::write(GROUP, "xadd", xadd)
        .args_min(4)
        .key()
        .grows()
        .fast()
        .since("5.0.0", "O(1) to add, O(N) to trim N entries")
        .doc(
            "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]",
            "Adds an entry to a stream, which is made where it is missing. Returns the entry's ID.",
        ),
    Command::write(GROUP, "xautoclaim", group::xautoclaim)
        .args_min(5)
        .key()
        .fast()
        .since("6.2.0", "O(N*log(M)), N entries looked at of M pending")
        .doc(
            "key group consumer min-idle-time start [COUNT count] [JUSTID]",
            "Gives a consumer the entries that others left waiting too long.",
        ),
    Command::write(GROUP, "xclaim", group::xclaim)
        .args_min(5)
        .key()
        .fast()
        .since("5.0.0", "O(log(N)) for each ID, N entries pending")
        .doc(
            "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
            "Gives a consumer entries that were delivered to another one.",
        ),
    Command::write(GROUP, "xdel", xdel)
        .args_min(2)
        .key()
        .fast()
        .since("5.0.0", "O(log(N)) for each ID, N entries in the stream")
        .doc("key id [id ...]", "Removes entries. Returns how many there were."),
    Command::write(GROUP, "xdelex", removal::xdelex).args_min(4).key().fast().since("8.2.0", "O(1) for each ID, O(N) for N groups").doc(
        "key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
        "Removes entries of a stream; on request with what groups remember of them, or only those that all groups are done with.",
    ),
    Command::container(GROUP, "xgroup", XGROUP).since("5.0.0", "Depends on subcommand.").doc("", "Commands about groups of consumers."),
    Command::container(GROUP, "xinfo", XINFO).since("5.0.0", "Depends on subcommand.").doc("", "Commands that tell of streams."),
    Command::read(GROUP, "xlen", xlen)
        .args(1)
        .key()
        .fast()
        .since("5.0.0", "O(1)")
        .doc("key", "Returns how many entries a stream has."),
    Command::read(GROUP, "xpending", group::xpending)
        .args_min(2)
        .key()
        .since(
            "5.0.0",
            "O(N), N entries looked at, or N consumers for the summary",
        )
        .doc(
            "key group [[IDLE min-idle-time] start end count [consumer]]",
            "Tells which entries a group delivered and waits to have acknowledged.",
        ),
    Command::read(GROUP, "xrange", xrange)
        .args_min(3)
        .key()
        .since(
            "5.0.0",
            "O(N), N entries returned",
        )
        .doc("key start end [COUNT count]", "Returns the entries with IDs in a range."),
    Command::read(GROUP, "xread", read::xread)
        .args_min(3)
        .keys(Keys::Found { find: read::streams, first: 0 })
        .flags(BLOCKING)
        .since(
            "5.0.0",
            "O(N), N entries returned",
        )
        .doc(
            "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
            "Returns entries above the given IDs from several streams, or waits for some.",
        ),
    Command::write(GROUP, "xreadgroup", read::xreadgroup)
        .args_min(6)
        .keys(Keys::Found { find: read::streams, first: 0 })
        .flags(BLOCKING)
        .since(
            "5.0.0",
            "O(N*log(M)), N entries returned, M pending",
        )
        .doc(
            "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
            "Returns entries that a group has not delivered yet, or waits for some; or those a consumer has still to acknowledge.",
        ),
    Command::read(GROUP, "xrevrange", xrevrange)
        .args_min(3)
        .key()
        .since(
            "5.0.0",
            "O(N), N entries returned",
        )
        .doc("key end start [COUNT count]", "Returns the entries with IDs in a range, the highest first."),
    Command::write(GROUP, "xsetid", xsetid)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("5.0.0", "O(1)")
        .doc(
            "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
            "Sets the ID above which a stream's next entry will be.",
        ),
    Command::write(GROUP, "xtrim", xtrim)
        .args_min(3)
        .key()
        .since(
            "5.0.0",
            "O(N), N entries removed",
        )
        .doc("key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]", "Removes entries from the front of a stream. Returns how many."),
];

const XGROUP: &[Command] = &[
    Command::write(GROUP, "create", group::create)
        .args_min(4)
        .keys(SECOND)
        .grows()
        .since("5.0.0", "O(1)")
        .doc("key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]", "Makes a group that reads on from an ID."),
    Command::write(GROUP, "createconsumer", group::create_consumer)
        .args(4)
        .keys(SECOND)
        .grows()
        .since("6.2.0", "O(1)")
        .doc("key group consumer", "Makes a consumer. Returns whether it was missing."),
    Command::write(GROUP, "delconsumer", group::delete_consumer)
        .args(4)
        .keys(SECOND)
        .since("5.0.0", "O(1)")
        .doc("key group consumer", "Removes a consumer. Returns how many entries it had still to acknowledge."),
    Command::write(GROUP, "destroy", group::destroy)
        .args(3)
        .keys(SECOND)
        .since("5.0.0", "O(N), N entries pending")
        .doc("key group", "Removes a group. Returns whether it was there."),
    Command::session(GROUP, "help", group::help)
        .args(1)
        .flags(LOADING | STALE)
        .since("5.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    Command::write(GROUP, "setid", group::set_id)
        .args_min(4)
        .keys(SECOND)
        .since("5.0.0", "O(1)")
        .doc("key group <id | $> [ENTRIESREAD entries-read]", "Makes a group read on from another ID."),
];

const XINFO: &[Command] = &[
    Command::read(GROUP, "consumers", info::consumers)
        .args(3)
        .keys(SECOND)
        .since("5.0.0", "O(1)")
        .doc("key group", "Tells of a group's consumers."),
    Command::read(GROUP, "groups", info::groups)
        .args(2)
        .keys(SECOND)
        .since("5.0.0", "O(1)")
        .doc("key", "Tells of a stream's groups."),
    Command::session(GROUP, "help", info::help)
        .args(1)
        .flags(LOADING | STALE)
        .since("5.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    Command::read(GROUP, "stream", info::stream)
        .args_min(2)
        .keys(SECOND)
        .since("5.0.0", "O(1)")
        .doc("key [FULL [COUNT count]]", "Tells of a stream."),
];

fn xadd(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let options = Options::parse(args, true)?;
    // Behind the id come names and values in pairs, at least one.
    let Some((wanted, at)) = options.id.filter(|(_, at)| args.len() - at > 2 && (args.len() - at) % 2 == 1) else {
        return Err(wrong_number("xadd"));
    };
    let texts = args.from(at + 1);
    if wanted == NewId::Given(Id::MIN) {
        return Err(error::XADD_ZERO);
    }
    if texts.iter().map(<[u8]>::len).sum::<usize>() > ENTRY_BYTES_MAX {
        return Err(error::XADD_LARGE);
    }
    let (key, now) = (args.at(1), keys.now());
    let mut edit = if options.no_mkstream {
        let Some(edit) = keys.edit::<Stream>(key)? else {
            reply.null();
            return Ok(());
        };
        edit
    } else {
        keys.edit_or_new::<Stream>(key)?
    };
    let id = choose_id(edit.value.sequence(), wanted, now)?;
    edit.value.add(id, (0..texts.len() / 2).map(|pair| (texts.at(pair * 2), texts.at(pair * 2 + 1))), &mut edit.log);
    let trimmed = options.trim.map_or(0, |trim| edit.value.trim(trim, options.effort, &mut edit.log));
    drop(edit);
    keys.notify(Class::Stream, "xadd", key);
    if trimmed > 0 {
        keys.notify(Class::Stream, "xtrim", key);
    }
    reply.bulk(&id.text());
    Ok(())
}

/// The id of an entry that is added now. On a stream without a past it always succeeds, so that no key is made in vain.
fn choose_id(sequence: &Sequence, wanted: NewId, now: u64) -> Result<Id, Error> {
    let last = sequence.last_id;
    if last == Id::MAX {
        return Err(error::XADD_EXHAUSTED);
    }
    let id = match wanted {
        NewId::Any => sequence.next_id(now),
        NewId::InMs(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| Id::new(ms, seq)),
        NewId::InMs(ms) => Some(Id::new(ms, 0)),
        NewId::Given(id) => Some(id),
    };
    id.filter(|id| *id > last).ok_or(error::XADD_SMALL)
}

fn xlen(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(keys.get::<Stream>(args.at(1))?.map_or(0, Stream::len));
    Ok(())
}

fn xrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, end) = (parse::start(args.at(2))?, parse::end(args.at(3))?);
    range(keys, args, reply, |stream, count, show| stream.sequence().entries.range(start, end).take(count).for_each(show))
}

fn xrevrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, end) = (parse::start(args.at(3))?, parse::end(args.at(2))?);
    range(keys, args, reply, |stream, count, show| stream.sequence().entries.range_back(start, end).take(count).for_each(show))
}

fn range(
    keys: &mut Read<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    each: impl FnOnce(&Stream, usize, &mut dyn FnMut(Entry<'_>)),
) -> Outcome {
    let (mut count, mut rest) = (None, Rest::of(args, 4));
    while let Some(text) = rest.value("COUNT") {
        count = Some(parse::count(text)?);
    }
    rest.end()?;
    let Some(stream) = keys.get::<Stream>(args.at(1))? else {
        reply.array(0);
        return Ok(());
    };
    if count == Some(0) {
        reply.null_array();
        return Ok(());
    }
    let (mark, mut shown) = (reply.mark(), 0);
    each(stream, count.unwrap_or(usize::MAX), &mut |entry| {
        show(reply, entry);
        shown += 1;
    });
    reply.insert_array(mark, shown);
    Ok(())
}

fn xdel(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let Some(mut edit) = keys.edit::<Stream>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let ids = parse::ids(args, 2)?;
    let deleted = edit.value.delete(ids.into_iter(), &mut edit.log);
    drop(edit);
    if deleted > 0 {
        keys.notify(Class::Stream, "xdel", key);
    }
    reply.count(deleted);
    Ok(())
}

fn xtrim(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let options = Options::parse(args, false)?;
    let key = args.at(1);
    let Some(mut edit) = keys.edit::<Stream>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let trimmed = options.trim.map_or(0, |trim| edit.value.trim(trim, options.effort, &mut edit.log));
    drop(edit);
    if trimmed > 0 {
        keys.notify(Class::Stream, "xtrim", key);
    }
    reply.count(trimmed);
    Ok(())
}

fn xsetid(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let id = parse::id(args.at(2))?;
    let (mut added, mut max_deleted_id) = (None, None);
    let mut rest = Rest::of(args, 3);
    loop {
        if let Some(count) = rest.value("ENTRIESADDED") {
            added = Some(u64::try_from(parse_int(count)?).map_err(|_| error::XSETID_ADDED)?);
        } else if let Some(given) = rest.value("MAXDELETEDID") {
            let given = parse::id(given)?;
            if id < given {
                return Err(error::XSETID_BELOW_GIVEN);
            }
            max_deleted_id = Some(given);
        } else {
            break rest.end()?;
        }
    }
    let key = args.at(1);
    let mut edit = keys.edit::<Stream>(key)?.ok_or(error::NO_SUCH_KEY)?;
    edit.log.audience = Audience::Nobody;
    let sequence = edit.value.sequence();
    if id < sequence.max_deleted_id {
        return Err(error::XSETID_BELOW_DELETED);
    }
    if !sequence.entries.is_empty() && id < sequence.entries.last_id() {
        return Err(error::XSETID_BELOW_TOP);
    }
    if added.is_some_and(|added| added < sequence.entries.len() as u64) {
        return Err(error::XSETID_BELOW_LENGTH);
    }
    edit.value.set_id(id, added, max_deleted_id.filter(|id| *id != Id::MIN), &mut edit.log);
    drop(edit);
    keys.notify(Class::Stream, "xsetid", key);
    reply.ok();
    Ok(())
}
