//! Parameters: a row each, and the one parser that reads them by their rows. What does not fit is answered with the name and the bounds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde_json::{Value as Json, json};

use super::Route;
use super::refusal::Refusal;
use crate::engine::types::string::canonical_int;

/// What headers that stand for a parameter of the query begin with.
const HEADER_PREFIX: &str = "Flux-";

/// Something that may or must be said.
pub struct Param {
    /// As it is written in the path, the query, or before a header's colon.
    pub(crate) name: &'static str,
    /// Where it is said.
    pub(crate) place: Place,
    /// What it may be.
    pub(crate) kind: Kind,
    /// What it means.
    pub(crate) help: &'static str,
}

/// Where something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path; it must be there.
    Path,
    /// In the query, or in a header of the same name after `Flux-`. The query wins.
    Query,
    /// In a header.
    Header,
}

/// What something may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number.
    Number {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text of at most so many bytes.
    Text {
        /// The most.
        bytes_max: usize,
    },
    /// Text of 1 to so many bytes without control characters and these others.
    Name {
        /// The most.
        bytes_max: usize,
        /// What it must not hold either.
        without: &'static str,
        /// Whether it may have slashes: in a path it stands last then.
        has_slashes: bool,
    },
    /// Text of a form.
    Form {
        /// The form, for programs.
        pattern: &'static str,
        /// The same for people: "the id of an event, such as 1-0".
        words: &'static str,
        /// The same once more.
        fits: fn(&str) -> bool,
    },
}

/// A parameter that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(i64),
    Text(String),
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Values(BTreeMap<&'static str, Value>);

impl Param {
    /// A part of the path.
    pub const fn path(name: &'static str, kind: Kind, help: &'static str) -> Param {
        Param { name, place: Place::Path, kind, help }
    }

    /// A parameter of the query, or a header.
    pub const fn query(name: &'static str, kind: Kind, help: &'static str) -> Param {
        Param { name, place: Place::Query, kind, help }
    }

    /// A header.
    pub(crate) const fn header(name: &'static str, kind: Kind, help: &'static str) -> Param {
        Param { name, place: Place::Header, kind, help }
    }

    /// The header that stands for a parameter of the query.
    pub(crate) fn stand_in(&self) -> Option<String> {
        let of_word = |word: &str| word[..1].to_uppercase() + &word[1..];
        let words: Vec<String> = self.name.split('-').map(of_word).collect();
        (self.place == Place::Query).then(|| format!("{HEADER_PREFIX}{}", words.join("-")))
    }

    fn read(&self, text: &str) -> Result<Value, Refusal> {
        self.kind.read(text).ok_or_else(|| Refusal::bad_request(format!("`{}` is {}", self.name, self.kind.words())))
    }
}

impl Kind {
    /// Whether it may have slashes in a path.
    pub(crate) fn takes_slashes(&self) -> bool {
        matches!(self, Kind::Name { has_slashes: true, .. })
    }

    /// What it may be, in words that follow "is".
    pub(crate) fn words(&self) -> Cow<'static, str> {
        match self {
            Kind::Number { min, max: i64::MAX } => format!("a number from {min} on").into(),
            Kind::Number { min, max } => format!("a number from {min} to {max}").into(),
            Kind::Word(words) => format!("one of: {}", words.join(", ")).into(),
            Kind::Text { bytes_max } => format!("text of at most {bytes_max} bytes").into(),
            Kind::Name { bytes_max, without: "", .. } => {
                format!("text of 1 to {bytes_max} bytes without control characters").into()
            }
            Kind::Name { bytes_max, without, .. } => {
                format!("text of 1 to {bytes_max} bytes without control characters and `{without}`").into()
            }
            Kind::Form { words, .. } => (*words).into(),
        }
    }

    /// What it may be, as JSON Schema.
    pub(crate) fn schema(&self) -> Json {
        match self {
            Kind::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Kind::Word(words) => json!({ "type": "string", "enum": words }),
            Kind::Text { bytes_max } => json!({ "type": "string", "maxLength": bytes_max }),
            Kind::Name { bytes_max, without, .. } => {
                let without: String = without.chars().map(escaped).collect();
                let pattern = format!("^[^\\x00-\\x1f\\x7f-\\x9f{without}]+$");
                json!({ "type": "string", "minLength": 1, "maxLength": bytes_max, "pattern": pattern })
            }
            Kind::Form { pattern, .. } => json!({ "type": "string", "pattern": pattern }),
        }
    }

    fn read(&self, text: &str) -> Option<Value> {
        if let Kind::Number { min, max } = self {
            return canonical_int(text.as_bytes()).filter(|number| (min..=max).contains(&number)).map(Value::Number);
        }
        let fits = match self {
            Kind::Number { .. } => false,
            Kind::Word(words) => words.contains(&text),
            Kind::Text { bytes_max } => text.len() <= *bytes_max,
            Kind::Name { bytes_max, without, .. } => {
                (1..=*bytes_max).contains(&text.len())
                    && !text.chars().any(|letter| letter.is_control() || without.contains(letter))
            }
            Kind::Form { fits, .. } => fits(text),
        };
        fits.then(|| Value::Text(text.to_owned()))
    }
}

