//! Errors as HTTP has them; see there.

pub(crate) use crate::commands::route::Refusal;
