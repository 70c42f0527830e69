//! Sessions for those who come over HTTP.

use super::Caller;
use crate::connection::Origin;

/// As `CLIENT LIST` and protected mode see a caller.
pub fn origin(caller: Caller) -> Origin {
    Origin {
        address: caller.address.to_string(),
        local_address: caller.local_address.to_string(),
        state: 0,
        is_near: caller.address.ip().is_loopback(),
    }
}
