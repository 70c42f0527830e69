//! What is measured, section by section, and the goals the numbers are held against.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::data;
use crate::driver::{Load, Random, Throughput, Times, benchmark, timed, write_request};
use crate::eviction;
use crate::growth;
use crate::peers;
use crate::report::{Goal, Report, median, ratio};
use crate::scripts;
use crate::server::{Kind, Server};
use crate::waiting;

type Section = fn(&Options, &mut Report) -> Result<()>;

/// All sections in order.
pub const ALL: &[(&str, Section)] = &[
    ("commands", commands),
    ("latency", latency),
    ("always", always),
    ("memory", memory),
    ("load", load),
    ("checkpoint", checkpoint),
    ("growth", growth::growth),
    ("larger", larger),
    ("eviction", eviction::eviction),
    ("calls", peers::calls),
    ("fanout", peers::fan_out),
    ("crashes", peers::crashes),
    ("heartbeats", peers::heartbeats),
    ("waiting", waiting::waiting),
    ("scripts", scripts::scripts),
];

/// flux as it is by default.
pub const FLUX: Kind = Kind::Flux("everysec");
/// Redis as durable as that.
pub const AOF: Kind = Kind::RedisAof("everysec");
/// Redis that keeps nothing.
pub const BARE: Kind = Kind::RedisBare;

/// Starts servers, all paused.
pub fn start(kinds: &[Kind], options: &Options) -> Result<Vec<Server>> {
    let servers = kinds.iter().map(|kind| Server::start(*kind, options, "")).collect::<Result<Vec<_>>>()?;
    servers.iter().for_each(Server::pause);
    Ok(servers)
}

/// Runs on each server in turn, alone; a different one begins in each round.
pub fn in_turn<T>(servers: &[Server], round: usize, mut run: impl FnMut(&Server) -> Result<T>) -> Result<Vec<T>> {
    let mut results: Vec<Option<T>> = servers.iter().map(|_| None).collect();
    for turn in 0..servers.len() {
        let at = (turn + round) % servers.len();
        servers[at].resume();
        results[at] = Some(run(&servers[at])?);
        servers[at].pause();
    }
    Ok(results.into_iter().flatten().collect())
}

/// `rounds[round][server]` as medians for each server.
pub fn medians<T>(rounds: &[Vec<T>], number: impl Fn(&T) -> f64) -> Vec<f64> {
    (0..rounds[0].len()).map(|server| median(rounds.iter().map(|round| number(&round[server])).collect())).collect()
}

fn commands(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let servers = start(&[FLUX, AOF, BARE], options)?;
    report.table(
        "Commands: throughput and CPU",
        &format!(
            "redis-benchmark -c 50 -r 100000, {rounds} rounds. CPU in microseconds per command, throughput in thousands a second."
        ),
        &[
            "-P",
            "command",
            "flux CPU",
            "AOF CPU",
            "bare CPU",
            "flux/AOF CPU",
            "flux/bare CPU",
            "flux k/s",
            "AOF k/s",
            "bare k/s",
            "flux/AOF k/s",
            "flux/bare k/s",
        ],
    );
    let pipelines = match (&options.pipelines[..], options.quick) {
        ([], true) => vec![64, 1],
        ([], false) => vec![64, 16, 1],
        (chosen, _) => chosen.to_vec(),
    };
    let (mut cpu, mut count) = ([Duration::ZERO; 3], [0usize; 3]);
    for pipeline in pipelines {
        let tests: Vec<&str> = match (&options.tests[..], options.quick, pipeline) {
            ([], true, 1) => vec!["set", "get"],
            ([], false, 64) => {
                vec![
                    "set",
                    "get",
                    "incr",
                    "lpush",
                    "hset",
                    "zadd",
                    "rpush",
                    "lpop",
                    "sadd",
                    "spop",
                    "zpopmin",
                    "lrange_100",
                    "mset",
                ]
            }
            ([], ..) => vec!["set", "get", "incr", "lpush", "hset", "zadd"],
            (chosen, ..) => chosen.iter().map(String::as_str).collect(),
        };
        for test in tests {
            let requests = requests(options, test, pipeline);
            let mut results: Vec<Vec<Throughput>> = Vec::new();
            for round in 0..rounds {
                results.push(in_turn(&servers, round, |server| {
                    prepare(server, test)?;
                    let at = servers.iter().position(|other| other.port() == server.port()).unwrap_or_default();
                    let before = server.cpu()?;
                    let result = benchmark(server, test, pipeline, requests)?;
                    // Work put off to the background shows here and not in the row.
                    thread::sleep(Duration::from_millis(200));
                    cpu[at] += server.cpu()? - before;
                    count[at] += requests;
                    Ok(result)
                })?);
            }
            command_row(report, test, pipeline, &results);
        }
    }
    report.line("");
    let whole = |at: usize| cpu[at].as_secs_f64() * 1e6 / count[at] as f64;
    report.line(&format!(
        "All runs together, 0.2 s of background work after each counted in: flux {:.2} us a command, Redis AOF {:.2}, Redis bare {:.2}.",
        whole(0),
        whole(1),
        whole(2)
    ));
    Ok(())
}

