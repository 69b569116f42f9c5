use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, AsyncContext as _, Context, Handler, Message, WrapFuture as _, fut::ActorFutureExt as _,
};
use futures::channel::oneshot;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Assembly, Progress, cadence,
    ending::{Ending, Why},
    outage::{Outage, Verdict},
    sink::Sink,
};
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::{CommandEvent, OnDrop, Spec},
    protocol::{BashOutput, CommandHead, EventId},
    workspace::{
        attendant,
        core::{Core, count},
        feed::{self, Want},
        steps,
    },
};

/// How often everything is read again when the last event says that something is missing.
const MAX_REREADS: u32 = 4;

/// How long a final event may take that could not be read because a follower had no room.
const GIVE_UP_AFTER_FOLLOWER: Duration = Duration::from_secs(3);

/// The child actor that watches one running command: it decides when to look, puts the output together, holds the
/// deadline, and ends with the command's result.
pub(crate) struct CommandWatch {
    core: Rc<Core>,
    spec: Spec,
    started: Started,
    assembly: Assembly,
    sink: Sink,
    /// While a follower has no room, nothing is read.
    waiting_for_follower: bool,
    ending: Option<Ending>,
    outage: Outage,
    /// Whether everything is being read again, and how often it was.
    rereading: bool,
    rereads: u32,
    settled: Rc<Settled>,
    reply: Option<oneshot::Sender<Result<CommandResult, Failure>>>,
    caller: CancellationToken,
    on_drop: OnDrop,
}

/// A command that a server has started.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    /// The id that the server gave it.
    pub(crate) id: EventId,
    /// What was put before it.
    pub(crate) head: Option<CommandHead>,
    /// When its start was answered.
    pub(crate) at: Instant,
    /// When it was started, by the server's clock.
    pub(crate) server_time: Timestamp,
    /// How long the start took.
    pub(crate) round_trip: Duration,
    /// Whether it was found after its start had been forbidden: it may yet turn out not to have run.
    pub(crate) may_be_superseded: bool,
}

/// How the end of a command stands, for those who are ending it.
#[derive(Default)]
pub(crate) struct Settled {
    /// Cancelled when its end is settled.
    pub(crate) token: CancellationToken,
    /// Whether it had ended before it could be ended: its processes are then left alone.
    pub(crate) by_itself: Cell<bool>,
    /// Cancelled when what was done to end its processes is done.
    pub(crate) processes_ended: CancellationToken,
}

/// Who waits for a command.
pub(crate) struct Watching {
    pub(crate) caller: CancellationToken,
    pub(crate) on_drop: OnDrop,
    pub(crate) events: Option<mpsc::Sender<CommandEvent>>,
}

/// Output events of this command, or the word that there are no more for now.
#[derive(Message)]
#[rtype(result = "Appetite")]
pub(crate) struct News {
    pub(crate) events: Vec<BashOutput>,
    /// Whether this concludes a look that the child asked for.
    pub(crate) looked: bool,
}

/// Whether a child can take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, actix::MessageResponse)]
pub(crate) enum Appetite {
    /// It can.
    More,
    /// It cannot; it asks again when it can.
    Full,
}

/// A look failed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NewsFailed(pub(crate) Failure);

/// Nobody can tell any more what became of the command, for its server is another now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lost(pub(crate) Failure);

/// Ends the command. Answered when what can be done to end its processes is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;

impl CommandWatch {
    /// Starts watching; the result comes from the returned receiver.
    pub(crate) fn spawn(
        core: &Rc<Core>,
        spec: Spec,
        started: Started,
        watching: Watching,
    ) -> oneshot::Receiver<Result<CommandResult, Failure>> {
        let (reply, result) = oneshot::channel();
        let command = started.clone();
        let watch = Self {
            sink: Sink::new(spec.max_output, watching.events),
            core: core.clone(),
            spec,
            started,
            assembly: Assembly::default(),
            waiting_for_follower: false,
            ending: None,
            outage: Outage::default(),
            rereading: false,
            rereads: 0,
            settled: Rc::default(),
            reply: Some(reply),
            caller: watching.caller,
            on_drop: watching.on_drop,
        }
        .start();
        attendant::attend(core);
        if core.feed.add(&command, watch) {
            actix_rt::spawn(feed::run(Rc::downgrade(core)));
        }
        result
    }

    fn age(&self) -> Duration {
        // A command that is being ended is looked at as closely as a young one.
        self.ending.map_or(self.started.at, |ending| ending.since).elapsed()
    }

    fn want_after(&self, wait: Duration, everything: bool) {
        let (since, after_order) = self.assembly.cursor().unwrap_or((self.started.server_time, None));
        let want = Want { at: Instant::now() + wait, slack: cadence::slack(wait), since, after_order, everything };
        self.core.feed.want(self.started.id, want);
    }

