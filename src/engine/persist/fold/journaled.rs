//! Where the effects stand that a fold is told of. Long values are left there until they are written into the tables: so a fold takes
//! the room of keys, however much they hold.

use std::sync::Arc;

use crate::engine::persist::Error;
use crate::engine::value::BadRow;
use crate::storage::journal::{Origin, Reading, Span};

/// From this length on bytes are left where they are. To find them again takes a read of its own, and a place costs a fifth of this.
const BYTES_MIN: usize = 512;

/// The journal that effects are read from.
#[derive(Default, Clone)]
pub struct Journaled {
    reading: Option<Arc<Reading>>,
    bytes_min: usize,
    /// Where those stand that are added now.
    origin: Option<Origin>,
}

impl Journaled {
    /// Effects that stand in this journal.
    pub fn of(reading: Arc<Reading>) -> Journaled {
        Journaled { reading: Some(reading), bytes_min: BYTES_MIN, origin: None }
    }

    /// The same, where bytes are left from this length on.
    pub fn leaving(self, bytes_min: usize) -> Journaled {
        Journaled { bytes_min, ..self }
    }

    /// Says where those stand that are added next.
    pub(crate) fn set_origin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
    }

    /// Where some of their bytes can be left, if they can.
    #[inline]
    pub(crate) fn span(&self, bytes: &[u8]) -> Option<Span> {
        if bytes.len() < self.bytes_min { None } else { self.origin.as_ref()?.span(bytes) }
    }

    /// Bytes that were left in the journal.
    pub(crate) fn read(&self, span: Span) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(span.len());
        self.reading()?.read(span, &mut bytes)?;
        Ok(bytes)
    }

    /// The same for rows; the journal to go on with says where these bytes stand.
    pub(crate) fn read_rows(&self, span: Span) -> Result<(Vec<u8>, Journaled), Error> {
        let bytes = self.read(span)?;
        let origin = Some(Origin::new(span.place(), &bytes));
        Ok((bytes, Journaled { origin, ..self.clone() }))
    }

    /// The journal in which bytes were left.
    pub(crate) fn reading(&self) -> Result<&Reading, BadRow> {
        self.reading.as_deref().ok_or(BadRow::Bytes)
    }
}
