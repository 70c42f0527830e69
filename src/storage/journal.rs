//! The journal: batches of bytes under rising numbers. A batch is there as a whole or not at all, and so is every batch
//! before it.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::storage::Error;
use crate::storage::disk::{Disk, open_database, open_file, replace};

/// A batch's number and the number of the part, to the part's bytes.
const PARTS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("batches");

/// The longest part. redb gives a large row pages of a power of two; parts just below one waste little of them.
const PART_BYTES_MAX: usize = (1 << 20) - PART_HEAD_BYTES;
/// What redb adds to a row that has a leaf page for itself, and a little more.
const PART_HEAD_BYTES: usize = 64;
/// Bytes copied at once into a new file.
const COPY_BYTES: usize = 16 << 20;
/// Parts dropped by one commit at most, so that trimming after a checkpoint delays none. Twelve thousand a second at the usual pace.
const TRIM_PARTS_MAX: usize = 64;

/// A journal in a file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    database: Database,
}

/// A batch to append: its number, and pieces that together are its bytes.
pub struct Batch<'a> {
    /// Higher than that of any batch before it.
    pub seq: u64,
    /// Its bytes.
    pub pieces: Vec<&'a [u8]>,
}

impl Journal {
    /// Opens a journal, made if missing, repaired if it was not closed.
    pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Journal, Error> {
        let database = open_database(disk, path, cache_bytes)?;
        Ok(Journal { path: path.to_owned(), database })
    }

    /// The same, after an error that was not for lack of space. What the system could not write it may have dropped, and
    /// yet show as written, so what is to last is written anew, into a new file: the batches after `trim_to`.
    pub fn renew(disk: &dyn Disk, path: &Path, cache_bytes: usize, trim_to: u64) -> Result<Journal, Error> {
        let old = Journal::open(disk, path, cache_bytes)?;
        replace(disk, path, |new| {
            let journal = Journal { path: new.to_owned(), database: open_file(disk, new, cache_bytes)? };
            let mut seq = trim_to;
            loop {
                let mut batches = Vec::new();
                let is_end = old.read_after(seq, u64::MAX, COPY_BYTES, |number, bytes| {
                    batches.push((number, bytes.to_vec()));
                    Ok::<_, Error>(())
                })?;
                seq = batches.last().map_or(seq, |(number, _)| *number);
                let batches: Vec<Batch<'_>> =
                    batches.iter().map(|(number, bytes)| Batch { seq: *number, pieces: vec![bytes] }).collect();
                journal.append(&batches, 0)?;
                if is_end {
                    return Ok(());
                }
            }
        })?;
        drop(old);
        Journal::open(disk, path, cache_bytes)
    }

    /// The number of the last batch; None when there is none.
    pub fn last(&self) -> Result<Option<u64>, Error> {
        self.read_transaction(None, |parts| Ok(parts.last()?.map(|(key, _)| key.value().0)))
    }

    /// Appends batches and drops some of those up to `trim_to`, all in one durable commit. Tells whether more are left
    /// to drop. After an error nothing is known but that all or nothing happened; the journal must be opened anew,
    /// and the same batches may then be appended again.
    pub fn append(&self, batches: &[Batch<'_>], trim_to: u64) -> Result<bool, Error> {
        self.append_inner(batches, trim_to).map_err(Error::database(&self.path))
    }

    fn append_inner(&self, batches: &[Batch<'_>], trim_to: u64) -> Result<bool, redb::Error> {
        let transaction = self.database.begin_write()?;
        let is_more;
        {
            let mut parts = transaction.open_table(PARTS)?;
            for batch in batches {
                append_batch(&mut parts, batch)?;
            }
            is_more = trim(&mut parts, trim_to)?;
        }
        transaction.commit()?;
        Ok(is_more)
    }

    /// Shows whole batches after a number, in order, until the end or until about `bytes_max` were shown. Batches above
    /// `last` are not shown. Tells whether it came to the end.
    pub fn read_after<E: From<Error>>(
        &self,
        seq: u64,
        last: u64,
        bytes_max: usize,
        mut show: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut failure = None;
        let is_end = self.read_transaction(true, |parts| {
            let mut batch = Vec::new();
            let mut shown = 0;
            let mut rows = parts.range((seq.saturating_add(1), 0)..=(last, u32::MAX))?.peekable();
            while let Some(row) = rows.next() {
                let (key, bytes) = row?;
                let number = key.value().0;
                let is_last_part = match rows.peek() {
                    Some(Ok((next, _))) => next.value().0 != number,
                    // Its error comes up in the next round, before the batch is taken for whole.
                    Some(Err(_)) => false,
                    None => true,
                };
                let bytes = bytes.value();
                shown += bytes.len();
                let result = if is_last_part && batch.is_empty() {
                    show(number, bytes)
                } else {
                    batch.extend_from_slice(bytes);
                    if !is_last_part {
                        continue;
                    }
                    let result = show(number, &batch);
                    batch.clear();
                    result
                };
                if let Err(error) = result {
                    failure = Some(error);
                    return Ok(false);
                }
                if shown >= bytes_max {
                    return Ok(rows.next().is_none());
                }
            }
            Ok(true)
        })?;
        failure.map_or(Ok(is_end), Err)
    }

    /// Whether redb finds its file sound; repairs what can be repaired.
    pub fn verify(&mut self) -> Result<bool, Error> {
        self.database.check_integrity().map_err(Error::database(&self.path))
    }

    fn read_transaction<R>(
        &self,
        empty: R,
        run: impl FnOnce(&redb::ReadOnlyTable<(u64, u32), &'static [u8]>) -> Result<R, redb::Error>,
    ) -> Result<R, Error> {
        let inner = || {
            let transaction = self.database.begin_read()?;
            match transaction.open_table(PARTS) {
                Ok(parts) => run(&parts),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(empty),
                Err(error) => Err(error.into()),
            }
        };
        inner().map_err(Error::database(&self.path))
    }
}

fn append_batch(parts: &mut redb::Table<'_, (u64, u32), &'static [u8]>, batch: &Batch<'_>) -> Result<(), redb::StorageError> {
    let mut left: usize = batch.pieces.iter().map(|piece| piece.len()).sum();
    let mut pieces = batch.pieces.iter().copied();
    let mut piece: &[u8] = &[];
    let mut part = 0;
    while left > 0 || part == 0 {
        let len = left.min(PART_BYTES_MAX);
        let mut room = parts.insert_reserve((batch.seq, part), len)?;
        let mut room = room.as_mut();
        while !room.is_empty() {
            if piece.is_empty() {
                piece = pieces.next().expect("the pieces hold as much as was counted");
                continue;
            }
            let len = piece.len().min(room.len());
            let (to, rest) = room.split_at_mut(len);
            to.copy_from_slice(&piece[..len]);
            (room, piece) = (rest, &piece[len..]);
        }
        left -= len;
        part += 1;
    }
    Ok(())
}

fn trim(parts: &mut redb::Table<'_, (u64, u32), &'static [u8]>, trim_to: u64) -> Result<bool, redb::StorageError> {
    for _ in 0..TRIM_PARTS_MAX {
        match parts.first()? {
            Some((key, _)) if key.value().0 <= trim_to => {}
            _ => return Ok(false),
        }
        parts.pop_first()?;
    }
    Ok(true)
}
