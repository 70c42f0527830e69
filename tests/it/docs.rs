//! Pages and schemas that are made from tables say what the tables say. `FLUX_BLESS=1 cargo test docs` writes them anew.

use std::path::Path;

use flux::commands::docs as commands;
use flux::config;

#[test]
fn docs_of_settings_are_those_of_the_table() {
    check("docs/configuration.md", &config::markdown());
}

#[test]
fn docs_of_commands_are_those_of_the_table() {
    check("docs/commands.md", &commands::markdown(&flux::node::table()));
    check("schemas/commands.json", &commands::json(&flux::node::table()));
}

#[test]
fn docs_of_http_list_every_route() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md")).unwrap();
    let start = page.find("| | |\n").expect("the page begins with the table");
    let end = start + page[start..].find("\n\n").expect("more follows") + 1;
    check("docs/http.md", &format!("{}{}{}", &page[..start], flux::http::markdown(), &page[end..]));
}

#[test]
fn docs_cover_every_command() {
    for row in flux::node::table().rows() {
        let all = std::iter::once(row).chain(row.subcommands);
        for command in all {
            let name = format!("{} of {}", command.name, row.name);
            assert!(command.summary.ends_with('.'), "{name} has a sentence that says what it does");
            assert!(!command.since.is_empty(), "{name} says since when");
        }
    }
}

fn check(path: &str, made: &str) {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("FLUX_BLESS").is_some() {
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, made).unwrap();
    }
    let kept = std::fs::read_to_string(&full).unwrap_or_default();
    assert!(kept == made, "{path} is not what the tables say; `FLUX_BLESS=1 cargo test docs` writes it anew");
}
