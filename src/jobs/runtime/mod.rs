//! What runs jobs: a program of the right kind, apart from us.
//!
//! - [`process`]: a process of this machine, without isolation. [`shim`] is what stands beside the program, and [`wire`] what it and we tell each other.

pub(crate) mod process;
pub(crate) mod shim;
pub(crate) mod wire;

use std::pin::Pin;

use tokio::sync::mpsc;

use crate::jobs::book::Claimed;
use wire::{Said, Task};

/// Bytes that the output of a job may have.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Bytes that the payload may have as a variable of the environment: the system ends at 128 KiB.
pub(crate) const PAYLOAD_ENV_BYTES_MAX: usize = 120 << 10;

/// Runs jobs of some kinds.
pub(crate) trait Runtime: Send + Sync {
    /// The languages it can run.
    fn languages(&self) -> Vec<Language>;

    /// Runs a job, and tells what it says, in order. The last is how it ended, or that it could not be run. Where this is dropped, the
    /// program is killed, with all it has started.
    fn run<'a>(&'a self, job: &'a Claimed, said: mpsc::Sender<Said>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// What a script is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Language {
    /// `node:18`.
    Node,
    /// `python:3.9`.
    Python,
    /// `bash`.
    Bash,
}

impl Language {
    /// All of them.
    pub(crate) const ALL: [Language; 3] = [Language::Node, Language::Python, Language::Bash];

    /// As jobs name them.
    pub(crate) const NAMES: [&str; 3] = [Language::Node.name(), Language::Python.name(), Language::Bash.name()];

    /// As jobs name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Language::Node => "node:18",
            Language::Python => "python:3.9",
            Language::Bash => "bash",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.name() == name)
    }

    /// The program that runs it.
    fn program(self) -> &'static str {
        match self {
            Language::Node => "node",
            Language::Python => "python3",
            Language::Bash => "bash",
        }
    }

    /// The files that run a job's script, and the arguments of the program.
    fn files(self, script: &[u8]) -> (Vec<(String, Vec<u8>)>, &'static str) {
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
        match self {
            Language::Node => (vec![file("job.js", script), file(".flux.cjs", include_bytes!("node.cjs"))], ".flux.cjs"),
            Language::Python => (vec![file("job.py", script), file(".flux.py", include_bytes!("python.py"))], ".flux.py"),
            Language::Bash => (vec![file("job.sh", script)], "job.sh"),
        }
    }
}

/// What the shim is to run for a job, in a folder.
fn task(job: &Claimed, language: Language, folder: &str, path: &str) -> Task {
    let (mut files, argument) = language.files(&job.script);
    let payload = &job.payload;
    files.push(("payload.json".into(), payload.as_bytes().to_vec()));
    let output = format!("{folder}/output.json");
    let mut env: Vec<(String, String)> = job.spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut ours = vec![
        ("PATH", path.to_owned()),
        ("HOME", folder.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("FLUX_JOB_ID", job.id.to_string()),
        ("FLUX_ATTEMPT", job.attempt.to_string()),
        ("FLUX_OUTPUT", output.clone()),
    ];
    if payload.len() <= PAYLOAD_ENV_BYTES_MAX {
        ours.push(("PAYLOAD", payload.clone()));
    }
    // What the job names itself counts, but for what it must be able to rely on.
    env.retain(|(name, _)| !ours.iter().any(|(our, _)| our == name));
    env.extend(ours.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Task {
        folder: folder.to_owned(),
        files,
        command: vec![language.program().into(), argument.into()],
        env,
        output,
        output_bytes_max: OUTPUT_BYTES_MAX,
    }
}
