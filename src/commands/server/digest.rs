//! A digest of data that does not depend on how it is kept or in which order it is walked: equal data, equal digest.

use crate::engine::types::string::IntText;
use crate::engine::value::Value;
use crate::resp::reply::double_text;

/// Bytes of a digest; shown as forty hexadecimal digits, as Redis shows its own.
const BYTES: usize = 20;

/// See the file's head.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; BYTES]);

impl Digest {
    /// Of parts in this order.
    pub(crate) fn of(parts: &[&[u8]]) -> Digest {
        let mut digest = Digest::default();
        // Three lanes with seeds of their own make 24 bytes, of which 20 are kept.
        let lanes =
            [0x9e37_79b9_7f4a_7c15u64, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb].map(|seed| hash(seed, parts).to_le_bytes());
        for (to, from) in digest.0.iter_mut().zip(lanes.concat()) {
            *to = from;
        }
        digest
    }

    /// Mixes another one in, in any order.
    pub(crate) fn mix(&mut self, other: Digest) {
        self.0.iter_mut().zip(other.0).for_each(|(to, from)| *to ^= from);
    }

    /// Of a value; None for one that rests on disk.
    pub(crate) fn of_value(value: &Value, now: u64) -> Option<Digest> {
        let mut digest = Digest::of(&[value.kind().name().as_bytes()]);
        match value {
            Value::String(string) => digest.mix(Digest::of(&[string.bytes(&mut IntText::new())])),
            Value::List(list) => {
                for (position, item) in list.iter().enumerate() {
                    digest.mix(Digest::of(&[&position.to_le_bytes(), item.bytes(&mut IntText::new())]));
                }
            }
            Value::Hash(hash) => {
                for (field, item) in hash.iter(now) {
                    let (mut name, mut text) = (IntText::new(), IntText::new());
                    let name = field.bytes(&mut name);
                    let expiry = hash.expiry(name).unwrap_or(0).to_le_bytes();
                    digest.mix(Digest::of(&[name, item.bytes(&mut text), &expiry]));
                }
            }
            Value::Set(set) => {
                for member in set.iter() {
                    digest.mix(Digest::of(&[member.bytes(&mut IntText::new())]));
                }
            }
            Value::Zset(zset) => {
                zset.each(0..zset.len(), crate::engine::types::zset::Direction::Up, &mut |member, score| {
                    digest.mix(Digest::of(&[member, double_text(score).as_bytes()]));
                });
            }
            Value::Stream(_) => {
                value.rows()?.each_row(&mut |element, bytes| digest.mix(Digest::of(&[element, bytes])));
            }
            Value::OnDisk(_) => return None,
        }
        Some(digest)
    }

    /// As hexadecimal digits.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A hash of parts with their lengths (FNV-1a over words, then the mixer of SplitMix64). Good enough to tell data apart, not
/// against someone who wants two that are alike.
fn hash(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut state = seed;
    for part in parts {
        state = mixed(state ^ part.len() as u64);
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mixed(state ^ u64::from_le_bytes(word));
        }
    }
    state
}

fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_mixing_does_not_matter_and_parts_do() {
        let (one, other) = (Digest::of(&[b"a", b"b"]), Digest::of(&[b"ab", b""]));
        assert_ne!(one, other);
        let (mut left, mut right) = (one, other);
        left.mix(other);
        right.mix(one);
        assert_eq!(left, right);
        assert_eq!(one.text().len(), 40);
        assert_eq!(Digest::default().text(), "0".repeat(40));
    }
}
