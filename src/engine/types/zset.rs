//! The sorted set: members with scores, kept in the order of (score, bytes). Small ones are packed; large ones are a table
//! of members by name with a [`Ranked`] order over it. All ranges are ranges of ranks: a bound, by score or by name, is
//! first turned into the rank it stands at.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::packed::{IntText, Item, Packed};
pub(crate) use crate::engine::types::ranked::Cut;
use crate::engine::types::ranked::{Member, Ranked};
use crate::limits;

/// Whole scores of at most this magnitude are packed as integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// What a packed score that is not an integer starts with, so that its bytes never spell one.
const DOUBLE_MARK: u8 = b'd';

/// A sorted set.
#[derive(Clone)]
pub struct Zset(Form);

#[derive(Clone)]
enum Form {
    /// Member and score take turns, in order.
    Packed(Packed),
    Ranked(Box<Large>),
}

/// Invariant: `order` holds each position of `members` once, in the order of (score, name).
#[derive(Default, Clone)]
struct Large {
    members: Dict<Member>,
    order: Ranked,
    /// Bytes that names hold outside the table.
    heap_bytes: usize,
}

/// Which way a walk over ranks goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the lowest rank up.
    Up,
    /// From the highest rank down.
    Down,
}

/// A member's score before and after [`Zset::update`]; None where it was or is not there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Updated {
    /// The score before.
    pub before: Option<f64>,
    /// The score after.
    pub after: Option<f64>,
}

impl Updated {
    /// Whether the member was added.
    pub(crate) fn is_added(&self) -> bool {
        self.before.is_none() && self.after.is_some()
    }

    /// Whether anything changed.
    pub(crate) fn is_changed(&self) -> bool {
        self.before != self.after
    }
}

impl Default for Zset {
    fn default() -> Self {
        Zset(Form::Packed(Packed::default()))
    }
}

impl Zset {
    /// An empty one in the form of large ones, which it keeps: for results. In this form a zero may have a sign, and Redis shows it.
    pub(crate) fn large() -> Zset {
        Zset(Form::Ranked(Box::default()))
    }

    /// The same in the form of small ones, if it is small: for results that are stored.
    pub(crate) fn packed_if_small(self) -> Zset {
        let (entries_max, bytes_max) =
            (limits::get(&limits::ZSET_MAX_LISTPACK_ENTRIES), limits::get(&limits::ZSET_MAX_LISTPACK_VALUE));
        let Form::Ranked(large) = &self.0 else { return self };
        if large.members.len() > entries_max || large.members.iter().any(|member| member.name.len() > bytes_max) {
            return self;
        }
        let mut small = Zset::default();
        self.each(0..self.len(), Direction::Up, &mut |member, score| {
            small.set(member, score);
        });
        small
    }

