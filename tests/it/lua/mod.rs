//! The Lua of scripts against a redis-server's.

mod libraries;

use crate::process::Reply;

/// A reply as it came, byte for byte.
fn encode(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Line(line) => out.extend(format!("{line}\r\n").as_bytes()),
        Reply::Bulk(kind, bytes) => {
            out.extend(format!("{kind}{}\r\n", bytes.len()).as_bytes());
            out.extend(bytes);
            out.extend(b"\r\n");
        }
        Reply::Many(kind, parts) => {
            let count = if matches!(kind, '%' | '|') { parts.len() / 2 } else { parts.len() };
            out.extend(format!("{kind}{count}\r\n").as_bytes());
            parts.iter().for_each(|part| encode(part, out));
        }
    }
}
