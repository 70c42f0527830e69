//! JSON Schema on the server: what fits, what does not and how that is told, and that nobody can make a check last.

use std::time::Instant;

use flux::peers::schema::{Budget, CHECK_STEPS_MAX, Compiling, Schema, Spent, Unfit};
use serde_json::{Map, Value, json};

use crate::peers::schema_random;
use crate::random::Random;

/// The error of a payload against a schema; empty if it fits.
fn misfit(schema: &Value, payload: &Value) -> String {
    let schema = Schema::compile(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    match schema.check(payload.to_string().as_bytes(), &mut Budget::new(CHECK_STEPS_MAX)) {
        Ok(()) => String::new(),
        Err(Unfit::Invalid(why)) => why,
        Err(Unfit::Unknown(spent)) => format!("{spent:?}"),
    }
}

#[track_caller]
fn fits(schema: Value, payloads: &[Value]) {
    for payload in payloads {
        assert_eq!(misfit(&schema, payload), "", "{payload} against {schema}");
    }
}

#[track_caller]
fn fails(schema: Value, payload: Value, why: &str) {
    assert_eq!(misfit(&schema, &payload), why, "{payload} against {schema}");
}

#[track_caller]
fn refused(schema: Value, why: &str) {
    assert_eq!(Schema::compile(&schema).unwrap_err(), why, "{schema}");
}

#[test]
fn a_misfit_says_where_and_why() {
    let schema = json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "minLength": 1 },
            "to": { "type": "array", "items": { "enum": ["de", "es"] } },
            "a/b": { "type": "integer" },
        },
        "required": ["text"],
        "additionalProperties": false,
    });
    fits(schema.clone(), &[json!({ "text": "x" }), json!({ "text": "x", "to": ["de", "es"], "a/b": 3.0 })]);
    fails(schema.clone(), json!("x"), "must be object, is string");
    fails(schema.clone(), json!({}), "\"text\" is required");
    fails(schema.clone(), json!({ "text": 5 }), "at /text: must be string, is integer");
    fails(schema.clone(), json!({ "text": "" }), "at /text: must have at least 1 characters, has 0");
    fails(schema.clone(), json!({ "text": "x", "to": ["de", "fr"] }), "at /to/1: must be one of \"de\", \"es\"");
    fails(schema.clone(), json!({ "text": "x", "a/b": 1.5 }), "at /a~1b: must be integer, is number");
    fails(schema, json!({ "text": "x", "more": 1 }), "\"more\" is not a known property");
}

#[test]
fn numbers_and_strings_are_measured() {
    let schema = json!({ "minimum": 1, "exclusiveMaximum": 10, "multipleOf": 0.1, "maxLength": 3, "pattern": "^[a-zä]+$" });
    fits(schema.clone(), &[json!(1), json!(0.3 + 1.0), json!("äbc"), json!(null)]);
    fails(schema.clone(), json!(0.5), "must be at least 1, is 0.5");
    fails(schema.clone(), json!(10), "must be below 10, is 10");
    fails(schema.clone(), json!(1.25), "must be a multiple of 0.1, is 1.25");
    fails(schema.clone(), json!("äbcd"), "must have at most 3 characters, has 4");
    fails(schema, json!("A"), "must match the pattern ^[a-zä]+$");
}

#[test]
fn alternatives_tell_what_is_wrong_with_the_one_that_was_meant() {
    let optional = json!({ "anyOf": [{ "type": "null" }, { "type": "object", "required": ["id"] }] });
    fits(optional.clone(), &[json!(null), json!({ "id": 1 })]);
    fails(optional.clone(), json!({}), "\"id\" is required");
    fails(optional, json!(5), "fits none of the 2 allowed ways");
    let one = json!({ "oneOf": [{ "multipleOf": 2 }, { "multipleOf": 3 }] });
    fits(one.clone(), &[json!(2), json!(3)]);
    fails(one, json!(6), "fits 2 of the 2 allowed ways, and must fit one");
    fails(json!({ "not": { "const": 1 } }), json!(1.0), "is what it must not be");
    let by_kind = json!({ "if": { "properties": { "kind": { "const": "a" } } }, "then": { "required": ["a"] }, "else": { "required": ["b"] } });
    fails(by_kind.clone(), json!({ "kind": "a" }), "\"a\" is required");
    fails(by_kind, json!({ "kind": "c" }), "\"b\" is required");
}

