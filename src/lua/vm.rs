//! A Lua state, and how it is entered: every way in is one protected call.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::mem;
use std::panic::resume_unwind;
use std::ptr;
use std::sync::Arc;

use mlua::ffi::{
    LUA_ERRMEM, LUA_GCCOLLECT, LUA_REGISTRYINDEX, LUA_TTABLE, lua_State, lua_atpanic, lua_call, lua_close, lua_cpcall,
    lua_createtable, lua_error, lua_gc, lua_gettop, lua_newstate, lua_pcall, lua_pushcclosure, lua_pushvalue, lua_rawgeti_,
    lua_rawset, lua_rawseti_, lua_settop, lua_touserdata, lua_type, luaL_ref, luaL_unref,
};

use crate::lua::bell::{Alarm, Bell};
use crate::lua::chance::Chance;
use crate::lua::chunk::{Chunk, Library};
use crate::lua::host::Host;
use crate::lua::memory::{Memory, allocate};
use crate::lua::raw::{Slot, bytes, pop, push_bytes, push_slot};
use crate::lua::run::{Ending, Run, Shared, hook, shared};
use crate::lua::sandbox::{Kind, Options};
use crate::lua::text::{c_text, push_line};
use crate::lua::{base, error, library, reply, sandbox};

/// What stands at the bottom of the stack of the main coroutine.
const HANDLER: c_int = 1;
const ENTRY: c_int = 2;

/// A Lua state for scripts or functions. One at a time runs in it.
pub struct Vm {
    state: *mut lua_State,
    /// Invariant: made by `Box`, and let go of after the state.
    shared: *mut Shared,
    limit: usize,
    kind: Kind,
    /// It holds what nobody is to find, or what it holds is unknown.
    is_spoiled: bool,
}

// SAFETY: nothing of a state is bound to a thread, and `Vm` is used by one at a time. What others may do at any time is `Alarm`'s.
unsafe impl Send for Vm {}

impl Vm {
    pub fn new(options: &Options) -> Vm {
        let bell = Arc::new(Bell::new(hook));
        let shared = Box::into_raw(Box::new(Shared {
            memory: Memory::unbounded(),
            run: ptr::null_mut(),
            chance: Chance::of(0),
            bell: Arc::clone(&bell),
            loading: None,
            words: Vec::new(),
            numbers: Vec::new(),
            answer: Vec::new(),
            text: Vec::new(),
            steps: 0,
            levels: Vec::new(),
        }));
        // SAFETY: the account of the allocator is the first field, and outlives the state.
        let state = unsafe { lua_newstate(allocate, shared.cast()) };
        assert!(!state.is_null(), "no memory for a Lua state");
        // SAFETY: the state is fresh, and no ceiling is set: nothing raises.
        unsafe {
            lua_atpanic(state, nothing_protects);
            sandbox::build(state, options);
            lua_pushcclosure(state, error::handler, 0);
            lua_pushcclosure(state, enter, 0);
            assert_eq!(lua_gettop(state), ENTRY);
        }
        bell.moves_to(state);
        Vm { state, shared, limit: options.limit, kind: options.kind, is_spoiled: false }
    }

    /// How many bytes a run may take, from the next one on.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// Compiles a script, whose errors are to call it `label`. What doesn't compile says why, as an error of RESP without its mark.
    pub fn compile(&mut self, label: &str, source: &[u8]) -> Result<Chunk, Vec<u8>> {
        let mut request = Request::new(source, c"@user_script");
        // SAFETY: the request outlives the call.
        let status = self.within_limit(|vm| unsafe { lua_cpcall(vm.state, compile, (&raw mut request).cast()) });
        if status == 0 {
            return Ok(Chunk { function: request.function, label: label.into(), takes_arguments: false });
        }
        Err(self.take_refusal(status, "Error compiling script (new function): "))
    }

    pub fn forget(&mut self, chunk: Chunk) {
        // SAFETY: it is a place in the registry, which this only marks as free.
        unsafe { luaL_unref(self.state, LUA_REGISTRYINDEX, chunk.function) };
    }

