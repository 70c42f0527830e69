//! Clients that wait for a key, served in the order they came.

use std::collections::HashMap;

use crate::engine::blob::Blob;

/// Who waits for which keys of a shard, and which of those keys were touched since last asked.
#[derive(Default)]
pub struct Waiters {
    queues: HashMap<(u8, Blob), (), foldhash::fast::RandomState>,
    touched: Vec<(u8, Blob)>,
}

impl Waiters {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Notes that a key changed, if someone waits for it.
    pub fn touch(&mut self, db: u8, key: &[u8]) {
        let place = (db, Blob::from(key));
        if self.queues.contains_key(&place) && !self.touched.contains(&place) {
            self.touched.push(place);
        }
    }
}
