//! Packs the client libraries in `sdk/` as npm and pip install them, so that the server can hand them out: the same bytes
//! from the same files on any machine, with neither node nor Python. Finds out which build this is, too.

#![allow(clippy::disallowed_methods, reason = "it is another program")]

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

/// A file of a package: its path there, and what is in it.
type File = (String, Vec<u8>);

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let target = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names a folder for what is made")?);
    let (name, archive) = javascript(Path::new("sdk/js"))?;
    fs::write(target.join("javascript"), archive)?;
    println!("cargo:rustc-env=SDK_JAVASCRIPT={name}");
    fs::write(target.join("modules.rs"), modules(Path::new("sdk/js"))?)?;
    let (name, archive) = python(Path::new("sdk/python"))?;
    fs::write(target.join("python"), archive)?;
    println!("cargo:rustc-env=SDK_PYTHON={name}");
    println!("cargo:rustc-env=VERSION_OF_BUILD={}", build()?);
    Ok(())
}

/// What `flux --version` tells: the version, the commit where it is known, and the machine it is built for. A build for debugging names no
/// commit: it is made many times between two, and would be made anew for each.
fn build() -> Result<String, env::VarError> {
    println!("cargo:rerun-if-env-changed=FLUX_COMMIT");
    let commit = match env::var("PROFILE")?.as_str() {
        "debug" => Some("debug build".to_owned()),
        _ => env::var("FLUX_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(packed_commit).or_else(git_commit),
    };
    let facts: Vec<String> = commit.into_iter().chain([env::var("TARGET")?]).collect();
    Ok(format!("{} ({})", env::var("CARGO_PKG_VERSION")?, facts.join(", ")))
}

/// The commit of a crate's archive, as cargo notes it there.
fn packed_commit() -> Option<String> {
    let about: serde_json::Value = serde_json::from_slice(&fs::read(".cargo_vcs_info.json").ok()?).ok()?;
    Some(about["git"]["sha1"].as_str()?.get(..12)?.to_owned())
}

/// The commit of the repository whose top this folder is; one further up is another project's.
fn git_commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != env::current_dir().and_then(fs::canonicalize).ok()? {
        return None;
    }
    // It is written to at every commit and every change of the branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The archive that `npm pack` would make: what package.json lists, in a folder `package`. Modules are without comments, a quarter of the
/// archive: the types tell users what there is, and who works on it has the repository.
fn javascript(folder: &Path) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let package: serde_json::Value = serde_json::from_slice(&read(&folder.join("package.json"))?)?;
    let text = |name: &str| package[name].as_str().ok_or_else(|| format!("package.json has no {name}"));
    let mut files = Vec::new();
    let listed = package["files"].as_array().ok_or("package.json lists no files")?;
    let listed = listed.iter().filter_map(|name| name.as_str());
    for name in listed.chain(["package.json", "README.md", "LICENSE"]) {
        collect(&folder.join(name), &format!("package/{name}"), &mut files)?;
    }
    files.sort();
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(gzip);
    for (path, content) in files {
        let content = if path.ends_with(".js") { without_comments(&String::from_utf8(content)?).into_bytes() } else { content };
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, path, &content[..])?;
    }
    Ok((format!("{}-{}.tgz", text("name")?, text("version")?), archive.into_inner()?.finish()?))
}

/// A module without its lines that are comments and nothing else.
fn without_comments(module: &str) -> String {
    let mut is_within = false;
    let is_code = |line: &&str| {
        let text = line.trim();
        let begins = text.starts_with("/*") && text.find("*/").is_none_or(|end| end + 2 == text.len());
        let is_comment = is_within || begins || text.starts_with("//");
        is_within = (is_within || begins) && !text.ends_with("*/");
        !is_comment
    };
    module.split_inclusive('\n').filter(is_code).collect()
}