    /// Runs it for a client that speaks `client`, 2 or 3, and appends its reply, one value of RESP, whatever it is.
    pub fn run(
        &mut self,
        chunk: &Chunk,
        keys: &[&[u8]],
        argv: &[&[u8]],
        client: u8,
        host: &mut dyn Host,
        reply: &mut Vec<u8>,
    ) -> Ending {
        // SAFETY: all of it outlives the run.
        let mut run = unsafe { Run::new(host, reply) };
        // SAFETY: only lifetimes change, and they outlive the run.
        (run.keys, run.argv) = unsafe {
            (mem::transmute::<*const [&[u8]], *const [&[u8]]>(keys), mem::transmute::<*const [&[u8]], *const [&[u8]]>(argv))
        };
        run.reply_max = self.limit;
        run.function = chunk.function;
        run.takes_arguments = chunk.takes_arguments;
        run.client = client;
        // SAFETY: the stack holds what stands at its bottom.
        let status = self.perform(&mut run, |vm| unsafe {
            lua_pushvalue(vm.state, ENTRY);
            lua_pcall(vm.state, 0, 0, HANDLER)
        });
        if status != 0 {
            // SAFETY: the reply is this run's, and nobody writes to it any more; the error is on top.
            unsafe {
                (*run.reply).truncate(run.reply_start);
                run.ending = match run.end() {
                    // There was no memory left for the error that was to end it.
                    Some(why) if status == LUA_ERRMEM => error::write_end(why, &chunk.label, &mut *run.reply),
                    _ => error::write(self.state, status, &chunk.label, self.limit, &mut *run.reply),
                };
                lua_settop(self.state, ENTRY);
            }
        }
        self.go_on_panicking(&mut run);
        run.ending
    }

    /// Runs a library's code, which registers functions. What can't be loaded says why, as `compile` does.
    pub(crate) fn load_library(&mut self, source: &[u8], host: &mut dyn Host) -> Result<Library, Vec<u8>> {
        assert_eq!(self.kind, Kind::Functions, "scripts find no libraries");
        let mut request = Request::new(source, c"@user_function");
        let mut reply = Vec::new();
        // SAFETY: all of it outlives the run.
        let mut run = unsafe { Run::new(host, &mut reply) };
        // SAFETY: `shared` is this state's, and nothing runs. The functions are taken out before another library is loaded.
        let (status, functions) = unsafe {
            (*self.shared).loading = Some(BTreeMap::new());
            let status = self.perform(&mut run, |vm| lua_cpcall(vm.state, load, (&raw mut request).cast()));
            sandbox::set_globals(self.state, Slot::Globals);
            (status, (*self.shared).loading.take().unwrap_or_default().into_values().collect::<Vec<_>>())
        };
        if status == 0 {
            return Ok(Library { functions });
        }
        // SAFETY: they are places in the registry.
        unsafe { library::forget(self.state, functions) };
        let what =
            if request.is_compiled || run.is_ended() { "Error registering functions: " } else { "Error compiling function: " };
        let why = self.take_refusal(status, what);
        self.go_on_panicking(&mut run);
        Err(why)
    }

    /// The bytes that it takes.
    pub(crate) fn memory(&self) -> usize {
        // SAFETY: it lives as long as this.
        unsafe { (*self.shared).memory.used + size_of::<Shared>() }
    }

    /// It should be thrown away: it holds much that is of no use, or was left in the middle of something.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// Has these allocations fail in what runs from here on, and tells how many there were since this was said before.
    #[cfg(test)]
    pub fn fail(&mut self, which: std::ops::Range<u64>) -> u64 {
        // SAFETY: it lives as long as this.
        let failing = unsafe { &mut (*self.shared).memory.failing };
        failing.which = which;
        mem::take(&mut failing.asked)
    }

    /// The bytes of buffers that are kept for the next run.
    #[cfg(test)]
    pub fn buffered(&self) -> usize {
        // SAFETY: it lives as long as this.
        let shared = unsafe { &*self.shared };
        shared.answer.capacity() + shared.text.capacity() + shared.numbers.capacity()
    }

    pub(crate) fn alarm(&self) -> Alarm {
        // SAFETY: it lives as long as this.
        Alarm(Arc::clone(unsafe { &(*self.shared).bell }))
    }

    fn perform(&mut self, run: &mut Run, enter: impl FnOnce(&mut Vm) -> c_int) -> c_int {
        // SAFETY: the run is taken away again before it ends.
        unsafe {
            let shared = self.shared;
            (*shared).run = run;
            (*shared).chance = Chance::of(0);
            let before = (*shared).memory.used;
            let status = self.within_limit(enter);
            (*shared).run = ptr::null_mut();
            (*shared).let_go();
            if (*shared).bell.has_rung() {
                (*shared).bell.is_answered();
            }
            if status == LUA_ERRMEM || run.is_ended() {
                self.clean(before);
            }
            status
        }
    }

    /// Whatever unwinds through Lua leaves a state behind that nobody knows.
    fn within_limit(&mut self, enter: impl FnOnce(&mut Vm) -> c_int) -> c_int {
        let was_spoiled = mem::replace(&mut self.is_spoiled, true);
        // SAFETY: `shared` is this state's.
        unsafe {
            (*self.shared).memory.ceiling = (*self.shared).memory.used.saturating_add(self.limit);
            let status = enter(self);
            // What follows may convert a value, outside of any protection.
            (*self.shared).memory.ceiling = usize::MAX;
            self.is_spoiled = was_spoiled;
            status
        }
    }

