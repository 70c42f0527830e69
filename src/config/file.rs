//! Settings in a TOML file: read at the start, written by `CONFIG REWRITE`, which keeps comments, order and all lines it
//! need not change.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use toml::{Table, Value};

use crate::config::setting::{Kind, Setting};
use crate::config::{Config, Source};
use crate::storage::folder::PRIVATE_FILE;

/// A file holds nothing larger than this; a mistaken path should not be read whole.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file could not be read or written, as a text that names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FileError(pub String);

/// Reads a file's settings as names and values. None if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<(String, String)>>, FileError> {
    let failed = |cause: String| FileError(format!("read `{}`: {cause}", path.display()));
    match std::fs::metadata(path) {
        // Where its folder is a file, whoever uses the folder says so.
        Err(cause) if matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(cause) => return Err(failed(cause.to_string())),
        Ok(about) if about.len() > FILE_BYTES_MAX => return Err(failed("it is larger than any configuration".into())),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|cause| failed(cause.to_string()))?;
    pairs(&text).map(Some).map_err(failed)
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    // Not the line itself, which may hold a password.
    let place = |cause: &toml::de::Error| {
        let before = cause.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let table: Table = text.parse().map_err(|cause: toml::de::Error| format!("line {}: {}", place(&cause), cause.message()))?;
    table.iter().map(|(name, value)| Ok((name.clone(), plain(name, value)?))).collect()
}

fn plain(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(is_on) => Ok(if *is_on { "yes" } else { "no" }.into()),
        Value::Array(values) => Ok(values.iter().map(|value| plain(name, value)).collect::<Result<Vec<_>, _>>()?.join(" ")),
        Value::Table(_) | Value::Datetime(_) => Err(format!("`{name}` is a table or a date; settings stand at the top level")),
    }
}

impl Config {
    /// Writes the values of the moment to the file. None if there is no file to write to.
    pub(crate) fn rewrite(&self) -> Option<Result<(), FileError>> {
        let _changing = self.watchers.lock();
        Some(rewrite(self.file()?, self))
    }
}

/// Writes to a file what was chosen by the file itself, by flags and by clients. What comes from the environment is left
/// there: it would win over the file at the next start anyway, and secrets are best kept where they are.
fn rewrite(path: &Path, config: &Config) -> Result<(), FileError> {
    let failed = |cause: String| FileError(format!("write `{}`: {cause}", path.display()));
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(failed(cause.to_string())),
    };
    let after = rewritten(&before, config);
    pairs(&after).map_err(failed)?;
    replace(path, &after).map_err(|cause| failed(cause.to_string()))
}

/// Puts a file in the place of another in one step, so that a crash leaves one of both.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("toml.new");
    let _ = std::fs::remove_file(&draft);
    // It may hold a password: nobody else's to read, unless the one before is.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&draft)?;
    if let Ok(before) = path.metadata() {
        file.set_permissions(before.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

fn rewritten(before: &str, config: &Config) -> String {
    let mut after = String::new();
    let mut written: Vec<&str> = Vec::new();
    for (name, entry) in entries(before) {
        let Some(setting) = name.and_then(|name| config.settings().find(&name)) else {
            after.push_str(entry);
            continue;
        };
        let (value, _) = config.show(setting);
        let is_again = written.contains(&setting.name);
        written.push(setting.name);
        match pairs(entry) {
            Ok(pairs) if pairs.iter().all(|(_, held)| setting.read("", held).is_ok_and(|held| *held.text == *value)) => {
                after.push_str(entry);
            }
            _ if is_again => {}
            _ => push_line(&mut after, setting, &value),
        }
    }
    if !after.is_empty() && !after.ends_with('\n') {
        after.push('\n');
    }
    for setting in config.settings().iter().filter(|setting| !written.contains(&setting.name)) {
        let (value, source) = config.show(setting);
        if matches!(source, Source::File | Source::Flag | Source::Client) && setting.name != "data" {
            push_line(&mut after, setting, &value);
        }
    }
    after
}

fn push_line(to: &mut String, setting: &Setting, value: &str) {
    let value = match setting.kind {
        Kind::Switch => Value::Boolean(value == "yes"),
        _ => value
            .parse()
            .ok()
            .filter(|number: &i64| number.to_string() == value)
            .map_or(Value::String(value.into()), Value::Integer),
    };
    writeln!(to, "{} = {value}", setting.name).expect("writing to a string cannot fail");
}

/// A file cut into its entries, each with the lines it spans and its name, and the lines between them.
fn entries(text: &str) -> Vec<(Option<String>, &str)> {
    let mut entries = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // An entry ends with the first line at which what was gathered is TOML by itself.
        let ends = rest.match_indices('\n').map(|(at, _)| at + 1).chain([rest.len()]);
        let parsed = ends.map(|end| (end, rest[..end].parse::<Table>())).find(|(_, table)| table.is_ok());
        let (end, table) = parsed.map_or((rest.len(), Table::new()), |(end, table)| (end, table.unwrap_or_default()));
        entries.push((table.keys().next().cloned(), &rest[..end]));
        rest = &rest[end..];
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_sorts_are_read() {
        let text = "port = 1\nappendonly = true\nbind = [\"127.0.0.1\", \"::1\"]\nmaxmemory = \"1gb\"\n";
        let found = pairs(text).expect("it is TOML");
        let value = |name: &str| found.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        assert_eq!(value("port"), Some("1"));
        assert_eq!(value("appendonly"), Some("yes"));
        assert_eq!(value("bind"), Some("127.0.0.1 ::1"));
        assert_eq!(value("maxmemory"), Some("1gb"));
        assert!(pairs("[server]\nport = 1").is_err());
        assert!(pairs("port = ").is_err());
    }

    #[test]
    fn rewriting_keeps_what_need_not_change() {
        let before = "# Mine.\nmaxmemory = \"1gb\" # enough\n\nbind = [\n  \"127.0.0.1\",\n]\ntimeout = 5\n";
        let config = Config::default();
        for (name, value) in pairs(before).expect("it is TOML") {
            config.choose(&name, &value, Source::File).expect("it fits");
        }
        assert_eq!(rewritten(before, &config), before);
        config.set(&[("timeout", "7"), ("save", ""), ("protected-mode", "no")]).expect("all fit");
        config.choose("requirepass", "secret", Source::Environment).expect("it fits");
        let after = rewritten(before, &config);
        assert_eq!(after, before.replace("timeout = 5", "timeout = 7") + "protected-mode = false\nsave = \"\"\n");
        assert_eq!(rewritten(&after, &config), after);
    }
}
