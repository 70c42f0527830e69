//! Wrong passwords, by where they come from: whoever guesses must wait before a guess is looked at, and nobody else does.
//!
//! Each address may try a few times at once, and then ten times a second. What is more than that waits its turn, on its own connection
//! only, and for seconds at most: so someone with the right password gets in even from an address that guesses come from. A connection
//! that has not given a wrong one waits only for others like it, so it gets in at once beside those that guess on and on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

/// Tries that wait for nothing: a person who mistypes, a pool of clients with an old password.
const AT_ONCE: u64 = 20;
/// Between two tries beyond these. A million of them take more than a day.
const EVERY_MS: u64 = 100;
/// The longest wait. It is no longer, so that nobody is locked out; with as many connections as `maxclients` allows by default, all of
/// one address, it makes 2,000 tries a second.
const WAIT_MS_MAX: u64 = 5_000;
/// Addresses that are remembered; each is forgotten when it owes nothing any more.
const ADDRESSES_MAX: usize = 10_000;
/// Between two looks for those to be forgotten while there are as many: such a look costs their number.
const LOOK_EVERY_MS: u64 = 1_000;

/// What tries are owed for by each address.
#[derive(Default)]
pub struct Guesses(Mutex<Debts>);

#[derive(Default)]
struct Debts {
    /// None are clients without an address.
    of: HashMap<Option<IpAddr>, Debt>,
    look_at: u64,
}

/// Until when, on the monotonic clock, an address has to pay for its tries so far.
#[derive(Default)]
struct Debt {
    /// For all of them.
    all: u64,
    /// For those of connections that had given no wrong password.
    first: u64,
}

impl Guesses {
    /// Someone tries a password, on a connection that has or has not given a wrong one: for how many milliseconds it must wait before it is
    /// looked at.
    pub(crate) fn try_one(&self, from: Option<IpAddr>, has_guessed: bool, now: u64) -> u64 {
        let mut debts = self.0.lock();
        debts.make_room(now);
        if debts.of.len() >= ADDRESSES_MAX && !debts.of.contains_key(&network(from)) {
            // So many addresses at once are an attack; those that nobody can tell apart from it wait, and get in.
            return WAIT_MS_MAX;
        }
        let debt = debts.of.entry(network(from)).or_default();
        let owed = if has_guessed { debt.all } else { debt.first }.saturating_sub(now);
        debt.each(has_guessed, |until| {
            *until = now + (until.saturating_sub(now) + EVERY_MS).min(AT_ONCE * EVERY_MS + WAIT_MS_MAX);
        });
        owed.saturating_sub((AT_ONCE - 1) * EVERY_MS).min(WAIT_MS_MAX)
    }

    /// For how many milliseconds an address still owes: a try costs more the more it owes.
    pub fn owed_ms(&self, from: Option<IpAddr>, now: u64) -> u64 {
        self.0.lock().of.get(&network(from)).map_or(0, |debt| debt.all.saturating_sub(now))
    }

    /// The one that was tried is right: it costs nothing.
    pub(crate) fn was_right(&self, from: Option<IpAddr>, has_guessed: bool, now: u64) {
        let mut debts = self.0.lock();
        let key = network(from);
        if let Some(debt) = debts.of.get_mut(&key) {
            debt.each(has_guessed, |until| *until -= EVERY_MS.min(*until));
            if debt.all <= now {
                debts.of.remove(&key);
            }
        }
    }
}

impl Debt {
    /// Changes all that a try of such a connection counts for.
    fn each(&mut self, has_guessed: bool, change: impl Fn(&mut u64)) {
        change(&mut self.all);
        if !has_guessed {
            change(&mut self.first);
        }
    }
}

impl Debts {
    fn make_room(&mut self, now: u64) {
        if self.of.len() >= ADDRESSES_MAX && now >= self.look_at {
            self.look_at = now + LOOK_EVERY_MS;
            self.of.retain(|_, debt| debt.all > now);
        }
    }
}

/// Whoever has an address of version 6 has 2^64 of them.
fn network(from: Option<IpAddr>) -> Option<IpAddr> {
    from.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        address => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn who_guesses_waits_and_nobody_else_does() {
        let guesses = Guesses::default();
        let (attacker, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let now = 1_000_000;
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.try_one(attacker, true, now), 0);
        }
        assert_eq!(guesses.try_one(attacker, true, now), EVERY_MS);
        assert_eq!(guesses.try_one(attacker, true, now), 2 * EVERY_MS);
        for _ in 0..100_000 {
            assert!(guesses.try_one(attacker, true, now) <= WAIT_MS_MAX, "nobody is locked out");
        }
        assert_eq!(guesses.try_one(other, false, now), 0);
        // Also from its own address, on connections that have not guessed; where those come in a flood, they wait as well.
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.try_one(attacker, false, now), 0);
        }
        assert_eq!(guesses.try_one(attacker, false, now), EVERY_MS);
        // What it owes is forgotten with time, and never grows beyond bounds.
        assert_eq!(guesses.try_one(attacker, true, now + AT_ONCE * EVERY_MS + WAIT_MS_MAX), 0);
    }

    #[test]
    fn right_passwords_cost_nothing_however_many_come_at_once() {
        let guesses = Guesses::default();
        for _ in 0..10 * AT_ONCE {
            assert_eq!(guesses.try_one(address("192.0.2.1"), false, 5), 0);
            guesses.was_right(address("192.0.2.1"), false, 5);
        }
        assert!(guesses.0.lock().of.is_empty());
    }

    #[test]
    fn a_whole_network_of_version_6_is_one_address_and_one_of_version_4_is_itself_in_any_form() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1:2:3")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn no_number_of_addresses_takes_more_memory_than_is_meant() {
        let guesses = Guesses::default();
        for number in 0..2 * ADDRESSES_MAX as u32 {
            guesses.try_one(Some(IpAddr::V4(number.into())), false, 5);
        }
        assert_eq!(guesses.0.lock().of.len(), ADDRESSES_MAX);
        assert_eq!(guesses.try_one(address("198.51.100.1"), false, 5), WAIT_MS_MAX);
        assert_eq!(guesses.try_one(address("198.51.100.1"), false, 5 + LOOK_EVERY_MS), 0);
    }
}