    /// After a run that took too much, or was cut off: where what it left can't be collected, the state is spoiled.
    fn clean(&mut self, before: usize) {
        // SAFETY: the state is this one's, and no userdata has a finalizer that could raise.
        unsafe {
            lua_gc(self.state, LUA_GCCOLLECT, 0);
            self.is_spoiled |= (*self.shared).memory.used > before + self.limit / 4;
        }
    }

    /// Takes the error on top.
    fn take_refusal(&mut self, status: c_int, what: &str) -> Vec<u8> {
        // SAFETY: the error is on top, and no ceiling is set.
        unsafe {
            let top = lua_gettop(self.state);
            let mut text = [b"ERR ", what.as_bytes()].concat();
            if status == LUA_ERRMEM {
                text.extend(format!("not enough memory: it may use {} bytes (script-memory-limit)", self.limit).as_bytes());
            } else if lua_type(self.state, top) == LUA_TTABLE {
                error::push_message(self.state, top, &mut text);
            } else {
                push_line(&mut text, c_text(bytes(self.state, top).unwrap_or(b"execution failure")).trim_ascii_end());
            }
            lua_settop(self.state, ENTRY);
            text
        }
    }

    fn go_on_panicking(&mut self, run: &mut Run) {
        if let Some(panic) = run.panic() {
            self.is_spoiled = true;
            resume_unwind(panic);
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: nobody rings at it from here on, nothing runs, and what lies beside it goes after it.
        unsafe {
            (*self.shared).bell.moves_to(ptr::null_mut());
            lua_close(self.state);
            drop(Box::from_raw(self.shared));
        }
    }
}

/// What is to be compiled, and where it stands then.
struct Request {
    source: *const [u8],
    name: *const c_char,
    function: c_int,
    is_compiled: bool,
}

impl Request {
    fn new(source: &[u8], name: &'static CStr) -> Request {
        Request { source, name: name.as_ptr(), function: 0, is_compiled: false }
    }
}

unsafe extern "C-unwind" fn compile(state: *mut lua_State) -> c_int {
    unsafe {
        let request = lua_touserdata(state, 1).cast::<Request>();
        if base::compile(state, &*(*request).source, (*request).name) != 0 {
            lua_error(state);
        }
        (*request).function = luaL_ref(state, LUA_REGISTRYINDEX);
        0
    }
}

unsafe extern "C-unwind" fn load(state: *mut lua_State) -> c_int {
    unsafe {
        let request = lua_touserdata(state, 1).cast::<Request>();
        if base::compile(state, &*(*request).source, (*request).name) != 0 {
            lua_error(state);
        }
        (*request).is_compiled = true;
        sandbox::set_globals(state, Slot::LibraryGlobals);
        lua_call(state, 0, 0);
        0
    }
}

/// An error outside of any protected call: of this room, not of a script. Lua would end the process without a word.
unsafe extern "C-unwind" fn nothing_protects(state: *mut lua_State) -> c_int {
    let why = unsafe { bytes(state, -1) }.unwrap_or_default();
    eprintln!("an error of Lua that nothing caught: {}", String::from_utf8_lossy(why));
    std::process::abort()
}

/// Runs what the run says, and writes what it returns.
unsafe extern "C-unwind" fn enter(state: *mut lua_State) -> c_int {
    unsafe {
        let run = (*shared(state)).run;
        if (*run).takes_arguments {
            lua_rawgeti_(state, LUA_REGISTRYINDEX, (*run).function);
            push_array(state, &*(*run).keys);
            push_array(state, &*(*run).argv);
            lua_call(state, 2, 1);
        } else {
            push_slot(state, Slot::Globals);
            push_slot(state, Slot::Keys);
            push_array(state, &*(*run).keys);
            lua_rawset(state, -3);
            push_slot(state, Slot::Argv);
            push_array(state, &*(*run).argv);
            lua_rawset(state, -3);
            pop(state, 1);
            lua_rawgeti_(state, LUA_REGISTRYINDEX, (*run).function);
            lua_call(state, 0, 1);
        }
        reply::write(state);
        0
    }
}

unsafe fn push_array(state: *mut lua_State, items: &[&[u8]]) {
    unsafe {
        lua_createtable(state, items.len() as c_int, 0);
        for (index, item) in items.iter().enumerate() {
            push_bytes(state, item);
            lua_rawseti_(state, -2, index as c_int + 1);
        }
    }
}
