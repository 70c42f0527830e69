//! `/metrics`: one row for each number without labels, those of rooms, then commands, errors and databases with theirs.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::Door;
use crate::commands::instance::Instance;
use crate::commands::server::snapshot::{Snapshot, maxmemory};
use crate::metrics::Kind;
use crate::version::{REDIS_VERSION, VERSION};

/// A number: its name, what it does, what exactly it counts, and where it is read.
type Row = (&'static str, Kind, &'static str, fn(&Instance, &Snapshot) -> f64);

const ROWS: &[Row] = &[
    ("flux_uptime_seconds", Kind::Gauge, "Seconds since the start.", |_, now| now.uptime_s as f64),
    ("flux_clients", Kind::Gauge, "Clients connected.", |_, now| now.clients as f64),
    ("flux_clients_blocked", Kind::Gauge, "Clients that wait for keys.", |_, now| now.blocked_clients as f64),
    ("flux_connections_total", Kind::Counter, "Connections accepted.", |_, now| now.connections as f64),
    ("flux_connections_rejected_total", Kind::Counter, "Connections refused because of maxclients.", |_, now| {
        now.rejected_connections as f64
    }),
    ("flux_commands_processed_total", Kind::Counter, "Commands run, of all kinds.", |_, now| now.sums.commands as f64),
    ("flux_read_bytes_total", Kind::Counter, "Bytes from clients.", |_, now| now.sums.bytes_in as f64),
    ("flux_written_bytes_total", Kind::Counter, "Bytes to clients.", |_, now| now.sums.bytes_out as f64),
    ("flux_memory_used_bytes", Kind::Gauge, "Bytes allocated.", |_, now| now.used_bytes as f64),
    ("flux_memory_peak_bytes", Kind::Gauge, "The most bytes that were ever allocated.", |_, now| now.peak_bytes as f64),
    ("flux_memory_resident_bytes", Kind::Gauge, "Bytes in physical memory.", |_, now| now.resident_bytes as f64),
    ("flux_memory_max_bytes", Kind::Gauge, "The setting maxmemory; 0 is no limit.", |instance, _| maxmemory(instance) as f64),
    ("flux_memory_client_buffers_bytes", Kind::Gauge, "Bytes in clients' buffers.", |_, now| now.sums.buffer_bytes as f64),
    ("flux_cpu_user_seconds_total", Kind::Counter, "Processor time of the program itself.", |_, now| now.cpu.0.user),
    ("flux_cpu_system_seconds_total", Kind::Counter, "Processor time the system spent for it.", |_, now| now.cpu.0.system),
    ("flux_keyspace_hits_total", Kind::Counter, "Reads that found their key.", |_, now| now.hits as f64),
    ("flux_keyspace_misses_total", Kind::Counter, "Reads that did not find their key.", |_, now| now.misses as f64),
    ("flux_keys_expired_total", Kind::Counter, "Keys removed because their time was over.", |_, now| now.expired as f64),
    ("flux_keys_evicted_total", Kind::Counter, "Keys removed to make room.", |_, now| now.evicted as f64),
    ("flux_changes_total", Kind::Counter, "Changes to keys since the start.", |_, now| now.changes as f64),
    ("flux_changes_unsaved", Kind::Gauge, "Changes since the last save; all of them are in the journal.", |_, now| {
        now.unsaved_changes as f64
    }),
    ("flux_pubsub_channels", Kind::Gauge, "Channels someone listens to.", |_, now| now.topics[0] as f64),
    ("flux_pubsub_patterns", Kind::Gauge, "Patterns someone listens to.", |_, now| now.topics[1] as f64),
    ("flux_pubsub_shard_channels", Kind::Gauge, "Sharded channels someone listens to.", |_, now| now.topics[2] as f64),
    ("flux_clients_blocked_for_a_time", Kind::Gauge, "Clients that wait for keys until some time at most.", |_, now| {
        now.timed_clients as f64
    }),
    ("flux_clients_listening", Kind::Gauge, "Clients that listen to channels.", |_, now| now.listening_clients as f64),
    ("flux_clients_watching", Kind::Gauge, "Clients that watch keys.", |_, now| now.watching_clients as f64),
    ("flux_keys_watched", Kind::Gauge, "Keys that someone watches.", |_, now| now.watched_keys as f64),
    ("flux_keys_awaited", Kind::Gauge, "Keys that someone waits for.", |_, now| now.awaited_keys as f64),
    (
        "flux_request_longest_bytes",
        Kind::Gauge,
        "The longest that a client had sent and was not run, of the last 8 seconds.",
        |_, now| now.sums.input_peak as f64,
    ),
    ("flux_reply_longest_bytes", Kind::Gauge, "The longest that waited for a client, of the last 8 seconds.", |_, now| {
        now.sums.output_peak as f64
    }),
    ("flux_clients_cut_by_query_total", Kind::Counter, "Clients cut because of client-query-buffer-limit.", |instance, _| {
        instance.stats.cut_queries.load(Relaxed) as f64
    }),
    ("flux_clients_cut_by_output_total", Kind::Counter, "Clients cut because of client-output-buffer-limit.", |instance, _| {
        instance.stats.cut_readers.load(Relaxed) as f64
    }),
    ("flux_logins_denied_total", Kind::Counter, "Passwords that were wrong.", |instance, _| {
        instance.stats.denied_logins.load(Relaxed) as f64
    }),
    ("flux_error_replies_total", Kind::Counter, "Errors answered, of all codes.", |_, now| now.errors as f64),
    ("flux_reads_total", Kind::Counter, "Times that bytes were read from a client.", |_, now| now.sums.reads as f64),
    ("flux_writes_total", Kind::Counter, "Times that bytes were sent to a client.", |_, now| now.sums.writes as f64),
    ("flux_reply_buffers_grown_total", Kind::Counter, "Times a client's buffer for replies became larger.", |_, now| {
        now.sums.buffers_grown as f64
    }),
    ("flux_reply_buffers_shrunk_total", Kind::Counter, "Times such a buffer was given back.", |_, now| {
        now.sums.buffers_shrunk as f64
    }),
    ("flux_worker_wakes_total", Kind::Counter, "Times that workers woke.", |_, now| now.sums.wakes as f64),
    ("flux_worker_seconds_total", Kind::Counter, "Seconds for which workers had a processor.", |_, now| {
        now.active_us as f64 / 1e6
    }),
    ("flux_memory_committed_bytes", Kind::Gauge, "Bytes the allocator has made usable for itself.", |_, now| {
        now.committed_bytes as f64
    }),
    ("flux_memory_overhead_bytes", Kind::Gauge, "Bytes allocated that are no data.", |instance, now| {
        now.overhead_bytes(instance) as f64
    }),
    ("flux_memory_exceeded_seconds_total", Kind::Counter, "Seconds for which memory was above maxmemory.", |_, now| {
        now.exceeded_ms.0 as f64 / 1e3
    }),
    ("flux_objects_to_free", Kind::Gauge, "Large values and databases that are gone and not freed yet.", |instance, _| {
        instance.engine.freeing().pending.load(Relaxed) as f64
    }),
    ("flux_objects_freed_total", Kind::Counter, "Those that were freed.", |instance, _| {
        instance.engine.freeing().freed.load(Relaxed) as f64
    }),
    ("flux_fields_expired_total", Kind::Counter, "Fields of hashes removed because their time was over.", |instance, _| {
        instance.stats.sweeps.fields.load(Relaxed) as f64
    }),
    ("flux_expiry_seconds_total", Kind::Counter, "Seconds that removing what is over took.", |instance, _| {
        instance.stats.sweeps.us.load(Relaxed) as f64 / 1e6
    }),
    (
        "flux_expiry_capped_total",
        Kind::Counter,
        "Rounds of that which took so long that the rest was left to the next.",
        |instance, _| instance.stats.sweeps.capped.load(Relaxed) as f64,
    ),
    ("flux_slow_commands_total", Kind::Counter, "Commands that went into the slow log.", |instance, _| {
        instance.slowlog.totals().count as f64
    }),
    ("flux_slow_commands_seconds_total", Kind::Counter, "Seconds that these took.", |instance, _| {
        instance.slowlog.totals().us as f64 / 1e6
    }),
    ("flux_slowlog_entries", Kind::Gauge, "Commands in the slow log.", |instance, _| instance.slowlog.len() as f64),
    ("flux_journal_bytes", Kind::Gauge, "Bytes in the journal that no checkpoint covers.", |_, now| {
        persist(now).journal_bytes as f64
    }),
    ("flux_journal_commits_total", Kind::Counter, "Commits of the journal.", |_, now| persist(now).commits as f64),
    ("flux_journal_commit_seconds_total", Kind::Counter, "Seconds that commits of the journal took.", |_, now| {
        persist(now).commit_us as f64 / 1e6
    }),
    ("flux_journal_unsynced_bytes", Kind::Gauge, "Bytes of the journal that may not be on the disk yet.", |_, now| {
        persist(now).unsynced_bytes as f64
    }),
    ("flux_journal_slow_syncs_total", Kind::Counter, "Syncs of the journal that held the next commit up.", |_, now| {
        persist(now).slow_syncs as f64
    }),
    ("flux_checkpoints_failed", Kind::Gauge, "Checkpoints that failed since one ended well.", |_, now| {
        persist(now).failed_checkpoints as f64
    }),
    ("flux_journal_writable", Kind::Gauge, "1 while changes reach the disk, 0 while they are refused.", |_, now| {
        f64::from(u8::from(now.persist.as_ref().is_none_or(|persist| persist.is_writable)))
    }),
    ("flux_checkpoints_total", Kind::Counter, "Checkpoints that ended well.", |_, now| persist(now).checkpoints as f64),
    ("flux_checkpoint_running", Kind::Gauge, "1 while a checkpoint is made.", |_, now| {
        f64::from(u8::from(persist(now).is_checkpointing))
    }),
    ("flux_checkpoint_last_seconds", Kind::Gauge, "Seconds that the last checkpoint took.", |_, now| {
        persist(now).last_checkpoint_ms as f64 / 1e3
    }),
    ("flux_checkpoint_last_timestamp_seconds", Kind::Gauge, "When the last checkpoint ended, since the epoch.", |_, now| {
        persist(now).last_checkpoint_at as f64
    }),
    ("flux_values_dropped_total", Kind::Counter, "Values dropped from memory because of memory-limit.", |_, now| {
        persist(now).drops as f64
    }),
    ("flux_memory_limit_delays_total", Kind::Counter, "Replies to writes held back because of memory-limit.", |_, now| {
        persist(now).waits as f64
    }),
    ("flux_values_read_back_total", Kind::Counter, "Values read back from disk.", |_, now| persist(now).loads as f64),
];

