//! Events reach their listeners when no key is locked, and by a thread that serves no clients where they are many.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use flux::clock;
use flux::commands::instance::Instance;
use flux::engine::mailbox::Mailbox;
use flux::engine::pubsub::Topic;
use flux::engine::{Engine, Scope};
use flux::node;
use flux::peers::outbox::LISTENERS_MAX;
use flux::store::Blocking;

/// Uses all keys whenever its listener gets something, and counts how often that went well.
struct Curious {
    instance: Weak<Instance>,
    mailbox: Weak<Mailbox>,
    found_free: AtomicU64,
}

impl Wake for Curious {
    fn wake(self: Arc<Self>) {
        let (instance, (done, is_done)) = (self.instance.upgrade().unwrap(), channel());
        // On another thread, since this one would wait for itself.
        thread::spawn(move || {
            instance.engine.read(0, clock::now_ms(), Scope::Everything, |_| ());
            let _ = done.send(());
        });
        if is_done.recv_timeout(Duration::from_secs(5)).is_ok() {
            self.found_free.fetch_add(1, SeqCst);
        }
        if let Some(mailbox) = self.mailbox.upgrade() {
            mailbox.register(&Waker::from(self));
        }
    }
}

#[test]
fn events_are_told_when_no_key_is_locked() {
    let instance = Instance::with(node::ROOMS, Arc::new(Engine::new(false)), node::defaults(), clock::now_ms());
    let rooms = instance.open_rooms();
    let mailbox = Arc::<Mailbox>::default();
    for channel in ["flux:ws:w:events", "flux:capabilities"] {
        instance.engine.pubsub().subscribe(Topic::Channel, channel.as_bytes(), &mailbox);
    }
    let (weak, found_free) = (Arc::downgrade(&instance), AtomicU64::new(0));
    let curious = Arc::new(Curious { instance: weak, mailbox: Arc::downgrade(&mailbox), found_free });
    mailbox.register(&Waker::from(Arc::clone(&curious)));
    let mut store = Blocking::new(&instance);
    let commands: [&[&[u8]]; 9] = [
        &[b"FLUX.REGISTER", br#"{"id":"p","name":"p","capabilities":[{"name":"f"}]}"#],
        &[b"FLUX.JOIN", b"w"],
        &[b"FLUX.CTX.SET", b"w", b"k", b"v"],
        &[b"FLUX.CTX.DEL", b"w", b"k"],
        &[b"FLUX.STREAM.PUSH", b"w", b"s", b"chunk"],
        &[b"FLUX.STREAM.END", b"w", b"s"],
        &[b"FLUX.LEAVE", b"w"],
        &[b"FLUX.JOIN", b"w"],
        &[b"FLUX.LEAVE"],
    ];
    for (number, command) in commands.iter().enumerate() {
        let reply = store.call(command);
        assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
        let found = curious.found_free.load(SeqCst);
        assert!(found > number as u64, "{found} events were told with no key locked by the end of command {}", number + 1);
    }
    drop(store);
    drop(rooms);
}

/// Tells which thread left something for its listener.
struct Named(Sender<Option<String>>);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(thread::current().name().map(str::to_owned));
    }
}

#[test]
fn where_many_listen_a_thread_that_serves_no_clients_tells_them() {
    let instance = Instance::with(node::ROOMS, Arc::new(Engine::new(false)), node::defaults(), clock::now_ms());
    let rooms = instance.open_rooms();
    let (sender, told_by) = channel();
    let waker = Waker::from(Arc::new(Named(sender)));
    let listen = |count| {
        for _ in 0..count {
            let mailbox = Arc::<Mailbox>::default();
            instance.engine.pubsub().subscribe(Topic::Channel, b"flux:ws:w:events", &mailbox);
            mailbox.register(&waker);
        }
    };
    let mut store = Blocking::new(&instance);
    listen(LISTENERS_MAX);
    store.call(&[b"FLUX.CTX.SET", b"w", b"k", b"1"]);
    let own = thread::current().name().map(str::to_owned);
    assert_eq!(
        told_by.try_iter().take_while(|name| *name == own).count(),
        LISTENERS_MAX,
        "few are told before the command answers"
    );
    // The first ones have no task that waits any more.
    listen(1);
    store.call(&[b"FLUX.CTX.SET", b"w", b"k", b"2"]);
    assert_eq!(told_by.recv_timeout(Duration::from_secs(5)), Ok(Some("peers".to_owned())));
    drop(store);
    drop(rooms);
}
