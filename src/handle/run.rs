use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix::dev::Request;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::{
    fleet::{FleetSupervisor, Run, RunEvent, RunEventKind, RunSummary, Waiting},
    protocol::EventId,
};

/// A run that goes on: a stream of its events, from `run_started` to `run_finished`.
///
/// Dropping it cancels the run.
#[must_use = "dropping it cancels the run"]
pub struct RunHandle {
    id: EventId,
    /// Present until the supervisor has taken the run.
    begun: Option<Pin<Box<Request<FleetSupervisor, Run>>>>,
    events: mpsc::Receiver<Waiting>,
    cancel: CancellationToken,
    /// Keeps the fleet alive while the run goes on.
    _fleet: Fleet,
}

impl RunHandle {
    pub(super) fn new(
        id: EventId,
        begun: Request<FleetSupervisor, Run>,
        events: mpsc::Receiver<Waiting>,
        cancel: CancellationToken,
        fleet: Fleet,
    ) -> Self {
        Self { id, begun: Some(Box::pin(begun)), events, cancel, _fleet: fleet }
    }

    /// The run's id, which is on each of its events.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Cancels the run: no further target begins, running commands are stopped with what they wrote kept, and the
    /// stream goes on to its end, which reports every target.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Something that cancels the run from elsewhere, such as from the handler of a signal.
    pub fn canceller(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let cancel = self.cancel.clone();
        move || cancel.cancel()
    }

    /// Takes all events to the end and returns the summary; `None` when the fleet was shut down meanwhile.
    pub async fn finish(mut self) -> Option<RunSummary> {
        while let Some(event) = self.next().await {
            if let RunEventKind::RunFinished(summary) = event.kind {
                return Some(summary);
            }
        }
        None
    }
}

impl Stream for RunHandle {
    type Item = RunEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunEvent>> {
        // The message to the supervisor may have found its mailbox full; polling sends it then.
        if let Some(begun) = &mut self.begun
            && begun.poll_unpin(cx).is_ready()
        {
            self.begun = None;
        }
        self.events.poll_recv(cx).map(|waiting| waiting.map(|(event, _share)| event))
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
