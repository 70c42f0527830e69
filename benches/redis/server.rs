//! Starts and stops the servers under measurement, and reads what they cost from /proc.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Options;

/// A way to run a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// flux with this `appendfsync`.
    Flux(&'static str),
    /// flux that keeps nothing.
    FluxBare,
    /// `redis-server` with an AOF and this `appendfsync`.
    RedisAof(&'static str),
    /// `redis-server` that keeps nothing.
    RedisBare,
    /// `valkey-server` of another system, with an AOF that is synced every second.
    ValkeyAof,
    /// `nats-server`.
    Nats,
}

impl Kind {
    /// What the tables call it.
    pub fn name(self) -> String {
        match self {
            Kind::Flux(fsync) => format!("flux {fsync}"),
            Kind::FluxBare => "flux, not persistent".into(),
            Kind::RedisAof(fsync) => format!("Redis AOF {fsync}"),
            Kind::RedisBare => "Redis, not persistent".into(),
            Kind::ValkeyAof => "Valkey AOF everysec".into(),
            Kind::Nats => "NATS".into(),
        }
    }

    fn command(self, options: &Options, dir: &Path, port: u16, extra: &str) -> Vec<String> {
        let text = match self {
            Kind::Flux(_) if options.flux.contains("{port}") => format!("{} {extra}", options.flux),
            Kind::Flux(fsync) => format!(
                "{} serve --data {{dir}} --port {{port}} --http-port 0 --appendfsync {fsync} {} {extra}",
                options.flux, options.flux_args
            ),
            Kind::FluxBare => {
                format!("{} serve --data off --port {{port}} --http-port 0 {} {extra}", options.flux, options.flux_args)
            }
            Kind::RedisAof(fsync) => {
                format!("redis-server --dir {{dir}} --port {{port}} --save --appendonly yes --appendfsync {fsync} {extra}")
            }
            Kind::RedisBare => format!("redis-server --dir {{dir}} --port {{port}} --save --appendonly no {extra}"),
            Kind::ValkeyAof => {
                let root = options.valkey.as_deref().unwrap_or(Path::new("/"));
                let dir = Path::new("/").join(dir.strip_prefix(root).unwrap_or(dir));
                format!(
                    "chroot {} valkey-server --dir {} --port {{port}} --save --appendonly yes {extra}",
                    root.display(),
                    dir.display()
                )
            }
            Kind::Nats => format!("nats-server -a 127.0.0.1 -p {{port}} {extra}"),
        };
        let dir = dir.to_string_lossy();
        let fill = |word: &str| match word {
            // An empty list of save points, which `--save` takes as an empty word.
            "--save" => vec!["--save".into(), String::new()],
            _ => vec![word.replace("{dir}", &dir).replace("{port}", &port.to_string())],
        };
        text.split_whitespace().flat_map(fill).collect()
    }
}

/// A running server. Dropping it kills it and removes its data.
pub struct Server {
    kind: Kind,
    options: Options,
    extra: String,
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Server {
    /// Starts a server with an empty data folder, with `extra` arguments.
    pub fn start(kind: Kind, options: &Options, extra: &str) -> Result<Server> {
        let place = options.valkey.as_ref().filter(|_| kind == Kind::ValkeyAof).unwrap_or(&options.dir);
        let dir = std::path::absolute(place)?.join(format!("bench-{}-{}", std::process::id(), free_port()?));
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let child = spawn(kind, options, &dir, port, extra)?;
        let mut server = Server { kind, options: options.clone(), extra: extra.into(), child, port, dir };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Stops it in good order, starts it again on the same data, and tells how long it took until a key could be read.
    pub fn restart(&mut self) -> Result<Duration> {
        self.stop()?;
        let start = Instant::now();
        self.child = spawn(self.kind, &self.options, &self.dir, self.port, &self.extra)?;
        self.wait_until_up()?;
        Ok(start.elapsed())
    }

    /// Kills it without warning, starts it again on the same data, and tells how long it took until a key could be read.
    pub fn crash_and_restart(&mut self) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        self.child = spawn(self.kind, &self.options, &self.dir, self.port, &self.extra)?;
        self.wait_until_up()?;
        Ok(start.elapsed())
    }

    /// Bytes that it gave to the disk so far.
    pub fn written_bytes(&self) -> u64 {
        written_bytes(&self.child.id().to_string())
    }

    /// Bytes that each of its children gave to the disk so far.
    pub fn children_written_bytes(&self) -> Vec<(String, u64)> {
        self.children().into_iter().map(|pid| (pid.clone(), written_bytes(&pid))).filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Memory that it and its children hold, what they share counted once.
    pub fn all_rss_bytes(&self) -> u64 {
        let pids = self.children().into_iter().chain([self.child.id().to_string()]);
        pids.map(|pid| proc_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0) * 1024).sum()
    }

    /// What its folder takes on disk.
    pub fn folder_bytes(&self) -> u64 {
        taken_bytes(&self.dir)
    }

    fn children(&self) -> Vec<String> {
        let pids = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap_or_default();
        pids.split_whitespace().map(str::to_owned).collect()
    }

    /// How it is run.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection for single questions.
    pub fn connect(&self) -> Result<redis::Connection> {
        Ok(redis::Client::open(("127.0.0.1", self.port)).and_then(|client| client.get_connection())?)
    }

    /// Sends one command and reads its reply as a type.
    pub fn ask<T: redis::FromRedisValue>(&self, command: &str) -> Result<T> {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            cmd.arg(word);
        });
        cmd.query(&mut self.connect()?).with_context(|| format!("{}: {command}", self.kind.name()))
    }

    /// A number from INFO.
    pub fn info(&self, field: &str) -> Result<u64> {
        let text: String = self.ask("INFO")?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok()).with_context(|| format!("{}: INFO has no {field}", self.kind.name()))
    }

    /// CPU time of the process so far, that of its children counted in: a rewrite of Redis' AOF is one.
    pub fn cpu(&self) -> Result<Duration> {
        let living: u64 = self.children().iter().filter_map(|pid| cpu_ticks(pid).ok()).sum();
        Ok(Duration::from_millis((cpu_ticks(&self.child.id().to_string())? + living) * 1000 / TICKS_PER_SECOND))
    }

    /// CPU time of the threads that live now, to the nanosecond: for what takes less than a tick.
    pub fn threads_cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // One that ends meanwhile has none.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            nanos += text.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory the process holds.
    pub fn rss_bytes(&self) -> Result<u64> {
        Ok(proc_kib(&format!("/proc/{}/status", self.child.id()), "VmRSS:").context("/proc has no VmRSS")? * 1024)
    }

    /// Waits until background work is done: no CPU time used for a while.
    pub fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut before, mut quiet) = (self.cpu()?, 0);
        while Instant::now() < deadline && quiet < QUIET_SECONDS {
            sleep(Duration::from_secs(1));
            let now = self.cpu()?;
            quiet = if now - before < Duration::from_millis(30) { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// Keeps it from running until [`Self::resume`], so that it costs others nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        // A server that is gone is noticed by the next question to it.
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
    }

    fn stop(&mut self) -> Result<()> {
        if self.kind == Kind::RedisBare {
            // It loads what SAVE wrote, and must not be asked to save again.
            let _ = self.ask::<redis::Value>("SHUTDOWN NOSAVE");
        } else {
            self.signal("-TERM");
        }
        self.child.wait()?;
        Ok(())
    }

    fn is_up(&self) -> bool {
        match self.kind {
            Kind::Nats => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
            _ => self.ask::<Option<Vec<u8>>>("GET none").is_ok(),
        }
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(300);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.dir.join("bench.log")).unwrap_or_default();
                bail!("{} did not start: {status}\n{log}", self.kind.name());
            }
            if self.is_up() {
                return Ok(());
            }
            sleep(Duration::from_millis(5));
        }
        bail!("{} did not answer within five minutes", self.kind.name())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn spawn(kind: Kind, options: &Options, dir: &Path, port: u16, extra: &str) -> Result<Child> {
    let words = kind.command(options, dir, port, extra);
    let log = fs::File::create(dir.join("bench.log"))?;
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", words.join(" ")))
}

/// What /proc counts CPU time in; the same on all Linux machines.
const TICKS_PER_SECOND: u64 = 100;
/// Without work for so long a server has come to rest, and has given back what it does not need.
const QUIET_SECONDS: u32 = 3;

fn cpu_ticks(pid: &str) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("/proc/PID/stat has no name")?.1;
    // User and system time, and the same of children that have ended.
    Ok(after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn proc_kib(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.trim().trim_end_matches(" kB").parse().ok()
}

fn written_bytes(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

/// What a folder and all below it take on disk; what vanishes meanwhile takes nothing.
fn taken_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let taken = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => taken_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    taken.sum()
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
