//! The tables: for each database, records of keys and the elements of the large ones, up to a number in the journal that
//! is told in the same transaction. So whatever happens, replay knows exactly where to go on.

use std::cell::Cell;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{AccessGuard, Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use xxhash_rust::xxh3::xxh3_64;

use crate::storage::branches::Branches;
use crate::storage::caught::{caught, whole};
use crate::storage::disk::{Disk, make_file, open_file, replace};
use crate::storage::rows::{Kind, Sum, Table, without_checksum};
use crate::storage::{Error, FORMAT};

/// Databases there are tables for.
pub const DATABASES: usize = 16;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What the tables say about themselves is the one row of this table.
const STATE: Definition = TableDefinition::new("state");
const STATE_KEY: &[u8] = b"state";
/// Where format 1 said it.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

macro_rules! definitions {
    ($name:literal) => {
        definitions!($name, "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15")
    };
    ($name:literal, $($db:literal)*) => {
        [$(TableDefinition::new(concat!($name, ":", $db))),*]
    };
}

type ReadOnly = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Guard<'a> = AccessGuard<'a, &'static [u8]>;

static KEYS: [Definition; DATABASES] = definitions!("keys");
static ELEMENTS: [Definition; DATABASES] = definitions!("elements");

impl Table {
    fn definition(self) -> Definition {
        match self.kind {
            Kind::Keys => KEYS[usize::from(self.db)],
            Kind::Elements => ELEMENTS[usize::from(self.db)],
        }
    }
}

fn all_tables() -> impl Iterator<Item = Table> {
    (0..DATABASES as u8).flat_map(|db| [Kind::Keys, Kind::Elements].map(|kind| Table { kind, db }))
}

/// What the tables say about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The journal's batch up to which everything is in the tables.
    pub covered: u64,
    /// The id the next large value gets.
    pub next_id: u64,
    /// The numbers that clients' databases are stored under, four bits each.
    pub stored: Option<u64>,
    /// What tells this folder from any other; its journal has it too.
    pub history: u64,
}

/// Five numbers, and whether the fourth counts.
const HEAD_BYTES: usize = 5 * 8 + 1;

/// All that stands in the row of the tables about themselves: the format, how far they are good, and of each database what rows
/// its keys have and how many bytes all its rows take; then a checksum over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    meta: Meta,
    keys: [Sum; DATABASES],
    bytes: [u64; DATABASES],
}

impl State {
    const BYTES: usize = HEAD_BYTES + DATABASES * (Sum::BYTES + 8) + 8;

    fn empty(meta: Meta) -> State {
        State { meta, keys: [Sum::default(); DATABASES], bytes: [0; DATABASES] }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(State::BYTES);
        let Meta { covered, next_id, stored, history } = self.meta;
        [FORMAT, covered, next_id, stored.unwrap_or(0), history]
            .iter()
            .for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.push(stored.is_some().into());
        self.keys.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_bytes()));
        self.bytes.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<State, Error> {
        let (content, checksum) = bytes.split_last_chunk().ok_or_else(|| Error::unsound(path, "its state is cut off"))?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(Error::unsound(path, "its state is not what was written"));
        }
        let number =
            |at: usize| content.get(at * 8..at * 8 + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
        let found = number(0);
        if found > FORMAT {
            return Err(Error::TooNew { path: path.to_owned(), found });
        }
        let (head, sums) =
            content.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| Error::unsound(path, "its state is cut off"))?;
        let Some((sums, bytes)) = sums.split_at_checked(DATABASES * Sum::BYTES).filter(|(_, bytes)| bytes.len() == DATABASES * 8)
        else {
            return Err(Error::unsound(path, "its state is of no known format"));
        };
        let (mut keys, mut bytes_of) = ([Sum::default(); DATABASES], [0; DATABASES]);
        keys.iter_mut().zip(sums.as_chunks().0).for_each(|(sum, bytes)| *sum = Sum::from_bytes(*bytes));
        bytes_of.iter_mut().zip(bytes.as_chunks().0).for_each(|(number, bytes)| *number = u64::from_le_bytes(*bytes));
        let stored = (head[HEAD_BYTES - 1] != 0).then_some(number(3));
        Ok(State { meta: Meta { covered: number(1), next_id: number(2), stored, history: number(4) }, keys, bytes: bytes_of })
    }
}

