//! What one byte of a subject may be: the single characters, classes and sets of patterns. Letters are those of ASCII, as Redis has no other locale.

/// Whether a byte is of the item that these bytes of a pattern are: a character, `.`, `%a` or `[…]`.
pub(crate) fn is_of_item(byte: u8, item: &[u8]) -> bool {
    match item {
        [b'.', ..] => true,
        [b'%', class, ..] => is_of_class(byte, *class),
        [b'[', set @ .., _] => is_of_set(byte, set),
        [letter, ..] => *letter == byte,
        [] => false,
    }
}

/// `set`: what stands between the brackets.
pub(crate) fn is_of_set(byte: u8, set: &[u8]) -> bool {
    let (set, is_wanted) = match set {
        [b'^', rest @ ..] => (rest, false),
        _ => (set, true),
    };
    let mut rest = set;
    loop {
        rest = match rest {
            [] => return !is_wanted,
            [b'%', class, rest @ ..] => {
                if is_of_class(byte, *class) {
                    return is_wanted;
                }
                rest
            }
            [first, b'-', last, rest @ ..] => {
                if (*first..=*last).contains(&byte) {
                    return is_wanted;
                }
                rest
            }
            [letter, rest @ ..] => {
                if *letter == byte {
                    return is_wanted;
                }
                rest
            }
        };
    }
}

fn is_of_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is == class.is_ascii_lowercase()
}