fn requests(options: &Options, test: &str, pipeline: usize) -> usize {
    let full = options.thousands * 1000;
    let slow = if matches!(test, "lrange_100" | "mset") { 5 } else { 1 };
    match pipeline {
        32.. => full / slow,
        8..32 => full * 2 / 3 / slow,
        _ => full / 6 / slow,
    }
}

/// Brings a server to where the test begins: empty, or with the keys that are read.
fn prepare(server: &Server, test: &str) -> Result<()> {
    server.ask::<redis::Value>("FLUSHALL")?;
    let seed = match test {
        "get" => "set",
        "lpop" | "rpop" => "lpush",
        "spop" => "sadd",
        "zpopmin" => "zadd",
        _ => return Ok(()),
    };
    benchmark(server, seed, 64, 300_000)?;
    Ok(())
}

fn command_row(report: &mut Report, test: &str, pipeline: usize, results: &[Vec<Throughput>]) {
    let cpu = medians(results, |result| result.cpu_us);
    let rate = medians(results, |result| result.per_second / 1000.0);
    // Goals stand for these six; the others are shown for comparison.
    let is_named = matches!(test, "set" | "get" | "incr" | "lpush" | "hset" | "zadd");
    let (cpu_goal, aof_goal, bare_goal) = match (is_named, pipeline) {
        (true, 64) => {
            let most = if matches!(test, "set" | "get") { 0.5 } else { 0.6 };
            (Goal::AtMost(most), Goal::AtLeast(1.5), Goal::AtLeast(1.0))
        }
        (true, 1) => (Goal::AtMost(0.9), Goal::None, Goal::None),
        _ => (Goal::None, Goal::None, Goal::None),
    };
    report.row(&[
        pipeline.to_string(),
        test.to_uppercase(),
        format!("{:.2}", cpu[0]),
        format!("{:.2}", cpu[1]),
        format!("{:.2}", cpu[2]),
        ratio(cpu[0], cpu[1], cpu_goal),
        ratio(cpu[0], cpu[2], Goal::None),
        format!("{:.0}", rate[0]),
        format!("{:.0}", rate[1]),
        format!("{:.0}", rate[2]),
        ratio(rate[0], rate[1], aof_goal),
        ratio(rate[0], rate[2], bare_goal),
    ]);
}

fn set(number: u64, out: &mut Vec<u8>) -> usize {
    write_request(out, &[b"SET", &data::padded("key:", (number % 100_000) as usize), b"0123456789abcdef"]);
    0
}

fn get(number: u64, out: &mut Vec<u8>) -> usize {
    write_request(out, &[b"GET", &data::padded("key:", (number % 100_000) as usize)]);
    0
}

/// As fast as it goes, on 50 connections.
fn closed(pipeline: usize, seconds: f64) -> Load {
    Load { clients: 50, pipeline, seconds, rate: 0.0 }
}

fn latency(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let servers = start(&[FLUX, AOF, BARE], options)?;
    report.table(
        "Latency",
        &format!("Own client, 50 connections, as fast as it goes, each request timed; microseconds, {rounds} rounds of 2 s."),
        &["-P", "command", "server", "k/s", "p50", "p99", "p99.9"],
    );
    for pipeline in [1, 16, 64] {
        for (name, request) in [("SET", set as fn(u64, &mut Vec<u8>) -> usize), ("GET", get)] {
            let results = timed_rounds(&servers, rounds, closed(pipeline, 2.0), request)?;
            latency_rows(report, pipeline, name, &servers, &results);
        }
    }
    Ok(())
}

fn timed_rounds(
    servers: &[Server],
    rounds: usize,
    load: Load,
    request: fn(u64, &mut Vec<u8>) -> usize,
) -> Result<Vec<Vec<Times>>> {
    (0..rounds).map(|round| in_turn(servers, round, |server| Ok(timed(server, load, 1, None, request)?.swap_remove(0)))).collect()
}

fn latency_rows(report: &mut Report, pipeline: usize, name: &str, servers: &[Server], results: &[Vec<Times>]) {
    let rate = medians(results, |times| times.per_second / 1000.0);
    let at: Vec<_> = [0.5, 0.99, 0.999].iter().map(|share| medians(results, |times| times.at_us(*share))).collect();
    for (number, server) in servers.iter().enumerate() {
        let mut cells = vec![pipeline.to_string(), name.into(), server.kind().name(), format!("{:.0}", rate[number])];
        cells.extend(at.iter().map(|medians| format!("{:.0}", medians[number])));
        report.row(&cells);
    }
}

