//! Reading tables: all of them at one moment, each row checked, and all of them counted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction};

use crate::storage::Error;
use crate::storage::caught::caught;
use crate::storage::rows::{Kind, Sum, Table, without_checksum};
use crate::storage::tables::changing::Run;
use crate::storage::tables::given::Given;
use crate::storage::tables::state::{Meta, State};
use crate::storage::tables::{
    DATABASES, Filling, ID_BYTES, PART_BYTES, all_tables, changed, id_of, incomplete, missing, opened_given, range_of,
};

type ReadOnly = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Guard<'a> = AccessGuard<'a, &'static [u8]>;

/// The tables at one moment.
pub(crate) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) state: State,
    pub(super) transaction: ReadTransaction,
}

impl Snapshot {
    /// What the tables say about themselves.
    pub(crate) fn meta(&self) -> Result<Meta, Error> {
        Ok(self.state.meta)
    }

    /// How many keys there are in all databases.
    pub(crate) fn keys_len(&self) -> u64 {
        self.state.keys.iter().map(|keys| keys.rows).sum()
    }

    /// One database's tables; None where nothing was ever stored in it.
    pub(crate) fn database(&self, db: u8) -> Result<Option<Stored>, Error> {
        let sum = self.state.keys[usize::from(db)];
        let Some(keys) = self.table(Table { kind: Kind::Keys, db })? else {
            return if sum == Sum::default() { Ok(None) } else { Err(missing(&self.path, db)) };
        };
        let elements = self.table(Table { kind: Kind::Elements, db })?;
        Ok(Some(Stored { path: self.path.clone(), db, sum, keys, elements, shown_bytes: AtomicU64::new(0) }))
    }

    fn table(&self, table: Table) -> Result<Option<ReadOnly>, Error> {
        caught(&self.path, || match self.transaction.open_table(table.definition()) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Writes everything into other, empty tables.
    pub(super) fn copy_to(&self, to: &mut Filling) -> Result<Meta, Error> {
        for table in all_tables() {
            let Some(from) = self.table(table)? else { continue };
            let mut rows = Rows::all(&self.path, table, &from)?;
            let (mut sum, mut is_end) = (Sum::default(), false);
            while !is_end {
                to.part(|changes| {
                    let mut run = Run::default();
                    while run.bytes.len() < PART_BYTES && !is_end {
                        match rows.next()? {
                            Some((key, row, hash)) => {
                                sum.add(hash);
                                run.push(key.value(), row.value());
                            }
                            None => is_end = true,
                        }
                    }
                    let to = caught(changes.path, || changes.transaction.open_table(table.definition()))?;
                    let mut to = Given::new(changes.path, to);
                    run.append_to(changes.path, &mut to)
                })?;
            }
            if table.kind == Kind::Keys && sum != self.state.keys[usize::from(table.db)] {
                return Err(missing(&self.path, table.db));
            }
        }
        (to.state.keys, to.state.bytes) = (self.state.keys, self.state.bytes);
        Ok(self.state.meta)
    }

    /// The keys of all databases, in the order of their databases and their bytes.
    pub(crate) fn keys(&self) -> KeyRows<'_> {
        KeyRows { snapshot: self, db: 0, stored: None, current: None }
    }
}

/// A key's row of a snapshot.
pub(crate) struct KeyRow {
    pub db: u8,
    pub key: Vec<u8>,
    pub record: Vec<u8>,
}

/// Keys of a snapshot, one after another.
pub(crate) struct KeyRows<'s> {
    snapshot: &'s Snapshot,
    db: u8,
    /// The database that is read now, and the rows that are left of it, and what was read of it.
    stored: Option<(Stored, Rows<'s>, Sum)>,
    current: Option<KeyRow>,
}

impl KeyRows<'_> {
    /// The next row, if there is one; it stays the next.
    pub(crate) fn peek(&mut self) -> Result<Option<&KeyRow>, Error> {
        while self.current.is_none() && usize::from(self.db) < DATABASES {
            if self.stored.is_none() {
                self.stored = self
                    .snapshot
                    .database(self.db)?
                    .map(|stored| {
                        let rows = Rows::all(&self.snapshot.path, stored.keys(), &stored.keys)?;
                        Ok::<_, Error>((stored, rows, Sum::default()))
                    })
                    .transpose()?;
            }
            let Some((stored, rows, sum)) = &mut self.stored else {
                self.db += 1;
                continue;
            };
            match rows.next()? {
                Some((key, row, hash)) => {
                    sum.add(hash);
                    let (key, record) = (key.value().to_vec(), without_checksum(row.value()).to_vec());
                    self.current = Some(KeyRow { db: self.db, key, record });
                }
                None if *sum == stored.sum => self.skip_database(),
                None => return Err(missing(&self.snapshot.path, self.db)),
            }
        }
        Ok(self.current.as_ref())
    }

    /// Takes the next row.
    pub(crate) fn take(&mut self) -> Result<Option<KeyRow>, Error> {
        self.peek()?;
        Ok(self.current.take())
    }

    /// Leaves out what is left of the database of the next row.
    pub(crate) fn skip_database(&mut self) {
        (self.stored, self.current) = (None, None);
        self.db += 1;
    }

    /// The database of the row that was taken last.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref().map(|(stored, ..)| stored)
    }
}

/// Rows of a table in the order of their keys, each as it was written or an error.
struct Rows<'a> {
    path: &'a Path,
    table: Table,
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
    /// The key of the row before.
    before: Option<Vec<u8>>,
}

