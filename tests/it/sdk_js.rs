//! The client libraries in `sdk/`, whose own tests run against this build: the JavaScript one in Node, Bun and Deno.
//! `FLUX_NODE_PATH` tells a folder of packages with `bun`, `deno` and `typescript`, `FLUX_CHROMIUM` a browser; see `.ci/run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::has;

#[test]
fn javascript_tests_pass_in_node() {
    if has("node", Command::new("node").args(["-e", "process.exitCode = parseInt(process.versions.node) < 20 ? 1 : 0"])) {
        // Node 20 has a WebSocket only if it is asked for.
        run(Command::new("node").args(["--experimental-websocket", "--test"]).args(tests()));
    }
}

#[test]
fn javascript_tests_pass_in_bun() {
    if let Some(mut bun) = tool("bun") {
        // Its own limit of 5 s for each test is less than what some of them wait for before they say what is missing.
        run(bun.args(["test", "--timeout", "60000"]).args(tests()));
    }
}

#[test]
fn javascript_tests_pass_in_deno() {
    if let Some(mut deno) = tool("deno") {
        run(deno.args(["test", "--allow-all", "--no-lock", "--no-check"]).args(tests()));
    }
}

#[test]
fn typescript_accepts_the_types() {
    if let Some(mut tsc) = tool("tsc") {
        let options = ["--noEmit", "--strict", "--target", "esnext", "--module", "nodenext", "--types", ""];
        run(tsc.args(options).arg(js("test/types.mts")));
    }
}

#[test]
fn javascript_package_has_the_version_of_the_crate() {
    let package: serde_json::Value = serde_json::from_slice(&fs::read(js("package.json")).unwrap()).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn javascript_package_is_small() {
    if has("npm", Command::new("npm").arg("--version")) {
        let out = Command::new("npm").args(["pack", "--dry-run", "--json"]).current_dir(js("")).output().unwrap();
        let packed: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let bytes = packed[0]["size"].as_u64().or_else(|| packed["flux-peers"]["size"].as_u64()).unwrap();
        assert!(bytes < 25 * 1024, "the package has {bytes} bytes");
    }
}

fn tests() -> Vec<PathBuf> {
    let files = fs::read_dir(js("test")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".test.mjs")).collect()
}

fn js(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/js").join(path)
}

/// A tool from the folder of packages, or one that is installed.
fn tool(name: &str) -> Option<Command> {
    let packages = std::env::var("FLUX_NODE_PATH").unwrap_or_default();
    let packaged = Path::new(&packages).join(".bin").join(name);
    let program = if packaged.exists() { packaged } else { name.into() };
    has(name, Command::new(&program).arg("--version")).then(|| Command::new(program))
}

fn run(command: &mut Command) {
    let out = command.env("FLUX_BIN", env!("CARGO_BIN_EXE_flux")).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
}
