//! One client's connection, over whatever carries its bytes: reads what arrives, runs the complete commands in it, sends the
//! replies.
//!
//! The loop never waits for one direction only: while replies wait to be taken, requests are still read, since clients
//! may send a long pipeline before they read the first reply.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::session::{Flow, Session, Wait};
use crate::commands::stats::WorkerStats;
use crate::config::{self, Name};
use crate::engine::block::Waiter;
use crate::engine::error::Error;
use crate::engine::gate::Gate;
use crate::engine::mailbox::{Mail, Outlet};
use crate::engine::turn::Turn;
use crate::resp::{OwnedArgs, Parser, Protocol, Reply};

/// Room made for each read. A pipeline of 64 small commands fits.
const READ_BYTES: usize = 16 * 1024;
/// Replies are sent once they are this long, even while more commands wait.
const SEND_BYTES: usize = 64 * 1024;
/// Buffers that have grown beyond this are given back when they are empty.
const KEEP_BYTES: usize = 256 * 1024;
/// Fewer bytes of replies than this are no burden, whatever `client-output-buffer-limit` says.
const LIMITED_BYTES_MIN: usize = 16 * 1024;
/// With so many bytes of replies waiting to be taken, no further commands are run until the client reads.
const BACKLOG_BYTES: usize = 256 << 20;

thread_local! {
    /// The buffer the connections of a thread read into. One has it from the moment bytes come until they are run; of ten thousand
    /// that are quiet, none has a buffer of its own.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How long replies to writes are held back while memory is over `memory-limit`.
const CROWDED_WAIT_MAX: Duration = Duration::from_millis(100);
/// No more of a pipeline is run than this between two such waits: 2.5 MB a second of each client.
const CROWDED_TURN_BYTES: usize = 256 * 1024;

/// How long nobody is accepted after that failed: no client notices, and it costs no processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client is told that protected mode keeps out. Redis begins with the same words.
const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the \
                         default user. Set one with CONFIG SET requirepass from the server's own machine, or turn protected mode \
                         off with CONFIG SET protected-mode no.\r\n";

/// Where a client comes from.
pub struct Origin {
    /// As `CLIENT LIST` shows it.
    pub address: String,
    /// Where it came to, likewise.
    pub local_address: String,
    /// Bits of `clients::state` that are set from the beginning.
    pub state: u64,
    /// Whether it is on this machine.
    pub is_near: bool,
}

/// A session for a client that has just come; or what to tell it, in RESP, where there are too many clients or protected mode
/// keeps it out.
pub fn admit(instance: &Arc<Instance>, stats: Arc<WorkerStats>, origin: Origin) -> Result<Session, &'static str> {
    let is_full = instance.clients.count() >= instance.config.count(Name::Maxclients) as usize;
    if is_full || is_protected(instance, origin.is_near) {
        instance.stats.rejected_connections.fetch_add(1, Relaxed);
        return Err(if is_full { "-ERR max number of clients reached\r\n" } else { PROTECTED });
    }
    let client = instance.clients.connect(origin.address, origin.local_address, origin.state, clock::now_ms());
    if instance.is_ending.load(Relaxed) {
        // Too late to be told with the others.
        client.mailbox.leave(|mail| mail.close = Some(true));
    }
    let is_open = instance.password().is_none();
    Ok(Session::new(Arc::clone(instance), client, stats, is_open))
}

/// Whether protected mode keeps a client out: it comes from another machine and there is no password. The start refuses to
/// listen that far then, but a password may be removed later.
pub fn is_protected(instance: &Instance, is_near: bool) -> bool {
    !is_near && instance.password().is_none() && instance.config.is_on(Name::ProtectedMode)
}

