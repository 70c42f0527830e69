//! Growth on disk: what a checkpoint (a rewrite of Redis' AOF) writes, and how large the folder becomes while keys are overwritten
//! faster than checkpoints take the changes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::data;
use crate::driver::{Load, Random, Times, timed, write_request};
use crate::report::{Goal, Report, ratio};
use crate::sections::{AOF, FLUX};
use crate::server::{Kind, Server};

/// Keys at full size.
const COUNTS: [usize; 2] = [1_000_000, 5_000_000];
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const ROW_BYTES: usize = KEY_BYTES + VALUE_BYTES;
/// How long keys are overwritten as fast as it goes.
const OVERLOAD: Duration = Duration::from_secs(30);
/// Between two looks at a server.
const LOOK: Duration = Duration::from_millis(50);
const MIB: f64 = (1 << 20) as f64;

/// What all of it shows, a server in each row.
pub fn growth(options: &Options, report: &mut Report) -> Result<()> {
    let kinds = [FLUX, AOF].into_iter().chain(options.valkey.is_some().then_some(Kind::ValkeyAof));
    let kinds: Vec<Kind> = kinds.collect();
    let mut checkpoints = Vec::new();
    let mut overloads = Vec::new();
    for count in COUNTS.map(|count| options.scaled(count)) {
        for kind in &kinds {
            let (checkpoint, overload) = measure(*kind, options, count)?;
            checkpoints.push(checkpoint);
            overloads.push(overload);
        }
    }
    report.table(
        "A checkpoint after half of the keys were overwritten",
        &format!(
            "Keys of {KEY_BYTES} bytes with values of {VALUE_BYTES}; every second one is overwritten, then SAVE (Redis, Valkey: BGREWRITEAOF). \
             Written: what the server and its child gave to the disk during it, beside the keys and values that were overwritten; memory: \
             the most that both held during it beyond what the server held before. Goals for flux: written at most twice what changed, 64 MiB."
        ),
        &["keys", "server", "written MiB", "to changed", "CPU s", "took s", "memory MiB", "folder after MiB", "to data"],
    );
    checkpoints.iter().for_each(|row| report.row(row));
    report.table(
        "Overwriting as fast as it goes",
        &format!(
            "{} s of SET on random keys, 50 connections, -P 64, while another 32 send 20 GETs or SETs a second each, timed from when \
             each was due. Amplification: bytes given to the disk for each byte of keys and values sent. Rest: the folder once nothing is left to be done. \
             Start: after kill -9 at the end, until a key can be read. Goals for flux: amplification at most 2.5, folder at most 2.5 and 1.3 times the \
             data, start 4 s.",
            OVERLOAD.as_secs()
        ),
        &[
            "keys",
            "server",
            "k SET/s",
            "amplification",
            "folder peak MiB",
            "to data",
            "start s",
            "rest MiB",
            "to data",
            "p99.9 before",
            "p99.9 during",
        ],
    );
    overloads.iter().for_each(|row| report.row(row));
    Ok(())
}

