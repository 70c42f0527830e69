//! Changing tables: in a transaction, row by row, or at the end of them in the order of the keys.

use std::cell::Cell;
use std::ops::Bound;
use std::path::Path;

use redb::{AccessGuard, ReadableTable};

use crate::storage::Error;
use crate::storage::caught::caught;
use crate::storage::rows::{Kind, Sum, Table};
use crate::storage::tables::given::Given;
use crate::storage::tables::state::{Meta, State};
use crate::storage::tables::{
    DATABASES, ELEMENTS, ID_BYTES, KEYS, PART_BYTES, STATE, STATE_KEY, changed, opened, opened_given, range_of,
};

/// A transaction on the tables.
pub struct Changes<'t> {
    pub(super) path: &'t Path,
    pub(super) transaction: &'t redb::WriteTransaction,
    pub(super) meta: Cell<Meta>,
    /// What rows each database's keys have.
    pub(super) keys: [Cell<Sum>; DATABASES],
    /// How many bytes all its rows take.
    pub(super) bytes: [Cell<u64>; DATABASES],
}

impl Changes<'_> {
    /// One database's tables, to change.
    pub fn database(&self, db: u8) -> Result<StoredMut<'_>, Error> {
        caught(self.path, || {
            Ok::<_, redb::Error>(StoredMut {
                path: self.path,
                db,
                sum: &self.keys[usize::from(db)],
                bytes: &self.bytes[usize::from(db)],
                keys: Given::new(self.path, self.transaction.open_table(KEYS[usize::from(db)])?),
                elements: Given::new(self.path, self.transaction.open_table(ELEMENTS[usize::from(db)])?),
                in_order: None,
                place: Vec::new(),
                row: Vec::new(),
            })
        })
    }

    /// One database's tables, to add to after all that is there.
    pub(crate) fn database_in_order(&self, db: u8) -> Result<StoredMut<'_>, Error> {
        Ok(StoredMut { in_order: Some(InOrder::default()), ..self.database(db)? })
    }

    /// Removes everything of one database.
    pub(crate) fn drop_database(&self, db: u8) -> Result<(), Error> {
        self.keys[usize::from(db)].set(Sum::default());
        self.bytes[usize::from(db)].set(0);
        [Kind::Keys, Kind::Elements].into_iter().try_for_each(|kind| {
            caught(self.path, || self.transaction.delete_table(Table { kind, db }.definition()))?;
            Ok(())
        })
    }

    /// Sets what the tables say about themselves.
    pub(crate) fn set_meta(&self, meta: Meta) {
        self.meta.set(meta);
    }

    pub(super) fn state(&self) -> State {
        State { meta: self.meta.get(), keys: self.keys.each_ref().map(Cell::get), bytes: self.bytes.each_ref().map(Cell::get) }
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), Error> {
        caught(self.path, || {
            self.transaction.open_table(STATE)?.insert(STATE_KEY, &*state.to_bytes())?;
            Ok::<_, redb::Error>(())
        })
    }
}

/// One database's tables, to change.
pub struct StoredMut<'t> {
    path: &'t Path,
    db: u8,
    /// What rows its keys have.
    sum: &'t Cell<Sum>,
    /// How many bytes all its rows take.
    bytes: &'t Cell<u64>,
    keys: Given<'t, Writable<'t>>,
    elements: Given<'t, Writable<'t>>,
    in_order: Option<InOrder>,
    /// Where keys of element rows are put together.
    place: Vec<u8>,
    /// Where rows are put together.
    row: Vec<u8>,
}

/// What is added in order.
#[derive(Default)]
struct InOrder {
    keys: Run,
    /// Bytes of elements that were added.
    elements_bytes: usize,
    /// What counts as the record that is there of the key that comes next.
    before: Option<Vec<u8>>,
}

/// An element row, and where the next one of the same value begins.
pub(crate) struct Found {
    /// The row's element key.
    pub element: Vec<u8>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The next row's element key.
    pub next: Option<Vec<u8>>,
}

