//! Applying: what a span of the journal did to each key is written into the tables, in one transaction that also says
//! how far the tables are now good.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use crate::engine::effect::{self, Row};
use crate::engine::persist::Error;
use crate::engine::persist::chunk::{self, Bytes, Told};
use crate::engine::persist::fold::{DatabaseFold, Fold, Journaled, KeyFold, Keyed, Moved, Place, RowsFold, write_into};
use crate::engine::persist::record::{Body, Large, Packed, Record, SEGMENT_BYTES, SMALL_BYTES_MAX, push_packed, segment_key};
use crate::engine::value::{BadRow, Kind};
use crate::storage::journal::Span;
use crate::storage::tables::{DATABASES, Filling, KeyRow, KeyRows, Meta, Snapshot, Stored, StoredMut};
use crate::storage::{Disk, Sum, Tables};

/// Writes a fold into the tables, which then cover the journal up to `covered`.
pub fn apply(tables: &Tables, fold: &Fold, covered: u64) -> Result<(), Error> {
    let mut next = Some(fold);
    change(tables, covered, || Ok(next.take()))
}

/// Changes the tables where they are. The folds come in the order of their keys, all of the same span.
pub fn change<F: Borrow<Fold>>(
    tables: &Tables,
    covered: u64,
    mut folds: impl FnMut() -> Result<Option<F>, Error>,
) -> Result<(), Error> {
    let old = tables.snapshot()?;
    let mut meta = Meta { covered, ..old.meta()? };
    tables.write(|changes| {
        let mut is_first = true;
        while let Some(fold) = folds()? {
            let fold = fold.borrow();
            meta.stored = fold.stored.or(meta.stored);
            for (db, database) in fold.databases.iter().enumerate() {
                if database.is_flushed && is_first {
                    changes.drop_database(db as u8)?;
                }
                if database.keys.is_empty() {
                    continue;
                }
                let kept = kept(&old, db as u8, database)?;
                let stored = changes.database(db as u8)?;
                let mut writer = Writer { kept, ..Writer::new(stored, &old, fold.journaled(), &mut meta.next_id) };
                // In the order of the table: each of its pages is visited once.
                for keyed in database.sorted() {
                    writer.write(keyed)?;
                }
            }
            is_first = false;
        }
        changes.set_meta(meta);
        Ok(())
    })
}

/// Large values whose rows stay where they are though they get another key of their database: by their ids, those keys.
fn kept(old: &Snapshot, db: u8, database: &DatabaseFold) -> Result<HashMap<u64, Vec<u8>>, Error> {
    let mut kept = HashMap::new();
    // A database that is dropped has no rows any more.
    if database.is_flushed {
        return Ok(kept);
    }
    for keyed in database.keys.iter() {
        let RowsFold::Moved(moved) = &keyed.fold.rows else { continue };
        let is_left = || database.keys.get(&moved.from.1).is_some_and(|keyed| keyed.fold.is_fresh);
        if moved.from.0 == db
            && is_left()
            && let Some(stored) = old.database(db)?
            && let Some(Some(id)) = stored.key(&moved.from.1, id_of)?
        {
            kept.insert(id, keyed.key.to_vec());
        }
    }
    Ok(kept)
}

/// Writes the tables anew, with what the folds change: where that is much, it is less than all the pages that would change.
/// The folds come in the order of their keys, all of the same span.
pub fn rebuild<F: Borrow<Fold>>(
    old: &Tables,
    disk: &dyn Disk,
    cache_bytes: usize,
    covered: u64,
    mut folds: impl FnMut() -> Result<Option<F>, Error>,
) -> Result<Tables, Error> {
    let snapshot = old.snapshot()?;
    let (flushed, journaled) = ([false; DATABASES], Journaled::default());
    let mut merge = Merge { snapshot: &snapshot, old: snapshot.keys(), flushed, journaled, next_id: 1 };
    let mut meta = snapshot.meta()?;
    Tables::rebuild(disk, old.path(), cache_bytes, |filling| {
        while let Some(fold) = folds()? {
            let fold = fold.borrow();
            meta.stored = fold.stored.or(meta.stored);
            merge.flushed = fold.databases.each_ref().map(|database| database.is_flushed);
            merge.journaled = fold.journaled().clone();
            let mut changed = Vec::with_capacity(fold.databases.iter().map(|database| database.keys.len()).sum());
            for (db, database) in fold.databases.iter().enumerate() {
                changed.extend(database.sorted().into_iter().map(|keyed| (db as u8, keyed)));
            }
            merge.run(filling, &changed, false)?;
        }
        merge.run(filling, &[], true)?;
        Ok(Meta { covered, next_id: merge.next_id, ..meta })
    })
}

