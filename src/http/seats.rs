//! Who may have a session of those that hosts keep open (MCP): as many as there are seats. When all are taken, the session that has been idle
//! for the longest time makes way; one that is busy never does. An address has its own share, so that a stranger takes no more.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock;

/// Sessions at a time.
const SEATS: usize = 1000;
/// Sessions of one address at a time: many hosts on one machine, and still not all seats.
const SEATS_OF_ONE: usize = 250;
/// A session is busy while an answer is under way to it, its stream of news included, and for so long after: hosts think in between.
const BUSY_MS: u64 = 60_000;

/// All seats.
#[derive(Default)]
pub(crate) struct Seats(Mutex<State>);

#[derive(Default)]
struct State {
    taken: HashMap<String, Seat>,
    /// Sessions to which nothing is under way, by when that ended: of all, and of each address.
    idle: BTreeSet<(u64, String)>,
    of_address: HashMap<IpAddr, Share>,
    /// How many are about to be taken.
    claimed: usize,
}

#[derive(Default)]
struct Share {
    count: usize,
    idle: BTreeSet<(u64, String)>,
}

struct Seat {
    address: IpAddr,
    used_at: u64,
    visits: usize,
}

/// What becomes of one who wants a seat.
pub(crate) enum Claim {
    /// It may have this one.
    Free(Place),
    /// After the session with this id was closed.
    Evict(String),
    /// There is none; why, for people.
    Full(String),
}

/// A seat that is kept free until this is dropped or taken.
pub(crate) struct Place {
    seats: Arc<Seats>,
    address: IpAddr,
}

/// Keeps a session busy.
pub(crate) struct Visit {
    seats: Arc<Seats>,
    id: String,
}

impl Seats {
    /// Asks for a seat. One that is to be freed for it is not counted any more.
    pub(crate) fn claim(self: &Arc<Seats>, address: IpAddr) -> Claim {
        self.claim_at(address, clock::monotonic_ms())
    }

    fn claim_at(self: &Arc<Seats>, address: IpAddr, now: u64) -> Claim {
        let mut state = self.0.lock();
        let share = state.of_address.get(&address);
        let (is_own_full, is_full) =
            (share.is_some_and(|share| share.count >= SEATS_OF_ONE), state.taken.len() + state.claimed >= SEATS);
        if !is_own_full && !is_full {
            state.claimed += 1;
            state.of_address.entry(address).or_default().count += 1;
            return Claim::Free(Place { seats: Arc::clone(self), address });
        }
        let idle = if is_own_full { share.and_then(|share| share.idle.first()) } else { state.idle.first() };
        match idle.filter(|(since, _)| since + BUSY_MS <= now).map(|(_, id)| id.clone()) {
            Some(id) => {
                state.remove(&id);
                Claim::Evict(id)
            }
            None if is_own_full => {
                Claim::Full(format!("this address has {SEATS_OF_ONE} sessions, all of them busy: end some first"))
            }
            None => Claim::Full(format!("there are {SEATS} sessions, all of them busy: end some first")),
        }
    }

    /// Something is under way to a session, if it is one, until this is dropped.
    pub(crate) fn visit(self: &Arc<Seats>, id: &str) -> Visit {
        let state = &mut *self.0.lock();
        if let Some(seat) = state.taken.get_mut(id) {
            seat.visits += 1;
            let place = (seat.used_at, id.to_owned());
            state.idle.remove(&place);
            state.of_address.entry(seat.address).or_default().idle.remove(&place);
        }
        Visit { seats: Arc::clone(self), id: id.to_owned() }
    }

    /// A session has ended.
    pub(crate) fn leave(&self, id: &str) {
        self.0.lock().remove(id);
    }

    fn end_visit_at(&self, id: &str, now: u64) {
        let state = &mut *self.0.lock();
        let Some(seat) = state.taken.get_mut(id) else { return };
        seat.visits = seat.visits.saturating_sub(1);
        if seat.visits == 0 {
            seat.used_at = now;
            state.idle.insert((now, id.to_owned()));
            state.of_address.entry(seat.address).or_default().idle.insert((now, id.to_owned()));
        }
    }

