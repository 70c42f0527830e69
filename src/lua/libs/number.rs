//! Numbers as text, and back, as C's `printf` and `strtod` do it.

use std::fmt;
use std::fmt::Write;

/// A number as text, in the frame of who asks.
pub(crate) struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl Text {
    const EMPTY: Text = Text { bytes: [0; 48], length: 0 };

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

/// `%.14g`, with 1 to 17 digits.
pub(crate) fn general(number: f64, digits: usize) -> Text {
    let mut text = Text::EMPTY;
    if number.trunc() == number && number.abs() < POWERS[digits] && (number != 0.0 || number.is_sign_positive()) {
        text.extend(itoa::Buffer::new().format(number as i64).as_bytes());
        return text;
    }
    if number.is_sign_negative() {
        text.push(b'-');
    }
    if !number.is_finite() {
        text.extend(if number.is_nan() { b"nan" } else { b"inf" });
        return text;
    }
    let mut scientific = Text::EMPTY;
    // They fit, and writing them cannot fail. The shortest text that is this number is the quicker one, and where it has no more than 15 digits
    // it is nearer to the number than any other of as many.
    let _ = write!(scientific, "{:e}", number.abs());
    let is_short = scientific.bytes().iter().position(|byte| *byte == b'e').is_some_and(|length| length <= digits.min(15) + 1);
    if !is_short || !number.is_normal() {
        scientific = Text::EMPTY;
        let _ = write!(scientific, "{:.*e}", digits - 1, number.abs());
    }
    shape(&mut text, scientific.bytes(), digits);
    text
}

/// Writes what stands as `d.ddde-x` as C does: with an exponent only where it is far from the digits, and without zeros at the end.
fn shape(text: &mut Text, scientific: &[u8], digits: usize) {
    let at = scientific.iter().position(|byte| *byte == b'e').expect("it is written with an exponent");
    let exponent: i32 = std::str::from_utf8(&scientific[at + 1..]).ok().and_then(|text| text.parse().ok()).expect("so is this");
    let (first, rest) = (scientific[0], trimmed(scientific.get(2..at).unwrap_or_default()));
    if exponent < -4 || exponent >= digits as i32 {
        text.push(first);
        push_fraction(text, rest);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        text.extend(&b"0.000"[..1 + exponent.unsigned_abs() as usize]);
        text.push(first);
        text.extend(rest);
    } else {
        let (whole, fraction) = rest.split_at(rest.len().min(exponent as usize));
        text.push(first);
        text.extend(whole);
        (whole.len()..exponent as usize).for_each(|_| text.push(b'0'));
        push_fraction(text, fraction);
    }
}

fn push_fraction(text: &mut Text, digits: &[u8]) {
    if !digits.is_empty() {
        text.push(b'.');
        text.extend(digits);
    }
}

fn trimmed(digits: &[u8]) -> &[u8] {
    let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    &digits[..end]
}

/// The first whole number that needs more digits than these.
const POWERS: [f64; 18] = [
    1e0,
    1e1,
    1e2,
    1e3,
    1e4,
    1e5,
    1e6,
    1e7,
    1e8,
    1e9,
    1e10,
    1e11,
    1e12,
    1e13,
    1e14,
    1e15,
    9_007_199_254_740_992.0,
    9_007_199_254_740_992.0,
];

/// The number that these bytes begin with and how long it is, as `strtod` sees it where there is no space before: also hexadecimal ones,
/// infinity, and what is no number.
pub(crate) fn parse(bytes: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let rest = &bytes[sign..];
    let (number, length) = word(rest).or_else(|| hexadecimal(rest)).or_else(|| decimal(rest))?;
    let number = if bytes[0] == b'-' { -number } else { number };
    Some((number, sign + length))
}

fn word(bytes: &[u8]) -> Option<(f64, usize)> {
    let begins = |word: &[u8]| bytes.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"infinity") {
        Some((f64::INFINITY, 8))
    } else if begins(b"inf") {
        Some((f64::INFINITY, 3))
    } else if begins(b"nan") {
        Some((f64::NAN, 3 + braces(&bytes[3..])))
    } else {
        None
    }
}

