//! Keyspace notifications: which classes of events are on (`notify-keyspace-events`), and the events of a command.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::engine::blob::Blob;
use crate::engine::keys::Read;

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

/// Keys and channels whose names begin like this are the observer's concern.
pub const OBSERVED: &[u8] = b"flux:";

/// Whether a key is one that an observer's room keeps its state in. Its commands use such keys while they hold others' locks, so their
/// values stay in memory.
pub(crate) fn is_observable(key: &[u8]) -> bool {
    key.starts_with(OBSERVED)
}

/// Who is told, within the process, what happens to keys and channels that begin with [`OBSERVED`], whatever
/// `notify-keyspace-events` says. All are called on the thread of whoever did it, so they must be short.
pub trait Observer: Send + Sync {
    /// A key changed, and the locks of the command that did it are released.
    fn changed(&self, event: &Event);

    /// A client published a message; locks of shards may be held.
    fn published(&self, channel: &[u8], message: &[u8]);

    /// All keys of the view's database are about to go; all shards are locked.
    fn flushing(&self, keys: &mut Read<'_>);

    /// Two databases trade places, so other keys stand under the same names; all shards are locked.
    fn swapped(&self);
}

/// `K`: events are published on the key's channel.
pub const KEYSPACE: u32 = 1 << 16;
/// `E`: events are published on the event's channel.
pub const KEYEVENT: u32 = 1 << 17;

/// Set in the flags while there is an observer.
const HAS_OBSERVER: u32 = 1 << 18;

/// Which events are on, and who observes.
#[derive(Default)]
pub struct Notifications {
    flags: AtomicU32,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl Notifications {
    /// Whether events of this class are published at all.
    #[inline]
    pub fn wants(&self, class: Class) -> bool {
        let flags = self.flags.load(Relaxed);
        flags & class as u32 != 0 && flags & (KEYSPACE | KEYEVENT) != 0
    }

    /// Whether an event at this key must be told to the observer.
    #[inline]
    pub fn is_observed(&self, class: Class, key: &[u8]) -> bool {
        self.flags.load(Relaxed) & HAS_OBSERVER != 0 && is_observable(key) && !matches!(class, Class::Miss | Class::New)
    }

    /// Tells the observer of the events that concern it.
    pub fn tell<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        let Some(observer) = self.observer.get() else { return };
        events.filter(|event| self.is_observed(event.class, &event.key)).for_each(|event| observer.changed(event));
    }

    /// Tells the observer of a message, if the channel concerns it.
    #[inline]
    pub fn tell_published(&self, channel: &[u8], message: &[u8]) {
        if channel.starts_with(OBSERVED)
            && let Some(observer) = self.observer.get()
        {
            observer.published(channel, message);
        }
    }

    /// Tells the observer of keys that are all about to go.
    pub fn tell_flushing(&self, keys: &mut Read<'_>) {
        if let Some(observer) = self.observer.get() {
            observer.flushing(keys);
        }
    }

    /// Tells the observer that databases trade places.
    pub(crate) fn tell_swapped(&self) {
        if let Some(observer) = self.observer.get() {
            observer.swapped();
        }
    }

    /// Says who observes.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        assert!(self.observer.set(observer).is_ok(), "the observer is set once, before clients come");
        self.flags.fetch_or(HAS_OBSERVER, Relaxed);
    }

    /// The flags: classes, [`KEYSPACE`] and [`KEYEVENT`].
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed) & !HAS_OBSERVER
    }

    /// Turns events on and off.
    pub fn set_flags(&self, flags: u32) {
        let observed = self.flags.load(Relaxed) & HAS_OBSERVER;
        self.flags.store(flags | observed, Relaxed);
    }
}

/// The flags in the value of `notify-keyspace-events`; letters it does not know are passed over, the settings check them.
pub fn flags(letters: &str) -> u32 {
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
