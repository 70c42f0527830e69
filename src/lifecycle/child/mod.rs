//! Child processes: programs that work for us, with whom we exchange frames over their standard input and output.
//!
//! Between us and a program stands a small process of ours, its **supervisor** (`flux child`, see [`supervisor`]), which sees to what a
//! parent cannot see to without `unsafe` code, or at all: the program has its limits before its first instruction, a session of its own, and
//! whatever it starts ends with it, also what left its process group; and when we are killed, all of them are, too.
//!
//!   we --frames--> stdin   program --> its own children
//!      <-frames--  stdout     |
//!      <--log----  stderr     supervisor: waits for the program's end, for ours, for SIGTERM (passed on), for SIGUSR1 (kill all)
//!
//! - **Frames** are a length of four bytes, little-endian, and so many bytes, at most [`Program::frame_bytes_max`]. Nothing is queued here: who sends
//!   waits until the program reads, and a program that writes waits until we read.
//! - **Standard error** goes to the log under the program's name, so much of it that a program cannot fill the log; its end is kept for
//!   whoever wants to know why it died.
//! - **Ending**: [`Child::drain`] closes its input and takes its last answers, [`Child::stop`] asks it by SIGTERM, both until a deadline;
//!   [`Child::kill`] and dropping it kill it with all its children.
//! - **Again**: [`Lifecycle::keep_child`] launches it anew after a pause when it has died.

mod pipes;
mod program;
mod supervisor;

pub use pipes::{Broken, Input, Output};
pub use program::{Limits, Program};
pub(crate) use supervisor::run;

use std::fmt::{self, Display};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::task::{keep, of_connection};
use super::{Backoff, Kind, Lifecycle, OnDeath, Plan, Stop};

/// Starts programs, by a `flux` that is their supervisor.
#[derive(Debug, Clone)]
pub struct Launcher(PathBuf);

impl Launcher {
    /// With another file that is flux: for programs that have flux within them, and tests.
    pub fn new(flux: impl Into<PathBuf>) -> Launcher {
        Launcher(flux.into())
    }

    /// For `flux` itself: with the very file that runs, whatever stands at its path meanwhile.
    pub fn of_this_program() -> Launcher {
        Launcher::new("/proc/self/exe")
    }

    /// Launches a program. To be called within a runtime. That the program's file is not there or cannot be run is told as its end, with
    /// exit code 127 or 126 and the reason on its standard error.
    pub fn launch(&self, program: &Program) -> io::Result<Child> {
        let mut command = Command::new(&self.0);
        command.args(supervisor::order(std::process::id(), program)).env_clear().envs(program.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &program.folder {
            command.current_dir(folder);
        }
        #[expect(clippy::disallowed_methods, reason = "this is the place that starts processes")]
        let mut supervisor = command.spawn()?;
        let (input, output) = (supervisor.stdin.take(), supervisor.stdout.take());
        let said = Arc::new(Mutex::new(String::new()));
        if let Some(errors) = supervisor.stderr.take() {
            of_connection(pipes::log(program.name.clone(), errors, Arc::clone(&said)));
        }
        Ok(Child {
            name: program.name.clone(),
            supervisor,
            input: Input::new(input, program.frame_bytes_max),
            output: Output::new(output.expect("it was asked for"), program.frame_bytes_max),
            said,
        })
    }
}

/// A running program, with all it has started. When it is dropped, all of them are killed.
pub struct Child {
    name: String,
    supervisor: tokio::process::Child,
    input: Input,
    output: Output,
    said: Arc<Mutex<String>>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; 128 and the signal's number where a signal ended it, as shells have it.
    pub code: i32,
    /// The end of what it wrote to standard error.
    pub said: String,
}

impl Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            code @ 129..=192 => write!(out, "was ended by signal {}", code - 128)?,
            code => write!(out, "ended with code {code}")?,
        }
        let last = self.said.trim_end().lines().next_back().unwrap_or_default();
        if last.is_empty() { Ok(()) } else { write!(out, "; the last it said: {last}") }
    }
}

/// How a program that was to end did so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// By itself.
    Whole(Ended),
    /// It was killed at the deadline, or since what it sent was no frame.
    Cut(Ended),
}

