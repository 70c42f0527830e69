//! Many who wait at once: what one command costs that serves a client out of thousands, that meets thousands of keys someone waits for, or
//! that comes while thousands hang up. Costs that grow with those who only wait show here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::driver::write_request;
use crate::report::{Goal, Report, ratio};
use crate::sections::{BARE, FLUX, in_turn, medians};
use crate::server::Server;

/// One kind of crowd.
struct Case {
    name: &'static str,
    run: fn(&Server) -> Result<Cost>,
}

/// What the timed commands of a case cost.
struct Cost {
    /// Microseconds of each, sorted.
    micros: Vec<f64>,
    /// The server's CPU time for each.
    cpu_us: f64,
}

const CASES: &[Case] = &[
    Case { name: "LPUSH, 1,000 clients in BLPOP on the list", run: |server| push(server, b"LPUSH", 1000) },
    Case { name: "LPUSH, 4,000 clients in BLPOP on the list", run: |server| push(server, b"LPUSH", 4000) },
    Case { name: "RPUSH, 2,000 clients in BLPOP on the list", run: |server| push(server, b"RPUSH", 2000) },
    Case { name: "PUBLISH to 1,000 listeners, its answer", run: |server| publish(server, false) },
    Case { name: "PUBLISH to 1,000 listeners, until the last has it", run: |server| publish(server, true) },
    Case { name: "MSET of 10,000 keys that one BLPOP waits for", run: set_waited },
    Case { name: "SWAPDB, 50,000 keys that one BLPOP waits for", run: swap_waited },
    Case { name: "PING while 9,000 clients hang up, CPU for each of those", run: ping_while_others_leave },
];

/// Clients one server may have at once: the largest crowd, and those who watch it.
const CLIENTS_MAX: usize = 9_100;
/// How long a server may take to come to where a case begins or ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// All cases.
pub fn waiting(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds(5);
    let servers = [FLUX, BARE].iter().map(|kind| Server::start(*kind, options, &format!("--maxclients {CLIENTS_MAX}")));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    servers.iter().for_each(Server::pause);
    report.table(
        "Many who wait",
        &format!(
            "From a command to its answer, microseconds, one connection, {rounds} rounds; `worst` is the median of the rounds' longest. CPU is \
             the server's for each of these commands, with all that follows of it until the case ends. Redis keeps nothing."
        ),
        &["case", "flux", "Redis", "ratio", "flux worst", "Redis worst", "ratio", "flux CPU", "Redis CPU", "ratio"],
    );
    for case in CASES {
        let results = (0..rounds).map(|round| in_turn(&servers, round, |server| (case.run)(server).context(case.name)));
        row(report, case.name, &results.collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

fn row(report: &mut Report, name: &str, results: &[Vec<Cost>]) {
    let middle = medians(results, |cost| cost.micros[cost.micros.len() / 2]);
    let worst = medians(results, |cost| cost.micros[cost.micros.len() - 1]);
    let cpu = medians(results, |cost| cost.cpu_us);
    let mut cells = vec![name.to_owned()];
    for both in [middle, worst, cpu] {
        cells.extend(both.iter().map(|micros| format!("{micros:.1}")));
        cells.push(ratio(both[0], both[1], Goal::None));
    }
    report.row(&cells);
}

/// One element at a time for a list at which so many wait; a tenth of them is served.
fn push(server: &Server, command: &[u8], waiters: usize) -> Result<Cost> {
    let crowd = crowd(server, waiters, &[b"BLPOP", b"list", b"0"])?;
    until(server, "blocked_clients", |now| now == waiters)?;
    let cost = timed(server, waiters / 10, |client, _| client.call(&[command, b"list", b"element"]))?;
    leave(server, crowd)?;
    Ok(cost)
}

fn publish(server: &Server, counts_all: bool) -> Result<Cost> {
    const LISTENERS: usize = 1000;
    const MESSAGES: usize = 50;
    let mut crowd = crowd(server, LISTENERS, &[b"SUBSCRIBE", b"news"])?;
    // An array of two strings and a number, which six lines hold; so has a message, but for the last, which is a string of two lines.
    read_lines(&mut crowd, 6)?;
    let cost = timed(server, MESSAGES, |client, _| {
        client.call(&[b"PUBLISH", b"news", b"message"])?;
        if counts_all { read_lines(&mut crowd, 7) } else { Ok(()) }
    })?;
    if !counts_all {
        read_lines(&mut crowd, 7 * MESSAGES)?;
    }
    leave(server, crowd)?;
    Ok(cost)
}

fn set_waited(server: &Server) -> Result<Cost> {
    let keys = names(10_000);
    let crowd = crowd_at_keys(server, &keys)?;
    let words: Vec<&[u8]> = [&b"MSET"[..]].into_iter().chain(keys.iter().flat_map(|key| [&**key, b"value"])).collect();
    let cost = timed(server, 5, |client, _| client.call(&words))?;
    leave(server, crowd)?;
    server.ask::<redis::Value>("FLUSHALL")?;
    Ok(cost)
}

fn swap_waited(server: &Server) -> Result<Cost> {
    let crowd = crowd_at_keys(server, &names(50_000))?;
    let cost = timed(server, 10, |client, _| client.call(&[b"SWAPDB", b"0", b"1"]))?;
    leave(server, crowd)?;
    Ok(cost)
}

fn ping_while_others_leave(server: &Server) -> Result<Cost> {
    const LEAVING: usize = 9000;
    let mut crowd = crowd(server, LEAVING, &[b"PING"])?;
    read_lines(&mut crowd, 1)?;
    let are_gone = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| timed(server, usize::MAX, |client, _| client.call_unless(&are_gone, &[b"PING"])));
        let left = leave(server, crowd);
        are_gone.store(true, Relaxed);
        let pings = pings.join().expect("who pings does not panic")?;
        left?;
        // How many pings there were depends on how fast they were.
        let cpu_us = pings.cpu_us * pings.micros.len() as f64 / LEAVING as f64;
        Ok(Cost { cpu_us, ..pings })
    })
}

