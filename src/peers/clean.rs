//! The broom: removes what peers left behind in the keyspace that nothing else has removed, such as what was restored from a
//! copy, or written by hand. Walks over all keys, some at a time.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::room::Room;
use crate::peers::{context, names};
use crate::resp::{Args, Reply};

/// Keys looked at under one set of locks.
const KEYS_PER_LOCK: &[u8] = b"1000";

/// `FLUX.CLEAN`
pub(crate) fn clean(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut removed = 0;
    for key in keys(session)? {
        // A key of another kind than it should be is not ours to judge.
        removed += sweep(room, session, &key).unwrap_or(0);
    }
    reply.count(removed);
    Ok(())
}

/// All keys of the room's.
fn keys(session: &mut Session) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let scan: [&[u8]; 6] = [b"SCAN", cursor.as_bytes(), b"MATCH", b"flux:*", b"COUNT", KEYS_PER_LOCK];
        let (next, found): (String, Vec<Vec<u8>>) = session.run_in_zero(&scan)?;
        keys.extend(found.into_iter().filter_map(|key| String::from_utf8(key).ok()));
        if next == "0" {
            return Ok(keys);
        }
        cursor = next;
    }
}

/// Removes what is stale in or at a key; tells how much.
fn sweep(room: &Room, session: &mut Session, key: &str) -> Result<usize, Error> {
    if let Some(id) = owner(key) {
        return remove_without(session, key, &names::peer(id));
    }
    if is_of_ids(key) {
        let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", key.as_bytes()])?;
        return ids.iter().map(|id| forget_without(session, key, id, &names::peer(id))).sum();
    }
    if key == names::CONTEXTS {
        let workspaces: Vec<String> = session.run_in_zero(&[b"SMEMBERS", key.as_bytes()])?;
        return workspaces.iter().map(|name| forget_without(session, key, name, &names::context_index(name))).sum();
    }
    let Some(rest) = key.strip_prefix("flux:ws:") else { return Ok(0) };
    if let Some((workspace, name)) = rest.split_once(":history:") {
        return remove_without(session, key, &names::context(workspace, name));
    }
    match rest.strip_suffix(":ctx") {
        Some(workspace) => sweep_context(room, session, workspace, key),
        None => Ok(0),
    }
}

/// Brings the index of a context up to date; tells how many keys went.
fn sweep_context(room: &Room, session: &mut Session, workspace: &str, index: &str) -> Result<usize, Error> {
    let names: Vec<String> = session.run_in_zero(&[b"HKEYS", index.as_bytes()])?;
    names.iter().for_each(|name| context::changed(room, session, workspace, name));
    let left: usize = session.run_in_zero(&[b"HLEN", index.as_bytes()])?;
    Ok(names.len().saturating_sub(left))
}

/// The peer a key belongs to alone.
fn owner(key: &str) -> Option<&str> {
    let of_peer = || key.strip_prefix("flux:peer:")?.rsplit_once(':').map(|(id, _)| id);
    key.strip_prefix("flux:q:").or_else(of_peer)
}

/// Whether a key is a set of peers' ids.
fn is_of_ids(key: &str) -> bool {
    let is_of_workspace =
        || key.strip_prefix("flux:ws:").and_then(|rest| rest.strip_suffix(":peers")).is_some_and(|name| !name.contains(':'));
    key == names::PEERS || key.starts_with(names::FUNCTION) || is_of_workspace()
}

/// Removes a key unless there is another one.
fn remove_without(session: &mut Session, key: &str, needed: &str) -> Result<usize, Error> {
    session.together(&[key.as_bytes(), needed.as_bytes()], |together| match together.run(&[b"EXISTS", needed.as_bytes()])? {
        true => Ok(0),
        false => together.run(&[b"DEL", key.as_bytes()]),
    })
}

/// Removes a member of a set unless there is a key.
fn forget_without(session: &mut Session, set: &str, member: &str, needed: &str) -> Result<usize, Error> {
    session.together(&[set.as_bytes(), needed.as_bytes()], |together| match together.run(&[b"EXISTS", needed.as_bytes()])? {
        true => Ok(0),
        false => together.run(&[b"SREM", set.as_bytes(), member.as_bytes()]),
    })
}
