//! `INFO`: every field that Redis shows and that redis_exporter reads is there, in Redis' shape, and moves when what it counts happens.
//! Those that cannot move here say why.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use flux::Flux;
use tempfile::TempDir;

use crate::process::{Connection, Process, Reply, until};
use crate::script::is_like;

/// How long a field may take to move; most do at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What fields do.
enum Tells {
    /// They change when this is done, at the latest when it is done a few times.
    Moves(fn(&mut Scene)),
    /// They are like this, for this reason.
    Stays(&'static str, &'static str),
}

use Tells::{Moves, Stays};

/// A section's fields, in groups that do the same; `*` at the end of a name stands for any end. Done in this order.
type Section = (&'static str, &'static [(&'static [&'static str], Tells)]);

const SERVER: Section = (
    "Server",
    &[
        (&["server_time_usec"], Moves(|_| ())),
        (&["uptime_in_seconds", "lru_clock"], Moves(|_| ())),
        (&["hz", "configured_hz"], Moves(|scene| scene.set("hz", &[20, 30][scene.tries % 2].to_string()))),
        (&["redis_version"], Stays("of this build", "7.…")),
        (&["flux_version", "executable", "os"], Stays("of this build and machine", "…")),
        (&["redis_git_sha1"], Stays("flux_version tells which build this is", "00000000")),
        (&["redis_git_dirty", "redis_build_id"], Stays("flux_version tells which build this is", "0")),
        (&["redis_mode"], Stays("there is no cluster and no sentinel", "standalone")),
        (&["arch_bits"], Stays("of this build", "64")),
        (&["monotonic_clock"], Stays("of this build", "POSIX clock_gettime")),
        (&["multiplexing_api"], Stays("of this build", "epoll")),
        (&["atomicvar_api"], Stays("of this build", "c11-builtin")),
        (&["gcc_version"], Stays("it is not built by gcc; Redis says the same then", "0.0.0")),
        (&["process_id", "run_id", "tcp_port"], Stays("chosen at the start", "…")),
        (&["process_supervised"], Stays("flux tells no supervisor of its start", "no")),
        (&["uptime_in_days"], Stays("it moves after a day", "0")),
        (&["config_file"], Stays("the test has none", "")),
        (&["io_threads_active"], Stays("whether there is more than one worker: the test has two", "1")),
        (&["listener0"], Stays("chosen at the start", "name=tcp,bind=127.0.0.1,…port=…")),
        (&["listener1"], Stays("chosen at the start", "name=unix,bind=/…")),
    ],
);

const CLIENTS: Section = (
    "Clients",
    &[
        (&["connected_clients"], Moves(Scene::connect)),
        (&["maxclients"], Moves(|scene| scene.set("maxclients", &[500, 600][scene.tries % 2].to_string()))),
        (&["client_recent_max_input_buffer"], Moves(Scene::send_half)),
        (&["client_recent_max_output_buffer"], Moves(Scene::leave_unread)),
        (&["blocked_clients", "clients_in_timeout_table", "total_blocking_keys"], Moves(Scene::block)),
        (&["total_blocking_keys_on_nokey"], Moves(Scene::block_in_group)),
        (&["pubsub_clients"], Moves(Scene::listen)),
        (&["watching_clients", "total_watched_keys"], Moves(Scene::watch)),
        (&["cluster_connections"], Stays("there is no cluster", "0")),
        (&["tracking_clients"], Moves(Scene::track)),
    ],
);

const MEMORY: Section = (
    "Memory",
    &[
        (
            &[
                "used_memory",
                "used_memory_human",
                "used_memory_rss",
                "used_memory_rss_human",
                "used_memory_peak",
                "used_memory_peak_human",
                "used_memory_peak_perc",
                "used_memory_dataset",
                "used_memory_dataset_perc",
                "allocator_allocated",
                "allocator_active",
                "allocator_resident",
                "allocator_frag_ratio",
                "allocator_frag_bytes",
                "allocator_rss_ratio",
                "allocator_rss_bytes",
                "rss_overhead_ratio",
                "mem_fragmentation_ratio",
                "mem_fragmentation_bytes",
            ],
            Moves(Scene::grow),
        ),
        (&["used_memory_overhead"], Moves(Scene::populate)),
        (&["mem_clients_normal"], Moves(Scene::send_half)),
        (&["mem_aof_buffer", "mem_not_counted_for_evict"], Moves(Scene::write)),
        (&["lazyfree_pending_objects", "lazyfreed_objects"], Moves(Scene::unlink)),
        (&["maxmemory", "maxmemory_human"], Moves(|scene| scene.set("maxmemory", ["3gb", "4gb"][scene.tries % 2]))),
        (&["maxmemory_policy"], Moves(|scene| scene.set("maxmemory-policy", ["allkeys-lru", "volatile-ttl"][scene.tries % 2]))),
        (&["memory_limit"], Moves(|scene| scene.set("memory-limit", ["3gb", "4gb"][scene.tries % 2]))),
        (&["used_memory_startup"], Stays("measured at the start", "…")),
        (&["total_system_memory", "total_system_memory_human"], Stays("of the machine", "…")),
        (&["rss_overhead_bytes"], Stays("the program's own pages, which the system loads and drops as it likes", "…")),
        (&["allocator_muzzy"], Stays("what is handed back is gone at once", "0")),
        (
            &[
                "used_memory_lua",
                "used_memory_vm_eval",
                "used_memory_scripts_eval",
                "number_of_cached_scripts",
                "number_of_functions",
                "number_of_libraries",
                "used_memory_vm_functions",
                "used_memory_vm_total",
                "used_memory_functions",
                "used_memory_scripts",
            ],
            Stays("no script ran", "0"),
        ),
        (&["used_memory_lua_human", "used_memory_vm_total_human", "used_memory_scripts_human"], Stays("no script ran", "0B")),
        (
            &[
                "mem_replication_backlog",
                "mem_total_replication_buffers",
                "mem_replica_full_sync_buffer",
                "mem_clients_slaves",
                "mem_cluster_links",
            ],
            Stays("there are no replicas, and no cluster", "0"),
        ),
        (&["mem_allocator"], Stays("of this build", "mimalloc")),
        (&["mem_overhead_db_hashtable_rehashing"], Stays("tables grow in place", "0")),
        (&["active_defrag_running"], Stays("nothing is moved to make room", "0")),
    ],
);

