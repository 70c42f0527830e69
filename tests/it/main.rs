//! Tests of flux from outside: commands as scripts, the server over sockets, models, and the tidiness of the house.

#![allow(
    clippy::disallowed_methods,
    reason = "tests ask the system for time, and start threads and programs, as those do who use flux"
)]
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking; clippy knows only functions marked as tests")]

mod churn;
mod circles;
mod cli;
mod clients;
mod commands;
mod crash;
mod damage;
mod disk;
mod docs;
mod errors;
mod functions;
mod fuzz;
mod gate;
mod http;
mod isolation;
mod jobs;
mod keys;
mod lifecycle;
mod linear;
mod loading;
mod lua;
mod memory;
mod model;
mod old_peers;
mod order;
mod panics;
mod peers;
mod persist;
mod process;
mod random;
mod rooms;
mod script;
mod scripts;
mod sdk_js;
mod sdk_python;
mod seeds;
mod settings;
mod spilled;
mod storage;
mod store;
mod tables;
mod tidy;
mod tracking;
mod waits;
mod workload;