    fn want_next(&self) {
        self.want_after(cadence::next_look(self.age()), false);
    }

    fn end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        if self.ending.is_some() || self.reply.is_none() {
            return;
        }
        self.ending = Some(ending);
        // There is not much time left to wait between tries.
        self.outage.over();
        let stop = steps::stop::end_processes(self.core.clone(), self.started.clone(), self.settled.clone());
        self.core.tasks.spawn_local(stop);
        self.want_after(self.started.round_trip.min(Duration::from_millis(5)), false);
        ctx.run_later(ending.give_up.saturating_duration_since(Instant::now()), Self::give_up);
    }

    /// The final event has not come in time.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        let Some(ending) = self.ending else { return };
        let left = ending.give_up.saturating_duration_since(Instant::now());
        let may_wait_for_follower = self.waiting_for_follower && !self.core.closing.is_cancelled();
        if may_wait_for_follower || !left.is_zero() {
            ctx.run_later(left.max(GIVE_UP_AFTER_FOLLOWER), Self::give_up);
            return;
        }
        for event in self.assembly.salvage() {
            self.sink.take(event);
        }
        // What the follower has no room for by now it will never take.
        let _ = self.sink.flush();
        match (ending.why, self.outage.last()) {
            (_, Some(failure)) => self.settle_unknown(format!("it was stopped, but then: {failure}"), ctx),
            (Why::Stopped, None) => self.settle_unknown("it was stopped, but its end was not reported".to_owned(), ctx),
            (Why::TimedOut, None) => self.settle_result(None, ctx),
        }
    }

    /// Nobody can tell any more what became of the command.
    fn settle_unknown(&mut self, reason: String, ctx: &mut Context<Self>) {
        let process_id = self.started.head.map(CommandHead::id);
        let kind = ErrorKind::OutcomeUnknown { reason, command_id: Some(self.started.id), process_id };
        self.settle(Err(Failure::done(kind)), ctx);
    }

    /// What the server says contradicts itself.
    fn settle_broken(&mut self, reason: String, ctx: &mut Context<Self>) {
        self.settle(Err(Failure::done(ErrorKind::Protocol { reason, cut_short: false })), ctx);
    }

    fn take(&mut self, events: Vec<BashOutput>, ctx: &mut Context<Self>) -> Appetite {
        for event in events {
            self.assembly.add(event);
        }
        while let Some(event) = self.assembly.release() {
            self.sink.take(event);
        }
        if let Some((follower, events)) = self.sink.flush() {
            self.wait_for_follower(follower, events, ctx);
            return Appetite::Full;
        }
        Appetite::More
    }

    fn wait_for_follower(
        &mut self,
        follower: mpsc::Sender<CommandEvent>,
        events: Vec<CommandEvent>,
        ctx: &mut Context<Self>,
    ) {
        self.waiting_for_follower = true;
        let sending = async move {
            for event in events {
                if follower.send(event).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(sending.into_actor(self).map(|(), watch, ctx| {
            watch.waiting_for_follower = false;
            if let Some(ending) = &mut watch.ending {
                // What the follower kept from being read needs its time too.
                ending.give_up = ending.give_up.max(Instant::now() + GIVE_UP_AFTER_FOLLOWER);
            }
            watch.go_on(ctx);
        }));
    }

    /// Decides what comes after a look: the end, another look, or everything once more.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        match self.assembly.progress() {
            Progress::Running => self.want_next(),
            Progress::Complete { exit_code } => self.settle_result(Some(exit_code), ctx),
            Progress::Short { have, want } if self.rereads >= MAX_REREADS => {
                self.settle_broken(format!("the output is incomplete: {have} of {want} parts could be read"), ctx);
            }
            Progress::Short { .. } => {
                // An event file that was being written is there a moment later.
                let wait = Duration::from_millis(50) * (self.rereads * self.rereads);
                self.rereading = true;
                self.want_after(wait, true);
            }
            Progress::Contradiction(reason) => self.settle_broken(reason, ctx),
        }
    }

    fn settle_result(&mut self, raw_exit_code: Option<i32>, ctx: &mut Context<Self>) {
        let by_itself = self.ended_by_itself();
        self.settled.by_itself.set(by_itself);
        let why = self.ending.map(|ending| ending.why).filter(|_| !by_itself);
        let (stdout, stderr) = self.sink.finish();
        let result = CommandResult {
            command: std::mem::take(&mut self.spec.command),
            exit_code: if why == Some(Why::TimedOut) { -1 } else { raw_exit_code.unwrap_or(-1) },
            timeout_occurred: why == Some(Why::TimedOut),
            stopped: why == Some(Why::Stopped),
            raw_exit_code,
            command_id: self.started.id,
            duration: self.started.at.elapsed(),
            stdout_bytes: stdout.total,
            stderr_bytes: stderr.total,
            // Without the last event nobody knows whether this is all.
            truncated: stdout.truncated || stderr.truncated || raw_exit_code.is_none(),
            stdout: stdout.text,
            stderr: stderr.text,
        };
        self.settle(Ok(result), ctx);
    }

    /// Whether the command had ended before it could be ended, which is told by the server's clock.
    fn ended_by_itself(&self) -> bool {
        let Some(ended) = self.assembly.ended_at() else { return false };
        let Some(ending) = self.ending else { return true };
        let took = ended.duration_since(self.started.server_time);
        let left_alone = ending.since.duration_since(self.started.at);
        let allowed = match (ending.why, self.spec.timeout) {
            (Why::TimedOut, Some(timeout)) => timeout.min(left_alone),
            _ => left_alone,
        };
        !took.is_negative() && took.unsigned_abs() <= allowed
    }

    fn settle(&mut self, result: Result<CommandResult, Failure>, ctx: &mut Context<Self>) {
        if let Some(reply) = self.reply.take() {
            count(&self.core.counters.commands_finished);
            // Nobody may be waiting any more, which is their choice.
            let _ = reply.send(result);
        }
        self.settled.token.cancel();
        ctx.stop();
    }

    /// Nobody waits for the command any more.
    fn abandoned(&mut self, ctx: &mut Context<Self>) {
        match self.on_drop {
            OnDrop::Stop => self.end(Ending::stopped(Instant::now()), ctx),
            OnDrop::Detach => {
                let reason = "nobody waits for it any more; it runs on".to_owned();
                self.settle(Err(Failure::done(ErrorKind::Stopped { reason })), ctx);
            }
        }
    }
}

