//! JSON Schema against others: the official test suite, and another validator on random schemas and payloads.
//!
//! The suite is in the source package of the Python library jsonschema, which is the other validator too. Where they are is told
//! by `FLUX_JSON_SCHEMA_SUITE` (the suite's folder `tests`) and `FLUX_PYTHON` (an interpreter with jsonschema); see `.ci/run`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flux::peers::schema::{Budget, CHECK_STEPS_MAX, Schema, Unfit};
use serde_json::{Value, json};

use crate::peers::schema_random::{payload, schema};
use crate::process::has;
use crate::random::Random;

/// What of the suite does not hold, by rule.
const OUT_OF_SCOPE: &[(Scope, &str)] = &[
    (
        Scope::Refused("`$ref` to \""),
        "other documents are never fetched, and names (`$id`, `$anchor`) are not looked up: only pointers",
    ),
    (Scope::Refused("an `$id` inside a schema is not supported"), "it would change what each `$ref` below it means"),
    (Scope::Refused("`$dynamicRef` is not supported"), "its meaning depends on the way it was reached"),
    (Scope::Refused("`$recursiveRef` is not supported"), "the same, in 2019-09"),
    (
        Scope::Group("vocabulary", "schema that uses custom metaschema with"),
        "the metaschema is another document; all words count",
    ),
    (
        Scope::Group("ref", "ref overrides any sibling keywords"),
        "before 2019-09; all that stands beside `$ref` counts, as since then",
    ),
];

/// Which tests a rule is about. `format` needs none: that it is a note only is what the suite asks for.
#[derive(Debug)]
enum Scope {
    /// Those whose schema is refused with a text that begins so.
    Refused(&'static str),
    /// Those of a file whose group's description begins so.
    Group(&'static str, &'static str),
}

impl Scope {
    fn holds(&self, file: &str, about: &str, found: &Result<bool, String>) -> bool {
        match self {
            Scope::Refused(begins) => found.as_ref().is_err_and(|why| why.starts_with(begins) && why.contains("not supported")),
            Scope::Group(in_file, begins) => file == *in_file && about.starts_with(begins),
        }
    }
}

/// The drafts whose tests must pass: the one that is meant, and those whose other ways of writing are understood.
const DRAFTS: &[&str] = &["draft2020-12", "draft2019-09", "draft7", "draft6"];

/// Whether the payload fits; an error if the schema is refused, or nobody knows.
fn is_fit(schema: &Value, payload: &Value) -> Result<bool, String> {
    let schema = Schema::compile(schema)?;
    match schema.check(payload.to_string().as_bytes(), &mut Budget::new(CHECK_STEPS_MAX)) {
        Ok(()) => Ok(true),
        // No answer about the payload.
        Err(Unfit::Invalid(why)) if why.contains("schemas deep") => Err(why),
        Err(Unfit::Invalid(_)) => Ok(false),
        Err(Unfit::Unknown(spent)) => Err(format!("{spent:?}")),
    }
}

#[test]
fn the_official_suite_holds() {
    let folder = std::env::var_os("FLUX_JSON_SCHEMA_SUITE").map(PathBuf::from).unwrap_or_default();
    let mut probe = Command::new("test");
    if !has("the test suite of JSON Schema", probe.arg("-d").arg(folder.join(DRAFTS[0]))) {
        return;
    }
    let (mut count, mut wrong, mut used) = (0, Vec::new(), vec![0; OUT_OF_SCOPE.len()]);
    for (draft, path) in DRAFTS.iter().flat_map(|draft| files(&folder.join(draft)).into_iter().map(move |path| (draft, path))) {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let groups: Vec<Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for group in groups {
            let about = group["description"].as_str().unwrap();
            for test in group["tests"].as_array().unwrap() {
                count += 1;
                let found = is_fit(&group["schema"], &test["data"]);
                if found.as_ref().ok() == test["valid"].as_bool().as_ref() {
                    continue;
                }
                match OUT_OF_SCOPE.iter().position(|(scope, _)| scope.holds(&file, about, &found)) {
                    Some(rule) => used[rule] += 1,
                    None => wrong.push(format!("{draft}/{file}: {about}: {}: {found:?}", test["description"])),
                }
            }
        }
    }
    println!("{count} tests, out of scope {used:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> = OUT_OF_SCOPE.iter().zip(&used).filter(|(_, used)| **used == 0).map(|(rule, _)| rule).collect();
    assert!(unused.is_empty(), "these hold by now: {unused:#?}");
    assert!(used.iter().sum::<usize>() * 10 < count, "{used:?} of {count} tests are out of scope");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[test]
fn another_validator_says_the_same_of_random_pairs() {
    let python = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    if !has("Python's jsonschema", Command::new(&python).args(["-c", "from jsonschema import Draft202012Validator"])) {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("FLUX_SCHEMA_ROUNDS").unwrap_or(4000);
    let seed = number("FLUX_SCHEMA_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("FLUX_SCHEMA_SEED={seed} FLUX_SCHEMA_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let pairs: Vec<(Value, Value)> = (0..rounds).map(|_| (schema(&mut random), payload(&mut random, 3))).collect();
    let theirs = ask(&python, &pairs);
    let (mut fit, mut unknown) = (0, 0);
    for ((schema, payload), theirs) in pairs.iter().zip(&theirs) {
        let ours = is_fit(schema, payload);
        match (&ours, &**theirs) {
            // A reference leads back to itself without going on in the payload; who finds out depends on what is looked at first.
            (_, "deep") => unknown += 1,
            (Err(why), _) if why.contains("schemas deep") => unknown += 1,
            (Ok(ours), theirs) => {
                assert_eq!(ours.to_string(), theirs, "FLUX_SCHEMA_SEED={seed}: {payload} against {schema}");
                fit += u64::from(*ours);
            }
            _ => panic!("FLUX_SCHEMA_SEED={seed}: {ours:?}, theirs {theirs}: {payload} against {schema}"),
        }
    }
    println!("{fit} of {rounds} fit, {unknown} lead back to themselves");
    assert!(
        fit > rounds / 10 && fit < rounds * 9 / 10 && unknown < rounds / 4,
        "the pairs say little: {fit} fit, {unknown} lead nowhere"
    );
}

/// What the other validator says of each: `true`, `false`, or `deep`.
fn ask(python: &str, pairs: &[(Value, Value)]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/json_schema.py");
    let mut other = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = other.stdin.take().unwrap();
    let lines: String =
        pairs.iter().map(|(schema, payload)| format!("{}\n", json!({ "schema": schema, "payload": payload }))).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let out = other.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success(), "the other validator failed");
    let answers: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), pairs.len());
    answers
}
