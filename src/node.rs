//! Opens and closes the house: the keyspace from its folder, the doors, and the chores that run while they are open.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::chores;
use crate::clock;
use crate::commands::instance::{Instance, Listeners};
use crate::commands::room::{OpenRooms, Room};
use crate::commands::sockets;
use crate::commands::table::Table;
use crate::config::{self, Config, Name, Settings, Source};
use crate::engine::Engine;
use crate::engine::durability::{Durability, LinePlace, LineShare, Stage};
use crate::engine::evict::Policy;
use crate::engine::notify;
use crate::engine::persist::{self, Fsync, Held, Loaded, Persistence};
use crate::http;
use crate::jobs;
use crate::lifecycle::{Deadline, Phase, Plan, Stop};
use crate::memory;
use crate::peers;
use crate::server;
use crate::storage::folder::{folder_of, make_private};
use crate::storage::opening::OnDamage;

/// Why a node could not start or end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See there.
    #[error(transparent)]
    Persist(#[from] persist::Error),
    /// See there.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// Nobody but this machine may reach a server without a password.
    #[error(
        "listen on {0}: protected mode refuses it while there is no password, since anyone who reaches this address could read \
         and change everything; set --requirepass, or listen on 127.0.0.1, or say --protected-mode no if the network is safe"
    )]
    Protected(SocketAddr),
    /// See there.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The system allows too few open files.
    #[error("serve clients: the system allows too few open files; at least {0} are needed (ulimit -n)")]
    Files(u64),
    /// A thread could not be started.
    #[error("start a thread: {0}")]
    Thread(io::Error),
}

/// How long those that were cut at the deadline have to end. What takes longer is a command that runs on, or a disk that hangs.
const CUT_PATIENCE: Duration = Duration::from_secs(10);

/// The rooms there are, in the order in which they open.
pub const ROOMS: &[Room] = &[peers::ROOM, jobs::ROOM];

/// All commands there are.
pub fn table() -> Table {
    Table::with(ROOMS.iter().map(|room| room.commands))
}

/// All settings there are.
pub fn settings() -> Settings {
    Settings::with(ROOMS.iter().flat_map(|room| room.settings))
}

/// All settings, each with its default.
pub fn defaults() -> Arc<Config> {
    Arc::new(Config::of(settings()))
}

/// A running node.
pub(crate) struct Node {
    /// What its clients share.
    pub instance: Arc<Instance>,
    /// Where it keeps its keys; None in memory only.
    pub persistence: Option<Persistence>,
    door: Option<server::Handle>,
    http: Option<http::Handle>,
    rooms: OpenRooms,
}

/// The addresses of the doors, which are taken before anything is made or loaded: a start that they refuse leaves nothing behind.
pub(crate) struct Taken {
    door: server::Taken,
    http: Option<http::Taken>,
}

/// A node whose doors are open while its keyspace is loaded: its clients are told so.
pub(crate) struct Opening {
    /// What its clients share.
    pub instance: Arc<Instance>,
    door: server::Handle,
    http: Option<http::Handle>,
    inside: mpsc::Receiver<Result<Inside, Error>>,
    is_done: oneshot::Receiver<()>,
}

/// What is there once the keyspace is.
struct Inside {
    persistence: Option<Persistence>,
    rooms: OpenRooms,
}

impl Taken {
    /// Takes the addresses that settings name.
    pub(crate) fn take(config: &Config) -> Result<Taken, Error> {
        let addresses = addresses(config, Name::Bind, Name::Port)?.unwrap_or_default();
        let mut door = server::take(&addresses, config.number(Name::TcpBacklog) as i32)?;
        let http = take_http(config)?;
        if let Some(path) = unix_socket(config) {
            let mode = config.count(Name::Unixsocketperm) as u32;
            make_folder_of_socket(config, &path).map_err(|error| server::Error::Socket(path.clone(), error))?;
            door.add_unix(&path, (mode != 0).then_some(mode))?;
        }
        Ok(Taken { door, http })
    }
}

