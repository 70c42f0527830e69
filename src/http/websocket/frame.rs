//! Numbers in frames of WebSockets.

/// Bytes that the payload of a control frame may have.
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is for.
pub mod opcode {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// Why the other end is told that a connection closes.
pub mod close {
    /// All was said.
    pub const NORMAL: u16 = 1000;
    /// It did not speak the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// It sent text.
    pub const UNSUPPORTED: u16 = 1003;
}
