//! From a schema's JSON to its rules. Refuses what is not a schema, what is too large, and what is not supported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::peers::schema::budget::{Budget, COMPILE_STEPS_MAX, INLINE_STEPS_MAX};
use crate::peers::schema::canonical;
use crate::peers::schema::misfit::{SHOWN_MAX, kind_bit};
use crate::peers::schema::pattern::{Pattern, Refused};
use crate::peers::schema::tree::{Among, Count, Dependent, Node, NumberRule, PATTERNS_MAX, Rule, SCHEMA_BYTES_MAX};

/// Words that change what `$ref` means, or need more than this document.
const UNSUPPORTED: &[&str] = &["$dynamicRef", "$recursiveRef"];

type Object = Map<String, Value>;

/// What the schemas of one peer share while they are compiled.
pub struct Compiling {
    budget: Budget<'static>,
    /// Many schemas ask for the same.
    patterns: HashMap<String, Arc<Pattern>>,
    is_spent: bool,
}

impl Default for Compiling {
    fn default() -> Compiling {
        Compiling::new(COMPILE_STEPS_MAX)
    }
}

impl Compiling {
    fn new(steps: u64) -> Compiling {
        Compiling { budget: Budget::new(steps), patterns: HashMap::new(), is_spent: false }
    }

    /// On a thread that also serves clients. Where it takes too long, it is to be done anew elsewhere; see [`Self::is_spent`].
    pub(crate) fn at_once() -> Compiling {
        Compiling::new(INLINE_STEPS_MAX)
    }

    /// Whether a schema was refused since compiling it would take more steps than were left.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn pattern(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(Arc::clone(pattern));
        }
        let pattern = Pattern::compile(text, &mut self.budget).map(Arc::new).map_err(|refused| match refused {
            Refused::Bad(why) => format!("the pattern {}: {why}", shown(&Value::from(text))),
            Refused::Spent => {
                self.is_spent = true;
                format!(
                    "the pattern {}: compiling it and the patterns of the peer's other schemas would take more than \
                     {COMPILE_STEPS_MAX} steps: use fewer, smaller ones",
                    shown(&Value::from(text))
                )
            }
        })?;
        self.patterns.insert(text.to_owned(), Arc::clone(&pattern));
        Ok(pattern)
    }
}

/// The subschemas of a schema, the root first.
pub(crate) fn compile(schema: &Value, compiling: &mut Compiling) -> Result<Vec<Vec<Rule>>, String> {
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!("it is {bytes} bytes, the limit is {SCHEMA_BYTES_MAX}"));
    }
    let (nodes, known, waiting) = (Vec::new(), HashMap::new(), Vec::new());
    let mut compiler = Compiler { root: schema, nodes, known, waiting, patterns: 0, compiling };
    compiler.node(schema);
    // A list of what is to be done instead of recursion: references may lead anywhere, also back.
    while let Some((node, schema)) = compiler.waiting.pop() {
        compiler.nodes[node] = compiler.rules(schema)?;
    }
    Ok(compiler.nodes)
}

struct Compiler<'a, 'c> {
    root: &'a Value,
    nodes: Vec<Vec<Rule>>,
    /// Subschemas by where they are in memory, so that each becomes one node however often it is referred to.
    known: HashMap<*const Value, Node>,
    waiting: Vec<(Node, &'a Value)>,
    patterns: usize,
    compiling: &'c mut Compiling,
}

impl<'a> Compiler<'a, '_> {
    /// The node of a subschema, whose rules are made later.
    fn node(&mut self, schema: &'a Value) -> Node {
        let next = self.nodes.len();
        let node = *self.known.entry(std::ptr::from_ref(schema)).or_insert(next);
        if node == next {
            self.nodes.push(Vec::new());
            self.waiting.push((node, schema));
        }
        node
    }

    fn rules(&mut self, schema: &'a Value) -> Result<Vec<Rule>, String> {
        let schema = match schema {
            Value::Bool(true) => return Ok(Vec::new()),
            Value::Bool(false) => return Ok(vec![Rule::Never]),
            Value::Object(schema) => schema,
            other => return Err(format!("a schema is an object or a boolean, not {}", shown(other))),
        };
        if let Some(word) = UNSUPPORTED.iter().find(|word| schema.contains_key(**word)) {
            return Err(format!("`{word}` is not supported; use `$ref`"));
        }
        if schema.contains_key("$id") && !std::ptr::eq(schema, self.root.as_object().unwrap_or(schema)) {
            return Err("an `$id` inside a schema is not supported; refer to `#/$defs/…`".into());
        }
        let mut rules = Vec::new();
        self.values(schema, &mut rules)?;
        self.numbers_and_strings(schema, &mut rules)?;
        self.arrays(schema, &mut rules)?;
        self.objects(schema, &mut rules)?;
        self.combinations(schema, &mut rules)?;
        self.others(schema, &mut rules);
        Ok(rules)
    }

