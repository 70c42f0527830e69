//! The scripts that are known, by the digest of their text, and what they run in.
//!
//! Scripts that came with `EVAL` make way for others, the one not used for longest first; those of `SCRIPT LOAD` stay until `SCRIPT FLUSH`, and
//! are refused where they would take too much.

use std::collections::HashMap;
use std::mem;

use sha1::{Digest, Sha1};

use crate::commands::script::flags::{self, Flags};
use crate::commands::script::scratch::Scratch;
use crate::commands::script::shelf::Shelf;
use crate::config::{Config, Name};
use crate::engine::error::Error;
use crate::lua::{Alarm, Chunk, Ending, Host, Kind, Options, Vm};
use crate::version;

/// As many scripts of `EVAL` are kept, as in Redis 7.4.
const EVALUATED_MAX: usize = 500;
/// Bytes that the texts of all scripts may take.
const SOURCE_BYTES_MAX: usize = 256 << 20;

pub(crate) const NO_SCRIPT: Error = Error::text("NOSCRIPT No matching script. Please use EVAL.");

/// Is told how to reach into what scripts run in, where that is new.
pub(crate) type Reached<'a> = &'a dyn Fn(Alarm);

/// A script's digest in hexadecimal, lower case.
pub(crate) type Sha = [u8; 40];

/// See the file's head.
pub(crate) struct Book {
    vm: Option<Vm>,
    scripts: HashMap<Sha, Script, foldhash::fast::RandomState>,
    /// Those that may make way, in no order.
    evaluated: Vec<Sha>,
    /// Of all texts, and of those that stay.
    source_bytes: usize,
    loaded_bytes: usize,
    uses: u64,
    evicted: u64,
    pub scratch: Scratch,
    /// Libraries, beside the scripts.
    pub functions: Shelf,
    /// What rings reaches what functions run in.
    hears_functions: bool,
    /// Bytes that the texts of all scripts may take.
    source_bytes_max: usize,
}

impl Default for Book {
    fn default() -> Book {
        Book::holding(SOURCE_BYTES_MAX)
    }
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
pub(crate) struct Numbers {
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
    /// An empty one, for scripts whose texts take at most so many bytes.
    fn holding(source_bytes_max: usize) -> Book {
        Book {
            vm: None,
            scripts: HashMap::default(),
            evaluated: Vec::new(),
            loaded_bytes: 0,
            source_bytes: 0,
            uses: 0,
            evicted: 0,
            scratch: Scratch::default(),
            functions: Shelf::default(),
            hears_functions: false,
            source_bytes_max,
        }
    }

    /// Makes a script known, and tells its digest.
    pub(crate) fn learn(&mut self, source: &[u8], is_loaded: bool, config: &Config, reached: Reached<'_>) -> Result<Sha, Error> {
        let sha = digest(source);
        self.uses += 1;
        let known = self.scripts.get(&sha).map(|script| script.is_loaded);
        let flags = if known.is_none() { flags::of(source)? } else { Flags::default() };
        // One that came with EVAL may be beyond what loaded ones leave, and must not stay there.
        let taken = if is_loaded && known != Some(true) { self.loaded_bytes } else { 0 };
        if known != Some(true) && taken + source.len() > self.source_bytes_max {
            return Err(Error::new(format!(
                "ERR the scripts that are kept may take {} MB, and this one would take more; SCRIPT FLUSH forgets them",
                self.source_bytes_max >> 20
            )));
        }
        if let Some(script) = self.scripts.get_mut(&sha) {
            script.used = self.uses;
            if is_loaded && !mem::replace(&mut script.is_loaded, true) {
                self.loaded_bytes += script.source.len();
                self.evaluated.retain(|other| *other != sha);
            }
            return Ok(sha);
        }
        let uses = self.uses;
        let chunk = self.vm(config, reached).compile(label(&sha), flags::body(source)).map_err(error)?;
        self.make_room(source.len(), is_loaded);
        let script = Script { source: source.into(), flags, chunk: Some(chunk), is_loaded, used: uses };
        self.source_bytes += script.source.len();
        if is_loaded {
            self.loaded_bytes += source.len();
        } else {
            self.evaluated.push(sha);
        }
        self.scripts.insert(sha, script);
        Ok(sha)
    }

