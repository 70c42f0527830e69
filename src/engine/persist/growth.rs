//! The journal's growth: where changes come faster than checkpoints take them over, replies to writes are held back, a
//! little at first and the more the nearer the journal comes to its bound. So all writers together are as fast as the disk
//! lets them be, evenly, and the journal stays within its bound, but for what each of them may write before it has to wait. Where
//! checkpoints fail, waiting does not help: nobody is held back, and beyond the bound commands that change data are refused.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock;
use crate::engine::durability::{LinePlace, LineShare};
use crate::engine::persist::Inner;

/// Journal there may be for each byte of `checkpoint-bytes` or of the tables, in tenths: a little less than the double,
/// since what is on its way to the journal comes on top.
const BOUND: u64 = 18;
/// Nobody is held back in the first part of the way to the bound: a checkpoint mostly ends before.
const EASY: f64 = 0.2;
/// Bytes a second that all writers may write together in the middle of the way.
const MIDDLE_BYTES: f64 = 64e6;
/// However near the bound is: writers are slowed down, not stopped.
const LEAST_BYTES: f64 = 1e6;
/// Who is held back asks again after this long at the latest, since the line may have become faster; ten thousand who ask cost a
/// twentieth of a core.
const PAUSE_MAX_US: f64 = 200_000.0;
/// Timers are no finer than this; what is less is held back together with what comes next.
const PAUSE_MIN_US: f64 = 1000.0;
/// All who are not held back since they write less than their share write no more than this part of what all may together, and what comes to that in
/// so long a time at once: however many they are, and though they hang up and come back.
const LIGHT_SHARE: f64 = 0.5;
const LIGHT_US: f64 = 50_000.0;
/// Whoever wrote more than this at once goes after those who wrote less, but waits no longer than if it were this much.
const SHARE_BYTES: usize = 4096;

/// How writers are held back.
#[derive(Default)]
pub(crate) struct Growth {
    line: Mutex<Line>,
    /// How often replies were held back.
    pub(super) waits: AtomicU64,
    /// Whether the journal is at its bound and checkpoints fail.
    is_stuck: AtomicBool,
}

impl Growth {
    #[inline]
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Relaxed)
    }
}

/// Notes whether the journal is at its bound and checkpoints fail. To be called where either may have come to be so, or to an end.
pub(crate) fn look(inner: &Inner) {
    let is_stuck = inner.checkpoints.has_failed.load(Relaxed) && inner.journal_bytes.load(Relaxed) >= bound(inner);
    if inner.growth.is_stuck.swap(is_stuck, Relaxed) == is_stuck {
        return;
    }
    match stuck_text(inner) {
        Some(text) => tracing::error!("{text}; commands that change data are refused until a checkpoint ends well"),
        None => tracing::info!("checkpoints work again, and commands that change data are taken"),
    }
}

/// Why nothing more may come into the journal, if that is so.
pub(crate) fn stuck_text(inner: &Inner) -> Option<String> {
    let cause = if inner.growth.is_stuck() { inner.checkpoints.error()? } else { return None };
    Some(format!("the journal has come to its bound of {} bytes, and no checkpoint can shorten it: {cause}", bound(inner)))
}

/// The place in the line of a client that wrote this much, if its reply is held back; and how far that brings it.
pub(crate) fn line_up(inner: &Inner, bytes: usize, written: &mut LineShare) -> Option<LinePlace> {
    let rate = rate(pressure(inner))?;
    let place = inner.growth.line.lock().join(bytes, written, rate, now_us())?;
    inner.growth.waits.fetch_add(1, Relaxed);
    Some(place)
}

/// How long the one at a place waits until it asks again; None when it goes on.
pub(crate) fn pause(inner: &Inner, place: LinePlace) -> Option<Duration> {
    let mut line = inner.growth.line.lock();
    let Some(rate) = rate(pressure(inner)) else {
        line.clear();
        return None;
    };
    line.pause(place, rate, now_us())
}

/// Whether replies to writes are held back now.
pub(crate) fn is_pressed(inner: &Inner) -> bool {
    rate(pressure(inner)).is_some()
}

fn now_us() -> u64 {
    clock::monotonic_ms() * 1000
}

/// Which part of the way the journal has gone from where a checkpoint is due to its bound.
fn pressure(inner: &Inner) -> f64 {
    // Waiting would not help.
    if inner.checkpoints.has_failed.load(Relaxed) {
        return 0.0;
    }
    let due = inner.due_bytes();
    let bound = bound(inner);
    let beyond = inner.journal_bytes.load(Relaxed).saturating_sub(due);
    beyond as f64 / bound.saturating_sub(due).max(1) as f64
}

/// Bytes that the journal may come to.
fn bound(inner: &Inner) -> u64 {
    inner.checkpoint_bytes.load(Relaxed).max(inner.checkpoints.tables_bytes.load(Relaxed)) / 10 * BOUND
}

/// Bytes a second that may be written; None where nobody is held back.
fn rate(pressure: f64) -> Option<f64> {
    (pressure > EASY).then(|| (MIDDLE_BYTES * (1.0 - pressure) / pressure).max(LEAST_BYTES))
}

