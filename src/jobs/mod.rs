//! Jobs: code that is kept until it has run, tried again where it fails, and runs apart from us.
//!
//! - [`spec`]: what is to run, and how. [`state`]: where a job is on its way. [`names`]: where all of it lies among the keys.
//! - [`book`]: the changes of a job's state. Each is one script on keys of one slot, so it is the same atomic step in this process, on a server elsewhere
//!   and on a cluster. [`logs`]: what jobs write.
//! - [`worker`]: takes jobs and runs them by a [`runtime`].
//! - `room`: the jobs of this server's keyspace (`here`), and a worker for them; `http`: what can be asked of them; `shown`: how they are told; `settings`; `offer`: jobs for other rooms.

pub mod book;
pub(crate) mod logs;
pub mod names;
pub(crate) mod runtime;
pub mod spec;
pub mod state;
pub(crate) mod worker;

mod here;
mod http;
mod offer;
mod room;
mod settings;
mod shown;

pub(crate) use room::ROOM;
