//! What a check, or compiling a schema, may still cost.
//!
//! All that takes longer the more a stranger sends is spent here before it is done: visiting a value, a byte given to a
//! pattern, a name looked up. A step stands for some ten nanoseconds, so a budget is a time, but one that is the same on
//! every machine and under any load.

/// Steps of a check in all: a tenth of a second, so that whoever waits behind it does not wait long. A payload of a megabyte with
/// an ordinary schema takes some 2,000,000.
pub const CHECK_STEPS_MAX: u64 = 10_000_000;
/// Steps of a check that a thread may take which also serves clients: well below a millisecond.
pub(crate) const INLINE_STEPS_MAX: u64 = 30_000;
/// Steps for the patterns of all schemas of a peer together, which are compiled while it registers: twenty milliseconds.
pub(crate) const COMPILE_STEPS_MAX: u64 = 2_000_000;
/// Steps between two looks at whether someone still waits for the outcome: a millisecond.
const LOOK_STEPS: u64 = 100_000;

/// Steps that are left, and whether anybody still wants to know.
pub struct Budget<'a> {
    steps: u64,
    max: u64,
    /// When to look again.
    look_at: u64,
    is_wanted: &'a dyn Fn() -> bool,
}

/// Why it does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It would take more steps than it may.
    Steps,
    /// Nobody wants to know any more.
    Unwanted,
}

impl Budget<'static> {
    /// So many steps.
    pub fn new(max: u64) -> Budget<'static> {
        Budget::while_wanted(max, &|| true)
    }
}

impl<'a> Budget<'a> {
    /// So many steps, while this is true.
    pub(crate) fn while_wanted(max: u64, is_wanted: &'a dyn Fn() -> bool) -> Budget<'a> {
        Budget { steps: 0, max, look_at: max.min(LOOK_STEPS), is_wanted }
    }

    /// Takes steps; to be called before what they are for is done.
    #[inline]
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps <= self.look_at { Ok(()) } else { self.look() }
    }

    /// Steps taken so far, those included that were one too many.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    #[cold]
    fn look(&mut self) -> Result<(), Spent> {
        if self.steps > self.max {
            return Err(Spent::Steps);
        }
        self.look_at = self.max.min(self.steps.saturating_add(LOOK_STEPS));
        if (self.is_wanted)() { Ok(()) } else { Err(Spent::Unwanted) }
    }
}

/// Steps for what is done with each byte of a text at the speed of memory.
pub(crate) fn text_steps(bytes: usize) -> usize {
    1 + bytes / 64
}

/// Steps to look a name up among so many.
pub(crate) fn lookup_steps(name: &str, among: usize) -> usize {
    (1 + name.len() / 512) * (3 + 2 * (among | 1).ilog2() as usize)
}
