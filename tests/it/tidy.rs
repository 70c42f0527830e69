//! Checks the house itself: rooms lean only on rooms of lower floors, every file says what it is for, and nothing in the
//! tree depends on the machine it was written on.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor, ground floor first. A new room is added here; `FLUX_BLESS=1 cargo test tidy` draws the house in ARCHITECTURE.md anew.
const FLOORS: &[&[&str]] = &[
    &["storage", "resp", "clock", "id", "limits", "machine", "memory", "metrics", "panics", "prefetch", "seldom", "version"],
    &["lua"],
    // Half a floor up: it starts what lives beside others, by the clock and as panics are dealt with.
    &["lifecycle"],
    &["engine", "config"],
    &["commands"],
    // Half a floor up: they run commands for those above.
    &["store", "connection"],
    &["peers", "jobs", "vault", "mesh"],
    &["server", "http", "chores"],
    &["main", "lib", "cli", "node", "settings"],
];

/// What the rooms of a floor are about, each floor by the first of them.
const ABOUT: &[(&str, &str)] = &[
    ("main", "reads settings, opens and closes the house"),
    ("server", "the doors: RESP and HTTP sockets; what is done now and then"),
    ("peers", "what people come for; their lasting state is keys under `flux:`"),
    ("store", "the keyspace as a Rust API; a client's bytes. They run commands for those above"),
    ("commands", "the command table and its handlers"),
    ("engine", "shards, types, transactions, expiry, pub/sub, blocking, persistence; settings"),
    ("lifecycle", "what lives beside its caller: threads, tasks, child processes"),
    ("lua", "Lua as Redis has it, for scripts and functions"),
    ("storage", "what knows nothing of flux: disks, the protocol, the machine"),
];

/// Folders that are checked for file heads and machine paths.
const FOLDERS: &[&str] = &["src", "tests", "benches", "examples", "fuzz", "schemas", "docs", "sdk", ".ci"];