const PERSISTENCE: Section = (
    "Persistence",
    &[
        (
            &[
                "rdb_last_bgsave_time_sec",
                "rdb_last_save_time",
                "rdb_saves",
                "aof_last_rewrite_time_sec",
                "aof_rewrites",
                "checkpoints",
                "checkpoint_last_time",
                "checkpoint_last_msec",
            ],
            Moves(Scene::save),
        ),
        (
            &[
                "rdb_changes_since_last_save",
                "aof_current_size",
                "aof_buffer_length",
                "aof_pending_bio_fsync",
                "journal_bytes",
                "journal_commits",
                "journal_commit_usec",
            ],
            Moves(Scene::write),
        ),
        (
            &[
                "rdb_bgsave_in_progress",
                "rdb_current_bgsave_time_sec",
                "aof_rewrite_in_progress",
                "aof_current_rewrite_time_sec",
                "checkpoint_in_progress",
            ],
            Moves(Scene::save_behind),
        ),
        (&["aof_rewrite_scheduled", "aof_pending_rewrite"], Moves(Scene::fold_often)),
        (&["aof_base_size"], Moves(Scene::fold_while_writing)),
        (&["backup_in_progress"], Moves(Scene::back_up)),
        (&["values_dropped", "values_read_back"], Moves(Scene::drop_and_read)),
        (
            &["rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status", "checkpoint_last_status"],
            Stays("until the disk fails; see `storage::info_tells_of_a_disk_that_fails_or_is_slow`", "ok"),
        ),
        (&["aof_rewrites_consecutive_failures"], Stays("until the disk fails; see there", "0")),
        (&["checkpoint_last_error"], Stays("until the disk fails; see there", "")),
        (&["aof_delayed_fsync"], Stays("it moves where the disk is slow; see there", "…")),
        (
            &["journal_delayed_replies"],
            Stays("until the journal nears its bound; see `writers_are_held_back_while_the_journal_nears_its_bound`", "0"),
        ),
        (&["rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"], Stays("of the start; see `what_was_loaded_is_told`", "0")),
        (&["aof_enabled"], Stays("whether there is a data folder; see `without_a_folder_there_is_no_journal_to_tell_of`", "1")),
        (&["loading", "async_loading"], Stays("clients are let in once all is loaded", "0")),
        (
            &["current_cow_peak", "current_cow_size", "current_cow_size_age", "rdb_last_cow_size", "aof_last_cow_size"],
            Stays("nothing is forked, so no page is copied", "0"),
        ),
        (&["current_fork_perc"], Stays("nothing is forked", "0.00")),
        (
            &["current_save_keys_processed", "current_save_keys_total"],
            Stays("a checkpoint folds what changed and walks no keys", "0"),
        ),
        (&["module_fork_in_progress", "module_fork_last_cow_size"], Stays("there are no modules", "0")),
        (
            &["memory_limit_slows_writes", "memory_limit_delayed_replies", "values_read_while_locked"],
            Stays("how that moves is tested where it is made: `persist`, `spilled`", "0"),
        ),
    ],
);

const THREADS: Section = ("Threads", &[(&["io_thread_0", "io_thread_1"], Moves(Scene::connect))]);