    /// Forgets scripts of `EVAL` until there is room for another. O(n) for those that may make way, however many stay.
    fn make_room(&mut self, bytes: usize, is_loaded: bool) {
        let is_over = |book: &Book| {
            book.source_bytes + bytes > book.source_bytes_max || !is_loaded && book.evaluated.len() >= EVALUATED_MAX
        };
        while is_over(self) {
            let used = |sha: &Sha| self.scripts.get(sha).map(|script| script.used);
            let oldest = self.evaluated.iter().enumerate().min_by_key(|(_, sha)| used(sha)).map(|(at, _)| at);
            let Some(oldest) = oldest else { return };
            let sha = self.evaluated.swap_remove(oldest);
            let Some(script) = self.scripts.remove(&sha) else { return };
            self.source_bytes -= script.source.len();
            self.evicted += 1;
            if let (Some(vm), Some(chunk)) = (&mut self.vm, script.chunk) {
                vm.forget(chunk);
            }
        }
    }

    /// Whether a script is known.
    pub(crate) fn knows(&self, sha: &[u8]) -> bool {
        as_sha(sha).is_some_and(|sha| self.scripts.contains_key(&sha))
    }

    /// The flags of a script that is known, by its digest in any case.
    pub(crate) fn find(&self, sha: &[u8]) -> Result<(Sha, Flags), Error> {
        let sha = as_sha(sha).ok_or(NO_SCRIPT)?;
        self.scripts.get(&sha).map(|script| (sha, script.flags)).ok_or(NO_SCRIPT)
    }

    /// Runs a script that is known.
    #[expect(clippy::too_many_arguments, reason = "what a script is given, and where its answer goes")]
    pub(crate) fn run(
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
    pub(crate) fn flush(&mut self) {
        let functions = mem::take(&mut self.functions);
        *self = Book { evicted: self.evicted, uses: self.uses, functions, ..Book::holding(self.source_bytes_max) };
    }

    /// Notes that what rings reaches what functions run in.
    pub(crate) fn hears_functions(&mut self) {
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
    pub(crate) fn numbers(&self) -> Numbers {
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
pub(crate) fn is_sha(text: &[u8]) -> bool {
    text.len() == size_of::<Sha>()
}

fn as_sha(text: &[u8]) -> Option<Sha> {
    let mut sha: Sha = text.try_into().ok()?;
    sha.make_ascii_lowercase();
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script of fifty bytes.
    fn script(name: char) -> String {
        format!("return '{}'", name.to_string().repeat(41))
    }

    fn learn(book: &mut Book, name: char, is_loaded: bool) -> Result<Sha, Error> {
        book.learn(script(name).as_bytes(), is_loaded, &Config::default(), &|_| {})
    }

    fn known(book: &Book) -> String {
        ('a'..='z').filter(|name| book.knows(&digest(script(*name).as_bytes()))).collect()
    }

    #[test]
    fn scripts_of_eval_make_way_where_texts_take_too_much_and_loaded_ones_are_refused() {
        let mut book = Book::holding(100);
        for name in ['a', 'b'] {
            learn(&mut book, name, false).unwrap();
        }
        assert_eq!(known(&book), "ab");
        learn(&mut book, 'c', true).unwrap();
        assert_eq!(known(&book), "bc");
        learn(&mut book, 'b', true).unwrap();
        let refusal = learn(&mut book, 'd', true).unwrap_err();
        assert!(refusal.0.starts_with("ERR the scripts that are kept may take"), "{refusal:?}");
        learn(&mut book, 'c', true).unwrap();
        assert_eq!((known(&book).as_str(), book.numbers().source_bytes), ("bc", 100));

        // EVAL works all the same, with one beyond; that does not come to stay.
        learn(&mut book, 'e', false).unwrap();
        learn(&mut book, 'f', false).unwrap();
        assert_eq!(known(&book), "bcf");
        assert!(learn(&mut book, 'f', true).is_err() && learn(&mut book, 'g', true).is_err());
        assert!(book.learn(&[b' '; 101], false, &Config::default(), &|_| {}).is_err());

        book.flush();
        learn(&mut book, 'g', true).unwrap();
        learn(&mut book, 'h', true).unwrap();
        assert!(learn(&mut book, 'i', true).is_err());
        assert_eq!(known(&book), "gh");
    }
}
