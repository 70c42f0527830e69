//! How entries are shown, and the errors where a group is missing.

use crate::engine::error::Error;
use crate::engine::types::stream::entries::{Entry, Text};
use crate::resp::Reply;

/// Writes an entry: its id, then names and values.
pub(crate) fn show(reply: &mut Reply, entry: Entry<'_>) {
    reply.array(2);
    reply.bulk(&entry.id.text());
    reply.array(entry.fields * 2);
    for text in entry.texts() {
        match text {
            Text::Bytes(bytes) => reply.bulk(bytes),
            Text::Int(number) => reply.bulk_int(number),
        }
    }
}

/// The error where a key or its group is missing; `context` follows the two names.
pub(crate) fn no_group(key: &[u8], group: &[u8], context: &str) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::new(format!("NOGROUP No such key '{key}' or consumer group '{group}'{context}"))
}

/// The error where only the group is missing.
pub(crate) fn no_group_in_key(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::new(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}
