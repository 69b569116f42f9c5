use std::time::Instant;

use actix::Message;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    RunSpec,
    emitter::{Emitter, Waiting},
    target::{self, Target},
};
use crate::{
    fleet::{Outcome, OutcomeCounts, RunEventKind, RunSummary},
    protocol::EventId,
};

/// Starts a run.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run {
    pub(crate) id: EventId,
    pub(crate) spec: RunSpec,
    /// Takes the events; the run waits while it is full.
    pub(crate) events: mpsc::Sender<Waiting>,
    /// Cancelled to end the run.
    pub(crate) cancel: CancellationToken,
}

/// Carries a run out: keeps as many targets running as its window is wide, until all have ended.
///
/// After a cancellation, by its handle or by the end of the fleet, no further target begins, those that run are
/// stopped, and each is still reported.
pub(crate) async fn drive(run: Run, targets: Vec<Target>, fleet_ends: CancellationToken) {
    let began = Instant::now();
    // A clone of the run's own token would cancel the caller's; a child is cancelled with it and without it.
    let cancel = run.cancel.child_token();
    let emitter = Emitter::new(run.id, run.events, cancel.clone());
    let _ends_with_fleet = actix_rt::spawn({
        let cancel = cancel.clone();
        async move { fleet_ends.run_until_cancelled(cancel.cancelled()).await.map_or_else(|| cancel.cancel(), |()| ()) }
    });
    emitter
        .emit(RunEventKind::RunStarted {
            command: run.spec.describe(),
            targets: targets.len(),
            fanout: run.spec.pace.fanout,
        })
        .await;
    let total = targets.len();
    let outcomes = carry_out_all(&run.spec, targets, &emitter, &cancel).await;
    emitter
        .emit(RunEventKind::RunFinished(RunSummary {
            total,
            outcomes,
            flaky: 0,
            cancelled: None,
            duration: began.elapsed(),
        }))
        .await;
    // Ends the task that waits for the fleet's end.
    cancel.cancel();
}

async fn carry_out_all(
    spec: &RunSpec,
    targets: Vec<Target>,
    emitter: &Emitter,
    cancel: &CancellationToken,
) -> OutcomeCounts {
    let mut outcomes = OutcomeCounts::default();
    let mut waiting = targets.into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < spec.pace.fanout.max(1) && !cancel.is_cancelled() {
            let Some(next) = waiting.next() else { break };
            running.push(target::carry_out(next, spec, emitter, cancel));
        }
        let Some(outcome) = running.next().await else { break };
        outcomes.add(outcome);
    }
    for skipped in waiting {
        outcomes.add(Outcome::Skipped);
        emitter.emit(RunEventKind::TargetFinished(Box::new(target::skipped(skipped)))).await;
    }
    outcomes
}
