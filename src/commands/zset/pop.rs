//! Commands that take the lowest or highest members, some of which wait for one.

use crate::commands::Outcome;
use crate::commands::args::{Rest, int, parse_int, timeout};
use crate::commands::zset::answer::show;
use crate::engine::blob::Blob;
use crate::engine::block::Want;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Edit, Write};
use crate::engine::notify::Class;
use crate::engine::types::zset::Zset;
use crate::resp::{Args, OwnedArgs, Reply};

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Lowest => "zpopmin",
            End::Highest => "zpopmax",
        }
    }
}

pub(crate) fn zpopmin(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop(keys, args, End::Lowest, reply)
}

pub(crate) fn zpopmax(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop(keys, args, End::Highest, reply)
}

pub(crate) fn bzpopmin(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    wait_and_pop(keys, args, End::Lowest, reply)
}

pub(crate) fn bzpopmax(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    wait_and_pop(keys, args, End::Highest, reply)
}

fn pop(keys: &mut Write<'_>, args: Args<'_>, end: End, reply: &mut Reply) -> Outcome {
    if args.len() > 3 {
        return Err(error::SYNTAX);
    }
    let count = match args.get(2) {
        Some(_) => usize::try_from(int(args, 2).map_err(|_| error::NOT_POSITIVE)?).map_err(|_| error::NOT_POSITIVE)?,
        None => 1,
    };
    let is_nested = reply.is_resp3() && args.len() == 3;
    let Some(edit) = keys.edit::<Zset>(args.at(1))?.filter(|_| count > 0) else {
        reply.array(0);
        return Ok(());
    };
    let count = count.min(edit.value.len());
    reply.array(if is_nested { count } else { 2 * count });
    take(edit, end, count, is_nested, reply);
    after(keys, args.at(1), end);
    Ok(())
}

fn wait_and_pop(keys: &mut Write<'_>, args: Args<'_>, end: End, reply: &mut Reply) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let last = args.len() - 1;
    let timeout = timeout(args, last)?;
    let names = args.slice(1..last);
    if let Some(key) = first_filled(keys, names)? {
        reply.array(3);
        reply.bulk(key);
        if let Some(edit) = keys.edit::<Zset>(key)? {
            take(edit, end, 1, false, reply);
        }
        after(keys, key, end);
    } else {
        let name = Blob::from(args.at(0));
        wait(keys, names, timeout, reply, move |key| OwnedArgs::new([&*name, key, b"0"]));
    }
    Ok(())
}

pub(crate) fn zmpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (names, end, count) = read_many(args, 1)?;
    if !pop_many(keys, names, end, count, reply)? {
        reply.null_array();
    }
    Ok(())
}

pub(crate) fn bzmpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let (names, end, count) = read_many(args, 2)?;
    let timeout = timeout(args, 1)?;
    if !pop_many(keys, names, end, count, reply)? {
        let rest = args.from(3 + names.len()).to_owned();
        let make = move |key: &[u8]| OwnedArgs::new([&b"BZMPOP"[..], b"0", b"1", key].into_iter().chain(rest.args().iter()));
        wait(keys, names, timeout, reply, make);
    }
    Ok(())
}

/// Reads `numkeys key [key ...] <MIN | MAX> [COUNT count]` from a position on.
fn read_many(args: Args<'_>, at: usize) -> Result<(Args<'_>, End, usize), Error> {
    let positive = |number: &[u8], error: Error| match parse_int(number) {
        Ok(number @ 1..) => Ok(number as usize),
        _ => Err(error),
    };
    let numkeys = positive(args.at(at), error::NUMKEYS_NOT_POSITIVE)?;
    let mut rest = Rest::of(args, at + 1);
    let names = rest.take_many(numkeys).ok_or(error::SYNTAX)?;
    let end = rest.one_of(&[("min", End::Lowest), ("max", End::Highest)]).ok_or(error::SYNTAX)?;
    let count = rest.value("count").map_or(Ok(1), |count| positive(count, error::COUNT_NOT_POSITIVE))?;
    rest.end()?;
    Ok((names, end, count))
}

fn pop_many(keys: &mut Write<'_>, names: Args<'_>, end: End, count: usize, reply: &mut Reply) -> Result<bool, Error> {
    let Some(key) = first_filled(keys, names)? else { return Ok(false) };
    if let Some(edit) = keys.edit::<Zset>(key)? {
        let count = count.min(edit.value.len());
        reply.array(2);
        reply.bulk(key);
        reply.array(count);
        take(edit, end, count, true, reply);
    }
    after(keys, key, end);
    Ok(true)
}

/// The first of these keys that has members. One of another kind is an error, but not to a client that has waited: to it, such a
/// key is as good as none.
fn first_filled<'n>(keys: &mut Write<'_>, names: Args<'n>) -> Result<Option<&'n [u8]>, Error> {
    let is_retry = keys.is_retry();
    for name in names.iter() {
        match keys.edit::<Zset>(name) {
            Ok(Some(_)) => return Ok(Some(name)),
            Ok(None) => {}
            Err(error) if error == error::WRONG_TYPE && is_retry => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for a member at these keys, or answers that there is none. `make` makes the command for one of them.
fn wait(
    keys: &mut Write<'_>,
    names: Args<'_>,
    timeout: Option<u64>,
    reply: &mut Reply,
    make: impl Fn(&[u8]) -> OwnedArgs + Send + Sync + 'static,
) {
    let names: Vec<&[u8]> = names.iter().collect();
    if !keys.wait_for(Want::Member, &names, timeout, || Box::new(move |_, key| make(key))) {
        reply.null_array();
    }
}

/// Takes as many members, which are there, and shows them.
fn take(edit: Edit<'_, Zset>, end: End, count: usize, is_nested: bool, reply: &mut Reply) {
    let Edit { value: zset, mut log, .. } = edit;
    let mut gone = |member: &[u8], score: f64| {
        log.remove(member);
        if is_nested {
            reply.array(2);
        }
        show_flat(reply, member, score);
    };
    match end {
        End::Lowest => zset.remove_ranks(0..count, &mut gone),
        End::Highest => {
            for _ in 0..count {
                zset.remove_ranks(zset.len() - 1..zset.len(), &mut gone);
            }
        }
    }
}

fn show_flat(reply: &mut Reply, member: &[u8], score: f64) {
    show(reply, member, score, false);
    reply.double(score);
}

fn after(keys: &mut Write<'_>, key: &[u8], end: End) {
    keys.notify(Class::Zset, end.event(), key);
    keys.remove_if_empty::<Zset>(key);
}
