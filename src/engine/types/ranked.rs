//! The order of a large sorted set: a B+tree of (score, position of the member in its table) in which every branch counts
//! what hangs below it, so that a member's rank and the member at a rank are both found on the way from the root.
//!
//! Ties of scores are decided by the members' bytes, which are looked up in the table only for ties. Branches hold copies
//! of their own of the shortest bytes that tell left from right, so that a descent touches no member before its leaf.

use std::ops::Range;

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};

/// Entries of a leaf: 12 bytes each, so that a leaf fills an allocation of 768 bytes.
const LEAF: usize = 63;
/// Children of a branch. The bounds of a full one are a few cache lines of scores.
const BRANCH: usize = 48;
/// A node with less than one in this many of its places taken is joined with a neighbour.
const SPARSE: usize = 4;

/// A member of a sorted set and its score.
#[derive(Clone)]
pub(crate) struct Member {
    pub(super) name: Blob,
    pub(super) score: f64,
    pub(super) link: dict::Link,
}

impl dict::Entry for Member {
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

/// A place between two neighbours in the order of (score, member).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut<'a> {
    /// Before all members of this score and above.
    Before(f64),
    /// After all members of this score.
    After(f64),
    /// Before this member of this score, whether or not it is there.
    At(f64, &'a [u8]),
    /// After this member of this score.
    Past(f64, &'a [u8]),
    /// Before this member, where all scores are the same.
    BeforeMember(&'a [u8]),
    /// After this member, where all scores are the same.
    AfterMember(&'a [u8]),
}

impl Cut<'_> {
    /// Whether this place is after an entry. The member is only asked for where the score does not decide.
    #[inline]
    pub(crate) fn follows<'m>(&self, score: f64, member: impl FnOnce() -> &'m [u8]) -> bool {
        match *self {
            Cut::Before(limit) => score < limit,
            Cut::After(limit) => score <= limit,
            Cut::At(limit, name) => score < limit || score == limit && member() < name,
            Cut::Past(limit, name) => score < limit || score == limit && member() <= name,
            Cut::BeforeMember(name) => member() < name,
            Cut::AfterMember(name) => member() <= name,
        }
    }

    /// How many of some entries in order stand before this place.
    #[inline]
    fn index<'m>(&self, scores: &[f64], member: impl Fn(usize) -> &'m [u8]) -> usize {
        let ties = |limit: f64| {
            let start = count(scores, |score| score < limit);
            let has_ties = scores.get(start).is_some_and(|score| *score == limit);
            start..if has_ties { count(scores, |score| score <= limit) } else { start }
        };
        match *self {
            Cut::Before(limit) => count(scores, |score| score < limit),
            Cut::After(limit) => count(scores, |score| score <= limit),
            Cut::At(limit, name) => first_not(ties(limit), |at| member(at) < name),
            Cut::Past(limit, name) => first_not(ties(limit), |at| member(at) <= name),
            Cut::BeforeMember(name) => first_not(0..scores.len(), |at| member(at) < name),
            Cut::AfterMember(name) => first_not(0..scores.len(), |at| member(at) <= name),
        }
    }
}

/// How many of a node's scores are such. To look at all of them, several at a time, is faster than to search by halving,
/// where each step waits for the one before.
#[inline]
fn count(scores: &[f64], is_such: impl Fn(f64) -> bool) -> usize {
    scores.iter().map(|score| u64::from(is_such(*score))).sum::<u64>() as usize
}

/// The first of a range for which a claim is false that holds up to some place and not after it.
#[inline]
fn first_not(mut range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    while !range.is_empty() {
        let middle = range.start + range.len() / 2;
        if holds(middle) {
            range.start = middle + 1;
        } else {
            range.end = middle;
        }
    }
    range.start
}

/// Entries in order; see the file's head. Every method is given the table that the positions are of.
#[derive(Clone)]
pub(crate) struct Ranked {
    root: Node,
    len: usize,
    leaves: usize,
    branches: usize,
}

#[derive(Clone)]
enum Node {
    Leaf(Box<Leaf>),
    Branch(Box<Branch>),
}

#[derive(Clone)]
struct Leaf {
    len: u32,
    positions: [u32; LEAF],
    scores: [f64; LEAF],
}

/// Invariant: all entries below child `i` stand before bound `i`, all below child `i + 1` do not. No child is empty,
/// but for the only leaf of an empty tree.
#[derive(Clone)]
struct Branch {
    /// One less than there are children. In place, for a descent reads little else.
    bound_scores: [f64; BRANCH],
    bound_members: Vec<Blob>,
    counts: [u32; BRANCH + 1],
    children: Vec<Node>,
}

/// What a full node gives away: a new right neighbour, the bound between the two, and how many entries went along.
struct Split {
    bound: (f64, Blob),
    right: Node,
    count: u32,
}

impl Default for Ranked {
    fn default() -> Self {
        Ranked { root: Node::Leaf(Leaf::new()), len: 0, leaves: 1, branches: 0 }
    }
}

impl Ranked {
    /// How many entries stand before one that is there.
    pub(crate) fn rank_at(&self, score: f64, member: &[u8], position: u32) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.find(position),
                Node::Branch(branch) => {
                    let child = branch.index(Cut::At(score, member));
                    rank += branch.count_before(child);
                    node = &branch.children[child];
                }
            }
        }
    }

    /// How many entries stand before a place.
    pub(crate) fn rank(&self, members: &Dict<Member>, cut: Cut<'_>) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.index(members, cut),
                Node::Branch(branch) => {
                    let child = branch.index(cut);
                    rank += branch.count_before(child);
                    node = &branch.children[child];
                }
            }
        }
    }

    /// The entries from a rank to the end of its leaf, as scores and positions, and the range of ranks of that whole leaf.
    pub(crate) fn leaf_of(&self, rank: usize) -> (&[f64], &[u32], Range<usize>) {
        let (mut node, mut start) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return (leaf.scores(), leaf.positions(), start..start + leaf.len as usize),
                Node::Branch(branch) => {
                    let mut child = 0;
                    while child + 1 < branch.children.len() && rank - start >= branch.counts[child] as usize {
                        start += branch.counts[child] as usize;
                        child += 1;
                    }
                    node = &branch.children[child];
                }
            }
        }
    }

    /// The position of the entry with this rank.
    pub(crate) fn at(&self, rank: usize) -> u32 {
        let (_, positions, ranks) = self.leaf_of(rank);
        positions[rank - ranks.start]
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, members: &Dict<Member>, score: f64, member: &[u8], position: u32) {
        self.len += 1;
        let nodes = &mut (&mut self.leaves, &mut self.branches);
        let Some(split) = self.root.insert(members, score, member, position, true, nodes) else { return };
        let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::new()));
        self.branches += 1;
        let mut root = Branch::new();
        root.counts[0] = self.len as u32 - split.count;
        root.children.push(left);
        root.add(0, split);
        self.root = Node::Branch(root);
    }

    /// Removes an entry that is there.
    pub(crate) fn remove(&mut self, score: f64, member: &[u8], position: u32) {
        self.len -= 1;
        self.root.remove(Cut::At(score, member), position, &mut (&mut self.leaves, &mut self.branches));
        while let Node::Branch(branch) = &mut self.root
            && branch.children.len() == 1
        {
            self.root = branch.children.pop().expect("it has one child");
            self.branches -= 1;
        }
    }

    /// Tells an entry that its member stands at another position of the table now.
    pub(crate) fn relocate(&mut self, score: f64, member: &[u8], from: u32, to: u32) {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = leaf.find(from);
                    leaf.positions[at] = to;
                    return;
                }
                Node::Branch(branch) => {
                    let child = branch.index(Cut::At(score, member));
                    node = &mut branch.children[child];
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn assert_whole(&self, members: &Dict<Member>) {
        let mut nodes = (0, 0);
        let count = self.root.assert_whole(members, None, None, &mut nodes);
        assert_eq!((count, nodes), (self.len, (self.leaves, self.branches)));
    }

    /// Bytes the tree takes, its bounds' long members not counted.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.leaves * size_of::<Leaf>() + self.branches * (size_of::<Branch>() + BRANCH * (size_of::<Blob>() + size_of::<Node>()))
    }
}

