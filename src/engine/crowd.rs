//! Those who are told of something: mostly one or two, sometimes thousands. Joining, and leaving again, cost the same then: O(1).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// So few are looked through, and take the room of a list.
const FEW_MAX: usize = 16;

/// A set of them, each told apart by where it is.
pub(crate) enum Crowd<T> {
    /// In the order they came.
    Few(Vec<Arc<T>>),
    /// By their addresses, in no order. It stays so until it is empty, when whoever keeps it drops it.
    Many(HashMap<usize, Arc<T>, foldhash::fast::RandomState>),
}

impl<T> Default for Crowd<T> {
    fn default() -> Crowd<T> {
        Crowd::Few(Vec::new())
    }
}

fn address<T>(member: &Arc<T>) -> usize {
    Arc::as_ptr(member).addr()
}

impl<T> Crowd<T> {
    /// Adds one, if it is not in it.
    pub(crate) fn join(&mut self, member: &Arc<T>) {
        match self {
            Crowd::Few(few) if few.iter().any(|other| Arc::ptr_eq(other, member)) => {}
            Crowd::Few(few) if few.len() < FEW_MAX => few.push(Arc::clone(member)),
            Crowd::Few(few) => {
                let all = few.drain(..).chain([Arc::clone(member)]);
                *self = Crowd::Many(all.map(|member| (address(&member), member)).collect());
            }
            Crowd::Many(many) => drop(many.entry(address(member)).or_insert_with(|| Arc::clone(member))),
        }
    }

    /// Removes one; tells whether it was in it.
    pub(crate) fn leave(&mut self, member: &Arc<T>) -> bool {
        match self {
            Crowd::Few(few) => {
                let at = few.iter().position(|other| Arc::ptr_eq(other, member));
                at.map(|at| few.remove(at)).is_some()
            }
            Crowd::Many(many) => many.remove(&address(member)).is_some(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Crowd::Few(few) => few.len(),
            Crowd::Many(many) => many.len(),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells each of them.
    pub(crate) fn each(&self, tell: impl FnMut(&Arc<T>)) {
        match self {
            Crowd::Few(few) => few.iter().for_each(tell),
            Crowd::Many(many) => many.values().for_each(tell),
        }
    }
}

/// Lets a table of such crowds go back to the size of what is in it: one that was large once is not kept.
pub(crate) fn give_room_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    const KEEP: usize = 64;
    if table.capacity() > KEEP && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_is_told_once_and_who_leaves_is_not() {
        for count in [1, FEW_MAX, FEW_MAX + 1, 1000] {
            let all: Vec<Arc<usize>> = (0..count).map(Arc::new).collect();
            let mut crowd = Crowd::default();
            all.iter().chain(&all).for_each(|member| crowd.join(member));
            assert_eq!((crowd.len(), matches!(crowd, Crowd::Many(_))), (count, count > FEW_MAX), "many are never looked through");
            let (leave, stay): (Vec<_>, Vec<_>) = all.iter().partition(|member| ***member % 2 == 0);
            assert!(leave.iter().all(|member| crowd.leave(member)) && !leave.iter().any(|member| crowd.leave(member)));
            let mut told = Vec::new();
            crowd.each(|member| told.push(**member));
            told.sort_unstable();
            assert_eq!(told, stay.iter().map(|member| ***member).collect::<Vec<_>>());
            assert!(stay.iter().all(|member| crowd.leave(member)) && crowd.is_empty());
        }
    }
}
