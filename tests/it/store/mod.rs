//! The store: the same promises on a keyspace of this process, on a redis-server, and on a cluster of three.

pub mod backend;
mod bodies;

use std::process::Command;
use std::time::Duration;

use flux::commands::identity::{Identity, Only};
use flux::store::{Blocking, Heard, Store, Topics};
use redis::{AsyncCommands, RedisResult, cmd};

use crate::process::Process;
use backend::Backend;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs every body on a keyspace. One thread carries all of it.
fn check_all(backend: Option<Backend>) {
    let Some(backend) = backend else { return };
    for (name, body) in bodies::ALL {
        println!("{name}");
        run(async {
            let done = tokio::time::timeout(Duration::from_secs(60), body(&backend));
            done.await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
    }
}

#[test]
fn it_keeps_its_promises_within_this_process() {
    check_all(Some(Backend::within()));
}

#[test]
fn it_keeps_its_promises_on_a_redis_server() {
    check_all(Backend::redis());
}

#[test]
fn it_keeps_its_promises_on_a_cluster_of_three_masters() {
    check_all(Backend::cluster());
}

#[test]
fn ten_thousand_wait_at_once_on_one_thread_and_each_gets_one() {
    let backend = Backend::within();
    run(async {
        let store = backend.store();
        let waits: Vec<_> = (0..10_000)
            .map(|number: u32| {
                let mut store = store.clone();
                tokio::spawn(async move {
                    let waited: (String, u32) = if number.is_multiple_of(2) {
                        cmd("BLPOP").arg("list").arg(0).query_async(&mut store).await.unwrap()
                    } else {
                        let mut read = cmd("BRPOP");
                        read.arg("other").arg("list").arg(0).query_async(&mut store).await.unwrap()
                    };
                    waited.1
                })
            })
            .collect();
        backend.until_blocked(10_000).await;
        let mut pusher = store.clone();
        for number in 0..10_000_u32 {
            let _: () = pusher.rpush("list", number).await.unwrap();
        }
        let mut got = Vec::new();
        for wait in waits {
            got.push(wait.await.unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, (0..10_000).collect::<Vec<u32>>());
        assert_eq!(backend.blocked(), 0);
    });
}

#[test]
fn a_server_that_is_started_anew_is_found_again() {
    let Some(mut backend) = Backend::redis() else { return };
    run(async {
        let mut store = backend.store();
        let mut messages = store.listen(Topics::channels(["news"])).await.unwrap();
        let _: () = store.set("key", 1).await.unwrap();
        backend.server().restart();
        let found: Option<u32> = store.get("key").await.unwrap();
        assert_eq!(found, None, "it kept nothing");
        assert_eq!(messages.next().await, Some(Heard::Lost(None)));
        // The gap is told once it listens again.
        let heard: u32 = store.publish("news", "back").await.unwrap();
        assert_eq!(heard, 1);
        let Some(Heard::Item(message)) = messages.next().await else { panic!("it was published") };
        assert_eq!(message.payload, b"back");
    });
}

#[test]
fn errors_of_connections_tell_the_address_and_no_password() {
    let port = crate::process::free_port();
    for address in [format!("redis://:secret@127.0.0.1:{port}"), format!("redis+cluster://:secret@127.0.0.1:{port}")] {
        let store = Store::open(&address).unwrap().patience(Duration::ZERO).unwrap();
        let mut asked = store.clone();
        let said = run(async move { asked.get::<_, Option<String>>("key").await }).unwrap_err().to_string();
        assert!(said.contains(&format!("127.0.0.1:{port}")) && !said.contains("secret"), "{said}");
        assert!(!store.address().contains("secret"));
    }
}

#[test]
fn a_server_that_accepts_and_never_answers_is_given_up_after_the_time_that_was_said() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = Store::open(&format!("redis://{}", silent.local_addr().unwrap())).unwrap();
    let store = store.connect_max(Duration::from_millis(50)).unwrap().patience(Duration::ZERO).unwrap();
    let said = run(async move { store.line().await.err() }).unwrap().to_string();
    assert!(said.contains("50ms") || said.contains("timed out"), "{said}");
}

/// Else the last of a hundred would wait a hundred times as long as the first.
#[test]
fn all_who_wait_for_a_server_that_does_not_answer_fail_together() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let store = Store::open(&format!("redis://{}", silent.local_addr().unwrap())).unwrap();
    let store = store.connect_max(Duration::from_millis(50)).unwrap().patience(Duration::ZERO).unwrap();
    let ask = || {
        let mut store = store.clone();
        async move { store.get::<_, Option<String>>("key").await.is_err() }
    };
    assert!(run(async { futures_util::future::join_all((0..100).map(|_| ask())).await }).into_iter().all(|failed| failed));
    let tries = std::iter::from_fn(|| silent.accept().ok()).count();
    // What reads is asked once more.
    assert!((1..=2).contains(&tries), "{tries}");
}

#[test]
fn a_line_whose_call_was_given_up_is_closed_and_says_so() {
    let backend = Backend::within();
    run(async {
        let mut line = backend.store().line().await.unwrap();
        {
            let mut pop = cmd("BLPOP");
            let mut wait = std::pin::pin!(pop.arg("list").arg(0).query_async::<()>(&mut line));
            assert!(futures_util::poll!(&mut wait).is_pending());
            assert_eq!(backend.blocked(), 1);
        }
        assert_eq!(backend.blocked(), 0);
        assert!(line.is_closed());
        let said = cmd("PING").query_async::<()>(&mut line).await.unwrap_err();
        assert!(said.is_io_error() && said.to_string().contains("given up"), "{said}");
    });
}

#[test]
fn who_acts_for_a_peer_is_shown_as_that_peer() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    let mut store = Store::of(&instance, Identity::acting_for("p-1".into()));
    let list: String = run(async move { cmd("CLIENT").arg("LIST").query_async(&mut store).await }).unwrap();
    assert!(list.contains("via=call peer=p-1\n"), "{list}");
    let list = Blocking::new(&instance).call(&[b"CLIENT", b"LIST"]);
    assert!(String::from_utf8(list).unwrap().contains("via=within peer=\n"));
}

