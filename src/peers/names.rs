//! Names that peers use, what may be in them, and the keys and channels made of them.

use crate::engine::error::Error;
use crate::engine::notify::Prefixes;

/// Characters of a peer's id and of a call's.
const ID_CHARS_MAX: usize = 64;
/// Characters of a peer's name.
const NAME_CHARS_MAX: usize = 128;
/// Bytes of the name of a workspace, a capability, or of a key in a workspace.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// What the name of a workspace or a capability must not hold: it would mean something in a key, or in a pattern of keys.
pub(crate) const NOT_IN_A_PART: &str = ":*?[]";

/// What the names of all keys and channels of peers begin with.
pub(crate) const PREFIXES: Prefixes = &[
    b"flux:peer",
    b"flux:capabilities",
    b"flux:contexts",
    b"flux:fn:",
    b"flux:ws:",
    b"flux:q:",
    b"flux:notify:",
    b"flux:res:",
    b"flux:cancel:",
];

/// The set of all peers' ids.
pub(crate) const PEERS: &str = "flux:peers";
/// The channel that tells that what peers can be called for has changed; the message is the id of the peer.
pub(crate) const CAPABILITIES: &str = "flux:capabilities";
/// The set of the workspaces that have a context.
pub(crate) const CONTEXTS: &str = "flux:contexts";
/// What keys of capabilities begin with.
pub(crate) const FUNCTION: &str = "flux:fn:";

/// A peer's JSON.
pub(crate) fn peer(id: &str) -> String {
    format!("flux:peer:{id}")
}

/// The hash of a peer's secret.
pub(crate) fn auth(id: &str) -> String {
    format!("flux:peer:{id}:auth")
}

/// The workspaces a peer is in.
pub(crate) fn peer_workspaces(id: &str) -> String {
    format!("flux:peer:{id}:ws")
}

/// The ids of the peers with a capability.
pub(crate) fn function(capability: &str) -> String {
    format!("{FUNCTION}{capability}")
}

/// The ids of the peers in a workspace.
pub(crate) fn workspace_peers(workspace: &str) -> String {
    format!("flux:ws:{workspace}:peers")
}

/// A workspace's events (a channel).
pub(crate) fn events(workspace: &str) -> String {
    format!("flux:ws:{workspace}:events")
}

/// The last events of a workspace (a stream).
pub(crate) fn log(workspace: &str) -> String {
    format!("flux:ws:{workspace}:log")
}

/// A value of a workspace's context.
pub(crate) fn context(workspace: &str, key: &str) -> String {
    format!("flux:ws:{workspace}:ctx:{key}")
}

/// The keys of a workspace's context, with their versions.
pub(crate) fn context_index(workspace: &str) -> String {
    format!("flux:ws:{workspace}:ctx")
}

/// The last versions of a value (a stream).
pub(crate) fn history(workspace: &str, key: &str) -> String {
    format!("flux:ws:{workspace}:history:{key}")
}

/// The last chunks of a peer's stream.
pub(crate) fn stream(workspace: &str, peer: &str, key: &str) -> String {
    format!("flux:ws:{workspace}:stream:{peer}:{key}")
}

/// The keys of a peer's streams in a workspace (a set).
pub(crate) fn peer_streams(workspace: &str, peer: &str) -> String {
    format!("flux:ws:{workspace}:streams:{peer}")
}

/// An old peer's queue of jobs.
pub(crate) fn queue(id: &str) -> String {
    format!("flux:q:{id}")
}

/// Wakes an old peer (a channel).
pub(crate) fn notify(id: &str) -> String {
    format!("flux:notify:{id}")
}

/// A peer's results (a channel).
pub(crate) fn results(id: &str) -> String {
    format!("flux:res:{id}")
}

/// Calls that a peer need not answer any more (a channel).
pub(crate) fn cancelled(id: &str) -> String {
    format!("flux:cancel:{id}")
}

