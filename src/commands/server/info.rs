//! `INFO`: what tools and people ask a server about itself, under the names Redis gives it. Fields about parts that flux
//! does not have say what Redis says when such a part is off.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock;
use crate::commands::Outcome;
use crate::commands::instance::{Instance, UnderWay};
use crate::commands::server::snapshot::{self, Snapshot};
use crate::commands::session::Session;
use crate::commands::shards::Shards;
use crate::config::{self, Name};
use crate::engine::persist::{self, Persistence};
use crate::machine;
use crate::memory;
use crate::resp::reply::double_text;
use crate::resp::{Args, Reply};
use crate::version::VERSION;

/// A section: its name, whether it is shown to those who name none, and what writes it.
struct Section {
    name: &'static str,
    title: &'static str,
    is_default: bool,
    write: fn(&mut Fields, &Instance, &Snapshot),
}

/// In the order they are shown.
const SECTIONS: &[Section] = &[
    Section { name: "server", title: "Server", is_default: true, write: server },
    Section { name: "clients", title: "Clients", is_default: true, write: clients },
    Section { name: "memory", title: "Memory", is_default: true, write: memory },
    Section { name: "persistence", title: "Persistence", is_default: true, write: persistence },
    Section { name: "threads", title: "Threads", is_default: true, write: threads },
    Section { name: "lifecycle", title: "Lifecycle", is_default: true, write: lifecycle },
    Section { name: "stats", title: "Stats", is_default: true, write: stats },
    Section { name: "replication", title: "Replication", is_default: true, write: replication },
    Section { name: "cpu", title: "CPU", is_default: true, write: cpu },
    Section { name: "modules", title: "Modules", is_default: true, write: |_, _, _| {} },
    Section { name: "commandstats", title: "Commandstats", is_default: false, write: commandstats },
    Section { name: "errorstats", title: "Errorstats", is_default: true, write: errorstats },
    Section { name: "latencystats", title: "Latencystats", is_default: false, write: latencystats },
    Section { name: "cluster", title: "Cluster", is_default: true, write: |fields, _, _| fields.add("cluster_enabled", 0) },
    Section { name: "keyspace", title: "Keyspace", is_default: true, write: keyspace },
];

/// `INFO`
pub(crate) fn info(session: &mut Session, shards: &mut Shards<'_, '_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.tick();
    let names: Vec<String> = args.from(1).iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    reply.verbatim("txt", &text(&session.instance, shards, &names, session.now()));
    Ok(())
}

/// The sections of these names, or those that are shown when none is named. Rooms have theirs where Redis has those of modules.
pub(crate) fn text(instance: &Instance, shards: &mut Shards<'_, '_>, names: &[String], now: u64) -> String {
    let is = |wanted: &str| names.iter().any(|name| name == wanted);
    let all = is("all") || is("everything");
    let default = names.is_empty() || is("default");
    let snapshot = Snapshot::take_of(instance, shards, now);
    let mut fields = Fields::default();
    for section in SECTIONS {
        if all || default && section.is_default || is(section.name) {
            fields.begin(section.title);
            (section.write)(&mut fields, instance, &snapshot);
        }
    }
    for room in instance.listed().iter().filter(|room| !room.metrics.is_empty()) {
        if is("everything") || is("modules") || is(room.name) {
            fields.begin(&titled(room.name));
            let numbers = room.metrics.iter().filter_map(|metric| Some((metric.name, metric.number(instance)?)));
            numbers.for_each(|(name, number)| fields.add(name, number));
        }
    }
    fields.text
}

/// A name with its first letter large.
fn titled(name: &str) -> String {
    let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
    first.to_uppercase() + rest
}

#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn begin(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\r\n" };
        let _ = write!(self.text, "{gap}# {title}\r\n");
    }

    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    fn add_all(&mut self, fields: &[(&str, &str)]) {
        fields.iter().for_each(|(name, value)| self.add(name, value));
    }

    /// Bytes, and again for people.
    fn add_bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

