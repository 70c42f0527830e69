//! The value of one setting as it is at the moment, for a room that asks for it often.

use std::sync::Arc;

use crate::config::Config;
use crate::config::setting::Setting;

/// A setting's value of the moment. To ask costs what it does with a [`Name`](crate::config::Name): an atomic load for a number. A room has one
/// for each setting of its own from when it is made.
#[derive(Clone)]
pub struct Current {
    config: Arc<Config>,
    at: usize,
}

impl Current {
    /// Of a setting that the config was made with.
    pub fn of(config: &Arc<Config>, setting: &Setting) -> Current {
        let at = config.settings().place_of(setting).expect("an instance is made of a config with its rooms' settings");
        Current { config: Arc::clone(config), at }
    }

    /// Its value where it is a number: bytes, an index into the words of a choice, 1 for yes. See [`Kind`](crate::config::Kind).
    #[inline]
    pub fn number(&self) -> i64 {
        self.config.number_at(self.at)
    }

    /// The same, where it cannot be negative.
    #[inline]
    pub fn count(&self) -> u64 {
        self.number().max(0) as u64
    }

    /// Whether it is `yes`.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.number() != 0
    }

    /// Its value as text, in the form `CONFIG GET` gives it.
    pub fn text(&self) -> Arc<str> {
        self.config.text_at(self.at)
    }

    /// Calls `tell` now and after every change of it. It must not set a value itself.
    pub fn watch(&self, tell: impl Fn(&Config) + Send + Sync + 'static) {
        self.config.watch_at(vec![self.at], tell);
    }
}