/// A connection could not be accepted, most likely since the process has no file descriptors left: notes it, and waits for some to be
/// closed, as accepting at once would fail again.
pub async fn not_accepted(error: &io::Error) {
    tracing::warn!("failed to accept a connection: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Keeps a gate for the connections of the runtime this is called in, until that or the task ends.
pub fn keep(gate: &Arc<Gate>, instance: &Instance) -> Option<JoinHandle<()>> {
    let durability = instance.durability().cloned()?;
    let gate = Arc::clone(gate);
    Some(tokio::spawn(async move { gate.keep(durability).await }))
}

/// Carries a connection that shares its runtime with no others of ours: with a gate of its own.
pub async fn run_alone<S: AsyncRead + AsyncWrite + Unpin>(stream: S, session: Session) {
    let gate = Arc::default();
    let keeper = keep(&gate, &session.instance);
    run(stream, session, gate, None).await;
    if let Some(keeper) = keeper {
        keeper.abort();
    }
}

/// Carries a connection until it is closed. Its replies wait at the gate of its runtime. Others may answer it through the outlet while
/// it waits.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    session: Session,
    gate: Arc<Gate>,
    outlet: Option<Arc<dyn Outlet>>,
) {
    let reply = Reply::new(Protocol::Resp2);
    let mut connection = Connection {
        stream,
        session,
        gate,
        outlet,
        has_lent: false,
        reply,
        parser: Parser::default(),
        input: Vec::new(),
        sent: 0,
        waiting: None,
        is_ended: false,
        closes: false,
        burdened_since: None,
    };
    let limit = config::output_limit(&connection.session.instance.config.text(Name::ClientOutputBufferLimit), "pubsub");
    connection.session.client.mailbox.set_bytes_max(limit.hard_bytes as usize);
    connection.carry().await;
    connection.end();
}

struct Connection<S> {
    stream: S,
    session: Session,
    gate: Arc<Gate>,
    outlet: Option<Arc<dyn Outlet>>,
    /// Whether the mailbox has the outlet.
    has_lent: bool,
    reply: Reply,
    parser: Parser,
    input: Vec<u8>,
    /// Bytes at the front of `reply` that are sent already.
    sent: usize,
    waiting: Option<Waiting>,
    /// The client will send no more.
    is_ended: bool,
    /// To be closed once all replies are sent.
    closes: bool,
    /// Since when more waits than the soft limit allows.
    burdened_since: Option<Instant>,
}

/// What holds the next command back.
enum Waiting {
    Keys { waiter: Arc<Waiter>, until: Option<u64> },
    Paused { args: OwnedArgs, until: u64 },
}

/// What woke the connection.
enum Event {
    /// Bytes came; 0 means the client sends no more.
    Read(usize),
    Sent,
    Mail(Mail),
    /// The socket failed, or the server ends.
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn carry(&mut self) {
        loop {
            if self.waiting.is_none() && self.backlog() < BACKLOG_BYTES {
                self.run_commands();
            }
            if self.must_be_durable().await.is_err() || (self.closes && self.backlog() == 0) {
                return;
            }
            if self.is_ended && self.waiting.is_none() && self.backlog() == 0 {
                return;
            }
            match self.event().await {
                Event::Read(0) => {
                    if !self.input_ended() {
                        return;
                    }
                }
                Event::Read(count) => {
                    self.session.moved(count, 0);
                    if self.input.len() > self.session.instance.config.count(Name::ClientQueryBufferLimit) as usize {
                        tracing::warn!(
                            "closing client {}: its request is longer than client-query-buffer-limit",
                            self.session.client.id
                        );
                        return;
                    }
                }
                Event::Sent => {}
                Event::Mail(mail) => {
                    if !self.mail(mail) {
                        return;
                    }
                }
                Event::Broken => return,
            }
            self.after_event();
            if self.is_too_slow() {
                tracing::warn!("closing client {}: it reads too slowly for client-output-buffer-limit", self.session.client.id);
                return;
            }
        }
    }

    /// Whether more waits for this client than `client-output-buffer-limit` allows.
    fn is_too_slow(&mut self) -> bool {
        let backlog = self.backlog() as u64;
        if backlog < LIMITED_BYTES_MIN as u64 {
            self.burdened_since = None;
            return false;
        }
        let class = if self.session.subscription_count() > 0 { "pubsub" } else { "normal" };
        let limit = config::output_limit(&self.session.instance.config.text(Name::ClientOutputBufferLimit), class);
        if limit.soft_bytes == 0 || backlog <= limit.soft_bytes {
            self.burdened_since = None;
        } else if self.burdened_since.get_or_insert_with(Instant::now).elapsed() >= Duration::from_secs(limit.soft_seconds) {
            return true;
        }
        limit.hard_bytes != 0 && backlog > limit.hard_bytes
    }

    /// Bytes of replies that wait to be taken.
    fn backlog(&self) -> usize {
        self.reply.bytes().len() - self.sent
    }

    /// Runs the commands that have arrived whole, until one has to wait or the replies are worth sending.
    fn run_commands(&mut self) {
        if self.input.is_empty() {
            return;
        }
        self.session.tick();
        self.session.client.active_at.store(self.session.now(), Relaxed);
        self.session.client.query_bytes.store(self.input.len() as u64, Relaxed);
        let instance = Arc::clone(&self.session.instance);
        let is_crowded = instance.durability().is_some_and(|durability| durability.is_crowded());
        let turn_bytes = if is_crowded { CROWDED_TURN_BYTES } else { usize::MAX };
        let mut turn = Turn::new(&instance.engine);
        while !self.closes {
            if self.parser.look_ahead(&self.input, self.session.limits()) {
                turn.begin(self.session.db, self.parser.ahead(&self.input));
            }
            let args = match self.parser.next(&self.input, self.session.limits()) {
                Ok(Some(args)) => args,
                Ok(None) => break,
                Err(error) => {
                    self.reply.error(&error.to_string());
                    self.closes = true;
                    break;
                }
            };
            match self.session.execute_in(&mut turn, args, &mut self.reply) {
                Flow::Next => {}
                Flow::Close => self.closes = true,
                Flow::Wait(Wait::Keys(waiter, until)) => {
                    self.waiting = Some(Waiting::Keys { waiter, until });
                    break;
                }
                Flow::Wait(Wait::Paused(args, until)) => {
                    self.paused(args, until);
                    break;
                }
            }
            let is_long = self.parser.position() >= turn_bytes && self.backlog() > 0;
            if self.backlog() >= SEND_BYTES || is_long {
                // Sends what there is and comes back for the rest.
                break;
            }
        }
        drop(turn);
        self.session.settle();
        let consumed = self.parser.consumed();
        if consumed == self.input.len() {
            self.input.clear();
            self.hand_input_back();
        } else if consumed > 0 {
            self.input.drain(..consumed);
        }
        self.session.client.query_bytes.store(self.input.len() as u64, Relaxed);
    }

    /// Leaves the empty input buffer to other connections.
    fn hand_input_back(&mut self) {
        let input = std::mem::take(&mut self.input);
        if input.capacity() <= KEEP_BYTES {
            SPARE.set(input);
        }
    }

    fn paused(&mut self, args: OwnedArgs, until: u64) {
        self.session.instance.engine.waiting_clients_changed(1);
        self.session.client.set_state(crate::commands::clients::state::BLOCKED, true);
        self.waiting = Some(Waiting::Paused { args, until });
    }

    /// With `appendfsync always`, holds replies back until the changes they tell of are on disk.
    async fn must_be_durable(&mut self) -> Result<(), ()> {
        let Some(epoch) = self.session.must_be_durable() else { return Ok(()) };
        let crowded = self.session.instance.durability().and_then(|durability| durability.crowded());
        if let Some(mut crowded) = crowded {
            // After this long the reply goes out all the same: writers are slowed down, not stopped.
            let _ = tokio::time::timeout(CROWDED_WAIT_MAX, crowded.wait_for(|is_crowded| !is_crowded)).await;
        }
        // A journal that is gone ends the server; the reply must not be sent then.
        self.gate.pass(epoch).await
    }

    /// Waits for whatever comes first.
    async fn event(&mut self) -> Event {
        let deadline = match &self.waiting {
            Some(Waiting::Keys { until, .. }) => *until,
            Some(Waiting::Paused { until, .. }) => Some(*until),
            _ => None,
        };
        match deadline {
            None => poll_fn(|cx| self.poll(cx)).await,
            Some(until) => {
                let left = Duration::from_millis(until.saturating_sub(clock::now_ms()));
                match tokio::time::timeout_at(Instant::now() + left, poll_fn(|cx| self.poll(cx))).await {
                    Ok(event) => event,
                    Err(_) => Event::Mail(Mail::default()),
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mailbox = &self.session.client.mailbox;
        mailbox.register(cx.waker());
        let may_send = self.reply.bytes().len() == self.sent || mailbox.is_free();
        if let Some(mail) = mailbox.take() {
            return Poll::Ready(Event::Mail(mail));
        }
        if may_send && self.sent < self.reply.bytes().len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.reply.bytes()[self.sent..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Event::Broken),
                Poll::Ready(Ok(count)) => {
                    self.note_sent(count);
                    if self.sent < self.reply.bytes().len() || self.parser.has_more(&self.input) && self.waiting.is_none() {
                        return Poll::Ready(Event::Sent);
                    }
                    if self.closes {
                        return Poll::Ready(Event::Sent);
                    }
                }
                Poll::Pending => {}
            }
        }
        if self.backlog() == 0 && self.input.is_empty() && matches!(self.waiting, Some(Waiting::Keys { .. })) {
            self.lend();
        }
        if self.is_ended || self.closes || self.backlog() >= BACKLOG_BYTES {
            return Poll::Pending;
        }
        if self.input.capacity() == 0 {
            self.input = SPARE.take();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES.max(self.input.len().min(64 << 20)));
        }
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(count)) => {
                // What came has to be run after the answer, so that must wake this task.
                self.take_back();
                Poll::Ready(Event::Read(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Event::Broken),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.hand_input_back();
                }
                Poll::Pending
            }
        }
    }

    /// Lets others answer while this client waits.
    fn lend(&mut self) {
        if let Some(outlet) = self.outlet.as_ref().filter(|_| !self.has_lent && !self.is_ended && !self.closes) {
            self.session.client.mailbox.lend(Arc::clone(outlet));
            self.has_lent = true;
        }
    }

    fn take_back(&mut self) {
        if std::mem::take(&mut self.has_lent) {
            self.session.client.mailbox.take_back();
        }
    }

    fn note_sent(&mut self, count: usize) {
        self.session.moved(0, count);
        self.sent += count;
        if self.sent == self.reply.bytes().len() {
            self.sent = 0;
            let bytes = self.reply.bytes_mut();
            bytes.clear();
            if bytes.capacity() > KEEP_BYTES {
                *bytes = Vec::with_capacity(READ_BYTES);
            }
        }
        self.session.client.output_bytes.store(self.backlog() as u64, Relaxed);
    }

    /// The client sends no more; true if there are replies it may still read.
    fn input_ended(&mut self) -> bool {
        self.is_ended = true;
        // A client that is gone while it waits gets no answer: it must not take an element from those who are there.
        self.waiting.is_none() && self.backlog() > 0
    }

    /// Takes what others left; false if the connection must be cut.
    fn mail(&mut self, mail: Mail) -> bool {
        self.has_lent = false;
        if !mail.rest.is_empty() {
            self.reply.bytes_mut().splice(self.sent..self.sent, mail.rest);
        }
        // Messages first: the pieces of a call's result come before its end.
        self.reply.raw(&mail.bytes);
        if let Some(served) = mail.served {
            self.reply.raw(&served.bytes);
            self.session.wrote_epoch = self.session.wrote_epoch.max(served.epoch);
            if let Some(Waiting::Keys { waiter, .. }) = self.waiting.take() {
                self.session.answered(&waiter, &served.bytes);
            }
            match served.sent {
                Some(count) => self.session.moved(0, count),
                None => self.session.waited(),
            }
        }
        if mail.close == Some(false) {
            return false;
        }
        self.closes |= mail.close == Some(true);
        if let Some(with_error) = mail.unblock
            && let Some(Waiting::Keys { waiter, .. }) = &self.waiting
        {
            let waiter = Arc::clone(waiter);
            let error = with_error.then(|| Error::new("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
            self.give_up(&waiter, error.as_ref());
        }
        true
    }

    fn give_up(&mut self, waiter: &Arc<Waiter>, with: Option<&Error>) {
        if self.session.give_up(waiter, with, false, &mut self.reply) {
            self.take_back();
            self.waiting = None;
            self.session.waited();
        }
    }

    /// Ends waits whose time is over.
    fn after_event(&mut self) {
        let now = clock::now_ms();
        match &self.waiting {
            Some(Waiting::Keys { waiter, until: Some(until) }) if *until <= now => {
                let waiter = Arc::clone(waiter);
                self.give_up(&waiter, None);
                // Served at the last moment: the answer is in the mail, and there is no deadline any more.
                if let Some(Waiting::Keys { until, .. }) = &mut self.waiting {
                    *until = None;
                }
            }
            Some(Waiting::Paused { .. }) => self.try_again(),
            _ => {}
        }
    }

    /// Runs a command that was held back, if it may run now.
    fn try_again(&mut self) {
        let Some(Waiting::Paused { args, .. }) = self.waiting.take() else { return };
        self.session.tick();
        self.session.instance.engine.waiting_clients_changed(-1);
        self.session.client.set_state(crate::commands::clients::state::BLOCKED, false);
        match self.session.execute(args.args(), &mut self.reply) {
            Flow::Next => {}
            Flow::Close => self.closes = true,
            Flow::Wait(Wait::Keys(waiter, until)) => self.waiting = Some(Waiting::Keys { waiter, until }),
            Flow::Wait(Wait::Paused(args, until)) => self.paused(args, until),
        }
    }

    /// Undoes what others could still see of this client.
    fn end(&mut self) {
        self.take_back();
        if let Some(mail) = self.session.client.mailbox.take() {
            // It was answered at the last moment, which must be noted once.
            self.mail(mail);
        }
        match self.waiting.take() {
            Some(Waiting::Keys { waiter, .. }) => {
                self.session.give_up(&waiter, None, true, &mut self.reply);
                self.session.waited();
            }
            Some(Waiting::Paused { .. }) => self.session.instance.engine.waiting_clients_changed(-1),
            _ => {}
        }
        self.session.close();
    }
}
