//! Commands about ranges: `ZRANGE` and its older forms, `ZRANGESTORE`, counts, removals.

use std::ops::Range;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::commands::zset::answer::{show, show_head, store};
use crate::commands::zset::bounds::{Bounds, By};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Edit, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::zset::{Direction, Zset};
use crate::resp::{Args, Reply};

/// What a command's name already says about its range; None where its options say it.
#[derive(Clone, Copy)]
struct Form {
    by: Option<By>,
    is_reversed: Option<bool>,
    /// Whether the result is stored, and the ends of the range stand one further back.
    stores: bool,
}

/// Which members a command asks for.
struct Query<'a> {
    bounds: Bounds<'a>,
    is_reversed: bool,
    /// How many to pass over, and how many to take at most; all if below zero.
    limit: (i64, i64),
    with_scores: bool,
}

impl<'a> Query<'a> {
    fn read(args: Args<'a>, form: Form) -> Result<Query<'a>, Error> {
        let first = if form.stores { 3 } else { 2 };
        let (mut by, mut is_reversed, mut with_scores) = (form.by, form.is_reversed, false);
        let (mut limit, mut rest) = ((0, -1), Rest::of(args, first + 2));
        loop {
            if !form.stores && rest.word("withscores") {
                with_scores = true;
            } else if let Some([skip, take]) = rest.values("limit") {
                limit = (parse_int(skip)?, parse_int(take)?);
            } else if is_reversed.is_none() && rest.word("rev") {
                is_reversed = Some(true);
            } else if by.is_none() && rest.word("bylex") {
                by = Some(By::Name);
            } else if by.is_none() && rest.word("byscore") {
                by = Some(By::Score);
            } else {
                break rest.end()?;
            }
        }
        let (by, is_reversed) = (by.unwrap_or(By::Rank), is_reversed.unwrap_or(false));
        if by == By::Rank && limit.1 != -1 {
            return Err(error::LIMIT_OF_RANKS);
        }
        if by == By::Name && with_scores {
            return Err(error::SCORES_OF_NAMES);
        }
        // Scores and names are named from the far end, too, when that is where the range starts.
        let (min, max) = if is_reversed && by != By::Rank { (first + 1, first) } else { (first, first + 1) };
        let limit = if by == By::Rank { (0, -1) } else { limit };
        Ok(Query { bounds: Bounds::read(by, args, min, max)?, is_reversed, limit, with_scores })
    }

    fn ranks(&self, zset: &Zset) -> Range<usize> {
        let Range { start, end } = self.bounds.ranks(zset, self.is_reversed);
        let (skip, take) = self.limit;
        let Ok(skip) = usize::try_from(skip) else { return 0..0 };
        let skip = skip.min(end - start);
        let take = usize::try_from(take).unwrap_or(usize::MAX).min(end - start - skip);
        if self.is_reversed { end - skip - take..end - skip } else { start + skip..start + skip + take }
    }

    fn direction(&self) -> Direction {
        if self.is_reversed { Direction::Down } else { Direction::Up }
    }
}

fn range(keys: &mut Read<'_>, args: Args<'_>, form: Form, reply: &mut Reply) -> Outcome {
    let query = Query::read(args, form)?;
    let Some(zset) = keys.get::<Zset>(args.at(1))? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    show_head(reply, ranks.len(), query.with_scores);
    zset.each(ranks, query.direction(), &mut |member, score| show(reply, member, score, query.with_scores));
    Ok(())
}

pub(crate) fn zrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: None, is_reversed: None, stores: false }, reply)
}

pub(crate) fn zrevrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: Some(By::Rank), is_reversed: Some(true), stores: false }, reply)
}

pub(crate) fn zrangebyscore(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: Some(By::Score), is_reversed: Some(false), stores: false }, reply)
}

pub(crate) fn zrevrangebyscore(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: Some(By::Score), is_reversed: Some(true), stores: false }, reply)
}

pub(crate) fn zrangebylex(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: Some(By::Name), is_reversed: Some(false), stores: false }, reply)
}

pub(crate) fn zrevrangebylex(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    range(keys, args, Form { by: Some(By::Name), is_reversed: Some(true), stores: false }, reply)
}

pub(crate) fn zrangestore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let query = Query::read(args, Form { by: None, is_reversed: None, stores: true })?;
    let mut result = Zset::default();
    if let Some(zset) = keys.get::<Zset>(args.at(2))? {
        zset.each(query.ranks(zset), Direction::Up, &mut |member, score| {
            result.set(member, score);
        });
    }
    store(keys, args.at(1), result, "zrangestore", reply);
    Ok(())
}

pub(crate) fn zcount(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    count(keys, args, By::Score, reply)
}

pub(crate) fn zlexcount(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    count(keys, args, By::Name, reply)
}

fn count(keys: &mut Read<'_>, args: Args<'_>, by: By, reply: &mut Reply) -> Outcome {
    let bounds = Bounds::read(by, args, 2, 3)?;
    let zset = keys.get::<Zset>(args.at(1))?;
    reply.count(zset.map_or(0, |zset| bounds.ranks(zset, false).len()));
    Ok(())
}

pub(crate) fn zremrangebyrank(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    remove(keys, args, By::Rank, "zremrangebyrank", reply)
}

pub(crate) fn zremrangebyscore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    remove(keys, args, By::Score, "zremrangebyscore", reply)
}

pub(crate) fn zremrangebylex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    remove(keys, args, By::Name, "zremrangebylex", reply)
}

fn remove(keys: &mut Write<'_>, args: Args<'_>, by: By, event: &'static str, reply: &mut Reply) -> Outcome {
    let bounds = Bounds::read(by, args, 2, 3)?;
    let mut removed = 0;
    if let Some(Edit { value: zset, mut log, .. }) = keys.edit::<Zset>(args.at(1))? {
        let ranks = bounds.ranks(zset, false);
        removed = ranks.len();
        zset.remove_ranks(ranks, &mut |member, _| log.remove(member));
    }
    if removed > 0 {
        keys.notify(Class::Zset, event, args.at(1));
        keys.remove_if_empty::<Zset>(args.at(1));
    }
    reply.count(removed);
    Ok(())
}
