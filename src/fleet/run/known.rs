use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    messages::{AttachCommand, OnDrop, StopCommand, waits_for_a_command},
    protocol::EventId,
};

/// Commands that were started before, one on each workspace: the ids that their servers gave them, by the workspace's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnownCommands(Arc<BTreeMap<String, EventId>>);

impl KnownCommands {
    /// The command of this workspace.
    #[must_use]
    pub fn of(&self, workspace: &str) -> Option<EventId> {
        self.0.get(workspace).copied()
    }
}

impl FromIterator<(String, EventId)> for KnownCommands {
    fn from_iter<T: IntoIterator<Item = (String, EventId)>>(commands: T) -> Self {
        Self(Arc::new(commands.into_iter().collect()))
    }
}

/// Follows a command on each workspace that was started before, as [`AttachCommand`] does on one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachKnown {
    /// Which command on which workspace. A target that has none is rejected.
    pub commands: KnownCommands,
    /// From which byte of its standard output on each is followed. Default: 0, all of it.
    #[serde(default)]
    pub stdout_from: u64,
    /// From which byte of its standard error on. Default: 0, all of it.
    #[serde(default)]
    pub stderr_from: u64,
    /// How many bytes of each stream are kept, the first half and the last half of them. Default: 256 MiB.
    #[serde(default = "default_max_output")]
    pub max_output: usize,
    /// What happens to the commands when the run is cancelled or nobody waits for it any more. Default: they run on.
    #[serde(default = "runs_on")]
    pub on_drop: OnDrop,
}

const fn default_max_output() -> usize {
    AttachCommand::new(EventId::nil()).max_output
}

const fn runs_on() -> OnDrop {
    OnDrop::Detach
}

impl AttachKnown {
    /// Follows these commands from their beginning; they run on when nobody waits for them any more.
    #[must_use]
    pub const fn new(commands: KnownCommands) -> Self {
        Self { commands, stdout_from: 0, stderr_from: 0, max_output: default_max_output(), on_drop: runs_on() }
    }

    /// Leaves out the output before these bytes of the two streams of each command.
    #[must_use]
    pub const fn from_position(mut self, stdout: u64, stderr: u64) -> Self {
        (self.stdout_from, self.stderr_from) = (stdout, stderr);
        self
    }

    /// What is asked of this workspace.
    pub(super) fn of(&self, workspace: &str) -> Option<AttachCommand> {
        let attach = AttachCommand::new(self.commands.of(workspace)?);
        let attach = attach.from_position(self.stdout_from, self.stderr_from);
        Some(attach.with_max_output(self.max_output).with_on_drop(self.on_drop))
    }
}

waits_for_a_command!(AttachKnown);

/// Ends a command on each workspace, as [`StopCommand`] does on one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StopKnown {
    /// Which command on which workspace. A target that has none is rejected.
    pub commands: KnownCommands,
}

impl StopKnown {
    /// Ends these commands.
    #[must_use]
    pub const fn new(commands: KnownCommands) -> Self {
        Self { commands }
    }

    /// What is asked of this workspace.
    pub(super) fn of(&self, workspace: &str) -> Option<StopCommand> {
        self.commands.of(workspace).map(|command_id| StopCommand { command_id })
    }
}