    /// Brings near what looking up these members will look at.
    pub(crate) fn prefetch<'a>(&self, members: impl Iterator<Item = &'a [u8]>) {
        if let Form::Ranked(large) = &self.0 {
            large.members.prefetch(members);
        }
    }

    /// How many members it has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len() / 2,
            Form::Ranked(large) => large.members.len(),
        }
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name `OBJECT ENCODING` gives.
    pub(crate) fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Ranked(_) => "skiplist",
        }
    }

    /// A member's score.
    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(packed) => packed.find_pair(member).map(|(_, score)| packed_score(&score)),
            Form::Ranked(large) => large.members.get(member).map(|member| member.score),
        }
    }

    /// Gives a member the score that `decide` makes of the one it has; None leaves it as it is.
    #[inline]
    pub(crate) fn update<E>(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<f64>) -> Result<Option<f64>, E>,
    ) -> Result<Updated, E> {
        match &mut self.0 {
            Form::Packed(packed) => {
                let found = packed.find_pair(member).map(|(at, score)| (at, packed_score(&score)));
                let before = found.map(|(_, score)| score);
                let Some(after) = decide(before)? else { return Ok(Updated { before, after: before }) };
                if let Some((at, score)) = found {
                    if score != after {
                        move_packed(packed, at, member, after, after > score);
                    }
                    // As in Redis, a packed zero has no sign.
                    return Ok(Updated { before, after: Some(after + 0.0) });
                }
                if packed.len() / 2 < limits::get(&limits::ZSET_MAX_LISTPACK_ENTRIES)
                    && member.len() <= limits::get(&limits::ZSET_MAX_LISTPACK_VALUE)
                {
                    let at = packed_rank(packed, Cut::At(after, member));
                    insert_packed(packed, at, member, after);
                    Ok(Updated { before, after: Some(after + 0.0) })
                } else {
                    self.enlarge().insert(member, after);
                    Ok(Updated { before, after: Some(after) })
                }
            }
            Form::Ranked(large) => large.update(member, decide),
        }
    }

    /// Gives a member a score, adding it where it is missing. Tells the score it had.
    pub(crate) fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let Ok(updated) = self.update(member, |_| Ok::<_, Infallible>(Some(score)));
        updated.before
    }

    /// Removes a member and tells its score.
    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Form::Packed(packed) => {
                let (at, score) = packed.find_pair(member).map(|(at, score)| (at, packed_score(&score)))?;
                packed.remove_range(at, 2);
                Some(score)
            }
            Form::Ranked(large) => {
                let position = large.members.find(dict::hash(member) as u32, member)?;
                Some(large.remove(position).score)
            }
        }
    }

    /// How many members stand below a member, and its score.
    pub(crate) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Form::Packed(packed) => packed.find_pair(member).map(|(at, score)| (at / 2, packed_score(&score))),
            Form::Ranked(large) => {
                let position = large.members.find(dict::hash(member) as u32, member)?;
                let score = large.members.at(position).score;
                Some((large.order.rank_at(score, member, position), score))
            }
        }
    }

    /// How many members stand before a place.
    pub(crate) fn rank_of(&self, cut: Cut<'_>) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed_rank(packed, cut),
            Form::Ranked(large) => large.order.rank(&large.members, cut),
        }
    }

    /// Shows the members of a range of ranks, until told to stop.
    pub(crate) fn walk(
        &self,
        ranks: Range<usize>,
        direction: Direction,
        show: &mut dyn FnMut(&[u8], f64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return ControlFlow::Continue(());
        }
        match &self.0 {
            Form::Packed(packed) => walk_packed(packed, ranks, direction, show),
            Form::Ranked(large) => large.walk(ranks, direction, show),
        }
    }

    /// Shows the members of a range of ranks.
    pub(crate) fn each(&self, ranks: Range<usize>, direction: Direction, show: &mut dyn FnMut(&[u8], f64)) {
        let _ = self.walk(ranks, direction, &mut |member, score| {
            show(member, score);
            ControlFlow::Continue(())
        });
    }

    /// Removes the members of a range of ranks, and shows each.
    pub(crate) fn remove_ranks(&mut self, ranks: Range<usize>, gone: &mut dyn FnMut(&[u8], f64)) {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return;
        }
        match &mut self.0 {
            Form::Packed(packed) => {
                let _ = walk_packed(packed, ranks.clone(), Direction::Up, &mut |member, score| {
                    gone(member, score);
                    ControlFlow::Continue(())
                });
                packed.remove_range(2 * ranks.start, 2 * ranks.len());
            }
            Form::Ranked(large) => {
                for _ in ranks.clone() {
                    let member = large.remove(large.order.at(ranks.start));
                    gone(&member.name, member.score);
                }
            }
        }
    }

    /// Shows the member with this number below `len`. Which one that is means nothing, but each has a number until the next change.
    pub(crate) fn nth<R>(&self, number: usize, show: impl FnOnce(&[u8], f64) -> R) -> Option<R> {
        match &self.0 {
            Form::Packed(packed) => {
                let mut pair = packed.range(2 * number, 2);
                let (member, score) = (pair.next()?, pair.next()?);
                Some(show(member.bytes(&mut IntText::new()), packed_score(&score)))
            }
            Form::Ranked(large) => (number < large.members.len()).then(|| {
                let member = large.members.at(number as u32);
                show(&member.name, member.score)
            }),
        }
    }

    /// Shows some members and returns how many and the cursor to go on with, 0 at the end; see [`Dict::scan`]. A packed one is
    /// shown at once.
    pub(crate) fn scan(&self, cursor: u32, mut show: impl FnMut(&[u8], f64)) -> (usize, u32) {
        let mut seen = 0;
        match &self.0 {
            Form::Packed(_) => {
                self.each(0..self.len(), Direction::Up, &mut show);
                (self.len(), 0)
            }
            Form::Ranked(large) => {
                let next = large.members.scan(cursor, |member| {
                    seen += 1;
                    show(&member.name, member.score);
                });
                (seen, next)
            }
        }
    }

    fn enlarge(&mut self) -> &mut Large {
        if let Form::Packed(_) = self.0 {
            let mut large = Box::<Large>::default();
            self.each(0..self.len(), Direction::Up, &mut |member, score| large.insert(member, score));
            self.0 = Form::Ranked(large);
        }
        match &mut self.0 {
            Form::Ranked(large) => large,
            Form::Packed(_) => unreachable!("it was enlarged above"),
        }
    }
}

