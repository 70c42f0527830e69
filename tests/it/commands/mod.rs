//! Commands, a file for each group.

mod bitmap;
mod generic;
mod geo;
mod hash;
mod hyperloglog;
mod info;
mod list;
mod server;
mod set;
mod stream;
mod string;
mod table;
mod transactions;
mod waiting;
mod zset;
