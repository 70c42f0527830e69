//! Blobs: bytes that are named by their hash, and travel between nodes.

use std::path::PathBuf;
use std::sync::Arc;

use crate::commands::offers::{Failure, Later};

/// Keeps blobs, and has them brought from where they are.
pub trait Blobs: Send + Sync {
    /// Keeps a blob; its name comes once it is on disk.
    fn put(&self, blob: Blob) -> Later<BlobId>;

    /// A blob that is here; None where it is not. It is never waited for.
    fn get(&self, id: BlobId) -> Later<Option<Blob>>;

    /// Has blobs brought here, and does not wait for them.
    fn want(&self, ids: &[BlobId]) -> Result<(), Failure>;
}

/// The BLAKE3 hash of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobId(pub [u8; 32]);

/// Bytes, where they are: large ones are never in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a file, which stays as it is for as long as it is read.
    File(PathBuf),
}
