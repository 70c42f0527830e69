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
    All(All<'a>),
}

/// All shards. One is entered when it is first reached for, since most are not.
pub(crate) struct All<'a> {
    guards: Vec<Guard<'a>>,
    /// A bit for each that was reached for.
    reached: u64,
    epoch: u64,
    generation: u8,
}

impl All<'_> {
    #[inline]
    fn get(&mut self, number: usize) -> &mut Shard {
        let shard = &mut *self.guards[number];
        if self.reached & 1 << number == 0 {
            self.reached |= 1 << number;
            enter(shard, self.epoch, self.generation);
        }
        shard
    }
}

/// The numbers of the bits that are set, from the lowest on.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}

impl Held<'_> {
    #[inline]
    pub(crate) fn get(&mut self, number: usize) -> &mut Shard {
        match self {
            Held::One(held, guard) if *held == number => guard,
            Held::All(all) => all.get(number),
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
            Held::All(all) => &all.guards[number],
            Held::Some(guards) => match guards.binary_search_by_key(&number, |(held, _)| *held) {
                Ok(at) => &guards[at].1,
                Err(_) => unheld(),
            },
            _ => unheld(),
        }
    }

    /// Runs with each shard that was, or may have been, reached for.
    #[inline]
    pub(super) fn each(&self, mut run: impl FnMut(&Shard)) {
        match self {
            Held::None => {}
            Held::One(_, guard) => run(guard),
            Held::Some(guards) => guards.iter().for_each(|(_, guard)| run(guard)),
            Held::All(all) => bits(all.reached).for_each(|number| run(&all.guards[number])),
        }
    }

    /// The same, to change it.
    #[inline]
    pub(in crate::engine) fn each_mut(&mut self, mut run: impl FnMut(&mut Shard)) {
        match self {
            Held::None => {}
            Held::One(_, guard) => run(guard),
            Held::Some(guards) => guards.iter_mut().for_each(|(_, guard)| run(guard)),
            Held::All(all) => bits(all.reached).for_each(|number| run(&mut all.guards[number])),
        }
    }
}

impl Held<'_> {
    /// Runs with each of all shards that was reached for, and its number.
    pub(crate) fn each_reached(&mut self, mut run: impl FnMut(usize, &mut Shard)) {
        let Held::All(all) = self else { unreachable!("only who holds all shards lends them") };
        bits(all.reached).for_each(|number| run(number, &mut all.guards[number]));
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
            Scope::Everything => {
                let guards = (0..SHARDS).map(|number| self.mutex(number).lock()).collect();
                Held::All(All { guards, reached: 0, epoch: 0, generation: 0 })
            }
        };
        // Invariant: the epoch is read after the last lock is taken, for each view anew; `cut` relies on it.
        let epoch = self.epoch.load(Acquire);
        let generation = self.generation.load(Acquire);
        match &mut held {
            Held::All(all) => (all.epoch, all.generation) = (epoch, generation),
            held => held.each_mut(|shard| enter(shard, epoch, generation)),
        }
        held
    }
}
