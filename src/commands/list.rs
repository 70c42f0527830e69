//! Commands of Redis' `list` group. What they mean is in `engine::types::list`.

use std::ops::{ControlFlow, Range};

use smallvec::SmallVec;

use crate::commands::args::{Rest, int, parse_int, timeout, wrong_number};
use crate::commands::table::Group::List as GROUP;
use crate::commands::table::flag;
use crate::commands::{Command, Keys, Outcome};
use crate::engine::blob::Blob;
use crate::engine::block::Want;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Edit, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::list::{End, List};
use crate::engine::types::packed::{IntText, Item};
use crate::resp::{Args, OwnedArgs, Reply};

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "lpush", lpush)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1) for each element")
        .doc("key element [element ...]", "Adds elements at the head of a list, one after another; makes the list if needed."),
    Command::write(GROUP, "rpush", rpush)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1) for each element")
        .doc("key element [element ...]", "Adds elements at the tail of a list, one after another; makes the list if needed."),
    Command::write(GROUP, "lpushx", lpushx)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("2.2.0", "O(1) for each element")
        .doc("key element [element ...]", "Adds elements at the head of a list, if there is one."),
    Command::write(GROUP, "rpushx", rpushx)
        .args_min(2)
        .key()
        .grows()
        .fast()
        .since("2.2.0", "O(1) for each element")
        .doc("key element [element ...]", "Adds elements at the tail of a list, if there is one."),
    Command::write(GROUP, "lpop", lpop)
        .args_min(1)
        .key()
        .fast()
        .since("1.0.0", "O(N) in the elements returned")
        .doc("key [count]", "Takes elements off the head of a list and returns them."),
    Command::write(GROUP, "rpop", rpop)
        .args_min(1)
        .key()
        .fast()
        .since("1.0.0", "O(N) in the elements returned")
        .doc("key [count]", "Takes elements off the tail of a list and returns them."),
    Command::read(GROUP, "llen", llen).args(1).key().fast().since("1.0.0", "O(1)").doc("key", "Returns the length of a list."),
    Command::read(GROUP, "lrange", lrange)
        .args(3)
        .key()
        .since("1.0.0", "O(S+N) in the distance of the start from the nearer end and the elements returned")
        .doc("key start stop", "Returns the elements between two positions."),
    Command::read(GROUP, "lindex", lindex)
        .args(2)
        .key()
        .since("1.0.0", "O(N) in the distance from the nearer end")
        .doc("key index", "Returns the element at a position."),
    Command::write(GROUP, "lset", lset)
        .args(3)
        .key()
        .grows()
        .since("1.0.0", "O(N) in the distance from the nearer end")
        .doc("key index element", "Sets the element at a position."),
    Command::write(GROUP, "linsert", linsert)
        .args(4)
        .key()
        .grows()
        .since("2.2.0", "O(N) in the elements before the pivot")
        .doc("key <BEFORE | AFTER> pivot element", "Adds an element before or after the first one that equals the pivot."),
    Command::write(GROUP, "lrem", lrem)
        .args(3)
        .key()
        .since("1.0.0", "O(N+M) in the length and the elements removed")
        .doc("key count element", "Removes elements that equal one: the first, the last or all of them."),
    Command::write(GROUP, "ltrim", ltrim)
        .args(3)
        .key()
        .since("1.0.0", "O(N) in the elements removed")
        .doc("key start stop", "Removes all elements but those between two positions."),
    Command::read(GROUP, "lpos", lpos)
        .args_min(2)
        .key()
        .since("6.0.6", "O(N) in the elements looked at")
        .doc("key element [RANK rank] [COUNT num-matches] [MAXLEN len]", "Returns the positions of elements that equal one."),
    Command::write(GROUP, "lmove", lmove).args(4).keys(PAIR).grows().since("6.2.0", "O(1)").doc(
        "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        "Moves an element from an end of one list to an end of another.",
    ),
    Command::write(GROUP, "rpoplpush", rpoplpush)
        .args(2)
        .keys(PAIR)
        .grows()
        .since("1.2.0", "O(1)")
        .doc("source destination", "Moves an element from the tail of one list to the head of another."),
    Command::write(GROUP, "lmpop", lmpop)
        .args_min(3)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("7.0.0", "O(N+M) in the keys and the elements returned")
        .doc("numkeys key [key ...] <LEFT | RIGHT> [COUNT count]", "Takes elements off the first list that has any."),
    Command::write(GROUP, "blpop", blpop)
        .args_min(2)
        .keys(ALL_BUT_TIMEOUT)
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("2.0.0", "O(N) in the keys")
        .doc("key [key ...] timeout", "Takes the head of the first list that has elements; waits if none has."),
    Command::write(GROUP, "brpop", brpop)
        .args_min(2)
        .keys(ALL_BUT_TIMEOUT)
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("2.0.0", "O(N) in the keys")
        .doc("key [key ...] timeout", "Takes the tail of the first list that has elements; waits if none has."),
    Command::write(GROUP, "blmove", blmove)
        .args(5)
        .keys(PAIR)
        .grows()
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("6.2.0", "O(1)")
        .doc(
            "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
            "Moves an element from an end of one list to an end of another; waits if there is none.",
        ),
    Command::write(GROUP, "brpoplpush", brpoplpush)
        .args(3)
        .keys(PAIR)
        .grows()
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("2.2.0", "O(1)")
        .doc(
            "source destination timeout",
            "Moves an element from the tail of one list to the head of another; waits if there is none.",
        ),
    Command::write(GROUP, "blmpop", blmpop)
        .args_min(4)
        .keys(Keys::Counted { at: 2, first: 0 })
        .flags(flag::BLOCKING)
        .since("7.0.0", "O(N+M) in the keys and the elements returned")
        .doc(
            "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
            "Takes elements off the first list that has any; waits if none has.",
        ),
];

