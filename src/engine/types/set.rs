//! The set: small, see [`smallset`], or a table. A row is a member, with no bytes.

use std::ops::Range;

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};
use crate::engine::log::Edit;
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::packed::{IntText, Item};
use crate::engine::types::smallset::{self, SmallSet};
use crate::id;

/// A set.
#[derive(Clone)]
pub struct Set(Repr);

#[derive(Clone)]
enum Repr {
    Small(SmallSet),
    Table(Box<Dict<Member>>),
}

#[derive(Clone)]
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
        Set(Repr::Small(SmallSet::default()))
    }
}

impl Set {
    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many members it has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Small(members) => members.len(),
            Repr::Table(members) => members.len(),
        }
    }

    /// Brings near what looking up these members will look at.
    pub(crate) fn prefetch<'a>(&self, members: impl Iterator<Item = &'a [u8]>) {
        if let Repr::Table(table) = &self.0 {
            table.prefetch(members);
        }
    }

    /// Whether this is a member.
    #[inline]
    pub(crate) fn contains(&self, member: Item<'_>) -> bool {
        match &self.0 {
            Repr::Small(members) => members.contains(member),
            Repr::Table(members) => members.get(member.bytes(&mut IntText::new())).is_some(),
        }
    }

    /// All members.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Repr::Small(members) => IterRepr::Small(members.iter()),
            Repr::Table(members) => IterRepr::Table(members, 0..members.len() as u32),
        })
    }

    /// The member at a position below `len`.
    pub(crate) fn at(&self, position: usize) -> Item<'_> {
        match &self.0 {
            Repr::Small(members) => members.at(position),
            Repr::Table(members) => Item::Bytes(&members.at(position as u32).0),
        }
    }

    /// Any member, each as likely as any other; the set must not be empty.
    pub(crate) fn random(&self) -> Item<'_> {
        self.at(id::random_below(self.len()))
    }

    /// Shows some members and returns how many and the cursor of the next; see [`Dict::scan`]. A set that is not a table
    /// is shown at once.
    pub(crate) fn scan(&self, cursor: u32, mut show: impl FnMut(Item<'_>)) -> (usize, u32) {
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
    pub(crate) fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Small(members) if members.is_ints() => "intset",
            Repr::Small(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Adds a member; tells whether it is new.
    pub(crate) fn insert(&mut self, member: Item<'_>) -> bool {
        let mut text = IntText::new();
        match &mut self.0 {
            Repr::Small(members) => match members.insert(member) {
                Ok(is_new) => is_new,
                Err(smallset::TooLarge) => insert_into(self.table(), member.bytes(&mut text)),
            },
            Repr::Table(members) => insert_into(members, member.bytes(&mut text)),
        }
    }

    /// Removes a member; tells whether it was there.
    pub(crate) fn remove(&mut self, member: Item<'_>) -> bool {
        match &mut self.0 {
            Repr::Small(members) => members.remove(member),
            Repr::Table(members) => members.remove_key(member.bytes(&mut IntText::new())).is_some(),
        }
    }

    /// As a table, made one where it is small.
    fn table(&mut self) -> &mut Dict<Member> {
        if let Repr::Small(small) = &self.0 {
            let mut members = Dict::default();
            for member in small.iter() {
                let member = Blob::from(member.bytes(&mut IntText::new()));
                members.insert_new(dict::hash(&member) as u32, Member(member, dict::Link::default()));
            }
            self.0 = Repr::Table(Box::new(members));
        }
        let Repr::Table(members) = &mut self.0 else { unreachable!("it was made one above") };
        members
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

/// A set's members.
#[derive(Clone)]
pub(crate) struct Iter<'a>(IterRepr<'a>);

#[derive(Clone)]
enum IterRepr<'a> {
    Small(smallset::Iter<'a>),
    Table(&'a Dict<Member>, Range<u32>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.0 {
            IterRepr::Small(members) => members.next(),
            IterRepr::Table(members, left) => left.next().map(|at| Item::Bytes(&members.at(at).0)),
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
    pub(crate) fn add(&mut self, member: &[u8]) -> bool {
        let is_new = self.value.insert(Item::of(member));
        if is_new {
            self.log.put(member, b"");
        }
        is_new
    }

    /// Removes a member; tells whether it was there.
    #[inline]
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        let is_removed = self.value.remove(Item::of(member));
        if is_removed {
            self.log.remove(member);
        }
        is_removed
    }

    /// Removes any member, each as likely as any other, and hands it out; None if there is none left.
    pub(crate) fn take_random(&mut self) -> Option<Vec<u8>> {
        if self.value.is_empty() {
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
            return Err(BadRow::Bytes);
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
        match &self.0 {
            Repr::Small(members) => members.memory_bytes(),
            Repr::Table(members) => {
                let heap: usize = members.iter().take(LOOKED_AT_MAX).map(|member| member.0.heap_bytes()).sum();
                let looked_at = members.len().clamp(1, LOOKED_AT_MAX);
                size_of::<Dict<Member>>() + members.table_bytes() + heap * members.len() / looked_at
            }
        }
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
    fn takes_16_bytes() {
        assert_eq!(size_of::<Set>(), 16);
    }
}
