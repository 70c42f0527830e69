//! Threads, tasks and child processes: what happens when they die, and in which order they are stopped.

mod children;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use flux::lifecycle::{Backoff, Deadline, Kind, Lifecycle, OnDeath, Phase, Plan, Row, State};

use crate::process;

/// No pause, for tests that are not about it.
const AT_ONCE: Backoff = Backoff { first: Duration::ZERO, most: Duration::ZERO };

fn row(life: &Lifecycle, name: &str) -> Option<Row> {
    life.report().into_iter().find(|row| row.name == name)
}

/// A thread that notes when it is asked to end, and ends when it is let go.
fn noting(life: &Lifecycle, name: &'static str, phase: Phase, noted: &Arc<Mutex<Vec<String>>>, let_go: Receiver<()>) {
    let noted = Arc::clone(noted);
    let body = move |stop: &flux::lifecycle::Stop| {
        stop.wait();
        noted.lock().push(format!("{name} asked"));
        // Whoever holds the other end is done with it, too, when that is dropped.
        let _ = let_go.recv();
        noted.lock().push(format!("{name} ended"));
    };
    life.start(Plan::new(name, phase), body).unwrap();
}

/// A runtime on a thread of its own, until the sender is dropped.
fn carrier() -> (tokio::runtime::Handle, tokio::sync::oneshot::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (carries, is_over) = tokio::sync::oneshot::channel::<()>();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(is_over));
    (handle, carries)
}

fn free() -> Receiver<()> {
    channel().1
}

#[test]
fn a_phase_has_ended_when_the_next_one_is_asked_to() {
    let (life, noted) = (Lifecycle::default(), Arc::default());
    noting(&life, "journal", Phase::Flush(1), &noted, free());
    noting(&life, "tables", Phase::Flush(0), &noted, free());
    noting(&life, "acceptor", Phase::Accept, &noted, free());
    assert_eq!(life.report().len(), 3);
    for phase in [Phase::Accept, Phase::Flush(0), Phase::Flush(1)] {
        life.stop(phase);
    }
    let order = ["acceptor", "tables", "journal"].map(|name| [format!("{name} asked"), format!("{name} ended")]);
    assert_eq!(*noted.lock(), order.concat());
    assert_eq!(life.report(), []);
}

#[test]
fn who_is_slow_is_cut_at_the_deadline_and_nothing_later_is_asked_before() {
    let (life, noted) = (Lifecycle::default(), Arc::default());
    let (cut, is_cut) = channel();
    noting(&life, "slow", Phase::Finish, &noted, is_cut);
    noting(&life, "later", Phase::Rooms, &noted, free());
    let cuts = Arc::clone(&noted);
    let deadline = Deadline::new(Duration::ZERO, Duration::MAX, move || {
        cuts.lock().push("cut".into());
        drop(cut);
    });
    life.stop_by(Phase::Finish, &deadline);
    life.stop_by(Phase::Rooms, &deadline);
    let noted = noted.lock().clone();
    // The slow one may be cut before it has seen that it is asked.
    assert_eq!(noted.iter().position(|what| what == "slow ended"), Some(2), "{noted:?}");
    assert_eq!(noted[3..], ["later asked", "later ended"]);
}

#[test]
fn who_does_not_end_even_when_cut_is_left_behind_and_the_others_end() {
    let (life, noted) = (Lifecycle::default(), Arc::default());
    let (let_go, never) = channel();
    noting(&life, "deaf", Phase::Finish, &noted, never);
    noting(&life, "later", Phase::Rooms, &noted, free());
    let deadline = Deadline::new(Duration::ZERO, Duration::ZERO, || ());
    life.stop_by(Phase::Finish, &deadline);
    life.stop(Phase::Rooms);
    assert_eq!(row(&life, "deaf").map(|row| row.state), Some(State::LeftBehind));
    assert!(noted.lock().contains(&"later ended".to_owned()) && !noted.lock().contains(&"deaf ended".to_owned()));
    drop(let_go);
}

#[test]
fn each_is_cut_by_its_own_means() {
    let life = Lifecycle::default();
    let (cut, is_cut) = channel::<()>();
    let plan = Plan::new("slow", Phase::Finish).cut_by(move || cut.send(()).unwrap());
    life.start(plan, move |_| is_cut.recv().unwrap()).unwrap();
    life.stop_by(Phase::Finish, &Deadline::new(Duration::ZERO, Duration::MAX, || ()));
    assert_eq!(life.report(), []);
}

#[test]
fn who_waits_for_something_else_is_woken() {
    let life = Lifecycle::default();
    let (wake, bell) = channel::<()>();
    let plan = Plan::new("asleep", Phase::Tend).woken_by(move || wake.send(()).unwrap());
    life.start(plan, move |stop| {
        bell.recv().unwrap();
        assert!(stop.is_asked());
    })
    .unwrap();
    life.stop(Phase::Tend);
    assert_eq!(life.report(), []);
}

#[test]
fn nothing_is_started_in_a_phase_that_was_stopped() {
    let life = Lifecycle::default();
    life.stop(Phase::Rooms);
    let error = life.start(Plan::new("late", Phase::Rooms), |_| unreachable!()).unwrap_err();
    assert_eq!(error.to_string(), "`late` cannot be started: the server ends");
    assert!(life.is_ending() && life.report().is_empty());
    life.start(Plan::new("in time", Phase::Tend), |stop| stop.wait()).unwrap();
    life.stop(Phase::Tend);
}

