//! All settings there are: those of the house, and those of the rooms above it, which nobody here knows.

use std::collections::HashMap;

use crate::config::remembered;
use crate::config::setting::{Section, Setting};
use crate::config::table::SECTIONS;

/// The settings that a [`Config`](crate::config::Config) has values of.
pub struct Settings {
    /// Those with an effect first. Invariant: the first ones are those of the house, in the order of [`Name`](crate::config::Name).
    rows: Vec<Setting>,
    titles: Vec<&'static str>,
    /// Also by aliases.
    by_name: HashMap<&'static str, usize>,
}

impl Settings {
    /// Those of the house, and more.
    pub fn with(more: impl IntoIterator<Item = &'static Section>) -> Settings {
        let (mut rows, mut titles) = (Vec::new(), Vec::new());
        for section in SECTIONS.iter().chain(more) {
            rows.extend(section.settings.iter().map(|row| Setting { section: Some(section.title), ..*row }));
            if !titles.contains(&section.title) {
                titles.push(section.title);
            }
        }
        rows.extend_from_slice(remembered::SETTINGS);
        let mut by_name = HashMap::new();
        for (at, name) in rows.iter().enumerate().flat_map(|(at, row)| row.names().map(move |name| (at, name))) {
            assert!(!name.contains(|letter: char| letter.is_ascii_uppercase()), "{name} is looked for in lower case");
            assert!(by_name.insert(name, at).is_none(), "two settings are called {name}");
        }
        Settings { rows, titles, by_name }
    }

    /// All of them, those with an effect first.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.rows.iter()
    }

    /// The headings under which those with an effect stand, in their order, each with its settings.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&'static str, impl Iterator<Item = &Setting>)> {
        self.titles.iter().map(|title| (*title, self.iter().filter(move |row| row.section == Some(*title))))
    }

    /// Those that are only remembered.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = &Setting> {
        self.iter().filter(|row| !row.has_effect())
    }

    /// The one of this name or alias, in any case.
    pub(crate) fn find(&self, name: &str) -> Option<&Setting> {
        self.place(name).map(|at| &self.rows[at])
    }

    /// Whether this is one of them.
    pub(crate) fn has(&self, setting: &Setting) -> bool {
        self.place_of(setting).is_some()
    }

    /// Which one of them has this name or alias, in any case.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name.to_ascii_lowercase().as_str()).copied()
    }

    /// Which one of them this is.
    pub(super) fn place_of(&self, setting: &Setting) -> Option<usize> {
        self.by_name.get(setting.name).copied()
    }

    pub(super) fn at(&self, place: usize) -> &Setting {
        &self.rows[place]
    }
}