    fn take_at(&self, id: &str, address: IpAddr, now: u64) {
        let state = &mut *self.0.lock();
        state.taken.insert(id.to_owned(), Seat { address, used_at: now, visits: 0 });
        state.idle.insert((now, id.to_owned()));
        let share = state.of_address.entry(address).or_default();
        share.count += 1;
        share.idle.insert((now, id.to_owned()));
    }
}

impl State {
    fn remove(&mut self, id: &str) {
        let Some(seat) = self.taken.remove(id) else { return };
        let place = (seat.used_at, id.to_owned());
        self.idle.remove(&place);
        if let Some(share) = self.of_address.get_mut(&seat.address) {
            share.idle.remove(&place);
        }
        self.uncount(seat.address);
    }

    fn uncount(&mut self, address: IpAddr) {
        let Some(share) = self.of_address.get_mut(&address) else { return };
        share.count -= 1;
        if share.count == 0 {
            self.of_address.remove(&address);
        }
    }
}

impl Place {
    /// A session has it.
    pub(crate) fn take(self, id: &str) {
        self.seats.take_at(id, self.address, clock::monotonic_ms());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.seats.0.lock();
        state.claimed -= 1;
        state.uncount(self.address);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.seats.end_visit_at(&self.id, clock::monotonic_ms());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    /// Takes a seat at a time; tells who was thrown out for it, or why there is none.
    fn enter(seats: &Arc<Seats>, from: u8, id: &str, now: u64) -> Result<Vec<String>, String> {
        let mut evicted = Vec::new();
        loop {
            match seats.claim_at(address(from), now) {
                Claim::Free(_place) => {
                    seats.take_at(id, address(from), now);
                    return Ok(evicted);
                }
                Claim::Evict(id) => evicted.push(id),
                Claim::Full(why) => return Err(why),
            }
        }
    }

    fn full() -> Arc<Seats> {
        let seats = Arc::<Seats>::default();
        for number in 0..SEATS {
            assert_eq!(enter(&seats, (number / SEATS_OF_ONE) as u8, &number.to_string(), number as u64), Ok(Vec::new()));
        }
        seats
    }

    #[test]
    fn the_session_that_is_idle_for_the_longest_time_makes_way() {
        let seats = full();
        let visit = seats.visit("0");
        assert_eq!(enter(&seats, 9, "new", BUSY_MS + 10), Ok(vec!["1".to_owned()]), "who is busy stays");
        drop(visit);
        seats.leave("7");
        assert_eq!(enter(&seats, 9, "newer", BUSY_MS + 10), Ok(Vec::new()), "there was a free seat");
    }

    #[test]
    fn nobody_who_was_there_just_now_is_thrown_out() {
        let seats = full();
        assert!(enter(&seats, 9, "new", BUSY_MS - 1).unwrap_err().contains("end some first"));
    }

    #[test]
    fn an_address_that_has_its_share_makes_room_for_itself_only() {
        let seats = Arc::<Seats>::default();
        enter(&seats, 1, "other", 0).unwrap();
        for number in 0..SEATS_OF_ONE {
            enter(&seats, 2, &number.to_string(), 1).unwrap();
        }
        assert!(enter(&seats, 2, "more", 2).is_err());
        assert_eq!(enter(&seats, 2, "more", BUSY_MS + 5), Ok(vec!["0".to_owned()]));
        assert_eq!(enter(&seats, 3, "stranger", 2), Ok(Vec::new()));
    }

    #[test]
    fn nothing_is_left_of_sessions_that_came_and_went() {
        let seats = Arc::<Seats>::default();
        for number in 0..3000_u32 {
            enter(&seats, number as u8, &number.to_string(), 0).unwrap();
            let visit = seats.visit(&number.to_string());
            seats.leave(&number.to_string());
            drop(visit);
        }
        let state = seats.0.lock();
        assert!(state.taken.is_empty() && state.idle.is_empty() && state.of_address.is_empty() && state.claimed == 0);
    }
}