/// Those whose replies are held back, and what goes on before what: self-clocked fair queueing (Golestani, INFOCOM 1994), in which each has
/// one write in the line at a time. Who writes little goes before those who write much, whatever they have there already; who writes as
/// much as the others is as fast as they are. All together are as fast as the rate of the moment. Who wrote less than its share of late does not
/// wait at all, not even for the one whose turn it is: that may have written as much as takes a quarter of a second to make up for.
#[derive(Default)]
struct Line {
    /// What each wrote, by when its turn comes.
    waiting: BTreeMap<LinePlace, usize>,
    /// The turn of who went on last.
    turn: u64,
    /// Who came last.
    ticket: u64,
    /// Bytes of those who went on that the rate has not made up for yet.
    debt: f64,
    /// What each of those who wait could have written by now, had all been as fast as the others: generalized processor sharing.
    share: f64,
    /// Bytes of those who did not wait that their part of the rate has not made up for yet.
    light: f64,
    /// Of all they wrote, what has not come to a byte of each of those who wait.
    passed: u64,
    /// When that was so, in microseconds of the monotonic clock.
    at_us: u64,
}

impl Line {
    /// The place of one who wrote this much; None where it goes on at once.
    fn join(&mut self, bytes: usize, written: &mut LineShare, rate: f64, now_us: u64) -> Option<LinePlace> {
        self.move_on(rate, now_us);
        let after = written.0 + bytes as f64;
        let is_light = bytes <= SHARE_BYTES && after <= self.share && self.light < rate * LIGHT_SHARE * LIGHT_US / 1e6;
        // What it did not use before is not kept for later.
        written.0 = after.max(self.share);
        if is_light {
            self.light += bytes as f64;
            self.debt += bytes as f64;
            self.pass(bytes as u64);
            return None;
        }
        if self.waiting.is_empty() && self.debt + (bytes as f64) < rate * PAUSE_MIN_US / 1e6 {
            self.debt += bytes as f64;
            return None;
        }
        self.ticket += 1;
        let place = LinePlace { turn: self.turn + bytes.min(SHARE_BYTES) as u64, ticket: self.ticket };
        self.waiting.insert(place, bytes);
        self.pause(place, rate, now_us).map(|_| place)
    }

    fn pause(&mut self, place: LinePlace, rate: f64, now_us: u64) -> Option<Duration> {
        self.move_on(rate, now_us);
        if !self.waiting.contains_key(&place) {
            return None;
        }
        // Until its turn each of the others goes on with about as much.
        let before = place.turn.saturating_sub(self.turn) as f64 * (self.waiting.len() - 1) as f64;
        let left_us = self.debt.max(before) * 1e6 / rate;
        Some(Duration::from_micros(left_us.clamp(PAUSE_MIN_US, PAUSE_MAX_US) as u64))
    }

    /// Those who wait are nearer to their turn when others wrote meanwhile, or these would have their share twice.
    fn pass(&mut self, bytes: u64) {
        let all = self.waiting.len().max(1) as u64;
        self.passed += bytes;
        self.turn += self.passed / all;
        self.passed %= all;
    }

    /// All go on.
    fn clear(&mut self) {
        self.waiting.clear();
        (self.debt, self.light) = (0.0, 0.0);
    }

