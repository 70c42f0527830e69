//! Routes that are open to everybody, and that what they tell is what happened.

use std::sync::atomic::Ordering::Relaxed;

use super::Door;

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
