//! Every setting and its current value. A row each: those of the house in `table` and `remembered`, those of a room in its own folder. From
//! all of them ([`Settings`]) the flags of `flux serve`, the `FLUX_*` environment, the keys of the TOML file, `CONFIG` and
//! docs/configuration.md are made.
//!
//! Numbers are atomics, so a hot path asks for the value of the moment: [`Config::number`], or a room's [`Current`]. Whoever keeps a value
//! elsewhere watches it ([`Config::watch`]). Where settings come from at the start is the matter of the room `settings`.

mod current;
mod docs;
mod file;
mod remembered;
mod rule;
pub mod setting;
mod settings;
mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicI64, AtomicU8,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

pub use current::Current;
pub use docs::markdown;
pub(crate) use file::{FileError, read as read_file};
pub(crate) use rule::{Address, addresses, output_limit, percentiles};
pub use setting::{Change, Kind, Section, Setting};
pub use settings::Settings;
pub(crate) use table::Name;

/// Where a setting's value comes from, later ones winning over earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody chose it.
    Default,
    /// The TOML file.
    File,
    /// A `FLUX_*` variable.
    Environment,
    /// A flag of the command line.
    Flag,
    /// `CONFIG SET`.
    Client,
}

impl Source {
    /// As `flux config` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Environment => "environment",
            Source::Flag => "flag",
            Source::Client => "CONFIG SET",
        }
    }

    fn from_number(number: u8) -> Source {
        [Source::File, Source::Environment, Source::Flag, Source::Client]
            .into_iter()
            .find(|source| *source as u8 == number)
            .unwrap_or(Source::Default)
    }
}

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No setting has this name.
    #[error("there is no setting `{0}`")]
    Unknown(String),
    /// The value does not fit, or may not change now.
    #[error("`{name}`: {reason}")]
    Setting {
        /// Which setting.
        name: String,
        /// Why, in the words of Redis where it has them.
        reason: String,
    },
}

impl Refused {
    fn setting(name: &str, reason: impl Into<String>) -> Refused {
        Refused::Setting { name: name.into(), reason: reason.into() }
    }
}

struct Slot {
    number: AtomicI64,
    text: RwLock<Arc<str>>,
    source: AtomicU8,
}

struct Watcher {
    places: Vec<usize>,
    tell: Arc<dyn Fn(&Config) + Send + Sync>,
}

/// The current values.
pub struct Config {
    settings: Settings,
    /// One for each of them, in their order.
    slots: Box<[Slot]>,
    /// Held while values change, so that several change as one and watchers hear of changes in order.
    watchers: Mutex<Vec<Watcher>>,
    file: OnceLock<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config::of(Settings::with([]))
    }
}

impl Config {
    /// Of these settings, each with its default.
    pub fn of(settings: Settings) -> Config {
        let slots = settings
            .iter()
            .map(|setting| {
                let value = setting.default_value();
                Slot {
                    number: AtomicI64::new(value.number),
                    text: RwLock::new(value.text.into()),
                    source: AtomicU8::new(Source::Default as u8),
                }
            })
            .collect();
        Config { settings, slots, watchers: Mutex::default(), file: OnceLock::new() }
    }

    /// The settings it has values of.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The value of a setting that is a number: bytes, an index into the words of a choice, 1 for yes. See its [`Kind`].
    #[inline]
    pub(crate) fn number(&self, name: Name) -> i64 {
        self.number_at(name as usize)
    }

    /// The same, where it cannot be negative.
    #[inline]
    pub(crate) fn count(&self, name: Name) -> u64 {
        self.number(name).max(0) as u64
    }

    /// The same of a setting of a room that may not be here. Then it is what it is by default.
    pub(crate) fn count_or_default(&self, setting: &Setting) -> u64 {
        let at = self.settings.place_of(setting);
        at.map_or_else(|| setting.default_value().number, |at| self.number_at(at)).max(0) as u64
    }

    /// Whether a setting is `yes`.
    #[inline]
    pub(crate) fn is_on(&self, name: Name) -> bool {
        self.number(name) != 0
    }

    /// A setting's value as text, in the form `CONFIG GET` gives it.
    pub(crate) fn text(&self, name: Name) -> Arc<str> {
        self.text_at(name as usize)
    }

