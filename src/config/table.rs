//! The settings of the house that have an effect: one row each. Those of a room are listed by the room.

use crate::config::rule;
use crate::config::setting::{Kind, Section, bytes, choice, number, setting, switch, text};
use crate::version::REDIS_VERSION;

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;
const MB: i64 = 1 << 20;

macro_rules! settings {
    ($($title:literal { $($name:ident = $setting:expr;)* })*) => {
        /// The settings of the house that have an effect, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(dead_code, reason = "what is fixed nobody asks for")]
        #[repr(usize)]
        pub(crate) enum Name {
            $($($name,)*)*
        }

        pub(super) const SECTIONS: &[Section] = &[$(Section { title: $title, settings: &[$($setting,)*] },)*];
    };
}

settings! {
    "Network" {
        Bind = setting("bind", "127.0.0.1 -::1", Kind::Rule(rule::bind))
            .at_start_because("Failed to bind to specified addresses: they can only be chosen at start")
            .help("Addresses to listen on, spaces between them; `*` is all, `-` before one makes it optional.");
        Port = setting("port", "6379", Kind::Port)
            .at_start_because("Unable to listen on this port: it can only be chosen at start")
            .help("TCP port for Redis clients; 0 takes any free one, `off` none.");
        Unixsocket = text("unixsocket", "").fixed().help("Path of a unix socket to listen on as well; empty for none.");
        Unixsocketperm = setting("unixsocketperm", "0", Kind::Octal { max: 0o777 })
            .fixed()
            .help("Permissions of the unix socket in octal; 0 leaves them to the umask.");
        HttpPort = setting("http-port", "3000", Kind::Port)
            .at_start()
            .help(
                "TCP port for HTTP: peers, MCP, RESP over WebSocket, metrics; 0 takes any free one, `off` none. Where nobody chose it and it \
                 is taken, the server goes on without HTTP, and says so.",
            );
        HttpBind = setting("http-bind", "127.0.0.1 -::1", Kind::Rule(rule::bind))
            .at_start()
            .help("Addresses for HTTP, written as for `bind`.");
        HttpOrigins = setting("http-origins", "", Kind::Rule(rule::origins))
            .help("Origins of web pages that may use HTTP, such as https://app.example.com; those of this machine and this host always may.");
        ProtectedMode = switch("protected-mode", "yes")
            .help("Refuses to listen beyond this machine while there is no password.");
        Requirepass = setting("requirepass", "", Kind::Secret)
            .help("The password clients must give; empty for none.");
        TcpBacklog = number("tcp-backlog", "511", 0, INT).fixed().help("Connections the system may queue before they are accepted.");
        TcpKeepalive = number("tcp-keepalive", "300", 0, INT)
            .help("Seconds of silence after which the system asks whether a client is still there; 0 never asks.");
    }
    "Clients" {
        Maxclients = number("maxclients", "10000", 1, u32::MAX as i64).help("How many clients may be connected at once.");
        Timeout = number("timeout", "0", 0, INT).help("Seconds after which an idle client is disconnected; 0 is never.");
        ProtoMaxBulkLen = bytes("proto-max-bulk-len", "512mb", MB, LONG).help("Largest single argument of a request.");
        ClientQueryBufferLimit = bytes("client-query-buffer-limit", "1gb", MB, LONG)
            .help("How much a client may have sent that is not carried out: an unfinished request, or what waits for EXEC.");
        ClientOutputBufferLimit = setting(
            "client-output-buffer-limit",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            Kind::Rule(rule::shown_output_limits),
        )
        .help("Class, hard limit, soft limit and seconds: how much may wait for a slow reader before it is cut; 0 is no limit.");
    }
    "Memory" {
        Maxmemory = bytes("maxmemory", "0", 0, LONG)
            .help("Memory the data may take before keys are evicted or writes refused; 0 is no limit.");
        MaxmemoryPolicy = choice("maxmemory-policy", "noeviction", &[
            "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
            "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction",
        ])
        .help("Which keys go when `maxmemory` is reached: those with an expiry (volatile) or all, and by which rule.");
        MaxmemorySamples = number("maxmemory-samples", "5", 1, INT)
            .help("Keys compared to find one to evict: more is more exact and slower.");
        MemoryLimit = bytes("memory-limit", "0", 0, LONG)
            .help("Memory above which values that rest on disk are dropped from memory until they are used again; 0 keeps all.");
        LfuLogFactor = number("lfu-log-factor", "10", 0, INT)
            .help("How many uses it takes to raise a key's use counter; higher tells busy keys apart.");
        LfuDecayTime = number("lfu-decay-time", "1", 0, INT).help("Minutes after which a key's use counter falls by one; 0 is never.");
    }
    "Durability" {
        Data = setting("data", "./state", Kind::Rule(rule::folder))
            .aliases(&["dir"])
            .at_start_because("can't set protected config")
            .help("Folder that holds the data; `off` keeps it in memory only.");
        Appendfsync = choice("appendfsync", "everysec", &["everysec", "always", "no"])
            .help("When writes reach the disk: before the reply (always), within a second (everysec), when the system likes (no).");
        CheckpointBytes = bytes("checkpoint-bytes", "128mb", MB, LONG)
            .help("Size of the journal at which a checkpoint folds it into the tables.");
        CheckpointInterval = number("checkpoint-interval", "300", 1, INT)
            .help("Seconds after which a checkpoint is made whatever the size of the journal.");
        KeyLoadDelay = number("key-load-delay", "0", -INT - 1, INT)
            .hidden()
            .help("Microseconds that each key takes to load, for tests of what clients do meanwhile; of a negative number, one for so many keys.");
        Databases = number("databases", "16", 16, 16).fixed().help("How many databases there are; always 16.");
    }
    "Data structures" {
        HashMaxListpackEntries = number("hash-max-listpack-entries", "512", 0, LONG)
            .aliases(&["hash-max-ziplist-entries"])
            .help("Fields up to which a hash is kept packed.");
        HashMaxListpackValue = bytes("hash-max-listpack-value", "64", 0, LONG)
            .aliases(&["hash-max-ziplist-value"])
            .help("Bytes of a field or value up to which a hash is kept packed.");
        SetMaxIntsetEntries = number("set-max-intset-entries", "512", 0, LONG)
            .help("Members up to which a set of integers is kept as sorted numbers.");
        SetMaxListpackEntries = number("set-max-listpack-entries", "128", 0, LONG).help("Members up to which a set is kept packed.");
        SetMaxListpackValue = bytes("set-max-listpack-value", "64", 0, LONG).help("Bytes of a member up to which a set is kept packed.");
        ZsetMaxListpackEntries = number("zset-max-listpack-entries", "128", 0, LONG)
            .aliases(&["zset-max-ziplist-entries"])
            .help("Members up to which a sorted set is kept packed.");
        ZsetMaxListpackValue = bytes("zset-max-listpack-value", "64", 0, LONG)
            .aliases(&["zset-max-ziplist-value"])
            .help("Bytes of a member up to which a sorted set is kept packed.");
        ListMaxListpackSize = number("list-max-listpack-size", "-2", -INT - 1, INT)
            .aliases(&["list-max-ziplist-size"])
            .help("Elements per packed node of a list, or from -1 to -5 its size from 4 kb to 64 kb.");
        ListCompressDepth = number("list-compress-depth", "0", 0, INT)
            .help("Nodes at each end of a list that stay uncompressed; remembered only, as no list is compressed.");
        HllSparseMaxBytes = bytes("hll-sparse-max-bytes", "3000", 0, LONG).help("Bytes up to which a HyperLogLog is kept sparse.");
        StreamNodeMaxBytes = bytes("stream-node-max-bytes", "4096", 0, LONG).help("Bytes of a stream's node; 0 is no limit.");
        StreamNodeMaxEntries = number("stream-node-max-entries", "100", 0, LONG).help("Entries of a stream's node; 0 is no limit.");
    }
    "Scripts" {
        BusyReplyThreshold = number("busy-reply-threshold", "5000", 0, LONG)
            .aliases(&["lua-time-limit"])
            .help("Milliseconds after which a script takes too long: other clients get `BUSY` then, and may kill it; 0 is never.");
        ScriptMemoryLimit = bytes("script-memory-limit", "64mb", MB, 1024 * MB)
            .help("Memory that a script may take beyond what was there before it; more is an error to its client.");
    }
    "Watching" {
        Loglevel = choice("loglevel", "notice", &["debug", "verbose", "notice", "warning"]).help("How much is logged, to standard error.");
        LogFormat = choice("log-format", "text", &["text", "json"]).at_start().help("How the log is written: lines for people, or a JSON object on each line.");
        SlowlogLogSlowerThan = number("slowlog-log-slower-than", "10000", -1, LONG)
            .help("Microseconds above which a command goes into the slow log; 0 logs all, -1 none.");
        SlowlogMaxLen = number("slowlog-max-len", "128", 0, LONG).help("Entries the slow log keeps.");
        LatencyMonitorThreshold = number("latency-monitor-threshold", "0", 0, LONG)
            .help("Milliseconds above which `LATENCY` notes an event; 0 notes none.");
        LatencyTracking = switch("latency-tracking", "yes").help("Whether a histogram of times is kept for each command.");
        LatencyTrackingInfoPercentiles = setting("latency-tracking-info-percentiles", "50 99 99.9", Kind::Rule(rule::shown_percentiles))
            .help("Percentiles that `INFO latencystats` shows.");
        TrackingTableMaxKeys = number("tracking-table-max-keys", "1000000", 0, LONG)
            .help("Keys of which it is remembered who read them (`CLIENT TRACKING`); beyond, one is forgotten and its readers are told. 0 for no bound.");
        NotifyKeyspaceEvents = setting("notify-keyspace-events", "", Kind::Rule(rule::events))
            .help("Which changes to keys are published: K and E for the channels, then letters for the classes, A for all.");
    }
    "Running" {
        Threads = number("threads", "0", 0, 1024).at_start().help("Threads that serve clients; 0 is one less than there are cores, at least one.");
        EnableDebugCommand = choice("enable-debug-command", "no", &["no", "yes", "local"])
            .fixed()
            .help("Who may use `DEBUG`: nobody, everybody, or clients on this machine.");
        EnableBackupCommand = choice("enable-backup-command", "local", &["no", "yes", "local"])
            .at_start()
            .help("Who may use `FLUX BACKUP`, which writes a file on the server's machine: nobody, everybody, or clients on that machine.");
        ClaimedVersion = setting("claimed-version", REDIS_VERSION, Kind::Rule(rule::version))
            .help("Version of Redis that `INFO` and `HELLO` claim: clients switch features on and off by it. Commands do not change.");
        ShutdownTimeout = number("shutdown-timeout", "10", 0, INT).help("Seconds that clients get to take their replies when the server stops.");
        MinReplicasToWrite = number("min-replicas-to-write", "0", 0, INT)
            .aliases(&["min-slaves-to-write"])
            .help("Writes are refused while fewer replicas are connected; there are none, so any number but 0 makes the server read-only.");
    }
}
