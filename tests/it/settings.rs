//! Settings as a running server takes, shows and keeps them: file, environment, flags, `CONFIG`.

use std::process::Command;

use tempfile::TempDir;

use crate::script::check;

#[test]
fn config_get_matches_patterns_and_names_each_setting_once() {
    check(
        "
        CONFIG GET maxmemory-samples => [maxmemory-samples, 5]
        CONFIG GET MAXMEMORY-SAMPLES maxmemory-s* => [maxmemory-samples, 5]
        CONFIG GET no-such-thing => []
        CONFIG GET hash-max-*-entries => [hash-max-listpack-entries, 512, hash-max-ziplist-entries, 512]
        CONFIG GET key-load-* => []
        CONFIG GET key-load-delay => [key-load-delay, 0]
        HELLO 3 => *
        CONFIG GET hz => {hz: 10}
    ",
    );
}

#[test]
fn config_set_takes_all_or_nothing() {
    check(
        "
        CONFIG SET maxmemory 10mb timeout 7 => OK
        CONFIG GET maxmemory timeout => [maxmemory, 10485760, timeout, 7]
        CONFIG SET maxmemory 1 timeout x => ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer
        CONFIG GET maxmemory => [maxmemory, 10485760]
        CONFIG SET maxmemory 1 nope 1 => ERR Unknown option or number of arguments for CONFIG SET - 'nope'
        CONFIG SET maxmemory => ERR wrong number of arguments for 'config|set' command
        CONFIG SET maxmemory 1 timeout => ERR syntax error
        CONFIG SET timeout 1 timeout 2 => ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter
        CONFIG SET daemonize yes => ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config
        CONFIG SET appendfsync now => ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the following: everysec, always, no
        CONFIG SET maxmemory-clients 200% => ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less or equal to 100
        CONFIG SET maxmemory-samples 0 => ERR CONFIG SET failed (possibly related to argument 'maxmemory-samples') - argument must be between 1 and 2147483647 inclusive
    ",
    );
}

#[test]
fn every_setting_can_be_set_to_what_it_is() {
    let flux = flux::Flux::in_memory();
    let mut store = flux.blocking();
    for setting in flux::node::settings().iter() {
        if setting.change == flux::config::Change::Never || setting.is_secret() {
            continue;
        }
        let shown = crate::script::show(&store.call(&[b"CONFIG", b"GET", setting.name.as_bytes()]));
        let value = shown.trim_end_matches(']').split_once(", ").map(|(_, value)| value.trim_matches('"')).unwrap_or_default();
        let reply = store.call(&[b"CONFIG", b"SET", setting.name.as_bytes(), value.as_bytes()]);
        assert_eq!(String::from_utf8_lossy(&reply), "+OK\r\n", "{} = {value}", setting.name);
    }
}

#[test]
fn rewriting_needs_a_file() {
    check("CONFIG REWRITE => ERR The server is running without a config file");
}

fn flux_config(dir: &TempDir, args: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flux"));
    command.arg("config").args(args).current_dir(dir.path()).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn flux_config_tells_where_values_come_from_and_can_be_used_as_the_file() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("own.toml"), "timeout = 9\nrequirepass = \"hunter2\"\n").unwrap();
    let args = ["--config", "own.toml", "--port", "7000"];
    let (is_right, text) = flux_config(&dir, &args, &[("FLUX_MAXCLIENTS", "50")]);
    assert!(is_right, "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(line("port = 7000").ends_with("# flag"), "{text}");
    assert!(line("timeout = 9").ends_with("# file"), "{text}");
    assert!(line("maxclients = 50").ends_with("# environment"), "{text}");
    assert!(line("maxmemory = 0").ends_with("# default"), "{text}");
    assert!(!text.contains("hunter2"), "secrets are not shown");
    std::fs::write(dir.path().join("again.toml"), &text).unwrap();
    let (is_right, again) = flux_config(&dir, &["--config", "again.toml"], &[]);
    assert!(is_right && again.contains("port = 7000"), "{again}");
}

#[test]
fn a_setting_of_a_room_comes_from_wherever_others_come_and_is_told_of_where_they_are() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("own.toml"), "peer-payload-limit = \"4kb\"\n").unwrap();
    let line = |args: &[&str], variables: &[(&str, &str)]| {
        let (is_right, text) = flux_config(&dir, args, variables);
        assert!(is_right && text.contains("# Peers\n"), "{text}");
        let words: Vec<&str> = text.lines().find(|line| line.starts_with("peer-payload-limit")).unwrap().split(' ').collect();
        format!("{} from {}", words[2], words.last().unwrap())
    };
    let variable = ("FLUX_PEER_PAYLOAD_LIMIT", "3kb");
    assert_eq!(line(&[], &[]), "16777216 from default");
    assert_eq!(line(&["--config", "own.toml"], &[]), "4096 from file");
    assert_eq!(line(&["--config", "own.toml"], &[variable]), "3072 from environment");
    assert_eq!(line(&["--config", "own.toml", "--peer-payload-limit", "2kb"], &[variable]), "2048 from flag");
    let (is_right, text) = flux_config(&dir, &["--peer-payload-limits", "1"], &[]);
    assert!(!is_right && text.contains("'--peer-payload-limit'"), "{text}");
    let (is_right, text) = flux_config(&dir, &["--peer-payload-limit", "1"], &[]);
    assert!(!is_right && text.contains("`peer-payload-limit`: argument must be between 1024 and"), "{text}");
    for words in [&["serve", "--help"][..], &["completions", "bash"]] {
        let told = Command::new(env!("CARGO_BIN_EXE_flux")).args(words).output().unwrap().stdout;
        assert!(String::from_utf8(told).unwrap().contains("--peer-payload-limit"), "{words:?}");
    }
}

#[test]
fn mistakes_are_named_with_their_place_and_a_guess() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("own.toml"), "max-memory = 9\n").unwrap();
    let (is_right, text) = flux_config(&dir, &["--config", "own.toml"], &[]);
    assert!(!is_right && text.contains("own.toml") && text.contains("did you mean `maxmemory`?"), "{text}");
    let (is_right, text) = flux_config(&dir, &["--config", "none.toml"], &[]);
    assert!(!is_right && text.contains("there is no such file"), "{text}");
    let (is_right, text) = flux_config(&dir, &[], &[("FLUX_PORT", "70000")]);
    assert!(!is_right && text.contains("FLUX_PORT") && text.contains("between 0 and 65535"), "{text}");
}
