//! The hash: fields and their values, in one allocation while it is small, a table once it is not or once fields expire.
//!
//! A row is a field and, behind a byte that says whether it expires and the time if it does, its value. Fields whose time
//! is over are still there until they are removed; whoever reads names the time and does not see them.

use std::collections::{BTreeSet, HashMap};

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};
use crate::engine::log::Edit;
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::packed::{IntText, Item};
use crate::engine::types::pairs::{self, Pairs};
use crate::id;
use crate::limits;

/// The first byte of a row's bytes: the value follows.
const LASTS: u8 = 0;
/// The first byte of a row's bytes: the time the field expires follows, little-endian, then the value.
const EXPIRES: u8 = 1;

/// A hash.
#[derive(Clone)]
pub struct Hash(Repr);

#[derive(Clone)]
enum Repr {
    Pairs(Pairs),
    Table(Box<Table>),
}

#[derive(Clone)]
struct Table {
    fields: Dict<Field>,
    expiries: Expiries,
    /// Whether only few and short fields were ever in it, so that it is a table just because some expire.
    is_small: bool,
    /// When the sweep will look at it, if it will.
    noted: Option<u64>,
}

/// A field of a table, and its value. In this order, so that what every lookup reads is most often in one cache line.
#[derive(Clone)]
#[repr(C)]
struct Field {
    link: dict::Link,
    name: Blob,
    value: Blob,
}

impl dict::Entry for Field {
    fn key(&self) -> &[u8] {
        &self.name
    }

    #[inline]
    fn link(&self) -> dict::Link {
        self.link
    }

    #[inline]
    fn link_mut(&mut self) -> &mut dict::Link {
        &mut self.link
    }
}

/// When fields expire, by field and by time.
#[derive(Default, Clone)]
struct Expiries {
    by_field: HashMap<Blob, u64, foldhash::fast::RandomState>,
    by_time: BTreeSet<(u64, Blob)>,
}

impl Expiries {
    #[inline]
    fn get(&self, field: &[u8]) -> Option<u64> {
        if self.by_field.is_empty() { None } else { self.by_field.get(field).copied() }
    }

    fn set(&mut self, field: &[u8], expire_at: Option<u64>) {
        if let Some((field, before)) = self.by_field.remove_entry(field) {
            self.by_time.remove(&(before, field));
        }
        if let Some(expire_at) = expire_at {
            self.by_field.insert(Blob::from(field), expire_at);
            self.by_time.insert((expire_at, Blob::from(field)));
        }
    }

    #[inline]
    fn clear(&mut self, field: &[u8]) {
        if !self.by_field.is_empty() {
            self.set(field, None);
        }
    }

    fn is_over(&self, field: &[u8], now: u64) -> bool {
        self.get(field).is_some_and(|expire_at| expire_at <= now)
    }

    fn over(&self, now: u64) -> impl Iterator<Item = &Blob> {
        self.by_time.iter().take_while(move |(expire_at, _)| *expire_at <= now).map(|(_, field)| field)
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash(Repr::Pairs(Pairs::default()))
    }
}