/// Bytes as Redis writes them for people: `12.34M`.
pub(crate) fn human(bytes: u64) -> String {
    let units = [(1u64 << 50, "P"), (1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64)
}

fn ratio(part: u64, whole: u64) -> String {
    format!("{:.2}", part as f64 / whole.max(1) as f64)
}

/// A setting as `CONFIG GET` shows it.
fn setting(instance: &Instance, name: &str) -> String {
    let config = &instance.config;
    config.settings().find(name).map_or_else(String::new, |setting| config.show(setting).0.to_string())
}

fn server(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let config = &instance.config;
    fields.add("redis_version", config.text(Name::ClaimedVersion));
    fields.add("flux_version", VERSION);
    // Which build this is, `flux_version` tells.
    fields.add_all(&[("redis_git_sha1", "00000000"), ("redis_git_dirty", "0"), ("redis_build_id", "0")]);
    fields.add("redis_mode", "standalone");
    fields.add("os", machine::system_name());
    fields.add("arch_bits", usize::BITS);
    fields.add_all(&[
        ("monotonic_clock", "POSIX clock_gettime"),
        ("multiplexing_api", "epoll"),
        ("atomicvar_api", "c11-builtin"),
        ("gcc_version", "0.0.0"),
    ]);
    fields.add("process_id", std::process::id());
    // Nobody is told of the start; see the setting `supervised`.
    fields.add("process_supervised", "no");
    fields.add("run_id", &instance.run_id);
    fields.add("tcp_port", config.number(Name::Port).max(0));
    fields.add("server_time_usec", clock::now_ns() / 1000);
    fields.add("uptime_in_seconds", snapshot.uptime_s);
    fields.add("uptime_in_days", snapshot.uptime_s / 86400);
    let hz = setting(instance, "hz");
    fields.add("hz", &hz);
    fields.add("configured_hz", &hz);
    fields.add("lru_clock", (snapshot.now / 1000) & 0xff_ffff);
    fields.add("executable", machine::program_path());
    let file = config.file().filter(|file| file.exists());
    fields.add("config_file", file.map_or(String::new(), |file| file.display().to_string()));
    // Every worker reads and writes for itself; the first is what Redis calls the main thread.
    fields.add("io_threads_active", u8::from(snapshot.sums.threads.len() > 1));
    listeners(fields, instance);
}

fn listeners(fields: &mut Fields, instance: &Instance) {
    let Some(listeners) = instance.listeners.get() else { return };
    let tcp = listeners.addresses.first().map(|first| {
        let bound: String = listeners.addresses.iter().map(|address| format!("bind={},", address.ip())).collect();
        format!("name=tcp,{bound}port={}", first.port())
    });
    let unix = listeners.unix_socket.as_ref().map(|path| format!("name=unix,bind={}", path.display()));
    for (number, listener) in tcp.into_iter().chain(unix).enumerate() {
        fields.add(&format!("listener{number}"), listener);
    }
}

fn clients(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    fields.add("connected_clients", snapshot.clients);
    // There is no cluster.
    fields.add("cluster_connections", 0);
    fields.add("maxclients", instance.config.count(Name::Maxclients));
    fields.add("client_recent_max_input_buffer", snapshot.sums.input_peak);
    fields.add("client_recent_max_output_buffer", snapshot.sums.output_peak);
    fields.add("blocked_clients", snapshot.blocked_clients);
    let tracking = instance.engine.tracking();
    fields.add("tracking_clients", tracking.client_count());
    fields.add("pubsub_clients", snapshot.listening_clients);
    fields.add("watching_clients", snapshot.watching_clients);
    fields.add("clients_in_timeout_table", snapshot.timed_clients);
    fields.add("total_watched_keys", snapshot.watched_keys);
    fields.add("total_blocking_keys", snapshot.awaited_keys);
    fields.add("total_blocking_keys_on_nokey", snapshot.awaited_keys_to_end);
}

fn memory(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let (used, peak) = (snapshot.used_bytes, snapshot.peak_bytes);
    let overhead = snapshot.overhead_bytes();
    let dataset = used - overhead;
    fields.add_bytes("used_memory", used);
    fields.add_bytes("used_memory_rss", snapshot.resident_bytes);
    fields.add_bytes("used_memory_peak", peak);
    fields.add("used_memory_peak_perc", percent(used, peak));
    fields.add("used_memory_overhead", overhead);
    fields.add("used_memory_startup", instance.startup_bytes);
    fields.add("used_memory_dataset", dataset);
    fields.add("used_memory_dataset_perc", percent(dataset, used.saturating_sub(instance.startup_bytes)));
    allocator(fields, snapshot);
    fields.add_bytes("total_system_memory", machine::memory_bytes());
    scripts(fields, instance);
    fields.add_bytes("maxmemory", snapshot::maxmemory(instance));
    fields.add("maxmemory_policy", instance.config.text(Name::MaxmemoryPolicy));
    fields.add("memory_limit", instance.config.count(Name::MemoryLimit));
    ratios(fields, snapshot);
    fields.add("mem_not_counted_for_evict", memory::aside_bytes());
    // There are no replicas, and no cluster.
    for name in [
        "mem_replication_backlog",
        "mem_total_replication_buffers",
        "mem_replica_full_sync_buffer",
        "mem_clients_slaves",
        "mem_cluster_links",
    ] {
        fields.add(name, 0);
    }
    fields.add("mem_clients_normal", snapshot.sums.buffer_bytes);
    fields.add("mem_aof_buffer", memory::aside_bytes_of(memory::Aside::Journal));
    fields.add("mem_allocator", "mimalloc");
    // A table of keys grows in place, a bucket at a time: there is never a second one.
    fields.add("mem_overhead_db_hashtable_rehashing", 0);
    // Nothing is moved to make room: see the setting `activedefrag`.
    fields.add("active_defrag_running", 0);
    let freeing = instance.engine.freeing();
    fields.add("lazyfree_pending_objects", freeing.pending.load(Relaxed));
    fields.add("lazyfreed_objects", freeing.freed.load(Relaxed));
}

fn allocator(fields: &mut Fields, snapshot: &Snapshot) {
    fields.add("allocator_allocated", snapshot.used_bytes);
    fields.add("allocator_active", snapshot.committed_bytes);
    fields.add("allocator_resident", snapshot.anonymous_bytes);
    // What is handed back to the system is gone at once.
    fields.add("allocator_muzzy", 0);
}

/// How much larger what is held is than what is used, from what programs asked for to what the system has given.
fn ratios(fields: &mut Fields, snapshot: &Snapshot) {
    let (allocated, active) = (snapshot.used_bytes, snapshot.committed_bytes);
    let (resident, rss) = (snapshot.anonymous_bytes, snapshot.resident_bytes);
    for (name, larger, smaller) in
        [("allocator_frag", active, allocated), ("allocator_rss", resident, active), ("rss_overhead", rss, resident)]
    {
        fields.add(&format!("{name}_ratio"), ratio(larger, smaller));
        fields.add(&format!("{name}_bytes"), larger as i64 - smaller as i64);
    }
    fields.add("mem_fragmentation_ratio", ratio(rss, allocated));
    fields.add("mem_fragmentation_bytes", rss as i64 - allocated as i64);
}

fn scripts(fields: &mut Fields, instance: &Instance) {
    let numbers = instance.scripts.numbers();
    fields.add_bytes("used_memory_lua", numbers.vm_bytes);
    fields.add("used_memory_vm_eval", numbers.vm_bytes);
    fields.add("used_memory_scripts_eval", numbers.source_bytes);
    fields.add("number_of_cached_scripts", numbers.scripts);
    fields.add_bytes("used_memory_vm_total", numbers.vm_bytes + numbers.function_vm_bytes);
    fields.add_bytes(
        "used_memory_scripts",
        numbers.source_bytes + numbers.library_bytes + numbers.vm_bytes + numbers.function_vm_bytes,
    );
    fields.add("number_of_functions", numbers.functions);
    fields.add("number_of_libraries", numbers.libraries);
    fields.add("used_memory_vm_functions", numbers.function_vm_bytes);
    fields.add("used_memory_functions", numbers.library_bytes);
}

fn status(is_bad: bool) -> &'static str {
    if is_bad { "err" } else { "ok" }
}

