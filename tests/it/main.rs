//! Tests of flux from outside: commands as scripts, the server over sockets, models, and the tidiness of the house.

mod commands;
mod fuzz;
mod persist;
mod script;
mod tidy;
mod workload;
