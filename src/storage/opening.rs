//! Opening a data folder: the tables and the journal must be of one history and meet without a gap. Where they do not, nothing is
//! changed and it is said what is wrong, unless the loss was accepted: then what is behind it is kept aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::disk::{Disk, NEW, PART, file_bytes};
use crate::storage::folder::{JOURNAL, LOST, TABLES};
use crate::storage::journal::{self, Expected, SEGMENT_BYTES, Segment, Survey, Torn};
use crate::storage::tables::Meta;
use crate::storage::{Damage, Error, Journal, Tables, Untouched};

/// Copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What to do where a folder is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Say so, and change nothing.
    Refuse,
    /// Go on with what is before it, and keep aside what is behind it.
    AcceptLoss,
}

/// How a folder is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Pages of the tables that redb keeps in memory.
    pub cache_bytes: usize,
    /// A file of the journal that has grown to this is followed by a new one.
    pub segment_bytes: u64,
    /// What to do where the folder is not as it was written.
    pub on_damage: OnDamage,
    /// What a new folder is told from any other by: a number drawn for it.
    pub new_history: u64,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its tables.
    pub tables: Tables,
    /// Its journal.
    pub journal: Journal,
    /// What was done to it that its owner should know, a sentence each.
    pub notes: Vec<String>,
}

/// A folder as it was found, to be read.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Its tables; None where the journal has it all.
    pub tables: Option<Tables>,
    /// What they say, or would say.
    pub meta: Meta,
    /// Its journal, up to where it is whole.
    pub journal: Journal,
    /// What its owner should know, a sentence each.
    pub notes: Vec<String>,
}

/// A folder that was looked over, and is still as it was found.
pub(crate) struct Found<'d> {
    opening: Opening<'d>,
    tables: Option<Tables>,
    meta: Meta,
    /// None where nothing is there yet.
    survey: Option<Survey>,
}

/// Looks over a folder before it is opened. Damage is an error, unless its loss was accepted.
pub(crate) fn find<'d>(disk: &'d Arc<dyn Disk>, folder: &'d Path, options: Options) -> Result<Found<'d>, Error> {
    let mut opening = Opening::of(disk, folder, options);
    let (tables, meta, is_new) = opening.found()?;
    let survey = if is_new { None } else { Some(opening.survey(&meta)?) };
    if let Some(damage) = survey.as_ref().and_then(|survey| survey.damage.as_ref()) {
        opening.accept(damage)?;
    }
    Ok(Found { opening, tables, meta, survey })
}

impl Found<'_> {
    /// The tables, to be read.
    pub(crate) fn tables(&self) -> Option<&Tables> {
        self.tables.as_ref()
    }

    /// Opens the tables and the journal, made where nothing is there. From here on the folder changes.
    pub(crate) fn open(self) -> Result<Opened, Error> {
        let Found { mut opening, tables, meta, survey } = self;
        let Opening { disk, folder, options, .. } = opening;
        let path = opening.tables_path();
        opening.remove_unfinished()?;
        if opening.has_bad_tables {
            keep_aside(&**disk, folder, &path)?;
        }
        // A new folder gets its journal first: one without tables that begins at the beginning has it all.
        let journal = match survey {
            Some(survey) => opening.journal(survey, &meta)?,
            None => opening.new_journal(&meta)?,
        };
        let tables = if tables.is_some() {
            drop(tables);
            Tables::open(&**disk, &path, options.cache_bytes)?
        } else {
            Tables::create(&**disk, &path, options.cache_bytes, meta)?
        };
        Ok(Opened { tables, journal, notes: opening.notes })
    }
}

/// Looks at the tables and the journal of a folder through a disk that changes nothing. Damage is an error.
pub(crate) fn look(disk: &Arc<dyn Disk>, folder: &Path, cache_bytes: usize) -> Result<Looked, Error> {
    let options = Options { cache_bytes, segment_bytes: SEGMENT_BYTES, on_damage: OnDamage::Refuse, new_history: 0 };
    Opening::of(disk, folder, options).look()
}

/// How many bytes there are to be loaded: those of the tables' file and of the journal.
pub(crate) fn bytes(disk: &dyn Disk, folder: &Path) -> Result<u64, Error> {
    let tables = folder.join(TABLES);
    let mut files: Vec<PathBuf> = journal::named(disk, folder)?.into_iter().map(|(_, path)| path).collect();
    if disk.exists(&tables).map_err(Error::io("look for", &tables))? {
        files.push(tables);
    }
    files.iter().map(|path| file_bytes(disk, path)).sum()
}

/// What a restore has copied so far is no new folder.
pub(crate) fn refuse_half_restored(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let part = folder.join(format!("{TABLES}.{PART}"));
    let is_there = disk.exists(&part).map_err(Error::io("look for", &part))?;
    if is_there { Err(Error::Unrestored { path: folder.to_owned() }) } else { Ok(()) }
}

/// The damage that tables are which are missing though the journal goes on from them.
pub(crate) fn lost_tables(path: &Path, follows: u64) -> Damage {
    let mut damage =
        Damage::new(path.to_owned(), None, format!("it is missing, and the journal begins only after batch {follows}"));
    damage.stake = format!("all that has not changed since batch {follows} would be lost, and what has may be there in part");
    damage
}

