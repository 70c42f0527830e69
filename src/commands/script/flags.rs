//! What a script says of itself in its first line: `#!lua flags=no-writes,allow-oom`.

use crate::engine::error::Error;
use crate::lua;
use crate::resp::request::split_words;

/// What a script is allowed, and promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// Whether it says anything. Those that do not are held to the rules of before there were flags.
    pub are_said: bool,
    bits: u32,
}

impl Flags {
    /// Of a function, by the bits of what it said.
    pub(crate) fn said(bits: u32) -> Flags {
        Flags { are_said: true, bits }
    }

    /// It changes no keys.
    pub(crate) fn no_writes(self) -> bool {
        self.has("no-writes")
    }

    /// It may run where memory is short.
    pub(crate) fn allow_oom(self) -> bool {
        self.has("allow-oom")
    }

    fn has(self, name: &str) -> bool {
        bit(name).is_some_and(|bit| self.bits & bit != 0)
    }
}

fn bit(name: &str) -> Option<u32> {
    lua::FLAGS.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit)
}

/// The flags of a script.
pub(crate) fn of(source: &[u8]) -> Result<Flags, Error> {
    if !source.starts_with(b"#!") {
        return Ok(Flags::default());
    }
    let Some(end) = memchr::memchr(b'\n', source) else { return Err(Error::text("ERR Invalid script shebang")) };
    let words = split_words(&source[..end]).ok_or(Error::text("ERR Invalid engine in script shebang"))?;
    let mut words = words.iter().map(|word| String::from_utf8_lossy(word));
    let engine = words.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(Error::new(format!("ERR Unexpected engine in script shebang: {engine}")));
    }
    let mut flags = Flags { are_said: true, bits: 0 };
    for word in words {
        let Some(names) = word.strip_prefix("flags=") else {
            return Err(Error::new(format!("ERR Unknown lua shebang option: {word}")));
        };
        // None is none; one without a name is not known.
        for name in names.split(',').filter(|_| !names.is_empty()) {
            flags.bits |= bit(name).ok_or_else(|| Error::new(format!("ERR Unexpected flag in script shebang: {name}")))?;
        }
    }
    Ok(flags)
}

/// The script without its first line where that is for us; the line's end stays, so that lines are counted as they stand.
pub(crate) fn body(source: &[u8]) -> &[u8] {
    if !source.starts_with(b"#!") {
        return source;
    }
    memchr::memchr(b'\n', source).map_or(b"", |end| &source[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_says_of_itself_is_read_and_what_it_means_not_to_say_is_refused() {
        assert_eq!(of(b"return 1").unwrap(), Flags::default());
        let flags = of(b"#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        assert!(flags.are_said && flags.no_writes() && flags.allow_oom());
        assert!(of(b"#!lua flags=\"no-writes\" flags=\nreturn 1").is_ok_and(Flags::no_writes));
        assert!(of(b"#!lua\nreturn 1").is_ok_and(|flags| flags.are_said && !flags.no_writes()));
        for wrong in [
            "#!lua",
            "#!python\n",
            "#! lua\n",
            "#!lua flags=many\n",
            "#!lua flags=no-writes,\n",
            "#!lua color=red\n",
            "#!lua \"\n",
            "#!\n",
        ] {
            assert!(of(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert_eq!(body(b"#!lua\nreturn 1"), b"\nreturn 1");
    }
}
