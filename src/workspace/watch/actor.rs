use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, AsyncContext as _, Context, Handler, Supervised, WrapFuture as _,
    fut::ActorFutureExt as _,
};
use futures::channel::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Assembly, End, Lost, Settled, Started, Watching, cadence, ending::Ending, guard::guard, outage::Outage, sink::Sink,
};
use crate::{
    CommandResult, Failure,
    messages::{OnDrop, Spec},
    workspace::{
        attendant,
        behalf::Behalf,
        core::{Core, count},
        feed::{self, Reach, WatchKey},
        supervision::Guarded,
    },
};

/// The child actor that watches one running command: it decides when to look, puts the output together, holds the
/// deadline, and ends with the command's result.
///
/// After a panic it is started again: what it knew of the output is thrown away and read again from the first event, and
/// what the follower has got already is not sent again.
pub(crate) struct CommandWatch {
    pub(super) core: Rc<Core>,
    pub(super) key: WatchKey,
    /// Whether the command was started before, by whomever.
    pub(super) attached: bool,
    /// Whether it is counted: it was started here, and for somebody.
    pub(super) counts: bool,
    /// Whether the command goes on when the workspace ends.
    pub(super) outlives: bool,
    pub(super) spec: Spec,
    pub(super) started: Started,
    pub(super) assembly: Assembly,
    pub(super) sink: Sink,
    /// While a follower has no room, nothing is read.
    pub(super) waiting_for_follower: bool,
    pub(super) ending: Option<Ending>,
    pub(super) outage: Outage,
    /// From where on the next look reads.
    pub(super) reach: Reach,
    /// How often everything was read again.
    pub(super) rereads: u32,
    /// How many looks in a row have brought nothing new.
    pub(super) quiet_looks: u32,
    pub(super) settled: Rc<Settled>,
    pub(super) reply: Option<oneshot::Sender<Result<CommandResult, Failure>>>,
    pub(super) caller: CancellationToken,
    pub(super) on_drop: OnDrop,
    /// How long to rest before looking again; set by the guard before it starts the watch again.
    pub(super) rest: Rc<Cell<Option<Duration>>>,
    /// While it rests after a panic it takes nothing.
    pub(super) resting: bool,
    /// Whether it was decided when to stop reading, last event or not.
    pub(super) cutting: bool,
    /// Who waits until the command has ended, with its processes.
    pub(super) behalf: Behalf,
}

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
            counts: !attached && !watching.is_own,
            outlives: watching.outlives,
            core: core.clone(),
            spec,
            assembly: assembly_for(&started),
            started,
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
        if watch.counts {
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
}

/// The embedded agent server alone tells which start of it started a command.
fn assembly_for(started: &Started) -> Assembly {
    if started.instance.is_some() { Assembly::orderly() } else { Assembly::default() }
}

impl Supervised for CommandWatch {
    fn restarting(&mut self, _: &mut Self::Context) {
        // A panic in the middle of a change may have left these half done.
        self.assembly = assembly_for(&self.started);
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
            None => {
                let quickest = self.started.round_trip.map(|round_trip| self.core.feed.quickest_start(round_trip));
                self.want_after(cadence::first_look(quickest.unwrap_or_default()));
            }
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
