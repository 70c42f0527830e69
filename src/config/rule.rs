//! Settings whose values have a form of their own: how they are checked and shown, in the words of Redis.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses a server listens on at most, as in Redis.
const ADDRESSES_MAX: usize = 16;

/// Bytes with a unit, as Redis reads them: no sign, no space; the unit alone is 0.
pub(super) fn bytes(value: &str) -> Option<i64> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = value.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number = if digits.is_empty() { 0 } else { digits.parse::<u64>().unwrap_or(u64::MAX) };
    Some(i64::try_from(number.saturating_mul(scale)).unwrap_or(i64::MAX))
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// Which.
    pub ip: IpAddr,
    /// Whether the server may start without it (`-` before it), as where a machine has no IPv6.
    pub is_optional: bool,
}

/// The addresses in the value of `bind`; `*` is every address. None if one of them is not an address.
pub(crate) fn addresses(value: &str) -> Option<Vec<Address>> {
    value
        .split_whitespace()
        .map(|word| {
            let (is_optional, ip) = word.strip_prefix('-').map_or((false, word), |ip| (true, ip));
            let ip = match ip {
                "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                ip => ip.parse().ok()?,
            };
            Some(Address { ip, is_optional })
        })
        .collect()
}

pub(super) fn folder(_: &str, value: &str) -> Result<String, String> {
    Ok(if value.eq_ignore_ascii_case("off") { "off".into() } else { value.into() })
}

pub(super) fn bind(_: &str, value: &str) -> Result<String, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    if words.len() > ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    addresses(value).ok_or("Failed to bind to specified addresses.")?;
    Ok(words.join(" "))
}

/// Origins of web pages, as browsers send them.
pub(super) fn origins(_: &str, value: &str) -> Result<String, String> {
    let origins: Vec<String> = value.split_whitespace().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
    let is_origin = |origin: &str| match origin.split_once("://") {
        Some((scheme, host)) => !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']),
        None => origin == "null",
    };
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(wrong) => Err(format!("`{wrong}` is not an origin such as https://app.example.com")),
        None => Ok(origins.join(" ")),
    }
}

pub(super) fn save(_: &str, value: &str) -> Result<String, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let is_right = |(at, word): (usize, &&str)| word.parse::<i64>().is_ok_and(|number| number >= i64::from(at % 2 == 0));
    if words.len() % 2 == 1 || !words.iter().enumerate().all(is_right) {
        return Err("Invalid save parameters".into());
    }
    Ok(words.join(" "))
}

/// The letters of `notify-keyspace-events` that `A` stands for, in the order Redis shows them.
const EVENT_LETTERS: &str = "g$lshzxetd";

pub(super) fn events(_: &str, value: &str) -> Result<String, String> {
    if !value.chars().all(|letter| letter == 'A' || "KEmn".contains(letter) || EVENT_LETTERS.contains(letter)) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
    }
    let has = |letter| value.contains(letter);
    let mut shown = String::new();
    if has('A') || EVENT_LETTERS.chars().all(has) {
        shown.push('A');
        // Redis shows `n` beside single letters only; beside `A` it would be lost when the value is set again.
        shown.extend(has('n').then_some('n'));
    } else {
        shown.extend(EVENT_LETTERS.chars().chain(['n']).filter(|letter| has(*letter)));
    }
    shown.extend("KEm".chars().filter(|letter| has(*letter)));
    Ok(shown)
}

pub(super) fn shown_percentiles(_: &str, value: &str) -> Result<String, String> {
    let mut words = Vec::new();
    for word in value.split_whitespace() {
        let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
        let number = number.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&number) {
            return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
        }
        words.push(number.to_string());
    }
    Ok(words.join(" "))
}

/// A version, as clients take it apart: three numbers with dots between them.
pub(super) fn version(_: &str, value: &str) -> Result<String, String> {
    let numbers: Vec<_> = value.split('.').map(str::parse::<u16>).collect();
    match &numbers[..] {
        [Ok(major), Ok(minor), Ok(patch)] => Ok(format!("{major}.{minor}.{patch}")),
        _ => Err("argument must be a version as 7.4.0".into()),
    }
}

/// The percentiles in the value of `latency-tracking-info-percentiles`.
pub(crate) fn percentiles(value: &str) -> Vec<f64> {
    value.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// How much may wait in a client's output buffer; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OutputLimit {
    /// Above this it is cut at once.
    pub hard_bytes: u64,
    /// Above this it is cut when that lasts.
    pub soft_bytes: u64,
    /// How long that may last.
    pub soft_seconds: u64,
}

