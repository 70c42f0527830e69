//! What is whole of damaged tables, when their owner has accepted the loss of the rest.

use crate::engine::persist::record::{Body, Record};
use crate::engine::persist::{Error, load};
use crate::storage::Tables;
use crate::storage::tables::{DATABASES, Stored, StoredMut};

/// Copies every key whose record and elements are whole into other, empty tables; tells how many were not.
pub(crate) fn salvage(from: &Tables, to: &Tables) -> Result<u64, Error> {
    let snapshot = from.snapshot()?;
    let mut kept = 0;
    to.write(|changes| {
        for db in 0..DATABASES as u8 {
            // Of tables that cannot even be opened nothing is kept.
            let Ok(Some(stored)) = snapshot.database(db) else { continue };
            let mut copy = changes.database(db)?;
            stored.each_whole_key(|key, record| {
                kept += u64::from(copy_key(&stored, &mut copy, key, record)?);
                Ok::<_, Error>(())
            })?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(snapshot.keys_len().saturating_sub(kept))
}

/// Copies a key, unless its value is not whole; tells whether it did, and for the first time: damaged tables may show one twice.
fn copy_key(from: &Stored, to: &mut StoredMut<'_>, key: &[u8], bytes: &[u8]) -> Result<bool, Error> {
    let Ok(record) = Record::read(bytes) else { return Ok(false) };
    // Read as a start will read it.
    if load::value(from, &record).is_err() {
        return Ok(false);
    }
    if let Body::Large(large) = &record.body {
        let mut sum = Default::default();
        from.each_element(large.id, large.sum, |element, chunk| to.put_element(large.id, element, chunk, &mut sum))?;
    }
    Ok(to.put_key(key, bytes, |_| ())?.is_none())
}