/// The keys that were there and those that changed, in one order.
struct Merge<'s> {
    snapshot: &'s Snapshot,
    old: KeyRows<'s>,
    flushed: [bool; DATABASES],
    /// Where values are that were left in the journal.
    journaled: Journaled,
    next_id: u64,
}

/// Which of the two comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Old,
    Changed,
    Both,
}

type ChangedKeys<'f> = [(u8, &'f Keyed)];

impl Merge<'_> {
    /// Writes what comes before the last of these keys, or all that is left.
    fn run(&mut self, filling: &mut Filling, mut changed: &ChangedKeys<'_>, is_last: bool) -> Result<(), Error> {
        while let Some((db, _)) = self.next(changed, is_last)? {
            filling.part(|changes| {
                let mut next_id = self.next_id;
                let stored = changes.database_in_order(db)?;
                let journaled = self.journaled.clone();
                let mut writer = Writer::new(stored, self.snapshot, &journaled, &mut next_id);
                while let Some((next_db, next)) = self.next(changed, is_last)?
                    && next_db == db
                    && !writer.stored.is_full()
                {
                    self.write(&mut writer, next, &mut changed)?;
                }
                writer.stored.finish()?;
                self.next_id = next_id;
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }

    fn next(&mut self, changed: &ChangedKeys<'_>, is_last: bool) -> Result<Option<(u8, Next)>, Error> {
        while let Some(row) = self.old.peek()?
            && self.flushed[usize::from(row.db)]
        {
            self.old.skip_database();
        }
        let old = self.old.peek()?.map(|row| (row.db, &*row.key));
        let changed = changed.first().map(|(db, keyed)| (*db, &*keyed.key));
        Ok(match (old, changed) {
            (None, None) => None,
            (Some((db, _)), None) => is_last.then_some((db, Next::Old)),
            (None, Some((db, _))) => Some((db, Next::Changed)),
            (Some(old), Some(changed)) => Some(match old.cmp(&changed) {
                Ordering::Less => (old.0, Next::Old),
                Ordering::Equal => (old.0, Next::Both),
                Ordering::Greater => (changed.0, Next::Changed),
            }),
        })
    }

    fn write(&mut self, writer: &mut Writer<'_, '_>, next: Next, changed: &mut &ChangedKeys<'_>) -> Result<(), Error> {
        let old = if next == Next::Changed { None } else { self.old.take()? };
        let keyed = if next == Next::Old { None } else { changed.split_off_first().map(|(_, keyed)| *keyed) };
        match (old, keyed) {
            (Some(old), None) => {
                let record = writer.carry(self.old.stored(), &old)?;
                writer.stored.put_key(&old.key, &record, |_| ())?;
            }
            (old, Some(keyed)) => {
                // What a fresh key held counts no more.
                let old = old.filter(|_| !keyed.fold.is_fresh);
                let before = old.map(|old| writer.carry(self.old.stored(), &old)).transpose()?;
                writer.stored.set_before(before);
                writer.write(keyed)?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}

struct Writer<'t, 'i> {
    stored: StoredMut<'t>,
    /// The tables before any of this.
    old: &'i Snapshot,
    /// Where values are that were left in the journal.
    journaled: &'i Journaled,
    /// See [`kept`].
    kept: HashMap<u64, Vec<u8>>,
    next_id: &'i mut u64,
    /// Where records are put together.
    record: Vec<u8>,
}

/// What the tables held of a key.
struct Before {
    kind: Kind,
    expire_at: u64,
    value: BeforeValue,
}

enum BeforeValue {
    Small(Vec<u8>),
    Large(Large),
}

impl Before {
    fn read(bytes: &[u8]) -> Result<Before, BadRow> {
        let record = Record::read(bytes)?;
        let value = match record.body {
            Body::Small(bytes) => BeforeValue::Small(bytes.to_vec()),
            Body::Large(large) => BeforeValue::Large(large),
        };
        Ok(Before { kind: record.kind, expire_at: record.expire_at, value })
    }
}

impl<'t, 'i> Writer<'t, 'i> {
    fn new(stored: StoredMut<'t>, old: &'i Snapshot, journaled: &'i Journaled, next_id: &'i mut u64) -> Writer<'t, 'i> {
        Writer { stored, old, journaled, kept: HashMap::new(), next_id, record: Vec::new() }
    }

    fn write(&mut self, keyed: &Keyed) -> Result<(), Error> {
        self.write_fold(&keyed.key, &keyed.fold).map_err(|error| error.of_key(&keyed.key))
    }

    /// The record of a key that stays. The rows of a large value come along, under an id in the order of the keys.
    fn carry(&mut self, from: Option<&Stored>, old: &KeyRow) -> Result<Vec<u8>, Error> {
        let record = Record::read(&old.record)?;
        let (Some(from), Body::Large(before)) = (from, record.body) else { return Ok(old.record.clone()) };
        let large = self.carry_rows(from, before).map_err(|error| error.of_key(&old.key))?;
        let mut bytes = Vec::new();
        Record { body: Body::Large(large), ..record }.write(&mut bytes);
        Ok(bytes)
    }

    /// The rows of a large value, under another id.
    fn carry_rows(&mut self, from: &Stored, before: Large) -> Result<Large, Error> {
        let mut large = Large { count: before.count, ..self.fresh(0) };
        let stored = &mut self.stored;
        from.each_element(before.id, before.sum, |element, bytes| stored.put_element(large.id, element, bytes, &mut large.sum))?;
        Ok(large)
    }

    fn write_fold(&mut self, key: &[u8], fold: &KeyFold) -> Result<(), Error> {
        match (fold.is_fresh, fold.kind) {
            (true, None) => self.remove(key),
            (true, Some(kind)) => match &fold.rows {
                RowsFold::Moved(moved) => self.write_moved(key, kind, fold, moved),
                rows => self.write_fresh(key, kind, fold.expire_at().unwrap_or(0), rows),
            },
            (false, kind) => self.write_changed(key, kind, fold),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Error> {
        if let Some(Some(id)) = self.stored.remove_key(key, id_of)?
            && !self.kept.contains_key(&id)
        {
            self.stored.remove_elements(id)?;
        }
        Ok(())
    }

    fn write_fresh(&mut self, key: &[u8], kind: Kind, expire_at: u64, rows: &RowsFold) -> Result<(), Error> {
        match rows {
            RowsFold::Short(text) => self.put_text(key, expire_at, text),
            RowsFold::Text(text) => self.put_text(key, expire_at, text),
            RowsFold::TextAt(span) => self.put_text_at(key, expire_at, *span),
            RowsFold::Whole(whole) => self.put_whole(key, kind, expire_at, whole),
            RowsFold::WholeAt(span) => self.put_whole(key, kind, expire_at, &self.journaled.read(*span)?),
            RowsFold::Changed(changed) => {
                let rows = chunk::sorted(changed).into_iter().filter(|(_, bytes)| bytes.is_some()).collect();
                self.put_rows(key, kind, expire_at, rows)
            }
            RowsFold::None => self.put_rows(key, kind, expire_at, Vec::new()),
            // A fresh string is folded into its text, and what another key held is written elsewhere.
            RowsFold::Writes(_) | RowsFold::Moved(_) => Err(BadRow::Bytes.into()),
        }
    }

    fn put_whole(&mut self, key: &[u8], kind: Kind, expire_at: u64, whole: &[u8]) -> Result<(), Error> {
        let row = |row| if let Row::Put(element, bytes) = row { Some((element, Some(Bytes::Here(bytes)))) } else { None };
        self.put_rows(key, kind, expire_at, effect::Rows::again(whole).filter_map(row).collect())
    }

    /// A key that holds what another one held in the tables.
    fn write_moved(&mut self, key: &[u8], kind: Kind, fold: &KeyFold, moved: &Moved) -> Result<(), Error> {
        match (self.held(key, &moved.from)?, &moved.rows) {
            (Some(before), rows) => self.write_over(key, before, Some(kind), fold.expire_at().unwrap_or(moved.expire_at), rows),
            // An accepted loss took it, and all that is left is what has changed since.
            (None, RowsFold::None) => self.remove(key),
            (None, rows) => self.write_made(key, kind, fold.expire_at_alone(), rows),
        }
    }

    /// What another key held before any of this, with rows that are this one's.
    fn held(&mut self, key: &[u8], from: &Place) -> Result<Option<Before>, Error> {
        let Some(stored) = self.old.database(from.0)? else { return Ok(None) };
        let Some(mut before) = stored.key(&from.1, Before::read)?.transpose()? else { return Ok(None) };
        if let BeforeValue::Large(large) = &mut before.value
            && self.kept.get(&large.id).is_none_or(|owner| owner != key)
        {
            *large = self.carry_rows(&stored, *large).map_err(|error| error.of_key(&from.1))?;
        }
        Ok(Some(before))
    }

    fn write_changed(&mut self, key: &[u8], kind: Option<Kind>, fold: &KeyFold) -> Result<(), Error> {
        let Some(before) = self.before(key)? else {
            // A key that only got a new expiry, and is not there: nothing says what it would hold.
            let Some(kind) = kind else { return Ok(()) };
            return self.write_made(key, kind, fold.expire_at_alone(), &fold.rows);
        };
        let expire_at = fold.expire_at().unwrap_or(before.expire_at);
        self.write_over(key, before, kind, expire_at, &fold.rows)
    }

    /// Changes what the tables hold.
    fn write_over(
        &mut self,
        key: &[u8],
        before: Before,
        kind: Option<Kind>,
        expire_at: u64,
        rows: &RowsFold,
    ) -> Result<(), Error> {
        if kind.is_some_and(|kind| kind != before.kind) {
            return Err(BadRow::Bytes.into());
        }
        match rows {
            RowsFold::None => self.put_expiry(key, before, expire_at),
            RowsFold::Writes(writes) => self.write_text(key, before, expire_at, writes),
            RowsFold::Changed(changed) => self.change_rows(key, before, expire_at, &chunk::sorted(changed)),
            RowsFold::Short(text) => self.put_text(key, expire_at, text),
            RowsFold::Text(text) => self.put_text(key, expire_at, text),
            RowsFold::TextAt(span) => self.put_text_at(key, expire_at, *span),
            RowsFold::Whole(_) | RowsFold::WholeAt(_) | RowsFold::Moved(_) => Err(BadRow::Bytes.into()),
        }
    }

    /// A key that the tables do not know and that was made by changing it.
    fn write_made(&mut self, key: &[u8], kind: Kind, expire_at: u64, rows: &RowsFold) -> Result<(), Error> {
        let RowsFold::Writes(writes) = rows else { return self.write_fresh(key, kind, expire_at, rows) };
        let mut text = Vec::new();
        for (offset, bytes) in writes {
            write_into(&mut text, *offset, bytes)?;
        }
        self.put_text(key, expire_at, &text)
    }

    fn before(&self, key: &[u8]) -> Result<Option<Before>, Error> {
        Ok(self.stored.key(key, Before::read)?.transpose()?)
    }

    fn put_expiry(&mut self, key: &[u8], before: Before, expire_at: u64) -> Result<(), Error> {
        let body = match &before.value {
            BeforeValue::Small(bytes) => Body::Small(bytes),
            BeforeValue::Large(large) => Body::Large(*large),
        };
        self.put_record(key, Record { kind: before.kind, expire_at, body }, None)
    }

    fn put_text(&mut self, key: &[u8], expire_at: u64, text: &[u8]) -> Result<(), Error> {
        if text.len() <= SMALL_BYTES_MAX {
            return self.put_record(key, Record { kind: Kind::String, expire_at, body: Body::Small(text) }, None);
        }
        let mut large = self.fresh(text.len());
        for (number, segment) in text.chunks(SEGMENT_BYTES).enumerate() {
            self.stored.put_element(large.id, &segment_key(number), segment, &mut large.sum)?;
        }
        self.put_record(key, Record { kind: Kind::String, expire_at, body: Body::Large(large) }, Some(large.id))
    }

    /// The same with a text that was left in the journal, of which there is never more than a piece in memory.
    fn put_text_at(&mut self, key: &[u8], expire_at: u64, span: Span) -> Result<(), Error> {
        if span.len() <= SMALL_BYTES_MAX {
            return self.put_text(key, expire_at, &self.journaled.read(span)?);
        }
        let (mut large, mut number, stored) = (self.fresh(span.len()), 0, &mut self.stored);
        self.journaled.reading()?.each_piece(span, SEGMENT_BYTES, |segment| {
            stored.put_element(large.id, &segment_key(number), segment, &mut large.sum)?;
            number += 1;
            Ok::<_, Error>(())
        })?;
        self.put_record(key, Record { kind: Kind::String, expire_at, body: Body::Large(large) }, Some(large.id))
    }

    fn write_text(&mut self, key: &[u8], before: Before, expire_at: u64, writes: &[(u64, Vec<u8>)]) -> Result<(), Error> {
        let mut large = match before.value {
            BeforeValue::Small(mut text) => {
                for (offset, bytes) in writes {
                    write_into(&mut text, *offset, bytes)?;
                }
                return self.put_text(key, expire_at, &text);
            }
            BeforeValue::Large(large) => large,
        };
        for (offset, bytes) in writes {
            large.count = large.count.max(offset + bytes.len() as u64);
            self.write_segments(&mut large, *offset, bytes)?;
        }
        self.put_record(key, Record { kind: Kind::String, expire_at, body: Body::Large(large) }, Some(large.id))
    }

    /// Writes into a large string. Segments that were never written to are zero bytes, as are the missing ends of others.
    fn write_segments(&mut self, large: &mut Large, offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        let mut number = usize::try_from(offset / SEGMENT_BYTES as u64).map_err(|_| BadRow::Bytes)?;
        let mut at = (offset % SEGMENT_BYTES as u64) as usize;
        while !bytes.is_empty() {
            let (here, rest) = bytes.split_at(bytes.len().min(SEGMENT_BYTES - at));
            let segment_key = segment_key(number);
            let mut segment = self.stored.element(large.id, &segment_key)?.unwrap_or_default();
            write_into(&mut segment, at as u64, here)?;
            self.stored.put_element(large.id, &segment_key, &segment, &mut large.sum)?;
            (bytes, at, number) = (rest, 0, number + 1);
        }
        Ok(())
    }

    /// A key with rows that are all there.
    fn put_rows(&mut self, key: &[u8], kind: Kind, expire_at: u64, mut rows: Vec<Told<'_>>) -> Result<(), Error> {
        let mut lens = rows.iter().filter_map(|(element, bytes)| Some(bytes.as_ref()?.packed_bytes(element)));
        let is_small = lens.try_fold(0, |sum, len| Some(sum + len).filter(|sum| *sum <= SMALL_BYTES_MAX)).is_some();
        if is_small {
            let mut packed = Vec::new();
            chunk::each_window(self.journaled, &rows, |rows| {
                rows.iter().for_each(|(element, bytes)| push_packed(&mut packed, element, bytes.unwrap_or_default()));
                Ok(())
            })?;
            return self.put_record(key, Record { kind, expire_at, body: Body::Small(&packed) }, None);
        }
        rows.sort_unstable_by_key(|(element, _)| *element);
        let (mut large, stored) = (self.fresh(rows.len()), &mut self.stored);
        chunk::each_window(self.journaled, &rows, |rows| {
            let rows: Vec<chunk::Row<'_>> = rows.iter().filter_map(|(element, bytes)| Some((*element, (*bytes)?))).collect();
            chunk::write_new(stored, large.id, &rows, &mut large.sum)
        })?;
        self.put_record(key, Record { kind, expire_at, body: Body::Large(large) }, Some(large.id))
    }

    fn change_rows(&mut self, key: &[u8], before: Before, expire_at: u64, changes: &[Told<'_>]) -> Result<(), Error> {
        let kind = before.kind;
        match before.value {
            BeforeValue::Small(bytes) => {
                let rows = Packed(&bytes).map(|row| row.map(|(element, bytes)| (element, Some(Bytes::Here(bytes)))));
                let mut rows = rows.collect::<Result<BTreeMap<&[u8], Option<Bytes<'_>>>, BadRow>>()?;
                rows.extend(changes.iter().copied());
                rows.retain(|_, bytes| bytes.is_some());
                self.put_rows(key, kind, expire_at, rows.into_iter().collect())
            }
            BeforeValue::Large(mut large) => {
                let (mut more, stored) = (0, &mut self.stored);
                chunk::each_window(self.journaled, changes, |changes| {
                    more += chunk::change(stored, large.id, changes, &mut large.sum)?;
                    Ok(())
                })?;
                large.count = large.count.checked_add_signed(more).ok_or(BadRow::Bytes)?;
                self.put_record(key, Record { kind, expire_at, body: Body::Large(large) }, Some(large.id))
            }
        }
    }

    /// Sets a key's record; a large value it had, other than that with the id to keep, is removed.
    fn put_record(&mut self, key: &[u8], record: Record<'_>, keep: Option<u64>) -> Result<(), Error> {
        self.record.clear();
        record.write(&mut self.record);
        let keep = keep.or(record.id());
        let before = self.stored.put_key(key, &self.record, id_of)?.flatten();
        match before.filter(|id| Some(*id) != keep && !self.kept.contains_key(id)) {
            Some(id) => Ok(self.stored.remove_elements(id)?),
            None => Ok(()),
        }
    }

    /// A large value that has no rows yet.
    fn fresh(&mut self, count: usize) -> Large {
        let id = *self.next_id;
        *self.next_id += 1;
        Large { id, count: count as u64, sum: Sum::default() }
    }
}

fn id_of(record: &[u8]) -> Option<u64> {
    Record::read(record).ok()?.id()
}
