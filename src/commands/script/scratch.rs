//! Room for what a script sends and gets, which serves one call after another.

use crate::resp::{OwnedArgs, Reply};

/// The words of a command and its reply.
#[derive(Default)]
pub(crate) struct Scratch {
    pub words: OwnedArgs,
    pub reply: Reply,
}

impl Scratch {
    /// As it is kept from one run to the next: without what was needed once.
    pub(crate) fn kept(self) -> Scratch {
        const KEPT_BYTES_MAX: usize = 16 << 10;
        if self.words.memory_bytes() + self.reply.capacity() > KEPT_BYTES_MAX { Scratch::default() } else { self }
    }
}
