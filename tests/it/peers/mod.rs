//! Peers, new and old: `FLUX.*` commands as scripts and over sockets, and the old protocol spoken with a plain client.

mod calls;
mod checks;
mod cli;
mod client;
mod clock;
mod context;
mod describe;
mod fanout;
mod interop;
mod lost;
mod old;
mod page;
mod presence;
mod restart;
mod rust;
mod schema;
mod schema_random;
mod schema_suite;
mod streams;
