//! The shared context of workspaces: versions, history, compare-and-set.
//!
//! A value is a plain string key, so that old peers read and write it with GET, SET and DEL. Beside it stand an index of the
//! workspace's keys with their versions, and a stream of a value's last versions. The index also holds a digest of each
//! value: where it does not tell the value that is there, someone changed it by other means, and it gets a new version before
//! anything else happens to it. So compare-and-set is exact against plain SETs, too. Value, index and history change together.

use crate::clock;
use crate::commands::Outcome;
use crate::commands::args::{Rest, natural};
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::error::{self, Error};
use crate::engine::notify::Look;
use crate::engine::types::hash::Hash;
use crate::engine::types::packed::Item;
use crate::engine::types::set::Set;
use crate::engine::value::Type;
use crate::peers::directory::Id;
use crate::peers::kept::{self, Bound};
use crate::peers::room::{Room, Todo};
use crate::peers::wire::{self, Event};
use crate::peers::{log, names, presence};
use crate::resp::{Args, Reply};

/// Versions of a value that are kept.
const VERSIONS: usize = 100;
/// Hexadecimal digits of a value's digest in the index: 128 bits, so that nobody finds two values with the same.
const DIGEST_DIGITS: usize = 32;
/// Values that are told to be gone at once, when all keys were removed: deadlines of calls wait so long.
const FLUSHED_AT_ONCE: usize = 1000;
/// Keys whose values are looked for at once when keys are listed.
const KEYS_PER_LOCK: usize = 256;

/// A value's place.
struct Place<'a> {
    workspace: &'a str,
    key: &'a str,
    value: String,
    index: String,
    history: String,
}

/// What is there, once it was looked at.
struct Found {
    value: Vec<u8>,
    version: u64,
}

/// What the index says of a value.
struct Indexed {
    version: u64,
    digest: String,
}