/// Tables in a file.
#[derive(Debug)]
pub struct Tables {
    path: PathBuf,
    /// There until it is dropped.
    database: Option<Database>,
    branches: Arc<Branches>,
    /// Each database as it is, where keys were looked up in it since the last change.
    stored: Mutex<[Option<Arc<Stored>>; DATABASES]>,
}

impl Tables {
    /// Opens tables, repaired if they were not closed.
    pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Tables, Error> {
        let tables = Tables::over(path, open_file(disk, path, cache_bytes)?);
        tables.snapshot()?;
        Ok(tables)
    }

    /// Makes tables that hold nothing, there for good when this returns.
    pub fn create(disk: &dyn Disk, path: &Path, cache_bytes: usize, meta: Meta) -> Result<Tables, Error> {
        Tables::replace(disk, path, cache_bytes, meta, |_| Ok::<_, Error>(()))
    }

    /// Makes tables, there for good when this returns, in the place of those that may be there; `fill` writes into them before.
    pub fn replace<E: From<Error>>(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        meta: Meta,
        fill: impl FnOnce(&Tables) -> Result<(), E>,
    ) -> Result<Tables, E> {
        replace(disk, path, |new| fill(&Tables::make(disk, new, cache_bytes, meta)?))?;
        Ok(Tables::open(disk, path, cache_bytes)?)
    }

    /// Makes tables in a new file.
    fn make(disk: &dyn Disk, path: &Path, cache_bytes: usize, meta: Meta) -> Result<Tables, Error> {
        let tables = Tables::over(path, make_file(disk, path, cache_bytes)?);
        tables.change(State::empty(meta), true, |_| Ok::<_, Error>(()))?;
        Ok(tables)
    }

    fn over(path: &Path, (database, branches): (Database, Arc<Branches>)) -> Tables {
        Tables { path: path.to_owned(), database: Some(database), branches, stored: Mutex::default() }
    }

    /// Keeps pages that lead to rows in memory, up to so many bytes.
    pub fn keep_branches(&self, bytes_max: usize) {
        self.branches.keep(bytes_max);
    }

    /// The same, after an error that was not for lack of space: written anew into a new file, as
    /// [`Journal::reopen`](crate::storage::Journal::reopen) does.
    pub fn renew(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Tables, Error> {
        let old = Tables::open(disk, path, cache_bytes)?;
        Tables::rebuild(disk, path, cache_bytes, |filling| old.snapshot()?.copy_to(filling))
    }

    /// Writes tables into a new file, in the order of their keys, and puts it in the place of the one that is there. Whoever
    /// has the old one open goes on reading it. After an error that one is what it was.
    pub fn rebuild<E: From<Error>>(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        fill: impl FnOnce(&mut Filling) -> Result<Meta, E>,
    ) -> Result<Tables, E> {
        let mut result = Ok(());
        let replaced = replace(disk, path, |new| {
            let mut filling = Filling::new(disk, new)?;
            result = fill(&mut filling).and_then(|meta| Ok(filling.finish(meta)?));
            // It is told below; this error only has the new file removed.
            if result.is_ok() { Ok(()) } else { Err(Error::unsound(new, "it is not whole")) }
        });
        result?;
        replaced?;
        Ok(Tables::open(disk, path, cache_bytes)?)
    }

    /// Writes what a snapshot holds into a new file, which says this of itself.
    pub fn copy(disk: &dyn Disk, path: &Path, snapshot: &Snapshot, meta: impl FnOnce(Meta) -> Meta) -> Result<(), Error> {
        let mut filling = Filling::new(disk, path)?;
        let copied = snapshot.copy_to(&mut filling)?;
        filling.finish(meta(copied))
    }

    /// What the tables say about themselves.
    pub fn meta(&self) -> Result<Meta, Error> {
        self.snapshot()?.meta()
    }

    /// How many bytes all rows take; pages that hold them take a tenth more.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.snapshot()?.state.bytes.iter().sum())
    }

