//! Waiting: the one mechanism by which a command is answered later than it was asked.
//!
//! A command that cannot answer yet leaves a [`Waiter`]. Its connection goes on carrying bytes, and runs no further command of its
//! client until the wait has ended. What ends it, and who sees to that:
//!
//! | the wait is for | it is ended by | with |
//! |---|---|---|
//! | a key to hold something (`BLPOP`, `XREAD BLOCK` …) | whoever touched the key, once its locks are released: `commands::serving` | the answer |
//! | values to be read from disk | the reader's thread: `engine::load` | another try |
//! | a pause to end | `CLIENT UNPAUSE`, or the deadline | another try |
//! | work on a thread of its own (`SAVE`, `FLUX BACKUP`) | that thread: `commands::elsewhere` | the answer |
//! | schemas that take long to compile (`FLUX.REGISTER`) | the thread that does it: `peers::checking` | another try |
//! | a call, or a job (`FLUX.CALL`, `FLUX.NEXT`) | whoever ends the call or has the job: `peers::calling` | the answer |
//! | nothing more than time (`WAIT` without replicas) | the deadline | what the command says then |
//!
//! Each of them may also be ended by its deadline, by `CLIENT UNBLOCK` (those that wait for an answer), and by the client's going
//! away. Exactly one of all these ends it: the one to whom [`Waiter::end`], or [`Waiter::serve`], answers true. It owes the client what
//! the table says, and leaves it in the client's mailbox. Where a client sends no more, its wait for others ends, and what it asked behind
//! that is not run; what is under way goes on ([`Block::is_under_way`]). Replies that wait for the disk are not waiters: see `engine::gate`.
//!
//! To add another kind of wait: make a waiter, keep it where whoever can end it finds it, return it in a `Block`; end it there as the
//! table says; take it out of wherever it is kept when it is over by other means (a waiter that is over may be met, and takes nothing).
//! Deadlines are on the monotonic clock. Nobody waits for a waiter's lock longer than a command runs.
//!
//! For keys, there is one queue for each key and each kind of thing that is waited for there ([`Want`]), in the order the clients came. A
//! command is put into its queues while its keys' shards are still locked, so no push can slip by. Whoever touches the key serves
//! its queue from the front until the key has no more to give. Costs: joining and leaving O(log n) in those who wait at the key, for each key
//! named; touching O(1), whoever waits; serving O(log n) for each client served, and none for the other keys it named, which it leaves
//! itself. Only readers of streams all get what comes, so each of those is looked at, and run if it reads above an id that was reached.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::engine::blob::Blob;
use crate::engine::crowd::give_room_back;
use crate::engine::mailbox::Mailbox;
use crate::engine::rows::Kind;
use crate::engine::types::stream::id::Id;
use crate::resp::{OwnedArgs, Protocol};

/// Makes the command that is run for one of a waiter's keys: its number among them, and its name.
pub(crate) type AtKey = Box<dyn Fn(usize, &[u8]) -> OwnedArgs + Send + Sync>;

/// A command that waits; see the file's head.
pub struct Waiter {
    /// The command as it is run when the time is over, and also at its key where it named only one.
    pub(crate) args: OwnedArgs,
    /// The client's database.
    pub(crate) db: u8,
    /// The protocol its answer is written in.
    pub(crate) protocol: Protocol,
    /// Where its answer goes.
    pub(crate) mailbox: Arc<Mailbox>,
    /// The keys it waits for, in the order it named them.
    pub(crate) keys: Vec<Blob>,
    /// What it waits for at each of them.
    want: Want,
    /// For entries of streams: the ids they must be above, one for each key. None for all else.
    above: Vec<Id>,
    at_key: Option<AtKey>,
    /// Told apart by this, and older ones have lower numbers. Never 0.
    number: u64,
    is_over: Mutex<bool>,
}

/// What a client waits for at a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    /// An element of a list.
    Element,
    /// A member of a sorted set.
    Member,
    /// Entries of a stream. All who wait get them.
    Entries,
    /// Entries of a stream for this consumer group, or that stream or group are gone.
    Work(Blob),
}

impl Want {
    /// Whether a key that holds this kind of value, or nothing, may have what is wanted.
    fn is_for(&self, held: Option<Kind>) -> bool {
        match self {
            Want::Element => held == Some(Kind::List),
            Want::Member => held == Some(Kind::Zset),
            Want::Entries => held == Some(Kind::Stream),
            Want::Work(_) => true,
        }
    }

