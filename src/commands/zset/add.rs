//! `ZADD` in all its forms, and `ZINCRBY`.

use smallvec::SmallVec;

use crate::commands::Outcome;
use crate::commands::args::float;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Edit, Write};
use crate::engine::notify::Class;
use crate::engine::types::zset::Zset;
use crate::resp::{Args, Reply};

/// What is to be done with which members.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Options {
    /// `NX`: only members that are not there.
    pub only_new: bool,
    /// `XX`: only members that are there.
    pub only_old: bool,
    /// `CH`: members whose score changed are counted too.
    pub counts_changed: bool,
    only_greater: bool,
    only_less: bool,
    is_sum: bool,
}

impl Options {
    /// Reads one option; tells whether it was one.
    fn read(&mut self, args: Args<'_>, at: usize) -> bool {
        // Nearly always a score stands here, which needs no comparing.
        let option = match args.at(at) {
            [b'n' | b'N', _] if args.is(at, "nx") => &mut self.only_new,
            [b'x' | b'X', _] if args.is(at, "xx") => &mut self.only_old,
            [b'c' | b'C', _] if args.is(at, "ch") => &mut self.counts_changed,
            [b'g' | b'G', _] if args.is(at, "gt") => &mut self.only_greater,
            [b'l' | b'L', _] if args.is(at, "lt") => &mut self.only_less,
            [b'i' | b'I', ..] if args.is(at, "incr") => &mut self.is_sum,
            _ => return false,
        };
        *option = true;
        true
    }

    fn check(&self, pairs: usize) -> Result<(), Error> {
        if self.only_new && self.only_old {
            return Err(error::ZADD_NX_XX);
        }
        if self.only_greater && (self.only_less || self.only_new) || self.only_less && self.only_new {
            return Err(error::ZADD_GT_LT_NX);
        }
        if self.is_sum && pairs > 1 {
            return Err(error::ZADD_INCR);
        }
        Ok(())
    }

    /// The score a member gets that has one, or none, so far; None to leave it.
    #[inline]
    fn decide(&self, before: Option<f64>, given: f64) -> Result<Option<f64>, Error> {
        let Some(before) = before else { return Ok((!self.only_old).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let after = if self.is_sum { before + given } else { given };
        if after.is_nan() {
            return Err(error::SCORE_NAN);
        }
        let is_kept = self.only_greater && after <= before || self.only_less && after >= before;
        Ok((!is_kept).then_some(after))
    }
}

pub(crate) fn zadd(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut options, mut first) = (Options::default(), 2);
    while first < args.len() && options.read(args, first) {
        first += 1;
    }
    let count = args.len() - first;
    if count == 0 || !count.is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    options.check(count / 2)?;
    let mut pairs = SmallVec::<[(f64, &[u8]); 4]>::new();
    for at in (first..args.len()).step_by(2) {
        pairs.push((float(args, at)?, args.at(at + 1)));
    }
    add(keys, args.at(1), options, &pairs, reply)
}

pub(crate) fn zincrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let options = Options { is_sum: true, ..Options::default() };
    // Redis takes a condition of ZADD for one here, too, and misses the rest then.
    if ["nx", "xx", "gt", "lt", "ch", "incr"].iter().any(|option| args.is(2, option)) {
        return Err(error::SYNTAX);
    }
    let pair = (float(args, 2)?, args.at(3));
    add(keys, args.at(1), options, &[pair], reply)
}

/// Gives members scores and answers as `ZADD` does.
pub(crate) fn add(keys: &mut Write<'_>, key: &[u8], options: Options, pairs: &[(f64, &[u8])], reply: &mut Reply) -> Outcome {
    let done = if !options.only_old {
        put(keys.edit_or_new(key)?, options, pairs)?
    } else if let Some(edit) = keys.edit(key)? {
        put(edit, options, pairs)?
    } else {
        Done { added: 0, changed: 0, sum: None }
    };
    if done.added + done.changed > 0 {
        keys.notify(Class::Zset, if options.is_sum { "zincr" } else { "zadd" }, key);
    }
    match done.sum {
        Some(sum) if options.is_sum => reply.double(sum),
        None if options.is_sum => reply.null(),
        _ => reply.count(done.added + if options.counts_changed { done.changed } else { 0 }),
    }
    Ok(())
}

struct Done {
    added: usize,
    changed: usize,
    /// The last score given; None if the member was left alone.
    sum: Option<f64>,
}

fn put(edit: Edit<'_, Zset>, options: Options, pairs: &[(f64, &[u8])]) -> Result<Done, Error> {
    let Edit { value: zset, mut log, .. } = edit;
    let mut done = Done { added: 0, changed: 0, sum: None };
    for &(score, member) in pairs {
        done.sum = None;
        let updated = zset.update(member, |before| {
            let after = options.decide(before, score)?;
            done.sum = after;
            Ok::<_, Error>(after)
        })?;
        if let Some(after) = updated.after.filter(|_| updated.is_changed()) {
            log.put(member, &after.to_le_bytes());
            if updated.is_added() { done.added += 1 } else { done.changed += 1 }
        }
    }
    Ok(done)
}
