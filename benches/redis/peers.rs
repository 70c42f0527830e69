//! Peers, against NATS and against the old protocol on Redis: calls, events to many, crashes told, heartbeats of many.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::calls;
use crate::driver::Times;
use crate::report::{Goal, Report, median, ratio};
use crate::sections::{BARE, FLUX, in_turn, medians, start};
use crate::server::{Kind, Server};

/// One caller, one peer that answers; then 64 callers.
pub fn calls(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let servers = start(&[FLUX, Kind::Nats, BARE], options)?;
    report.table(
        "Calls",
        &format!(
            "From call to reply, microseconds, one peer answers, {rounds} rounds of 3 s; the server's CPU time for each call. NATS: \
             request and reply. Redis: the old peer protocol, five round trips. Goals: p50 at most that of NATS, p99 at most half; with 64 \
             callers five times the calls of the old protocol."
        ),
        &["callers", "server", "calls/s", "p50", "p99", "p99.9", "CPU us", "p50 to NATS", "p99 to NATS", "calls to Redis"],
    );
    for callers in [1, 64] {
        let mut results: Vec<Vec<(Times, f64)>> = Vec::new();
        for round in 0..rounds {
            results.push(in_turn(&servers, round, |server| {
                let before = server.cpu()?;
                let times = calls::timed(server, callers, 3.0)?;
                let cpu_us = (server.cpu()? - before).as_secs_f64() * 1e6 / times.len() as f64;
                Ok((times, cpu_us))
            })?);
        }
        call_rows(report, callers, &servers, &results);
    }
    Ok(())
}

fn call_rows(report: &mut Report, callers: usize, servers: &[Server], results: &[Vec<(Times, f64)>]) {
    let rate = medians(results, |(times, _)| times.per_second);
    let at: Vec<_> = [0.5, 0.99, 0.999].iter().map(|share| medians(results, |(times, _)| times.at_us(*share))).collect();
    let cpu = medians(results, |(_, cpu_us)| *cpu_us);
    for (number, server) in servers.iter().enumerate() {
        let is_flux = number == 0;
        let (p50, p99, more) = match callers {
            1 => (Goal::AtMost(1.0), Goal::AtMost(0.5), Goal::None),
            _ => (Goal::None, Goal::None, Goal::AtLeast(5.0)),
        };
        let compared = |ours: f64, theirs: f64, goal| if is_flux { ratio(ours, theirs, goal) } else { String::new() };
        report.row(&[
            callers.to_string(),
            server.kind().name(),
            format!("{:.0}", rate[number]),
            format!("{:.0}", at[0][number]),
            format!("{:.0}", at[1][number]),
            format!("{:.0}", at[2][number]),
            format!("{:.1}", cpu[number]),
            compared(at[0][0], at[0][1], p50),
            compared(at[1][0], at[1][1], p99),
            compared(rate[0], rate[2], more),
        ]);
    }
}

/// Events to a workspace of a hundred.
pub fn fan_out(options: &Options, report: &mut Report) -> Result<()> {
    const MEMBERS: usize = 100;
    let rounds = options.rounds(5);
    let events = options.scaled(20_000);
    let servers = start(&[FLUX, Kind::Nats, BARE], options)?;
    report.table(
        "Events to 100 members",
        &format!(
            "{events} stream chunks to {MEMBERS} members, {rounds} rounds; thousands of deliveries a second. flux also keeps the chunks for \
             late joiners. Goal: at least Redis'."
        ),
        &["flux k/s", "NATS k/s", "Redis k/s", "flux/NATS", "flux/Redis"],
    );
    let mut results = Vec::new();
    for round in 0..rounds {
        results.push(in_turn(&servers, round, |server| calls::fan_out(server, MEMBERS, events))?);
    }
    let rate = medians(&results, |rate| rate / 1000.0);
    report.row(&[
        format!("{:.0}", rate[0]),
        format!("{:.0}", rate[1]),
        format!("{:.0}", rate[2]),
        ratio(rate[0], rate[1], Goal::None),
        ratio(rate[0], rate[2], Goal::AtLeast(1.0)),
    ]);
    Ok(())
}

/// From a peer's end until the others are told.
pub fn crashes(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    report.table(
        "A peer is gone",
        &format!("Milliseconds until the others of its workspace are told; median and worst of {rounds}. Goals: 100 after its connection dropped, 1,000 after its TTL."),
        &["after", "median", "worst", "goal"],
    );
    let server = Server::start(FLUX, options, "")?;
    for (name, is_dropped, most_ms) in [("its connection dropped", true, 100.0), ("its TTL", false, 1000.0)] {
        let times = (0..rounds).map(|_| Ok(calls::told_after(&server, is_dropped)?.as_secs_f64() * 1000.0));
        let times = times.collect::<Result<Vec<_>>>()?;
        let worst = times.iter().copied().fold(0.0, f64::max);
        let verdict = if worst <= most_ms { "ok" } else { "**not**" };
        report.row(&[name.into(), format!("{:.1}", median(times)), format!("{worst:.1}"), format!("{verdict} ≤ {most_ms:.0}")]);
    }
    Ok(())
}

/// What it costs that very many peers are there.
pub fn heartbeats(options: &Options, report: &mut Report) -> Result<()> {
    const EVERY: Duration = Duration::from_secs(3);
    let (peers, workspaces) = (options.scaled(10_000), options.scaled(1000));
    report.table(
        "Heartbeats",
        &format!("{peers} peers in {workspaces} workspaces, each says every 3 s that it is there; share of one core over 9 s. Goal: 10 %."),
        &["peers", "core", "RSS MiB"],
    );
    let server = Server::start(FLUX, options, "--maxclients 20000")?;
    let mut connections = Vec::with_capacity(peers);
    for number in 0..peers {
        let mut connection = server.connect()?;
        let peer = format!(
            r#"{{"name":"p{number}","capabilities":[{{"name":"c{}"}}],"workspaces":["w{}"]}}"#,
            number % 100,
            number % workspaces
        );
        redis::cmd("FLUX.REGISTER").arg(peer).arg("TTL").arg(60_000).exec(&mut connection)?;
        connections.push(connection);
    }
    server.settle()?;
    let before = server.cpu()?;
    let start = Instant::now();
    for _ in 0..3 {
        let began = Instant::now();
        for (number, connection) in connections.iter_mut().enumerate() {
            redis::cmd("FLUX.HEARTBEAT").exec(connection)?;
            // Spread over the whole time, as peers that started at different moments are.
            let due = EVERY.mul_f64((number + 1) as f64 / peers as f64);
            if let Some(early) = due.checked_sub(began.elapsed()).filter(|early| *early > Duration::from_millis(2)) {
                thread::sleep(early);
            }
        }
    }
    let share = (server.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let verdict = if share <= 0.1 { "ok" } else { "**not**" };
    report.row(&[
        peers.to_string(),
        format!("{:.1} % ({verdict} ≤ 10 %)", share * 100.0),
        (server.rss_bytes()? >> 20).to_string(),
    ]);
    Ok(())
}
