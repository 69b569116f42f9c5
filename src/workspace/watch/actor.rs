use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, AsyncContext as _, Context, Handler, Message, Supervised, WrapFuture as _,
    fut::ActorFutureExt as _,
};
use futures::channel::oneshot;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Assembly, Progress, cadence,
    ending::{Ending, READ_ON, Why},
    guard::guard,
    outage::{Outage, Verdict},
    sink::Sink,
};
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::{CommandEvent, OnDrop, Spec},
    protocol::{BashOutput, CommandHead, EventId},
    workspace::{
        attendant,
        behalf::Behalf,
        core::{Core, count},
        feed::{self, Reach, Want, WatchKey},
        push, steps,
        supervision::{CommandEnd, Guarded},
    },
};

/// So many looks in a row that bring nothing new, and the last of them does not go by the server's clock.
const LOOKS_BY_TIME: u32 = 9;

/// How often everything is read again when the last event says that something is missing.
const MAX_REREADS: u32 = 4;

/// How long the last event may take to come that is asked for when reading ends early.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long ending the processes of a command may take before the watch gives up on it.
const LONGEST_STOP: Duration = Duration::from_secs(20);

/// How long a final event may take that could not be read because a follower had no room.
const GIVE_UP_AFTER_FOLLOWER: Duration = Duration::from_secs(3);

/// The child actor that watches one running command: it decides when to look, puts the output together, holds the
/// deadline, and ends with the command's result.
///
/// After a panic it is started again: what it knew of the output is thrown away and read again from the first event, and
/// what the follower has got already is not sent again.
pub(crate) struct CommandWatch {
    core: Rc<Core>,
    key: WatchKey,
    /// Whether the command was started before, by whomever.
    attached: bool,
    /// Whether the command goes on when the workspace ends.
    outlives: bool,
    spec: Spec,
    started: Started,
    assembly: Assembly,
    sink: Sink,
    /// While a follower has no room, nothing is read.
    waiting_for_follower: bool,
    ending: Option<Ending>,
    outage: Outage,
    /// From where on the next look reads.
    reach: Reach,
    /// How often everything was read again.
    rereads: u32,
    /// How many looks in a row have brought nothing new.
    quiet_looks: u32,
    settled: Rc<Settled>,
    reply: Option<oneshot::Sender<Result<CommandResult, Failure>>>,
    caller: CancellationToken,
    on_drop: OnDrop,
    /// How long to rest before looking again; set by the guard before it starts the watch again.
    rest: Rc<Cell<Option<Duration>>>,
    /// While it rests after a panic it takes nothing.
    resting: bool,
    /// Whether it was decided when to stop reading, last event or not.
    cutting: bool,
    /// Who waits until the command has ended, with its processes.
    behalf: Behalf,
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
    /// Which start of which server started it, where servers tell.
    pub(crate) instance: Option<String>,
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
    /// Whether that reached the server, so that they have ended as far as can be known.
    pub(crate) surely: Cell<bool>,
}

/// Who waits for a command.
pub(crate) struct Watching {
    pub(crate) caller: CancellationToken,
    pub(crate) on_drop: OnDrop,
    /// Closed when nobody is there any more, whether output is followed or not.
    pub(crate) events: Option<mpsc::Sender<CommandEvent>>,
    pub(crate) follow_output: bool,
    /// Whether the command goes on when the workspace ends.
    pub(crate) outlives: bool,
    /// For a command that was started before, from which bytes of its streams on the output is wanted.
    pub(crate) from: Option<[u64; 2]>,
    /// How many bytes of its streams the follower has got already.
    pub(crate) told: [u64; 2],
}

