use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Snapshot, protocol::EventId, workspace::CommandEnd};

/// How a fleet does, as sums over its workspaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetStatus {
    /// Workspaces in the fleet.
    pub workspaces: usize,
    /// Those of them that take no further step: they are being drained or removed, or their actor panicked too often.
    pub stopped_workspaces: usize,
    /// Those of them that hold a client, and so perhaps open connections.
    pub connected_workspaces: usize,
    /// Steps being carried out.
    pub running_steps: usize,
    /// Steps waiting for their turn.
    pub waiting_steps: usize,
    /// Commands being watched.
    pub running_commands: usize,
    /// Runs that go on.
    pub running_runs: usize,
    /// Whether the fleet was drained or is being drained: it takes no workspace and no step.
    pub draining: bool,
    /// Whether the fleet has ended.
    pub ended: bool,
    /// What was counted since the fleet was started, removed workspaces included.
    pub totals: Totals,
}

/// What was counted on the workspaces of a fleet, those that were removed included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Commands started.
    pub commands_started: u64,
    /// Commands whose end was seen, or given up on.
    pub commands_finished: u64,
    /// Searches for output.
    pub polls: u64,
    /// Searches that failed.
    pub poll_failures: u64,
    /// Starts whose answer was lost and that were found again or sent again.
    pub starts_recovered: u64,
    /// Events of commands that servers pushed.
    pub pushed_events: u64,
    /// Bytes of output read.
    pub output_bytes: u64,
    /// Restarts of workspace actors after a panic.
    pub restarts: u64,
    /// Restarts of the watches of commands after a panic.
    pub command_restarts: u64,
}

impl Totals {
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        self.merge(&Self {
            commands_started: snapshot.commands_started,
            commands_finished: snapshot.commands_finished,
            polls: snapshot.polls,
            poll_failures: snapshot.poll_failures,
            starts_recovered: snapshot.starts_recovered,
            pushed_events: snapshot.pushed_events,
            output_bytes: snapshot.output_bytes,
            restarts: snapshot.restarts,
            command_restarts: snapshot.command_restarts,
        });
    }

    fn merge(&mut self, other: &Self) {
        self.commands_started += other.commands_started;
        self.commands_finished += other.commands_finished;
        self.polls += other.polls;
        self.poll_failures += other.poll_failures;
        self.starts_recovered += other.starts_recovered;
        self.pushed_events += other.pushed_events;
        self.output_bytes += other.output_bytes;
        self.restarts += other.restarts;
        self.command_restarts += other.command_restarts;
    }
}

impl FleetStatus {
    pub(super) fn add_workspace(&mut self, snapshot: &Snapshot) {
        self.workspaces += 1;
        self.stopped_workspaces += usize::from(snapshot.stopped.is_some());
        self.connected_workspaces += usize::from(snapshot.connected);
        self.running_steps += snapshot.running_steps;
        self.waiting_steps += snapshot.waiting_steps;
        self.running_commands += snapshot.running_commands;
        self.totals.add(snapshot);
    }

    /// Adds the sums of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        self.workspaces += other.workspaces;
        self.stopped_workspaces += other.stopped_workspaces;
        self.connected_workspaces += other.connected_workspaces;
        self.running_steps += other.running_steps;
        self.waiting_steps += other.waiting_steps;
        self.running_commands += other.running_commands;
        self.totals.merge(&other.totals);
    }
}

/// How a fleet is to be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drain {
    /// How long running commands and steps may take to end by themselves; the rest is stopped. Default: 30 s.
    #[serde(with = "crate::workspace::millis", rename = "finish_within_ms")]
    pub finish_within: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { finish_within: Duration::from_secs(30) }
    }
}

impl Drain {
    /// Lets what runs end by itself for so long.
    #[must_use]
    pub const fn within(finish_within: Duration) -> Self {
        Self { finish_within }
    }
}

/// What became of the work of a fleet that was drained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrainReport {
    /// The commands that ran when it began, or were being started.
    pub commands: Vec<DrainedCommand>,
    /// The steps that waited for their turn and were turned away.
    pub turned_away: usize,
    /// The steps, such as transfers, that were still being carried out in the end. They go on until the fleet ends.
    pub unfinished_steps: usize,
    /// How long it took.
    #[serde(with = "crate::workspace::millis", rename = "duration_ms")]
    pub duration: Duration,
}

/// A command that was running when its fleet was drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedCommand {
    /// The workspace's name.
    pub workspace: String,
    /// The id that the server gave the command.
    pub command_id: EventId,
    /// How it ended.
    pub end: DrainEnd,
}

/// How a command ended whose fleet was drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainEnd {
    /// It ended by itself, or its time was up.
    Finished,
    /// It was stopped.
    Stopped,
    /// Nobody can tell; it may run on.
    Unknown,
}

impl From<CommandEnd> for DrainEnd {
    fn from(end: CommandEnd) -> Self {
        match end {
            CommandEnd::Finished => Self::Finished,
            CommandEnd::Stopped => Self::Stopped,
            CommandEnd::Unknown => Self::Unknown,
        }
    }
}

impl DrainReport {
    /// How many commands ended so.
    #[must_use]
    pub fn count(&self, end: DrainEnd) -> usize {
        self.commands.iter().filter(|command| command.end == end).count()
    }
}