fn persist(snapshot: &Snapshot) -> crate::engine::persist::Stats {
    snapshot.persist.clone().unwrap_or_default()
}

/// Upper ends of the buckets of commands' times, in microseconds.
const BUCKETS_US: [u64; 12] = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/// All metrics, with those of a door.
pub(super) fn of_door(door: &Door, now: u64) -> String {
    text(&door.instance, now)
}

/// All metrics in the text format of Prometheus.
pub fn text(instance: &Instance, now: u64) -> String {
    let snapshot = Snapshot::take(instance, now);
    let mut text = String::new();
    head(&mut text, "flux_info", Kind::Gauge, "Always 1; its labels name the versions.");
    line(&mut text, "flux_info", &[("version", VERSION), ("redis_version", REDIS_VERSION)], 1.0);
    for (name, kind, help, read) in ROWS {
        head(&mut text, name, *kind, help);
        line(&mut text, name, &[], read(instance, &snapshot));
    }
    for metric in instance.metrics() {
        head(&mut text, metric.name, metric.kind, metric.help);
        line(&mut text, metric.name, &[], (metric.read)(instance));
    }
    databases(&mut text, &snapshot);
    errors(&mut text, instance);
    commands(&mut text, instance);
    text
}

fn head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    text.push_str(name);
    for (at, (label, value)) in labels.iter().enumerate() {
        let _ = write!(text, "{}{label}=\"{}\"", if at == 0 { "{" } else { "," }, escaped(value));
    }
    let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

