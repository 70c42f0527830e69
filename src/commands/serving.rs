//! Serves clients that wait for keys: whoever touched a key runs the waiting commands for it, once its own locks are released, in the
//! order the clients came, until the key has no more to give. See `engine::block`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock;
use crate::commands::session::{call, lacks, leaf_unchecked, publish_events, touched, with_scope};
use crate::commands::table;
use crate::engine::Engine;
use crate::engine::block::{Place, Waiter, Want};
use crate::engine::dict;
use crate::engine::error;
use crate::engine::keys::Waiting;
use crate::engine::value::Kind;
use crate::resp::Reply;

/// What came of running a waiting command for one of its keys.
enum Served {
    /// It was answered, and touched these keys in turn.
    Yes(Vec<Place>),
    /// There is nothing for it.
    No,
    /// It had been ended by something else.
    Over,
}

/// Serves those who wait for keys that were touched, and those whose keys they touch in turn.
pub fn serve(engine: &Engine, touched: Vec<Place>) {
    let mut places = VecDeque::from(touched);
    while let Some(place) = places.pop_front() {
        let wants = wants(engine, &place);
        wants.iter().for_each(|want| serve_queue(engine, &place, want, &mut places));
    }
}

/// What those who wait at a key may find there.
fn wants(engine: &Engine, place: &Place) -> Vec<Want> {
    let (db, key) = place;
    let now = clock::now_ms();
    engine.with_shard_of(key, |shard| {
        let keys = &shard.database(*db).keys;
        let entry = keys.find(dict::hash(key) as u32, key).map(|at| keys.at(at));
        let held: Option<Kind> = entry.filter(|entry| !entry.is_expired(now)).map(|entry| entry.value.kind());
        shard.log.waiters.wants(place, held)
    })
}

fn serve_queue(engine: &Engine, place: &Place, want: &Want, places: &mut VecDeque<Place>) {
    let mut last = 0;
    while let Some((waiter, key)) = engine.with_shard_of(&place.1, |shard| shard.log.waiters.after(place, want, last)) {
        last = waiter.number();
        match serve_one(engine, &waiter, key) {
            Served::Yes(touched) => places.extend(touched),
            Served::No if want.is_taken_in_turn() => return,
            Served::No => continue,
            Served::Over => {}
        }
        engine.with_shard_of(&place.1, |shard| shard.log.waiters.leave(place, &waiter));
    }
}

/// Runs a waiting command for one of its keys.
fn serve_one(engine: &Engine, waiter: &Arc<Waiter>, key: usize) -> Served {
    let at_key = waiter.args_at(key);
    let args = at_key.as_ref().unwrap_or(&waiter.args).args();
    let (_, command) = table::find(args.at(0)).expect("it was found when it began to wait");
    let leaf = leaf_unchecked(command, args);
    let mut reply = Reply::new(waiter.protocol);
    let mut outcome = Err(error::ON_DISK);
    let (is_served, is_over, events, touched, epoch) = with_scope(leaf, args, |scope| {
        let mut view = Some(engine.view(waiter.db, clock::now_ms(), scope));
        let mut is_over = true;
        let is_served = waiter.serve(|| {
            is_over = false;
            let mut run = view.take().expect("it is put back below");
            run.waiting = Waiting::Again;
            if !lacks(&mut run, leaf, scope) {
                (outcome, run) = call(run, leaf, args, &mut reply);
            }
            let waits_on = run.block.take().is_some() || outcome == Err(error::WRONG_TYPE);
            let missing = run.take_missing();
            let is_served = missing.is_empty() && !waits_on;
            engine.loads().fetch_to_serve(missing);
            view = Some(run);
            is_served
        });
        let mut view = view.expect("it was put back");
        (is_served, is_over, std::mem::take(&mut view.events), touched(&mut view), view.wrote_epoch())
    });
    publish_events(engine, &events);
    if !is_served {
        return if is_over { Served::Over } else { Served::No };
    }
    if let Err(error) = outcome {
        reply.truncate(0);
        reply.error(&error.0);
    }
    waiter.mailbox.serve(std::mem::take(reply.bytes_mut()), epoch);
    Served::Yes(touched)
}
