//! Who gets a call, among the peers that could take it.

use crate::peers::calls::Route;
use crate::peers::directory::Id;

/// Chooses a peer. `turn` is a number that is one higher each time; `load` tells how many calls a peer has, None if it can take
/// none.
pub fn pick<'a>(peers: &'a [Id], turn: usize, route: &Route, load: impl Fn(&Id) -> Option<usize>) -> Option<&'a Id> {
    match route {
        Route::LeastLoaded => least_loaded(peers, turn, load),
        Route::RoundRobin => in_turn(peers, turn).find(|peer| load(peer).is_some()),
        // Each peer's number depends only on the key and on itself, so one that comes or goes moves only its own share of keys.
        Route::Sticky(key) => peers.iter().filter(|peer| load(peer).is_some()).max_by_key(|peer| weight(key, peer)),
    }
}

fn in_turn(peers: &[Id], turn: usize) -> impl Iterator<Item = &Id> {
    let (before, after) = peers.split_at(turn % peers.len().max(1));
    after.iter().chain(before)
}

fn least_loaded(peers: &[Id], turn: usize, load: impl Fn(&Id) -> Option<usize>) -> Option<&Id> {
    let mut least: Option<(&Id, usize)> = None;
    for peer in in_turn(peers, turn) {
        match load(peer) {
            Some(0) => return Some(peer),
            Some(count) if least.is_none_or(|(_, other)| count < other) => least = Some((peer, count)),
            Some(_) | None => {}
        }
    }
    least.map(|(peer, _)| peer)
}

/// A number that is the same for the same key and peer in every run.
fn weight(key: &[u8], peer: &Id) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(peer.as_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Vec<Id> {
        (0..4).map(|number| Id::from(format!("peer-{number}"))).collect()
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        let peers = peers();
        let load = |peer: &Id| Some(if &**peer == "peer-2" { 1 } else { 3 });
        assert!((0..9).all(|turn| &**pick(&peers, turn, &Route::LeastLoaded, load).unwrap() == "peer-2"));
        let equal: Vec<_> = (0..4).map(|turn| pick(&peers, turn, &Route::LeastLoaded, |_| Some(5)).unwrap().clone()).collect();
        assert_eq!(equal, peers);
    }

    #[test]
    fn round_robin_passes_over_those_that_cannot() {
        let peers = peers();
        let load = |peer: &Id| (&**peer != "peer-1").then_some(0);
        let chosen: Vec<_> = (0..4).map(|turn| pick(&peers, turn, &Route::RoundRobin, load).unwrap().to_string()).collect();
        assert_eq!(chosen, ["peer-0", "peer-2", "peer-2", "peer-3"]);
        assert_eq!(pick(&peers, 0, &Route::RoundRobin, |_| None), None);
    }

    #[test]
    fn sticky_keys_stay_and_only_those_of_a_peer_that_left_move() {
        let peers = peers();
        let at = |key: usize, load: &dyn Fn(&Id) -> Option<usize>| {
            pick(&peers, key, &Route::Sticky(key.to_string().into_bytes()), load).unwrap().clone()
        };
        let mut moved = 0;
        for key in 0..200 {
            let before = at(key, &|_| Some(9));
            assert_eq!(before, at(key, &|_| Some(0)));
            let after = at(key, &|peer| (&**peer != "peer-3").then_some(0));
            assert!(before == after || &*before == "peer-3");
            moved += usize::from(before != after);
        }
        assert!((20..90).contains(&moved), "{moved} of 200 keys were at one of four peers");
    }
}
