//! Who gets a call, among the peers that could take it. What is looked at is bounded, however many peers there are: a call is given
//! while the room is locked.

use crate::peers::calls::Route;
use crate::peers::directory::{Capable, Id};

/// Peers among which the least loaded is found: those whose turn is next. With more of them the one that is found has hardly fewer calls.
const CHOICES_MAX: usize = 64;
/// Chooses a peer. `load` tells how many calls a peer has, None if it can take none: such peers are passed over, for as long as they
/// are there, which is half a second for those that died.
pub(crate) fn pick<'a>(capable: &'a Capable, route: &Route, load: impl Fn(&Id) -> Option<usize>) -> Option<&'a Id> {
    match route {
        Route::LeastLoaded => least_loaded(capable, load),
        Route::RoundRobin => capable.in_turn().find(|peer| load(peer).is_some()),
        Route::Sticky(key) => capable.ring().pick(key, |peer| load(peer).is_some()),
    }
}

fn least_loaded(capable: &Capable, load: impl Fn(&Id) -> Option<usize>) -> Option<&Id> {
    let mut least: Option<(&Id, usize)> = None;
    let able = capable.in_turn().filter_map(|peer| Some((peer, load(peer)?)));
    for (peer, count) in able.take(CHOICES_MAX) {
        if count == 0 {
            return Some(peer);
        }
        if least.is_none_or(|(_, other)| count < other) {
            least = Some((peer, count));
        }
    }
    least.map(|(peer, _)| peer)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::peers::directory::{Directory, Kind, Peer};

    fn directory(count: usize) -> Directory {
        let mut directory = Directory::default();
        for number in 0..count {
            let json = r#"{"name":"x","capabilities":[{"name":"f"}]}"#;
            directory.insert(Peer::read(&format!("peer-{number}"), json, 0, Kind::Old));
        }
        directory
    }

    /// Picks so many times, each in its turn.
    fn picked(directory: &mut Directory, times: usize, route: &Route, load: impl Fn(&Id) -> Option<usize>) -> Vec<String> {
        let pick = |_| {
            let peer = pick(directory.with_capability("f").unwrap(), route, &load).unwrap().clone();
            directory.took_turn("f", &peer);
            peer.to_string()
        };
        (0..times).map(pick).collect()
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        let load = |peer: &Id| Some(if &**peer == "peer-2" { 1 } else { 3 });
        assert!(picked(&mut directory(4), 9, &Route::LeastLoaded, load).iter().all(|peer| peer == "peer-2"));
        let equal = picked(&mut directory(4), 5, &Route::LeastLoaded, |_| Some(5));
        assert_eq!(equal, ["peer-0", "peer-1", "peer-2", "peer-3", "peer-0"]);
    }

    #[test]
    fn round_robin_passes_over_those_that_cannot() {
        let load = |peer: &Id| (&**peer != "peer-1").then_some(0);
        let mut four = directory(4);
        assert_eq!(picked(&mut four, 4, &Route::RoundRobin, load), ["peer-0", "peer-2", "peer-3", "peer-0"]);
        assert_eq!(pick(four.with_capability("f").unwrap(), &Route::RoundRobin, |_| None), None);
        assert_eq!(pick(four.with_capability("f").unwrap(), &Route::Sticky(b"k".to_vec()), |_| None), None);
    }

    #[test]
    fn sticky_keys_stay_and_only_those_of_a_peer_that_left_move() {
        let four = directory(4);
        let mut three = directory(4);
        three.remove("peer-3");
        let at = |directory: &Directory, key: usize, load: &dyn Fn(&Id) -> Option<usize>| {
            let route = Route::Sticky(key.to_string().into_bytes());
            pick(directory.with_capability("f").unwrap(), &route, load).unwrap().clone()
        };
        let mut moved = 0;
        for key in 0..200 {
            let before = at(&four, key, &|_| Some(9));
            assert_eq!(before, at(&four, key, &|_| Some(0)));
            let after = at(&four, key, &|peer| (&**peer != "peer-3").then_some(0));
            assert!(before == after || &*before == "peer-3");
            assert_eq!(after, at(&three, key, &|_| Some(0)), "one that cannot is as one that is not there");
            moved += usize::from(before != after);
        }
        assert!((20..90).contains(&moved), "{moved} of 200 keys were at one of four peers");
    }

    #[test]
    fn few_of_ten_thousand_peers_are_looked_at() {
        let many = directory(10_000);
        for route in [Route::LeastLoaded, Route::RoundRobin, Route::Sticky(b"key".to_vec())] {
            let looks = Cell::new(0);
            let load = |_: &Id| {
                looks.set(looks.get() + 1);
                Some(7)
            };
            assert!(pick(many.with_capability("f").unwrap(), &route, load).is_some());
            assert!(looks.get() <= CHOICES_MAX, "{route:?} looked at {} peers", looks.get());
        }
    }

    #[test]
    fn no_peer_gets_much_more_than_its_share_of_sticky_keys() {
        let fifty = directory(50);
        let mut counts = std::collections::HashMap::new();
        for key in 0..10_000_u32 {
            let route = Route::Sticky(key.to_be_bytes().to_vec());
            *counts.entry(pick(fifty.with_capability("f").unwrap(), &route, |_| Some(0)).unwrap().clone()).or_insert(0) += 1;
        }
        let most = counts.values().max().unwrap();
        assert!(counts.len() == 50 && *most < 300, "{most} keys of 10,000 at one of fifty peers");
    }
}