#[test]
fn equal_values_are_equal_however_they_are_written() {
    fits(json!({ "const": { "a": 1, "b": [2.0] } }), &[json!({ "b": [2], "a": 1.0 })]);
    fails(json!({ "uniqueItems": true }), json!([1, "1", 1.0]), "must not hold the same item twice");
    fits(json!({ "uniqueItems": true }), &[json!([1, "1", true, [1], {}])]);
}

#[test]
fn properties_that_no_rule_looked_at_can_be_refused() {
    let schema = json!({
        "allOf": [{ "properties": { "a": true } }],
        "anyOf": [{ "required": ["b"], "properties": { "b": true } }, {}],
        "unevaluatedProperties": false,
    });
    fits(schema.clone(), &[json!({ "a": 1, "b": 2 })]);
    fails(schema, json!({ "a": 1, "c": 2 }), "at /c: nothing is allowed here");
}

#[test]
fn references_lead_anywhere_within_the_schema_also_back() {
    let tree = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/a%20tree",
        "$defs": { "a tree": { "type": "object", "properties": { "children": { "items": { "$ref": "#/$defs/a tree" } } } } },
    });
    fits(tree.clone(), &[json!({ "children": [{}, { "children": [] }] })]);
    fails(tree, json!({ "children": [{ "children": [5] }] }), "at /children/0/children/0: must be object, is integer");
}

#[test]
fn what_is_no_schema_or_not_supported_is_refused() {
    refused(json!(5), "a schema is an object or a boolean, not 5");
    refused(json!({ "type": "text" }), "\"text\" is not a type");
    refused(json!({ "properties": { "a": { "minLength": -1 } } }), "`minLength` must be a count");
    refused(
        json!({ "pattern": "(?=a)" }),
        "the pattern \"(?=a)\": look-around, including look-ahead and look-behind, is not supported",
    );
    refused(
        json!({ "$ref": "http://example.com/a" }),
        "`$ref` to \"http://example.com/a\" is not supported, only to `#` or `#/…` within the schema",
    );
    refused(
        json!({ "$ref": "file:///etc/passwd" }),
        "`$ref` to \"file:///etc/passwd\" is not supported, only to `#` or `#/…` within the schema",
    );
    refused(json!({ "$ref": "#/$defs/a" }), "`$ref` to \"#/$defs/a\": there is no such place");
    refused(json!({ "$dynamicRef": "#a" }), "`$dynamicRef` is not supported; use `$ref`");
    refused(json!({ "items": { "$id": "x" } }), "an `$id` inside a schema is not supported; refer to `#/$defs/…`");
    refused(json!({ "description": "x".repeat(70_000) }), "it is 70018 bytes, the limit is 65536");
    let patterns: Value = (0..101).map(|number| (format!("p{number}"), json!(true))).collect::<Map<_, _>>().into();
    refused(json!({ "patternProperties": patterns }), "it has more than 100 patterns");
    refused(
        json!({ "pattern": "((a{1000}){1000}){1000}" }),
        "the pattern \"((a{1000}){1000}){1000}\": compiled, it is larger than 262144 bytes: repeat less in it",
    );
}

/// A schema of so many subschemas, each of which asks twice for the next one.
fn doubling(count: usize) -> Value {
    let twice = |number: usize| {
        let next = json!({ "$ref": format!("#/$defs/n{}", number + 1) });
        (format!("n{number}"), json!({ "allOf": [next, next] }))
    };
    let mut defs: Map<String, Value> = (0..count).map(twice).collect();
    defs.insert(format!("n{count}"), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/n0", "$defs": defs })
}

/// Zeros and ones without a pattern in them.
fn bits(count: usize) -> String {
    let mut random = Random::new(1);
    (0..count).map(|_| if random.below(2) == 0 { '0' } else { '1' }).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("n{number}")).collect()
}

fn object(count: usize) -> Value {
    names(count).into_iter().map(|name| (name, json!(0))).collect::<Map<_, _>>().into()
}

