//! JSON Schema: whether a payload is what a capability asks for.
//!
//! A schema comes from one stranger and payloads from another, and both are checked on threads that serve everyone. So
//! whatever a check may cost is bounded, which the validators at hand do not do: a few nested `anyOf` that refer to each
//! other keep them busy for years, a short pattern takes them gigabytes. Here a schema has a size, a pattern a size, and a
//! check so many steps and levels.
//!
//! Meant is draft 2020-12, and of earlier drafts what they write differently (`definitions`, `dependencies`, lists in
//! `items`). A schema that asks for what is not supported is refused when a peer registers it, never half obeyed:
//! references to other documents, anchors, dynamic references, an `$id` inside. `format` is a note, as the draft has it.

mod canonical;
mod check;
mod compile;

use std::collections::HashSet;

use regex::Regex;
use serde_json::Value;

/// Bytes of a schema's text. Those of tools are a few kilobytes.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Subschemas a check may go into, and values a payload may have. A payload of a megabyte with an ordinary schema takes some 100,000.
const STEPS_MAX: usize = 1_000_000;
/// Subschemas within subschemas; at most a kilobyte of stack each, of two megabytes a thread has. JSON text nests at most 127 deep.
const LEVELS_MAX: usize = 500;
/// Patterns a schema may have.
const PATTERNS_MAX: usize = 100;
/// Memory one pattern may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A schema, ready to check payloads.
#[derive(Debug)]
pub struct Schema {
    /// The root is the first.
    nodes: Vec<Vec<Rule>>,
}

/// A subschema, by its place in [`Schema::nodes`].
type Node = usize;

/// One thing a subschema asks for. Rules for a kind of value pass all other kinds.
#[derive(Debug)]
enum Rule {
    Never,
    /// Bits of [`check::kind_bit`].
    Type(u8),
    /// Canonical texts, and how to name them in an error.
    Among(HashSet<String>, String),
    Number(NumberRule, f64),
    Length {
        min: usize,
        max: usize,
    },
    Pattern(Regex),
    Items {
        count: Count,
        prefix: Vec<Node>,
        rest: Option<Node>,
    },
    Unique,
    Contains {
        node: Node,
        count: Count,
    },
    Properties {
        named: Vec<(String, Node)>,
        patterns: Vec<(Regex, Node)>,
        rest: Option<Node>,
    },
    PropertyCount(Count),
    PropertyNames(Node),
    Required(Vec<String>),
    /// What must also be there, and what must fit, where a property is.
    Dependent(String, Vec<String>, Option<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    One(Vec<Node>),
    Not(Node),
    If {
        condition: Node,
        then: Option<Node>,
        otherwise: Option<Node>,
    },
    /// For what no other rule of this subschema has looked at.
    OtherProperties(Node),
    OtherItems(Node),
}

/// What a number must be, compared with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberRule {
    AtLeast,
    AtMost,
    Above,
    Below,
    MultipleOf,
}

/// A range of counts.
#[derive(Debug, Clone, Copy)]
struct Count {
    min: usize,
    max: usize,
}

impl Schema {
    /// Reads a schema; the error says what is wrong with it.
    pub fn compile(schema: &Value) -> Result<Schema, String> {
        compile::compile(schema).map(|nodes| Schema { nodes })
    }

    /// Checks a payload, which is JSON; the error says where and why it does not fit: `at /text: must be a string, is a number`.
    pub fn check(&self, payload: &[u8]) -> Result<(), String> {
        // Each value takes memory of its own once it is read, many times its text where there is little text between.
        if payload.iter().filter(|byte| b",[{".contains(byte)).count() > STEPS_MAX {
            return Err(format!("checking it would take more than {STEPS_MAX} steps"));
        }
        let value = serde_json::from_slice(payload).map_err(|error| format!("not JSON: {error}"))?;
        check::check(&self.nodes, &value)
    }
}
