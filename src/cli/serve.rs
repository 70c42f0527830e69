//! `flux serve`: opens the house, says where it can be reached, and closes it when asked to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::log;
use crate::cli::progress::Progress;
use crate::commands::instance::Instance;
use crate::config::{Config, Name};
use crate::engine::persist::Held;
use crate::machine;
use crate::node::{Node, Opening, Taken};
use crate::panics;
use crate::settings;
use crate::storage::folder::make_private;
use crate::storage::opening::OnDamage;
use crate::version::VERSION;

/// Serves until a signal or `SHUTDOWN`.
pub(crate) fn serve(config: Config, warnings: &[String], on_damage: OnDamage) -> anyhow::Result<ExitCode> {
    panics::end_the_process();
    machine::refuse_huge_pages();
    let config = Arc::new(config);
    log::start(&config)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if let Some(exposed) = settings::exposed(&config) {
        tracing::warn!("{exposed}");
    }
    settings::connect_limits(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to wait for signals")?;
    outlive_signals(&runtime).context("failed to wait for signals")?;
    let taken = Taken::take(&config).context("failed to start")?;
    let held = data_folder(&config)?.map(|data| Held::at(&data)).transpose().context("failed to start")?;
    let ended = runtime.block_on(async {
        let mut ends = End::listen().context("failed to wait for signals")?;
        let opening = Opening::begin(Arc::clone(&config), taken, held, on_damage).context("failed to start")?;
        let Some((node, asked)) = loaded(opening, &mut ends).await? else { return Ok(ExitCode::SUCCESS) };
        // Whoever has read the greeting may ask it to end.
        if let Err(error) = writeln!(io::stdout(), "{}", greeting(&node, &config)) {
            tracing::warn!("the greeting cannot be written to standard output: {error}");
        }
        let name = match asked {
            Some(name) => name,
            None => ends.or_shutdown(&node.instance).await,
        };
        tracing::info!("{name} received: finishing what is under way, then ending");
        let keeps_nothing = node.persistence.is_none();
        // Whoever asks twice does not want to wait.
        tokio::select! {
            name = ends.again(name) => {
                tracing::warn!("{name} received again: ending at once");
                Ok(ExitCode::FAILURE)
            }
            ended = tokio::task::spawn_blocking(|| node.stop()) => {
                ended.context("failed to end: a thread panicked")?.context("failed to end")?;
                tracing::info!("ended; {}", if keeps_nothing { "nothing was kept on disk" } else { "everything is on disk" });
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    // Whoever was told to end at once waits for nothing that is still under way.
    runtime.shutdown_background();
    ended
}

/// The node, once its keyspace is loaded, and what has ended it already, if something has; None if it is to end before. Nobody has changed anything
/// by then, and what loading changes in the folder may be cut off anywhere, as by a kill: so the process can just end.
async fn loaded(mut opening: Opening, ends: &mut End) -> anyhow::Result<Option<(Node, Option<&'static str>)>> {
    let instance = Arc::clone(&opening.instance);
    let progress = Progress::of_loading(Arc::clone(&instance.loading));
    let end = tokio::select! {
        biased;
        () = opening.done() => None,
        name = ends.or_shutdown(&instance) => Some(name),
    };
    drop(progress);
    if let Some(name) = end {
        if instance.loading.give_up() {
            tracing::info!("{name} received while loading: ending at once");
            return Ok(None);
        }
        // It came when all was there, so clients may have changed something since: the end is that of a server.
        instance.end();
    }
    let node = opening.finish().context("failed to start")?;
    Ok(Some((node, end)))
}

/// Signals that would end a process that has not thought of them, and must not end a server in the midst of its work: those of a terminal that is
/// closed, those that are for programs to give a meaning to, and that of a file that may not become longer (`ulimit -f`), which is a write that
/// fails, of which clients are told as of others.
fn outlive_signals(runtime: &Runtime) -> io::Result<()> {
    let _within = runtime.enter();
    for (number, name) in [
        (SignalKind::hangup(), "SIGHUP"),
        (SignalKind::user_defined1(), "SIGUSR1"),
        (SignalKind::user_defined2(), "SIGUSR2"),
        (SignalKind::alarm(), "SIGALRM"),
    ] {
        let mut heard = signal(number)?;
        runtime.spawn(async move {
            while heard.recv().await.is_some() {
                tracing::info!(
                    "{name} received, which means nothing here: going on (SIGTERM ends the server, CONFIG SET changes settings)"
                );
            }
        });
    }
    // It is handled from now on, whether anyone listens or not.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Signals within this time of the first one are the same wish to end: some senders (`timeout`, terminals) send to the process and to its group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// What ends a server beside signals.
const SHUTDOWN: &str = "SHUTDOWN";

/// The signals that end a server.
struct End {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl End {
    fn listen() -> io::Result<End> {
        let (terminate, interrupt, quit) = (SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit());
        Ok(End { terminate: signal(terminate)?, interrupt: signal(interrupt)?, quit: signal(quit)? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }

    /// The next one, or [`SHUTDOWN`].
    async fn or_shutdown(&mut self, instance: &Instance) -> &'static str {
        tokio::select! {
            name = self.next() => name,
            () = instance.ended() => SHUTDOWN,
        }
    }

    /// The next one that is another wish than this first one. After [`SHUTDOWN`] it takes one more: whoever stops a service so sends a signal, too.
    async fn again(&mut self, first: &str) -> &'static str {
        if first == SHUTDOWN {
            self.next().await;
        }
        let same = tokio::time::sleep(SAME_WISH);
        tokio::pin!(same);
        loop {
            tokio::select! {
                () = &mut same => return self.next().await,
                _ = self.next() => {}
            }
        }
    }
}

/// The folder for the data, made if missing; None to keep it in memory only. `CONFIG GET dir` shows it whole.
fn data_folder(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let folder = config.text(Name::Data);
    if &*folder == "off" {
        return Ok(None);
    }
    let hint = || format!("failed to use `{folder}` as data folder; choose another with --data DIR, or --data off");
    if Path::new(&*folder).is_file() {
        bail!("`{folder}` is a file, not a data folder; choose another with --data DIR, or --data off");
    }
    make_private(Path::new(&*folder)).with_context(hint)?;
    let path = std::fs::canonicalize(&*folder).with_context(hint)?;
    config.settle(Name::Data, &path.to_string_lossy());
    Ok(Some(path))
}

/// One line: the version, where everything listens, what was loaded.
fn greeting(node: &Node, config: &Config) -> String {
    let mut doors: Vec<String> = node.addresses().iter().map(|address| format!("redis://{address}")).collect();
    let socket = config.text(Name::Unixsocket);
    if !socket.is_empty() {
        doors.push(format!("unix:{socket}"));
    }
    doors.extend(node.http_addresses().iter().map(|address| format!("http://{address}")));
    let data = if &*config.text(Name::Data) == "off" {
        "nothing is kept on disk".to_owned()
    } else {
        let loaded = node.loaded();
        format!("{} keys loaded from {} in {:.3} s", loaded.keys, config.text(Name::Data), loaded.took.as_secs_f64())
    };
    format!("flux {VERSION} ready on {}; {data}", doors.join(", "))
}