/// Takes the addresses for HTTP beside those of the other door. Nobody asked for the port that it has where nothing is said, so where another
/// process has that one, whoever wants a Redis gets it all the same.
fn take_http(config: &Config) -> Result<Option<http::Taken>, Error> {
    let Some(wanted) = addresses(config, Name::HttpBind, Name::HttpPort)? else { return Ok(None) };
    match http::take(&wanted) {
        Err(http::Error::Address(address, error)) if error.kind() == ErrorKind::AddrInUse && !is_chosen(config) => {
            tracing::warn!(
                "{address} is taken: going on without HTTP, so who asks there does not reach this server; choose another port with \
                 --http-port, or leave HTTP out with --http-port off"
            );
            config.settle(Name::HttpPort, "off");
            Ok(None)
        }
        taken => Ok(Some(taken?)),
    }
}

/// Whether someone said where HTTP is to be answered.
fn is_chosen(config: &Config) -> bool {
    let is_said =
        |name: &str| config.show(config.settings().find(name).expect("it is a setting of the table")).1 != Source::Default;
    is_said("http-port") || is_said("http-bind")
}

/// Makes the folder of a unix socket where it is the data folder, or within it, which a first start makes.
fn make_folder_of_socket(config: &Config, path: &Path) -> io::Result<()> {
    let (folder, data) = (std::path::absolute(folder_of(path))?, config.text(Name::Data));
    let is_within = &*data != "off" && !folder.exists() && folder.starts_with(std::path::absolute(&*data)?);
    if is_within { make_private(&folder) } else { Ok(()) }
}

impl Opening {
    /// Opens the doors, and has the folder (nothing without one) loaded by a thread of its own.
    pub(crate) fn begin(config: Arc<Config>, taken: Taken, held: Option<Held>, on_damage: OnDamage) -> Result<Opening, Error> {
        let engine = Arc::new(Engine::new(held.is_some()));
        let instance = share(engine, &config);
        let door_options = door_options(&config);
        fit_clients(&instance, door_options.workers)?;
        instance.engine.set_filled(true);
        instance.loading.begin();
        let door = server::start(&instance, taken.door, &door_options)?;
        let _ = instance.listeners.set(Listeners { addresses: door.addresses.clone(), unix_socket: unix_socket(&config) });
        if let Some(address) = door.addresses.first() {
            config.settle(Name::Port, &address.port().to_string());
        }
        let http = taken.http.map(|taken| http::start(&instance, taken)).transpose()?;
        if let Some(address) = http.as_ref().and_then(|http| http.addresses.first()) {
            config.settle(Name::HttpPort, &address.port().to_string());
        }
        let (done, is_done) = oneshot::channel();
        let options = persist::Options { on_damage, ..options(&instance) };
        let (found, inside) = mpsc::channel();
        let loads = Arc::clone(&instance);
        let load = move |_: &Stop| {
            // Nobody may wait for it.
            let _ = found.send(Inside::open(&loads, held, options));
            let _ = done.send(());
        };
        instance.lifecycle().work(Plan::new("load", Phase::Tend), load).map_err(Error::Thread)?;
        Ok(Opening { instance, door, http, inside, is_done })
    }

    /// Waits until the keyspace is loaded, or cannot be.
    pub(crate) async fn done(&mut self) {
        let _ = (&mut self.is_done).await;
    }

    /// The node, once its keyspace is loaded, for which this waits. Where it cannot be, clients are sent away.
    pub(crate) fn finish(self) -> Result<Node, Error> {
        let Opening { instance, door, http, inside, .. } = self;
        match inside.recv().expect("who loads says what it found, unless it panicked, and then has said so") {
            Ok(Inside { persistence, rooms }) => Ok(Node { instance, persistence, door: Some(door), http, rooms }),
            Err(error) => {
                instance.end();
                let cuts = Arc::clone(&instance);
                let deadline = Deadline::new(Duration::ZERO, CUT_PATIENCE, move || cuts.cut());
                for phase in [Phase::Accept, Phase::Finish, Phase::Last] {
                    instance.lifecycle().stop_by(phase, &deadline);
                }
                drop(door);
                Err(error)
            }
        }
    }
}

