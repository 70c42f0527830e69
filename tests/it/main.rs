//! Tests of flux from outside: commands as scripts, the server over sockets, models, and the tidiness of the house.

mod cli;
mod clients;
mod commands;
mod crash;
mod docs;
mod fuzz;
mod http;
mod isolation;
mod model;
mod persist;
mod process;
mod random;
mod script;
mod settings;
mod storage;
mod tidy;
mod workload;
