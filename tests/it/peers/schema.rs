//! JSON Schema on the server: what fits, what does not and how that is told, and that nobody can make a check last.

use std::time::{Duration, Instant};

use flux::peers::schema::Schema;
use serde_json::{Value, json};

/// The error of a payload against a schema; empty if it fits.
fn misfit(schema: &Value, payload: &Value) -> String {
    let schema = Schema::compile(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    schema.check(payload.to_string().as_bytes()).err().unwrap_or_default()
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
    let patterns: Value = (0..101).map(|number| (format!("p{number}"), json!(true))).collect::<serde_json::Map<_, _>>().into();
    refused(json!({ "patternProperties": patterns }), "it has more than 100 patterns");
    assert!(Schema::compile(&json!({ "pattern": "((a{1000}){1000}){1000}" })).unwrap_err().contains("exceeds size limit"));
}

/// Each would take years, all memory or all stack if it could.
#[test]
fn nobody_can_make_a_check_last() {
    let doubling =
        |number: usize| json!({ "allOf": [{ "$ref": format!("#/$defs/n{number}") }, { "$ref": format!("#/$defs/n{number}") }] });
    let mut defs: serde_json::Map<String, Value> = (0..60).map(|number| (format!("n{number}"), doubling(number + 1))).collect();
    defs.insert("n60".into(), json!({ "type": "object" }));
    let chain: serde_json::Map<String, Value> =
        (0..2000).map(|number| (format!("n{number}"), json!({ "$ref": format!("#/$defs/n{}", (number + 1) % 2000) }))).collect();
    let deep = (0..60).fold(json!({}), |inner, _| json!({ "a": inner }));
    let long = json!("a".repeat(1 << 20));
    let cases = [
        (json!({ "$ref": "#" }), json!({}), "it nests more than 500 schemas deep"),
        (json!({ "$ref": "#/$defs/n0", "$defs": chain }), json!({}), "it nests more than 500 schemas deep"),
        (json!({ "$ref": "#/$defs/n0", "$defs": defs }), json!({}), "checking it would take more than 1000000 steps"),
        (
            json!({ "properties": { "a": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] } }, "not": {} }),
            deep,
            "checking it would take more than 1000000 steps",
        ),
        (json!({ "pattern": "^(a+)+b$" }), long, "must match the pattern ^(a+)+b$"),
        (json!({}), json!(vec![0; 1_000_002]), "checking it would take more than 1000000 steps"),
    ];
    for (schema, payload, why) in cases {
        let begun = Instant::now();
        let told = misfit(&schema, &payload);
        assert!(told.ends_with(why), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{why} took {:?}", begun.elapsed());
    }
}
