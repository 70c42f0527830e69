//! `maxmemory`: how often each policy has what is asked for, and whether the limit is kept, beside Redis with the same limit and the
//! same requests.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Options;
use crate::data;
use crate::driver::{Random, write_request};
use crate::report::Report;
use crate::sections::{BARE, FLUX};
use crate::server::{Kind, Server};

const POLICIES: [&str; 8] = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "noeviction",
];
const LIMIT_MIB: u64 = 30;
/// Seven times what fits, at 10 KB each on average.
const KEYS: usize = 20_000;
const VALUE_BYTES_MAX: u64 = 20_000;
/// Asked for together.
const PIPELINE: usize = 16;
/// Rounds of so many requests at full size.
const ROUNDS: usize = 40_000;
/// Between two looks at a server.
const LOOK: Duration = Duration::from_millis(20);

/// A cache in use: what is asked for and not there is written.
pub fn eviction(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.scaled(ROUNDS);
    report.table(
        &format!("`maxmemory {LIMIT_MIB}mb`"),
        &format!(
            "{} look-ups of {KEYS} keys, Zipf with exponent 1, {PIPELINE} at a time; what is missing is set, with values of 10 to \
             {VALUE_BYTES_MAX} bytes and an expiry in 1,000 to 100,000 s. Hits, DBSIZE, used memory and RSS after the first third. \
             Goals: hits within 2 points of Redis, nothing refused where Redis refuses nothing, RSS at most 1.3 times the limit.",
            rounds * PIPELINE
        ),
        &["policy", "server", "hits %", "to Redis", "refused", "DBSIZE", "used MiB", "RSS MiB", "RSS/limit"],
    );
    for policy in POLICIES {
        let mut redis_hits = 0.0;
        for kind in [BARE, FLUX, Kind::FluxBare] {
            let server = Server::start(kind, options, &format!("--maxmemory {LIMIT_MIB}mb --maxmemory-policy {policy}"))?;
            let seen = watched(&server, rounds)?;
            if kind == BARE {
                redis_hits = seen.hits;
            }
            report.row(&[
                policy.into(),
                kind.name(),
                format!("{:.2}", seen.hits),
                format!("{:+.2}", seen.hits - redis_hits),
                seen.refused.to_string(),
                format!("{}..{}", seen.keys_min, seen.keys_max),
                format!("{:.1}", seen.used_max as f64 / f64::from(1 << 20)),
                format!("{:.1}", seen.rss_max as f64 / f64::from(1 << 20)),
                format!("{:.2}", seen.rss_max as f64 / (LIMIT_MIB << 20) as f64),
            ]);
        }
    }
    Ok(())
}

/// What a run showed.
#[derive(Default)]
struct Seen {
    hits: f64,
    refused: usize,
    keys_min: u64,
    keys_max: u64,
    used_max: u64,
    rss_max: u64,
}

/// Runs the look-ups, and looks at the server meanwhile.
fn watched(server: &Server, rounds: usize) -> Result<Seen> {
    let (is_warm, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(server, &is_warm, &is_over));
        let counted = look_up(server, rounds, &is_warm);
        is_over.store(true, Relaxed);
        let seen = watcher.join().expect("the watcher does not panic")?;
        let (hits, refused) = counted?;
        Ok(Seen { hits, refused, ..seen })
    })
}

fn watch(server: &Server, is_warm: &AtomicBool, is_over: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen { keys_min: u64::MAX, ..Seen::default() };
    while !is_over.load(Relaxed) {
        thread::sleep(LOOK);
        if !is_warm.load(Relaxed) {
            continue;
        }
        let keys: u64 = server.ask("DBSIZE")?;
        seen.keys_min = seen.keys_min.min(keys);
        seen.keys_max = seen.keys_max.max(keys);
        seen.used_max = seen.used_max.max(server.info("used_memory")?);
        seen.rss_max = seen.rss_max.max(server.rss_bytes()?);
    }
    Ok(seen)
}

/// The share of look-ups after the first third that found their key, in percent, and how many writes were refused.
fn look_up(server: &Server, rounds: usize, is_warm: &AtomicBool) -> Result<(f64, usize)> {
    let mut client = Client::connect(server.port())?;
    let (chances, mut random) = (zipf(KEYS), Random(20_26));
    let value = vec![b'v'; VALUE_BYTES_MAX as usize];
    let (mut hits, mut asked, mut refused) = (0, 0, 0);
    for round in 0..rounds {
        is_warm.store(round > rounds / 3, Relaxed);
        let wanted: Vec<usize> = (0..PIPELINE).map(|_| drawn(&chances, &mut random)).collect();
        for number in &wanted {
            write_request(&mut client.out, &[b"STRLEN", &data::padded("key:", *number)]);
        }
        let lens = client.replies(PIPELINE)?;
        let mut missing: Vec<usize> =
            wanted.iter().zip(&lens).filter(|(_, len)| *len == ":0").map(|(number, _)| *number).collect();
        if is_warm.load(Relaxed) {
            (hits, asked) = (hits + PIPELINE - missing.len(), asked + PIPELINE);
        }
        missing.sort_unstable();
        missing.dedup();
        for number in &missing {
            let about = Random(*number as u64 + 1).next();
            let len = 10 + about % (VALUE_BYTES_MAX - 9);
            let seconds = (1000 + about / VALUE_BYTES_MAX % 99_000).to_string();
            let words: [&[u8]; 5] = [b"SET", &data::padded("key:", *number), &value[..len as usize], b"EX", seconds.as_bytes()];
            write_request(&mut client.out, &words);
        }
        refused += client.replies(missing.len())?.iter().filter(|reply| reply.starts_with('-')).count();
    }
    Ok((100.0 * hits as f64 / asked as f64, refused))
}

/// The chance that a key is drawn or one before it, the most likely first.
fn zipf(keys: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    sums.iter().map(|part| part / sum).collect()
}

fn drawn(chances: &[f64], random: &mut Random) -> usize {
    let chance = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
    chances.partition_point(|sum| *sum <= chance).min(chances.len() - 1)
}

/// A connection whose replies are lines.
struct Client {
    out: Vec<u8>,
    replies: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        Ok(Client { out: Vec::new(), replies: BufReader::new(socket) })
    }

    /// Sends what is written and reads so many replies.
    fn replies(&mut self, count: usize) -> Result<Vec<String>> {
        self.replies.get_mut().write_all(&self.out)?;
        self.out.clear();
        let mut replies = (&mut self.replies).lines();
        (0..count).map(|_| replies.next().context("the server closed the connection")?.context("read a reply")).collect()
    }
}
