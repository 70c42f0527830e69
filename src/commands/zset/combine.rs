//! Unions, intersections and differences of sorted sets and sets, answered, stored or counted.

use crate::commands::Outcome;
use crate::commands::args::{Rest, int, parse_float, parse_int};
use crate::commands::zset::answer::{show, show_head, store};
use crate::engine::blob::Blob;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::types::packed::{IntText, Item};
use crate::engine::types::zset::{Direction, Zset};
use crate::engine::value::Value;
use crate::resp::{Args, Reply};

/// Members of the first set that are looked for in the others at a time.
const CHUNK: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the result, and so which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Answer,
    Store,
    Count,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, sum: f64, score: f64) -> f64 {
        match self {
            Aggregate::Sum => number_or_zero(sum + score),
            Aggregate::Min if score < sum => score,
            Aggregate::Max if score > sum => score,
            Aggregate::Min | Aggregate::Max => sum,
        }
    }
}

/// What infinities of both signs make together counts as zero, by convention.
fn number_or_zero(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number }
}

struct Plan<'a> {
    operation: Operation,
    sources: Vec<Source<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// How far to count; 0 for all.
    limit: usize,
}

struct Source<'a> {
    key: &'a [u8],
    len: usize,
    weight: f64,
}

impl<'a> Plan<'a> {
    /// Reads `numkeys key [key ...] [options]` from a position on. `name` is the command's, for the error that names it.
    fn read(
        keys: &mut Read<'_>,
        args: Args<'a>,
        at: usize,
        operation: Operation,
        used: Use,
        name: &str,
    ) -> Result<Plan<'a>, Error> {
        let count = int(args, at)?;
        if count < 1 {
            return Err(Error::new(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let mut rest = Rest::of(args, at + 1);
        let names = usize::try_from(count).ok().and_then(|count| rest.take_many(count)).ok_or(error::SYNTAX)?;
        let mut sources = Vec::with_capacity(names.len());
        for key in names.iter() {
            sources.push(Source { key, len: len(keys, key)?, weight: 1.0 });
        }
        let mut plan = Plan { operation, sources, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        plan.read_options(rest, used)?;
        Ok(plan)
    }

    fn read_options(&mut self, mut rest: Rest<'_>, used: Use) -> Result<(), Error> {
        let is_weighted = self.operation != Operation::Difference && used != Use::Count;
        loop {
            if is_weighted && rest.left() > self.sources.len() && rest.word("weights") {
                for (source, weight) in self.sources.iter_mut().zip(std::iter::from_fn(|| rest.take())) {
                    source.weight = parse_float(weight).ok_or(error::WEIGHT_NOT_FLOAT)?;
                }
            } else if is_weighted && rest.word("aggregate") {
                let ways = [("sum", Aggregate::Sum), ("min", Aggregate::Min), ("max", Aggregate::Max)];
                self.aggregate = rest.one_of(&ways).ok_or(error::SYNTAX)?;
            } else if used == Use::Answer && rest.word("withscores") {
                self.with_scores = true;
            } else if used == Use::Count
                && let Some(limit) = rest.value("limit")
            {
                let limit = parse_int(limit).ok().and_then(|limit| usize::try_from(limit).ok());
                self.limit = limit.ok_or(error::LIMIT_NEGATIVE)?;
            } else {
                return rest.end();
            }
        }
    }

    /// The result, in the form of large ones.
    fn run(mut self, keys: &mut Read<'_>) -> Zset {
        let mut result = Zset::large();
        match self.operation {
            Operation::Union => {
                self.sources.sort_by_key(|source| source.len);
                self.unite(keys, &mut result);
            }
            Operation::Intersection => {
                self.sources.sort_by_key(|source| source.len);
                self.intersect(keys, &mut |member, score| {
                    result.set(member, score);
                    true
                });
            }
            Operation::Difference => self.subtract(keys, &mut result),
        }
        result
    }

    /// Counts the intersection, up to the limit.
    fn count(mut self, keys: &mut Read<'_>) -> usize {
        self.sources.sort_by_key(|source| source.len);
        let (mut count, limit) = (0, self.limit);
        self.intersect(keys, &mut |_, _| {
            count += 1;
            count != limit
        });
        count
    }

    fn unite(&self, keys: &mut Read<'_>, result: &mut Zset) {
        for source in &self.sources {
            each(keys, source.key, 0, source.len, &mut |member, score| {
                let score = number_or_zero(source.weight * score);
                let sum = |before: Option<f64>| Some(before.map_or(score, |before| self.aggregate.of(before, score)));
                let Ok(_) = result.update(member, |before| Ok::<_, std::convert::Infallible>(sum(before)));
            });
        }
    }

    /// Shows what all sources have, until told to stop by false.
    fn intersect(&self, keys: &mut Read<'_>, show: &mut dyn FnMut(&[u8], f64) -> bool) {
        let Some((first, others)) = self.sources.split_first() else { return };
        for start in (0..first.len).step_by(CHUNK) {
            let mut members = self.chunk(keys, first, start);
            for other in others {
                retain(keys, other.key, &mut members, |sum, score| {
                    let Some(score) = score else { return false };
                    *sum = self.aggregate.of(*sum, score * other.weight);
                    true
                });
            }
            if !members.iter().all(|(member, score)| show(member, *score)) {
                return;
            }
        }
    }

    fn subtract(&self, keys: &mut Read<'_>, result: &mut Zset) {
        let Some((first, others)) = self.sources.split_first() else { return };
        for start in (0..first.len).step_by(CHUNK) {
            let mut members = self.chunk(keys, first, start);
            for other in others {
                retain(keys, other.key, &mut members, |_, score| score.is_none());
            }
            for (member, score) in &members {
                result.set(member, *score);
            }
        }
    }

    fn chunk(&self, keys: &mut Read<'_>, source: &Source<'_>, start: usize) -> Vec<(Blob, f64)> {
        let mut members = Vec::with_capacity(CHUNK.min(source.len - start));
        each(keys, source.key, start, CHUNK, &mut |member, score| {
            members.push((Blob::from(member), number_or_zero(source.weight * score)));
        });
        members
    }
}

/// How many members a sorted set or a set has, and brings it to memory.
fn len(keys: &mut Read<'_>, key: &[u8]) -> Result<usize, Error> {
    match keys.find(key)? {
        None => Ok(0),
        Some(Value::Zset(zset)) => Ok(zset.len()),
        Some(Value::Set(set)) => Ok(set.len()),
        Some(_) => Err(error::WRONG_TYPE),
    }
}

/// Shows up to `count` members from a position on. A set's members have the score 1.
fn each(keys: &mut Read<'_>, key: &[u8], start: usize, count: usize, show: &mut dyn FnMut(&[u8], f64)) {
    match keys.peek(key).map(|entry| entry.value()) {
        Some(Value::Zset(zset)) => zset.each(start..start.saturating_add(count), Direction::Up, show),
        Some(Value::Set(set)) => {
            for at in start..start.saturating_add(count).min(set.len()) {
                show(set.at(at).bytes(&mut IntText::new()), 1.0);
            }
        }
        _ => {}
    }
}

/// Keeps the members that `keep` keeps, which is shown each one's sum so far and its score at a key.
fn retain(keys: &mut Read<'_>, key: &[u8], members: &mut Vec<(Blob, f64)>, mut keep: impl FnMut(&mut f64, Option<f64>) -> bool) {
    let value = keys.peek(key).map(|entry| entry.value());
    members.retain_mut(|(member, sum)| {
        let score = match value {
            Some(Value::Zset(zset)) => zset.score(member),
            Some(Value::Set(set)) => set.contains(Item::of(member)).then_some(1.0),
            _ => None,
        };
        keep(sum, score)
    });
}

fn answer(keys: &mut Read<'_>, args: Args<'_>, operation: Operation, name: &str, reply: &mut Reply) -> Outcome {
    let plan = Plan::read(keys, args, 1, operation, Use::Answer, name)?;
    let with_scores = plan.with_scores;
    let result = plan.run(keys);
    show_head(reply, result.len(), with_scores);
    result.each(0..result.len(), Direction::Up, &mut |member, score| show(reply, member, score, with_scores));
    Ok(())
}

pub(crate) fn zunion(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Operation::Union, "zunion", reply)
}

pub(crate) fn zinter(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Operation::Intersection, "zinter", reply)
}

pub(crate) fn zdiff(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Operation::Difference, "zdiff", reply)
}

pub(crate) fn zintercard(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let plan = Plan::read(keys, args, 1, Operation::Intersection, Use::Count, "zintercard")?;
    reply.count(plan.count(keys));
    Ok(())
}

fn stored(keys: &mut Write<'_>, args: Args<'_>, operation: Operation, name: &'static str, reply: &mut Reply) -> Outcome {
    let result = Plan::read(keys, args, 2, operation, Use::Store, name)?.run(keys).packed_if_small();
    store(keys, args.at(1), result, name, reply);
    Ok(())
}

pub(crate) fn zunionstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    stored(keys, args, Operation::Union, "zunionstore", reply)
}

pub(crate) fn zinterstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    stored(keys, args, Operation::Intersection, "zinterstore", reply)
}

pub(crate) fn zdiffstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    stored(keys, args, Operation::Difference, "zdiffstore", reply)
}
