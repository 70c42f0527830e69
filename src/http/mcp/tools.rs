//! Capabilities as MCP tools: every capability with a schema is one. Their names are made to fit what hosts accept.

use std::collections::HashMap;
use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// Bytes of a tool's name. The protocol allows 128, but common models only 64.
const NAME_BYTES_MAX: usize = 64;
/// The one argument of a tool whose payload is no object.
const WRAPPED: &str = "payload";

/// A capability, as `FLUX.CAPABILITIES` describes it.
#[derive(Deserialize)]
struct Capability {
    name: String,
    description: Option<String>,
    schema: Option<Value>,
}

/// A tool, and how to call what it stands for.
#[derive(Clone)]
pub(crate) struct Entry {
    /// As hosts see it.
    pub tool: Tool,
    /// The capability.
    pub capability: String,
    is_wrapped: bool,
}

impl Entry {
    /// A tool's arguments as the capability's payload.
    pub(crate) fn payload(&self, mut arguments: JsonObject) -> Value {
        if self.is_wrapped { arguments.remove(WRAPPED).unwrap_or_default() } else { Value::Object(arguments) }
    }
}

/// The tools of these capabilities (JSON texts), in the order of their names.
pub(crate) fn tools(capabilities: &[String]) -> Vec<Entry> {
    let described = capabilities.iter().filter_map(|text| serde_json::from_str::<Capability>(text).ok());
    let mut described: Vec<_> = described.filter_map(|found| Some((found.name, found.description, found.schema?))).collect();
    described.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (name, ..) in &described {
        *uses.entry(fitting(name)).or_default() += 1;
    }
    let entry = |(name, description, schema): (String, Option<String>, Value)| {
        let fit = fitting(&name);
        let is_taken = fit != name && uses[&fit] > 1;
        entry(if is_taken { told_apart(&fit, &name) } else { fit }, name, description, schema)
    };
    described.into_iter().map(entry).collect()
}

fn entry(tool_name: String, capability: String, description: Option<String>, schema: Value) -> Entry {
    let (schema, is_wrapped) = input(schema);
    let description = description.unwrap_or_else(|| format!("Calls `{capability}` of a flux peer."));
    let tool = Tool::new(tool_name, description, Arc::new(schema)).with_title(&capability);
    Entry { tool, capability, is_wrapped }
}

/// A schema as that of a tool's arguments, which are an object always; tells whether the payload is one of them.
fn input(schema: Value) -> (JsonObject, bool) {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        // `true` and `false` are schemas as well: of anything, and of nothing.
        _ => JsonObject::new(),
    };
    let is_object = match schema.get("type") {
        None => !["enum", "const", "items"].iter().any(|word| schema.contains_key(*word)),
        Some(Value::Array(types)) => types.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    };
    if is_object {
        schema.insert("type".into(), "object".into());
        return (schema, false);
    }
    let wrapped = json!({ "type": "object", "properties": { WRAPPED: schema }, "required": [WRAPPED] });
    let Value::Object(wrapped) = wrapped else { unreachable!("it is written as an object") };
    (wrapped, true)
}

/// A name in letters that hosts accept.
fn fitting(name: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    name.chars().map(|letter| if fits(letter) { letter } else { '_' }).take(NAME_BYTES_MAX).collect()
}

/// A name of its own for a capability whose fitting name another one has as well.
fn told_apart(fit: &str, name: &str) -> String {
    let hash = format!("{:x}", Sha1::digest(name));
    let mark = &hash[..8];
    format!("{}_{mark}", &fit[..fit.len().min(NAME_BYTES_MAX - 1 - mark.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(capabilities: &[&str]) -> Vec<String> {
        let texts: Vec<String> = capabilities.iter().map(|name| json!({ "name": name, "schema": {} }).to_string()).collect();
        tools(&texts).iter().map(|entry| entry.tool.name.to_string()).collect()
    }

    #[test]
    fn names_fit_and_are_told_apart() {
        assert_eq!(names(&["sum", "math.add", "grüße"]), ["gr__e", "math_add", "sum"]);
        let found = names(&["a.b", "a b", "a_b"]);
        assert_eq!(found[2], "a_b", "who has the name already keeps it");
        assert!(found[0].starts_with("a_b_") && found[1].starts_with("a_b_") && found[0] != found[1], "{found:?}");
        let long = ["x".repeat(100), "x".repeat(101)];
        let found = names(&[&long[0], &long[1]]);
        assert!(found.iter().all(|name| name.len() == NAME_BYTES_MAX) && found[0] != found[1], "{found:?}");
    }

    #[test]
    fn only_capabilities_with_a_schema_are_tools() {
        let texts =
            [r#"{"name":"silent"}"#.to_owned(), r#"{"name":"told","schema":{"type":"object"}}"#.to_owned(), "{".to_owned()];
        assert_eq!(tools(&texts).len(), 1);
    }

    #[test]
    fn payloads_that_are_no_object_are_one_argument() {
        let arguments = |value: Value| value.as_object().cloned().expect("it is an object");
        let entry = entry("echo".into(), "echo".into(), None, json!({ "type": "string" }));
        assert_eq!(
            Value::Object((*entry.tool.input_schema).clone()),
            json!({ "type": "object", "properties": { "payload": { "type": "string" } }, "required": ["payload"] })
        );
        assert_eq!(entry.payload(arguments(json!({ "payload": "hello" }))), json!("hello"));
        let entry = super::entry("sum".into(), "sum".into(), None, json!({ "properties": { "a": {} } }));
        assert_eq!(Value::Object((*entry.tool.input_schema).clone()), json!({ "type": "object", "properties": { "a": {} } }));
        assert_eq!(entry.payload(arguments(json!({ "a": 1 }))), json!({ "a": 1 }));
    }
}
