//! How often which time was taken, in buckets that are at most 1/32 wider than the time they hold.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets for each doubling, as a power of two. Redis keeps two digits, which is somewhat finer.
const PRECISION: u32 = 5;
/// The longest time told apart, in nanoseconds: about 69 seconds. Longer ones count as this.
const NS_MAX: u64 = (1 << 36) - 1;
const BUCKETS: usize = bucket(NS_MAX) + 1;

const fn bucket(ns: u64) -> usize {
    let doublings = (u64::BITS - (ns | ((1 << PRECISION) - 1)).leading_zeros()) - PRECISION;
    ((doublings as usize) << PRECISION) + (ns >> doublings) as usize
}

/// The longest time of a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let (doublings, rest) = (bucket >> PRECISION, (bucket & ((1 << PRECISION) - 1)) as u64);
    // The upper half of each doubling is used; the lower half belongs to the doubling before.
    ((rest + 1) << doublings) - 1
}

/// A histogram of nanoseconds. One thread adds to it, all may read it.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one time.
    #[inline]
    pub(crate) fn add(&self, ns: u64) {
        let count = &self.buckets[bucket(ns.min(NS_MAX))];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// Adds another histogram's counts.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine.get_mut() += theirs.load(Relaxed);
        }
    }

    /// Adds the counts of a histogram that is about to go. Like [`Self::add`], for one thread at a time.
    pub(crate) fn take_over(&self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.store(mine.load(Relaxed) + theirs.load(Relaxed), Relaxed);
        }
    }

    /// How many times were counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The time, in nanoseconds, that this share of the counted times (0 to 100) did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((self.count() as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count.load(Relaxed);
            if seen >= wanted {
                return bucket_end(bucket);
            }
        }
        0
    }

    /// How many times were at most this long.
    pub(crate) fn count_up_to(&self, ns: u64) -> u64 {
        self.buckets
            .iter()
            .enumerate()
            .take_while(|(bucket, _)| bucket_end(*bucket) <= ns)
            .map(|(_, count)| count.load(Relaxed))
            .sum()
    }

    /// Cumulative counts at doubling times, in microseconds: where they grow, as `LATENCY HISTOGRAM` shows them.
    pub(crate) fn doublings(&self) -> Vec<(u64, u64)> {
        let total = self.count();
        let mut shown = Vec::new();
        let mut before = 0;
        for exponent in 10..=37 {
            let count = self.count_up_to((1 << exponent) - 1);
            if count > before {
                shown.push((1 << (exponent - 10), count));
                before = count;
            }
            if count == total {
                break;
            }
        }
        shown
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        self.buckets.iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_the_times_up_to_its_end() {
        let mut last = 0;
        for ns in (0..5000).chain([1 << 20, (1 << 20) + 1, NS_MAX - 1, NS_MAX]) {
            let at = bucket(ns);
            assert!(at >= last && at < BUCKETS, "{ns}");
            last = at;
            assert!(bucket_end(at) >= ns && bucket_end(at) - ns <= ns / 16, "{ns} {}", bucket_end(at));
            assert_eq!(bucket(bucket_end(at)), at, "{ns}");
        }
    }

    #[test]
    fn percentiles_are_within_a_few_percent() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.add(us * 1000));
        for (percent, wanted) in [(50.0, 500_000.0), (99.0, 990_000.0), (100.0, 1_000_000.0)] {
            let found = histogram.percentile(percent) as f64;
            assert!((found / wanted - 1.0).abs() < 0.07, "{percent}: {found}");
        }
        assert_eq!(histogram.doublings().last(), Some(&(1024, 1000)));
    }
}