const STATS: Section = (
    "Stats",
    &[
        // First, while no other command was slow.
        (&["slowlog_commands_count", "slowlog_commands_time_ms_sum", "slowlog_commands_time_ms_max"], Moves(Scene::be_slow)),
        (&["total_connections_received"], Moves(Scene::connect)),
        (
            &[
                "total_commands_processed",
                "total_net_input_bytes",
                "total_net_output_bytes",
                "total_reads_processed",
                "total_writes_processed",
                "eventloop_cycles",
                "eventloop_duration_sum",
                "eventloop_duration_cmd_sum",
                "eventloop_cycles_with_clients_processing",
                "total_client_processing_events",
                "avg_pipeline_length_sum",
                "avg_pipeline_length_cnt",
            ],
            Moves(|_| ()),
        ),
        (&["io_threaded_reads_processed", "io_threaded_writes_processed"], Moves(Scene::connect)),
        (
            &[
                "instantaneous_ops_per_sec",
                "instantaneous_input_kbps",
                "instantaneous_output_kbps",
                "instantaneous_eventloop_cycles_per_sec",
                "instantaneous_eventloop_duration_usec",
                "avg_pipeline_length",
            ],
            Moves(Scene::pipeline),
        ),
        (&["rejected_connections"], Moves(Scene::be_too_many)),
        (&["expired_keys", "expired_stale_perc"], Moves(Scene::expire)),
        (&["expired_subkeys", "expired_fields", "expired_keys_with_volatile_items_stale_perc"], Moves(Scene::expire_fields)),
        (&["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"], Moves(Scene::expire_many)),
        (&["evicted_keys"], Moves(Scene::evict)),
        (&["total_eviction_exceeded_time", "current_eviction_exceeded_time"], Moves(Scene::exceed)),
        (&["keyspace_hits", "keyspace_misses"], Moves(Scene::look_up)),
        (&["pubsub_channels", "pubsub_patterns", "pubsubshard_channels"], Moves(Scene::listen)),
        (&["total_error_replies"], Moves(|scene| drop(scene.main.call(&["NOPE"])))),
        (&["client_query_buffer_limit_disconnections"], Moves(Scene::ask_too_much)),
        (&["client_output_buffer_limit_disconnections"], Moves(Scene::read_too_little)),
        (&["reply_buffer_shrinks", "reply_buffer_expands"], Moves(Scene::fetch_much)),
        (&["acl_access_denied_auth"], Moves(|scene| drop(scene.main.call(&["AUTH", "nobody", "x"])))),
        (
            &["acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel"],
            Stays("there are no access control lists yet", "0"),
        ),
        (
            &[
                "total_net_repl_input_bytes",
                "total_net_repl_output_bytes",
                "sync_full",
                "sync_partial_ok",
                "sync_partial_err",
                "slave_expires_tracked_keys",
            ],
            Stays("there are no replicas", "0"),
        ),
        (&["instantaneous_input_repl_kbps", "instantaneous_output_repl_kbps"], Stays("there are no replicas", "0.00")),
        (&["evicted_clients"], Stays("each client's buffers have a limit of their own", "0")),
        (&["evicted_scripts"], Stays("no script ran", "0")),
        (&["latest_fork_usec", "total_forks"], Stays("nothing is forked", "0")),
        (&["migrate_cached_sockets"], Stays("there is no MIGRATE", "0")),
        (
            &[
                "active_defrag_hits",
                "active_defrag_misses",
                "active_defrag_key_hits",
                "active_defrag_key_misses",
                "total_active_defrag_time",
                "current_active_defrag_time",
            ],
            Stays("nothing is moved to make room", "0"),
        ),
        (&["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"], Moves(Scene::track)),
        (&["unexpected_error_replies"], Stays("no master and no file of commands tells what to do", "0")),
        (&["dump_payload_sanitizations"], Stays("there is no RESTORE", "0")),
    ],
);

const REPLICATION: Section = (
    "Replication",
    &[
        (&["repl_backlog_size"], Moves(|scene| scene.set("repl-backlog-size", &[100_000, 200_000][scene.tries % 2].to_string()))),
        (&["role"], Stays("there is no replication yet", "master")),
        (&["master_failover_state"], Stays("there is no replication yet", "no-failover")),
        (&["master_replid"], Stays("chosen at the start", "…")),
        (&["master_replid2"], Stays("there is no replication yet", "0000000000000000000000000000000000000000")),
        (&["second_repl_offset"], Stays("there is no replication yet", "-1")),
        (
            &[
                "connected_slaves",
                "master_repl_offset",
                "repl_backlog_active",
                "repl_backlog_first_byte_offset",
                "repl_backlog_histlen",
            ],
            Stays("there is no replication yet", "0"),
        ),
    ],
);

const CPU: Section = (
    "CPU",
    &[
        (
            &[
                "used_cpu_sys",
                "used_cpu_user",
                "used_cpu_sys_main_thread",
                "used_cpu_user_main_thread",
                "used_active_time_main_thread",
            ],
            Moves(Scene::pipeline),
        ),
        (&["used_cpu_sys_children", "used_cpu_user_children"], Stays("nothing is forked", "0.000000")),
    ],
);

const OTHERS: &[Section] = &[
    ("Modules", &[]),
    ("Commandstats", &[(&["cmdstat_*"], Moves(|_| ()))]),
    ("Errorstats", &[(&["errorstat_*"], Moves(|scene| drop(scene.main.call(&["NOPE"]))))]),
    ("Latencystats", &[(&["latency_percentiles_usec_*"], Moves(Scene::pipeline))]),
    (
        "Lifecycle",
        &[
            (&["thread_*"], Moves(Scene::unlink)),
            (&["task_*"], Stays("HTTP is accepted until the end", "state=running,phase=last,…")),
        ],
    ),
    ("Cluster", &[(&["cluster_enabled"], Stays("there is no cluster", "0"))]),
    ("Keyspace", &[(&["db*"], Moves(Scene::populate))]),
];

#[test]
fn fields_of_the_server_tell_the_truth() {
    check(&SERVER);
}

#[test]
fn fields_of_clients_move() {
    check(&CLIENTS);
}

#[test]
fn fields_of_memory_move() {
    check(&MEMORY);
}

#[test]
fn fields_of_persistence_move() {
    check(&PERSISTENCE);
}

#[test]
fn fields_of_threads_move() {
    check(&THREADS);
}

#[test]
fn fields_of_statistics_move() {
    check(&STATS);
}

#[test]
fn fields_of_replication_tell_the_truth() {
    check(&REPLICATION);
}

#[test]
fn fields_of_processor_time_move() {
    check(&CPU);
}

#[test]
fn fields_of_the_small_sections_move() {
    OTHERS.iter().for_each(check);
}

