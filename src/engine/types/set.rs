//! The set: integers in a sorted array, a few short members packed, else a table. A row is a member, with no bytes.

use std::ops::Range;

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};
use crate::engine::keys::Edit;
use crate::engine::types::intset::IntSet;
use crate::engine::types::packed::{self, IntText, Item, Packed};
use crate::engine::types::string::canonical_int;
use crate::engine::value::{BadRow, Rows};
use crate::id;
use crate::limits;

/// A set.
pub struct Set(Repr);

enum Repr {
    Ints(IntSet),
    Packed(Packed),
    Table(Box<Dict<Member>>),
}

struct Member(Blob, dict::Link);

impl dict::Entry for Member {
    fn key(&self) -> &[u8] {
        &self.0
    }

    #[inline]
    fn link(&self) -> dict::Link {
        self.1
    }

    #[inline]
    fn link_mut(&mut self) -> &mut dict::Link {
        &mut self.1
    }
}

impl Default for Set {
    fn default() -> Self {
        Set(Repr::Ints(IntSet::default()))
    }
}

impl Set {
    /// Whether an empty one keeps its key.
    pub const LASTS_EMPTY: bool = false;

    /// How many members it has.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Ints(ints) => ints.len(),
            Repr::Packed(members) => members.len(),
            Repr::Table(members) => members.len(),
        }
    }

    /// Whether this is a member.
    #[inline]
    pub fn contains(&self, member: Item<'_>) -> bool {
        let mut text = IntText::new();
        match &self.0 {
            Repr::Ints(ints) => number(member).is_some_and(|number| ints.contains(number)),
            Repr::Packed(members) => members.find(member.bytes(&mut text), 1).is_some(),
            Repr::Table(members) => members.get(member.bytes(&mut text)).is_some(),
        }
    }

    /// All members.
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Repr::Ints(ints) => IterRepr::Ints(ints, 0..ints.len()),
            Repr::Packed(members) => IterRepr::Packed(members.iter()),
            Repr::Table(members) => IterRepr::Table(members, 0..members.len() as u32),
        })
    }

    /// The member at a position below `len`.
    pub fn at(&self, position: usize) -> Item<'_> {
        match &self.0 {
            Repr::Ints(ints) => Item::Int(ints.at(position)),
            Repr::Packed(members) => members.get(position).expect("the position is below len"),
            Repr::Table(members) => Item::Bytes(&members.at(position as u32).0),
        }
    }

    /// Any member, each as likely as any other; the set must not be empty.
    pub fn random(&self) -> Item<'_> {
        self.at(id::random_below(self.len()))
    }

    /// Shows some members and returns how many and the cursor of the next; see [`Dict::scan`]. A set that is not a table
    /// is shown at once.
    pub fn scan(&self, cursor: u32, mut show: impl FnMut(Item<'_>)) -> (usize, u32) {
        let Repr::Table(members) = &self.0 else {
            self.iter().for_each(show);
            return (self.len(), 0);
        };
        let mut seen = 0;
        let next = members.scan(cursor, |member| {
            seen += 1;
            show(Item::Bytes(&member.0));
        });
        (seen, next)
    }

    /// The name `OBJECT ENCODING` gives.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Ints(_) => "intset",
            Repr::Packed(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Adds a member; tells whether it is new.
    pub fn insert(&mut self, member: Item<'_>) -> bool {
        if let Repr::Table(members) = &mut self.0 {
            return insert_into(members, member.bytes(&mut IntText::new()));
        }
        if self.contains(member) {
            return false;
        }
        self.make_room_for(member);
        let mut text = IntText::new();
        match &mut self.0 {
            Repr::Ints(ints) => ints.insert(number(member).expect("room was made for what is no integer")),
            Repr::Packed(members) => {
                members.push_back(member.bytes(&mut text));
                true
            }
            Repr::Table(members) => insert_into(members, member.bytes(&mut text)),
        }
    }

    /// Removes a member; tells whether it was there.
    pub fn remove(&mut self, member: Item<'_>) -> bool {
        let mut text = IntText::new();
        match &mut self.0 {
            Repr::Ints(ints) => number(member).is_some_and(|number| ints.remove(number)),
            Repr::Packed(members) => {
                let found = members.find(member.bytes(&mut text), 1);
                found.into_iter().for_each(|at| members.remove(at));
                found.is_some()
            }
            Repr::Table(members) => members.remove_key(member.bytes(&mut text)).is_some(),
        }
    }

    /// Changes the form where one more member, which is not there yet, would not fit this one.
    fn make_room_for(&mut self, member: Item<'_>) {
        let fits = match &self.0 {
            Repr::Ints(ints) if number(member).is_some() => ints.len() < limits::get(&limits::SET_MAX_INTSET_ENTRIES),
            Repr::Ints(_) => false,
            Repr::Packed(members) => packs(members.len(), member),
            Repr::Table(_) => true,
        };
        if !fits {
            self.0 = if self.packs_with(member) { self.packed() } else { self.table() };
        }
    }

    /// Whether a set that is no table yet could be packed together with one more member.
    fn packs_with(&self, member: Item<'_>) -> bool {
        match &self.0 {
            // A set that is too large for an array of integers is not packed instead, even where it might be.
            Repr::Ints(ints) if number(member).is_some() && !ints.is_empty() => false,
            // The longest are the first and the last.
            Repr::Ints(ints) => {
                packs(ints.len(), member)
                    && (ints.is_empty() || [0, ints.len() - 1].iter().all(|&at| packs(0, Item::Int(ints.at(at)))))
            }
            Repr::Packed(_) | Repr::Table(_) => false,
        }
    }

    fn packed(&self) -> Repr {
        let mut members = Packed::default();
        self.iter().for_each(|member| members.push_back(member.bytes(&mut IntText::new())));
        Repr::Packed(members)
    }

    fn table(&self) -> Repr {
        let mut members = Dict::default();
        for member in self.iter() {
            let member = Blob::from(member.bytes(&mut IntText::new()));
            members.insert_new(dict::hash(&member) as u32, Member(member, dict::Link::default()));
        }
        Repr::Table(Box::new(members))
    }
}

/// The integer a member is, whichever way it came.
fn number(member: Item<'_>) -> Option<i64> {
    match member {
        Item::Int(number) => Some(number),
        Item::Bytes(bytes) => canonical_int(bytes),
    }
}

fn insert_into(members: &mut Dict<Member>, member: &[u8]) -> bool {
    let hash = dict::hash(member) as u32;
    let is_new = members.find(hash, member).is_none();
    if is_new {
        members.insert_new(hash, Member(Blob::from(member), dict::Link::default()));
    }
    is_new
}

/// Whether a packed set of this many members may take one more, this one.
fn packs(len: usize, member: Item<'_>) -> bool {
    len < limits::get(&limits::SET_MAX_LISTPACK_ENTRIES) && member.len() <= limits::get(&limits::SET_MAX_LISTPACK_VALUE)
}

/// A set's members.
#[derive(Clone)]
pub struct Iter<'a>(IterRepr<'a>);

