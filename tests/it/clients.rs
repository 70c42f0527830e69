//! Real clients: redis-py and ioredis, in the protocol they choose by themselves, and the Python SDK of MCP. Where they come
//! from is told by `FLUX_PYTHON` (an interpreter with redis-py and mcp) and `FLUX_NODE_PATH` (a folder with ioredis); see
//! `.ci/run`.

use std::path::Path;
use std::process::Command;

use crate::process::{Process, has};

#[test]
fn redis_py_works() {
    let python = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    if has("redis-py", Command::new(&python).args(["-c", "import redis; assert int(redis.__version__.split('.')[0]) >= 8"])) {
        run(Command::new(python).arg(script("smoke.py")));
    }
}

#[test]
fn ioredis_works() {
    let path = std::env::var("FLUX_NODE_PATH").unwrap_or_default();
    let node = || {
        let mut command = Command::new("node");
        command.env("NODE_PATH", &path);
        command
    };
    if has("ioredis", node().args(["-e", "require('ioredis')"])) {
        run(node().arg(script("smoke.mjs")));
    }
}

#[test]
fn the_python_sdk_of_mcp_works() {
    let python = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = "import redis, mcp; from mcp import Client; assert int(redis.__version__.split('.')[0]) >= 8";
    if has("the Python SDK of MCP", Command::new(&python).args(["-c", probe])) {
        run(Command::new(python).arg(script("mcp_tools.py")).env("FLUX_BIN", env!("CARGO_BIN_EXE_flux")));
    }
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn run(command: &mut Command) {
    let flux = Process::flux(&[]);
    let out = command.arg(flux.port().to_string()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    println!("{text}");
}
