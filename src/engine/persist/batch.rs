//! A batch of the journal: what one cut collected. A byte that tells whether its sections meet, the number of the run (LEB128), then a
//! section for each shard that had effects: the shard's number, the length of its effects, and they.
//!
//! Sections of different shards mostly have no order among each other, and need none: a key lives in one shard. Where a database was
//! flushed, or a value went from one key to another, they meet: see [`each_in_order`]. In another run of the program a key may live in
//! another shard.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;

use crate::engine::Cut;
use crate::engine::effect::{self, Effect, push_len, push_number, take_byte, take_bytes, take_number};
use crate::engine::value::BadRow;

/// The first byte of a batch whose sections have no order among each other, and of one in which they meet.
const APART: u8 = 1;
const MEETING: u8 = 2;

/// Heads of the sections of a batch, which stand between the effects.
pub struct Heads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Heads {
    /// The heads for a cut, of a run with this number.
    pub fn new(cut: &Cut, run: u64) -> Heads {
        let meet = cut.shards.iter().any(|(_, effects)| effects.meet());
        let mut bytes = vec![if meet { MEETING } else { APART }];
        push_number(&mut bytes, run);
        let mut ends = Vec::with_capacity(cut.shards.len());
        for (number, effects) in &cut.shards {
            bytes.push(*number);
            push_len(&mut bytes, effects.len());
            ends.push(bytes.len());
        }
        Heads { bytes, ends }
    }

    /// The batch in pieces.
    pub fn pieces<'a>(&'a self, cut: &'a Cut) -> Vec<&'a [u8]> {
        let mut pieces = Vec::with_capacity(2 * cut.shards.len() + 1);
        let mut start = 0;
        for (end, (_, effects)) in self.ends.iter().zip(&cut.shards) {
            pieces.extend([&self.bytes[start..*end], effects]);
            start = *end;
        }
        pieces.push(&self.bytes[start..]);
        pieces
    }
}

/// A batch taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<'a> {
    /// The same as that of another batch only if the same program wrote both without ending in between.
    pub run: u64,
    /// Whether effects of one section have an order with those of others.
    pub meet: bool,
    /// Shards' numbers and their effects.
    pub sections: Vec<(u8, &'a [u8])>,
}

/// Takes a batch apart.
pub fn read(mut bytes: &[u8]) -> Result<Batch<'_>, BadRow> {
    let from = &mut bytes;
    let meet = match take_byte(from)? {
        APART => false,
        MEETING => true,
        _ => return Err(BadRow::Bytes),
    };
    let run = take_number(from)?;
    let mut sections = Vec::new();
    while !from.is_empty() {
        sections.push((take_byte(from)?, take_bytes(from)?));
    }
    Ok(Batch { run, meet, sections })
}

/// Shows every effect of a section.
pub fn each_effect<'a, E: From<BadRow>>(
    mut effects: &'a [u8],
    mut show: impl FnMut(Effect<'a>) -> Result<(), E>,
) -> Result<(), E> {
    while !effects.is_empty() {
        show(effect::read(&mut effects)?)?;
    }
    Ok(())
}