    /// The tables as they are now; they stay so for the snapshot, whatever is written.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let path = self.path.clone();
        let transaction = caught(&path, || self.database().begin_read())?;
        let state = caught(&path, || match transaction.open_table(STATE) {
            Ok(table) => Ok(table.get(STATE_KEY)?.map(|row| State::from_bytes(&path, row.value()))),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb::Error::from(error)),
        })?;
        match state {
            Some(state) => Ok(Snapshot { state: state?, path, transaction }),
            None => Err(without_state(path, &transaction)),
        }
    }

    /// One database's tables as they are now, for who looks up one key after another: found once, and not again for each.
    pub fn stored(&self, db: u8) -> Result<Option<Arc<Stored>>, Error> {
        let mut stored = self.stored.lock();
        let stored = &mut stored[usize::from(db)];
        if stored.is_none() {
            *stored = self.snapshot()?.database(db)?.map(Arc::new);
        }
        Ok(stored.clone())
    }

    /// Changes the tables in one durable transaction; none of it happens if `run` fails.
    pub fn write<E: From<Error>>(&self, run: impl FnOnce(&Changes<'_>) -> Result<(), E>) -> Result<(), E> {
        self.change(self.snapshot()?.state, true, run).map(drop)
    }

    fn change<E: From<Error>>(
        &self,
        state: State,
        is_durable: bool,
        run: impl FnOnce(&Changes<'_>) -> Result<(), E>,
    ) -> Result<State, E> {
        // What is left of the transaction after an error is dropped in here as well.
        whole(&self.path, || {
            let mut transaction = caught(&self.path, || self.database().begin_write())?;
            if is_durable {
                // Opening after a crash must not take a walk through all pages.
                transaction.set_quick_repair(true);
            } else {
                caught(&self.path, || transaction.set_durability(Durability::None))?;
            }
            let changes = Changes {
                path: &self.path,
                transaction: &transaction,
                meta: Cell::new(state.meta),
                keys: state.keys.map(Cell::new),
                bytes: state.bytes.map(Cell::new),
            };
            run(&changes)?;
            let state = changes.state();
            if is_durable {
                changes.write_state(&state)?;
            }
            caught(&self.path, || transaction.commit())?;
            // Pages of the tables before cannot be used again as long as someone may read them.
            *self.stored.lock() = Default::default();
            Ok(state)
        })
    }

    /// Whether redb finds its file sound; repairs what can be repaired.
    pub fn verify(&mut self) -> Result<bool, Error> {
        let database = self.database.as_mut().expect("it is there until this is dropped");
        caught(&self.path, || database.check_integrity())
    }

    /// Where their file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        *self.stored.lock() = Default::default();
        // It writes when it is closed.
        let database = self.database.take();
        let _ = whole(&self.path, || {
            drop(database);
            Ok::<_, Error>(())
        });
    }
}

/// Pages of new tables that are kept in memory, half of them until they are written.
const FILLING_CACHE_BYTES: usize = 8 << 20;
/// Rows that are written in one transaction: its pages must still be in memory when it ends, or redb writes them twice.
const PART_BYTES: usize = 2 << 20;

/// New tables that nobody uses yet, filled in the order of their keys.
pub struct Filling {
    tables: Tables,
    state: State,
}

impl Filling {
    fn new(disk: &dyn Disk, path: &Path) -> Result<Filling, Error> {
        let state = State::empty(Meta { covered: 0, next_id: 1, stored: None, history: 0 });
        Ok(Filling { tables: Tables::make(disk, path, FILLING_CACHE_BYTES, state.meta)?, state })
    }

    /// Adds rows after those that are there. None of the parts is on disk before the last.
    pub fn part<E: From<Error>>(&mut self, run: impl FnOnce(&Changes<'_>) -> Result<(), E>) -> Result<(), E> {
        self.state = self.tables.change(self.state, false, run)?;
        Ok(())
    }

    fn finish(self, meta: Meta) -> Result<(), Error> {
        self.tables.change(State { meta, ..self.state }, true, |_| Ok::<_, Error>(())).map(drop)
    }
}

/// Why tables do not say anything about themselves.
fn without_state(path: PathBuf, transaction: &ReadTransaction) -> Error {
    let found = caught(&path, || Ok::<_, redb::Error>(transaction.open_table(META)?.get("format")?.map(|found| found.value())));
    match found {
        Ok(Some(_)) => Error::TooOld { path },
        _ => Error::unsound(&path, "it does not say what it holds"),
    }
}

/// The tables at one moment.
pub struct Snapshot {
    path: PathBuf,
    state: State,
    transaction: ReadTransaction,
}

impl Snapshot {
    /// What the tables say about themselves.
    pub fn meta(&self) -> Result<Meta, Error> {
        Ok(self.state.meta)
    }

    /// How many keys there are in all databases.
    pub fn keys_len(&self) -> u64 {
        self.state.keys.iter().map(|keys| keys.rows).sum()
    }