fn persistence(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let loading = instance.loading.look();
    fields.add("loading", u8::from(loading.is_some()));
    // Nothing is forked, so no page is copied, and no save walks all keys.
    fields.add_all(&[("async_loading", "0"), ("current_cow_peak", "0"), ("current_cow_size", "0")]);
    fields.add_all(&[("current_cow_size_age", "0"), ("current_fork_perc", "0.00"), ("current_save_keys_processed", "0")]);
    fields.add("current_save_keys_total", 0);
    saves(fields, instance, snapshot);
    fields.add("aof_enabled", u8::from(snapshot.persist.is_some()));
    rewrites(fields, snapshot.persist.as_ref());
    let is_broken = instance.persistence().is_some_and(|persistence| !persistence.is_writable());
    fields.add("aof_last_write_status", status(is_broken));
    fields.add_all(&[("aof_last_cow_size", "0"), ("module_fork_in_progress", "0"), ("module_fork_last_cow_size", "0")]);
    let is_backup = matches!(*instance.saves.under_way.lock(), UnderWay::Backup { .. });
    fields.add("backup_in_progress", u8::from(is_backup));
    if let Some(persist) = &snapshot.persist {
        journal(fields, persist);
        let error = instance.persistence().and_then(Persistence::checkpoint_error).unwrap_or_default();
        fields.add("checkpoint_last_error", error.escape_debug());
        fields.add("values_read_while_locked", instance.engine.loads().wait_count());
    }
    if let Some(look) = loading {
        fields.add("loading_start_time", look.began_at);
        fields.add("loading_total_bytes", look.total_bytes);
        fields.add("loading_rdb_used_mem", 0);
        fields.add("loading_loaded_bytes", look.loaded_bytes);
        fields.add("loading_loaded_perc", format_args!("{:.2}", look.percent()));
        fields.add("loading_eta_seconds", look.left_s());
    }
}

