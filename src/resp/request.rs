//! Reads requests: arrays of bulk strings, and inline commands as a person types them. A request that has only partly
//! arrived is taken up where it stopped, and no more is allocated than what arrived.

use std::fmt;
use std::ops::{Index, Range};

use smallvec::SmallVec;

/// Arguments above which a request is refused, as in Redis.
const ARGS_MAX: i64 = i32::MAX as i64;
/// What a client that has not given its password may send: arguments, and bytes in one of them.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BYTES_MAX: i64 = 16384;
/// Bytes of an inline request, or of a line that gives a length.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Requests read ahead at most: enough that waits for memory overlap, few enough that what was fetched is still there.
pub(crate) const AHEAD_MAX: usize = 16;
/// Room for arguments that is kept from one request to the next: most have fewer.
const KEEP_ARGS: usize = 1024;

/// Why a client's bytes are not a request. The connection is closed after the error is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// They are wrong in this way.
    #[error("ERR Protocol error: {0}")]
    Wrong(String),
    /// They are HTTP or TLS: a browser may send them for a page of strangers, and what follows may be the page's.
    #[error("{FOREIGN}")]
    Foreign,
}

/// What a client is told that speaks HTTP or TLS. It is closed then.
pub(crate) const FOREIGN: &str = "ERR Protocol error: this port is for clients of Redis, and takes neither HTTP nor TLS";

/// A TLS connection begins with these bytes, the type of a record and its version. A page of strangers knows what follows in part: the
/// session ticket is its own server's.
const TLS: &[u8] = &[0x16, 0x03];

fn wrong(text: impl Into<String>) -> ProtocolError {
    ProtocolError::Wrong(text.into())
}

/// Whether a line is the first one of a request over HTTP: `GET /path HTTP/1.1`, with any method and target.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let version = words.next_back().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..]) && words.count() >= 1
}

/// Whether a command is one that no client sends: how the first line of a form posted by a browser begins, or the header that every
/// request over HTTP has.
pub(crate) fn is_foreign(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// The arguments of a request, its name first, borrowed from the bytes that arrived.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

/// Not what they are: one may be a password.
impl fmt::Debug for Args<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} arguments", self.len())
    }
}

impl<'a> Args<'a> {
    /// How many there are, the name among them.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none at all.
    pub(crate) fn is_empty(self) -> bool {
        self.ranges.is_empty()
    }

    /// An argument, if there are that many.
    #[inline]
    pub(crate) fn get(self, at: usize) -> Option<&'a [u8]> {
        self.ranges.get(at).map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// An argument that is known to be there.
    #[inline]
    pub fn at(self, at: usize) -> &'a [u8] {
        let (start, end) = self.ranges[at];
        &self.bytes[start as usize..end as usize]
    }

    /// All of them in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        self.ranges.iter().map(move |&(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// Those from `start` on.
    pub(crate) fn from(self, start: usize) -> Args<'a> {
        self.slice(start..self.len())
    }

    /// Those in a range, which must not reach past the end.
    pub(crate) fn slice(self, range: Range<usize>) -> Args<'a> {
        Args { bytes: self.bytes, ranges: &self.ranges[range] }
    }

    /// Whether an argument is this word, in any case.
    #[inline]
    pub(crate) fn is(self, at: usize, word: &str) -> bool {
        self.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// A copy that stands on its own.
    pub(crate) fn to_owned(self) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        owned.set(self.iter());
        owned
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, at: usize) -> &[u8] {
        (*self).at(at)
    }
}

/// Arguments with bytes of their own: of a queued command, or of one made in process.
#[derive(Clone, Default)]
pub struct OwnedArgs {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl fmt::Debug for OwnedArgs {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.args().fmt(to)
    }
}

impl OwnedArgs {
    /// From arguments in order, the name first.
    pub fn new<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        args.into_iter().for_each(|arg| owned.push(arg));
        owned
    }

    /// Puts these in the place of those there were, and keeps the room.
    pub(crate) fn set<'a>(&mut self, args: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        self.bytes.clear();
        self.ranges.clear();
        self.bytes.reserve_exact(args.clone().map(<[u8]>::len).sum());
        self.ranges.reserve_exact(args.len());
        args.for_each(|arg| self.push(arg));
    }

    /// Adds an argument.
    pub(crate) fn push(&mut self, arg: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(arg);
        self.ranges.push((start, self.bytes.len() as u32));
    }

    /// The arguments.
    pub fn args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, ranges: &self.ranges }
    }

    /// Bytes it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ranges.capacity() * 8
    }
}

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `proto-max-bulk-len`: bytes in one argument.
    pub bulk_bytes_max: u64,
    /// Whether it has given its password, or needs none.
    pub is_authenticated: bool,
}

