//! `SORT`: orders the elements of a collection by themselves or by what other keys hold, and shows or stores what those hold.

use std::cmp::Ordering;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_float, parse_int};
use crate::commands::table::Positions;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::hash::Hash;
use crate::engine::types::list::List;
use crate::engine::types::string::{IntText, Str};
use crate::engine::value::{Kind, Value};
use crate::resp::{Args, Reply};

/// Where the keys of `SORT` are: the collection, and where the result goes.
pub(crate) fn positions(args: Args<'_>) -> Positions {
    let mut positions = positions_ro(args);
    // Whatever else stands there is passed over, also the value of STORE, which may be a word itself.
    let (mut rest, mut store) = (Rest::of(args, 2), None);
    while rest.left() > 0 {
        let following = if rest.is("limit") { 2 } else { usize::from(rest.is("get") || rest.is("by")) };
        if rest.is("store") && rest.left() > 1 {
            store = Some(rest.position() + 1);
        }
        rest.skip(1 + following);
    }
    positions.extend(store);
    positions
}

/// Where the key of `SORT_RO` is.
pub(crate) fn positions_ro(args: Args<'_>) -> Positions {
    (1..args.len().min(2)).collect()
}

pub(crate) fn sort_ro(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let options = Options::read(Rest::of(args, 2), false)?;
    let elements = sorted(keys, args.at(1), &options)?;
    show(keys, &elements, &options, reply)
}

pub(crate) fn sort(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let options = Options::read(Rest::of(args, 2), true)?;
    let elements = sorted(keys, args.at(1), &options)?;
    match options.store {
        None => show(keys, &elements, &options, reply),
        Some(destination) => store(keys, &elements, &options, destination, reply),
    }
}

struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    /// `LIMIT`: how many to leave out, and how many to take.
    limit: (i64, i64),
    is_descending: bool,
    is_alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(mut rest: Rest<'a>, may_store: bool) -> Result<Options<'a>, Error> {
        let mut options =
            Options { by: None, get: Vec::new(), limit: (0, -1), is_descending: false, is_alpha: false, store: None };
        loop {
            if rest.word("asc") {
                options.is_descending = false;
            } else if rest.word("desc") {
                options.is_descending = true;
            } else if rest.word("alpha") {
                options.is_alpha = true;
            } else if let Some([skip, take]) = rest.values("limit") {
                options.limit = (parse_int(skip)?, parse_int(take)?);
            } else if let Some(pattern) = rest.value("by") {
                options.by = Some(pattern);
            } else if let Some(pattern) = rest.value("get") {
                options.get.push(pattern);
            } else if may_store && let Some(key) = rest.value("store") {
                options.store = Some(key);
            } else {
                rest.end()?;
                return Ok(options);
            }
        }
    }

    /// How the elements of a collection of this kind are ordered.
    fn order(&self, kind: Kind) -> Order<'a> {
        match self.by {
            // A pattern without a star names the same key for all, so nothing is to be sorted.
            Some(pattern) if !pattern.contains(&b'*') => match (kind, self.store) {
                // A set has no order of its own: what is stored must not depend on where its members happen to stand.
                (Kind::Set, Some(_)) => Order::Sorted { by: None, is_alpha: true },
                (Kind::Set, None) => Order::AsItIs,
                _ if self.is_descending => Order::Reversed,
                _ => Order::AsItIs,
            },
            by => Order::Sorted { by, is_alpha: self.is_alpha },
        }
    }

    /// The part of so many elements that is asked for.
    fn part(&self, len: usize) -> std::ops::Range<usize> {
        let (skip, take) = self.limit;
        let start = usize::try_from(skip).unwrap_or(0).min(len);
        let end = usize::try_from(take).map_or(len, |take| start.saturating_add(take).min(len));
        start..end
    }
}

enum Order<'a> {
    AsItIs,
    Reversed,
    Sorted { by: Option<&'a [u8]>, is_alpha: bool },
}

fn sorted(keys: &mut Read<'_>, key: &[u8], options: &Options<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let Some(value) = keys.find(key)? else { return Ok(Vec::new()) };
    let kind = value.kind();
    let mut elements = elements(value)?;
    match options.order(kind) {
        Order::AsItIs => {}
        Order::Reversed => elements.reverse(),
        Order::Sorted { by, is_alpha: true } => sort_alpha(keys, &mut elements, by, options.is_descending)?,
        Order::Sorted { by, is_alpha: false } => sort_numbers(keys, &mut elements, by, options.is_descending)?,
    }
    let part = options.part(elements.len());
    elements.truncate(part.end);
    elements.drain(..part.start);
    Ok(elements)
}

fn elements(value: &Value) -> Result<Vec<Vec<u8>>, Error> {
    let rows = match value {
        Value::List(_) | Value::Set(_) | Value::Zset(_) => value.rows().ok_or(error::DISK_READ)?,
        _ => return Err(error::WRONG_TYPE),
    };
    let mut elements = Vec::with_capacity(rows.row_count());
    rows.each_row(&mut |element, bytes| match value {
        Value::List(_) => elements.push(bytes.to_vec()),
        _ => elements.push(element.to_vec()),
    });
    Ok(elements)
}