/// `SAVE` and its like, under the names of Redis' snapshots.
fn saves(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let saves = &instance.saves;
    let is_running = *saves.under_way.lock() != UnderWay::Nothing;
    let runs_s = snapshot.monotonic_ms.saturating_sub(saves.began_at.load(Relaxed)) / 1000;
    let loaded = instance.persistence().map(Persistence::loaded).unwrap_or_default();
    fields.add("rdb_changes_since_last_save", snapshot.unsaved_changes);
    fields.add("rdb_bgsave_in_progress", u8::from(is_running));
    fields.add("rdb_last_save_time", saves.at.load(Relaxed));
    fields.add("rdb_last_bgsave_status", status(saves.has_failed.load(Relaxed)));
    fields.add("rdb_last_bgsave_time_sec", saves.took_s_plus_one.load(Relaxed) as i64 - 1);
    fields.add("rdb_current_bgsave_time_sec", if is_running { runs_s as i64 } else { -1 });
    fields.add("rdb_saves", saves.count.load(Relaxed));
    fields.add("rdb_last_cow_size", 0);
    fields.add("rdb_last_load_keys_expired", loaded.expired);
    fields.add("rdb_last_load_keys_loaded", loaded.keys);
}

/// Checkpoints, under the names of what Redis does to its append-only file: they shorten the journal.
fn rewrites(fields: &mut Fields, persist: Option<&persist::Stats>) {
    let persist = persist.cloned().unwrap_or_default();
    let seconds = |ms: Option<u64>| ms.map_or(-1, |ms| (ms / 1000) as i64);
    fields.add("aof_rewrite_in_progress", u8::from(persist.is_checkpointing));
    fields.add("aof_rewrite_scheduled", u8::from(persist.is_checkpoint_wanted));
    fields.add("aof_last_rewrite_time_sec", seconds((persist.checkpoints > 0).then_some(persist.last_checkpoint_ms)));
    fields.add("aof_current_rewrite_time_sec", seconds(persist.checkpoint_runs_ms));
    fields.add("aof_last_bgrewrite_status", status(persist.failed_checkpoints > 0));
    fields.add("aof_rewrites", persist.checkpoints);
    fields.add("aof_rewrites_consecutive_failures", persist.failed_checkpoints);
}

