//! The settings of peers: their rows, and what they are at the moment.

use std::sync::Arc;

use crate::config::setting::bytes;
use crate::config::{Config, Current, Section, Setting};
use crate::engine::error::Error;

/// How large what peers send each other may be.
pub(crate) const PAYLOAD_LIMIT: Setting = bytes("peer-payload-limit", "16mb", 1024, i64::MAX)
    .help("Largest payload or result of a call between peers, and largest chunk or context value.");

/// The rows.
pub(crate) const SETTINGS: &[Section] = &[Section { title: "Peers", settings: &[PAYLOAD_LIMIT] }];

/// Their values.
pub struct Settings {
    payload_limit: Current,
}

impl Settings {
    /// As they are in a config.
    pub(crate) fn of(config: &Arc<Config>) -> Settings {
        Settings { payload_limit: Current::of(config, &PAYLOAD_LIMIT) }
    }

    /// Refuses what is larger than `peer-payload-limit`.
    pub(crate) fn sized<'a>(&self, what: &str, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let limit = self.payload_limit.count();
        if bytes.len() as u64 <= limit {
            return Ok(bytes);
        }
        Err(Error::new(format!("TOOBIG {what} is {} bytes, the limit is {limit} ({})", bytes.len(), PAYLOAD_LIMIT.name)))
    }
}
