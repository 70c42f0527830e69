//! The numbers of the server: clients, memory, keys, commands, workers, and replies that wait.

use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::server::snapshot::{DatabaseCounts, Snapshot, maxmemory};
use crate::commands::stats::{CommandSum, ThreadSum};
use crate::machine;
use crate::metrics::{Histogram, Lines, Row};
use crate::version::{REDIS_VERSION, VERSION};

/// Upper ends of the buckets of commands' times, in microseconds.
const BUCKETS_US: [u64; 12] = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/// What a picture of the server tells.
pub(crate) const OF_SNAPSHOT: &[Row<Snapshot>] = &[
    Row::gauges("flux_info", &["version", "redis_version"], "Always 1; its labels name the versions.", |_, lines| {
        lines.one(&[VERSION, REDIS_VERSION], 1.0);
    }),
    Row::gauge("flux_uptime_seconds", "Seconds since the start.", |now| now.uptime_s as f64),
    Row::gauge("flux_clients", "Clients connected.", |now| now.clients as f64),
    Row::gauge("flux_clients_blocked", "Clients that wait for keys.", |now| now.blocked_clients as f64),
    Row::counter("flux_connections_total", "Connections accepted.", |now| now.connections as f64),
    Row::counter("flux_connections_rejected_total", "Connections refused because of maxclients.", |now| {
        now.rejected_connections as f64
    }),
    Row::counter("flux_commands_processed_total", "Commands run, of all kinds.", |now| now.sums.commands as f64),
    Row::counter("flux_read_bytes_total", "Bytes from clients.", |now| now.sums.bytes_in as f64),
    Row::counter("flux_written_bytes_total", "Bytes to clients.", |now| now.sums.bytes_out as f64),
    Row::gauge("flux_memory_used_bytes", "Bytes allocated.", |now| now.used_bytes as f64),
    Row::gauge("flux_memory_peak_bytes", "The most bytes that were ever allocated.", |now| now.peak_bytes as f64),
    Row::gauge("flux_memory_resident_bytes", "Bytes in physical memory.", |now| now.resident_bytes as f64),
    Row::gauge("flux_memory_client_buffers_bytes", "Bytes in clients' buffers.", |now| now.sums.buffer_bytes as f64),
    Row::counter("flux_cpu_user_seconds_total", "Processor time of the program itself.", |now| now.cpu.0.user),
    Row::counter("flux_cpu_system_seconds_total", "Processor time the system spent for it.", |now| now.cpu.0.system),
    Row::counter("flux_keyspace_hits_total", "Reads that found their key.", |now| now.hits as f64),
    Row::counter("flux_keyspace_misses_total", "Reads that did not find their key.", |now| now.misses as f64),
    Row::counter("flux_keys_expired_total", "Keys removed because their time was over.", |now| now.expired as f64),
    Row::counter("flux_keys_evicted_total", "Keys removed to make room.", |now| now.evicted as f64),
    Row::counter("flux_changes_total", "Changes to keys since the start.", |now| now.changes as f64),
    Row::gauge("flux_changes_unsaved", "Changes since the last save; all of them are in the journal.", |now| {
        now.unsaved_changes as f64
    }),
    Row::gauge("flux_pubsub_channels", "Channels someone listens to.", |now| now.topics[0] as f64),
    Row::gauge("flux_pubsub_patterns", "Patterns someone listens to.", |now| now.topics[1] as f64),
    Row::gauge("flux_pubsub_shard_channels", "Sharded channels someone listens to.", |now| now.topics[2] as f64),
    Row::gauge("flux_clients_blocked_for_a_time", "Clients that wait for keys until some time at most.", |now| {
        now.timed_clients as f64
    }),
    Row::gauge("flux_clients_listening", "Clients that listen to channels.", |now| now.listening_clients as f64),
    Row::gauge("flux_clients_watching", "Clients that watch keys.", |now| now.watching_clients as f64),
    Row::gauge("flux_keys_watched", "Keys that someone watches.", |now| now.watched_keys as f64),
    Row::gauge("flux_keys_awaited", "Keys that someone waits for.", |now| now.awaited_keys as f64),
    Row::gauge(
        "flux_request_longest_bytes",
        "The longest that a client had sent and was not run, of the last 8 seconds.",
        |now| now.sums.input_peak as f64,
    ),
    Row::gauge("flux_reply_longest_bytes", "The longest that waited for a client, of the last 8 seconds.", |now| {
        now.sums.output_peak as f64
    }),
    Row::counter("flux_error_replies_total", "Errors answered, of all codes.", |now| now.errors as f64),
    Row::counter("flux_reads_total", "Times that bytes were read from a client.", |now| now.sums.reads as f64),
    Row::counter("flux_writes_total", "Times that bytes were sent to a client.", |now| now.sums.writes as f64),
    Row::counter("flux_reply_buffers_grown_total", "Times a client's buffer for replies became larger.", |now| {
        now.sums.buffers_grown as f64
    }),
    Row::counter("flux_reply_buffers_shrunk_total", "Times such a buffer was given back.", |now| now.sums.buffers_shrunk as f64),
    Row::counter("flux_worker_wakes_total", "Times that workers woke.", |now| now.sums.wakes as f64),
    Row::counter("flux_worker_seconds_total", "Seconds for which workers had a processor.", |now| now.active_us as f64 / 1e6),
    Row::gauge("flux_memory_committed_bytes", "Bytes the allocator has made usable for itself.", |now| {
        now.committed_bytes as f64
    }),
    Row::gauge("flux_memory_overhead_bytes", "Bytes allocated that are no data.", |now| now.overhead_bytes() as f64),
    Row::counter("flux_memory_exceeded_seconds_total", "Seconds for which memory was above maxmemory.", |now| {
        now.exceeded_ms.0 as f64 / 1e3
    }),
    Row::gauges("flux_keys", &["db"], "Keys of a database.", |now, lines| {
        databases(now, lines, |counts| counts.keys);
    }),
    Row::gauges("flux_keys_expiring", &["db"], "Keys of a database that expire.", |now, lines| {
        databases(now, lines, |counts| counts.expiring);
    }),
    Row::gauges("flux_worker_clients", &["worker"], "Connections that a worker carries.", |now, lines| {
        workers(now, lines, |thread| thread.clients as f64);
    }),
    Row::counters("flux_worker_commands_total", &["worker"], "Commands that a worker has run.", |now, lines| {
        workers(now, lines, |thread| thread.commands as f64);
    }),
    Row::counters(
        "flux_worker_busy_seconds_total",
        &["worker"],
        "Seconds for which a worker had a processor: how much a second it grows is the share for which it is busy.",
        |now, lines| workers(now, lines, |thread| machine::thread_active_us(thread.number) as f64 / 1e6),
    ),
];

