//! How another thread gets the word of the one that runs a script: it arms the hook of the coroutine that runs. Lua runs at full speed until
//! then, as no hook is set.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use mlua::ffi::{LUA_MASKCOUNT, LUA_MASKLINE, lua_Hook, lua_State, lua_sethook};
use parking_lot::Mutex;

/// Between a state and those who may ring.
pub(crate) struct Bell {
    /// The coroutine that runs, or the main one; null once the state is closed.
    ///
    /// Invariant: what it points to is not freed while it stands here.
    running: Mutex<Running>,
    has_rung: AtomicBool,
    hook: lua_Hook,
}

struct Running(*mut lua_State);

// SAFETY: the pointer is only used under the lock, for the one call that Lua allows at any time (`lua_sethook`, which its own `lua` calls from
// a signal handler).
unsafe impl Send for Running {}

impl Bell {
    pub(crate) fn new(hook: lua_Hook) -> Bell {
        Bell { running: Mutex::new(Running(ptr::null_mut())), has_rung: AtomicBool::new(false), hook }
    }

    /// Says which coroutine runs from here on; it takes over a bell that has rung.
    pub(crate) fn moves_to(&self, state: *mut lua_State) {
        self.running.lock().0 = state;
        if self.has_rung.load(SeqCst) {
            self.arm();
        }
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.has_rung.load(SeqCst)
    }

    /// Until it rings again, nobody is asked.
    pub(crate) fn is_answered(&self) {
        let running = self.running.lock();
        self.has_rung.store(false, SeqCst);
        if !running.0.is_null() {
            // SAFETY: it is alive while it stands there.
            unsafe { lua_sethook(running.0, None, 0, 0) };
        }
    }

    /// Every instruction of the coroutine that runs asks from now on.
    fn arm(&self) {
        let running = self.running.lock();
        if !running.0.is_null() {
            self.has_rung.store(true, SeqCst);
            // SAFETY: as above.
            unsafe { lua_sethook(running.0, Some(self.hook), LUA_MASKLINE | LUA_MASKCOUNT, 1) };
        }
    }
}

/// Has whatever runs in a `Vm` ask its host whether it may go on (`Host::pause`). It is asked once for each ring, soon.
#[derive(Clone)]
pub(crate) struct Alarm(pub(super) Arc<Bell>);

impl Alarm {
    /// From any thread, at any time, also when nothing runs there, or the `Vm` is gone.
    pub(crate) fn ring(&self) {
        self.0.arm();
    }
}