/// Plays a section: all that must move does, the rest is as it must be, and no field is left out.
fn check((title, groups): &Section) {
    let mut scene = Scene::new();
    for (names, tells) in *groups {
        match tells {
            Moves(cause) => scene.sees_move(title, names, *cause),
            Stays(reason, like) => names.iter().for_each(|name| {
                let value = scene.value(title, name);
                assert!(is_like(&value, like), "{name} is {value:?} and not {like:?}, though {reason}");
            }),
        }
    }
    let known = |name: &str| groups.iter().flat_map(|(names, _)| *names).any(|known| matches(known, name));
    for (_, name, _) in scene.info().iter().filter(|(section, ..)| section == title) {
        assert!(known(name), "{name} has no row that says what moves it");
    }
}

/// Whether a name of the tables stands for a field.
fn matches(known: &str, name: &str) -> bool {
    known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start))
}

/// A server that causes are played on.
struct Scene {
    server: Process,
    main: Connection,
    /// Connections that a cause leaves open until its fields have moved.
    kept: Vec<Connection>,
    half: Vec<TcpStream>,
    /// How often the cause was played before.
    tries: usize,
    /// Settings to be put back.
    settings: Vec<(String, String)>,
    dir: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("socket");
        let server = Process::flux(&["--enable-debug-command", "yes", "--unixsocket", socket.to_str().unwrap()]);
        let mut main = server.connect();
        main.call(&["SET", "key", "value", "EX", "1000"]).unwrap();
        Scene { server, main, kept: Vec::new(), half: Vec::new(), tries: 0, settings: Vec::new(), dir }
    }

    fn info(&mut self) -> Vec<(String, String, String)> {
        fields(&mut self.main)
    }

    /// A field's value; of all fields, where the name stands for many.
    fn value(&mut self, title: &str, name: &str) -> String {
        let info = self.info();
        let mut found = info.into_iter().filter(|(section, found, _)| section == title && matches(name, found)).peekable();
        assert!(found.peek().is_some() || name.ends_with('*'), "{title} has no field {name}");
        found.map(|(.., value)| value).collect::<Vec<_>>().join("\n")
    }

    fn sees_move(&mut self, title: &str, names: &[&str], cause: fn(&mut Scene)) {
        let mut waiting: Vec<(&str, String)> = names.iter().map(|name| (*name, self.value(title, name))).collect();
        let deadline = Instant::now() + PATIENCE;
        self.tries = 0;
        while !waiting.is_empty() {
            cause(self);
            waiting.retain(|(name, before)| self.value(title, name) == *before);
            assert!(Instant::now() < deadline, "of {title} these do not move: {waiting:?}");
            self.tries += 1;
        }
        self.kept.clear();
        self.half.clear();
        for (name, value) in std::mem::take(&mut self.settings) {
            self.main.call(&["CONFIG", "SET", &name, &value]).unwrap();
        }
    }

    fn call(&mut self, words: &[&str]) -> Reply {
        let reply = self.main.call(words).unwrap();
        assert!(!matches!(&reply, Reply::Line(line) if line.starts_with('-')), "{words:?} => {reply:?}");
        reply
    }

    fn set(&mut self, name: &str, value: &str) {
        if !self.settings.iter().any(|(known, _)| known == name) {
            let Reply::Many(_, pair) = self.call(&["CONFIG", "GET", name]) else { panic!("a pair") };
            let Reply::Bulk(_, before) = &pair[1] else { panic!("a text") };
            self.settings.push((name.to_owned(), String::from_utf8(before.clone()).unwrap()));
        }
        self.call(&["CONFIG", "SET", name, value]);
    }

    /// A connection that others are not told of until it has been answered.
    fn other(&mut self) -> Connection {
        let mut other = self.server.connect();
        other.call(&["PING"]).unwrap();
        other
    }

    /// A connection that has sent these bytes, if the server took them.
    fn raw(&mut self, bytes: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.port())).unwrap();
        let _ = stream.write_all(bytes);
        self.half.push(stream);
    }

    fn connect(&mut self) {
        let other = self.other();
        self.kept.push(other);
    }

    fn send_half(&mut self) {
        let mut bytes = b"*2\r\n$3\r\nGET\r\n$900000\r\n".to_vec();
        bytes.resize(100_000 + 1000 * self.tries, b'x');
        self.raw(&bytes);
    }

    fn leave_unread(&mut self) {
        self.call(&["SET", "large", &"x".repeat(1 << 20)]);
        self.raw(b"GET large\r\n".repeat(16).as_slice());
    }

    fn block(&mut self) {
        let mut other = self.other();
        other.send(&["BLPOP", &format!("missing:{}", self.tries), "1000"]).unwrap();
        self.kept.push(other);
    }

    fn block_in_group(&mut self) {
        let _ = self.main.call(&["XGROUP", "CREATE", "stream", "group", "$", "MKSTREAM"]).unwrap();
        let mut other = self.other();
        other.send(&["XREADGROUP", "GROUP", "group", "me", "BLOCK", "0", "STREAMS", "stream", ">"]).unwrap();
        self.kept.push(other);
    }

    fn listen(&mut self) {
        for command in ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"] {
            let mut other = self.other();
            other.call(&[command, &format!("name:{}", self.tries)]).unwrap();
            self.kept.push(other);
        }
    }

    /// A client reads a key and is told of its changes, another one listens to a prefix.
    fn track(&mut self) {
        for mode in
            [&["CLIENT", "TRACKING", "ON"][..], &["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", &format!("{}:", self.tries)]]
        {
            let mut other = self.other();
            other.call(mode).unwrap();
            other.call(&["GET", &format!("read:{}", self.tries)]).unwrap();
            self.kept.push(other);
        }
    }

    fn watch(&mut self) {
        let mut other = self.other();
        other.call(&["WATCH", &format!("key:{}", self.tries)]).unwrap();
        self.kept.push(other);
    }

    /// Values of two megabytes come, and now and then one goes.
    fn grow(&mut self) {
        self.call(&["SET", &format!("large:{}", self.tries), &"x".repeat(2 << 20)]);
        if self.tries % 2 == 1 {
            self.call(&["DEL", &format!("large:{}", self.tries)]);
        }
    }

    fn populate(&mut self) {
        let keys: Vec<String> = (0..2000).map(|number| format!("key:{}:{number}", self.tries)).collect();
        let words: Vec<&str> = ["MSET"].into_iter().chain(keys.iter().flat_map(|key| [key.as_str(), "value"])).collect();
        self.call(&words);
    }

    fn write(&mut self) {
        self.call(&["SET", "written", &"x".repeat(50_000 + self.tries)]);
    }

    fn unlink(&mut self) {
        let members: Vec<String> = (0..20_000).map(|number| format!("member:{number}")).collect();
        self.call(&["SADD", "set"].into_iter().chain(members.iter().map(String::as_str)).collect::<Vec<_>>());
        self.call(&["UNLINK", "set"]);
    }

    fn save(&mut self) {
        self.write();
        self.call(&["SAVE"]);
    }

    fn save_behind(&mut self) {
        self.populate();
        // It may be that the last one is not over.
        let _ = self.main.call(&["BGSAVE"]).unwrap();
    }

    fn fold_often(&mut self) {
        self.populate();
        (0..3).for_each(|_| drop(self.call(&["BGREWRITEAOF"])));
    }

    fn fold_while_writing(&mut self) {
        self.fold_often();
        (0..30).for_each(|_| self.write());
    }

    fn back_up(&mut self) {
        self.populate();
        let path = self.dir.path().join(format!("backup-{}", self.tries));
        std::fs::File::create(&path).unwrap();
        let mut other = self.other();
        other.send(&["FLUX", "BACKUP", path.to_str().unwrap()]).unwrap();
        self.kept.push(other);
    }

    fn drop_and_read(&mut self) {
        self.call(&["SET", "dropped", &"x".repeat(1 << 20)]);
        self.call(&["DEBUG", "SPILL"]);
        self.call(&["GET", "dropped"]);
    }

    fn pipeline(&mut self) {
        (0..50).for_each(|_| self.main.send(&["PING"]).unwrap());
        (0..50).for_each(|_| drop(self.main.read().unwrap()));
    }

    fn be_too_many(&mut self) {
        self.set("maxclients", "1");
        self.raw(b"");
    }

    fn expire(&mut self) {
        for number in 0..100 {
            self.call(&["SET", &format!("short:{number}"), "value", "PX", "1"]);
        }
    }

    fn expire_fields(&mut self) {
        for number in 0..20 {
            let key = format!("hash:{number}");
            self.call(&["HSET", &key, "field", "value", "other", "value"]);
            self.call(&["HPEXPIRE", &key, "1", "FIELDS", "1", "field"]);
        }
    }

    /// Ever more, until there are more than a round can take.
    fn expire_many(&mut self) {
        let before = self.call(&["DBSIZE"]);
        self.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        let count = 5000 << self.tries.min(5);
        for number in 0..count {
            self.main.send(&["SET", &format!("short:{number}"), "value", "PX", "1"]).unwrap();
            if number % 100 == 99 {
                (0..100).for_each(|_| drop(self.main.read().unwrap()));
            }
        }
        self.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]);
        until("all that is over is removed", || self.call(&["DBSIZE"]) == before);
    }

    fn evict(&mut self) {
        self.populate();
        self.set("maxmemory-policy", "allkeys-random");
        self.set("maxmemory", "1mb");
        // There may be too little that can go.
        let _ = self.main.call(&["SET", "one", "more"]).unwrap();
    }

    fn exceed(&mut self) {
        self.set("maxmemory-policy", "noeviction");
        if self.tries == 0 {
            self.call(&["SET", "filling", &"x".repeat(4 << 20)]);
        }
        self.set("maxmemory", "1mb");
    }

    fn look_up(&mut self) {
        self.call(&["SET", "there", "value"]);
        self.call(&["GET", "there"]);
        self.call(&["GET", "missing"]);
    }

    fn ask_too_much(&mut self) {
        self.set("client-query-buffer-limit", "1mb");
        let mut bytes = b"*2\r\n$3\r\nGET\r\n$9000000\r\n".to_vec();
        bytes.resize(4 << 20, b'x');
        self.raw(&bytes);
    }

    fn read_too_little(&mut self) {
        self.set("client-output-buffer-limit", "normal 500000 0 0");
        self.leave_unread();
    }

    fn fetch_much(&mut self) {
        self.call(&["SET", "large", &"x".repeat(1 << 20)]);
        self.call(&["GET", "large"]);
    }

    fn be_slow(&mut self) {
        self.set("slowlog-log-slower-than", "1000");
        self.call(&["DEBUG", "SLEEP", "0.002"]);
    }
}