/// Shows every effect of sections that meet, in an order in which all of them could have happened: a database is flushed when every
/// section has come to that, and shown once; what is in a parcel is taken when it was given, and before anything else is: however many
/// parcels a batch has, one is open at a time.
pub fn each_in_order<'a, E: From<BadRow>>(
    sections: &[(u8, &'a [u8])],
    mut show: impl FnMut(Effect<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest: Vec<&[u8]> = sections.iter().map(|(_, effects)| *effects).collect();
    let mut ready: Vec<usize> = (0..rest.len()).rev().collect();
    // Parcels that were given; by their parcels, who waits until it is given, and who until another section awaits it.
    let (mut given, mut awaited, mut giving) = (HashSet::new(), HashMap::new(), BTreeMap::new());
    let mut flushing: Vec<u8> = Vec::new();
    loop {
        // Numbers rise with time: where nobody can go on otherwise, the lowest is taken in the section that gives it.
        while let Some((number, mut must_give)) =
            ready.pop().map(|number| (number, false)).or_else(|| giving.pop_first().map(|(_, number)| (number, true)))
        {
            while !rest[number].is_empty() {
                let mut after = rest[number];
                let effect = effect::read(&mut after)?;
                match effect {
                    Effect::Flush { db } => {
                        flushing.push(db);
                        rest[number] = after;
                        break;
                    }
                    Effect::Take { parcel, .. } if !given.remove(&parcel) => {
                        if awaited.insert(parcel, number).is_some() {
                            return Err(BadRow::Bytes.into());
                        }
                        ready.extend(giving.remove(&parcel));
                        break;
                    }
                    Effect::Give { parcel, .. } | Effect::Copy { parcel, .. } => {
                        let taker = awaited.remove(&parcel);
                        if taker.is_none() && !mem::take(&mut must_give) {
                            if giving.insert(parcel, number).is_some() {
                                return Err(BadRow::Bytes.into());
                            }
                            break;
                        }
                        given.insert(parcel);
                        if let Some(taker) = taker {
                            show(effect)?;
                            rest[number] = after;
                            ready.extend([number, taker]);
                            break;
                        }
                    }
                    _ => {}
                }
                show(effect)?;
                rest[number] = after;
            }
        }
        match flushing.first() {
            None if awaited.is_empty() => return Ok(()),
            // A flush holds all shards.
            Some(db) if flushing.len() == rest.len() && flushing.iter().all(|other| other == db) => {
                show(Effect::Flush { db: *db })?;
            }
            _ => return Err(BadRow::Bytes.into()),
        }
        flushing.clear();
        ready.extend((0..rest.len()).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::Kind;

    #[test]
    fn a_batch_of_format_1_stays_as_it_is() {
        for (meet, first) in [(false, 1), (true, 2)] {
            let mut cut = Cut { epoch: 9, shards: vec![(3, b"ab".to_vec().into()), (63, b"c".to_vec().into())] };
            if meet {
                cut.shards[1].1.set_meet();
            }
            let bytes = Heads::new(&cut, 300).pieces(&cut).concat();
            assert_eq!(bytes, [&[first], &b"\xac\x02\x03\x02ab\x3f\x01c"[..]].concat());
            let batch = Batch { run: 300, meet, sections: vec![(3, &b"ab"[..]), (63, b"c")] };
            assert_eq!(read(&bytes), Ok(batch));
        }
    }

    /// The effects of sections in the order they are shown in, or that there is none.
    fn shown(sections: &[&[&dyn Fn(&mut Vec<u8>)]]) -> Result<String, BadRow> {
        let bytes: Vec<Vec<u8>> = sections
            .iter()
            .map(|pushes| {
                let mut bytes = Vec::new();
                pushes.iter().for_each(|push| push(&mut bytes));
                bytes
            })
            .collect();
        let sections: Vec<(u8, &[u8])> = bytes.iter().map(|bytes| (0, &bytes[..])).collect();
        let mut shown = String::new();
        each_in_order(&sections, |effect| {
            shown += &match effect {
                Effect::Give { key, parcel, .. } => format!("give {} {parcel}, ", key.escape_ascii()),
                Effect::Take { key, parcel, .. } => format!("take {} {parcel}, ", key.escape_ascii()),
                Effect::Remove { key, .. } => format!("remove {}, ", key.escape_ascii()),
                Effect::Flush { db } => format!("flush {db}, "),
                other => format!("{other:?}, "),
            };
            Ok::<_, BadRow>(())
        })?;
        Ok(shown)
    }

    type Push = Box<dyn Fn(&mut Vec<u8>)>;

    fn give(key: &'static str, parcel: u64) -> Push {
        Box::new(move |to| effect::push_give(to, 0, key.as_bytes(), parcel))
    }

    fn take(key: &'static str, parcel: u64) -> Push {
        Box::new(move |to| effect::push_take(to, 0, key.as_bytes(), Kind::List, 0, parcel))
    }

    fn remove(key: &'static str) -> Push {
        Box::new(move |to| effect::push_remove(to, 0, key.as_bytes()))
    }

    fn flush(db: u8) -> Push {
        Box::new(move |to| effect::push_flush(to, db))
    }

    #[test]
    fn a_parcel_is_taken_after_it_was_given_whichever_section_comes_first() {
        // b -> a, then a -> c: the sections of a and c wait in turn.
        let (c, a, b) = ([take("c", 2), remove("c")], [take("a", 1), give("a", 2)], [give("b", 1), remove("b")]);
        let order = shown(&[&[&c[0], &c[1]], &[&a[0], &a[1]], &[&b[0], &b[1]]]);
        assert_eq!(order.as_deref(), Ok("give b 1, take a 1, give a 2, take c 2, remove c, remove b, "));
        // What goes to and fro.
        let (a, b) = ([give("a", 1), take("a", 2)], [take("b", 1), give("b", 2)]);
        let order = shown(&[&[&a[0], &a[1]], &[&b[0], &b[1]]]);
        assert_eq!(order.as_deref(), Ok("give a 1, take b 1, give b 2, take a 2, "));
    }

    #[test]
    fn one_parcel_is_open_at_a_time_however_many_there_are() {
        // Copies and renames among keys of all shards, some of which stay in theirs.
        let mut sections = vec![Vec::new(); 64];
        let mut number = 0u64;
        for parcel in 0..10_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (from, to) = ((number >> 33) as usize % 64, (number >> 45) as usize % 64);
            if parcel % 3 == 0 {
                effect::push_copy(&mut sections[from], 0, b"from", parcel);
            } else {
                effect::push_give(&mut sections[from], 0, b"from", parcel);
            }
            effect::push_remove(&mut sections[to], 0, b"to");
            effect::push_take(&mut sections[to], 0, b"to", Kind::List, 0, parcel);
        }
        let sections: Vec<(u8, &[u8])> = sections.iter().map(|section| (0, &section[..])).collect();
        let (mut open, mut shown) = (None, 0);
        each_in_order(&sections, |effect| {
            match effect {
                Effect::Give { parcel, .. } | Effect::Copy { parcel, .. } => assert_eq!(open.replace(parcel), None),
                Effect::Take { parcel, .. } => assert_eq!(open.take(), Some(parcel)),
                _ => {}
            }
            shown += 1;
            Ok::<_, BadRow>(())
        })
        .unwrap();
        assert_eq!(shown, 30_000);
    }

    #[test]
    fn a_database_is_flushed_when_every_section_has_come_to_that() {
        let (a, b) = ([remove("a"), flush(0), take("a", 1), flush(1)], [flush(0), give("b", 1), flush(1), remove("b")]);
        let order = shown(&[&[&a[0], &a[1], &a[2], &a[3]], &[&b[0], &b[1], &b[2], &b[3]]]);
        assert_eq!(order.as_deref(), Ok("remove a, flush 0, give b 1, take a 1, flush 1, remove b, "));
    }

    #[test]
    fn sections_that_cannot_have_happened_together_are_refused() {
        let (taken, flushed, other) = (take("a", 1), flush(0), flush(1));
        let given = give("b", 1);
        assert_eq!(shown(&[&[&taken], &[&flushed]]), Err(BadRow::Bytes));
        assert_eq!(shown(&[&[&flushed], &[&given]]), Err(BadRow::Bytes));
        assert_eq!(shown(&[&[&flushed], &[&other]]), Err(BadRow::Bytes));
        assert_eq!(shown(&[&[&taken], &[&taken]]), Err(BadRow::Bytes));
        assert_eq!(shown(&[&[&taken, &given]]), Err(BadRow::Bytes));
    }

    #[test]
    fn a_batch_that_was_never_written_is_refused() {
        for bytes in [&b""[..], b"\x03\x01", b"\x01", b"\x01\x80", b"\x01\x01\x03", b"\x01\x01\x03\x05ab"] {
            assert_eq!(read(bytes), Err(BadRow::Bytes), "{bytes:?}");
        }
    }
}