#[test]
fn rooms_lean_only_on_lower_floors() {
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let room = room_of(&path);
        let Some(floor) = floor_of(&room) else {
            wrong.push(format!("{}: the room `{room}` stands on no floor", path.display()));
            continue;
        };
        for (number, other) in rooms_used(&fs::read_to_string(&path).unwrap()) {
            let is_allowed = other == room || floor_of(&other).is_some_and(|below| below < floor || floor == FLOORS.len() - 1);
            if !is_allowed {
                wrong.push(format!("{}:{number}: `{room}` leans on `{other}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point down:\n{}", wrong.join("\n"));
}

/// `src/engine/shard.rs` is in the room `engine`, `src/clock.rs` is the room `clock`.
fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("only files of src are asked for");
    let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Rooms named after `crate::`, and those of the library that the binary names after `flux::`, with their lines.
fn rooms_used(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, word) in code.match_indices("crate::") {
            // Not `$crate::` of a macro, whose arrow is the caller's.
            if code[..at].ends_with('$') {
                continue;
            }
            let rest = &code[at + word.len()..];
            let name: String = rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            if !name.is_empty() {
                used.push((number + 1, name));
            }
        }
    }
    used
}

#[test]
fn the_house_is_drawn_as_it_stands() {
    let path = root().join("ARCHITECTURE.md");
    let page = fs::read_to_string(&path).unwrap();
    let start = page.find("    floor ").expect("the house is drawn in lines that begin so");
    let end = start + page[start..].find("\n\n").expect("more follows the drawing");
    let drawn = format!("{}{}{}", &page[..start], drawing(), &page[end..]);
    if std::env::var_os("FLUX_BLESS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    assert!(drawn == fs::read_to_string(&path).unwrap(), "ARCHITECTURE.md draws another house: FLUX_BLESS=1 cargo test tidy");
}

/// The floors, top floor first: rooms that are folders with a slash, and those that are to come.
fn drawing() -> String {
    let mut lines = Vec::new();
    for (number, rooms) in FLOORS.iter().enumerate().rev() {
        let is_there = |name: &str| root().join("src").join(name).exists();
        let (folders, others): (Vec<&str>, Vec<&str>) = rooms.iter().partition(|room| is_there(room));
        let (files, later): (Vec<&str>, Vec<&str>) = others.iter().partition(|room| is_there(&format!("{room}.rs")));
        let mut names: Vec<String> = folders.iter().map(|room| format!("{room}/")).collect();
        names.extend(files.iter().map(|room| (*room).to_owned()));
        if !later.is_empty() {
            names.push(format!("(later: {})", later.join(", ")));
        }
        lines.push(format!("    floor {number}  {}", names.join("  ")));
        let about = rooms.iter().find_map(|room| ABOUT.iter().find(|(first, _)| first == room));
        lines.extend(about.map(|(_, words)| format!("             {words}")));
    }
    lines.join("\n")
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = ["src", "tests", "benches", "examples", "fuzz"]
        .iter()
        .flat_map(|folder| rust_files(folder))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files without a `//!` head: {silent:#?}");
}

#[test]
fn imports_are_named_one_by_one() {
    let mut globs = Vec::new();
    for path in rust_files("src") {
        let text = fs::read_to_string(&path).unwrap();
        // Tests inside a file may take all of it.
        let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        let globs_here = lines.filter(|(_, line)| {
            let module = line.trim_start().strip_prefix("use ").and_then(|path| path.strip_suffix("::*;"));
            // The variants of an enum may be named all at once.
            let name = module.map(|path| path.rsplit("::").next().unwrap_or(path));
            name.is_some_and(|name| name.starts_with(char::is_lowercase))
        });
        globs.extend(globs_here.map(|(number, _)| format!("{}:{}", path.display(), number + 1)));
    }
    assert!(globs.is_empty(), "imports of everything: {globs:#?}");
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Joined here, so that this file does not name them either.
    let forbidden = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    let mut found = Vec::new();
    let mut files: Vec<PathBuf> = FOLDERS.iter().flat_map(|folder| files(&root().join(folder))).collect();
    files.extend(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "paths of some machine:\n{}", found.join("\n"));
}

/// A room that has a folder and no row would be built and never opened.
#[test]
fn every_room_that_is_built_is_listed() {
    let floor = FLOORS.iter().find(|floor| floor.contains(&"peers")).expect("it is the first of them");
    let built: Vec<&str> = floor.iter().filter(|room| root().join("src").join(room).is_dir()).copied().collect();
    let listed: Vec<&str> = flux::node::ROOMS.iter().map(|room| room.name).collect();
    assert_eq!(built, listed);
}

/// So adding one touches the room and nothing else, as CONTRIBUTING.md counts.
#[test]
fn a_rooms_commands_numbers_and_settings_are_named_in_its_folder_alone() {
    let files: Vec<(PathBuf, String)> =
        rust_files("src").into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    for room in flux::node::ROOMS {
        let folder = root().join("src").join(room.name);
        let settings = room.settings.iter().flat_map(|section| section.settings).map(|setting| setting.name);
        let numbers = room.metrics.iter().map(|metric| metric.name);
        let names = room.commands.iter().map(|command| command.name).chain(numbers).chain(settings);
        for quoted in names.map(|name| format!("\"{name}\"")) {
            let naming = files.iter().filter(|(_, text)| text.contains(&quoted)).map(|(path, _)| path);
            let (inside, outside): (Vec<&PathBuf>, Vec<&PathBuf>) = naming.partition(|path| path.starts_with(&folder));
            assert_eq!((inside.len(), outside), (1, Vec::new()), "{quoted} is named once");
        }
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn rust_files(folder: &str) -> Vec<PathBuf> {
    files(&root().join(folder)).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// All files of a folder, but for what is built, fetched or hidden in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !matches!(&*name, "target" | "node_modules" | "corpus" | "artifacts" | "__pycache__") {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}
