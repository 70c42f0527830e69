//! Routes that are open to everybody, and that what they tell is what happened.

use std::sync::atomic::Ordering::Relaxed;

use flux::http::metrics;

use super::{Door, Events, ask};
use crate::process::{Process, until};

#[test]
fn every_route_answers_and_others_do_not() {
    let door = Door::open(&[]);
    let (code, index) = door.get("/");
    assert_eq!(code, 200);
    for path in ["/health", "/ready", "/metrics"] {
        assert!(index.contains(path), "{index}");
        assert_eq!(door.get(path).0, 200, "{path}");
    }
    assert_eq!(door.get("/nothing").0, 404);
}

#[test]
fn it_is_not_ready_while_it_ends() {
    let door = Door::open(&[]);
    door.instance.is_ending.store(true, Relaxed);
    let (code, reason) = door.get("/ready");
    assert!(code == 503 && reason.contains("ending"), "{code} {reason}");
    assert_eq!(door.get("/health").0, 200);
}

#[test]
fn metrics_tell_what_happened() {
    let door = Door::open(&[]);
    door.instance.reset_statistics();
    door.instance.engine.each_shard(|_, shard| shard.reset_counts());
    door.instance.stats.is_tracking.store(true, Relaxed);
    let mut store = door.store();
    store.call(&[b"SET", b"key", b"value"]);
    store.call(&[b"GET", b"key"]);
    store.call(&[b"GET", b"other"]);
    store.call(&[b"LPUSH", b"key", b"element"]);
    let (_, text) = door.get("/metrics");
    for line in [
        "flux_keys{db=\"0\"} 1",
        "flux_keyspace_hits_total 1",
        "flux_keyspace_misses_total 1",
        "flux_command_seconds_count{command=\"get\"} 2",
        "flux_command_seconds_bucket{command=\"get\",le=\"+Inf\"} 2",
        "flux_commands_failed_total{command=\"lpush\"} 1",
        "flux_errors_total{code=\"WRONGTYPE\"} 1",
        "flux_clients 1",
        "flux_changes_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
    // Every number is announced before it comes, and is one.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {base} ")) || text.contains(&format!("# TYPE {name} ")), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn metrics_tell_of_peers_and_calls() {
    let door = Door::open(&[]);
    let (mut peer, mut caller) = (door.store(), door.store());
    peer.call(&[b"FLUX.REGISTER", br#"{"id":"p","name":"p","capabilities":[{"name":"f"},{"name":"g"}]}"#]);
    caller.call(&[b"FLUX.REGISTER", br#"{"id":"c","name":"c"}"#]);
    caller.call(&[b"FLUX.CALL", b"f", b"1", b"ASYNC", b"ID", b"one"]);
    caller.call(&[b"FLUX.CALL", b"f", b"2", b"ASYNC", b"ID", b"two"]);
    peer.call(&[b"FLUX.NEXT", b"COUNT", b"2"]);
    peer.call(&[b"FLUX.REPLY", b"one", b"ERROR", b"no"]);
    let (_, text) = door.get("/metrics");
    for line in [
        "flux_peers 2",
        "flux_peers_old 0",
        "flux_capabilities 2",
        "flux_calls_queued 0",
        "flux_calls_running 1",
        "flux_calls_total 2",
        "flux_calls_failed_total 1",
        "flux_calls_rerouted_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
}

/// Numbers that INFO and `/metrics` both tell, by both names; those of INFO that only a restart or time moves are left out.
const TOLD_TWICE: &[(&str, &str)] = &[
    ("connected_clients", "flux_clients"),
    ("blocked_clients", "flux_clients_blocked"),
    ("clients_in_timeout_table", "flux_clients_blocked_for_a_time"),
    ("pubsub_clients", "flux_clients_listening"),
    ("watching_clients", "flux_clients_watching"),
    ("total_watched_keys", "flux_keys_watched"),
    ("total_blocking_keys", "flux_keys_awaited"),
    ("maxmemory", "flux_memory_max_bytes"),
    ("total_connections_received", "flux_connections_total"),
    ("rejected_connections", "flux_connections_rejected_total"),
    ("expired_keys", "flux_keys_expired_total"),
    ("expired_subkeys", "flux_fields_expired_total"),
    ("expired_time_cap_reached_count", "flux_expiry_capped_total"),
    ("evicted_keys", "flux_keys_evicted_total"),
    ("keyspace_hits", "flux_keyspace_hits_total"),
    ("keyspace_misses", "flux_keyspace_misses_total"),
    ("pubsub_channels", "flux_pubsub_channels"),
    ("pubsub_patterns", "flux_pubsub_patterns"),
    ("pubsubshard_channels", "flux_pubsub_shard_channels"),
    ("total_error_replies", "flux_error_replies_total"),
    ("acl_access_denied_auth", "flux_logins_denied_total"),
    ("client_query_buffer_limit_disconnections", "flux_clients_cut_by_query_total"),
    ("client_output_buffer_limit_disconnections", "flux_clients_cut_by_output_total"),
    ("slowlog_commands_count", "flux_slow_commands_total"),
    ("lazyfreed_objects", "flux_objects_freed_total"),
    ("lazyfree_pending_objects", "flux_objects_to_free"),
    ("rdb_changes_since_last_save", "flux_changes_unsaved"),
];

/// Those that move while one looks.
const METRICS_THAT_MOVE: &[&str] = &[
    "flux_uptime_seconds",
    "flux_commands_processed_total",
    "flux_read_bytes_total",
    "flux_written_bytes_total",
    "flux_reads_total",
    "flux_writes_total",
    "flux_request_longest_bytes",
    "flux_reply_longest_bytes",
    "flux_reply_buffers_grown_total",
    "flux_reply_buffers_shrunk_total",
    "flux_worker_wakes_total",
    "flux_worker_seconds_total",
    "flux_memory_used_bytes",
    "flux_memory_peak_bytes",
    "flux_memory_resident_bytes",
    "flux_memory_committed_bytes",
    "flux_memory_overhead_bytes",
    "flux_memory_client_buffers_bytes",
    "flux_memory_exceeded_seconds_total",
    "flux_cpu_user_seconds_total",
    "flux_cpu_system_seconds_total",
    "flux_expiry_seconds_total",
    "flux_slow_commands_seconds_total",
    "flux_journal_bytes",
    "flux_journal_unsynced_bytes",
    "flux_journal_slow_syncs_total",
    "flux_journal_commits_total",
    "flux_checkpoints_total",
    "flux_checkpoints_failed",
];

#[test]
fn metrics_and_info_tell_the_same() {
    let door = Door::open(&[("maxmemory", "3gb"), ("requirepass", "secret"), ("slowlog-log-slower-than", "1000")]);
    let mut store = door.store();
    let mut other = door.store();
    for words in [
        &["SET", "key", "value"][..],
        &["GET", "key"],
        &["GET", "missing"],
        &["WATCH", "key"],
        &["AUTH", "wrong"],
        &["NOPE"],
        &["SUBSCRIBE", "channel"],
    ] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        other.call(&words);
    }
    let info = String::from_utf8(store.call(&[b"INFO"])).unwrap();
    let bearer = [("Authorization", "Bearer secret")];
    let metrics = door.ask("GET", "/metrics", &bearer, "").body;
    // What moved meanwhile was one or the other.
    let later = String::from_utf8(store.call(&[b"INFO"])).unwrap();
    let value = |text: &str, name: &str, gap: char| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(gap).map(str::to_owned));
        value.unwrap_or_else(|| panic!("there is no {name} in:\n{text}"))
    };
    for (field, metric) in TOLD_TWICE {
        let told = [value(&info, field, ':'), value(&later, field, ':')];
        assert!(told.contains(&value(&metrics, metric, ' ')), "{field} and {metric}: {told:?}");
    }
    METRICS_THAT_MOVE.iter().for_each(|metric| assert!(value(&metrics, metric, ' ').parse::<f64>().is_ok(), "{metric}"));
}

/// A line of a number, as Prometheus reads it: the name, the labels, and the value.
fn parsed(line: &str) -> Option<(&str, Vec<(&str, String)>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest));
    let is_name = |text: &str| {
        let is_letter = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
        text.starts_with(is_letter) && text.chars().all(|letter| is_letter(letter) || letter.is_ascii_digit())
    };
    let mut labels = Vec::new();
    while !rest.is_empty() && rest != "}" {
        let (label, after) = rest.split_once("=\"")?;
        let (mut text, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => match letters.next()?.1 {
                    'n' => text.push('\n'),
                    letter @ ('\\' | '"') => text.push(letter),
                    _ => return None,
                },
                (_, letter) => text.push(letter),
            }
        };
        labels.push((label, text));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    let is_whole = series.contains('{') == (rest == "}") && is_name(name) && labels.iter().all(|(label, _)| is_name(label));
    Some((name, labels, value.parse().ok()?)).filter(|_| is_whole)
}

#[test]
fn every_row_is_told_once_and_prometheus_reads_it() {
    let server = Process::flux(&[]);
    let mut client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap().get_connection().unwrap();
    let _ = redis::cmd("EVAL").arg("return redis.error_reply('ODD\\\\\"} 1 x')").arg(0).query::<()>(&mut client);
    redis::cmd("SET").arg("key").arg("value").exec(&mut client).unwrap();
    let address = ([127, 0, 0, 1], server.http_port()).into();
    let _ = ask(address, "GET", "/metrics", &[], "");
    let text = ask(address, "GET", "/metrics", &[], "").body;
    let instance = Door::open(&[]).instance.clone();
    let page = metrics::markdown(&instance);
    let names: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    assert!(names.len() > 80, "{page}");
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} is the name of two rows");
        for head in [format!("# HELP {name} "), format!("# TYPE {name} ")] {
            assert_eq!(text.lines().filter(|line| line.starts_with(&head)).count(), 1, "{head}in:\n{text}");
        }
    }
    let mut announced = "";
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            announced = head.split(' ').nth(1).unwrap();
            continue;
        }
        let (name, ..) = parsed(line).unwrap_or_else(|| panic!("this is no number: {line}"));
        let part = name.strip_prefix(announced).unwrap_or_else(|| panic!("{line} stands under {announced}"));
        assert!(["", "_bucket", "_sum", "_count"].contains(&part) && names.contains(&announced), "{line}");
    }
    let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok());
    assert_eq!(value("flux_http_requests_total{route=\"/metrics\",status=\"2xx\"}"), Some(1.0), "{text}");
    let ran = ["0", "1"].map(|worker| value(&format!("flux_worker_commands_total{{worker=\"{worker}\"}}")).unwrap());
    assert!(value("flux_journal_files") >= Some(1.0) && ran.iter().sum::<f64>() >= 2.0, "{text}");
}

