//! The kinds of values, and a value taken apart into rows: what the journal and the tables know of values.

/// The kinds of values, with their lasting numbers in the journal and the tables. There is room for 255; the numbers below 7 take
/// a byte less in each record than others (`persist::record`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A string of bytes, also numbers, bit fields and HyperLogLogs.
    String = 1,
    /// A list.
    List = 2,
    /// A hash.
    Hash = 3,
    /// A set.
    Set = 4,
    /// A sorted set, also geo indexes.
    Zset = 5,
    /// A stream.
    Stream = 6,
}

impl Kind {
    /// The name `TYPE` and `SCAN … TYPE` use.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Hash => "hash",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Stream => "stream",
        }
    }

    /// The kind with this lasting number.
    pub fn from_number(number: u8) -> Result<Kind, BadRow> {
        [Kind::String, Kind::List, Kind::Hash, Kind::Set, Kind::Zset, Kind::Stream]
            .into_iter()
            .find(|kind| *kind as u8 == number)
            .ok_or(BadRow::Kind(number))
    }
}

/// A value taken apart: a row is an element's key and its bytes. A string is one row with an empty element key; a hash
/// has a row for each field, and so on. Rows are absolute, so putting one twice changes nothing, and the bytes of an
/// element key sort as the elements do where order means something (list positions, stream ids).
pub trait Rows {
    /// Sets an element. Fails on bytes that no `each_row` has produced.
    fn put_row(&mut self, element: &[u8], bytes: &[u8]) -> Result<(), BadRow>;

    /// Removes an element; one that is not there is no error.
    fn remove_row(&mut self, element: &[u8]) -> Result<(), BadRow>;

    /// Shows every row, in the order of their element keys where order means something.
    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8]));

    /// How many rows there are, or a little more.
    fn row_count(&self) -> usize;

    /// Bytes this value takes in memory, roughly, looking at no more than a few of its elements.
    fn memory_bytes(&self) -> usize;
}

/// Bytes in the journal or the tables that this build cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// They are not a row of the kind they stand under.
    #[error("read a row: its bytes are not of this kind of value")]
    Bytes,
    /// They are of a kind with this number, which there is not. Their checksum fits, so most likely they were written so.
    #[error("read a row: this build knows no kind of value with the number {0}; upgrade flux if a newer one has had this folder")]
    Kind(u8),
}
