//! A session that is away: what may go on for long runs with the session itself, on a stack or a thread of its own, and its connection has one
//! in its place that runs nothing. It comes back with the answer.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::commands::room::Slots;
use crate::commands::session::{Session, Watch};

/// Where a session that was away is left for its connection.
pub(crate) type Shelf = Arc<Mutex<Option<Box<Session>>>>;

impl Session {
    /// Takes the session, and leaves one in its place. What was written before stays with the connection, which has to wait for it.
    pub(crate) fn go_away(&mut self) -> Box<Session> {
        let stand_in = self.stand_in();
        let mut away = Box::new(mem::replace(self, stand_in));
        self.wrote_epoch = mem::take(&mut away.wrote_epoch);
        self.wrote_bytes = mem::take(&mut away.wrote_bytes);
        self.awaits_disk = mem::take(&mut away.awaits_disk);
        away
    }

    /// Has the one that stands in wait for the session, and says where that is to be left.
    pub(crate) fn shelf(&mut self) -> Shelf {
        Arc::clone(self.shelf.get_or_insert_default())
    }

    /// Whether this stands in for one that is away for longer.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.shelf.is_some()
    }

    /// The session is back, if it was away.
    pub(crate) fn come_back(&mut self) {
        let back = self.shelf.as_ref().and_then(|shelf| shelf.lock().take());
        if let Some(back) = back {
            self.take_back(back);
        }
    }

    /// Puts a session in the place of the one that stands in for it.
    pub(crate) fn take_back(&mut self, back: Box<Session>) {
        let stood_in = mem::replace(self, *back);
        self.wrote_epoch = self.wrote_epoch.max(stood_in.wrote_epoch);
        self.wrote_bytes += stood_in.wrote_bytes;
        self.line_share = stood_in.line_share;
        self.awaits_disk |= stood_in.awaits_disk;
        self.replies = stood_in.replies;
        self.closes |= stood_in.closes;
    }

    fn stand_in(&self) -> Session {
        Session {
            instance: Arc::clone(&self.instance),
            client: Arc::clone(&self.client),
            db: self.db,
            now_ns: self.now_ns,
            identity: self.identity.clone(),
            txn: None,
            // There is nothing of it that others could see.
            is_closed: true,
            watch: Watch { flag: Arc::clone(&self.watch.flag), places: Default::default() },
            subscriptions: Default::default(),
            replies: self.replies,
            closes: false,
            block: None,
            wrote_epoch: 0,
            wrote_bytes: 0,
            line_share: self.line_share,
            last_wrote_epoch: self.last_wrote_epoch,
            awaits_disk: false,
            missing: Vec::new(),
            fetched: Vec::new(),
            pin: None,
            slots: Slots::default(),
            waiting: self.waiting,
            tracks: None,
            stats: Arc::clone(&self.stats),
            buffers: Default::default(),
            last: None,
            untimed: Default::default(),
            is_shut_out: false,
            has_failed_inside: false,
            shelf: None,
        }
    }
}
