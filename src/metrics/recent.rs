//! The highest a number was of late, as `client_recent_max_input_buffer`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds a peak is remembered, as in Redis.
const SECONDS: u64 = 8;
/// The lower bits of a slot hold its peak, up to a terabyte, the upper ones its second; that comes round after half a year.
const PEAK_BITS: u32 = 40;
const PEAK_MAX: u64 = (1 << PEAK_BITS) - 1;

/// See the file's head. One thread notes, all may read.
#[derive(Debug, Default)]
pub(crate) struct Recent([AtomicU64; SECONDS as usize]);

impl Recent {
    /// Notes what the number is in this second.
    #[inline]
    pub(crate) fn note(&self, second: u64, value: u64) {
        let slot = &self.0[(second % SECONDS) as usize];
        let noted = stamp(second) | value.min(PEAK_MAX);
        let before = slot.load(Relaxed);
        if before >> PEAK_BITS != noted >> PEAK_BITS || before < noted {
            slot.store(noted, Relaxed);
        }
    }

    /// The highest in the seconds before and in this one.
    pub(crate) fn max(&self, second: u64) -> u64 {
        let is_recent = |slot: &u64| (0..SECONDS).any(|back| slot >> PEAK_BITS == stamp(second.wrapping_sub(back)) >> PEAK_BITS);
        self.0.iter().map(|slot| slot.load(Relaxed)).filter(is_recent).map(|slot| slot & PEAK_MAX).max().unwrap_or(0)
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Relaxed));
    }
}

fn stamp(second: u64) -> u64 {
    second << PEAK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_forgotten_after_eight_seconds() {
        let recent = Recent::default();
        recent.note(100, 7);
        recent.note(100, 30);
        recent.note(100, 9);
        recent.note(103, 12);
        assert_eq!([100, 103, 107, 108, 110, 111].map(|second| recent.max(second)), [30, 30, 30, 12, 12, 0]);
        // A clock that is set back does not bring the future in.
        assert_eq!(recent.max(90), 0);
        recent.note(u64::MAX, u64::MAX);
        assert_eq!(recent.max(u64::MAX), PEAK_MAX);
    }
}
