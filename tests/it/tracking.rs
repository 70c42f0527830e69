//! Client-side caching over sockets: what clients are told is what a real redis-server tells them, byte for byte and in that order; and
//! who caches by what it is told never holds an old value.

use std::collections::BTreeMap;

use crate::process::{Connection, Process, Reply};
use crate::random::Random;

/// Clients by a letter, on one server, and all that they were sent.
struct Room<'p> {
    server: &'p Process,
    clients: BTreeMap<char, (Connection, String)>,
    /// Of all that ever came.
    ids: BTreeMap<char, String>,
    fences: usize,
    queues: bool,
    log: Vec<String>,
}

impl<'p> Room<'p> {
    fn new(server: &'p Process) -> Room<'p> {
        server.connect().call(&["FLUSHALL"]).unwrap();
        Room { server, clients: BTreeMap::new(), ids: BTreeMap::new(), fences: 0, queues: false, log: Vec::new() }
    }

    /// `A: GET key` sends a command; `A: hello 3` also connects; `A: bye` leaves. `@B` is the id of another one.
    fn step(&mut self, step: &str) {
        let (name, command) = step.split_once(": ").unwrap();
        let name = name.chars().next().unwrap();
        self.log.push(format!("--- {step}"));
        if command == "bye" {
            let (mut client, _) = self.clients.remove(&name).unwrap();
            let _ = client.call(&["QUIT"]);
            let _ = client.read();
            return;
        }
        if !self.clients.contains_key(&name) {
            let mut client = self.server.connect();
            let Reply::Line(id) = client.call(&["CLIENT", "ID"]).unwrap() else { panic!("an id is a number") };
            self.ids.insert(name, id[1..].to_owned());
            self.clients.insert(name, (client, id[1..].to_owned()));
        }
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        for word in &mut words {
            if let Some(other) = word.strip_prefix('@') {
                *word = self.clients[&other.chars().next().unwrap()].1.clone();
            }
        }
        self.clients.get_mut(&name).unwrap().0.send(&words).unwrap();
        // A PING would be the next command after this one.
        self.queues = words[0] == "MULTI" || self.queues && words[0] != "EXEC";
        if words.get(1).is_some_and(|word| word == "CACHING") || self.queues {
            let reply = self.clients.get_mut(&name).unwrap().0.read().unwrap();
            self.log.push(format!("{name} {reply:?}"));
            return;
        }
        let reply = self.clients.get_mut(&name).unwrap().0.read().unwrap();
        let mut shown = format!("{reply:?}");
        for (other, id) in &self.ids {
            shown = shown.replace(&format!("\":{id}\""), &format!("\"@{other}\""));
        }
        self.log.push(format!("{name} {shown}"));
        self.fence();
        // It tells the version.
        if words[0] == "HELLO" {
            self.log.pop();
        }
    }

    /// Waits until every client was sent what it is to be sent so far.
    fn fence(&mut self) {
        self.fences += 1;
        let fence = format!("fence:{}", self.fences);
        let ids: Vec<(char, String)> = self.ids.iter().map(|(name, id)| (*name, format!("\":{id}\""))).collect();
        // Whoever acted was answered first; it is asked first, as it has something on its way that others must be told of.
        let actor = self.log.last().and_then(|line| line.chars().next()).unwrap_or('A');
        let mut names: Vec<char> = self.clients.keys().copied().collect();
        names.sort_by_key(|name| *name != actor);
        for name in names {
            let client = &mut self.clients.get_mut(&name).unwrap().0;
            client.send(&["PING", &fence]).unwrap();
            loop {
                let reply = client.read().unwrap();
                let mut shown = format!("{reply:?}");
                let is_fence = shown == format!("{:?}", Reply::Bulk('$', fence.clone().into_bytes()))
                    || shown.contains(&format!("{:?}", fence.as_bytes()));
                if is_fence {
                    break;
                }
                for (other, id) in &ids {
                    shown = shown.replace(id, &format!("\"@{other}\""));
                }
                self.log.push(format!("{name} {shown}"));
            }
        }
    }
}

#[track_caller]
fn same_as_redis(steps: &str) {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&["--enable-debug-command", "yes"]);
    let logs = [&redis, &flux].map(|server| {
        let mut room = Room::new(server);
        steps.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|step| room.step(step));
        room.log
    });
    assert_eq!(logs[0].join("\n"), logs[1].join("\n"), "left redis-server, right flux");
}

