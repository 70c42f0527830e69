//! Patterns as Redis matches them in `KEYS`, `SCAN … MATCH`, `PSUBSCRIBE` and `CONFIG GET`: `*`, `?`, `[a-z]`, `[^x]`, `\`.
//! Wrong patterns mean what they mean in Redis too: an open class ends with the pattern, a lone `\` stands for itself.

/// Stars that follow one another with something between them; a pattern with more matches nothing, as in Redis.
const STARS_MAX: usize = 1000;

/// Whether a pattern matches all of a text. Takes at most `pattern.len() * text.len()` steps.
///
/// As in Redis, `*` alone does not match the empty text; commands that mean «everything» by it look for it themselves.
pub(crate) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut rest, mut at) = (pattern, 0);
    // The pattern after the last star, and where in the text it was last tried. Earlier stars need no second try:
    // if what follows the last one matches nowhere from here on, it matches nowhere later either.
    let mut retry: Option<(&[u8], usize)> = None;
    let mut stars = 0;
    loop {
        if rest.first() == Some(&b'*') {
            rest = skip_stars(rest);
            if rest.is_empty() {
                return true;
            }
            stars += 1;
            if at == text.len() || stars > STARS_MAX {
                return false;
            }
            retry = Some((rest, at));
        }
        if at == text.len() {
            return rest.is_empty();
        }
        if let Some(after) = match_one(rest, text[at], ignore_case) {
            (rest, at) = (after, at + 1);
            continue;
        }
        match &mut retry {
            Some((again, from)) => {
                *from += 1;
                (rest, at) = (again, *from);
            }
            None => return false,
        }
    }
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    &pattern[stars..]
}

/// What is left of a pattern after its first element, if that matches the byte. No element matches at the pattern's end.
#[inline]
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => match_class(class, byte, ignore_case),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => is_same(*literal, byte, ignore_case).then_some(rest),
    }
}

fn match_class(class: &[u8], byte: u8, ignore_case: bool) -> Option<&[u8]> {
    let (is_negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut is_in = false;
    loop {
        match class {
            // The case of an escaped byte counts even where case is ignored: so it is in Redis.
            [b'\\', literal, rest @ ..] => {
                is_in |= *literal == byte;
                class = rest;
            }
            [b']', rest @ ..] => {
                class = rest;
                break;
            }
            [] => break,
            [first, b'-', last, rest @ ..] => {
                is_in |= is_between(*first, *last, byte, ignore_case);
                class = rest;
            }
            [literal, rest @ ..] => {
                is_in |= is_same(*literal, byte, ignore_case);
                class = rest;
            }
        }
    }
    (is_in != is_negated).then_some(class)
}

/// Whether a byte is in a range, whose ends may stand in either order. Bytes count as signed, as C's `char` does.
fn is_between(first: u8, last: u8, byte: u8, ignore_case: bool) -> bool {
    let (low, high) = if first as i8 > last as i8 { (last, first) } else { (first, last) };
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() as i8 } else { byte as i8 };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[inline]
fn is_same(one: u8, other: u8, ignore_case: bool) -> bool {
    one == other || ignore_case && one.eq_ignore_ascii_case(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn matches_what_redis_matches() {
        for (pattern, text) in [
            ("", ""),
            ("*", "a"),
            ("**", "abc"),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hbllo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("a\\*", "a*"),
            ("a\\", "a\\"),
            ("[a", "a"),
            ("[^", "x"),
            ("[\\]]", "]"),
            ("[a-", "-"),
            ("*a*b*c", "xaybzc"),
            ("a*", "a"),
        ] {
            assert!(check(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn does_not_match_what_redis_does_not() {
        for (pattern, text) in [
            ("*", ""),
            ("", "a"),
            ("?", ""),
            ("[", "["),
            ("a", "A"),
            ("a*b", "a"),
            ("h[^e]llo", "hello"),
            ("*a", "ab"),
            ("[a-", "b"),
            ("[]-c]", "-c]"),
        ] {
            assert!(!check(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn case_is_ignored_where_asked_but_not_for_escapes_in_classes() {
        assert!(matches(b"AB[C-D]", b"abd", true));
        assert!(matches(b"a\\B", b"AB", true));
        assert!(!matches(b"[\\A]", b"a", true));
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern = b"a*".repeat(900);
        assert!(!matches(&[&pattern, &b"b"[..]].concat(), &b"a".repeat(20_000), false));
        assert!(matches(&pattern, &b"a".repeat(20_000), false));
    }
}
