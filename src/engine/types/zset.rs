//! The zset: its data structure and what the commands of its group mean.

use crate::engine::value::{BadRow, Rows};

/// A zset.
#[derive(Default)]
pub struct Zset {
    rows: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Zset {
    /// Whether an empty one keeps its key.
    pub const LASTS_EMPTY: bool = false;

    /// How many elements it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl Rows for Zset {
    fn put_row(&mut self, element: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        self.rows.insert(element.to_vec(), bytes.to_vec());
        Ok(())
    }

    fn remove_row(&mut self, element: &[u8]) -> Result<(), BadRow> {
        self.rows.remove(element);
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        self.rows.iter().for_each(|(element, bytes)| show(element, bytes));
    }

    fn row_count(&self) -> usize {
        self.len()
    }

    fn memory_bytes(&self) -> usize {
        self.rows.len() * 64
    }
}
