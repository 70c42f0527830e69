//! docs/configuration.md, made from the rows of settings.

use std::fmt::Write;

use crate::config::{Change, Setting, Settings};

const HEAD: &str = "# Configuration

This page is made from the rows of settings, which stand in `src/config` and in the folders of rooms; `FLUX_BLESS=1 cargo test docs`
writes it anew.

Every setting has one name. It is the same everywhere:

| where | how | wins over |
|---|---|---|
| a flag | `flux serve --maxmemory 1gb` | all below |
| a variable | `FLUX_MAXMEMORY=1gb` (upper case, `_` for `-`) | the file |
| a TOML file | `maxmemory = \"1gb\"` | the defaults |
| while it runs | `CONFIG SET maxmemory 1gb` | until the next start, unless `CONFIG REWRITE` writes it to the file |

The file is the one named by `--config FILE` or `FLUX_CONFIG`, else `flux.toml` in the data folder, if it is there. Settings
stand at its top level; numbers, booleans and lists may be written as TOML has them. `flux config` prints all settings with
where each comes from, and its output can be used as the file. A name that is no setting is an error in the file and on
the command line; a variable `FLUX_…` that is none is warned of.

Names, values and error texts are those of Redis where Redis has the setting. A setting that is marked *live* can be changed with `CONFIG SET`.
";

const REMEMBERED: &str = "
## Settings without an effect

Redis has these settings, and its tools and test suites read and set them, so flux checks their values, remembers them and
gives them back. They change nothing.

| name | default | why there is nothing to change |
|---|---|---|
";

/// The page.
pub fn markdown(settings: &Settings) -> String {
    let mut page = HEAD.to_owned();
    for (title, rows) in settings.sections() {
        let _ = write!(page, "\n## {title}\n\n| name | values | default | live | |\n|---|---|---|---|---|\n");
        rows.for_each(|setting| row(&mut page, setting));
    }
    page.push_str(REMEMBERED);
    for setting in settings.without_effect().filter(|setting| !setting.is_hidden) {
        let _ = writeln!(page, "| {} | {} | {} |", names(setting), code(setting.default), setting.help);
    }
    page
}

fn row(page: &mut String, setting: &Setting) {
    let live = if setting.change == Change::Live { "yes" } else { "" };
    let help = setting.help.replace('|', "\\|");
    let _ = writeln!(page, "| {} | {} | {} | {live} | {help} |", names(setting), setting.values(), code(setting.default));
}

fn names(setting: &Setting) -> String {
    setting.names().map(code).collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}
