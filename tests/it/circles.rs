//! Checks the order inside rooms: a file may lean on files beside and below it in its room, but no files may lean on each other in a circle,
//! for then none of them can be understood, or taken away, without all the others. (The order of the rooms is in `tidy`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, Path, UseTree, Visibility};

use crate::tidy::{root, rust_files};

/// The circles there still are, each by its files. None may be added, and what has come apart is struck off.
const CIRCLES: &[&[&str]] = &[
    &[
        "commands::admit",
        "commands::instance",
        "commands::marks",
        "commands::monitor",
        "commands::room",
        "commands::script",
        "commands::script::own_stack",
        "commands::script::run",
        "commands::session",
        "commands::session::away",
        "commands::session::waiting",
        "commands::shards",
        "commands::slowlog",
        "commands::table",
        "commands::transactions",
    ],
    &[
        "engine::persist",
        "engine::persist::apply",
        "engine::persist::backup",
        "engine::persist::checkpoint",
        "engine::persist::chunk",
        "engine::persist::committer",
        "engine::persist::fold",
        "engine::persist::fold::journaled",
        "engine::persist::fold::key",
        "engine::persist::fold::moves",
        "engine::persist::growth",
        "engine::persist::load",
        "engine::persist::passes",
        "engine::persist::replay",
        "engine::persist::salvage",
        "engine::persist::spill",
    ],
    &[
        "http",
        "http::counts",
        "http::docs",
        "http::guard",
        "http::health",
        "http::line",
        "http::metrics",
        "http::resp",
        "http::routes",
        "http::streamable",
    ],
    &[
        "peers::calling",
        "peers::checking",
        "peers::clean",
        "peers::commands",
        "peers::context",
        "peers::describe",
        "peers::handle",
        "peers::log",
        "peers::metrics",
        "peers::old",
        "peers::presence",
        "peers::presence::leaving",
        "peers::presence::living",
        "peers::presence::registering",
        "peers::presence::syncing",
        "peers::room",
        "peers::streams",
    ],
    &["peers::peer", "peers::peer::call", "peers::peer::job", "peers::peer::life", "peers::peer::serve"],
];

/// A file as others name it: `["engine", "keys"]`.
type Module = Vec<String>;

#[test]
fn no_files_of_a_room_lean_on_each_other_in_a_circle() {
    let house = House::read();
    let found: BTreeSet<Vec<String>> = house.circles().into_iter().collect();
    let allowed: BTreeSet<Vec<String>> =
        CIRCLES.iter().map(|circle| circle.iter().map(|file| (*file).to_owned()).collect()).collect();
    let new: Vec<String> = found.difference(&allowed).map(|circle| house.describe(circle)).collect();
    assert!(new.is_empty(), "files that lean on each other, and on what of each other:\n{}", new.join("\n"));
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(gone.is_empty(), "circles that have come apart, to be struck off the list: {gone:#?}");
}

#[test]
fn a_circle_is_found_through_names_that_are_handed_on() {
    let house = House::of(&[
        ("room", "pub mod one;\npub mod other;\nmod third;\npub use other::Thing;"),
        ("room::one", "use crate::room::{Thing, third::{Ours, Theirs}};"),
        ("room::other", "fn run() { super::one::run() } // third::is_no_name_here()"),
        ("room::third", "use std::fmt;\n#[cfg(test)]\nmod tests {\n use crate::room::one::Thing;\n}"),
    ]);
    assert_eq!(house.circles(), [["room::one", "room::other"]]);
}

/// All files, and what each names of others.
struct House {
    /// What each file names of which others of its room.
    uses: BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>,
}

impl House {
    fn read() -> House {
        let mut sources = Vec::new();
        for path in rust_files("src") {
            let inside = path.strip_prefix(root().join("src")).expect("only files of src are asked for").with_extension("");
            let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            // Tests may lean on anything.
            if !module.iter().any(|part| part == "tests") {
                sources.push((module, fs::read_to_string(&path).unwrap()));
            }
        }
        House::new(sources)
    }

    fn of(sources: &[(&str, &str)]) -> House {
        House::new(
            sources.iter().map(|(module, text)| (module.split("::").map(str::to_owned).collect(), (*text).to_owned())).collect(),
        )
    }