impl<'a> Rows<'a> {
    fn all(path: &'a Path, table: Table, from: &ReadOnly) -> Result<Rows<'a>, Error> {
        Ok(Rows::of(path, table, caught(path, || from.range::<&[u8]>(..))?))
    }

    fn of(path: &'a Path, table: Table, range: redb::Range<'static, &'static [u8], &'static [u8]>) -> Rows<'a> {
        Rows { path, table, range, before: None }
    }

    /// The next row: its key, the row as it stands in the table, and its hash. That the keys ascend is looked at, since in
    /// a damaged tree a whole page may stand where another belongs, and its keys come twice.
    fn next(&mut self) -> Result<Option<(Guard<'static>, Guard<'static>, u64)>, Error> {
        let row = self.next_of_any_order()?;
        if let Some((key, ..)) = &row {
            if self.before.as_ref().is_some_and(|before| &before[..] >= key.value()) {
                return Err(changed(self.path, self.table, key.value()));
            }
            let before = self.before.get_or_insert_default();
            before.clear();
            before.extend_from_slice(key.value());
        }
        Ok(row)
    }

    fn next_of_any_order(&mut self) -> Result<Option<(Guard<'static>, Guard<'static>, u64)>, Error> {
        let found = caught(self.path, || {
            let Some(row) = self.range.next() else { return Ok(None) };
            let (key, row) = row?;
            let hash = self.table.open(key.value(), row.value()).map(|(_, hash)| hash);
            Ok::<_, redb::Error>(Some((key, row, hash)))
        })?;
        match found {
            None => Ok(None),
            Some((key, row, Some(hash))) => Ok(Some((key, row, hash))),
            Some((key, _, None)) => Err(changed(self.path, self.table, key.value())),
        }
    }
}

/// One database's tables, to read.
#[derive(Debug)]
pub(crate) struct Stored {
    path: PathBuf,
    db: u8,
    /// What rows its keys have.
    sum: Sum,
    keys: ReadOnly,
    elements: Option<ReadOnly>,
    /// Bytes of the rows that were shown.
    shown_bytes: AtomicU64,
}

impl Stored {
    /// How many bytes the rows had that were shown so far.
    pub(crate) fn shown_bytes(&self) -> u64 {
        self.shown_bytes.load(Relaxed)
    }

    fn note(&self, key: &[u8], row: &[u8]) {
        self.shown_bytes.fetch_add((key.len() + row.len()) as u64, Relaxed);
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> u64 {
        self.sum.rows
    }

    /// Reads a key's record.
    pub(crate) fn key<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let row = caught(&self.path, || self.keys.get(key))?;
        row.map(|row| Ok(read(opened_given(&self.path, self.keys(), key, &row)?.0))).transpose()
    }

    /// Shows every key and its record, in the order of the keys' bytes; at last an error, if one was missing.
    pub(crate) fn each_key<E: From<Error>>(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rows = Rows::all(&self.path, self.keys(), &self.keys)?;
        let mut sum = Sum::default();
        while let Some((key, row, hash)) = rows.next()? {
            sum.add(hash);
            self.note(key.value(), row.value());
            show(key.value(), without_checksum(row.value()))?;
        }
        if sum == self.sum { Ok(()) } else { Err(missing(&self.path, self.db).into()) }
    }

    /// Shows the keys and records that are as they were written, as far as redb finds its way; of the others there is no word.
    pub(crate) fn each_whole_key<E: From<Error>>(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let Ok(mut rows) = Rows::all(&self.path, self.keys(), &self.keys) else { return Ok(()) };
        loop {
            match rows.next_of_any_order() {
                Ok(Some((key, row, _))) => show(key.value(), without_checksum(row.value()))?,
                Err(Error::Row { .. }) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    /// Shows every element row of a large value, in the order of their keys' bytes; at last an error, if these are not
    /// exactly the rows with this sum.
    pub(crate) fn each_element<E: From<Error>>(
        &self,
        id: u64,
        expected: Sum,
        mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut sum, mut shown) = (Sum::default(), Ok(()));
        if let Some(elements) = &self.elements {
            let (start, end) = range_of(id);
            let range = caught(&self.path, || elements.range(&start[..]..&end[..]))?;
            let mut rows = Rows::of(&self.path, self.elements(), range);
            while let Some((key, row, hash)) = rows.next()? {
                sum.add(hash);
                self.note(key.value(), row.value());
                // What was not written together need not make sense: the sum says so first.
                shown = shown.and_then(|()| show(&key.value()[ID_BYTES..], without_checksum(row.value())));
            }
        }
        if sum == expected { shown } else { Err(incomplete(&self.path, self.db, id, sum, expected).into()) }
    }

    /// Shows the id of every large value that has element rows, and how many.
    pub(crate) fn each_id<E: From<Error>>(&self, mut show: impl FnMut(u64, u64) -> Result<(), E>) -> Result<(), E> {
        let Some(elements) = &self.elements else { return Ok(()) };
        let mut rows = Rows::all(&self.path, self.elements(), elements)?;
        let mut current: Option<(u64, u64)> = None;
        while let Some((key, _, _)) = rows.next()? {
            let id = id_of(key.value());
            match &mut current {
                Some((last, count)) if *last == id => *count += 1,
                _ => {
                    if let Some((id, count)) = current {
                        show(id, count)?;
                    }
                    current = Some((id, 1));
                }
            }
        }
        current.map_or(Ok(()), |(id, count)| show(id, count))
    }

    fn keys(&self) -> Table {
        Table { kind: Kind::Keys, db: self.db }
    }

    fn elements(&self) -> Table {
        Table { kind: Kind::Elements, db: self.db }
    }
}