/// What a key or a channel under `flux:` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A peer's JSON.
    Peer(&'a str),
    /// The workspaces a peer is in.
    PeerWorkspaces(&'a str),
    /// A peer's queue of jobs.
    Queue(&'a str),
    /// A value of a workspace's context.
    Context { workspace: &'a str, key: &'a str },
    /// The channel of a peer's results.
    Results(&'a str),
    /// The channel of a workspace's events.
    Events(&'a str),
    /// Something else.
    Other,
}

/// Reads a key or a channel.
pub(crate) fn place(name: &[u8]) -> Place<'_> {
    let Some(name) = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix("flux:")) else { return Place::Other };
    if let Some(id) = name.strip_prefix("peer:") {
        return match id.split_once(':') {
            None => Place::Peer(id),
            Some((id, "ws")) => Place::PeerWorkspaces(id),
            Some(_) => Place::Other,
        };
    }
    if let Some(id) = name.strip_prefix("q:") {
        return Place::Queue(id);
    }
    if let Some(id) = name.strip_prefix("res:") {
        return Place::Results(id);
    }
    let Some(rest) = name.strip_prefix("ws:") else { return Place::Other };
    if let Some((workspace, key)) = rest.split_once(":ctx:") {
        return Place::Context { workspace, key };
    }
    rest.strip_suffix(":events").map_or(Place::Other, Place::Events)
}

/// A peer's id, or a call's.
pub(crate) fn id<'a>(what: &str, text: &'a [u8]) -> Result<&'a str, Error> {
    let is_fine = |letter: &u8| letter.is_ascii_alphanumeric() || b"_.-".contains(letter);
    match std::str::from_utf8(text) {
        Ok(id) if (1..=ID_CHARS_MAX).contains(&id.len()) && text.iter().all(is_fine) => Ok(id),
        _ => Err(invalid(what, &format!("it must be 1 to {ID_CHARS_MAX} letters, digits or `_`, `.`, `-`"))),
    }
}

/// A peer's name.
pub(crate) fn name(text: &str) -> Result<&str, Error> {
    let count = text.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&count) || text.chars().any(char::is_control) {
        return Err(invalid(
            "peer name",
            &format!("it must be 1 to {NAME_CHARS_MAX} characters, none of them a control character"),
        ));
    }
    Ok(text)
}

/// The name of a workspace.
pub(crate) fn workspace(text: &[u8]) -> Result<&str, Error> {
    part("workspace name", text)
}

/// The name of a capability.
pub(crate) fn capability(text: &[u8]) -> Result<&str, Error> {
    part("capability name", text)
}

/// A key of a context or a stream, which stands last in a key of the keyspace and so may hold anything printable.
pub(crate) fn key(text: &[u8]) -> Result<&str, Error> {
    words("key", text)
}

/// A name that stands within a key.
fn part<'a>(what: &str, text: &'a [u8]) -> Result<&'a str, Error> {
    let text = words(what, text)?;
    match text.chars().find(|letter| NOT_IN_A_PART.contains(*letter)) {
        Some(letter) => Err(invalid(what, &format!("it must not hold `{letter}`"))),
        None => Ok(text),
    }
}

fn words<'a>(what: &str, text: &'a [u8]) -> Result<&'a str, Error> {
    let Ok(words) = std::str::from_utf8(text) else { return Err(invalid(what, "it is not UTF-8")) };
    if words.is_empty() {
        return Err(invalid(what, "it is empty"));
    }
    if words.len() > KEY_BYTES_MAX {
        return Err(invalid(what, &format!("it is {} bytes long, the limit is {KEY_BYTES_MAX}", words.len())));
    }
    if words.chars().any(char::is_control) {
        return Err(invalid(what, "it holds a control character"));
    }
    Ok(words)
}

fn invalid(what: &str, why: &str) -> Error {
    Error::new(format!("ERR invalid {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_keys_are_refused_with_the_reason() {
        for (bad, why) in [
            (&b""[..], "it is empty"),
            (b"a:b", "it must not hold `:`"),
            (b"a*", "it must not hold `*`"),
            (b"a\nb", "it holds a control character"),
            (b"\xff", "it is not UTF-8"),
        ] {
            assert_eq!(workspace(bad).unwrap_err().0, format!("ERR invalid workspace name: {why}"));
        }
        assert!(workspace(&[b'a'; 257]).is_err());
        assert!(id("peer id", b"a/b").is_err() && id("peer id", &[b'a'; 65]).is_err());
        assert_eq!(key(b"docs:1*").unwrap(), "docs:1*");
    }

    #[test]
    fn places_are_read_back_from_the_keys_made_of_them() {
        assert_eq!(place(peer("p").as_bytes()), Place::Peer("p"));
        assert_eq!(place(peer_workspaces("p").as_bytes()), Place::PeerWorkspaces("p"));
        assert_eq!(place(auth("p").as_bytes()), Place::Other);
        assert_eq!(place(queue("p").as_bytes()), Place::Queue("p"));
        assert_eq!(place(results("p").as_bytes()), Place::Results("p"));
        assert_eq!(place(events("w").as_bytes()), Place::Events("w"));
        assert_eq!(place(context("w", "a:b").as_bytes()), Place::Context { workspace: "w", key: "a:b" });
        assert_eq!(place(context_index("w").as_bytes()), Place::Other);
        assert_eq!(place(b"flux:fn:x"), Place::Other);
    }
}
