//! Where a job is on its way, exactly and as clients of the contract know it.

use serde::Serialize;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its time has not come.
    Scheduled,
    /// As many as may run of its concurrency key do already.
    Held,
    /// It waits for a worker.
    Ready,
    /// A worker has it.
    Running,
    /// It failed, and is tried again when its time has come.
    RetryWait,
    /// It did what it should.
    Completed,
    /// It failed as often as it was to be tried.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// It took longer than it might, as often as it was to be tried.
    TimedOut,
}

/// As clients of the contract know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Shown {
    Pending,
    Queued,
    Running,
    Completed,
    Failed,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [State; 9] = [
        State::Scheduled,
        State::Held,
        State::Ready,
        State::Running,
        State::RetryWait,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::TimedOut,
    ];

    /// As it is stored, and told as `substate`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Scheduled => "SCHEDULED",
            State::Held => "HELD",
            State::Ready => "READY",
            State::Running => "RUNNING",
            State::RetryWait => "RETRY_WAIT",
            State::Completed => "COMPLETED",
            State::Failed => "FAILED",
            State::Cancelled => "CANCELLED",
            State::TimedOut => "TIMED_OUT",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// As clients of the contract know it.
    pub(crate) fn shown(self) -> Shown {
        match self {
            State::Scheduled | State::RetryWait => Shown::Pending,
            State::Held | State::Ready => Shown::Queued,
            State::Running => Shown::Running,
            State::Completed => Shown::Completed,
            State::Failed | State::Cancelled | State::TimedOut => Shown::Failed,
        }
    }
}