/// A server's fields as section, name and value.
fn fields(connection: &mut Connection) -> Vec<(String, String, String)> {
    let Reply::Bulk('$', text) = connection.call(&["INFO", "everything"]).unwrap() else { panic!("INFO answers with text") };
    let text = String::from_utf8(text).unwrap();
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.split("\r\n") {
        match (line.strip_prefix("# "), line.split_once(':')) {
            (Some(title), _) => section = title.to_owned(),
            (None, Some((name, value))) => found.push((section.clone(), name.to_owned(), value.to_owned())),
            (None, None) => assert!(line.is_empty(), "{line}"),
        }
    }
    found
}

/// Numbers by how they are written: whole, with so many digits behind the point, in percent, or with a unit. None for words.
fn shape(value: &str) -> Option<String> {
    let rest = value.strip_prefix('-').unwrap_or(value);
    let number = rest.trim_end_matches(['B', 'K', 'M', 'G', '%']);
    let (whole, digits) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !whole.is_empty() && [whole, digits].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let unit = match &rest[number.len()..] {
        "%" => "%",
        "" => "",
        // Bytes below a kilobyte have no point.
        _ => return is_number.then(|| "for people".to_owned()),
    };
    is_number.then(|| format!("9.{}{unit}", "9".repeat(digits.len())))
}

