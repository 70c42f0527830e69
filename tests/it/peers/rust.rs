//! Peers in Rust, within the process and over a socket alike.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flux::Flux;
use flux::peers::{Capability, Error, Job, Peer, PeerBuilder};
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use crate::process::Process;

/// Somewhere peers can be.
enum Place {
    Within(Flux),
    Far(Process),
}

impl Place {
    fn peer(&self, name: &str) -> PeerBuilder {
        match self {
            Place::Within(flux) => flux.peer(),
            Place::Far(server) => Peer::connect(&format!("lux://127.0.0.1:{}", server.port())).unwrap(),
        }
        .name(name)
    }
}

/// Runs a claim in both places.
fn in_both<R: Future<Output = ()>>(claim: impl Fn(Arc<Place>) -> R) {
    for place in [Place::Within(Flux::in_memory()), Place::Far(Process::flux(&[]))] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), claim(Arc::new(place))).await.expect("it ends");
        });
    }
}

fn double() -> Capability {
    Capability::new("double", |number: i64, _: Job| async move { Ok::<_, Infallible>(number * 2) })
}

fn code(error: Error) -> String {
    match error {
        Error::Refused { code, .. } => code,
        other => other.to_string(),
    }
}

#[test]
fn a_call_reaches_whoever_has_the_capability() {
    in_both(|place| async move {
        let worker = place.peer("worker").expose(double()).start().await.unwrap();
        let caller = place.peer("caller").start().await.unwrap();
        assert_eq!(caller.call("double", 21).await.unwrap(), 42);
        assert_eq!(caller.call("double", 4).to(worker.id()).read::<i64>().await.unwrap(), 8);
        let answers = caller.call("double", 1).gather(0).await.unwrap();
        assert_eq!((answers.len(), &answers[0].data, &*answers[0].peer_name), (1, &json!(2), "worker"));
        worker.stop().await;
        assert_eq!(code(caller.call("double", 1).await.unwrap_err()), "NOPEER");
    });
}

#[test]
fn errors_and_panics_of_a_handler_reach_the_caller() {
    in_both(|place| async move {
        let fails = Capability::new("fail", |_: (), _: Job| async move { Err::<(), _>("no ink left") });
        let panics = Capability::new("panic", |_: (), _: Job| async move {
            assert!(std::hint::black_box(false), "a test of a panic");
            Ok::<_, Infallible>(())
        });
        let _worker = place.peer("worker").expose(fails).expose(panics).expose(double()).start().await.unwrap();
        let caller = place.peer("caller").start().await.unwrap();
        assert_eq!(caller.call("fail", ()).await.unwrap_err().to_string(), "no ink left");
        assert!(caller.call("panic", ()).await.unwrap_err().to_string().contains("panicked"));
        assert!(caller.call("double", "text").await.unwrap_err().to_string().contains("payload"));
    });
}

