//! The decisions of a run, without I/O and without a clock of its own.
//!
//! The driver reports what happened and when; the dispatcher says what to do next. Times are durations since the run's
//! start. A target waits for a *seat*: a workspace that it may be carried out on. Either it is bound to one, or it waits
//! at a *place*, which is a set of seats of which any will do.
//!
//! An event costs O(log n). With a cap for hosts and one for labels at once, it costs as many steps more as there are
//! different pairs of host and label behind the cap that was reached or left; a seat that changes its state, as many as
//! there are different selectors that pick it.

#[cfg(test)]
mod restored_tests;
mod seats;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use seats::{At, Seats, State};

use super::policy::{CancelReason, FailLimit, MaxFail, OnMaxFail};
use crate::fleet::{Outcome, OutcomeCounts};

/// A target by its position in the run.
pub(super) type TargetNo = usize;
/// A workspace by its position in the run.
pub(super) type SeatNo = usize;
/// A set of workspaces by the order of their first use.
pub(super) type PlaceNo = usize;

/// What a run is held to.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many targets run at once.
    pub(super) fanout: usize,
    /// The time between two starts.
    pub(super) gap: Duration,
    pub(super) per_host: Option<usize>,
    pub(super) per_label: Option<usize>,
    pub(super) max_fail: Option<MaxFail>,
    pub(super) global_timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) transport_retries: u32,
    /// Whether a workspace that was lost is used no more.
    pub(super) lose_seats: bool,
    /// Whether targets whose workspace was lost go on to another one.
    pub(super) move_lost: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Time passed, or targets were added.
    Tick,
    /// A target's attempt ended. It is reported next.
    Ended {
        target: TargetNo,
        outcome: Outcome,
        again: Again,
        /// Whether its workspace can be used no more.
        lost: bool,
    },
    /// What came of an attempt was reported: its place in the window is free.
    Reported { target: TargetNo },
    /// An attempt did not begin: somebody else has its workspace.
    Occupied { target: TargetNo },
    /// A workspace that somebody else had can be used.
    Vacant { seat: SeatNo },
    /// A workspace that nothing runs on can be used no more.
    SeatLost { seat: SeatNo, outcome: Outcome },
    /// Nothing shall begin any more.
    Drain,
    /// The run shall end.
    Cancel,
}

/// Whether an attempt that failed may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// The command failed.
    Command,
    /// The workspace could not be used, and nothing was done. It rests for that long.
    Transport {
        after: Duration,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin an attempt.
    Start { target: TargetNo, seat: SeatNo, attempt: u32 },
    /// Report an attempt that ended as one of several.
    Retry { target: TargetNo },
    /// Report an attempt that ended as the end of its target.
    Finish { target: TargetNo },
    /// Report the end of a target that waited: it never had its turn, or another one will not come.
    GiveUp { target: TargetNo, outcome: Outcome, attempt: u32 },
    /// Say that the run ends early.
    Cancelled(CancelReason),
    /// Stop everything that runs.
    StopRunning(CancelReason),
}

/// What a target has behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    attempts: u32,
    reruns: u32,
    transport: u32,
    last: Option<Outcome>,
}

impl Tries {
    /// What a target has behind it that was carried on by an earlier process: so many attempts were begun, and so many of these
    /// ended with a command that failed, or for want of a workspace that could be used.
    pub(super) const fn before(attempts: u32, failed: u32, unusable: u32, last: Option<Outcome>) -> Self {
        Self { attempts, reruns: failed, transport: unusable, last }
    }
}

#[derive(Debug)]
struct Running {
    seat: SeatNo,
    tries: Tries,
    /// What its seat does when the attempt is reported; set when it has ended.
    then: Option<Then>,
}

#[derive(Debug, Clone, Copy)]
struct Then {
    again: bool,
    rest: Option<Duration>,
}

/// The state of a run.
#[derive(Debug)]
pub(super) struct Dispatcher {
    rules: Rules,
    seats: Seats,
    /// Where each target may run.
    at: Vec<At>,
    /// Where targets may run for which only one seat will do until their attempt has ended.
    home: HashMap<TargetNo, At>,
    running: HashMap<TargetNo, Running>,
    /// Of those that wait for another attempt.
    tries: HashMap<TargetNo, Tries>,
    /// Seats that are left alone until then.
    resting: BTreeSet<(Duration, SeatNo)>,
    failed: usize,
    flaky: usize,
    outcomes: OutcomeCounts,
    next_start: Duration,
    cancelled: Option<CancelReason>,
    /// How many of those that run have ended for good, and are being reported.
    ending: usize,
    /// Whether targets may still be added.
    open: bool,
}