impl Inside {
    fn open(instance: &Arc<Instance>, held: Option<Held>, options: persist::Options) -> Result<Inside, Error> {
        let persistence = held.map(|held| Persistence::load(held, &instance.engine, options)).transpose()?;
        instance.engine.set_filled(false);
        if let Some(persistence) = &persistence {
            instance.set_durability(Arc::new(persistence.clone()));
            instance.set_persistence(persistence.clone());
            follow_persistence(&instance.config, persistence);
        }
        let rooms = instance.open_rooms();
        if let Err(error) = start_chores(instance) {
            drop(rooms);
            // Nothing of it goes on behind the back of whoever is told the error, and the folder can be opened again.
            return match persistence.map_or(Ok(()), |persistence| persistence.close(false)) {
                Ok(()) => Err(error),
                Err(unwritten) => Err(unwritten.into()),
            };
        }
        instance.end_loading();
        Ok(Inside { persistence, rooms })
    }
}

impl Node {
    /// The same without a door, for a program that has flux within it.
    pub(crate) fn embedded(config: Arc<Config>, data: &Path) -> Result<Node, Error> {
        let instance = share(Arc::new(Engine::new(true)), &config);
        let options = options(&instance);
        let Inside { persistence, rooms } = Inside::open(&instance, Some(Held::at(data)?), options)?;
        Ok(Node { instance, persistence, door: None, http: None, rooms })
    }

    /// Where clients reach it.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.door.as_ref().map_or(&[], |door| &door.addresses)
    }

    /// Where it answers HTTP.
    pub(crate) fn http_addresses(&self) -> &[SocketAddr] {
        self.http.as_ref().map_or(&[], |http| &http.addresses)
    }

    /// What was found in the folder.
    pub(crate) fn loaded(&self) -> Loaded {
        self.persistence.as_ref().map(Persistence::loaded).unwrap_or_default()
    }

    /// Ends it: no new connections, the commands under way to their end, everything on disk. This is the order of stopping
    /// (`lifecycle::Phase`), with what each phase leaves to be closed.
    pub(crate) fn stop(self) -> Result<(), Error> {
        let instance = self.instance;
        let lifecycle = instance.lifecycle();
        instance.end();
        let skips_last_checkpoint = instance.skips_last_checkpoint.load(Relaxed);
        let grace = Duration::from_secs(instance.config.count(Name::ShutdownTimeout));
        let cuts = Arc::clone(&instance);
        let deadline = Deadline::new(grace, CUT_PATIENCE, move || cuts.cut());
        lifecycle.stop_by(Phase::Accept, &deadline);
        lifecycle.stop_by(Phase::Finish, &deadline);
        if let Some(http) = &self.http {
            http.drain(&deadline);
        }
        drop(self.door);
        drop(self.rooms);
        lifecycle.stop(Phase::Tend);
        let closed = self.persistence.map_or(Ok(()), |persistence| persistence.close(!skips_last_checkpoint));
        lifecycle.stop_by(Phase::Last, &deadline);
        Ok(closed?)
    }
}

/// What clients share around a keyspace: it has all rooms, which are to be opened, and follows its settings.
pub fn share(engine: Arc<Engine>, config: &Arc<Config>) -> Arc<Instance> {
    let instance = Instance::with(ROOMS, engine, Arc::clone(config), clock::now_ms());
    follow(config, &instance);
    instance
}