/// How long what may follow `nan` is; it says nothing.
fn braces(bytes: &[u8]) -> usize {
    let Some(b'(') = bytes.first() else { return 0 };
    let inside = bytes[1..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    if bytes.get(1 + inside) == Some(&b')') { inside + 2 } else { 0 }
}

fn decimal(bytes: &[u8]) -> Option<(f64, usize)> {
    let whole = count_digits(bytes);
    // The most that are numbers in JSON.
    if (1..=15).contains(&whole) && !matches!(bytes.get(whole), Some(b'.' | b'e' | b'E')) {
        let number = bytes[..whole].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        return Some((number as f64, whole));
    }
    let mut length = whole;
    if bytes.get(whole) == Some(&b'.') {
        let fraction = count_digits(&bytes[whole + 1..]);
        if whole + fraction == 0 {
            return None;
        }
        length += 1 + fraction;
    }
    if length == 0 {
        return None;
    }
    length += exponent(&bytes[length..], *b"eE").map_or(0, |(_, length)| length);
    let text = std::str::from_utf8(&bytes[..length]).expect("they are digits and signs");
    Some((text.parse().expect("it has the form of a number"), length))
}

/// What stands behind `e` or `p`, and how long both are.
fn exponent(bytes: &[u8], letters: [u8; 2]) -> Option<(i64, usize)> {
    bytes.first().filter(|byte| letters.contains(byte))?;
    let sign = usize::from(matches!(bytes.get(1), Some(b'-' | b'+')));
    let digits = bytes.get(1 + sign..).map_or(0, count_digits);
    if digits == 0 {
        return None;
    }
    let of = |number: i64, digit: &u8| number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let number = bytes[1 + sign..1 + sign + digits].iter().fold(0, of);
    Some((if bytes[1] == b'-' { -number } else { number }, 1 + sign + digits))
}

fn count_digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn hexadecimal(bytes: &[u8]) -> Option<(f64, usize)> {
    if bytes.first() != Some(&b'0') || !matches!(bytes.get(1), Some(b'x' | b'X')) {
        return None;
    }
    let (mut mantissa, mut power, mut is_inexact) = (0_u64, 0_i64, false);
    let (mut length, mut digits, mut point) = (2, 0, None);
    while let Some(byte) = bytes.get(length) {
        if let Some(digit) = char::from(*byte).to_digit(16) {
            digits += 1;
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
            } else {
                is_inexact |= digit != 0;
                power += 4;
            }
            power -= if point.is_some() { 4 } else { 0 };
        } else if *byte == b'.' && point.is_none() {
            point = Some(length);
        } else {
            break;
        }
        length += 1;
    }
    if digits == 0 {
        return None;
    }
    if let Some((number, more)) = exponent(&bytes[length..], *b"pP") {
        power = power.saturating_add(number);
        length += more;
    }
    Some((scaled(mantissa, is_inexact, power), length))
}

/// `mantissa * 2^power`, rounded once, to even; `is_inexact`: a little more than that.
fn scaled(mantissa: u64, is_inexact: bool, power: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let power = power.clamp(-4000, 4000) as i32;
    let bits = 64 - mantissa.leading_zeros() as i32;
    // The exponent of the lowest bit that a double has there.
    let lowest = (bits + power - 53).max(-1074);
    let drop = lowest - power;
    let rounded = match drop {
        ..=0 => mantissa,
        1..=64 => round(mantissa, drop as u32, is_inexact),
        _ => 0,
    };
    let power = if drop > 0 { lowest } else { power };
    let half = power.clamp(-2000, 2000) / 2;
    rounded as f64 * 2_f64.powi(half) * 2_f64.powi(power.clamp(-2000, 2000) - half)
}

fn round(mantissa: u64, drop: u32, is_inexact: bool) -> u64 {
    let kept = mantissa.checked_shr(drop).unwrap_or(0);
    let lost = u128::from(mantissa) & ((1_u128 << drop) - 1);
    let half = 1_u128 << (drop - 1);
    let is_up = lost > half || lost == half && (is_inexact || kept & 1 == 1);
    kept + u64::from(is_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_c_does() {
        let table: &[(f64, usize, &str)] = &[
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (-2.5, 14, "-2.5"),
            (3.25, 14, "3.25"),
            (0.1 + 0.2, 14, "0.3"),
            (1e14, 14, "1e+14"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (1e-5, 14, "1e-05"),
            (0.000_123_4, 14, "0.0001234"),
            (1.797_693_134_862_315_7e308, 14, "1.7976931348623e+308"),
            (123_456.0, 3, "1.23e+05"),
            (999.9, 3, "1e+03"),
            (99.99, 3, "100"),
            (5e-324, 14, "4.9406564584125e-324"),
            (1e15, 17, "1000000000000000"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ];
        for (number, digits, text) in table {
            assert_eq!(String::from_utf8_lossy(general(*number, *digits).bytes()), *text, "{number:e} with {digits} digits");
        }
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        let table: &[(&str, Option<(f64, usize)>)] = &[
            ("12]", Some((12.0, 2))),
            ("-0", Some((-0.0, 2))),
            ("1.", Some((1.0, 2))),
            ("-.5,", Some((-0.5, 3))),
            (".", None),
            ("-", None),
            ("", None),
            ("1e", Some((1.0, 1))),
            ("1e+", Some((1.0, 1))),
            ("1.5e-3x", Some((0.0015, 6))),
            ("1e999", Some((f64::INFINITY, 5))),
            ("123456789012345678", Some((123_456_789_012_345_680.0, 18))),
            ("0x", Some((0.0, 1))),
            ("0x10", Some((16.0, 4))),
            ("0x.8p1", Some((1.0, 6))),
            ("0x1p-1074", Some((5e-324, 9))),
            ("0x1p-1075", Some((0.0, 9))),
            ("0x1.8p-1075", Some((5e-324, 11))),
            ("0x1fffffffffffff8", Some((144_115_188_075_855_870.0, 17))),
            ("0x1p99999999999", Some((f64::INFINITY, 15))),
            ("infinit", Some((f64::INFINITY, 3))),
            ("-Infinity", Some((f64::NEG_INFINITY, 9))),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()), *expected, "{text}");
        }
        let (number, length) = parse(b"nan(12_a)").expect("it is one");
        assert!(number.is_nan() && length == 9);
        assert_eq!(parse(b"nan(-").map(|(_, length)| length), Some(3));
    }
}
