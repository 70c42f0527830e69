//! The files of a data folder: the journal (what happened, in order), files that are only appended to, and the tables (what
//! is), a redb database. Writing one never waits for the other. This room knows bytes only; what they mean is the engine's.

mod branches;
mod caught;
mod damage;
pub(crate) mod disk;
mod error;
mod files;
pub(crate) mod folder;
pub mod journal;
pub mod opening;
mod rows;
pub mod tables;
mod untouched;

pub use damage::Damage;
pub use disk::Disk;
pub(crate) use disk::serve_here;
pub use error::Error;
pub(crate) use error::FORMAT;
pub use files::Files;
pub use folder::Folder;
pub use journal::Journal;
pub use rows::Sum;
pub use tables::Tables;
pub(crate) use untouched::Untouched;
