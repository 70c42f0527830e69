//! Numbers in frames of WebSockets.

/// Bytes that the payload of a control frame may have.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is for.
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// Why the other end is told that a connection closes.
pub(crate) mod close {
    /// All was said.
    pub(crate) const NORMAL: u16 = 1000;
    /// It did not speak the protocol.
    pub(crate) const PROTOCOL: u16 = 1002;
    /// It sent text.
    pub(crate) const UNSUPPORTED: u16 = 1003;
}
