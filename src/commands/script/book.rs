//! The scripts that are known, by the digest of their text, and what they run in.
//!
//! Scripts that came with `EVAL` make way for others, the one not used for longest first; those of `SCRIPT LOAD` stay until `SCRIPT FLUSH`, and
//! are refused where they would take too much.

use std::collections::HashMap;
use std::mem;

use sha1::{Digest, Sha1};

use crate::commands::script::flags::{self, Flags};
use crate::commands::script::shelf::Shelf;
use crate::config::{Config, Name};
use crate::engine::error::Error;
use crate::lua::{Alarm, Chunk, Ending, Host, Kind, Options, Vm};
use crate::version;

/// As many scripts of `EVAL` are kept, as in Redis 7.4.
const EVALUATED_MAX: usize = 500;
/// Bytes that the texts of all scripts may take.
const SOURCE_BYTES_MAX: usize = 256 << 20;

pub const NO_SCRIPT: Error = Error::text("NOSCRIPT No matching script. Please use EVAL.");

/// Is told how to reach into what scripts run in, where that is new.
pub type Reached<'a> = &'a dyn Fn(Alarm);

/// A script's digest in hexadecimal, lower case.
pub type Sha = [u8; 40];

/// See the file's head.
#[derive(Default)]
pub struct Book {
    vm: Option<Vm>,
    scripts: HashMap<Sha, Script, foldhash::fast::RandomState>,
    /// Of those that may make way.
    evaluated: usize,
    source_bytes: usize,
    uses: u64,
    evicted: u64,
    /// Libraries, beside the scripts.
    pub functions: Shelf,
    /// What rings reaches what functions run in.
    hears_functions: bool,
}

struct Script {
    source: Box<[u8]>,
    flags: Flags,
    /// None since what it was compiled in is gone.
    chunk: Option<Chunk>,
    is_loaded: bool,
    used: u64,
}

/// What `INFO` tells of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    /// Scripts that are known.
    pub scripts: u64,
    /// Bytes of their texts.
    pub source_bytes: u64,
    /// Bytes of what they run in.
    pub vm_bytes: u64,
    /// Scripts that made way.
    pub evicted: u64,
    /// Libraries of functions.
    pub libraries: u64,
    /// Their functions.
    pub functions: u64,
    /// Bytes of their code.
    pub library_bytes: u64,
    /// Bytes of what they run in.
    pub function_vm_bytes: u64,
}

impl Book {
    /// Makes a script known, and tells its digest.
    pub fn learn(&mut self, source: &[u8], is_loaded: bool, config: &Config, reached: Reached<'_>) -> Result<Sha, Error> {
        let sha = digest(source);
        self.uses += 1;
        let uses = self.uses;
        if let Some(script) = self.scripts.get_mut(&sha) {
            script.used = uses;
            if is_loaded && !mem::replace(&mut script.is_loaded, true) {
                self.evaluated -= 1;
            }
            return Ok(sha);
        }
        let flags = flags::of(source)?;
        let room = if is_loaded { SOURCE_BYTES_MAX - self.loaded_bytes() } else { SOURCE_BYTES_MAX };
        if source.len() > room {
            return Err(Error::new(format!(
                "ERR the scripts that are kept may take {} MB, and this one would take more; SCRIPT FLUSH forgets them",
                SOURCE_BYTES_MAX >> 20
            )));
        }
        let chunk = self.vm(config, reached).compile(label(&sha), flags::body(source)).map_err(error)?;
        self.make_room(source.len(), is_loaded);
        let script = Script { source: source.into(), flags, chunk: Some(chunk), is_loaded, used: uses };
        self.source_bytes += script.source.len();
        self.evaluated += usize::from(!is_loaded);
        self.scripts.insert(sha, script);
        Ok(sha)
    }

    fn loaded_bytes(&self) -> usize {
        self.scripts.values().filter(|script| script.is_loaded).map(|script| script.source.len()).sum()
    }

    /// Forgets scripts of `EVAL` until there is room for another.
    fn make_room(&mut self, bytes: usize, is_loaded: bool) {
        let is_over = |book: &Book| book.source_bytes + bytes > SOURCE_BYTES_MAX || !is_loaded && book.evaluated >= EVALUATED_MAX;
        while is_over(self) {
            let oldest = self.scripts.iter().filter(|(_, script)| !script.is_loaded).min_by_key(|(_, script)| script.used);
            let Some(sha) = oldest.map(|(sha, _)| *sha) else { return };
            let Some(script) = self.scripts.remove(&sha) else { return };
            self.source_bytes -= script.source.len();
            self.evaluated -= 1;
            self.evicted += 1;
            if let (Some(vm), Some(chunk)) = (&mut self.vm, script.chunk) {
                vm.forget(chunk);
            }
        }
    }