/// The numbers of leaves and branches, to keep up.
type Nodes<'a> = (&'a mut usize, &'a mut usize);

impl Node {
    /// `is_last`: whether no node of this depth stands to the right.
    fn insert(
        &mut self,
        members: &Dict<Member>,
        score: f64,
        member: &[u8],
        position: u32,
        is_last: bool,
        nodes: &mut Nodes<'_>,
    ) -> Option<Split> {
        match self {
            Node::Leaf(leaf) => {
                let split = leaf.insert(members, score, member, position, is_last);
                *nodes.0 += usize::from(split.is_some());
                split
            }
            Node::Branch(branch) => {
                let child = branch.index(Cut::At(score, member));
                let is_last = is_last && child + 1 == branch.children.len();
                branch.counts[child] += 1;
                let split = branch.children[child].insert(members, score, member, position, is_last, nodes)?;
                branch.counts[child] -= split.count;
                branch.add(child, split);
                if branch.children.len() <= BRANCH {
                    return None;
                }
                *nodes.1 += 1;
                Some(branch.split(is_last))
            }
        }
    }

    fn remove(&mut self, cut: Cut<'_>, position: u32, nodes: &mut Nodes<'_>) {
        match self {
            Node::Leaf(leaf) => leaf.remove(leaf.find(position)),
            Node::Branch(branch) => {
                let child = branch.index(cut);
                branch.children[child].remove(cut, position, nodes);
                branch.counts[child] -= 1;
                if branch.children[child].is_sparse() {
                    branch.join(child, nodes);
                }
            }
        }
    }

