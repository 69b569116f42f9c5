use std::{cell::Cell, sync::Arc};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{RunEvent, RunEventKind, TargetValue},
    protocol::{EventId, Trace},
};

/// How much output may wait to be taken before the run waits, in bytes.
const MOST_WAITING: u32 = 16 << 20;

/// An event with its share of the output that may wait; the share is given back when the event is taken.
pub(crate) type Waiting = (RunEvent, Option<OwnedSemaphorePermit>);

/// Numbers the events of a run and hands them on, in order, as fast as they are taken.
pub(super) struct Emitter {
    run_id: EventId,
    trace: Option<Arc<Trace>>,
    next: Cell<u64>,
    events: mpsc::Sender<Waiting>,
    output: Arc<Semaphore>,
    /// Cancelled when nobody takes the events any more.
    cancel: CancellationToken,
}

impl Emitter {
    pub(super) fn new(
        run_id: EventId,
        trace: Option<Arc<Trace>>,
        events: mpsc::Sender<Waiting>,
        cancel: CancellationToken,
    ) -> Self {
        let output = Arc::new(Semaphore::new(MOST_WAITING as usize));
        Self { run_id, trace, next: Cell::new(0), events, output, cancel }
    }

    /// Waits until nobody takes the events any more.
    pub(super) async fn abandoned(&self) {
        self.events.closed().await;
    }

    pub(super) async fn emit(&self, kind: RunEventKind) {
        let share = match output_bytes(&kind) {
            0 => None,
            // One event larger than the bound waits alone. Nobody closes the semaphore.
            bytes => self.output.clone().acquire_many_owned(bytes.min(MOST_WAITING)).await.ok(),
        };
        // The number is given when there is room, so that the numbers follow the order of the events.
        let Ok(room) = self.events.reserve().await else {
            self.cancel.cancel();
            return;
        };
        let seq = self.next.replace(self.next.get() + 1);
        let event = RunEvent { seq, time: Timestamp::now(), run_id: self.run_id, trace: self.trace.clone(), kind };
        room.send((event, share));
    }
}

/// How much output an event holds.
fn output_bytes(kind: &RunEventKind) -> u32 {
    let bytes = match kind {
        RunEventKind::Output { text, .. } => text.len(),
        RunEventKind::TargetFinished(target) | RunEventKind::TargetRetried(target) => value_bytes(&target.value),
        RunEventKind::StepFinished(step) => value_bytes(&step.value),
        _ => 0,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn value_bytes(value: &Option<TargetValue>) -> usize {
    match value {
        Some(TargetValue::Command(result)) => result.stdout.len() + result.stderr.len(),
        Some(TargetValue::Diff(diff)) => {
            diff.modified.as_ref().map_or(0, String::len) + diff.original.as_ref().map_or(0, String::len)
        }
        _ => 0,
    }
}