/// What Redis shows, it shows on either server after the same commands, in the same order and written alike.
#[test]
fn every_field_of_redis_is_there_and_written_as_there() {
    let Some(redis) = Process::redis(&["--appendonly", "yes"]) else { return };
    let flux = Process::flux(&[]);
    let [theirs, ours] = [&redis, &flux].map(|server| {
        let mut connection = server.connect();
        for words in [&["SET", "key", "value", "EX", "100"][..], &["GET", "key"], &["NOPE"], &["INFO"]] {
            connection.call(words).unwrap();
        }
        fields(&mut connection)
    });
    for (section, name, value) in &theirs {
        let ours = ours.iter().find(|(our_section, our_name, _)| (our_section, our_name) == (section, name));
        let Some((.., our_value)) = ours else { panic!("{section} has no {name}, which Redis shows as {value}") };
        let is_word = name.ends_with("_version") || name == "redis_build_id";
        if let Some(shape_there) = shape(value).filter(|_| !is_word) {
            assert_eq!(shape(our_value), Some(shape_there), "{name} is {our_value} here and {value} there");
        }
    }
    let sections = |fields: &[(String, String, String)], known: &[(String, String, String)]| {
        let mut sections: Vec<String> = fields.iter().map(|(section, ..)| section.clone()).collect();
        sections.dedup();
        sections.retain(|section| known.iter().any(|(known, ..)| known == section));
        sections
    };
    assert_eq!(sections(&ours, &theirs), sections(&theirs, &theirs));
}

