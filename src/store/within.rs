//! A session in this process whose commands run on the thread of whoever polls them: nothing is encoded, no task is woken, and no thread is
//! held while it waits.

use std::any::Any;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::{RedisResult, Value};

use crate::clock;
use crate::commands::admit;
use crate::commands::identity::Identity;
use crate::commands::inner::short;
use crate::commands::instance::Instance;
use crate::commands::session::{Flow, Session, Wait, not_kept};
use crate::config::{self, Name};
use crate::engine::durability::{Awaited, CROWDED_WAIT_MAX, Durability};
use crate::engine::mailbox::{Ended, Mail};
use crate::resp::{Args, Protocol, Reply};
use crate::store::parked;

/// Something that lives as long as a session does.
pub(super) type Guest = Arc<dyn Any + Send + Sync>;

/// How an alarm is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Within a tokio runtime.
    Tokio,
    /// By [`parked::wait_for`], which parks its thread.
    Parked,
}

/// A session of its own: its database, transaction and subscriptions last from one call to the next.
///
/// A call that is given up closes it: what it waited for is left, and nobody knows how far it had come.
pub(super) struct Within {
    pub session: Session,
    pub reply: Reply,
    /// Messages that came while a command waited, where nobody hears them.
    pub mail: Vec<u8>,
    /// Hears messages as they come.
    pub hear: Option<Box<dyn FnMut(&[u8]) + Send + Sync>>,
    /// Lives as long as this does.
    pub guest: Option<Guest>,
    /// Where the replies of the last run end.
    ends: Vec<usize>,
    /// Whether the journal refused what was run last: its replies made way for one error.
    is_refused: bool,
    /// Nobody wants it any more: it was killed, or the server ends.
    is_over: bool,
    timer: Timer,
    /// What a command waits for.
    waiting: Option<Wait>,
}

/// Closes the session if a call is given up.
struct Call<'a> {
    within: &'a mut Within,
    is_over: bool,
}

impl Within {
    /// A new session.
    pub(crate) fn new(instance: &Arc<Instance>, identity: &Identity, protocol: Protocol, timer: Timer) -> Within {
        let session = admit::begin(instance, instance.stats.here(), identity.clone());
        session.client.mailbox.set_protocol(protocol);
        // Whoever hears messages takes them as they come; what a command waits for meanwhile must not let them pile up.
        let limit = config::output_limit(&instance.config.text(Name::ClientOutputBufferLimit), "pubsub");
        session.client.mailbox.set_bytes_max(limit.hard_bytes as usize);
        Within {
            session,
            reply: Reply::new(protocol),
            mail: Vec::new(),
            hear: None,
            guest: None,
            ends: Vec::new(),
            is_refused: false,
            is_over: false,
            timer,
            waiting: None,
        }
    }

    /// Whether it runs no commands any more: it was killed, the server ends, or a call was given up.
    pub(super) fn is_closed(&self) -> bool {
        self.session.is_closed || self.is_over || self.session.client.mailbox.is_closing()
    }

    /// Takes mail: messages are heard, and so is that it is to end. What ends the wait is the caller's.
    fn take(&mut self, mail: Mail) -> Option<Ended> {
        let Mail { bytes, ended, close, .. } = mail;
        match &mut self.hear {
            Some(hear) => hear(&bytes),
            None => self.mail.extend_from_slice(&bytes),
        }
        self.is_over |= close.is_some();
        ended
    }

    /// Takes the mail there is, if any.
    pub(super) fn take_mail(&mut self) {
        if let Some(mail) = self.session.client.mailbox.take() {
            self.take(mail);
        }
    }

    /// Waits for mail and takes it, while no command runs; false where it is the last.
    pub(super) async fn mailed(&mut self) -> bool {
        poll_fn(|cx| {
            self.session.client.mailbox.register(cx.waker());
            match self.session.client.mailbox.take() {
                Some(mail) => drop(self.take(mail)),
                None if !self.is_closed() => return Poll::Pending,
                None => {}
            }
            Poll::Ready(!self.is_closed())
        })
        .await
    }

    /// Notes whether mail that was taken says that it is to end.
    pub(super) fn note(&mut self, close: Option<bool>) {
        self.is_over |= close.is_some();
    }

