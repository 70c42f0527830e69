//! The kinds of values: one file each for the structure and its meaning, and what several of them are built from.

pub mod bits;
pub mod geohash;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod lcs;
pub mod list;
pub mod packed;
pub mod pairs;
pub mod ranked;
pub mod sample;
pub mod set;
pub mod smallset;
pub mod stream;
pub mod string;
pub mod zset;
