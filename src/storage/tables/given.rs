//! What redb gave out while tables are changed.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use crate::storage::Error;
use crate::storage::caught::whole;

/// Something of redb that does more than to give back memory when it is dropped. After a panic of redb it may panic again then: that is
/// caught as the first one was.
pub(crate) struct Given<'p, T> {
    path: &'p Path,
    /// There until it is dropped or taken.
    given: Option<T>,
}

impl<T> Given<'_, T> {
    /// What redb gave out for the file at `path`.
    pub(crate) fn new(path: &Path, given: T) -> Given<'_, T> {
        Given { path, given: Some(given) }
    }

    /// Takes it, to be ended within a call that is caught.
    pub(crate) fn take(mut self) -> T {
        self.given.take().expect(THERE)
    }
}

const THERE: &str = "it is there until it is dropped";

impl<T> Deref for Given<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.given.as_ref().expect(THERE)
    }
}

impl<T> DerefMut for Given<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.given.as_mut().expect(THERE)
    }
}

impl<T> Drop for Given<'_, T> {
    fn drop(&mut self) {
        if let Some(given) = self.given.take() {
            let _ = whole(self.path, || {
                drop(given);
                Ok::<_, Error>(())
            });
        }
    }
}
