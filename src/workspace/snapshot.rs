use serde::{Deserialize, Serialize};

use super::Health;

/// How a workspace does, for tests and for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The workspace's name.
    pub name: String,
    /// Steps being carried out.
    pub running_steps: usize,
    /// Steps waiting for their turn.
    pub waiting_steps: usize,
    /// Commands being watched.
    pub running_commands: usize,
    /// Commands started so far.
    pub commands_started: u64,
    /// Commands whose end was seen, or given up on, so far.
    pub commands_finished: u64,
    /// Searches for output so far.
    pub polls: u64,
    /// Searches that failed so far.
    pub poll_failures: u64,
    /// Starts whose answer was lost and that were found again or sent again.
    pub starts_recovered: u64,
    /// Bytes of output read from its server so far, kept or not.
    #[serde(default)]
    pub output_bytes: u64,
    /// How often its actor was started again after a panic.
    #[serde(default)]
    pub restarts: u64,
    /// How often the watch of one of its commands was started again after a panic.
    #[serde(default)]
    pub command_restarts: u64,
    /// What was said of the last panic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Why it takes no further step, when it takes none: it is being drained or removed, or its actor panicked too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Requests that were sent so far only to keep the sandbox from being reaped as idle.
    pub keepalives: u64,
    /// Events of its commands that its server pushed so far.
    #[serde(default)]
    pub pushed_events: u64,
    /// How often a request was sent again that had failed and does no harm when it is carried out twice.
    #[serde(default)]
    pub retries: u64,
    /// Whether its server pushes output now: the event socket is open.
    #[serde(default)]
    pub pushed: bool,
    /// How its server does.
    pub health: Health,
    /// Whether it holds a client, and so perhaps open connections.
    pub connected: bool,
}
