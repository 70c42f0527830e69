//! A room that is not in the house: all that a room brings it registers once, and nothing below knows it by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use axum::response::IntoResponse;
use parking_lot::Mutex;

use flux::clock;
use flux::commands::instance::Instance;
use flux::commands::offers::calls::{self, Calls, Ongoing, Order, Part};
use flux::commands::offers::{Code, Failure, Jobs, Later, NewJob, Offers, Run};
use flux::commands::room::{Metric, Open, Room, not_here};
use flux::commands::route::{self, Answer, Ask, Gives, Param, Refusal, Route, Shape};
use flux::commands::table::Group::Flux as GROUP;
use flux::commands::{Command, Table};
use flux::config::{self, Config, Current, Kind, Section, Setting, Settings, Source, setting};
use flux::engine::Engine;
use flux::engine::notify::{Event, Look, Observer};
use flux::engine::persist::{Options, Persistence};
use flux::http::{self, metrics};
use flux::lifecycle::{Backoff, Deadline, Lifecycle, Phase, Plan, Row, State};
use flux::store::Blocking;
use tempfile::TempDir;

use crate::http::ask;
use crate::panics::{WITHIN, run_within};

/// What can be asked of the hotel over HTTP.
const ROUTES: &[Route] = &[Route::get("/hotel/{room}", |ask| Box::pin(visit(ask)))
    .help("Who signed the book, as often as wanted.")
    .params(&[
        Param::path("room", route::Kind::Name { bytes_max: 8, without: "", has_slashes: false }, "A room."),
        Param::query("times", route::Kind::Number { min: 1, max: 3 }, "How often."),
    ])
    .gives(&[Gives::body("text/plain", Shape::Text, "The names.")])
    .errors(&["NOKEY"])];

async fn visit(ask: Ask) -> Answer {
    let (room, times) = (ask.part("room"), ask.number("times").unwrap_or(1));
    let hotel = ask.instance.room::<Hotel>().ok_or_else(|| Refusal::bad_request(not_here("hotels").0))?;
    let told = hotel.told.lock().len();
    let found: Option<String> = redis::cmd("GET").arg(format!("guests:{room}")).query_async(&mut ask.line().await?).await?;
    let guest = found.ok_or_else(|| Refusal::new("NOKEY", format!("{room} is empty; {told} things were told")))?;
    Ok(guest.repeat(times).into_response())
}

const BEDS: Setting = setting::number("hotel-beds", "2", 1, 300).aliases(&["hotel-cots"]).help("Beds there are.");
const SAFE: Setting = setting::setting("hotel-safe", "", Kind::Secret).help("What opens the safe.");
const SETTINGS: &[Section] = &[Section { title: "Hotels", settings: &[BEDS, SAFE] }];

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
        Command::session(GROUP, "hotel.beds", |session, _, reply| {
            let instance = Arc::clone(&session.instance);
            reply.int(instance.room::<Hotel>().ok_or_else(|| not_here("hotels"))?.beds.number());
            Ok(())
        })
        .args(0),
    ],
    observes: &[b"guests:", b"keys:"],
    metrics: &[Metric::counter("hotel_told", "What it was told.", |instance| {
        instance.room::<Hotel>().map_or(0.0, |hotel| hotel.told.lock().len() as f64)
    })],
    routes: ROUTES,
    settings: SETTINGS,
    make: |instance| Arc::new(Hotel::of(&instance.config)),
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
    routes: &[],
    settings: &[],
    make: |_| Arc::new(Shed),
};

const ROOMS: &[Room] = &[SHED, HOTEL];

/// What a session is to the hotel.
#[derive(Default)]
struct Guest {
    name: String,
}

struct Hotel {
    beds: Current,
    told: Mutex<Vec<String>>,
    left: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Hotel {
    fn of(config: &Arc<Config>) -> Hotel {
        Hotel { beds: Current::of(config, &BEDS), told: Mutex::default(), left: Arc::default(), ended: Arc::default() }
    }
}

impl Observer for Hotel {
    fn changed(&self, event: &Event) {
        self.told.lock().push(format!("{} {}", event.name, String::from_utf8_lossy(&event.key)));
    }

    fn published(&self, channel: &[u8], _: &[u8]) {
        self.told.lock().push(format!("published {}", String::from_utf8_lossy(channel)));
    }

