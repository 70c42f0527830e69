//! Writes replies in the protocol the client speaks. Commands say what they mean (a map, a double, a null) and RESP2
//! clients get what Redis gives them in its place.

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
    bytes: Vec<u8>,
    protocol: Protocol,
}

impl Reply {
    /// An empty reply.
    pub fn new(protocol: Protocol) -> Reply {
        Reply { bytes: Vec::new(), protocol }
    }

    /// The protocol it is written in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From here on, writes in this protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether it is written in RESP3.
    pub fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The room there is for it.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// What was written, to take from.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A short text that must hold no line end.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code and text, without the leading `-`. Line ends around it go, those within become spaces.
    pub fn error(&mut self, text: &str) {
        self.bytes.push(b'-');
        let text = text.trim_matches(['\r', '\n']);
        self.bytes.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, number: i64) {
        if (0..10).contains(&number) {
            self.bytes.extend_from_slice(&[b':', b'0' + number as u8, b'\r', b'\n']);
        } else {
            self.number(b':', number);
        }
    }

    /// A count as an integer.
    #[inline]
    pub fn count(&mut self, count: usize) {
        self.int(count as i64);
    }

    /// Bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 16);
        self.number(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// The digits of an integer as bytes, as `GET` gives a number.
    pub fn bulk_int(&mut self, number: i64) {
        self.bulk(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Text that RESP3 clients may show as it is; bytes in RESP2. `format` is three letters, such as `txt`.
    pub fn verbatim(&mut self, format: &str, text: &str) {
        if self.is_resp3() {
            self.number(b'=', text.len() as i64 + 4);
            self.bytes.extend_from_slice(format.as_bytes());
            self.bytes.push(b':');
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// No value.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No value where an array would stand.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// An array; its `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// A map; `pairs` times a key and a value follow. An array of twice the length in RESP2.
    pub fn map(&mut self, pairs: usize) {
        if self.is_resp3() { self.number(b'%', pairs as i64) } else { self.array(pairs * 2) }
    }

    /// Pairs in a flat array, in both protocols; `pairs` times a name and a value follow.
    pub fn map_of_array(&mut self, pairs: usize) {
        self.array(pairs * 2);
    }

    /// A set; its `len` members follow. An array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// A message the client did not ask for; its `len` elements follow. An array in RESP2.
    pub fn push(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A floating-point number; bytes in RESP2.
    pub fn double(&mut self, number: f64) {
        if let Some(whole) = whole(number) {
            return if self.is_resp3() { self.number(b',', whole) } else { self.bulk_int(whole) };
        }
        let text = precise_text(number);
        if self.is_resp3() { self.line(b',', text.as_bytes()) } else { self.bulk(text.as_bytes()) }
    }

    /// True or false; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        if self.is_resp3() {
            self.bytes.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(value));
        }
    }

    /// Bytes that are already a reply.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A place to return to; see [`Self::insert_array`] and [`Self::truncate`].
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back all that was written since a mark.
    pub fn truncate(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// Makes what was written since a mark the elements of an array, for when their number is only known afterwards.
    pub fn insert_array(&mut self, mark: usize, len: usize) {
        self.insert_head(mark, |reply| reply.array(len));
    }

    /// Makes what was written since a mark the pairs of a map. In RESP2 it must be arrays of two, and becomes an array of those.
    pub fn insert_map(&mut self, mark: usize, pairs: usize) {
        self.insert_head(mark, |reply| if reply.is_resp3() { reply.map(pairs) } else { reply.array(pairs) });
    }

    fn insert_head(&mut self, mark: usize, write: impl FnOnce(&mut Reply)) {
        let end = self.bytes.len();
        write(self);
        let head_bytes = self.bytes.len() - end;
        self.bytes[mark..].rotate_right(head_bytes);
    }

    #[inline]
    fn number(&mut self, kind: u8, number: i64) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A double as Redis prints it where it is short: the shortest digits that read back the same, whole numbers without a point, `inf`, `-inf`, `nan`.
pub fn double_text(number: f64) -> String {
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
pub fn precise_text(number: f64) -> String {
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
    use super::*;

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