    fn values(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        if let Some(types) = schema.get("type") {
            let names = match types {
                Value::Array(names) => names.as_slice(),
                name => std::slice::from_ref(name),
            };
            let mut bits = 0;
            for name in names {
                bits |= name.as_str().and_then(kind_bit).ok_or_else(|| format!("{} is not a type", shown(name)))?;
            }
            rules.push(Rule::Type(bits));
        }
        if let Some(values) = schema.get("enum") {
            let values = values.as_array().ok_or("`enum` must be an array")?;
            rules.push(Rule::Among(among(values, shown_list(values))));
        }
        if let Some(value) = schema.get("const") {
            rules.push(Rule::Among(among(std::slice::from_ref(value), shown(value))));
        }
        Ok(())
    }

    fn numbers_and_strings(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        for (word, rule) in [
            ("minimum", NumberRule::AtLeast),
            ("maximum", NumberRule::AtMost),
            ("exclusiveMinimum", NumberRule::Above),
            ("exclusiveMaximum", NumberRule::Below),
            ("multipleOf", NumberRule::MultipleOf),
        ] {
            let Some(value) = schema.get(word) else { continue };
            let number = value.as_f64().ok_or_else(|| format!("`{word}` must be a number"))?;
            if rule == NumberRule::MultipleOf && number <= 0.0 {
                return Err("`multipleOf` must be above 0".into());
            }
            rules.push(Rule::Number(rule, number));
        }
        if let Some(Count { min, max }) = count(schema, "minLength", "maxLength")? {
            rules.push(Rule::Length { min, max });
        }
        if let Some(pattern) = schema.get("pattern") {
            let pattern = pattern.as_str().ok_or("`pattern` must be a string")?;
            rules.push(Rule::Pattern(self.pattern(pattern)?));
        }
        Ok(())
    }

    fn arrays(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        let items = schema.get("items");
        // Before 2020-12 a list in `items` was what `prefixItems` is.
        let (prefix, rest) = match (schema.get("prefixItems"), items) {
            (None, Some(list @ Value::Array(_))) => (Some(list), schema.get("additionalItems")),
            (prefix, rest) => (prefix, rest),
        };
        let prefix = prefix.map(|list| self.list("prefixItems", list)).transpose()?.unwrap_or_default();
        let rest = rest.map(|rest| self.node(rest));
        let length = count(schema, "minItems", "maxItems")?;
        if !prefix.is_empty() || rest.is_some() || length.is_some() {
            rules.push(Rule::Items { count: length.unwrap_or(Count { min: 0, max: usize::MAX }), prefix, rest });
        }
        if is_on(schema, "uniqueItems")? {
            rules.push(Rule::Unique);
        }
        if let Some(contained) = schema.get("contains") {
            let found = count(schema, "minContains", "maxContains")?;
            let min = if schema.contains_key("minContains") { found.map_or(1, |count| count.min) } else { 1 };
            let count = Count { min, max: found.map_or(usize::MAX, |count| count.max) };
            rules.push(Rule::Contains { node: self.node(contained), count });
        }
        Ok(())
    }

    fn objects(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        let mut patterns = Vec::new();
        for (pattern, property) in object(schema, "patternProperties")? {
            patterns.push((self.pattern(pattern)?, self.node(property)));
        }
        let named = object(schema, "properties")?;
        let mut named: Vec<(String, Node)> = named.map(|(name, property)| (name.clone(), self.node(property))).collect();
        named.sort_unstable();
        let rest = schema.get("additionalProperties").map(|rest| self.node(rest));
        if !named.is_empty() || !patterns.is_empty() || rest.is_some() {
            rules.push(Rule::Properties { named, patterns, rest });
        }
        if let Some(count) = count(schema, "minProperties", "maxProperties")? {
            rules.push(Rule::PropertyCount(count));
        }
        if let Some(names) = schema.get("propertyNames") {
            rules.push(Rule::PropertyNames(self.node(names)));
        }
        if let Some(required) = schema.get("required") {
            rules.push(Rule::Required(texts("required", required)?));
        }
        self.dependent(schema, rules)
    }

    /// `dependencies`, and what it was split into in 2019-09.
    fn dependent(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        for word in ["dependentRequired", "dependentSchemas", "dependencies"] {
            let mut dependents = Vec::new();
            for (name, dependent) in object(schema, word)? {
                let (others, node) = match dependent {
                    Value::Array(_) if word != "dependentSchemas" => (texts(word, dependent)?, None),
                    _ if word == "dependentRequired" => return Err("`dependentRequired` must hold arrays of names".into()),
                    _ => (Vec::new(), Some(self.node(dependent))),
                };
                dependents.push(Dependent { name: name.clone(), others, node });
            }
            if !dependents.is_empty() {
                dependents.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                rules.push(Rule::Dependent(dependents));
            }
        }
        Ok(())
    }

