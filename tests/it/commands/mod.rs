//! Commands, a file for each group.

mod hash;
mod list;
mod set;
mod stream;
mod transactions;
