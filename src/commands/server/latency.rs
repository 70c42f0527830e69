//! `LATENCY`: what took long, as the latency monitor noted it, and how long commands take.

use std::fmt::Write;

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::commands::table::Table;
use crate::config::Name;
use crate::engine::error::Error;
use crate::metrics::{EventHistory, Sample};
use crate::resp::{Args, Reply};

/// Columns of a graph.
const GRAPH_COLUMNS: usize = 80;
/// Rows of a graph.
const GRAPH_ROWS: u64 = 4;

/// `LATENCY LATEST`
pub(crate) fn latest(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let events = session.instance.latency.events();
    reply.array(events.len());
    for (name, history) in events {
        let last = history.samples.back().copied().unwrap_or(Sample { at: 0, ms: 0 });
        reply.array(4);
        reply.bulk(name.as_bytes());
        reply.int(last.at as i64);
        reply.int(last.ms as i64);
        reply.int(history.max_ms as i64);
    }
    Ok(())
}

/// `LATENCY HISTORY`
pub(crate) fn history(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let history = event(session, args).unwrap_or_default();
    reply.array(history.samples.len());
    for sample in history.samples {
        reply.array(2);
        reply.int(sample.at as i64);
        reply.int(sample.ms as i64);
    }
    Ok(())
}

fn event(session: &Session, args: Args<'_>) -> Option<EventHistory> {
    std::str::from_utf8(args.at(2)).ok().and_then(|name| session.instance.latency.event(name))
}

/// `LATENCY RESET`
pub(crate) fn reset(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let names: Vec<&str> = args.from(2).iter().map(|name| std::str::from_utf8(name).unwrap_or_default()).collect();
    reply.count(session.instance.latency.reset(&names));
    Ok(())
}

/// `LATENCY GRAPH`
pub(crate) fn graph(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(history) = event(session, args) else {
        let name = String::from_utf8_lossy(args.at(2)).into_owned();
        return Err(Error::new(format!("ERR No samples available for event '{name}'")));
    };
    let name = String::from_utf8_lossy(args.at(2)).into_owned();
    reply.verbatim("txt", &drawn(&name, &history, session.now() / 1000));
    Ok(())
}

fn drawn(name: &str, history: &EventHistory, now: u64) -> String {
    let skipped = history.samples.len().saturating_sub(GRAPH_COLUMNS);
    let samples: Vec<Sample> = history.samples.iter().skip(skipped).copied().collect();
    let high = samples.iter().map(|sample| sample.ms).max().unwrap_or(0);
    let low = samples.iter().map(|sample| sample.ms).min().unwrap_or(0);
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", history.max_ms);
    text.push_str(&"-".repeat(GRAPH_COLUMNS));
    text.push('\n');
    for row in (0..GRAPH_ROWS).rev() {
        // A column is as many rows high as its share of the highest one, and at least one.
        let reaches = |sample: &Sample| sample.ms * GRAPH_ROWS > row * high.max(1) || row == 0;
        text.extend(samples.iter().map(|sample| if reaches(sample) { '#' } else { ' ' }));
        text.push('\n');
    }
    text.push('\n');
    let ages: Vec<String> = samples.iter().map(|sample| age(now.saturating_sub(sample.at))).collect();
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.chars().nth(line).unwrap_or(' ')));
        text.push('\n');
    }
    text
}

/// An age in three letters or so, to be read from top to bottom below its column.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// `LATENCY DOCTOR`
pub(crate) fn doctor(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let threshold_ms = session.instance.config.count(Name::LatencyMonitorThreshold);
    let events = session.instance.latency.events();
    let mut text = String::new();
    if threshold_ms == 0 {
        text.push_str(
            "The latency monitor is off. `CONFIG SET latency-monitor-threshold 100` notes all that takes 100 ms or longer.\n",
        );
    } else if events.is_empty() {
        let _ = writeln!(text, "Nothing has taken {threshold_ms} ms or longer since the last LATENCY RESET.");
    }
    for (name, history) in events {
        let count = history.samples.len().max(1) as u64;
        let mean = history.samples.iter().map(|sample| sample.ms).sum::<u64>() / count;
        let _ = writeln!(
            text,
            "{name}: {count} slow seconds, {mean} ms on average, {} ms at worst. {}",
            history.max_ms,
            advice(name)
        );
    }
    reply.verbatim("txt", &text);
    Ok(())
}

fn advice(event: &str) -> &'static str {
    match event {
        "command" => {
            "SLOWLOG GET names the commands; those that walk whole collections or all keys take as long as these are large."
        }
        "fast-command" => {
            "Fast commands wait for slow ones on the same keys and for a busy machine: look at SLOWLOG GET and at the system's load."
        }
        "expire-cycle" => "Very many keys expire at the same moment: spread their times a little.",
        _ => "",
    }
}

/// `LATENCY HISTOGRAM`
pub(crate) fn histogram(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let table = &session.instance.table;
    let numbers: Vec<usize> = if args.len() == 2 {
        (0..table.count()).collect()
    } else {
        args.from(2).iter().flat_map(|name| numbers_of(table, name)).collect()
    };
    let shown: Vec<_> = numbers.into_iter().filter_map(|number| Some((number, session.instance.stats.times(number)?))).collect();
    reply.map(shown.len());
    for (number, times) in shown {
        reply.bulk(table.full_name(number).as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(times.count() as i64);
        reply.bulk(b"histogram_usec");
        let doublings = times.doublings();
        reply.map(doublings.len());
        for (us, count) in doublings {
            reply.int(us as i64);
            reply.int(count as i64);
        }
    }
    Ok(())
}

/// The numbers a name stands for: of a command with its subcommands, or of one subcommand.
fn numbers_of(table: &Table, name: &[u8]) -> Vec<usize> {
    let name = String::from_utf8_lossy(name).to_lowercase();
    let parent = name.split('|').next().unwrap_or_default();
    let Some((first, command)) = table.find(parent.as_bytes()) else { return Vec::new() };
    let first = usize::from(first);
    let all = first..first + 1 + command.subcommands.len();
    if name == parent { all.collect() } else { all.filter(|number| table.full_name(*number) == name).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_column_for_each_sample() {
        let history = EventHistory { samples: [Sample { at: 90, ms: 100 }, Sample { at: 95, ms: 25 }].into(), max_ms: 200 };
        let text = drawn("command", &history, 100);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 100 ms, low 25 ms (all time high 200 ms)");
        assert_eq!(lines[2..6], ["# ", "# ", "# ", "##"]);
        assert_eq!(lines[7..10], ["15", "0s", "s "]);
    }
}