#[test]
fn it_is_a_text_in_either_protocol_and_sections_are_chosen_as_in_redis() {
    let servers = [Process::redis(&[]), Some(Process::flux(&[]))];
    for server in servers.into_iter().flatten() {
        let mut connection = server.connect();
        connection.call(&["SET", "key", "value"]).unwrap();
        let mut titles = |words: &[&str], kind: char| {
            let Reply::Bulk(found, text) = connection.call(words).unwrap() else { panic!("a text") };
            assert_eq!(found, kind);
            let text = String::from_utf8(text).unwrap();
            let text = text.strip_prefix("txt:").unwrap_or(&text);
            text.lines().filter_map(|line| line.strip_prefix("# ").map(str::to_owned)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(titles(&["INFO", "clients", "SERVER", "nothing"], '$'), "Server Clients");
        assert_eq!(titles(&["INFO", "nothing"], '$'), "");
        assert_eq!(titles(&["INFO", ""], '$'), "");
        assert_eq!(titles(&["INFO", "default"], '$'), titles(&["INFO"], '$'));
        let everything = titles(&["INFO", "everything"], '$');
        assert_eq!(titles(&["INFO", "all"], '$'), everything.trim_end_matches(" Peers"), "rooms tell theirs as modules do");
        assert_eq!(titles(&["INFO", "keyspace", "cpu", "cpu"], '$'), "CPU Keyspace");
        assert_eq!(titles(&["INFO", "default", "latencystats"], '$').matches("Latencystats").count(), 1);
    }
    let flux = Process::flux(&[]);
    let mut connection = flux.connect();
    connection.call(&["HELLO", "3"]).unwrap();
    assert!(matches!(connection.call(&["INFO"]).unwrap(), Reply::Bulk('=', text) if text.starts_with(b"txt:# Server\r\n")));
}

/// Names that redis_exporter reads and Redis 8.0 shows, beyond those of 7.0.
const LATER: &[&str] = &[
    "acl_access_denied_auth",
    "acl_access_denied_channel",
    "acl_access_denied_cmd",
    "acl_access_denied_key",
    "allocator_muzzy",
    "avg_pipeline_length",
    "avg_pipeline_length_cnt",
    "avg_pipeline_length_sum",
    "backup_in_progress",
    "client_output_buffer_limit_disconnections",
    "client_query_buffer_limit_disconnections",
    "eventloop_cycles",
    "eventloop_cycles_with_clients_processing",
    "eventloop_duration_cmd_sum",
    "eventloop_duration_sum",
    "evicted_scripts",
    "expired_fields",
    "expired_keys_with_volatile_items_stale_perc",
    "expired_subkeys",
    "instantaneous_eventloop_cycles_per_sec",
    "instantaneous_eventloop_duration_usec",
    "io_thread_0",
    "listener0",
    "mem_overhead_db_hashtable_rehashing",
    "mem_replica_full_sync_buffer",
    "pubsub_clients",
    "slowlog_commands_count",
    "slowlog_commands_time_ms_max",
    "slowlog_commands_time_ms_sum",
    "total_blocking_keys",
    "total_blocking_keys_on_nokey",
    "total_client_processing_events",
    "total_watched_keys",
    "used_active_time_main_thread",
    "watching_clients",
];

/// Names of Redis 7 that redis_exporter reads.
const EXPORTED: &[&str] = &[
    "active_defrag_hits",
    "active_defrag_key_hits",
    "active_defrag_key_misses",
    "active_defrag_misses",
    "active_defrag_running",
    "allocator_active",
    "allocator_allocated",
    "allocator_frag_bytes",
    "allocator_frag_ratio",
    "allocator_resident",
    "allocator_rss_bytes",
    "allocator_rss_ratio",
    "aof_base_size",
    "aof_buffer_length",
    "aof_current_rewrite_time_sec",
    "aof_current_size",
    "aof_delayed_fsync",
    "aof_enabled",
    "aof_last_bgrewrite_status",
    "aof_last_cow_size",
    "aof_last_rewrite_time_sec",
    "aof_last_write_status",
    "aof_pending_bio_fsync",
    "aof_pending_rewrite",
    "aof_rewrite_in_progress",
    "aof_rewrite_scheduled",
    "async_loading",
    "blocked_clients",
    "client_recent_max_input_buffer",
    "client_recent_max_output_buffer",
    "clients_in_timeout_table",
    "cluster_connections",
    "cluster_enabled",
    "configured_hz",
    "connected_clients",
    "connected_slaves",
    "current_eviction_exceeded_time",
    "dump_payload_sanitizations",
    "evicted_clients",
    "evicted_keys",
    "expire_cycle_cpu_milliseconds",
    "expired_keys",
    "expired_stale_perc",
    "expired_time_cap_reached_count",
    "hz",
    "io_threaded_reads_processed",
    "io_threaded_writes_processed",
    "io_threads_active",
    "keyspace_hits",
    "keyspace_misses",
    "latest_fork_usec",
    "lazyfree_pending_objects",
    "lazyfreed_objects",
    "loading",
    "master_repl_offset",
    "master_replid",
    "maxclients",
    "maxmemory",
    "maxmemory_policy",
    "mem_aof_buffer",
    "mem_clients_normal",
    "mem_clients_slaves",
    "mem_cluster_links",
    "mem_fragmentation_bytes",
    "mem_fragmentation_ratio",
    "mem_not_counted_for_evict",
    "mem_replication_backlog",
    "mem_total_replication_buffers",
    "migrate_cached_sockets",
    "module_fork_in_progress",
    "module_fork_last_cow_size",
    "number_of_cached_scripts",
    "number_of_functions",
    "number_of_libraries",
    "os",
    "process_id",
    "pubsub_channels",
    "pubsub_patterns",
    "pubsubshard_channels",
    "rdb_bgsave_in_progress",
    "rdb_changes_since_last_save",
    "rdb_current_bgsave_time_sec",
    "rdb_last_bgsave_status",
    "rdb_last_bgsave_time_sec",
    "rdb_last_cow_size",
    "rdb_last_load_keys_expired",
    "rdb_last_load_keys_loaded",
    "rdb_last_save_time",
    "rdb_saves",
    "redis_build_id",
    "redis_mode",
    "redis_version",
    "rejected_connections",
    "repl_backlog_active",
    "repl_backlog_first_byte_offset",
    "repl_backlog_histlen",
    "repl_backlog_size",
    "reply_buffer_expands",
    "reply_buffer_shrinks",
    "role",
    "run_id",
    "second_repl_offset",
    "slave_expires_tracked_keys",
    "sync_full",
    "sync_partial_err",
    "sync_partial_ok",
    "tcp_port",
    "total_commands_processed",
    "total_connections_received",
    "total_error_replies",
    "total_eviction_exceeded_time",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "total_net_repl_input_bytes",
    "total_net_repl_output_bytes",
    "total_reads_processed",
    "total_system_memory",
    "total_writes_processed",
    "tracking_clients",
    "tracking_total_items",
    "tracking_total_keys",
    "tracking_total_prefixes",
    "unexpected_error_replies",
    "uptime_in_seconds",
    "used_cpu_sys",
    "used_cpu_sys_children",
    "used_cpu_sys_main_thread",
    "used_cpu_user",
    "used_cpu_user_children",
    "used_cpu_user_main_thread",
    "used_memory",
    "used_memory_dataset",
    "used_memory_functions",
    "used_memory_lua",
    "used_memory_overhead",
    "used_memory_peak",
    "used_memory_rss",
    "used_memory_scripts",
    "used_memory_scripts_eval",
    "used_memory_startup",
    "used_memory_vm_eval",
    "used_memory_vm_functions",
    "used_memory_vm_total",
];

/// What redis_exporter also knows, and why it is not shown: names, or how they begin.
const NOT_SHOWN: &[(&str, &[&str])] = &[
    ("names before Redis 5, which shows the same under others", &["client_longest_output_list", "client_biggest_input_buf"]),
    ("Redis before 7 gathered changes while it rewrote its file", &["aof_rewrite_buffer_length"]),
    ("a part of Redis 8.8 that counts clients active of late, which would take a walk of all of them", &["active_clients"]),
    (
        "a part of Redis 8.10 that shares the names of fields between hashes",
        &["hash_templates", "hash_template_", "used_memory_hash_templates"],
    ),
    (
        "shown by replicas, or by masters that have some",
        &[
            "slave_",
            "slave0",
            "master_host",
            "master_port",
            "master_link_status",
            "master_last_io_seconds_ago",
            "master_sync_in_progress",
            "replicas_",
            "mem_replicas_repl_buffer",
        ],
    ),
    ("access control lists by database and certificate are Valkey's", &["acl_access_denied_tls_cert", "acl_access_denied_db"]),
    ("there is no TLS", &["tls_"]),
    ("shown where there are engines for scripts (Valkey)", &["engines_", "engine_"]),
    ("threads that only carry bytes are Valkey's; workers are in the section Threads", &["used_active_time_io_thread_"]),
    ("shown by clusters", &["cluster_stats_"]),
    ("shown by Sentinel", &["sentinel_", "master0"]),
    ("Azure's Redis", &["maxmemory_reservation", "maxmemory_desired_reservation", "maxfragmentationmemory_"]),
    (
        "other servers",
        &[
            "tile38_",
            "server_threads",
            "long_lock_waits",
            "current_client_thread",
            "cached_keys",
            "storage_provider_read_",
            "valkey_",
            "server_mode",
            "availability_zone",
        ],
    ),
    ("modules", &["search_", "bf_bloom_", "json_"]),
];

#[test]
fn what_the_exporter_reads_is_there() {
    let flux = Process::flux(&[]);
    let mut connection = flux.connect();
    connection.call(&["SET", "key", "value", "EX", "100"]).unwrap();
    connection.call(&["NOPE"]).unwrap();
    let found = fields(&mut connection);
    for name in EXPORTED.iter().chain(LATER) {
        assert!(found.iter().any(|(_, found, _)| found == name), "{name} is missing");
    }
    for (reason, names) in NOT_SHOWN {
        for name in *names {
            let shown = found.iter().find(|(_, found, _)| found.starts_with(name) && !EXPORTED.contains(&found.as_str()));
            assert!(shown.is_none(), "{shown:?} is shown, though it should not be: {reason}");
        }
    }
    let value = |name: &str| &found.iter().find(|(_, found, _)| found == name).unwrap().2;
    assert!(is_like(value("db0"), "keys=1,expires=1,avg_ttl=…,subexpiry=0"), "{}", value("db0"));
    assert!(is_like(value("cmdstat_set"), "calls=1,usec=…,usec_per_call=…,rejected_calls=0,failed_calls=0"));
    assert!(is_like(value("latency_percentiles_usec_set"), "p50=…,p99=…,p99.9=…"));
    assert_eq!(value("errorstat_ERR"), "count=1");
}

#[test]
fn the_mean_time_to_live_is_a_mean() {
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for number in 0..99 {
        store.call(&[b"SET", format!("short:{number}").as_bytes(), b"value", b"EX", b"100"]);
    }
    // Changed, removed and made lasting: what is gone counts no more.
    store.call(&[b"SET", b"long", b"value", b"EX", b"900000"]);
    store.call(&[b"EXPIRE", b"long", b"10000"]);
    store.call(&[b"SET", b"gone", b"value", b"EX", b"900000"]);
    store.call(&[b"DEL", b"gone"]);
    store.call(&[b"SET", b"lasting", b"value", b"EX", b"900000"]);
    store.call(&[b"PERSIST", b"lasting"]);
    let text = String::from_utf8(store.call(&[b"INFO", b"keyspace"])).unwrap();
    let (_, mean) = text.split_once("avg_ttl=").unwrap();
    let mean: u64 = mean.split(',').next().unwrap().parse().unwrap();
    assert!((150_000..=199_000).contains(&mean), "{mean}");
}

#[test]
fn what_was_loaded_is_told() {
    let dir = TempDir::new().unwrap();
    let start = |dir: &Path| Process::flux_in(dir, &["--enable-debug-command", "yes"]);
    let server = start(dir.path());
    let mut connection = server.connect();
    for words in
        [&["DEBUG", "SET-ACTIVE-EXPIRE", "0"][..], &["SET", "lasting", "value"], &["SET", "short", "value", "PX", "1"], &["SAVE"]]
    {
        connection.call(words).unwrap();
    }
    server.kill();
    drop(server);
    let found = fields(&mut start(dir.path()).connect());
    let value = |name: &str| found.iter().find(|(_, found, _)| found == name).unwrap().2.as_str();
    assert_eq!((value("rdb_last_load_keys_loaded"), value("rdb_last_load_keys_expired")), ("1", "1"));
}

#[test]
fn without_a_folder_there_is_no_journal_to_tell_of() {
    let flux = Flux::in_memory();
    let text = String::from_utf8(flux.blocking().call(&[b"INFO", b"persistence"])).unwrap();
    assert!(
        text.contains("aof_enabled:0\r\n") && !text.contains("aof_current_size") && !text.contains("journal_bytes"),
        "{text}"
    );
}

#[test]
fn statistics_begin_anew_and_what_is_held_does_not() {
    let mut scene = Scene::new();
    scene.send_half();
    scene.fetch_much();
    scene.be_slow();
    scene.set("slowlog-log-slower-than", "-1");
    drop(scene.main.call(&["NOPE"]));
    let held: u64 = scene.value("Memory", "mem_clients_normal").parse().unwrap();
    scene.call(&["CONFIG", "RESETSTAT"]);
    for name in
        ["total_error_replies", "slowlog_commands_count", "reply_buffer_shrinks", "expired_keys", "total_connections_received"]
    {
        assert_eq!(scene.value("Stats", name), "0", "{name}");
    }
    assert!(held >= 100_000 && scene.value("Memory", "mem_clients_normal").parse::<u64>().unwrap() >= 100_000);
    // And once those who held it are gone, so is what was held.
    scene.half.clear();
    let deadline = Instant::now() + PATIENCE;
    while scene.value("Memory", "mem_clients_normal").parse::<u64>().unwrap() >= 100_000 {
        assert!(Instant::now() < deadline);
    }
}
