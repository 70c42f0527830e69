//! Whether a value fits the rules of a schema, and if not, where and why.
//!
//! Whoever adds a rule: the steps it takes are spent before it is obeyed, and where a schema's names meet an object's
//! members, whichever are fewer are gone through and looked up in the others.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::peers::schema::budget::{Budget, lookup_steps, text_steps};
use crate::peers::schema::canonical;
use crate::peers::schema::misfit::{Misfit, Part, Why, kinds_of};
use crate::peers::schema::pattern::Pattern;
use crate::peers::schema::tree::{Among, Count, Dependent, LEVELS_MAX, Node, NumberRule, Rule, Unfit};

/// Steps to visit a value with a subschema, and for each of its rules.
const NODE_STEPS: usize = 6;
const RULE_STEPS: usize = 2;
/// Steps to go on to the next of several members or items.
const MEMBER_STEPS: usize = 2;
/// Steps to note that something was seen, in memory of its own.
const NOTE_STEPS: usize = 20;

/// Checks a value against the first node.
pub(crate) fn check(nodes: &[Vec<Rule>], value: &Value, budget: &mut Budget<'_>) -> Result<(), Unfit> {
    Checker { nodes, budget, levels: 0 }.fits(0, value).map_err(Misfit::told)
}

type Fit<'s, 'v, T = ()> = Result<T, Misfit<'s, 'v>>;

struct Checker<'s, 'b, 'w> {
    nodes: &'s [Vec<Rule>],
    budget: &'b mut Budget<'w>,
    levels: usize,
}

