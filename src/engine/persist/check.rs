//! Checking: every structure of a data folder is read as a start would read it, and what does not fit is told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::engine::persist::batch;
use crate::engine::persist::fold::Fold;
use crate::engine::persist::load;
use crate::engine::persist::record::{Body, Large, Packed, Record};
use crate::engine::persist::{Checked, Error, Problem};
use crate::engine::value::{BadRow, Kind};
use crate::storage::journal::{self, Expected, SEGMENT_BYTES, Survey};
use crate::storage::tables::{DATABASES, Meta, Stored};
use crate::storage::{Disk, Folder, Journal, Tables, opening};

const CACHE_BYTES: usize = 32 << 20;
/// Journal read in one go.
const READ_BYTES: usize = 16 << 20;

/// Verifies a data folder that no server uses; nothing in it is changed.
pub fn check(dir: &Path, problems_max: usize) -> Result<Checked, Error> {
    let folder = Folder::look(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(folder.untouched());
    let mut check = Check { problems_max, checked: Checked::default() };
    let place = folder.tables();
    let has_tables = disk.exists(&place).map_err(crate::storage::Error::io("look for", &place))?;
    let meta = if has_tables {
        match Tables::open(&*disk, &place, CACHE_BYTES) {
            Ok(tables) => check.tables(tables),
            // Who may not look has found no problem.
            Err(error) if error.is_denied() => return Err(error.into()),
            Err(error) => check.failed("tables", error),
        }
    } else {
        opening::refuse_half_restored(&*disk, dir)?;
        None
    };
    match expected(&*disk, dir, meta).and_then(|expected| Ok((expected, Survey::of(&*disk, dir, &expected)?))) {
        Ok((expected, survey)) => {
            if !has_tables && expected.covered > 0 {
                check.problem("tables", opening::lost_tables(&place, expected.covered));
            }
            check.survey(&disk, dir, survey, expected.covered);
        }
        Err(error) if error.is_denied() => return Err(error),
        Err(error) => check.problem("journal", error),
    }
    Ok(check.checked)
}

/// What the journal must fit to; where the tables do not tell, what it says of itself counts.
fn expected(disk: &dyn Disk, dir: &Path, meta: Option<Meta>) -> Result<Expected, Error> {
    if let Some(meta) = meta {
        return Ok(Expected { history: Some(meta.history), covered: meta.covered });
    }
    let first = journal::first_header(disk, dir)?;
    Ok(Expected { history: None, covered: first.map_or(0, |first| first.follows) })
}

struct Check {
    problems_max: usize,
    checked: Checked,
}

impl Check {
    fn problem(&mut self, place: impl Into<String>, cause: impl ToString) {
        if self.checked.problems.len() < self.problems_max {
            self.checked.problems.push(Problem { place: place.into(), cause: cause.to_string() });
        }
    }

    fn failed<T>(&mut self, place: &str, cause: impl ToString) -> Option<T> {
        self.problem(place, cause);
        None
    }

    fn tables(&mut self, mut tables: Tables) -> Option<Meta> {
        let meta = match tables.meta() {
            Ok(meta) => meta,
            Err(error) => return self.failed("tables, meta", error),
        };
        for db in 0..DATABASES as u8 {
            let result = tables.snapshot().and_then(|snapshot| snapshot.database(db));
            match result {
                Ok(Some(stored)) => self.database(db, &stored, meta.next_id),
                Ok(None) => {}
                Err(error) => self.problem(format!("tables, database {db}"), error),
            }
        }
        // Last, since it may go back to an older state.
        match tables.verify() {
            Ok(true) => {}
            Ok(false) => self.problem("tables", "pages did not match their checksums; redb went back to an older state"),
            Err(error) => self.problem("tables", error),
        }
        Some(meta)
    }

    fn database(&mut self, db: u8, stored: &Stored, next_id: u64) {
        let mut ids = HashMap::new();
        let result = stored.each_key(|key, record| {
            let place = || format!("tables, database {db}, key `{}`", key.escape_ascii());
            self.checked.keys += 1;
            match Record::read(record) {
                Err(error) => self.problem(place(), error),
                Ok(record) => {
                    if let Some(id) = record.id()
                        && (id >= next_id || ids.insert(id, ()).is_some())
                    {
                        self.problem(place(), format!("its id {id} is not its own"));
                    }
                    match self.rows(stored, &record).and_then(|()| load::value(stored, &record).map(drop)) {
                        Err(Error::Corrupt { cause, .. }) => self.problem(place(), cause),
                        Err(error) => self.problem(place(), error),
                        Ok(()) => {}
                    }
                }
            }
            Ok::<_, Error>(())
        });
        let result = result.and_then(|()| {
            stored.each_id(|id, rows| {
                if !ids.contains_key(&id) {
                    self.problem(format!("tables, database {db}, elements of id {id}"), format!("{rows} rows belong to no key"));
                }
                Ok::<_, Error>(())
            })
        });
        if let Err(error) = result {
            self.problem(format!("tables, database {db}"), error);
        }
    }

    /// Counts a value's rows, and sees that they stand in order, each chunk under its first element.
    fn rows(&mut self, stored: &Stored, record: &Record<'_>) -> Result<(), Error> {
        let Large { id, count, sum } = match record.body {
            Body::Small(bytes) => {
                self.checked.rows += if record.kind == Kind::String { 1 } else { Packed(bytes).count() as u64 };
                return Ok(());
            }
            Body::Large(large) => large,
        };
        let (mut found, mut last) = (0, Vec::new());
        stored.each_element(id, sum, |first, chunk| {
            if record.kind == Kind::String {
                self.checked.rows += 1;
                return Ok(());
            }
            for (number, row) in Packed(chunk).enumerate() {
                let (element, _) = row?;
                let is_in_order = (found == 0 || element > last.as_slice()) && (number != 0 || element == first);
                if !is_in_order {
                    return Err(corrupt(format!("element `{}` is out of order", element.escape_ascii())));
                }
                last = element.to_vec();
                found += 1;
            }
            Ok::<_, Error>(())
        })?;
        self.checked.rows += found;
        if record.kind != Kind::String && found != count {
            return Err(corrupt(format!("it has {found} rows where {count} were counted")));
        }
        Ok(())
    }

    /// What the journal's files are like, and the batches in those that are sound.
    fn survey(&mut self, disk: &Arc<dyn Disk>, dir: &Path, survey: Survey, covered: u64) {
        if let Some(damage) = survey.damage {
            self.problem("journal", damage);
        }
        self.checked.notes.extend(survey.torn.as_ref().map(opening::torn_text));
        if !survey.segments.is_empty() {
            self.journal(&Journal::of(disk, dir, survey.segments, SEGMENT_BYTES), covered);
        }
    }

    fn journal(&mut self, journal: &Journal, covered: u64) -> Option<()> {
        let mut seq = covered;
        loop {
            let mut bad = Vec::new();
            let result = journal.read_after(seq, u64::MAX, READ_BYTES, |number, bytes| {
                seq = number;
                self.checked.batches += 1;
                match decode(bytes) {
                    Ok(changes) => self.checked.changes += changes,
                    Err(error) => bad.push((number, error)),
                }
                Ok::<_, Error>(())
            });
            for (number, error) in bad {
                self.problem(format!("journal, batch {number}"), error);
            }
            match result {
                Ok(true) => return Some(()),
                Ok(false) => {}
                Err(error) => return self.failed("journal", error),
            }
        }
    }
}

/// How many changes a batch tells of, if it makes sense.
fn decode(bytes: &[u8]) -> Result<u64, Error> {
    let mut changes = 0;
    for (_, effects) in batch::read(bytes)?.sections {
        batch::each_effect(effects, |_| {
            changes += 1;
            Ok::<_, BadRow>(())
        })?;
    }
    Fold::default().add_batches(&[bytes])?;
    Ok(changes)
}

fn corrupt(cause: String) -> Error {
    Error::Corrupt { place: String::new(), cause }
}