/// Times so many commands, or until one says with an error of [`Client::call_unless`] that it was the last.
fn timed(server: &Server, count: usize, mut run: impl FnMut(&mut Client, usize) -> Result<()>) -> Result<Cost> {
    let mut client = Client::connect(server)?;
    client.call(&[b"PING"])?;
    let (before, mut micros) = (server.threads_cpu()?, Vec::new());
    for number in 0..count {
        let sent_at = Instant::now();
        match run(&mut client, number) {
            Err(error) if error.is::<Last>() => break,
            done => done?,
        }
        micros.push(sent_at.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = server.threads_cpu()?.saturating_sub(before);
    ensure!(!micros.is_empty(), "nothing was timed");
    let cpu_us = cpu.as_secs_f64() * 1e6 / micros.len() as f64;
    micros.sort_unstable_by(f64::total_cmp);
    Ok(Cost { micros, cpu_us })
}

/// There is nothing more to time.
#[derive(Debug, thiserror::Error)]
#[error("the last one was timed")]
struct Last;

/// One connection, for commands whose answer is a line.
struct Client {
    socket: BufReader<TcpStream>,
    line: String,
}

impl Client {
    fn connect(server: &Server) -> Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", server.port()))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { socket: BufReader::new(socket), line: String::new() })
    }

    fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut out = Vec::new();
        write_request(&mut out, words);
        Ok(self.socket.get_mut().write_all(&out)?)
    }

    fn call(&mut self, words: &[&[u8]]) -> Result<()> {
        self.send(words)?;
        self.line.clear();
        self.socket.read_line(&mut self.line)?;
        ensure!(self.line.starts_with(['+', ':']), "{} answered {:?}", String::from_utf8_lossy(words[0]), self.line);
        Ok(())
    }

    fn call_unless(&mut self, is_over: &AtomicBool, words: &[&[u8]]) -> Result<()> {
        ensure!(!is_over.load(Relaxed), Last);
        self.call(words)
    }
}

/// So many clients that have all sent the same.
fn crowd(server: &Server, count: usize, words: &[&[u8]]) -> Result<Vec<TcpStream>> {
    let mut request = Vec::new();
    write_request(&mut request, words);
    let connect = |_| {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(&request)?;
        Ok(socket)
    };
    (0..count).map(connect).collect()
}

/// One client that waits for all these keys.
fn crowd_at_keys(server: &Server, keys: &[Vec<u8>]) -> Result<Vec<TcpStream>> {
    let words: Vec<&[u8]> = [&b"BLPOP"[..]].into_iter().chain(keys.iter().map(|key| &**key)).chain([&b"0"[..]]).collect();
    let crowd = crowd(server, 1, &words)?;
    until(server, "blocked_clients", |now| now == 1)?;
    Ok(crowd)
}

fn names(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("key:{number}").into_bytes()).collect()
}

/// Reads so many lines from each.
fn read_lines(crowd: &mut [TcpStream], lines: usize) -> Result<()> {
    let mut piece = [0; 4096];
    for socket in crowd {
        let mut left = lines;
        while left > 0 {
            let len = socket.read(&mut piece)?;
            ensure!(len > 0, "the server closed a connection");
            let came = memchr::memchr_iter(b'\n', &piece[..len]).count();
            left = left.checked_sub(came).context("more came than was expected")?;
        }
    }
    Ok(())
}

/// All hang up, and the server knows.
fn leave(server: &Server, crowd: Vec<TcpStream>) -> Result<()> {
    drop(crowd);
    until(server, "blocked_clients", |now| now == 0)?;
    // Whoever times commands meanwhile, and who asks.
    until(server, "connected_clients", |now| now <= 2)
}

/// Waits until a field of INFO's is as it should be.
fn until(server: &Server, field: &str, is_reached: impl Fn(usize) -> bool) -> Result<()> {
    let mut connection = server.connect()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text: String = redis::cmd("INFO").arg("clients").query(&mut connection)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let now = line.with_context(|| format!("INFO has no {field}"))?.trim().parse()?;
        if is_reached(now) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}: {field} stays at {now}", server.kind().name());
        thread::sleep(Duration::from_millis(2));
    }
}
