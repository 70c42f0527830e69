//! Folding: what a span of the journal did to each key, coalesced, so that the tables are told once of a key that
//! changed a million times.

pub(crate) mod journaled;
mod key;
mod moves;
mod samples;

use std::collections::HashMap;
use std::mem;

use crate::engine::dict::{self, Dict};
use crate::engine::effect::Effect;
use crate::engine::persist::{Error, batch};
use crate::engine::shard::STORED;
use crate::engine::value::{BadRow, Kind};
use crate::storage::journal::Origin;

pub use journaled::Journaled;
pub(crate) use key::{ChangedRow, KeyFold, Keyed, Moved, RowBytes, RowsFold, write_into, write_range};
pub use moves::Moves;
pub(crate) use samples::Samples;

/// What became of the keyspace over a span of the journal.
#[derive(Default)]
pub struct Fold {
    /// By the number a database is stored under.
    pub(crate) databases: [DatabaseFold; STORED],
    /// The last database map that was set.
    pub(crate) stored: Option<u64>,
    /// Where the effects stand.
    journaled: Journaled,
    /// Bytes this takes in memory, roughly.
    bytes: usize,
    /// Keys before this one, and those from this one on, are not looked at.
    from: Option<Place>,
    below: Option<Place>,
    /// Some of what changed, of all there is, where they are asked for.
    samples: Option<Samples>,
    /// From which keys values went to which, in this order, unless that is known.
    moves: Moves,
    knows_moves: bool,
    /// Of keys whose values went to others: the first of those that are looked at.
    leads: HashMap<Place, Place>,
    /// Values that were given and not yet taken, and which key gave them.
    parcels: HashMap<u64, (Place, KeyFold)>,
    limit: Option<Limit>,
}

/// How many bytes a fold may take, and from how many on it is halved.
struct Limit {
    bytes_max: usize,
    halved_at: usize,
}

/// Where a key stands among all: by its database, then by its bytes.
pub(crate) type Place = (u8, Vec<u8>);

/// Keys looked at to find the middle of all.
const LOOKED_AT: usize = 4096;

/// A shard's effects in a batch.
struct Section<'b> {
    shard: u8,
    effects: &'b [u8],
    origin: Option<Origin>,
}

/// What became of one database.
#[derive(Default)]
pub(crate) struct DatabaseFold {
    /// Whether all it held before the span is gone.
    pub is_flushed: bool,
    /// What became of its keys.
    pub keys: Dict<Keyed>,
}

impl DatabaseFold {
    /// What became of its keys, in the order of these.
    pub(crate) fn sorted(&self) -> Vec<&Keyed> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        keys
    }
}

impl Fold {
    /// A fold that looks at keys from this one on, and maybe only at those before another; and at those from where their values came, for
    /// which it must be told of all moves of the span.
    pub fn between(from: Option<Place>, below: Option<Place>, moves: &Moves) -> Fold {
        let leads = moves.leads(from.as_ref().unwrap_or(&(0, Vec::new())));
        Fold { from, below, leads, knows_moves: true, ..Fold::default() }
    }

    /// The same fold, halved whenever it takes more than so many bytes.
    pub(crate) fn within(self, bytes_max: usize) -> Fold {
        Fold { limit: Some(Limit { bytes_max, halved_at: bytes_max }), ..self }
    }

    /// The same fold, which leaves long values in the journal that its batches are from.
    pub fn from_journal(self, journaled: Journaled) -> Fold {
        Fold { journaled, ..self }
    }

    /// The journal in which it left values.
    pub(crate) fn journaled(&self) -> &Journaled {
        &self.journaled
    }

    /// A fold that takes samples of all keys.
    pub(crate) fn sampling() -> Fold {
        Fold { samples: Some(Samples::default()), ..Fold::default() }
    }

    /// The samples that were taken.
    pub(crate) fn take_samples(&mut self) -> Option<Samples> {
        self.samples.take()
    }

    /// Bytes this takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes it tells of, roughly: those it takes, and what it left in the journal.
    pub(crate) fn told_bytes(&self) -> usize {
        self.bytes + self.keyed().map(|(_, keyed)| keyed.fold.rows.left_bytes()).sum::<usize>()
    }

    /// How much it takes to know from which keys values went to which.
    pub(crate) fn moves_bytes(&self) -> usize {
        self.moves.bytes()
    }

    /// From which keys values went to which.
    pub fn take_moves(&mut self) -> Moves {
        mem::take(&mut self.moves)
    }

