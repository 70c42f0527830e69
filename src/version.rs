//! What this build calls itself.

/// The version of flux.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of Redis whose behaviour clients may expect: they switch features on by it.
pub const REDIS_VERSION: &str = "7.4.0";