impl StoredMut<'_> {
    /// Reads a key's record.
    pub(crate) fn key<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        if let Some(in_order) = &self.in_order {
            return Ok(in_order.before.as_deref().map(read));
        }
        let row = caught(self.path, || self.keys.get(key))?;
        row.map(|row| Ok(read(opened_given(self.path, self.keys(), key, &row)?.0))).transpose()
    }

    /// Sets a key's record and reads the one before.
    pub fn put_key<R>(&mut self, key: &[u8], record: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let (path, table) = (self.path, self.keys());
        let hash = table.seal(key, record, &mut self.row);
        self.bytes.update(|bytes| bytes + (key.len() + self.row.len()) as u64);
        if let Some(in_order) = &mut self.in_order {
            in_order.keys.push(key, &self.row);
            let mut sum = self.sum.get();
            sum.add(hash);
            self.sum.set(sum);
            return Ok(in_order.before.take().as_deref().map(read));
        }
        let before = caught(path, || self.keys.insert(key, &self.row[..]))?;
        let mut sum = self.sum.get();
        sum.add(hash);
        let read = before.map(|before| taken(path, table, key, before, &mut sum, self.bytes, read)).transpose()?;
        self.sum.set(sum);
        Ok(read)
    }

    /// Removes a key's record and reads it.
    pub(crate) fn remove_key<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        if let Some(in_order) = &mut self.in_order {
            return Ok(in_order.before.take().as_deref().map(read));
        }
        let (path, table) = (self.path, self.keys());
        let before = caught(path, || self.keys.remove(key))?;
        let mut sum = self.sum.get();
        let read = before.map(|before| taken(path, table, key, before, &mut sum, self.bytes, read)).transpose()?;
        self.sum.set(sum);
        Ok(read)
    }

    /// The last element row of a value that is not after this element; if all are after it, the first one.
    pub(crate) fn element_at(&mut self, id: u64, element: &[u8]) -> Result<Option<Found>, Error> {
        let (start, end) = range_of(id);
        self.place(id, element);
        let found = caught(self.path, || {
            let at = match self.elements.range(&start[..]..=&self.place[..])?.next_back() {
                Some(row) => Some(row?),
                None => self.elements.range(&start[..]..&end[..])?.next().transpose()?,
            };
            let Some((key, row)) = at else { return Ok(None) };
            let mut after = self.elements.range(key.value()..&end[..])?;
            after.next();
            let next = match after.next() {
                Some(row) => Some(row?.0.value()[ID_BYTES..].to_vec()),
                None => None,
            };
            Ok::<_, redb::Error>(Some((key.value().to_vec(), row.value().to_vec(), next)))
        })?;
        let Some((key, row, next)) = found else { return Ok(None) };
        if next.as_deref().is_some_and(|next| next <= element) {
            // In a damaged page keys are in no order, and whoever goes on from one to the next would come to no end.
            return Err(changed(self.path, self.elements(), &self.place));
        }
        let bytes = opened(self.path, self.elements(), &key, &row)?.0.to_vec();
        Ok(Some(Found { element: key[ID_BYTES..].to_vec(), bytes, next }))
    }

    /// The bytes of exactly this element row.
    pub(crate) fn element(&mut self, id: u64, element: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.place(id, element);
        let row = caught(self.path, || self.elements.get(&self.place[..]))?;
        row.map(|row| Ok(opened_given(self.path, self.elements(), &self.place, &row)?.0.to_vec())).transpose()
    }

    /// Sets an element row of a value whose rows have this sum.
    pub(crate) fn put_element(&mut self, id: u64, element: &[u8], bytes: &[u8], sum: &mut Sum) -> Result<(), Error> {
        self.place(id, element);
        let (path, table) = (self.path, self.elements());
        sum.add(table.seal(&self.place, bytes, &mut self.row));
        self.bytes.update(|bytes| bytes + (self.place.len() + self.row.len()) as u64);
        if let Some(in_order) = &mut self.in_order {
            in_order.elements_bytes += self.place.len() + self.row.len();
        }
        let before = caught(path, || self.elements.insert(&self.place[..], &self.row[..]))?;
        before.map_or(Ok(()), |before| taken(path, table, &self.place, before, sum, self.bytes, |_| ()))
    }

    /// Removes an element row of a value whose rows have this sum.
    pub(crate) fn remove_element(&mut self, id: u64, element: &[u8], sum: &mut Sum) -> Result<(), Error> {
        self.place(id, element);
        let (path, table) = (self.path, self.elements());
        let before = caught(path, || self.elements.remove(&self.place[..]))?;
        before.map_or(Ok(()), |before| taken(path, table, &self.place, before, sum, self.bytes, |_| ()))
    }

    /// Removes all element rows of a value.
    pub(crate) fn remove_elements(&mut self, id: u64) -> Result<(), Error> {
        let (start, end) = range_of(id);
        let mut removed = 0;
        caught(self.path, || {
            self.elements.retain_in(&start[..]..&end[..], |key, row| {
                removed += (key.len() + row.len()) as u64;
                false
            })
        })?;
        self.bytes.update(|bytes| bytes.saturating_sub(removed));
        Ok(())
    }

    /// Where rows are added in order: what counts as the record of the key that comes next.
    pub(crate) fn set_before(&mut self, record: Option<Vec<u8>>) {
        let in_order = self.in_order.as_mut().expect("rows are added in order");
        in_order.before = record;
    }

    /// Whether so much was added that it is time to end the transaction.
    pub(crate) fn is_full(&self) -> bool {
        self.in_order.as_ref().is_some_and(|in_order| in_order.keys.bytes.len() + in_order.elements_bytes > PART_BYTES)
    }

    /// Writes the rows that were added in order.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        match &mut self.in_order {
            Some(in_order) => in_order.keys.append_to(self.path, &mut self.keys),
            None => Ok(()),
        }
    }

    fn place(&mut self, id: u64, element: &[u8]) {
        self.place.clear();
        self.place.extend_from_slice(&id.to_be_bytes());
        self.place.extend_from_slice(element);
    }

    fn keys(&self) -> Table {
        Table { kind: Kind::Keys, db: self.db }
    }

    fn elements(&self) -> Table {
        Table { kind: Kind::Elements, db: self.db }
    }
}

