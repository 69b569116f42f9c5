use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    spill::{Place, Spill},
    weight,
};
use crate::fleet::RunEvent;

/// An event on its way to a sink, with what the process would exit with if it were the last.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Queued {
    pub(super) event: RunEvent,
    pub(super) exit_code: u8,
}

/// The events between a run and one sink, in order.
///
/// What the sink has not taken is kept in memory up to a bound in bytes, and beyond that in a file. When the file can not
/// be written, whoever adds waits for the sink: an event is never lost.
pub(super) struct Queue {
    bound: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The oldest events.
    memory: VecDeque<Arc<Queued>>,
    bytes: usize,
    /// Where the events after those in memory are in the file.
    spilled: VecDeque<Place>,
    spill: Spill,
    /// No more events come.
    ended: bool,
    /// Nobody takes events any more.
    abandoned: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds an event.
    pub(super) fn push(&self, queued: &Arc<Queued>) {
        let bytes = weight(&queued.event.kind);
        let mut state = self.lock();
        if state.abandoned {
            return;
        }
        if !state.has_room(bytes, self.bound) {
            match state.spill(queued) {
                Ok(()) => {
                    self.changed.notify_all();
                    return;
                }
                Err(error) => log::warn!("no room in the temporary directory for what a slow reader leaves: {error}"),
            }
        }
        while !state.abandoned && !state.has_room(bytes, self.bound) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += bytes;
        state.memory.push_back(Arc::clone(queued));
        self.changed.notify_all();
    }

    /// Takes the next event, and waits until there is one; `None` when no more come.
    ///
    /// # Errors
    /// When the temporary file can not be read.
    pub(super) fn pop(&self) -> io::Result<Option<Arc<Queued>>> {
        let mut state = self.lock();
        loop {
            if let Some(queued) = state.memory.pop_front() {
                state.bytes -= weight(&queued.event.kind);
                self.changed.notify_all();
                return Ok(Some(queued));
            }
            if let Some(place) = state.spilled.pop_front() {
                let bytes = state.spill.read(place)?;
                if state.spilled.is_empty() {
                    state.spill.clear();
                    self.changed.notify_all();
                }
                drop(state);
                return Ok(Some(Arc::new(serde_json::from_slice(&bytes)?)));
            }
            if state.ended {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether no event waits now.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.memory.is_empty() && state.spilled.is_empty()
    }

    /// No more events come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Nobody takes events any more: those that wait and those that come are dropped.
    pub(super) fn abandon(&self) {
        *self.lock() = State { abandoned: true, ..State::default() };
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether an event may be kept in memory: none that came before is in the file, and it fits, or is alone.
    fn has_room(&self, bytes: usize, bound: usize) -> bool {
        self.spilled.is_empty() && (self.memory.is_empty() || self.bytes + bytes <= bound)
    }

    fn spill(&mut self, queued: &Queued) -> io::Result<()> {
        let place = self.spill.append(&serde_json::to_vec(queued)?)?;
        self.spilled.push_back(place);
        Ok(())
    }
}

#[cfg(test)]
impl Queue {
    /// The bytes in memory and the number of events in the file.
    pub(super) fn state_for_test(&self) -> (usize, usize) {
        let state = self.lock();
        (state.bytes, state.spilled.len())
    }
}
