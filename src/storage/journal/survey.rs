//! Looking over the journal's files before anything is done with them: whether each follows the one before it, and whether all
//! that is known to have been on disk is there and as it was written. What a crash left half written is told from damage.

use std::path::{Path, PathBuf};

use crate::storage::disk::Disk;
use crate::storage::journal::header::{FRONT_BYTES, Header};
use crate::storage::journal::segment::{Segment, Walk};
use crate::storage::{Damage, Error, folder};

/// What is known from elsewhere about a journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The folder's history, where the tables tell it.
    pub history: Option<u64>,
    /// The tables hold everything up to this batch: nothing of it is needed any more.
    pub covered: u64,
}

/// The journal's files, as they were found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Those that are sound, in order; the last one up to where it is.
    pub segments: Vec<Segment>,
    /// Where a crash cut the last file off.
    pub torn: Option<Torn>,
    /// The first thing that is wrong.
    pub damage: Option<Damage>,
    /// Files that are behind it, or are it.
    pub lost: Vec<PathBuf>,
}

/// An end that was never acknowledged as being on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub at: u64,
    /// How long it is.
    pub bytes: u64,
}

/// How an end of a segment is to be taken.
enum End {
    Whole,
    Torn(Torn),
    Damaged(Damage),
}

impl Survey {
    /// Looks over a folder's journal.
    pub(crate) fn of(disk: &dyn Disk, folder: &Path, expected: &Expected) -> Result<Survey, Error> {
        let named = named(disk, folder)?;
        let mut survey = Survey::default();
        let mut next = named.iter().map(|(first, _)| *first).skip(1);
        for (at, (first, path)) in named.iter().enumerate() {
            let mut damage = match Segment::open(disk, path.clone()) {
                Ok(segment) => survey.add(segment, *first, next.next(), expected)?,
                Err(Error::Damaged(damage)) => Some(*damage),
                Err(error) => return Err(error),
            };
            if let Some(damage) = &mut damage {
                let is_file_lost = survey.segments.len() <= at;
                survey.lost = named[at + usize::from(!is_file_lost)..].iter().map(|(_, path)| path.clone()).collect();
                if damage.stake.is_empty() {
                    damage.stake = survey.stake(disk, damage)?;
                }
                survey.damage = Some(damage.clone());
                return Ok(survey);
            }
        }
        survey.damage = if named.is_empty() { Some(nothing_there(folder)) } else { survey.missing_end(folder) };
        if survey.damage.is_none() {
            survey.damage = survey.older(expected.covered);
        }
        Ok(survey)
    }

    /// Adds a segment, unless it is not the one that belongs here; tells what is wrong.
    fn add(&mut self, segment: Segment, first: u64, next: Option<u64>, expected: &Expected) -> Result<Option<Damage>, Error> {
        let damage = |cause: String| Ok(Some(Damage::new(segment.path.clone(), None, cause)));
        let header = segment.header;
        let history = self.segments.first().map(|segment| segment.header.history).or(expected.history);
        if history.is_some_and(|history| history != header.history) {
            return damage("it belongs to another data folder".into());
        }
        if header.first != first {
            return damage(format!("it was `{}` when it was written", folder::segment_name(header.first)));
        }
        match self.segments.last() {
            Some(before) if before.last() != header.follows && header.follows > expected.covered => {
                let (last, follows) = (before.last(), header.follows);
                return damage(format!(
                    "it follows batch {follows}, and the file before it ends with {last}: what was between is missing"
                ));
            }
            None if header.follows > expected.covered => {
                let (covered, follows) = (expected.covered, header.follows);
                return damage(format!(
                    "it follows batch {follows}, and the tables end with {covered}: what was between is missing"
                ));
            }
            _ => {}
        }
        let end = match next {
            // The tables hold all of it: it only waits to be removed.
            Some(next) if next <= expected.covered.saturating_add(1) => End::Whole,
            _ => end_of(&segment, next.is_none(), expected.covered)?,
        };
        self.segments.push(segment);
        match end {
            End::Whole => Ok(None),
            End::Torn(torn) => {
                self.torn = Some(torn);
                Ok(None)
            }
            End::Damaged(damage) => Ok(Some(damage)),
        }
    }

