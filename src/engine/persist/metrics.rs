//! The numbers of the journal and the tables.

use crate::engine::persist::Stats;
use crate::metrics::Row;

/// The rows.
pub(crate) const METRICS: &[Row<Stats>] = &[
    Row::gauge("flux_journal_bytes", "Bytes in the journal that no checkpoint covers.", |stats| stats.journal_bytes as f64),
    Row::counter("flux_journal_commits_total", "Commits of the journal.", |stats| stats.commits as f64),
    Row::counter("flux_journal_commit_seconds_total", "Seconds that commits of the journal took.", |stats| {
        stats.commit_us as f64 / 1e6
    }),
    Row::gauge("flux_journal_unsynced_bytes", "Bytes of the journal that may not be on the disk yet.", |stats| {
        stats.unsynced_bytes as f64
    }),
    Row::counter("flux_journal_slow_syncs_total", "Syncs of the journal that held the next commit up.", |stats| {
        stats.slow_syncs as f64
    }),
    Row::gauge("flux_checkpoints_failed", "Checkpoints that failed since one ended well.", |stats| {
        stats.failed_checkpoints as f64
    }),
    Row::gauge("flux_journal_writable", "1 while changes reach the disk, 0 while they are refused.", |stats| {
        f64::from(u8::from(stats.is_writable))
    }),
    Row::counter("flux_checkpoints_total", "Checkpoints that ended well.", |stats| stats.checkpoints as f64),
    Row::gauge("flux_checkpoint_running", "1 while a checkpoint is made.", |stats| f64::from(u8::from(stats.is_checkpointing))),
    Row::gauge("flux_checkpoint_last_seconds", "Seconds that the last checkpoint took.", |stats| {
        stats.last_checkpoint_ms as f64 / 1e3
    }),
    Row::gauge("flux_checkpoint_last_timestamp_seconds", "When the last checkpoint ended, since the epoch.", |stats| {
        stats.last_checkpoint_at as f64
    }),
    Row::counter("flux_values_dropped_total", "Values dropped from memory because of memory-limit.", |stats| stats.drops as f64),
    Row::counter("flux_memory_limit_delays_total", "Replies to writes held back because of memory-limit.", |stats| {
        stats.waits as f64
    }),
    Row::counter("flux_values_read_back_total", "Values read back from disk.", |stats| stats.loads as f64),
    Row::gauge("flux_journal_files", "Files of the journal.", |stats| stats.journal_files as f64),
    Row::counter("flux_journal_syncs_total", "Syncs of the journal.", |stats| stats.syncs as f64),
    Row::counter(
        "flux_journal_growth_delays_total",
        "Replies to writes held back because the journal grew faster than checkpoints.",
        |stats| stats.pauses as f64,
    ),
    Row::gauges(
        "flux_journal_last_error",
        &["error"],
        "1 with the cause while the journal cannot be written; nothing otherwise.",
        |stats, lines| {
            if let Some(error) = &stats.last_error {
                lines.one(&[error], 1.0);
            }
        },
    ),
];
