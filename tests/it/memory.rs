//! Memory: `maxmemory` with and without a journal, which keys go, who frees large values, and what a transaction may queue.

use std::fs;

use crate::process::{Connection, Process, Reply};

const MB: usize = 1 << 20;

fn count(connection: &mut Connection, words: &[&str]) -> i64 {
    match connection.call(words).unwrap() {
        Reply::Line(line) => line.strip_prefix(':').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}")),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn ok() -> Reply {
    Reply::Line("+OK".into())
}

fn info(connection: &mut Connection, field: &str) -> u64 {
    let Reply::Bulk(_, text) = connection.call(&["INFO"]).unwrap() else { panic!("INFO is a bulk string") };
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_else(|| panic!("no {field}"));
    line.parse().unwrap()
}

/// Waits until a field of INFO is 0: work of another thread, which nothing else tells of.
fn wait_for_none(connection: &mut Connection, field: &str) {
    while info(connection, field) > 0 {}
}

#[test]
fn without_a_journal_large_values_leave_nothing_behind_that_others_must_make_room_for() {
    let flux = Process::flux_in_memory(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = flux.connect();
    let value = vec![b'v'; MB];
    for number in 0..400 {
        assert_eq!(client.call(&[b"SET", format!("k{number}").as_bytes(), &value]).unwrap(), ok(), "{number}");
    }
    assert!((60..=100).contains(&count(&mut client, &["DBSIZE"])));
    assert_eq!(client.call(&["FLUSHALL"]).unwrap(), ok());
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "12mb"]).unwrap(), ok());
    assert_eq!(client.call(&["SET", "a", "b"]).unwrap(), ok(), "an empty server has room for a key");
}

