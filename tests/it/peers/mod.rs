//! Peers, new and old, over sockets: `FLUX.*` commands, and the old protocol spoken with a plain client.

mod calls;
mod client;
mod old;
mod presence;
mod restart;
mod schema;
