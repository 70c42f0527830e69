//! Who gets a call.
