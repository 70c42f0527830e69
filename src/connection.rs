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
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::JoinHandle;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::session::{Flow, Session, Wait, not_kept};
use crate::commands::sockets::{Permit, note_refused};
use crate::commands::stats::Buffers;
use crate::config::{self, Name};
use crate::engine::durability::{Awaited, CROWDED_WAIT_MAX, Durability, LinePlace};
use crate::engine::gate::{Gate, Unknown, Visit};
use crate::engine::mailbox::{Ended, Mail, Outlet};
use crate::engine::turn::Turn;
use crate::lifecycle;
use crate::resp::{Parser, Protocol, ProtocolError, Reply};
use crate::seldom::Seldom;

/// Room made for each read. A pipeline of 64 small commands fits.
const READ_BYTES: usize = 16 * 1024;
/// Replies are sent once they are this long, even while more commands wait.
const SEND_BYTES: usize = 64 * 1024;
/// Buffers that have grown beyond this are given back when they are empty.
const KEEP_BYTES: usize = 256 * 1024;
/// Fewer bytes of replies than this are no burden, whatever `client-output-buffer-limit` says.
const LIMITED_BYTES_MIN: usize = 16 * 1024;
/// So often it is looked at whether a client that has more waiting than the soft limit allows still has, as Redis does, also where nothing
/// happens meanwhile.
const BURDEN_LOOK: Duration = Duration::from_secs(1);
/// With so many bytes of replies waiting to be taken, no further commands are run until the client reads.
const BACKLOG_BYTES: usize = 256 << 20;

