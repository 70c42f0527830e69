//! Drives a server: with redis-benchmark for throughput, with a small pipelined client of our own where the time of each
//! single request matters.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

/// What a run of redis-benchmark showed.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Requests a second.
    pub per_second: f64,
    /// Server CPU time of one request.
    pub cpu_us: f64,
}

/// Runs one test of redis-benchmark.
pub fn benchmark(server: &Server, test: &str, pipeline: usize, requests: usize) -> Result<Throughput> {
    let cpu_before = server.cpu()?;
    let out = Command::new("redis-benchmark")
        .args(["-p", &server.port().to_string(), "-c", "50", "-r", "100000", "--csv", "-t", test])
        .args(["-P", &pipeline.to_string(), "-n", &requests.to_string()])
        .output()
        .context("run redis-benchmark (Debian: redis-tools)")?;
    let cpu = server.cpu()? - cpu_before;
    let text = String::from_utf8_lossy(&out.stdout);
    // The first line names the columns.
    let per_second = text.lines().nth(1).and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    let Some(per_second) = per_second else {
        bail!("redis-benchmark -t {test} on {}: {text}{}", server.kind().name(), String::from_utf8_lossy(&out.stderr));
    };
    Ok(Throughput { per_second, cpu_us: cpu.as_secs_f64() * 1e6 / requests as f64 })
}

/// Times of single requests, in nanoseconds.
#[derive(Debug, Default, Clone)]
pub struct Times {
    sorted: Vec<u32>,
    /// Requests a second.
    pub per_second: f64,
}

impl Times {
    /// Of all that came in this time.
    pub fn new(mut nanos: Vec<u32>, elapsed: Duration) -> Times {
        nanos.sort_unstable();
        let per_second = nanos.len() as f64 / elapsed.as_secs_f64();
        Times { sorted: nanos, per_second }
    }

    /// How many requests there were.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The time that this share of the requests took at most, in microseconds.
    pub fn at_us(&self, share: f64) -> f64 {
        let at = (self.sorted.len() as f64 * share) as usize;
        self.sorted.get(at.min(self.sorted.len().saturating_sub(1))).map_or(0.0, |nanos| f64::from(*nanos) / 1000.0)
    }
}

/// What the client of our own sends.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections at once.
    pub clients: usize,
    /// Requests sent together.
    pub pipeline: usize,
    /// How long at most.
    pub seconds: f64,
    /// Requests of each connection a second; 0 for as fast as it goes.
    pub rate: f64,
}

/// Sends requests and takes the time of each. `request` writes a request for a random number and tells the class it
/// belongs to, below `classes`. Ends early when `until` becomes true.
pub fn timed(
    server: &Server,
    load: Load,
    classes: usize,
    until: Option<Arc<AtomicBool>>,
    request: impl Fn(u64, &mut Vec<u8>) -> usize + Send + Sync + Clone + 'static,
) -> Result<Vec<Times>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = server.port();
    let start = Instant::now();
    let all = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..load.clients {
            let (request, until) = (request.clone(), until.clone());
            tasks.spawn(one_client(port, load, classes, until, client as u64, request));
        }
        let mut all = vec![Vec::new(); classes];
        while let Some(done) = tasks.join_next().await {
            for (class, times) in done??.into_iter().enumerate() {
                all[class].extend(times);
            }
        }
        anyhow::Ok(all)
    })?;
    let elapsed = start.elapsed();
    Ok(all.into_iter().map(|nanos| Times::new(nanos, elapsed)).collect())
}

async fn one_client(
    port: u16,
    load: Load,
    classes: usize,
    until: Option<Arc<AtomicBool>>,
    client: u64,
    request: impl Fn(u64, &mut Vec<u8>) -> usize,
) -> Result<Vec<Vec<u32>>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let mut random = Random(client * 7919 + 1);
    let (mut out, mut class_of, mut replies) = (Vec::new(), Vec::new(), Replies::default());
    let mut times = vec![Vec::new(); classes];
    let start = Instant::now();
    let mut due = start;
    while start.elapsed().as_secs_f64() < load.seconds && !until.as_ref().is_some_and(|until| until.load(Relaxed)) {
        out.clear();
        class_of.clear();
        for _ in 0..load.pipeline {
            class_of.push(request(random.next(), &mut out));
        }
        // At a fixed rate, the time of a request that is late counts from when it should have been sent, so that a stall
        // is not hidden by the requests that were not sent during it.
        let mut sent_at = Instant::now();
        if load.rate > 0.0 {
            due += Duration::from_secs_f64(load.pipeline as f64 / load.rate);
            if sent_at < due {
                tokio::time::sleep_until(due.into()).await;
                sent_at = Instant::now();
            } else {
                sent_at = due;
            }
        }
        socket.write_all(&out).await?;
        let mut answered = 0;
        while answered < load.pipeline {
            let arrived = replies.read(&mut socket).await?;
            let nanos = sent_at.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32;
            for _ in 0..arrived {
                times[class_of[answered]].push(nanos);
                answered += 1;
            }
        }
    }
    Ok(times)
}

/// Counts whole replies in what arrives: lines and bulk strings, which is all that the commands sent here answer with.
#[derive(Default)]
struct Replies {
    buffer: Vec<u8>,
}

impl Replies {
    async fn read(&mut self, socket: &mut TcpStream) -> Result<usize> {
        if socket.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        let (mut at, mut count) = (0, 0);
        while let Some(end) = self.end_of_reply(at)? {
            (at, count) = (end, count + 1);
        }
        self.buffer.drain(..at);
        Ok(count)
    }

    fn end_of_reply(&self, at: usize) -> Result<Option<usize>> {
        let Some(line) = memchr::memchr(b'\n', &self.buffer[at..]).map(|len| at + len + 1) else { return Ok(None) };
        match self.buffer[at] {
            b'+' | b':' | b'_' => Ok(Some(line)),
            b'$' => {
                let len: i64 = std::str::from_utf8(&self.buffer[at + 1..line - 2])?.parse()?;
                let end = if len < 0 { line } else { line + len as usize + 2 };
                Ok((end <= self.buffer.len()).then_some(end))
            }
            _ => bail!("unexpected reply: {}", String::from_utf8_lossy(&self.buffer[at..line])),
        }
    }
}

/// A small generator of random numbers (xorshift); the same numbers in every run.
#[derive(Debug, Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Writes a request as an array of bulk strings.
pub fn write_request(out: &mut Vec<u8>, words: &[&[u8]]) {
    use std::io::Write;
    write!(out, "*{}\r\n", words.len()).expect("a vector takes all that is written");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("a vector takes all that is written");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
