//! Streams of peers: the last chunks are kept, numbered, so that a late reader catches up and sees what it missed.
//!
//! A chunk is the entry `0-seq` of a stream. The entry `1-0` says that the stream has ended: nothing can be added below it,
//! so whoever pushes again finds out and begins anew, with number 1.

use crate::commands::Outcome;
use crate::commands::args::{Rest, natural};
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::error::{self, Error};
use crate::peers::directory::Id;
use crate::peers::kept::{self, Bound};
use crate::peers::room::Room;
use crate::peers::wire::{self, Event};
use crate::peers::{log, names, presence};
use crate::resp::{Args, Reply};

/// Chunks a stream keeps.
const CHUNKS: usize = 1000;
/// How long it lasts after the last chunk.
const LASTS_MS: i64 = 10 * 60 * 1000;
/// How long it lasts once it has ended or its peer is gone: readers may be about to ask for the rest.
const ENDED_LASTS_MS: i64 = 60 * 1000;
/// Chunks pushed under one set of locks, so that a push of very many does not hold others up.
const CHUNKS_PER_LOCK: usize = 64;

/// A stream's place.
struct Stream<'a> {
    workspace: &'a str,
    key: &'a str,
    /// Its chunks.
    chunks: String,
    /// The keys of all streams of this peer in this workspace, to be found when it leaves.
    siblings: String,
}

impl<'a> Stream<'a> {
    fn new(workspace: &'a str, peer: &str, key: &'a str) -> Stream<'a> {
        let (chunks, siblings) = (names::stream(workspace, peer, key), names::peer_streams(workspace, peer));
        Stream { workspace, key, chunks, siblings }
    }

    fn together<R>(&self, session: &mut Session, run: impl FnOnce(&mut Together<'_>) -> R) -> R {
        let [log] = log::keys(self.workspace);
        session.together(&[self.chunks.as_bytes(), self.siblings.as_bytes(), log.as_bytes()], run)
    }

    /// Keeps a chunk; answers its number.
    fn add(&self, together: &mut Together<'_>, chunk: &[u8]) -> Result<u64, Error> {
        let seq = seq(&kept::add_anew(together, &self.chunks, "0-*", Bound::Exactly(CHUNKS), &[("chunk", chunk)])?);
        if seq == 1 {
            kept::own::<i64>(together, &[b"SADD", self.siblings.as_bytes(), self.key.as_bytes()])?;
        }
        kept::lease(together, &self.chunks, LASTS_MS)?;
        kept::lease(together, &self.siblings, LASTS_MS)?;
        Ok(seq)
    }

    /// Ends it, as broken where there is an error; answers the number of its last chunk, and whether it had not ended already.
    fn end(&self, together: &mut Together<'_>, error: Option<&str>) -> Result<(u64, bool), Error> {
        let last = self.last(together)?;
        let how = error.map_or(("end", &b""[..]), |error| (BROKEN, error.as_bytes()));
        let is_ended = match kept::add(together, &self.chunks, END, Bound::Exactly(CHUNKS + 1), &[how]) {
            Ok(_) => true,
            Err(error) if error == error::XADD_SMALL => false,
            Err(error) => return Err(error),
        };
        if is_ended {
            // It had ten minutes, or none if it is empty.
            together.run::<i64>(&[b"PEXPIRE", self.chunks.as_bytes(), ENDED_LASTS_MS.to_string().as_bytes()])?;
        }
        Ok((last, is_ended))
    }

    fn last(&self, together: &mut Together<'_>) -> Result<u64, Error> {
        let entries: Vec<Entry> = kept::own(together, &[b"XREVRANGE", self.chunks.as_bytes(), LAST_CHUNK, b"-", b"COUNT", b"1"])?;
        Ok(entries.first().map_or(0, |(id, _)| seq(id)))
    }
}

/// What is noted instead of its end where a stream broke off.
const BROKEN: &str = "error";
/// Bytes that are kept of why it did.
const ERROR_BYTES_MAX: usize = 4096;
/// The entry that says that a stream has ended.
const END: &str = "1-0";
/// The highest id a chunk can have.
const LAST_CHUNK: &[u8] = b"0-18446744073709551615";

/// An entry's id, then names and values.
type Entry = (String, Vec<Vec<u8>>);

fn seq(id: &str) -> u64 {
    id.split_once('-').and_then(|(_, seq)| seq.parse().ok()).unwrap_or(0)
}

/// `FLUX.STREAM.PUSH ws key chunk [chunk …]`
pub(crate) fn push(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (workspace, key) = (names::workspace(args.at(1))?, names::key(args.at(2))?);
    let (peer, name) = presence::author(room, session)?;
    let chunks: Vec<&[u8]> = args.from(3).iter().map(|chunk| room.settings.sized("chunk", chunk)).collect::<Result<_, _>>()?;
    let stream = Stream::new(workspace, &peer, key);
    let mut last = 0;
    for chunks in chunks.chunks(CHUNKS_PER_LOCK) {
        last = stream.together(session, |together| {
            let mut last = 0;
            for chunk in chunks {
                last = stream.add(together, chunk)?;
                let text = String::from_utf8_lossy(chunk);
                let event = Event::new("stream:data", workspace, &peer, &name);
                let event = Event { key: Some(key.to_owned()), data: Some(wire::quoted(&text)), seq: Some(last), ..event };
                log::publish(room, together, &event);
            }
            Ok::<_, Error>(last)
        })?;
    }
    reply.int(last as i64);
    Ok(())
}

