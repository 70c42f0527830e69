//! Waits that meet: a reply that waits for the disk, an answer that another thread is just sending, a command that is held back, a client
//! that wants no replies. The disk and the outlet are the test's own, so that each meeting happens every time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use flux::clock;
use flux::commands::identity::{Origin, Who};
use flux::commands::instance::Instance;
use flux::commands::session::Session;
use flux::config::Config;
use flux::connection;
use flux::engine::Engine;
use flux::engine::durability::{Durability, LinePlace, LineShare, Stage};
use flux::engine::gate::Gate;
use flux::engine::mailbox::Outlet;
use flux::store::{Blocking, Store};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::{Process, Reply};

/// A disk on which nothing is until the test says so.
struct Disk {
    written: watch::Sender<u64>,
    durable: watch::Sender<u64>,
    /// What replies to writes wait for.
    awaited: Option<Stage>,
    refusal: Mutex<Option<String>>,
    /// Whether writers are held back, for ever.
    is_pressed: AtomicBool,
    /// Bytes that each who came to the line of writers had to answer for.
    charged: Mutex<Vec<usize>>,
    /// Whether memory is short, and how many writers asked to be told when that is over.
    crowded: watch::Sender<bool>,
    waited_for_room: AtomicUsize,
}

impl Durability for Disk {
    fn line_up(&self, bytes: usize, _: &mut LineShare) -> Option<LinePlace> {
        self.charged.lock().unwrap().push(bytes);
        self.is_pressed.load(SeqCst).then_some(LinePlace { turn: 1, ticket: 1 })
    }
    fn pause(&self, _: LinePlace) -> Option<Duration> {
        self.is_pressed.load(SeqCst).then_some(Duration::from_millis(1))
    }
    fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap().clone()
    }
    fn poke(&self) {}
    fn hurry(&self, _: Stage) {}
    fn awaited(&self) -> Option<Stage> {
        self.awaited
    }
    fn is_crowded(&self) -> bool {
        *self.crowded.borrow()
    }
    fn crowded(&self) -> Option<watch::Receiver<bool>> {
        self.is_crowded().then(|| {
            self.waited_for_room.fetch_add(1, SeqCst);
            self.crowded.subscribe()
        })
    }
    fn reached(&self, stage: Stage) -> watch::Receiver<u64> {
        match stage {
            Stage::Written => self.written.subscribe(),
            Stage::Durable => self.durable.subscribe(),
        }
    }
    fn write_error(&self) -> Option<String> {
        None
    }
}

/// A keyspace with such a disk.
struct House {
    instance: Arc<Instance>,
    disk: Arc<Disk>,
    gate: Arc<Gate>,
}

impl House {
    fn new(awaited: Option<Stage>) -> House {
        let engine = Arc::new(Engine::new(true));
        engine.set_shows_only_durable(awaited == Some(Stage::Durable));
        let instance = Instance::new(engine, Arc::new(Config::default()), clock::now_ms());
        let disk = Arc::new(Disk {
            written: watch::Sender::new(0),
            durable: watch::Sender::new(0),
            awaited,
            refusal: Mutex::default(),
            is_pressed: AtomicBool::default(),
            charged: Mutex::default(),
            crowded: watch::Sender::new(false),
            waited_for_room: AtomicUsize::default(),
        });
        instance.set_durability(Arc::clone(&disk) as Arc<dyn Durability>);
        House { instance, disk, gate: Arc::default() }
    }

    /// All changes up to this epoch are in the journal's file, and not on disk.
    fn write(&self, epoch: u64) {
        self.disk.written.send_replace(epoch);
    }

    /// All changes up to this epoch are on disk.
    fn sync(&self, epoch: u64) {
        self.instance.engine.note_durable(epoch);
        self.disk.durable.send_replace(epoch);
    }

