//! Writes replies in the protocol the client speaks. Commands say what they mean (a map, a double, a null) and RESP2
//! clients get what Redis gives them in its place.
//!
//! A long reply is a list of pieces, each filled to its end: none of it is copied as it grows, and what was sent is freed piece by piece.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;

/// A reply up to this long is one piece, which grows as a vector does. All but few replies are far shorter.
const WHOLE_BYTES: usize = 256 * 1024;
/// The longest piece after the first: it takes longer to fill than to allocate, and is little to hold on to until it is sent.
const PIECE_BYTES: usize = 1024 * 1024;
/// The last piece has room for this part of what is there, so that no reply takes much more than its bytes.
const SPARE_PART: usize = 8;
/// What comes after a string.
const LINE_END: usize = 2;

/// The protocol a client speaks; chosen with `HELLO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What every client starts with.
    #[default]
    Resp2,
    /// Maps, sets, doubles, booleans, nulls and pushes of their own.
    Resp3,
}

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub struct Reply {
    /// The pieces before the last. Invariant: none is empty.
    full: VecDeque<Vec<u8>>,
    /// How many bytes those are.
    full_bytes: usize,
    /// The last piece.
    bytes: Vec<u8>,
    protocol: Protocol,
}

impl Reply {
    /// An empty reply.
    pub fn new(protocol: Protocol) -> Reply {
        Reply { protocol, ..Reply::default() }
    }