    /// Whether a script is known.
    pub fn knows(&self, sha: &[u8]) -> bool {
        as_sha(sha).is_some_and(|sha| self.scripts.contains_key(&sha))
    }

    /// The flags of a script that is known, by its digest in any case.
    pub fn find(&self, sha: &[u8]) -> Result<(Sha, Flags), Error> {
        let sha = as_sha(sha).ok_or(NO_SCRIPT)?;
        self.scripts.get(&sha).map(|script| (sha, script.flags)).ok_or(NO_SCRIPT)
    }

    /// Runs a script that is known.
    #[expect(clippy::too_many_arguments, reason = "what a script is given, and where its answer goes")]
    pub fn run(
        &mut self,
        sha: &Sha,
        keys: &[&[u8]],
        argv: &[&[u8]],
        protocol: u8,
        config: &Config,
        reached: Reached<'_>,
        host: &mut dyn Host,
        reply: &mut Vec<u8>,
    ) -> Result<Ending, Error> {
        self.vm(config, reached);
        self.uses += 1;
        let (Some(vm), Some(script)) = (&mut self.vm, self.scripts.get_mut(sha)) else { return Err(NO_SCRIPT) };
        script.used = self.uses;
        vm.set_limit(config.count(Name::ScriptMemoryLimit) as usize);
        if script.chunk.is_none() {
            script.chunk = Some(vm.compile(label(sha), flags::body(&script.source)).map_err(error)?);
        }
        let chunk = script.chunk.as_ref().expect("it was compiled just now");
        let ending = vm.run(chunk, keys, argv, protocol, host, reply);
        if vm.is_spoiled() {
            self.renew();
        }
        Ok(ending)
    }

    /// Forgets all scripts, and what they ran in.
    pub fn flush(&mut self) {
        let functions = mem::take(&mut self.functions);
        *self = Book { evicted: self.evicted, uses: self.uses, functions, ..Book::default() };
    }

    /// Notes that what rings reaches what functions run in.
    pub fn hears_functions(&mut self) {
        self.hears_functions = true;
    }

    /// Throws away what scripts ran in; they are compiled anew when they are used.
    fn renew(&mut self) {
        self.vm = None;
        self.scripts.values_mut().for_each(|script| script.chunk = None);
    }

    fn vm(&mut self, config: &Config, reached: Reached<'_>) -> &mut Vm {
        let is_new = self.vm.is_none();
        let vm = self.vm.get_or_insert_with(|| {
            let limit = config.count(Name::ScriptMemoryLimit) as usize;
            Vm::new(&Options { kind: Kind::Scripts, limit, version: version::REDIS_VERSION.to_owned() })
        });
        if mem::take(&mut self.hears_functions) || is_new {
            reached(vm.alarm());
        }
        vm
    }

    /// What `INFO` tells.
    pub fn numbers(&self) -> Numbers {
        let [libraries, functions, library_bytes, function_vm_bytes] = self.functions.numbers();
        Numbers {
            libraries,
            functions,
            library_bytes,
            function_vm_bytes,
            scripts: self.scripts.len() as u64,
            source_bytes: self.source_bytes as u64,
            vm_bytes: self.vm.as_ref().map_or(0, Vm::memory) as u64,
            evicted: self.evicted,
        }
    }
}

fn error(text: Vec<u8>) -> Error {
    Error::new(String::from_utf8_lossy(&text).into_owned())
}

fn label(sha: &Sha) -> &str {
    std::str::from_utf8(sha).expect("digits are ASCII")
}

/// The digest of a text, as scripts are called.
fn digest(source: &[u8]) -> Sha {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut sha = [0; 40];
    for (pair, byte) in sha.chunks_exact_mut(2).zip(Sha1::digest(source)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    sha
}

/// Whether a text may be a digest.
pub fn is_sha(text: &[u8]) -> bool {
    text.len() == size_of::<Sha>()
}

fn as_sha(text: &[u8]) -> Option<Sha> {
    let mut sha: Sha = text.try_into().ok()?;
    sha.make_ascii_lowercase();
    Some(sha)
}