fn journal(fields: &mut Fields, persist: &persist::Stats) {
    fields.add("aof_current_size", persist.journal_bytes);
    fields.add("aof_base_size", persist.journal_base_bytes);
    fields.add("aof_pending_rewrite", u8::from(persist.is_checkpoint_wanted));
    fields.add("aof_buffer_length", memory::aside_bytes_of(memory::Aside::Journal));
    fields.add("aof_pending_bio_fsync", u8::from(persist.unsynced_bytes > 0));
    fields.add("aof_delayed_fsync", persist.slow_syncs);
    fields.add("journal_bytes", persist.journal_bytes);
    fields.add("journal_commits", persist.commits);
    fields.add("journal_commit_usec", persist.commit_us);
    fields.add("journal_delayed_replies", persist.pauses);
    fields.add("checkpoints", persist.checkpoints);
    fields.add("checkpoint_in_progress", u8::from(persist.is_checkpointing));
    fields.add("checkpoint_last_time", persist.last_checkpoint_at);
    fields.add("checkpoint_last_msec", persist.last_checkpoint_ms);
    fields.add("checkpoint_last_status", status(!persist.last_checkpoint_ok));
    fields.add("values_dropped", persist.drops);
    fields.add("values_read_back", persist.loads);
    fields.add("memory_limit_slows_writes", u8::from(persist.is_crowded));
    fields.add("memory_limit_delayed_replies", persist.waits);
}

fn threads(fields: &mut Fields, _: &Instance, snapshot: &Snapshot) {
    for (number, thread) in snapshot.sums.threads.iter().enumerate() {
        let text = format!("clients={},reads={},writes={}", thread.clients, thread.reads, thread.writes);
        fields.add(&format!("io_thread_{number}"), text);
    }
}

/// Who lives beside the clients, in the order in which they were started; see docs/lifecycle.md.
fn lifecycle(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    for row in instance.lifecycle().report() {
        fields.add(&format!("{}_{}", row.kind.name(), row.name), row);
    }
}

fn stats(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    traffic(fields, instance, snapshot);
    expired_and_evicted(fields, instance, snapshot);
    fields.add("keyspace_hits", snapshot.hits);
    fields.add("keyspace_misses", snapshot.misses);
    fields.add("pubsub_channels", snapshot.topics[0]);
    fields.add("pubsub_patterns", snapshot.topics[1]);
    fields.add("pubsubshard_channels", snapshot.topics[2]);
    // Nothing is forked, nothing migrates, there are no replicas, and nothing is moved to make room.
    fields.add_all(&[("latest_fork_usec", "0"), ("total_forks", "0"), ("migrate_cached_sockets", "0")]);
    fields.add_all(&[("slave_expires_tracked_keys", "0"), ("active_defrag_hits", "0"), ("active_defrag_misses", "0")]);
    fields.add_all(&[("active_defrag_key_hits", "0"), ("active_defrag_key_misses", "0"), ("total_active_defrag_time", "0")]);
    fields.add_all(&[("current_active_defrag_time", "0")]);
    let tracking = instance.engine.tracking();
    fields.add("tracking_total_keys", tracking.key_count());
    fields.add("tracking_total_items", tracking.reader_count());
    fields.add("tracking_total_prefixes", tracking.prefix_count());
    // Redis counts errors in what a master or a file tells it to do; neither runs commands here.
    fields.add_all(&[("unexpected_error_replies", "0")]);
    fields.add("total_error_replies", snapshot.errors);
    // Payloads of DUMP cannot be restored.
    fields.add("dump_payload_sanitizations", 0);
    reads_and_writes(fields, instance, snapshot);
    event_loop(fields, instance, snapshot);
    let slow = instance.slowlog.totals();
    fields.add("slowlog_commands_count", slow.count);
    fields.add("slowlog_commands_time_ms_sum", slow.us / 1000);
    fields.add("slowlog_commands_time_ms_max", slow.us_max / 1000);
    fields.add("acl_access_denied_auth", instance.stats.denied_logins.load(Relaxed));
    // There are no access control lists yet.
    fields.add_all(&[("acl_access_denied_cmd", "0"), ("acl_access_denied_key", "0"), ("acl_access_denied_channel", "0")]);
}