impl Large {
    #[inline]
    fn update<E>(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Result<Option<f64>, E>) -> Result<Updated, E> {
        let hash = dict::hash(member) as u32;
        let Some(position) = self.members.find(hash, member) else {
            let after = decide(None)?;
            if let Some(score) = after {
                self.insert_new(hash, member, score);
            }
            return Ok(Updated { before: None, after });
        };
        let before = self.members.at(position).score;
        let after = decide(Some(before))?.unwrap_or(before);
        if after != before {
            self.order.remove(before, member, position);
            self.members.at_mut(position).score = after;
            self.order.insert(&self.members, after, member, position);
        }
        Ok(Updated { before: Some(before), after: Some(after) })
    }

    /// Adds a member that is not there.
    fn insert(&mut self, member: &[u8], score: f64) {
        self.insert_new(dict::hash(member) as u32, member, score);
    }

    fn insert_new(&mut self, hash: u32, member: &[u8], score: f64) {
        let name = Blob::from(member);
        self.heap_bytes += name.heap_bytes();
        let position = self.members.insert_new(hash, Member { name, score, link: dict::Link::default() });
        self.order.insert(&self.members, score, member, position);
    }

    fn remove(&mut self, position: u32) -> Member {
        let Large { members, order, .. } = self;
        let member = members.at(position);
        order.remove(member.score, &member.name, position);
        // The table will move its last entry into the gap.
        let last = members.len() as u32 - 1;
        if position != last {
            let moved = members.at(last);
            order.relocate(moved.score, &moved.name, last, position);
        }
        let (member, moved) = members.remove(position);
        debug_assert!(moved.is_none_or(|moved| moved.from == last));
        self.heap_bytes -= member.name.heap_bytes();
        member
    }

