//! What arrives on a WebSocket, taken apart as it comes: headers are read, payloads unmasked in place, control frames noted.
//! Does no I/O.

use super::frame::{CONTROL_BYTES_MAX, close, opcode};

/// The longest header of a frame that a client sends.
const HEADER_BYTES_MAX: usize = 14;

/// Where a client's bytes are within its frames.
#[derive(Default)]
pub(crate) struct Reader {
    /// The header so far.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    frame: Option<Frame>,
    /// Whether the message under way has more frames to come.
    is_fragmented: bool,
    control: Vec<u8>,
    /// The payload of the last ping that was not answered.
    pub ping: Option<Vec<u8>>,
    /// The code the client closed with; it sends no more.
    pub closed: Option<u16>,
    /// The code it must be closed with, as it did not keep to the protocol.
    pub failed: Option<u16>,
}

struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
    /// The byte of the mask that is next.
    at: usize,
}

/// How a client did not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("text frames carry no RESP: send binary ones")]
    Text,
    #[error("a frame has reserved bits or a reserved opcode")]
    Reserved,
    #[error("a client's frames must be masked")]
    Unmasked,
    #[error("a control frame is too long or in fragments")]
    Control,
    #[error("a frame continues no message, or a message begins within another")]
    Fragments,
}

impl Reader {
    /// Takes what arrived, and leaves the payload of data frames at its beginning: so many bytes.
    pub(crate) fn take(&mut self, arrived: &mut [u8]) -> Result<usize, Violation> {
        self.sort(arrived).inspect_err(|violation| {
            self.failed = Some(if *violation == Violation::Text { close::UNSUPPORTED } else { close::PROTOCOL });
        })
    }

    fn sort(&mut self, arrived: &mut [u8]) -> Result<usize, Violation> {
        let (mut from, mut kept) = (0, 0);
        while from < arrived.len() && self.closed.is_none() {
            let Some(frame) = &mut self.frame else {
                self.header[self.header_bytes] = arrived[from];
                self.header_bytes += 1;
                from += 1;
                self.begin_frame()?;
                continue;
            };
            let count = frame.left.min((arrived.len() - from) as u64) as usize;
            let payload = &mut arrived[from..from + count];
            frame.unmask(payload);
            if frame.opcode < opcode::CLOSE {
                arrived.copy_within(from..from + count, kept);
                kept += count;
            } else {
                self.control.extend_from_slice(payload);
            }
            from += count;
            self.end_frame();
        }
        Ok(kept)
    }

    /// Begins a frame if its header is there.
    fn begin_frame(&mut self) -> Result<(), Violation> {
        let header = &self.header[..self.header_bytes];
        let [first, second, ..] = *header else { return Ok(()) };
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if header.len() < 2 + length_bytes + 4 {
            return self.check(first, second);
        }
        let (length, mask) = header[2..].split_at(length_bytes);
        let left = match length_bytes {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        self.frame = Some(Frame { opcode: first & 0x0f, left, mask, at: 0 });
        self.header_bytes = 0;
        if first & 0x0f < opcode::CLOSE {
            self.is_fragmented = first & 0x80 == 0;
        }
        self.end_frame();
        Ok(())
    }

    /// Refuses a frame by its first two bytes, before the rest of its header is there.
    fn check(&self, first: u8, second: u8) -> Result<(), Violation> {
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Violation::Reserved);
        }
        match opcode {
            opcode::CONTINUATION if !self.is_fragmented => return Err(Violation::Fragments),
            opcode::BINARY if self.is_fragmented => return Err(Violation::Fragments),
            opcode::CLOSE | opcode::PING | opcode::PONG if !is_final || usize::from(second & 0x7f) > CONTROL_BYTES_MAX => {
                return Err(Violation::Control);
            }
            opcode::CONTINUATION | opcode::BINARY | opcode::CLOSE | opcode::PING | opcode::PONG => {}
            opcode::TEXT => return Err(Violation::Text),
            _ => return Err(Violation::Reserved),
        }
        if second & 0x80 == 0 { Err(Violation::Unmasked) } else { Ok(()) }
    }

    /// Ends the frame under way if all of it came.
    fn end_frame(&mut self) {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return };
        match frame.opcode {
            opcode::PING => self.ping = Some(std::mem::take(&mut self.control)),
            opcode::CLOSE => {
                self.closed = Some(self.control.first_chunk().map_or(close::NORMAL, |code| u16::from_be_bytes(*code)))
            }
            _ => {}
        }
        self.control.clear();
    }
}