    /// Forgets the keys that were looked at only for their values, which went to others.
    pub fn forget_others(&mut self) {
        for (from, _) in mem::take(&mut self.leads) {
            if !self.looks_at(from.0, &from.1)
                && let Some(database) = self.databases.get_mut(usize::from(from.0))
            {
                database.keys.remove_key(&from.1);
            }
        }
    }

    /// The first key this does not tell of any more; None if it tells of all there are.
    pub fn below(&self) -> Option<&Place> {
        self.below.as_ref()
    }

    /// How many keys this tells of.
    pub fn key_count(&self) -> usize {
        self.databases.iter().map(|database| database.keys.len()).sum()
    }

    /// Where a key counts as standing: where the first key is that it is looked at for.
    fn place<'k>(&'k self, db: u8, key: &'k [u8]) -> (u8, &'k [u8]) {
        if self.leads.is_empty() {
            return (db, key);
        }
        self.leads.get(&(db, key.to_vec())).map_or((db, key), |(db, key)| (*db, key))
    }

    fn looks_at(&self, db: u8, key: &[u8]) -> bool {
        let (db, key) = self.place(db, key);
        self.from.as_ref().is_none_or(|(from_db, from)| (*from_db, &**from) <= (db, key))
            && self.below.as_ref().is_none_or(|(below_db, below)| (db, key) < (*below_db, &**below))
    }

    /// Forgets the later half of the keys and looks at them no more; false if there is only one. Where one key takes more than the
    /// others together, it is parted from them.
    pub fn halve(&mut self) -> bool {
        let Some(below) = self.largest_end().or_else(|| self.middle()) else { return false };
        self.below = Some(below);
        for db in 0..STORED {
            for at in (0..self.databases[db].keys.len() as u32).rev() {
                if !self.looks_at(db as u8, &self.databases[db].keys.at(at).key) {
                    self.databases[db].keys.remove(at);
                }
            }
        }
        self.bytes = self.counted();
        true
    }

    /// What [`Self::bytes`] must be.
    fn counted(&self) -> usize {
        let keys: usize = self.keyed().map(|(_, keyed)| keyed.bytes()).sum();
        keys + self.parcels.values().map(|(_, fold)| fold.rows.bytes()).sum::<usize>()
    }

    /// Forgets keys where this takes more than it may.
    fn shrink(&mut self) {
        let Some(Limit { bytes_max, halved_at }) = self.limit else { return };
        if self.bytes <= bytes_max {
            self.limit = Some(Limit { bytes_max, halved_at: bytes_max });
        }
        if self.bytes <= halved_at {
            return;
        }
        while self.bytes > bytes_max && self.halve() {}
        // One key may take more than all may; it is not measured again for each batch.
        let halved_at = if self.bytes > bytes_max { self.bytes + bytes_max / 8 } else { bytes_max };
        self.limit = Some(Limit { bytes_max, halved_at });
    }

    /// All keys, each with where it counts as standing.
    fn keyed(&self) -> impl Iterator<Item = ((u8, &[u8]), &Keyed)> {
        let databases = self.databases.iter().enumerate();
        let keyed = databases.flat_map(|(db, database)| database.keys.iter().map(move |keyed| (db as u8, keyed)));
        keyed.map(|(db, keyed)| (self.place(db, &keyed.key), keyed))
    }

    /// Where a key that takes more than half of all begins, or, if it is the first, ends. Halving by number would come to it only
    /// after many times, and the journal is read for each.
    fn largest_end(&self) -> Option<Place> {
        let (largest, _) = self.keyed().find(|(_, keyed)| keyed.bytes() > self.bytes / 2)?;
        let places = || self.keyed().map(|(place, _)| place);
        let end =
            if places().any(|place| place < largest) { Some(largest) } else { places().filter(|place| *place > largest).min() };
        end.map(|(db, key)| (db, key.to_vec()))
    }

    fn middle(&self) -> Option<Place> {
        let step = (self.key_count() / LOOKED_AT).max(1);
        let mut samples: Vec<(u8, &[u8])> = self.keyed().step_by(step).map(|(place, _)| place).collect();
        samples.sort_unstable();
        let middle = samples.len() / 2;
        let below = samples.iter().skip(middle).find(|place| **place > samples[0])?;
        Some((below.0, below.1.to_vec()))
    }

    /// Adds batches of the journal, in their order.
    ///
    /// Of batches of the same run all sections of one shard are added before those of the next: what one shard holds
    /// stays in the processor's cache then, which is worth half the time.
    pub fn add_batches(&mut self, batches: &[&[u8]]) -> Result<(), Error> {
        self.add(batches.iter().map(|bytes| (*bytes, None)))
    }

    /// The same for batches of which it is known where they stand in the journal.
    pub fn add<'b>(&mut self, batches: impl Iterator<Item = (&'b [u8], Option<Origin>)>) -> Result<(), Error> {
        let mut stretch: Vec<Section<'b>> = Vec::new();
        let mut run = None;
        for (bytes, origin) in batches {
            let batch = batch::read(bytes)?;
            if batch.meet || run.is_some_and(|run| run != batch.run) {
                self.add_stretch(&mut stretch)?;
            }
            run = Some(batch.run);
            if batch.meet {
                self.journaled.set_origin(origin);
                batch::each_in_order(&batch.sections, |effect| self.add_meeting(effect))?;
                // What is left was dropped with its database.
                let left = mem::take(&mut self.parcels);
                self.bytes -= left.values().map(|(_, fold)| fold.rows.bytes()).sum::<usize>();
            } else {
                stretch.extend(batch.sections.into_iter().map(|(shard, effects)| Section { shard, effects, origin }));
            }
        }
        self.add_stretch(&mut stretch)?;
        debug_assert_eq!(self.bytes, self.counted(), "what it takes is counted as it changes");
        self.shrink();
        Ok(())
    }

    fn add_stretch(&mut self, stretch: &mut Vec<Section<'_>>) -> Result<(), Error> {
        // Sorting keeps the order of the same shard's sections.
        stretch.sort_by_key(|section| section.shard);
        stretch.drain(..).try_for_each(|section| {
            self.journaled.set_origin(section.origin);
            batch::each_effect(section.effects, |effect| self.add_effect(effect))
        })
    }

    /// Adds an effect of a batch whose sections meet.
    fn add_meeting(&mut self, effect: Effect<'_>) -> Result<(), Error> {
        match effect {
            Effect::Flush { db } => {
                let database = self.databases.get_mut(usize::from(db)).ok_or(BadRow::Bytes)?;
                self.bytes -= database.keys.iter().map(Keyed::bytes).sum::<usize>();
                *database = DatabaseFold { is_flushed: true, keys: Dict::default() };
                Ok(())
            }
            Effect::Give { db, key, parcel } => Ok(self.fill(db, key, parcel, |fold| (mem::replace(fold, KeyFold::gone()), 0))?),
            Effect::Copy { db, key, parcel } => {
                self.fill(db, key, parcel, |fold| {
                    let copy = fold.clone();
                    let bytes = copy.rows.bytes();
                    (copy, bytes)
                })?;
                // The journal has a word of it, and here it is as long as it is.
                self.shrink();
                Ok(())
            }
            Effect::Take { db, key, kind, expire_at, parcel } => Ok(self.open(db, key, kind, expire_at, parcel)?),
            other => self.add_effect(other),
        }
    }

    /// Puts into a parcel what is taken out of what became of a key, which takes so many bytes more than before.
    fn fill(
        &mut self,
        db: u8,
        key: &[u8],
        parcel: u64,
        take: impl FnOnce(&mut KeyFold) -> (KeyFold, usize),
    ) -> Result<(), BadRow> {
        let place = (db, key.to_vec());
        self.sample(db, key);
        let fold = if self.looks_at(db, key) {
            let (mut fold, more) = take(self.key(db, key)?.0);
            self.bytes += more;
            self.bytes += fold.leave(&place);
            fold
        } else {
            KeyFold::gone()
        };
        if self.parcels.insert(parcel, (place, fold)).is_some() {
            return Err(BadRow::Bytes);
        }
        Ok(())
    }

    /// Makes what is in a parcel what became of a key.
    fn open(&mut self, db: u8, key: &[u8], kind: Kind, expire_at: u64, parcel: u64) -> Result<(), BadRow> {
        let (from, mut fold) = self.parcels.remove(&parcel).ok_or(BadRow::Bytes)?;
        self.sample(db, key);
        if !self.knows_moves {
            self.moves.push(from, (db, key.to_vec()));
        }
        if !self.looks_at(db, key) {
            self.bytes -= fold.rows.bytes();
            return Ok(());
        }
        fold.arrive(kind, expire_at)?;
        self.replace(db, key, fold)
    }

    /// Maybe takes a sample.
    fn sample(&mut self, db: u8, key: &[u8]) {
        if let Some(samples) = &mut self.samples {
            samples.note_key(db, key);
        }
    }

    /// Sets what became of a key, whatever that was; the rows count already.
    fn replace(&mut self, db: u8, key: &[u8], fold: KeyFold) -> Result<(), BadRow> {
        let before = mem::replace(self.key(db, key)?.0, fold);
        self.bytes -= before.rows.bytes();
        Ok(())
    }

    fn add_effect(&mut self, effect: Effect<'_>) -> Result<(), Error> {
        if let (Some(db), Some(key)) = (effect.db(), effect.key()) {
            if let Some(samples) = &mut self.samples {
                samples.note(&effect);
            }
            if !self.looks_at(db, key) {
                return Ok(());
            }
        }
        match effect {
            // Only where sections meet.
            Effect::Flush { .. } | Effect::Give { .. } | Effect::Copy { .. } | Effect::Take { .. } => {
                return Err(BadRow::Bytes.into());
            }
            Effect::Map { stored } => self.stored = Some(stored),
            Effect::Remove { db, key } => {
                self.replace(db, key, KeyFold::gone())?;
            }
            Effect::Expire { db, key, expire_at } => {
                self.key(db, key)?.0.expire(expire_at);
            }
            Effect::Put { db, key, kind, expire_at, rows } => {
                let (fold, journaled) = self.key(db, key)?;
                let before = fold.rows.bytes();
                fold.put(kind, expire_at, rows, journaled);
                let after = fold.rows.bytes();
                self.bytes = self.bytes + after - before;
            }
            Effect::Change { db, key, kind, rows } => {
                let (fold, journaled) = self.key(db, key)?;
                fold.make(kind);
                let grown = fold.change(rows, journaled)?;
                self.bytes = self.bytes.wrapping_add_signed(grown);
            }
            Effect::WriteAt { db, key, offset, bytes } => {
                let (fold, journaled) = self.key(db, key)?;
                fold.make(Kind::String);
                let grown = fold.rows.write_at(fold.is_fresh, offset, bytes, journaled)?;
                self.bytes += grown;
            }
        }
        Ok(())
    }

    #[inline]
    fn key(&mut self, db: u8, key: &[u8]) -> Result<(&mut KeyFold, &Journaled), BadRow> {
        let database = self.databases.get_mut(usize::from(db)).ok_or(BadRow::Bytes)?;
        let hash = dict::hash(key) as u32;
        let at = match database.keys.find(hash, key) {
            Some(at) => at,
            None => {
                let keyed = Keyed::new(key, database.is_flushed);
                self.bytes += keyed.bytes();
                database.keys.insert_new(hash, keyed)
            }
        };
        Ok((&mut database.keys.at_mut(at).fold, &self.journaled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cut, effect};

    /// A fold of keys that take about these many bytes.
    fn of(sizes: &[(&str, usize)]) -> Fold {
        let mut fold = Fold::default();
        for (key, bytes) in sizes {
            fold.key(0, key.as_bytes()).unwrap().0.rows = RowsFold::Text(vec![0; *bytes]);
        }
        fold.bytes = fold.counted();
        fold
    }

    fn keys(fold: &Fold) -> Vec<String> {
        let mut keys: Vec<String> = fold.keyed().map(|(_, keyed)| keyed.key.escape_ascii().to_string()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_key_larger_than_all_others_is_parted_from_them_at_once() {
        for (large, kept) in [("z", &["a", "b", "c", "d"][..]), ("b1", &["a", "b"]), ("A", &["A"])] {
            let mut fold = of(&[("a", 100), ("b", 100), ("c", 100), ("d", 100), (large, 100_000)]);
            assert!(fold.halve());
            assert_eq!(keys(&fold), kept);
        }
        assert!(!of(&[("A", 100_000)]).halve());
        let mut even = of(&[("a", 100), ("b", 100), ("c", 100), ("d", 100)]);
        assert!(even.halve());
        assert_eq!(keys(&even), ["a", "b"]);
    }

    type Push<'p> = &'p dyn Fn(&mut Vec<u8>);

    /// A batch of one shard with these effects.
    fn batch_of(is_meeting: bool, pushes: &[Push<'_>]) -> Vec<u8> {
        let mut effects = Vec::new();
        pushes.iter().for_each(|push| push(&mut effects));
        let mut cut = Cut { epoch: 1, shards: vec![(0, effects.into())] };
        if is_meeting {
            cut.shards[0].1.set_meet();
        }
        batch::Heads::new(&cut, 1).pieces(&cut).concat()
    }

    fn put(to: &mut Vec<u8>, key: &str, bytes: &[u8]) {
        effect::push_put(to, 0, key.as_bytes(), Kind::String, 0);
        effect::push_row(to, b"", bytes);
        effect::push_end(to);
    }

    #[test]
    fn a_key_takes_the_room_of_its_last_value_however_often_it_got_another() {
        let value = vec![7; 100_000];
        let renamed = batch_of(
            true,
            &[&|to| put(to, "new", &value), &|to| effect::push_give(to, 0, b"new", 1), &|to| {
                effect::push_take(to, 0, b"key", Kind::String, 0, 1)
            }],
        );
        let removed = batch_of(false, &[&|to| put(to, "other", &value), &|to| effect::push_remove(to, 0, b"other")]);
        let flushed = batch_of(
            true,
            &[
                &|to| effect::push_put(to, 1, b"gone", Kind::Hash, 0),
                &|to| effect::push_row(to, b"field", &value),
                &|to| effect::push_end(to),
                &|to| effect::push_change(to, 1, b"gone", Kind::Hash),
                &|to| effect::push_row(to, b"field", &value[1..]),
                &|to| effect::push_end(to),
                &|to| effect::push_flush(to, 1),
            ],
        );
        let mut fold = Fold::sampling().within(1 << 20);
        for _ in 0..100 {
            fold.add_batches(&[&renamed, &removed, &flushed]).unwrap();
        }
        assert_eq!((fold.below(), fold.bytes() / 100_000), (None, 1));
    }

    #[test]
    fn copies_within_one_batch_take_no_more_than_a_fold_may() {
        const BYTES_MAX: usize = 1 << 20;
        let value = vec![7; 100_000];
        let mut effects = Vec::new();
        put(&mut effects, "key", &value);
        for number in 0..1000 {
            effect::push_copy(&mut effects, 0, b"key", number);
            effect::push_take(&mut effects, 0, format!("copy:{number:04}").as_bytes(), Kind::String, 0, number);
        }
        let (mut all, mut from, moves) = (Vec::new(), None, moves_of(&effects));
        loop {
            let mut fold = Fold::between(from, None, &moves).within(BYTES_MAX);
            batch::each_in_order(&[(0, &effects)], |effect| {
                fold.add_meeting(effect)?;
                assert!(fold.bytes() <= BYTES_MAX + 2 * value.len(), "{}", fold.bytes());
                Ok::<_, Error>(())
            })
            .unwrap();
            fold.forget_others();
            assert!(fold.keyed().all(|(_, keyed)| keyed.fold.rows.bytes() >= value.len()));
            all.extend(keys(&fold));
            from = match fold.below() {
                Some(below) => Some(below.clone()),
                None => break,
            };
        }
        assert_eq!(all.len(), 1001);
        assert!(all.is_sorted_by(|one, next| one < next));
    }

    fn moves_of(effects: &[u8]) -> Moves {
        let mut fold = Fold::default();
        batch::each_in_order(&[(0, effects)], |effect| fold.add_meeting(effect)).unwrap();
        fold.take_moves()
    }

    /// How many changes there seem to be of all, going by samples, where a fold holds but a part.
    fn sampled(batches: &[Vec<u8>]) -> (u64, bool) {
        let mut fold = Fold::sampling().within(100_000);
        batches.iter().for_each(|batch| fold.add_batches(&[batch]).unwrap());
        (fold.take_samples().unwrap().changes(), fold.below().is_some())
    }

    #[test]
    fn samples_tell_about_how_much_changed_however_often_and_however_little_of_it_is_held() {
        let told = |keys: usize, per_key: usize, times: usize| {
            let change = |to: &mut Vec<u8>, number: usize| {
                effect::push_change(to, 0, format!("key:{number}").as_bytes(), Kind::Hash);
                (0..per_key).for_each(|row| effect::push_row(to, format!("{number}.{row}").as_bytes(), &[7; 50]));
                effect::push_end(to);
            };
            let batch = batch_of(false, &[&|to| (0..keys).for_each(|number| change(to, number))]);
            sampled(&vec![batch; times])
        };
        for (keys, per_key, expected) in [(40_000, 1, 40_000), (20_000, 5, 20_000), (4, 10_000, 40_000)] {
            for times in [1, 4] {
                let (changes, is_part) = told(keys, per_key, times);
                assert!(is_part);
                assert!(
                    (expected / 2..expected * 2).contains(&changes),
                    "{keys} keys, {per_key} rows of each: {changes} of {expected}"
                );
            }
        }
    }
}
