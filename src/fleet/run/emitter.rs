use std::cell::Cell;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{RunEvent, RunEventKind},
    protocol::EventId,
};

/// Numbers the events of a run and hands them on, in order, as fast as they are taken.
pub(super) struct Emitter {
    run_id: EventId,
    next: Cell<u64>,
    events: mpsc::Sender<RunEvent>,
    /// Cancelled when nobody takes the events any more.
    cancel: CancellationToken,
}

impl Emitter {
    pub(super) fn new(run_id: EventId, events: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Self {
        Self { run_id, next: Cell::new(0), events, cancel }
    }

    pub(super) async fn emit(&self, kind: RunEventKind) {
        // The number is given when there is room, so that the numbers follow the order of the events.
        let Ok(room) = self.events.reserve().await else {
            self.cancel.cancel();
            return;
        };
        let seq = self.next.replace(self.next.get() + 1);
        room.send(RunEvent { seq, time: Timestamp::now(), run_id: self.run_id, kind });
    }
}