    fn move_on(&mut self, rate: f64, now_us: u64) {
        let paid = now_us.saturating_sub(self.at_us) as f64 * rate / 1e6;
        self.debt -= paid;
        self.light = (self.light - paid * LIGHT_SHARE).max(0.0);
        self.share += paid / self.waiting.len().max(1) as f64;
        self.at_us = self.at_us.max(now_us);
        while self.debt <= 0.0
            && let Some((place, bytes)) = self.waiting.pop_first()
        {
            self.turn = self.turn.max(place.turn);
            self.debt += bytes as f64;
        }
        // What nobody used is not kept for later.
        self.debt = self.debt.max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One who never wrote before does, at the rate 1e6.
    fn first(line: &mut Line, bytes: usize) -> Option<LinePlace> {
        line.join(bytes, &mut LineShare::default(), 1e6, 0)
    }

    #[test]
    fn the_nearer_the_bound_the_less_may_be_written_and_never_nothing() {
        let rates: Vec<f64> = (0..=120).map(|percent| rate(f64::from(percent) / 100.0).unwrap_or(f64::INFINITY)).collect();
        assert!(rates.is_sorted_by(|before, after| before >= after));
        assert_eq!(rates[0], f64::INFINITY);
        assert!(rates[99] < 2e6 && rates[120] == LEAST_BYTES);
    }

    /// So many write this much as fast as they are let; how much they wrote together in ten seconds, and the least and the most that one
    /// wrote. Each begins with a reply that is not held back by others.
    fn write(writers: usize, bytes: usize, rate: f64) -> (f64, usize, usize) {
        let mut line = Line::default();
        let mut places: Vec<(Option<LinePlace>, LineShare)> = vec![Default::default(); writers];
        let mut written = vec![0; writers];
        for now_us in (1..=1000).map(|hundredth| hundredth * 10_000) {
            for ((place, share), written) in places.iter_mut().zip(&mut written) {
                if place.is_none_or(|place| line.pause(place, rate, now_us).is_none()) {
                    *written += bytes;
                    *place = line.join(bytes, share, rate, now_us);
                }
            }
        }
        (written.iter().sum::<usize>() as f64, *written.iter().min().unwrap(), *written.iter().max().unwrap())
    }

    #[test]
    fn however_many_write_they_are_as_fast_together_as_the_rate_says_and_each_as_fast_as_the_others() {
        for (writers, bytes, rate) in [(1, 100_000, 1e6), (10, 10_000, 1e6), (1000, 16_000, 1e6), (2000, 16_000, 64e6)] {
            let (written, least, most) = write(writers, bytes, rate);
            let first = (writers * bytes) as f64;
            assert!((first..=first + 10.1 * rate).contains(&written), "{writers}: {written}");
            assert!(written >= 9.9 * rate && most - least <= 2 * bytes, "{writers}: {written}, {least} to {most}");
        }
    }

    #[test]
    fn who_waits_goes_on_as_soon_as_the_line_is_faster() {
        let mut line = Line::default();
        let places: Vec<LinePlace> = (0..100).filter_map(|_| first(&mut line, 1_000_000)).collect();
        assert_eq!(line.pause(places[98], 1e6, 200_000), Some(Duration::from_micros(PAUSE_MAX_US as u64)));
        assert!(places.iter().all(|place| line.pause(*place, 1e9, 400_000).is_none()));
    }

    #[test]
    fn who_writes_little_goes_before_those_who_write_much() {
        let mut line = Line::default();
        let many: Vec<LinePlace> = (0..1000).filter_map(|_| first(&mut line, 16_000)).collect();
        let little = first(&mut line, 100).unwrap();
        // The one that is under way is let go on; its bytes take 16 ms.
        assert!(line.pause(little, 1e6, 15_000).is_some() && line.pause(little, 1e6, 16_000).is_none());
        assert!(many.iter().all(|place| line.pause(*place, 1e6, 16_000).is_some()));
    }

    #[test]
    fn who_writes_much_waits_no_longer_than_until_all_others_had_their_share() {
        let (mut line, rate) = (Line::default(), 1e6);
        let mut little: Vec<(Option<LinePlace>, LineShare)> = vec![Default::default(); 100];
        let much = (0..2).find_map(|_| first(&mut line, 1_000_000)).unwrap();
        let end_us = (1..).map(|ms| ms * 1000).find(|now_us| {
            for (place, share) in &mut little {
                if place.is_none_or(|place| line.pause(place, rate, *now_us).is_none()) {
                    *place = line.join(100, share, rate, *now_us);
                }
            }
            line.pause(much, rate, *now_us).is_none()
        });
        // The others may go on at half the rate while what was written before is made up for.
        assert!((1_000_000..2_000_000).contains(&end_us.unwrap()), "{end_us:?}");
    }

    #[test]
    fn small_writes_are_held_back_together() {
        let mut line = Line::default();
        assert_eq!((0..100).filter(|_| first(&mut line, 100).is_some()).count(), 91);
    }

    #[test]
    fn who_writes_less_than_its_share_is_not_held_back_behind_those_who_write_more() {
        let (mut line, rate) = (Line::default(), 1e6);
        let mut heavy: Vec<(Option<LinePlace>, LineShare)> = vec![Default::default(); 50];
        let mut light = vec![LineShare::default(); 32];
        let (mut written, mut light_held) = (0, 0);
        for ms in 1..=20_000 {
            let now_us = ms * 1000;
            for (place, share) in &mut heavy {
                if place.is_none_or(|place| line.pause(place, rate, now_us).is_none()) {
                    written += 250_000;
                    *place = line.join(250_000, share, rate, now_us);
                }
            }
            // Each twenty times a second; the first second is for getting to know them.
            for share in light.iter_mut().skip(ms as usize % 50).step_by(50) {
                let is_held = line.join(130, share, rate, now_us).is_some();
                light_held += usize::from(is_held && ms > 1000);
                written += 130;
            }
        }
        assert_eq!(light_held, 0);
        // Each of those who write more has one under way at first, and the last one that went on is not made up for yet.
        assert!(written as f64 <= 51.0 * 250_000.0 + 20.1 * rate, "{written}");
    }

    #[test]
    fn those_who_hang_up_and_come_back_are_held_to_the_rate() {
        let (mut line, rate) = (Line::default(), 1e6);
        for _ in 0..10 {
            first(&mut line, 1_000_000);
        }
        let mut passed = 0;
        for ms in 0..10_000 {
            let at_once = (0..100).filter(|_| line.join(1000, &mut LineShare::default(), rate, ms * 1000).is_none());
            passed += at_once.count() * 1000;
        }
        assert!(passed as f64 <= 10.1 * rate, "{passed}");
    }
}
