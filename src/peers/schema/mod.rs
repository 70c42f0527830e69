//! JSON Schema: whether a payload is what a capability asks for.
//!
//! A schema comes from one stranger and payloads from another, and both are checked on threads that serve everyone. So
//! whatever a check may cost is bounded, which the validators at hand do not do: a few nested `anyOf` that refer to each
//! other keep them busy for years, a short pattern takes them gigabytes. Here a schema has a size, a pattern a size, and a
//! check so many levels and a [`Budget`] of steps, which all counts against that a stranger can make last: values, names,
//! lists, patterns, and reading the payload.
//!
//! Meant is draft 2020-12, and of earlier drafts what they write differently (`definitions`, `dependencies`, lists in
//! `items`). A schema that asks for what is not supported is refused when a peer registers it, never half obeyed:
//! references to other documents, anchors, dynamic references, an `$id` inside. `format` is a note, as the draft has it.

mod budget;
mod canonical;
mod check;
mod compile;
mod misfit;
mod pattern;
mod tree;

use serde_json::Value;

pub(crate) use budget::INLINE_STEPS_MAX;
pub use budget::{Budget, CHECK_STEPS_MAX, Spent};
pub use compile::Compiling;
use tree::Rule;
pub use tree::Unfit;

/// A schema, ready to check payloads.
#[derive(Debug)]
pub struct Schema {
    /// The root is the first.
    nodes: Vec<Vec<Rule>>,
}

impl Schema {
    /// Reads a schema; the error says what is wrong with it.
    pub fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile_with(schema, &mut Compiling::default())
    }

    /// The same for one of several schemas, which have one budget together.
    pub fn compile_with(schema: &Value, compiling: &mut Compiling) -> Result<Schema, String> {
        compile::compile(schema, compiling).map(|nodes| Schema { nodes })
    }

    /// Checks a payload, which is JSON.
    pub fn check(&self, payload: &[u8], budget: &mut Budget<'_>) -> Result<(), Unfit> {
        read_steps(payload, budget).map_err(Unfit::Unknown)?;
        let value = serde_json::from_slice(payload).map_err(|error| Unfit::Invalid(format!("not JSON: {error}")))?;
        check::check(&self.nodes, &value, budget)
    }
}

/// Takes steps for reading a payload and giving back the memory of it: each value takes memory of its own, and an object half
/// a kilobyte at once.
fn read_steps(payload: &[u8], budget: &mut Budget<'_>) -> Result<(), Spent> {
    const SLICE_BYTES: usize = 4096;
    for slice in payload.chunks(SLICE_BYTES) {
        let steps: usize = slice.iter().map(|byte| usize::from(READ_STEPS[usize::from(*byte)])).sum();
        budget.spend(slice.len() / 8 + steps)?;
    }
    budget.spend(1)
}

/// Steps for what begins with a byte.
const READ_STEPS: [u8; 256] = {
    let mut steps = [0; 256];
    steps[b',' as usize] = 5;
    steps[b':' as usize] = 25;
    steps[b'[' as usize] = 10;
    steps[b'{' as usize] = 50;
    steps
};
