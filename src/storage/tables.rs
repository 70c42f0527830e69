//! The tables: for each database, records of keys and the elements of the large ones, up to a number in the journal that
//! is told in the same transaction. So whatever happens, replay knows exactly where to go on.

use std::path::{Path, PathBuf};

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::storage::disk::{Disk, open_file, replace};
use crate::storage::{Damage, Error, FORMAT};

/// Databases there are tables for.
pub const DATABASES: usize = 16;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

macro_rules! definitions {
    ($name:literal) => {
        definitions!($name, "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15")
    };
    ($name:literal, $($db:literal)*) => {
        [$(TableDefinition::new(concat!($name, ":", $db))),*]
    };
}

static KEYS: [Definition; DATABASES] = definitions!("keys");
static ELEMENTS: [Definition; DATABASES] = definitions!("elements");

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

/// Tables in a file.
#[derive(Debug)]
pub struct Tables {
    path: PathBuf,
    database: Database,
}

impl Tables {
    /// Opens tables, repaired if they were not closed.
    pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Tables, Error> {
        let tables = Tables { path: path.to_owned(), database: open_file(disk, path, cache_bytes)? };
        match tables.snapshot()?.number("format")? {
            Some(FORMAT) => Ok(tables),
            Some(found) if found > FORMAT => Err(Error::TooNew { path: tables.path, found }),
            Some(_) => Err(Error::TooOld { path: tables.path }),
            None => Err(Damage::new(tables.path, None, "it does not say what it holds").into()),
        }
    }

    /// Makes tables that hold nothing, there for good when this returns, in the place of those that may be there.
    pub fn create(disk: &dyn Disk, path: &Path, cache_bytes: usize, meta: Meta) -> Result<Tables, Error> {
        replace(disk, path, |new| {
            let tables = Tables { path: new.to_owned(), database: open_file(disk, new, cache_bytes)? };
            tables.write(|changes| changes.set_meta(meta))
        })?;
        Tables::open(disk, path, cache_bytes)
    }

    /// The same, after an error that was not for lack of space: written anew into a new file, as
    /// [`Journal::reopen`](crate::storage::Journal::reopen) does.
    pub fn renew(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Tables, Error> {
        let old = Tables::open(disk, path, cache_bytes)?;
        replace(disk, path, |new| {
            let tables = Tables { path: new.to_owned(), database: open_file(disk, new, cache_bytes)? };
            let snapshot = old.snapshot()?;
            snapshot.copy_to(&tables, snapshot.meta()?)
        })?;
        drop(old);
        Tables::open(disk, path, cache_bytes)
    }

    /// What the tables say about themselves.
    pub fn meta(&self) -> Result<Meta, Error> {
        self.snapshot()?.meta()
    }

    /// The tables as they are now; they stay so for the snapshot, whatever is written.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.database.begin_read().map_err(Error::database(&self.path))?;
        Ok(Snapshot { path: self.path.clone(), transaction })
    }

    /// Changes the tables in one durable transaction; none of it happens if `run` fails.
    pub fn write<E: From<Error>>(&self, run: impl FnOnce(&Changes<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut transaction = self.database.begin_write().map_err(Error::database(&self.path))?;
        // Opening after a crash must not take a walk through all pages.
        transaction.set_quick_repair(true);
        run(&Changes { path: &self.path, transaction: &transaction })?;
        transaction.commit().map_err(Error::database(&self.path))?;
        Ok(())
    }

    /// Whether redb finds its file sound; repairs what can be repaired.
    pub fn verify(&mut self) -> Result<bool, Error> {
        self.database.check_integrity().map_err(Error::database(&self.path))
    }
}

/// The tables at one moment.
pub struct Snapshot {
    path: PathBuf,
    transaction: ReadTransaction,
}

impl Snapshot {
    /// What the tables say about themselves.
    pub fn meta(&self) -> Result<Meta, Error> {
        Ok(Meta {
            covered: self.number("covered")?.unwrap_or(0),
            next_id: self.number("next_id")?.unwrap_or(1),
            stored: self.number("stored")?,
            history: self.number("history")?.unwrap_or(0),
        })
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let inner = || match self.transaction.open_table(META) {
            Ok(table) => Ok(table.get(name)?.map(|number| number.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb::Error::from(error)),
        };
        inner().map_err(Error::database(&self.path))
    }

    /// One database's tables; None where nothing was ever stored in it.
    pub fn database(&self, db: u8) -> Result<Option<Stored>, Error> {
        let Some(keys) = self.table(KEYS[usize::from(db)])? else { return Ok(None) };
        let elements = self.table(ELEMENTS[usize::from(db)])?;
        Ok(Some(Stored { path: self.path.clone(), keys, elements }))
    }

    fn table(&self, definition: Definition) -> Result<Option<ReadOnlyTable<&'static [u8], &'static [u8]>>, Error> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(Error::database(&self.path)(error)),
        }
    }

