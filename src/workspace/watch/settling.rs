//! How a watch ends: by the command's own end, by a stop, by its time, or because nobody can tell.

use std::time::{Duration, Instant};

use actix::{ActorContext as _, AsyncContext as _, Context, WrapFuture as _, fut::ActorFutureExt as _};

use super::{
    CommandWatch, cadence,
    ending::{Ending, READ_ON, Why},
};
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::OnDrop,
    protocol::CommandHead,
    workspace::{core::count, feed, steps, supervision::CommandEnd},
};

/// How long the last event may take to come that is asked for when reading ends early.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long ending the processes of a command may take before the watch gives up on it.
const LONGEST_STOP: Duration = Duration::from_secs(20);

/// How long a final event may take that could not be read because a follower had no room.
pub(super) const GIVE_UP_AFTER_FOLLOWER: Duration = Duration::from_secs(3);

impl CommandWatch {
    pub(super) fn end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        if self.ending.is_some() || self.reply.is_none() {
            return;
        }
        self.ending = Some(ending);
        // There is not much time left to wait between tries.
        self.outage.over();
        let stop = steps::stop::end_processes(self.core.clone(), self.started.clone(), self.settled.clone());
        self.core.tasks.spawn_local(self.behalf.clone().carry_out(stop));
        self.want_after(cadence::first_look(self.started.round_trip.unwrap_or_default()));
        self.bound_ending(ending, ctx);
    }

    /// Sees to it that the watch ends, whether the last event comes or not.
    pub(super) fn bound_ending(&self, ending: Ending, ctx: &mut Context<Self>) {
        ctx.run_later(ending.give_up.saturating_duration_since(Instant::now()), Self::give_up);
        let settled = self.settled.clone();
        let ended = async move { settled.processes_ended.cancelled().await };
        ctx.spawn(ended.into_actor(self).map(|(), watch, ctx| watch.processes_ended(ctx)));
    }

    /// Whether nobody is there any more who could want the output: not only was the command cancelled, but the handle or the
    /// run that waited for it was dropped.
    pub(super) fn is_unwanted(&self) -> bool {
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
    pub(super) fn settle_unknown(&mut self, reason: String, ctx: &mut Context<Self>) {
        let process_id = self.started.head.map(CommandHead::id);
        let kind = ErrorKind::OutcomeUnknown { reason, command_id: Some(self.started.id), process_id };
        self.settle(Err(Failure::done(kind)), ctx);
    }

    /// What the server says contradicts itself.
    pub(super) fn settle_broken(&mut self, reason: String, ctx: &mut Context<Self>) {
        self.settle(Err(Failure::done(ErrorKind::Protocol { reason, cut_short: false })), ctx);
    }

    /// Ends with a result. Without the last event, or with output that was not read, the output is less than was written.
    pub(super) fn settle_result(&mut self, raw_exit_code: Option<i32>, whole: bool, ctx: &mut Context<Self>) {
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
        let Ok(took) = Duration::try_from(took) else { return false };
        let left_alone = ending.since.duration_since(self.started.at);
        let way = match self.assembly.exit_code() {
            // What was stopped was ended by a signal, or by what it does on one, which comes later than the stop.
            Some(0..) => self.started.round_trip.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        took <= ending.left_alone(left_alone, self.spec.timeout, way)
    }

    /// Whether the server ended the command because its time was up, while nobody watched it.
    fn was_timed_out(&self, raw_exit_code: Option<i32>) -> bool {
        let (Some(ended), Some(timeout)) = (self.assembly.ended_at(), self.spec.timeout) else { return false };
        let took = ended.duration_since(self.started.server_time);
        self.attached
            && raw_exit_code.is_some_and(|code| code < 0)
            && Duration::try_from(took).is_ok_and(|took| took >= timeout)
    }

    pub(super) fn settle(&mut self, result: Result<CommandResult, Failure>, ctx: &mut Context<Self>) {
        // Whoever hears of the end finds no more work than goes on.
        drop(std::mem::take(&mut self.behalf));
        if let Some(reply) = self.reply.take() {
            if self.counts {
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
    pub(super) fn abandoned(&mut self, ctx: &mut Context<Self>) {
        match self.on_drop {
            OnDrop::Stop => self.end(Ending::stopped(Instant::now()), ctx),
            OnDrop::Detach => self.let_go("nobody waits for it any more; it runs on", ctx),
        }
    }

    /// The workspace ends.
    pub(super) fn closing(&mut self, ctx: &mut Context<Self>) {
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
}
