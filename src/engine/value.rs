//! What a key can hold. What a value is to the journal and the tables is in `engine::rows`.

use std::convert;

use crate::engine::types::hash::Hash;
use crate::engine::types::list::List;
use crate::engine::types::set::Set;
use crate::engine::types::stream::Stream;
use crate::engine::types::string::Str;
use crate::engine::types::zset::Zset;
use crate::resp::Args;

pub use crate::engine::rows::{BadRow, Kind, Rows};

/// A value in memory, or the knowledge that it rests on disk.
pub enum Value {
    /// See [`Kind::String`].
    String(Str),
    /// See [`Kind::List`].
    List(Box<List>),
    /// See [`Kind::Hash`].
    Hash(Hash),
    /// See [`Kind::Set`].
    Set(Set),
    /// See [`Kind::Zset`].
    Zset(Box<Zset>),
    /// See [`Kind::Stream`].
    Stream(Box<Stream>),
    /// Clean and dropped from memory under `--memory-limit`; read back from the tables on use.
    OnDisk(Kind),
}

impl Value {
    /// The kind, also of a value that rests on disk.
    pub fn kind(&self) -> Kind {
        match self {
            Value::String(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Hash(_) => Kind::Hash,
            Value::Set(_) => Kind::Set,
            Value::Zset(_) => Kind::Zset,
            Value::Stream(_) => Kind::Stream,
            Value::OnDisk(kind) => *kind,
        }
    }

    /// An empty value of a kind.
    pub fn empty(kind: Kind) -> Value {
        match kind {
            Kind::String => Value::String(Str::default()),
            Kind::List => Value::List(Box::default()),
            Kind::Hash => Value::Hash(Hash::default()),
            Kind::Set => Value::Set(Set::default()),
            Kind::Zset => Value::Zset(Box::default()),
            Kind::Stream => Value::Stream(Box::default()),
        }
    }

    /// The same value once more. None for a value that rests on disk.
    pub(crate) fn duplicate(&self) -> Option<Value> {
        Some(match self {
            Value::String(string) => Value::String(string.clone()),
            Value::List(list) => Value::List(list.clone()),
            Value::Hash(hash) => Value::Hash(hash.clone()),
            Value::Set(set) => Value::Set(set.clone()),
            Value::Zset(zset) => Value::Zset(zset.clone()),
            Value::Stream(stream) => Value::Stream(stream.clone()),
            Value::OnDisk(_) => return None,
        })
    }

    /// Brings near what these commands on its elements will look at: fields, members. Where one does not name an element in the
    /// usual place, nothing is lost.
    pub(crate) fn prefetch(&self, commands: &[Args<'_>]) {
        let second = commands.iter().filter_map(|args| args.get(2));
        match self {
            Value::Hash(hash) => hash.prefetch(second),
            Value::Set(set) => set.prefetch(second),
            // Scores stand before members.
            Value::Zset(zset) => zset.prefetch(commands.iter().map(|args| args.at(args.len() - 1))),
            Value::String(_) | Value::List(_) | Value::Stream(_) | Value::OnDisk(_) => {}
        }
    }

    /// The value as rows. None for a value that rests on disk.
    pub fn rows(&self) -> Option<&dyn Rows> {
        match self {
            Value::String(string) => Some(string),
            Value::List(list) => Some(&**list),
            Value::Hash(hash) => Some(hash),
            Value::Set(set) => Some(set),
            Value::Zset(zset) => Some(&**zset),
            Value::Stream(stream) => Some(&**stream),
            Value::OnDisk(_) => None,
        }
    }

    /// The value as rows, to change. None for a value that rests on disk.
    pub fn rows_mut(&mut self) -> Option<&mut dyn Rows> {
        match self {
            Value::String(string) => Some(string),
            Value::List(list) => Some(&mut **list),
            Value::Hash(hash) => Some(hash),
            Value::Set(set) => Some(set),
            Value::Zset(zset) => Some(&mut **zset),
            Value::Stream(stream) => Some(&mut **stream),
            Value::OnDisk(_) => None,
        }
    }
}

/// A Rust type that is one kind of value.
pub trait Type: Rows + Default {
    /// Which kind.
    const KIND: Kind;
    /// Whether an empty one keeps its key.
    const LASTS_EMPTY: bool;
    /// This type in a value of its kind.
    fn of(value: &Value) -> Option<&Self>;
    /// This type in a value of its kind, to change.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// As a value.
    fn into_value(self) -> Value;
    /// Whether nothing is left, so that its key must go.
    fn is_empty(&self) -> bool;
}

/// A type whose values are wrapped like this, and keep their key when they are empty or not.
macro_rules! collection {
    ($type:ident, $wrap:expr, $lasts_empty:expr) => {
        impl Type for $type {
            const KIND: Kind = Kind::$type;
            const LASTS_EMPTY: bool = $lasts_empty;

            fn of(value: &Value) -> Option<&Self> {
                match value {
                    Value::$type(inner) => Some(inner),
                    _ => None,
                }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                match value {
                    Value::$type(inner) => Some(inner),
                    _ => None,
                }
            }

            fn into_value(self) -> Value {
                Value::$type($wrap(self))
            }

            fn is_empty(&self) -> bool {
                self.len() == 0 && !Self::LASTS_EMPTY
            }
        }
    };
}

collection!(List, Box::new, false);
collection!(Zset, Box::new, false);
collection!(Stream, Box::new, true);
// As small as two pointers, these stand in a value themselves.
collection!(Hash, convert::identity, false);
collection!(Set, convert::identity, false);

impl Type for Str {
    const KIND: Kind = Kind::String;
    const LASTS_EMPTY: bool = true;

    fn of(value: &Value) -> Option<&Self> {
        match value {
            Value::String(string) => Some(string),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        match value {
            Value::String(string) => Some(string),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::String(self)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_24_bytes() {
        assert_eq!(size_of::<Value>(), 24);
    }
}