    fn new(sources: Vec<(Module, String)>) -> House {
        let modules: BTreeSet<Module> = sources.iter().map(|(module, _)| module.clone()).collect();
        let names: BTreeMap<&Module, Names<'_>> =
            sources.iter().map(|(module, text)| (module, Names::read(module, text, &modules))).collect();
        let mut uses = BTreeMap::<_, BTreeMap<Module, BTreeSet<String>>>::new();
        for (module, own) in &names {
            let of_this: &mut BTreeMap<_, _> = uses.entry((*module).clone()).or_default();
            for path in &own.used {
                let Some((other, name)) = place(path, &names) else { continue };
                if other != **module && other[0] == module[0] {
                    of_this.entry(other).or_default().insert(name);
                }
            }
        }
        House { uses }
    }

    /// Files that lean on each other, by name, each circle once.
    fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = self.uses.keys().map(|module| (module, self.reach(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reach {
            let circle: Vec<String> =
                others.iter().filter(|other| reach[**other].contains(*module)).map(|other| other.join("::")).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// What a file leans on, and what that leans on.
    fn reach(&self, module: &Module) -> BTreeSet<&Module> {
        let mut found = BTreeSet::new();
        let mut left: Vec<&Module> = self.uses[module].keys().collect();
        while let Some(next) = left.pop() {
            if found.insert(next) {
                left.extend(self.uses[next].keys());
            }
        }
        found
    }

    fn describe(&self, circle: &[String]) -> String {
        let in_circle = |module: &Module| circle.contains(&module.join("::"));
        let mut lines = vec![format!("{circle:?}")];
        for (module, others) in self.uses.iter().filter(|(module, _)| in_circle(module)) {
            for (other, names) in others.iter().filter(|(other, _)| in_circle(other)) {
                lines.push(format!("    {} -> {}: {names:?}", module.join("::"), other.join("::")));
            }
        }
        lines.join("\n")
    }
}

/// What a file names.
struct Names<'h> {
    module: &'h Module,
    modules: &'h BTreeSet<Module>,
    /// From the crate's root on.
    used: Vec<Vec<String>>,
    /// What it hands on: the name here, and the whole path.
    handed_on: BTreeMap<String, Vec<String>>,
}

impl<'h> Names<'h> {
    fn read(module: &'h Module, text: &str, modules: &'h BTreeSet<Module>) -> Names<'h> {
        let mut names = Names { module, modules, used: Vec::new(), handed_on: BTreeMap::new() };
        names.visit_file(&syn::parse_file(text).unwrap());
        names
    }

    /// A path from the crate's root on; None for one that leads out of the crate, or is a name of the file itself.
    fn rooted(&self, path: &[String]) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.module, &path[1..]].concat()),
            "super" => Some([&self.module[..self.module.len().checked_sub(supers)?], &path[supers..]].concat()),
            child => {
                self.modules.contains(&[self.module, &[child.to_owned()][..]].concat()).then(|| [self.module, path].concat())
            }
        }
    }

    fn import(&mut self, tree: &UseTree, before: &mut Vec<String>, is_handed_on: bool) {
        let (name, last) = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, is_handed_on);
                before.pop();
                return;
            }
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before, is_handed_on)),
            UseTree::Name(name) if name.ident == "self" => (before.last().cloned().unwrap_or_default(), None),
            UseTree::Name(name) => (name.ident.to_string(), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (rename.rename.to_string(), Some(rename.ident.to_string())),
            UseTree::Glob(_) => (String::new(), None),
        };
        let path: Vec<String> = before.iter().cloned().chain(last).collect();
        let Some(path) = self.rooted(&path) else { return };
        if is_handed_on {
            self.handed_on.insert(name, path);
        } else {
            self.used.push(path);
        }
    }
}

impl<'a> Visit<'a> for Names<'_> {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        // Tests may lean on anything.
        if !module.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, import: &'a ItemUse) {
        self.import(&import.tree, &mut Vec::new(), !matches!(import.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.used.extend(self.rooted(&parts));
        }
        visit::visit_path(self, path);
    }
}

/// The file a path leads to, and what it names there, followed through files that only hand it on.
fn place(path: &[String], names: &BTreeMap<&Module, Names<'_>>) -> Option<(Module, String)> {
    let (at, own) = (1..=path.len()).rev().find_map(|at| Some((at, names.get(&path[..at].to_vec())?)))?;
    match path.get(at).and_then(|name| own.handed_on.get(name)) {
        Some(further) => place(&[further, &path[at + 1..]].concat(), names),
        None => Some((path[..at].to_vec(), path.get(at).cloned().unwrap_or_default())),
    }
}
