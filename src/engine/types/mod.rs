//! The kinds of values: one file each for the structure and its meaning, and what several of them are built from.

pub(crate) mod bits;
pub(crate) mod geohash;
pub(crate) mod hash;
pub(crate) mod hyperloglog;
pub(crate) mod intset;
pub(crate) mod lcs;
pub(crate) mod list;
pub(crate) mod packed;
pub(crate) mod pairs;
pub(crate) mod ranked;
pub(crate) mod sample;
pub(crate) mod set;
pub(crate) mod smallset;
pub(crate) mod stream;
pub mod string;
pub(crate) mod zset;