/// Schemas and payloads that would take seconds to years if each step were not counted.
fn endless() -> Vec<(&'static str, Value, Value)> {
    let deep = (0..60).fold(json!({}), |inner, _| json!({ "a": inner }));
    let nested = |word: &str| (0..300).fold(json!({ "type": "string" }), |inner, _| json!({ word: [inner, true] }));
    let long_name = "x".repeat(30_000);
    let many = |value: Value, count: usize| Value::from(vec![value; count]);
    let seven_kilobytes: Vec<Value> = (1..350).map(|number| json!({ "minLength": number })).collect();
    vec![
        ("a pattern of many states", json!({ "pattern": "1[01]{1500}x" }), json!(bits(2_000_000))),
        ("a pattern with a boundary", json!({ "pattern": "\\b1[01]{1500}x" }), json!(format!("ä{}", bits(2_000_000)))),
        (
            "patterns for properties",
            json!({ "patternProperties": { "1[01]{700}x": true, "1[01]{701}x": true } }),
            json!({ bits(1_000_000): 1 }),
        ),
        ("references that double", doubling(60), json!({})),
        (
            "references back with alternatives",
            json!({ "properties": { "a": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] } }, "not": {} }),
            deep,
        ),
        (
            "alternatives that nest",
            json!({ "items": { "allOf": [nested("allOf"), nested("anyOf")] } }),
            many(json!("x"), 100_000),
        ),
        ("alternatives side by side", json!({ "items": { "not": { "anyOf": seven_kilobytes } } }), many(json!(""), 100_000)),
        (
            "one of many",
            json!({ "items": { "not": { "oneOf": vec![json!({ "type": "string" }); 2000] } } }),
            many(json!(1), 100_000),
        ),
        ("required names", json!({ "items": { "required": names(5000) } }), many(object(5000), 40)),
        (
            "names that depend",
            json!({ "items": { "allOf": vec![json!({ "dependentRequired": { "n0": names(4000) } }); 2] } }),
            many(object(4000), 60),
        ),
        (
            "a long list of properties",
            json!({ "items": { "allOf": vec![json!({ "properties": { "a": true }, "additionalProperties": true }); 900] } }),
            many(object(10), 10_000),
        ),
        ("long names that are missing", json!({ "items": { "not": { "required": [long_name] } } }), many(json!({}), 300_000)),
        (
            "items that must differ",
            json!({ "allOf": vec![json!({ "uniqueItems": true }); 2500] }),
            (0..20_000).collect::<Vec<_>>().into(),
        ),
        ("a long value", json!({ "items": { "not": { "enum": names(6000) } } }), many(json!("n59999"), 400_000)),
        (
            "what contains",
            json!({ "allOf": vec![json!({ "contains": { "const": 1 }, "minContains": 0 }); 1200] }),
            many(json!(0), 10_000),
        ),
        (
            "others that no rule saw",
            (0..40).fold(json!({}), |inner, _| json!({ "allOf": [inner], "unevaluatedProperties": { "type": "integer" } })),
            object(20_000),
        ),
        ("names of properties", json!({ "allOf": vec![json!({ "propertyNames": { "maxLength": 9 } }); 1500] }), object(20_000)),
        ("too many values", json!(true), many(json!(0), 2_000_000)),
        ("too many objects", json!(true), many(json!({ "a": 1 }), 300_000)),
    ]
}

#[test]
fn nobody_can_make_a_check_last() {
    for (about, schema, payload) in endless() {
        let schema = Schema::compile(&schema).unwrap_or_else(|why| panic!("{about}: {why}"));
        let payload = payload.to_string();
        let (mut budget, begun) = (Budget::new(CHECK_STEPS_MAX), Instant::now());
        let found = schema.check(payload.as_bytes(), &mut budget);
        println!("{about}: {} steps, {:?}", budget.steps(), begun.elapsed());
        assert_eq!(found, Err(Unfit::Unknown(Spent::Steps)), "{about}");
        assert!(
            budget.steps() < CHECK_STEPS_MAX + CHECK_STEPS_MAX / 10 || about.contains("boundary"),
            "{about}: {}",
            budget.steps()
        );
    }
}

#[test]
fn references_that_lead_nowhere_end() {
    let ring: Map<String, Value> =
        (0..2000).map(|number| (format!("n{number}"), json!({ "$ref": format!("#/$defs/n{}", (number + 1) % 2000) }))).collect();
    fails(json!({ "$ref": "#" }), json!({}), "it nests more than 500 schemas deep");
    fails(json!({ "$ref": "#/$defs/n0", "$defs": ring }), json!({}), "it nests more than 500 schemas deep");
}

