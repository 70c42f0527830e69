//! Tables: printed as they grow, and written as Markdown with the machine named.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Options;

/// Everything that was measured so far, as Markdown.
pub struct Report {
    text: String,
}

impl Report {
    /// Starts with the machine and the programs.
    pub fn new(options: &Options) -> Result<Report> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let cores = std::thread::available_parallelism()?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib: u64 = memory.split_whitespace().nth(1).context("/proc/meminfo has no total")?.parse()?;
        let mut report = Report { text: String::new() };
        report.line("# Measured against Redis and NATS\n");
        report.line(&format!("Machine: {model}, {cores} cores, {} GiB, Linux {}.", kib >> 20, kernel.trim()));
        report.line(&format!(
            "flux: {}. Peers: {}; {}.",
            version(&options.flux),
            version("redis-server"),
            version("nats-server")
        ));
        report.line("Made by `cargo bench --bench redis`. Servers are measured in turns, one running at a time; numbers are medians of the rounds.");
        report.line(
            "CPU is the server process' own time from /proc, its children's and its background work's during the run counted in.",
        );
        Ok(report)
    }

    /// Begins a section with a table.
    pub fn table(&mut self, title: &str, about: &str, columns: &[&str]) {
        self.line(&format!("\n## {title}\n\n{about}\n"));
        self.line(&format!("| {} |", columns.join(" | ")));
        self.line(&format!("|{}", "---|".repeat(columns.len())));
    }

    /// Adds a row to the table.
    pub fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }

    /// Writes it all.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.text).with_context(|| format!("write {}", path.display()))
    }
}

fn version(command: &str) -> String {
    let program = command.split_whitespace().next().unwrap_or_default();
    let out = Command::new(program).arg("--version").output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_else(|_| program.to_owned())
}

/// A goal for a ratio.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// None was set.
    None,
}

/// A ratio and whether it meets its goal.
pub fn ratio(ours: f64, theirs: f64, goal: Goal) -> String {
    let ratio = ours / theirs;
    match goal {
        Goal::AtMost(most) => format!("{ratio:.2} ({} ≤ {most})", if ratio <= most + 0.004 { "ok" } else { "**not**" }),
        Goal::AtLeast(least) => format!("{ratio:.2} ({} ≥ {least})", if ratio >= least - 0.004 { "ok" } else { "**not**" }),
        Goal::None => format!("{ratio:.2}"),
    }
}

/// The middle one.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
