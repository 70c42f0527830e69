//! The binary from outside: what it prints, its exit codes, how it starts and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::process::{Connection, Process, Reply, free_port, until};

fn flux(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flux"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    flux(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that was started by hand, and the line it greets with.
struct Server {
    child: Child,
    greeting: String,
}

impl Server {
    fn start(data: &Path, args: &[&str]) -> Server {
        let mut command = flux(&["serve", "--port", "0", "--http-port", "off", "--data"]);
        let mut child = command.arg(data).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
        Server { child, greeting }
    }

    fn url(&self) -> String {
        let start = self.greeting.find("redis://").expect("it says where it listens");
        self.greeting[start..].split([',', ';']).next().unwrap().to_owned()
    }

    fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set(connection: &mut redis::Connection, key: &str, value: &str) {
    redis::cmd("SET").arg(key).arg(value).exec(connection).unwrap();
}

fn get(connection: &mut redis::Connection, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query(connection).unwrap()
}

#[test]
fn help_teaches_and_mistakes_exit_with_2() {
    for args in [&["--help"][..], &["serve", "--help"], &["backup", "--help"], &["restore", "--help"], &["check", "--help"]] {
        let output = run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("Example"), "{args:?}: {text}");
    }
    assert_eq!(run(&["serve", "--no-such-flag"]).status.code(), Some(2));
    for (args, advice) in [
        (&["start"][..], "`flux serve --data DIR` starts a server"),
        (&["serve", "-p", "7000"], "--port PORT"),
        (&["serve", "/etc/redis/redis.conf"], "--config FILE"),
        (&["serve", "./state"], "--data ./state"),
        (&["check", "./state"], "--data ./state"),
        (&["peers", "-p", "7000"], "--url redis://HOST:PORT"),
        (&["top", "--port", "7000"], "--url redis://HOST:PORT"),
    ] {
        let output = run(args);
        assert!(output.status.code() == Some(2) && stderr(&output).contains(advice), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn a_signal_ends_the_server_with_0_and_nothing_is_lost() {
    for signal in ["-TERM", "-INT"] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(dir.path(), &[]);
        assert!(server.greeting.contains("ready on redis://127.0.0.1:") && server.greeting.contains("0 keys loaded"));
        set(&mut server.connect(), "key", "value");
        assert_eq!(server.end(signal), Some(0), "{signal}");
        let server = Server::start(dir.path(), &[]);
        assert!(server.greeting.contains("1 keys loaded"), "{}", server.greeting);
        assert_eq!(get(&mut server.connect(), "key").as_deref(), Some("value"));
    }
}

#[test]
fn signals_that_are_no_wish_to_end_leave_the_server_and_all_it_was_told_alone() {
    for end in ["-TERM", "-QUIT"] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(dir.path(), &[]);
        let mut connection = server.connect();
        let mut count = 0;
        for signal in ["-HUP", "-USR1", "-USR2"] {
            for _ in 0..100 {
                count = redis::cmd("INCR").arg("count").query(&mut connection).unwrap();
            }
            server.signal(signal);
            assert_eq!(redis::cmd("PING").query::<String>(&mut server.connect()).unwrap(), "PONG", "{signal}");
        }
        assert_eq!((count, server.end(end)), (300, Some(0)), "{end}");
        let server = Server::start(dir.path(), &[]);
        assert_eq!(get(&mut server.connect(), "count").as_deref(), Some("300"), "{end}");
    }
}

/// The status line of what the server's HTTP port answers.
fn http_status(server: &Process, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", server.http_port())).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut status = String::new();
    BufReader::new(socket).read_line(&mut status).unwrap();
    status
}

#[test]
fn a_data_folder_that_is_removed_is_noticed_and_nothing_more_is_acknowledged() {
    let mut server = Process::flux(&[]);
    let mut connection = server.connect();
    let mut call = |words: &[&str]| format!("{:?}", connection.call(words).unwrap());
    assert!(call(&["SET", "key", "value"]).contains("OK"));
    assert!(http_status(&server, "/ready").contains("200"));
    std::fs::remove_dir_all(server.data()).unwrap();
    until("that writes are refused", || call(&["SET", "key", "later"]).contains("MISCONF"));
    assert!(http_status(&server, "/ready").contains("503"));
    assert!(server.log().contains("the journal was removed from"), "{}", server.log());
    assert!(call(&["SHUTDOWN"]).contains("ERR Errors trying to SHUTDOWN. Check logs."));
    assert!(call(&["GET", "key"]).contains("Bulk"), "the server goes on");
    server.connect().send(&["SHUTDOWN", "FORCE"]).unwrap();
    assert_eq!(server.ended().code(), Some(1));
}

/// The oldest of three files of the journal is needed as long as no checkpoint covers it: without it the next start would find a hole.
#[test]
fn a_file_of_the_journal_that_is_removed_is_noticed_though_others_are_there() {
    let server = Process::flux(&["--checkpoint-bytes", "8mb"]);
    let mut connection = server.connect();
    let mut call = |words: &[&str]| format!("{:?}", connection.call(words).unwrap());
    let value = "x".repeat(100_000);
    for number in 0..70 {
        assert!(call(&["SET", &format!("key{number}"), &value]).contains("OK"));
    }
    let files = || {
        let entries = std::fs::read_dir(server.data()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.to_str().unwrap().contains("/journal-")).collect();
        files.sort();
        files
    };
    until("that there are three", || files().len() >= 3);
    let oldest = files().remove(0);
    std::fs::remove_file(&oldest).unwrap();
    until("that writes are refused", || call(&["SET", "key", "later"]).contains("MISCONF"));
    let told = format!("`{}` is not there", oldest.display());
    // The first write may be refused a moment before it is logged why.
    until("that it is logged", || server.log().contains("the journal was removed from") && server.log().contains(&told));
    assert!(call(&["GET", "key0"]).contains("Bulk"), "the server goes on");
}

/// What the journal holds may be let go of only if the tables' file that has it is there.
#[test]
fn tables_that_are_removed_take_over_nothing_and_all_is_there_when_they_are_put_back() {
    let server = Process::flux(&[]);
    let mut connection = server.connect();
    let mut call = |words: &[&str]| format!("{:?}", connection.call(words).unwrap());
    assert!(call(&["SET", "first", "1"]).contains("OK") && call(&["SAVE"]).contains("OK"));
    let (tables, kept) = (server.data().join("tables.redb"), server.data().join("kept"));
    std::fs::copy(&tables, &kept).unwrap();
    assert!(call(&["SET", "second", "2"]).contains("OK"));
    std::fs::remove_file(&tables).unwrap();
    assert!(call(&["SAVE"]).contains("ERR"), "nothing that is written there lasts");
    until("that writes are refused", || call(&["SET", "third", "3"]).contains("MISCONF"));
    assert!(server.log().contains("the tables were removed from"), "{}", server.log());
    assert!(!tables.exists(), "an empty file would look as if someone had emptied it");
    server.kill();
    std::fs::rename(&kept, &tables).unwrap();
    let data = TempDir::new().unwrap();
    let again = data.path().join("data");
    std::fs::rename(server.data(), &again).unwrap();
    drop(server);
    let server = Process::flux_in(&again, &[]);
    let mut connection = server.connect();
    let mut get = |key: &str| format!("{:?}", connection.call(&["GET", key]).unwrap());
    assert!(get("first").contains("Bulk") && get("second").contains("Bulk"));
}

/// A server that has still to send a long reply, whose client reads no more for now; `shutdown-timeout` leaves it all the time it wants.
fn server_with_a_slow_client() -> (Process, Connection) {
    let server = Process::flux(&["--shutdown-timeout", "600"]);
    let mut client = server.connect();
    client.call(&["SETRANGE", "long", "60000000", "x"]).unwrap();
    client.send(&["GET", "long"]).unwrap();
    client.fill_up(1).unwrap();
    (server, client)
}

fn signal(server: &Process, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(server.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn a_second_signal_ends_a_server_at_once_that_waits_for_a_client() {
    for (name, again) in [("SIGTERM", Signal::TERM), ("SIGINT", Signal::INT)] {
        let (mut server, _client) = server_with_a_slow_client();
        signal(&server, again);
        until("that it ends", || server.log().contains(&format!("{name} received: finishing what is under way")));
        // Those that come at once are the same wish.
        until("that it has ended", || {
            signal(&server, again);
            server.log().contains(&format!("{name} received again: ending at once"))
        });
        assert_eq!(server.ended().code(), Some(1));
    }
}

/// Service managers send a signal to a server that `SHUTDOWN` ends already; a second one means it.
#[test]
fn a_signal_after_shutdown_lets_it_finish_and_more_of_them_do_not() {
    for is_patient in [true, false] {
        let (mut server, mut client) = server_with_a_slow_client();
        server.connect().send(&["SHUTDOWN"]).unwrap();
        until("that it ends", || server.log().contains("SHUTDOWN received: finishing what is under way"));
        let begun = Instant::now();
        until("that a signal is a wish of its own", || begun.elapsed() > Duration::from_secs(1));
        signal(&server, Signal::TERM);
        if is_patient {
            assert!(matches!(client.read().unwrap(), Reply::Bulk('$', bytes) if bytes.len() == 60_000_001));
            assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        } else {
            until("that it has ended", || {
                signal(&server, Signal::TERM);
                server.log().contains("SIGTERM received again: ending at once")
            });
            assert_eq!(server.ended().code(), Some(1));
        }
    }
}

/// Nobody chose that port, and who wants a Redis gets it.
#[test]
fn the_usual_port_for_http_is_done_without_where_it_is_taken_and_one_that_was_chosen_is_not() {
    // Whether this has it or somebody else: it is taken.
    let _taken = TcpListener::bind(("127.0.0.1", 3000));
    let mut command = flux(&["serve", "--port", "0", "--data", "off"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut greeting, mut told) = (String::new(), String::new());
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    child.kill().unwrap();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    assert!(greeting.contains("ready on redis://") && !greeting.contains("http://"), "{greeting}");
    assert!(told.contains("127.0.0.1:3000 is taken: going on without HTTP") && told.contains("--http-port"), "{told}");
    let output = run(&["serve", "--port", "0", "--http-port", "3000", "--data", "off"]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("127.0.0.1:3000"), "{}", stderr(&output));
}

#[test]
fn a_unix_socket_may_be_in_a_data_folder_that_is_not_there_yet() {
    let dir = TempDir::new().unwrap();
    let (data, elsewhere) = (dir.path().join("outer/data"), dir.path().join("other/flux.sock"));
    let socket = data.join("flux.sock");
    let server = Process::flux_in(&data, &["--unixsocket", socket.to_str().unwrap()]);
    let connection = redis::Client::open(format!("unix:{}", socket.display())).unwrap().get_connection();
    set(&mut connection.unwrap(), "key", "value");
    let mode = std::os::unix::fs::PermissionsExt::mode(&data.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    drop(server);
    let output =
        run(&["serve", "--port", "0", "--http-port", "off", "--data", "off", "--unixsocket", elsewhere.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && !elsewhere.parent().unwrap().exists(), "{}", stderr(&output));
}

#[test]
fn shutdown_ends_the_server_with_0() {
    let dir = TempDir::new().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut connection = server.connect();
    set(&mut connection, "key", "value");
    assert!(redis::cmd("SHUTDOWN").exec(&mut connection).is_err(), "the connection is closed instead of a reply");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let server = Server::start(dir.path(), &[]);
    assert_eq!(get(&mut server.connect(), "key").as_deref(), Some("value"));
}

#[test]
fn an_address_that_another_process_has_is_done_without_and_that_is_told() {
    let port = free_port();
    let Ok(_taken) = TcpListener::bind(("::1", port)) else {
        println!("ignored: this machine has no IPv6");
        return;
    };
    let dir = TempDir::new().unwrap();
    let server = Process::flux_at(dir.path(), port);
    assert!(server.log().contains(&format!("another process listens on [::1]:{port}: going on without it")), "{}", server.log());
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let dir = TempDir::new().unwrap();
    let _server = Server::start(dir.path(), &[]);
    let data = dir.path().to_str().unwrap();
    let output = run(&["serve", "--port", "0", "--http-port", "off", "--data", data]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("another process is using"), "{}", stderr(&output));
}

#[test]
fn listening_to_the_world_without_a_password_is_refused() {
    for wide in [["--http-port", "off", "--bind", "0.0.0.0"], ["--http-port", "0", "--http-bind", "0.0.0.0"]] {
        let output = run(&[&["serve", "--port", "0", "--data", "off"], &wide[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("--requirepass"), "{}", stderr(&output));
    }
}

#[test]
fn a_copy_made_while_serving_is_restored_and_checked() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut connection = server.connect();
    set(&mut connection, "key", "before");
    let (copy, again) = (path("copy"), path("again"));
    let output = run(&["backup", &copy, "--url", &server.url()]);
    assert!(output.status.success(), "{}", stderr(&output));
    set(&mut connection, "key", "after");
    let output = run(&["backup", &copy, "--url", &server.url()]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("exists already"), "{}", stderr(&output));
    assert_eq!(server.end("-TERM"), Some(0));

    let output = run(&["restore", &copy, "--data", &again]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!run(&["restore", &copy, "--data", &again]).status.success(), "the folder is not empty any more");
    let output = run(&["check", "--data", &again]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 keys"), "{output:?}");
    let server = Server::start(Path::new(&again), &[]);
    assert_eq!(get(&mut server.connect(), "key").as_deref(), Some("before"));
    drop(server);

    let output = run(&["backup", &path("offline"), "--data", &path("data")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(run(&["check", "--data", &path("nowhere")]).status.code(), Some(1));
}

#[test]
fn settings_written_by_a_client_are_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut connection = server.connect();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(77).exec(&mut connection).unwrap();
    redis::cmd("CONFIG").arg("REWRITE").exec(&mut connection).unwrap();
    assert_eq!(server.end("-TERM"), Some(0));
    assert!(std::fs::read_to_string(dir.path().join("flux.toml")).unwrap().contains("maxclients = 77"));
    let server = Server::start(dir.path(), &[]);
    let shown: Vec<String> = redis::cmd("CONFIG").arg("GET").arg("maxclients").query(&mut server.connect()).unwrap();
    assert_eq!(shown, ["maxclients", "77"]);
}

#[test]
fn a_unix_socket_serves_too() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("flux.sock");
    let server = Server::start(dir.path(), &["--unixsocket", socket.to_str().unwrap(), "--unixsocketperm", "700"]);
    let client = redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).unwrap();
    set(&mut connection, "key", "value");
    assert_eq!(get(&mut server.connect(), "key").as_deref(), Some("value"));
    drop(connection);
    assert_eq!(server.end("-TERM"), Some(0));
    assert!(!socket.exists(), "the socket is removed");
}

#[test]
fn a_client_that_does_not_read_holds_up_the_end_only_so_long() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--shutdown-timeout", "1"]);
    set(&mut server.connect(), "key", &"x".repeat(1 << 20));
    let address = server.url().replace("redis://", "");
    let mut lazy = TcpStream::connect(address).unwrap();
    lazy.write_all(&b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n".repeat(64)).unwrap();
    let mut first = [0; 1];
    lazy.read_exact(&mut first).unwrap();
    let start = Instant::now();
    assert_eq!(server.end("-TERM"), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn the_variable_flux_url_names_the_server_for_a_backup_and_is_no_stranger() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (mine, other) = (Server::start(&dir.path().join("mine"), &[]), Server::start(&dir.path().join("other"), &[]));
    set(&mut mine.connect(), "key", "mine");
    let by = |args: &[&str], url: &str| flux(args).env("FLUX_URL", url).output().unwrap();
    let restored = |copy: &str, to: &str| {
        assert!(run(&["restore", copy, "--data", to]).status.success());
        let server = Server::start(Path::new(to), &[]);
        get(&mut server.connect(), "key")
    };
    assert!(by(&["backup", &path("copy")], &mine.url()).status.success());
    assert_eq!(restored(&path("copy"), &path("new")).as_deref(), Some("mine"));
    // The command line wins.
    assert!(by(&["backup", &path("empty"), "--url", &other.url()], &mine.url()).status.success());
    assert_eq!(restored(&path("empty"), &path("new2")), None);
    // A folder is a folder, whatever the variable says.
    let output = by(&["backup", &path("folder"), "--data", &path("new")], &mine.url());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(run(&["backup", &path("x"), "--data", &path("new"), "--url", &mine.url()]).status.code(), Some(2));
    let output = by(&["config", "--data", "off"], &mine.url());
    assert!(output.status.success() && !stderr(&output).contains("FLUX_URL"), "{}", stderr(&output));
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let names = || {
        let mut names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let server = Server::start(&dir.path().join("data"), &[]);
    set(&mut server.connect(), "key", "value");
    assert!(run(&["backup", &path("good"), "--url", &server.url()]).status.success());
    let mut bytes = std::fs::read(path("good")).unwrap();
    let middle = bytes.len() / 2;
    bytes[..middle].iter_mut().skip(4096).for_each(|byte| *byte ^= 0x55);
    std::fs::write(path("bad"), bytes).unwrap();
    let taken = server.url().rsplit(':').next().unwrap().to_owned();
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let http_port = http.local_addr().unwrap().port().to_string();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let memory = Server::start(Path::new("off"), &[]);
    let before = names();
    let cases: [&[&str]; 8] = [
        &["serve", "--data", &path("served/here"), "--port", &free, "--http-port", &free],
        &["restore", &path("bad"), "--data", &path("new/inner")],
        &["backup", &path("copy"), "--url", &memory.url()],
        &["backup", &path("copy"), "--data", &path("data")],
        &["serve", "--http-port", "off", "--data", &path("served/here"), "--port", &taken],
        &["serve", "--port", "0", "--data", &path("served/here"), "--http-port", &http_port],
        &["serve", "--port", "0", "--http-port", "off", "--data", &path("served/here"), "--unixsocket", &path("missing/socket")],
        &["serve", "--port", "0", "--unixsocket", &path("socket"), "--data", &path("served/here"), "--http-port", &http_port],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert_eq!(names(), before, "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn an_interrupted_backup_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("copies");
    std::fs::create_dir(&folder).unwrap();
    // It takes the command and never answers, as a server does whose disk is slow.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", server.local_addr().unwrap());
    let copy = folder.join("copy");
    let child = flux(&["backup", copy.to_str().unwrap(), "--url", &url]).stderr(Stdio::null()).spawn().unwrap();
    let (mut asker, _) = server.accept().unwrap();
    let mut asked = String::new();
    let mut piece = [0; 4096];
    while !asked.contains("BACKUP") {
        let len = asker.read(&mut piece).unwrap();
        assert!(len > 0, "it hung up after {asked}");
        let text = String::from_utf8_lossy(&piece[..len]).into_owned();
        let is_backup = text.contains("BACKUP");
        asked.push_str(&text);
        if !is_backup {
            asker.write_all("+OK\r\n".repeat(text.matches('*').count()).as_bytes()).unwrap();
        }
    }
    std::fs::write(folder.join(".copy.1.part"), "half").unwrap();
    let child = Server { child, greeting: String::new() };
    assert_eq!(child.end("-INT"), Some(130));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_log_filter_that_cannot_be_read_is_refused_and_the_log_can_be_json() {
    let dir = TempDir::new().unwrap();
    let serve = ["serve", "--port", "0", "--http-port", "off", "--data", dir.path().to_str().unwrap()];
    for filter in ["loud", "flux=debgu"] {
        let output = flux(&serve).env("FLUX_LOG", filter).output().unwrap();
        assert!(output.status.code() == Some(1) && stderr(&output).contains("FLUX_LOG"), "{}", stderr(&output));
    }
    let mut child = flux(&serve)
        .args(["--log-format", "json"])
        .env("FLUX_PROT", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let log = child.stderr.take().unwrap();
    assert_eq!(Server { child, greeting: String::new() }.end("-TERM"), Some(0));
    let lines: Vec<serde_json::Value> =
        BufReader::new(log).lines().map(|line| serde_json::from_str(&line.unwrap()).expect("each line is JSON")).collect();
    let ended = lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.starts_with("SIGTERM")));
    assert_eq!(ended.expect("it says why it ends")["level"], "INFO");
}

#[test]
fn choices_are_listed_and_the_rest_is_refused() {
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    for word in ["volatile-ttl", "allkeys-lfu", "verbose", "everysec", "json"] {
        assert!(help.contains(word), "{word}");
    }
    let output = run(&["serve", "--maxmemory-policy", "lru"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("allkeys-lru"), "{}", stderr(&output));
    assert!(run(&["config", "--data", "off", "--maxmemory-policy", "ALLKEYS-LRU"]).status.success());
}

#[test]
fn the_version_tells_the_build_and_the_command_line_is_told_to_shells_and_man() {
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert!(
        version.starts_with(&format!("flux {} (", env!("CARGO_PKG_VERSION"))) && version.contains(std::env::consts::ARCH),
        "{version}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        assert!(script.contains("maxmemory-policy") && script.contains("allkeys-lfu"), "{shell}");
    }
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("man1");
    assert!(run(&["man", folder.to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.join("flux-serve.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("maxmemory") && folder.join("flux.1").exists(), "{page}");
    let lines: Vec<&str> = page.lines().collect();
    let untold = lines.windows(3).find(|three| three[0] == ".TP" && three[2].is_empty());
    assert_eq!(untold, None, "each option has its description");
}

#[test]
fn top_prints_a_line_for_each_look() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    set(&mut server.connect(), "key", "value");
    let output = run(&["top", "--count", "2", "--url", server.url().trim_start_matches("redis://")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).expect("each line is JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1]["ops_per_second"] == 0.0 && lines[0]["keys"] == 1 && lines[0]["peers"]["peers"] == 0,
        "what it asks itself is no load: {lines:?}"
    );
    assert_eq!(lines[1]["commands"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_used_is_told_once_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (file, folder, missing) = (path("file"), path("folder"), path("missing"));
    std::fs::write(&file, "hello").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(dir.path().join("folder/script.js"), "hello").unwrap();
    let (empty, half, begun) = (path("empty"), path("half"), path("begun"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(&half).unwrap();
    std::fs::write(dir.path().join("half/tables.redb.part"), "redb").unwrap();
    std::fs::write(&begun, b"redb\x1a\x0a\xa9\x0d\x0a").unwrap();
    let locked = Server::start(Path::new("off"), &["--requirepass", "secret"]);
    let wrong = locked.url().replace("redis://", "redis://:wrong@");
    let server = Server::start(&dir.path().join("data"), &[]);
    let (copy, url) = (path("copy"), server.url());
    let inside = path("data/copy");
    let nowhere = path("missing/copy");
    let port = url.rsplit(':').next().unwrap().to_owned();
    let off = ["serve", "--data", "off", "--http-port", "off"];
    let cases: [(&[&str], &str); 20] = [
        (&["check", "--data", &empty], "is empty: there is nothing to check"),
        (
            &["restore", &begun, "--data", &half],
            "a restore into this folder was broken off; empty it, and restore the backup again",
        ),
        (&["check", "--data", &file], "is a file, not a data folder; name the folder"),
        (&["check", "--data", &missing], "is not there; name the folder"),
        (&["backup", &copy, "--data", &file], "is a file, not a data folder; name the folder"),
        (&["backup", &nowhere, "--url", &url], "its folder must be there"),
        (&["backup", &inside, "--url", &url], "choose a place outside of it"),
        (&["backup", &copy, "--url", "redis://127.0.0.1:1"], "start one with `flux serve"),
        (&["restore", &missing, "--data", &path("new")], "is not there; name a file that `flux backup FILE` wrote"),
        (&["restore", &folder, "--data", &path("new")], "is not a file; name a file that `flux backup FILE` wrote"),
        (&["restore", &file, "--data", &path("new")], "is not a backup; name a file that `flux backup FILE` wrote"),
        (&["check", "--data", &folder], "is no data folder of flux; name the folder"),
        (&["backup", &copy, "--data", &folder], "is no data folder of flux; name the folder"),
        (&["status", "--url", &locked.url()], "the server wants a password: put the right one into the URL"),
        (&["backup", &copy, "--url", &wrong], "the server refuses this password: put the right one into the URL"),
        (
            &[&off[..], &["--port", "0", "--bind", "192.0.2.1", "--protected-mode", "no"]].concat(),
            "this machine has no such address",
        ),
        (&["restore", &file, "--data", &file], "is a file; name a folder that is missing or empty"),
        (&["serve", "--port", "0", "--http-port", "off", "--data", &file], "choose another with --data DIR, or --data off"),
        (&[&off[..], &["--port", &port]].concat(), "is another server running there? Choose another port with --port"),
        (&[&off[..], &["--port", "0", "--unixsocket", &file]].concat(), "nothing else under this name"),
    ];
    for (args, advice) in cases {
        let output = run(args);
        let told = stderr(&output);
        assert!(output.status.code() == Some(1) && told.contains(advice), "{args:?}: {told}");
        // Nothing of some length is told twice.
        let parts: Vec<&str> = told.trim_end().split(": ").filter(|part| part.len() > 12).collect();
        let twice = parts.iter().enumerate().find(|(at, part)| parts[at + 1..].contains(part));
        assert!(twice.is_none() && !told.contains("ResponseError"), "{args:?}: {told}");
        assert!(!told.contains("entity not found") && !told.contains("redb"), "{args:?}: {told}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_to_writers_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let flux = env!("CARGO_BIN_EXE_flux");
    let serve = format!("{flux} serve --port 0 --http-port off --appendfsync always --data {}", dir.path().display());
    let run = format!("ulimit -f 6000; exec {serve}");
    let mut child = Command::new("sh").args(["-c", &run]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut greeting = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    let mut limited = Server { child, greeting };
    let mut connection = limited.connect();
    let value = "v".repeat(100_000);
    let mut kept = 0;
    let error = loop {
        match redis::cmd("SET").arg(format!("key:{kept}")).arg(&value).exec(&mut connection) {
            Ok(()) if kept < 1000 => kept += 1,
            outcome => break outcome.expect_err("a hundred megabytes do not fit"),
        }
    };
    assert_eq!(error.code(), Some("MISCONF"), "{error}");
    assert_eq!(get(&mut limited.connect(), "key:0").as_ref(), Some(&value));
    let refused = redis::cmd("SHUTDOWN").exec(&mut limited.connect()).expect_err("something is in memory only");
    assert_eq!(refused.detail(), Some("Errors trying to SHUTDOWN. Check logs."));
    assert_eq!(limited.child.try_wait().unwrap(), None, "the server goes on");
    assert!(redis::cmd("SHUTDOWN").arg("NOSAVE").exec(&mut limited.connect()).is_err(), "the connection is closed");
    assert_eq!(limited.child.wait().unwrap().code(), Some(1), "not all was saved");
    drop(limited);
    let server = Server::start(dir.path(), &[]);
    let found: usize = redis::cmd("DBSIZE").query(&mut server.connect()).unwrap();
    assert!(kept > 10 && found >= kept, "{found} of {kept} are there");
}
