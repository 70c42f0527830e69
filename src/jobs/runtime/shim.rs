//! The shim (`flux shim`): it takes one task over its standard input, runs it, and tells over its standard output what the task writes and how it
//! ends. The task has pipes of its own, so nothing it writes is taken for what the shim says.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::wire::{Said, Task, read_frame, write_frame};

/// Bytes of what a task writes that are told at once.
const PIECE_BYTES: usize = 16 << 10;

/// Runs one task.
#[expect(clippy::disallowed_methods, reason = "it is a process of its own, which lives as long as its task")]
pub(crate) fn run() -> ExitCode {
    let Ok(Some(frame)) = read_frame(&mut io::stdin().lock()) else { return ExitCode::FAILURE };
    let (sender, said) = channel();
    let worker = thread::spawn(move || match Task::decode(&frame) {
        Some(task) => {
            let end = carry(&task, &sender).unwrap_or_else(|error| Said::Failed(error.to_string()));
            let _ = sender.send(end);
        }
        None => drop(sender.send(Said::Failed("what the shim was told is no task".into()))),
    });
    let mut out = io::stdout().lock();
    for said in said {
        if write_frame(&mut out, &said.encode()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let _ = worker.join();
    ExitCode::SUCCESS
}

fn carry(task: &Task, said: &Sender<Said>) -> io::Result<Said> {
    let folder = Path::new(&task.folder);
    fs::create_dir_all(folder).map_err(|error| named(error, "make its folder"))?;
    for (name, bytes) in &task.files {
        fs::write(folder.join(name), bytes).map_err(|error| named(error, "write its files"))?;
    }
    let (program, args) = task.command.split_first().ok_or_else(|| io::Error::other("there is no program"))?;
    let mut child = start(program, args, task).map_err(|error| named(error, program))?;
    let _ = said.send(Said::Started);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        if let Some(err) = err {
            let said = said.clone();
            scope.spawn(move || relay(err, &said, Said::Err));
        }
        if let Some(out) = out {
            relay(out, said, Said::Out);
        }
    });
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(Said::Ended { code, output: output(task) })
}

#[expect(clippy::disallowed_methods, reason = "this is what the shim is for")]
fn start(program: &str, args: &[String], task: &Task) -> io::Result<Child> {
    Command::new(program)
        .args(args)
        .current_dir(&task.folder)
        .env_clear()
        .envs(task.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn named(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn relay(mut from: impl Read, said: &Sender<Said>, kind: fn(Vec<u8>) -> Said) {
    let mut bytes = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if said.send(kind(bytes[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// What the task left; nothing where it left no file.
fn output(task: &Task) -> Result<Vec<u8>, String> {
    let path = Path::new(&task.folder).join(&task.output);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("read its output: {error}")),
    };
    // A pipe or a device would never end.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("its output is no file".into());
    }
    let mut bytes = Vec::new();
    file.take(task.output_bytes_max + 1).read_to_end(&mut bytes).map_err(|error| format!("read its output: {error}"))?;
    if bytes.len() as u64 > task.output_bytes_max {
        return Err(format!("its output is longer than {} bytes", task.output_bytes_max));
    }
    Ok(bytes)
}