#[test]
fn who_read_a_key_is_told_once_that_it_changed_after_its_own_reply() {
    same_as_redis(
        "A: HELLO 3
        B: HELLO 3
        W: SET key 1
        A: CLIENT TRACKING ON
        B: CLIENT TRACKING ON NOLOOP
        A: GET key
        B: GET key
        W: SET key 2
        W: SET key 3
        A: GET key
        B: GET key
        A: SET key 4
        B: GET key
        B: SET key 5
        A: MGET key other none
        W: DEL none
        W: LPUSH other x
        A: LRANGE other 0 -1
        W: RPOP other
        A: EXISTS key
        W: EXPIRE key 100
        A: TTL key
        W: PEXPIRE key 0
        A: GET gone
        W: HSET gone f v
        A: HGETALL gone
        W: HSET gone f v
        W: RENAME gone came
        A: SET nokey 1
        A: CLIENT TRACKINGINFO
        A: CLIENT GETREDIR
        A: CLIENT TRACKING OFF
        W: SET came 1
        A: CLIENT TRACKINGINFO
        A: CLIENT GETREDIR",
    );
}

#[test]
fn transactions_and_scripts_tell_of_what_they_change_and_remember_what_they_read() {
    same_as_redis(
        "A: HELLO 3
        A: CLIENT TRACKING ON
        A: GET a
        A: GET b
        W: MULTI
        W: SET a 1
        W: SET b 1
        W: EXEC
        A: MULTI
        A: GET a
        A: SET a 2
        A: SET c 2
        A: EXEC
        A: EVAL return(redis.call('get','a')) 1 a
        W: SET a 3
        A: GET b
        W: EVAL return(redis.call('set','b',1)) 0
        A: GET b
        A: EVAL return(redis.call('set','b',1)) 0",
    );
}

#[test]
fn flushes_are_told_to_all_who_track() {
    same_as_redis(
        "A: HELLO 3
        B: HELLO 3
        C: SUBSCRIBE __redis__:invalidate
        D: SET x 1
        A: CLIENT TRACKING ON NOLOOP
        B: CLIENT TRACKING ON BCAST PREFIX p
        D: CLIENT TRACKING ON REDIRECT @C
        W: SET key 1
        A: GET key
        W: FLUSHDB
        W: SET key 2
        A: GET key
        A: FLUSHALL
        W: SET key 3",
    );
}

#[test]
fn prefixes_are_told_of_every_change_below_them_and_of_those_alone() {
    same_as_redis(
        "A: HELLO 3
        B: HELLO 3
        A: CLIENT TRACKING ON BCAST PREFIX user: PREFIX item:
        B: CLIENT TRACKING ON BCAST NOLOOP
        W: SET user:1 x
        W: SET other x
        W: MSET user:2 x user:1 x item:1 x zebra x
        B: SET user:9 x
        A: SET user:9 x
        W: MULTI
        W: SET user:3 x
        W: DEL user:1
        W: SET user:3 y
        W: EXEC
        A: CLIENT TRACKINGINFO
        A: CLIENT TRACKING ON BCAST PREFIX user:1
        A: CLIENT TRACKING ON BCAST PREFIX a PREFIX ab
        A: CLIENT TRACKING ON BCAST PREFIX more:
        W: SET more:1 x
        A: CLIENT TRACKINGINFO
        A: CLIENT TRACKING OFF
        W: SET user:1 x",
    );
}

#[test]
fn who_opts_in_or_out_is_told_of_what_it_chose() {
    same_as_redis(
        "A: HELLO 3
        A: CLIENT CACHING YES
        A: CLIENT TRACKING ON OPTIN
        A: CLIENT CACHING NO
        A: CLIENT CACHING MAYBE
        A: GET a
        W: SET a 1
        A: CLIENT CACHING YES
        A: GET a
        A: GET b
        W: SET a 2
        W: SET b 2
        A: CLIENT CACHING YES
        A: MULTI
        A: GET a
        A: GET b
        A: EXEC
        W: MSET a 3 b 3
        A: CLIENT TRACKING ON OPTOUT
        A: CLIENT TRACKING OFF
        A: CLIENT TRACKING ON OPTOUT
        A: CLIENT CACHING YES
        A: CLIENT CACHING NO
        A: GET a
        A: GET b
        W: SET a 4
        W: SET b 4
        A: CLIENT TRACKINGINFO",
    );
}

#[test]
fn another_client_is_told_instead_and_its_going_away_is_told() {
    same_as_redis(
        "A: HELLO 3
        B: SUBSCRIBE __redis__:invalidate
        C: HELLO 3
        D: SET k 1
        A: CLIENT TRACKING ON REDIRECT @B
        D: CLIENT TRACKING ON REDIRECT @C
        A: GET k
        D: GET k
        W: SET k 2
        A: CLIENT GETREDIR
        A: CLIENT TRACKINGINFO
        A: GET k
        B: bye
        W: SET k 3
        A: CLIENT TRACKINGINFO
        A: GET k
        W: SET k 3
        D: CLIENT TRACKING ON REDIRECT @D
        D: GET k
        W: SET k 4
        A: CLIENT TRACKING ON REDIRECT @A
        A: GET k
        W: SET k 5
        A: RESET
        A: CLIENT GETREDIR",
    );
}