    /// Whether the last file says that another one follows.
    fn missing_end(&self, folder: &Path) -> Option<Damage> {
        let last = self.segments.last().filter(|last| last.marked().is_over)?;
        let mut damage =
            Damage::new(folder.to_owned(), None, format!("the journal's file after `{}` is missing", name(&last.path)));
        damage.stake = format!("all that was changed after batch {} would be lost", last.last());
        Some(damage)
    }

    /// Whether the journal ends before the tables do, which it never did: they hold what it held already.
    fn older(&self, covered: u64) -> Option<Damage> {
        let last = self.segments.last().filter(|last| last.last() < covered)?;
        let cause = format!("it ends with batch {}, and the tables are good up to {covered}: it is an older copy", last.last());
        let mut damage = Damage::new(last.path.clone(), None, cause);
        damage.stake = format!("all that was changed after batch {covered} would be lost");
        Some(damage)
    }

    /// What is behind the damage, in words.
    fn stake(&self, disk: &dyn Disk, damage: &Damage) -> Result<String, Error> {
        let (mut batches, mut bytes, mut is_cut) = (0, 0, false);
        if let (Some(at), Some(segment)) = (damage.at, self.segments.last().filter(|segment| segment.path == damage.path)) {
            batches += segment.beyond(at)?.batches;
            bytes += segment.file_len()?.saturating_sub(at);
        }
        for path in &self.lost {
            let len = disk.open(path).and_then(|file| file.len()).map_err(Error::io("open", path))?;
            bytes += len;
            is_cut |= len < FRONT_BYTES;
            if let Ok(segment) = Segment::open(disk, path.clone()) {
                segment.walk(0, |_, _| {
                    batches += 1;
                    Ok(())
                })?;
            }
        }
        let gone = if is_cut { "; what else was in the file is gone already, however much that was" } else { "" };
        Ok(format!("{bytes} bytes would be lost, among them {batches} whole batches{gone}"))
    }
}

/// How a segment ends, behind the batches that the tables hold.
fn end_of(segment: &Segment, is_last: bool, covered: u64) -> Result<End, Error> {
    let walk = segment.walk(covered, |_, _| Ok(()))?;
    segment.ends(&walk);
    let len = segment.file_len()?;
    let Walk { end: at, is_whole, .. } = walk;
    let known = if is_last { segment.marked().synced } else { segment.marked().synced.max(len) };
    let damaged = |cause: &str| Damage::new(segment.path.clone(), Some(at), cause);
    if is_whole {
        if known > len {
            let damage = damaged(&format!("the file ends there, and {known} bytes of it were on disk"));
            return Ok(End::Damaged(Damage { stake: format!("{} bytes would be lost", known - len), ..damage }));
        }
        return Ok(End::Whole);
    }
    if at < known || at < segment.beyond(at)?.synced {
        return Ok(End::Damaged(damaged("the batch there was on disk, and is not what was written")));
    }
    Ok(End::Torn(Torn { path: segment.path.clone(), at, bytes: len - at }))
}

/// The segments of a folder, with the numbers their names tell, in order.
pub(crate) fn named(disk: &dyn Disk, folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let files = disk.list(folder).map_err(Error::io("read", folder))?;
    let mut named: Vec<(u64, PathBuf)> =
        files.into_iter().filter_map(|path| Some((folder::segment_number(path.file_name()?.to_str()?)?, path))).collect();
    named.sort_unstable();
    Ok(named)
}

/// What the first file of a folder's journal says of itself; None where there is no file.
pub(crate) fn first_header(disk: &dyn Disk, folder: &Path) -> Result<Option<Header>, Error> {
    match named(disk, folder)?.into_iter().next() {
        Some((_, path)) => Ok(Some(Segment::open(disk, path)?.header)),
        None => Ok(None),
    }
}

/// A folder has a file of the journal from its first start on.
fn nothing_there(folder: &Path) -> Damage {
    Damage::new(folder.to_owned(), None, "its journal is missing: no file is named journal-…")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