/// A character as it stands in brackets of a pattern.
fn escaped(letter: char) -> String {
    if letter.is_ascii_alphanumeric() { letter.to_string() } else { format!("\\{letter}") }
}

impl Values {
    /// Reads what a request says, by the rows of its route. `path` are the parts of its path by their names, decoded.
    pub(crate) fn read<'a>(
        route: &Route,
        parts: &Parts,
        path: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Values, Refusal> {
        let mut values = Values::default();
        let path: BTreeMap<&str, &str> = path.collect();
        let query = query(route, parts)?;
        for param in route.params {
            let text = match param.place {
                Place::Path => path.get(param.name).map(|text| Cow::Borrowed(*text)),
                Place::Header => header(&parts.headers, param.name)?,
                Place::Query => {
                    let stand_in = param.stand_in().map(|name| header(&parts.headers, &name)).transpose()?.flatten();
                    // One that does not count must fit all the same.
                    stand_in.as_deref().map(|text| param.read(text)).transpose()?;
                    query.iter().rfind(|(name, _)| name == param.name).map(|(_, text)| Cow::Borrowed(text.as_str())).or(stand_in)
                }
            };
            if let Some(text) = text {
                values.0.insert(param.name, param.read(&text)?);
            }
        }
        Ok(values)
    }

    /// The text of one, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    /// One that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }
}

/// What stands in the query. Where a route has parameters there, others are mistakes; where it has none, nobody reads them.
fn query(route: &Route, parts: &Parts) -> Result<Vec<(String, String)>, Refusal> {
    let names: Vec<&str> = route.params.iter().filter(|param| param.place == Place::Query).map(|param| param.name).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let query = query.map_err(|error| Refusal::bad_request(error.to_string()))?.0;
    match query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        Some((name, _)) => Err(Refusal::bad_request(format!("there is no option `{name}`; there are: {}", names.join(", ")))),
        None => Ok(query),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.trim().into())),
        Err(_) => Err(Refusal::bad_request(format!("`{name}` is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Kind = Kind::Name { bytes_max: 8, without: ":*?[]", has_slashes: false };

    #[test]
    fn what_fits_is_read_and_the_rest_is_not() {
        for (kind, text, fits) in [
            (Kind::Number { min: -100, max: 100 }, "-100", true),
            (Kind::Number { min: -100, max: 100 }, "101", false),
            (Kind::Number { min: -100, max: 100 }, "1.0", false),
            (Kind::Number { min: 0, max: i64::MAX }, "9223372036854775808", false),
            (Kind::Word(&["a", "b"]), "b", true),
            (Kind::Word(&["a", "b"]), "B", false),
            (Kind::Text { bytes_max: 2 }, "", true),
            (Kind::Text { bytes_max: 2 }, "\n\n\n", false),
            (NAME, "a/b c", true),
            (NAME, "", false),
            (NAME, "a\u{85}", false),
            (NAME, "a]", false),
            (NAME, "123456789", false),
        ] {
            assert_eq!(kind.read(text).is_some(), fits, "{text:?} as {kind:?}");
        }
    }

    #[test]
    fn the_pattern_of_a_name_says_what_its_parser_does() {
        let pattern = NAME.schema()["pattern"].as_str().unwrap().to_owned();
        let regex = regex_automata::hybrid::regex::Regex::new(&pattern).unwrap();
        let mut cache = regex.create_cache();
        for letter in ('\0'..='\u{ff}').chain(['€', '\u{2028}']) {
            let text = letter.to_string();
            assert_eq!(regex.is_match(&mut cache, &text), NAME.read(&text).is_some(), "{letter:?}");
        }
    }

    #[test]
    fn a_parameter_of_the_query_may_stand_in_a_header() {
        assert_eq!(Param::query("last-event-id", NAME, "").stand_in().as_deref(), Some("Flux-Last-Event-Id"));
        assert_eq!(Param::header("If-Match", NAME, "").stand_in(), None);
    }
}