    fn flushing(&self, keys: &mut dyn Look) {
        self.told.lock().push(format!("flushing {}", keys.db()));
    }

    fn swapped(&self) {
        self.told.lock().push("swapped".into());
    }
}

impl Open for Hotel {
    fn offer(self: Arc<Self>, offers: &mut Offers) {
        offers.calls.set(Arc::clone(&self) as Arc<dyn Calls>);
        offers.jobs.set(self);
    }

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

/// It can be rung, and rings back so often before it answers.
impl Calls for Hotel {
    fn call(&self, order: Order) -> Later<Ongoing> {
        self.told.lock().push(format!("{} calls {}", order.caller.as_deref().unwrap_or("nobody"), order.capability));
        let left = Arc::clone(&self.left);
        Box::pin(async move {
            let times = match serde_json::from_slice(&order.payload) {
                Ok(times) if &*order.capability == "ring" => times,
                _ => return Err(Failure::new("NOPEER", "it only rings")),
            };
            let (parts, taken) = calls::parts();
            (1..=times).for_each(|number| assert!(parts.send_piece(Arc::from(&b"\"ring\""[..]), number)));
            if order.timeout_ms > 1 {
                parts.end(Ok(Arc::from(&b"\"hello\""[..])));
            }
            Ok(Ongoing::new("call-1".into(), taken, move |_| {
                left.fetch_add(1, SeqCst);
            }))
        })
    }
}

/// It takes what is to be done, and knows nothing of it afterwards.
impl Jobs for Hotel {
    fn submit(&self, job: NewJob) -> Later<Arc<str>> {
        self.told.lock().push(format!("a job for {}", job.runtime));
        Box::pin(async { Ok("job-1".into()) })
    }

    fn status(&self, id: &str) -> Later<Arc<[u8]>> {
        let none = Failure::new("NOJOB", format!("there is no job {id}"));
        Box::pin(async { Err(none) })
    }

    fn cancel(&self, _: &str) -> Later<()> {
        Box::pin(async { Ok(()) })
    }
}

/// It has others do its work, whoever they are.
struct Shed;

impl Shed {
    async fn paint(instance: &Instance) -> Result<Arc<str>, Failure> {
        let job = NewJob {
            name: "paint".into(),
            runtime: "brush".into(),
            script: Arc::from(&b"paint()"[..]),
            payload: Arc::from(&b"{}"[..]),
            dependencies: Vec::new(),
            tries: 1,
            run_at: None,
            idempotency_key: None,
            caller: Some("shed".into()),
        };
        instance.offers().jobs.get()?.submit(job).await
    }