    /// The protocol it is written in.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From here on, writes in this protocol.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether it is written in RESP3.
    pub(crate) fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// How many bytes were written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.full_bytes + self.bytes.len()
    }

    /// What was written, copied where it is in pieces.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        self.last(self.len())
    }

    /// The last bytes that were written, copied where they are in pieces.
    pub(crate) fn last(&self, count: usize) -> Cow<'_, [u8]> {
        match self.bytes.len().checked_sub(count) {
            Some(start) => Cow::Borrowed(&self.bytes[start..]),
            None => Cow::Owned(self.pieces().flatten().skip(self.len() - count).copied().collect()),
        }
    }

    /// Bytes that were written, from one place to another; fewer than that where a piece ends.
    #[inline]
    pub(crate) fn part(&self, from: usize, to: usize) -> &[u8] {
        let mut start = 0;
        for piece in &self.full {
            if from < start + piece.len() {
                return &piece[from - start..piece.len().min(to - start)];
            }
            start += piece.len();
        }
        &self.bytes[from - start..to - start]
    }

    /// The room there is for it. Pieces before the last have none to spare.
    pub(crate) fn capacity(&self) -> usize {
        self.full_bytes + self.bytes.capacity()
    }

    /// Takes what was written.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut all = match self.full.pop_front() {
            Some(first) => first,
            None => return mem::take(&mut self.bytes),
        };
        all.reserve_exact(self.len() - all.len());
        while let Some(piece) = self.full.pop_front() {
            all.extend_from_slice(&piece);
        }
        all.append(&mut self.bytes);
        (self.full_bytes, self.bytes) = (0, Vec::new());
        all
    }

    /// Frees the pieces among the first bytes, which were sent, and tells how many bytes those were. If all was sent, keeps a last
    /// piece of up to `keep_bytes` to be written to again.
    pub(crate) fn drop_sent(&mut self, sent: usize, keep_bytes: usize) -> usize {
        let mut dropped = 0;
        while let Some(piece) = self.full.pop_front_if(|piece| dropped + piece.len() <= sent) {
            dropped += piece.len();
        }
        self.full_bytes -= dropped;
        if sent < dropped + self.len() {
            return dropped;
        }
        dropped += self.bytes.len();
        self.bytes.clear();
        if self.bytes.capacity() > keep_bytes {
            self.bytes = Vec::new();
        }
        dropped
    }

    /// Puts bytes that are already a reply between others.
    pub(crate) fn insert(&mut self, place: usize, bytes: &[u8]) {
        let mut start = 0;
        for piece in &mut self.full {
            if place < start + piece.len() {
                // Pieces before the last have no room to spare, before and after.
                piece.reserve_exact(bytes.len());
                piece.splice(place - start..place - start, bytes.iter().copied());
                self.full_bytes += bytes.len();
                return;
            }
            start += piece.len();
        }
        self.bytes.splice(place - start..place - start, bytes.iter().copied());
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.put(b"+OK\r\n");
    }

    /// A short text that must hold no line end.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code and text, without the leading `-`. Line ends around it go, those within become spaces.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text.trim_matches(['\r', '\n']).replace(['\r', '\n'], " ").as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, number: i64) {
        if (0..10).contains(&number) {
            self.put(&[b':', b'0' + number as u8, b'\r', b'\n']);
        } else {
            self.number(b':', number);
        }
    }

    /// A count as an integer.
    #[inline]
    pub(crate) fn count(&mut self, count: usize) {
        self.int(count as i64);
    }

    /// Bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len() as i64);
        self.put(bytes);
        self.put(b"\r\n");
    }

    /// The digits of an integer as bytes, as `GET` gives a number.
    pub(crate) fn bulk_int(&mut self, number: i64) {
        self.bulk(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Text that RESP3 clients may show as it is; bytes in RESP2. `format` is three letters, such as `txt`.
    pub(crate) fn verbatim(&mut self, format: &str, text: &str) {
        if self.is_resp3() {
            self.number(b'=', text.len() as i64 + 4);
            self.put(format.as_bytes());
            self.put(b":");
            self.put(text.as_bytes());
            self.put(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// No value.
    #[inline]
    pub(crate) fn null(&mut self) {
        self.put(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No value where an array would stand.
    pub(crate) fn null_array(&mut self) {
        self.put(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// An array; its `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// A map; `pairs` times a key and a value follow. An array of twice the length in RESP2.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.is_resp3() { self.number(b'%', pairs as i64) } else { self.array(pairs * 2) }
    }

    /// Pairs in a flat array, in both protocols; `pairs` times a name and a value follow.
    pub(crate) fn map_of_array(&mut self, pairs: usize) {
        self.array(pairs * 2);
    }

    /// A set; its `len` members follow. An array in RESP2.
    pub(crate) fn set(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// A message the client did not ask for; its `len` elements follow. An array in RESP2.
    pub(crate) fn push(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A floating-point number; bytes in RESP2.
    pub(crate) fn double(&mut self, number: f64) {
        if let Some(whole) = whole(number) {
            return if self.is_resp3() { self.number(b',', whole) } else { self.bulk_int(whole) };
        }
        let text = precise_text(number);
        if self.is_resp3() { self.line(b',', text.as_bytes()) } else { self.bulk(text.as_bytes()) }
    }

    /// True or false; 1 or 0 in RESP2.
    pub(crate) fn boolean(&mut self, value: bool) {
        if self.is_resp3() {
            self.put(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(value));
        }
    }

    /// Bytes that are already a reply.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    /// What is in another reply; its pieces are freed one by one.
    pub(crate) fn append(&mut self, other: Reply) {
        other.full.into_iter().chain([other.bytes]).for_each(|piece| self.put(&piece));
    }

    /// A place to return to; see [`Self::insert_array`] and [`Self::truncate`].
    pub(crate) fn mark(&self) -> usize {
        self.len()
    }

    /// Takes back all that was written since a mark.
    pub(crate) fn truncate(&mut self, mark: usize) {
        while mark < self.full_bytes {
            self.bytes = self.full.pop_back().expect("those bytes are in it");
            self.full_bytes -= self.bytes.len();
        }
        self.bytes.truncate(mark - self.full_bytes);
    }

    /// Makes what was written since a mark the elements of an array, for when their number is only known afterwards.
    pub(crate) fn insert_array(&mut self, mark: usize, len: usize) {
        self.insert_head(mark, |reply| reply.array(len));
    }

    /// Makes what was written since a mark the pairs of a map. In RESP2 it must be arrays of two, and becomes an array of those.
    pub(crate) fn insert_map(&mut self, mark: usize, pairs: usize) {
        self.insert_head(mark, |reply| if reply.is_resp3() { reply.map(pairs) } else { reply.array(pairs) });
    }

    fn insert_head(&mut self, mark: usize, write: impl FnOnce(&mut Reply)) {
        let mut head = Reply::new(self.protocol);
        write(&mut head);
        self.insert(mark, &head.bytes);
    }

    fn pieces(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.full.iter().chain([&self.bytes])
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.bytes.capacity() - self.bytes.len() {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.put_beyond(bytes);
        }
    }

    /// Writes what the last piece has no room for.
    #[cold]
    fn put_beyond(&mut self, mut bytes: &[u8]) {
        if self.len() + bytes.len() <= WHOLE_BYTES {
            self.bytes.reserve(bytes.len() + LINE_END);
            return self.bytes.extend_from_slice(bytes);
        }
        loop {
            let room = self.bytes.capacity() - self.bytes.len();
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(fits);
            if rest.is_empty() {
                return;
            }
            let room = (rest.len() + LINE_END).max((self.len() + rest.len()) / SPARE_PART).min(PIECE_BYTES);
            let full = mem::replace(&mut self.bytes, Vec::with_capacity(room));
            if !full.is_empty() {
                self.full_bytes += full.len();
                self.full.push_back(full);
            }
            bytes = rest;
        }
    }

    #[inline]
    fn number(&mut self, kind: u8, number: i64) {
        self.put(&[kind]);
        self.put(itoa::Buffer::new().format(number).as_bytes());
        self.put(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.put(&[kind]);
        self.put(text);
        self.put(b"\r\n");
    }
}

/// A double as Redis prints it where it is short: the shortest digits that read back the same, whole numbers without a point, `inf`, `-inf`, `nan`.
pub(crate) fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.into();
    }
    if let Some(whole) = whole(number) {
        return itoa::Buffer::new().format(whole).into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a whole exponent");
    // As C's `%.17g` chooses: plain digits unless the exponent is below -4 or at least 17.
    if (-4..17).contains(&exponent) {
        format!("{number}")
    } else {
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

/// A double as Redis 7.0 answers with it, and as its test suite wants it: C's `%.17g`, 17 digits without zeros at the end. Redis 7.2
/// leaves out digits that are not needed to read the same number back.
pub(crate) fn precise_text(number: f64) -> String {
    if !number.is_finite() || number == 0.0 || whole(number).is_some() {
        return double_text(number);
    }
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a whole exponent");
    if (-4..17).contains(&exponent) {
        let fixed = format!("{number:.*}", (16 - exponent) as usize);
        let digits = if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.') } else { &fixed };
        digits.into()
    } else {
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

/// A whole number of up to 17 digits, which are all shown although fewer would read back the same.
fn whole(number: f64) -> Option<i64> {
    let is_whole = number.trunc() == number && number.abs() < 1e17 && !(number == 0.0 && number.is_sign_negative());
    is_whole.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How long a value is, so that its ends and those of pieces meet in many ways.
    fn value_bytes() -> impl Strategy<Value = usize> {
        prop_oneof![0..100usize, 30_000..300_000usize, Just(WHOLE_BYTES), Just(PIECE_BYTES), Just(3 * PIECE_BYTES)]
    }

    fn bulk_of(bytes: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
    }

    /// Sends all of it in steps, and frees what was sent after each.
    fn send(mut reply: Reply, step: usize) -> Vec<u8> {
        let (mut sent, mut all) = (0, Vec::new());
        while sent < reply.len() {
            let part = reply.part(sent, reply.len().min(sent + step));
            all.extend_from_slice(part);
            sent += part.len();
            sent -= reply.drop_sent(sent, WHOLE_BYTES);
            // A piece into which something was put is longer by that.
            assert!(sent <= PIECE_BYTES + 100 && reply.capacity() <= reply.len() + PIECE_BYTES, "what was sent is kept");
        }
        all
    }

    #[test]
    fn a_long_reply_takes_little_more_than_its_bytes() {
        for value_bytes in [1, 100, 10_000, 1_000_000, 40_000_000] {
            let value = vec![b'v'; value_bytes];
            let mut reply = Reply::new(Protocol::Resp2);
            while reply.len() < 20 << 20 {
                reply.bulk(&value);
                let fits = reply.capacity() * 10 <= reply.len() * 13;
                assert!(fits || reply.len() < 2 * WHOLE_BYTES, "{} for {} of {value_bytes}", reply.capacity(), reply.len());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_reply_in_pieces_is_what_was_written(
            values in prop::collection::vec((value_bytes(), 0..4u8), 1..8),
            step in 1_000..3_000_000usize,
        ) {
            let (mut reply, mut expected) = (Reply::new(Protocol::Resp2), Vec::new());
            for (number, (len, what)) in values.into_iter().enumerate() {
                let value = vec![b'a' + number as u8; len];
                let mark = reply.mark();
                reply.bulk(&value);
                match what {
                    0 => reply.truncate(mark),
                    1 => {
                        reply.insert_array(mark, 1);
                        expected.extend_from_slice(b"*1\r\n");
                        expected.extend(bulk_of(&value));
                    }
                    2 => {
                        prop_assert_eq!(&reply.last(len + 2)[..len], &value);
                        expected.extend(bulk_of(&value));
                    }
                    _ => {
                        reply.insert(mark / 2, b"between");
                        expected.splice(mark / 2..mark / 2, *b"between");
                        expected.extend(bulk_of(&value));
                    }
                }
            }
            prop_assert!(*reply.bytes() == expected);
            let mut copy = Reply::new(Protocol::Resp2);
            copy.raw(&expected);
            prop_assert!(copy.take() == expected && copy.bytes().is_empty());
            copy.append(reply);
            prop_assert!(send(copy, step) == expected);
        }
    }

    #[test]
    fn doubles_print_as_redis_prints_them() {
        for (number, text) in [
            (3.0, "3"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (1e17, "1e+17"),
            (1e16, "10000000000000000"),
            (-39999999999998232.0, "-39999999999998232"),
            (-0.0, "-0"),
            (1e-5, "1e-05"),
            (f64::INFINITY, "inf"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(double_text(number), text);
        }
        for (number, text) in [
            (0.1, "0.10000000000000001"),
            (0.366_272_304_377_645_4, "0.36627230437764541"),
            (-1.5, "-1.5"),
            (1e17, "1e+17"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5000000000000001e+300"),
            (1e23, "9.9999999999999992e+22"),
            (12345678.9, "12345678.9"),
            (3.0, "3"),
            (-0.0, "-0"),
        ] {
            assert_eq!(precise_text(number), text);
        }
    }
}
