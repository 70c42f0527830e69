//! A turn: what a worker does for a pipeline at once. It fetches the memory of the next commands into the cache together, and
//! where all of them go to the same shard, it keeps that shard's lock from one command to the next, so that workers that
//! meet on a busy key take turns a few commands long instead of waiting for each other at every one.

use std::hint::spin_loop;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::engine::keys::{Held, Read};
use crate::engine::shard::Shard;
use crate::engine::{Engine, Guard, Scope, dict, shard_of};
use crate::prefetch::prefetch;
use crate::resp::{AHEAD_MAX, Args};

/// How often the lock is looked at before its taker sleeps: for about as long as another worker's turn lasts.
const SPINS: usize = 64;
/// Pauses of the processor between two looks.
const PAUSES: usize = 8;

/// See the file's head. Invariant: whoever takes another lock, or waits for anything, calls [`Self::release`] before.
pub(crate) struct Turn<'e> {
    engine: &'e Engine,
    /// The shard of all commands of this turn, if they have one.
    shard: Option<usize>,
    kept: Option<(usize, Guard<'e>)>,
}

impl<'e> Turn<'e> {
    /// A turn that keeps no lock until [`Self::begin`] says so.
    pub(crate) fn new(engine: &'e Engine) -> Turn<'e> {
        Turn { engine, shard: None, kept: None }
    }

    /// Ends the turn before and begins one of these commands, [`AHEAD_MAX`] at most. Takes the first argument for a key: it mostly
    /// is one, and where it is not, nothing is lost. `db` is the client's.
    #[inline]
    pub(crate) fn begin<'a>(&mut self, db: u8, commands: impl Iterator<Item = Args<'a>>) {
        self.shard = None;
        self.release();
        let commands: SmallVec<[Args<'a>; AHEAD_MAX]> = commands.filter(|args| args.len() > 1).collect();
        if commands.len() < 2 {
            return;
        }
        let hashes: SmallVec<[u64; AHEAD_MAX]> = commands.iter().map(|args| dict::hash(args.at(1))).collect();
        let db = usize::from(self.engine.stored(db));
        let number = shard_of(hashes[0]);
        if hashes.iter().all(|hash| shard_of(*hash) == number) {
            let guard = lock(self.engine.mutex(number));
            prefetch_in(&guard, db, &hashes, &commands);
            self.shard = Some(number);
            self.kept = Some((number, guard));
        } else {
            self.prefetch(db, &hashes);
        }
    }

    /// Passes over shards that someone else holds.
    fn prefetch(&self, db: usize, hashes: &[u64]) {
        let mutex = |hash: u64| self.engine.mutex(shard_of(hash));
        for hash in hashes {
            prefetch(mutex(*hash));
        }
        for hash in hashes {
            if let Some(shard) = mutex(*hash).try_lock() {
                shard.databases[db].keys.prefetch_bucket(*hash as u32);
            }
        }
        for hash in hashes {
            if let Some(shard) = mutex(*hash).try_lock() {
                shard.databases[db].keys.prefetch_entry(*hash as u32);
            }
        }
    }

    /// Lets others have the lock.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.kept = None;
    }

    /// A view for the next command, under the lock that was kept if that is all it needs. None while a long run has the keyspace to itself.
    #[inline]
    pub(crate) fn view(&mut self, db: u8, now: u64, scope: Scope<'_>) -> Option<Read<'e>> {
        self.engine.view_keeping(self.kept.take(), db, now, scope)
    }

    /// A view also while a long run has the keyspace to itself: see [`Engine::view_beside`].
    pub(crate) fn view_beside(&mut self, db: u8, now: u64, scope: Scope<'_>) -> Read<'e> {
        self.release();
        self.engine.view_beside(db, now, scope)
    }

    /// Keeps what a view held, if the commands of this turn go on with it.
    #[inline]
    pub(crate) fn keep(&mut self, held: Held<'e>) {
        if let (Some(shard), Held::One(number, guard)) = (self.shard, held)
            && shard == number
        {
            self.kept = Some((number, guard));
        }
    }
}

/// Fetches what commands on keys with these hashes will look at, all in one shard; where they are on one key, also its elements.
fn prefetch_in(shard: &Shard, db: usize, hashes: &[u64], commands: &[Args<'_>]) {
    let keys = &shard.databases[db].keys;
    hashes.iter().for_each(|hash| keys.prefetch_bucket(*hash as u32));
    hashes.iter().for_each(|hash| keys.prefetch_entry(*hash as u32));
    if hashes.iter().any(|hash| *hash != hashes[0]) {
        return;
    }
    let Some(at) = keys.find(hashes[0] as u32, commands[0].at(1)) else { return };
    keys.at(at).value.prefetch(commands);
}

/// Takes a lock that another worker mostly gives back within microseconds.
fn lock(mutex: &Mutex<Shard>) -> Guard<'_> {
    for _ in 0..SPINS {
        if let Some(guard) = mutex.try_lock() {
            return guard;
        }
        (0..PAUSES).for_each(|_| spin_loop());
    }
    mutex.lock()
}
