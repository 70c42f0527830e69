//! Pages and schemas that are made from tables say what the tables say. `FLUX_BLESS=1 cargo test docs` writes them anew.

use std::path::Path;
use std::sync::Arc;

use flux::commands::compatibility;
use flux::commands::docs as commands;
use flux::commands::instance::Instance;
use flux::config;
use flux::engine::Engine;

#[test]
fn docs_of_settings_are_those_of_the_table() {
    check("docs/configuration.md", &config::markdown(&flux::node::settings()));
}

#[test]
fn docs_of_commands_are_those_of_the_table() {
    check("docs/commands.md", &commands::markdown(&flux::node::table()));
    check("docs/compatibility.md", &compatibility::markdown(&flux::node::table()));
    check("schemas/commands.json", &commands::json(&flux::node::table()));
}

#[test]
fn docs_of_http_are_those_of_the_routes() {
    let instance = Instance::with(flux::node::ROOMS, Arc::new(Engine::new(false)), flux::node::defaults(), flux::clock::now_ms());
    let mut page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md")).unwrap();
    for (heading, table) in flux::http::markdown(&instance) {
        let after = page.find(&format!("{heading}\n")).expect("the page has the heading");
        let start = after + page[after..].find("\n| ").expect("a table follows it") + 1;
        let end = start + page[start..].find("\n\n").expect("more follows") + 1;
        page.replace_range(start..end, &table);
    }
    check("docs/http.md", &page);
    check("docs/metrics.md", &flux::http::metrics::markdown(&instance));
    check("schemas/openapi.json", &flux::http::openapi(&instance));
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