    fn combinations(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) -> Result<(), String> {
        if let Some(reference) = schema.get("$ref") {
            let target = self.resolve(reference)?;
            rules.push(Rule::All(vec![target]));
        }
        let combinations: [(_, fn(Vec<Node>) -> Rule); 3] = [("allOf", Rule::All), ("anyOf", Rule::Any), ("oneOf", Rule::One)];
        for (word, rule) in combinations {
            if let Some(list) = schema.get(word) {
                rules.push(rule(self.list(word, list)?));
            }
        }
        if let Some(not) = schema.get("not") {
            rules.push(Rule::Not(self.node(not)));
        }
        if let Some(condition) = schema.get("if") {
            let condition = self.node(condition);
            let then = schema.get("then").map(|then| self.node(then));
            let otherwise = schema.get("else").map(|otherwise| self.node(otherwise));
            rules.push(Rule::If { condition, then, otherwise });
        }
        Ok(())
    }

    fn others(&mut self, schema: &'a Object, rules: &mut Vec<Rule>) {
        if let Some(others) = schema.get("unevaluatedProperties") {
            rules.push(Rule::OtherProperties(self.node(others)));
        }
        if let Some(others) = schema.get("unevaluatedItems") {
            rules.push(Rule::OtherItems(self.node(others)));
        }
    }

    /// What a `$ref` refers to, within this document.
    fn resolve(&mut self, reference: &Value) -> Result<Node, String> {
        let text = reference.as_str().ok_or("`$ref` must be a string")?;
        let Some(pointer) = text.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/')) else {
            return Err(format!("`$ref` to {} is not supported, only to `#` or `#/…` within the schema", shown(reference)));
        };
        let pointer = percent_decoded(pointer);
        let target =
            self.root.pointer(&pointer).ok_or_else(|| format!("`$ref` to {}: there is no such place", shown(reference)))?;
        Ok(self.node(target))
    }

    fn list(&mut self, word: &str, list: &'a Value) -> Result<Vec<Node>, String> {
        let list = list.as_array().ok_or_else(|| format!("`{word}` must be an array of schemas"))?;
        Ok(list.iter().map(|schema| self.node(schema)).collect())
    }

    fn pattern(&mut self, pattern: &str) -> Result<Arc<Pattern>, String> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(format!("it has more than {PATTERNS_MAX} patterns"));
        }
        self.compiling.pattern(pattern)
    }
}

fn object<'a>(schema: &'a Object, word: &str) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, String> {
    let object =
        schema.get(word).map(|value| value.as_object().ok_or_else(|| format!("`{word}` must be an object"))).transpose()?;
    Ok(object.into_iter().flatten())
}

/// Names, each once: where there are more of them than an object has members, one of the first few is missing.
fn texts(word: &str, list: &Value) -> Result<Vec<String>, String> {
    let texts: Option<Vec<&str>> = list.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let texts = texts.ok_or_else(|| format!("`{word}` must be an array of names"))?;
    let mut known = HashSet::new();
    Ok(texts.into_iter().filter(|text| known.insert(*text)).map(str::to_owned).collect())
}

fn among(values: &[Value], shown: String) -> Among {
    // A schema's size is bounded.
    let mut budget = Budget::new(u64::MAX);
    let text = |value| canonical::text(value, usize::MAX, &mut budget).ok().flatten();
    let texts: HashSet<String> = values.iter().filter_map(text).collect();
    Among { longest: texts.iter().map(String::len).max().unwrap_or(0), texts, shown }
}

/// A range of counts, if the schema sets one end of it.
fn count(schema: &Object, min: &str, max: &str) -> Result<Option<Count>, String> {
    let read = |word: &str| {
        let Some(value) = schema.get(word) else { return Ok(None) };
        let whole = value.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0);
        whole.map(|count| Some(count as usize)).ok_or_else(|| format!("`{word}` must be a count"))
    };
    let (min, max) = (read(min)?, read(max)?);
    Ok((min.is_some() || max.is_some()).then(|| Count { min: min.unwrap_or(0), max: max.unwrap_or(usize::MAX) }))
}

fn is_on(schema: &Object, word: &str) -> Result<bool, String> {
    schema.get(word).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| format!("`{word}` must be true or false")))
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX { text } else { text.chars().take(SHOWN_MAX).chain(['…']).collect() }
}

fn shown_list(values: &[Value]) -> String {
    let list = values.iter().take(SHOWN_MAX).map(Value::to_string).collect::<Vec<_>>().join(", ");
    let list = if list.chars().count() <= SHOWN_MAX { list } else { list.chars().take(SHOWN_MAX).chain(['…']).collect() };
    format!("one of {list}")
}
