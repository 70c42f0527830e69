//! Why a value does not fit, and where. Most of what does not fit is one of several ways that were tried, and nobody is told
//! of it: so the reason refers to the schema and the value, and becomes a text only for the one who is told.

use serde_json::{Number, Value};

use crate::peers::schema::budget::Spent;
use crate::peers::schema::tree::{LEVELS_MAX, NumberRule, Unfit};

/// Characters of a name, of a pattern or of the values of an `enum` that an error shows.
pub(crate) const SHOWN_MAX: usize = 200;

/// Names of kinds, in the order of their bits. A whole number is an integer and a number.
const KINDS: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const INTEGER: u8 = 1 << 2;

/// The bit of a kind in [`crate::peers::schema::Rule::Type`].
pub(crate) fn kind_bit(name: &str) -> Option<u8> {
    KINDS.iter().position(|kind| *kind == name).map(|at| 1 << at)
}

/// The bits of what a value is.
pub(crate) fn kinds_of(value: &Value) -> u8 {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 1 << 1,
        Value::Number(number) if is_whole(number) => INTEGER | 1 << 3,
        Value::Number(_) => 1 << 3,
        Value::String(_) => 1 << 4,
        Value::Array(_) => 1 << 5,
        Value::Object(_) => 1 << 6,
    }
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Why a value does not fit.
pub(crate) struct Misfit<'s, 'v> {
    /// Where, from the inside out.
    pub path: Vec<Part<'v>>,
    /// Why.
    pub why: Why<'s>,
}

/// A step on the way to a value.
#[derive(Clone, Copy)]
pub(crate) enum Part<'v> {
    /// A property.
    Name(&'v str),
    /// An item.
    At(usize),
}

/// A reason.
pub(crate) enum Why<'s> {
    Never,
    Kind {
        wanted: u8,
        is: u8,
    },
    NotAmong(&'s str),
    Number(NumberRule, f64, Number),
    TooFew {
        min: usize,
        has: usize,
        what: &'static str,
    },
    TooMany {
        max: usize,
        has: usize,
        what: &'static str,
    },
    Pattern(&'s str),
    Twice,
    Missing(&'s str),
    MissingWith(&'s str, &'s str),
    /// The innermost part of the path is a property that no rule knows.
    UnknownProperty,
    NoWay {
        of: usize,
    },
    ManyWays {
        fits: usize,
        of: usize,
    },
    IsNot,
    /// Not about the value but about the bounds of checking, so no other way of fitting is looked for.
    TooDeep,
    Spent(Spent),
}

impl From<Spent> for Misfit<'_, '_> {
    fn from(spent: Spent) -> Self {
        Why::Spent(spent).into()
    }
}

impl<'s> From<Why<'s>> for Misfit<'s, '_> {
    fn from(why: Why<'s>) -> Self {
        Misfit { path: Vec::new(), why }
    }
}

impl<'s, 'v> Misfit<'s, 'v> {
    /// The same, as seen from the value that holds the one it is about.
    pub(crate) fn within(mut self, part: Part<'v>) -> Self {
        self.path.push(part);
        self
    }

    /// Whether no other way of fitting need be looked for.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.why, Why::TooDeep | Why::Spent(_))
    }

    /// As it is told.
    pub(crate) fn told(mut self) -> Unfit {
        if let Why::Spent(spent) = self.why {
            return Unfit::Unknown(spent);
        }
        let unknown = matches!(self.why, Why::UnknownProperty).then(|| self.path.drain(..1).next()).flatten();
        let text = match unknown {
            Some(Part::Name(name)) => format!("{:?} is not a known property", shown(name)),
            _ => self.why.text(),
        };
        if self.path.is_empty() || self.is_final() {
            return Unfit::Invalid(text);
        }
        let part = |part: &Part<'_>| match part {
            Part::Name(name) => format!("/{}", shown(name).replace('~', "~0").replace('/', "~1")),
            Part::At(at) => format!("/{at}"),
        };
        let path: String = self.path.iter().rev().map(part).collect();
        Unfit::Invalid(format!("at {path}: {text}"))
    }
}

impl Why<'_> {
    fn text(&self) -> String {
        match self {
            Why::Never => "nothing is allowed here".into(),
            Why::Kind { wanted, is } => {
                let wanted = KINDS.iter().enumerate().filter(|(at, _)| wanted & 1 << at != 0).map(|(_, kind)| *kind);
                let wanted = wanted.collect::<Vec<_>>().join(" or ");
                format!("must be {wanted}, is {}", KINDS[is.trailing_zeros() as usize])
            }
            Why::NotAmong(list) => format!("must be {list}"),
            Why::Number(rule, bound, number) => format!("must be {} {bound}, is {number}", rule.word()),
            Why::TooFew { min, has, what } => format!("must have at least {min} {what}, has {has}"),
            Why::TooMany { max, has, what } => format!("must have at most {max} {what}, has {has}"),
            Why::Pattern(pattern) => format!("must match the pattern {}", shown(pattern)),
            Why::Twice => "must not hold the same item twice".into(),
            Why::Missing(name) => format!("{:?} is required", shown(name)),
            Why::MissingWith(name, with) => format!("{:?} is required where {:?} is", shown(name), shown(with)),
            Why::UnknownProperty => "a property is not known".into(),
            Why::NoWay { of } => format!("fits none of the {of} allowed ways"),
            Why::ManyWays { fits, of } => format!("fits {fits} of the {of} allowed ways, and must fit one"),
            Why::IsNot => "is what it must not be".into(),
            Why::TooDeep => format!("it nests more than {LEVELS_MAX} schemas deep"),
            Why::Spent(_) => "checking it takes too long".into(),
        }
    }
}

impl NumberRule {
    fn word(self) -> &'static str {
        match self {
            NumberRule::AtLeast => "at least",
            NumberRule::AtMost => "at most",
            NumberRule::Above => "above",
            NumberRule::Below => "below",
            NumberRule::MultipleOf => "a multiple of",
        }
    }
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
