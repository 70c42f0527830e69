//! Immutable bytes in 24 bytes of room: short ones in place, longer ones on the heap. Keys, fields and members are these.

use std::fmt;
use std::ops::Deref;

/// Bytes that fit in place. Keys such as `user:1234567890:name` do, and save an allocation and a cache miss each.
pub(crate) const INLINE_BYTES_MAX: usize = 22;

/// Immutable bytes; equality, order and hash are those of the bytes.
#[derive(Clone)]
pub struct Blob(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Long(Box<[u8]>),
}

impl Blob {
    /// Bytes held on the heap, for memory accounting.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Short { .. } => 0,
            Repr::Long(bytes) => bytes.len(),
        }
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            let mut short = [0; INLINE_BYTES_MAX];
            short[..bytes.len()].copy_from_slice(bytes);
            Blob(Repr::Short { len: bytes.len() as u8, bytes: short })
        } else {
            Blob(Repr::Long(bytes.into()))
        }
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

impl PartialOrd for Blob {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Blob {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Blob {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for Blob {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_24_bytes_and_leaves_a_niche() {
        assert_eq!(size_of::<Blob>(), 24);
        assert_eq!(size_of::<Option<Blob>>(), 24);
    }

    #[test]
    fn keeps_bytes_of_every_length() {
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(&*Blob::from(bytes.as_slice()), bytes);
        }
    }
}
