//! Where jobs lie among the keys. They are spread over parts, and all keys of a part have one hash tag: whatever changes at once is in one
//! slot of a cluster. A job's part is told by its id.

use std::fmt::{self, Display};

use crate::id;

/// What a job's id begins with.
const JOB: &str = "job-";
/// Letters of a UUID.
const UUID_LEN: usize = 36;

/// One of the parts over which jobs are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(pub u8);

impl Part {
    /// What the names of its keys begin with.
    pub(crate) fn base(self) -> String {
        format!("flux:{{j{}}}:", self.0)
    }
}

/// A job's id: `job-` and a UUID, whose first byte tells the part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl JobId {
    /// A new one, in a part of so many.
    pub fn new(part: Part, parts: u8) -> JobId {
        let mut bytes = id::secret_bytes();
        let rounds = u8::MAX / parts;
        bytes[0] = (bytes[0] % rounds.max(1)) * parts + part.0;
        // Version 4, variant 1 (RFC 9562, 5.4).
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        JobId(format!("{JOB}{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }

    /// Reads one; None where the text is none, so that there cannot be such a job.
    pub(crate) fn parse(text: &str) -> Option<JobId> {
        let uuid = text.strip_prefix(JOB)?;
        let is_uuid = uuid.len() == UUID_LEN
            && uuid.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        is_uuid.then(|| JobId(text.to_owned()))
    }

    /// Its part, of so many.
    pub fn part(&self, parts: u8) -> Part {
        let first = u8::from_str_radix(&self.0[JOB.len()..][..2], 16).expect("it was read as a UUID");
        Part(first % parts)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_part() {
        for parts in [1, 3, 16, 128, 255] {
            for part in (0..parts).map(Part) {
                let id = JobId::new(part, parts);
                assert_eq!((JobId::parse(id.as_str()).as_ref(), id.part(parts)), (Some(&id), part), "{id} of {parts}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        let id = JobId::new(Part(0), 1).to_string();
        let others = [&id[1..], &id[..39], &id.to_uppercase(), &format!("{id}0"), &id.replace('-', "_"), "job-", "", "job-ä"];
        assert!(others.into_iter().all(|other| JobId::parse(other).is_none()));
    }
}