/// The package's modules as a Rust expression: names and contents, for pages that import them one by one.
fn modules(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut files = Vec::new();
    collect(&folder.join("src"), "js", &mut files)?;
    files.sort();
    let line = |(path, content): &File| format!("    (\"{path}\", b\"{}\"),\n", content.escape_ascii());
    Ok(format!("&[\n{}]\n", files.iter().map(line).collect::<String>()))
}

/// The wheel that `pip wheel` would make: the package, and what pyproject.toml says of it.
fn python(folder: &Path) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let project: toml::Table = String::from_utf8(read(&folder.join("pyproject.toml"))?)?.parse()?;
    let project = project["project"].as_table().ok_or("pyproject.toml has no project")?;
    let text = |name: &str| project.get(name).and_then(toml::Value::as_str).ok_or(format!("pyproject.toml has no {name}"));
    let package = text("name")?.replace('-', "_");
    let stem = format!("{package}-{}", text("version")?);
    let about = format!("{stem}.dist-info");
    let mut files = Vec::new();
    collect(&folder.join(&package), &package, &mut files)?;
    collect(&folder.join("LICENSE"), &format!("{about}/licenses/LICENSE"), &mut files)?;
    let readme = read(&folder.join("README.md"))?;
    files.push((format!("{about}/METADATA"), metadata(project, text, &readme)?));
    let wheel = "Wheel-Version: 1.0\nGenerator: flux\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    files.push((format!("{about}/WHEEL"), wheel.into()));
    files.sort();
    let hash = |content: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(content));
    let line = |(path, content): &File| format!("{path},sha256={},{}\n", hash(content), content.len());
    let record = format!("{about}/RECORD");
    let lines = files.iter().map(line).chain([format!("{record},,\n")]).collect::<String>();
    files.push((record, lines.into()));
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    // The zip's own beginning of time.
    let options = SimpleFileOptions::default().last_modified_time(zip::DateTime::default()).unix_permissions(0o644);
    for (path, content) in files {
        archive.start_file(path, options)?;
        archive.write_all(&content)?;
    }
    Ok((format!("{stem}-py3-none-any.whl"), archive.finish()?.into_inner()))
}

/// What pip reads of a project.
fn metadata<'a>(
    project: &toml::Table,
    text: impl Fn(&str) -> Result<&'a str, String>,
    readme: &[u8],
) -> Result<Vec<u8>, Box<dyn Error>> {
    let list = |name: &str| {
        let list = project.get(name).and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lines = vec!["Metadata-Version: 2.4".to_owned()];
    let named = [
        ("Name", "name"),
        ("Version", "version"),
        ("Summary", "description"),
        ("License-Expression", "license"),
        ("Requires-Python", "requires-python"),
    ];
    for (field, name) in named {
        lines.push(format!("{field}: {}", text(name)?));
    }
    lines.push(format!("Keywords: {}", list("keywords").join(",")));
    lines.extend(list("license-files").iter().map(|file| format!("License-File: {file}")));
    lines.extend(list("classifiers").iter().map(|classifier| format!("Classifier: {classifier}")));
    lines.extend(list("dependencies").iter().map(|needed| format!("Requires-Dist: {needed}")));
    lines.push("Description-Content-Type: text/markdown".to_owned());
    let mut metadata = format!("{}\n\n", lines.join("\n")).into_bytes();
    metadata.extend_from_slice(readme);
    Ok(metadata)
}

/// Adds a file, or all files of a folder but for what tools leave there.
fn collect(place: &Path, path: &str, files: &mut Vec<File>) -> Result<(), Box<dyn Error>> {
    if !place.is_dir() {
        files.push((path.to_owned(), read(place)?));
        return Ok(());
    }
    println!("cargo:rerun-if-changed={}", place.display());
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        if !name.starts_with('.') && name != "__pycache__" {
            collect(&entry.path(), &format!("{path}/{name}"), files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    println!("cargo:rerun-if-changed={}", path.display());
    fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
}
