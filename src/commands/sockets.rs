//! How many connections may be open, whichever door they came through: `maxclients` in all, and never so many that the journal, the tables,
//! a backup or the log find no file descriptor left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::clock;
use crate::machine;
use crate::seldom::Seldom;

/// File descriptors that are kept for all but connections: listeners and runtimes (3 for each worker and for a few threads more), the
/// journal's and tables' files, a backup, and some for what a command opens for a moment.
const KEPT_MIN: u64 = 96;
/// What a worker has open of its own.
const KEPT_BY_WORKER: u64 = 4;
/// Connections beyond `maxclients` that may take the place of others which are told to go and not gone yet.
const TAKEN_OVER_MAX: usize = 16;

/// The connections that are open.
#[derive(Default)]
pub struct Sockets {
    open: Arc<AtomicUsize>,
    strangers: Arc<Mutex<Strangers>>,
}

/// Those that have still to give the password.
#[derive(Default)]
struct Strangers {
    last: u64,
    /// When each came, on the monotonic clock, and what has it go; oldest first.
    by_age: BTreeMap<u64, (u64, Box<dyn FnOnce() + Send>)>,
}

/// Someone who has still to give the password, until this is dropped.
pub struct Stranger {
    number: u64,
    strangers: Arc<Mutex<Strangers>>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // What it holds is dropped when the lock is free again.
        let _gone = self.strangers.lock().by_age.remove(&self.number);
    }
}

/// One of them, while it lives.
pub(crate) struct Permit {
    open: Arc<AtomicUsize>,
    /// Where the connection's door asks for the password itself.
    pub stranger: Mutex<Option<Stranger>>,
    /// Whether a wrong password was given over it, where its door asks itself.
    pub has_guessed: AtomicBool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

impl Sockets {
    /// Room for one more, where fewer than `max` are open.
    pub(crate) fn admit(&self, max: usize) -> Option<Permit> {
        let more = |open: usize| (open < max).then_some(open + 1);
        let is_admitted = self.open.fetch_update(Relaxed, Relaxed, more).is_ok();
        let open = || Arc::clone(&self.open);
        is_admitted.then(|| Permit { open: open(), stranger: Mutex::default(), has_guessed: AtomicBool::default() })
    }

    /// The same for one that takes the place of another which goes.
    pub(crate) fn admit_in_place(&self, max: usize) -> Option<Permit> {
        self.admit(max.saturating_add(TAKEN_OVER_MAX))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Someone has come, at this time of the monotonic clock, who has still to give the password, and may have to `go` for others.
    pub(crate) fn stranger(&self, now: u64, go: impl FnOnce() + Send + 'static) -> Stranger {
        let mut strangers = self.strangers.lock();
        strangers.last += 1;
        let number = strangers.last;
        strangers.by_age.insert(number, (now, Box::new(go)));
        Stranger { number, strangers: Arc::clone(&self.strangers) }
    }

    /// Has the oldest stranger go that came before this time; tells whether there was one.
    pub(crate) fn dismiss_stranger(&self, before: u64) -> bool {
        let oldest = {
            let mut strangers = self.strangers.lock();
            let is_due = strangers.by_age.first_key_value().is_some_and(|(_, (came, _))| *came < before);
            if is_due { strangers.by_age.pop_first() } else { None }
        };
        oldest.map(|(_, (_, go))| go()).is_some()
    }
}

/// File descriptors that are no connections'.
pub(crate) fn kept(workers: usize) -> u64 {
    KEPT_MIN + KEPT_BY_WORKER * workers as u64
}

/// Has the system allow so many connections; tells for how many there is room, which may be fewer.
pub(crate) fn make_room(wanted: u64, workers: usize) -> u64 {
    let kept = kept(workers);
    machine::allow_open_files(wanted.saturating_add(kept)).saturating_sub(kept).min(wanted)
}

/// Says now and then that someone found no room.
pub(crate) fn note_refused(address: &str, max: usize) {
    static SEEN: Seldom = Seldom::new();
    if let Some(unsaid) = SEEN.say(clock::monotonic_ms()) {
        tracing::warn!(
            "no room for {address}: {max} connections are open, as many as maxclients allows ({unsaid} more were refused since the last \
             line like this)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_admitted_than_there_is_room_for_and_those_that_go_make_some() {
        let sockets = Sockets::default();
        let first = sockets.admit(2).expect("there is room");
        let _second = sockets.admit(2).expect("there is room");
        assert!(sockets.admit(2).is_none());
        drop(first);
        let _third = sockets.admit(2).expect("one has gone");
        let over: Vec<Permit> = std::iter::from_fn(|| sockets.admit_in_place(2)).collect();
        assert_eq!((over.len(), sockets.count()), (TAKEN_OVER_MAX, 2 + TAKEN_OVER_MAX));
    }

    #[test]
    fn the_oldest_stranger_goes_once_and_neither_who_is_known_nor_who_has_just_come() {
        let sockets = Sockets::default();
        let gone = Arc::new(Mutex::new(Vec::new()));
        let come = |now: u64| {
            let gone = Arc::clone(&gone);
            sockets.stranger(now, move || gone.lock().push(now))
        };
        let _all = [come(1), come(2), come(9)];
        drop(come(3));
        let dismissed = [(); 3].map(|()| sockets.dismiss_stranger(5));
        assert_eq!((dismissed, &**gone.lock()), ([true, true, false], &[1, 2][..]));
    }
}
