//! A peer as a test writes one: a connection with words for what peers do. `Old` speaks only plain commands, as clients of the
//! old protocol do.

use serde_json::{Value, json};

use crate::process::{Connection, Process, Reply};

/// A connection.
pub struct Client(pub Connection);

impl Client {
    /// A new one.
    pub fn new(server: &Process) -> Client {
        Client(server.connect())
    }

    /// A new one that is a peer with these capabilities, in these workspaces.
    pub fn peer(server: &Process, name: &str, capabilities: Value, workspaces: &[&str]) -> Client {
        let mut client = Client::new(server);
        let peer = json!({ "id": name, "name": name, "capabilities": capabilities, "workspaces": workspaces });
        client.ok(&["FLUX.REGISTER", &peer.to_string(), "SECRET", name, "TTL", "60000"]);
        client
    }

    /// Runs a command whose reply is no error.
    #[track_caller]
    pub fn ok(&mut self, words: &[&str]) -> Reply {
        let reply = self.0.call(words).unwrap();
        assert!(!matches!(&reply, Reply::Line(line) if line.starts_with('-')), "{words:?} => {reply:?}");
        reply
    }

    /// Runs a command whose reply is text.
    #[track_caller]
    pub fn text(&mut self, words: &[&str]) -> String {
        text(&self.ok(words))
    }

    /// Runs a command that must fail.
    #[track_caller]
    pub fn error(&mut self, words: &[&str]) -> String {
        let reply = self.0.call(words).unwrap();
        error(&reply)
    }

    /// Sends a command and does not wait.
    pub fn send(&mut self, words: &[&str]) {
        self.0.send(words).unwrap();
    }

    /// The next reply or message.
    #[track_caller]
    pub fn read(&mut self) -> Reply {
        self.0.read().unwrap()
    }

    /// Takes calls: id, capability, payload, caller, try.
    #[track_caller]
    pub fn next(&mut self, words: &[&str]) -> Vec<[String; 5]> {
        let words: Vec<&str> = ["FLUX.NEXT"].iter().chain(words).copied().collect();
        jobs(&self.ok(&words))
    }

    /// Takes one call, and answers it.
    #[track_caller]
    pub fn serve(&mut self, data: &str) -> [String; 5] {
        let job = self.next(&[]).remove(0);
        self.ok(&["FLUX.REPLY", &job[0], "OK", data]);
        job
    }

    /// Listens to channels.
    pub fn listen(&mut self, channels: &[&str]) {
        let words: Vec<&str> = ["SUBSCRIBE"].iter().chain(channels).copied().collect();
        self.send(&words);
        channels.iter().for_each(|_| drop(self.read()));
    }

    /// The next message of a channel, as JSON.
    #[track_caller]
    pub fn heard(&mut self) -> Value {
        match many(&self.read()) {
            [_, _, message] => serde_json::from_str(&text(message)).unwrap_or_else(|_| Value::String(text(message))),
            other => panic!("{other:?} is no message"),
        }
    }
}

/// A peer of the old protocol, with the two connections of its clients.
pub struct Old {
    pub id: String,
    pub capabilities: Vec<String>,
    pub workspaces: Vec<String>,
    pub commands: Client,
    pub messages: Client,
}

impl Old {
    /// Registers and listens, as a client does at its start.
    pub fn start(server: &Process, id: &str, capabilities: &[&str]) -> Old {
        let mut old = Old {
            id: id.into(),
            capabilities: capabilities.iter().map(|name| name.to_string()).collect(),
            workspaces: Vec::new(),
            commands: Client::new(server),
            messages: Client::new(server),
        };
        old.register(60);
        old.messages.listen(&[&format!("flux:notify:{id}"), &format!("flux:res:{id}")]);
        old
    }

    /// What each heartbeat does.
    pub fn register(&mut self, ttl_s: u32) {
        let capabilities: Vec<Value> = self.capabilities.iter().map(|name| json!({ "name": name })).collect();
        let peer = json!({
            "id": self.id, "name": self.id, "capabilities": capabilities, "workspaces": self.workspaces, "startedAt": 1700000000000u64,
        });
        let key = format!("flux:peer:{}", self.id);
        self.commands.ok(&["SET", &key, &peer.to_string(), "EX", &ttl_s.to_string()]);
        self.commands.ok(&["SADD", "flux:peers", &self.id]);
        for name in &self.capabilities {
            self.commands.0.call(&["SADD", &format!("flux:fn:{name}"), &self.id]).unwrap();
        }
    }