#[test]
fn work_is_waited_for_and_shown_while_it_lasts() {
    let life = Lifecycle::default();
    let (done, is_done) = channel::<()>();
    life.work(Plan::new("save", Phase::Finish), move |_| assert!(is_done.recv().is_err())).unwrap();
    let shown = row(&life, "save").unwrap();
    assert_eq!((shown.kind, shown.state, shown.on_death), (Kind::Thread, State::Running, OnDeath::Done));
    drop(done);
    life.stop(Phase::Finish);
    assert_eq!(life.report(), []);
}

/// A thread that does what it is sent.
fn obedient(life: &Lifecycle, backoff: Backoff) -> (Sender<&'static str>, Receiver<u32>) {
    let (order, orders) = channel::<&'static str>();
    let (born, births) = channel();
    let mut lives = 0;
    let body = move |_: &_| {
        lives += 1;
        born.send(lives).unwrap();
        match orders.recv() {
            Ok("panic") => panic!("so it was told"),
            Ok("fail") => Err("so it was told"),
            Ok(_) => Ok(()),
            Err(_) => unreachable!("the test holds the other end"),
        }
    };
    let wake = order.clone();
    // It may have ended in its pause.
    let plan = Plan::new("kept", Phase::Rooms).woken_by(move || {
        let _ = wake.send("end");
    });
    life.keep(plan, backoff, body).unwrap();
    (order, births)
}

#[test]
fn who_is_kept_is_started_again_whatever_it_died_of() {
    let life = Lifecycle::default();
    let (order, births) = obedient(&life, AT_ONCE);
    let deaths = [("panic", "panicked: so it was told"), ("fail", "so it was told"), ("", "ended without having been asked to")];
    assert_eq!(births.recv(), Ok(1));
    for (number, (death, told)) in deaths.into_iter().enumerate() {
        order.send(death).unwrap();
        assert_eq!(births.recv(), Ok(number as u32 + 2));
        let shown = row(&life, "kept").unwrap();
        assert_eq!((shown.state, shown.restarts, shown.last_error.as_deref()), (State::Running, number as u64 + 1, Some(told)));
    }
    life.stop(Phase::Rooms);
    assert_eq!(life.report(), []);
}

#[test]
fn who_pauses_says_so_and_is_not_started_again_when_it_is_asked_to_end() {
    let life = Lifecycle::default();
    let (order, births) = obedient(&life, Backoff { first: Duration::from_secs(3600), most: Duration::from_secs(3600) });
    assert_eq!(births.recv(), Ok(1));
    order.send("fail").unwrap();
    while row(&life, "kept").unwrap().state != State::Pausing {
        std::thread::yield_now();
    }
    assert_eq!(row(&life, "kept").unwrap().last_error.as_deref(), Some("so it was told"));
    life.stop(Phase::Rooms);
    assert!(births.try_recv().is_err() && life.report().is_empty());
}

#[test]
fn tasks_are_kept_cut_and_shown_as_threads_are() {
    let life = Lifecycle::default();
    let (carrier, _carries) = carrier();
    let _within = carrier.enter();
    let (born, births) = channel();
    let mut lives = 0;
    let body = move |stop: flux::lifecycle::Stop| {
        lives += 1;
        born.send(lives).unwrap();
        let lives = lives;
        async move {
            match lives {
                1 => panic!("the first one"),
                2 => Err("the second one"),
                _ => {
                    stop.asked().await;
                    Ok(())
                }
            }
        }
    };
    life.keep_task(Plan::new("kept", Phase::Rooms), AT_ONCE, body).unwrap();
    life.start_task(Plan::new("deaf", Phase::Finish), |_| std::future::pending()).unwrap();
    assert_eq!([births.recv(), births.recv(), births.recv()], [Ok(1), Ok(2), Ok(3)]);
    let shown = row(&life, "kept").unwrap();
    assert_eq!((shown.kind, shown.restarts, shown.last_error.as_deref()), (Kind::Task, 2, Some("the second one")));
    life.stop_by(Phase::Finish, &Deadline::new(Duration::ZERO, Duration::MAX, || ()));
    life.stop(Phase::Rooms);
    assert_eq!(life.report(), []);
}

#[test]
fn a_task_is_gone_with_its_runtime_and_that_is_no_death() {
    let life = Lifecycle::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { life.start_task(Plan::new("accept", Phase::Last), |_| std::future::pending()) }).unwrap();
    assert_eq!(life.report().len(), 1);
    drop(runtime);
    assert_eq!(life.report(), []);
}

/// Nothing on disk can be spoiled, and the process is another's.
#[test]
fn a_death_in_a_keyspace_in_memory_is_shown_and_ends_nothing_else() {
    // Others open folders, and from then on a death ends their process.
    if !process::is_alone("lifecycle::a_death_in_a_keyspace_in_memory_is_shown_and_ends_nothing_else") {
        return;
    }
    let life = Lifecycle::default();
    life.start(Plan::new("short", Phase::Tend), |_| ()).unwrap();
    while row(&life, "short").unwrap().state != State::Failed {
        std::thread::yield_now();
    }
    let shown = row(&life, "short").unwrap();
    assert_eq!((shown.on_death, shown.last_error.as_deref()), (OnDeath::EndProcess, Some("ended without having been asked to")));
    life.stop(Phase::Tend);
}