#[test]
fn pieces_of_an_answer_come_ahead_of_it_and_in_order() {
    in_both(|place| async move {
        let counts = Capability::new("count", |to: u64, job: Job| async move {
            for number in 1..=to {
                job.chunk(number).await?;
            }
            Ok::<_, Error>(to)
        });
        let _worker = place.peer("worker").expose(counts).start().await.unwrap();
        let caller = place.peer("caller").start().await.unwrap();
        let (sender, mut pieces) = mpsc::unbounded_channel();
        assert_eq!(caller.call("count", 5).chunks_to(sender).await.unwrap(), 5);
        let mut seen = Vec::new();
        while let Some(piece) = pieces.recv().await {
            seen.push(piece);
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_call_that_is_dropped_is_cancelled_where_it_runs() {
    in_both(|place| async move {
        struct Tells(Arc<Notify>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, ends) = (Arc::clone(&begun), Arc::clone(&ended));
        let hangs = Capability::new("hang", move |_: (), _: Job| {
            let tells = Tells(Arc::clone(&ends));
            begins.notify_one();
            async move {
                std::future::pending::<()>().await;
                drop(tells);
                Ok::<_, Infallible>(())
            }
        });
        let _worker = place.peer("worker").expose(hangs).start().await.unwrap();
        let caller = Arc::new(place.peer("caller").start().await.unwrap());
        let calls = Arc::clone(&caller);
        let call = tokio::spawn(async move { calls.call("hang", ()).await });
        begun.notified().await;
        call.abort();
        ended.notified().await;

        let late = caller.call("hang", ()).timeout(Duration::from_millis(100)).await;
        assert_eq!(code(late.unwrap_err()), "TIMEOUT");
        ended.notified().await;
    });
}

#[test]
fn context_is_shared_with_versions_and_events() {
    in_both(|place| async move {
        let (ada, bob) = (place.peer("ada").start().await.unwrap(), place.peer("bob").start().await.unwrap());
        bob.join("w").await.unwrap();
        let mut seen = bob.events();
        let here = ada.join("w").await.unwrap();
        assert_eq!(here.len(), 2);
        let first = ada.context("w").set("plan", json!({ "step": 1 })).await.unwrap();
        assert_eq!(bob.context("w").get_with_version("plan").await.unwrap(), Some((json!({ "step": 1 }), first)));
        let second = bob.context("w").set_if("plan", "go", first).await.unwrap();
        assert!(second > first);
        assert_eq!(code(ada.context("w").set_if("plan", "stop", first).await.unwrap_err()), "CONFLICT");
        assert_eq!(ada.context("w").keys().await.unwrap(), ["plan"]);
        assert_eq!(ada.context("w").history("plan").await.unwrap().len(), 2);
        assert!(ada.context("w").delete("plan").await.unwrap());
        assert_eq!(bob.context("w").get("plan").await.unwrap(), None);

        let mut kinds = Vec::new();
        for _ in 0..3 {
            let event = seen.recv().await.unwrap();
            kinds.push((event.kind, event.deleted.unwrap_or(false)));
        }
        let expected = [("peer:joined", false), ("ctx:updated", false), ("ctx:updated", true)];
        assert_eq!(kinds, expected.map(|(kind, deleted)| (kind.to_owned(), deleted)));
    });
}

#[test]
fn a_late_reader_of_a_stream_reads_it_from_the_beginning() {
    in_both(|place| async move {
        let (writer, reader) = (place.peer("writer").start().await.unwrap(), place.peer("reader").start().await.unwrap());
        writer.join("w").await.unwrap();
        reader.join("w").await.unwrap();
        let mut stream = writer.stream("w", "poem");
        stream.push("one").await.unwrap();
        stream.push("two").await.unwrap();
        let mut pieces = reader.read_stream("w", writer.id(), "poem");
        assert_eq!(pieces.next().await.unwrap().unwrap().text, "one");
        assert_eq!(pieces.next().await.unwrap().unwrap().text, "two");
        stream.push("three").await.unwrap();
        let third = pieces.next().await.unwrap().unwrap();
        assert_eq!((third.seq, third.missed, &*third.text), (3, 0, "three"));
        stream.end().await.unwrap();
        assert_eq!(pieces.next().await.unwrap(), None);
    });
}

fn cut_all(server: &mut dyn redis::ConnectionLike) {
    for kind in ["normal", "pubsub"] {
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes").exec(server).unwrap();
    }
}

#[test]
fn a_peer_comes_back_by_itself_after_its_connections_were_cut() {
    in_both(|place| async move {
        let worker = place.peer("worker").expose(double()).start().await.unwrap();
        let caller = place.peer("caller").start().await.unwrap();
        worker.join("w").await.unwrap();
        let cuts = place.peer("cutter").start().await.unwrap();
        match &*place {
            Place::Within(flux) => cut_all(&mut flux.blocking()),
            Place::Far(server) => {
                cut_all(&mut redis::Client::open(("127.0.0.1", server.port())).unwrap().get_connection().unwrap());
            }
        }
        // Whoever calls while one of the two is away is told so, or is answered once both are back.
        loop {
            match caller.call("double", 3).timeout(Duration::from_secs(5)).await {
                Ok(answer) => {
                    assert_eq!(answer, 6);
                    break;
                }
                Err(Error::Lost) => {}
                Err(Error::Refused { code, .. }) if code == "NOPEER" || code == "GONE" => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        while !cuts.peers_in("w").await.unwrap().iter().any(|peer| peer.name == "worker") {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_stream_that_breaks_off_is_an_error_for_its_reader() {
    in_both(|place| async move {
        let (writer, reader) = (place.peer("writer").start().await.unwrap(), place.peer("reader").start().await.unwrap());
        for peer in [&writer, &reader] {
            peer.join("w").await.unwrap();
        }
        let mut stream = reader.read_stream("w", writer.id(), "s");
        let mut written = writer.stream("w", "s");
        written.push("a").await.unwrap();
        written.fail("the model broke").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().text, "a");
        assert_eq!(stream.next().await.unwrap_err().to_string(), "the model broke");
        assert_eq!(stream.next().await.unwrap(), None);
        writer.stop().await;
        reader.stop().await;
    });
}

#[test]
fn a_result_that_is_too_large_is_an_error_at_once() {
    let server = Process::flux(&["--peer-payload-limit", "2kb"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::Far(server);
        let large = Capability::new("large", |_: (), _: Job| async { Ok::<_, Infallible>("x".repeat(3000)) });
        let worker = place.peer("worker").expose(large).start().await.unwrap();
        let error = worker.call("large", ()).await.unwrap_err();
        assert!(error.to_string().starts_with("the result was not taken: "), "{error}");
        assert_eq!(code(error), "FAILED");
        worker.stop().await;
    });
}

#[test]
fn a_timeout_that_makes_no_sense_is_refused_with_the_reason() {
    in_both(|place| async move {
        let peer = place.peer("peer").expose(double()).start().await.unwrap();
        let error = peer.call("double", 1).timeout(Duration::MAX).await.unwrap_err();
        assert!(error.to_string().starts_with("the timeout must be at most a day"), "{error}");
        assert_eq!(peer.call("double", 1).timeout(Duration::from_secs(86_400)).await.unwrap(), 2);
        peer.stop().await;
    });
}

#[test]
fn calls_that_a_handler_makes_end_with_its_own_deadline() {
    in_both(|place| async move {
        let nested = Arc::new(tokio::sync::OnceCell::<Peer>::new());
        let (told, mut lefts) = mpsc::unbounded_channel();
        let outer = Capability::new("outer", {
            let nested = Arc::clone(&nested);
            move |(): (), _: Job| {
                let nested = Arc::clone(&nested);
                async move { nested.get().unwrap().call("inner", ()).timeout(Duration::from_secs(3600)).await }
            }
        });
        let inner = Capability::new("inner", move |(): (), job: Job| {
            told.send(job.left()).unwrap();
            std::future::pending::<Result<(), Infallible>>()
        });
        let worker = place.peer("worker").expose(outer).expose(inner).start().await.unwrap();
        nested.set(place.peer("nested").start().await.unwrap()).ok().unwrap();
        let caller = place.peer("caller").start().await.unwrap();
        let late = caller.call("outer", ()).timeout(Duration::from_secs(1)).await.unwrap_err();
        // Both calls end at the same moment: the outer one by its own deadline, or because the handler's call did.
        assert!(["TIMEOUT", "FAILED"].contains(&&*code(late)));
        assert!(lefts.recv().await.unwrap() <= Duration::from_secs(1));
        caller.stop().await;
        worker.stop().await;
    });
}

#[test]
fn start_says_what_is_wrong_with_an_address_and_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let peer = Peer::connect(&format!("lux://127.0.0.1:{port}")).unwrap().connect_timeout(Duration::from_millis(200));
    let error = runtime.block_on(peer.start()).err().unwrap().to_string();
    assert!(error.starts_with("no server after ") && error.contains("refused"), "{error}");
}

#[test]
fn a_peer_keeps_what_it_runs_when_the_server_is_restarted_and_its_caller_gets_the_answer() {
    let mut server = Process::flux(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, mut tries) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let work = Capability::new("work", {
        let gate = Arc::clone(&gate);
        move |(): (), job: Job| {
            told.send(job.attempt).unwrap();
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok::<_, Infallible>("kept")
            }
        }
    });
    let url = format!("lux://127.0.0.1:{}", server.port());
    runtime.block_on(async {
        let worker = Peer::connect(&url).unwrap().name("worker").expose(work).start().await.unwrap();
        let caller = Peer::connect(&url).unwrap().name("caller").start().await.unwrap();
        let call = tokio::spawn(async move { caller.call("work", ()).retries(0).await });
        assert_eq!(tries.recv().await, Some(1));
        let server = tokio::task::spawn_blocking(move || {
            server.restart();
            server
        });
        let _server = server.await.unwrap();
        gate.notify_one();
        assert_eq!(call.await.unwrap().unwrap(), "kept");
        assert!(tries.try_recv().is_err(), "it ran once");
        worker.stop().await;
    });
}

/// It is refused at once, whatever the connection does, and spoils none that is made later.
#[test]
fn a_workspace_that_cannot_be_locks_no_peer_out() {
    in_both(|place| async move {
        let peer = place.peer("peer").start().await.unwrap();
        let refused = peer.join(&"x".repeat(10_000)).await.err().map(code);
        assert_eq!(refused.as_deref(), Some("ERR"));
        peer.join("w").await.unwrap();
        peer.stop().await;
    });
}
