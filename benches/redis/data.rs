//! The data sets: what is loaded into every server in the same way.

use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::thread;

use anyhow::{Result, ensure};

use crate::driver::write_request;
use crate::server::Server;

/// A data set whose memory is measured.
#[derive(Debug, Clone, Copy)]
pub struct DataSet {
    /// What the tables call it.
    pub name: &'static str,
    /// What is counted: keys or elements.
    pub unit: &'static str,
    /// Elements at full size.
    pub count: usize,
    request: fn(usize, &mut Vec<u8>),
}

/// The data sets of the memory table.
pub const ALL: &[DataSet] = &[
    DataSet { name: "1M string keys (16 B key, 64 B value)", unit: "key", count: 1_000_000, request: string },
    DataSet {
        name: "list of 1M elements (16 B)",
        unit: "element",
        count: 1_000_000,
        request: |at, out| write_request(out, &[b"RPUSH", b"list", &padded("element", at)]),
    },
    DataSet {
        name: "sorted set of 1M members (16 B)",
        unit: "member",
        count: 1_000_000,
        request: |at, out| {
            let score = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            write_request(out, &[b"ZADD", b"zset", score.to_string().as_bytes(), &padded("member:", at)]);
        },
    },
    DataSet {
        name: "1,000 hashes of 100 fields (8 B field, 16 B value)",
        unit: "field",
        count: 100_000,
        request: |at, out| {
            let (key, field) = (format!("hash:{:04}", at % 1000), format!("field:{:02}", at / 1000));
            write_request(out, &[b"HSET", key.as_bytes(), field.as_bytes(), &padded("value::", at)]);
        },
    },
];

/// A text of 16 bytes with a number in it.
pub fn padded(word: &str, number: usize) -> Vec<u8> {
    format!("{word}{number:0width$}", width = 16 - word.len()).into_bytes()
}

/// Sets string key number `at` to 64 bytes, which differ from `at` to `at`.
pub fn string(at: usize, out: &mut Vec<u8>) {
    write_request(out, &[b"SET", &padded("key:", at), &padded("v", at).repeat(4)]);
}

/// Sets string key number `at` to 512 bytes: so much more than a key takes that nearly all of the data is values.
pub fn large_string(at: usize, out: &mut Vec<u8>) {
    write_request(out, &[b"SET", &padded("key:", at), &padded("v", at).repeat(32)]);
}

impl DataSet {
    /// Loads it, with this many elements.
    pub fn load(&self, server: &Server, count: usize) -> Result<()> {
        load(server, count, self.request)
    }
}

/// Sends the requests for all numbers below `count` through one connection, as fast as the server takes them.
pub fn load(server: &Server, count: usize, request: impl Fn(usize, &mut Vec<u8>)) -> Result<()> {
    let socket = TcpStream::connect(("127.0.0.1", server.port()))?;
    let mut replies = socket.try_clone()?;
    let reader = thread::spawn(move || -> Result<()> {
        let (mut buffer, mut left) = (vec![0; 64 * 1024], count);
        while left > 0 {
            let len = replies.read(&mut buffer)?;
            ensure!(len > 0, "the server closed the connection while data was loaded");
            ensure!(!buffer[..len].contains(&b'-'), "refused: {}", String::from_utf8_lossy(&buffer[..len.min(200)]));
            left -= memchr::memchr_iter(b'\n', &buffer[..len]).count().min(left);
        }
        Ok(())
    });
    let mut writer = BufWriter::with_capacity(64 * 1024, socket);
    let mut out = Vec::new();
    for at in 0..count {
        out.clear();
        request(at, &mut out);
        writer.write_all(&out)?;
    }
    writer.flush()?;
    reader.join().expect("the reader does not panic")
}