fn sort_alpha(keys: &mut Read<'_>, elements: &mut Vec<Vec<u8>>, by: Option<&[u8]>, is_descending: bool) -> Outcome {
    let Some(pattern) = by else {
        elements.sort_by(|one, other| directed(one.cmp(other), is_descending));
        return Ok(());
    };
    let mut weighted = Vec::with_capacity(elements.len());
    for element in elements.drain(..) {
        weighted.push((pointed_at(keys, pattern, &element)?, element));
    }
    weighted.sort_by(|(one, _), (other, _)| directed(one.cmp(other), is_descending));
    elements.extend(weighted.into_iter().map(|(_, element)| element));
    Ok(())
}

fn sort_numbers(keys: &mut Read<'_>, elements: &mut Vec<Vec<u8>>, by: Option<&[u8]>, is_descending: bool) -> Outcome {
    let mut weighted = Vec::with_capacity(elements.len());
    for element in elements.drain(..) {
        let weight = match by {
            None => weight(&element)?,
            Some(pattern) => pointed_at(keys, pattern, &element)?.map_or(Ok(0.0), |text| weight(&text))?,
        };
        weighted.push((weight, element));
    }
    weighted.sort_by(|(one, one_element), (other, other_element)| {
        let order = one.partial_cmp(other).unwrap_or(Ordering::Equal).then_with(|| one_element.cmp(other_element));
        directed(order, is_descending)
    });
    elements.extend(weighted.into_iter().map(|(_, element)| element));
    Ok(())
}

fn directed(order: Ordering, is_descending: bool) -> Ordering {
    if is_descending { order.reverse() } else { order }
}

/// A text as C's `strtod` reads it: it ends at a zero byte, space before the number is passed over, and nothing at all is 0.
fn weight(text: &[u8]) -> Result<f64, Error> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let blanks = text[..end].iter().take_while(|&&byte| byte == b' ' || (b'\t'..=b'\r').contains(&byte)).count();
    if end == 0 { Ok(0.0) } else { parse_float(&text[blanks..end]).ok_or(error::SORT_NOT_NUMBERS) }
}

/// What a pattern leads to for an element: `#` is the element, `prefix*suffix` the string at that key with the element in the place
/// of the star, `prefix*suffix->field` a field of the hash there.
fn pointed_at(keys: &mut Read<'_>, pattern: &[u8], element: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if pattern == b"#" {
        return Ok(Some(element.to_vec()));
    }
    let Some(star) = pattern.iter().position(|&byte| byte == b'*') else { return Ok(None) };
    let (prefix, rest) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = rest.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < rest.len());
    let (suffix, field) = arrow.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 2..])));
    let key = [prefix, element, suffix].concat();
    let now = keys.now();
    let found = match field {
        Some(field) => keys.get::<Hash>(&key).map(|hash| hash.and_then(|hash| hash.get(field, now)).map(|value| value.to_vec())),
        None => keys.get::<Str>(&key).map(|string| string.map(|string| string.bytes(&mut IntText::new()).to_vec())),
    };
    // A key that holds another kind of value leads nowhere.
    found.or_else(|error| if error == error::WRONG_TYPE { Ok(None) } else { Err(error) })
}

/// What is shown for each element: what the `GET` patterns lead to, or itself.
fn results(
    keys: &mut Read<'_>,
    elements: &[Vec<u8>],
    options: &Options<'_>,
    mut take: impl FnMut(Option<&[u8]>),
) -> Result<usize, Error> {
    if options.get.is_empty() {
        elements.iter().for_each(|element| take(Some(element)));
        return Ok(elements.len());
    }
    for element in elements {
        for pattern in &options.get {
            take(pointed_at(keys, pattern, element)?.as_deref());
        }
    }
    Ok(elements.len() * options.get.len())
}

fn show(keys: &mut Read<'_>, elements: &[Vec<u8>], options: &Options<'_>, reply: &mut Reply) -> Outcome {
    reply.array(elements.len() * options.get.len().max(1));
    results(keys, elements, options, |result| match result {
        Some(bytes) => reply.bulk(bytes),
        None => reply.null(),
    })?;
    Ok(())
}

fn store(keys: &mut Write<'_>, elements: &[Vec<u8>], options: &Options<'_>, destination: &[u8], reply: &mut Reply) -> Outcome {
    let mut list = List::default();
    let count = results(keys, elements, options, |result| list.push_unlogged(result.unwrap_or_default()))?;
    if count > 0 {
        keys.put(destination, list, Expiry::Never);
        keys.notify(Class::List, "sortstore", destination);
    } else if keys.remove(destination) {
        keys.notify(Class::Generic, "del", destination);
    }
    reply.count(count);
    Ok(())
}