/// Takes requests off a growing buffer of bytes.
#[derive(Debug, Default)]
pub struct Parser {
    ranges: Vec<(u32, u32)>,
    /// Whole requests that were read ahead, and how many of them were taken.
    ahead: SmallVec<[Ahead; AHEAD_MAX]>,
    taken: usize,
    /// Arguments still to come of a request that has begun.
    missing: Option<usize>,
    /// Where to go on reading.
    at: usize,
    /// Whether a request has come before.
    has_begun: bool,
    /// An inline request's arguments, when quotes made them differ from the bytes that arrived.
    unquoted: Option<OwnedArgs>,
}

/// A request read ahead.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    /// Where its arguments end among the ranges; they begin where those of the one before end.
    ranges_end: usize,
    /// Where it ends.
    at: usize,
}

impl Parser {
    /// Reads the next requests that are complete in `bytes` without taking them, if none that was read ahead is left; tells
    /// whether it did so. Leaves long ones and all that is no plain array to [`Self::next`]. Where a command
    /// changes the limits, they hold from the first request on that was not read ahead.
    #[inline]
    pub(crate) fn look_ahead(&mut self, bytes: &[u8], limits: Limits) -> bool {
        if self.taken < self.ahead.len() || self.missing.is_some() {
            return false;
        }
        self.forget_ahead();
        self.ranges.clear();
        let start = self.at;
        while self.ahead.len() < AHEAD_MAX && self.array(bytes, limits) {
            self.ahead.push(Ahead { ranges_end: self.ranges.len(), at: self.at });
        }
        (self.missing, self.at) = (None, start);
        true
    }

