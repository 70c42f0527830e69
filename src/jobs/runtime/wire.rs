//! What goes between a worker and the shim that runs a job: frames of a length (four bytes, little-endian) and a kind. Uses nothing but the
//! standard library.

use std::io::{self, Read, Write};

/// Bytes of a frame at most.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;

/// What is to be run. The first frame, and the only one that goes to the shim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// Where it works. It is made, with the files in it.
    pub folder: String,
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// All of its environment.
    pub env: Vec<(String, String)>,
    /// The file in which it leaves its output, and how many bytes that may have.
    pub output: String,
    pub output_bytes_max: u64,
}

/// What the shim tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The program runs.
    Started,
    /// It wrote to its standard output.
    Out(Vec<u8>),
    /// It wrote to its standard error.
    Err(Vec<u8>),
    /// It has ended, with this code (128 and the signal's number where a signal ended it), and left this output, or why there is none.
    Ended { code: i32, output: Result<Vec<u8>, String> },
    /// It could not be run.
    Failed(String),
}

impl Task {
    /// As a frame's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        put(&mut to, self.folder.as_bytes());
        put_count(&mut to, self.files.len());
        for (name, bytes) in &self.files {
            put(&mut to, name.as_bytes());
            put(&mut to, bytes);
        }
        put_count(&mut to, self.command.len());
        self.command.iter().for_each(|word| put(&mut to, word.as_bytes()));
        put_count(&mut to, self.env.len());
        for (name, value) in &self.env {
            put(&mut to, name.as_bytes());
            put(&mut to, value.as_bytes());
        }
        put(&mut to, self.output.as_bytes());
        to.extend_from_slice(&self.output_bytes_max.to_le_bytes());
        to
    }

    /// From a frame's bytes; None where they are none.
    pub(crate) fn decode(mut from: &[u8]) -> Option<Task> {
        let from = &mut from;
        let folder = text(from)?;
        let files = (0..count(from)?).map(|_| Some((text(from)?, take(from)?.to_vec()))).collect::<Option<_>>()?;
        let command = (0..count(from)?).map(|_| text(from)).collect::<Option<_>>()?;
        let env = (0..count(from)?).map(|_| Some((text(from)?, text(from)?))).collect::<Option<_>>()?;
        let output = text(from)?;
        let output_bytes_max = u64::from_le_bytes(from[..].try_into().ok()?);
        Some(Task { folder, files, command, env, output, output_bytes_max })
    }
}

impl Said {
    /// As a frame's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Said::Started => b"s".to_vec(),
            Said::Out(bytes) => [b"o", &bytes[..]].concat(),
            Said::Err(bytes) => [b"e", &bytes[..]].concat(),
            Said::Ended { code, output: Ok(output) } => [b"x", &code.to_le_bytes()[..], output].concat(),
            Said::Ended { code, output: Err(why) } => [b"n", &code.to_le_bytes()[..], why.as_bytes()].concat(),
            Said::Failed(why) => [b"f", why.as_bytes()].concat(),
        }
    }

    /// From a frame's bytes; None where they are none.
    pub(crate) fn decode(from: &[u8]) -> Option<Said> {
        let (kind, rest) = from.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let coded = || rest.split_first_chunk().map(|(code, rest)| (i32::from_le_bytes(*code), rest));
        match kind {
            b's' if rest.is_empty() => Some(Said::Started),
            b'o' => Some(Said::Out(rest.to_vec())),
            b'e' => Some(Said::Err(rest.to_vec())),
            b'x' => coded().map(|(code, output)| Said::Ended { code, output: Ok(output.to_vec()) }),
            b'n' => coded().map(|(code, why)| Said::Ended { code, output: Err(text(why)) }),
            b'f' => Some(Said::Failed(text(rest))),
            _ => None,
        }
    }
}

/// Reads a frame; None at the end, also within a frame: whoever sent it is gone.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if let Err(error) = from.read_exact(&mut head) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let len = u32::from_le_bytes(head) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut frame = Vec::new();
    from.take(len as u64).read_to_end(&mut frame)?;
    Ok((frame.len() == len).then_some(frame))
}

/// Writes a frame.
pub(crate) fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(&[&(frame.len() as u32).to_le_bytes(), frame].concat())?;
    to.flush()
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    put_count(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn put_count(to: &mut Vec<u8>, count: usize) {
    to.extend_from_slice(&(count as u32).to_le_bytes());
}

/// How many follow. None takes less than its own four bytes, so no more can follow than there are bytes.
fn count(from: &mut &[u8]) -> Option<usize> {
    let (count, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u32::from_le_bytes(*count) as usize).filter(|count| *count <= rest.len() + 1)
}

fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = count(from)?;
    let (bytes, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(bytes)
}

fn text(from: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(from)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_what_is_cut_is_none() {
        let task = Task {
            folder: "/app".into(),
            files: vec![("a".into(), vec![0, 255]), ("b".into(), Vec::new())],
            command: vec!["bash".into(), "a".into()],
            env: vec![("PAYLOAD".into(), "{}".into())],
            output: "/app/output.json".into(),
            output_bytes_max: 1 << 20,
        };
        let bytes = task.encode();
        assert_eq!(Task::decode(&bytes).as_ref(), Some(&task));
        assert!((0..bytes.len()).all(|len| Task::decode(&bytes[..len]).is_none()));
        assert_eq!(Task::decode(&[255; 64]), None);
        let all = [
            Said::Started,
            Said::Out(vec![1, 0]),
            Said::Err(Vec::new()),
            Said::Ended { code: -1, output: Ok(b"{}".to_vec()) },
            Said::Ended { code: 137, output: Err("too long".into()) },
            Said::Failed("no".into()),
        ];
        assert!(all.iter().all(|said| Said::decode(&said.encode()).as_ref() == Some(said)));
        assert!([&b""[..], b"z", b"x12", b"s1"].iter().all(|bytes| Said::decode(bytes).is_none()));
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"one").unwrap();
        write_frame(&mut bytes, b"").unwrap();
        let mut from = &bytes[..];
        assert_eq!(read_frame(&mut from).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(read_frame(&mut from).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(read_frame(&mut from).unwrap(), None);
        assert_eq!(read_frame(&mut &bytes[..5]).unwrap(), None, "its sender is gone");
        assert!(read_frame(&mut &[255; 8][..]).is_err());
    }
}
