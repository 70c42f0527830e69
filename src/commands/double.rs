//! Reads doubles as C's `strtod` does, which Redis reads scores, radii and timeouts with.

/// Digits a double always holds exactly.
const EXACT_DIGITS: usize = 15;
/// Hexadecimal digits that fill 64 bits.
const HEX_DIGITS: u32 = 16;
/// Two to a higher power is infinite, to a lower one zero, whatever a 64-bit number before it is.
const POWER_MAX: i64 = 5000;

/// The number that all of a text is, without space around it. What is too large is infinite, what is too small is zero; `nan` is
/// refused.
#[inline]
pub(crate) fn parse(text: &[u8]) -> Option<f64> {
    whole(text).or_else(|| parse_any(text))
}

/// The same, but refuses what is too large or too small for a double, as Redis' `string2d` does.
#[inline]
pub(crate) fn parse_in_range(text: &[u8]) -> Option<f64> {
    whole(text).or_else(|| {
        let number = parse_any(text)?;
        let is_too_large = number.is_infinite() && text.iter().any(u8::is_ascii_digit);
        let is_too_small = number == 0.0 && mantissa(text).iter().any(|digit| !matches!(digit, b'0' | b'.' | b'+' | b'-'));
        (!is_too_large && !is_too_small).then_some(number)
    })
}

/// The number a bound of a range is: space before it is passed over, nothing at all is 0, and a zero byte ends the text.
pub(crate) fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    parse(&text[start..])
}

/// The most frequent case: a whole number of few digits.
#[inline]
fn whole(text: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > EXACT_DIGITS {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    let number = number as f64;
    Some(if is_negative { -number } else { number })
}

fn parse_any(text: &[u8]) -> Option<f64> {
    let (is_negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let number = match unsigned {
        [b'0', b'x' | b'X', hexadecimal @ ..] => parse_hexadecimal(hexadecimal)?,
        [b'+' | b'-', ..] => return None,
        decimal => std::str::from_utf8(decimal).ok()?.parse().ok().filter(|number: &f64| !number.is_nan())?,
    };
    Some(if is_negative { -number } else { number })
}

/// The digits before the exponent, without what says that they are hexadecimal.
fn mantissa(text: &[u8]) -> &[u8] {
    let is_hexadecimal = text.iter().take(3).any(|byte| matches!(byte, b'x' | b'X'));
    let digits = if is_hexadecimal { text.splitn(2, |byte| matches!(byte, b'x' | b'X')).nth(1) } else { Some(text) };
    let ends = |byte: &u8| if is_hexadecimal { matches!(byte, b'p' | b'P') } else { matches!(byte, b'e' | b'E') };
    digits.and_then(|digits| digits.split(ends).next()).unwrap_or_default()
}

fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let (mut number, mut power, mut significant) = (0u64, 0i64, 0u32);
    let (mut has_digits, mut has_point, mut rest) = (false, false, text);
    while let [byte, tail @ ..] = rest {
        match char::from(*byte).to_digit(16) {
            Some(digit) => {
                has_digits = true;
                power -= if has_point { 4 } else { 0 };
                if significant < HEX_DIGITS {
                    number = number << 4 | u64::from(digit);
                    significant += u32::from(number != 0);
                } else {
                    // What does not fit still decides which way a tie is rounded.
                    number |= u64::from(digit != 0);
                    power += 4;
                }
            }
            None if *byte == b'.' && !has_point => has_point = true,
            None => break,
        }
        rest = tail;
    }
    if !has_digits {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [b'p' | b'P', exponent @ ..] => {
            let (is_negative, digits) = match exponent {
                [b'-', digits @ ..] => (true, digits),
                [b'+', digits @ ..] => (false, digits),
                digits => (false, digits),
            };
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let size = digits.iter().fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
            if is_negative { -size } else { size }
        }
        _ => return None,
    };
    Some(scale(number as f64, power.saturating_add(exponent).clamp(-POWER_MAX, POWER_MAX)))
}

/// `number * 2^power`, in steps that stay within what doubles hold.
fn scale(mut number: f64, mut power: i64) -> f64 {
    while power != 0 && number != 0.0 && number.is_finite() {
        let step = power.clamp(-1000, 1000);
        number *= 2f64.powi(step as i32);
        power -= step;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_strtod_reads() {
        for (text, number) in [
            ("0", 0.0),
            ("-17", -17.0),
            ("000000012345", 12345.0),
            ("1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("+5", 5.0),
            ("1e3", 1000.0),
            ("1E-2", 0.01),
            ("12345678901234567890", 12345678901234567890.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+inf", f64::INFINITY),
            ("0x10", 16.0),
            ("0X1.8p1", 3.0),
            ("-0x.8", -0.5),
            ("0x1p-3", 0.125),
            ("0x123456789abcdef012345", 1.375_488_932_539_311_4e24),
        ] {
            assert_eq!(parse_in_range(text.as_bytes()), Some(number), "{text}");
        }
        assert!(parse(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", " 1", "1 ", "nan", "-nan", "abc", "1e", "e5", ".", "-", "+-1", "-+1", "0x", "0x1p", "0xg", "1.2.3", "1\0"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in ["1e400", "-1e400", "1e-400", "0x1p5000", "0x1p-5000", "-0.00e1x"] {
            assert_eq!(parse_in_range(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_in_range(b"0e400"), Some(0.0));
        assert_eq!(parse_in_range(b"0x0p-5000"), Some(0.0));
    }

    #[test]
    fn bounds_are_read_more_leniently() {
        for (text, number) in [("", 0.0), ("  7", 7.0), ("\t-1.5", -1.5), ("1e999", f64::INFINITY), ("3\0x", 3.0)] {
            assert_eq!(parse_bound(text.as_bytes()), Some(number), "{text}");
        }
        for text in ["  ", "7 ", "(7", "nan"] {
            assert_eq!(parse_bound(text.as_bytes()), None, "{text}");
        }
    }
}
