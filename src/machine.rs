//! Asks the operating system about this process and its machine: memory, processor time, names. For `INFO` and `/metrics`.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit};

/// Processor time is told in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of this process that are in physical memory: all, and those that are not of a file; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    (kilobytes(&text, "VmRSS:"), kilobytes(&text, "RssAnon:"))
}

/// Bytes of physical memory the machine has; 0 where the system does not tell.
pub(crate) fn memory_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:"))
}

/// What to do where an address cannot be listened on.
pub(crate) fn listen_hint(error: &io::Error, port: &str, bind: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("is another server running there? Choose another port with {port}"),
        io::ErrorKind::PermissionDenied => format!("the system keeps low ports for itself: choose one from 1024 on with {port}"),
        io::ErrorKind::AddrNotAvailable => format!("this machine has no such address: choose one that it has with {bind}"),
        _ => format!("choose another address with {bind} and {port}"),
    }
}

/// Keeps the system from backing this process' memory with pages of 2 MiB unasked: every place that is touched would take
/// as much, and free memory in between could not be handed back.
pub(crate) fn refuse_huge_pages() {
    // A system that has none needs no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Lets this process have so many files and connections open, as far as the system does; tells how many it may have then.
pub(crate) fn allow_open_files(wanted: u64) -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // No limit is said as None.
    let (current, maximum) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if current >= wanted {
        return current;
    }
    let raised = wanted.min(maximum);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Seconds of processor time, in the system and outside of it.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct CpuSeconds {
    /// Spent by the system for it.
    pub system: f64,
    /// Of its own.
    pub user: f64,
}

/// What this process has used, and what its children did that have ended.
pub(crate) fn cpu_seconds() -> (CpuSeconds, CpuSeconds) {
    let [user, system, child_user, child_system] = cpu_times("/proc/self/stat");
    (CpuSeconds { system, user }, CpuSeconds { system: child_system, user: child_user })
}

/// What a thread of this process has used.
pub(crate) fn thread_cpu_seconds(number: u32) -> CpuSeconds {
    let [user, system, ..] = cpu_times(&format!("/proc/self/task/{number}/stat"));
    CpuSeconds { system, user }
}

/// Microseconds for which a thread of this process had a processor; 0 where the system does not tell.
pub(crate) fn thread_active_us(number: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{number}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// The system's number of the calling thread.
pub(crate) fn thread_number() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Four times in a row, in seconds: its own, the system's, and the same of its children.
fn cpu_times(path: &str) -> [f64; 4] {
    const FIRST: usize = 11;
    let text = fs::read_to_string(path).unwrap_or_default();
    // The command's name stands in parentheses and may hold anything, so fields are counted from behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(FIRST).map(|ticks| ticks.parse::<f64>().unwrap_or(0.0));
    [(); 4].map(|()| ticks.next().unwrap_or(0.0) / TICKS_PER_SECOND)
}

/// The system's name, release and processor, as `uname` gives them.
pub(crate) fn system_name() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy().into_owned()).join(" ")
}

/// The path of the program that runs.
pub(crate) fn program_path() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_answers() {
        let (resident, anonymous) = resident_bytes();
        assert!(anonymous > 0 && resident > anonymous.max(1 << 20) && resident < memory_bytes());
        let start = cpu_seconds().0;
        let number = thread_number();
        while thread_cpu_seconds(number).user + thread_cpu_seconds(number).system < 0.02 {
            std::hint::black_box(system_name());
        }
        let now = cpu_seconds().0;
        assert!(now.user + now.system > start.user + start.system && thread_active_us(number) >= 10_000);
        assert!(system_name().split(' ').count() >= 3);
    }
}
