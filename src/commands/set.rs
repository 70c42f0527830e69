//! Commands of Redis' `set` group.

use crate::commands::args::{Rest, int, parse_int};
use crate::commands::elements::{self, Scan, Walked};
use crate::commands::table::Group::Set as GROUP;
use crate::commands::{Command, Keys, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::packed::Item;
use crate::engine::types::sample;
use crate::engine::types::set::Set;
use crate::resp::{Args, Reply};

const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "sadd", sadd)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.")
        .doc("key member [member ...]", "Adds members to a set; counts those that are new."),
    Command::read(GROUP, "scard", scard).args(1).key().fast().since("1.0.0", "O(1)").doc("key", "Counts the members of a set."),
    Command::read(GROUP, "sdiff", sdiff)
        .args_min(1)
        .keys(ALL)
        .since("1.0.0", "O(N) where N is the total number of elements in all given sets.")
        .doc("key [key ...]", "Shows the members of the first set that none of the others has."),
    Command::write(GROUP, "sdiffstore", sdiffstore)
        .args_min(2)
        .keys(ALL)
        .grows()
        .since("1.0.0", "O(N) where N is the total number of elements in all given sets.")
        .doc("destination key [key ...]", "Stores the members of the first set that none of the others has."),
    Command::read(GROUP, "sinter", sinter)
        .args_min(1)
        .keys(ALL)
        .since("1.0.0", "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.")
        .doc("key [key ...]", "Shows the members that all sets have."),
    Command::read(GROUP, "sintercard", sintercard)
        .args_min(2)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("7.0.0", "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.")
        .doc("numkeys key [key ...] [LIMIT limit]", "Counts the members that all sets have, up to a limit."),
    Command::write(GROUP, "sinterstore", sinterstore)
        .args_min(2)
        .keys(ALL)
        .grows()
        .since("1.0.0", "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.")
        .doc("destination key [key ...]", "Stores the members that all sets have."),
    Command::read(GROUP, "sismember", sismember)
        .args(2)
        .key()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key member", "Tells whether a set has a member."),
    Command::read(GROUP, "smembers", smembers)
        .args(1)
        .key()
        .since("1.0.0", "O(N) where N is the set cardinality.")
        .doc("key", "Shows all members of a set."),
    Command::read(GROUP, "smismember", smismember)
        .args_min(2)
        .key()
        .fast()
        .since("6.2.0", "O(N) where N is the number of elements being checked for membership")
        .doc("key member [member ...]", "Tells for each member whether a set has it."),
    Command::write(GROUP, "smove", smove)
        .args(3)
        .keys(Keys::Range { first: 1, last: 2, step: 1 })
        .fast()
        .since("1.0.0", "O(1)")
        .doc("source destination member", "Moves a member from one set to another."),
    Command::write(GROUP, "spop", spop)
        .args_min(1)
        .key()
        .fast()
        .since("1.0.0", "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.")
        .doc("key [count]", "Removes random members from a set and shows them."),
    Command::read(GROUP, "srandmember", srandmember)
        .args_min(1)
        .key()
        .since("1.0.0", "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.")
        .doc("key [count]", "Shows random members of a set: different ones, or with a negative count any."),
    Command::write(GROUP, "srem", srem)
        .args_min(2)
        .key()
        .fast()
        .since("1.0.0", "O(N) where N is the number of members to be removed.")
        .doc("key member [member ...]", "Removes members from a set; counts those that were there."),
    Command::read(GROUP, "sscan", sscan)
        .args_min(2)
        .key()
        .since(
            "2.8.0",
            "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. \
             N is the number of elements inside the collection.",
        )
        .doc("key cursor [MATCH pattern] [COUNT count]", "Walks through the members of a set, some at a time."),
    Command::read(GROUP, "sunion", sunion)
        .args_min(1)
        .keys(ALL)
        .since("1.0.0", "O(N) where N is the total number of elements in all given sets.")
        .doc("key [key ...]", "Shows the members that any of the sets has."),
    Command::write(GROUP, "sunionstore", sunionstore)
        .args_min(2)
        .keys(ALL)
        .grows()
        .since("1.0.0", "O(N) where N is the total number of elements in all given sets.")
        .doc("destination key [key ...]", "Stores the members that any of the sets has."),
];

fn sadd(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let mut edit = keys.edit_or_new::<Set>(key)?;
    let added = args.from(2).iter().filter(|member| edit.add(member)).count();
    drop(edit);
    if added > 0 {
        keys.notify(Class::Set, "sadd", key);
    }
    reply.count(added);
    Ok(())
}