    /// One database's tables; None where nothing was ever stored in it.
    pub fn database(&self, db: u8) -> Result<Option<Stored>, Error> {
        let sum = self.state.keys[usize::from(db)];
        let Some(keys) = self.table(Table { kind: Kind::Keys, db })? else {
            return if sum == Sum::default() { Ok(None) } else { Err(missing(&self.path, db)) };
        };
        let elements = self.table(Table { kind: Kind::Elements, db })?;
        Ok(Some(Stored { path: self.path.clone(), db, sum, keys, elements }))
    }

    fn table(&self, table: Table) -> Result<Option<ReadOnly>, Error> {
        caught(&self.path, || match self.transaction.open_table(table.definition()) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Writes everything into other, empty tables.
    fn copy_to(&self, to: &mut Filling) -> Result<Meta, Error> {
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
                    let mut to = caught(changes.path, || changes.transaction.open_table(table.definition()))?;
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
    pub fn keys(&self) -> KeyRows<'_> {
        KeyRows { snapshot: self, db: 0, stored: None, current: None }
    }
}

type Writable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// Rows in the order of their keys, to be added at the end of a table: each of its pages is then filled.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Where each row's key ends, and the row.
    ends: Vec<(usize, usize)>,
}

impl Run {
    fn push(&mut self, key: &[u8], row: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.ends.push((end, self.bytes.len()));
    }

    fn append_to(&mut self, path: &Path, table: &mut Writable<'_>) -> Result<(), Error> {
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

/// A key's row of a snapshot.
pub struct KeyRow {
    pub db: u8,
    pub key: Vec<u8>,
    pub record: Vec<u8>,
}

/// Keys of a snapshot, one after another.
pub struct KeyRows<'s> {
    snapshot: &'s Snapshot,
    db: u8,
    /// The database that is read now, and the rows that are left of it, and what was read of it.
    stored: Option<(Stored, Rows<'s>, Sum)>,
    current: Option<KeyRow>,
}

impl KeyRows<'_> {
    /// The next row, if there is one; it stays the next.
    pub fn peek(&mut self) -> Result<Option<&KeyRow>, Error> {
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
    pub fn take(&mut self) -> Result<Option<KeyRow>, Error> {
        self.peek()?;
        Ok(self.current.take())
    }

    /// Leaves out what is left of the database of the next row.
    pub fn skip_database(&mut self) {
        (self.stored, self.current) = (None, None);
        self.db += 1;
    }

    /// The database of the row that was taken last.
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref().map(|(stored, ..)| stored)
    }
}

/// Rows of a table in the order of their keys, each as it was written or an error.
struct Rows<'a> {
    path: &'a Path,
    table: Table,
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
}

impl<'a> Rows<'a> {
    fn all(path: &'a Path, table: Table, from: &ReadOnly) -> Result<Rows<'a>, Error> {
        Ok(Rows { path, table, range: caught(path, || from.range::<&[u8]>(..))? })
    }

    /// Its key, the row as it stands in the table, and its hash.
    fn next(&mut self) -> Result<Option<(Guard<'static>, Guard<'static>, u64)>, Error> {
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
pub struct Stored {
    path: PathBuf,
    db: u8,
    /// What rows its keys have.
    sum: Sum,
    keys: ReadOnly,
    elements: Option<ReadOnly>,
}

impl Stored {
    /// How many keys there are.
    pub fn len(&self) -> u64 {
        self.sum.rows
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a key's record.
    pub fn key<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let row = caught(&self.path, || self.keys.get(key))?;
        row.map(|row| Ok(read(opened(&self.path, self.keys(), key, row.value())?.0))).transpose()
    }

    /// Shows every key and its record, in the order of the keys' bytes; at last an error, if one was missing.
    pub fn each_key<E: From<Error>>(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rows = Rows::all(&self.path, self.keys(), &self.keys)?;
        let mut sum = Sum::default();
        while let Some((key, row, hash)) = rows.next()? {
            sum.add(hash);
            show(key.value(), without_checksum(row.value()))?;
        }
        if sum == self.sum { Ok(()) } else { Err(missing(&self.path, self.db).into()) }
    }

    /// Shows the keys and records that are as they were written, as far as redb finds its way; of the others there is no word.
    pub fn each_whole_key<E: From<Error>>(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let Ok(mut rows) = Rows::all(&self.path, self.keys(), &self.keys) else { return Ok(()) };
        loop {
            match rows.next() {
                Ok(Some((key, row, _))) => show(key.value(), without_checksum(row.value()))?,
                Err(Error::Row { .. }) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    /// Shows every element row of a large value, in the order of their keys' bytes; at last an error, if these are not
    /// exactly the rows with this sum.
    pub fn each_element<E: From<Error>>(
        &self,
        id: u64,
        expected: Sum,
        mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut sum, mut shown) = (Sum::default(), Ok(()));
        if let Some(elements) = &self.elements {
            let (start, end) = range_of(id);
            let range = caught(&self.path, || elements.range(&start[..]..&end[..]))?;
            let mut rows = Rows { path: &self.path, table: self.elements(), range };
            while let Some((key, row, hash)) = rows.next()? {
                sum.add(hash);
                // What was not written together need not make sense: the sum says so first.
                shown = shown.and_then(|()| show(&key.value()[ID_BYTES..], without_checksum(row.value())));
            }
        }
        if sum == expected { shown } else { Err(incomplete(&self.path, self.db, id, sum, expected).into()) }
    }

    /// Shows the id of every large value that has element rows, and how many.
    pub fn each_id<E: From<Error>>(&self, mut show: impl FnMut(u64, u64) -> Result<(), E>) -> Result<(), E> {
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

/// A transaction on the tables.
pub struct Changes<'t> {
    path: &'t Path,
    transaction: &'t redb::WriteTransaction,
    meta: Cell<Meta>,
    /// What rows each database's keys have.
    keys: [Cell<Sum>; DATABASES],
    /// How many bytes all its rows take.
    bytes: [Cell<u64>; DATABASES],
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
                keys: self.transaction.open_table(KEYS[usize::from(db)])?,
                elements: self.transaction.open_table(ELEMENTS[usize::from(db)])?,
                in_order: None,
                place: Vec::new(),
                row: Vec::new(),
            })
        })
    }

    /// One database's tables, to add to after all that is there.
    pub fn database_in_order(&self, db: u8) -> Result<StoredMut<'_>, Error> {
        Ok(StoredMut { in_order: Some(InOrder::default()), ..self.database(db)? })
    }

