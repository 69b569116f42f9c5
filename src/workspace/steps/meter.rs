use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use super::sum::Sum;
use crate::{
    messages::{OnProgress, TransferProgress},
    workspace::backoff::Retry,
};

/// How far apart those are told who want to know how far a transfer is.
const BETWEEN: Duration = Duration::from_millis(100);

/// So many bytes more than ever before, and a transfer has got on: the bound of its tries then counts anew.
const STRIDE: u64 = 1 << 20;

/// Sees the bytes of one transfer go by, over all its tries.
pub(super) struct Meter {
    on: Option<OnProgress>,
    told: Cell<Option<Instant>>,
    done: Cell<u64>,
    total: Cell<Option<u64>>,
    attempt: Cell<u32>,
    /// Where the transfer last got on.
    furthest: Cell<u64>,
    /// When; the bound of its tries counts from then.
    clock: Rc<Cell<Instant>>,
    wants_sum: bool,
    sum: RefCell<Option<Sum>>,
}

impl Meter {
    pub(super) fn new(on: Option<OnProgress>, wants_sum: bool, retry: &Retry) -> Rc<Self> {
        Rc::new(Self {
            on,
            told: Cell::new(None),
            done: Cell::new(0),
            total: Cell::new(None),
            attempt: Cell::new(0),
            furthest: Cell::new(0),
            clock: retry.clock(),
            wants_sum,
            sum: RefCell::new(None),
        })
    }

    /// Begins from the first byte on, for the first time or again.
    pub(super) fn begin(&self, total: Option<u64>) {
        self.done.set(0);
        self.total.set(total);
        self.attempt.set(self.attempt.get() + 1);
        *self.sum.borrow_mut() = self.wants_sum.then(Sum::new);
        self.tell(Instant::now());
    }

    /// Takes in that these bytes were moved.
    pub(super) fn moved(&self, bytes: &[u8]) {
        let done = self.done.get() + bytes.len() as u64;
        self.done.set(done);
        if let Some(sum) = &mut *self.sum.borrow_mut() {
            sum.add(bytes);
        }
        let now = Instant::now();
        if done >= self.furthest.get() + STRIDE {
            self.furthest.set(done);
            self.clock.set(now);
        }
        if self.told.get().is_none_or(|told| now.duration_since(told) >= BETWEEN) {
            self.tell(now);
        }
    }

    /// All has been moved. Returns the SHA-256, where it is wanted.
    pub(super) fn end(&self) -> Option<String> {
        self.total.set(Some(self.done.get()));
        self.tell(Instant::now());
        self.sum.borrow_mut().take().map(Sum::finish)
    }

    fn tell(&self, now: Instant) {
        self.told.set(Some(now));
        if let Some(on) = &self.on {
            on.tell(TransferProgress { done: self.done.get(), total: self.total.get(), attempt: self.attempt.get() });
        }
    }
}
