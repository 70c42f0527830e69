//! The tables: for each database, records of keys and the elements of the large ones, up to a number in the journal that
//! is told in the same transaction. So whatever happens, replay knows exactly where to go on.

mod changing;
mod given;
mod reading;
mod state;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{AccessGuard, Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition};

use crate::storage::branches::Branches;
use crate::storage::caught::{caught, whole};
use crate::storage::disk::{Disk, make_file, open_file, replace};
use crate::storage::rows::{Kind, Sum, Table};
use crate::storage::{Damage, Error};
use given::Given;
use state::State;

pub(crate) use crate::storage::rows::key_place;
pub(crate) use changing::Found;
pub use changing::{Changes, StoredMut};
pub(crate) use reading::{KeyRow, KeyRows, Snapshot, Stored};
pub(crate) use state::DATABASES;
pub use state::Meta;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What is at stake where redb cannot open its file.
const ALL_KEYS: &str = "redb finds none of its keys any more: all of them would be lost, but for what the journal still tells of";

/// What the tables say about themselves is the one row of this table.
const STATE: Definition = TableDefinition::new("state");
const STATE_KEY: &[u8] = b"state";
/// Where format 1 said it.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

macro_rules! definitions {
    ($name:literal) => {
        definitions!($name, "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15" "16")
    };
    ($name:literal, $($db:literal)*) => {
        [$(TableDefinition::new(concat!($name, ":", $db))),*]
    };
}

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
        let open = || {
            let tables = Tables::over(path, open_file(disk, path, cache_bytes)?);
            tables.snapshot()?;
            Ok(tables)
        };
        open().map_err(|error| match error {
            Error::Damaged(damage) => Damage { stake: ALL_KEYS.into(), ..*damage }.into(),
            error => error,
        })
    }

    /// Makes tables that hold nothing, there for good when this returns.
    pub fn create(disk: &dyn Disk, path: &Path, cache_bytes: usize, meta: Meta) -> Result<Tables, Error> {
        Tables::replace(disk, path, cache_bytes, meta, |_| Ok::<_, Error>(()))
    }

    /// Makes tables, there for good when this returns, in the place of those that may be there; `fill` writes into them before.
    pub(crate) fn replace<E: From<Error>>(
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
    pub(crate) fn keep_branches(&self, bytes_max: usize) {
        self.branches.keep(bytes_max);
    }

    /// The same in a new file that takes their file's place, after an error that was not for lack of space: the system may have dropped
    /// what it could not write, and yet show it. Meanwhile, and if that fails, these can be read on.
    pub(crate) fn renewed(&self, disk: &dyn Disk, cache_bytes: usize) -> Result<Tables, Error> {
        Tables::rebuild(disk, &self.path, cache_bytes, |filling| self.snapshot()?.copy_to(filling))
    }

    /// Writes tables into a new file, in the order of their keys, and puts it in the place of the one that is there. Whoever
    /// has the old one open goes on reading it. After an error that one is what it was.
    pub(crate) fn rebuild<E: From<Error>>(
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
    pub(crate) fn copy(disk: &dyn Disk, path: &Path, snapshot: &Snapshot, meta: impl FnOnce(Meta) -> Meta) -> Result<(), Error> {
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
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
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
    pub(crate) fn stored(&self, db: u8) -> Result<Option<Arc<Stored>>, Error> {
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
        let transaction = caught(&self.path, || {
            let mut transaction = self.database().begin_write()?;
            if is_durable {
                // Opening after a crash must not take a walk through all pages.
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(Durability::None)?;
            }
            Ok::<_, redb::Error>(transaction)
        })?;
        let transaction = Given::new(&self.path, transaction);
        let changes = Changes {
            path: &self.path,
            transaction: &transaction,
            meta: Cell::new(state.meta),
            keys: state.keys.map(Cell::new),
            bytes: state.bytes.map(Cell::new),
        };
        // Not caught: what panics in it, but for calls into redb, is not redb.
        run(&changes)?;
        let state = changes.state();
        if is_durable {
            changes.write_state(&state)?;
        }
        caught(&self.path, || transaction.take().commit())?;
        // Pages of the tables before cannot be used again as long as someone may read them.
        *self.stored.lock() = Default::default();
        Ok(state)
    }

    /// Whether redb finds its file sound; repairs what can be repaired.
    pub(crate) fn verify(&mut self) -> Result<bool, Error> {
        let database = self.database.as_mut().expect("it is there until this is dropped");
        caught(&self.path, || database.check_integrity())
    }

    /// Where their file is.
    pub(crate) fn path(&self) -> &Path {
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
pub(crate) struct Filling {
    tables: Tables,
    state: State,
}

impl Filling {
    fn new(disk: &dyn Disk, path: &Path) -> Result<Filling, Error> {
        let state = State::empty(Meta { covered: 0, next_id: 1, stored: None, history: 0 });
        Ok(Filling { tables: Tables::make(disk, path, FILLING_CACHE_BYTES, state.meta)?, state })
    }

    /// Adds rows after those that are there. None of the parts is on disk before the last.
    pub(crate) fn part<E: From<Error>>(&mut self, run: impl FnOnce(&Changes<'_>) -> Result<(), E>) -> Result<(), E> {
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

/// A row's bytes and hash.
fn opened<'r>(path: &Path, table: Table, key: &[u8], row: &'r [u8]) -> Result<(&'r [u8], u64), Error> {
    table.open(key, row).ok_or_else(|| changed(path, table, key))
}

/// The same of a row that redb gave out, which may say of itself that it reaches beyond its page.
fn opened_given<'r>(
    path: &Path,
    table: Table,
    key: &[u8],
    row: &'r AccessGuard<'_, &'static [u8]>,
) -> Result<(&'r [u8], u64), Error> {
    opened(path, table, key, caught(path, || Ok::<_, redb::Error>(row.value()))?)
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
