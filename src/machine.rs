//! Asks the operating system about this process and its machine: memory, processor time, names. For `INFO` and `/metrics`.

use std::fs;

/// Processor time is told in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of this process that are in physical memory; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// Bytes of physical memory the machine has; 0 where the system does not tell.
pub fn memory_bytes() -> u64 {
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// Keeps the system from backing this process' memory with pages of 2 MiB unasked: every place that is touched would take
/// as much, and free memory in between could not be handed back.
pub fn refuse_huge_pages() {
    // A system that has none needs no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn kilobytes(path: &str, field: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Seconds of processor time this process has used: in the system, and by itself.
pub fn cpu_seconds() -> (f64, f64) {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name stands in parentheses and may hold anything, so fields are counted from behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let tick = |at: usize| fields.split_whitespace().nth(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (tick(12) / TICKS_PER_SECOND, tick(11) / TICKS_PER_SECOND)
}

/// The system's name, release and processor, as `uname` gives them.
pub fn system_name() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy().into_owned()).join(" ")
}

/// The path of the program that runs.
pub fn program_path() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_answers() {
        assert!(resident_bytes() > 1 << 20 && resident_bytes() < memory_bytes());
        assert!(cpu_seconds().1 >= 0.0);
        assert!(system_name().split(' ').count() >= 3);
    }
}
