//! The pages of tables that lead to rows, kept in memory: a row that is read back, of tables much larger than memory, then costs one
//! read, that of the page it stands in. They are a hundredth of all pages where values are not tiny. redb's own cache cannot do that: it
//! takes in every page that was read, and the pages of rows, which are hardly ever wanted twice, drive out the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

/// What the first byte of a page says that leads to others. Were it ever something else, only the wrong pages would be kept.
const BRANCH: u8 = 2;

/// Such pages of one file.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    bytes_max: AtomicUsize,
    pages: RwLock<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    by_place: BTreeMap<u64, Box<[u8]>>,
    bytes: usize,
    /// Where the page stands that goes next, or before it.
    hand: u64,
}

impl Branches {
    /// Keeps no more bytes than this from now on.
    pub(crate) fn keep(&self, bytes_max: usize) {
        if self.bytes_max.swap(bytes_max, Relaxed) > bytes_max {
            self.pages.write().shrink_to(bytes_max);
        }
    }

    /// Fills in what stands at a place in the file, if it is kept.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> bool {
        if self.bytes_max.load(Relaxed) == 0 {
            return false;
        }
        let pages = self.pages.read();
        let page = pages.by_place.get(&at).filter(|page| page.len() == out.len());
        page.inspect(|page| out.copy_from_slice(page)).is_some()
    }

    /// Keeps what was read there, if it leads to rows. redb lets nobody write a page while someone may still read it.
    pub(crate) fn note(&self, at: u64, bytes: &[u8]) {
        let bytes_max = self.bytes_max.load(Relaxed);
        if bytes.first() == Some(&BRANCH) && bytes.len() <= bytes_max {
            self.pages.write().put(at, bytes, bytes_max);
        }
    }

    /// Forgets what stood from here on, for so many bytes.
    pub(crate) fn forget(&self, at: u64, bytes: u64) {
        self.pages.write().forget(at, bytes);
    }
}

impl Pages {
    fn put(&mut self, at: u64, bytes: &[u8], bytes_max: usize) {
        self.remove(at);
        self.shrink_to(bytes_max - bytes.len());
        self.bytes += bytes.len();
        self.by_place.insert(at, bytes.into());
    }

    /// Each goes when the hand comes to it, round and round: all below the first ones are wanted equally often.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let next = self.by_place.range(self.hand..).next().or_else(|| self.by_place.first_key_value());
            let at = *next.expect("pages that have bytes are there").0;
            self.remove(at);
            self.hand = at + 1;
        }
    }

    fn forget(&mut self, at: u64, bytes: u64) {
        let end = at.saturating_add(bytes);
        while let Some((start, page)) = self.by_place.range(..end).next_back() {
            let start = *start;
            if start + page.len() as u64 <= at {
                return;
            }
            self.remove(start);
        }
    }

    fn remove(&mut self, at: u64) {
        self.bytes -= self.by_place.remove(&at).map_or(0, |page| page.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(mark: u8, len: usize) -> Vec<u8> {
        let mut page = vec![mark; len];
        page[0] = BRANCH;
        page
    }

    /// What is kept at a place, by its second byte.
    fn at(branches: &Branches, at: u64, len: usize) -> Option<u8> {
        let mut out = vec![0; len];
        branches.read(at, &mut out).then(|| out[1])
    }

    #[test]
    fn pages_that_lead_to_others_are_kept_and_no_others_are() {
        let branches = Branches::default();
        branches.note(0, &page(1, 4096));
        assert_eq!(at(&branches, 0, 4096), None, "nothing is kept unless it is asked for");
        branches.keep(1 << 20);
        branches.note(0, &page(1, 4096));
        branches.note(4096, &vec![1; 4096]);
        assert_eq!([at(&branches, 0, 4096), at(&branches, 4096, 4096), at(&branches, 0, 8192)], [Some(1), None, None]);
        branches.keep(0);
        branches.keep(1 << 20);
        assert_eq!(at(&branches, 0, 4096), None);
    }

    #[test]
    fn whatever_is_written_over_is_forgotten() {
        let branches = Branches::default();
        branches.keep(1 << 20);
        let kept = |at_most: u64| {
            (0..4).for_each(|number| branches.note(number * 8192, &page(number as u8, 8192)));
            branches.forget(8192 + 4096, at_most);
            [0, 1, 2, 3].map(|number| at(&branches, number * 8192, 8192).is_some())
        };
        assert_eq!(kept(1), [true, false, true, true]);
        assert_eq!(kept(4097), [true, false, false, true]);
        assert_eq!(kept(u64::MAX), [true, false, false, false]);
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let branches = Branches::default();
        branches.keep(3 * 4096);
        for round in 0..3 {
            (0..5).for_each(|number| branches.note(number * 4096, &page(round, 4096)));
            let kept = (0..5).filter(|number| at(&branches, number * 4096, 4096).is_some()).count();
            assert_eq!((kept, branches.pages.read().bytes), (3, 3 * 4096));
        }
    }
}
