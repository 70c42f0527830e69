//! Errors as HTTP has them; see there.

pub use crate::commands::route::Refusal;