    /// Removes everything of one database.
    pub fn drop_database(&self, db: u8) -> Result<(), Error> {
        self.keys[usize::from(db)].set(Sum::default());
        self.bytes[usize::from(db)].set(0);
        [Kind::Keys, Kind::Elements].into_iter().try_for_each(|kind| {
            caught(self.path, || self.transaction.delete_table(Table { kind, db }.definition()))?;
            Ok(())
        })
    }

    /// Sets what the tables say about themselves.
    pub fn set_meta(&self, meta: Meta) {
        self.meta.set(meta);
    }

    fn state(&self) -> State {
        State { meta: self.meta.get(), keys: self.keys.each_ref().map(Cell::get), bytes: self.bytes.each_ref().map(Cell::get) }
    }

    fn write_state(&self, state: &State) -> Result<(), Error> {
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
    keys: Writable<'t>,
    elements: Writable<'t>,
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
pub struct Found {
    /// The row's element key.
    pub element: Vec<u8>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The next row's element key.
    pub next: Option<Vec<u8>>,
}

impl StoredMut<'_> {
    /// Reads a key's record.
    pub fn key<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        if let Some(in_order) = &self.in_order {
            return Ok(in_order.before.as_deref().map(read));
        }
        let row = caught(self.path, || self.keys.get(key))?;
        row.map(|row| Ok(read(opened(self.path, self.keys(), key, row.value())?.0))).transpose()
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
        let read = before.map(|before| taken(path, table, key, before.value(), &mut sum, self.bytes, read)).transpose()?;
        self.sum.set(sum);
        Ok(read)
    }

    /// Removes a key's record and reads it.
    pub fn remove_key<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        if let Some(in_order) = &mut self.in_order {
            return Ok(in_order.before.take().as_deref().map(read));
        }
        let (path, table) = (self.path, self.keys());
        let before = caught(path, || self.keys.remove(key))?;
        let mut sum = self.sum.get();
        let read = before.map(|before| taken(path, table, key, before.value(), &mut sum, self.bytes, read)).transpose()?;
        self.sum.set(sum);
        Ok(read)
    }

    /// The last element row of a value that is not after this element; if all are after it, the first one.
    pub fn element_at(&mut self, id: u64, element: &[u8]) -> Result<Option<Found>, Error> {
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
        let bytes = opened(self.path, self.elements(), &key, &row)?.0.to_vec();
        Ok(Some(Found { element: key[ID_BYTES..].to_vec(), bytes, next }))
    }

