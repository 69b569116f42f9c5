use std::sync::{Arc, Mutex, OnceLock};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use utoipa::ToSchema;

use super::{Engine, EngineError, lock};
use crate::{
    fleet::{OutcomeCounts, RunEvent, RunEventKind, RunSummary},
    service::store::{Change, Log, RunRecord, RunState, Table},
};

/// A run that has not ended yet.
pub(crate) struct RunFollowed {
    record: watch::Sender<Arc<RunRecord>>,
    /// One change of it after another, its jobs included.
    pub(super) changing: tokio::sync::Mutex<Batches>,
    log: Arc<Log>,
    counts: Mutex<RunCounts>,
    /// Cancels it; absent until it was taken up.
    pub(super) cancel: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Told when jobs were added or no more come.
    pub(super) more: Notify,
}

/// How many times jobs were added to a run.
pub(super) struct Batches {
    pub(super) count: u64,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RunCounts {
    /// How many targets it has until now.
    pub(crate) targets: usize,
    /// How many of them are being worked on.
    pub(crate) running: usize,
    /// How many of them have ended.
    pub(crate) finished: usize,
    /// How many attempts were followed by another one.
    pub(crate) retried: usize,
    /// How many targets ended in which way.
    #[schema(value_type = std::collections::BTreeMap<String, usize>)]
    pub(crate) outcomes: OutcomeCounts,
}

impl RunCounts {
    /// Takes an event in.
    pub(super) fn note(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::RunStarted { targets, .. } => self.targets = *targets,
            RunEventKind::TargetsAdded { targets } => self.targets += targets,
            RunEventKind::TargetBegan { .. } => self.running += 1,
            RunEventKind::TargetRetried(_) => {
                self.running = self.running.saturating_sub(1);
                self.retried += 1;
            }
            RunEventKind::TargetFinished(ended) => {
                self.finished += 1;
                self.outcomes.add(ended.outcome);
                if ended.attempt > 0 {
                    self.running = self.running.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// Those of a run that has ended.
    fn of(summary: &RunSummary) -> Self {
        let (targets, outcomes) = (summary.total, summary.outcomes.clone());
        Self { targets, running: 0, finished: targets, retried: 0, outcomes }
    }
}

impl RunFollowed {
    pub(super) fn new(record: RunRecord, log: Arc<Log>, batches: u64) -> Self {
        Self {
            record: watch::Sender::new(Arc::new(record)),
            changing: tokio::sync::Mutex::new(Batches { count: batches }),
            log,
            counts: Mutex::default(),
            cancel: OnceLock::new(),
            more: Notify::new(),
        }
    }

    /// What is known of it now, its progress left aside.
    pub(crate) fn record(&self) -> Arc<RunRecord> {
        Arc::clone(&self.record.borrow())
    }

    /// Its events.
    pub(crate) const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(super) fn note(&self, event: &RunEvent) {
        lock(&self.counts).note(event);
    }

    /// Says how many targets a run has that is gone on with: of those that were added at last no event may tell.
    pub(super) fn has_targets(&self, targets: usize) {
        let mut counts = lock(&self.counts);
        counts.targets = counts.targets.max(targets);
    }

    /// How far it is.
    pub(crate) fn counts(&self) -> RunCounts {
        lock(&self.counts).clone()
    }
}

/// How far a run is whose record this is.
pub(super) fn counts_of(record: &RunRecord) -> RunCounts {
    record.summary.as_ref().map(RunCounts::of).unwrap_or_default()
}

impl Engine {
    /// Changes the record of a run and writes it down. A store that fails is asked again until the service ends.
    pub(super) async fn change_run(&self, run: &RunFollowed, change: impl FnOnce(&mut RunRecord), with: &[Change]) {
        let _one = run.changing.lock().await;
        let mut record = RunRecord::clone(&run.record());
        change(&mut record);
        let put = Table::Runs.put(record.id, &record);
        let bytes = put.size() + run.log.end();
        let is_end = record.state == RunState::Finished;
        let attempt = async || {
            if is_end {
                self.sync(&run.log).await?;
            }
            self.store.commit([with, std::slice::from_ref(&put)].concat()).await
        };
        if self.until_stored("the record of a run", attempt).await {
            if is_end {
                let jobs = self.batches(record.id).unwrap_or_default();
                self.kept.add(bytes + jobs.iter().map(|(_, bytes)| bytes).sum::<u64>());
            }
            let record = Arc::new(record);
            self.events.run(&record, run.counts());
            run.record.send_replace(record);
        }
    }

    /// The run, if it has not ended.
    pub(super) fn going_run(&self, id: crate::protocol::EventId) -> Option<Arc<RunFollowed>> {
        lock(&self.runs).get(&id).cloned()
    }

    /// The record of a run, whether it has ended or not.
    pub(crate) fn run_record(&self, id: crate::protocol::EventId) -> Result<Arc<RunRecord>, EngineError> {
        if let Some(run) = self.going_run(id) {
            return Ok(run.record());
        }
        let key = id.to_string();
        let bytes = self.store.get(Table::Runs, &key)?;
        let bytes = bytes.ok_or_else(|| EngineError::NotFound { what: "run", name: key.clone() })?;
        Ok(Arc::new(Table::Runs.read(&key, &bytes)?))
    }
}