/// Output events of this command, or the word that there are no more for now.
#[derive(Message)]
#[rtype(result = "Appetite")]
pub(crate) enum News {
    /// A search has found these.
    Found(Vec<BashOutput>),
    /// That was all that there is: the look is over that the child asked for, which reached so far back.
    Looked(Reach),
    /// The server has told of this by itself.
    Pushed(BashOutput),
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
        let (command, key) = (started.clone(), core.feed.new_key());
        let attached = watching.from.is_some();
        let sink = Sink::new(spec.max_output, watching.events, watching.follow_output);
        let rest = Rc::new(Cell::new(None));
        let watch = Self {
            sink: sink.from(watching.from.unwrap_or_default()).told(watching.told),
            key,
            attached,
            outlives: watching.outlives,
            core: core.clone(),
            spec,
            started,
            assembly: Assembly::default(),
            waiting_for_follower: false,
            ending: None,
            outage: Outage::default(),
            // Searches that others share have moved past what was written before.
            reach: if attached { Reach::Everything } else { Reach::New },
            rereads: 0,
            quiet_looks: 0,
            settled: Rc::default(),
            reply: Some(reply),
            caller: watching.caller,
            on_drop: watching.on_drop,
            rest: rest.clone(),
            resting: false,
            cutting: false,
            behalf: Behalf::current(),
        };
        if !attached {
            count(&core.counters.commands_started);
        }
        let context = Context::new();
        let address = context.address();
        actix_rt::spawn(guard(core.clone(), command.id, Guarded::new(context, watch), rest));
        attendant::attend(core);
        if core.feed.add(key, &command, address) {
            actix_rt::spawn(feed::run(Rc::downgrade(core)));
        }
        result
    }

    fn age(&self) -> Duration {
        // A command that is being ended is looked at as closely as a young one.
        self.ending.map_or(self.started.at, |ending| ending.since).elapsed()
    }

    fn want_after(&self, wait: Duration) {
        if self.is_unwanted() {
            return;
        }
        let (since, after_order) = self.assembly.cursor().unwrap_or((self.started.server_time, None));
        let reach = match self.reach {
            // Where nothing new comes, it may only seem old.
            Reach::New if self.quiet_looks % LOOKS_BY_TIME == LOOKS_BY_TIME - 1 => Reach::AnyTime,
            reach => reach,
        };
        let want = Want { at: Instant::now() + wait, slack: cadence::slack(wait), since, after_order, reach };
        self.core.feed.want(self.key, want);
    }

    fn want_next(&self) {
        let age = self.age();
        if self.reach == Reach::Behind {
            return self.want_after(Duration::ZERO);
        }
        if self.ending.is_some() {
            return self.want_after(cadence::next_look(age));
        }
        if age >= push::LONG {
            push::begin(&self.core);
            if self.core.pushing.is_unknown(self.core.config.push) {
                // The server is to say whether it pushes before the output of a second has come late.
                self.core.attendant.look_first();
            }
        }
        self.want_after(match self.core.pushing.live_for() {
            Some(live) => cadence::next_look_when_pushed(live.min(age)),
            None => cadence::next_look(age),
        });
    }

    /// Takes in that there was something that could not be taken: it is asked for again, and not with others.
    fn fall_behind(&mut self) {
        self.reach = Reach::Behind;
    }

    fn end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        if self.ending.is_some() || self.reply.is_none() {
            return;
        }
        self.ending = Some(ending);
        // There is not much time left to wait between tries.
        self.outage.over();
        let stop = steps::stop::end_processes(self.core.clone(), self.started.clone(), self.settled.clone());
        self.core.tasks.spawn_local(self.behalf.clone().carry_out(stop));
        self.want_after(self.started.round_trip.min(Duration::from_millis(5)));
        self.bound_ending(ending, ctx);
    }

    /// Sees to it that the watch ends, whether the last event comes or not.
    fn bound_ending(&self, ending: Ending, ctx: &mut Context<Self>) {
        ctx.run_later(ending.give_up.saturating_duration_since(Instant::now()), Self::give_up);
        let settled = self.settled.clone();
        let ended = async move { settled.processes_ended.cancelled().await };
        ctx.spawn(ended.into_actor(self).map(|(), watch, ctx| watch.processes_ended(ctx)));
    }

    /// Whether nobody is there any more who could want the output: not only was the command cancelled, but the handle or the
    /// run that waited for it was dropped.
    fn is_unwanted(&self) -> bool {
        self.ending.is_some() && self.caller.is_cancelled() && self.sink.nobody_is_there()
    }

    /// What can be done to end the processes is done. For a caller that has given up, reading on is bounded from here on.
    fn processes_ended(&mut self, ctx: &mut Context<Self>) {
        if !self.settled.surely.get() {
            // Whether they have ended is told by the last event only.
            return;
        }
        if self.is_unwanted() {
            self.settle_result(None, false, ctx);
        } else if self.caller.is_cancelled() || self.core.closing.is_cancelled() {
            self.cutting = true;
            ctx.run_later(READ_ON, Self::cut_short);
        }
    }

    /// Enough was read of a command that was given up: ends with what there is. How it ended is asked for once more, past all
    /// the output that was not read.
    fn cut_short(&mut self, ctx: &mut Context<Self>) {
        let (core, id) = (self.core.clone(), self.started.id);
        let last = async move {
            let last = async { feed::last_output(&core.client()?, id).await };
            actix_rt::time::timeout(LAST_LOOK, last).await
        };
        ctx.spawn(last.into_actor(self).map(|last, watch, ctx| {
            if let Ok(Ok(Some(last))) = last
                && last.is_final()
            {
                watch.assembly.add(last);
            }
            let exit_code = watch.assembly.exit_code();
            watch.salvage();
            watch.settle_result(exit_code, false, ctx);
        }));
    }

    /// Gives up on what is missing, and hands on what there is.
    fn salvage(&mut self) {
        for event in self.assembly.salvage() {
            self.hand_on(event);
        }
        // What the follower has no room for by now it will never take.
        let _ = self.sink.flush();
    }

    /// The final event has not come in time.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        let Some(ending) = self.ending else { return };
        let left = ending.give_up.saturating_duration_since(Instant::now());
        let given_up = self.core.closing.is_cancelled() || self.caller.is_cancelled();
        if self.cutting {
            return;
        }
        let still_stopping =
            given_up && !self.settled.processes_ended.is_cancelled() && ending.since.elapsed() < LONGEST_STOP;
        if left.is_zero() && still_stopping {
            // Whether its processes have ended is about to be known.
            ctx.run_later(LAST_LOOK, Self::give_up);
            return;
        }
        let may_wait_for_follower = self.waiting_for_follower && !given_up;
        if may_wait_for_follower || !left.is_zero() {
            ctx.run_later(left.max(GIVE_UP_AFTER_FOLLOWER), Self::give_up);
            return;
        }
        self.salvage();
        match (ending.why, self.outage.last()) {
            (_, Some(failure)) => self.settle_unknown(format!("it was stopped, but then: {failure}"), ctx),
            (Why::Stopped, None) => self.settle_unknown("it was stopped, but its end was not reported".to_owned(), ctx),
            (Why::TimedOut, None) => self.settle_result(None, false, ctx),
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
            if self.assembly.add(event) {
                self.quiet_looks = 0;
            }
        }
        while let Some(event) = self.assembly.release() {
            #[cfg(test)]
            self.core.record.faults.strike_watch(&event);
            self.hand_on(event);
        }
        if let Some((follower, events)) = self.sink.flush() {
            self.wait_for_follower(follower, events, ctx);
            return Appetite::Full;
        }
        Appetite::More
    }

    fn hand_on(&mut self, event: BashOutput) {
        let read = &self.core.counters.output_bytes;
        read.set(read.get() + self.sink.take(event));
    }

    fn wait_for_follower(
        &mut self,
        follower: mpsc::Sender<CommandEvent>,
        events: Vec<CommandEvent>,
        ctx: &mut Context<Self>,
    ) {
        self.waiting_for_follower = true;
        let delivered = self.sink.delivered();
        let sending = async move {
            for event in events {
                let Ok(room) = follower.reserve().await else { return };
                delivered.add(&event);
                room.send(event);
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
            Progress::Complete { exit_code } => self.settle_result(Some(exit_code), true, ctx),
            Progress::Short { have, want } if self.rereads >= MAX_REREADS => {
                self.settle_broken(format!("the output is incomplete: {have} of {want} parts could be read"), ctx);
            }
            Progress::Short { .. } => {
                // An event file that was being written is there a moment later.
                let wait = Duration::from_millis(50) * (self.rereads * self.rereads);
                self.reach = Reach::Everything;
                self.want_after(wait);
            }
            Progress::Contradiction(reason) => self.settle_broken(reason, ctx),
        }
    }

    /// Ends with a result. Without the last event, or with output that was not read, the output is less than was written.
    fn settle_result(&mut self, raw_exit_code: Option<i32>, whole: bool, ctx: &mut Context<Self>) {
        let by_itself = self.ended_by_itself();
        self.settled.by_itself.set(by_itself);
        let why = self.ending.map(|ending| ending.why).filter(|_| !by_itself);
        let why = why.or_else(|| self.was_timed_out(raw_exit_code).then_some(Why::TimedOut));
        let (stdout, stderr) = self.sink.finish();
        let result = CommandResult {
            command: std::mem::take(&mut self.spec.command),
            exit_code: if why == Some(Why::TimedOut) { -1 } else { raw_exit_code.unwrap_or(-1) },
            timeout_occurred: why == Some(Why::TimedOut),
            stopped: why == Some(Why::Stopped),
            raw_exit_code,
            command_id: self.started.id,
            duration: self.duration(),
            stdout_bytes: stdout.total,
            stderr_bytes: stderr.total,
            truncated: stdout.truncated || stderr.truncated || !whole,
            stdout: stdout.text,
            stderr: stderr.text,
            trace: None,
        };
        self.settle(Ok(result), ctx);
    }

    /// How long the command took; of one that was attached to, by the server's clock where its end is known.
    fn duration(&self) -> Duration {
        match self.assembly.ended_at().filter(|_| self.attached) {
            Some(ended) => Duration::try_from(ended.duration_since(self.started.server_time)).unwrap_or_default(),
            None => self.started.at.elapsed(),
        }
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

    /// Whether the server ended the command because its time was up, while nobody watched it.
    fn was_timed_out(&self, raw_exit_code: Option<i32>) -> bool {
        let (Some(ended), Some(timeout)) = (self.assembly.ended_at(), self.spec.timeout) else { return false };
        let took = ended.duration_since(self.started.server_time);
        self.attached
            && raw_exit_code.is_some_and(|code| code < 0)
            && Duration::try_from(took).is_ok_and(|took| took >= timeout)
    }

    fn settle(&mut self, result: Result<CommandResult, Failure>, ctx: &mut Context<Self>) {
        // Whoever hears of the end finds no more work than goes on.
        drop(std::mem::take(&mut self.behalf));
        if let Some(reply) = self.reply.take() {
            if !self.attached {
                count(&self.core.counters.commands_finished);
                self.core.record.ended(self.started.id, CommandEnd::from(&result));
            }
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
            OnDrop::Detach => self.let_go("nobody waits for it any more; it runs on", ctx),
        }
    }

    /// The workspace ends.
    fn closing(&mut self, ctx: &mut Context<Self>) {
        if (self.outlives || self.core.record.detaching.get()) && self.ending.is_none() {
            self.let_go("its workspace has ended; it runs on", ctx);
        } else {
            self.end(Ending::stopped(Instant::now()), ctx);
        }
    }

    /// Leaves the command running, unwatched.
    fn let_go(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.settle(Err(Failure::done(ErrorKind::Stopped { reason: reason.to_owned() })), ctx);
    }

    /// Rests after a panic, and then reads everything again.
    fn look_again_after(&mut self, rest: Duration, ctx: &mut Context<Self>) {
        self.resting = true;
        ctx.run_later(rest, |watch, _| {
            watch.resting = false;
            watch.reach = Reach::Everything;
            watch.want_after(Duration::ZERO);
        });
    }
}

impl Supervised for CommandWatch {
    fn restarting(&mut self, _: &mut Self::Context) {
        // A panic in the middle of a change may have left these half done.
        self.assembly = Assembly::default();
        self.outage = Outage::default();
        self.sink.begin_again();
        (self.waiting_for_follower, self.reach, self.rereads, self.cutting) = (false, Reach::New, 0, false);
        self.quiet_looks = 0;
    }
}

impl Actor for CommandWatch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.reply.is_none() {
            // It panicked when all was done.
            ctx.stop();
            return;
        }
        match self.rest.take() {
            Some(rest) => self.look_again_after(rest, ctx),
            None => self.want_after(cadence::first_look(self.started.round_trip)),
        }
        if let Some(ending) = self.ending {
            self.bound_ending(ending, ctx);
        }
        if let Some(timeout) = self.spec.timeout {
            ctx.run_later(timeout.saturating_sub(self.started.at.elapsed()), move |watch, ctx| {
                let ending = Ending::timed_out(Instant::now(), watch.started.at, timeout);
                watch.end(ending, ctx);
            });
        }
        let caller = self.caller.clone();
        ctx.spawn(async move { caller.cancelled().await }.into_actor(self).map(|(), watch, ctx| watch.abandoned(ctx)));
        let closing = self.core.closing.clone();
        ctx.spawn(async move { closing.cancelled().await }.into_actor(self).map(|(), watch, ctx| watch.closing(ctx)));
    }

    fn stopped(&mut self, ctx: &mut Self::Context) {
        if self.reply.is_some() {
            let last = self.core.record.last_failure().unwrap_or_else(|| "it was stopped".to_owned());
            self.settle_unknown(format!("the actor that watched it ended unexpectedly: {last}"), ctx);
        }
        self.core.feed.remove(self.key);
        self.settled.token.cancel();
    }
}

