//! Serves clients that wait for keys: whoever touched a key runs the waiting commands for it, once its own locks are released, in the
//! order the clients came, until the key has no more to give. See `engine::block`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock;
use crate::commands::session::{call, lacks, leaf_unchecked, publish_events, touched, with_scope};
use crate::commands::table::Table;
use crate::engine::block::{Place, Waiter, Want};
use crate::engine::dict;
use crate::engine::error;
use crate::engine::keys::{Read, Waiting};
use crate::engine::types::stream::id::Id;
use crate::engine::value::{Kind, Value};
use crate::engine::{Engine, Scope};
use crate::resp::Reply;

/// What came of running a waiting command for one of its keys.
enum Served {
    /// It was answered, and touched these keys in turn.
    Yes(Vec<Place>),
    /// There is nothing for it.
    No,
    /// It had been ended by something else.
    Over,
    /// A script has the keyspace to itself, and has the key looked at again at its end.
    Later,
}

/// Serves those who wait for keys that were touched, and those whose keys they touch in turn.
pub(crate) fn serve(table: &Table, engine: &Engine, touched: Vec<Place>) {
    let mut places = VecDeque::from(touched);
    while let Some(place) = places.pop_front() {
        let (wants, newest) = look(engine, &place);
        wants.iter().for_each(|want| serve_queue(table, engine, &place, want, newest, &mut places));
    }
}

/// What those who wait at a key may find there, and the id of the last entry if it is a stream: of later ones whoever adds them tells.
fn look(engine: &Engine, place: &Place) -> (Vec<Want>, Id) {
    let (db, key) = place;
    let now = clock::now_ms();
    engine.with_shard_of(key, |shard| {
        let keys = &shard.database(*db).keys;
        let entry = keys.find(dict::hash(key) as u32, key).map(|at| keys.at(at));
        let value = entry.filter(|entry| !entry.is_expired(now)).map(|entry| &entry.value);
        let newest = match value {
            Some(Value::Stream(stream)) => stream.sequence().entries.last_id(),
            // Nothing is known of what rests on disk.
            _ => Id::MAX,
        };
        let held: Option<Kind> = value.map(Value::kind);
        (shard.log.waiters.wants(place, held), newest)
    })
}

fn serve_queue(table: &Table, engine: &Engine, place: &Place, want: &Want, newest: Id, places: &mut VecDeque<Place>) {
    let mut last = 0;
    while let Some((waiter, key)) = engine.with_shard_of(&place.1, |shard| shard.log.waiters.after(place, want, last, newest)) {
        last = waiter.number();
        match serve_one(table, engine, place, &waiter, key) {
            Served::Yes(touched) => places.extend(touched),
            Served::Later => return,
            Served::No if want.is_taken_in_turn() => return,
            Served::No => continue,
            Served::Over => {}
        }
        engine.with_shard_of(&place.1, |shard| shard.log.waiters.leave(place, &waiter));
    }
}

/// Runs a waiting command for one of its keys.
fn serve_one(table: &Table, engine: &Engine, place: &Place, waiter: &Arc<Waiter>, key: usize) -> Served {
    let at_key = waiter.args_at(key);
    let args = at_key.as_ref().unwrap_or(&waiter.args).args();
    let (_, command) = table.find(args.at(0)).expect("it was found when it began to wait");
    let leaf = leaf_unchecked(command, args);
    let mut reply = Reply::new(waiter.protocol);
    let mut outcome = Err(error::ON_DISK);
    let ran = with_scope(leaf, args, |scope| {
        let mut view = Some(view_or_postpone(engine, waiter.db, scope, place)?);
        let mut is_over = true;
        let is_served = waiter.serve(|| {
            is_over = false;
            let mut run = view.take().expect("it is put back below");
            run.waiting = Waiting::Again;
            if !lacks(&mut run, leaf, scope) {
                (outcome, run) = call(run, leaf, args, &mut reply);
            }
            let waits_on = run.block.take().is_some() || outcome == Err(error::WRONG_TYPE) && !waiter.ends_with_key();
            let missing = run.take_missing();
            let is_served = missing.is_empty() && !waits_on;
            engine.loads().fetch_to_serve(missing, place);
            view = Some(run);
            is_served
        });
        let mut view = view.expect("it was put back");
        let (events, invalid) = (std::mem::take(&mut view.events), view.take_invalid());
        Some((is_served, is_over, events, invalid, touched(&mut view), view.wrote().epoch))
    });
    let Some((is_served, is_over, events, invalid, touched, epoch)) = ran else { return Served::Later };
    publish_events(engine, &events);
    engine.tracking().tell(&invalid, None);
    if !is_served {
        return if is_over { Served::Over } else { Served::No };
    }
    if let Err(error) = outcome {
        reply.truncate(0);
        reply.error(&error.0);
    }
    waiter.mailbox.serve(reply.take(), epoch);
    Served::Yes(touched)
}

