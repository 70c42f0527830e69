//! The Redis serialization protocol, both ways: requests read from bytes, replies written as bytes (RESP2 and RESP3).
//! Knows nothing of commands. Specification: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

pub(crate) mod reply;
pub mod request;

pub use reply::{Protocol, Reply};
pub(crate) use request::{AHEAD_MAX, is_foreign};
pub use request::{Args, Limits, OwnedArgs, Parser, ProtocolError};
