//! Sums as `INCRBYFLOAT` and `HINCRBYFLOAT` make them. Redis adds in C's `long double`, on x86-64 a binary number of 64
//! significant bits, and clients see its digits; so the same arithmetic is done here, in integers.

use num_bigint::BigUint;

/// Texts longer than this are no numbers to Redis either.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits after the point in a printed sum.
const DECIMALS: u32 = 17;
/// Two to a higher power than this is infinite.
const POWER_MAX: i32 = 16383;
/// Two to a lower power than this is zero.
const POWER_MIN: i32 = -16445;
/// Ten to a power further from zero than this is infinite or zero, whatever it is multiplied with.
const DECIMAL_POWER_MAX: i64 = 6000;

/// A number with 64 significant bits: `mantissa * 2^power`, negated if `is_negative`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongDouble {
    is_negative: bool,
    /// Invariant: its highest bit is set, or it is zero.
    mantissa: u64,
    power: i32,
}

impl LongDouble {
    /// Reads a number in any form that C's `strtold` reads all of; `nan` and what is too large or too small are refused.
    pub(crate) fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { is_negative, mantissa: 1 << 63, power: POWER_MAX });
        }
        let number = match unsigned {
            [b'0', b'x' | b'X', hexadecimal @ ..] => parse_hexadecimal(hexadecimal)?,
            decimal => parse_decimal(decimal)?,
        };
        let is_in_range = number.mantissa == 0 || (POWER_MIN..=POWER_MAX).contains(&(number.power + 63));
        is_in_range.then_some(LongDouble { is_negative, ..number })
    }

    /// Whether it is beyond all numbers.
    pub(crate) fn is_infinite(self) -> bool {
        self.mantissa != 0 && self.power + 63 > POWER_MAX
    }

    /// The sum, rounded to the nearest number, of two equally near ones to the even one.
    pub(crate) fn plus(self, other: LongDouble) -> LongDouble {
        if self.mantissa == 0 && other.mantissa == 0 {
            return LongDouble { is_negative: self.is_negative && other.is_negative, ..self };
        }
        if self.mantissa == 0 || other.is_infinite() {
            return other;
        }
        if other.mantissa == 0 || self.is_infinite() {
            return self;
        }
        let (large, small) = if self.power >= other.power { (self, other) } else { (other, self) };
        let apart = (large.power - small.power) as u32;
        let (one, two) = (u128::from(large.mantissa) << 63, shift_right(u128::from(small.mantissa) << 63, apart));
        let power = large.power - 63;
        if large.is_negative == small.is_negative {
            LongDouble { is_negative: large.is_negative, ..round(one + two, false, power) }
        } else {
            // What cancels out is a zero without a sign.
            LongDouble { is_negative: one != two && large.is_negative != (one < two), ..round(one.abs_diff(two), false, power) }
        }
    }

    /// The digits as Redis prints them: 17 after the point, without zeros at the end.
    pub(crate) fn text(self) -> String {
        if self.mantissa == 0 {
            return "0".into();
        }
        let sign = if self.is_negative { "-" } else { "" };
        if self.power >= 0 {
            return format!("{sign}{}", BigUint::from(self.mantissa) << self.power);
        }
        let scaled = u128::from(self.mantissa) * 10u128.pow(DECIMALS);
        let all = round_to_integer(scaled, self.power.unsigned_abs());
        let (whole, rest) = (all / 10u128.pow(DECIMALS), all % 10u128.pow(DECIMALS));
        match (whole, rest) {
            (0, 0) => "0".into(),
            (whole, 0) => format!("{sign}{whole}"),
            (whole, rest) => format!("{sign}{whole}.{}", format!("{rest:017}").trim_end_matches('0')),
        }
    }
}

fn parse_decimal(text: &[u8]) -> Option<LongDouble> {
    let (digits, point, rest) = take_digits(text, |byte| byte.is_ascii_digit());
    let exponent = take_exponent(rest, b'e')?;
    if digits.is_empty() {
        return None;
    }
    let significant = digits.iter().position(|&digit| digit != b'0').map_or(&[][..], |first| &digits[first..]);
    if significant.is_empty() {
        return Some(LongDouble { is_negative: false, mantissa: 0, power: 0 });
    }
    let power = exponent.saturating_sub(point as i64);
    let magnitude = power.saturating_add(significant.len() as i64);
    if magnitude.abs() > DECIMAL_POWER_MAX {
        return None;
    }
    Some(scale(significant, power as i32))
}

/// The digits as a number, times ten to a power.
fn scale(digits: &[u8], power: i32) -> LongDouble {
    let tens = power.unsigned_abs();
    if digits.len() <= 19 && tens <= 18 {
        let number = digits.iter().fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        let ten = 10u128.pow(tens);
        return if power >= 0 {
            round(number * ten, false, 0)
        } else {
            let shift = number.leading_zeros();
            let number = number << shift;
            round(number / ten, number % ten != 0, -(shift as i32))
        };
    }
    let number = BigUint::parse_bytes(digits, 10).expect("these are digits");
    let ten = BigUint::from(10u8).pow(tens);
    if power >= 0 {
        round_big(&(number * ten), false, 0)
    } else {
        // Enough bits that the quotient has more than are kept.
        let shift = (ten.bits() + 66).saturating_sub(number.bits());
        let number = number << shift;
        let quotient = &number / &ten;
        let is_exact = &quotient * &ten == number;
        round_big(&quotient, !is_exact, -(shift as i32))
    }
}

