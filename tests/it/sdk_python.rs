//! The Python client library against this flux: its own tests, its examples, and the version it gives itself. `FLUX_PYTHON`
//! names an interpreter with redis-py; see `.ci/run`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Process, has};

#[test]
fn python_library_does_what_it_says() {
    if let Some(mut python) = python() {
        run(python.args(["-W", "error::ResourceWarning", "-m", "unittest", "discover", "-s"]).arg(sdk().join("tests")));
    }
}

#[test]
fn python_examples_run() {
    let examples = root().join("examples/python");
    for (example, said) in
        [("shared_document.py", "document Peers find each other."), ("tokens.py", "late reads:   Push what happens,")]
    {
        if let Some(mut python) = python() {
            let flux = Process::flux(&[]);
            let out = run(python.arg(examples.join(example)).arg(format!("lux://127.0.0.1:{}", flux.port())));
            assert!(out.contains(said), "{out}");
        }
    }
}

#[test]
fn python_library_has_the_version_of_flux() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("pyproject.toml", format!("version = \"{version}\"")),
        ("flux_peers/__init__.py", format!("__version__ = \"{version}\"")),
    ] {
        assert!(std::fs::read_to_string(sdk().join(file)).unwrap().contains(&line), "{file} lacks {line}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sdk() -> PathBuf {
    root().join("sdk/python")
}

/// Python with redis-py that finds the library and flux; in CI it must be there.
pub fn python() -> Option<Command> {
    let program = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = "import sys, redis; assert sys.version_info >= (3, 10) and int(redis.__version__.split('.')[0]) >= 5";
    if !has("Python 3.10 with redis-py (FLUX_PYTHON names one)", Command::new(&program).args(["-c", probe])) {
        return None;
    }
    let mut command = Command::new(program);
    command.env("PYTHONPATH", sdk()).env("PYTHONDONTWRITEBYTECODE", "1").env("FLUX_BIN", env!("CARGO_BIN_EXE_flux"));
    Some(command)
}

/// Runs it to its good end; gives what it wrote.
pub fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    println!("{text}");
    text
}