impl Actor for CommandWatch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        count(&self.core.counters.commands_started);
        self.want_after(cadence::first_look(self.started.round_trip), false);
        if let Some(timeout) = self.spec.timeout {
            ctx.run_later(timeout.saturating_sub(self.started.at.elapsed()), move |watch, ctx| {
                let ending = Ending::timed_out(Instant::now(), watch.started.at, timeout);
                watch.end(ending, ctx);
            });
        }
        let caller = self.caller.clone();
        ctx.spawn(async move { caller.cancelled().await }.into_actor(self).map(|(), watch, ctx| watch.abandoned(ctx)));
        let closing = self.core.closing.clone();
        ctx.spawn(async move { closing.cancelled().await }.into_actor(self).map(|(), watch, ctx| {
            watch.end(Ending::stopped(Instant::now()), ctx);
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.core.feed.remove(self.started.id);
        self.settled.token.cancel();
    }
}

impl Handler<News> for CommandWatch {
    type Result = Appetite;

    fn handle(&mut self, news: News, ctx: &mut Self::Context) -> Appetite {
        if self.waiting_for_follower || self.reply.is_none() {
            return Appetite::Full;
        }
        if news.looked {
            self.outage.over();
            self.rereads += u32::from(std::mem::take(&mut self.rereading));
        }
        let appetite = self.take(news.events, ctx);
        if appetite == Appetite::More && (news.looked || matches!(self.assembly.progress(), Progress::Complete { .. }))
        {
            self.go_on(ctx);
        }
        appetite
    }
}

impl Handler<NewsFailed> for CommandWatch {
    type Result = ();

    fn handle(&mut self, NewsFailed(failure): NewsFailed, ctx: &mut Self::Context) {
        match self.outage.failed(failure.clone(), Instant::now(), self.core.config.max_outage, fastrand::f64()) {
            Verdict::Retry(wait) => self.want_after(wait, self.rereading),
            // What was under way when the command was ended decides when to give up.
            Verdict::GiveUp if self.ending.is_some() => self.want_after(Duration::from_millis(500), self.rereading),
            Verdict::GiveUp if failure.kind.is_transient() => {
                self.settle_unknown(format!("it was started, but then the server could not be asked: {failure}"), ctx);
            }
            Verdict::GiveUp => self.settle(Err(Failure::done(failure.kind)), ctx),
        }
    }
}

impl Handler<Lost> for CommandWatch {
    type Result = ();

    fn handle(&mut self, Lost(failure): Lost, ctx: &mut Self::Context) {
        self.settle(Err(failure), ctx);
    }
}

impl Handler<End> for CommandWatch {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: End, ctx: &mut Self::Context) -> Self::Result {
        self.end(Ending::stopped(Instant::now()), ctx);
        let settled = self.settled.clone();
        Box::pin(async move { settled.processes_ended.cancelled().await })
    }
}