fn parse_hexadecimal(text: &[u8]) -> Option<LongDouble> {
    let (digits, point, rest) = take_digits(text, |byte| byte.is_ascii_hexdigit());
    let exponent = take_exponent(rest, b'p')?;
    if digits.is_empty() {
        return None;
    }
    let number = BigUint::parse_bytes(&digits, 16).expect("these are digits");
    let power = exponent.saturating_sub(4 * point as i64).clamp(-100_000, 100_000);
    Some(round_big(&number, false, power as i32))
}

/// Digits with at most one point among them, how many of them are after it, and what follows.
fn take_digits(text: &[u8], is_digit: impl Fn(&u8) -> bool) -> (Vec<u8>, usize, &[u8]) {
    let whole = text.iter().take_while(|byte| is_digit(byte)).count();
    let mut digits = text[..whole].to_vec();
    let [b'.', rest @ ..] = &text[whole..] else { return (digits, 0, &text[whole..]) };
    let after = rest.iter().take_while(|byte| is_digit(byte)).count();
    digits.extend_from_slice(&rest[..after]);
    (digits, after, &rest[after..])
}

/// The exponent that is all of what follows the digits; 0 if nothing does.
fn take_exponent(text: &[u8], letter: u8) -> Option<i64> {
    let [first, rest @ ..] = text else { return Some(0) };
    let (is_negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if first.to_ascii_lowercase() != letter || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if is_negative { -size } else { size })
}

/// Shifts right; the lowest bit tells whether anything was lost.
fn shift_right(number: u128, shift: u32) -> u128 {
    match shift {
        0 => number,
        1..128 => number >> shift | u128::from(number << (128 - shift) != 0),
        _ => u128::from(number != 0),
    }
}

/// `number / 2^shift`, rounded to the nearest integer, of two equally near ones to the even one.
fn round_to_integer(number: u128, shift: u32) -> u128 {
    if shift == 0 || shift >= 128 {
        return if shift == 0 { number } else { 0 };
    }
    let (floor, rest, half) = (number >> shift, number & ((1 << shift) - 1), 1 << (shift - 1));
    floor + u128::from(rest > half || rest == half && floor & 1 == 1)
}

/// The nearest number to `number * 2^power`, or to a little more than that if `has_more`.
fn round(number: u128, has_more: bool, power: i32) -> LongDouble {
    let bits = 128 - number.leading_zeros();
    if bits <= 64 {
        let shift = if number == 0 { 0 } else { 64 - bits };
        return LongDouble { is_negative: false, mantissa: (number as u64) << shift, power: power - shift as i32 };
    }
    let shift = bits - 64;
    let sticky = if has_more { 1 } else { 0 };
    // What was cut off counts as part of the lowest bit, which is below the half: at least 2 bits are dropped then.
    let rounded = round_to_integer(number | sticky, shift);
    if rounded >> 64 == 0 {
        LongDouble { is_negative: false, mantissa: rounded as u64, power: power + shift as i32 }
    } else {
        LongDouble { is_negative: false, mantissa: 1 << 63, power: power + shift as i32 + 1 }
    }
}

fn round_big(number: &BigUint, has_more: bool, power: i32) -> LongDouble {
    let shift = number.bits().saturating_sub(128);
    let is_cut = number.trailing_zeros().is_some_and(|zeros| zeros < shift);
    let top = u128::try_from(number >> shift).expect("it was cut to 128 bits");
    round(top, has_more || is_cut, power + shift as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, two: &str) -> String {
        LongDouble::parse(one.as_bytes()).unwrap().plus(LongDouble::parse(two.as_bytes()).unwrap()).text()
    }

    #[test]
    fn sums_have_the_digits_redis_prints() {
        for (one, two, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0", "1e40", "9999999999999999999783686092270256259072"),
            ("0", "3.141592653589793238462643383279", "3.14159265358979324"),
            ("0", "1e-18", "0"),
            ("0", "-1e-18", "0"),
            ("0", "0x1p3", "8"),
            ("1", "-1", "0"),
            ("-1.5", "0.25", "-1.25"),
            ("0.1", "-0.3", "-0.2"),
            ("1.23", "-1.22", "0.01"),
            (".5", "+1.", "1.5"),
            ("17179869184", "0.000000000000000123", "17179869184"),
            ("0", "1234567890123456789012345678901234567890.5", "1234567890123456788999898750329779388416"),
        ] {
            assert_eq!(sum(one, two), expected, "{one} + {two}");
        }
        assert!(sum("0", "1e4931").starts_with("100000000000000000000601894938796389132383777425"));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", " 1", "1 ", "5e", "0x", "nan", "1e4933", "1e-5000", "e5", ".", "-", "+-1", "1.2.3", "0x1p", "1\0"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; 6000]), None);
        assert!(LongDouble::parse(b"-INF").unwrap().is_infinite());
    }
}
