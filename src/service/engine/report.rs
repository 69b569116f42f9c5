use std::{io, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Engine, EngineError, RunCounts, run_handle::counts_of};
use crate::{
    fleet::{RunEvent, RunEventKind, TargetFinished, TargetValue, without_bulk},
    protocol::EventId,
    service::{
        StoreError,
        store::{FrameKind, Log, RunRecord},
    },
};

/// How many bytes of results are in one part of a report at most, but one result at least.
const MOST_BYTES: usize = 4 << 20;

/// The most of the end of each stream that a report has of a target.
pub(crate) const LONGEST_TAIL: usize = 64 << 10;

/// How the targets of a run ended, in the order of their ends.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RunResults {
    #[schema(value_type = Vec<Object>)]
    pub(crate) targets: Vec<TargetFinished>,
    /// The position to go on from.
    pub(crate) next: u64,
    /// Whether no more comes: the run has ended, and all was told.
    pub(crate) complete: bool,
}

impl Engine {
    /// How far a run is, or how it ended.
    pub(crate) fn run_counts(&self, record: &RunRecord) -> RunCounts {
        self.going_run(record.id).map_or_else(|| counts_of(record), |run| run.counts())
    }

    /// How targets of a run ended, from a position on, as many as are asked for. Of the output of a command its end is told, so
    /// many bytes of each stream.
    pub(crate) async fn run_results(
        &self,
        id: EventId,
        from: u64,
        most: usize,
        tail: usize,
    ) -> Result<RunResults, EngineError> {
        let log = self.run_log(id)?;
        let reader = Arc::clone(&log);
        let read = self.runtime.spawn_blocking(move || read_results(&reader, from, most, tail.min(LONGEST_TAIL))).await;
        match read.map_err(|error| StoreError::Database(error.to_string()))? {
            Ok((targets, next)) => Ok(RunResults { targets, next, complete: log.is_over(next) }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(EngineError::Invalid(error.to_string())),
            Err(error) => Err(StoreError::Database(format!("the log of {id}: {error}")).into()),
        }
    }
}

fn read_results(log: &Log, from: u64, most: usize, tail: usize) -> io::Result<(Vec<TargetFinished>, u64)> {
    let (mut targets, mut next, mut bytes) = (Vec::new(), from, 0);
    let end = log.end();
    if from > end {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{from} is no position of this report")));
    }
    log.scan(from, end, |frame| {
        if frame.kind == FrameKind::Result {
            if targets.len() == most || (bytes > 0 && bytes > MOST_BYTES) {
                return Ok(false);
            }
            let event: RunEvent = serde_json::from_slice(&frame.payload()?)?;
            if let RunEventKind::TargetFinished(target) = event.kind {
                let target = shortened(*target, tail);
                bytes += size(&target);
                targets.push(target);
            }
        }
        next = frame.end;
        Ok(true)
    })?;
    Ok((targets, next))
}

fn shortened(mut target: TargetFinished, tail: usize) -> TargetFinished {
    let Some(TargetValue::Command(result)) = &mut target.value else { return without_bulk(target) };
    for stream in [&mut result.stdout, &mut result.stderr] {
        let begin = stream.ceil_char_boundary(stream.len().saturating_sub(tail));
        if begin > 0 {
            stream.drain(..begin);
            result.truncated = true;
        }
    }
    target
}

fn size(target: &TargetFinished) -> usize {
    let text = match &target.value {
        Some(TargetValue::Command(result)) => result.command.len() + result.stdout.len() + result.stderr.len(),
        Some(TargetValue::Changes(changes)) => changes.len() * 128,
        _ => 0,
    };
    text + 512
}