fn traffic(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    fields.add("total_connections_received", snapshot.connections);
    fields.add("total_commands_processed", snapshot.sums.commands);
    fields.add("instantaneous_ops_per_sec", instance.rates.commands.per_second());
    fields.add("total_net_input_bytes", snapshot.sums.bytes_in);
    fields.add("total_net_output_bytes", snapshot.sums.bytes_out);
    // There are no replicas.
    fields.add_all(&[("total_net_repl_input_bytes", "0"), ("total_net_repl_output_bytes", "0")]);
    fields.add("instantaneous_input_kbps", kilobytes(instance.rates.read.per_second()));
    fields.add("instantaneous_output_kbps", kilobytes(instance.rates.written.per_second()));
    fields.add_all(&[("instantaneous_input_repl_kbps", "0.00"), ("instantaneous_output_repl_kbps", "0.00")]);
    fields.add("rejected_connections", snapshot.rejected_connections);
    fields.add_all(&[("sync_full", "0"), ("sync_partial_ok", "0"), ("sync_partial_err", "0")]);
}

fn expired_and_evicted(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let sweeps = &instance.stats.sweeps;
    let percent = |ppm: &AtomicU64| format!("{:.2}", ppm.load(Relaxed) as f64 / 10_000.0);
    let fields_gone = sweeps.fields.load(Relaxed);
    // Redis' name and Valkey's.
    fields.add("expired_subkeys", fields_gone);
    fields.add("expired_fields", fields_gone);
    fields.add("expired_keys", snapshot.expired);
    fields.add("expired_stale_perc", percent(&sweeps.stale_keys_ppm));
    fields.add("expired_keys_with_volatile_items_stale_perc", percent(&sweeps.stale_hashes_ppm));
    fields.add("expired_time_cap_reached_count", sweeps.capped.load(Relaxed));
    fields.add("expire_cycle_cpu_milliseconds", sweeps.us.load(Relaxed) / 1000);
    fields.add("evicted_keys", snapshot.evicted);
    // Each client's buffers have a limit of their own.
    fields.add("evicted_clients", 0);
    fields.add("evicted_scripts", instance.scripts.numbers().evicted);
    fields.add("total_eviction_exceeded_time", snapshot.exceeded_ms.0);
    fields.add("current_eviction_exceeded_time", snapshot.exceeded_ms.1);
}

fn reads_and_writes(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let sums = &snapshot.sums;
    let others = sums.threads.iter().skip(1);
    fields.add("total_reads_processed", sums.reads);
    fields.add("total_writes_processed", sums.writes);
    fields.add("io_threaded_reads_processed", others.clone().map(|thread| thread.reads).sum::<u64>());
    fields.add("io_threaded_writes_processed", others.map(|thread| thread.writes).sum::<u64>());
    fields.add("client_query_buffer_limit_disconnections", instance.stats.cut_queries.load(Relaxed));
    fields.add("client_output_buffer_limit_disconnections", instance.stats.cut_readers.load(Relaxed));
    fields.add("reply_buffer_shrinks", sums.buffers_shrunk);
    fields.add("reply_buffer_expands", sums.buffers_grown);
}