thread_local! {
    /// The buffer the connections of a thread read into. One has it from the moment bytes come until they are run; of ten thousand
    /// that are quiet, none has a buffer of its own.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// No more of a pipeline is run than this between two such waits: 2.5 MB a second of each client.
const CROWDED_TURN_BYTES: usize = 256 * 1024;

/// How long nobody is accepted after that failed: no client notices, and it costs no processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client is told for which there is no room.
pub(crate) const FULL: &str = "-ERR max number of clients reached\r\n";

/// How long a client that has not given the password is left alone when others find no room.
const STRANGER_MS: u64 = 2_000;

/// Room for a connection that was just accepted; None where it must be refused. Where those who have not given the password for a while fill
/// the room, the oldest of them makes way, lest they keep those out who have it.
pub(crate) fn make_room(instance: &Instance, address: &dyn std::fmt::Display) -> Option<Permit> {
    let max = instance.config.count(Name::Maxclients) as usize;
    let permit = instance.sockets.admit(max).or_else(|| {
        let before = clock::monotonic_ms().saturating_sub(STRANGER_MS);
        instance.sockets.dismiss_stranger(before).then(|| instance.sockets.admit_in_place(max)).flatten()
    });
    if permit.is_none() {
        instance.stats.rejected_connections.fetch_add(1, Relaxed);
        note_refused(&address.to_string(), max);
    }
    permit
}

/// A connection could not be accepted, most likely since the process has no file descriptors left: notes it, and waits for some to be
/// closed, as accepting at once would fail again.
pub(crate) async fn not_accepted(error: &io::Error) {
    static SEEN: Seldom = Seldom::new();
    if let Some(unsaid) = SEEN.say(clock::monotonic_ms()) {
        tracing::warn!("failed to accept a connection: {error} ({unsaid} more failed since the last line like this)");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Keeps a gate for the connections of the runtime this is called in, until that or the task ends.
pub fn keep(gate: &Arc<Gate>, instance: &Arc<Instance>) -> Option<JoinHandle<()>> {
    if !instance.loading.is_on() && instance.durability().is_none() {
        return None;
    }
    let (gate, instance) = (Arc::clone(gate), Arc::clone(instance));
    Some(lifecycle::of_connection(async move {
        // Where the keyspace lasts is known once it is loaded, and nothing waits for that before.
        instance.loaded().await;
        let durability = instance.durability().cloned();
        drop(instance);
        if let Some(durability) = durability {
            gate.keep(durability).await;
        }
    }))
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
        session,
        stream,
        gate,
        outlet,
        has_lent: false,
        reply,
        parser: Parser::default(),
        input: Vec::new(),
        sent: 0,
        shown: 0,
        held: None,
        waiting: None,
        is_ended: false,
        closes: false,
        burdened_since: None,
    };
    let limit = config::output_limit(&connection.session.instance.config.text(Name::ClientOutputBufferLimit), "pubsub");
    connection.session.client.mailbox.set_bytes_max(limit.hard_bytes as usize);
    connection.session.carried(true);
    connection.carry().await;
    // It takes nothing from those who are there, while it waits for its turn to leave.
    if let Some(wait) = &connection.waiting {
        wait.waiter.end();
    }
    // What it was to rooms stands in keys, which a script that takes long has to itself.
    if connection.session.is_known_to_rooms() {
        connection.session.instance.engine.solo().opened().await;
    }
    let gate = Arc::clone(&connection.gate);
    // Closing the socket is part of it.
    gate.leave(move || drop(connection)).await;
}

struct Connection<S> {
    /// Dropped before the stream: who sees that closed finds nothing left of its client.
    session: Session,
    stream: S,
    gate: Arc<Gate>,
    outlet: Option<Arc<dyn Outlet>>,
    /// Whether the mailbox has the outlet.
    has_lent: bool,
    reply: Reply,
    parser: Parser,
    input: Vec<u8>,
    /// Bytes at the front of `reply` that are sent already.
    sent: usize,
    /// Bytes at the front of `reply` that may be sent: what they tell of is on disk or written, where it must be.
    shown: usize,
    /// What bytes after these wait for, if they do.
    held: Option<Held>,
    /// What holds the next command back.
    waiting: Option<Wait>,
    /// The client will send no more.
    is_ended: bool,
    /// To be closed once all replies are sent.
    closes: bool,
    /// Since when more waits than the soft limit allows.
    burdened_since: Option<Instant>,
}

/// Bytes of `reply` up to `end` may be sent once an epoch has come so far. What comes behind them meanwhile waits for an epoch of its own.
struct Held {
    awaited: Awaited,
    end: usize,
    visit: Visit,
}

/// What woke the connection.
enum Event {
    /// Bytes came; 0 means the client sends no more.
    Read(usize),
    Sent,
    /// What was held back may be sent.
    Shown,
    /// What was held back may not be sent for a long time: the disk refuses.
    Refused,
    Mail(Mail),
    /// The time of the wait is over.
    Late,
    /// It is time to look whether the client takes its replies.
    Look,
    /// The socket failed, or the server ends.
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn carry(&mut self) {
        loop {
            if self.waiting.is_none() && self.held.is_none() && self.backlog() < BACKLOG_BYTES {
                self.run_commands();
            }
            if self.is_ended {
                self.stop_waiting_for_others();
            }
            self.note_output();
            self.hold_back().await;
            // A script that was begun is gone on with, and its client hears of it, also where the server ends.
            if self.closes && self.backlog() == 0 && !self.session.is_stand_in() {
                return;
            }
            if self.is_ended && self.waiting.is_none() && self.backlog() == 0 {
                return;
            }
            match self.event().await {
                Event::Read(0) => self.is_ended = true,
                Event::Read(count) => {
                    self.session.moved(count, 0);
                    if self.input.len() > self.session.instance.config.count(Name::ClientQueryBufferLimit) as usize {
                        self.session.instance.stats.cut_queries.fetch_add(1, Relaxed);
                        tracing::warn!(
                            "closing client {}: its request is longer than client-query-buffer-limit",
                            self.session.client.id
                        );
                        return;
                    }
                    // What was left before these bytes came goes out before they are answered: who caches what it read, and asks something
                    // after others were told that a key changed, has been told as well.
                    if let Some(mail) = self.session.client.mailbox.take()
                        && !self.mail(mail)
                    {
                        return;
                    }
                }
                Event::Sent | Event::Look => {}
                Event::Shown => {
                    self.shown = self.held.take().map_or(self.shown, |held| held.end);
                }
                Event::Refused => self.refuse(),
                Event::Mail(mail) => {
                    if !self.mail(mail) {
                        return;
                    }
                }
                Event::Late => self.late(),
                Event::Broken => return,
            }
            if self.is_too_slow() {
                self.session.instance.stats.cut_readers.fetch_add(1, Relaxed);
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
        } else if clock::since(*self.burdened_since.get_or_insert_with(clock::instant)) >= Duration::from_secs(limit.soft_seconds)
        {
            return true;
        }
        limit.hard_bytes != 0 && backlog > limit.hard_bytes
    }

    /// Bytes of replies that wait to be taken.
    fn backlog(&self) -> usize {
        self.reply.len() - self.sent
    }

    /// Runs the commands that have arrived whole, until one has to wait or the replies are worth sending.
    fn run_commands(&mut self) {
        if self.input.is_empty() {
            return;
        }
        self.session.tick();
        self.session.client.active_at.store(clock::monotonic_ms(), Relaxed);
        self.session.note_input(self.input.len());
        let mut commands = 0;
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
                    if error == ProtocolError::Foreign {
                        self.session.note_foreigner();
                    }
                    let error = error.to_string();
                    self.session.instance.stats.error(&error);
                    self.reply.error(&error);
                    self.closes = true;
                    break;
                }
            };
            commands += 1;
            match self.session.execute_in(&mut turn, args, &mut self.reply) {
                Flow::Next => {}
                Flow::Close => self.closes = true,
                Flow::Wait(wait) => {
                    self.waiting = Some(wait);
                    break;
                }
            }
            // What a client is told of its own change comes right after its reply, as in Redis.
            if self.session.tracks.is_some() && self.session.client.mailbox.has_mail() {
                break;
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
        self.session.note_input(self.input.len());
        self.session.turned(commands);
    }

    /// Leaves the empty input buffer to other connections.
    fn hand_input_back(&mut self) {
        let input = std::mem::take(&mut self.input);
        if input.capacity() <= KEEP_BYTES {
            SPARE.set(input);
        }
    }

    /// Lets the replies that have come go out, or holds them back until the changes they show are on disk, or, where
    /// too many are on their way there, written.
    async fn hold_back(&mut self) {
        // Who wants no replies waits as others do: else nothing would hold it back.
        if self.held.is_some() || self.shown == self.reply.len() && !self.session.has_written() {
            return;
        }
        let bytes = self.session.take_wrote_bytes();
        if self.session.has_written()
            && let Some(durability) = self.session.instance.durability().cloned()
            && let Some(place) = durability.line_up(bytes, &mut self.session.line_share)
        {
            self.wait_in_line(&*durability, place).await;
        }
        let Some(awaited) = self.session.awaited() else {
            self.shown = self.reply.len();
            return;
        };
        let crowded = self.session.instance.durability().and_then(|durability| durability.crowded());
        if let Some(mut crowded) = crowded {
            // After this long the reply goes out all the same: writers are slowed down, not stopped.
            let _ = tokio::time::timeout(CROWDED_WAIT_MAX, crowded.wait_for(|is_crowded| !is_crowded)).await;
        }
        self.held = Some(Held { awaited, end: self.reply.len(), visit: Visit::default() });
    }

    /// Waits until those who wrote before have gone on, unless the connection is to be closed.
    async fn wait_in_line(&mut self, durability: &dyn Durability, place: LinePlace) {
        while !self.session.client.mailbox.is_closing()
            && let Some(pause) = durability.pause(place)
        {
            tokio::time::sleep(pause).await;
        }
    }

    /// Answers that it is not known whether what was asked last will be kept, in the place of what was held back, and closes.
    fn refuse(&mut self) {
        self.held = None;
        self.reply.truncate(self.shown);
        let cause = self.session.instance.durability().and_then(|durability| durability.refusal()).unwrap_or_default();
        self.reply.error(&not_kept(&cause));
        self.shown = self.reply.len();
        self.closes = true;
    }

    /// Waits for whatever comes first.
    async fn event(&mut self) -> Event {
        let late = self.waiting.as_ref().and_then(|wait| wait.until).map(|until| {
            let left = Duration::from_millis(until.saturating_sub(clock::monotonic_ms()));
            (left, Event::Late)
        });
        let look = self.burdened_since.map(|_| (BURDEN_LOOK, Event::Look));
        let event = match late.into_iter().chain(look).min_by_key(|(left, _)| *left) {
            None => poll_fn(|cx| self.poll(cx)).await,
            Some((left, event)) => tokio::time::timeout(left, poll_fn(|cx| self.poll(cx))).await.unwrap_or(event),
        };
        // Whatever it was: from here on this task writes by itself.
        self.take_back();
        event
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mailbox = &self.session.client.mailbox;
        mailbox.register(cx.waker());
        if let Some(held) = &mut self.held {
            match self.gate.poll(held.awaited, &mut held.visit, cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Event::Shown),
                // A journal that is gone ends the server; the reply must not be sent then.
                Poll::Ready(Err(Unknown::Over)) => return Poll::Ready(Event::Broken),
                Poll::Ready(Err(Unknown::Refused)) => return Poll::Ready(Event::Refused),
                // Mail is left where it has bounds of its own, lest what comes later hold back what came before.
                Poll::Pending if mailbox.is_cut() => return Poll::Ready(Event::Broken),
                Poll::Pending => {}
            }
        }
        let may_send = self.shown == self.sent || mailbox.is_free();
        if let Some(held) = &mut self.held {
            // What an outlet could not send goes before all that was asked later, also while mail has to wait.
            let rest = mailbox.take_rest();
            self.shown += rest.len();
            held.end += rest.len();
            self.reply.insert(self.sent, &rest);
        }
        if self.held.is_none()
            && let Some(mail) = mailbox.take()
        {
            return Poll::Ready(Event::Mail(mail));
        }
        if may_send && self.sent < self.shown {
            match Pin::new(&mut self.stream).poll_write(cx, self.reply.part(self.sent, self.shown)) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Event::Broken),
                Poll::Ready(Ok(count)) => {
                    self.note_sent(count);
                    if self.sent < self.shown || self.parser.has_more(&self.input) && self.waiting.is_none() {
                        return Poll::Ready(Event::Sent);
                    }
                    if self.closes || self.is_ended {
                        return Poll::Ready(Event::Sent);
                    }
                }
                Poll::Pending => {}
            }
        }
        if self.is_ended || self.closes || self.held.is_some() || self.backlog() >= BACKLOG_BYTES {
            return Poll::Pending;
        }
        self.lend();
        if self.input.capacity() == 0 {
            self.input = SPARE.take();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES.max(self.input.len().min(64 << 20)));
        }
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(count)) => Poll::Ready(Event::Read(count)),
            Poll::Ready(Err(_)) => Poll::Ready(Event::Broken),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.hand_input_back();
                }
                Poll::Pending
            }
        }
    }

    /// Lets others answer while this client waits, if all it was sent before is on its way and it has sent nothing more. One that waits at
    /// several keys has to leave the others when it is answered, so that must wake it.
    fn lend(&mut self) {
        let may_lend = |wait: &Wait| !wait.tries_again && !wait.is_muted && wait.waiter.keys.len() < 2;
        if self.has_lent || self.backlog() > 0 || !self.input.is_empty() || !self.waiting.as_ref().is_some_and(may_lend) {
            return;
        }
        if let Some(outlet) = &self.outlet {
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
        self.session.client.active_at.store(clock::monotonic_ms(), Relaxed);
        self.sent += count;
        let dropped = self.reply.drop_sent(self.sent, KEEP_BYTES);
        self.sent -= dropped;
        self.shown -= dropped;
        if let Some(held) = &mut self.held {
            held.end -= dropped;
        }
        self.note_output();
    }

    fn note_output(&mut self) {
        let buffers = Buffers { input: self.input.capacity(), output: self.reply.capacity() };
        self.session.note_output(self.backlog(), buffers);
    }

    /// For a client that sends no more: most likely it is gone, and must not take an element from those who are there. What was answered
    /// before is still sent.
    fn stop_waiting_for_others(&mut self) {
        if let Some(wait) = self.waiting.take_if(|wait| !wait.is_under_way && wait.waiter.end()) {
            self.session.waited(&wait);
            self.closes = true;
        }
    }

    /// Takes what others left; false if the connection must be cut.
    fn mail(&mut self, mail: Mail) -> bool {
        if !mail.rest.is_empty() {
            self.shown += mail.rest.len();
            self.reply.insert(self.sent, &mail.rest);
        }
        // Messages first: the pieces of a call's result come before its end.
        self.reply.raw(&mail.bytes);
        if let Some(ended) = mail.ended {
            self.ended(ended);
        }
        self.session.instance.stats.cut_readers.fetch_add(u64::from(mail.is_too_much), Relaxed);
        self.closes |= mail.close == Some(true);
        mail.close != Some(false)
    }

    /// Someone has ended the wait.
    fn ended(&mut self, ended: Ended) {
        let wait = self
            .waiting
            .take()
            .expect("who ends a wait is the only one, and this task looks for mail of it before it begins another");
        self.session.come_back();
        match ended {
            Ended::Answer { bytes, epoch, sent } => {
                if !wait.is_muted {
                    self.reply.raw(&bytes);
                }
                self.session.wrote_epoch = self.session.wrote_epoch.max(epoch);
                self.session.answered(&wait, &bytes);
                if wait.tries_again {
                    self.session.fetching_failed(&wait);
                }
                match sent {
                    Some(count) => {
                        self.session.moved(0, count);
                        self.session.forget(&wait);
                    }
                    None => self.session.waited(&wait),
                }
            }
            Ended::Again => {
                self.session.waited(&wait);
                self.try_again(&wait);
            }
            Ended::Unblocked { with_error } => {
                self.session.waited(&wait);
                self.session.give_up(&wait, with_error, &mut self.reply);
            }
        }
    }

    /// The time of the wait is over.
    fn late(&mut self) {
        let Some(wait) = self.waiting.take_if(|wait| wait.waiter.end()) else {
            // Ended at the last moment: word of it is in the mail, or on its way there.
            if let Some(wait) = &mut self.waiting {
                wait.until = None;
            }
            return;
        };
        self.session.waited(&wait);
        if wait.tries_again {
            self.try_again(&wait);
        } else {
            self.session.give_up(&wait, false, &mut self.reply);
        }
    }

    /// Runs a command that was held back.
    fn try_again(&mut self, wait: &Wait) {
        match self.session.execute_again(wait, &mut self.reply) {
            Flow::Next => {}
            Flow::Close => self.closes = true,
            Flow::Wait(wait) => self.waiting = Some(wait),
        }
        self.session.settle();
    }
}

/// Undoes what others could still see of a wait, however the connection ends: also where its task is cancelled, or panics.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.session.client.mailbox.take_back();
        if let Some(wait) = self.waiting.take() {
            // Either it was answered at the last moment, which must be noted once, or nobody will answer any more.
            wait.waiter.end();
            match self.session.client.mailbox.take().and_then(|mail| mail.ended) {
                Some(Ended::Answer { sent: Some(_), .. }) => self.session.forget(&wait),
                _ => self.session.waited(&wait),
            }
        }
        self.session.carried(false);
    }
}