    /// Runs commands one after the other; their replies are in `reply` then, and may be shown.
    pub(super) async fn run<'a>(&mut self, commands: impl IntoIterator<Item = Args<'a>>) {
        let mut call = Call { within: self, is_over: false };
        let within = &mut *call.within;
        within.ends.clear();
        within.is_refused = false;
        for args in commands {
            within.command(args).await;
            within.ends.push(within.reply.len());
        }
        within.session.settle();
        within.wait_in_line().await;
        within.wait_for_journal().await;
        call.is_over = true;
    }

    /// The values of what was run last.
    pub(super) fn values(&mut self) -> RedisResult<Vec<Value>> {
        let bytes = self.reply.take();
        let mut from = 0;
        let each = self.ends.iter().map(|end| {
            // Where the disk refuses, one error stands for all that was answered.
            let (begin, end) = if self.is_refused { (0, bytes.len()) } else { (from, *end) };
            from = end;
            read(&bytes[begin..end])
        });
        each.collect()
    }

    async fn command(&mut self, args: Args<'_>) {
        self.come();
        let mut flow = self.session.execute(args, &mut self.reply);
        while let Flow::Wait(wait) = flow {
            flow = match self.ended(wait).await {
                (wait, Ended::Answer { bytes, epoch, .. }) => {
                    if !wait.is_muted {
                        self.reply.raw(&bytes);
                    }
                    self.session.answered(&wait, &bytes);
                    if wait.tries_again {
                        self.session.fetching_failed(&wait);
                    }
                    self.session.wrote_epoch = self.session.wrote_epoch.max(epoch);
                    Flow::Next
                }
                (wait, Ended::Again) => self.session.execute_again(&wait, &mut self.reply),
                (wait, Ended::Unblocked { with_error }) => {
                    self.session.give_up(&wait, with_error, &mut self.reply);
                    Flow::Next
                }
            };
        }
    }

    /// It is looked at, by this thread.
    fn come(&mut self) {
        self.session.stats = self.session.instance.stats.here();
        self.session.tick();
        self.session.client.active_at.store(clock::monotonic_ms(), Relaxed);
    }

    /// Waits until a wait is ended, or its time is over.
    async fn ended(&mut self, wait: Wait) -> (Wait, Ended) {
        let mut alarm = Alarm::at(wait.until, self.timer);
        self.waiting = Some(wait);
        let ended = poll_fn(|cx| self.poll_ended(&mut alarm, cx)).await;
        let wait = self.waiting.take().expect("nobody else takes it while this is polled");
        self.session.come_back();
        self.session.stats = self.session.instance.stats.here();
        self.session.waited(&wait);
        (wait, ended)
    }

    fn poll_ended(&mut self, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<Ended> {
        self.session.client.mailbox.register(cx.waker());
        if let Some(mail) = self.session.client.mailbox.take() {
            let ended = self.take(mail);
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
        }
        // The server ends, or the client was killed, perhaps before this wait began: nobody may answer any more.
        if self.is_over && self.ends_wait() {
            return Poll::Ready(Ended::Unblocked { with_error: true });
        }
        if alarm.is_over(cx) && self.ends_wait() {
            let tries_again = self.waiting.as_ref().is_some_and(|wait| wait.tries_again);
            return Poll::Ready(if tries_again { Ended::Again } else { Ended::Unblocked { with_error: false } });
        }
        Poll::Pending
    }

    /// Whether nobody has ended the wait yet, and now it is.
    fn ends_wait(&self) -> bool {
        self.waiting.as_ref().is_some_and(|wait| wait.waiter.end())
    }

    /// Waits its turn where the journal grows too fast, as a client far away does.
    async fn wait_in_line(&mut self) {
        let bytes = self.session.take_wrote_bytes();
        let Some(durability) = self.session.instance.durability().cloned().filter(|_| bytes > 0) else { return };
        let Some(place) = durability.line_up(bytes, &mut self.session.line_share) else { return };
        while !self.session.client.mailbox.is_closing()
            && let Some(pause) = durability.pause(place)
        {
            sleep(pause, self.timer).await;
        }
    }

    /// Waits for a while until there is room in memory for what writers add, as a client far away does.
    async fn wait_for_room(&self, durability: &dyn Durability) {
        let Some(mut crowded) = durability.crowded() else { return };
        let mut comes = pin!(crowded.wait_for(|is_crowded| !is_crowded));
        let mut longest = pin!(sleep(CROWDED_WAIT_MAX, self.timer));
        let mut is_over = |cx: &mut Context<'_>| comes.as_mut().poll(cx).is_ready() || longest.as_mut().poll(cx).is_ready();
        poll_fn(|cx| if is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Waits until what was written has come as far as it must.
    async fn wait_for_journal(&mut self) {
        let Some(Awaited { stage, epoch }) = self.session.awaited() else { return };
        let Some(durability) = self.session.instance.durability().cloned() else { return };
        self.wait_for_room(&*durability).await;
        let mut reached = durability.reached(stage);
        durability.hurry(stage);
        // An error means that the journal is gone, and the server with it.
        let _ = reached.wait_for(|reached| *reached >= epoch || durability.refusal().is_some()).await;
        if *reached.borrow() < epoch
            && let Some(cause) = durability.refusal()
        {
            self.reply.truncate(0);
            self.reply.error(&not_kept(&cause));
            self.is_refused = true;
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.within.leave();
        }
    }
}

impl Within {
    /// Leaves whatever it waits for, and ends.
    fn leave(&mut self) {
        self.session.stats = self.session.instance.stats.here();
        if let Some(wait) = self.waiting.take() {
            // Either it was answered at the last moment, which must be noted once, or nobody will answer any more.
            wait.waiter.end();
            self.session.waited(&wait);
        }
        self.reply.truncate(0);
        self.session.close();
    }
}

/// Reads an answer. Most are a number, a string or nothing, for which the parser for all kinds takes longer than many a command.
fn read(bytes: &[u8]) -> RedisResult<Value> {
    match short(bytes) {
        Some(value) => Ok(value),
        None => redis::parse_redis_value(bytes),
    }
}

/// When something is to be looked at, though nobody woke whoever waits.
struct Alarm {
    /// On the monotonic clock; None for never.
    at: Option<u64>,
    timer: Timer,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Alarm {
    fn at(at: Option<u64>, timer: Timer) -> Alarm {
        Alarm { at, timer, sleep: None }
    }

    /// Whether its time has come; if not, the task is woken then. It comes once.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.at else { return false };
        let left = Duration::from_millis(at.saturating_sub(clock::monotonic_ms()));
        if left.is_zero() {
            self.at = None;
            return true;
        }
        match self.timer {
            Timer::Parked => parked::wake_at(at),
            Timer::Tokio => {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
                if sleep.as_mut().poll(cx).is_ready() {
                    // Its clock and ours may differ by a millisecond.
                    self.at = None;
                    return true;
                }
            }
        }
        false
    }
}

async fn sleep(pause: Duration, timer: Timer) {
    let at = clock::monotonic_ms().saturating_add(pause.as_millis().max(1) as u64);
    let mut alarm = Alarm::at(Some(at), timer);
    poll_fn(|cx| if alarm.is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}
