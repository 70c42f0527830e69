//! What a setting's row says, and how its values are read and shown.

use crate::config::rule;

/// What values a setting takes.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `yes` or `no`; 1 or 0 as a number.
    Switch,
    /// A whole number within bounds.
    Number { min: i64, max: i64 },
    /// Bytes, with a unit if wanted (`k` is 1,000, `kb` 1,024, likewise `m` and `g`).
    Bytes { min: i64, max: i64 },
    /// Bytes, or a share of `maxmemory` such as `5%`, which is negative as a number.
    BytesOrPercent,
    /// Permissions of a file, in octal.
    Octal { max: i64 },
    /// A TCP port, 0 for any free one, or `off`, which is -1 as a number.
    Port,
    /// One of these words; its position as a number. The words of the second list mean the same as the first.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that is shown to nobody but `CONFIG GET`.
    Secret,
    /// What this function takes: given the value before and the new one, it returns the new one as it is shown.
    Rule(fn(&str, &str) -> Result<String, String>),
}

/// When a setting may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At any time.
    Live,
    /// Only at the start. Setting it to the value it has is no change. Otherwise this is why not.
    AtStart(&'static str),
    /// Not with `CONFIG SET`, as in Redis.
    Never,
}

/// A row.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its name: Redis' where Redis has it.
    pub name: &'static str,
    /// Other names it goes by.
    pub(crate) aliases: &'static [&'static str],
    /// What values it takes.
    pub(crate) kind: Kind,
    /// Its value when nobody chooses one.
    pub(crate) default: &'static str,
    /// When it may change.
    pub change: Change,
    /// The title under which it stands in help and documentation, which whoever lists it says; None if it is only remembered.
    pub(crate) section: Option<&'static str>,
    /// Whether `CONFIG GET` with a pattern passes it over, as Redis does for settings of its own tests.
    pub(crate) is_hidden: bool,
    /// What it does, in a sentence.
    pub(crate) help: &'static str,
}

/// Settings that stand together in help and documentation.
#[derive(Clone, Copy)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// The rows.
    pub settings: &'static [Setting],
}

/// A value as it is kept.
pub(super) struct Value {
    pub(super) number: i64,
    pub(super) text: String,
}

/// `yes` or `no`.
pub(crate) const fn switch(name: &'static str, default: &'static str) -> Setting {
    setting(name, default, Kind::Switch)
}

/// A whole number within bounds.
pub const fn number(name: &'static str, default: &'static str, min: i64, max: i64) -> Setting {
    setting(name, default, Kind::Number { min, max })
}

/// Bytes within bounds, with a unit if wanted.
pub(crate) const fn bytes(name: &'static str, default: &'static str, min: i64, max: i64) -> Setting {
    setting(name, default, Kind::Bytes { min, max })
}

/// One of these words.
pub(crate) const fn choice(name: &'static str, default: &'static str, words: &'static [&'static str]) -> Setting {
    setting(name, default, Kind::Choice(words))
}

/// Any text.
pub(crate) const fn text(name: &'static str, default: &'static str) -> Setting {
    setting(name, default, Kind::Text)
}

/// Values of any kind.
pub const fn setting(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    Setting { name, aliases: &[], kind, default, change: Change::Live, section: None, is_hidden: false, help: "" }
}

impl Setting {
    /// Also goes by these names.
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Setting {
        self.aliases = aliases;
        self
    }

    /// Can only be chosen at the start.
    pub(crate) const fn at_start(mut self) -> Setting {
        self.change = Change::AtStart("it can only be chosen at start: write it to the configuration and restart");
        self
    }

    /// The same, for this reason.
    pub(crate) const fn at_start_because(mut self, reason: &'static str) -> Setting {
        self.change = Change::AtStart(reason);
        self
    }

    /// Cannot be set by clients, not even to what it is, as some of Redis.
    pub(crate) const fn fixed(mut self) -> Setting {
        self.change = Change::Never;
        self
    }

    /// Is passed over by `CONFIG GET` with a pattern.
    pub(crate) const fn hidden(mut self) -> Setting {
        self.is_hidden = true;
        self
    }

    /// Says what it does.
    pub const fn help(mut self, help: &'static str) -> Setting {
        self.help = help;
        self
    }

