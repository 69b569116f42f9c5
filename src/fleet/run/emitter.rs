use std::{cell::Cell, sync::Arc};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{RunEvent, RunEventKind, TargetValue},
    protocol::{EventId, Trace},
};

/// How much output may wait to be taken before the run waits, in bytes.
const MOST_WAITING: u32 = 16 << 20;

/// An event on its way to whoever takes it.
pub(crate) struct Waiting {
    pub(crate) event: RunEvent,
    /// Its share of the output that may wait; it is given back when the event is taken.
    pub(crate) share: Option<OwnedSemaphorePermit>,
    /// Hears of it when the event after this one is asked for, where something waits for that.
    pub(crate) kept: Option<oneshot::Sender<()>>,
}

/// Numbers the events of a run and hands them on, in order, as fast as they are taken.
pub(super) struct Emitter {
    run_id: EventId,
    trace: Option<Arc<Trace>>,
    next: Cell<u64>,
    events: mpsc::Sender<Waiting>,
    output: Arc<Semaphore>,
    /// Cancelled when nobody takes the events any more.
    cancel: CancellationToken,
    /// Whether what is begun waits until its event was kept.
    durable: bool,
}

impl Emitter {
    pub(super) fn new(
        run_id: EventId,
        trace: Option<Arc<Trace>>,
        events: mpsc::Sender<Waiting>,
        cancel: CancellationToken,
        first: u64,
        durable: bool,
    ) -> Self {
        let output = Arc::new(Semaphore::new(MOST_WAITING as usize));
        Self { run_id, trace, next: Cell::new(first), events, output, cancel, durable }
    }

    /// Waits until nobody takes the events any more.
    pub(super) async fn abandoned(&self) {
        self.events.closed().await;
    }

    pub(super) const fn run_id(&self) -> EventId {
        self.run_id
    }

    /// Hands an event on. Of a run that can be gone on with by another process it returns when the event was kept, and then
    /// says so: when the one after it is asked for.
    pub(super) async fn emit_kept(&self, kind: RunEventKind) -> bool {
        if !self.durable {
            self.emit(kind).await;
            return true;
        }
        let (kept, is_kept) = oneshot::channel();
        self.send(kind, Some(kept)).await;
        is_kept.await.is_ok()
    }

    pub(super) async fn emit(&self, kind: RunEventKind) {
        self.send(kind, None).await;
    }

    async fn send(&self, kind: RunEventKind, kept: Option<oneshot::Sender<()>>) {
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
        room.send(Waiting { event, share, kept });
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