#[test]
fn options_that_do_not_fit_are_refused_as_in_redis() {
    same_as_redis(
        "A: CLIENT TRACKING ON REDIRECT 123456789
        A: CLIENT TRACKING ON REDIRECT abc
        A: CLIENT TRACKING MAYBE
        A: CLIENT TRACKING ON PREFIX a
        A: CLIENT TRACKING ON BCAST OPTIN
        A: CLIENT TRACKING ON OPTIN OPTOUT
        A: CLIENT TRACKING ON NONSENSE
        A: CLIENT TRACKING ON BCAST
        A: CLIENT TRACKING ON
        A: CLIENT TRACKING OFF
        A: CLIENT TRACKING ON OPTIN
        A: CLIENT TRACKING ON OPTOUT
        A: CLIENT TRACKING ON REDIRECT @A REDIRECT @A
        A: CLIENT TRACKINGINFO",
    );
}

#[test]
fn a_key_that_is_forgotten_for_want_of_room_is_told_as_changed() {
    let flux = Process::flux(&["--tracking-table-max-keys", "10"]);
    let mut room = Room::new(&flux);
    room.step("A: HELLO 3");
    room.step("A: CLIENT TRACKING ON");
    for number in 0..100 {
        room.step(&format!("A: GET key:{number}"));
    }
    let told = |room: &Room<'_>| {
        room.log.iter().filter(|line| line.contains("[105, 110, 118, 97, 108, 105, 100, 97, 116, 101]")).count()
    };
    assert_eq!(told(&room), 90);
    room.step("W: FLUSHALL");
    assert_eq!(told(&room), 91);
}

#[test]
fn who_caches_by_what_it_is_told_never_holds_an_old_value() {
    let flux = Process::flux(&["--tracking-table-max-keys", "5"]);
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let (mut writer, mut reader) = (flux.connect(), flux.connect());
        reader.call(&["HELLO", "3"]).unwrap();
        let mode: &[&str] = if seed % 2 == 0 { &["CLIENT", "TRACKING", "ON"] } else { &["CLIENT", "TRACKING", "ON", "BCAST"] };
        reader.call(mode).unwrap();
        let mut cache: BTreeMap<Vec<u8>, Reply> = BTreeMap::new();
        for round in 0..400 {
            let key = format!("key:{}", random.below(8));
            match random.below(10) {
                0..=3 => {
                    reader.send(&["GET", &key]).unwrap();
                    let value = next(&mut reader, &mut cache);
                    cache.insert(key.into_bytes(), value);
                }
                4 => drop(writer.call(&["DEL", &key]).unwrap()),
                5 => drop(writer.call(&["PEXPIRE", &key, "0"]).unwrap()),
                6 if random.below(10) == 0 => drop(writer.call(&["FLUSHALL"]).unwrap()),
                7 => drop(writer.call(&["SWAPDB", "0", "1"]).unwrap()),
                8 => drop(writer.call(&["EVAL", "return redis.call('append', KEYS[1], 'x')", "1", &key]).unwrap()),
                _ => drop(writer.call(&["SET", &key, &format!("{seed}:{round}")]).unwrap()),
            }
            reader.send(&["PING"]).unwrap();
            next(&mut reader, &mut cache);
            for (key, value) in &cache {
                let is = writer.call(&[&b"GET"[..], key]).unwrap();
                let (is, held) = (text(&is), text(value));
                assert_eq!(is, held, "round {round} of seed {seed}: {}", String::from_utf8_lossy(key));
            }
        }
    }
}

/// What a reply holds, whatever the protocol writes for nothing.
fn text(reply: &Reply) -> Option<Vec<u8>> {
    if let Reply::Bulk(_, bytes) = reply { Some(bytes.clone()) } else { None }
}

/// The next reply; what is told before it is forgotten from the cache.
fn next(reader: &mut Connection, cache: &mut BTreeMap<Vec<u8>, Reply>) -> Reply {
    loop {
        match reader.read().unwrap() {
            Reply::Many('>', told) => match &told[1] {
                Reply::Many(_, keys) => keys.iter().filter_map(text).for_each(|key| drop(cache.remove(&key))),
                _ => cache.clear(),
            },
            reply => return reply,
        }
    }
}
