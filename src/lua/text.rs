//! Numbers as text, as C prints them.

use std::io::Write;

/// A number as commands get it: integers as such, others with 17 digits, which say exactly which number it is.
pub(crate) fn number(out: &mut Vec<u8>, number: f64) {
    let whole = number as i64;
    // 2^63 is no i64, though it is cast to the largest one.
    if whole as f64 == number && whole != i64::MAX {
        let _ = write!(out, "{whole}");
    } else {
        general(out, number);
    }
}

/// `%.17g`.
pub(crate) fn general(out: &mut Vec<u8>, number: f64) {
    const DIGITS: i32 = 17;
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if number.is_nan() {
        return out.extend(b"nan");
    }
    if number.is_infinite() {
        return out.extend(b"inf");
    }
    let from = out.len();
    let _ = write!(out, "{:.16e}", number.abs());
    let at = from + out[from..].iter().position(|byte| *byte == b'e').expect("it is written with an exponent");
    let exponent: i32 = std::str::from_utf8(&out[at + 1..]).ok().and_then(|text| text.parse().ok()).expect("it was written here");
    out.truncate(at);
    if (-4..DIGITS).contains(&exponent) {
        out.truncate(from);
        let decimals = (DIGITS - 1 - exponent) as usize;
        let _ = write!(out, "{:.decimals$}", number.abs());
        trim_zeros(out, from);
    } else {
        trim_zeros(out, from);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    }
}

/// Takes away zeros that end a fraction, and a point that ends the text.
fn trim_zeros(out: &mut Vec<u8>, from: usize) {
    if out[from..].contains(&b'.') {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
}

/// A text without the ends of lines that it ends with.
pub(crate) fn without_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    &text[..end]
}

/// What C would have taken of it: the bytes before the first zero.
pub(crate) fn c_text(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// One line, whatever is in it: a line feed would end the reply that it stands in.
pub(crate) fn push_line(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_does() {
        let table: &[(f64, &str)] = &[
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (2.7, "2.7000000000000002"),
            (0.1, "0.10000000000000001"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (-2.5, "-2.5"),
            (1e-310, "9.9999999999999694e-311"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, expected) in table {
            let mut out = b">".to_vec();
            general(&mut out, *number);
            assert_eq!(String::from_utf8(out).unwrap(), format!(">{expected}"), "{number:e}");
        }
    }

    #[test]
    fn integers_are_printed_as_such() {
        let of = |value| {
            let mut out = Vec::new();
            number(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(1e17), "100000000000000000");
        assert_eq!(of(9007199254740993.0), "9007199254740992");
        assert_eq!(of(9223372036854775808.0), "9.2233720368547758e+18");
        assert_eq!(of(-9223372036854775808.0), "-9223372036854775808");
        assert_eq!(of(0.5), "0.5");
        assert_eq!(of(-0.0), "0");
    }
}