#[test]
fn metrics_tell_of_requests_streams_and_refusals() {
    let door = Door::open(&[]);
    let events = Events::ask(&door, "GET", "/workspaces/alpha/events", &[], "").connected();
    door.get("/workspaces/alpha/ctx/none");
    door.get("/somewhere");
    door.get("/somewhere/else");
    door.ask("GET", "/peers", &[("Origin", "https://evil.example")], "");
    let text = || door.get("/metrics").1;
    for line in [
        "flux_http_requests_total{route=\"/workspaces/{workspace}/ctx/{key}\",status=\"4xx\"} 1",
        "flux_http_requests_total{route=\"/workspaces/{workspace}/events\",status=\"2xx\"} 1",
        "flux_http_requests_total{route=\"/peers\",status=\"4xx\"} 1",
        "flux_http_requests_total{route=\"none\",status=\"4xx\"} 2",
        "flux_http_refused_total 1",
        "flux_http_streams 1",
    ] {
        assert!(text().lines().any(|found| found == line), "{line} is missing in:\n{}", text());
    }
    drop(events);
    until("the stream is gone", || text().contains("flux_http_streams 0\n"));
}

#[test]
fn the_status_shows_who_lives_beside_the_clients() {
    let door = Door::open(&[]);
    let status: serde_json::Value = serde_json::from_str(&door.get("/status").1).unwrap();
    let rows = status["lifecycle"].as_array().unwrap();
    let http = rows.iter().find(|row| row["name"] == "http").unwrap();
    let expected = serde_json::json!({
        "name": "http", "kind": "thread", "state": "running", "phase": "last", "on_death": "end_process", "restarts": 0, "pid": null, "last_error": null
    });
    assert_eq!((http, &status["peers"]), (&expected, &0.into()));
}