impl Hash {
    /// How many fields it holds, those included whose time is over.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Pairs(pairs) => pairs.len(),
            Repr::Table(table) => table.fields.len(),
        }
    }

    /// How many fields it holds whose time is not over.
    pub(crate) fn live_len(&self, now: u64) -> usize {
        match &self.0 {
            Repr::Pairs(pairs) => pairs.len(),
            Repr::Table(table) => table.fields.len() - table.expiries.over(now).count(),
        }
    }

    /// Brings near what looking up these fields will look at.
    pub(crate) fn prefetch<'a>(&self, fields: impl Iterator<Item = &'a [u8]>) {
        if let Repr::Table(table) = &self.0 {
            table.fields.prefetch(fields);
        }
    }

    /// The value of a field.
    #[inline]
    pub(crate) fn get(&self, field: &[u8], now: u64) -> Option<Item<'_>> {
        match &self.0 {
            Repr::Pairs(pairs) => pairs.get(field),
            Repr::Table(table) => {
                let found = table.fields.get(field)?;
                (!table.expiries.is_over(field, now)).then(|| Item::Bytes(&found.value))
            }
        }
    }

    /// When a field expires, in milliseconds since the epoch; None where it lasts or is not there.
    pub(crate) fn expiry(&self, field: &[u8]) -> Option<u64> {
        match &self.0 {
            Repr::Pairs(_) => None,
            Repr::Table(table) => table.expiries.get(field),
        }
    }

    /// When the next field expires, or should have; in milliseconds since the epoch.
    #[inline]
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        match &self.0 {
            Repr::Pairs(_) => None,
            Repr::Table(table) => table.expiries.by_time.first().map(|(expire_at, _)| *expire_at),
        }
    }

    /// When the sweep should look at it, where it does not know yet that it should by then; it is taken to know from here on.
    pub(crate) fn expiry_to_note(&mut self) -> Option<u64> {
        let Repr::Table(table) = &mut self.0 else { return None };
        let next = table.expiries.by_time.first().map(|(expire_at, _)| *expire_at);
        let next = next.filter(|next| table.noted.is_none_or(|noted| *next < noted))?;
        table.noted = Some(next);
        Some(next)
    }

    /// The sweep will not look at it: it has done so, or it looks for it under another key.
    pub(crate) fn forget_note(&mut self) {
        if let Repr::Table(table) = &mut self.0 {
            table.noted = None;
        }
    }

    /// Whether it holds fields whose time is over.
    #[inline]
    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.next_expiry().is_some_and(|expire_at| expire_at <= now)
    }

    /// The fields whose time is not over, and their values.
    pub(crate) fn iter(&self, now: u64) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        let hides = self.has_expired(now);
        self.all().filter(move |(field, _)| !hides || !self.is_over(field, now))
    }

    /// The field and value at a position below `len`, also where its time is over.
    pub(crate) fn at(&self, position: usize) -> (Item<'_>, Item<'_>) {
        match &self.0 {
            Repr::Pairs(pairs) => pairs.iter().nth(position).expect("the position is below len"),
            Repr::Table(table) => table.fields.at(position as u32).items(),
        }
    }

    /// Any field and its value, each as likely as any other, also where its time is over; the hash must not be empty.
    pub(crate) fn random(&self) -> (Item<'_>, Item<'_>) {
        self.at(id::random_below(self.len()))
    }

    /// Shows some fields whose time is not over and returns how many it looked at and the cursor of the next; see
    /// [`Dict::scan`]. A hash that is not a table is shown at once.
    pub(crate) fn scan(&self, cursor: u32, now: u64, mut show: impl FnMut(Item<'_>, Item<'_>)) -> (usize, u32) {
        match &self.0 {
            Repr::Pairs(_) => {
                self.all().for_each(|(field, value)| show(field, value));
                (self.len(), 0)
            }
            Repr::Table(table) => {
                let mut seen = 0;
                let next = table.fields.scan(cursor, |field| {
                    seen += 1;
                    if !table.expiries.is_over(&field.name, now) {
                        show(Item::Bytes(&field.name), Item::Bytes(&field.value));
                    }
                });
                (seen, next)
            }
        }
    }

    /// Whether finding the field at a position takes longer the larger the position is.
    pub(crate) fn is_walked(&self) -> bool {
        matches!(self.0, Repr::Pairs(_))
    }

    /// The name `OBJECT ENCODING` gives.
    pub(crate) fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Pairs(_) => "listpack",
            Repr::Table(table) if table.is_small() => "listpackex",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Sets a field, which then expires as told; tells whether it is new.
    fn set(&mut self, field: &[u8], value: &[u8], expire_at: Option<u64>) -> bool {
        let is_short = field.len().max(value.len()) <= limits::get(&limits::HASH_MAX_LISTPACK_VALUE);
        match &mut self.0 {
            Repr::Pairs(pairs) if is_short && expire_at.is_none() && pairs.has_room_for(field, value) => {
                let is_new = pairs.set(field, value);
                if is_new && pairs.len() > limits::get(&limits::HASH_MAX_LISTPACK_ENTRIES) {
                    self.table(false);
                }
                is_new
            }
            _ => self.table(is_short).set(field, value, expire_at),
        }
    }

    /// Removes a field; tells whether it was there.
    fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Pairs(pairs) => pairs.remove(field),
            Repr::Table(table) => {
                table.expiries.clear(field);
                table.fields.remove_key(field).is_some()
            }
        }
    }

    /// Sets when a field that is there expires.
    fn expire(&mut self, field: &[u8], expire_at: Option<u64>) {
        self.table(true).expiries.set(field, expire_at);
    }

    /// As a table, made one where it is not. `is_small` says whether it need not be one for its size.
    fn table(&mut self, is_small: bool) -> &mut Table {
        if let Repr::Pairs(_) = &self.0 {
            let mut fields = Dict::default();
            for (name, value) in self.all() {
                let field = Field { name: blob(name), value: blob(value), link: dict::Link::default() };
                fields.insert_new(dict::hash(&field.name) as u32, field);
            }
            self.0 = Repr::Table(Box::new(Table { fields, expiries: Expiries::default(), is_small, noted: None }));
        }
        let Repr::Table(table) = &mut self.0 else { unreachable!("it was made one above") };
        table.is_small &= is_small;
        table
    }

    fn all(&self) -> Iter<'_> {
        match &self.0 {
            Repr::Pairs(pairs) => Iter::Pairs(pairs.iter()),
            Repr::Table(table) => Iter::Table(&table.fields, 0),
        }
    }

    fn is_over(&self, field: &Item<'_>, now: u64) -> bool {
        match (&self.0, field) {
            (Repr::Table(table), Item::Bytes(field)) => table.expiries.is_over(field, now),
            _ => false,
        }
    }
}