#[test]
fn whoever_listens_hears_the_end_of_the_server() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    run(async {
        let mut store = Store::within(&instance);
        let mut messages = store.listen(Topics::channels(["news"])).await.unwrap();
        let _: u32 = store.publish("news", "last").await.unwrap();
        instance.end();
        assert!(matches!(messages.next().await, Some(Heard::Item(_))));
        assert_eq!(messages.next().await, None);
        let refused: RedisResult<()> = store.set("key", 1).await;
        assert!(refused.unwrap_err().is_io_error());
    });
}

#[test]
fn while_a_server_loads_commands_that_need_keys_are_refused_and_others_are_not() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    let (mut client, store) = (Blocking::new(&instance), Store::within(&instance));
    instance.loading.begin();
    for refused in [&[&b"GET"[..], b"key"][..], &[b"SET", b"key", b"1"], &[b"DBSIZE"]] {
        assert!(client.call(refused).starts_with(b"-LOADING "), "{refused:?}");
    }
    for allowed in [&[&b"INFO"[..]][..], &[b"CONFIG", b"GET", b"port"], &[b"MULTI"]] {
        assert!(!client.call(allowed).starts_with(b"-"), "{allowed:?}");
    }
    assert!(client.call(&[b"GET", b"key"]).starts_with(b"-LOADING "));
    assert!(client.call(&[b"EXEC"]).starts_with(b"-EXECABORT "));
    let mut asked = store.clone();
    let said = run(async move { asked.get::<_, Option<String>>("key").await }).unwrap_err();
    assert_eq!(said.code(), Some("LOADING"));
    instance.end_loading();
    assert_eq!(client.call(&[b"GET", b"key"]), b"$-1\r\n");
}

#[test]
fn who_is_bound_to_keys_touches_no_others() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    let only = [("mine:", true), ("shared:", false)].map(|(prefix, writes)| Only { prefix: prefix.into(), writes });
    let mut store = Store::of(&instance, Identity::acting_for("p-1".into()).bound_to(only));
    let mut ask = |words: &str| -> Option<String> {
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let asked = run(command.exec_async(&mut store));
        asked.err().map(|error| error.code().unwrap_or_default().to_owned())
    };
    for allowed in [
        "SET mine:a 1",
        "GET mine:a",
        "GET shared:a",
        "MGET mine:a shared:a",
        "SUNIONSTORE mine:s shared:s mine:t",
        "PING",
        "DEL mine:a",
        "COPY mine:s mine:db",
        "COPY mine:s mine:db REPLACE",
    ] {
        assert_eq!(ask(allowed), None, "{allowed}");
    }
    for refused in [
        "GET other",
        "SET shared:a 1",
        "SET shared:a 1 GET",
        "MGET mine:a other",
        "SUNIONSTORE shared:s mine:s",
        "RENAME shared:a mine:a",
        "COPY other mine:a",
        "FLUSHALL",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "SORT mine:l BY other:*",
        "CONFIG GET *",
        "SHUTDOWN",
        "CLIENT KILL ID 1",
        "PUBLISH c m",
        "CLIENT PAUSE 10",
        "MEMORY USAGE other",
        "XREAD STREAMS mine:x other 0 0",
        "BLPOP mine:l other 0.01",
        "SWAPDB 0 1",
        "MOVE mine:s 1",
        "COPY mine:s mine:t DB 1",
        "COPY mine:s mine:t REPLACE db 1",
        "LMOVE mine:l shared:l LEFT LEFT",
        "XREADGROUP GROUP g c STREAMS shared:x >",
    ] {
        assert_eq!(ask(refused).as_deref(), Some("NOPERM"), "{refused}");
    }
    assert_eq!(ask("DEBUG SLEEP 0").as_deref(), Some("ERR"), "it is not the program, whatever asks for it within");
}

