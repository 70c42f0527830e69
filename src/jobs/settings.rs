//! The settings of jobs: their rows, and what they are at the moment.

use std::sync::Arc;

use crate::config::setting::{bytes, number, switch};
use crate::config::{Config, Current, Section, Setting};

/// Whether jobs run as processes of this machine.
pub(crate) const PROCESS: Setting = switch("jobs-process", "no")
    .at_start_because("whoever may set it could run programs on this machine: write it to the configuration and restart")
    .help(
        "Whether jobs run as processes of this machine, with all that its user may do: for machines whose owner writes all jobs.",
    );
/// How many jobs run at once.
pub(crate) const SLOTS: Setting = number("jobs-slots", "4", 1, 10_000).at_start().help("How many jobs run here at once.");
/// How large a submitted job may be.
pub(crate) const SUBMIT_LIMIT: Setting = bytes("jobs-submit-limit", "4mb", 1024, 64 << 20)
    .help("Largest body with which a job is submitted: its script, payload and all.");

/// How long jobs that ended are kept.
pub(crate) const KEEP_DAYS: Setting = number("jobs-keep-days", "7", 1, 36_500)
    .help("Days for which a job that ended is kept with what it wrote; then it is forgotten.");

/// The rows.
pub(crate) const SETTINGS: &[Section] = &[Section { title: "Jobs", settings: &[PROCESS, SLOTS, KEEP_DAYS, SUBMIT_LIMIT] }];

/// Their values.
pub(crate) struct Settings {
    pub process: Current,
    pub slots: Current,
    pub keep_days: Current,
}

impl Settings {
    /// As they are in a config.
    pub(crate) fn of(config: &Arc<Config>) -> Settings {
        Settings {
            process: Current::of(config, &PROCESS),
            slots: Current::of(config, &SLOTS),
            keep_days: Current::of(config, &KEEP_DAYS),
        }
    }
}
