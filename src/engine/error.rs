//! Why a command was refused, in the exact words Redis uses: clients compare them.

use std::borrow::Cow;

/// An error reply without its leading `-` and its line end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub Cow<'static, str>);

impl Error {
    /// An error with a text made for the occasion.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Error {
        Error(text.into())
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Error = Error(Cow::Borrowed($text));)*
    };
}

errors! {
    /// The key holds another kind of value.
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    /// Options that do not go together, or unknown ones.
    SYNTAX = "ERR syntax error";
    /// Not an integer in 64 bits.
    NOT_INTEGER = "ERR value is not an integer or out of range";
    /// Not a number.
    NOT_FLOAT = "ERR value is not a valid float";
    /// No such key, where one is needed.
    NO_SUCH_KEY = "ERR no such key";
    /// An index outside a list.
    INDEX_RANGE = "ERR index out of range";
    /// A value outside what is allowed.
    OUT_OF_RANGE = "ERR value is out of range";
    /// A count that must be above zero.
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    /// A number would leave 64 bits.
    OVERFLOW = "ERR increment or decrement would overflow";
    /// A value stored on disk could not be read back.
    DISK_READ = "ERR the value could not be read back from disk; run `flux check`";
}
