//! The client libraries that the server hands out: npm and pip install them from it, without a registry.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::Door;
use crate::process::has;

fn names(door: &Door) -> Vec<String> {
    let (status, index) = door.get("/sdk/");
    assert_eq!(status, 200);
    index.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn url(door: &Door, end: &str) -> String {
    let name = names(door).into_iter().find(|name| name.ends_with(end)).unwrap();
    format!("http://{}/sdk/{name}", door.address)
}

#[test]
fn both_are_there_in_this_version() {
    let door = Door::open(&[("requirepass", "secret")]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(names(&door), [format!("flux-peers-{version}.tgz"), format!("flux_peers-{version}-py3-none-any.whl")]);
    assert_eq!(door.get("/sdk/flux-peers-0.0.0.tgz").0, 404);
    assert_eq!(door.get("/sdk/..%2f..%2fCargo.toml").0, 404);
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let door = Door::open(&[]);
    for name in names(&door) {
        let ask = |tag: &str| {
            let request =
                format!("GET /sdk/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n");
            let mut bytes = Vec::new();
            door.send(request.as_bytes()).read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let head = ask("\"other\"");
        assert!(head.starts_with("HTTP/1.1 200") && head.len() > 1000, "{name}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        assert!(ask(&format!("\"other\", W/{tag}")).starts_with("HTTP/1.1 304"), "{name}");
    }
}

#[test]
fn pages_of_any_origin_import_the_modules_and_nothing_else() {
    let door = Door::open(&[("requirepass", "secret")]);
    let mut open = vec!["flux.js".to_owned()];
    let mut seen = Vec::new();
    while let Some(name) = open.pop() {
        let answer = door.ask("GET", &format!("/sdk/js/{name}"), &[("Origin", "https://app.example.com")], "");
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (200, Some("*")), "{name}");
        assert_eq!(answer.header("Content-Type"), Some("text/javascript; charset=utf-8"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/js/src").join(&name);
        assert_eq!(answer.body, std::fs::read_to_string(file).unwrap());
        let tag = answer.header("ETag").unwrap().to_owned();
        let known = door.ask("GET", &format!("/sdk/js/{name}"), &[("If-None-Match", &tag)], "");
        assert_eq!((known.status, known.header("Access-Control-Allow-Origin")), (304, Some("*")));
        seen.push(name);
        let imports =
            answer.body.lines().filter_map(|line| line.strip_prefix("import ")?.split("\"./").nth(1)?.split('"').next());
        let imports: Vec<String> =
            imports.map(str::to_owned).filter(|name| !seen.contains(name) && !open.contains(name)).collect();
        open.extend(imports);
    }
    assert!(seen.len() > 5, "{seen:?}");
    assert_eq!(door.get("/sdk/js/flux.d.ts").0, 200);
    for name in [
        "",
        "package.json",
        "../package.json",
        "..%2fpackage.json",
        "%2e%2e/flux-peers-0.1.0.tgz",
        "js/flux.js",
        "flux.js/",
        "flux.js%00",
    ] {
        // What is no route asks for the password first.
        assert!(matches!(door.get(&format!("/sdk/js/{name}")).0, 401 | 404), "{name}");
    }
}

#[test]
fn the_javascript_package_is_small_and_holds_all_of_its_code() {
    let door = Door::open(&[]);
    let name = names(&door).into_iter().find(|name| name.ends_with(".tgz")).unwrap();
    let request = format!("GET /sdk/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    door.send(request.as_bytes()).read_to_end(&mut answer).unwrap();
    let start = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.len() - start < 25_000, "{} bytes", answer.len() - start);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&answer[start..]));
    let mut modules = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().strip_prefix("package").unwrap().to_owned();
        let mut packed = String::new();
        entry.read_to_string(&mut packed).unwrap();
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/js").join(&path)).unwrap();
        if path.extension().is_none_or(|extension| extension != "js") {
            assert_eq!(packed, source, "{}", path.display());
            continue;
        }
        modules += 1;
        let comment = |line: &str| ["//", "/*", "*"].iter().any(|mark| line.trim_start().starts_with(mark));
        let code: Vec<&str> = source.lines().filter(|line| !comment(line)).collect();
        assert_eq!(packed.lines().collect::<Vec<_>>(), code, "{}", path.display());
    }
    assert!(modules > 5);
}

