//! `XREAD` and `XREADGROUP`: entries of several streams at once, and waiting for some.

use smallvec::SmallVec;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::commands::stream::answer::{no_group, show};
use crate::commands::stream::parse;
use crate::commands::table::Positions;
use crate::engine::blob::Blob;
use crate::engine::block::{AtKey, Want};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::log::Audience;
use crate::engine::notify::Class;
use crate::engine::types::stream::Stream;
use crate::engine::types::stream::id::Id;
use crate::resp::{Args, OwnedArgs, Reply};

/// Where the keys are: the first half of what follows `STREAMS`.
pub(crate) fn streams(args: Args<'_>) -> Positions {
    let mut rest = Rest::of(args, 1);
    while !rest.word("STREAMS") {
        match () {
            () if rest.is("BLOCK") || rest.is("COUNT") => rest.skip(2),
            () if rest.is("GROUP") => rest.skip(3),
            () if rest.is("NOACK") => rest.skip(1),
            () => return Positions::new(),
        }
    }
    let (first, left) = (rest.position(), rest.left());
    if left.is_multiple_of(2) { (first..first + left / 2).collect() } else { Positions::new() }
}

/// What is asked for.
struct Request<'a> {
    args: Args<'a>,
    count: usize,
    /// How long to wait; 0 for ever, None not to wait.
    timeout_ms: Option<u64>,
    /// The group and the consumer who asks.
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    /// Where the first key stands.
    first: usize,
    /// How many keys there are; as many ids follow them.
    keys: usize,
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>, is_group: bool) -> Result<Request<'a>, Error> {
        let mut request = Request { args, count: usize::MAX, timeout_ms: None, group: None, no_ack: false, first: 0, keys: 0 };
        let mut rest = Rest::of(args, 1);
        loop {
            if let Some(ms) = rest.value("BLOCK") {
                request.timeout_ms = Some(timeout(ms)?);
            } else if let Some(count) = rest.value("COUNT") {
                request.count = Some(parse::count(count)?).filter(|count| *count > 0).unwrap_or(usize::MAX);
            } else if rest.left() > 1 && rest.word("STREAMS") {
                break;
            } else if let Some([group, consumer]) = rest.values("GROUP") {
                if !is_group {
                    return Err(error::XREAD_GROUP);
                }
                request.group = Some((group, consumer));
            } else if rest.word("NOACK") {
                if !is_group {
                    return Err(error::XREAD_NOACK);
                }
                request.no_ack = true;
            } else {
                return Err(error::SYNTAX);
            }
        }
        if !rest.left().is_multiple_of(2) {
            return Err(unbalanced(is_group));
        }
        (request.first, request.keys) = (rest.position(), rest.left() / 2);
        if is_group && request.group.is_none() {
            return Err(error::XREADGROUP_GROUP);
        }
        Ok(request)
    }

    fn key(&self, number: usize) -> &'a [u8] {
        self.args.at(self.first + number)
    }

    fn id(&self, number: usize) -> &'a [u8] {
        self.args.at(self.first + self.keys + number)
    }

    fn all_keys(&self) -> SmallVec<[&'a [u8]; 8]> {
        (0..self.keys).map(|number| self.key(number)).collect()
    }

    /// Makes the same request for one of its streams, above one of these ids, one for each stream.
    fn at_key(&self, ids: Vec<Blob>) -> AtKey {
        let options = self.args.slice(0..self.first).to_owned();
        Box::new(move |number, key| OwnedArgs::new(options.args().iter().chain([key, &*ids[number]])))
    }

    /// The same request with ids in place of `$`, to be run again.
    fn resolved(&self, ids: &[Id]) -> OwnedArgs {
        let ids_from = self.first + self.keys;
        let mut owned = OwnedArgs::new(self.args.slice(0..ids_from).iter());
        for (number, id) in ids.iter().enumerate() {
            match self.id(number) {
                b"$" => owned.push(&id.text()),
                other => owned.push(other),
            }
        }
        owned
    }
}

fn timeout(ms: &[u8]) -> Result<u64, Error> {
    let timeout = parse_int(ms).map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    u64::try_from(timeout).map_err(|_| Error::new("ERR timeout is negative"))
}

fn unbalanced(is_group: bool) -> Error {
    let (name, id) = if is_group { ("xreadgroup", '>') } else { ("xread", '$') };
    Error::new(format!("ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{id}' must be specified."))
}

/// Streams on their way to the client: a map, or an array of pairs in RESP2.
struct Answer {
    mark: usize,
    streams: usize,
}

impl Answer {
    fn new(reply: &Reply) -> Answer {
        Answer { mark: reply.mark(), streams: 0 }
    }

    /// Writes a stream; `entries` writes its entries and tells their number.
    fn stream(&mut self, reply: &mut Reply, key: &[u8], entries: impl FnOnce(&mut Reply) -> usize) {
        self.streams += 1;
        if !reply.is_resp3() {
            reply.array(2);
        }
        reply.bulk(key);
        let mark = reply.mark();
        let count = entries(reply);
        reply.insert_array(mark, count);
    }

    /// Whether there was anything to answer.
    fn end(self, reply: &mut Reply) -> bool {
        if self.streams > 0 {
            reply.insert_map(self.mark, self.streams);
        }
        self.streams > 0
    }
}

