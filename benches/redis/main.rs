//! Measures flux against `redis-server` and `nats-server` on this machine: `cargo bench --bench redis -- --quick`, or without `--quick` for
//! everything, which takes about an hour and writes benches/RESULTS.md.
//!
//! Servers are started here, one set for each section, and only the one being measured runs: the others are stopped by
//! signal meanwhile. Every number is the median of interleaved rounds, beside its ratio to each peer.

#![allow(clippy::disallowed_methods, reason = "what measures is another program than what is measured")]

mod calls;
mod data;
mod driver;
mod eviction;
mod growth;
mod peers;
mod report;
mod scripts;
mod sections;
mod server;
mod waiting;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use report::Report;

/// What to measure.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo bench --bench redis --")]
pub struct Options {
    /// A minute or two: throughput and CPU of six commands at -P 64, of two at -P 1, three rounds. Writes nothing.
    #[arg(long)]
    quick: bool,
    /// Sections to run: commands, latency, always, memory, load, checkpoint, growth, larger, eviction, calls, fanout, crashes, heartbeats, waiting, scripts. All of them where none is named.
    #[arg(value_name = "SECTION")]
    sections: Vec<String>,
    /// Tests of redis-benchmark.
    #[arg(long, value_delimiter = ',')]
    tests: Vec<String>,
    /// Requests in a pipeline.
    #[arg(long, value_delimiter = ',')]
    pipelines: Vec<usize>,
    /// Rounds, interleaved.
    #[arg(long)]
    rounds: Option<usize>,
    /// Requests of one run, in thousands at -P 64; fewer are sent through shorter pipelines.
    #[arg(long, default_value_t = 1500)]
    thousands: usize,
    /// Keys in the large sections, in percent of the full size.
    #[arg(long, default_value_t = 100)]
    percent: usize,
    /// The flux to measure: a program, or a command with {dir} and {port} in it.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_flux"))]
    flux: String,
    /// More arguments for flux.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flux_args: String,
    /// A folder with a system of its own in which there is a newer `valkey-server`, to be measured as well where sections say so.
    #[arg(long)]
    valkey: Option<PathBuf>,
    /// Where the servers keep their data; a folder in it is made and removed.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Writes the tables there. A full run writes benches/RESULTS.md.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, section: &str) -> bool {
        if self.sections.is_empty() {
            !self.quick || section == "commands"
        } else {
            self.sections.iter().any(|name| name == section)
        }
    }

    fn rounds(&self, full: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { full })
    }

    fn scaled(&self, count: usize) -> usize {
        (count * self.percent / 100).max(1000)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::new(&options)?;
    for (name, run) in sections::ALL {
        if options.wants(name) {
            run(&options, &mut report)?;
        }
    }
    let path =
        options.write.clone().or_else(|| (options.sections.is_empty() && !options.quick).then(|| "benches/RESULTS.md".into()));
    if let Some(path) = path {
        report.write(&path)?;
    }
    Ok(())
}
