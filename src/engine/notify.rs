//! Keyspace notifications: which classes of events are on (`notify-keyspace-events`), and the events of a command.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::engine::blob::Blob;
use crate::engine::error::Error;
use crate::engine::value::Value;

/// A class of events, by the letter Redis gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `g`: commands of any kind of value.
    Generic = 1 << 0,
    /// `$`: strings.
    String = 1 << 1,
    /// `l`: lists.
    List = 1 << 2,
    /// `s`: sets.
    Set = 1 << 3,
    /// `h`: hashes.
    Hash = 1 << 4,
    /// `z`: sorted sets.
    Zset = 1 << 5,
    /// `x`: keys whose time was over.
    Expired = 1 << 6,
    /// `e`: keys removed to make room.
    Evicted = 1 << 7,
    /// `t`: streams.
    Stream = 1 << 8,
    /// `m`: reads of keys that are not there.
    Miss = 1 << 9,
    /// `n`: new keys.
    New = 1 << 10,
    /// `d`: module types.
    Module = 1 << 11,
}

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its class.
    pub class: Class,
    /// Its name, such as `set` or `expired`.
    pub name: &'static str,
    /// The database, as clients number it.
    pub db: u8,
    /// The key.
    pub key: Blob,
    /// What was pushed, where that is told: onto a list the observer is concerned with.
    pub elements: Vec<Blob>,
}

/// Names of keys and channels, by what they begin with.
pub(crate) type Prefixes = &'static [&'static [u8]];

/// What an observer may look at while the shards are locked.
pub trait Look {
    /// The database in use, as clients number it.
    fn db(&self) -> u8;

    /// The time of the command, in milliseconds since the epoch.
    fn now(&self) -> u64;

    /// The value at a key, without counting as a use of it.
    fn inspect(&mut self, key: &[u8]) -> Result<Option<&Value>, Error>;
}

/// Who is told, within the process, what happens to keys and channels whose names begin in some way, whatever
/// `notify-keyspace-events` says. All are called on the thread of whoever did it, so they must be short.
pub trait Observer: Send + Sync {
    /// A key changed, and the locks of the command that did it are released.
    fn changed(&self, event: &Event) {
        let _ = event;
    }

    /// A client published a message; locks of shards may be held.
    fn published(&self, channel: &[u8], message: &[u8]) {
        let _ = (channel, message);
    }

    /// All keys of the view's database are about to go; all shards are locked.
    fn flushing(&self, keys: &mut dyn Look) {
        let _ = keys;
    }

    /// Two databases trade places, so other keys stand under the same names; all shards are locked.
    fn swapped(&self) {}
}

/// Whether a name begins like one of these.
fn begins(name: &[u8], prefixes: Prefixes) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Names of several owners. Most names that are asked for are none of theirs, which costs one comparison.
#[derive(Default)]
pub(crate) struct Names {
    /// What all begin with.
    common: &'static [u8],
    each: Vec<Prefixes>,
}

impl Names {
    /// Of these owners.
    pub(crate) fn of(owners: impl IntoIterator<Item = Prefixes>) -> Names {
        let each: Vec<Prefixes> = owners.into_iter().filter(|prefixes| !prefixes.is_empty()).collect();
        let shared = |one: &'static [u8], other: &&'static [u8]| {
            let len = one.iter().zip(*other).take_while(|(a, b)| a == b).count();
            &one[..len]
        };
        let mut all = each.iter().copied().flatten();
        let common = all.next().map_or(&[][..], |first| all.fold(*first, shared));
        Names { common, each }
    }

    /// Whether a name is one of them.
    #[inline]
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        name.starts_with(self.common) && self.each.iter().any(|prefixes| begins(name, prefixes))
    }
}

/// `K`: events are published on the key's channel.
pub(crate) const KEYSPACE: u32 = 1 << 16;
/// `E`: events are published on the event's channel.
pub(crate) const KEYEVENT: u32 = 1 << 17;

/// Set in the flags while there are observers.
const HAS_OBSERVER: u32 = 1 << 18;