    /// What a client within the process does, in a thread of its own, since it may have to wait for the disk.
    fn call(&self, words: &'static [&'static str]) -> thread::JoinHandle<Vec<u8>> {
        let mut store = Blocking::new(&self.instance);
        thread::spawn(move || store.call(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()))
    }

    /// A client whose bytes the test sends and reads.
    fn connect(&self, outlet: Option<Arc<dyn Outlet>>, out: &Arc<Mutex<Vec<u8>>>) -> DuplexStream {
        self.connect_as_task(outlet, out).0
    }

    /// The same, and the task that carries it.
    fn connect_as_task(&self, outlet: Option<Arc<dyn Outlet>>, out: &Arc<Mutex<Vec<u8>>>) -> (DuplexStream, JoinHandle<()>) {
        let client = self.instance.clients.connect(Arc::new(Origin::within()), clock::now_ms());
        let session = Session::new(Arc::clone(&self.instance), client, self.instance.stats.worker(), Who::Program);
        let (near, far) = tokio::io::duplex(1 << 20);
        connection::keep(&self.gate, &self.instance);
        let wire = Wire { input: far, out: Arc::clone(out) };
        (near, tokio::spawn(connection::run(wire, session, Arc::clone(&self.gate), outlet)))
    }
}

/// Reads what the test sends; keeps what is sent to the client.
struct Wire {
    input: DuplexStream,
    out: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.out.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes the first two bytes of an answer: tells when it begins, and goes on when it is told to.
struct Narrow {
    out: Arc<Mutex<Vec<u8>>>,
    begun: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Outlet for Narrow {
    fn begin(&self) -> bool {
        true
    }
    fn send(&self, bytes: &[u8]) -> usize {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        self.out.lock().unwrap().extend_from_slice(&bytes[..2]);
        2
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Lets every task of this thread run until it has nothing to do.
async fn rest() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits for a condition, which must come; no test's outcome depends on how soon.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never: {what}");
}

fn text(out: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&out.lock().unwrap()).into_owned()
}

/// The rest of an answer that another thread could send only a part of comes before all that was asked later, also where that waits
/// for the disk.
#[test]
fn the_rest_of_an_answer_goes_before_what_was_asked_while_it_was_being_sent() {
    run(async {
        let (house, out) = (House::new(None), Arc::default());
        let (begun, has_begun) = channel();
        let (may_go_on, go_on) = channel();
        let outlet = Arc::new(Narrow { out: Arc::clone(&out), begun, go_on: Mutex::new(go_on) });
        let mut client = house.connect(Some(outlet), &out);
        client.write_all(b"SET x found\r\nXREAD BLOCK 0 STREAMS s $\r\n").await.unwrap();
        rest().await;
        assert_eq!(text(&out), "+OK\r\n");
        let add = house.call(&["XADD", "s", "1-1", "f", "v"]);
        has_begun.recv().unwrap();
        // Two reads: the first answer is shown, the second waits for the disk.
        client.write_all(b"GET x\r\n").await.unwrap();
        rest().await;
        client.write_all(b"WAITAOF 0 0 0\r\n").await.unwrap();
        rest().await;
        may_go_on.send(()).unwrap();
        add.join().unwrap();
        rest().await;
        house.sync(u64::MAX);
        until("the answer to WAITAOF", || text(&out).ends_with("*2\r\n:1\r\n:0\r\n")).await;
        let entry = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(text(&out), format!("+OK\r\n{entry}$5\r\nfound\r\n*2\r\n:1\r\n:0\r\n"));
    });
}

/// Who writes faster than the disk waits in a line, however long that is: until it goes on, or the connection is to be closed.
#[test]
fn a_writer_that_is_held_back_goes_on_with_the_line_or_at_its_end() {
    run(async {
        let (house, outs) = (House::new(None), [(); 2].map(|()| Arc::default()));
        house.disk.is_pressed.store(true, SeqCst);
        let mut closed = house.connect_as_task(None, &outs[0]);
        closed.0.write_all(b"SET x 1\r\nPING\r\n").await.unwrap();
        let mut goes_on = house.connect(None, &outs[1]);
        goes_on.write_all(b"SET y 1\r\n").await.unwrap();
        until("their changes", || house.instance.changes() == 2).await;
        rest().await;
        assert_eq!(outs.each_ref().map(|out| text(out)), ["", ""]);
        house.instance.clients.all()[0].mailbox.leave(|mail| mail.close = Some(true));
        closed.1.await.unwrap();
        assert_eq!(outs.each_ref().map(|out| text(out)), ["+OK\r\n+PONG\r\n", ""]);
        house.disk.is_pressed.store(false, SeqCst);
        until("its answer", || text(&outs[1]) == "+OK\r\n").await;
    });
}

/// Where too much is on its way to the journal, who writes waits until it is in the journal's file, and no longer; who reads goes on.
#[test]
fn a_writer_waits_until_its_change_is_written_and_not_for_the_disk() {
    run(async {
        let (house, outs) = (House::new(Some(Stage::Written)), [(); 3].map(|()| Arc::default()));
        let mut clients = [0, 1, 2].map(|number: usize| house.connect(None, &outs[number]));
        clients[0].write_all(b"SET x 1\r\n").await.unwrap();
        let within = house.call(&["SET", "y", "1"]);
        until("their changes", || house.instance.changes() == 2).await;
        clients[1].write_all(b"GET x\r\n").await.unwrap();
        until("a read, which goes on", || text(&outs[1]) == "$1\r\n1\r\n").await;
        rest().await;
        assert_eq!((text(&outs[0]).as_str(), within.is_finished()), ("", false), "it is not written yet");
        house.write(house.instance.engine.cut().epoch);
        until("the answer", || text(&outs[0]) == "+OK\r\n").await;
        assert_eq!(within.join().unwrap(), b"+OK\r\n");
        clients[2].write_all(b"SET z 1\r\nWAITAOF 1 0 0\r\n").await.unwrap();
        rest().await;
        house.write(u64::MAX);
        rest().await;
        assert_eq!(text(&outs[2]), "", "WAITAOF waits for the disk all the same");
        house.sync(u64::MAX);
        until("that it is on disk", || text(&outs[2]) == "+OK\r\n*2\r\n:1\r\n:0\r\n").await;
    });
}

/// Above `memory-limit` writers are slowed down, whatever way they came, and go on when there is room again.
#[test]
fn a_writer_within_the_process_waits_for_room_in_memory_as_others_do() {
    run(async {
        let house = House::new(Some(Stage::Written));
        house.disk.crowded.send_replace(true);
        house.write(u64::MAX);
        let (within, store, out) = (house.call(&["SET", "a", "1"]), Store::within(&house.instance), Arc::default());
        let mut client = house.connect(None, &out);
        client.write_all(b"SET b 1\r\n").await.unwrap();
        let mut command = redis::cmd("SET");
        command.arg("c").arg(1);
        let (mut line, mut shared) = (store.line().await.unwrap(), store.clone());
        let over = async {
            until("that all of them wait", || house.disk.waited_for_room.load(SeqCst) == 4).await;
            house.disk.crowded.send_replace(false);
        };
        let (by_line, by_store, ()) = tokio::join!(command.exec_async(&mut line), command.exec_async(&mut shared), over);
        assert!(by_line.is_ok() && by_store.is_ok() && within.join().unwrap() == b"+OK\r\n");
        until("the answer", || text(&out) == "+OK\r\n").await;
        let _: () = command.query_async(&mut line).await.unwrap();
        let read: i64 = redis::cmd("GET").arg("c").query_async(&mut line).await.unwrap();
        assert_eq!((read, house.disk.waited_for_room.load(SeqCst)), (1, 4), "nobody waits where there is room");
    });
}

/// Who is killed, or whose server ends, waits in no line any more.
#[test]
fn a_writer_within_the_process_that_is_held_back_goes_on_at_its_end() {
    run(async {
        let house = House::new(None);
        house.disk.is_pressed.store(true, SeqCst);
        let mut line = Store::within(&house.instance).line().await.unwrap();
        let end = async {
            until("its change", || house.instance.changes() == 1).await;
            house.instance.end();
        };
        let mut command = redis::cmd("SET");
        let (done, ()) = tokio::join!(command.arg("x").arg(1).exec_async(&mut line), end);
        done.unwrap();
    });
}

/// The same, where the journal takes nothing: nobody waits for ever.
#[test]
fn a_journal_that_refuses_lets_no_writer_wait_for_ever() {
    run(async {
        let (house, out) = (House::new(Some(Stage::Written)), Arc::default());
        let mut client = house.connect(None, &out);
        client.write_all(b"SET x 1\r\n").await.unwrap();
        let within = house.call(&["SET", "y", "1"]);
        until("their changes", || house.instance.changes() == 2).await;
        *house.disk.refusal.lock().unwrap() = Some("no room".to_owned());
        house.disk.written.send_modify(|_| {});
        until("the error", || text(&out).contains("no room")).await;
        assert!(text(&out).starts_with("-MISCONF ") && within.join().unwrap().starts_with(b"-MISCONF "));
    });
}

/// Whoever asks within the process is told the same: not that the connection failed.
#[test]
fn a_journal_that_refuses_is_told_to_each_way_within_the_process() {
    run(async {
        let house = House::new(Some(Stage::Written));
        let store = Store::within(&house.instance);
        let (mut line, mut shared, mut piped) = (store.line().await.unwrap(), store.clone(), store.clone());
        let mut pipeline = redis::pipe();
        pipeline.set("b", 1).set("c", 1);
        let mut link = store.link(Arc::new(|_| {})).await.unwrap();
        let set = |key: &str| {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(1);
            set
        };
        let (by_line, by_store, by_link) = (set("a"), set("d"), set("e"));
        let all = async {
            tokio::join!(
                async { by_line.exec_async(&mut line).await.unwrap_err() },
                async { pipeline.exec_async(&mut piped).await.unwrap_err() },
                async { by_store.exec_async(&mut shared).await.unwrap_err() },
                async { by_link.exec_async(&mut link).await.unwrap_err() },
            )
        };
        let refuse = async {
            until("their changes", || house.instance.changes() == 5).await;
            *house.disk.refusal.lock().unwrap() = Some("no room".to_owned());
            house.disk.written.send_modify(|_| {});
        };
        let ((one, many, other, linked), ()) = tokio::join!(all, refuse);
        for error in [one, many, other, linked] {
            assert!(error.to_string().contains("MISCONF"), "{error}");
        }
    });
}

/// A wait that begins when the end was heard already is no wait.
#[test]
fn a_pipeline_of_waits_ends_when_its_client_is_killed() {
    run(async {
        let house = House::new(None);
        let mut line = Store::within(&house.instance).line().await.unwrap();
        let id: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut line).await.unwrap();
        let mut pipeline = redis::pipe();
        pipeline.cmd("BLPOP").arg("a").arg(0).cmd("BLPOP").arg("b").arg(0);
        let kill = async {
            until("it waits", || house.instance.blocked_clients() == 1).await;
            let mut other = Store::within(&house.instance);
            let killed: u64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut other).await.unwrap();
            assert_eq!(killed, 1);
        };
        let (ended, ()) = tokio::join!(pipeline.exec_async(&mut line), kill);
        assert!(ended.is_err());
    });
}

