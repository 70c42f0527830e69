//! Backups: a copy of the tables in one file, made while serving, and a data folder made from it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::engine::persist::{Error, Inner};
use crate::storage::folder::{PRIVATE_FILE, TABLES, make_private, sync_folder};
use crate::storage::{self, Files, Folder, Tables};

/// Pages kept in memory while copying.
const CACHE_BYTES: usize = 16 << 20;

/// Refuses a place inside the data folder, whatever way leads there.
pub fn check_place(inner: &Inner, to: &Path) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().map_err(|source| io("look for", path, source));
    let (folder, data) = (real(&folder_of(to))?, real(inner.folder.path())?);
    if !folder.starts_with(&data) {
        return Ok(());
    }
    Err(Error::Inside { path: folder.join(to.file_name().unwrap_or_default()) })
}

/// Copies what the tables hold to a file that appears when it is whole.
pub fn backup(inner: &Inner, to: &Path) -> Result<(), Error> {
    let snapshot = {
        let tables = inner.tables.read();
        tables.as_ref().ok_or_else(|| Error::Write("the tables are closed".into()))?.snapshot()?
    };
    let folder = folder_of(to);
    let name = to.file_name().ok_or_else(|| io("name a file for a backup", to, std::io::ErrorKind::InvalidInput.into()))?;
    let part = folder.join(format!(".{}.{}.part", name.to_string_lossy(), crate::id::random()));
    let result = (|| {
        // It stands on its own: no journal goes on from it.
        Tables::copy(&Files, &part, &snapshot, 0)?;
        std::fs::rename(&part, to).map_err(|source| io("rename a backup to", to, source))?;
        Ok(sync_folder(&folder)?)
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
}

/// Makes a data folder from a backup.
pub fn restore(file: &Path, dir: &Path) -> Result<(), Error> {
    if !file.is_file() {
        return Err(io("open backup", file, std::io::ErrorKind::NotFound.into()));
    }
    make_private(dir).map_err(|source| io("create", dir, source))?;
    let mut entries = std::fs::read_dir(dir).map_err(|source| io("read", dir, source))?;
    if entries.next().is_some() {
        return Err(Error::NotEmpty { path: dir.to_owned() });
    }
    let folder = Folder::open(dir)?;
    let part = dir.join(format!("{TABLES}.part"));
    let result = (|| {
        std::fs::copy(file, &part).map_err(|source| io("copy the backup to", &part, source))?;
        // The copy has the permissions of what was copied.
        let permissions = Permissions::from_mode(PRIVATE_FILE);
        std::fs::set_permissions(&part, permissions).map_err(|source| io("set the permissions of", &part, source))?;
        let mut tables = Tables::open(&Files, &part, CACHE_BYTES)?;
        let is_sound = tables.verify()?;
        drop(tables);
        if !is_sound {
            return Err(Error::Corrupt {
                place: file.display().to_string(),
                cause: "its pages do not match their checksums".into(),
            });
        }
        std::fs::rename(&part, folder.tables()).map_err(|source| io("rename to", &folder.tables(), source))?;
        Ok(sync_folder(dir)?)
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
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
