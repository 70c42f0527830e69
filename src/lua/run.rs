//! What belongs to a run of a script, and to the state beside it: the host, the buffers, and how a run is ended.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use mlua::ffi::{lua_Debug, lua_State, lua_getallocf};

use crate::lua::bell::Bell;
use crate::lua::chance::Chance;
use crate::lua::chunk::Function;
use crate::lua::host::{Host, Verdict};
use crate::lua::memory::Memory;
use crate::lua::raw;

/// What lies beside a state: where its allocator finds its account, and functions find the run and what grows.
#[repr(C)]
pub(crate) struct Shared {
    /// Invariant: stands first, for the allocator knows of nothing else.
    pub memory: Memory,
    /// The run, while there is one.
    pub run: *mut Run,
    pub chance: Chance,
    pub bell: Arc<Bell>,
    /// What the library that is loaded registered, while one is.
    pub loading: Option<BTreeMap<Vec<u8>, Function>>,
    /// The words of the command that is called.
    pub words: Vec<&'static [u8]>,
    /// Those of its words that are numbers.
    pub numbers: Vec<u8>,
    /// What it replied.
    pub answer: Vec<u8>,
    /// For texts that are put together; nothing is kept in it across a call of Lua that may run a script.
    pub text: Vec<u8>,
    /// What is written or counted of replies, to look at the bell now and then.
    pub steps: u32,
    /// The tables around the value of a reply that is being written.
    pub levels: Vec<Level>,
}

/// How many bytes of a buffer are kept between runs; more is given back, as most runs need little.
const KEPT: usize = 64 << 10;

impl Shared {
    /// Gives back what a run needed and few others do.
    pub(crate) fn let_go(&mut self) {
        for buffer in [&mut self.numbers, &mut self.answer, &mut self.text] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
    }
}

/// A table that is being written.
pub(crate) struct Level {
    pub kind: LevelKind,
    /// How many of it are written.
    pub count: c_int,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LevelKind {
    Array,
    /// The next is a key, or the value of the key that was written.
    Map {
        is_value_next: bool,
    },
    Set,
}

pub(crate) struct Run {
    host: *mut dyn Host,
    pub reply: *mut Vec<u8>,
    /// Where in `reply` that of this run begins.
    pub reply_start: usize,
    /// How long it may become.
    pub reply_max: usize,
    pub keys: *const [&'static [u8]],
    pub argv: *const [&'static [u8]],
    /// What is called: its place in the registry.
    pub function: c_int,
    /// A library's function takes the keys and arguments itself.
    pub takes_arguments: bool,
    /// The protocol of the replies that the script gets.
    pub protocol: u8,
    /// The protocol of its client.
    pub client: u8,
    /// The error that ends the run, whatever the script does.
    end: Option<&'static str>,
    panic: Option<Box<dyn Any + Send>>,
    pub ending: Ending,
}

/// How a run went, beside its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The reply is an error.
    pub(crate) is_error: bool,
    /// It is one of a command that the script called, and was counted there.
    pub(crate) is_counted: bool,
}

impl Run {
    /// A run that is yet to be told what it runs.
    ///
    /// # Safety
    /// What it is given outlives it, and is used by nobody else meanwhile.
    pub(crate) unsafe fn new(host: &mut dyn Host, reply: &mut Vec<u8>) -> Run {
        // SAFETY: only the lifetime changes, and the caller sees to that.
        let host = unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(host) };
        Run {
            host,
            reply_start: reply.len(),
            reply,
            reply_max: usize::MAX,
            keys: ptr::slice_from_raw_parts(ptr::null(), 0),
            argv: ptr::slice_from_raw_parts(ptr::null(), 0),
            function: 0,
            takes_arguments: false,
            protocol: 2,
            client: 2,
            end: None,
            panic: None,
            ending: Ending::default(),
        }
    }

    /// What the host panicked with.
    pub(crate) fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// The error that ends it, if it is to end.
    pub(crate) fn end(&self) -> Option<&'static str> {
        self.end
    }
}

/// What lies beside a state. It costs two loads.
pub(crate) unsafe fn shared(state: *mut lua_State) -> *mut Shared {
    unsafe {
        let mut owner = ptr::null_mut();
        lua_getallocf(state, &mut owner);
        owner.cast()
    }
}

/// The run, or an error that says what can only be done within one.
pub(crate) unsafe fn run_or_raise(state: *mut lua_State, what: &str) -> *mut Run {
    unsafe {
        let run = (*shared(state)).run;
        if run.is_null() {
            raw::raise_error(state, what)
        }
        run
    }
}

/// Asks the host something. Where it panics, the run ends, and the panic goes on behind it.
pub(crate) unsafe fn ask<T>(state: *mut lua_State, question: impl FnOnce(&mut dyn Host) -> T) -> T
where
    T: Copy,
{
    unsafe {
        let run = (*shared(state)).run;
        let host = &mut *(*run).host;
        match catch_unwind(AssertUnwindSafe(|| question(host))) {
            Ok(answer) => answer,
            Err(panic) => {
                (*run).panic = Some(panic);
                (*run).end = Some("the server failed");
                raise_end(state)
            }
        }
    }
}

/// For what takes long without an instruction of Lua: asks the host where an alarm was rung, and raises where the run is to end.
pub(crate) unsafe fn interrupt(state: *mut lua_State) {
    unsafe {
        if (*shared(state)).bell.has_rung() {
            answer(state);
        }
    }
}

/// Whether the run is to end: what catches errors lets this one through.
pub(crate) unsafe fn is_ended(state: *mut lua_State) -> bool {
    unsafe {
        let run = (*shared(state)).run;
        !run.is_null() && (*run).is_ended()
    }
}

/// Lua calls it at the next instruction after an alarm was rung.
pub(crate) unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    unsafe { answer(state) }
}

unsafe fn answer(state: *mut lua_State) {
    unsafe {
        let shared = shared(state);
        let run = (*shared).run;
        if run.is_null() {
            return (*shared).bell.is_answered();
        }
        if !(*run).is_ended() {
            // Before the host is asked: a ring that comes while it thinks is one more.
            (*shared).bell.is_answered();
            let Verdict::Stop(why) = ask(state, |host| host.pause()) else { return };
            (*run).end = Some(why);
        }
        raise_end(state)
    }
}

unsafe fn raise_end(state: *mut lua_State) -> ! {
    unsafe {
        let run = (*shared(state)).run;
        raw::raise_error(state, (*run).end.unwrap_or_default())
    }
}