/// What is read from the instance itself.
pub(crate) const OF_INSTANCE: &[Row<Instance>] = &[
    Row::gauge("flux_memory_max_bytes", "The setting maxmemory; 0 is no limit.", |instance| maxmemory(instance) as f64),
    Row::counter("flux_clients_cut_by_query_total", "Clients cut because of client-query-buffer-limit.", |instance| {
        instance.stats.cut_queries.load(Relaxed) as f64
    }),
    Row::counter("flux_clients_cut_by_output_total", "Clients cut because of client-output-buffer-limit.", |instance| {
        instance.stats.cut_readers.load(Relaxed) as f64
    }),
    Row::counter("flux_logins_denied_total", "Passwords that were wrong.", |instance| {
        instance.stats.denied_logins.load(Relaxed) as f64
    }),
    Row::gauge("flux_objects_to_free", "Large values and databases that are gone and not freed yet.", |instance| {
        instance.engine.freeing().pending.load(Relaxed) as f64
    }),
    Row::counter("flux_objects_freed_total", "Those that were freed.", |instance| {
        instance.engine.freeing().freed.load(Relaxed) as f64
    }),
    Row::counter("flux_fields_expired_total", "Fields of hashes removed because their time was over.", |instance| {
        instance.stats.sweeps.fields.load(Relaxed) as f64
    }),
    Row::counter("flux_expiry_seconds_total", "Seconds that removing what is over took.", |instance| {
        instance.stats.sweeps.us.load(Relaxed) as f64 / 1e6
    }),
    Row::counter(
        "flux_expiry_capped_total",
        "Rounds of that which took so long that the rest was left to the next.",
        |instance| instance.stats.sweeps.capped.load(Relaxed) as f64,
    ),
    Row::counter("flux_slow_commands_total", "Commands that went into the slow log.", |instance| {
        instance.slowlog.totals().count as f64
    }),
    Row::counter("flux_slow_commands_seconds_total", "Seconds that these took.", |instance| {
        instance.slowlog.totals().us as f64 / 1e6
    }),
    Row::gauge("flux_slowlog_entries", "Commands in the slow log.", |instance| instance.slowlog.len() as f64),
    Row::gauge("flux_replies_waiting", "Replies of workers and of HTTP that wait for the journal.", |instance| {
        instance.stats.replies_waiting().0 as f64
    }),
    Row::gauge(
        "flux_replies_waiting_oldest_seconds",
        "Seconds since the first of these came, or since a commit that was not yet enough for it.",
        |instance| {
            instance.stats.replies_waiting().1.map_or(0.0, |since| clock::monotonic_ms().saturating_sub(since) as f64 / 1e3)
        },
    ),
    Row::counters("flux_errors_total", &["code"], "Error replies by their code.", |instance, lines| {
        instance.stats.errors.lock().iter().for_each(|(code, count)| lines.one(&[code], *count as f64));
    }),
    Row::counters(
        "flux_commands_failed_total",
        &["command"],
        "Runs of a command that answered with an error.",
        |instance, lines| {
            commands(instance, lines, |sum| sum.failed);
        },
    ),
    Row::counters(
        "flux_commands_refused_total",
        &["command"],
        "Calls of a command that were refused before it ran.",
        |instance, lines| commands(instance, lines, |sum| sum.rejected),
    ),
    Row::histograms("flux_command_seconds", &["command"], "How long a command runs.", times),
];

