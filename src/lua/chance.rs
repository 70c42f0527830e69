//! The random numbers of scripts: the generator of `lrand48`, which Redis brings along, so that the same seed gives the same numbers everywhere.

/// One more than the largest number, and what Redis divides by.
pub(crate) const RANGE: f64 = 2_147_483_647.0;

pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn of(seed: i32) -> Chance {
        Chance(u64::from(seed as u32) << 16 | 0x330E)
    }

    /// From 0 up to, and without, 1.
    pub(crate) fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & 0xFFFF_FFFF_FFFF;
        (self.0 >> 17) as f64 % RANGE / RANGE
    }
}