#[test]
fn npm_installs_the_javascript_package() {
    let (door, dir) = (Door::open(&[]), TempDir::new().unwrap());
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--cache"]).arg(dir.path().join("cache")).arg(url(&door, ".tgz"));
    if !has("npm", Command::new("npm").arg("--version")) || !is_well(npm.current_dir(dir.path())) {
        return;
    }
    let script =
        "const flux = await import('flux-peers'); if (typeof flux.Flux !== 'function') throw new Error(Object.keys(flux))";
    assert!(is_well(Command::new("node").args(["--input-type=module", "-e", script]).current_dir(dir.path())));
    assert!(dir.path().join("node_modules/flux-peers/src/flux.d.ts").exists());
}

/// The imports of programs that were written for the first client of the old protocol, under either of its names.
#[test]
fn npm_installs_it_under_the_names_of_the_old_client_whose_programs_then_run_unchanged() {
    let (door, dir) = (Door::open(&[]), TempDir::new().unwrap());
    if !has("npm", Command::new("npm").arg("--version")) {
        return;
    }
    for name in ["lux-flux", "@luxdb/flux"] {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--cache"]).arg(dir.path().join("cache"));
        assert!(is_well(npm.arg(format!("{name}@{}", url(&door, ".tgz"))).current_dir(dir.path())));
        let program = OLD_PROGRAM.replace("lux-flux", name).replace("PORT", &door.address.port().to_string());
        std::fs::write(dir.path().join("program.mjs"), program).unwrap();
        assert!(is_well(Command::new("node").args(["--experimental-websocket", "program.mjs"]).current_dir(dir.path())));
    }
}

/// What the old client's README shows, but for the address, and for a model that thinks.
const OLD_PROGRAM: &str = r#"
import { Flux } from "lux-flux";

const flux = new Flux({ url: "ws://127.0.0.1:PORT", name: "researcher" });
flux.expose("summarize", async (payload) => payload.text.slice(0, 3));
await flux.start();
const other = new Flux({ url: "ws://127.0.0.1:PORT", name: "other", jobTimeout: 30000 });
await other.start();
const heard = [];
for (const type of ["peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end"]) flux.on(type, (e) => heard.push(`${type} ${e.peerName} ${e.key ?? ""}`));
await flux.join("project-alpha");
const [peer] = (await other.join("project-alpha")).filter(({ peerName }) => peerName === "researcher");
await flux.ctx.set("project-alpha", "findings", { topics: ["perf", "latency"] });
const docs = await other.ctx.get("project-alpha", "findings");
const result = await other.send("summarize", { text: "hello", lang: "es" }, 20000);
let streamed = "";
const ended = new Promise((resolve) => other.on("stream:end", resolve));
other.onStream(peer.peerId, "my-analysis", (chunk) => (streamed += chunk));
await flux.stream("project-alpha", "my-analysis", (async function* () { yield "to"; yield "kens"; })());
await ended;
while (streamed !== "tokens") await new Promise((resolve) => setTimeout(resolve, 5));
await other.ctx.del("project-alpha", "findings");
const keys = await other.ctx.keys("project-alpha");
const names = (await flux.peers("project-alpha")).map(({ name }) => name).sort();
await other.leave("project-alpha");
while (heard.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
await other.stop();
await flux.stop();
const seen = JSON.stringify([docs, result, keys, names, heard]);
const wanted = JSON.stringify([{ topics: ["perf", "latency"] }, "hel", [], ["other", "researcher"], ["peer:joined other ", "ctx:updated other findings", "peer:left other "]]);
if (seen !== wanted) throw new Error(seen);
"#;

#[test]
fn pip_installs_the_python_package() {
    let (door, dir) = (Door::open(&[]), TempDir::new().unwrap());
    let python = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    if !has("pip", Command::new(&python).args(["-m", "pip", "--version"])) {
        return;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check", "--target"]);
    assert!(is_well(pip.arg(dir.path().join("lib")).arg(url(&door, ".whl"))));
    assert!(dir.path().join("lib/flux_peers/py.typed").exists());
    if has("redis-py", Command::new(&python).args(["-c", "import redis"])) {
        let script = "import flux_peers; flux_peers.Flux; from importlib.metadata import version; print(version('flux-peers'))";
        let mut import = Command::new(&python);
        assert!(is_well(import.args(["-c", script]).env("PYTHONPATH", dir.path().join("lib")).current_dir(Path::new("/"))));
    }
}

fn is_well(command: &mut Command) -> bool {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    true
}