    #[cfg(test)]
    fn assert_whole(
        &self,
        members: &Dict<Member>,
        from: Option<(f64, &[u8])>,
        to: Option<(f64, &[u8])>,
        nodes: &mut (usize, usize),
    ) -> usize {
        match self {
            Node::Leaf(leaf) => {
                nodes.0 += 1;
                let names = leaf.positions().iter().map(|at| &*members.at(*at).name);
                let entries: Vec<(f64, &[u8])> = leaf.scores().iter().copied().zip(names).collect();
                assert!(entries.is_sorted());
                assert!(from.is_none_or(|from| from <= entries[0]));
                assert!(to.is_none_or(|to| entries[entries.len() - 1] < to));
                entries.len()
            }
            Node::Branch(branch) => {
                nodes.1 += 1;
                let bound = |at: usize| Some((branch.bound_scores[at], &*branch.bound_members[at]));
                assert_eq!(branch.bound_members.len() + 1, branch.children.len());
                let last = branch.children.len() - 1;
                for (at, child) in branch.children.iter().enumerate() {
                    let from = if at == 0 { from } else { bound(at - 1) };
                    let to = if at == last { to } else { bound(at) };
                    let count = child.assert_whole(members, from, to, nodes);
                    assert_eq!(count, branch.counts[at] as usize);
                    assert_ne!(count, 0);
                }
                branch.count() as usize
            }
        }
    }

    /// Takes a node that is dropped out of the numbers of nodes.
    fn uncount(&self, nodes: &mut Nodes<'_>) {
        match self {
            Node::Leaf(_) => *nodes.0 -= 1,
            Node::Branch(branch) => {
                *nodes.1 -= 1;
                branch.children.iter().for_each(|child| child.uncount(nodes));
            }
        }
    }

