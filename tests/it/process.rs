//! Servers as processes of their own, flux' and Redis', and a plain connection to either.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The program that runs another in a system of its own.
const CHANGED_ROOT: &str = "chroot";

/// A server that runs until it is dropped.
pub struct Process {
    command: Command,
    child: Child,
    port: u16,
    /// Removed when the server is gone.
    dir: TempDir,
}

impl Process {
    /// `flux serve` with an empty folder and these arguments more; with two workers on any machine, so that clients meet those of another.
    pub fn flux(args: &[&str]) -> Process {
        Process::flux_by(Command::new(env!("CARGO_BIN_EXE_flux")), args)
    }

    /// The same with a limit of open files, as the shell's `ulimit` is told it.
    pub fn flux_with_files(limit: &str, args: &[&str]) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_flux")]);
        Process::flux_by(command, args)
    }

    fn flux_by(command: Command, args: &[&str]) -> Process {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        Process::serve(command, dir, data.as_ref(), args)
    }

    /// The same on a folder that outlives it.
    pub fn flux_in(data: &Path, args: &[&str]) -> Process {
        Process::serve(Command::new(env!("CARGO_BIN_EXE_flux")), TempDir::new().unwrap(), data.as_ref(), args)
    }

    /// The same where another one was, which has ended.
    pub fn flux_at(data: &Path, port: u16) -> Process {
        let command = Command::new(env!("CARGO_BIN_EXE_flux"));
        Process::serve_at(command, TempDir::new().unwrap(), data.as_ref(), port, &[])
    }

    /// The same without a folder.
    pub fn flux_in_memory(args: &[&str]) -> Process {
        Process::serve(Command::new(env!("CARGO_BIN_EXE_flux")), TempDir::new().unwrap(), "off".as_ref(), args)
    }

    /// `flux serve` on a folder, with this argument more, that is not waited for: it may be loading.
    pub fn flux_loading(data: &Path, port: u16, args: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flux"));
        command.arg("serve").arg("--data").arg(data).args(["--port", &port.to_string(), "--http-port", "0"]).args(args);
        let dir = TempDir::new().unwrap();
        let child = spawn(&mut command, &dir);
        let mut process = Process { command, child, port, dir };
        process.waits_until(Process::listens);
        process
    }

    fn serve(command: Command, dir: TempDir, data: &OsStr, args: &[&str]) -> Process {
        Process::serve_at(command, dir, data, free_port(), args)
    }

    fn serve_at(mut command: Command, dir: TempDir, data: &OsStr, port: u16, args: &[&str]) -> Process {
        command.arg("serve").arg("--data").arg(data).args(["--port", &port.to_string(), "--http-port", "0"]).args(args);
        if !args.contains(&"--threads") {
            command.args(["--threads", "2"]);
        }
        Process::start(command, dir, port)
    }

    /// A redis-server that keeps nothing, with these arguments more. None if none is installed, which in CI is a failure.
    pub fn redis(args: &[&str]) -> Option<Process> {
        if !has("redis-server (Debian: redis-server)", Command::new("redis-server").arg("--version")) {
            return None;
        }
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let mut command = Command::new("redis-server");
        command
            .arg("--dir")
            .arg(dir.path())
            .args(["--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes"])
            .args(args);
        Some(Process::start(command, dir, port))
    }

    /// A redis-server with no settings of ours but what the test machine needs. None if none is installed.
    pub fn redis_as_it_comes() -> Option<Process> {
        if !has("redis-server (Debian: redis-server)", Command::new("redis-server").arg("--version")) {
            return None;
        }
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let mut command = Command::new("redis-server");
        command.arg("--dir").arg(dir.path()).args(["--port", &port.to_string(), "--save", ""]);
        Some(Process::start(command, dir, port))
    }

    /// A server of a newer version, out of a system that `FLUX_NEWER_ROOT` names (a folder to change the root to, which root may), that
    /// keeps nothing. None if there is none.
    pub fn newer(program: &str) -> Option<Process> {
        let Some(root) = std::env::var_os("FLUX_NEWER_ROOT") else {
            println!("ignored: FLUX_NEWER_ROOT names no system with a newer {program}");
            return None;
        };
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let mut command = Command::new(CHANGED_ROOT);
        command.arg(root).arg(program).args(["--port", &port.to_string(), "--save", "", "--dir", "/tmp"]);
        Some(Process::start(command, dir, port))
    }

    fn start(mut command: Command, dir: TempDir, port: u16) -> Process {
        let child = spawn(&mut command, &dir);
        let mut process = Process { command, child, port, dir };
        process.waits_until(Process::is_ready);
        process
    }

    /// Ends it with kill -9, and starts it again as it was, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.child.wait().unwrap();
        self.child = spawn(&mut self.command, &self.dir);
        self.waits_until(Process::is_ready);
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// Whether it serves: flux listens before, while it loads, and greets then.
    fn is_ready(&self) -> bool {
        let program = self.command.get_program();
        self.listens() && (program == "redis-server" || program == CHANGED_ROOT || self.log().contains(" ready on "))
    }

    /// Waits until it is so far.
    pub fn waits_until(&mut self, is_so: impl Fn(&Process) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so(self) {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "the server ended at once: {}", log());
            assert!(Instant::now() < deadline, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with kill -9.
    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself, which it must.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process' number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where flux answers HTTP.
    pub fn http_port(&self) -> u16 {
        let Reply::Many(_, pair) = self.connect().call(&["CONFIG", "GET", "http-port"]).unwrap() else {
            panic!("it is a setting")
        };
        let Reply::Bulk(_, port) = &pair[1] else { panic!("it has a value") };
        String::from_utf8_lossy(port).parse().unwrap()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Its data folder.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { socket, buffer: Vec::new(), at: 0 }
    }
}

/// Starts a server that writes what it says to a file of this folder.
fn spawn(command: &mut Command, dir: &TempDir) -> Child {
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether what a test needs is installed, as a command that succeeds then shows. In CI it must be.
pub fn has(name: &str, probe: &mut Command) -> bool {
    let is_installed = probe.output().is_ok_and(|out| out.status.success());
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(is_installed || !is_ci, "{name} must be installed in CI");
    if !is_installed {
        println!("ignored: {name} is not installed");
    }
    is_installed
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A connection that shows replies as they are on the wire.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

/// A reply, its type's byte kept, so that equal replies are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// Everything that fits a line: `+OK`, `:1`, `-ERR …`, `_`, `,1.5`, `#t`, and nulls of RESP2.
    Line(String),
    /// A bulk string, or a verbatim one, with its type's byte.
    Bulk(char, Vec<u8>),
    /// An array, set, map or push, with its type's byte; a map's keys and values take turns.
    Many(char, Vec<Reply>),
}

impl Connection {
    /// Sends a command and reads its reply.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(words)?;
        self.read()
    }

    /// Sends a command.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        self.socket.write_all(&out)
    }

    /// Reads a reply.
    pub fn read(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let kind = line.chars().next().unwrap_or(' ');
        let len = || line[1..].parse::<i64>().map_err(io::Error::other);
        match kind {
            '$' | '=' | '!' if len()? >= 0 => {
                let mut bytes = self.take(len()? as usize + 2)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Reply::Bulk(kind, bytes))
            }
            '*' | '~' | '>' if len()? >= 0 => Ok(Reply::Many(kind, (0..len()?).map(|_| self.read()).collect::<io::Result<_>>()?)),
            '%' => Ok(Reply::Many(kind, (0..2 * len()?).map(|_| self.read()).collect::<io::Result<_>>()?)),
            _ => Ok(Reply::Line(line)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer[self.at..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[self.at..self.at + end]).into_owned();
                self.at += end + 2;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < self.at + len {
            self.fill()?;
        }
        let bytes = self.buffer[self.at..self.at + len].to_vec();
        self.at += len;
        Ok(bytes)
    }

    /// Sends these bytes and nothing more, ever, and reads what is answered until the server closes.
    pub fn last_words(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.socket.write_all(bytes)?;
        self.socket.shutdown(Shutdown::Write)?;
        let mut answered = Vec::new();
        self.socket.read_to_end(&mut answered)?;
        Ok(answered)
    }

    /// Reads on until so many bytes more have come, and keeps them.
    pub fn fill_up(&mut self, bytes: usize) -> io::Result<()> {
        let wanted = self.buffer.len() - self.at + bytes;
        while self.buffer.len() - self.at < wanted {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.buffer.extend_from_slice(&piece[..len]);
                Ok(())
            }
        }
    }
}

/// How long what must come soon, a reply or that something is so, may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says to a test that it has its process to itself.
const ALONE: &str = "FLUX_TEST_ALONE";

/// For a test that measures its process: runs it in one of its own, and gives false where that has passed. True within that one.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let out = child.args(["--exact", "--nocapture", test]).env(ALONE, "1").output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && told.contains(" 1 passed"), "{told}");
    false
}
