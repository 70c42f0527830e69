//! The process between us and a program, and the program's first steps: `flux child`, which no user calls.
//!
//! `flux child supervise` has a session of its own, so that no terminal ends it. It adopts whatever its descendants leave behind
//! (`PR_SET_CHILD_SUBREAPER`), so at the end it finds all of them among its children, however they tried to get away, and kills them. It waits
//! for whichever comes first: the program's end, ours (by a pidfd: a death signal would already come when the *thread* of ours that
//! launched it ends), SIGTERM, SIGUSR1. It holds neither pipe, so the program's are closed when the program closes them.
//!
//! `flux child enter` becomes the program: it sets the limits, is killed when the supervisor is (`PR_SET_PDEATHSIG`, which outlives `exec`), takes a session of
//! its own, and calls `exec`. All of this is possible in the child only, and `pre_exec` of the standard library is `unsafe`, since after a fork of
//! a process with threads hardly anything may be called; in a fresh process everything may.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, getrlimit, kill_process,
    kill_process_group, pidfd_open, set_child_subreaper, set_parent_process_death_signal, setrlimit, setsid, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::{Limits, Program};
use crate::lifecycle::{Lifecycle, Phase, Plan};

/// Tells a supervisor to kill all that is below it.
pub(super) const KILL_ALL: Signal = Signal::USR1;

/// As shells tell of a program that is not there, and of one that cannot be run.
const NOT_THERE: u8 = 127;
const NOT_RUN: u8 = 126;
/// Also when the supervisor itself cannot do its work.
const KILLED: u8 = 137;

/// The limits, in the order of an order.
const RESOURCES: [Resource; 5] = [Resource::As, Resource::Cpu, Resource::Nofile, Resource::Nproc, Resource::Fsize];

impl Limits {
    fn values(&self) -> [Option<u64>; RESOURCES.len()] {
        [self.address_space_bytes, self.cpu_seconds, self.open_files, self.processes, self.file_bytes]
    }
}

/// The arguments of a supervisor: our number, the limits (`-` is none), the program and its arguments.
pub(super) fn order(parent: u32, program: &Program) -> Vec<OsString> {
    let limits = program.limits.values().map(|limit| limit.map_or("-".into(), |limit| limit.to_string().into()));
    let words = ["child".into(), "supervise".into(), parent.to_string().into()];
    words.into_iter().chain(limits).chain([program.path.clone().into_os_string()]).chain(program.args.iter().cloned()).collect()
}

/// Does what `flux child` is asked to, with all that follows these two words.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let (role, rest) = match args.split_first() {
        Some((role, rest)) if rest.len() > RESOURCES.len() + 1 => (role, rest),
        _ => return fails("flux: `flux child` is for flux itself, which starts programs by it"),
    };
    let Some(parent) = number(&rest[0]).and_then(|number| Pid::from_raw(number as i32)) else {
        return fails("flux: `flux child` is told no parent");
    };
    match role.to_str() {
        Some("supervise") => supervise(parent, &rest[1..]).unwrap_or_else(|error| fails(&format!("flux: supervise: {error}"))),
        Some("enter") => enter(parent, &rest[1..]),
        _ => fails("flux: `flux child` knows no such role"),
    }
}

fn fails(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(NOT_RUN)
}

fn number(text: &OsStr) -> Option<u64> {
    text.to_str()?.parse().ok()
}

/// Becomes the program.
fn enter(parent: Pid, order: &[OsString]) -> ExitCode {
    let (limits, words) = order.split_at(RESOURCES.len());
    let entered = set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| setsid().map(drop))
        .and_then(|()| RESOURCES.into_iter().zip(limits).try_for_each(|(resource, limit)| set(resource, number(limit))))
        // What it held in memory is nobody's business.
        .and_then(|()| set(Resource::Core, Some(0)));
    if let Err(error) = entered {
        return fails(&format!("flux: limit `{}`: {error}", words[0].display()));
    }
    if getppid() != Some(parent) {
        // It has gone before the death signal was set.
        return ExitCode::from(KILLED);
    }
    let error = Command::new(&words[0]).args(&words[1..]).exec();
    eprintln!("flux: run `{}`: {error}", words[0].display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_THERE } else { NOT_RUN })
}

fn set(resource: Resource, limit: Option<u64>) -> rustix::io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    // A second to make sense of SIGXCPU.
    let last = if resource == Resource::Cpu { limit.saturating_add(1) } else { limit };
    setrlimit(resource, Rlimit { current: Some(limit.min(most)), maximum: Some(last.min(most)) })
}