pub(crate) fn xread(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let request = Request::parse(args, false)?;
    let mut above: SmallVec<[Id; 8]> = SmallVec::new();
    let is_retry = keys.is_retry();
    for number in 0..request.keys {
        let stream = match keys.get::<Stream>(request.key(number)) {
            // Who waits for a stream is not concerned with what else the key holds meanwhile.
            Err(error) if is_retry && error != error::ON_DISK => None,
            stream => stream?,
        };
        let sequence = stream.map(Stream::sequence);
        above.push(match request.id(number) {
            b"$" => sequence.map_or(Id::MIN, |sequence| sequence.last_id),
            b"+" => sequence.and_then(|sequence| sequence.entries.last_id().previous()).unwrap_or(Id::MIN),
            b">" => return Err(error::XREAD_NEW),
            id => parse::id(id)?,
        });
    }
    let mut answer = Answer::new(reply);
    for (number, above) in above.iter().enumerate() {
        let stream = match keys.get::<Stream>(request.key(number)) {
            Err(error) if is_retry && error != error::ON_DISK => None,
            stream => stream?,
        };
        let Some(stream) = stream else { continue };
        let entries = &stream.sequence().entries;
        let Some(start) = above.next().filter(|start| !entries.is_empty() && entries.last_id() >= *start) else { continue };
        answer.stream(reply, request.key(number), |reply| {
            entries.range(start, Id::MAX).take(request.count).map(|entry| show(reply, entry)).count()
        });
    }
    if answer.end(reply) {
        return Ok(());
    }
    if let Some(timeout_ms) = request.timeout_ms
        && keys.wait_for_entries(&request.all_keys(), Some(timeout_ms), &above, request.resolved(&above), || {
            request.at_key(above.iter().map(|id| Blob::from(&*id.text())).collect())
        })
    {
        return Ok(());
    }
    reply.null_array();
    Ok(())
}

pub(crate) fn xreadgroup(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if keys.is_over() {
        reply.null_array();
        return Ok(());
    }
    let request = Request::parse(args, true)?;
    let Some((group, consumer)) = request.group else { return Err(error::XREADGROUP_GROUP) };
    // None is `>`.
    let mut above: SmallVec<[Option<Id>; 8]> = SmallVec::new();
    let mut finds_some = false;
    for number in 0..request.keys {
        let stream = keys.get::<Stream>(request.key(number))?;
        let Some((stream, group)) = stream.and_then(|stream| Some((stream, stream.group(group)?))) else {
            return Err(no_group(request.key(number), group, " in XREADGROUP with GROUP option"));
        };
        finds_some |= request.id(number) != b">" || stream.sequence().has_new_for(group);
        above.push(match request.id(number) {
            b"$" => return Err(error::XREADGROUP_LAST),
            b"+" => return Err(error::XREADGROUP_TOP),
            b">" => None,
            id => Some(parse::id(id)?),
        });
    }
    if let Some(timeout_ms) = request.timeout_ms
        && !finds_some
        && keys.wait_for(Want::Work(Blob::from(group)), &request.all_keys(), Some(timeout_ms), || {
            request.at_key((0..request.keys).map(|number| Blob::from(request.id(number))).collect())
        })
    {
        return see(keys, &request, group, consumer);
    }
    let mut answer = Answer::new(reply);
    for (number, above) in above.iter().enumerate() {
        read_for_group(keys, &request, number, *above, (group, consumer), &mut answer, reply)?;
    }
    if !answer.end(reply) {
        reply.null_array();
    }
    Ok(())
}

/// Notes that a consumer asks, where it is known. One that only waits is not made.
fn see(keys: &mut Write<'_>, request: &Request<'_>, group: &[u8], consumer: &[u8]) -> Outcome {
    let now = keys.now();
    for key in request.all_keys() {
        let Some(mut edit) = keys.edit::<Stream>(key)? else { continue };
        edit.log.audience = Audience::Nobody;
        let Some(mut open) = edit.value.open_group(group) else { continue };
        if open.group.find_consumer(consumer).is_some() {
            open.see_consumer(consumer, now, &mut edit.log);
        }
    }
    Ok(())
}

fn read_for_group(
    keys: &mut Write<'_>,
    request: &Request<'_>,
    number: usize,
    above: Option<Id>,
    (group, consumer): (&[u8], &[u8]),
    answer: &mut Answer,
    reply: &mut Reply,
) -> Outcome {
    let (key, now) = (request.key(number), keys.now());
    let Some(mut edit) = keys.edit::<Stream>(key)? else { return Ok(()) };
    edit.log.audience = Audience::Nobody;
    let log = &mut edit.log;
    let Some(mut open) = edit.value.open_group(group) else { return Ok(()) };
    let (consumer, is_new) = open.see_consumer(consumer, now, log);
    match above {
        Some(above) => answer.stream(reply, key, |reply| {
            open.deliver_again(consumer, above, request.count, now, log, |found| match found {
                Ok(entry) => show(reply, entry),
                Err(id) => {
                    reply.array(2);
                    reply.bulk(&id.text());
                    reply.null_array();
                }
            })
        }),
        None if open.sequence().has_new_for(open.group) => answer.stream(reply, key, |reply| {
            open.deliver_new(consumer, request.count, request.no_ack, now, log, |entry| show(reply, entry))
        }),
        None => {}
    }
    drop(edit);
    if is_new {
        keys.notify(Class::Stream, "xgroup-createconsumer", key);
    }
    Ok(())
}
