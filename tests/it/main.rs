//! Tests of flux from outside: commands as scripts, the server over sockets, models, and the tidiness of the house.

mod clients;
mod commands;
mod crash;
mod fuzz;
mod isolation;
mod model;
mod persist;
mod process;
mod random;
mod script;
mod storage;
mod tidy;
mod workload;
