//! Time and chance of a test's own, for one thread: whatever asks `clock` and `id` there gets the same answers for the same seed.
//! Simulations of many nodes run all of them in that thread, and let time pass themselves.

use std::marker::PhantomData;
use std::time::Duration;

use crate::clock;
use crate::id;

/// While it lives, time stands still for the thread that began it, but for [`Self::advance`], and its chance comes from a seed: also that of
/// secrets, so nothing that has to be kept from others may be made meanwhile. Tasks take it along as long as they stay in the thread; what
/// waits by tokio's clock waits by that of `tokio::time::pause`, which is to be advanced with it. The order of hash tables is not of it.
pub struct Simulation {
    of_this_thread: PhantomData<*const ()>,
}

impl Simulation {
    /// Begins one at a time of the wall, in milliseconds since the epoch. There must be none in this thread.
    pub fn begin(seed: u64, wall_ms: u64) -> Simulation {
        clock::simulate(wall_ms);
        id::simulate(seed);
        Simulation { of_this_thread: PhantomData }
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        clock::advance(time);
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        clock::end_simulation();
        id::end_simulation();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(seed: u64) -> (Vec<u64>, String, String) {
        let simulation = Simulation::begin(seed, 1_000_000);
        let (began, start) = (clock::instant(), clock::monotonic_ms());
        let mut times = vec![clock::now_ms()];
        simulation.advance(Duration::from_millis(1500));
        times.extend([clock::now_ms(), clock::monotonic_ms() - start, clock::since(began).as_millis() as u64]);
        times.extend([id::random(), id::random_below(1000) as u64]);
        (times, id::secret(), id::uuid())
    }

    #[test]
    fn the_same_seed_tells_the_same_story_and_another_one_does_not() {
        assert_eq!(story(1), story(1));
        assert_eq!(story(1).0[..4], [1_000_000, 1_001_500, 1500, 1500]);
        assert_ne!(story(1).1, story(2).1);
        assert_ne!(story(0).1, story(1).1);
    }

    #[test]
    fn nobody_else_and_nothing_later_is_simulated() {
        let before = clock::now_ms();
        let simulation = Simulation::begin(1, 1000);
        let other = std::thread::scope(|scope| scope.spawn(|| (clock::now_ms(), id::secret())).join().expect("it only asks"));
        let secret = id::secret();
        assert_eq!(clock::now_ms(), 1000);
        drop(simulation);
        assert!(other.0 >= before && clock::now_ms() >= before);
        assert!(secret != other.1 && secret != id::secret());
    }
}
