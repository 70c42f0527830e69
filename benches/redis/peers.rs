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
             request and reply. Redis: the old peer protocol, five round trips. PING: the same client's plain round trip to flux, two \
             wakes of a thread where a call has four: half of what is possible here. Goals: p50 at most that of NATS, p99 at most half; with \
             64 callers five times the calls of the old protocol."
        ),
        &["callers", "server", "calls/s", "p50", "p99", "p99.9", "CPU us", "p50 to NATS", "p99 to NATS", "calls to Redis"],
    );
    for callers in [1, 64] {
        let mut results: Vec<Vec<(Times, f64)>> = Vec::new();
        let mut pings = Vec::new();
        for round in 0..rounds {
            results.push(in_turn(&servers, round, |server| {
                let before = server.cpu()?;
                let times = calls::timed(server, callers, 3.0)?;
                let cpu_us = (server.cpu()? - before).as_secs_f64() * 1e6 / times.len() as f64;
                if callers == 1 && server.kind() == FLUX {
                    pings.push(vec![calls::pings(server, 1.0)?]);
                }
                Ok((times, cpu_us))
            })?);
        }
        if callers == 1 {
            let at = |share| format!("{:.0}", medians(&pings, |times| times.at_us(share))[0]);
            let none = String::new;
            report.row(&["1".into(), "PING".into(), none(), at(0.5), at(0.99), at(0.999), none(), none(), none(), none()]);
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

/// What it costs that very many peers are there, beside what as many clients cost Redis that keep a key of theirs alive.
pub fn heartbeats(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(3);
    let crowd = Crowd { peers: options.scaled(10_000), workspaces: options.scaled(1000) };
    report.table(
        "Heartbeats",
        &format!(
            "{} peers in {} workspaces, each says every {} s that it is there, one at a time and evenly spread, and lives for three of \
             these times without; {rounds} rounds of one such life. Redis: as many clients that SET a key with PX. Goal: 10 % of one core.",
            crowd.peers,
            crowd.workspaces,
            EVERY.as_secs()
        ),
        &["server", "core", "CPU us", "RSS MiB", "core to Redis"],
    );
    let mut results = Vec::new();
    for round in 0..rounds {
        // One at a time: two crowds need more sockets than most machines let a process have.
        let mut both = [(0.0, 0.0); 2];
        for turn in 0..2 {
            let at = (turn + round) % 2;
            both[at] = crowd.beat([FLUX, BARE][at], options)?;
        }
        results.push(both.to_vec());
    }
    let (core, rss) = (medians(&results, |(core, _)| *core), medians(&results, |(_, rss)| *rss));
    let beats_per_second = crowd.peers as f64 / EVERY.as_secs_f64();
    for (at, kind) in [FLUX, BARE].into_iter().enumerate() {
        let verdict = match at {
            0 if core[0] <= 0.1 => " (ok ≤ 10 %)",
            0 => " (**not** ≤ 10 %)",
            _ => "",
        };
        report.row(&[
            kind.name(),
            format!("{:.1} %{verdict}", core[at] * 100.0),
            format!("{:.1}", core[at] * 1e6 / beats_per_second),
            format!("{:.0}", rss[at]),
            if at == 0 { ratio(core[0], core[1], Goal::None) } else { String::new() },
        ]);
    }
    Ok(())
}

/// How often a peer says that it is there, as the client libraries do it.
const EVERY: Duration = Duration::from_secs(3);

/// Very many peers.
struct Crowd {
    peers: usize,
    workspaces: usize,
}

impl Crowd {
    /// Lets them live for one TTL, so that each one's keys are prolonged once; the share of a core the server used, and the MiB it held.
    fn beat(&self, kind: Kind, options: &Options) -> Result<(f64, f64)> {
        let server = Server::start(kind, options, &format!("--maxclients {}", self.peers + 100))?;
        let mut connections = (0..self.peers).map(|number| self.connect(&server, number)).collect::<Result<Vec<_>>>()?;
        server.settle()?;
        let (before, start) = (server.cpu()?, Instant::now());
        for beat in 0..3 * self.peers {
            let number = beat % self.peers;
            match kind {
                Kind::Flux(_) => redis::cmd("FLUX.HEARTBEAT").exec(&mut connections[number])?,
                _ => self.set(&mut connections[number], number)?,
            }
            let due = EVERY.mul_f64((beat + 1) as f64 / self.peers as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let core = (server.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok((core, server.rss_bytes()? as f64 / f64::from(1 << 20)))
    }

    fn connect(&self, server: &Server, number: usize) -> Result<redis::Connection> {
        let mut connection = server.connect()?;
        if server.kind() == BARE {
            self.set(&mut connection, number)?;
            return Ok(connection);
        }
        let (capability, workspace) = (number % 100, number % self.workspaces);
        let peer = format!(r#"{{"name":"p{number}","capabilities":[{{"name":"c{capability}"}}],"workspaces":["w{workspace}"]}}"#);
        redis::cmd("FLUX.REGISTER").arg(peer).arg("TTL").arg(3 * EVERY.as_millis() as u64).exec(&mut connection)?;
        Ok(connection)
    }

    fn set(&self, connection: &mut redis::Connection, number: usize) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(format!("flux:peer:{number:036}")).arg("{}").arg("PX").arg(3 * EVERY.as_millis() as u64);
        Ok(set.exec(connection)?)
    }
}