    /// The requests that were read ahead and not taken.
    pub(crate) fn ahead<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Args<'a>> {
        (self.taken..self.ahead.len()).map(move |number| self.args_ahead(number, bytes))
    }

    #[inline]
    fn args_ahead<'a>(&'a self, number: usize, bytes: &'a [u8]) -> Args<'a> {
        let start = number.checked_sub(1).map_or(0, |before| self.ahead[before].ranges_end);
        Args { bytes, ranges: &self.ranges[start..self.ahead[number].ranges_end] }
    }

    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.taken = 0;
    }

    /// Reads an array that is complete and in order.
    fn array(&mut self, bytes: &[u8], limits: Limits) -> bool {
        if bytes.get(self.at) != Some(&b'*') {
            return false;
        }
        match self.line_int(bytes, "", "") {
            Ok(Some(count)) if (1..=UNAUTHENTICATED_ARGS_MAX).contains(&count) => self.missing = Some(count as usize),
            _ => return false,
        }
        matches!(self.bulks(bytes, limits), Ok(true))
    }

    /// Where the next request begins, or how far a partial one was read: bytes before it that no request needs may be dropped with [`Self::consumed`].
    pub fn consumed(&mut self) -> usize {
        self.forget_ahead();
        if self.missing.is_some() {
            return 0;
        }
        if self.ranges.capacity() > KEEP_ARGS {
            self.ranges = Vec::new();
        }
        std::mem::take(&mut self.at)
    }

    /// Where in the bytes the request that is next, or has begun, begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Whether bytes are there that were not read yet.
    pub(crate) fn has_more(&self, bytes: &[u8]) -> bool {
        self.missing.is_none() && self.at < bytes.len()
    }

    /// Reads the next request that is complete in `bytes`; None until more have arrived. Empty requests are passed over.
    #[inline]
    pub fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Option<Args<'a>>, ProtocolError> {
        if let Some(ahead) = self.ahead.get(self.taken) {
            self.at = ahead.at;
            self.taken += 1;
            self.has_begun = true;
            return Ok(Some(self.args_ahead(self.taken - 1, bytes)));
        }
        self.forget_ahead();
        loop {
            if self.missing.is_none() {
                self.ranges.clear();
                match bytes.get(self.at) {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = self.line_int(bytes, "too big mbulk count string", "invalid multibulk length")? else {
                            return Ok(None);
                        };
                        if count > ARGS_MAX {
                            return Err(wrong("invalid multibulk length"));
                        }
                        if count > UNAUTHENTICATED_ARGS_MAX && !limits.is_authenticated {
                            return Err(wrong("unauthenticated multibulk length"));
                        }
                        if count <= 0 {
                            continue;
                        }
                        self.missing = Some(count as usize);
                    }
                    Some(_) => {
                        if !self.inline(bytes)? {
                            return Ok(None);
                        }
                        match &self.unquoted {
                            Some(args) if args.args().is_empty() => continue,
                            _ => break,
                        }
                    }
                }
            }
            if !self.bulks(bytes, limits)? {
                return Ok(None);
            }
            self.missing = None;
            self.unquoted = None;
            break;
        }
        self.has_begun = true;
        Ok(Some(match &self.unquoted {
            Some(owned) => owned.args(),
            None => Args { bytes, ranges: &self.ranges },
        }))
    }

    /// Reads the arguments still missing; false if they have not all arrived.
    fn bulks(&mut self, bytes: &[u8], limits: Limits) -> Result<bool, ProtocolError> {
        while let Some(missing) = self.missing.filter(|missing| *missing > 0) {
            match bytes.get(self.at) {
                None => return Ok(false),
                Some(b'$') => {}
                Some(&other) => return Err(wrong(format!("expected '$', got '{}'", char::from(other)))),
            }
            let before = self.at;
            let Some(len) = self.line_int(bytes, "too big bulk count string", "invalid bulk length")? else { return Ok(false) };
            if len < 0 || len as u64 > limits.bulk_bytes_max || self.at as u64 + len as u64 > u64::from(u32::MAX) - 2 {
                return Err(wrong("invalid bulk length"));
            }
            if len > UNAUTHENTICATED_BYTES_MAX && !limits.is_authenticated {
                return Err(wrong("unauthenticated bulk length"));
            }
            let end = self.at + len as usize;
            if bytes.len() < end + 2 {
                self.at = before;
                return Ok(false);
            }
            self.ranges.push((self.at as u32, end as u32));
            self.at = end + 2;
            self.missing = Some(missing - 1);
        }
        Ok(true)
    }

    /// Reads the number between the byte at hand and the line's end; None if the line has not ended yet.
    #[inline]
    fn line_int(&mut self, bytes: &[u8], too_long: &str, invalid: &str) -> Result<Option<i64>, ProtocolError> {
        let line = &bytes[self.at + 1..];
        // The common case: one or two digits.
        if let [digit @ b'0'..=b'9', b'\r', b'\n', ..] = line {
            self.at += 4;
            return Ok(Some(i64::from(digit - b'0')));
        }
        if let [ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] = line {
            self.at += 5;
            return Ok(Some(i64::from(ten - b'0') * 10 + i64::from(one - b'0')));
        }
        let Some(end) = memchr::memchr(b'\r', &line[..line.len().min(LINE_BYTES_MAX)]) else {
            return if line.len() >= LINE_BYTES_MAX { Err(wrong(too_long)) } else { Ok(None) };
        };
        if line.len() < end + 2 {
            return Ok(None);
        }
        let text = std::str::from_utf8(&line[..end]).ok().filter(|text| !text.starts_with('+'));
        let number = text.and_then(|text| text.parse().ok()).ok_or_else(|| wrong(invalid))?;
        self.at += end + 3;
        Ok(Some(number))
    }

    /// Reads an inline request; false if its line has not ended yet.
    fn inline(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        let rest = &bytes[self.at..];
        if !self.has_begun && rest.starts_with(TLS) {
            return Err(ProtocolError::Foreign);
        }
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > LINE_BYTES_MAX { Err(wrong("too big inline request")) } else { Ok(false) };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        if !self.has_begun && is_http(line) {
            return Err(ProtocolError::Foreign);
        }
        let words = split_words(line).ok_or_else(|| wrong("unbalanced quotes in request"))?;
        self.at += end + 1;
        self.unquoted = Some(OwnedArgs::new(words.iter().map(Vec::as_slice)));
        Ok(true)
    }
}