fn always(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let servers = start(&[Kind::Flux("always"), Kind::RedisAof("always")], options)?;
    report.table(
        "Every write on disk before its reply (`appendfsync always`)",
        &format!("SET, 50 connections, {rounds} rounds of 3 s, own client; p99 in microseconds. Goal: at least Redis' throughput, p99 no worse."),
        &["-P", "flux k/s", "Redis k/s", "ratio", "flux p50", "Redis p50", "flux p99", "Redis p99", "ratio"],
    );
    for pipeline in [1, 16] {
        let results = timed_rounds(&servers, rounds, closed(pipeline, 3.0), set)?;
        let rate = medians(&results, |times| times.per_second / 1000.0);
        let (p50, p99) = (medians(&results, |times| times.at_us(0.5)), medians(&results, |times| times.at_us(0.99)));
        report.row(&[
            pipeline.to_string(),
            format!("{:.0}", rate[0]),
            format!("{:.0}", rate[1]),
            ratio(rate[0], rate[1], Goal::AtLeast(1.0)),
            format!("{:.0}", p50[0]),
            format!("{:.0}", p50[1]),
            format!("{:.0}", p99[0]),
            format!("{:.0}", p99[1]),
            ratio(p99[0], p99[1], Goal::AtMost(1.0)),
        ]);
    }
    Ok(())
}

fn memory(options: &Options, report: &mut Report) -> Result<()> {
    report.table(
        "Memory",
        "Growth of resident memory and of INFO's used_memory after loading, in bytes per element; Redis without persistence.",
        &["data set", "per", "flux RSS", "Redis RSS", "ratio", "flux used_memory", "Redis used_memory", "ratio"],
    );
    for set in data::ALL {
        let count = options.scaled(set.count);
        let (mut rss, mut used) = ([0.0; 2], [0.0; 2]);
        for (at, kind) in [FLUX, BARE].into_iter().enumerate() {
            let server = Server::start(kind, options, "")?;
            server.settle()?;
            let before = (server.rss_bytes()?, server.info("used_memory")?);
            set.load(&server, count)?;
            server.settle()?;
            rss[at] = (server.rss_bytes()? as f64 - before.0 as f64) / count as f64;
            used[at] = (server.info("used_memory")? as f64 - before.1 as f64) / count as f64;
        }
        report.row(&[
            set.name.into(),
            set.unit.into(),
            format!("{:.1}", rss[0]),
            format!("{:.1}", rss[1]),
            ratio(rss[0], rss[1], Goal::AtMost(1.0)),
            format!("{:.1}", used[0]),
            format!("{:.1}", used[1]),
            ratio(used[0], used[1], Goal::AtMost(1.0)),
        ]);
    }
    Ok(())
}

fn load(options: &Options, report: &mut Report) -> Result<()> {
    let count = options.scaled(5_000_000);
    report.table(
        "Start",
        &format!("Time from start to the first answered GET with {count} string keys on disk; Redis loads its RDB. Goal: twice as fast."),
        &["flux", "Redis", "Redis/flux"],
    );
    let mut seconds = [0.0; 2];
    for (at, kind) in [FLUX, BARE].into_iter().enumerate() {
        let mut server = Server::start(kind, options, "")?;
        data::load(&server, count, data::string)?;
        server.ask::<redis::Value>("SAVE")?;
        let times = (0..options.rounds(3)).map(|_| Ok(server.restart()?.as_secs_f64())).collect::<Result<Vec<_>>>()?;
        let keys: usize = server.ask("DBSIZE")?;
        anyhow::ensure!(keys == count, "{} has {keys} keys after its start, not {count}", kind.name());
        seconds[at] = median(times);
    }
    report.row(&[
        format!("{:.2} s", seconds[0]),
        format!("{:.2} s", seconds[1]),
        ratio(seconds[1], seconds[0], Goal::AtLeast(2.0)),
    ]);
    Ok(())
}