    fn place(&self, name: &str) -> Result<usize, Refused> {
        self.settings.place(name).ok_or_else(|| Refused::Unknown(name.into()))
    }

    #[inline]
    fn number_at(&self, place: usize) -> i64 {
        self.slots[place].number.load(Relaxed)
    }

    fn text_at(&self, place: usize) -> Arc<str> {
        self.slots[place].text.read().clone()
    }

    /// The value of one of its [`Self::settings`], as text, and where it comes from.
    pub(crate) fn show(&self, setting: &Setting) -> (Arc<str>, Source) {
        let at = self.settings.place_of(setting).expect("it is one of these settings");
        let slot = &self.slots[at];
        (slot.text.read().clone(), Source::from_number(slot.source.load(Acquire)))
    }

    /// Sets a value before the server runs, when every setting may still be chosen.
    pub fn choose(&self, name: &str, value: &str, source: Source) -> Result<(), Refused> {
        let at = self.place(name)?;
        let setting = self.settings.at(at);
        let value = setting.read(&self.text_at(at), value).map_err(|reason| Refused::setting(setting.name, reason))?;
        let watchers = self.watchers.lock();
        self.put(at, value, Some(source));
        self.tell(&watchers, &[at]);
        Ok(())
    }

    /// Notes what a setting that left a choice came to, such as the port the system gave. Where it comes from stays.
    pub(crate) fn settle(&self, name: Name, value: &str) {
        let value = self.settings.at(name as usize).read("", value);
        let value = value.expect("the program settles on values its own table allows");
        let watchers = self.watchers.lock();
        self.put(name as usize, value, None);
        self.tell(&watchers, &[name as usize]);
    }

    /// Sets values while the server runs: all of them, or none and why.
    pub(crate) fn set(&self, changes: &[(&str, &str)]) -> Result<(), Refused> {
        let watchers = self.watchers.lock();
        let places = changes.iter().map(|(name, _)| self.place(name)).collect::<Result<Vec<_>, _>>()?;
        let mut values = Vec::with_capacity(changes.len());
        for (number, ((name, value), at)) in changes.iter().zip(&places).enumerate() {
            let setting = self.settings.at(*at);
            if setting.change == Change::Never {
                return Err(Refused::setting(name, "can't set immutable config"));
            }
            if places[..number].contains(at) {
                return Err(Refused::setting(name, "duplicate parameter"));
            }
            let before = self.text_at(*at);
            let value = setting.read(&before, value).map_err(|reason| Refused::setting(setting.name, reason))?;
            if let Change::AtStart(reason) = setting.change
                && *value.text != *before
            {
                return Err(Refused::setting(name, reason));
            }
            values.push((*at, value));
        }
        let changed: Vec<usize> = values.iter().map(|(at, _)| *at).collect();
        for (at, value) in values {
            self.put(at, value, Some(Source::Client));
        }
        self.tell(&watchers, &changed);
        Ok(())
    }

    /// Says which file [`Self::rewrite`] writes; the first time counts.
    pub fn set_file(&self, path: PathBuf) {
        let _ = self.file.set(path);
    }

