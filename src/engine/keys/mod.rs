//! The views commands have of the keyspace: [`Read`] and [`Write`], over shards that are locked for the whole command.
//!
//! - [`held`]: which shards, and how they are locked. [`read`], [`write`]: the two views.
//! - [`wait`]: what is said where a command waits for keys. [`waiting`]: the queues at keys, and who is told when they change.
//!
//! A key whose time is over is not there for either view. Every change made through [`Write`] is recorded as an effect in the shard it happens
//! in, so that nothing can change without reaching the journal.

mod held;
mod read;
mod wait;
mod waiting;
mod write;

use crate::engine::{Engine, Guard, Scope};
use crate::panics::Whole;

pub(crate) use crate::engine::log::Edit;
pub(crate) use held::Held;
pub use read::Read;
pub(crate) use read::Wrote;
pub(crate) use wait::KeyWait;
pub(crate) use wait::Waiting;
pub use write::{Expiry, Write};

impl Engine {
    /// Runs with a view for reading over the shards of these keys. `now` is in milliseconds since the epoch. Whoever may meet a key whose
    /// time is over takes the view's events, and the keys that were touched, and tells of them.
    pub fn read<R>(&self, db: u8, now: u64, scope: Scope<'_>, run: impl FnOnce(&mut Read<'_>) -> R) -> R {
        self.write(db, now, scope, |view| run(view))
    }

    /// The same with a view for writing.
    pub fn write<R>(&self, db: u8, now: u64, scope: Scope<'_>, run: impl FnOnce(&mut Write<'_>) -> R) -> R {
        let mut view = Write(self.view(db, now, scope));
        let result = run(&mut view);
        view.wrote();
        debug_assert!(view.events.is_empty(), "nobody tells what happened in this view");
        result
    }

    /// Waits while a long run has the keyspace to itself, so no session that serves clients asks for it: see [`Self::try_view`].
    pub(crate) fn view(&self, db: u8, now: u64, scope: Scope<'_>) -> Read<'_> {
        loop {
            let view = self.view_beside(db, now, scope);
            if !self.solo().is_shut() {
                return view;
            }
            if self.solo().is_carried_here() {
                return view;
            }
            drop(view);
            self.solo().wait();
        }
    }

    /// A view, unless a long run has the keyspace to itself.
    #[inline]
    pub(crate) fn try_view(&self, db: u8, now: u64, scope: Scope<'_>) -> Option<Read<'_>> {
        self.view_keeping(None, db, now, scope)
    }

    /// A view also while a long run has the keyspace to itself: for what has nothing to do with what keys hold.
    pub(crate) fn view_beside(&self, db: u8, now: u64, scope: Scope<'_>) -> Read<'_> {
        self.view_of(self.hold(None, scope), db, now)
    }

    #[inline]
    pub(crate) fn view_keeping<'a>(
        &'a self,
        kept: Option<(usize, Guard<'a>)>,
        db: u8,
        now: u64,
        scope: Scope<'_>,
    ) -> Option<Read<'a>> {
        let held = self.hold(kept, scope);
        if self.solo().is_shut() { None } else { Some(self.view_of(held, db, now)) }
    }

    #[inline]
    fn view_of<'a>(&'a self, held: Held<'a>, db: u8, now: u64) -> Read<'a> {
        let stored_db = self.stored(db);
        Read {
            _whole: Whole::begin(),
            engine: self,
            held,
            db,
            stored_db,
            now,
            events: Vec::new(),
            waiting: Waiting::Never,
            block: None,
            missing: Vec::new(),
            is_final: false,
            leaves_access: false,
        }
    }
}