fn supervise(parent: Pid, order: &[OsString]) -> io::Result<ExitCode> {
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let ours = pidfd_open(parent, PidfdFlags::NONBLOCK)?;
    if getppid() != Some(parent) {
        // It is gone already, and the number may be another's.
        return Ok(ExitCode::from(KILLED));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(attend(ours, order));
    kill_rest();
    code
}

/// Starts the program and waits for what ends it; its exit code.
async fn attend(ours: OwnedFd, order: &[OsString]) -> io::Result<ExitCode> {
    // Before there is a program, so that nothing is missed.
    let kind = |name: Signal| signal(SignalKind::from_raw(name.as_raw()));
    let (mut ends, mut terminate, mut kill) = (kind(Signal::CHILD)?, kind(Signal::TERM)?, kind(KILL_ALL)?);
    let mut orphaned = end_of(ours)?;
    let program = start(order)?;
    loop {
        tokio::select! {
            _ = ends.recv() => if let Some(code) = reap(program) {
                return Ok(ExitCode::from(code));
            },
            _ = terminate.recv() => end(program),
            _ = kill.recv() => return Ok(ExitCode::from(KILLED)),
            _ = &mut orphaned => return Ok(ExitCode::from(KILLED)),
        }
    }
}

/// Asks a program to end, as its group. Before it has a group of its own, it is not even the program yet, and has started nothing.
fn end(program: Pid) {
    if kill_process_group(program, Signal::TERM).is_err() {
        // It has ended meanwhile.
        let _ = kill_process(program, Signal::TERM);
    }
}

/// Tells when a process has ended.
fn end_of(process: OwnedFd) -> io::Result<oneshot::Receiver<()>> {
    let (told, ended) = oneshot::channel();
    let wait = move |_: &_| {
        while poll(&mut [PollFd::new(&process, PollFlags::IN)], None).is_err_and(|error| error == rustix::io::Errno::INTR) {}
        let _ = told.send(());
    };
    Lifecycle::default().work(Plan::new("parent", Phase::Finish), wait)?;
    Ok(ended)
}

fn start(order: &[OsString]) -> io::Result<Pid> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["child", "enter", &std::process::id().to_string()]).args(order);
    #[expect(clippy::disallowed_methods, reason = "this is the place that starts processes")]
    let program = command.spawn()?;
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(nothing.as_fd())?;
    rustix::stdio::dup2_stdout(nothing.as_fd())?;
    Ok(Pid::from_raw(program.id() as i32).expect("it was started"))
}

/// Takes note of all that have ended; the exit code, if the program has.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            code = Some(exit_code(status));
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> u8 {
    let signalled = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signalled).map_or(KILLED, |code| code as u8)
}

/// Kills all that is left, until there are no children any more: whoever loses a parent meanwhile becomes one. Looking for them costs a
/// read for each process of the machine, and is done only while there are some.
fn kill_rest() {
    // Fails when there are none.
    while let Ok(ended) = wait(WaitOptions::NOHANG) {
        if ended.is_some() {
            continue;
        }
        children().for_each(|child| {
            // Its whole group at once, if it has one, so that fewer are born meanwhile.
            let _ = kill_process_group(child, Signal::KILL);
            let _ = kill_process(child, Signal::KILL);
        });
        let _ = wait(WaitOptions::empty());
    }
}

/// The processes whose parent this is.
fn children() -> impl Iterator<Item = Pid> {
    let own = getpid().as_raw_pid();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // The name stands in parentheses and may hold anything; the state and the parent follow it.
        let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent == own).then(|| Pid::from_raw(pid)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn one_that_has_no_group_yet_hears_that_it_is_to_end() {
        for has_group in [false, true] {
            let mut command = Command::new("sleep");
            command.arg("1000");
            if has_group {
                command.process_group(0);
            }
            #[expect(clippy::disallowed_methods, reason = "it stands for the program")]
            let mut program = command.spawn().expect("every system has it");
            end(Pid::from_raw(program.id() as i32).expect("it was started"));
            assert_eq!(program.wait().expect("it is ours").signal(), Some(Signal::TERM.as_raw()), "{has_group}");
        }
    }

    #[test]
    fn an_order_says_the_parent_the_limits_and_the_words() {
        let mut program = Program::new("name", "/bin/program");
        program.args = vec!["one".into(), "-".into()];
        program.limits.cpu_seconds = Some(7);
        let words = order(42, &program);
        assert_eq!(words, ["child", "supervise", "42", "-", "7", "-", "-", "-", "/bin/program", "one", "-"]);
    }
}