impl Handler<News> for CommandWatch {
    type Result = Appetite;

    fn handle(&mut self, news: News, ctx: &mut Self::Context) -> Appetite {
        if self.waiting_for_follower || self.resting || self.reply.is_none() || self.is_unwanted() {
            self.fall_behind();
            return Appetite::Full;
        }
        match news {
            News::Found(events) => {
                let appetite = self.take(events, ctx);
                if appetite == Appetite::Full {
                    // The pages that follow are not read.
                    self.fall_behind();
                } else if matches!(self.assembly.progress(), Progress::Complete { .. }) {
                    self.go_on(ctx);
                }
                appetite
            }
            News::Looked(reach) => {
                self.outage.over();
                self.quiet_looks = self.quiet_looks.wrapping_add(1);
                // What was missed after this look had begun is left to the next one.
                if reach == self.reach {
                    self.rereads += u32::from(std::mem::take(&mut self.reach) == Reach::Everything);
                }
                self.go_on(ctx);
                Appetite::More
            }
            News::Pushed(event) => {
                let appetite = self.take(vec![event], ctx);
                if appetite == Appetite::More {
                    match self.assembly.progress() {
                        Progress::Running => {}
                        // What is missing is asked for, from where the output stands.
                        Progress::Short { .. } => self.want_after(Duration::ZERO),
                        Progress::Complete { .. } | Progress::Contradiction(_) => self.go_on(ctx),
                    }
                }
                appetite
            }
        }
    }
}

impl Handler<NewsFailed> for CommandWatch {
    type Result = ();

    fn handle(&mut self, NewsFailed(failure): NewsFailed, ctx: &mut Self::Context) {
        match self.outage.failed(failure.clone(), Instant::now(), self.core.config.max_outage, fastrand::f64()) {
            Verdict::Retry(wait) => self.want_after(wait),
            // What was under way when the command was ended decides when to give up.
            Verdict::GiveUp if self.ending.is_some() => self.want_after(Duration::from_millis(500)),
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