impl Frame {
    fn unmask(&mut self, payload: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(self.at);
        let mut words = payload.chunks_exact_mut(4);
        for word in &mut words {
            for (byte, mask) in word.iter_mut().zip(mask) {
                *byte ^= mask;
            }
        }
        for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
            *byte ^= mask;
        }
        self.at = (self.at + payload.len()) % 4;
        self.left -= payload.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn refused(first: u8, second: u8) -> Option<Violation> {
        Reader::default().take(&mut [first, second]).err()
    }

    proptest! {
        #[test]
        fn payloads_come_out_whole_however_they_are_cut(
            frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>(), any::<bool>()), 1..8),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut wire = Vec::new();
            let mut payload = Vec::new();
            let count = frames.len();
            for (number, (bytes, mask, has_ping)) in frames.into_iter().enumerate() {
                let is_final = if number + 1 == count { 0x80 } else { 0 };
                wire.extend(frame(is_final | if number == 0 { opcode::BINARY } else { opcode::CONTINUATION }, &bytes, mask));
                payload.extend(bytes);
                if has_ping {
                    wire.extend(frame(0x80 | opcode::PING, b"still there?", mask));
                }
            }
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &mut wire[..];
            while !rest.is_empty() {
                let at = cuts.next().expect("it goes on for ever").min(rest.len());
                let (arrived, later) = rest.split_at_mut(at);
                let kept = reader.take(arrived).expect("all keeps to the protocol");
                found.extend_from_slice(&arrived[..kept]);
                rest = later;
            }
            prop_assert_eq!(found, payload);
        }

        #[test]
        fn a_strangers_bytes_cause_an_error_at_most(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let kept = Reader::default().take(&mut bytes);
            prop_assert!(kept.is_err() || kept.is_ok_and(|kept| kept <= bytes.len()));
        }
    }

    #[test]
    fn an_enormous_frame_costs_nothing_until_it_comes() {
        let mut reader = Reader::default();
        let mut bytes = vec![0x82, 0x80 | 127];
        bytes.extend(u64::MAX.to_be_bytes());
        bytes.extend([0, 0, 0, 0, b'x']);
        assert_eq!(reader.take(&mut bytes), Ok(1));
        assert_eq!(bytes[0], b'x');
    }

    #[test]
    fn what_does_not_keep_to_the_protocol_is_refused() {
        assert_eq!(refused(0x81, 0x81), Some(Violation::Text));
        assert_eq!(refused(0x83, 0x81), Some(Violation::Reserved));
        assert_eq!(refused(0xc2, 0x81), Some(Violation::Reserved));
        assert_eq!(refused(0x82, 0x01), Some(Violation::Unmasked));
        assert_eq!(refused(0x80, 0x81), Some(Violation::Fragments));
        assert_eq!(refused(0x09, 0x80), Some(Violation::Control));
        assert_eq!(refused(0x89, 0x80 | 126), Some(Violation::Control));
        assert_eq!(refused(0x82, 0x81), None);
    }

    #[test]
    fn after_a_close_nothing_counts() {
        let mut wire = frame(0x88, &4000u16.to_be_bytes(), [1, 2, 3, 4]);
        wire.extend(frame(0x82, b"too late", [1, 2, 3, 4]));
        let mut reader = Reader::default();
        assert_eq!(reader.take(&mut wire), Ok(0));
        assert_eq!(reader.closed, Some(4000));
    }
}
