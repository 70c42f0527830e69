//! Commands, a file for each group.

mod hash;
mod set;
mod transactions;