    /// Whether one that gets nothing shows that those behind it get nothing either.
    pub(crate) fn is_taken_in_turn(&self) -> bool {
        *self != Want::Entries
    }
}

/// Why a command has not answered, and what its connection does about it.
pub(crate) struct Block {
    /// What is to be ended.
    pub waiter: Arc<Waiter>,
    /// When it ends by itself, in milliseconds from now; None for never.
    pub timeout_ms: Option<u64>,
    /// Whether the command is run again then, from its beginning. Else it answers that nothing came, and `CLIENT UNBLOCK` may make it.
    pub tries_again: bool,
    /// Whether the server itself ends it, soon and whatever others do. Then it goes on where its client sends no more: as in Redis, whoever
    /// closes one direction still gets all answers but those that others would have to give.
    pub is_under_way: bool,
}

impl Block {
    /// A command that waits for an answer, which others cause.
    pub(crate) fn new(waiter: Arc<Waiter>, timeout_ms: Option<u64>) -> Block {
        Block { waiter, timeout_ms, tries_again: false, is_under_way: false }
    }
}

impl Waiter {
    /// A command that waits for no keys.
    pub(crate) fn new(args: OwnedArgs, db: u8, protocol: Protocol, mailbox: Arc<Mailbox>) -> Waiter {
        Waiter::at_keys(args, db, protocol, mailbox, Vec::new(), Want::Element, None)
    }

    /// A command that waits for these keys from now on, once it is queued. Where it names several, `at_key` makes the command for one.
    pub(crate) fn at_keys(
        args: OwnedArgs,
        db: u8,
        protocol: Protocol,
        mailbox: Arc<Mailbox>,
        keys: Vec<Blob>,
        want: Want,
        at_key: Option<AtKey>,
    ) -> Waiter {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Relaxed) + 1;
        Waiter { args, db, protocol, mailbox, keys, want, above: Vec::new(), at_key, number, is_over: Mutex::new(false) }
    }

    /// The same, which reads entries of streams above these ids, one for each key.
    pub(crate) fn reading_above(self, above: Vec<Id>) -> Waiter {
        Waiter { above, ..self }
    }

    /// Ends the wait; true for the one caller who did, who now owes the client an answer.
    pub(crate) fn end(&self) -> bool {
        !std::mem::replace(&mut *self.is_over.lock(), true)
    }

    /// Ends the wait if `run`, which nobody's ending can come between, answers true. Tells whether it did.
    pub(crate) fn serve(&self, run: impl FnOnce() -> bool) -> bool {
        let mut is_over = self.is_over.lock();
        if *is_over {
            return false;
        }
        *is_over = run();
        *is_over
    }

    /// Whether it was answered or gave up.
    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.lock()
    }

    /// Whether it is told when what it waits at is gone or holds something else, rather than wait on.
    pub(crate) fn ends_with_key(&self) -> bool {
        matches!(self.want, Want::Work(_))
    }

    /// Tells it from all others, and grows from one to the next.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The command to be run for one of its keys, by its number, if that is not simply [`Self::args`].
    pub(crate) fn args_at(&self, key: usize) -> Option<OwnedArgs> {
        self.at_key.as_ref().map(|make| make(key, &self.keys[key]))
    }
}

/// A key by its database's stored number.
pub(crate) type Place = (u8, Blob);

/// Who waits for which keys of a shard, and which of those keys changed since last asked.
#[derive(Default)]
pub(crate) struct Waiters {
    /// By the stored number of their database; none of these is empty.
    places: BTreeMap<u8, HashMap<Blob, Queues, foldhash::fast::RandomState>>,
    /// Each with its place in the order in which keys of all shards were touched, which is the order they are served in.
    touched: Vec<(u64, Place)>,
}

/// Only keys that someone waits for are numbered, so threads seldom meet here.
fn next_touch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
}

/// Those who wait at one key.
#[derive(Default)]
struct Queues {
    /// Waiters by number, which is the order they came in.
    by_want: BTreeMap<Want, BTreeMap<u64, Queued>>,
    is_touched: bool,
}