#[test]
fn who_is_bound_to_keys_stays_in_their_database() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    let only = [Only { prefix: "mine:".into(), writes: true }];
    let store = Store::of(&instance, Identity::acting_for("p-1".into()).bound_to(only));
    run(async move {
        let mut line = store.line().await.unwrap();
        let refused = cmd("SELECT").arg(1).exec_async(&mut line).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"));
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("MOVE").arg("mine:a").arg(1);
        assert!(transaction.exec_async(&mut line).await.is_err());
        let _: () = line.set("mine:a", 1).await.unwrap();
    });
    let count = Blocking::new(&instance).call(&[b"INFO", b"keyspace"]);
    let count = String::from_utf8(count).unwrap();
    assert!(count.contains("db0:keys=1,") && !count.contains("db1:"), "{count}");
}

/// Else the next command of anyone who shares it would be that peer's.
#[test]
fn a_connection_that_is_shared_becomes_no_peer() {
    let Backend::Within(instance) = Backend::within() else { unreachable!() };
    let _rooms = instance.open_rooms();
    let mut store = Store::within(&instance);
    run(async {
        let mut register = cmd("flux.register");
        register.arg(r#"{"id": "p-1", "capabilities": []}"#);
        let refused = register.exec_async(&mut store).await.unwrap_err();
        assert!(refused.to_string().contains("Store::line"), "{refused}");
        let list: String = cmd("CLIENT").arg("LIST").query_async(&mut store).await.unwrap();
        assert!(!list.contains("peer=p-1"), "{list}");
        let mut line = store.line().await.unwrap();
        register.exec_async(&mut line).await.unwrap();
    });
}

#[test]
fn a_slot_that_moves_to_another_master_is_followed() {
    let Some(mut backend) = Backend::cluster() else { return };
    run(async {
        let mut store = backend.store();
        let _: () = store.set("foo", "before").await.unwrap();
        let _: () = store.del("foo").await.unwrap();
        backend.move_slot("12182", 2, 0);
        let _: () = store.set("foo", "after").await.unwrap();
        let found: String = store.get("foo").await.unwrap();
        assert_eq!(found, "after");
        let there = backend.server().connect().call(&["GET", "foo"]).unwrap();
        assert_eq!(there, crate::process::Reply::Bulk('$', b"after".to_vec()), "the first master has it now");
    });
}

/// Through the program, since whom it trusts stands in a variable of its environment.
#[test]
fn a_server_is_asked_over_tls_if_its_certificate_is_trusted() {
    let openssl = |args: &[&str]| Command::new("openssl").args(args).output().is_ok_and(|out| out.status.success());
    if !crate::process::has("openssl (Debian: openssl)", Command::new("openssl").arg("version")) {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let settings = "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost\n";
    std::fs::write(path("settings"), settings).unwrap();
    let (config, key, certificate) = (path("settings"), path("key"), path("certificate"));
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    assert!(openssl(&[&make[..], &["-config", &config, "-keyout", &key, "-out", &certificate]].concat()));
    let tls_port = crate::process::free_port().to_string();
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let Some(_server) = Process::redis(&[&tls[..], &["--tls-ca-cert-file", &certificate]].concat()) else { return };
    let ask = |trusted: &str| {
        let mut flux = Command::new(env!("CARGO_BIN_EXE_flux"));
        flux.args(["status", "--url", &format!("rediss://localhost:{tls_port}")])
            .env("SSL_CERT_FILE", trusted)
            .env_remove("SSL_CERT_DIR");
        String::from_utf8(flux.output().unwrap().stderr).unwrap()
    };
    // It got there: Redis has no such command.
    let told = ask(&certificate);
    assert!(told.contains("does not know this command"), "{told}");
    let (other_key, other) = (path("other-key"), path("other"));
    assert!(openssl(&[&make[..], &["-config", &config, "-keyout", &other_key, "-out", &other]].concat()));
    let told = ask(&other);
    assert!(told.contains("certificate"), "{told}");
}