/// The loop of a worker: it sleeps until something happens, and wakes for what did.
fn event_loop(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let sums = &snapshot.sums;
    let (wakes, active_us) = (instance.rates.wakes.per_second(), instance.rates.active_us.per_second());
    fields.add("eventloop_cycles", sums.wakes);
    fields.add("eventloop_duration_sum", snapshot.active_us);
    fields.add("eventloop_duration_cmd_sum", sums.nanoseconds / 1000);
    fields.add("instantaneous_eventloop_cycles_per_sec", wakes);
    fields.add("instantaneous_eventloop_duration_usec", active_us.checked_div(wakes).unwrap_or(0));
    fields.add("eventloop_cycles_with_clients_processing", sums.busy_wakes);
    fields.add("total_client_processing_events", sums.turns);
    fields.add("avg_pipeline_length_sum", sums.turn_commands);
    fields.add("avg_pipeline_length_cnt", sums.full_turns);
    fields.add("avg_pipeline_length", ratio(sums.turn_commands, sums.full_turns));
}

/// A master without replicas; what is here changes once there is replication.
fn replication(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    fields.add_all(&[("role", "master"), ("connected_slaves", "0"), ("master_failover_state", "no-failover")]);
    fields.add("master_replid", &instance.run_id);
    fields.add("master_replid2", "0".repeat(40));
    fields.add_all(&[("master_repl_offset", "0"), ("second_repl_offset", "-1"), ("repl_backlog_active", "0")]);
    fields.add("repl_backlog_size", setting(instance, "repl-backlog-size"));
    fields.add_all(&[("repl_backlog_first_byte_offset", "0"), ("repl_backlog_histlen", "0")]);
}

fn cpu(fields: &mut Fields, _: &Instance, snapshot: &Snapshot) {
    let (own, children) = snapshot.cpu;
    // What Redis' main thread does, the workers do.
    for (end, cpu) in [("", own), ("_children", children), ("_main_thread", snapshot.workers_cpu)] {
        fields.add(&format!("used_cpu_sys{end}"), format!("{:.6}", cpu.system));
        fields.add(&format!("used_cpu_user{end}"), format!("{:.6}", cpu.user));
    }
    fields.add("used_active_time_main_thread", format!("{:.6}", snapshot.active_us as f64 / 1e6));
}

fn commandstats(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    for number in 0..instance.table.count() {
        let sum = instance.stats.command(number);
        if sum.calls + sum.rejected + sum.failed == 0 {
            continue;
        }
        let us = sum.nanoseconds / 1000;
        let mean = if sum.calls == 0 { 0.0 } else { sum.nanoseconds as f64 / 1000.0 / sum.calls as f64 };
        fields.add(
            &format!("cmdstat_{}", instance.table.full_name(number)),
            format!(
                "calls={},usec={us},usec_per_call={mean:.2},rejected_calls={},failed_calls={}",
                sum.calls, sum.rejected, sum.failed
            ),
        );
    }
}

fn errorstats(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    for (code, count) in instance.stats.errors.lock().iter() {
        fields.add(&format!("errorstat_{code}"), format!("count={count}"));
    }
}

fn latencystats(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    let percentiles = config::percentiles(&instance.config.text(Name::LatencyTrackingInfoPercentiles));
    for number in 0..instance.table.count() {
        let Some(times) = instance.stats.times(number) else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percent| format!("p{}={:.3}", double_text(*percent), times.percentile(*percent) as f64 / 1000.0))
            .collect();
        fields.add(&format!("latency_percentiles_usec_{}", instance.table.full_name(number)), shown.join(","));
    }
}

fn keyspace(fields: &mut Fields, _: &Instance, snapshot: &Snapshot) {
    for (db, counts) in snapshot.databases.iter().enumerate().filter(|(_, counts)| counts.keys > 0) {
        fields.add(
            &format!("db{db}"),
            format!(
                "keys={},expires={},avg_ttl={},subexpiry={}",
                counts.keys, counts.expiring, counts.ttl_ms, counts.expiring_within
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_for_people_as_redis_does() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (990_472, "967.26K"), (25_276_510_208, "23.54G")] {
            assert_eq!(human(bytes), text);
        }
    }
}
