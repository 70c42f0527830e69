//! flux: a durable, drop-in Redis in one binary, with peers, jobs, a vault and a mesh built on top of it.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod engine;
pub mod id;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod resp;
pub mod server;
pub mod settings;
pub mod version;
