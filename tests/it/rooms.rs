//! A room that is not in the house: all that a room brings it registers once, and nothing below knows it by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use flux::clock;
use flux::commands::instance::Instance;
use flux::commands::room::{Metric, Open, Room, not_here};
use flux::commands::table::Group::Flux as GROUP;
use flux::commands::{Command, Table};
use flux::config::Config;
use flux::engine::Engine;
use flux::engine::keys::Read;
use flux::engine::notify::{Event, Observer};
use flux::engine::persist::{Options, Persistence};
use flux::http::metrics;
use flux::lifecycle::{Backoff, Lifecycle, Phase, Plan, Row, State};
use flux::metrics::Kind;
use flux::store::Store;
use tempfile::TempDir;

use crate::panics::{WITHIN, run_within};

/// Counts what happens to keys under `guests:`, and who signed its book.
const HOTEL: Room = Room {
    name: "hotel",
    commands: &[
        Command::session(GROUP, "hotel.sign", |session, args, reply| {
            session.slot::<Guest>().name = String::from_utf8_lossy(args.at(1)).into_owned();
            reply.ok();
            Ok(())
        })
        .args(1),
        Command::session(GROUP, "hotel.who", |session, _, reply| {
            reply.bulk(session.slot::<Guest>().name.as_bytes());
            Ok(())
        })
        .args(0),
        Command::session(GROUP, "hotel.told", |session, _, reply| {
            let instance = Arc::clone(&session.instance);
            let hotel = instance.room::<Hotel>().ok_or_else(|| not_here("hotels"))?;
            let told = hotel.told.lock();
            reply.array(told.len());
            told.iter().for_each(|word| reply.bulk(word.as_bytes()));
            Ok(())
        })
        .args(0),
    ],
    observes: &[b"guests:", b"keys:"],
    metrics: &[Metric {
        name: "hotel_told",
        kind: Kind::Counter,
        help: "What it was told.",
        read: |instance| instance.room::<Hotel>().map_or(0.0, |hotel| hotel.told.lock().len() as f64),
    }],
    make: |_| Arc::new(Hotel::default()),
};

/// Has nothing but a name and a command.
const SHED: Room = Room {
    name: "shed",
    commands: &[Command::session(GROUP, "shed.open", |session, _, reply| {
        let is_open = session.instance.room::<Shed>().is_some();
        reply.int(i64::from(is_open));
        Ok(())
    })
    .args(0)],
    observes: &[],
    metrics: &[],
    make: |_| Arc::new(Shed),
};

const ROOMS: &[Room] = &[SHED, HOTEL];

/// What a session is to the hotel.
#[derive(Default)]
struct Guest {
    name: String,
}

#[derive(Default)]
struct Hotel {
    told: Mutex<Vec<String>>,
    left: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Observer for Hotel {
    fn changed(&self, event: &Event) {
        self.told.lock().push(format!("{} {}", event.name, String::from_utf8_lossy(&event.key)));
    }

    fn published(&self, channel: &[u8], _: &[u8]) {
        self.told.lock().push(format!("published {}", String::from_utf8_lossy(channel)));
    }

    fn flushing(&self, keys: &mut Read<'_>) {
        self.told.lock().push(format!("flushing {}", keys.db()));
    }

    fn swapped(&self) {
        self.told.lock().push("swapped".into());
    }
}

impl Open for Hotel {
    fn start(&self) {
        self.told.lock().push("started".into());
    }

    fn left(&self, session: &mut flux::commands::session::Session) {
        if !session.slot::<Guest>().name.is_empty() {
            self.left.fetch_add(1, SeqCst);
        }
    }

    fn end(&self) {
        self.ended.fetch_add(1, SeqCst);
    }
}

struct Shed;

impl Observer for Shed {}

impl Open for Shed {}

fn instance() -> Arc<Instance> {
    Instance::with(ROOMS, Arc::new(Engine::new(false)), Arc::new(Config::default()), clock::now_ms())
}

fn call(store: &mut Store, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&store.call(&words)).into_owned()
}

