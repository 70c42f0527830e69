//! What the book of jobs promises, on whichever keyspace.

use std::collections::BTreeMap;
use std::pin::Pin;

use flux::jobs::book::{Book, Claimed, End, How, Once, Order, Told};
use flux::jobs::names::JobId;
use flux::jobs::spec::{Backoff, Concurrency, Spec};
use flux::jobs::state::State;

type Scenario = fn(Book) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! all {
    ($($name:ident),* $(,)?) => {
        /// All of them, with their names.
        pub const ALL: &[(&str, Scenario)] = &[$((stringify!($name), |book| Box::pin($name(book)))),*];
    };
}

all!(
    a_job_goes_from_its_submission_to_its_end,
    a_job_that_fails_is_tried_as_often_as_it_says_and_no_more,
    a_job_runs_when_its_time_has_come,
    higher_priorities_go_first_and_equal_ones_in_their_order,
    only_so_many_of_a_key_run_at_once_and_the_next_follows_each_end,
    the_same_job_is_taken_once_for_an_idempotency_key,
    whoever_lost_a_job_changes_nothing_any_more,
    a_job_whose_workers_die_is_given_to_others_but_not_for_ever,
    a_job_that_is_given_back_waits_as_if_it_had_never_run,
    a_job_waits_for_a_worker_that_has_its_runtime,
    a_worker_that_is_heard_of_keeps_its_job,
    a_job_can_be_cancelled_wherever_it_is,
    a_job_that_ended_can_run_again_or_be_forgotten,
    jobs_that_ended_long_ago_are_forgotten,
    lists_have_the_newest_first_and_know_states,
    no_job_is_lost_or_run_twice_at_once_among_many_workers,
);

/// When scenarios begin.
const START: u64 = 1_700_000_000_000;

fn order(name: &str) -> Order {
    let spec = Spec {
        name: name.into(),
        kind: "GENERIC_SCRIPT".into(),
        runtime: "bash".into(),
        dependencies: Vec::new(),
        max_retries: 3,
        run_at: START,
        timeout_ms: 1000,
        priority: 5,
        concurrency: None,
        backoff: Backoff::default(),
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        checksum: "none".into(),
    };
    let payload = serde_json::from_str("{\"a\":[1,2,{}]}").unwrap();
    Order { spec, payload, script: b"echo \xff\0 done".to_vec(), once: None }
}

fn end(how: How) -> End {
    End { how, exit_code: Some(i32::from(how != How::Completed)), output: None, why: None }
}

async fn submit(book: &Book, order: Order) -> JobId {
    let (id, is_new) = book.submit(&order, START).await.unwrap();
    assert!(is_new);
    id
}

/// All that a worker gets of all parts.
async fn claim(book: &Book, worker: &str, count: usize, now: u64) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    for part in book.parts() {
        claimed.extend(book.claim(part, worker, &["bash"], count - claimed.len(), now).await.unwrap());
    }
    claimed
}

