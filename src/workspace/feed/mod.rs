//! News of all running commands of one workspace.
//!
//! Each command's child says when it wants news; the feed keeps at most one search in flight and lets one search serve
//! all children that are due.

mod plan;
mod search;
mod task;

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use actix::Addr;
use futures::channel::oneshot;
use jiff::Timestamp;

use super::watch::{CommandWatch, Started};
use crate::protocol::{CommandHead, EventId};
pub(crate) use plan::{Reach, Want};
pub(crate) use search::{CommandReach, CommandSearch, Pages, last_output, read_all};

/// The children of a workspace and what they wait for.
#[derive(Default)]
pub(crate) struct Feed(RefCell<State>);

#[derive(Default)]
struct State {
    watched: HashMap<WatchKey, Watched>,
    /// How many keys were given out.
    keys: u64,
    /// Present while the task sleeps; wakes it.
    wake: Option<oneshot::Sender<()>>,
    running: bool,
    on_empty: Vec<oneshot::Sender<()>>,
    /// Shared searches have seen everything before this time, as far as is known.
    seen_until: Option<Timestamp>,
    /// Whether a shared search has seen what the event socket could not tell of, so that nothing was missed since.
    caught_up: bool,
    pages: Pages,
    /// What the quickest answer to the start of a command took lately.
    quickest_start: Option<Duration>,
}

/// One watch of a command. A command can have several: whoever attaches to one that is watched gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WatchKey(u64);

struct Watched {
    id: EventId,
    watch: Addr<CommandWatch>,
    want: Option<Want>,
    /// Nothing that it has not got is older, by the server's clock.
    stands_at: Timestamp,
    /// How many shared searches in a row have served it.
    shared: u32,
    at: Instant,
    head: Option<CommandHead>,
    /// Which start of which server started it, where servers tell.
    instance: Option<Box<str>>,
}

/// A command that is watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchedCommand {
    pub(crate) key: WatchKey,
    pub(crate) id: EventId,
    /// When its start was answered.
    pub(crate) at: Instant,
    /// What was put before it.
    pub(crate) head: Option<CommandHead>,
    /// Which start of which server started it, where servers tell.
    pub(crate) instance: Option<Box<str>>,
}

