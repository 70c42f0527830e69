//! How fast a number grows: the mean of samples over the last moments, as `instantaneous_ops_per_sec`.

use parking_lot::Mutex;

/// Samples a rate is the mean of: with ten a second, the last 1.6 seconds, as in Redis.
const SAMPLES: usize = 16;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<(u64, u64)>,
    samples: [u64; SAMPLES],
    next: usize,
}

impl Rate {
    /// Tells what the number has come to. `now` is in milliseconds.
    pub(crate) fn sample(&self, now: u64, total: u64) {
        let mut state = self.0.lock();
        if let Some((then, before)) = state.last
            && now > then
        {
            let at = state.next;
            state.samples[at] = total.saturating_sub(before) * 1000 / (now - then);
            state.next = (at + 1) % SAMPLES;
        }
        state.last = Some((now, total));
    }

    /// How much it grows in a second.
    pub(crate) fn per_second(&self) -> u64 {
        self.0.lock().samples.iter().sum::<u64>() / SAMPLES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found() {
        let rate = Rate::default();
        (0..=20).for_each(|step| rate.sample(step * 100, step * 50));
        assert_eq!(rate.per_second(), 500);
    }
}