    /// Its name and its aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Whether its value must not be shown or logged.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// Whether it does something here, rather than being accepted for the sake of clients.
    pub(crate) fn has_effect(&self) -> bool {
        self.section.is_some()
    }

    /// What values it takes, in a few words for help.
    pub(crate) fn values(&self) -> String {
        match self.kind {
            Kind::Switch => "yes or no".into(),
            Kind::Number { min, max } if max >= i64::from(i32::MAX) => format!("a number from {min}"),
            Kind::Number { min, max } => format!("{min} to {max}"),
            Kind::Bytes { .. } => "bytes, or with a unit: 64kb, 100mb, 2gb".into(),
            Kind::BytesOrPercent => "bytes, or a share of maxmemory: 5%".into(),
            Kind::Octal { .. } => "permissions in octal, such as 700".into(),
            Kind::Port => "a port, 0 for any free one, or off".into(),
            Kind::Choice(words) => words.join(", "),
            Kind::Text => "text".into(),
            Kind::Secret => "a secret".into(),
            Kind::Rule(_) => "see the description".into(),
        }
    }

    pub(super) fn default_value(&self) -> Value {
        self.read("", self.default).expect("a setting takes its own default")
    }

    /// Reads a value. The error is Redis' text where it has one.
    pub(super) fn read(&self, before: &str, value: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Switch => read_switch(value),
            Kind::Number { min, max } => {
                let number = value.parse().ok().filter(|number: &i64| number.to_string() == value);
                let number = number.ok_or("argument couldn't be parsed into an integer")?;
                within(number, min, max).map(shown_number)
            }
            Kind::Bytes { min, max } => {
                let number = rule::bytes(value).ok_or("argument must be a memory value")?;
                within(number, min, max).map(shown_number)
            }
            Kind::BytesOrPercent => read_share(value),
            Kind::Octal { max } => {
                let number = i64::from_str_radix(value, 8).map_err(|_| "argument couldn't be parsed as an octal number")?;
                if !(0..=max).contains(&number) {
                    return Err(format!("argument must be between 0 and {max:o} inclusive"));
                }
                Ok(Value { number, text: format!("{number:o}") })
            }
            Kind::Port if value.eq_ignore_ascii_case("off") => Ok(Value { number: -1, text: "off".into() }),
            Kind::Port => {
                let number = value.parse().map_err(|_| "argument couldn't be parsed into an integer")?;
                within(number, 0, 65535).map(shown_number)
            }
            Kind::Choice(words) => read_choice(words, value),
            Kind::Text | Kind::Secret => Ok(Value { number: 0, text: value.into() }),
            Kind::Rule(rule) => Ok(Value { number: 0, text: rule(before, value)? }),
        }
    }
}

fn shown_number(number: i64) -> Value {
    Value { number, text: number.to_string() }
}

fn within(number: i64, min: i64, max: i64) -> Result<i64, String> {
    if (min..=max).contains(&number) { Ok(number) } else { Err(format!("argument must be between {min} and {max} inclusive")) }
}

fn read_switch(value: &str) -> Result<Value, String> {
    match value {
        _ if value.eq_ignore_ascii_case("yes") => Ok(Value { number: 1, text: "yes".into() }),
        _ if value.eq_ignore_ascii_case("no") => Ok(Value { number: 0, text: "no".into() }),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

fn read_share(value: &str) -> Result<Value, String> {
    if let Some(number) = rule::bytes(value) {
        return Ok(shown_number(number));
    }
    let percent = value.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()).filter(|percent| *percent >= 0);
    match percent {
        None => Err("argument must be a memory or percent value".into()),
        Some(percent) if percent > 100 => Err("percentage argument must be less or equal to 100".into()),
        Some(percent) => Ok(Value { number: -percent, text: if percent == 0 { "0".into() } else { format!("{percent}%") } }),
    }
}

fn read_choice(words: &[&str], value: &str) -> Result<Value, String> {
    match words.iter().position(|word| word.eq_ignore_ascii_case(value)) {
        Some(at) => Ok(Value { number: at as i64, text: words[at].into() }),
        None => Err(format!("argument(s) must be one of the following: {}", words.join(", "))),
    }
}