const PAIR: Keys = Keys::Range { first: 1, last: 2, step: 1 };
const ALL_BUT_TIMEOUT: Keys = Keys::Range { first: 1, last: -2, step: 1 };

fn lpush(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    push(keys, args, reply, End::Left)
}

fn rpush(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    push(keys, args, reply, End::Right)
}

fn lpushx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    push_if_there(keys, args, reply, End::Left)
}

fn rpushx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    push_if_there(keys, args, reply, End::Right)
}

fn push(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, end: End) -> Outcome {
    let edit = keys.edit_or_new::<List>(args.at(1))?;
    reply.count(push_all(edit, args, end));
    keys.notify_pushed(push_event(end), args.at(1), args.from(2));
    Ok(())
}

fn push_if_there(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, end: End) -> Outcome {
    let Some(edit) = keys.edit::<List>(args.at(1))? else {
        reply.int(0);
        return Ok(());
    };
    reply.count(push_all(edit, args, end));
    keys.notify_pushed(push_event(end), args.at(1), args.from(2));
    Ok(())
}

fn push_all(edit: Edit<'_, List>, args: Args<'_>, end: End) -> usize {
    let Edit { value: list, mut log, .. } = edit;
    (2..args.len()).for_each(|at| list.push(end, args.at(at), &mut log));
    list.len()
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Left => "lpop",
        End::Right => "rpop",
    }
}

fn lpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop(keys, args, reply, End::Left, "lpop")
}

fn rpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop(keys, args, reply, End::Right, "rpop")
}

fn pop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, end: End, name: &str) -> Outcome {
    match args.len() {
        2 => pop_one(keys, args.at(1), reply, end),
        3 => pop_count(keys, args, reply, end),
        _ => Err(wrong_number(name)),
    }
}

fn pop_one(keys: &mut Write<'_>, key: &[u8], reply: &mut Reply, end: End) -> Outcome {
    if !take(keys, key, end, 1, |_, item| bulk(reply, item))? {
        reply.null();
    }
    Ok(())
}

