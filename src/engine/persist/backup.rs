//! Backups: a copy of the tables in one file, made while serving, and a data folder made from it.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock;
use crate::engine::persist::apply::apply;
use crate::engine::persist::fold::Fold;
use crate::engine::persist::{Error, Inner};
use crate::id;
use crate::storage::disk::PART;
use crate::storage::folder::{LOCK, PRIVATE_FILE, TABLES, make_private, segment_name, sync_folder};
use crate::storage::journal::SEGMENT_BYTES;
use crate::storage::tables::{DATABASES, Meta};
use crate::storage::{self, Disk, Files, Folder, Journal, Tables, opening};

/// The batch that a backup says it is good up to.
const COVERED: u64 = 1;
/// Journal folded at once.
const FOLD_BYTES: usize = 32 << 20;
/// What a backup is written into until it is whole counts as left behind if nobody has written to it for so long, nor holds it open:
/// between its last write and its new name there is a sync.
const LEFT_S: u64 = 60;
/// Pages kept in memory while copying.
const CACHE_BYTES: usize = 16 << 20;

/// Refuses a place inside the data folder, whatever way leads there.
pub(crate) fn check_place(inner: &Inner, to: &Path) -> Result<(), Error> {
    let folder = folder_of(to);
    let real = folder.canonicalize().map_err(|source| io("look for", &folder, source))?;
    // The folder itself, wherever it was moved.
    let is_inside = real.ancestors().any(|ancestor| inner.folder.is_at(ancestor));
    if is_inside { Err(Error::Inside { path: real.join(to.file_name().unwrap_or_default()) }) } else { Ok(()) }
}

/// Copies what the tables hold to a file that appears when it is whole.
pub(crate) fn backup(inner: &Inner, to: &Path) -> Result<(), Error> {
    let snapshot = {
        let tables = inner.tables.read();
        tables.as_ref().ok_or_else(|| Error::Write("the tables are closed".into()))?.snapshot()?
    };
    write(to, |part| Ok(Tables::copy(&Files::default(), part, &snapshot, alone)?))
}