impl Table {
    fn is_small(&self) -> bool {
        self.is_small && self.fields.len() <= limits::get(&limits::HASH_MAX_LISTPACK_ENTRIES)
    }

    fn set(&mut self, field: &[u8], value: &[u8], expire_at: Option<u64>) -> bool {
        if expire_at.is_some() {
            self.expiries.set(field, expire_at);
        } else {
            self.expiries.clear(field);
        }
        let hash = dict::hash(field) as u32;
        if let Some(at) = self.fields.find(hash, field) {
            self.fields.at_mut(at).value = Blob::from(value);
            return false;
        }
        self.fields.insert_new(hash, Field { name: Blob::from(field), value: Blob::from(value), link: dict::Link::default() });
        true
    }
}

impl Field {
    fn items(&self) -> (Item<'_>, Item<'_>) {
        (Item::Bytes(&self.name), Item::Bytes(&self.value))
    }
}

fn blob(item: Item<'_>) -> Blob {
    Blob::from(item.bytes(&mut IntText::new()))
}

enum Iter<'a> {
    Pairs(pairs::Iter<'a>),
    Table(&'a Dict<Field>, u32),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Pairs(pairs) => pairs.next(),
            Iter::Table(fields, at) => {
                let field = ((*at as usize) < fields.len()).then(|| fields.at(*at))?;
                *at += 1;
                Some(field.items())
            }
        }
    }
}

