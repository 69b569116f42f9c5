//! Forms of the library's own types, for the description of the API alone. Nothing is ever made of them.
#![allow(dead_code, reason = "only their forms are used")]

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Why something did not work on a workspace. There is more in it, by its kind.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkspaceError)]
pub(crate) struct WorkspaceErrorSchema {
    /// The workspace's name.
    workspace: String,
    /// What was attempted.
    operation: String,
    /// What is known of its effect: `not_sent`, `maybe_sent` or `done`.
    effect: String,
    /// Why it failed, such as `unreachable`, `deadline` or `outcome_unknown`.
    kind: String,
}

/// A command as it was started, without its secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = CommandText)]
pub(crate) struct CommandTextSchema {
    /// The text for the sandbox's `/bin/sh`.
    command: String,
    /// The directory to run in.
    cwd: Option<String>,
    /// How long it may take, in milliseconds; null for as long as it likes.
    timeout_ms: Option<u64>,
    /// Variables of its environment.
    env: BTreeMap<String, String>,
}

/// How a command ended. Its output is read by itself.
#[derive(Serialize, ToSchema)]
#[schema(as = CommandResult)]
pub(crate) struct CommandResultSchema {
    /// The command.
    command: String,
    /// Its exit code; -1 when it ran out of time, -N when signal N ended it.
    exit_code: i32,
    /// Whether its time was up.
    timeout_occurred: bool,
    /// Whether somebody stopped it.
    stopped: bool,
    /// The exit code that its server reported.
    raw_exit_code: Option<i32>,
    /// The id that its server gave it.
    command_id: String,
    /// How long it ran, in milliseconds.
    duration_ms: u64,
    /// How many bytes it wrote to its standard output.
    stdout_bytes: u64,
    /// How many bytes it wrote to its standard error.
    stderr_bytes: u64,
}

/// Picks workspaces. Several conditions must all hold; none picks all.
#[derive(Serialize, ToSchema)]
#[schema(as = Selector)]
pub(crate) struct SelectorSchema {
    /// Workspaces of these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
    /// Workspaces with all of these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
}

/// How a transfer ended.
#[derive(Serialize, ToSchema)]
#[schema(as = FileOperationResult)]
pub(crate) struct FileResultSchema {
    /// Whether the whole file arrived.
    success: bool,
    /// Where it came from.
    source_path: String,
    /// Where it was written.
    destination_path: String,
    /// Its size in bytes.
    file_size: Option<u64>,
    /// Its SHA-256, where that was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// A file that differs.
#[derive(Serialize, ToSchema)]
#[schema(as = GitChange)]
pub(crate) struct GitChangeSchema {
    /// `ADDED`, `UPDATED`, `DELETED` or `MOVED`.
    status: String,
    /// Its path, relative to the directory that was asked about.
    path: String,
}

/// A file and what it is compared with.
#[derive(Serialize, ToSchema)]
#[schema(as = GitDiff)]
pub(crate) struct GitDiffSchema {
    /// The content now; empty for a deleted or binary file.
    modified: Option<String>,
    /// The content it is compared with; null for a new file.
    original: Option<String>,
}

/// A commit.
#[derive(Serialize, ToSchema)]
#[schema(as = GitCommit)]
pub(crate) struct GitCommitSchema {
    /// The full object name.
    sha: String,
    /// The abbreviated object name.
    short_sha: String,
    /// The first line of the message.
    subject: String,
    /// Who wrote it.
    author: String,
    /// When it was made (RFC 3339).
    timestamp: String,
}

/// Commits, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = GitCommitPage)]
pub(crate) struct GitCommitPageSchema {
    /// The commits.
    commits: Vec<GitCommitSchema>,
    /// Whether older ones were left out by the limit.
    has_more: bool,
}

/// How the server of a workspace does.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthSchema {
    /// `connecting`, `ready`, `degraded`, `unreachable`, `gone` or `stopped`.
    state: String,
    /// Since when it has been in this state (RFC 3339).
    since: String,
    /// Why, where the state is not a good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Requests in a row that failed.
    failures: u32,
    /// When the server is asked next on purpose, while it is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe: Option<String>,
}

/// What is counted on a workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub(crate) struct SnapshotSchema {
    /// The workspace's name.
    name: String,
    /// Steps being carried out.
    running_steps: u64,
    /// Steps waiting for their turn.
    waiting_steps: u64,
    /// Commands being watched.
    running_commands: u64,
    /// Commands started so far.
    commands_started: u64,
    /// Commands that have ended so far.
    commands_finished: u64,
    /// Searches for output so far.
    polls: u64,
    /// Bytes of output read so far.
    output_bytes: u64,
    /// How often its actor was started again after a panic.
    restarts: u64,
    /// How its server does.
    health: HealthSchema,
    /// Whether it holds a client, and so perhaps open connections.
    connected: bool,
}

/// What the server of a workspace tells of itself. It may tell more.
#[derive(Serialize, ToSchema)]
#[schema(as = ServerInfo)]
pub(crate) struct ServerInfoSchema {
    /// Seconds since it started.
    uptime: f64,
    /// Seconds since the last request that counts as use.
    idle_time: f64,
    /// What it calls itself.
    title: String,
    /// Its version.
    version: String,
}

/// How a server does.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthState)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStateSchema {
    /// Nothing has been heard of it yet.
    Connecting,
    /// It answers.
    Ready,
    /// It answers, but with server errors only.
    Degraded,
    /// It has not answered several times in a row.
    Unreachable,
    /// The sandbox no longer exists, or another one is behind its address.
    Gone,
    /// The workspace has ended.
    Stopped,
}

/// How far a command is.
#[derive(Serialize, ToSchema)]
#[schema(as = CommandState)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandStateSchema {
    /// Written down; whether its server has started it is not known yet.
    Starting,
    /// Its server has started it.
    Running,
    /// It has ended, or nobody can tell.
    Finished,
}

/// How something ended.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeSchema {
    /// The command exited with 0.
    Succeeded,
    /// It exited with another code.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Somebody stopped it.
    Stopped,
    /// There was no usable connection to the workspace.
    Unreachable,
    /// The session key is not accepted.
    Unauthorized,
    /// The sandbox no longer exists or was replaced.
    Gone,
    /// The request was refused.
    Rejected,
    /// The server failed.
    ServerError,
    /// The server does not speak the agent-server API as it should.
    ProtocolError,
    /// The command may have run and nobody can tell.
    OutcomeUnknown,
    /// It was never its turn.
    Skipped,
}
