//! Calls into redb. It panics where a page makes no sense to it: that, as any of its errors, is told as an error that
//! names the file and the way out.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;
use std::sync::Once;

use crate::storage::{Damage, Error};

thread_local! {
    /// Calls of this thread that are caught, one within the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// What the last panic caught here said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs what calls redb on the file at `path`.
pub(crate) fn caught<T, E: Into<redb::Error>>(path: &Path, run: impl FnOnce() -> Result<T, E>) -> Result<T, Error> {
    whole(path, || run().map_err(|error| Error::database(path, error.into())))
}

/// The same for what has calls of this kind in it, or only drops what redb gave out.
pub(crate) fn whole<T, E: From<Error>>(path: &Path, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    HOOK.call_once(keep_quiet);
    DEPTH.set(DEPTH.get() + 1);
    // After a panic nothing is done with the database but to drop it.
    let result = catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|_| Err(Error::from(Damage::new(path.to_owned(), None, SAID.take())).into()))
}

/// What is caught is told as an error, and not to the terminal.
fn keep_quiet() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if DEPTH.get() == 0 {
            before(panic);
        } else {
            SAID.set(said(panic));
        }
    }));
}

fn said(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("it says nothing");
    let line = text.lines().next().unwrap_or_default();
    match panic.location() {
        Some(place) => {
            let file = Path::new(place.file()).file_name().unwrap_or_default();
            format!("redb made no sense of a page ({}, line {}: {line})", file.display(), place.line())
        }
        None => format!("redb made no sense of a page ({line})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_the_file_and_the_way_out() {
        let path = Path::new("some/tables.redb");
        let error = caught(path, || -> Result<(), redb::Error> { panic!("no such page") }).unwrap_err().to_string();
        for part in ["some/tables.redb", "no such page", "restore a backup", "--accept-loss"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