    /// Writes everything into other, empty tables, and `covered` as the number they are good up to.
    pub fn copy_to(&self, to: &Tables, meta: Meta) -> Result<(), Error> {
        to.write(|changes| {
            for definition in KEYS.iter().chain(&ELEMENTS) {
                let Some(from) = self.table(*definition)? else { continue };
                let inner = || {
                    let mut to = changes.transaction.open_table(*definition)?;
                    for row in from.range::<&[u8]>(..)? {
                        let (key, value) = row?;
                        to.insert(key.value(), value.value())?;
                    }
                    Ok::<_, redb::Error>(())
                };
                inner().map_err(Error::database(changes.path))?;
            }
            changes.set_meta(meta)
        })
    }
}

/// One database's tables, to read.
pub struct Stored {
    path: PathBuf,
    keys: ReadOnlyTable<&'static [u8], &'static [u8]>,
    elements: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Stored {
    /// How many keys there are.
    pub fn len(&self) -> Result<u64, Error> {
        self.keys.len().map_err(Error::database(&self.path))
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Reads a key's record.
    pub fn key<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let record = self.keys.get(key).map_err(Error::database(&self.path))?;
        Ok(record.map(|record| read(record.value())))
    }

    /// Shows every key and its record, in the order of the keys' bytes.
    pub fn each_key<E: From<Error>>(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        for row in self.keys.range::<&[u8]>(..).map_err(Error::database(&self.path))? {
            let (key, record) = row.map_err(Error::database(&self.path))?;
            show(key.value(), record.value())?;
        }
        Ok(())
    }

    /// Shows every element row of a large value, in the order of their keys' bytes.
    pub fn each_element<E: From<Error>>(&self, id: u64, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let Some(elements) = &self.elements else { return Ok(()) };
        let (start, end) = range_of(id);
        for row in elements.range(&start[..]..&end[..]).map_err(Error::database(&self.path))? {
            let (key, bytes) = row.map_err(Error::database(&self.path))?;
            show(&key.value()[ID_BYTES..], bytes.value())?;
        }
        Ok(())
    }

    /// Shows the id of every large value that has element rows, and how many.
    pub fn each_id<E: From<Error>>(&self, mut show: impl FnMut(u64, u64) -> Result<(), E>) -> Result<(), E> {
        let Some(elements) = &self.elements else { return Ok(()) };
        let mut current: Option<(u64, u64)> = None;
        for row in elements.range::<&[u8]>(..).map_err(Error::database(&self.path))? {
            let (key, _) = row.map_err(Error::database(&self.path))?;
            let id = key.value().first_chunk().map_or(u64::MAX, |id| u64::from_be_bytes(*id));
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
}

/// A transaction on the tables.
pub struct Changes<'t> {
    path: &'t Path,
    transaction: &'t redb::WriteTransaction,
}

impl<'t> Changes<'t> {
    /// One database's tables, to change.
    pub fn database(&self, db: u8) -> Result<StoredMut<'t>, Error> {
        let transaction = self.transaction;
        let inner = || {
            Ok::<_, redb::Error>(StoredMut {
                path: self.path,
                keys: transaction.open_table(KEYS[usize::from(db)])?,
                elements: transaction.open_table(ELEMENTS[usize::from(db)])?,
                place: Vec::new(),
            })
        };
        inner().map_err(Error::database(self.path))
    }

    /// Removes everything of one database.
    pub fn drop_database(&self, db: u8) -> Result<(), Error> {
        for definition in [KEYS[usize::from(db)], ELEMENTS[usize::from(db)]] {
            self.transaction.delete_table(definition).map_err(Error::database(self.path))?;
        }
        Ok(())
    }

    /// Sets what the tables say about themselves.
    pub fn set_meta(&self, meta: Meta) -> Result<(), Error> {
        let inner = || {
            let mut table = self.transaction.open_table(META)?;
            table.insert("format", FORMAT)?;
            table.insert("covered", meta.covered)?;
            table.insert("next_id", meta.next_id)?;
            table.insert("history", meta.history)?;
            if let Some(stored) = meta.stored {
                table.insert("stored", stored)?;
            }
            Ok::<_, redb::Error>(())
        };
        inner().map_err(Error::database(self.path))
    }
}

/// One database's tables, to change.
pub struct StoredMut<'t> {
    path: &'t Path,
    keys: redb::Table<'t, &'static [u8], &'static [u8]>,
    elements: redb::Table<'t, &'static [u8], &'static [u8]>,
    /// Where keys of element rows are put together.
    place: Vec<u8>,
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
        let record = self.keys.get(key).map_err(Error::database(self.path))?;
        Ok(record.map(|record| read(record.value())))
    }

    /// Sets a key's record and reads the one before.
    pub fn put_key<R>(&mut self, key: &[u8], record: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let before = self.keys.insert(key, record).map_err(Error::database(self.path))?;
        Ok(before.map(|before| read(before.value())))
    }

    /// Removes a key's record and reads it.
    pub fn remove_key<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let before = self.keys.remove(key).map_err(Error::database(self.path))?;
        Ok(before.map(|before| read(before.value())))
    }

    /// The last element row of a value that is not after this element; if all are after it, the first one.
    pub fn element_at(&mut self, id: u64, element: &[u8]) -> Result<Option<Found>, Error> {
        let (start, end) = range_of(id);
        self.place(id, element);
        let inner = || {
            let at = match self.elements.range(&start[..]..=&self.place[..])?.next_back() {
                Some(row) => Some(row?),
                None => self.elements.range(&start[..]..&end[..])?.next().transpose()?,
            };
            let Some((key, bytes)) = at else { return Ok(None) };
            let mut after = self.elements.range(key.value()..&end[..])?;
            after.next();
            let next = match after.next() {
                Some(row) => Some(row?.0.value()[ID_BYTES..].to_vec()),
                None => None,
            };
            Ok::<_, redb::Error>(Some(Found { element: key.value()[ID_BYTES..].to_vec(), bytes: bytes.value().to_vec(), next }))
        };
        inner().map_err(Error::database(self.path))
    }

    /// The bytes of exactly this element row.
    pub fn element(&mut self, id: u64, element: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.place(id, element);
        let row = self.elements.get(&self.place[..]).map_err(Error::database(self.path))?;
        Ok(row.map(|bytes| bytes.value().to_vec()))
    }

    /// Sets an element row.
    pub fn put_element(&mut self, id: u64, element: &[u8], bytes: &[u8]) -> Result<(), Error> {
        self.place(id, element);
        self.elements.insert(&self.place[..], bytes).map_err(Error::database(self.path))?;
        Ok(())
    }

    /// Removes an element row.
    pub fn remove_element(&mut self, id: u64, element: &[u8]) -> Result<(), Error> {
        self.place(id, element);
        self.elements.remove(&self.place[..]).map_err(Error::database(self.path))?;
        Ok(())
    }

    /// Removes all element rows of a value.
    pub fn remove_elements(&mut self, id: u64) -> Result<(), Error> {
        let (start, end) = range_of(id);
        self.elements.retain_in(&start[..]..&end[..], |_, _| false).map_err(Error::database(self.path))
    }

    fn place(&mut self, id: u64, element: &[u8]) {
        self.place.clear();
        self.place.extend_from_slice(&id.to_be_bytes());
        self.place.extend_from_slice(element);
    }
}

/// Element rows are found by their value's id, big-endian, and the element's key after it.
const ID_BYTES: usize = 8;

fn range_of(id: u64) -> ([u8; ID_BYTES], [u8; ID_BYTES]) {
    (id.to_be_bytes(), id.saturating_add(1).to_be_bytes())
}
