//! What peers and calls are told apart by, and how a peer proves that it is itself.

use std::sync::Arc;

/// A peer's id, a call's, or another name that is passed around.
pub(crate) type Id = Arc<str>;

/// The hash of a peer's secret. It is compared in constant time, and not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(blake3::Hash);

impl Secret {
    /// The hash of a secret.
    pub(crate) fn of(secret: &[u8]) -> Secret {
        Secret(blake3::hash(secret))
    }

    /// Reads what [`Self::text`] wrote.
    pub(crate) fn from_text(text: &str) -> Option<Secret> {
        blake3::Hash::from_hex(text).ok().map(Secret)
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> String {
        self.0.to_hex().to_string()
    }
}
