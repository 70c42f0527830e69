//! `INFO`: what tools and people ask a server about itself, under the names Redis gives it. Fields about parts that flux
//! does not have say what Redis says when such a part is off.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use crate::commands::Outcome;
use crate::commands::instance::Instance;
use crate::commands::server::snapshot::{self, Snapshot};
use crate::commands::session::Session;
use crate::commands::table;
use crate::config::{self, Name};
use crate::machine;
use crate::memory;
use crate::resp::reply::double_text;
use crate::resp::{Args, Reply};
use crate::version::{REDIS_VERSION, VERSION};

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
pub fn info(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.tick();
    let names: Vec<String> = args.from(1).iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    reply.verbatim("txt", &text(&session.instance, &names, session.now()));
    Ok(())
}

/// The sections of these names, or those that are shown when none is named.
pub fn text(instance: &Instance, names: &[String], now: u64) -> String {
    let is = |wanted: &str| names.iter().any(|name| name == wanted);
    let all = is("all") || is("everything");
    let default = names.is_empty() || is("default");
    let snapshot = Snapshot::take(instance, now);
    let mut fields = Fields::default();
    for section in SECTIONS {
        if all || default && section.is_default || is(section.name) {
            fields.begin(section.title);
            (section.write)(&mut fields, instance, &snapshot);
        }
    }
    fields.text
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
pub fn human(bytes: u64) -> String {
    let units = [(1u64 << 50, "P"), (1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64)
}

fn server(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let config = &instance.config;
    fields.add("redis_version", REDIS_VERSION);
    fields.add("flux_version", VERSION);
    fields.add_all(&[
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", "0"),
        ("redis_build_id", "0"),
        ("redis_mode", "standalone"),
    ]);
    fields.add("os", machine::system_name());
    fields.add("arch_bits", usize::BITS);
    fields.add_all(&[
        ("monotonic_clock", "POSIX clock_gettime"),
        ("multiplexing_api", "epoll"),
        ("atomicvar_api", "c11-builtin"),
    ]);
    fields.add_all(&[("gcc_version", "0.0.0")]);
    fields.add("process_id", std::process::id());
    fields.add("process_supervised", "no");
    fields.add("run_id", &instance.run_id);
    fields.add("tcp_port", config.number(Name::Port).max(0));
    fields.add("server_time_usec", snapshot.now * 1000);
    fields.add("uptime_in_seconds", snapshot.uptime_s);
    fields.add("uptime_in_days", snapshot.uptime_s / 86400);
    let hz = config::find("hz").map_or_else(|| "10".into(), |setting| config.show(setting).0);
    fields.add("hz", &hz);
    fields.add("configured_hz", &hz);
    fields.add("lru_clock", (snapshot.now / 1000) & 0xff_ffff);
    fields.add("executable", machine::program_path());
    fields
        .add("config_file", config.file().filter(|file| file.exists()).map_or(String::new(), |file| file.display().to_string()));
    fields.add("io_threads_active", 0);
}

fn clients(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    fields.add("connected_clients", snapshot.clients);
    fields.add("cluster_connections", 0);
    fields.add("maxclients", instance.config.count(Name::Maxclients));
    fields.add("client_recent_max_input_buffer", snapshot.query_bytes_max);
    fields.add("client_recent_max_output_buffer", snapshot.output_bytes_max);
    fields.add("blocked_clients", snapshot.blocked_clients);
    fields.add("tracking_clients", 0);
    fields.add("pubsub_clients", snapshot.listening_clients);
    fields.add("watching_clients", snapshot.watching_clients);
    fields.add("clients_in_timeout_table", 0);
    fields.add("total_blocking_keys", 0);
    fields.add("total_blocking_keys_on_nokey", 0);
}

fn memory(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let (used, peak) = (snapshot.used_bytes, snapshot.peak_bytes);
    let overhead = snapshot.overhead_bytes().min(used);
    fields.add_bytes("used_memory", used);
    fields.add_bytes("used_memory_rss", snapshot.resident_bytes);
    fields.add_bytes("used_memory_peak", peak);
    fields.add("used_memory_peak_perc", percent(used, peak));
    fields.add("used_memory_overhead", overhead);
    fields.add("used_memory_startup", instance.startup_bytes);
    let dataset = used.saturating_sub(overhead + instance.startup_bytes);
    fields.add("used_memory_dataset", dataset);
    fields.add("used_memory_dataset_perc", percent(dataset, used.saturating_sub(instance.startup_bytes)));
    fields.add("allocator_allocated", used);
    fields.add("allocator_active", snapshot.resident_bytes);
    fields.add("allocator_resident", snapshot.resident_bytes);
    fields.add_bytes("total_system_memory", machine::memory_bytes());
    for name in ["used_memory_lua", "used_memory_vm_eval", "used_memory_vm_functions", "used_memory_scripts"] {
        fields.add(name, 0);
    }
    fields.add_all(&[("number_of_cached_scripts", "0"), ("number_of_functions", "0"), ("number_of_libraries", "0")]);
    fields.add_bytes("maxmemory", snapshot::maxmemory(instance));
    fields.add("maxmemory_policy", instance.config.text(Name::MaxmemoryPolicy));
    fields.add("memory_limit", instance.config.count(Name::MemoryLimit));
    fields.add("mem_fragmentation_ratio", format!("{:.2}", snapshot.fragmentation()));
    fields.add("mem_fragmentation_bytes", snapshot.resident_bytes as i64 - used as i64);
    for name in ["allocator_frag_bytes", "allocator_rss_bytes", "rss_overhead_bytes"] {
        fields.add(name, 0);
    }
    fields.add_all(&[("allocator_frag_ratio", "1.00"), ("allocator_rss_ratio", "1.00"), ("rss_overhead_ratio", "1.00")]);
    fields.add("mem_not_counted_for_evict", memory::aside_bytes());
    for name in ["mem_replication_backlog", "mem_total_replication_buffers", "mem_clients_slaves"] {
        fields.add(name, 0);
    }
    fields.add("mem_clients_normal", snapshot.client_bytes);
    fields.add("mem_aof_buffer", memory::aside_bytes_of(memory::Aside::Journal));
    fields.add_all(&[("mem_cluster_links", "0"), ("mem_allocator", "mimalloc")]);
    fields.add("active_defrag_running", 0);
    let freeing = instance.engine.freeing();
    fields.add("lazyfree_pending_objects", freeing.pending.load(Relaxed));
    fields.add("lazyfreed_objects", freeing.freed.load(Relaxed));
}

fn persistence(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let saves = &instance.saves;
    let status = |is_bad: bool| if is_bad { "err" } else { "ok" };
    let persist = snapshot.persist.clone().unwrap_or_default();
    fields.add_all(&[("loading", "0"), ("async_loading", "0"), ("current_cow_peak", "0"), ("current_cow_size", "0")]);
    fields.add_all(&[("current_cow_size_age", "0"), ("current_fork_perc", "0.00"), ("current_save_keys_processed", "0")]);
    fields.add("current_save_keys_total", 0);
    fields.add("rdb_changes_since_last_save", snapshot.unsaved_changes);
    fields.add("rdb_bgsave_in_progress", u8::from(saves.running.load(Relaxed) > 0));
    fields.add("rdb_last_save_time", saves.at.load(Relaxed));
    fields.add("rdb_last_bgsave_status", status(saves.has_failed.load(Relaxed)));
    fields.add("rdb_last_bgsave_time_sec", saves.took_s_plus_one.load(Relaxed) as i64 - 1);
    fields.add("rdb_current_bgsave_time_sec", if saves.running.load(Relaxed) > 0 { 0 } else { -1 });
    fields.add("rdb_saves", saves.count.load(Relaxed));
    fields.add_all(&[("rdb_last_cow_size", "0"), ("rdb_last_load_keys_expired", "0")]);
    fields.add("rdb_last_load_keys_loaded", instance.persistence().map_or(0, |persistence| persistence.loaded().keys));
    // The journal is there even when `appendonly` says no, but tools that see `aof_enabled` expect Redis' files.
    fields.add("aof_enabled", u8::from(snapshot.persist.is_some()));
    fields.add_all(&[("aof_rewrite_in_progress", "0"), ("aof_rewrite_scheduled", "0"), ("aof_last_rewrite_time_sec", "-1")]);
    fields.add_all(&[("aof_current_rewrite_time_sec", "-1"), ("aof_last_bgrewrite_status", "ok"), ("aof_rewrites", "0")]);
    let is_broken = instance.persistence().is_some_and(|persistence| !persistence.is_writable());
    fields.add("aof_rewrites_consecutive_failures", 0);
    fields.add("aof_last_write_status", status(is_broken));
    fields.add("aof_last_cow_size", 0);
    fields.add_all(&[("module_fork_in_progress", "0"), ("module_fork_last_cow_size", "0")]);
    if snapshot.persist.is_some() {
        fields.add("aof_current_size", persist.journal_bytes);
        fields.add("aof_base_size", 0);
        fields.add_all(&[
            ("aof_pending_rewrite", "0"),
            ("aof_buffer_length", "0"),
            ("aof_pending_bio_fsync", "0"),
            ("aof_delayed_fsync", "0"),
        ]);
        fields.add("journal_bytes", persist.journal_bytes);
        fields.add("journal_commits", persist.commits);
        fields.add("journal_commit_usec", persist.commit_us);
        fields.add("checkpoints", persist.checkpoints);
        fields.add("checkpoint_in_progress", u8::from(persist.is_checkpointing));
        fields.add("checkpoint_last_time", persist.last_checkpoint_at);
        fields.add("checkpoint_last_msec", persist.last_checkpoint_ms);
        fields.add("checkpoint_last_status", status(!persist.last_checkpoint_ok && persist.checkpoints > 0));
        fields.add("values_dropped", persist.drops);
        fields.add("values_read_back", persist.loads);
        fields.add("values_read_while_locked", instance.engine.loads().wait_count());
        fields.add("memory_limit_slows_writes", u8::from(persist.is_crowded));
        fields.add("memory_limit_delayed_replies", persist.waits);
    }
}

fn stats(fields: &mut Fields, instance: &Instance, snapshot: &Snapshot) {
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    fields.add("total_connections_received", snapshot.connections);
    fields.add("total_commands_processed", snapshot.commands);
    fields.add("instantaneous_ops_per_sec", instance.rates.commands.per_second());
    fields.add("total_net_input_bytes", snapshot.read_bytes);
    fields.add("total_net_output_bytes", snapshot.written_bytes);
    fields.add_all(&[("total_net_repl_input_bytes", "0"), ("total_net_repl_output_bytes", "0")]);
    fields.add("instantaneous_input_kbps", kilobytes(instance.rates.read.per_second()));
    fields.add("instantaneous_output_kbps", kilobytes(instance.rates.written.per_second()));
    fields.add_all(&[("instantaneous_input_repl_kbps", "0.00"), ("instantaneous_output_repl_kbps", "0.00")]);
    fields.add("rejected_connections", snapshot.rejected_connections);
    fields.add_all(&[("sync_full", "0"), ("sync_partial_ok", "0"), ("sync_partial_err", "0")]);
    fields.add("expired_keys", snapshot.expired);
    fields.add_all(&[
        ("expired_stale_perc", "0.00"),
        ("expired_time_cap_reached_count", "0"),
        ("expire_cycle_cpu_milliseconds", "0"),
    ]);
    fields.add("evicted_keys", snapshot.evicted);
    fields.add_all(&[("evicted_clients", "0"), ("total_eviction_exceeded_time", "0"), ("current_eviction_exceeded_time", "0")]);
    fields.add("keyspace_hits", snapshot.hits);
    fields.add("keyspace_misses", snapshot.misses);
    fields.add("pubsub_channels", snapshot.topics[0]);
    fields.add("pubsub_patterns", snapshot.topics[1]);
    fields.add("pubsubshard_channels", snapshot.topics[2]);
    fields.add_all(&[("latest_fork_usec", "0"), ("total_forks", "0"), ("migrate_cached_sockets", "0")]);
    fields.add_all(&[("slave_expires_tracked_keys", "0"), ("active_defrag_hits", "0"), ("active_defrag_misses", "0")]);
    fields.add_all(&[("active_defrag_key_hits", "0"), ("active_defrag_key_misses", "0"), ("total_active_defrag_time", "0")]);
    fields.add_all(&[("current_active_defrag_time", "0"), ("tracking_total_keys", "0"), ("tracking_total_items", "0")]);
    fields.add_all(&[("tracking_total_prefixes", "0"), ("unexpected_error_replies", "0")]);
    fields.add("total_error_replies", snapshot.errors);
    fields.add_all(&[("dump_payload_sanitizations", "0"), ("total_reads_processed", "0"), ("total_writes_processed", "0")]);
    fields.add_all(&[("io_threaded_reads_processed", "0"), ("io_threaded_writes_processed", "0")]);
    fields.add_all(&[("reply_buffer_shrinks", "0"), ("reply_buffer_expands", "0"), ("acl_access_denied_auth", "0")]);
}

fn replication(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    fields.add_all(&[("role", "master"), ("connected_slaves", "0"), ("master_failover_state", "no-failover")]);
    fields.add("master_replid", &instance.run_id);
    fields.add("master_replid2", "0".repeat(40));
    fields.add_all(&[("master_repl_offset", "0"), ("second_repl_offset", "-1"), ("repl_backlog_active", "0")]);
    fields.add_all(&[("repl_backlog_size", "1048576"), ("repl_backlog_first_byte_offset", "0"), ("repl_backlog_histlen", "0")]);
}

fn cpu(fields: &mut Fields, _: &Instance, snapshot: &Snapshot) {
    let (system, user) = snapshot.cpu_seconds;
    for (name, seconds) in [
        ("used_cpu_sys", system),
        ("used_cpu_user", user),
        ("used_cpu_sys_children", 0.0),
        ("used_cpu_user_children", 0.0),
        ("used_cpu_sys_main_thread", system),
        ("used_cpu_user_main_thread", user),
    ] {
        fields.add(name, format!("{seconds:.6}"));
    }
}

fn commandstats(fields: &mut Fields, instance: &Instance, _: &Snapshot) {
    for number in 0..table::count() {
        let sum = instance.stats.command(number);
        if sum.calls + sum.rejected + sum.failed == 0 {
            continue;
        }
        let us = sum.nanoseconds / 1000;
        let mean = if sum.calls == 0 { 0.0 } else { sum.nanoseconds as f64 / 1000.0 / sum.calls as f64 };
        fields.add(
            &format!("cmdstat_{}", table::full_name(number)),
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
    for number in 0..table::count() {
        let Some(times) = instance.stats.times(number) else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percent| format!("p{}={:.3}", double_text(*percent), times.percentile(*percent) as f64 / 1000.0))
            .collect();
        fields.add(&format!("latency_percentiles_usec_{}", table::full_name(number)), shown.join(","));
    }
}

fn keyspace(fields: &mut Fields, _: &Instance, snapshot: &Snapshot) {
    for (db, counts) in snapshot.databases.iter().enumerate().filter(|(_, counts)| counts.keys > 0) {
        fields.add(&format!("db{db}"), format!("keys={},expires={},avg_ttl={}", counts.keys, counts.expiring, counts.ttl_ms));
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