fn checkpoint(options: &Options, report: &mut Report) -> Result<()> {
    let count = options.scaled(1_000_000);
    report.table(
        "GET while a checkpoint runs",
        &format!(
            "10 connections send 2,000 GETs a second each, timed from when each was due, before and while {count} changed keys are saved \
             (BGSAVE); microseconds. Goal for flux: p99.9 no more than twice that without a checkpoint."
        ),
        &["server", "p50 before", "p99.9 before", "p50 during", "p99.9 during", "ratio", "took", "requests during"],
    );
    let calm = Load { clients: 10, pipeline: 1, seconds: 5.0, rate: 2000.0 };
    let ask = |number: u64, out: &mut Vec<u8>| {
        write_request(out, &[b"GET", &data::padded("key:", number as usize % 1_000_000)]);
        0
    };
    for kind in [FLUX, BARE, AOF] {
        let (mut before, mut during, mut took) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds(3) {
            let server = Server::start(kind, options, "")?;
            data::load(&server, count, data::string)?;
            server.ask::<redis::Value>("SAVE")?;
            server.settle()?;
            before.push(vec![timed(&server, calm, 1, None, ask)?.swap_remove(0)]);
            data::load(&server, count, data::string)?;
            let done = Arc::new(AtomicBool::new(false));
            let (watched, finished) = (&server, done.clone());
            let (times, seconds) = thread::scope(|scope| {
                let watcher = scope.spawn(move || {
                    let result = save_in_background(watched);
                    finished.store(true, Relaxed);
                    result
                });
                let times = timed(watched, Load { seconds: 120.0, ..calm }, 1, Some(done), ask);
                (times, watcher.join().expect("the watcher does not panic"))
            });
            during.push(vec![times?.swap_remove(0)]);
            took.push(seconds?.as_secs_f64());
        }
        let at = |results: &[Vec<Times>], share: f64| medians(results, |times| times.at_us(share))[0];
        let goal = if kind == FLUX { Goal::AtMost(2.0) } else { Goal::None };
        report.row(&[
            kind.name(),
            format!("{:.0}", at(&before, 0.5)),
            format!("{:.0}", at(&before, 0.999)),
            format!("{:.0}", at(&during, 0.5)),
            format!("{:.0}", at(&during, 0.999)),
            ratio(at(&during, 0.999), at(&before, 0.999), goal),
            format!("{:.1} s", median(took)),
            format!("{:.0}", medians(&during, |times| times.len() as f64)[0]),
        ]);
    }
    Ok(())
}

/// Starts a background save and waits for its end.
fn save_in_background(server: &Server) -> Result<Duration> {
    // Redis does one such work at a time.
    while server.info("aof_rewrite_in_progress")? != 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    server.ask::<redis::Value>("BGSAVE")?;
    while server.info("rdb_bgsave_in_progress")? != 0 {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}

fn larger(options: &Options, report: &mut Report) -> Result<()> {
    let count = options.scaled(1_000_000);
    report.table(
        "Four times larger than the memory limit",
        &format!(
            "{count} string keys with values of 512 bytes, 90 % of the GETs on a tenth of them, 50 connections, -P 1; microseconds. \
             `limit` is a quarter of what the keys take without one; `peak` is the most that was in use while loading. Goals: hot \
             reads within twice the time of the same server without a limit, and a peak of 1.25 times the limit."
        ),
        &["server", "k/s", "hot p50", "hot p99", "cold p50", "cold p99", "RSS MiB", "peak MiB", "ratio of hot p50", "peak/limit"],
    );
    let mut hot_p50 = 0.0;
    let mut limit = 0;
    for is_limited in [false, true] {
        let extra = if is_limited { format!("--memory-limit {limit}") } else { String::new() };
        let server = Server::start(FLUX, options, &extra)?;
        let empty = server.info("used_memory")?;
        data::load(&server, count, data::large_string)?;
        let peak = server.info("used_memory_peak")?;
        server.ask::<redis::Value>("SAVE")?;
        server.settle()?;
        if !is_limited {
            limit = empty + (server.info("used_memory")? - empty) / 4;
        }
        let ask = move |number: u64, out: &mut Vec<u8>| {
            let number = number as usize;
            let is_cold = number.is_multiple_of(10);
            let at = Random(number as u64 | 1).next() as usize % (count / 10);
            let key = if is_cold { count / 10 + at * 9 } else { at };
            write_request(out, &[b"GET", &data::padded("key:", key)]);
            usize::from(is_cold)
        };
        timed(&server, closed(1, 10.0), 2, None, ask)?;
        let times = timed(&server, closed(1, 10.0), 2, None, ask)?;
        let (hot, cold) = (&times[0], &times[1]);
        let compared = if is_limited { ratio(hot.at_us(0.5), hot_p50, Goal::AtMost(2.0)) } else { "1".into() };
        hot_p50 = hot.at_us(0.5);
        report.row(&[
            if is_limited { format!("limit {} MiB", limit >> 20) } else { "no limit".into() },
            format!("{:.0}", (hot.per_second + cold.per_second) / 1000.0),
            format!("{:.0}", hot.at_us(0.5)),
            format!("{:.0}", hot.at_us(0.99)),
            format!("{:.0}", cold.at_us(0.5)),
            format!("{:.0}", cold.at_us(0.99)),
            (server.rss_bytes()? >> 20).to_string(),
            (peak >> 20).to_string(),
            compared,
            if is_limited { ratio(peak as f64, limit as f64, Goal::AtMost(1.25)) } else { String::new() },
        ]);
    }
    Ok(())
}
