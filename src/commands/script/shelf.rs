//! The libraries of functions that there are, and what they run in. The code is what lasts; the functions are made of it when one is asked for.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use crate::commands::script::flags;
use crate::engine::error::Error;
use crate::lua::{Alarm, Ending, Function, Host, Kind, Options, Vm};
use crate::version;

/// See the file's head.
#[derive(Default)]
pub(crate) struct Shelf {
    /// What they run in; functions are there as long as this is.
    vm: Option<Vm>,
    libraries: BTreeMap<Vec<u8>, Library>,
    /// The library of each function, and its place there.
    index: HashMap<Vec<u8>, (Vec<u8>, usize), foldhash::fast::RandomState>,
    is_read: bool,
}

/// A library.
#[derive(Default)]
pub(crate) struct Library {
    code: Vec<u8>,
    functions: Vec<Function>,
}

impl Library {
    /// Its code, with the line that names it.
    pub(crate) fn code(&self) -> &[u8] {
        &self.code
    }

    /// What it registered.
    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }
}

/// The name that a library's first line gives it, and its code as Lua is to have it.
pub(crate) fn told(code: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let line = code.strip_prefix(b"#!").ok_or(Error::text("ERR Missing library metadata"))?;
    let end = memchr::memchr(b'\n', line).ok_or(Error::text("ERR Invalid library metadata"))?;
    let mut words = line[..end].split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let engine = words.next().unwrap_or_default();
    let mut name = None;
    for word in words {
        if word.len() < 5 || !word[..5].eq_ignore_ascii_case(b"name=") {
            return Err(Error::new(format!("ERR Invalid metadata value given: {}", String::from_utf8_lossy(word))));
        }
        if name.replace(&word[5..]).is_some() {
            return Err(Error::text("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or(Error::text("ERR Library name was not given"))?;
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return Err(Error::text(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ));
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(Error::new(format!("ERR Engine '{}' not found", String::from_utf8_lossy(engine))));
    }
    Ok((name, flags::body(code)))
}

impl Shelf {
    /// Whether it was told what libraries there are.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// These are all there are.
    pub(crate) fn read(&mut self, libraries: Vec<(Vec<u8>, Vec<u8>)>) {
        self.libraries = libraries.into_iter().map(|(name, code)| (name, Library { code, functions: Vec::new() })).collect();
        self.is_read = true;
    }

    /// Makes what they run in, where that is not there; tells whether it did, so that [`Self::read_again`] is to follow.
    pub(crate) fn open(&mut self, limit: usize) -> bool {
        if let Some(vm) = &mut self.vm {
            vm.set_limit(limit);
            return false;
        }
        self.vm = Some(Vm::new(&Options { kind: Kind::Functions, limit, version: version::REDIS_VERSION.to_owned() }));
        true
    }

    /// How to reach into what they run in. It has to be open.
    pub(crate) fn alarm(&self) -> Alarm {
        self.vm.as_ref().expect("it was opened").alarm()
    }

    /// Runs the code of all libraries. One that can't be loaded any more is told of in the log, and has no functions.
    pub(crate) fn read_again(&mut self, host: &mut dyn Host) {
        let Shelf { vm: Some(vm), libraries, index, .. } = self else { return };
        index.clear();
        for (name, library) in libraries {
            let loaded = told(&library.code)
                .map_err(|error| error.0.into_owned())
                .and_then(|(_, body)| vm.load_library(body, host).map_err(|why| String::from_utf8_lossy(&why).into_owned()));
            match loaded {
                Ok(loaded) => library.functions = loaded.functions,
                Err(why) => tracing::error!("the library of functions `{}` can't be loaded: {why}", name.escape_ascii()),
            }
            for (at, function) in library.functions.iter().enumerate() {
                index.insert(function.name.clone(), (name.clone(), at));
            }
        }
    }

    /// Loads a library by running its code.
    pub(crate) fn load(
        &mut self,
        name: &[u8],
        code: &[u8],
        body: &[u8],
        is_replace: bool,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        if !is_replace && self.libraries.contains_key(name) {
            return Err(Error::new(format!("ERR Library '{}' already exists", String::from_utf8_lossy(name))));
        }
        let vm = self.vm.as_mut().expect("it was opened");
        let loaded = vm.load_library(body, host).map_err(|why| Error::new(String::from_utf8_lossy(&why).into_owned()));
        let functions = loaded.map(|library| library.functions).and_then(|functions| match self.refusal(name, &functions) {
            None => Ok(functions),
            Some(error) => {
                self.forget(functions);
                Err(error)
            }
        });
        let result = functions.map(|functions| {
            self.take_out(name);
            for (at, function) in functions.iter().enumerate() {
                self.index.insert(function.name.clone(), (name.to_vec(), at));
            }
            self.libraries.insert(name.to_vec(), Library { code: code.to_vec(), functions });
        });
        self.renew_if_spoiled();
        result
    }

    fn refusal(&self, name: &[u8], functions: &[Function]) -> Option<Error> {
        if functions.is_empty() {
            return Some(Error::text("ERR No functions registered"));
        }
        let is_of_another = |function: &&Function| self.index.get(&function.name).is_some_and(|(library, _)| library != name);
        let taken = functions.iter().find(is_of_another)?;
        Some(Error::new(format!("ERR Function {} already exists", String::from_utf8_lossy(&taken.name))))
    }

    fn forget(&mut self, functions: Vec<Function>) {
        if let Some(vm) = &mut self.vm {
            functions.into_iter().for_each(|function| vm.forget(function.chunk));
        }
    }

    fn take_out(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        library.functions.iter().for_each(|function| {
            self.index.remove(&function.name);
        });
        self.forget(library.functions);
        true
    }

    /// Removes a library; tells whether it was there.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        self.take_out(name)
    }

    /// Removes all, and tells their names.
    pub(crate) fn clear(&mut self) -> Vec<Vec<u8>> {
        let old = mem::replace(self, Shelf { is_read: true, ..Shelf::default() });
        old.libraries.into_keys().collect()
    }

    /// The flags of a function, where there is such a one.
    pub(crate) fn flags(&self, name: &[u8]) -> Option<u32> {
        self.function(name).map(|function| function.flags)
    }

    fn function(&self, name: &[u8]) -> Option<&Function> {
        let (library, at) = self.index.get(name)?;
        self.libraries.get(library)?.functions.get(*at)
    }

    /// Runs a function that is there.
    pub(crate) fn run(
        &mut self,
        name: &[u8],
        keys: &[&[u8]],
        argv: &[&[u8]],
        protocol: u8,
        host: &mut dyn Host,
        reply: &mut Vec<u8>,
    ) -> Ending {
        let (library, at) = self.index.get(name).expect("its flags were read");
        let chunk = &self.libraries[library].functions[*at].chunk;
        let ending = self.vm.as_mut().expect("it was opened").run(chunk, keys, argv, protocol, host, reply);
        self.renew_if_spoiled();
        ending
    }

    /// Throws away what they ran in, where that is of no more use; the libraries are loaded anew when one is asked for.
    fn renew_if_spoiled(&mut self) {
        if self.vm.as_ref().is_some_and(Vm::is_spoiled) {
            self.close();
        }
    }

    /// Throws it away.
    pub(crate) fn close(&mut self) {
        self.libraries.values_mut().for_each(|library| library.functions.clear());
        self.index.clear();
        self.vm = None;
    }

    /// All of them, by name.
    pub(crate) fn libraries(&self) -> impl Iterator<Item = (&Vec<u8>, &Library)> {
        self.libraries.iter()
    }

    /// How many libraries, functions, bytes of code, and bytes of what they run in.
    pub(crate) fn numbers(&self) -> [u64; 4] {
        let code: usize = self.libraries.values().map(|library| library.code.len()).sum();
        [self.libraries.len() as u64, self.index.len() as u64, code as u64, self.vm.as_ref().map_or(0, Vm::memory) as u64]
    }
}