/// Keeps a copy of a file aside, before what is whole of it is written anew in its place. Where a kill comes before that, the next start
/// finds the copy: that of the file itself would not be the same, since redb writes into it when it is opened.
pub(crate) fn keep_copy(disk: &dyn Disk, folder: &Path, path: &Path) -> Result<(), Error> {
    let kept = unsettled(folder, path);
    if disk.exists(&kept).map_err(Error::io("look for", &kept))? {
        return Ok(());
    }
    // One that a kill left unfinished is written over.
    let part = folder.join(format!("{LOST}{}.{PART}", name_of(path)));
    disk.remove(&part).map_err(Error::io("remove", &part))?;
    let from = disk.open(path).map_err(Error::io("open", path))?;
    let to = disk.open(&part).map_err(Error::io("open", &part))?;
    let copy = || {
        let (end, mut at, mut buf) = (from.len()?, 0, vec![0; COPY_BYTES]);
        while at < end {
            let now = buf.len().min((end - at) as usize);
            from.read(at, &mut buf[..now])?;
            to.write(at, &buf[..now])?;
            at += now as u64;
        }
        to.sync_data()
    };
    if let Err(source) = copy() {
        // Half a copy is of no use, and takes room.
        let _ = disk.remove(&part);
        return Err(Error::io("copy to", &part)(source));
    }
    disk.rename(&part, &kept).map_err(Error::io("rename", &part))
}

/// Once what a file holds is whole: where the copy is that was kept of it when it was not, if there is one.
pub(crate) fn settle_copy(disk: &dyn Disk, folder: &Path, path: &Path) -> Result<Option<PathBuf>, Error> {
    let unsettled = unsettled(folder, path);
    if !disk.exists(&unsettled).map_err(Error::io("look for", &unsettled))? {
        return Ok(None);
    }
    let kept = aside(disk, folder, path)?;
    disk.rename(&unsettled, &kept).map_err(Error::io("rename", &unsettled))?;
    Ok(Some(kept))
}

/// The name of a copy of what may not be written anew yet.
fn unsettled(folder: &Path, path: &Path) -> PathBuf {
    folder.join(format!("{LOST}{}", name_of(path)))
}

fn keep_aside(disk: &dyn Disk, folder: &Path, path: &Path) -> Result<(), Error> {
    let kept = aside(disk, folder, path)?;
    disk.rename(path, &kept).map_err(Error::io("rename", path))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A name for what is kept of a file, which nothing has yet.
fn aside(disk: &dyn Disk, folder: &Path, path: &Path) -> Result<PathBuf, Error> {
    let name = name_of(path);
    let mut number = 0;
    loop {
        let kept = folder.join(format!("{LOST}{number}-{name}"));
        if !disk.exists(&kept).map_err(Error::io("look for", &kept))? {
            return Ok(kept);
        }
        number += 1;
    }
}

/// What a crash left at the journal's end, in words.
pub(crate) fn torn_text(torn: &Torn) -> String {
    format!(
        "a crash left the last {} bytes of the journal half written, from byte {} of `{}` on; nothing of it was ever acknowledged as being on disk",
        torn.bytes,
        torn.at,
        torn.path.display()
    )
}

struct Opening<'d> {
    disk: &'d Arc<dyn Disk>,
    folder: &'d Path,
    options: Options,
    /// Whether the tables cannot be read, and the loss was accepted.
    has_bad_tables: bool,
    notes: Vec<String>,
}

