//! Calls from the moment they are made to their one outcome: a state machine without I/O. Events go in as methods, what is to
//! be done about them comes out as [`Action`]s, and the time is an argument.
//!
//!   Queued --taken--> Running --answered--> Ended (kept for callers that come back for it)
//!     ^                  |
//!     +-- its peer died, lost the connection it was given over, or its handler failed and may try again
//!
//! - `terms`: what is asked, answered, and to be done. `hall`: where calls are kept.
//! - `making`, `giving`, `moving`, `ending`: what the names say. Each is a part of what [`Calls`] can do.

mod claims;
mod ending;
mod giving;
mod hall;
mod making;
mod moving;
mod returning;
mod terms;
#[cfg(test)]
mod tests;

pub use hall::Calls;
pub(crate) use making::nobody_alive;
pub(crate) use terms::{Action, Again, Answer, Caller, Fetched, Job, Load, Refused, Tally, Why};
pub use terms::{Failure, Ongoing, Order, Outcome, Part, Parts, PartsTaken, Route, TIMEOUT_MS, TIMEOUT_MS_MAX, ends, parts};