/// Sets a key to a value that no compression makes smaller.
fn set(number: usize, salt: u64, out: &mut Vec<u8>) {
    let mut random = Random((number as u64 + 1).wrapping_mul(2 * salt + 1));
    let value: Vec<u8> = (0..VALUE_BYTES.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    write_request(out, &[b"SET", &data::padded("key:", number), &value[..VALUE_BYTES]]);
}

fn measure(kind: Kind, options: &Options, count: usize) -> Result<(Vec<String>, Vec<String>)> {
    let mut server = Server::start(kind, options, "")?;
    data::load(&server, count, |at, out| set(at, 0, out))?;
    save(&server)?;
    server.settle()?;
    let checkpoint = overwrite_half(&server, count)?;
    let overload = overwrite(&mut server, count)?;
    Ok((checkpoint, overload))
}

/// Makes a checkpoint, and waits for its end.
fn save(server: &Server) -> Result<()> {
    if matches!(server.kind(), Kind::Flux(_)) {
        return server.ask::<redis::Value>("SAVE").map(drop);
    }
    let rewrites = || Ok::<_, anyhow::Error>(server.info("aof_rewrite_in_progress")? + server.info("aof_rewrite_scheduled")?);
    while rewrites()? != 0 {
        thread::sleep(LOOK);
    }
    server.ask::<redis::Value>("BGREWRITEAOF")?;
    while rewrites()? != 0 {
        thread::sleep(LOOK);
    }
    Ok(())
}

fn overwrite_half(server: &Server, count: usize) -> Result<Vec<String>> {
    data::load(server, count / 2, |at, out| set(at * 2, 1, out))?;
    server.settle()?;
    let (cpu, rss, start) = (server.cpu()?, server.rss_bytes()?, Instant::now());
    let (seen, saved) = watched(server, || save(server));
    saved?;
    let took = start.elapsed();
    server.settle()?;
    let changed = (count / 2 * ROW_BYTES) as f64;
    let folder = server.folder_bytes() as f64;
    let is_goal = matches!(server.kind(), Kind::Flux(_));
    Ok(vec![
        count.to_string(),
        server.kind().name(),
        format!("{:.0}", seen.written as f64 / MIB),
        ratio(seen.written as f64, changed, if is_goal { Goal::AtMost(2.0) } else { Goal::None }),
        format!("{:.2}", (server.cpu()? - cpu).as_secs_f64()),
        format!("{:.2}", took.as_secs_f64()),
        format!("{:.0}", seen.rss_max.saturating_sub(rss) as f64 / MIB),
        format!("{:.0}", folder / MIB),
        format!("{:.2}", folder / (count * ROW_BYTES) as f64),
    ])
}

fn overwrite(server: &mut Server, count: usize) -> Result<Vec<String>> {
    let calm = Load { clients: 32, pipeline: 1, seconds: 10.0, rate: 20.0 };
    let half_sets = move |number: u64, out: &mut Vec<u8>| {
        let at = (number >> 1) as usize % count;
        if number & 1 == 0 {
            set(at, 2, out)
        } else {
            write_request(out, &[b"GET", &data::padded("key:", at)])
        }
        0
    };
    let before = timed(server, calm, 1, None, half_sets)?.swap_remove(0);
    let full = Load { clients: 50, pipeline: 64, seconds: OVERLOAD.as_secs_f64(), rate: 0.0 };
    let (seen, results) = watched(server, || {
        thread::scope(|scope| {
            let is_over = Arc::new(AtomicBool::new(false));
            let until = Arc::clone(&is_over);
            let calm = scope.spawn(|| timed(server, Load { seconds: 600.0, ..calm }, 1, Some(until), half_sets));
            let sets = timed(server, full, 1, None, move |number, out| {
                set(number as usize % count, number, out);
                0
            });
            is_over.store(true, Relaxed);
            let calm = calm.join().expect("the timer does not panic");
            Ok::<[Times; 2], anyhow::Error>([sets?.swap_remove(0), calm?.swap_remove(0)])
        })
    });
    let [sets, during] = results?;
    let start = server.crash_and_restart()?;
    server.settle()?;
    save(server)?;
    server.settle()?;
    let (data, rest) = ((count * ROW_BYTES) as f64, server.folder_bytes() as f64);
    let goal = |most: f64| if matches!(server.kind(), Kind::Flux(_)) { Goal::AtMost(most) } else { Goal::None };
    Ok(vec![
        count.to_string(),
        server.kind().name(),
        format!("{:.0}", sets.per_second / 1000.0),
        ratio(seen.written as f64, (sets.len() * ROW_BYTES) as f64, goal(2.5)),
        format!("{:.0}", seen.folder_max as f64 / MIB),
        ratio(seen.folder_max as f64, data, goal(2.5)),
        format!("{:.2}", start.as_secs_f64()),
        format!("{:.0}", rest / MIB),
        ratio(rest, data, goal(1.3)),
        format!("{:.0}", before.at_us(0.999)),
        format!("{:.0}", during.at_us(0.999)),
    ])
}

/// What a server came to while it was watched.
#[derive(Default)]
struct Seen {
    /// Bytes that it and its children gave to the disk.
    written: u64,
    /// The most memory it and its children held.
    rss_max: u64,
    folder_max: u64,
}

/// Looks at a server while something runs.
fn watched<T>(server: &Server, run: impl FnOnce() -> T) -> (Seen, T) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut seen, before) = (Seen::default(), server.written_bytes());
            let mut children = std::collections::BTreeMap::new();
            while !is_over.load(Relaxed) {
                seen.rss_max = seen.rss_max.max(server.all_rss_bytes());
                seen.folder_max = seen.folder_max.max(server.folder_bytes());
                children.extend(server.children_written_bytes());
                thread::sleep(LOOK);
            }
            seen.written = server.written_bytes() - before + children.values().sum::<u64>();
            seen
        });
        let result = run();
        is_over.store(true, Relaxed);
        (watcher.join().expect("the watcher does not panic"), result)
    })
}