/// One who waits at a key.
struct Queued {
    waiter: Arc<Waiter>,
    /// The number of the key among its keys.
    key: usize,
    /// It reads entries of a stream above this. It stands here since thousands may be looked at.
    above: Id,
}

impl Waiters {
    /// Whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Notes that a key changed, if someone waits for it.
    pub(crate) fn touch(&mut self, db: u8, key: &[u8]) {
        if let Some(queues) = self.places.get_mut(&db).and_then(|places| places.get_mut(key))
            && !std::mem::replace(&mut queues.is_touched, true)
        {
            self.touched.push((next_touch(), (db, Blob::from(key))));
        }
    }

    /// Lets those who wait in two databases follow to the other one's keys. Those have changed for them, unless there was nothing and is
    /// nothing; `is_there` tells whether a database holds a key.
    pub(crate) fn swap(&mut self, a: u8, b: u8, is_there: impl Fn(u8, &[u8]) -> bool) {
        self.touched.retain(|(_, (db, _))| ![a, b].contains(db));
        let both = [(b, self.places.remove(&a)), (a, self.places.remove(&b))];
        for (db, mut places) in both.into_iter().filter_map(|(db, places)| Some((db, places?))) {
            for (key, queues) in &mut places {
                queues.is_touched |= is_there(a, key) || is_there(b, key);
                if queues.is_touched {
                    self.touched.push((next_touch(), (db, key.clone())));
                }
            }
            self.places.insert(db, places);
        }
    }

    /// How many of the keys that are waited for have someone who is told of their end: readers in a group.
    pub(crate) fn count_told_of_end(&self) -> usize {
        let is_told = |queues: &&Queues| queues.by_want.keys().any(|want| matches!(want, Want::Work(_)));
        self.places.values().flat_map(HashMap::values).filter(is_told).count()
    }

    /// Takes the keys that changed.
    pub(crate) fn take_touched(&mut self) -> Vec<Place> {
        self.take_touched_in_order().into_iter().map(|(_, place)| place).collect()
    }

    /// The same, to be put in one order with those of other shards.
    pub(crate) fn take_touched_in_order(&mut self) -> Vec<(u64, Place)> {
        let touched = std::mem::take(&mut self.touched);
        for (_, place) in &touched {
            if let Some(queues) = self.queues_mut(place) {
                queues.is_touched = false;
            }
        }
        touched
    }

    /// Puts a command at the end of the queue of one of its keys, which is there under this stored number.
    pub(crate) fn join(&mut self, db: u8, waiter: &Arc<Waiter>, key: usize) {
        let queues = self.places.entry(db).or_default().entry(waiter.keys[key].clone()).or_default();
        let queue = queues.by_want.entry(waiter.want.clone()).or_default();
        // One that names a key twice waits there once.
        let above = waiter.above.get(key).copied().unwrap_or(Id::MIN);
        queue.entry(waiter.number).or_insert_with(|| Queued { waiter: Arc::clone(waiter), key, above });
    }

    /// What is waited for at a key and may be had there now, by what the key holds.
    pub(crate) fn wants(&self, place: &Place, held: Option<Kind>) -> Vec<Want> {
        self.queues(place)
            .map_or_else(Vec::new, |queues| queues.by_want.keys().filter(|want| want.is_for(held)).cloned().collect())
    }

    /// The first who waits at a key for this and came after the one with this number. Whoever wants entries above `newest`, the id of a
    /// stream's last one, would get none, and is passed over.
    pub(crate) fn after(&self, place: &Place, want: &Want, number: u64, newest: Id) -> Option<(Arc<Waiter>, usize)> {
        let queue = self.queues(place)?.by_want.get(want)?;
        let mut behind = queue.range((Excluded(number), Unbounded)).map(|(_, queued)| queued);
        let next = behind.find(|queued| *want != Want::Entries || queued.above < newest)?;
        Some((Arc::clone(&next.waiter), next.key))
    }

    /// Takes a command out of a key's queue, if it is there.
    pub(crate) fn leave(&mut self, place: &Place, waiter: &Waiter) {
        let Some(queues) = self.queues_mut(place) else { return };
        if let Some(queue) = queues.by_want.get_mut(&waiter.want) {
            queue.remove(&waiter.number);
            if queue.is_empty() {
                queues.by_want.remove(&waiter.want);
            }
        }
        if queues.by_want.is_empty() {
            if queues.is_touched {
                self.touched.retain(|(_, other)| other != place);
            }
            self.remove(place);
        }
    }

