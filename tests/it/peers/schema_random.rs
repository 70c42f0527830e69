//! Random schemas and payloads, of few names and values, so that they have to do with each other.

use serde_json::{Map, Value, json};

use crate::random::Random;

const NAMES: [&str; 5] = ["a", "b", "ab", "ä", ""];
const PATTERNS: [&str; 7] = ["^a", "b$", "[ab]{2}", "^[^a]*$", "a|ä", "^(a?b?){1,3}$", "."];
const KINDS: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// A schema with some `$defs` which it refers to.
pub fn schema(random: &mut Random) -> Value {
    let mut root = subschema(random, 3);
    if let Value::Object(words) = &mut root {
        let defs = ["x", "y"].map(|name| (name.to_owned(), subschema(random, 2)));
        words.insert("$defs".into(), Value::Object(defs.into_iter().collect()));
        return root;
    }
    json!({ "allOf": [root], "$defs": { "x": subschema(random, 1), "y": true } })
}

fn subschema(random: &mut Random, depth: usize) -> Value {
    if random.below(8) == 0 {
        return Value::Bool(random.below(3) > 0);
    }
    let mut words = Map::new();
    for _ in 0..1 + random.below(3) {
        let (word, value) = word(random, depth);
        words.insert(word.into(), value);
    }
    Value::Object(words)
}

fn word(random: &mut Random, depth: usize) -> (&'static str, Value) {
    // Words that hold schemas come last.
    match random.below(if depth == 0 { 17 } else { 35 }) {
        0 => ("type", json!(KINDS[random.below(7)])),
        1 => ("type", json!([KINDS[random.below(7)], "object", "array"])),
        2 => ("enum", (0..1 + random.below(4)).map(|_| payload(random, 2)).collect()),
        3 => ("const", payload(random, 1)),
        4 => ("minimum", number(random)),
        5 => ("maximum", number(random)),
        6 => ("exclusiveMinimum", number(random)),
        7 => ("exclusiveMaximum", number(random)),
        8 => ("multipleOf", [json!(0.5), json!(1), json!(2), json!(1.5)][random.below(4)].clone()),
        9 => [("minLength", count(random)), ("maxLength", count(random))][random.below(2)].clone(),
        10 => ("pattern", json!(PATTERNS[random.below(PATTERNS.len())])),
        11 => [("minItems", count(random)), ("maxItems", count(random))][random.below(2)].clone(),
        12 => ("uniqueItems", json!(random.below(3) > 0)),
        13 => [("minProperties", count(random)), ("maxProperties", count(random))][random.below(2)].clone(),
        14 => ("required", names(random)),
        15 => ("dependentRequired", json!({ name(random): names(random) })),
        16 => ("format", json!("email")),
        17 => ("$ref", json!(["#/$defs/x", "#/$defs/y", "#"][random.below(16).min(2)])),
        18 | 19 => ("properties", members(random, depth)),
        20 => {
            let pattern = PATTERNS[random.below(PATTERNS.len())];
            ("patternProperties", json!({ pattern: subschema(random, depth - 1) }))
        }
        21 => ("additionalProperties", subschema(random, depth - 1)),
        22 => ("propertyNames", subschema(random, depth - 1)),
        23 => ("dependentSchemas", members(random, depth)),
        24 => ("items", subschema(random, depth - 1)),
        25 => ("prefixItems", list(random, depth)),
        26 => ("contains", subschema(random, depth - 1)),
        27 => [("minContains", count(random)), ("maxContains", count(random))][random.below(2)].clone(),
        28 => ("allOf", list(random, depth)),
        29 => ("anyOf", list(random, depth)),
        30 => ("oneOf", list(random, depth)),
        31 => ("not", subschema(random, depth - 1)),
        32 => [("if", ()), ("then", ()), ("else", ())].map(|(word, ())| (word, subschema(random, depth - 1)))[random.below(3)]
            .clone(),
        33 => ("unevaluatedProperties", subschema(random, depth - 1)),
        _ => ("unevaluatedItems", subschema(random, depth - 1)),
    }
}

fn members(random: &mut Random, depth: usize) -> Value {
    (0..1 + random.below(3)).map(|_| (name(random).to_owned(), subschema(random, depth - 1))).collect::<Map<_, _>>().into()
}

fn list(random: &mut Random, depth: usize) -> Value {
    (0..1 + random.below(3)).map(|_| subschema(random, depth - 1)).collect()
}

fn name(random: &mut Random) -> &'static str {
    NAMES[random.below(NAMES.len())]
}

fn names(random: &mut Random) -> Value {
    // Each once, as a schema must have them.
    let names: std::collections::BTreeSet<&str> = (0..random.below(3)).map(|_| name(random)).collect();
    json!(names)
}

fn count(random: &mut Random) -> Value {
    json!(random.below(4))
}

fn number(random: &mut Random) -> Value {
    [json!(0), json!(1), json!(1.0), json!(1.5), json!(-1), json!(2), json!(3e20), json!(0.5)][random.below(8)].clone()
}

/// A payload that nests at most so deep.
pub fn payload(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 14 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 | 3 => number(random),
        4 | 5 => json!([name(random), name(random)].concat()),
        6..=9 => (0..random.below(5)).map(|_| payload(random, depth - 1)).collect(),
        _ => (0..random.below(5)).map(|_| (name(random).to_owned(), payload(random, depth - 1))).collect::<Map<_, _>>().into(),
    }
}
