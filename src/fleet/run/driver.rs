use std::time::Instant;

use actix::Message;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    RunSpec,
    emitter::Emitter,
    target::{self, Target},
};
use crate::{
    fleet::{OutcomeCounts, RunEvent, RunEventKind, RunSummary, TargetFinished},
    protocol::EventId,
};

/// Starts a run.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run {
    pub(crate) id: EventId,
    pub(crate) spec: RunSpec,
    /// Takes the events; the run waits while it is full.
    pub(crate) events: mpsc::Sender<RunEvent>,
    /// Cancelled to end the run.
    pub(crate) cancel: CancellationToken,
}

/// Carries a run out: keeps as many targets running as its window is wide, until all have ended.
///
/// After a cancellation no further target begins, those that run are stopped, and each is still reported.
pub(crate) async fn drive(run: Run, targets: Vec<Target>) {
    let began = Instant::now();
    let emitter = Emitter::new(run.id, run.events, run.cancel.clone());
    emitter.emit(RunEventKind::RunStarted { command: run.spec.operation.describe(), targets: targets.len() }).await;
    let (total, fanout) = (targets.len(), run.spec.fanout.max(1));
    let mut outcomes = OutcomeCounts::default();
    let mut waiting = targets.into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < fanout && !run.cancel.is_cancelled() {
            let Some(next) = waiting.next() else { break };
            running.push(target::carry_out(next, &run.spec, &emitter, &run.cancel));
        }
        let Some(finished) = running.next().await else { break };
        report(&emitter, &mut outcomes, finished).await;
    }
    for skipped in waiting {
        report(&emitter, &mut outcomes, target::skipped(skipped)).await;
    }
    emitter.emit(RunEventKind::RunFinished(RunSummary { total, outcomes, duration: began.elapsed() })).await;
}

async fn report(emitter: &Emitter, outcomes: &mut OutcomeCounts, finished: TargetFinished) {
    outcomes.add(finished.outcome);
    emitter.emit(RunEventKind::TargetFinished(Box::new(finished))).await;
}
