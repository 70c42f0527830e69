//! How members are shown and results stored, by all commands that do.

use crate::engine::keys::{Expiry, Write};
use crate::engine::notify::Class;
use crate::engine::types::zset::Zset;
use crate::resp::Reply;

/// Begins a list of so many members, which [`show`] then shows.
pub(crate) fn show_head(reply: &mut Reply, count: usize, with_scores: bool) {
    reply.array(if with_scores && !reply.is_resp3() { 2 * count } else { count });
}

/// Shows a member: with its score as a pair of its own in RESP3, as two elements in RESP2.
#[inline]
pub(crate) fn show(reply: &mut Reply, member: &[u8], score: f64, with_scores: bool) {
    if with_scores && reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(member);
    if with_scores {
        reply.double(score);
    }
}

/// Stores a result, or removes the key it was to be stored at if it is empty; answers with its length.
pub(crate) fn store(keys: &mut Write<'_>, key: &[u8], result: Zset, event: &'static str, reply: &mut Reply) {
    reply.count(result.len());
    if !result.is_empty() {
        keys.put(key, result, Expiry::Never);
        keys.notify(Class::Zset, event, key);
    } else if keys.remove(key) {
        keys.notify(Class::Generic, "del", key);
    }
}
