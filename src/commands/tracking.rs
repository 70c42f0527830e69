//! How a client is told of changes to keys it read. What that means is in `engine::tracking`; its commands are in `commands::caching`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::tracking::Tracker;

/// How a client is told of changes.
pub(crate) struct Tracks {
    pub(super) tracker: Arc<Tracker>,
    pub(super) choice: Choice,
    /// `CLIENT CACHING` was said, which counts for the next command.
    pub(super) is_chosen: bool,
}

/// Which reads count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    /// Those after `CLIENT CACHING YES` (`OPTIN`).
    Named,
    /// All but those after `CLIENT CACHING NO` (`OPTOUT`).
    Unnamed,
}

impl Tracks {
    pub(super) fn remembers(&self) -> bool {
        !self.tracker.is_broadcast
            && match self.choice {
                Choice::All => true,
                Choice::Named => self.is_chosen,
                Choice::Unnamed => !self.is_chosen,
            }
    }

    /// The letters `CLIENT LIST` shows for it, and the number of whoever is told instead.
    pub(crate) fn shown(tracker: &Tracker) -> (String, i64) {
        let mut letters = String::from("t");
        if tracker.is_broken.load(Relaxed) {
            letters.push('R');
        }
        if tracker.is_broadcast {
            letters.push('B');
        }
        (letters, tracker.redirect.as_ref().map_or(0, |(id, _)| *id as i64))
    }
}
