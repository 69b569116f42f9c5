//! What happens in the fleet, for all who follow it: found out and rendered once, however many they are, and only while there
//! is somebody.
//!
//! One task, the *lookout*, compares the fleet with what it was a second ago, and gathers what commands and runs were noted
//! to have done. The events are kept in a *ring* of bounded size, as the bytes that readers send on. A reader has a place in
//! it and nothing else: one that is too slow finds that its place is gone, and is told so. When nobody has read for a
//! while the lookout ends, and the ring is forgotten.

mod lookout;
mod note;
mod reader;
mod ring;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

pub(crate) use reader::{FleetReader, Place};

use self::{note::Note, ring::Ring};
use super::RunCounts;
use crate::service::store::{CommandRecord, RunRecord};

/// How many notes are kept between two looks; with more than these everybody is told that something is missed.
const MAX_NOTES: usize = 16 << 10;

/// What all who follow the fleet share.
pub(crate) struct FleetEvents {
    /// Distinguishes places of this process from those of earlier ones.
    boot: u32,
    state: Mutex<State>,
    /// Changes whenever there is something new.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// The events; `None` until the lookout has seen the fleet for the first time.
    ring: Option<Ring>,
    /// The number that the next ring begins with, so that no number is given twice.
    next: u64,
    notes: Vec<Note>,
    /// Whether there were more notes than are kept.
    is_flooded: bool,
    readers: usize,
    /// When the last reader left.
    left: Option<Instant>,
    /// Whether there is a lookout.
    is_watched: bool,
}

impl FleetEvents {
    pub(super) fn new() -> Self {
        Self { boot: fastrand::u32(..), state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Notes that a command has got into another state.
    pub(super) fn command(&self, record: &Arc<CommandRecord>) {
        self.note(|| Note::Command(Arc::clone(record)));
    }

    /// Notes that a run began, or has got into another state, and how far it is.
    pub(super) fn run(&self, record: &Arc<RunRecord>, counts: RunCounts) {
        self.note(|| Note::Run(Arc::clone(record), counts));
    }

    fn note(&self, note: impl FnOnce() -> Note) {
        let mut state = self.lock();
        if !state.is_watched {
            return;
        }
        if state.notes.len() < MAX_NOTES {
            state.notes.push(note());
        } else {
            state.is_flooded = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