fn srem(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let mut removed = 0;
    if let Some(mut edit) = keys.edit::<Set>(key)? {
        removed = args.from(2).iter().filter(|member| edit.remove(member)).count();
    }
    if removed > 0 {
        keys.notify(Class::Set, "srem", key);
        keys.remove_if_empty::<Set>(key);
    }
    reply.count(removed);
    Ok(())
}

fn sismember(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = keys.get::<Set>(args.at(1))?;
    reply.int(set.is_some_and(|set| set.contains(Item::of(args.at(2)))).into());
    Ok(())
}

fn smismember(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = keys.get::<Set>(args.at(1))?;
    let members = args.from(2).iter();
    reply.array(members.len());
    members.for_each(|member| reply.int(set.is_some_and(|set| set.contains(Item::of(member))).into()));
    Ok(())
}

fn scard(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = keys.get::<Set>(args.at(1))?;
    reply.count(set.map_or(0, Set::len));
    Ok(())
}

fn smembers(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match keys.get::<Set>(args.at(1))? {
        Some(set) => {
            reply.set(set.len());
            set.iter().for_each(|member| elements::bulk(reply, member));
        }
        None => reply.set(0),
    }
    Ok(())
}

fn smove(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (source, destination, member) = (args.at(1), args.at(2), args.at(3));
    if !keys.exists(source) {
        reply.int(0);
        return Ok(());
    }
    keys.peek_type::<Set>(source)?;
    keys.peek_type::<Set>(destination)?;
    if source == destination {
        let is_member = keys.get::<Set>(source)?.is_some_and(|set| set.contains(Item::of(member)));
        reply.int(is_member.into());
        return Ok(());
    }
    let is_moved = keys.edit::<Set>(source)?.is_some_and(|mut edit| edit.remove(member));
    if is_moved {
        keys.notify(Class::Set, "srem", source);
        keys.remove_if_empty::<Set>(source);
        if keys.edit_or_new::<Set>(destination)?.add(member) {
            keys.notify(Class::Set, "sadd", destination);
        }
    }
    reply.int(is_moved.into());
    Ok(())
}

fn spop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 => spop_one(keys, args.at(1), reply),
        3 => spop_some(keys, args, reply),
        _ => Err(error::SYNTAX),
    }
}

fn spop_one(keys: &mut Write<'_>, key: &[u8], reply: &mut Reply) -> Outcome {
    let popped = match keys.edit::<Set>(key)? {
        Some(mut edit) => edit.take_random(),
        None => None,
    };
    let Some(member) = popped else {
        reply.null();
        return Ok(());
    };
    keys.notify(Class::Set, "spop", key);
    keys.remove_if_empty::<Set>(key);
    reply.bulk(&member);
    Ok(())
}

fn spop_some(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let count = int(args, 2).ok().and_then(|count| usize::try_from(count).ok()).ok_or(error::NOT_POSITIVE)?;
    let Some(mut edit) = keys.edit::<Set>(key)? else {
        reply.set(0);
        return Ok(());
    };
    let count = count.min(edit.value.len());
    reply.set(count);
    for _ in 0..count {
        let member = edit.take_random().expect("no more are taken than there are");
        reply.bulk(&member);
    }
    drop(edit);
    if count > 0 {
        keys.notify(Class::Set, "spop", key);
        keys.remove_if_empty::<Set>(key);
    }
    Ok(())
}

fn srandmember(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 => match keys.get::<Set>(args.at(1))? {
            Some(set) => elements::bulk(reply, set.random()),
            None => reply.null(),
        },
        3 => {
            let count = elements::random_count(args, 2)?;
            match keys.get::<Set>(args.at(1))? {
                Some(set) => return random_members(set, count, reply),
                None => reply.array(0),
            }
        }
        _ => return Err(error::SYNTAX),
    }
    Ok(())
}

fn random_members(set: &Set, count: i64, reply: &mut Reply) -> Outcome {
    let wanted = count.unsigned_abs();
    if count < 0 {
        reply.array(wanted as usize);
        return elements::repeated(wanted, set.len(), reply, |reply, at| elements::bulk(reply, set.at(at)));
    }
    let wanted = wanted.min(set.len() as u64) as usize;
    reply.array(wanted);
    if wanted == set.len() {
        set.iter().for_each(|member| elements::bulk(reply, member));
    } else {
        sample::distinct(wanted, set.len()).into_iter().for_each(|at| elements::bulk(reply, set.at(at as usize)));
    }
    Ok(())
}

