//! What a long run has recorded and nobody is told of yet, while it lends its locks: see `engine::solo`.

use std::mem;

use crate::engine::block::Place;
use crate::engine::effect::Effects;
use crate::engine::keys::Read;
use crate::engine::notify::Event;
use crate::engine::{Engine, SHARDS, Scope};

/// See the file's head.
#[derive(Default)]
pub(crate) struct Aside {
    effects: Vec<Effects>,
    events: Vec<Event>,
    touched: Vec<Place>,
    is_discarded: bool,
}

impl Aside {
    /// Whether a long run has lent its locks before.
    pub(crate) fn is_used(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Takes what a view that holds all shards has recorded, shuts the keyspace and lets its locks go.
    pub(crate) fn lend(&mut self, mut view: Read<'_>) {
        self.take(&mut view);
        view.engine.solo().shut();
    }

    fn take(&mut self, view: &mut Read<'_>) {
        self.effects.resize_with(SHARDS, Effects::default);
        view.held.each_reached(|number, shard| shard.log.set_aside(&mut self.effects[number]));
        self.touched.append(&mut view.take_touched());
        self.events.append(&mut view.events);
    }

    /// Files all that was set aside as what this view recorded, and opens the keyspace to others once the view lets it go.
    pub(crate) fn file(&mut self, view: &mut Read<'_>) {
        if self.is_discarded {
            self.discard(view);
        }
        for (number, effects) in self.effects.drain(..).enumerate().filter(|(_, effects)| !effects.is_empty()) {
            view.held.get(number).log.file(&effects);
        }
        self.touched.append(&mut view.take_touched());
        self.events.append(&mut view.events);
        mem::swap(&mut self.events, &mut view.events);
        self.touched.append(&mut view.engine.solo().open());
    }

    /// Forgets what was recorded, and what will be: the process ends, and half of a run must not be in the journal.
    pub(crate) fn discard(&mut self, view: &mut Read<'_>) {
        self.take(view);
        self.effects.iter_mut().for_each(|effects| *effects = Effects::default());
        self.is_discarded = true;
    }

    /// The keys that were touched at which someone waits, those of the view among them.
    pub(crate) fn touched(&mut self, view: &mut Read<'_>) -> Vec<Place> {
        let mut touched = mem::take(&mut self.touched);
        touched.append(&mut view.take_touched());
        touched
    }
}

impl Engine {
    /// All shards for the run that lent them.
    pub(crate) fn take_again(&self, db: u8, now: u64) -> Read<'_> {
        self.view_beside(db, now, Scope::Everything)
    }
}
