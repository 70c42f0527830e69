//! Commands, a file for each group.

mod transactions;