/// What was too long for a budget counted by subschemas, and is short when names are looked up on the side where there are fewer.
#[test]
fn long_lists_and_long_texts_are_checked_in_time_that_is_in_proportion() {
    let many = |value: Value, count: usize| Value::from(vec![value; count]);
    fails(json!({ "items": { "required": names(8000) } }), many(json!({ "n0": 1 }), 60_000), "at /0: \"n1\" is required");
    fits(json!({ "items": { "not": { "required": names(8000) } } }), &[many(json!({ "n0": 1 }), 60_000)]);
    let dependent: Map<String, Value> = names(3000).into_iter().map(|name| (name, json!(["x"]))).collect();
    fits(json!({ "items": { "dependentRequired": dependent } }), &[many(json!({ "a": 1 }), 60_000)]);
    fits(json!({ "allOf": vec![json!({ "properties": { "n7": { "type": "integer" } } }); 1000] }), &[object(50_000)]);
    fits(json!({ "allOf": vec![json!({ "prefixItems": [{ "type": "integer" }] }); 1000] }), &[many(json!(1), 300_000)]);
    fits(json!({ "items": { "not": { "const": 7 } } }), &[json!([vec![0; 200_000], "x".repeat(1 << 20)])]);
    let base64 = json!({ "pattern": "^[A-Za-z0-9+/]*={0,2}$", "type": "string" });
    fits(base64, &[json!("QUJD".repeat(2 << 20))]);
    fails(json!({ "pattern": "^(a+)+b$" }), json!("a".repeat(1 << 20)), "must match the pattern ^(a+)+b$");
}

/// A budget decides only whether there is an answer, never which; and it is kept to within what one step of the work takes.
#[test]
fn a_smaller_budget_gives_the_same_answer_or_none() {
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    for _ in 0..300 {
        let (schema, payload) = (schema_random::schema(&mut random), schema_random::payload(&mut random, 3).to_string());
        let compiled = Schema::compile(&schema).unwrap();
        let mut all = Budget::new(CHECK_STEPS_MAX);
        // Once before, so that what patterns keep is kept.
        let _ = compiled.check(payload.as_bytes(), &mut Budget::new(CHECK_STEPS_MAX));
        let answer = compiled.check(payload.as_bytes(), &mut all);
        let exact = compiled.check(payload.as_bytes(), &mut Budget::new(all.steps()));
        assert_eq!(exact, answer, "seed {seed}: {payload} against {schema}");
        for max in [all.steps() - 1, random.below(all.steps() as usize) as u64] {
            let mut less = Budget::new(max);
            let found = compiled.check(payload.as_bytes(), &mut less);
            assert_eq!(found, Err(Unfit::Unknown(Spent::Steps)), "seed {seed}: {max} steps for {payload} against {schema}");
            // The most that is paid for at once: reading four kilobytes of payload, and else a pattern's new state.
            let at_once = 500 + 10 * payload.len() as u64;
            assert!(less.steps() <= max + at_once, "seed {seed}: {} of {max} steps for {payload} against {schema}", less.steps());
        }
    }
}