/// Carries settings to where they act, now and whenever they change.
fn follow(config: &Arc<Config>, instance: &Arc<Instance>) {
    let engine = Arc::clone(&instance.engine);
    config.watch(&[Name::NotifyKeyspaceEvents], move |config| {
        engine.notifications().set_flags(notify::flags(&config.text(Name::NotifyKeyspaceEvents)));
    });
    let engine = Arc::clone(&instance.engine);
    config.watch(&[Name::TrackingTableMaxKeys], move |config| {
        engine.tracking().set_keys_max(config.count(Name::TrackingTableMaxKeys));
    });
    let engine = Arc::clone(&instance.engine);
    config.watch(&[Name::Maxmemory, Name::MaxmemoryPolicy, Name::MaxmemorySamples], move |config| {
        let policy = Policy::named(&config.text(Name::MaxmemoryPolicy)).expect("the table names the policies");
        engine.eviction().set(config.count(Name::Maxmemory), policy, config.count(Name::MaxmemorySamples) as u32);
    });
    config.watch(&[Name::Maxmemory, Name::MemoryLimit], |config| {
        memory::hand_back_at_once(config.count(Name::Maxmemory) != 0 || config.count(Name::MemoryLimit) != 0);
    });
    let engine = Arc::clone(&instance.engine);
    config.watch(&[Name::LfuLogFactor, Name::LfuDecayTime], move |config| {
        engine.eviction().set_lfu(config.count(Name::LfuLogFactor) as u32, config.count(Name::LfuDecayTime) as u32);
    });
    let told = Arc::downgrade(instance);
    config.watch(&[Name::SlowlogLogSlowerThan, Name::LatencyTracking], move |config| {
        let Some(told) = told.upgrade() else { return };
        let is_fast_noted = (0..1000).contains(&config.number(Name::SlowlogLogSlowerThan));
        told.notes_fast_commands.store(is_fast_noted, Relaxed);
        told.stats.is_tracking.store(config.is_on(Name::LatencyTracking), Relaxed);
    });
    let progress = Arc::clone(&instance.loading);
    config.watch(&[Name::KeyLoadDelay], move |config| progress.set_key_delay(config.number(Name::KeyLoadDelay)));
}

/// The same for those that act where the keyspace lasts.
fn follow_persistence(config: &Arc<Config>, persistence: &Persistence) {
    let persistence = persistence.clone();
    config.watch(&[Name::Appendfsync, Name::CheckpointBytes, Name::MemoryLimit], move |config| {
        persistence.set_fsync(fsync(config));
        persistence.set_checkpoint_bytes(config.count(Name::CheckpointBytes));
        persistence.set_memory_limit(config.count(Name::MemoryLimit));
    });
}

/// Has the system allow as many connections as `maxclients`, or lowers that to what it allows.
fn fit_clients(instance: &Instance, workers: usize) -> Result<(), Error> {
    instance.workers.store(workers, Relaxed);
    let wanted = instance.config.count(Name::Maxclients);
    let room = sockets::make_room(wanted, workers);
    if room == 0 {
        return Err(Error::Files(sockets::kept(workers) + 1));
    }
    if room < wanted {
        tracing::warn!(
            "the system allows {} open files: maxclients is {room} now instead of {wanted}; for more raise the limit (ulimit -n {})",
            room + sockets::kept(workers),
            wanted + sockets::kept(workers)
        );
        instance.config.settle(Name::Maxclients, &room.to_string());
    }
    Ok(())
}

fn start_chores(instance: &Arc<Instance>) -> Result<(), Error> {
    let tended = Arc::clone(instance);
    let lifecycle = instance.lifecycle();
    lifecycle.start(Plan::new("chores", Phase::Tend), move |stop| chores::run(&tended, stop)).map_err(Error::Thread)
}

/// The addresses a setting names, without those that are optional and cannot be had.
fn usable(setting: &str, port: u16) -> Vec<SocketAddr> {
    // One port for all addresses cannot be chosen by the system, so only those that must be there count then.
    let is_usable =
        |address: &config::Address| !address.is_optional || (port != 0 && can_be_had(SocketAddr::new(address.ip, port)));
    let addresses = config::addresses(setting).unwrap_or_default();
    addresses.into_iter().filter(is_usable).map(|address| SocketAddr::new(address.ip, port)).collect()
}

/// Whether this process can listen there. Where another one does, clients that use that address reach the other one: that is told.
fn can_be_had(address: SocketAddr) -> bool {
    match std::net::TcpListener::bind(address) {
        Ok(_) => true,
        Err(error) => {
            if error.kind() == ErrorKind::AddrInUse {
                tracing::warn!(
                    "another process listens on {address}: going on without it, so who asks there does not reach this server"
                );
            }
            false
        }
    }
}