/// Splits a line into words as `redis-cli` does: `"…"` with escapes, `'…'` nearly verbatim. None if quotes do not balance.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, after) = split_word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn split_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [b'"', tail @ ..] => {
                rest = double_quoted(tail, &mut word)?;
                break;
            }
            [b'\'', tail @ ..] => {
                rest = single_quoted(tail, &mut word)?;
                break;
            }
            [byte, tail @ ..] if byte.is_ascii_whitespace() || *byte == 0 => return Some((word, tail)),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
    // A closing quote must be followed by a space or nothing at all.
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some((word, rest))
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    loop {
        match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                word.push(hex(*high)? * 16 + hex(*low)?);
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Some(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bulk_bytes_max: 512 << 20, is_authenticated: true };

    fn all(bytes: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut requests) = (Parser::default(), Vec::new());
        while let Some(args) = parser.next(bytes, LIMITS)? {
            requests.push(args.iter().map(<[u8]>::to_vec).collect());
        }
        Ok(requests)
    }

    #[test]
    fn requests_come_out_whole_however_they_arrive() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\nPING \"a b\"\r\n*0\r\n\r\n*1\r\n$4\r\nPING\r\n";
        let whole = all(bytes).unwrap();
        assert_eq!(whole.len(), 3);
        let (mut parser, mut buffer, mut pieces) = (Parser::default(), Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(*byte);
            parser.look_ahead(&buffer, LIMITS);
            while let Some(args) = parser.next(&buffer, LIMITS).unwrap() {
                pieces.push(args.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            let consumed = parser.consumed();
            buffer.drain(..consumed);
        }
        assert_eq!(whole, pieces);
    }

    #[test]
    fn a_request_of_many_arguments_leaves_no_memory_behind() {
        let bytes = [b"*100000\r\n".to_vec(), b"$1\r\nx\r\n".repeat(100_000)].concat();
        let mut parser = Parser::default();
        assert_eq!(parser.next(&bytes, LIMITS).unwrap().unwrap().len(), 100_000);
        assert_eq!(parser.consumed(), bytes.len());
        assert!(parser.ranges.capacity() <= KEEP_ARGS);
    }

    #[test]
    fn requests_read_ahead_are_the_same_and_what_was_not_taken_comes_again() {
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let mut bytes = [&get[..]; AHEAD_MAX + 3].concat();
        bytes.extend_from_slice(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI");
        let whole = all(&bytes).unwrap();
        let (mut parser, mut requests, mut buffer) = (Parser::default(), Vec::<Vec<Vec<u8>>>::new(), bytes);
        let mut ahead = 0;
        loop {
            if parser.look_ahead(&buffer, LIMITS) {
                let shown: Vec<Vec<Vec<u8>>> =
                    parser.ahead(&buffer).map(|args| args.iter().map(<[u8]>::to_vec).collect()).collect();
                assert_eq!(shown, whole[requests.len()..requests.len() + shown.len()]);
                ahead += shown.len();
            }
            // Takes two at a time and gives back the rest.
            for _ in 0..2 {
                let Some(args) = parser.next(&buffer, LIMITS).unwrap() else {
                    assert_eq!(requests, whole);
                    assert!(ahead > AHEAD_MAX);
                    return;
                };
                requests.push(args.iter().map(<[u8]>::to_vec).collect());
            }
            let consumed = parser.consumed();
            buffer.drain(..consumed);
        }
    }

    #[test]
    fn bad_bytes_are_named() {
        for (bytes, text) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*1\r\n+x\r\n", "expected '$', got '+'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"GET \"x\r\n", "unbalanced quotes in request"),
            (b"*3000000000\r\n", "invalid multibulk length"),
        ] {
            assert_eq!(all(bytes).unwrap_err(), wrong(text));
        }
    }

    #[test]
    fn a_connection_that_begins_as_http_or_tls_is_told_from_all_others() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SET /a HTTP/1.1\nFLUSHALL\r\n",
            b"\r\n\r\nOPTIONS * HTTP/1.0\r\n",
            b"PUT /\"unbalanced HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"\x16\x03\nFLUSHALL\n",
        ] {
            assert_eq!(all(bytes).unwrap_err(), ProtocolError::Foreign, "{}", String::from_utf8_lossy(bytes));
        }
        for bytes in [
            // Values that happen to look so: where a client's own words come first, or as one sends them.
            &b"PING\r\nSET a HTTP/1.1\r\n"[..],
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8\r\nHTTP/1.1\r\n",
            b"*1\r\n$4\r\nPING\r\nGET HTTP/1\r\n",
            b"HTTP/1.1\r\n",
            b"SET a HTTP/\r\n",
            b"SET a http/1.1\r\n",
            b"\x16",
        ] {
            assert!(all(bytes).is_ok(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn arguments_do_not_print() {
        let args = OwnedArgs::new([&b"AUTH"[..], b"hunter2"]);
        assert_eq!(format!("{args:?} {:?}", args.args()), "2 arguments 2 arguments");
    }
}
