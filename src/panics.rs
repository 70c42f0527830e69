//! What a panic means: memory may hold half of a change, and whoever sees to the disk may be gone. So the process ends, and says in which
//! thread, where and why; the next start replays what is on disk. No half of a command is there: whoever panics still holds its shards.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

static ARE_FATAL_WITHIN: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SURVIVES: Cell<bool> = const { Cell::new(false) };
}

/// For a process that is nothing but the server: any panic in any thread ends it, before that lets go of a lock, but for those that are
/// [`surviving`] and pass no [`Whole`].
pub(crate) fn end_the_process() {
    ARE_FATAL_WITHIN.store(true, Relaxed);
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !SURVIVES.get() {
            end();
        }
    }));
}

/// Runs what is started again where it panics (`lifecycle`), and leaves nothing half done then.
pub(crate) fn surviving<R>(run: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            SURVIVES.set(self.0);
        }
    }
    let _back = Back(SURVIVES.replace(true));
    run()
}

/// Someone that had to live has died: nobody sees to its work any more, so where a panic would end the process, this does.
pub(crate) fn died(name: &str, why: &str) {
    if ARE_FATAL_WITHIN.load(Relaxed) {
        let _ = writeln!(io::stderr(), "flux: `{name}` {why}");
        end();
    }
}

/// For flux within another program, whose own panics are its own affair: from here on, one that passes a [`Whole`] ends the process. To be
/// called where a journal is opened; without one, there is nothing that half a change could spoil for ever.
pub(crate) fn end_the_process_from_within() {
    ARE_FATAL_WITHIN.store(true, Relaxed);
}

fn end() -> ! {
    // Where nobody listens any more, it ends all the same.
    let _ = writeln!(
        io::stderr(),
        "flux: ended at once, since a panic may leave half a change in memory; the next start reads what is on disk"
    );
    process::abort()
}

/// Around what must be done whole or not at all. To be dropped before the locks it was done under.
pub(crate) struct Whole {
    is_off: bool,
}

impl Whole {
    /// Begins it.
    #[inline]
    pub(crate) fn begin() -> Whole {
        // What is done while a panic unwinds, as a client's leaving, did not cause it.
        Whole { is_off: !ARE_FATAL_WITHIN.load(Relaxed) || thread::panicking() }
    }
}

impl Drop for Whole {
    #[inline]
    fn drop(&mut self) {
        if !self.is_off && thread::panicking() {
            end();
        }
    }
}
