//! A set that is small, in one allocation and sixteen bytes beside it: integers, or members of any kind.
//!
//! The first byte tells the two apart. See [`intset`] for integers. Members of any kind begin with 0, then their number in
//! four bytes; each is an element of [`packed`](crate::engine::types::packed) without the length behind it.

use std::ops::Range;

use crate::engine::types::intset::{self, Ints, close, open};
use crate::engine::types::packed::{Body, IntText, Item, body_size, item_at};
use crate::engine::types::string::canonical_int;
use crate::limits;

/// The first byte where members are not only integers.
const ANY: u8 = 0;
/// That byte and the number of members.
const HEAD_BYTES: usize = 5;

/// Different members; integers come in order, others as they were added.
#[derive(Default, Clone)]
pub(crate) struct SmallSet(
    /// Empty for a set with no members.
    Box<[u8]>,
);

/// The set would be too large for one that is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Which of the two it is.
enum Form<'a> {
    Ints(Ints<'a>),
    Any(&'a [u8]),
}

impl SmallSet {
    /// How many members it has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self.form() {
            Form::Ints(ints) => ints.len(),
            Form::Any(_) => self.count(),
        }
    }

    /// Whether its members are integers.
    pub(crate) fn is_ints(&self) -> bool {
        matches!(self.form(), Form::Ints(_))
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether this is a member.
    #[inline]
    pub(crate) fn contains(&self, member: Item<'_>) -> bool {
        match self.form() {
            Form::Ints(ints) => number(member).is_some_and(|number| ints.search(number).is_ok()),
            Form::Any(members) => find(members, &Body::of(member.bytes(&mut IntText::new()))).is_some(),
        }
    }

    /// All members.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter(match self.form() {
            Form::Ints(ints) => IterForm::Ints(ints, 0..ints.len()),
            Form::Any(members) => IterForm::Any(members),
        })
    }

    /// The member at a position below `len`.
    pub(crate) fn at(&self, position: usize) -> Item<'_> {
        match self.form() {
            Form::Ints(ints) => Item::Int(ints.at(position)),
            Form::Any(_) => self.iter().nth(position).expect("the position is below len"),
        }
    }

    /// Adds a member; tells whether it is new.
    pub(crate) fn insert(&mut self, member: Item<'_>) -> Result<bool, TooLarge> {
        if self.contains(member) {
            return Ok(false);
        }
        match (self.form(), number(member)) {
            (Form::Ints(ints), Some(number)) if ints.len() < limits::get(&limits::SET_MAX_INTSET_ENTRIES) => {
                intset::insert(&mut self.0, number);
            }
            // A set with too many integers is not kept as one of any members instead, even where it might be.
            (Form::Ints(ints), Some(_)) if !ints.is_empty() => return Err(TooLarge),
            _ if !self.takes(member) => return Err(TooLarge),
            (Form::Ints(_), _) => {
                *self = self.with_any_members();
                self.push(member);
            }
            (Form::Any(_), _) => self.push(member),
        }
        Ok(true)
    }

    /// Removes a member; tells whether it was there.
    pub(crate) fn remove(&mut self, member: Item<'_>) -> bool {
        let mut text = IntText::new();
        let body = Body::of(member.bytes(&mut text));
        let found = match self.form() {
            Form::Ints(_) => return number(member).is_some_and(|number| intset::remove(&mut self.0, number)),
            Form::Any(members) => find(members, &body),
        };
        if let Some(at) = found {
            close(&mut self.0, HEAD_BYTES + at, body.body_len());
            self.set_count(self.count() - 1);
        }
        found.is_some()
    }

    /// Whether one more member of any kind fits, and those that are there.
    fn takes(&self, member: Item<'_>) -> bool {
        let bytes_max = limits::get(&limits::SET_MAX_LISTPACK_VALUE);
        let is_short = |at: usize| self.at(at).len() <= bytes_max;
        let are_short = match self.form() {
            // The longest integers are the first and the last.
            Form::Ints(ints) => ints.is_empty() || is_short(0) && is_short(ints.len() - 1),
            Form::Any(_) => true,
        };
        self.len() < limits::get(&limits::SET_MAX_LISTPACK_ENTRIES) && member.len() <= bytes_max && are_short
    }

    fn with_any_members(&self) -> SmallSet {
        let mut any = SmallSet(Box::new([ANY, 0, 0, 0, 0]));
        self.iter().for_each(|member| any.push(member));
        any
    }

    fn push(&mut self, member: Item<'_>) {
        let mut text = IntText::new();
        let body = Body::of(member.bytes(&mut text));
        let (at, head) = (self.0.len(), body.head().len());
        open(&mut self.0, at, body.body_len());
        self.0[at..at + head].copy_from_slice(body.head());
        self.0[at + head..].copy_from_slice(body.tail());
        self.set_count(self.count() + 1);
    }

    #[inline]
    fn form(&self) -> Form<'_> {
        match &*self.0 {
            [ANY, ..] => Form::Any(&self.0[HEAD_BYTES..]),
            bytes => Form::Ints(Ints::of(bytes)),
        }
    }

    fn count(&self) -> usize {
        u32::from_le_bytes([self.0[1], self.0[2], self.0[3], self.0[4]]) as usize
    }

    fn set_count(&mut self, count: usize) {
        self.0[1..HEAD_BYTES].copy_from_slice(&(count as u32).to_le_bytes());
    }
}

/// The integer a member is, whichever way it came.
#[inline]
fn number(member: Item<'_>) -> Option<i64> {
    match member {
        Item::Int(number) => Some(number),
        Item::Bytes(bytes) => canonical_int(bytes),
    }
}

#[inline]
fn find(members: &[u8], member: &Body<'_>) -> Option<usize> {
    let mut at = 0;
    while at < members.len() {
        if member.is_at(&members[at..]) {
            return Some(at);
        }
        at += body_size(&members[at..]);
    }
    None
}

/// Members in order.
#[derive(Clone)]
pub(crate) struct Iter<'a>(IterForm<'a>);

#[derive(Clone)]
enum IterForm<'a> {
    Ints(Ints<'a>, Range<usize>),
    Any(&'a [u8]),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.0 {
            IterForm::Ints(ints, left) => left.next().map(|at| Item::Int(ints.at(at))),
            IterForm::Any([]) => None,
            IterForm::Any(members) => {
                let (member, rest) = members.split_at(body_size(members));
                *members = rest;
                Some(item_at(member))
            }
        }
    }
}