/// Changes, each recorded as it is made.
impl Edit<'_, Hash> {
    /// Sets a field, which lasts from then on; tells whether it is new.
    #[inline]
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.log.put_parts(field, &[&[LASTS], value]);
        self.value.set(field, value, None)
    }

    /// Sets a field, which expires when it did before.
    pub(crate) fn set_keeping_expiry(&mut self, field: &[u8], value: &[u8]) {
        let Some(expire_at) = self.value.expiry(field) else {
            self.set(field, value);
            return;
        };
        self.set_expiring(field, value, expire_at);
    }

    /// Sets a field, which expires at this time, in milliseconds since the epoch.
    pub(crate) fn set_expiring(&mut self, field: &[u8], value: &[u8], expire_at: u64) {
        self.log.put_parts(field, &[&[EXPIRES], &expire_at.to_le_bytes(), value]);
        self.value.set(field, value, Some(expire_at));
    }

    /// Removes a field; tells whether it was there.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        let is_removed = self.value.remove(field);
        if is_removed {
            self.log.remove(field);
        }
        is_removed
    }

    /// Sets when a field that is there expires, in milliseconds since the epoch; None for never.
    pub(crate) fn expire(&mut self, field: &[u8], expire_at: Option<u64>) {
        self.value.expire(field, expire_at);
        let mut text = IntText::new();
        let value = self.value.get(field, 0).expect("a field that expires is there");
        match expire_at {
            Some(at) => self.log.put_parts(field, &[&[EXPIRES], &at.to_le_bytes(), value.bytes(&mut text)]),
            None => self.log.put_parts(field, &[&[LASTS], value.bytes(&mut text)]),
        }
    }

    /// Removes up to `count` fields whose time is over; tells how many there were.
    pub(crate) fn remove_expired(&mut self, now: u64, count: usize) -> usize {
        if !self.value.has_expired(now) {
            return 0;
        }
        let Repr::Table(table) = &self.value.0 else { return 0 };
        let over: Vec<Blob> = table.expiries.over(now).take(count).cloned().collect();
        over.iter().filter(|field| self.remove(field)).count()
    }
}

impl Rows for Hash {
    fn put_row(&mut self, field: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        match bytes {
            [LASTS, value @ ..] => self.set(field, value, None),
            [EXPIRES, rest @ ..] => {
                let (at, value) = rest.split_first_chunk::<8>().ok_or(BadRow::Bytes)?;
                self.set(field, value, Some(u64::from_le_bytes(*at)))
            }
            _ => return Err(BadRow::Bytes),
        };
        Ok(())
    }

    fn remove_row(&mut self, field: &[u8]) -> Result<(), BadRow> {
        self.remove(field);
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        let (mut field_text, mut value_text) = (IntText::new(), IntText::new());
        let mut bytes = Vec::new();
        for (field, value) in self.all() {
            let field = field.bytes(&mut field_text);
            bytes.clear();
            match self.expiry(field) {
                None => bytes.push(LASTS),
                Some(at) => {
                    bytes.push(EXPIRES);
                    bytes.extend_from_slice(&at.to_le_bytes());
                }
            }
            bytes.extend_from_slice(value.bytes(&mut value_text));
            show(field, &bytes);
        }
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn memory_bytes(&self) -> usize {
        match &self.0 {
            Repr::Pairs(pairs) => pairs.memory_bytes(),
            Repr::Table(table) => table.memory_bytes(),
        }
    }
}

impl Table {
    /// Counted exactly for the first few fields; the others are taken to be like them.
    fn memory_bytes(&self) -> usize {
        const LOOKED_AT_MAX: usize = 16;
        let heap: usize =
            self.fields.iter().take(LOOKED_AT_MAX).map(|field| field.name.heap_bytes() + field.value.heap_bytes()).sum();
        let looked_at = self.fields.len().clamp(1, LOOKED_AT_MAX);
        let expiry = 2 * (size_of::<Blob>() + size_of::<u64>());
        size_of::<Table>()
            + self.fields.table_bytes()
            + heap * self.fields.len() / looked_at
            + self.expiries.by_time.len() * expiry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::effect::{self, Effect, Row};
    use crate::engine::{Engine, Scope};

    const KEY: &[u8] = b"key";

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, Vec<u8>),
        SetKeeping(u8, Vec<u8>),
        Remove(u8),
        Expire(u8, Option<u64>),
        RemoveExpired(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let value = prop_oneof![any::<i64>().prop_map(|n| n.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..80)];
        prop_oneof![
            4 => (any::<u8>(), value.clone()).prop_map(|(field, value)| Step::Set(field, value)),
            1 => (any::<u8>(), value).prop_map(|(field, value)| Step::SetKeeping(field, value)),
            1 => any::<u8>().prop_map(Step::Remove),
            1 => (any::<u8>(), prop::option::of(1u64..100)).prop_map(|(field, at)| Step::Expire(field, at)),
            1 => (0u64..20).prop_map(Step::RemoveExpired),
        ]
    }

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

