//! The shards a view holds: locked in ascending order, and let go when the view is.

use std::sync::atomic::Ordering::Acquire;

use smallvec::SmallVec;

use crate::engine::dict;
use crate::engine::shard::Shard;
use crate::engine::{Engine, Guard, SHARDS, Scope, enter, shard_of};

/// The shards a view holds.
pub(crate) enum Held<'a> {
    None,
    One(usize, Guard<'a>),
    /// By ascending number.
    Some(Vec<(usize, Guard<'a>)>),
    All(Vec<Guard<'a>>),
}

impl Held<'_> {
    #[inline]
    pub(in crate::engine) fn get(&mut self, number: usize) -> &mut Shard {
        match self {
            Held::One(held, guard) if *held == number => guard,
            Held::All(guards) => &mut guards[number],
            Held::Some(guards) => match guards.binary_search_by_key(&number, |(held, _)| *held) {
                Ok(at) => &mut guards[at].1,
                Err(_) => unheld(),
            },
            _ => unheld(),
        }
    }

    pub(super) fn peek(&self, number: usize) -> &Shard {
        match self {
            Held::One(held, guard) if *held == number => guard,
            Held::All(guards) => &guards[number],
            Held::Some(guards) => match guards.binary_search_by_key(&number, |(held, _)| *held) {
                Ok(at) => &guards[at].1,
                Err(_) => unheld(),
            },
            _ => unheld(),
        }
    }

    #[inline]
    pub(super) fn each(&self, mut run: impl FnMut(&Shard)) {
        match self {
            Held::None => {}
            Held::One(_, guard) => run(guard),
            Held::Some(guards) => guards.iter().for_each(|(_, guard)| run(guard)),
            Held::All(guards) => guards.iter().for_each(|guard| run(guard)),
        }
    }

    #[inline]
    pub(in crate::engine) fn each_mut(&mut self, mut run: impl FnMut(&mut Shard)) {
        match self {
            Held::None => {}
            Held::One(_, guard) => run(guard),
            Held::Some(guards) => guards.iter_mut().for_each(|(_, guard)| run(guard)),
            Held::All(guards) => guards.iter_mut().for_each(|guard| run(guard)),
        }
    }
}

#[cold]
fn unheld() -> ! {
    unreachable!("a command reached for a key that its table row does not name")
}

impl Engine {
    /// Locks what a scope needs, and first unlocks what was kept if it is not that.
    #[inline]
    pub(super) fn hold<'a>(&'a self, kept: Option<(usize, Guard<'a>)>, scope: Scope<'_>) -> Held<'a> {
        let kept = match (kept, scope) {
            (Some((number, guard)), Scope::Keys([key])) if shard_of(dict::hash(key)) == number => Some((number, guard)),
            _ => None,
        };
        let mut held = match scope {
            Scope::Nothing => Held::None,
            Scope::Keys([key]) => match kept {
                Some((number, guard)) => Held::One(number, guard),
                None => {
                    let number = shard_of(dict::hash(key));
                    Held::One(number, self.mutex(number).lock())
                }
            },
            Scope::Keys(keys) => {
                let mut numbers: SmallVec<[usize; 16]> = keys.iter().map(|key| shard_of(dict::hash(key))).collect();
                numbers.sort_unstable();
                numbers.dedup();
                Held::Some(numbers.into_iter().map(|number| (number, self.mutex(number).lock())).collect())
            }
            Scope::Everything => Held::All((0..SHARDS).map(|number| self.mutex(number).lock()).collect()),
        };
        // Invariant: the epoch is read after the last lock is taken, for each view anew; `cut` relies on it.
        let epoch = self.epoch.load(Acquire);
        let generation = self.generation.load(Acquire);
        held.each_mut(|shard| enter(shard, epoch, generation));
        held
    }
}
