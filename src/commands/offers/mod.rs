//! What rooms offer each other, a trait for each: so one room uses another without knowing it. A room hands over what it offers when it is
//! opened (`room::Open::offer`); who asks for what no room offers is told so in words.
//!
//! | offer | of which room | what for |
//! |---|---|---|
//! | [`Calls`] | `peers` | call a capability |
//! | [`RemotePeers`] | `peers` (not yet) | let peers of other nodes take part |
//! | [`Jobs`] | none yet | submit a job |
//! | [`Functions`] | none yet | run a function |
//! | [`Blobs`] | none yet | keep bytes, and have them brought |
//!
//! All of it is asynchronous: nobody holds a thread while it waits. JSON is bytes that whoever takes them checks.

pub(crate) mod blobs;
pub mod calls;
pub(crate) mod functions;
pub(crate) mod jobs;
pub(crate) mod remote;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use blobs::{Blob, BlobId, Blobs};
pub use calls::Calls;
pub use functions::{Code, Functions, Run};
pub use jobs::{Jobs, NewJob};
pub use remote::RemotePeers;

/// What comes later; dropping it gives it up.
pub type Later<T> = BoxFuture<'static, Result<T, Failure>>;

/// Why something has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct Failure {
    /// One word for programs, in capitals: `ERR`, or what the offer says.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

/// A place for one offer.
pub struct Offer<T: ?Sized> {
    words: &'static str,
    by: Option<Arc<T>>,
}

impl<T: ?Sized> Offer<T> {
    const fn none(words: &'static str) -> Offer<T> {
        Offer { words, by: None }
    }

    /// Offers it. One room does.
    pub fn set(&mut self, by: Arc<T>) {
        assert!(self.by.is_none(), "two rooms offer {}", self.words);
        self.by = Some(by);
    }

    /// What is offered. Fails where nobody does.
    pub fn get(&self) -> Result<&Arc<T>, Failure> {
        self.by.as_ref().ok_or_else(|| Failure::new("ERR", format!("{} are not served here", self.words)))
    }
}

/// All that the rooms of an instance offer.
pub struct Offers {
    /// See there.
    pub calls: Offer<dyn Calls>,
    /// See there.
    pub remote_peers: Offer<dyn RemotePeers>,
    /// See there.
    pub jobs: Offer<dyn Jobs>,
    /// See there.
    pub functions: Offer<dyn Functions>,
    /// See there.
    pub blobs: Offer<dyn Blobs>,
}

impl Offers {
    /// Nothing is offered.
    pub const fn none() -> Offers {
        Offers {
            calls: Offer::none("calls"),
            remote_peers: Offer::none("peers of other nodes"),
            jobs: Offer::none("jobs"),
            functions: Offer::none("functions"),
            blobs: Offer::none("blobs"),
        }
    }
}