/// With `appendfsync always` and a disk that takes nothing, who waits for it is told so, and what was not shown stays unshown; when it
/// takes writes again, replies go out as before.
#[test]
fn a_disk_that_refuses_lets_nobody_wait_for_ever() {
    run(async {
        let (house, outs) = (House::new(Some(Stage::Durable)), [(); 3].map(|()| Arc::default()));
        let refuses = |cause: Option<&str>| {
            *house.disk.refusal.lock().unwrap() = cause.map(str::to_owned);
            house.disk.durable.send_modify(|_| {});
        };
        let mut first = house.connect(None, &outs[0]);
        first.write_all(b"PING\r\n").await.unwrap();
        rest().await;
        first.write_all(b"SET x 1\r\nPING\r\n").await.unwrap();
        rest().await;
        let within = house.call(&["SET", "y", "1"]);
        until("its change", || house.instance.changes() == 2).await;
        assert_eq!(text(&outs[0]), "+PONG\r\n");
        refuses(Some("no room"));
        until("the error", || text(&outs[0]).contains("no room")).await;
        assert!(text(&outs[0]).starts_with("+PONG\r\n-MISCONF ") && text(&outs[0]).matches("\r\n").count() == 2);
        assert!(within.join().unwrap().starts_with(b"-MISCONF "));
        let mut second = house.connect(None, &outs[1]);
        second.write_all(b"GET x\r\n").await.unwrap();
        until("a read, which goes on", || text(&outs[1]) == "$1\r\n1\r\n").await;
        refuses(None);
        rest().await;
        let mut third = house.connect(None, &outs[2]);
        third.write_all(b"GET x\r\n").await.unwrap();
        rest().await;
        assert_eq!(text(&outs[2]), "");
        house.sync(u64::MAX);
        until("the answer", || text(&outs[2]) == "$1\r\n1\r\n").await;
    });
}