    /// Whether what is below two nodes has room in one, with a little left.
    fn fits(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Leaf(leaf), Node::Leaf(other)) => (leaf.len + other.len) as usize <= LEAF * 7 / 8,
            (Node::Branch(branch), Node::Branch(other)) => branch.children.len() + other.children.len() <= BRANCH * 7 / 8,
            _ => false,
        }
    }

    fn is_sparse(&self) -> bool {
        match self {
            Node::Leaf(leaf) => (leaf.len as usize) < LEAF / SPARSE,
            Node::Branch(branch) => branch.children.len() < BRANCH / SPARSE,
        }
    }
}

impl Leaf {
    fn new() -> Box<Leaf> {
        Box::new(Leaf { len: 0, positions: [0; LEAF], scores: [0.0; LEAF] })
    }

    #[inline]
    fn scores(&self) -> &[f64] {
        &self.scores[..self.len as usize]
    }

    #[inline]
    fn positions(&self) -> &[u32] {
        &self.positions[..self.len as usize]
    }

    /// The index of the entry with this position, which is there. Finds it without a look at the members, whatever their ties.
    #[inline]
    fn find(&self, position: u32) -> usize {
        let matches = (0..).zip(self.positions()).map(|(at, found): (u32, &u32)| if *found == position { at } else { 0 });
        matches.sum::<u32>() as usize
    }

    #[inline]
    fn index(&self, members: &Dict<Member>, cut: Cut<'_>) -> usize {
        cut.index(self.scores(), |at| &members.at(self.positions[at]).name)
    }

    fn insert(&mut self, members: &Dict<Member>, score: f64, member: &[u8], position: u32, is_last: bool) -> Option<Split> {
        let at = self.index(members, Cut::At(score, member));
        if (self.len as usize) < LEAF {
            self.put(at, score, position);
            return None;
        }
        // Entries that come in order leave full leaves behind them.
        let keep = if is_last && at == LEAF { LEAF } else { LEAF / 2 };
        let mut right = Leaf::new();
        right.take(&self.scores[keep..], &self.positions[keep..]);
        self.len = keep as u32;
        if at < keep || at == keep && keep < LEAF {
            self.put(at, score, position);
        } else {
            right.put(at - keep, score, position);
        }
        let name = |leaf: &Leaf, at: usize| -> Blob {
            let at = leaf.positions[at];
            if at == position { Blob::from(member) } else { members.at(at).name.clone() }
        };
        let last = self.len as usize - 1;
        let bound = bound((self.scores[last], &name(self, last)), (right.scores[0], &name(&right, 0)));
        let count = right.len;
        Some(Split { bound, right: Node::Leaf(right), count })
    }

    #[inline]
    fn put(&mut self, at: usize, score: f64, position: u32) {
        let len = self.len as usize;
        self.scores.copy_within(at..len, at + 1);
        self.positions.copy_within(at..len, at + 1);
        self.scores[at] = score;
        self.positions[at] = position;
        self.len += 1;
    }

    #[inline]
    fn remove(&mut self, at: usize) {
        let len = self.len as usize;
        self.scores.copy_within(at + 1..len, at);
        self.positions.copy_within(at + 1..len, at);
        self.len -= 1;
    }

    fn take(&mut self, scores: &[f64], positions: &[u32]) {
        let (start, end) = (self.len as usize, self.len as usize + scores.len());
        self.scores[start..end].copy_from_slice(scores);
        self.positions[start..end].copy_from_slice(positions);
        self.len = end as u32;
    }
}

impl Branch {
    fn new() -> Box<Branch> {
        Box::new(Branch {
            bound_scores: [0.0; BRANCH],
            bound_members: Vec::with_capacity(BRANCH),
            counts: [0; BRANCH + 1],
            children: Vec::with_capacity(BRANCH + 1),
        })
    }

    /// The child in which a place is. An entry that equals a bound stands right of it.
    #[inline]
    fn index(&self, cut: Cut<'_>) -> usize {
        let cut = if let Cut::At(score, name) = cut { Cut::Past(score, name) } else { cut };
        cut.index(&self.bound_scores[..self.bound_members.len()], |at| &self.bound_members[at])
    }