impl Child {
    /// The system's number of its supervisor, which is there as long as anything of it is.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.id()
    }

    /// Sends a frame; waits until the program has read so much that the rest fits into the pipe.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), Broken> {
        self.input.send(frame).await
    }

    /// The next frame; None when the program has closed its output. Nothing is lost where this is dropped before it comes.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        self.output.receive().await
    }

    /// Both directions, to be used at once: who only sends while the program only sends waits for ever.
    pub fn pipes(&mut self) -> (&mut Input, &mut Output) {
        (&mut self.input, &mut self.output)
    }

    /// Waits until it and all it has started have ended. Its output is to be taken meanwhile, or it may wait for that.
    pub async fn ended(&mut self) -> Ended {
        let code = match self.supervisor.wait().await {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => code,
                // It came before the supervisor could handle it, so before there was a program.
                (None, Some(signal)) if signal == supervisor::KILL_ALL.as_raw() => 128 + Signal::KILL.as_raw(),
                (None, signal) => 128 + signal.unwrap_or_default(),
            },
            Err(error) => {
                tracing::error!("failed to wait for `{}`: {error}", self.name);
                -1
            }
        };
        Ended { code, said: self.said.lock().clone() }
    }

    /// Sends no more, and takes its last answers until it ends; kills it after so long.
    pub async fn drain(mut self, grace: Duration, mut answer: impl FnMut(Vec<u8>)) -> Drained {
        self.input.close();
        let ends = async {
            while let Some(frame) = self.output.receive().await? {
                answer(frame);
            }
            Ok::<_, Broken>(())
        };
        // The time it takes to close its output and to end is one.
        let until = tokio::time::Instant::now() + grace;
        let is_whole = matches!(tokio::time::timeout_at(until, ends).await, Ok(Ok(())));
        self.ends_by(until, is_whole).await
    }

    /// Asks it to end by SIGTERM, as its group; kills it after so long. What it still sends is dropped.
    pub async fn stop(mut self, grace: Duration) -> Drained {
        self.input.close();
        self.signal(Signal::TERM);
        let until = tokio::time::Instant::now() + grace;
        let ends = async { while let Ok(Some(_)) = self.output.receive().await {} };
        let is_whole = tokio::time::timeout_at(until, ends).await.is_ok();
        self.ends_by(until, is_whole).await
    }

    async fn ends_by(mut self, until: tokio::time::Instant, is_whole: bool) -> Drained {
        if is_whole && let Ok(ended) = tokio::time::timeout_at(until, self.ended()).await {
            return Drained::Whole(ended);
        }
        Drained::Cut(self.kill().await)
    }

    /// Kills it with all it has started, and waits until they are gone.
    pub async fn kill(mut self) -> Ended {
        self.signal(supervisor::KILL_ALL);
        self.ended().await
    }

    /// To the supervisor, which is not waited for yet: so the number is still its own.
    fn signal(&self, signal: Signal) {
        let pid = self.supervisor.id().and_then(|pid| Pid::from_raw(pid as i32));
        if let Some(pid) = pid {
            // It has ended meanwhile, and so has everything else.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(supervisor::KILL_ALL);
    }
}

impl Lifecycle {
    /// Keeps a program running: `serve` has it while it lives, and returns when it is done with it, with the reason. After a pause it is
    /// launched again. To be called within the runtime that carries it; when the runtime or `serve` is dropped, so is the program.
    pub fn keep_child<F>(
        &self,
        plan: Plan,
        backoff: Backoff,
        launcher: Launcher,
        program: Program,
        mut serve: impl FnMut(Child, Stop) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let entry = self.enter(plan, Kind::Child, OnDeath::Restart)?;
        keep(entry, backoff, move |entry| {
            let served = launcher.launch(&program).map(|child| {
                entry.becomes(child.pid());
                serve(child, entry.stop.clone())
            });
            async move {
                match served {
                    Ok(serving) => serving.await,
                    Err(error) => Err(format!("could not be launched: {error}")),
                }
            }
        });
        Ok(())
    }
}