#[test]
fn a_room_answers_its_commands_and_is_told_of_its_keys_alone() {
    let instance = instance();
    let rooms = instance.open_rooms();
    let mut store = Store::new(&instance);
    for line in ["SET guests:1 a", "SET other b", "SET g c", "DEL keys:none guests:1", "PUBLISH keys:news x", "PUBLISH news x"] {
        call(&mut store, line);
    }
    call(&mut store, "SWAPDB 0 1");
    call(&mut store, "FLUSHALL");
    let told = call(&mut store, "hotel.told");
    let words: Vec<&str> = told.split("\r\n").filter(|word| !word.is_empty() && !word.starts_with(['*', '$'])).collect();
    let flushes: Vec<String> = (0..16).map(|db| format!("flushing {db}")).collect();
    let before = ["started", "set guests:1", "del guests:1", "published keys:news", "swapped"];
    assert_eq!(words, before.into_iter().chain(flushes.iter().map(String::as_str)).collect::<Vec<_>>());
    assert_eq!(call(&mut store, "shed.open"), ":1\r\n");
    drop(rooms);
}

#[test]
fn a_session_is_to_a_room_what_it_said_until_it_ends_or_begins_anew() {
    let instance = instance();
    let rooms = instance.open_rooms();
    let (left, ended) = {
        let hotel = instance.room::<Hotel>().unwrap();
        (Arc::clone(&hotel.left), Arc::clone(&hotel.ended))
    };
    let (mut one, mut other, stranger) = (Store::new(&instance), Store::new(&instance), Store::new(&instance));
    call(&mut one, "hotel.sign ann");
    call(&mut other, "hotel.sign bo");
    assert_eq!(call(&mut one, "hotel.who"), "$3\r\nann\r\n");
    call(&mut one, "RESET");
    assert_eq!((call(&mut one, "hotel.who"), left.load(SeqCst)), ("$0\r\n\r\n".into(), 1));
    drop((one, other, stranger));
    assert_eq!((left.load(SeqCst), ended.load(SeqCst)), (2, 0));
    drop(rooms);
    assert_eq!(ended.load(SeqCst), 1, "a room ends when the rooms are closed");
}

#[test]
fn a_rooms_commands_stand_in_its_instances_table_and_in_no_other() {
    let (with, without) = (instance(), Instance::new(Arc::new(Engine::new(false)), Arc::default(), clock::now_ms()));
    let _rooms = with.open_rooms();
    let mut store = Store::new(&with);
    assert_eq!(call(&mut store, "COMMAND INFO hotel.who").matches("hotel.who").count(), 1);
    assert_eq!(call(&mut store, "COMMAND COUNT"), format!(":{}\r\n", Table::keyspace().rows().count() + 4));
    assert!(call(&mut store, "INFO commandstats").contains("cmdstat_command|info"));
    assert!(call(&mut Store::new(&without), "hotel.who").starts_with("-ERR unknown command"));
    for row in Table::keyspace().rows() {
        assert_eq!(
            with.table.find(row.name.as_bytes()).map(|found| found.0),
            without.table.find(row.name.as_bytes()).map(|found| found.0)
        );
    }
}

#[test]
fn a_command_whose_room_is_not_open_says_so() {
    let instance = instance();
    let mut store = Store::new(&instance);
    assert_eq!(call(&mut store, "hotel.told"), "-ERR hotels are not served here\r\n");
    assert_eq!(call(&mut store, "shed.open"), ":0\r\n");
}

#[test]
#[should_panic(expected = "two rows are called get")]
fn a_room_cannot_take_the_name_of_a_command() {
    const THIEF: Room = Room {
        name: "thief",
        commands: &[Command::session(GROUP, "get", |_, _, _| Ok(()))],
        observes: &[],
        metrics: &[],
        make: |_| Arc::new(Shed),
    };
    Instance::with(&[THIEF], Arc::new(Engine::new(false)), Arc::default(), clock::now_ms());
}

#[test]
fn a_rooms_numbers_are_told_with_all_others() {
    let instance = instance();
    let told =
        || metrics::text(&instance, clock::now_ms()).lines().find(|line| line.starts_with("hotel_told")).map(str::to_owned);
    assert_eq!(told().as_deref(), Some("hotel_told 0"), "it is not open yet");
    let _rooms = instance.open_rooms();
    call(&mut Store::new(&instance), "SET guests:1 a");
    assert_eq!(told().as_deref(), Some("hotel_told 2"));
    assert!(metrics::text(&instance, 0).contains("# HELP hotel_told What it was told.\n# TYPE hotel_told counter\n"));
}

/// Has two cooks, who work on orders: one is replaced when he drops, of the other there is only one.
const KITCHEN: Room = Room {
    name: "kitchen",
    commands: &[],
    observes: &[],
    metrics: &[],
    make: |instance| {
        let ((order, orders), (chef_order, chef_orders), (born, births)) = (channel(), channel(), channel());
        Arc::new(Kitchen {
            lifecycle: instance.lifecycle().clone(),
            order: Mutex::new(order),
            chef_order: Mutex::new(chef_order),
            births: Mutex::new(births),
            cooks: Mutex::new(Some((orders, chef_orders, born))),
            had_cooks_at_end: Arc::default(),
        })
    },
};