fn pop_count(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, end: End) -> Outcome {
    let count = int(args, 2).ok().and_then(|count| usize::try_from(count).ok()).ok_or(error::NOT_POSITIVE)?;
    let key = args.at(1);
    if count == 0 {
        match keys.edit::<List>(key)? {
            Some(_) => reply.array(0),
            None => reply.null_array(),
        }
    } else if !take_array(keys, key, end, count, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// Takes up to `count` elements off an end and writes them as an array, unless there are none.
fn take_array(keys: &mut Write<'_>, key: &[u8], end: End, count: usize, reply: &mut Reply) -> Result<bool, Error> {
    take(keys, key, end, count, |nth, item| {
        if let Nth::First { of } = nth {
            reply.array(of);
        }
        bulk(reply, item);
    })
}

/// Which of the elements taken one is.
enum Nth {
    /// The first of so many.
    First {
        of: usize,
    },
    Later,
}

/// Takes up to `count` elements off an end, from the end inwards, and shows each. Tells whether there were any.
#[inline]
fn take(keys: &mut Write<'_>, key: &[u8], end: End, count: usize, mut show: impl FnMut(Nth, Item<'_>)) -> Result<bool, Error> {
    let Some(Edit { value: list, mut log, .. }) = keys.edit::<List>(key)? else { return Ok(false) };
    let taken = count.min(list.len());
    let mut nth = Nth::First { of: taken };
    let is_all = taken == list.len();
    if is_all {
        let mut each = |item| show(std::mem::replace(&mut nth, Nth::Later), item);
        match end {
            End::Left => list.iter().for_each(&mut each),
            End::Right => list.iter().rev().for_each(&mut each),
        }
    } else {
        for _ in 0..taken {
            show(std::mem::replace(&mut nth, Nth::Later), list.peek(end).expect("at least `taken` elements are there"));
            list.drop_one(end, &mut log);
        }
    }
    drop(log);
    keys.notify(Class::List, pop_event(end), key);
    if is_all {
        // One effect, instead of one for each row.
        remove_emptied(keys, key);
    }
    Ok(true)
}

/// Removes the key of a list that a command has left nothing of.
fn remove_emptied(keys: &mut Write<'_>, key: &[u8]) {
    keys.remove(key);
    keys.notify(Class::Generic, "del", key);
}

#[inline]
fn bulk(reply: &mut Reply, item: Item<'_>) {
    reply.bulk(item.bytes(&mut IntText::new()));
}

fn llen(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(keys.get::<List>(args.at(1))?.map_or(0, List::len));
    Ok(())
}

fn lrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, stop) = (int(args, 2)?, int(args, 3)?);
    let Some(list) = keys.get::<List>(args.at(1))? else {
        reply.array(0);
        return Ok(());
    };
    let (from, count) = span(start, stop, list.len());
    reply.array(count);
    list.range(from, count).for_each(|item| bulk(reply, item));
    Ok(())
}