/// Copies a data folder that no server uses to a file; nothing in the folder is changed. Tells how many keys that were, and what its
/// owner should know.
pub fn backup_folder(dir: &Path, to: &Path) -> Result<(u64, Vec<String>), Error> {
    let folder = Folder::look(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(folder.untouched());
    let looked = opening::look(&disk, dir, CACHE_BYTES)?;
    let mut keys = 0;
    write(to, |part| {
        let tables = match &looked.tables {
            Some(tables) => {
                Tables::copy(&Files::default(), part, &tables.snapshot()?, alone)?;
                Tables::open(&Files::default(), part, CACHE_BYTES)?
            }
            None => Tables::create(&Files::default(), part, CACHE_BYTES, alone(looked.meta))?,
        };
        fold_into(&tables, &looked.journal, looked.meta.covered)?;
        let meta = tables.meta()?;
        tables.write(|changes| {
            changes.set_meta(alone(meta));
            Ok::<_, Error>(())
        })?;
        let snapshot = tables.snapshot()?;
        for db in 0..DATABASES as u8 {
            keys += snapshot.database(db)?.map_or(0, |stored| stored.len());
        }
        Ok(())
    })?;
    Ok((keys, looked.notes))
}

/// What a backup says of itself: it stands on its own, no journal goes on from it, and it is the beginning of another history. The
/// journal that a restored folder begins with follows a batch that never was, so that nobody takes it for a whole one.
fn alone(meta: Meta) -> Meta {
    Meta { covered: COVERED, history: id::random(), ..meta }
}

/// Writes what the journal holds after a batch into tables.
fn fold_into(tables: &Tables, journal: &Journal, covered: u64) -> Result<(), Error> {
    let (mut seq, mut is_end) = (covered, false);
    while !is_end {
        let mut fold = Fold::default();
        is_end = journal.read_after(seq, u64::MAX, FOLD_BYTES, |number, bytes| {
            seq = number;
            fold.add_batches(&[bytes]).map_err(|error| error.of_batches(number..=number))
        })?;
        apply(tables, &fold, seq)?;
    }
    Ok(())
}

/// Has a file written under another name first, and puts it in its place when it is on disk.
fn write(to: &Path, run: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let folder = folder_of(to);
    let name = to.file_name().ok_or_else(|| io("name a file for a backup", to, std::io::ErrorKind::InvalidInput.into()))?;
    let name = format!(".{}.", name.to_string_lossy());
    remove_left(&folder, &name);
    let part = folder.join(format!("{name}{}.{PART}", id::random()));
    let result = run(&part).and_then(|()| {
        std::fs::rename(&part, to).map_err(|source| io("rename a backup to", to, source))?;
        Ok(sync_folder(&folder)?)
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
}

/// Removes what backups to the same place left that were killed. What cannot be removed stays: it takes room, and nothing else.
fn remove_left(folder: &Path, name: &str) {
    let number = |file: &str| file.strip_prefix(name)?.strip_suffix(PART)?.strip_suffix('.')?.parse::<u64>().ok();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| entry.file_name().to_str().and_then(number).is_some());
    for part in parts.map(|entry| entry.path()).filter(|part| is_left(part)) {
        tracing::info!("removing `{}`, which a backup left that was killed", part.display());
        let _ = std::fs::remove_file(part);
    }
}

fn is_left(part: &Path) -> bool {
    let Ok(file) = File::open(part) else { return false };
    let is_old = |written_s: i64| clock::now_ms() / 1000 > written_s.max(0) as u64 + LEFT_S;
    // redb locks what it writes.
    file.metadata().is_ok_and(|metadata| is_old(metadata.mtime())) && file.try_lock().is_ok()
}

/// Makes a data folder from a backup.
pub fn restore(file: &Path, dir: &Path) -> Result<(), Error> {
    if !file.is_file() {
        return Err(io("open backup", file, std::io::ErrorKind::NotFound.into()));
    }
    make_private(dir).map_err(|source| io("create", dir, source))?;
    let mut entries = std::fs::read_dir(dir).map_err(|source| io("read", dir, source))?;
    if entries.next().is_some() {
        opening::refuse_half_restored(&Files::default(), dir)?;
        return Err(Error::NotEmpty { path: dir.to_owned() });
    }
    let folder = Folder::open(dir)?;
    let part = dir.join(format!("{TABLES}.{PART}"));
    let result = restore_as(file, &part, &folder);
    if result.is_err() {
        // Empty again, so that it can be tried again.
        for made in [part, folder.path().join(segment_name(COVERED + 1)), folder.path().join(LOCK)] {
            let _ = std::fs::remove_file(made);
        }
    }
    result
}

fn restore_as(file: &Path, part: &Path, folder: &Folder) -> Result<(), Error> {
    std::fs::copy(file, part).map_err(|source| io("copy the backup to", part, source))?;
    // The copy has the permissions of what was copied.
    let permissions = Permissions::from_mode(PRIVATE_FILE);
    std::fs::set_permissions(part, permissions).map_err(|source| io("set the permissions of", part, source))?;
    let disk: Arc<dyn Disk> = Arc::new(folder.files());
    // Each folder made from a backup goes its own way.
    let meta =
        Meta { history: id::random(), ..sound(&*disk, part).map_err(|cause| Error::NoBackup { path: file.to_owned(), cause })? };
    Tables::open(&*disk, part, CACHE_BYTES)?.write(|changes| {
        changes.set_meta(meta);
        Ok::<_, Error>(())
    })?;
    File::open(part).and_then(|copy| copy.sync_all()).map_err(|source| io("sync", part, source))?;
    Journal::create(&disk, folder.path(), meta.history, meta.covered, SEGMENT_BYTES)?;
    disk.rename(part, &folder.tables()).map_err(|source| io("rename to", &folder.tables(), source))
}

/// What a backup says of itself, if it is a whole one; else why not.
fn sound(disk: &dyn Disk, file: &Path) -> Result<Meta, String> {
    let read = || {
        let mut tables = Tables::open(disk, file, CACHE_BYTES)?;
        Ok((tables.verify()?, tables.meta()?))
    };
    match read() {
        Ok((false, _)) => Err("its pages do not match their checksums".into()),
        Ok((true, meta)) if meta.covered != COVERED => Err("it is the tables of a data folder, without its journal".into()),
        Ok((true, meta)) => Ok(meta),
        Err(storage::Error::Damaged(damage)) => Err(damage.cause),
        Err(error) => Err(error.to_string()),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    storage::Error::Io { what, path: path.to_owned(), source }.into()
}
