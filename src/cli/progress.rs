//! A bar on a terminal for what takes long: how much of a folder's or a file's bytes were read, or how much was written. Where standard
//! error is no terminal, nothing is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::persist::progress::Progress as Loading;
use crate::lifecycle::{Lifecycle, Phase, Plan, Stop};

/// How often the bar is looked after.
const TICK: Duration = Duration::from_millis(100);

/// A bar that is there until it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    watcher: Lifecycle,
}

impl Progress {
    /// For work that reads so many bytes in this process, about so many times.
    pub(crate) fn of_reading(what: &'static str, bytes: u64, times: f64) -> Progress {
        let bytes = (bytes as f64 * times) as u64;
        let before = bytes_read();
        let style = "{spinner} {msg} [{bar:30}] {percent}% {elapsed}";
        let bar = ProgressBar::new(bytes.max(1)).with_style(styled(style));
        // It reads a little more or less than that, and is not done before it says so.
        Progress::begin(bar, what, move || bytes_read().saturating_sub(before).min(bytes.saturating_sub(1)))
    }

    /// For a keyspace that is loaded.
    pub(crate) fn of_loading(progress: Arc<Loading>) -> Progress {
        let bar = ProgressBar::new(1).with_style(styled("{spinner} {msg} [{bar:30}] {percent}% {eta}"));
        let shown = bar.clone();
        Progress::begin(bar, "loading", move || {
            let Some(look) = progress.look() else { return 0 };
            shown.set_length(look.total_bytes.max(1));
            look.loaded_bytes
        })
    }

    /// For a backup that a server writes: how large it will be is not known.
    pub(crate) fn of_backup(what: &'static str, file: PathBuf) -> Progress {
        let bar = ProgressBar::no_length().with_style(styled("{spinner} {msg} {bytes} {elapsed}"));
        Progress::begin(bar, what, move || part_bytes(&file))
    }

    fn begin(bar: ProgressBar, what: &'static str, look: impl Fn() -> u64 + Send + 'static) -> Progress {
        let bar = bar.with_message(what);
        let shown = bar.clone();
        let watch = move |stop: &Stop| {
            while !stop.wait_for(TICK) {
                shown.set_position(look());
                shown.tick();
            }
        };
        let watcher = Lifecycle::default();
        if !bar.is_hidden() {
            // Without its thread the bar stands still.
            let _ = watcher.start(Plan::new("progress", Phase::Tend), watch);
        }
        Progress { bar, watcher }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.watcher.stop(Phase::Tend);
        self.bar.finish_and_clear();
    }
}

fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are sound").progress_chars("=> ")
}

/// Bytes that this process has read from files, as the system counts them; 0 where it does not tell.
fn bytes_read() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}

/// How large the unfinished file beside a backup is.
fn part_bytes(backup: &Path) -> u64 {
    let begin = format!(".{}.", backup.file_name().unwrap_or_default().to_string_lossy());
    let entries = backup.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(&begin) && name.ends_with(".part")
    });
    parts.filter_map(|part| part.metadata().ok()).map(|about| about.len()).sum()
}

/// Bytes of all files in a folder.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(|about| about.is_file()).map(|about| about.len()).sum()
}
