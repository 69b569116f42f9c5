use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix::dev::Request;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Fleet;
use crate::{
    fleet::{
        CancelRun, FleetSupervisor, Job, Run, RunEvent, RunEventKind, RunReport, RunSummary, Waiting, without_bulk,
    },
    protocol::EventId,
};

/// A run that goes on: a stream of its events, from `run_started` to `run_finished`.
///
/// Dropping it cancels the run; when it was cancelled before, `finally` steps are given up.
#[must_use = "dropping it cancels the run"]
pub struct RunHandle {
    id: EventId,
    /// Present until the supervisor has taken the run.
    begun: Option<Pin<Box<Request<FleetSupervisor, Run>>>>,
    events: mpsc::Receiver<Waiting>,
    /// Hears of it when the event after the last one is asked for.
    kept: Option<oneshot::Sender<()>>,
    cancel: CancelRun,
    /// Keeps the run open for jobs until its events are taken.
    open: Option<mpsc::Sender<Job>>,
    jobs: mpsc::WeakSender<Job>,
    /// Keeps the fleet alive while the run goes on.
    _fleet: Fleet,
}

impl RunHandle {
    pub(super) fn new(
        id: EventId,
        begun: Request<FleetSupervisor, Run>,
        events: mpsc::Receiver<Waiting>,
        cancel: CancelRun,
        jobs: mpsc::Sender<Job>,
        fleet: Fleet,
    ) -> Self {
        let (weak, open) = (jobs.downgrade(), Some(jobs));
        Self { id, begun: Some(Box::pin(begun)), events, kept: None, cancel, open, jobs: weak, _fleet: fleet }
    }

    /// The run's id, which is on each of its events: the one that its spec gave it, or a random one.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Cancels the run: no further target begins, running commands are stopped with what they wrote kept, and the
    /// stream goes on to its end, which reports every target. `finally` steps are still carried out; a second call gives
    /// them up.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Something that cancels the run from elsewhere, such as from the handler of a signal.
    pub fn canceller(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let cancel = self.cancel.clone();
        move || cancel.cancel()
    }

    /// Something that ends the run once it has no use any more. However often it does so, it is no second call of
    /// [`cancel`](Self::cancel).
    #[cfg(feature = "cli")]
    pub(crate) fn ender(&self) -> impl Fn() + Clone + Send + Sync + 'static + use<> {
        let cancel = self.cancel.clone();
        move || cancel.end()
    }

    /// A way to add jobs while the run goes on. The run stays open until all of them are dropped. It is to be asked for
    /// before the first event is taken: a run that nothing can be added to ends with its last job.
    #[must_use]
    pub fn jobs(&self) -> JobSender {
        JobSender { jobs: self.jobs.upgrade() }
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

    /// Takes all events to the end and returns what became of each target; `None` when the fleet was shut down
    /// meanwhile.
    pub async fn report(mut self) -> Option<RunReport> {
        let (run_id, mut targets) = (self.id, Vec::new());
        while let Some(event) = self.next().await {
            match event.kind {
                RunEventKind::TargetFinished(target) => targets.push(without_bulk(*target)),
                RunEventKind::RunFinished(summary) => return Some(RunReport::new(run_id, summary, targets)),
                _ => {}
            }
        }
        None
    }
}

/// Adds jobs to a run that goes on, and keeps it open until all clones are dropped.
#[derive(Debug, Clone)]
pub struct JobSender {
    jobs: Option<mpsc::Sender<Job>>,
}

/// A job that came too late: the run has ended, or was cancelled.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the run has ended or was cancelled: carry the job out in another one")]
pub struct RunClosed(
    /// The job.
    pub Box<Job>,
);

impl JobSender {
    /// Adds a job. Waits while the run has not yet taken in the jobs before it. A job without a workspace to run on is
    /// reported as rejected.
    ///
    /// # Errors
    /// When the run has ended or was cancelled.
    pub async fn add(&self, job: Job) -> Result<(), RunClosed> {
        match &self.jobs {
            Some(jobs) => jobs.send(job).await.map_err(|refused| RunClosed(Box::new(refused.0))),
            None => Err(RunClosed(Box::new(job))),
        }
    }
}

impl Stream for RunHandle {
    type Item = RunEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunEvent>> {
        // From now on only those who asked for it keep the run open.
        self.open = None;
        // The message to the supervisor may have found its mailbox full; polling sends it then.
        if let Some(begun) = &mut self.begun
            && begun.poll_unpin(cx).is_ready()
        {
            self.begun = None;
        }
        if let Some(kept) = self.kept.take() {
            // What waited for it may have been stopped meanwhile.
            let _ = kept.send(());
        }
        self.events.poll_recv(cx).map(|waiting| {
            let Waiting { event, share, kept } = waiting?;
            drop(share);
            self.kept = kept;
            Some(event)
        })
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