impl<'d> Opening<'d> {
    fn of(disk: &'d Arc<dyn Disk>, folder: &'d Path, options: Options) -> Opening<'d> {
        Opening { disk, folder, options, has_bad_tables: false, notes: Vec::new() }
    }

    /// Removes files that a crash left half written, which may be as large as those that are there.
    fn remove_unfinished(&self) -> Result<(), Error> {
        let is_unfinished = |path: &PathBuf| {
            let (name, end) = (name_of(path), path.extension().and_then(|end| end.to_str()));
            let is_ours = name.starts_with("tables.") || name.starts_with(JOURNAL);
            end == Some(NEW) && is_ours || end == Some(PART) && name.starts_with(LOST)
        };
        let files = self.disk.list(self.folder).map_err(Error::io("read", self.folder))?;
        files
            .iter()
            .filter(|path| is_unfinished(path))
            .try_for_each(|path| self.disk.remove(path).map_err(Error::io("remove", path)))
    }

    fn look(mut self) -> Result<Looked, Error> {
        let (tables, meta, _) = self.found()?;
        let survey = self.survey(&meta)?;
        if let Some(damage) = survey.damage {
            return Err(damage.into());
        }
        self.notes.extend(survey.torn.as_ref().map(torn_text));
        Ok(Looked {
            tables,
            meta,
            journal: Journal::of(self.disk, self.folder, survey.segments, self.options.segment_bytes),
            notes: self.notes,
        })
    }

    /// The tables, if there are any that can be read; what they say, or those will that are made; and whether nothing is there yet.
    fn found(&mut self) -> Result<(Option<Tables>, Meta, bool), Error> {
        journal::refuse_older(&**self.disk, self.folder)?;
        if let Some(tables) = self.tables()? {
            let meta = tables.meta()?;
            return Ok((Some(tables), meta, false));
        }
        let new = Meta { covered: 0, next_id: 1, stored: None, history: self.options.new_history };
        let first = match journal::first_header(&**self.disk, self.folder) {
            Ok(Some(first)) => first,
            Ok(None) => {
                refuse_half_restored(&**self.disk, self.folder)?;
                return Ok((None, new, true));
            }
            Err(Error::Damaged(damage)) => {
                self.accept(&damage)?;
                return Ok((None, new, false));
            }
            Err(error) => return Err(error),
        };
        if first.follows > 0 {
            self.accept(&lost_tables(&self.tables_path(), first.follows))?;
        }
        Ok((None, Meta { covered: first.follows, history: first.history, ..new }, false))
    }

    fn tables_path(&self) -> PathBuf {
        self.folder.join(TABLES)
    }

    fn tables(&mut self) -> Result<Option<Tables>, Error> {
        let path = self.tables_path();
        if !self.disk.exists(&path).map_err(Error::io("look for", &path))? {
            return Ok(None);
        }
        // What redb writes while it opens them is not written yet.
        match Tables::open(&Untouched(Arc::clone(self.disk)), &path, self.options.cache_bytes) {
            Err(Error::Damaged(damage)) => {
                self.accept(&damage)?;
                self.has_bad_tables = true;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn survey(&self, meta: &Meta) -> Result<Survey, Error> {
        let expected = Expected { history: Some(meta.history), covered: meta.covered };
        Survey::of(&**self.disk, self.folder, &expected)
    }

    /// The journal that is there, to go on with.
    fn journal(&mut self, survey: Survey, meta: &Meta) -> Result<Journal, Error> {
        if let Some(damage) = &survey.damage {
            self.keep_lost(&survey, damage)?;
        } else if let Some(torn) = &survey.torn {
            self.keep_torn(&survey, torn)?;
        }
        let last = survey.segments.last().map(Segment::last);
        if last.is_none_or(|last| last < meta.covered) {
            // What is left of it is in the tables.
            for segment in survey.segments.iter().rev() {
                keep_aside(&**self.disk, self.folder, &segment.path)?;
            }
            return self.new_journal(meta);
        }
        Journal::settled(self.disk, self.folder, survey.segments, self.options.segment_bytes)
    }

    fn new_journal(&self, meta: &Meta) -> Result<Journal, Error> {
        Journal::create(self.disk, self.folder, meta.history, meta.covered, self.options.segment_bytes)
    }

    /// Goes on if it was said that a loss is accepted.
    fn accept(&mut self, damage: &Damage) -> Result<(), Error> {
        if self.options.on_damage == OnDamage::Refuse {
            return Err(damage.clone().into());
        }
        self.notes.push(format!("accepted a loss: {}", damage.what()));
        Ok(())
    }

    /// Keeps aside what is behind the damage.
    fn keep_lost(&self, survey: &Survey, damage: &Damage) -> Result<(), Error> {
        // The last first: what a crash leaves meanwhile is damaged as before.
        for path in survey.lost.iter().rev() {
            keep_aside(&**self.disk, self.folder, path)?;
        }
        if let (Some(at), Some(last)) = (damage.at, survey.segments.last().filter(|last| last.path == damage.path)) {
            last.copy_end(&**self.disk, at, &aside(&**self.disk, self.folder, &last.path)?)?;
        }
        Ok(())
    }

    /// Keeps the end that a crash cut off, in the place of the one before.
    fn keep_torn(&mut self, survey: &Survey, torn: &Torn) -> Result<(), Error> {
        let kept = self.folder.join(format!("{LOST}torn-end"));
        self.disk.remove(&kept).map_err(Error::io("remove", &kept))?;
        let copied = survey.segments.last().map_or(Ok(()), |last| last.copy_end(&**self.disk, torn.at, &kept));
        // Nobody was ever told that these are kept: where there is no room for them, a start goes on.
        let fate = match copied {
            Ok(()) => format!("they are kept in `{}`", kept.display()),
            Err(error) => format!("they could not be kept: {error}"),
        };
        self.notes.push(format!("{}; {fate}", torn_text(torn)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Files;

    #[test]
    fn what_is_kept_of_a_file_is_kept_once_however_often_a_kill_comes_between() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TABLES);
        let keep = |bytes: u8| {
            std::fs::write(&path, [bytes; 5000]).unwrap();
            keep_copy(&Files::default(), dir.path(), &path).unwrap();
        };
        let settle = || settle_copy(&Files::default(), dir.path(), &path).unwrap();
        std::fs::write(dir.path().join("lost-tables.redb.part"), [9; 9000]).unwrap();
        keep(1);
        // redb has written into it.
        keep(2);
        let first = settle().unwrap();
        assert_eq!((std::fs::read(&first).unwrap(), settle()), (vec![1; 5000], None));
        keep(3);
        assert_ne!(settle(), Some(first));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