/// Classes of clients with an output limit, as `client-output-buffer-limit` names them.
const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// The limit for a class (`normal`, `slave`, `pubsub`) in the value of `client-output-buffer-limit`.
pub(crate) fn output_limit(value: &str, class: &str) -> OutputLimit {
    let class = CLASSES.iter().position(|name| *name == class).unwrap_or(0);
    output_limits(value).ok().and_then(|limits| limits[class]).unwrap_or_default()
}

fn output_limits(value: &str) -> Result<[Option<OutputLimit>; 3], String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits = [None; 3];
    for group in words.chunks_exact(4) {
        let class = if group[0].eq_ignore_ascii_case("replica") { "slave" } else { group[0] };
        let at = CLASSES.iter().position(|name| name.eq_ignore_ascii_case(class));
        let at = at.ok_or("Invalid client class specified in buffer limit configuration.")?;
        let limit = || {
            Some(OutputLimit {
                hard_bytes: bytes(group[1])? as u64,
                soft_bytes: bytes(group[2])? as u64,
                soft_seconds: group[3].parse().ok()?,
            })
        };
        limits[at] = Some(limit().ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?);
    }
    Ok(limits)
}

pub(super) fn shown_output_limits(before: &str, value: &str) -> Result<String, String> {
    let (old, new) = (output_limits(before).unwrap_or_default(), output_limits(value)?);
    let shown = CLASSES.iter().zip(old.iter().zip(new)).map(|(class, (old, new))| {
        let limit = new.or(*old).unwrap_or_default();
        format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
    });
    Ok(shown.collect::<Vec<_>>().join(" "))
}

/// Turns a second, which Redis keeps between 1 and 500; remembered only.
pub(super) fn hz(_: &str, value: &str) -> Result<String, String> {
    let number: i64 = value.parse().map_err(|_| "argument couldn't be parsed into an integer")?;
    match number {
        0..=2_147_483_647 => Ok(number.clamp(1, 500).to_string()),
        _ => Err("argument must be between 0 and 2147483647 inclusive".into()),
    }
}

/// How a signal stops Redis; remembered only.
pub(super) fn shutdown_flags(_: &str, value: &str) -> Result<String, String> {
    const FLAGS: [&str; 5] = ["default", "save", "nosave", "now", "force"];
    let words: Vec<&str> = value.split_whitespace().collect();
    let has = |flag: &&str| words.iter().any(|word| word.eq_ignore_ascii_case(flag));
    if words.is_empty() || !words.iter().all(|word| FLAGS.iter().any(|flag| flag.eq_ignore_ascii_case(word))) {
        return Err(format!("argument(s) must be one of the following: {}", FLAGS.join(", ")));
    }
    if has(&"save") && has(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    let chosen: Vec<&str> = FLAGS[1..].iter().copied().filter(|flag| has(flag)).collect();
    Ok(if chosen.is_empty() { "default".into() } else { chosen.join(" ") })
}

pub(super) fn oom_scores(_: &str, value: &str) -> Result<String, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    if !words.iter().all(|word| word.parse::<i64>().is_ok_and(|score| (-2000..=2000).contains(&score))) {
        return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into());
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_redis() {
        for (text, number) in [("1k", 1000), ("1kB", 1024), ("2gb", 2 << 30), ("7", 7), ("3b", 3), ("", 0), ("mb", 0)] {
            assert_eq!(bytes(text), Some(number), "{text}");
        }
        for text in ["-1", "1 kb", "1tb", "x", "1.5mb"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn event_letters_come_back_in_the_order_of_redis() {
        for (set, shown) in [("KEA", "AKE"), ("Kx", "xK"), ("", ""), ("g$lshzxetdE", "AE"), ("mElg", "glEm"), ("nK", "nK")] {
            assert_eq!(events("", set).as_deref(), Ok(shown));
        }
        assert!(events("", "KQ").is_err());
    }

    #[test]
    fn output_limits_change_only_the_classes_named() {
        let before = "normal 0 0 0 slave 1 2 3 pubsub 4 5 6";
        assert_eq!(
            shown_output_limits(before, "Normal 1mb 0 0 replica 9 9 9").as_deref(),
            Ok("normal 1048576 0 0 slave 9 9 9 pubsub 4 5 6")
        );
        assert_eq!(output_limit(before, "pubsub"), OutputLimit { hard_bytes: 4, soft_bytes: 5, soft_seconds: 6 });
        assert!(shown_output_limits(before, "wrong 1 1 1").is_err());
    }

    #[test]
    fn addresses_may_be_optional_or_all() {
        let found = addresses("* -::1 10.0.0.1").expect("all are addresses");
        assert_eq!(found.iter().map(|address| address.is_optional).collect::<Vec<_>>(), [false, true, false]);
        assert!(found[0].ip.is_unspecified());
        assert_eq!(addresses("example"), None);
    }
}