    fn remove(&mut self, (db, key): &Place) {
        let Some(places) = self.places.get_mut(db) else { return };
        places.remove(key);
        give_room_back(places);
        if places.is_empty() {
            self.places.remove(db);
        }
    }

    fn queues(&self, (db, key): &Place) -> Option<&Queues> {
        self.places.get(db)?.get(key)
    }

    fn queues_mut(&mut self, (db, key): &Place) -> Option<&mut Queues> {
        self.places.get_mut(db)?.get_mut(key)
    }

    /// How many keys are waited for.
    pub(crate) fn place_count(&self) -> usize {
        self.places.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(keys: &[&str], want: Want) -> Arc<Waiter> {
        let keys = keys.iter().map(|key| Blob::from(key.as_bytes())).collect();
        Arc::new(Waiter::at_keys(OwnedArgs::default(), 0, Protocol::Resp2, Arc::default(), keys, want, None))
    }

    fn place(db: u8, key: &str) -> Place {
        (db, Blob::from(key.as_bytes()))
    }

    #[test]
    fn a_wait_ends_once() {
        let waiter = waiter(&[], Want::Element);
        assert!(!waiter.serve(|| false));
        assert!(waiter.serve(|| true));
        assert!(!waiter.end() && !waiter.serve(|| unreachable!("it is over")));
    }

    #[test]
    fn those_who_wait_for_what_the_key_does_not_hold_are_passed_over() {
        let mut waiters = Waiters::default();
        for want in [Want::Element, Want::Member, Want::Entries, Want::Work(Blob::from(&b"g"[..]))] {
            waiters.join(0, &waiter(&["k"], want), 0);
        }
        let wants = |held| waiters.wants(&place(0, "k"), held).len();
        assert_eq!([None, Some(Kind::String), Some(Kind::List), Some(Kind::Stream)].map(wants), [1, 1, 2, 2]);
    }

    #[test]
    fn first_come_is_first_and_nothing_is_left_of_those_who_left() {
        let mut waiters = Waiters::default();
        let all: Vec<_> = (0..100).map(|_| waiter(&["k", "k"], Want::Element)).collect();
        for waiter in &all {
            waiters.join(0, waiter, 0);
            waiters.join(0, waiter, 1);
        }
        let mut number = 0;
        for waiter in &all {
            let (next, key) = waiters.after(&place(0, "k"), &Want::Element, number, Id::MAX).unwrap();
            assert!(Arc::ptr_eq(&next, waiter) && key == 0);
            number = next.number();
        }
        waiters.touch(0, b"k");
        waiters.touch(0, b"k");
        all.iter().for_each(|waiter| waiters.leave(&place(0, "k"), waiter));
        assert!(waiters.is_empty() && waiters.take_touched().is_empty());
    }

    #[test]
    fn a_key_is_touched_once_until_that_is_taken() {
        let mut waiters = Waiters::default();
        waiters.join(3, &waiter(&["k"], Want::Element), 0);
        [0, 3, 3].into_iter().for_each(|db| waiters.touch(db, b"k"));
        assert_eq!(waiters.take_touched(), [place(3, "k")]);
        waiters.touch(3, b"k");
        assert_eq!(waiters.take_touched(), [place(3, "k")]);
    }

    #[test]
    fn who_waits_follows_a_swap_of_databases_and_is_touched_by_it() {
        let mut waiters = Waiters::default();
        waiters.join(1, &waiter(&["k"], Want::Element), 0);
        waiters.join(2, &waiter(&["l"], Want::Element), 0);
        waiters.touch(1, b"k");
        waiters.swap(1, 4, |db, key| (db, key) == (1, b"k"));
        assert_eq!(waiters.take_touched(), [place(4, "k")]);
        assert_eq!(waiters.wants(&place(4, "k"), Some(Kind::List)), [Want::Element]);
        assert!(waiters.wants(&place(1, "k"), Some(Kind::List)).is_empty());
        // What was touched before is told of, though nothing is there.
        waiters.touch(4, b"k");
        waiters.swap(4, 1, |_, _| false);
        assert_eq!(waiters.take_touched(), [place(1, "k")]);
    }
}
