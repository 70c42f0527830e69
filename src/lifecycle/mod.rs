//! Whatever lives beside its caller is started here: threads, tasks, child processes. Each has a name, a state, a last error, a place in
//! the order of stopping, and a rule for its death. An instance has one [`Lifecycle`], so that several in a process stay apart.
//!
//! - [`Lifecycle::start`]: it is to live until it is asked to stop. If it panics or returns before, the process ends (`panics`), for what it
//!   saw to is seen to no more; where flux runs in memory only within another program, it is shown as failed instead.
//! - [`Lifecycle::keep`]: the same, and it is started again after a pause, which grows while it keeps dying ([`Backoff`]). For what may be
//!   left undone for a while, and leaves nothing half done when it dies.
//! - [`Lifecycle::work`]: it comes to its end by itself.
//!
//! Tasks of a runtime have the same three ([`Lifecycle::start_task`] and its like); child processes are the matter of [`child`].
//!
//! To add one: a [`Plan`] with a name and a [`Phase`]; where it waits for something else than its [`Stop`], what wakes it
//! ([`Plan::woken_by`]); where a client can hold it up, what cuts that short ([`Plan::cut_by`]). docs/lifecycle.md lists who there is, and must
//! be told. To start, end or show one costs O(log n) of those that live; a phase is stopped in O(n).

pub mod child;
mod life;
mod simulation;
mod stop;
mod task;

pub use life::{Deadline, Kind, Lifecycle, OnDeath, Row, State};
pub use simulation::Simulation;
pub use stop::Stop;
pub use task::of_connection;

use std::sync::Arc;
use std::time::Duration;

/// A place in the order of stopping: who is in an earlier phase has ended when a later one is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Lets work in: what accepts connections.
    Accept,
    /// Brings clients' work to its end. At the [`Deadline`] it is cut.
    Finish,
    /// Does by itself what a room is for.
    Rooms,
    /// Does what is done now and then.
    Tend,
    /// Brings to the disk what is not there yet, lower numbers first. It is never cut.
    Flush(u8),
    /// Tells the outside how far the end has come.
    Last,
}

impl Phase {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Accept => "accept",
            Phase::Finish => "finish",
            Phase::Rooms => "rooms",
            Phase::Tend => "tend",
            Phase::Flush(_) => "flush",
            Phase::Last => "last",
        }
    }
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// How something is started.
pub struct Plan {
    name: String,
    phase: Phase,
    wake: Option<Hook>,
    cut: Option<Hook>,
}

impl Plan {
    /// Of this name, which a thread bears too, to be stopped in this phase.
    pub fn new(name: impl Into<String>, phase: Phase) -> Plan {
        Plan { name: name.into(), phase, wake: None, cut: None }
    }

    /// What wakes it when it is asked to stop, where it waits for something else than its [`Stop`], which has been told before. May be called
    /// more than once, also when it has just ended, and must not wait. What it holds is dropped when the thing has ended.
    pub fn woken_by(mut self, wake: impl Fn() + Send + Sync + 'static) -> Plan {
        self.wake = Some(Box::new(wake));
        self
    }

    /// The same, by what it shares with others, which this does not keep.
    pub fn wakes<T: Send + Sync + 'static>(self, shared: &Arc<T>, wake: impl Fn(&T) + Send + Sync + 'static) -> Plan {
        let shared = Arc::downgrade(shared);
        self.woken_by(move || {
            if let Some(shared) = shared.upgrade() {
                wake(&shared);
            }
        })
    }

    /// What makes it end soon, at the deadline, whatever is lost.
    pub fn cut_by(mut self, cut: impl Fn() + Send + Sync + 'static) -> Plan {
        self.cut = Some(Box::new(cut));
        self
    }
}

/// How long to wait before something is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first death; twice as long after each further one.
    pub first: Duration,
    /// At most. What lived as long as this begins with the first pause again.
    pub most: Duration,
}

impl Backoff {
    /// Soon at first, so that one bad moment costs little; twice a minute in the end, so that what is broken for good costs nothing.
    pub const USUAL: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) };

    /// After so many deaths in a row, one at least.
    fn pause(&self, deaths: u32) -> Duration {
        let doublings = deaths.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_most() {
        let pauses: Vec<u128> = (1..=11).map(|deaths| Backoff::USUAL.pause(deaths).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(Backoff::USUAL.pause(u32::MAX), Backoff::USUAL.most);
    }
}