async fn claim_one(book: &Book, worker: &str, now: u64) -> Claimed {
    let mut claimed = claim(book, worker, 1, now).await;
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

async fn state(book: &Book, id: &JobId) -> State {
    book.job(id).await.unwrap().expect("it is there").state
}

/// Has those wait for a worker whose time has come; tells when the next one's comes.
async fn due(book: &Book, now: u64) -> Option<u64> {
    let mut next = None;
    for part in book.parts() {
        let here = book.due(part, now).await.unwrap();
        next = next.into_iter().chain(here).min();
    }
    next
}

async fn reap(book: &Book, lease_ms: u64, now: u64) -> Vec<JobId> {
    let mut reaped = Vec::new();
    for part in book.parts() {
        reaped.extend(book.reap(part, lease_ms, now).await.unwrap());
    }
    reaped
}

fn code<T: std::fmt::Debug>(result: redis::RedisResult<T>) -> String {
    result.unwrap_err().code().unwrap_or("none").to_owned()
}

async fn a_job_goes_from_its_submission_to_its_end(book: Book) {
    let id = submit(&book, order("first")).await;
    assert_eq!(state(&book, &id).await, State::Ready);
    let claimed = claim_one(&book, "worker", START + 5).await;
    assert_eq!((&claimed.id, claimed.attempt), (&id, 1));
    assert_eq!(claimed.script, b"echo \xff\0 done");
    assert_eq!(claimed.payload, "{\"a\":[1,2,{}]}");
    assert!(claim(&book, "other", 10, START + 6).await.is_empty(), "nobody else gets it");
    let finished = End { output: Some("{\"ok\": true}".into()), ..end(How::Completed) };
    assert_eq!(book.finish(&id, claimed.fence, &finished, 0, START + 9).await.unwrap(), State::Completed);
    let job = book.job(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.exit_code, job.completed_at, job.created_at), (State::Completed, Some(0), Some(START + 9), START));
    assert_eq!(job.output.unwrap().get(), "{\"ok\": true}");
    let history: Vec<(u32, Vec<(String, u64)>)> = job
        .tries
        .into_iter()
        .map(|one| (one.number, one.history.into_iter().map(|happened| (happened.status, happened.timestamp)).collect()))
        .collect();
    let happened = |status: &str, after| (status.to_owned(), START + after);
    assert_eq!(history, [(0, vec![happened("READY", 0)]), (1, vec![happened("RUNNING", 5), happened("COMPLETED", 9)])]);
    assert!(claim(&book, "worker", 10, START + 10).await.is_empty());
}

async fn a_job_that_fails_is_tried_as_often_as_it_says_and_no_more(book: Book) {
    let id = submit(&book, order("fails")).await;
    let failed = End { why: Some("it \"broke\"\n".into()), ..end(How::Failed) };
    for attempt in 1..=3 {
        let now = START + u64::from(attempt) * 1000;
        due(&book, now).await;
        let claimed = claim_one(&book, "worker", now).await;
        assert_eq!(claimed.attempt, attempt);
        let expected = if attempt < 3 { State::RetryWait } else { State::Failed };
        assert_eq!(book.finish(&id, claimed.fence, &failed, now + 1000, now + 1).await.unwrap(), expected);
        assert!(claim(&book, "worker", 10, now + 2).await.is_empty(), "it waits before it is tried again");
    }
    assert_eq!(due(&book, START + 1_000_000).await, None);
    let job = book.job(&id).await.unwrap().unwrap();
    assert_eq!((job.error.as_deref(), job.exit_code), (Some("it \"broke\"\n"), Some(1)));
    let ends: Vec<_> = job.tries.iter().filter_map(|one| one.end.as_ref()).collect();
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|end| end.final_status == "FAILED" && end.reason.as_deref() == Some("it \"broke\"\n")));
}

async fn a_job_runs_when_its_time_has_come(book: Book) {
    let mut later = order("later");
    later.spec.run_at = START + 60_000;
    let id = submit(&book, later).await;
    assert_eq!(state(&book, &id).await, State::Scheduled);
    assert_eq!(due(&book, START + 59_999).await, Some(START + 60_000));
    assert!(claim(&book, "worker", 10, START + 59_999).await.is_empty());
    assert_eq!(due(&book, START + 60_000).await, None);
    assert_eq!(claim_one(&book, "worker", START + 60_000).await.id, id);
}

async fn higher_priorities_go_first_and_equal_ones_in_their_order(book: Book) {
    let mut expected = Vec::new();
    for (number, priority) in [5, 0, 9, 5, 9, 0].into_iter().enumerate() {
        let mut one = order("one");
        one.spec.priority = priority;
        // In one part, so that there is an order.
        one.spec.concurrency = Some(Concurrency { key: "together".into(), limit: 100 });
        expected.push((9 - priority, number, submit(&book, one).await));
    }
    expected.sort_by_key(|(priority, number, _)| (*priority, *number));
    let expected: Vec<JobId> = expected.into_iter().map(|(.., id)| id).collect();
    let mut got: Vec<JobId> = claim(&book, "worker", 2, START).await.into_iter().map(|claimed| claimed.id).collect();
    got.extend(claim(&book, "other", 10, START).await.into_iter().map(|claimed| claimed.id));
    assert_eq!(got, expected);
}

