use serde::{Deserialize, Serialize};

use crate::{
    fleet::{RunSummary, TargetFinished, TargetValue},
    protocol::EventId,
};

/// What became of a run and of each of its targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunReport {
    /// The run.
    pub run_id: EventId,
    /// The counts.
    pub summary: RunSummary,
    /// How each target ended, in the order of their ends. What commands wrote and what files contain is left out, so
    /// that a report of many targets stays small: `stdout_bytes` and `stderr_bytes` say how much it was, and `truncated`
    /// that it is missing. Who wants the output takes the events.
    pub targets: Vec<TargetFinished>,
}

impl RunReport {
    pub(crate) const fn new(run_id: EventId, summary: RunSummary, targets: Vec<TargetFinished>) -> Self {
        Self { run_id, summary, targets }
    }
}

/// Leaves out what may be large.
pub(crate) fn without_bulk(mut target: TargetFinished) -> TargetFinished {
    match &mut target.value {
        Some(TargetValue::Command(result)) => {
            result.truncated |= !(result.stdout.is_empty() && result.stderr.is_empty());
            result.stdout = String::new();
            result.stderr = String::new();
        }
        Some(TargetValue::Diff(diff)) => {
            diff.modified = None;
            diff.original = None;
        }
        _ => {}
    }
    target
}
