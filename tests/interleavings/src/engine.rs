//! The files under test, under the names they have for each other.

#[path = "../../../src/engine/durability.rs"]
pub mod durability;
#[path = "../../../src/engine/gate.rs"]
pub mod gate;
#[path = "../../../src/engine/mailbox.rs"]
pub mod mailbox;