async fn only_so_many_of_a_key_run_at_once_and_the_next_follows_each_end(book: Book) {
    let bounded = |priority| {
        let mut one = order("bounded");
        one.spec.concurrency = Some(Concurrency { key: "tenant".into(), limit: 2 });
        one.spec.priority = priority;
        one
    };
    let mut ids = Vec::new();
    for priority in [5, 5, 5, 5, 8] {
        ids.push(submit(&book, bounded(priority)).await);
    }
    let first = claim(&book, "worker", 10, START).await;
    assert_eq!(first.iter().map(|claimed| &claimed.id).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    assert_eq!(state(&book, &ids[2]).await, State::Held);
    // The one that fails gives its place up while it waits.
    book.finish(&ids[0], first[0].fence, &end(How::Failed), START + 1000, START + 1).await.unwrap();
    assert_eq!(claim_one(&book, "worker", START + 1).await.id, ids[4], "the highest priority comes first");
    assert!(claim(&book, "worker", 10, START + 1).await.is_empty());
    // A held one that is cancelled takes no place.
    assert_eq!(book.cancel(&ids[2], "", START + 2).await.unwrap(), State::Cancelled);
    book.finish(&ids[1], first[1].fence, &end(How::Completed), 0, START + 3).await.unwrap();
    assert_eq!(claim_one(&book, "worker", START + 3).await.id, ids[3]);
    // The one that waited stands in line again.
    due(&book, START + 1000).await;
    assert_eq!(state(&book, &ids[0]).await, State::Held);
}

async fn the_same_job_is_taken_once_for_an_idempotency_key(book: Book) {
    let once = |said: &str| Some(Once { key: "key".into(), said: said.into() });
    let same = || Order { once: once("same"), ..order("once") };
    let (id, is_new) = book.submit(&same(), START).await.unwrap();
    assert!(is_new);
    assert_eq!(book.submit(&same(), START + 1).await.unwrap(), (id.clone(), false));
    let other = Order { script: b"other".to_vec(), ..same() };
    assert_eq!(code(book.submit(&other, START + 2).await), "DIFFERS");
    let other = Order { once: once("other"), ..same() };
    assert_eq!(code(book.submit(&other, START + 3).await), "DIFFERS");
    assert_eq!(claim(&book, "worker", 10, START).await.len(), 1);
}

async fn whoever_lost_a_job_changes_nothing_any_more(book: Book) {
    let id = submit(&book, order("lost")).await;
    let old = claim_one(&book, "slow", START).await;
    assert_eq!(reap(&book, 0, START + 1).await, std::slice::from_ref(&id));
    assert_eq!(code(book.finish(&id, old.fence, &end(How::Completed), 0, START + 2).await), "STALE");
    let part = id.part(book.parts().count() as u8);
    assert_eq!(
        book.beat(part, "slow", &[(id.clone(), old.fence)], START + 2).await.unwrap(),
        [(id.clone(), old.fence, Told::Stale)]
    );
    let new = claim_one(&book, "fast", START + 3).await;
    assert!(new.fence > old.fence);
    assert_eq!(code(book.finish(&id, old.fence, &end(How::Failed), 0, START + 4).await), "STALE");
    assert_eq!(book.finish(&id, new.fence, &end(How::Completed), 0, START + 5).await.unwrap(), State::Completed);
    assert_eq!(code(book.finish(&id, new.fence, &end(How::Completed), 0, START + 6).await), "STALE", "not twice either");
}

async fn a_job_whose_workers_die_is_given_to_others_but_not_for_ever(book: Book) {
    let mut once = order("kills");
    once.spec.max_retries = 1;
    let id = submit(&book, once).await;
    for death in 1..=4 {
        assert_eq!(claim_one(&book, "worker", START).await.attempt, death, "a death is no failure of the job's");
        assert_eq!(reap(&book, 0, START + 1).await, std::slice::from_ref(&id));
    }
    let job = book.job(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.error.as_deref()), (State::Failed, Some("nothing was heard of its worker")));
    assert!(claim(&book, "worker", 10, START + 2).await.is_empty());
}