/// Where the elements between two positions begin and how many they are; positions below zero count from the tail.
fn span(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let start = if start < 0 { start.saturating_add(len).max(0) } else { start };
    let stop = if stop < 0 { stop.saturating_add(len) } else { stop.min(len - 1) };
    if start > stop || start >= len { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

/// The index that a position means; positions below zero count from the tail.
fn index(position: i64, len: usize) -> Option<usize> {
    let index = if position < 0 { position.saturating_add(len as i64) } else { position };
    usize::try_from(index).ok().filter(|index| *index < len)
}

fn lindex(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(list) = keys.get::<List>(args.at(1))? else {
        reply.null();
        return Ok(());
    };
    match index(int(args, 2)?, list.len()).and_then(|index| list.get(index)) {
        Some(item) => bulk(reply, item),
        None => reply.null(),
    }
    Ok(())
}

fn lset(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Edit { value: list, mut log, .. } = keys.edit::<List>(args.at(1))?.ok_or(error::NO_SUCH_KEY)?;
    let index = index(int(args, 2)?, list.len()).ok_or(error::INDEX_RANGE)?;
    list.set(index, args.at(3), &mut log);
    drop(log);
    keys.notify(Class::List, "lset", args.at(1));
    reply.ok();
    Ok(())
}

fn linsert(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let behind = match args.at(2) {
        side if side.eq_ignore_ascii_case(b"before") => 0,
        side if side.eq_ignore_ascii_case(b"after") => 1,
        _ => return Err(error::SYNTAX),
    };
    let Some(Edit { value: list, mut log, .. }) = keys.edit::<List>(args.at(1))? else {
        reply.int(0);
        return Ok(());
    };
    let Some(pivot) = list.find(args.at(3)) else {
        reply.int(-1);
        return Ok(());
    };
    list.insert(pivot + behind, args.at(4), &mut log);
    reply.count(list.len());
    drop(log);
    keys.notify(Class::List, "linsert", args.at(1));
    Ok(())
}

fn lrem(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = symmetric_int(args.at(2))?;
    let key = args.at(1);
    let Some(Edit { value: list, mut log, .. }) = keys.edit::<List>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let end = if count < 0 { End::Right } else { End::Left };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = list.remove_equal(args.at(3), limit, end, &mut log);
    reply.count(removed);
    drop(log);
    if removed > 0 {
        keys.notify(Class::List, "lrem", key);
        keys.remove_if_empty::<List>(key);
    }
    Ok(())
}

/// An integer whose negative is one as well.
fn symmetric_int(text: &[u8]) -> Result<i64, Error> {
    match parse_int(text)? {
        i64::MIN => Err(error::LONG_RANGE),
        number => Ok(number),
    }
}

fn ltrim(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, stop) = (int(args, 2)?, int(args, 3)?);
    let key = args.at(1);
    reply.ok();
    let Some(Edit { value: list, mut log, .. }) = keys.edit::<List>(key)? else { return Ok(()) };
    let len = list.len();
    let (from, count) = span(start, stop, len);
    if count > 0 {
        list.remove_range(from + count, len, &mut log);
        list.remove_range(0, from, &mut log);
    }
    if list.len() == len {
        log.touch();
    }
    drop(log);
    keys.notify(Class::List, "ltrim", key);
    if count == 0 {
        remove_emptied(keys, key);
    }
    Ok(())
}

/// What `LPOS` looks for.
struct Search {
    /// Which match is the first to tell; from the tail if below zero.
    rank: i64,
    /// How many to tell, 0 for all. None asks for one, not in an array.
    count: Option<usize>,
    /// How many elements to look at; 0 for all.
    elements_max: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Search, Error> {
        let mut search = Search { rank: 1, count: None, elements_max: 0 };
        let natural = |text, error| parse_int(text).ok().and_then(|number| usize::try_from(number).ok()).ok_or(error);
        let mut rest = Rest::of(args, 3);
        loop {
            if let Some(rank) = rest.value("rank") {
                search.rank = symmetric_int(rank)?;
                if search.rank == 0 {
                    return Err(error::LPOS_RANK);
                }
            } else if let Some(count) = rest.value("count") {
                search.count = Some(natural(count, error::LPOS_COUNT)?);
            } else if let Some(len) = rest.value("maxlen") {
                search.elements_max = natural(len, error::LPOS_MAXLEN)?;
            } else {
                rest.end()?;
                return Ok(search);
            }
        }
    }

    /// Shows the indexes of the elements to tell, in the order they are found.
    fn run(&self, list: &List, bytes: &[u8], mut show: impl FnMut(usize)) {
        let from = if self.rank < 0 { End::Right } else { End::Left };
        let elements_max = if self.elements_max == 0 { usize::MAX } else { self.elements_max };
        let mut to_skip = self.rank.unsigned_abs() - 1;
        let mut to_show = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let _ = list.each_equal(bytes, from, elements_max, |index| {
            if to_skip > 0 {
                to_skip -= 1;
                return ControlFlow::Continue(());
            }
            show(index);
            to_show -= 1;
            if to_show == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

fn lpos(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let search = Search::parse(args)?;
    let (mark, mut len) = (reply.mark(), 0);
    if let Some(list) = keys.get::<List>(args.at(1))? {
        search.run(list, args.at(2), |index| {
            reply.count(index);
            len += 1;
        });
    }
    match search.count {
        Some(_) => reply.insert_array(mark, len),
        None if len == 0 => reply.null(),
        None => {}
    }
    Ok(())
}

const ENDS: [(&str, End); 2] = [("left", End::Left), ("right", End::Right)];

/// Reads from which end of one list to which of another.
fn ends(args: Args<'_>, at: usize) -> Result<(End, End), Error> {
    let mut rest = Rest::of(args, at);
    rest.one_of(&ENDS).zip(rest.one_of(&ENDS)).ok_or(error::SYNTAX)
}

fn lmove(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (from, to) = ends(args, 3)?;
    if !move_one(keys, args, reply, from, to)? {
        reply.null();
    }
    Ok(())
}

fn rpoplpush(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if !move_one(keys, args, reply, End::Right, End::Left)? {
        reply.null();
    }
    Ok(())
}

/// Moves an element from an end of one list to an end of another, or of the same, and writes it. Tells whether there was one.
fn move_one(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, from: End, to: End) -> Result<bool, Error> {
    let (source, destination) = (args.at(1), args.at(2));
    let Some(Edit { value: list, .. }) = keys.edit::<List>(source)? else { return Ok(false) };
    let item = list.peek(from).expect("no list is empty");
    let len = item.len();
    bulk(reply, item);
    // The element is read from the reply, which saves a copy.
    let written = reply.last(len + 2);
    let element = &written[..len];
    // The destination is looked at before the source changes: it may be of another type.
    let Edit { value: list, mut log, .. } = keys.edit_or_new::<List>(destination)?;
    if source == destination {
        list.drop_one(from, &mut log);
    }
    list.push(to, element, &mut log);
    drop(log);
    keys.notify(Class::List, push_event(to), destination);
    if source == destination {
        keys.notify(Class::List, pop_event(from), source);
    } else {
        take(keys, source, from, 1, |_, _| ())?;
    }
    Ok(true)
}

fn lmpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let from = Several::parse(args, 1)?;
    if !from.pop(keys, args, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// The lists `LMPOP` and `BLMPOP` take from, and what they take.
struct Several {
    /// Positions of the keys among the arguments.
    keys: Range<usize>,
    end: End,
    count: usize,
}

impl Several {
    /// Reads arguments whose number of keys is at a position.
    fn parse(args: Args<'_>, at: usize) -> Result<Several, Error> {
        let positive = |text, error| {
            parse_int(text).ok().and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0).ok_or(error)
        };
        let numkeys = positive(args.at(at), error::NUMKEYS_NOT_POSITIVE)?;
        let mut rest = Rest::of(args, at + 1);
        let keys = rest.take_many(numkeys).map(|_| at + 1..rest.position()).ok_or(error::SYNTAX)?;
        let end = rest.one_of(&ENDS).ok_or(error::SYNTAX)?;
        // A count is checked before anything behind it.
        let count = rest.value("count").map_or(Ok(1), |count| positive(count, error::COUNT_NOT_POSITIVE))?;
        rest.end()?;
        Ok(Several { keys, end, count })
    }

    /// Takes from the first list that is there and writes its key and the elements. Tells whether there was one.
    fn pop(&self, keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Result<bool, Error> {
        pop_first_of(keys, args, self.keys.clone(), |keys, key| {
            take(keys, key, self.end, self.count, |nth, item| {
                if let Nth::First { of } = nth {
                    reply.array(2);
                    reply.bulk(key);
                    reply.array(of);
                }
                bulk(reply, item);
            })
        })
    }
}

/// Tries one key after another until `pop` tells that it has taken something; tells whether it has.
fn pop_first_of(
    keys: &mut Write<'_>,
    args: Args<'_>,
    positions: Range<usize>,
    mut pop: impl FnMut(&mut Write<'_>, &[u8]) -> Result<bool, Error>,
) -> Result<bool, Error> {
    for at in positions {
        match pop(keys, args.at(at)) {
            Ok(false) => {}
            // Who waits for several keys is not disturbed by one that came to hold something else.
            Err(_) if keys.is_retry() => {}
            taken_or_refused => return taken_or_refused,
        }
    }
    Ok(false)
}

fn blpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop_or_wait(keys, args, reply, End::Left)
}

fn brpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    pop_or_wait(keys, args, reply, End::Right)
}

fn pop_or_wait(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, end: End) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let timeout_ms = timeout(args, args.len() - 1)?;
    let positions = 1..args.len() - 1;
    let is_taken = pop_first_of(keys, args, positions.clone(), |keys, key| {
        take(keys, key, end, 1, |_, item| {
            reply.array(2);
            reply.bulk(key);
            bulk(reply, item);
        })
    })?;
    let at_key = || {
        let name = Blob::from(args.at(0));
        move |key: &[u8]| OwnedArgs::new([&*name, key, b"0"])
    };
    if !is_taken && !wait(keys, args, positions, timeout_ms, at_key) {
        reply.null_array();
    }
    Ok(())
}

/// Waits for an element at these keys; false if the command must answer now. `at_key` makes what makes the command for one of them.
fn wait<F: Fn(&[u8]) -> OwnedArgs + Send + Sync + 'static>(
    keys: &mut Write<'_>,
    args: Args<'_>,
    positions: Range<usize>,
    timeout_ms: Option<u64>,
    at_key: impl FnOnce() -> F,
) -> bool {
    let waited: SmallVec<[&[u8]; 8]> = args.slice(positions).iter().collect();
    keys.wait_for(Want::Element, &waited, timeout_ms, || {
        let make = at_key();
        Box::new(move |_, key| make(key))
    })
}

fn blmove(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (from, to) = ends(args, 3)?;
    let timeout_ms = timeout(args, 5)?;
    move_or_wait(keys, args, reply, from, to, timeout_ms)
}

fn brpoplpush(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let timeout_ms = timeout(args, 3)?;
    move_or_wait(keys, args, reply, End::Right, End::Left, timeout_ms)
}

fn move_or_wait(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, from: End, to: End, timeout_ms: Option<u64>) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    // A source that came to hold something else is waited on; a destination that did is an error.
    let mark = reply.mark();
    let is_hopeless = keys.is_retry() && keys.edit::<List>(args.at(1)).is_err();
    if !is_hopeless {
        match move_one(keys, args, reply, from, to) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if keys.is_retry() && error != error::ON_DISK => {
                reply.truncate(mark);
                reply.error(&error.0);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let only = args.to_owned();
    if !wait(keys, args, 1..2, timeout_ms, || move |_: &[u8]| OwnedArgs::new(only.args().iter())) {
        // In a transaction Redis answers this, and an array when time is over.
        reply.null();
    }
    Ok(())
}

fn blmpop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let from = Several::parse(args, 2)?;
    let timeout_ms = timeout(args, 1)?;
    let at_key = || {
        let rest = args.from(from.keys.end).to_owned();
        move |key: &[u8]| OwnedArgs::new([&b"BLMPOP"[..], b"0", b"1", key].into_iter().chain(rest.args().iter()))
    };
    if !from.pop(keys, args, reply)? && !wait(keys, args, from.keys.clone(), timeout_ms, at_key) {
        reply.null_array();
    }
    Ok(())
}