/// The databases that hold something, and the first.
fn databases(now: &Snapshot, lines: &mut Lines<'_>, count: fn(&DatabaseCounts) -> usize) {
    let shown = now.databases.iter().enumerate().filter(|(db, counts)| *db == 0 || counts.keys > 0);
    shown.for_each(|(db, counts)| lines.one(&[&db.to_string()], count(counts) as f64));
}

/// The workers by their places.
fn workers(now: &Snapshot, lines: &mut Lines<'_>, read: impl Fn(&ThreadSum) -> f64) {
    now.sums.threads.iter().enumerate().for_each(|(at, thread)| lines.one(&[&at.to_string()], read(thread)));
}

fn commands(instance: &Instance, lines: &mut Lines<'_>, read: fn(&CommandSum) -> u64) {
    let sums = (0..instance.table.count()).map(|number| (number, read(&instance.stats.command(number))));
    sums.filter(|(_, count)| *count > 0).for_each(|(number, count)| lines.one(&[instance.table.full_name(number)], count as f64));
}

fn times(instance: &Instance, lines: &mut Lines<'_>) {
    let is_tracking = instance.stats.is_tracking.load(Relaxed);
    for number in 0..instance.table.count() {
        let sum = instance.stats.command(number);
        if sum.calls == 0 {
            continue;
        }
        let times = instance.stats.times(number).filter(|_| is_tracking);
        let bucket = |times: &Histogram, us: u64| (us as f64 / 1e6, times.count_up_to(us * 1000));
        let buckets: Vec<_> = times.iter().flat_map(|times| BUCKETS_US.map(|us| bucket(times, us))).collect();
        lines.times(&[instance.table.full_name(number)], &buckets, sum.nanoseconds as f64 / 1e9, sum.calls);
    }
}
