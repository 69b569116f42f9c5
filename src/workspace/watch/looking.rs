//! When a watch looks for news, and what it does with them.

use std::time::{Duration, Instant};

use actix::{AsyncContext as _, Context, Handler, WrapFuture as _, fut::ActorFutureExt as _};
use tokio::sync::mpsc;

use super::{
    Appetite, CommandWatch, News, NewsFailed, Progress, cadence, outage::Verdict, settling::GIVE_UP_AFTER_FOLLOWER,
};
use crate::{
    Failure,
    messages::CommandEvent,
    protocol::BashOutput,
    workspace::{
        feed::{Reach, Want},
        push,
    },
};

/// So many looks in a row that bring nothing new, and the last of them does not go by the server's clock.
const LOOKS_BY_TIME: u32 = 9;

/// How often everything is read again when the last event says that something is missing.
const MAX_REREADS: u32 = 4;

impl CommandWatch {
    pub(super) fn want_after(&self, wait: Duration) {
        self.want_at(Instant::now() + wait, wait);
    }

    /// Asks for a look at a time which is so long after the one before.
    fn want_at(&self, at: Instant, wait: Duration) {
        if self.is_unwanted() {
            return;
        }
        let (since, after_order) = self.assembly.cursor().unwrap_or((self.started.server_time, None));
        let reach = match self.reach {
            // Where nothing new comes, it may only seem old.
            Reach::New if self.quiet_looks % LOOKS_BY_TIME == LOOKS_BY_TIME - 1 => Reach::AnyTime,
            reach => reach,
        };
        let want = Want { at, slack: cadence::slack(wait), since, after_order, reach };
        self.core.feed.want(self.key, want);
    }

    /// Asks for the look after one that began then.
    fn want_next(&self, looked: Instant) {
        if self.reach == Reach::Behind {
            return self.want_after(Duration::ZERO);
        }
        if self.ending.is_none() && self.started.at.elapsed() >= push::LONG {
            push::begin(&self.core);
            if self.core.pushing.is_unknown(self.core.config.push) {
                // The server is to say whether it pushes before the output of a second has come late.
                self.core.attendant.look_first();
            }
        }
        // A command that is being ended is looked at as closely as a young one.
        let age = looked.saturating_duration_since(self.ending.map_or(self.started.at, |ending| ending.since));
        let live = self.core.pushing.live_for().filter(|_| self.ending.is_none());
        let wait = match live {
            Some(live) => cadence::next_look_when_pushed(live.min(age)),
            None => cadence::next_look(age),
        };
        self.want_at(cadence::due(looked, wait, Instant::now()), wait);
    }

    /// Takes in that there was something that could not be taken: it is asked for again, and not with others.
    fn fall_behind(&mut self) {
        self.reach = Reach::Behind;
    }

    fn take(&mut self, events: Vec<BashOutput>, ctx: &mut Context<Self>) -> Appetite {
        for event in events {
            if self.assembly.add(event) {
                self.quiet_looks = 0;
                // Whoever tells something new can be asked, also where a search does not get to its end.
                self.outage.over();
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

    /// Lets the next look bring only what comes after what was pushed. Where orders repeat, one of that order may be missing.
    fn move_on(&self) {
        if self.assembly.is_orderly()
            && let Some((since, after_order)) = self.assembly.cursor()
        {
            self.core.feed.has_got(self.key, since, after_order);
        }
    }

    pub(super) fn hand_on(&mut self, event: BashOutput) {
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
            watch.go_on(Instant::now(), ctx);
        }));
    }

    /// Decides what comes after a look that began then: the end, another look, or everything once more.
    fn go_on(&mut self, looked: Instant, ctx: &mut Context<Self>) {
        match self.assembly.progress() {
            Progress::Running => self.want_next(looked),
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

    /// Rests after a panic, and then reads everything again.
    pub(super) fn look_again_after(&mut self, rest: Duration, ctx: &mut Context<Self>) {
        self.resting = true;
        ctx.run_later(rest, |watch, _| {
            watch.resting = false;
            watch.reach = Reach::Everything;
            watch.want_after(Duration::ZERO);
        });
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
                    self.go_on(Instant::now(), ctx);
                }
                appetite
            }
            News::Looked(began, reach) => {
                self.outage.over();
                self.quiet_looks = self.quiet_looks.wrapping_add(1);
                // What was missed after this look had begun is left to the next one.
                if reach == self.reach {
                    self.rereads += u32::from(std::mem::take(&mut self.reach) == Reach::Everything);
                }
                self.go_on(began, ctx);
                Appetite::More
            }
            News::Pushed(event) => {
                let appetite = self.take(vec![event], ctx);
                if appetite == Appetite::More {
                    match self.assembly.progress() {
                        Progress::Running => self.move_on(),
                        // What is missing is asked for, from where the output stands.
                        Progress::Short { .. } => self.want_after(Duration::ZERO),
                        Progress::Complete { .. } | Progress::Contradiction(_) => self.go_on(Instant::now(), ctx),
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