/// `FLUX.STREAM.END ws key [ERROR message]`
pub(crate) fn end(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (workspace, key) = (names::workspace(args.at(1))?, names::key(args.at(2))?);
    let mut rest = Rest::of(args, 3);
    let error = rest.value("error").map(|error| String::from_utf8_lossy(error).into_owned());
    rest.end()?;
    let error = error.map(|error| error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_owned());
    let (peer, name) = presence::author(room, session)?;
    let stream = Stream::new(workspace, &peer, key);
    let last = stream.together(session, |together| {
        let (last, is_ended) = stream.end(together, error.as_deref())?;
        if is_ended {
            let event = Event::new("stream:end", workspace, &peer, &name);
            log::publish(room, together, &Event { key: Some(key.to_owned()), seq: Some(last), error, ..event });
        }
        Ok::<_, Error>(last)
    })?;
    reply.int(last as i64);
    Ok(())
}

/// `FLUX.STREAM.READ ws peer-id key [FROM seq] [COUNT n]`
pub(crate) fn read(_: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspace = names::workspace(args.at(1))?;
    let (peer, key) = (names::id("peer id", args.at(2))?, names::key(args.at(3))?);
    let (mut from, mut count, mut rest) = (1, CHUNKS as u64, Rest::of(args, 4));
    loop {
        if let Some(seq) = rest.value("FROM") {
            from = natural(seq)?;
        } else if let Some(chunks) = rest.value("COUNT") {
            count = natural(chunks)?;
        } else {
            break rest.end_named()?;
        }
    }
    let stream = Stream::new(workspace, peer, key);
    let (from, count) = (format!("0-{from}"), count.to_string());
    let name = stream.chunks.as_bytes();
    let (first, last, end, chunks) = session.together(&[name], |together| {
        let first: Vec<Entry> = kept::own(together, &[b"XRANGE", name, b"-", LAST_CHUNK, b"COUNT", b"1"])?;
        let end = together.run::<Vec<Entry>>(&[b"XRANGE", name, END.as_bytes(), b"+"])?.pop();
        let chunks: Vec<Entry> = together
            .run::<Option<_>>(&[b"XRANGE", name, from.as_bytes(), LAST_CHUNK, b"COUNT", count.as_bytes()])?
            .unwrap_or_default();
        let last = stream.last(together)?;
        Ok::<_, Error>((first.first().map_or(0, |(id, _)| seq(id)), last, end, chunks))
    })?;
    let error = end.as_ref().and_then(|(_, fields)| match &fields[..] {
        [name, error] if name == BROKEN.as_bytes() => Some(error),
        _ => None,
    });
    reply.map(4 + usize::from(error.is_some()));
    reply.bulk(b"first");
    reply.int(first as i64);
    reply.bulk(b"last");
    reply.int(last as i64);
    reply.bulk(b"ended");
    reply.boolean(end.is_some());
    if let Some(error) = error {
        reply.bulk(b"error");
        reply.bulk(error);
    }
    reply.bulk(b"chunks");
    reply.array(chunks.len());
    for (id, fields) in &chunks {
        reply.array(2);
        reply.int(seq(id) as i64);
        reply.bulk(fields.last().map_or(b"", Vec::as_slice));
    }
    Ok(())
}

/// Keeps a chunk, or notes the end, of an old peer's stream. On the room's thread. Events that name a new peer are not its own
/// word, since that pushes by command, and are not believed.
pub(crate) fn record(room: &Room, session: &mut Session, event: &Event) {
    let names = (names::id("peer id", event.peer_id.as_bytes()), event.key.as_deref().map(str::as_bytes).map(names::key));
    let (Ok(peer), Some(Ok(key))) = names else { return };
    let is_new = room.state.lock().directory.get(peer).is_some_and(|peer| !peer.is_old());
    if is_new || names::workspace(event.workspace.as_bytes()).is_err() {
        return;
    }
    let stream = Stream::new(&event.workspace, peer, key);
    let kept = match &*event.kind {
        "stream:data" => {
            let json = event.data.as_deref().map_or("null", |data| data.get());
            let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
            if room.settings.sized("chunk", text.as_bytes()).is_err() {
                return;
            }
            stream.together(session, |together| stream.add(together, text.as_bytes()).map(|_| ()))
        }
        "stream:end" => stream.together(session, |together| stream.end(together, event.error.as_deref()).map(|_| ())),
        _ => return,
    };
    if let Err(error) = kept {
        tracing::warn!("peers: a chunk is missing in {}: {error}", stream.chunks);
    }
}

/// A peer left a workspace, or altogether. On the room's thread, or on that of the session that left.
pub(crate) fn left(_: &Room, session: &mut Session, workspace: &str, peer: &str) {
    let siblings = names::peer_streams(workspace, peer);
    let take = |together: &mut Together<'_>| {
        let keys: Vec<Id> =
            kept::own::<Vec<String>>(together, &[b"SMEMBERS", siblings.as_bytes()])?.into_iter().map(Id::from).collect();
        together.run::<i64>(&[b"DEL", siblings.as_bytes()])?;
        Ok::<_, Error>(keys)
    };
    let keys = session.together(&[siblings.as_bytes()], take).unwrap_or_default();
    for key in keys {
        let chunks = names::stream(workspace, peer, &key);
        let shortened = session.together(&[chunks.as_bytes()], |together| kept::shorten(together, &chunks, ENDED_LASTS_MS));
        if let Err(error) = shortened {
            tracing::warn!("peers: {chunks} stays longer than it need: {error}");
        }
    }
}
