//! A batch of the journal: what one cut collected. A version byte, the number of the run (LEB128), then a section for
//! each shard that had effects: the shard's number, the length of its effects, and they.
//!
//! Sections of different shards have no order among each other, and need none: a key lives in one shard, and what
//! concerns a whole database stands in all of them. In another run of the program it may be another shard.

use crate::engine::Cut;
use crate::engine::effect::{self, Effect, push_len, push_number, take_byte, take_bytes, take_number};
use crate::engine::shard::DATABASES;
use crate::engine::value::BadRow;

/// The first byte of every batch.
const VERSION: u8 = 1;

/// Heads of the sections of a batch, which stand between the effects.
pub struct Heads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Heads {
    /// The heads for a cut, of a run with this number.
    pub fn new(cut: &Cut, run: u64) -> Heads {
        let mut bytes = vec![VERSION];
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
    /// Shards' numbers and their effects.
    pub sections: Vec<(u8, &'a [u8])>,
}

/// Takes a batch apart.
pub fn read(mut bytes: &[u8]) -> Result<Batch<'_>, BadRow> {
    let from = &mut bytes;
    if take_byte(from)? != VERSION {
        return Err(BadRow);
    }
    let run = take_number(from)?;
    let mut sections = Vec::new();
    while !from.is_empty() {
        sections.push((take_byte(from)?, take_bytes(from)?));
    }
    Ok(Batch { run, sections })
}

/// Shows every effect of a section.
pub fn each_effect(mut effects: &[u8], mut show: impl FnMut(Effect<'_>) -> Result<(), BadRow>) -> Result<(), BadRow> {
    while !effects.is_empty() {
        show(effect::read(&mut effects)?)?;
    }
    Ok(())
}

/// Which databases a batch flushes. A flush holds all shards, so it stands in every section: the shortest one tells.
pub fn flushed(sections: &[(u8, &[u8])]) -> Result<[bool; DATABASES], BadRow> {
    let mut flushed = [false; DATABASES];
    if let Some((_, effects)) = sections.iter().min_by_key(|(_, effects)| effects.len()) {
        each_effect(effects, |effect| {
            if let Effect::Flush { db } = effect {
                *flushed.get_mut(usize::from(db)).ok_or(BadRow)? = true;
            }
            Ok(())
        })?;
    }
    Ok(flushed)
}

/// Shows every effect of a section but the flushes and what stands before its database is flushed.
pub fn each_lasting_effect(
    effects: &[u8],
    flushed: &[bool; DATABASES],
    mut show: impl FnMut(Effect<'_>) -> Result<(), BadRow>,
) -> Result<(), BadRow> {
    if !flushed.contains(&true) {
        return each_effect(effects, show);
    }
    let (mut last, mut number) = ([0; DATABASES], 0);
    each_effect(effects, |effect| {
        number += 1;
        if let Effect::Flush { db } = effect {
            *last.get_mut(usize::from(db)).ok_or(BadRow)? = number;
        }
        Ok(())
    })?;
    number = 0;
    each_effect(effects, |effect| {
        number += 1;
        let Some(db) = effect.db() else { return show(effect) };
        match last.get(usize::from(db)) {
            None => Err(BadRow),
            // The last flush itself included.
            Some(last) if number <= *last => Ok(()),
            Some(_) => show(effect),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_format_1_stays_as_it_is() {
        let cut = Cut { epoch: 9, shards: vec![(3, b"ab".to_vec().into()), (63, b"c".to_vec().into())] };
        let bytes = Heads::new(&cut, 300).pieces(&cut).concat();
        assert_eq!(bytes, b"\x01\xac\x02\x03\x02ab\x3f\x01c");
        let batch = Batch { run: 300, sections: vec![(3, &b"ab"[..]), (63, b"c")] };
        assert_eq!(read(&bytes), Ok(batch));
    }

    #[test]
    fn a_batch_that_was_never_written_is_refused() {
        for bytes in [&b""[..], b"\x02\x01", b"\x01", b"\x01\x80", b"\x01\x01\x03", b"\x01\x01\x03\x05ab"] {
            assert_eq!(read(bytes), Err(BadRow), "{bytes:?}");
        }
    }
}
