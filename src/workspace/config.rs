use std::{collections::BTreeMap, time::Duration};

use crate::client::{ClientLimits, Connection};

/// Everything that makes a workspace: its name, how its server is reached, and its settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkspaceConfig {
    /// The name, unique within a fleet.
    pub name: String,
    /// How its agent server is reached.
    pub connection: Connection,
    /// Labels to select it by.
    pub labels: BTreeMap<String, String>,
    /// The directory to which git paths are joined when they are relative; `working_dir` of the Python class.
    /// Default: none, and relative git paths are refused.
    pub working_dir: Option<String>,
    /// The directory in which commands run that name none. Default: none, and the server chooses.
    pub default_cwd: Option<String>,
    /// Bounds of its requests.
    pub limits: ClientLimits,
    /// How many steps are carried out at once. Default: 1, which keeps them in order.
    pub max_concurrent_steps: usize,
    /// How many steps may wait before [`Overloaded`](crate::ErrorKind::Overloaded) is answered. Default: 1024.
    pub max_queued_steps: usize,
    /// How long a step may wait for its turn. Default: 10 minutes.
    pub max_queue_wait: Duration,
    /// How long a running command is watched although its server does not answer. Default: 60 s.
    pub max_outage: Duration,
    /// Whether commands carry the head by which a lost start is recovered and processes are found. Default: true.
    /// Without it a lost start is [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), and a stop reaches what the
    /// server's own stop route reaches.
    pub command_head: bool,
}

impl WorkspaceConfig {
    /// A workspace of this name behind this connection, all else at its default.
    #[must_use]
    pub fn new(name: impl Into<String>, connection: Connection) -> Self {
        Self {
            name: name.into(),
            connection,
            labels: BTreeMap::new(),
            working_dir: None,
            default_cwd: None,
            limits: ClientLimits::default(),
            max_concurrent_steps: 1,
            max_queued_steps: 1024,
            max_queue_wait: Duration::from_secs(600),
            max_outage: Duration::from_secs(60),
            command_head: true,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Sets the directory to which relative git paths are joined.
    #[must_use]
    pub fn with_working_dir(mut self, directory: impl Into<String>) -> Self {
        self.working_dir = Some(directory.into());
        self
    }

    /// Sets the directory in which commands run that name none.
    #[must_use]
    pub fn with_default_cwd(mut self, directory: impl Into<String>) -> Self {
        self.default_cwd = Some(directory.into());
        self
    }

    /// Sets how many steps are carried out at once. More than 1 gives up their order.
    #[must_use]
    pub const fn with_max_concurrent_steps(mut self, steps: usize) -> Self {
        self.max_concurrent_steps = steps;
        self
    }

    /// Sets how many steps may wait.
    #[must_use]
    pub const fn with_max_queued_steps(mut self, steps: usize) -> Self {
        self.max_queued_steps = steps;
        self
    }

    /// Sets how long a step may wait for its turn.
    #[must_use]
    pub const fn with_max_queue_wait(mut self, wait: Duration) -> Self {
        self.max_queue_wait = wait;
        self
    }

    /// Sets how long a running command is watched although its server does not answer.
    #[must_use]
    pub const fn with_max_outage(mut self, outage: Duration) -> Self {
        self.max_outage = outage;
        self
    }

    /// Sets whether commands carry the head by which a lost start is recovered and processes are found.
    #[must_use]
    pub const fn with_command_head(mut self, command_head: bool) -> Self {
        self.command_head = command_head;
        self
    }

    /// Sets the bounds of the requests.
    #[must_use]
    pub const fn with_limits(mut self, limits: ClientLimits) -> Self {
        self.limits = limits;
        self
    }
}