    fn model_of(hash: &Hash) -> Model {
        hash.all().map(|(field, value)| (field.to_vec(), (value.to_vec(), hash.expiry(&field.to_vec())))).collect()
    }

    fn apply(edit: &mut Edit<'_, Hash>, model: &mut Model, step: Step) {
        let name = |field: u8| if field.is_multiple_of(2) { field.to_string() } else { format!("field:{field}") }.into_bytes();
        match step {
            Step::Set(field, value) => {
                assert_eq!(edit.set(&name(field), &value), model.insert(name(field), (value, None)).is_none());
            }
            Step::SetKeeping(field, value) => {
                edit.set_keeping_expiry(&name(field), &value);
                model.entry(name(field)).or_default().0 = value;
            }
            Step::Remove(field) => assert_eq!(edit.remove(&name(field)), model.remove(&name(field)).is_some()),
            Step::Expire(field, at) => {
                if let Some(entry) = model.get_mut(&name(field)) {
                    edit.expire(&name(field), at);
                    entry.1 = at;
                }
            }
            Step::RemoveExpired(now) => {
                let before = model.len();
                model.retain(|_, (_, at)| at.is_none_or(|at| at > now));
                assert_eq!(edit.remove_expired(now, usize::MAX), before - model.len());
            }
        }
    }

    fn replayed(engine: &Engine) -> Hash {
        let mut hash = Hash::default();
        for (_, bytes) in engine.cut().shards {
            let mut rest = &*bytes;
            while !rest.is_empty() {
                let Effect::Change { rows, .. } = effect::read(&mut rest).unwrap() else { panic!("only changes were made") };
                for row in rows {
                    match row {
                        Row::Put(field, bytes) => hash.put_row(field, bytes).unwrap(),
                        Row::Remove(field) => hash.remove_row(field).unwrap(),
                    }
                }
            }
        }
        hash
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn holds_what_a_map_holds_and_its_log_makes_the_same_again(steps in prop::collection::vec(step(), 0..120)) {
            let engine = Engine::new(true);
            let mut model = Model::new();
            let rows = engine.write(0, 0, Scope::Keys(&[KEY]), |keys| {
                let mut edit = keys.edit_or_new::<Hash>(KEY).unwrap();
                steps.into_iter().for_each(|step| apply(&mut edit, &mut model, step));
                assert_eq!(model_of(edit.value), model);
                let next = model.values().filter_map(|(_, at)| *at).min();
                assert_eq!(edit.value.next_expiry(), next);
                assert_eq!(edit.value.live_len(50), model.values().filter(|(_, at)| at.is_none_or(|at| at > 50)).count());
                let mut again = Hash::default();
                edit.value.each_row(&mut |field, bytes| again.put_row(field, bytes).unwrap());
                again
            });
            prop_assert_eq!(model_of(&rows), model.clone());
            prop_assert_eq!(model_of(&replayed(&engine)), model);
        }
    }

    #[test]
    fn refuses_bytes_that_are_no_row() {
        let mut hash = Hash::default();
        for bytes in [&b""[..], b"\x02abc", b"\x01short"] {
            assert_eq!(hash.put_row(b"f", bytes), Err(BadRow::Bytes));
        }
    }

    #[test]
    fn stays_small_up_to_its_bounds() {
        let mut hash = Hash::default();
        for n in 0..512 {
            hash.set(format!("f{n}").as_bytes(), b"v", None);
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"one more", b"v", None);
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 513));
        let mut hash = Hash::default();
        hash.set(b"f", &[b'x'; 64], None);
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"f", b"v", Some(5));
        assert_eq!(hash.encoding(), "listpackex");
        hash.set(b"f", &[b'x'; 65], None);
        assert_eq!(hash.encoding(), "hashtable");
    }

    #[test]
    fn takes_16_bytes() {
        assert_eq!(size_of::<Hash>(), 16);
    }
}
