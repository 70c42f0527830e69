//! The longest common subsequence of two byte strings, by the textbook table of lengths of their prefixes.

/// Lengths of the longest common subsequences of all prefixes of two strings.
pub(crate) struct Table<'a> {
    one: &'a [u8],
    other: &'a [u8],
    lengths: Vec<u32>,
}

/// A piece of both strings that is the same and stands in the subsequence as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    /// Where it starts in the first string.
    pub one: usize,
    /// Where it starts in the second string.
    pub other: usize,
    /// How many bytes it has.
    pub len: usize,
}

impl<'a> Table<'a> {
    /// Bytes the table of these strings takes.
    pub(crate) fn bytes_for(one: &[u8], other: &[u8]) -> usize {
        (one.len() + 1).saturating_mul(other.len() + 1).saturating_mul(size_of::<u32>())
    }

    /// Fills the table. Ask [`Self::bytes_for`] first.
    pub(crate) fn new(one: &'a [u8], other: &'a [u8]) -> Table<'a> {
        let width = other.len() + 1;
        let mut lengths = vec![0u32; (one.len() + 1) * width];
        for (row, byte) in one.iter().enumerate() {
            let (before, after) = lengths.split_at_mut((row + 1) * width);
            let (before, after) = (&before[row * width..], &mut after[..width]);
            for (column, same) in other.iter().map(|other| other == byte).enumerate() {
                after[column + 1] = if same { before[column] + 1 } else { before[column + 1].max(after[column]) };
            }
        }
        Table { one, other, lengths }
    }

    /// How many bytes the subsequence has.
    pub(crate) fn len(&self) -> usize {
        self.at(self.one.len(), self.other.len()) as usize
    }

    /// The subsequence.
    pub(crate) fn sequence(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.each_from_the_end(|row, _| bytes.push(self.one[row]));
        bytes.reverse();
        bytes
    }

    /// Its pieces, the last first.
    pub(crate) fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        self.each_from_the_end(|one, other| match matches.last_mut() {
            Some(last) if last.one == one + 1 && last.other == other + 1 => *last = Match { one, other, len: last.len + 1 },
            _ => matches.push(Match { one, other, len: 1 }),
        });
        matches
    }

    /// Shows the places of each byte of the subsequence. Where two ways are as good, the second string is shortened first,
    /// as Redis does.
    fn each_from_the_end(&self, mut show: impl FnMut(usize, usize)) {
        let (mut row, mut column) = (self.one.len(), self.other.len());
        while row > 0 && column > 0 {
            if self.one[row - 1] == self.other[column - 1] {
                (row, column) = (row - 1, column - 1);
                show(row, column);
            } else if self.at(row - 1, column) > self.at(row, column - 1) {
                row -= 1;
            } else {
                column -= 1;
            }
        }
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.lengths[row * (self.other.len() + 1) + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sequence_and_its_pieces() {
        let table = Table::new(b"ohmytext", b"mynewtext");
        assert_eq!(table.len(), 6);
        assert_eq!(table.sequence(), b"mytext");
        assert_eq!(table.matches(), [Match { one: 4, other: 5, len: 4 }, Match { one: 2, other: 0, len: 2 }]);
    }

    #[test]
    fn nothing_in_common_is_empty() {
        assert_eq!(Table::new(b"abc", b"").len(), 0);
        assert!(Table::new(b"abc", b"xyz").matches().is_empty());
    }
}