    /// How many entries are below the children before one.
    #[inline]
    fn count_before(&self, child: usize) -> usize {
        self.counts[..child].iter().map(|count| *count as usize).sum()
    }

    fn count(&self) -> u32 {
        self.counts[..self.children.len()].iter().sum()
    }

    /// Adds what child `at` gave away, to its right.
    fn add(&mut self, at: usize, split: Split) {
        let len = self.children.len();
        self.bound_scores.copy_within(at..len - 1, at + 1);
        self.bound_scores[at] = split.bound.0;
        self.bound_members.insert(at, split.bound.1);
        self.counts.copy_within(at + 1..len, at + 2);
        self.counts[at + 1] = split.count;
        self.children.insert(at + 1, split.right);
    }

    fn split(&mut self, is_last: bool) -> Split {
        let len = self.children.len();
        let keep = if is_last { len - 1 } else { len / 2 };
        let mut right = Branch::new();
        right.bound_scores[..len - 1 - keep].copy_from_slice(&self.bound_scores[keep..len - 1]);
        right.bound_members.extend(self.bound_members.drain(keep..));
        right.counts[..len - keep].copy_from_slice(&self.counts[keep..len]);
        right.children.extend(self.children.drain(keep..));
        let member = self.bound_members.pop().expect("each kept child but the first has a bound before it");
        let count = right.count();
        Split { bound: (self.bound_scores[keep - 1], member), right: Node::Branch(right), count }
    }

    /// Drops a sparse child if nothing is left in it, or joins it with a neighbour where both fit into one.
    fn join(&mut self, child: usize, nodes: &mut Nodes<'_>) {
        let last = self.children.len() - 1;
        if self.counts[child] == 0 && last > 0 {
            let gone = self.take(child, child.saturating_sub(1)).1;
            gone.uncount(nodes);
        } else if child < last && self.children[child].fits(&self.children[child + 1]) {
            self.join_next(child, nodes);
        } else if child > 0 && self.children[child - 1].fits(&self.children[child]) {
            self.join_next(child - 1, nodes);
        }
    }

    /// Moves all that is below the child after this one into this one.
    fn join_next(&mut self, child: usize, nodes: &mut Nodes<'_>) {
        self.counts[child] += self.counts[child + 1];
        let (bound, next) = self.take(child + 1, child);
        match (&mut self.children[child], next) {
            (Node::Leaf(leaf), Node::Leaf(next)) => {
                leaf.take(next.scores(), next.positions());
                *nodes.0 -= 1;
            }
            (Node::Branch(branch), Node::Branch(mut next)) => {
                let (len, more) = (branch.children.len(), next.children.len());
                branch.bound_scores[len - 1] = bound.0;
                branch.bound_scores[len..][..more - 1].copy_from_slice(&next.bound_scores[..more - 1]);
                branch.bound_members.push(bound.1);
                branch.bound_members.append(&mut next.bound_members);
                branch.counts[len..][..more].copy_from_slice(&next.counts[..more]);
                branch.children.append(&mut next.children);
                *nodes.1 -= 1;
            }
            _ => unreachable!("all leaves have the same depth"),
        }
    }

    /// Takes out a child and a bound beside it.
    fn take(&mut self, child: usize, bound: usize) -> ((f64, Blob), Node) {
        let (len, score) = (self.children.len(), self.bound_scores[bound]);
        self.bound_scores.copy_within(bound + 1..len - 1, bound);
        self.counts.copy_within(child + 1..len, child);
        ((score, self.bound_members.remove(bound)), self.children.remove(child))
    }
}

/// The shortest bound that tells two neighbours apart.
fn bound(left: (f64, &[u8]), right: (f64, &[u8])) -> (f64, Blob) {
    if left.0 != right.0 {
        return (right.0, Blob::from(&b""[..]));
    }
    let same = left.1.iter().zip(right.1).take_while(|(left, right)| left == right).count();
    (right.0, Blob::from(&right.1[..same + 1]))
}