/// None where a script has the keyspace to itself: whoever serves may be a worker, and waits for no script.
fn view_or_postpone<'e>(engine: &'e Engine, db: u8, scope: Scope<'_>, place: &Place) -> Option<Read<'e>> {
    loop {
        if let Some(view) = engine.try_view(db, clock::now_ms(), scope) {
            return Some(view);
        }
        if engine.solo().postpones(place) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::commands::identity::Who;
    use crate::commands::instance::Instance;
    use crate::commands::session::Session;
    use crate::engine::blob::Blob;
    use crate::engine::keys::{Expiry, Write};
    use crate::engine::mailbox::Mailbox;
    use crate::resp::{OwnedArgs, Protocol};

    /// A client that waits for an element at these keys; `tries` counts how often its command is run for one of them.
    fn waiter(engine: &Engine, keys: &[Vec<u8>], tries: &Arc<AtomicUsize>) -> Arc<Waiter> {
        let tries = Arc::clone(tries);
        let at_key = move |_: usize, key: &[u8]| {
            tries.fetch_add(1, Relaxed);
            OwnedArgs::new([b"BLPOP", key, b"0"])
        };
        let keys: Vec<Blob> = keys.iter().map(|key| Blob::from(&**key)).collect();
        let names: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let mailbox = Arc::<Mailbox>::default();
        let args = OwnedArgs::default();
        let waiter = Waiter::at_keys(args, 0, Protocol::Resp2, mailbox, keys.clone(), Want::Element, Some(Box::new(at_key)));
        let waiter = Arc::new(waiter);
        engine.waiting().fetch_add(1, Relaxed);
        engine.read(0, 0, Scope::Keys(&names), |view| view.queue(&waiter));
        waiter
    }

    /// Runs a change under the locks of these keys, and serves whom it touches.
    fn change(engine: &Engine, keys: &[Vec<u8>], change: impl FnOnce(&mut Write<'_>)) {
        let names: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let touched = engine.write(0, 0, Scope::Keys(&names), |view| {
            change(view);
            view.take_touched()
        });
        serve(Table::keyspace(), engine, touched);
    }

    fn push(engine: &Engine, key: &[u8], elements: &[&[u8]]) {
        run(engine, OwnedArgs::new([b"RPUSH", key].into_iter().chain(elements.iter().copied())));
    }

    /// Runs a command that changes the key it names first.
    fn run(engine: &Engine, args: OwnedArgs) {
        change(engine, &[args.args().at(1).to_vec()], |view| {
            let (_, command) = Table::keyspace().find(args.args().at(0)).unwrap();
            let crate::commands::Run::Write(run) = command.run else { panic!("it writes") };
            run(view, args.args(), &mut Reply::new(Protocol::Resp2)).unwrap();
        });
    }

    /// A client that reads a stream above an id; `tries` counts how often its command is run.
    fn reader(engine: &Engine, above: Id, tries: &Arc<AtomicUsize>) -> Arc<Waiter> {
        let tries = Arc::clone(tries);
        let at_key = move |_: usize, key: &[u8]| {
            tries.fetch_add(1, Relaxed);
            OwnedArgs::new([&b"XREAD"[..], b"BLOCK", b"0", b"STREAMS", key, &*above.text()])
        };
        let (args, keys, at_key) = (OwnedArgs::default(), vec![Blob::from(&b"stream"[..])], Some(Box::new(at_key) as _));
        let waiter = Waiter::at_keys(args, 0, Protocol::Resp2, Arc::default(), keys, Want::Entries, at_key);
        let waiter = Arc::new(waiter.reading_above(vec![above]));
        engine.waiting().fetch_add(1, Relaxed);
        engine.read(0, 0, Scope::Keys(&[b"stream"]), |view| view.queue(&waiter));
        waiter
    }

    #[test]
    fn an_entry_runs_no_command_that_reads_above_a_later_id() {
        let (engine, tries) = (Engine::new(false), Arc::new(AtomicUsize::new(0)));
        let readers = [9, 1, 9, 2].map(|ms| reader(&engine, Id::new(ms, 0), &tries));
        let add = |id: &[u8]| {
            run(&engine, OwnedArgs::new([&b"XADD"[..], b"stream", id, b"field", b"value"]));
            (readers.each_ref().map(|reader| reader.is_over()), tries.load(Relaxed))
        };
        assert_eq!(add(b"2-0"), ([false, true, false, false], 1));
        assert_eq!(add(b"9-0"), ([false, true, false, true], 2));
        assert_eq!(add(b"9-1"), ([true; 4], 4));
    }

    #[test]
    fn a_push_runs_as_many_waiting_commands_as_it_serves_however_many_wait() {
        let (engine, tries) = (Engine::new(false), Arc::new(AtomicUsize::new(0)));
        let keys = [b"list".to_vec(), b"other".to_vec()];
        let waiters: Vec<_> = (0..4000).map(|_| waiter(&engine, &keys, &tries)).collect();
        push(&engine, b"list", &[b"a", b"b", b"c"]);
        let served: Vec<usize> = (0..waiters.len()).filter(|number| waiters[*number].is_over()).collect();
        assert_eq!(served, [0, 1, 2]);
        // One more finds that nothing is left.
        assert!(tries.load(Relaxed) <= 4, "{tries:?}");
    }

    /// A client is in its queue before it is counted among those who wait: whoever pushes meanwhile must ask the queue, not the count.
    #[test]
    fn who_is_in_the_queue_and_not_counted_yet_is_served() {
        let instance = Instance::new(Arc::new(Engine::new(false)), Arc::default(), 0);
        let waiter = waiter(&instance.engine, &[b"list".to_vec()], &Arc::default());
        instance.engine.waiting().store(0, Relaxed);
        let mut session = Session::new(Arc::clone(&instance), Arc::default(), instance.stats.worker(), Who::Program);
        let push = OwnedArgs::new([&b"RPUSH"[..], b"list", b"element"]);
        session.execute(push.args(), &mut Reply::new(Protocol::Resp2));
        assert!(waiter.is_over(), "nobody looked at the queue");
    }

    #[test]
    fn keys_that_come_to_hold_something_else_run_no_waiting_command() {
        let (engine, tries) = (Engine::new(false), Arc::new(AtomicUsize::new(0)));
        let keys: Vec<Vec<u8>> = (0..10_000).map(|number| format!("key:{number}").into_bytes()).collect();
        let waiter = waiter(&engine, &keys, &tries);
        change(&engine, &keys, |view| keys.iter().for_each(|key| view.put_string(key, b"text", Expiry::Never)));
        assert_eq!((tries.load(Relaxed), waiter.is_over()), (0, false));
    }

    #[test]
    fn whoever_serves_a_client_runs_its_command_for_that_key_alone() {
        let (engine, tries) = (Engine::new(false), Arc::new(AtomicUsize::new(0)));
        let keys: Vec<Vec<u8>> = (0..10_000).map(|number| format!("key:{number}").into_bytes()).collect();
        let waiter = waiter(&engine, &keys, &tries);
        push(&engine, b"key:9999", &[b"element"]);
        assert_eq!((tries.load(Relaxed), waiter.is_over()), (1, true));
        // It leaves the other queues itself.
        engine.leave(&waiter);
        let mut left = 0;
        engine.each_shard(|_, shard| left += shard.log.waiters.place_count());
        assert_eq!(left, 0);
    }
}