    /// The file the settings were read from, or would be written to.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.get().map(PathBuf::as_path)
    }

    /// Calls `tell` now and after every change to one of these settings.
    /// It must not set a value itself.
    pub(crate) fn watch(&self, names: &[Name], tell: impl Fn(&Config) + Send + Sync + 'static) {
        self.watch_at(names.iter().map(|name| *name as usize).collect(), tell);
    }

    fn watch_at(&self, places: Vec<usize>, tell: impl Fn(&Config) + Send + Sync + 'static) {
        let mut watchers = self.watchers.lock();
        tell(self);
        watchers.push(Watcher { places, tell: Arc::new(tell) });
    }

    fn put(&self, at: usize, value: setting::Value, source: Option<Source>) {
        let slot = &self.slots[at];
        *slot.text.write() = value.text.into();
        slot.number.store(value.number, Relaxed);
        if let Some(source) = source {
            slot.source.store(source as u8, Release);
        }
    }

    fn tell(&self, watchers: &[Watcher], changed: &[usize]) {
        for watcher in watchers {
            if watcher.places.iter().any(|place| changed.contains(place)) {
                (watcher.tell)(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_its_own_setting_takes() {
        for setting in Settings::with([]).iter() {
            let shown = setting.read("", setting.default).expect(setting.name).text;
            assert_eq!(setting.read("", &shown).expect(setting.name).text, shown, "{}", setting.name);
            assert!(setting.help.ends_with('.'), "{} has a sentence of help", setting.name);
        }
    }

    #[test]
    #[should_panic(expected = "two settings are called maxclients")]
    fn no_name_is_used_twice() {
        const THIEF: Section = Section { title: "Thief", settings: &[setting::text("maxclients", "")] };
        Settings::with([&THIEF]);
    }

    #[test]
    fn a_setting_of_the_house_is_found_by_its_name_whatever_rooms_there_are() {
        const MORE: Section = Section { title: "More", settings: &[setting::number("a-number", "7", 0, 9)] };
        for config in [Config::default(), Config::of(Settings::with([&MORE]))] {
            let last = Name::MinReplicasToWrite;
            assert_eq!(config.settings().at(last as usize).name, "min-replicas-to-write");
            config.set(&[("min-replicas-to-write", "3")]).expect("it fits");
            assert_eq!(config.count(last), 3);
        }
    }

    #[test]
    fn a_rooms_setting_is_set_shown_and_watched_as_those_of_the_house() {
        const HEIGHT: Setting = setting::bytes("height", "1kb", 1, 4096);
        const MORE: Section = Section { title: "More", settings: &[HEIGHT] };
        let config = Arc::new(Config::of(Settings::with([&MORE])));
        let (height, heard) = (Current::of(&config, &HEIGHT), Arc::new(AtomicI64::new(0)));
        let (ear, told) = (heard.clone(), height.clone());
        height.watch(move |_| ear.store(told.number(), Relaxed));
        config.set(&[("HEIGHT", "2kb"), ("hz", "20")]).expect("both fit");
        assert_eq!((height.count(), &*height.text(), heard.load(Relaxed)), (2048, "2048", 2048));
        assert!(config.set(&[("height", "5kb")]).is_err());
        assert_eq!((config.count_or_default(&HEIGHT), Config::default().count_or_default(&HEIGHT)), (2048, 1024));
    }

    #[test]
    fn several_are_set_as_one_or_not_at_all() {
        let config = Config::default();
        config.set(&[("maxmemory", "10mb"), ("HZ", "50")]).expect("both fit");
        assert_eq!(config.number(Name::Maxmemory), 10 * 1024 * 1024);
        let refused = config.set(&[("maxmemory", "1"), ("maxmemory-clients", "200%")]);
        assert_eq!(refused, Err(Refused::setting("maxmemory-clients", "percentage argument must be less or equal to 100")));
        assert_eq!(config.number(Name::Maxmemory), 10 * 1024 * 1024);
        assert_eq!(config.set(&[("nope", "1")]), Err(Refused::Unknown("nope".into())));
        assert_eq!(config.set(&[("timeout", "1"), ("timeout", "2")]), Err(Refused::setting("timeout", "duplicate parameter")));
    }

    #[test]
    fn an_alias_is_the_same_setting() {
        let config = Config::default();
        config.set(&[("hash-max-ziplist-entries", "7")]).expect("it may change");
        assert_eq!(config.number(Name::HashMaxListpackEntries), 7);
        assert_eq!(&*config.show(config.settings().find("hash-max-ziplist-entries").expect("an alias")).0, "7");
    }

    #[test]
    fn what_is_chosen_at_start_stays_but_may_be_named_again() {
        let config = Config::default();
        assert!(config.set(&[("port", "6379")]).is_ok());
        assert!(config.set(&[("port", "6380")]).is_err());
        assert!(config.set(&[("databases", "16")]).is_err());
        config.choose("port", "6380", Source::Flag).expect("it is a port");
        assert_eq!(config.show(config.settings().find("port").expect("it is there")), ("6380".into(), Source::Flag));
    }

    #[test]
    fn watchers_hear_of_their_settings() {
        let config = Config::default();
        let heard = Arc::new(AtomicI64::new(0));
        let ear = heard.clone();
        config.watch(&[Name::Timeout], move |config| ear.store(config.number(Name::Timeout) + 1, Relaxed));
        assert_eq!(heard.load(Relaxed), 1);
        config.set(&[("timeout", "7"), ("hz", "20")]).expect("both fit");
        assert_eq!(heard.load(Relaxed), 8);
    }
}