/// With `appendfsync always`, a command that runs because a pause is over shows nothing before it is on disk, though an older reply of its
/// client was waiting for the disk meanwhile.
#[test]
fn what_ran_while_an_older_reply_waited_for_the_disk_waits_for_its_own_change() {
    run(async {
        let (house, out) = (House::new(Some(Stage::Durable)), Arc::default());
        let mut client = house.connect(None, &out);
        let other = house.call(&["SET", "x", "1"]);
        until("the other's change", || house.instance.engine.unshown_epoch() > 0).await;
        let first = house.instance.engine.unshown_epoch();
        house.instance.pause.start(50, true);
        client.write_all(b"GET x\r\nSET y 2\r\n").await.unwrap();
        rest().await;
        // What is written from here on is in a later commit.
        house.instance.engine.cut();
        until("the end of the pause", || house.instance.engine.unshown_epoch() > first).await;
        house.sync(first);
        other.join().unwrap();
        until("the older reply", || !out.lock().unwrap().is_empty()).await;
        rest().await;
        assert_eq!(text(&out), "$1\r\n1\r\n", "SET y is answered, and is not on disk");
        house.sync(u64::MAX);
        until("the answer to SET y", || text(&out) == "$1\r\n1\r\n+OK\r\n").await;
    });
}