fn sscan(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let cursor = elements::cursor(args.at(2))?;
    let Some(set) = keys.get::<Set>(args.at(1))? else {
        elements::empty_scan(reply);
        return Ok(());
    };
    let scan = Scan::read(args, 3, Walked::Members)?;
    scan.run(cursor, reply, |cursor, reply, shown| {
        set.scan(cursor, |member| {
            if scan.wants(member) {
                elements::bulk(reply, member);
                *shown += 1;
            }
        })
    });
    Ok(())
}

fn sinter(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(&intersection(&sets(keys, args.from(1))?, usize::MAX), reply);
    Ok(())
}

fn sintercard(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = int(args, 1).ok().and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let count = count.ok_or(error::NUMKEYS_NOT_POSITIVE)?;
    if count > args.len() - 2 {
        return Err(error::NUMKEYS_TOO_LARGE);
    }
    let limit = limit(Rest::of(args, 2 + count))?;
    let found = intersection(&sets(keys, args.slice(2..2 + count))?, limit).len();
    reply.count(found);
    Ok(())
}

/// The last `LIMIT` among options that may be nothing else; 0 is no limit.
fn limit(mut options: Rest<'_>) -> Result<usize, Error> {
    let mut limit = 0;
    while let Some(text) = options.value("limit") {
        limit = parse_int(text).ok().and_then(|limit| usize::try_from(limit).ok()).ok_or(error::LIMIT_NEGATIVE)?;
    }
    options.end()?;
    Ok(if limit == 0 { usize::MAX } else { limit })
}

fn sunion(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let union = union(&sets(keys, args.from(1))?);
    reply.set(union.len());
    union.iter().for_each(|member| elements::bulk(reply, member));
    Ok(())
}

fn sdiff(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(&difference(&sets(keys, args.from(1))?), reply);
    Ok(())
}

fn sinterstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = intersection(&sets(keys, args.from(2))?, usize::MAX).into_iter().collect();
    store(keys, args.at(1), set, "sinterstore", reply);
    Ok(())
}

fn sunionstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = union(&sets(keys, args.from(2))?);
    store(keys, args.at(1), set, "sunionstore", reply);
    Ok(())
}

fn sdiffstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let set = difference(&sets(keys, args.from(2))?).into_iter().collect();
    store(keys, args.at(1), set, "sdiffstore", reply);
    Ok(())
}

/// The sets at these keys, in order; None where there is no such key. Fails if one holds something else, whatever the others hold.
fn sets<'k>(keys: &'k mut Read<'_>, names: Args<'_>) -> Result<Vec<Option<&'k Set>>, Error> {
    for name in names.iter() {
        keys.get::<Set>(name)?;
    }
    let keys = &*keys;
    Ok(names.iter().map(|name| keys.found::<Set>(name)).collect())
}

/// Members that all sets have, up to a limit: those of the smallest set that are in the others.
fn intersection<'k>(sets: &[Option<&'k Set>], limit: usize) -> Vec<Item<'k>> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else { return Vec::new() };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return Vec::new() };
    smallest.iter().filter(|member| others.iter().all(|other| other.contains(*member))).take(limit).collect()
}

fn union(sets: &[Option<&Set>]) -> Set {
    sets.iter().copied().flatten().flat_map(Set::iter).collect()
}

/// Members of the first set that none of the others has.
fn difference<'k>(sets: &[Option<&'k Set>]) -> Vec<Item<'k>> {
    let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
    // The largest first: it is the likeliest to have a member, which spares asking the others.
    let mut others: Vec<_> = others.iter().copied().flatten().collect();
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    first.iter().filter(|member| !others.iter().any(|other| other.contains(*member))).collect()
}

fn show(members: &[Item<'_>], reply: &mut Reply) {
    reply.set(members.len());
    members.iter().for_each(|member| elements::bulk(reply, *member));
}

/// Makes a key hold a set, or nothing if the set is empty, and answers with its size.
fn store(keys: &mut Write<'_>, key: &[u8], set: Set, event: &'static str, reply: &mut Reply) {
    reply.count(set.len());
    if !set.is_empty() {
        keys.put(key, set, Expiry::Never);
        keys.notify(Class::Set, event, key);
    } else if keys.remove(key) {
        keys.notify(Class::Generic, "del", key);
    }
}