#[test]
fn with_a_journal_what_is_on_its_way_there_costs_no_key() {
    let flux = Process::flux(&["--maxmemory", "30mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = flux.connect();
    let value = vec![b'v'; 20_000];
    let mut least = i64::MAX;
    for round in 0..400 {
        for number in 0..50 {
            let key = format!("key:{}", (round * 50 + number) * 7919 % 5000);
            client.send(&[b"SET", key.as_bytes(), &value[..10 + (number * 397) % 19_990]]).unwrap();
        }
        for _ in 0..50 {
            assert_eq!(client.read().unwrap(), ok());
        }
        if round >= 150 {
            least = least.min(count(&mut client, &["DBSIZE"]));
        }
    }
    let full = count(&mut client, &["DBSIZE"]);
    assert!(least > full / 2, "of {full} keys {least} were left at some moment");
}

#[test]
fn policies_for_keys_that_expire_spare_those_just_read_however_far_off_their_expiry_is() {
    for policy in ["volatile-lru", "volatile-lfu"] {
        let flux = Process::flux_in_memory(&[
            "--maxmemory-policy",
            policy,
            "--maxmemory-samples",
            "10",
            "--enable-debug-command",
            "yes",
        ]);
        let mut client = flux.connect();
        let mut all = |words: &mut dyn Iterator<Item = Vec<String>>| {
            let mut sent = 0;
            for words in words {
                client.send(&words).unwrap();
                sent += 1;
            }
            (0..sent).map(|_| client.read().unwrap()).filter(|reply| *reply != Reply::Line("$-1".into())).count()
        };
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        // Nine in ten are cold and expire within a minute of each other; the others are read, and expire in a year.
        all(&mut (0..9000).map(|number| words(format!("SET cold:{number} {number:0>200} EX {}", 1000 + number % 60))));
        all(&mut (0..1000).map(|number| words(format!("SET hot:{number} {number:0>200} EX 31536000"))));
        all(&mut std::iter::once(words("DEBUG SLEEP 1.1".into())));
        for _ in 0..20 {
            all(&mut (0..1000).map(|number| words(format!("GET hot:{number}"))));
        }
        let used = info(&mut flux.connect(), "used_memory");
        all(&mut std::iter::once(words(format!("CONFIG SET maxmemory {}", used - MB as u64))));
        let mut client = flux.connect();
        assert_eq!(client.call(&["SET", "one", "more"]).unwrap(), ok());
        let evicted = info(&mut client, "evicted_keys");
        assert!((1000..6000).contains(&evicted), "{policy}: {evicted} were evicted");
        let hot = (0..1000).filter(|number| count(&mut client, &["EXISTS", &format!("hot:{number}")]) == 1).count();
        assert!(hot >= 990, "{policy}: {} of 1,000 keys just read were evicted", 1000 - hot);
    }
}

#[test]
fn one_thread_frees_large_values_however_they_go() {
    let flux = Process::flux_in_memory(&[]);
    let mut client = flux.connect();
    let members: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    let mut large = |number: usize| {
        let key = format!("set:{number}");
        let words: Vec<&str> = ["SADD", &key].into_iter().chain(members.iter().map(String::as_str)).collect();
        client.call(&words).unwrap();
    };
    large(0);
    let mut other = flux.connect();
    assert_eq!(count(&mut other, &["UNLINK", "set:0"]), 1);
    let threads = flux.threads();
    for number in 1..=200 {
        large(number);
    }
    for number in 1..=200 {
        let key = format!("set:{number}");
        match number % 4 {
            0 => other.send(&["DEL", &key]),
            1 => other.send(&["SET", &key, "short"]),
            2 => other.send(&["PEXPIREAT", &key, "1"]),
            _ => other.send(&["UNLINK", &key]),
        }
        .unwrap();
    }
    let mut most = 0;
    for _ in 1..=200 {
        other.read().unwrap();
        most = most.max(flux.threads());
    }
    assert_eq!(most, threads, "threads were started for values");
    wait_for_none(&mut other, "lazyfree_pending_objects");
    assert_eq!(info(&mut other, "lazyfreed_objects"), 201);
}

#[test]
fn a_transaction_that_outgrows_the_query_buffer_limit_closes_its_client_as_in_redis_8() {
    let flux = Process::flux_in_memory(&["--client-query-buffer-limit", "1mb"]);
    let (mut client, mut other) = (flux.connect(), flux.connect());
    let value = vec![b'v'; 100_000];
    assert_eq!(client.call(&["MULTI"]).unwrap(), ok());
    let queued = (0..20)
        .take_while(|_| client.call(&[&b"SET"[..], b"k", &value]).is_ok_and(|reply| reply == Reply::Line("+QUEUED".into())));
    assert_eq!(queued.count(), 10);
    assert!(client.call(&["EXEC"]).is_err(), "the client is still connected");
    assert_eq!(count(&mut other, &["EXISTS", "k"]), 0);
}

#[test]
fn replies_nobody_takes_cost_little_more_than_their_bytes_and_are_gone_with_their_client() {
    let flux = Process::flux_in_memory(&[]);
    let mut client = flux.connect();
    let value = vec![b'v'; 10 * MB];
    assert_eq!(client.call(&[b"SET", &b"k"[..], &value]).unwrap(), ok());
    let (used, resident) = (info(&mut client, "used_memory"), flux.resident_bytes());
    let mut reader = flux.connect();
    reader.send(&[&["MGET"][..], &["k"; 14]].concat()).unwrap();
    // Some of it is in the sockets' buffers.
    let reply_bytes = 140 * MB as u64;
    while info(&mut client, "used_memory") < used + reply_bytes * 9 / 10 {}
    let cost = info(&mut client, "used_memory") - used;
    assert!(cost <= reply_bytes * 13 / 10, "{cost} bytes for {reply_bytes}");
    let peak = flux.resident_bytes_max() - resident;
    assert!(peak <= reply_bytes * 13 / 10, "{peak} bytes were resident for {reply_bytes}");
    drop(reader);
    while flux.resident_bytes() > resident + reply_bytes / 4 {}
}

/// As in Redis, a client in `MONITOR` counts as a normal one, which has no bound unless one is set.
#[test]
fn a_monitor_that_reads_nothing_is_closed_at_the_soft_limit_also_when_nothing_more_comes() {
    let flux = Process::flux_in_memory(&["--client-output-buffer-limit", "normal 0 1mb 1"]);
    let (mut monitor, mut client) = (flux.connect(), flux.connect());
    assert_eq!(monitor.call(&["MONITOR"]).unwrap(), ok());
    let value = vec![b'v'; MB];
    for _ in 0..16 {
        assert_eq!(client.call(&[&b"SET"[..], b"k", &value]).unwrap(), ok());
    }
    // What only operators do is shown to nobody, so nothing more comes.
    let mut is_there = || {
        let Reply::Bulk(_, list) = client.call(&["CLIENT", "LIST"]).unwrap() else { panic!("a list") };
        String::from_utf8(list).unwrap().contains("cmd=monitor")
    };
    assert!(is_there());
    while is_there() {}
}

impl Process {
    /// Bytes of memory it takes.
    fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most it has ever taken.
    fn resident_bytes_max(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux shows it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many threads it has.
    fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().count()
    }
}