struct Kitchen {
    lifecycle: Lifecycle,
    order: Mutex<Sender<&'static str>>,
    chef_order: Mutex<Sender<&'static str>>,
    births: Mutex<Receiver<()>>,
    cooks: Mutex<Option<(Receiver<&'static str>, Receiver<&'static str>, Sender<()>)>>,
    had_cooks_at_end: Arc<Mutex<Option<bool>>>,
}

impl Kitchen {
    fn row(&self, name: &str) -> Option<Row> {
        self.lifecycle.report().into_iter().find(|row| row.name == name)
    }
}

impl Observer for Kitchen {}

impl Open for Kitchen {
    fn start(&self) {
        let (orders, chef_orders, born) = self.cooks.lock().take().unwrap();
        let (leave, chef_leaves) = (self.order.lock().clone(), self.chef_order.lock().clone());
        let at_once = Backoff { first: Duration::ZERO, most: Duration::ZERO };
        let cook = move |_: &_| {
            born.send(()).unwrap();
            match orders.recv().unwrap() {
                "drop it" => panic!("dropped it"),
                _ => Ok::<(), String>(()),
            }
        };
        let plan = Plan::new("cook", Phase::Rooms).woken_by(move || {
            let _ = leave.send("leave");
        });
        self.lifecycle.keep(plan, at_once, cook).unwrap();
        let chef = move |_: &_| assert!(chef_orders.recv().unwrap() != "drop it", "dropped it");
        let plan = Plan::new("chef", Phase::Rooms).woken_by(move || chef_leaves.send("leave").unwrap());
        self.lifecycle.start(plan, chef).unwrap();
    }

    fn end(&self) {
        *self.had_cooks_at_end.lock() = Some(!self.lifecycle.report().is_empty());
    }
}

#[test]
fn a_rooms_thread_that_panics_or_returns_is_started_again_and_ends_before_its_room() {
    let instance = Instance::with(&[KITCHEN], Arc::new(Engine::new(false)), Arc::default(), clock::now_ms());
    let rooms = instance.open_rooms();
    let kitchen = instance.room::<Kitchen>().unwrap();
    kitchen.births.lock().recv().unwrap();
    for (number, (order, told)) in
        [("drop it", "panicked: dropped it"), ("go home", "ended without having been asked to")].into_iter().enumerate()
    {
        kitchen.order.lock().send(order).unwrap();
        kitchen.births.lock().recv().unwrap();
        let row = kitchen.row("cook").unwrap();
        assert_eq!((row.state, row.restarts, row.last_error.as_deref()), (State::Running, number as u64 + 1, Some(told)));
    }
    let info = call(&mut Store::new(&instance), "INFO lifecycle");
    let line =
        "thread_cook:state=running,phase=rooms,on_death=restart,restarts=2,last_error=ended without having been asked to\r\n";
    assert!(
        info.contains(line) && info.contains("thread_chef:state=running,phase=rooms,on_death=end_process,restarts=0\r\n"),
        "{info}"
    );
    let had_cooks_at_end = Arc::clone(&kitchen.had_cooks_at_end);
    drop(rooms);
    assert_eq!(*had_cooks_at_end.lock(), Some(false));
}

#[test]
fn a_rooms_thread_that_must_not_die_ends_the_process() {
    const TEST: &str = "rooms::a_rooms_thread_that_must_not_die_ends_the_process";
    if let Some(folder) = std::env::var_os(WITHIN) {
        let folder = std::path::Path::new(&folder);
        let (engine, persistence) = Persistence::open(&folder.join("data"), Options::default()).unwrap();
        let instance = Instance::with(&[KITCHEN], engine, Arc::default(), clock::now_ms());
        let _rooms = instance.open_rooms();
        let order = if folder.join("panics").exists() { "drop it" } else { "go home" };
        instance.room::<Kitchen>().unwrap().chef_order.lock().send(order).unwrap();
        while instance.room::<Kitchen>().unwrap().row("chef").is_some_and(|row| row.state == State::Running) {
            std::thread::yield_now();
        }
        // It is not reached: the process has ended.
        persistence.close(false).unwrap();
        std::process::exit(0);
    }
    for (how, told) in [("returns", "flux: `chef` ended without having been asked to"), ("panics", "dropped it")] {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(how), "").unwrap();
        let child = run_within(TEST, dir.path());
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success() && said.contains(told) && said.contains("flux: ended at once"), "{said}");
    }
}