    async fn count(instance: &Instance) -> Result<Arc<[u8]>, Failure> {
        let run = Run { code: Code::Deployed("count".into()), input: Arc::from(&b"null"[..]), timeout_ms: 1, caller: None };
        instance.offers().functions.get()?.run(run).await
    }
}

impl Observer for Shed {}

impl Open for Shed {}

fn instance() -> Arc<Instance> {
    with(Config::of(settings()))
}

fn with(config: Config) -> Arc<Instance> {
    Instance::with(ROOMS, Arc::new(Engine::new(false)), Arc::new(config), clock::now_ms())
}

fn settings() -> Settings {
    Settings::with(ROOMS.iter().flat_map(|room| room.settings))
}

fn call(store: &mut Blocking, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&store.call(&words)).into_owned()
}

#[test]
fn a_room_answers_its_commands_and_is_told_of_its_keys_alone() {
    let instance = instance();
    let rooms = instance.open_rooms();
    let mut store = Blocking::new(&instance);
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
    let (mut one, mut other, stranger) = (Blocking::new(&instance), Blocking::new(&instance), Blocking::new(&instance));
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
    let mut store = Blocking::new(&with);
    assert_eq!(call(&mut store, "COMMAND INFO hotel.who").matches("hotel.who").count(), 1);
    assert_eq!(call(&mut store, "COMMAND COUNT"), format!(":{}\r\n", Table::keyspace().rows().count() + 5));
    assert!(call(&mut store, "INFO commandstats").contains("cmdstat_command|info"));
    assert!(call(&mut Blocking::new(&without), "hotel.who").starts_with("-ERR unknown command"));
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
    let mut store = Blocking::new(&instance);
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
        routes: &[],
        settings: &[],
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
    call(&mut Blocking::new(&instance), "SET guests:1 a");
    assert_eq!(told().as_deref(), Some("hotel_told 2"));
    assert!(metrics::text(&instance, 0).contains("# HELP hotel_told What it was told.\n# TYPE hotel_told counter\n"));
}

#[test]
fn a_room_uses_what_another_one_offers_and_meets_what_nobody_does() {
    let instance = instance();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let not_here = |words: &str| Failure::new("ERR", format!("{words} are not served here"));
    assert_eq!(runtime.block_on(Shed::paint(&instance)), Err(not_here("jobs")), "no room is open yet");
    let _rooms = instance.open_rooms();
    assert_eq!(runtime.block_on(Shed::paint(&instance)).as_deref(), Ok("job-1"));
    assert_eq!(runtime.block_on(Shed::count(&instance)), Err(not_here("functions")));
    assert_eq!(instance.offers().blobs.get().err(), Some(not_here("blobs")));
    assert_eq!(instance.offers().remote_peers.get().err(), Some(not_here("peers of other nodes")));
    assert!(call(&mut Blocking::new(&instance), "hotel.told").contains("a job for brush"));
}

#[test]
fn a_call_goes_to_the_room_that_offers_calls_and_is_cancelled_when_it_is_dropped() {
    let instance = instance();
    let _rooms = instance.open_rooms();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let left = Arc::clone(&instance.room::<Hotel>().unwrap().left);
    runtime.block_on(async {
        let calls = instance.offers().calls.get().unwrap();
        let mut order = Order::new("ring", b"2");
        order.caller = Some("shed".into());
        let mut ongoing = calls.call(order.clone()).await.unwrap();
        let mut parts = Vec::new();
        while let Some(part) = ongoing.next().await {
            parts.push(match part {
                Part::Chunk(data, number) => format!("{number} {}", String::from_utf8_lossy(&data)),
                Part::End(outcome) => String::from_utf8_lossy(&outcome.unwrap()).into_owned(),
            });
        }
        drop(ongoing);
        assert_eq!((parts, left.load(SeqCst)), (vec!["1 \"ring\"".into(), "2 \"ring\"".into(), "\"hello\"".to_owned()], 0));
        drop(calls.call(order).await.unwrap());
        assert_eq!(left.load(SeqCst), 1, "it had not ended");
        let refused = calls.call(Order::new("sing", b"2")).await.err();
        assert_eq!(refused, Some(Failure::new("NOPEER", "it only rings")));
    });
    assert!(call(&mut Blocking::new(&instance), "hotel.told").contains("shed calls ring"));
}

#[test]
#[should_panic(expected = "two rooms offer calls")]
fn what_a_room_offers_no_other_one_does() {
    const TWICE: &[Room] = &[Room { name: "first", commands: &[], ..HOTEL }, Room { name: "second", commands: &[], ..HOTEL }];
    let config = Arc::new(Config::of(settings()));
    let instance = Instance::with(TWICE, Arc::new(Engine::new(false)), config, clock::now_ms());
    let _rooms = instance.open_rooms();
}

#[test]
fn a_rooms_numbers_are_a_section_of_info_where_modules_have_theirs() {
    let instance = instance();
    let _rooms = instance.open_rooms();
    let mut store = Blocking::new(&instance);
    call(&mut store, "SET guests:1 a");
    let section = "# Hotel\r\nhotel_told:2\r\n";
    for line in ["INFO hotel", "INFO server HOTEL", "INFO modules", "INFO everything"] {
        assert!(call(&mut store, line).contains(section), "{line}");
    }
    for line in ["INFO", "INFO all", "INFO default", "INFO server", "INFO shed"] {
        assert!(!call(&mut store, line).contains("hotel_told"), "{line}");
    }
    assert_eq!(call(&mut store, "INFO shed"), "$0\r\n\r\n", "it has no numbers");
}

#[test]
fn a_rooms_settings_are_read_set_shown_written_and_described_with_all_others() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("flux.toml");
    let config = Config::of(settings());
    config.choose("hotel-cots", "7", Source::Environment).unwrap();
    config.set_file(file.clone());
    let instance = with(config);
    let _rooms = instance.open_rooms();
    let mut store = Blocking::new(&instance);
    assert_eq!(call(&mut store, "hotel.beds"), ":7\r\n");
    assert_eq!(
        call(&mut store, "CONFIG GET hotel-b* hotel-cots"),
        "*4\r\n$10\r\nhotel-beds\r\n$1\r\n7\r\n$10\r\nhotel-cots\r\n$1\r\n7\r\n"
    );
    let refused = call(&mut store, "CONFIG SET maxclients 7 hotel-beds 301");
    assert!(refused.contains("(possibly related to argument 'hotel-beds') - argument must be between 1 and 300"), "{refused}");
    assert_eq!(call(&mut store, "CONFIG SET timeout 7 HOTEL-BEDS 300"), "+OK\r\n");
    assert_eq!(call(&mut store, "hotel.beds"), ":300\r\n");
    assert_eq!(call(&mut store, "CONFIG REWRITE"), "+OK\r\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "timeout = 7\nhotel-beds = 300\n");
    let page = config::markdown(&settings());
    assert!(
        page.contains("\n## Hotels\n")
            && page.contains("| `hotel-beds`, `hotel-cots` | 1 to 300 | `2` | yes | Beds there are. |\n")
    );
    let without = Instance::new(Arc::new(Engine::new(false)), Arc::default(), clock::now_ms());
    assert_eq!(call(&mut Blocking::new(&without), "CONFIG GET hotel-beds"), "*0\r\n", "it has no such room");
}

#[test]
fn nobody_sees_a_secret_of_a_room_and_everybody_what_is_none() {
    let instance = instance();
    let _rooms = instance.open_rooms();
    instance.notes_fast_commands.store(true, SeqCst);
    let mut store = Blocking::new(&instance);
    call(&mut store, "CONFIG SET slowlog-log-slower-than 0");
    call(&mut store, "CONFIG SET hotel-safe sesame hotel-beds 77");
    let told = call(&mut store, "SLOWLOG GET 1");
    assert!(told.contains("(redacted)") && !told.contains("sesame") && told.contains("\r\n77\r\n"), "{told}");
}

#[test]
#[should_panic(expected = "the config was made without `hotel-beds`, which a room has")]
fn a_room_is_not_opened_without_its_settings() {
    with(Config::default());
}

#[test]
fn a_rooms_routes_are_answered_listed_and_read_by_their_rows() {
    let instance = instance();
    let _rooms = instance.open_rooms();
    let door = http::start(&instance, http::take(&["127.0.0.1:0".parse().unwrap()]).unwrap()).unwrap();
    let get = |path: &str| {
        let answer = ask(door.addresses[0], "GET", path, &[], "");
        (answer.status, answer.body)
    };
    assert_eq!(get("/hotel/1").0, 404);
    call(&mut Blocking::new(&instance), "SET guests:1 ann");
    assert_eq!(get("/hotel/1"), (200, "ann".into()));
    assert_eq!(get("/hotel/1?times=2"), (200, "annann".into()));
    assert_eq!(ask(door.addresses[0], "GET", "/hotel/1", &[("Flux-Times", "3")], "").body, "annannann");
    let refused = |path: &str, why: &str| {
        let (status, body) = get(path);
        assert!(status == 400 && body.contains(why), "{path}: {status} {body}");
    };
    refused("/hotel/1?times=4", "`times` is a number from 1 to 3");
    refused("/hotel/1?time=1", "there is no option `time`; there are: times");
    refused("/hotel/123456789", "`room` is text of 1 to 8 bytes");
    assert_eq!(ask(door.addresses[0], "POST", "/hotel/1", &[], "").status, 405);
    assert!(get("/").1.contains("/hotel/{room}") && get("/docs").1.contains("/hotel/{room}"));
    let openapi: serde_json::Value = serde_json::from_str(&get("/openapi.json").1).unwrap();
    assert_eq!(openapi["paths"]["/hotel/{room}"]["get"]["parameters"][1]["schema"]["maximum"], 3);
    assert_eq!(get("/peers").0, 404, "it is a route of a room that this instance does not have");
    instance.end();
    door.drain(&Deadline::new(Duration::MAX, Duration::MAX, || ()));
    instance.lifecycle().stop(Phase::Last);
}

/// Has two cooks, who work on orders: one is replaced when he drops, of the other there is only one.
const KITCHEN: Room = Room {
    name: "kitchen",
    commands: &[],
    observes: &[],
    metrics: &[],
    routes: &[],
    settings: &[],
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
    let info = call(&mut Blocking::new(&instance), "INFO lifecycle");
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
