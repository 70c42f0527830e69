//! Whether a value fits the rules of a schema, and if not, where and why. Costs at most so many steps and levels.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use crate::peers::schema::{Count, LEVELS_MAX, Node, NumberRule, Rule, STEPS_MAX, canonical};

/// Names of kinds, in the order of their bits. A whole number is an integer and a number.
const KINDS: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const INTEGER: u8 = 1 << 2;

/// The bit of a kind in [`Rule::Type`].
pub fn kind_bit(name: &str) -> Option<u8> {
    KINDS.iter().position(|kind| *kind == name).map(|at| 1 << at)
}

/// Checks a value against the first node; the error says where and why.
pub fn check(nodes: &[Vec<Rule>], value: &Value) -> Result<(), String> {
    let mut checker = Checker { nodes, steps: 0, levels: 0 };
    checker.fits(0, value).map_err(|misfit| {
        if misfit.path.is_empty() {
            return misfit.text;
        }
        let path: String =
            misfit.path.iter().rev().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
        format!("at {path}: {}", misfit.text)
    })
}

/// Why a value does not fit.
struct Misfit {
    /// From the inside out.
    path: Vec<String>,
    text: String,
    /// Whether this is not about the value but about the bounds of checking, so that no other way of fitting is looked for.
    is_final: bool,
}

type Fit = Result<(), Misfit>;

struct Checker<'s> {
    nodes: &'s [Vec<Rule>],
    steps: usize,
    levels: usize,
}

impl<'s> Checker<'s> {
    fn fits(&mut self, node: Node, value: &Value) -> Fit {
        self.spend(1)?;
        if self.levels == LEVELS_MAX {
            return Err(bound(format!("it nests more than {LEVELS_MAX} schemas deep")));
        }
        self.levels += 1;
        let nodes = self.nodes;
        let fit = nodes[node].iter().try_for_each(|rule| self.obeys(node, rule, value));
        self.levels -= 1;
        fit
    }