#[derive(Clone)]
enum IterRepr<'a> {
    Ints(&'a IntSet, Range<usize>),
    Packed(packed::Iter<'a>),
    Table(&'a Dict<Member>, Range<u32>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.0 {
            IterRepr::Ints(ints, left) => left.next().map(|at| Item::Int(ints.at(at))),
            IterRepr::Packed(members) => members.next(),
            IterRepr::Table(members, left) => left.next().map(|at| Item::Bytes(&members.at(at).0)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            IterRepr::Ints(_, left) => left.size_hint(),
            IterRepr::Packed(members) => members.size_hint(),
            IterRepr::Table(_, left) => left.size_hint(),
        }
    }
}

impl<'a> FromIterator<Item<'a>> for Set {
    fn from_iter<I: IntoIterator<Item = Item<'a>>>(members: I) -> Self {
        let mut set = Set::default();
        for member in members {
            set.insert(member);
        }
        set
    }
}

/// Changes, each recorded as it is made.
impl Edit<'_, Set> {
    /// Adds a member; tells whether it is new.
    #[inline]
    pub fn add(&mut self, member: &[u8]) -> bool {
        let is_new = self.value.insert(Item::of(member));
        if is_new {
            self.log.put(member, b"");
        }
        is_new
    }

    /// Removes a member; tells whether it was there.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let is_removed = self.value.remove(Item::of(member));
        if is_removed {
            self.log.remove(member);
        }
        is_removed
    }

    /// Removes any member, each as likely as any other, and hands it out; None if there is none left.
    pub fn take_random(&mut self) -> Option<Vec<u8>> {
        if self.value.len() == 0 {
            return None;
        }
        let member = self.value.random().to_vec();
        self.remove(&member);
        Some(member)
    }
}

