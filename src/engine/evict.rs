//! Which keys go first when memory is short: access times, access counts and the eight policies of `maxmemory-policy`.

use crate::engine::Engine;
use crate::engine::error::Error;

/// Removes keys until memory is under `maxmemory`; an error if the policy allows no more.
#[inline]
pub fn make_room(_engine: &Engine) -> Result<(), Error> {
    Ok(())
}

/// Notes a use of a key at `now` (milliseconds since the epoch).
#[inline]
pub(crate) fn touch(_engine: &Engine, now: u64, access: &mut u32) {
    let clock = (now / 1000) as u32;
    if *access != clock {
        *access = clock;
    }
}

/// What a key that is made now starts with.
#[inline]
pub(crate) fn fresh(_engine: &Engine, now: u64) -> u32 {
    (now / 1000) as u32
}

/// How many seconds a key was not used, from its entry's access; None while the policy keeps frequencies.
pub fn idle_seconds(_engine: &Engine, now: u64, access: u32) -> Option<u32> {
    Some(((now / 1000) as u32).saturating_sub(access))
}

/// How often a key was used of late, from its entry's access, on a logarithmic scale; None unless the policy keeps frequencies.
pub fn frequency(_engine: &Engine, _now: u64, _access: u32) -> Option<u8> {
    None
}