type Writable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// Rows in the order of their keys, to be added at the end of a table: each of its pages is then filled.
#[derive(Default)]
pub(super) struct Run {
    pub(super) bytes: Vec<u8>,
    /// Where each row's key ends, and the row.
    ends: Vec<(usize, usize)>,
}

impl Run {
    pub(super) fn push(&mut self, key: &[u8], row: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.ends.push((end, self.bytes.len()));
    }

    pub(super) fn append_to(&mut self, path: &Path, table: &mut Writable<'_>) -> Result<(), Error> {
        caught(path, || {
            let mut end = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
            let mut start = 0;
            for (of_key, of_row) in self.ends.drain(..) {
                end.insert_before(&self.bytes[start..of_key], &self.bytes[of_key..of_row])?;
                start = of_row;
            }
            self.bytes.clear();
            Ok::<_, redb::Error>(end.close()?)
        })
    }
}

/// Reads a row that is there no more, and takes it out of a sum and a count of bytes.
fn taken<R>(
    path: &Path,
    table: Table,
    key: &[u8],
    row: AccessGuard<'_, &'static [u8]>,
    sum: &mut Sum,
    bytes_of_all: &Cell<u64>,
    read: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    let row = Given::new(path, row);
    let (bytes, hash) = opened_given(path, table, key, &row)?;
    sum.remove(hash);
    bytes_of_all.update(|all| all.saturating_sub((key.len() + row.value().len()) as u64));
    Ok(read(bytes))
}