impl<'s> Checker<'s, '_, '_> {
    fn fits<'v>(&mut self, node: Node, value: &'v Value) -> Fit<'s, 'v> {
        let rules = self.enter(node)?;
        let fit = rules.iter().try_for_each(|rule| self.obeys(node, rule, value));
        self.levels -= 1;
        fit
    }

    /// The rules of a node, which is one level further down.
    fn enter<'v>(&mut self, node: Node) -> Fit<'s, 'v, &'s [Rule]> {
        let rules = &self.nodes[node];
        self.budget.spend(NODE_STEPS + RULE_STEPS * rules.len())?;
        if self.levels == LEVELS_MAX {
            return Err(Why::TooDeep.into());
        }
        self.levels += 1;
        Ok(rules)
    }

    /// The same as a claim. Being out of bounds is still an error.
    fn is_fit<'v>(&mut self, node: Node, value: &'v Value) -> Fit<'s, 'v, bool> {
        match self.fits(node, value) {
            Ok(()) => Ok(true),
            Err(misfit) if misfit.is_final() => Err(misfit),
            Err(_) => Ok(false),
        }
    }

    fn obeys<'v>(&mut self, node: Node, rule: &'s Rule, value: &'v Value) -> Fit<'s, 'v> {
        match (rule, value) {
            (Rule::Never, _) => Err(Why::Never.into()),
            (Rule::Type(wanted), _) => {
                let is = kinds_of(value);
                require(wanted & is != 0, || Why::Kind { wanted: *wanted, is })
            }
            (Rule::Among(among), _) => self.is_among(among, value),
            (Rule::Number(rule, bound), Value::Number(number)) => {
                require(is_number(*rule, *bound, number), || Why::Number(*rule, *bound, number.clone()))
            }
            (Rule::Length { min, max }, Value::String(text)) => {
                self.budget.spend(text_steps(text.len()))?;
                is_count(Count { min: *min, max: *max }, text.chars().count(), "characters")
            }
            (Rule::Pattern(pattern), Value::String(text)) => {
                require(pattern.is_match(text, self.budget)?, || Why::Pattern(pattern.text()))
            }
            (Rule::Items { count, prefix, rest }, Value::Array(items)) => self.items(*count, prefix, *rest, items),
            (Rule::Unique, Value::Array(items)) => self.are_unique(items),
            (Rule::Contains { node, count }, Value::Array(items)) => self.contains(*node, *count, items),
            (Rule::Properties { named, patterns, rest }, Value::Object(object)) => {
                self.properties(named, patterns, *rest, object)
            }
            (Rule::PropertyCount(count), Value::Object(object)) => is_count(*count, object.len(), "properties"),
            (Rule::PropertyNames(names), Value::Object(object)) => self.property_names(*names, object),
            (Rule::Required(names), Value::Object(object)) => {
                let missing = self.missing(names, object)?;
                missing.map_or(Ok(()), |name| Err(Why::Missing(name).into()))
            }
            (Rule::Dependent(dependents), Value::Object(object)) => self.dependents(dependents, value, object),
            (Rule::All(_) | Rule::Any(_) | Rule::One(_) | Rule::Not(_) | Rule::If { .. }, _) => self.combined(rule, value),
            (Rule::OtherProperties(others), Value::Object(object)) => self.other_properties(node, *others, value, object),
            (Rule::OtherItems(others), Value::Array(items)) => self.other_items(node, *others, value, items),
            _ => Ok(()),
        }
    }

    fn is_among<'v>(&mut self, among: &'s Among, value: &Value) -> Fit<'s, 'v> {
        let text = canonical::text(value, among.longest, self.budget)?;
        require(text.is_some_and(|text| among.texts.contains(&text)), || Why::NotAmong(&among.shown))
    }

    fn items<'v>(&mut self, count: Count, prefix: &[Node], rest: Option<Node>, items: &'v [Value]) -> Fit<'s, 'v> {
        is_count(count, items.len(), "items")?;
        let nodes = prefix.iter().copied().map(Some).chain(std::iter::repeat(rest)).map_while(|node| node);
        for ((at, item), node) in items.iter().enumerate().zip(nodes) {
            self.fits(node, item).map_err(|misfit| misfit.within(Part::At(at)))?;
        }
        Ok(())
    }

    fn are_unique<'v>(&mut self, items: &'v [Value]) -> Fit<'s, 'v> {
        let mut seen = HashSet::new();
        for item in items {
            self.budget.spend(NOTE_STEPS)?;
            let text = canonical::text(item, usize::MAX, self.budget)?;
            require(seen.insert(text), || Why::Twice)?;
        }
        Ok(())
    }

    fn contains<'v>(&mut self, node: Node, count: Count, items: &'v [Value]) -> Fit<'s, 'v> {
        let mut found = 0;
        for item in items {
            found += usize::from(self.is_fit(node, item)?);
        }
        is_count(count, found, "items of a kind")
    }

    fn property_names<'v>(&mut self, names: Node, object: &'v Map<String, Value>) -> Fit<'s, 'v> {
        for name in object.keys() {
            self.budget.spend(NOTE_STEPS + text_steps(name.len()))?;
            let text = Value::from(name.as_str());
            // A string holds nothing, so there is no path yet.
            self.fits(names, &text).map_err(|misfit| Misfit::from(misfit.why).within(Part::Name(name)))?;
        }
        Ok(())
    }

    /// The first of these names that an object lacks. Of more names than it has members one of the first is missing, so this looks
    /// up one more at most than there are members.
    fn missing<'v>(&mut self, names: &'s [String], object: &Map<String, Value>) -> Fit<'s, 'v, Option<&'s str>> {
        for name in names {
            self.budget.spend(lookup_steps(name, object.len()))?;
            if !object.contains_key(name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn properties<'v>(
        &mut self,
        named: &'s [(String, Node)],
        patterns: &'s [(Arc<Pattern>, Node)],
        rest: Option<Node>,
        object: &'v Map<String, Value>,
    ) -> Fit<'s, 'v> {
        if patterns.is_empty() && rest.is_none() && named.len() < object.len() {
            for (name, node) in named {
                self.budget.spend(lookup_steps(name, object.len()))?;
                if let Some((name, value)) = object.get_key_value(name) {
                    self.fits(*node, value).map_err(|misfit| misfit.within(Part::Name(name)))?;
                }
            }
            return Ok(());
        }
        object.iter().try_for_each(|(name, value)| self.property(named, patterns, rest, name, value))
    }

    fn property<'v>(
        &mut self,
        named: &'s [(String, Node)],
        patterns: &'s [(Arc<Pattern>, Node)],
        rest: Option<Node>,
        name: &'v str,
        value: &'v Value,
    ) -> Fit<'s, 'v> {
        self.budget.spend(lookup_steps(name, named.len()))?;
        let mut is_known = false;
        if let Ok(at) = named.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            is_known = true;
            self.fits(named[at].1, value).map_err(|misfit| misfit.within(Part::Name(name)))?;
        }
        for (pattern, node) in patterns {
            if pattern.is_match(name, self.budget)? {
                is_known = true;
                self.fits(*node, value).map_err(|misfit| misfit.within(Part::Name(name)))?;
            }
        }
        match rest.filter(|_| !is_known) {
            Some(rest) if matches!(self.nodes[rest][..], [Rule::Never]) => {
                Err(Misfit::from(Why::UnknownProperty).within(Part::Name(name)))
            }
            Some(rest) => self.fits(rest, value).map_err(|misfit| misfit.within(Part::Name(name))),
            None => Ok(()),
        }
    }

    fn dependents<'v>(&mut self, dependents: &'s [Dependent], value: &'v Value, object: &Map<String, Value>) -> Fit<'s, 'v> {
        if dependents.len() <= object.len() {
            for dependent in dependents {
                self.budget.spend(lookup_steps(&dependent.name, object.len()))?;
                if object.contains_key(&dependent.name) {
                    self.dependent(dependent, value, object)?;
                }
            }
            return Ok(());
        }
        for name in object.keys() {
            self.budget.spend(lookup_steps(name, dependents.len()))?;
            if let Ok(at) = dependents.binary_search_by(|dependent| dependent.name.cmp(name)) {
                self.dependent(&dependents[at], value, object)?;
            }
        }
        Ok(())
    }

    fn dependent<'v>(&mut self, dependent: &'s Dependent, value: &'v Value, object: &Map<String, Value>) -> Fit<'s, 'v> {
        if let Some(missing) = self.missing(&dependent.others, object)? {
            return Err(Why::MissingWith(missing, &dependent.name).into());
        }
        dependent.node.map_or(Ok(()), |node| self.fits(node, value))
    }

    fn combined<'v>(&mut self, rule: &'s Rule, value: &'v Value) -> Fit<'s, 'v> {
        match rule {
            Rule::All(nodes) => nodes.iter().try_for_each(|node| self.fits(*node, value)),
            Rule::Any(nodes) => self.ways(nodes, value, 1).map(|_| ()),
            Rule::One(nodes) => {
                let fits = self.ways(nodes, value, usize::MAX)?;
                require(fits == 1, || Why::ManyWays { fits, of: nodes.len() })
            }
            Rule::Not(node) => require(!self.is_fit(*node, value)?, || Why::IsNot),
            Rule::If { condition, then, otherwise } => {
                let next = if self.is_fit(*condition, value)? { then } else { otherwise };
                next.map_or(Ok(()), |next| self.fits(next, value))
            }
            _ => Ok(()),
        }
    }

    /// In how many of these ways the value fits, not counting beyond `enough`. If in none, the error is why not in the only one that is
    /// for its kind of value, where there is but one: people want to know what is wrong with their object, not that it is no string.
    fn ways<'v>(&mut self, nodes: &[Node], value: &'v Value, enough: usize) -> Fit<'s, 'v, usize> {
        let (mut fits, mut of_kind, mut why) = (0, 0, None);
        for node in nodes {
            match self.fits(*node, value) {
                Ok(()) => fits += 1,
                Err(misfit) if misfit.is_final() => return Err(misfit),
                Err(misfit) if self.is_for_kind_of(*node, value) => {
                    of_kind += 1;
                    why.get_or_insert(misfit);
                }
                Err(_) => {}
            }
            if fits == enough {
                return Ok(fits);
            }
        }
        match why.filter(|_| of_kind == 1) {
            _ if fits > 0 => Ok(fits),
            Some(misfit) => Err(misfit),
            None => Err(Why::NoWay { of: nodes.len() }.into()),
        }
    }

    fn is_for_kind_of(&self, node: Node, value: &Value) -> bool {
        !self.nodes[node].iter().any(|rule| matches!(rule, Rule::Type(wanted) if wanted & kinds_of(value) == 0))
    }

    fn other_properties<'v>(
        &mut self,
        node: Node,
        others: Node,
        value: &'v Value,
        object: &'v Map<String, Value>,
    ) -> Fit<'s, 'v> {
        let mut seen = Seen::default();
        self.see(node, value, &mut seen, true)?;
        if seen.all_properties {
            return Ok(());
        }
        for (name, value) in object {
            self.budget.spend(MEMBER_STEPS + text_steps(name.len()))?;
            if !seen.properties.contains(name.as_str()) {
                self.fits(others, value).map_err(|misfit| misfit.within(Part::Name(name)))?;
            }
        }
        Ok(())
    }

    fn other_items<'v>(&mut self, node: Node, others: Node, value: &'v Value, items: &'v [Value]) -> Fit<'s, 'v> {
        let mut seen = Seen::default();
        self.see(node, value, &mut seen, true)?;
        for (at, item) in items.iter().enumerate().skip(seen.first_items) {
            self.budget.spend(MEMBER_STEPS)?;
            if !seen.items.contains(&at) {
                self.fits(others, item).map_err(|misfit| misfit.within(Part::At(at)))?;
            }
        }
        Ok(())
    }

    /// Notes what a node, which the value fits, has looked at. `is_asking`: this is the node that asks, whose own rules for others do not count.
    fn see<'v>(&mut self, node: Node, value: &'v Value, seen: &mut Seen<'v>, is_asking: bool) -> Fit<'s, 'v> {
        let rules = self.enter(node)?;
        let fit = rules.iter().try_for_each(|rule| self.see_by(rule, value, seen, is_asking));
        self.levels -= 1;
        fit
    }

    fn see_by<'v>(&mut self, rule: &'s Rule, value: &'v Value, seen: &mut Seen<'v>, is_asking: bool) -> Fit<'s, 'v> {
        match (rule, value) {
            (Rule::Properties { named, patterns, rest }, Value::Object(object)) => {
                seen.all_properties |= rest.is_some();
                self.see_properties(named, patterns, object, seen)?;
            }
            (Rule::Items { prefix, rest, .. }, Value::Array(items)) => {
                seen.first_items = seen.first_items.max(if rest.is_some() { items.len() } else { prefix.len() });
            }
            (Rule::Contains { node, .. }, Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    if self.is_fit(*node, item)? {
                        self.budget.spend(NOTE_STEPS)?;
                        seen.items.insert(at);
                    }
                }
            }
            (Rule::OtherProperties(_), Value::Object(_)) if !is_asking => seen.all_properties = true,
            (Rule::OtherItems(_), Value::Array(items)) if !is_asking => seen.first_items = items.len(),
            (Rule::All(nodes) | Rule::Any(nodes) | Rule::One(nodes), _) => {
                for node in nodes {
                    if self.is_fit(*node, value)? {
                        self.see(*node, value, seen, false)?;
                    }
                }
            }
            (Rule::Dependent(dependents), Value::Object(object)) => {
                for dependent in dependents {
                    self.budget.spend(lookup_steps(&dependent.name, object.len()))?;
                    if let Some(node) = dependent.node.filter(|_| object.contains_key(&dependent.name)) {
                        self.see(node, value, seen, false)?;
                    }
                }
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

    fn see_properties<'v>(
        &mut self,
        named: &[(String, Node)],
        patterns: &[(Arc<Pattern>, Node)],
        object: &'v Map<String, Value>,
        seen: &mut Seen<'v>,
    ) -> Fit<'s, 'v> {
        for name in object.keys() {
            self.budget.spend(NOTE_STEPS + lookup_steps(name, named.len()))?;
            let mut is_seen = named.binary_search_by(|(known, _)| known.cmp(name)).is_ok();
            for (pattern, _) in patterns {
                is_seen = is_seen || pattern.is_match(name, self.budget)?;
            }
            if is_seen {
                seen.properties.insert(name);
            }
        }
        Ok(())
    }
}

/// What rules have looked at.
#[derive(Default)]
struct Seen<'v> {
    all_properties: bool,
    properties: HashSet<&'v str>,
    first_items: usize,
    items: HashSet<usize>,
}

fn require<'s, 'v>(is_so: bool, otherwise: impl FnOnce() -> Why<'s>) -> Fit<'s, 'v> {
    if is_so { Ok(()) } else { Err(otherwise().into()) }
}

fn is_count<'s, 'v>(Count { min, max }: Count, has: usize, what: &'static str) -> Fit<'s, 'v> {
    require(has >= min, || Why::TooFew { min, has, what })?;
    require(has <= max, || Why::TooMany { max, has, what })
}

fn is_number(rule: NumberRule, bound: f64, number: &Number) -> bool {
    let value = number.as_f64().unwrap_or(f64::NAN);
    match rule {
        NumberRule::AtLeast => value >= bound,
        NumberRule::AtMost => value <= bound,
        NumberRule::Above => value > bound,
        NumberRule::Below => value < bound,
        NumberRule::MultipleOf => {
            // 0.3 is a multiple of 0.1 for people, though not for floating-point numbers.
            let times = value / bound;
            times.is_finite() && (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        }
    }
}