/// Error codes come from scripts and clients and may hold anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn databases(text: &mut String, snapshot: &Snapshot) {
    let shown: Vec<_> = snapshot.databases.iter().enumerate().filter(|(db, counts)| *db == 0 || counts.keys > 0).collect();
    head(text, "flux_keys", Kind::Gauge, "Keys of a database.");
    for (db, counts) in &shown {
        line(text, "flux_keys", &[("db", &db.to_string())], counts.keys as f64);
    }
    head(text, "flux_keys_expiring", Kind::Gauge, "Keys of a database that expire.");
    for (db, counts) in &shown {
        line(text, "flux_keys_expiring", &[("db", &db.to_string())], counts.expiring as f64);
    }
}

fn errors(text: &mut String, instance: &Instance) {
    head(text, "flux_errors_total", Kind::Counter, "Error replies by their code.");
    for (code, count) in instance.stats.errors.lock().iter() {
        line(text, "flux_errors_total", &[("code", code)], *count as f64);
    }
}

fn commands(text: &mut String, instance: &Instance) {
    let sums: Vec<_> = (0..instance.table.count()).map(|number| (number, instance.stats.command(number))).collect();
    for (name, help, read) in [
        ("flux_commands_failed_total", "Runs of a command that answered with an error.", 0),
        ("flux_commands_refused_total", "Calls of a command that were refused before it ran.", 1),
    ] {
        head(text, name, Kind::Counter, help);
        for (number, sum) in &sums {
            let count = if read == 0 { sum.failed } else { sum.rejected };
            if count > 0 {
                line(text, name, &[("command", instance.table.full_name(*number))], count as f64);
            }
        }
    }
    let is_tracking = instance.stats.is_tracking.load(Relaxed);
    let name = "flux_command_seconds";
    let _ = write!(text, "# HELP {name} How long a command runs.\n# TYPE {name} histogram\n");
    for (number, sum) in sums.into_iter().filter(|(_, sum)| sum.calls > 0) {
        let command = instance.table.full_name(number);
        if let Some(times) = instance.stats.times(number).filter(|_| is_tracking) {
            for us in BUCKETS_US {
                let end = format!("{}", us as f64 / 1e6);
                line(
                    text,
                    "flux_command_seconds_bucket",
                    &[("command", command), ("le", &end)],
                    times.count_up_to(us * 1000) as f64,
                );
            }
            line(text, "flux_command_seconds_bucket", &[("command", command), ("le", "+Inf")], times.count() as f64);
        }
        line(text, "flux_command_seconds_sum", &[("command", command)], sum.nanoseconds as f64 / 1e9);
        line(text, "flux_command_seconds_count", &[("command", command)], sum.calls as f64);
    }
}
