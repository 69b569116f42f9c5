use bytes::Bytes;

use super::{Engine, RunFollowed};
use crate::{
    Failure, Operation, WorkspaceError,
    fleet::{RunEvent, RunEventKind, TargetValue},
    service::store::FrameKind,
};

/// The most bytes of one event. The output of commands is bounded by itself; lists of files and comparisons are not.
const MOST_OF_AN_EVENT: usize = 16 << 20;

impl Engine {
    /// Adds an event to the log of its run.
    pub(super) async fn keep_event(&self, run: &RunFollowed, event: RunEvent) -> bool {
        let kind = match &event.kind {
            RunEventKind::TargetFinished(_) => FrameKind::Result,
            // The log is full: from here on it has what happened, and what commands wrote where their results have it.
            RunEventKind::Output { .. } if run.log().end() >= self.limits.log => return true,
            _ => FrameKind::Event,
        };
        let (event, json) = match encoded(event, MOST_OF_AN_EVENT) {
            Ok(encoded) => encoded,
            Err(reason) => {
                log::error!("an event of run {} is lost: {reason}", run.record().id);
                return true;
            }
        };
        let kept = self.append(run.log(), kind, json).await;
        if kept {
            run.note(&event);
        }
        kept
    }
}

/// An event as JSON. What came of a target is left out where that makes it too long, and the event says so.
fn encoded(mut event: RunEvent, most: usize) -> Result<(RunEvent, Bytes), String> {
    let json = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
    if json.len() <= most {
        return Ok((event, json.into()));
    }
    let length = json.len();
    drop(json);
    leave_value_out(&mut event, length, most);
    let json = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
    if json.len() > most {
        return Err(format!("it is {} bytes long, and {most} is the most", json.len()));
    }
    Ok((event, json.into()))
}

fn leave_value_out(event: &mut RunEvent, length: usize, most: usize) {
    let (workspace, value, error) = match &mut event.kind {
        RunEventKind::TargetFinished(ended) | RunEventKind::TargetRetried(ended) => {
            (&ended.target.workspace, &mut ended.value, &mut ended.error)
        }
        RunEventKind::StepFinished(ended) => (&ended.target.workspace, &mut ended.value, &mut ended.error),
        _ => return,
    };
    if let Some(value) = value.take() {
        *error = Some(too_long(workspace, &value, length, most));
    }
}

fn too_long(workspace: &str, value: &TargetValue, length: usize, most: usize) -> WorkspaceError {
    let operation = match value {
        TargetValue::Changes(_) => Operation::GitChanges,
        TargetValue::Diff(_) => Operation::GitDiff,
        TargetValue::Info(_) => Operation::GetServerInfo,
        TargetValue::File(_) => Operation::FileDownload,
        TargetValue::Command(_) => Operation::ExecuteCommand,
        TargetValue::Started(_) => Operation::StartCommand,
        TargetValue::Ended(_) => Operation::StopCommand,
        TargetValue::Alive(_) => Operation::Alive,
    };
    let reason = format!(
        "what came of it is left out: it is {length} bytes long, and an event of a run has {most} at most. Ask the workspace itself \
         for it"
    );
    Failure::protocol(reason).on(workspace, operation)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        Outcome,
        fleet::{TargetFinished, TargetId},
        protocol::{EventId, GitChange},
    };

    fn ended(changes: usize) -> RunEvent {
        let change = |number| serde_json::json!({ "status": "ADDED", "path": format!("file {number}") });
        let changes: Vec<GitChange> =
            (0..changes).map(|number| serde_json::from_value(change(number)).unwrap()).collect();
        let target = TargetFinished {
            target: TargetId::workspace("w"),
            outcome: Outcome::Succeeded,
            value: Some(TargetValue::Changes(changes)),
            error: None,
            duration: Duration::ZERO,
            attempt: 1,
        };
        let kind = RunEventKind::TargetFinished(Box::new(target));
        RunEvent { seq: 3, time: Timestamp::UNIX_EPOCH, run_id: EventId::nil(), trace: None, kind }
    }

    #[test]
    fn what_is_short_is_kept_as_it_is() {
        let (event, json) = encoded(ended(10), 4096).unwrap();
        assert_eq!(event, ended(10));
        assert_eq!(serde_json::from_slice::<RunEvent>(&json).unwrap(), ended(10));
    }

    #[test]
    fn what_is_too_long_says_that_it_is_left_out() {
        let (event, json) = encoded(ended(1000), 4096).unwrap();
        assert!(json.len() < 1024);
        let RunEventKind::TargetFinished(target) = event.kind else { panic!("{event:?}") };
        assert_eq!((target.outcome, target.value.is_none()), (Outcome::Succeeded, true));
        let error = target.error.unwrap().to_string();
        assert!(error.starts_with("w: git_changes: ") && error.contains("4096 at most"), "{error}");
    }

    #[test]
    fn what_cannot_be_shortened_is_refused() {
        let kind = RunEventKind::RunStarted { command: "x".repeat(5000), targets: 1, fanout: 1 };
        let refused = encoded(RunEvent { kind, ..ended(0) }, 4096).unwrap_err();
        assert!(refused.contains("4096 is the most"), "{refused}");
    }
}
