//! Keyspaces that the store's tests run on: this process, a redis-server, and a cluster of three.

use std::sync::Arc;

use flux::commands::instance::Instance;
use flux::engine::Engine;
use flux::node;
use flux::store::Store;

use crate::process::{Process, Reply, free_port, until};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A keyspace, and what is behind it.
pub enum Backend {
    Within(Arc<Instance>),
    Servers { servers: Vec<Process>, address: String },
}

impl Backend {
    pub fn within() -> Backend {
        Backend::Within(node::share(Arc::new(Engine::new(false)), &node::defaults()))
    }

    /// Over TCP.
    pub fn flux() -> Backend {
        let server = Process::flux(&[]);
        let address = format!("redis://127.0.0.1:{}", server.port());
        Backend::Servers { servers: vec![server], address }
    }

    /// None where no redis-server is installed.
    pub fn redis() -> Option<Backend> {
        let server = Process::redis(&[])?;
        let address = format!("redis://127.0.0.1:{}", server.port());
        Some(Backend::Servers { servers: vec![server], address })
    }

    /// Three masters that share the slots. None where no redis-server is installed.
    pub fn cluster() -> Option<Backend> {
        let nodes: Vec<(Process, String)> = (0..3).map(|_| node()).collect::<Option<_>>()?;
        let ports: Vec<(u16, String)> = nodes.iter().map(|(server, bus)| (server.port(), bus.clone())).collect();
        let servers: Vec<Process> = nodes.into_iter().map(|(server, _)| server).collect();
        for (number, server) in servers.iter().enumerate() {
            let (first, last) = (SLOTS * number / 3, SLOTS * (number + 1) / 3 - 1);
            let mut client = server.connect();
            let ok = Reply::Line("+OK".into());
            assert_eq!(client.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).unwrap(), ok);
            assert_eq!(client.call(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).unwrap(), ok);
            for (port, bus) in &ports {
                assert_eq!(client.call(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), bus]).unwrap(), ok);
            }
        }
        for server in &servers {
            until("the cluster is whole", || {
                let told = text(server.connect().call(&["CLUSTER", "INFO"]).unwrap());
                told.contains("cluster_state:ok") && told.contains("cluster_size:3")
            });
        }
        let nodes: Vec<String> = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        Some(Backend::Servers { servers, address: format!("redis+cluster://{}", nodes.join(",")) })
    }

    /// Removes all keys.
    pub async fn empty(&self) {
        match self {
            Backend::Within(_) => redis::cmd("FLUSHALL").exec_async(&mut self.store()).await.unwrap(),
            Backend::Servers { servers, .. } => servers.iter().for_each(|server| {
                server.connect().call(&["FLUSHALL"]).unwrap();
            }),
        }
    }

    pub fn store(&self) -> Store {
        match self {
            Backend::Within(instance) => Store::within(instance),
            Backend::Servers { address, .. } => Store::open(address).unwrap(),
        }
    }

    /// Has another of a cluster's servers serve a slot in which there is no key.
    pub fn move_slot(&self, slot: &str, from: usize, to: usize) {
        let Backend::Servers { servers, .. } = self else { panic!("this process is no cluster") };
        let id = text(servers[to].connect().call(&["CLUSTER", "MYID"]).unwrap());
        let old = text(servers[from].connect().call(&["CLUSTER", "MYID"]).unwrap());
        let set = |server: &Process, words: &[&str]| {
            let words = [&["CLUSTER", "SETSLOT", slot], words].concat();
            assert_eq!(server.connect().call(&words).unwrap(), Reply::Line("+OK".into()), "{words:?}");
        };
        set(&servers[to], &["IMPORTING", &old]);
        set(&servers[from], &["MIGRATING", &id]);
        for server in [&servers[to], &servers[from]] {
            set(server, &["NODE", &id]);
        }
    }

    /// Clients that wait for keys.
    pub fn blocked(&self) -> u64 {
        match self {
            Backend::Within(instance) => instance.blocked_clients() as u64,
            Backend::Servers { servers, .. } => servers.iter().map(blocked).sum(),
        }
    }

    /// Whether it is one server, which a test may start anew.
    pub fn server(&mut self) -> &mut Process {
        let Backend::Servers { servers, .. } = self else { panic!("this process is no server") };
        &mut servers[0]
    }

    /// Waits until so many clients wait. Others go on meanwhile.
    pub async fn until_blocked(&self, count: u64) {
        for _ in 0..10_000 {
            if self.blocked() == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{count} clients should wait, and {} do", self.blocked());
    }
}

fn node() -> Option<(Process, String)> {
    let bus = free_port().to_string();
    let server = Process::redis(&["--cluster-enabled", "yes", "--cluster-port", &bus])?;
    Some((server, bus))
}

fn blocked(server: &Process) -> u64 {
    let told = text(server.connect().call(&["INFO", "clients"]).unwrap());
    let line = told.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    line.trim().parse().unwrap()
}

fn text(reply: Reply) -> String {
    let Reply::Bulk(_, bytes) = reply else { panic!("it is no text: {reply:?}") };
    String::from_utf8(bytes).unwrap()
}
