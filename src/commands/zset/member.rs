//! Commands about single members, random ones, and walks over all.

use crate::commands::Outcome;
use crate::commands::args::wrong_number;
use crate::commands::elements::{self, Scan, Walked};
use crate::commands::zset::answer::{show, show_head};
use crate::engine::error;
use crate::engine::keys::{Edit, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::packed::Item;
use crate::engine::types::sample;
use crate::engine::types::zset::{Direction, Zset};
use crate::id;
use crate::resp::Args;
use crate::resp::Reply;
use crate::resp::reply::precise_text;

pub(crate) fn zcard(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(1))?;
    reply.count(zset.map_or(0, Zset::len));
    Ok(())
}

pub(crate) fn zscore(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(1))?;
    show_score(reply, zset.and_then(|zset| zset.score(args.at(2))));
    Ok(())
}

pub(crate) fn zmscore(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(1))?;
    let members = args.from(2);
    reply.array(members.len());
    members.iter().for_each(|member| show_score(reply, zset.and_then(|zset| zset.score(member))));
    Ok(())
}

fn show_score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub(crate) fn zrank(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    rank(keys, args, "zrank", false, reply)
}

pub(crate) fn zrevrank(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    rank(keys, args, "zrevrank", true, reply)
}

fn rank(keys: &mut Read<'_>, args: Args<'_>, name: &str, is_reversed: bool, reply: &mut Reply) -> Outcome {
    let with_score = match args.len() {
        3 => false,
        4 if args.is(3, "withscore") => true,
        4 => return Err(error::SYNTAX),
        _ => return Err(wrong_number(name)),
    };
    let zset = keys.get::<Zset>(args.at(1))?;
    let found = zset.and_then(|zset| zset.rank(args.at(2)).map(|(rank, score)| (zset.len(), rank, score)));
    let Some((len, rank, score)) = found else {
        if with_score {
            reply.null_array()
        } else {
            reply.null()
        };
        return Ok(());
    };
    if with_score {
        reply.array(2);
    }
    reply.count(if is_reversed { len - 1 - rank } else { rank });
    if with_score {
        reply.double(score);
    }
    Ok(())
}

pub(crate) fn zrem(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut removed = 0;
    if let Some(Edit { value: zset, mut log, .. }) = keys.edit::<Zset>(args.at(1))? {
        for member in args.from(2).iter().filter(|member| zset.remove(member).is_some()) {
            log.remove(member);
            removed += 1;
        }
    }
    if removed > 0 {
        keys.notify(Class::Zset, "zrem", args.at(1));
        keys.remove_if_empty::<Zset>(args.at(1));
    }
    reply.count(removed);
    Ok(())
}

pub(crate) fn zrandmember(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 2 {
        let zset = keys.get::<Zset>(args.at(1))?;
        if zset.and_then(|zset| zset.nth(id::random_below(zset.len()), |member, _| reply.bulk(member))).is_none() {
            reply.null();
        }
        return Ok(());
    }
    let count = elements::random_count(args, 2)?;
    let with_scores = match args.len() {
        3 => false,
        4 if args.is(3, "withscores") => true,
        _ => return Err(error::SYNTAX),
    };
    if with_scores && count.abs() > i64::MAX / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    match keys.get::<Zset>(args.at(1))? {
        Some(zset) => random_members(zset, count, with_scores, reply),
        None => {
            reply.array(0);
            Ok(())
        }
    }
}

fn random_members(zset: &Zset, count: i64, with_scores: bool, reply: &mut Reply) -> Outcome {
    let show_at = |reply: &mut Reply, at: usize| {
        let shown = zset.nth(at, |member, score| show(reply, member, score, with_scores));
        debug_assert!(shown.is_some());
    };
    let wanted = count.unsigned_abs();
    if count < 0 {
        show_head(reply, wanted as usize, with_scores);
        return elements::repeated(wanted, zset.len(), reply, show_at);
    }
    let wanted = wanted.min(zset.len() as u64) as usize;
    show_head(reply, wanted, with_scores);
    if wanted == zset.len() {
        zset.each(0..wanted, Direction::Up, &mut |member, score| show(reply, member, score, with_scores));
    } else {
        sample::distinct(wanted, zset.len()).into_iter().for_each(|at| show_at(reply, at as usize));
    }
    Ok(())
}

pub(crate) fn zscan(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let cursor = elements::cursor(args.at(2))?;
    let Some(zset) = keys.get::<Zset>(args.at(1))? else {
        elements::empty_scan(reply);
        return Ok(());
    };
    let scan = Scan::read(args, 3, Walked::Scored)?;
    scan.run(cursor, reply, |cursor, reply, shown| {
        zset.scan(cursor, |member, score| {
            if scan.wants(Item::Bytes(member)) {
                // Bytes in both protocols, as all of a walk's elements are.
                reply.bulk(member);
                *shown += 1;
                if !scan.hides_scores {
                    reply.bulk(precise_text(score).as_bytes());
                    *shown += 1;
                }
            }
        })
    });
    Ok(())
}