impl<'a> Place<'a> {
    fn new(workspace: &'a str, key: &'a str) -> Place<'a> {
        let (value, index) = (names::context(workspace, key), names::context_index(workspace));
        Place { workspace, key, value, index, history: names::history(workspace, key) }
    }

    /// From a command's first arguments.
    fn of(args: Args<'a>) -> Result<Place<'a>, Error> {
        Ok(Place::new(names::workspace(args.at(1))?, names::key(args.at(2))?))
    }

    /// Runs under the locks of all that belongs to the value.
    fn together<R>(&self, session: &mut Session, run: impl FnOnce(&mut Together<'_>) -> R) -> R {
        let [log] = log::keys(self.workspace);
        let keys = [&self.value, &self.index, &self.history, names::CONTEXTS, &log].map(|key: &str| key.as_bytes());
        session.together(&keys, run)
    }

    fn indexed(&self, together: &mut Together<'_>) -> Result<Option<Indexed>, Error> {
        let text: Option<String> = kept::own(together, &[b"HGET", self.index.as_bytes(), self.key.as_bytes()])?;
        Ok(text.as_deref().and_then(Indexed::read))
    }

    /// The value and its version. Brings index and history up to date with what someone did by other means; tells of a value
    /// that is gone.
    fn find(&self, room: &Room, together: &mut Together<'_>) -> Result<Option<Found>, Error> {
        let value = together.run::<Option<Vec<u8>>>(&[b"GET", self.value.as_bytes()]);
        let indexed = self.indexed(together)?;
        let Ok(Some(value)) = value else {
            if indexed.is_some() {
                self.forget(together)?;
                self.tell_deleted(room, together, &Author::default());
            }
            // What is no string is no value.
            return value.map(|_| None);
        };
        let digest = digest(&value);
        if let Some(indexed) = indexed.as_ref().filter(|indexed| indexed.digest == digest) {
            return Ok(Some(Found { version: indexed.version, value }));
        }
        let version = next_version(indexed.map_or(0, |indexed| indexed.version));
        self.note(together, version, &digest, &value, "")?;
        Ok(Some(Found { value, version }))
    }

    /// Notes a version in index and history.
    fn note(&self, together: &mut Together<'_>, version: u64, digest: &str, value: &[u8], author: &str) -> Result<(), Error> {
        let entry = format!("{version} {digest}");
        kept::own::<i64>(together, &[b"HSET", self.index.as_bytes(), self.key.as_bytes(), entry.as_bytes()])?;
        kept::own::<i64>(together, &[b"SADD", names::CONTEXTS.as_bytes(), self.workspace.as_bytes()])?;
        let (id, fields) = (format!("{version}-0"), [("value", value), ("peer", author.as_bytes())]);
        kept::add_anew(together, &self.history, &id, Bound::Exactly(VERSIONS), &fields).map(|_| ())
    }

    /// Removes what belongs to a value that is gone.
    fn forget(&self, together: &mut Together<'_>) -> Result<(), Error> {
        kept::own::<i64>(together, &[b"HDEL", self.index.as_bytes(), self.key.as_bytes()])?;
        together.run::<i64>(&[b"DEL", self.history.as_bytes()])?;
        if !together.run::<bool>(&[b"EXISTS", self.index.as_bytes()])? {
            kept::own::<i64>(together, &[b"SREM", names::CONTEXTS.as_bytes(), self.workspace.as_bytes()])?;
        }
        Ok(())
    }

    fn event(&self, author: &Author) -> Event {
        Event { key: Some(self.key.to_owned()), ..Event::new("ctx:updated", self.workspace, &author.id, &author.name) }
    }

    fn tell_deleted(&self, room: &Room, together: &mut Together<'_>, author: &Author) {
        log::publish(room, together, &Event { deleted: Some(true), ..self.event(author) });
    }
}

impl Indexed {
    /// `version digest`
    fn read(text: &str) -> Option<Indexed> {
        let (version, digest) = text.split_once(' ')?;
        Some(Indexed { version: version.parse().ok()?, digest: digest.to_owned() })
    }
}

/// Who changes a value: a peer, or nobody in particular.
struct Author {
    id: Id,
    name: Id,
}

impl Default for Author {
    fn default() -> Author {
        Author { id: "".into(), name: "".into() }
    }
}

impl Author {
    /// The peer a session is attached to, if it is.
    fn of(room: &Room, session: &mut Session) -> Author {
        presence::author(room, session).map_or_else(|_| Author::default(), |(id, name)| Author { id, name })
    }
}

fn digest(value: &[u8]) -> String {
    let mut digits = blake3::hash(value).to_hex().to_string();
    digits.truncate(DIGEST_DIGITS);
    digits
}

/// Versions are microseconds since the epoch, and higher than the last. So they also grow from a value that was deleted to the
/// one that is set after it, and no version stands for two values.
fn next_version(last: u64) -> u64 {
    (clock::now_ns() / 1000).max(last.saturating_add(1))
}

fn conflict(version: u64) -> Error {
    Error::new(format!("CONFLICT version is {version}"))
}

/// `FLUX.CTX.SET ws key value [IFVERSION v] [TTL ms]`
pub(crate) fn set(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::of(args)?;
    let value = room.settings.sized("value", args.at(3))?;
    let (mut wanted, mut ttl, mut rest) = (None, None, Rest::of(args, 4));
    loop {
        if let Some(version) = rest.value("IFVERSION") {
            wanted = Some(natural(version)?);
        } else if let Some(ms) = rest.value("TTL") {
            ttl = Some(natural(ms)?).filter(|ms| *ms > 0);
        } else {
            break rest.end_named()?;
        }
    }
    let author = Author::of(room, session);
    let version = place.together(session, |together| {
        // Whatever else is there makes way for the value.
        let found = match place.find(room, together) {
            Err(error) if error == error::WRONG_TYPE => None,
            found => found?,
        };
        let last = found.as_ref().map_or(0, |found| found.version);
        if wanted.is_some_and(|wanted| wanted != last) {
            return Err(conflict(last));
        }
        let version = next_version(last);
        let ttl = ttl.map(|ms| ms.to_string());
        let mut set: Vec<&[u8]> = vec![b"SET", place.value.as_bytes(), value];
        set.extend(ttl.iter().flat_map(|ms| [b"PX", ms.as_bytes()]));
        together.run::<()>(&set)?;
        place.note(together, version, &digest(value), value, &author.id)?;
        let event = Event { data: Some(wire::value(value)), version: Some(version), ..place.event(&author) };
        log::publish(room, together, &event);
        Ok(version)
    })?;
    reply.int(version as i64);
    Ok(())
}

/// `FLUX.CTX.GET ws key [WITHVERSION]`
pub(crate) fn get(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::of(args)?;
    if !has_word(args, 3, "WITHVERSION")? {
        let value: Option<Vec<u8>> = session.run_in_zero(&[b"GET", place.value.as_bytes()])?;
        match value {
            Some(value) => reply.bulk(&value),
            None => reply.null(),
        }
        return Ok(());
    }
    match place.together(session, |together| place.find(room, together))? {
        Some(found) => {
            reply.array(2);
            reply.bulk(&found.value);
            reply.int(found.version as i64);
        }
        None => reply.null_array(),
    }
    Ok(())
}

/// `FLUX.CTX.DEL ws key [IFVERSION v]`
pub(crate) fn del(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::of(args)?;
    let mut rest = Rest::of(args, 3);
    let wanted = rest.value("IFVERSION").map(natural).transpose()?;
    rest.end()?;
    let author = Author::of(room, session);
    let is_deleted = place.together(session, |together| {
        let found = place.find(room, together)?;
        let last = found.as_ref().map_or(0, |found| found.version);
        if wanted.is_some_and(|wanted| wanted != last) {
            return Err(conflict(last));
        }
        if found.is_some() {
            together.run::<i64>(&[b"DEL", place.value.as_bytes()])?;
            place.forget(together)?;
            place.tell_deleted(room, together, &author);
        }
        Ok(found.is_some())
    })?;
    reply.int(is_deleted.into());
    Ok(())
}

/// `FLUX.CTX.KEYS ws [WITHVERSIONS]`
pub(crate) fn keys(_: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspace = names::workspace(args.at(1))?;
    let with_versions = has_word(args, 2, "WITHVERSIONS")?;
    let listed = list(session, workspace)?;
    reply.array(listed.len());
    for (key, version) in listed {
        if with_versions {
            reply.array(2);
        }
        reply.bulk(key.as_bytes());
        if with_versions {
            reply.int(version as i64);
        }
    }
    Ok(())
}

/// The keys of a workspace's context with their versions, in the order of their names, from the index. Values that are gone but not
/// taken out of it yet are left out.
pub(crate) fn list(session: &mut Session, workspace: &str) -> Result<Vec<(String, u64)>, Error> {
    let index = names::context_index(workspace);
    let entries: Vec<(String, String)> =
        session.together(&[index.as_bytes()], |together| kept::own(together, &[b"HGETALL", index.as_bytes()]))?;
    let read = |(key, text): (String, String)| Some((key, Indexed::read(&text)?.version));
    let mut entries: Vec<(String, u64)> = entries.into_iter().filter_map(read).collect();
    entries.sort_unstable();
    let mut listed = Vec::with_capacity(entries.len());
    for entries in entries.chunks(KEYS_PER_LOCK) {
        let names: Vec<String> = entries.iter().map(|(key, _)| names::context(workspace, key)).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        session.together(&names, |together| {
            for (entry, name) in entries.iter().zip(&names) {
                if together.run::<bool>(&[b"EXISTS", name])? {
                    listed.push(entry.clone());
                }
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(listed)
}

/// `FLUX.CTX.HISTORY ws key [COUNT n]`
pub(crate) fn history(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let place = Place::of(args)?;
    let mut rest = Rest::of(args, 3);
    let count = rest.value("COUNT").map_or(Ok(VERSIONS as u64), natural)?;
    rest.end()?;
    let count = count.to_string();
    let entries: Vec<(String, Vec<Vec<u8>>)> = place.together(session, |together| {
        place.find(room, together)?;
        let newest: [&[u8]; 6] = [b"XREVRANGE", place.history.as_bytes(), b"+", b"-", b"COUNT", count.as_bytes()];
        Ok::<_, Error>(kept::own::<Option<_>>(together, &newest)?.unwrap_or_default())
    })?;
    reply.array(entries.len());
    for (id, fields) in &entries {
        reply.array(3);
        reply.int(id.split_once('-').and_then(|(version, _)| version.parse().ok()).unwrap_or(0));
        reply.bulk(fields.get(1).map_or(b"", Vec::as_slice));
        reply.bulk(fields.get(3).map_or(b"", Vec::as_slice));
    }
    Ok(())
}

/// Someone changed a value other than by these commands (SET, DEL, RENAME, …), or its time was over. On the thread of whoever
/// did it, before they get their answer.
pub(crate) fn changed(room: &Room, session: &mut Session, workspace: &str, key: &str) {
    let place = Place::new(workspace, key);
    match place.together(session, |together| place.find(room, together)) {
        Ok(_) => {}
        Err(error) if error == error::WRONG_TYPE => {}
        Err(error) => tracing::warn!("peers: a change of {} goes unnoticed: {error}", place.value),
    }
}

/// A value's workspace and key.
pub(crate) type Name = (Id, String);

/// The names of all values, out of the indexes.
pub(crate) fn names(keys: &mut dyn Look) -> Vec<Name> {
    let text = |item: Item<'_>| String::from_utf8(item.to_vec()).ok();
    let workspaces = keys.inspect(names::CONTEXTS.as_bytes()).ok().flatten().and_then(Set::of);
    let workspaces: Vec<Id> = workspaces.into_iter().flat_map(Set::iter).filter_map(|name| Some(text(name)?.into())).collect();
    let now = keys.now();
    let mut names = Vec::new();
    for workspace in workspaces {
        let index = keys.inspect(names::context_index(&workspace).as_bytes()).ok().flatten().and_then(Hash::of);
        let found = index.into_iter().flat_map(|index| index.iter(now)).filter_map(|(key, _)| text(key));
        names.extend(found.map(|key| (Id::clone(&workspace), key)));
    }
    names
}

/// Tells that these values are gone, since all keys were removed, but for those that were set again meanwhile. On the room's thread.
pub(crate) fn flushed(room: &Room, session: &mut Session, mut names: Vec<Name>) {
    for (workspace, key) in names.split_off(names.len().saturating_sub(FLUSHED_AT_ONCE)) {
        let place = Place::new(&workspace, &key);
        place.together(session, |together| {
            if !together.run::<bool>(&[b"EXISTS", place.value.as_bytes()]).unwrap_or(false) {
                place.tell_deleted(room, together, &Author::default());
            }
        });
    }
    if !names.is_empty() {
        room.leave(Todo::Flushed(names));
    }
}

/// Finds out what was changed while nobody looked: values that expired while the server was down. Called once, at the start.
pub(crate) fn load(room: &Room, session: &mut Session) {
    let workspaces: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::CONTEXTS.as_bytes()]).unwrap_or_default();
    for workspace in workspaces {
        let index = names::context_index(&workspace);
        let keys: Vec<String> = session.run_in_zero(&[b"HKEYS", index.as_bytes()]).unwrap_or_default();
        keys.iter().for_each(|key| changed(room, session, &workspace, key));
    }
}

/// Whether this word stands at this place, where nothing else may.
fn has_word(args: Args<'_>, at: usize, word: &str) -> Result<bool, Error> {
    let mut rest = Rest::of(args, at);
    let has_word = rest.word(word);
    rest.end()?;
    Ok(has_word)
}