impl Feed {
    /// How many commands are watched.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().watched.len()
    }

    /// The commands that are watched.
    pub(crate) fn watched(&self) -> Vec<WatchedCommand> {
        let of = |(key, watched): (&WatchKey, &Watched)| {
            let Watched { id, at, head, ref instance, .. } = *watched;
            WatchedCommand { key: *key, id, at, head, instance: instance.clone() }
        };
        self.0.borrow().watched.iter().map(of).collect()
    }

    /// A child.
    pub(crate) fn watch(&self, key: WatchKey) -> Option<Addr<CommandWatch>> {
        self.0.borrow().watched.get(&key).map(|watched| watched.watch.clone())
    }

    /// The children that watch a command.
    pub(crate) fn watches_of(&self, id: EventId) -> Vec<Addr<CommandWatch>> {
        let state = self.0.borrow();
        state.watched.values().filter(|watched| watched.id == id).map(|watched| watched.watch.clone()).collect()
    }

    /// Whether a command is watched.
    pub(crate) fn is_watched(&self, id: EventId) -> bool {
        self.0.borrow().watched.values().any(|watched| watched.id == id)
    }

    /// A key for a child that is about to be added.
    pub(crate) fn new_key(&self) -> WatchKey {
        let mut state = self.0.borrow_mut();
        state.keys += 1;
        WatchKey(state.keys)
    }

    /// All children.
    pub(crate) fn watches(&self) -> Vec<Addr<CommandWatch>> {
        self.0.borrow().watched.values().map(|watched| watched.watch.clone()).collect()
    }

    /// Adds a child. Returns whether the feed's task has to be started.
    #[must_use]
    pub(crate) fn add(&self, key: WatchKey, command: &Started, watch: Addr<CommandWatch>) -> bool {
        let mut state = self.0.borrow_mut();
        let Started { id, head, at, server_time, .. } = *command;
        let instance = command.instance.as_deref().map(Into::into);
        let watched = Watched { id, watch, want: None, stands_at: server_time, shared: 0, at, head, instance };
        state.watched.insert(key, watched);
        !std::mem::replace(&mut state.running, true)
    }

    /// Forgets how far shared searches have seen, for a server with another clock.
    pub(crate) fn forget_time(&self) {
        let mut state = self.0.borrow_mut();
        (state.seen_until, state.caught_up, state.quickest_start) = (None, false, None);
    }

    /// Takes in how long the answer to a start took, and returns what the quickest one took lately: the others may have waited for
    /// each other. With each start it is believed a little less, since the way to the server may have become longer.
    pub(crate) fn quickest_start(&self, round_trip: Duration) -> Duration {
        let mut state = self.0.borrow_mut();
        let quickest = state.quickest_start.map_or(round_trip, |quickest| (quickest + quickest / 64).min(round_trip));
        state.quickest_start = Some(quickest);
        quickest
    }

    /// Lets all children look at once, for the event socket was opened or lost.
    pub(crate) fn catch_up(&self) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        state.caught_up = false;
        for want in state.watched.values_mut().filter_map(|watched| watched.want.as_mut()) {
            want.at = want.at.min(now);
        }
        state.wake();
    }

    /// Takes in that the event socket has told of an event of this time: shared searches need not read it again.
    pub(crate) fn pushed(&self, at: Timestamp) {
        let mut state = self.0.borrow_mut();
        if state.caught_up {
            state.saw(Some(at));
        }
    }

    /// Removes a child.
    pub(crate) fn remove(&self, key: WatchKey) {
        let mut state = self.0.borrow_mut();
        state.watched.remove(&key);
        if state.watched.is_empty() {
            for waiting in state.on_empty.drain(..) {
                // Whoever waited for this may have stopped waiting.
                let _ = waiting.send(());
            }
        }
        state.wake();
    }

    /// Waits until no command is watched.
    pub(crate) async fn emptied(&self) {
        let emptied = {
            let mut state = self.0.borrow_mut();
            if state.watched.is_empty() {
                return;
            }
            let (waiting, emptied) = oneshot::channel();
            state.on_empty.retain(|waiting| !waiting.is_canceled());
            state.on_empty.push(waiting);
            emptied
        };
        // A sender that is dropped unsent has nothing left to wait for either.
        let _ = emptied.await;
    }

    /// Takes in that a child that wants news has got some meanwhile, so that the search brings it only what comes after them.
    pub(crate) fn has_got(&self, key: WatchKey, since: Timestamp, after_order: Option<u64>) {
        let mut state = self.0.borrow_mut();
        if let Some(watched) = state.watched.get_mut(&key)
            && let Some(want) = &mut watched.want
        {
            watched.stands_at = since;
            (want.since, want.after_order) = (since, after_order);
        }
    }

    /// Says when a child wants news, and from where on.
    pub(crate) fn want(&self, key: WatchKey, want: Want) {
        let mut state = self.0.borrow_mut();
        if let Some(watched) = state.watched.get_mut(&key) {
            watched.stands_at = want.since;
            watched.want = Some(want);
            state.wake();
        }
    }
}

impl State {
    /// Takes in that nothing before this time has to be searched for again.
    fn saw(&mut self, time: Option<Timestamp>) {
        self.seen_until = self.seen_until.max(time);
    }

    fn wake(&mut self) {
        if let Some(wake) = self.wake.take() {
            // The task may have woken up by itself already.
            let _ = wake.send(());
        }
    }

    /// When the next child is due.
    fn next_due(&self) -> Option<Instant> {
        self.watched.values().filter_map(|watched| Some(watched.want.as_ref()?.at)).min()
    }
}

pub(crate) use task::run;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_start_counts_for_a_while_and_until_the_server_is_another() {
        let (feed, us) = (Feed::default(), Duration::from_micros);
        assert_eq!([5000, 1280, 9000].map(|took| feed.quickest_start(us(took))), [5000, 1280, 1300].map(us));
        for _ in 0..200 {
            feed.quickest_start(us(9000));
        }
        assert_eq!(feed.quickest_start(us(9000)), us(9000));
        feed.quickest_start(us(10));
        feed.forget_time();
        assert_eq!(feed.quickest_start(us(8000)), us(8000));
    }
}