    /// The bytes of exactly this element row.
    pub fn element(&mut self, id: u64, element: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.place(id, element);
        let row = caught(self.path, || self.elements.get(&self.place[..]))?;
        row.map(|row| Ok(opened(self.path, self.elements(), &self.place, row.value())?.0.to_vec())).transpose()
    }

    /// Sets an element row of a value whose rows have this sum.
    pub fn put_element(&mut self, id: u64, element: &[u8], bytes: &[u8], sum: &mut Sum) -> Result<(), Error> {
        self.place(id, element);
        let (path, table) = (self.path, self.elements());
        sum.add(table.seal(&self.place, bytes, &mut self.row));
        self.bytes.update(|bytes| bytes + (self.place.len() + self.row.len()) as u64);
        if let Some(in_order) = &mut self.in_order {
            in_order.elements_bytes += self.place.len() + self.row.len();
        }
        let before = caught(path, || self.elements.insert(&self.place[..], &self.row[..]))?;
        before.map_or(Ok(()), |before| taken(path, table, &self.place, before.value(), sum, self.bytes, |_| ()))
    }

    /// Removes an element row of a value whose rows have this sum.
    pub fn remove_element(&mut self, id: u64, element: &[u8], sum: &mut Sum) -> Result<(), Error> {
        self.place(id, element);
        let (path, table) = (self.path, self.elements());
        let before = caught(path, || self.elements.remove(&self.place[..]))?;
        before.map_or(Ok(()), |before| taken(path, table, &self.place, before.value(), sum, self.bytes, |_| ()))
    }

    /// Removes all element rows of a value.
    pub fn remove_elements(&mut self, id: u64) -> Result<(), Error> {
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
    pub fn set_before(&mut self, record: Option<Vec<u8>>) {
        let in_order = self.in_order.as_mut().expect("rows are added in order");
        in_order.before = record;
    }

    /// Whether so much was added that it is time to end the transaction.
    pub fn is_full(&self) -> bool {
        self.in_order.as_ref().is_some_and(|in_order| in_order.keys.bytes.len() + in_order.elements_bytes > PART_BYTES)
    }

    /// Writes the rows that were added in order.
    pub fn finish(mut self) -> Result<(), Error> {
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

/// A row's bytes and hash.
fn opened<'r>(path: &Path, table: Table, key: &[u8], row: &'r [u8]) -> Result<(&'r [u8], u64), Error> {
    table.open(key, row).ok_or_else(|| changed(path, table, key))
}

/// Reads a row that is there no more, and takes it out of a sum and a count of bytes.
fn taken<R>(
    path: &Path,
    table: Table,
    key: &[u8],
    row: &[u8],
    sum: &mut Sum,
    bytes_of_all: &Cell<u64>,
    read: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    let (bytes, hash) = opened(path, table, key, row)?;
    sum.remove(hash);
    bytes_of_all.update(|all| all.saturating_sub((key.len() + row.len()) as u64));
    Ok(read(bytes))
}

/// A row is not what was written.
fn changed(path: &Path, table: Table, key: &[u8]) -> Error {
    let place = match table.kind {
        Kind::Keys => key_place(key),
        Kind::Elements => id_place(id_of(key)),
    };
    Error::Row { path: path.to_owned(), db: table.db, place, cause: "it is not what was written".into() }
}

/// A key's row is missing, or there is one too many.
fn missing(path: &Path, db: u8) -> Error {
    Error::Row { path: path.to_owned(), db, place: "its keys".into(), cause: "they are not those that were written".into() }
}

fn incomplete(path: &Path, db: u8, id: u64, found: Sum, expected: Sum) -> Error {
    let cause = format!("it has {} rows, and {} were written", found.rows, expected.rows);
    let cause = if found.rows == expected.rows { "its rows are not those that were written".into() } else { cause };
    Error::Row { path: path.to_owned(), db, place: id_place(id), cause }
}

/// How an error names a key.
pub fn key_place(key: &[u8]) -> String {
    format!("key `{}`", key.escape_ascii())
}

fn id_place(id: u64) -> String {
    format!("the value with id {id}")
}

/// Element rows are found by their value's id, big-endian, and the element's key after it.
const ID_BYTES: usize = 8;

fn range_of(id: u64) -> ([u8; ID_BYTES], [u8; ID_BYTES]) {
    (id.to_be_bytes(), id.saturating_add(1).to_be_bytes())
}

fn id_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(u64::MAX, |id| u64::from_be_bytes(*id))
}
