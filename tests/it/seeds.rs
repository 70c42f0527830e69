//! What flux was asked to be: each statement of a seed stands in `tests/seeds`, in its own words, with the tests that show it. Here it is seen
//! to that every statement names some, and that these are there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    statement: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    words: String,
    shown_by: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn seeds() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("tests/seeds")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect()
}

/// Why a statement is not shown; nothing if it is.
fn lacks(statement: &Statement) -> Vec<String> {
    let mut lacks = Vec::new();
    if statement.words.trim().is_empty() || statement.shown_by.is_empty() {
        lacks.push("it names no test".to_owned());
    }
    lacks.extend(statement.shown_by.iter().filter(|test| !is_there(test)).map(|test| format!("there is no test `{test}`")));
    lacks
}

/// Whether a test is there: `tests/it/file.rs: name`, or a file of another language's tests.
fn is_there(test: &str) -> bool {
    let Some((file, name)) = test.split_once(": ") else { return false };
    let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
    let lines = || text.lines().map(str::trim);
    match Path::new(file).extension().and_then(|end| end.to_str()) {
        Some("rs") => {
            let begins = format!("fn {name}()");
            let is_test = |line: &str| line == "#[test]" || line == "#[tokio::test]";
            lines()
                .zip(lines().skip(1))
                .any(|(above, line)| is_test(above) && line.trim_start_matches("async ").starts_with(&begins))
        }
        Some("py") => lines().any(|line| line.trim_start_matches("async ").starts_with(&format!("def {name}(self)"))),
        Some("mjs") => lines().any(|line| line.starts_with(&format!("test({name:?},"))),
        _ => false,
    }
}

#[test]
fn every_statement_of_a_seed_names_tests_that_are_there() {
    let mut wrong = Vec::new();
    let seeds = seeds();
    assert!(!seeds.is_empty());
    for path in seeds {
        let seed: Seed =
            toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lacking = seed.statement.iter().map(|statement| (statement, lacks(statement))).filter(|(_, lacks)| !lacks.is_empty());
        wrong
            .extend(lacking.map(|(statement, lacks)| format!("{}: {:?}: {}", path.display(), statement.words, lacks.join(", "))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_statement_without_a_test_or_with_one_that_is_not_there_is_found() {
    let statement = |shown_by: &[&str]| Statement {
        words: "It sings.".into(),
        shown_by: shown_by.iter().map(|test| test.to_string()).collect(),
    };
    let here = "tests/it/seeds.rs: a_statement_without_a_test_or_with_one_that_is_not_there_is_found";
    assert!(lacks(&statement(&[here])).is_empty());
    for shown_by in [
        &[][..],
        &["tests/it/seeds.rs: it_sings"],
        &["tests/it/seeds.rs: lacks"],
        &["tests/it/seeds.rs"],
        &[here, "tests/it/songs.rs: it_sings"],
        &["sdk/js/test/peers.test.mjs: it sings"],
        &["sdk/python/tests/test_calls.py: test_it_sings"],
    ] {
        assert!(!lacks(&statement(shown_by)).is_empty(), "{shown_by:?}");
    }
}

#[test]
fn the_licence_is_mit_everywhere() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    assert!(read("LICENSE").starts_with("MIT License\n"));
    for copy in ["sdk/js/LICENSE", "sdk/python/LICENSE"] {
        assert_eq!(read(copy), read("LICENSE"), "{copy}");
    }
    for (package, says) in [
        ("Cargo.toml", "license = \"MIT\""),
        ("sdk/js/package.json", "\"license\": \"MIT\""),
        ("sdk/python/pyproject.toml", "license = \"MIT\""),
    ] {
        assert!(read(package).contains(says), "{package}");
    }
}