/// Whatever can be made longer makes a check dearer in proportion: what is not counted would stay the same here.
#[test]
fn all_that_grows_is_counted() {
    type Family = (&'static str, fn(usize) -> Value, fn(usize) -> Value);
    let families: &[Family] = &[
        ("text", |_| json!({ "maxLength": 9_000_000 }), |n| json!("x".repeat(n * 100))),
        ("pattern", |_| json!({ "pattern": "^x*$" }), |n| json!("x".repeat(n * 100))),
        ("states", |n| json!({ "pattern": format!("1[01]{{{n}}}x") }), |_| json!(bits(2000))),
        ("bits", |_| json!({ "pattern": "1[01]{500}x" }), |n| json!(bits(n))),
        ("bytes at boundaries", |_| json!({ "pattern": "\\bx" }), |n| json!("ä".repeat(n))),
        ("required", |n| json!({ "required": names(n) }), object),
        (
            "properties",
            |n| json!({ "properties": object(n).as_object().unwrap().keys().map(|name| (name.clone(), json!(true))).collect::<Map<_, _>>() }),
            object,
        ),
        ("additional", |_| json!({ "additionalProperties": { "type": "integer" } }), object),
        ("dependent", |n| json!({ "dependentRequired": { "n0": names(n) } }), object),
        ("const", |n| json!({ "const": vec![0; n] }), |n| json!(vec![0; n])),
        ("long const", |n| json!({ "const": "x".repeat(n * 20) }), |n| json!("x".repeat(n * 20))),
        ("unique", |_| json!({ "uniqueItems": true }), |n| json!((0..n).collect::<Vec<_>>())),
        ("items", |_| json!({ "items": {} }), |n| json!(vec![0; n])),
        ("prefix", |n| json!({ "prefixItems": vec![true; n] }), |n| json!(vec![0; n])),
        ("contains", |_| json!({ "contains": {} }), |n| json!(vec![0; n])),
        ("all", |n| json!({ "allOf": vec![json!({ "minimum": 0 }); n] }), |_| json!(0)),
        ("any", |n| json!({ "not": { "anyOf": vec![json!({ "minimum": 1 }); n] } }), |_| json!(0)),
        ("one", |n| json!({ "not": { "oneOf": vec![json!({ "minimum": 1 }); n] } }), |_| json!(0)),
        ("names", |_| json!({ "propertyNames": { "maxLength": 99 } }), object),
        ("others", |_| json!({ "unevaluatedProperties": { "type": "integer" } }), object),
        ("other items", |_| json!({ "unevaluatedItems": { "type": "integer" } }), |n| json!(vec![0; n])),
    ];
    for (about, schema, payload) in families {
        let steps = |n: usize| {
            let schema = Schema::compile(&schema(n)).unwrap_or_else(|why| panic!("{about}: {why}"));
            let payload = payload(n).to_string();
            let mut read = Budget::new(u64::MAX);
            Schema::compile(&json!(true)).unwrap().check(payload.as_bytes(), &mut read).unwrap();
            let mut all = Budget::new(u64::MAX);
            assert_eq!(
                schema
                    .check(payload.as_bytes(), &mut all)
                    .err()
                    .filter(|_| !["states", "bits", "bytes at boundaries"].contains(about)),
                None,
                "{about}"
            );
            all.steps() - read.steps()
        };
        let (few, many) = (steps(500), steps(1500));
        assert!(many * 10 > few * 25, "{about}: {few} steps, and {many} for three times as much");
    }
}

#[test]
fn patterns_that_take_long_to_compile_are_refused_when_a_peer_registers() {
    let slow = [
        "(?i)".to_owned() + &"[\\x{0}-\\x{10ffff}]".repeat(2500),
        "(?i:".to_owned() + &"[^\\w]".repeat(5000) + ")",
        "\\w".repeat(20_000),
        "[[a-z]&&[^b]]".repeat(4000),
    ];
    for pattern in slow {
        let why = Schema::compile(&json!({ "pattern": pattern })).unwrap_err();
        assert!(why.contains("would take more than 2000000 steps: use fewer, smaller ones"), "{why}");
    }
    // Each is small; together they are not. The same one again costs nothing.
    let mut compiling = Compiling::default();
    let many: Vec<_> = (0..1000).map(|number| json!({ "pattern": format!("^\\w{{3}}{number}$") })).collect();
    assert!(many.iter().try_for_each(|schema| Schema::compile_with(schema, &mut compiling).map(drop)).is_err());
    let mut compiling = Compiling::default();
    for _ in 0..1000 {
        Schema::compile_with(&many[0], &mut compiling).unwrap();
    }
}

#[test]
fn patterns_mean_what_they_meant_where_the_automaton_cannot_tell() {
    fits(json!({ "pattern": "\\bbär\\b" }), &[json!("der bär."), json!("bär")]);
    fails(json!({ "pattern": "\\bbär\\b" }), json!("bären"), "must match the pattern \\bbär\\b");
    fails(json!({ "pattern": "\\bä" }), json!("öä"), "must match the pattern \\bä");
    fits(json!({ "pattern": "^$" }), &[json!("")]);
    fits(json!({ "pattern": "(?i)^STRASSE|ΣΑΣ$" }), &[json!("strasse"), json!("σας")]);
}
