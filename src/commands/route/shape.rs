//! What bodies look like, as JSON Schema has it.

use serde_json::{Value, json};

/// What a body looks like.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Anything.
    Any,
    /// Text.
    Text,
    /// A schema that is written down, and used once.
    Of(&'static str),
    /// One that has a name.
    The(&'static Named),
    /// An array of it.
    List(&'static Named),
}

/// A schema with a name, by which others refer to it: `{"$ref": "#/components/schemas/Peer"}`.
pub struct Named {
    /// One word.
    pub name: &'static str,
    /// JSON Schema.
    pub schema: &'static str,
    /// Those it refers to.
    pub uses: &'static [&'static Named],
}

impl Shape {
    /// As JSON Schema.
    pub(crate) fn schema(self) -> Value {
        match self {
            Shape::Any => json!({}),
            Shape::Text => json!({ "type": "string" }),
            Shape::Of(schema) => parsed(schema),
            Shape::The(named) => named.reference(),
            Shape::List(named) => json!({ "type": "array", "items": named.reference() }),
        }
    }

    /// The schema with a name that it refers to.
    pub(crate) fn named(self) -> Option<&'static Named> {
        match self {
            Shape::The(named) | Shape::List(named) => Some(named),
            Shape::Any | Shape::Text | Shape::Of(_) => None,
        }
    }
}

impl Named {
    fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", self.name) })
    }

    /// This one and all it refers to.
    pub(crate) fn all(&'static self) -> Vec<(&'static str, Value)> {
        let mut all = vec![(self.name, parsed(self.schema))];
        all.extend(self.uses.iter().flat_map(|used| used.all()));
        all
    }
}

fn parsed(schema: &str) -> Value {
    serde_json::from_str(schema).expect("schemas of rows are JSON, as a test sees")
}