/// Which events are on, and who observes.
#[derive(Default)]
pub(crate) struct Notifications {
    flags: AtomicU32,
    observed: OnceLock<Observed>,
}

/// Who observes what.
#[derive(Default)]
struct Observed {
    names: Names,
    observers: Vec<(Prefixes, Arc<dyn Observer>)>,
}

impl Notifications {
    /// Whether events of this class are published at all.
    #[inline]
    pub(crate) fn wants(&self, class: Class) -> bool {
        let flags = self.flags.load(Relaxed);
        flags & class as u32 != 0 && flags & (KEYSPACE | KEYEVENT) != 0
    }

    /// Whether an event at this key must be told to an observer.
    #[inline]
    pub(crate) fn is_observed(&self, class: Class, key: &[u8]) -> bool {
        self.flags.load(Relaxed) & HAS_OBSERVER != 0
            && !matches!(class, Class::Miss | Class::New)
            && self.observed.get().is_some_and(|observed| observed.names.has(key))
    }

    /// Tells observers of the events that concern them.
    pub(crate) fn tell<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        for event in events.filter(|event| self.is_observed(event.class, &event.key)) {
            self.observers_of(&event.key).for_each(|observer| observer.changed(event));
        }
    }

    /// Tells observers of a message, if the channel concerns them.
    #[inline]
    pub(crate) fn tell_published(&self, channel: &[u8], message: &[u8]) {
        if self.observed.get().is_some_and(|observed| observed.names.has(channel)) {
            self.observers_of(channel).for_each(|observer| observer.published(channel, message));
        }
    }

    /// Tells observers of keys that are all about to go.
    pub(crate) fn tell_flushing(&self, keys: &mut dyn Look) {
        self.observers().for_each(|(_, observer)| observer.flushing(keys));
    }

    /// Tells observers that databases trade places.
    pub(crate) fn tell_swapped(&self) {
        self.observers().for_each(|(_, observer)| observer.swapped());
    }

    fn observers(&self) -> impl Iterator<Item = &(Prefixes, Arc<dyn Observer>)> {
        self.observed.get().into_iter().flat_map(|observed| &observed.observers)
    }

    fn observers_of(&self, name: &[u8]) -> impl Iterator<Item = &Arc<dyn Observer>> {
        self.observers().filter(move |(prefixes, _)| begins(name, prefixes)).map(|(_, observer)| observer)
    }

    /// Says who observes what.
    pub(crate) fn set_observers(&self, observers: Vec<(Prefixes, Arc<dyn Observer>)>) {
        if observers.is_empty() {
            return;
        }
        let names = Names::of(observers.iter().map(|(prefixes, _)| *prefixes));
        let observed = Observed { names, observers };
        assert!(self.observed.set(observed).is_ok(), "observers are set once, before commands touch keys");
        self.flags.fetch_or(HAS_OBSERVER, Relaxed);
    }

    /// The flags: classes, [`KEYSPACE`] and [`KEYEVENT`].
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Relaxed) & !HAS_OBSERVER
    }

    /// Turns events on and off.
    pub(crate) fn set_flags(&self, flags: u32) {
        let observed = self.flags.load(Relaxed) & HAS_OBSERVER;
        self.flags.store(flags | observed, Relaxed);
    }
}

/// The flags in the value of `notify-keyspace-events`; letters it does not know are passed over, the settings check them.
pub(crate) fn flags(letters: &str) -> u32 {
    use Class::{Evicted, Expired, Generic, Hash, List, Miss, Module, New, Set, Stream, String, Zset};
    letters
        .chars()
        .map(|letter| match letter {
            'g' => Generic as u32,
            '$' => String as u32,
            'l' => List as u32,
            's' => Set as u32,
            'h' => Hash as u32,
            'z' => Zset as u32,
            'x' => Expired as u32,
            'e' => Evicted as u32,
            't' => Stream as u32,
            'm' => Miss as u32,
            'n' => New as u32,
            'd' => Module as u32,
            'A' => flags("g$lshzxetd"),
            'K' => KEYSPACE,
            'E' => KEYEVENT,
            _ => 0,
        })
        .fold(0, |flags, flag| flags | flag)
}
