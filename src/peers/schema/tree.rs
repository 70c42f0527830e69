//! A schema as it is checked: what each subschema asks for.

use std::collections::HashSet;
use std::sync::Arc;

use crate::peers::schema::budget::Spent;
use crate::peers::schema::pattern::Pattern;

/// Bytes of a schema's text. Those of tools are a few kilobytes.
pub(crate) const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Subschemas within subschemas; at most a kilobyte of stack each, of two megabytes a thread has. JSON text nests at most 127 deep.
pub(super) const LEVELS_MAX: usize = 500;
/// Patterns a schema may have.
pub(super) const PATTERNS_MAX: usize = 100;

/// A subschema, by its place in [`Schema::nodes`].
pub(super) type Node = usize;

/// One thing a subschema asks for. Rules for a kind of value pass all other kinds.
#[derive(Debug)]
pub(super) enum Rule {
    Never,
    /// Bits of [`misfit::kind_bit`].
    Type(u8),
    Among(Among),
    Number(NumberRule, f64),
    Length {
        min: usize,
        max: usize,
    },
    Pattern(Arc<Pattern>),
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
        /// By name.
        named: Vec<(String, Node)>,
        patterns: Vec<(Arc<Pattern>, Node)>,
        rest: Option<Node>,
    },
    PropertyCount(Count),
    PropertyNames(Node),
    /// Each once.
    Required(Vec<String>),
    /// By name.
    Dependent(Vec<Dependent>),
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

/// Values of which one is asked for.
#[derive(Debug)]
pub(super) struct Among {
    /// Canonical ones.
    pub(super) texts: HashSet<String>,
    /// Bytes of the longest of them: what is longer is none.
    pub(super) longest: usize,
    /// How to name them in an error.
    pub(super) shown: String,
}

/// What must also be there, and what must fit, where a property is.
#[derive(Debug)]
pub(super) struct Dependent {
    pub(super) name: String,
    pub(super) others: Vec<String>,
    pub(super) node: Option<Node>,
}

/// What a number must be, compared with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberRule {
    AtLeast,
    AtMost,
    Above,
    Below,
    MultipleOf,
}

/// A range of counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) min: usize,
    pub(super) max: usize,
}

/// Why a payload is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is not what the schema asks for; says where and why: `at /text: must be string, is integer`.
    Invalid(String),
    /// Nobody knows: finding out would cost too much, or nobody wants to know any more.
    Unknown(Spent),
}
