//! What happens on the connections of one pool, told to the requests that wait for them.

use std::cell::Cell;

use tokio::time::Instant;

/// Notes of a pool's dialer and streams.
#[derive(Default)]
pub(super) struct Watch {
    dialing: Cell<usize>,
    last_dialed: Cell<Option<Instant>>,
    ends: Cell<u64>,
    tainted: Cell<bool>,
}

impl Watch {
    /// Notes that a connection is being made, until the guard is dropped.
    pub(super) fn dial(&self) -> Dialing<'_> {
        self.dialing.set(self.dialing.get() + 1);
        Dialing(self)
    }

    /// Whether a connection is being made.
    pub(super) fn is_dialing(&self) -> bool {
        self.dialing.get() > 0
    }

    /// When the last connection was made or given up.
    pub(super) fn last_dialed(&self) -> Option<Instant> {
        self.last_dialed.get()
    }

    /// Notes that a peer closed its side.
    pub(super) fn ended(&self) {
        self.ends.set(self.ends.get() + 1);
    }

    /// How often a peer closed its side.
    pub(super) fn ends(&self) -> u64 {
        self.ends.get()
    }

    /// Notes that the pool must not lend one of its connections again.
    pub(super) fn taint(&self) {
        self.tainted.set(true);
    }

    /// Whether the pool may hold a connection that it must not lend again.
    pub(super) fn is_tainted(&self) -> bool {
        self.tainted.get()
    }
}

/// A connection that is being made.
pub(super) struct Dialing<'a>(&'a Watch);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(self.0.dialing.get() - 1);
        self.0.last_dialed.set(Some(Instant::now()));
    }
}