async fn a_job_that_is_given_back_waits_as_if_it_had_never_run(book: Book) {
    let mut once = order("long");
    once.spec.max_retries = 1;
    let id = submit(&book, once).await;
    for attempt in 1..=10 {
        let claimed = claim_one(&book, "worker", START).await;
        assert_eq!(claimed.attempt, attempt);
        assert_eq!(book.finish(&id, claimed.fence, &end(How::GivenBack), 0, START).await.unwrap(), State::Ready);
    }
    let claimed = claim_one(&book, "worker", START).await;
    book.cancel(&id, "", START).await.unwrap();
    assert_eq!(book.finish(&id, claimed.fence, &end(How::GivenBack), 0, START).await.unwrap(), State::Cancelled);
}

async fn a_job_waits_for_a_worker_that_has_its_runtime(book: Book) {
    let mut node = order("node");
    node.spec.runtime = "node:18".into();
    node.spec.priority = 9;
    let node = submit(&book, node).await;
    let bash = submit(&book, order("bash")).await;
    assert_eq!(claim(&book, "worker", 10, START).await.into_iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [bash]);
    let part = node.part(book.parts().count() as u8);
    assert!(book.claim(part, "worker", &[], 10, START).await.unwrap().is_empty());
    let claimed = book.claim(part, "worker", &["python:3.9", "node:18"], 10, START).await.unwrap();
    assert_eq!(claimed.into_iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [node]);
}

async fn a_worker_that_is_heard_of_keeps_its_job(book: Book) {
    let id = submit(&book, order("long")).await;
    let claimed = claim_one(&book, "worker", START).await;
    let part = id.part(book.parts().count() as u8);
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert!(book.beat(part, "worker", &[(id.clone(), claimed.fence)], START).await.unwrap().is_empty());
    // Nothing was heard for thirty milliseconds, but for that.
    assert!(reap(&book, 30_000, START).await.is_empty());
    book.cancel(&id, "", START).await.unwrap();
    assert_eq!(
        book.beat(part, "worker", &[(id.clone(), claimed.fence)], START).await.unwrap(),
        [(id, claimed.fence, Told::Cancel)]
    );
}

async fn a_job_can_be_cancelled_wherever_it_is(book: Book) {
    let mut later = order("later");
    later.spec.run_at = START + 60_000;
    let waits = submit(&book, later).await;
    assert_eq!(book.cancel(&waits, "enough", START).await.unwrap(), State::Cancelled);
    assert_eq!(due(&book, START + 60_000).await, None);
    let ready = submit(&book, order("ready")).await;
    assert_eq!(book.cancel(&ready, "enough", START).await.unwrap(), State::Cancelled);
    assert!(claim(&book, "worker", 10, START).await.is_empty());
    let running = submit(&book, order("running")).await;
    let claimed = claim_one(&book, "worker", START).await;
    assert_eq!(book.cancel(&running, "enough", START).await.unwrap(), State::Running);
    // Its program failed when it was killed; it is not tried again.
    assert_eq!(book.finish(&running, claimed.fence, &end(How::Failed), START, START + 1).await.unwrap(), State::Cancelled);
    let failed = submit(&book, order("failed")).await;
    let claimed = claim_one(&book, "worker", START).await;
    book.finish(&failed, claimed.fence, &end(How::Failed), START + 1000, START + 1).await.unwrap();
    assert_eq!(book.cancel(&failed, "enough", START + 2).await.unwrap(), State::Cancelled);
    assert_eq!(due(&book, START + 2000).await, None);
    assert!(claim(&book, "worker", 10, START + 2000).await.is_empty());
    assert_eq!(book.cancel(&failed, "again", START + 3).await.unwrap(), State::Cancelled, "twice is once");
    let lost = submit(&book, order("lost")).await;
    claim_one(&book, "worker", START).await;
    book.cancel(&lost, "enough", START).await.unwrap();
    assert_eq!(reap(&book, 0, START + 1).await, std::slice::from_ref(&lost));
    assert_eq!(state(&book, &lost).await, State::Cancelled);
    let nobody = JobId::new(failed.part(1), 1);
    assert_eq!(code(book.cancel(&nobody, "", START).await), "NOJOB");
}