impl Dispatcher {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            seats: Seats::new(rules.per_host, rules.per_label),
            rules,
            at: Vec::new(),
            home: HashMap::new(),
            running: HashMap::new(),
            tries: HashMap::new(),
            resting: BTreeSet::new(),
            failed: 0,
            flaky: 0,
            outcomes: OutcomeCounts::default(),
            next_start: Duration::ZERO,
            cancelled: None,
            ending: 0,
            open: false,
        }
    }

    /// Says whether targets may still be added. Failures in percent are judged when all targets are known, with the next input.
    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Adds a workspace behind this host and with this value of the label that is capped.
    pub(super) fn add_seat(&mut self, host: Option<&str>, label: Option<&str>) -> SeatNo {
        self.seats.add(host, label)
    }

    /// Names a set of workspaces.
    pub(super) fn add_place(&mut self, seats: &[SeatNo]) -> PlaceNo {
        self.seats.add_place(seats)
    }

    /// Adds a target that runs on this workspace and no other. It begins with the next input.
    pub(super) fn add_bound(&mut self, seat: SeatNo) -> TargetNo {
        self.add(At::Seat(seat))
    }

    /// Adds a target that runs on any of these workspaces. It begins with the next input.
    pub(super) fn add_any(&mut self, place: PlaceNo) -> TargetNo {
        self.add(At::Place(place))
    }

    fn add(&mut self, at: At) -> TargetNo {
        let target = self.at.len();
        self.at.push(at);
        self.seats.wait(target, at);
        target
    }

    /// Counts a target that ended before the first input.
    pub(super) fn restore_ended(&mut self, target: TargetNo, outcome: Outcome, attempts: u32) {
        self.seats.forget(target, self.at[target]);
        self.count(outcome, attempts);
    }

    /// Lets a target wait for another attempt that has these behind it.
    pub(super) fn restore_waiting(&mut self, target: TargetNo, tries: Tries) {
        self.tries.insert(target, tries);
    }

    /// Goes on with the last attempt at a target, on the workspace where it had begun and on no other: at once, or when that
    /// is free.
    pub(super) fn restore_running(&mut self, target: TargetNo, seat: SeatNo, mut tries: Tries) -> Option<Action> {
        self.seats.forget(target, self.at[target]);
        self.home.insert(target, std::mem::replace(&mut self.at[target], At::Seat(seat)));
        if self.seats.state(seat) != State::Free {
            tries.attempts -= 1;
            self.tries.insert(target, tries);
            self.seats.wait(target, At::Seat(seat));
            return None;
        }
        self.seats.set(seat, State::Busy);
        self.seats.enter(seat);
        self.running.insert(target, Running { seat, tries, then: None });
        Some(Action::Start { target, seat, attempt: tries.attempts })
    }

    /// Lets nothing begin any more, as was said before.
    pub(super) fn restore_cancelled(&mut self, reason: CancelReason) {
        self.cancelled = Some(reason);
    }

    /// Takes in what happened at `now`, and says what to do.
    pub(super) fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Tick => {}
            Input::Drain => self.cancel(CancelReason::Drained, &mut actions),
            Input::Cancel => self.cancel(CancelReason::Cancelled, &mut actions),
            Input::Ended { target, outcome, again, lost } => {
                self.ended(now, target, outcome, again, lost, &mut actions);
            }
            Input::Reported { target } => self.reported(target, &mut actions),
            Input::Occupied { target } => self.occupied(now, target),
            Input::Vacant { seat } => {
                if self.seats.state(seat) == State::Occupied {
                    self.seats.set(seat, State::Free);
                }
            }
            Input::SeatLost { seat, outcome } => self.lose(seat, outcome, &mut actions),
        }
        self.count_failures(&mut actions);
        if self.rules.global_timeout.is_some_and(|timeout| now >= timeout) {
            self.cancel(CancelReason::GlobalTimeout, &mut actions);
        }
        self.wake(now);
        if self.cancelled.is_none() {
            self.start(now, &mut actions);
        } else {
            self.give_up_waiting(&mut actions);
        }
        actions
    }

    /// When to come back although nothing happened.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let timeout = self.rules.global_timeout;
        let timeout = timeout.filter(|_| self.cancelled < Some(CancelReason::GlobalTimeout) && !self.is_finishing());
        let may_start = self.cancelled.is_none() && self.seats.next().is_some() && self.running.len() < self.fanout();
        let start = may_start.then_some(self.next_start);
        let rested = self.resting.first().map(|(at, _)| *at);
        [timeout, start, rested].into_iter().flatten().min()
    }

    /// Whether every target was finished or given up.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.seats.waiting() == 0
    }

    /// The workspace that a target runs on.
    pub(super) fn seat_of(&self, target: TargetNo) -> Option<SeatNo> {
        self.running.get(&target).map(|running| running.seat)
    }

    /// Whether a target runs on this workspace.
    pub(super) fn is_busy(&self, seat: SeatNo) -> bool {
        self.seats.state(seat) == State::Busy
    }

    /// How many targets there are.
    pub(super) fn total(&self) -> usize {
        self.at.len()
    }

    /// How many ended in which way so far.
    pub(super) fn outcomes(&self) -> &OutcomeCounts {
        &self.outcomes
    }

    /// How many succeeded after a failed attempt.
    pub(super) fn flaky(&self) -> usize {
        self.flaky
    }

    /// Why the run ends early, if it does.
    pub(super) fn cancelled(&self) -> Option<CancelReason> {
        self.cancelled
    }

    fn fanout(&self) -> usize {
        self.rules.fanout.max(1)
    }

    fn ended(
        &mut self,
        now: Duration,
        target: TargetNo,
        outcome: Outcome,
        again: Again,
        lost: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = self.running.get(&target).filter(|running| running.then.is_none()) else { return };
        let (seat, mut tries) = (running.seat, running.tries);
        if let Some(home) = self.home.remove(&target) {
            self.at[target] = home;
        }
        let rest = match again {
            Again::Transport { after } => Some(now + after),
            Again::No | Again::Command => None,
        };
        let strikes = self.seats.strike(seat, rest.is_some());
        // One that could not be used is lost when it could not be used once more than is allowed.
        let lost = lost && self.rules.lose_seats && (rest.is_none() || strikes > self.rules.transport_retries);
        if lost {
            self.lose(seat, outcome, actions);
        }
        let spent = |used: &mut u32, allowed: u32| {
            let left = *used < allowed;
            *used += u32::from(left);
            left
        };
        let asked_for = match again {
            Again::Command => spent(&mut tries.reruns, self.rules.retries),
            Again::Transport { .. } => spent(&mut tries.transport, self.rules.transport_retries),
            Again::No => false,
        };
        let moved = lost && self.rules.move_lost && matches!(self.at[target], At::Place(_));
        let again = (asked_for || moved) && self.cancelled.is_none() && self.seats.can_run(self.at[target]);
        tries.last = Some(outcome);
        if again {
            actions.push(Action::Retry { target });
        } else {
            self.count(outcome, tries.attempts);
            self.ending += 1;
            actions.push(Action::Finish { target });
        }
        if let Some(running) = self.running.get_mut(&target) {
            running.tries = tries;
            running.then = Some(Then { again, rest: rest.filter(|_| !lost) });
        }
    }

    fn reported(&mut self, target: TargetNo, actions: &mut Vec<Action>) {
        let Some(Running { seat, tries, then: Some(then) }) = self.running.remove(&target) else { return };
        self.ending -= usize::from(!then.again);
        self.seats.leave(seat);
        match then.rest {
            _ if self.seats.state(seat) != State::Busy => {}
            Some(until) => {
                self.resting.insert((until, seat));
                self.seats.set(seat, State::Resting);
            }
            None => self.seats.set(seat, State::Free),
        }
        if then.again {
            self.tries.insert(target, tries);
            self.seats.wait(target, self.at[target]);
            if !self.seats.can_run(self.at[target]) {
                self.seats.forget(target, self.at[target]);
                self.give_up(target, Outcome::Skipped, actions);
            }
        }
    }

    fn occupied(&mut self, now: Duration, target: TargetNo) {
        let Some(Running { seat, mut tries, .. }) = self.running.remove(&target) else { return };
        self.seats.leave(seat);
        self.seats.set(seat, State::Occupied);
        tries.attempts -= 1;
        if tries.attempts > 0 {
            self.tries.insert(target, tries);
        }
        self.seats.wait(target, self.at[target]);
        // Nothing began, so that something else may.
        self.next_start = self.next_start.min(now);
    }

    /// Uses a workspace no more. Those that could run on no other are given up: as `gone` or `unreachable` if it is that, else
    /// as `rejected`, for what befell the target before them did not befall them.
    fn lose(&mut self, seat: SeatNo, outcome: Outcome, actions: &mut Vec<Action>) {
        let outcome = match outcome {
            Outcome::Gone | Outcome::Unreachable => outcome,
            _ => Outcome::Rejected,
        };
        for target in self.seats.lose(seat) {
            self.give_up(target, outcome, actions);
        }
    }

    /// Ends a target that waits no longer, as its last attempt did when there was one.
    fn give_up(&mut self, target: TargetNo, outcome: Outcome, actions: &mut Vec<Action>) {
        let tries = self.tries.remove(&target).unwrap_or_default();
        let outcome = tries.last.unwrap_or(outcome);
        self.count(outcome, tries.attempts);
        actions.push(Action::GiveUp { target, outcome, attempt: tries.attempts });
    }

    fn count(&mut self, outcome: Outcome, attempts: u32) {
        self.outcomes.add(outcome);
        match outcome {
            Outcome::Succeeded => self.flaky += usize::from(attempts > 1),
            Outcome::Skipped => {}
            _ => self.failed += 1,
        }
    }

    fn count_failures(&mut self, actions: &mut Vec<Action>) {
        if let Some(max_fail) = self.rules.max_fail
            && !(self.open && matches!(max_fail.limit, FailLimit::Percent(_)))
            && max_fail.reached(self.failed, self.at.len())
        {
            let reason = match max_fail.then {
                OnMaxFail::Wait => CancelReason::MaxFailWait,
                OnMaxFail::Immediate => CancelReason::MaxFailImmediate,
            };
            self.cancel(reason, actions);
        }
    }

    fn cancel(&mut self, reason: CancelReason, actions: &mut Vec<Action>) {
        if self.cancelled >= Some(reason) {
            return;
        }
        // What ends by itself at this moment was not cut short by its own failures or its time.
        if reason != CancelReason::Cancelled && self.is_finishing() {
            return;
        }
        let stopped_before = self.cancelled.is_some_and(CancelReason::stops_running);
        self.cancelled = Some(reason);
        actions.push(Action::Cancelled(reason));
        if reason.stops_running() && !stopped_before {
            actions.push(Action::StopRunning(reason));
        }
    }

    /// Whether nothing waits or will, and all that began has ended.
    fn is_finishing(&self) -> bool {
        !self.open && self.seats.waiting() == 0 && self.running.len() == self.ending
    }

    fn give_up_waiting(&mut self, actions: &mut Vec<Action>) {
        for target in self.seats.drain() {
            self.give_up(target, Outcome::Skipped, actions);
        }
    }

    fn wake(&mut self, now: Duration) {
        while let Some((at, seat)) = self.resting.first().copied()
            && at <= now
        {
            self.resting.pop_first();
            if self.seats.state(seat) == State::Resting {
                self.seats.set(seat, State::Free);
            }
        }
    }

    fn start(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while self.running.len() < self.fanout() && now >= self.next_start {
            let Some((target, seat)) = self.seats.next() else { return };
            self.seats.forget(target, self.at[target]);
            self.seats.set(seat, State::Busy);
            self.seats.enter(seat);
            let mut tries = self.tries.remove(&target).unwrap_or_default();
            tries.attempts += 1;
            actions.push(Action::Start { target, seat, attempt: tries.attempts });
            self.running.insert(target, Running { seat, tries, then: None });
            if !self.rules.gap.is_zero() {
                // Starts that were missed, because the window was full, are not made up for in a burst.
                self.next_start = self.next_start.max(now) + self.rules.gap;
            }
        }
    }
}