/// The addresses that a door is to listen on; None where there is to be none.
fn addresses(config: &Config, bind: Name, port: Name) -> Result<Option<Vec<SocketAddr>>, Error> {
    let Ok(port) = u16::try_from(config.number(port)) else { return Ok(None) };
    private(config, usable(&config.text(bind), port)).map(Some)
}

/// Addresses, refused where protected mode must: only this machine may reach a server without a password.
fn private(config: &Config, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Error> {
    let is_open = config.text(Name::Requirepass).is_empty() && config.is_on(Name::ProtectedMode);
    match addresses.iter().find(|address| is_open && !address.ip().is_loopback()) {
        Some(address) => Err(Error::Protected(*address)),
        None => Ok(addresses),
    }
}

/// The path of the unix socket, where there is to be one.
fn unix_socket(config: &Config) -> Option<PathBuf> {
    Some(config.text(Name::Unixsocket)).filter(|path| !path.is_empty()).map(|path| PathBuf::from(&*path))
}

fn door_options(config: &Config) -> server::Options {
    let threads = config.count(Name::Threads) as usize;
    server::Options { workers: if threads == 0 { usual_workers() } else { threads } }
}

/// One less than there are cores. The last one is for the journal, the tables, HTTP, and the clients that live on the same machine:
/// where workers have to take turns with them, some clients wait for milliseconds.
fn usual_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))
}

fn options(instance: &Instance) -> persist::Options {
    let config = &instance.config;
    persist::Options {
        fsync: fsync(config),
        checkpoint_bytes: config.count(Name::CheckpointBytes),
        memory_limit: config.count(Name::MemoryLimit),
        checkpoint_interval: Duration::from_secs(config.count(Name::CheckpointInterval)),
        resident: ROOMS.iter().map(|room| room.observes).collect(),
        progress: Arc::clone(&instance.loading),
        ..persist::Options::default()
    }
}

/// `appendfsync` as persistence has it.
pub(crate) fn fsync(config: &Config) -> Fsync {
    match &*config.text(Name::Appendfsync) {
        "always" => Fsync::Always,
        "no" => Fsync::No,
        _ => Fsync::Everysec,
    }
}

impl Durability for Persistence {
    fn poke(&self) {
        self.poke();
    }

    fn hurry(&self, stage: Stage) {
        match (self.fsync(), stage) {
            (Fsync::Always, _) => self.poke(),
            (Fsync::Everysec | Fsync::No, Stage::Written) => self.write_soon(),
            (Fsync::Everysec | Fsync::No, Stage::Durable) => self.hurry(),
        }
    }

    fn awaited(&self) -> Option<Stage> {
        if self.fsync() == Fsync::Always {
            return Some(Stage::Durable);
        }
        // Writers are no faster than the journal, or their effects would pile up in memory.
        (self.is_behind() || self.is_crowded()).then_some(Stage::Written)
    }

    fn is_crowded(&self) -> bool {
        self.is_crowded() || self.is_pressed()
    }

    fn line_up(&self, bytes: usize, written: &mut LineShare) -> Option<LinePlace> {
        self.line_up(bytes, written)
    }

    fn pause(&self, place: LinePlace) -> Option<Duration> {
        self.pause(place)
    }

    fn crowded(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        self.wait_for_room()
    }

    fn reached(&self, stage: Stage) -> tokio::sync::watch::Receiver<u64> {
        self.reached(stage)
    }

    fn refusal(&self) -> Option<String> {
        self.gives_up()
    }

    fn write_error(&self) -> Option<String> {
        if self.is_writable() { None } else { Some(self.last_error().unwrap_or_default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_that_fails_late_lets_the_folder_go() {
        let folder = tempfile::tempdir().expect("the system has room for one");
        let instance = share(Arc::new(Engine::new(true)), &defaults());
        // No chores can be started any more.
        instance.lifecycle().stop(Phase::Tend);
        let held = Held::at(folder.path()).expect("nobody has it");
        assert!(matches!(Inside::open(&instance, Some(held), options(&instance)), Err(Error::Thread(_))));
        Held::at(folder.path()).expect("it was let go");
    }
}