    fn spend(&mut self, steps: usize) -> Fit {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(bound(format!("checking it would take more than {STEPS_MAX} steps"))) } else { Ok(()) }
    }

    /// The same as a claim. Being out of bounds is still an error.
    fn is_fit(&mut self, node: Node, value: &Value) -> Result<bool, Misfit> {
        match self.fits(node, value) {
            Ok(()) => Ok(true),
            Err(misfit) if misfit.is_final => Err(misfit),
            Err(_) => Ok(false),
        }
    }

    fn obeys(&mut self, node: Node, rule: &'s Rule, value: &Value) -> Fit {
        match (rule, value) {
            (Rule::Never, _) => fail("nothing is allowed here"),
            (Rule::Type(bits), _) => is_kind(*bits, value),
            (Rule::Among(texts, shown), _) => {
                self.spend(size(value))?;
                require(texts.contains(&canonical::text(value)), || format!("must be {shown}"))
            }
            (Rule::Number(rule, bound), Value::Number(number)) => is_number(*rule, *bound, number),
            (Rule::Length { min, max }, Value::String(text)) => {
                self.spend(text_steps(text))?;
                let length = text.chars().count();
                require(length >= *min, || format!("must have at least {min} characters, has {length}"))?;
                require(length <= *max, || format!("must have at most {max} characters, has {length}"))
            }
            (Rule::Pattern(pattern), Value::String(text)) => {
                self.spend(text_steps(text))?;
                require(pattern.is_match(text), || format!("must match the pattern {}", pattern.as_str()))
            }
            (Rule::Items { count, prefix, rest }, Value::Array(items)) => self.items(*count, prefix, *rest, items),
            (Rule::Unique, Value::Array(items)) => self.are_unique(items),
            (Rule::Contains { node, count }, Value::Array(items)) => self.contains(*node, *count, items),
            (
                Rule::Properties { .. } | Rule::PropertyCount(_) | Rule::PropertyNames(_) | Rule::Required(_),
                Value::Object(object),
            ) => self.properties(rule, object),
            (Rule::Dependent(name, others, dependent), Value::Object(object)) if object.contains_key(name) => {
                let missing = others.iter().find(|other| !object.contains_key(*other));
                require(missing.is_none(), || format!("{:?} is required where {name:?} is", missing.map_or("", |other| other)))?;
                dependent.map_or(Ok(()), |dependent| self.fits(dependent, value))
            }
            (Rule::All(_) | Rule::Any(_) | Rule::One(_) | Rule::Not(_) | Rule::If { .. }, _) => self.combined(rule, value),
            (Rule::OtherProperties(others), Value::Object(object)) => self.other_properties(node, *others, value, object),
            (Rule::OtherItems(others), Value::Array(items)) => self.other_items(node, *others, value, items),
            _ => Ok(()),
        }
    }

    fn items(&mut self, count: Count, prefix: &[Node], rest: Option<Node>, items: &[Value]) -> Fit {
        is_count(count, items.len(), "items")?;
        for (at, item) in items.iter().enumerate() {
            if let Some(node) = prefix.get(at).copied().or(rest) {
                self.fits(node, item).map_err(|misfit| misfit.within(&at.to_string()))?;
            }
        }
        Ok(())
    }

    fn are_unique(&mut self, items: &[Value]) -> Fit {
        let mut seen = HashSet::new();
        for item in items {
            self.spend(size(item))?;
            require(seen.insert(canonical::text(item)), || "must not hold the same item twice".into())?;
        }
        Ok(())
    }

    fn contains(&mut self, node: Node, count: Count, items: &[Value]) -> Fit {
        let mut found = 0;
        for item in items {
            found += usize::from(self.is_fit(node, item)?);
        }
        is_count(count, found, "items of a kind")
    }

    fn properties(&mut self, rule: &'s Rule, object: &Map<String, Value>) -> Fit {
        match rule {
            Rule::Required(names) => {
                let missing = names.iter().find(|name| !object.contains_key(*name));
                require(missing.is_none(), || format!("{:?} is required", missing.map_or("", |name| name)))
            }
            Rule::PropertyCount(count) => is_count(*count, object.len(), "properties"),
            Rule::PropertyNames(node) => object.keys().try_for_each(|name| {
                let text = Value::from(name.as_str());
                self.fits(*node, &text).map_err(|misfit| misfit.within(name))
            }),
            Rule::Properties { named, patterns, rest } => {
                object.iter().try_for_each(|(name, value)| self.property(named, patterns, *rest, name, value))
            }
            _ => Ok(()),
        }
    }

    fn property(
        &mut self,
        named: &[(String, Node)],
        patterns: &[(regex::Regex, Node)],
        rest: Option<Node>,
        name: &str,
        value: &Value,
    ) -> Fit {
        let mut is_known = false;
        if let Ok(at) = named.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            is_known = true;
            self.fits(named[at].1, value).map_err(|misfit| misfit.within(name))?;
        }
        self.spend(patterns.len().saturating_mul(text_steps(name)))?;
        for (_, node) in patterns.iter().filter(|(pattern, _)| pattern.is_match(name)) {
            is_known = true;
            self.fits(*node, value).map_err(|misfit| misfit.within(name))?;
        }
        match rest.filter(|_| !is_known) {
            Some(rest) if matches!(self.nodes[rest][..], [Rule::Never]) => fail(&format!("{name:?} is not a known property")),
            Some(rest) => self.fits(rest, value).map_err(|misfit| misfit.within(name)),
            None => Ok(()),
        }
    }

    fn combined(&mut self, rule: &'s Rule, value: &Value) -> Fit {
        match rule {
            Rule::All(nodes) => nodes.iter().try_for_each(|node| self.fits(*node, value)),
            Rule::Any(nodes) => self.ways(nodes, value, 1).map(|_| ()),
            Rule::One(nodes) => match self.ways(nodes, value, usize::MAX)? {
                1 => Ok(()),
                count => fail(&format!("fits {count} of the {} allowed ways, and must fit one", nodes.len())),
            },
            Rule::Not(node) => require(!self.is_fit(*node, value)?, || "is what it must not be".into()),
            Rule::If { condition, then, otherwise } => {
                let next = if self.is_fit(*condition, value)? { then } else { otherwise };
                next.map_or(Ok(()), |next| self.fits(next, value))
            }
            _ => Ok(()),
        }
    }

    /// In how many of these ways the value fits, not counting beyond `enough`. If in none, the error is why not in the only one that is
    /// for its kind of value, where there is but one: people want to know what is wrong with their object, not that it is no string.
    fn ways(&mut self, nodes: &[Node], value: &Value, enough: usize) -> Result<usize, Misfit> {
        let (mut count, mut of_kind) = (0, Vec::new());
        for node in nodes {
            match self.fits(*node, value) {
                Ok(()) => count += 1,
                Err(misfit) if misfit.is_final => return Err(misfit),
                Err(misfit) if self.is_for_kind_of(*node, value) => of_kind.push(misfit),
                Err(_) => {}
            }
            if count == enough {
                return Ok(count);
            }
        }
        match (count, of_kind.len()) {
            (0, 1) => Err(of_kind.swap_remove(0)),
            (0, _) => fail(&format!("fits none of the {} allowed ways", nodes.len())).map(|()| 0),
            (count, _) => Ok(count),
        }
    }

    fn is_for_kind_of(&self, node: Node, value: &Value) -> bool {
        !self.nodes[node].iter().any(|rule| matches!(rule, Rule::Type(bits) if is_kind(*bits, value).is_err()))
    }

    fn other_properties(&mut self, node: Node, others: Node, value: &Value, object: &Map<String, Value>) -> Fit {
        let mut seen = Seen::default();
        self.see(node, value, &mut seen, true)?;
        if seen.all_properties {
            return Ok(());
        }
        for (name, value) in object.iter().filter(|(name, _)| !seen.properties.contains(*name)) {
            self.fits(others, value).map_err(|misfit| misfit.within(name))?;
        }
        Ok(())
    }

    fn other_items(&mut self, node: Node, others: Node, value: &Value, items: &[Value]) -> Fit {
        let mut seen = Seen::default();
        self.see(node, value, &mut seen, true)?;
        for (at, item) in items.iter().enumerate().skip(seen.first_items).filter(|(at, _)| !seen.items.contains(at)) {
            self.fits(others, item).map_err(|misfit| misfit.within(&at.to_string()))?;
        }
        Ok(())
    }

    /// Notes what a node, which the value fits, has looked at. `is_asking`: this is the node that asks, whose own rules for others do not count.
    fn see(&mut self, node: Node, value: &Value, seen: &mut Seen, is_asking: bool) -> Fit {
        self.spend(1)?;
        if self.levels == LEVELS_MAX {
            return Err(bound(format!("it nests more than {LEVELS_MAX} schemas deep")));
        }
        self.levels += 1;
        let nodes = self.nodes;
        let fit = nodes[node].iter().try_for_each(|rule| self.see_by(rule, value, seen, is_asking));
        self.levels -= 1;
        fit
    }

    fn see_by(&mut self, rule: &'s Rule, value: &Value, seen: &mut Seen, is_asking: bool) -> Fit {
        match (rule, value) {
            (Rule::Properties { named, patterns, rest }, Value::Object(object)) => {
                let name_steps = object.keys().map(|name| text_steps(name)).sum::<usize>();
                self.spend(name_steps.saturating_mul(1 + patterns.len()))?;
                let is_named = |name: &String| named.binary_search_by(|(known, _)| known.cmp(name)).is_ok();
                let is_seen = |name: &&String| is_named(name) || patterns.iter().any(|(pattern, _)| pattern.is_match(name));
                seen.all_properties |= rest.is_some();
                seen.properties.extend(object.keys().filter(is_seen).cloned());
            }
            (Rule::Items { prefix, rest, .. }, Value::Array(items)) => {
                seen.first_items = seen.first_items.max(if rest.is_some() { items.len() } else { prefix.len() });
            }
            (Rule::Contains { node, .. }, Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    if self.is_fit(*node, item)? {
                        seen.items.insert(at);
                    }
                }
            }
            (Rule::OtherProperties(_), Value::Object(_)) if !is_asking => seen.all_properties = true,
            (Rule::OtherItems(_), Value::Array(items)) if !is_asking => seen.first_items = items.len(),
            (Rule::All(nodes) | Rule::Any(nodes) | Rule::One(nodes), _) => {
                for node in nodes {
                    self.see_if_fit(*node, value, seen)?;
                }
            }
            (Rule::Dependent(name, _, Some(node)), Value::Object(object)) if object.contains_key(name) => {
                self.see(*node, value, seen, false)?;
            }
            (Rule::If { condition, then, otherwise }, _) => {
                let is_true = self.is_fit(*condition, value)?;
                if is_true {
                    self.see(*condition, value, seen, false)?;
                }
                if let Some(next) = if is_true { then } else { otherwise } {
                    self.see(*next, value, seen, false)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn see_if_fit(&mut self, node: Node, value: &Value, seen: &mut Seen) -> Fit {
        if self.is_fit(node, value)? { self.see(node, value, seen, false) } else { Ok(()) }
    }
}

/// What rules have looked at.
#[derive(Default)]
struct Seen {
    all_properties: bool,
    properties: HashSet<String>,
    first_items: usize,
    items: HashSet<usize>,
}

impl Misfit {
    /// The same, as seen from the value that holds the one it is about.
    fn within(mut self, part: &str) -> Misfit {
        self.path.push(part.to_owned());
        self
    }
}

fn fail(text: &str) -> Fit {
    Err(Misfit { path: Vec::new(), text: text.to_owned(), is_final: false })
}

fn bound(text: String) -> Misfit {
    Misfit { path: Vec::new(), text, is_final: true }
}

fn require(is_so: bool, otherwise: impl FnOnce() -> String) -> Fit {
    if is_so { Ok(()) } else { fail(&otherwise()) }
}

fn is_count(Count { min, max }: Count, count: usize, what: &str) -> Fit {
    require(count >= min, || format!("must have at least {min} {what}, has {count}"))?;
    require(count <= max, || format!("must have at most {max} {what}, has {count}"))
}

fn is_kind(bits: u8, value: &Value) -> Fit {
    let is = match value {
        Value::Null => 1,
        Value::Bool(_) => 1 << 1,
        Value::Number(number) if is_whole(number) => INTEGER | 1 << 3,
        Value::Number(_) => 1 << 3,
        Value::String(_) => 1 << 4,
        Value::Array(_) => 1 << 5,
        Value::Object(_) => 1 << 6,
    };
    require(bits & is != 0, || {
        let wanted: Vec<&str> = KINDS.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0).map(|(_, kind)| *kind).collect();
        format!("must be {}, is {}", wanted.join(" or "), KINDS[is.trailing_zeros() as usize])
    })
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn is_number(rule: NumberRule, bound: f64, number: &Number) -> Fit {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let (is_so, word) = match rule {
        NumberRule::AtLeast => (value >= bound, "at least"),
        NumberRule::AtMost => (value <= bound, "at most"),
        NumberRule::Above => (value > bound, "above"),
        NumberRule::Below => (value < bound, "below"),
        NumberRule::MultipleOf => {
            // 0.3 is a multiple of 0.1 for people, though not for floating-point numbers.
            let times = value / bound;
            (times.is_finite() && (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0), "a multiple of")
        }
    };
    require(is_so, || format!("must be {word} {bound}, is {number}"))
}

/// Steps for what must be looked at as a whole.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(object) => 1 + object.values().map(size).sum::<usize>(),
        Value::String(text) => text_steps(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

fn text_steps(text: &str) -> usize {
    1 + text.len() / 64
}