impl Rows for Set {
    fn put_row(&mut self, member: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        if !bytes.is_empty() {
            return Err(BadRow);
        }
        self.insert(Item::of(member));
        Ok(())
    }

    fn remove_row(&mut self, member: &[u8]) -> Result<(), BadRow> {
        self.remove(Item::of(member));
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        let mut text = IntText::new();
        self.iter().for_each(|member| show(member.bytes(&mut text), b""));
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    /// Counted exactly for the first few members of a table; the others are taken to be like them.
    fn memory_bytes(&self) -> usize {
        const LOOKED_AT_MAX: usize = 16;
        let heap = match &self.0 {
            Repr::Ints(ints) => ints.memory_bytes(),
            Repr::Packed(members) => members.memory_bytes(),
            Repr::Table(members) => {
                let heap: usize = members.iter().take(LOOKED_AT_MAX).map(|member| member.0.heap_bytes()).sum();
                let looked_at = members.len().clamp(1, LOOKED_AT_MAX);
                size_of::<Dict<Member>>() + members.table_bytes() + heap * members.len() / looked_at
            }
        };
        size_of::<Set>() + heap
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Engine, Scope};

    const KEY: &[u8] = b"key";

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => (-200i64..200).prop_map(|number| number.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 0..70),
        ]
    }

    fn members(set: &Set) -> BTreeSet<Vec<u8>> {
        let members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
        let distinct: BTreeSet<_> = members.iter().cloned().collect();
        assert_eq!((members.len(), distinct.len()), (set.len(), set.len()));
        distinct
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn holds_what_a_set_holds_and_its_rows_make_the_same_again(
            steps in prop::collection::vec((prop::bool::weighted(0.7), member()), 0..300),
        ) {
            let engine = Engine::new(false);
            engine.write(0, 0, Scope::Keys(&[KEY]), |keys| {
                let mut edit = keys.edit_or_new::<Set>(KEY).unwrap();
                let mut model = BTreeSet::new();
                for (is_add, member) in steps {
                    if is_add {
                        assert_eq!(edit.add(&member), model.insert(member.clone()));
                    } else {
                        assert_eq!(edit.remove(&member), model.remove(&member));
                    }
                    assert_eq!(edit.value.contains(Item::of(&member)), is_add);
                }
                assert_eq!(members(edit.value), model);
                let mut again = Set::default();
                edit.value.each_row(&mut |member, bytes| again.put_row(member, bytes).unwrap());
                assert_eq!(members(&again), model);
                let mut shown = BTreeSet::new();
                let mut cursor = 0;
                loop {
                    cursor = edit.value.scan(cursor, |member| shown.extend([member.to_vec()])).1;
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!(shown, model);
                while let Some(member) = edit.take_random() {
                    assert!(model.remove(&member));
                }
                assert!(model.is_empty());
            });
        }
    }

    fn of(members: impl IntoIterator<Item = String>) -> Set {
        let members: Vec<String> = members.into_iter().collect();
        members.iter().map(|member| Item::of(member.as_bytes())).collect()
    }

    #[test]
    fn integers_are_the_same_members_in_every_form() {
        let table = of((0..600).map(|n| n.to_string()));
        let small: Set = table.iter().take(10).collect();
        assert_eq!((table.encoding(), small.encoding()), ("hashtable", "intset"));
        assert!(table.iter().take(10).all(|member| small.contains(member)));
        assert!(small.iter().all(|member| table.contains(member)));
    }

    #[test]
    fn takes_the_form_its_members_allow() {
        let ints = |count: i32| (0..count).map(|n| n.to_string());
        let texts = |count: i32| (0..count).map(|n| format!("m{n}"));
        for (set, encoding) in [
            (of(ints(512)), "intset"),
            (of(ints(513)), "hashtable"),
            (of(texts(128)), "listpack"),
            (of(texts(129)), "hashtable"),
            (of(ints(127).chain(texts(1))), "listpack"),
            (of(ints(128).chain(texts(1))), "hashtable"),
            (of(["x".repeat(64)]), "listpack"),
            (of(["x".repeat(65)]), "hashtable"),
            (of(["1".into(), "x".repeat(65)]), "hashtable"),
        ] {
            assert_eq!(set.encoding(), encoding, "{} members", set.len());
        }
    }

    #[test]
    fn takes_32_bytes() {
        assert_eq!(size_of::<Set>(), 32);
    }
}
