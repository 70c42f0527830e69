//! What goes through a child's pipes: frames in and out, and its standard error to the log.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec, LengthDelimitedCodecError};

use crate::clock;

/// Bytes of a line of a child's standard error; what is longer is cut.
const LINE_BYTES_MAX: usize = 1024;
/// Lines that one child may write to the log in a second; what is more is counted.
const LINES_PER_SECOND: u32 = 100;
/// Bytes of a child's standard error that are kept: its end.
pub(super) const SAID_BYTES_MAX: usize = 2048;

/// Why no frame can be exchanged any more. What follows in that direction means nothing: the child is to be killed.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A frame longer than may be, sent or announced.
    #[error("a frame is longer than the {0} bytes that it may have")]
    TooLong(usize),
    /// The child ended, or closed its output, within a frame.
    #[error("the last frame is not whole")]
    Torn,
    /// A frame before this was broken, so nobody knows where the next one begins.
    #[error("what follows a broken frame is none")]
    Lost,
    /// Its input is closed: it has ended, or is being drained.
    #[error("it takes no more frames")]
    Closed,
    /// Reading or writing failed otherwise.
    #[error("exchange frames: {0}")]
    Io(io::Error),
}

/// A child's standard input.
pub struct Input {
    pipe: Option<ChildStdin>,
    frame_bytes_max: usize,
}

impl Input {
    pub(super) fn new(pipe: Option<ChildStdin>, frame_bytes_max: usize) -> Input {
        Input { pipe, frame_bytes_max: frame_bytes_max.min(u32::MAX as usize) }
    }

    /// Sends a frame; waits until the program has read so much that the rest fits into the pipe. Where it is dropped meanwhile, the
    /// program is left with part of a frame, and gets no other: its input is closed.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), Broken> {
        if frame.len() > self.frame_bytes_max {
            return Err(Broken::TooLong(self.frame_bytes_max));
        }
        // Put back only when the frame is whole.
        let mut pipe = self.pipe.take().ok_or(Broken::Closed)?;
        let head = (frame.len() as u32).to_le_bytes();
        pipe.write_all(&[&head, frame].concat()).await.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Broken::Closed,
            _ => Broken::Io(error),
        })?;
        self.pipe = Some(pipe);
        Ok(())
    }

    /// The program reads to its end, and no further.
    pub fn close(&mut self) {
        self.pipe = None;
    }
}

/// A child's standard output.
pub struct Output {
    frames: FramedRead<ChildStdout, LengthDelimitedCodec>,
    frame_bytes_max: usize,
    is_lost: bool,
}

impl Output {
    pub(super) fn new(pipe: ChildStdout, frame_bytes_max: usize) -> Output {
        let frames = LengthDelimitedCodec::builder()
            .little_endian()
            .length_field_length(4)
            .max_frame_length(frame_bytes_max)
            .new_read(pipe);
        Output { frames, frame_bytes_max, is_lost: false }
    }

    /// The next frame; None when the program has closed its output. Nothing is lost where this is dropped before it comes.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        if self.is_lost {
            return Err(Broken::Lost);
        }
        let Some(frame) = self.frames.next().await else { return Ok(None) };
        self.is_lost = frame.is_err();
        match frame {
            Ok(frame) => Ok(Some(frame.into())),
            Err(error) if is_too_long(&error) => Err(Broken::TooLong(self.frame_bytes_max)),
            // What the codec says of bytes that are left when there are no more.
            Err(error) if error.raw_os_error().is_none() => Err(Broken::Torn),
            Err(error) => Err(Broken::Io(error)),
        }
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LengthDelimitedCodecError>())
}

/// Reads a child's standard error to its end, however much it is: into the log, as far as it may fill that, and the end of it aside.
pub(super) async fn log(name: String, mut errors: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let (mut bytes, mut line) = ([0; 4096], Vec::new());
    let mut measure = Measure::default();
    while let Ok(count @ 1..) = errors.read(&mut bytes).await {
        keep_end(&mut said.lock(), &bytes[..count]);
        for byte in &bytes[..count] {
            match byte {
                b'\n' => measure.write(&name, &std::mem::take(&mut line)),
                _ if line.len() < LINE_BYTES_MAX => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        measure.write(&name, &line);
    }
}

fn keep_end(said: &mut String, bytes: &[u8]) {
    said.push_str(&shown(bytes));
    let start = said.len().saturating_sub(SAID_BYTES_MAX);
    said.drain(..said.ceil_char_boundary(start));
}

/// As text that moves no cursor and changes no colour.
fn shown(bytes: &[u8]) -> String {
    let is_plain = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    String::from_utf8_lossy(bytes).chars().map(|letter| if is_plain(letter) { letter } else { '\u{fffd}' }).collect()
}

/// How much of the log a child has filled in this second.
#[derive(Default)]
struct Measure {
    second: u64,
    lines: u32,
    left_out: u64,
}

impl Measure {
    fn write(&mut self, name: &str, line: &[u8]) {
        if self.takes(clock::monotonic_ms() / 1000) {
            let left_out = std::mem::take(&mut self.left_out);
            if left_out > 0 {
                tracing::warn!("{name}: {left_out} more lines are left out");
            }
            tracing::info!("{name}: {}", shown(line));
        }
    }

    fn takes(&mut self, second: u64) -> bool {
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        let takes = self.lines < LINES_PER_SECOND;
        self.lines += u32::from(takes);
        self.left_out += u64::from(!takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_kept_whole_and_plain() {
        let mut said = String::new();
        for _ in 0..1000 {
            keep_end(&mut said, "ä\u{1b}[31m".as_bytes());
        }
        assert!((SAID_BYTES_MAX - 3..=SAID_BYTES_MAX).contains(&said.len()) && said.ends_with("ä\u{fffd}[31m"), "{said}");
    }

    #[test]
    fn a_second_takes_so_many_lines_and_the_next_one_tells_of_the_others() {
        let mut measure = Measure::default();
        assert_eq!((0..1000).filter(|_| measure.takes(7)).count(), LINES_PER_SECOND as usize);
        assert_eq!(measure.left_out, 1000 - u64::from(LINES_PER_SECOND));
        assert!(measure.takes(8));
    }
}
