use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{
    CommandResult, FileOperationResult, WorkspaceError,
    protocol::{EventId, GitChange, GitDiff, ServerInfo},
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
    },
    /// A command was started on a target.
    TargetStarted {
        /// The target.
        workspace: String,
        /// The id that its server gave the command.
        command_id: EventId,
        /// 1 for the first try.
        attempt: u32,
    },
    /// A target wrote output; only when the run streams.
    Output {
        /// The target.
        workspace: String,
        /// Which of its streams.
        stream: OutputStream,
        /// The new text.
        text: String,
    },
    /// A target ended, in whatever way. Each target ends exactly once.
    TargetFinished(Box<TargetFinished>),
    /// The run ended; always the last event.
    RunFinished(RunSummary),
}

/// How one target ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetFinished {
    /// The target.
    pub workspace: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it, where something did.
    pub value: Option<TargetValue>,
    /// Why there is none.
    pub error: Option<WorkspaceError>,
    /// From the target's turn to its end.
    #[serde(with = "millis", rename = "duration_ms")]
    pub duration: Duration,
    /// 1 for the first try.
    pub attempt: u32,
}

/// What an operation gives on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetValue {
    /// Of a command.
    Command(CommandResult),
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