    fn walk(
        &self,
        mut ranks: Range<usize>,
        direction: Direction,
        show: &mut dyn FnMut(&[u8], f64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut show = |(score, position): (&f64, &u32)| show(&self.members.at(*position).name, *score);
        while !ranks.is_empty() {
            match direction {
                Direction::Up => {
                    let (scores, positions, leaf) = self.order.leaf_of(ranks.start);
                    let part = ranks.start - leaf.start..ranks.end.min(leaf.end) - leaf.start;
                    scores[part.clone()].iter().zip(&positions[part]).try_for_each(&mut show)?;
                    ranks.start = leaf.end;
                }
                Direction::Down => {
                    let (scores, positions, leaf) = self.order.leaf_of(ranks.end - 1);
                    let part = ranks.start.max(leaf.start) - leaf.start..ranks.end - leaf.start;
                    scores[part.clone()].iter().zip(&positions[part]).rev().try_for_each(&mut show)?;
                    ranks.end = leaf.start;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// How many packed members stand before a place.
fn packed_rank(packed: &Packed, cut: Cut<'_>) -> usize {
    leading(packed.iter(), cut)
}

/// How many of some members, shown with their scores, stand before a place.
fn leading<'a>(mut items: impl Iterator<Item = Item<'a>>, cut: Cut<'_>) -> usize {
    let (mut count, mut text) = (0, IntText::new());
    while let (Some(member), Some(score)) = (items.next(), items.next()) {
        if !cut.follows(packed_score(&score), || member.bytes(&mut text)) {
            break;
        }
        count += 1;
    }
    count
}

fn walk_packed(
    packed: &Packed,
    ranks: Range<usize>,
    direction: Direction,
    show: &mut dyn FnMut(&[u8], f64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut items = packed.range(2 * ranks.start, 2 * ranks.len());
    loop {
        let (member, score) = match direction {
            Direction::Up => (items.next(), items.next()),
            Direction::Down => {
                let score = items.next_back();
                (items.next_back(), score)
            }
        };
        let (Some(member), Some(score)) = (member, score) else { return ControlFlow::Continue(()) };
        show(member.bytes(&mut IntText::new()), packed_score(&score))?;
    }
}

fn insert_packed(packed: &mut Packed, rank: usize, member: &[u8], score: f64) {
    with_packed_score(score, |score| packed.insert_pair(2 * rank, member, score));
}

/// Gives the member at an index another score, and the place it then belongs in. `is_up`: whether the score rises.
fn move_packed(packed: &mut Packed, at: usize, member: &[u8], score: f64, is_up: bool) {
    let cut = Cut::At(score, member);
    let rank = if is_up { at / 2 + leading(packed.range(at + 2, packed.len()), cut) } else { leading(packed.range(0, at), cut) };
    if rank == at / 2 {
        with_packed_score(score, |score| packed.replace(at + 1, score));
    } else {
        packed.remove_range(at, 2);
        insert_packed(packed, rank, member, score);
    }
}

fn packed_score(item: &Item<'_>) -> f64 {
    match item {
        Item::Int(number) => *number as f64,
        Item::Bytes([DOUBLE_MARK, bytes @ ..]) => f64::from_le_bytes(bytes.try_into().expect("a packed double has 8 bytes")),
        Item::Bytes(_) => unreachable!("a packed score is an integer or marked as a double"),
    }
}

fn with_packed_score<R>(score: f64, run: impl FnOnce(&[u8]) -> R) -> R {
    if score.trunc() == score && score.abs() <= WHOLE_MAX {
        return run(itoa::Buffer::new().format(score as i64).as_bytes());
    }
    let mut bytes = [DOUBLE_MARK; 9];
    bytes[1..].copy_from_slice(&score.to_le_bytes());
    run(&bytes)
}

/// Rows: member to score, as 8 little-endian bytes.
impl Rows for Zset {
    fn put_row(&mut self, element: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        let score = f64::from_le_bytes(bytes.try_into().map_err(|_| BadRow::Bytes)?);
        if score.is_nan() {
            return Err(BadRow::Bytes);
        }
        self.set(element, score);
        Ok(())
    }

    fn remove_row(&mut self, element: &[u8]) -> Result<(), BadRow> {
        self.remove(element);
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        self.each(0..self.len(), Direction::Up, &mut |member, score| show(member, &score.to_le_bytes()));
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Zset>()
            + match &self.0 {
                Form::Packed(packed) => packed.memory_bytes(),
                Form::Ranked(large) => {
                    size_of::<Large>() + large.members.table_bytes() + large.order.memory_bytes() + large.heap_bytes
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same in the plainest way.
    #[derive(Default)]
    struct Model(Vec<(f64, Vec<u8>)>);

    impl Model {
        fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
            // Equal scores of different signs are one score to Redis, and the first stays.
            let before = self.score(member);
            if before == Some(score) {
                return before;
            }
            self.remove(member);
            self.0.push((score, member.to_vec()));
            self.0.sort_by(|a, b| a.partial_cmp(b).unwrap());
            before
        }

        fn score(&self, member: &[u8]) -> Option<f64> {
            self.0.iter().find(|(_, name)| name == member).map(|(score, _)| *score)
        }

        fn remove(&mut self, member: &[u8]) -> Option<f64> {
            let at = self.0.iter().position(|(_, name)| name == member)?;
            Some(self.0.remove(at).0)
        }
    }

    fn all(zset: &Zset, ranks: Range<usize>, direction: Direction) -> Vec<(f64, Vec<u8>)> {
        let mut all = Vec::new();
        zset.each(ranks, direction, &mut |member, score| all.push((score, member.to_vec())));
        all
    }

    fn check(zset: &Zset, model: &Model, score: f64, member: &[u8]) {
        let len = model.0.len();
        assert_eq!(zset.len(), len);
        assert_eq!(all(zset, 0..len, Direction::Up), model.0);
        let (a, b) = (len / 3, len - len / 4);
        let mut part = model.0[a.min(b)..b].to_vec();
        assert_eq!(all(zset, a..b, Direction::Up), part);
        part.reverse();
        assert_eq!(all(zset, a..b, Direction::Down), part);
        for cut in [Cut::Before(score), Cut::After(score), Cut::At(score, member), Cut::Past(score, member)] {
            let rank = model.0.iter().filter(|(score, name)| cut.follows(*score, || name)).count();
            assert_eq!(zset.rank_of(cut), rank, "{cut:?}");
        }
        for (rank, (score, name)) in model.0.iter().enumerate() {
            assert_eq!(zset.rank(name), Some((rank, *score)));
        }
        assert_eq!(zset.rank(b"nobody"), None);
        let mut copy = Zset::default();
        zset.each_row(&mut |element, bytes| copy.put_row(element, bytes).unwrap());
        assert_eq!(all(&copy, 0..len, Direction::Up), model.0);
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = 0;
        loop {
            (_, cursor) = zset.scan(cursor, |name, _| assert!(seen.insert(name.to_vec())));
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), len);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set(u16, i8),
        Remove(u16),
        RemoveRanks(u16, u8),
    }

    fn op(members: u16) -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0..members, any::<i8>()).prop_map(|(member, score)| Op::Set(member, score)),
            2 => (0..members).prop_map(Op::Remove),
            1 => (0..members, any::<u8>()).prop_map(|(rank, count)| Op::RemoveRanks(rank, count / 8)),
        ]
    }

    fn name(member: u16) -> Vec<u8> {
        match member % 3 {
            0 => member.to_string().into_bytes(),
            1 => format!("member:{member:05}").into_bytes(),
            _ => format!("a rather long member that does not fit in place:{member}").into_bytes(),
        }
    }

    /// `scores`: how many different ones there are.
    fn run(ops: &[Op], scores: i8, is_large: bool) {
        let mut zset = if is_large { Zset::large() } else { Zset::default() };
        let mut model = Model::default();
        let mut last = (0.0, vec![]);
        for op in ops {
            match op {
                Op::Set(member, score) => {
                    let (member, score) = (name(*member), f64::from(score % scores) / 2.0);
                    assert_eq!(zset.set(&member, score), model.set(&member, score));
                    last = (score, member);
                }
                Op::Remove(member) => {
                    let member = name(*member);
                    assert_eq!(zset.remove(&member), model.remove(&member));
                }
                Op::RemoveRanks(start, count) => {
                    let start = usize::from(*start).min(model.0.len());
                    let end = (start + usize::from(*count)).min(model.0.len());
                    let mut gone = Vec::new();
                    zset.remove_ranks(start..end, &mut |member, score| gone.push((score, member.to_vec())));
                    assert_eq!(gone, model.0.drain(start..end).collect::<Vec<_>>());
                }
            }
        }
        check(&zset, &model, last.0, &last.1);
        if let Form::Ranked(large) = &zset.0 {
            large.order.assert_whole(&large.members);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn small_ones_agree_with_the_model(ops in prop::collection::vec(op(60), 0..200), scores in 1..120i8) {
            run(&ops, scores, false);
        }

        #[test]
        fn large_ones_agree_with_the_model(ops in prop::collection::vec(op(3000), 0..3000), scores in 1..120i8) {
            run(&ops, scores, true);
        }
    }

    #[test]
    fn many_members_come_and_go() {
        for scores in [1, 7, 100_000] {
            let (mut large, mut model) = (Large::default(), std::collections::BTreeMap::new());
            let mut random = 12345u64;
            let mut next = |below: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % below
            };
            for step in 0..60_000 {
                let member = format!("element:{:012}", next(20_000)).into_bytes();
                // First it mostly grows, then it mostly shrinks.
                if next(10) < if step < 30_000 { 9 } else { 2 } {
                    let score = next(scores);
                    let Ok(_) = large.update(&member, |_| Ok::<_, Infallible>(Some(score as f64)));
                    model.insert(member, score);
                } else {
                    let found = large.members.find(dict::hash(&member) as u32, &member);
                    assert_eq!(found.map(|at| large.remove(at).score as u64), model.remove(&member));
                }
            }
            large.order.assert_whole(&large.members);
            let mut sorted: Vec<_> = model.into_iter().map(|(member, score)| (score as f64, member)).collect();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let zset = Zset(Form::Ranked(Box::new(large)));
            assert_eq!(all(&zset, 0..sorted.len(), Direction::Up), sorted);
            for (rank, (score, member)) in sorted.iter().enumerate() {
                assert_eq!(zset.rank(member), Some((rank, *score)));
            }
        }
    }

    #[test]
    fn ranges_by_name_are_found_among_equal_scores() {
        let mut zset = Zset::large();
        (0..5000).for_each(|n| assert_eq!(zset.set(format!("{n:05}").as_bytes(), 3.0), None));
        for n in [0, 1, 17, 84, 85, 86, 2500, 4999] {
            assert_eq!(zset.rank_of(Cut::BeforeMember(format!("{n:05}").as_bytes())), n);
            assert_eq!(zset.rank_of(Cut::AfterMember(format!("{n:05}").as_bytes())), n + 1);
        }
        assert_eq!(zset.rank_of(Cut::AfterMember(b"")), 0);
        assert_eq!(zset.rank_of(Cut::AfterMember(b"x")), 5000);
    }

    #[test]
    fn bad_rows_are_refused() {
        assert!(Zset::default().put_row(b"a", b"1234567").is_err());
        assert!(Zset::default().put_row(b"a", &f64::NAN.to_le_bytes()).is_err());
    }
}
