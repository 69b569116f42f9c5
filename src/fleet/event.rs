use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CancelReason, Outcome};
use crate::{
    CommandResult, FileOperationResult, WorkspaceError,
    protocol::{EventId, GitChange, GitDiff, ServerInfo, Trace},
    workspace::{OutputStream, millis},
};

/// One thing that happened in a run, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Counts the events of the run from 0, without a gap.
    pub seq: u64,
    /// When it happened, by this machine's clock.
    pub time: Timestamp,
    /// The run.
    pub run_id: EventId,
    /// What the run belongs to, where it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<Trace>>,
    /// What happened.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunEventKind {
    /// The run began; always the first event.
    RunStarted {
        /// The command, or the operation in words.
        command: String,
        /// How many targets it has.
        targets: usize,
        /// How many of them run at once.
        fanout: usize,
    },
    /// Jobs were added while the run goes on.
    TargetsAdded {
        /// How many.
        targets: usize,
    },
    /// It is a target's turn.
    TargetBegan {
        /// The target.
        #[serde(flatten)]
        target: TargetId,
        /// 1 for the first try.
        attempt: u32,
    },
    /// A command was started on a target.
    TargetStarted {
        /// The target.
        #[serde(flatten)]
        target: TargetId,
        /// The id that its server gave the command.
        command_id: EventId,
        /// 1 for the first try.
        attempt: u32,
        /// The place of its step among the job's steps, from 0; the `finally` steps are counted on.
        #[serde(default)]
        step: usize,
    },
    /// A target wrote output; only when the run streams.
    Output {
        /// The target.
        #[serde(flatten)]
        target: TargetId,
        /// Which of its streams.
        stream: OutputStream,
        /// The new text.
        text: String,
    },
    /// A target has been running for long; said once an attempt.
    TargetSlow {
        /// The target.
        #[serde(flatten)]
        target: TargetId,
        /// For how long.
        #[serde(with = "millis", rename = "running_for_ms")]
        running_for: Duration,
    },
    /// A step of a job ended; only of jobs with more than one step.
    StepFinished(Box<StepFinished>),
    /// An attempt at a target failed, and it will be carried out again.
    TargetRetried(Box<TargetFinished>),
    /// A target ended, in whatever way. Each target ends exactly once.
    TargetFinished(Box<TargetFinished>),
    /// The run ends early: nothing begins any more.
    RunCancelled {
        /// Why.
        reason: CancelReason,
    },
    /// The run ended; always the last event.
    RunFinished(RunSummary),
}

/// Which target of a run: the workspace, and in a run of jobs the job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetId {
    /// The workspace's name; empty for a job that has none yet.
    pub workspace: Arc<str>,
    /// The job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Arc<str>>,
}

impl TargetId {
    /// The target that is a workspace.
    #[must_use]
    pub fn workspace(name: impl Into<Arc<str>>) -> Self {
        Self { workspace: name.into(), job: None }
    }

    /// What people call it: the job, or the workspace.
    #[must_use]
    pub fn label(&self) -> &str {
        self.job.as_deref().unwrap_or(&self.workspace)
    }
}

/// How one target ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetFinished {
    /// The target.
    #[serde(flatten)]
    pub target: TargetId,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it, where something did: of the step that decided the outcome.
    pub value: Option<TargetValue>,
    /// Why there is none.
    pub error: Option<WorkspaceError>,
    /// From the target's turn to its end; of this attempt.
    #[serde(with = "millis", rename = "duration_ms")]
    pub duration: Duration,
    /// 1 for the first try, 0 for a target that never had its turn.
    pub attempt: u32,
}

/// How one step of a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFinished {
    /// The target.
    #[serde(flatten)]
    pub target: TargetId,
    /// The step's name, or its operation in words.
    pub step: String,
    /// Its place among the job's steps, from 0; the `finally` steps are counted on.
    pub index: usize,
    /// Whether it is a `finally` step.
    pub finally: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it, where something did.
    pub value: Option<TargetValue>,
    /// Why there is none.
    pub error: Option<WorkspaceError>,
    /// How long it took.
    #[serde(with = "millis", rename = "duration_ms")]
    pub duration: Duration,
    /// 1 for the first try of the job.
    pub attempt: u32,
}

/// What an operation gives on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetValue {
    /// Of a command.
    Command(CommandResult),
    /// Of a command that was started and left running: its id.
    Started(EventId),
    /// Of a command that was ended: its id.
    Ended(EventId),
    /// Of an upload or a download.
    File(FileOperationResult),
    /// Of a query for changed files.
    Changes(Vec<GitChange>),
    /// Of a comparison.
    Diff(GitDiff),
    /// Of a ping: the round trip.
    #[serde(with = "millis_f64")]
    Alive(Duration),
    /// Of a query for what the server is.
    Info(Box<ServerInfo>),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// How many targets it had.
    pub total: usize,
    /// How many ended in which way; adds up to `total`.
    pub outcomes: OutcomeCounts,
    /// How many of those that succeeded did so after a failed attempt.
    #[serde(default)]
    pub flaky: usize,
    /// Why the run ended early, if it did.
    #[serde(default)]
    pub cancelled: Option<CancelReason>,
    /// From the run's start to its end.
    #[serde(with = "millis", rename = "duration_ms")]
    pub duration: Duration,
}

/// A count for every outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutcomeCounts(std::collections::BTreeMap<Outcome, usize>);

impl OutcomeCounts {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    /// How many ended so.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> usize {
        self.0.get(&outcome).copied().unwrap_or_default()
    }

    /// All outcomes that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, usize)> {
        self.0.iter().map(|(outcome, count)| (*outcome, *count))
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

/// Durations as milliseconds with a fraction: round trips are short.
mod millis_f64 {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64() * 1e3)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)? / 1e3).map_err(D::Error::custom)
    }
}