/// One that is gone takes nothing from those who are there, also while it has to wait until others have left.
#[test]
fn a_client_that_is_gone_takes_no_element() {
    run(async {
        let (house, out) = (House::new(None), Arc::default());
        let mut client = house.connect(None, &out);
        client.write_all(b"BLPOP list 0\r\n").await.unwrap();
        rest().await;
        // Many leave at this moment: each has had its first turn and waits for its second.
        let mut leaving: Vec<_> = (0..100).map(|_| Box::pin(house.gate.leave(|| ()))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for one in &mut leaving {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        drop(client);
        rest().await;
        house.call(&["RPUSH", "list", "element"]).join().unwrap();
        let left = house.call(&["LLEN", "list"]).join().unwrap();
        assert_eq!(String::from_utf8_lossy(&left), ":1\r\n", "it went to a client that is gone");
    });
}

/// `CLIENT REPLY OFF` and `SKIP` hold for commands that are answered later, whatever ends the wait: else each later answer is taken for that of
/// another command.
#[test]
fn who_wants_no_replies_gets_none_of_commands_that_wait() {
    for (mode, on) in [("OFF", "CLIENT REPLY ON\r\n"), ("SKIP", "")] {
        for (waits, ended_by) in [
            ("BLPOP list 0", Some(&["RPUSH", "list", "element"][..])),
            ("BLPOP list 0.02", None),
            ("WAIT 1 20", None),
            ("XREAD BLOCK 0 STREAMS s $", Some(&["XADD", "s", "1-1", "f", "v"])),
            ("BLPOP list 0", Some(&["CLIENT", "UNBLOCK", "1"])),
            ("BLPOP list 0", Some(&["CLIENT", "UNBLOCK", "1", "ERROR"])),
            ("SAVE", None),
        ] {
            run(async {
                let (house, out) = (House::new(None), Arc::default());
                let mut client = house.connect(None, &out);
                let sent = format!("CLIENT REPLY {mode}\r\n{waits}\r\n{on}PING\r\n");
                client.write_all(sent.as_bytes()).await.unwrap();
                rest().await;
                if let Some(words) = ended_by {
                    house.call(words).join().unwrap();
                }
                until("the answer to PING", || text(&out).ends_with("PONG\r\n")).await;
                let expected = if on.is_empty() { "+PONG\r\n" } else { "+OK\r\n+PONG\r\n" };
                assert_eq!(text(&out), expected, "CLIENT REPLY {mode}, {waits}, ended by {ended_by:?}");
            });
        }
    }
}

/// However a client's task ends, nothing is left of it: a task that is cancelled, or panics, says no goodbye.
#[test]
fn a_connection_whose_task_is_cancelled_leaves_nothing_behind() {
    for wait in ["BLPOP list 0", "XREAD BLOCK 0 STREAMS a b $ $", "SET paused 1", "WAIT 1 0"] {
        run(async {
            let (house, out) = (House::new(None), Arc::default());
            let (mut client, task) = house.connect_as_task(None, &out);
            client.write_all(b"HELLO 3\r\nWATCH seen\r\nSUBSCRIBE news\r\nPSUBSCRIBE n*\r\nMONITOR\r\n").await.unwrap();
            rest().await;
            house.instance.pause.start(if wait.starts_with("SET") { 60_000 } else { 0 }, true);
            client.write_all(format!("{wait}\r\n").as_bytes()).await.unwrap();
            rest().await;
            let left = || {
                let info = house.call(&["INFO", "everything"]).join().unwrap();
                let info = String::from_utf8(info).unwrap();
                let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(|value| value[1..].to_owned());
                let keys = ["blocked_clients", "total_blocking_keys", "total_watched_keys", "watching_clients"];
                let keys = keys.map(|name| field(name).unwrap_or_else(|| panic!("INFO has no {name}")));
                let monitors = house.instance.monitors.lock().len();
                let subscribed = house.instance.engine.pubsub().publish(b"news", b"message");
                (keys.map(|number| number.parse::<usize>().unwrap()), monitors, subscribed, house.instance.clients.count())
            };
            let before = left();
            assert!(
                before.0[0] == 1 && before.0[2..] == [1, 1] && (before.1, before.2, before.3) == (1, 2, 1),
                "{wait}: {before:?}"
            );
            task.abort();
            rest().await;
            assert_eq!(left(), ([0; 4], 0, 0, 0), "{wait}");
        });
    }
}

/// As in Redis, whoever sends no more is answered all that was sent, up to a command that waits for others: it may be gone, and takes nothing.
#[test]
fn who_sends_no_more_is_answered_up_to_where_others_would_have_to_answer() {
    let value = "v".repeat(50);
    let text = format!("${}\r\n{value}\r\n", value.len());
    // More than the sockets hold.
    let large = "l".repeat(20 << 20);
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    let always = Process::flux(&["--enable-debug-command", "yes", "--appendfsync", "always"]);
    for (server, is_flux) in [(Some(flux), true), (Some(always), true), (Process::redis(&[]), false)] {
        let Some(server) = server else { continue };
        let mut other = server.connect();
        for (sent, answered) in [
            ("GET text\r\nPING\r\n", format!("{text}+PONG\r\n")),
            ("SET x 1\r\nGET text\r\nSAVE\r\nGET text\r\nPING\r\n", format!("+OK\r\n{text}+OK\r\n{text}+PONG\r\n")),
            ("DEBUG RELOAD\r\nPING\r\n", "+OK\r\n+PONG\r\n".into()),
            ("GET large\r\nPING\r\n", format!("${}\r\n{large}\r\n+PONG\r\n", large.len())),
            ("MULTI\r\nGET text\r\nEXEC\r\nPING\r\n", format!("+OK\r\n+QUEUED\r\n*1\r\n{text}+PONG\r\n")),
            ("PING\r\nBLPOP list 0\r\nPING\r\n", "+PONG\r\n".into()),
            ("GET text\r\nBLPOP list 0\r\nPING\r\n", text.clone()),
            ("SET x 1\r\nGET text\r\nXREAD BLOCK 0 STREAMS s $\r\nPING\r\n", format!("+OK\r\n{text}")),
            ("SET x 1\r\nWAIT 1 0\r\nPING\r\n", "+OK\r\n".into()),
        ] {
            if sent.starts_with("GET large") && !is_flux {
                // Redis cuts what the socket does not hold.
                continue;
            }
            other.call(&["MSET", "text", &value, "large", &large]).unwrap();
            if is_flux {
                other.call(&["DEBUG", "SPILL"]).unwrap();
            }
            let found =
                server.connect().last_words(sent.as_bytes()).unwrap_or_else(|error| panic!("{sent:?}, flux: {is_flux}: {error}"));
            let end = String::from_utf8_lossy(&found[found.len().saturating_sub(100)..]).into_owned();
            assert!(found == answered.as_bytes(), "{sent:?}, flux: {is_flux}: {} bytes, at the end {end:?}", found.len());
        }
        other.call(&["RPUSH", "list", "element"]).unwrap();
        assert_eq!(other.call(&["LLEN", "list"]).unwrap(), Reply::Line(":1".into()), "it went to a client that is gone");
    }
}

/// What a pause holds back is not run for a client that sends no more, as in Redis.
#[test]
fn who_sends_no_more_during_a_pause_is_answered_up_to_what_it_holds_back() {
    for server in [Some(Process::flux(&[])), Process::redis(&[])].into_iter().flatten() {
        let mut other = server.connect();
        other.call(&["CLIENT", "PAUSE", "1000000", "WRITE"]).unwrap();
        let found = server.connect().last_words(b"GET x\r\nSET x 1\r\nPING\r\n").unwrap();
        assert_eq!(String::from_utf8_lossy(&found), "$-1\r\n");
        other.call(&["CLIENT", "UNPAUSE"]).unwrap();
        assert_eq!(other.call(&["EXISTS", "x"]).unwrap(), Reply::Line(":0".into()));
    }
}

/// However long a pause was meant to last, who finds it too long can end it.
#[test]
fn a_pause_of_everything_can_be_ended() {
    let server = Process::flux_in_memory(&[]);
    let mut client = server.connect();
    let half_of_all_time = (i64::MAX / 2).to_string();
    assert_eq!(client.call(&["CLIENT", "PAUSE", &half_of_all_time]).unwrap(), Reply::Line("+OK".into()));
    assert_eq!(client.call(&["CLIENT", "UNPAUSE"]).unwrap(), Reply::Line("+OK".into()));
    assert_eq!(client.call(&["PING"]).unwrap(), Reply::Line("+PONG".into()));
}

/// The same where what was answered before has to wait for the disk.
#[test]
fn who_sends_no_more_is_answered_what_waits_for_the_disk() {
    run(async {
        let (house, out) = (House::new(Some(Stage::Durable)), Arc::default());
        let mut client = house.connect(None, &out);
        client.write_all(b"SET x 1\r\nBLPOP list 0\r\nPING\r\n").await.unwrap();
        rest().await;
        drop(client);
        rest().await;
        assert_eq!(text(&out), "");
        house.sync(u64::MAX);
        until("the client to be gone", || house.instance.clients.count() == 0).await;
        assert_eq!(text(&out), "+OK\r\n");
    });
}

/// `/metrics` tells how many replies wait for the disk, and since when the first of them does.
#[test]
fn replies_that_wait_for_the_disk_are_counted_and_their_time_is_known() {
    run(async {
        let (house, outs) = (House::new(Some(Stage::Durable)), [(); 2].map(|()| Arc::default()));
        let stats = &house.instance.stats;
        stats.watch(&house.gate);
        assert_eq!(stats.replies_waiting(), (0, None));
        let before = clock::monotonic_ms();
        let mut clients = [0, 1].map(|number: usize| house.connect(None, &outs[number]));
        for client in &mut clients {
            client.write_all(b"SET x 1\r\n").await.unwrap();
        }
        until("both to wait", || stats.replies_waiting().0 == 2).await;
        let since = stats.replies_waiting().1.unwrap();
        assert!((before..=clock::monotonic_ms()).contains(&since), "{since}");
        house.sync(u64::MAX);
        until("the answers", || outs.iter().all(|out| text(out) == "+OK\r\n")).await;
        assert_eq!(stats.replies_waiting(), (0, None));
    });
}

/// Whoever comes upon a key whose time is over tells of it, also `WATCH`, which looks at keys before it watches them.
#[test]
fn a_key_that_watch_finds_over_is_told_to_those_who_listen_watch_and_wait() {
    let server = Process::flux(&["--enable-debug-command", "yes", "--notify-keyspace-events", "Ex"]);
    let mut other = server.connect();
    let mut call = |words: &str| other.call(&words.split(' ').collect::<Vec<_>>()).unwrap();
    call("DEBUG SET-ACTIVE-EXPIRE 0");
    call("XGROUP CREATE stream group $ MKSTREAM");
    let (mut listener, mut watcher, mut waiter) = (server.connect(), server.connect(), server.connect());
    listener.call(&["SUBSCRIBE", "__keyevent@0__:expired"]).unwrap();
    watcher.call(&["WATCH", "stream"]).unwrap();
    waiter.send(&["XREADGROUP", "GROUP", "group", "me", "BLOCK", "0", "STREAMS", "stream", ">"]).unwrap();
    while !matches!(call("CLIENT LIST"), Reply::Bulk(_, list) if String::from_utf8_lossy(&list).contains("cmd=xreadgroup")) {
        thread::yield_now();
    }
    call("PEXPIRE stream 1");
    // Time passes, and nobody looks at the key.
    call("BLPOP never 0.01");
    call("WATCH stream");
    let Reply::Many(_, message) = listener.read().unwrap() else { panic!("a message") };
    assert_eq!(message[2], Reply::Bulk('$', b"stream".to_vec()));
    assert!(
        matches!(waiter.read().unwrap(), Reply::Line(line) if line.starts_with("-NOGROUP") || line.starts_with("-UNBLOCKED"))
    );
    watcher.call(&["MULTI"]).unwrap();
    assert_eq!(watcher.call(&["EXEC"]).unwrap(), Reply::Line("*-1".into()));
}

#[test]
fn a_client_within_the_process_that_waits_is_told_when_the_server_ends() {
    run(async {
        let house = House::new(None);
        let waiting = house.call(&["BLPOP", "list", "0"]);
        until("the client to wait", || house.instance.blocked_clients() == 1).await;
        house.instance.end();
        let told = String::from_utf8(waiting.join().unwrap()).unwrap();
        assert!(told.starts_with("-UNBLOCKED"), "{told}");
    });
}

/// The work goes on, and what it comes to is told to nobody.
#[test]
fn a_client_that_waits_for_long_work_can_be_unblocked() {
    for (unblock, told) in [
        (&["CLIENT", "UNBLOCK", "1", "TIMEOUT"], "-UNBLOCKED the wait was ended; the work goes on"),
        (&["CLIENT", "UNBLOCK", "1", "ERROR"], "-UNBLOCKED client unblocked"),
    ] {
        run(async {
            let (house, out) = (House::new(None), Arc::default());
            let mut client = house.connect(None, &out);
            let (begun, has_begun) = channel();
            let (may_go_on, go_on) = channel::<()>();
            let engine = Arc::clone(&house.instance.engine);
            // The work comes to no end while someone holds a shard.
            let holder = thread::spawn(move || {
                engine.each_shard(|number, _| {
                    if number == 0 {
                        begun.send(()).unwrap();
                        go_on.recv().unwrap();
                    }
                });
            });
            has_begun.recv().unwrap();
            client.write_all(b"DEBUG RELOAD\r\nPING\r\n").await.unwrap();
            rest().await;
            assert_eq!(text(&out), "");
            house.call(unblock).join().unwrap();
            until("the answer to PING", || text(&out).ends_with("+PONG\r\n")).await;
            let answered = text(&out);
            assert!(answered.starts_with(told), "{unblock:?}: {answered}");
            may_go_on.send(()).unwrap();
            holder.join().unwrap();
            rest().await;
            assert_eq!(text(&out), answered);
        });
    }
}

/// Short commands that make long changes would otherwise outrun the journal's bound.
#[test]
fn a_writer_answers_for_what_goes_to_the_journal_and_not_for_what_it_sent() {
    let house = House::new(None);
    let value = "v".repeat(10_000);
    let mut store = Blocking::new(&house.instance);
    let mut call = |words: &[&str]| {
        store.call(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        house.disk.charged.lock().unwrap().drain(..).sum::<usize>()
    };
    let set = call(&["SET", "a", &value]);
    let copied = call(&["COPY", "a", "b"]);
    assert!((10_000..10_100).contains(&set) && (10_000..10_100).contains(&copied), "{set} and {copied} bytes");
    assert!(call(&["BITOP", "NOT", "c", "a"]) >= 10_000);
    call(&["MULTI"]);
    call(&["COPY", "a", "d"]);
    call(&["COPY", "a", "e"]);
    assert!(call(&["EXEC"]) >= 20_000);
    assert_eq!([call(&["GET", "a"]), call(&["DEL", "none"]), call(&["SETNX", "a", &value])], [0, 0, 0]);
}

/// Nothing else would hold back who writes and never listens.
#[test]
fn a_writer_that_wants_no_replies_is_held_back_as_others_are() {
    run(async {
        let (house, out) = (House::new(Some(Stage::Written)), Arc::default());
        let mut client = house.connect(None, &out);
        client.write_all(b"CLIENT REPLY OFF\r\nSET x 1\r\n").await.unwrap();
        until("the change", || house.instance.changes() == 1).await;
        rest().await;
        client.write_all(b"SET y 1\r\n").await.unwrap();
        rest().await;
        assert_eq!(house.instance.changes(), 1);
        house.write(u64::MAX);
        until("the next change", || house.instance.changes() == 2).await;
        assert_eq!(text(&out), "");
    });
}