async fn a_job_that_ended_can_run_again_or_be_forgotten(book: Book) {
    let id = submit(&book, order("again")).await;
    assert_eq!(code(book.retry(&id, START).await), "NOTENDED");
    assert_eq!(code(book.delete(&id, START).await), "NOTENDED");
    let claimed = claim_one(&book, "worker", START).await;
    book.finish(&id, claimed.fence, &end(How::Completed), 0, START + 1).await.unwrap();
    assert_eq!(book.retry(&id, START + 2).await.unwrap(), State::Ready);
    let again = claim_one(&book, "worker", START + 3).await;
    assert_eq!((again.attempt, &again.id), (2, &id));
    book.finish(&id, again.fence, &end(How::Failed), START + 4, START + 4).await.unwrap();
    book.cancel(&id, "", START + 5).await.unwrap();
    book.delete(&id, START + 6).await.unwrap();
    assert!(book.job(&id).await.unwrap().is_none());
    assert!(book.newest(None, 10).await.unwrap().is_empty());
    assert_eq!(code(book.delete(&id, START + 7).await), "NOJOB");
}

async fn jobs_that_ended_long_ago_are_forgotten(book: Book) {
    let mut ids = Vec::new();
    for number in 0..3 {
        let id = submit(&book, order("one")).await;
        if number < 2 {
            book.cancel(&id, "", START + number).await.unwrap();
        }
        ids.push(id);
    }
    let mut pruned = 0;
    for part in book.parts() {
        pruned += book.prune(part, START + 1, START + 5).await.unwrap();
    }
    assert_eq!(pruned, 1);
    assert!(book.job(&ids[0]).await.unwrap().is_none());
    assert_eq!((state(&book, &ids[1]).await, state(&book, &ids[2]).await), (State::Cancelled, State::Ready));
}

async fn lists_have_the_newest_first_and_know_states(book: Book) {
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(book.submit(&order("one"), START + number).await.unwrap().0);
    }
    ids.reverse();
    let newest: Vec<JobId> = book.newest(None, 20).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(newest, ids[..20]);
    let claimed = claim(&book, "worker", 4, START + 100).await;
    assert_eq!(book.count(State::Running).await.unwrap(), 4);
    assert_eq!(book.count(State::Ready).await.unwrap(), 26);
    let mut running: Vec<JobId> = claimed.into_iter().map(|claimed| claimed.id).collect();
    running.sort_by_key(|id| ids.iter().position(|other| other == id));
    let listed: Vec<JobId> = book.newest(Some(State::Running), 10).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(listed, running);
}

/// Some give up, some are too slow, and some are told of cancels.
async fn no_job_is_lost_or_run_twice_at_once_among_many_workers(book: Book) {
    let mut open = std::collections::BTreeSet::new();
    for _ in 0..100 {
        open.insert(submit(&book, order("one")).await);
    }
    let workers = (0..8_u64).map(|number| {
        let book = book.clone();
        async move {
            let (mut done, mut now) = (Vec::new(), START);
            let worker = format!("worker{number}");
            for round in 0..1000 {
                now += 10;
                due(&book, now).await;
                let claimed = claim(&book, &worker, 3, now).await;
                if claimed.is_empty()
                    && book.count(State::Ready).await.unwrap() + book.count(State::RetryWait).await.unwrap() == 0
                {
                    break;
                }
                for (at, one) in claimed.into_iter().enumerate() {
                    let how = if (round + at as u64 + number).is_multiple_of(5) { How::Lost } else { How::Completed };
                    match book.finish(&one.id, one.fence, &end(how), now, now).await.unwrap() {
                        State::Completed => done.push(one.id),
                        State::Failed | State::Ready => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            done
        }
    });
    for id in futures_util::future::join_all(workers).await.concat() {
        assert!(open.remove(&id), "{id} was completed twice");
    }
    for id in open {
        assert_eq!(state(&book, &id).await, State::Failed, "{id}");
    }
}
