//! What a loop outside Lua's instructions counts, so that it can be stopped.

use mlua::ffi::lua_State;

use crate::lua::run;

/// How many steps of a few nanoseconds there are between two looks at whether the script is to stop: well below a millisecond.
const PATIENCE: usize = 10_000;

pub(crate) struct Steps(usize);

impl Steps {
    pub(crate) const fn new() -> Steps {
        Steps(0)
    }

    /// Counts so many more. It raises where the script is to stop.
    pub(crate) unsafe fn take(&mut self, state: *mut lua_State, count: usize) {
        self.0 = self.0.saturating_add(count);
        if self.0 >= PATIENCE {
            self.0 = 0;
            unsafe { run::interrupt(state) }
        }
    }
}