    /// Joins a workspace, and answers the ids of its live peers.
    pub fn join(&mut self, workspace: &str) -> Vec<String> {
        let id = self.id.clone();
        self.commands.ok(&["SADD", &format!("flux:ws:{workspace}:peers"), &id]);
        self.commands.ok(&["SADD", &format!("flux:peer:{id}:ws"), workspace]);
        self.messages.listen(&[&format!("flux:ws:{workspace}:events")]);
        let event = json!({ "type": "peer:joined", "workspace": workspace, "peerId": id, "peerName": id });
        self.commands.ok(&["PUBLISH", &format!("flux:ws:{workspace}:events"), &event.to_string()]);
        self.heard_kind("peer:joined");
        self.workspaces.push(workspace.into());
        self.register(60);
        let ids = texts(&self.commands.ok(&["SMEMBERS", &format!("flux:ws:{workspace}:peers")]));
        ids.into_iter().filter(|id| self.is_live(id)).collect()
    }

    fn is_live(&mut self, id: &str) -> bool {
        self.commands.ok(&["EXISTS", &format!("flux:peer:{id}")]) == Reply::Line(":1".into())
    }

    /// Gives a job to some live peer with the capability; answers the peer's id.
    pub fn call(&mut self, job: &str, capability: &str, payload: Value) -> String {
        let ids = texts(&self.commands.ok(&["SMEMBERS", &format!("flux:fn:{capability}")]));
        let to = ids.into_iter().find(|id| self.is_live(id)).expect("a live peer");
        let job_text = json!({ "id": job, "fn": capability, "payload": payload, "sourceHost": self.id }).to_string();
        self.commands.send(&["LPUSH", &format!("flux:q:{to}"), &job_text]);
        self.commands.send(&["PUBLISH", &format!("flux:notify:{to}"), job]);
        self.commands.read();
        self.commands.read();
        to
    }

    /// Waits until it is notified of a job, and takes it.
    pub fn take(&mut self) -> Value {
        let queue = format!("flux:q:{}", self.id);
        loop {
            let reply = self.commands.ok(&["RPOP", &queue]);
            if let Reply::Bulk(_, bytes) = reply {
                return serde_json::from_slice(&bytes).unwrap();
            }
            self.messages.read();
        }
    }

    /// Publishes the result of a job.
    pub fn answer(&mut self, job: &Value, data: Value) {
        let result = json!({ "jobId": job["id"], "ok": true, "data": data });
        self.commands.ok(&["PUBLISH", &format!("flux:res:{}", job["sourceHost"].as_str().unwrap()), &result.to_string()]);
    }

    /// The next message that is an event of this kind.
    pub fn heard_kind(&mut self, kind: &str) -> Value {
        loop {
            let event = self.messages.heard();
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// The next result.
    pub fn result(&mut self) -> Value {
        loop {
            let message = self.messages.heard();
            if message.get("jobId").is_some() {
                return message;
            }
        }
    }

    /// Stops as a process that crashes does.
    pub fn crash(self) {}
}

#[track_caller]
pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::Line(line) => line.trim_start_matches(['+', ':']).to_owned(),
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Many(..) => panic!("{reply:?} is no text"),
    }
}

#[track_caller]
pub fn error(reply: &Reply) -> String {
    match reply {
        Reply::Line(line) if line.starts_with('-') => line[1..].to_owned(),
        other => panic!("{other:?} is no error"),
    }
}

#[track_caller]
pub fn many(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Many(_, items) => items,
        other => panic!("{other:?} is no array"),
    }
}

pub fn texts(reply: &Reply) -> Vec<String> {
    many(reply).iter().map(text).collect()
}

/// Jobs of `FLUX.NEXT`: id, capability, payload, caller, try.
pub fn jobs(reply: &Reply) -> Vec<[String; 5]> {
    let job = |job: &Reply| {
        let words = texts(job);
        [words[0].clone(), words[1].clone(), words[2].clone(), words[3].clone(), words[5].clone()]
    };
    many(reply).iter().map(job).collect()
}
