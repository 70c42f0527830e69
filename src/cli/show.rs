//! `flux config`: the settings and where they come from, as TOML or JSON. Secrets are not shown.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::config::{Config, Kind, Setting, Source};

/// What is shown in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// The settings as text. `all`: also those without an effect that nobody chose.
pub(crate) fn show(config: &Config, all: bool, as_json: bool) -> String {
    let wanted = |setting: &&Setting| setting.has_effect() || all || config.show(setting).1 != Source::Default;
    if as_json {
        let shown: Map<_, _> = config
            .settings()
            .iter()
            .filter(wanted)
            .map(|setting| {
                let (value, source) = (value(config, setting), config.show(setting).1);
                (setting.name.into(), json!({ "value": value, "source": source.name(), "help": setting.help }))
            })
            .collect();
        return format!("{:#}\n", Value::Object(shown));
    }
    let mut text = String::new();
    for (title, rows) in config.settings().sections() {
        push_section(&mut text, title, rows.filter(wanted), config);
    }
    push_section(&mut text, "Without effect", config.settings().without_effect().filter(wanted), config);
    text
}

fn push_section<'a>(text: &mut String, title: &str, rows: impl Iterator<Item = &'a Setting>, config: &Config) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let gap = if text.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{gap}# {title}");
    for setting in rows {
        let line = format!("{} = {}", setting.name, value(config, setting));
        // A hidden value must not be taken for the secret itself when the output is used as a file.
        let mark = if line.contains(HIDDEN) { "# " } else { "" };
        let _ = writeln!(text, "{:<60} # {}", format!("{mark}{line}"), config.show(setting).1.name());
    }
}

fn value(config: &Config, setting: &Setting) -> Value {
    let (text, _) = config.show(setting);
    match setting.kind {
        Kind::Secret if !text.is_empty() => HIDDEN.into(),
        Kind::Switch => (&*text == "yes").into(),
        Kind::Number { .. } | Kind::Bytes { .. } | Kind::Port | Kind::BytesOrPercent => {
            text.parse::<i64>().map_or_else(|_| Value::from(&*text), Value::from)
        }
        _ => (&*text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_sources_shown() {
        let config = Config::default();
        config.choose("requirepass", "hunter2", Source::Flag).expect("it fits");
        config.choose("save", "", Source::File).expect("it fits");
        for as_json in [false, true] {
            let text = show(&config, true, as_json);
            assert!(!text.contains("hunter2") && text.contains(HIDDEN), "{text}");
        }
        let text = show(&config, false, false);
        assert!(text.contains("save = \"\"") && !text.contains("rdbcompression"), "{text}");
        let table: toml::Table = text.parse().expect("it is TOML");
        assert_eq!(table["port"].as_integer(), Some(6379));
        assert!(!table.contains_key("requirepass"));
    }
}
