//! What this build calls itself.

/// The version of flux.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version with the commit it was built of, where that is known, and the machine it was built for.
pub(crate) const BUILD: &str = env!("VERSION_OF_BUILD");

/// The version of Redis whose behaviour clients may expect: they switch features on by it.
pub(crate) const REDIS_VERSION: &str = "7.4.0";
